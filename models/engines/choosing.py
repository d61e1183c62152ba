"""Choose the engine, precision and batch size for a model, and make and check an engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Final, NamedTuple

import numpy as np

from lvm_core.errors import LvmError
from models.catalogue.known import ModelSource
from models.catalogue.loading import LoadedModel, load_model
from models.catalogue.spec import InputRole, ModelSpec
from models.engines.network import UnsupportedNetworkError, check_with_keras, checked_network
from models.engines.spectral import SpectralEngine
from models.engines.tensorflow_engine import (
    Engine,
    OutOfMemoryError,
    Reference,
    TensorFlowEngine,
    keras_reference,
    with_mixed_precision,
)
from models.machine.runtime import Device, configure_threads, require_gpu, use_device, visible_gpus

IN_FLIGHT: Final = 2
"""Batches under way on a GPU: one is computed while the next one travels."""

# How far an engine may be from the Keras graph on ordinary ECGs: room for float32 sums in another
# order; a wrong weight, lead or scale is off by far more.
_ABSOLUTE: Final = 1e-4
_RELATIVE: Final = 1e-5
# How far mixed precision may move a mass from float32, grams: it moves it by about 0.2 g.
_PARITY_G: Final = 0.5

# A batch twice as large must be that much faster: it costs twice the memory and padding.
_BATCHES: Final = (32, 64, 128, 256, 512, 1024)
_WORTH_DOUBLING: Final = 1.05
_SECONDS: Final = 1.0


class EngineName(StrEnum):
    """What computes a model: TensorFlow's own graph, or `models.engines.spectral`."""

    TENSORFLOW = "tensorflow"
    SPECTRAL = "spectral"


class Precision(StrEnum):
    """Arithmetic of the network.

    `mixed`: convolutions in float16 with float32 sums, heads in float32, on a GPU only; moves a
    mass by about 0.2 g. bfloat16 would move it by 1.2 g and is not offered.
    """

    FLOAT32 = "float32"
    MIXED = "mixed"


class EngineMismatchError(LvmError):
    """The results of an engine differ from those of the Keras graph."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How a model is computed, apart from the batch.

    Raises:
        ValueError: the engine does not compute in this precision or on this device.
    """

    name: EngineName = EngineName.TENSORFLOW
    precision: Precision = Precision.FLOAT32
    device: Device = Device.CPU

    def __post_init__(self) -> None:
        if self.name is EngineName.SPECTRAL and self.device is not Device.CPU:
            raise ValueError("the spectral engine computes on CPUs, expected the device cpu")
        if self.precision is Precision.MIXED and self.device is not Device.GPU:
            raise ValueError("precision mixed needs a GPU; on a CPU it is slower than float32 and less exact")


class MadeEngine(NamedTuple):
    """An engine that is ready for batches, its model and the input layer of each role."""

    spec: ModelSpec
    inputs: Mapping[InputRole, str]
    engine: Engine


def make_engine(
    model: ModelSource | LoadedModel, settings: EngineSettings, batch_size: int, *, cores: int | None = None
) -> MadeEngine:
    """Load a model into an engine; all but float32 in TensorFlow is compared with the Keras graph.

    `batch_size` is the number of ECGs per call; `cores` the number of batches that will be computed
    at once, None for the cores of this process.

    Raises:
        LvmError: the model cannot be loaded, there is no such device, or mixed precision moves a
            mass too far.
        UnsupportedNetworkError: the spectral engine cannot compute it.
        EngineMismatchError: the results of the spectral engine differ from those of Keras.
    """
    if settings.name is EngineName.SPECTRAL:
        return _spectral(model, batch_size, cores)
    configure_threads(cores)  # before loading, which starts TensorFlow
    use_device(settings.device)
    loaded = load_model(model) if isinstance(model, ModelSource) else model
    return MadeEngine(loaded.spec, dict(loaded.inputs), _tensorflow(loaded, settings.precision, batch_size))


def _tensorflow(loaded: LoadedModel, precision: Precision, batch_size: int) -> TensorFlowEngine:
    if precision is Precision.FLOAT32:
        return TensorFlowEngine(loaded, batch_size)
    engine = TensorFlowEngine(with_mixed_precision(loaded), batch_size)
    require_parity(engine, keras_reference(loaded), batch_size, loaded.spec.constants.lvm_g.sd)
    return engine


def _spectral(model: ModelSource | LoadedModel, batch_size: int, cores: int | None) -> MadeEngine:
    if isinstance(model, ModelSource):
        checked = checked_network(model, cores)
    else:
        configure_threads(cores)
        checked = check_with_keras(model)
    engine = SpectralEngine(checked.network, checked.inputs, checked.outputs, batch_size)
    require_agreement(engine, checked.reference, batch_size)
    return MadeEngine(model.spec, checked.inputs, engine)


def require_agreement(engine: Engine, reference: Reference, batch_size: int) -> None:
    """Compare an engine with the Keras graph, in every place of a batch.

    Raises:
        EngineMismatchError: they differ by more than 1e-4 + 1e-5 of the value.
    """
    rows, given = reference.batch(batch_size)
    lvm_z, lvh_score = engine.compute(*given)
    pairs = [("z of LV mass", lvm_z, reference.lvm_z)]
    if lvh_score is not None and reference.lvh_score is not None:
        pairs.append(("LVH score", lvh_score, reference.lvh_score))
    for what, found, expected in pairs:
        difference = np.abs(found - expected[rows])
        if not (difference <= _ABSOLUTE + _RELATIVE * np.abs(expected[rows])).all():
            raise EngineMismatchError(
                f"the {what} of the {engine.description()['engine']} engine differs by up to "
                f"{difference.max():.2g} from the Keras graph, expected at most {_ABSOLUTE:g} + "
                f"{_RELATIVE:g} of the value; score with --engine tensorflow, and report this"
            )


