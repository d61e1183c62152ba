"""`--runner flink`: a Flink cluster, through the job server of Beam's portable Flink runner."""

from __future__ import annotations

import json
import logging
import re
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from apache_beam.options.pipeline_options import FlinkRunnerOptions, JobServerOptions, PipelineOptions
from apache_beam.runners.portability.job_server import JavaJarJobServer
from apache_beam.runners.runner import PipelineResult, PipelineRunner
from apache_beam.version import __version__ as beam_version

from beam_jobs.run.progress import say
from beam_jobs.run.settings import RunSettings
from beam_jobs.runners.boot import PACKAGE_MISSING, RUNNER_SILENT, WRONG_PYTHON, WRONG_USAGE, WRONG_VERSION
from beam_jobs.runners.java_job_server import JavaJobServer, find_java, jar_property, warn_of_open_ports
from beam_jobs.runners.portable import (
    OnOwnService,
    Service,
    ServiceResult,
    boot_program,
    check_address,
    process_environment,
)
from beam_jobs.runners.registry import Runner
from lvm_core.errors import LvmError, UsageError

_KEEP_WORKERS_MS: Final = 20_000
_ANSWER_WITHIN_S: Final = 20.0
_CANCEL_WITHIN_S: Final = 120.0
_LOOK_EVERY_S: Final = 0.5
_ENDED: Final = frozenset({"FINISHED", "CANCELED", "FAILED"})
_VERSION_FILE: Final = ".flink-runtime.version.properties"  # Flink's own, in each jar that holds its runtime
_SHORT_LIVED: Final = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")  # the server does little after its start
_BUILD: Final = "make flink-job-server builds one (docs/running_on_flink.md)"
_EXIT_CODE: Final = re.compile(r"Process died with exit code (\d+)")
_EXIT_CODES: Final = {
    WRONG_USAGE: "lvm-beam-boot was called in a way that it does not know",
    WRONG_PYTHON: "their Python is another minor version than that of this command",
    PACKAGE_MISSING: "a package is missing in their Python",
    WRONG_VERSION: "lvm-ai or apache-beam is another version there than here",
    RUNNER_SILENT: "the TaskManager did not answer lvm-beam-boot",
    126: "the program that starts them cannot be executed there",
    127: "the program that starts them is not there",
}


@dataclass(frozen=True)
class Cluster:
    """What the REST interface of a Flink cluster says of it."""

    url: str
    version: str  # such as 1.19.3
    slots: int  # of all TaskManagers, free or not
    most_on_a_host: int  # TaskManagers that share one machine
    restarts: bool  # starts lost parts of a job again, by its own settings

    @property
    def line(self) -> str:
        """The version without its last part, such as 1.19: what a job server is built for."""
        return _line(self.version)


def look_at_cluster(master: str) -> Cluster:
    """Ask a cluster what it is; `master` is HOST:PORT or an http(s) address.

    Raises:
        UsageError: nothing answers there, or something else than Flink; no TaskManager is there.
    """
    url = url_of(master)
    overview = _get(url, "/overview")
    if not isinstance(overview, dict) or "flink-version" not in overview or "slots-total" not in overview:
        raise UsageError(f"--flink-master {master} answers, but not as Flink does; expected the REST port of Flink")
    if overview["slots-total"] < 1:
        raise UsageError(
            f"the Flink cluster at {master} has no TaskManager with a slot; expected at least one. Start TaskManagers, "
            f"and look at {url}/#/task-manager"
        )
    managers = _get(url, "/taskmanagers")["taskmanagers"]
    hosts = Counter(_host(manager) for manager in managers)
    most = max(hosts.values(), default=1)
    return Cluster(url, overview["flink-version"], overview["slots-total"], most, _restarts(url))


def _restarts(url: str) -> bool:
    """Return True where the cluster's settings have lost parts of a job started again.

    Beam's options for it have no effect on a batch job (seen with 2.62.0 on Flink 1.19.3), nor
    have Flink's settings that a job server is given.
    """
    own = {one["key"]: one["value"] for one in _get(url, "/jobmanager/config")}
    strategy = own.get("restart-strategy.type") or own.get("restart-strategy") or "none"
    return strategy not in {"none", "off", "disable"}


def url_of(master: str) -> str:
    """Return the address of the REST interface."""
    if re.match("https?://", master):
        return master.rstrip("/")
    check_address("--flink-master", master)
    return f"http://{master}"


def _host(manager: Mapping[str, Any]) -> str:
    """Return the host of a TaskManager, from an address such as pekko.tcp://flink@host:6122/..."""
    found = re.search(r"@\[?([^\]/]+?)\]?:\d+", manager.get("path", ""))
    return found[1] if found else str(manager.get("id"))


