"""Removing people from a run folder: predictions, rejects, plan, participants and reports."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from beam_jobs.blocks import Reject
from beam_jobs.commit import (
    UnitFiles,
    commit_unit,
    footer,
    read_footer_json,
    reasons_of,
    rejects_table,
    result_bytes,
)
from beam_jobs.exclusions import Exclusions, load_exclusions
from beam_jobs.options import add_storage_option, storage_of
from beam_jobs.parquet_input import read_table
from beam_jobs.participants import read_participants_parquet
from beam_jobs.plan import PLAN_NAME, Plan
from beam_jobs.planner import redact_excluded
from beam_jobs.progress import say
from beam_jobs.raw_input import excluded_reject
from beam_jobs.report import counts
from beam_jobs.run_folder import (
    PARTICIPANTS_NAME,
    REPORT_NAME,
    REPORTS_FOLDER,
    SUCCESS_NAME,
    WITHDRAWN_NAME,
    RunFolder,
    count_flags,
    reconcile,
    write_duplicates,
)
from beam_jobs.storage import Storage
from beam_jobs.units import Unit, UnitSummary
from lvm_core.errors import RejectReason, UsageError
from lvm_core.quality import AmplitudeHistogram, SourceAmplitudes


def with_their_ecgs(folder: RunFolder, exclusions: Exclusions) -> Exclusions:
    """Return the list extended by the ECGs that the run's participant table gives these people."""
    uri = folder.path(PARTICIPANTS_NAME)
    if not folder.storage.is_file(uri):
        return exclusions
    table = read_participants_parquet(folder.storage.read_bytes(uri))
    return exclusions.with_ids(table.ecg_ids_of(exclusions.has))


@dataclass(frozen=True)
class Removal:
    """What removing people changed.

    Attributes:
        n_ecgs: ECGs removed from the results.
        n_rejects: rows of the rejects that named them.
        changed: anything in the folder was rewritten.
    """

    n_ecgs: int = 0
    n_rejects: int = 0
    changed: bool = False


def remove_people(
    folder: RunFolder, plan: Plan, exclusions: Exclusions, units: Sequence[int]
) -> Removal:
    """Remove people from finished units, the plan, the participant table and the reports.

    Each file is replaced atomically, and doing it again does no harm: the number of anonymous
    `excluded` rows of a unit follows from what it read, not from what is there. Before the first
    change `_SUCCESS` goes, so that a killed removal is not taken for a finished run.

    Args:
        folder: the run folder.
        plan: of the run.
        exclusions: whom to remove.
        units: numbers of finished units.
    """
    exclusions = with_their_ecgs(folder, exclusions)
    removal = Removal()
    for number in units:
        rewrite = _rewrite_of(folder, plan, plan.units[number], exclusions)
        if rewrite is not None:
            folder.storage.delete(folder.path(SUCCESS_NAME))
            rewrite.commit(folder.storage)
            removal = Removal(
                removal.n_ecgs + rewrite.n_removed, removal.n_rejects + rewrite.n_rejects, True
            )
    changed = _redact_plan(folder, exclusions, set(units))
    changed |= _remove_from_participants(folder, exclusions)
    names = [f"{REPORTS_FOLDER}/{name}" for name in folder.reports()]
    for name in [*names, REPORT_NAME]:
        content = folder.read_json(name)
        if content is not None and exclusions.scrubbed(content) != content:
            folder.write_json(name, exclusions.scrubbed(content))
    return replace(removal, changed=removal.changed or changed)


@dataclass(frozen=True)
class _Rewrite:
    """The new content of a unit's files."""

    files: UnitFiles
    n_removed: int
    n_rejects: int
    rejects: pa.Table
    result: bytes
    content: bytes

    def commit(self, storage: Storage) -> None:
        commit_unit(storage, self.files, self.rejects, self.result, self.content)


def _rewrite_of(
    folder: RunFolder, plan: Plan, unit: Unit, exclusions: Exclusions
) -> _Rewrite | None:
    """Return what a unit's files become without some people; None when they stay as they are."""
    files = folder.files(plan, unit)
    storage = folder.storage
    content = read_footer_json(storage, files.result)
    assert content is not None
    keys = read_table(storage, files.result, ["ecg_id", "participant_id"]).to_pylist()
    gone = [exclusions.hits(row["ecg_id"], row["participant_id"]) for row in keys]
    rejects = _read_rejects(storage, files.rejects)
    kept = [_without_names(r, exclusions) for r in rejects if not exclusions.names(r)]
    # The third: a removal that was killed between the unit's two files.
    if not any(gone) and kept == rejects and reasons_of(rejects) == content["rejected"]:
        return None
    table = read_table(storage, files.result)
    table = table.filter(pa.array([not g for g in gone], pa.bool_()))
    kept = [r for r in kept if r.reason != RejectReason.EXCLUDED.value]
    n_excluded = content["n_read"] - table.num_rows - sum(r.weight for r in kept)
    kept += [excluded_reject()] * n_excluded
    histogram = AmplitudeHistogram.from_list(content["amplitudes"])
    summary = UnitSummary(
        unit.number, content["n_read"], table.num_rows, reasons_of(kept), histogram,
        sources=SourceAmplitudes.from_json(content["sources"]),
    )  # fmt: skip
    new = footer(unit, summary, content["provenance"])
    rejects_now = rejects_table(kept, plan.kind)
    n_rejects = sum(exclusions.names(reject) for reject in rejects)
    result = result_bytes(plan.kind, table, new)
    return _Rewrite(files, sum(gone), n_rejects, rejects_now, result, new)


