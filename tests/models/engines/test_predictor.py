import dataclasses
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from lvm_core.errors import LvmError
from lvm_core.signal.ecg import LEADS_12
from models.catalogue.loading import bind_model, load_model
from models.catalogue.spec import Predictions
from models.engines.predictor import LvmPredictor, shared_predictor
from models.machine.runtime import import_keras
from models.training.architectures import build_age_sex_bmi, build_ecg_only
from tests.models.golden import ECG_ONLY, FULL, Golden, golden_source, load_golden

pytestmark = [pytest.mark.tf, pytest.mark.usefixtures("tensorflow_threads")]

# Float32 rounding: of the ECG-only graph in float64, TF 2.1.0 is 0.6e-5 off, 2.21 up to 1.4e-5.
Z_ATOL = 3e-5
BATCH = 5


@pytest.fixture(scope="module")
def golden() -> Golden:
    return load_golden()


@pytest.fixture(scope="module")
def full() -> LvmPredictor:
    return LvmPredictor(golden_source(FULL), batch_size=BATCH)


@pytest.fixture(scope="module")
def ecg_only() -> LvmPredictor:
    return LvmPredictor(golden_source(ECG_ONLY), batch_size=BATCH)


def _take(golden: Golden, rows: Any) -> dict[str, Any]:
    names = ("counts", "uv_per_count", "age_years", "sex", "bmi_kg_m2")
    return {name: getattr(golden, name)[rows] for name in names}


def _z(predictions: Predictions) -> Any:
    return (predictions.lvm_pred_g.astype(np.float64) - 89.70) / 24.80


def _assert_same_bits(actual: Predictions, expected: Predictions) -> None:
    np.testing.assert_array_equal(actual.lvm_pred_g, expected.lvm_pred_g)
    np.testing.assert_array_equal(actual.lvh_score, expected.lvh_score)


