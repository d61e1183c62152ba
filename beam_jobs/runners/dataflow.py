"""Dataflow, Google's service for Beam jobs: what a run asks of it, and what comes back.

Nothing here was run on the service itself (docs/running_on_dataflow.md says what was tested).
Google's client libraries are needed to submit a job, not to check one or to import this module.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from typing import Any, Final

import apache_beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pipeline import Pipeline
from apache_beam.runners.dataflow import dataflow_runner
from apache_beam.runners.runner import PipelineResult, PipelineRunner

from beam_jobs.reading.storage import store_scheme
from beam_jobs.run.plan import Plan
from beam_jobs.run.progress import say
from beam_jobs.run.settings import RunSettings, ScoreSettings
from beam_jobs.runners.dataflow_cost import PRICES, Fleet, estimate_lines, load_prices
from beam_jobs.runners.dataflow_machines import CPU_MACHINE, GPUS, Gpu, Machine, accelerator_option, check_fit
from beam_jobs.runners.dataflow_names import (
    check_bucket_path,
    check_image,
    check_project,
    check_region,
    check_service_account,
    labels_of,
)
from beam_jobs.runners.registry import JobSubmitted, Runner
from lvm_core.command_line import nearest
from lvm_core.errors import LvmError, UsageError
from models.engines.choosing import EngineName
from models.machine.gpus import gpu_names
from models.machine.runtime import Device

_NEEDS: Final = ("google.cloud.dataflow", "google.cloud.storage", "google.auth")
_INSTALL: Final = "pip install 'lvm-ai[dataflow]'"
# Without a zone; batch jobs shuffle in the service.
_MOST_WORKERS: Final = 4000
_LEAST_DISK_GB: Final = 25
_CPU_DISK_GB: Final = 30
_GPU_DISK_GB: Final = 60
_FLEXRS_WAITS_S: Final = 6 * 3600.0 + 900.0
# A unit travels as a number, so that nothing of a worker's environment is needed beside the image.
_EXPERIMENTS: Final = ("no_use_multiple_sdk_containers", "disable_logging_submission_environment")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a run asks of Dataflow; refused when made where Google would refuse it later."""

    kind: str  # `score` or `ingest`
    output: str  # the run folder, gs://
    shard: tuple[int, int] = (1, 1)
    project: str
    region: str
    staging: str  # folder in a bucket for what is submitted and for temporary files
    image: str  # of the workers
    workers: int  # at the start
    max_workers: int | None = None  # None: the number of workers stays
    machine_type: str | None = None
    gpu: Gpu | None = None
    service_account: str | None = None
    subnetwork: str | None = None
    public_ips: bool = False
    cheap: bool = False  # FlexRS
    disk_gb: int | None = None
    labels: Sequence[str] = ()  # KEY=VALUE

    def __post_init__(self) -> None:
        check_project(self.project)
        check_region(self.region)
        check_bucket_path("--staging", self.staging)
        check_bucket_path("--output", self.output)
        labels_of(self.labels)
        check_fit(self.machine, self.gpu)
        self.image_notes()
        if self.service_account is not None:
            check_service_account(self.service_account)
        most = self.max_workers or self.workers
        if not 1 <= self.workers <= most <= _MOST_WORKERS:
            raise UsageError(
                f"--workers is {self.workers} and --max-workers {most}, expected 1 <= workers <= max <= {_MOST_WORKERS}"
            )
        if self.cheap and self.gpu is not None:
            raise UsageError("--cheap (FlexRS) has no GPUs; expected --cheap or --gpu, not both")
        if self.disk_gb is not None and self.disk_gb < _LEAST_DISK_GB:
            raise UsageError(f"--disk-gb is {self.disk_gb}, expected {_LEAST_DISK_GB} or more: the image must fit")

    @property
    def machine(self) -> str:
        """Machine type of the workers."""
        return self.machine_type or (CPU_MACHINE if self.gpu is None else self.gpu.machine)

    @property
    def size(self) -> Machine | None:
        """The machine type with its size; None where the size is not known here."""
        return check_fit(self.machine, self.gpu)

    @property
    def disk(self) -> int:
        """Disk of a worker, GB: the image must fit, unpacked, beside it as it was fetched."""
        return self.disk_gb or (_CPU_DISK_GB if self.gpu is None else _GPU_DISK_GB)

    @property
    def job_name(self) -> str:
        """Name of the job: the same for the same run folder and shard.

        Dataflow refuses a second active job of one name, so that a command that is given again
        while its job is running does not pay for the same work twice.
        """
        text = f"{self.output} {self.shard[0]}/{self.shard[1]}"
        return f"lvm-ai-{self.kind}-{sha256(text.encode()).hexdigest()[:12]}"

    def image_notes(self) -> list[str]:
        """Return what the image's name leaves open; refuse one that cannot fit."""
        return check_image(
            self.image,
            python=(sys.version_info.major, sys.version_info.minor),
            beam=apache_beam.__version__,
            needs_gpu=self.gpu is not None,
        )

    def options(self, passed_on: Sequence[str] = ()) -> list[str]:
        """Return Beam's options for the job.

        Args:
            passed_on: further options of Beam, from the user, which win over ours.
        """
        options = [
            f"--project={self.project}",
            f"--region={self.region}",
            f"--job_name={self.job_name}",
            f"--staging_location={self.staging.rstrip('/')}/staging",
            f"--temp_location={self.staging.rstrip('/')}/temp",
            f"--sdk_container_image={self.image}",
            "--sdk_location=container",
            f"--num_workers={self.workers}",
            f"--max_num_workers={self.max_workers or self.workers}",
            f"--autoscaling_algorithm={'THROUGHPUT_BASED' if self._scales else 'NONE'}",
            f"--machine_type={self.machine}",
            f"--disk_size_gb={self.disk}",
            # A worker is one process, which uses all its cores by itself, as in all other places.
            "--number_of_worker_harness_threads=1",
            "--use_public_ips" if self.public_ips else "--no_use_public_ips",
            *(f"--experiments={name}" for name in _EXPERIMENTS),
            *(f"--labels={pair}" for pair in self.labels),
        ]
        if self.gpu is not None:
            options.append(f"--dataflow_service_options={accelerator_option(self.gpu)}")
        if self.service_account is not None:
            options.append(f"--service_account_email={self.service_account}")
        if self.subnetwork is not None:
            options.append(f"--subnetwork={self.subnetwork}")
        if self.cheap:
            options.append("--flexrs_goal=COST_OPTIMIZED")
        return [*options, *known_options(passed_on)]

    @property
    def _scales(self) -> bool:
        """Dataflow changes the number of workers; FlexRS always does."""
        return self.cheap or (self.max_workers is not None and self.max_workers > self.workers)


