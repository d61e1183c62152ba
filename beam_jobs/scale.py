"""The command `lvm-ai scale-check`, and the same look at about 200 ECGs before a run scores any."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final

import numpy as np

from beam_jobs.reading.array_input import stack_durations
from beam_jobs.reading.blocks import EcgRow, Reject, amplitudes_uv
from beam_jobs.reading.inputs import IdRule
from beam_jobs.reading.layout import load_layout
from beam_jobs.reading.parquet_input import signal_durations
from beam_jobs.reading.scale_evidence import ScaleEvidence, evidence_of, order_hint, orders_of
from beam_jobs.reading.storage import join
from beam_jobs.reading.unit_reader import UnitReader
from beam_jobs.reading.units import Unit, cut_units
from beam_jobs.run.planner import find_inputs
from beam_jobs.run.report import folder_digest_of, folder_names, source_amplitudes
from beam_jobs.run.settings import InputSettings, add_options, storage_of
from lvm_core.command_line import ArgumentParser
from lvm_core.signal.ecg import DERIVED_FROM_I_AND_II
from lvm_core.signal.plausibility import LimbLeads, is_about_scale, judge_ecgs
from lvm_core.signal.scale import ScaleVerdict, scale_verdict

SAMPLE_ECGS: Final = 200
_SAMPLE_UNITS: Final = 20
_LOOK_UNIT_ECGS: Final = 256
_EINTHOVEN_TOLERANCE: Final = 0.15
# The rates of ECGs of 10 s that the formats and public data sets use (facts sheet, section 10).
_USUAL_RATES_HZ: Final = (500, 250, 400, 1000, 240)


@dataclass(frozen=True)
class ScaleSample:
    """What a sample of a run's ECGs shows."""

    n_ecgs: int  # sampled ECGs with a signal
    median_uv: float  # median lead II amplitude, microvolts; NaN without such ECGs
    # Derived limb leads that do not fit I and II in the median ECG, with their difference from
    # the algebra over the largest limb lead.
    odd_leads: dict[str, float]
    rejected: dict[str, int]  # sampled ECGs that must not be scored, by reason
    n_refused: int = 0  # ECGs among them whose voltages the reader refused
    refused_detail: str | None = None  # what is wrong with the first of those; None without any
    odd_sources: tuple[str, ...] = ()  # a sentence for each folder or step with amplitudes unlike the rest
    rate_problem: str | None = None  # why the rate of a layout may be wrong; None when it may be right
    # Sampled ECGs that would be scored with a flag of their signal, by flag.
    flagged: dict[str, int] = field(default_factory=dict)
    order_hint: str | None = None  # which lead order fits better; None where that is not known

    @property
    def verdict(self) -> ScaleVerdict:
        """Whether the amplitude can be right."""
        if self.n_refused > self.n_ecgs:
            seen = f"{self.n_refused} of {self.n_refused + self.n_ecgs} ECGs cannot be right"
            return ScaleVerdict(False, None, f"{seen}, the first because its {self.refused_detail}")
        return scale_verdict(self.median_uv)

    @property
    def problem(self) -> str | None:
        """What cannot be right: rate, amplitude or leads; None when all may be right."""
        wrong_scale = self.verdict.message if self.verdict.plausible is False else None
        return self.rate_problem or wrong_scale or self.leads_problem

    @property
    def leads_problem(self) -> str | None:
        """Why the leads cannot be what their names say; None when they may be."""
        if not self.odd_leads:
            return None
        named = ", ".join(f"{lead} ({value:.0%})" for lead, value in self.odd_leads.items())
        if self.order_hint is not None:
            return f"leads {named} do not follow from I and II; {self.order_hint}"
        return (
            f"leads {named} do not follow from I and II; are leads swapped, are the samples in "
            "another order, or are leads scaled one by one?"
        )


def sample_scale(reader: UnitReader, units: Sequence[Unit]) -> ScaleSample:
    """Look at about 200 ECGs spread evenly over units."""
    return _sample(list(_spread(reader, units, SAMPLE_ECGS)), reader, units)


