"""The device's R and S against its trace, and rates that no device has."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from lvm_core.formats.registry import read_ecg
from lvm_core.signal.canonical import canonicalise
from lvm_core.signal.ecg import LEADS_12, Measurements, r_column, s_column
from lvm_core.signal.stated import is_usual_rate, measurements_disagree, waves_uv
from lvm_core.synthetic.ecgs import ecgs_of
from lvm_core.synthetic.known_waves import disturbed, known_ecg, regular_starts
from lvm_core.synthetic.people import synthetic_people
from tests.lvm_core.formats.helpers import SHARED_ECG, needs_real_files

R_UV = np.array([600.0, 900.0, 300.0, 0.0, 1200.0, 500.0, 200.0, 400.0, 700.0, 1100.0, 1500.0, 1300.0])
S_UV = np.array([100.0, 0.0, 250.0, 800.0, 60.0, 40.0, 1000.0, 1700.0, 900.0, 500.0, 200.0, 30.0])
MEASURED_FILES = sorted([*SHARED_ECG.glob("cardiosoft_xml/*"), *SHARED_ECG.glob("muse_xml/*")])
MEASURED_FILES += sorted(SHARED_ECG.glob("philips_sierra/*"))


def _measured(r_uv: np.ndarray = R_UV, s_uv: np.ndarray = S_UV, leads: tuple[str, ...] = LEADS_12) -> Measurements:
    values = {r_column(lead): float(r) for lead, r in zip(LEADS_12, r_uv, strict=True) if lead in leads}
    values |= {s_column(lead): float(s) for lead, s in zip(LEADS_12, s_uv, strict=True) if lead in leads}
    return Measurements(**values, measured_by="device")


def _counts(scale: float = 1.0, **disturbance: float) -> np.ndarray:
    uv = known_ecg(R_UV, S_UV, regular_starts(70))
    uv = disturbed(uv, np.random.default_rng(1), **disturbance)
    return np.rint(scale * uv / 2.0).astype(np.int16)


def test_waves_uv__are_r_plus_s_where_both_are_known() -> None:
    found = waves_uv(Measurements(r_i_uv=300.0, s_i_uv=20.0, r_v6_uv=900.0))
    assert found[0] == 320.0
    assert np.isnan(found[1:]).all()


def test_measurements_disagree__not_where_the_trace_has_the_waves() -> None:
    assert not measurements_disagree(_counts(), 2.0, _measured())


@pytest.mark.parametrize("disturbance", [{"noise_uv": 40.0}, {"wander_uv": 400.0}, {"fibrillation_uv": 100.0}])
def test_measurements_disagree__not_for_a_trace_that_is_disturbed(disturbance: dict[str, float]) -> None:
    assert not measurements_disagree(_counts(**disturbance), 2.0, _measured())


@pytest.mark.parametrize("scale", [0.1, 0.5, 0.6, 1.7, 2.0, 5.0])
def test_measurements_disagree__with_a_trace_of_another_scale(scale: float) -> None:
    assert measurements_disagree(_counts(scale), 2.0, _measured())
    assert measurements_disagree(_counts(), 2.0 * scale, _measured())


@pytest.mark.parametrize("scale", [0.8, 1.2, 1.4])
def test_measurements_disagree__not_for_a_scale_that_is_near(scale: float) -> None:
    assert not measurements_disagree(_counts(scale), 2.0, _measured())


def test_measurements_disagree__with_a_wave_that_is_larger_than_its_lead() -> None:
    r_uv = R_UV.copy()
    r_uv[11] = 13000.0  # a zero too many
    assert measurements_disagree(_counts(), 2.0, _measured(r_uv))


def test_measurements_disagree__where_two_chest_leads_changed_places() -> None:
    counts = _counts()
    counts[[0, 11]] = counts[[11, 0]]
    assert measurements_disagree(counts, 2.0, _measured())


def test_measurements_disagree__needs_four_leads_to_say_that_a_trace_is_too_large() -> None:
    counts = _counts(3.0)
    assert not measurements_disagree(counts, 2.0, _measured(leads=("V3", "V5", "V6")))
    assert measurements_disagree(counts, 2.0, _measured(leads=("V2", "V3", "V5", "V6")))


def test_measurements_disagree__small_waves_and_no_measurements_say_nothing() -> None:
    assert not measurements_disagree(_counts(5.0), 2.0, Measurements())
    assert not measurements_disagree(_counts(5.0), 2.0, _measured(R_UV / 20, S_UV / 20))


def test_measurements_disagree__noise_in_which_no_beat_is_found_says_nothing() -> None:
    noise = np.rint(np.random.default_rng(2).normal(0, 1000, (12, 5000))).astype(np.int16)
    assert not measurements_disagree(noise, 2.0, _measured())
    assert measurements_disagree(np.rint(noise / 20).astype(np.int16), 2.0, _measured())


@needs_real_files
@pytest.mark.parametrize("path", MEASURED_FILES, ids=lambda path: path.name)
def test_measurements_disagree__real_file_agrees_and_its_double_and_half_do_not(path: Path) -> None:
    ecg = read_ecg({path.name: path.read_bytes()}, path.name)
    assert ecg.measurements.has_amplitudes
    stored = canonicalise(ecg)
    for factor, disagrees in ((1.0, False), (2.0, True), (0.5, True), (5.0, True), (0.2, True)):
        step_uv = factor * stored.uv_per_count
        assert measurements_disagree(stored.counts, step_uv, ecg.measurements) is disagrees, factor


def test_measurements_disagree__synthetic_hearts_agree_unless_electrodes_were_misplaced() -> None:
    people = synthetic_people(60, 3)
    made = ecgs_of(people)
    for i in np.flatnonzero(people.misplacement == 0).tolist():
        values = {name: float(row[i]) for name, row in made.measurements.items() if not np.isnan(row[i])}
        assert not measurements_disagree(made.counts[i], 5.0, Measurements(**values))


def test_measurements_disagree__costs_little() -> None:
    counts, measured = _counts(), _measured()
    seconds = []
    for _ in range(20):
        started_s = time.process_time()
        measurements_disagree(counts, 2.0, measured)
        seconds.append(time.process_time() - started_s)
    assert min(seconds) < 0.001


@pytest.mark.parametrize("rate_hz", [240, 250, 257, 400, 500.0, 1000])
def test_is_usual_rate__those_of_devices_and_public_collections(rate_hz: float) -> None:
    assert is_usual_rate(rate_hz)


@pytest.mark.parametrize("rate_hz", [201, 510, 501, 700, 1001, 499.5])
def test_is_usual_rate__not_a_slip_of_a_digit(rate_hz: float) -> None:
    assert not is_usual_rate(rate_hz)
