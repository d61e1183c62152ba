"""`--runner portable`: worker processes of this machine, or a job service that is already there."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions
from apache_beam.runners.portability.portable_runner import PortableRunner as BeamPortableRunner
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState
from grpc import RpcError

from beam_jobs.run.settings import RunSettings
from beam_jobs.runners.boot import worker_environment
from beam_jobs.runners.job_service import JOB_SOCKET, READY, socket_of
from beam_jobs.runners.registry import Runner
from lvm_core.errors import LvmError, UsageError
from models.engines.choosing import EngineName

BOOT_PROGRAM: Final = "lvm-beam-boot"
_WORKERS: Final = 2
# Beam's client gives up a job that takes longer than its time for one request, where the service
# shows the states of a job from its preparation on, as Python's does.
_LONGEST_JOB_S: Final = 365 * 24 * 3600
_LONGEST_SOCKET: Final = 90  # characters; the operating system takes about 100


# What the runners that start workers by the boot program share


def boot_program(given: str | None) -> str:
    """Return the program that starts a worker: as given, or that of this interpreter.

    Raises:
        UsageError: none is given and this interpreter has none.
    """
    if given is not None:
        return given
    here = Path(sys.executable).with_name(BOOT_PROGRAM)
    if not os.access(here, os.X_OK):
        raise UsageError(
            f"{here} is not there, which starts workers; install lvm-ai in this Python (pip install lvm-ai), or name "
            f"the program on the workers with --worker-command, for example /opt/lvm/bin/{BOOT_PROGRAM}"
        )
    return str(here)


def process_environment(settings: RunSettings) -> list[str]:
    """Return the options by which a runner starts our workers in processes."""
    needs = ("tensorflow",) if getattr(settings, "engine", None) is EngineName.TENSORFLOW else ()
    config = {"command": boot_program(settings.worker_command), "env": worker_environment(needs)}
    return [
        "--environment_type=PROCESS",
        f"--environment_config={json.dumps(config)}",
        # Below, workers tell the log of the runner each option. Java knows no WARNING.
        "--default_sdk_harness_log_level=WARN",
    ]


def _not_of_beam(record: logging.LogRecord) -> bool:
    return record.module != "portable_runner"


class WithoutSecretsInOptions(PipelineRunner):
    """A portable runner whose options do not hold the environment of workers.

    Options are shown by engines and written to their logs. The environment can hold credentials; it
    travels inside the job alone, where it is needed.
    """

    def run_portable_pipeline(self, pipeline: Any, options: PipelineOptions) -> PipelineResult:
        # Beam logs what an engine tells of an error, with tracebacks, and then raises it.
        logging.getLogger().addFilter(_not_of_beam)
        options.view_as(PortableOptions).environment_config = None
        return super().run_portable_pipeline(pipeline, options)


# A job service that lives as long as the job


class Service(Protocol):
    """A job service in a process of its own."""

    @property
    def endpoint(self) -> str:
        """Where jobs are sent."""

    @property
    def runs(self) -> bool:
        """Whether the process is there."""

    def said(self) -> str:
        """Return what the process said last."""

    def close(self) -> None:
        """End the process."""


class OnOwnService(WithoutSecretsInOptions, BeamPortableRunner):
    """Beam's runner, with a job service that starts and ends with the job.

    `start` starts the service; an `LvmError` says why it does not. `wrap` makes the result of the
    job from Beam's and the service.
    """

    def __init__(
        self, start: Callable[[], Service], wrap: Callable[[PipelineResult, Service], PipelineResult] | None = None
    ) -> None:
        super().__init__()
        self._start = start
        self._wrap = wrap or ServiceResult

    def run_portable_pipeline(self, pipeline: Any, options: PipelineOptions) -> PipelineResult:
        service = self._start()
        try:
            options.view_as(PortableOptions).job_endpoint = service.endpoint
            return self._wrap(super().run_portable_pipeline(pipeline, options), service)
        except RpcError as error:
            said = service.said()
            service.close()
            raise LvmError(f"the job service does not take the job; it says: {said}") from error
        except BaseException:
            service.close()
            raise


class ServiceResult(PipelineResult):
    """The result of a job, after which its service ends."""

    def __init__(self, result: PipelineResult, service: Service) -> None:
        super().__init__(result.state)
        self._result = result
        self._service = service
        self._ended = False

    def wait_until_finish(self, duration: int | None = None) -> Any:
        try:
            state = self._result.wait_until_finish(duration)
            if state == PipelineState.DONE:
                self._result.metrics()  # kept there; the service is about to end
            return state
        except Exception as error:
            told = self.plain(error)
            if told is None:
                raise
            raise told from error
        finally:
            self.end()

    def plain(self, error: Exception) -> LvmError | None:
        """Return what happened in plain words; None where the error says it itself."""
        if self._ended or self._service.runs:
            return None
        return LvmError(
            "the job service was ended from outside. Run the same command again to resume: finished units are kept"
        )

    def cancel(self) -> None:
        """End the job; it ends with the service and its workers."""
        self.end()

    def end(self) -> None:
        """End the service."""
        if not self._ended:
            self._ended = True
            self._service.close()

    def metrics(self) -> Any:
        return self._result.metrics()


def private_folder() -> Path:
    """Return a new folder for its owner alone, with a path short enough for sockets."""
    usual = Path(tempfile.gettempdir())
    parent = usual if len(str(usual)) + len("/lvm-12345678/job") <= _LONGEST_SOCKET else Path("/tmp")
    return Path(tempfile.mkdtemp(prefix="lvm-", dir=parent))


# The runner


class JobService:
    """Our job service in a process of its own, and its private folder."""

    def __init__(self, n_workers: int) -> None:
        self._folder = private_folder()
        # -P: no module of the folder that the user is in.
        command = [sys.executable, "-P", "-m", "beam_jobs.runners.job_service", str(self._folder)]
        command.append(f"--workers={n_workers}")
        with (self._folder / "log").open("w") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != READY:
            said = self.said()
            self.close()
            raise LvmError(f"the job service of --runner portable does not start: {said}")

    @property
    def endpoint(self) -> str:
        """Where jobs are sent."""
        return socket_of(self._folder, JOB_SOCKET)

    @property
    def runs(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def said(self) -> str:
        """Return the last line of the log."""
        lines = (self._folder / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "no word"

    def close(self) -> None:
        """End the process, and with it the workers."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        shutil.rmtree(self._folder)


