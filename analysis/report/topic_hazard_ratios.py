"""Hazard ratios: each outcome and contrast under every model, and by subgroup."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.columns import TableRefused
from analysis.cox_fit import ChiSquareTest
from analysis.design import Category
from analysis.outcome_models import (
    Contrast,
    Model,
    complete_rows,
    contrasts_of,
    estimate,
    estimates,
    fewest,
    fit_model,
    followed,
    models_of,
    named,
    with_covariates,
    with_q,
)
from analysis.report.aggregates import Aggregate, result, results
from analysis.report.bands import BMI_CLASSES_KG_M2, banded
from analysis.report.document import About, ReadFigure, ReadTable, Section
from analysis.report.figure_forest import forest, forest_alt
from analysis.report.masking import Masked
from analysis.report.study_data import StudyData
from analysis.report.words import (
    MODEL_WORDS,
    estimate_texts,
    levels_in_order,
    number_text,
    p_text,
    p_texts,
    side_by_side,
)

HAZARD_RATIO: Final = "hazard ratio"
INTERACTION: Final = "interaction, chi-square"
_SUBGROUPS: Final = {"sex": "Sex", "age_band": "Age, years", "bmi_class": "BMI, kg/m2"}


def aggregates(data: StudyData) -> list[Aggregate]:
    """Return the main hazard ratios and those of subgroups."""
    return [results("hazard_ratios", main_rows(data)), results("subgroups", _subgroups(data))]


def main_rows(data: StudyData) -> list[dict[str, Any]]:
    """Return every outcome, contrast and model, all models on the same complete rows."""
    rows = []
    for outcome in (one.name for one in data.study.outcomes):
        rows += outcome_rows(data, outcome)
    return with_q(rows)


def outcome_rows(data: StudyData, outcome: str) -> list[dict[str, Any]]:
    """Return the rows of one outcome: per SD, per 10, LVH, quartiles and their trend."""
    study, models = data.study, models_of(data.study)
    table = data.analysed(outcome)
    known: dict[str, Any] = {
        "analysis": "hazard_ratios", "measure": HAZARD_RATIO, "outcome": outcome,
        "primary": outcome == study.primary_outcome,
    }  # fmt: skip
    rows = []
    for part, sd, labels in _models_apart(data, table):
        contrasts = contrasts_of(study, sd, data.about.exposure_unit)
        rows += [
            result(**known, **labels, **row) for row in estimates(part, study, contrasts, models)
        ]
    complete = complete_rows(table, ["quartile"], models)
    dropped: dict[str, Any] = {"n_dropped_missing": len(table) - len(complete)}
    for model in models:
        rows += [result(**known, **row, **dropped) for row in _quartiles(complete, data, model)]
    return rows


def _models_apart(
    data: StudyData, table: pd.DataFrame
) -> list[tuple[pd.DataFrame, Mapping[str, float], dict[str, str]]]:
    """All rows; or, where predictions are of several models, those of each model with its SD."""
    if not data.study.model_strata:
        return [(table, data.sd, {})]
    return [
        (own, {"exposure": data.sd[f"exposure, {model}"]},
         {"strata": "prediction model", "level": str(model)})
        for model, own in table.groupby("model_id")
    ]  # fmt: skip


def _quartiles(table: pd.DataFrame, data: StudyData, model: Model) -> list[dict[str, Any]]:
    """Quartiles 2 to 4 against 1, and the trend on the medians of the quartiles."""
    study = data.study
    name = f"{data.study.exposure}, quartile within sex"
    counts = table.groupby("quartile")["event"].sum().reindex([1.0, 2.0, 3.0, 4.0], fill_value=0)
    base = followed(table, study) | {"n_events_fewest": fewest(counts)}
    medians = table.groupby("quartile")["exposure"].median()
    trend = Contrast(
        name, "quartile_median", "trend over quartiles", data.about.exposure_unit, 10.0
    )
    made = [estimate(table.assign(quartile_median=table["quartile"].map(medians)), study, trend,
                     model)]  # fmt: skip
    made[0]["n_events_fewest"] = fewest(counts)
    contrasts = [Contrast(name, "quartile", f"quartile {q} against 1", "", 1.0) for q in (2, 3, 4)]
    try:
        fit = fit_model(table, study, [Category("quartile", reference=1.0), *model.covariates])
    except TableRefused as error:
        empty = {"warnings": str(error)}
        return [base | named(one, model) | empty for one in contrasts] + made
    terms = fit.estimates.set_index("term")
    return [
        base
        | named(one, model)
        | _of_term(terms, f"quartile={q}", (*fit.warnings, *model.warnings))
        for one, q in zip(contrasts, (2.0, 3.0, 4.0), strict=True)
    ] + made


def _of_term(terms: pd.DataFrame, term: str, warnings: tuple[str, ...]) -> dict[str, Any]:
    told = {"warnings": "; ".join(warnings)}
    if term not in terms.index:
        return told
    row = terms.loc[term]
    if np.isnan(row["coef"]):
        return told
    return told | {
        "estimate": float(row["hr"]), "se": float(row["se"]), "lo": float(row["hr_lo"]),
        "hi": float(row["hr_hi"]), "p": float(row["p"]),
    }  # fmt: skip


def _subgroups(data: StudyData) -> list[dict[str, Any]]:
    """Hazard ratios per SD under model 2 in subgroups, and the test of the interaction."""
    study, model = data.study, models_of(data.study)[1]
    contrast = contrasts_of(study, data.sd, data.about.exposure_unit)[0]
    rows = []
    for outcome in (one.name for one in study.outcomes):
        known = {"outcome": outcome, "primary": outcome == study.primary_outcome}
        table = _with_bmi_class(complete_rows(data.analysed(outcome), [contrast.column], [model]))
        for column, words in _SUBGROUPS.items():
            parts = table[table[column].notna()]
            levels = levels_in_order(parts[column].unique())
            if len(levels) < 2:
                continue
            for level in levels:
                own = parts[parts[column] == level]
                fitted = estimate(own, study, contrast, _without(model, column))
                told = known | {"strata": words, "level": str(level)}
                rows.append(result("subgroups", HAZARD_RATIO, **fitted, **told))
            rows.append(_interaction(parts, column, words, data, contrast, model) | known)
    return rows


def _with_bmi_class(table: pd.DataFrame) -> pd.DataFrame:
    bmi = table.get("bmi_kg_m2", pd.Series(np.nan, table.index))
    return table.assign(bmi_class=banded(bmi, BMI_CLASSES_KG_M2))


def _without(model: Model, column: str) -> Model:
    """The model without the covariate that makes the subgroups."""
    if column != "sex":
        return model
    kept = tuple(one for one in model.covariates if getattr(one, "column", one) != "sex")
    return Model(model.number, model.adjustment, kept)


def _interaction(
    table: pd.DataFrame, column: str, words: str, data: StudyData, contrast: Contrast, model: Model
) -> dict[str, Any]:
    """Likelihood-ratio test of products of the exposure with the levels, levels in both models."""
    levels = levels_in_order(table[column].unique())[1:]
    apart = table.assign(
        **{f"product_{i}": (table[column] == one) * table[contrast.column] for i, one in
           enumerate(levels)},
        **{f"level_{i}": (table[column] == one).astype(float) for i, one in enumerate(levels)},
    )  # fmt: skip
    own = _without(model, column)
    main = with_covariates(own, *(f"level_{i}" for i in range(len(levels))))
    both = with_covariates(main, *(f"product_{i}" for i in range(len(levels))))
    events = table.groupby(column)["event"].sum()
    row = followed(table, data.study) | named(contrast, own)
    row |= {"strata": words, "level": "interaction", "n_events_fewest": fewest(events)}
    try:
        test = _test_of(apart, data, contrast, (both, main), len(levels))
    except TableRefused as error:
        return result("subgroups", INTERACTION, **row, warnings=str(error))
    more = {"estimate": float(test.chi2), "p": float(test.p), "unit": f"{test.df} df"}
    return result("subgroups", INTERACTION, **(row | more))


def _test_of(
    table: pd.DataFrame, data: StudyData, contrast: Contrast, models: tuple[Model, Model], n: int
) -> ChiSquareTest:
    """The likelihood-ratio test of the products; Wald's where people repeat: errors are robust."""
    larger = fit_model(table, data.study, [contrast.column, *models[0].covariates])
    if data.study.index.rule == "all":
        return larger.wald_test([f"product_{i}" for i in range(n)])
    return larger.likelihood_ratio_test(
        fit_model(table, data.study, [contrast.column, *models[1].covariates])
    )


