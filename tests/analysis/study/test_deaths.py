"""A study goes on without any death, and with death as its outcome."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import lvm_ai
from tests.analysis.report import small_study

EVENTS = ["participant_id", "date", "code", "system", "source"]


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("no table", marks=pytest.mark.slow),
        pytest.param("an empty table", marks=pytest.mark.slow),
        "death is the outcome",
    ],
)
def test_analyse__needs_no_competing_death(tmp_path: Path, kind: str) -> None:
    small_study.write(tmp_path)
    base = small_study.STUDY
    if kind == "no table":
        base = base.replace("  deaths: deaths.csv\n", "")
    elif kind == "an empty table":
        (tmp_path / "deaths.csv").write_text("participant_id,death_date,ltfu_date\n")
    else:
        (tmp_path / "codes.csv").write_text(small_study.CODES.replace("I48", "X"))
        dead = pd.read_csv(tmp_path / "deaths.csv", dtype=str)
        own = dead.assign(date=dead["death_date"], code="X99", system="icd10", source="hes")
        own[EVENTS].to_csv(tmp_path / "events.csv", index=False)
    study = small_study.settle(tmp_path, "masking: {k: 0, base: 1}\n", base)
    assert lvm_ai.main(["analyse", str(study), "--output", str(tmp_path / "out")]) == 0
    rates = pd.read_csv(tmp_path / "out" / "export" / "data" / "rates.csv")
    everybody = rates[rates["group"] == "everybody"].iloc[0]
    assert everybody["n_deaths"] == 0
    assert everybody["n_events"] == (2 if kind == "death is the outcome" else 8)
