"""What `lvm-ai recalibrate` writes and prints, number by number, against numpy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lvm_ai
from analysis.recalibrate import cross_fitted_table
from lvm_core.medicine.recalibration import CmrSubset, Recalibrated, Recalibration, person_share
from lvm_core.tables import schemas

MODEL = {"model_id": "m1", "sha256": "ab" * 32}
SETTINGS: Mapping[str, Any] = {
    "models": [MODEL],
    "input_convention": "ukb_counts",
    "bsa": "dubois",
    "lvh_preset": "khurshid2021",
}


def write_predictions(path: Path, columns: Mapping[str, Any], settings: Mapping[str, Any] = SETTINGS) -> None:
    """Write a prediction file with the footer that the job writes; other columns are null."""
    n = len(columns["ecg_id"])
    schema = schemas.PREDICTIONS.arrow
    filled = {name: columns.get(name, [None] * n) for name in schema.names}
    footer = json.dumps({"unit": 0, "provenance": {"settings": dict(settings)}}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pydict(filled, schema=schema)
    pq.write_table(table.replace_schema_metadata({schemas.FOOTER_KEY: footer}), path)


def cohort(n: int, seed: int = 5) -> dict[str, Any]:
    """Draw predictions and CMR: CMR = 20 g + 0.7 x predicted + noise of 12 g."""
    rng = np.random.default_rng(seed)
    male = rng.random(n) < 0.5
    predicted_g = (95 + 25 * male + 18 * rng.standard_normal(n)).astype(np.float32)
    cmr_g = np.round(20 + 0.7 * predicted_g + 12 * rng.standard_normal(n), 3)
    return {
        "ecg_id": [f"e{i}" for i in range(n)],
        "participant_id": [f"p{i:05d}" for i in range(n)],
        "recorded_at": [pd.Timestamp("2016-03-01 23:30")] * n,
        "model_id": ["m1"] * n,
        "lvm_pred_g": predicted_g,
        "lvh_score": (1 / (1 + np.exp(-(predicted_g - 110) / 12))).astype(np.float32),
        "sex": np.where(male, "male", "female").tolist(),
        "bsa_m2": np.full(n, 1.6, dtype=np.float32),
        "lvm_cmr_g": cmr_g,
    }


def write_cmr(path: Path, drawn: Mapping[str, Any]) -> Path:
    """Write the CMR table of drawn people."""
    masses_g = drawn["lvm_cmr_g"]
    columns = {"participant_id": drawn["participant_id"], "lvm_cmr_g": masses_g}
    pd.DataFrame({**columns, "cmr_date": "2016-03-05"}).to_csv(path, index=False)
    return path


def run(folder: Path, *more: Any, cmr: str = "cmr.csv") -> int:
    """Run the command on `folder/run` and a CMR table."""
    argv = [
        "recalibrate",
        "--predictions",
        folder / "run",
        "--cmr",
        folder / cmr,
        "--max-days",
        30,
        "--output",
        folder / "recal.json",
        *more,
    ]
    return lvm_ai.main([str(argument) for argument in argv])


def written(folder: Path) -> Recalibration:
    path = folder / "recal.json"
    return Recalibration.from_dict(json.loads(path.read_text()), path.name)


@pytest.fixture
def drawn(tmp_path: Path) -> dict[str, Any]:
    """Return 900 people whose predictions lie in two files of a run folder, and their CMR."""
    made = cohort(900)
    for k, rows in enumerate((slice(0, 500), slice(500, 900))):
        part = {name: values[rows] for name, values in made.items() if name != "lvm_cmr_g"}
        write_predictions(tmp_path / "run" / "predictions" / f"unit-{k}.parquet", part)
    write_cmr(tmp_path / "cmr.csv", made)
    return made


def test_recalibrate__line_and_widths_are_those_of_numpy(drawn: dict[str, Any], tmp_path: Path) -> None:
    assert run(tmp_path) == 0
    made = written(tmp_path)
    predicted_g, cmr_g = drawn["lvm_pred_g"].astype(float), drawn["lvm_cmr_g"]
    first = np.array([person_share(name) < 0.5 for name in drawn["participant_id"]])
    slope, intercept_g = np.polyfit(predicted_g[first], cmr_g[first], 1)
    assert made.slope == pytest.approx({"all": slope}, rel=1e-9)
    assert made.intercept_g == pytest.approx({"all": intercept_g}, rel=1e-9)
    for sex, width_g in made.half_width_g.items():
        theirs = ~first & (np.array(drawn["sex"]) == sex)
        residual_g = np.abs(cmr_g - intercept_g - slope * predicted_g)[theirs]
        # As many of the other half lie within the interval as its rank says.
        assert (residual_g <= width_g + 1e-9).sum() == int(np.ceil(0.9 * (theirs.sum() + 1)))


def test_recalibrate__file_names_its_model_and_people(drawn: dict[str, Any], tmp_path: Path) -> None:
    assert run(tmp_path, "--by-sex", "--alpha", 0.2) == 0
    made = written(tmp_path)
    identity = (made.model_id, made.model_sha256, made.input_convention, made.bsa, made.lvh_preset)
    assert identity == ("m1", "ab" * 32, "ukb_counts", "dubois", "khurshid2021")
    assert made.alpha == 0.2
    assert set(made.slope) == {"female", "male"}
    n_men = drawn["sex"].count("male")
    limit_g_m2 = np.where(np.array(drawn["sex"]) == "male", 72.0, 55.0)
    stated = made.provenance
    assert (stated["n_people"], stated["n_men"], stated["n_women"]) == (900, n_men, 900 - n_men)
    assert stated["n_lvh"] == int((drawn["lvm_cmr_g"] / 1.6 > limit_g_m2).sum())
    assert stated["cmr_dates"] == ["2016-03-05", "2016-03-05"]
    assert stated["max_days"] == 30
    assert list(tmp_path.glob(".*")) == []


def test_recalibrate__the_order_of_rows_changes_nothing(drawn: dict[str, Any], tmp_path: Path) -> None:
    assert run(tmp_path) == 0
    before = (tmp_path / "recal.json").read_bytes()
    rows = pd.read_csv(tmp_path / "cmr.csv", dtype=str).iloc[::-1]
    rows.to_csv(tmp_path / "cmr.csv", index=False)
    assert run(tmp_path, "--overwrite", "--overall") == 0
    assert (tmp_path / "recal.json").read_bytes() == before


def test_recalibrate__prints_what_the_simulation_put_in(
    drawn: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path) == 0
    out, err = capsys.readouterr()
    assert "Among LVH by CMR it is expected to be poor" in out
    row = next(line.split() for line in out.splitlines() if line.strip().startswith("all "))
    mae_before_g, mae_after_g, slope_before, slope_after, coverage = map(float, row[2:])
    # Normal errors of 12 g have a mean absolute value of 12 sqrt(2 / pi) = 9.6 g.
    assert mae_before_g > mae_after_g == pytest.approx(9.6, abs=1.0)
    assert slope_before == pytest.approx(0.7, abs=0.06)
    assert slope_after == pytest.approx(1.0, abs=0.08)
    assert coverage == pytest.approx(0.9, abs=0.04)
    assert err == ""  # each half has over 200 people of either sex


def test_recalibrate__few_people_are_warned_of_on_screen_and_in_the_file(
    drawn: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cmr(tmp_path / "few.csv", {name: values[:300] for name, values in drawn.items()})
    assert run(tmp_path, cmr="few.csv") == 0
    warned = [line for line in capsys.readouterr().err.splitlines() if "fewer than 200" in line]
    assert len(warned) == 2
    assert [f"warning: {text}" for text in written(tmp_path).provenance["warnings"]] == warned


def test_recalibrate__too_few_people_of_a_sex_are_refused(
    drawn: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    women = [i for i, sex in enumerate(drawn["sex"]) if sex == "female"]
    write_cmr(tmp_path / "f.csv", {name: [v[i] for i in women] for name, v in drawn.items()})
    assert run(tmp_path, cmr="f.csv") == 1
    assert "interval for male: 0 people" in capsys.readouterr().err
    assert not (tmp_path / "recal.json").exists()


def test_recalibrate__figure_where_no_folder_is_or_a_file_is_already(
    drawn: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "--figure", tmp_path / "nowhere" / "f.png") == 2
    assert "nowhere/f.png does not exist; make it first" in capsys.readouterr().err
    (tmp_path / "f.png").write_text("mine")
    assert run(tmp_path, "--figure", tmp_path / "f.png") == 2
    assert (tmp_path / "f.png").read_text() == "mine"
    assert not (tmp_path / "recal.json").exists()


def test_recalibrate__one_line_or_two_but_not_both(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path, "--by-sex", "--overall")


@pytest.mark.parametrize(
    "change", [{"models": [MODEL | {"sha256": "cd" * 32}]}, {"bsa": "mosteller"}, {"lvh_preset": "petersen2017"}]
)
def test_recalibrate__two_kinds_of_predictions_are_refused(
    drawn: dict[str, Any], tmp_path: Path, change: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    part = {name: values[:9] for name, values in drawn.items() if name != "lvm_cmr_g"}
    write_predictions(tmp_path / "run/predictions/other.parquet", part, {**SETTINGS, **change})
    assert run(tmp_path) == 2
    assert "the predictions have 2 kinds of model" in capsys.readouterr().err


def test_recalibrate__rows_of_a_fallback_model_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = cohort(50) | {"model_id": ["m1"] * 49 + ["m2"]}
    models = [MODEL, {"model_id": "m2", "sha256": "cd" * 32}]
    write_predictions(tmp_path / "run/a.parquet", made, {**SETTINGS, "models": models})
    write_cmr(tmp_path / "cmr.csv", made)
    assert run(tmp_path) == 2
    assert "score without --fallback-model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("columns", "message"), [({"ecg_id": ["a"]}, "cannot be read as predictions"), (None, "holds no predictions")]
)
def test_recalibrate__foreign_parquet_and_an_empty_folder_are_refused(
    tmp_path: Path, columns: Mapping[str, Sequence[str]] | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    if columns is not None:
        pq.write_table(pa.table(dict(columns)), tmp_path / "run/a.parquet")
    assert run(tmp_path) == 2
    assert message in capsys.readouterr().err


def test_cross_fitted_table__by_hand() -> None:
    # Ten people predicted 10 ... 100 g, CMR 10 g more, recalibrated right; the last one is missed.
    predicted_g = np.arange(10.0, 101.0, 10.0)
    cmr_g = predicted_g + 10
    high_g = cmr_g + np.where(predicted_g == 100, -1.0, 1.0)
    sex = np.array([0] * 5 + [1] * 5, dtype=np.int8)
    ids = [str(i) for i in range(10)]
    nothing, known = np.full(10, np.nan), np.ones(10, dtype=bool)
    people = CmrSubset(ids, predicted_g, nothing, cmr_g, sex, predicted_g > 95, known)
    table = cross_fitted_table(people, Recalibrated(cmr_g, cmr_g - 5, high_g, nothing))
    assert table["n"].tolist() == [10, 5, 5, 2, 2, 2, 2, 2, 1]
    assert table["coverage"].tolist() == pytest.approx([0.9, 1, 0.8, 1, 1, 1, 1, 0.5, 0])
    everybody = [table[name].iloc[0] for name in ("mae_before_g", "mae_after_g", "slope_before")]
    assert everybody == pytest.approx([10.0, 0.0, 1.0])
    assert np.isnan(table["slope_before"].tolist()[-1])  # of one person
    assert table["group"].iloc[-1] == "LVH by CMR"
