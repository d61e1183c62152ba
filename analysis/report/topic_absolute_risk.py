"""Absolute risk at a horizon: calibration, discrimination and accuracy, on held-out people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.columns import TableRefused
from analysis.competing import cumulative_incidences
from analysis.cox import fit_cox
from analysis.design import Covariate
from analysis.outcome_models import SEX, Model, without_constant_sex
from analysis.outcome_rows import FOLLOW_UP_TIME, followed
from analysis.report import meanings
from analysis.report.aggregates import Aggregate, Told, count, label, number, result, results
from analysis.report.document import About, ReadFigure, ReadTable, Section
from analysis.report.figure_calibration import calibration, calibration_alt
from analysis.report.masking import NOT_APPLICABLE, Masked
from analysis.report.study_data import StudyData
from analysis.report.words import estimate_texts, of_model, outcomes_and_models, row_labels, side_by_side
from analysis.risk import auc_at, brier_score, calibration_by_group, observed_expected

# The most people whose risk is predicted: each needs the hazards of every event time.
MOST_PEOPLE: Final = 40_000
_FOLDS: Final = 2
_FEWEST_AT_RISK: Final = 50
_FEWEST_SHARE: Final = 0.1
_BASE: Final = Model(0, "age, sex", ("age_years", SEX))
# Columns of predicted risks.
_WITHOUT: Final = "risk_without"
_WITH: Final = "risk_with"
_INFLUENCE: Final = "influence of each person"
_OF_AALEN_JOHANSEN: Final = "of the observed risk (Aalen-Johansen)"
_AUC: Final = "AUC at the horizon"
_BRIER: Final = "Brier score at the horizon"
_GAIN: Final = ", with less without"
_RATIO: Final = "observed over expected risk"
_INCIDENCE: Final = "cumulative incidence at the horizon"


def horizon_years(table: pd.DataFrame, wanted: float) -> float:
    """Return the horizon, shortened to where at least 50 people and 10 % are still at risk."""
    years = np.sort(table["years"].to_numpy())
    needed = max(_FEWEST_AT_RISK, int(np.ceil(_FEWEST_SHARE * len(years))))
    if len(years) < needed:
        return 0.0
    return float(min(wanted, np.floor(years[-needed] * 100) / 100))


def aggregates(data: StudyData) -> list[Aggregate]:
    """Return accuracy of the risks with and without the ECG, and calibration by tenth."""
    rows: list[dict[str, Any]] = []
    tenths: list[pd.DataFrame] = []
    for outcome in (one.name for one in data.study.outcomes):
        for part in data.by_prediction_model():
            found, own = _judged(part, outcome)
            rows += [result("absolute_risk", **row, **part.keys(outcome)) for row in found]
            tenths += [one.assign(outcome=outcome, model_id=part.model_id) for one in own]
    return [results("absolute_risk", rows), _tenths_aggregate(tenths)]


def _judged(data: StudyData, outcome: str) -> tuple[list[dict[str, Any]], list[pd.DataFrame]]:
    needed = ["exposure", "age_years", "sex"]
    table = data.analysed(outcome)
    kept = ["participant_id", "event", "status_code", "time_days", "years", *needed]
    table = table[kept].drop_duplicates("participant_id")
    complete = table.dropna(subset=needed).reset_index(drop=True).astype({"sex": "category"})
    at = horizon_years(complete, data.study.horizon_years)
    # One ECG a person, and time since the ECG whatever the scale of the Cox models.
    known = followed(complete, data.study) | {
        "exposure": data.study.exposure,
        "unit": "years",
        "unit_value": at,
        "ties": "",
        "n_dropped_missing": len(table) - len(complete),
        "se_type": "",
        "time_scale": FOLLOW_UP_TIME,
    }
    try:
        base = without_constant_sex(_BASE, complete)
        predicted = _held_out(complete, base, at, data.study.seed)
        words = {_WITHOUT: base.adjustment, _WITH: f"{base.adjustment}, exposure"}
        return _accuracy(predicted, at, known, words), [_tenths(predicted, at)]
    except TableRefused as error:
        return [known | {"measure": _AUC, "warnings": str(error)}], []


def _held_out(table: pd.DataFrame, base: Model, at: float, seed: int) -> pd.DataFrame:
    """Predict everybody's risk, or that of a sample, by models fitted to the other half."""
    if at <= 0:
        raise TableRefused(f"fewer than {_FEWEST_AT_RISK} people are followed, expected more for absolute risks")
    models = {_WITHOUT: base.covariates, _WITH: ("exposure", *base.covariates)}
    rng = np.random.default_rng(seed)
    fold = rng.permutation(np.arange(len(table)) % _FOLDS)
    chosen = rng.permutation(len(table)) < MOST_PEOPLE
    parts = []
    for left_out in range(_FOLDS):
        others = table[fold != left_out].reset_index(drop=True)
        own = table[(fold == left_out) & chosen].reset_index(drop=True)
        risks = {name: _risk(others, own, covariates, at) for name, covariates in models.items()}
        parts.append(own[["participant_id", "years", "status_code"]].assign(**risks))
    return pd.DataFrame(pd.concat(parts, ignore_index=True))


