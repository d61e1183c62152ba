"""Absolute risk at a horizon: calibration, discrimination and accuracy, on held-out people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.disclosure import meanings
from analysis.disclosure.aggregates import Aggregate, count, label, number, results
from analysis.disclosure.masking import Masked
from analysis.report.document import ReadFigure, ReadTable, Section, Topic
from analysis.report.figures.models import calibration
from analysis.report.topics.tables import (
    MODEL_ID,
    OUTCOME,
    aggregate,
    figures_by_outcome,
    horizon_texts,
    outcomes_and_parts,
    result_table,
    results_about,
    results_of,
    shares,
)
from analysis.report.words import (
    digits_of,
    interval_text,
    of_model,
    percent_interval_text,
    percent_text,
    row_labels,
    side_by_side,
)
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
_COLUMNS: Final = ("participant_id", "event", "status_code", "time_days", "years", CLUSTER, HOUSEHOLD)
# Columns of predicted risks.
_WITHOUT: Final = "risk_without"
_WITH: Final = "risk_with"
AUC: Final = "AUC at the horizon"
_BRIER: Final = "Brier score at the horizon"
_GAIN: Final = ", with less without"
RATIO: Final = "observed over expected risk"
_INCIDENCE: Final = "cumulative incidence at the horizon"


def horizon_years(table: pd.DataFrame, wanted: float) -> float:
    """Return the horizon, shortened to where at least 50 people and 10 % are still at risk."""
    years = np.sort(table["years"].to_numpy())
    needed = max(_FEWEST_AT_RISK, int(np.ceil(_FEWEST_SHARE * len(years))))
    if len(years) < needed:
        return 0.0
    return float(min(wanted, np.floor(years[-needed] * 100) / 100))


def _people(data: StudyData, outcome: str, needed: Sequence[str]) -> tuple[pd.DataFrame, Model, float, dict[str, Any]]:
    """Complete rows, one ECG per person; model of age and sex, horizon, columns of the results."""
    table = data.analysed(outcome)
    table = table[[name for name in (*_COLUMNS, *needed) if name in table]].drop_duplicates("participant_id")
    complete = table.dropna(subset=list(needed)).reset_index(drop=True).astype({"sex": "category"})
    at = horizon_years(complete, data.study.horizon_years)
    known = followed(complete, data.study) | {
        "unit": "years",
        "unit_value": at,
        "ties": "",
        "n_dropped_missing": len(table) - len(complete),
        "time_scale": FOLLOW_UP_TIME,
    }
    return complete, without_constant_sex(_BASE, complete), at, known


def _aggregates(data: StudyData) -> list[Aggregate]:
    """Return accuracy of the risks with and without the ECG, and calibration by tenth."""
    rows: list[dict[str, Any]] = []
    tenths: list[pd.DataFrame] = []
    for outcome, part in outcomes_and_parts(data):
        found, own = _judged(part, outcome)
        for row in results_about(outcome, "absolute_risk", part, found, meanings.RISKS):
            # Where there is an estimate: people who are judged, and their events by the horizon.
            is_judged = row["estimate"] is not None
            judged: dict[str, Any] = {"by": row["unit_value"], "of_them": (meanings.JUDGED,)} if is_judged else {}
            rows.append(row | {"counted": replace(row["counted"], **judged)})
        tenths += [one.assign(outcome=outcome, model_id=part.model_id) for one in own]
    columns = (
        OUTCOME,
        MODEL_ID,
        label("horizon_years", "horizon of the risk"),
        label("group", "tenth of predicted risk, from 1"),
        count("n_people", "people of the tenth"),
        count("n_events", "with the outcome by the horizon"),
        number("predicted", "mean predicted risk, 0 to 1", "n_people", "n_events"),
        *shares({"observed": "cumulative incidence (Aalen-Johansen)"}, "n_people", "n_events"),
    )
    together = ("outcome", "model_id")
    calibrated = aggregate("calibration", tenths, columns, meanings.calibration, together=together)
    return [results("absolute_risk", rows), calibrated]


def _judged(data: StudyData, outcome: str) -> tuple[list[dict[str, Any]], list[pd.DataFrame]]:
    complete, base, at, known = _people(data, outcome, ("exposure", "age_years", "sex"))
    known |= {"exposure": data.study.exposure, "se_type": ""}
    try:
        predicted = _held_out(complete, base, at, data.study.seed)
        words = {_WITHOUT: base.adjustment, _WITH: f"{base.adjustment}, exposure"}
        return _accuracy(predicted, at, known, words), [_tenths(predicted, at)]
    except TableRefused as error:
        return [known | {"measure": AUC, "warnings": str(error)}], []


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
) -> NDArray[np.float64]:
    """Cause-specific models of the outcome and of death combined (Benichou and Gail 1990)."""
    options: dict[str, Any] = {"duration": "years", "event": "event", "covariates": list(covariates)}
    fits = {cause: fit_cox(others.assign(event=others["status_code"] == cause), **options) for cause in (1, 2)}
    return np.asarray(cumulative_incidences(fits, own, [at])[0, :, 0])


def _accuracy(table: pd.DataFrame, at: float, known: dict[str, Any], words: Mapping[str, str]) -> list[dict[str, Any]]:
    options: dict[str, Any] = {"duration": "years", "event": "status_code", "risk": list(words), "at": at}
    auc, brier = auc_at(table, **options), brier_score(table, **options)
    ratio = observed_expected(table, **options)
    known = known | {
        "n_people": len(table),
        "n_ecgs": len(table),
        "n_events": auc.n_events,
        "se_type": "influence of each person",
    }
    rows = []
    for measure, found, name in ((AUC, auc, "auc"), (_BRIER, brier, "brier")):
        for row in found.estimates.to_dict("records"):
            values = {"estimate": row[name], "se": row["se"], "lo": row[f"{name}_lo"], "hi": row[f"{name}_hi"]}
            rows.append(values | {"measure": measure, "adjustment": words[row["model"]]})
        # Without a P value: one model is nested in the other, and the likelihood ratio is the test.
        last = found.differences.iloc[-1]
        lo, hi = -last["difference_hi"], -last["difference_lo"]
        values = {"estimate": -last["difference"], "se": last["se"], "lo": lo, "hi": hi}
        rows.append(values | {"measure": f"{measure}{_GAIN}", "adjustment": "difference"})
    rows = [known | row for row in rows]
    known = known | {"se_type": "of the observed risk (Aalen-Johansen)"}
    for row in ratio.estimates.to_dict("records"):
        values = {"estimate": row["ratio"], "lo": row["ratio_lo"], "hi": row["ratio_hi"]}
        rows.append(known | values | {"measure": RATIO, "adjustment": words[row["model"]]})
    first = ratio.estimates.iloc[0]
    names = {"estimate": "observed", "se": "observed_se", "lo": "observed_lo", "hi": "observed_hi"}
    observed = {column: first[its] for column, its in names.items()}
    return [*rows, known | observed | {"measure": _INCIDENCE, "precision": "share"}]


def _tenths(table: pd.DataFrame, at: float) -> pd.DataFrame:
    found = calibration_by_group(table, duration="years", event="status_code", risk=_WITH, at=at).estimates
    names = {"n": "n_people", "expected": "predicted", "observed_lo": "lo", "observed_hi": "hi"}
    return found.rename(columns=names).assign(horizon_years=at)


def _present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return the accuracy table and the calibration figures."""
    found = results_of(masked, "absolute_risk")
    if found is None:
        return None
    labels = row_labels(found, about)
    rows = found.rows.assign(
        **labels,
        text=[_text(found, place) for place in found.rows.index],
        People=found.shown("n_people"),
        Events=found.shown("n_events"),
        Measure=found.rows["measure"].str.removesuffix(_GAIN),
        Horizon=horizon_texts(found),
        Model=found.rows["adjustment"].str.replace("exposure", about.exposure_name),
    )
    cells = side_by_side(rows, by=[*labels, "Horizon", "People", "Events", "Measure"], over="Model", values=["text"])
    values = [name for name in cells if name not in (*labels, "Measure", "Horizon")]
    cells = cells[[*labels, "Measure", "Horizon", *values]]
    cells = cells.rename(columns={"Horizon": "Horizon, years", "": "Observed"})
    notes = (
        "Risks combine cause-specific Cox models of the outcome and of death (Benichou and Gail "
        "1990), fitted to one half of the people and judged on the other, both ways. At most "
        f"{MOST_PEOPLE:,} people, drawn at random, are judged, whether other covariates are known "
        "or not.",
        "Cases have the outcome by the horizon; everybody else without censoring is a control, "
        "competing events included; weights for censoring. Observed risk is Aalen and Johansen's.",
        "Differences have no P value: one model is nested in the other, and the test is under "
        "What the ECG adds. One ECG per person, time since the index ECG; errors take people as "
        "independent.",
    )
    table = ReadTable("absolute_risk", "Accuracy of predicted absolute risk", cells, len(labels) + 1, notes)
    figures = figures_by_outcome(masked["calibration"], about, _calibration_figure)
    return Section("absolute_risk", "Absolute risk", (), (table, *figures))


