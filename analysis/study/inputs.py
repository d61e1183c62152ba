"""The study file, read and checked, and the tables that it names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pandas as pd

from analysis.follow_up import FollowUp, build_follow_up, event_records
from analysis.follow_up.people import in_words_of_studies, people_of
from analysis.study.settings import Columns, PersonsLayout, Study, refuse_unknown_columns
from lvm_core.errors import UsageError
from lvm_core.settings_text import parse_settings
from lvm_core.tables import People, PeopleList, judge_people, read_cmr_table, read_code_table, read_people_list
from lvm_core.tables.layout import READ, date_format_problem
from lvm_core.tables.people import refuse_duplicate_keys
from lvm_core.tables.raw import decode

# How `judge_people` states medians, and how a report says the same without them.
_MEDIANS: Final = {
    r" is [\d.e+-]+ (?:\S+), expected ": " is outside ",
    r" \([\d.e+-]+ and [\d.e+-]+ cm\)": "",
    r" by \d+ % on the median of \d+ people, expected at most ": " on the median by over ",
}
_WITHDRAWN: Final = "inputs.withdrawn"


@dataclass(frozen=True)
class StudyInputs:
    """The tables of a study that are read by the same rules as in every command."""

    people: People  # the participants
    lists: dict[str, PeopleList]  # people of each list that is given, by the name of its setting
    code_list: pd.DataFrame  # of `read_code_list`
    cmr: pd.DataFrame | None  # of `read_cmr`, where the study has CMR
    notes: tuple[str, ...]  # sentences for the report; no numbers of people and no values of people
    warnings: tuple[str, ...]  # how the tables were read; only for the person who runs the study


def load_study(path: Path) -> Study:
    """Read and check a study file (YAML); the paths of the study become absolute.

    Raise UsageError with all mistakes of the file and their lines, or with the absent inputs.
    """
    study = parse_settings(_bytes_of(path, str(path)), Study, str(path))
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
    loaded = study.model_copy(update={"inputs": inputs, "training": training})
    return _with_layout(loaded, path, folder)


def _with_layout(study: Study, path: Path, folder: Path) -> Study:
    """Return the study with the layout file of its participants read, and one format of dates."""
    layout = study.columns.persons
    if layout.file is not None:
        file = folder / layout.file
        layout = _layout_of_file(file)
        try:
            refuse_unknown_columns(study, "persons", layout.columns)
        except ValueError as error:
            raise UsageError(f"{file}: {error}") from error
    formats = {one for one in (layout.date_format, study.date_formats.get("persons")) if one}
    if len(formats) > 1:
        raise UsageError(
            f"{path}: date_formats of persons is {study.date_formats['persons']}, but their layout "
            f"says {layout.date_format}; expected one of the two"
        )
    date_formats = dict(study.date_formats)
    for date_format in formats:
        problem = date_format_problem(date_format, layout.births)
        if problem is not None:
            raise UsageError(f"{path}: date_formats of persons: {problem}")
        date_formats["persons"] = date_format
        layout = layout.model_copy(update={"date_format": date_format})
    columns = study.columns.model_copy(update={"persons": layout})
    return study.model_copy(update={"columns": columns, "date_formats": date_formats})


def _layout_of_file(path: Path) -> PersonsLayout:
    text, _ = decode(_bytes_of(path, f"the layout {path} of the participants"), str(path))
    layout = parse_settings(text, PersonsLayout, str(path))
    if layout.file is not None:
        raise UsageError(f"{path} is a layout file that names another, {layout.file}; write it out")
    return layout


def prediction_files(given: Path) -> Path:
    """Return the path of predictions; for a run, finished and accepted, a pattern of files."""
    if not given.is_dir():
        return given
    if (given / "plan.json").is_file() and not (given / "_SUCCESS").is_file():
        raise UsageError(
            f"{given} is a run that is not finished or was not accepted (no _SUCCESS), so that "
            "ECGs may be missing or wrong; lvm-ai status says why. To use what is there all the "
            "same, name its folder predictions"
        )
    inner = given / "predictions"
    return (inner if inner.is_dir() else given) / "*.parquet"


def prediction_paths(given: Path) -> list[Path]:
    """Return the files of a table of predictions, or of a run folder."""
    found = prediction_files(given)
    return sorted(found.parent.glob(found.name)) if given.is_dir() else [found]


def read_inputs(study: Study) -> StudyInputs:
    """Read the participants, the lists, the codes of all outcomes and the CMR of a study."""
    code_list = read_code_list(study.inputs.code_list)
    listed = sorted(set(code_list["outcome"]))
    unlisted = [one.name for one in study.all_outcomes if one.name not in listed]
    if unlisted:
        raise UsageError(
            f"the code list {study.inputs.code_list} has no codes of {', '.join(unlisted)}; it has "
            f"the outcomes {', '.join(listed)}"
        )
    (people, problems), lists = judged_people(study), study_lists(study)
    cmr: pd.DataFrame | None = None
    cmr_notes: tuple[str, ...] = ()
    if study.inputs.cmr is not None:
        cmr, cmr_notes = read_cmr(
            study.inputs.cmr, columns=study.columns.cmr, date_format=study.date_formats.get("cmr"), called="inputs.cmr"
        )
    return StudyInputs(
        people=people,
        lists=lists,
        code_list=code_list,
        cmr=cmr,
        notes=tuple(map(_accepted, problems)),
        warnings=(*people.notes, *(note for own in lists.values() for note in own.notes), *cmr_notes),
    )


def judged_people(study: Study) -> tuple[People, tuple[str, ...]]:
    """Return the participants, and the problems of the whole table; refuse those not accepted."""
    people = study_people(study)
    refuse_duplicate_keys(people.table, people.raw.name)
    problems = judge_people(people.table).problems
    if problems and not study.accept_people:
        lines = "".join(f"  {in_words_of_studies(problem)}\n" for problem in problems)
        raise UsageError(
            f"the participants as a whole look wrong:\n{lines}"
            "Correct the table or its layout, or write `accept_people: true` in the study file"
        )
    return people, problems


def _accepted(problem: str) -> str:
    """Return what a report says of participants that look wrong: the problem without medians."""
    text = in_words_of_studies(problem)
    for median, words in _MEDIANS.items():
        text = re.sub(median, words, text)
    return f"the participants as a whole look wrong, and accept_people goes on with them: {text}"


def study_people(study: Study) -> People:
    """Read the participants of a study, as their layout says."""
    layout = study.columns.persons
    people = people_of(study.inputs.participants, layout)
    asked = {our: layout.names_of(our) for our in layout.columns if our not in READ}
    asked |= {one.name: layout.names_of(one.name) for one in study.person_columns}
    if study.household is not None:
        asked[study.household] = (study.household,)
    absent = [" or ".join(names) for names in asked.values() if people.raw.find_first(names) is None]
    if absent:
        raise UsageError(
            f"participants have no column {', '.join(absent)}, which covariates, household or "
            f"columns name; they have {', '.join(people.raw.names)}"
        )
    return people


def study_lists(study: Study) -> dict[str, PeopleList]:
    """Read the lists of people of a study, by setting; refuse a row with an ECG and no person."""
    given = {
        _WITHDRAWN: study.inputs.withdrawn,
        "inputs.excluded": study.inputs.excluded,
        "training.exclude_ids": study.training.exclude_ids,
    }
    return {name: _people_list(name, path) for name, path in given.items() if path is not None}


def _people_list(name: str, path: Path) -> PeopleList:
    found = read_people_list(_bytes_of(path, f"{name} {path}"), f"{name} {path.name}")
    if found.n_ecgs_alone:
        raise UsageError(
            f"{name} {path.name} has {found.n_ecgs_alone} rows that name an ECG (ecg_id) and no "
            "person; a study leaves out people: expected participant_id in each row"
        )
    return found


def read_code_list(path: Path) -> pd.DataFrame:
    """Read a list of codes; columns as `lvm_core.tables.read_code_table` has them."""
    return pd.DataFrame(read_code_table(_bytes_of(path, f"code list {path}"), path.name).to_pandas())


def read_cmr(
    path: Path, *, columns: Mapping[str, str] | None = None, date_format: str | None = None, called: str = "--cmr"
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read CMR examinations with a mass, and notes on how the table was read.

    The columns are participant_id (text), cmr_date (NaT where unknown) and lvm_cmr_g (grams, above
    0). `columns` are the table's own names of these, `date_format` is strptime's where dates are
    not ISO, and `called` names the table in messages.
    """
    data = _bytes_of(path, f"{called} {path}")
    found = read_cmr_table(data, f"{called} {path.name}", columns=columns, date_format=date_format)
    table = found.table.to_pandas()
    return pd.DataFrame(table.assign(cmr_date=pd.to_datetime(table["cmr_date"]))), found.notes


