"""Ingest takes the cores that are there, and gives the same bits as one process."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from beam_jobs.run import planner
from tests.beam_jobs.job_helpers import assert_reconciles, counts, lvm, result_files
from tests.file_builders import random_counts, wfdb_record

N_ECGS = 12


@pytest.fixture(name="raw", scope="module")
def _raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    for i in range(N_ECGS):
        (folder / f"{i}").mkdir()
        for name, data in wfdb_record(random_counts(i)).items():
            (folder / f"{i}" / name).write_bytes(data)
    return folder


def _ingest(raw: Path, out: Path, *more: object) -> int:
    return lvm("ingest", "--input", raw, "--output", out, "--unit-ecgs", 4, "--measure", "never", *more)


def test_ingest__two_cores_give_the_bits_of_one_process(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("beam_jobs.ingest._LEAST_ECGS_OF_A_PROCESS", 4)
    monkeypatch.setattr("beam_jobs.ingest.available_cores", lambda: 2)
    assert _ingest(raw, tmp_path / "two") == 0
    assert "2 processes" in capfd.readouterr().err
    assert _ingest(raw, tmp_path / "one", "--processes", 1) == 0
    assert "processes" not in capfd.readouterr().err
    assert counts(tmp_path / "two")["ingested"] == N_ECGS
    assert result_files(tmp_path / "two") == result_files(tmp_path / "one")
    for name in ("one", "two"):
        assert_reconciles(tmp_path / name, N_ECGS)


def test_ingest__warnings_of_planning_are_in_a_report(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = planner.find_inputs

    def with_warning(*given: Any, **more: Any) -> planner.Inputs:
        return replace(found(*given, **more), warnings=["a warning"])

    monkeypatch.setattr("beam_jobs.runners.flow.find_inputs", with_warning)
    assert _ingest(raw, tmp_path / "out", "--processes", 2) == 0
    reports = [json.loads(path.read_text()) for path in (tmp_path / "out" / "reports").glob("shard-*.json")]
    assert len(reports) == 2
    assert [warning for report in reports for warning in report["warnings"]] == ["a warning"]


@pytest.mark.parametrize(
    ("cores", "least_ecgs", "free_mb", "expected"),
    [
        (2, 4, 1e6, 2),
        (64, 4, 1e6, 3),  # three units
        (64, 6, 1e6, 2),  # 12 ECGs are worth two processes
        (64, 500, 1e6, 1),
        (64, 4, 1100, 2),  # 350 MB each, and a part of what is free stays free
        (64, 4, 10, 1),
        (64, 4, None, 3),  # not known
    ],
)
def test_ingest__dry_run_says_how_many_processes(
    cores: int,
    least_ecgs: int,
    free_mb: float | None,
    expected: int,
    raw: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("beam_jobs.ingest._LEAST_ECGS_OF_A_PROCESS", least_ecgs)
    monkeypatch.setattr("beam_jobs.run.resources.available_cores", lambda: cores)
    monkeypatch.setattr("beam_jobs.ingest.available_cores", lambda: cores)
    monkeypatch.setattr("beam_jobs.run.resources.available_memory_mb", lambda: free_mb)
    assert _ingest(raw, tmp_path / "out", "--dry-run") == 0
    assert f"processes here: {expected}\n" in capsys.readouterr().out
    assert _ingest(raw, tmp_path / "out", "--dry-run", "--threads", 1) == 0
    assert "processes here: 1\n" in capsys.readouterr().out
