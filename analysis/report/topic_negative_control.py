"""A negative-control outcome, with which LV mass should have nothing to do."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from analysis.outcome_estimates import estimates
from analysis.outcome_models import contrasts_of, models_of
from analysis.report.aggregates import Aggregate, label, result, results
from analysis.report.document import About, ReadTable, Section
from analysis.report.masking import Masked
from analysis.report.study_data import StudyData
from analysis.report.subgroups import HAZARD_RATIO
from analysis.report.words import MODEL_WORDS, estimate_texts, row_counts, row_labels, side_by_side


def aggregates(data: StudyData) -> list[Aggregate]:
    """Return the hazard ratios of the negative control, or nothing where the study has none."""
    control = data.study.negative_control
    if control is None:
        return []
    rows = []
    for part in data.by_prediction_model():
        contrasts = contrasts_of(part.study, part.sd, part.about.exposure_unit)
        found = estimates(part.analysed(control.name), part.study, contrasts, models_of(part.study))
        known = part.keys(control.name)
        rows += [result("negative_control", HAZARD_RATIO, **row, **known) for row in found]
    name = pd.DataFrame({"outcome": [control.name], "words": [control.words]})
    columns = (label("outcome", "of the code list"), label("words", "the outcome in words"))
    return [results("negative_control", rows), Aggregate("negative_control", name, columns)]


def present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return the table, or None without a negative control."""
    found, name = masked.get("results_negative_control"), masked.get("negative_control")
    if found is None or name is None:
        return None
    words = str(name.rows["words"].iloc[0])
    labels = [label for label in row_labels(found, about) if label != "Outcome"]
    counts = row_counts(found, about)
    rows = found.rows.assign(
        **row_labels(found, about),
        **counts,
        Contrast=found.rows["contrast"],
        text=estimate_texts(found),
        model_name=found.rows["model"].map(MODEL_WORDS),
    )
    cells = side_by_side(rows, by=[*labels, "Contrast", *counts], over="model_name", values=["text"])
    table = ReadTable("negative_control", f"Hazard ratios of {words} (negative control)", cells, len(labels) + 1)
    paragraph = (
        f"LV mass should have nothing to do with {words}. A hazard ratio away from 1 points to "
        "confounding or to a bias of selection or recording that the other outcomes share."
    )
    return Section("negative_control", "Negative control", (paragraph,), (table,))
