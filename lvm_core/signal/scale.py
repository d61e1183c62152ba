"""Whether the voltages of a whole run can be right: amplitudes of lead II, of all and by source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc

# Plausibility limits of this project: medians of cohorts lie between 700 and 1400 uV, so that a
# scale wrong by 5 in either direction leaves the range.
_PLAUSIBLE_MEDIAN_AMPLITUDE_UV: Final = (300.0, 3300.0)
TYPICAL_MEDIAN_AMPLITUDE_UV: Final = 1000.0

# How many times too large, and what usually makes it so.
_SCALE_MISTAKES: Final = (
    (5.0, "were microvolts read as counts of 5 uV?"),
    (200.0, "were counts of 5 uV read as millivolts?"),
    (1000.0, "were microvolts read as millivolts?"),
    (2000.0, "were microvolts read as values divided by 2000?"),
    (10000.0, "were microvolts read as the model's input, microvolts / 10000?"),
    (1e6, "were microvolts read as volts?"),
    (1 / 5.0, "were counts of 5 uV read as microvolts?"),
    (1 / 10.0, "was the model's input, microvolts / 10000, read as millivolts?"),
    (1 / 1000.0, "were millivolts read as microvolts?"),
    (1 / 2000.0, "were microvolts / 2000 read as microvolts?"),
    (1 / 10000.0, "was the model's input, microvolts / 10000, read as microvolts?"),
    (1e-6, "were volts read as microvolts?"),
)

# The median amplitude of the twelve leads of one ECG: 22 real ECGs have a geometric mean of 1095 uV
# and an SD of a factor of 1.38 (plausibility.py). One in a thousand ECGs is beyond 3.3 SDs, 378 to
# 3171 uV; what is beyond 4.3 SDs, 274 to 4376 uV, is one in 60,000.
_TYPICAL_LEADS_UV: Final = 1095.0
_SPREAD_OF_LEADS: Final = 1.38
_DOUBTFUL_SD: Final = 3.3
_DOUBTFUL_RATE: Final = 0.001
_WRONG_SD: Final = 4.3
# More doubtful ECGs than chance gives, one time in a hundred.
_BY_CHANCE: Final = 0.01
# Microvolts of one count of common devices and data sets (facts sheet, section 10). A factor that
# makes the step one of them is worth more than one that does not: 2 SDs of amplitude.
_USUAL_STEPS_UV: Final = (1.0, 1.25, 2.5, 4.88, 5.0)
_STEP_TOLERANCE: Final = 0.002
_STEP_WORTH: Final = 4.0
_MUSE_MISTAKES: Final = (
    (4.88, "were microvolts read as counts of 4.88 uV?"),
    (1 / 4.88, "were counts of 4.88 uV read as microvolts?"),
)

_BINS_PER_DECADE: Final = 20
_BIN_EDGES_UV: Final = 10 ** np.linspace(-2, 8, 10 * _BINS_PER_DECADE + 1)

# More folders or steps than this are no sources: a folder a person, a step a record.
MAX_SOURCES: Final = 50

# A group of 3 ECGs or more is named when its median is beyond 3 times the rest's. One of 30 or more
# is known so well (standard error about 10 %) that 1.75 times is no difference between patients.
_MIN_ECGS: Final = 3
_FACTOR: Final = 3.0
_MANY_ECGS: Final = 30
_FACTOR_OF_MANY: Final = 1.75


def qrs_amplitude_uv(lead_ii_counts: NDArray[np.int16], uv_per_count: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the 99.5th minus the 0.5th percentile of lead II, which follows the QRS amplitude.

    A measure of a run's scale, not of a person: use the device's measurements for the ECG rules.
    Takes (n, n_samples) int16 counts and (n,) microvolts of one count; returns (n,) microvolts,
    about 1000 in the median of a cohort.
    """
    low, high = np.percentile(lead_ii_counts, [0.5, 99.5], axis=1)
    return np.asarray((high - low) * uv_per_count.astype(np.float64))


@dataclass(frozen=True, slots=True)
class ScaleVerdict:
    """Whether the voltages of a run can be right, judged by the median amplitude of lead II."""

    plausible: bool | None  # None when no amplitude is known
    times_too_large: float | None  # the suspected factor, below 1 when too small; None when there is none
    message: str  # one sentence for the user


