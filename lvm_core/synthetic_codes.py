"""Codes of the synthetic records: those of the outcomes, those that look alike, and the rest."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

ICD10, ICD9, OPCS4, SELF_REPORT = "icd10", "icd9", "opcs4", "self-report"
SYSTEMS: Final = (ICD10, ICD9, OPCS4, SELF_REPORT)

# What finds every outcome among the records, and nothing else: prefixes without dots, by system.
CODE_LISTS: Final = {
    "af": (
        (ICD10, "I48"),
        (ICD9, "4273"),
        (OPCS4, "K621"),
        (OPCS4, "K622"),
        (OPCS4, "K623"),
        (OPCS4, "K624"),
        (SELF_REPORT, "1471"),
        (SELF_REPORT, "1483"),
    ),
    "mi": ((ICD10, "I21"), (ICD10, "I22"), (ICD9, "410"), (SELF_REPORT, "1075")),
    "heart_failure": ((ICD10, "I50"), (ICD10, "I110"), (ICD9, "428"), (SELF_REPORT, "1076")),
    "ventricular_arrhythmia": ((ICD10, "I472"), (ICD10, "I490"), (ICD9, "4271"), (ICD9, "4274"), (OPCS4, "K59")),
}

# The first record of a disease has one of these, by the system of its day.
DISEASE_CODES: Final = {
    ("af", ICD10): ("I48", "I48.0", "I48.1", "I48.2", "I48.3", "I48.4", "I48.9", "I48.9"),
    ("af", ICD9): ("427.3",),
    ("af", SELF_REPORT): ("1471", "1471", "1483"),
    ("mi", ICD10): ("I21.0", "I21.1", "I21.4", "I21.4", "I21.9", "I22.0", "I22.9"),
    ("mi", ICD9): ("410", "410.9"),
    ("mi", SELF_REPORT): ("1075",),
    ("heart_failure", ICD10): ("I50", "I50.0", "I50.1", "I50.9", "I50.9", "I11.0"),
    ("heart_failure", ICD9): ("428", "428.0", "428.1"),
    ("heart_failure", SELF_REPORT): ("1076",),
    ("ventricular_arrhythmia", ICD10): ("I47.2", "I47.2", "I49.0"),
    ("ventricular_arrhythmia", ICD9): ("427.1", "427.4"),
}

# Procedures that follow a disease. Those of infarction are not specific for it and in no list.
PROCEDURE_CODES: Final = {
    "af": ("K62.1", "K62.2", "K62.3", "K62.4"),
    "mi": ("K40.1", "K49.1", "K75.1"),
    "ventricular_arrhythmia": ("K59.1", "K59.6"),
}

# Other records. K62.1 and K59.0 of ICD-10 (rectal polyp, constipation) read like OPCS-4 codes of
# ablation and defibrillators, I4, I47.1, I49.3 and 427.0 stand beside arrhythmias, coronary
# operations come without infarction: who matches carelessly finds disease here.
OTHER_CODES: Final = {
    ICD10: (
        "I10",
        "I25.1",
        "E11.9",
        "E78.0",
        "J44.9",
        "J18.9",
        "M17.1",
        "N39.0",
        "C50.9",
        "H25.9",
        "R07.4",
        "I4",
        "I47.1",
        "I49.3",
        "I49.9",
        "I51.7",
        "K62.1",
        "K59.0",
        "Z95.0",
    ),
    ICD9: ("401.9", "414.9", "250.0", "496", "427.0", "427.6", "715.9", "562.1"),
    OPCS4: ("K63.4", "K40.1", "K75.1", "K60.1", "W40.1", "C71.2", "H22.9", "J18.3"),
}
DEATH_CODES: Final = ("C34.9", "C18.9", "C25.9", "I25.9", "J44.9", "I64", "G30.9", "J18.0")


def spellings(code: str, system: str) -> tuple[str, str, str, str]:
    """Return a code as files write it: plain, with a dot, and two rarer ways."""
    plain = code.replace(".", "")
    if system == SELF_REPORT:
        return plain, plain, plain, plain
    filled = f"{plain}X" if system == ICD10 and len(plain) == 3 else code.lower()
    return plain, code, plain.lower(), filled


def _all_codes() -> list[tuple[str, str]]:
    found = [(system, code) for (_, system), codes in DISEASE_CODES.items() for code in codes]
    found += [(OPCS4, code) for codes in PROCEDURE_CODES.values() for code in codes]
    found += [(system, code) for system, codes in OTHER_CODES.items() for code in codes]
    found += [(ICD10, code) for code in DEATH_CODES]
    return sorted(set(found))


_CODES: Final = _all_codes()
_NUMBER: Final = {key: number for number, key in enumerate(_CODES)}
N_SPELLINGS: Final = 4
# Text and system of each spelling of each code, the spellings of one code beside one another.
CODE_TEXTS: Final = tuple(text for system, code in _CODES for text in spellings(code, system))
CODE_SYSTEMS: Final = tuple(system for system, _ in _CODES for _ in range(N_SPELLINGS))


def code_numbers(system: str, codes: tuple[str, ...]) -> NDArray[np.int64]:
    """Return the numbers of codes; `number * N_SPELLINGS` is the place of the first spelling."""
    return np.array([_NUMBER[system, code] for code in codes], dtype=np.int64)


def in_code_list(name: str) -> NDArray[np.bool_]:
    """Return (n,) for each of `CODE_TEXTS` whether it belongs to an outcome by `CODE_LISTS`."""
    plain = [text.replace(".", "").upper() for text in CODE_TEXTS]
    return np.array(
        [
            any(system == of and text.startswith(prefix) for of, prefix in CODE_LISTS[name])
            for text, system in zip(plain, CODE_SYSTEMS, strict=True)
        ]
    )
