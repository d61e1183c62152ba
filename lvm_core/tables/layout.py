"""Layouts of participant tables: names, codes, units and dates of other people's tables.

Nothing in here is guessed from the data. What a table means that does not follow our own names and
units is written into a small file, or chosen by the name of a preset.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from lvm_core.errors import UsageError
from lvm_core.settings_text import StrictSettings, parse_settings
from lvm_core.tables.values import has_day

KEYS: Final = ("ecg_id", "participant_id")
NUMBERS: Final = ("age_years", "bmi_kg_m2", "height_cm", "weight_kg")
_BIRTH_PARTS: Final = ("birth_year", "birth_month", "birth_day")
READ: Final = (*KEYS, "birth_date", *_BIRTH_PARTS, "sex", *NUMBERS)
"""Columns of a participant table that every command reads, by our names."""
OF_STUDIES: Final = ("region", "ethnicity", "death_date", "ltfu_date", "body_size_date")
"""Columns that only studies read."""

_HeightUnit = Literal["cm", "m", "in"]
_WeightUnit = Literal["kg", "lb"]
# International yard and pound agreement of 1959: 1 in = 2.54 cm, 1 lb = 0.45359237 kg, both exact.
CM_PER_UNIT: Final[Mapping[str, float]] = MappingProxyType({"cm": 1.0, "m": 100.0, "in": 2.54})
KG_PER_UNIT: Final[Mapping[str, float]] = MappingProxyType({"kg": 1.0, "lb": 0.45359237})
_INSTANCE: Final = "{instance}"
_MONTH: Final = re.compile(r"%-?m|%[bBh]")


class Units(StrictSettings):
    """Units of body size."""

    height: _HeightUnit = "cm"
    """Of `height_cm`: cm, m or in."""
    weight: _WeightUnit = "kg"
    """Of `weight_kg`: kg or lb."""


class ParticipantsLayout(StrictSettings):
    """What a participant table means where it does not follow our names and units."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    preset: Literal["ukb", "ukb-rap", "ehr", "omop"] | None = None
    """Begin with a preset; what else is given replaces its settings, column by column."""
    columns: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """The table's own name of each of our columns, or several names of which the first that is
    there is read. Other names than ours are columns for studies, such as covariates."""
    sex: dict[str, Literal["female", "male"]] = Field(default_factory=dict)
    """What the codes of the sex mean, as `{0: female, 1: male}`."""
    regions: dict[str, str] = Field(default_factory=dict)
    """What the codes of the region mean, as `{11003: Wales}`; other regions stay as they are."""
    units: Units = Units()
    """Units of body size."""
    date_format: str | None = None
    """strptime format of the dates, as `%d/%m/%Y`; without it YYYY-MM-DD."""
    births: Literal["day", "month_and_year"] = "day"
    """`month_and_year`: births of which only month and year are known are read as the 15th, and
    ages from them carry the flag `birth_day_assumed`."""
    missing: tuple[str, ...] = ()
    """Codes that mean "unknown", such as -1 or 999, in every column but the identifiers."""
    decimal: Literal[",", "."] | None = None
    """Decimal sign of numbers; without it a comma is one where commas do not part the columns."""
    instance: Annotated[int, Field(ge=0, le=99)] = 2
    """UK Biobank's visit that ages and body sizes are taken from; 2 is the first imaging visit."""

    @field_validator("columns", mode="before")
    @classmethod
    def _several_names(cls, columns: Any) -> Any:
        if not isinstance(columns, Mapping):
            return columns
        return {name: (own,) if isinstance(own, str) else own for name, own in columns.items()}

    @field_validator("sex", "regions", mode="before")
    @classmethod
    def _codes_are_texts(cls, codes: Any) -> Any:
        if not isinstance(codes, Mapping):
            return codes
        return {str(code): meaning for code, meaning in codes.items()}

    @field_validator("missing", mode="before")
    @classmethod
    def _missing_codes_are_texts(cls, codes: Any) -> Any:
        if not isinstance(codes, list | tuple):
            return codes
        return tuple(str(code).strip() for code in codes)

    @field_validator("date_format")
    @classmethod
    def _has_a_year(cls, date_format: str | None) -> str | None:
        if date_format is not None and "%Y" not in date_format:
            raise ValueError(
                f"{date_format!r} has no year in four digits; expected strptime's signs, for example %d/%m/%Y"
            )
        return date_format

    @model_validator(mode="after")
    def _births_go_together(self) -> Self:
        has_year, has_month = "birth_year" in self.columns, "birth_month" in self.columns
        if has_year != has_month:
            raise ValueError("birth_year and birth_month are needed together")
        if has_year and "birth_day" not in self.columns and self.births == "day":
            raise ValueError(
                "birth_year and birth_month without a day need `births: month_and_year`, which "
                "reads them as the 15th of the month and flags the ages"
            )
        return self

    @model_validator(mode="after")
    def _date_format_suits_births(self) -> Self:
        problem = date_format_problem(self.date_format, self.births)
        if problem is not None:
            raise ValueError(problem)
        return self

    @property
    def missing_codes(self) -> frozenset[str]:
        """The codes that mean "unknown"."""
        return frozenset(self.missing)

    def names_of(self, name: str) -> tuple[str, ...]:
        """Return the names under which one of our columns is looked for; ours if none is given."""
        given = self.columns.get(name, (name,))
        return tuple(own.replace(_INSTANCE, str(self.instance)) for own in given)

    def resolved(self) -> ParticipantsLayout:
        """Return the layout with the settings of its preset filled in."""
        if self.preset is None:
            return self
        base = PRESETS[self.preset]
        given = {name: getattr(self, name) for name in self.model_fields_set}
        given["columns"] = {**base.columns, **self.columns}
        return base.model_copy(update=given)


