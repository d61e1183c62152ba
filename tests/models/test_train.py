import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lvm_ai
from lvm_core.errors import LvmError
from models import train
from models.catalogue.known import resolve_model
from models.engines.predictor import LvmPredictor
from models.training import fit
from models.training.config import load_config
from models.training.data import Part, load_training_set
from models.training.fit import FitState
from tests.models.training_builders import settings, small_age_sex_bmi, small_ecg_only, write_cohort, write_config

pytestmark = [
    pytest.mark.tf,
    pytest.mark.usefixtures("tensorflow_threads"),
    # Keras's own: it saves tensors of TensorFlow with NumPy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
]

ROOT = Path(__file__).parents[2]
RUN_FILES = [
    "config.yaml",
    "history.csv",
    "history.svg",
    "model.keras",
    "split.csv",
    "state.npz",
    "training_report.json",
]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("cohort"), 24)


@pytest.fixture(autouse=True)
def _small_graphs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    builders = {True: small_age_sex_bmi, False: small_ecg_only}
    monkeypatch.setattr(fit, "_BUILDERS", builders)


def main(arguments: list[str]) -> int:
    return lvm_ai.main(["train", *arguments])


def _config(folder: Path, cohort: Path, **changes: Any) -> Path:
    return write_config(folder / "train.yaml", settings(cohort, **changes))


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _stop_after(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt, as Ctrl-C would, in the middle of the epoch after `epochs` whole ones."""
    plain = train.Fitter.fit_epoch

    def fit_epoch(self: Any, state: FitState) -> Any:
        if state.epoch == epochs:
            raise KeyboardInterrupt
        return plain(self, state)

    monkeypatch.setattr(train.Fitter, "fit_epoch", fit_epoch)


def test_train__run_folder_holds_everything(tmp_path: Path, cohort: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _config(tmp_path, cohort, scaling="training_set", description="a made-up cohort")
    assert main(["--config", str(path)]) == 0
    run = tmp_path / "run"
    assert sorted(file.name for file in run.iterdir()) == RUN_FILES
    history = _rows(run / "history.csv")
    assert [row["epoch"] for row in history] == ["1", "2", "3"]
    report = json.loads((run / "training_report.json").read_text())
    best = min(history, key=lambda row: float(row["valid_loss"]))
    assert report["results"]["best_epoch"] == int(best["epoch"])
    assert report["results"]["valid_loss"] == pytest.approx(float(best["valid_loss"]), rel=1e-5)
    assert sum(report["n_ecgs"].values()) == report["n_people"] == 24
    assert report["config"]["seed"] == 1
    assert set(report["versions"]) == {"python", "tensorflow", "keras", "numpy"}
    assert "ecgs" not in report["config"]  # no path of the trainer's
    spec = resolve_model(str(run / "model.keras")).spec
    assert "a made-up cohort" in spec.description
    assert "best epoch" in capsys.readouterr().err


def test_train__the_scoring_predictor_gives_the_reported_results(tmp_path: Path, cohort: Path) -> None:
    config = load_config(_config(tmp_path, cohort, scaling="training_set"))
    predictor = LvmPredictor(resolve_model(str(train.train(config))), batch_size=4)
    data = load_training_set(config, tmp_path)
    rows = data.rows_of(Part.TEST)
    predicted_g = predictor.predict(
        data.counts[rows],
        data.uv_per_count[rows],
        data.age_years[rows].astype(np.float32),
        data.sex_code[rows],
        data.bmi_kg_m2[rows].astype(np.float32),
    ).lvm_pred_g.astype(np.float64)
    results = json.loads((tmp_path / "run" / "training_report.json").read_text())["results"]
    cmr_g = data.lvm_cmr_g[rows]
    assert results["test_r"] == pytest.approx(np.corrcoef(predicted_g, cmr_g)[0, 1], abs=1e-4)
    assert results["test_mae_g"] == pytest.approx(np.abs(predicted_g - cmr_g).mean(), rel=1e-4)


def test_train__damaged_configuration_of_the_run_folder_is_named(
    tmp_path: Path, cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = tmp_path / "run" / "config.yaml"
    begun.parent.mkdir()
    begun.write_text("name: a\nname: b\n")
    assert main(["--config", str(_config(tmp_path, cohort))]) == 2
    message = capsys.readouterr().err
    assert f"{begun} cannot be read as YAML: line 2: name is there already" in message


def test_train__goes_on_with_the_same_split_after_an_interruption(
    tmp_path: Path, cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _config(tmp_path, cohort)
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        _stop_after(1, patch)
        assert main(["--config", str(path)]) == 130
    assert "same command continues" in capsys.readouterr().err
    split, (first,) = (run / "split.csv").read_bytes(), _rows(run / "history.csv")
    assert not (run / "model.keras").exists()

    assert main(["--config", str(path)]) == 0
    assert "continuing after epoch 1" in capsys.readouterr().err
    history = _rows(run / "history.csv")
    assert (run / "split.csv").read_bytes() == split
    assert history[0] == first
    assert [row["epoch"] for row in history] == ["1", "2", "3"]

    whole = tmp_path / "whole"
    whole.mkdir()
    assert main(["--config", str(_config(whole, cohort))]) == 0
    for ours, theirs in zip(history, _rows(whole / "run" / "history.csv"), strict=True):
        assert float(ours["valid_loss"]) == pytest.approx(float(theirs["valid_loss"]), rel=1e-5)


def test_train__a_finished_folder_is_left_alone(
    tmp_path: Path, cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _config(tmp_path, cohort, epochs=1)
    assert main(["--config", str(path)]) == 0
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").iterdir()}
    assert main(["--config", str(path)]) == 0
    assert "is finished; nothing to do" in capsys.readouterr().err
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "run").iterdir()} == before


def test_train__another_configuration_is_refused_by_name(
    tmp_path: Path, cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        _stop_after(1, patch)
        main(["--config", str(_config(tmp_path, cohort))])
    changed = _config(tmp_path, cohort, learning_rate=0.5)
    assert main(["--config", str(changed)]) == 2
    error = capsys.readouterr().err
    assert "learning_rate was 0.001 and is 0.5" in error
    assert "epochs was" not in error


def test_train__other_data_are_refused(tmp_path: Path, cohort: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = shutil.copytree(cohort, tmp_path / "cohort")
    path = _config(tmp_path, copy)
    with pytest.MonkeyPatch.context() as patch:
        _stop_after(1, patch)
        main(["--config", str(path)])
    split = (tmp_path / "run" / "split.csv").read_bytes()
    lines = (copy / "cmr.csv").read_text().splitlines()
    (copy / "cmr.csv").write_text("\n".join(lines[:-1]) + "\n")
    assert main(["--config", str(path)]) == 2
    assert "began with other data" in capsys.readouterr().err
    assert (tmp_path / "run" / "split.csv").read_bytes() == split


def test_train__stops_when_nothing_gets_better(tmp_path: Path, cohort: Path) -> None:
    path = _config(tmp_path, cohort, epochs=9, patience=2, learning_rate=5.0, warmup_epochs=0, clip_norm=None)
    assert main(["--config", str(path)]) == 0
    losses = [float(row["valid_loss"]) for row in _rows(tmp_path / "run" / "history.csv")]
    assert len(losses) == int(np.argmin(losses)) + 1 + 2 < 9


def test_train__a_loss_that_is_never_finite_is_an_error(
    tmp_path: Path, cohort: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit_epoch(self: Any, state: FitState) -> dict[str, float]:
        state.epoch += 1
        row = {"epoch": state.epoch, "train_loss": np.nan, "valid_loss": np.nan, "valid_r": np.nan}
        state.history.append(row)
        return row

    monkeypatch.setattr(train.Fitter, "fit_epoch", fit_epoch)
    with pytest.raises(LvmError, match="not finite in 2 epochs; lower learning_rate"):
        train.train(load_config(_config(tmp_path, cohort, patience=2)))
    assert not (tmp_path / "run" / "model.keras").exists()


def test_main__usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(tmp_path / "absent.yaml")]) == 2
    assert "absent.yaml cannot be read" in capsys.readouterr().err
    for arguments, code in (([], 2), (["--help"], 0)):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == code


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_train__two_epochs_of_2000_ecgs_interrupted_once(tmp_path: Path) -> None:
    """The real graph through the command, killed after an epoch and started again."""
    path = _config(tmp_path, write_cohort(tmp_path, 2000), epochs=2, batch_size=16)
    command = [sys.executable, "-m", "models.train", "--config", str(path)]
    run = tmp_path / "run"
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    while not (run / "history.csv").exists():
        assert process.poll() is None
        time.sleep(0.5)
    process.kill()
    assert process.wait(timeout=60) != 0
    assert not (run / "model.keras").exists()
    split, (first,) = (run / "split.csv").read_bytes(), _rows(run / "history.csv")

    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    history = _rows(run / "history.csv")
    assert (run / "split.csv").read_bytes() == split
    assert history[0] == first
    assert [row["epoch"] for row in history] == ["1", "2"]
    # A model that only repeats the mean has r = 0.
    results = json.loads((run / "training_report.json").read_text())["results"]
    assert results["test_r"] > 0.3
    assert resolve_model(str(run / "model.keras")).spec.needs_demographics
