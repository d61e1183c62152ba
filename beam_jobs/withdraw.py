"""Removing people from a run folder: predictions, rejects, plan, participants and reports."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

import pyarrow as pa

from beam_jobs.blocks import Reject
from beam_jobs.commit import commit_unit, footer, read_footer_json, rejects_table, result_bytes
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
    RunFolder,
    reconcile,
    write_duplicates,
)
from beam_jobs.storage import Storage
from beam_jobs.units import Unit, UnitSummary
from lvm_core.errors import RejectReason, UsageError
from lvm_core.quality import AmplitudeHistogram


def with_their_ecgs(folder: RunFolder, exclusions: Exclusions) -> Exclusions:
    """Return the list extended by the ECGs that the run's participant table gives these people."""
    uri = folder.path(PARTICIPANTS_NAME)
    if not folder.storage.is_file(uri):
        return exclusions
    table = read_participants_parquet(folder.storage.read_bytes(uri))
    return Exclusions(exclusions.ids | table.ecg_ids_of(exclusions.ids))


def remove_people(
    folder: RunFolder, plan: Plan, exclusions: Exclusions, units: Sequence[int]
) -> int:
    """Remove people from finished units, the plan, the participant table and the reports.

    Each file is replaced atomically, and doing it again does no harm: the number of anonymous
    `excluded` rows of a unit follows from what it read, not from what is there.

    Args:
        folder: the run folder.
        plan: of the run.
        exclusions: whom to remove.
        units: numbers of finished units.

    Returns:
        ECGs removed from the results.
    """
    exclusions = with_their_ecgs(folder, exclusions)
    removed = sum(_remove_from_unit(folder, plan, plan.units[n], exclusions) for n in units)
    _redact_plan(folder, exclusions, set(units))
    _remove_from_participants(folder, exclusions)
    names = [f"{REPORTS_FOLDER}/{name}" for name in folder.reports()]
    for name in [*names, REPORT_NAME]:
        content = folder.read_json(name)
        if content is not None and exclusions.scrubbed(content) != content:
            folder.write_json(name, exclusions.scrubbed(content))
    return removed


def _remove_from_unit(folder: RunFolder, plan: Plan, unit: Unit, exclusions: Exclusions) -> int:
    files = folder.files(plan, unit)
    storage = folder.storage
    keys = read_table(storage, files.result, ["ecg_id", "participant_id"])
    gone = [exclusions.hits(row["ecg_id"], row["participant_id"]) for row in keys.to_pylist()]
    rejects = _read_rejects(storage, files.rejects)
    kept = [_without_names(r, exclusions) for r in rejects if not exclusions.names(r)]
    if not any(gone) and kept == rejects:
        return 0
    content = read_footer_json(storage, files.result)
    assert content is not None
    table = read_table(storage, files.result)
    table = table.filter(pa.array([not g for g in gone], pa.bool_()))
    kept = [r for r in kept if r.reason != RejectReason.EXCLUDED.value]
    n_excluded = content["n_read"] - table.num_rows - sum(r.weight for r in kept)
    kept += [excluded_reject()] * n_excluded
    reasons: Counter[str] = Counter()
    for reject in kept:
        reasons[reject.reason] += reject.weight
    summary = UnitSummary(
        unit.number, content["n_read"], table.num_rows, dict(reasons),
        AmplitudeHistogram.from_list(content["amplitudes"]),
    )  # fmt: skip
    new = footer(unit, summary, content["provenance"])
    stage = "score" if plan.kind == "score" else "ingest"
    result = result_bytes(plan.kind, table, new)
    commit_unit(storage, files, rejects_table(kept, stage), result, new)
    return sum(gone)


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


def _redact_plan(folder: RunFolder, exclusions: Exclusions, finished: Collection[int]) -> None:
    plan = folder.require_plan()
    units = [
        replace(unit, pieces=tuple(redact_excluded(unit.pieces, exclusions, finished=True)))
        if unit.number in finished
        else replace(unit, pieces=tuple(redact_excluded(unit.pieces, exclusions)))
        for unit in plan.units
    ]
    if tuple(units) != plan.units:
        folder.storage.write_atomic(folder.path(PLAN_NAME), plan.with_units(units).to_bytes())


def _remove_from_participants(folder: RunFolder, exclusions: Exclusions) -> None:
    uri = folder.path(PARTICIPANTS_NAME)
    if folder.storage.is_file(uri):
        table = read_participants_parquet(folder.storage.read_bytes(uri))
        smaller = table.without(exclusions.hits)
        if len(smaller) < len(table):
            folder.storage.write_atomic(uri, smaller.to_parquet(), private=True)


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
    if not folder.is_finished:
        raise UsageError(
            f"{folder.uri} is not finished; finish it with the same command and "
            "--exclude-participants, which removes people from finished units too"
        )
    folder.sweep()
    exclusions = load_exclusions(storage, args.participants)
    removed = remove_people(folder, plan, exclusions, range(len(plan.units)))
    plan = folder.require_plan()
    total = reconcile(plan, folder.committed(plan))
    n_identical = write_duplicates(folder, plan)
    report = folder.read_json(REPORT_NAME) or {}
    report["counts"] = counts(plan.kind, total)
    report["identical_signals"] = n_identical
    folder.write_json(REPORT_NAME, report)
    if not removed:
        say("warning: no prediction of the listed people was in this run; is the list right?")
    say(f"removed {removed} ECGs of {len(exclusions)} listed people; run_report.json is updated")
    return 0
