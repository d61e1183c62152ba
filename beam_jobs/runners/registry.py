"""The places where a run can be done: one runner each, imported only when it is chosen."""

from __future__ import annotations

from importlib import import_module
from typing import Final, Protocol, cast, runtime_checkable

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineRunner

from beam_jobs.run.plan import Plan
from beam_jobs.run.settings import RunSettings


class Runner(Protocol):
    """How Beam runs the job in one place."""

    name: str  # as --runner has it
    retries: bool  # does work again itself where a worker died or a storage failed
    in_launcher: bool  # workers are threads of this process

    def check(self, settings: RunSettings) -> None:
        """Refuse, before anything is planned, what cannot work; a `UsageError` says what to do."""

    def start(self, settings: RunSettings) -> tuple[PipelineRunner, PipelineOptions]:
        """Return Beam's runner and its options, and start what it needs here, as a job server."""

    def processes_here(self, settings: RunSettings) -> int:
        """Return the worker processes that share the cores of a machine."""


class JobSubmitted(Exception):
    """A job is on its way and nobody waits for it; its text says how to go on."""


@runtime_checkable
class Describes(Protocol):
    """A runner that has something to say about a plan before it is carried out."""

    def describe(self, settings: RunSettings, plan: Plan) -> list[str]:
        """Return what the run would ask for, take and cost, as lines for --dry-run."""


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
