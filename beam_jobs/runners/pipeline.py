"""The Beam side of a job: units in, summaries out; waveforms never cross a stage."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineRunner
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from beam_jobs.reading.storage import StorageFault
from beam_jobs.reading.units import Unit, UnitSummary
from beam_jobs.run.report import WorkerNotes
from lvm_core.errors import LvmError, UsageError

T = TypeVar("T")


class UnitWorker(Protocol):
    """Does units; made from the job's settings, once per process."""

    def begin(self, unit: Unit, meanwhile: Callable[[], None]) -> Callable[[], UnitSummary]:
        """Begin a unit, and return what ends it and commits its files, if it is not yet.

        `meanwhile` ends the unit that was begun before; it is to be called before waiting.
        """


class UnitJob(Protocol):
    """A job as it travels to workers: plain values that can be pickled."""

    @property
    def kind(self) -> str:
        """`score` or `ingest`: the name space of the counters."""

    @property
    def keep_going(self) -> bool:
        """Finish the other units when the storage fails one (a runner that retries nothing)."""

    @property
    def units_at_once(self) -> int:
        """Units that a process does at the same time, 1 or more."""

    def make_worker(self) -> UnitWorker:
        """Open models and files; called on the worker."""


class DoUnits(beam.PTransform):
    """Do every unit and write its output files.

    Invariant: for each unit, `summary.n_read == summary.n_done + summary.n_rejected`.
    """

    def __init__(self, job: UnitJob, notes: WorkerNotes) -> None:
        super().__init__()
        self._job = job
        self._notes = notes

    def expand(self, units: beam.PCollection[Unit]) -> beam.PCollection[UnitSummary]:
        summaries: beam.PCollection[UnitSummary] = (
            units | "Reshuffle" >> beam.Reshuffle() | "Do" >> beam.ParDo(_UnitFn(self._job, self._notes))
        )
        return summaries


class _UnitFn(beam.DoFn):
    """Does units, each ended while the next begins, or with the bundle."""

    def __init__(self, job: UnitJob, notes: WorkerNotes) -> None:
        self._job = job
        self._notes = notes

    def setup(self) -> None:
        self._worker = self._job.make_worker()

    def start_bundle(self) -> None:
        self._last: tuple[Unit, Callable[[], UnitSummary]] | None = None
        self._done: list[UnitSummary] = []

    def process(self, unit: Unit) -> Iterator[UnitSummary]:
        self._notes.begin_unit()
        try:
            end = self._try(unit, lambda: self._worker.begin(unit, self._end_last))
        finally:
            self._end_last()
        if isinstance(end, UnitSummary):
            self._done.append(end)
        else:
            self._last = unit, end
        yield from self._finished()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        self._end_last()
        for summary in self._finished():
            yield GlobalWindows.windowed_value(summary)
        self._notes.write()

    def _end_last(self) -> None:
        """End the unit that was begun before, if one was and has not ended."""
        if self._last is None:
            return
        (unit, end), self._last = self._last, None
        self._done.append(self._try(unit, end))

    def _try(self, unit: Unit, step: Callable[[], T]) -> T | UnitSummary:
        """Take a step of a unit; bad records become rejects in it.

        Only a storage that failed several tries is caught, and only for a runner that would give
        up the other units with it.
        """
        try:
            return step()
        except StorageFault as fault:
            if not self._job.keep_going:
                raise
            return UnitSummary(unit.number, failed=str(fault))

    def _finished(self) -> Iterator[UnitSummary]:
        done, self._done = self._done, []
        for summary in done:
            self._notes.end_unit(summary)
            _count(self._job.kind, summary)
            yield summary


def _count(kind: str, summary: UnitSummary) -> None:
    for reason, n in summary.rejected.items():
        Metrics.counter(kind, f"rejected_{reason}").inc(n)
    Metrics.counter(kind, "read").inc(summary.n_read)
    Metrics.counter(kind, "done").inc(summary.n_done)
    Metrics.counter(kind, "units_failed").inc(int(summary.failed is not None))


def build(pipeline: beam.Pipeline, job: UnitJob, units: Sequence[Unit], notes: WorkerNotes) -> None:
    """Add a job to a pipeline; each worker keeps notes of its own."""
    _ = pipeline | "Units" >> beam.Create(units, reshuffle=False) | "Job" >> DoUnits(job, notes)


def make_runner(name: str, units_at_once: int = 1) -> tuple[PipelineRunner, PipelineOptions]:
    """Return the runner of a name, and its options; `local` is Beam's own, in this process.

    Each of the units done at the same time has a thread of its own.
    """
    if name != "local":
        raise UsageError(f"--runner is {name!r}, expected local")
    # Beam logs each error with its traceback and then raises it: once is enough.
    logging.getLogger("apache_beam.runners.common").setLevel(logging.CRITICAL)
    # A list of our own: Beam would otherwise read the arguments of our command line.
    threads = [f"--direct_num_workers={units_at_once}", "--direct_running_mode=multi_threading"]
    return FnApiRunner(), PipelineOptions(threads if units_at_once > 1 else [])


def run_pipeline(pipeline: beam.Pipeline) -> Mapping[str, int]:
    """Run a pipeline to its end and return its counters by name.

    What a unit raised, or the user's interrupt, is raised without what Beam puts around it.
    """
    try:
        result = pipeline.run()
        result.wait_until_finish()
    except Exception as error:
        ours = _cause(error)
        if ours is None:
            raise
        raise ours from None
    counters = result.metrics().query()["counters"]
    return {metric.key.metric.name: int(metric.committed or 0) for metric in counters}


def _cause(error: BaseException) -> BaseException | None:
    """Return our own error, or the user's interrupt, behind what a runner raised.

    Beam raises a copy of the error with the step's name appended, and keeps the original behind.
    """
    link: BaseException | None = error
    found: BaseException | None = None
    while link is not None:
        if isinstance(link, LvmError | KeyboardInterrupt):
            is_copy = found is not None and type(link) is type(found)
            if found is not None and not (is_copy and str(found).startswith(str(link))):
                break
            found = link
        link = link.__cause__ or link.__context__
    return found
