"""A synthetic cohort through the whole job, so that a new machine shows something in a minute."""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from numpy.typing import NDArray

from beam_jobs import ingest, score
from beam_jobs.run.folder import SUCCESS_NAME
from beam_jobs.run.plan import PLAN_NAME
from beam_jobs.run.progress import say
from beam_jobs.simulate import SimulateOptions, simulate
from lvm_core.command_line import ArgumentParser, Share, add_share_option
from lvm_core.errors import UsageError
from lvm_core.synthetic.device_files import write_wfdb
from lvm_core.synthetic.ecgs import SyntheticEcgs, ecgs_of
from lvm_core.synthetic.people import SyntheticPeople, synthetic_people
from lvm_core.wording import counted
from models.catalogue.known import resolve_model

_MODEL_ID: Final = "demo-synthetic"
_COHORT_NAME: Final = "cohort"
_FIGURE_NAME: Final = "predicted_against_true.png"
# Not the seed of the people whom the embedded model was trained on.
_SEED: Final = 1628
_FLAT: Final = 7  # this record loses lead V2: a reject
_NOT_IN_TABLE: Final = 11  # this person is not in the table: another reject
_SHOWN: Final = 8
_COLUMNS: Final = ("ecg_id", "age_years", "sex", "bmi_kg_m2", "lvm_pred_g", "lvmi_pred_g_m2", "lvh_pred")
# Okabe M, Ito K, Color Universal Design, 2008: they differ for every kind of colour vision.
_MEN: Final[dict[str, Any]] = {"color": "#0072B2", "marker": "o", "label": "men"}
_WOMEN: Final[dict[str, Any]] = {"color": "#D55E00", "marker": "^", "label": "women"}
_MARGIN_G: Final = 10.0


def main(argv: Sequence[str]) -> int:
    """Run the first half of `lvm-ai demo`: score ECGs, and simulate the people of the report."""
    args = _parse(argv)
    folder: Path = args.output
    _refuse_foreign(folder, overwrite=args.overwrite)
    say(f"making {args.ecgs} synthetic ECGs in {folder / 'raw'}")
    truth = synthetic_people(args.ecgs, _SEED)
    made = _write_cohort(folder, truth)
    code = _score(folder, again=args.overwrite, share=args.share)
    if code:
        return code
    cohort = folder / _COHORT_NAME
    simulate(SimulateOptions(args.people, _SEED, cohort, no_ecgs=True, overwrite=True, share=args.share))
    rows = _predictions(folder / "scored")
    comparison = _compare_with_truth(rows, made, truth)
    write_figure(comparison, _MODEL_ID, folder / _FIGURE_NAME)
    sys.stdout.write(_shown(folder, rows, comparison))
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = ArgumentParser(
        prog="lvm-ai demo",
        description="Score synthetic ECGs with the embedded model, then analyse simulated people "
        "whose predictions are drawn, to a report. Means nothing clinically.",
    )
    parser.add_argument("output", type=Path, help="folder to make")
    parser.add_argument("--ecgs", type=int, default=200, help="ECGs to score (default: %(default)s)")
    parser.add_argument(
        "--people",
        type=int,
        default=20_000,
        help="simulated people of the report, whose predictions are drawn (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier demo")
    add_share_option(parser)
    args = parser.parse_args(argv)
    for name, least in (("ecgs", 1), ("people", 1000)):
        if getattr(args, name) < least:
            raise UsageError(f"--{name} is {getattr(args, name)}, expected {least} or more")
    return args


