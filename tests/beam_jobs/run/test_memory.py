"""Threads within limits of memory: fewer where the machine chooses, a clear stop elsewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from beam_jobs.run import resources
from beam_jobs.run.resources import expected_memory_mb, require_memory, threads_that_fit
from beam_jobs.run.settings import ScoreSettings
from lvm_core.errors import LvmError
from models.engines.choosing import EngineChoice, EngineName
from models.machine.host import MemoryLimit
from models.machine.runtime import Device

BATCH = 16
SETTINGS = ScoreSettings(inputs=("in",), output="out")
TENSORFLOW = ScoreSettings(inputs=("in",), output="out", engine=EngineName.TENSORFLOW, device=Device.CPU, batch=BATCH)
# Of a thread: 8 MB for each ECG of its batch, and two batches of 12 x 5000 samples that wait.
THREAD_MB = BATCH * 8 + 2 * BATCH * 12 * 5000 * 2 / 1e6


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "available_cores", lambda: 8)
    monkeypatch.setattr(resources, "available_memory_mb", lambda: 64_000.0)
    monkeypatch.setattr(resources, "require_memory_for_tensorflow", lambda: None)


def limit(monkeypatch: pytest.MonkeyPatch, left_mb: float, *, reserved: bool = False) -> None:
    found = MemoryLimit("of the test (ulimit -t)", 1000 + left_mb, 1000, reserved, reserved)
    monkeypatch.setattr(resources, "memory_limits", lambda: [found])


def threads(asked: int | None = None) -> int:
    return threads_that_fit(TENSORFLOW, (), 0.0, asked)


def test_threads__one_a_core_without_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "memory_limits", list)
    assert (threads(), threads(12)) == (8, 12)


def test_threads__a_group_holds_what_is_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    # 150 MB of reading, then the threads: three of them and nearly a fourth.
    limit(monkeypatch, 150 + 3.9 * THREAD_MB)
    assert (threads(), threads(3)) == (3, 3)
    limit(monkeypatch, 150 + 40 * THREAD_MB)
    assert threads() == 8


def test_threads__reservations_count_arenas_and_beam(monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, 150 + 150 + 3.9 * (THREAD_MB + 104), reserved=True)
    assert threads() == 3


def test_threads__more_than_fit_are_refused_with_those_that_do(monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, 150 + 3.9 * THREAD_MB)
    needed_gb = (1000 + 150 + 5 * THREAD_MB) / 1000
    with pytest.raises(LvmError) as refused:
        threads(5)
    assert str(refused.value) == (
        f"{needed_gb:.2f} GB are needed for 5 threads, and the limit of the test (ulimit -t) is "
        f"{(1150 + 3.9 * THREAD_MB) / 1000:.2f} GB, of which 1.00 GB are in use. Take --threads 3, "
        "or raise the limit"
    )


def test_threads__no_room_for_one_is_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, 150 + 0.9 * THREAD_MB)
    with pytest.raises(LvmError, match=r"are needed for 1 thread, .* Raise the limit$"):
        threads()


def test_threads__short_memory_without_a_limit_leaves_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "memory_limits", list)
    monkeypatch.setattr(resources, "available_memory_mb", lambda: 100.0)
    assert threads() == 1
    without_mb = expected_memory_mb(TENSORFLOW, (), 0, 0.0)
    monkeypatch.setattr(resources, "available_memory_mb", lambda: (without_mb + 2 * THREAD_MB) / 0.799)
    assert threads() == 2


def test_require_memory__both_sides_of_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, 131)
    require_memory(400)  # 270 MB of libraries are there already
    limit(monkeypatch, 129)
    with pytest.raises(LvmError, match=r"1\.13 GB are needed for the largest unit, .*--unit-ecgs"):
        require_memory(400)


# Workers elsewhere: what this machine has says nothing about theirs


def test_choose_computing__workers_elsewhere_do_not_need_a_gpu_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "choose_engine", lambda *_, **__: pytest.fail("something was tried out here"))
    asked = replace(SETTINGS, device=Device.GPU)
    chosen = resources.choose_computing(asked, (), None, elsewhere=True)
    assert (chosen.engine, chosen.device, chosen.batch) == (EngineName.TENSORFLOW, Device.GPU, 256)
    again = resources.choose_computing(SETTINGS, (), replace(chosen, batch=64), elsewhere=True)
    assert (again.engine, again.device, again.batch) == (EngineName.TENSORFLOW, Device.GPU, 64)


def test_choose_computing__a_gpu_of_this_machine_is_not_one_of_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Device | None] = []

    def choice(_: object, *, device: Device | None, **__: object) -> EngineChoice:
        asked.append(device)
        return EngineChoice(EngineName.SPECTRAL, device or Device.GPU)

    monkeypatch.setattr(resources, "choose_engine", choice)
    chosen = resources.choose_computing(SETTINGS, (), None, elsewhere=True)
    assert asked == [Device.CPU]
    assert chosen.device is Device.CPU
