"""Absolute risk at a horizon: calibration, discrimination and accuracy, on held-out people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

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
    not_drawn,
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
from analysis.statistics.limits import Z95, logit_limits
from analysis.statistics.risk import auc_at, brier_score, calibration_by_group, decision_curve, observed_expected
from analysis.statistics.risk.decision_curve import TREAT_ALL
from analysis.statistics.survival.cause_specific import cumulative_incidences
from analysis.statistics.survival.cox import CoxSamples, fit_cox
from analysis.statistics.survival.cox_fit import few_events
from analysis.study.data import About, StudyData
from analysis.study.outcomes import (
    CLUSTER,
    FOLLOW_UP_TIME,
    HOUSEHOLD,
    SEX,
    Model,
    columns_of,
    fewest,
    followed,
    without_constant_sex,
)

# The most people whose risk is predicted: each needs the hazards of every event time.
MOST_PEOPLE: Final = 40_000
# People up to which there are so many repeats of so many folds; many people need fewer.
_SPLITS: Final = ((20_000, 5, 5), (100_000, 3, 5), (np.inf, 2, 2))
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
NET_BENEFIT: Final = "net benefit, risk at or above"
_THRESHOLDS: Final = (0.01, 0.02, 0.05, 0.1, 0.2)
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
    models = {_WITHOUT: base.covariates, _WITH: ("exposure", *base.covariates)}
    words = {_WITHOUT: base.adjustment, _WITH: f"{base.adjustment}, exposure"}
    try:
        repeats = _held_out(complete, models, at, data.study.seed)
        few = few_events(int((complete["event"] & (complete["years"] <= at)).sum()), len(base.covariates) + 1)
        predicted = _averaged(repeats, list(models))
        rows = _accuracy(repeats, predicted, at, known | {"warnings": "; ".join(few)}, words)
        return rows, [_tenths(predicted, at)]
    except TableRefused as error:
        return [known | {"measure": AUC, "warnings": str(error)}], []


def _held_out(
    table: pd.DataFrame, models: Mapping[str, Sequence[str | Covariate]], at: float, seed: int
) -> list[pd.DataFrame]:
    """Predict everybody's risk, or that of a sample, by models fitted to the others.

    Each repeat parts the people into other folds. The same people are judged in all of them.
    """
    if at <= 0:
        raise TableRefused(f"fewer than {_FEWEST_AT_RISK} people are followed, expected more for absolute risks")
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(table)) < MOST_PEOPLE
    repeats, folds = next((times, parts) for most, times, parts in _SPLITS if len(table) <= most)
    return [
        _held_out_once(table, models, at, rng.permutation(np.arange(len(table)) % folds), chosen)
        for _ in range(repeats)
    ]


def _held_out_once(
    table: pd.DataFrame,
    models: Mapping[str, Sequence[str | Covariate]],
    at: float,
    fold: NDArray[np.int64],
    chosen: NDArray[np.bool_],
) -> pd.DataFrame:
    parts = []
    for left_out in np.unique(fold):
        others = table[fold != left_out].reset_index(drop=True)
        own = table[(fold == left_out) & chosen]
        risks = {name: _risk(others, own, covariates, at) for name, covariates in models.items()}
        parts.append(own[["participant_id", "years", "status_code"]].assign(**risks))
    return pd.DataFrame(pd.concat(parts).sort_index())


def _risk(
    others: pd.DataFrame, own: pd.DataFrame, covariates: Sequence[str | Covariate], at: float
) -> NDArray[np.float64]:
    """Cause-specific models of the outcome and of death combined (Benichou and Gail 1990)."""
    options: dict[str, Any] = {"duration": "years", "event": "event", "covariates": list(covariates)}
    # Nobody may have died, as where death is the outcome; nobody with the outcome is refused.
    causes = [1, *([2] if (others["status_code"] == 2).any() else [])]
    fits = {cause: fit_cox(others.assign(event=others["status_code"] == cause), **options) for cause in causes}
    return np.asarray(cumulative_incidences(fits, own, [at])[0, :, 0])


def _averaged(repeats: Sequence[pd.DataFrame], risks: Sequence[str]) -> pd.DataFrame:
    """The mean risk of each person over the repeats, each by models without the person."""
    means = np.mean([one[risks].to_numpy() for one in repeats], axis=0)
    return repeats[0].assign(**dict(zip(risks, means.T, strict=True)))


def _over_repeats(values: Sequence[float], errors: Sequence[float]) -> tuple[float, float]:
    """Return the mean of an estimate over repeats of cross-fitting, and its error.

    The variance is the mean of that of each repeat, given its fits, and of the squared distance
    from the mean: it holds the split and the fits too.

    Source:
        Chernozhukov V et al., Econometrics J 2018;21:C1, definition 3.3.
    """
    mean = float(np.mean(values))
    return mean, float(np.sqrt(np.mean(np.square(errors) + np.square(np.asarray(values) - mean))))


def _accuracy(
    repeats: Sequence[pd.DataFrame], predicted: pd.DataFrame, at: float, known: dict[str, Any], words: Mapping[str, str]
) -> list[dict[str, Any]]:
    options: dict[str, Any] = {"duration": "years", "event": "status_code", "risk": list(words), "at": at}
    aucs, briers = ([judge(one, **options) for one in repeats] for judge in (auc_at, brier_score))
    known = known | {
        "n_people": len(predicted),
        "n_ecgs": len(predicted),
        "n_events": aucs[0].n_events,
        "se_type": f"influence of each person, and of the split ({len(repeats)} times cross-fitted)",
    }
    rows = []
    for measure, found, name in ((AUC, aucs, "auc"), (_BRIER, briers, "brier")):
        for model, text in words.items():
            own = [one.estimates.set_index("model") for one in found]
            value, se = _over_repeats(*([one[each].to_dict()[model] for one in own] for each in (name, "se")))
            lo, hi = logit_limits(value, se)
            rows.append({"measure": measure, "adjustment": text, "estimate": value, "se": se, "lo": lo, "hi": hi})
        # Without a P value: one model is nested in the other, and the likelihood ratio is the test.
        last = [one.differences.iloc[-1] for one in found]
        gain, se = _over_repeats([-one["difference"] for one in last], [one["se"] for one in last])
        values = {"estimate": gain, "se": se, "lo": gain - Z95 * se, "hi": gain + Z95 * se}
        rows.append(values | {"measure": f"{measure}{_GAIN}", "adjustment": "difference"})
    rows = [known | row for row in rows]
    known = known | {"se_type": "of the observed risk (Aalen-Johansen)"}
    ratio = observed_expected(predicted, **options)
    for row in ratio.estimates.to_dict("records"):
        values = {"estimate": row["ratio"], "lo": row["ratio_lo"], "hi": row["ratio_hi"]}
        rows.append(known | values | {"measure": RATIO, "adjustment": words[row["model"]]})
    rows += _net_benefits(predicted, at, known, words)
    first = ratio.estimates.iloc[0]
    names = {"estimate": "observed", "se": "observed_se", "lo": "observed_lo", "hi": "observed_hi"}
    observed = {column: first[its] for column, its in names.items()}
    return [*rows, known | observed | {"measure": _INCIDENCE, "precision": "share"}]


def _net_benefits(
    predicted: pd.DataFrame, at: float, known: dict[str, Any], words: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the decision curves: of both models and of treating everybody."""
    options: dict[str, Any] = {"duration": "years", "event": "status_code", "risk": list(words), "at": at}
    found = decision_curve(predicted, thresholds=_THRESHOLDS, **options).estimates
    named = {**words, TREAT_ALL: "treat everybody"}
    return [
        known
        | {
            "measure": f"{NET_BENEFIT} {100 * row['threshold']:g} %",
            "adjustment": named[row["strategy"]],
            "estimate": row["net_benefit"],
            "se": row["se"],
            "lo": row["net_benefit_lo"],
            "hi": row["net_benefit_hi"],
            "se_type": "influence of each person",
        }
        for row in found.to_dict("records")
    ]


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
        "1990), by cross-fitting: each person is judged by models fitted to the other folds. The split "
        "is repeated; estimates are means over the repeats, and their errors hold the split and the "
        "fits (Chernozhukov et al. 2018). Limits of AUC and Brier score are on the logit scale. At most "
        f"{MOST_PEOPLE:,} people, drawn at random, are judged, whether other covariates are known "
        "or not.",
        "Cases have the outcome by the horizon; everybody else without censoring is a control, "
        "competing events included; weights for censoring. Observed risk is Aalen and Johansen's.",
        "Net benefit: true positives per person, less false positives by the odds of the risk from which one "
        "would act (Vickers and Elkin 2006).",
        "Differences have no P value: one model is nested in the other, and the test is under "
        "What the ECG adds. One ECG per person, time since the index ECG; errors take people as "
        "independent.",
    )
    table = ReadTable("absolute_risk", "Accuracy of predicted absolute risk", cells, len(labels) + 1, notes)
    figures = figures_by_outcome(masked["calibration"], about, _calibration_figure)
    paragraphs = not_drawn(masked["calibration"], about, "observed", "calibration")
    return Section("absolute_risk", "Absolute risk", paragraphs, (table, *figures))


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

