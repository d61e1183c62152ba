"""Where a run stands, worked out by hand from the times of its files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pytest

from beam_jobs.reading.storage import Storage
from beam_jobs.reading.units import Piece, UnitSummary, cut_units, path_digest
from beam_jobs.run.commit import footer, parquet_bytes
from beam_jobs.run.folder import RunFolder
from beam_jobs.run.plan import Plan
from beam_jobs.status import main, read_status, status_lines
from lvm_core.errors import UsageError

STORAGE = Storage()


def _run(folder: Path, n_units: int, done: dict[int, tuple[float, int]]) -> RunFolder:
    """Make a run of units of 100 ECGs; `done` gives when each unit ended and its rejects."""
    names = [f"{i:03d}.xml" for i in range(n_units)]
    pieces = [Piece(0, name, path_digest(0, name), 1, n_ecgs=100) for name in names]
    plan = Plan("score", {}, ())
    plan = plan.with_units(list(cut_units(pieces, unit_ecgs=100, first_number=0, settings_sha256="s")))
    run = RunFolder(STORAGE, str(folder))
    STORAGE.write_atomic(run.path("plan.json"), plan.to_bytes())
    for number, (time_s, n_rejected) in done.items():
        unit = plan.units[number]
        rejected = {"lead_flat": n_rejected} if n_rejected else {}
        summary = UnitSummary(number, 100, 100 - n_rejected, rejected)
        files = run.files(plan, unit)
        data = parquet_bytes(pa.table({"x": [1]}), footer(unit, summary, {}, {"result": "", "rejects": ""}))
        STORAGE.write_atomic(files.result, data)
        STORAGE.write_atomic(files.rejects, b"there")
        os.utime(files.result, (time_s, time_s))
    return run


def test_read_status__rate_counts_what_came_after_the_first_commit(tmp_path: Path) -> None:
    # 100 ECGs each at 1000, 1010 and 1040 s: 200 ECGs in 40 s.
    run = _run(tmp_path, 8, {0: (1000.0, 0), 2: (1010.0, 5), 1: (1040.0, 0)})
    status = read_status(run, now_s=1050.0)
    assert status.ecg_per_s == pytest.approx(5.0)
    assert status.left_s == pytest.approx(500 / 5.0)
    assert status.last_commit_s == pytest.approx(10.0)
    assert (status.units_done, status.units) == (3, 8)
    assert (status.n_read, status.n_ecgs, status.n_done) == (300, 800, 295)
    assert status.rejected == {"lead_flat": 5}
    assert not status.finished


def test_read_status__only_the_last_twenty_units_make_the_rate(tmp_path: Path) -> None:
    # Ten slow units, 1000 s apart, then 20 units one second apart: 19 x 100 ECGs in 19 s.
    slow = {i: (1000.0 * i, 0) for i in range(10)}
    fast = {10 + i: (20_000.0 + i, 0) for i in range(20)}
    run = _run(tmp_path, 40, {**slow, **fast})
    assert read_status(run, now_s=30_000.0).ecg_per_s == pytest.approx(100.0)


@pytest.mark.parametrize("done", [{}, {0: (1000.0, 0)}, {0: (1000.0, 0), 1: (1000.0, 0)}], ids=["none", "one", "equal"])
def test_read_status__too_little_to_tell_a_rate(tmp_path: Path, done: dict[int, tuple[float, int]]) -> None:
    status = read_status(_run(tmp_path, 3, done), now_s=1001.0)
    assert status.ecg_per_s is None
    assert status.left_s is None


def test_read_status__result_that_is_damaged_is_not_done(tmp_path: Path) -> None:
    run = _run(tmp_path, 2, {0: (1000.0, 0), 1: (1001.0, 0)})
    plan = run.require_plan()
    Path(run.files(plan, plan.units[1]).result).write_bytes(b"damaged")
    assert read_status(run, now_s=1002.0).units_done == 1


def test_read_status__no_run_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is no run folder \(no plan\.json\); expected the"):
        read_status(RunFolder(STORAGE, str(tmp_path)), now_s=0.0)


def test_status_lines__of_a_run_under_way(tmp_path: Path) -> None:
    run = _run(tmp_path, 8, {0: (1000.0, 0), 1: (1010.0, 5), 2: (1040.0, 1)})
    assert status_lines(read_status(run, now_s=1240.0)) == [
        "score: not finished, 3 of 8 units, 300 of 800 ECGs (37.5%)",
        "predicted: 294; rejected: 6",
        "  6 lead_flat",
        "last unit committed 3.3 min ago",
        "5.0 ECG/s over the last units, about 100 s left",
    ]


def test_status_lines__of_a_run_with_problems_do_not_say_finished_and_no_rate(tmp_path: Path) -> None:
    run = _run(tmp_path, 2, {0: (1000.0, 0), 1: (1010.0, 0)})
    STORAGE.write_atomic(run.path("_SUCCESS"), b"")
    run.write_json("run_report.json", {"problems": ["too many rejects"]})
    assert status_lines(read_status(run, now_s=2000.0)) == [
        "score: all units done, but NOT accepted, 2 of 2 units, 200 of 200 ECGs (100.0%)",
        "predicted: 200; rejected: 0",
        "problem: too many rejects",
    ]


def test_main__prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run(tmp_path, 2, {0: (1000.0, 0)})
    assert main([f"{tmp_path}/", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["units_done"], content["units"], content["n_read"]) == (1, 2, 100)


def test_read_status__failures_of_shards_and_workers_once_each_until_the_run_is_done(tmp_path: Path) -> None:
    run = _run(tmp_path, 2, {0: (1000.0, 0)})
    note = {"stages_s": {}, "failures": ["reading a failed", "reading b failed"]}
    run.write_json("reports/under-way-1-of-2-x.json", note)
    run.write_json("reports/shard-2-of-2.json", {**note, "failures": ["reading a failed"], "earlier_runs": [note]})
    status = read_status(run, now_s=1001.0)
    assert status.failures == ["reading a failed", "reading b failed"]
    assert "failure: reading b failed" in status_lines(status)
    finished = _run(tmp_path, 2, {0: (1000.0, 0), 1: (1000.0, 0)})
    assert read_status(finished, now_s=1001.0).failures == []
