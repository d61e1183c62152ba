"""Page one: the study in five lines, and its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from analysis.disclosure.counts import EVERYBODY
from analysis.disclosure.masking import HIDDEN, NOT_APPLICABLE, Masked
from analysis.report.document import ReadFigure, ReadTable
from analysis.report.figures.forest import forest
from analysis.report.statements import Found, Source, Statement, find, find_result
from analysis.report.topics import absolute_risk, added_value, cmr_lvh
from analysis.report.topics.cmr_agreement import MASS
from analysis.report.topics.cmr_pairs import ANY_RULE
from analysis.report.topics.tables import HAZARD_RATIO
from analysis.report.words import counted_text, number_text, of_model, p_text, percent_texts, sentence, with_texts
from analysis.study.data import About

_PER_SD: Final = "per SD"
_LVH: Final = "LVH"


@dataclass(frozen=True, slots=True)
class KeyResults:
    """What page one says; all of it from masked tables."""

    study: tuple[tuple[str, Statement], ...]  # five lines: what, and the text
    figure: ReadFigure | None  # the forest plot of all outcomes
    table: ReadTable | None  # what the ECG adds, discrimination and calibration, by outcome
    cmr: tuple[Statement, ...]  # agreement with CMR


def key_results(masked: Mapping[str, Masked], about: About) -> KeyResults:
    """Return page one of a study from its masked tables; what a study does not have is left out."""
    return KeyResults(_study(masked, about), _forest(masked, about), _accuracy(masked, about), cmr_statements(masked))


# The study in five lines.


def _study(masked: Mapping[str, Masked], about: About) -> tuple[tuple[str, Statement], ...]:
    lines = {
        "Design": _design(masked, about),
        "People": _people(masked, about),
        "Exposure": _exposure(masked, about),
        "Outcomes": _outcomes(masked, about),
        "Follow-up": _follow_up_line(masked, about),
    }
    return tuple((what, one) for what, one in lines.items() if one is not None)


def _design(masked: Mapping[str, Masked], about: About) -> Statement:
    years = masked.get("index_years")
    span = ""
    if years is not None and len(years.rows):
        known = sorted(map(int, years.rows["year"]))
        span = f", {known[0]} to {known[-1]}" if known[0] != known[-1] else f", {known[0]}"
    several = "every ECG of a person" if about.several_ecgs else "one index ECG a person"
    return Statement(
        f"Cohort study, {several}{span}; cause-specific Cox models, adjusted for age and sex unless stated."
    )


def _people(masked: Mapping[str, Masked], about: About) -> Statement | None:
    """Return how many people there are, how old, and the share of women."""
    age = find(masked, "baseline_numbers", group=EVERYBODY, variable="Age, years")
    women = find(masked, "baseline_counts", group=EVERYBODY, variable="Sex", level="female")
    if age is None or women is None:
        return None
    share = women.share("n_people", "n_group") or HIDDEN
    mean, sd = (number_text(age.values[name], 1, hidden=age.hidden["mean"]) for name in ("mean", "sd"))
    text = f"{age.counts['n_people']} people with an index ECG; age {mean} (SD {sd}) years; women {share}."
    return Statement(text, (age.source, women.source))


def _exposure(masked: Mapping[str, Masked], about: About) -> Statement | None:
    """Return what the exposure is, its SD, and how many have predicted LVH."""
    sd = find(masked, "exposure_sd", exposure=about.exposure)
    lvh = find(masked, "baseline_numbers", group="LVH")
    text, sources = f"{sentence(about.exposure_name)} from the 12-lead ECG ({about.model_id})", []
    if sd is not None:
        size = number_text(sd.values["sd"], 1, hidden=sd.hidden["sd"])
        text += f"; 1 SD is {size} {about.exposure_unit}"
        sources.append(sd.source)
    everybody = find(masked, "baseline_numbers", group=EVERYBODY)
    if lvh is not None and everybody is not None:
        share = percent_texts(pd.Series([lvh.values["n_people"]]), pd.Series([everybody.values["n_people"]]))[0]
        text += f"; predicted LVH in {lvh.counts['n_people']}" + (
            f" ({share})" if share not in (HIDDEN, NOT_APPLICABLE) else ""
        )
        sources.append(lvh.source)
    return Statement(f"{text}.", tuple(sources))


def _outcomes(masked: Mapping[str, Masked], about: About) -> Statement:
    texts, sources = [], []
    for place, (outcome, words) in enumerate(about.outcomes.items()):
        row = find(masked, "rates", outcome=outcome, classification=EVERYBODY, group=EVERYBODY)
        events = "" if row is None else f" {row.counts['n_events']}"
        texts.append(f"{words}{events}{' (primary)' if place == 0 and len(about.outcomes) > 1 else ''}")
        sources += [] if row is None else [row.source]
    return Statement(f"People with a first event: {', '.join(texts)}.", tuple(sources))


def _follow_up_line(masked: Mapping[str, Masked], about: About) -> Statement | None:
    """Return the median follow-up, person-years and deaths of the primary outcome."""
    primary, words = next(iter(about.outcomes.items()))
    years = find(masked, "follow_up_years", outcome=primary, group=EVERYBODY)
    rates = find(masked, "rates", outcome=primary, classification=EVERYBODY, group=EVERYBODY)
    if years is None or rates is None:
        return None
    median, low, high = (
        number_text(years.values[f"{name}_years"], 1, hidden=years.hidden[f"{name}_years"])
        for name in ("median", "q1", "q3")
    )
    person_years = masked["rates"].shown("person_years").iloc[rates.source.place]
    text = (
        f"Median {median} years (quartiles {low} and {high}, reverse Kaplan-Meier); for {words}, "
        f"{rates.counts['n_people']} people, {person_years} person-years and {rates.counts['n_deaths']} deaths "
        "without it."
    )
    return Statement(text, (years.source, rates.source))


# Hazard ratios: one forest plot.


def _forest(masked: Mapping[str, Masked], about: About) -> ReadFigure | None:
    found = masked.get("results_hazard_ratios")
    if found is None or not len(found.rows):
        return None
    rows = with_texts(found)
    is_main = (rows["model"] == 2) & (rows["level"] == "") & (rows["measure"] == HAZARD_RATIO)
    own = rows[is_main & (rows["contrast"].str.startswith(_PER_SD) | (rows["contrast"] == _LVH))]
    if own["estimate"].isna().all():
        return None
    is_lvh = own["contrast"] == _LVH
    made = own[["estimate", "lo", "hi"]].assign(
        group=[_LVH_WORDS if one else f"Per SD of {about.exposure_name}" for one in is_lvh],
        label=[
            f"{sentence(about.outcomes[outcome])}{of_model(model)}"
            for outcome, model in zip(own["outcome"], own["model_id"], strict=True)
        ],
        n_text=[counted_text(row, "n_events") for row in own.to_dict("records")],
        p_interaction_text="",
    )
    drawn = forest(made.reset_index(drop=True), measure_name="Hazard ratio (95% CI)")
    title = "Hazard ratios of all outcomes, adjusted for age and sex"
    notes = ("Events are those of everybody analysed, with and without LVH.",)
    return ReadFigure("key_results", title, drawn.alt, drawn.canvas, notes)


_LVH_WORDS: Final = "Predicted LVH, yes against no"


# What the ECG adds; discrimination and calibration.


def added_rows(masked: Mapping[str, Masked], about: About, outcome: str) -> dict[str, Found | None]:
    """Return what the exposure adds to age and sex: C without and with it, difference, test."""
    known: dict[str, Any] = {"outcome": outcome}
    difference = find_result(masked, "added_value", measure=added_value.DELTA, contrast=about.exposure_name, **known)
    if difference is None:
        return {}
    known |= {"adjustment": difference.values["adjustment"], "model_id": difference.values["model_id"]}
    with_it = {"contrast": about.exposure_name} | known
    return {
        "without": find_result(masked, "added_value", measure=added_value.C, contrast=added_value.WITHOUT, **known),
        "with": find_result(masked, "added_value", measure=added_value.C, **with_it),
        "difference": difference,
        "test": find_result(masked, "added_value", measure=added_value.LIKELIHOOD, **with_it)
        or find_result(masked, "added_value", measure=added_value.WALD, **with_it),
    }


def risk_rows(masked: Mapping[str, Masked], outcome: str) -> dict[str, Found | None]:
    """Return the AUC, and observed over expected risk, of the model with the exposure."""
    made = {}
    for name, measure in (("auc", absolute_risk.AUC), ("ratio", absolute_risk.RATIO)):
        found = masked.get("results_absolute_risk")
        own = () if found is None else found.rows.loc[found.rows["outcome"] == outcome, "adjustment"]
        adjustment = next((one for one in own if one.endswith(", exposure")), "")
        made[name] = find_result(masked, "absolute_risk", outcome=outcome, measure=measure, adjustment=adjustment)
    return made


def _accuracy(masked: Mapping[str, Masked], about: About) -> ReadTable | None:
    lines, years = [], ""
    for outcome, words in about.outcomes.items():
        added, risks = added_rows(masked, about, outcome), risk_rows(masked, outcome)
        if not added and not any(risks.values()):
            continue
        auc = risks["auc"]
        if auc is not None and auc.values["unit_value"]:
            years = f"{auc.values['unit_value']:.3g}"
        test = added.get("test")
        lines.append(
            [
                sentence(words),
                *(_middle(added.get(name)) for name in ("without", "with")),
                _text(added.get("difference"), 3),
                NOT_APPLICABLE if test is None else HIDDEN if test.hidden["p"] else p_text(test.values["p"]),
                _text(auc, 3),
                _text(risks["ratio"], 2),
            ]
        )
    if not lines:
        return None
    at = f" at {years} years" if years else ""
    heads = [
        "Outcome",
        "C-statistic: Age and sex",
        f"C-statistic: With {about.exposure_name.removeprefix('predicted ')}",
        "Difference (95% CI)",
        "P",
        f"AUC{at} (95% CI)",
        "Observed / expected (95% CI)",
    ]
    notes = (
        "P: likelihood ratio (Wald where people repeat). AUC and observed over expected risk: age, sex and the "
        "exposure, judged on held-out people.",
    )
    return ReadTable(
        "key_accuracy",
        "What the ECG adds; discrimination and calibration",
        pd.DataFrame(lines, columns=heads),
        1,
        notes,
    )


def _middle(found: Found | None) -> str:
    return (
        NOT_APPLICABLE if found is None else number_text(found.values["estimate"], 3, hidden=found.hidden["estimate"])
    )


def _text(found: Found | None, digits: int) -> str:
    return NOT_APPLICABLE if found is None else found.estimate(digits)


# Against CMR.


def cmr_statements(masked: Mapping[str, Masked]) -> tuple[Statement, ...]:
    """Return agreement with CMR, and the c-statistic of predicted LVH beside the ECG rules."""
    return tuple(one for one in (_agreement(masked), _lvh(masked)) if one is not None)


def agreement_rows(masked: Mapping[str, Masked]) -> tuple[Found | None, ...]:
    """Return r, bias and the limits of agreement of LV mass; None unless all are shown."""
    names = ("pearson", "bias", "lower_limit_of_agreement", "upper_limit_of_agreement")
    found = [find_result(masked, "cmr", measure=name, contrast=MASS, strata="") for name in names]
    return tuple(found) if all(one is not None and one.is_shown for one in found) else (None,) * 4


def _agreement(masked: Mapping[str, Masked]) -> Statement | None:
    r, bias, lower, upper = agreement_rows(masked)
    if r is None or bias is None or lower is None or upper is None:
        return None
    low, high = (number_text(one.values["estimate"], 1) for one in (lower, upper))
    text = (
        f"LV mass in {r.counts['n_people']} people with CMR: r {r.estimate(2)}; predicted less measured "
        f"{bias.estimate(1)} g, 95% limits of agreement {low} and {high} g."
    )
    return Statement(text, tuple(one.source for one in (r, bias, lower, upper)))


def lvh_rows(masked: Mapping[str, Masked]) -> tuple[Found | None, Found | None, Found | None]:
    """Return c-statistics of predicted LVH and of any rule on the same people, and their test."""
    wanted = (
        (cmr_lvh.C, cmr_lvh.YES_NO["lvh"]),
        (cmr_lvh.C, cmr_lvh.YES_NO[ANY_RULE]),
        (cmr_lvh.C_DIFFERENCE, cmr_lvh.AGAINST_RULES),
    )
    ours, rules, difference = (
        find_result(masked, "cmr", measure=measure, contrast=contrast, strata=cmr_lvh.ALL_THREE)
        for measure, contrast in wanted
    )
    is_shown = ours is not None and rules is not None and ours.is_shown and rules.is_shown
    return (ours, rules, difference) if is_shown else (None, None, None)


def _lvh(masked: Mapping[str, Masked]) -> Statement | None:
    ours, rules, difference = lvh_rows(masked)
    if ours is None or rules is None:
        alone = find_result(masked, "cmr", measure=cmr_lvh.C, contrast=cmr_lvh.YES_NO["lvh"], strata="")
        if alone is None or not alone.is_shown:
            return None
        return Statement(f"LVH by CMR: binary c-statistic of predicted LVH {alone.estimate(3)}.", (alone.source,))
    p = difference.p() if difference is not None else ""
    text = (
        f"LVH by CMR, binary c-statistic: predicted LVH {ours.estimate(3)}, any of three ECG rules "
        f"{rules.estimate(3)}{f'; {p}' if p else ''} ({ours.counts['n_people']} people)."
    )
    sources: list[Source] = [one.source for one in (ours, rules, difference) if one is not None]
    return Statement(text, tuple(sources))