def _risk(
    others: pd.DataFrame, own: pd.DataFrame, covariates: Sequence[str | Covariate], at: float
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Cause-specific models of the outcome and of death combined (Benichou and Gail 1990)."""
    fits = {
        cause: fit_cox(
            others.assign(event=others["status_code"] == cause),
            duration="years",
            event="event",
            covariates=list(covariates),
        )
        for cause in (1, 2)
    }
    return np.asarray(cumulative_incidences(fits, own, [at])[0, :, 0])


def _accuracy(table: pd.DataFrame, at: float, known: dict[str, Any], words: Mapping[str, str]) -> list[dict[str, Any]]:
    options: dict[str, Any] = {"duration": "years", "event": "status_code", "risk": list(words), "at": at}
    auc, brier = auc_at(table, **options), brier_score(table, **options)
    ratio = observed_expected(table, **options)
    known = known | {"n_people": len(table), "n_ecgs": len(table), "n_events": auc.n_events, "se_type": _INFLUENCE}
    rows = []
    for measure, found, name in ((_AUC, auc, "auc"), (_BRIER, brier, "brier")):
        for row in found.estimates.to_dict("records"):
            values = {"estimate": row[name], "se": row["se"], "lo": row[f"{name}_lo"], "hi": row[f"{name}_hi"]}
            rows.append(_row(measure, words[row["model"]], known, values))
        # Without a P value: one model is nested in the other, and the likelihood ratio is the test.
        last = found.differences.iloc[-1]
        values = {
            "estimate": -last["difference"],
            "se": last["se"],
            "lo": -last["difference_hi"],
            "hi": -last["difference_lo"],
        }
        rows.append(_row(f"{measure}{_GAIN}", "difference", known, values))
    known = known | {"se_type": _OF_AALEN_JOHANSEN}
    for row in ratio.estimates.to_dict("records"):
        values = {"estimate": row["ratio"], "lo": row["ratio_lo"], "hi": row["ratio_hi"]}
        rows.append(_row(_RATIO, words[row["model"]], known, values))
    first = ratio.estimates.iloc[0]
    values = {
        "estimate": first["observed"],
        "se": first["observed_se"],
        "lo": first["observed_lo"],
        "hi": first["observed_hi"],
    }
    return [*rows, _row(_INCIDENCE, "", known | {"precision": "share"}, values)]


def _row(measure: str, model: str, known: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    numbers = {name: float(value) for name, value in values.items()}
    return known | numbers | {"measure": measure, "adjustment": model}


def _tenths(table: pd.DataFrame, at: float) -> pd.DataFrame:
    found = calibration_by_group(table, duration="years", event="status_code", risk=_WITH, at=at).estimates
    return pd.DataFrame(
        {
            "horizon_years": at,
            "group": found["group"],
            "n_people": found["n"],
            "n_events": found["n_events"],
            "predicted": found["expected"],
            "observed": found["observed"],
            "lo": found["observed_lo"],
            "hi": found["observed_hi"],
        }
    )


def _tenths_aggregate(tenths: list[pd.DataFrame]) -> Aggregate:
    columns = (
        label("outcome", "of the code list"),
        label("model_id", "of the predictions where they are of several"),
        label("horizon_years", "horizon of the risk"),
        label("group", "tenth of predicted risk, from 1"),
        count("n_people", "people of the tenth"),
        count("n_events", "with the outcome by the horizon"),
        number("predicted", "mean predicted risk, 0 to 1", "n_people", "n_events"),
        *(
            number(name, text, "n_people", "n_events", told=Told.SHARE)
            for name, text in (
                ("observed", "cumulative incidence (Aalen-Johansen)"),
                ("lo", "lower 95 % limit"),
                ("hi", "upper 95 % limit"),
            )
        ),
    )
    names = [column.name for column in columns]
    table = pd.concat(tenths)[names] if tenths else pd.DataFrame(columns=names)
    table = table.reset_index(drop=True)
    return Aggregate(
        "calibration", table, columns, together=("outcome", "model_id"), counts=meanings.calibration(table)
    )


def present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return the accuracy table and the calibration figures."""
    found = masked.get("results_absolute_risk")
    if found is None or not len(found.rows):
        return None
    labels = row_labels(found, about)
    rows = found.rows.assign(
        **labels,
        text=estimate_texts(found, 4),
        People=found.shown("n_people"),
        Events=found.shown("n_events"),
        Measure=found.rows["measure"].str.removesuffix(_GAIN),
        Horizon=[f"{value:.3g}" if value else NOT_APPLICABLE for value in found.rows["unit_value"]],
        Model=found.rows["adjustment"].str.replace("exposure", about.exposure_name),
    )
    cells = side_by_side(rows, by=[*labels, "Horizon", "People", "Events", "Measure"], over="Model", values=["text"])
    cells = cells.rename(columns={"Horizon": "Horizon, years", "": "Observed"})
    notes = (
        "Risks combine cause-specific Cox models of the outcome and of death (Benichou and Gail "
        "1990), fitted to one half of the people and judged on the other, both ways. At most "
        f"{MOST_PEOPLE:,} people, drawn at random, are judged, whether other covariates are known "
        "or not.",
        "Cases have the outcome by the horizon; everybody else without censoring is a control, "
        "competing events included; weights for censoring. Observed risk is Aalen and Johansen's.",
        "Differences have no P value: one model is nested in the other, and the test is under "
        "What the ECG adds. One ECG a person, time since the index ECG; errors take people as "
        "independent.",
    )
    table = ReadTable("absolute_risk", "Accuracy of predicted absolute risk", cells, len(labels) + 1, notes)
    tenths = masked["calibration"]
    figures = [
        figure for one in outcomes_and_models(tenths, about) if (figure := _figure(tenths, about, *one)) is not None
    ]
    return Section("absolute_risk", "Absolute risk", (), (table, *figures))


def _figure(tenths: Masked, about: About, outcome: str, model: str, key: str) -> ReadFigure | None:
    is_own = (tenths.rows["outcome"] == outcome) & (tenths.rows["model_id"] == model)
    rows = tenths.rows[is_own].reset_index(drop=True)
    if not len(rows) or rows["observed"].isna().all():
        return None
    at = float(rows["horizon_years"].iloc[0])
    words = f"{about.outcomes[outcome]}{of_model(model)}"
    title = f"Calibration of the {at:.3g}-year risk of {words}, held-out people"
    options: dict[str, Any] = {"horizon_years": at, "title": ""}
    return ReadFigure(
        f"calibration{key}",
        title,
        calibration_alt(rows, **options),
        calibration(rows, **options),
        ("Tenths of predicted risk; those with few events are hidden.",),
    )
