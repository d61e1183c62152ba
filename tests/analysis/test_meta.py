"""`lvm-ai meta`: exported hazard ratios of cohorts, brought to one step and pooled."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import lvm_ai
from analysis.statistics.pooling import pool

SDS = {"north": 8.0, "south": 10.0, "east": 9.0}
LOG_HR_PER_UNIT = {"north": 0.03, "south": 0.01, "east": 0.025}
SE_PER_UNIT = {"north": 0.005, "south": 0.004, "east": 0.01}


def rows_of(cohort: str) -> pd.DataFrame:
    """An outcome per SD, per 10 and for LVH in models 1 and 2, and one sex."""
    made = []
    for model, adjustment in (("1", "unadjusted"), ("2", "age, sex")):
        for contrast, size in (("per SD", SDS[cohort]), ("per 10", 10.0)):
            made.append((contrast, model, adjustment, "", "", size, size))
        made.append(("LVH", model, adjustment, "", "", 20.0, 1.0))
    made.append(("per SD", "2", "age, sex", "Sex", "female", SDS[cohort], SDS[cohort]))
    columns = ["contrast", "model", "adjustment", "strata", "level", "size", "sd_used"]
    table = pd.DataFrame(made, columns=columns)
    return table.assign(
        cohort=cohort,
        analysis="hazard_ratios",
        outcome="af",
        exposure="lvmi_pred_g_m2",
        log_hr=table["size"] * LOG_HR_PER_UNIT[cohort],
        se=table["size"] * SE_PER_UNIT[cohort],
        sd_by_sex="",
        unit="g/m2",
        n_people=1000,
        n_ecgs=1000,
        n_events=100,
        se_type="model",
        model_id="hand",
        warnings="",
    ).drop(columns="size")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    made = []
    for cohort in SDS:
        path = tmp_path / cohort / "export" / "results_for_meta_analysis.csv"
        path.parent.mkdir(parents=True)
        rows_of(cohort).to_csv(path, index=False)
        made.append(tmp_path / cohort)
    return made


def meta(output: Path, *words: object) -> int:
    return lvm_ai.main(["meta", *map(str, words), "--output", str(output)])


def pooled(output: Path, **keys: str) -> Any:
    table = pd.read_csv(output / "pooled.csv", dtype={"model": str}, keep_default_na=False)
    for name, value in keys.items():
        table = table[table[name] == value]
    (row,) = table.to_dict("records")
    return row


def test_meta__hazard_ratios_per_sd_are_brought_to_one_step(files: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "pooled"
    assert meta(output, *files) == 0
    expected = pool(
        np.array([8 * LOG_HR_PER_UNIT[name] for name in SDS]), np.array([8 * SE_PER_UNIT[name] for name in SDS])
    )
    row = pooled(output, contrast="per 8 g/m2", model="2", strata="")
    assert row["hr_estimate"] == pytest.approx(math.exp(expected.estimate))
    assert row["hr_low"] == pytest.approx(math.exp(expected.low))
    assert (row["cohorts"], row["n_events"], row["n_cohorts"]) == ("north, south, east", 300, 3)
    # Per 10 is the same effect on another scale.
    ten = pooled(output, contrast="per 10", model="2", strata="")
    assert ten["hr_estimate"] == pytest.approx(row["hr_estimate"] ** (10 / 8))
    assert ten["i2"] == pytest.approx(row["i2"])


def test_meta__with_a_step_of_ten_per_sd_and_per_10_agree(files: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "pooled"
    assert meta(output, *files, "--step", 10) == 0
    found = [pooled(output, contrast=name, model="1") for name in ("per 10 g/m2", "per 10")]
    assert found[0]["hr_estimate"] == pytest.approx(found[1]["hr_estimate"])
    assert found[0]["hr_high"] == pytest.approx(found[1]["hr_high"])


def test_meta__figure_shows_each_cohort_and_the_mean(files: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "pooled"
    assert meta(output, *files) == 0
    text = (output / "forest.txt").read_text()
    for name in (*SDS, "all, random effects"):
        assert name in text
    assert (output / "forest.svg").read_bytes().startswith(b"<?xml")
    assert "female" not in text


def test_meta__an_sd_that_differs_by_sex_is_left_out_and_said(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = files[0] / "export" / "results_for_meta_analysis.csv"
    table = rows_of("north")
    table.loc[table["contrast"] == "per SD", "sd_used"] = np.nan
    table.to_csv(path, index=False)
    output = tmp_path / "pooled"
    assert meta(output, *files) == 0
    assert "3 hazard ratios per SD of north left out" in capsys.readouterr().err
    assert pooled(output, contrast="per 10 g/m2", model="2", strata="")["cohorts"] == "south, east"


def test_meta__different_adjustments_are_said(files: list[Path], tmp_path: Path) -> None:
    table = rows_of("east").assign(adjustment="age, sex, centre")
    table.to_csv(files[2] / "export" / "results_for_meta_analysis.csv", index=False)
    output = tmp_path / "pooled"
    assert meta(output, *files) == 0
    row = pooled(output, contrast="LVH", model="2")
    assert row["warnings"] == "cohorts adjust for different covariates"
    assert row["adjustment"] == "age, sex; age, sex, centre"


def test_meta__refusals(files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    other = tmp_path / "other.csv"
    rows_of("east").assign(model_id="another").to_csv(other, index=False)
    narrow = tmp_path / "narrow.csv"
    rows_of("east").drop(columns="se").to_csv(narrow, index=False)
    for words, message in (
        ([files[0]], "there is one cohort"),
        ([files[0], files[0]], "the cohort north is there twice"),
        ([files[0], tmp_path / "empty"], "holds no results_for_meta_analysis.csv"),
        ([files[0], narrow], "lacks se"),
        ([files[0], other], "different models (another, hand)"),
        ([*files, "--model", "4"], "no hazard ratio of model 4"),
    ):
        assert meta(tmp_path / "pooled", *words) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "pooled").exists()
    assert meta(tmp_path / "pooled", files[0], other, "--accept-models") == 0
    assert meta(tmp_path / "pooled", *files) == 2
    assert meta(tmp_path / "pooled", *files, "--overwrite") == 0