def _refuse_foreign(folder: Path, *, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; expected a folder to make")
    if not folder.exists() or not any(folder.iterdir()):
        return
    is_demo = (folder / "ecg" / PLAN_NAME).is_file() or (folder / "raw").is_dir()
    if not is_demo:
        raise UsageError(f"{folder} is not empty and no earlier demo; choose a new folder")
    if not overwrite and (folder / "scored" / SUCCESS_NAME).is_file():
        raise UsageError(f"{folder} holds a finished demo; add --overwrite to replace it")


def _write_cohort(folder: Path, truth: SyntheticPeople) -> SyntheticEcgs:
    """Write the ECGs of people as WFDB records, and a participant table; return the ECGs."""
    people = ecgs_of(truth)
    n = len(truth)
    raw = folder / "raw"
    shutil.rmtree(raw, ignore_errors=True)
    raw.mkdir(parents=True)
    people.counts[_FLAT % n, 7] = 0
    for i, ecg_id in enumerate(people.ecg_id):
        for name, data in write_wfdb(ecg_id, people.counts[i], float(people.uv_per_count[i])).items():
            (raw / name).write_bytes(data)
    with (folder / "participants.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["ecg_id", "participant_id", "age_years", "sex", "height_cm", "weight_kg"])
        for i, ecg_id in enumerate(people.ecg_id):
            if i != _NOT_IN_TABLE:
                sizes = f"{people.height_cm[i]:.1f}", f"{people.weight_kg[i]:.1f}"
                row = ecg_id, people.participant_id[i], int(people.age_years[i]), people.sex[i]
                writer.writerow([*row, *sizes])
    return people


def _score(folder: Path, *, again: bool, share: Share | None) -> int:
    """Turn the records into Parquet and score them; return the exit code of what failed, or 0."""
    more = [*(["--overwrite"] if again else []), *(["--share", share] if share else [])]
    ecgs = str(folder / "ecg")
    code = ingest.main(["--input", str(folder / "raw"), "--output", ecgs, *more])
    if code:
        return code
    people, scored = str(folder / "participants.csv"), str(folder / "scored")
    # Two of the records are damaged on purpose: a large share when --ecgs is small.
    more += ["--max-rejected-share", "0.5"]
    return score.main(["--input", ecgs, "--participants", people, "--model", _MODEL_ID, "--output", scored, *more])


def _predictions(scored: Path) -> list[dict[str, Any]]:
    files = sorted((scored / "predictions").glob("*.parquet"))
    return [row for f in files for row in pq.read_table(f, columns=list(_COLUMNS)).to_pylist()]


# Predicted against true mass


@dataclass(frozen=True, slots=True)
class Comparison:
    """Predicted and true mass of the same n people."""

    lvm_pred_g: NDArray[np.float64]  # (n,) float64, grams
    lvm_true_g: NDArray[np.float64]  # (n,) float64, grams
    is_male: NDArray[np.bool_]  # (n,) bool

    @property
    def r(self) -> float:
        """Pearson's correlation; NaN for fewer than three people."""
        if len(self.lvm_pred_g) < 3:
            return float("nan")
        return float(np.corrcoef(self.lvm_pred_g, self.lvm_true_g)[0, 1])

    def summary(self) -> str:
        """Return the correlation and the errors in words."""
        difference_g = self.lvm_pred_g - self.lvm_true_g
        if not len(difference_g):
            return "nobody was scored"
        return (
            f"r = {self.r:.2f}, mean difference {difference_g.mean():+.1f} g, "
            f"mean absolute error {np.abs(difference_g).mean():.1f} g, {counted(len(difference_g), 'person')}"
        )


def _compare_with_truth(rows: Sequence[dict[str, Any]], made: SyntheticEcgs, truth: SyntheticPeople) -> Comparison:
    """Return predicted and true mass of the people who were scored, in the order of `rows`."""
    place = {ecg_id: i for i, ecg_id in enumerate(made.ecg_id)}
    order = np.array([place[row["ecg_id"]] for row in rows], dtype=np.intp)
    return Comparison(
        lvm_pred_g=np.array([row["lvm_pred_g"] for row in rows], dtype=np.float64),
        lvm_true_g=truth.lvm_true_g[order],
        is_male=truth.sex_code[order] == 1,
    )


def write_figure(comparison: Comparison, model_id: str, path: Path) -> None:
    """Draw predicted against true mass, with the line of equality, to a PNG file."""
    figure = Figure(figsize=(6.0, 6.0), layout="constrained")
    axes = figure.add_subplot()
    both = np.concatenate([comparison.lvm_pred_g, comparison.lvm_true_g, [60.0, 120.0]])
    limits = both.min() - _MARGIN_G, both.max() + _MARGIN_G
    axes.plot(limits, limits, color="0.6", linewidth=1, label="equality")
    for chosen, style in ((comparison.is_male, _MEN), (~comparison.is_male, _WOMEN)):
        axes.scatter(
            comparison.lvm_true_g[chosen], comparison.lvm_pred_g[chosen], s=16, alpha=0.7, linewidths=0, **style
        )
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.set_xlabel("true LV mass of the synthetic person (g)")
    axes.set_ylabel(f"LV mass predicted from the synthetic ECG (g), {model_id}")
    axes.set_title(f"SYNTHETIC, NOT CLINICAL\n{comparison.summary()}", fontsize=10)
    axes.legend(frameon=False, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


# What is shown


def _shown(folder: Path, rows: Sequence[dict[str, Any]], comparison: Comparison) -> str:
    lines = [_COLUMNS, *([_text(row[name]) for name in _COLUMNS] for row in rows[:_SHOWN])]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = "\n".join("  ".join(map(str.rjust, line, widths)) for line in lines)
    scored = folder / "scored"
    return f"""
{table}

predicted against true mass: {comparison.summary()}

picture      {folder / _FIGURE_NAME}
predictions  {scored / "predictions"}  ({len(rows)} rows)
rejects      {scored / "rejects"}
report       {scored / "run_report.json"}

Synthetic ECGs, model {_MODEL_ID}: {resolve_model(_MODEL_ID).spec.warning}.
"""


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if isinstance(value, float) else str(value)
