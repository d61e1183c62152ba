"""Hazard ratios: each outcome and contrast under every model, and by subgroup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.disclosure.aggregates import Aggregate, result, results
from analysis.disclosure.masking import Masked
from analysis.disclosure.meanings import Analysed, analysed, name_of
from analysis.report.document import ReadFigure, ReadTable, Section, Topic
from analysis.report.figures.forest import forest, forest_alt
from analysis.report.topics import exposure_sds
from analysis.report.words import (
    MODEL_WORDS,
    estimate_texts,
    levels_in_order,
    of_model,
    outcomes_and_models,
    p_text,
    p_texts,
    row_counts,
    row_labels,
    side_by_side,
)
from analysis.statistics.columns import TableRefused
from analysis.statistics.design import Category
from analysis.statistics.survival.cox_fit import ChiSquareTest
from analysis.study.data import About, StudyData
from analysis.study.outcomes import (
    SEX,
    Contrast,
    Model,
    added_terms_test,
    complete_rows,
    contrasts_of,
    estimate,
    estimates,
    fewest_with_event,
    fit_model,
    followed,
    models_of,
    named,
    ratio_of,
    read_columns,
    warnings_of,
    with_covariates,
    with_q,
    without_constant_sex,
)
from analysis.study.people import BMI_CLASSES_KG_M2, banded

HAZARD_RATIO: Final = "hazard ratio"
INTERACTION: Final = "interaction, chi-square"
_SUBGROUPS: Final = {"sex": "Sex", "age_band": "Age, years", "bmi_class": "BMI, kg/m2"}


def subgroup_rows(data: StudyData) -> list[dict[str, Any]]:
    """Return hazard ratios per SD and per 10 under model 2, and the test of the interaction.

    People are those of the main analysis, the complete rows of all models.

    Args:
        data: of one model of the predictions.
    """
    rows = []
    for outcome in (one.name for one in data.study.outcomes):
        kept = ["exposure", "exposure_in_sd_of_sex", "age_band", "bmi_kg_m2"]
        table = _with_bmi_class(read_columns(data.analysed(outcome), data.study, kept))
        for column, words in _SUBGROUPS.items():
            known = data.keys(outcome) | {"strata": words}
            rows += [
                result("subgroups", **row, **known, counted=_counted(data, outcome, column, row))
                for row in _rows(data, table, column)
            ]
    return rows


def _rows(data: StudyData, table: pd.DataFrame, column: str) -> list[dict[str, Any]]:
    study, model = data.study, models_of(data.study)[1]
    *contrasts, _ = contrasts_of(study, data.sd, data.about.exposure_unit)
    complete = complete_rows(table, study, [contrasts[0].column, column])
    levels = levels_in_order(complete[column].unique())
    if len(levels) < 2:
        return []
    rows = [
        row | {"measure": HAZARD_RATIO, "level": level}
        for level in levels
        for row in estimates(table[table[column] == level], study, contrasts, [model])
    ]
    tested = _interaction(complete, column, levels[1:], data, contrasts[0], model)
    dropped = {"level": "interaction", "n_dropped_missing": len(table) - len(complete)}
    return [*rows, tested | dropped]


def _counted(data: StudyData, outcome: str, column: str, row: Mapping[str, Any]) -> Analysed:
    """The people of a subgroup; of all together for the test of the interaction."""
    main, name = analysed(outcome, data.model_id), name_of(column)
    is_of_all = row["measure"] == INTERACTION
    return replace(main, who=main.who.complete(name) if is_of_all else main.who.level(name, row["level"]))


def _with_bmi_class(table: pd.DataFrame) -> pd.DataFrame:
    bmi = table.get("bmi_kg_m2", pd.Series(np.nan, table.index))
    return table.assign(bmi_class=banded(bmi, BMI_CLASSES_KG_M2))


def _interaction(
    table: pd.DataFrame, column: str, others: list[str], data: StudyData, contrast: Contrast, model: Model
) -> dict[str, Any]:
    """Test products of the exposure with the levels, the levels in both models."""
    n = len(others)
    levels = [(table[column] == one).to_numpy(dtype=float) for one in others]
    apart = table.assign(
        **{f"product_{i}": levels[i] * table[contrast.column] for i in range(n)},
        **{f"level_{i}": levels[i] for i in range(n)},
    )
    own = without_constant_sex(_without_sex(model) if column == "sex" else model, table)
    main = with_covariates(own, *(f"level_{i}" for i in range(n)))
    both = with_covariates(main, *(f"product_{i}" for i in range(n)))
    row = {"measure": INTERACTION} | followed(table, data.study) | named(contrast, own)
    row["n_events_fewest"] = fewest_with_event(table, data.study, column)
    try:
        test = _test_of(apart, data, contrast, (both, main), n)
    except TableRefused as error:
        return row | {"warnings": str(error)}
    return row | {"estimate": float(test.chi2), "p": float(test.p), "unit": f"{test.df} df"}


def _without_sex(model: Model) -> Model:
    """The model without sex, which makes the subgroups."""
    kept = tuple(one for one in model.covariates if one != SEX)
    return Model(model.number, model.adjustment, kept)


def _test_of(
    table: pd.DataFrame, data: StudyData, contrast: Contrast, models: tuple[Model, Model], n: int
) -> ChiSquareTest:
    larger, smaller = (fit_model(table, data.study, [contrast.column, *model.covariates]) for model in models)
    return added_terms_test(larger, smaller, [f"product_{i}" for i in range(n)])


_PER_SD: Final = "per SD"


def aggregates(data: StudyData) -> list[Aggregate]:
    """Return the main hazard ratios, those of subgroups, and what one SD is."""
    subgroups = [row for part in data.by_prediction_model() for row in subgroup_rows(part)]
    return [results("hazard_ratios", main_rows(data)), results("subgroups", subgroups), exposure_sds.exposure_sds(data)]


def main_rows(data: StudyData) -> list[dict[str, Any]]:
    """Return every outcome, contrast and model, all models on the same complete rows."""
    rows = []
    for outcome in (one.name for one in data.study.outcomes):
        for part in data.by_prediction_model():
            rows += outcome_rows(part, outcome)
    return with_q(rows)


def outcome_rows(data: StudyData, outcome: str) -> list[dict[str, Any]]:
    """Return the rows of one outcome: per SD, per 10, LVH, quartiles and their trend.

    Args:
        data: of one model of the predictions.
        outcome: of the code list.
    """
    study, models = data.study, models_of(data.study)
    table = data.analysed(outcome)
    contrasts = contrasts_of(study, data.sd, data.about.exposure_unit)
    rows = estimates(table, study, contrasts, models) + _quartiles(table, data, models)
    return [
        result(
            "hazard_ratios",
            HAZARD_RATIO,
            **row,
            **data.keys(outcome),
            counted=analysed(outcome, data.model_id, lvh=row["exposure"] == study.lvh_column),
        )
        for row in rows
    ]


def _quartiles(table: pd.DataFrame, data: StudyData, models: Sequence[Model]) -> list[dict[str, Any]]:
    """Quartiles 2 to 4 against 1, and the trend on the medians of the quartiles, by model."""
    complete = complete_rows(table, data.study, ["quartile"], kept=["exposure"])
    medians = complete.groupby("quartile")["exposure"].median()
    complete = complete.assign(quartile_median=complete["quartile"].map(medians))
    more = {
        "n_dropped_missing": len(table) - len(complete),
        "n_events_fewest": fewest_with_event(complete, data.study, "quartile"),
    }
    return [
        row | more for model in models for row in _of_quartiles(complete, data, without_constant_sex(model, complete))
    ]


def _of_quartiles(table: pd.DataFrame, data: StudyData, model: Model) -> list[dict[str, Any]]:
    study, name = data.study, f"{data.study.exposure}, quartile within sex"
    unit = data.about.exposure_unit
    trend = Contrast(name, "quartile_median", "trend over quartiles", unit, 10.0)
    last = estimate(table, study, trend, model)
    contrasts = [Contrast(name, "quartile", f"quartile {q} against 1", "", 1.0) for q in (2, 3, 4)]
    base = followed(table, study)
    try:
        fit = fit_model(table, study, [Category("quartile", reference=1.0), *model.covariates])
    except TableRefused as error:
        empty = {"warnings": str(error)}
        return [*(base | named(one, model) | empty for one in contrasts), last]
    terms = fit.estimates.set_index("term")
    told = {"warnings": "; ".join((*warnings_of(fit, table, study), *model.warnings))}
    rows = [
        base | named(one, model) | told | _of_term(terms, f"quartile={q}")
        for one, q in zip(contrasts, (2.0, 3.0, 4.0), strict=True)
    ]
    return [*rows, last]


def _of_term(terms: pd.DataFrame, term: str) -> dict[str, float]:
    own = terms[(terms.index == term) & terms["coef"].notna()]
    return ratio_of(own.iloc[0], 1.0) if len(own) else {}


def present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return the table of all models and forest plots."""
    found = masked.get("results_hazard_ratios")
    if found is None or not len(found.rows):
        return None
    sd = exposure_sds.sd_note(masked[exposure_sds.KEY], about.exposure)
    notes = (
        "Cause-specific hazard ratios with 95 % limits; all models on the same complete rows." + _errors(found, about),
        f"{sd} Model 1 unadjusted; {'; '.join(_adjustments(found))}.",
        "q: Benjamini-Hochberg over the outcomes that are not the primary one, model 2.",
    )
    n_labels = len(row_labels(found, about)) + 1
    table = ReadTable("hazard_ratios", "Hazard ratios", _cells(found, about), n_labels, notes)
    figures = [_by_outcome(found, about), *_by_subgroup(masked["results_subgroups"], about)]
    return Section(
        "hazard_ratios",
        "Hazard ratios",
        _paragraphs(about),
        (table, *(one for one in figures if one is not None)),
        _warnings(found, about),
    )


