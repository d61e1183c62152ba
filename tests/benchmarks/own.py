"""What a measurement of our own parts needs, each run a process of its own; see `bench`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from models.catalogue.known import resolve_model
from models.engines.choosing import EngineName, EngineSettings
from models.engines.predictor import DEFAULT_BATCH_SIZE, LvmPredictor
from tests.benchmarks.peers import say

LEADS = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
BARE_BATCH = 32
IN_MEMORY = 2048  # a quarter of a gigabyte: far more than any cache


def bare(model: str, n: int, callers: int) -> None:
    """The compiled graph over tensors in memory: TensorFlow's threads, or one thread a caller."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from models.catalogue.loading import load_model
    from models.machine.runtime import import_tensorflow

    tf = import_tensorflow()
    if callers > 1:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(callers)
    loaded = load_model(resolve_model(model))
    shapes = [(BARE_BATCH, *tensor.shape[1:]) for tensor in loaded.keras_model.inputs]
    signature = [tf.TensorSpec(shape, tf.float32) for shape in shapes]

    def run(*given: Any) -> Any:
        return loaded.call_by_name(dict(zip(loaded.input_order, given, strict=True)))

    graph = tf.function(run, input_signature=signature, autograph=False).get_concrete_function()
    rng = np.random.default_rng(0)
    # Another batch each time, as in a run, made beforehand.
    feeds = [[tf.constant(rng.normal(0, 0.1, shape), tf.float32) for shape in shapes] for _ in range(16)]
    _share(n, callers, lambda k: [t.numpy() for t in graph(*feeds[k % 16]).values()], BARE_BATCH)


def engine(model: str, n: int, data: Path, name: str) -> None:
    """Our predictor alone over ECGs in memory, one batch per core at a time."""
    cores = len(os.sched_getaffinity(0))
    predictor = LvmPredictor(resolve_model(model), engine=EngineSettings(EngineName(name)), cores=cores)
    counts = _counts(data, min(n, IN_MEMORY))
    steps = np.full(DEFAULT_BATCH_SIZE, 5, dtype=np.float32)
    n_batches = len(counts) // DEFAULT_BATCH_SIZE
    people: list[Any] = []
    if predictor.needs_demographics:
        people = [
            np.full(DEFAULT_BATCH_SIZE, 60, dtype=np.float32),
            np.ones(DEFAULT_BATCH_SIZE, dtype=np.int8),
            np.full(DEFAULT_BATCH_SIZE, 25, dtype=np.float32),
        ]

    def run(k: int) -> None:
        first = k % n_batches * DEFAULT_BATCH_SIZE
        predictor.predict_batch(counts[first : first + DEFAULT_BATCH_SIZE], steps, *people)

    _share(n, cores, run, DEFAULT_BATCH_SIZE)


def _counts(data: Path, n: int) -> Any:
    """Return (n, 12, 5000) int16, contiguous, of the first ECGs of a folder of Parquet."""
    counts = np.empty((n, 12, 5000), dtype=np.int16)
    done = 0
    for path in sorted(data.glob("*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(64, columns=LEADS):
            take = min(batch.num_rows, n - done)
            for k, lead in enumerate(LEADS):
                values = batch.column(lead).flatten().to_numpy().reshape(-1, 5000)
                counts[done : done + take, k] = values[:take]
            done += take
            if done == n:
                return counts
    raise SystemExit(f"{data} holds {done} ECGs, expected {n}")


def _share(n: int, callers: int, run: Callable[[int], object], size: int) -> None:
    """Run n / size batches from some callers, after two that are not counted."""
    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(run, range(2 * callers)))
        say("READY")
        n_batches = n // size
        list(pool.map(run, range(n_batches)))
    say(f"DONE {n_batches * size}")


def startup(model: str, name: str) -> None:
    """A process that makes a predictor and predicts one ECG: time and memory of a start."""
    predictor = LvmPredictor(resolve_model(model), engine=EngineSettings(EngineName(name)))
    ecg = (np.arange(60000) % 50).astype(np.int16).reshape(1, 12, 5000)
    predictor.predict(ecg, np.full(1, 5, dtype=np.float32))
    say("READY")
    say("DONE 1")
    time.sleep(0.3)  # long enough to be looked at


def main() -> None:
    """Run one: bare MODEL N CALLERS | engine MODEL N DATA NAME | startup MODEL NAME."""
    what, model, *rest = sys.argv[1:]
    if what == "bare":
        bare(model, int(rest[0]), int(rest[1]))
    elif what == "engine":
        engine(model, int(rest[0]), Path(rest[1]), rest[2])
    else:
        startup(model, rest[0])


if __name__ == "__main__":
    main()
