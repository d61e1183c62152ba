"""The Beam side of a job: units in, summaries out; waveforms never cross a stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from beam_jobs.progress import PROGRESS
from beam_jobs.storage import StorageFault
from beam_jobs.units import Unit, UnitSummary

T = TypeVar("T")


class UnitWorker(Protocol):
    """Does units; made from the job's settings, once per process."""

    def begin(self, unit: Unit, meanwhile: Callable[[], None]) -> Callable[[], UnitSummary]:
        """Begin a unit, and return what ends it and commits its files, if it is not yet.

        Args:
            unit: what to do.
            meanwhile: to be called before waiting: ends the unit that was begun before.
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

    def __init__(self, job: UnitJob) -> None:
        super().__init__()
        self._job = job

    def expand(self, units: beam.PCollection[Unit]) -> beam.PCollection[UnitSummary]:
        summaries: beam.PCollection[UnitSummary] = (
            units | "Reshuffle" >> beam.Reshuffle() | "Do" >> beam.ParDo(_UnitFn(self._job))
        )
        return summaries


class _UnitFn(beam.DoFn):
    """Does units, each ended while the next begins, or with the bundle."""

    def __init__(self, job: UnitJob) -> None:
        self._job = job

    def setup(self) -> None:
        self._worker = self._job.make_worker()

    def start_bundle(self) -> None:
        self._last: tuple[Unit, Callable[[], UnitSummary]] | None = None
        self._done: list[UnitSummary] = []

    def process(self, unit: Unit) -> Iterator[UnitSummary]:
        PROGRESS.begin_unit()
        try:
            end = self._try(unit, lambda: self._worker.begin(unit, self._end_last))
        finally:
            self._end_last()
        if isinstance(end, UnitSummary):
            self._done.append(end)
        else:
            self._last = unit, end
        yield from self._told()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        self._end_last()
        for summary in self._told():
            yield GlobalWindows.windowed_value(summary)

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
            PROGRESS.fail(str(fault))
            return UnitSummary(unit.number, failed=str(fault))

    def _told(self) -> Iterator[UnitSummary]:
        done, self._done = self._done, []
        for summary in done:
            PROGRESS.add_stages(summary.stage_s)
            _count(self._job.kind, summary)
            yield summary


def _count(kind: str, summary: UnitSummary) -> None:
    for reason, n in summary.rejected.items():
        Metrics.counter(kind, f"rejected_{reason}").inc(n)
    Metrics.counter(kind, "read").inc(summary.n_read)
    Metrics.counter(kind, "done").inc(summary.n_done)
    Metrics.counter(kind, "units_failed").inc(int(summary.failed is not None))
    for stage, seconds in summary.stage_s.items():
        Metrics.counter(kind, f"{stage}_ms").inc(round(seconds * 1000))


def build(pipeline: beam.Pipeline, job: UnitJob, units: Sequence[Unit]) -> None:
    """Add a job to a pipeline."""
    _ = pipeline | "Units" >> beam.Create(units, reshuffle=False) | "Job" >> DoUnits(job)