def _bytes_of(path: Path, called: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{called} cannot be read: {error}") from error


def follow_up_of(study: Study, read: StudyInputs | None = None) -> FollowUp:
    """Build the follow-up of a study; refuse a list of which nobody is in any table."""
    inputs, read = study.inputs, read or read_inputs(study)
    tables = [name for name in Columns.model_fields if name != "persons"]
    found = build_follow_up(
        predictions=prediction_files(inputs.predictions),
        persons=read.people,
        events=event_records(inputs.events, study.events_format),
        ends=inputs.follow_up_ends,
        deaths=inputs.deaths,
        encounters=inputs.encounters,
        history_starts=inputs.history_starts,
        code_list=read.code_list,
        rules=study.rules(),
        withdrawn=read.lists[_WITHDRAWN].people if _WITHDRAWN in read.lists else (),
        excluded=[person for name, own in read.lists.items() if name != _WITHDRAWN for person in own.people],
        date_formats={name: study.date_formats[name] for name in tables if name in study.date_formats},
        columns={name: study.columns.of(name) for name in tables},
    )
    everybody = set(found.people["participant_id"])
    idle = [_idle(name, own, everybody, allow_unknown=study.allow_unknown) for name, own in read.lists.items()]
    return replace(found, notes=(*found.notes, *read.notes, *filter(None, idle)))


def _idle(name: str, own: PeopleList, everybody: set[str], *, allow_unknown: bool) -> str | None:
    """Return a sentence about a list that leaves nobody out; refuse it unless that is allowed."""
    if not own.people:
        return f"{name} is an empty list: it leaves nobody out"
    if not everybody.isdisjoint(own.people):
        return None
    if not allow_unknown:
        raise UsageError(
            f"{own.name} has {len(own.people)} identifiers, and nobody of them is in any table: it "
            "would leave nobody out. Are identifiers written in the same way (007 is not 7)? For a list "
            "of other people, write `allow_unknown: true` in the study file"
        )
    return f"nobody of {name} is in any table: it leaves nobody out, as allow_unknown allows"
