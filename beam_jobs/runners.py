"""Runner presets. Beam's own default runner is never used: it may try to download a binary."""

from __future__ import annotations

from collections.abc import Mapping

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineRunner

from lvm_core.errors import UsageError


def make_runner(name: str) -> tuple[PipelineRunner, PipelineOptions]:
    """Return a runner and its options.

    Args:
        name: `local`: Beam's own in-memory runner in this process.

    Raises:
        UsageError: another name.
    """
    if name != "local":
        raise UsageError(f"--runner is {name!r}, expected local")
    # An empty list: Beam would otherwise read the arguments of our own command line.
    return FnApiRunner(), PipelineOptions([])


def run_pipeline(pipeline: beam.Pipeline) -> Mapping[str, int]:
    """Run a pipeline to its end and return its counters by name."""
    result = pipeline.run()
    result.wait_until_finish()
    counters = result.metrics().query()["counters"]
    return {metric.key.metric.name: int(metric.committed or 0) for metric in counters}
