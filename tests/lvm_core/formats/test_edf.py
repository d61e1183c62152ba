from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from wfdb.io.convert.edf import read_edf as read_by_wfdb

from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.formats.edf import is_edf, read_edf
from lvm_core.signal.ecg import LEADS_12
from tests.file_builders import MUSE_LEADS, edf_file, random_counts
from tests.lvm_core.formats.helpers import assert_rejected, lead_uv

COUNTS = random_counts(n_samples=500)
GOOD = edf_file(COUNTS)


@pytest.mark.parametrize("is_plus", [True, False])
@pytest.mark.parametrize("record_s", [None, 0.1])
def test_read_edf__leads_in_microvolts(is_plus: bool, record_s: float | None) -> None:
    ecg = read_edf(edf_file(COUNTS, is_plus=is_plus, record_s=record_s))
    for lead in LEADS_12:
        np.testing.assert_allclose(lead_uv(ecg, lead), COUNTS[lead] * 2.5, rtol=1e-6, atol=1e-6)
    assert (ecg.sampling_rate_hz, ecg.step_uv, ecg.source_format) == (500.0, 2.5, "edf")
    assert (ecg.recorded_at, ecg.quality_flags) == (dt.datetime(2018, 7, 19, 14, 19, 39), ())
    assert ecg.header_participant_id == ("1000001" if is_plus else None)


@given(
    hnp.arrays(np.int16, (8, 40)).filter(lambda a: bool((a[:, 0] != 0).any() and (a[:, -1] != 0).any())),
    st.permutations(MUSE_LEADS),
)
def test_read_edf__decodes_what_was_encoded(array: np.ndarray, order: list[str]) -> None:
    counts = dict(zip(order, array, strict=True))
    ecg = read_edf(edf_file(counts, uv_per_count=5))
    assert ecg.leads_derived
    for lead in MUSE_LEADS:
        np.testing.assert_allclose(lead_uv(ecg, lead), counts[lead] * 5.0, rtol=1e-6, atol=1e-6)


def test_read_edf__agrees_with_the_wfdb_package(tmp_path: Path) -> None:
    data = edf_file(COUNTS, unit="mV", uv_per_count=0.005, zero_count=7.25, is_plus=False, record_s=0.1)
    (tmp_path / "a.edf").write_bytes(data)
    theirs = read_by_wfdb(str(tmp_path / "a.edf"))
    ecg = read_edf(data)
    assert ecg.step_uv == pytest.approx(5.0, rel=1e-5)
    for column, name in enumerate(theirs.sig_name):
        lead = name.removeprefix("ECG ")
        # The package brings the zero to the next whole count; the header rounds ranges to 8 digits.
        np.testing.assert_allclose(lead_uv(ecg, lead), theirs.p_signal[:, column] * 1e3, rtol=0, atol=5.0)
        np.testing.assert_allclose(lead_uv(ecg, lead), (COUNTS[lead] - 7.25) * 5.0, rtol=1e-5, atol=0.5)


def test_read_edf__zeros_that_complete_the_last_record_are_dropped() -> None:
    filled = {lead: np.concatenate([values, np.zeros(100, np.int16)]) for lead, values in COUNTS.items()}
    filled["V1"][499] = 5
    assert read_edf(edf_file(filled)).n_samples == 500


def test_read_edf__limits_of_the_digital_range_are_saturation() -> None:
    counts = {lead: values.copy() for lead, values in COUNTS.items()}
    counts["V2"][3:9] = 32767
    assert read_edf(edf_file(counts)).saturated_leads == ("V2",)


def _field(data: bytes, start: int, text: str, n_bytes: int = 8) -> bytes:
    return data[:start] + text.encode("latin-1").ljust(n_bytes) + data[start + n_bytes :]


def _of_signal(data: bytes, place: int, text: str, n_bytes: int = 8, number: int = 0) -> bytes:
    return _field(data, 256 + place * 12 + number * n_bytes, text, n_bytes)


LABEL, UNIT, PHYSICAL_LOW, DIGITAL_LOW, DIGITAL_HIGH, SAMPLES = 0, 96, 104, 120, 128, 216


