"""The simulation of `scaling` beside real small runs on this machine.

`python -m tests.benchmarks.scaling_check DATA OUTPUT.json` runs `lvm-ai score` over the same ECGs
in some ways, by turns: one process; the same, killed once and started again; smaller units; two
shards; two shards of which one is killed. The simulation is then given what the processes of the
run logged (seconds of a start, ECGs per second, seconds of the end, when a kill came), and must
say how long the run took.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.benchmarks.scaling import Costs, Division, Load, Place, given, simulate
from tests.benchmarks.wasted_work import Start, score_command, watched_start

TREE = Path(__file__).resolve().parents[2]
REPLACE_S = 5.0


@dataclass(frozen=True)
class Way:
    """One way to run the same ECGs."""

    name: str
    shards: int = 1
    unit_ecgs: int = 256
    killed: bool = False  # the last shard is killed once


WAYS = (
    Way("one process"),
    Way("one process, killed once", killed=True),
    Way("one process, units of 64 ECGs", unit_ecgs=64),
    Way("two shards", shards=2),
    Way("two shards, one killed once", shards=2, killed=True),
)


def run(way: Way, data: Path, folder: Path, n_ecgs: int, kill_share: float) -> tuple[float, list[list[Start]]]:
    """Run a way; return its seconds and the processes of each shard, one after the other."""
    output = folder / "run"
    shutil.rmtree(output, ignore_errors=True)
    kill_at = int(kill_share * n_ecgs / way.shards)

    def shard(number: int) -> list[Start]:
        log = folder / f"shard-{number}.log"
        more = ["--shard", f"{number}/{way.shards}", "--threads", str(2 // way.shards)]
        command = score_command(data, output, way.unit_ecgs, *more)
        if not (way.killed and number == way.shards):
            return [watched_start(command, log, TREE)]
        first = watched_start(command, log, TREE, kill=lambda n: n >= kill_at)
        time.sleep(REPLACE_S)
        return [first, watched_start(command, log, TREE)]

    began_s = time.monotonic()
    with ThreadPoolExecutor(way.shards) as pool:
        shards = [*pool.map(shard, range(1, way.shards + 1))]
    seconds = time.monotonic() - began_s
    if not (output / "_SUCCESS").is_file():
        raise SystemExit(f"{way.name}: the run is not finished")
    return seconds, shards


def rates(starts: Sequence[Start]) -> list[float]:
    """Return ECGs per second of processes, from the first batch to the last."""
    found = []
    for start in starts:
        took_s = start.batches[-1][0] - start.batches[0][0]
        if took_s > 0:
            found.append((start.n_ecgs - start.batches[0][1]) / took_s)
    return found


def costs_of(shards: Sequence[Sequence[Start]]) -> Costs:
    """Return the costs that processes logged; those of single units are within the rate."""
    starts = [start for shard in shards for start in shard]
    last = [shard[-1] for shard in shards]
    end_s = statistics.fmean(start.ended_s - start.batches[-1][0] for start in last)
    start_s = statistics.fmean(start.startup_s for start in starts)
    return Costs(statistics.fmean(rates(starts)), 0.0, 0.0, start_s, 0.0, 0.0, end_s / 2, 0.0)


def simulated_s(way: Way, n_ecgs: int, costs: Costs, shards: Sequence[Sequence[Start]]) -> float:
    """Return what the simulation says that a run of this way took, given when its kill came."""
    lives = [[start.ended_s - start.began_s for start in shard[:-1]] for shard in shards]
    # The end of a run is what closes it: one look at the commits of all units.
    load = Load(n_ecgs, way.unit_ecgs)
    ending = Costs(costs.ecg_per_s, 0.0, 0.0, costs.start_s, 0.0, 0.0, 0.0, close_ecg_s=2 * costs.commit_s / n_ecgs)
    place = Place(way.name, Division.SHARDS, replace_s=REPLACE_S, workers_plan=True)
    return simulate(load, ending, place, way.shards, given(lives)).seconds


def compare(data: Path, folder: Path, rounds: int, seed: int, output: Path) -> None:
    """Run all ways by turns, and write measured and simulated seconds."""
    n_ecgs = sum(pq.read_metadata(path).num_rows for path in data.glob("*.parquet"))
    rng = random.Random(seed)
    rows: list[dict[str, Any]] = []
    for number in range(rounds):
        plain: dict[int, Costs] = {}
        for way in WAYS:
            seconds, shards = run(way, data, folder, n_ecgs, rng.uniform(0.2, 0.8))
            own = costs_of(shards)
            plain.setdefault(way.shards, own)
            computed = sum(start.n_ecgs for shard in shards for start in shard)
            rows.append(
                {
                    "round": number,
                    "way": way.name,
                    "n_ecgs": n_ecgs,
                    "measured_s": seconds,
                    "simulated_s": simulated_s(way, n_ecgs, own, shards),
                    "simulated_from_plain_s": simulated_s(way, n_ecgs, plain[way.shards], shards),
                    "ecg_per_s": own.ecg_per_s,
                    "start_s": own.start_s,
                    "computed_twice": computed - n_ecgs,
                }
            )
            sys.stdout.write(f"{rows[-1]}\n")
            sys.stdout.flush()
            output.write_text(json.dumps(rows, indent=1) + "\n")


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of Parquet with row groups of 64")
    parser.add_argument("output", type=Path, help="JSON file to write")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    folder = args.output.with_suffix(".work")
    folder.mkdir(parents=True, exist_ok=True)
    compare(args.data, folder, args.rounds, args.seed, args.output)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
