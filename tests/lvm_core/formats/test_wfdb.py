from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pytest
import wfdb
from ecgdatakit import FileParser
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lvm_core.errors import RejectReason
from lvm_core.formats.wfdb import MAX_HEADER_BYTES, parse_header, read_wfdb
from lvm_core.signal.ecg import LEADS_12, Ecg
from tests.file_builders import random_counts, wfdb_record
from tests.lvm_core.formats.helpers import SHARED_ECG, assert_rejected, lead_uv, needs_real_files

COUNTS = random_counts(n_samples=200)
REAL_HEADERS = sorted((SHARED_ECG / "wfdb").glob("*/*.hea"))


def _read(record: dict[str, bytes], main: str = "rec1.hea") -> Ecg:
    return read_wfdb(record, main)


def _changed(**changes: str | int | None) -> Ecg:
    return _read(wfdb_record(COUNTS, **changes))  # type: ignore[arg-type]


def test_read_wfdb__counts_become_microvolts() -> None:
    ecg = _read(wfdb_record(COUNTS))
    for lead in LEADS_12:
        np.testing.assert_array_equal(lead_uv(ecg, lead), COUNTS[lead].astype(np.float32))
    assert (ecg.sampling_rate_hz, ecg.step_uv, ecg.source_format) == (500.0, 1.0, "wfdb")
    assert (ecg.leads_derived, ecg.saturated_leads, ecg.quality_flags) == (False, (), ())
    assert ecg.header_participant_id is None
    assert ecg.recorded_at is None


@given(
    hnp.arrays(np.int16, (12, 6)).filter(lambda a: bool((a != -32768).all())),
    st.permutations(LEADS_12),
    st.sampled_from([0, 24]),
)
def test_read_wfdb__decodes_what_was_encoded(array: np.ndarray, order: list[str], offset: int) -> None:
    counts = dict(zip(order, array, strict=True))
    ecg = _read(wfdb_record(counts, offset=offset))
    for lead in LEADS_12:
        np.testing.assert_array_equal(lead_uv(ecg, lead), counts[lead].astype(np.float32))


def test_read_wfdb__order_of_mimic_iv() -> None:
    order = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
    ecg = _read(wfdb_record({lead: COUNTS[lead] for lead in order}, gain="200.0(0)/mV"))
    assert ecg.step_uv == 5.0
    np.testing.assert_array_equal(lead_uv(ecg, "aVL"), COUNTS["aVL"] * 5.0)


@pytest.mark.parametrize(
    ("gain", "adc", "scale", "zero"),
    [
        ("200.0(0)/mV", "16 0", 5.0, 0),
        ("200(10)/mV", "16 0", 5.0, 10),
        ("200(-7)/mv", "16 3", 5.0, -7),
        ("2000", "16 0", 0.5, 0),
        ("200", "16 12", 5.0, 12),
        ("200(0)", "16 12", 5.0, 0),
        ("0.2/uV", "16 0", 5.0, 0),
        ("2e2/mV", "16 0", 5.0, 0),
    ],
)
def test_read_wfdb__gain_baseline_and_unit(gain: str, adc: str, scale: float, zero: int) -> None:
    ecg = _changed(gain=gain, adc=adc)
    expected_uv = (COUNTS["V1"].astype(np.float64) - zero) * scale
    np.testing.assert_allclose(lead_uv(ecg, "V1"), expected_uv, rtol=1e-6, atol=0)
    assert ecg.step_uv == pytest.approx(scale, rel=1e-12)


@pytest.mark.parametrize("gain", ["0", "0(0)/mV", "-200/mV"])
def test_read_wfdb__uncalibrated_signal_is_refused(gain: str) -> None:
    assert_rejected(
        lambda: _changed(gain=gain),
        RejectReason.UNKNOWN_UNIT,
        "gain of lead I in the WFDB record is -?[0-9]+: not calibrated",
    )