def scale_verdict(median_amplitude_uv: float) -> ScaleVerdict:
    """Return whether the median lead II amplitude of many ECGs is plausible, else the likely error.

    Args:
        median_amplitude_uv: median of `qrs_amplitude_uv` over a run, microvolts; NaN when no ECG
            was measured. Not for a single ECG, which may be small for good reasons.
    """
    if np.isnan(median_amplitude_uv):
        return ScaleVerdict(None, None, "no ECG was measured, the scale is not known")
    low_uv, high_uv = _PLAUSIBLE_MEDIAN_AMPLITUDE_UV
    seen = f"median lead II amplitude is {median_amplitude_uv:.4g} uV"
    expected = f"expected {low_uv:g} to {high_uv:g} uV"
    if low_uv <= median_amplitude_uv <= high_uv:
        return ScaleVerdict(True, None, f"{seen}, plausible ({expected})")
    if not 0 < median_amplitude_uv < np.inf:
        return ScaleVerdict(False, None, f"{seen}, {expected}; no unit explains it")
    ratio = median_amplitude_uv / TYPICAL_MEDIAN_AMPLITUDE_UV
    factor, cause = scale_mistake(ratio)
    return ScaleVerdict(False, factor, f"{seen}, {expected}; it looks {cause}")


def scale_mistake(ratio: float) -> tuple[float, str]:
    """Return the common mistake that best explains voltages `ratio` times too large, above 0.

    The result is the factor of the mistake, and its size and cause in words.
    """
    factor, cause = min(_SCALE_MISTAKES, key=lambda mistake: abs(np.log(ratio / mistake[0])))
    return factor, f"{_size(factor)}: {cause}"


@dataclass(frozen=True, slots=True)
class RecordScale:
    """How far the amplitude of one ECG is from those of others, and which mistake explains it."""

    median_uv: float  # median amplitude of the twelve leads
    factor: float  # how many times too large the voltages may be; 1 where the amplitude is common
    cause: str | None  # size and cause of the mistake in words; None where the amplitude is common
    is_wrong: bool  # True where no ECG is so large or small, False where few are

    @classmethod
    def of(cls, median_uv: float, step_uv: float) -> Self:
        """Judge one ECG by the median amplitude of its leads and the microvolts of one count.

        The mistake is the one that gives the most common amplitude and, of equals, a usual step.
        """
        median_uv = max(median_uv, 1e-9)
        from_typical_sd = _sds_from_typical(median_uv)
        if abs(from_typical_sd) <= _DOUBTFUL_SD:
            return cls(median_uv, 1.0, None, False)
        mistakes = (*_SCALE_MISTAKES, *_MUSE_MISTAKES)
        factor, cause = min(mistakes, key=lambda one: _misfit(median_uv / one[0], step_uv / one[0]))
        return cls(median_uv, factor, f"{_size(factor)}: {cause}", abs(from_typical_sd) > _WRONG_SD)


def wrong_scales(records: Sequence[RecordScale]) -> list[int]:
    """Return the places of ECGs whose scale is likely wrong.

    Those that no ECG is like; and, where more are doubtful than chance gives, the doubtful ones.
    """
    doubtful = [i for i, one in enumerate(records) if one.cause is not None]
    if doubtful and bdtrc(len(doubtful) - 1, len(records), _DOUBTFUL_RATE) <= _BY_CHANCE:
        return doubtful
    return [i for i in doubtful if records[i].is_wrong]


def _sds_from_typical(median_uv: float) -> float:
    return float(np.log(median_uv / _TYPICAL_LEADS_UV) / np.log(_SPREAD_OF_LEADS))


def _misfit(median_uv: float, step_uv: float) -> float:
    """Return how badly an amplitude and a step fit: squared SDs, less where the step is usual."""
    is_usual = any(abs(step_uv / usual_uv - 1) <= _STEP_TOLERANCE for usual_uv in _USUAL_STEPS_UV)
    return _sds_from_typical(median_uv) ** 2 - _STEP_WORTH * is_usual


