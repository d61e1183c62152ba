"""Ingest and readers of device files, by turns. `make bench-ingest` runs it.

Every measurement is a process of its own; medians of what was seen go into `ingest_measured.json`,
from which docs/benchmarks.md has its section. Files are synthetic, one recording each.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ecgdatakit
import psutil
import wfdb

from lvm_core.formats.registry import format_of, read_ecg
from lvm_core.signal.canonical import canonicalise
from tests.benchmarks import bench_page
from tests.benchmarks.linked_files import linked_files

FORMATS = ("cardiosoft", "muse", "wfdb")
WAYS = {
    "read": ("--measure", "never", "--signal-flags", "never"),
    "flagged": ("--measure", "never"),
    "measured": ("--measure", "missing"),
}
N_FEW, N_MANY = 200, 2000
N_READ = 300
N_LEAST, N_MOST = 1_000, 50_000
N_LISTED = 1_000_000
_EVERY_S = 0.05


def main() -> None:
    """Measure all, write what was seen, and the section of the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("bench-output/ingest"))
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    data = {name: _device_files(args.folder, name) for name in FORMATS}
    seen = {
        "rounds": args.rounds,
        "per_core": {name: _per_core(args.folder, data[name], args.rounds) for name in FORMATS},
        "readers": {name: _readers(data[name], args.rounds) for name in FORMATS},
        "cores": _cores(args.folder, data["wfdb"], args.rounds),
        "growth": [_of_linked(args.folder, n) for n in (N_LEAST, N_MOST)],
        "listing": _listing(args.folder),
    }
    bench_page.INGEST.write_text(json.dumps(seen, indent=1) + "\n", encoding="utf-8")
    bench_page.main()


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _device_files(folder: Path, name: str) -> Path:
    """Return a folder with `N_MANY` recordings of a format, and in `few` the first of them."""
    target = folder / name
    if not (target / "simulation.json").exists():
        _say(f"writing {N_MANY} {name} files")
        people = ["--participants", str(N_MANY), "--seed", "3", "--formats", name]
        _run(["lvm_ai", "simulate", *people, "--output", str(target), "--overwrite"])
    raw = target / "raw" / name
    few = target / "few"
    if not few.exists():
        few.mkdir()
        for stem in sorted({path.stem for path in raw.iterdir()})[:N_FEW]:
            for path in raw.glob(f"{stem}.*"):
                shutil.copy(path, few)
    return target


