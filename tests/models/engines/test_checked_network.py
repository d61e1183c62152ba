"""Networks kept as plain arrays: the same arrays come back, and nothing else is trusted."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models.catalogue.loading import load_model
from models.engines.network import (
    CheckedNetwork,
    NetworkFileError,
    check_with_keras,
    checked_network,
    default_network_dir,
)
from tests.models.golden import ECG_ONLY, FULL, golden_model, golden_source

pytestmark = [pytest.mark.tf, pytest.mark.usefixtures("tensorflow_threads")]


@pytest.fixture(scope="module", params=[ECG_ONLY, FULL])
def made(request: pytest.FixtureRequest) -> CheckedNetwork:
    return check_with_keras(load_model(golden_source(request.param)))


def test_to_bytes__all_of_it_comes_back(made: CheckedNetwork) -> None:
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


def test_checked_network__is_kept_and_made_anew_when_damaged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = golden_source(ECG_ONLY)
    first = checked_network(source, folder=tmp_path / "new")
    path = tmp_path / "new" / f"{source.spec.sha256}.npz"
    kept = path.read_bytes()
    path.write_bytes(kept[:1000])
    with caplog.at_level(logging.WARNING):
        checked_network(source, folder=tmp_path / "new")
    assert "is read from the model file again" in caplog.text
    assert path.read_bytes() == kept
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    again = checked_network(source, folder=tmp_path / "new")
    np.testing.assert_array_equal(again.reference.lvm_z, first.reference.lvm_z)


def test_checked_network__works_where_nothing_can_be_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        made = checked_network(golden_source(ECG_ONLY), folder=tmp_path / "file" / "below")
    assert made.network.outputs
    assert "cannot be kept, so each process needs TensorFlow" in caplog.text


def test_default_network_dir__is_beside_the_fetched_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_network_dir() == tmp_path / ".lvm-ai" / "networks"


def test_spectral_engine__needs_no_tensorflow_once_the_network_is_kept(tmp_path: Path) -> None:
    """A process in which TensorFlow cannot be imported scores with a kept network."""
    model = golden_model(ECG_ONLY)
    checked_network(golden_source(ECG_ONLY), folder=tmp_path)
    code = f"""
import sys
sys.modules["tensorflow"] = sys.modules["keras"] = None
from pathlib import Path
import numpy as np
from models.catalogue.known import resolve_model
from models.engines.choosing import EngineName, EngineSettings
from models.engines.predictor import LvmPredictor
predictor = LvmPredictor(
    resolve_model({str(model)!r}), engine=EngineSettings(EngineName.SPECTRAL),
    network_dir=Path({str(tmp_path)!r}),
)
counts = np.arange(60000, dtype=np.int16).reshape(1, 12, 5000) % 50
print(predictor.predict(counts, np.full(1, 5, dtype=np.float32)).lvm_pred_g[0])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert 0 < float(done.stdout) < 1000
