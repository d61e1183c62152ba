"""What a run says about itself: per shard, and for the whole run."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from importlib.metadata import version
from typing import Any, Final

from beam_jobs.reading.units import RESULTS_VERSION, UnitSummary
from beam_jobs.run.options import RunOptions
from beam_jobs.run.plan import Plan
from lvm_core.signal.quality import scale_verdict

_DISTRIBUTIONS: Final = ("lvm-ai", "apache-beam", "pyarrow", "numpy", "scipy", "keras")
WAITS: Final = ("reader_wait", "engine_wait", "writer_wait")
DONE_NAMES: Final = {"score": "predicted", "ingest": "ingested"}


def software_versions() -> dict[str, str]:
    """Return the versions of what computes results."""
    found = {name: version(name) for name in _DISTRIBUTIONS}
    return {**found, "python": platform.python_version()}


def options_for_report(options: RunOptions) -> dict[str, Any]:
    """Return the options of a command as JSON, without the ids of anybody."""
    plain = {f.name: getattr(options, f.name) for f in fields(options)}
    plain["storage"] = dict(options.storage.options)
    plain["id_rule"] = options.id_rule.pattern
    return {name: _plain(value) for name, value in plain.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, bool | int | float | dict) or value is None:
        return value
    return [str(v) for v in value] if isinstance(value, tuple) else str(value)


def counts(kind: str, total: UnitSummary) -> dict[str, Any]:
    """Return the counts of a summary as reports hold them."""
    return {"read": total.n_read, DONE_NAMES[kind]: total.n_done, "rejected": dict(sorted(total.rejected.items()))}


def stage_shares(stages_s: Mapping[str, float]) -> dict[str, float] | None:
    """Return the share of the units' time that was spent waiting, and checking; None without any.

    Args:
        stages_s: seconds of `reader_wait`, `engine_wait`, `writer_wait` and of all (`total`), added
            up over units. A unit waits for one thing at a time; what is left are its own checks.
    """
    total_s = stages_s.get("total", 0.0)
    if total_s <= 0:
        return None
    waits = {name: stages_s.get(name, 0.0) / total_s for name in WAITS}
    shares = {**waits, "checks": max(0.0, 1 - sum(waits.values()))}
    return {name: round(share, 4) for name, share in shares.items()}


def shard_report(
    kind: str,
    total: UnitSummary,
    *,
    startup_s: float,
    scoring_s: float,
    cpu_s: float,
    peak_rss_mb: float,
    counters: Mapping[str, int],
    options: Mapping[str, Any],
    warnings: list[str],
) -> dict[str, Any]:
    """Return what one process reports about the units it did.

    Args:
        kind: `score` or `ingest`.
        total: sum over its units.
        startup_s: from the start of the process to the first unit, seconds.
        scoring_s: from the first unit to the last, seconds.
        cpu_s: processor time of the process in that time, seconds.
        peak_rss_mb: largest resident memory, MB.
        counters: Beam's counters.
        options: of the command.
        warnings: of planning.
    """
    stages = {
        name.removesuffix("_ms"): value / 1000 for name, value in sorted(counters.items()) if name.endswith("_ms")
    }
    return {
        "counts": counts(kind, total),
        "timing_s": _timing(startup_s, scoring_s, cpu_s),
        "stages_s": stages,
        "stage_shares": stage_shares(stages),
        "ecg_per_s": round(total.n_read / scoring_s, 2) if scoring_s > 0 else None,
        "peak_rss_mb": round(peak_rss_mb, 1),
        "versions": software_versions(),
        "options": dict(options),
        "warnings": warnings,
    }


def _timing(startup_s: float, scoring_s: float, cpu_s: float) -> dict[str, float]:
    seconds = {"startup": startup_s, "scoring": scoring_s, "scoring_cpu": cpu_s}
    return {name: round(value, 3) for name, value in seconds.items()}


def final_report(
    plan: Plan, total: UnitSummary, shards: Mapping[str, Mapping[str, Any]], n_identical: int
) -> dict[str, Any]:
    """Return run_report.json: the counts of all units, and what the processes measured.

    `timing_s` and `ecg_per_s` are of the processes that wrote the shard reports: seconds are
    added up over processes, so the rate is that of one process.
    """
    runs = [run for report in shards.values() for run in (report, *report["earlier_runs"])]
    spent_s: Counter[str] = Counter()
    for run in runs:
        spent_s.update(run["timing_s"])
    scoring_s = spent_s["scoring"]
    n_read = sum(run["counts"]["read"] for run in runs)
    stages_s: Counter[str] = Counter()
    for run in runs:
        stages_s.update(run["stages_s"])
    last = runs[0] if runs else {}
    verdict = scale_verdict(total.amplitudes.median_uv())
    return {
        "kind": plan.kind,
        "fingerprint": plan.fingerprint,
        "results_version": RESULTS_VERSION,
        "counts": counts(plan.kind, total),
        "units": len(plan.units),
        "ignored_files": sum(plan.ignored.values()),
        "ignored_by_kind": dict(plan.ignored),
        "inputs_of_unknown_size": plan.n_of_unknown_size,
        "identical_signals": n_identical,
        "scale": {**plan.scale, "whole_run": verdict.message},
        "people": dict(plan.people),
        "timing_s": _timing(spent_s["startup"], scoring_s, spent_s["scoring_cpu"]),
        "stages_s": {name: round(seconds, 3) for name, seconds in sorted(stages_s.items())},
        "stage_shares": stage_shares(stages_s),
        "ecg_per_s": round(n_read / scoring_s, 2) if scoring_s > 0 else None,
        "peak_rss_mb": max((run["peak_rss_mb"] for run in runs), default=None),
        "n_processes": len(runs),
        "settings": dict(plan.settings),
        "versions": last.get("versions", software_versions()),
        "exclusions": last.get("exclusions"),
    }
