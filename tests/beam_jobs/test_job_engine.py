"""Which engine a run computes with: chosen once, recorded everywhere, kept when it is resumed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from beam_jobs.run import resources
from beam_jobs.run.settings import ScoreSettings
from models.catalogue.known import resolve_model
from models.catalogue.spec import INPUT_ECG, OUTPUT_MASS
from models.engines import choosing
from models.engines.choosing import EngineMismatchError
from models.machine.runtime import Device, Threads, configure_threads, import_keras, import_tensorflow
from tests.beam_jobs.job_helpers import ECG_ONLY, lvm, masses, report, result_files, write_cohort

pytestmark = [
    pytest.mark.tf,
    # Keras saves variables through an `__array__` without numpy 2's copy argument.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
]
N = 21


@pytest.fixture(scope="module")
def tensorflow() -> Threads:
    threads = configure_threads()
    import_tensorflow().constant(0)
    return threads


@pytest.fixture(scope="module")
def ecgs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ecgs")
    write_cohort(folder, N)
    return folder


def score(ecgs: Path, output: Path, threads: Threads, *more: Any, model: Any = ECG_ONLY) -> int:
    argv = ["--input", ecgs, "--model", model, "--output", output, "--unit-ecgs", 8]
    return lvm("score", *argv, "--threads", threads.inter_op, *more)


def footer_json(output: Path) -> dict[str, Any]:
    """Return our footer of the first unit."""
    path = min((output / "predictions").glob("unit-*.parquet"))
    return dict(json.loads(pq.read_metadata(path).metadata[b"lvm_ai"]))


def test_auto__spectral_and_said_everywhere(
    ecgs: Path, tmp_path: Path, tensorflow: Threads, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(ecgs, tmp_path / "run", tensorflow) == 0
    assert "computing: spectral engine on the cpu, float32, batch 16" in capsys.readouterr().err
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    chosen = {name: plan["settings"][name] for name in ("engine", "precision", "device", "batch")}
    assert chosen == {"engine": "spectral", "precision": "float32", "device": "cpu", "batch": 16}
    assert "engine_note" not in plan["settings"]
    provenance = footer_json(tmp_path / "run")["provenance"]
    assert provenance["engine"]["engine"] == "spectral"
    assert provenance["settings"]["engine"] == "spectral"
    shares = report(tmp_path / "run")["stage_shares"]
    assert sum(shares.values()) == pytest.approx(1, abs=1e-3)


def test_engines__agree_to_a_milligram(ecgs: Path, tmp_path: Path, tensorflow: Threads) -> None:
    for engine in ("spectral", "tensorflow"):
        assert score(ecgs, tmp_path / engine, tensorflow, "--engine", engine) == 0
    spectral, direct = masses(tmp_path / "spectral"), masses(tmp_path / "tensorflow")
    assert spectral.keys() == direct.keys()
    difference_g = [abs(spectral[ecg_id] - direct[ecg_id]) for ecg_id in spectral]
    assert len(difference_g) == N
    assert 0 < max(difference_g) < 1e-3


def test_resume__keeps_what_was_planned(ecgs: Path, tmp_path: Path, tensorflow: Threads) -> None:
    run = tmp_path / "run"
    assert score(ecgs, run, tensorflow, "--engine", "tensorflow", "--batch", 4) == 0
    before = result_files(run)
    next((run / "predictions").glob("unit-000001-*")).unlink()
    (run / "_SUCCESS").unlink()
    assert score(ecgs, run, tensorflow) == 0  # engine and batch are left to choose
    assert result_files(run) == before


@pytest.mark.parametrize(
    ("option", "message"),
    [(("--engine", "spectral"), 'engine: was "tensorflow", is "spectral"'), (("--batch", 8), "batch: was 4, is 8")],
)
def test_resume__with_another_engine_is_refused(
    option: tuple[Any, ...],
    message: str,
    ecgs: Path,
    tmp_path: Path,
    tensorflow: Threads,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = ("--engine", "tensorflow", "--batch", 4, "--shard", "1/3")
    assert score(ecgs, tmp_path / "run", tensorflow, *first) == 0
    assert score(ecgs, tmp_path / "run", tensorflow, "--shard", "2/3", *option) == 2
    assert message in capsys.readouterr().err


def test_resume__stops_where_the_planned_engine_fails(
    ecgs: Path, tmp_path: Path, tensorflow: Threads, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(ecgs, tmp_path / "run", tensorflow, "--shard", "1/3") == 0

    def refuse(*_: object) -> None:
        raise EngineMismatchError("the spectral engine is off here")

    monkeypatch.setattr(choosing, "require_agreement", refuse)
    assert score(ecgs, tmp_path / "run", tensorflow, "--shard", "2/3") == 1
    assert "error: the spectral engine is off here" in capsys.readouterr().err


def test_auto__falls_back_and_the_predictions_say_why(
    ecgs: Path, tmp_path: Path, tensorflow: Threads, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = import_keras().layers
    ecg = layers.Input((5000, 12), name=INPUT_ECG)
    mass = layers.Dense(1, name=OUTPUT_MASS)(layers.GlobalAveragePooling1D(name="mean")(ecg))
    import_keras().Model([ecg], [mass]).save(tmp_path / "odd.keras")
    assert score(ecgs, tmp_path / "run", tensorflow, model=tmp_path / "odd.keras") == 0
    note = "not spectral: layer 'mean' is a GlobalAveragePooling1D, which the spectral engine does not compute"
    assert note in capsys.readouterr().err
    settings = footer_json(tmp_path / "run")["provenance"]["settings"]
    assert settings["engine"] == "tensorflow"
    assert settings["engine_note"].startswith(note)


def test_device_gpu__is_never_replaced_by_the_cpu(
    ecgs: Path, tmp_path: Path, tensorflow: Threads, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(ecgs, tmp_path / "run", tensorflow, "--device", "gpu") == 1
    assert "a GPU is asked for, but TensorFlow sees none" in capsys.readouterr().err
    assert score(ecgs, tmp_path / "run", tensorflow, "--precision", "mixed") == 2
    assert "precision mixed needs a GPU" in capsys.readouterr().err


def test_gpu__units_feed_it_and_the_batch_is_tried_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a machine with a GPU would do, as far as it can be seen without one."""
    monkeypatch.setattr(
        resources, "choose_engine", lambda *_, **__: choosing.EngineChoice(choosing.EngineName.TENSORFLOW, Device.GPU)
    )
    monkeypatch.setattr(resources, "_gpu_batch", lambda *_: 256)
    settings = ScoreSettings(inputs=("in",), output="out", model=ECG_ONLY, precision=choosing.Precision.MIXED)
    models = [resolve_model(ECG_ONLY)]
    chosen = resources.choose_computing(settings, models, None)
    assert (chosen.batch, chosen.device, chosen.precision) == (256, "gpu", "mixed")
    planned = ScoreSettings.from_plan(chosen.planned(), inputs=("in",), output="out")
    assert planned.planned() == chosen.planned()
    resumed = resources.choose_computing(ScoreSettings(inputs=("in",), output="out", model=ECG_ONLY), models, planned)
    assert resumed == chosen


