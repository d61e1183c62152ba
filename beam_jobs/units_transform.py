"""The Beam side of a job: units in, summaries out; waveforms never cross a stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import apache_beam as beam
from apache_beam.metrics import Metrics

from beam_jobs.progress import PROGRESS
from beam_jobs.storage import StorageFault
from beam_jobs.units import Unit, UnitSummary


class UnitWorker(Protocol):
    """Does units; made from the job's settings, once per process."""

    def process(self, unit: Unit) -> UnitSummary:
        """Do one unit and commit its files."""


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
    def __init__(self, job: UnitJob) -> None:
        self._job = job

    def setup(self) -> None:
        self._worker = self._job.make_worker()

    def process(self, unit: Unit) -> Iterator[UnitSummary]:
        # Bad records become rejects inside the unit. Only a storage that failed several tries is
        # caught, and only for a runner that would give up the other units with it.
        PROGRESS.begin_unit()
        try:
            summary = self._worker.process(unit)
        except StorageFault as fault:
            if not self._job.keep_going:
                raise
            PROGRESS.fail(str(fault))
            summary = UnitSummary(unit.number, failed=str(fault))
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
