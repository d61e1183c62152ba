"""The benchmark: our job and others on the same Parquet, taking turns. `make bench` runs it.

Each measurement is a process of its own and they take turns, so that what the machine does
meanwhile falls on all alike; ratios of medians are what counts. Writes everything that was seen to
OUTPUT/results.json, and docs/benchmarks.md with its picture from that.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.machine.host import available_cores, available_memory_mb, instruction_set
from tests.benchmarks import bench_data
from tests.benchmarks.bench_page import write_page
from tests.benchmarks.linked_files import linked_files
from tests.benchmarks.peers import PEERS
from tests.benchmarks.watch import Watched, watch

MODELS = {"ecg_only": "demo-synthetic-ecg-only", "full": "demo-synthetic"}
MODEL = MODELS["ecg_only"]
ROOT = Path(__file__).resolve().parents[2]
# Whose ratio is near what is asked of it: measured three times a round, one after the other.
PAIR = ("spectral_ecg_only", "job_spectral")
N_PAIRS = 3
# The model is loaded within what is timed: a run over 64 ECGs is taken off.
LOADS_INSIDE = ("run_inference", "ray_data")


class Bench:
    """One run of the benchmark."""

    def __init__(self, folder: Path, *, quick: bool) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.n_job, self.n_peer, self.n_engine = (2048, 512, 4096) if quick else (10240, 1024, 102400)
        self.quick = quick
        simulated = bench_data.simulated(folder, int(self.n_job * 0.96))
        cut = bench_data.first_rows
        self.job_data = cut(simulated, folder / f"job-{self.n_job}", self.n_job)
        self.peer_data = cut(simulated, folder / f"peer-{self.n_peer}", self.n_peer)
        self.tiny_data = cut(simulated, folder / "tiny-64", 64)
        self.bad_data = bench_data.spoiled(simulated, folder / "bad-64", missing_lead=True)
        self.flat_data = bench_data.spoiled(simulated, folder / "flat-64", missing_lead=False)
        self.model = bench_data.model_files(folder, MODEL)
        self.log = folder / "errors.log"
        self.output = folder / "out"

    def peer(self, name: str, data: Path, **options: Any) -> Watched:
        """Run a peer."""
        module = "tests.benchmarks.peers"
        command = [sys.executable, "-m", module, name, str(data), str(self.model), str(self.output)]
        return watch(command, self.log, **options)

    def fresh_peer(self, name: str, data: Path, **options: Any) -> Watched:
        """Run a peer that finds no output of its own."""
        shutil.rmtree(self.output, ignore_errors=True)
        return self.peer(name, data, **options)

    def own(self, *args: Any) -> Watched:
        """Run one of `tests.benchmarks.own`."""
        command = [sys.executable, "-m", "tests.benchmarks.own", *map(str, args)]
        return watch(command, self.log)

    def job(
        self, data: Path, engine: str, *options: Any, fresh: bool = True, prefix: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Run the score job and return its report."""
        if fresh:
            shutil.rmtree(self.output, ignore_errors=True)
        command = [
            *prefix,
            sys.executable,
            "-m",
            "lvm_ai",
            "score",
            "--input",
            str(data),
            "--model",
            MODEL,
            "--output",
            str(self.output),
            "--engine",
            engine,
            *map(str, options),
        ]
        with self.log.open("w") as errors:
            code = subprocess.run(command, stderr=errors, check=False).returncode
        report = self.output / "run_report.json"
        return {"code": code, **(json.loads(report.read_text()) if report.is_file() else {})}


def of_job(report: dict[str, Any]) -> dict[str, float]:
    """Return of a run report what a measurement holds."""
    n, timing = report["counts"]["read"], report["timing_s"]
    return {
        "ecg_per_s": report["ecg_per_s"],
        "cpu_s_per_ecg": timing["scoring_cpu"] / n,
        "startup_s": timing["startup"],
        "peak_mb": report["peak_rss_mb"],
        "n": n,
        **{f"share_{name}": share for name, share in (report["stage_shares"] or {}).items()},
    }


def of_watched(seen: Watched, inside: Watched | None = None) -> dict[str, float]:
    """Return of a process what a measurement holds.

    Args:
        seen: the process.
        inside: the same over a few ECGs, where start-up is within what was timed.
    """
    if seen.code != 0:
        raise SystemExit(f"a measurement ended with {seen.code}:\n{seen.tail}")
    scoring_s, cpu_s, n, startup_s = seen.scoring_s, seen.cpu_s, seen.n, seen.startup_s
    if inside is not None:
        scoring_s -= inside.scoring_s
        cpu_s -= inside.cpu_s
        n -= inside.n
        startup_s += inside.scoring_s
    return {
        "ecg_per_s": n / scoring_s,
        "cpu_s_per_ecg": cpu_s / n,
        "startup_s": startup_s,
        "peak_mb": seen.peak_mb,
        "n": n,
        "inside_s": 0.0 if inside is None else inside.scoring_s,
    }


