"""Graphics processors: is one there, and which of them this process uses."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from lvm_core.errors import LvmError
from models.engines.runtime import import_tensorflow

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
"""Environment variable of the driver: which GPUs a process sees; it renumbers them from 0."""

_DEV: Final = Path("/dev")
_DRIVER_FILES: Final = ("nvidia[0-9]*", "dxg", "kfd")  # NVIDIA; NVIDIA under WSL; AMD


class Device(StrEnum):
    """Where a model is computed."""

    CPU = "cpu"
    GPU = "gpu"


def may_have_gpu(environment: Mapping[str, str] = os.environ, dev: Path = _DEV) -> bool:
    """Tell whether a GPU may be visible, without TensorFlow: a driver's device is there.

    Args:
        environment: of the process.
        dev: folder of devices.
    """
    if environment.get(VISIBLE, "0").strip() in ("", "-1"):
        return False
    return any(True for pattern in _DRIVER_FILES for _ in dev.glob(pattern))


def visible_gpus(may_have: Callable[[], bool] = may_have_gpu) -> list[str]:
    """Return the GPUs that TensorFlow sees; asks it only where a driver is there.

    Args:
        may_have: tells whether it is worth asking.
    """
    if not may_have():
        return []
    return [device.name for device in import_tensorflow().config.list_physical_devices("GPU")]


def require_gpu(gpus: Sequence[Any]) -> None:
    """Refuse to go on without a GPU.

    Raises:
        LvmError: there is none among those that are visible.
    """
    if not gpus:
        raise LvmError(
            "a GPU is asked for, but TensorFlow sees none; expected a driver (nvidia-smi), "
            f"tensorflow with CUDA (pip show tensorflow) and {VISIBLE} unset or naming a GPU. "
            "Nothing is computed on the CPU instead: --device cpu does that"
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
