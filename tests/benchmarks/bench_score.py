"""How fast is the score job, beside its model alone and beside a loop of one ECG at a time?

Prints rates, ratios and peak memory; asserts nothing, because machines differ. Every measurement
runs in a process of its own (TensorFlow fixes its threads once per process), and the compared ones
take turns. Run it with `make bench-score`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from beam_jobs.blocks import EcgRow
from beam_jobs.commit import ecg_parquet_bytes
from beam_jobs.ingest import ecg_table
from lvm_core.synthetic import synthetic_ecgs
from models.catalog import resolve_model

MODEL = "demo-synthetic-ecg-only"
SEED = 1
FILE_ROWS = 1024


def write_ecgs(folder: Path, n: int) -> None:
    """Write n synthetic ECGs as canonical Parquet."""
    folder.mkdir(parents=True)
    for start in range(0, n, FILE_ROWS):
        people = synthetic_ecgs(min(FILE_ROWS, n - start), SEED, start)
        rows = [
            EcgRow(ecg_id, people.counts[i], float(people.uv_per_count[i]), "")
            for i, ecg_id in enumerate(people.ecg_id)
        ]
        path = folder / f"part-{start:07d}.parquet"
        path.write_bytes(ecg_parquet_bytes(ecg_table(rows), b"{}"))


def rate(call: Callable[[], object], n_per_call: int, seconds: float) -> float:
    """Return ECGs per second of repeated calls, after two to warm up."""
    call()
    call()
    started, n = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started) < seconds:
        call()
        n += n_per_call
    return n / elapsed


def measure_bare(seconds: float, batch: int) -> float:
    """One caller, the compiled graph with a fixed batch, TensorFlow's default threads."""
    from models.loading import load_model
    from models.runtime import import_tensorflow

    tf = import_tensorflow()
    loaded = load_model(resolve_model(MODEL))
    name = next(iter(loaded.inputs.values()))
    signature = [tf.TensorSpec((batch, 5000, 12), tf.float32)]
    graph = tf.function(
        lambda ecg: loaded.call_by_name({name: ecg}), input_signature=signature, autograph=False
    ).get_concrete_function()
    ecg = tf.constant(np.random.default_rng(0).normal(0, 0.1, (batch, 5000, 12)), tf.float32)
    return rate(lambda: [t.numpy() for t in graph(ecg).values()], batch, seconds)


def measure_engine(seconds: float, batch: int) -> float:
    """Our predictor alone: one batch per core at a time, one thread each."""
    from models.predictor import shared_predictor

    cores = len(os.sched_getaffinity(0))
    predictor = shared_predictor(MODEL, batch_size=batch, cores=cores)
    people = synthetic_ecgs(batch, SEED)
    rates: list[float] = []

    def work() -> None:
        call = lambda: predictor.predict_batch(people.counts, people.uv_per_count)  # noqa: E731
        rates.append(rate(call, batch, seconds))

    threads = [threading.Thread(target=work) for _ in range(cores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(rates)


def measure_loop(seconds: float, batch: int) -> float:
    """`model.predict` with one ECG at a time, as published scripts do."""
    from models.loading import load_model

    loaded = load_model(resolve_model(MODEL))
    ecg = np.random.default_rng(0).normal(0, 0.1, (1, 5000, 12)).astype(np.float32)
    return rate(lambda: loaded.keras_model.predict(ecg, verbose=0), 1, seconds)


MEASURES = {"bare": measure_bare, "engine": measure_engine, "loop": measure_loop}


def in_process(measure: str, seconds: float, batch: int) -> float:
    """Run one of `MEASURES` in a process of its own."""
    command = [sys.executable, "-m", __spec__.name, "--measure", measure]
    options = ["--seconds", str(seconds), "--batch", str(batch)]
    done = subprocess.run([*command, *options], check=True, capture_output=True, text=True)
    return float(done.stdout.strip().splitlines()[-1])


def run_job(ecgs: Path, output: Path, batch: int) -> dict[str, float]:
    """Score a folder in a process of its own and return what its report says."""
    command = [sys.executable, "-m", "lvm_ai", "score", "--input", str(ecgs)]
    options = ["--model", MODEL, "--output", str(output), "--batch", str(batch)]
    subprocess.run([*command, *options], check=True, capture_output=True)
    report = json.loads((output / "run_report.json").read_text())
    return {
        "ecg_per_s": report["ecg_per_s"],
        "startup_s": report["timing_s"]["startup"],
        "peak_rss_mb": report["peak_rss_mb"],
    }


def compare(small: int, large: int, rounds: int, seconds: float, batch: int) -> None:
    """Print everything."""
    say = sys.stdout.write
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_ecgs(folder / "small", small)
        write_ecgs(folder / "large", large)
        rates: dict[str, list[float]] = {"bare": [], "engine": [], "loop": [], "job": []}
        for k in range(rounds):
            for measure in MEASURES:
                rates[measure].append(in_process(measure, seconds, batch))
            result = run_job(folder / "small", folder / f"run-{k}", batch)
            rates["job"].append(result["ecg_per_s"])
            shown = {n: round(r[-1], 1) for n, r in rates.items()}
            say(f"round {k + 1}: ECG/s {shown}\n")
        before = in_process("bare", seconds, batch), in_process("engine", seconds, batch)
        big = run_job(folder / "large", folder / "run-large", batch)
        after = in_process("bare", seconds, batch), in_process("engine", seconds, batch)
    median = {n: statistics.median(r) for n, r in rates.items()}
    bare_then = statistics.mean([before[0], after[0]])
    engine_then = statistics.mean([before[1], after[1]])
    say(
        f"\nmedian of {rounds} rounds, batch {batch}, {os.cpu_count()} cores\n"
        f"  bare compiled model, one caller, default threads  {median['bare']:8.1f} ECG/s  1.00\n"
        f"  our predictor alone, one thread per core          {median['engine']:8.1f} ECG/s  "
        f"{median['engine'] / median['bare']:.2f}\n"
        f"  whole score job, {small} ECGs from Parquet          {median['job']:8.1f} ECG/s  "
        f"{median['job'] / median['bare']:.2f}\n"
        f"  model.predict, one ECG at a time                  {median['loop']:8.1f} ECG/s  "
        f"{median['loop'] / median['bare']:.2f}\n"
        f"whole score job, {large} ECGs: {big['ecg_per_s']:.1f} ECG/s, "
        f"{big['ecg_per_s'] / bare_then:.2f} of the bare model and "
        f"{big['ecg_per_s'] / engine_then:.2f} of our predictor alone around it\n"
        f"start-up, not counted above: {big['startup_s']:.1f} s\n"
        f"peak memory: {small} ECGs {result['peak_rss_mb']:.0f} MB, "
        f"{large} ECGs {big['peak_rss_mb']:.0f} MB\n"
    )


def main() -> None:
    """Run a comparison, or one measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", choices=MEASURES)
    parser.add_argument("--small", type=int, default=1000)
    parser.add_argument("--large", type=int, default=10000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--batch", type=int, default=16)
    args = parser.parse_args()
    if args.measure:
        sys.stdout.write(f"{MEASURES[args.measure](args.seconds, args.batch)}\n")
        return
    sys.stdout.write(f"peak of this process before: {_own_peak_mb():.0f} MB\n")
    compare(args.small, args.large, args.rounds, args.seconds, args.batch)


def _own_peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
