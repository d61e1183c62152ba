"""The participant table and the CMR table of a training run."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lvm_core.errors import UsageError
from lvm_core.lvh import SEX_UNKNOWN_CODE, parse_sex, sex_codes
from lvm_core.tables.values import UNKNOWN_TEXTS

_NUMBERS: Final = ("age_years", "bmi_kg_m2", "height_cm", "weight_kg")


@dataclass(frozen=True, slots=True)
class People:
    """Participants by id; NaN, NaT and -1 where unknown.

    Attributes:
        row_of: row of each participant_id.
        birth_date: (n,) datetime64[D].
        sex_code: (n,) int8, 1 male, 0 female, -1 unknown.
        numbers: age_years, bmi_kg_m2, height_cm and weight_kg, each (n,) float64.
    """

    row_of: dict[str, int]
    birth_date: NDArray[np.datetime64]
    sex_code: NDArray[np.int8]
    numbers: dict[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class CmrTable:
    """CMR examinations.

    Attributes:
        rows_of: rows of each participant_id.
        date: (n,) datetime64[D], NaT where unknown.
        lvm_cmr_g: (n,) float64, grams, above 0.
    """

    rows_of: dict[str, list[int]]
    date: NDArray[np.datetime64]
    lvm_cmr_g: NDArray[np.float64]


def read_people(path: Path) -> People:
    """Read a participant table.

    Raises:
        UsageError: it cannot be read, has no participant_id, a person twice, or a value that is
            no number or date.
    """
    columns = _read_columns(path, ("participant_id",))
    ids = columns["participant_id"]
    row_of = {str(key): row for row, key in enumerate(ids) if key is not None}
    if len(row_of) != len(ids):
        raise UsageError(
            f"{path} has {len(ids)} rows for {len(row_of)} people, expected one row a person; "
            "rows that are keyed by ecg_id alone cannot be used for training"
        )
    unknown: list[Any] = [None] * len(ids)
    sexes = sex_codes(parse_sex(_text(value)) for value in columns.get("sex", unknown))
    return People(
        row_of,
        _dates(columns.get("birth_date", unknown), "birth_date", path),
        sexes if len(sexes) else np.full(0, SEX_UNKNOWN_CODE, dtype=np.int8),
        {name: _numbers(columns.get(name, unknown), name, path) for name in _NUMBERS},
    )


def read_cmr(path: Path) -> CmrTable:
    """Read a table of CMR examinations; rows without a mass are left out.

    Raises:
        UsageError: it cannot be read, a column is missing, or a mass is not above 0 g.
    """
    columns = _read_columns(path, ("participant_id", "lvm_cmr_g"))
    mass_g = _numbers(columns["lvm_cmr_g"], "lvm_cmr_g", path)
    bad = np.flatnonzero(~(np.isnan(mass_g) | ((mass_g > 0) & np.isfinite(mass_g))))
    if bad.size:
        raise UsageError(
            f"{path}: lvm_cmr_g is {mass_g[bad[0]]:g} g in row {bad[0] + 1}, expected a finite "
            "value above 0, or nothing where it is unknown"
        )
    dates = _dates(columns.get("cmr_date", [None] * len(mass_g)), "cmr_date", path)
    rows_of: dict[str, list[int]] = {}
    for row, key in enumerate(columns["participant_id"]):
        if key is not None and not np.isnan(mass_g[row]):
            rows_of.setdefault(str(key), []).append(row)
    return CmrTable(rows_of, dates, mass_g)


def _read_columns(path: Path, needed: tuple[str, ...]) -> dict[str, list[Any]]:
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            table = pq.read_table(path)
        else:
            with path.open(encoding="utf-8-sig") as stream:
                names = [name.strip().strip('"') for name in stream.readline().split(",")]
            table = pa_csv.read_csv(
                path,
                read_options=pa_csv.ReadOptions(column_names=names, skip_rows=1),
                # All text: an identifier 007 must stay 007, and a bad number gets its row number.
                convert_options=pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string())
                ),
            )
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    missing = [name for name in needed if name not in table.column_names]
    if missing:
        raise UsageError(
            f"{path} has columns {table.column_names}; expected {', '.join(missing)} too"
        )
    return {name: table[name].to_pylist() for name in table.column_names}


def _text(value: Any) -> str | None:
    text = "" if value is None else str(value).strip()
    return None if text.lower() in UNKNOWN_TEXTS else text


def _numbers(values: list[Any], name: str, path: Path) -> NDArray[np.float64]:
    def number(row: int, value: Any) -> float:
        text = _text(value)
        try:
            return np.nan if text is None else float(text)
        except ValueError as error:
            raise UsageError(
                f"{path}: {name} is {text!r} in row {row}, expected a number"
            ) from error

    return np.array([number(row, value) for row, value in enumerate(values, 1)], dtype=np.float64)


def _dates(values: list[Any], name: str, path: Path) -> NDArray[np.datetime64]:
    def date(row: int, value: Any) -> np.datetime64:
        if isinstance(value, dt.date):
            return np.datetime64(value, "D")
        text = _text(value)
        try:
            return np.datetime64("NaT" if text is None else dt.date.fromisoformat(text[:10]), "D")
        except ValueError as error:
            raise UsageError(
                f"{path}: {name} is {text!r} in row {row}, expected a date like 2015-05-31"
            ) from error

    listed = [date(row, value) for row, value in enumerate(values, 1)]
    return np.array(listed, dtype="datetime64[D]")
