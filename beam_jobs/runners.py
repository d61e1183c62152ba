"""Runner presets. Beam's own default runner is never used: it may try to download a binary."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineRunner

from lvm_core.errors import LvmError, UsageError


def make_runner(name: str, units_at_once: int = 1) -> tuple[PipelineRunner, PipelineOptions]:
    """Return a runner and its options.

    Args:
        name: `local`: Beam's own in-memory runner in this process.
        units_at_once: units that are done at the same time, each in a thread of its own.

    Raises:
        UsageError: another name.
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

    Raises:
        LvmError: what a unit raised, without the wrapping that Beam puts around it.
        KeyboardInterrupt: likewise.
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
