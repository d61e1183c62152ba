"""`--runner portable`: real worker processes on our job service, from Python packages alone."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import apache_beam as beam
import psutil
import pytest
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState

from beam_jobs.reading.storage import Storage
from beam_jobs.run.folder import RunFolder
from beam_jobs.run.report import WorkerNotes
from beam_jobs.run.settings import ScoreSettings
from beam_jobs.runners.boot import TRAVELS
from beam_jobs.runners.job_service import hand_out
from beam_jobs.runners.portable import PortableRunner, WithoutSecretsInOptions, process_environment
from lvm_core.errors import LvmError, UsageError
from tests.beam_jobs.engines.workers import (
    Notes,
    boot_program,
    commands_of,
    keep_notes,
    meanwhile,
    n_committed,
    wait_for,
    workers_below,
    write_raw,
)
from tests.beam_jobs.job_helpers import (
    ECG_ONLY,
    REPOSITORY,
    SMALL,
    assert_reconciles,
    lvm,
    people,
    result_files,
    score,
    score_argv,
    write_cohort,
)

N_ECGS = 96


@pytest.fixture(autouse=True)
def repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have the processes run the code of this repository, and keep their logs here."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("LVM_BEAM_LOG_DIR", str(tmp_path / "log"))


@pytest.fixture
def portable(tmp_path: Path) -> list[str]:
    """Return the options of the runner."""
    return ["--runner", "portable", "--worker-command", str(boot_program(tmp_path))]


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> Notes:
    """Return what the workers of the jobs of this process noted."""
    return keep_notes(monkeypatch)


def logs(tmp_path: Path) -> str:
    return "".join(path.read_text() for path in sorted((tmp_path / "log").iterdir()))


@pytest.mark.parametrize("kind", ["ingest", pytest.param("score", marks=pytest.mark.engines)])
def test_two_worker_processes__give_the_bits_of_local_though_one_is_killed(
    tmp_path: Path,
    portable: list[str],
    notes: Notes,
    kind: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if kind == "score":
        write_cohort(tmp_path / "in", N_ECGS, n_files=2)
        options = ["--model", ECG_ONLY, *SMALL]
    else:
        write_raw(tmp_path / "in", N_ECGS)
        options = ["--unit-ecgs", "4"]
    command = [kind, "--input", tmp_path / "in", *options, "--output"]
    assert lvm(*command, tmp_path / "local") == 0
    out, listening = tmp_path / "out", []
    others = psutil.Process().children(recursive=True)  # servers of other tests
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)

    def kill_one() -> None:
        wait_for(lambda: n_committed(out) > 0, "the first unit")
        first, second = workers_below(psutil.Process())
        first.suspend()  # so that the job cannot end before the kill
        for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
            if process in others:
                continue
            listening.extend(c for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN)
        first.kill()
        assert second.is_running()

    with meanwhile(kill_one):
        assert lvm(*command, out, *portable) == 0
    assert listening == []
    assert f"{N_ECGS}/{N_ECGS}" in capsys.readouterr().err  # the progress of what the workers commit
    assert result_files(out) == result_files(tmp_path / "local")
    assert_reconciles(out, N_ECGS)
    # The third is in place of the one that was killed.
    assert len({note["process"] for note in notes if note["process"] != this_process()}) >= 2
    assert len(list((tmp_path / "log").iterdir())) == 3
    wait_for(lambda: not workers_below(psutil.Process()), "the end of the workers", 60)
    assert not [ecg_id for ecg_id in people(N_ECGS).ecg_id if ecg_id in logs(tmp_path)]


def this_process() -> str:
    return WorkerNotes(RunFolder(Storage(), ""), (1, 1)).process


def test_worker_that_cannot_start__ends_the_run_with_what_it_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_raw(tmp_path / "in", 2)
    program = tmp_path / "boot"
    program.write_text("#!/bin/sh\necho 'error: lvm-beam-boot: the package numpy is missing' >&2\nexit 11\n")
    program.chmod(0o755)
    command = ["ingest", "--input", tmp_path / "in", "--output", tmp_path / "out", "--runner", "portable"]
    assert lvm(*command, "--worker-command", program) == 1
    said = capsys.readouterr().err
    assert "a worker process ended with exit code 11: error: lvm-beam-boot: the package numpy is missing" in said
    assert "Traceback" not in said


@pytest.mark.engines
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("victim", ["service", "launcher"])
def test_killed_service_or_launcher__leaves_no_worker_and_the_same_command_goes_on(
    tmp_path: Path, portable: list[str], victim: str
) -> None:
    write_cohort(tmp_path / "in", N_ECGS, n_files=2)
    assert score(tmp_path / "in", tmp_path / "local") == 0
    out = tmp_path / "out"
    command = [sys.executable, "-m", "lvm_ai", *score_argv(tmp_path / "in", out, *portable)]
    launcher = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: n_committed(out) > 1, "the first units")
    root = psutil.Process(launcher.pid)
    workers = workers_below(root)
    assert len(workers) == 2
    (service,) = (p for p in root.children() if "beam_jobs.runners.job_service" in p.cmdline())
    (service if victim == "service" else root).kill()
    said = launcher.communicate(timeout=120)[1]
    assert launcher.returncode == (1 if victim == "service" else -9)
    if victim == "service":
        assert "the job service of --runner portable was ended from outside" in said
        assert "Traceback" not in said
    wait_for(lambda: not any(p.is_running() for p in [service, *workers]), "the end of the workers", 60)
    assert n_committed(out) < N_ECGS // 8
    assert score(tmp_path / "in", out, *portable) == 0
    assert result_files(out) == result_files(tmp_path / "local")


def test_page__shows_commands_that_are_accepted() -> None:
    shown = commands_of("running_on_portable.md")
    assert [words[:2] for words in shown] == [["lvm-ai", "score"]] * 2
    given = [ScoreSettings.parse([*words[2:], "--worker-command", "x"]) for words in shown]
    assert [(one.runner, one.worker_processes, one.job_endpoint) for one in given] == [
        ("portable", 2, None),
        ("portable", None, "localhost:8099"),
    ]
    PortableRunner().check(given[0])


def test_page__names_every_variable_that_travels() -> None:
    page = (REPOSITORY / "docs" / "running_on_portable.md").read_text(encoding="utf-8")
    assert [name for name in TRAVELS if name.isupper() and f"`{name}`" not in page] == []


# Parts of it


def pieces(n: int) -> list[list[bytes]]:
    return [[bytes([i])] for i in range(1, n + 1)]


@pytest.mark.parametrize(("n", "sizes"), [(43, [10, 8, 6, 4, 3, 3, 2, 1, 1, 1, 1, 1, 1, 1]), (1, [1]), (0, [0])])
def test_hand_out__gives_large_parts_first_and_each_piece_once(n: int, sizes: list[int]) -> None:
    parts = hand_out({"a": [*pieces(n), [b""], []]}, 2)
    assert [len(part["a"]) for part in parts] == sizes
    assert b"".join(data for part in parts for data in part["a"]) == bytes(range(1, n + 1))


def test_hand_out__of_several_inputs_gives_each_to_its_end() -> None:
    parts = hand_out({"a": pieces(5), "b": pieces(1)}, 1)
    assert [data for part in parts for data in part["a"]] == [piece[0] for piece in pieces(5)]
    assert [data for part in parts for data in part["b"]] == [b"\1"]


def settings(**options: Any) -> ScoreSettings:
    return ScoreSettings(inputs=("in",), output="out", model="m", runner="portable", **options)


@pytest.mark.parametrize("value", ["localhost", "localhost:", ":8099", "localhost:99999", "http://localhost"])
def test_job_endpoint__is_host_and_port(value: str) -> None:
    with pytest.raises(UsageError, match=r"--job-endpoint is .*, expected HOST:PORT"):
        PortableRunner().check(settings(job_endpoint=value, worker_command="x"))


def test_job_endpoint__at_which_nothing_listens_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(LvmError, match=rf"--job-endpoint {address} does not answer \(.*refused"):
            PortableRunner().check(settings(job_endpoint=address, worker_command="x"))


def test_start__gives_a_job_as_long_as_it_takes() -> None:
    _, options = PortableRunner().start(settings(worker_command="/boot"))
    assert options.view_as(PortableOptions).job_server_timeout > 30 * 24 * 3600


def test_level_of_logs__is_a_name_that_java_and_python_know() -> None:
    """Beam's job servers in Java refuse a job with another name than these."""
    options = PipelineOptions(process_environment(settings(worker_command="/boot"))).get_all_options()
    level = options["default_sdk_harness_log_level"]
    assert level in {"DEBUG", "TRACE", "WARN", "ERROR", "INFO", "OFF"}
    assert getattr(logging, level) == logging.WARNING


