import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lvm_core.errors import LvmError
from models.catalogue.known import EMBEDDED_MODELS, ModelSource, resolve_model
from models.catalogue.loading import bind_model, load_model
from models.catalogue.spec import (
    INPUT_AGE,
    INPUT_BMI,
    INPUT_ECG,
    INPUT_SEX,
    OUTPUT_LVH,
    OUTPUT_MASS,
    InputRole,
    ModelSpec,
)
from models.machine.runtime import import_keras
from tests.models.golden import ECG_ONLY, FULL, golden_source

pytestmark = [
    pytest.mark.tf,
    pytest.mark.usefixtures("tensorflow_threads"),
    # Keras saves variables through an `__array__` without numpy 2's copy argument.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
]

SPEC = EMBEDDED_MODELS[0]


def _tiny(
    ecg_shape: tuple[int, ...] = (5000, 12), output: str = OUTPUT_MASS, units: int = 1, extra_input: str | None = None
) -> Any:
    """Return a model with the interface of an LV mass model and hardly any weights."""
    keras = import_keras()
    ecg = keras.Input(shape=ecg_shape, name=INPUT_ECG)
    inputs = [ecg]
    x = keras.layers.GlobalAveragePooling1D()(ecg)
    if extra_input is not None:
        inputs.append(keras.Input(shape=(1,), name=extra_input))
        x = keras.layers.Concatenate()([x, inputs[1]])
    return keras.Model(inputs, [keras.layers.Dense(units, name=output)(x)])


def _file_source(path: Path, spec: ModelSpec = SPEC) -> ModelSource:
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return ModelSource(dataclasses.replace(spec, file_name=path.name, sha256=sha256), path)


def test_load_model__inputs_and_outputs_by_name() -> None:
    loaded = load_model(golden_source(FULL))
    assert loaded.inputs == {
        InputRole.ECG: INPUT_ECG,
        InputRole.AGE: INPUT_AGE,
        InputRole.SEX: INPUT_SEX,
        InputRole.BMI: INPUT_BMI,
    }
    assert loaded.outputs == (OUTPUT_MASS, OUTPUT_LVH)
    assert loaded.has_lvh_head


def test_load_model__ecg_only_has_no_lvh_head() -> None:
    loaded = load_model(golden_source(ECG_ONLY))
    assert set(loaded.inputs) == {InputRole.ECG}
    assert not loaded.has_lvh_head


def test_load_model__keras_archive_of_the_users(tmp_path: Path) -> None:
    path = tmp_path / "mine.keras"
    _tiny().save(path)
    loaded = load_model(resolve_model(str(path)))
    assert loaded.spec.model_id == "mine"
    assert loaded.outputs == (OUTPUT_MASS,)


def test_load_model__changed_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.keras"
    _tiny().save(path)
    source = resolve_model(str(path))
    path.write_bytes(path.read_bytes() + b"?")
    with pytest.raises(LvmError, match="the file changed after it was chosen"):
        load_model(source)


@pytest.mark.parametrize("name", ["model.h5", "model.keras"])
def test_load_model__unreadable_file_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"\x89HDF\r\n\x1a\n and nothing more")
    with pytest.raises(LvmError, match="cannot be loaded by Keras"):
        load_model(_file_source(path))


def test_bind_model__dict_inputs_and_outputs_are_called_by_name() -> None:
    keras = import_keras()
    ecg = keras.Input(shape=(5000, 12), name=INPUT_ECG)
    age = keras.Input(shape=(1,), name=INPUT_AGE)
    mass = keras.layers.Lambda(lambda x: x * 10, name=OUTPUT_MASS)(age)
    ecg_mean = keras.layers.GlobalAveragePooling1D()(ecg)
    lvh = keras.layers.Dense(2, name=OUTPUT_LVH)(ecg_mean)
    model = keras.Model({INPUT_ECG: ecg, INPUT_AGE: age}, {OUTPUT_MASS: mass, OUTPUT_LVH: lvh})
    loaded = bind_model(model, SPEC)
    feeds = {INPUT_AGE: np.array([[3.0]], np.float32), INPUT_ECG: np.zeros((1, 5000, 12), np.float32)}
    assert float(loaded.call_by_name(feeds)[OUTPUT_MASS][0, 0]) == 30.0


def test_bind_model__unknown_input_is_refused() -> None:
    with pytest.raises(LvmError, match="input layer 'input_height' fits 0 known inputs"):
        bind_model(_tiny(extra_input="input_height"), SPEC)


def test_bind_model__ecg_of_another_length_is_refused() -> None:
    with pytest.raises(LvmError, match=r"shape \(2500, 12\) per ECG, expected \(5000, 12\)"):
        bind_model(_tiny(ecg_shape=(2500, 12)), SPEC)


def test_bind_model__sex_as_one_column_is_refused() -> None:
    with pytest.raises(LvmError, match=r"shape \(1,\) per ECG, expected \(2,\)"):
        bind_model(_tiny(extra_input=INPUT_SEX), SPEC)


def test_bind_model__missing_mass_output_is_refused() -> None:
    with pytest.raises(LvmError, match="hold no LV mass"):
        bind_model(_tiny(output="output_something"), SPEC)


def test_bind_model__mass_of_two_columns_is_refused() -> None:
    with pytest.raises(LvmError, match=r"shape \(2,\) per ECG, expected \(1,\)"):
        bind_model(_tiny(units=2), SPEC)
