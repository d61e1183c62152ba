from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.formats.registry import MAX_RECORD_BYTES, read_ecg, size_problem
from tests.file_builders import MUSE_LEADS, cardiosoft_xml, muse_xml, random_counts, wfdb_record
from tests.lvm_core.formats.helpers import assert_rejected

TWELVE = random_counts(n_samples=50)
SHORT = random_counts(n_samples=6)


@pytest.mark.parametrize(
    ("files", "main", "expected"),
    [
        ({"a": cardiosoft_xml(TWELVE)}, "a", "cardiosoft_xml"),
        ({"b": muse_xml(random_counts(n_samples=50, leads=MUSE_LEADS))}, "b", "muse_xml"),
        (wfdb_record(TWELVE), "rec1.hea", "wfdb"),
    ],
)
def test_read_ecg__goes_by_content(files: dict[str, bytes], main: str, expected: str) -> None:
    ecg = read_ecg(files, main)
    assert ecg.source_format == expected
    assert ecg.n_samples == 50


def _files(kind: int) -> tuple[dict[str, bytes], str]:
    if kind == 0:
        return {"a": cardiosoft_xml(SHORT)}, "a"
    if kind == 1:
        return {"a": muse_xml(SHORT, median_first=False)}, "a"
    return wfdb_record(SHORT), "rec1.hea"


@given(st.integers(0, 2), st.integers(0, 10**6), st.binary(max_size=6), st.integers(0, 6))
def test_read_ecg__damage_is_rejected_and_nothing_worse(
    kind: int, position: int, inserted: bytes, n_removed: int
) -> None:
    files, main = _files(kind)
    data = files[main]
    position %= len(data)
    damaged = data[:position] + inserted + data[position + n_removed :]
    try:
        ecg = read_ecg({**files, main: damaged}, main)
    except EcgRejected:
        return
    assert ecg.leads_uv.shape[1] == 12


@given(st.integers(0, 2), st.integers(0, 10**6))
def test_read_ecg__cut_file_never_gives_another_signal(kind: int, position: int) -> None:
    files, main = _files(kind)
    cut = {**files, main: files[main][: position % len(files[main])]}
    try:
        ecg = read_ecg(cut, main)
    except EcgRejected:
        return
    np.testing.assert_array_equal(ecg.leads_uv, read_ecg(files, main).leads_uv)


def test_read_ecg__empty_file_is_truncated() -> None:
    assert_rejected(lambda: read_ecg({"a.xml": b""}, "a.xml"), RejectReason.TRUNCATED, "file is empty, 0 bytes")


def test_read_ecg__size_of_all_files_together_is_limited() -> None:
    files = {"a": cardiosoft_xml(TWELVE)}
    files["b"] = bytes(MAX_RECORD_BYTES - len(files["a"]))
    assert read_ecg(files, "a").n_samples == 50
    files["b"] += b"?"
    wanted = "recording has more than 20000000 bytes, the limit"
    assert_rejected(lambda: read_ecg(files, "a"), RejectReason.UNREADABLE, wanted)


def test_size_problem__real_files_are_far_below_the_limit() -> None:
    # The record s0010_re of PTB: 921,600 and 230,400 bytes of signals.
    assert size_problem(10 * 1_152_000) is None
    assert size_problem(MAX_RECORD_BYTES) is None
    assert size_problem(MAX_RECORD_BYTES + 1) is not None


def test_read_ecg__foreign_file_is_named() -> None:
    data = bytes(128) + b"DICM"
    assert_rejected(
        lambda: read_ecg({"a": data}, "a"),
        RejectReason.NOT_AN_ECG,
        "file is DICOM; expected CardioSoft XML, MUSE XML or WFDB \\(the .hea file\\)",
    )


def test_read_ecg__unknown_file_is_not_an_ecg() -> None:
    assert_rejected(lambda: read_ecg({"a": b"some text"}, "a"), RejectReason.NOT_AN_ECG, "file is of an unknown format")


def test_read_ecg__main_not_given_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="main is 'b', expected one of the 1 names"):
        read_ecg({"a": b"x"}, "b")
