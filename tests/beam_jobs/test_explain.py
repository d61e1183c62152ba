"""The command explain on synthetic ECGs: pictures, tables, and clear refusals."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beam_jobs.explain import Explained, shares, time_shares
from lvm_core.errors import LvmError
from lvm_core.signal.beats import PHASES
from lvm_core.signal.ecg import LEADS_12
from tests.beam_jobs.job_helpers import (
    ECG_ONLY,
    FULL,
    flat_in,
    lvm,
    people,
    people_table,
    write_parquet,
    write_participants,
)


@pytest.fixture
def cohort(tmp_path: Path) -> dict[str, Any]:
    made = flat_in(people(12), 5)
    ecgs = write_parquet(tmp_path / "in" / "a.parquet", people_table(made))
    return {"ids": made.ecg_id, "ecgs": ecgs, "table": write_participants(tmp_path / "p.csv", made)}


def _explain(cohort: dict[str, Any], output: Path, *more: Any, model: str = FULL) -> int:
    argv = ["explain", "--input", cohort["ecgs"], "--model", model, "--output", output]
    return lvm(*argv, *more)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.tf
@pytest.mark.parametrize("method", ["gradient", "integrated"])
def test_explain__one_ecg_gives_pictures_and_a_table(cohort: dict[str, Any], tmp_path: Path, method: str) -> None:
    wanted = cohort["ids"][2]
    more = ("--participants", cohort["table"], "--method", method, "--steps", 2)
    assert _explain(cohort, tmp_path / "out", "--ecg-id", wanted, *more) == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"{wanted}.csv", f"{wanted}.png", f"{wanted}.svg"]
    assert not any(path.stat().st_mode & 0o077 for path in (tmp_path / "out").iterdir())
    assert "NOT CLINICAL" in (tmp_path / "out" / f"{wanted}.svg").read_text(encoding="utf-8")
    rows = _rows(tmp_path / "out" / f"{wanted}.csv")
    assert [row["lead"] for row in rows[::401]] == list(LEADS_12)
    v5 = {row["time_from_r_ms"]: float(row["average_uv"]) for row in rows if row["lead"] == "V5"}
    assert min(v5, key=lambda t: abs(float(t))) == "0"
    assert max(v5.values()) - np.median(list(v5.values())) > 400


@pytest.mark.tf
def test_explain__shares_of_a_sample_add_up(
    cohort: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--participants", cohort["table"], "--sample", 8)
    assert _explain(cohort, tmp_path / "out", *more) == 0
    rows = _rows(tmp_path / "out" / "shares.csv")
    assert len(rows) == len(LEADS_12) * len(PHASES)
    assert sum(float(row["share_of_saliency"]) for row in rows) == pytest.approx(1, abs=1e-4)
    qrs = sum(float(row["share_of_saliency"]) for row in rows if row["phase"] == "QRS")
    of_time = {row["phase"]: float(row["share_of_time"]) for row in rows}
    # The mass of synthetic people is in their QRS, and the model was trained on it.
    assert qrs > 2 * of_time["QRS"]
    assert "left out 1 of 8" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--ecg-id", "nobody"], "--ecg-id nobody not found in the inputs"),
        (["--ecg-id", "{flat}"], "lead V3 is constant"),
        (["--sample", "0"], "--sample is 0, expected 1 or more"),
        (["--sample", "2", "--steps", "0"], "--steps is 0, expected 1 or more"),
    ],
)
def test_explain__mistakes_are_named(
    cohort: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    given = [text.replace("{flat}", cohort["ids"][5]) for text in more]
    assert _explain(cohort, tmp_path / "out", *given, model=ECG_ONLY) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_explain__what_scoring_rejects_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = people(4)
    table = people_table(made, uv_per_count=[5.0, 5.0, 5e3, 5.0])
    ecgs = write_parquet(tmp_path / "in" / "a.parquet", table)
    given = ["--ecg-id", made.ecg_id[2]]
    assert _explain({"ecgs": ecgs}, tmp_path / "out", *given, model=ECG_ONLY) == 2
    assert "uv_per_count is 5000 uV, expected 0.001 to 100 uV" in capsys.readouterr().err


def test_explain__a_model_with_demographics_needs_the_table(
    cohort: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _explain(cohort, tmp_path / "out", "--sample", 2) == 2
    assert "no --participants is given" in capsys.readouterr().err
    assert _explain(cohort, tmp_path / "out", "--sample", 2, model="absent") == 2


def _explained(saliency: np.ndarray, peaks: list[int]) -> Explained:
    leads_uv = np.zeros((12, 5000))
    return Explained("e", 100.0, "gradient", leads_uv, saliency, np.array(peaks, dtype=np.intp))


def test_shares__by_hand() -> None:
    saliency = np.zeros((12, 5000), dtype=np.float32)
    saliency[1, 1000] = -3.0  # lead II at R
    saliency[6, 900] = 1.0  # V1, 200 ms before R
    table = shares([_explained(saliency, [1000]), _explained(saliency, [])])
    assert table[1, PHASES.index("QRS")] == pytest.approx(0.75)
    assert table[6, PHASES.index("P")] == pytest.approx(0.25)
    assert table.sum() == pytest.approx(1)
    # One beat at 500 Hz: QRS 60 of 5000 samples.
    assert time_shares([_explained(saliency, [1000])])[PHASES.index("QRS")] == 60 / 5000


def test_shares__nothing_to_share_is_refused() -> None:
    with pytest.raises(LvmError, match="none of 1 ECG has a QRS complex and a saliency"):
        shares([_explained(np.zeros((12, 5000), dtype=np.float32), [1000])])
