"""`--runner spark`: a Spark cluster, through Beam's portable runner for it."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineRunner

from beam_jobs.run.settings import RunSettings
from beam_jobs.runners.portable import OnOwnService, Program, boot_program, private_folder, process_environment
from lvm_core.errors import LvmError, UsageError

_MAIN_CLASS: Final = "org.apache.beam.runners.spark.SparkJobServerDriver"
_SPARK_VERSION: Final = "META-INF/maven/org.apache.spark/spark-core_2.12/pom.properties"
_JAVA_VERSIONS: Final = (8, 11, 17)  # of Spark 3
_MASTER: Final = re.compile(r"spark://(?P<hosts>[^,/:]+:\d+(?:,[^,/:]+:\d+)*)")
_READY_WITHIN_S: Final = 120.0
_LOOK_EVERY_S: Final = 0.2
# Small parts, so that fast workers do more of them and a lost one costs little.
_PARTS: Final = 200
# Of one part, before the run gives up: one killed worker can fail a part several times.
_TRIES: Final = 20
# What Spark's own start scripts pass to Java 17.
_OPENS: Final = tuple(
    f"--add-opens=java.base/{package}=ALL-UNNAMED"
    for package in (
        "java.lang java.lang.invoke java.lang.reflect java.io java.net java.nio java.util java.util.concurrent "
        "java.util.concurrent.atomic sun.nio.ch sun.nio.cs sun.security.action sun.util.calendar"
    ).split()
)


@dataclass(frozen=True)
class SparkRunner:
    """Spark, with Beam's job server in a process here as the driver."""

    name: str = "spark"
    retries: bool = True
    in_launcher: bool = False

    def check(self, settings: RunSettings) -> None:
        """Refuse a missing master, job server or Java, and those that do not fit."""
        master = settings.spark_master
        if master is None or not _MASTER.fullmatch(master):
            raise UsageError(
                f"--spark-master is {master!r}, expected the address of the cluster's master, spark://HOST:PORT"
            )
        spark_of(settings.spark_job_server_jar)
        java_version()
        boot_program(settings.worker_command)
        require_master(master)

    def start(self, settings: RunSettings, units_at_once: int) -> tuple[PipelineRunner, PipelineOptions]:
        """Return Beam's runner; the job server starts with the job."""
        jar, master = settings.spark_job_server_jar, settings.spark_master
        assert jar is not None
        assert master is not None
        options = [
            *process_environment(settings),
            f"--spark_master_url={master}",
            f"--sdk_worker_parallelism={self.processes_here(settings)}",
            *settings.beam_options,
        ]
        return OnOwnService(lambda: JobServer(jar, master)), PipelineOptions(options)

    def processes_here(self, settings: RunSettings) -> int:
        """Return the worker processes of an executor."""
        return settings.worker_processes or 1


def spark_of(jar: str | None) -> str:
    """Return the version of Spark in a job server.

    Raises:
        UsageError: there is no such file, or it is no job server for Spark 3.
    """
    how = "docs/running_on_spark.md says how to build one"
    if jar is None:
        raise UsageError(f"--runner spark needs --spark-job-server-jar, Beam's job server for Spark; {how}")
    if not Path(jar).is_file():
        raise UsageError(f"--spark-job-server-jar {jar} is not there; {how}")
    try:
        with zipfile.ZipFile(jar) as content:
            names = set(content.namelist())
            properties = content.read(_SPARK_VERSION).decode() if _SPARK_VERSION in names else ""
    except zipfile.BadZipFile as error:
        raise UsageError(f"--spark-job-server-jar {jar} is no jar ({error}); {how}") from error
    if f"{_MAIN_CLASS.replace('.', '/')}.class" not in names:
        raise UsageError(f"--spark-job-server-jar {jar} holds no {_MAIN_CLASS}, expected Beam's job server; {how}")
    found = re.search(r"^version=(\S+)", properties, re.MULTILINE)
    return found[1] if found else "of an unknown version"


def java_version() -> int:
    """Return the version of Java here.

    Raises:
        UsageError: there is none, or one that Spark 3 does not run on.
    """
    java = shutil.which("java")
    if java is None:
        raise UsageError("--runner spark needs Java 17 here for Beam's job server, and there is no java")
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    if found is None or int(found[1]) not in _JAVA_VERSIONS:
        said = said.strip().partition("\n")[0]
        raise UsageError(f"{java} is {said!r}, expected Java 8, 11 or 17, on which Spark 3 runs")
    return int(found[1])


def require_master(master: str) -> None:
    """Refuse a master that does not answer.

    Raises:
        LvmError: no connection to any of its addresses.
    """
    problems = []
    for address in master.removeprefix("spark://").split(","):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
            return
        except OSError as error:
            problems.append(f"{address}: {error.strerror or error}")
    raise LvmError(
        f"--spark-master {master} does not answer ({'; '.join(problems)}); expected a running master. Its address is "
        "on its web page, and in its log after 'Starting Spark master at'"
    )


class JobServer:
    """Beam's job server for Spark in a process of its own: the driver of the job."""

    def __init__(self, jar: str, master: str) -> None:
        self._folder = private_folder()
        self._port = _free_port()
        opens = _OPENS if java_version() > 8 else ()
        command = [
            "java",
            *opens,
            f"-Dspark.default.parallelism={_PARTS}",
            f"-Dspark.task.maxFailures={_TRIES}",
            f"-Dspark.executor.extraJavaOptions={' '.join(opens)}",
            "-jar",
            jar,
            f"--spark-master-url={master}",
            f"--job-port={self._port}",
            "--artifact-port=0",
            "--expansion-port=-1",
            f"--artifacts-dir={self._folder / 'staged'}",
        ]
        self._program = Program(command, self._folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self._wait()

    @property
    def endpoint(self) -> str:
        """Where jobs are sent."""
        return f"localhost:{self._port}"

    @property
    def runs(self) -> bool:
        """Whether the process is there."""
        return self._program.process.poll() is None

    def close(self) -> None:
        """End the driver, and with it the job."""
        self._program.process.kill()
        self._program.process.wait()
        shutil.rmtree(self._folder)

    def _wait(self) -> None:
        stop_s = time.monotonic() + _READY_WITHIN_S
        while not _listens(self._port):
            if not self.runs or time.monotonic() > stop_s:
                said = self._program.said()
                self.close()
                raise LvmError(f"Beam's job server for Spark does not start within {_READY_WITHIN_S:g} s: {said}")
            time.sleep(_LOOK_EVERY_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("localhost", port), timeout=1).close()
    except OSError:
        return False
    return True
