"""A job from its settings to its exit code: plan, do what is missing, close the run."""

from __future__ import annotations

import gc
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Final

import apache_beam as beam

from beam_jobs.reading.flagged import warning_of_unflagged
from beam_jobs.reading.index import IndexMatch, RecordIndex
from beam_jobs.reading.layout import Layout
from beam_jobs.reading.storage import store_scheme
from beam_jobs.reading.units import Piece, Unit, cut_units, merge_summaries
from beam_jobs.run.closing import Demands, close_run
from beam_jobs.run.exclusions import Exclusions, load_exclusions, redact_excluded, remove_people
from beam_jobs.run.folder import REPORTS_FOLDER, SHARD_PREFIX, SUCCESS_NAME, RunFolder
from beam_jobs.run.index import ecg_ids_in, index_of, index_sha256, record_index
from beam_jobs.run.order import WorkOrder, places_in, write_exclusions
from beam_jobs.run.participants import JoinForecast
from beam_jobs.run.plan import PLAN_NAME, Plan, UnitPlace, new_pieces, refuse_other_settings
from beam_jobs.run.planner import (
    Inputs,
    Keys,
    check_dates,
    find_inputs,
    ignored_text,
    mark_duplicates,
    refuse_overlap,
    root_of,
)
from beam_jobs.run.progress import say, showing
from beam_jobs.run.pseudonyms import hide_inputs, listed_ecgs, load_pseudonyms, under_key, with_paths
from beam_jobs.run.report import Work, WorkerNotes, forget_notes, has_notes, noted_work, shard_report
from beam_jobs.run.settings import RunSettings
from beam_jobs.runners.pipeline import StartLimit, UnitJob, build, run_pipeline
from beam_jobs.runners.processes import run_processes, shards_of
from beam_jobs.runners.registry import JobSubmitted, Runner, runner_of
from lvm_core.errors import LvmError
from lvm_core.pseudonyms import Pseudonyms
from lvm_core.tables import Index
from lvm_core.wording import counted
from models.machine.host import available_cores

DONE: Final = 0
FAILED: Final = 1
_COUNT_IN_STORE_EVERY_S: Final = 10.0


class Job:
    """What differs between ingest and score; here, what a job without models and people does."""

    settings: RunSettings  # of the command, with what they lead to as far as no plan is needed for it
    layout: Layout | None = None
    index: Index | None = None  # lists the records; None where all that is found is a record
    records: RecordIndex | None = None  # what the index says of those that were found, once they are
    pseudonyms: Pseudonyms | None = None
    stops_at_wrong_scale = False  # amplitudes that cannot be right make the whole run fail

    def read_keys(self, given: RunSettings) -> dict[str, Any]:
        """Read index and pseudonym key of the options; return the settings that they lead to."""
        self.index, self.pseudonyms = index_of(given), load_pseudonyms(given.storage, given.pseudonym_key)
        sha256, own = index_sha256(self.index), self.pseudonyms
        if own is not None and sha256 is not None:
            sha256 = own.path_sha256(sha256)
        return {"index_sha256": sha256, "pseudonym_key_id": None if own is None else own.key_id}

    def resolve(self, planned: Mapping[str, Any] | None) -> RunSettings:
        """Return the settings with every choice made.

        Where the command leaves a choice it is taken from `planned`, the settings of the plan that
        is gone on with; None for a new plan.
        """
        return self.settings

    def person_of(self, ecg_id: str) -> str | None:
        """Return the person of an ECG by the participant table."""
        return None

    def use_records(self, records: RecordIndex | None) -> None:
        """Take what the index says of the records that were found."""
        self.records = records

    def with_their_ecgs(self, exclusions: Exclusions) -> Exclusions:
        """Return the list extended by the ECGs that the tables of the command give these people."""
        if self.index is None:
            return exclusions
        return exclusions.with_ids(ecg_ids_in(self.index, exclusions, self.pseudonyms))

    def scale(self, plan: Plan, roots: Sequence[str]) -> dict[str, Any]:
        """Look at the amplitudes before the first unit; stop when they cannot be right."""
        return {}

    def forecast(self, exclusions: Exclusions) -> JoinForecast | None:
        """Return what counts how the participant table fits the ECGs; None without a table."""
        return None

    def people(self, forecast: JoinForecast | None) -> dict[str, Any]:
        """Say how the participant table fits the ECGs; stop when too many would be rejected."""
        return {}

    def check_keys(self, keys: Keys) -> None:
        """Refuse keys of the inputs that fit nothing they are joined to."""

    def write_side_files(self, folder: RunFolder, keys: Keys | None, exclusions: Exclusions) -> None:
        """Write, with a new plan, what workers read beside the inputs."""
        if self.records is not None:
            folder.write_index(self.records.without(exclusions.hits))

    def write_work_files(self, folder: RunFolder, plan: Plan) -> None:
        """Write what workers read only until the run is closed."""

    def unit_job(self, plan: Plan, order: WorkOrder) -> UnitJob:
        """Return the job as it travels to workers."""
        raise NotImplementedError

    def n_processes(self, plan: Plan) -> int:
        """Return the processes of this machine that share the work, unless --processes says it."""
        return max(1, self.n_gpus(plan))

    def n_gpus(self, plan: Plan) -> int:
        """Return the GPUs that the run computes on and that are visible here; 0 on CPUs."""
        return 0

    def describe(self, plan: Plan) -> list[str]:
        """Return lines for --dry-run: memory, models."""
        return []