def test_boot_program__that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(UsageError, match=r"lvm-beam-boot is not there, which starts workers; install lvm-ai"):
        PortableRunner().check(settings())


class Seen(PipelineRunner):
    """Keeps what would be sent to an engine."""

    def run_portable_pipeline(self, pipeline: Any, options: PipelineOptions) -> PipelineResult:
        self.pipeline, self.options = pipeline, options
        return PipelineResult(PipelineState.DONE)

    def default_environment(self, options: PipelineOptions) -> Any:
        return beam.transforms.environments.Environment.from_options(options.view_as(PortableOptions))


class Under(WithoutSecretsInOptions, Seen):
    pass


def test_credentials__travel_in_the_environment_of_workers_and_not_in_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    runner = Under()
    pipeline = beam.Pipeline(runner, PipelineOptions(process_environment(settings(worker_command="/boot"))))
    _ = pipeline | beam.Create([1])
    pipeline.run()
    assert "hunter2" not in json.dumps(runner.options.get_all_options(), default=str)
    (sent,) = (
        beam_runner_api_pb2.ProcessPayload.FromString(one.payload)
        for one in runner.pipeline.components.environments.values()
        if one.urn == "beam:env:process:v1"
    )
    assert sent.command == "/boot"
    assert "hunter2" in sent.env["LVM_BEAM_LAUNCHER"]