def _text(found: Masked, place: Any) -> str:
    """An estimate with limits: a risk in per cent, all else with as many digits as it needs."""
    row, hidden = found.rows.loc[place], bool(found.hidden.loc[place, "estimate"])
    measure = str(row["measure"])
    if not hidden and pd.notna(row["estimate"]) and (measure == _INCIDENCE or measure.startswith("risk if")):
        if pd.isna(row["lo"]) or pd.isna(row["hi"]):
            return percent_text(row["estimate"], 2)
        return percent_interval_text(row["estimate"], row["lo"], row["hi"], 2)
    estimate, lo, hi = (float(row[name]) if pd.notna(row[name]) else np.nan for name in ("estimate", "lo", "hi"))
    digits = 3 if measure.startswith(AUC) else digits_of(estimate, lo, hi)
    return interval_text(dict(row), digits, hidden=hidden)


def _calibration_figure(rows: pd.DataFrame, outcome: str, model: str, key: str) -> ReadFigure | None:
    if not len(rows) or rows["observed"].isna().all():
        return None
    at = float(rows["horizon_years"].iloc[0])
    title = f"Calibration of the {at:.3g}-year risk of {outcome}{of_model(model)}, held-out people"
    drawn = calibration(rows, horizon_years=at)
    notes = ("Tenths of predicted risk; those with few events are hidden.",)
    return ReadFigure(f"calibration{key}", title, drawn.alt, drawn.canvas, notes)


