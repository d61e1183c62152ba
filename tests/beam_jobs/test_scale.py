"""The look at voltages and lead order before a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from beam_jobs.reading.storage import Storage
from beam_jobs.reading.unit_reader import UnitReader
from beam_jobs.reading.units import cut_units
from beam_jobs.run.planner import find_inputs
from beam_jobs.run.settings import InputSettings
from beam_jobs.scale import ScaleSample, main, sample_scale
from lvm_core.errors import UsageError
from lvm_core.signal.ecg import LEADS_12
from tests.beam_jobs.helpers import ecg_counts, lead_array, write_ecg_parquet

STORAGE = Storage()
N = 12


def _write(folder: Path, uv_per_count: float = 5.0, **columns: object) -> None:
    steps = pa.array([uv_per_count] * N, pa.float32())
    write_ecg_parquet(folder / "x.parquet", N, row_group_rows=4, uv_per_count=steps, **columns)


def _sample(folder: Path) -> ScaleSample:
    found = find_inputs(InputSettings(inputs=(str(folder),), unit_ecgs=4))
    units = list(cut_units(found.pieces, unit_ecgs=4, first_number=0, settings_sha256="s"))
    return sample_scale(UnitReader(STORAGE, found.roots), units)


def test_sample_scale__median_amplitude_of_lead_ii(tmp_path: Path) -> None:
    _write(tmp_path)
    sample = _sample(tmp_path)
    lead_ii_uv = ecg_counts(N)[:, 1] * 5.0
    low, high = np.quantile(lead_ii_uv, [0.005, 0.995], axis=1)
    assert sample.n_ecgs == N
    assert sample.median_uv == pytest.approx(np.median(high - low))
    assert sample.verdict.plausible
    assert (sample.odd_leads, sample.rejected) == ({}, {})


@pytest.mark.parametrize(
    ("times", "plausible"), [(1 / 1000, False), (1 / 5, False), (1, True), (5, False), (1000, False)]
)
def test_sample_scale__wrong_scale_is_not_plausible(tmp_path: Path, times: float, plausible: bool) -> None:
    _write(tmp_path, 5.0 * times)
    verdict = _sample(tmp_path).verdict
    assert verdict.plausible is plausible
    assert verdict.times_too_large == (None if plausible else pytest.approx(times))


def test_sample_scale__unusable_ecgs_are_counted_and_left_out(tmp_path: Path) -> None:
    counts = ecg_counts(N)[:, LEADS_12.index("V2")].copy()
    counts[:3] = 0
    _write(tmp_path, V2=lead_array(counts))
    sample = _sample(tmp_path)
    assert (sample.n_ecgs, sample.rejected) == (N - 3, {"lead_flat": 3})


def test_sample_scale__nothing_usable_is_unknown(tmp_path: Path) -> None:
    _write(tmp_path, V2=lead_array(np.zeros((N, 5000), dtype=np.int16)))
    sample = _sample(tmp_path)
    assert sample.n_ecgs == 0
    assert np.isnan(sample.median_uv)
    assert sample.verdict.plausible is None


def test_sample_scale__takes_about_two_hundred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beam_jobs.scale.SAMPLE_ECGS", 6)
    _write(tmp_path)
    # Three units of four ECGs give two each.
    assert _sample(tmp_path).n_ecgs == 6


def test_sample_scale__swapped_leads_are_odd(tmp_path: Path) -> None:
    counts = ecg_counts(N)
    avl, avf = LEADS_12.index("aVL"), LEADS_12.index("aVF")
    _write(tmp_path, aVL=lead_array(counts[:, avf]), aVF=lead_array(counts[:, avl]))
    assert set(_sample(tmp_path).odd_leads) == {"aVL", "aVF"}


def test_main__says_what_it_saw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(tmp_path)
    assert main(["--input", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert f"ECGs looked at: {N}" in shown
    assert "plausible" in shown
    assert "follow from I and II, as they should" in shown


def test_main__wrong_scale_or_leads_exit_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(tmp_path / "scale", 25.0)
    assert main(["--input", str(tmp_path / "scale")]) == 1
    assert "5 times too large" in capsys.readouterr().out
    avr = ecg_counts(N)[:, LEADS_12.index("aVR")]
    _write(tmp_path / "leads", aVR=lead_array(-avr))
    assert main(["--input", str(tmp_path / "leads")]) == 1
    assert "aVR (" in capsys.readouterr().out


def test_main__counts_records_that_are_rejected_or_flagged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = [5.0] * (N - 2) + [5e-4, 50.0]
    steps[0] = 1.2  # under a quarter of the true step
    write_ecg_parquet(tmp_path / "x.parquet", N, uv_per_count=pa.array(steps, pa.float32()))
    main(["--input", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "\n  not usable: 2 amplitude_implausible\n  flagged: 1 amplitude_unusual\n" in shown


def test_main__nothing_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a file, a folder or a glob"):
        main(["--input", f"{tmp_path}/absent"])