def measures(bench: Bench) -> dict[str, Callable[[], dict[str, float]]]:
    """Return everything that is measured in each round, by name."""
    cores = available_cores()
    n_bare = bench.n_peer
    found: dict[str, Callable[[], dict[str, float]]] = {}
    for kind, model in MODELS.items():
        found[f"bare_{kind}"] = lambda m=model: of_watched(bench.own("bare", m, n_bare, 1))
        found[f"bare_callers_{kind}"] = lambda m=model: of_watched(bench.own("bare", m, n_bare, cores))
        found[f"spectral_{kind}"] = lambda m=model: of_watched(
            bench.own("engine", m, bench.n_peer * 4, bench.job_data, "spectral")
        )
    found["tensorflow_engine"] = lambda: of_watched(bench.own("engine", MODEL, n_bare, bench.job_data, "tensorflow"))
    for name in PEERS:
        found[name] = lambda p=name: of_watched(
            bench.fresh_peer(p, bench.peer_data), bench.fresh_peer(p, bench.tiny_data) if p in LOADS_INSIDE else None
        )
    found["job_spectral"] = lambda: of_job(bench.job(bench.job_data, "spectral"))
    found["job_tensorflow"] = lambda: of_job(bench.job(bench.peer_data, "tensorflow"))
    return found


def rounds(bench: Bench, n_rounds: int) -> dict[str, list[dict[str, float]]]:
    """Measure everything by turns."""
    seen: dict[str, list[dict[str, float]]] = {}
    by_name = measures(bench)
    others = [name for name in by_name if name not in PAIR]
    for number in range(n_rounds):
        for name in [*others, *PAIR * N_PAIRS]:
            found = by_name[name]()
            seen.setdefault(name, []).append(found)
            _say(f"round {number + 1}/{n_rounds} {name}: {found['ecg_per_s']:.1f} ECG/s")
    return seen


def growth(bench: Bench) -> dict[str, Any]:
    """Measure how our job grows: with ECGs, cores, row groups and files."""
    cut, folder = bench_data.first_rows, bench.folder
    found: dict[str, Any] = {"ecgs": {}, "cores": {}, "row_groups": {}, "plan": {}}
    small = cut(bench.job_data, folder / "grow-1024", 1024)
    copies = 1 if bench.quick else 10
    large = cut(bench.job_data, folder / f"grow-{bench.n_job * copies}", bench.n_job * copies, copies=copies)
    for data in (small, bench.job_data, large):
        found["ecgs"][data.name] = of_job(bench.job(data, "spectral"))
        _say(f"{data.name}: {found['ecgs'][data.name]}")
    for cores in range(1, available_cores() + 1):
        mask = ",".join(map(str, sorted(os.sched_getaffinity(0))[:cores]))
        report = bench.job(bench.peer_data, "spectral", prefix=["taskset", "-c", mask])
        found["cores"][cores] = of_job(report)
    for row_group in (16, 64, 256, 1024):
        data = cut(bench.job_data, folder / f"rows-{row_group}", 1024, row_group=row_group)
        found["row_groups"][row_group] = of_job(bench.job(data, "spectral"))
    for n_files in (10, 1000) if bench.quick else (10, 1000, 100_000):
        data = linked_files(folder, n_files)
        started = time.perf_counter()
        report = bench.job(data, "spectral", "--dry-run")
        found["plan"][n_files] = {"s": time.perf_counter() - started, "code": report["code"]}
    found["startup"] = {
        name: [asdict(bench.own("startup", MODEL, name)) for _ in range(3)] for name in ("spectral", "tensorflow")
    }
    return found


def alone(bench: Bench) -> dict[str, float]:
    """Measure the spectral engine alone over many ECGs."""
    return of_watched(bench.own("engine", MODEL, bench.n_engine, bench.job_data, "spectral"))


def behaviour(bench: Bench, seen: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, Any]]:
    """Try what happens on a bad record and after a kill, with each peer and with our job."""
    found = {name: _peer_behaviour(bench, name, seen[name][0]) for name in PEERS}
    found["job_spectral"] = _job_behaviour(bench)
    return found