@pytest.mark.parametrize(
    ("data", "reason", "message"),
    [
        (GOOD[:200], RejectReason.TRUNCATED, "has no sizes, or -1 records, in 200 bytes"),
        (_field(GOOD, 236, "-1"), RejectReason.TRUNCATED, "has no sizes, or -1 records"),
        (_field(GOOD, 184, "256"), RejectReason.UNREADABLE, "states 12 signals and 256 bytes; expected 256 bytes and"),
        (_field(GOOD, 252, "9999", 4), RejectReason.UNREADABLE, "states 9999 signals"),
        (_field(GOOD, 192, "EDF+D"), RejectReason.UNREADABLE, "is discontinuous"),
        (GOOD[:-1], RejectReason.TRUNCATED, r"has 15327 bytes; expected 15328 for 1 records of 6000 samples"),
        (GOOD + b"0", RejectReason.TRUNCATED, "has 15329 bytes; expected 15328"),
        (_of_signal(GOOD, LABEL, "Quillfeather", 16), RejectReason.MISSING_LEAD, "lead I is missing"),
        (_of_signal(GOOD, LABEL, "ECG II", 16), RejectReason.UNREADABLE, "lead II is twice"),
        (_of_signal(GOOD, UNIT, "mmHg"), RejectReason.UNKNOWN_UNIT, r"the unit \('mmHg'\) is not a known voltage"),
        (_of_signal(GOOD, PHYSICAL_LOW, "Quill"), RejectReason.UNREADABLE, "with 12 signals cannot be understood"),
        (
            _of_signal(GOOD, PHYSICAL_LOW, "99999"),
            RejectReason.UNKNOWN_UNIT,
            "range of lead I in .* is 99999 to 81917.5",
        ),
        (_of_signal(GOOD, DIGITAL_LOW, "32767"), RejectReason.UNREADABLE, "cannot be understood"),
        (_field(GOOD, 244, "0"), RejectReason.UNSUPPORTED_RATE, "records of the EDF file last 0 s; expected a number"),
        (_field(GOOD, 244, "Quill"), RejectReason.UNSUPPORTED_RATE, "last a text of 5 characters s"),
        (
            edf_file({lead: values * 0 for lead, values in COUNTS.items()}),
            RejectReason.LEAD_ALL_ZERO,
            "all leads are 0",
        ),
    ],
)
def test_read_edf__is_refused_with_what_was_found(data: bytes, reason: RejectReason, message: str) -> None:
    assert_rejected(lambda: read_edf(data), reason, message)


def test_read_edf__leads_of_different_rates() -> None:
    changed = _of_signal(_of_signal(GOOD, SAMPLES, "499"), SAMPLES, "501", number=1)
    wanted = "have rates of 499, 500, 501 Hz"
    assert_rejected(lambda: read_edf(changed), RejectReason.UNSUPPORTED_RATE, wanted)


@pytest.mark.parametrize(
    ("recording", "date", "time", "expected", "flags"),
    [
        ("Startdate 17-MAY-2019 X X X", "17.05.19", "10.11.12", dt.datetime(2019, 5, 17, 10, 11, 12), ()),
        ("Startdate X X X X", "01.01.85", "00.00.00", None, ()),
        ("Startdate 17-MAI-2019 X X X", "17.05.19", "10.11.12", None, ("date_unreadable",)),
        ("", "17.05.19", "10.11.12", dt.datetime(2019, 5, 17, 10, 11, 12), ()),
        ("", "17.05.85", "10.11.12", dt.datetime(1985, 5, 17, 10, 11, 12), ()),
        ("", "01.01.85", "00.00.00", None, ()),
        ("", "31.02.19", "10.11.12", None, ("date_unreadable",)),
        ("", "17.05.19", "soon", None, ("date_unreadable",)),
        ("", "17/05/19", "10.11.12", None, ("date_unreadable",)),
    ],
)
def test_read_edf__date_of_the_recording(
    recording: str, date: str, time: str, expected: dt.datetime | None, flags: tuple[str, ...]
) -> None:
    data = _field(_field(_field(GOOD, 88, recording, 80), 168, date), 176, time)
    ecg = read_edf(data)
    assert (ecg.recorded_at, ecg.quality_flags) == (expected, flags)


@pytest.mark.parametrize("code", ["X", ""])
def test_read_edf__unknown_code_is_no_participant(code: str) -> None:
    assert read_edf(_field(GOOD, 8, f"{code} F X X", 80)).header_participant_id is None


def _message(data: bytes) -> str:
    try:
        read_edf(data)
    except EcgRejected as rejected:
        return str(rejected)
    return ""


def test_read_edf__names_are_in_no_message() -> None:
    fields = [(match.start() + 8, match.end() + 8) for match in re.finditer(rb"[^ ]+", GOOD[8 : 256 * 13])]
    messages = [_message(GOOD[:start] + b"Quillfeather"[: stop - start] + GOOD[stop:]) for start, stop in fields]
    assert sum(bool(message) for message in messages) > 10
    assert [message for message in messages if "Quil" in message] == []


def test_is_edf__goes_by_the_version() -> None:
    assert is_edf(GOOD)
    assert not is_edf(b"\xffBIOSEMI")
    assert not is_edf(b"0 1 2")
