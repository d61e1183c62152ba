"""A Flink cluster of plain processes on this machine, which listens on loopback only.

It serves tests and a first look; it is no way to run a real cluster. Example, which ends with
Ctrl-C:

    python deploy/flink/loopback_cluster.py --jars .flink/cluster/pyflink/lib --port 8081

`--jars` is the folder `lib` of a Flink distribution, of version 1.19 or newer. Needed: Java 11 or
17 and about 1.5 GB of memory with two TaskManagers. Standard library only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

_LOOPBACK: Final = "127.0.0.1"
_JOB_MANAGER: Final = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
_TASK_MANAGER: Final = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
# Flink's own list for Java 17 (`env.java.opts.all` of its configuration).
_EXPORTS: Final = ("java.rmi/sun.rmi.registry", "java.security.jgss/sun.security.krb5")
_OPENS: Final = (
    *("lang", "net", "io", "nio", "lang.reflect", "text", "time", "util"),
    *("util.concurrent", "util.concurrent.atomic", "util.concurrent.locks"),
)
_JAVA_OPTIONS: Final = (
    *(f"--add-exports={name}=ALL-UNNAMED" for name in _EXPORTS),
    *(f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in _OPENS),
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
)
# All parts are stated: without Flink's scripts nothing derives one from another. Batch execution
# refuses to start with less network memory.
_TASK_MANAGER_MEMORY: Final = {
    "taskmanager.memory.framework.heap.size": "128m",
    "taskmanager.memory.framework.off-heap.size": "128m",
    "taskmanager.memory.task.heap.size": "256m",
    "taskmanager.memory.task.off-heap.size": "64m",
    "taskmanager.memory.managed.size": "64m",
    "taskmanager.memory.network.min": "192m",
    "taskmanager.memory.network.max": "192m",
    "taskmanager.memory.jvm-metaspace.size": "256m",
    "taskmanager.memory.jvm-overhead.min": "192m",
    "taskmanager.memory.jvm-overhead.max": "192m",
}
_LOGGING: Final = """\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss,SSS} %-5p %c{1} - %m%n
"""
_START_TIMEOUT_S: Final = 300.0


class ClusterError(RuntimeError):
    """The cluster cannot be started, or a part of it ended."""


class LoopbackCluster:
    """One JobManager and several TaskManagers, each a process of its own.

    `jars` is the folder of Flink's jars, `folder` an empty or missing one for configuration, logs
    and what jobs leave; `port` is where the REST interface listens, a free one when 0. Used as a
    context, which stops all processes at its end.
    """

    def __init__(
        self, jars: Path, folder: Path, *, port: int = 0, slots: int = 2, environment: Mapping[str, str] | None = None
    ) -> None:
        if not list(jars.glob("flink-dist*.jar")):
            raise ClusterError(f"{jars} holds no flink-dist*.jar; expected the folder lib of a Flink distribution")
        java = shutil.which("java")
        if java is None:
            raise ClusterError("java is not on the PATH; install Java 11 or 17 (Debian: openjdk-17-jre-headless)")
        self._java = java
        self._jars = jars
        self._folder = folder
        self._environment = {**os.environ, **(environment or {})}
        self.slots = slots
        self.port = port or _free_port()
        self.job_manager: subprocess.Popen[bytes] | None = None
        self.task_managers: list[subprocess.Popen[bytes]] = []
        self._n_started = 0

    @property
    def master(self) -> str:
        """What `--flink-master` takes."""
        return f"localhost:{self.port}"

    def start(self, task_managers: int = 2, timeout_s: float = _START_TIMEOUT_S) -> Self:
        """Start the JobManager and TaskManagers, and wait until all slots are there."""
        self._configure()
        self.job_manager = self._java_process("jobmanager", _JOB_MANAGER, "-Xmx512m")
        for _ in range(task_managers):
            self.start_task_manager()
        self.wait_for_slots(task_managers * self.slots, timeout_s)
        return self

    def start_task_manager(self) -> subprocess.Popen[bytes]:
        """Start one more TaskManager, or the one that replaces another; does not wait for it."""
        self._n_started += 1
        process = self._java_process(f"taskmanager-{self._n_started}", _TASK_MANAGER, "-Xmx384m")
        self.task_managers.append(process)
        return process

    def wait_for_slots(self, n: int, timeout_s: float = _START_TIMEOUT_S) -> None:
        """Wait until the cluster offers at least `n` slots, free or not."""
        deadline = time.monotonic() + timeout_s
        seen: Any = None
        while time.monotonic() < deadline:
            if self.job_manager is None or self.job_manager.poll() is not None:
                raise ClusterError(f"the JobManager ended; see {self._folder / 'jobmanager.log'}")
            with contextlib.suppress(OSError):  # it does not listen yet
                seen = self.get("/overview")
                if seen["slots-total"] >= n:
                    return
            time.sleep(0.25)
        raise ClusterError(f"the cluster offers {seen} after {timeout_s:.0f} s, expected {n} slots; see {self._folder}")

    def get(self, path: str) -> Any:
        """Return what the REST interface answers to a path, such as `/overview`."""
        with urllib.request.urlopen(f"http://{_LOOPBACK}:{self.port}{path}", timeout=10) as answer:
            return json.load(answer)

    def stop(self) -> None:
        """Stop all processes of the cluster."""
        processes = [*self.task_managers, *([] if self.job_manager is None else [self.job_manager])]
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _configure(self) -> None:
        for name in ("conf", "tmp"):
            (self._folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        settings = {
            "jobmanager.rpc.address": "localhost",
            "jobmanager.rpc.port": _free_port(),
            "jobmanager.bind-host": _LOOPBACK,
            "rest.address": "localhost",
            "rest.bind-address": _LOOPBACK,
            "rest.port": self.port,
            "taskmanager.host": "localhost",
            "taskmanager.bind-host": _LOOPBACK,
            "taskmanager.numberOfTaskSlots": self.slots,
            "taskmanager.cpu.cores": float(self.slots),
            **_TASK_MANAGER_MEMORY,
            # A TaskManager that is gone is missed after two seconds: nothing answers at its port.
            # One that is only slow is waited for.
            "heartbeat.interval": 1000,
            "heartbeat.rpc-failure-threshold": 2,
            "heartbeat.timeout": 120000,
            "pekko.startup-timeout": "300s",
            "pekko.ask.timeout": "120s",
            "cluster.registration.error-delay": 500,
            # Without it a job ends with the first lost worker. One lost worker takes up to three.
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": 20,
            "restart-strategy.fixed-delay.delay": "2s",
            # Each job leaves its jar here.
            "io.tmp.dirs": self._folder / "tmp",
        }
        text = "".join(f"{key}: {value}\n" for key, value in settings.items())
        (self._folder / "conf" / "config.yaml").write_text(text, encoding="utf-8")
        (self._folder / "conf" / "log4j.properties").write_text(_LOGGING, encoding="utf-8")

    def _java_process(self, name: str, main: str, memory: str) -> subprocess.Popen[bytes]:
        jars = [*self._jars.glob("flink-dist*.jar"), *self._jars.glob("log4j*.jar")]
        command = [
            *(self._java, memory, *_JAVA_OPTIONS),
            *(f"-Dlog4j.configurationFile={self._folder / 'conf' / 'log4j.properties'}",),
            *(f"-Djava.io.tmpdir={self._folder / 'tmp'}",),
            *("-cp", ":".join(map(str, jars)), main, "--configDir", str(self._folder / "conf")),
        ]
        with open(self._folder / f"{name}.log", "ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,  # Ctrl-C is for this program, which stops them in order
            )


def flink_version(jars: Path) -> str | None:
    """Return the version of Flink in a folder of jars, such as 1.19.3; None where there is none."""
    names = [path.name for path in jars.glob("flink-dist*.jar")]
    found = re.search(r"flink-dist(?:_[\d.]+)?-(\d+\.\d+\.\d+)", names[0]) if names else None
    return found[1] if found else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def main(argv: Sequence[str]) -> int:
    """Run a cluster until the process is interrupted."""
    parser = argparse.ArgumentParser(description="A Flink cluster of plain processes, on loopback only.")
    parser.add_argument("--jars", type=Path, required=True, metavar="DIR", help="folder lib of a Flink distribution")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="for logs; removed at the end when not given")
    parser.add_argument("--task-managers", type=int, default=2, metavar="N", help="default: %(default)s")
    parser.add_argument("--slots", type=int, default=2, metavar="N", help="of each TaskManager (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8081, help="of the REST interface (default: %(default)s)")
    parser.add_argument("--start-timeout", type=float, default=_START_TIMEOUT_S, metavar="S", help="seconds")
    given = parser.parse_args(argv)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stopped.set())
    with contextlib.ExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flink-")))
        try:
            cluster = LoopbackCluster(given.jars.resolve(), folder.resolve(), port=given.port, slots=given.slots)
            stack.enter_context(cluster)
            cluster.start(given.task_managers, given.start_timeout)
        except ClusterError as error:
            sys.stderr.write(f"error: {error}\n")
            return 1
        n = given.task_managers * given.slots
        version = flink_version(given.jars)
        sys.stdout.write(f"Flink {version} with {n} slots: --flink-master {cluster.master}\n")
        sys.stdout.flush()
        stopped.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