def _sample(seen: Sequence[EcgRow | Reject], reader: UnitReader, units: Sequence[Unit]) -> ScaleSample:
    rows = [item for item in seen if isinstance(item, EcgRow)]
    refused = [item for item in seen if isinstance(item, Reject) and is_about_scale(item.reason)]
    rejected = Counter(item.reason for item in refused)
    flagged: Counter[str] = Counter()
    with_signal = []
    for row in rows:
        (judgement,) = judge_ecgs(row.counts[None], np.array([row.uv_per_count], np.float32))
        if judgement.rejection is not None:
            rejected[judgement.rejection.reason.value] += 1
        flagged.update(judgement.flags)
        if judgement.has_signal:
            with_signal.append(row)
    amplitudes = amplitudes_uv(with_signal)
    pieces = [piece for unit in units for piece in unit.pieces]
    sources = source_amplitudes(with_signal, amplitudes, refused, folder_digest_of(pieces))
    odd_leads = _odd_leads(with_signal)
    return ScaleSample(
        len(with_signal),
        float(np.median(amplitudes)) if with_signal else float("nan"),
        odd_leads,
        dict(sorted(rejected.items())),
        len(refused),
        refused[0].detail if refused else None,
        tuple(sources.odd(folder_names(pieces))),
        _rate_problem(reader, units),
        dict(sorted(flagged.items())),
        order_hint(orders_of(with_signal)) if odd_leads else None,
    )


def _rate_problem(reader: UnitReader, units: Sequence[Unit]) -> str | None:
    """Return why samples and rate of a layout do not make about 10 s, if most ECGs do not."""
    if reader.layout is None:
        return None
    seen: Counter[tuple[int, float]] = Counter()
    for unit in _evenly(units):
        for piece in [piece for piece in unit.pieces if piece.is_table][:1]:
            uri = join(reader.roots[piece.root], piece.path)
            durations = stack_durations if reader.layout.is_of_arrays else signal_durations
            seen.update(durations(reader.storage, uri, piece.row_group_start, reader.layout))
    if not seen:
        return None
    (n_samples, rate_hz), _ = seen.most_common(1)[0]
    if _is_about_10_s(n_samples / rate_hz):
        return None
    stated = f"{n_samples:,} samples are {n_samples / rate_hz:.4g} s at {rate_hz:g} Hz"
    for usual_hz in _USUAL_RATES_HZ:
        if _is_about_10_s(n_samples / usual_hz):
            would = f"they would be {n_samples / usual_hz:.4g} s at {usual_hz} Hz"
            return f"{stated}; {would}. Is the rate right?"
    return f"{stated}, expected about 10 s. Are the rate and the number of leads right?"


def _is_about_10_s(duration_s: float) -> bool:
    return 9.5 <= duration_s <= 10.5


def _odd_leads(rows: Sequence[EcgRow]) -> dict[str, float]:
    """Return the derived limb leads that do not fit I and II in the median ECG."""
    if not rows:
        return {}
    shares = np.stack([LimbLeads.of(row.counts[None], np.ones(1, np.float32)).share[0] for row in rows])
    medians = zip(DERIVED_FROM_I_AND_II, np.median(shares, axis=0).tolist(), strict=True)
    return {lead: share for lead, share in medians if share > _EINTHOVEN_TOLERANCE}


def spread_rows(reader: UnitReader, units: Sequence[Unit], n_ecgs: int) -> Iterator[EcgRow]:
    """Yield about `n_ecgs` ECGs, the first ones of at most 20 units spread evenly."""
    return (item for item in _spread(reader, units, n_ecgs) if isinstance(item, EcgRow))


