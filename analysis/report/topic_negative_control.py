"""A negative-control outcome, with which LV mass should have nothing to do."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from analysis.outcome_models import contrasts_of, estimates, models_of
from analysis.report.aggregates import Aggregate, label, result, results
from analysis.report.document import About, ReadTable, Section
from analysis.report.masking import Masked
from analysis.report.study_data import StudyData
from analysis.report.topic_hazard_ratios import HAZARD_RATIO
from analysis.report.words import MODEL_WORDS, estimate_texts, side_by_side


def aggregates(data: StudyData) -> list[Aggregate]:
    """Return the hazard ratios of the negative control, or nothing where the study has none."""
    control = data.study.negative_control
    if control is None:
        return []
    contrasts = contrasts_of(data.study, data.sd, data.about.exposure_unit)
    found = estimates(data.analysed(control.name), data.study, contrasts, models_of(data.study))
    known = {"outcome": control.name, "primary": False}
    rows = [result("negative_control", HAZARD_RATIO, **known, **row) for row in found]
    name = pd.DataFrame({"outcome": [control.name], "words": [control.words]})
    columns = (label("outcome", "of the code list"), label("words", "the outcome in words"))
    return [results("negative_control", rows), Aggregate("negative_control", name, columns)]


def present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return the table, or None without a negative control."""
    found, name = masked.get("results_negative_control"), masked.get("negative_control")
    if found is None or name is None:
        return None
    words = str(name.rows["words"].iloc[0])
    rows = found.rows.assign(
        text=estimate_texts(found), Contrast=found.rows["contrast"],
        People=found.shown("n_people"), Events=found.shown("n_events"),
        model_name=found.rows["model"].map(MODEL_WORDS),
    )  # fmt: skip
    cells = side_by_side(rows, by=["Contrast", "People", "Events"], over="model_name",
                         values=["text"])  # fmt: skip
    table = ReadTable("negative_control", f"Hazard ratios of {words} (negative control)", cells)
    paragraph = (
        f"LV mass should have nothing to do with {words}. A hazard ratio away from 1 points to "
        "confounding or to a bias of selection or recording that the other outcomes share."
    )
    return Section("negative_control", "Negative control", (paragraph,), (table,))
