"""How long do the statistics take on a cohort's size, beside lifelines where it has the same?

Prints seconds and peak memory for 20,000, 100,000 and 500,000 rows by 8 covariates; asserts
nothing, because machines differ. Every measurement runs in a process of its own, twice, and the
better is shown. Run it with `make bench-statistics`.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from lifelines import AalenJohansenFitter, CoxPHFitter, KaplanMeierFitter
from lifelines.statistics import proportional_hazard_test
from lifelines.utils import concordance_index

from analysis.statistics.accuracy.concordance import concordance
from analysis.statistics.survival import cumulative_incidence, fit_fine_gray, proportional_hazards_test
from analysis.statistics.survival.cox import fit_cox
from analysis.statistics.survival.kaplan_meier import survival_curve

SIZES = (20_000, 100_000, 500_000)
COVARIATES = [f"x{number}" for number in range(8)]
SEED = 20261123


def cohort(n: int) -> pd.DataFrame:
    """Days of follow-up with ties, half of it censored, two causes, eight covariates."""
    rng = np.random.default_rng(SEED)
    x = rng.normal(size=(n, 8))
    x[:, 5:] = x[:, 5:] > 0.5
    event_days = np.ceil(3000 * rng.exponential(size=n) * np.exp(-x @ np.full(8, 0.2)))
    censored_days = np.ceil(rng.uniform(1, 5000, n))
    event = event_days <= censored_days
    return pd.DataFrame(x, columns=COVARIATES).assign(
        days=np.minimum(event_days, censored_days),
        event=event,
        status=np.where(event, np.where(rng.random(n) < 0.3, 1, 2), 0),
        household=np.arange(n) // 2,
    )


def ours(what: str, table: pd.DataFrame) -> Callable[[], object]:
    """Return what is measured of ours; fits that it starts from are made here."""
    common: dict[str, Any] = {"duration": "days", "event": "event", "covariates": COVARIATES}
    if what in ("zph", "concordance"):
        fit = fit_cox(table, **common)
        return lambda: proportional_hazards_test(fit) if what == "zph" else concordance(fit)
    if what == "fine-gray":
        causes = common | {"event": "status"}
        return lambda: fit_fine_gray(table, event_of_interest=1, **causes)
    if what == "aalen-johansen":
        return lambda: cumulative_incidence(table, duration="days", event="status")
    if what == "kaplan-meier":
        return lambda: survival_curve(table, duration="days", event="event")
    more: dict[str, Any] = {"fit": {}, "robust": {"robust": True}, "cluster": {"cluster": "household"}}[what]
    return lambda: fit_cox(table, **common, **more)


def theirs(what: str, table: pd.DataFrame) -> Callable[[], object]:
    """Return the same of lifelines."""
    columns = table[[*COVARIATES, "days", "event"]]

    def fit(**more: Any) -> CoxPHFitter:
        used = table.drop(columns="status") if "cluster_col" in more else columns
        return CoxPHFitter().fit(used, "days", "event", **more)

    if what == "fit":
        return fit
    if what == "robust":
        return lambda: fit(robust=True)
    if what == "cluster":
        return lambda: fit(cluster_col="household")
    if what == "zph":
        fitted = fit()
        return lambda: proportional_hazard_test(fitted, columns, time_transform="km")
    if what == "concordance":
        risk = -fit().predict_log_partial_hazard(columns)
        return lambda: concordance_index(table["days"], risk, table["event"])
    if what == "kaplan-meier":
        return lambda: KaplanMeierFitter().fit(table["days"], table["event"])
    return lambda: AalenJohansenFitter(seed=1).fit(table["days"], table["status"], 1)


def measure(side: str, what: str, n: int) -> dict[str, float]:
    """Time the better of two calls, and the memory that the process came to need."""
    table = cohort(n)
    call = (ours if side == "ours" else theirs)(what, table)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": min(seconds), "peak_mib": peak / 1024, "more_mib": (peak - before) / 1024}


def _in_a_process(side: str, what: str, n: int, limit_s: float) -> dict[str, float] | None:
    command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.bench_statistics"]
    command += ["--one", side, what, str(n)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        raise RuntimeError(done.stderr)
    read: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return read


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=3, metavar=("SIDE", "WHAT", "N"))
    parser.add_argument("--limit-s", type=float, default=120, help="of one measurement")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    arguments = parser.parse_args(argv)
    if arguments.one:
        side, what, n = arguments.one
        print(json.dumps(measure(side, what, int(n))))  # noqa: T201 - the result
        return 0
    print("| statistic | rows | seconds | MiB at peak | lifelines s | lifelines MiB | ratio |")  # noqa: T201
    print("|---|---|---|---|---|---|---|")  # noqa: T201
    kinds = ["fit", "robust", "cluster", "zph", "concordance", "kaplan-meier", "aalen-johansen"]
    for what in [*kinds, "fine-gray"]:
        for n in arguments.sizes:
            _row(what, n, arguments.limit_s)
    return 0


def _row(what: str, n: int, limit_s: float) -> None:
    mine = _in_a_process("ours", what, n, limit_s)
    other = None if what == "fine-gray" else _in_a_process("theirs", what, n, limit_s)
    own = "-" if mine is None else f"{mine['seconds']:.2f} | {mine['peak_mib']:.0f}"
    if other and mine:
        ratio = other["seconds"] / mine["seconds"]
        rest = f"{other['seconds']:.2f} | {other['peak_mib']:.0f} | {ratio:.1f}"
    else:
        rest = "has none | | " if what == "fine-gray" else f"> {limit_s:.0f} | | "
    print(f"| {what} | {n:,} | {own} | {rest} |", flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
