"""Lists of people that users give, such as those who withdrew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from lvm_core.errors import UsageError
from lvm_core.tables.raw import RawTable, find_delimiter, is_parquet, read_lines, read_raw
from lvm_core.tables.values import identifiers

_PERSON_KEYS: Final = ("participant_id", "eid", "f.eid", "participant.eid", "person_id")
_ECG_KEYS: Final = ("ecg_id",)
_COLUMN_NAMES: Final = frozenset({*_PERSON_KEYS, *_ECG_KEYS, "id", "iid", "withdrawn"})
"""First lines of a list with one column that are a header and nobody's identifier."""


@dataclass(frozen=True)
class PeopleList:
    """Identifiers of a list, each once, in the order of the file."""

    name: str  # of the list, for messages
    people: tuple[str, ...]  # values of participant_id; of a list without a header, which may name either
    ecgs: tuple[str, ...] = ()  # values of ecg_id, where the list has such a column
    notes: tuple[str, ...] = ()  # what a user should know of how it was read
    n_ecgs_alone: int = 0  # rows with an ecg_id that name no person

    @property
    def ids(self) -> frozenset[str]:
        """All identifiers."""
        return frozenset((*self.people, *self.ecgs))


def read_people_list(data: bytes, name: str) -> PeopleList:
    """Read a list of people: one identifier per line, or a CSV or Parquet table with a key column.

    The key column is participant_id, eid (also f.eid, participant.eid), person_id or ecg_id. A
    file with one column needs no header.

    Raises:
        UsageError: it cannot be read, it has several columns and none of them is a key, or an
            identifier cannot be one. Nobody is left out silently: withdrawals depend on it.
    """
    if is_parquet(data, name):
        return _of_table(read_raw(data, name))
    lines, notes = read_lines(data, name)
    if lines and lines[0].lower().startswith("sep="):  # Excel's; the table's reader knows it too
        lines = lines[1:]
    if not lines:
        return PeopleList(name, (), (), notes)
    if find_delimiter(lines, name) is not None:
        return _of_table(read_raw(data, name))
    cells = [line.strip('"').strip() for line in lines]
    header = cells[0].casefold()
    values = cells[1:] if header in _COLUMN_NAMES else cells
    read, more_notes = identifiers(pa.array(values, pa.string()), column_name="1", table=name)
    ids, notes = _distinct(read, name), (*notes, *more_notes)
    if header in _ECG_KEYS:
        return PeopleList(name, (), ids, notes, len(ids))
    return PeopleList(name, ids, (), notes)


def _of_table(raw: RawTable) -> PeopleList:
    person, ecg = raw.find_first(_PERSON_KEYS), raw.find_first(_ECG_KEYS)
    if person is None and ecg is None:
        if len(raw.columns) != 1:
            raise UsageError(
                f"{raw.described()}; expected one of {', '.join((*_PERSON_KEYS, *_ECG_KEYS))} in "
                "its header, or one column of identifiers"
            )
        person = raw.columns[0]
    found: list[tuple[str, ...]] = []
    known: list[pa.Array] = []
    notes = list(raw.notes)
    for name, cells in (column or ("", pa.nulls(raw.n_rows, pa.string())) for column in (person, ecg)):
        ids, more_notes = identifiers(cells, column_name=name, table=raw.name)
        found.append(_distinct(ids, raw.name))
        known.append(pc.is_valid(ids))
        notes.extend(more_notes)
    n_alone = pc.sum(pc.and_not(known[1], known[0])).as_py() or 0
    return PeopleList(raw.name, found[0], found[1], tuple(notes), n_alone)


def _distinct(ids: pa.Array, name: str) -> tuple[str, ...]:
    texts = [text for text in ids.to_pylist() if text is not None]
    packed = sum(any(sign in text for sign in ",;\t|") for text in texts)
    if packed:
        raise UsageError(
            f"{name} holds {packed} identifiers with a comma, semicolon, tab or vertical bar in "
            "them; expected one identifier per line, or a table whose header names its columns"
        )
    return tuple(dict.fromkeys(texts))