def test_read_wfdb__absent_gain_is_not_calibrated() -> None:
    lines = ["rec1 12 500 200"] + ["rec1.dat 16"] * 12
    record = {**wfdb_record(COUNTS), "rec1.hea": "\n".join(lines).encode()}
    assert_rejected(lambda: _read(record), RejectReason.MISSING_LEAD, "holds none of the twelve")
    named = [f"rec1.dat 16 0 16 0 0 0 0 {lead}" for lead in LEADS_12]
    record["rec1.hea"] = "\n".join([lines[0], *named]).encode()
    assert_rejected(lambda: _read(record), RejectReason.UNKNOWN_UNIT, "not calibrated")


def test_read_wfdb__unknown_unit() -> None:
    assert_rejected(lambda: _changed(gain="200/mmHg"), RejectReason.UNKNOWN_UNIT, r"the unit \('mmHg'\) is not a known")


def test_read_wfdb__missing_samples_are_nan() -> None:
    counts = {lead: values.copy() for lead, values in COUNTS.items()}
    counts["V2"][[3, 150]] = -32768
    ecg = _read(wfdb_record(counts))
    assert np.flatnonzero(np.isnan(lead_uv(ecg, "V2"))).tolist() == [3, 150]
    assert int(np.isnan(ecg.leads_uv).sum()) == 2
    assert ecg.saturated_leads == ()


def test_read_wfdb__int16_limits_are_saturation() -> None:
    counts = {lead: values.copy() for lead, values in COUNTS.items()}
    counts["V2"][3:9], counts["I"][3:9], counts["V1"][3:9] = 32767, -32767, 32766
    assert _read(wfdb_record(counts)).saturated_leads == ("I", "V2")


def test_read_wfdb__leads_stretched_to_the_full_range_are_not_saturated(tmp_path: Path) -> None:
    """The wfdb package stretches each lead to the full range unless it is given a gain."""
    signal_mv = np.column_stack([COUNTS[lead] for lead in LEADS_12]) / 200.0
    names = list(LEADS_12)
    wfdb.wrsamp("r", 500, ["mV"] * 12, names, signal_mv, fmt=["16"] * 12, write_dir=str(tmp_path))
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    stored = np.frombuffer(files["r.dat"], dtype="<i2").reshape(-1, 12)
    assert (stored.max(axis=0) == 32767).any()
    assert (stored.min(axis=0) == -32767).any()
    ecg = _read(files, "r.hea")
    assert ecg.saturated_leads == ()
    np.testing.assert_allclose(ecg.leads_uv, signal_mv * 1e3, rtol=0, atol=0.1)


def test_read_wfdb__limits_of_the_converter_are_saturation() -> None:
    counts = {lead: np.clip(values, -400, 400) for lead, values in COUNTS.items()}
    counts["V2"][3:9], counts["I"][3:9], counts["V1"][3:9] = 612, -411, 611
    ecg = _read(wfdb_record(counts, adc="10 101"))
    assert ecg.saturated_leads == ("I", "V2")


@pytest.mark.parametrize("adc", ["8 0", "0 0"])
def test_read_wfdb__converter_limits_that_the_samples_contradict(adc: str) -> None:
    assert _changed(adc=adc).saturated_leads == ()


def test_read_wfdb__several_signal_files_and_frank_leads() -> None:
    counts = random_counts(n_samples=200, leads=(*LEADS_12, "vx", "vy", "vz"))
    files = {"a.dat": LEADS_12[:5], "b.dat": (*LEADS_12[5:], "vx"), "c.xyz": ("vy", "vz")}
    record = wfdb_record(counts, files=files)
    ecg = _read(record)
    for lead in LEADS_12:
        np.testing.assert_array_equal(lead_uv(ecg, lead), counts[lead].astype(np.float32))
    del record["c.xyz"]
    np.testing.assert_array_equal(_read(record).leads_uv, ecg.leads_uv)


