"""What `--runner flink` refuses before anything is planned, with what it says; needs no Flink."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from apache_beam.options.pipeline_options import FlinkRunnerOptions

from beam_jobs.run.settings import ScoreSettings
from beam_jobs.runners import flink
from beam_jobs.runners.flink import FlinkRunner, cancel_jobs, job_name, look_at_cluster, plain_failure
from beam_jobs.runners.java_job_server import JavaJobServer
from lvm_core.errors import LvmError, UsageError
from tests.beam_jobs.engines import flink_cluster
from tests.beam_jobs.engines.workers import boot_program, commands_of, wait_for
from tests.beam_jobs.job_helpers import REPOSITORY


class FakeFlink:
    """The REST answers of a Flink cluster: a JSON value by path."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {
            "/overview": {"flink-version": "1.19.3", "slots-total": 6, "slots-available": 6, "taskmanagers": 3},
            "/taskmanagers": {
                "taskmanagers": [
                    {"id": "a", "path": "pekko.tcp://flink@node-1:6122/user/rpc/taskmanager_0"},
                    {"id": "b", "path": "pekko.tcp://flink@node-1:6123/user/rpc/taskmanager_0"},
                    {"id": "c", "path": "pekko.tcp://flink@node-2:6122/user/rpc/taskmanager_0"},
                ]
            },
            "/jobs/overview": {"jobs": []},
            "/jobmanager/config": [{"key": "restart-strategy.type", "value": "exponential-delay"}],
        }
        self.cancelled: list[str] = []
        self.after_cancel = "CANCELED"
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(fake.answers.get(self.path))

            def do_PATCH(self) -> None:
                job = self.path.removeprefix("/jobs/").removesuffix("?mode=cancel")
                fake.cancelled.append(job)
                fake.answers[f"/jobs/{job}"] = {"state": fake.after_cancel}
                self._answer({})

            def _answer(self, value: Any) -> None:
                data = b"no such page" if value is None else json.dumps(value).encode()
                self.send_response(404 if value is None else 200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    @property
    def master(self) -> str:
        return f"127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def cluster() -> Iterator[FakeFlink]:
    fake = FakeFlink()
    yield fake
    fake.close()


def jar_of(path: Path, version: str | None) -> Path:
    """Write a jar that holds the runtime of a version of Flink, as Flink's own file says it."""
    with zipfile.ZipFile(path, "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n")
        if version is not None:
            jar.writestr(".flink-runtime.version.properties", f"# a comment\n\nproject.version={version}\nother=1\n")
    return path


def settings(tmp_path: Path, *extra: object, version: str | None = "1.19.0") -> ScoreSettings:
    jar = jar_of(tmp_path / "job-server.jar", version)
    command = ["--input", "in", "--output", tmp_path / "out", "--model", "demo-synthetic-ecg-only", "--runner", "flink"]
    command += ["--worker-command", boot_program(tmp_path), "--flink-job-server-jar", jar, *extra]
    return ScoreSettings.parse([str(word) for word in command])


@pytest.fixture(autouse=True)
def java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have a program named java, which nothing here runs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "java").write_text("#!/bin/sh\n")
    (folder / "java").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def check(given: ScoreSettings) -> None:
    FlinkRunner().check(given)


def test_cluster_that_fits__is_accepted(cluster: FakeFlink, tmp_path: Path) -> None:
    check(settings(tmp_path, "--flink-master", cluster.master))
    assert look_at_cluster(cluster.master).slots == 6


def test_no_master__is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs --flink-master HOST:PORT"):
        check(settings(tmp_path))


