"""Removing people from a run folder: predictions, rejects, plan, participants and reports."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from beam_jobs.reading.blocks import Reject, excluded_reject
from beam_jobs.reading.parquet_input import read_table
from beam_jobs.reading.storage import Storage
from beam_jobs.reading.units import Unit, UnitSummary
from beam_jobs.run.commit import (
    RowHashes,
    UnitFiles,
    commit_unit,
    footer,
    read_footer_json,
    read_rejects,
    reasons_of,
    rejects_table,
    result_bytes,
    rows_sha256,
)
from beam_jobs.run.exclusions import Exclusions, id_digest, load_exclusions
from beam_jobs.run.folder import (
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
from beam_jobs.run.options import add_storage_option, storage_of
from beam_jobs.run.plan import PLAN_NAME, Plan
from beam_jobs.run.planner import redact_excluded
from beam_jobs.run.progress import say
from beam_jobs.run.report import counts
from lvm_core.command_line import ArgumentParser, add_share_option
from lvm_core.errors import LvmError, RejectReason, UsageError
from lvm_core.signal.quality import AmplitudeHistogram, SourceAmplitudes
from lvm_core.tables import ParticipantTable


def with_their_ecgs(folder: RunFolder, exclusions: Exclusions) -> Exclusions:
    """Return the list extended by the ECGs that the run's participant table gives these people."""
    uri = folder.path(PARTICIPANTS_NAME)
    if not folder.storage.is_file(uri):
        return exclusions
    table = ParticipantTable.from_parquet(folder.storage.read_bytes(uri))
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


def remove_people(folder: RunFolder, plan: Plan, exclusions: Exclusions, units: Sequence[int]) -> Removal:
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
            removal = Removal(removal.n_ecgs + rewrite.n_removed, removal.n_rejects + rewrite.n_rejects, True)
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


def _rewrite_of(folder: RunFolder, plan: Plan, unit: Unit, exclusions: Exclusions) -> _Rewrite | None:
    """Return what a unit's files become without some people; None when they stay as they are."""
    files = folder.files(plan, unit)
    storage = folder.storage
    content = read_footer_json(storage, files.result)
    assert content is not None
    if "rows_sha256" not in content:
        raise _changed(files.result)
    keys = read_table(storage, files.result, ["ecg_id", "participant_id"]).to_pylist()
    gone = [exclusions.hits(row["ecg_id"], row["participant_id"]) for row in keys]
    rejects_there = read_rejects(storage, files.rejects)
    rejects = _rejects_of(rejects_there)
    kept = [_without_names(r, exclusions) for r in rejects if not exclusions.names(r)]
    # The third: a removal that was killed between the unit's two files.
    if not any(gone) and kept == rejects and _fits(content, rejects_there):
        return None
    table = read_table(storage, files.result)
    _refuse_changed(files.result, table, content["rows_sha256"]["result"])
    if storage.is_file(files.rejects):
        own = read_footer_json(storage, files.rejects) or {}
        _refuse_changed(files.rejects, rejects_there, own.get("rows_sha256", {}).get("rejects"))
    table = table.filter(pa.array([not g for g in gone], pa.bool_()))
    kept = [r for r in kept if r.reason != RejectReason.EXCLUDED.value]
    n_excluded = content["n_read"] - table.num_rows - sum(r.weight for r in kept)
    kept += [excluded_reject()] * n_excluded
    histogram = AmplitudeHistogram.from_list(content["amplitudes"])
    summary = UnitSummary(
        unit.number,
        content["n_read"],
        table.num_rows,
        reasons_of(kept),
        histogram,
        sources=SourceAmplitudes.from_json(content["sources"]),
    )
    rejects_now = rejects_table(kept, plan.kind)
    hashes = RowHashes(rows_sha256(table), rows_sha256(rejects_now))
    new = footer(unit, summary, content["provenance"], hashes)
    n_rejects = sum(exclusions.names(reject) for reject in rejects)
    result = result_bytes(plan.kind, table, new)
    return _Rewrite(files, sum(gone), n_rejects, rejects_now, result, new)


