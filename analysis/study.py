"""The study file: what an analysis reads, whom it follows and for what, checked before any work."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import duckdb
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from analysis.code_lists import read_code_list
from analysis.followup import FollowUp, FollowUpRules, IndexRule, OutcomeRule, build_follow_up
from lvm_core.errors import UsageError
from lvm_core.settings_text import parse_settings

_ID_COLUMNS: Final = ("participant_id", "eid")
_OF_ECGS: Final = (
    "ecg_id", "model_id", "lvh_pred", "age_years", "sex", "height_cm", "weight_kg",
)  # fmt: skip
_Days = Annotated[int, Field(ge=0)]
_Table = Literal["predictions", "persons", "events", "ends", "deaths"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Inputs(_Strict):
    """Tables of a study, CSV or Parquet. Relative paths are taken from the study's folder.

    Attributes:
        predictions: run folder of `lvm-ai score`, or a table of predictions.
        participants: participant_id, region.
        events: participant_id, date, code, system, source.
        follow_up_ends: region, source, end_date.
        code_list: CSV of codes and outcomes.
        deaths: participant_id, death_date, ltfu_date, unless participants has the dates.
        withdrawn: list of people who withdrew.
        excluded: list of people to leave out.
    """

    predictions: Path
    participants: Path
    events: Path
    follow_up_ends: Path
    code_list: Path
    deaths: Path | None = None
    withdrawn: Path | None = None
    excluded: Path | None = None


class Index(_Strict):
    """Which ECG opens follow-up.

    Attributes:
        rule: `first` (on or after `date`, if given), `last_on_or_before` a date, or `all`.
        date: bound.
        max_days: for `last_on_or_before`: how long before the date at most.
    """

    rule: Literal["first", "last_on_or_before", "all"] = "first"
    date: dt.date | None = None
    max_days: _Days | None = None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        IndexRule(self.rule, self.date, self.max_days)
        return self


class Outcome(_Strict):
    """An outcome of the code list.

    Attributes:
        name: as in the code list.
        incident_sources: sources whose dates count as events.
        prevalent_sources: further sources that count for disease at the index only.
    """

    name: str
    incident_sources: Annotated[tuple[str, ...], Field(min_length=1)]
    prevalent_sources: tuple[str, ...] = ()


class Study(_Strict):
    """A study. What each rule means is in docs/follow_up.md.

    Attributes:
        name: of the study.
        inputs: its tables.
        columns: for each table (predictions, persons, events, ends, deaths) its own names of
            columns, as `region: centre_nation`.
        date_formats: for each table whose dates are not ISO their one strptime format.
        index: which ECG opens follow-up.
        exposure: column of the predictions that must be known.
        exclude_flags: quality flags with which an ECG is not usable.
        outcomes: one or more.
        primary_outcome: one of them.
        prevalent_window_days: how far back an outcome counts as prevalent; null for all history.
        latency_days: landmark.
        hazard_ratios: fit Cox models of the exposure, per SD and per 10 of its unit, and of LVH.
    """

    name: str
    inputs: Inputs
    columns: dict[
        Literal["predictions", "persons", "events", "ends", "deaths"], dict[str, str]
    ] = {}
    date_formats: dict[_Table, str] = {}
    index: Index = Index()
    exposure: str = "lvmi_pred_g_m2"
    exclude_flags: tuple[str, ...] = ()
    outcomes: Annotated[tuple[Outcome, ...], Field(min_length=1)]
    primary_outcome: str
    prevalent_window_days: _Days | None = None
    latency_days: _Days = 0
    hazard_ratios: bool = True

    @model_validator(mode="after")
    def _primary_is_there(self) -> Self:
        names = [outcome.name for outcome in self.outcomes]
        if len(set(names)) != len(names):
            raise ValueError(f"outcomes are {', '.join(names)}, expected each once")
        if self.primary_outcome not in names:
            raise ValueError(
                f"primary_outcome is {self.primary_outcome!r}, expected one of {', '.join(names)}"
            )
        return self

    def rules(self) -> FollowUpRules:
        """Return the rules of follow-up."""
        outcomes = tuple(
            OutcomeRule(one.name, one.incident_sources, one.prevalent_sources)
            for one in self.outcomes
        )
        return FollowUpRules(
            outcomes=outcomes,
            index=IndexRule(self.index.rule, self.index.date, self.index.max_days),
            exposure=self.exposure,
            exclude_flags=self.exclude_flags,
            prevalent_window_days=self.prevalent_window_days,
            latency_days=self.latency_days,
        )


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
    absent = [f"{name}: {value}" for name, value in inputs if value and not value.exists()]
    if absent:
        raise UsageError(f"inputs of {path} do not exist: {'; '.join(absent)}")
    return study.model_copy(update={"inputs": inputs})


def predictions_of(study: Study) -> Path:
    """Return the table of predictions, or the pattern of its files in a run folder."""
    given = study.inputs.predictions
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
        events=inputs.events,
        ends=inputs.follow_up_ends,
        deaths=inputs.deaths,
        code_list=read_code_list(inputs.code_list),
        rules=study.rules(),
        withdrawn=_people(inputs.withdrawn),
        excluded=_people(inputs.excluded),
        date_formats={str(name): text for name, text in study.date_formats.items()},
        columns={str(name): names for name, names in study.columns.items()},
    )


def exposures_of(study: Study) -> pd.DataFrame:
    """Read what Cox models need of each ECG.

    Returns:
        ecg_id, the exposure, lvh_pred, age_years, sex, height_cm, weight_kg.

    Raises:
        UsageError: a column is missing, or the predictions are of several models.
    """
    own = study.columns.get("predictions", {})
    path = predictions_of(study)
    reader = "read_parquet" if path.suffix == ".parquet" else "read_csv"
    with duckdb.connect() as connection:
        source = connection.sql(f"SELECT * FROM {reader}($path)", params={"path": str(path)})
        called = {own.get(name, name): name for name in (study.exposure, *_OF_ECGS)}
        missing = [name for name in called if name not in source.columns]
        if missing:
            raise UsageError(
                f"predictions have no column {', '.join(missing)}, which hazard ratios need; "
                "expected those of lvm-ai score, or `hazard_ratios: false`"
            )
        table = source.project(", ".join(f'"{name}"' for name in called)).df()
    table = table.rename(columns=called)
    models = sorted(table["model_id"].dropna().unique())
    if len(models) > 1:
        raise UsageError(
            f"predictions are of {len(models)} models ({', '.join(map(str, models))}), expected one"
        )
    return pd.DataFrame(table.drop(columns="model_id").assign(ecg_id=table["ecg_id"].astype(str)))


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
