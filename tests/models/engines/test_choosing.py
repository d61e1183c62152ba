import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lvm_core.errors import LvmError
from models.catalogue.known import ModelSource, resolve_model
from models.catalogue.loading import bind_model
from models.catalogue.spec import INPUT_ECG, OUTPUT_MASS
from models.engines import choosing
from models.engines.choosing import (
    EngineMismatchError,
    EngineName,
    EngineSettings,
    Precision,
    choose_engine,
    fastest_batch,
    make_engine,
    measured_rate,
    require_agreement,
)
from models.engines.network import CheckedNetwork, UnsupportedNetworkError
from models.engines.tensorflow_engine import OutOfMemoryError, Reference
from models.machine.runtime import Device, import_keras
from models.training.architectures import build_ecg_only
from tests.models.golden import ECG_ONLY, FULL, golden_source

pytestmark = [
    pytest.mark.tf,
    pytest.mark.usefixtures("tensorflow_threads"),
    # Keras saves variables through an `__array__` without numpy 2's copy argument.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
]

SPECTRAL = EngineSettings(EngineName.SPECTRAL)


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "visible_gpus", list)


@pytest.fixture(scope="module", autouse=True)
def network_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("networks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.engines.network.network_dir", lambda: folder)
        yield folder


@pytest.fixture(scope="module")
def odd_model(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    """A model that only TensorFlow computes: the mean of the ECG."""
    layers = import_keras().layers
    ecg = layers.Input((5000, 12), name=INPUT_ECG)
    mass = layers.Dense(1, name=OUTPUT_MASS)(layers.GlobalAveragePooling1D(name="mean")(ecg))
    path = tmp_path_factory.mktemp("odd") / "odd.keras"
    import_keras().Model([ecg], [mass]).save(path)
    return resolve_model(str(path))


def test_engine_settings__impossible_combinations_are_refused() -> None:
    with pytest.raises(ValueError, match="spectral engine computes on CPUs"):
        EngineSettings(EngineName.SPECTRAL, device=Device.GPU)
    with pytest.raises(ValueError, match="precision mixed needs a GPU"):
        EngineSettings(precision=Precision.MIXED)
    with pytest.raises(ValueError, match="'bfloat16' is not a valid Precision"):
        Precision("bfloat16")


@pytest.mark.parametrize("name", [ECG_ONLY, FULL])
def test_make_engine__spectral_agrees_with_tensorflow(name: str, network_dir: Path) -> None:
    source = golden_source(name)
    spectral = make_engine(source, SPECTRAL, 8)
    direct = make_engine(source, EngineSettings(), 8)
    assert spectral.inputs == direct.inputs
    reference = CheckedNetwork.from_bytes(
        (network_dir / f"{source.spec.sha256}.npz").read_bytes(), source.spec.sha256
    ).reference
    _, given = reference.batch(8)
    for one, other in zip(spectral.engine.compute(*given), direct.engine.compute(*given), strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            np.testing.assert_allclose(one, other, rtol=0, atol=3e-5)
    assert spectral.engine.description()["engine"] == "spectral"


def test_make_engine__a_model_in_memory() -> None:
    spec = dataclasses.replace(golden_source(ECG_ONLY).spec, model_id="trained-here")
    loaded = bind_model(build_ecg_only(), spec)
    made = make_engine(loaded, SPECTRAL, 2)
    assert made.spec.model_id == "trained-here"


class _Off:
    """An engine that is a little off in one place of the batch."""

    def __init__(self, engine: Any, by_z: float, place: int) -> None:
        self._engine, self._by_z, self._place = engine, by_z, place

    def compute(self, *given: Any) -> Any:
        lvm_z, score = self._engine.compute(*given)
        lvm_z = lvm_z.copy()
        lvm_z[self._place] += self._by_z
        return lvm_z, score

    def description(self) -> dict[str, Any]:
        return {"engine": "off"}


def test_require_agreement__every_place_of_the_batch_counts(network_dir: Path) -> None:
    source = golden_source(FULL)
    made = make_engine(source, SPECTRAL, 6)
    path = network_dir / f"{source.spec.sha256}.npz"
    reference = CheckedNetwork.from_bytes(path.read_bytes(), source.spec.sha256).reference
    require_agreement(_Off(made.engine, 5e-5, 5), reference, 6)
    for off_z in (3e-4, np.nan):
        with pytest.raises(EngineMismatchError, match=r"the z of LV mass of the off engine differs by up to"):
            require_agreement(_Off(made.engine, off_z, 5), reference, 6)


def test_choose_engine__spectral_without_a_gpu() -> None:
    choice = choose_engine([golden_source(ECG_ONLY)])
    assert (choice.name, choice.device) == (EngineName.SPECTRAL, Device.CPU)
    assert choice.note == ""


def test_choose_engine__tensorflow_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "visible_gpus", lambda: ["GPU:0"])
    source = golden_source(ECG_ONLY)
    choice = choose_engine([source])
    assert (choice.name, choice.device) == (EngineName.TENSORFLOW, Device.GPU)
    on_cpu = choose_engine([source], device=Device.CPU)
    assert (on_cpu.name, on_cpu.device) == (EngineName.SPECTRAL, Device.CPU)
    asked = choose_engine([source], name=EngineName.SPECTRAL)
    assert (asked.name, asked.device) == (EngineName.SPECTRAL, Device.CPU)


def test_choose_engine__falls_back_and_says_why(odd_model: ModelSource) -> None:
    choice = choose_engine([golden_source(ECG_ONLY), odd_model])
    assert choice.name is EngineName.TENSORFLOW
    assert choice.note.startswith("not spectral: layer 'mean' is a GlobalAveragePooling1D, which")
    with pytest.raises(UnsupportedNetworkError, match="which the spectral engine does not compute"):
        choose_engine([odd_model], name=EngineName.SPECTRAL)


def test_choose_engine__falls_back_where_spectral_differs_from_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise EngineMismatchError("it is off")

    monkeypatch.setattr(choosing, "require_agreement", refuse)
    source = golden_source(ECG_ONLY)
    choice = choose_engine([source])
    assert choice == choosing.EngineChoice(EngineName.TENSORFLOW, Device.CPU, "not spectral: it is off")
    with pytest.raises(EngineMismatchError, match="it is off"):
        choose_engine([source], name=EngineName.SPECTRAL)


def test_choose_engine__tensorflow_when_asked_for() -> None:
    choice = choose_engine([golden_source(ECG_ONLY)], name=EngineName.TENSORFLOW)
    assert choice == choosing.EngineChoice(EngineName.TENSORFLOW, Device.CPU)


def test_choose_engine__no_cpu_where_a_gpu_is_asked_for() -> None:
    with pytest.raises(LvmError, match="--engine spectral computes on CPUs"):
        choose_engine([], name=EngineName.SPECTRAL, device=Device.GPU)
    with pytest.raises(LvmError, match="a GPU is asked for, but TensorFlow sees none"):
        choose_engine([golden_source(ECG_ONLY)], device=Device.GPU)
    with pytest.raises(LvmError, match="a GPU is asked for, but TensorFlow sees none"):
        make_engine(golden_source(ECG_ONLY), EngineSettings(device=Device.GPU), 1)


def _rates(rates: dict[int, float]) -> Callable[[int], float]:
    def rate(batch: int) -> float:
        if batch not in rates:
            raise OutOfMemoryError("too large")
        return rates[batch]

    return rate


@pytest.mark.parametrize(
    ("rates", "best"),
    [
        ({32: 100, 64: 190, 128: 300, 256: 310, 512: 900}, 128),  # hardly faster: stop there
        ({32: 100, 64: 105}, 64),  # exactly worth it, then out of memory
        ({32: 100, 64: 104}, 32),
        ({32: 100}, 32),
    ],
)
def test_fastest_batch__stops_where_it_gets_hardly_faster(rates: dict[int, float], best: int) -> None:
    assert fastest_batch(_rates(rates)) == best


def test_fastest_batch__no_memory_at_all() -> None:
    with pytest.raises(LvmError, match="too little memory for 32 ECGs at once"):
        fastest_batch(_rates({}))


class _Counting:
    def __init__(self) -> None:
        self.n_calls = 0

    def compute(self, counts: Any, per_unit: Any, features: Any) -> Any:
        assert len(counts) == len(per_unit) == 6
        self.n_calls += 1
        return np.zeros(6), None

    def description(self) -> dict[str, Any]:
        return {}


def test_measured_rate__counts_every_batch() -> None:
    reference = Reference(
        np.zeros((4, 12, 10), dtype=np.int16), np.ones(4, dtype=np.float32), {}, np.zeros(4), None, {}
    )
    engine = _Counting()
    rate = measured_rate(engine, reference, 6, 0.05)
    assert 0.3 < rate * 0.05 / (6 * (engine.n_calls - 1)) <= 1.01