def test_predict__full_model_gives_tensorflow_2_1_predictions(full: LvmPredictor, golden: Golden) -> None:
    actual = full.predict(**_take(golden, slice(None)))
    assert actual.lvm_pred_g.dtype == actual.lvh_score.dtype == np.float32
    expected = golden.expected
    np.testing.assert_allclose(_z(actual), expected["full_lvm_z"], rtol=0, atol=Z_ATOL)
    np.testing.assert_allclose(actual.lvm_pred_g, expected["full_lvm_g"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(actual.lvh_score, expected["full_p_lvh"], rtol=0, atol=1e-5)


def test_predict__ecg_only_model_gives_tensorflow_2_1_predictions(ecg_only: LvmPredictor, golden: Golden) -> None:
    actual = ecg_only.predict(golden.counts, golden.uv_per_count)
    expected = golden.expected
    np.testing.assert_allclose(_z(actual), expected["ecg_only_lvm_z"], rtol=0, atol=Z_ATOL)
    np.testing.assert_allclose(actual.lvm_pred_g, expected["ecg_only_lvm_g"], rtol=0, atol=1e-3)
    assert np.isnan(actual.lvh_score).all()
    assert actual.lvh_score.dtype == np.float32


def test_predict__bits_do_not_depend_on_batch_mates_or_padding(full: LvmPredictor, golden: Golden) -> None:
    whole = full.predict_batch(**_take(golden, slice(0, BATCH)))
    for n_ecgs in range(1, BATCH):
        padded = full.predict_batch(**_take(golden, slice(0, n_ecgs)))
        np.testing.assert_array_equal(padded.lvm_pred_g, whole.lvm_pred_g[:n_ecgs])
        np.testing.assert_array_equal(padded.lvh_score, whole.lvh_score[:n_ecgs])
    others = full.predict_batch(**_take(golden, [7, 8, 2, 9, 10]))
    assert others.lvm_pred_g[2] == whole.lvm_pred_g[2]
    assert others.lvh_score[2] == whole.lvh_score[2]


def test_predict__is_its_batches_one_after_the_other(full: LvmPredictor, golden: Golden) -> None:
    whole = full.predict(**_take(golden, slice(None)))
    parts = [full.predict_batch(**_take(golden, slice(start, start + BATCH))) for start in range(0, 12, BATCH)]
    np.testing.assert_array_equal(whole.lvm_pred_g, np.concatenate([part.lvm_pred_g for part in parts]))
    assert len(whole) == 12


def test_predict__no_ecgs(full: LvmPredictor, golden: Golden) -> None:
    nothing = full.predict(**_take(golden, slice(0, 0)))
    assert len(nothing) == 0
    assert nothing.lvm_pred_g.dtype == nothing.lvh_score.dtype == np.float32


def test_predict__concurrent_calls_give_the_bits_of_sequential_ones(full: LvmPredictor, golden: Golden) -> None:
    orders = [list(order) for order in itertools.islice(itertools.permutations(range(BATCH)), 12)]
    expected = [full.predict_batch(**_take(golden, order)) for order in orders]
    with ThreadPoolExecutor(4) as pool:
        actual = list(pool.map(lambda order: full.predict_batch(**_take(golden, order)), orders))
    for one, other in zip(actual, expected, strict=True):
        _assert_same_bits(one, other)


def test_predict__order_of_ecgs_carries_over(full: LvmPredictor, golden: Golden) -> None:
    reverse = full.predict(**_take(golden, slice(None, None, -1)))
    forward = full.predict(**_take(golden, slice(None)))
    np.testing.assert_allclose(
        reverse.lvm_pred_g[::-1], forward.lvm_pred_g, rtol=0, atol=5e-4
    )  # places within a batch differ, and with them the last bits


def test_predict__every_lead_has_its_own_place(ecg_only: LvmPredictor, golden: Golden) -> None:
    # Swapping any two leads must show: 66 swaps of one ECG, against the unswapped one.
    pairs = list(itertools.combinations(range(12), 2))
    swapped = np.repeat(golden.counts[:1], len(pairs), axis=0)
    for row, (one, other) in enumerate(pairs):
        swapped[row, [one, other]] = swapped[row, [other, one]]
    steps = np.full(len(pairs), 5.0, dtype=np.float32)
    reference = ecg_only.predict(golden.counts[:1], golden.uv_per_count[:1]).lvm_pred_g[0]
    moved = np.abs(ecg_only.predict(swapped, steps).lvm_pred_g - reference)
    same = [(LEADS_12[one], LEADS_12[other]) for (one, other), g in zip(pairs, moved, strict=True) if g < 1e-3]
    assert same == []


def test_predict__step_and_counts_trade_off(ecg_only: LvmPredictor, golden: Golden) -> None:
    halves = ecg_only.predict(golden.counts[:3] * np.int16(2), golden.uv_per_count[:3] / np.float32(2))
    whole = ecg_only.predict(golden.counts[:3], golden.uv_per_count[:3])
    _assert_same_bits(halves, whole)


def test_input_convention__microvolts_over_2000_is_five_times_larger(golden: Golden) -> None:
    wide = LvmPredictor(golden_source(ECG_ONLY), batch_size=BATCH, input_convention="microvolts_over_2000")
    assert wide.engine_description()["input_convention"] == "microvolts_over_2000"
    usual = shared_predictor(golden_source(ECG_ONLY), batch_size=BATCH)
    five_times = usual.predict(golden.counts[:3], golden.uv_per_count[:3] * np.float32(5))
    actual = wide.predict(golden.counts[:3], golden.uv_per_count[:3])
    _assert_same_bits(actual, five_times)
    plain = usual.predict(golden.counts[:3], golden.uv_per_count[:3])
    assert (np.abs(actual.lvm_pred_g - plain.lvm_pred_g) > 1).any()


def test_predict__inputs_listed_in_another_order_give_the_same_masses(golden: Golden) -> None:
    """Age and BMI are both (n, 1): feeding by position would swap them silently."""
    loaded = load_model(golden_source(FULL))
    model = loaded.keras_model
    shuffled = import_keras().Model(model.inputs[::-1], model.outputs[::-1])
    predictor = LvmPredictor(bind_model(shuffled, loaded.spec), batch_size=BATCH)
    actual = predictor.predict(**_take(golden, slice(None)))
    expected = golden.expected
    np.testing.assert_allclose(actual.lvm_pred_g, expected["full_lvm_g"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(actual.lvh_score, expected["full_p_lvh"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["age_years", "sex", "bmi_kg_m2"])
def test_predict__each_demographic_input_matters(name: str, full: LvmPredictor, golden: Golden) -> None:
    inputs = _take(golden, slice(0, BATCH))
    before = full.predict(**inputs)
    changed = 1 - inputs[name] if name == "sex" else inputs[name] + np.float32(10)
    after = full.predict(**{**inputs, name: changed})
    assert (after.lvm_pred_g != before.lvm_pred_g).any()


@pytest.mark.parametrize("missing", ["age_years", "sex", "bmi_kg_m2"])
def test_predict__missing_demographics_are_refused(missing: str, full: LvmPredictor, golden: Golden) -> None:
    inputs = {**_take(golden, slice(0, 1)), missing: None}
    with pytest.raises(ValueError, match=f"{missing} not given, but model {FULL} takes"):
        full.predict(**inputs)


def test_predict__ecg_only_model_does_not_use_demographics(ecg_only: LvmPredictor, golden: Golden) -> None:
    assert not ecg_only.needs_demographics
    inputs = _take(golden, slice(0, 2))
    with_them = ecg_only.predict(**inputs)
    _assert_same_bits(with_them, ecg_only.predict(inputs["counts"], inputs["uv_per_count"]))


def test_predict__nan_cannot_enter(full: LvmPredictor, golden: Golden) -> None:
    for name in ("uv_per_count", "age_years", "bmi_kg_m2"):
        for value in (np.nan, np.inf):
            inputs = _take(golden, slice(0, 3))
            inputs[name] = inputs[name].copy()
            inputs[name][1] = value
            with pytest.raises(ValueError, match=f"{name} is {value} in row 1"):
                full.predict(**inputs)


@pytest.mark.parametrize("output", ["output_adjusted_myocardium", "output_lvh"])
def test_predict__model_that_gives_nan_is_refused(output: str, golden: Golden) -> None:
    spec = dataclasses.replace(golden_source(FULL).spec, model_id="broken")
    model = build_age_sex_bmi()
    for layer in model.layers:
        if layer.name.startswith(output):
            layer.set_weights([weights * np.nan for weights in layer.get_weights()])
    predictor = LvmPredictor(bind_model(model, spec), batch_size=1)
    with pytest.raises(LvmError, match=r"model broken gave a LV.* that is not finite"):
        predictor.predict(**_take(golden, slice(0, 1)))


@pytest.mark.parametrize("n_ecgs", [0, BATCH + 1])
def test_predict_batch__only_one_batch(n_ecgs: int, ecg_only: LvmPredictor, golden: Golden) -> None:
    with pytest.raises(ValueError, match=f"batch of {n_ecgs} ECGs was given, expected 1 to 5"):
        ecg_only.predict_batch(golden.counts[:n_ecgs], golden.uv_per_count[:n_ecgs])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0 ECGs"),
        ({"input_convention": "millivolts"}, "'millivolts' is not a valid InputConvention"),
    ],
)
def test_predictor__wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LvmPredictor(golden_source(FULL), **options)


def test_predictor__model_in_memory() -> None:
    spec = dataclasses.replace(golden_source(ECG_ONLY).spec, model_id="trained-here")
    predictor = LvmPredictor(bind_model(build_ecg_only(), spec), batch_size=2)
    assert predictor.spec.model_id == "trained-here"
    zeros = np.zeros((1, 12, 5000), dtype=np.int16)
    # Fresh biases are 0, so a silent ECG gives z = 0, which is 89.70 g.
    mass_g = predictor.predict(zeros, np.ones(1, dtype=np.float32)).lvm_pred_g
    np.testing.assert_array_equal(mass_g, np.array([89.70], dtype=np.float32))


def test_shared_predictor__one_per_set_of_arguments() -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: shared_predictor(golden_source(ECG_ONLY), batch_size=3), range(4)))
    assert all(predictor is made[0] for predictor in made)
    assert shared_predictor(golden_source(ECG_ONLY), batch_size=4) is not made[0]


def test_engine_description__names_all_that_fixes_the_bits(full: LvmPredictor) -> None:
    description = full.engine_description()
    assert description["engine"] == "tensorflow"
    assert description["precision"] == "float32"
    assert description["batch_size"] == BATCH
    assert description["intra_op_threads"] == 1
    assert description["input_convention"] == "ukb_counts"
    assert set(description) >= {"tensorflow", "keras", "numpy", "onednn", "instruction_set"}
    assert description == full.engine_description()
