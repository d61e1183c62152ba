"""This machine: Beam's own runner, its workers threads of this process."""

from __future__ import annotations

import logging

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineRunner

from beam_jobs.run.settings import RunSettings
from beam_jobs.runners.registry import Runner
from lvm_core.errors import UsageError


class LocalRunner(Runner):
    """Beam's FnApiRunner, named outright: Beam's default looks for other runners first."""

    name = "local"
    retries = False
    in_launcher = True

    def check(self, settings: RunSettings) -> None:
        """Refuse options for Beam, which has nothing to set here."""
        if settings.beam_options:
            raise UsageError(
                f"{' '.join(settings.beam_options)} after -- are options of Beam's runners, and --runner local has "
                "none; expected another --runner, or nothing after --"
            )

    def start(self, settings: RunSettings) -> tuple[PipelineRunner, PipelineOptions]:
        """Return the runner; several workers of it would listen on every network interface."""
        # Beam logs each error with its traceback and then raises it: once is enough.
        logging.getLogger("apache_beam.runners.common").setLevel(logging.CRITICAL)
        # A list of our own: Beam would otherwise read the arguments of our command line.
        return FnApiRunner(), PipelineOptions([])

    def processes_here(self, settings: RunSettings) -> int:
        """Return 1: further processes have shards and threads of their own."""
        return 1
