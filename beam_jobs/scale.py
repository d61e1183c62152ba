"""Does the data have the scale it claims? Looked at before the first ECG is scored."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from beam_jobs.blocks import EcgRow, amplitudes_uv
from beam_jobs.inputs import IdRule
from beam_jobs.layout import load_layout
from beam_jobs.options import DEFAULT_UNIT_ECGS, add_storage_option, storage_of
from beam_jobs.planner import PlanningOptions, find_inputs
from beam_jobs.unit_reader import UnitReader
from beam_jobs.units import Unit, cut_units
from lvm_core.command_line import ArgumentParser
from lvm_core.leads import LEADS_12, derive_limb_leads
from lvm_core.quality import ScaleVerdict, scale_verdict, unscorable

SAMPLE_ECGS: Final = 200
_EINTHOVEN_TOLERANCE: Final = 0.15


@dataclass(frozen=True)
class ScaleSample:
    """What a sample of a run's ECGs shows.

    Attributes:
        n_ecgs: ECGs looked at that could be scored.
        median_uv: median lead II amplitude, microvolts; NaN when there are none.
        odd_leads: derived limb leads that do not fit I and II in the median ECG, with their
            relative difference.
        rejected: sampled ECGs that must not be scored, by reason.
    """

    n_ecgs: int
    median_uv: float
    odd_leads: dict[str, float]
    rejected: dict[str, int]

    @property
    def verdict(self) -> ScaleVerdict:
        """Whether the amplitude can be right."""
        return scale_verdict(self.median_uv)

    @property
    def problem(self) -> str | None:
        """What cannot be right: the amplitude, else the leads; None when nothing is seen."""
        if self.verdict.plausible is False:
            return self.verdict.message
        return self.leads_problem

    @property
    def leads_problem(self) -> str | None:
        """Why the leads cannot be what their names say; None when nothing is seen."""
        if not self.odd_leads:
            return None
        named = ", ".join(f"{lead} ({value:.0%})" for lead, value in self.odd_leads.items())
        return (
            f"leads {named} do not follow from I and II; are leads swapped, is the order of "
            "samples another, or are leads scaled one by one?"
        )


def sample_scale(reader: UnitReader, units: Sequence[Unit]) -> ScaleSample:
    """Look at about 200 ECGs spread evenly over units."""
    amplitudes: list[float] = []
    differences: list[dict[str, float]] = []
    rejected: dict[str, int] = {}
    for row in spread_rows(reader, units, SAMPLE_ECGS):
        problem = unscorable(row.counts, row.uv_per_count)
        if problem is not None:
            rejected[problem.reason.value] = rejected.get(problem.reason.value, 0) + 1
            continue
        amplitudes.append(float(amplitudes_uv([row])[0]))
        differences.append(limb_lead_differences(row.counts))
    medians = {
        lead: float(np.median([d[lead] for d in differences]))
        for lead in (differences[0] if differences else ())
    }
    odd = {lead: value for lead, value in medians.items() if value > _EINTHOVEN_TOLERANCE}
    median_uv = float(np.median(amplitudes)) if amplitudes else float("nan")
    return ScaleSample(len(amplitudes), median_uv, odd, dict(sorted(rejected.items())))


def spread_rows(reader: UnitReader, units: Sequence[Unit], n_ecgs: int) -> Iterator[EcgRow]:
    """Yield about `n_ecgs` ECGs, the first ones of at most 20 units spread evenly."""
    n_units = min(len(units), 20)
    chosen = [units[i * len(units) // n_units] for i in range(n_units)]
    quota = -(-n_ecgs // max(1, n_units))
    for unit in chosen:
        with reader.open(unit) as chunks:
            yield from islice((row for chunk in chunks for row in chunk.rows), quota)


def limb_lead_differences(counts: NDArray[np.int16]) -> dict[str, float]:
    """Return how far each derived limb lead is from the one computed of I and II.

    Args:
        counts: (12, n_samples) int16, `LEADS_12` order.

    Returns:
        For III, aVR, aVL and aVF the standard deviation of the difference over that of the lead;
        near 0 where names and order are right, near or above 1 where leads are swapped.
    """
    leads = dict(zip(LEADS_12, counts.astype(np.float64), strict=True))
    derived = derive_limb_leads(leads["I"], leads["II"])
    return {
        lead: float(np.std(leads[lead] - value) / max(np.std(value), 1e-12))
        for lead, value in derived.items()
    }


def main(argv: Sequence[str]) -> int:
    """Run `lvm-ai scale-check`."""
    parser = ArgumentParser(
        prog="lvm-ai scale-check",
        description="Which unit and lead order do these ECGs look like? Reads about 200 of them.",
    )
    parser.add_argument("--input", action="append", nargs="+", required=True, metavar="URI")
    parser.add_argument("--layout", help="YAML file that describes other people's Parquet")
    add_storage_option(parser)
    args = parser.parse_args(argv)
    storage = storage_of(args.storage_option)
    layout = load_layout(storage, args.layout) if args.layout else None
    planning = PlanningOptions(DEFAULT_UNIT_ECGS, IdRule(), layout, accept_unread_archives=True)
    inputs = find_inputs(storage, [uri for group in args.input for uri in group], planning)
    units = list(
        cut_units(inputs.pieces, unit_ecgs=256, first_number=0, settings_sha256="scale-check")
    )
    sample = sample_scale(UnitReader(storage, inputs.roots, layout), units)
    sys.stdout.write("\n".join(_lines(sample)) + "\n")
    return 0 if sample.verdict.plausible and sample.problem is None else 1


def _lines(sample: ScaleSample) -> list[str]:
    lines = [f"ECGs looked at: {sample.n_ecgs}"]
    lines += [f"  not usable: {n} {reason}" for reason, n in sample.rejected.items()]
    lines.append(f"scale: {sample.verdict.message}")
    if sample.verdict.plausible is False:
        return lines
    if sample.leads_problem is not None:
        lines.append(f"leads: {sample.leads_problem}")
    elif sample.n_ecgs:
        lines.append("leads: III, aVR, aVL and aVF follow from I and II, as they should")
    return lines


if __name__ == "__main__":
    import lvm_ai  # its messages and exit codes

    sys.exit(lvm_ai.module_main("scale-check"))
