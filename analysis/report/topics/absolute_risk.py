"""Absolute risk at a horizon: calibration, discrimination and accuracy, on held-out people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.disclosure import meanings
from analysis.disclosure.aggregates import Aggregate, Precision, count, label, number, result, results
from analysis.disclosure.masking import NOT_APPLICABLE, Masked
from analysis.report.document import ReadFigure, ReadTable, Section, Topic
from analysis.report.figures.models import calibration, calibration_alt
from analysis.report.words import estimate_texts, of_model, outcomes_and_models, row_labels, side_by_side
from analysis.statistics.columns import TableRefused
from analysis.statistics.design import Covariate
from analysis.statistics.limits import Z95
from analysis.statistics.risk import auc_at, brier_score, calibration_by_group, observed_expected
from analysis.statistics.survival.cause_specific import cumulative_incidences
from analysis.statistics.survival.cox import CoxSamples, fit_cox
from analysis.study.data import About, StudyData
from analysis.study.outcomes import (
    CLUSTER,
    FOLLOW_UP_TIME,
    HOUSEHOLD,
    SEX,
    Model,
    fewest,
    followed,
    without_constant_sex,
)

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
            who = meanings.analysed(outcome, part.model_id, meanings.RISKS)
            rows += [result("absolute_risk", **row, **part.keys(outcome), counted=_counted(who, row)) for row in found]
            tenths += [one.assign(outcome=outcome, model_id=part.model_id) for one in own]
    return [results("absolute_risk", rows), _tenths_aggregate(tenths)]


def _counted(who: meanings.Analysed, row: Mapping[str, Any]) -> meanings.Analysed:
    """Only those who are judged, with their events by the horizon, where there is an estimate."""
    is_judged = row.get("estimate") is not None
    return replace(who, by=row["unit_value"], of_them=(meanings.JUDGED,)) if is_judged else who


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
            number(name, text, "n_people", "n_events", precision=Precision.SHARE)
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


AVERAGED: Final = 4_000
_ROWS_OF_ALL_DRAWS: Final = 25_000_000
_FEWEST_DRAWS: Final = 50
_AGE_SEX: Final = Model(0, "age, sex", ("age_years", SEX))
_NEEDED: Final = ["lvh", "age_years", "sex"]
_COLUMNS: Final = ("participant_id", "event", "status_code", "time_days", "years", CLUSTER, HOUSEHOLD, *_NEEDED)
_MEASURES: Final = ("risk if all had LVH", "risk if none had LVH", "risk difference", "risk ratio")


def _standardised_aggregates(data: StudyData) -> list[Aggregate]:
    """Return the standardised risks of the primary outcome, with bootstrapped errors."""
    rows = [row for part in data.by_prediction_model() for row in _rows(part)]
    return [results("standardised", rows)]


def _rows(data: StudyData) -> list[dict[str, Any]]:
    study, outcome = data.study, data.study.primary_outcome
    table = data.analysed(outcome)
    table = table[[name for name in _COLUMNS if name in table]].drop_duplicates("participant_id")
    complete = table.dropna(subset=_NEEDED).reset_index(drop=True).astype({"sex": "category"})
    model = without_constant_sex(_AGE_SEX, complete)
    at = horizon_years(complete, study.horizon_years)
    arms = complete.groupby("lvh")["event"].sum().reindex([0.0, 1.0], fill_value=0)
    households = HOUSEHOLD in complete
    known = followed(complete, study) | {
        **data.keys(outcome),
        "counted": meanings.analysed(outcome, data.model_id, "what standardising needs", lvh=True),
        "exposure": study.lvh_column,
        "contrast": "LVH",
        "adjustment": model.adjustment,
        "unit": "years",
        "unit_value": at,
        "ties": "",
        "n_events_fewest": fewest(arms),
        "n_dropped_missing": len(table) - len(complete),
        "time_scale": FOLLOW_UP_TIME,
        "se_type": f"bootstrap by {'household' if households else 'person'}",
    }
    try:
        draws = study.bootstrap if arms.min() >= study.masking.k else 0  # it would be hidden
        estimate, errors, n_draws = _standardised(complete, model, at, draws, study.seed)
    except TableRefused as error:
        return [result("standardised", _MEASURES[0], **known, warnings=str(error))]
    rows = []
    for place, measure in enumerate(_MEASURES):
        value, se = float(estimate[place]), float(errors[place])
        half = Z95 * se
        limits = (value * np.exp(-half), value * np.exp(half)) if place != 2 else (value - half, value + half)
        drawn = {"se": se, "lo": float(limits[0]), "hi": float(limits[1])} if n_draws else {}
        told = f"{n_draws} bootstrap samples"
        rows.append(result("standardised", measure, **known, estimate=value, **drawn, level=told))
    return rows


def _standardised(table: pd.DataFrame, model: Model, at: float, draws: int, seed: int) -> tuple[Any, Any, int]:
    """Risks if all and if none had LVH, difference, ratio; errors (of logarithms but the third)."""
    if at <= 0:
        raise TableRefused("fewer than 50 people are followed, expected more for absolute risks")
    rng = np.random.default_rng(seed)
    sample = rng.permutation(len(table))[:AVERAGED]
    models = {
        cause: CoxSamples.of(
            table.assign(event=table["status_code"] == cause),
            duration="years",
            event="event",
            covariates=["lvh", *model.covariates],
        )
        for cause in (1, 2)
    }
    value = _risks(models, np.ones(len(table), dtype=np.int64), table.iloc[sample], at)
    n_draws = min(draws, max(_FEWEST_DRAWS, _ROWS_OF_ALL_DRAWS // len(table))) if draws else 0
    found = []
    for _ in range(n_draws):
        drawn = _drawn(table, rng)
        again = table.iloc[rng.choice(sample, len(sample))]
        try:
            found.append(_risks(models, drawn, again, at))
        except TableRefused:
            continue  # a sample without events in an arm; counted below
    if n_draws and len(found) < 0.95 * n_draws:
        raise TableRefused(
            f"{n_draws - len(found)} of {n_draws} bootstrap samples have no estimate, expected "
            "5 % at most; there are too few events in an arm"
        )
    scaled = [[np.log(a), np.log(b), a - b, np.log(a / b)] for a, b in found]
    errors = np.std(scaled, axis=0, ddof=1) if found else np.full(4, np.nan)
    return np.array([*value, value[0] - value[1], value[0] / value[1]]), errors, len(found)


def _drawn(table: pd.DataFrame, rng: np.random.Generator) -> NDArray[np.int64]:
    """How often each row is in a sample of people, or of households with all their people."""
    if HOUSEHOLD not in table:
        return np.bincount(rng.integers(0, len(table), len(table)), minlength=len(table))
    households = pd.factorize(table[CLUSTER])[0]
    n = int(households.max()) + 1
    return np.bincount(rng.integers(0, n, n), minlength=n)[households]


def _risks(
    models: Mapping[int, CoxSamples], drawn: NDArray[np.int64], people: pd.DataFrame, at: float
) -> tuple[float, float]:
    """Mean risk of the people if all and if none had LVH, by models fitted to a sample."""
    fits = {cause: model.repeated(drawn) for cause, model in models.items()}
    if any(fit.estimates["coef"].isna().any() for fit in fits.values()):
        raise TableRefused("an arm has no event, expected events with and without LVH")
    risks = [float(cumulative_incidences(fits, people.assign(lvh=lvh), [at])[0].mean()) for lvh in (1.0, 0.0)]
    return risks[0], risks[1]


def _present_standardised(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return one table."""
    found = masked.get("results_standardised")
    if found is None or not len(found.rows):
        return None
    labels, rows = row_labels(found, about), found.rows
    cells = pd.DataFrame(
        labels
        | {
            "Measure": rows["measure"],
            "Horizon, years": [f"{value:.3g}" if value else NOT_APPLICABLE for value in rows["unit_value"]],
            "Estimate (95 % interval)": estimate_texts(found, 4),
            "People": found.shown("n_people"),
            "Events": found.shown("n_events"),
        }
    ).reset_index(drop=True)
    drawn = ", ".join(dict.fromkeys(filter(None, rows["level"])))
    notes = (
        "g-formula: cause-specific Cox models of the outcome and of death with LVH, age and sex, "
        "their predicted incidence averaged over the age and sex of the people analysed (at most "
        f"{AVERAGED:,}, drawn at random). Intervals from {drawn or 'no samples'}, "
        "normal on the logarithm (difference: as it is).",
    )
    table = ReadTable(
        "standardised", "Standardised cumulative incidence by predicted LVH", cells, len(labels) + 1, notes
    )
    paragraph = (
        "What the incidence would be were everybody, or nobody, to have predicted LVH, age and sex "
        "staying as they are. Read as a description unless confounding can be excluded."
    )
    return Section("standardised", "Standardised risk", (paragraph,), (table,))


TOPIC: Final = Topic("absolute risk", aggregates, present)
STANDARDISED: Final = Topic("standardised", _standardised_aggregates, _present_standardised)
