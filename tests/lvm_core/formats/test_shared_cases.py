"""Inputs that public reports describe, as files: what each gives. Skipped where they are absent."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pytest
import wfdb

from lvm_core.errors import EcgRejected
from lvm_core.formats.registry import read_ecg
from lvm_core.signal.canonical import canonicalise
from lvm_core.signal.ecg import Ecg
from tests.lvm_core.formats.helpers import SHARED_ECG

CASES = SHARED_ECG.parent / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the inputs of ../shared/cases are not here")
MADE_MUSE = dt.datetime(2019, 5, 17, 10, 11, 12)
MADE_CARDIOSOFT = dt.datetime(2016, 4, 3, 10, 1, 2)

# Flags of the stored form, or the reason and a part of the message.
READ = {
    "formats/autogain/a0.hea": (),
    "formats/autogain/a1.hea": (),
    "formats/autogain/a2.hea": (),
    "formats/muse/m09_bare_ampersand.xml": ("xml_repaired", "leads_derived"),
    "formats/muse/m10_bare_lt.xml": ("xml_repaired", "leads_derived"),
    "formats/muse/m11_decimal_comma.xml": ("leads_derived",),
    "formats/muse/m12_no_units.xml": ("unit_assumed", "leads_derived"),
    "formats/muse/m15_no_type_single.xml": ("leads_derived",),
    "formats/muse/m22_ctrl_char.xml": ("xml_repaired", "leads_derived"),
    "formats/muse/m31_date_text.xml": ("leads_derived",),
    "formats/muse/m34_trailing_nuls.xml": ("leads_derived",),
    "formats/cardiosoft/c11_8lead.xml": ("leads_derived",),
    "formats/cardiosoft/c20_bare_amp.xml": ("xml_repaired",),
    "formats/cardiosoft/c22_ctrl.xml": ("xml_repaired",),
    "formats/cardiosoft/c28_trailing_nul.xml": (),
    "formats/wfdb/w34_DI.hea": (),
    "formats/wfdb/w34b_ECGlead.hea": (),
    "formats/wfdb/w34c_ECG_I.hea": (),
    "formats/wfdb/w34d_colon.hea": (),
    "formats/wfdb/w36_dirname.hea": (),
    "formats/wfdb/w37_sub.hea": (),
    "formats/wfdb/w40_microsign.hea": (),
    "formats/wfdb/w40b_millivolts.hea": (),
    "formats/wfdb/w40d_spaceunit.hea": (),
    "formats/wfdb/w50_checksum_zero.hea": ("checksum_absent",),
    "formats/wfdb/w53_8leads.hea": ("leads_derived",),
    "wfdb/HR06001.hea": ("checksum_absent",),
}
REFUSED = {
    "formats/wfdb/w40c_adu.hea": ("unknown_unit", r"the unit \('adu'\) is not a known voltage"),
    "formats/wfdb/w50b_checksum_wrong.hea": ("unreadable", "checksum of lead V1"),
}


def _read(name: str) -> Ecg:
    main = CASES / name
    paths = [main, *main.parent.rglob(f"{main.stem}.dat"), *main.parent.glob(f"{main.stem}.mat")]
    files = {path.relative_to(main.parent).as_posix(): path.read_bytes() for path in paths}
    return read_ecg(files, main.name)


@pytest.mark.parametrize("name", READ)
def test_read_ecg__case_is_read_with_its_flags(name: str) -> None:
    ecg = _read(name)
    assert canonicalise(ecg).quality_flags == READ[name]
    made = {"muse": MADE_MUSE, "cardiosoft": MADE_CARDIOSOFT}.get(Path(name).parent.name)
    assert ecg.recorded_at == made


@pytest.mark.parametrize("name", REFUSED)
def test_read_ecg__case_is_refused_with_what_was_found(name: str) -> None:
    reason, message = REFUSED[name]
    with pytest.raises(EcgRejected, match=message) as caught:
        _read(name)
    assert caught.value.reason.value == reason


def test_read_ecg__every_case_has_an_outcome_here() -> None:
    folders = ("autogain", "muse", "cardiosoft", "wfdb")
    found = [path for folder in folders for path in (CASES / "formats" / folder).iterdir()]
    names = {path.relative_to(CASES).as_posix() for path in found if path.suffix in {".hea", ".xml"}}
    assert names == {name for name in {*READ, *REFUSED} if name.startswith("formats/")}


@pytest.mark.parametrize("name", ["formats/autogain/a0", "wfdb/HR06001"])
def test_read_ecg__cases_agree_with_the_wfdb_package(name: str) -> None:
    theirs = wfdb.rdrecord(str(CASES / name))
    step_mv = 1 / min(theirs.adc_gain)
    np.testing.assert_allclose(_read(f"{name}.hea").leads_uv, theirs.p_signal * 1e3, rtol=1e-6, atol=500 * step_mv)
