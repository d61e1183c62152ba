"""Device files of the structure of real ones, made of seeded random counts; no real data.

Each builder takes `counts` by lead name, so that a test knows what must come out, and keyword
arguments for what real files get wrong. `replace` of bytes does for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
        "<author><seriesAuthor><manufacturedSeriesDevice><manufacturerModelName>Cart 1</manufacturerModelName>"
        "</manufacturedSeriesDevice><manufacturerOrganization><name>Maker</name></manufacturerOrganization>"
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