@pytest.mark.parametrize("engine", ["spectral", pytest.param("tensorflow", marks=pytest.mark.slow)])
def test_dry_run__states_the_memory_within_a_quarter(engine: str, tmp_path: Path) -> None:
    write_cohort(tmp_path / "ecgs", 600)
    command = [
        sys.executable,
        "-m",
        "lvm_ai",
        "score",
        "--input",
        str(tmp_path / "ecgs"),
        "--model",
        ECG_ONLY,
        "--output",
        str(tmp_path / "run"),
        "--engine",
        engine,
    ]
    # Once before, so that the network is kept and TensorFlow is not in the measured process.
    shown = subprocess.run([*command, "--dry-run"], capture_output=True, text=True, check=True)
    found = re.search(r"expected memory: about ([0-9.]+) GB", shown.stdout)
    assert found is not None
    subprocess.run(command, capture_output=True, check=True)
    measured_gb = report(tmp_path / "run")["peak_rss_mb"] / 1000
    assert 0.75 < float(found.group(1)) / measured_gb < 1.25


def test_processes__same_bits_as_one(ecgs: Path, tmp_path: Path, tensorflow: Threads) -> None:
    assert score(ecgs, tmp_path / "one", tensorflow) == 0
    command = [
        sys.executable,
        "-m",
        "lvm_ai",
        "score",
        "--input",
        str(ecgs),
        "--model",
        ECG_ONLY,
        "--output",
        str(tmp_path / "two"),
        "--unit-ecgs",
        "8",
        "--processes",
        "2",
        "--threads",
        "2",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "[2/2] computing: spectral engine" in done.stderr
    assert result_files(tmp_path / "one") == result_files(tmp_path / "two")
    assert (tmp_path / "two" / "_SUCCESS").exists()