# Standardised risk: what the incidence would be if everybody, or nobody, had LVH.

AVERAGED: Final = 4_000
_ROWS_OF_ALL_DRAWS: Final = 25_000_000
_FEWEST_DRAWS: Final = 50
_MEASURES: Final = ("risk if all had LVH", "risk if none had LVH", "risk difference", "risk ratio")


def _standardised_aggregates(data: StudyData) -> list[Aggregate]:
    """Return the standardised risks of the primary outcome, with bootstrapped errors."""
    rows = []
    for part in data.by_prediction_model():
        found = _standardised_rows(part)
        rows += results_about(data.study.primary_outcome, "standardised", part, found, "what standardising needs")
    return [results("standardised", rows)]


def _standardised_rows(data: StudyData) -> list[dict[str, Any]]:
    study = data.study
    complete, model, at, known = _people(data, study.primary_outcome, ("lvh", "age_years", "sex"))
    arms = complete.groupby("lvh")["event"].sum().reindex([0.0, 1.0], fill_value=0)
    known |= {
        "exposure": study.lvh_column,
        "contrast": "LVH",
        "adjustment": model.adjustment,
        "n_events_fewest": fewest(arms),
        "se_type": f"bootstrap by {'household' if HOUSEHOLD in complete else 'person'}",
    }
    try:
        draws = study.bootstrap if arms.min() >= study.masking.k else 0  # it would be hidden
        estimate, errors, n_draws = _standardised(complete, model, at, draws, study.seed)
    except TableRefused as error:
        return [known | {"measure": _MEASURES[0], "warnings": str(error)}]
    rows = []
    for place, measure in enumerate(_MEASURES):
        value, se = float(estimate[place]), float(errors[place])
        half = Z95 * se
        limits = (value * np.exp(-half), value * np.exp(half)) if place != 2 else (value - half, value + half)
        drawn = {"se": se, "lo": float(limits[0]), "hi": float(limits[1])} if n_draws else {}
        rows.append(known | drawn | {"measure": measure, "estimate": value, "level": f"{n_draws} bootstrap samples"})
    return rows


def _standardised(table: pd.DataFrame, model: Model, at: float, draws: int, seed: int) -> tuple[Any, Any, int]:
    """Risks if all and if none had LVH, difference, ratio; errors (of logarithms but the third)."""
    if at <= 0:
        raise TableRefused("fewer than 50 people are followed, expected more for absolute risks")
    rng = np.random.default_rng(seed)
    sample = rng.permutation(len(table))[:AVERAGED]
    options: dict[str, Any] = {"duration": "years", "event": "event", "covariates": ["lvh", *model.covariates]}
    models = {cause: CoxSamples.of(table.assign(event=table["status_code"] == cause), **options) for cause in (1, 2)}
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
    """Return one table: a row per measure, at the horizon."""
    found = results_of(masked, "standardised")
    if found is None:
        return None
    rows = found.rows
    drawn = ", ".join(dict.fromkeys(filter(None, rows["level"])))
    notes = (
        "g-formula: cause-specific Cox models of the outcome and of death with LVH, age and sex, "
        "their predicted incidence averaged over the age and sex of the people analysed (at most "
        f"{AVERAGED:,}, drawn at random). Intervals from {drawn or 'no samples'}, "
        "normal on the log scale, and on the linear scale for the difference.",
    )
    table = result_table(
        found,
        about,
        "standardised",
        "Standardised cumulative incidence by predicted LVH",
        {"Measure": rows["measure"]},
        {
            "Horizon, years": horizon_texts(found),
            "Estimate (95% CI)": [_text(found, place) for place in rows.index],
            "People": found.shown("n_people"),
            "Events": found.shown("n_events"),
        },
        notes,
    )
    paragraph = (
        "The incidence if everybody, or nobody, had predicted LVH and the same age and sex as now. "
        "Read it as a description unless confounding can be excluded."
    )
    return Section("standardised", "Standardised risk", (paragraph,), (table,))


TOPIC: Final = Topic("absolute risk", _aggregates, _present)
STANDARDISED: Final = Topic("standardised", _standardised_aggregates, _present_standardised)
