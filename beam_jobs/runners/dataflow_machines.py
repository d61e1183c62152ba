"""Machine types and GPUs of Google's that a run can ask for, and which of them fit each other."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from lvm_core.errors import UsageError

# Dataflow bills all of them alike. All N2 processors have AVX-512, so that all workers of a run
# have the same instructions and a repeated unit gives the same bits; N1 mixes generations.
CPU_MACHINE: Final = "n2-standard-4"
_PATTERN: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)+")
_SHARED_CORE: Final = frozenset({"f1-micro", "g1-small", "e2-micro", "e2-small", "e2-medium"})
_ARM: Final = frozenset({"t2a", "c4a", "n4a"})
# GB of memory for a vCPU.
_GB_PER_VCPU: Final = {
    "n1": {"standard": 3.75, "highmem": 6.5, "highcpu": 0.9},
    "e2": {"standard": 4.0, "highmem": 8.0, "highcpu": 1.0},
    "n2": {"standard": 4.0, "highmem": 8.0, "highcpu": 1.0},
    "n2d": {"standard": 4.0, "highmem": 8.0, "highcpu": 1.0},
    "n4": {"standard": 4.0, "highmem": 8.0, "highcpu": 2.0},
    "c2": {"standard": 4.0},
    "c2d": {"standard": 4.0, "highmem": 8.0, "highcpu": 2.0},
    "c3": {"standard": 4.0, "highmem": 8.0, "highcpu": 2.0},
    "t2d": {"standard": 4.0},
    "g2": {"standard": 4.0},
}
_CUSTOM: Final = re.compile(r"((?:n1|n2|n2d|n4|e2)-)?custom-([0-9]+)-([0-9]+)(-ext)?")
_SIZED: Final = re.compile(r"([a-z0-9]+)-(standard|highmem|highcpu)-([0-9]+)")
# vCPUs, GB of memory and GPUs of the A2 machines with A100 of 40 GB.
_A2: Final = {
    "a2-highgpu-1g": (12, 85.0, 1),
    "a2-highgpu-2g": (24, 170.0, 2),
    "a2-highgpu-4g": (48, 340.0, 4),
    "a2-highgpu-8g": (96, 680.0, 8),
}
# GPUs of the G2 machines by vCPUs.
_G2_GPUS: Final = {4: 1, 8: 1, 12: 1, 16: 1, 24: 2, 32: 1, 48: 4, 96: 8}
# Resident, measured for one process on two threads (docs/benchmarks.md), and Google's own programs.
_LEAST_MEMORY_GB: Final = 2.0
_PER_VCPU_GB: Final = 0.1


@dataclass(frozen=True)
class Machine:
    """A machine type whose size is known."""

    name: str
    vcpus: int
    memory_gb: float
    n_gpus: int = 0  # that belong to the machine type


@dataclass(frozen=True)
class Gpu:
    """A preset of `--gpu`: what Google calls it, and the machine that it comes with."""

    name: str
    accelerator: str  # Google's name of it
    machine: str  # the machine type where the user names none
    families: tuple[str, ...]  # machine types that can have it begin so
    title: str


GPUS: Final = {
    gpu.name: gpu
    for gpu in (
        Gpu("l4", "nvidia-l4", "g2-standard-4", ("g2-standard-",), "NVIDIA L4, 24 GB"),
        Gpu("t4", "nvidia-tesla-t4", "n1-standard-4", ("n1-", "custom-"), "NVIDIA T4, 16 GB"),
        Gpu("a100", "nvidia-tesla-a100", "a2-highgpu-1g", ("a2-highgpu-",), "NVIDIA A100, 40 GB"),
    )
}
"""The presets by name."""


def machine_of(name: str) -> Machine | None:
    """Return a machine type, or None where it may be right but its size is not known here.

    Raises:
        UsageError: it cannot be a machine type, or cannot run this.
    """
    family = name.partition("-")[0]
    if not _PATTERN.fullmatch(name):
        raise UsageError(f"--machine-type is {name!r}, expected a name such as {CPU_MACHINE}")
    if name in _SHARED_CORE:
        raise UsageError(
            f"--machine-type is {name!r}, a share of a core, which Dataflow does not support; for example {CPU_MACHINE}"
        )
    if family in _ARM:
        raise UsageError(
            f"--machine-type is {name!r}, with Arm processors; the image is built for x86-64, for example {CPU_MACHINE}"
        )
    if name in _A2:
        vcpus, memory_gb, n_gpus = _A2[name]
        return Machine(name, vcpus, memory_gb, n_gpus)
    custom = _CUSTOM.fullmatch(name)
    if custom:
        return Machine(name, int(custom[2]), int(custom[3]) / 1024)
    sized = _SIZED.fullmatch(name)
    if sized is None or sized[1] not in _GB_PER_VCPU:
        return None
    per_vcpu_gb = _GB_PER_VCPU[sized[1]].get(sized[2])
    if per_vcpu_gb is None:
        kinds = ", ".join(f"{sized[1]}-{kind}" for kind in _GB_PER_VCPU[sized[1]])
        raise UsageError(f"--machine-type is {name!r}, expected {kinds} with a number of vCPUs")
    vcpus = int(sized[3])
    if sized[1] == "g2" and vcpus not in _G2_GPUS:
        raise UsageError(f"--machine-type is {name!r}, expected g2-standard- with {', '.join(map(str, _G2_GPUS))}")
    return Machine(name, vcpus, vcpus * per_vcpu_gb, _G2_GPUS[vcpus] if sized[1] == "g2" else 0)


def check_fit(name: str, gpu: Gpu | None) -> Machine | None:
    """Return the machine type, as `machine_of` does.

    Raises:
        UsageError: it does not fit the GPU, or has too little memory for the job.
    """
    machine = machine_of(name)
    if gpu is not None and not name.startswith(gpu.families):
        raise UsageError(
            f"--machine-type is {name!r}, and --gpu {gpu.name} comes with machine types that begin with "
            f"{' or '.join(gpu.families)}, for example {gpu.machine}"
        )
    if gpu is None and name.startswith(("g2-", "a2-", "a3-")):
        raise UsageError(
            f"--machine-type is {name!r}, which has GPUs; expected --gpu {'l4' if name[0] == 'g' else 'a100'}"
        )
    if machine is not None and machine.n_gpus > 1:
        raise UsageError(
            f"--machine-type is {name!r}, with {machine.n_gpus} GPUs; a worker uses one. Take more workers of one each"
        )
    if machine is not None and machine.memory_gb < _LEAST_MEMORY_GB + _PER_VCPU_GB * machine.vcpus:
        raise UsageError(
            f"--machine-type is {name!r}, with {machine.memory_gb:.1f} GB of memory; expected "
            f"{_LEAST_MEMORY_GB + _PER_VCPU_GB * machine.vcpus:.1f} GB at least, for example {CPU_MACHINE}"
        )
    return machine


def accelerator_option(gpu: Gpu) -> str:
    """Return the service option that gives each worker one GPU and its driver."""
    return f"worker_accelerator=type:{gpu.accelerator};count:1;install-nvidia-driver"
