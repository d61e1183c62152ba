"""How fast is a GPU with the published graph, and can the job feed it? With any backend of Keras.

TensorFlow cannot be installed on every machine with a GPU. The graph is Keras's, and everything
that feeds it (reader, checks, batches, two batches under way) is the job's own code; only the
compiled function in between is another one. Prints figures, asserts nothing.

    KERAS_BACKEND=jax python -m tests.benchmarks.bench_gpu --data FOLDER_OF_SIMULATED_PARQUET
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import models.machine.runtime
from beam_jobs.reading.units import cut_units
from beam_jobs.run.exclusions import Exclusions
from beam_jobs.run.planner import find_inputs
from beam_jobs.run.settings import InputSettings, ScoreSettings
from beam_jobs.scoring.unit import ScoreContext
from lvm_core.signal.ecg import LEADS_12, MODEL_LEADS, order_indices
from models.catalogue.spec import LVM_G, InputRole, Predictions, PredictorInputs, input_roles
from models.engines.tensorflow_engine import Features

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "tf21"
ORDER = order_indices(LEADS_12, MODEL_LEADS)
MODELS = {"ecg_only": "lvm_ai_ecg_only_tf21", "full": "lvm_ai_age_sex_bmi_tf21"}


def import_keras() -> Any:
    """Import Keras with whatever backend the environment names."""
    import keras

    return keras


def read_model(name: str, mixed: bool) -> Any:
    """Return one of the golden models, hidden layers in float16 where asked."""
    keras = import_keras()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{MODELS[name]}.h5"
        path.write_bytes(lzma.decompress((GOLDEN / f"{path.name}.xz").read_bytes()))
        model = keras.models.load_model(path, compile=False)
    model = keras.Model(list(model.inputs), list(model.outputs))
    if not mixed:
        return model
    heads = set(model.output_names)

    def clone(layer: Any) -> Any:
        config = layer.get_config()
        if layer.name not in heads and not isinstance(layer, keras.layers.InputLayer):
            config["dtype"] = "mixed_float16"
        return type(layer).from_config(config)

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy


class BackendEngine:
    """The Keras graph with casting, scaling and reordering on the device, in front of it."""

    def __init__(self, name: str, *, mixed: bool) -> None:
        self._model = read_model(name, mixed)
        self._names = [tensor.name for tensor in self._model.inputs]
        self._roles = input_roles(tuple(self._names))
        backend = import_keras().backend.backend()
        self._run = {"jax": self._with_jax, "torch": self._with_torch}[backend]()

    def compute(
        self, counts: NDArray[np.int16], counts_per_unit: NDArray[np.float32], features: Features
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Run one batch; as `models.engines.tensorflow_engine.TensorFlowEngine`."""
        given = {self._roles[role]: values for role, values in features.items()}
        return self._run(counts, counts_per_unit, given)

    def _with_jax(self) -> Any:
        import jax
        import jax.numpy as jnp

        jax.config.update("jax_default_matmul_precision", "highest")  # no TF32
        weights = (
            [v.value for v in self._model.trainable_variables],
            [v.value for v in self._model.non_trainable_variables],
        )

        @jax.jit
        def graph(weights: Any, counts: Any, per_unit: Any, given: Any) -> Any:
            ecg = counts[:, ORDER].astype(jnp.float32).transpose(0, 2, 1) / per_unit[:, None, None]
            feeds = [{self._roles[InputRole.ECG]: ecg, **given}[name] for name in self._names]
            outputs, _ = self._model.stateless_call(*weights, feeds, training=False)
            return outputs if isinstance(outputs, list | tuple) else [outputs]

        def run(counts: Any, per_unit: Any, given: Any) -> Any:
            outputs = [np.asarray(one) for one in graph(weights, counts, per_unit, given)]
            return outputs[0][:, 0], (outputs[1][:, 1] if len(outputs) > 1 else None)

        return run

    def _with_torch(self) -> Any:
        import torch

        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model.to(device)
        order = torch.as_tensor(ORDER, device=device)

        def run(counts: Any, per_unit: Any, given: Any) -> Any:
            with torch.no_grad():
                on_device = torch.as_tensor(counts).to(device)
                scale = torch.as_tensor(per_unit).to(device)[:, None, None]
                ecg = on_device[:, order].to(torch.float32).permute(0, 2, 1) / scale
                given = {k: torch.as_tensor(v).to(device) for k, v in given.items()}
                feeds = [{self._roles[InputRole.ECG]: ecg, **given}[name] for name in self._names]
                results = self._model(feeds, training=False)
                listed = results if isinstance(results, list | tuple) else [results]
                outputs = [one.float().cpu().numpy() for one in listed]
            return outputs[0][:, 0], (outputs[1][:, 1] if len(outputs) > 1 else None)

        return run


