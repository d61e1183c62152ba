"""Figures of docs/quality_flags.md: which synthetic defects are flagged, and false alarms.

    .venv/bin/python -m tests.benchmarks.quality_flags [FOLDER] [--synthetic N]

Defects of known size are put into the real files below a folder (default: ../shared/ecg), which are
read in place, and into synthetic ECGs.
"""

from __future__ import annotations

import argparse
import sys
import time
import timeit
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt, sosfiltfilt

from lvm_core.errors import EcgRejected
from lvm_core.formats.registry import format_of, read_ecg
from lvm_core.signal.beats import r_peaks
from lvm_core.signal.canonical import canonicalise
from lvm_core.signal.disturbances import disturbances
from lvm_core.signal.ecg import LEADS_12, derive_limb_leads
from lvm_core.signal.plausibility import judge_ecgs
from lvm_core.signal.quality import QualityFlag
from lvm_core.synthetic.ecgs import synthetic_ecgs
from lvm_core.synthetic.people import synthetic_people
from tests.benchmarks.measurements import SHARED_ECG
from tests.benchmarks.plausibility import say

_RATE_HZ: Final = 500
_N_SAMPLES: Final = 5000
_TIME_S: Final = np.arange(_N_SAMPLES) / _RATE_HZ
_ARMS: Final = 1  # of `SyntheticPeople.misplacement`

Signal = NDArray[np.float64]
"""(8, 5000) microvolts of I, II and V1 to V6."""
Plant = Callable[[Signal, np.random.Generator], Signal]


class Real(NamedTuple):
    """A recording in stored form."""

    name: str
    counts: NDArray[np.int16]
    uv_per_count: float


class Defect(NamedTuple):
    """A defect of one size, and the flag it should raise."""

    flag: QualityFlag
    name: str
    plant: Plant


def real_ecgs(folder: Path) -> Iterator[Real]:
    """Yield the ECGs below a folder that may be scored."""
    for path in sorted(folder.rglob("*")):
        main = path.read_bytes() if path.is_file() else b""
        kind = format_of(main)
        if kind is None or path.suffix == ".mat":
            continue
        files = {path.name: main}
        for name in kind.part_names(main) if kind.part_names is not None else ():
            files[name] = (path.parent / name).read_bytes()
        try:
            stored = canonicalise(read_ecg(files, path.name))
        except EcgRejected:
            continue
        steps = np.array([stored.uv_per_count], dtype=np.float32)
        (judgement,) = judge_ecgs(stored.counts[None], steps)
        if judgement.rejection is None:
            yield Real(path.name, stored.counts, stored.uv_per_count)


def flags_of(leads_uv: Signal, uv_per_count: float) -> tuple[str, ...]:
    """Return the flags of eight leads in microvolts, as a device stores them; four are derived."""
    rounded = np.rint(leads_uv / uv_per_count)
    derived = derive_limb_leads(rounded[0], rounded[1])
    eight = dict(zip([lead for lead in LEADS_12 if lead not in derived], rounded, strict=True))
    leads = np.rint([(eight | derived)[lead] for lead in LEADS_12]).clip(-32768, 32767)
    return disturbances(leads.astype(np.int16), uv_per_count).flags


def _in_one_lead(change: Callable[[NDArray[np.float64], np.random.Generator], NDArray[np.float64]]) -> Plant:
    def plant(leads_uv: Signal, rng: np.random.Generator) -> Signal:
        changed = leads_uv.copy()
        lead = int(rng.integers(len(leads_uv)))
        changed[lead] = change(leads_uv[lead], rng)
        return changed

    return plant


def _exchange_arms(leads_uv: Signal, rng: np.random.Generator) -> Signal:
    changed = leads_uv.copy()
    changed[0], changed[1] = -leads_uv[0], leads_uv[1] - leads_uv[0]
    return changed