def test_read_wfdb__signal_file_beside_the_header() -> None:
    record = {f"p10/s1/{name}": data for name, data in wfdb_record(COUNTS).items()}
    assert _read(record, "p10/s1/rec1.hea").n_samples == 200


def test_read_wfdb__signal_file_missing_is_named() -> None:
    record = wfdb_record(COUNTS)
    del record["rec1.dat"]
    assert_rejected(lambda: _read(record), RejectReason.TRUNCATED, "signal file 1 of 1 .* is missing")


@pytest.mark.parametrize("folder", ["", "p10/"])
@pytest.mark.parametrize("stored", ["sub/rec1.dat", "rec1.dat"])
def test_read_wfdb__signal_file_named_with_a_folder(folder: str, stored: str) -> None:
    record = wfdb_record(COUNTS)
    header = record["rec1.hea"].replace(b"rec1.dat", b"./sub/rec1.dat")
    files = {f"{folder}rec1.hea": header, folder + stored: record["rec1.dat"]}
    expected = _read(record).leads_uv
    np.testing.assert_array_equal(_read(files, f"{folder}rec1.hea").leads_uv, expected)


def test_read_wfdb__record_name_with_a_dot() -> None:
    assert _read(wfdb_record(COUNTS, name="s1.2_re"), "s1.2_re.hea").n_samples == 200


def test_read_wfdb__comments_hold_no_identifier() -> None:
    record = wfdb_record(COUNTS, comments="# patient id: 12345\n#Name: X\n")
    assert _read(record).header_participant_id is None


def test_read_wfdb__missing_lead_is_named() -> None:
    counts = {lead: values for lead, values in COUNTS.items() if lead != "V4"}
    assert_rejected(
        lambda: _read(wfdb_record(counts | {"somebody": COUNTS["V4"]})),
        RejectReason.MISSING_LEAD,
        "lead V4 is missing from the WFDB record, which holds I, .*, V6 and 1 other channel;",
    )


def test_read_wfdb__four_leads_are_derived_when_absent() -> None:
    absent = ("III", "aVR", "aVL", "aVF")
    eight = {lead: values for lead, values in COUNTS.items() if lead not in absent}
    ecg = _read(wfdb_record(eight, gain="200.0(0)/mV"))
    assert ecg.leads_derived
    i, ii = (5.0 * COUNTS[lead].astype(np.float64) for lead in ("I", "II"))
    expected = {"III": ii - i, "aVR": -(i + ii) / 2, "aVL": i - ii / 2, "aVF": ii - i / 2}
    for lead, values in expected.items():
        np.testing.assert_array_equal(lead_uv(ecg, lead), values.astype(np.float32))
    np.testing.assert_array_equal(lead_uv(ecg, "V6"), COUNTS["V6"] * 5.0)


@pytest.mark.parametrize("spelling", ["ECG_{}", "ECG lead {}", "{} (mV)"])
def test_read_wfdb__spellings_of_lead_names(spelling: str) -> None:
    record = wfdb_record({spelling.format(lead): values for lead, values in COUNTS.items()})
    np.testing.assert_array_equal(_read(record).leads_uv, _read(wfdb_record(COUNTS)).leads_uv)


def test_read_wfdb__lead_given_twice() -> None:
    record = wfdb_record({**COUNTS, "avr": COUNTS["aVR"]})
    assert_rejected(lambda: _read(record), RejectReason.UNREADABLE, "lead aVR is twice")


def test_read_wfdb__short_signal_file_is_truncated() -> None:
    record = wfdb_record(COUNTS)
    record["rec1.dat"] = record["rec1.dat"][:-1]
    assert_rejected(
        lambda: _read(record), RejectReason.TRUNCATED, "holds 4799 bytes of samples; expected 200 samples of 24 bytes"
    )


