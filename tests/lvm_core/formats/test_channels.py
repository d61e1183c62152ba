from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.formats.channels import (
    Channel,
    assemble,
    compact_datetime,
    finite_number,
    leads_by_name,
    local_datetime,
    measurements_of,
    unambiguous_date,
    whole_counts,
)
from lvm_core.signal.ecg import LEADS_12
from tests.file_builders import random_counts
from tests.lvm_core.formats.helpers import assert_rejected


def _channels(n_samples: int = 20, uv_per_count: float = 5.0) -> dict[str, Channel]:
    counts = random_counts(n_samples=n_samples)
    return {lead: Channel(values, uv_per_count) for lead, values in counts.items()}


def test_microvolts__subtracts_the_zero_before_scaling() -> None:
    channel = Channel(np.array([100, 101, 98], dtype=np.int16), 2.5, zero_count=100)
    np.testing.assert_array_equal(channel.microvolts(), [0.0, 2.5, -5.0])


def test_microvolts__missing_sample_is_nan_even_with_a_zero() -> None:
    channel = Channel(np.array([-32768, 0], dtype=np.int16), 1.0, 7, missing_count=-32768)
    np.testing.assert_array_equal(channel.microvolts(), [np.nan, -7.0])


def test_microvolts__offset_is_added_after_scaling() -> None:
    channel = Channel(np.array([-1, 0, 4], dtype=np.int16), 2.5, missing_count=-1, offset_uv=-10.0)
    np.testing.assert_array_equal(channel.microvolts(), [np.nan, -10.0, 0.0])


def test_microvolts__no_overflow_of_int16() -> None:
    channel = Channel(np.array([32767, -32768], dtype=np.int16), 1.0, zero_count=-10)
    np.testing.assert_array_equal(channel.microvolts(), [32777.0, -32758.0])


def _is_saturated(counts: list[int]) -> bool:
    return Channel(np.array(counts), 1.0, limits=(-2048, 2047)).is_saturated()


def test_is_saturated__both_sides_of_each_limit() -> None:
    held = {value: _is_saturated([0, *[value] * 4, 0]) for value in (-2048, -2047, 2046, 2047)}
    assert held == {-2048: True, -2047: False, 2046: False, 2047: True}


def test_is_saturated__takes_a_run_at_one_limit() -> None:
    assert not _is_saturated([2047] * 3)
    assert not _is_saturated([2047, 2047, 0, 2047, 2047, 0, 2047])
    assert not _is_saturated([2047, 2047, -2048, -2048])
    assert _is_saturated([0, 2047, 2050, 2047, 2047])


def test_is_saturated__missing_sample_is_not_saturation() -> None:
    channel = Channel(np.array([-32768] * 9), 1.0, missing_count=-32768)
    assert not channel.is_saturated()


def test_assemble__order_of_the_mapping_does_not_matter() -> None:
    channels = _channels()
    backwards = dict(reversed(channels.items()))
    np.testing.assert_array_equal(assemble(backwards, "x")["leads_uv"], assemble(channels, "x")["leads_uv"])


@pytest.mark.parametrize(
    ("changed", "odd"),
    [
        ({}, ()),
        ({"V3": (25.0, 0)}, ("V3",)),
        ({"V3": (5.0, 100)}, ("V3",)),
        ({"V4": (1.0, 0), "I": (5.0, 7), "V6": (2.0, 0)}, ("I", "V4", "V6")),
        ({lead: (1.0, 0) for lead in LEADS_12[:4]}, ()),  # no slip, but a way to store leads
        ({lead: (1.0 + i, i) for i, lead in enumerate(LEADS_12)}, ()),
    ],
)
def test_assemble__names_the_few_leads_with_another_gain_or_zero(
    changed: dict[str, tuple[float, int]], odd: tuple[str, ...]
) -> None:
    channels = _channels()
    for lead, (step_uv, zero) in changed.items():
        channels[lead] = Channel(channels[lead].counts, step_uv, zero)
    assert assemble(channels, "x")["odd_gain_leads"] == odd


def test_assemble__stored_derived_leads_are_kept() -> None:
    channels = _channels()
    twelve = assemble(channels, "x")
    assert not twelve["leads_derived"]
    np.testing.assert_array_equal(twelve["leads_uv"][:, LEADS_12.index("III")], channels["III"].counts * 5.0)


def test_assemble__only_the_absent_derived_leads_are_derived() -> None:
    channels = _channels()
    del channels["aVL"]
    twelve = assemble(channels, "x")
    assert twelve["leads_derived"]
    expected = channels["I"].counts * 5.0 - channels["II"].counts * 2.5
    np.testing.assert_array_equal(twelve["leads_uv"][:, LEADS_12.index("aVL")], expected)
    np.testing.assert_array_equal(twelve["leads_uv"][:, LEADS_12.index("aVF")], channels["aVF"].counts * 5.0)


