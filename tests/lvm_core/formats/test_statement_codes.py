"""Rhythm and conduction of SCP-ECG, HL7 aECG, DICOM and WFDB: statements in words and in codes."""

from __future__ import annotations

import itertools
import re

import pytest

from lvm_core.formats.aecg import read_aecg
from lvm_core.formats.dicom import read_dicom
from lvm_core.formats.registry import read_ecg
from lvm_core.formats.scp import read_scp
from lvm_core.formats.statement_codes import _TABLE, STATED_BY_CODE
from lvm_core.formats.statements import HEADER, rhythm_codes
from lvm_core.formats.wfdb import read_wfdb
from lvm_core.signal.ecg import LEADS_12, Conduction, Rhythm, RhythmCodes
from tests.dicom_builders import dicom_annotation, dicom_bytes, dicom_data_set, dicom_group, dicom_statement
from tests.file_builders import (
    aecg_annotation,
    aecg_document,
    aecg_series,
    aecg_statements,
    random_counts,
    wfdb_record,
    wfdb_segments,
)
from tests.lvm_core.formats.helpers import SHARED_ECG, needs_real_files
from tests.scp_builders import scp_bytes, scp_patient, scp_sections, scp_statements

COUNTS = random_counts(n_samples=20)
NOTHING = RhythmCodes()
NAME = "DOE^JANE"


def test_table__has_members_of_the_closed_lists_and_each_code_once() -> None:
    lines = [line.split(" | ") for line in _TABLE.strip().splitlines()]
    assert len({code for code, *_ in lines}) == len(lines) == len(STATED_BY_CODE)
    for code, meaning, rhythm, conduction in lines:
        assert re.fullmatch(r"[1-3]?[A-Z]+|MDC_ECG_[A-Z_]+(_3)?|10:\d{4,5}|\d{8,9}|\d{7}", code), code
        assert meaning == meaning.strip() != ""
        assert rhythm == "-" or rhythm in set(Rhythm)
        assert conduction == "-" or conduction in set(Conduction)
        assert (rhythm == "-") != (conduction == "-"), code


def test_table__one_meaning_has_one_answer_in_every_vocabulary() -> None:
    """The same words of two vocabularies state the same."""
    lines = [line.split(" | ") for line in _TABLE.strip().splitlines()]
    ordered = sorted((meaning.casefold(), rhythm, conduction) for _, meaning, rhythm, conduction in lines)
    for meaning, same in itertools.groupby(ordered, key=lambda one: one[0]):
        assert len({(rhythm, conduction) for _, rhythm, conduction in same}) == 1, meaning


@pytest.mark.parametrize(
    ("codes", "rhythm", "conduction"),
    [
        (["SR"], "sinus", "none"),
        (["AFIB", "CLBBB"], "af_flutter", "lbbb"),
        (["10:9472", "MDC_ECG_BEAT_RBB_BLK_COMP"], "af_flutter", "rbbb"),
        (["426783006", "10370003"], "paced", "none"),
        (["733534002", "713427006"], "unknown", "other"),
        (["59931005"], "unknown", "unknown"),  # T wave inversion
        (["282825002"], "unknown", "unknown"),  # paroxysmal AF: a disease, perhaps not now
    ],
)
def test_rhythm_codes__of_codes_by_hand(codes: list[str], rhythm: str, conduction: str) -> None:
    assert rhythm_codes([], codes) == RhythmCodes(rhythm, conduction, "device")
    assert rhythm_codes([], codes, source=HEADER) == RhythmCodes(rhythm, conduction, "header")


# SCP-ECG.


def scp(texts: bytes | None = None, codes: bytes | None = None, *, language: int = 0) -> bytes:
    sections = {**scp_sections(COUNTS), 1: scp_patient(language=language)}
    sections |= {number: content for number, content in ((8, texts), (11, codes)) if content is not None}
    return scp_bytes(sections)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ((), NOTHING),
        ((b"\0",), NOTHING),
        ((b"Atrial fibrillation\0", b"Left bundle branch block\0"), RhythmCodes("af_flutter", "lbbb", "device")),
        ((b"Sinus rhythm\0Left anterior fascicular block\0",), RhythmCodes("sinus", "other", "device")),
        ((b"Possible atrial flutter\0", NAME.encode()), RhythmCodes("unknown", "unknown", "device")),
    ],
)
def test_read_scp__states_the_rhythm_in_words(texts: tuple[bytes, ...], expected: RhythmCodes) -> None:
    ecg = read_scp(scp(scp_statements(*texts)))
    assert ecg.rhythm == expected
    assert "DOE" not in str(ecg)


