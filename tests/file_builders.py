"""Device files of the structure of real ones, made of seeded random counts; no real data.

Each builder takes `counts` by lead name, so that a test knows what must come out, and keyword
arguments for what real files get wrong. `replace` of bytes does for the rest.
"""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Mapping, Sequence

import edfio
import numpy as np
from numpy.typing import NDArray

from lvm_core.signal.ecg import LEADS_12
from lvm_core.synthetic.device_files import (
    MUSE_LEADS,
    cardiosoft_document,
    head_elements,
    measurement_matrix,
    measurement_table,
    median_samples,
    muse_document,
    person_elements,
    strip_content,
)
from lvm_core.synthetic.device_files import lead_element as muse_lead
from lvm_core.synthetic.device_files import waveform_element as muse_waveform

cardiosoft_table = measurement_table
muse_matrix = measurement_matrix

Counts = Mapping[str, NDArray[np.int16]]


def random_counts(
    seed: int = 1, n_samples: int = 5000, leads: Sequence[str] = LEADS_12, largest: int = 400
) -> dict[str, NDArray[np.int16]]:
    """Return (n_samples,) int16 counts by lead: steps between -largest and largest."""
    rng = np.random.default_rng(seed)
    return {lead: rng.integers(-largest, largest, n_samples, endpoint=True).astype(np.int16) for lead in leads}


def cardiosoft_xml(
    counts: Counts,
    *,
    rate: str | None = '<SampleRate units="Hz">500</SampleRate>',
    resolution: str | None = '<Resolution units="uVperLsb">5</Resolution>',
    n_leads: int | None = None,
    n_samples: int | None = None,
    strip_path: str = "StripData",
    head_in_outer: bool = False,
    table: str = "",
    qrs_duration: str = '<QRSDuration units="ms">92</QRSDuration>',
    diagnosis: str = "Sinus rhythm",
    participant_id: str = "1000001",
    date: tuple[str, str, str] = ("2018", "7", "19"),
    time: tuple[str, str, str] = ("14", "19", "39"),
    encoding: str = "ISO-8859-1",
    declaration: str | None = None,
) -> bytes:
    """Return a CardioSoft XML file: median beat first, then the rhythm strip, as devices write it.

    `rate`, `resolution`, `table` (see `cardiosoft_table`) and `qrs_duration` are whole elements;
    None leaves one out. `n_leads` and `n_samples` are what the strip declares, None for the truth.
    `strip_path` is `StripData`, `Strip/StripData` or `StripData/Strip`; with `head_in_outer` rate
    and resolution are in its outer element. `declaration` None is the one of `encoding`.
    """
    head = (rate or "") + (resolution or "")
    strip = strip_content(counts, "" if head_in_outer else head, n_leads, n_samples)
    outer, _, inner = strip_path.partition("/")
    strip = f"<{inner}>{strip}</{inner}>" if inner else strip
    strip = f"<{outer}>{head if head_in_outer else ''}{strip}</{outer}>"
    measured = f"{qrs_duration}{table}{_cardiosoft_median()}"
    person = person_elements(date, time, participant_id, diagnosis)
    return cardiosoft_document(person, measured, strip, encoding=encoding, declaration=declaration)


def _cardiosoft_median() -> str:
    head = '<SampleRate units="Hz">500</SampleRate><Resolution units="uVperLsb">5</Resolution>'
    return median_samples(random_counts(seed=99, n_samples=600), head)


def muse_xml(
    counts: Counts,
    *,
    base: str = "500",
    exponent: str = "0",
    n_leads: int | None = None,
    median_first: bool = True,
    matrix: str = "",
    qrs_duration: str = "96",
    original_qrs_duration: str = "98",
    participant_id: str = "1000001",
    date: str = "07-19-2018",
    time: str = "14:19:39",
    statement: str = "Sinus rhythm",
    **changes: str | None,
) -> bytes:
    """Return a MUSE XML file: a median beat of 600 samples, then the rhythm, as MUSE writes it.

    `base`, `exponent` and `n_leads` (None: the truth) are what the rhythm declares; `matrix` is
    the text of `muse_matrix`; durations are in ms; `changes` go to `muse_lead` for every lead of
    the rhythm.
    """
    leads = [muse_lead(lead, values, **changes) for lead, values in counts.items()]
    rhythm = muse_waveform("Rhythm", leads, n_leads=n_leads, base=base, exponent=exponent)
    head = head_elements(
        participant_id=participant_id,
        date=date,
        time=time,
        version="12SL 241",
        qrs_duration=qrs_duration,
        original_qrs_duration=original_qrs_duration,
        statement=statement,
        matrix=matrix,
    )
    return muse_document(f"{head}{_muse_median() if median_first else ''}{rhythm}")


