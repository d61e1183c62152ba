"""The local runner: Beam's own, built outright, without a look at our command line."""

from __future__ import annotations

from dataclasses import replace

import apache_beam as beam
import pytest
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineRunner

from beam_jobs.reading.storage import StorageFault
from beam_jobs.run.settings import RUNNERS, IngestSettings
from beam_jobs.runners.local import LocalRunner
from beam_jobs.runners.pipeline import run_pipeline
from beam_jobs.runners.registry import runner_of
from lvm_core.errors import UsageError

SETTINGS = IngestSettings(inputs=("in",), output="out")


def start() -> tuple[PipelineRunner, PipelineOptions]:
    return LocalRunner().start(SETTINGS, 1)


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
