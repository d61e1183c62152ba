"""The end of a run: its units are counted, judged as a whole, and the run is closed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from beam_jobs.reading.units import UnitSummary
from beam_jobs.run.exclusions import Exclusions, remove_people
from beam_jobs.run.folder import (
    REPORT_NAME,
    SUCCESS_NAME,
    WORK_FOLDER,
    RunFolder,
    count_flags,
    reconcile,
    write_duplicates,
)
from beam_jobs.run.plan import Plan
from beam_jobs.run.planner import ignored_text
from beam_jobs.run.progress import say
from beam_jobs.run.pseudonyms import without_paths
from beam_jobs.run.report import DONE_NAMES, final_report, folder_names
from lvm_core.errors import RejectReason
from lvm_core.signal.scale import scale_verdict
from lvm_core.wording import counted


@dataclass(frozen=True)
class Demands:
    """What a run must fulfil to count as done."""

    max_rejected_share: float  # of the ECGs, those of excluded people left out
    stops_at_wrong_scale: bool  # amplitudes that cannot be right make the whole run fail


def close_run(
    folder: RunFolder,
    plan: Plan,
    done: Mapping[int, UnitSummary],
    demands: Demands,
    exclusions: Exclusions,
    options: Mapping[str, Any],
) -> bool:
    """Check a run whose units are all done, and write what says that it is done.

    Doing it again does no harm. `options` are those of the command, for the report. Returns False
    where the run must not count as done; the report and the lines that the user sees say why.
    """
    total = reconcile(plan, done)
    if exclusions:
        # Paths of shared files that name a person were needed until now.
        remove_people(folder, plan, exclusions, sorted(done))
    say("closing: looking for identical signals")
    n_identical = write_duplicates(folder, plan)
    report = final_report(plan, total, folder.reports(), n_identical)
    report["options"] = dict(options)
    report["quality_flags"] = flags = count_flags(folder, plan)
    report["problems"] = problems = _problems(folder, plan, total, demands)
    report["scale"]["odd_sources"] = odd_sources = total.sources.odd(folder_names(plan.pieces))
    for sentence in odd_sources:
        say(f"warning: {sentence}")
    if exclusions.ids and not total.rejected.get(RejectReason.EXCLUDED.value):
        say(
            f"warning: none of the {len(exclusions)} listed identifiers is in this run; "
            "are they participant_id or ecg_id as in the inputs?"
        )
    folder.write_json(REPORT_NAME, exclusions.scrubbed(report))
    if plan.is_private:
        # All units are done, so that no path is needed any more.
        folder.write_plan(without_paths(folder.require_plan()))
    for line in _summary_lines(plan, total, n_identical):
        say(line)
    for flag, n in flags.items():
        say(f"  {n} flagged {flag}")
    for problem in problems:
        say(f"error: {problem}")
    if not problems:
        folder.storage.write_atomic(folder.path(SUCCESS_NAME), b"")
    folder.storage.delete_folder(folder.path(WORK_FOLDER))
    folder.sweep()  # workers that were killed on a cluster
    return not problems


def _problems(folder: RunFolder, plan: Plan, total: UnitSummary, demands: Demands) -> list[str]:
    """Return why the run must not count as done."""
    problems = []
    # People who were excluded on purpose say nothing about the quality of the data.
    n_bad = total.n_rejected - total.rejected.get(RejectReason.EXCLUDED.value, 0)
    share = n_bad / total.n_read if total.n_read else 0.0
    if share > demands.max_rejected_share:
        worst = ", ".join(f"{n} {r}" for r, n in _by_number(total.rejected)[:3])
        problems.append(
            f"{n_bad} of {counted(total.n_read, 'ECG', 'are')} rejected ({share:.1%}; {worst}), more than "
            f"--max-rejected-share {demands.max_rejected_share:g}. Look at {folder.path('rejects')}; where this is "
            f"right, run the same lvm-ai {plan.kind} command with a larger --max-rejected-share"
        )
    foreign = folder.foreign_problem(plan)
    if foreign:
        problems.append(foreign)
    verdict = scale_verdict(total.amplitudes.median_uv())
    if verdict.plausible is False:
        message = f"scale of the whole run: {verdict.message}"
        if demands.stops_at_wrong_scale:
            problems.append(message)
        else:
            say(f"warning: {message}")
    return problems


def _by_number(rejected: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(rejected.items(), key=lambda item: (-item[1], item[0]))


def _summary_lines(plan: Plan, total: UnitSummary, n_identical: int) -> list[str]:
    what = DONE_NAMES[plan.kind]
    lines = [f"{counted(total.n_read, 'ECG')} read = {total.n_done} {what} + {total.n_rejected} rejected"]
    lines += [f"  {n} {reason}" for reason, n in _by_number(total.rejected)]
    if plan.n_of_unknown_size:
        lines.append(
            f"{counted(plan.n_of_unknown_size, 'input')} with an unknown number of ECGs cannot be read: "
            "each counts as 1 here, and may be many more"
        )
    if plan.ignored:
        lines.append(f"ignored: {ignored_text(plan.ignored)}")
    if n_identical:
        lines.append(f"{counted(n_identical, 'recording', 'share')} their signal with another: duplicates.parquet")
    return lines