class PortableRunner(Runner):
    """Worker processes through Beam's Job API: our own job service, or one that is there."""

    name = "portable"

    def check(self, settings: RunSettings) -> None:
        """Refuse an address that is none, and a boot program that is not there."""
        if settings.job_endpoint is not None:
            check_address("--job-endpoint", settings.job_endpoint)
            if (problem := no_answer(settings.job_endpoint)) is not None:
                raise LvmError(
                    f"--job-endpoint {settings.job_endpoint} does not answer ({problem}); expected a service that runs "
                    "there"
                )
        boot_program(settings.worker_command)

    def start(self, settings: RunSettings) -> tuple[PipelineRunner, PipelineOptions]:
        """Return Beam's runner; the job service starts with the job."""
        limit = f"--job_server_timeout={_LONGEST_JOB_S}"
        options = [*process_environment(settings), limit, *_endpoint(settings.job_endpoint), *settings.beam_options]
        if settings.job_endpoint is None:
            n_workers = self.processes_here(settings)
            return OnOwnService(lambda: JobService(n_workers)), PipelineOptions(options)
        return _OnTheirs(), PipelineOptions(options)

    def processes_here(self, settings: RunSettings) -> int:
        """Return the worker processes that share this machine."""
        return settings.worker_processes or (_WORKERS if settings.job_endpoint is None else 1)


class _OnTheirs(WithoutSecretsInOptions, BeamPortableRunner):
    """Beam's runner on a job service that is already there."""


def _endpoint(given: str | None) -> Sequence[str]:
    return [] if given is None else [f"--job_endpoint={given}"]


def check_address(option: str, value: str) -> None:
    """Refuse what is not HOST:PORT."""
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"{option} is {value!r}, expected HOST:PORT, for example localhost:8099")


def no_answer(address: str) -> str | None:
    """Return why nothing answers at HOST:PORT within ten seconds; None where something does."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        return str(error.strerror or error)
    return None
