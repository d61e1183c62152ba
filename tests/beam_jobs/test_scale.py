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
from lvm_core.signal.lead_orders import CHEST_ORDERS, LIMB_ORDERS, LeadOrder
from tests.beam_jobs.helpers import ecg_counts, lead_array, write_ecg_parquet
from tests.file_builders import MUSE_LEADS, muse_xml, wfdb_record

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
    assert shown.endswith("\nconclusion: unit, scale and lead order are as declared\n")


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


def _order_written(folder: Path, order: LeadOrder) -> None:
    """Write ECGs whose columns hold the leads of an order, by name."""
    counts = ecg_counts(N)
    signs = {lead: -1 if lead.startswith("-") else 1 for lead in order.leads}
    stands = [counts[:, LEADS_12.index(lead.removeprefix("-"))] * signs[lead] for lead in order.leads]
    columns = zip(LEADS_12, stands, strict=True)
    _write(folder, **{place: lead_array(values.astype(np.int16)) for place, values in columns})


@pytest.mark.parametrize("order", [*LIMB_ORDERS[1:], *CHEST_ORDERS[1:]], ids=lambda order: order.name)
def test_main__names_the_order_of_the_leads(
    order: LeadOrder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _order_written(tmp_path, order)
    assert main(["--input", str(tmp_path)]) == 1
    conclusion = capsys.readouterr().out.splitlines()[-1]
    assert order.name in conclusion
    assert order.mend in conclusion


def test_sample_scale__names_the_likely_order_where_limb_leads_do_not_fit(tmp_path: Path) -> None:
    mimic = next(order for order in LIMB_ORDERS if "MIMIC" in order.name)
    _order_written(tmp_path, mimic)
    problem = _sample(tmp_path).problem
    assert problem is not None
    assert f"leads of {N} of {N} ECGs fit {mimic.name}" in problem


@pytest.mark.parametrize(
    ("times", "named"),
    [
        (5.0, "5 times too large"),
        (0.2, "5 times too small"),
        (1 / 4.88, "4.88 times too small"),
        (1000.0, "1,000 times too large"),
        (0.001, "1,000 times too small"),
    ],
)
def test_main__names_the_scale_of_single_records(
    times: float, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The median of all is right; two ECGs are not."""
    steps = [5.0] * (N - 2) + [5.0 * times] * 2
    write_ecg_parquet(tmp_path / "x.parquet", N, uv_per_count=pa.array(steps, pa.float32()))
    assert main(["--input", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    conclusion = shown.splitlines()[-1]
    assert f"voltages of 2 of {N} ECGs look {named}" in conclusion
    assert conclusion.endswith("e0010, e0011")
    assert f"\n{named:<30}{2:>6}   " in shown


def test_main__recordings_refused_by_the_reader_are_judged_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A gain 1000 times too small in a header makes voltages that no row can hold."""
    for name, gain in (("good", "200.0(0)/mV"), ("bad", "0.2(0)/mV")):
        for path, data in wfdb_record(dict(zip(LEADS_12, ecg_counts(1)[0], strict=True)), name=name, gain=gain).items():
            (tmp_path / path).write_bytes(data)
    assert main(["--input", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "not usable: 1 amplitude_implausible" in shown
    assert "voltages of 1 of 2 ECGs look 1,000 times too large: were microvolts read as millivolts?" in shown
    assert shown.endswith(" bad\n")


def test_main__wrong_gain_of_one_limb_lead_fits_no_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lead_i = ecg_counts(N)[:, 0].astype(np.int16) * 3
    _write(tmp_path, I=lead_array(lead_i.astype(np.int16)))
    assert main(["--input", str(tmp_path)]) == 1
    assert "fit no order that is known here" in capsys.readouterr().out


def test_main__derived_limb_leads_show_no_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.xml").write_bytes(muse_xml({lead: ecg_counts(1)[0, LEADS_12.index(lead)] for lead in MUSE_LEADS}))
    assert main(["--input", str(tmp_path)]) == 0
    assert "were computed from I and II, so they cannot show their order" in capsys.readouterr().out


SHARED = Path(__file__).parents[3] / "shared"
# Arrays need a layout; a header cannot turn the sign of samples.
SAMPLE_FOLDERS = [path for path in sorted(SHARED.glob("ecg/*")) if path.is_dir() and path.name != "mat"]
MOVED_NAMES = [order for order in LIMB_ORDERS[1:] if not any(lead.startswith("-") for lead in order.leads)]
needs_files = pytest.mark.skipif(not SHARED.exists(), reason="the sample files are not beside the project")


@needs_files
def test_main__each_of_several_mistakes_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--input", str(SHARED / "cases" / "ecg_wrong_scale")]) == 1
    conclusion = capsys.readouterr().out.splitlines()[-1]
    for named in ("5 times too large", "4.88 times too small", "1,000 times too large", "HR00599", "E00018"):
        assert named in conclusion


@needs_files
@pytest.mark.parametrize(("record", "named"), [("HR00599", "5 times too large"), ("E00018", "4.88 times too small")])
def test_main__finds_the_real_wrong_gains(record: str, named: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Two public recordings whose headers state a wrong gain."""
    assert main(["--input", str(SHARED / "cases" / "ecg_wrong_scale" / f"{record}.*")]) == 1
    assert f"voltages of 1 of 1 ECG look {named}" in capsys.readouterr().out.splitlines()[-1]


@needs_files
@pytest.mark.parametrize("folder", SAMPLE_FOLDERS, ids=lambda folder: folder.name)
def test_main__sample_files_are_as_declared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--input", str(folder)]) == 0
    assert capsys.readouterr().out.endswith("conclusion: unit, scale and lead order are as declared\n")


@needs_files
@pytest.mark.parametrize("order", MOVED_NAMES, ids=lambda order: order.name)
def test_main__finds_each_order_in_damaged_headers(
    order: LeadOrder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Copies of real WFDB files: names moved in the header, samples left as they are."""
    for header in (SHARED / "ecg" / "wfdb" / "torch_ecg_ptbxl").glob("*.hea"):
        lines = header.read_text().splitlines()
        # The samples of the place that an order gives to a lead get the name of that place.
        stated = [line.rsplit(" ", 1)[1] for line in lines[1:13]]
        renamed = [LEADS_12[order.leads.index(name)] for name in stated]
        pairs = zip(lines[1:13], renamed, strict=True)
        lines[1:13] = [f"{line.rsplit(' ', 1)[0]} {name}" for line, name in pairs]
        (tmp_path / header.name).write_text("\n".join(lines) + "\n")
        signal = header.with_suffix(".mat")
        (tmp_path / signal.name).write_bytes(signal.read_bytes())
    assert main(["--input", str(tmp_path)]) == 1
    conclusion = capsys.readouterr().out.splitlines()[-1]
    assert f"leads of 5 of 5 ECGs fit {order.name}" in conclusion


def test_main__nothing_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a file, a folder or a glob"):
        main(["--input", f"{tmp_path}/absent"])