def test_read_wfdb__samples_beyond_the_stated_ones_are_left() -> None:
    record = wfdb_record(COUNTS)
    record["rec1.dat"] += bytes(24)
    np.testing.assert_array_equal(_read(record).leads_uv, _read(wfdb_record(COUNTS)).leads_uv)


@pytest.mark.parametrize("line", ["rec1 12 500", "rec1 12 500 0"])
def test_read_wfdb__length_not_stated(line: str) -> None:
    record = wfdb_record(COUNTS, record_line=line)
    assert _read(record).n_samples == 200
    record["rec1.dat"] += b"x"
    assert_rejected(lambda: _read(record), RejectReason.TRUNCATED, "expected a whole number of samples")


def test_read_wfdb__no_samples_at_all() -> None:
    record = wfdb_record(COUNTS, record_line="rec1 12 500") | {"rec1.dat": b""}
    assert_rejected(lambda: _read(record), RejectReason.TRUNCATED, "hold 0 samples")


@pytest.mark.parametrize(
    ("layout", "stated"),
    [
        ("310x2", "format 310x2, skew 0"),
        ("16x2", "format 16x2, skew 0"),
        ("16:3", "format 16x1, skew 3"),
        ("160", "format 160x1, skew 0"),
    ],
)
def test_read_wfdb__other_storage_is_refused(layout: str, stated: str) -> None:
    assert_rejected(
        lambda: _changed(layout=layout),
        RejectReason.UNREADABLE,
        f"signal file 1 of 1 of the WFDB record has {stated}; only formats 8, 16, 24, 32, 61, 80, 212, 310, 311",
    )


def test_read_wfdb__byte_offsets_that_differ() -> None:
    record = wfdb_record(COUNTS, offset=24)
    record["rec1.hea"] = record["rec1.hea"].replace(b"16x1+24", b"16x1+26", 1)
    assert_rejected(
        lambda: _read(record),
        RejectReason.UNREADABLE,
        "signals of signal file 1 of 1 of the WFDB record state different formats or byte",
    )


@pytest.mark.parametrize(("byte", "bit"), [(2, 0), (3, 7)])
def test_read_wfdb__wrong_checksum_is_unreadable(byte: int, bit: int) -> None:
    record = wfdb_record(COUNTS)
    damaged = bytearray(record["rec1.dat"])
    damaged[byte] ^= 1 << bit
    assert_rejected(
        lambda: _read({**record, "rec1.dat": bytes(damaged)}),
        RejectReason.UNREADABLE,
        r"checksum of lead II in the WFDB record is \d+, but the samples give \d+",
    )


def test_read_wfdb__unsigned_checksum() -> None:
    sums = {lead: int(values.astype(np.int64).sum()) % 2**16 for lead, values in COUNTS.items()}
    record = wfdb_record(COUNTS)
    lines = record["rec1.hea"].decode().splitlines()
    for number, lead in enumerate(LEADS_12, start=1):
        fields = lines[number].split()
        fields[6] = str(sums[lead])
        lines[number] = " ".join(fields)
    assert max(sums.values()) > 2**15
    assert _read({**record, "rec1.hea": "\n".join(lines).encode()}).n_samples == 200


@pytest.mark.parametrize("changes", [{"checksum": 0}, {"checksum": 0, "initial_value": 0}])
@pytest.mark.parametrize("first", [0, 7])
def test_read_wfdb__placeholders_in_place_of_every_checksum_are_flagged(changes: dict[str, int], first: int) -> None:
    counts = {lead: values.copy() for lead, values in COUNTS.items()}
    counts["I"][0] = first
    ecg = _read(wfdb_record(counts, **changes))  # type: ignore[arg-type]
    assert ecg.quality_flags == ("checksum_absent",)
    np.testing.assert_array_equal(lead_uv(ecg, "V6"), COUNTS["V6"].astype(np.float32))


