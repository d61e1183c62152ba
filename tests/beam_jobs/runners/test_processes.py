"""Several processes on one run: which shard and which GPU each gets, and what they end with."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest

from beam_jobs.runners.processes import command_of, gpu_of, run_processes, shards_of


@pytest.mark.parametrize("shard", [(1, 1), (2, 3), (5, 7)])
@pytest.mark.parametrize("n_processes", [2, 3, 8])
def test_shards_of__together_are_the_shard(shard: tuple[int, int], n_processes: int) -> None:
    index, count = shard
    units = range(1000)
    mine = {number for number in units if number % count == index - 1}
    parts = [{number for number in units if number % of == one - 1} for one, of in shards_of(shard, n_processes)]
    assert set().union(*parts) == mine
    assert sum(map(len, parts)) == len(mine)


@pytest.mark.parametrize(
    ("visible", "expected"), [(None, ["0", "1", "2", "0"]), ("3,5", ["3", "5", "3", "5"]), ("GPU-a, GPU-b", None)]
)
def test_gpu_of__one_each_by_turns(visible: str | None, expected: list[str] | None) -> None:
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    found = [gpu_of(number, 3, environment) for number in range(4)]
    assert found == (expected or ["GPU-a", "GPU-b", "GPU-a", "GPU-b"])


def test_command_of__is_the_users_own_with_the_last_word() -> None:
    argv = ["--input", "a", "--overwrite", "--processes", "4", "--shard", "1/2", "--output", "o"]
    assert command_of("score", argv, (3, 8), 5, ["lvm-ai"]) == [
        "lvm-ai",
        "score",
        "--input",
        "a",
        "--processes",
        "4",
        "--shard",
        "1/2",
        "--output",
        "o",
        "--reuse-plan",
        "--processes",
        "1",
        "--shard",
        "3/8",
        "--threads",
        "5",
    ]


def _script(folder: Path, body: str) -> list[str]:
    path = folder / "child.py"
    path.write_text(f"import os, sys, time\n{body}\n")
    return [sys.executable, str(path)]


def test_run_processes__each_sees_its_gpu_and_says_who_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    command = _script(tmp_path, "print(os.environ['CUDA_VISIBLE_DEVICES'], *sys.argv[1:], file=sys.stderr)")
    code = run_processes("score", [], (1, 1), n_processes=2, threads=5, n_gpus=2, command=command)
    assert code == 0
    assert sorted(capsys.readouterr().err.splitlines()) == [
        "[1/2] 0 score --reuse-plan --processes 1 --shard 1/2 --threads 2",
        "[2/2] 1 score --reuse-plan --processes 1 --shard 2/2 --threads 2",
    ]


@pytest.mark.parametrize(("ends", "code"), [("0", 0), ("1", 1), ("2", 2)])
def test_run_processes__worst_exit_code(ends: str, code: int, tmp_path: Path) -> None:
    command = _script(tmp_path, f"sys.exit({ends} if '2/2' in sys.argv else 0)")
    assert run_processes("score", [], (1, 1), n_processes=2, threads=1, command=command) == code


def test_run_processes__a_killed_process_shows(tmp_path: Path) -> None:
    command = _script(tmp_path, "os.kill(os.getpid(), 9) if '2/2' in sys.argv else None")
    assert run_processes("score", [], (1, 1), n_processes=2, threads=1, command=command) == 137


def test_run_processes__nobody_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = _script(tmp_path, f"open({str(tmp_path)!r} + '/' + str(os.getpid()), 'w').close(); time.sleep(60)")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    started = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_processes("score", [], (1, 1), n_processes=2, threads=1, command=command)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - started < 30
    pids = [path.name for path in tmp_path.iterdir() if path.name.isdecimal()]
    assert len(pids) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