_ROWS_OF_ALL_DRAWS: Final = 25_000_000
_FEWEST_DRAWS: Final = 50
# Bootstrap samples average over this many rows of age and sex, or over classes of age.
_MOST_ROWS: Final = 2_000
_AGE_CLASS_YEARS: Final = 0.1
_MEASURES: Final = ("risk if all had LVH", "risk if none had LVH", "risk difference", "risk ratio")
_ERRORS_OF: Final = ("of the risk", "of the risk", "of the difference", "of the logarithm of the ratio")


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
        draws = study.bootstrap if arms.min() > 0 else 0  # there is no estimate
        estimate, errors, n_draws = _standardised(complete, model, at, draws, study.seed)
    except TableRefused as error:
        return [known | {"measure": _MEASURES[0], "warnings": str(error)}]
    rows = []
    for place, measure in enumerate(_MEASURES):
        value, se, half = float(estimate[place]), float(errors[0, place]), Z95 * float(errors[1, place])
        limits = (value * np.exp(-half), value * np.exp(half)) if place != 2 else (value - half, value + half)
        drawn = {"se": se, "lo": float(limits[0]), "hi": float(limits[1])} if n_draws else {}
        scale = {"se_type": f"{known['se_type']}, {_ERRORS_OF[place]}"}
        level = {"level": f"{n_draws} bootstrap samples"}
        rows.append(known | drawn | scale | level | {"measure": measure, "estimate": value})
    return rows


