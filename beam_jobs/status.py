"""Where a run stands, from its folder alone, whatever runs it and wherever."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from beam_jobs.reading.units import merge_summaries
from beam_jobs.run.commit import RESULT_FOLDERS
from beam_jobs.run.folder import REPORT_NAME, UNDER_WAY_PREFIX, RunFolder
from beam_jobs.run.plan import Plan
from beam_jobs.run.report import DONE_NAMES, stage_shares
from beam_jobs.run.settings import add_storage_option, storage_of
from lvm_core.command_line import ArgumentParser
from lvm_core.wording import counted

_RECENT_UNITS = 20
_SHOWN_FAILURES = 5
_STAGES = {
    "reader_wait": "waiting for the reader",
    "engine_wait": "for the engine",
    "writer_wait": "for the writer",
    "checks": "checking",
}


@dataclass(frozen=True)
class Status:
    """Where a run stands."""

    kind: str  # `score` or `ingest`
    finished: bool  # the run is closed
    units_done: int  # committed units
    units: int  # of the plan
    n_read: int  # ECGs of committed units
    n_ecgs: int  # ECGs of the plan
    n_done: int  # predictions, or ECGs ingested
    rejected: dict[str, int]  # ECGs by reason
    ecg_per_s: float | None  # over the most recent units, by the times of their files; None when unknown
    left_s: float | None  # seconds left at that rate; None when unknown
    last_commit_s: float | None  # seconds since the last unit was committed; None when there is none
    # Of the units' time, as `report.stage_shares` gives them; None when unknown. Of a run under
    # way, what its processes on this folder noted in the last half minute.
    shares: dict[str, float] | None
    problems: list[str]  # why the run does not count as done, from its report and from what lies in it
    failures: list[str]  # why workers gave up units, of a run that is not finished


def read_status(folder: RunFolder, now_s: float) -> Status:
    """Read where a run stands at a time, seconds since the epoch."""
    plan = folder.require_plan()
    done = folder.committed(plan)
    total = merge_summaries(done.values())
    times = folder.storage.modified_s(folder.path(RESULT_FOLDERS[plan.kind]))
    stamps = sorted(
        (times[name], done[unit.number].n_read)
        for unit in plan.units
        if unit.number in done and (name := f"{unit.name}.parquet") in times
    )
    rate = _rate(stamps[-_RECENT_UNITS:])
    report = folder.read_json(REPORT_NAME) or {}
    return Status(
        kind=plan.kind,
        finished=folder.is_finished,
        units_done=len(done),
        units=len(plan.units),
        n_read=total.n_read,
        n_ecgs=plan.n_ecgs,
        n_done=total.n_done,
        rejected=dict(total.rejected),
        ecg_per_s=rate,
        left_s=None if not rate else max(0, plan.n_ecgs - total.n_read) / rate,
        last_commit_s=now_s - stamps[-1][0] if stamps else None,
        shares=_shares(folder),
        problems=_problems(folder, plan, list(report.get("problems", []))),
        failures=_failures(folder) if len(done) < len(plan.units) else [],
    )


def _failures(folder: RunFolder) -> list[str]:
    """Return each message once: of the last command of each shard, and of workers under way."""
    notes = [*folder.reports().values(), *folder.reports(UNDER_WAY_PREFIX).values()]
    return [*dict.fromkeys(message for note in notes for message in note.get("failures", []))]


def _problems(folder: RunFolder, plan: Plan, reported: list[str]) -> list[str]:
    foreign = folder.foreign_problem(plan)
    return reported if foreign is None or foreign in reported else [*reported, foreign]


def _shares(folder: RunFolder) -> dict[str, float] | None:
    reports = folder.reports().values()
    runs = [run for report in reports for run in (report, *report.get("earlier_runs", []))]
    stages_s: Counter[str] = Counter()
    for run in [*runs, *folder.reports(UNDER_WAY_PREFIX).values()]:
        stages_s.update(run["stages_s"])
    return stage_shares(stages_s)


def _rate(stamps: Sequence[tuple[float, int]]) -> float | None:
    """Return ECGs per second between the first and the last of some commits."""
    if len(stamps) < 2 or stamps[-1][0] <= stamps[0][0]:
        return None
    return sum(n for _, n in stamps[1:]) / (stamps[-1][0] - stamps[0][0])


def status_lines(status: Status) -> list[str]:
    """Return the status for people."""
    share = status.n_read / status.n_ecgs if status.n_ecgs else 1.0
    what = DONE_NAMES[status.kind]
    state = "finished" if status.finished else "not finished"
    if status.problems and status.units_done == status.units:
        state = "all units done, but NOT accepted"
    lines = [
        f"{status.kind}: {state}, {status.units_done} of {counted(status.units, 'unit')}, "
        f"{status.n_read} of {counted(status.n_ecgs, 'ECG')} ({share:.1%})",
        f"{what}: {status.n_done}; rejected: {sum(status.rejected.values())}",
        *(f"  {n} {reason}" for reason, n in sorted(status.rejected.items(), key=lambda i: -i[1])),
    ]
    if status.last_commit_s is not None and not status.finished:
        lines.append(f"last unit committed {_duration(status.last_commit_s)} ago")
    if status.ecg_per_s is not None and not status.finished:
        left = "" if status.left_s is None else f", about {_duration(status.left_s)} left"
        lines.append(f"{status.ecg_per_s:.1f} ECG/s over the last units{left}")
    if status.shares is not None:
        parts = ", ".join(f"{share:.1%} {_STAGES[name]}" for name, share in status.shares.items())
        lines.append(f"time of the units: {parts}")
    lines += [f"failure: {failure}" for failure in status.failures[:_SHOWN_FAILURES]]
    if len(status.failures) > _SHOWN_FAILURES:
        lines.append(f"and {len(status.failures) - _SHOWN_FAILURES} other failures (--json shows them)")
    return [*lines, *(f"problem: {problem}" for problem in status.problems)]


def _duration(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def main(argv: Sequence[str]) -> int:
    """Run `lvm-ai status`."""
    parser = ArgumentParser(prog="lvm-ai status", description="Progress, throughput and rejects of a run.")
    parser.add_argument("output", help="run folder")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_storage_option(parser)
    args = parser.parse_args(argv)
    folder = RunFolder(storage_of(args.storage_option), args.output.rstrip("/"))
    status = read_status(folder, time.time())
    text = json.dumps(asdict(status), indent=2) if args.json else "\n".join(status_lines(status))
    sys.stdout.write(f"{text}\n")
    return 0


if __name__ == "__main__":
    import lvm_ai  # its messages and exit codes

    sys.exit(lvm_ai.module_main("status"))