def _line(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _get(url: str, path: str, method: str = "GET") -> Any:
    request = urllib.request.Request(f"{url}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_WITHIN_S) as answer:
            return json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        raise UsageError(f"{url}{path} answers {error.code} {error.reason}; expected a Flink cluster there") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise UsageError(
            f"the Flink cluster at {url} does not answer ({reason}); expected the REST port of its JobManager, for "
            "example --flink-master localhost:8081. Is it running, and can this machine reach it?"
        ) from error


# The job server


def check_versions(cluster: Cluster, jar: Path) -> None:
    """Refuse a job server that was built for another line of Flink than the cluster's.

    Raises:
        UsageError: the versions do not fit, or the jar is none of a Flink job server.
    """
    version = jar_property(jar, _VERSION_FILE, "project.version")
    if version is None:
        raise UsageError(f"{jar} is no job server of Beam's Flink runner: Flink is not in it. {_BUILD}")
    if _line(version) != cluster.line:
        raise UsageError(
            f"the cluster at {cluster.url} is Flink {cluster.version}, and the job server {jar} is for Flink "
            f"{version}; expected the same first two numbers. Take a job server for Flink {cluster.line}, or a cluster "
            f"of Flink {_line(version)}; {_BUILD}"
        )


def _published_jar(cluster: Cluster, options: PipelineOptions) -> Path:
    """Return Beam's own job server for a cluster, which Beam fetches when it is not there yet."""
    known = FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS
    if cluster.line not in known:
        raise UsageError(
            f"the cluster at {cluster.url} is Flink {cluster.version}, and Beam {beam_version} has job servers for "
            f"Flink {', '.join(known)}; expected a cluster of one of these, or --flink-job-server-jar"
        )
    url = JavaJarJobServer.path_to_beam_jar(f":runners:flink:{cluster.line}:job-server:shadowJar")
    say(f"job server: {url.rpartition('/')[2]}")
    try:
        return Path(JavaJarJobServer.local_jar(url, options.view_as(JobServerOptions).jar_cache_dir))
    except (OSError, RuntimeError) as error:
        raise UsageError(
            f"Beam's job server {url} cannot be fetched ({error}); expected a way to it, or "
            f"--flink-job-server-jar. {_BUILD}"
        ) from error


# The job


def job_name(settings: RunSettings) -> str:
    """Return the name of the job on the cluster: the same for each start of one shard of a run."""
    place = [settings.storage.absolute(settings.output), *map(str, settings.shard)]
    return f"lvm-ai-{settings.kind}-{sha256(json.dumps(place).encode()).hexdigest()[:12]}"


def cancel_jobs(cluster: Cluster, name: str) -> int:
    """Cancel the jobs of a name that still run, and wait for their end; return how many there were.

    Raises:
        LvmError: a job does not end.
    """
    jobs = _get(cluster.url, "/jobs/overview")["jobs"]
    running = [job["jid"] for job in jobs if job["name"].startswith(name) and job["state"] not in _ENDED]
    for job in running:
        _get(cluster.url, f"/jobs/{job}?mode=cancel", "PATCH")
    stop_s = time.monotonic() + _CANCEL_WITHIN_S
    for job in running:
        while _get(cluster.url, f"/jobs/{job}")["state"] not in _ENDED:
            if time.monotonic() > stop_s:
                raise LvmError(
                    f"the job {job} of this run is still on the cluster and does not end within "
                    f"{_CANCEL_WITHIN_S:g} s; look at {cluster.url}/#/job/{job}/overview and cancel it there"
                )
            time.sleep(_LOOK_EVERY_S)
    return len(running)


class _FlinkResult(ServiceResult):
    """The result of a job on Flink, which goes on there without its job server."""

    def __init__(self, result: PipelineResult, service: Service, cluster: Cluster, name: str) -> None:
        super().__init__(result, service)
        self._cluster, self._name = cluster, name

    def plain(self, error: Exception) -> LvmError | None:
        """Return why the job failed; the cause stands at the end of what Java says."""
        if isinstance(error, RuntimeError):
            return LvmError(plain_failure(str(error)))
        if self._service.runs:
            return None
        return LvmError(
            f"the job server of --runner flink was ended from outside; it says: {self._service.said()}. The job may "
            "still be on the cluster. Run the same command again to resume: it ends that job, and finished units "
            "are kept"
        )

    def cancel(self) -> None:
        """Cancel the job on the cluster.

        A job server that is asked to cancel a job leaves it on the cluster (seen with 2.62.0).
        """
        cancel_jobs(self._cluster, self._name)
        if not self._ended:
            self._result.cancel()


def plain_failure(text: str) -> str:
    """Return why a job failed from the message of the job server, which is a trace of Java."""
    found = _EXIT_CODE.search(text)
    if found:
        code = int(found[1])
        meaning = _EXIT_CODES.get(code, f"lvm-beam-boot ended with exit code {code}")
        return (
            f"workers do not start on the TaskManagers: {meaning}. Their logs say more: lvm-beam-UID in the temporary "
            "folder of each TaskManager's machine, or the folder that LVM_BEAM_LOG_DIR names"
        )
    causes = re.findall(r"(?:Caused by: |^)(?:[\w$]+\.)*([\w$]+(?:Exception|Error)): ?([^\n]*)", text, re.MULTILINE)
    what = ": ".join(causes[-1]) if causes else text.strip().splitlines()[0]
    return f"the job failed on Flink: {what}. The web page of the cluster and the logs of its TaskManagers say more"


class FlinkRunner(Runner):
    """Worker processes beside the TaskManagers of a Flink cluster."""

    name = "flink"

    def check(self, settings: RunSettings) -> None:
        """Refuse a cluster that does not fit, and end the job of a start that was killed.

        Raises:
            UsageError: as said; its message names both versions where they do not fit.
        """
        if settings.flink_master is None:
            raise UsageError("--runner flink needs --flink-master HOST:PORT, the REST port of the JobManager")
        boot_program(settings.worker_command)
        cluster = look_at_cluster(settings.flink_master)
        options = PipelineOptions(list(settings.beam_options))
        find_java(options.view_as(JobServerOptions).job_server_java_launcher)
        jar = _jar(settings, cluster, options)
        check_versions(cluster, jar)
        warn_of_open_ports(jar)
        if not cluster.restarts:
            say(
                f"warning: the Flink cluster at {cluster.url} starts no part of a job again, so the run ends with the "
                "first lost worker (the same command resumes it). Set restart-strategy.type: fixed-delay in its "
                "config.yaml, with 20 attempts or more (docs/running_on_flink.md)"
            )
        # A command that was killed leaves its job on the cluster, where it would hold the slots.
        if not settings.dry_run and cancel_jobs(cluster, job_name(settings)):
            say("an earlier start of this run still had its job on the cluster: it was cancelled")

    def start(self, settings: RunSettings) -> tuple[PipelineRunner, PipelineOptions]:
        """Return Beam's runner; the job server starts with the job."""
        assert settings.flink_master is not None
        cluster = look_at_cluster(settings.flink_master)
        ours = [
            f"--job_name={job_name(settings)}",
            f"--flink_version={cluster.line}",
            f"--flink_master={cluster.url}",
            f"--parallelism={cluster.slots}",
            f"--sdk_worker_parallelism={settings.worker_processes or 1}",
            # Pipelined, one lost worker would repeat the whole job.
            "--execution_mode_for_batch=BATCH_FORCED",
            # A worker serves the next stage too: each start of one takes seconds.
            f"--environment_cache_millis={_KEEP_WORKERS_MS}",
            # Below, Beam sends a list of the packages that are installed here.
            "--experiments=disable_logging_submission_environment",
            *process_environment(settings),
        ]
        # Python's Beam does not know them; the job server does.
        logging.getLogger("apache_beam.options.pipeline_options").addFilter(_is_not_about_java)
        options = PipelineOptions([*ours, *settings.beam_options])
        say(f"Flink {cluster.version} with {cluster.slots} slots")
        jar, given = _jar(settings, cluster, options), options.view_as(JobServerOptions)
        java = [find_java(given.job_server_java_launcher), *_SHORT_LIVED, *given.job_server_jvm_properties]

        def server() -> JavaJobServer:
            return JavaJobServer(java, jar, [f"--flink-master={cluster.url}"], f"--runner {self.name}")

        def result(of_beam: PipelineResult, service: Service) -> PipelineResult:
            return _FlinkResult(of_beam, service, cluster, job_name(settings))

        return OnOwnService(server, result), options

    def processes_here(self, settings: RunSettings) -> int:
        """Return the worker processes that share a machine: those of all its TaskManagers."""
        assert settings.flink_master is not None
        return (settings.worker_processes or 1) * look_at_cluster(settings.flink_master).most_on_a_host


_OF_JAVA: Final = ("--execution_mode_for_batch",)


def _is_not_about_java(record: logging.LogRecord) -> bool:
    return not any(option in record.getMessage() for option in _OF_JAVA)


def _jar(settings: RunSettings, cluster: Cluster, options: PipelineOptions) -> Path:
    """Return the job server: as given, or Beam's own for this cluster."""
    if settings.flink_job_server_jar is not None:
        return Path(settings.flink_job_server_jar)
    return _published_jar(cluster, options)
