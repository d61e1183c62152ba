"""Record numbers of people: several of a person become the one identifier of the participants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import duckdb
import pandas as pd

from analysis.follow_up.loading import Source, load_table
from analysis.statistics.columns import TableRefused

COLUMNS: Final = ("participant_id", "record_id")
"""Columns of a crosswalk."""


@dataclass(frozen=True, slots=True)
class Crosswalk:
    """The person of each record number; other numbers stay as they are."""

    person_of: Mapping[str, str]  # participant_id by record_id

    def people(self, ids: Iterable[str]) -> tuple[str, ...]:
        """Return the people of identifiers, each once, in order."""
        return tuple(dict.fromkeys(self.person_of.get(one, one) for one in ids))

    def column(self, ids: pd.Series[str]) -> pd.Series[str]:
        """Return the person of each identifier of a column; missing stays missing."""
        return ids.map(self.person_of).fillna(ids)

    def as_frame(self) -> pd.DataFrame:
        """Return the table that is joined; no other table has columns of its names."""
        pairs = {"person_of_number": list(self.person_of.values()), "number_of_person": list(self.person_of)}
        return pd.DataFrame(pairs, dtype=str)


def read_crosswalk(source: Source, own: Mapping[str, str] | None = None) -> Crosswalk:
    """Read a table of record numbers: participant_id, record_id; `own` are its own names of these.

    Raises:
        TableRefused: a column or an identifier is missing, a number belongs to two people, or the
            identifier of a person is a record number of another.
    """
    with duckdb.connect() as connection:
        raw = load_table(connection, "crosswalk", source, COLUMNS, own=own)
        person, record = (raw.identifier(name) for name in COLUMNS)
        raw.refuse_rows("record_id IS NULL", "no record_id", "one in each row")
        rows = connection.execute(f"SELECT DISTINCT {person}, {record} FROM raw_crosswalk ORDER BY ALL").fetchall()
    people = {row[0] for row in rows}
    person_of: dict[str, str] = {}
    shared: set[str] = set()
    for owner, number in rows:
        if person_of.setdefault(number, owner) != owner or (number in people and number != owner):
            shared.add(number)
    if shared:
        raise TableRefused(
            f"table crosswalk has {len(shared)} record numbers that belong to two people, expected each of one. "
            "Numbers of several hospitals overlap: put the hospital in front of each, here and in the records"
        )
    return Crosswalk(person_of)
