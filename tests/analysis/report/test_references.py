"""The bibliography."""

from __future__ import annotations

import re
from pathlib import Path

from analysis.report.references import ALWAYS, REFERENCES, bibliography

CODE = Path(__file__).parents[3]


def test_bibliography__has_what_the_sections_need_and_the_paper_always() -> None:
    keys = re.findall(r"@article\{(\w+),", bibliography(["competing"]))
    assert "khurshid2021" in keys
    assert "fine1999" in keys
    assert "delong1988" not in keys
    assert len(keys) == len(set(keys))


def test_references__volume_and_page_are_those_that_the_code_cites() -> None:
    texts = [
        path.read_text(encoding="utf-8")
        for name in ("analysis", "lvm_core")
        for path in (CODE / name).rglob("*.py")
        if path.name != "references.py"
    ]
    cited = " ".join(texts)
    for one in REFERENCES:
        assert f"{one.year};{one.volume}:{one.pages}" in cited, one.key


def test_bibtex__braces_close() -> None:
    for one in REFERENCES:
        text = one.bibtex()
        assert text.count("{") == text.count("}")
        assert one.section == ALWAYS or one.section.isidentifier()
