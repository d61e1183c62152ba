"""docs/scaling.md and its picture: the simulation of `scaling` with the figures of `scaling.yaml`.

`python -m tests.benchmarks.scaling_page` writes both; a test compares the page with the figures.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import yaml
from matplotlib.figure import Figure

from tests.benchmarks.scaling import HOUR_S, Costs, Division, Load, Outcome, Place, kept, simulate, taken

HERE = Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs"
PAGE, PICTURE = "scaling.md", "images/scaling.png"
WORKERS = (1, 3, 10, 30, 100, 300, 1000)
DRAWN = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
SEEDS = (1, 2, 3)
# Hours between two times that a machine is taken away, on average.
TAKEN_H: tuple[float | None, ...] = (None, 24.0, 6.0, 1.0)
COLOURS = {None: "#000000", 24.0: "#0072B2", 6.0: "#E69F00", 1.0: "#D55E00"}


@dataclass(frozen=True)
class Given:
    """What the simulation is given, and what was measured beside it."""

    costs: Costs
    load: Load
    places: Mapping[Division, Place]
    figures: Sequence[tuple[str, str, str]]  # what, its value, where it is from
    measured: Mapping[str, Any]


def read_given() -> Given:
    """Read `scaling.yaml` and `scaling_measured.json`."""
    content = yaml.safe_load((HERE / "scaling.yaml").read_text(encoding="utf-8"))
    names = [field.name for field in fields(Costs)]
    costs = Costs(**{name: content["costs"][name]["value"] for name in names if name in content["costs"]})
    common = {name: one["value"] for name, one in content["places"]["all"].items()}
    places = {}
    for division in Division:
        own = content["places"][division.value]
        settings = {name: one["value"] for name, one in own["figures"].items()}
        places[division] = Place(own["name"], division, **{**common, **settings})
    listed = [*content["costs"].values(), *content["load"].values(), *content["places"]["all"].values()]
    listed += [one for division in Division for one in content["places"][division.value]["figures"].values()]
    figures = [(one["what"], one.get("shown") or f"{one['value']:g}", one["how"]) for one in listed if "what" in one]
    load = Load(**{name: one["value"] for name, one in content["load"].items()})
    measured = json.loads((HERE / "scaling_measured.json").read_text(encoding="utf-8"))
    return Given(costs, load, places, figures, measured)


@cache
def typical(load: Load, costs: Costs, place: Place, n_workers: int, taken_h: float | None) -> Outcome:
    """Return the run of median length among some seeds; nothing is random without kills."""
    if taken_h is None:
        return simulate(load, costs, place, n_workers, kept())
    runs = [simulate(load, costs, place, n_workers, taken(taken_h * HOUR_S, seed)) for seed in SEEDS]
    return sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]


def page(given: Given) -> str:
    """Return the text of docs/scaling.md."""
    template = (HERE / "scaling_page.md").read_text(encoding="utf-8")
    parts = {
        "FIGURES": _table(("figure", "value", "from"), given.figures, right=1),
        "CHECK": _check(given.measured["check"]),
        "RUNS": _runs(given),
        "PLACES": _places(given),
        "UNITS": _units(given),
        "WASTE": _waste(given.measured["waste"]),
        "START": _start(given.measured["start"]),
        "CLOSE": _close(given.measured["close"]),
    }
    for name, text in parts.items():
        template = template.replace(f"<!-- {name} -->\n", text)
    return template


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], right: int | None = None) -> str:
    """Return a table; columns are numbers but for the first, or for all but `right`."""
    marks = ["---:" if (i == right if right is not None else i > 0) else "---" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, marks, *rows)) + "\n"


def _check(rows: Sequence[Mapping[str, Any]]) -> str:
    shown = []
    for way in dict.fromkeys(row["way"] for row in rows):
        own = [row for row in rows if row["way"] == way]
        measured, simulated = ([row[name] for row in own] for name in ("measured_s", "simulated_s"))
        ratios = [s / m for s, m in zip(simulated, measured, strict=True)]
        shown.append(
            [
                way,
                ", ".join(f"{one:.0f}" for one in measured),
                ", ".join(f"{one:.0f}" for one in simulated),
                ", ".join(f"{one:.2f}" for one in ratios),
                ", ".join(str(row["computed_twice"]) for row in own),
            ]
        )
    return _table(("run", "measured, s", "simulated, s", "simulated / measured", "ECGs computed twice"), shown)


def _taken_text(taken_h: float | None) -> str:
    return "never" if taken_h is None else f"every {taken_h:g} h"


def _hours(seconds: float) -> str:
    return "does not end" if seconds == math.inf else f"{seconds / HOUR_S:.2f}"


def _runs(given: Given) -> str:
    place, cores = given.places[Division.QUEUE], given.costs.cores
    rows = []
    for n_workers in WORKERS:
        ideal_s = given.load.n_ecgs / given.costs.ecg_per_s / n_workers
        for taken_h in TAKEN_H:
            one = typical(given.load, given.costs, place, n_workers, taken_h)
            rows.append(
                [
                    str(n_workers),
                    _taken_text(taken_h),
                    _hours(one.seconds),
                    f"{one.paid_s * cores / HOUR_S:.1f}",
                    str(one.n_kills),
                    f"{100 * one.wasted_s / one.paid_s:.2f} %",
                    f"{100 * ideal_s / one.seconds:.0f} %",
                ]
            )
    head = ("workers", "a machine is taken", "hours", "core-hours", "machines taken", "wasted", "of the ideal")
    return _table(head, rows)


def seconds_of(given: Given, division: Division, n_workers: int, taken_h: float | None) -> float:
    """Return the seconds of a run."""
    return typical(given.load, given.costs, given.places[division], n_workers, taken_h).seconds


def _places(given: Given) -> str:
    rows = []
    for n_workers in WORKERS:
        row = [str(n_workers)]
        for division in Division:
            row += [_hours(seconds_of(given, division, n_workers, taken_h)) for taken_h in (None, 6.0, 1.0)]
        rows.append(row)
    head = ["workers"]
    for division in Division:
        head += [f"{given.places[division].name}, {_taken_text(taken_h)}" for taken_h in (None, 6.0, 1.0)]
    return _table(head, rows)


def _units(given: Given) -> str:
    rows = []
    for unit_ecgs in (64, 256, 1024, 4096, 16384):
        load = Load(given.load.n_ecgs, unit_ecgs, given.load.n_files)
        row = [str(unit_ecgs), str(load.n_units)]
        for n_workers in (10, 100, 1000):
            found = [typical(load, given.costs, given.places[Division.QUEUE], n_workers, h) for h in (None, 1.0)]
            row += [_hours(one.seconds) for one in found]
        rows.append(row)
    head = ["ECGs of a unit", "units"]
    head += [f"{n} workers, {_taken_text(h)}" for n in (10, 100, 1000) for h in (None, 1.0)]
    return _table(head, rows)


def _waste(measured: Mapping[str, Any]) -> str:
    rows = []
    for name, kills in measured.items():
        size = kills[0]["unit_ecgs"]
        twice = [one["computed"] - one["committed"] for one in kills]
        mean, restart_s = statistics.fmean(twice), statistics.median(one["restart_s"] for one in kills)
        shown = ", ".join(map(str, sorted(twice)))
        rows.append([name, str(len(kills)), shown, f"{mean:.0f}", f"{mean / size:.2f}", f"{restart_s:.1f}"])
    head = ("ECGs of a unit", "kills", "ECGs computed twice", "mean", "in units", "s to the next batch, median")
    return _table(head, rows)


def _start(steps: Sequence[Mapping[str, Any]]) -> str:
    total = sum(one["cpu_s"] for one in steps)
    rows = [[one["step"], f"{one['cpu_s']:.2f}", f"{100 * one['cpu_s'] / total:.0f} %"] for one in steps]
    return _table(("until the first unit of lvm-ai score begins", "processor s", "share"), rows)


def _close(rows: Sequence[Mapping[str, Any]]) -> str:
    shown = [[row["n"], row["mb"], row["mb0"]] for row in rows]
    return _table(("ECGs", "peak MB", "before: peak MB"), shown)


def draw(given: Given, path: Path) -> None:
    """Draw hours against workers, one panel for each way to divide the work."""
    mpl.rcParams["font.size"] = 9
    figure = Figure(figsize=(8.5, 3.9), layout="constrained")
    panels = figure.subplots(1, len(Division), sharex=True, sharey=True)
    ideal_h = given.load.n_ecgs / given.costs.ecg_per_s / HOUR_S
    for axes, division in zip(panels, Division, strict=True):
        axes.plot(DRAWN, [ideal_h / n for n in DRAWN], "--", color="#999999", linewidth=1.2, label="ideal")
        for taken_h in TAKEN_H:
            hours = [seconds_of(given, division, n, taken_h) / HOUR_S for n in DRAWN]
            ended = [(n, h) for n, h in zip(DRAWN, hours, strict=True) if h < math.inf]
            width = 3.4 if taken_h is None else 1.6
            label = _taken_text(taken_h)
            axes.plot(*zip(*ended, strict=True), "-", color=COLOURS[taken_h], linewidth=width, label=label)
            if len(ended) < len(DRAWN):
                axes.plot(*ended[-1], "x", color=COLOURS[taken_h], markersize=8, markeredgewidth=2)
        axes.set_title(given.places[division].name, fontsize=9)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
        axes.set_yticks([0.01, 0.1, 1, 10], ["0.01", "0.1", "1", "10"])
        axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.6)
    panels[0].set_ylabel("hours for 10 million ECGs")
    panels[1].set_xlabel("workers of two cores")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, title="a machine is taken away", loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Write the page and the picture."""
    given = read_given()
    (DOCS / PAGE).write_text(page(given), encoding="utf-8")
    draw(given, DOCS / PICTURE)


if __name__ == "__main__":
    main()
