"""Figures of docs/measurements.md: agreement with devices, and errors on known waves.

    .venv/bin/python -m tests.benchmarks.measurements

Real files are read in place from ../shared/ecg; Philips files by ecgdatakit.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from ecgdatakit import FileParser
from numpy.typing import NDArray

from lvm_core.formats import cardiosoft, muse
from lvm_core.formats.xml import parse_xml
from lvm_core.signal.canonical import canonicalise, resample_to_500_hz
from lvm_core.signal.ecg import LEADS_12, Measurements, canonical_lead, r_column, s_column
from lvm_core.signal.measuring import measure_ecg
from lvm_core.synthetic.ecgs import synthetic_ecgs
from lvm_core.synthetic.known_waves import disturbed, irregular_starts, known_ecg, regular_starts
from tests.benchmarks.plausibility import say

SHARED_ECG: Final = Path(__file__).resolve().parents[3] / "shared" / "ecg"
_PHILIPS_WAVES: Final = {"Q": "qamp", "R": "ramp", "S": "samp", "R1": "rpamp", "S1": "spamp"}

Waves = Mapping[str, Mapping[str, float]]

R_UV: Final = np.array([600.0, 900.0, 300.0, 0.0, 1200.0, 500.0, 200.0, 400.0, 700.0, 1100.0, 1500.0, 1300.0])
S_UV: Final = np.array([100.0, 0.0, 250.0, 800.0, 60.0, 40.0, 1000.0, 1700.0, 900.0, 500.0, 200.0, 30.0])
_CONDITIONS: Final[dict[str, dict[str, float]]] = {
    "nothing": {},
    "noise, SD 10 uV": {"noise_uv": 10.0},
    "noise, SD 25 uV": {"noise_uv": 25.0},
    "noise, SD 50 uV": {"noise_uv": 50.0},
    "wander, 0.3 Hz, 100 uV": {"wander_uv": 100.0},
    "wander, 0.3 Hz, 500 uV": {"wander_uv": 500.0},
    "mains, 50 Hz, 100 uV": {"mains_uv": 100.0},
    "mains, 60 Hz, 100 uV": {"mains_uv": 100.0, "mains_hz": 60.0},
    "noise 15, wander 150, mains 30 uV": {"noise_uv": 15.0, "wander_uv": 150.0, "mains_uv": 30.0},
    "AF, f waves of 40 uV, noise 5 uV": {"fibrillation_uv": 40.0, "noise_uv": 5.0},
}


class Real(NamedTuple):
    """A real recording and what its device measured."""

    name: str
    leads_uv: NDArray[np.float32]  # (12, n) 500 Hz
    waves_uv: Waves  # empty where the file has none
    qrs_duration_ms: float


def real_recordings() -> Iterator[Real]:
    """Yield the recordings whose device measured amplitudes or the duration of QRS."""
    data = (SHARED_ECG / "cardiosoft_xml" / "ecgprocess_example-XML1.xml").read_bytes()
    table = parse_xml(data).find("RestingECGMeasurements/MeasurementTable")
    assert table is not None
    yield _own("CardioSoft", cardiosoft.read_cardiosoft(data), cardiosoft._waves_uv(table))
    for number in (1, 2):
        data = (SHARED_ECG / "muse_xml" / f"braveheart_example{number}.xml").read_bytes()
        matrix = parse_xml(data).findtext("MeasurementMatrix") or ""
        yield _own(f"MUSE {number}", muse.read_muse(data), muse._waves_uv(matrix))
    for name in ("129DYPRG.XML", "cvrg_Philips103Example01.xml", "philips-ecg-parser_example.xml"):
        path = SHARED_ECG / "philips_sierra" / name
        # The duration of the first group of beats, which is the dominant one.
        text = _text(path.read_bytes())
        group = re.search(r"<groupmeasurement .*?<meanqrsdur>(\d+)<", text, re.DOTALL)
        record = FileParser().parse(path)
        duration_ms = float(group[1]) if name == "129DYPRG.XML" and group else record.measurements.qrs_duration
        yield Real(f"Philips {name}", _leads_uv(record), _philips_waves(text), duration_ms)
    for name in ("dicom/marcodebe_anonymous_ecg.dcm", "hl7_aecg/fda_subject1_0.xml"):
        record = FileParser().parse(SHARED_ECG / name)
        yield Real(name, _leads_uv(record), {}, record.measurements.qrs_duration)


def _own(name: str, ecg: Any, waves_uv: Waves) -> Real:
    stored = canonicalise(ecg)
    leads_uv = stored.counts * np.float32(stored.uv_per_count)
    return Real(name, leads_uv, waves_uv, ecg.measurements.qrs_duration_ms)


def _text(data: bytes) -> str:
    return data.decode("utf-16") if data[:2] in (b"\xff\xfe", b"\xfe\xff") else data.decode()


def _leads_uv(record: Any) -> NDArray[np.float32]:
    by_name = {canonical_lead(lead.label): lead for lead in record.leads}
    leads = np.array([by_name[lead].samples for lead in LEADS_12], dtype=np.float32) * 1000
    rate_hz = record.leads[0].sampling_rate
    return np.ascontiguousarray(resample_to_500_hz(np.ascontiguousarray(leads.T), rate_hz).T[:, :5000])


def _philips_waves(text: str) -> Waves:
    found = {}
    for block in re.finditer(r'<leadmeasurement leadname="(\w+)"(.*?)</leadmeasurement>', text, re.DOTALL):
        lead = canonical_lead(block[1])
        if lead is not None:
            values = {wave: re.search(f"<{tag}>(-?\\d+)<", block[2]) for wave, tag in _PHILIPS_WAVES.items()}
            found[lead] = {wave: abs(float(value[1])) for wave, value in values.items() if value}
    return found


def _of(measured: Measurements) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r_uv, s_uv = (
        np.array([getattr(measured, name(lead)) for lead in LEADS_12], dtype=float) for name in (r_column, s_column)
    )
    return r_uv, s_uv


def _agreement(name: str, differences: list[float]) -> str:
    values = np.array(differences)
    mean, sd = values.mean(), values.std(ddof=1)
    cells = f"{len(values)} | {mean:.1f} | {sd:.1f} | {mean - 1.96 * sd:.0f} to {mean + 1.96 * sd:.0f}"
    return f"| {name} | {cells} | {np.median(values):.0f} | {np.abs(values).max():.0f} |"


def with_devices() -> None:
    """Print bias and limits of agreement over all leads of the real recordings."""
    differences: dict[str, list[float]] = {}
    for real in real_recordings():
        measured = measure_ecg(real.leads_uv)
        r_uv, s_uv = _of(measured)
        assert measured.qrs_duration_ms is not None
        differences.setdefault("QRS duration, ms", []).append(measured.qrs_duration_ms - real.qrs_duration_ms)
        say(f"{real.name}: QRS {real.qrs_duration_ms:.0f} ms by the device, {measured.qrs_duration_ms:.0f} ms here")
        for lead, waves in real.waves_uv.items():
            k = LEADS_12.index(lead)
            of_r = float(r_uv[k]) - max(waves["R"], waves["R1"])
            of_s = float(s_uv[k]) - max(waves["Q"], waves["S"], waves["S1"])
            maker = real.name.split()[0]
            for group in ("all", maker):
                differences.setdefault(f"R, uV, {group}", []).append(of_r)
                differences.setdefault(f"deeper of Q and S, uV, {group}", []).append(of_s)
            if max(abs(of_r), abs(of_s)) > 80:
                say(f"  {lead}: R {of_r:+.0f} uV, Q or S {of_s:+.0f} uV")
    say("| | n | bias | SD | limits of agreement | median | largest |\n|---|---|---|---|---|---|---|")
    for name, values in sorted(differences.items()):
        say(_agreement(name, values))


def with_known_waves() -> None:
    """Print errors on ECGs of known waves, 40 to 118 beats a minute."""
    say("| disturbed by | bias | SD | largest | QRS duration, ms | not measured |\n|---|---|---|---|---|---|")
    for name, disturbance in _CONDITIONS.items():
        rng = np.random.default_rng(1)
        errors, durations = [], []
        for rate_per_min in range(40, 120, 2):
            is_af = "fibrillation_uv" in disturbance
            starts = irregular_starts(rng) if is_af else regular_starts(rate_per_min)
            ecg_uv = disturbed(known_ecg(R_UV, S_UV, starts, has_p=not is_af), rng, **disturbance)
            measured = measure_ecg(ecg_uv)
            r_uv, s_uv = _of(measured)
            errors += [*(r_uv - R_UV), *(s_uv - S_UV)]
            durations.append(measured.qrs_duration_ms or np.nan)
        values, ms = np.array(errors), np.array(durations)
        say(
            f"| {name} | {np.nanmean(values):.1f} | {np.nanstd(values):.1f} | {np.nanmax(np.abs(values)):.0f} | "
            f"{np.nanmean(ms):.0f} (SD {np.nanstd(ms):.0f}) | {np.isnan(values).sum()} of {len(values)} |"
        )


def ecgs_per_s(n_ecgs: int) -> float:
    """Return the synthetic ECGs that are measured in a second on one core."""
    ecgs_uv = synthetic_ecgs(n_ecgs, seed=2).counts * np.float32(5)
    measure_ecg(ecgs_uv[0])
    start = time.process_time()
    for one in ecgs_uv:
        measure_ecg(one)
    return n_ecgs / (time.process_time() - start)


if __name__ == "__main__":
    with_devices()
    with_known_waves()
    say(f"{ecgs_per_s(300):.0f} ECGs a second on one core")
