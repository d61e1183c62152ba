"""Lists of codes that define outcomes, and how the codes of records are compared with them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pandas as pd

from analysis.columns import TableRefused

_COLUMNS: Final = ("code", "system", "match", "outcome", "source", "comment")
_MATCHES: Final = ("prefix", "exact")
_SHOWN: Final = 5


def read_code_list(path: Path) -> pd.DataFrame:
    """Read a CSV of codes.

    Args:
        path: CSV with code, system (icd10, icd9, opcs4, cpt, phecode, self-report ...), match
            ("prefix" or "exact"), outcome, source (where the list comes from) and comment.

    Returns:
        The columns as text, with `code` and `system` as `code_key` and `system_key` make them.

    Raises:
        TableRefused: the file cannot be read, a column is missing, a value is empty where it must
            not be, or `match` is another word; with row numbers, counted from 1 without the header.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise TableRefused(f"code list {path} cannot be read: {error}") from error
    missing = [name for name in _COLUMNS if name not in table.columns]
    if missing:
        raise TableRefused(
            f"code list {path} has no column {', '.join(missing)}; expected {', '.join(_COLUMNS)}"
        )
    table = table[list(_COLUMNS)].apply(lambda column: column.str.strip())
    for name in ("code", "system", "outcome"):
        _refuse(path, table[name] == "", f"no {name}", "a value")
    _refuse(path, ~table["match"].isin(_MATCHES), "another match", "prefix or exact")
    table["code"], table["system"] = code_key(table["code"]), system_key(table["system"])
    return pd.DataFrame(table)


def code_key(codes: pd.Series[str]) -> pd.Series[str]:
    """Return codes without dots and spaces, in upper case: I48.0 and i480 are one."""
    return codes.str.replace(r"[.\s]", "", regex=True).str.upper()


def system_key(systems: pd.Series[str]) -> pd.Series[str]:
    """Return coding systems in lower case without spaces, hyphens and dots: ICD-10 is icd10."""
    return systems.str.replace(r"[\s.\-]", "", regex=True).str.lower()


def _refuse(path: Path, bad: pd.Series[bool], what: str, expected: str) -> None:
    if bad.any():
        rows = [int(number) + 1 for number in bad.to_numpy().nonzero()[0]]
        shown = ", ".join(map(str, rows[:_SHOWN])) + (" ..." if len(rows) > _SHOWN else "")
        raise TableRefused(
            f"code list {path} has {what} in {len(rows)} rows (row {shown}); expected {expected}"
        )