class BackendPredictor:
    """What the job needs of a predictor, around a `BackendEngine` of the ECG-only graph."""

    needs_demographics = False

    def __init__(self, engine: BackendEngine, batch: int, spec: Any) -> None:
        self._engine, self.batch_size, self.spec = engine, batch, spec

    def predict_batch(self, counts: Any, uv_per_count: Any) -> Predictions:
        """Predict one batch, padded to its size."""
        inputs = PredictorInputs(counts, uv_per_count)
        padded = np.zeros((self.batch_size, *counts.shape[1:]), dtype=np.int16)
        per_unit = np.ones(self.batch_size, dtype=np.float32)
        padded[: inputs.n_ecgs] = counts
        per_unit[: inputs.n_ecgs] = np.float32(10000) / uv_per_count
        lvm_z, _ = self._engine.compute(padded, per_unit, {})
        lvm_g = lvm_z[: inputs.n_ecgs] * np.float32(LVM_G.sd) + np.float32(LVM_G.mean)
        return Predictions(lvm_g, np.full(inputs.n_ecgs, np.nan, dtype=np.float32))

    def engine_description(self) -> dict[str, Any]:
        """Return the name of the backend."""
        return {"engine": f"keras on {import_keras().backend.backend()}"}


def golden_inputs(name: str) -> tuple[Any, Any, dict[InputRole, Any], NDArray[np.float32]]:
    """Return counts, counts per unit, features and TensorFlow 2.1.0's z of the golden ECGs."""
    with np.load(GOLDEN / "lvm_ai_tf21_golden.npz") as data:
        counts = np.ascontiguousarray(data["counts"].transpose(0, 2, 1))
        back = np.argsort(ORDER)
        z = data["full_lvm_z" if name == "full" else "ecg_only_lvm_z"].reshape(-1)
        features = {
            InputRole.AGE: ((data["age_years"] - 63.35798891483556) / 7.554638350423902)[:, None],
            InputRole.SEX: np.eye(2)[data["male"].astype(int)],
            InputRole.BMI: ((data["bmi_kg_m2"] - 27.3397) / 4.77216)[:, None],
        }
    features = {k: v.astype(np.float32) for k, v in features.items()} if name == "full" else {}
    return counts[:, back], np.full(len(z), 2000, dtype=np.float32), features, z


def rates(engine: BackendEngine, name: str, batch: int, seconds: float) -> dict[str, float]:
    """Return ECGs per second with one and with two batches under way."""
    counts, per_unit, features, _ = golden_inputs(name)
    rows = np.arange(batch) % len(counts)
    given = counts[rows], per_unit[rows], {k: v[rows] for k, v in features.items()}
    engine.compute(*given)
    found = {}
    for n_callers in (1, 2):
        started = time.perf_counter()
        end = started + seconds

        def work(_: int) -> int:
            n = 0
            while time.perf_counter() < end:  # noqa: B023 - called before the next round
                engine.compute(*given)
                n += batch
            return n

        with ThreadPoolExecutor(n_callers) as pool:
            n_ecgs = sum(pool.map(work, range(n_callers)))
        found[f"{n_callers} under way"] = round(n_ecgs / (time.perf_counter() - started), 1)
    return found


def fed(engine: BackendEngine, data: Path, batch: int, units_at_once: int) -> dict[str, float]:
    """Score Parquet with the job's own code and return what it reports."""
    from models.catalogue.known import EMBEDDED_MODELS

    inputs = find_inputs(InputSettings(inputs=(str(data),)))
    units = list(cut_units(inputs.pieces, unit_ecgs=1024, first_number=0, settings_sha256=""))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as executor:
        for name in ("predictions", "rejects"):
            (Path(folder) / name).mkdir()
        settings = ScoreSettings(inputs=inputs.roots, output=folder)
        context = ScoreContext(
            settings,
            settings.reader(inputs.roots),
            [BackendPredictor(engine, batch, EMBEDDED_MODELS[1])],
            executor,
            3,
            None,
            Exclusions(),
            {},
        )
        started = time.perf_counter()
        with ThreadPoolExecutor(units_at_once) as pool:
            summaries = list(pool.map(lambda unit: context.begin(unit)(), units))
        elapsed_s = time.perf_counter() - started
    stages = {
        stage: round(sum(one.stage_s[stage] for one in summaries) / units_at_once / elapsed_s, 3)
        for stage in ("reader_wait", "engine_wait", "writer_wait")
    }
    n_ecgs = sum(one.n_read for one in summaries)
    return {"ecg_per_s": round(n_ecgs / elapsed_s, 1), "n": n_ecgs, **stages}


def main() -> None:
    """Measure and print JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of Parquet of lvm-ai simulate --parquet")
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--precisions", nargs="+", default=["float32", "mixed"])
    parser.add_argument("--seconds", type=float, default=2.0)
    args = parser.parse_args()
    models.machine.runtime.import_keras = import_keras
    backend = os.environ.get("KERAS_BACKEND")
    for name in args.models:
        for precision in args.precisions:
            engine = BackendEngine(name, mixed=precision == "mixed")
            counts, per_unit, features, z = golden_inputs(name)
            off_g = float(np.abs(engine.compute(counts, per_unit, features)[0] - z).max()) * LVM_G.sd
            about = {"backend": backend, "model": name, "precision": precision}
            _say({**about, "off_golden_g": float(f"{off_g:.3g}")})
            for batch in args.batches:
                _say({**about, "batch": batch, **rates(engine, name, batch, args.seconds)})
            if args.data is not None and name == "ecg_only":
                for units_at_once in (1, 2, 4, 8):
                    batch = args.batches[-2] if len(args.batches) > 1 else args.batches[0]
                    timings = fed(engine, args.data, batch, units_at_once)
                    _say({**about, "job": "fed", "units_at_once": units_at_once, "batch": batch, **timings})


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(line)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