def date_format_problem(date_format: str | None, births: str) -> str | None:
    """Return why births cannot be read by a format of dates; None where they can."""
    if date_format is None or has_day(date_format):
        return None
    if not _MONTH.search(date_format):
        return f"date_format is {date_format!r}, a year alone, from which no age is computed"
    if births == "day":
        return (
            f"date_format is {date_format!r}, which has no day; births of month and year need "
            "`births: month_and_year`, which reads them as the 15th and flags the ages"
        )
    return None


# UK Biobank, Data Showcase: field 31 sex (0 female, 1 male), 21003 age when attended assessment
# centre, 50 standing height (cm), 21002 weight (kg), 21001 BMI (kg/m2). Codes -1 and -3 are "do not
# know" and "prefer not to answer".
# Of studies: 54 assessment centre, of the first visit (data coding 10; all imaging centres are in
# England), 40000 date of death, 191 date lost to follow-up, 53 date of attending the centre.
_CENTRES: Final = {
    "England": "10003 Stockport,11001 Manchester,11002 Oxford,11006 Stoke,11007 Reading,11008 Bury,11009 Newcastle,"
    "11010 Leeds,11011 Bristol,11012 Barts,11013 Nottingham,11014 Sheffield,11016 Liverpool,11017 Middlesborough,"
    "11018 Hounslow,11020 Croydon,11021 Birmingham",
    "Scotland": "11004 Glasgow,11005 Edinburgh",
    "Wales": "11003 Cardiff,11022 Swansea,11023 Wrexham",
}


def _nations() -> dict[str, str]:
    """Return the nation of each centre of UK Biobank, by its code and by its name."""
    named = {nation: [one.split(" ", 1) for one in centres.split(",")] for nation, centres in _CENTRES.items()}
    nations = {text: nation for nation, pairs in named.items() for pair in pairs for text in pair}
    return {**nations, "Stockport (pilot)": "England"}


def _uk_biobank(columns: Mapping[str, tuple[str, ...]]) -> ParticipantsLayout:
    return ParticipantsLayout(
        columns=dict(columns), sex={"0": "female", "1": "male"}, regions=_nations(), missing=("-1", "-3")
    )


