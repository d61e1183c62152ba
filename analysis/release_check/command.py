"""The command `lvm-ai release-check`: what an output desk would ask about an export."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from analysis.release_check import counts, figures, traces
from analysis.release_check.findings import Finding, as_rows, as_text, sorted_findings
from analysis.release_check.reading import Table, content_of, files_of
from lvm_core.command_line import ArgumentParser
from lvm_core.errors import UsageError

_DATA = "data"


def main(argv: Sequence[str]) -> int:
    """Run `lvm-ai release-check`: 0 where nothing is found, 1 where something is."""
    args = _parser().parse_args(argv)
    if args.k < 2:
        raise UsageError(f"--k is {args.k}, expected 2 or more")
    for folder in (args.export, *([args.other] if args.other else [])):
        if not folder.is_dir() or not files_of(folder):
            raise UsageError(f"{folder} is no folder with files; expected the export/ of a study")
    found = check(args.export, args.k, args.other)
    rows = as_rows(found)
    name = str(args.export) + (f" and {args.other}" if args.other else "")
    sys.stdout.write(json.dumps(rows, indent=1) + "\n" if args.json else as_text(found, name))
    return int(bool(found))


def check(export: Path, k: int, other: Path | None = None) -> list[Finding]:
    """Return what is found in an export, and between it and another one; worst first.

    `k` is the custodian's: counts of 1 to k - 1 are small. Where all counts of an export are
    multiples of a number above 1, they are rounded: differences of such counts are not those of
    people, and are not looked at.
    """
    found, tables = _files(export, k)
    rounded = counts.rounding_of(tables) > 1
    if not rounded:
        for table in tables:
            found += [*counts.complements(table, k), *counts.differences_within(table, k)]
        found += counts.differences_between([table for table in tables if _is_of_data(table)], k)
    if other is not None:
        more, others = _files(other, k)
        found += more
        if not rounded:
            found += counts.differences_of_exports(tables, others, k)
    return sorted_findings(found)


def _is_of_data(table: Table) -> bool:
    return table.file.startswith(f"{_DATA}/") or table.file == "results.csv"


def _files(folder: Path, k: int) -> tuple[list[Finding], list[Table]]:
    found: list[Finding] = []
    tables: list[Table] = []
    for path in files_of(folder):
        file = path.relative_to(folder).as_posix()
        content = content_of(path, file)
        tables += content.tables
        found += traces.check_hidden(file, content)
        for place, text in content.texts:
            found += [*counts.small_in_text(file, place, text, k), *traces.check_text(file, place, text)]
        for table in content.tables:
            found += [*counts.small_counts(table, k), *traces.check_table(table), *figures.check_curves(table, k)]
        found += _of_kind(path, file, k)
    return found, tables


def _of_kind(path: Path, file: str, k: int) -> Iterator[Finding]:
    kind = path.suffix.lower()
    if kind == ".svg":
        yield from figures.check_figure(file, path.read_text(encoding="utf-8"), k)
    elif kind == ".docx":
        yield from traces.check_word(file, path)
    elif kind == ".png":
        yield from traces.check_png(file, path)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="lvm-ai release-check",
        description="Look through an export for what an output desk would ask about: small counts, small "
        "counts that follow by subtraction, curves with few people at risk, identifiers, metadata, and "
        "small differences to a second export. It reads files alone and shares no code with the masking.",
    )
    parser.add_argument("export", type=Path, help="folder to look through, such as study/export")
    parser.add_argument("other", type=Path, nargs="?", default=None, help="a second export, of nearly the same people")
    parser.add_argument("--k", type=int, default=10, help="counts of 1 to k - 1 are small (default 10)")
    parser.add_argument("--json", action="store_true", help="print all findings as JSON")
    return parser
