"""Which engine computes a model, and that engine made and checked."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from lvm_core.errors import LvmError
from models.catalogue.known import ModelSource
from models.catalogue.loading import LoadedModel, load_model
from models.catalogue.spec import InputRole, ModelSpec
from models.engines.devices import Device, require_gpu, use_device, visible_gpus
from models.engines.network import UnsupportedNetworkError, check_with_keras, checked_network
from models.engines.runtime import Threads, configure_threads
from models.engines.spectral import SpectralEngine
from models.engines.tensorflow_engine import (
    Engine,
    OutOfMemoryError,
    Reference,
    TensorFlowEngine,
    keras_reference,
    require_parity,
    with_mixed_precision,
)

# How far an engine may be from the Keras graph on ordinary ECGs: room for float32 sums in another
# order; a wrong weight, lead or scale is off by far more.
ABSOLUTE: Final = 1e-4
RELATIVE: Final = 1e-5


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
    """An engine does not give what the Keras graph gives."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What fixes how a model is computed, beside the batch.

    Attributes:
        name: of the engine.
        precision: of the arithmetic.
        device: where it is computed.

    Raises:
        ValueError: the three do not go together.
    """

    name: EngineName = EngineName.TENSORFLOW
    precision: Precision = Precision.FLOAT32
    device: Device = Device.CPU

    def __post_init__(self) -> None:
        if self.name is EngineName.SPECTRAL and self.device is not Device.CPU:
            raise ValueError("the spectral engine computes on CPUs, expected the device cpu")
        if self.precision is Precision.MIXED and self.device is not Device.GPU:
            raise ValueError("precision mixed needs a GPU; on a CPU it is slower than float32 and less exact")


@dataclass(frozen=True, slots=True)
class MadeEngine:
    """An engine and what it computes.

    Attributes:
        spec: identity of the model.
        inputs: input layer of each role.
        engine: ready for batches.
    """

    spec: ModelSpec
    inputs: Mapping[InputRole, str]
    engine: Engine


def make_engine(
    model: ModelSource | LoadedModel,
    settings: EngineSettings,
    batch_size: int,
    *,
    cores: int | None = None,
    network_dir: Path | None = None,
) -> MadeEngine:
    """Load a model into an engine; the spectral one is compared with Keras.

    Args:
        model: from `resolve_model`, or a model in memory.
        settings: how to compute.
        batch_size: ECGs per call, 1 or more.
        cores: batches that will be computed at once; None for the cores of this process.
        network_dir: where networks are kept as plain arrays; None for the default.

    Raises:
        LvmError: the model cannot be loaded, or there is no such device.
        UnsupportedNetworkError: the spectral engine cannot compute it.
        EngineMismatchError: the spectral engine does not give what Keras gives.
    """
    if settings.name is EngineName.SPECTRAL:
        return _spectral(model, batch_size, cores, network_dir)
    threads = configure_threads(cores)  # before loading, which starts TensorFlow
    use_device(settings.device)
    loaded = load_model(model) if isinstance(model, ModelSource) else model
    engine = tensorflow_engine(loaded, settings.precision, batch_size, threads)
    return MadeEngine(loaded.spec, dict(loaded.inputs), engine)


def tensorflow_engine(loaded: LoadedModel, precision: Precision, batch_size: int, threads: Threads) -> TensorFlowEngine:
    """Return the TensorFlow engine of a loaded model; mixed precision is compared with float32.

    Raises:
        LvmError: mixed precision moves a mass too far.
    """
    if precision is Precision.FLOAT32:
        return TensorFlowEngine(loaded, batch_size, threads)
    engine = TensorFlowEngine(with_mixed_precision(loaded), batch_size, threads)
    reference = keras_reference(loaded, threads)
    require_parity(engine, reference, batch_size, loaded.spec.constants.lvm_g.sd)
    return engine


def _spectral(
    model: ModelSource | LoadedModel, batch_size: int, cores: int | None, network_dir: Path | None
) -> MadeEngine:
    checked = (
        checked_network(model, cores, network_dir)
        if isinstance(model, ModelSource)
        else check_with_keras(model, configure_threads(cores))
    )
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
        if not (difference <= ABSOLUTE + RELATIVE * np.abs(expected[rows])).all():
            raise EngineMismatchError(
                f"the {engine.description()['engine']} engine is up to {difference.max():.2g} off "
                f"the Keras graph in the {what}, expected at most {ABSOLUTE:g} + {RELATIVE:g} of "
                "the value; score with --engine tensorflow, and report it"
            )


@cache
def spectral_memory_bytes(source: ModelSource, batch_size: int) -> tuple[int, int]:
    """Return the memory of the spectral engine for a model: once a process, and for each thread."""
    checked = checked_network(source)
    engine = SpectralEngine(checked.network, checked.inputs, checked.outputs, batch_size)
    return engine.bytes_shared, engine.bytes_per_thread


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """The engine for a run.

    Attributes:
        name: of the engine.
        device: where it computes.
        note: why it is not the fastest that is here, in words; empty where it is, or was asked for.
    """

    name: EngineName
    device: Device
    note: str = ""


def choose_engine(
    sources: Sequence[ModelSource],
    *,
    name: EngineName | None = None,
    device: Device | None = None,
    cores: int | None = None,
    network_dir: Path | None = None,
) -> EngineChoice:
    """Choose the engine for some models: what is asked for, else what is fastest here.

    A visible GPU is used, with TensorFlow. Without one the spectral engine computes, if it can
    compute every model and agrees with Keras; otherwise TensorFlow does, and the note says why.

    Args:
        sources: all models of the run.
        name: what is asked for; None to choose.
        device: likewise.
        cores: as for `make_engine`, like the next.
        network_dir: as above.

    Raises:
        LvmError: what is asked for cannot be had.
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
            make_engine(source, EngineSettings(EngineName.SPECTRAL), 1, cores=cores, network_dir=network_dir)
    except (UnsupportedNetworkError, EngineMismatchError) as error:
        if name is EngineName.SPECTRAL:
            raise
        return EngineChoice(EngineName.TENSORFLOW, Device.CPU, f"not spectral: {error}")
    return EngineChoice(EngineName.SPECTRAL, Device.CPU)


