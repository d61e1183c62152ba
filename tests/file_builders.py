"""Device files of the structure of real ones, made of seeded random counts; no real data.

Each builder takes `counts` by lead name, so that a test knows what must come out, and keyword
arguments for what real files get wrong. `replace` of bytes does for the rest.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lvm_core.leads import LEADS_12

MUSE_LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
MATRIX_LEADS = (*MUSE_LEADS, "III", "aVR", "aVL", "aVF")

Counts = Mapping[str, NDArray[np.int16]]


def random_counts(
    seed: int = 1, n_samples: int = 5000, leads: Sequence[str] = LEADS_12, largest: int = 400
) -> dict[str, NDArray[np.int16]]:
    """Return (n_samples,) int16 counts by lead: steps between -largest and largest."""
    rng = np.random.default_rng(seed)
    return {
        lead: rng.integers(-largest, largest, n_samples, endpoint=True).astype(np.int16)
        for lead in leads
    }


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
    strip = _cardiosoft_strip(counts, n_leads, n_samples, "" if head_in_outer else head)
    outer, _, inner = strip_path.partition("/")
    strip = f"<{inner}>{strip}</{inner}>" if inner else strip
    strip = f"<{outer}>{head if head_in_outer else ''}{strip}</{outer}>"
    if declaration is None:
        declaration = f'<?xml version="1.0" encoding="{encoding}" ?>\n'
    person = _cardiosoft_person(date, time, participant_id, diagnosis)
    measured = f"{qrs_duration}{table}{_cardiosoft_median()}"
    measured = f"<RestingECGMeasurements>{measured}</RestingECGMeasurements>"
    text = f"{declaration}<CardiologyXML>\n{person}\n{measured}\n{strip}\n</CardiologyXML>\n"
    return text.encode(encoding)


def _cardiosoft_strip(counts: Counts, n_leads: int | None, n_samples: int | None, head: str) -> str:
    if n_leads is None:
        n_leads = len(counts)
    if n_samples is None:
        n_samples = max(len(values) for values in counts.values())
    return (
        f"<NumberOfLeads>{n_leads}</NumberOfLeads>{head}"
        f"<ChannelSampleCountTotal>{n_samples}</ChannelSampleCountTotal>"
        f"{_cardiosoft_waveforms(counts)}"
    )


def _cardiosoft_person(
    date: tuple[str, str, str], time: tuple[str, str, str], participant_id: str, diagnosis: str
) -> str:
    tags = ("Hour", "Minute", "Second", "Year", "Month", "Day")
    parts = zip(tags, (*time, *date), strict=True)
    date_time = "".join(f"<{tag}>{value}</{tag}>" for tag, value in parts)
    return (
        "<ObservationType>RestECG</ObservationType>\n"
        f"<ObservationDateTime>{date_time}</ObservationDateTime>\n"
        "<ClinicalInfo><DeviceInfo><AnalysisVer>12SL V21</AnalysisVer></DeviceInfo></ClinicalInfo>"
        f"\n<PatientInfo><PID>{participant_id}</PID></PatientInfo>\n<Interpretation><Diagnosis>"
        f"<DiagnosisText>{diagnosis}</DiagnosisText></Diagnosis></Interpretation>"
    )


def _cardiosoft_waveforms(counts: Counts) -> str:
    return "".join(
        f'<WaveformData lead="{lead}">\t\t{",".join(map(str, values))}</WaveformData>\n'
        for lead, values in counts.items()
    )


def _cardiosoft_median() -> str:
    median = random_counts(seed=99, n_samples=600)
    return (
        "<MedianSamples><NumberOfLeads>12</NumberOfLeads>"
        '<SampleRate units="Hz">500</SampleRate><Resolution units="uVperLsb">5</Resolution>'
        f"{_cardiosoft_waveforms(median)}</MedianSamples>"
    )


def cardiosoft_table(
    rows: Mapping[str, Mapping[str, int]],
    *,
    order: Sequence[str] = LEADS_12,
    creation: str = ' Creation="12SL"',
    units: str = ' units="uV"',
) -> str:
    """Return a MeasurementTable element.

    Args:
        rows: microvolts by lead, by row name such as `RAmplitude`; a lead left out is a blank.
        order: LeadOrder, the columns.
        creation: the attribute of the table that names the program.
        units: the attribute of each row.
    """
    cells = {tag: ", ".join(str(row.get(lead, "")) for lead in order) for tag, row in rows.items()}
    body = "".join(f"<{tag}{units}>{text}</{tag}>" for tag, text in cells.items())
    lead_order = ", ".join(order)
    return (
        f"<MeasurementTable{creation}><LeadOrder>{lead_order}</LeadOrder>{body}</MeasurementTable>"
    )


def muse_lead(lead: str, counts: NDArray[np.int16], **changes: str | None) -> str:
    """Return one LeadData element.

    Args:
        lead: LeadID.
        counts: (n_samples,) int16.
        **changes: other text by element name; None leaves the element out.
    """
    raw = counts.astype("<i2").tobytes()
    wrapped = base64.encodebytes(raw).decode("ascii")
    elements: dict[str, str | None] = {
        "LeadByteCountTotal": str(len(raw)),
        "LeadTimeOffset": "0",
        "LeadSampleCountTotal": str(len(counts)),
        "LeadAmplitudeUnitsPerBit": "4.88",
        "LeadAmplitudeUnits": "MICROVOLTS",
        "LeadHighLimit": "32767",
        "LeadLowLimit": "-32768",
        "LeadID": lead,
        "LeadOffsetFirstSample": "0",
        "LeadSampleSize": "2",
        "LeadOff": "FALSE",
        "LeadDataCRC32": str(zlib.crc32(raw)),
        "WaveFormData": f"\n{wrapped}",
        **changes,
    }
    body = "".join(f"<{tag}>{text}</{tag}>\n" for tag, text in elements.items() if text is not None)
    return f"<LeadData>{body}</LeadData>"


def muse_waveform(
    kind: str | None,
    leads: Sequence[str],
    *,
    n_leads: int | None = None,
    base: str = "500",
    exponent: str = "0",
) -> str:
    """Return one Waveform element.

    Args:
        kind: WaveformType, `Rhythm` or `Median`; None leaves it out.
        leads: LeadData elements, see `muse_lead`.
        n_leads: what NumberofLeads says; None: the truth.
        base: SampleBase; empty leaves it blank.
        exponent: SampleExponent; empty leaves it blank.
    """
    stated = len(leads) if n_leads is None else n_leads
    kind_element = "" if kind is None else f"<WaveformType>{kind}</WaveformType>"
    return (
        f"<Waveform>{kind_element}<NumberofLeads>{stated}</NumberofLeads>"
        "<SampleType>CONTINUOUS_SAMPLES</SampleType>"
        f"<SampleBase>{base}</SampleBase><SampleExponent>{exponent}</SampleExponent>"
        f"{''.join(leads)}</Waveform>\n"
    )


def muse_document(
    body: str, *, encoding: str = "ISO-8859-1", declaration: str | None = None
) -> bytes:
    """Return a MUSE XML file around `body`, with the usual DOCTYPE line."""
    if declaration is None:
        declaration = f'<?xml version="1.0" encoding="{encoding}"?>\n'
    doctype = '<!DOCTYPE RestingECG SYSTEM "restecg.dtd">\n'
    return f"{declaration}{doctype}<RestingECG>\n{body}</RestingECG>\n".encode(encoding)


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
    return muse_document(
        f"<PatientDemographics><PatientID>{participant_id}</PatientID></PatientDemographics>\n"
        f"<TestDemographics><AcquisitionDate>{date}</AcquisitionDate>"
        f"<AcquisitionTime>{time}</AcquisitionTime>"
        "<AnalysisSoftwareVersion>12SL 241</AnalysisSoftwareVersion></TestDemographics>\n"
        f"<RestingECGMeasurements><QRSDuration>{qrs_duration}</QRSDuration>"
        "</RestingECGMeasurements>\n<OriginalRestingECGMeasurements>"
        f"<QRSDuration>{original_qrs_duration}</QRSDuration></OriginalRestingECGMeasurements>\n"
        f"<Diagnosis><DiagnosisStatement><StmtText>{statement}</StmtText></DiagnosisStatement>"
        f"</Diagnosis>\n<MeasurementMatrix>\n{matrix}</MeasurementMatrix>\n"
        f"{_muse_median() if median_first else ''}{rhythm}"
    )


def _muse_median() -> str:
    median = random_counts(seed=99, n_samples=600, leads=MUSE_LEADS)
    return muse_waveform("Median", [muse_lead(lead, values) for lead, values in median.items()])


def muse_matrix(
    amplitudes_uv: Mapping[str, Mapping[int, int]],
    *,
    first_word: int = 36,
    n_entries: int = 636,
    first_key: int = 0,
) -> str:
    """Return the text of a MeasurementMatrix.

    Args:
        amplitudes_uv: value by number of the measurement, by lead; 0 where none is given.
        first_word: first word of the header, 36 in real files.
        n_entries: last word of the header, 636 in real files.
        first_key: key of the first entry, 0 in real files.
    """
    words = [first_word, 147, 200, 216, 264, 341, 442, 8, 96, 452, 403, 138, 48, 1242, -1, -1, -1]
    words.append(n_entries)
    for number, lead in enumerate(MATRIX_LEADS):
        for measurement in range(53):
            words += [measurement * 256 + number, amplitudes_uv.get(lead, {}).get(measurement, 0)]
    words[18] = first_key
    return base64.encodebytes(np.array(words, dtype="<i2").tobytes()).decode("ascii")


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
