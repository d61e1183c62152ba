"""`--runner spark` on a real cluster: a master and two workers on loopback, killed in mid-job."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from beam_jobs.run.settings import ScoreSettings
from beam_jobs.runners import spark
from beam_jobs.runners.spark import SparkRunner
from lvm_core.errors import LvmError, UsageError
from tests.beam_jobs.engines import spark_cluster
from tests.beam_jobs.engines.spark_cluster import SparkCluster
from tests.beam_jobs.engines.workers import (
    Notes,
    boot_program,
    commands_of,
    keep_notes,
    meanwhile,
    n_committed,
    wait_for,
    workers_below,
)
from tests.beam_jobs.job_helpers import (
    REPOSITORY,
    assert_reconciles,
    lvm,
    report,
    result_files,
    score,
    score_argv,
    write_cohort,
)

N_ECGS = 320
on_a_cluster = [
    pytest.mark.engines,
    pytest.mark.timeout(900),
    pytest.mark.skipif(spark_cluster.missing() is not None, reason=str(spark_cluster.missing())),
]


@pytest.fixture(scope="module")
def repository() -> Iterator[None]:
    """Have all processes run the code of this repository."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
        yield


@pytest.fixture(scope="module")
def cluster(repository: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkCluster]:
    started = SparkCluster(tmp_path_factory.mktemp("spark"))
    try:
        started.add_worker()
        started.add_worker()
        started.wait_for_workers(2)
        yield started
    finally:
        started.close()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ECGs in `in` and the run of the local runner in `local`."""
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder / "in", N_ECGS, n_files=4)
    assert score(folder / "in", folder / "local") == 0
    return folder


def options(cluster: SparkCluster, folder: Path) -> list[str]:
    jar = spark_cluster.job_server_jar()
    own = ["--spark-master", cluster.url, "--spark-job-server-jar", str(jar)]
    return ["--runner", "spark", *own, "--worker-command", str(boot_program(folder)), "--start-timeout", "300"]


def check_run(output: Path, cohort: Path) -> None:
    """Check bits and counts, the report and what `status` says, against the local run."""
    assert result_files(output) == result_files(cohort / "local")
    assert_reconciles(output, N_ECGS)
    assert report(output)["ecg_per_s"] > 0
    assert (output / "_SUCCESS").is_file()


def all_workers(cluster: SparkCluster) -> list[psutil.Process]:
    return [worker for executor in cluster.executors() for worker in workers_below(executor)]


@pytest.mark.parametrize("victim", ["nobody", "python worker", "executor", "worker"])
@pytest.mark.usefixtures("repository")
class TestOnACluster:
    pytestmark = on_a_cluster

    def test_run__gives_the_bits_of_local_whatever_is_killed(
        self,
        tmp_path: Path,
        cluster: SparkCluster,
        cohort: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        victim: str,
    ) -> None:
        notes: Notes = keep_notes(monkeypatch)
        out, done = tmp_path / "out", []

        def kill() -> None:
            wait_for(lambda: n_committed(out) > 2, "the first units")
            wait_for(lambda: len(all_workers(cluster)) == 2, "two Python workers")
            if victim == "python worker":
                all_workers(cluster)[0].kill()
            elif victim == "executor":
                cluster.executors()[0].kill()
            elif victim == "worker":  # and what it started, as when a machine is lost
                lost = psutil.Process(cluster.workers[0].pid)
                for process in [*lost.children(recursive=True), lost]:
                    process.kill()
                cluster.add_worker()
            done.append(n_committed(out))

        with meanwhile(kill):
            assert score(cohort / "in", out, *options(cluster, tmp_path)) == 0
        assert done[0] < N_ECGS // 8
        check_run(out, cohort)
        assert len({note["process"] for note in notes}) >= (2 if victim == "nobody" else 3)
        assert lvm("status", out) == 0
        assert f"{N_ECGS}" in capsys.readouterr().out
        wait_for(lambda: not all_workers(cluster), "the end of the Python workers")


@pytest.mark.usefixtures("repository")
class TestLauncher:
    pytestmark = on_a_cluster

    def test_killed_launcher__ends_the_job_and_the_same_command_goes_on(
        self, tmp_path: Path, cluster: SparkCluster, cohort: Path
    ) -> None:
        out, given = tmp_path / "out", options(cluster, tmp_path)
        command = [sys.executable, "-m", "lvm_ai", *score_argv(cohort / "in", out, *given)]
        launcher = subprocess.Popen(command, cwd=REPOSITORY)
        wait_for(lambda: n_committed(out) > 2, "the first units")
        workers = all_workers(cluster)
        launcher.kill()
        launcher.wait()
        wait_for(lambda: not any(p.is_running() for p in workers), "the end of the Python workers")
        assert 0 < n_committed(out) < N_ECGS // 8
        assert score(cohort / "in", out, *given) == 0
        check_run(out, cohort)


def test_page__shows_commands_that_are_accepted() -> None:
    *builds, run = commands_of("running_on_spark.md")
    pom = REPOSITORY / "deploy" / "spark" / "pom.xml"
    assert {words[0] for words in builds} == {"mvn"}
    assert {words[words.index("--file") + 1] for words in builds} == {str(pom.relative_to(REPOSITORY))}
    given = ScoreSettings.parse(run[2:])
    assert (given.runner, given.spark_master) == ("spark", "spark://localhost:7077")
    assert f"<finalName>{Path(str(given.spark_job_server_jar)).stem}</finalName>" in pom.read_text()


# What is refused before anything is planned


def settings(**given: Any) -> ScoreSettings:
    return ScoreSettings(inputs=("in",), output="out", model="m", runner="spark", worker_command="boot", **given)


def jar(path: Path, *names: str, version: str = "") -> str:
    with zipfile.ZipFile(path, "w") as content:
        for name in names:
            content.writestr(name, f"artifactId=spark-core_2.12\nversion={version}\n")
    return str(path)


@pytest.mark.parametrize("master", [None, "localhost:7077", "spark://localhost", "yarn", "spark://a:1,b"])
def test_spark_master__is_an_address(master: str | None) -> None:
    with pytest.raises(UsageError, match=r"--spark-master is .*, expected the address .* spark://HOST:PORT"):
        SparkRunner().check(settings(spark_master=master))


def test_job_server__that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.jar").write_text("no")
    for given, message in [
        (None, "--runner spark needs --spark-job-server-jar"),
        (str(tmp_path / "absent.jar"), "absent.jar is not there; docs/running_on_spark.md says how"),
        (str(tmp_path / "text.jar"), "text.jar is no jar"),
        (jar(tmp_path / "other.jar", "a.class"), r"other.jar holds no org\S+SparkJobServerDriver"),
    ]:
        with pytest.raises(UsageError, match=message):
            SparkRunner().check(settings(spark_master="spark://localhost:7077", spark_job_server_jar=given))


def test_spark_of__is_the_version_of_the_jar(tmp_path: Path) -> None:
    main_class = "org/apache/beam/runners/spark/SparkJobServerDriver.class"
    properties = "META-INF/maven/org.apache.spark/spark-core_2.12/pom.properties"
    assert spark.spark_of(jar(tmp_path / "a.jar", main_class, properties, version="3.5.9")) == "3.5.9"
    assert spark.spark_of(jar(tmp_path / "b.jar", main_class)) == "of an unknown version"


def test_master_that_does_not_answer__is_named() -> None:
    port = spark_cluster.free_port()
    with pytest.raises(LvmError, match=rf"spark://127.0.0.1:{port} does not answer .*refused"):
        spark.require_master(f"spark://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("said", "version"),
    [('openjdk version "17.0.15" 2025', 17), ('java version "1.8.0_402"', 8), ('openjdk version "21" 2023', None)],
)
def test_java__is_one_that_spark_runs_on(tmp_path: Path, said: str, version: int | None) -> None:
    (tmp_path / "java").write_text(f"#!/bin/sh\necho '{said}' >&2\n")
    (tmp_path / "java").chmod(0o755)
    if version is None:
        with pytest.raises(UsageError, match="expected Java 8, 11 or 17"):
            spark.java_version(str(tmp_path / "java"))
    else:
        assert spark.java_version(str(tmp_path / "java")) == version
