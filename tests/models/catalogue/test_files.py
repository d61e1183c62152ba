import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import pytest

from lvm_core.errors import LvmError
from models.catalogue.files import FileReport, FileState, diagnose_file, read_interface
from models.catalogue.known import EMBEDDED_MODELS, PUBLISHED_MODELS, resolve_model

CONTENT = b"\x89HDF\r\n\x1a\n" + b"weights" * 100
KNOWN = replace(
    PUBLISHED_MODELS[0],
    model_id="known",
    file_name="known.h5",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    size_bytes=len(CONTENT),
)
OTHER = replace(KNOWN, model_id="other", file_name="other.h5", sha256="0" * 64)


def _pointer(sha256: str, size_bytes: int) -> bytes:
    return (f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size_bytes}\n").encode()


def _diagnose(folder: Path, name: str, content: bytes) -> FileReport:
    path = folder / name
    path.write_bytes(content)
    return diagnose_file(path, (KNOWN, OTHER))


def test_diagnose_file__known_file_under_any_name(tmp_path: Path) -> None:
    for name in ("known.h5", "renamed.h5"):
        report = _diagnose(tmp_path, name, CONTENT)
        assert report.state is FileState.KNOWN
        assert report.spec is KNOWN
        assert report.usable


def test_diagnose_file__missing(tmp_path: Path) -> None:
    report = diagnose_file(tmp_path / "absent.h5", (KNOWN,))
    assert report.state is FileState.MISSING
    assert not report.usable


def test_diagnose_file__lfs_pointer_of_a_published_file_names_the_command(tmp_path: Path) -> None:
    spec = PUBLISHED_MODELS[0]
    content = _pointer(spec.sha256, spec.size_bytes)
    assert len(content) == 133
    path = tmp_path / "any_name.h5"
    path.write_bytes(content)
    report = diagnose_file(path, PUBLISHED_MODELS)
    assert report.state is FileState.LFS_POINTER
    assert report.spec is spec
    command = (
        'git lfs pull --include="model_zoo/left_ventricular_mass_from_ecg_student_and_mri_teacher/'
        'ecg_rest_raw_age_sex_bmi_lvm_asymmetric_loss.h5"'
    )
    assert command in report.message
    assert "133 bytes" in report.message


def test_diagnose_file__pointer_to_something_else_gives_the_general_command(tmp_path: Path) -> None:
    report = _diagnose(tmp_path, "mine.h5", _pointer("1" * 64, 10))
    assert report.state is FileState.LFS_POINTER
    assert "`git lfs pull`" in report.message


def test_diagnose_file__one_byte_short_is_truncated(tmp_path: Path) -> None:
    report = _diagnose(tmp_path, "known.h5", CONTENT[:-1])
    assert report.state is FileState.TRUNCATED
    assert f"{len(CONTENT) - 1} bytes, expected {len(CONTENT)}" in report.message
    assert "again" in report.message


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"?", CONTENT + b"?"])
def test_diagnose_file__right_length_or_longer_is_a_wrong_checksum(tmp_path: Path, content: bytes) -> None:
    report = _diagnose(tmp_path, "known.h5", content)
    assert report.state is FileState.WRONG_CHECKSUM
    assert hashlib.sha256(content).hexdigest() in report.message


def test_diagnose_file__another_known_model_under_this_name_is_named(tmp_path: Path) -> None:
    report = _diagnose(tmp_path, "other.h5", CONTENT)
    assert report.state is FileState.WRONG_CHECKSUM
    assert "it is known" in report.message


@pytest.mark.parametrize("start", [b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"])
def test_diagnose_file__unknown_model_file_is_usable(tmp_path: Path, start: bytes) -> None:
    report = _diagnose(tmp_path, "mine.h5", start + b"...")
    assert report.state is FileState.OTHER
    assert report.usable


@pytest.mark.parametrize(("content", "kind"), [(b"<html>", "web page"), (b"text", "is not a model file")])
def test_diagnose_file__anything_else_is_not_a_model(tmp_path: Path, content: bytes, kind: str) -> None:
    report = _diagnose(tmp_path, "mine.h5", content)
    assert report.state is FileState.NOT_A_MODEL
    assert kind in report.message


def test_diagnose_file__shown_as_replaces_the_path(tmp_path: Path) -> None:
    path = tmp_path / ".part.tmp"
    path.write_bytes(b"text")
    report = diagnose_file(path, (KNOWN,), expected=KNOWN, shown_as="the source")
    assert report.message.startswith("the source is truncated")


def _hdf5(path: Path, config: object = None) -> Path:
    with h5py.File(path, "w") as file:
        if config is not None:
            file.attrs["model_config"] = json.dumps(config)
    return path


@pytest.mark.parametrize("spec", EMBEDDED_MODELS, ids=lambda spec: spec.model_id)
def test_read_interface__names_in_a_tensorflow_2_1_file(spec, tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    path.write_bytes(resolve_model(spec.model_id).read_bytes())
    assert read_interface(path) == (spec.inputs, spec.outputs)


@pytest.mark.parametrize("layers", [["a", 0, 0], [["a", 0, 0]], {"x": ["a", 0, 0]}], ids=["bare", "list", "dict"])
def test_read_interface__every_nesting_of_keras(layers: object, tmp_path: Path) -> None:
    config = {"config": {"input_layers": layers, "output_layers": [["b", 0, 0], ["c", 0, 0]]}}
    assert read_interface(_hdf5(tmp_path / "model.h5", config)) == (("a",), ("b", "c"))


@pytest.mark.parametrize("layers", [None, 7, [7]])
def test_read_interface__no_functional_model_is_refused(layers: object, tmp_path: Path) -> None:
    config = {"config": {"input_layers": layers, "output_layers": []}}
    with pytest.raises(LvmError, match="no functional Keras model"):
        read_interface(_hdf5(tmp_path / "model.h5", config))


def test_read_interface__sequential_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LvmError, match="no functional Keras model"):
        read_interface(_hdf5(tmp_path / "model.h5", {"config": {"layers": []}}))


def test_read_interface__weights_only_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LvmError, match=r"whole model, saved with model\.save\(\)"):
        read_interface(_hdf5(tmp_path / "model.h5"))


def test_read_interface__damaged_hdf5_is_refused(tmp_path: Path) -> None:
    path = _hdf5(tmp_path / "model.h5", {})
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(LvmError, match="cannot be read as HDF5"):
        read_interface(path)


def test_read_interface__archive_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "")
    with pytest.raises(LvmError, match=r"is not a \.keras archive"):
        read_interface(path)
