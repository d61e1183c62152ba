"""Tables as LaTeX: booktabs, the same rows, headings and signs as in HTML and Word."""

from __future__ import annotations

import re
from typing import Final

from analysis.report.document import ReadTable
from analysis.report.layout import Head, LaidOut, Line, laid_out

_SPECIAL: Final = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "±": r"$\pm$",
    "−": "--",
    "–": "--",
    "·": r"\textperiodcentered{}",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "§": r"\S{}",
    "‖": r"$\|$",
    "¶": r"\P{}",
    "\u00a0": "~",
}
_ANY: Final = re.compile("|".join(map(re.escape, _SPECIAL)))


def escaped(text: str) -> str:
    """Return text in which nothing is a command of LaTeX."""
    return _ANY.sub(lambda found: _SPECIAL[found[0]], text)


def latex_table(table: ReadTable, more: str = "") -> str:
    r"""Return a table as a `table` environment, `sidewaystable` where it is wide.

    It needs `\usepackage{booktabs}`, and `rotating` for wide ones. `more` is a last note.
    """
    body = laid_out(table)
    kind = "sidewaystable" if body.is_wide else "table"
    columns = "l" + "".join("r" if is_number else "l" for is_number in body.is_number)
    notes = [f"{_sign(sign)}{escaped(text)}" for sign, text in body.notes]
    notes += [escaped(more)] if more else []
    lines = [
        rf"\begin{{{kind}}}",
        r"\centering\footnotesize",
        rf"\caption{{{escaped(table.title)}}}\label{{tab:{table.key}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        *_heads(body),
        r"\midrule",
        *map(_row, body.lines),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\smallskip\raggedright {text}" for text in notes),
        rf"\end{{{kind}}}",
        "",
    ]
    return "\n".join(lines)


def _heads(body: LaidOut) -> list[str]:
    names = " & ".join(map(_head, (body.stub, *body.heads))) + r" \\"
    spans = body.spans()
    if not spans:
        return [names]
    cells, rules, start = [""], [], 2
    for text, n in spans:
        cells.append(rf"\multicolumn{{{n}}}{{c}}{{{escaped(text)}}}" if text else "")
        if text:
            rules.append(rf"\cmidrule(lr){{{start}-{start + n - 1}}}")
        start += n
    return [" & ".join(cells) + r" \\", "".join(rules), names]


def _head(head: Head) -> str:
    return escaped(head.text) + _sign(head.sign)


def _row(line: Line) -> str:
    label = escaped(line.label)
    label = rf"\textbf{{{label}}}" if line.is_group and not line.indent else label
    indent = rf"\hspace{{{line.indent}em}}" if line.indent else ""
    if line.is_alone:
        return rf"\multicolumn{{{len(line.cells) + 1}}}{{l}}{{{indent}{label}}} \\"
    return " & ".join([f"{indent}{label}", *map(escaped, line.cells)]) + r" \\"


def _sign(sign: str) -> str:
    return rf"\textsuperscript{{{escaped(sign)}}}" if sign else ""
