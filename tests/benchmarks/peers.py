"""How others score a model over Parquet: each peer a function, each run a process of its own.

Every peer reads the same canonical Parquet, feeds the same Keras model and writes a Parquet of ids
and masses the way its documentation shows. `READY` is said once the model is there and warm.
"""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from packaging.version import Version

# As the model takes them; written out, because a peer knows nothing of our package.
LEADS = ["I", "II", "III", "V1", "V2", "V3", "V4", "V5", "V6", "aVF", "aVL", "aVR"]
N_SAMPLES = 5000


def say(word: str) -> None:
    """Tell the watcher."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def tensor(batch: Any) -> NDArray[np.float32]:
    """Return (n, 5000, 12) float32 of some rows, as a script would make it."""
    leads = [np.stack(batch.column(lead).to_numpy(zero_copy_only=False)) for lead in LEADS]
    counts = np.stack(leads, axis=2).astype(np.float32)
    steps = batch.column("uv_per_count").to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(counts * (steps[:, None, None] / 10000), dtype=np.float32)


def batches(data: Path, size: int) -> Iterator[Any]:
    """Yield record batches of all files."""
    for path in sorted(data.glob("*.parquet")):
        yield from pq.ParquetFile(path).iter_batches(size, columns=["ecg_id", "uv_per_count", *LEADS])


def write(output: Path, ids: list[str], z: Any) -> None:
    """Write ids and masses."""
    mass = 24.80 * np.asarray(z, dtype=np.float64).reshape(-1) + 89.70
    pq.write_table(pa.table({"ecg_id": ids, "lvm_pred_g": mass}), output / "predictions.parquet")


def _keras(model: Path) -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    return keras.models.load_model(model, compile=False)


def loop(data: Path, model: Path, output: Path) -> None:
    """`model.predict` with one ECG at a time, as published scripts do."""
    network = _keras(model)
    network.predict(np.zeros((1, N_SAMPLES, 12), dtype=np.float32), verbose=0)
    say("READY")
    ids, z = [], []
    for batch in batches(data, 1):
        z.append(network.predict(tensor(batch), verbose=0))
        ids += batch.column("ecg_id").to_pylist()
    write(output, ids, np.concatenate(z))
    say(f"DONE {len(ids)}")


def tf_data(data: Path, model: Path, output: Path) -> None:
    """`model.predict` over a tf.data pipeline with batches of 64 and prefetching."""
    network = _keras(model)
    import tensorflow as tf

    network.predict(np.zeros((64, N_SAMPLES, 12), dtype=np.float32), verbose=0)
    ids: list[str] = []

    def rows() -> Iterator[Any]:
        for batch in batches(data, 64):
            ids.extend(batch.column("ecg_id").to_pylist())
            yield from tensor(batch)

    signature = tf.TensorSpec((N_SAMPLES, 12), tf.float32)
    data_set = tf.data.Dataset.from_generator(rows, output_signature=signature)
    say("READY")
    z = network.predict(data_set.batch(64).prefetch(tf.data.AUTOTUNE), verbose=0)
    write(output, ids, z)
    say(f"DONE {len(ids)}")


def run_inference(data: Path, model: Path, output: Path) -> None:
    """Beam's RunInference with its stock TensorFlow handler, on Beam's in-memory runner."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # The handler imports tensorflow_hub, which asks for a module that setuptools no longer has.
    sys.modules.setdefault("pkg_resources", types.SimpleNamespace(parse_version=Version))  # type: ignore[arg-type]
    import apache_beam as beam
    from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
    from apache_beam.ml.inference.tensorflow_inference import ModelType, TFModelHandlerNumpy
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    handler = KeyedModelHandler(
        TFModelHandlerNumpy(str(model), model_type=ModelType.SAVED_MODEL, load_model_args={"compile": False})
    )
    schema = pa.schema([("ecg_id", pa.string()), ("lvm_pred_g", pa.float64())])

    def keyed(table: pa.Table) -> Iterator[tuple[str, Any]]:
        for batch in table.to_batches(64):
            yield from zip(batch.column("ecg_id").to_pylist(), tensor(batch), strict=True)

    def row(item: Any) -> dict[str, Any]:
        return {"ecg_id": item[0], "lvm_pred_g": 24.80 * float(item[1].inference[0]) + 89.70}

    say("READY")  # the model is loaded by the pipeline itself: its seconds are in the run
    pipeline = beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([]))
    columns = ["ecg_id", "uv_per_count", *LEADS]
    _ = (
        pipeline
        | beam.io.ReadFromParquetBatched(f"{data}/*.parquet", columns=columns)
        | beam.FlatMap(keyed)
        | RunInference(handler)
        | beam.Map(row)
        | beam.io.WriteToParquet(f"{output}/predictions", schema, file_name_suffix=".parquet")
    )
    pipeline.run().wait_until_finish()
    say(f"DONE {sum(pq.read_metadata(p).num_rows for p in output.glob('*.parquet'))}")


