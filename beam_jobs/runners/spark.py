"""`--runner spark`: a Spark cluster, through Beam's portable runner for it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

from apache_beam.options.pipeline_options import JobServerOptions, PipelineOptions
from apache_beam.runners.runner import PipelineRunner

from beam_jobs.run.settings import RunSettings
from beam_jobs.runners.java_job_server import JavaJobServer, find_java, holds, jar_property, warn_of_open_ports
from beam_jobs.runners.portable import OnOwnService, boot_program, no_answer, process_environment
from beam_jobs.runners.registry import Runner
from lvm_core.errors import LvmError, UsageError

_DRIVER: Final = "org/apache/beam/runners/spark/SparkJobServerDriver.class"
_SPARK_VERSION: Final = "META-INF/maven/org.apache.spark/spark-core_2.12/pom.properties"
_JAVA_VERSIONS: Final = (8, 11, 17)  # of Spark 3
_MASTER: Final = re.compile(r"spark://(?P<hosts>[^,/:]+:\d+(?:,[^,/:]+:\d+)*)")
# Parts that the units are cut into. Beam starts a Python worker for each part and ends it after:
# more parts would cost more starts (4 to 8 s of processor time each), fewer would leave executors
# without work at the end. Beam's cache for workers (--environment_cache_millis) would spare the
# starts; what it does with a worker that was killed is not known yet.
_PARTS: Final = 64
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


class SparkRunner(Runner):
    """Spark, with Beam's job server in a process here as the driver."""

    name = "spark"

    def check(self, settings: RunSettings) -> None:
        """Refuse a missing master, job server or Java, and those that do not fit."""
        master = settings.spark_master
        if master is None or not _MASTER.fullmatch(master):
            raise UsageError(
                f"--spark-master is {master!r}, expected the address of the cluster's master, spark://HOST:PORT"
            )
        spark_of(settings.spark_job_server_jar)
        assert settings.spark_job_server_jar is not None
        warn_of_open_ports(Path(settings.spark_job_server_jar))
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
    if not holds(Path(jar), _DRIVER):
        raise UsageError(f"--spark-job-server-jar {jar} holds no {_DRIVER}, expected Beam's job server; {how}")
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
        problem = no_answer(address)
        if problem is None:
            return
        problems.append(f"{address}: {problem}")
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
        "-Dspark.ui.enabled=false",  # it would listen on every network and show the options of the job
        f"-Dspark.task.maxFailures={_TRIES}",
        f"-Dspark.executor.extraJavaOptions={' '.join(opens)}",
    ]
    return JavaJobServer(program, Path(jar), [f"--spark-master-url={master}"], "--runner spark")