def test_assemble__step_is_the_smallest() -> None:
    channels = _channels() | {"V2": Channel(np.zeros(20, dtype=np.int16), 1.25)}
    assert assemble(channels, "x")["step_uv"] == 1.25


def test_assemble__names_saturated_leads_in_order() -> None:
    full = Channel(np.array([32767] * 20, dtype=np.int16), 5.0)
    assert assemble(_channels() | {"V6": full, "II": full}, "x")["saturated_leads"] == ("II", "V6")


def test_assemble__rounds_once() -> None:
    channels = _channels(uv_per_count=4.88)
    expected = (channels["V1"].counts.astype(np.float64) * 4.88).astype(np.float32)
    np.testing.assert_array_equal(assemble(channels, "x")["leads_uv"][:, 6], expected)


def test_assemble__unequal_lengths_are_truncated() -> None:
    channels = _channels() | {"V6": Channel(np.zeros(19, dtype=np.int16), 5.0)}
    assert_rejected(
        lambda: assemble(channels, "the strip"),
        RejectReason.TRUNCATED,
        "leads of the strip have different numbers of samples .*V5 20, V6 19",
    )


def test_assemble__no_samples_are_truncated() -> None:
    assert_rejected(lambda: assemble(_channels(0), "x"), RejectReason.TRUNCATED, "hold 0 samples")


def test_assemble__missing_independent_lead_is_named() -> None:
    channels = _channels()
    del channels["V4"]
    assert_rejected(
        lambda: assemble(channels, "the strip"),
        RejectReason.MISSING_LEAD,
        "lead V4 is missing from the strip, which holds I, II",
    )


@pytest.mark.parametrize("step_uv", [9e-7, 1.1e6, float("inf"), float("nan"), 0.0])
def test_assemble__impossible_step_is_refused(step_uv: float) -> None:
    channels = _channels() | {"V2": Channel(np.zeros(20, dtype=np.int16), step_uv)}
    assert_rejected(
        lambda: assemble(channels, "the strip"),
        RejectReason.UNKNOWN_UNIT,
        "one count of lead V2 in the strip is .* uV; expected 1e-06 to",
    )


@pytest.mark.parametrize("step_uv", [1e-6, 1e6])
def test_assemble__extreme_steps_are_taken(step_uv: float) -> None:
    channels = {lead: Channel(c.counts, step_uv) for lead, c in _channels().items()}
    assert assemble(channels, "x")["step_uv"] == step_uv


def test_leads_by_name__other_channels_alone_are_missing_leads() -> None:
    assert_rejected(
        lambda: leads_by_name((("vx", 1), ("vy", 2), ("MLII", 3)), "the strip"),
        RejectReason.MISSING_LEAD,
        "lead I, II, .* is missing from the strip, .* none of the twelve and 3 other channels;",
    )


def test_local_datetime__valid_and_impossible() -> None:
    assert local_datetime((2020, 2, 29), (23, 59, 59)) == dt.datetime(2020, 2, 29, 23, 59, 59)
    assert local_datetime((2021, 2, 29)) is None
    assert local_datetime((2021, 2, 28), (24, 0, 0)) is None
    assert local_datetime((10**30, 1, 1)) is None


@pytest.mark.parametrize(
    "text", ["2019-05-17", "17-MAY-2019", "17 may 2019", "17/May/2019", "May 17, 2019", "MAY-17-2019"]
)
def test_unambiguous_date__can_be_read_in_one_way(text: str) -> None:
    assert unambiguous_date(text) == (2019, 5, 17)


@pytest.mark.parametrize("text", ["17-05-2019", "05/17/2019", "17-MAI-2019", "17-MAYO-2019", "17-MAY-19", "", "MAY"])
def test_unambiguous_date__others_are_none(text: str) -> None:
    assert unambiguous_date(text) is None


def test_unambiguous_date__every_month() -> None:
    for month in range(1, 13):
        day = dt.date(2021, month, 3)
        for style in ("%d-%b-%Y", "%d-%B-%Y", "%Y-%m-%d"):
            assert unambiguous_date(day.strftime(style)) == (2021, month, 3)


def _amplitudes(**waves_uv: float) -> tuple[float | None, float | None]:
    """Return R and S of one lead with these waves."""
    measured = measurements_of({"aVL": waves_uv, "V3": waves_uv}, None, None)
    return measured.r_avl_uv, measured.s_v3_uv


