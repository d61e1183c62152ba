"""The rules under which numbers may leave, and those of some custodians with their sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class ReleaseRule(StrEnum):
    """How much of exact tables may leave; see docs/release.md."""

    NONE = "none"  # everything, exact
    STANDARD = "standard"  # small counts, and what gives them by subtraction, are hidden
    STRICT = "strict"  # counts are rounded as well, and whatever narrows a hidden one is taken away


DEFAULT_K: Final = 10
DEFAULT_BASES: Final[Mapping[ReleaseRule, int]] = {ReleaseRule.STANDARD: 1, ReleaseRule.STRICT: 5}


@dataclass(frozen=True, slots=True)
class Preset:
    """The release rule of a custodian of data, as its public pages state it."""

    rule: ReleaseRule
    k: int  # counts of 1 to k - 1 are hidden
    base: int  # other counts are rounded to multiples of it
    source: str  # title and address of the page
    says: str  # what it says, in short and in our words
    date: str  # of the page or of what it states, or that none was found


# Read in stored copies of public pages; the custodian's own pages are the rule.
PRESETS: Final[Mapping[str, Preset]] = {
    "opensafely": Preset(
        ReleaseRule.STANDARD,
        8,
        5,
        "OpenSAFELY, Applying statistical disclosure control, https://docs.opensafely.org/sdc/; Updated disclosure "
        "control guidance, https://www.opensafely.org/updated-output-checking-processes/",
        "Outputs based on counts of 7 or fewer are redacted; all counts are then rounded (to the nearest 5, or by "
        "midpoint 6 rounding, which is not offered here).",
        "no date on the stored pages; the documentation's change of 5 to 7 is proposed on 2025-08-20",
    ),
    "all-of-us": Preset(
        ReleaseRule.STRICT,
        21,
        1,
        "All of Us Research Program, Overview of All of Us Research Program Policies for Researchers (Data and "
        "Statistics Dissemination Policy), https://support.researchallofus.org/hc/en-us/articles/4415498292244",
        "No participant count of 1 to 20 is published, nor anything from which one can be derived, percentages "
        "included; 0 is permitted. Curves give counts so far, hence `strict`.",
        "no date on the stored page",
    ),
    "nhs-england": Preset(
        ReleaseRule.STANDARD,
        8,
        5,
        "NHS England (NHS Digital), Disclosure control methodology for Hospital Episode Statistics (HES) and Emergency "
        "Care Data Set (ECDS), https://digital.nhs.uk/data-and-information/data-tools-and-services/data-services/"
        "hospital-episode-statistics/change-to-disclosure-control-methodology-for-hes-and-ecds-from-september-2018",
        "Below national level counts of 1 to 7 are shown as * and others are rounded to the nearest 5; 0 stays; "
        "regression models need no disclosure control.",
        "in force from 2018-09-13",
    ),
    "ukb": Preset(
        ReleaseRule.STANDARD,
        5,
        1,
        "UK Biobank, Sensitive phenotypes and aggregate numbers in publicly available materials, "
        "https://community.ukbiobank.ac.uk/hc/en-gb/articles/24842058268061",
        "5 is the smallest number for any type of publication.",
        "no date on the stored page",
    ),
}
