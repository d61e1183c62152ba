"""Fit one of the two graphs, epoch by epoch, with a state from which a run goes on."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lvm_core.errors import UsageError
from lvm_core.signal.ecg import LEADS_12, MODEL_LEADS, N_LEADS, order_indices
from models.catalogue.saved_model import write_atomically
from models.catalogue.spec import (
    INPUT_BMI,
    N_SAMPLES,
    SAMPLING_RATE_HZ,
    SEX_MALE,
    InputConvention,
    ModelConstants,
    Standardisation,
)
from models.machine.runtime import import_keras, import_tensorflow
from models.training.architectures import build_age_sex_bmi, build_ecg_only, with_spectral_convolutions
from models.training.config import Augmentation, Convolution, Scaling, TrainingConfig, TrainingPrecision
from models.training.data import Part, TrainingSet
from models.training.losses import cross_entropy, mass_loss
from models.training.progress import Row

_ARRAYS: Final = ("weights", "optimizer", "best_weights")
_PREFETCH_BATCHES: Final = 2
_WANDER_HZ: Final = (0.1, 0.5)
_BUILDERS: Final = {True: build_age_sex_bmi, False: build_ecg_only}


@dataclass
class FitState:
    """What a run needs to go on after an interruption."""

    epoch: int = 0  # epochs done
    weights: list[NDArray[Any]] = field(default_factory=list)
    optimizer: list[NDArray[Any]] = field(default_factory=list)  # its variables
    best_epoch: int = 0  # epoch with the lowest validation loss, from 1; 0 before the first
    best_loss: float = float("inf")
    best_weights: list[NDArray[Any]] = field(default_factory=list)
    history: list[Row] = field(default_factory=list)
    data_sha256: str = ""  # digest of the data with which the run began

    def save(self, path: Path) -> None:
        """Write the state, atomically: the file is the old one or the new one, never a part."""
        meta = {name: getattr(self, name) for name in ("epoch", "best_epoch", "best_loss", "history", "data_sha256")}
        arrays = {
            f"{kind}_{i:03d}": np.asarray(array) for kind in _ARRAYS for i, array in enumerate(getattr(self, kind))
        }
        sink = io.BytesIO()
        np.savez(sink, allow_pickle=False, meta=np.array(json.dumps(meta)), **arrays)
        write_atomically(path, sink.getvalue())

    @classmethod
    def load(cls, path: Path) -> FitState:
        """Read what `save` wrote."""
        with np.load(path) as file:
            lists: dict[str, Any] = {
                kind: [file[name] for name in sorted(file.files) if name.startswith(f"{kind}_")] for kind in _ARRAYS
            }
            return cls(**json.loads(str(file["meta"])), **lists)


def constants_of(data: TrainingSet, config: TrainingConfig) -> ModelConstants:
    """Return the published constants, or mean and standard deviation over the training part."""
    if config.scaling is Scaling.PUBLISHED:
        return ModelConstants()
    rows = data.rows_of(Part.TRAIN)
    lvm_g = _scale(data.lvm_cmr_g[rows], "g")
    if not config.has_lvh_head:
        return ModelConstants(lvm_g=lvm_g)
    return ModelConstants(
        age_years=_scale(data.age_years[rows], "years"), bmi_kg_m2=_scale(data.bmi_kg_m2[rows], "kg_m2"), lvm_g=lvm_g
    )


def _scale(values: NDArray[np.float64], unit: str) -> Standardisation:
    return Standardisation(float(values.mean()), float(values.std()) or 1.0, unit)


class Batches:
    """The tensors of a training set, batch by batch, in a model's order of inputs."""

    def __init__(self, data: TrainingSet, constants: ModelConstants, config: TrainingConfig) -> None:
        self._data = data
        self._config = config
        self._order = order_indices(LEADS_12, MODEL_LEADS)
        unit_uv = np.float32(InputConvention.UKB_COUNTS.input_unit_uv)
        self._counts_per_unit = unit_uv / data.uv_per_count
        self.lvm_z = constants.lvm_g.standardise(data.lvm_cmr_g)[:, None]
        self.is_lvh = data.lvh.astype(np.float32)[:, None]
        without, with_lvh = config.lvh_class_weights
        weight = np.where(data.lvh, with_lvh, without) * data.lvh_known
        self.lvh_weight = weight.astype(np.float32)
        self._columns: tuple[NDArray[np.float32], ...] = ()
        if config.has_lvh_head:
            self._columns = (
                constants.age_years.standardise(data.age_years)[:, None],
                np.eye(2, dtype=np.float32)[(data.sex_code == SEX_MALE).astype(np.intp)],
                constants.bmi_of(INPUT_BMI).standardise(data.bmi_kg_m2)[:, None],
            )

    def inputs(
        self, rows: NDArray[np.intp], disturb: Callable[[NDArray[np.float32]], None] | None = None
    ) -> tuple[NDArray[np.float32], ...]:
        """Return the input tensors of rows; `disturb` changes (n, 12, 5000) microvolts in place."""
        counts = self._data.counts[rows]
        if disturb is None:
            signal = counts.astype(np.float32)
            signal /= self._counts_per_unit[rows, None, None]
        else:
            signal = counts * self._data.uv_per_count[rows, None, None]
            disturb(signal)
            signal /= np.float32(InputConvention.UKB_COUNTS.input_unit_uv)
        ecg = np.ascontiguousarray(signal[:, self._order].transpose(0, 2, 1))
        return (ecg, *(column[rows] for column in self._columns))

    def targets(self, rows: NDArray[np.intp]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Return truths and sample weights of each output."""
        ones = np.ones(len(rows), dtype=np.float32)
        if not self._config.has_lvh_head:
            return (self.lvm_z[rows],), (ones,)
        return (self.lvm_z[rows], self.is_lvh[rows]), (ones, self.lvh_weight[rows])

    def epoch(self, rows: NDArray[np.intp], epoch: int, n_batches: int) -> Iterator[tuple[Any, Any, Any]]:
        """Yield `n_batches` of an epoch; order and disturbances follow from seed and epoch."""
        rng = np.random.default_rng((self._config.seed, epoch))
        shuffled = rng.permutation(rows)
        active, size = self._config.augmentation.active, self._config.batch_size
        for start in range(0, n_batches * size, size):
            chosen = shuffled[start : start + size]
            disturb = partial(_disturb, self._config.augmentation, rng) if active else None
            yield (self.inputs(chosen, disturb), *self.targets(chosen))


def _disturb(settings: Augmentation, rng: np.random.Generator, signal_uv: NDArray[np.float32]) -> None:
    """Add noise and wander to a batch and shift it, in place."""
    n = len(signal_uv)
    if settings.shift_ms:
        limit = round(settings.shift_ms * SAMPLING_RATE_HZ / 1000)
        for row, by in enumerate(rng.integers(-limit, limit + 1, n)):
            signal_uv[row] = np.roll(signal_uv[row], by, axis=1)
    if settings.noise_uv:
        noise = rng.standard_normal(signal_uv.shape, dtype=np.float32)
        signal_uv += noise * np.float32(settings.noise_uv)
    if settings.wander_uv:
        time_s = np.arange(N_SAMPLES) / SAMPLING_RATE_HZ
        rate_hz = rng.uniform(*_WANDER_HZ, (n, 1, 1))
        phase = rng.uniform(0, 2 * np.pi, (n, N_LEADS, 1))
        wave = np.sin(2 * np.pi * rate_hz * time_s + phase)
        signal_uv += (settings.wander_uv * wave).astype(np.float32)


class Fitter:
    """A compiled model and its data; `fit_epoch` moves a `FitState` on by one epoch."""

    def __init__(
        self, data: TrainingSet, config: TrainingConfig, constants: ModelConstants, on_batch: Callable[[int], None]
    ) -> None:
        """Build and compile the model; `on_batch` is called with the size of each batch done."""
        self._config = config
        self._batches = Batches(data, constants, config)
        self._train_rows = data.rows_of(Part.TRAIN)
        self._valid_rows = data.rows_of(Part.VALID)
        self._on_batch = on_batch
        keras, tf = import_keras(), import_tensorflow()
        keras.utils.set_random_seed(config.seed)
        self._strategy = _strategy(tf)
        self._n_batches = _n_batches(len(self._train_rows), config.batch_size, self._strategy.num_replicas_in_sync)
        with self._strategy.scope():
            self.model = _BUILDERS[config.has_lvh_head](config.precision.value)
            if _is_spectral(config, tf):
                self.model = with_spectral_convolutions(self.model)
            self._optimizer = _optimizer(keras, config, self._n_batches)
            heads = [mass_loss(config.loss), cross_entropy][: 1 + config.has_lvh_head]
            self.model.compile(
                optimizer=self._optimizer,
                loss=heads,
                loss_weights=[1.0, config.lvh_loss_weight][: len(heads)],
                jit_compile=False,
            )
            self._optimizer.build(self.model.trainable_variables)
        self._forward = tf.function(lambda *inputs: self.model(list(inputs), training=False), reduce_retracing=True)

    def restore(self, state: FitState) -> None:
        """Set weights and optimiser to those of a state of the same configuration."""
        if not state.weights:
            return
        self.model.set_weights(state.weights)
        for variable, value in zip(self._optimizer.variables, state.optimizer, strict=True):
            variable.assign(value)

    def fit_epoch(self, state: FitState) -> Row:
        """Train one epoch, validate, update `state` and return the row of the history."""
        log = self.model.fit(self._dataset(state.epoch), verbose=0, shuffle=False, callbacks=[self._callback()]).history
        state.epoch += 1
        row: Row = {"epoch": state.epoch, "train_loss": float(log["loss"][0])}
        row |= self.evaluate(self._valid_rows, "valid")
        row["learning_rate"] = float(np.asarray(self._optimizer.learning_rate))
        state.weights = self.model.get_weights()
        state.optimizer = [np.asarray(variable) for variable in self._optimizer.variables]
        if row["valid_loss"] < state.best_loss:
            state.best_loss, state.best_epoch = row["valid_loss"], state.epoch
            state.best_weights = [weight.copy() for weight in state.weights]
        state.history.append(row)
        return row

    def evaluate(self, rows: NDArray[np.intp], name: str) -> Row:
        """Return losses, correlation and mean absolute error of z over some ECGs.

        Names of the columns begin with `name`; for the correlation see `correlation`.
        """
        lvm_pred_z, softmax = self.predict(rows)
        truth_z = self._batches.lvm_z[rows]
        mass = mass_loss(self._config.loss)(truth_z, lvm_pred_z)
        loss = float(np.mean(np.asarray(mass), dtype=np.float64))
        row = {f"{name}_mass_loss": loss}
        if softmax is not None:
            entropy = np.asarray(cross_entropy(self._batches.is_lvh[rows], softmax))
            lvh_loss = float(np.mean(entropy * self._batches.lvh_weight[rows], dtype=np.float64))
            row[f"{name}_lvh_loss"] = lvh_loss
            loss += self._config.lvh_loss_weight * lvh_loss
        row[f"{name}_r"] = correlation(lvm_pred_z[:, 0], truth_z[:, 0])
        row[f"{name}_mae_z"] = float(np.abs(lvm_pred_z - truth_z).mean(dtype=np.float64))
        return {f"{name}_loss": loss, **row}

    def predict(self, rows: NDArray[np.intp]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Return z of LV mass, (n, 1), and the softmax, (n, 2) or None, in batches."""
        parts = []
        for start in range(0, len(rows), self._config.batch_size):
            chosen = rows[start : start + self._config.batch_size]
            outputs = self._forward(*self._batches.inputs(chosen))
            listed = outputs if isinstance(outputs, (list, tuple)) else [outputs]
            parts.append([tensor.numpy() for tensor in listed])
        stacked = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return stacked[0], (stacked[1] if self._config.has_lvh_head else None)

    def _dataset(self, epoch: int) -> Any:
        tf = import_tensorflow()
        example = next(self._batches.epoch(self._train_rows[:1], epoch, 1))
        signature = tf.nest.map_structure(lambda array: tf.TensorSpec((None, *array.shape[1:]), array.dtype), example)
        dataset = tf.data.Dataset.from_generator(
            lambda: self._batches.epoch(self._train_rows, epoch, self._n_batches), output_signature=signature
        )
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(self._n_batches))
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        return dataset.prefetch(_PREFETCH_BATCHES).with_options(options)

    def _callback(self) -> Any:
        def done(batch: int, logs: Any) -> None:
            size = self._config.batch_size
            self._on_batch(min(size, len(self._train_rows) - batch * size))  # the last one may be smaller

        return import_keras().callbacks.LambdaCallback(on_train_batch_end=done)