def test_measurements_of__both_sides_of_the_qs_rule() -> None:
    waves = {"Q": 500.0, "R": 0.0, "S": 0.0, "R1": 0.0, "S1": 0.0}
    assert _amplitudes(**waves) == (0.0, 500.0)
    assert _amplitudes(**waves | {"R": 1.0}) == (1.0, 0.0)
    assert _amplitudes(**waves | {"R1": 1.0}) == (1.0, 0.0)
    assert _amplitudes(**waves | {"S": 1.0}) == (0.0, 1.0)
    assert _amplitudes(S=0.0, S1=0.0, R=0.0, R1=0.0) == (0.0, None)
    assert _amplitudes(S=0.0, S1=0.0, Q=500.0) == (None, None)


def test_assemble__lead_with_an_offset_of_its_own_is_odd() -> None:
    channels = _channels()
    channels["V2"] = Channel(channels["V2"].counts, 5.0, offset_uv=40.0)
    assert assemble(channels, "the test")["odd_gain_leads"] == ("V2",)


@pytest.mark.parametrize("offset_uv", [1e10, -1e10, float("inf"), float("nan")])
def test_assemble__offset_that_cannot_be_right_is_refused(offset_uv: float) -> None:
    channels = {lead: Channel(one.counts, 5.0, offset_uv=offset_uv) for lead, one in _channels().items()}
    assert_rejected(
        lambda: assemble(channels, "the test"), RejectReason.UNKNOWN_UNIT, "offset of lead I in the test is"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20190517101112.25+0200", dt.datetime(2019, 5, 17, 10, 11, 12)),
        (" 20190517101112-05 ", dt.datetime(2019, 5, 17, 10, 11, 12)),
        ("201905171011", dt.datetime(2019, 5, 17, 10, 11)),
        ("2019051710", dt.datetime(2019, 5, 17, 10)),
        ("20190517", dt.datetime(2019, 5, 17)),
        ("201905", None),
        ("2019-05-17", None),
        ("20190532", None),
        ("20190517250000", None),
        ("", None),
        ("\u0662\u0660190517", None),
    ],
)
def test_compact_datetime__of_dicom_and_hl7(text: str, expected: dt.datetime | None) -> None:
    assert compact_datetime(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("1.5", 1.5), (" -2e3 ", -2000.0), ("", None), ("1_0", None), ("nan", None), ("-inf", None)]
)
def test_finite_number__or_none(text: str, expected: float | None) -> None:
    assert finite_number(text) == expected


@given(st.lists(st.from_regex(r"\A[ \n]?[-+]?[0-9x.,\- ]{0,3}\Z") | st.integers().map(str), min_size=1, max_size=4))
def test_whole_counts__takes_what_int_takes(tokens: list[str]) -> None:
    # int() is the reference: both give the same numbers, or refuse.
    text = ",".join(tokens).strip()
    try:
        expected = [int(token) for token in text.split(",")] if text else []
        fits = all(-(2**63) <= value < 2**63 for value in expected)
    except ValueError:
        fits = False
    try:
        found = whole_counts(text, ",", "I", "the test").tolist()
    except EcgRejected:
        assert not fits
    else:
        assert fits
        assert found == expected


def test_whole_counts__by_comma_or_white_space() -> None:
    np.testing.assert_array_equal(whole_counts("1,-2, 3", ",", "I", "the test"), [1, -2, 3])
    np.testing.assert_array_equal(whole_counts(" 1\n-2\t3 ", None, "I", "the test"), [1, -2, 3])
    assert whole_counts("", None, "I", "the test").size == 0
    assert_rejected(lambda: whole_counts("1,2 3", None, "I", "the test"), RejectReason.UNREADABLE, "white space")
    wanted = "samples of lead I in the test are not all whole numbers; expected integers separated by commas"
    for text in (
        "1,,2",
        "1 2",
        "\u0661",
        "1-2",
        "1,2-3",
        "3,4 5",
        "1,2x",
        "x,1",
        "--1,2",
        "1,2,-",
        "9" * 30,
        "1.5,2",
        "1_0",
    ):
        assert_rejected(lambda t=text: whole_counts(t, ",", "I", "the test"), RejectReason.UNREADABLE, wanted)


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("12SL V21", "12SL V21"),
        ("GE Healthcare MAC 5500 9.0.7", "GE Healthcare MAC 9.0.7"),  # a number of four digits may be a year
        ("Mortara Instrument, Inc. ELI250c", "Mortara Instrument ELI250c"),
        ("Doe^John 1950-01-02", "device"),
        ("19500102", "device"),
        (None, "device"),
    ],
)
def test_measurements_of__who_measured_is_known_words_and_numbers_of_models(stated: str | None, expected: str) -> None:
    found = measurements_of({}, 90.0, stated)
    assert (found.measured_by, found.qrs_measured_by) == (expected, expected)