class _People(NamedTuple):
    """Distinct rows of covariates with the place of each person among them."""

    rows: pd.DataFrame
    place: NDArray[np.int64]

    def counts(self, drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return how many people have each row, if each is there as often as drawn."""
        return np.bincount(self.place, drawn, len(self.rows)).astype(np.float64)


def _distinct(table: pd.DataFrame, columns: Sequence[str]) -> _People:
    grouped = table.groupby(list(columns), observed=True, sort=True)
    return _People(
        pd.DataFrame(grouped.size().index.to_frame(index=False)), np.asarray(grouped.ngroup(), dtype=np.int64)
    )


def _for_draws(table: pd.DataFrame, people: _People, columns: Sequence[str]) -> _People:
    """The same rows, or ages in narrow classes: only errors come from it."""
    if len(people.rows) <= _MOST_ROWS or "age_years" not in columns:
        return people
    narrow = (table["age_years"] / _AGE_CLASS_YEARS).round() * _AGE_CLASS_YEARS
    return _distinct(table.assign(age_years=narrow), columns)


def _standardised(table: pd.DataFrame, model: Model, at: float, draws: int, seed: int) -> tuple[Any, Any, int]:
    """Risks if all and if none had LVH, their difference and ratio, exact over all people.

    With (2, 4) errors from samples: on the scale of each estimate, the ratio's of its logarithm;
    and of the logarithms but for the difference, for the limits.
    """
    if at <= 0:
        raise TableRefused("fewer than 50 people are followed, expected more for absolute risks")
    rng = np.random.default_rng(seed)
    columns = columns_of(model.covariates)
    people = _distinct(table, columns)
    options: dict[str, Any] = {"duration": "years", "event": "event", "covariates": ["lvh", *model.covariates]}
    # Nobody may have died, as where death is the outcome.
    causes = [1, *([2] if (table["status_code"] == 2).any() else [])]
    models = {cause: CoxSamples.of(table.assign(event=table["status_code"] == cause), **options) for cause in causes}
    value = _risks(models, table["status_code"], np.ones(len(table), dtype=np.int64), people, at)
    n_draws = min(draws, max(_FEWEST_DRAWS, _ROWS_OF_ALL_DRAWS // len(table))) if draws else 0
    coarse, found = _for_draws(table, people, columns), []
    for _ in range(n_draws):
        try:
            found.append(_risks(models, table["status_code"], _drawn(table, rng), coarse, at))
        except TableRefused:
            continue  # a sample without events in an arm; counted below
    if n_draws and len(found) < 0.95 * n_draws:
        raise TableRefused(
            f"{n_draws - len(found)} of {n_draws} bootstrap samples have no estimate, expected "
            "5 % at most; there are too few events in an arm"
        )
    estimate = np.array([*value, value[0] - value[1], value[0] / value[1]])
    return estimate, _errors(found), len(found)


def _errors(found: Sequence[tuple[float, float]]) -> NDArray[np.float64]:
    if not found:
        return np.full((2, 4), np.nan)
    a, b = np.array(found).T
    shown = np.stack([a, b, a - b, np.log(a / b)])
    for_limits = np.stack([np.log(a), np.log(b), a - b, np.log(a / b)])
    return np.stack([shown.std(axis=1, ddof=1), for_limits.std(axis=1, ddof=1)])


def _drawn(table: pd.DataFrame, rng: np.random.Generator) -> NDArray[np.int64]:
    """How often each row is in a sample of people, or of households with all their people."""
    if HOUSEHOLD not in table:
        return np.bincount(rng.integers(0, len(table), len(table)), minlength=len(table))
    households = pd.factorize(table[CLUSTER])[0]
    n = int(households.max()) + 1
    return np.bincount(rng.integers(0, n, n), minlength=n)[households]


def _risks(
    models: Mapping[int, CoxSamples], status: pd.Series[Any], drawn: NDArray[np.int64], people: _People, at: float
) -> tuple[float, float]:
    """Mean risk of the people drawn if all and if none had LVH, by models fitted to them."""
    happened = np.bincount(status, drawn, 3)  # a sample may be without deaths
    fits = {cause: model.repeated(drawn) for cause, model in models.items() if cause == 1 or happened[cause]}
    if np.isnan(fits[1].estimates["coef"].iloc[0]):
        raise TableRefused("an arm has no event, expected events with and without LVH")
    weights = people.counts(drawn)
    parts = (cumulative_incidences(fits, people.rows.assign(lvh=lvh), [at])[0, :, 0] for lvh in (1.0, 0.0))
    with_lvh, without = (float(np.average(risks, weights=weights)) for risks in parts)
    return with_lvh, without


def _present_standardised(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return one table: a row per measure, at the horizon."""
    found = results_of(masked, "standardised")
    if found is None:
        return None
    rows = found.rows
    drawn = ", ".join(dict.fromkeys(filter(None, rows["level"])))
    notes = (
        "g-formula: cause-specific Cox models of the outcome and of death with LVH, age and sex, "
        "their predicted incidence averaged over the age and sex of all people analysed. "
        f"Intervals from {drawn or 'no samples'}, "
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