class _Actor:
    """The model in an actor of Ray Data."""

    def __init__(self, model: str) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import keras
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        network = keras.models.load_model(model, compile=False)
        self._graph = tf.function(lambda ecg: network(ecg, training=False))

    def __call__(self, batch: pa.Table) -> pa.Table:
        one = batch.combine_chunks().to_batches()[0]
        z = np.asarray(self._graph(tensor(one))).reshape(-1)
        mass = 24.80 * z.astype(np.float64) + 89.70
        return pa.table({"ecg_id": one.column("ecg_id"), "lvm_pred_g": mass})


def ray_data(data: Path, model: Path, output: Path) -> None:
    """Ray Data's `map_batches` with a pool of actors, one per core, batches of 64."""
    import ray

    cores = len(os.sched_getaffinity(0))
    ray.init(
        num_cpus=cores + 1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        object_store_memory=1 << 30,
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    say("READY")  # the actors load the model within the run
    read = ray.data.read_parquet(str(data), columns=["ecg_id", "uv_per_count", *LEADS])
    scored = read.map_batches(
        _Actor,
        fn_constructor_args=(str(model),),
        batch_size=64,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=cores),
        num_cpus=1,
    )
    scored.write_parquet(str(output))
    say(f"DONE {sum(pq.read_metadata(p).num_rows for p in output.glob('*.parquet'))}")
    ray.shutdown()


def _onnx_loop(data: Path, output: Path, run: Callable[[Any], Any]) -> None:
    run(np.zeros((32, N_SAMPLES, 12), dtype=np.float32))
    say("READY")
    ids, z = [], []
    for batch in batches(data, 32):
        z.append(np.asarray(run(tensor(batch))).reshape(-1))
        ids += batch.column("ecg_id").to_pylist()
    write(output, ids, np.concatenate(z))
    say(f"DONE {len(ids)}")


def onnxruntime(data: Path, model: Path, output: Path) -> None:
    """Onnxruntime on the exported graph, batches of 32, one thread per core inside operations."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = ort.InferenceSession(str(model.with_suffix(".onnx")), options)
    name = session.get_inputs()[0].name
    _onnx_loop(data, output, lambda ecg: session.run(None, {name: ecg})[0])


def openvino(data: Path, model: Path, output: Path) -> None:
    """OpenVINO on the exported graph in float32, batches of 32, its hint for throughput."""
    import openvino as ov

    core = ov.Core()
    compiled = core.compile_model(
        str(model.with_suffix(".onnx")),
        "CPU",
        # Without the second one it computes in bfloat16 where the processor can, 0.2 g off.
        {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"},
    )
    _onnx_loop(data, output, lambda ecg: compiled(ecg)[0])


PEERS: dict[str, Callable[[Path, Path, Path], None]] = {
    function.__name__: function for function in (loop, tf_data, run_inference, ray_data, onnxruntime, openvino)
}


def main() -> None:
    """Run one peer: NAME DATA MODEL OUTPUT."""
    name, data, model, output = sys.argv[1:5]
    Path(output).mkdir(parents=True, exist_ok=True)
    PEERS[name](Path(data), Path(model), Path(output))


if __name__ == "__main__":
    main()