def test_read_wfdb__zero_checksum_of_one_lead_is_compared() -> None:
    record = wfdb_record(COUNTS)
    lines = record["rec1.hea"].decode().splitlines()
    fields = lines[1].split()
    assert int(fields[6]) != 0
    lines[1] = " ".join([*fields[:5], "0", "0", *fields[7:]])
    assert_rejected(
        lambda: _read({**record, "rec1.hea": "\n".join(lines).encode()}),
        RejectReason.UNREADABLE,
        "checksum of lead I .* is 0, but",
    )


def test_read_wfdb__true_checksums_of_zero_are_no_placeholders() -> None:
    counts = {lead: np.zeros(20, dtype=np.int16) for lead in LEADS_12}
    assert _read(wfdb_record(counts)).quality_flags == ()


def test_read_wfdb__unreadable_date_is_flagged() -> None:
    ecg = _read(wfdb_record(COUNTS, record_line="rec1 12 500 200 09:05:07 20.03.2180"))
    assert (ecg.recorded_at, ecg.quality_flags) == (None, ("date_unreadable",))


def test_read_wfdb__checksum_not_stated() -> None:
    record = wfdb_record(COUNTS)
    lines = record["rec1.hea"].decode().splitlines()
    assert lines[12].endswith("V6")
    # Leads are named in the last field, so a line without a checksum has no name either: the
    # three signals beyond the twelve may be like that.
    lines[0] = "rec1 13 500 200"
    lines.insert(13, "rec1.xyz 16 200")
    assert _read({**record, "rec1.hea": "\n".join(lines).encode()}).n_samples == 200


def test_read_wfdb__rate_and_time_of_the_record_line() -> None:
    line = "rec1 12 1000/500(0) 200 09:05:07.250 20/03/2180"
    ecg = _read(wfdb_record(COUNTS, record_line=line))
    assert ecg.sampling_rate_hz == 1000.0
    assert ecg.recorded_at == dt.datetime(2180, 3, 20, 9, 5, 7)


@needs_real_files
@pytest.mark.parametrize("path", REAL_HEADERS, ids=lambda path: path.stem)
def test_read_wfdb__real_record_agrees_with_the_wfdb_package(path: Path) -> None:
    files = {file.name: file.read_bytes() for file in path.parent.glob(f"{path.stem}.*")}
    ecg = read_wfdb(files, path.name)
    theirs = wfdb.rdrecord(str(path.with_suffix("")))
    assert ecg.sampling_rate_hz == theirs.fs
    columns = {name.upper(): column for column, name in enumerate(theirs.sig_name)}
    for lead in LEADS_12:
        column = columns[lead.upper()]
        assert theirs.units[column].lower() == "mv"
        half_count_uv = 500 / theirs.adc_gain[column]
        np.testing.assert_allclose(lead_uv(ecg, lead), theirs.p_signal[:, column] * 1e3, rtol=0, atol=half_count_uv)


@needs_real_files
@pytest.mark.filterwarnings("ignore:WFDB signals .* give no physical unit:UserWarning")
@pytest.mark.parametrize("path", REAL_HEADERS, ids=lambda path: path.stem)
def test_read_wfdb__real_record_agrees_with_ecgdatakit(path: Path) -> None:
    files = {file.name: file.read_bytes() for file in path.parent.glob(f"{path.stem}.*")}
    ecg = read_wfdb(files, path.name)
    theirs = {lead.label: lead for lead in FileParser().parse(path).leads}
    for lead in LEADS_12:
        assert theirs[lead].units.lower() == "mv"
        np.testing.assert_allclose(lead_uv(ecg, lead), theirs[lead].samples * 1e3, rtol=0, atol=ecg.step_uv / 2)


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


def test_parse_header__segments_of_segments_are_refused() -> None:
    assert_rejected(
        lambda: parse_header(_header("r/3 12 500 30", "r_1 10", "r_2 10", "r_3 10")),
        RejectReason.UNREADABLE,
        "a segment of the WFDB record is itself cut into segments",
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
