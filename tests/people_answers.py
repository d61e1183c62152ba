"""What each command reads from the same tables of people: compared by a test, shown in docs.

Every function here goes the way of its command, from a file on disk to what the command then works
with. None of them calls another.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd
import yaml

from analysis.study.inputs import judged_people, load_study, study_lists
from analysis.study.inputs import read_cmr as read_analysed_cmr
from analysis.study.settings import Study
from beam_jobs import explain
from beam_jobs.reading.storage import Storage
from beam_jobs.run.exclusions import load_exclusions
from beam_jobs.run.participants import participants_of
from lvm_core.errors import LvmError
from lvm_core.tables import ParticipantTable
from models.training.data import read_cmr as read_training_cmr
from models.training.data import read_participants as read_training_participants
from tests.lvm_core.tables.people_cases import CASES, CMR_CASES, LIST_CASES, Case

COLUMNS: Final = ("participant_id", "sex", "birth_date", "height_cm", "weight_kg", "bmi_kg_m2")
Answer = list[tuple[Any, ...]] | str
"""Rows of COLUMNS in the order of participant_id, or the message of the refusal."""


def _rows(table: ParticipantTable) -> Answer:
    return sorted(tuple(row[name] for name in COLUMNS) for row in table.arrow.to_pylist())


def _score(table: Path, layout: Path | None) -> Answer:
    given = None if layout is None else str(layout)
    people, _ = participants_of(Storage(), str(table), given, accepted=False)
    assert people is not None
    return _rows(people)


def _explain(table: Path, layout: Path | None) -> Answer:
    argv = ["--ecg-id", "x", "--input", "x", "--model", "x", "--output", "x"]
    argv += ["--participants", str(table)]
    argv += [] if layout is None else ["--participants-layout", str(layout)]
    people, _ = explain.participants_from(explain.parse(argv))
    assert people is not None
    return _rows(people)


def _train(table: Path, layout: Path | None) -> Answer:
    return _rows(read_training_participants(table, layout))


def _study(folder: Path, inputs: Mapping[str, str], columns: Mapping[str, str]) -> Study:
    """Return a study with these inputs; the other tables are there and are not read."""
    tables = ("predictions", "participants", "events", "follow_up_ends", "code_list")
    for name in tables:
        (folder / f"_{name}.csv").touch()
    content = {
        "name": "study",
        "inputs": {name: f"_{name}.csv" for name in tables} | dict(inputs),
        "columns": dict(columns),
        "outcomes": [{"name": "af", "incident_sources": ["hes"]}],
        "primary_outcome": "af",
    }
    path = folder / "_study.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return load_study(path)


def _analyse(table: Path, layout: Path | None) -> Answer:
    columns = {} if layout is None else {"persons": layout.name}
    study = _study(table.parent, {"participants": table.name}, columns)
    people, _ = judged_people(study)
    return _rows(ParticipantTable(people.table))


PEOPLE_COMMANDS: Final[Mapping[str, Callable[[Path, Path | None], Answer]]] = {
    "score": _score,
    "explain": _explain,
    "train": _train,
    "analyse": _analyse,
}


def _score_list(path: Path) -> Answer:
    return sorted((one,) for one in load_exclusions(Storage(), str(path)).ids)


def _withdrawn(path: Path) -> Answer:
    lists = study_lists(_study(path.parent, {"withdrawn": path.name}, {}))
    return sorted((one,) for one in lists["inputs.withdrawn"].people)


def _excluded(path: Path) -> Answer:
    lists = study_lists(_study(path.parent, {"excluded": path.name}, {}))
    return sorted((one,) for one in lists["inputs.excluded"].people)


LIST_COMMANDS: Final[Mapping[str, Callable[[Path], Answer]]] = {
    "score, ingest, withdraw": _score_list,
    "analyse: withdrawn": _withdrawn,
    "analyse: excluded": _excluded,
}


def _train_cmr(path: Path) -> Answer:
    people = read_training_cmr(path)
    return sorted(((person, *one) for person, examinations in people.items() for one in examinations), key=str)


def _analysed_cmr(path: Path) -> Answer:
    """Return what `lvm-ai recalibrate --cmr` and `inputs.cmr` of a study read."""
    rows = [
        (row.participant_id, None if pd.isna(row.cmr_date) else row.cmr_date.date(), row.lvm_cmr_g)
        for row in read_analysed_cmr(path)[0].itertuples()
    ]
    return sorted(rows, key=str)


CMR_COMMANDS: Final[Mapping[str, Callable[[Path], Answer]]] = {
    "train": _train_cmr,
    "recalibrate, analyse": _analysed_cmr,
}


def answer(command: Callable[..., Answer], *paths: Path | None) -> Answer:
    """Return what a command reads, or the message of its refusal without the file's folder."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return command(*paths)
    except LvmError as error:
        folders = [str(path.parent) for path in paths if path is not None]
        text = str(error)
        for folder in folders:
            text = text.replace(f"{folder}/", "")
        return text