def known_options(passed_on: Sequence[str]) -> list[str]:
    """Return the options after `--`; refuse those that Beam does not know, which it would drop."""
    all_known = PipelineOptions([]).get_all_options()
    given = PipelineOptions(list(passed_on)).get_all_options(retain_unknown_options=True)
    unknown = sorted(set(given) - set(all_known))
    if unknown:
        raise UsageError(f"after --: --{unknown[0]} is no option of Beam's{nearest(unknown[0], all_known)}")
    return list(passed_on)


def refuse_local(places: Sequence[tuple[str, str | None]]) -> None:
    """Refuse places that workers at Google cannot reach: (option, path or URI) pairs."""
    for flag, uri in places:
        if uri is None:
            continue
        scheme = store_scheme(uri)
        if scheme is None:
            raise UsageError(
                f"{flag} is {uri!r}, on this machine; the workers at Google share no disk with it. Upload it and give "
                "its place: gcloud storage cp --recursive FILES gs://BUCKET/FOLDER"
            )
        if scheme != "gs":
            raise UsageError(
                f"{flag} is {uri!r}; workers on Dataflow have Google's credentials alone, expected gs://. Copy it: "
                "gcloud storage cp --recursive takes s3:// too"
            )


def require_clients() -> None:
    """Refuse to submit without Google's client libraries."""
    missing = [name for name in _NEEDS if not _is_there(name)]
    if missing:
        raise UsageError(f"--runner dataflow needs Google's client libraries ({missing[0]} is missing): {_INSTALL}")


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a package above it
        return False


# Running


class BeamDataflowRunner(dataflow_runner.DataflowRunner):
    """Beam's runner, which says what goes on and raises errors that a user can act on."""

    def __init__(self, *, waits: bool = True) -> None:
        super().__init__()
        self._waits = waits

    def run_pipeline(self, pipeline: Pipeline, options: PipelineOptions, *args: Any) -> PipelineResult:
        logger = logging.getLogger("apache_beam.runners.dataflow")
        logger.setLevel(logging.INFO)
        # Beam gives the root logger a handler, which would print the whole description of the job.
        logger.propagate = False
        if not any(isinstance(handler, _Telling) for handler in logger.handlers):
            logger.addHandler(_Telling())
        try:
            result = super().run_pipeline(pipeline, options, *args)
        except Exception as error:
            raise_plain(error)
            raise
        return _Result(result, options, self._waits)