def _read_rejects(storage: Storage, uri: str) -> list[Reject]:
    if not storage.is_file(uri):
        return []
    rows = read_table(storage, uri).to_pylist()
    return [Reject(**{k: v for k, v in row.items() if k != "stage"}) for row in rows]


def _without_names(reject: Reject, exclusions: Exclusions) -> Reject:
    """Return the row of a whole damaged file without a path that names an excluded person."""
    if exclusions.hits_path(reject.source_uri) or exclusions.hits_path(reject.detail):
        return replace(reject, source_uri=None, detail=None)
    return reject


def _redact_plan(folder: RunFolder, exclusions: Exclusions, finished: Collection[int]) -> bool:
    plan = folder.require_plan()
    units = [
        replace(unit, pieces=tuple(redact_excluded(unit.pieces, exclusions, finished=True)))
        if unit.number in finished
        else replace(unit, pieces=tuple(redact_excluded(unit.pieces, exclusions)))
        for unit in plan.units
    ]
    if tuple(units) == plan.units:
        return False
    folder.storage.delete(folder.path(SUCCESS_NAME))
    folder.storage.write_atomic(folder.path(PLAN_NAME), plan.with_units(units).to_bytes())
    return True


def _remove_from_participants(folder: RunFolder, exclusions: Exclusions) -> bool:
    uri = folder.path(PARTICIPANTS_NAME)
    if not folder.storage.is_file(uri):
        return False
    table = read_participants_parquet(folder.storage.read_bytes(uri))
    smaller = table.without(exclusions.hits)
    if len(smaller) == len(table):
        return False
    folder.storage.delete(folder.path(SUCCESS_NAME))
    folder.storage.write_atomic(uri, smaller.to_parquet(), private=True)
    return True


def withdraw(folder: RunFolder, plan: Plan, exclusions: Exclusions) -> Removal:
    """Remove people from a run whose units are all done, remember them, and update its report."""
    folder.sweep()
    was_finished = folder.is_finished
    known = exclusions.with_digests(folder.withdrawn())
    folder.write_json(WITHDRAWN_NAME, {"id_sha256": known.all_digests()})
    removal = remove_people(folder, plan, exclusions, range(len(plan.units)))
    plan = folder.require_plan()
    total = reconcile(plan, folder.committed(plan))
    report = folder.read_json(REPORT_NAME) or {}
    report["counts"] = counts(plan.kind, total)
    report["identical_signals"] = write_duplicates(folder, plan)
    report["quality_flags"] = count_flags(folder, plan)
    folder.write_json(REPORT_NAME, report)
    if was_finished or not report.get("problems"):
        folder.storage.write_atomic(folder.path(SUCCESS_NAME), b"")
    return removal


def main(argv: Sequence[str]) -> int:
    """Run `lvm-ai withdraw`."""
    parser = argparse.ArgumentParser(
        prog="lvm-ai withdraw",
        description="Remove people from a finished run folder and update its counts.",
    )
    parser.add_argument("output", help="run folder")
    parser.add_argument("--participants", required=True, help="list of people to remove")
    add_storage_option(parser)
    args = parser.parse_args(argv)
    storage = storage_of(args.storage_option)
    folder = RunFolder(storage, args.output.rstrip("/"))
    plan = folder.require_plan()
    done = folder.committed(plan)
    if len(done) < len(plan.units):
        raise UsageError(
            f"{folder.uri} is not finished ({len(done)} of {len(plan.units)} units); finish it "
            "with the same command and --exclude-participants, which removes people from finished "
            "units too"
        )
    exclusions = load_exclusions(storage, args.participants)
    if not exclusions:
        raise UsageError(f"{args.participants} names nobody; expected one identifier a line")
    removal = withdraw(folder, plan, exclusions)
    if not removal.changed:
        say("warning: nobody of the list was in this run, or all were removed before")
    say(
        f"removed {removal.n_ecgs} results and {removal.n_rejects} rejects of {len(exclusions)} "
        f"listed people; {REPORT_NAME} is updated"
    )
    return 0
