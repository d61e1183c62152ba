"""Where lifelines gives R's numbers and where not, shown on the classic data sets.

Prints the table of docs/decisions/0012-own-statistics.md: `python -m
tests.benchmarks.lifelines_differences`.
"""

from __future__ import annotations

import sys
import time
import warnings
from dataclasses import dataclass
from typing import Any

import lifelines
import numpy as np
import pandas as pd
from lifelines import AalenJohansenFitter, CoxPHFitter, KaplanMeierFitter
from lifelines.statistics import multivariate_logrank_test, proportional_hazard_test
from numpy.typing import ArrayLike

from tests.analysis.statistics import references
from tests.analysis.statistics.references import expected

ROSSI = ["fin", "age", "race", "wexp", "mar", "paro", "prio"]
HEART = ["age", "year", "surgery", "transplant"]
LUNG = ["age", "sex", "ph.ecog"]


@dataclass(frozen=True, slots=True)
class Claim:
    """One statement about lifelines, with the numbers that show it.

    Attributes:
        name: what is compared.
        right: whether lifelines gives R's number.
        lifelines: its number, the one that is furthest off where there are several.
        r: R's.
        off: largest relative difference.
    """

    name: str
    right: bool
    lifelines: float
    r: float
    off: float


def _claim(name: str, mine: ArrayLike, theirs: ArrayLike, *, right: bool) -> Claim:
    got, wanted = np.ravel(np.asarray(mine, float)), np.ravel(np.asarray(theirs, float))
    off = np.abs(got / wanted - 1)
    worst = int(off.argmax())
    return Claim(name, right, float(got[worst]), float(wanted[worst]), float(off[worst]))


def _cox(table: pd.DataFrame, columns: list[str], *outcome: str, **more: Any) -> CoxPHFitter:
    extra = [more[name] for name in ("entry_col", "cluster_col") if name in more]
    return CoxPHFitter().fit(table[[*columns, *outcome, *extra]], *outcome, **more)


def right_claims() -> list[Claim]:
    """What lifelines does as R does."""
    survival = expected("survival")
    rossi = _cox(references.rossi(), ROSSI, "week", "arrest")
    wanted = survival["rossi"]["efron"]
    lung = references.lung()
    complete = pd.read_csv(references.DATA / "lung.csv")
    curve = KaplanMeierFitter().fit(complete["time"], complete["status"] == 2)
    limits = survival["lung"]["km_all"]["log-log"]
    place = limits["time"].index(180)
    lower, upper = curve.confidence_interval_.loc[:180].iloc[-1]
    test = multivariate_logrank_test(complete["time"], complete["sex"], complete["status"] == 2)
    entry = _cox(references.heart(), HEART, "stop", "event", entry_col="start")
    heart = survival["heart_start_stop"]["efron"]
    return [
        _claim("Cox coefficients, ties (rossi)", rossi.params_, wanted["coef"], right=True),
        _claim("Cox model errors, ties (rossi)", rossi.standard_errors_, wanted["se"], right=True),
        _claim("Cox coefficients, entry (heart)", entry.params_, heart["coef"], right=True),
        _claim(
            "Kaplan-Meier, log-log limits (lung)",
            [lower, upper],
            [limits["lower"][place], limits["upper"][place]],
            right=True,
        ),
        _claim("log-rank (lung)", test.test_statistic, survival["lung"]["logrank"]["chisq"], right=True),
        _claim(
            "concordance without entry (lung)",
            _cox(lung, LUNG, "time", "event").concordance_index_,
            survival["lung"]["efron"]["concordance"]["C"],
            right=True,
        ),
    ]


def wrong_claims() -> list[Claim]:
    """What lifelines does not."""
    return [*_wrong_errors(), *_wrong_entry(), *_wrong_tests(), *_wrong_curves()]


def _wrong_errors() -> list[Claim]:
    survival = expected("survival")
    robust = _cox(references.rossi(), ROSSI, "week", "arrest", robust=True)
    bladder = _cox(
        references.bladder2(), ["rx", "number", "size"], "stop", "event", entry_col="start", cluster_col="id"
    )
    heart = _cox(references.heart(), HEART, "stop", "event", entry_col="start", cluster_col="id")
    return [
        _claim("robust errors, ties (rossi)", robust.standard_errors_, survival["rossi"]["robust"]["se"], right=False),
        _claim(
            "cluster errors, entry (bladder2)",
            bladder.standard_errors_,
            survival["bladder2_ag_cluster"]["se"],
            right=False,
        ),
        _claim(
            "cluster errors, entry (heart)",
            heart.standard_errors_,
            survival["heart_start_stop"]["cluster_id"]["se"],
            right=False,
        ),
    ]


