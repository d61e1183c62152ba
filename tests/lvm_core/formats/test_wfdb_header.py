from __future__ import annotations

import datetime as dt

import pytest

from lvm_core.errors import RejectReason
from lvm_core.formats.wfdb import MAX_HEADER_BYTES, parse_header
from tests.lvm_core.formats.helpers import assert_rejected

LINE = "rec1.dat 16x1+24 1000.0(3)/mV 16 2 -34 -215 0 lead aVL of arm"


def _header(record_line: str, *lines: str) -> bytes:
    return "\r\n".join(["#wfdb", record_line, "", *lines, "# end"]).encode()


def test_parse_header__every_field() -> None:
    header = parse_header(b"\xef\xbb\xbf" + _header("rec.1 1 500/400(7.5) 5000", LINE))
    (signal,) = header.signals
    assert (header.sampling_rate_hz, header.n_samples, header.recorded_at) == (500.0, 5000, None)
    assert (signal.file_name, signal.format, signal.samples_per_frame) == ("rec1.dat", 16, 1)
    assert (signal.skew, signal.byte_offset, signal.gain) == (0, 24, 1000.0)
    assert (signal.baseline, signal.unit, signal.adc_bits, signal.adc_zero) == (3, "mV", 16, 2)
    assert signal.checksum == -215
    assert signal.description == "lead aVL of arm"


def test_parse_header__defaults_of_a_short_signal_line() -> None:
    (signal,) = parse_header(_header("r 1 500", "r.dat 212")).signals
    assert (signal.format, signal.gain, signal.baseline, signal.unit) == (212, 0.0, 0, "mV")
    assert (signal.checksum, signal.description) == (None, "")


def test_parse_header__baseline_defaults_to_the_zero_of_the_converter() -> None:
    (signal,) = parse_header(_header("r 1 500", "r.dat 16 200 12 1024")).signals
    assert (signal.baseline, signal.adc_bits) == (1024, 12)


@pytest.mark.parametrize(
    ("rest", "expected", "unreadable"),
    [
        ("10:20:30 01/02/2003", dt.datetime(2003, 2, 1, 10, 20, 30), False),
        ("10:20 01/02/2003", dt.datetime(2003, 2, 1, 10, 20), False),
        ("10:20:30 2003-02-01", dt.datetime(2003, 2, 1, 10, 20, 30), False),
        ("10:20:30 1-Feb-2003", dt.datetime(2003, 2, 1, 10, 20, 30), False),
        ("10:20:30 31/02/2003", None, True),
        ("25:20:30 01/02/2003", None, True),
        ("10:20:30 01.02.2003", None, True),
        ("01/02/2003", None, True),
        ("10:20:30", None, False),
        ("", None, False),
    ],
)
def test_parse_header__base_date_and_time(rest: str, expected: dt.datetime | None, unreadable: bool) -> None:
    header = parse_header(_header(f"r 1 500 10 {rest}".strip(), LINE))
    assert (header.recorded_at, header.date_unreadable) == (expected, unreadable)


def test_parse_header__record_name_with_a_folder() -> None:
    assert parse_header(_header("p10/s1/r 1 500 10", LINE)).n_samples == 10


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_parse_header__micro_sign_in_either_encoding(encoding: str) -> None:
    line = "r.dat 16 1/\u00b5V 16 0 0 0 0 I"
    (signal,) = parse_header(f"r 1 500\n{line}\n".encode(encoding)).signals
    assert signal.unit == "\u00b5V"


def test_parse_header__blank_before_the_unit() -> None:
    (signal,) = parse_header(_header("r 1 500", "r.dat 16 1000(2)/ mV 16 0 -3 5 0 my  lead")).signals
    assert (signal.gain, signal.baseline, signal.unit) == (1000.0, 2, "mV")
    assert (signal.adc_bits, signal.checksum, signal.description) == (16, 5, "my  lead")


def test_parse_header__only_line_ends_end_a_line() -> None:
    header = _header("r 1 500", LINE) + "# caf\u2028e\x0b \x85\n".encode()
    assert len(parse_header(header).signals) == 1


@pytest.mark.parametrize(
    ("rate", "stated"),
    [
        ("", "no sampling rate"),
        (" 0", "a sampling rate of 0 Hz"),
        (" 0.0 10", "a sampling rate of 0 Hz"),
        (" -500 10", "a sampling rate of -500 Hz"),
        (" 1e7 10", r"a sampling rate of 1e\+07 Hz"),
    ],
)
def test_parse_header__rate_is_never_guessed(rate: str, stated: str) -> None:
    assert_rejected(
        lambda: parse_header(_header(f"r 1{rate}", LINE)),
        RejectReason.UNSUPPORTED_RATE,
        f"WFDB header states {stated}; expected a number above 0",
    )


def test_parse_header__segments_are_refused() -> None:
    assert_rejected(
        lambda: parse_header(_header("r/3 12 500 30", "r_1 10", "r_2 10", "r_3 10")),
        RejectReason.UNREADABLE,
        "WFDB record is cut into 3 segments",
    )


@pytest.mark.parametrize("data", [b"", b"# comment\n", b"hello\n", b"rec1 twelve 500\n"])
def test_parse_header__no_record_line(data: bytes) -> None:
    assert_rejected(lambda: parse_header(data), RejectReason.UNREADABLE, "WFDB header has no record line")


@pytest.mark.parametrize("n_signals", [1, 3])
def test_parse_header__number_of_signal_lines(n_signals: int) -> None:
    assert_rejected(
        lambda: parse_header(_header(f"r {n_signals} 500", LINE, LINE)),
        RejectReason.TRUNCATED,
        f"WFDB header declares {n_signals} signals but has 2 signal lines",
    )


@pytest.mark.parametrize(
    "line",
    [
        "rec1.dat",
        "rec1.dat sixteen 200",
        "rec1.dat 16 x/mV",
        "rec1.dat 16 200 12bits",
        "rec1.dat 16 200 12 0 5 x 0 I",
        "rec1.dat 16 200 12 2147483648 5 5 0 I",
        "rec1.dat 16+9999999999 200",
        "rec1.dat 16 200(9999999999)",
    ],
)
def test_parse_header__line_that_cannot_be_understood(line: str) -> None:
    assert_rejected(
        lambda: parse_header(_header("r 2 500", LINE, line)),
        RejectReason.UNREADABLE,
        "WFDB signal line 2 cannot be understood",
    )


def test_parse_header__size_is_limited() -> None:
    header = b"r 1 500 10\nr.dat 16 200 16 0 0 0 0 I\n"
    largest = header + b"#" * (MAX_HEADER_BYTES - len(header))
    assert len(parse_header(largest).signals) == 1
    wanted = "WFDB header has 1000001 bytes, the limit is 1000000"
    assert_rejected(lambda: parse_header(largest + b"#"), RejectReason.UNREADABLE, wanted)
