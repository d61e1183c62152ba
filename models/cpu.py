"""The machine: cores and memory that this process may use, and which vector instructions it has."""

from __future__ import annotations

import math
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
_MEMINFO: Final = Path("/proc/meminfo")
_OWN_CGROUP: Final = Path("/proc/self/cgroup")
_CGROUPS: Final = Path("/sys/fs/cgroup")


def available_cores(own: Path = _OWN_CGROUP, cgroups: Path = _CGROUPS) -> int:
    """Return the number of cores that this process may use, 1 or more.

    A container's or job's share of processor time (`cpu.max` of its control groups, version 2)
    counts as that many cores, rounded up.

    Args:
        own: file that names the process's control group.
        cgroups: where control groups are.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    for text in _limits("cpu.max", own, cgroups):
        quota, _, period = text.partition(" ")
        if quota.isdecimal() and period.isdecimal() and int(period):
            cores = min(cores, max(1, math.ceil(int(quota) / int(period))))
    return cores


def available_memory_mb(
    meminfo: Path = _MEMINFO, own: Path = _OWN_CGROUP, cgroups: Path = _CGROUPS
) -> float | None:
    """Return the memory that this process could still take, MB; None where it is not known.

    Args:
        meminfo: the system's own account.
        own: file that names the process's control group; its limit counts in full.
        cgroups: where control groups are.
    """
    found = []
    for line in _read(meminfo).splitlines():
        if line.startswith("MemAvailable:"):
            found.append(int(line.split()[1]) * 1024 / 1e6)
    found += [int(text) / 1e6 for text in _limits("memory.max", own, cgroups) if text.isdecimal()]
    return min(found, default=None)


def _limits(name: str, own: Path, cgroups: Path) -> list[str]:
    """Return a limit as the process's control group and those around it state it."""
    groups = [line.split(":", 2)[2] for line in _read(own).splitlines() if line.startswith("0::")]
    inside = Path(groups[0].lstrip("/")) if groups else Path()
    folders = [cgroups / inside, *(cgroups / parent for parent in inside.parents)]
    return [text for folder in folders if (text := _read(folder / name).strip())]


def _read(path: Path) -> str:
    """Return the text of a file of the system; nothing where there is no such file to read."""
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def instruction_set() -> str:
    """Return architecture and vector extensions, for example `x86_64+avx+avx2+fma`.

    Only the architecture where the system does not list the extensions (outside Linux).
    """
    return instruction_set_from(platform.machine(), _read(_CPUINFO))


def instruction_set_from(machine: str, cpuinfo: str) -> str:
    """Return `machine` and the vector extensions that the text of /proc/cpuinfo names."""
    flags: set[str] = set()
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            flags = set(value.split())
            break
    return "+".join([machine, *(name for flag, name in _EXTENSIONS if flag in flags)])