def _wrong_entry() -> list[Claim]:
    fit = _cox(references.heart(), HEART, "stop", "event", entry_col="start")
    hazard = expected("lifelines")["heart_hazard"]
    at = fit.baseline_cumulative_hazard_.loc[: hazard["time"]].iloc[-1]
    wanted = expected("survival")["heart_start_stop"]["efron"]["concordance"]["C"]
    return [
        _claim("baseline hazard, entry (heart)", at, hazard["value"], right=False),
        _claim("concordance, entry (heart)", fit.concordance_index_, wanted, right=False),
    ]


def _wrong_tests() -> list[Claim]:
    lung, wanted = references.lung(), expected("survival")["lung"]
    plain = _cox(lung, LUNG, "time", "event")
    strata = _cox(lung, LUNG, "time", "event", strata=["sex"])
    columns = lung[[*LUNG, "time", "event"]]
    return [
        _claim(
            "proportional hazards, km (lung)",
            proportional_hazard_test(plain, columns, time_transform="km").test_statistic,
            wanted["efron"]["zph"]["km"]["chisq"][:3],
            right=False,
        ),
        _claim(
            "proportional hazards, strata (lung)",
            proportional_hazard_test(strata, columns, time_transform="km").test_statistic,
            wanted["strata_sex"]["zph"]["km"]["chisq"][:2],
            right=False,
        ),
    ]


def _wrong_curves() -> list[Claim]:
    people = references.mgus2()
    incidence = expected("survival")["mgus2"]["aj_all"]
    place = incidence["time"].index(120)
    one, two = (AalenJohansenFitter().fit(people["etime"], people["ev"], 1) for _ in range(2))
    at = [fit.cumulative_density_.loc[:120].iloc[-1, 0] for fit in (one, two)]
    limits = one.confidence_interval_
    lower = limits.filter(like="lower").loc[:120].iloc[-1, 0]
    fit = CoxPHFitter().fit(references.rossi()[["fin", "age", "prio", "week", "arrest"]], "week", "arrest")
    steps = expected("lifelines")["rossi_survival"]
    person = pd.DataFrame({"fin": [0], "age": [25], "prio": [2]})
    survival = fit.predict_survival_function(person, times=[20.5]).iloc[0, 0]
    lung = pd.read_csv(references.DATA / "lung.csv")[["time", "status", "age"]]
    counted = CoxPHFitter().fit(lung, "time", "status").event_observed.sum()
    n_events = (lung["status"] == 2).sum()
    wanted = incidence["pstate"][place][1]
    return [
        _claim("Aalen-Johansen with ties (mgus2)", at[0], wanted, right=False),
        _claim("the same, run again without a seed", at[1], at[0], right=False),
        _claim("its column 'lower' (mgus2)", lower, incidence["lower"][place][1], right=False),
        _claim("survival between two steps (rossi)", survival, steps["values"][1], right=False),
        _claim("events of a status coded 1 and 2 (lung)", counted, n_events, right=False),
    ]


def absent() -> dict[str, bool]:
    """What lifelines has no function for; True where that is so."""
    fit = _cox(references.lung(), LUNG, "time", "event")
    return {
        "a standard error of the concordance": not any(
            "concordance" in name and ("error" in name or "se_" in name) for name in dir(fit)
        ),
        "Fine and Gray": not any("gray" in name.lower() for name in dir(lifelines)),
    }


def growth(sizes: tuple[int, ...] = (4_000, 8_000, 16_000)) -> list[tuple[int, float, float]]:
    """Return rows, and seconds of a fit with and without robust errors."""
    rng = np.random.default_rng(0)
    rows = []
    for n in sizes:
        table = pd.DataFrame(rng.normal(size=(n, 4))).assign(t=rng.exponential(size=n), e=1)
        seconds = []
        for robust in (False, True):
            start = time.perf_counter()
            CoxPHFitter().fit(table, "t", "e", robust=robust)
            seconds.append(time.perf_counter() - start)
        rows.append((n, *seconds))
    return rows


def main() -> int:
    lines = ["| lifelines | right | its number | R's | off |", "|---|---|---|---|---|"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for claim in [*right_claims(), *wrong_claims()]:
            numbers = f"{claim.lifelines:.6g} | {claim.r:.6g} | {claim.off:.2g}"
            lines.append(f"| {claim.name} | {'yes' if claim.right else 'no'} | {numbers} |")
        lines += [f"| {name} | has none | | | |" for name, missing in absent().items() if missing]
        lines += [
            f"| robust errors, {n:,} rows | {robust:.2f} s, {plain:.2f} s without | | | |"
            for n, plain, robust in growth()
        ]
    print("\n".join(lines))  # noqa: T201 - the result
    return 0


if __name__ == "__main__":
    sys.exit(main())
