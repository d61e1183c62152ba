import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.catalogue.loading import load_model
from models.engines.network import (
    CheckedNetwork,
    Layer,
    LayerKind,
    Network,
    NetworkFileError,
    UnsupportedNetworkError,
    check_with_keras,
    checked_network,
    network_dir,
    read_network,
)
from models.machine.runtime import import_keras
from tests.models.golden import ECG_ONLY, FULL, golden_model, golden_source, load_golden
from tests.models.networks import evaluate

pytestmark = [pytest.mark.tf, pytest.mark.usefixtures("tensorflow_threads")]


@pytest.mark.parametrize("name", [ECG_ONLY, FULL])
def test_read_network__in_float64_gives_what_tensorflow_21_gave(name: str) -> None:
    golden = load_golden()
    loaded = load_model(golden_source(name))
    network = read_network(loaded.keras_model)
    n = 2
    feeds = dict.fromkeys(loaded.inputs.values(), np.zeros(0))
    feeds[loaded.inputs["ecg"]] = golden.tensor_counts[:n] / 2000
    if name == FULL:
        feeds[loaded.inputs["age"]] = (golden.age_years[:n, None] - 63.35798891) / 7.55463835
        feeds[loaded.inputs["sex"]] = np.eye(2)[golden.sex[:n]]
        feeds[loaded.inputs["bmi"]] = (golden.bmi_kg_m2[:n, None] - 27.3397) / 4.77216
    found = evaluate(network, feeds)
    key = "full" if name == FULL else "ecg_only"
    z = golden.expected[f"{key}_lvm_z"].reshape(-1)[:n]
    np.testing.assert_allclose(found[network.outputs[0]][:, 0], z, rtol=0, atol=1e-5)
    if name == FULL:
        score = golden.expected["full_p_lvh"][:n]
        np.testing.assert_allclose(found[network.outputs[1]][:, 1], score, rtol=0, atol=1e-6)


def test_read_network__an_activation_becomes_a_layer() -> None:
    keras = import_keras()
    ecg = keras.layers.Input((20, 3), name="ecg")
    conv = keras.layers.Conv1D(2, 5, padding="same", activation="relu", name="conv")(ecg)
    dense = keras.layers.Dense(2, use_bias=False, activation="softmax", name="head")
    network = read_network(keras.Model([ecg], [dense(keras.layers.Flatten()(conv))]))
    kinds = [(layer.name, layer.kind) for layer in network.layers]
    assert kinds[1:3] == [("conv", LayerKind.CONVOLUTION), ("conv/relu", LayerKind.RELU)]
    assert kinds[-2:] == [("head", LayerKind.DENSE), ("head/softmax", LayerKind.SOFTMAX)]
    assert network.outputs == ("head/softmax",)
    assert network["head"].weights[1].tolist() == [0, 0]  # no bias is a bias of 0


def _conv(**options: Any) -> Callable[[Any, Any], Any]:
    settings = {"filters": 2, "kernel_size": 5, "padding": "same", **options}
    return lambda layers, x: layers.Conv1D(name="odd", **settings)(x)


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (_conv(strides=2), r"'odd' has stride \(2,\), expected \(1,\)"),
        (_conv(dilation_rate=2), r"'odd' has dilation \(2,\), expected \(1,\)"),
        (_conv(padding="valid"), "'odd' has padding valid, expected same"),
        (_conv(padding="causal"), "'odd' has padding causal, expected same"),
        (_conv(filters=4, groups=2), "'odd' has groups 2, expected 1"),
        (_conv(activation="tanh"), "'odd' has activation tanh, expected relu or none"),
        (_conv(activation="softmax"), "'odd' has activation softmax, expected"),
        (_conv(dtype="mixed_float16"), "'odd' has the compute dtype float16, expected float32"),
        (lambda ls, x: ls.MaxPooling1D(3, name="odd")(x), r"'odd' has pool size \(3,\), expected"),
        (lambda ls, x: ls.MaxPooling1D(2, strides=1, name="odd")(x), r"has stride \(1,\), expect"),
        (
            lambda ls, x: ls.MaxPooling1D(2, padding="same", name="odd")(ls.Cropping1D((0, 1))(x)),
            "is a Cropping1D, which the spectral engine does not compute",
        ),
        (lambda ls, x: ls.ReLU(max_value=6, name="odd")(x), "'odd' has limit 6.*, expected None"),
        (lambda ls, x: ls.Activation("gelu", name="odd")(x), "has activation gelu, expected"),
        (lambda ls, x: ls.Dropout(0.1, name="odd")(x), "'odd' is a Dropout, which the spectral engine does not"),
        (lambda ls, x: ls.Dense(3, name="odd")(x), "'odd' gives shape .*, expected one size"),
        (lambda ls, x: ls.Concatenate(axis=1, name="odd")([x, x]), "joins along axis 1, expected"),
    ],
)
def test_read_network__anything_else_is_refused(add: Callable[[Any, Any], Any], message: str) -> None:
    keras = import_keras()
    ecg = keras.layers.Input((20, 4), name="ecg")
    model = keras.Model([ecg], [keras.layers.Flatten()(add(keras.layers, ecg))])
    with pytest.raises(UnsupportedNetworkError, match=f"{message}.*--engine tensorflow|{message}"):
        read_network(model)


