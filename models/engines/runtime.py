"""TensorFlow itself: imported late and in one place, quietly, with a fixed use of threads."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from lvm_core.errors import LvmError
from models.engines.cpu import available_cores, memory_limits

INTRA_OP_THREADS: Final = 1
"""Threads inside one operation. One, so that results do not depend on the number of cores."""

_QUIET: Final = "1"  # hides TensorFlow's INFO lines; warnings and errors still show

# What TensorFlow takes beside Python, numpy and Beam with one of the published networks, MB:
# measured 1,550 of addresses, 510 in the data segment and 550 resident.
_ADDRESS_MB: Final = 1700.0
_MEMORY_MB: Final = 600.0

_STDERR: Final = 2
_CHATTER: Final = (b"absl::InitializeLog()", b"oneDNN custom operations are on")


@dataclass(frozen=True, slots=True)
class Threads:
    """How TensorFlow uses threads: inside one operation, and across operations."""

    intra_op: int
    inter_op: int


def import_tensorflow() -> Any:
    """Import TensorFlow without its start-up chatter and return the module.

    Imported when called, not with this module: it takes seconds that commands which predict
    nothing must not pay, and `TF_CPP_MIN_LOG_LEVEL` has to be set before (a value that is
    already set is kept).

    Raises:
        LvmError: a limit of this process leaves it too little memory.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", _QUIET)
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    require_memory_for_tensorflow()
    with _without_chatter():
        return import_module("tensorflow")


def require_memory_for_tensorflow() -> None:
    """Refuse to start TensorFlow under a limit at which it aborts; nothing once it has started.

    Raises:
        LvmError: a limit of this process leaves it too little memory.
    """
    if "tensorflow" in sys.modules:
        return
    for limit in memory_limits():
        more_mb = _ADDRESS_MB if limit.counts_addresses else _MEMORY_MB
        if limit.left_mb < more_mb:
            raise LvmError(f"TensorFlow needs {more_mb / 1000:.1f} GB more, and {limit}. Raise the limit")


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Drop the lines that TensorFlow's libraries write about themselves, and pass on all others.

    They come from C++ before any log level counts, so the descriptor itself is held back for the
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
    """Import Keras and return the module.

    Raises:
        LvmError: Keras is set to compute with something else than TensorFlow.
    """
    import_tensorflow()
    import keras

    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise LvmError(
            f"Keras computes with {backend!r}, expected 'tensorflow'; unset KERAS_BACKEND and check ~/.keras/keras.json"
        )
    return keras


def configure_threads(inter_op: int | None = None) -> Threads:
    """Fix TensorFlow's threads for this process: one inside an operation, `inter_op` across.

    May be called again with the same value. Each prediction then computes on one thread, and
    cores are used by predicting several batches at once.

    Args:
        inter_op: operations that may run at once, usually the number of cores, 1 or more. None
            takes the cores of this process, or what an earlier call has set.

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
        threading.set_intra_op_parallelism_threads(INTRA_OP_THREADS)
        threading.set_inter_op_parallelism_threads(wanted)
    except RuntimeError as error:
        raise LvmError(
            "TensorFlow has already started in this process with intra_op="
            f"{threading.get_intra_op_parallelism_threads()} and inter_op="
            f"{threading.get_inter_op_parallelism_threads()} threads, expected intra_op="
            f"{INTRA_OP_THREADS} and inter_op={wanted}; call configure_threads before anything "
            "else uses TensorFlow"
        ) from error
    return Threads(INTRA_OP_THREADS, wanted)


def onednn_enabled() -> bool | None:
    """Return whether TensorFlow uses oneDNN kernels; None when this version does not tell."""
    import_tensorflow()
    from tensorflow.python.util import _pywrap_util_port  # not public, but nothing public tells

    tell = getattr(_pywrap_util_port, "IsMklEnabled", None)
    return None if tell is None else bool(tell())
