"""Whole jobs on a small Dataflow on loopback: described, submitted, run from what was staged."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.beam_jobs.engines.dataflow_cases import CASES, GOLDEN, N_ECGS, Place, describe_all, place, require_clients
from tests.beam_jobs.engines.dataflow_service import MOST_S
from tests.beam_jobs.job_helpers import ECG_ONLY, lvm, result_files
from tests.beam_jobs.job_servers import BUCKET

pytestmark = pytest.mark.engines
BOOT = "LVM_BEAM_BOOT"
CPU = CASES["cpu"]


@pytest.fixture(scope="module")
def module_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    require_clients()
    with place(tmp_path_factory.mktemp("dataflow")) as at:
        yield at


@pytest.fixture
def at(module_place: Place) -> Place:
    service = module_place.service
    service.jobs.clear()
    service.messages.clear()
    service.ends, service.refuses, service.boot = None, None, None
    return module_place


@pytest.fixture(scope="module")
def local(module_place: Place, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the result files of the same run on this machine."""
    output = tmp_path_factory.mktemp("local") / "out"
    words = ["score", "--input", module_place.ecgs, "--model", ECG_ONLY, "--output", output, "--unit-ecgs", 8]
    assert lvm(*words, *module_place.store.options) == 0
    return result_files(output)


def _results(at: Place, output: str) -> dict[str, bytes]:
    return {
        name: data for name, data in at.store.files(output).items() if name.startswith(("predictions/", "rejects/"))
    }


def _report(at: Place, output: str) -> dict[str, Any]:
    return dict(json.loads(at.store.files(output)["run_report.json"]))


def test_jobs__are_described_as_in_the_golden_file(at: Place) -> None:
    """`python -m tests.beam_jobs.engines.dataflow_cases` writes the file anew."""
    described = describe_all(at)
    golden = json.loads(GOLDEN.read_text())
    assert set(described) == set(golden) == set(CASES)
    for name, found in described.items():
        assert found == golden[name], name


def test_run__gives_the_bits_of_a_local_run(
    at: Place, local: dict[str, bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    """Workers are processes that know the staged graph and the job's description alone."""
    assert lvm(*at.command("run", *CPU)) == 0
    told = capfd.readouterr().err
    assert "console.cloud.google.com/dataflow/jobs/europe-west4/" in told
    assert "sdk_pipeline_options" not in told  # Beam's log of the whole description
    assert _results(at, "run") == local
    report = _report(at, "run")
    assert report["counts"]["read"] == report["counts"]["predicted"] == N_ECGS
    counters = {(c["namespace"], c["name"]): c["value"] for c in at.service.counters[at.service.jobs[-1]["id"]]}
    assert (counters["score", "read"], counters["score", "done"]) == (N_ECGS, N_ECGS)
    assert lvm(*at.command("run", *CPU)) == 0
    assert "finished already" in capfd.readouterr().err
    assert len(at.service.jobs) == 1


def test_run__whose_job_fails_says_so_and_resumes(
    at: Place, local: dict[str, bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    at.service.ends = "JOB_STATE_FAILED"
    at.service.messages["2026-11-29_00_00_00-1"] = "Workflow failed. Quota N2_CPUS exceeded in europe-west4."
    assert lvm(*at.command("failed", *CPU)) == 1
    told = capfd.readouterr().err
    assert "the job failed at Google; finished units are kept" in told
    assert "3 of 3 units are not finished. Run the same command again" in told
    assert "Traceback" not in told
    at.service.ends = None
    assert lvm(*at.command("failed", *CPU)) == 0
    assert _results(at, "failed") == local


def test_run__whose_job_is_active_already_is_not_paid_for_twice(at: Place, capfd: pytest.CaptureFixture[str]) -> None:
    at.service.ends = "JOB_STATE_RUNNING"
    assert lvm(*at.command("twice", *CPU, "--no-wait")) == 0
    assert f"lvm-ai finish {at.store.uri('twice')}" in capfd.readouterr().err
    assert lvm(*at.command("twice", *CPU)) == 1
    assert "a job over this run folder is running already" in capfd.readouterr().err
    assert len(at.service.jobs) == 1


def test_run__without_workers_is_cancelled(at: Place, capfd: pytest.CaptureFixture[str]) -> None:
    at.service.ends = "JOB_STATE_RUNNING"
    assert lvm(*at.command("late", *CPU, "--start-timeout", "1")) == 1
    told = capfd.readouterr().err
    assert "no worker began within 1 s, so the job was cancelled" in told
    assert "dataflow: cancelling 2026-11-29_00_00_00-1; see that it ends: gcloud dataflow jobs describe" in told
    assert at.service.jobs[-1]["currentState"] == "JOB_STATE_CANCELLED"


def test_run__that_is_left_alone_is_closed_later(at: Place, local: dict[str, bytes]) -> None:
    assert lvm(*at.command("alone", *CPU, "--no-wait")) == 0
    stop_s = time.monotonic() + MOST_S
    while at.service.jobs[-1]["currentState"] == "JOB_STATE_RUNNING" and time.monotonic() < stop_s:
        time.sleep(1)
    assert at.service.jobs[-1]["currentState"] == "JOB_STATE_DONE"
    assert "_SUCCESS" not in at.store.files("alone")
    assert lvm("finish", at.store.uri("alone"), *at.store.options) == 0
    assert _results(at, "alone") == local
    assert "_SUCCESS" in at.store.files("alone")


def test_template__is_written_and_nothing_is_submitted(at: Place) -> None:
    assert lvm(*at.command("template", *CPU, passed_on=[f"--template_location={at.store.uri('job.json')}"])) == 0
    assert at.service.jobs == []
    with at.store.filesystem.open_input_stream(f"{BUCKET}/job.json") as stream:
        job = json.loads(stream.read())
    assert job["environment"]["workerPools"][0]["machineType"] == "n2-standard-4"
    assert b"lvm-ai:0.1.0" in at.service.staged(job)


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        (403, "PERMISSION_DENIED", "you need roles/dataflow.developer"),
        (404, "NOT_FOUND", "something is not there"),
        (400, "INVALID_ARGUMENT", "Google does not take the job as it is described"),
    ],
)
def test_run__that_google_refuses_says_what_is_needed(
    at: Place, capfd: pytest.CaptureFixture[str], code: int, status: str, expected: str
) -> None:
    at.service.refuses = (code, status)
    assert lvm(*at.command(f"refused-{code}", *CPU)) == 1
    told = capfd.readouterr().err
    assert expected in told
    assert "no, says the service" in told
    assert "Traceback" not in told


def test_run__without_the_bucket_of_staging_says_so(at: Place, capfd: pytest.CaptureFixture[str]) -> None:
    command = at.command("no-bucket", *CPU)
    command[command.index("--staging") + 1] = "gs://is-not-there/staging"
    assert lvm(*command) == 1
    told = capfd.readouterr().err
    assert "a file of the job could not be written below --staging" in told
    assert "Traceback" not in told


def test_run__started_by_the_entry_point_of_beams_image_gives_the_same_bits(at: Place, local: dict[str, bytes]) -> None:
    """The image's entry point is a Go program, which is built from the sources of Beam."""
    boot = os.environ.get(BOOT)
    if not boot or not Path(boot).is_file():
        pytest.skip(
            "the entry point of Beam's image is not here: go install "
            f"github.com/apache/beam/sdks/v2/python/container@v2.77.0, and give its path as {BOOT}"
        )
    at.service.boot = boot
    assert lvm(*at.command("boot", *CPU)) == 0
    assert _results(at, "boot") == local
