"""`--runner spark`: a Spark cluster, through Beam's portable runner for it."""

from __future__ import annotations

import re
import socket
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from apache_beam.options.pipeline_options import JobServerOptions, PipelineOptions
from apache_beam.runners.runner import PipelineRunner

from beam_jobs.run.settings import RunSettings
from beam_jobs.runners.java_job_server import JavaJobServer, find_java, jar_property
from beam_jobs.runners.portable import OnOwnService, boot_program, process_environment
from lvm_core.errors import LvmError, UsageError

_MAIN_CLASS: Final = "org.apache.beam.runners.spark.SparkJobServerDriver"
_SPARK_VERSION: Final = "META-INF/maven/org.apache.spark/spark-core_2.12/pom.properties"
_JAVA_VERSIONS: Final = (8, 11, 17)  # of Spark 3
_MASTER: Final = re.compile(r"spark://(?P<hosts>[^,/:]+:\d+(?:,[^,/:]+:\d+)*)")
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
        java_version(_java(settings))
        boot_program(settings.worker_command)
        require_master(master)

    def start(self, settings: RunSettings) -> tuple[PipelineRunner, PipelineOptions]:
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
        java = _java(settings)
        return OnOwnService(lambda: job_server(java, jar, master)), PipelineOptions(options)

    def processes_here(self, settings: RunSettings) -> int:
        """Return the worker processes of an executor."""
        return settings.worker_processes or 1


def _java(settings: RunSettings) -> str:
    """Return the Java program; options after `--` may name it."""
    given = PipelineOptions(list(settings.beam_options)).view_as(JobServerOptions)
    return find_java(given.job_server_java_launcher)


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
    found = jar_property(Path(jar), _SPARK_VERSION, "version")
    with zipfile.ZipFile(jar) as content:
        names = content.namelist()
    if f"{_MAIN_CLASS.replace('.', '/')}.class" not in names:
        raise UsageError(f"--spark-job-server-jar {jar} holds no {_MAIN_CLASS}, expected Beam's job server; {how}")
    return found or "of an unknown version"


def java_version(java: str) -> int:
    """Return the version of a Java program.

    Raises:
        UsageError: Spark 3 does not run on it.
    """
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


def job_server(java: str, jar: str, master: str) -> JavaJobServer:
    """Start Beam's job server for Spark; it is the driver of the job.

    Raises:
        LvmError: it does not start.
    """
    opens = _OPENS if java_version(java) > 8 else ()
    program = [
        java,
        *opens,
        f"-Dspark.default.parallelism={_PARTS}",
        f"-Dspark.task.maxFailures={_TRIES}",
        f"-Dspark.executor.extraJavaOptions={' '.join(opens)}",
    ]

    def arguments(port: int, staged: Path) -> list[str]:
        services = [f"--job-port={port}", "--artifact-port=0", "--expansion-port=-1"]
        return [f"--spark-master-url={master}", *services, f"--artifacts-dir={staged}"]

    return JavaJobServer(program, Path(jar), arguments, "Spark")
