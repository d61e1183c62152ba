"""Errors of the project, and the closed list of reasons for which an ECG is rejected."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

# Up to six digits on either side of a point or a comma: a quantity. Identifiers are longer.
_SHORT_NUMBER: Final = re.compile(r"[-+]?\d{1,6}(?:[.,]\d{1,6})?(?:[eE][-+]?\d{1,3})?", re.ASCII)

# What may identify a person: numbers of people have five digits and more.
_MAY_IDENTIFY: Final = re.compile(r"\d{5}")


class RejectReason(StrEnum):
    """Why an ECG was not ingested or not scored; the value is what the rejects table holds.

    The list is closed: adding a member is a decision record and a changelog entry.
    """

    NOT_AN_ECG = "not_an_ecg"
    UNREADABLE = "unreadable"
    TRUNCATED = "truncated"
    MISSING_LEAD = "missing_lead"
    UNKNOWN_UNIT = "unknown_unit"
    TOO_SHORT = "too_short"
    UNSUPPORTED_RATE = "unsupported_rate"
    DUPLICATE_ECG_ID = "duplicate_ecg_id"
    LEAD_FLAT = "lead_flat"
    LEAD_ALL_ZERO = "lead_all_zero"
    NON_FINITE = "non_finite"
    LEAD_STANDARDISED = "lead_standardised"
    AMPLITUDE_IMPLAUSIBLE = "amplitude_implausible"
    LEAD_OUT_OF_PROPORTION = "lead_out_of_proportion"
    LIMB_LEADS_INCONSISTENT = "limb_leads_inconsistent"
    PARTICIPANT_MISSING = "participant_missing"
    AGE_MISSING = "age_missing"
    AGE_OUT_OF_RANGE = "age_out_of_range"
    SEX_UNKNOWN = "sex_unknown"
    BMI_MISSING = "bmi_missing"
    BMI_OUT_OF_RANGE = "bmi_out_of_range"
    EXCLUDED = "excluded"
    QUALITY_FLAG = "quality_flag"
    FILE_MISSING = "file_missing"


class LvmError(Exception):
    """Root of the project's errors: something the user can read and act on.

    The message says what is wrong with its value, what was expected, and how to fix it.
    """


class UsageError(LvmError):
    """The command or a file of settings is wrong; the command line exits with 2."""


class EcgRejected(LvmError):
    """One recording cannot be used, for a reason that real cohorts contain.

    Attributes:
        reason: member of `RejectReason`.
        message: what is wrong with its value and unit; no personal data.
    """

    def __init__(self, reason: RejectReason, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return f"{self.reason.value}: {self.message}"


def described(text: str | None) -> str:
    """Return how a message may show a text that comes from a data file.

    A short number is shown as it stands. Any other text may hold a name or an identifier, so only
    its length is given.
    """
    shown = (text or "").strip()
    if not shown:
        return "absent" if text is None else "empty"
    if _SHORT_NUMBER.fullmatch(shown):
        return shown
    return f"a text of {len(shown)} characters"


def form_of(text: str) -> str:
    """Return how a text is written without what it says: `S7-0001` is `A9-9999`.

    Every digit becomes 9 and every letter A; of a long text the beginning is shown.
    """
    shown = "".join("9" if c.isdigit() else "A" if c.isalpha() else c for c in text[:25])
    return f"{shown} ..." if len(text) > len(shown) else shown


def may_identify(text: str) -> bool:
    """Return whether a text may hold an identifier of a person: five digits in a row."""
    return _MAY_IDENTIFY.search(text) is not None


def shown_cell(text: str) -> str:
    """Return a cell of a table as a message may show it; by its form where it may identify.

    Columns of a table can be shifted, so that identifiers stand where ages are expected.
    """
    return form_of(text) if may_identify(text) else text
