"""What a kill costs: ECGs computed twice, and seconds until the next process computes.

`python -m tests.benchmarks.wasted_work DATA OUTPUT.json --unit-ecgs 256 --kills 4` starts
`lvm-ai score`, ends it with kill -9 when a number of ECGs drawn at random is computed, starts the
same command again, some times over, and lets the last one finish. Each process writes down every
batch that the engine computed, so nothing is estimated. `--tree` runs the code of another checkout,
to compare with an earlier version.
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
    """One process that was killed, and the start of the next."""

    unit_ecgs: int  # ECGs of a unit
    computed: int  # ECGs that it computed
    committed: int  # of these, committed
    lost_s: float  # seconds from its last commit, or its first batch, to the kill
    restart_s: float  # seconds from the next start to its first batch

    @property
    def computed_twice(self) -> int:
        """ECGs that another process has to compute again."""
        return self.computed - self.committed


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


def kill_often(
    data: Path, folder: Path, unit_ecgs: int, n_ecgs: int, n_kills: int, rng: random.Random, tree: Path
) -> list[Killed]:
    """Score with kills, each within three units of a start, and finish; check that all add up."""
    output, log = folder / "run", folder / "batches.log"
    shutil.rmtree(output, ignore_errors=True)
    command = score_command(data, output, unit_ecgs)
    starts: list[Start] = []
    commits: list[tuple[int, float]] = [(0, 0.0)]
    for _ in range(n_kills):
        left = n_ecgs - commits[-1][0]
        kill_at = rng.randint(1, min(left - 64, 3 * unit_ecgs))
        starts.append(watched_start(command, log, tree, kill=lambda n, at=kill_at: n >= at))
        commits.append(_committed(output))
    last = watched_start(command, log, tree)
    found = []
    for start, after, (before, _), (now, commit_s) in zip(
        starts, [*starts[1:], last], commits, commits[1:], strict=False
    ):
        since_s = commit_s if now > before else start.batches[0][0]
        found.append(Killed(unit_ecgs, start.n_ecgs, now - before, max(0.0, start.ended_s - since_s), after.startup_s))
    twice = sum(start.n_ecgs for start in (*starts, last)) - n_ecgs
    if twice != sum(one.computed_twice for one in found):
        raise SystemExit(f"{twice} ECGs were computed twice, but {found} do not add up to that")
    return found


def _committed(output: Path) -> tuple[int, float]:
    """Return the ECGs in finished units, and when the last was committed by the steady clock."""
    import pyarrow.parquet as pq

    results = list((output / "predictions").glob("unit-*.parquet"))
    offset_s = time.time() - time.monotonic()
    last_s = max((path.stat().st_mtime - offset_s for path in results), default=0.0)
    return sum(pq.read_metadata(path).num_rows for path in results), last_s


def summary(runs: Sequence[Killed]) -> dict[str, Any]:
    """Return medians and extremes of kills with units of one size."""
    twice = [run.computed_twice for run in runs]
    return {
        "runs": len(runs),
        "computed_twice_median": statistics.median(twice),
        "computed_twice_mean": statistics.fmean(twice),
        "computed_twice_most": max(twice),
        "share_of_unit_mean": statistics.fmean(run.computed_twice / run.unit_ecgs for run in runs),
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
    parser.add_argument("data", type=Path, help="folder of Parquet with row groups no larger than a unit")
    parser.add_argument("output", type=Path, help="JSON file to add to")
    parser.add_argument("--unit-ecgs", type=int, default=256)
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tree", type=Path, default=_HERE.parents[2], help="checkout whose code runs")
    args = parser.parse_args()
    import pyarrow.parquet as pq

    n_ecgs = sum(pq.read_metadata(path).num_rows for path in args.data.glob("*.parquet"))
    folder = args.output.with_suffix(f".work-{args.unit_ecgs}")
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(args.seed)
    runs = kill_often(args.data, folder, args.unit_ecgs, n_ecgs, args.kills, rng, args.tree.resolve())
    content = json.loads(args.output.read_text()) if args.output.exists() else {}
    size = str(args.unit_ecgs)
    earlier = [Killed(**one) for one in content.get(size, {}).get("each", [])]
    content[size] = {**summary([*earlier, *runs]), "each": [asdict(run) for run in [*earlier, *runs]]}
    args.output.write_text(json.dumps(content, indent=1) + "\n")
    shutil.rmtree(folder)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        raise SystemExit(child(Path(sys.argv[2]), sys.argv[3:]))
    main()
