"""What a run says about itself."""

from __future__ import annotations

import json
import platform
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beam_jobs.reading.storage import Storage
from beam_jobs.reading.units import Piece, UnitSummary, cut_units
from beam_jobs.run.folder import RunFolder
from beam_jobs.run.plan import Plan
from beam_jobs.run.report import (
    Work,
    WorkerNotes,
    counts,
    final_report,
    forget_notes,
    noted_work,
    shard_report,
    software_versions,
)
from beam_jobs.run.settings import ScoreSettings
from lvm_core.signal.scale import AmplitudeHistogram

TOTAL = UnitSummary(-1, 100, 90, {"lead_flat": 4, "excluded": 6}, AmplitudeHistogram().add(np.full(90, 1000.0)))


SETTINGS = ScoreSettings(inputs=("in",), output="out", model="m", batch=64)
WORK = Work(1.5, 20.0, 40.0, 812.34, {"reader_wait": 1.5, "total": 20.0})


def _shard(n_read: int = 100, **changes: Any) -> dict[str, Any]:
    return shard_report(replace(TOTAL, n_read=n_read), replace(WORK, **changes), SETTINGS, ["w"])


def _plan() -> Plan:
    pieces = [Piece(0, f"{i}.xml", f"{i}", 1) for i in range(3)]
    plan = Plan("score", {"batch": 64}, (), ignored={"by name": 2}, scale={"median_uv": 1010.0})
    units = cut_units(pieces, unit_ecgs=1, first_number=0, settings_sha256="s")
    return plan.with_units(list(units))


def test_software_versions__are_those_installed() -> None:
    found = software_versions()
    assert found["python"] == platform.python_version()
    assert found["pyarrow"] == version("pyarrow")
    assert "lvm-ai" in found


@pytest.mark.parametrize(("kind", "done"), [("score", "predicted"), ("ingest", "ingested")])
def test_counts__name_what_was_done(kind: str, done: str) -> None:
    found = counts(kind, TOTAL)
    assert found == {"read": 100, done: 90, "rejected": {"excluded": 6, "lead_flat": 4}}
    assert found["read"] == found[done] + sum(found["rejected"].values())


def test_shard_report__rate_is_of_scoring_alone() -> None:
    found = json.loads(json.dumps(_shard()))
    assert found["counts"] == counts("score", TOTAL)
    assert found["timing_s"] == {"startup": 1.5, "scoring": 20.0, "scoring_cpu": 40.0}
    assert found["ecg_per_s"] == 5.0
    assert found["peak_rss_mb"] == 812.3
    assert found["stages_s"] == {"reader_wait": 1.5, "total": 20.0}
    assert (found["options"]["batch"], found["warnings"]) == (64, ["w"])


def test_shard_report__no_time_no_rate() -> None:
    assert _shard(scoring_s=0.0)["ecg_per_s"] is None


def _note(folder: RunFolder, process: str, first_s: float, last_s: float, **changes: Any) -> None:
    note = {
        "process": process,
        "first_s": first_s,
        "last_s": last_s,
        "cpu_s": 4.0,
        "peak_rss_mb": 500.0,
        "stages_s": {"total": 3.0},
        "failures": [],
    }
    name = f"reports/under-way-1-of-2-{process}{first_s:.0f}.json"
    folder.write_json(name, {**note, **changes})


def test_noted_work__is_the_sum_over_workers_wherever_they_are(tmp_path: Path) -> None:
    folder = RunFolder(Storage(), str(tmp_path))
    now_s = time.time()
    _note(folder, "a", now_s + 10, now_s + 20, failures=["store is down"])
    _note(folder, "a", now_s + 12, now_s + 21, cpu_s=5.0)  # another thread of the same process
    _note(folder, "b", now_s + 14, now_s + 40, peak_rss_mb=900.0)
    folder.write_json("reports/under-way-1-of-20-c.json", {"of": "another shard"})
    work = noted_work(folder, (1, 2))
    assert work.startup_s > 10
    assert work.scoring_s == pytest.approx(30, abs=1e-3)
    assert (work.cpu_s, work.peak_rss_mb) == (9.0, 900.0)
    assert work.stages_s == {"total": 9.0}
    assert work.failures == ["store is down"]
    forget_notes(folder, (1, 2))
    assert noted_work(folder, (1, 2)) == Work()
    assert folder.storage.names(f"{tmp_path}/reports") == ["under-way-1-of-20-c.json"]


def test_worker_notes__are_written_at_once_when_a_unit_fails(tmp_path: Path) -> None:
    folder = RunFolder(Storage(), str(tmp_path))
    notes = WorkerNotes(folder, (1, 1))
    notes.write()  # nothing was begun: nothing to note
    notes.begin_unit()
    notes.end_unit(UnitSummary(0, 9, 9, stage_s={"total": 2.0}))
    assert noted_work(folder, (1, 1)) == Work()
    notes.begin_unit()
    notes.end_unit(UnitSummary(1, failed="store is down"))
    assert noted_work(folder, (1, 1)).failures == ["store is down"]
    assert noted_work(folder, (1, 1)).stages_s == {"total": 2.0}


def test_final_report__adds_seconds_over_processes() -> None:
    earlier = _shard(50, scoring_s=30.0, cpu_s=60.0, peak_rss_mb=900.0)
    shards = {
        "shard-1-of-2.json": {**_shard(100), "earlier_runs": [earlier]},
        "shard-2-of-2.json": {**_shard(150, scoring_s=50.0, cpu_s=100.0), "earlier_runs": []},
    }
    found = final_report(_plan(), TOTAL, shards, 4)
    assert found["n_processes"] == 3
    assert found["timing_s"] == {"startup": 4.5, "scoring": 100.0, "scoring_cpu": 200.0}
    assert found["ecg_per_s"] == 3.0
    assert found["peak_rss_mb"] == 900.0
    assert found["counts"] == counts("score", TOTAL)
    assert (found["units"], found["ignored_files"], found["identical_signals"]) == (3, 2, 4)
    assert found["settings"] == {"batch": 64}
    assert found["fingerprint"] == _plan().fingerprint


def test_final_report__scale_of_the_whole_run() -> None:
    found = final_report(_plan(), TOTAL, {}, 0)["scale"]
    assert found["median_uv"] == 1010.0
    assert "plausible" in found["whole_run"]


def test_final_report__without_any_shard_report_is_still_a_report() -> None:
    found = final_report(_plan(), TOTAL, {}, 0)
    assert found["ecg_per_s"] is None
    assert found["peak_rss_mb"] is None
    assert found["versions"] == software_versions()
    assert json.loads(json.dumps(found)) == found
