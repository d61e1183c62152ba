"""A Spark cluster on loopback: a master and workers as processes, from the jars of `pyspark`."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from tests.beam_jobs.engines.workers import wait_for
from tests.beam_jobs.job_helpers import REPOSITORY

DEPLOY = REPOSITORY / "deploy" / "spark" / "target"
# What Spark's own start scripts pass to Java 17.
OPENS = [
    f"--add-opens=java.base/{package}=ALL-UNNAMED"
    for package in (
        "java.lang java.lang.invoke java.lang.reflect java.io java.net java.nio java.util java.util.concurrent "
        "java.util.concurrent.atomic sun.nio.ch sun.nio.cs sun.security.action sun.util.calendar"
    ).split()
]
_MASTER, _WORKER = "org.apache.spark.deploy.master.Master", "org.apache.spark.deploy.worker.Worker"


def spark_home() -> Path | None:
    """Return the folder of a Spark distribution: `make spark-job-server` or pip install pyspark."""
    spec = find_spec("pyspark")
    found = [DEPLOY / "pyspark" / "pyspark", *([Path(spec.origin).parent] if spec and spec.origin else [])]
    return next((folder for folder in found if list(folder.glob("jars/spark-core_*.jar"))), None)


def job_server_jar() -> Path | None:
    """Return the job server that `make spark-job-server` builds."""
    jar = DEPLOY / "lvm-spark-job-server.jar"
    return jar if jar.is_file() else None


def missing() -> str | None:
    """Return what a cluster lacks here, and how to get it; None where all is there."""
    if shutil.which("java") is None:
        return "no java; install a JDK 17"
    if spark_home() is None or job_server_jar() is None:
        return "no Spark or no job server for it; `make spark-job-server` fetches and builds both"
    return None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class SparkCluster:
    """A master and workers of one core each; all end with `close`."""

    def __init__(self, folder: Path) -> None:
        home = spark_home()
        assert home is not None
        self._home, self._folder = home, folder
        self._port, self._ui = free_port(), free_port()
        self._master = self._start(
            "master", _MASTER, "--host", "127.0.0.1", "--port", self._port, "--webui-port", self._ui
        )
        self.workers: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return f"spark://127.0.0.1:{self._port}"

    def add_worker(self) -> None:
        name = f"worker-{len(self.workers)}"
        options = ["--cores", 1, "--memory", "1g", "--work-dir", self._folder / name, "--host", "127.0.0.1"]
        self.workers.append(self._start(name, _WORKER, *options, "--webui-port", 0, self.url))

    def wait_for_workers(self, n: int) -> None:
        wait_for(lambda: self._n_alive() == n, f"{n} workers of Spark", 300)

    def executors(self) -> list[psutil.Process]:
        """Return the executors: Java processes that the workers started."""
        found = []
        for worker in self.workers:
            if worker.poll() is None:
                found += [p for p in psutil.Process(worker.pid).children() if "java" in p.name()]
        return found

    def close(self) -> None:
        for process in [*self.workers, self._master]:
            if process.poll() is None:
                process.terminate()
        for process in [*self.workers, self._master]:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _n_alive(self) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._ui}/json/", timeout=5) as answer:
                state: dict[str, Any] = json.load(answer)
        except OSError:
            return 0
        return int(state["aliveworkers"])

    def _start(self, name: str, program: str, *options: object) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "SPARK_HOME": str(self._home), "SPARK_LOCAL_IP": "127.0.0.1"}
        environment |= {"SPARK_LOCAL_DIRS": str(self._folder / "scratch"), "JAVA_TOOL_OPTIONS": " ".join(OPENS)}
        jars = str(self._home / "jars" / "*")
        # Quick to start, which is most of what these do.
        quick = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        command = ["java", *quick, "-cp", jars, program, *map(str, options)]
        with (self._folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)