def _muse_median() -> str:
    median = random_counts(seed=99, n_samples=600, leads=MUSE_LEADS)
    return muse_waveform("Median", [muse_lead(lead, values) for lead, values in median.items()])


def wfdb_signal_line(
    file_name: str,
    lead: str,
    counts: NDArray[np.int16],
    *,
    layout: str = "16",
    gain: str = "1000.0(0)/mV",
    adc: str = "16 0",
    initial_value: int | None = None,
    checksum: int | None = None,
) -> str:
    """Return one signal line of a WFDB header.

    Args:
        file_name: the signal file.
        lead: description of the signal.
        counts: (n_samples,) int16, for the initial value and the checksum.
        layout: format, samples per frame, skew and byte offset, such as `16x1+24`.
        gain: gain, baseline and unit.
        adc: resolution and zero of the converter.
        initial_value: None: the truth.
        checksum: None: the truth, signed 16 bits.
    """
    if initial_value is None:
        initial_value = int(counts[0]) if len(counts) else 0
    if checksum is None:
        checksum = (int(counts.astype(np.int64).sum()) + 2**15) % 2**16 - 2**15
    return f"{file_name} {layout} {gain} {adc} {initial_value} {checksum} 0 {lead}"


def wfdb_record(
    counts: Counts,
    *,
    name: str = "rec1",
    files: Mapping[str, Sequence[str]] | None = None,
    record_line: str | None = None,
    offset: int = 0,
    layout: str | None = None,
    comments: str = "# Age: 63\n# Sex: Female\n",
    **changes: str | int | None,
) -> dict[str, bytes]:
    """Return a WFDB record: `NAME.hea` and its signal files, by name.

    Args:
        counts: by the lead names to be written; all of one length.
        name: of the record.
        files: leads by signal file; None: all of them in `NAME.dat`.
        record_line: the first line; None: `NAME n_signals 500 n_samples`.
        offset: bytes before the samples, written as `16+offset`.
        layout: overrides format and offset as written in the header.
        comments: lines at the end of the header.
        **changes: passed to `wfdb_signal_line` for every signal.
    """
    files = {f"{name}.dat": tuple(counts)} if files is None else files
    n_samples = len(next(iter(counts.values())))
    written = layout or (f"16x1+{offset}" if offset else "16")
    lines = [record_line or f"{name} {len(counts)} 500 {n_samples}"]
    record: dict[str, bytes] = {}
    for file_name, leads in files.items():
        frames = np.column_stack([counts[lead] for lead in leads])
        record[file_name] = bytes(offset) + frames.astype("<i2").tobytes()
        lines += [
            wfdb_signal_line(file_name, lead, counts[lead], layout=written, **changes)  # type: ignore[arg-type]
            for lead in leads
        ]
    record[f"{name}.hea"] = ("\n".join(lines) + "\n" + comments).encode("ascii")
    return record


def xli_chunk(counts: NDArray[np.integer], *, first: int | None = None) -> bytes:
    """Return one compressed waveform of a Philips file: (n_samples,) counts, two at least.

    `first` is the first second difference as the header states it; None for the truth.
    """
    second = np.diff(counts.astype(np.int64), 2)
    words = np.concatenate([counts[:2], 64 - second[1:], [0] * (len(second) > 0)]).astype(np.int16)
    planes = words.view(np.uint16)
    body = lzw_bytes(lzw_codes(bytes((planes >> 8).astype(np.uint8)) + bytes((planes & 255).astype(np.uint8))))
    stated = (-int(second[0]) if len(second) else 0) if first is None else first
    return len(body).to_bytes(4, "little") + bytes(2) + stated.to_bytes(2, "little", signed=True) + body


def lzw_codes(data: bytes) -> list[int]:
    """Return the LZW codes of bytes and the end code; the table is never cleared."""
    table = {bytes([value]): value for value in range(256)}
    codes, string = [], b""
    for value in data:
        longer = string + bytes([value])
        if longer in table:
            string = longer
            continue
        codes.append(table[string])
        if len(table) < 1023:
            table[longer] = len(table)
        string = longer[-1:]
    return [*codes, table[string], 1023]