def _size(factor: float) -> str:
    return f"{_times(factor)} times too large" if factor > 1 else f"{_times(1 / factor)} times too small"


def _times(factor: float) -> str:
    return f"{factor:,.0f}" if abs(factor - round(factor)) < 1e-6 * factor else f"{factor:g}"


@dataclass(frozen=True, slots=True)
class AmplitudeHistogram:
    """Counts of lead II amplitudes in fixed bins, to carry a run's distribution in little JSON.

    20 bins per decade from 0.01 to 1e8 uV, one bin below (for 0, too) and one above: 202 integers.

    Invariant: adding and merging give the same counts in any order.
    """

    counts: tuple[int, ...] = (0,) * 202  # 202 counts, smallest amplitudes first

    def __post_init__(self) -> None:
        if len(self.counts) != len(_BIN_EDGES_UV) + 1 or min(self.counts) < 0:
            raise ValueError(
                f"an amplitude histogram has {len(_BIN_EDGES_UV) + 1} counts of 0 or more, "
                f"got {len(self.counts)} with smallest {min(self.counts, default=0)}"
            )

    @classmethod
    def from_list(cls, counts: Sequence[int]) -> AmplitudeHistogram:
        """Return the histogram that `to_list` gave."""
        return cls(tuple(counts))

    def to_list(self) -> list[int]:
        """Return the counts, as JSON can hold them."""
        return list(self.counts)

    @property
    def n(self) -> int:
        """Number of amplitudes counted."""
        return sum(self.counts)

    def add(self, amplitudes_uv: NDArray[np.float64]) -> AmplitudeHistogram:
        """Return the histogram with more amplitudes (microvolts); those not finite are left out."""
        finite = amplitudes_uv[np.isfinite(amplitudes_uv)]
        bins = np.searchsorted(_BIN_EDGES_UV, finite, side="right")
        added = np.bincount(bins, minlength=len(self.counts))
        return AmplitudeHistogram(tuple((np.array(self.counts) + added).tolist()))

    def merge(self, other: AmplitudeHistogram) -> AmplitudeHistogram:
        """Return the sum of two histograms."""
        pairs = zip(self.counts, other.counts, strict=True)
        return AmplitudeHistogram(tuple(a + b for a, b in pairs))

    def median_uv(self) -> float:
        """Return the median, microvolts, within a bin's width (12 %); NaN when empty.

        0 when it lies below the first edge, 1e8 uV when above the last.
        """
        if self.n == 0:
            return float("nan")
        below = np.cumsum((0, *self.counts))
        bin_index = int(np.searchsorted(below[1:], self.n / 2, side="left"))
        if bin_index == 0:
            return 0.0
        if bin_index == len(_BIN_EDGES_UV):
            return float(_BIN_EDGES_UV[-1])
        inside = (self.n / 2 - below[bin_index]) / self.counts[bin_index]
        return float(_BIN_EDGES_UV[bin_index - 1] * 10 ** (inside / _BINS_PER_DECADE))


_Histograms = Mapping[str, AmplitudeHistogram]


