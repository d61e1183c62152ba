"""Close a run from its folder: shards into one report and `_SUCCESS`, or what is missing."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

from beam_jobs.run.closing import Demands, close_run
from beam_jobs.run.folder import REPORTS_FOLDER, SHARD_PREFIX, UNDER_WAY_PREFIX, RunFolder
from beam_jobs.run.order import written_exclusions
from beam_jobs.run.plan import Plan
from beam_jobs.run.progress import say
from beam_jobs.run.settings import RunSettings, ScoreSettings, add_storage_option, storage_of
from lvm_core.command_line import ArgumentParser, add_share_option
from lvm_core.wording import counted

_SHOWN: Final = 20
_SHARD_NAME: Final = re.compile(rf"(?:{SHARD_PREFIX}|{UNDER_WAY_PREFIX})\d+-of-(\d+)[-.]")


def finish(folder: RunFolder, demands: Demands | None = None) -> int:
    """Close a run, and return the exit code; doing it again does no harm.

    Neither inputs nor models are needed. `demands` are those of the commands that did the work
    where it is None.
    """
    plan = folder.require_plan()
    done = folder.committed(plan)
    if len(done) < len(plan.units):
        for line in _missing_lines(folder, plan, {unit.number for unit in plan.units} - set(done)):
            say(line)
        return 1
    if folder.is_finished:
        foreign = folder.foreign_problem(plan)
        say(f"error: {foreign}" if foreign else f"finished already: {folder.uri}")
        return 1 if foreign else 0
    options = _options(folder)
    exclusions = written_exclusions(folder).with_digests(folder.withdrawn())
    accepted = close_run(folder, plan, done, demands or _demands(plan, options), exclusions, options)
    return 0 if accepted else 1


def _options(folder: RunFolder) -> Mapping[str, Any]:
    """Return the options of a shard's command; of the first that has a report."""
    reports = [report for report in folder.reports().values() if "options" in report]
    return dict(reports[0]["options"]) if reports else {}


def _demands(plan: Plan, options: Mapping[str, Any]) -> Demands:
    default = next(f.default for f in fields(RunSettings) if f.name == "max_rejected_share")
    is_score = plan.kind == ScoreSettings.kind
    return Demands(options.get("max_rejected_share", default), is_score and not options.get("accept_scale", False))


def _missing_lines(folder: RunFolder, plan: Plan, missing: set[int]) -> list[str]:
    """Return what is missing: the units, and the shards that have to do them."""
    n_ecgs = sum(plan.units[number].n_ecgs for number in missing)
    of_all = f"{len(missing)} of {counted(len(plan.units), 'unit', 'are')}"
    lines = [f"error: {of_all} not done ({counted(n_ecgs, 'ECG')}): {_shown(missing)}"]
    for count in sorted(_shard_counts(folder) - {1}):
        of_shard: defaultdict[int, int] = defaultdict(int)
        for number in missing:
            of_shard[number % count + 1] += 1
        shards = ", ".join(f"{index}/{count} ({counted(n, 'unit')})" for index, n in sorted(of_shard.items())[:_SHOWN])
        more = f" and {len(of_shard) - _SHOWN} more" if len(of_shard) > _SHOWN else ""
        lines.append(f"they belong to shards {shards}{more}")
    lines.append(f"run the lvm-ai {plan.kind} command of these shards again, then lvm-ai finish")
    return lines


def _shard_counts(folder: RunFolder) -> set[int]:
    """Return into how many shards the run was divided, by the names of what its shards wrote."""
    names = folder.storage.names(folder.path(REPORTS_FOLDER))
    return {int(match[1]) for name in names if (match := _SHARD_NAME.match(name))}


def _shown(numbers: set[int]) -> str:
    shown = ", ".join(map(str, sorted(numbers)[:_SHOWN]))
    return f"units {shown}" + (f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else "")


def main(argv: Sequence[str]) -> int:
    """Run `lvm-ai finish`."""
    parser = ArgumentParser(
        prog="lvm-ai finish",
        description="Close a run whose shards are all done: check its counts, write one report and _SUCCESS. Exit "
        "codes: 0 done, 1 units are missing or the run is not accepted, 2 wrong usage.",
    )
    parser.add_argument("output", help="run folder")
    parser.add_argument(
        "--max-rejected-share",
        type=float,
        metavar="X",
        help="fail when more of the ECGs are rejected, 0 to 1 (default: as the shards were told)",
    )
    parser.add_argument(
        "--accept-scale", action="store_true", help="go on although voltages look wrong (default: as the shards)"
    )
    add_share_option(parser)
    add_storage_option(parser)
    args = parser.parse_args(argv)
    folder = RunFolder(storage_of(args.storage_option), args.output.rstrip("/"))
    demands = _demands(folder.require_plan(), _options(folder))
    share = demands.max_rejected_share if args.max_rejected_share is None else args.max_rejected_share
    return finish(folder, Demands(share, demands.stops_at_wrong_scale and not args.accept_scale))


if __name__ == "__main__":
    import lvm_ai  # its messages and exit codes

    sys.exit(lvm_ai.module_main("finish"))
