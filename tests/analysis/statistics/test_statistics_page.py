"""docs/statistics.md runs as it stands, and prints what it shows."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "statistics.md"


def _words(text: str) -> list[Any]:
    """Words, and numbers to half a unit of the last digit shown: processors differ in last bits."""
    return [
        pytest.approx(float(word), abs=10.0 ** -len(word.partition(".")[2]))
        if re.fullmatch(r"-?\d+\.\d+", word)
        else word
        for word in text.split()
    ]


def test_page__runs_and_prints_what_it_shows() -> None:
    blocks = re.findall(r"```(python|)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) > 6
    names: dict[str, Any] = {}
    printed = ""
    for kind, text in blocks:
        if kind == "python":
            assert printed.strip() == "", "output that the page does not show"
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(text, str(PAGE), "exec"), names)
            printed = out.getvalue()
        else:
            assert _words(printed) == _words(text)
            printed = ""
