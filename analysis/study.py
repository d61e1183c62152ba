"""The study file, read and checked, and the tables that it names."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pandas as pd

from analysis.code_lists import read_code_list
from analysis.followup import FollowUp, build_follow_up
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
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
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
        UsageError: a list of people cannot be read.
    """
    inputs = study.inputs
    return build_follow_up(
        predictions=predictions_of(study),
        persons=inputs.participants,
        events=event_records(inputs.events, study.events_format),
        ends=inputs.follow_up_ends,
        deaths=inputs.deaths,
        encounters=inputs.encounters,
        history_starts=inputs.history_starts,
        code_list=read_code_list(inputs.code_list),
        rules=study.rules(),
        withdrawn=_people(inputs.withdrawn),
        excluded=[*_people(inputs.excluded), *_people(study.training.exclude_ids)],
        date_formats={str(name): text for name, text in study.date_formats.items()},
        columns={str(name): names for name, names in study.columns.items()},
    )


def _people(path: Path | None) -> list[str]:
    """Identifiers: one a line, or a table with participant_id or eid."""
    if path is None:
        return []
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
        else:
            table = pd.read_csv(path, dtype=str, header=None, keep_default_na=False)
            first = [str(value) for value in table.iloc[0]]
            if set(first) & set(_ID_COLUMNS):
                table = table.iloc[1:].set_axis(first, axis=1)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    named = [name for name in _ID_COLUMNS if name in table.columns]
    if not named and table.shape[1] != 1:
        raise UsageError(f"{path} has {table.shape[1]} columns, expected participant_id or one")
    column = table[named[0]] if named else table.iloc[:, 0]
    return [text for text in column.astype(str).str.strip() if text]
