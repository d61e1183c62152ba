"""What is refused before Google bills it, and what a run would ask for, take and cost."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam
import pytest
import yaml

from beam_jobs.reading.units import Piece, Unit
from beam_jobs.run.plan import Plan
from beam_jobs.run.settings import IngestSettings, RunSettings, ScoreSettings
from beam_jobs.runners import dataflow
from beam_jobs.runners.dataflow import DataflowRunner, Request, known_options, raise_plain
from beam_jobs.runners.dataflow_cost import PRICES, Estimate, Fleet, estimate, estimate_lines, load_prices
from beam_jobs.runners.dataflow_machines import GPUS, Machine, check_fit, machine_of
from beam_jobs.runners.registry import Runner, runner_of
from lvm_core.errors import LvmError, UsageError
from models.engines.choosing import EngineName

HERE = f"py{sys.version_info.major}.{sys.version_info.minor}"
IMAGE = f"europe-west4-docker.pkg.dev/p/r/lvm-ai:0.1.0-{HERE}-beam{apache_beam.__version__}-cpu"
GPU_IMAGE = IMAGE.replace("-cpu", "-gpu")
NEEDED: dict[str, Any] = {
    "kind": "score",
    "output": "gs://cohort/out",
    "project": "my-project",
    "region": "europe-west4",
    "staging": "gs://cohort/staging",
    "image": IMAGE,
    "workers": 3,
}
COMMAND = [
    *("--input", "gs://cohort/ecg", "--output", "gs://cohort/out", "--runner", "dataflow", "--project", "my-project"),
    *("--region", "europe-west4", "--staging", "gs://cohort/staging", "--image", IMAGE, "--workers", "3", "--dry-run"),
]


def _check(*more: str, kind: type[RunSettings] = ScoreSettings) -> None:
    model = ("--model", "demo-synthetic-ecg-only") if kind is ScoreSettings else ()
    DataflowRunner().check(kind.parse([*COMMAND, *model, *more]))


# Names


@pytest.mark.parametrize("name", ["my-project", "a12345", "example.com:my-project", "a" + "b" * 29])
def test_project__that_can_be_one_is_taken(name: str) -> None:
    assert Request(**{**NEEDED, "project": name}).project == name


@pytest.mark.parametrize(
    "name", ["123456789", "My Project", "my-project-", "short", "a" * 31, "1project", "my_project"]
)
def test_project__that_cannot_be_one_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=rf"--project is '{name}', expected the project's id"):
        Request(**{**NEEDED, "project": name})


@pytest.mark.parametrize("name", ["europe-west4", "us-central1", "northamerica-northeast2", "me-central2"])
def test_region__that_can_be_one_is_taken(name: str) -> None:
    assert Request(**{**NEEDED, "region": name}).region == name


def test_region__that_is_a_zone_is_refused_with_its_region() -> None:
    with pytest.raises(UsageError, match="--region is 'us-central1-a', which is a zone; expected its region, 'us-cent"):
        Request(**{**NEEDED, "region": "us-central1-a"})


@pytest.mark.parametrize("name", ["Europe", "eu", "europe_west4", "global", ""])
def test_region__that_cannot_be_one_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="expected a region of Google's"):
        Request(**{**NEEDED, "region": name})


@pytest.mark.parametrize("uri", ["gs://abc", "gs://a.b-c_d/x", "gs://" + "a" * 63 + "/x", "gs://aa." + "b" * 63 + "/x"])
def test_bucket__that_can_be_one_is_taken(uri: str) -> None:
    assert Request(**{**NEEDED, "staging": uri}).staging == uri


@pytest.mark.parametrize(
    "uri",
    [
        *("gs://Ab-c/x", "gs://ab/x", "gs://" + "a" * 64 + "/x", "gs://-abc/x", "gs://abc-/x", "gs://192.168.1.1/x"),
        *("gs://goog-abc/x", "gs://my-google-data/x", "gs://a..b/x"),
    ],
)
def test_bucket__that_cannot_be_one_is_refused(uri: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a bucket"):
        Request(**{**NEEDED, "staging": uri})


@pytest.mark.parametrize("uri", ["bucket/folder", "s3://bucket/folder", "gs://", "gs:///x"])
def test_staging__that_is_no_bucket_is_refused(uri: str) -> None:
    with pytest.raises(UsageError, match="expected a folder in a bucket: gs://BUCKET/FOLDER"):
        Request(**{**NEEDED, "staging": uri})


@pytest.mark.parametrize("pair", ["team", "Team=a", "1team=a", "team=A", "t" * 64 + "=a", "team=" + "a" * 64, "=a"])
def test_label__that_google_does_not_take_is_refused(pair: str) -> None:
    with pytest.raises(UsageError, match=r"--label is '.*', expected KEY=VALUE"):
        Request(**NEEDED, labels=(pair,))


def test_labels__are_at_most_64_and_each_once() -> None:
    assert len(Request(**NEEDED, labels=[f"k{n}=v" for n in range(64)]).labels) == 64
    with pytest.raises(UsageError, match="65 labels are given with --label, expected at most 64"):
        Request(**NEEDED, labels=[f"k{n}=v" for n in range(65)])
    with pytest.raises(UsageError, match="--label 'a' is given twice"):
        Request(**NEEDED, labels=["a=1", "a=2"])


def test_service_account__is_an_address_of_google() -> None:
    for name in ("lvm@my-project.iam.gserviceaccount.com", "123-compute@developer.gserviceaccount.com"):
        assert Request(**NEEDED, service_account=name).service_account == name
    for name in ("lvm", "me@example.com"):
        with pytest.raises(UsageError, match=f"--service-account is '{name}'"):
            Request(**NEEDED, service_account=name)


# Images


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("lvm-ai:1", "expected HOST/PROJECT/REPOSITORY/NAME:TAG"),
        ("Host/P/lvm-ai:1", "expected HOST/PROJECT/REPOSITORY/NAME:TAG"),
        ("host/p/lvm-ai", "names no version"),
        ("apache/beam_python3.11_sdk:2.77.0", "Beam's own image lacks lvm-ai"),
        (IMAGE.replace(HERE, "py3.9"), "with Python 3.9; this command runs on Python"),
        (IMAGE.replace(HERE, "python39"), "with Python 3.9; this command runs on Python"),
        (IMAGE.replace(f"beam{apache_beam.__version__}", "beam2.60.0"), "with Beam 2.60.0; this command has Beam"),
    ],
)
def test_image__that_cannot_fit_is_refused(image: str, expected: str) -> None:
    with pytest.raises(UsageError, match=re.escape(expected)):
        Request(**{**NEEDED, "image": image})


def test_image__for_cpus_is_refused_with_a_gpu() -> None:
    with pytest.raises(UsageError, match="an image for CPUs; with --gpu expected one built with VARIANT=gpu"):
        Request(**NEEDED, gpu=GPUS["l4"])
    assert Request(**{**NEEDED, "image": GPU_IMAGE}, gpu=GPUS["l4"]).machine == "g2-standard-4"


def test_image__whose_tag_says_nothing_is_taken_with_notes() -> None:
    notes = Request(**{**NEEDED, "image": "host/p/lvm-ai:latest"}).image_notes()
    assert [note.split(":")[0].split(";")[0] for note in notes] == [
        "the tag latest may name another image for workers that start later",
        "the image's tag does not say which Python it holds",
        "the image's tag does not say which Beam it holds",
    ]
    assert Request(**NEEDED).image_notes() == []


# Machines


@pytest.mark.parametrize(
    ("name", "vcpus", "memory_gb", "n_gpus"),
    [
        ("n1-standard-4", 4, 15.0, 0),
        ("n2-highmem-8", 8, 64.0, 0),
        ("e2-standard-2", 2, 8.0, 0),
        ("n2-custom-6-30720", 6, 30.0, 0),
        ("custom-4-15360", 4, 15.0, 0),
        ("g2-standard-24", 24, 96.0, 2),
        ("a2-highgpu-1g", 12, 85.0, 1),
    ],
)
def test_machine__has_the_size_that_google_documents(name: str, vcpus: int, memory_gb: float, n_gpus: int) -> None:
    assert machine_of(name) == Machine(name, vcpus, memory_gb, n_gpus)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("N2-standard-4", "expected a name such as"),
        ("large", "expected a name such as"),
        ("e2-micro", "a share of a core, which Dataflow does not support"),
        ("t2a-standard-4", "with Arm processors"),
        ("c2-highmem-4", "expected c2-standard with a number of vCPUs"),
        ("g2-standard-5", "expected g2-standard- with 4, 8"),
    ],
)
def test_machine__that_cannot_run_this_is_refused(name: str, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        machine_of(name)


def test_machine__of_a_family_that_is_new_is_taken_without_a_size() -> None:
    assert machine_of("z9-standard-4") is None


@pytest.mark.parametrize(
    ("name", "gpu", "expected"),
    [
        ("n2-standard-4", "t4", "--gpu t4 comes with machine types that begin with n1- or custom-"),
        ("n1-standard-4", "l4", "--gpu l4 comes with machine types that begin with g2-standard-"),
        ("g2-standard-4", "a100", "--gpu a100 comes with machine types that begin with a2-highgpu-"),
        ("g2-standard-4", None, "which has GPUs; expected --gpu l4"),
        ("a2-highgpu-1g", None, "which has GPUs; expected --gpu a100"),
        ("g2-standard-24", "l4", "with 2 GPUs; a worker uses one"),
        ("n1-highcpu-2", None, "with 1.8 GB of memory; expected 2.2 GB at least"),
    ],
)
def test_machine__that_does_not_fit_is_refused(name: str, gpu: str | None, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        check_fit(name, GPUS[gpu] if gpu else None)


def test_presets__fit_themselves_and_are_the_choices_of_the_option() -> None:
    for gpu in GPUS.values():
        machine = check_fit(gpu.machine, gpu)
        assert machine is not None
    with pytest.raises(SystemExit):
        ScoreSettings.parse([*COMMAND, "--model", "m", "--gpu", "v100"])
    for name in GPUS:
        assert ScoreSettings.parse([*COMMAND, "--model", "m", "--gpu", name]).gpu == name


# Requests


@pytest.mark.parametrize(("workers", "most"), [(0, None), (5, 4), (4001, None), (10, 4001)])
def test_workers__out_of_range_are_refused(workers: int, most: int | None) -> None:
    with pytest.raises(UsageError, match="expected 1 <= workers <= max <= 4000"):
        Request(**{**NEEDED, "workers": workers}, max_workers=most)


def test_cheap__has_no_gpus() -> None:
    with pytest.raises(UsageError, match=r"--cheap \(FlexRS\) has no GPUs"):
        Request(**{**NEEDED, "image": GPU_IMAGE}, gpu=GPUS["t4"], cheap=True)


def test_disk__must_hold_the_image() -> None:
    with pytest.raises(UsageError, match="--disk-gb is 24, expected 25 or more"):
        Request(**NEEDED, disk_gb=24)
    assert Request(**NEEDED, disk_gb=25).disk == 25


def test_job_name__is_of_the_run_folder_and_shard_alone() -> None:
    one = Request(**NEEDED)
    assert re.fullmatch("lvm-ai-score-[0-9a-f]{12}", one.job_name)
    assert replace(one, workers=9, labels=("a=b",)).job_name == one.job_name
    assert replace(one, output="gs://cohort/other").job_name != one.job_name
    assert replace(one, shard=(2, 3)).job_name != one.job_name


def test_options__of_the_user_come_last_so_that_they_win() -> None:
    assert Request(**NEEDED).options(["--num_workers=7"])[-1] == "--num_workers=7"


def test_options__that_beam_does_not_know_are_refused() -> None:
    assert known_options(["--num_workers=7", "--experiments=a", "--dataflow_service_options=b"])
    with pytest.raises(UsageError, match=r"after --: --num_worker_s is no option of Beam's.*num_workers"):
        known_options(["--num_worker_s=7"])


# The command


def test_check__takes_a_command_with_all_that_is_needed() -> None:
    _check()
    _check(kind=IngestSettings)


def test_check__names_all_that_is_missing() -> None:
    settings = ScoreSettings.parse(
        ["--input", "gs://a", "--model", "m", "--output", "gs://abc/b", "--runner", "dataflow"]
    )
    with pytest.raises(UsageError, match="needs --project, --region, --staging, --image, --workers too"):
        DataflowRunner().check(settings)


@pytest.mark.parametrize(
    ("flag", "value"), [("--input", "ecg"), ("--output", "/data/out"), ("--participants", "people.csv")]
)
def test_check__refuses_places_on_this_machine(flag: str, value: str) -> None:
    with pytest.raises(UsageError, match=rf"{flag} is '{value}', on this machine; the workers at Google share no disk"):
        _check(flag, value)


def test_check__refuses_another_providers_store() -> None:
    with pytest.raises(UsageError, match="workers on Dataflow have Google's credentials alone, expected gs://"):
        _check("--input", "s3://bucket/ecg")


def test_check__pays_for_gpus_only_where_they_are_used() -> None:
    with pytest.raises(UsageError, match=r"--gpu l4 is paid for with each machine.*expected --device gpu with it"):
        _check("--gpu", "l4", "--image", GPU_IMAGE)
    with pytest.raises(UsageError, match="--gpu l4 is paid for"):
        _check("--gpu", "l4", "--image", GPU_IMAGE, kind=IngestSettings)
    with pytest.raises(UsageError, match="--device is gpu, and the machines have none; expected --gpu l4, t4, a100"):
        _check("--device", "gpu")
    _check("--gpu", "l4", "--device", "gpu", "--image", GPU_IMAGE)


def test_check__does_not_choose_a_gpu_that_only_the_launcher_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(UsageError, match="this machine has a GPU, which auto would choose"):
        _check()
    _check("--device", "cpu")
    _check(kind=IngestSettings)


def test_check__wants_patience_for_a_job_that_may_wait_six_hours() -> None:
    with pytest.raises(UsageError, match="--start-timeout is 900 s, and a job with --cheap may wait for six hours"):
        _check("--cheap")
    _check("--cheap", "--start-timeout", "22500")


def test_check__needs_the_client_libraries_to_submit_but_not_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataflow, "_NEEDS", ("google.cloud.nothing_of_that_name",))
    _check()
    settings = ScoreSettings.parse([*COMMAND, "--model", "demo-synthetic-ecg-only"])
    with pytest.raises(UsageError, match=re.escape("pip install 'lvm-ai[dataflow]'")):
        DataflowRunner().check(replace(settings, dry_run=False))


def test_options_of_dataflow__are_refused_with_another_runner() -> None:
    with pytest.raises(UsageError, match="--workers is an option of --runner dataflow, and --runner is local"):
        ScoreSettings.parse(["--input", "a", "--model", "m", "--output", "b", "--workers", "3"])


def test_registry__has_the_runner_and_it_describes_plans() -> None:
    runner = runner_of("dataflow")
    assert isinstance(runner, DataflowRunner)
    assert type(runner).describe is not Runner.describe
    assert (runner.retries, runner.in_launcher) == (True, False)


# The estimate


def _fleet(**more: Any) -> Fleet:
    machine = Machine("n2-standard-4", 4, 16.0)
    return Fleet(**{"n_workers": 10, "machine": machine, "gpu": None, "disk_gb": 30, "cheap": False, **more})


def test_estimate__of_a_million_ecgs_by_hand() -> None:
    """977 units over 10 machines: the last does 98 of 1023.5 ECGs, at 4 x 181 ECG/s."""
    found = estimate(load_prices(), _fleet(), EngineName.SPECTRAL, 1_000_000, 977)
    work_s = 98 * 1_000_000 / 977 / 724
    hourly = 10 * (4 * 0.056 + 16 * 0.003557 + 30 * 0.000054)
    seconds = (240 + work_s, 240 + 2 * work_s)
    assert found == Estimate(pytest.approx(seconds), pytest.approx(tuple(s / 3600 * hourly for s in seconds)))


def test_estimate__of_gpus_counts_them() -> None:
    prices = load_prices()
    fleet = _fleet(machine=Machine("g2-standard-4", 4, 16.0, 1), gpu=GPUS["l4"], n_workers=1)
    found = estimate(prices, fleet, EngineName.TENSORFLOW, 400_000, 400)
    hourly = 4 * 0.056 + 16 * 0.003557 + 30 * 0.000054 + 0.672
    assert found.seconds[0] == pytest.approx(600 + 1000)
    assert found.price[0] == pytest.approx(1600 / 3600 * hourly)


def test_estimate__of_flexrs_is_cheaper() -> None:
    fleets = (_fleet(), _fleet(cheap=True))
    dear, cheap = (estimate(load_prices(), f, EngineName.SPECTRAL, 10**6, 977).price[0] for f in fleets)
    assert 0.55 < cheap / dear < 0.65  # FlexRS takes 40 % off processors and memory


def test_estimate__of_nothing_is_the_start_alone() -> None:
    assert estimate(load_prices(), _fleet(), EngineName.SPECTRAL, 0, 0).seconds == (240.0, 240.0)


def test_estimate__says_what_it_assumes_and_that_prices_are_to_be_checked() -> None:
    text = "\n".join(estimate_lines(load_prices(), _fleet(), EngineName.SPECTRAL, 5000, 5, "prices.yaml"))
    assert "list prices of us-central1 as written down on 2026-11-29, which nobody looked up" in text
    assert "181 ECG/s for each vCPU, measured on a core of docs/benchmarks.md" in text
    assert "note: 10 workers, but 5 units: 5 workers are enough" in text
    gpu = _fleet(machine=Machine("g2-standard-4", 4, 16.0, 1), gpu=GPUS["l4"])
    assert "which was not measured" in "\n".join(estimate_lines(load_prices(), gpu, EngineName.TENSORFLOW, 9, 9, "p"))


def test_rates__are_those_of_the_benchmarks() -> None:
    """The page is written anew with each `make bench`; the table must not be far from it."""
    page = (Path(__file__).parents[3] / "docs" / "benchmarks.md").read_text()
    for name, rate in (
        ("spectral", load_prices().rates.spectral_per_vcpu),
        ("TensorFlow", load_prices().rates.tensorflow_per_vcpu),
    ):
        found = re.search(rf"our job, {name} engine\**\s*\| [0-9.]+ \| ([0-9]+) \|", page)
        assert found is not None
        assert 2 / 3 < rate / (int(found[1]) / 2) < 3 / 2


def test_prices__of_the_user_are_taken_and_checked(tmp_path: Path) -> None:
    content = yaml.safe_load(PRICES.read_text())
    content["per_hour"]["vcpu"] = 1.0
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump(content))
    assert load_prices(own).per_hour.vcpu == 1.0
    content["per_hour"]["vcpu"] = -1.0
    own.write_text(yaml.safe_dump(content))
    with pytest.raises(UsageError, match=r"own.yaml: per_hour.vcpu: Input should be greater than or equal to 0"):
        load_prices(own)
    own.write_text("a: [")
    with pytest.raises(UsageError, match="is no YAML"):
        load_prices(own)
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        load_prices(tmp_path / "none.yaml")


# Errors


class Forbidden(Exception):
    """Of that name in Google's clients."""