@dataclass
class _Planned:
    """A plan and how it came about."""

    plan: Plan
    inputs: Inputs
    is_new: bool
    exclusions: Exclusions  # with the ECGs of these people in the inputs, where only these have their keys
    keys: Keys | None = None


def run_job(job: Job, argv: Sequence[str]) -> int:
    """Run a job from its settings to its exit code.

    `argv` holds the arguments of the command, for further processes that work on the run. Where the
    run cannot start or go on, the message of the `LvmError` says what to do.
    """
    options = job.settings
    runner = runner_of(options.runner)
    runner.check(options)
    refuse_overlap(options.storage, options.inputs, options.output)
    folder = RunFolder(options.storage, options.output)
    exclusions = load_exclusions(options.storage, options.exclude) if options.exclude else Exclusions()
    if not options.overwrite:
        exclusions = exclusions.with_digests(folder.withdrawn())
    exclusions = job.with_their_ecgs(under_key(exclusions, job.pseudonyms))
    if options.dry_run:
        _print_plan(job, _plan(job, folder, exclusions, reuse=not options.overwrite), runner)
        return DONE
    if options.share is None and (warning := options.storage.open_to_others(options.output)):
        say(f"warning: {warning}")
    folder.prepare(options.kind, overwrite=options.overwrite)
    planned = _plan(job, folder, exclusions, reuse=True)
    exclusions = planned.exclusions
    _store_plan(job, planned, folder, exclusions)
    if options.plan_only:
        job.write_work_files(folder, planned.plan)
        say(
            f"planned: {counted(planned.plan.n_ecgs, 'ECG')} in {counted(len(planned.plan.units), 'unit')}. The same "
            "command without --plan-only, on this machine or by shards, does them"
        )
        return DONE
    run = _Run(job, folder, planned.plan, planned.inputs, exclusions, runner)
    n_gpus = job.n_gpus(planned.plan) if runner.in_launcher else 0
    n_processes = 1 if not runner.in_launcher else options.processes or job.n_processes(planned.plan)
    return run.run() if n_processes == 1 else run.run_in_processes(argv, n_processes, n_gpus)


