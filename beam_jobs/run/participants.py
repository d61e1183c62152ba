"""The participant table of a run: read and judged once, and what it will give to the ECGs."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from beam_jobs.reading.blocks import EcgRow
from beam_jobs.reading.storage import Storage
from beam_jobs.run.progress import say
from lvm_core.errors import UsageError
from lvm_core.medicine.lvh import SEX_UNKNOWN_CODE
from lvm_core.tables import (
    PRESETS,
    Demographics,
    ParticipantsLayout,
    ParticipantTable,
    PeopleTable,
    demographics_problem,
    judge_people,
    layout_of_file,
    preset_layout,
    read_people,
    unknown_demographics,
)
from lvm_core.tables.layout import OWN_LAYOUT
from lvm_core.tables.participants import NO_RECORDING_DATE
from lvm_core.tables.people import table_files
from lvm_core.wording import counted

_BATCH: Final = 4096
_UNMATCHED_KEPT: Final = 1000
_HALF: Final = 0.5


def load_layout_of_people(storage: Storage, given: str | None) -> ParticipantsLayout:
    """Return the layout that --participants-layout names: a preset or a file; ours for None."""
    if given is None:
        return OWN_LAYOUT
    known = preset_layout(given)
    if known is not None:
        return known
    if not storage.is_file(given):
        raise UsageError(
            f"--participants-layout {given} is neither a file nor a preset; expected a YAML file "
            f"or one of {', '.join(PRESETS)} (docs/people_tables.md)"
        )
    return layout_of_file(storage.read_bytes(given, expected="a YAML file"), given)


def load_participants(storage: Storage, uri: str, layout: ParticipantsLayout = OWN_LAYOUT) -> PeopleTable:
    """Read a participant table, CSV or Parquet; for the layout `omop` a folder of two tables.

    What `read_people` refuses is named with its row numbers (the first row of data is 1).
    """
    source: bytes | dict[str, tuple[str, bytes]]
    if layout.preset == "omop" and not storage.is_file(uri):
        uris = {entry.relative: entry.uri for entry in storage.list_files(uri)}
        files = table_files(uris, uri)
        source = {table: (file, storage.read_bytes(uris[file])) for table, file in files.items()}
    else:
        source = storage.read_bytes(uri, expected="a table (CSV or Parquet)")
    people = read_people(source, uri, layout)
    return PeopleTable(people, ParticipantTable.of(people))


def participants_of(
    storage: Storage, uri: str | None, layout: str | None, *, accepted: bool
) -> tuple[ParticipantTable | None, tuple[str, ...]]:
    """Read the table of --participants; return it and the problems that were accepted.

    Without a table it is None. A table that cannot be right as a whole is refused, unless
    --accept-people was given (`accepted`): then its problems are said.
    """
    if uri is None:
        if layout is not None:
            raise UsageError("--participants-layout is given without --participants")
        return None, ()
    people = load_participants(storage, uri, load_layout_of_people(storage, layout))
    for note in people.read.notes:
        say(f"note: {note}")
    return people.table, judged(people.table, uri, accepted=accepted)


def judged(table: ParticipantTable, uri: str, *, accepted: bool) -> tuple[str, ...]:
    """Return the problems of a table of people as a whole; refuse it unless they are accepted."""
    problems = judge_people(table.arrow).problems
    if problems and not accepted:
        raise UsageError(
            f"{uri} cannot be right as a whole: {'; '.join(problems)}. Nothing was scored. Correct the table, or say "
            "in its layout what it means (docs/people_tables.md); if it is right, go on with --accept-people"
        )
    for problem in problems:
        say(f"warning: {uri}: {problem} (accepted)")
    return problems


def demographics_of(table: ParticipantTable | None, rows: Sequence[EcgRow]) -> Demographics:
    """Return what a participant table says of the people of ECGs; all unknown without a table."""
    people = [row.participant_id for row in rows]
    if table is None:
        return unknown_demographics(people)
    return table.join([row.ecg_id for row in rows], people, [row.recorded_at for row in rows])


@dataclass
class JoinForecast:
    """What the participant table will give to the ECGs of a plan, before any of them is read."""

    table: ParticipantTable  # of participants
    needs_demographics: bool  # an ECG without age, sex or BMI will be rejected
    # True for the ecg_id and participant_id of an ECG that is left out anyway.
    is_excluded: Callable[[str | None, str | None], bool]
    person_in_header: bool = False  # the header of a device file names its person where the path does not
    n_ecgs_seen: int = 0
    n_ecgs: int = 0
    n_found: int = 0
    n_without_date: int = 0
    n_without_person: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    _numbers: dict[str, list[NDArray[np.float32]]] = field(
        default_factory=lambda: {"age_years": [], "bmi_kg_m2": [], "height_cm": []}
    )
    _sex: list[NDArray[np.int8]] = field(default_factory=list)
    _unmatched: list[str] = field(default_factory=list)
    _waiting: list[tuple[str, str | None, dt.datetime | None, bool]] = field(default_factory=list)

    def add(
        self, ecg_id: str, participant_id: str | None, recorded_at: dt.datetime | None, *, is_device_file: bool
    ) -> None:
        """Count one ECG of the plan, with its person and time where they are known at planning.

        The time, and perhaps the person, of the ECG of a device file is known once it is read.
        """
        self.n_ecgs_seen += 1
        self._waiting.append((ecg_id, participant_id, recorded_at, is_device_file))
        if len(self._waiting) >= _BATCH:
            self._join()

    def _join(self) -> None:
        rows = [row for row in self._waiting if not self.is_excluded(row[0], row[1])]
        self._waiting = []
        if not rows:
            return
        ids, people, times, of_device = (list(column) for column in zip(*rows, strict=True))
        joined = self.table.join(ids, people, times)
        self.n_ecgs += len(rows)
        self.n_found += int(joined.found.sum())
        found = np.flatnonzero(joined.found)
        for name, parts in self._numbers.items():
            parts.append(getattr(joined, name)[found])
        self._sex.append(joined.sex_code[found])
        unmatched = ~joined.found
        if self.person_in_header:
            later = unmatched & np.array(of_device) & [person is None for person in people]
            self.n_without_person += int(later.sum())
            unmatched &= ~later
        for i in np.flatnonzero(unmatched)[:_UNMATCHED_KEPT].tolist():
            if len(self._unmatched) < _UNMATCHED_KEPT:
                self._unmatched.append(people[i] or ids[i])
        if self.needs_demographics:
            judged = np.flatnonzero(joined.found | unmatched).tolist()
            self._count_rejects(joined, of_device, judged)

    def _count_rejects(self, joined: Demographics, of_device: Sequence[bool], judged: Sequence[int]) -> None:
        for i in judged:
            problem = demographics_problem(joined, i)
            if problem is None:
                continue
            if of_device[i] and joined.no_age_because[i] == NO_RECORDING_DATE:
                self.n_without_date += 1
                continue
            self.rejects[problem.reason.value] += 1
            self.examples.setdefault(problem.reason.value, problem.message)

    @property
    def expected_share(self) -> float:
        """Share of the ECGs that will be rejected for what is known of their people."""
        self._join()
        return sum(self.rejects.values()) / self.n_ecgs if self.n_ecgs else 0.0

    def summary(self) -> dict[str, Any]:
        """Return the forecast as plan and report hold it."""
        self._join()
        numbers = {name: np.concatenate([*parts, []]) for name, parts in self._numbers.items()}
        sex = np.concatenate([*self._sex, np.empty(0, np.int8)])
        known = sex[sex != SEX_UNKNOWN_CODE]
        return {
            "n_ecgs": self.n_ecgs,
            "n_with_a_row": self.n_found,
            "expected_rejects": dict(sorted(self.rejects.items())),
            "age_known_once_read": self.n_without_date,
            "person_known_once_read": self.n_without_person,
            "medians": {name: _median(values) for name, values in numbers.items()},
            "share_women": round(float((known == 0).mean()), 4) if len(known) else None,
        }

    def hint(self) -> str:
        """Return the likely cause of ECGs without a row, or nothing."""
        bare = {key.lstrip("0") for key in self.table.keys}
        n_alike = sum(key.lstrip("0") in bare for key in self._unmatched)
        if self._unmatched and n_alike > _HALF * len(self._unmatched):
            return (
                " Identifiers agree once leading zeros are dropped: were they lost in a "
                "spreadsheet? Export the column as text."
            )
        return ""


def forecast_lines(summary: dict[str, Any]) -> list[str]:
    """Return a forecast in words, a line each."""
    n, found = summary["n_ecgs"], summary["n_with_a_row"]
    share = f" ({found / n:.1%})" if n else ""
    medians = summary["medians"]
    units = {"age_years": ("age", "years"), "bmi_kg_m2": ("BMI", "kg/m2"), "height_cm": ("height", "cm")}
    parts = [
        f"median {name} {medians[key]:.4g} {unit}" for key, (name, unit) in units.items() if medians[key] is not None
    ]
    if summary["share_women"] is not None:
        parts.append(f"women {summary['share_women']:.1%}")
    lines = [f"participants: {found:,} of {counted(n, 'ECG', 'have', form=',')} a row in the table{share}"]
    if parts:
        lines.append(f"participants: {', '.join(parts)}")
    if summary["person_known_once_read"]:
        lines.append(
            f"participants: the person of {counted(summary['person_known_once_read'], 'ECG', form=',')} is known once "
            "the headers of their files are read"
        )
    if summary["age_known_once_read"]:
        lines.append(
            f"participants: the age of {counted(summary['age_known_once_read'], 'ECG', form=',')} is known once "
            "their files are read"
        )
    rejects = summary["expected_rejects"]
    if rejects:
        total = sum(rejects.values())
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in rejects.items())
        verb = "reject is" if total == 1 else "rejects are"
        lines.append(f"participants: {total:,} {verb} expected ({total / n:.1%}): {reasons}")
    return lines


def _median(values: NDArray[Any]) -> float | None:
    known = values[np.isfinite(values)]
    return round(float(np.median(known)), 2) if len(known) else None