def _rejects_of(table: pa.Table) -> list[Reject]:
    rows = table.to_pylist()
    return [Reject(**{k: v for k, v in row.items() if k != "stage"}) for row in rows]


def _fits(content: Mapping[str, Any], rejects: pa.Table) -> bool:
    """Tell whether the rejects that are there are those that the footer of the result states."""
    is_counted = reasons_of(_rejects_of(rejects)) == content["rejected"]
    return bool(is_counted and rows_sha256(rejects) == content["rows_sha256"]["rejects"])


def _refuse_changed(uri: str, table: pa.Table, stated: str | None) -> None:
    """Stop before a file that was changed gets a new hash, which would hide the change."""
    if rows_sha256(table) != stated:
        raise _changed(uri)


def _changed(uri: str) -> LvmError:
    name = "/".join(uri.split("/")[-2:])
    return LvmError(
        f"{name} was changed: its rows are not those that were committed, and removing people "
        "would hide that. Look at lvm-ai verify; restore the file, or make the run again"
    )


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
    table = ParticipantTable.from_parquet(folder.storage.read_bytes(uri))
    smaller = table.without(exclusions.hits)
    if len(smaller) == len(table):
        return False
    folder.storage.delete(folder.path(SUCCESS_NAME))
    folder.storage.write_atomic(uri, smaller.to_parquet(), private=True)
    return True


def people_in(folder: RunFolder, plan: Plan, exclusions: Exclusions) -> set[str]:
    """Return the listed identifiers of which something is in a run whose units are all done."""
    found: set[str] = set()
    for ecg_id, participant_id, paths in _traces(folder, plan):
        found |= exclusions.matching(ecg_id, participant_id, paths)
    return found


def _traces(folder: RunFolder, plan: Plan) -> Iterator[tuple[str | None, str | None, Sequence[str]]]:
    """Yield (ecg_id, participant_id, paths) of everything that may name a person."""
    keys = folder.read_result_columns(plan, ["ecg_id", "participant_id"])
    yield from ((row["ecg_id"], row["participant_id"], ()) for row in keys.to_pylist())
    for unit in plan.units:
        for reject in _rejects_of(read_rejects(folder.storage, folder.files(plan, unit).rejects)):
            texts = [text for text in (reject.source_uri, reject.detail) if text]
            yield reject.ecg_id, reject.participant_id, texts
        for piece in unit.pieces:
            yield piece.ecg_id, piece.participant_id, [piece.path, *piece.parts]
    uri = folder.path(PARTICIPANTS_NAME)
    if folder.storage.is_file(uri):
        table = ParticipantTable.from_parquet(folder.storage.read_bytes(uri)).arrow
        names = ["ecg_id", "participant_id"]
        yield from ((row["ecg_id"], row["participant_id"], ()) for row in table.select(names).to_pylist())


@dataclass(frozen=True)
class Withdrawal:
    """What a withdrawal did.

    Attributes:
        removal: what was removed.
        found: listed identifiers that were in the run.
        found_before: listed identifiers that earlier withdrawals removed from it.
        not_found: the other listed identifiers.
        has_report: the run was checked as a whole, so that its report could be updated.
    """

    removal: Removal
    found: frozenset[str]
    found_before: frozenset[str]
    not_found: frozenset[str]
    has_report: bool


