"""lvm-ai finish: shards become one closed run, from the folder alone."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.beam_jobs.job_helpers import (
    assert_nowhere,
    assert_reconciles,
    everything,
    exclusion_list,
    flat_in,
    lvm,
    people,
    people_table,
    report,
    result_files,
    score,
    write_cohort,
    write_parquet,
)

pytestmark = pytest.mark.usefixtures("fake")


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    write_cohort(tmp_path / "in", 40, n_files=5)
    return tmp_path / "in"


def _reopen(output: Path) -> None:
    """Make a run as it is after the last shard was killed between its last unit and its end."""
    for name in ("_SUCCESS", "run_report.json", "duplicates.parquet"):
        (output / name).unlink()


def test_finish__names_what_is_missing_and_whose_it_is(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert score(cohort, out, "--shard", "1/3") == 0
    assert score(cohort, out, "--shard", "3/3") == 0
    shutil.rmtree(cohort)
    assert lvm("finish", out) == 1
    said = capsys.readouterr().err
    assert "error: 2 of 5 units are not done (16 ECGs): units 1, 4" in said
    assert "they belong to shards 2/3 (2 units)" in said
    assert not (out / "_SUCCESS").exists()


def test_finish__closes_without_inputs_as_the_last_shard_would(cohort: Path, tmp_path: Path) -> None:
    out, alone = tmp_path / "out", tmp_path / "alone"
    assert score(cohort, alone) == 0
    for i in (1, 2, 3):
        assert score(cohort, out, "--shard", f"{i}/3") == 0
    before = (out / "duplicates.parquet").read_bytes()
    _reopen(out)
    shutil.rmtree(cohort)
    assert lvm("finish", out) == 0
    assert (out / "_SUCCESS").exists()
    assert_reconciles(out, 40)
    assert result_files(out) == result_files(alone)
    assert (out / "duplicates.parquet").read_bytes() == before
    assert report(out)["counts"] == report(alone)["counts"]
    assert report(out)["n_processes"] == 3
    assert not (out / "work").exists()


def test_closing__sweeps_what_a_killed_worker_left(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert score(cohort, out, "--shard", "1/2") == 0
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = out / "predictions" / f".unit-000001-0.parquet.{os.uname().nodename}.1.{dead.pid}.tmp"
    left.write_bytes(b"half a file")
    assert score(cohort, out, "--shard", "2/2") == 0
    assert (out / "_SUCCESS").exists()
    assert not left.exists()


def test_finish__twice_changes_nothing(cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert score(cohort, out) == 0
    before = everything(out)
    assert lvm("finish", out) == 0
    assert "finished already" in capsys.readouterr().err
    assert everything(out) == before


def test_finish__demands_what_the_shards_were_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs, out = tmp_path / "in", tmp_path / "out"
    write_parquet(inputs / "a.parquet", people_table(flat_in(people(8), 0, 1, 2)))
    assert score(inputs, out, "--max-rejected-share", "0.2") == 1
    assert lvm("finish", out) == 1
    assert (
        "3 of 8 ECGs are rejected (37.5%; 3 lead_flat), more than --max-rejected-share 0.2" in capsys.readouterr().err
    )
    assert lvm("finish", out, "--max-rejected-share", "0.5") == 0
    assert (out / "_SUCCESS").exists()


def test_finish__knows_whom_the_shards_left_out(cohort: Path, tmp_path: Path) -> None:
    """The list is not given again: the folder holds its digests until it is closed."""
    made, out = people(40), tmp_path / "out"
    gone = made.participant_id[3]
    listed = exclusion_list(tmp_path / "gone.txt", gone)
    for i in (1, 2):
        assert score(cohort, out, "--shard", f"{i}/3", "--exclude-participants", listed) == 0
    held = {path.name: path.read_bytes() for path in (out / "work").glob("exclusions-*")}
    assert held
    assert not any(gone.encode() in data for data in held.values())
    assert score(cohort, out, "--shard", "3/3", "--exclude-participants", listed) == 0
    _reopen(out)
    (out / "work").mkdir()
    for name, data in held.items():
        (out / "work" / name).write_bytes(data)
    assert lvm("finish", out) == 0
    assert_reconciles(out, 40)
    assert_nowhere(out, gone)


def test_plan_only__shards_start_from_the_plan(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert score(cohort, out, "--plan-only") == 0
    assert "planned: 40 ECGs in 5 units" in capsys.readouterr().err
    plan = (out / "plan.json").read_bytes()
    assert not result_files(out)
    for i in (1, 2):
        assert score(cohort, out, "--shard", f"{i}/2") == 0
    assert (out / "plan.json").read_bytes() == plan
    assert_reconciles(out, 40)


def test_reuse_plan__nothing_is_listed_again(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert score(cohort, out, "--plan-only") == 0
    monkeypatch.setattr("beam_jobs.runners.flow.find_inputs", _must_not_be_called)
    capsys.readouterr()
    assert score(cohort, out, "--reuse-plan") == 0
    assert "listing" not in capsys.readouterr().err
    assert_reconciles(out, 40)


def _must_not_be_called(*_: object, **__: object) -> None:
    raise AssertionError("inputs are listed again")


def test_reuse_plan__needs_one(cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert score(cohort, tmp_path / "out", "--reuse-plan") == 1
    assert "holds no plan to go on with; expected the same command without --reuse-plan" in capsys.readouterr().err
    for flag in ("--overwrite", "--plan-only"):
        assert score(cohort, tmp_path / "out", "--reuse-plan", flag) == 2
        assert f"--reuse-plan goes on with a plan and {flag} makes one" in capsys.readouterr().err


def test_finish__of_no_run_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lvm("finish", tmp_path) == 2
    assert "is no run folder (no plan.json)" in capsys.readouterr().err