@contextmanager
def _no_search_for_cycles() -> Iterator[None]:
    """Stop Python's search for cycles: among millions of pieces it takes a quarter of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@_no_search_for_cycles()
def _plan(job: Job, folder: RunFolder, exclusions: Exclusions, *, reuse: bool) -> _Planned:
    """Make the plan, or extend the one in the folder by inputs that were added."""
    options, layout = job.settings, job.layout
    old = folder.load_plan() if reuse else None
    of_same_kind = old is not None and old.kind == options.kind
    settings = job.resolve(old.settings if old is not None and of_same_kind else None).planned()
    if old is not None:
        refuse_other_settings(old, options.kind, settings)
    if options.reuse_plan:
        if old is None:
            raise LvmError(f"{folder.uri} holds no plan to go on with; expected the same command without --reuse-plan")
        return _reused(job, folder, old, exclusions)
    say("planning: listing the inputs")
    match = None if job.index is None else IndexMatch(job.index)
    inputs = find_inputs(options, layout, job.person_of, match)
    job.use_records(None if match is None else record_index(match.records(), job.pseudonyms))
    found = inputs.pieces
    exclusions = _with_listed_ecgs(job, inputs.roots, found, exclusions)
    if job.pseudonyms is not None:
        hide_inputs(inputs, job.pseudonyms, exclusions)
    added = new_pieces(old, inputs.pieces) if old is not None else inputs.pieces
    if old is not None and not added:
        return _Planned(old, inputs, False, exclusions)
    keys = Keys(forecast=job.forecast(exclusions), index=job.records, pseudonyms=job.pseudonyms)
    if old is not None:
        mark_duplicates(options.storage, inputs.roots, _readable_pieces(job, old, found), layout, keys)
    marked = mark_duplicates(options.storage, inputs.roots, added, layout, keys)
    inputs.warnings.extend(check_dates(keys, layout))
    unflagged = warning_of_unflagged(inputs.n_unflagged, options.reject_flags, options.signal_flags)
    inputs.warnings.extend([unflagged] if unflagged else [])
    # Said before anything stops: a column that a file lacks may be why people do not match.
    for warning in inputs.warnings:
        say(f"warning: {warning}")
    if old is None:
        job.check_keys(keys)
    people = job.people(keys.forecast)
    base = old or Plan(options.kind, settings, (), inputs.ignored)
    new_units = list(
        cut_units(
            marked, unit_ecgs=options.unit_ecgs, first_number=len(base.units), settings_sha256=base.settings_sha256
        )
    )
    scale = base.scale or job.scale(base.with_units(new_units), inputs.roots)
    # Redacted only now: which unit a piece is in must not depend on who is excluded.
    plan = base.with_units([*base.units, *(redact_excluded(unit, exclusions) for unit in new_units)])
    plan = replace(plan, ignored=inputs.ignored, scale=scale, people=people)
    if old is not None:
        say(f"{counted(len(added), 'input', 'were')} added since the run was planned")
    return _Planned(plan, inputs, True, exclusions, keys)


def _reused(job: Job, folder: RunFolder, old: Plan, exclusions: Exclusions) -> _Planned:
    """Go on with the plan in the folder; inputs are listed where only they say who is excluded."""
    options = job.settings
    inputs = Inputs(tuple(root_of(options.storage, uri) for uri in options.inputs))
    pieces: Sequence[Piece] = old.pieces
    if job.pseudonyms is not None and exclusions.ids:
        job.use_records(folder.index())
        if not all(piece.path or piece.excluded or piece.reason for piece in pieces):
            match = None if job.index is None else IndexMatch(job.index)
            pieces = find_inputs(options, job.layout, job.person_of, match).pieces
    return _Planned(old, inputs, False, _with_listed_ecgs(job, inputs.roots, pieces, exclusions))


def _readable_pieces(job: Job, old: Plan, found: Sequence[Piece]) -> Sequence[Piece]:
    """Return the pieces of a plan with paths, which a closed run with pseudonyms does not keep."""
    if job.pseudonyms is None:
        return old.pieces
    return [piece for unit in with_paths(old.units, found, job.pseudonyms) for piece in unit.pieces]


def _with_listed_ecgs(job: Job, roots: Sequence[str], pieces: Sequence[Piece], exclusions: Exclusions) -> Exclusions:
    """Return the list extended by the pseudonyms of these people's ECGs in the inputs."""
    if job.pseudonyms is None:
        return exclusions
    storage, layout = job.settings.storage, job.layout
    return exclusions.with_ids(listed_ecgs(storage, roots, pieces, layout, exclusions, job.pseudonyms, job.records))


def _store_plan(job: Job, planned: _Planned, folder: RunFolder, exclusions: Exclusions) -> None:
    """Write the plan and what goes with it; another shard may have been first."""
    if not planned.is_new:
        return
    job.write_side_files(folder, planned.keys, exclusions)
    planned.keys = None  # of millions of ECGs, while the plan is written
    plan = planned.plan
    if folder.storage.create_exclusive(folder.path(PLAN_NAME), plan.parts, private=plan.is_private):
        return
    there = folder.require_plan()
    if there.fingerprint == planned.plan.fingerprint:
        return
    refuse_other_settings(there, planned.plan.kind, planned.plan.settings)
    known = [unit.fingerprint for unit in there.units]
    if [unit.fingerprint for unit in planned.plan.units[: len(known)]] != known:
        raise LvmError("another process planned this run differently in the same moment; run the command again")
    folder.storage.delete(folder.path(SUCCESS_NAME))
    folder.write_plan(plan)


