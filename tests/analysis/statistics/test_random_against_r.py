"""Random data sets: every number that R and we both have is the same. Needs R."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.statistics.accuracy.concordance import concordance, uno_concordance
from analysis.statistics.survival import CoxFit, fit_fine_gray, gray_test, proportional_hazards_test
from analysis.statistics.survival.cox import fit_cox
from tests.analysis.statistics.r_packages import lacking
from tests.analysis.statistics.references import GOLDEN, close
from tests.analysis.statistics.survival.test_cox import survival_of

PACKAGES = ("survival", "cmprsk", "jsonlite")
N_CASES = 120
COVARIATES = ["x1", "x2", "x3"]
COMPETING: dict[str, Any] = {"duration": "time", "event": "status", "event_of_interest": 1, "covariates": COVARIATES}


def _table(rng: np.random.Generator) -> pd.DataFrame:
    n, grain = int(rng.choice([15, 25, 40, 80, 200, 400])), rng.choice([0.01, 1, 5])
    x2, x3 = rng.random(n) < 0.4, rng.choice([-1, 0, 1, 2.5], n)
    time = np.ceil(20 * rng.exponential(size=n) * np.exp(-0.3 * x2 - 0.2 * x3) / grain) * grain
    shares = [0.25, 0.5, 0.25] if rng.random() < 0.8 else [0, 0.7, 0.3]
    status = rng.choice([0, 1, 2], n, p=shares)
    entry = np.floor(time * rng.uniform(0, 0.9, n) / grain) * grain * 0.999
    return pd.DataFrame(
        {
            "time": time,
            "status": status,
            "event": (status == 1).astype(int),
            "entry": np.where(rng.random(n) < 0.6, entry, 0),
            "x1": rng.normal(size=n) * rng.choice([1, 1e3, 1e-3]),
            "x2": x2.astype(int),
            "x3": x3,
            "g": rng.choice(list("abc"), n),
            "id": rng.integers(0, max(3, n // 3), n),
            "row": np.arange(n),
            "w": np.round(rng.uniform(0.3, 3, n), 2),
        }
    )


def _cases(folder: Path) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    rng = np.random.default_rng(20261123)
    made = []
    for number in range(N_CASES):
        table = _table(rng)
        case = {name: bool(rng.random() < 0.35) for name in ("entry", "strata", "weights", "cluster", "robust")}
        case |= {"file": f"{number}.csv", "ties": str(rng.choice(["efron", "breslow"]))}
        case["times"] = np.quantile(table["time"], [0.1, 0.5, 0.9]).tolist()
        table.to_csv(folder / case["file"], index=False, float_format="%.17g")
        made.append((case, pd.read_csv(folder / case["file"])))
    (folder / "cases.json").write_text(json.dumps([case for case, _ in made]))
    return made


def _fit(case: dict[str, Any], table: pd.DataFrame) -> CoxFit:
    return fit_cox(
        table,
        duration="time",
        event="event",
        covariates=COVARIATES,
        ties=case["ties"],
        entry="entry" if case["entry"] else None,
        strata=["g"] if case["strata"] else [],
        weights="w" if case["weights"] else None,
        cluster="id" if case["cluster"] else None,
        robust=case["robust"],
    )


def _compare(case: dict[str, Any], table: pd.DataFrame, wanted: dict[str, Any]) -> None:
    fit = _fit(case, table)
    close(fit.estimates["coef"], wanted["coef"], rtol=1e-8, atol=1e-12)
    close(fit.estimates["se"], wanted["se"], rtol=1e-8)
    close(fit.log_likelihood, wanted["loglik"], rtol=1e-9)
    found = concordance(fit)
    close([found.c, found.se], wanted["concordance"], rtol=1e-8, atol=1e-12)
    for transform, chi2 in wanted["zph"].items():
        got = proportional_hazards_test(fit, transform=transform)["chi2"]
        close(got, chi2, rtol=1e-6, atol=1e-9)
    mean, sd = table["x1"].mean(), table["x1"].std()
    new = pd.DataFrame({"x1": [mean, mean + sd], "x2": [1, 0], "x3": [0.2, -0.3], "g": table["g"][:2]})
    survival = survival_of(fit, new, case["times"])
    for mine, curve in zip(survival, wanted["survival"], strict=True):
        close(mine, curve["survival"], rtol=1e-8, atol=1e-300)
    if "uno" in wanted:
        uno = uno_concordance(fit)
        close([uno.c, uno.se], wanted["uno"], rtol=1e-8, atol=1e-12)
    if "fine_gray" in wanted:
        for convention, key, rtol in (("survival", "fine_gray", 1e-7), ("crr", "crr", 5e-6)):
            model = fit_fine_gray(table, convention=convention, **COMPETING)  # type: ignore[arg-type]
            close(model.estimates["coef"], wanted[key]["coef"], rtol=rtol, atol=1e-9)
            close(model.estimates["se"], wanted[key]["se"], rtol=rtol)
        if min(wanted["gray"]) >= 0:  # cmprsk answers -1 where a cause cannot be tested
            got = gray_test(table, duration="time", event="status", by="g")["chi2"]
            close(got, wanted["gray"], rtol=1e-7)


@pytest.mark.slow
@pytest.mark.skipif(lacking(*PACKAGES) != "", reason=lacking(*PACKAGES))
def test_random_data__give_the_numbers_of_r(tmp_path: Path) -> None:
    cases = _cases(tmp_path)
    script = GOLDEN / "random" / "compare.R"
    subprocess.run(["Rscript", str(script), str(tmp_path)], check=True, capture_output=True)
    answers = json.loads((tmp_path / "out.json").read_text())
    compared = 0
    for (case, table), wanted in zip(cases, answers, strict=True):
        if "warning" not in wanted:  # where R does not converge there is nothing to compare
            _compare(case, table, wanted)
            compared += 1
    assert compared >= 0.9 * N_CASES
