"""What a run says about itself: workers under way, shards, and the run as a whole."""

from __future__ import annotations

import os
import platform
import resource
import socket
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from beam_jobs.reading.blocks import EcgRow, Reject
from beam_jobs.reading.storage import StorageFault
from beam_jobs.reading.units import RESULTS_VERSION, Piece, UnitSummary, digest, path_digest
from beam_jobs.run.folder import REPORTS_FOLDER, UNDER_WAY_PREFIX, RunFolder
from beam_jobs.run.plan import PLAN_NAME, Plan
from beam_jobs.run.settings import RunSettings
from lvm_core.errors import LvmError, form_of, may_identify
from lvm_core.signal.plausibility import is_about_scale
from lvm_core.signal.scale import SourceAmplitudes, scale_verdict

_DISTRIBUTIONS: Final = ("lvm-ai", "apache-beam", "pyarrow", "numpy", "scipy", "keras")
_NOTE_EVERY_S: Final = 30.0
WAITS: Final = ("reader_wait", "engine_wait", "writer_wait")
DONE_NAMES: Final = {"score": "predicted", "ingest": "ingested"}


def software_versions() -> dict[str, str]:
    """Return the versions of what computes results."""
    found = {name: version(name) for name in _DISTRIBUTIONS}
    return {**found, "python": platform.python_version()}


def counts(kind: str, total: UnitSummary) -> dict[str, Any]:
    """Return the counts of a summary as reports hold them."""
    return {"read": total.n_read, DONE_NAMES[kind]: total.n_done, "rejected": dict(sorted(total.rejected.items()))}


def stage_shares(stages_s: Mapping[str, float]) -> dict[str, float] | None:
    """Return the share of the units' time that was spent waiting, and checking; None without any.

    `stages_s` holds the seconds of `reader_wait`, `engine_wait`, `writer_wait` and of all (`total`)
    over units. A unit waits for one thing at a time; what is left are its own checks.
    """
    total_s = stages_s.get("total", 0.0)
    if total_s <= 0:
        return None
    waits = {name: stages_s.get(name, 0.0) / total_s for name in WAITS}
    shares = {**waits, "checks": max(0.0, 1 - sum(waits.values()))}
    return {name: round(share, 4) for name, share in shares.items()}


@dataclass
class WorkerNotes:
    """What a worker notes in the run folder beside its units: times, memory and failures.

    Result files hold none of these, so that their bytes are the same in every run. `lvm-ai status`
    reads the notes of a run under way; the report of a shard adds up those of its workers, wherever
    they were, and removes them.
    """

    folder: RunFolder  # the run folder
    shard: tuple[int, int]  # the worker does units of this shard
    _name: str = ""
    _first_s: float | None = None
    _last_s: float = 0.0
    _cpu_before_s: float = 0.0
    _written_s: float = 0.0
    _stages_s: Counter[str] = field(default_factory=Counter)
    _failures: list[str] = field(default_factory=list)

    @property
    def process(self) -> str:
        """Name of this process that no other has, on any machine."""
        return digest([socket.gethostname(), os.getpid()])[:16]

    def begin_unit(self, *, write: bool = False) -> None:
        """Note that a unit begins; `write` tells the folder of the first one at once."""
        if self._first_s is None:
            self._begin()
            if write:
                self.write()

    def _begin(self) -> None:
        self._name = f"{_notes_prefix(self.shard)}{uuid.uuid4().hex[:12]}.json"
        self._first_s = self._last_s = self._written_s = time.time()
        self._cpu_before_s = time.process_time()

    def fail(self, message: str) -> None:
        """Note why this worker cannot go on, unless it does not see the folder."""
        if self._first_s is None:
            self._begin()
        if message not in self._failures[-1:]:
            self._failures.append(message)
        with suppress(LvmError):
            if self.folder.storage.is_file(self.folder.path(PLAN_NAME)):
                self.write()

    def end_unit(self, summary: UnitSummary) -> None:
        """Note what a unit took, or why it failed; write the notes now and then."""
        self._last_s = time.time()
        self._stages_s.update(summary.stage_s)
        if summary.failed is not None:
            self._failures.append(summary.failed)
        if summary.failed is not None or self._last_s - self._written_s >= _NOTE_EVERY_S:
            self.write()

    def write(self) -> None:
        """Write the notes; a storage that fails them costs no unit."""
        if self._first_s is None:
            return
        self._written_s = time.time()
        content = {
            "process": self.process,
            "first_s": self._first_s,
            "last_s": self._last_s,
            "cpu_s": time.process_time() - self._cpu_before_s,
            "peak_rss_mb": peak_rss_mb(),
            "stages_s": self._stages_s,
            "failures": self._failures,
        }
        with suppress(StorageFault):
            self.folder.write_json(f"{REPORTS_FOLDER}/{self._name}", content)