def withdraw(folder: RunFolder, plan: Plan, exclusions: Exclusions) -> Withdrawal:
    """Remove people from a run whose units are all done, remember them, and update its report."""
    folder.sweep()
    was_finished = folder.is_finished
    known = exclusions.with_digests(folder.withdrawn())
    found = people_in(folder, plan, exclusions)
    # Written before anybody is removed: a killed withdrawal still knows whom it had found.
    found_ever = folder.found_before() | {id_digest(one) for one in found}
    folder.write_json(WITHDRAWN_NAME, {"id_sha256": known.all_digests(), "found_id_sha256": sorted(found_ever)})
    removal = remove_people(folder, plan, exclusions, range(len(plan.units)))
    plan = folder.require_plan()
    total = reconcile(plan, folder.committed(plan))
    report = folder.read_json(REPORT_NAME)
    if report is not None:  # else the run was killed before it was checked as a whole
        report["counts"] = counts(plan.kind, total)
        report["identical_signals"] = write_duplicates(folder, plan)
        report["quality_flags"] = count_flags(folder, plan)
        folder.write_json(REPORT_NAME, report)
        if was_finished or not report.get("problems"):
            folder.storage.write_atomic(folder.path(SUCCESS_NAME), b"")
    before = {one for one in exclusions.ids - found if id_digest(one) in found_ever}
    return Withdrawal(removal, frozenset(found), frozenset(before), exclusions.ids - found - before, report is not None)


def _lines(done: Withdrawal) -> Iterator[str]:
    """Yield what a withdrawal says, without naming anybody."""
    n_listed = len(done.found) + len(done.found_before) + len(done.not_found)
    yield (
        f"found {len(done.found)} of {n_listed} listed people; ECGs removed: "
        f"{done.removal.n_ecgs}, rejects removed: {done.removal.n_rejects}"
        + (f"; {REPORT_NAME} is updated" if done.has_report else "")
    )
    if not done.has_report:
        yield (f"the run is not closed: there is no {REPORT_NAME}. Run the same lvm-ai command again to close it")
    if done.found_before:
        yield f"listed people who were removed before: {len(done.found_before)}"
    if done.not_found:
        yield f"listed identifiers that were not found: {len(done.not_found)}"
    if not done.found and not done.found_before:
        yield (
            "error: nobody of the list is in this run. Are they participant_id or ecg_id as in the "
            "run? Their digests are kept, so that they stay out when inputs are added"
        )


def main(argv: Sequence[str]) -> int:
    """Run `lvm-ai withdraw`."""
    args = _parser().parse_args(argv)
    storage = storage_of(args.storage_option)
    folder = RunFolder(storage, args.output.rstrip("/"))
    plan = folder.require_plan()
    if args.not_found_list is not None:
        _refuse_list(folder, args.not_found_list)
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
    withdrawal = withdraw(folder, plan, exclusions)
    for line in _lines(withdrawal):
        say(line)
    if args.not_found_list is not None:
        text = "".join(f"{one}\n" for one in sorted(withdrawal.not_found))
        storage.write_atomic(args.not_found_list, text.encode(), private=True)
    return 0 if withdrawal.found or withdrawal.found_before else 1


def _refuse_list(folder: RunFolder, uri: str) -> None:
    """Refuse a list of people inside the folder that must not name them, or over another file."""
    if folder.storage.contains(folder.uri, uri):
        raise UsageError(
            f"--not-found-list {uri} lies in {folder.uri}, which must not name people who "
            "withdrew; expected a file elsewhere"
        )
    if folder.storage.exists(uri):
        raise UsageError(f"--not-found-list {uri} exists; expected a new file")


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="lvm-ai withdraw",
        description="Remove people from a finished run folder and update its counts. Exit codes: "
        "0 done, 1 nobody of the list was found, 2 wrong usage.",
    )
    parser.add_argument("output", help="run folder")
    parser.add_argument("--participants", required=True, help="list of people to remove")
    parser.add_argument(
        "--not-found-list",
        metavar="F",
        help="new file for the identifiers that were not found, for you alone, not in the folder",
    )
    add_share_option(parser)
    add_storage_option(parser)
    return parser


if __name__ == "__main__":
    import lvm_ai  # its messages and exit codes

    sys.exit(lvm_ai.module_main("withdraw"))