def export_model(weights: list[NDArray[Any]], config: TrainingConfig) -> Any:
    """Return the plain float32 graph of the published layers with these weights."""
    model = _BUILDERS[config.has_lvh_head]()
    model.set_weights(weights)
    return model


def correlation(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Return Pearson's r; NaN for fewer than two values, or where one side is constant."""
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.corrcoef(first.astype(np.float64), second.astype(np.float64))[0, 1])


def _is_spectral(config: TrainingConfig, tf: Any) -> bool:
    if config.convolution is Convolution.AUTO:
        on_gpu = bool(tf.config.list_physical_devices("GPU"))
        return not on_gpu and config.precision is TrainingPrecision.FLOAT32
    return config.convolution is Convolution.SPECTRAL


def _strategy(tf: Any) -> Any:
    several = len(tf.config.list_logical_devices("GPU")) > 1
    return tf.distribute.MirroredStrategy() if several else tf.distribute.get_strategy()


def _n_batches(n_ecgs: int, batch_size: int, n_replicas: int) -> int:
    """Return the number of batches of an epoch.

    On several GPUs an incomplete last batch is left out (other ECGs each time): a GPU without an
    ECG would take the mean of no loss.
    """
    if n_replicas == 1:
        return -(-n_ecgs // batch_size)
    if batch_size % n_replicas or n_ecgs < batch_size:
        raise UsageError(
            f"batch_size is {batch_size} for {n_replicas} GPUs and {n_ecgs} training ECGs, "
            f"expected a multiple of {n_replicas} that is not larger than the number of ECGs; or let "
            "TensorFlow see one GPU only, with CUDA_VISIBLE_DEVICES=0"
        )
    return n_ecgs // batch_size


def _optimizer(keras: Any, config: TrainingConfig, steps: int) -> Any:
    """Return AdamW whose rate rises linearly and then falls as a half cosine.

    The published models were trained with rectified Adam, which Keras 3 does not have; its purpose
    is a safe start, which the warm-up gives. `steps` are the batches of an epoch.
    """
    warmup = min(round(config.warmup_epochs * steps), steps * config.epochs - 1)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else config.learning_rate,
        decay_steps=steps * config.epochs - warmup,
        alpha=config.final_learning_rate_share,
        warmup_target=config.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay, global_clipnorm=config.clip_norm)
    if config.precision is TrainingPrecision.MIXED_FLOAT16:
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer
