"""The settings of a study: what a study file may say, checked by pydantic before any work."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import available_timezones

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    field_validator,
    model_validator,
)

from analysis.disclosure.release import DEFAULT_BASES, DEFAULT_K, ReleaseRule
from analysis.disclosure.release import PRESETS as CUSTODIANS
from analysis.follow_up import EcgFinding, FollowUpRules, IndexRule, OutcomeRule
from lvm_core.command_line import nearest
from lvm_core.medicine.body import Bsa
from lvm_core.medicine.lvh import LvhPreset
from lvm_core.settings_text import StrictSettings
from lvm_core.tables import PRESETS, ParticipantsLayout, schemas
from lvm_core.tables.layout import OF_STUDIES, READ

_FILE_NAME: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,59}"

PREDICTED: Final = frozenset(
    column.name for table in (schemas.PREDICTIONS, schemas.RECALIBRATED) for column in table.columns
)
"""Columns of the predictions."""

YES_NO_EXPOSURES: Final = frozenset(
    ("any_ecg_rule", "lvh_cmr", *(name for name in schemas.PREDICTIONS.names if name.startswith("rule_")))
)
"""Columns of the predictions that are yes or no; LVH by CMR is one that a user may add."""

_PERSON: Final = frozenset({"participant_id"})
# The columns that are read of each table; of the participants also the covariates.
_COLUMNS: Final[Mapping[str, frozenset[str]]] = {
    "predictions": PREDICTED | {"af_on_ecg", "lvh_cmr"},
    "persons": frozenset((*READ, *OF_STUDIES)),
    "events": _PERSON | {"date", "code", "system", "source", "reported_date"},
    "ends": frozenset({"region", "source", "end_date", "release"}),
    "deaths": _PERSON | {"death_date", "ltfu_date"},
    "cmr": _PERSON | {"cmr_date", "lvm_cmr_g"},
    "encounters": _PERSON | {"date"},
    "history_starts": _PERSON | {"start_date"},
    "observation_periods": _PERSON | {"start_date", "end_date"},
    "crosswalk": _PERSON | {"record_id"},
}

# Columns that the analysis adds to the rows of people, whose names no covariate may have.
_MADE: Final = frozenset(
    """
    exposure mass_g index_g_m2 lvh lvh_group quartile quartile_median exposure_in_sd_of_sex
    age_band bmi_class lvm_ecg_only_g lvmi_cmr_g_m2 household_id person group imaged af_on_ecg ecg_finding
    index_date eligible history_days body_size_far entry_age_days exit_age_days time_days years
    exit_date outcome excluded status status_code event end_reason placeholder_date event_after_death
    """.split()
)
_NUMBERED: Final = re.compile(r"(product|level)_\d+")

_Days = Annotated[int, Field(ge=0)]
_Table = Literal[
    "predictions", "persons", "events", "ends", "deaths", "cmr", "encounters", "history_starts", "observation_periods"
]
_RECALIBRATED: Final = frozenset(column.name for column in schemas.RECALIBRATED.columns)


class _Strict(StrictSettings):
    model_config = ConfigDict(use_attribute_docstrings=True)


class Inputs(_Strict):
    """Tables of a study, CSV or Parquet. Relative paths are taken from the study's folder."""

    predictions: Path
    """Run folder of `lvm-ai score`, or a table of predictions."""
    predictions_ecg_only: Path | None = None
    """Predictions of the same ECGs by the model that sees the ECG alone: they show what the ECG
    adds."""
    extract: Path | None = None
    """With `shape`: the folder of the extract, or a DuckDB or SQLite file. Other tables that are
    named here take the place of those of the extract."""
    participants: Path | None = None
    """participant_id, region, the covariates, and birth_date where age is the time scale. For the
    layout `omop`: a folder with the tables person and measurement."""
    events: Path | None = None
    """participant_id, date, code, system, source."""
    follow_up_ends: Path
    """region, source, end_date, and release: the label of the data release."""
    code_list: Path | None = None
    """CSV of codes and outcomes; not needed where `code_lists` names a list for each outcome."""
    phecode_map: Path | None = None
    """Map of phecodes to ICD codes, for code lists with phecodes whose records hold ICD codes."""
    deaths: Path | None = None
    """participant_id, death_date, ltfu_date; not where the participants have these dates."""
    cmr: Path | None = None
    """participant_id, cmr_date, lvm_cmr_g."""
    encounters: Path | None = None
    """Hospital cohorts: participant_id, date of each encounter."""
    history_starts: Path | None = None
    """participant_id, start_date of the person's records."""
    observation_periods: Path | None = None
    """participant_id, start_date, end_date; a person may have several. Follow-up ends with the
    period of the index ECG."""
    crosswalk: Path | None = None
    """participant_id, record_id: the record numbers of each person in all other tables."""
    withdrawn: Path | None = None
    """List of people who withdrew."""
    excluded: Path | None = None
    """List of people to leave out, such as the people on whom the model was trained."""


class Index(_Strict):
    """Which ECG opens follow-up."""

    rule: Literal["first", "last_on_or_before", "nearest_on_or_before", "all"] = "first"
    """`first` (on or after `date`, if given), `last_on_or_before` or `nearest_on_or_before` the
    `date`, or `all`."""
    date: dt.date | None = None
    """The date of the rule."""
    max_days: _Days | None = None
    """The most days between the ECG and the date."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        self.as_rule()
        return self

    def as_rule(self) -> IndexRule:
        """Return the rule of follow-up; it refuses what is not possible."""
        return IndexRule(self.rule, self.date, self.max_days)


class Outcome(_Strict):
    """An outcome of the code list."""

    name: str
    """Name in the code list. It becomes a part of file names: letters without accents, digits,
    "_", "-" and "."."""
    label: str | None = None
    """The outcome in words, for tables; by default the name with blanks."""
    incident_sources: Annotated[tuple[str, ...], Field(min_length=1)]
    """Sources whose dates are events."""
    prevalent_sources: tuple[str, ...] = ()
    """Further sources, which count for disease at the index only."""
    af_on_ecg: bool = False
    """AF that the device states on the index ECG is prevalent disease (column `af_on_ecg`)."""

    @field_validator("name")
    @classmethod
    def _names_a_file(cls, name: str) -> str:
        if not re.fullmatch(_FILE_NAME, name):
            raise ValueError(
                "files are named after outcomes: expected at most 60 letters without accents, "
                "digits, '_', '-' and '.', not '.' or '-' at first. Rename it here and in the code "
                "list, and write it in words as its `label`"
            )
        return name

    @property
    def words(self) -> str:
        """The outcome in words."""
        return self.label or self.name.replace("_", " ")


class PublishedCodes(_Strict):
    """A list of codes in the shape in which others publish it."""

    outcome: str
    """Outcome that its codes belong to."""
    file: Path
    """CSV of OpenCodelists, of the HDR UK Phenotype Library or of CALIBER, or a concept set of
    ATLAS (JSON)."""
    system: str | None = None
    """Coding system, where the file does not say it."""
    match: Literal["exact", "prefix"] | None = None
    """Whether a code holds its subcodes (`prefix`); needed for ICD and OPCS."""


class StudyCovariate(_Strict):
    """A covariate of model 4, a column of the participants."""

    name: str
    """Name of the column."""
    kind: Literal["number", "yes_no", "category"]
    """What the column holds."""
    reference: str | None = None
    """For a category: the level with which the others are compared."""
    label: str | None = None
    """The covariate in words with its unit, for tables."""
    mediator: bool = False
    """The covariate probably lies between LV mass and the outcome (blood pressure, heart-failure
    drugs): model 4 then has a warning."""

    @property
    def words(self) -> str:
        """The covariate in words."""
        return self.label or self.name.replace("_", " ")

    @field_validator("name")
    @classmethod
    def _is_free(cls, name: str) -> str:
        if name in PREDICTED | _MADE or _NUMBERED.fullmatch(name):
            raise ValueError(
                f"{name} is a name of the predictions or of this analysis, whose values would "
                "take the place of the participants'; give the column another name, as in "
                f"`columns: {{persons: {{my_{name}: {name}}}}}`. Age, sex, height and weight are "
                "in models 2 and 3 already"
            )
        return name

    @model_validator(mode="after")
    def _has_reference(self) -> Self:
        if (self.kind == "category") != (self.reference is not None):
            raise ValueError(
                f"covariate {self.name} is of kind {self.kind} with reference {self.reference!r}; "
                "a category needs its reference level, other kinds have none"
            )
        return self


class CmrSettings(_Strict):
    """How ECGs and CMR are paired."""

    max_days_ecg_cmr: _Days | None
    """The most days between ECG and CMR; null only where the CMR table has no dates."""


class Training(_Strict):
    """What is known of the people on whom the model was trained."""

    is_uk_biobank: bool = False
    """The cohort is UK Biobank, in which the published models were trained. Without one of the next
    two settings the overlap is then unknown, and every result says so."""
    exclude_ids: Path | None = None
    """List of the training set; its people are left out as `excluded_by_list`."""
    exclude_imaged_before: dt.date | None = None
    """People with a CMR before this date may belong to the training set. Results against CMR are
    for people imaged on or after it, with the others beside them; hazard ratios are shown for both.
    Needs `inputs.cmr` with dates."""

    @property
    def overlap(self) -> str:
        """Whether people of the training set may be among those analysed."""
        if not self.is_uk_biobank:
            return "none expected"
        if self.exclude_ids is not None:
            return "excluded by list"
        if self.exclude_imaged_before is not None:
            date = self.exclude_imaged_before
            return f"against CMR imaged on or after {date} only; outcomes shown before and after"
        return "unknown"


class Release(_Strict):
    """What may leave of the tables of a study, as the custodian of the data has it."""

    preset: Literal["opensafely", "all-of-us", "nhs-england", "ukb"] | None = None
    """The rule of a custodian, which sets the other three: see docs/release.md."""
    rule: Literal["none", "standard", "strict"] = "standard"
    """`standard` hides small counts and what gives them by subtraction; `strict` also rounds, and
    takes away whatever narrows a hidden count; `none` leaves everything exact."""
    k: Annotated[int, Field(ge=0)] = DEFAULT_K
    """Counts of 1 to k - 1 are hidden, at least those of 1; 0 with the rule `none`."""
    base: Annotated[int, Field(ge=1)] = 1
    """Other counts are rounded to multiples of this, 1 for exact ones; by default 5 with
    `strict`."""

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        others = sorted(set(given) - {"preset"})
        preset = CUSTODIANS.get(given.get("preset", ""))
        if preset is not None:
            own = {"rule": preset.rule.value, "k": preset.k, "base": preset.base}
            if any(given[name] != own.get(name) for name in others):
                raise ValueError(
                    f"preset {given['preset']} sets rule, k and base, but {', '.join(others)} is given too; expected "
                    f"the preset alone, or `release: {{rule: {own['rule']}, k: {own['k']}, base: {own['base']}}}` "
                    "with your changes"
                )
            return {**given, **own}
        if given.get("rule") == ReleaseRule.NONE:
            return {"k": 0, "base": 1, **given}
        if given.get("rule") == ReleaseRule.STRICT:
            return {"base": DEFAULT_BASES[ReleaseRule.STRICT], **given}
        return given

    @model_validator(mode="after")
    def _hides(self) -> Self:
        if self.rule == "none" and (self.k > 0 or self.base > 1):
            raise ValueError(f"rule none hides and rounds nothing, but k is {self.k} and base {self.base}")
        if self.rule != "none" and self.k < 2:
            raise ValueError(
                f"k is {self.k}, expected 2 or more with rule {self.rule}; write `release: none` to hide nothing"
            )
        return self


def _release(given: Any) -> Any:
    """Return the settings of a release rule from its name."""
    return {"rule": given} if isinstance(given, str) else given


class Hospital(_Strict):
    """Follow-up of hospital cohorts, from `inputs.encounters`."""

    grace_days: _Days = 0
    """Follow-up ends this long after the last encounter."""
    min_encounters: Annotated[int, Field(ge=0)] = 0
    """The fewest encounters before the index ECG."""


def _one_name_or_several(schema: dict[str, Any]) -> None:
    """Say in the JSON schema that a column may have one name, for editors."""
    several = schema["properties"]["columns"]["additionalProperties"]
    schema["properties"]["columns"]["additionalProperties"] = {"anyOf": [{"type": "string"}, several]}


class PersonsLayout(ParticipantsLayout):
    """What the columns of the participants mean, where names or units differ from ours."""

    model_config = ConfigDict(json_schema_extra=_one_name_or_several)

    file: Path | None = None
    """A layout file, relative to the study's folder; then no other setting is given here."""

    @model_validator(mode="after")
    def _file_stands_alone(self) -> Self:
        others = sorted(self.model_fields_set - {"file"})
        if self.file is not None and others:
            raise ValueError(f"file stands alone: write {', '.join(others)} into {self.file}")
        return self


_ONLY_OF_LAYOUTS: Final = frozenset(PersonsLayout.model_fields) - {"sex"}


def _layout(given: Any) -> Any:
    """Return the settings of a layout from a preset's name, a file's path or names of columns."""
    if isinstance(given, str):
        return {"preset": given} if given in PRESETS else {"file": given}
    if not isinstance(given, Mapping):
        return given
    if _ONLY_OF_LAYOUTS & set(given) or isinstance(given.get("sex"), Mapping):
        return given
    return {"columns": given}


_Names = dict[str, str]


class Columns(_Strict):
    """The own names of the columns of each table."""

    predictions: _Names = Field(default={})
    """Of the predictions."""
    persons: Annotated[
        PersonsLayout, BeforeValidator(_layout, json_schema_input_type=str | dict[str, str] | PersonsLayout)
    ] = PersonsLayout()
    """Of the participants, such as `{region: centre_nation}`; or their layout, as
    `lvm-ai score --participants-layout` takes it: a preset (ukb, ukb-rap, ehr, omop), the path of a
    layout file, or its settings. `columns` of a layout may also name covariates."""
    events: _Names = Field(default={})
    """Of the events."""
    ends: _Names = Field(default={})
    """Of the ends of follow-up."""
    deaths: _Names = Field(default={})
    """Of the deaths."""
    cmr: _Names = Field(default={})
    """Of the CMR examinations."""
    encounters: _Names = Field(default={})
    """Of the encounters."""
    history_starts: _Names = Field(default={})
    """Of the first days of records."""
    observation_periods: _Names = Field(default={})
    """Of the observation periods."""
    crosswalk: _Names = Field(default={})
    """Of the record numbers."""

    def of(self, table: str) -> Mapping[str, Any]:
        """Return the names of a table's columns, by ours."""
        own = getattr(self, table)
        return own.columns if isinstance(own, ParticipantsLayout) else own


class Study(_Strict):
    """A study. What each rule means is in docs/methods.md and docs/follow_up.md."""

    name: str
    """Name of the study, for the report."""
    cohort: str = "cohort"
    """Short name of the cohort, for meta-analyses."""
    inputs: Inputs
    """The tables."""
    shape: Literal["ukb-rap", "ehr", "omop"] | None = None
    """Shape of `inputs.extract`, from which tables are taken that `inputs` does not name: UK
    Biobank's platform, a hospital's records, or OMOP's common data model."""
    time_zone: str | None = None
    """Where the hospital is, as America/New_York: times with a zone in the extract are of the day
    there."""
    allow_unmatched: bool = False
    """Go on although many people with ECGs are not among the participants."""
    events_format: Literal["records", "ukb_wide", "ml4h"] = "records"
    """Format of `inputs.events`."""
    columns: Columns = Columns()
    """The own names of the columns of each table, such as `persons: {region: centre_nation}`."""
    date_formats: dict[_Table, str] = Field(default={})
    """The strptime format of each table whose dates are not ISO."""
    index: Index = Index()
    """Which ECG opens follow-up."""
    exposure: str = "lvmi_pred_g_m2"
    """Column of the predictions; with a recalibrated column, LVH is recalibrated too. A yes/no
    column (`any_ecg_rule`, `rule_avl` ..., or `lvh_cmr`: LVH by CMR) is compared as yes against
    no."""
    accept_people: bool = False
    """Go on although the participants as a whole look wrong (units, sexes or ages)."""
    allow_unknown: bool = False
    """Go on although nobody of a list (`withdrawn`, `excluded`, `exclude_ids`) is in any table, or
    no record has a code of an outcome."""
    code_lists: tuple[PublishedCodes, ...] = ()
    """Lists of codes that others have published, beside `inputs.code_list` or in its place."""
    without_systems: tuple[str, ...] = ()
    """Coding systems of the code list that these records do not hold; their codes are left out."""
    exclude_flags: tuple[str, ...] = ()
    """Quality flags that make an ECG unusable."""
    exclude_ecg: tuple[EcgFinding, ...] = ()
    """Findings on the index ECG for which people are left out: `paced`, `lbbb`, `rbbb`,
    `other_block`, `qrs_120` (QRS of 120 ms or more). No other ECG takes its place; people of whom
    it is unknown stay."""
    outcomes: Annotated[tuple[Outcome, ...], Field(min_length=1)]
    """One or more outcomes."""
    primary_outcome: str
    """Name of one of them."""
    negative_control: Outcome | None = None
    """An outcome that should not depend on LV mass."""
    covariates: tuple[StudyCovariate, ...] = ()
    """Covariates of model 4."""
    clinical_score: StudyCovariate | None = None
    """A clinical score, a number of the participants: what the ECG adds to it, and what it adds to
    age and sex beside the ECG."""
    rows: Literal["same", "all"] = "same"
    """Rows of the models: `same`, those that are complete for the largest model, so that models
    differ in their adjustment alone; or `all`, for each model those that it can take."""
    missing: Literal["complete", "impute"] = "complete"
    """Missing covariates: `complete` rows alone, or `impute`: multiple imputation beside them."""
    imputations: Annotated[int, Field(ge=2)] = 20
    """How many tables are imputed."""
    household: str | None = None
    """Column of the participants that names the household. Errors of Cox models are then by
    household; a person without one is a household alone."""
    prevalent_window_days: _Days | None = None
    """How far back an outcome counts as prevalent; null for all history."""
    min_history_days: _Days = 0
    """Records must begin this long before the index ECG."""
    max_days_body_size: _Days | None = None
    """The most days between the ECG and height and weight; further away the index is unknown. Null:
    any distance."""
    latency_days: _Days = 0
    """Landmark: the clock starts this long after the ECG."""
    time_scale: Literal["follow_up", "attained_age"] = "follow_up"
    """Time scale of the Cox models."""
    hospital: Hospital | None = None
    """Follow-up ends with the last encounter."""
    sd: Literal["cohort", "by_sex"] | Annotated[float, Field(gt=0)] = "cohort"
    """One SD: that of the cohort, that of each sex, or a fixed value in the exposure's unit."""
    horizon_years: Annotated[float, Field(gt=0)] = 5.0
    """Horizon of absolute risks; it ends where fewer than 50 people or 10 % are at risk."""
    cmr: CmrSettings | None = None
    """Needed with `inputs.cmr`."""
    training: Training = Training()
    """The people on whom the model was trained."""
    lvh_preset: LvhPreset = LvhPreset.KHURSHID2021
    """Limits of LVH; the predictions must have the same."""
    bsa_formula: Bsa = Bsa.DUBOIS
    """Formula of the body surface area; the predictions must have the same."""
    model_strata: bool = False
    """Allow predictions of several models; SD and hazard ratios are then by model."""
    release: Annotated[
        Release, BeforeValidator(_release, json_schema_input_type=Literal["none", "standard", "strict"] | Release)
    ] = Release()
    """What may leave: the name of a rule, such as `release: standard`, or its settings."""
    bootstrap: Annotated[int, Field(ge=0)] = 200
    """Samples of each bootstrap (regression calibration, standardised risks); 0: no bootstrap."""
    seed: Annotated[int, Field(ge=0)] = 1
    """Seed of everything random."""
    hazard_ratios: bool = True
    """Fit Cox models; false: follow-up only."""
    report: bool = True
    """Write `export/`: tables, figures, report."""

    _has_masking: bool = PrivateAttr(default=False)  # the file has the setting that `release` replaces

    @model_validator(mode="wrap")
    @classmethod
    def _masking_is_strict(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Take `masking: {k, base}` of earlier files as the rule that it was."""
        if not isinstance(given, Mapping) or "masking" not in given:
            return handler(given)
        if "release" in given:
            raise ValueError("masking and release are both given; expected release alone")
        old = given["masking"]
        is_known = isinstance(old, Mapping) and not set(old) - {"k", "base"}
        if not is_known or not all(isinstance(value, int) and value >= 0 for value in old.values()):
            raise ValueError(
                f"masking is {old!r}; write `release: strict`, or `release: {{rule: strict, k: 10, base: 5}}`"
            )
        is_off = old.get("k", DEFAULT_K) in (0, 1)
        if is_off and old.get("base") != 1:
            raise ValueError("masking rounds but hides nothing; write `release: none`, or `release: strict`")
        rule = {"rule": "none"} if is_off else {"rule": "strict", **old}
        made = handler({**{name: value for name, value in given.items() if name != "masking"}, "release": rule})
        made._has_masking = True
        return made

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know of the file: settings that have a new name."""
        if not self._has_masking:
            return ()
        own = self.release
        new = "none" if own.rule == "none" else f"{{rule: strict, k: {own.k}, base: {own.base}}}"
        return (f"the setting masking is now `release: {new}`; write that, or `release: standard`",)

    @field_validator("exclude_ecg", mode="before")
    @classmethod
    def _findings_are_known(cls, given: Any) -> Any:
        known = [str(one) for one in EcgFinding]
        for one in given if isinstance(given, list | tuple) else []:
            if isinstance(one, str) and one not in known:
                raise ValueError(f"{one!r} is no finding{nearest(one, known)}, expected some of {', '.join(known)}")
        return given

    @model_validator(mode="after")
    def _primary_is_there(self) -> Self:
        names = [outcome.name for outcome in self.outcomes]
        if len({name.casefold() for name in names}) != len(names):
            raise ValueError(f"outcomes are {', '.join(names)}, expected each once")
        if self.primary_outcome not in names:
            raise ValueError(f"primary_outcome is {self.primary_outcome!r}, expected one of {', '.join(names)}")
        if self.negative_control is not None and self.negative_control.name in names:
            raise ValueError(f"negative_control {self.negative_control.name!r} is an outcome too")
        return self

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if (self.inputs.cmr is None) != (self.cmr is None) and self.shape != "ukb-rap":
            raise ValueError(
                "inputs.cmr and cmr (with max_days_ecg_cmr) are needed together: how far an ECG "
                "may be from its CMR is part of the study"
            )
        if (self.hospital is None) != (self.inputs.encounters is None) and self.shape not in ("ehr", "omop"):
            raise ValueError(
                "hospital and inputs.encounters are needed together: follow-up then ends with the "
                "last encounter, and the grace after it is part of the study"
            )
        if self.max_days_body_size is not None and self.exposure.endswith("_g"):
            raise ValueError("max_days_body_size is about the index, but the exposure is the mass")
        if self.index.rule == "all" and self.missing == "impute":
            raise ValueError("missing: impute takes one ECG a person, expected another index rule than all")
        if self.index.rule == "all" and self.time_scale == "attained_age":
            raise ValueError("index rule all goes with time_scale follow_up only")
        if self.training.exclude_imaged_before is not None and self.inputs.cmr is None and self.cmr is None:
            raise ValueError("training.exclude_imaged_before needs inputs.cmr, whose dates say who was imaged when")
        if self.clinical_score is not None and self.clinical_score.kind != "number":
            raise ValueError(f"clinical_score is of kind {self.clinical_score.kind}, expected number")
        names = [covariate.name for covariate in self.person_columns]
        if len(set(names)) != len(names):
            raise ValueError(f"covariates are {', '.join(names)}, expected each once")
        return self

    @model_validator(mode="after")
    def _has_tables(self) -> Self:
        if (self.shape is None) != (self.inputs.extract is None):
            raise ValueError("shape and inputs.extract are needed together: the shape says what the extract holds")
        if self.shape is None:
            absent = [name for name in ("participants", "events") if getattr(self.inputs, name) is None]
            if absent:
                names = " and ".join(f"inputs.{name}" for name in absent)
                raise ValueError(f"{names} missing; expected the table, or shape and inputs.extract")
        elif self.inputs.events is None and self.events_format != "records":
            raise ValueError(f"events_format is {self.events_format}, but the events are those of the extract")
        return self

    @field_validator("time_zone")
    @classmethod
    def _is_a_zone(cls, name: str | None) -> str | None:
        if name is not None and name not in available_timezones():
            raise ValueError(f"{name!r} is no time zone; expected a name such as America/New_York or Europe/London")
        return name

    @model_validator(mode="after")
    def _has_codes(self) -> Self:
        if self.inputs.code_list is None and not self.code_lists:
            raise ValueError("there are no codes of outcomes; expected inputs.code_list or code_lists")
        return self

    @model_validator(mode="after")
    def _columns_are_known(self) -> Self:
        for table in Columns.model_fields:
            refuse_unknown_columns(self, table, self.columns.of(table))
        return self

    @field_validator("exposure")
    @classmethod
    def _is_no_lvh(cls, name: str) -> str:
        if name in ("lvh_pred", "lvh_recal"):
            raise ValueError(
                f"{name} is compared in every study; choose the index as the exposure, as lvmi_pred_g_m2, "
                "and LVH stands beside it"
            )
        return name

    @property
    def person_columns(self) -> tuple[StudyCovariate, ...]:
        """The columns of the participants that are read as typed: covariates and clinical score."""
        return (*self.covariates, *([self.clinical_score] if self.clinical_score is not None else []))

    @property
    def is_yes_no(self) -> bool:
        """Whether the exposure is yes or no, without steps, quartiles and a dose."""
        return self.exposure in YES_NO_EXPOSURES

    @property
    def recalibrated(self) -> bool:
        """Whether the exposure is a recalibrated one."""
        return self.exposure in _RECALIBRATED

    @property
    def mass_column(self) -> str:
        """The column of the mass that goes with the exposure."""
        return "lvm_recal_g" if self.recalibrated else "lvm_pred_g"

    @property
    def index_column(self) -> str:
        """The column of the index that goes with the exposure."""
        return "lvmi_recal_g_m2" if self.recalibrated else "lvmi_pred_g_m2"

    @property
    def lvh_column(self) -> str:
        """The column of LVH that goes with the exposure."""
        return "lvh_recal" if self.recalibrated else "lvh_pred"

    @property
    def all_outcomes(self) -> tuple[Outcome, ...]:
        """The outcomes, and last the negative control."""
        return (*self.outcomes, *([self.negative_control] if self.negative_control else []))

    def rules(self) -> FollowUpRules:
        """Return the rules of follow-up."""
        outcomes = tuple(
            OutcomeRule(one.name, one.incident_sources, one.prevalent_sources, af_on_ecg=one.af_on_ecg)
            for one in self.all_outcomes
        )
        hospital = self.hospital or Hospital()
        return FollowUpRules(
            outcomes=outcomes,
            index=self.index.as_rule(),
            exposure=self.exposure,
            exposure_is_yes_no=self.is_yes_no,
            exclude_flags=self.exclude_flags,
            exclude_ecg=self.exclude_ecg,
            prevalent_window_days=self.prevalent_window_days,
            latency_days=self.latency_days,
            max_days_body_size=self.max_days_body_size,
            min_history_days=self.min_history_days,
            min_encounters=hospital.min_encounters,
            grace_days=hospital.grace_days,
            time_scale=self.time_scale,
        )


def refuse_unknown_columns(study: Study, table: str, named: Mapping[str, Any]) -> None:
    """Refuse names of columns that a study does not read; they are often misspelt."""
    known = _COLUMNS[table] | ({one.name for one in study.person_columns} if table == "persons" else set())
    unknown = sorted(set(named) - known)
    if unknown:
        raise ValueError(
            f"columns of {table} has {', '.join(unknown)}, which is not read; expected some of "
            f"{', '.join(sorted(known))}, each with the table's own name of it"
        )
