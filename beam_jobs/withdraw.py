"""Removing people who withdrew from a finished run folder, and updating its counts."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from beam_jobs.run.commit import read_rejects, rejects_of
from beam_jobs.run.exclusions import Exclusions, Removal, id_digest, load_exclusions, remove_people
from beam_jobs.run.folder import (
    REPORT_NAME,
    SUCCESS_NAME,
    WITHDRAWN_NAME,
    RunFolder,
    count_flags,
    reconcile,
    write_duplicates,
)
from beam_jobs.run.plan import KEY_ID, Plan
from beam_jobs.run.planner import root_of
from beam_jobs.run.progress import say
from beam_jobs.run.pseudonyms import find_again, listed_ecgs, load_pseudonyms
from beam_jobs.run.report import counts
from beam_jobs.run.settings import IngestSettings, ScoreSettings, add_storage_option, storage_of
from lvm_core.command_line import ArgumentParser, add_share_option
from lvm_core.errors import EcgRejected, LvmError, UsageError
from lvm_core.pseudonyms import Pseudonyms
from lvm_core.wording import counted


def people_in(folder: RunFolder, plan: Plan, exclusions: Exclusions) -> set[str]:
    """Return the listed identifiers that left a trace in a run; all its units are done."""
    return {one for trace in _traces(folder, plan) for one in exclusions.matching(*trace)}


def _traces(folder: RunFolder, plan: Plan) -> Iterator[tuple[str | None, str | None, Sequence[str]]]:
    """Yield (ecg_id, participant_id, paths) of everything that may name a person."""
    keys = folder.read_result_columns(plan, ["ecg_id", "participant_id"])
    yield from ((row["ecg_id"], row["participant_id"], ()) for row in keys.to_pylist())
    for unit in plan.units:
        for reject in rejects_of(read_rejects(folder.storage, folder.files(plan, unit).rejects)):
            texts = [text for text in (reject.source_uri, reject.detail) if text]
            yield reject.ecg_id, reject.participant_id, texts
        for piece in unit.pieces:
            yield piece.ecg_id, piece.participant_id, [piece.path, *piece.parts]
    people, index = folder.participants(), folder.index()
    for table in (None if people is None else people.arrow, None if index is None else index.table):
        keys = [] if table is None else table.select(["ecg_id", "participant_id"]).to_pylist()
        yield from ((row["ecg_id"], row["participant_id"], ()) for row in keys)


@dataclass(frozen=True)
class Withdrawal:
    """What a withdrawal did."""

    removal: Removal  # what was removed
    found: frozenset[str]  # listed identifiers that were in the run
    found_before: frozenset[str]  # listed identifiers that earlier withdrawals removed from it
    not_found: frozenset[str]  # the other listed identifiers
    has_report: bool  # the run was checked as a whole, so that its report could be updated


def withdraw(folder: RunFolder, plan: Plan, exclusions: Exclusions) -> Withdrawal:
    """Remove people from a run, remember them, and update its report; all units are done."""
    folder.sweep()
    was_finished = folder.is_finished
    known = exclusions.with_digests(folder.withdrawn())
    found = people_in(folder, plan, exclusions)
    # Written before anybody is removed: a killed withdrawal still knows the people it had found.
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


def withdraw_under_key(
    folder: RunFolder, plan: Plan, exclusions: Exclusions, pseudonyms: Pseudonyms | None
) -> Withdrawal:
    """Remove people from a run; with the key of its pseudonyms the list holds identifiers."""
    if pseudonyms is None:
        return withdraw(folder, plan, exclusions)
    listed = {make(one): {one} for one in exclusions.ids for make in (pseudonyms.person, pseudonyms.ecg)}
    inside, was_searched = _listed_in_inputs(folder, plan, exclusions, pseudonyms)
    for own, names in inside.items():
        listed[own] = listed.get(own, set()) | names
    done = withdraw(folder, plan, Exclusions(frozenset(listed)))
    found = frozenset(one for own in done.found for one in listed[own])
    before = frozenset(one for own in done.found_before for one in listed[own]) - found
    not_found = exclusions.ids - found - before
    if not_found and not was_searched:
        say(
            f"warning: {counted(len(not_found), 'listed identifier', 'were')} not found as a whole id; without all "
            "inputs of the run, identifiers inside longer ids cannot be matched under a key. Run the same lvm-ai "
            f"{plan.kind} command with --exclude-participants where the inputs are"
        )
    return replace(done, found=found, found_before=before, not_found=not_found)


def _listed_in_inputs(
    folder: RunFolder, plan: Plan, exclusions: Exclusions, pseudonyms: Pseudonyms
) -> tuple[dict[str, set[str]], bool]:
    """Return listed identifiers by the pseudonyms of ECGs, and whether all inputs were there."""
    kind = ScoreSettings if plan.kind == ScoreSettings.kind else IngestSettings
    settings: ScoreSettings | IngestSettings = kind.from_plan(plan.settings, output=folder.uri, storage=folder.storage)
    inputs = ((folder.read_json(REPORT_NAME) or {}).get("options") or {}).get("inputs", [])
    try:
        roots = [root_of(folder.storage, uri) for uri in inputs]
        again = find_again(folder.storage, inputs, settings)
        there = {(piece.root, pseudonyms.path_sha256(piece.path_sha256)) for piece in again}
        is_whole = all(p.excluded or (p.root, p.path_sha256) in there for p in plan.pieces)
        found = listed_ecgs(
            folder.storage, roots, again, settings.layout_content, exclusions, pseudonyms, folder.index()
        )
    except (LvmError, EcgRejected, OSError):
        return {}, False
    return found, is_whole and bool(inputs)


def _refuse_other_key(plan: Plan, pseudonyms: Pseudonyms | None) -> None:
    stated = plan.settings.get(KEY_ID)
    if pseudonyms is not None and pseudonyms.key_id != stated:
        what = "has no pseudonyms" if stated is None else "was made with another key"
        raise UsageError(f"--pseudonym-key is given, and the run {what}; expected the key of the run, or none")
    if pseudonyms is None and stated is not None:
        say("note: the run has pseudonyms, so the list must hold these; with --pseudonym-key it may hold identifiers")


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
            f"{folder.uri} is not finished ({len(done)} of {counted(len(plan.units), 'unit')}); finish it with the "
            "same command and --exclude-participants, which removes people from finished units too"
        )
    exclusions = load_exclusions(storage, args.participants)
    if not exclusions:
        raise UsageError(f"{args.participants} names nobody; expected one identifier per line")
    pseudonyms = load_pseudonyms(storage, args.pseudonym_key)
    _refuse_other_key(plan, pseudonyms)
    withdrawal = withdraw_under_key(folder, plan, exclusions, pseudonyms)
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
    parser.add_argument("--pseudonym-key", metavar="F", help="key of the run, where it has pseudonyms")
    add_share_option(parser)
    add_storage_option(parser)
    return parser


if __name__ == "__main__":
    import lvm_ai  # its messages and exit codes

    sys.exit(lvm_ai.module_main("withdraw"))