def _paragraphs(about: About) -> tuple[str, ...]:
    primary = next(iter(about.outcomes.values()))
    return (
        f"The primary outcome is {primary}. The full model sees age, sex and BMI, and the index "
        "divides by body size; what the ECG itself adds is a question of its own below.",
    )


def _errors(found: Masked, about: About) -> str:
    """What errors allow for, where rows are not independent."""
    told = ""
    if "by household" in set(found.rows["se_type"]):
        told = " Errors are clustered by household, people nested in it."
    elif about.several_ecgs:
        told = " Errors are clustered by person."
    if about.several_ecgs:
        told += " Events are people with the event, however many ECGs they have."
    return told


def _adjustments(found: Masked) -> list[str]:
    pairs = found.rows[["model", "adjustment"]].drop_duplicates()
    return [f"{MODEL_WORDS[int(m)].lower()} {a}" for m, a in pairs.itertuples(index=False) if m > 1]


def _cells(found: Masked, about: About) -> pd.DataFrame:
    labels, counts = row_labels(found, about), row_counts(found, about)
    rows = found.rows.assign(
        **labels,
        **counts,
        Contrast=found.rows["contrast"],
        text=estimate_texts(found),
        model_name=found.rows["model"].map(MODEL_WORDS),
        p_text=p_texts(found),
        q_text=p_texts(found, "q"),
        ph_text=p_texts(found, "p_ph"),
    )
    cells = side_by_side(rows, by=[*labels, "Contrast", *counts], over="model_name", values=["text"])
    second = rows[rows["model"] == 2]
    cells["P, model 2"] = list(second["p_text"])
    cells["q, model 2"] = list(second["q_text"])
    cells["P for proportional hazards, model 2"] = list(second["ph_text"])
    return cells