@dataclass(frozen=True, slots=True)
class SourceAmplitudes:
    """Lead II amplitudes by first-level folder and by step; adds up in any order.

    Folders are digests: the footers that hold them must not hold a name that a folder may have.
    More than `MAX_SOURCES` folders or steps are None.
    """

    folders: _Histograms | None = field(default_factory=dict)  # by digest of the folder
    steps: _Histograms | None = field(default_factory=dict)  # by microvolts of one count, four digits
    # ECGs whose voltages were refused before they could be measured, by digest of the folder.
    refused: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        folders: Sequence[str],
        steps_uv: Sequence[float],
        amplitudes_uv: NDArray[np.float64],
        refused: Sequence[str] = (),
    ) -> Self:
        """Return the amplitudes of ECGs by the digests of their folders and by their steps.

        Of each ECG that was measured there is a folder, a step (microvolts) and a
        `qrs_amplitude_uv`; `refused` has the folder of each ECG whose voltages were refused before.
        """
        steps = [f"{step_uv:.4g}" for step_uv in steps_uv]
        by_folder = _grouped(folders, amplitudes_uv)
        many = len({*folders, *refused}) > MAX_SOURCES
        return cls(
            None if many else by_folder,
            _grouped(steps, amplitudes_uv),
            {} if many else dict(sorted(Counter(refused).items())),
        )

    def merge(self, other: SourceAmplitudes) -> SourceAmplitudes:
        """Return the sum of both."""
        folders = _merged(self.folders, other.folders)
        refused = Counter(self.refused) + Counter(other.refused)
        if folders is not None and len({*folders, *refused}) > MAX_SOURCES:
            folders = None
        return SourceAmplitudes(
            folders, _merged(self.steps, other.steps), {} if folders is None else dict(sorted(refused.items()))
        )

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {"folders": _to_json(self.folders), "steps": _to_json(self.steps), "refused": dict(self.refused)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave."""
        return cls(_from_json(content["folders"]), _from_json(content["steps"]), dict(content["refused"]))

    def odd(self, names: Mapping[str, str]) -> list[str]:
        """Return a sentence for each group that differs from the rest as a wrong gain would.

        `names` holds the names of folders by digest; a folder without a name is not shown.
        """
        found = [f"{names[key]}: {text}" for key, text in self._odd_folders() if key in names]
        found += [f"ECGs with {key} uV per count: {text}" for key, text in _odd(self.steps)]
        return found

    def _odd_folders(self) -> Iterator[tuple[str, str]]:
        yield from _odd(self.folders)
        n_measured = {key: own.n for key, own in (self.folders or {}).items()}
        n_refused = sum(self.refused.values())
        n_all = sum(n_measured.values()) + n_refused
        for key, n in self.refused.items():
            own = n + n_measured.get(key, 0)
            rest_share = (n_refused - n) / max(1, n_all - own)
            if n >= _MIN_ECGS and n / own > 0.5 > rest_share:
                yield (key, f"the voltages of {n} of {own} records were refused; is their unit or gain right?")


def _grouped(keys: Sequence[str], amplitudes_uv: NDArray[np.float64]) -> _Histograms | None:
    distinct = sorted(set(keys))
    if len(distinct) > MAX_SOURCES:
        return None
    if len(distinct) == 1:
        return {distinct[0]: AmplitudeHistogram().add(amplitudes_uv)}
    array = np.array(keys)
    return {key: AmplitudeHistogram().add(amplitudes_uv[array == key]) for key in distinct}


def _merged(one: _Histograms | None, other: _Histograms | None) -> _Histograms | None:
    if one is None or other is None:
        return None
    keys = {*one, *other}
    if len(keys) > MAX_SOURCES:
        return None
    empty = AmplitudeHistogram()
    return {key: one.get(key, empty).merge(other.get(key, empty)) for key in sorted(keys)}


def _to_json(histograms: _Histograms | None) -> dict[str, list[list[int]]] | None:
    """Return the counts above 0 as pairs of their place and the count."""
    if histograms is None:
        return None
    return {
        key: [[place, n] for place, n in enumerate(histogram.to_list()) if n] for key, histogram in histograms.items()
    }


def _from_json(content: Mapping[str, list[list[int]]] | None) -> _Histograms | None:
    if content is None:
        return None
    found = {}
    for key, pairs in content.items():
        counts = AmplitudeHistogram().to_list()
        for place, n in pairs:
            counts[place] = n
        found[key] = AmplitudeHistogram.from_list(counts)
    return found


def _odd(histograms: _Histograms | None) -> Iterator[tuple[str, str]]:
    if histograms is None or len(histograms) < 2:
        return
    for key, own in histograms.items():
        others = (h for name, h in histograms.items() if name != key)
        rest = reduce(AmplitudeHistogram.merge, others)
        # The larger part is not the odd one: both sides of a pair would be named otherwise.
        if own.n < _MIN_ECGS or own.n > rest.n:
            continue
        ratio = own.median_uv() / max(rest.median_uv(), 1e-9)
        limit = _FACTOR_OF_MANY if own.n >= _MANY_ECGS else _FACTOR
        if not 1 / limit <= ratio <= limit:
            yield (
                key,
                f"{own.n} records, median amplitude {ratio:.2g} times that of the rest; is their unit or gain right?",
            )