def test_read_scp__words_of_two_bytes_a_character() -> None:
    text = scp_statements("Atrial flutter\0".encode("utf-16-le"))
    assert read_scp(scp(text, language=7)).rhythm == RhythmCodes("af_flutter", "none", "device")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ((b"\x01AFIB\0",), RhythmCodes("af_flutter", "none", "device")),
        ((b"\x01SR\0", b"\x01CRBBB\0"), RhythmCodes("sinus", "rbbb", "device")),
        ((b"\x02Sinus rhythm\0", b"\x01PACE"), RhythmCodes("paced", "none", "device")),
        ((b"\x01AFIB\0PO\0",), RhythmCodes("unknown", "unknown", "device")),  # modified: perhaps not sure
        ((b"\x03AFIB\0",), NOTHING),
        ((b"",), NOTHING),
    ],
)
def test_read_scp__states_the_rhythm_in_codes(fields: tuple[bytes, ...], expected: RhythmCodes) -> None:
    assert read_scp(scp(codes=scp_statements(*fields))).rhythm == expected


def test_read_scp__words_and_codes_go_together() -> None:
    data = scp(scp_statements(b"Left bundle branch block\0"), scp_statements(b"\x01AFIB\0"))
    assert read_scp(data).rhythm == RhythmCodes("af_flutter", "lbbb", "device")


@pytest.mark.parametrize("n_bytes", [0, 5, 9, 11, 15, 40])
def test_read_scp__statements_that_end_too_early_state_nothing_wrong(n_bytes: int) -> None:
    cut = scp_statements(b"Sinus rhythm, possible\0", b"Atrial fibrillation\0")[:n_bytes]
    ecg = read_scp(scp(cut))
    assert ecg.rhythm.rhythm in (None, "unknown")


def test_read_scp__statements_with_a_wrong_checksum_state_nothing() -> None:
    whole = scp(scp_statements(b"Atrial fibrillation\0"))
    damaged = bytearray(whole)
    damaged[whole.index(b"Atrial fibrillation") + 7] = ord("F")  # of any case, still in the table
    assert read_scp(whole).rhythm.rhythm == "af_flutter"
    assert read_scp(bytes(damaged)).rhythm == NOTHING


# HL7 aECG.


def aecg(*inside: str) -> RhythmCodes:
    return read_aecg(aecg_document(aecg_series(COUNTS, inside="".join(inside)))).rhythm


def statement(text: str, code: str = "MDC_ECG_INTERPRETATION_STATEMENT") -> tuple[str, str]:
    return code, f'<value xsi:type="ST">{text}</value>'


def coded(code: str, value: str) -> tuple[str, str]:
    return code, f'<value xsi:type="CE" code="{value}"/>'


def test_read_aecg__states_the_rhythm_in_words() -> None:
    stated = aecg_statements(statement("Atrial fibrillation"), statement("Right bundle branch block"))
    assert aecg(stated) == RhythmCodes("af_flutter", "rbbb", "device")
    summary = aecg_statements(statement("Atrial fibrillation", "MDC_ECG_INTERPRETATION_COMMENT"))
    assert aecg(summary) == NOTHING
    assert aecg(aecg_annotation()) == aecg() == NOTHING


def test_read_aecg__states_the_rhythm_in_codes() -> None:
    assert aecg(aecg_statements(coded("MDC_ECG_RHY", "MDC_ECG_RHY_ATR_FLUT"))) == RhythmCodes(
        "af_flutter", "none", "device"
    )
    assert aecg(aecg_statements(coded("MDC_ECG_RHY", "MDC_ECG_RHY_NEW"))) == RhythmCodes("unknown", "unknown", "device")
    # What a single beat is states nothing about the ECG, but a block of it does.
    assert aecg(aecg_statements(coded("MDC_ECG_BEAT", "MDC_ECG_BEAT_NORMAL"))) == NOTHING
    blocked = aecg_statements(coded("MDC_ECG_BEAT", "MDC_ECG_BEAT_LBB_BLK_COMP"))
    assert aecg(blocked) == RhythmCodes("unknown", "lbbb", "device")


def test_read_aecg__what_a_person_wrote_is_left_out() -> None:
    device, person = (
        aecg_statements(statement("Sinus rhythm")),
        aecg_statements(statement("Atrial fibrillation"), author="assignedPerson"),
    )
    assert aecg(device, person) == RhythmCodes("sinus", "none", "device")
    assert aecg(person) == NOTHING


# DICOM.


