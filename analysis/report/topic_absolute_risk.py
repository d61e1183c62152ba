"""Absolute risk at a horizon: calibration, discrimination and accuracy, on held-out people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.columns import TableRefused
from analysis.competing import predict_cumulative_incidence
from analysis.cox import fit_cox
from analysis.design import Covariate
from analysis.outcome_models import SEX, followed
from analysis.report.aggregates import Aggregate, count, label, number, result, results
from analysis.report.document import About, ReadFigure, ReadTable, Section
from analysis.report.figure_calibration import calibration, calibration_alt
from analysis.report.masking import Masked
from analysis.report.study_data import StudyData
from analysis.report.words import estimate_texts, p_texts, side_by_side
from analysis.risk import auc_at, brier_score, calibration_by_group, observed_expected

# The most people whose risk is predicted: each needs the hazards of every event time.
MOST_PEOPLE: Final = 40_000
_FOLDS: Final = 2
_FEWEST_AT_RISK: Final = 50
_FEWEST_SHARE: Final = 0.1
_BASE: Final[tuple[str | Covariate, ...]] = ("age_years", SEX)
_MODELS: Final = {
    "age, sex": _BASE,
    "age, sex, exposure": ("exposure", *_BASE),
}
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
        table = data.analysed(outcome).drop_duplicates("participant_id")
        complete = table.dropna(subset=["exposure", "age_years", "sex"]).reset_index(drop=True)
        at = horizon_years(complete, data.study.horizon_years)
        known = followed(complete, data.study) | {
            "outcome": outcome, "primary": outcome == data.study.primary_outcome,
            "exposure": data.study.exposure, "unit": "years", "unit_value": at,
            "n_dropped_missing": len(table) - len(complete), "ties": "",
        }  # fmt: skip
        try:
            predicted = _held_out(complete, at, data.study.seed)
            rows += _accuracy(predicted, at, known)
            tenths.append(_tenths(predicted, at, outcome))
        except TableRefused as error:
            rows.append(result("absolute_risk", _AUC, **known, warnings=str(error)))
    return [results("absolute_risk", rows), _tenths_aggregate(tenths)]


def _held_out(table: pd.DataFrame, at: float, seed: int) -> pd.DataFrame:
    """Predict everybody's risk, or that of a sample, by models fitted to the other half."""
    if at <= 0:
        raise TableRefused(
            f"fewer than {_FEWEST_AT_RISK} people are followed, expected more for absolute risks"
        )
    rng = np.random.default_rng(seed)
    fold = rng.permutation(np.arange(len(table)) % _FOLDS)
    chosen = rng.permutation(len(table)) < MOST_PEOPLE
    parts = []
    for left_out in range(_FOLDS):
        others = table[fold != left_out].reset_index(drop=True)
        own = table[(fold == left_out) & chosen].reset_index(drop=True)
        risks = {name: _risk(others, own, covariates, at) for name, covariates in _MODELS.items()}
        parts.append(own[["participant_id", "years", "status_code"]].assign(**risks))
    return pd.DataFrame(pd.concat(parts, ignore_index=True))