def _peer_behaviour(bench: Bench, name: str, usual: dict[str, float]) -> dict[str, Any]:
    spoiled = bench.fresh_peer(name, bench.bad_data)
    scored = bench_data.masses_of(bench.output)
    bench.fresh_peer(name, bench.flat_data)
    flat = bench_data.SPOILED in bench_data.masses_of(bench.output)
    whole_s = usual["n"] / usual["ecg_per_s"]
    killed = bench.fresh_peer(name, bench.peer_data, kill_after_s=usual["inside_s"] + 0.5 * whole_s)
    kept = len(bench_data.masses_of(bench.output))
    again = bench.peer(name, bench.peer_data)
    after = bench_data.ids_of(bench.output)
    return _told(
        goes_on=spoiled.code == 0 and len(scored) == bench_data.N_SPOILED - 1,
        reported=False,
        flat_scored=flat,
        was_killed=killed.code != 0,
        kept=kept,
        resumed=kept > 0 and again.scoring_s - usual["inside_s"] < 0.75 * whole_s,
        exact=again.code == 0 and len(after) == len(set(after)) == bench.n_peer,
    )


def _job_behaviour(bench: Bench) -> dict[str, Any]:
    results = bench.output / "predictions"
    spoiled = bench.job(bench.bad_data, "spectral")
    scored = bench_data.masses_of(results)
    reported = spoiled["counts"]["rejected"] == {"missing_lead": 1}
    bench.job(bench.flat_data, "spectral")
    flat = bench_data.SPOILED in bench_data.masses_of(results)
    shutil.rmtree(bench.output)
    command = [
        sys.executable,
        "-m",
        "lvm_ai",
        "score",
        "--input",
        str(bench.peer_data),
        "--model",
        MODEL,
        "--output",
        str(bench.output),
        "--engine",
        "spectral",
        "--unit-ecgs",
        "256",
    ]
    with bench.log.open("w") as errors:
        child = subprocess.Popen(command, stderr=errors)
        while not list(results.glob("unit-*.parquet")) and child.poll() is None:
            time.sleep(0.02)
        child.kill()
        code = child.wait()
    kept = len(bench_data.masses_of(results))
    again = bench.job(bench.peer_data, "spectral", "--unit-ecgs", 256, fresh=False)
    after = bench_data.ids_of(results)
    shard = json.loads((bench.output / "reports" / "shard-1-of-1.json").read_text())
    return _told(
        goes_on=len(scored) == bench_data.N_SPOILED - 1,
        reported=reported,
        flat_scored=flat,
        was_killed=code == -9,
        kept=kept,
        resumed=shard["counts"]["read"] == bench.n_peer - kept,
        exact=again["code"] == 0 and len(after) == len(set(after)) == bench.n_peer,
    )


def _told(**seen: Any) -> dict[str, Any]:
    _say(f"behaviour: {seen}")
    return seen


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    packages = ("tensorflow-cpu", "numpy", "scipy", "apache-beam", "ray", "onnxruntime", "openvino")
    from importlib.metadata import version

    return {
        "processor": names[0] if names else platform.processor(),
        "cores": available_cores(),
        "memory_gb": round((available_memory_mb() or 0) / 1000),
        "instruction_set": instruction_set(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "load_before": os.getloadavg()[0],
    }


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "bench-output")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="few ECGs, to see that it works")
    parser.add_argument("--page", type=Path, default=None, help="folder of docs (default: ours)")
    parser.add_argument("--only-page", action="store_true", help="write the page from results.json")
    args = parser.parse_args()
    results = args.output / "results.json"
    if not args.only_page:
        about = machine()
        bench = Bench(args.output, quick=args.quick)
        content = {"machine": about, "rounds": rounds(bench, args.rounds)}
        for name, stage in (
            ("alone", alone),
            ("growth", growth),
            ("behaviour", lambda bench: behaviour(bench, content["rounds"])),
        ):
            results.write_text(json.dumps(content, indent=1))  # what is there outlives an error
            content[name] = stage(bench)
        results.write_text(json.dumps(content, indent=1))
    write_page(json.loads(results.read_text()), args.page or ROOT / "docs")
    ratio = {
        name: statistics.median(one["ecg_per_s"] for one in values)
        for name, values in json.loads(results.read_text())["rounds"].items()
    }
    for name, rate in sorted(ratio.items(), key=lambda item: -item[1]):
        _say(f"{name:24} {rate:8.1f} ECG/s  {rate / ratio['bare_ecg_only']:6.2f}")


if __name__ == "__main__":
    main()
