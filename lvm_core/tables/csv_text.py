"""Text cells of CSV files that a spreadsheet must not run as formulas."""

from __future__ import annotations

import re
from typing import Final

_FORMULA_START: Final = re.compile(r"[=@+\-\t\r]")
_NUMBER: Final = r"[+-]?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?: ?%)?"
_ESTIMATE: Final = re.compile(rf"{_NUMBER}(?: \({_NUMBER}(?: to {_NUMBER})?\))?")


def no_formula(text: str) -> str:
    """Return text that spreadsheets show as it is: an apostrophe is put before a formula.

    A spreadsheet takes a cell that begins with `=`, `+`, `-`, `@`, a tab or a carriage return as a
    formula, which may start programs. Numbers, and estimates such as `-0.5 (-1.0 to 0.1)`, stay as
    they are.

    Source:
        OWASP, CSV Injection, https://owasp.org/www-community/attacks/CSV_Injection
    """
    if not _FORMULA_START.match(text) or _ESTIMATE.fullmatch(text):
        return text
    return f"'{text}"