@dataclass(frozen=True)
class Work:
    """What the workers of a shard noted, added up."""

    startup_s: float = 0.0  # from the start of this process to the first unit, seconds
    scoring_s: float = 0.0  # from the first unit to the last, seconds
    cpu_s: float = 0.0  # processor time of the workers in that time, seconds
    peak_rss_mb: float | None = None  # largest resident memory of a worker, MB; None where none has noted it
    stages_s: Mapping[str, float] = field(default_factory=dict)  # seconds that units spent in each stage
    failures: Sequence[str] = ()  # messages of units that the storage failed


def noted_work(folder: RunFolder, shard: tuple[int, int]) -> Work:
    """Return what the workers of a shard noted."""
    notes = list(folder.reports(_notes_prefix(shard)).values())
    if not notes:
        return Work()
    first_s = min(note["first_s"] for note in notes)
    cpu_s: dict[str, float] = {}
    stages_s: Counter[str] = Counter()
    for note in notes:  # several of one process count its time each
        cpu_s[note["process"]] = max(note["cpu_s"], cpu_s.get(note["process"], 0.0))
        stages_s.update(note["stages_s"])
    return Work(
        max(0.0, first_s - _process_start_s()),
        max(note["last_s"] for note in notes) - first_s,
        sum(cpu_s.values()),
        max(note["peak_rss_mb"] for note in notes),
        stages_s,
        [failure for note in notes for failure in note["failures"]],
    )


def has_notes(folder: RunFolder, shard: tuple[int, int]) -> bool:
    """Return True where a worker of a shard has begun, or failed before it began."""
    names = folder.storage.names(folder.path(REPORTS_FOLDER))
    return any(name.startswith(_notes_prefix(shard)) for name in names)


def forget_notes(folder: RunFolder, shard: tuple[int, int]) -> None:
    """Remove the notes of a shard's workers, also those of a run that was killed."""
    own = _notes_prefix(shard)
    for name in folder.storage.names(folder.path(REPORTS_FOLDER)):
        if name.startswith(own) or name == f"{own[:-1]}.json":  # the second: of earlier versions
            folder.storage.delete(folder.path(REPORTS_FOLDER, name))


def _notes_prefix(shard: tuple[int, int]) -> str:
    return f"{UNDER_WAY_PREFIX}{shard[0]}-of-{shard[1]}-"


def _process_start_s() -> float:
    """Return when this process began, seconds since the epoch; now where Linux does not say."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return time.time()
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))


def peak_rss_mb() -> float:
    """Return the largest resident memory of this process, MB.

    From the kernel's own account where there is one: `getrusage` begins with what the process had
    that started this one.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    found = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    kib = found[0] if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib * 1024 / 1e6


def shard_report(total: UnitSummary, work: Work, settings: RunSettings, warnings: Sequence[str]) -> dict[str, Any]:
    """Return what one command reports about the units it did; `total` is the sum over them."""
    return {
        "counts": counts(settings.kind, total),
        "timing_s": _timing(work.startup_s, work.scoring_s, work.cpu_s),
        "stages_s": _rounded(work.stages_s),
        "stage_shares": stage_shares(work.stages_s),
        "ecg_per_s": round(total.n_read / work.scoring_s, 2) if work.scoring_s > 0 else None,
        "peak_rss_mb": None if work.peak_rss_mb is None else round(work.peak_rss_mb, 1),
        "versions": software_versions(),
        "options": settings.as_given(),
        "warnings": list(warnings),
        "failures": list(work.failures),
    }


