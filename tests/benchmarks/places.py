"""Seconds of `lvm-ai score` on the engines of this machine: fixed cost, and cost of a unit.

`python -m tests.benchmarks.places` runs the same ECGs with each runner: one unit, and 40 units of 8
ECGs, three times each by turns, and prints medians for `places.yaml`. It needs `make engines`.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.beam_jobs.engines import spark_cluster
from tests.beam_jobs.engines.flink_cluster import FlinkCluster
from tests.beam_jobs.engines.spark_cluster import SparkCluster
from tests.beam_jobs.engines.workers import boot_program
from tests.beam_jobs.job_helpers import REPOSITORY, result_files, score_argv, write_cohort

TIMES = 3
N_ECGS = 320


@contextmanager
def engines(folder: Path) -> Iterator[dict[str, list[str]]]:
    """Start the clusters; yield the options of each runner."""
    boot = boot_program(folder)
    with ExitStack() as stack:
        flink = stack.enter_context(FlinkCluster(folder / "flink"))
        flink.start(2, 120)
        (folder / "spark").mkdir()
        spark = SparkCluster(folder / "spark")
        stack.callback(spark.close)
        spark.add_worker()
        spark.add_worker()
        spark.wait_for_workers(2)
        jar = str(spark_cluster.job_server_jar())
        yield {
            "local": [],
            "portable": ["--runner", "portable", "--worker-command", str(boot)],
            "flink": flink.options(boot),
            "spark": [
                *("--runner", "spark", "--worker-command", str(boot)),
                *("--spark-master", spark.url, "--spark-job-server-jar", jar),
            ],
        }


def seconds_of(inputs: Path, output: Path, options: Sequence[str]) -> float:
    """Run a command; return its seconds."""
    command = [sys.executable, "-m", "lvm_ai", *score_argv(inputs, output, *options)]
    began_s = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began_s


def main() -> None:
    """Print a line for each runner."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "flink").mkdir()
        write_cohort(folder / "one", 8, n_files=1)
        write_cohort(folder / "many", N_ECGS, n_files=4)
        found: dict[tuple[str, str], list[float]] = {}
        files: dict[str, dict[str, bytes]] = {}
        with engines(folder) as options:
            for i in range(TIMES):
                for runner, more in options.items():
                    for size in ("one", "many"):
                        output = folder / f"{runner}-{size}-{i}"
                        found.setdefault((runner, size), []).append(seconds_of(folder / size, output, more))
                    files[runner] = result_files(output)
                    assert files[runner] == files["local"]
        for runner in files:
            one, many = (statistics.median(found[runner, size]) for size in ("one", "many"))
            sys.stdout.write(
                f"{runner}: one unit {one:.1f} s, {N_ECGS} ECGs in 40 units {many:.1f} s; {found[runner, 'many']}\n"
            )


if __name__ == "__main__":
    main()
