"""The places where a run can be done: one runner each, imported only when it is chosen."""

from __future__ import annotations

from importlib import import_module
from typing import Final, cast

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineRunner

from beam_jobs.run.plan import Plan
from beam_jobs.run.settings import RunSettings


class Runner:
    """How Beam runs the job in one place; here, what is common to clusters."""

    name: str  # as --runner has it
    retries = True  # does work again itself where a worker died or a storage failed
    in_launcher = False  # workers are threads of this process

    def check(self, settings: RunSettings) -> None:
        """Refuse, before anything is planned, what cannot work; a `UsageError` says what to do."""

    def start(self, settings: RunSettings) -> tuple[PipelineRunner, PipelineOptions]:
        """Return Beam's runner and its options, and start what it needs here, as a job server."""
        raise NotImplementedError

    def processes_here(self, settings: RunSettings) -> int:
        """Return the worker processes that share the cores of a machine."""
        return settings.worker_processes or 1

    def describe(self, settings: RunSettings, plan: Plan) -> list[str]:
        """Return what the run would ask for, take and cost, as lines for --dry-run."""
        return []


class JobSubmitted(Exception):
    """A job is on its way and nobody waits for it; its text says how to go on."""


_CLASSES: Final = {
    "local": "LocalRunner",
    "portable": "PortableRunner",
    "flink": "FlinkRunner",
    "spark": "SparkRunner",
    "dataflow": "DataflowRunner",
}


def runner_of(name: str) -> Runner:
    """Return the runner of a name, one of `RUNNERS`: a class in the module of that name."""
    return cast(Runner, getattr(import_module(f"beam_jobs.runners.{name}"), _CLASSES[name])())
