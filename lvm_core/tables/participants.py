"""Participants: joined to ECGs (age, sex, body size, why one is unknown), and judged as a table."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lvm_core.errors import RejectReason
from lvm_core.medicine.body import bmi_kg_m2
from lvm_core.medicine.lvh import SEX_UNKNOWN_CODE, parse_sex, sex_codes
from lvm_core.signal.quality import (
    AGE_RANGE_YEARS,
    BMI_RANGE_KG_M2,
    HEIGHT_RANGE_CM,
    WEIGHT_RANGE_KG,
    PlausibleRange,
    QualityFlag,
    Rejection,
    check_age_years,
    check_bmi_kg_m2,
)
from lvm_core.tables.layout import NUMBERS
from lvm_core.tables.people import MADE_BY_PLANNER, People, refuse_duplicate_keys
from lvm_core.tables.values import PLACEHOLDER_DATES, PLACEHOLDER_MONTHS

AGE_STALE_DAYS: Final = 365
"""An age given once is not that of each of recordings that lie further apart."""
NO_RECORDING_DATE: Final = "the date of the recording is not known, so that birth_date gives no age"
_ASSUMED: Final = "birth_day_assumed"
_SIZES: Final = (
    ("height_cm", HEIGHT_RANGE_CM, QualityFlag.HEIGHT_OUT_OF_RANGE),
    ("weight_kg", WEIGHT_RANGE_KG, QualityFlag.WEIGHT_OUT_OF_RANGE),
)


@dataclass(frozen=True)
class Demographics:
    """What the participant table says of the people of some ECGs; NaN and None where unknown."""

    found: NDArray[np.bool_]  # (n,) bool, whether the table has a row for the ECG
    participant_id: list[str | None]  # the person, from the ECG or else from the table
    age_years: NDArray[np.float32]  # (n,) float32 as given or computed, also when implausible
    sex_code: NDArray[np.int8]  # (n,) int8, 1 male, 0 female, -1 unknown
    bmi_kg_m2: NDArray[np.float32]  # (n,) float32, also when implausible
    height_cm: NDArray[np.float32]  # (n,) float32, NaN when implausible
    weight_kg: NDArray[np.float32]  # (n,) float32, NaN when implausible
    flags: list[tuple[str, ...]]  # quality flags of each ECG
    no_age_because: list[str | None]  # why the age of an ECG is unknown; None where it is known
    no_bmi_because: list[str | None]  # why the BMI of an ECG is unknown; None where it is known


@dataclass(frozen=True)
class PeopleTable:
    """A participant table as it was read, and the same table ready for joining."""

    read: People
    table: ParticipantTable


class ParticipantTable:
    """Participants by key, for joining.

    A row with an `ecg_id` is found by it, one without by its `participant_id`; `ecg_id` wins.
    """

    def __init__(self, table: pa.Table) -> None:
        self.arrow = table
        ecg_ids, people = table["ecg_id"].to_pylist(), table["participant_id"].to_pylist()
        self._people = people
        self._by_ecg = {key: i for i, key in enumerate(ecg_ids) if key is not None}
        self._by_person = {key: i for i, key in enumerate(people) if key is not None and ecg_ids[i] is None}
        self._numbers = {name: np.concatenate([_floats(table[name]), [np.nan]]).astype(np.float32) for name in NUMBERS}
        self._sex = np.concatenate(
            [sex_codes(parse_sex(s) for s in table["sex"].to_pylist()), [SEX_UNKNOWN_CODE]]
        ).astype(np.int8)
        self._births = table["birth_date"].to_pylist()
        self._assumed = table[_ASSUMED].to_pylist()
        self._stale = table[MADE_BY_PLANNER].to_pylist()

    @classmethod
    def of(cls, people: People) -> ParticipantTable:
        """Return the table of participants that were read, when each key is there once.

        Raises:
            UsageError: a row has no key, or a key is there twice.
        """
        refuse_duplicate_keys(people.table, people.raw.name)
        return cls(people.table)

    def __len__(self) -> int:
        return int(self.arrow.num_rows)

    def knows_any(self, ecg_ids: Collection[str], people: Collection[str]) -> bool:
        """Return whether any of these ECGs or people has a row."""
        return any(e in self._by_ecg for e in ecg_ids) or any(p in self._by_person for p in people)

    def n_without_ecg(self, ecg_ids: Collection[str], people: Collection[str]) -> int:
        """Return how many rows are of none of these ECGs and people."""
        return sum(e not in ecg_ids for e in self._by_ecg) + sum(p not in people for p in self._by_person)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the rows."""
        return (*self._by_ecg, *self._by_person)

    @property
    def unknown_throughout(self) -> list[str]:
        """What a full model needs and nobody in the table has: age, sex or BMI."""
        known = {name: self.arrow[name].null_count < len(self) for name in ("birth_date", "sex", *NUMBERS)}
        needs = {
            "age (age_years or birth_date)": known["age_years"] or known["birth_date"],
            "sex": known["sex"],
            "BMI (bmi_kg_m2, or height_cm and weight_kg)": known["bmi_kg_m2"]
            or (known["height_cm"] and known["weight_kg"]),
        }
        return [name for name, there in needs.items() if not there]

    @property
    def content_sha256(self) -> str:
        """Digest of the content, whatever the order of rows and the file format."""
        columns = [name for name in self.arrow.column_names if name != MADE_BY_PLANNER]
        rows = zip(*(self.arrow[name].to_pylist() for name in columns), strict=True)
        text = json.dumps([columns, sorted(repr(row) for row in rows)], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def person_of(self, ecg_id: str) -> str | None:
        """Return the person of an ECG where a row of the table is keyed by it."""
        row = self._by_ecg.get(ecg_id)
        return None if row is None else self._people[row]

    def ecg_ids_of(self, is_excluded: Callable[[str | None], bool]) -> frozenset[str]:
        """Return the ECGs that rows keyed by `ecg_id` give to excluded people."""
        return frozenset(e for e, row in self._by_ecg.items() if is_excluded(self._people[row]))

    def rows_of(self, ecg_id: Sequence[str], participant_id: Sequence[str | None]) -> NDArray[np.intp]:
        """Return the row of each ECG, by its key or its person, (n,) intp; -1 without one."""
        rows = [
            self._by_ecg.get(e, -1 if p is None else self._by_person.get(p, -1))
            for e, p in zip(ecg_id, participant_id, strict=True)
        ]
        return np.array(rows, dtype=np.intp)

    def with_keys(self, ecg_id_of: Callable[[str], str], participant_id_of: Callable[[str], str]) -> ParticipantTable:
        """Return the table with other keys, such as pseudonyms."""
        table = self.arrow
        for name, make in (("ecg_id", ecg_id_of), ("participant_id", participant_id_of)):
            keys = [None if key is None else make(key) for key in table[name].to_pylist()]
            table = table.set_column(table.schema.get_field_index(name), name, pa.array(keys, pa.string()))
        return ParticipantTable(table)

    def join(
        self, ecg_id: Sequence[str], participant_id: Sequence[str | None], recorded_at: Sequence[dt.datetime | None]
    ) -> Demographics:
        """Return the demographics of ECGs, row by row.

        Age is in completed years where the birth date and the recording's date are known, else
        the given age; BMI is computed from height and weight when absent.
        """
        index = self.rows_of(ecg_id, participant_id)
        rows = index.tolist()
        given = {name: column[index] for name, column in self._numbers.items()}
        values = dict(given)
        flags: list[list[str]] = [[] for _ in rows]
        for i, row in enumerate(rows):
            age = None if row < 0 else self._age_from_birth(row, recorded_at[i])
            if age is not None:
                values["age_years"][i] = age
                if self._assumed[row]:
                    flags[i].append(QualityFlag.BIRTH_DAY_ASSUMED)
            elif row >= 0 and self._stale[row]:
                flags[i].append(QualityFlag.AGE_NOT_AT_RECORDING)
        _clean_body_size(values, flags)
        person = [
            p if p is not None or row < 0 else self._people[row] for p, row in zip(participant_id, rows, strict=True)
        ]
        no_age: list[str | None] = [None] * len(rows)
        for i in np.flatnonzero(np.isnan(values["age_years"])).tolist():
            no_age[i] = self._no_age_because(rows[i], recorded_at[i])
        no_bmi: list[str | None] = [None] * len(rows)
        for i in np.flatnonzero(np.isnan(values["bmi_kg_m2"])).tolist():
            no_bmi[i] = _no_bmi_because(float(given["height_cm"][i]), float(given["weight_kg"][i]))
        return Demographics(
            found=index >= 0,
            participant_id=person,
            age_years=values["age_years"],
            sex_code=self._sex[index],
            bmi_kg_m2=values["bmi_kg_m2"],
            height_cm=values["height_cm"],
            weight_kg=values["weight_kg"],
            flags=[tuple(flag) for flag in flags],
            no_age_because=no_age,
            no_bmi_because=no_bmi,
        )

    def _birth_is_placeholder(self, row: int) -> bool:
        return self._births[row] in PLACEHOLDER_DATES or bool(
            self._assumed[row] and self._births[row] in PLACEHOLDER_MONTHS
        )

    def _age_from_birth(self, row: int, recorded_at: dt.datetime | None) -> int | None:
        birth = self._births[row]
        if birth is None or self._birth_is_placeholder(row):
            return None
        if recorded_at is None or recorded_at.date() in PLACEHOLDER_DATES:
            return None
        return completed_years(birth, recorded_at.date())

    def _no_age_because(self, row: int, recorded_at: dt.datetime | None) -> str:
        if row < 0 or self._births[row] is None:
            return "neither age_years nor birth_date is known"
        if self._birth_is_placeholder(row):
            return f"birth_date {self._births[row]} is a placeholder for an unknown date, and age_years is not known"
        if recorded_at is None or recorded_at.date() in PLACEHOLDER_DATES:
            return NO_RECORDING_DATE
        return "birth_date lies after the date of the recording"

    def without(self, is_excluded: Callable[[str | None, str | None], bool]) -> ParticipantTable:
        """Return the table without the rows of excluded people."""
        keep = [not is_excluded(e, p) for e, p in zip(self.arrow["ecg_id"].to_pylist(), self._people, strict=True)]
        return ParticipantTable(self.arrow.filter(pa.array(keep, pa.bool_())))

    def with_stale_ages(self, dates: dict[str, tuple[dt.datetime, dt.datetime]]) -> ParticipantTable:
        """Return the table with people marked, too, whose ECGs lie over a year apart.

        Args:
            dates: earliest and latest recording of each participant_id.
        """
        ages = self._numbers["age_years"]
        stale = [
            bool(self._stale[i])
            or (
                e is None and p in dates and (dates[p][1] - dates[p][0]).days > AGE_STALE_DAYS and not np.isnan(ages[i])
            )
            for i, (e, p) in enumerate(zip(self.arrow["ecg_id"].to_pylist(), self._people, strict=True))
        ]
        index = self.arrow.schema.get_field_index(MADE_BY_PLANNER)
        return ParticipantTable(
            self.arrow.set_column(index, self.arrow.schema.field(index), pa.array(stale, pa.bool_()))
        )

    def to_parquet(self) -> bytes:
        """Return the table as the bytes of a Parquet file."""
        sink = io.BytesIO()
        pq.write_table(self.arrow, sink, compression="zstd")
        return sink.getvalue()

    @classmethod
    def from_parquet(cls, data: bytes) -> ParticipantTable:
        """Return the table that `to_parquet` wrote."""
        return cls(pq.read_table(io.BytesIO(data)))


def unknown_demographics(participant_id: Sequence[str | None]) -> Demographics:
    """Return demographics for a run without a participant table."""
    n = len(participant_id)
    nan = np.full(n, np.nan, dtype=np.float32)
    sex = np.full(n, SEX_UNKNOWN_CODE, dtype=np.int8)
    because: list[str | None] = ["no participant table was given"] * n
    return Demographics(
        np.zeros(n, dtype=np.bool_), list(participant_id), nan, sex, nan, nan, nan, [()] * n, because, because
    )


def demographics_problem(people: Demographics, i: int) -> Rejection | None:
    """Return why a model that needs age, sex and BMI cannot score the i-th ECG, or None."""
    if not people.found[i]:
        return Rejection(
            RejectReason.PARTICIPANT_MISSING, "no row of the participant table has its ecg_id or participant_id"
        )
    age = check_age_years(float(people.age_years[i]))
    if age is not None:
        return _explained(age, people.no_age_because[i])
    if people.sex_code[i] < 0:
        return Rejection(RejectReason.SEX_UNKNOWN, "sex is not known, and the model needs it")
    bmi = check_bmi_kg_m2(float(people.bmi_kg_m2[i]))
    return None if bmi is None else _explained(bmi, people.no_bmi_because[i])


def _explained(problem: Rejection, because: str | None) -> Rejection:
    return problem if because is None else Rejection(problem.reason, f"{problem.message}: {because}")


def completed_years(birth: dt.date, on: dt.date) -> int | None:
    """Return the age in completed years; None when the date lies before the birth."""
    years = on.year - birth.year - ((on.month, on.day) < (birth.month, birth.day))
    return years if years >= 0 else None


def _clean_body_size(values: dict[str, NDArray[np.float32]], flags: list[list[str]]) -> None:
    """Drop implausible heights and weights, then fill BMI from what is left."""
    for name, limits, flag in _SIZES:
        outside = limits.is_outside(values[name].astype(np.float64))
        values[name] = np.where(outside, np.float32(np.nan), values[name])
        for i in np.flatnonzero(outside):
            flags[i].append(flag)
    height_cm, weight_kg = (values[n].astype(np.float64) for n in ("height_cm", "weight_kg"))
    computed = bmi_kg_m2(height_cm, weight_kg).astype(np.float32)
    values["bmi_kg_m2"] = np.where(np.isnan(values["bmi_kg_m2"]), computed, values["bmi_kg_m2"])
    for name, limits, flag in (
        ("age_years", AGE_RANGE_YEARS, QualityFlag.AGE_OUT_OF_RANGE),
        ("bmi_kg_m2", BMI_RANGE_KG_M2, QualityFlag.BMI_OUT_OF_RANGE),
    ):
        for i in np.flatnonzero(limits.is_outside(values[name].astype(np.float64))):
            flags[i].append(flag)


def _no_bmi_because(height_cm: float, weight_kg: float) -> str:
    """Return why BMI cannot be computed from height and weight as they were given."""
    sizes: tuple[tuple[PlausibleRange, float], ...] = ((HEIGHT_RANGE_CM, height_cm), (WEIGHT_RANGE_KG, weight_kg))
    outside = [limits.message(value) for limits, value in sizes if limits.is_outside(value)]
    unknown = [f"{limits.name} is not known" for limits, value in sizes if np.isnan(value)]
    return f"{'; '.join([*outside, *unknown])}; BMI cannot be computed"


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    return np.asarray(pc.fill_null(pc.cast(column, pa.float64()), np.nan))


# The limits of this table are the project's own, not a paper's: wide enough for the median of any
# cohort of adults, narrow enough for pounds, metres, inches, months and swapped columns.
_MEDIAN_BMI_KG_M2: Final = (18.0, 40.0)
_MEDIAN_HEIGHT_CM: Final = (140.0, 195.0)
# From the limits of BMI: 18 kg/m2 at 150 cm are 40 kg, 40 kg/m2 at 180 cm are 130 kg.
_MEDIAN_WEIGHT_KG: Final = (40.0, 130.0)
# 12-lead ECGs of adults; a cohort with a median beyond is one of children, or of another unit.
_MEDIAN_AGE_YEARS: Final = (18.0, 100.0)
# A given BMI is rounded or of another day than height and weight; half of a table does not differ
# by more than this of BMI.
_LARGEST_MEDIAN_BMI_DIFFERENCE: Final = 0.05
# With five of each sex, normal heights 13 cm apart and spreads of 7 and 6.5 cm, the medians are the
# wrong way round in 1 of 176 samples (400,000 drawn; a test draws 20,000).
_LEAST_OF_EACH_SEX: Final = 5
_LEAST_KNOWN: Final = 5


@dataclass(frozen=True)
class TableJudgement:
    """What a participant table looks like as a whole."""

    medians: dict[str, float]  # median of each number that enough people have; `height_cm_women` and `_men` too
    share_women: float | None  # of people whose sex is known; None where nobody's is
    problems: tuple[str, ...]  # why it cannot be right, each with the likely cause


def judge_people(table: pa.Table) -> TableJudgement:
    """Judge a participant table before anybody in it is scored.

    Args:
        table: columns of `schemas.PARTICIPANTS`, values as given, also implausible ones.
    """
    numbers = {name: _floats(table[name]) for name in NUMBERS}
    sex = np.array([text or "" for text in table["sex"].to_pylist()], dtype=np.str_)
    computed = bmi_kg_m2(_positive(numbers["height_cm"]), _positive(numbers["weight_kg"]))
    given = numbers["bmi_kg_m2"]
    numbers["bmi_kg_m2"] = np.where(np.isnan(given), computed, given)
    medians = {name: _median(values) for name, values in numbers.items()}
    heights = numbers["height_cm"]
    for word, code in (("women", "female"), ("men", "male")):
        medians[f"height_cm_{word}"] = _median(heights[sex == code], _LEAST_OF_EACH_SEX)
    known = {name: median for name, median in medians.items() if median is not None}
    problems = _height_and_weight(known) or _bmi(known, given, computed)
    problems += [*_age(known), *_sexes(known)]
    n_sex = int(np.count_nonzero(sex != ""))
    share = int(np.count_nonzero(sex == "female")) / n_sex if n_sex else None
    return TableJudgement({n: round(m, 2) for n, m in known.items()}, share, tuple(problems))


def _height_and_weight(medians: dict[str, float]) -> list[str]:
    height, weight = medians.get("height_cm"), medians.get("weight_kg")
    low, high = _MEDIAN_HEIGHT_CM
    problems = []
    if height is not None and not low <= height <= high:
        if 1.3 <= height <= 2.2:
            cause = "it looks like metres: set `units: {height: m}` in --participants-layout"
        elif 55 <= height <= 78 and weight is not None and weight < low:
            cause = "it looks like inches: set `units: {height: in}` in --participants-layout"
        elif weight is not None and low <= weight <= high:
            cause = "are height_cm and weight_kg swapped?"
        else:
            cause = "is it another quantity or unit?"
        problems.append(_outside("height_cm", height, _MEDIAN_HEIGHT_CM, "cm", cause))
    low, high = _MEDIAN_WEIGHT_KG
    if weight is not None and not low <= weight <= high:
        cause = "is it another quantity or unit, as pounds or grams?"
        if 1.8 * low <= weight <= 2.3 * high:
            cause = (
                "it looks like pounds: set `units: {weight: lb}` in --participants-layout, unless columns are swapped"
            )
        problems.append(_outside("weight_kg", weight, _MEDIAN_WEIGHT_KG, "kg", cause))
    return problems


def _bmi(medians: dict[str, float], given: NDArray[np.float64], computed: NDArray[np.float64]) -> list[str]:
    median = medians.get("bmi_kg_m2")
    low, high = _MEDIAN_BMI_KG_M2
    problems = []
    if median is not None and not low <= median <= high:
        cause = "is weight in pounds, or is the column another quantity than BMI?"
        problems.append(_outside("bmi_kg_m2", median, _MEDIAN_BMI_KG_M2, "kg/m2", cause))
    both = ~np.isnan(given) & ~np.isnan(computed)
    if np.count_nonzero(both) >= _LEAST_KNOWN:
        apart = float(np.median(np.abs(given[both] - computed[both]) / computed[both]))
        if apart > _LARGEST_MEDIAN_BMI_DIFFERENCE:
            problems.append(
                f"bmi_kg_m2 differs from weight_kg / height_cm squared by {100 * apart:.0f} % on the median of "
                f"{np.count_nonzero(both)} people, expected at most {100 * _LARGEST_MEDIAN_BMI_DIFFERENCE:g} %; are "
                "they of other people, another day or another unit?"
            )
    return problems


def _age(medians: dict[str, float]) -> list[str]:
    median = medians.get("age_years")
    low, high = _MEDIAN_AGE_YEARS
    if median is None or low <= median <= high:
        return []
    cause = "are these children?"
    if median > high:
        cause = "is it in months or days?" if median < 5000 else "is it in days?"
    return [_outside("age_years", median, _MEDIAN_AGE_YEARS, "years", cause)]


def _sexes(medians: dict[str, float]) -> list[str]:
    women, men = medians.get("height_cm_women"), medians.get("height_cm_men")
    if women is None or men is None or men >= women:
        return []
    return [
        f"men are shorter than women on the median ({men:.4g} and {women:.4g} cm); are the codes "
        "of sex the wrong way round?"
    ]


def _outside(name: str, value: float, limits: tuple[float, float], unit: str, cause: str) -> str:
    return (
        f"the median of {name} is {value:.4g} {unit}, expected {limits[0]:g} to {limits[1]:g} "
        f"{unit} in a cohort of adults; {cause}"
    )


def _median(values: NDArray[np.float64], least: int = _LEAST_KNOWN) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) >= least else None


def _positive(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(values > 0, values, np.nan)
