"""Workers load the models of a run from its folder."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from beam_jobs.reading.storage import Storage
from beam_jobs.run.folder import RunFolder
from beam_jobs.run.settings import ScoreSettings
from beam_jobs.scoring.job import models_in, write_models
from lvm_core.errors import LvmError
from models.catalogue.known import ModelSource, resolve_model
from models.engines.choosing import EngineName
from models.engines.network import checked_network
from models.machine.runtime import Device
from tests.beam_jobs.job_helpers import ECG_ONLY


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(Storage(), str(tmp_path / "run"))


@pytest.fixture
def own_model(tmp_path: Path) -> ModelSource:
    """Return a model file outside the catalogue: the embedded one with a remark at its end."""
    path = tmp_path / "mine.keras"
    path.write_bytes(resolve_model(ECG_ONLY).read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"another file"
    return resolve_model(str(path))


def settings_of(model: ModelSource, engine: EngineName = EngineName.TENSORFLOW) -> ScoreSettings:
    models = ({"model_id": model.spec.model_id, "sha256": model.spec.sha256},)
    return ScoreSettings(inputs=("in",), output="out", models=models, engine=engine, device=Device.CPU)


def test_models_in__is_what_was_written_also_where_the_file_is_gone(folder: RunFolder, own_model: ModelSource) -> None:
    settings, content = settings_of(own_model), own_model.read_bytes()
    write_models(folder, [own_model], settings)
    assert own_model.path is not None
    own_model.path.unlink()
    (found,) = models_in(folder, settings)
    assert found.spec == own_model.spec
    assert found.read_bytes() == content
    assert found.network is None


def test_models_in__embedded_model_is_not_copied(folder: RunFolder) -> None:
    model = resolve_model(ECG_ONLY)
    write_models(folder, [model], settings_of(model))
    assert models_in(folder, settings_of(model)) == (model,)
    assert not Path(folder.uri).exists()


def test_models_in__network_was_checked_by_the_command(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    model = resolve_model(ECG_ONLY)
    settings = settings_of(model, EngineName.SPECTRAL)
    write_models(folder, [model], settings)
    (found,) = models_in(folder, settings)
    monkeypatch.setattr("models.engines.network.network_dir", lambda: Path(folder.uri) / "nobody's")
    monkeypatch.setattr("models.engines.network.load_model", lambda _: pytest.fail("TensorFlow was needed"))
    assert checked_network(found).to_bytes(model.spec.sha256)


def test_models_in__changed_file_is_refused(folder: RunFolder, own_model: ModelSource) -> None:
    settings = settings_of(own_model)
    write_models(folder, [own_model], settings)
    (path,) = (Path(folder.uri) / "work" / "models" / own_model.spec.sha256).iterdir()
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"a third file"
    with pytest.raises(LvmError, match=r"mine\.keras in .*work is model .*the file was changed"):
        models_in(folder, settings)


def test_models_in__closed_run(folder: RunFolder, own_model: ModelSource) -> None:
    with pytest.raises(LvmError, match=r"is not in .*work: either the run was closed meanwhile"):
        models_in(folder, settings_of(own_model))
