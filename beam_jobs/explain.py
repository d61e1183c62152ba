"""The command `lvm-ai explain`: which part of an ECG moves the predicted mass."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from beam_jobs.reading import local_files
from beam_jobs.reading.blocks import EcgRow, counts_of
from beam_jobs.reading.unit_reader import UnitReader
from beam_jobs.reading.units import Unit
from beam_jobs.run.participants import demographics_of, participants_of
from beam_jobs.run.progress import say
from beam_jobs.run.settings import add_participants_options, storage_of
from beam_jobs.scale import add_reading_options, reader_of, spread_rows
from lvm_core.command_line import ArgumentParser, add_share_option
from lvm_core.errors import LvmError, UsageError
from lvm_core.signal.beats import PHASES, average_beat, phase_of_samples, r_peaks
from lvm_core.signal.ecg import LEADS_12
from lvm_core.signal.plausibility import unscorable
from lvm_core.tables import Demographics, ParticipantTable, demographics_problem
from lvm_core.wording import counted
from models.catalogue.known import resolve_model
from models.catalogue.spec import SAMPLING_RATE_HZ, InputConvention, PredictorInputs
from models.explain import DEFAULT_STEPS, Saliency

METHODS: Final = ("gradient", "integrated")
# Samples around R in the pictures: 0.3 s before and 0.5 s after.
_N_BEFORE: Final = 150
_N_AFTER: Final = 250
# The layout of a paper ECG: columns of limb leads, augmented leads, V1 to V3, V4 to V6.
_GRID: Final = ("I", "aVR", "V1", "V4", "II", "aVL", "V2", "V5", "III", "aVF", "V3", "V6")
# Orange and purple differ for every kind of colour vision.
_COLOURS: Final = "PuOr_r"
_LABELS: Final = {
    "gradient": "change of predicted mass (g per 100 uV in one sample)",
    "integrated": "contribution to predicted mass (g per sample)",
}
_FACTORS: Final = {"gradient": 100.0, "integrated": 1.0}


@dataclass(frozen=True)
class Explained:
    """One ECG and what moves its predicted mass."""

    ecg_id: str  # key of the recording
    lvm_pred_g: float  # predicted mass, grams
    method: str  # gradient or integrated
    leads_uv: NDArray[np.float64]  # (12, 5000) microvolts, `LEADS_12` order
    saliency: NDArray[np.float32]  # (12, 5000), grams per microvolt (gradient) or grams (integrated)
    peaks: NDArray[np.intp]  # samples of the R peaks


# The command


def main(argv: Sequence[str]) -> int:
    """Run `lvm-ai explain`."""
    args = parse(argv)
    for name in ("steps", "sample"):
        if (value := getattr(args, name)) is not None and value < 1:
            raise UsageError(f"--{name} is {value}, expected 1 or more")
    try:
        source = resolve_model(args.model, args.model_dir)
    except LvmError as error:
        raise UsageError(str(error)) from error
    if source.spec.needs_demographics and not args.participants:
        raise UsageError(
            f"model {source.spec.model_id} needs age, sex and BMI, and no --participants is given: "
            "give a table, or choose an ECG-only model"
        )
    if source.spec.warning:
        say(f"warning: {source.spec.model_id}: {source.spec.warning}")
    rows, people = _choose(args, needs_demographics=source.spec.needs_demographics)
    if args.share is None and (warning := local_files.open_to_others(args.output)):
        say(f"warning: {warning}")
    args.output.mkdir(parents=True, exist_ok=True)
    say(f"{counted(len(rows), 'ECG')}, {args.method}")
    explained = _explain(Saliency(source, args.input_convention), rows, people, args.method, args.steps)
    label = f"{source.spec.model_id}. {source.spec.warning or 'Not for clinical use'}"
    if args.sample is not None:
        files = _write_shares(explained, label, args.output)
    else:
        files = [path for one in explained for path in _write_one(one, label, args.output)]
    sys.stdout.write("".join(f"{path}\n" for path in files))
    return 0


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the options of `lvm-ai explain`; exits with 2 on wrong usage."""
    parser = ArgumentParser(
        prog="lvm-ai explain",
        description="Which part of an ECG moves the predicted mass? Pictures and tables of the "
        "network's gradients; what it uses, not what causes a large heart. Research software, not for clinical use.",
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--ecg-id", nargs="+", metavar="X", help="ECGs to draw, one picture each")
    which.add_argument("--sample", type=int, metavar="N", help="shares over about N ECGs instead")
    add_reading_options(parser)
    parser.add_argument("--id-pattern", help="as for lvm-ai score")
    add_participants_options(parser)
    parser.add_argument("--model", required=True, help="catalogue id or a file")
    parser.add_argument("--model-dir", type=Path, help="folder of fetched models")
    parser.add_argument("--output", type=Path, required=True, help="folder for pictures and tables")
    parser.add_argument("--method", choices=METHODS, default="gradient", help="default: gradient")
    parser.add_argument("--steps", type=int, default=DEFAULT_STEPS, help="of integrated gradients: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default: 0)")
    parser.add_argument(
        "--input-convention",
        choices=[c.value for c in InputConvention],
        default=InputConvention.UKB_COUNTS.value,
        help="default: %(default)s",
    )
    add_share_option(parser)
    return parser.parse_args(argv)


def participants_from(args: argparse.Namespace) -> tuple[ParticipantTable | None, tuple[str, ...]]:
    """Read the participant table that the options name; see `participants_of`."""
    return participants_of(
        storage_of(args.storage_option), args.participants, args.participants_layout, accepted=args.accept_people
    )


# Which ECGs


def _choose(args: argparse.Namespace, *, needs_demographics: bool) -> tuple[list[EcgRow], Demographics]:
    """Read the ECGs that were asked for; refuse those that must not be scored."""
    reader, units = reader_of(args, args.id_pattern)
    table, _ = participants_from(args)
    if args.sample is None:
        rows = _by_id(reader, units, args.ecg_id)
    else:
        rng = np.random.default_rng(args.seed)
        shuffled = [units[i] for i in rng.permutation(len(units))]
        rows = list(spread_rows(reader, shuffled, args.sample))[: args.sample]
    people = demographics_of(table, rows)
    problems = [_problem(row, people, i, needs_demographics=needs_demographics) for i, row in enumerate(rows)]
    good = [row for row, problem in zip(rows, problems, strict=True) if problem is None]
    if len(good) < len(rows):
        if args.sample is None:
            raise UsageError("; ".join(f"{row.ecg_id}: {p}" for row, p in zip(rows, problems, strict=True) if p))
        reasons = sorted({problem for problem in problems if problem})
        say(f"left out {len(rows) - len(good)} of {len(rows)}: {'; '.join(reasons[:3])}")
    if not good:
        raise UsageError("no ECG of the sample may be scored; see lvm-ai score for the reasons")
    return good, demographics_of(table, good)


def _by_id(reader: UnitReader, units: Iterable[Unit], wanted: Sequence[str]) -> list[EcgRow]:
    found: dict[str, EcgRow] = {}
    for row in _rows(reader, units):
        if row.ecg_id in wanted:
            found.setdefault(row.ecg_id, row)
            if len(found) == len(set(wanted)):
                break
    missing = [name for name in wanted if name not in found]
    if missing:
        raise UsageError(f"--ecg-id {', '.join(missing)} not found in the inputs")
    return [found[name] for name in dict.fromkeys(wanted)]


def _rows(reader: UnitReader, units: Iterable[Unit]) -> Iterator[EcgRow]:
    for unit in units:
        with reader.open(unit) as chunks:
            for chunk in chunks:
                yield from chunk.rows


def _problem(row: EcgRow, people: Demographics, i: int, *, needs_demographics: bool) -> str | None:
    """Return why an ECG, of the i-th of these people, must not be scored; None where it may."""
    problem = unscorable(row.counts, row.uv_per_count)
    if problem is None and needs_demographics:
        problem = demographics_problem(people, i)
    return None if problem is None else problem.message


# What moves the mass


def _explain(
    saliency: Saliency, rows: Sequence[EcgRow], people: Demographics, method: str, n_steps: int
) -> list[Explained]:
    counts, steps = counts_of(rows), np.array([row.uv_per_count for row in rows], dtype=np.float32)
    inputs = PredictorInputs(counts, steps)
    if saliency.needs_demographics:
        inputs = PredictorInputs(counts, steps, people.age_years, people.sex_code, people.bmi_kg_m2)
    mass_g = saliency.lvm_pred_g(inputs)
    by_gradient = method == "gradient"
    values = saliency.gradient_g_per_uv(inputs) if by_gradient else saliency.integrated_gradients_g(inputs, n_steps)
    explained = []
    for i, row in enumerate(rows):
        leads_uv = row.counts.astype(np.float64) * row.uv_per_count
        peaks = r_peaks(leads_uv, SAMPLING_RATE_HZ)
        explained.append(Explained(row.ecg_id, float(mass_g[i]), method, leads_uv, values[i], peaks))
    return explained


def shares(explained: Sequence[Explained]) -> NDArray[np.float64]:
    """Return (12, 5): the share of |saliency| by lead and phase, the mean over ECGs; sums to 1.

    Raises:
        LvmError: no ECG has an R peak, or the model does not depend on any of them.
    """
    parts = []
    for one in explained:
        size = np.abs(one.saliency.astype(np.float64))
        if not one.peaks.size or size.sum() == 0:
            continue
        phase = phase_of_samples(one.peaks, size.shape[1], SAMPLING_RATE_HZ)
        by_phase = [size[:, phase == k].sum(axis=1) for k in range(len(PHASES))]
        parts.append(np.stack(by_phase, axis=1) / size.sum())
    if not parts:
        raise LvmError(
            f"none of {counted(len(explained), 'ECG')} has a QRS complex and a saliency other than 0; is the "
            "model trained, and are these ECGs?"
        )
    return np.asarray(np.mean(parts, axis=0))


def time_shares(explained: Sequence[Explained]) -> NDArray[np.float64]:
    """Return (5,): the share of samples in each phase, over ECGs with R peaks."""
    counted = [
        np.bincount(phase_of_samples(one.peaks, one.leads_uv.shape[1], SAMPLING_RATE_HZ), minlength=len(PHASES))
        for one in explained
        if one.peaks.size
    ]
    total = np.sum(counted, axis=0)
    return np.asarray(total / total.sum())


# Files


def _write_one(one: Explained, label: str, folder: Path) -> list[Path]:
    if not one.peaks.size:
        raise LvmError(f"{one.ecg_id}: no QRS complex stands out, so no beat can be averaged")
    trace_uv = average_beat(one.leads_uv, one.peaks, _N_BEFORE, _N_AFTER)
    saliency = average_beat(one.saliency, one.peaks, _N_BEFORE, _N_AFTER)
    unit = "saliency_g_per_uv" if one.method == "gradient" else "contribution_g"
    rows = [["lead", "time_from_r_ms", "average_uv", unit]]
    for lead, trace, values in zip(LEADS_12, trace_uv, saliency, strict=True):
        for k, (uv, value) in enumerate(zip(trace, values, strict=True)):
            time_ms = (k - _N_BEFORE) * 1000 / SAMPLING_RATE_HZ
            rows.append([lead, f"{time_ms:.0f}", f"{uv:.1f}", f"{value:.6g}"])
    figure = _beat_figure(one, trace_uv, saliency, label)
    return _write(folder / one.ecg_id.replace("/", "_"), figure, rows)


def _write_shares(explained: Sequence[Explained], label: str, folder: Path) -> list[Path]:
    table, time = shares(explained), time_shares(explained)
    rows = [["lead", "phase", "share_of_saliency", "share_of_time", "n_ecgs"]]
    for lead, of_lead in zip(LEADS_12, table, strict=True):
        for phase, share, of_time in zip(PHASES, of_lead, time, strict=True):
            rows.append([lead, phase, f"{share:.6f}", f"{of_time:.6f}", str(len(explained))])
    figure = _shares_figure(table, time, len(explained), explained[0].method, label)
    return _write(folder / "shares", figure, rows)


def _write(stem: Path, figure: Figure, rows: Sequence[Sequence[str]]) -> list[Path]:
    """Write a picture, as PNG and SVG, and its numbers."""
    png, svg, table = (stem.with_name(f"{stem.name}{ending}") for ending in (".png", ".svg", ".csv"))
    for path in (png, svg, table):
        path.unlink(missing_ok=True)  # a file that is written over keeps its permissions
    figure.savefig(png, dpi=130)
    figure.savefig(svg, metadata={"Date": None})
    with table.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
    return [png, svg, table]


def _beat_figure(one: Explained, trace_uv: NDArray[np.float64], saliency: NDArray[np.float64], label: str) -> Figure:
    """Return the average beat of the twelve leads, (12, m), with its saliency behind the trace."""
    figure = Figure(figsize=(11.0, 7.0), layout="constrained")
    grid: Any = figure.subplots(3, 4, sharex=True, sharey=True)
    time_ms = (np.arange(trace_uv.shape[1]) - _N_BEFORE) * 1000 / SAMPLING_RATE_HZ
    trace_mv = (trace_uv - np.median(trace_uv, axis=1, keepdims=True)) / 1000
    low, high = float(trace_mv.min()) - 0.1, float(trace_mv.max()) + 0.1
    shown = saliency * _FACTORS[one.method]
    limit = float(np.abs(shown).max()) or 1.0
    image: Any = None
    for axes, lead in zip(grid.ravel(), _GRID, strict=True):
        k = LEADS_12.index(lead)
        image = axes.imshow(
            shown[None, k],
            cmap=_COLOURS,
            vmin=-limit,
            vmax=limit,
            aspect="auto",
            extent=(time_ms[0], time_ms[-1], low, high),
            interpolation="nearest",
        )
        axes.plot(time_ms, trace_mv[k], color="black", linewidth=1.1)
        axes.text(0.03, 0.93, lead, transform=axes.transAxes, va="top", weight="bold")
        axes.set(xlim=(time_ms[0], time_ms[-1]), ylim=(low, high))
        axes.set_xticks([-200, 0, 200, 400])
    figure.colorbar(image, ax=grid, shrink=0.7, label=_LABELS[one.method])
    figure.supxlabel("time from R (ms)")
    figure.supylabel("voltage (mV), average beat")
    title = f"{one.ecg_id}: predicted LV mass {one.lvm_pred_g:.0f} g, {one.peaks.size} beats"
    figure.suptitle(f"{title}\n{label}", fontsize=10)
    return figure


def _shares_figure(
    table: NDArray[np.float64], time: NDArray[np.float64], n_ecgs: int, method: str, label: str
) -> Figure:
    """Return the shares of saliency, (12, 5), and of time, (5,), by lead and phase as a picture."""
    figure = Figure(figsize=(7.0, 7.0), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(100 * table, cmap="Blues", aspect="auto", vmin=0.0)
    names = [
        f"{phase}\n{100 * share:.0f} % of saliency\n{100 * of_time:.0f} % of time"
        for phase, share, of_time in zip(PHASES, table.sum(axis=0), time, strict=True)
    ]
    axes.set_xticks(range(len(PHASES)), names, fontsize=8)
    axes.set_yticks(range(len(LEADS_12)), LEADS_12)
    dark = 100 * table.max() / 2
    for (row, column), share in np.ndenumerate(100 * table):
        colour = "white" if share > dark else "black"
        axes.text(column, row, f"{share:.1f}", ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(image, shrink=0.7, label="share of saliency (%)")
    axes.set_title(f"{counted(n_ecgs, 'ECG')}, {method}\n{label}", fontsize=9, wrap=True)
    return figure


if __name__ == "__main__":
    import lvm_ai  # its messages and exit codes

    sys.exit(lvm_ai.module_main("explain"))
