"""The study file, read and checked, and the tables that it names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow as pa

from analysis.follow_up import FollowUp, build_follow_up, event_records
from analysis.follow_up.crosswalk import Crosswalk
from analysis.follow_up.extracts import CohortTables, Extract
from analysis.follow_up.people import in_words_of_studies, people_of
from analysis.study.code_lists import refuse_unfound, study_codes
from analysis.study.cohort import (
    cohort_tables,
    crosswalk_of,
    expanded_codes,
    open_extract,
    people_source,
    refuse_unmatched,
)
from analysis.study.settings import Columns, PersonsLayout, Study, refuse_unknown_columns
from lvm_core.errors import UsageError
from lvm_core.settings_text import parse_settings
from lvm_core.tables import People, PeopleList, judge_people, read_cmr_table, read_people_list
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
    code_list: pd.DataFrame  # of `study_codes`
    cmr: pd.DataFrame | None  # of `read_cmr`, where the study has CMR
    cohort: CohortTables | None  # the records of the extract, where the study has one
    crosswalk: Crosswalk | None  # record numbers of people, where the study has them
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
    code_lists = tuple(one.model_copy(update={"file": folder / one.file}) for one in study.code_lists)
    paths = [*inputs, ("training.exclude_ids", training.exclude_ids), *(("code_lists", one.file) for one in code_lists)]
    absent = [f"{name}: {value}" for name, value in paths if value and not value.exists()]
    if absent:
        raise UsageError(f"inputs of {path} do not exist: {'; '.join(absent)}")
    loaded = study.model_copy(update={"inputs": inputs, "training": training, "code_lists": code_lists})
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
    extract = open_extract(study)
    code_list = expanded_codes(study_codes(study), study, extract)
    (people, problems), lists = judged_people(study, extract), study_lists(study)
    cohort = cohort_tables(study, extract, code_list)
    crosswalk = crosswalk_of(study, cohort)
    cmr, cmr_notes = _cmr(study, cohort)
    if crosswalk is not None:
        people = _with_crosswalk(people, crosswalk)
        lists = {name: replace(own, people=crosswalk.people(own.people)) for name, own in lists.items()}
        cmr = None if cmr is None else cmr.assign(participant_id=crosswalk.column(cmr["participant_id"]))
    return StudyInputs(
        people=people,
        lists=lists,
        code_list=code_list,
        cmr=cmr,
        cohort=cohort,
        crosswalk=crosswalk,
        notes=tuple(map(_accepted, problems)),
        warnings=(*people.notes, *(note for own in lists.values() for note in own.notes), *cmr_notes),
    )


def _cmr(study: Study, cohort: CohortTables | None) -> tuple[pd.DataFrame | None, tuple[str, ...]]:
    """Return the CMR of a study, of its own table or of the extract, and notes."""
    if study.inputs.cmr is not None:
        return read_cmr(
            study.inputs.cmr, columns=study.columns.cmr, date_format=study.date_formats.get("cmr"), called="inputs.cmr"
        )
    if study.cmr is None:
        return None, ()
    if cohort is None or cohort.cmr is None:
        raise UsageError(
            f"cmr is set, but {study.inputs.extract} holds no LV mass (field 24105 of an imaging visit with its day, "
            "field 53); expected it, or inputs.cmr"
        )
    table = cohort.cmr
    texts = {"participant_id": table["participant_id"].astype(object), "cmr_date": pd.to_datetime(table["cmr_date"])}
    return table.assign(**texts, lvm_cmr_g=table["lvm_cmr_g"].astype(float)), ()


def _with_crosswalk(people: People, crosswalk: Crosswalk) -> People:
    """Return participants by person; refuse a person who is there by several record numbers."""
    ids = pd.Series(people.table["participant_id"].to_pandas())
    named = pa.array(crosswalk.column(ids), pa.string())
    place = people.table.schema.get_field_index("participant_id")
    table = people.table.set_column(place, people.table.schema.field(place), named)
    twice = int(pd.Series(named.to_pandas()).dropna().duplicated().sum())
    if twice:
        raise UsageError(
            f"the participants have {twice} rows of people who are there already by another record number; expected "
            "one row for each person of the crosswalk"
        )
    return replace(people, table=table)


def judged_people(study: Study, extract: Extract | None = None) -> tuple[People, tuple[str, ...]]:
    """Return the participants, and the problems of the whole table; refuse those not accepted."""
    people = study_people(study, extract)
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


def study_people(study: Study, extract: Extract | None = None) -> People:
    """Read the participants of a study, as their layout says, or else the shape of its extract."""
    layout = study.columns.persons
    if study.shape is not None and study.inputs.participants is None and layout.preset is None:
        layout = PersonsLayout.model_validate({**layout.model_dump(exclude_unset=True), "preset": study.shape})
    people = people_of(people_source(study, extract or open_extract(study)), layout)
    asked = {our: layout.names_of(our) for our in study.columns.persons.columns if our not in READ}
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
        events=_events(study, read.cohort),
        ends=inputs.follow_up_ends,
        deaths=_either(inputs.deaths, read.cohort, "deaths"),
        encounters=_either(inputs.encounters, read.cohort if study.hospital is not None else None, "encounters"),
        history_starts=inputs.history_starts,
        observation_periods=_either(inputs.observation_periods, read.cohort, "observation_periods"),
        crosswalk=read.crosswalk,
        code_list=read.code_list,
        rules=study.rules(),
        withdrawn=read.lists[_WITHDRAWN].people if _WITHDRAWN in read.lists else (),
        excluded=[person for name, own in read.lists.items() if name != _WITHDRAWN for person in own.people],
        date_formats={name: study.date_formats[name] for name in tables if name in study.date_formats},
        columns={name: own for name in tables if (own := _own_columns(study, name))},
    )
    everybody = set(found.people["participant_id"])
    idle = [_idle(name, own, everybody, allow_unknown=study.allow_unknown) for name, own in read.lists.items()]
    unmatched = refuse_unmatched(study, found)
    unfound = refuse_unfound(study, read.code_list, found)
    return replace(found, notes=(*found.notes, *read.notes, *filter(None, idle), *unmatched, *unfound))


def _own_columns(study: Study, name: str) -> Mapping[str, str]:
    """Return a table's own names; events of a format of their own have ours once they are read."""
    return {} if name == "events" and study.events_format != "records" else study.columns.of(name)


def _events(study: Study, cohort: CohortTables | None) -> pd.DataFrame | Path:
    if study.inputs.events is not None:
        return event_records(study.inputs.events, study.events_format, study.columns.events)
    assert cohort is not None, "settings ask for events or an extract"
    return cohort.events


def _either(given: Path | None, cohort: CohortTables | None, name: str) -> pd.DataFrame | Path | None:
    """Return a table that the study names, or else that of its extract."""
    return getattr(cohort, name, None) if given is None else given


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