def _spread(reader: UnitReader, units: Sequence[Unit], n_ecgs: int) -> Iterator[EcgRow | Reject]:
    """Yield about `n_ecgs` ECGs or rejects, the first ones of at most 20 units spread evenly."""
    chosen = _evenly(units)
    quota = -(-n_ecgs // max(1, len(chosen)))
    for unit in chosen:
        with reader.open(unit) as chunks:
            yield from islice((item for chunk in chunks for item in chunk.results), quota)


def _evenly(units: Sequence[Unit]) -> list[Unit]:
    """Return at most 20 units, spread evenly."""
    n_units = min(len(units), _SAMPLE_UNITS)
    return [units[i * len(units) // n_units] for i in range(n_units)]


def add_reading_options(parser: ArgumentParser) -> None:
    """Add the options of commands that read ECGs without a run folder."""
    add_options(parser, InputSettings, "inputs", "storage")
    parser.add_argument("--layout", help="YAML file that describes other people's Parquet or arrays")


def reader_of(args: argparse.Namespace, id_pattern: str | None = None) -> tuple[UnitReader, list[Unit]]:
    """Find the ECGs that `add_reading_options` names; return their reader and units."""
    storage = storage_of(args.storage_option)
    layout = load_layout(storage, args.layout) if args.layout else None
    inputs, rule = tuple(uri for group in args.input for uri in group), IdRule(id_pattern)
    settings = InputSettings(inputs=inputs, storage=storage, id_rule=rule, accept_unread_archives=True)
    found = find_inputs(settings, layout)
    # The settings digest does not matter: nothing is written under the units' names.
    units = list(cut_units(found.pieces, unit_ecgs=_LOOK_UNIT_ECGS, first_number=0, settings_sha256=""))
    return UnitReader(storage, found.roots, layout), units


def main(argv: Sequence[str]) -> int:
    """Run `lvm-ai scale-check`."""
    parser = ArgumentParser(
        prog="lvm-ai scale-check",
        description="Which unit, scale and lead order do these ECGs look like? Reads about 200 of them, and prints "
        "the evidence for each hypothesis.",
    )
    add_reading_options(parser)
    reader, units = reader_of(parser.parse_args(argv))
    seen = list(_spread(replace(reader, keep_refused=True), units, SAMPLE_ECGS))
    sample, evidence = _sample(seen, reader, units), evidence_of(seen)
    problems = _problems(sample, evidence)
    is_known = sample.verdict.plausible is not None
    conclusion = "; ".join(problems) or (
        "unit, scale and lead order are as declared" if is_known else "no ECG could be judged"
    )
    lines = [*_lines(sample, evidence), "", *evidence.lines(), f"conclusion: {conclusion}"]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if is_known and not problems else 1


def _problems(sample: ScaleSample, evidence: ScaleEvidence) -> list[str]:
    """Return what is likely wrong, with how to mend it."""
    of_all = [sample.rate_problem] if sample.rate_problem else []
    leads = evidence.order_problems or ([sample.leads_problem] if sample.leads_problem else [])
    of_records = evidence.scale_problems
    if sample.verdict.plausible is False:
        # The step of a record may say more than the median of all.
        return [*of_all, of_records[0] if len(of_records) == 1 else sample.verdict.message, *leads]
    return [*of_all, *sample.odd_sources, *of_records, *leads]


def _lines(sample: ScaleSample, evidence: ScaleEvidence) -> list[str]:
    lines = [f"ECGs looked at: {sample.n_ecgs}"]
    lines += [f"  not usable: {n} {reason}" for reason, n in sample.rejected.items()]
    lines += [f"  flagged: {n} {flag}" for flag, n in sample.flagged.items()]
    if sample.rate_problem is not None:
        lines.append(f"rate: {sample.rate_problem}")
    lines.append(f"scale: {sample.verdict.message}")
    lines += [f"source: {sentence}" for sentence in sample.odd_sources]
    if sample.verdict.plausible is False:
        return lines
    if sample.leads_problem is not None:
        lines.append(f"leads: {sample.leads_problem}")
    elif sample.n_ecgs and not evidence.orders.n_judged:
        lines.append("leads: III, aVR, aVL and aVF were computed from I and II, so they cannot show their order")
    elif sample.n_ecgs:
        lines.append("leads: III, aVR, aVL and aVF follow from I and II, as they should")
    return lines


if __name__ == "__main__":
    import lvm_ai  # its messages and exit codes

    sys.exit(lvm_ai.module_main("scale-check"))
