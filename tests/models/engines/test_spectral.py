"""The spectral engine, against TensorFlow 2.1.0, float64 and the laws that it promises."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_info

from lvm_core.signal.ecg import LEADS_12, MODEL_LEADS, order_indices
from models.catalogue.loading import load_model
from models.catalogue.spec import INPUT_ECG, OUTPUT_LVH, OUTPUT_MASS, InputRole, PredictorInputs
from models.engines.network import UnsupportedNetworkError, read_network
from models.engines.predictor import standardised_features
from models.engines.spectral import SpectralEngine
from models.machine.runtime import import_keras
from tests.models.golden import ECG_ONLY, FULL, Golden, golden_source, load_golden
from tests.models.networks import evaluate, small_model

pytestmark = [pytest.mark.tf, pytest.mark.usefixtures("tensorflow_threads")]

Arrays = dict[str, NDArray[Any]]
ORDER = order_indices(LEADS_12, MODEL_LEADS)


@cache
def _loaded(name: str) -> Any:
    return load_model(golden_source(name))


@cache
def _network(name: str) -> Any:
    return read_network(_loaded(name).keras_model)


@cache
def _engine(name: str, batch: int) -> SpectralEngine:
    loaded = _loaded(name)
    return SpectralEngine(_network(name), loaded.inputs, loaded.outputs, batch)


@pytest.fixture(scope="module")
def golden() -> Golden:
    return load_golden()


def _arguments(name: str, golden: Golden, rows: Any) -> tuple[Any, Any, Any]:
    inputs = PredictorInputs(golden.counts, golden.uv_per_count, golden.age_years, golden.sex, golden.bmi_kg_m2)
    loaded = _loaded(name)
    features = standardised_features(inputs, loaded.inputs, loaded.spec.constants)
    per_unit = np.float32(10000) / golden.uv_per_count
    return golden.counts[rows], per_unit[rows], {k: v[rows] for k, v in features.items()}


@pytest.mark.parametrize("batch", [1, 5, 12, 16, 24])
@pytest.mark.parametrize("name", [ECG_ONLY, FULL])
def test_compute__gives_what_tensorflow_21_gave(name: str, batch: int, golden: Golden) -> None:
    rows = np.arange(batch) % 12
    lvm_z, score = _engine(name, batch).compute(*_arguments(name, golden, rows))
    key = "full" if name == FULL else "ecg_only"
    expected = golden.expected[f"{key}_lvm_z"].reshape(-1)[rows]
    np.testing.assert_allclose(lvm_z, expected, rtol=0, atol=2e-5)
    if name == FULL:
        assert score is not None
        np.testing.assert_allclose(score, golden.expected["full_p_lvh"][rows], rtol=0, atol=1e-5)
    else:
        assert score is None


def _absurd() -> NDArray[np.int16]:
    """Offset, everything at the rail, alternating rails, a lead at the rail, a spike, silence."""
    rng = np.random.default_rng(7)
    ecgs = rng.normal(0, 30, (6, 12, 5000)).astype(np.int16)
    ecgs[0] += 2000  # 10 mV
    ecgs[1] = 32767
    ecgs[2] = np.where(np.arange(5000) % 2, 3200, -3200)
    ecgs[3, 4] = 32767
    ecgs[4, :, 2500] = -32768
    ecgs[5] = 0
    return ecgs


@pytest.mark.parametrize("kind", ["ordinary", "absurd"])
@pytest.mark.parametrize("name", [ECG_ONLY, FULL])
def test_compute__is_as_close_to_float64_as_float32_can_be(name: str, kind: str, golden: Golden) -> None:
    counts = golden.counts[:6] if kind == "ordinary" else _absurd()
    _, per_unit, features = _arguments(name, golden, np.arange(6))
    lvm_z, score = _engine(name, 6).compute(counts, per_unit, features)
    loaded = _loaded(name)
    feeds = {loaded.inputs[role]: values for role, values in features.items()}
    feeds[INPUT_ECG] = counts[:, ORDER].transpose(0, 2, 1) / 2000
    exact = evaluate(_network(name), feeds)
    outputs = dict(zip(loaded.outputs, _network(name).outputs, strict=True))
    expected = exact[outputs[OUTPUT_MASS]][:, 0]
    # No float32 path, TensorFlow's included, holds 1e-4 where sums reach thousands.
    rtol = 0 if kind == "ordinary" else 1e-5
    np.testing.assert_allclose(lvm_z, expected, rtol=rtol, atol=2e-5 if rtol == 0 else 2e-3)
    if score is not None:
        lvh = exact[outputs[OUTPUT_LVH]][:, 1]
        np.testing.assert_allclose(score, lvh, rtol=0, atol=1e-5 if rtol == 0 else 1e-3)


@pytest.mark.parametrize("taps", [(7, 7), (5, 12), (64, 3)])
@pytest.mark.parametrize("odd", ["", "pool_of_joined", "relu_of_joined", "pool_then_relu", "bare"])
def test_compute__of_other_graphs(odd: str, taps: tuple[int, int]) -> None:
    for n_samples in (301, 128):
        network = read_network(small_model(n_samples, taps, odd))
        inputs = {InputRole.ECG: "ecg", InputRole.SEX: "sex"}
        engine = SpectralEngine(network, inputs, (OUTPUT_MASS, OUTPUT_LVH), 5)
        rng = np.random.default_rng(n_samples)
        counts = rng.integers(-900, 900, (5, 12, n_samples)).astype(np.int16)
        sex = np.eye(2, dtype=np.float32)[[0, 1, 1, 0, 1]]
        per_unit = np.full(5, 500, dtype=np.float32)
        lvm_z, score = engine.compute(counts, per_unit, {InputRole.SEX: sex})
        ecg = counts[:, ORDER].transpose(0, 2, 1) / 500
        exact = evaluate(network, {"ecg": ecg, "sex": sex})
        mass, lvh = (exact[name] for name in network.outputs)
        np.testing.assert_allclose(lvm_z, mass[:, 0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(score, lvh[:, 1], rtol=1e-5, atol=1e-5)


def test_compute__nan_stays_in_its_own_ecg_and_leaves_nothing_behind(golden: Golden) -> None:
    counts, per_unit, features = _arguments(FULL, golden, np.arange(12))
    before = _engine(FULL, 12).compute(counts, per_unit, features)
    broken = per_unit.copy()
    broken[4] = np.nan
    lvm_z, score = _engine(FULL, 12).compute(counts, broken, features)
    others = np.arange(12) != 4
    assert score is not None
    assert before[1] is not None
    np.testing.assert_array_equal(lvm_z[others], before[0][others])
    np.testing.assert_array_equal(score[others], before[1][others])
    after = _engine(FULL, 12).compute(counts, per_unit, features)
    np.testing.assert_array_equal(after[0], before[0])


def test_compute__another_place_in_the_batch_moves_less_than_a_milligram(golden: Golden) -> None:
    found = []
    for shift in range(12):
        rows = (np.arange(12) + shift) % 12
        lvm_z, _ = _engine(ECG_ONLY, 12).compute(*_arguments(ECG_ONLY, golden, rows))
        found.append(lvm_z[np.argsort(rows)])
    moved_g = 24.80 * np.ptp(found, axis=0)
    assert moved_g.max() < 1e-3


def test_compute__batch_mates_do_not_matter(golden: Golden) -> None:
    counts, per_unit, features = _arguments(FULL, golden, np.arange(5))
    first = _engine(FULL, 5).compute(counts, per_unit, features)[0]
    counts = counts.copy()
    counts[1:] = _absurd()[:4]
    second = _engine(FULL, 5).compute(counts, per_unit, features)[0]
    assert first[0] == second[0]


def test_compute__same_bits_on_any_number_of_threads(golden: Golden) -> None:
    orders = [np.random.default_rng(i).permutation(12) for i in range(12)]
    engine = _engine(FULL, 12)
    alone = [engine.compute(*_arguments(FULL, golden, order))[0] for order in orders]
    for n_threads in (2, 5):
        with ThreadPoolExecutor(n_threads) as pool:
            calls = [pool.submit(engine.compute, *_arguments(FULL, golden, o)) for o in orders]
            for call, expected in zip(calls, alone, strict=True):
                np.testing.assert_array_equal(call.result()[0], expected)


def test_engine__keeps_the_matrix_library_on_one_thread() -> None:
    _engine(ECG_ONLY, 1)
    assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}


def test_engine__states_its_memory(golden: Golden) -> None:
    engine = _engine(FULL, 16)
    engine.compute(*_arguments(FULL, golden, np.arange(16) % 12))
    workspace = engine._take()
    arrays = [*workspace._signals.values(), *workspace._spectra]
    assert engine.bytes_per_thread == sum(array.nbytes for array in arrays)
    assert 10e6 < engine.bytes_per_thread < 60e6
    assert 20e6 < engine.bytes_shared < 60e6


def test_engine__several_series_are_refused() -> None:
    layers = import_keras().layers
    one, two = layers.Input((30, 12), name="one"), layers.Input((30, 12), name="two")
    flat = layers.Flatten()(layers.Concatenate()([one, two]))
    model = import_keras().Model([one, two], [layers.Dense(1)(flat)])
    with pytest.raises(UnsupportedNetworkError, match="takes 2 series, expected one"):
        SpectralEngine(read_network(model), {InputRole.ECG: "one"}, (OUTPUT_MASS,), 1)


def test_engine__a_series_as_output_is_refused() -> None:
    layers = import_keras().layers
    ecg = layers.Input((30, 12), name="ecg")
    model = import_keras().Model([ecg], [layers.Conv1D(2, 3, padding="same", name="c")(ecg)])
    with pytest.raises(UnsupportedNetworkError, match=r"gives the series \['c'\], expected numbers"):
        SpectralEngine(read_network(model), {InputRole.ECG: "ecg"}, (OUTPUT_MASS,), 1)