def _timing(startup_s: float, scoring_s: float, cpu_s: float) -> dict[str, float]:
    return _rounded({"startup": startup_s, "scoring": scoring_s, "scoring_cpu": cpu_s})


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in sorted(seconds.items())}


def final_report(
    plan: Plan, total: UnitSummary, shards: Mapping[str, Mapping[str, Any]], n_identical: int
) -> dict[str, Any]:
    """Return run_report.json: the counts of all units, and what the processes measured.

    Seconds of `timing_s` are added up over the commands that wrote the shard reports, so that
    `ecg_per_s` is the rate of one of them.
    """
    runs = [run for report in shards.values() for run in (report, *report["earlier_runs"])]
    spent_s: Counter[str] = Counter()
    stages_s: Counter[str] = Counter()
    for run in runs:
        spent_s.update(run["timing_s"])
        stages_s.update(run["stages_s"])
    scoring_s, n_read = spent_s["scoring"], sum(run["counts"]["read"] for run in runs)
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
        "stages_s": _rounded(stages_s),
        "stage_shares": stage_shares(stages_s),
        "ecg_per_s": round(n_read / scoring_s, 2) if scoring_s > 0 else None,
        "peak_rss_mb": max((run["peak_rss_mb"] for run in runs if run["peak_rss_mb"]), default=None),
        "n_processes": len(runs),
        "settings": dict(plan.settings),
        "versions": last.get("versions", software_versions()),
        "exclusions": last.get("exclusions"),
    }


def source_amplitudes(
    rows: Sequence[EcgRow],
    amplitudes_uv: NDArray[np.float64],
    rejects: Sequence[Reject],
    folder_of: Callable[[str], str],
) -> SourceAmplitudes:
    """Return the amplitudes of decoded ECGs, (n,) microvolts, by source.

    Rejects of the reader for implausible voltages are counted. `folder_of` gives the digest of the
    first folder of a path (`folder_digest_of`).
    """
    folders, steps_uv = [folder_of(row.source_uri) for row in rows], [row.uv_per_count for row in rows]
    uris = [reject.source_uri for reject in rejects if is_about_scale(reject.reason)]
    refused = [folder_of(uri) for uri in uris if uri is not None]
    return SourceAmplitudes.of(folders, steps_uv, amplitudes_uv, refused)


def first_folder(path: str) -> str:
    """Return the first folder of a path below its root; empty for a file at the root."""
    return path.partition("/")[0] if "/" in path else ""


def folder_digest_of(pieces: Iterable[Piece]) -> Callable[[str], str]:
    """Return what gives the digest of the first folder of a record of these pieces by its path."""
    roots = {piece.shown: piece.root for piece in pieces if piece.path}
    digests: dict[tuple[int, str], str] = {}

    def digest_of(path: str) -> str:
        place = roots.get(path, 0), first_folder(path)
        if place not in digests:
            digests[place] = path_digest(*place)
        return digests[place]

    return digest_of


def _shown(folder: str) -> str:
    if may_identify(folder):
        return f"a folder named like {form_of(folder)}"
    return folder or "the top folder"


def folder_names(pieces: Iterable[Piece]) -> dict[str, str]:
    """Return the names of the first folders of pieces by their digests.

    With several inputs the number of the input stands before the folder. A folder name that may be
    an identifier, as one with five digits in a row, is shown by its form.
    """
    places = {(piece.root, first_folder(piece.shown)) for piece in pieces if piece.shown}
    several = len({root for root, _ in places}) > 1
    shown = {(root, folder): f"{f'input {root + 1}, ' if several else ''}{_shown(folder)}" for root, folder in places}
    return {path_digest(*place): name for place, name in shown.items()}
