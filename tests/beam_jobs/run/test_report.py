"""What a run says about itself."""

from __future__ import annotations

import json
import platform
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beam_jobs.reading.inputs import IdRule
from beam_jobs.reading.storage import Storage
from beam_jobs.reading.units import Piece, UnitSummary, cut_units
from beam_jobs.run.options import IngestOptions, ScoreOptions
from beam_jobs.run.plan import Plan
from beam_jobs.run.report import counts, final_report, options_for_report, shard_report, software_versions
from lvm_core.signal.quality import AmplitudeHistogram

TOTAL = UnitSummary(-1, 100, 90, {"lead_flat": 4, "excluded": 6}, AmplitudeHistogram().add(np.full(90, 1000.0)))


def _shard(n_read: int = 100, scoring_s: float = 20.0, **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "startup_s": 1.5,
        "scoring_s": scoring_s,
        "cpu_s": 2 * scoring_s,
        "peak_rss_mb": 812.34,
        "options": {"batch": 64},
        "counters": {"reader_wait_ms": 1500, "total_ms": 20_000, "read": 100},
        "warnings": ["w"],
    }
    return shard_report("score", replace(TOTAL, n_read=n_read), **(given | changes))


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


def test_options_for_report__is_json() -> None:
    options = ScoreOptions(
        inputs=("in", "more"),
        output="out",
        model="m",
        model_dir=Path("models"),
        shard=(2, 3),
        storage=Storage((("s3.region", "eu-west-1"),)),
        id_rule=IdRule("ukb-20205"),
        exclude="w",
    )
    found = json.loads(json.dumps(options_for_report(options)))
    assert found["inputs"] == ["in", "more"]
    assert found["id_rule"] == "ukb-20205"
    assert found["storage"] == {"s3.region": "eu-west-1"}
    assert found["model_dir"] == "models"
    assert found["input_convention"] == "ukb_counts"
    assert found["participants"] is None
    assert found["max_rejected_share"] == 0.05
    assert found["overwrite"] is False


def test_options_for_report__of_ingest() -> None:
    options = IngestOptions(inputs=("in",), output="out", formats=("muse_xml",))
    assert options_for_report(options)["formats"] == ["muse_xml"]


def test_shard_report__rate_is_of_scoring_alone() -> None:
    found = _shard()
    assert found["counts"] == counts("score", TOTAL)
    assert found["timing_s"] == {"startup": 1.5, "scoring": 20.0, "scoring_cpu": 40.0}
    assert found["ecg_per_s"] == 5.0
    assert found["peak_rss_mb"] == 812.3
    assert found["stages_s"] == {"reader_wait": 1.5, "total": 20.0}
    assert (found["options"], found["warnings"]) == ({"batch": 64}, ["w"])


def test_shard_report__no_time_no_rate() -> None:
    assert _shard(scoring_s=0.0)["ecg_per_s"] is None


def test_final_report__adds_seconds_over_processes() -> None:
    earlier = _shard(50, 30.0, peak_rss_mb=900.0)
    shards = {
        "shard-1-of-2.json": {**_shard(100, 20.0), "earlier_runs": [earlier]},
        "shard-2-of-2.json": {**_shard(150, 50.0), "earlier_runs": []},
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
