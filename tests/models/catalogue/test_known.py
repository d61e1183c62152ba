import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from lvm_core.errors import LvmError
from models.catalogue.known import (
    EMBEDDED_MODELS,
    KNOWN_MODELS,
    PUBLISHED_MODELS,
    default_model_dir,
    find_spec,
    resolve_model,
)
from models.catalogue.spec import INPUT_ECG, OUTPUT_MASS, ModelOrigin


def _keras_archive(path: Path) -> Path:
    config = {"config": {"input_layers": [INPUT_ECG, 0, 0], "output_layers": [[OUTPUT_MASS, 0, 0]]}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
    return path


def test_catalogue__ids_file_names_and_checksums_are_unique() -> None:
    for field in ("model_id", "file_name", "sha256"):
        values = [getattr(spec, field) for spec in KNOWN_MODELS]
        assert len(set(values)) == len(values) == 5


@pytest.mark.parametrize("spec", EMBEDDED_MODELS, ids=lambda spec: spec.model_id)
def test_embedded_model__matches_the_catalogue(spec) -> None:
    content = resolve_model(spec.model_id).read_bytes()
    assert hashlib.sha256(content).hexdigest() == spec.sha256
    assert len(content) == spec.size_bytes


def test_embedded_models__are_labelled_loudly() -> None:
    for spec in EMBEDDED_MODELS:
        assert not spec.clinical
        assert "NOT CLINICAL" in spec.warning
        assert "mean nothing for real patients" in spec.warning


def test_published_models__must_not_be_redistributed() -> None:
    for spec in PUBLISHED_MODELS:
        assert spec.clinical
        assert "GPL-3.0" in spec.licence
        assert "do not redistribute" in spec.licence


def test_find_spec__by_id_and_by_file_name() -> None:
    for spec in KNOWN_MODELS:
        assert find_spec(spec.model_id) is find_spec(spec.file_name) is spec
    assert find_spec("absent") is None


def test_resolve_model__published_but_not_fetched_says_how(tmp_path: Path) -> None:
    for name in ("lvm-ai-ecg-symmetric", "ecg_rest_raw_lvm_symmetric_loss.h5"):
        with pytest.raises(LvmError, match="lvm-ai models fetch lvm-ai-ecg-symmetric") as caught:
            resolve_model(name, tmp_path)
        assert str(tmp_path / "ecg_rest_raw_lvm_symmetric_loss.h5") in str(caught.value)


def test_resolve_model__default_folder_is_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert default_model_dir() == tmp_path / ".lvm-ai" / "models"
    with pytest.raises(LvmError, match="not fetched") as caught:
        resolve_model("lvm-ai-full-asymmetric")
    assert str(tmp_path / ".lvm-ai" / "models") in str(caught.value)


def test_resolve_model__damaged_published_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ecg_rest_raw_lvm_symmetric_loss.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(LvmError, match="truncated"):
        resolve_model("lvm-ai-ecg-symmetric", tmp_path)


def test_resolve_model__unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(LvmError, match=r"'absent\.h5' is neither.*demo-synthetic"):
        resolve_model("absent.h5")


def test_resolve_model__file_with_a_known_checksum_is_that_model(tmp_path: Path) -> None:
    path = tmp_path / "renamed.h5"
    path.write_bytes(resolve_model("demo-synthetic-ecg-only").read_bytes())
    source = resolve_model(str(path))
    assert source.spec is find_spec("demo-synthetic-ecg-only")
    assert source.path == path


def test_resolve_model__other_file_gets_its_stem_and_its_own_interface(tmp_path: Path) -> None:
    path = _keras_archive(tmp_path / "mine-v2.keras")
    spec = resolve_model(str(path)).spec
    assert spec.model_id == "mine-v2"
    assert spec.origin is ModelOrigin.FILE
    assert spec.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert spec.size_bytes == path.stat().st_size
    assert (spec.inputs, spec.outputs) == ((INPUT_ECG,), (OUTPUT_MASS,))
    assert not spec.clinical
    assert spec.warning


def test_resolve_model__file_must_not_take_the_id_of_a_known_model(tmp_path: Path) -> None:
    path = _keras_archive(tmp_path / "lvm-ai-full-asymmetric.keras")
    with pytest.raises(LvmError, match="rename the file"):
        resolve_model(str(path))


def test_resolve_model__folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LvmError, match="is not a file"):
        resolve_model(str(tmp_path))
