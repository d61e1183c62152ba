"""What the system gives this process: cores, memory and its limits, vector instructions."""

from __future__ import annotations

import math
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Final

try:
    import resource
except ImportError:  # not on every system
    resource = None  # type: ignore[assignment]

_CPUINFO: Final = Path("/proc/cpuinfo")
_MEMINFO: Final = Path("/proc/meminfo")
_OWN_CGROUP: Final = Path("/proc/self/cgroup")
_OWN_STATUS: Final = Path("/proc/self/status")
_CGROUPS: Final = Path("/sys/fs/cgroup")

# Extensions that change which kernels a numerical library picks, and so the last bits; two are
# known by other names than the flags of /proc/cpuinfo.
_EXTENSIONS: Final = "sse4_2 avx avx2 fma avx512f avx512_vnni avx512_bf16 amx_tile asimd sve".split()
_EXTENSION_NAMES: Final = {"sse4_2": "sse4.2", "amx_tile": "amx"}
# A limit of the process (its name in `resource`), what counts towards it, and how a shell sets it.
_OWN_LIMITS: Final = (
    ("RLIMIT_AS", "VmSize", "of the address space", "ulimit -v"),
    ("RLIMIT_DATA", "VmData", "of the data segment", "ulimit -d"),
)
# Files of control groups: version 2, then version 1, which writes about 2**63 for no limit.
_GROUP_LIMITS: Final = ("memory.max", "memory.high", "memory.limit_in_bytes")
_NO_LIMIT_BYTES: Final = 2**62


def home_dir() -> Path:
    """Return the user's home folder; the root where a user has none, as container engines do.

    A user who is only a number, without `HOME` and without an entry in the system's list of users,
    is usual in containers. Nobody but root can write to the root, so nothing is kept then.
    """
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")


def available_cores(own: Path = _OWN_CGROUP, cgroups: Path = _CGROUPS) -> int:
    """Return the number of cores that this process may use, 1 or more.

    A container's or job's share of processor time (`cpu.max` of its control groups, version 2)
    counts as that many cores, rounded up. `own` is the file that names the process's control
    groups, and `cgroups` the folder that holds them.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for text in _limits("cpu.max", own, cgroups):
        quota, _, period = text.partition(" ")
        if quota.isdecimal() and period.isdecimal() and int(period):
            cores = min(cores, max(1, math.ceil(int(quota) / int(period))))
    return cores


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """A limit of the memory of this process."""

    name: str  # in words, with what sets it
    limit_mb: float
    used_mb: float  # what this process already uses
    counts_reservations: bool = False  # memory counts as soon as it is reserved, used or not
    counts_addresses: bool = False  # mapped libraries and files count too

    @property
    def left_mb(self) -> float:
        """What can still be taken, MB."""
        return self.limit_mb - self.used_mb

    def __str__(self) -> str:
        return (
            f"the limit {self.name} is {self.limit_mb / 1000:.2f} GB, of which {self.used_mb / 1000:.2f} GB are in use"
        )


def memory_limits(own: Path = _OWN_CGROUP, cgroups: Path = _CGROUPS, status: Path = _OWN_STATUS) -> list[MemoryLimit]:
    """Return the limits of this process: its own and those of its control groups."""
    used_mb = _kilobytes_as_mb(status, ("VmSize", "VmData", "VmRSS"))
    found = []
    for limit, counted, words, command in _OWN_LIMITS:
        n_bytes = _own_limit(limit)
        if n_bytes is not None:
            name = f"{words} ({command} {n_bytes // 1024})"
            is_address = limit == "RLIMIT_AS"
            found.append(MemoryLimit(name, n_bytes / 1e6, used_mb.get(counted, 0.0), True, is_address))
    for file in _GROUP_LIMITS:
        sizes = [int(text) for text in _limits(file, own, cgroups) if text.isdecimal()]
        if sizes and min(sizes) < _NO_LIMIT_BYTES:
            name = f"of the control group ({file})"
            found.append(MemoryLimit(name, min(sizes) / 1e6, used_mb.get("VmRSS", 0.0)))
    return found


def _own_limit(name: str) -> int | None:
    """Return a limit of this process, bytes; None where there is none, or no such limit here."""
    if resource is None:
        return None
    n_bytes = resource.getrlimit(getattr(resource, name))[0]
    return None if n_bytes == resource.RLIM_INFINITY else n_bytes


def available_memory_mb(meminfo: Path = _MEMINFO, own: Path = _OWN_CGROUP, cgroups: Path = _CGROUPS) -> float | None:
    """Return the memory that this process could still take, MB; None where it is not known.

    The limits of control groups count in full, whatever the process uses already.
    """
    free_mb = _kilobytes_as_mb(meminfo, ("MemAvailable",)).values()
    limits = memory_limits(own, cgroups)
    return min([*free_mb, *(limit.limit_mb for limit in limits if not limit.counts_reservations)], default=None)


def _kilobytes_as_mb(file: Path, names: tuple[str, ...]) -> dict[str, float]:
    """Return some values of a file of lines such as `VmSize: 800000 kB`, MB."""
    lines = (line.partition(":") for line in _read(file).splitlines())
    return {name: int(text.split()[0]) * 1024 / 1e6 for name, _, text in lines if name in names}


def _limits(name: str, own: Path, cgroups: Path) -> list[str]:
    """Return the values of a limit in the process's control groups and their parents."""
    found = []
    for line in _read(own).splitlines():
        _, controllers, group = line.split(":", 2)
        # Version 2 has one tree and names no controllers; version 1 has a tree for each.
        if controllers and "memory" not in controllers.split(","):
            continue
        tree = cgroups / "memory" if controllers else cgroups
        inside = Path(group.lstrip("/"))
        folders = [tree / inside, *(tree / parent for parent in inside.parents)]
        found += [text for folder in folders if (text := _read(folder / name).strip())]
    return found


def _read(path: Path) -> str:
    """Return the text of a file of the system, or an empty text where there is no such file."""
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def instruction_set() -> str:
    """Return architecture and vector extensions, for example `x86_64+avx+avx2+fma`.

    Outside Linux it is the architecture alone, because the system does not list the extensions.
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
    return "+".join([machine, *(_EXTENSION_NAMES.get(flag, flag) for flag in _EXTENSIONS if flag in flags)])
