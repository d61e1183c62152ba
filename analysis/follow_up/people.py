"""The participants of a study, and their columns beside those that every command reads."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lvm_core.errors import UsageError
from lvm_core.tables import PLACEHOLDER_DATES, ParticipantsLayout, People, read_people
from lvm_core.tables.layout import OWN_LAYOUT
from lvm_core.tables.people import table_files
from lvm_core.tables.values import PLACEHOLDER_MONTHS, Meaning, date_meaning, identifiers, parse_column

_OPTION: Final = "--participants-layout"
_SETTING: Final = "`columns: persons` of the study"
_PRESETS: Final = "`columns: {persons: ukb}` or `{persons: ukb-rap}` in the study"


def people_of(
    source: People | pd.DataFrame | Path | Mapping[str, pd.DataFrame], layout: ParticipantsLayout = OWN_LAYOUT
) -> People:
    """Return the participants of a table, a file, or the tables or folder of the preset `omop`."""
    if isinstance(source, People):
        return source
    try:
        data, name = _content(source)
        return read_people(data, name, layout, needs_demographics=False)
    except OSError as error:
        raise UsageError(f"participants {source} cannot be read: {error}") from error
    except UsageError as error:
        raise UsageError(in_words_of_studies(str(error))) from error


def _content(
    source: pd.DataFrame | Path | Mapping[str, pd.DataFrame],
) -> tuple[bytes | dict[str, tuple[str, bytes]], str]:
    """Return the bytes of a table, or those of each table of a folder, and its name."""
    if isinstance(source, pd.DataFrame):
        return _parquet(source), "participants"
    if isinstance(source, Mapping):
        return {name: (f"{name}.parquet", _parquet(table)) for name, table in source.items()}, "participants"
    if source.is_dir():
        files = table_files([one.name for one in source.iterdir()], source.name)
        return {table: (file, (source / file).read_bytes()) for table, file in files.items()}, source.name
    return source.read_bytes(), source.name


def _parquet(table: pd.DataFrame) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), stream)
    return stream.getvalue()


def in_words_of_studies(message: str) -> str:
    """Return a message about a layout with the setting of a study in place of the option."""
    return message.replace(f"{_OPTION} ukb or ukb-rap", _PRESETS).replace(_OPTION, _SETTING)


def column(people: People, our: str) -> tuple[str, pa.Array] | None:
    """Return a column, by our name, as the file has it with its own name; None without it."""
    return people.raw.find_first(people.layout.names_of(our))


def present_column(people: People, our: str) -> tuple[str, pa.Array]:
    """Return a column that an earlier check has found, with its own name."""
    found = column(people, our)
    assert found is not None, f"{our} was looked for before"
    return found


def codes(people: People, our: str) -> pa.Array:
    """Return a column that is there, such as the region, as text; null where it is unknown."""
    own, cells = present_column(people, our)
    texts, _ = identifiers(cells, column_name=own, table=people.raw.name)
    is_missing = pc.is_in(texts, pa.array(sorted(people.layout.missing_codes), pa.string()))
    known = pc.if_else(is_missing, pa.scalar(None, pa.string()), texts)
    meanings = people.layout.regions if our == "region" else {}
    return pa.array([meanings.get(one, one) for one in known.to_pylist()], pa.string()) if meanings else known


def days(people: People, our: str) -> pa.Array:
    """Return a column of dates, null where unknown; refuse other values and time zones."""
    if column(people, our) is None:
        return pa.nulls(people.raw.n_rows, pa.date32())
    return parsed(people, our, date_meaning(people.layout.date_format))


def parsed(people: People, our: str, meaning: Meaning) -> pa.Array:
    """Return the cells of a present column, read as what they mean; null where they are unknown."""
    own, cells = present_column(people, our)
    missing = people.layout.missing_codes
    return parse_column(cells, meaning, column_name=own, table=people.raw.name, missing=missing)


def births(people: People) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Return births, whether each is a placeholder (then it is null), and whether on the 15th."""
    born = people.table["birth_date"].combine_chunks()
    assumed = pc.fill_null(people.table["birth_day_assumed"].combine_chunks(), False)
    is_day = pc.is_in(born, pa.array(PLACEHOLDER_DATES, pa.date32()))
    is_month = pc.and_(assumed, pc.is_in(born, pa.array(PLACEHOLDER_MONTHS, pa.date32())))
    unknown = pc.or_(is_day, is_month)
    known = pc.if_else(unknown, pa.scalar(None, pa.date32()), born)
    return known, unknown, pc.and_(assumed, pc.is_valid(known))