def _warnings(found: Masked, about: About) -> tuple[str, ...]:
    """Each warning once, with the outcomes that it is about."""
    told: dict[str, dict[str, None]] = {}
    for outcome, texts in zip(found.rows["outcome"], found.rows["warnings"], strict=True):
        for text in filter(None, texts.split("; ")):
            told.setdefault(text, {})[about.outcomes[outcome]] = None
    return tuple(f"{', '.join(outcomes)}: {text}" for text, outcomes in told.items())


def _by_outcome(found: Masked, about: About) -> ReadFigure | None:
    own = found.rows[(found.rows["model"] == 2) & (found.rows["level"] == "")]
    own = own[~own["contrast"].str.startswith(("quartile", "trend"))]
    own = own.assign(contrast=own["contrast"].replace("per 10", f"per 10 {about.exposure_unit}"))
    names = own["outcome"].map(about.outcomes) + own["model_id"].map(of_model)
    rows = _forest_rows(own, group="contrast", name=names)
    if rows["estimate"].isna().all():
        return None
    title = f"Hazard ratios of {about.exposure_name} by outcome, adjusted for age and sex"
    canvas = forest(rows, measure_name="Hazard ratio (95 % interval)", title="")
    alt = forest_alt(rows, measure_name="hazard ratio")
    notes = ("Events are those of everybody analysed, with and without LVH.",)
    return ReadFigure("forest_outcomes", title, alt, canvas, notes)


def _by_subgroup(found: Masked, about: About) -> list[ReadFigure]:
    figures = []
    for outcome, model, key in outcomes_and_models(found, about):
        is_own = (found.rows["outcome"] == outcome) & (found.rows["model_id"] == model)
        own = found.rows[is_own & found.rows["contrast"].str.startswith(_PER_SD)]
        rows = _subgroup_forest(own)
        if not len(rows) or rows["estimate"].isna().all():
            continue
        words = f"{about.outcomes[outcome]}{of_model(model)}"
        title = f"Hazard ratio per SD for {words} by subgroup, adjusted for age and sex"
        canvas = forest(rows, measure_name="Hazard ratio per SD (95 % interval)", title="")
        alt = forest_alt(rows, measure_name="hazard ratio")
        figures.append(ReadFigure(f"forest_subgroups{key}", title, alt, canvas))
    return figures


def _subgroup_forest(own: pd.DataFrame) -> pd.DataFrame:
    tested = own[(own["measure"] == INTERACTION) & own["p"].notna()]
    tests = tested.set_index("strata")["p"].map(p_text)
    ratios = own[own["measure"] == HAZARD_RATIO]
    rows = _forest_rows(ratios, group="strata", name=ratios["level"])
    rows["p_interaction_text"] = [
        f"P interaction {tests[strata]}" if strata in tests and not again else ""
        for strata, again in zip(rows["group"], rows["group"].duplicated(), strict=True)
    ]
    return rows


def _forest_rows(rows: pd.DataFrame, *, group: str, name: pd.Series[Any]) -> pd.DataFrame:
    events = [("*" if pd.isna(n) else f"{n:,}") for n in rows["n_events"]]
    return pd.DataFrame(
        {
            "group": rows[group],
            "label": name,
            "estimate": rows["estimate"],
            "lo": rows["lo"],
            "hi": rows["hi"],
            "n_text": events,
            "p_interaction_text": "",
        }
    ).reset_index(drop=True)


TOPIC: Final = Topic("hazard ratios", aggregates, present)
