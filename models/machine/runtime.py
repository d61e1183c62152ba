"""TensorFlow itself: imported late and quietly, with a fixed use of threads, on a CPU or a GPU."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from lvm_core.errors import LvmError
from models.machine.host import available_cores, memory_limits

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
"""Environment variable of the driver: which GPUs a process sees; it renumbers them from 0."""

# Threads inside one operation. One, so that results do not depend on the number of cores.
_INTRA_OP_THREADS: Final = 1
# What TensorFlow takes beside Python, numpy and Beam with one of the published networks, MB:
# measured 1,550 of addresses, 510 in the data segment and 550 resident.
_ADDRESS_MB: Final = 1700.0
_MEMORY_MB: Final = 600.0

_QUIET: Final = "1"  # hides TensorFlow's INFO lines; warnings and errors still show
_STDERR: Final = 2
# Keras reads settings from its folder and makes it: in the home folder, or in /tmp, where any user
# of the machine could lay a file that changes how numbers are computed. No folder can be here.
_NO_KERAS_FOLDER: Final = os.devnull
_CHATTER: Final = (b"absl::InitializeLog()", b"oneDNN custom operations are on")

_DEV: Final = Path("/dev")
_DRIVER_FILES: Final = ("nvidia[0-9]*", "dxg", "kfd")  # NVIDIA; NVIDIA under WSL; AMD


def import_tensorflow() -> Any:
    """Import TensorFlow without its start-up chatter and return the module.

    It is not imported with this module, because commands that predict nothing must not pay the
    seconds that it takes, and because `TF_CPP_MIN_LOG_LEVEL` and `KERAS_HOME` have to be set before
    (a value that is already set is kept).

    Raises:
        LvmError: a limit of this process leaves it too little memory.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", _QUIET)
    os.environ.setdefault("KERAS_HOME", _NO_KERAS_FOLDER)
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    require_memory_for_tensorflow()
    with _without_chatter():
        return import_module("tensorflow")


def require_memory_for_tensorflow() -> None:
    """Raise `LvmError` where a limit of this process would make TensorFlow abort at its start."""
    if "tensorflow" in sys.modules:
        return
    for limit in memory_limits():
        more_mb = _ADDRESS_MB if limit.counts_addresses else _MEMORY_MB
        if limit.left_mb < more_mb:
            raise LvmError(f"TensorFlow needs {more_mb / 1000:.1f} GB more, and {limit}. Raise the limit")


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Drop the lines that TensorFlow's libraries write about themselves, and pass on all others.

    They come from C++ before any log level counts, so standard error itself is held back for the
    seconds of the import.
    """
    sys.stderr.flush()
    kept = os.dup(_STDERR)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(kept, _STDERR)
            os.close(kept)
            held.seek(0)
            for line in held:
                if not any(mark in line for mark in _CHATTER):
                    os.write(_STDERR, line)


def import_keras() -> Any:
    """Import Keras and return the module; raise `LvmError` unless it computes with TensorFlow."""
    import_tensorflow()
    import keras

    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise LvmError(f"Keras computes with {backend!r}, expected 'tensorflow'; unset KERAS_BACKEND and KERAS_HOME")
    return keras


@dataclass(frozen=True, slots=True)
class Threads:
    """How TensorFlow uses threads: inside one operation, and across operations."""

    intra_op: int
    inter_op: int


def configure_threads(inter_op: int | None = None) -> Threads:
    """Fix TensorFlow's threads for this process: one inside an operation, `inter_op` across.

    Call it before anything is loaded; it may be called again with the same value. Each prediction
    then computes on one thread, and cores are used by predicting several batches at once.

    Args:
        inter_op: operations that may run at once, usually the number of cores, 1 or more. None
            takes what an earlier call has set, or else the cores of this process.

    Returns:
        The threads in force.

    Raises:
        ValueError: `inter_op` is below 1.
        LvmError: TensorFlow has already started with other threads.
    """
    if inter_op is not None and inter_op < 1:
        raise ValueError(f"inter_op is {inter_op} threads, expected 1 or more")
    threading = import_tensorflow().config.threading
    wanted = inter_op or threading.get_inter_op_parallelism_threads() or available_cores()
    try:
        threading.set_intra_op_parallelism_threads(_INTRA_OP_THREADS)
        threading.set_inter_op_parallelism_threads(wanted)
    except RuntimeError as error:
        raise LvmError(
            "TensorFlow has already started in this process with intra_op="
            f"{threading.get_intra_op_parallelism_threads()} and inter_op="
            f"{threading.get_inter_op_parallelism_threads()} threads, expected intra_op="
            f"{_INTRA_OP_THREADS} and inter_op={wanted}; call configure_threads before anything "
            "else uses TensorFlow"
        ) from error
    return Threads(_INTRA_OP_THREADS, wanted)


def tensorflow_description() -> dict[str, Any]:
    """Return what fixes the bits of TensorFlow's results: versions, kernels and threads."""
    tf = import_tensorflow()
    return {
        "tensorflow": str(tf.__version__),
        "keras": str(import_keras().__version__),
        "onednn": _onednn_enabled(),
        "intra_op_threads": int(tf.config.threading.get_intra_op_parallelism_threads()),
    }


def _onednn_enabled() -> bool | None:
    """Return whether TensorFlow uses oneDNN kernels; None where this version does not say."""
    from tensorflow.python.util import _pywrap_util_port  # there is no public way to ask

    is_enabled = getattr(_pywrap_util_port, "IsMklEnabled", None)
    return None if is_enabled is None else bool(is_enabled())


class Device(StrEnum):
    """Where a model is computed."""

    CPU = "cpu"
    GPU = "gpu"


def may_have_gpu(environment: Mapping[str, str] = os.environ, dev: Path = _DEV) -> bool:
    """Return whether a driver's device exists and is not hidden; does not need TensorFlow."""
    if environment.get(VISIBLE, "0").strip() in ("", "-1"):
        return False
    return any(True for pattern in _DRIVER_FILES for _ in dev.glob(pattern))


def visible_gpus() -> list[str]:
    """Return the GPUs that TensorFlow sees; imports it only where a driver is there."""
    if not may_have_gpu():
        return []
    return [device.name for device in import_tensorflow().config.list_physical_devices("GPU")]


def require_gpu(gpus: Sequence[Any]) -> None:
    """Raise `LvmError` unless a GPU is visible."""
    if not gpus:
        raise LvmError(
            "a GPU is asked for, but TensorFlow sees none; expected a driver (nvidia-smi), "
            f"tensorflow with CUDA (pip show tensorflow) and {VISIBLE} unset or naming a GPU. "
            "The CPU is not used instead; ask for it with --device cpu"
        )


def use_device(device: Device) -> None:
    """Let TensorFlow compute on the GPU, or keep it off all GPUs; before it computes anything.

    A GPU's memory is then taken as it is needed, not all at once.

    Raises:
        LvmError: a GPU is asked for and TensorFlow sees none, or it has already started.
    """
    config: Any = import_tensorflow().config
    gpus = config.list_physical_devices("GPU")
    if device is Device.GPU:
        require_gpu(gpus)
    try:
        if device is Device.CPU and gpus:
            config.set_visible_devices([], "GPU")
        for gpu in gpus if device is Device.GPU else []:
            config.experimental.set_memory_growth(gpu, True)
    except RuntimeError as error:
        raise LvmError(
            f"TensorFlow has already started in this process ({error}); choose the device before anything else uses it"
        ) from error
