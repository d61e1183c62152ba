"""Against CMR: agreement of predicted and measured LV mass, LVH, and the paper beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.disclosure.aggregates import Aggregate, count, label, results
from analysis.disclosure.counts import Count
from analysis.disclosure.masking import Masked
from analysis.disclosure.meanings import Analysed, of_results, roc_points, with_lvh
from analysis.report.document import ReadFigure, ReadTable, Section, Topic
from analysis.report.figures.cmr import bland_altman, predicted_measured, roc
from analysis.report.topics.cmr_agreement import (
    INDEX,
    MASS,
    agreement_rows,
    agreement_tables,
    body_size_rows,
    body_size_tables,
)
from analysis.report.topics.cmr_lvh import (
    AGAINST_CORNELL,
    ALL_NINE,
    ALL_PAIRS,
    ALL_THREE,
    AUROC,
    LABEL,
    RELATIVE_CORNELL,
    RELATIVE_INDEX,
    discrimination,
    lvh_counts,
    lvh_tables,
    paper_table,
)
from analysis.report.topics.cmr_pairs import (
    BEFORE,
    Group,
    cmr_pairs,
    estimate_of,
    flow_aggregate,
    groups_of,
    main_pairs,
    people_of,
    people_with_all_nine,
)
from analysis.report.topics.tables import aggregate
from analysis.report.words import sentence
from analysis.statistics.accuracy.roc import roc_curve
from analysis.study.data import About, StudyData

PREDICTED_MEASURED: Final = "predicted against measured"
BLAND_ALTMAN: Final = "difference against mean"
_WIDTHS_G: Final = (3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 16.0, 20.0)
_SHOWN_SHARE: Final = 0.85

Floats = NDArray[np.float64]


def hexagon_counts(x: Floats, y: Floats, width: float) -> pd.DataFrame:
    """Return how many points each regular hexagon holds; a point goes to its nearest centre.

    `width` is between two opposite upright sides, in the unit of `x` and `y`; a centre lies at the
    origin. Return x and y of the centres and n_people of the hexagons with a point, left to right.
    """
    height = width * np.sqrt(3)
    even = np.round(x / width) * width, np.round(y / height) * height
    odd = (np.floor(x / width) + 0.5) * width, (np.floor(y / height) + 0.5) * height
    nearer = (x - even[0]) ** 2 + (y - even[1]) ** 2 <= (x - odd[0]) ** 2 + (y - odd[1]) ** 2
    # Whole numbers of half widths and heights, so that one centre is one key.
    columns = np.rint(np.where(nearer, even[0], odd[0]) / (width / 2)).astype(int)
    rows = np.rint(np.where(nearer, even[1], odd[1]) / (height / 2)).astype(int)
    found = pd.DataFrame({"column": columns, "row": rows}).value_counts(sort=False).sort_index()
    places = found.index.to_frame(index=False)
    return pd.DataFrame(
        {"x": places["column"] * width / 2, "y": places["row"] * height / 2, "n_people": found.to_numpy()}
    )


def _hexagons(data: StudyData, pairs: pd.DataFrame) -> Aggregate:
    """Return the bins of predicted against measured mass, and of difference against mean.

    The width is the smallest of a few with which most people lie in bins that may be shown.
    """
    table = pairs[["mass_g", "mass_cmr_g"]].dropna()
    made, truth = (table[name].to_numpy(dtype=float) for name in table)
    drawn = {PREDICTED_MEASURED: (made, truth), BLAND_ALTMAN: ((made + truth) / 2, made - truth)}
    parts = [
        _fitting(x, y, data.study.release.k).assign(figure=figure) for figure, (x, y) in drawn.items() if len(table)
    ]
    columns = (
        label("figure", "which it is drawn in"),
        label("x_g", "centre of the hexagon, g"),
        label("y_g", "centre of the hexagon, g"),
        label("width_g", "of the hexagon between upright sides, g"),
        count("n_people", "people in it"),
    )
    return aggregate("cmr_hexagons", parts, columns, small="drop")


def _fitting(x: Floats, y: Floats, k: int) -> pd.DataFrame:
    bins = pd.DataFrame()
    for width in _WIDTHS_G:
        bins = hexagon_counts(x, y, width).assign(width_g=width)
        shown = bins.loc[bins["n_people"] >= k, "n_people"].sum()
        if shown >= _SHOWN_SHARE * len(x):
            break
    return bins.rename(columns={"x": "x_g", "y": "y_g"})


def roc_steps(table: pd.DataFrame, marker: str, step: int) -> pd.DataFrame:
    """Return a ROC curve as counts tp and fp, from nobody to everybody positive, thinned.

    `table` is complete in the marker (higher means LVH) and LVH by CMR, with people of both kinds.
    `step` is the fewest people with, and the fewest without LVH, between two points.
    """
    curve = roc_curve(table, label=LABEL, marker=marker)
    points = curve.points.iloc[::-1]
    tp = np.rint(points["sensitivity"].to_numpy() * curve.n_positive).astype(int)
    fp = np.rint((1 - points["specificity"].to_numpy()) * curve.n_negative).astype(int)
    kept = [(0, 0)]
    for one in zip(tp.tolist(), fp.tolist(), strict=True):
        if one[0] >= kept[-1][0] + step and one[1] >= kept[-1][1] + step:
            kept.append(one)
    last = (curve.n_positive, curve.n_negative)
    while len(kept) > 1 and (kept[-1][0] > last[0] - step or kept[-1][1] > last[1] - step):
        kept.pop()
    return pd.DataFrame([*kept, last], columns=["tp", "fp"])


def _roc_aggregate(data: StudyData, pairs: pd.DataFrame) -> Aggregate:
    """Return the ROC curves of the continuous markers; no points where there is one class only.

    Where anybody has all three ECG rules, curves are of such people, as the points of the rules
    are.
    """
    own = pairs[pairs["all_three"]] if pairs["all_three"].any() else pairs
    step = max(data.study.release.k, 1)
    rows: list[dict[str, Any]] = []
    for marker, words in (("relative_index", RELATIVE_INDEX), ("relative_cornell", RELATIVE_CORNELL)):
        table = own[[LABEL, marker]].dropna()
        n_lvh = int(table[LABEL].sum())
        if min(n_lvh, len(table) - n_lvh) > 0:
            known = {"marker": words, "n_lvh": n_lvh, "n_no_lvh": len(table) - n_lvh}
            for place, (tp, fp) in enumerate(roc_steps(table, marker, step).to_numpy().tolist()):
                rows.append(
                    known | {"place": place, "tp": tp, "fn": n_lvh - tp, "fp": fp, "tn": len(table) - n_lvh - fp}
                )
    columns = (
        label("marker", "continuous marker"),
        count("n_lvh", "people with LVH by CMR"),
        count("n_no_lvh", "people without"),
        label("place", "of the point along the curve"),
        count("tp", "with LVH and a marker at least as high"),
        count("fn", "with LVH and a lower one"),
        count("fp", "without LVH, with a marker at least as high"),
        count("tn", "without LVH, with a lower one"),
    )
    # The people are those of the paired test, too.
    who = [people_of("", "", labelled=True, with_rules=True).complete(row["marker"]) for row in rows]
    counts, related = roc_points(who)
    return aggregate("cmr_roc", rows, columns, lambda _: counts, related=related)


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
        _hexagons(data, main),
        _roc_aggregate(data, main),
        _results(data, groups),
    ]


def _results(data: StudyData, groups: Sequence[Group]) -> Aggregate:
    rows = agreement_rows(data, groups) + body_size_rows(data, groups)
    found = discrimination(data, groups)
    coarse = pd.DataFrame([{}] * len(rows) + [one.shown for one in found], dtype=object)
    rows += [one.row for one in found]
    pairs = [(_people(row), row) for row in rows]
    described = [Analysed(who, (row["adjustment"],) if row["adjustment"] else (), end="") for who, row in pairs]
    in_lvh = [with_lvh(who) if row["n_events"] is not None else None for who, row in pairs]
    counts = of_results(described, one_ecg_each=True) | {"n_events": in_lvh}
    return replace(results("cmr", rows, counts), coarse=coarse)


def _people(row: Mapping[str, Any]) -> Count:
    """The people whom a row of the results is about."""
    strata, level = row["strata"], row["level"]
    if row["contrast"] in (MASS, INDEX):
        who = people_of(strata, level)
        return who.complete("index of mass") if row["contrast"] == INDEX else who
    if row["adjustment"]:
        return people_of(strata, level)
    if strata == ALL_NINE:
        return people_with_all_nine()
    on_rules = strata.endswith(ALL_THREE)
    group = strata.removesuffix(ALL_THREE).removesuffix(", ") if on_rules else strata
    if row["measure"] == AUROC:
        # Only LVH by CMR and the marker have to be known of them.
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
    cells = pd.DataFrame({"People": flow.rows["step"].map(sentence), "Number": flow.shown("n_people")})
    notes = (
        "The first row is the sum of the others. A usable ECG has a predicted mass and none "
        "of the quality flags that the study excludes.",
    )
    return ReadTable("cmr_flow", "People with CMR", cells, 1, notes)


def _paragraphs(masked: Mapping[str, Masked], about: About) -> tuple[str, ...]:
    rules = "" if _has_rules(masked) else f" {NO_RULES}"
    first = (
        "Results are of people whose first CMR is on or after the date that the study gives: those "
        "imaged before it may be of the training set, and predictions are too good for them. Both "
        'are shown as groups of "First CMR".'
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
    texts = []
    rows = masked["cmr_lvh"].rows
    everybody = rows[(rows["population"] == ALL_PAIRS) & (rows["strata"] == "")]
    if len(everybody):
        n_lvh = everybody["n_lvh"].iloc[0]
        if pd.isna(n_lvh):
            texts.append("Against CMR: too few people with or without LVH by CMR to show them.")
        elif n_lvh < FEW_WITH_LVH:
            texts.append(
                f"Against CMR: {n_lvh:,} people have LVH by CMR, fewer than {FEW_WITH_LVH}: "
                "sensitivity and c-statistics are uncertain."
            )
    else:
        texts.append("Against CMR: no pair has LVH known by both prediction and CMR.")
    if not _has_rules(masked):
        texts.append(f"Against CMR: {NO_RULES[0].lower()}{NO_RULES[1:]}")
    if about.exposure.startswith(("lvm_recal", "lvmi_recal")):
        texts.append(
            "Against CMR: masses are recalibrated; among people whose CMR the recalibration was "
            "fitted to, agreement is too good. Show others."
        )
    return tuple(texts)


def _mass_figures(masked: Mapping[str, Masked], about: About) -> list[ReadFigure]:
    bins, found = masked["cmr_hexagons"].rows, masked["results_cmr"]
    fewer = f"Hexagons of fewer than {about.k} people are not drawn; lines are fitted to everybody."
    note = (fewer,) if about.k > 1 else ()

    def value(measure: str) -> float:
        row = estimate_of(found, measure, MASS)
        return float("nan") if row is None else float(row["estimate"])

    made = []
    rows = bins[bins["figure"] == PREDICTED_MEASURED]
    if len(rows):
        words = "Recalibrated" if "recal" in about.exposure else "Predicted"
        line: dict[str, Any] = {n: value(f"calibration_{n}") for n in ("intercept", "slope")}
        line["axis_name"] = f"{words} LV mass, g"
        drawn = predicted_measured(rows, **line)
        made.append(ReadFigure("cmr_mass", "Predicted and measured LV mass", drawn.alt, drawn.canvas, note))
    rows = bins[bins["figure"] == BLAND_ALTMAN]
    if len(rows):
        limits = {n: value(f"{n}_limit_of_agreement") for n in ("lower", "upper")} | {"bias": value("bias")}
        drawn = bland_altman(rows, **limits)
        title = "Difference of predicted and measured LV mass"
        made.append(ReadFigure("cmr_bland_altman", title, drawn.alt, drawn.canvas, note))
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
    k = masked["cmr_roc"].rule.k
    steps = (
        f"Curves move only when {k} or more people with and {k} or more without LVH by CMR have "
        "come; straight lines join these points. "
    )
    markers = f"Yes/no markers are points, from the counts as shown. People: {population}."
    notes = (f"{steps if k > 1 else ''}{markers}",)
    drawn = roc(curves, points)
    return [ReadFigure("cmr_roc", "ROC of LVH by CMR", drawn.alt, drawn.canvas, notes)]


TOPIC: Final = Topic("cmr", aggregates, present)
