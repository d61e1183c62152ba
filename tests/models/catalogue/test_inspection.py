import json
import zipfile
from pathlib import Path

import h5py
import pytest

from lvm_core.errors import LvmError
from models.catalogue.files import read_interface
from models.catalogue.known import EMBEDDED_MODELS, resolve_model


def _hdf5(path: Path, config: object = None) -> Path:
    with h5py.File(path, "w") as file:
        if config is not None:
            file.attrs["model_config"] = json.dumps(config)
    return path


@pytest.mark.parametrize("spec", EMBEDDED_MODELS, ids=lambda spec: spec.model_id)
def test_read_interface__names_in_a_tensorflow_2_1_file(spec, tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    path.write_bytes(resolve_model(spec.model_id).read_bytes())
    interface = read_interface(path)
    assert interface.inputs == spec.inputs
    assert interface.outputs == spec.outputs


@pytest.mark.parametrize("layers", [["a", 0, 0], [["a", 0, 0]], {"x": ["a", 0, 0]}], ids=["bare", "list", "dict"])
def test_read_interface__every_nesting_of_keras(layers: object, tmp_path: Path) -> None:
    config = {"config": {"input_layers": layers, "output_layers": [["b", 0, 0], ["c", 0, 0]]}}
    interface = read_interface(_hdf5(tmp_path / "model.h5", config))
    assert interface.inputs == ("a",)
    assert interface.outputs == ("b", "c")


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
