"""Worker processes share the GPUs of a machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lvm_core.errors import LvmError
from models.machine.gpus import gpu_names

CLAIM = """
import sys, time
from pathlib import Path
from models.machine.gpus import claim_gpu
from lvm_core.errors import LvmError
try:
    print(claim_gpu(Path(sys.argv[1])), flush=True)
except LvmError as error:
    print(error, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("environment", "devices", "expected"),
    [
        ({}, ["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"], ["0", "1"]),
        ({}, ["nvidia10", "nvidia2"], ["2", "10"]),
        ({"CUDA_VISIBLE_DEVICES": "3, GPU-a"}, ["nvidia0"], ["3", "GPU-a"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, ["nvidia0"], []),
        ({}, ["kfd"], ["0"]),
        ({}, [], []),
    ],
)
def test_gpu_names__by_the_driver_or_the_environment(
    environment: dict[str, str], devices: list[str], expected: list[str], tmp_path: Path
) -> None:
    for name in devices:
        (tmp_path / name).touch()
    assert gpu_names(environment, tmp_path) == expected


def _claimer(folder: Path) -> subprocess.Popen[str]:
    environment = {"CUDA_VISIBLE_DEVICES": "0,1", "PATH": "", "HOME": str(folder), "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", CLAIM, str(folder / "locks")]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def _answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_claim_gpu__each_process_has_its_own_and_leaves_it_at_its_end(tmp_path: Path) -> None:
    processes = [_claimer(tmp_path) for _ in range(2)]
    try:
        assert sorted(map(_answer, processes)) == ["0", "1"]
        processes.append(_claimer(tmp_path))
        assert _answer(processes[-1]).startswith("other workers have taken all 2 GPUs")
        processes[0].kill()
        processes[0].wait()
        processes.append(_claimer(tmp_path))
        assert _answer(processes[-1]) in ("0", "1")
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_claim_gpu__without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.machine.gpus import claim_gpu

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(LvmError, match="this worker sees none"):
        claim_gpu(tmp_path)
