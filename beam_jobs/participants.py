"""The participant table: read and checked once at planning, joined to ECGs inside the units."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from beam_jobs.blocks import EcgRow
from beam_jobs.storage import Storage
from beam_jobs.units import digest
from lvm_core import schemas
from lvm_core.body import bmi_kg_m2
from lvm_core.errors import UsageError
from lvm_core.lvh import SEX_UNKNOWN_CODE, parse_sex, sex_codes
from lvm_core.quality import (
    AGE_RANGE_YEARS,
    BMI_RANGE_KG_M2,
    HEIGHT_RANGE_CM,
    WEIGHT_RANGE_KG,
    QualityFlag,
)
from lvm_core.unknowns import PLACEHOLDER_DATES, UNKNOWN_TEXTS

AGE_STALE_DAYS: Final = 365
_KEYS: Final = ("ecg_id", "participant_id")
_NUMBERS: Final = ("age_years", "bmi_kg_m2", "height_cm", "weight_kg")
_VALUES: Final = ("birth_date", "age_years", "sex", "bmi_kg_m2", "height_cm", "weight_kg")
_STALE: Final = "age_not_at_recording"


@dataclass(frozen=True)
class Demographics:
    """What the participant table says of the ECGs of a block; NaN and None where unknown.

    Attributes:
        found: (n,) bool, whether the table has a row for the ECG.
        participant_id: the person, from the ECG or else from the table.
        age_years: (n,) float32 as given or computed, also when implausible.
        sex_code: (n,) int8, 1 male, 0 female, -1 unknown.
        bmi_kg_m2: (n,) float32, also when implausible.
        height_cm: (n,) float32, NaN when implausible.
        weight_kg: (n,) float32, NaN when implausible.
        flags: quality flags of each row.
    """

    found: NDArray[np.bool_]
    participant_id: list[str | None]
    age_years: NDArray[np.float32]
    sex_code: NDArray[np.int8]
    bmi_kg_m2: NDArray[np.float32]
    height_cm: NDArray[np.float32]
    weight_kg: NDArray[np.float32]
    flags: list[tuple[str, ...]]


class ParticipantTable:
    """Participants by key, for joining.

    A row with an `ecg_id` is found by it, one without by its `participant_id`; `ecg_id` wins.
    """

    def __init__(self, table: pa.Table) -> None:
        self.arrow = table
        ecg_ids, people = table["ecg_id"].to_pylist(), table["participant_id"].to_pylist()
        self._people = people
        self._by_ecg = {key: i for i, key in enumerate(ecg_ids) if key is not None}
        self._by_person = {
            key: i for i, key in enumerate(people) if key is not None and ecg_ids[i] is None
        }
        unknown = [np.nan]
        self._numbers = {
            name: np.concatenate([_floats(table[name]), unknown]).astype(np.float32)
            for name in _NUMBERS
        }
        self._sex = np.concatenate(
            [sex_codes(parse_sex(s) for s in table["sex"].to_pylist()), [SEX_UNKNOWN_CODE]]
        ).astype(np.int8)
        births = table["birth_date"].to_pylist()
        self._births = [None if b in PLACEHOLDER_DATES else b for b in births]
        self._stale = table[_STALE].to_pylist()

    def __len__(self) -> int:
        return int(self.arrow.num_rows)

    def knows_any(self, ecg_ids: Collection[str], people: Collection[str]) -> bool:
        """Tell whether any of these ECGs or people has a row."""
        return any(e in self._by_ecg for e in ecg_ids) or any(p in self._by_person for p in people)

    @property
    def first_key(self) -> str | None:
        """A key of the table, to show how it writes them."""
        return next(iter((*self._by_ecg, *self._by_person)), None)

    @property
    def unknown_throughout(self) -> list[str]:
        """What a full model needs and nobody in the table has: age, sex or BMI."""
        known = {name: self.arrow[name].null_count < len(self) for name in _VALUES}
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
        columns = [name for name in self.arrow.column_names if name != _STALE]
        rows = zip(*(self.arrow[name].to_pylist() for name in columns), strict=True)
        return digest([columns, sorted(repr(row) for row in rows)])

    def person_of(self, ecg_id: str) -> str | None:
        """Return the person of an ECG where a row of the table is keyed by it."""
        row = self._by_ecg.get(ecg_id)
        return None if row is None else self._people[row]

    def ecg_ids_of(self, is_excluded: Callable[[str | None], bool]) -> frozenset[str]:
        """Return the ECGs that rows keyed by `ecg_id` give to excluded people."""
        return frozenset(e for e, row in self._by_ecg.items() if is_excluded(self._people[row]))

    def join(
        self,
        ecg_id: Sequence[str],
        participant_id: Sequence[str | None],
        recorded_at: Sequence[dt.datetime | None],
    ) -> Demographics:
        """Return the demographics of ECGs, row by row.

        Age is in completed years where the birth date and the recording's date are known, else
        the given age; BMI is computed from height and weight when absent.
        """
        rows = [self._row(e, p) for e, p in zip(ecg_id, participant_id, strict=True)]
        index = np.array(rows, dtype=np.intp)
        values = {name: column[index] for name, column in self._numbers.items()}
        flags: list[list[str]] = [[] for _ in rows]
        for i, row in enumerate(rows):
            age = None if row < 0 else self._age_from_birth(row, recorded_at[i])
            if age is not None:
                values["age_years"][i] = age
            elif row >= 0 and self._stale[row]:
                flags[i].append(QualityFlag.AGE_NOT_AT_RECORDING)
        _clean_body_size(values, flags)
        person = [
            p if p is not None or row < 0 else self._people[row]
            for p, row in zip(participant_id, rows, strict=True)
        ]
        return Demographics(
            found=index >= 0,
            participant_id=person,
            age_years=values["age_years"],
            sex_code=self._sex[index],
            bmi_kg_m2=values["bmi_kg_m2"],
            height_cm=values["height_cm"],
            weight_kg=values["weight_kg"],
            flags=[tuple(flag) for flag in flags],
        )

    def _row(self, ecg_id: str, participant_id: str | None) -> int:
        row = self._by_ecg.get(ecg_id)
        if row is None and participant_id is not None:
            row = self._by_person.get(participant_id)
        return -1 if row is None else row

    def _age_from_birth(self, row: int, recorded_at: dt.datetime | None) -> int | None:
        birth = self._births[row]
        if birth is None or recorded_at is None or recorded_at.date() in PLACEHOLDER_DATES:
            return None
        return completed_years(birth, recorded_at.date())

    def without(self, is_excluded: Callable[[str | None, str | None], bool]) -> ParticipantTable:
        """Return the table without the rows of excluded people."""
        keep = [
            not is_excluded(e, p)
            for e, p in zip(self.arrow["ecg_id"].to_pylist(), self._people, strict=True)
        ]
        return ParticipantTable(self.arrow.filter(pa.array(keep, pa.bool_())))

    def with_stale_ages(
        self, dates: dict[str, tuple[dt.datetime, dt.datetime]]
    ) -> ParticipantTable:
        """Return the table with people marked whose ECGs lie over a year apart.

        Args:
            dates: earliest and latest recording of each participant_id.
        """
        ages = self._numbers["age_years"]
        stale = [
            e is None
            and p in dates
            and (dates[p][1] - dates[p][0]).days > AGE_STALE_DAYS
            and not np.isnan(ages[i])
            for i, (e, p) in enumerate(
                zip(self.arrow["ecg_id"].to_pylist(), self._people, strict=True)
            )
        ]
        index = self.arrow.schema.get_field_index(_STALE)
        return ParticipantTable(
            self.arrow.set_column(index, self.arrow.schema.field(index), pa.array(stale))
        )

    def to_parquet(self) -> bytes:
        """Return the table as the bytes of a Parquet file."""
        sink = io.BytesIO()
        pq.write_table(self.arrow, sink, compression="zstd")
        return sink.getvalue()


def demographics_of(table: ParticipantTable | None, rows: Sequence[EcgRow]) -> Demographics:
    """Return what a participant table says of the people of ECGs; all unknown without a table."""
    people = [row.participant_id for row in rows]
    if table is None:
        return unknown_demographics(people)
    return table.join([row.ecg_id for row in rows], people, [row.recorded_at for row in rows])


def unknown_demographics(participant_id: Sequence[str | None]) -> Demographics:
    """Return demographics for a run without a participant table."""
    n = len(participant_id)
    nan = np.full(n, np.nan, dtype=np.float32)
    return Demographics(
        np.zeros(n, dtype=np.bool_), list(participant_id), nan, np.full(n, -1, dtype=np.int8),
        nan, nan, nan, [()] * n,
    )  # fmt: skip


def completed_years(birth: dt.date, on: dt.date) -> int | None:
    """Return the age in completed years; None when the date lies before the birth."""
    years = on.year - birth.year - ((on.month, on.day) < (birth.month, birth.day))
    return years if years >= 0 else None


def _clean_body_size(values: dict[str, NDArray[np.float32]], flags: list[list[str]]) -> None:
    """Drop implausible heights and weights, then fill BMI from what is left."""
    for name, limits, flag in (
        ("height_cm", HEIGHT_RANGE_CM, QualityFlag.HEIGHT_OUT_OF_RANGE),
        ("weight_kg", WEIGHT_RANGE_KG, QualityFlag.WEIGHT_OUT_OF_RANGE),
    ):
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


def load_participants(storage: Storage, uri: str) -> ParticipantTable:
    """Read a participant table, CSV or Parquet, and check it.

    Raises:
        UsageError: no key column, a value that is not what its column means, or a key twice; with
            row numbers (the first row of data is 1).
    """
    raw = _read_table(storage, uri)
    if not any(key in raw.column_names for key in _KEYS):
        raise UsageError(
            f"{uri} has columns {raw.column_names}; expected a key column ecg_id or "
            "participant_id beside birth_date or age_years, sex, bmi_kg_m2, height_cm, weight_kg"
        )
    names = [n for n in schemas.PARTICIPANTS.names if n != _STALE]
    _check_content(raw, names, uri)
    columns = {name: _column(raw, name, uri) for name in names}
    columns[_STALE] = pa.array([False] * raw.num_rows)
    table = pa.table(columns, schema=schemas.PARTICIPANTS.arrow)
    _refuse_duplicate_keys(table, uri)
    return ParticipantTable(table)


def _check_content(raw: pa.Table, names: Sequence[str], uri: str) -> None:
    """Refuse a table that says nothing about anybody: mostly one with other column names."""
    known = [name for name in names if name in raw.column_names]
    if raw.num_rows == 0 or len(known) < 2:
        raise UsageError(
            f"{uri} has {raw.num_rows} rows and columns {raw.column_names}; expected rows with a "
            f"key and some of {', '.join(names)}"
        )


def read_participants_parquet(data: bytes) -> ParticipantTable:
    """Read the table that a planner wrote."""
    return ParticipantTable(pq.read_table(io.BytesIO(data)))


def _read_table(storage: Storage, uri: str) -> pa.Table:
    data = storage.read_bytes(uri, expected="a table (CSV or Parquet)")
    if uri.lower().endswith((".parquet", ".pq")):
        try:
            return _without_repeats(pq.read_table(io.BytesIO(data)), uri)
        except (pa.ArrowException, OSError) as error:
            raise UsageError(f"{uri} cannot be read as Parquet: {error}") from error
    delimiter = "\t" if uri.lower().endswith((".tsv", ".tab")) else ","
    try:
        header = data.split(b"\n", 1)[0].decode("utf-8-sig").strip().split(delimiter)
        names = [name.strip().strip('"') for name in header]
        table = pa_csv.read_csv(
            io.BytesIO(data),
            read_options=pa_csv.ReadOptions(column_names=names, skip_rows=1),
            parse_options=pa_csv.ParseOptions(delimiter=delimiter),
            # All text: an identifier 007 must stay 007, and a bad number gets its row number.
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise UsageError(f"{uri} cannot be read as CSV: {error}") from error
    return _without_repeats(table, uri)


def _without_repeats(table: pa.Table, uri: str) -> pa.Table:
    """Return the table when no column name that is used stands twice."""
    names = table.column_names
    twice = sorted({n for n in schemas.PARTICIPANTS.names if names.count(n) > 1})
    if twice:
        raise UsageError(f"{uri} has column {', '.join(twice)} twice; expected each once")
    return table


def _column(raw: pa.Table, name: str, uri: str) -> pa.Array:
    target = schemas.PARTICIPANTS.arrow.field(name).type
    if name not in raw.column_names:
        return pa.nulls(raw.num_rows, target)
    column = raw[name].combine_chunks()
    if name in _KEYS:
        return _key_column(column, name, uri)
    if name == "birth_date" and pa.types.is_temporal(column.type):
        return pc.cast(column, pa.date32())
    if name in _NUMBERS and (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        numbers = pc.cast(column, pa.float32(), safe=False)
        return pc.if_else(pc.is_finite(numbers), numbers, pa.scalar(None, pa.float32()))
    parse = {"sex": _sex, "birth_date": dt.date.fromisoformat}.get(name, _number)
    texts = [None if v is None else str(v).strip() for v in column.to_pylist()]
    return pa.array(_parse_all(texts, parse, name, uri), target)


def _key_column(column: pa.Array, name: str, uri: str) -> pa.Array:
    if pa.types.is_floating(column.type):
        raise UsageError(
            f"{uri}: column {name} holds decimal numbers; expected text or whole numbers. "
            "An integer column with gaps becomes decimal in pandas: convert it to text first"
        )
    texts = pc.utf8_trim_whitespace(pc.cast(column, pa.string()))
    decimal = pc.sum(pc.match_substring_regex(texts, r"^\d+\.0+$")).as_py() or 0
    if decimal:
        raise UsageError(
            f"{uri}: column {name} holds {decimal} decimal numbers like 1000037.0; expected text "
            "or whole numbers. Convert the column to text before it is written"
        )
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


def _sex(text: str) -> str:
    sex = parse_sex(text)
    if sex is None:
        raise ValueError("expected female or male; recode numbers, their meaning differs")
    return sex.value


def _number(text: str) -> float:
    value = float(text)
    if np.isinf(value):
        raise ValueError("expected a finite number")
    return value


def _parse_all(
    texts: list[str | None], parse: Callable[[str], object], name: str, uri: str
) -> list[object]:
    values: list[object] = []
    bad: list[str] = []
    for row, text in enumerate(texts, start=1):
        if text is None or text.lower() in UNKNOWN_TEXTS:
            values.append(None)
            continue
        try:
            values.append(parse(text))
        except ValueError as error:
            bad.append(f"row {row}: {text!r} ({error})")
    if bad:
        expected = {"sex": "female or male", "birth_date": "YYYY-MM-DD"}.get(name, "a number")
        raise UsageError(
            f"{uri}: column {name} has {len(bad)} values that are not {expected}, an empty cell or "
            f"'Unknown': {'; '.join(bad[:5])}"
        )
    return values


def _refuse_duplicate_keys(table: pa.Table, uri: str) -> None:
    seen: dict[tuple[str, str], int] = {}
    bad = []
    pairs = zip(table["ecg_id"].to_pylist(), table["participant_id"].to_pylist(), strict=True)
    for row, (ecg_id, person) in enumerate(pairs, start=1):
        key = ("participant_id", person) if ecg_id is None else ("ecg_id", ecg_id)
        if key[1] is None:
            bad.append(f"row {row} has no key")
        elif key in seen:
            bad.append(f"rows {seen[key]} and {row} have the same {key[0]}")
        else:
            seen[key] = row
    if bad:
        raise UsageError(
            f"{uri}: {len(bad)} rows have a key that is missing or repeated; expected one row per "
            f"ecg_id (or per participant_id where ecg_id is empty): {'; '.join(bad[:5])}"
        )


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    return np.asarray(pc.fill_null(pc.cast(column, pa.float64()), np.nan))