def _print_plan(job: Job, planned: _Planned, runner: Runner) -> None:
    options, plan, inputs = job.settings, planned.plan, planned.inputs
    n_broken = sum(piece.reason is not None for piece in plan.pieces)
    n_duplicates = sum(len(piece.duplicate_rows) for piece in plan.pieces)
    lines = [
        f"files: {inputs.n_files}; ignored: {ignored_text(inputs.ignored)}",
        f"ECGs: {plan.n_ecgs} (duplicate ids: {n_duplicates}; unreadable inputs: {n_broken})",
        f"units: {len(plan.units)} of about {options.unit_ecgs} ECGs",
        f"this shard {options.shard[0]}/{options.shard[1]}: {counted(len(plan.shard_units(*options.shard)), 'unit')}",
        *job.describe(plan),
        *runner.describe(options, plan),
        "nothing was written (--dry-run)",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def _report_name(shard: tuple[int, int]) -> str:
    return f"{REPORTS_FOLDER}/{SHARD_PREFIX}{shard[0]}-of-{shard[1]}.json"


@dataclass
class _Run:
    """One run of a command over a plan that is stored."""

    job: Job
    folder: RunFolder
    plan: Plan
    inputs: Inputs
    exclusions: Exclusions
    runner: Runner

    @property
    def options(self) -> RunSettings:
        return self.job.settings

    def run_in_processes(self, argv: Sequence[str], n_processes: int, n_gpus: int) -> int:
        """Share the units of this shard among processes of this machine."""
        say(counted(n_processes, "process") + (f" on {counted(n_gpus, 'GPU')}" if n_gpus else ""))
        done = self.folder.committed(self.plan)
        todo = [unit for unit in self.plan.shard_units(*self.options.shard) if unit.number not in done]
        with self._showing(todo):
            code = run_processes(
                self.plan.kind,
                argv,
                self.options.shard,
                n_processes=n_processes,
                threads=self.options.threads or available_cores(),
                n_gpus=n_gpus,
            )
        self._report_warnings(shards_of(self.options.shard, n_processes))
        return code

    def _report_warnings(self, shards: Sequence[tuple[int, int]]) -> None:
        """Add the warnings of planning to a report of the processes, which listed nothing."""
        for name in map(_report_name, shards if self.inputs.warnings else ()):
            content = self.folder.read_json(name)
            if content is not None:
                content["warnings"] = [*self.inputs.warnings, *content["warnings"]]
                self.folder.write_json(name, self.exclusions.scrubbed(content))
                return

    def run(self) -> int:
        """Do the units of this shard that are missing, then close the run if all are done."""
        mine = self.plan.shard_units(*self.options.shard)
        done = self.folder.committed(self.plan)
        if self.exclusions:
            removal = remove_people(self.folder, self.plan, self.exclusions, sorted(done))
            if removal.changed:
                say(f"removed {counted(removal.n_ecgs, 'ECG')} of excluded people from finished units")
                self.plan = self.folder.require_plan()
                done = self.folder.committed(self.plan)
        todo = [unit for unit in mine if unit.number not in done]
        if not todo and self.folder.is_finished:
            foreign = self.folder.foreign_problem(self.plan)
            say(f"error: {foreign}" if foreign else f"finished already: {self.folder.uri}")
            return FAILED if foreign else DONE
        try:
            failures = self._do(todo, len(mine)) if todo else []
        except JobSubmitted as submitted:
            say(f"{submitted}. When it has ended: lvm-ai finish {self.folder.uri}")
            return DONE
        done = self.folder.committed(self.plan)
        unfinished = [unit for unit in mine if unit.number not in done]
        if unfinished:
            for failure in failures[:5]:
                say(f"error: {failure}")
            say(
                f"{len(unfinished)} of {counted(len(mine), 'unit', 'are')} not finished. Run the same command "
                "again to resume: finished units are kept"
            )
            return FAILED
        if len(self.folder.require_plan().units) != len(self.plan.units):
            say("inputs were added by another process meanwhile; run the same command again")
            return DONE
        if len(done) < len(self.plan.units):
            index, count = self.options.shard
            n_left = len(self.plan.units) - len(done)
            none = f"shard {index}/{count} has none of the {counted(len(self.plan.units), 'unit')}"
            say(f"{'this shard is done' if mine else none}; others have {counted(n_left, 'unit')} to do")
            return DONE
        accepted = close_run(
            self.folder,
            self.plan,
            done,
            Demands(self.options.max_rejected_share, self.job.stops_at_wrong_scale),
            self.exclusions,
            self.options.as_given(),
        )
        return DONE if accepted else FAILED

    def _do(self, todo: Sequence[Unit], n_mine: int) -> Sequence[str]:
        """Have workers do units; return the messages of those that failed."""
        shard = self.options.shard
        if len(todo) < n_mine:
            say(f"resuming: {n_mine - len(todo)} of {counted(n_mine, 'unit', 'are')} finished")
        say(f"{self.plan.kind}: {counted(sum(unit.n_ecgs for unit in todo), 'ECG')} in {counted(len(todo), 'unit')}")
        forget_notes(self.folder, shard)
        unit_job, places = self._order(todo)
        failed: LvmError | None = None
        try:
            self._run_pipeline(unit_job, places, todo)
        except LvmError as error:
            if self.runner.in_launcher:
                raise
            failed = error
        work = noted_work(self.folder, shard)
        self._report(todo, work)
        forget_notes(self.folder, shard)
        # What an engine tells of an error is often a copy of what its worker noted.
        own = [] if failed is None or any(str(failed) in one for one in work.failures) else [str(failed)]
        return [*dict.fromkeys((*own, *work.failures))]

    def _order(self, todo: Sequence[Unit]) -> tuple[UnitJob, list[UnitPlace]]:
        """Write what workers read, and return what travels to them."""
        options, storage = self.options, self.options.storage
        self.job.write_work_files(self.folder, self.plan)
        head_bytes, places = places_in(self.folder, todo)
        order = WorkOrder(
            folder=RunFolder(storage, storage.absolute(self.folder.uri)),
            launch=uuid.uuid4().hex,
            settings_sha256=self.plan.settings_sha256,
            head_bytes=head_bytes,
            roots=tuple(storage.absolute(root) for root in self.inputs.roots),
            exclusions=write_exclusions(self.folder, self.exclusions),
            threads=options.threads,
            processes_here=self.runner.processes_here(options),
            keep_going=not self.runner.retries,
            in_launcher=self.runner.in_launcher,
            pseudonym_key=None if options.pseudonym_key is None else storage.absolute(options.pseudonym_key),
        )
        return self.job.unit_job(self.plan, order), places

    def _run_pipeline(self, unit_job: UnitJob, places: Sequence[UnitPlace], todo: Sequence[Unit]) -> None:
        shard, limit = self.options.shard, None
        runner, beam_options = self.runner.start(self.options)
        pipeline = beam.Pipeline(runner=runner, options=beam_options)
        build(pipeline, unit_job, places, WorkerNotes(unit_job.order.folder, shard))
        if not self.runner.in_launcher:
            advice = f"Look at the workers and logs of {self.runner.name}: are its machines up, and is a place free?"
            limit = StartLimit(lambda: has_notes(self.folder, shard), self.options.start_timeout_s, advice)
        with self._showing(todo):
            run_pipeline(pipeline, limit)

    def _report(self, todo: Sequence[Unit], work: Work) -> None:
        """Write what this command did into the report of its shard."""
        shard, done = self.options.shard, self.folder.committed(self.plan)
        total = merge_summaries(done[u.number] for u in todo if u.number in done)
        content = shard_report(total, work, self.options, self.inputs.warnings)
        content["exclusions"] = {"n": len(self.exclusions), "sha256": self.exclusions.sha256}
        name = _report_name(shard)
        earlier = self.folder.read_json(name)
        content["earlier_runs"] = [*earlier.pop("earlier_runs", []), earlier] if earlier is not None else []
        self.folder.write_json(name, self.exclusions.scrubbed(content))

    def _showing(self, todo: Sequence[Unit]) -> AbstractContextManager[None]:
        """Show how many ECGs of these units are committed, wherever the workers are."""
        if not todo:
            return nullcontext()
        every_s = None if store_scheme(self.folder.uri) is None else _COUNT_IN_STORE_EVERY_S
        n_ecgs = sum(unit.n_ecgs for unit in todo)
        return showing(n_ecgs, self.plan.kind, self.folder.ecgs_as_committed(self.plan, todo), every_s)