def lzw_bytes(codes: Sequence[int]) -> bytes:
    """Return codes as 10 bits each, the most significant bit first, filled up to whole bytes."""
    bits = "".join(f"{code:010b}" for code in codes)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def philips_residuals(counts: Counts) -> dict[str, NDArray[np.int64]]:
    """Return the leads as a Philips file stores them: residuals in place of the derived leads."""
    leads = {lead: values.astype(np.int64) for lead, values in counts.items()}
    i, ii, iii = leads["I"], leads["II"], leads["III"]
    residuals = {
        "III": ii - i - iii,
        "aVR": -np.floor((i + ii) / 2).astype(np.int64) - leads["aVR"],
        "aVL": np.floor((i - iii) / 2).astype(np.int64) - leads["aVL"],
        "aVF": np.floor((ii + iii) / 2).astype(np.int64) - leads["aVF"],
    }
    return leads | residuals


PHILIPS_PULSE = 200
"""Counts of the calibration pulse: 1 mV at 5 uV a count."""


def philips_filled(counts: Counts) -> dict[str, NDArray[np.int16]]:
    """Return counts filled up to 5,500 samples, with zeros and the calibration pulse."""
    filled = {}
    for lead, values in counts.items():
        row = np.zeros(5500, dtype=np.int16)
        row[: len(values)] = values
        row[5350:5450] = PHILIPS_PULSE
        filled[lead] = row
    return filled


def philips_xml(
    counts: Counts,
    *,
    version: str = "1.03",
    compressed: bool = True,
    waveform: str | None = None,
    attributes: str | None = None,
    signal: str | None = None,
    measured: str = "",
    participant_id: str = "1000001",
    when: str = 'date="2018-07-19" time="14:19:39"',
    action: str = "ECG OK",
    statement: str = "SINUS RHYTHM",
    encoding: str = "utf-8",
) -> bytes:
    """Return a Philips XML file, with representative beats in another lead order than the rhythm.

    Args:
        counts: by lead, all of one length, in the order to be written; compressed, the derived
            leads become residuals.
        version: 1.03 states rate and scale with the signal, 1.04 with the waveform too.
        compressed: XLI, or none.
        waveform: the base64 text; None for that of `counts`.
        attributes: of `parsedwaveforms`; None for those of the version.
        signal: the content of `signalcharacteristics`; None for that of the version.
        measured: elements of lead measurements, see `philips_measured`.
        participant_id: `patientid`.
        when: attributes of `dataacquisition`.
        action: the device's word on the quality.
        statement: of the interpretation.
        encoding: of the file.
    """
    new = version != "1.03"
    n_samples = len(next(iter(counts.values())))
    if waveform is None:
        leads = philips_residuals(counts) if compressed else counts
        packed = [xli_chunk(values) if compressed else values.astype("<i2").tobytes() for values in leads.values()]
        waveform = base64.b64encode(b"".join(packed)).decode("ascii")
    if attributes is None:
        method = "compression" if new else "compressmethod"
        attributes = f'{method}="{"XLI" if compressed else "Uncompressed"}" durationperchannel="{2 * n_samples}"'
        if new:
            attributes += f' numberofleads="{len(counts)}" leadlabels="{" ".join(counts)}" samplespersecond="500"'
            attributes += ' resolution="5" signaloffset="0" signalsigned="True" bitspersample="16"'
        else:
            attributes += f' compressflag="{compressed}" nbitspersample="16"'
    if signal is None:
        scale = "resolution" if new else "signalresolution"
        signal = (
            f"<samplingrate>500</samplingrate><{scale}>5</{scale}>"
            "<acquisitiontype>STD-12</acquisitiontype><bitspersample>16</bitspersample><signaloffset>0</signaloffset>"
            "<signalsigned>True</signalsigned><numberchannelsallocated>12</numberchannelsallocated>"
        )
    beat = base64.b64encode(np.full(600, 77, dtype="<i2").tobytes()).decode("ascii")
    beats = "".join(f'<repbeat leadname="{lead}" duration="1200">{beat}</repbeat>' for lead in reversed(LEADS_12))
    text = f"""<?xml version="1.0" encoding="{encoding.upper()}"?>
<restingecgdata xmlns="http://www3.medical.philips.com"><documentinfo>
<documenttype>{"PhilipsECG" if new else "SierraECG"}</documenttype><documentversion>{version}</documentversion>
</documentinfo><dataacquisition {when} statflag="False"><machine machineid="0001">PageWriter</machine>
<signalcharacteristics>{signal}</signalcharacteristics></dataacquisition>
<patient><generalpatientdata><patientid>{participant_id}</patientid><sex>Male</sex></generalpatientdata></patient>
<measurements measurementversion="8"><globalmeasurements><qaactioncode>{action}</qaactioncode>
</globalmeasurements><leadmeasurements>{measured}</leadmeasurements></measurements>
<interpretations><interpretation><interpretationmeasurements><meanqrsdur>110</meanqrsdur>
</interpretationmeasurements><statement><leftstatement>{statement}</leftstatement></statement>
</interpretation></interpretations><waveforms>
<parsedwaveforms {attributes} dataencoding="Base64">
{waveform}
</parsedwaveforms><repbeats dataencoding="Base64">{beats}</repbeats></waveforms></restingecgdata>
"""
    return text.encode(encoding)