class _Result(PipelineResult):
    """Beam's result, with errors that a user can act on."""

    def __init__(self, result: PipelineResult, options: PipelineOptions, waits: bool) -> None:
        super().__init__(result.state)
        self._of_beam = result
        self._cloud = options.get_all_options()
        self._waits = waits

    def job_id(self) -> str:
        """Return the job's id at Google."""
        return str(self._of_beam.job_id())  # type: ignore[attr-defined] # of Dataflow's results alone

    def metrics(self) -> Any:
        return self._of_beam.metrics()

    def cancel(self) -> str:
        """Ask Google to stop the job, and say how to see that it stopped: machines are paid for."""
        say(
            f"dataflow: cancelling {self.job_id()}; see that it ends: gcloud dataflow jobs describe {self.job_id()} "
            f"--project {self._cloud['project']} --region {self._cloud['region']}"
        )
        return str(self._of_beam.cancel())

    @property
    def state(self) -> str:
        return str(self._of_beam.state)

    def wait_until_finish(self, duration: int | None = None) -> str:
        if self._cloud["template_location"] is not None:
            raise JobSubmitted(f"dataflow: the job is described in {self._cloud['template_location']}")
        if not self._waits:
            raise JobSubmitted(f"dataflow: job {self.job_id()} is submitted; lvm-ai status shows how far it is")
        try:
            return str(self._of_beam.wait_until_finish(duration))
        except Exception as error:
            raise_plain(error)
            raise


class _Telling(logging.Handler):
    """Says what a user wants to know of Beam's log: the job, its states, warnings and errors."""

    _TOLD: Final = re.compile(r"Created job with id|To access the Dataflow|Job \S+ is in state|JOB_MESSAGE_BASIC")

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno >= logging.WARNING or self._TOLD.search(text):
            say(f"dataflow: {_without_traceback(text)}")


def _without_traceback(text: str) -> str:
    """Return a text of Google's, of a traceback its last line: the whole is on the job's page."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1][-_SHOWN:] if "Traceback (most recent call last)" in text else text.strip()[-_SHOWN:]


# What an error of Google's clients means, by the name of its class.
_MEANINGS: Final = {
    "DefaultCredentialsError": "no credentials for Google were found: gcloud auth application-default login",
    "RefreshError": "the credentials for Google have expired: gcloud auth application-default login",
    "Unauthorized": "Google refuses the credentials: gcloud auth application-default login",
    "Forbidden": "Google refuses this; you need roles/dataflow.developer, roles/iam.serviceAccountUser on the workers' "
    "account and roles/storage.objectAdmin on the bucket, and the Dataflow API must be enabled in the project",
    "PermissionDenied": "Google refuses this; is the Dataflow API enabled, and have you roles/dataflow.developer?",
    "NotFound": "something is not there: the project, the bucket, or the API in this region",
    "InvalidArgument": "Google does not take the job as it is described",
    "BadRequest": "Google does not take the job as it is described",
    "ResourceExhausted": "a quota is used up; docs/running_on_dataflow.md names those that count",
    "TooManyRequests": "a quota is used up; docs/running_on_dataflow.md names those that count",
    "ServiceUnavailable": "Google's service does not answer; run the same command again",
    "DataflowJobAlreadyExistsError": "a job over this run folder is running already: lvm-ai status tells its progress; "
    "wait for it, or cancel it, before you run the same command again",
    "DataflowRuntimeException": "the job failed at Google; finished units are kept, and the same command resumes. What "
    "to look at first: docs/running_on_dataflow.md",
}
_NOT_UPLOADED: Final = "Could not upload to GCS path"
_SHOWN: Final = 1000  # letters of a text of Google's


def raise_plain(error: Exception) -> None:
    """Raise an error of Google's clients again as an `LvmError`; return for every other error."""
    text = _without_traceback(str(error)) or type(error).__name__
    if isinstance(error, OSError) and text.startswith(_NOT_UPLOADED):
        raise LvmError(f"a file of the job could not be written below --staging. It says: {text}") from error
    for kind in type(error).__mro__:
        if kind.__name__ in _MEANINGS:
            raise LvmError(f"{_MEANINGS[kind.__name__]}. It says: {text}") from error


# What the command line calls


