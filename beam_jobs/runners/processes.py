"""One run by several processes of this machine: one for each GPU, or where cores are many.

Each does a shard of the run's shard, so that nothing is new about them: same plan, same files, same
bits, and the process that finds all units done closes the run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Final

from beam_jobs.run.progress import say
from models.machine.runtime import VISIBLE

COMMAND: Final = (sys.executable, "-m", "lvm_ai")


def shards_of(shard: tuple[int, int], n_processes: int) -> list[tuple[int, int]]:
    """Return shards, one a process, that together are a shard: of 2/3 by two, 2/6 and 5/6."""
    index, count = shard
    return [(index + count * k, count * n_processes) for k in range(n_processes)]


def gpu_of(number: int, n_gpus: int, environment: Mapping[str, str]) -> str:
    """Return what `CUDA_VISIBLE_DEVICES` is for a process, numbered from 0: the GPUs by turns.

    They are the `n_gpus` that this process sees; its environment may name them.
    """
    named = [name.strip() for name in environment.get(VISIBLE, "").split(",") if name.strip()]
    names = named or [str(gpu) for gpu in range(n_gpus)]
    return names[number % len(names)]


def command_of(
    kind: str, argv: Sequence[str], shard: tuple[int, int], threads: int, command: Sequence[str]
) -> list[str]:
    """Return the command of one process: the user's own, with another shard and fewer threads.

    Of an option that is there twice the last one counts; `--overwrite` was done already, and the
    inputs were listed.
    """
    own = [word for word in argv if word not in ("--overwrite", "--reuse-plan")]
    more = ["--reuse-plan", "--processes", "1", "--shard", f"{shard[0]}/{shard[1]}", "--threads", str(threads)]
    return [*command, kind, *own, *more]


def run_processes(
    kind: str,
    argv: Sequence[str],
    shard: tuple[int, int],
    *,
    n_processes: int,
    threads: int,
    n_gpus: int = 0,
    command: Sequence[str] = COMMAND,
) -> int:
    """Run a job in several processes, 2 or more; return the worst of their exit codes.

    `argv`, `shard` and `threads` are those of this command. With `n_gpus` the job computes on GPUs,
    and each process sees one. `command` is what runs a command line.
    """
    each = max(1, threads // n_processes)
    children: list[subprocess.Popen[str]] = []
    readers: list[threading.Thread] = []
    try:
        for number, own in enumerate(shards_of(shard, n_processes)):
            seen = {VISIBLE: gpu_of(number, n_gpus, os.environ)} if n_gpus else {}
            own_command, environment = command_of(kind, argv, own, each, command), {**os.environ, **seen}
            child = subprocess.Popen(own_command, stderr=subprocess.PIPE, text=True, env=environment)
            children.append(child)
            assert child.stderr is not None
            name = f"[{number + 1}/{n_processes}]"
            readers.append(threading.Thread(target=_pass_on, args=(child.stderr, name), daemon=True))
            readers[-1].start()
        codes = [child.wait() for child in children]
        return max(code if code >= 0 else 128 - code for code in codes)  # as a shell sees it: 137 after a kill -9
    finally:
        # Whatever ends this process ends the others: a second start would race with them.
        for child in children:
            if child.poll() is None:
                child.terminate()
                child.wait()
        for reader in readers:
            reader.join()


def _pass_on(lines: IO[str], name: str) -> None:
    with lines:
        for line in lines:
            say(f"{name} {line.rstrip()}")