def philips_measured(waves: Mapping[str, Mapping[str, str]]) -> str:
    """Return `leadmeasurement` elements: text by lead and tag (`ramp`, `samp`, `qamp` ...)."""
    return "".join(
        f'<leadmeasurement leadname="{lead}">{"".join(f"<{tag}>{text}</{tag}>" for tag, text in values.items())}'
        "</leadmeasurement>"
        for lead, values in waves.items()
    )


def wfdb_segments(*parts: Counts, gain: str = "200.0(0)/mV") -> dict[str, bytes]:
    """Return a WFDB record `rec1` that is cut into segments, one of each of `parts`, by name."""
    lengths = [len(next(iter(counts.values()))) for counts in parts]
    lines = [f"rec1/{len(parts)} {len(parts[0])} 500 {sum(lengths)} 10:11:12 17/05/2019"]
    files: dict[str, bytes] = {}
    for number, (counts, n_samples) in enumerate(zip(parts, lengths, strict=True), start=1):
        files |= wfdb_record(counts, name=f"rec1_{number}", gain=gain, comments="")
        lines.append(f"rec1_{number} {n_samples}")
    return {**files, "rec1.hea": "\n".join([*lines, "# end"]).encode()}


def wfdb_packed_212(counts: Counts, **changes: str | int | None) -> dict[str, bytes]:
    """Return a WFDB record in format 212; counts are within 12 bits and even in number."""
    frames = np.column_stack(list(counts.values())).reshape(-1, 2).astype(np.int32) & 4095
    first, second = frames.T
    packed = np.stack([first & 255, first >> 8 | second >> 8 << 4, second & 255], axis=1).astype(np.uint8)
    return {**wfdb_record(counts, layout="212", **changes), "rec1.dat": packed.tobytes()}


def edf_file(
    counts: Counts,
    *,
    uv_per_count: float = 2.5,
    zero_count: float = 0.0,
    unit: str = "uV",
    label: str = "ECG {}",
    rate_hz: float = 500,
    record_s: float | None = None,
    code: str = "1000001",
    date: dt.date | None = dt.date(2018, 7, 19),
    is_plus: bool = True,
) -> bytes:
    """Return an EDF+C file, or an EDF file, as edfio writes it.

    `record_s` is the length of its records, seconds; None for a file of one record.
    """
    signals = [
        edfio.EdfSignal.from_digital(
            values,
            rate_hz,
            label=label.format(lead),
            physical_dimension=unit,
            physical_range=((-32768 - zero_count) * uv_per_count, (32767 - zero_count) * uv_per_count),
            digital_range=(-32768, 32767),
        )
        for lead, values in counts.items()
    ]
    n_samples = len(next(iter(counts.values())))
    plus = {"patient": edfio.Patient(code=code, name="Quillfeather"), "recording": edfio.Recording(startdate=date)}
    data = edfio.Edf(
        signals, starttime=dt.time(14, 19, 39), data_record_duration=record_s or n_samples / rate_hz, **plus
    ).to_bytes()
    if is_plus:
        return data[:192] + b"EDF+C".ljust(44) + data[236:]
    day = b"01.01.85" if date is None else f"{date:%d.%m.%y}".encode()
    return data[:8] + b"Quillfeather".ljust(80) + b"free text".ljust(80) + day + data[176:]


