"""Worker processes share the GPUs of a machine: each takes one that no other has."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final

from lvm_core.errors import LvmError
from models.machine.runtime import VISIBLE, may_have_gpu

_DEV: Final = Path("/dev")
_held: list[IO[bytes]] = []


def gpu_names(environment: Mapping[str, str], dev: Path = _DEV) -> list[str]:
    """Return the GPUs that a process with this environment may use, without starting TensorFlow."""
    if VISIBLE in environment:
        return [name.strip() for name in environment[VISIBLE].split(",") if name.strip()]
    numbers = sorted(int(digits) for path in dev.glob("nvidia[0-9]*") if (digits := path.name[6:]).isdecimal())
    return [str(number) for number in numbers] or (["0"] if may_have_gpu(environment, dev) else [])


def claim_gpu(folder: Path | None = None) -> str:
    """Take a free GPU for this process, let TensorFlow see it alone, and return its name.

    A lock on a file stands for each GPU; it ends with the process, however that ends. `folder` is
    where these files are: all workers of a machine must use the same one (default: one of this
    user in the folder of temporary files).

    Raises:
        LvmError: this machine shows no GPU, or other workers have taken all.
    """
    names = gpu_names(os.environ)
    if not names:
        raise LvmError("the run computes on a GPU, and this worker sees none; check the driver and the image")
    folder = folder or Path(tempfile.gettempdir()) / f"lvm-ai-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in names:
        lock = (folder / f"{name}.lock").open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        _held.append(lock)
        os.environ[VISIBLE] = name
        return name
    raise LvmError(f"other workers have taken all {len(names)} GPUs of this machine; start one worker process per GPU")
