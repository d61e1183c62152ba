"""Against CMR: agreement of predicted and measured LV mass, LVH, and the paper beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.report import meanings, meanings_cmr
from analysis.report.aggregates import Aggregate, results
from analysis.report.counts import Count
from analysis.report.document import About, ReadFigure, ReadTable, Section
from analysis.report.figures_cmr import (
    bland_altman,
    bland_altman_alt,
    predicted_measured,
    predicted_measured_alt,
    roc,
    roc_alt,
)
from analysis.report.masking import Masked
from analysis.report.study_data import StudyData
from analysis.report.topic_cmr_agreement import INDEX, MASS, agreement_rows, agreement_tables, estimate_of
from analysis.report.topic_cmr_body_size import body_size_rows, body_size_tables
from analysis.report.topic_cmr_discrimination import AGAINST_CORNELL, AUROC, discrimination
from analysis.report.topic_cmr_drawn import BLAND_ALTMAN, PREDICTED_MEASURED, hexagons, roc_aggregate
from analysis.report.topic_cmr_lvh import ALL_PAIRS, ALL_THREE, lvh_counts
from analysis.report.topic_cmr_lvh_tables import lvh_tables, paper_table
from analysis.report.topic_cmr_pairs import BEFORE, Group, cmr_pairs, flow_aggregate, groups_of, main_pairs, people_of

FEW_WITH_LVH: Final = 100
NO_RULES: Final = "The three ECG rules are not measured in these pairs: there is no comparison with them."


def aggregates(data: StudyData) -> list[Aggregate]:
    """Return counts, estimates, bins and curves of the pairs; [] without CMR."""
    if data.cmr is None or data.study.cmr is None:
        return []
    pairs = cmr_pairs(data)
    groups, main = groups_of(data, pairs), main_pairs(data, pairs)
    return [
        flow_aggregate(data, pairs),
        lvh_counts(data, groups),
        hexagons(data, main),
        roc_aggregate(data, main),
        _results(data, groups),
    ]


def _results(data: StudyData, groups: Sequence[Group]) -> Aggregate:
    rows = agreement_rows(data, groups) + body_size_rows(data, groups)
    found = discrimination(data, groups)
    coarse = pd.DataFrame([{}] * len(rows) + [one.shown for one in found], dtype=object)
    rows += [one.row for one in found]
    people = [_people(row) for row in rows]
    described = [
        meanings.Analysed(who, (row["adjustment"],) if row["adjustment"] else (), end="")
        for who, row in zip(people, rows, strict=True)
    ]
    with_lvh = [
        meanings_cmr.with_lvh(who) if row["n_events"] is not None else None
        for who, row in zip(people, rows, strict=True)
    ]
    counts = meanings.results(described, one_ecg_each=True) | {"n_events": with_lvh}
    return replace(results("cmr", rows, counts), coarse=coarse)


def _people(row: Mapping[str, Any]) -> Count:
    """Whom a row is about."""
    strata, level = row["strata"], row["level"]
    if row["contrast"] in (MASS, INDEX):
        who = people_of(strata, level)
        return who.complete("index of mass") if row["contrast"] == INDEX else who
    if row["adjustment"]:
        return people_of(strata, level)
    on_rules = strata.endswith(ALL_THREE)
    group = strata.removesuffix(ALL_THREE).removesuffix(", ") if on_rules else strata
    if row["measure"] == AUROC:
        # Of whom LVH by CMR and the marker are known, whatever else is.
        return people_of(group, level).complete("LVH by CMR", row["contrast"])
    who = people_of(group, level, labelled=True, with_rules=on_rules)
    is_known = row["contrast"] != AGAINST_CORNELL
    return who if is_known else who.complete(row["contrast"])


def present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return the section: pairs, the paper's figures beside ours, agreement, LVH, figures."""
    flow = masked.get("cmr_flow")
    if flow is None:
        return None
    counts, found = masked["cmr_lvh"], masked["results_cmr"]
    items: tuple[ReadTable | ReadFigure, ...] = (
        _flow_table(flow),
        paper_table(found),
        *agreement_tables(found),
        *_mass_figures(masked, about),
        *body_size_tables(found),
        *lvh_tables(counts, found),
        *_roc_figure(masked),
    )
    return Section("cmr", "Against CMR", _paragraphs(masked, about), items, _warnings(masked, about))


def _flow_table(flow: Masked) -> ReadTable:
    cells = pd.DataFrame({"People": flow.rows["step"], "Number": flow.shown("n_people")})
    cells["People"] = [text[0].upper() + text[1:] for text in cells["People"]]
    notes = (
        "The first row is the sum of the others. A usable ECG has a predicted mass and none "
        "of the quality flags that the study excludes.",
    )
    return ReadTable("cmr_flow", "People with CMR", cells, 1, notes)


