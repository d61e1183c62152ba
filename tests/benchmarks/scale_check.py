"""Which planted mistakes of scale and lead order `lvm-ai scale-check` finds, and its false alarms.

    python -m tests.benchmarks.scale_check FOLDER [--synthetic N]

Damages copies of the ECGs below the folder, of any format that is read, and of synthetic ones. What
is printed is what docs/plausibility.md holds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from beam_jobs.reading.blocks import EcgRow
from beam_jobs.reading.scale_evidence import ScaleEvidence, evidence_of
from beam_jobs.scale import reader_of
from lvm_core.signal.ecg import LEADS_12
from lvm_core.signal.lead_orders import CHEST_ORDERS, DECLARED, LIMB_ORDERS, LeadOrder
from lvm_core.signal.plausibility import unscorable
from lvm_core.signal.quality import QualityFlag
from lvm_core.synthetic.ecgs import synthetic_ecgs

_FACTORS = (5.0, 4.88, 1000.0, 1 / 5.0, 1 / 4.88, 1 / 1000.0)
Found = Callable[[ScaleEvidence], bool]


def say(text: str) -> None:
    """Write a line to the screen."""
    sys.stdout.write(f"{text}\n")


def rows_below(folder: str) -> list[EcgRow]:
    """Return the ECGs below a folder that may be scored."""
    options = argparse.Namespace(input=[[folder]], storage_option=[], layout=None)
    reader, units = reader_of(options)
    rows = [row for unit in units for chunk in reader.chunks(unit) for row in chunk.rows]
    return [row for row in rows if unscorable(row.counts, row.uv_per_count) is None]


def synthetic_rows(n: int) -> list[EcgRow]:
    """Return synthetic ECGs, as counts of 5 uV."""
    made = synthetic_ecgs(n, 1)
    return [EcgRow(i, counts, 5.0, "-") for i, counts in zip(made.ecg_id, made.counts, strict=True)]


def moved(row: EcgRow, order: LeadOrder) -> EcgRow:
    """Return a copy whose leads stand in an order."""
    signs = np.array([[-1 if lead.startswith("-") else 1] for lead in order.leads], np.int16)
    places = [LEADS_12.index(lead.removeprefix("-")) for lead in order.leads]
    return replace(row, counts=row.counts[places] * signs)


def scaled(row: EcgRow, factor: float) -> EcgRow:
    """Return a copy with voltages so many times too large."""
    return replace(row, uv_per_count=row.uv_per_count * factor)


def print_line(name: str, rows: Sequence[EcgRow], found: Found) -> None:
    """Print in how many copies alone, and in all as one data set, a mistake is found."""
    alone = sum(found(evidence_of([row])) for row in rows)
    say(f"| {name} | {alone} of {len(rows)} | {'yes' if found(evidence_of(rows)) else 'no'} |")


def is_scale(factor: float) -> Found:
    """Return what tells whether a factor was found; 5 and 4.88 are one where the step fits both."""
    return lambda evidence: 0.97 < (evidence.likely_factor or 0.0) / factor < 1.03


def print_mistakes(name: str, rows: Sequence[EcgRow]) -> None:
    """Print the table of one set of ECGs."""
    say(f"\n### {len(rows)} {name}\n\n| mistake | found in a copy alone | in all as one data set |\n|---|---|---|")
    print_line("none (false alarms)", rows, lambda one: bool(one.scale_problems or one.order_problems))
    for factor in _FACTORS:
        size = f"{factor:g} times too large" if factor > 1 else f"{1 / factor:g} times too small"
        print_line(size, [scaled(row, factor) for row in rows], is_scale(factor))
    shown = [row for row in rows if QualityFlag.LEADS_DERIVED not in row.quality_flags]
    if len(shown) < len(rows):
        say(f"| *limb leads, of {len(shown)} that were recorded* | | |")
    for order in LIMB_ORDERS[1:]:
        print_line(order.name, [moved(row, order) for row in shown], lambda one, order=order: one.orders.found is order)  # type: ignore[misc]
    for order in CHEST_ORDERS[1:]:
        copies = [moved(row, order) for row in rows]
        print_line(order.name, copies, lambda one, order=order: one.orders.chest_found is order)  # type: ignore[misc]


def print_growth(name: str, rows: Sequence[EcgRow]) -> None:
    """Print in how many ECGs R grows most in the order as declared."""
    chest = evidence_of(rows).orders.chest
    n = next(one.n_best for one in chest if one.order is DECLARED)
    say(f"\n{name}: R grows most in the order as declared in {n} of {sum(one.n_best for one in chest)}")


def main(argv: Sequence[str]) -> int:
    """Damage copies of real and of synthetic ECGs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--synthetic", type=int, default=300, metavar="N")
    args = parser.parse_args(argv)
    for name, rows in (("real ECGs", rows_below(args.folder)), ("synthetic ECGs", synthetic_rows(args.synthetic))):
        print_mistakes(name, rows)
        print_growth(name, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
