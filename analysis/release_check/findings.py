"""What is found in an export, and how it is listed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any, Final

_MOST_LINES: Final = 60
_MOST_FILES: Final = 3


class Worst(IntEnum):
    """How bad a finding is; the first is worst."""

    PERSON = 1  # identifiers, rows of people
    SMALL = 2  # a small count
    DERIVED = 3  # a small count that follows by subtraction
    FIGURE = 4  # a figure from which single people or events can be read
    TRACE = 5  # metadata, paths, hidden text, files that cannot be read


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a checker should look at."""

    worst: Worst
    file: str  # relative to the export
    place: str  # in the file: row and column, element, part
    value: str
    why: str


def sorted_findings(found: Iterable[Finding]) -> list[Finding]:
    """Return findings once each, worst first, one for what several files say alike."""
    files: dict[tuple[Worst, str, str, str], list[str]] = {}
    for one in found:
        own = files.setdefault((one.worst, one.place, one.value, one.why), [])
        if one.file not in own:
            own.append(one.file)
    made = [Finding(worst, _names(names), place, value, why) for (worst, place, value, why), names in files.items()]
    return sorted(made, key=lambda one: (one.worst, one.file, one.place))


def _names(files: Sequence[str]) -> str:
    more = len(files) - _MOST_FILES
    return ", ".join(files[:_MOST_FILES]) + (f" and {more} more" if more > 0 else "")


def as_text(found: Sequence[Finding], checked: str) -> str:
    """Return findings as a list to read."""
    if not found:
        return f"{checked}: nothing found\n"
    lines = [f"{checked}: {len(found)} to look at, worst first", ""]
    for number, one in enumerate(found[:_MOST_LINES], 1):
        lines += [f"{number:3}. {one.why}: {one.value}", f"     {one.file} | {one.place}"]
    if len(found) > _MOST_LINES:
        lines.append(f"     and {len(found) - _MOST_LINES} more; --json lists all of them")
    return "\n".join([*lines, ""])


def as_rows(found: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return findings as rows for JSON."""
    return [asdict(one) | {"worst": one.worst.name.lower()} for one in found]