def test_read_network__padded_pooling_of_an_odd_length_is_refused() -> None:
    keras = import_keras()
    ecg = keras.layers.Input((21, 4), name="ecg")
    pooled = keras.layers.MaxPooling1D(2, padding="same", name="odd")(ecg)
    with pytest.raises(UnsupportedNetworkError, match="'odd' pads 21 samples, expected padding val"):
        read_network(keras.Model([ecg], [keras.layers.Flatten()(pooled)]))


def test_network__layers_that_come_too_late_are_refused() -> None:
    ecg = Layer("ecg", LayerKind.INPUT, (), (20, 12))
    relu = Layer("relu", LayerKind.RELU, ("ecg",), (20, 12))
    with pytest.raises(ValueError, match=r"layer 'relu' .* takes \['ecg'\], which come later"):
        Network((relu, ecg), ("relu",))
    with pytest.raises(ValueError, match="layer 'ecg' appears twice"):
        Network((ecg, ecg), ("ecg",))
    with pytest.raises(ValueError, match=r"outputs \['mass'\], expected names of layers"):
        Network((ecg,), ("mass",))


@pytest.fixture(scope="module", params=[ECG_ONLY, FULL])
def made(request: pytest.FixtureRequest) -> CheckedNetwork:
    return check_with_keras(load_model(golden_source(request.param)))


def test_from_bytes__gives_what_to_bytes_wrote(made: CheckedNetwork) -> None:
    back = CheckedNetwork.from_bytes(made.to_bytes("abc"), "abc")
    assert (back.inputs, back.outputs) == (made.inputs, made.outputs)
    assert back.network.outputs == made.network.outputs
    for one, other in zip(back.network.layers, made.network.layers, strict=True):
        assert (one.name, one.kind, one.inputs) == (other.name, other.kind, other.inputs)
        assert tuple(one.shape) == other.shape
        for name in ("kernel", "bias"):
            found, expected = getattr(one, name), getattr(other, name)
            assert (found is None) == (expected is None)
            if expected is not None:
                assert found.dtype == np.float32
                np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(back.reference.counts, made.reference.counts)
    np.testing.assert_array_equal(back.reference.lvm_z, made.reference.lvm_z)
    assert set(back.reference.features) == set(made.reference.features)
    assert back.reference.made_by == made.reference.made_by


def test_from_bytes__another_model_is_refused(made: CheckedNetwork) -> None:
    with pytest.raises(NetworkFileError, match="version and model are"):
        CheckedNetwork.from_bytes(made.to_bytes("abc"), "abd")


def _damages(data: bytes) -> Iterator[bytes]:
    yield b""
    yield b"not a zip"
    yield data[: len(data) // 2]
    middle = len(data) // 2
    yield data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def test_from_bytes__damage_is_refused(made: CheckedNetwork) -> None:
    for damaged in _damages(made.to_bytes("abc")):
        with pytest.raises(NetworkFileError, match="it is damaged"):
            CheckedNetwork.from_bytes(damaged, "abc")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_network_dir__is_beside_the_fetched_models(home: Path) -> None:
    assert network_dir() == home / ".lvm-ai" / "networks"


def test_checked_network__is_kept_and_made_anew_when_damaged(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = golden_source(ECG_ONLY)
    first = checked_network(source)
    path = home / ".lvm-ai" / "networks" / f"{source.spec.sha256}.npz"
    kept = path.read_bytes()
    path.write_bytes(kept[:1000])
    with caplog.at_level(logging.WARNING):
        checked_network(source)
    assert "so the model file is read again" in caplog.text
    assert path.read_bytes() == kept
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    again = checked_network(source)
    np.testing.assert_array_equal(again.reference.lvm_z, first.reference.lvm_z)


def test_checked_network__works_where_it_cannot_be_written(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    (home / ".lvm-ai").write_text("")
    with caplog.at_level(logging.WARNING):
        made = checked_network(golden_source(ECG_ONLY))
    assert made.network.outputs
    assert "cannot be written, so each process needs TensorFlow" in caplog.text


def test_spectral_engine__needs_no_tensorflow_once_the_network_is_kept(home: Path) -> None:
    """A process in which TensorFlow cannot be imported scores with a kept network."""
    model = golden_model(ECG_ONLY)
    checked_network(golden_source(ECG_ONLY))
    code = f"""
import sys
sys.modules["tensorflow"] = sys.modules["keras"] = None
import numpy as np
from models.catalogue.known import resolve_model
from models.engines.choosing import EngineName, EngineSettings
from models.engines.predictor import LvmPredictor
predictor = LvmPredictor(resolve_model({str(model)!r}), engine=EngineSettings(EngineName.SPECTRAL))
counts = np.arange(60000, dtype=np.int16).reshape(1, 12, 5000) % 50
print(predictor.predict(counts, np.full(1, 5, dtype=np.float32)).lvm_pred_g[0])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert 0 < float(done.stdout) < 1000