class DataflowRuntimeException(Exception):
    """Of that name in Beam."""


def test_errors__of_google_become_ours_and_others_stay() -> None:
    with pytest.raises(LvmError, match=r"you need roles/dataflow.developer.*It says: 403 no"):
        raise_plain(Forbidden("403 no"))
    with pytest.raises(LvmError, match="the job failed at Google; finished units are kept"):
        raise_plain(DataflowRuntimeException("Dataflow pipeline failed."))
    with pytest.raises(LvmError, match="could not be written below --staging"):
        raise_plain(OSError("Could not upload to GCS path gs://a: 404"))
    raise_plain(OSError("disk full"))
    raise_plain(KeyError("a bug"))


# The plan


def _plan(n_units: int, settings: dict[str, Any]) -> Plan:
    units = [Unit(n, f"unit {n}", (Piece(0, f"{n}.parquet", str(n), 1, n_ecgs=1000),)) for n in range(n_units)]
    return Plan("score", settings, tuple(units))


def _described(plan: Plan, *more: str) -> str:
    settings = ScoreSettings.parse([*COMMAND, "--model", "demo-synthetic-ecg-only", *more])
    return "\n".join(DataflowRunner().describe(settings, plan))


def test_description__says_what_would_be_asked_for_and_what_it_would_cost() -> None:
    """30 units of 1,000 ECGs over 3 machines of 4 vCPUs: 10,000 ECGs at 724 ECG/s after 240 s."""
    text = _described(_plan(30, {"engine": "spectral"}))
    assert "3 machines n2-standard-4" in text
    assert "estimate: 4 minutes to 4 minutes" in text
    assert "for 30,000 ECGs" in text
    price = 3 * (4 * 0.056 + 16 * 0.003557 + 30 * 0.000054) / 3600 * (240 + 10_000 / 724)
    assert f"and {price:.2f} to " in text


def test_description__of_a_shard_is_of_its_units_alone() -> None:
    assert "for 15,000 ECGs" in _described(_plan(30, {"engine": "spectral"}), "--shard", "2/2")


def test_description__without_a_rate_or_a_size_has_no_estimate() -> None:
    plan = _plan(3, {"engine": "spectral"})
    assert "no estimate: the size of z9-standard-4 is not known here" in _described(
        plan, "--machine-type", "z9-standard-4"
    )
    assert "no estimate: rates are known for lvm-ai score alone" in _described(_plan(3, {}))


def test_description__of_gpus_and_scaling_names_them() -> None:
    more = ("--gpu", "l4", "--device", "gpu", "--image", GPU_IMAGE, "--max-workers", "9")
    text = _described(_plan(30, {"engine": "tensorflow"}), *more)
    assert "3 to 9 machines g2-standard-4, each with one NVIDIA L4, 24 GB" in text
    assert "400 ECG/s for each NVIDIA L4, 24 GB, which was not measured" in text