class DataflowRunner(Runner):
    """Google's service: machines of its own, which reach stores alone."""

    name = "dataflow"

    def check(self, settings: RunSettings) -> None:
        """Refuse what Google would refuse, and what its machines cannot reach."""
        refuse_local(places_of(settings))
        request = request_of(settings)
        known_options(settings.beam_options)
        _check_computing(settings)
        if request.cheap and settings.start_timeout_s < _FLEXRS_WAITS_S:
            raise UsageError(
                f"--start-timeout is {settings.start_timeout_s:g} s, and a job with --cheap may wait for six hours; "
                f"expected --start-timeout {_FLEXRS_WAITS_S:g} or more"
            )
        if settings.prices is not None:
            load_prices(settings.prices)
        if not settings.dry_run:
            require_clients()

    def start(self, settings: RunSettings) -> tuple[PipelineRunner, PipelineOptions]:
        """Return the runner; nothing of it runs here."""
        request = request_of(settings)
        say(f"dataflow: submitting {request.job_name} to {request.region}, project {request.project}")
        return BeamDataflowRunner(waits=not settings.no_wait), PipelineOptions(request.options(settings.beam_options))

    def processes_here(self, settings: RunSettings) -> int:
        """Return 1: a machine has one process, which uses all its cores."""
        return 1

    def describe(self, settings: RunSettings, plan: Plan) -> list[str]:
        """Return what the run would ask for, take and cost, as lines for --dry-run."""
        request, prices = request_of(settings), load_prices(settings.prices)
        machine = request.size
        gpu = f", each with one {request.gpu.title}" if request.gpu else ""
        most = f" to {request.max_workers}" if request.max_workers else ""
        lines = [
            f"dataflow: job {request.job_name}, {request.workers}{most} machines {request.machine}{gpu}",
            *(f"note: {note}" for note in request.image_notes()),
        ]
        units = plan.shard_units(*settings.shard)
        if machine is None:
            return [*lines, f"no estimate: the size of {request.machine} is not known here"]
        if "engine" not in plan.settings:
            return [*lines, "no estimate: rates are known for lvm-ai score alone"]
        fleet = Fleet(request.workers, machine, request.gpu, request.disk, request.cheap)
        source = str(settings.prices or PRICES.name)
        engine, n_ecgs = EngineName(plan.settings["engine"]), sum(unit.n_ecgs for unit in units)
        return [*lines, *estimate_lines(prices, fleet, engine, n_ecgs, len(units), source)]


def places_of(settings: RunSettings) -> list[tuple[str, str | None]]:
    """Return all places that the run reads or writes, with the options that name them."""
    places: list[tuple[str, str | None]] = [("--input", uri) for uri in settings.inputs]
    places.append(("--output", settings.output))
    if isinstance(settings, ScoreSettings):
        places.append(("--participants", settings.participants))
    return places


def request_of(settings: RunSettings) -> Request:
    """Return what a run asks of Dataflow; refuse it where that is incomplete or cannot be."""
    needed = {name: getattr(settings, name) for name in ("project", "region", "staging", "image", "workers")}
    missing = [f"--{name}" for name, value in needed.items() if value is None]
    if missing:
        raise UsageError(f"--runner dataflow needs {', '.join(missing)} too; docs/running_on_dataflow.md explains them")
    return Request(
        kind=settings.kind,
        output=settings.output,
        shard=settings.shard,
        max_workers=settings.max_workers,
        machine_type=settings.machine_type,
        gpu=GPUS[settings.gpu] if settings.gpu is not None else None,
        service_account=settings.service_account,
        subnetwork=settings.subnetwork,
        public_ips=settings.public_ips,
        cheap=settings.cheap,
        disk_gb=settings.disk_gb,
        labels=settings.labels,
        **needed,
    )


def _check_computing(settings: RunSettings) -> None:
    """Refuse machines with GPUs for a run that computes on CPUs, and the reverse."""
    device = settings.device if isinstance(settings, ScoreSettings) else Device.CPU
    if settings.gpu is not None and device is not Device.GPU:
        raise UsageError(
            f"--gpu {settings.gpu} is paid for with each machine, and the run would compute on CPUs; expected "
            "--device gpu with it (lvm-ai score)"
        )
    if settings.gpu is None and device is None and gpu_names(os.environ):
        raise UsageError(
            "this machine has a GPU, which auto would choose, and the machines at Google have none; expected --device "
            "cpu, or --gpu and --device gpu"
        )
    if settings.gpu is None and device is Device.GPU:
        raise UsageError(f"--device is gpu, and the machines have none; expected --gpu {', '.join(GPUS)} with it")
