import pickle

import pytest

from lvm_core.errors import EcgRejected, LvmError, RejectReason, UsageError, described, form_of, shown_cell


def test_ecg_rejected__says_reason_and_message() -> None:
    error = EcgRejected(RejectReason.LEAD_FLAT, "lead V3 is constant")
    assert str(error) == "lead_flat: lead V3 is constant"


def test_ecg_rejected__travels_between_workers() -> None:
    error = EcgRejected(RejectReason.TOO_SHORT, "recording lasts 7.3 s")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.reason, copy.message) == (RejectReason.TOO_SHORT, "recording lasts 7.3 s")


def test_errors__share_one_root() -> None:
    assert issubclass(EcgRejected, LvmError)
    assert issubclass(UsageError, LvmError)


def test_reject_reason__is_the_closed_list_of_the_design() -> None:
    at_ingest = (
        "not_an_ecg unreadable truncated missing_lead unknown_unit too_short unsupported_rate "
        "duplicate_ecg_id amplitude_implausible lead_out_of_proportion"
    )
    at_score = (
        "lead_flat lead_all_zero non_finite lead_standardised participant_missing age_missing "
        "age_out_of_range sex_unknown bmi_missing bmi_out_of_range excluded "
        "limb_leads_inconsistent quality_flag"
    )
    by_index = "file_missing"
    assert {reason.value for reason in RejectReason} == set(f"{at_ingest} {at_score} {by_index}".split())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (None, "absent"),
        (" ", "empty"),
        (" 4.88 ", "4.88"),
        ("-4,88", "-4,88"),
        ("123456", "123456"),
        ("9434765919", "a text of 10 characters"),
        ("Jane Roe", "a text of 8 characters"),
        ("17.05.1960", "a text of 10 characters"),
    ],
)
def test_described__shows_short_numbers_and_lengths(text: str | None, shown: str) -> None:
    assert described(text) == shown


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("1/2/19", "9/9/99"),
        ("Müller", "AAAAAA"),
        ("S7-0001", "A9-9999"),
        ("", ""),
        ("x" * 25, "A" * 25),
        ("x" * 30, "A" * 25 + " ..."),
    ],
)
def test_form_of__says_how_a_text_is_written_and_not_what(text: str, form: str) -> None:
    assert form_of(text) == form


@pytest.mark.parametrize(
    ("text", "shown"),
    [("180,5", "180,5"), ("0.70", "0.70"), ("1234", "1234"), ("P12345", "A99999"), ("19600513", "99999999")],
)
def test_shown_cell__five_digits_in_a_row_may_name_a_person(text: str, shown: str) -> None:
    assert shown_cell(text) == shown
