"""The processor: how many cores this process may use, and which vector instructions it has."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Final

# Extensions that change which kernels a numerical library picks, and so the last bits.
_EXTENSIONS: Final = (
    ("sse4_2", "sse4.2"),
    ("avx", "avx"),
    ("avx2", "avx2"),
    ("fma", "fma"),
    ("avx512f", "avx512f"),
    ("avx512_vnni", "avx512_vnni"),
    ("avx512_bf16", "avx512_bf16"),
    ("amx_tile", "amx"),
    ("asimd", "asimd"),
    ("sve", "sve"),
)
_CPUINFO: Final = Path("/proc/cpuinfo")


def available_cores() -> int:
    """Return the number of cores that this process may run on, 1 or more."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def instruction_set() -> str:
    """Return architecture and vector extensions, for example `x86_64+avx+avx2+fma`.

    Only the architecture where the system does not list the extensions (outside Linux).
    """
    text = _CPUINFO.read_text(encoding="utf-8", errors="replace") if _CPUINFO.is_file() else ""
    return instruction_set_from(platform.machine(), text)


def instruction_set_from(machine: str, cpuinfo: str) -> str:
    """Return `machine` and the vector extensions that the text of /proc/cpuinfo names."""
    flags: set[str] = set()
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            flags = set(value.split())
            break
    return "+".join([machine, *(name for flag, name in _EXTENSIONS if flag in flags)])