def aecg_sequence(
    code: str,
    values: NDArray[np.integer],
    *,
    scale: str = "2.5",
    unit: str = "uV",
    origin: str = "0",
    kind: str = "SLIST_PQ",
) -> str:
    """Return a sequence of one lead; `origin` is in `unit`."""
    digits = " ".join(map(str, values.tolist()))
    return (
        f'<component><sequence><code code="{code}" codeSystem="2.16.840.1.113883.6.24"/><value xsi:type="{kind}">'
        f'<origin value="{origin}" unit="{unit}"/><scale value="{scale}" unit="{unit}"/><digits>{digits}</digits>'
        "</value></sequence></component>"
    )


AECG_TIME = (
    '<component><sequence><code code="TIME_ABSOLUTE"/><value xsi:type="GLIST_TS">'
    '<head value="20180719141939.250"/><increment value="0.002" unit="s"/></value></sequence></component>'
)
AECG_LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6", "III", "aVR", "aVL", "aVF")


def aecg_series(
    counts: Counts,
    *,
    code: str = "RHYTHM",
    time: str = AECG_TIME,
    tag: str = "series",
    inside: str = "",
    **changes: str,
) -> str:
    """Return a series; `inside` follows the sequences, `changes` go to `aecg_sequence`."""
    leads = "".join(aecg_sequence(f"MDC_ECG_LEAD_{lead.upper()}", values, **changes) for lead, values in counts.items())
    author = (
        "<author><seriesAuthor><manufacturedSeriesDevice><manufacturerModelName>ELI 25</manufacturerModelName>"
        "</manufacturedSeriesDevice><manufacturerOrganization><name>Mortara</name></manufacturerOrganization>"
        "</seriesAuthor></author>"
    )
    return (
        f'<component><{tag}><code code="{code}"/><effectiveTime><low value="20180719141938"/></effectiveTime>{author}'
        f"<component><sequenceSet>{time}{leads}</sequenceSet></component>{inside}</{tag}></component>"
    )


def aecg_annotation(code: str = "MDC_ECG_TIME_PD_QRS", value: str = "92", unit: str = "ms") -> str:
    """Return a measurement of the device, inside a series."""
    return (
        f'<subjectOf><annotationSet><component><annotation><code code="{code}"/>'
        f'<value xsi:type="PQ" value="{value}" unit="{unit}"/></annotation></component></annotationSet></subjectOf>'
    )


def aecg_statements(*values: tuple[str, str], author: str = "assignedDevice") -> str:
    """Return annotations of (code, value element), nested in one, as devices write them."""
    nested = "".join(
        f'<component><annotation><code code="{code}"/>{value}</annotation></component>' for code, value in values
    )
    return (
        f"<subjectOf><annotationSet><author><assignedEntity><assignedAuthorType><{author}/></assignedAuthorType>"
        '</assignedEntity></author><component><annotation><code code="MDC_ECG_INTERPRETATION"/>'
        f"<value/>{nested}</annotation></component></annotationSet></subjectOf>"
    )


def aecg_document(*series: str, participant_id: str = "1000001") -> bytes:
    """Return an HL7 aECG file with these series."""
    subject = (
        "<componentOf><timepointEvent><componentOf><subjectAssignment><subject><trialSubject>"
        f'<id root="1.2.3" extension="{participant_id}"/><subjectDemographicPerson><name>Somebody Any</name>'
        '<birthTime value="19500102"/></subjectDemographicPerson></trialSubject></subject></subjectAssignment>'
        "</componentOf></timepointEvent></componentOf>"
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><!-- made for a test -->'
        '<AnnotatedECG xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        f'<effectiveTime><center value="20180719"/></effectiveTime>{subject}{"".join(series)}</AnnotatedECG>'
    ).encode()


def aecg_xml(counts: Counts, **changes: str) -> bytes:
    """Return an HL7 aECG file: the rhythm, and below it the representative beat."""
    beat = aecg_series(random_counts(99, n_samples=600), code="REPRESENTATIVE_BEAT", tag="derivedSeries")
    derived = beat.replace("component>", "derivation>", 1)[: -len("component>")] + "derivation>"
    return aecg_document(aecg_series(counts, inside=derived + aecg_annotation(), **changes))