def dicom(*annotations: object) -> RhythmCodes:
    data = dicom_data_set([dicom_group(random_counts(n_samples=20))], *annotations)  # type: ignore[arg-type]
    ecg = read_dicom(dicom_bytes(data))
    assert "DOE" not in str(ecg)
    return ecg.rhythm


def test_read_dicom__states_the_rhythm_in_words() -> None:
    af = RhythmCodes("af_flutter", "none", "device")
    assert dicom(dicom_statement("Atrial fibrillation"), dicom_annotation()) == af
    assert dicom(dicom_statement(value="Atrial fibrillation\r\nLeft bundle branch block")).conduction == "lbbb"
    assert dicom(dicom_statement(NAME)) == RhythmCodes("unknown", "unknown", "device")
    assert dicom(dicom_statement("")) == dicom(dicom_annotation()) == dicom() == NOTHING


def test_read_dicom__states_the_rhythm_in_codes() -> None:
    paced = RhythmCodes("paced", "none", "device")
    assert dicom(dicom_statement(coded=("10:10240", "MDC", "Ventricular Demand Mode Pacing"))) == paced
    # A code that is not in the table counts by its meaning, if that is a statement.
    meant = dicom(dicom_statement(coded=("99", "OURS", "Left bundle branch block")))
    assert meant == RhythmCodes("unknown", "lbbb", "device")
    assert dicom(dicom_statement(coded=("99", "OURS", "P wave"))) == NOTHING


# WFDB.


@pytest.mark.parametrize(
    ("comments", "expected"),
    [
        ("# Age: 63\n", NOTHING),
        ("# Dx: Unknown\n", NOTHING),
        ("# Dx: 426783006\n", RhythmCodes("sinus", "none", "header")),
        ("#Dx: 164889003,59118001,164934002\n", RhythmCodes("af_flutter", "rbbb", "header")),
        (" # dx: 426177001 , 713426002\r\n", RhythmCodes("sinus", "other", "header")),
        ("# Dx: 164890007\n# Dx: 164909002\n", RhythmCodes("af_flutter", "lbbb", "header")),
        ("# Dx: 55827005\n", RhythmCodes("unknown", "unknown", "header")),
        ("# Reason: 164889003, DOE^JANE\n", NOTHING),
        ("# Dx: AF in DOE^JANE, 1950\n", NOTHING),
    ],
)
def test_read_wfdb__diagnoses_of_the_header_say_the_rhythm(comments: str, expected: RhythmCodes) -> None:
    ecg = read_wfdb(wfdb_record(COUNTS, comments=comments), "rec1.hea")
    assert ecg.rhythm == expected
    assert "DOE" not in str(ecg)


def test_read_wfdb__diagnoses_of_a_record_in_segments() -> None:
    record = wfdb_segments(COUNTS, COUNTS)
    record["rec1.hea"] += b"\n# Dx: 164889003\n"
    assert read_wfdb(record, "rec1.hea").rhythm == RhythmCodes("af_flutter", "none", "header")


# Real files; what each says was read in the file by eye.


@needs_real_files
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        # 427084000 (sinus tachycardia), 698252002 (intraventricular), and PAC and ST changes
        ("wfdb/torch_ecg_chapman_ningbo/JS20000.hea", ("sinus", "other", "header")),
        # 426177001 (sinus bradycardia), 426783006 (sinus rhythm), 713426002 (incomplete RBBB)
        ("wfdb/torch_ecg_ptbxl/HR06002.hea", ("sinus", "other", "header")),
        ("wfdb/torch_ecg_georgia/E07504.hea", ("unknown", "unknown", "header")),  # 111975006: long QT
        ("wfdb/wfdbpy_ptb/s0010_re.hea", (None, None, None)),
        ("hl7_aecg/fda_subject1_0.xml", ("sinus", "none", "device")),  # MDC_ECG_RHY_SINUS_RHY
        ("dicom/marcodebe_anonymous_ecg.dcm", ("unknown", "unknown", "device")),  # RITMO SINUSALE
        ("dicom/ecgprocess_example-DICOM1.dcm", (None, None, None)),
        ("scp/ecgtoolkit_Example.scp", (None, None, None)),  # sections 8 and 11 are empty
    ],
)
def test_real_files__state_what_they_say(path: str, expected: tuple[str | None, ...]) -> None:
    main = SHARED_ECG / path
    files = {one.name: one.read_bytes() for one in main.parent.glob(f"{main.stem}.*")}
    assert tuple(read_ecg(files, main.name).rhythm) == expected


def test_builders__have_all_twelve_leads() -> None:
    assert set(COUNTS) == set(LEADS_12)