def people_answers(case: Case, folder: Path) -> dict[str, Answer]:
    """Return what each command reads from a participant table."""
    table = folder / case.name
    table.write_bytes(case.data)
    layout = None
    if case.layout:
        layout = folder / f"{case.name}.yaml"
        layout.write_text(yaml.safe_dump(dict(case.layout), allow_unicode=True), encoding="utf-8")
    return {name: answer(read, table, layout) for name, read in PEOPLE_COMMANDS.items()}


def file_answers(
    name: str, data: bytes, folder: Path, commands: Mapping[str, Callable[[Path], Answer]]
) -> dict[str, Answer]:
    """Return what each command reads from a list or a CMR table."""
    path = folder / name
    path.write_bytes(data)
    return {command: answer(read, path) for command, read in commands.items()}


def page() -> str:
    """Return the content of docs/people_tables_answers.md."""
    parts = [_PAGE_HEAD]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        people = [(c.name, bool(c.layout), people_answers(c, folder)) for c in CASES]
        parts.append(_section("Participants", people, PEOPLE_COMMANDS, "people"))
        lists = [(c.name, False, file_answers(c.name, c.data, folder, LIST_COMMANDS)) for c in LIST_CASES]
        parts.append(_section("Lists of people", lists, LIST_COMMANDS, "identifiers"))
        cmr = [(c.name, False, file_answers(c.name, c.data, folder, CMR_COMMANDS)) for c in CMR_CASES]
        parts.append(_section("CMR examinations", cmr, CMR_COMMANDS, "examinations"))
    return "\n".join(parts)


def _section(
    title: str, rows: Sequence[tuple[str, bool, Mapping[str, Answer]]], commands: Mapping[str, object], what: str
) -> str:
    lines = [
        f"## {title}",
        "",
        f"| table | layout | {' | '.join(commands)} | answer |",
        f"|---|---|{'---|' * len(commands)}---|",
    ]
    for name, has_layout, answers in rows:
        marks = " | ".join("refused" if isinstance(a, str) else "read" for a in answers.values())
        first = next(iter(answers.values()))
        text = f"{len(first)} {what}" if not isinstance(first, str) else _short(first)
        lines.append(f"| `{name}` | {'yes' if has_layout else ''} | {marks} | {text} |")
    return "\n".join([*lines, ""])


def _short(message: str) -> str:
    text = message.replace("|", "\\|").replace("\n", " ")
    return text if len(text) <= 200 else f"{text[:200].rpartition(' ')[0]} ..."


_PAGE_HEAD = """# Tables of people: the answers of every command

Generated by `make docs` from the tables in `tests/lvm_core/tables/people_cases.py`, which are
made up. Each command reads each table on its own way from the file; a test demands that the answers
are equal, and equal to what was worked out by hand. One exception: a study may follow up people of
whom it knows no age, sex or body size (`no_known_column.csv`). The rules are in
[people_tables.md](people_tables.md).
"""
