"""The local runner: Beam's own, built explicitly, deaf to our command line."""

from __future__ import annotations

import apache_beam as beam
import pytest
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_jobs.reading.storage import StorageFault
from beam_jobs.runners.pipeline import make_runner, run_pipeline
from lvm_core.errors import UsageError


def test_make_runner__local_is_the_fn_api_runner() -> None:
    runner, _ = make_runner("local")
    assert type(runner) is FnApiRunner


@pytest.mark.parametrize("name", ["direct", "DirectRunner", "Local", ""])
def test_make_runner__other_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"--runner is '{name}', expected local"):
        make_runner(name)


def test_make_runner__does_not_read_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["lvm-ai", "--runner", "DirectRunner", "--streaming"])
    _, options = make_runner("local")
    standard = options.view_as(StandardOptions)
    assert standard.runner is None
    assert not standard.streaming


def _count(number: int) -> int:
    Metrics.counter("test", "seen").inc(number)
    return number


def test_run_pipeline__returns_the_counters() -> None:
    runner, options = make_runner("local")
    pipeline = beam.Pipeline(runner=runner, options=options)
    _ = pipeline | beam.Create([1, 2, 3]) | beam.Map(_count)
    assert run_pipeline(pipeline)["seen"] == 6


def _storage_down(number: int) -> int:
    raise StorageFault("the store is down")


def test_run_pipeline__error_of_ours_comes_out_as_itself() -> None:
    runner, options = make_runner("local")
    pipeline = beam.Pipeline(runner=runner, options=options)
    _ = pipeline | beam.Create([1]) | beam.Map(_storage_down)
    with pytest.raises(StorageFault, match=r"^the store is down$"):
        run_pipeline(pipeline)


def _fail(number: int) -> int:
    raise ZeroDivisionError("a bug")


def test_run_pipeline__error_of_a_worker_comes_out() -> None:
    runner, options = make_runner("local")
    pipeline = beam.Pipeline(runner=runner, options=options)
    _ = pipeline | beam.Create([1]) | beam.Map(_fail)
    with pytest.raises(Exception, match="a bug"):
        run_pipeline(pipeline)
