"""How many damaged files are read with other microvolts, leads or rate, and nobody is told.

    python -m tests.benchmarks.silent_changes [FORMAT...] [--mutants N] [--anywhere]

Prints the figures of docs/plausibility.md. Damage strikes what is no sample: headers, labels, units
and measurements; with `--anywhere` the samples too, which then count as touched.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence

from tests.realistic_files import WRITERS
from tests.silent_changes import Change, Tally, count

_SHOWN_SEEDS = 12


def say(text: str) -> None:
    """Write a line to the screen."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _row(name: str, tally: Tally) -> str:
    n_grave, n_silent = tally.n_grave, tally.n_grave_silent
    share = "-" if not n_grave else f"{100 * (1 - n_silent / n_grave):.1f} %"
    smaller = tally.silent[Change.SMALLER] + tally.silent[Change.LENGTH]
    cells = [
        name,
        tally.n,
        tally.not_parsed,
        tally.samples_touched,
        tally.noticed[Change.NONE] + tally.silent[Change.NONE],
        n_grave,
        n_silent,
        share,
        smaller,
        tally.silent[Change.ROUNDING],
        f"{tally.longest_s:.2f}",
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def main(argv: Sequence[str]) -> int:
    """Count formats one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("format", nargs="*", choices=[*WRITERS, []], default=[])
    parser.add_argument("--mutants", type=int, default=10_000, metavar="N")
    parser.add_argument("--anywhere", action="store_true")
    args = parser.parse_args(argv)
    heads = (
        "format",
        "mutants",
        "not read",
        "samples touched",
        "unchanged",
        "changed twofold, leads or rate",
        "of these in silence",
        "noticed",
        "smaller, in silence",
        "below 1 %, in silence",
        "longest, s",
    )
    say("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    tallies = {}
    for name in args.format or WRITERS:
        tallies[name] = count(name, range(args.mutants), beside_samples=not args.anywhere)
        say(_row(name, tallies[name]))
    for name, tally in tallies.items():
        say(f"\n{name}: noticed by {_listed(tally.by)}")
        say(f"  in silence: {_listed(Counter({k.value: n for k, n in tally.silent.items() if k is not Change.NONE}))}")
        say(f"  other fields in silence: {_listed(tally.metadata)}; samples touched in silence {tally.touched_silent}")
        say(f"  seeds: {[(seed, kind.value) for seed, kind in tally.seeds[:_SHOWN_SEEDS]]}")
    return 0


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{key} {n}" for key, n in counts.most_common()) or "nothing"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