@pytest.mark.parametrize("master", ["localhost", "localhost:x", ":8081", "localhost:0", "localhost:65536"])
def test_master_that_is_no_address__is_refused(master: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected HOST:PORT"):
        check(settings(tmp_path, "--flink-master", master))


def test_nothing_listens__says_so(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        master = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(UsageError, match=f"{master} does not answer .*refused.*Is it running"):
        check(settings(tmp_path, "--flink-master", master))


@pytest.mark.parametrize("answer", [{"name": "another service"}, ["a list"], None])
def test_something_else_answers__says_so(answer: Any, cluster: FakeFlink, tmp_path: Path) -> None:
    cluster.answers["/overview"] = answer
    with pytest.raises(UsageError, match=r"expected (the REST port of Flink|a Flink cluster there)"):
        check(settings(tmp_path, "--flink-master", cluster.master))


def test_no_task_manager__says_so(cluster: FakeFlink, tmp_path: Path) -> None:
    cluster.answers["/overview"]["slots-total"] = 0
    with pytest.raises(UsageError, match="has no TaskManager"):
        check(settings(tmp_path, "--flink-master", cluster.master))


@pytest.mark.parametrize(
    ("of_cluster", "of_jar"), [("1.20.5", "1.19.0"), ("2.2.1", "1.19.0"), ("1.19.3", "1.20.5"), ("1.19.3", "1.1.19")]
)
def test_another_line_of_flink__names_both_versions(
    of_cluster: str, of_jar: str, cluster: FakeFlink, tmp_path: Path
) -> None:
    cluster.answers["/overview"]["flink-version"] = of_cluster
    with pytest.raises(UsageError, match=f"is Flink {of_cluster}, .*job-server.jar is for Flink {of_jar}; expected"):
        check(settings(tmp_path, "--flink-master", cluster.master, version=of_jar))


def test_jar_without_flink__is_refused(cluster: FakeFlink, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no job server of Beam's Flink runner"):
        check(settings(tmp_path, "--flink-master", cluster.master, version=None))


@pytest.mark.parametrize("ours", [True, False])
def test_job_server_with_open_ports__is_warned_of(
    ours: bool, cluster: FakeFlink, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = settings(tmp_path, "--flink-master", cluster.master)
    if ours:
        with zipfile.ZipFile(tmp_path / "job-server.jar", "a") as jar:
            jar.writestr("lvm/jobserver/LoopbackServers.class", "")
    check(given)
    warned = "job-server.jar listens on every network of this machine" in capsys.readouterr().err
    assert warned == (not ours)


def test_jar_that_is_none__is_refused(cluster: FakeFlink, tmp_path: Path) -> None:
    (tmp_path / "text.jar").write_text("this is no jar")
    for name, problem in (("text.jar", "is no jar"), ("missing.jar", "cannot be read")):
        given = settings(tmp_path, "--flink-master", cluster.master, "--flink-job-server-jar", str(tmp_path / name))
        with pytest.raises(UsageError, match=f"{name} {problem}"):
            check(given)


def test_no_java__is_refused(cluster: FakeFlink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(UsageError, match="java is not on the PATH"):
        check(settings(tmp_path, "--flink-master", cluster.master))
    with pytest.raises(UsageError, match="/opt/other/java is not on the PATH"):
        check(settings(tmp_path, "--flink-master", cluster.master, "--", "--job_server_java_launcher=/opt/other/java"))


def test_flink_that_beam_has_no_job_server_for__is_refused(
    cluster: FakeFlink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.answers["/overview"]["flink-version"] = "1.12.1"
    command = ["--input", "in", "--output", tmp_path / "out", "--model", "demo-synthetic-ecg-only", "--runner", "flink"]
    command += ["--worker-command", boot_program(tmp_path), "--flink-master", cluster.master]
    with pytest.raises(UsageError, match=r"is Flink 1\.12\.1, and Beam .* has job servers for Flink 1\.19"):
        check(ScoreSettings.parse([str(word) for word in command]))


# An earlier job of the same run


def jobs(*states_by_name: tuple[str, str]) -> dict[str, Any]:
    return {"jobs": [{"jid": f"j{k}", "name": n, "state": s} for k, (n, s) in enumerate(states_by_name)]}


def test_job_of_a_killed_start__is_cancelled_and_no_other(cluster: FakeFlink, tmp_path: Path) -> None:
    given = settings(tmp_path, "--flink-master", cluster.master)
    name, other = job_name(given), job_name(settings(tmp_path, "--shard", "2/3"))
    running = [(f"{name}_1", "RUNNING"), (f"{other}_1", "RUNNING"), (f"{name}_2", "FINISHED"), ("x", "RUNNING")]
    cluster.answers["/jobs/overview"] = jobs(*running)
    check(settings(tmp_path, "--flink-master", cluster.master, "--dry-run"))
    assert cluster.cancelled == []
    check(given)
    assert cluster.cancelled == ["j0"]


def test_job_that_does_not_end__says_where(cluster: FakeFlink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flink, "_CANCEL_WITHIN_S", 0.1)
    monkeypatch.setattr(flink, "_LOOK_EVERY_S", 0.02)
    found = look_at_cluster(cluster.master)
    cluster.answers["/jobs/overview"] = jobs(("mine_1", "RUNNING"))
    cluster.after_cancel = "CANCELLING"
    with pytest.raises(LvmError, match="the job j0 of this run is still on the cluster"):
        cancel_jobs(found, "mine")


def test_job_name__is_of_the_place_and_says_nothing_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = settings(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert job_name(settings(tmp_path, "--output", "out")) == job_name(given)
    assert job_name(settings(tmp_path, "--output", "other")) != job_name(given)
    assert str(tmp_path.name) not in job_name(given)


# The page and the cluster for a first look


def test_page__shows_commands_that_are_accepted(tmp_path: Path) -> None:
    score, make, cluster_command = commands_of("running_on_flink.md")
    given = ScoreSettings.parse(score[2:])
    assert (given.runner, given.flink_master) == ("flink", "localhost:8081")
    assert Path(str(given.flink_job_server_jar)) == flink_cluster.JOB_SERVER.relative_to(REPOSITORY)
    assert make == ["make", "flink-job-server"]
    program, jars = cluster_command[1], cluster_command[cluster_command.index("--jars") + 1]
    assert Path(jars) == flink_cluster.JARS.relative_to(REPOSITORY)
    command = [sys.executable, program, *cluster_command[2:], "--jars", str(tmp_path)]  # without Flink
    said = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (1, "")
    assert (
        said.stderr == f"error: {tmp_path} holds no flink-dist*.jar; expected the folder lib of a Flink distribution\n"
    )


# What the job is started with


def test_options__are_those_of_the_cluster_and_the_users_win(cluster: FakeFlink, tmp_path: Path) -> None:
    given = settings(tmp_path, "--flink-master", cluster.master)
    _, options = FlinkRunner().start(given)
    assert options.view_as(FlinkRunnerOptions).parallelism == 6
    assert options.view_as(FlinkRunnerOptions).flink_version == "1.19"
    given = settings(tmp_path, "--flink-master", cluster.master, "--", "--parallelism=48")
    _, options = FlinkRunner().start(given)
    assert options.view_as(FlinkRunnerOptions).parallelism == 48


@pytest.mark.parametrize(("given", "expected"), [((), 2), (("--worker-processes", "3"), 6)])
def test_processes_of_a_machine__are_those_of_all_its_task_managers(
    given: tuple[str, ...], expected: int, cluster: FakeFlink, tmp_path: Path
) -> None:
    assert FlinkRunner().processes_here(settings(tmp_path, "--flink-master", cluster.master, *given)) == expected


@pytest.mark.parametrize(("strategy", "warns"), [("fixed-delay", False), ("none", True), (None, True)])
def test_cluster_that_starts_nothing_again__is_warned_about(
    strategy: str | None, warns: bool, cluster: FakeFlink, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = [] if strategy is None else [{"key": "restart-strategy.type", "value": strategy}]
    cluster.answers["/jobmanager/config"] = own
    check(settings(tmp_path, "--flink-master", cluster.master))
    assert ("ends with the first lost worker" in capsys.readouterr().err) == warns


# Failures in the words of Java

TRACE = """java.util.concurrent.CompletionException: org.apache.flink.runtime.JobException: Recovery is suppressed
\tat java.base/java.util.concurrent.CompletableFuture.encodeThrowable(Unknown Source)
Caused by: org.apache.flink.runtime.JobException: Recovery is suppressed by FixedDelayRestartBackoffTimeStrategy
\tat org.apache.flink.runtime.executiongraph.failover.ExecutionFailureHandler.handleFailure(Unknown)
Caused by: java.lang.OutOfMemoryError: Metaspace
\tat java.base/java.lang.ClassLoader.defineClass1(Native Method)
"""


def test_failure__is_told_by_its_last_cause() -> None:
    said = plain_failure(TRACE)
    assert "OutOfMemoryError: Metaspace" in said
    assert "\tat " not in said


@pytest.mark.parametrize(
    ("code", "words"),
    [(10, "another minor version"), (11, "a package is missing"), (127, "is not there"), (9, "code 9")],
)
def test_failure_to_start_workers__is_told_in_plain_words(code: int, words: str) -> None:
    assert words in plain_failure(
        f"{TRACE}Caused by: java.lang.IllegalStateException: Process died with exit code {code}\n"
    )


# The job server's process

LISTEN = (
    "import socket, sys, time\nprint('started with', sys.argv[1:], flush=True)\n"
    "port = int(next(a for a in sys.argv if a.startswith('--job-port=')).partition('=')[2])\n"
    "s = socket.socket(); s.bind(('127.0.0.1', port)); s.listen(); time.sleep(600)\n"
)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_job_server__runs_until_it_is_closed(tmp_path: Path) -> None:
    server = JavaJobServer([sys.executable, "-c", LISTEN], tmp_path / "a.jar", [], "test")
    port = int(server.endpoint.rpartition(":")[2])
    assert server.runs
    assert listens(port)
    assert "started with" in server.said()
    server.close()
    wait_for(lambda: not listens(port), "the end of the server", 20)


def test_job_server__finds_its_jar_from_the_folder_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    server = JavaJobServer([sys.executable, "-c", LISTEN], Path("deploy/a.jar"), [], "test")
    said = server.said()
    server.close()
    assert f"'{tmp_path}/deploy/a.jar'" in said


def test_job_server_that_ends_at_once__is_told_with_its_words(tmp_path: Path) -> None:
    with pytest.raises(LvmError, match="of test does not start; it says: no memory today"):
        JavaJobServer(
            [sys.executable, "-c", "print('no memory today'); raise SystemExit(3)"], tmp_path / "a.jar", [], "test"
        )


def test_job_server__ends_with_a_command_that_is_killed(tmp_path: Path) -> None:
    command = (
        "import sys, time\nfrom pathlib import Path\nfrom beam_jobs.runners.java_job_server import JavaJobServer\n"
        f"server = JavaJobServer([sys.executable, '-c', {LISTEN!r}], Path('a.jar'), "
        "[], 'test')\n"
        "print(server.endpoint, flush=True)\ntime.sleep(600)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        [sys.executable, "-c", command], stdout=subprocess.PIPE, text=True, env=environment
    ) as launcher:
        assert launcher.stdout is not None
        port = int(launcher.stdout.readline().rpartition(":")[2])
        assert listens(port)
        launcher.send_signal(signal.SIGKILL)
    wait_for(lambda: not listens(port), "the end of the server", 20)