CANDIDATES: Final = (32, 64, 128, 256, 512, 1024)
WORTH_DOUBLING: Final = 1.05
"""A batch twice as large must be that much faster: it costs twice the memory and padding."""

IN_FLIGHT: Final = 2
"""Batches under way on a GPU: one is computed while the next one travels."""

_SECONDS: Final = 1.0


def fastest_batch(rate: Callable[[int], float], candidates: Sequence[int] = CANDIDATES) -> tuple[int, dict[int, float]]:
    """Return the batch beyond which it gets hardly faster, and the rates that were seen.

    Args:
        rate: ECGs per second of a batch size; raises `OutOfMemoryError` where it does not fit.
        candidates: ascending, one or more.

    Raises:
        LvmError: not even the first fits.
    """
    rates: dict[int, float] = {}
    best = candidates[0]
    for batch in candidates:
        try:
            rates[batch] = rate(batch)
        except OutOfMemoryError:
            break
        if batch != candidates[0] and rates[batch] < WORTH_DOUBLING * rates[best]:
            break
        best = batch
    if not rates:
        raise LvmError(
            f"the GPU has too little memory for {candidates[0]} ECGs at once; free it (nvidia-smi "
            "shows who uses it), or give a smaller --batch"
        )
    return best, rates


def fastest_gpu_batch(source: ModelSource, settings: EngineSettings) -> int:
    """Return the batch for a model on this process's GPU; takes some seconds.

    Raises:
        LvmError: there is no GPU, it has too little memory, or the model cannot be loaded.
    """
    threads = configure_threads()
    use_device(settings.device)
    loaded = load_model(source)
    reference = keras_reference(loaded, threads)

    def rate(batch: int) -> float:
        engine = tensorflow_engine(loaded, settings.precision, batch, threads)
        return measured_rate(engine, reference, batch, _SECONDS)

    return fastest_batch(rate)[0]


def measured_rate(engine: Engine, reference: Reference, batch: int, seconds: float) -> float:
    """Return ECGs per second with as many batches under way as a run has on a GPU."""
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
