"""The local runner: Beam's own, built outright, without a look at our command line."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from threading import Event
from typing import cast

import apache_beam as beam
import pytest
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineRunner, PipelineState

from beam_jobs.reading.storage import StorageFault
from beam_jobs.run.settings import RUNNERS, IngestSettings
from beam_jobs.runners.local import LocalRunner
from beam_jobs.runners.pipeline import StartLimit, run_pipeline
from beam_jobs.runners.registry import runner_of
from lvm_core.errors import LvmError, UsageError

SETTINGS = IngestSettings(inputs=("in",), output="out")


def start() -> tuple[PipelineRunner, PipelineOptions]:
    return LocalRunner().start(SETTINGS)


def test_local__is_the_fn_api_runner() -> None:
    runner, _ = start()
    assert type(runner) is FnApiRunner


def test_local__refuses_options_for_beam() -> None:
    with pytest.raises(UsageError, match="--parallelism=4 after -- are options of Beam's runners"):
        LocalRunner().check(replace(SETTINGS, beam_options=("--parallelism=4",)))


@pytest.mark.parametrize("name", RUNNERS)
def test_registry__has_every_runner_that_can_be_chosen(name: str) -> None:
    assert runner_of(name).name == name


def test_local__does_not_read_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["lvm-ai", "--runner", "DirectRunner", "--streaming"])
    _, options = start()
    standard = options.view_as(StandardOptions)
    assert standard.runner is None
    assert not standard.streaming


def _count(number: int) -> int:
    Metrics.counter("test", "seen").inc(number)
    return number


def test_run_pipeline__returns_the_counters() -> None:
    runner, options = start()
    pipeline = beam.Pipeline(runner=runner, options=options)
    _ = pipeline | beam.Create([1, 2, 3]) | beam.Map(_count)
    assert run_pipeline(pipeline)["seen"] == 6


def _storage_down(number: int) -> int:
    raise StorageFault("the store is down")


def test_run_pipeline__error_of_ours_comes_out_as_itself() -> None:
    runner, options = start()
    pipeline = beam.Pipeline(runner=runner, options=options)
    _ = pipeline | beam.Create([1]) | beam.Map(_storage_down)
    with pytest.raises(StorageFault, match=r"^the store is down$"):
        run_pipeline(pipeline)


def _fail(number: int) -> int:
    raise ZeroDivisionError("a bug")


def test_run_pipeline__error_of_a_worker_comes_out() -> None:
    runner, options = start()
    pipeline = beam.Pipeline(runner=runner, options=options)
    _ = pipeline | beam.Create([1]) | beam.Map(_fail)
    with pytest.raises(Exception, match="a bug"):
        run_pipeline(pipeline)


# Clusters, which go on without this process and tell of errors as text


@dataclass
class Cluster:
    """A pipeline on a cluster that ends with a state, when it is cancelled or by itself."""

    ends_itself: bool
    state: str = PipelineState.DONE
    error: Exception | None = None
    cancelled: Event = field(default_factory=Event)

    def run(self) -> Cluster:
        return self

    def wait_until_finish(self) -> str:
        if not self.ends_itself:
            assert self.cancelled.wait(30)
            return PipelineState.CANCELLED
        if self.error is not None:
            raise self.error
        return self.state

    def cancel(self) -> None:
        self.cancelled.set()

    def metrics(self) -> Cluster:
        return self

    def query(self) -> dict[str, list[object]]:
        return {"counters": []}


def _run_on(cluster: Cluster, *, begins: bool) -> None:
    run_pipeline(cast(beam.Pipeline, cluster), StartLimit(lambda: begins, 0.1, "Look at its logs."))


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beam_jobs.runners.pipeline._LOOK_EVERY_S", 0.01)


def test_cluster__job_that_cannot_be_cancelled_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(ends_itself=False)

    def fail() -> None:
        cluster.cancelled.set()
        raise LvmError("it does not answer")

    monkeypatch.setattr(cluster, "cancel", fail)
    told = r"within 0\.1 s, and the job could not be cancelled \(it does not answer\)\. Look"
    with pytest.raises(LvmError, match=told):
        _run_on(cluster, begins=False)


def test_cluster__without_a_worker_the_job_is_cancelled() -> None:
    cluster = Cluster(ends_itself=False)
    with pytest.raises(
        LvmError, match=r"^no worker began within 0\.1 s, so the job was cancelled\. Look at its logs\.$"
    ):
        _run_on(cluster, begins=False)
    assert cluster.cancelled.is_set()


def test_cluster__that_has_begun_is_waited_for() -> None:
    cluster = Cluster(ends_itself=False)
    threading.Timer(0.5, cluster.cancelled.set).start()  # much later than the limit
    with pytest.raises(LvmError, match="the job ended as CANCELLED"):
        _run_on(cluster, begins=True)


def test_cluster__failed_state_is_an_error() -> None:
    with pytest.raises(LvmError, match="the job ended as FAILED; look at the logs of the engine"):
        _run_on(Cluster(ends_itself=True, state=PipelineState.FAILED), begins=True)


# As Flink and the Python job service give it: with escaped or real line breaks, or at the end.
TRACEBACK = (
    "Traceback (most recent call last):{n}  File x.py{n}beam_jobs.reading.storage.StorageFault: reading gs://b/a "
)
TOLD = [
    TRACEBACK.format(n="\\n") + "failed 5 times [while running 'Job/Do']\\n\\n",
    TRACEBACK.format(n="\n") + "failed 5 times\n\nmore",
    TRACEBACK.format(n="\n") + "failed 5 times",
]


@pytest.mark.parametrize("text", TOLD)
def test_cluster__error_of_ours_is_found_in_its_text(text: str) -> None:
    cluster = Cluster(ends_itself=True, error=RuntimeError(f"Pipeline job-7 failed: {text}"))
    with pytest.raises(LvmError, match=r"^reading gs://b/a failed 5 times$"):
        _run_on(cluster, begins=True)


def test_cluster__other_errors_come_out() -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        _run_on(Cluster(ends_itself=True, error=RuntimeError("a bug")), begins=True)


def test_cluster__interrupt_cancels_the_job() -> None:
    cluster = Cluster(ends_itself=True, error=cast(Exception, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        _run_on(cluster, begins=True)
    assert cluster.cancelled.is_set()