def _paragraphs(masked: Mapping[str, Masked], about: About) -> tuple[str, ...]:
    rules = "" if _has_rules(masked) else f" {NO_RULES}"
    first = (
        "Results are of people whose first CMR is on or after the date that the study gives: those "
        "imaged before it may be of the training set, for whom predictions are too good. Both "
        'stand beside one another as groups of "First CMR".'
    )
    return (
        "Each person with CMR is paired with the ECG closest in time. LVH by CMR is a CMR mass, "
        "divided by the body surface area that the prediction uses, above the limit of the sex "
        f"({about.lvh_preset}); predicted LVH is the predicted index above the same limit, and not "
        f"the model's LVH score above 0.5.{rules}",
        *([first] if (masked["cmr_flow"].rows["step"] == BEFORE).any() else []),
    )


def _has_rules(masked: Mapping[str, Masked]) -> bool:
    return bool((masked["cmr_lvh"].rows["population"] == ALL_THREE).any())


def _warnings(masked: Mapping[str, Masked], about: About) -> tuple[str, ...]:
    told = []
    rows = masked["cmr_lvh"].rows
    everybody = rows[(rows["population"] == ALL_PAIRS) & (rows["strata"] == "")]
    if len(everybody):
        n_lvh = everybody["n_lvh"].iloc[0]
        if pd.isna(n_lvh):
            told.append("Against CMR: too few people with or without LVH by CMR to show them.")
        elif n_lvh < FEW_WITH_LVH:
            told.append(
                f"Against CMR: {n_lvh:,} people have LVH by CMR, fewer than {FEW_WITH_LVH}: "
                "sensitivity and c-statistics are uncertain."
            )
    else:
        told.append("Against CMR: no pair has LVH known by both prediction and CMR.")
    if not _has_rules(masked):
        told.append(f"Against CMR: {NO_RULES[0].lower()}{NO_RULES[1:]}")
    if about.exposure.startswith(("lvm_recal", "lvmi_recal")):
        told.append(
            "Against CMR: masses are recalibrated; among people whose CMR the recalibration was "
            "fitted to, agreement is too good. Show others."
        )
    return tuple(told)


def _value(found: Masked, measure: str) -> float:
    row = estimate_of(found, measure, MASS)
    return float("nan") if row is None else float(row["estimate"])


def _mass_figures(masked: Mapping[str, Masked], about: About) -> list[ReadFigure]:
    bins, found = masked["cmr_hexagons"].rows, masked["results_cmr"]
    note = (f"Hexagons of fewer than {max(about.k, 1)} people are not drawn; lines are fitted to everybody.",)
    made = []
    rows = bins[bins["figure"] == PREDICTED_MEASURED]
    if len(rows):
        words = "Recalibrated" if "recal" in about.exposure else "Predicted"
        intercept, slope = (_value(found, f"calibration_{n}") for n in ("intercept", "slope"))
        named = f"{words} LV mass, g"
        drawn = predicted_measured(rows, intercept=intercept, slope=slope, axis_name=named)
        alt = predicted_measured_alt(rows, intercept=intercept, slope=slope, axis_name=named)
        made.append(ReadFigure("cmr_mass", "Predicted and measured LV mass", alt, drawn, note))
    rows = bins[bins["figure"] == BLAND_ALTMAN]
    if len(rows):
        names = ("bias", "lower_limit_of_agreement", "upper_limit_of_agreement")
        bias, lower, upper = (_value(found, name) for name in names)
        drawn = bland_altman(rows, bias=bias, lower=lower, upper=upper)
        alt = bland_altman_alt(rows, bias=bias, lower=lower, upper=upper)
        made.append(ReadFigure("cmr_bland_altman", "Difference of predicted and measured LV mass", alt, drawn, note))
    return made


def _shares(rows: pd.DataFrame) -> pd.DataFrame:
    """Sensitivity and specificity of masked counts, missing where one is hidden."""
    parts = {}
    for name, part, whole in (("sensitivity", "tp", "n_lvh"), ("specificity", "tn", "n_no_lvh")):
        share = rows[part].astype("Float64") / rows[whole].astype("Float64")
        parts[name] = share.clip(0, 1).to_numpy(dtype=float, na_value=np.nan)
    return rows[["marker"]].assign(**parts)


def _roc_figure(masked: Mapping[str, Masked]) -> list[ReadFigure]:
    curves = _shares(masked["cmr_roc"].rows).dropna()
    # A curve of its two ends alone would be the diagonal.
    curves = curves[curves.groupby("marker")["marker"].transform("size") > 2]
    if not len(curves):
        return []
    rows = masked["cmr_lvh"].rows
    population = ALL_THREE if _has_rules(masked) else ALL_PAIRS
    points = _shares(rows[(rows["population"] == population) & (rows["strata"] == "")])
    k = max(masked["cmr_roc"].rule.k, 1)
    notes = (
        f"Curves move only when {k} or more people with and {k} or more without LVH by CMR have "
        "come; straight lines join these points. Yes/no markers are points, from the counts as "
        f"shown. People: {population}.",
    )
    return [ReadFigure("cmr_roc", "ROC of LVH by CMR", roc_alt(curves, points), roc(curves, points), notes)]
