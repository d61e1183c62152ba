"""How often plausible ECGs are flagged or rejected, and which planted faults are seen.

    python -m tests.benchmarks.plausibility FOLDER... [--synthetic N]

Each folder is searched for CardioSoft XML, MUSE XML and WFDB records. What is printed is what
docs/plausibility.md holds.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
import timeit
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lvm_core.errors import EcgRejected
from lvm_core.formats.registry import format_of, read_ecg
from lvm_core.signal.canonical import canonicalise
from lvm_core.signal.ecg import LEADS_12
from lvm_core.signal.plausibility import Judgement, LimbLeads, judge_ecgs, lead_amplitudes, refuse_implausible_scale
from lvm_core.signal.quality import Rejection
from lvm_core.signal.scale import SourceAmplitudes
from lvm_core.synthetic.ecgs import synthetic_ecgs

# A step as fine as any source's, so that planting a fault rounds nothing that matters.
_FINE_STEP_UV = 0.05
Signal = NDArray[np.float64]
"""(12, 5000) microvolts."""


def say(text: str) -> None:
    """Write a line to the screen."""
    sys.stdout.write(f"{text}\n")


def read_folder(folder: Path) -> dict[str, Signal | Rejection]:
    """Return the records below a folder by path: 10 s at 500 Hz, or why they are rejected."""
    found: dict[str, Signal | Rejection] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in (".hea", ".xml"):
            continue
        main = path.read_bytes()
        files = {path.name: main}
        kind = format_of(main)
        for name in kind.part_names(main) if kind is not None and kind.part_names is not None else ():
            files[name] = (path.parent / name).read_bytes()
        try:
            stored = canonicalise(read_ecg(files, path.name))
        except EcgRejected as problem:
            found[str(path.relative_to(folder))] = Rejection(problem.reason, problem.message)
        else:
            found[str(path.relative_to(folder))] = stored.counts * stored.uv_per_count
    return found


def judged(leads_uv: Signal) -> Judgement:
    """Return the judgement of microvolts, first as ingest looks at them, then as scoring does."""
    try:
        refuse_implausible_scale(leads_uv.T.astype(np.float32), 500)
    except EcgRejected as problem:
        return Judgement(Rejection(problem.reason, problem.message))
    step_uv = max(_FINE_STEP_UV, float(np.abs(leads_uv).max()) / 32000)
    counts = np.rint(leads_uv / step_uv).astype(np.int16)
    (judgement,) = judge_ecgs(counts[None], np.array([step_uv], dtype=np.float32))
    return judgement


def outcome(judgement: Judgement) -> str:
    """Return a judgement in a few words."""
    if judgement.rejection is not None:
        return f"rejected: {judgement.rejection.reason.value}"
    return f"flagged: {', '.join(judgement.flags)}" if judgement.flags else "no remark"


def _scale_all(factor: float) -> Callable[[Signal], Iterator[Signal]]:
    def plant(leads_uv: Signal) -> Iterator[Signal]:
        yield leads_uv * factor

    return plant


def _scale_one(factor: float, leads: Sequence[str]) -> Callable[[Signal], Iterator[Signal]]:
    def plant(leads_uv: Signal) -> Iterator[Signal]:
        for lead in leads:
            changed = leads_uv.copy()
            changed[LEADS_12.index(lead)] *= factor
            yield changed

    return plant


def _swap(one: Sequence[str], other: Sequence[str]) -> Callable[[Signal], Iterator[Signal]]:
    def plant(leads_uv: Signal) -> Iterator[Signal]:
        for a, b in sorted({tuple(sorted((x, y))) for x in one for y in other if x != y}):
            changed = leads_uv.copy()
            i, j = LEADS_12.index(a), LEADS_12.index(b)
            changed[[i, j]] = changed[[j, i]]
            yield changed

    return plant


def _move(offset_uv: float, leads: Sequence[str]) -> Callable[[Signal], Iterator[Signal]]:
    def plant(leads_uv: Signal) -> Iterator[Signal]:
        for lead in leads:
            changed = leads_uv.copy()
            changed[LEADS_12.index(lead)] += offset_uv
            yield changed

    return plant


def _derived_from_wrong_i(factor: float) -> Callable[[Signal], Iterator[Signal]]:
    """Scale lead I and derive III, aVR, aVL and aVF from it, as readers of 8 leads do."""

    def plant(leads_uv: Signal) -> Iterator[Signal]:
        i_uv, ii_uv = factor * leads_uv[0], leads_uv[1]
        limb = [i_uv, ii_uv, ii_uv - i_uv, -(i_uv + ii_uv) / 2, i_uv - ii_uv / 2, ii_uv - i_uv / 2]
        yield np.concatenate([np.stack(limb), leads_uv[6:]])

    return plant


_LIMB, _CHEST = LEADS_12[:6], LEADS_12[6:]
FAULTS: dict[str, Callable[[Signal], Iterator[Signal]]] = {
    **{
        f"all leads x {factor:g}": _scale_all(factor)
        for factor in (2, 5, 10, 200, 1000, 1 / 2, 1 / 5, 1 / 10, 1 / 200, 1 / 1000)
    },
    **{
        f"one {kind} lead x {factor:g}": _scale_one(factor, leads)
        for kind, leads in (("limb", _LIMB), ("chest", _CHEST))
        for factor in (2, 5, 10, 1000, 1 / 2, 1 / 5, 1 / 10, 1 / 1000, -1)
    },
    "lead I x 5, other limb leads derived": _derived_from_wrong_i(5),
    "lead I x 0.2, other limb leads derived": _derived_from_wrong_i(0.2),
    "labels of two limb leads swapped": _swap(_LIMB, _LIMB),
    "labels of a limb and a chest lead swapped": _swap(_LIMB, _CHEST),
    "labels of two chest leads swapped": _swap(_CHEST, _CHEST),
    "baseline of a limb lead moved by 500 uV": _move(500, _LIMB),
    "baseline of a limb lead moved by 5 mV": _move(5000, _LIMB),
    "baseline of a chest lead moved by 500 uV": _move(500, _CHEST),
    "baseline of a chest lead moved by 5 mV": _move(5000, _CHEST),
}


def print_records(name: str, records: dict[str, Signal | Rejection]) -> dict[str, Signal]:
    """Print what becomes of each record that has a remark; return those that have none."""
    say(f"\n## {name}: {len(records)} records\n")
    outcomes: Counter[str] = Counter()
    good: dict[str, Signal] = {}
    for path, record in records.items():
        judgement = Judgement(record) if isinstance(record, Rejection) else judged(record)
        remark = outcome(judgement)
        outcomes[remark] += 1
        if remark == "no remark" and not isinstance(record, Rejection):
            good[path] = record
        else:
            say(f"- {path}: {remark}")
    print_outcomes(outcomes)
    return good


def print_outcomes(outcomes: Counter[str]) -> None:
    """Print a table of outcomes."""
    say("\n| outcome | ECGs |\n|---|---|")
    for remark, n in sorted(outcomes.items(), key=lambda item: -item[1]):
        say(f"| {remark} | {n} |")


def print_statistics(name: str, signals: Sequence[Signal]) -> None:
    """Print the distribution of what the limits are about."""
    leads_uv = np.stack(signals)
    amplitudes = lead_amplitudes(leads_uv, 500)
    ordered = np.sort(amplitudes, axis=1)
    chest = amplitudes[:, 6:]
    inner = np.minimum(chest[:, :-2], chest[:, 2:])
    limb = LimbLeads.of(np.rint(leads_uv).clip(-32768, 32767).astype(np.int16), np.ones(len(leads_uv), np.float32))
    measures = {
        "median amplitude of the leads, uV": np.median(amplitudes, axis=1),
        "largest amplitude of a lead, uV": ordered[:, -1],
        "largest lead over the second largest": ordered[:, -1] / ordered[:, -2],
        "largest limb over largest chest lead": amplitudes[:, :6].max(axis=1) / chest.max(axis=1),
        "V2 to V5 over the smaller neighbour": (chest[:, 1:-1] / inner).min(axis=1),
        "V1 over V2, V6 over V5": np.minimum(chest[:, 0] / chest[:, 1], chest[:, 5] / chest[:, 4]),
        "limb difference, share": limb.share.max(axis=1),
        "limb difference, uV": limb.difference_uv.max(axis=1),
        "limb offset, uV": np.abs(limb.offset_uv).max(axis=1),
        "mean of a lead, uV": np.abs(limb.mean_uv).max(axis=1),
    }
    say(f"\n### Measures of {name}: {len(signals)} ECGs\n")
    say("| measure | least | 1 % | median | 99 % | most |\n|---|---|---|---|---|---|")
    for measure, values in measures.items():
        parts = np.percentile(values, [0, 1, 50, 99, 100])
        say(f"| {measure} | " + " | ".join(f"{part:.3g}" for part in parts) + " |")
    logarithms = np.log(measures["median amplitude of the leads, uV"])
    say(
        f"\nMedian amplitude: geometric mean {np.exp(logarithms.mean()):.0f} uV, "
        f"SD a factor of {np.exp(logarithms.std(ddof=1)):.3g}"
    )


def print_faults(signals: Sequence[Signal]) -> None:
    """Plant each fault into each signal and print how many are seen."""
    say(f"\n## Planted faults, in {len(signals)} real ECGs without a remark\n")
    say("| fault | planted | rejected | flagged | not seen |\n|---|---|---|---|---|")
    for name, plant in FAULTS.items():
        outcomes: Counter[str] = Counter()
        for changed in itertools.chain.from_iterable(plant(leads_uv) for leads_uv in signals):
            outcomes[outcome(judged(changed)).partition(":")[0]] += 1
        n = sum(outcomes.values())
        seen = [f"{100 * outcomes[k] / n:.0f} %" for k in ("rejected", "flagged", "no remark")]
        say(f"| {name} | {n} | {' | '.join(seen)} |")


def print_sources(name: str, signals: Sequence[Signal], n_draws: int = 500) -> None:
    """Print how often a folder of ECGs drawn at random is named, with and without a wrong gain."""
    lead_ii = np.stack([leads_uv[LEADS_12.index("II")] for leads_uv in signals])
    low_uv, high_uv = np.percentile(lead_ii, [0.5, 99.5], axis=1)
    amplitudes_uv = high_uv - low_uv
    rng = np.random.default_rng(1)
    say(f"\n### A folder among 200 ECGs of others, drawn from {name}, {n_draws} draws\n")
    factors = (1, 5, 1 / 5, 2, 1 / 2)
    say("| ECGs of the folder | " + " | ".join(f"x {factor:g}" for factor in factors) + " |")
    say("|---" * (len(factors) + 1) + "|")
    for n in (3, 4, 10, 30, 100):
        shares = []
        for factor in factors:
            n_named = 0
            for _ in range(n_draws):
                own_uv = factor * rng.choice(amplitudes_uv, n)
                values_uv = np.concatenate([rng.choice(amplitudes_uv, 200), own_uv])
                keys = ["rest"] * 200 + ["own"] * n
                sources = SourceAmplitudes.of(keys, [5.0] * len(keys), values_uv)
                n_named += bool(sources.odd({"own": "own"}))
            shares.append(f"{100 * n_named / n_draws:.1f} %")
        say(f"| {n} | {' | '.join(shares)} |")


def print_cost(n_ecgs: int = 64) -> None:
    """Print the processor time, all threads together, of judging one ECG in chunks as scoring's."""
    counts = synthetic_ecgs(n_ecgs, 3).counts
    steps_uv = np.full(n_ecgs, 5.0, dtype=np.float32)
    timer = timeit.Timer(lambda: judge_ecgs(counts, steps_uv), timer=time.process_time)
    best_s = min(timer.repeat(repeat=15, number=20)) / 20
    say(f"\njudge_ecgs: {1e3 * best_s / n_ecgs:.4f} ms an ECG in chunks of {n_ecgs}")


def main(argv: Sequence[str]) -> int:
    """Measure folders of files, and synthetic ECGs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="*", type=Path)
    parser.add_argument("--synthetic", type=int, default=2000, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    good: list[Signal] = []
    for folder in args.folder:
        good.extend(print_records(folder.name, read_folder(folder)).values())
    if good:
        print_statistics("real ECGs without a remark", good)
        print_faults(good)
        print_sources("real ECGs without a remark", good)
    if args.synthetic:
        made = synthetic_ecgs(args.synthetic, args.seed)
        judgements = judge_ecgs(made.counts, np.asarray(made.uv_per_count, dtype=np.float32))
        say(f"\n## Synthetic ECGs: {args.synthetic}")
        print_outcomes(Counter(outcome(judgement) for judgement in judgements))
        print_statistics("synthetic ECGs", [counts * 5.0 for counts in made.counts[:500]])
        print_sources("synthetic ECGs", [counts * 5.0 for counts in made.counts[:500]])
    print_cost()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
