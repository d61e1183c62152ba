"""docs/benchmarks.md and its picture, from what `bench` saw."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import yaml
from matplotlib.figure import Figure

HEAD = """# Benchmarks

`make bench` measures all of this again, in about an hour on two cores, and writes this page. Every
measurement is a process of its own, they take turns, and the medians of {rounds} rounds stand here
(of the job and its engine: of {pairs} pairs, one after the other). **Ratios first**: the bare
TensorFlow graph (one caller, batch {batch}, TensorFlow's own threads, tensors ready in memory)
is 1. Start-up is apart. Synthetic ECGs, embedded models; the speed does not depend on the weights.

Machine: {processor}, {cores} cores, {memory} GB, {isa}; Python {python}, {packages}.
"""
NAMES = {
    "bare_ecg_only": "bare graph, one caller, TensorFlow's threads",
    "bare_callers_ecg_only": "bare graph, one caller per core, one thread each",
    "spectral_ecg_only": "**our spectral engine alone**",
    "tensorflow_engine": "our TensorFlow engine alone",
    "job_spectral": "**our job, spectral engine**",
    "job_tensorflow": "our job, TensorFlow engine",
    "loop": "`model.predict`, one ECG at a time",
    "tf_data": "`model.predict` over tf.data, batch 64",
    "run_inference": "Beam RunInference, stock TensorFlow handler",
    "ray_data": "Ray Data, one actor a core, batch 64",
    "onnxruntime": "onnxruntime, plain loop, batch 32",
    "openvino": "OpenVINO (float32), plain loop, batch 32",
}
TRIED = ("loop", "tf_data", "run_inference", "ray_data", "onnxruntime", "openvino", "job_spectral")
PICTURE = "images/benchmarks.png"
GPU_LINE = "On a GPU: [benchmarks_gpu.md](benchmarks_gpu.md).\n"
PLACES = Path(__file__).with_name("places.yaml")
PLACES_TITLE = "## Places\n"
INGEST = Path(__file__).with_name("ingest_measured.json")
INGEST_TITLE = "## Ingest\n"
PLACE_COLUMNS = {
    "place": "place",
    "ran": "what ran",
    "ecgs": "ECGs",
    "units": "units",
    "seconds": "seconds",
    "fixed_s": "of these fixed",
    "killed": "killed in the middle",
    "same_bits": "same bits as local",
}
# Prices differ between clouds and change; this one is a round number to multiply with.
PRICE_PER_CORE_HOUR = 0.05


def write_page(results: Mapping[str, Any], docs: Path) -> None:
    """Write the page and its picture into a folder of documents."""
    median = {name: _median(rounds) for name, rounds in results["rounds"].items()}
    about = results["machine"]
    head = HEAD.format(
        rounds=len(results["rounds"]["bare_ecg_only"]),
        batch=32,
        pairs=len(results["rounds"]["job_spectral"]),
        processor=about["processor"],
        cores=about["cores"],
        memory=about["memory_gb"],
        isa=about["instruction_set"],
        python=about["python"],
        packages=", ".join(f"{name} {one}" for name, one in about["packages"].items()),
    )
    parts = [
        head,
        f"![ECGs per second beside the bare graph]({PICTURE})\n",
        _rates(median),
        _claims(results, median),
        _behaviour(results["behaviour"]),
        _growth(results, median),
        places_section(),
        GPU_LINE,
    ]
    (docs / "images").mkdir(parents=True, exist_ok=True)
    _draw(median, docs / PICTURE)
    (docs / "benchmarks.md").write_text("\n".join(parts), encoding="utf-8")


def _median(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _rates(median: Mapping[str, Mapping[str, float]]) -> str:
    bare = median["bare_ecg_only"]["ecg_per_s"]
    listed = sorted(NAMES, key=lambda name: -median[name]["ecg_per_s"])
    rows = [
        [
            NAMES[name],
            f"{one['ecg_per_s'] / bare:.2f}",
            f"{one['ecg_per_s']:.0f}",
            f"{1000 * one['cpu_s_per_ecg']:.1f}",
            f"{one['peak_mb']:.0f}",
            f"{one['startup_s']:.1f}",
            f"{one['n']:.0f}",
        ]
        for name in listed
        for one in [median[name]]
    ]
    head = ("ECG-only model", "ratio", "ECG/s", "CPU ms per ECG", "peak MB", "start-up s", "ECGs")
    note = (
        "Peers read the same Parquet and write ids and masses. RunInference and Ray Data load the "
        "model within their run: a run over 64 ECGs is taken off, and is their start-up. Peak is "
        "that of all processes together. OpenVINO computes in bfloat16 by default where the "
        "processor can, which moves masses by 0.2 g; here that is switched off.\n"
    )
    return f"## Beside others\n\n{_table(head, rows)}\n{note}"


def _claims(results: Mapping[str, Any], median: Mapping[str, Mapping[str, float]]) -> str:
    def rate(name: str) -> float:
        return median[name]["ecg_per_s"]

    peers = [name for name in TRIED if name != "job_spectral"]
    best = max(peers, key=rate)
    asked = [
        ("spectral engine / bare graph, ECG-only model", "spectral_ecg_only", "bare_ecg_only", 6),
        ("spectral engine / bare graph, full model", "spectral_full", "bare_full", 5),
        ("whole job / spectral engine alone", "job_spectral", "spectral_ecg_only", 0.9),
        ("whole job / bare graph", "job_spectral", "bare_ecg_only", 4),
        ("whole job / one ECG at a time", "job_spectral", "loop", 25),
        (f"whole job / fastest peer, {NAMES[best]}", "job_spectral", best, 1),
    ]
    rows = [[words, f"{rate(one) / rate(of):.2f}", str(least)] for words, one, of, least in asked]
    alone = results["alone"]
    both = [results["rounds"][one] for one in ("job_spectral", "spectral_ecg_only")]
    pairs = [job["ecg_per_s"] / own["ecg_per_s"] for job, own in zip(*both, strict=True)]
    cpu_ms = [1000 * median[one]["cpu_s_per_ecg"] for one in ("job_spectral", "spectral_ecg_only")]
    note = (
        f"The spectral engine alone over {alone['n']:.0f} ECGs: {alone['ecg_per_s']:.0f} ECG/s, "
        f"{alone['peak_mb']:.0f} MB with the ECGs in memory. Of CPU an ECG takes "
        f"{cpu_ms[0]:.2f} ms in the whole job and {cpu_ms[1]:.2f} ms in the engine alone; the rest "
        "is reading, checking and writing, and what these cost the engine. Of single pairs of the "
        f"job and its engine the ratio was {', '.join(f'{ratio:.2f}' for ratio in pairs)}: this "
        "machine's speed changes from minute to minute.\n"
    )
    return f"## What is asked of it\n\n{_table(('ratio of medians', 'seen', 'asked'), rows)}\n{note}"


def _behaviour(tried: Mapping[str, Mapping[str, Any]]) -> str:
    def yes(value: bool) -> str:
        return "yes" if value else "no"

    rows = []
    for name in TRIED:
        one = tried[name]
        rows.append(
            [
                NAMES[name],
                yes(one["goes_on"]),
                yes(one["reported"]),
                yes(not one["flat_scored"]),
                yes(one["kept"] > 0),
                yes(one["resumed"]),
                yes(one["exact"]),
            ]
        )
    head = (
        "tried",
        "goes on after a record without V3",
        "says which and why",
        "gives no mass to a flat ECG",
        "keeps something after kill -9",
        "same command resumes",
        "afterwards each ECG once",
    )
    return f"## A bad record, and a kill in the middle\n\n{_table(head, rows)}\n"


def _growth(results: Mapping[str, Any], median: Mapping[str, Mapping[str, float]]) -> str:
    grown = results["growth"]
    ecgs = [[f"{one['n']:.0f}", f"{one['ecg_per_s']:.0f}", f"{one['peak_mb']:.0f}"] for one in grown["ecgs"].values()]
    cores = [[str(n), f"{one['ecg_per_s']:.0f}", f"{one['peak_mb']:.0f}"] for n, one in grown["cores"].items()]
    groups = [[str(n), f"{one['ecg_per_s']:.0f}", f"{one['peak_mb']:.0f}"] for n, one in grown["row_groups"].items()]
    plans = [[str(n), f"{one['s']:.1f}"] for n, one in grown["plan"].items()]
    starts = [
        [
            name,
            f"{statistics.median(one['startup_s'] for one in seen):.1f}",
            f"{statistics.median(one['peak_mb'] for one in seen):.0f}",
        ]
        for name, seen in grown["startup"].items()
    ]
    job = median["job_spectral"]
    core_hours = job["cpu_s_per_ecg"] * 1e6 / 3600
    wall_hours = 1e6 / job["ecg_per_s"] / 3600
    shares = ", ".join(
        f"{100 * job[f'share_{name}']:.1f} % {words}"
        for name, words in (
            ("reader_wait", "waiting for the reader"),
            ("engine_wait", "for the engine"),
            ("writer_wait", "for the writer"),
            ("checks", "checking"),
        )
    )
    return "\n".join(
        [
            "## How cost grows (our job, spectral engine)\n",
            f"Time of the units of the run above: {shares}. Each line below is one run: its rate "
            "goes with what the machine did meanwhile, its memory does not.\n",
            _table(("ECGs", "ECG/s", "peak MB"), ecgs),
            _table(("cores", "ECG/s", "peak MB"), cores),
            _table(("rows of a row group", "ECG/s", "peak MB"), groups),
            _table(("files to plan (device files)", "whole --dry-run, s"), plans),
            _table(("a process with", "ready after s", "peak MB"), starts),
            f"A million ECGs take {core_hours:.1f} core-hours, {wall_hours:.1f} hours on this "
            f"machine; at {PRICE_PER_CORE_HOUR:.2f} a core-hour (a round number, not a quote) that "
            f"is {core_hours * PRICE_PER_CORE_HOUR:.2f}.\n",
        ]
    )


def places_section() -> str:
    """Return the section on engines and schedulers, from `places.yaml`."""
    places = yaml.safe_load(PLACES.read_text(encoding="utf-8"))["places"]
    rows = [[_cell(place.get(name)) for name in PLACE_COLUMNS] for place in places]
    note = (
        "The same job on engines and schedulers, all on one machine of two cores, so that these times show what a "
        "place costs and not how it scales. The first four are medians of three runs by turns "
        "(`python -m tests.benchmarks.places`); fixed is a run of one unit with 8 ECGs. The others are times of tests "
        "of `make check-engines`. Other work shared the machine. What a thousand workers would take is simulated: "
        "[scaling.md](scaling.md).\n"
    )
    table = f"{_table(tuple(PLACE_COLUMNS.values()), rows)}\n" if rows else ""
    return f"{PLACES_TITLE}\n{table}{note}"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def ingest_section() -> str:
    """Return the section on ingest, from what `bench_ingest` saw."""
    seen = json.loads(INGEST.read_text(encoding="utf-8"))
    rows = []
    for name, rates in seen["per_core"].items():
        read = seen["readers"][name]
        others = [f"{read['lvm-ai'] / read[other]:.1f}" if other in read else "-" for other in ("ecgdatakit", "wfdb")]
        rows.append([name, *(f"{rates[way]:.0f}" for way in rates), f"{read['lvm-ai']:.0f}", *others])
    head = (
        "format",
        "files/s a core",
        "with flags of the signal",
        "and measured",
        "only read",
        "times ecgdatakit",
        "times the wfdb package",
    )
    cores, listing = seen["cores"], seen["listing"]
    growth = [[f"{one['files']:,}", f"{one['peak_mb']:.0f}", f"{one['peak_of_one_mb']:.0f}"] for one in seen["growth"]]
    return (
        f"{INGEST_TITLE}\n`make bench-ingest`, rounds: {seen['rounds']}; synthetic device files on "
        "the local disk. From file to ECG Parquet with `lvm-ai ingest --processes 1`, its start taken off: without and "
        "with flags of the signal (`--signal-flags`), and where the software measures R, S and QRS too of each ECG "
        "that the device did not measure: CardioSoft and MUSE files have amplitudes, WFDB has none. "
        "**Only read**: decoded and brought to 500 Hz in a loop, beside other readers of the same files, which "
        "neither check nor resample; `-` stands for a format that they do not take.\n\n"
        f"{_table(head, rows)}\n\n"
        f"Two processes do {cores['files']} WFDB files {cores['ratio']:.2f} times as fast as one (ingest takes one a "
        f"core by default). Memory by the number of files, without measuring and flags, of one process and then of "
        "two beside the command. The files are links to a few, so that each shares its signal with others: the largest "
        "process is the command when it lists these at the end. A process that reads has a peak that does not grow.\n\n"
        f"{_table(('CardioSoft files', 'peak MB of all processes', 'of the largest'), growth)}\n\n"
        f"A million files are listed and planned in {listing['seconds']:.0f} s ({listing['cpu_s']:.0f} s of "
        f"processor time) with {listing['peak_mb'] / 1000:.2f} GB.\n"
    )


def with_places(page: str) -> str:
    """Return the page with its last sections written again, or added before its last line."""
    before, _, rest = page.partition(GPU_LINE)
    before = before.partition(INGEST_TITLE)[0].partition(PLACES_TITLE)[0]
    ingest = f"{ingest_section()}\n" if INGEST.exists() else ""
    return f"{before}{ingest}{places_section()}\n{GPU_LINE}{rest}"


def _draw(median: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Draw the rates beside the bare graph as bars."""
    mpl.rcParams["font.size"] = 9
    bare = median["bare_ecg_only"]["ecg_per_s"]
    listed = sorted(NAMES, key=lambda name: median[name]["ecg_per_s"])
    ratios = [median[name]["ecg_per_s"] / bare for name in listed]
    figure = Figure(figsize=(8.5, 4.6), layout="constrained")
    axes = figure.add_subplot()
    ours = [name.startswith(("spectral", "job", "tensorflow_engine")) for name in listed]
    colours = ["#0072B2" if own else "#999999" for own in ours]
    axes.barh([NAMES[name].replace("*", "").replace("`", "") for name in listed], ratios, color=colours)
    axes.set_xlim(0, max(ratios) * 1.1)
    axes.axvline(1, color="black", linewidth=0.8)
    behind = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
    for place, ratio in enumerate(ratios):
        axes.text(ratio + 0.08, place, f"{ratio:.2f}", va="center", bbox=behind)
    axes.set_xlabel("ECGs per second, bare TensorFlow graph = 1 (ECG-only model; blue: this project)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Write the section on places again; the rest of the page needs `make bench`."""
    path = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
    path.write_text(with_places(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
