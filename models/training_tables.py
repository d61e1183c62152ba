"""The participant table and the CMR table of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lvm_core.errors import UsageError
from lvm_core.tables import ParticipantTable, judge_people, layout_of_file, preset_layout, read_cmr_table, read_people
from lvm_core.tables.layout import OWN_LAYOUT, ParticipantsLayout
from lvm_core.tables.omop import table_files
from models.training_progress import say


@dataclass(frozen=True, slots=True)
class CmrTable:
    """CMR examinations.

    Attributes:
        rows_of: rows of each participant_id.
        date: (n,) datetime64[D], NaT where unknown.
        lvm_cmr_g: (n,) float64, grams, above 0.
    """

    rows_of: dict[str, list[int]]
    date: NDArray[np.datetime64]
    lvm_cmr_g: NDArray[np.float64]


def read_participants(path: Path, layout: Path | None = None, *, accepted: bool = False) -> ParticipantTable:
    """Read and judge the participant table of a run.

    Args:
        path: CSV or Parquet, or the folder of an OMOP export.
        layout: a preset, a layout file, or None.
        accepted: `accept_people` is set: a table that looks wrong as a whole does not stop.

    Raises:
        UsageError: it cannot be read, or cannot be right as a whole and `accept_people` is not set.
    """
    people = read_people(_source(path), str(path), _layout(layout))
    _note(people.notes)
    problems = judge_people(people.table).problems
    if problems and not accepted:
        raise UsageError(
            f"{path} cannot be right as a whole: {'; '.join(problems)}. Correct the table, or say "
            "in participants_layout what it means (docs/people_tables.md); if it is right, set "
            "accept_people: true"
        )
    return ParticipantTable.of(people)


def read_cmr(path: Path) -> CmrTable:
    """Read the table of CMR examinations; rows without a mass are left out.

    Raises:
        UsageError: it cannot be read, a column is missing, or a mass is not above 0 g.
    """
    read = read_cmr_table(_bytes(path), str(path))
    _note(read.notes)
    rows_of: dict[str, list[int]] = {}
    for row, key in enumerate(read.table["participant_id"].to_pylist()):
        rows_of.setdefault(key, []).append(row)
    dates = np.array(read.table["cmr_date"].to_pylist(), dtype="datetime64[D]")
    return CmrTable(rows_of, dates, np.asarray(read.table["lvm_cmr_g"], dtype=np.float64))


def _layout(given: Path | None) -> ParticipantsLayout:
    if given is None:
        return OWN_LAYOUT
    return preset_layout(str(given)) or layout_of_file(_bytes(given), str(given))


def _source(path: Path) -> bytes | dict[str, tuple[str, bytes]]:
    if not path.is_dir():
        return _bytes(path)
    files = table_files([file.name for file in path.iterdir()], str(path))
    return {table: (file, _bytes(path / file)) for table, file in files.items()}


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error


def _note(notes: tuple[str, ...]) -> None:
    for note in notes:
        say(f"note: {note}")