def _run(words: Sequence[str]) -> dict[str, float]:
    """Run a module; return its seconds, the processor seconds of all processes and their peak."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", *words], stderr=subprocess.PIPE, text=True)
    cpu_s: dict[int, float] = {}
    peak_mb = peak_of_one_mb = 0.0
    while process.poll() is None:
        rss = []
        for one in _tree(process.pid):
            try:
                times = one.cpu_times()
                cpu_s[one.pid] = times.user + times.system
                rss.append(one.memory_info().rss / 1e6)
            except psutil.NoSuchProcess:
                continue
        peak_mb, peak_of_one_mb = max(peak_mb, sum(rss)), max([peak_of_one_mb, *rss])
        time.sleep(_EVERY_S)
    seconds = time.perf_counter() - started
    assert process.stderr is not None
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {process.returncode}:\n{process.stderr.read()[-2000:]}")
    return {"seconds": seconds, "cpu_s": sum(cpu_s.values()), "peak_mb": peak_mb, "peak_of_one_mb": peak_of_one_mb}


def _tree(pid: int) -> Iterator[psutil.Process]:
    try:
        root = psutil.Process(pid)
        yield root
        yield from root.children(recursive=True)
    except psutil.NoSuchProcess:
        return


def _ingest(folder: Path, inputs: Path, *more: str) -> dict[str, float]:
    output = folder / "out"
    shutil.rmtree(output, ignore_errors=True)
    return _run(["lvm_ai", "ingest", "--input", str(inputs), "--output", str(output), *more])


def _files(data: Path) -> int:
    return len({path.stem for path in data.iterdir()})


def _per_core(folder: Path, data: Path, rounds: int) -> dict[str, float]:
    """Return files a second of one process, its start taken off, by what is done with them."""
    raw = next((data / "raw").iterdir())
    n_more = _files(raw) - N_FEW
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, options in WAYS.items():
            few, many = (_ingest(folder, inputs, "--processes", "1", *options) for inputs in (data / "few", raw))
            found[name].append(n_more / (many["seconds"] - few["seconds"]))
    median = {name: statistics.median(values) for name, values in found.items()}
    _say(f"{data.name}: {median}")
    return median


def _readers(data: Path, rounds: int) -> dict[str, float]:
    """Return files a second that are only read, by us and by others, by turns in one process."""
    mains = [path for path in sorted((data / "few").iterdir()) if path.suffix != ".dat"][:N_READ]
    readers: dict[str, Callable[[Path], object]] = {"lvm-ai": _read_ours}
    readers |= {name: read for name, read in (("ecgdatakit", _ecgdatakit()), ("wfdb", _wfdb)) if _takes(read, mains[0])}
    rates: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(rounds):
        for name, read in readers.items():
            started = time.perf_counter()
            for path in mains:
                read(path)
            rates[name].append(len(mains) / (time.perf_counter() - started))
    median = {name: statistics.median(values) for name, values in rates.items()}
    _say(f"{data.name}: {median}")
    return median


def _takes(read: Callable[[Path], object], path: Path) -> bool:
    """Tell whether a reader takes files of this format at all."""
    try:
        read(path)
    except (ecgdatakit.UnsupportedFormatError, FileNotFoundError):
        return False
    return True


def _read_ours(path: Path) -> object:
    files = {path.name: path.read_bytes()}
    kind = format_of(files[path.name])
    if kind is not None and kind.part_names is not None:
        files |= {name: path.with_name(name).read_bytes() for name in kind.part_names(files[path.name])}
    return canonicalise(read_ecg(files, path.name))


def _ecgdatakit() -> Callable[[Path], object]:
    parser = ecgdatakit.FileParser()
    return lambda path: [lead.samples for lead in parser.parse(str(path)).leads]


def _wfdb(path: Path) -> object:
    return wfdb.rdrecord(str(path.with_suffix(""))).p_signal


def _cores(folder: Path, data: Path, rounds: int) -> dict[str, Any]:
    """Return the seconds of one and of two processes for the same files, start and end within."""
    raw = next((data / "raw").iterdir())
    seen: dict[str, list[float]] = {"1": [], "2": []}
    for _ in range(rounds):
        for processes, values in seen.items():
            options = ("--processes", processes, "--unit-ecgs", "128")
            few, many = (_ingest(folder, inputs, *options) for inputs in (data / "few", raw))
            values.append(many["seconds"] - few["seconds"])
    one, two = (statistics.median(values) for values in seen.values())
    _say(f"one process {one:.1f} s, two {two:.1f} s: {one / two:.2f}")
    return {"files": _files(raw) - N_FEW, "one_s": one, "two_s": two, "ratio": one / two}


def _of_linked(folder: Path, n: int) -> dict[str, float]:
    """Return what `n` CardioSoft files cost by all cores."""
    # Their traces are noise, of which measuring would take longer than of an ECG.
    options = ("--measure", "never", "--signal-flags", "never")
    found = {"files": n, **_ingest(folder, linked_files(folder, n), *options)}
    _say(str(found))
    return found


def _listing(folder: Path) -> dict[str, float]:
    """Return what planning costs for a million files, which are empty: nothing is read."""
    target = folder / f"listed-{N_LISTED}"
    if not (target / "complete").exists():
        _say(f"making {N_LISTED} empty files")
        for k in range(N_LISTED):
            path = target / f"{k // 1000:03d}" / f"{1_000_000 + k}_20205_2_0.xml"
            if k % 1000 == 0:
                path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        (target / "complete").mkdir()
    found = {"files": N_LISTED, **_ingest(folder, target, "--plan-only", "--id-pattern", "ukb-20205")}
    _say(str(found))
    return found


if __name__ == "__main__":
    main()
