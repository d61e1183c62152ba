"""The batch for a GPU: tried out once, when a run is planned, and frozen in its plan."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from lvm_core.errors import LvmError
from models.catalog import ModelSource
from models.devices import use_device
from models.engine import Engine, OutOfMemoryError
from models.engines import EngineSettings, tensorflow_engine
from models.loading import load_model
from models.reference import Reference, keras_reference
from models.runtime import configure_threads

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
