"""What a kill costs: ECGs computed twice, and seconds until the next process computes.

`python -m tests.benchmarks.wasted_work DATA OUTPUT.json` starts `lvm-ai score`, ends it with
kill -9 when a number of ECGs drawn at random is computed, starts the same command again, and
counts. Each process writes down every batch that the engine computed, so nothing is estimated.
`--tree` runs the code of another checkout, to compare with an earlier version.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MODEL = "demo-synthetic-ecg-only"
_LOOK_EVERY_S = 0.02
_HERE = Path(__file__).resolve()


@dataclass(frozen=True)
class Start:
    """One process of a run, as its log tells it; times are those of the machine's steady clock."""

    began_s: float  # the process was started
    batches: tuple[tuple[float, int], ...]  # when a batch was computed, and its ECGs
    ended_s: float  # the process was gone
    cpu_s: float | None = None  # processor time of the process; None after a kill

    @property
    def n_ecgs(self) -> int:
        """ECGs computed."""
        return sum(n for _, n in self.batches)

    @property
    def startup_s(self) -> float:
        """Seconds from its start to the end of its first batch."""
        return (self.batches[0][0] if self.batches else self.ended_s) - self.began_s


@dataclass(frozen=True)
class Killed:
    """A run that was killed once and started again."""

    unit_ecgs: int  # ECGs of a unit
    n_ecgs: int  # ECGs of the run
    killed_at: int  # ECGs computed when it was killed
    kept: int  # of these, committed
    computed_twice: int  # ECGs computed in both processes
    lost_s: float  # seconds of the first process after its last commit
    restart_s: float  # seconds from the second start to its first batch
    n_units_lost: float  # ECGs computed twice, in units


def score_command(data: Path, output: Path, unit_ecgs: int, *more: str) -> list[str]:
    """Return the arguments of `lvm-ai` for a run."""
    given = ["score", "--input", str(data), "--model", MODEL, "--output", str(output)]
    return [*given, "--unit-ecgs", str(unit_ecgs), *more]


def watched_start(
    command: Sequence[str], log: Path, tree: Path, *, kill: Callable[[int], bool] = lambda n: False
) -> Start:
    """Run `lvm-ai` as a process that logs its batches; kill -9 it once `kill(n ECGs)` says so."""
    log.unlink(missing_ok=True)
    began_s = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    with log.with_suffix(".err").open("w") as errors:
        child = subprocess.Popen(
            [sys.executable, str(_HERE), "--child", str(log), *command], cwd=tree, env=environment, stderr=errors
        )
    was_killed = False
    while child.poll() is None:
        time.sleep(_LOOK_EVERY_S)
        if not was_killed and kill(sum(n for _, n in _batches(log))):
            child.kill()
            was_killed = True
    ended_s = time.monotonic()
    if child.returncode != (-9 if was_killed else 0):
        raise SystemExit(f"ended with {child.returncode}:\n{log.with_suffix('.err').read_text()[-2000:]}")
    cpu = [float(line.split()[1]) for line in log.read_text().splitlines() if line.startswith("C ")]
    return Start(began_s, tuple(_batches(log)), ended_s, cpu[-1] if cpu else None)


def _batches(log: Path) -> list[tuple[float, int]]:
    text = log.read_text() if log.exists() else ""
    lines = [line.split() for line in text.splitlines() if line.startswith("B ")]
    return [(float(line[1]), int(line[2])) for line in lines if len(line) == 3]


def kill_once(data: Path, folder: Path, unit_ecgs: int, n_ecgs: int, kill_at: int, tree: Path) -> Killed:
    """Score with one kill after `kill_at` ECGs, resume, and count."""
    output, log = folder / "run", folder / "batches.log"
    shutil.rmtree(output, ignore_errors=True)
    command = score_command(data, output, unit_ecgs)
    first = watched_start(command, log, tree, kill=lambda n: n >= kill_at)
    results = sorted((output / "predictions").glob("unit-*.parquet"))
    # File times are of the other clock.
    offset_s = time.time() - time.monotonic()
    last_commit_s = max((path.stat().st_mtime - offset_s for path in results), default=first.batches[0][0])
    second = watched_start(command, log, tree)
    twice = first.n_ecgs + second.n_ecgs - n_ecgs
    return Killed(
        unit_ecgs,
        n_ecgs,
        first.n_ecgs,
        n_ecgs - second.n_ecgs,
        twice,
        max(0.0, first.ended_s - last_commit_s),
        second.startup_s,
        twice / unit_ecgs,
    )


def summary(runs: Sequence[Killed]) -> dict[str, Any]:
    """Return medians and extremes of runs with units of one size."""
    twice = [run.computed_twice for run in runs]
    return {
        "runs": len(runs),
        "computed_twice_median": statistics.median(twice),
        "computed_twice_mean": statistics.fmean(twice),
        "computed_twice_most": max(twice),
        "share_of_unit_mean": statistics.fmean(run.n_units_lost for run in runs),
        "lost_s_median": statistics.median(run.lost_s for run in runs),
        "restart_s_median": statistics.median(run.restart_s for run in runs),
    }


def child(log: Path, command: Sequence[str]) -> int:
    """Run `lvm-ai` and write down each batch that the engine computed."""
    import lvm_ai
    from models.engines.predictor import LvmPredictor

    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    real = LvmPredictor.predict_batch

    def logged(self: LvmPredictor, counts: Any, *given: Any, **named: Any) -> Any:
        result = real(self, counts, *given, **named)
        os.write(handle, f"B {time.monotonic():.4f} {len(counts)}\n".encode())
        return result

    LvmPredictor.predict_batch = logged  # type: ignore[method-assign]
    code = lvm_ai.main(list(command))
    used = resource.getrusage(resource.RUSAGE_SELF)
    os.write(handle, f"C {used.ru_utime + used.ru_stime:.3f}\n".encode())
    return code


def main() -> None:
    """Kill runs with units of several sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of Parquet with row groups as small as the smallest unit")
    parser.add_argument("output", type=Path, help="JSON file to write")
    parser.add_argument("--units", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tree", type=Path, default=_HERE.parents[2], help="checkout whose code runs")
    args = parser.parse_args()
    import pyarrow.parquet as pq

    n_ecgs = sum(pq.read_metadata(path).num_rows for path in args.data.glob("*.parquet"))
    rng = random.Random(args.seed)
    folder = args.output.with_suffix(".work")
    folder.mkdir(parents=True, exist_ok=True)
    runs: list[Killed] = []
    for _ in range(args.repeats):
        for unit_ecgs in args.units:
            kill_at = rng.randint(1, n_ecgs - 64)
            runs.append(kill_once(args.data, folder, unit_ecgs, n_ecgs, kill_at, args.tree.resolve()))
            sys.stdout.write(f"{runs[-1]}\n")
            sys.stdout.flush()
            by_size = {size: [run for run in runs if run.unit_ecgs == size] for size in args.units}
            content = {
                "n_ecgs": n_ecgs,
                "units": {size: summary(some) for size, some in by_size.items() if some},
                "runs": [asdict(run) for run in runs],
            }
            args.output.write_text(json.dumps(content, indent=1) + "\n")
    shutil.rmtree(folder)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        raise SystemExit(child(Path(sys.argv[2]), sys.argv[3:]))
    main()