def _risk(
    others: pd.DataFrame, own: pd.DataFrame, covariates: Sequence[str | Covariate], at: float
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Cause-specific models of the outcome and of death combined (Benichou and Gail 1990)."""
    fits = {
        cause: fit_cox(
            others.assign(event=others["status_code"] == cause), duration="years", event="event",
            covariates=list(covariates),
        )
        for cause in (1, 2)
    }  # fmt: skip
    found = predict_cumulative_incidence(fits, own, [at])
    return np.asarray(found.loc[found["cause"] == 1, "cumulative_incidence"])


def _accuracy(table: pd.DataFrame, at: float, known: dict[str, Any]) -> list[dict[str, Any]]:
    options: dict[str, Any] = {
        "duration": "years", "event": "status_code", "risk": list(_MODELS), "at": at,
    }  # fmt: skip
    auc, brier = auc_at(table, **options), brier_score(table, **options)
    ratio = observed_expected(table, **options)
    known = known | {"n_people": len(table), "n_ecgs": len(table), "n_events": auc.n_events}
    rows = []
    for measure, found, name in ((_AUC, auc, "auc"), (_BRIER, brier, "brier")):
        for row in found.estimates.to_dict("records"):
            values = {"estimate": row[name], "se": row["se"], "lo": row[f"{name}_lo"],
                      "hi": row[f"{name}_hi"]}  # fmt: skip
            rows.append(_row(measure, row["model"], known | values))
        last = found.differences.iloc[-1]
        values = {"estimate": -last["difference"], "se": last["se"], "lo": -last["difference_hi"],
                  "hi": -last["difference_lo"], "p": last["p"]}  # fmt: skip
        rows.append(_row(f"{measure}{_GAIN}", "difference", known | values))
    for row in ratio.estimates.to_dict("records"):
        values = {"estimate": row["ratio"], "lo": row["ratio_lo"], "hi": row["ratio_hi"]}
        rows.append(_row(_RATIO, row["model"], known | values))
    first = ratio.estimates.iloc[0]
    values = {"estimate": first["observed"], "se": first["observed_se"],
              "lo": first["observed_lo"], "hi": first["observed_hi"]}  # fmt: skip
    return [*rows, _row(_INCIDENCE, "", known | values)]


def _row(measure: str, model: str, values: dict[str, Any]) -> dict[str, Any]:
    numbers = {name: float(values[name]) for name in ("estimate", "se", "lo", "hi", "p")
               if values.get(name) is not None}  # fmt: skip
    return result("absolute_risk", measure, **(values | numbers | {"adjustment": model}))


def _tenths(table: pd.DataFrame, at: float, outcome: str) -> pd.DataFrame:
    found = calibration_by_group(
        table, duration="years", event="status_code", risk="age, sex, exposure", at=at
    ).estimates
    return pd.DataFrame(
        {
            "outcome": outcome, "horizon_years": at, "group": found["group"],
            "n_people": found["n"], "n_events": found["n_events"], "predicted": found["expected"],
            "observed": found["observed"], "lo": found["observed_lo"], "hi": found["observed_hi"],
        }
    )  # fmt: skip


def _tenths_aggregate(tenths: list[pd.DataFrame]) -> Aggregate:
    columns = (
        label("outcome", "of the code list"),
        label("horizon_years", "horizon of the risk"),
        label("group", "tenth of predicted risk, from 1"),
        count("n_people", "people of the tenth"),
        count("n_events", "with the outcome by the horizon"),
        number("predicted", "mean predicted risk, 0 to 1", "n_people", "n_events"),
        number("observed", "cumulative incidence (Aalen-Johansen)", "n_people", "n_events"),
        number("lo", "lower 95 % limit", "n_people", "n_events"),
        number("hi", "upper 95 % limit", "n_people", "n_events"),
    )
    names = [column.name for column in columns]
    table = pd.concat(tenths)[names] if tenths else pd.DataFrame(columns=names)
    return Aggregate("calibration", table.reset_index(drop=True), columns)


def present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return the accuracy table and the calibration figures."""
    found = masked.get("results_absolute_risk")
    if found is None or not len(found.rows):
        return None
    rows = found.rows.assign(
        text=estimate_texts(found, 4), P=p_texts(found), People=found.shown("n_people"),
        Events=found.shown("n_events"), Outcome=found.rows["outcome"].map(about.outcomes),
        Measure=found.rows["measure"].str.removesuffix(_GAIN),
        Horizon=[f"{value:.3g}" for value in found.rows["unit_value"]],
        Model=found.rows["adjustment"].str.replace("exposure", about.exposure_name),
    )  # fmt: skip
    cells = side_by_side(rows, by=["Outcome", "Horizon", "People", "Events", "Measure"],
                         over="Model", values=["text", "P"])  # fmt: skip
    cells = _tidied(cells)
    notes = (
        "Risks combine cause-specific Cox models of the outcome and of death (Benichou and Gail "
        "1990), fitted to one half of the people and judged on the other, both ways. At most "
        f"{MOST_PEOPLE:,} people, drawn at random, are judged.",
        "Cases have the outcome by the horizon; everybody else without censoring is a control, "
        "competing events included; weights for censoring. Observed risk is Aalen and Johansen's.",
    )
    table = ReadTable("absolute_risk", "Accuracy of predicted absolute risk", cells, 5, notes)
    figures = [f for name in about.outcomes if (f := _figure(masked["calibration"], about, name))]
    return Section("absolute_risk", "Absolute risk", (), (table, *figures))


def _tidied(cells: pd.DataFrame) -> pd.DataFrame:
    """Without columns of P values that no model has, and with short names."""
    kept = [name for name in map(str, cells) if not name.endswith(": P") or name == "difference: P"]
    names = {"Horizon": "Horizon, years", "difference: P": "P of the difference"}
    tidy = cells[kept].rename(columns=names)
    tidy.columns = pd.Index([str(name).removesuffix(": text") or "Observed" for name in tidy])
    return tidy


def _figure(tenths: Masked, about: About, outcome: str) -> ReadFigure | None:
    rows = tenths.rows[tenths.rows["outcome"] == outcome].reset_index(drop=True)
    if not len(rows) or rows["observed"].isna().all():
        return None
    at = float(rows["horizon_years"].iloc[0])
    title = f"Calibration of the {at:.3g}-year risk of {about.outcomes[outcome]}, held-out people"
    options: dict[str, Any] = {"horizon_years": at, "title": ""}
    return ReadFigure(f"calibration_{outcome}", title, calibration_alt(rows, **options),
                      calibration(rows, **options),
                      ("Tenths of predicted risk; those with few events are hidden.",))  # fmt: skip
