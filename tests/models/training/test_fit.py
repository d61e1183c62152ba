import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lvm_core.errors import UsageError
from models.catalogue.spec import INPUT_ECG, PUBLISHED_CONSTANTS
from models.training import fit
from models.training.config import TrainingConfig, load_config
from models.training.data import Part, TrainingSet, load_training_set
from models.training.fit import Batches, FitState, Fitter, constants_of, correlation, export_model
from tests.models.golden import TENSOR_LEADS
from tests.models.training_builders import settings, small_age_sex_bmi, small_ecg_only, write_cohort, write_config

pytestmark = [
    pytest.mark.tf,
    pytest.mark.usefixtures("tensorflow_threads"),
    # Keras's own: it copies tensors of TensorFlow with NumPy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
]

ROOT = Path(__file__).parents[3]
LEADS_12 = "I II III aVR aVL aVF V1 V2 V3 V4 V5 V6".split()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("cohort"), 24)


@pytest.fixture
def small_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    builders = {True: small_age_sex_bmi, False: small_ecg_only}
    monkeypatch.setattr(fit, "_BUILDERS", builders)


def _config(folder: Path, **changes: Any) -> TrainingConfig:
    return load_config(write_config(folder / "c.yaml", settings(folder, **changes)))


def _load(folder: Path, **changes: Any) -> tuple[TrainingSet, TrainingConfig]:
    config = _config(folder, **changes)
    return load_training_set(config, folder), config


def _nothing(n: int) -> None:
    """Ignore the progress."""


def _fitter(folder: Path, tell: Callable[[int], None] = _nothing, **changes: Any) -> Fitter:
    data, config = _load(folder, **changes)
    return Fitter(data, config, constants_of(data, config), tell)


def test_batches__tensor_is_microvolts_over_10000_in_the_models_order(cohort: Path) -> None:
    data, config = _load(cohort)
    rows = np.array([3, 5])
    ecg, age, sex, bmi = Batches(data, PUBLISHED_CONSTANTS, config).inputs(rows)
    for column, lead in enumerate(TENSOR_LEADS):
        counts = data.counts[rows, LEADS_12.index(lead)].astype(np.float64)
        np.testing.assert_allclose(ecg[:, :, column], counts * 5 / 10_000, rtol=1e-6)
    np.testing.assert_allclose(age[:, 0], (data.age_years[rows] - 63.35798891483556) / 7.554638350423902, rtol=1e-6)
    assert sex.tolist() == [[1.0, 0.0] if code == 0 else [0.0, 1.0] for code in data.sex_code[rows]]
    np.testing.assert_allclose(bmi[:, 0], (data.bmi_kg_m2[rows] - 27.3397) / 4.77216, rtol=1e-5, atol=1e-6)


def test_batches__lvh_weights_are_1_and_25_and_0_where_unknown(cohort: Path) -> None:
    data, config = _load(cohort)
    data.lvh[:3], data.lvh_known[:3] = (False, True, False), (True, True, False)
    (mass, is_lvh), (mass_weight, lvh_weight) = Batches(data, PUBLISHED_CONSTANTS, config).targets(np.arange(3))
    np.testing.assert_allclose(mass[:, 0], (data.lvm_cmr_g[:3] - 89.70) / 24.80, rtol=1e-5)
    assert is_lvh[:, 0].tolist() == [0, 1, 0]
    assert (mass_weight.tolist(), lvh_weight.tolist()) == ([1, 1, 1], [1, 25, 0])


