"""Gradients against finite differences, completeness, and the test of shuffled weights."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from lvm_core.synthetic.ecgs import ecgs_of
from lvm_core.synthetic.people import synthetic_people
from models.catalogue.known import resolve_model
from models.catalogue.loading import LoadedModel, load_model
from models.catalogue.spec import PredictorInputs
from models.engines.predictor import LvmPredictor
from models.explain import Saliency

pytestmark = [pytest.mark.tf, pytest.mark.usefixtures("tensorflow_threads")]

FULL = "demo-synthetic"


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load_model(resolve_model(FULL))


@pytest.fixture(scope="module")
def inputs() -> PredictorInputs:
    people = synthetic_people(3, 77)
    made = ecgs_of(people)
    numbers = (people.age_years.astype(np.float32), people.sex_code)
    return PredictorInputs(made.counts, made.uv_per_count, *numbers, people.bmi_kg_m2.astype(np.float32))


def test_lvm_pred_g__is_that_of_the_predictor(loaded: LoadedModel, inputs: PredictorInputs) -> None:
    values = dataclasses.astuple(inputs)
    expected = LvmPredictor(loaded, batch_size=3).predict(*values).lvm_pred_g
    np.testing.assert_allclose(Saliency(loaded).lvm_pred_g(inputs), expected, rtol=0, atol=1e-3)


def test_gradient__predicts_the_effect_of_a_small_change(loaded: LoadedModel, inputs: PredictorInputs) -> None:
    """Along a direction: (mass(x + d) - mass(x - d)) / 2 = gradient . d, to the curvature."""
    saliency = Saliency(loaded)
    gradient = saliency.gradient_g_per_uv(inputs)
    assert gradient.shape == (3, 12, 5000)
    # The same ECGs in steps of 1/6 uV, moved by one step uphill in each sample and downhill.
    fine = PredictorInputs(
        (inputs.counts * 30).astype(np.int16),
        inputs.uv_per_count / np.float32(30),
        inputs.age_years,
        inputs.sex,
        inputs.bmi_kg_m2,
    )
    assert np.abs(inputs.counts).max() < 32_000 / 30
    change = np.sign(gradient).astype(np.int16)
    ends = [
        saliency.lvm_pred_g(dataclasses.replace(fine, counts=fine.counts + side * change))
        for side in (np.int16(1), np.int16(-1))
    ]
    expected_g = np.abs(gradient).sum(axis=(1, 2), dtype=np.float64) / 6
    assert (expected_g > 0.05).all()
    np.testing.assert_allclose((ends[0] - ends[1]) / 2, expected_g, rtol=0.05, atol=0)


def test_gradient__a_microvolt_weighs_five_times_more_in_the_other_convention(
    loaded: LoadedModel, inputs: PredictorInputs
) -> None:
    """Counts of 1 uV at uV/2000 make the network's input of counts of 5 uV at uV/10000."""
    small = dataclasses.replace(inputs, uv_per_count=inputs.uv_per_count / np.float32(5))
    usual = Saliency(loaded).gradient_g_per_uv(inputs)
    other = Saliency(loaded, "microvolts_over_2000").gradient_g_per_uv(small)
    np.testing.assert_allclose(other, 5 * usual, rtol=1e-3, atol=1e-7)


def test_integrated_gradients__sum_to_the_difference_of_outputs(loaded: LoadedModel, inputs: PredictorInputs) -> None:
    saliency = Saliency(loaded)
    silent = dataclasses.replace(inputs, counts=np.zeros_like(inputs.counts))
    difference_g = saliency.lvm_pred_g(inputs) - saliency.lvm_pred_g(silent)
    total_g = saliency.integrated_gradients_g(inputs, 64).sum(axis=(1, 2), dtype=np.float64)
    # The midpoint rule over a piecewise linear function: 64 steps leave about a percent.
    np.testing.assert_allclose(total_g, difference_g, rtol=0.02, atol=0.3)


def test_gradient__shuffled_weights_give_another_saliency(loaded: LoadedModel, inputs: PredictorInputs) -> None:
    """Model parameter randomisation, cascading from the output (Adebayo et al., NeurIPS 2018)."""
    model = loaded.keras_model
    kept = model.get_weights()
    saliency = Saliency(loaded)
    before = np.abs(saliency.gradient_g_per_uv(inputs))
    np.testing.assert_array_equal(before, np.abs(saliency.gradient_g_per_uv(inputs)))
    rng = np.random.default_rng(12)
    similar = []
    try:
        for n_layers in (1, 5, 30):
            _draw_last_layers_anew(model, n_layers, rng)
            after = np.abs(saliency.gradient_g_per_uv(inputs))
            similar.append(float(spearmanr(before.ravel()[::7], after.ravel()[::7]).statistic))
    finally:
        model.set_weights(kept)
    assert similar[-1] < 0.5
    assert similar[-1] < similar[0]


def _draw_last_layers_anew(model: Any, n_layers: int, rng: np.random.Generator) -> None:
    with_weights = [layer for layer in model.layers if layer.get_weights()]
    for layer in with_weights[-n_layers:]:
        kernel, bias = layer.get_weights()
        scale = np.sqrt(2 / np.prod(kernel.shape[:-1]))
        layer.set_weights([rng.normal(scale=scale, size=kernel.shape), 0 * bias])


def test_saliency__missing_demographics_and_steps_are_refused(loaded: LoadedModel, inputs: PredictorInputs) -> None:
    saliency = Saliency(loaded)
    assert saliency.needs_demographics
    with pytest.raises(ValueError, match="bmi_kg_m2 not given, but model demo-synthetic"):
        saliency.gradient_g_per_uv(dataclasses.replace(inputs, bmi_kg_m2=None))
    with pytest.raises(ValueError, match="n_steps is 0, expected 1 or more"):
        saliency.integrated_gradients_g(inputs, 0)
