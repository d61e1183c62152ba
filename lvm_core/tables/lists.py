"""Lists that users give: of people, such as those who withdrew, and of codes of diseases."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from lvm_core.errors import UsageError
from lvm_core.tables.raw import RawTable, find_delimiter, is_parquet, read_lines, read_raw, refuse_rows
from lvm_core.tables.values import identifiers

_PERSON_KEYS: Final = ("participant_id", "eid", "f.eid", "participant.eid", "person_id")
_ECG_KEYS: Final = ("ecg_id",)
_COLUMN_NAMES: Final = frozenset({*_PERSON_KEYS, *_ECG_KEYS, "id", "iid", "withdrawn"})
"""First lines of a list with one column that are a header and nobody's identifier."""
_CODE_COLUMNS: Final = ("code", "system", "match", "outcome", "source", "comment")
_FILLED: Final = ("code", "system", "outcome")
_MATCHES: Final = ("prefix", "exact")


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


def read_code_table(data: bytes, name: str) -> pa.Table:
    """Read a list of codes.

    The columns are code, system (icd10, icd9, opcs4, cpt, phecode, self-report ...), match
    ("prefix" or "exact"), outcome, source (where the list comes from) and comment. They are
    returned as text without blanks around, with `code` and `system` as `code_key` and
    `system_key` make them.

    Raises:
        UsageError: the file cannot be read, a column is missing, a value is empty where it must
            not be, `code` holds numbers with a decimal point, or `match` is another word; the
            first row is 1.
    """
    raw = read_raw(data, name)
    found = raw.require(_CODE_COLUMNS)
    if pa.types.is_floating(found["code"].type):
        raise UsageError(
            f"{name}: code holds numbers with a decimal point, so that leading zeros and dots of "
            "codes are lost; expected text. Write the column as text"
        )
    texts = {
        column: pc.fill_null(pc.utf8_trim_whitespace(pc.cast(cells, pa.string())), "")
        for column, cells in found.items()
    }
    for column in _FILLED:
        refuse_rows(f"code list {name}", pc.equal(texts[column], ""), f"no {column}", "a value")
    other = pc.invert(pc.is_in(texts["match"], pa.array(_MATCHES)))
    refuse_rows(f"code list {name}", other, "another match", " or ".join(_MATCHES))
    texts["code"] = pa.array([code_key(code) for code in texts["code"].to_pylist()])
    texts["system"] = pa.array([system_key(system) for system in texts["system"].to_pylist()])
    return pa.table(texts)


def code_key(code: str) -> str:
    """Return a code without dots and blanks, in upper case: I48.0 and i480 are one."""
    return re.sub(r"[.\s]", "", code).upper()


def system_key(system: str) -> str:
    """Return a coding system in lower case without blanks, hyphens and dots: ICD-10 is icd10."""
    return re.sub(r"[\s.\-]", "", system).lower()