def present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return the table of all models and forest plots."""
    found = masked.get("results_hazard_ratios")
    if found is None or not len(found.rows):
        return None
    notes = (
        "Cause-specific hazard ratios with 95 % limits; all models on the same complete rows.",
        f"One SD is {_sd_text(found, about)}, of everybody with an index ECG. Model 1 unadjusted; "
        + "; ".join(_adjustments(found)) + ".",
        "q: Benjamini-Hochberg over the outcomes that are not the primary one, model 2.",
    )  # fmt: skip
    table = ReadTable("hazard_ratios", "Hazard ratios", _cells(found, about), 4, notes)
    figures = [_by_outcome(found, about), *_by_subgroup(masked["results_subgroups"], about)]
    return Section(
        "hazard_ratios", "Hazard ratios", _paragraphs(about),
        (table, *(one for one in figures if one is not None)), _warnings(found, about),
    )  # fmt: skip


def _paragraphs(about: About) -> tuple[str, ...]:
    primary = next(iter(about.outcomes.values()))
    return (
        f"The primary outcome is {primary}. The full model sees age, sex and BMI, and the index "
        "divides by body size; what the ECG itself adds is a question of its own below.",
    )


def _sd_text(found: Masked, about: About) -> str:
    own = found.rows[found.rows["contrast"].str.startswith("per SD")]
    size = float(own["unit_value"].iloc[0])
    return f"{number_text(size, 1)} {own['unit'].iloc[0]}"


def _adjustments(found: Masked) -> list[str]:
    pairs = found.rows[["model", "adjustment"]].drop_duplicates()
    return [f"{MODEL_WORDS[int(m)].lower()} {a}" for m, a in pairs.itertuples(index=False) if m > 1]


def _cells(found: Masked, about: About) -> pd.DataFrame:
    rows = found.rows.assign(
        text=estimate_texts(found), Outcome=found.rows["outcome"].map(about.outcomes),
        Contrast=found.rows["contrast"].where(found.rows["level"] == "",
                                              found.rows["contrast"] + ", " + found.rows["level"]),
        People=found.shown("n_people"), Events=found.shown("n_events"),
        model_name=found.rows["model"].map(MODEL_WORDS), p_text=p_texts(found),
        q_text=p_texts(found, "q"), ph_text=p_texts(found, "p_ph"),
    )  # fmt: skip
    cells = side_by_side(rows, by=["Outcome", "Contrast", "People", "Events"], over="model_name",
                         values=["text"])  # fmt: skip
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
    rows = _forest_rows(own, group="contrast", name=own["outcome"].map(about.outcomes))
    if rows["estimate"].isna().all():
        return None
    title = f"Hazard ratios of {about.exposure_name} by outcome, adjusted for age and sex"
    canvas = forest(rows, measure_name="Hazard ratio (95 % interval)", title="")
    alt = forest_alt(rows, measure_name="hazard ratio")
    notes = ("Events are those of everybody analysed, with and without LVH.",)
    return ReadFigure("forest_outcomes", title, alt, canvas, notes)


def _by_subgroup(found: Masked, about: About) -> list[ReadFigure]:
    figures = []
    for outcome, words in about.outcomes.items():
        own = found.rows[found.rows["outcome"] == outcome]
        tested = own[(own["measure"] == INTERACTION) & own["p"].notna()]
        tests = tested.set_index("strata")["p"].map(p_text)
        ratios = own[own["measure"] == HAZARD_RATIO]
        rows = _forest_rows(ratios, group="strata", name=ratios["level"])
        rows["p_interaction_text"] = [
            f"P interaction {tests[strata]}" if strata in tests and not again else ""
            for strata, again in zip(rows["group"], rows["group"].duplicated(), strict=True)
        ]
        if not len(rows) or rows["estimate"].isna().all():
            continue
        title = f"Hazard ratio per SD for {words} by subgroup, adjusted for age and sex"
        figures.append(ReadFigure(f"forest_subgroups_{outcome}", title,
                                  forest_alt(rows, measure_name="hazard ratio"),
                                  forest(rows, measure_name="Hazard ratio per SD (95 % interval)",
                                         title="")))  # fmt: skip
    return figures


def _forest_rows(rows: pd.DataFrame, *, group: str, name: pd.Series[Any]) -> pd.DataFrame:
    events = [("*" if pd.isna(n) else f"{n:,}") for n in rows["n_events"]]
    return pd.DataFrame(
        {
            "group": rows[group], "label": name, "estimate": rows["estimate"], "lo": rows["lo"],
            "hi": rows["hi"], "n_text": events, "p_interaction_text": "",
        }
    ).reset_index(drop=True)  # fmt: skip
