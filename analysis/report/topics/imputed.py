"""Hazard ratios with missing covariates imputed, beside those of complete rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.disclosure.aggregates import Aggregate, Precision, count, label, number, results
from analysis.disclosure.masking import Masked
from analysis.disclosure.meanings import LVH, Analysed, followed, name_of, of_model
from analysis.report.document import ReadTable, Section, Topic
from analysis.report.topics.tables import (
    INTERVAL,
    aggregate,
    contrasts_of_study,
    outcomes_and_parts,
    result_table,
    results_about,
    results_of,
)
from analysis.report.words import MODEL_WORDS, estimate_texts, number_text, p_texts, row_counts
from analysis.statistics.columns import TableRefused
from analysis.statistics.design import Category
from analysis.statistics.imputation import Target, imputed_tables
from analysis.statistics.missing import PooledFit, pool_rubin
from analysis.statistics.survival import CoxFit
from analysis.statistics.survival.risk_sets import nelson_aalen
from analysis.study.data import About, StudyData
from analysis.study.outcomes import (
    Contrast,
    Model,
    columns_of,
    fit_model,
    models_of,
    named,
    time_columns,
    without_constant_sex,
)
from analysis.study.outcomes import followed as described

IMPUTED: Final = "hazard ratio, missing covariates imputed"
FMI: Final = "fraction of missing information"
_WITHOUT_EVENTS: Final = "a level has no events in some imputation, so that there is nothing to pool"
_HAZARD: Final = "nelson_aalen"
_EVENT: Final = "has_event"


def _aggregates(data: StudyData) -> list[Aggregate]:
    """Return the pooled hazard ratios of all models, and observed beside imputed values."""
    if data.study.missing != "impute":
        return []
    rows: list[dict[str, Any]] = []
    values: list[dict[str, Any]] = []
    for outcome, part in outcomes_and_parts(data):
        found, drawn = _pooled(part, outcome)
        rows += results_about(outcome, "imputed", part, [row | _counted(part, outcome, row) for row in found])
        if outcome == data.study.primary_outcome and part.model_id in ("", data.model_id):
            values += [row | {"outcome": outcome} for row in drawn]
    return [results("imputed", rows), _values_aggregate(values)]


def _counted(data: StudyData, outcome: str, row: Mapping[str, Any]) -> dict[str, Analysed]:
    """Everybody who is followed, and has LVH known where it is compared."""
    needs = (LVH,) if row["exposure"] == data.study.lvh_column else ()
    return {"counted": Analysed(of_model(followed(outcome), data.model_id), needs)}


def _values_aggregate(rows: Sequence[Mapping[str, Any]]) -> Aggregate:
    columns = (
        label("variable", "with its unit"),
        count("n_known", "people followed for the primary outcome who have a value"),
        count("n_missing", "people whose value is imputed"),
        number("observed", "mean of the values that are known", "n_known", precision=Precision.MEAN),
        number("imputed", "mean of the imputed values", "n_missing", precision=Precision.MEAN),
    )
    who = [(followed(row["outcome"]), name_of(row["column"])) for row in rows]
    counts = {
        "n_known": [one.complete(name) for one, name in who],
        "n_missing": [one.lacking(name) for one, name in who],
    }
    return aggregate("imputed_values", rows, columns, lambda _: counts)


def _pooled(data: StudyData, outcome: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    study, models, contrasts = data.study, models_of(data.study), contrasts_of_study(data)
    table = data.analysed(outcome).reset_index(drop=True)
    targets = _targets(data, models[-1])
    hazard = nelson_aalen(table["time_days"].to_numpy(dtype=float), table["event"].to_numpy(dtype=bool))
    made_of: dict[str, Any] = {_EVENT: table["event"].astype(float), _HAZARD: hazard}
    ready = table.assign(**made_of)
    fits: dict[tuple[str, int], list[CoxFit]] = {}
    sums = {one.column: 0.0 for one in targets if one.kind != "category"}
    try:
        drawn = imputed_tables(ready, targets, ["exposure", _EVENT, _HAZARD], m=study.imputations, seed=study.seed)
        for made in drawn:
            _fit_all(made, data, models, contrasts, fits)
            for name in sums:
                sums[name] += float(made.loc[table[name].isna(), name].mean()) / study.imputations
        found = [row for one in contrasts for model in models for row in _rows(fits, table, data, one, model)]
    except TableRefused as error:
        known = described(table, study) | named(contrasts[0], models[-1])
        return [known | {"measure": IMPUTED, "warnings": str(error)}], []
    words = {one.name: one.words for one in study.covariates}
    values = [
        {
            "column": name,
            "variable": words.get(name, name.replace("_", " ")),
            "n_known": int(table[name].notna().sum()),
            "n_missing": int(table[name].isna().sum()),
            "observed": float(table[name].mean()),
            "imputed": imputed,
        }
        for name, imputed in sums.items()
        if table[name].isna().any()
    ]
    return found, values


def _targets(data: StudyData, model: Model) -> list[Target]:
    yes_no = {one.name for one in data.study.covariates if one.kind == "yes_no"}
    kinds = {one.column: "category" for one in model.covariates if isinstance(one, Category)}
    return [
        Target(name, "category" if name in kinds else "yes_no" if name in yes_no else "number")
        for name in columns_of(model.covariates)
    ]


def _fit_all(
    made: pd.DataFrame,
    data: StudyData,
    models: Sequence[Model],
    contrasts: Sequence[Contrast],
    fits: dict[tuple[str, int], list[CoxFit]],
) -> None:
    """Fit every model and column of a contrast to an imputed table; append to `fits`."""
    for column in dict.fromkeys(one.column for one in contrasts):
        own = made.dropna(subset=[column, *time_columns(data.study).values()])
        for model in models:
            covariates = without_constant_sex(model, own).covariates
            fits.setdefault((column, model.number), []).append(fit_model(own, data.study, [column, *covariates]))


def _rows(
    fits: Mapping[tuple[str, int], Sequence[CoxFit]],
    table: pd.DataFrame,
    data: StudyData,
    contrast: Contrast,
    model: Model,
) -> list[dict[str, Any]]:
    own = table.dropna(subset=[contrast.column])
    known = described(own, data.study) | named(contrast, without_constant_sex(model, own))
    own_fits = fits[contrast.column, model.number]
    if any(fit.estimates["coef"].isna().any() for fit in own_fits):
        return [known | {"measure": IMPUTED, "warnings": _WITHOUT_EVENTS}]
    pooled: PooledFit = pool_rubin(own_fits)
    term = pooled.estimates.set_index("term").loc[contrast.column]
    values = {
        "estimate": float(np.exp(term["coef"] * contrast.size)),
        "se": float(term["se"] * contrast.size),
        "lo": float(np.exp(term["lo"] * contrast.size)),
        "hi": float(np.exp(term["hi"] * contrast.size)),
        "p": float(term["p"]),
        "n_dropped_missing": len(table) - len(own) if contrast.column == "lvh" else None,
        "warnings": "; ".join((*pooled.warnings, *model.warnings)),
    }
    known |= {"se_type": "Rubin's rules", "level": f"{pooled.n_imputations} imputations"}
    if contrast.yes_no:
        arms = own[own["event"]].groupby(contrast.column).size()
        known["n_events_fewest"] = int(arms.min()) if len(arms) else 0
    fmi = {"measure": FMI, "estimate": float(term["fmi"]), "n_dropped_missing": values["n_dropped_missing"]}
    return [known | values | {"measure": IMPUTED}, known | fmi]


def _present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return the pooled ratios with their missing information, and the imputed values."""
    found, values = results_of(masked, "imputed"), masked.get("imputed_values")
    if found is None or values is None:
        return None
    rows = found.rows
    is_fmi = (rows["measure"] == FMI).to_numpy()
    fmi = [
        number_text(value, 2, hidden=hidden)
        for value, hidden in zip(rows["estimate"], found.hidden["estimate"], strict=True)
    ]
    # The share of missing information follows the ratio that it belongs to.
    beside = pd.Series(fmi, index=rows.index).shift(-1)
    table = result_table(
        found,
        about,
        "imputed",
        "Hazard ratios with missing covariates imputed",
        {"Contrast": rows["contrast"], "Model": rows["model"].map(MODEL_WORDS)},
        row_counts(found, about)
        | {INTERVAL: estimate_texts(found), "P": p_texts(found), "Missing information": beside},
        (
            "Chained equations with the exposure, the outcome, the Nelson-Aalen hazard and all covariates; "
            "predictive mean matching for numbers, logistic regression for yes/no and categories; pooled by "
            "Rubin's rules with the degrees of freedom of Barnard and Rubin. It holds where values are missing at "
            "random, given these.",
        ),
        where=~is_fmi,
        sort_by=["Contrast"],
    )
    numbers = {
        name: [
            number_text(one, 1, hidden=hidden)
            for one, hidden in zip(values.rows[name], values.hidden[name], strict=True)
        ]
        for name in ("observed", "imputed")
    }
    cells = pd.DataFrame(
        {
            "Covariate": values.rows["variable"],
            "Known": values.shown("n_known"),
            "Missing": values.shown("n_missing"),
            "Mean of known values": numbers["observed"],
            "Mean of imputed values": numbers["imputed"],
        }
    )
    drawn = ReadTable("imputed_values", "Known and imputed values", cells, 1, ("Of people of the primary outcome.",))
    return Section("imputed", "Missing covariates imputed", (), (table, drawn), tuple(_of_note(rows)))


def _of_note(rows: pd.DataFrame) -> list[str]:
    texts = [text for each in rows["warnings"] for text in str(each).split("; ") if "imputations, and" in text]
    return list(dict.fromkeys(texts))[:1]


TOPIC: Final = Topic("imputation", _aggregates, _present)