PRESETS: Final[Mapping[str, ParticipantsLayout]] = MappingProxyType(
    {
        "ukb": _uk_biobank(
            {
                "participant_id": ("eid", "f.eid"),
                "sex": ("31-0.0", "f.31.0.0", "sex"),
                "age_years": ("21003-{instance}.0", "f.21003.{instance}.0", "age_years"),
                "height_cm": ("50-{instance}.0", "f.50.{instance}.0", "height_cm"),
                "weight_kg": ("21002-{instance}.0", "f.21002.{instance}.0", "weight_kg"),
                "bmi_kg_m2": ("21001-{instance}.0", "f.21001.{instance}.0", "bmi_kg_m2"),
                "region": ("54-0.0", "f.54.0.0", "region"),
                "death_date": ("40000-0.0", "f.40000.0.0", "death_date"),
                "ltfu_date": ("191-0.0", "f.191.0.0", "ltfu_date"),
                "body_size_date": ("53-{instance}.0", "f.53.{instance}.0", "body_size_date"),
            }
        ),
        "ukb-rap": _uk_biobank(
            {
                "participant_id": ("participant.eid", "eid"),
                "sex": ("participant.p31", "p31", "sex"),
                "age_years": ("participant.p21003_i{instance}", "p21003_i{instance}", "age_years"),
                "height_cm": ("participant.p50_i{instance}", "p50_i{instance}", "height_cm"),
                "weight_kg": ("participant.p21002_i{instance}", "p21002_i{instance}", "weight_kg"),
                "bmi_kg_m2": ("participant.p21001_i{instance}", "p21001_i{instance}", "bmi_kg_m2"),
                "region": ("participant.p54_i0", "p54_i0", "region"),
                "death_date": ("participant.p40000_i0", "p40000_i0", "death_date"),
                "ltfu_date": ("participant.p191", "p191", "ltfu_date"),
                "body_size_date": ("participant.p53_i{instance}", "p53_i{instance}", "body_size_date"),
            }
        ),
        "ehr": ParticipantsLayout(
            columns={
                "participant_id": ("participant_id", "patient_id", "person_id", "empi", "mrn"),
                "sex": ("sex", "gender", "gender_legal_sex"),
                "birth_date": ("birth_date", "date_of_birth", "dob"),
                "region": ("region", "site", "hospital"),
                "death_date": ("death_date", "date_of_death", "dod"),
            }
        ),
        # OMOP CDM 5.4, table PERSON; body size comes from MEASUREMENT (lvm_core/tables/people.py).
        "omop": ParticipantsLayout(
            columns={
                "participant_id": ("person_id",),
                "sex": ("gender_concept_id",),
                "birth_year": ("year_of_birth",),
                "birth_month": ("month_of_birth",),
                "birth_day": ("day_of_birth",),
                "region": ("region",),
            },
            sex={"8507": "male", "8532": "female"},
            births="month_and_year",
            missing=("0",),
        ),
    }
)
"""Layouts that ship with the project, by name; each has its page in docs/."""

OWN_LAYOUT: Final = ParticipantsLayout()
"""The layout of tables that follow our own names and units."""


def layout_of_file(data: bytes, name: str) -> ParticipantsLayout:
    """Read a layout file.

    Raises:
        UsageError: it is no YAML, has mistakes (all of them, with their lines), or names a column
            that no command reads, which is often a misspelt one.
    """
    layout = parse_settings(data, ParticipantsLayout, name)
    unknown = sorted(set(layout.columns) - {*READ, *OF_STUDIES})
    if unknown:
        raise UsageError(
            f"{name}: columns has {', '.join(unknown)}, which is not read; expected some of "
            f"{', '.join((*READ, *OF_STUDIES))}. Covariates of a study are named in its own `columns`"
        )
    return layout


def preset_layout(name: str) -> ParticipantsLayout | None:
    """Return the layout of a preset's name; None where there is none."""
    return ParticipantsLayout.model_validate({"preset": name}) if name in PRESETS else None