def test_batches__an_epoch_has_every_ecg_once_in_an_order_of_its_own(cohort: Path) -> None:
    data, config = _load(cohort)
    batches = Batches(data, PUBLISHED_CONSTANTS, config)
    rows = data.rows_of(Part.TRAIN)

    def masses(epoch: int) -> list[float]:
        parts = batches.epoch(rows, epoch, -(-len(rows) // 4))
        return [z for _, (mass, _), _ in parts for z in mass[:, 0].tolist()]

    assert masses(0) == masses(0)
    assert masses(0) != masses(1)
    assert sorted(masses(0)) == sorted(masses(1)) == sorted(batches.lvm_z[rows, 0].tolist())


@pytest.mark.parametrize("augmentation", [{"noise_uv": 20}, {"wander_uv": 100}, {"shift_ms": 200}], ids=str)
def test_augmentation__changes_the_signal_as_configured(cohort: Path, augmentation: dict[str, float]) -> None:
    data, config = _load(cohort, augmentation=augmentation, batch_size=32)
    plain = Batches(data, PUBLISHED_CONSTANTS, config)
    ((inputs, (mass, _), _),) = plain.epoch(data.rows_of(Part.TRAIN), 0, 1)
    by_mass = {z: row for row, z in enumerate(plain.lvm_z[:, 0].tolist())}
    rows = np.array([by_mass[z] for z in mass[:, 0].tolist()])
    before_uv, after_uv = plain.inputs(rows)[0] * 10_000, inputs[0] * 10_000
    change_uv = after_uv - before_uv
    if "noise_uv" in augmentation:
        assert change_uv.std() == pytest.approx(20, rel=0.02)
        assert abs(change_uv.mean()) < 0.1
    elif "wander_uv" in augmentation:
        assert np.abs(change_uv).max() == pytest.approx(100, rel=0.01)
        assert np.abs(np.diff(change_uv, axis=1)).max() < 100 * 2 * np.pi * 0.5 / 500 + 0.01
    else:
        for before, after in zip(before_uv, after_uv, strict=True):
            shifts = [s for s in range(-100, 101) if np.allclose(np.roll(before, s, 0), after)]
            assert shifts
        np.testing.assert_allclose(np.sort(before_uv, axis=1), np.sort(after_uv, axis=1))


def test_constants_of__training_set_leaves_mean_0_and_sd_1(cohort: Path) -> None:
    data, config = _load(cohort, scaling="training_set")
    constants = constants_of(data, config)
    rows = data.rows_of(Part.TRAIN)
    batches = Batches(data, constants, config)
    _, age, _, bmi = batches.inputs(rows)
    for column in (batches.lvm_z[rows], age, bmi):
        assert column.mean() == pytest.approx(0, abs=1e-6)
        assert column.std() == pytest.approx(1, rel=1e-6)


@pytest.mark.usefixtures("small_graphs")
def test_fit__training_loss_is_that_of_evaluate_when_nothing_moves(cohort: Path) -> None:
    """Keras's weighted mean over ragged batches, against ours over all ECGs."""
    sizes: list[int] = []
    fitter = _fitter(
        cohort, sizes.append, learning_rate=1e-12, weight_decay=0, warmup_epochs=0, batch_size=5, lvh_loss_weight=0.3
    )
    data, _ = _load(cohort)
    rows = data.rows_of(Part.TRAIN)
    expected = fitter.evaluate(rows, "train")
    row = fitter.fit_epoch(FitState())
    assert row["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-4)
    entropy, mass = expected["train_lvh_loss"], expected["train_mass_loss"]
    assert expected["train_loss"] == pytest.approx(mass + 0.3 * entropy)
    assert len(sizes) == -(-len(rows) // 5)
    assert sum(sizes) == len(rows)
    assert len(rows) % 5  # the last batch is a smaller one


@pytest.mark.usefixtures("small_graphs")
@pytest.mark.parametrize("architecture", ["ecg_only", "age_sex_bmi"])
def test_fit__learns_and_keeps_the_best_epoch(cohort: Path, architecture: str) -> None:
    fitter = _fitter(
        cohort, architecture=architecture, loss="mse", learning_rate=0.05, epochs=6, lvh_loss_weight=0, warmup_epochs=0
    )
    state = FitState()
    rows = [fitter.fit_epoch(state) for _ in range(6)]
    assert rows[-1]["train_loss"] < 0.7 * rows[0]["train_loss"]
    losses = [row["valid_loss"] for row in rows]
    assert state.best_epoch == 1 + int(np.argmin(losses))
    assert state.best_loss == min(losses)
    fitter.model.set_weights(state.best_weights)
    data, _ = _load(cohort)
    assert fitter.evaluate(data.rows_of(Part.VALID), "valid")["valid_loss"] == min(losses)


@pytest.mark.usefixtures("small_graphs")
def test_fit__rate_warms_up_and_decays(cohort: Path) -> None:
    fitter = _fitter(cohort, epochs=4, learning_rate=0.01, warmup_epochs=1, final_learning_rate_share=0.1)
    state = FitState()
    rates = [fitter.fit_epoch(state)["learning_rate"] for _ in range(4)]
    # Half cosines from 1 to 0.1 at 0, 1/3, 2/3 and the end of the decay.
    expected = [0.01 * (0.1 + 0.9 * (1 + np.cos(np.pi * part / 3)) / 2) for part in range(4)]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


@pytest.mark.usefixtures("small_graphs")
def test_fit_state__goes_on_as_if_nothing_had_happened(cohort: Path, tmp_path: Path) -> None:
    whole, through = FitState(), _fitter(cohort)
    for _ in range(3):
        through.fit_epoch(whole)
    first, state = _fitter(cohort), FitState()
    first.fit_epoch(state)
    state.save(tmp_path / "state.npz")
    again, second = FitState.load(tmp_path / "state.npz"), _fitter(cohort)
    second.restore(again)
    for _ in range(2):
        second.fit_epoch(again)
    assert [row["epoch"] for row in again.history] == [1, 2, 3]
    for ours, theirs in zip(again.history, whole.history, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, nan_ok=True)
    for one, other in zip(again.best_weights, whole.best_weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]


@pytest.mark.parametrize("convolution", ["direct", "spectral"])
def test_export__real_graph_is_plain_float32(cohort: Path, monkeypatch: pytest.MonkeyPatch, convolution: str) -> None:
    data, config = _load(cohort, convolution=convolution)
    fitter = Fitter(data, config, constants_of(data, config), _nothing)
    exported = export_model(fitter.model.get_weights(), config)
    assert {layer.dtype_policy.name for layer in exported.layers} == {"float32"}
    assert not any("Spectral" in type(layer).__name__ for layer in exported.layers)
    rows = np.arange(2)
    inputs = Batches(data, PUBLISHED_CONSTANTS, config).inputs(rows)
    mass, lvh = exported(list(inputs))
    mass_z, softmax = fitter.predict(rows)
    np.testing.assert_allclose(np.asarray(mass), mass_z, atol=1e-5)
    np.testing.assert_allclose(np.asarray(lvh), softmax, atol=1e-5)


@pytest.mark.usefixtures("small_graphs")
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision__hidden_layers_only_and_weights_stay_float32(
    cohort: Path, tmp_path: Path, precision: str
) -> None:
    fitter = _fitter(cohort, precision=precision, learning_rate=0.03, warmup_epochs=0, loss="mse", lvh_loss_weight=0)
    policies = {layer.name: layer.dtype_policy.name for layer in fitter.model.layers}
    assert policies["conv"] == precision
    assert policies[INPUT_ECG] == "float32"
    assert {weight.dtype for weight in fitter.model.weights} == {"float32"}
    mass_z, softmax = fitter.predict(np.arange(2))
    assert mass_z.dtype == np.float32
    assert softmax is not None
    assert softmax.dtype == np.float32
    state = FitState()
    rows = [fitter.fit_epoch(state) for _ in range(3)]
    assert rows[2]["train_loss"] < 0.7 * rows[0]["train_loss"]
    state.save(tmp_path / "state.npz")
    fitter.restore(FitState.load(tmp_path / "state.npz"))


def test_correlation__hand_computed() -> None:
    first, second = np.array([1.0, 2.0, 3.0]), np.array([2.0, 1.0, 3.0])
    assert correlation(first, second) == pytest.approx(0.5)
    assert np.isnan(correlation(first, np.ones(3)))
    assert np.isnan(correlation(first[:1], second[:1]))


@pytest.mark.parametrize(("n_ecgs", "n_replicas", "expected"), [(17, 1, 3), (16, 1, 2), (3, 1, 1), (17, 4, 2)])
def test_n_batches__ragged_rest_on_one_device_only(n_ecgs: int, n_replicas: int, expected: int) -> None:
    assert fit._n_batches(n_ecgs, 8, n_replicas) == expected


@pytest.mark.parametrize(("n_ecgs", "n_replicas"), [(20, 3), (7, 2)])
def test_n_batches__batches_that_several_gpus_cannot_share_are_refused(n_ecgs: int, n_replicas: int) -> None:
    with pytest.raises(UsageError, match=f"batch_size is 8 for {n_replicas} GPUs"):
        fit._n_batches(n_ecgs, 8, n_replicas)


TWO_DEVICES = """
import sys
from pathlib import Path
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from models.training import fit
from models.training.config import load_config
from models.training.data import load_training_set
from tests.models.training_builders import small_age_sex_bmi
fit._BUILDERS = {True: small_age_sex_bmi}
config = load_config(Path(sys.argv[1]))
data = load_training_set(config, config.output)
mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for strategy in (tf.distribute.get_strategy(), mirrored):
    fit._strategy = lambda tf, chosen=strategy: chosen
    constants = fit.constants_of(data, config)
    fitter = fit.Fitter(data, config, constants, lambda n: None)
    state = fit.FitState()
    rows = [fitter.fit_epoch(state) for _ in range(2)]
    print(strategy.num_replicas_in_sync, *(repr(row["valid_loss"]) for row in rows))
"""


def test_fit__two_devices_learn_what_one_learns(cohort: Path, tmp_path: Path) -> None:
    """Two logical CPUs take the place of two GPUs.

    Batches divide the training set evenly, because several devices leave the ragged rest out; and
    nothing is clipped, because Keras clips the gradient of each device.
    """
    by_salt = {salt: len(_load(cohort, split={"salt": salt})[0].rows_of(Part.TRAIN)) for salt in "abcdefgh"}
    salt, n_train = next((key, n) for key, n in by_salt.items() if n % 4 == 0)
    config = settings(cohort, batch_size=n_train // 2, warmup_epochs=0, split={"salt": salt}, clip_norm=None)
    path = write_config(tmp_path / "c.yaml", config)
    command = [sys.executable, "-c", TWO_DEVICES, str(path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    one, two = (line.split() for line in result.stdout.splitlines()[-2:])
    assert (one[0], two[0]) == ("1", "2")
    np.testing.assert_allclose([float(x) for x in one[1:]], [float(x) for x in two[1:]], rtol=1e-4)
