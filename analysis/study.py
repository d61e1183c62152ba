"""The study file, read and checked, and the tables that it names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import pandas as pd

from analysis.code_lists import read_code_list
from analysis.followup import FollowUp, build_follow_up
from analysis.identifiers import identifiers_of
from analysis.study_settings import Study
from analysis.wide_records import event_records
from lvm_core.errors import UsageError
from lvm_core.settings_text import parse_settings

_ID_COLUMNS: Final = ("participant_id", "eid")


def load_study(path: Path) -> Study:
    """Read and check a study file.

    Args:
        path: YAML.

    Returns:
        The study, its paths absolute.

    Raises:
        UsageError: it cannot be read, a name is unknown, a value is not what is expected (all
            mistakes at once, with their lines), or an input does not exist.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    study = parse_settings(text, Study, str(path))
    folder = path.resolve().parent
    given = {name: value for name, value in study.inputs if value is not None}
    inputs = study.inputs.model_copy(update={n: folder / value for n, value in given.items()})
    training = study.training
    if training.exclude_ids is not None:
        training = training.model_copy(update={"exclude_ids": folder / training.exclude_ids})
    paths = [*inputs, ("training.exclude_ids", training.exclude_ids)]
    absent = [f"{name}: {value}" for name, value in paths if value and not value.exists()]
    if absent:
        raise UsageError(f"inputs of {path} do not exist: {'; '.join(absent)}")
    return study.model_copy(update={"inputs": inputs, "training": training})


def predictions_of(study: Study) -> Path:
    """Return the table of predictions, or the pattern of its files in a run folder."""
    return prediction_files(study.inputs.predictions)


def prediction_files(given: Path) -> Path:
    """Return a table as it is, or the pattern of the files of a run folder."""
    if not given.is_dir():
        return given
    inner = given / "predictions"
    return (inner if inner.is_dir() else given) / "*.parquet"


def follow_up_of(study: Study) -> FollowUp:
    """Build the follow-up table of a study.

    Raises:
        TableRefused: a table cannot be used.
        UsageError: a list of people cannot be read, or an outcome is not in the code list.
    """
    inputs = study.inputs
    lists = {
        "inputs.withdrawn": inputs.withdrawn, "inputs.excluded": inputs.excluded,
        "training.exclude_ids": study.training.exclude_ids,
    }  # fmt: skip
    code_list = read_code_list(inputs.code_list)
    _refuse_unlisted(study, set(code_list["outcome"]))
    people = {name: _people(path) for name, path in lists.items() if path is not None}
    left_out = [people.get(name, []) for name in ("inputs.excluded", "training.exclude_ids")]
    found = build_follow_up(
        predictions=predictions_of(study),
        persons=inputs.participants,
        events=event_records(inputs.events, study.events_format),
        ends=inputs.follow_up_ends,
        deaths=inputs.deaths,
        encounters=inputs.encounters,
        history_starts=inputs.history_starts,
        code_list=code_list,
        rules=study.rules(),
        withdrawn=people.get("inputs.withdrawn", []),
        excluded=[person for own in left_out for person in own],
        date_formats={str(name): text for name, text in study.date_formats.items()},
        columns={str(name): names for name, names in study.columns.items()},
    )
    everybody = set(found.people["participant_id"])
    told = [text for name, ids in people.items() for text in _idle(name, ids, everybody)]
    return replace(found, notes=(*found.notes, *told))


def _refuse_unlisted(study: Study, listed: set[str]) -> None:
    unlisted = [one.name for one in study.all_outcomes if one.name not in listed]
    if unlisted:
        raise UsageError(
            f"the code list {study.inputs.code_list} has no codes of {', '.join(unlisted)}; it has "
            f"the outcomes {', '.join(sorted(listed))}"
        )


def _idle(name: str, ids: list[str], everybody: set[str]) -> list[str]:
    """What to say of a list that leaves nobody out: it may be right, or of another application."""
    if not ids:
        return [f"{name} is an empty list: it leaves nobody out"]
    if everybody.isdisjoint(ids):
        return [f"nobody of {name} is in any table: it leaves nobody out. Are ids written alike?"]
    return []


def _people(path: Path) -> list[str]:
    """Identifiers: one a line, or a table with participant_id or eid; [] of an empty file."""
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
        elif not path.read_text(encoding="utf-8-sig").strip():
            return []
        else:
            table = pd.read_csv(
                path, dtype=str, header=None, keep_default_na=False, encoding="utf-8-sig"
            )
            first = [str(value).strip() for value in table.iloc[0]]
            if set(first) & set(_ID_COLUMNS):
                table = table.iloc[1:].set_axis(first, axis=1)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    named = [name for name in _ID_COLUMNS if name in table.columns]
    if not named and table.shape[1] != 1:
        raise UsageError(f"{path} has {table.shape[1]} columns, expected participant_id or one")
    column = table[named[0]] if named else table.iloc[:, 0]
    return identifiers_of(column, called=path.name)
