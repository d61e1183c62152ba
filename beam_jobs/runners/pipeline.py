"""The Beam side of a job: units in, summaries out; waveforms never cross a stage."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.runners.runner import PipelineState
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from beam_jobs.reading.storage import StorageFault
from beam_jobs.reading.units import Unit, UnitSummary
from beam_jobs.run.order import WorkOrder
from beam_jobs.run.plan import UnitPlace
from beam_jobs.run.report import WorkerNotes
from lvm_core.errors import LvmError

T = TypeVar("T")
_LOOK_EVERY_S: Final = 2.0
# The line of a traceback that names one of our errors; Beam adds the step in brackets.
_OURS_IN_TEXT: Final = re.compile(
    r"(?:lvm_core|beam_jobs|models)\.[a-z_.]+\.[A-Z]\w+: (?P<message>.+?)(?: \[while running|\\n|\n|$)"
)


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
    def order(self) -> WorkOrder:
        """What a worker reads, from where, and how."""

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

    def expand(self, units: beam.PCollection[UnitPlace]) -> beam.PCollection[UnitSummary]:
        summaries: beam.PCollection[UnitSummary] = (
            units | "Reshuffle" >> beam.Reshuffle() | "Do" >> beam.ParDo(_UnitFn(self._job, self._notes))
        )
        return summaries


class _UnitFn(beam.DoFn):
    """Does units, each ended while the next begins, or with the bundle.

    Where several are done at once, each has a thread here, not in the runner: Beam's own threads
    would need servers that listen on every network interface.
    """

    def __init__(self, job: UnitJob, notes: WorkerNotes) -> None:
        self._job = job
        self._notes = notes

    def setup(self) -> None:
        with self._noting():
            self._worker = self._job.make_worker()
        n = self._job.units_at_once
        self._pool = ThreadPoolExecutor(n, thread_name_prefix="lvm-unit") if n > 1 else None

    def start_bundle(self) -> None:
        self._last: tuple[int, Callable[[], UnitSummary]] | None = None
        self._under_way: set[Future[UnitSummary]] = set()
        self._done: list[UnitSummary] = []

    def process(self, place: UnitPlace) -> Iterator[UnitSummary]:
        self._notes.begin_unit(write=not self._job.order.in_launcher)
        if self._pool is not None:
            self._collect(self._job.units_at_once - 1)
            self._under_way.add(self._pool.submit(self._whole, place))
            yield from self._finished()
            return
        try:
            with self._noting():
                end = self._try(place.number, lambda: self._begin(place))
        finally:
            self._end_last()
        if isinstance(end, UnitSummary):
            self._done.append(end)
        else:
            self._last = place.number, end
        yield from self._finished()

    def _whole(self, place: UnitPlace) -> UnitSummary:
        """Do a unit from its begin to its end."""
        return self._try(place.number, lambda: self._worker.begin(self._job.order.unit(place), lambda: None)())

    def _collect(self, n_left: int) -> None:
        """Wait until at most that many units are under way."""
        while len(self._under_way) > n_left:
            ended, self._under_way = wait(self._under_way, return_when=FIRST_COMPLETED)
            with self._noting():
                self._done.extend(future.result() for future in ended)

    def _begin(self, place: UnitPlace) -> Callable[[], UnitSummary]:
        return self._worker.begin(self._job.order.unit(place), self._end_last)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        self._end_last()
        self._collect(0)
        for summary in self._finished():
            yield GlobalWindows.windowed_value(summary)
        self._notes.write()

    def _end_last(self) -> None:
        """End the unit that was begun before, if one was and has not ended."""
        if self._last is None:
            return
        (number, end), self._last = self._last, None
        with self._noting():
            self._done.append(self._try(number, end))

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """Note an error of ours where the command finds it: engines pass on its text at best."""
        try:
            yield
        except LvmError as error:
            if not self._job.order.in_launcher:
                self._notes.fail(str(error))
            raise

    def _try(self, number: int, step: Callable[[], T]) -> T | UnitSummary:
        """Take a step of a unit; bad records become rejects in it.

        Only a storage that failed several tries is caught, and only for a runner that would give
        up the other units with it.
        """
        try:
            return step()
        except StorageFault as fault:
            if not self._job.order.keep_going:
                raise
            return UnitSummary(number, failed=str(fault))

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


def build(pipeline: beam.Pipeline, job: UnitJob, places: Sequence[UnitPlace], notes: WorkerNotes) -> None:
    """Add a job to a pipeline; each worker keeps notes of its own."""
    _ = pipeline | "Units" >> beam.Create(places, reshuffle=False) | "Job" >> DoUnits(job, notes)


@dataclass(frozen=True)
class StartLimit:
    """How long a cluster may take until the first worker begins."""

    has_begun: Callable[[], bool]  # a worker has begun a unit
    seconds: float
    advice: str  # what to look at where no worker begins

    def cancel_late(self, cancel: Callable[[], object], ended: threading.Event, late: list[str]) -> None:
        """Cancel the job and say so in `late`, where no worker begins before it has `ended`."""
        stop_s = time.monotonic() + self.seconds
        while not ended.wait(_LOOK_EVERY_S):
            with suppress(LvmError):  # the storage may fail for a moment
                if self.has_begun():
                    return
            if time.monotonic() > stop_s:
                late[:] = [f"no worker began within {self.seconds:g} s", ", so the job was cancelled. ", self.advice]
                try:
                    cancel()
                except LvmError as error:
                    late[1] = f", and the job could not be cancelled ({error}). "
                return


def run_pipeline(pipeline: beam.Pipeline, limit: StartLimit | None = None) -> Mapping[str, int]:
    """Run a pipeline to its end and return its counters by name.

    What a unit raised, or the user's interrupt, is raised without what Beam puts around it. Where
    no worker begins within the `limit` of a cluster, the job is cancelled with an `LvmError`.
    """
    ended, late, watch = threading.Event(), list[str](), None
    try:
        result = pipeline.run()
        if limit is not None:
            watch = threading.Thread(target=limit.cancel_late, args=(result.cancel, ended, late), daemon=True)
            watch.start()
        state = result.wait_until_finish()
    except Exception as error:
        if late:
            raise _too_late(watch, late) from error
        ours = _cause(error) or _told(error)
        if ours is None:
            raise
        raise ours from None
    except KeyboardInterrupt:
        if limit is not None:  # a cluster would go on without us
            result.cancel()
        raise
    finally:
        ended.set()
    if late:
        raise _too_late(watch, late)
    if state not in (None, PipelineState.DONE):
        raise LvmError(f"the job ended as {state}; look at the logs of the engine, then run the same command again")
    counters = result.metrics().query()["counters"]
    return {metric.key.metric.name: int(metric.committed or 0) for metric in counters}


def _too_late(watch: threading.Thread | None, late: list[str]) -> LvmError:
    """Return why a job was cancelled, when that is done."""
    assert watch is not None
    watch.join()
    return LvmError("".join(late))


def _told(error: Exception) -> LvmError | None:
    """Return our own error from the text in which a cluster gives what a worker raised."""
    found = _OURS_IN_TEXT.search(str(error))
    return LvmError(found["message"].strip()) if found else None


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