def _flat(noise_uv: float, duration_s: float) -> Plant:
    """Replace a part of a lead by noise, as of an electrode that is off or of a shorted input."""

    def change(lead_uv: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
        length = round(duration_s * _RATE_HZ)
        start = int(rng.integers(_N_SAMPLES - length + 1))
        changed = lead_uv.copy()
        changed[start : start + length] = noise_uv * rng.standard_normal(length)
        return changed

    return _in_one_lead(change)


def _clip(share: float) -> Plant:
    """Cut the larger of the positive and negative side at a share of its highest point."""

    def change(lead_uv: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
        level_uv = np.median(lead_uv)
        rest_uv = lead_uv - level_uv
        limit_uv = share * np.abs(rest_uv).max()
        return np.asarray(level_uv + rest_uv.clip(-limit_uv, limit_uv))

    return _in_one_lead(change)


def _rail(duration_s: float) -> Plant:
    """Hold a lead at 3 mV, as an amplifier that is overloaded."""

    def change(lead_uv: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
        length = round(duration_s * _RATE_HZ)
        start = int(rng.integers(_N_SAMPLES - length + 1))
        changed = lead_uv.clip(-3000, 3000)
        changed[start : start + length] = 3000
        return changed

    return _in_one_lead(change)


def _sine(hz: float, amplitude_uv: float, tremble: float = 0.0) -> Plant:
    """Add a sine; `tremble` is the SD of its frequency from one 0.1 s to the next, Hz."""

    def change(lead_uv: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
        drift_hz = np.repeat(tremble * rng.standard_normal(_N_SAMPLES // 50), 50)
        phase = 2 * np.pi * np.cumsum(hz + drift_hz) / _RATE_HZ + rng.uniform(0, 2 * np.pi)
        return np.asarray(lead_uv + amplitude_uv * np.sin(phase))

    return _in_one_lead(change)


def _step(size_uv: float) -> Plant:
    def change(lead_uv: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
        return np.asarray(lead_uv + size_uv * (rng.uniform(2, 8) < _TIME_S))

    return _in_one_lead(change)


def _noise(sd_uv: float, band_hz: tuple[float, float] | None = None, duration_s: float = 10.0) -> Plant:
    def change(lead_uv: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
        noise = rng.standard_normal(_N_SAMPLES)
        if band_hz is not None:
            noise = sosfiltfilt(butter(2, band_hz, "bandpass", fs=_RATE_HZ, output="sos"), noise)
            noise /= noise.std()
        start_s = rng.uniform(0, 10 - duration_s)
        noise[(start_s > _TIME_S) | (start_s + duration_s <= _TIME_S)] = 0
        return np.asarray(lead_uv + sd_uv * noise)

    return _in_one_lead(change)


def _spikes(amplitude_uv: float, duration_ms: float, *, every: int = 1) -> Plant:
    """Add a pulse 50 ms before R, behind a filter of 150 Hz, of a random size in each lead."""

    def plant(leads_uv: Signal, rng: np.random.Generator) -> Signal:
        fine_hz = 20 * _RATE_HZ
        length = round(duration_ms * fine_hz / 1000)
        sizes_uv = rng.uniform(-1, 1, len(leads_uv))
        sizes_uv *= amplitude_uv / np.abs(sizes_uv).max()
        pulses = np.zeros(_N_SAMPLES * 20)
        for peak in r_peaks(leads_uv, _RATE_HZ)[::every]:
            start = (int(peak) - 25) * 20 + int(rng.integers(20))
            if start > 0:
                pulses[start : start + length] = 1
        low = butter(4, 150, fs=fine_hz, output="sos")
        return np.asarray(leads_uv + sizes_uv[:, None] * sosfilt(low, pulses)[::20])

    return plant


def defects() -> list[Defect]:
    """Return all defects, by flag and size."""
    flag = QualityFlag
    emg_hz = (20.0, 150.0)
    return [
        Defect(flag.ARM_LEADS_REVERSED, "electrodes of the arms exchanged", _exchange_arms),
        *(
            Defect(flag.LEAD_NEAR_FLAT, f"a lead is noise of {noise_uv} uV (SD) for {duration_s:g} s", plant)
            for noise_uv, duration_s in ((2, 10), (2, 4), (2, 2.5), (10, 10), (20, 10))
            for plant in (_flat(noise_uv, duration_s),)
        ),
        *(
            Defect(flag.SATURATED, f"a lead is clipped at {share:.0%} of its highest wave", _clip(share))
            for share in (0.9, 0.7, 0.5, 0.3)
        ),
        *(
            Defect(flag.SATURATED, f"a lead is held at 3 mV for {duration_s:g} s", _rail(duration_s))
            for duration_s in (0.1, 0.25, 1)
        ),
        *(
            Defect(flag.BASELINE_WANDER, f"sine of {hz:g} Hz, {2 * size_uv} uV from peak to peak", _sine(hz, size_uv))
            for hz in (0.15, 0.3, 0.5)
            for size_uv in (100, 200, 300, 500, 1000)
        ),
        *(Defect(flag.BASELINE_WANDER, f"step of {size_uv} uV", _step(size_uv)) for size_uv in (300, 700, 1500)),
        *(
            Defect(flag.MAINS_NOISE, f"{hz:g} Hz, amplitude {size_uv} uV", _sine(hz, size_uv))
            for hz in (50, 60, 49.85)
            for size_uv in (25, 40, 60, 100, 300)
        ),
        Defect(flag.MAINS_NOISE, "50 Hz, amplitude 100 uV, trembling by 0.5 Hz (SD)", _sine(50, 100, 0.5)),
        *(
            Defect(flag.HIGH_FREQUENCY_NOISE, f"white noise, SD {sd_uv} uV", _noise(sd_uv))
            for sd_uv in (10, 20, 30, 50, 100)
        ),
        *(
            Defect(flag.HIGH_FREQUENCY_NOISE, f"20 to 150 Hz, SD {sd_uv} uV", _noise(sd_uv, emg_hz))
            for sd_uv in (10, 20, 30, 50, 100)
        ),
        *(
            Defect(
                flag.HIGH_FREQUENCY_NOISE,
                f"20 to 150 Hz, SD 100 uV, for {duration_s:g} s",
                _noise(100, emg_hz, duration_s),
            )
            for duration_s in (1, 2, 4)
        ),
        *(
            Defect(flag.PACING_SPIKES, f"pulses of {size_uv} uV, {ms:g} ms, before each beat", _spikes(size_uv, ms))
            for ms in (0.5, 2)
            for size_uv in (250, 500, 1000, 2000, 5000)
        ),
        Defect(flag.PACING_SPIKES, "pulses of 2000 uV, 2 ms, before every third beat", _spikes(2000, 2, every=3)),
    ]


def print_defects(ecgs: Sequence[Real], n_draws: int) -> None:
    """Put each defect into each ECG and print how many get the flag, of those without it before."""
    independent = [LEADS_12.index(lead) for lead in ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")]
    signals = [(ecg, (ecg.counts[independent] * ecg.uv_per_count).astype(np.float64)) for ecg in ecgs]
    before = [flags_of(leads_uv, ecg.uv_per_count) for ecg, leads_uv in signals]
    say("| flag | defect | n | flagged |\n|---|---|---|---|")
    for defect in defects():
        rng = np.random.default_rng(1)
        outcomes = [
            defect.flag in flags_of(defect.plant(leads_uv, rng), ecg.uv_per_count)
            for (ecg, leads_uv), own in zip(signals, before, strict=True)
            if defect.flag not in own
            for _ in range(1 if defect.plant is _exchange_arms else n_draws)
        ]
        say(f"| `{defect.flag}` | {defect.name} | {len(outcomes)} | {np.mean(outcomes):.0%} |".replace("%", " %"))


def print_flagged(ecgs: Sequence[Real]) -> None:
    """Print what is flagged without a defect, with its numbers."""
    say("| recording | flags | numbers |\n|---|---|---|")
    for ecg in ecgs:
        found = disturbances(ecg.counts, ecg.uv_per_count)
        if found.flags:
            numbers = ", ".join(f"{name} {value:.4g}" for name, value in found._asdict().items())
            say(f"| {ecg.name} | {', '.join(found.flags)} | {numbers} |")


def print_percentiles(name: str, ecgs: Sequence[Real]) -> None:
    """Print the distribution of each number."""
    say(f"\n### {name}: {len(ecgs)} ECGs\n\n| number | least | 5 % | median | 95 % | most |\n|---|---|---|---|---|---|")
    found = [disturbances(ecg.counts, ecg.uv_per_count) for ecg in ecgs]
    for field in ("least_range_uv", "wander_uv", "mains_uv", "noise_uv"):
        parts = np.percentile([getattr(one, field) for one in found], [0, 5, 50, 95, 100])
        say(f"| `{field}` | " + " | ".join(f"{part:.3g}" for part in parts) + " |")


def print_synthetic(n: int) -> list[Real]:
    """Print how many synthetic ECGs are flagged, and those whose arm electrodes are exchanged."""
    made, people = synthetic_ecgs(n, 1), synthetic_people(n, 1)
    ecgs = [Real(str(i), made.counts[i], float(made.uv_per_count[i])) for i in range(n)]
    flags = [disturbances(ecg.counts, ecg.uv_per_count).flags for ecg in ecgs]
    say(f"\n## {n} synthetic ECGs: {dict(Counter(flag for own in flags for flag in own))}")
    is_exchanged = people.misplacement == _ARMS
    has_flag = np.array([QualityFlag.ARM_LEADS_REVERSED in own for own in flags])
    say(
        f"exchanged arms: {has_flag[is_exchanged].sum()} of {is_exchanged.sum()} flagged, "
        f"of the others {has_flag[~is_exchanged].sum()} of {(~is_exchanged).sum()}"
    )
    return [ecg for ecg, own in zip(ecgs, is_exchanged, strict=True) if not own]


def ms_per_ecg(n_ecgs: int = 300) -> float:
    """Return the processor time of one ECG, milliseconds, the best of ten passes."""
    counts = synthetic_ecgs(n_ecgs, 3).counts

    def measure() -> None:
        for one in counts:
            disturbances(one, 5.0)

    return 1000 * min(timeit.repeat(measure, timer=time.process_time, repeat=10, number=1)) / n_ecgs


def main(argv: Sequence[str]) -> int:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=SHARED_ECG)
    parser.add_argument("--synthetic", type=int, default=2000, metavar="N")
    args = parser.parse_args(argv)
    real = list(real_ecgs(args.folder))
    say(f"# {len(real)} real ECGs\n\n## Flagged as they are\n")
    print_flagged(real)
    print_percentiles("Real", real)
    say("\n## Synthetic defects in real ECGs\n")
    print_defects(real, n_draws=5)
    synthetic = print_synthetic(args.synthetic)
    print_percentiles("Synthetic", synthetic)
    say("\n## Synthetic defects in synthetic ECGs\n")
    print_defects(synthetic[:100], n_draws=1)
    say(f"\ndisturbances: {ms_per_ecg():.3f} ms of processor time an ECG")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
