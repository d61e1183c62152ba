"""Lists of codes that define outcomes."""

from __future__ import annotations

import re
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from lvm_core.errors import UsageError
from lvm_core.tables.raw import read_raw, refuse_rows

COLUMNS: Final = ("code", "system", "match", "outcome", "source", "comment")
MATCHES: Final = ("prefix", "exact")
_FILLED: Final = ("code", "system", "outcome")


def read_code_table(data: bytes, name: str) -> pa.Table:
    """Read a list of codes.

    Args:
        data: CSV with code, system (icd10, icd9, opcs4, cpt, phecode, self-report ...), match
            ("prefix" or "exact"), outcome, source (where the list comes from) and comment.
        name: of the list, for messages.

    Returns:
        The columns as text without blanks around, with `code` and `system` as `code_key` and
        `system_key` make them.

    Raises:
        UsageError: the file cannot be read, a column is missing, a value is empty where it must
            not be, `code` holds numbers with a decimal point, or `match` is another word; the
            first row is 1.
    """
    raw = read_raw(data, name)
    there = {column: raw.find(column) for column in COLUMNS}
    absent = [column for column, cells in there.items() if cells is None]
    if absent:
        raise UsageError(f"{raw.described()}; expected {', '.join(absent)} among them")
    found = {column: cells for column, cells in there.items() if cells is not None}
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
    other = pc.invert(pc.is_in(texts["match"], pa.array(MATCHES)))
    refuse_rows(f"code list {name}", other, "another match", " or ".join(MATCHES))
    texts["code"] = pa.array([code_key(code) for code in texts["code"].to_pylist()])
    texts["system"] = pa.array([system_key(system) for system in texts["system"].to_pylist()])
    return pa.table(texts)


def code_key(code: str) -> str:
    """Return a code without dots and blanks, in upper case: I48.0 and i480 are one."""
    return re.sub(r"[.\s]", "", code).upper()


def system_key(system: str) -> str:
    """Return a coding system in lower case without blanks, hyphens and dots: ICD-10 is icd10."""
    return re.sub(r"[\s.\-]", "", system).lower()
