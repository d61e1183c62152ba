"""A Beam job server in Java: one jar, started for one job.

Beam's own job servers listen on every network interface, whatever host they are told. Those that
the files in deploy/ build listen on this machine alone.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from beam_jobs.run.progress import say
from lvm_core.errors import LvmError, UsageError

_OURS: Final = "lvm/jobserver/LoopbackServers.class"
_LOOPBACK: Final = "127.0.0.1"
_START_TIMEOUT_S: Final = 180.0
_LOOK_EVERY_S: Final = 0.2
_LINES_SHOWN: Final = 12
# The server must not outlive this process, however that ends: a pipe closes with its owner. This
# program between the two ends the server when the pipe closes, and ends when the server ends.
_GUARD: Final = """
import os, subprocess, sys, threading
server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
def watch():
    sys.stdin.buffer.read()
    server.kill()
threading.Thread(target=watch, daemon=True).start()
code = server.wait()
os._exit(code if code >= 0 else 128 - code)
"""


def jar_property(jar: Path, member: str, key: str) -> str | None:
    """Return a property of a file in a jar; None where the jar lacks the file or the property.

    Raises:
        UsageError: the jar is missing or is no jar.
    """
    if not holds(jar, member):
        return None
    with zipfile.ZipFile(jar) as content:
        lines = content.read(member).decode("utf-8").splitlines()
    values = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return values.get(key, "").strip() or None


def holds(jar: Path, member: str) -> bool:
    """Return True where a jar holds a file.

    Raises:
        UsageError: the jar is missing or is no jar.
    """
    try:
        with zipfile.ZipFile(jar) as content:
            return member in content.NameToInfo
    except OSError as error:
        raise UsageError(f"the job server {jar} cannot be read ({error.strerror}); expected a jar") from error
    except zipfile.BadZipFile as error:
        raise UsageError(f"the job server {jar} is no jar ({error}); expected a file such as job-server.jar") from error


def warn_of_open_ports(jar: Path) -> None:
    """Warn of a job server that others than this machine reach.

    Raises:
        UsageError: the jar is missing or is no jar.
    """
    if not holds(jar, _OURS):
        say(
            f"warning: the job server {jar} listens on every network of this machine, and whoever reaches it can "
            "start programs here. One that `make flink-job-server` or `make spark-job-server` builds does not"
        )


def find_java(launcher: str) -> str:
    """Return the path of a Java program; its name is `java` unless the user names another."""
    found = shutil.which(launcher)
    if found is None:
        raise UsageError(
            f"{launcher} is not on the PATH, and the job server needs Java 11 or 17 on this machine; install it "
            "(Debian: openjdk-17-jre-headless), or name it: -- --job_server_java_launcher=/path/to/java"
        )
    return found


class JavaJobServer:
    """A running job server, with a private folder for its log and what jobs stage.

    `arguments` are those that the job servers of all engines do not share. The constructor returns
    when the server listens.

    Raises:
        LvmError: the server ends, or does not listen within three minutes.
    """

    def __init__(self, java: Sequence[str], jar: Path, arguments: Sequence[str], name: str) -> None:
        self._name = name
        self._folder = Path(tempfile.mkdtemp(prefix="lvm-job-server-"))
        self._port = _free_port()
        self._log = (self._folder / "log").open("w+", encoding="utf-8", errors="replace")
        services = [f"--job-port={self._port}", "--job-host=localhost", "--artifact-port=0", "--expansion-port=-1"]
        staged = f"--artifacts-dir={self._folder / 'staged'}"
        command = [*java, "-jar", str(jar.absolute()), *arguments, *services, staged]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _GUARD, *command],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            cwd=self._folder,
        )
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    @property
    def endpoint(self) -> str:
        """Address of the job service."""
        return f"localhost:{self._port}"

    @property
    def runs(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def said(self) -> str:
        """Return what the server said last; it runs in Java, so that a cause may be above."""
        self._log.seek(0)
        lines = [line.strip() for line in self._log if line.strip() and not line.startswith("\tat ")]
        return " / ".join(lines[-_LINES_SHOWN:]) or "nothing"

    def close(self) -> None:
        """End the server and remove its folder."""
        assert self._process.stdin is not None
        self._process.stdin.close()  # the guard ends the server, and then itself
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wait(self) -> None:
        stop_s = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < stop_s:
            if not self.runs:
                raise LvmError(f"the job server of {self._name} does not start; it says: {self.said()}")
            with socket.socket() as probe:
                if probe.connect_ex((_LOOPBACK, self._port)) == 0:
                    return
            time.sleep(_LOOK_EVERY_S)
        raise LvmError(
            f"the job server of {self._name} does not listen after {_START_TIMEOUT_S:g} s; it says: {self.said()}"
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