def require_parity(mixed: Engine, reference: Reference, batch_size: int, g_per_z: float) -> float:
    """Compare mixed precision with float32 and return the largest difference, grams.

    One z of the model's output is `g_per_z` grams.

    Raises:
        LvmError: a mass differs by more than 0.5 g.
    """
    rows, given = reference.batch(batch_size)
    lvm_z, _ = mixed.compute(*given)
    largest_g = float((np.abs(lvm_z - reference.lvm_z[rows]) * g_per_z).max())
    if not largest_g <= _PARITY_G:  # also when it is not a number
        raise LvmError(
            f"mixed precision moves a mass by up to {largest_g:.2g} g with this model, expected at "
            f"most {_PARITY_G} g; score with --precision float32"
        )
    return largest_g


@cache
def spectral_memory_bytes(source: ModelSource, batch_size: int) -> tuple[int, int]:
    """Return the memory of the spectral engine for a model: once a process, and for each thread."""
    checked = checked_network(source)
    engine = SpectralEngine(checked.network, checked.inputs, checked.outputs, batch_size)
    return engine.bytes_shared, engine.bytes_per_thread


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """The engine for a run."""

    name: EngineName
    device: Device
    note: str = ""  # why it is not the fastest engine here; empty where it is, or was asked for


def choose_engine(
    sources: Sequence[ModelSource],
    *,
    name: EngineName | None = None,
    device: Device | None = None,
    cores: int | None = None,
) -> EngineChoice:
    """Choose the engine for all models of a run: the one that is asked for, or the fastest here.

    Where `name` and `device` are None, a visible GPU is used, with TensorFlow. Without a GPU the
    spectral engine computes, if it can compute every model and agrees with Keras; otherwise
    TensorFlow does, and the note says why. `cores` is as for `make_engine`.

    Raises:
        LvmError: the engine or the device that is asked for cannot be used.
    """
    if name is EngineName.SPECTRAL and device is Device.GPU:
        raise LvmError("--engine spectral computes on CPUs, expected --device cpu; on a GPU use --engine tensorflow")
    may_be_gpu = name is not EngineName.SPECTRAL and device is not Device.CPU
    gpus = visible_gpus() if may_be_gpu else []
    if device is Device.GPU:
        require_gpu(gpus)
    if gpus:
        return EngineChoice(EngineName.TENSORFLOW, Device.GPU)
    if name is EngineName.TENSORFLOW:
        return EngineChoice(EngineName.TENSORFLOW, Device.CPU)
    try:
        for source in sources:
            make_engine(source, EngineSettings(EngineName.SPECTRAL), 1, cores=cores)
    except (UnsupportedNetworkError, EngineMismatchError) as error:
        if name is EngineName.SPECTRAL:
            raise
        return EngineChoice(EngineName.TENSORFLOW, Device.CPU, f"not spectral: {error}")
    return EngineChoice(EngineName.SPECTRAL, Device.CPU)


def fastest_gpu_batch(source: ModelSource, settings: EngineSettings) -> int:
    """Measure for some seconds, and return the batch size for a model on this process's GPU.

    Raises:
        LvmError: there is no GPU, it has too little memory, or the model cannot be loaded.
    """
    configure_threads()
    use_device(settings.device)
    loaded = load_model(source)
    reference = keras_reference(loaded)

    def rate(batch: int) -> float:
        return measured_rate(_tensorflow(loaded, settings.precision, batch), reference, batch, _SECONDS)

    return fastest_batch(rate)


def fastest_batch(rate: Callable[[int], float]) -> int:
    """Return the batch size beyond which scoring gets hardly faster.

    `rate` gives the ECGs per second of a batch size, or raises `OutOfMemoryError`.

    Raises:
        LvmError: not even the smallest batch fits.
    """
    best, best_rate = 0, 0.0
    for batch in _BATCHES:
        try:
            found = rate(batch)
        except OutOfMemoryError:
            break
        if found < _WORTH_DOUBLING * best_rate:
            break
        best, best_rate = batch, found
    if not best:
        raise LvmError(
            f"the GPU has too little memory for {_BATCHES[0]} ECGs at once; free some (nvidia-smi "
            "shows which processes use it), or give a smaller --batch"
        )
    return best


def measured_rate(engine: Engine, reference: Reference, batch: int, seconds: float) -> float:
    """Return the ECGs per second with as many batches under way as a run has on a GPU."""
    _, given = reference.batch(batch)
    engine.compute(*given)  # the first call compiles and allocates

    def work(_: int) -> int:
        n_ecgs = 0
        while time.perf_counter() < end:
            engine.compute(*given)
            n_ecgs += batch
        return n_ecgs

    started = time.perf_counter()
    end = started + seconds
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        n_ecgs = sum(pool.map(work, range(IN_FLIGHT)))
    return n_ecgs / (time.perf_counter() - started)
