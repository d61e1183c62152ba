"""What damage changed in a recording, and whether the readers noticed it."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from lvm_core.errors import EcgRejected
from lvm_core.signal.canonical import canonicalise
from lvm_core.signal.ecg import LEADS_12, Ecg
from lvm_core.signal.plausibility import judge_ecgs
from tests.mutants import Files, mutant_beside, mutant_record
from tests.realistic_files import N_ECGS, Recording, recording

SAME_SHAPE = 0.98
"""Correlation of a lead with itself: rounding and derived leads stay above."""
_TWOFOLD = 2.0
LONGEST_S = 2.0
"""Of one bad file."""


class Change(StrEnum):
    """What differs from the undamaged recording, the gravest first."""

    RATE = "sampling rate"
    LEADS = "lead labels"
    SHAPE = "shape of a lead"
    TWOFOLD = "microvolts, twofold or more"
    LENGTH = "length"
    SMALLER = "microvolts, less than twofold"
    ROUNDING = "microvolts, below 1 %"
    NONE = "none"


GRAVE = (Change.RATE, Change.LEADS, Change.SHAPE, Change.TWOFOLD)
"""What must not pass in silence."""


def change_of(before: Ecg, after: Ecg) -> Change:
    """Return the gravest change of the signal.

    The microvolts of a lead changed twofold where its amplitude or its largest magnitude did.
    """
    if before.sampling_rate_hz != after.sampling_rate_hz:
        return Change.RATE
    if np.array_equal(before.leads_uv, after.leads_uv):
        return Change.NONE
    n = min(before.n_samples, after.n_samples)
    one, other = (ecg.leads_uv[:n].T.astype(np.float64) for ecg in (before, after))
    likeness = _likeness(one, other)
    if not (np.diag(likeness) >= SAME_SHAPE).all():
        moved = (likeness >= 0.9999).any(axis=0) & (np.diag(likeness) < SAME_SHAPE)
        return Change.LEADS if moved.any() else Change.SHAPE
    ratio = np.array([_ratio(np.ptp(one, axis=1), np.ptp(other, axis=1)), _ratio(_largest(one), _largest(other))])
    if ratio.max() >= _TWOFOLD:
        return Change.TWOFOLD
    if before.n_samples != after.n_samples:
        return Change.LENGTH
    return Change.ROUNDING if ratio.max() < 1.01 and _offset(one, other) < 0.01 else Change.SMALLER


def _largest(leads: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.abs(leads).max(axis=1))


def _ratio(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how many times one is the other, 1 or more; infinite where one is 0 or no number."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.maximum(one / other, other / one)
    return np.where(np.isfinite(ratio), ratio, np.inf)


def _offset(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float((np.abs(one.mean(axis=1) - other.mean(axis=1)) / np.ptp(one, axis=1)).max())


def _likeness(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return correlations, each lead of `one` (rows) with each of `other`; 0 for a constant."""
    scaled = []
    for leads in (one, other):
        centred = leads - leads.mean(axis=1, keepdims=True)
        size = np.linalg.norm(centred, axis=1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            scaled.append(np.nan_to_num(centred / size))
    return np.asarray(scaled[0] @ scaled[1].T)


@dataclass
class Tally:
    """What became of the mutants of one format."""

    n: int = 0
    not_parsed: int = 0  # refused by the reader, or the main file is gone
    refused: int = 0  # parsed, and refused when it was brought to its form or judged
    longest_s: float = 0.0
    samples_touched: int = 0  # parsed, with other bytes where the samples are
    touched_silent: int = 0  # of these: microvolts, leads or rate changed without a flag
    noticed: Counter[Change] = field(default_factory=Counter)  # samples untouched: refused or flagged
    silent: Counter[Change] = field(default_factory=Counter)  # samples untouched: nothing said
    by: Counter[str] = field(default_factory=Counter)  # what noticed the grave changes
    metadata: Counter[str] = field(default_factory=Counter)  # changed in silence, beside an unchanged signal
    seeds: list[tuple[int, Change]] = field(default_factory=list)  # of grave changes in silence

    @property
    def n_grave(self) -> int:
        """Grave changes in mutants whose samples are untouched."""
        return sum(self.noticed[kind] + self.silent[kind] for kind in GRAVE)

    @property
    def n_grave_silent(self) -> int:
        """Those of them that nobody noticed."""
        return sum(self.silent[kind] for kind in GRAVE)


@dataclass(frozen=True)
class _Outcome:
    ecg: Ecg | None
    flags: frozenset[str] = frozenset()
    reason: str | None = None


def _looked_at(made: Recording, files: Files, undamaged: _Outcome | None = None) -> _Outcome:
    """Return what the reader gives, and what is said of it until it is scored.

    Of what is the same as in the undamaged recording the same is said.
    """
    try:
        ecg = made.read(files, made.main)
    except EcgRejected as rejected:
        return _Outcome(None, reason=rejected.reason.value)
    before = None if undamaged is None else undamaged.ecg
    if undamaged is not None and before is not None and change_of(before, ecg) is Change.NONE:
        if before.measurements == ecg.measurements:
            return _Outcome(ecg, undamaged.flags | frozenset(ecg.quality_flags))
    try:
        stored = canonicalise(ecg)
    except EcgRejected as rejected:
        return _Outcome(ecg, reason=rejected.reason.value)
    (judgement,) = judge_ecgs(stored.counts[None], np.array([stored.uv_per_count], np.float32))
    reason = None if judgement.rejection is None else judgement.rejection.reason.value
    return _Outcome(ecg, frozenset((*stored.quality_flags, *judgement.flags)), reason)


def damaged_files(made: Recording, seed: int, *, beside_samples: bool) -> Files:
    """Return a mutant; `beside_samples` strikes only what is no sample."""
    if not beside_samples:
        return mutant_record(made.files, seed)
    names = sorted(name for name, data in made.files.items() if made.samples.get(name) != (data,))
    name = names[seed // 2 % len(names)]
    return {**made.files, name: mutant_beside(made.files[name], made.spared(name), seed)}


def count(name: str, seeds: range, *, beside_samples: bool) -> Tally:
    """Return what becomes of mutants of a format of `realistic_files.WRITERS`."""
    tally = Tally()
    undamaged = {i: _looked_at(recording(name, i), recording(name, i).files) for i in range(N_ECGS)}
    for seed in seeds:
        number = seed // 4 % N_ECGS
        made = recording(name, number)
        files = damaged_files(made, seed, beside_samples=beside_samples)
        tally.n += 1
        if made.main not in files:
            tally.not_parsed += 1
            continue
        started_s = time.perf_counter()
        found = _looked_at(made, files, undamaged[number])
        tally.longest_s = max(tally.longest_s, time.perf_counter() - started_s)
        _add(tally, undamaged[number], found, seed, is_touched=not made.holds_samples(files))
    return tally


def _add(tally: Tally, before: _Outcome, found: _Outcome, seed: int, *, is_touched: bool) -> None:
    if found.ecg is None:
        tally.not_parsed += 1
        return
    assert before.ecg is not None
    change = change_of(before.ecg, found.ecg)
    new_flags = found.flags - before.flags
    tally.refused += found.reason is not None
    is_noticed = found.reason is not None or bool(new_flags)
    if is_touched:
        tally.samples_touched += 1
        tally.touched_silent += change is not Change.NONE and not is_noticed
        return
    (tally.noticed if is_noticed else tally.silent)[change] += 1
    if change in GRAVE and is_noticed:
        tally.by[found.reason or " + ".join(sorted(new_flags))] += 1
    elif change in GRAVE:
        tally.seeds.append((seed, change))
    elif not is_noticed:
        tally.metadata.update(_metadata(before.ecg, found.ecg))


def _metadata(before: Ecg, after: Ecg) -> list[str]:
    names = ("recorded_at", "measurements", "rhythm", "header_participant_id")
    return [name for name in names if getattr(before, name) != getattr(after, name)]


def largest_ratio(before: Ecg, after: Ecg) -> tuple[str, float]:
    """Return the lead whose amplitude changed most, and how many times."""
    one, other = (np.ptp(ecg.leads_uv, axis=0) for ecg in (before, after))
    k = int(np.abs(np.log(other / one)).argmax())
    return LEADS_12[k], float(other[k] / one[k])
