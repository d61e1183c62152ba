"""What a run says about itself: per shard, and for the whole run."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import fields
from importlib.metadata import version
from typing import Any, Final

from beam_jobs.options import RunOptions
from beam_jobs.plan import Plan
from beam_jobs.units import RESULTS_VERSION, UnitSummary
from lvm_core.quality import scale_verdict

_DISTRIBUTIONS: Final = ("lvm-ai", "apache-beam", "pyarrow", "numpy", "scipy", "keras")
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
    return {
        "read": total.n_read,
        DONE_NAMES[kind]: total.n_done,
        "rejected": dict(sorted(total.rejected.items())),
    }


def shard_report(
    kind: str,
    total: UnitSummary,
    *,
    startup_s: float,
    scoring_s: float,
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
        peak_rss_mb: largest resident memory, MB.
        counters: Beam's counters.
        options: of the command.
        warnings: of planning.
    """
    stages = {
        name.removesuffix("_ms"): value / 1000
        for name, value in sorted(counters.items())
        if name.endswith("_ms")
    }
    return {
        "counts": counts(kind, total),
        "timing_s": {"startup": round(startup_s, 3), "scoring": round(scoring_s, 3)},
        "stages_s": stages,
        "ecg_per_s": round(total.n_read / scoring_s, 2) if scoring_s > 0 else None,
        "peak_rss_mb": round(peak_rss_mb, 1),
        "versions": software_versions(),
        "options": dict(options),
        "warnings": warnings,
    }


def final_report(
    plan: Plan, total: UnitSummary, shards: Mapping[str, Mapping[str, Any]], n_identical: int
) -> dict[str, Any]:
    """Return run_report.json: the counts of all units, and what the processes measured.

    `timing_s` and `ecg_per_s` are of the processes that wrote the shard reports: seconds are
    added up over processes, so the rate is that of one process.
    """
    runs = [run for report in shards.values() for run in (report, *report["earlier_runs"])]
    scoring_s = sum(run["timing_s"]["scoring"] for run in runs)
    n_read = sum(run["counts"]["read"] for run in runs)
    last = runs[0] if runs else {}
    verdict = scale_verdict(total.amplitudes.median_uv())
    return {
        "kind": plan.kind,
        "fingerprint": plan.fingerprint,
        "results_version": RESULTS_VERSION,
        "counts": counts(plan.kind, total),
        "units": len(plan.units),
        "ignored_files": plan.n_ignored,
        "identical_signals": n_identical,
        "scale": {**plan.scale, "whole_run": verdict.message},
        "timing_s": {
            "startup": round(sum(run["timing_s"]["startup"] for run in runs), 3),
            "scoring": round(scoring_s, 3),
        },
        "ecg_per_s": round(n_read / scoring_s, 2) if scoring_s > 0 else None,
        "peak_rss_mb": max((run["peak_rss_mb"] for run in runs), default=None),
        "n_processes": len(runs),
        "settings": dict(plan.settings),
        "versions": last.get("versions", software_versions()),
        "exclusions": last.get("exclusions"),
    }
