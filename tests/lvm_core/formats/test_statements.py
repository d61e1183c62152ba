"""Rhythm and conduction by statements of devices, and that no text of them leaves the reader."""

from __future__ import annotations

from pathlib import Path

import pytest

from lvm_core.formats.cardiosoft import read_cardiosoft
from lvm_core.formats.muse import read_muse
from lvm_core.formats.statements import _STATED, rhythm_codes
from lvm_core.signal.ecg import Conduction, Rhythm, RhythmCodes
from tests.file_builders import MUSE_LEADS, cardiosoft_xml, muse_xml, random_counts
from tests.lvm_core.formats.helpers import SHARED_ECG, needs_real_files

COUNTS = random_counts(n_samples=20)


@pytest.mark.parametrize(
    ("statements", "rhythm", "conduction"),
    [
        (["Normal sinus rhythm", "Normal ECG"], "sinus", "none"),
        (["SINUS BRADYCARDIA WITH SINUS ARRHYTHMIA"], "sinus", "none"),
        (["Sinus rhythm with occasional premature ventricular complexes"], "sinus", "none"),
        (["Atrial fibrillation with rapid ventricular response"], "af_flutter", "none"),
        (["*** Atrial  flutter ***", "Left bundle branch block"], "af_flutter", "lbbb"),
        (["Electronic ventricular pacemaker", "Atrial fibrillation"], "paced", "none"),
        (["Sinus rhythm", "Atrial fibrillation"], "af_flutter", "none"),
        (["Junctional rhythm", "Right bundle branch block"], "other", "rbbb"),
        (["Sinus rhythm", "Right bundle branch block", "Left anterior fascicular block"], "sinus", "rbbb"),
        (["Sinus rhythm", "Right bundle branch block", "Left bundle branch block"], "sinus", "other"),
        (["Sinus rhythm", "Incomplete right bundle branch block."], "sinus", "other"),
        (["Left bundle branch block"], "unknown", "lbbb"),
        (["SINUS ARRHYTHMIA, RATE  51- 69", "INCOMPLETE RIGHT BUNDLE BRANCH BLOCK"], "sinus", "other"),
        (["Atrial fibrillation, V-rate 70-110"], "af_flutter", "none"),
        (["Sinus rhythm, probable atrial fibrillation"], "unknown", "unknown"),
        (["Undetermined rhythm"], "unknown", "none"),
        (["Possible atrial flutter"], "unknown", "unknown"),
        (["Atrial fibrillation has replaced Sinus rhythm"], "unknown", "unknown"),
        (["No atrial fibrillation", "Jane Doe, seen by Dr. Smith"], "unknown", "unknown"),
        (["RITMO SINUSALE"], "unknown", "unknown"),
    ],
)
def test_rhythm_codes__by_hand(statements: list[str], rhythm: str, conduction: str) -> None:
    assert rhythm_codes(statements) == RhythmCodes(rhythm, conduction, "device")


@pytest.mark.parametrize("statements", [[], [""], ["---", "  "], ["***"]])
def test_rhythm_codes__nothing_stated_is_null(statements: list[str]) -> None:
    assert rhythm_codes(statements) == RhythmCodes(None, None, None)


def test_table__holds_members_of_the_closed_lists_in_lower_case() -> None:
    assert len(_STATED) > 60
    for text, (rhythm, conduction) in _STATED.items():
        assert text == text.casefold().strip()
        assert rhythm == "-" or rhythm in set(Rhythm)
        assert conduction == "-" or conduction in set(Conduction)
        assert (rhythm, conduction) != ("-", "-")


def test_read_cardiosoft__states_the_rhythm() -> None:
    data = cardiosoft_xml(COUNTS, diagnosis="Atrial fibrillation</DiagnosisText><DiagnosisText>DOE^JANE")
    assert read_cardiosoft(data).rhythm == RhythmCodes("af_flutter", "none", "device")
    assert read_cardiosoft(cardiosoft_xml(COUNTS, diagnosis="")).rhythm == RhythmCodes()
    assert "DOE" not in str(read_cardiosoft(data))


def _muse(statement: str, original: str = "") -> RhythmCodes:
    data = muse_xml(random_counts(n_samples=20, leads=MUSE_LEADS), statement=statement)
    before = f"<OriginalDiagnosis><DiagnosisStatement><StmtText>{original}</StmtText></DiagnosisStatement>"
    return read_muse(data.replace(b"<Diagnosis>", f"{before}</OriginalDiagnosis><Diagnosis>".encode())).rhythm


def test_read_muse__the_final_statements_win() -> None:
    assert _muse("Left bundle branch block", "Sinus rhythm") == RhythmCodes("unknown", "lbbb", "device")
    assert _muse("", "Sinus rhythm") == RhythmCodes("sinus", "none", "device")
    assert _muse("") == RhythmCodes()


@needs_real_files
def test_read_cardiosoft__real_file() -> None:
    """Its first statement is `Sinus bradycardia`; those about the full disclosure say nothing."""
    path: Path = SHARED_ECG / "cardiosoft_xml" / "ecgprocess_example-XML1.xml"
    assert read_cardiosoft(path.read_bytes()).rhythm == RhythmCodes("sinus", "none", "device")
