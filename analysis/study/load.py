"""Read everything that a study analyses."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from analysis.follow_up.follow_up import FollowUp
from analysis.follow_up.people import codes, column, days, refuse_other_people
from analysis.follow_up.rules import RELEASE
from analysis.study.cmr import cmr_frame
from analysis.study.data import About, StudyData
from analysis.study.exposure import standard_deviations, with_scale
from analysis.study.inputs import StudyInputs, follow_up_of, read_inputs
from analysis.study.outcomes import HOUSEHOLD
from analysis.study.predictions import footers_of, read_predictions
from analysis.study.settings import Study, StudyCovariate
from lvm_core.errors import UsageError
from lvm_core.tables import People
from lvm_core.tables.values import Meaning, identifiers, number_meaning, parse_column

Bands = Mapping[str, tuple[float, float]]

AGE_BANDS_YEARS: Final[Bands] = {"<50": (0, 50), "50-59": (50, 60), "60-69": (60, 70), "70+": (70, np.inf)}
# World Health Organization: 25 overweight, 30 obesity; underweight is too rare for a class.
BMI_CLASSES_KG_M2: Final[Bands] = {"<25": (0, 25), "25-29.9": (25, 30), "30+": (30, np.inf)}


def banded(values: pd.Series[Any], bands: Bands) -> pd.Series[Any]:
    """Return the name of each value's band, None where it is unknown.

    Args:
        values: numbers.
        bands: lower bound, within, and upper bound, outside, by name.
    """
    named = pd.Series(None, values.index, dtype=object)
    for name, (low, high) in bands.items():
        named[((values >= low) & (values < high)).fillna(False).astype(bool)] = name
    return named


_TEXTS: Final = ("region", "ethnicity")
_BODY_SIZE: Final = "body_size_date"
_SHOWN: Final = 12
# Of a category "none" and "unknown" may be levels; these cannot.
_NO_LEVEL: Final = frozenset({"", "na", "n/a", "nan", "null"})
_YES_NO: Final = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0, "yes": 1.0, "no": 0.0, "1.0": 1.0, "0.0": 0.0}


def read_persons(study: Study, people: People, members: pd.Index[Any]) -> pd.DataFrame:
    """Return one row a person of the cohort.

    Args:
        study: settings.
        people: the participants.
        members: participant_id of the cohort.

    Returns:
        participant_id, region, sex and ethnicity where they are there, body_size_date where the
        study looks at it; the covariates as the study types them; household_id where it names a
        column of households, for people without one an own one.

    Raises:
        UsageError: a covariate is not of its type.
    """
    made: dict[str, Any] = {"participant_id": people.table["participant_id"].to_pandas()}
    for name in _TEXTS:
        if column(people, name) is not None:
            made[name] = codes(people, name).to_pandas()
    if column(people, "sex") is not None:
        made["sex"] = people.table["sex"].to_pandas()
    if study.max_days_body_size is not None:
        made[_BODY_SIZE] = pd.to_datetime(days(people, _BODY_SIZE).to_pandas())
    for one in study.covariates:
        made[one.name] = typed(people, one)
    table = pd.DataFrame(made)
    if study.household is not None:
        table[HOUSEHOLD] = _households(people, study.household, table["participant_id"])
    kept = table[table["participant_id"].isin(members)]
    return pd.DataFrame(kept.reset_index(drop=True))


def _households(people: People, own: str, person: pd.Series[str]) -> pd.Series[Any]:
    cells = people.raw.find(own)
    assert cells is not None, "study_people looks for it"
    homes = identifiers(cells, column_name=own, table=people.raw.name)[0].to_pandas()
    return pd.Series(("household " + homes).where(homes.notna(), "person " + person))


def typed(people: People, covariate: StudyCovariate) -> pd.Series[Any]:
    """Return a covariate as numbers, as 1 and 0, or as text; missing where it is unknown.

    Raises:
        UsageError: a value is not of the type, or a category lacks its reference level.
    """
    found = column(people, covariate.name)
    assert found is not None, "study_people looks for it"
    own, cells = found
    layout = people.layout
    if covariate.kind == "category":
        return _category(cells, covariate, layout.missing_codes)
    decimal_comma = people.raw.decimal_comma if layout.decimal is None else layout.decimal == ","
    number = number_meaning(decimal_comma=decimal_comma)
    meaning = number if covariate.kind == "number" else Meaning(_yes_no, "yes or no", pa.float64())
    values = parse_column(cells, meaning, column_name=own, table=people.raw.name, missing=layout.missing_codes)
    return pd.Series(values.to_pandas(), dtype=float)


def _yes_no(text: str) -> float:
    if text.lower() not in _YES_NO:
        raise ValueError("expected yes or no, true or false, 1 or 0")
    return _YES_NO[text.lower()]


def _category(cells: pa.Array, covariate: StudyCovariate, missing: frozenset[str]) -> pd.Series[Any]:
    texts = cells.to_pandas().astype("string").str.strip()
    known = texts.notna() & ~texts.str.lower().isin(_NO_LEVEL).fillna(True) & ~texts.isin(missing).fillna(True)
    levels = sorted(texts[known].unique())
    if covariate.reference not in levels:
        raise UsageError(
            f"covariate {covariate.name} has the reference {covariate.reference!r}, expected "
            f"one of its levels: {', '.join(levels[:_SHOWN])}"
            f"{' ...' if len(levels) > _SHOWN else ''}"
        )
    kept = [text if is_known else None for text, is_known in zip(texts, known, strict=True)]
    return pd.Series(kept, texts.index)


# Exclusions that come before anything about an outcome; the first five before the index ECG.
BEFORE_INDEX: Final = ("not_in_cohort", "withdrawn", "excluded_by_list", "no_usable_ecg", "missing_exposure")
BEFORE_OUTCOMES: Final = (
    *BEFORE_INDEX,
    "unknown_region",
    "death_before_index",
    "index_after_admin_end",
    "lost_before_index",
)
_NOT_OF_THE_COHORT: Final = BEFORE_INDEX[:3]
_OF_BODY_SIZE: Final = ("bsa_m2", "lvmi_pred_g_m2", "lvmi_recal_g_m2", "lvh_pred", "lvh_recal")
_PACKAGES: Final = ("lvm-ai", "duckdb", "pandas", "numpy", "scipy", "matplotlib")
_EXPOSURES: Final = {
    "lvm_pred_g": ("predicted LV mass", "g"),
    "lvmi_pred_g_m2": ("predicted LV mass index", "g/m2"),
    "lvm_recal_g": ("recalibrated LV mass", "g"),
    "lvmi_recal_g_m2": ("recalibrated LV mass index", "g/m2"),
}


def read_study_data(study: Study, read: StudyInputs | None = None) -> StudyData:
    """Read and join everything that a study analyses.

    Args:
        study: settings.
        read: of `read_inputs`; read here where it is not given.

    Raises:
        TableRefused: a table cannot be used.
        UsageError: a column is missing, predictions are of several models or conventions, or of
            others than the study states.
    """
    read = read or read_inputs(study)
    found = follow_up_of(study, read)
    footers, silent = footers_of(study)
    outside = found.people["excluded"].isin(_NOT_OF_THE_COHORT)
    members = pd.Index(found.people.loc[~outside, "participant_id"].unique())
    predictions = read_predictions(study, found.usable_ecgs)
    persons = read_persons(study, read.people, members)
    cmr = _cmr(study, read, persons, found.people[found.people["excluded"] != BEFORE_INDEX[0]])
    predictions = _without_far_body_size(study, predictions, persons)
    indexed = _index_ecgs(study, found, predictions, persons)
    sd = standard_deviations(study, indexed)
    indexed = with_scale(study, indexed, sd)
    eligible = indexed[indexed["eligible"]].drop(columns="eligible").reset_index(drop=True)
    return StudyData(
        study=study,
        about=_about(study, predictions),
        flow=found.flow,
        follow_up=found.people,
        follow_up_from_index=_from_index(study, read),
        ecgs=eligible,
        predictions=predictions,
        cmr=cmr,
        persons=persons,
        code_hits=found.code_hits,
        eligibility=found.eligibility,
        body_size=found.body_size,
        sd=sd,
        provenance=_provenance(study, footers, predictions, found.releases),
        unknown_dates=found.unknown_dates,
        notes=(*found.notes, *silent),
    )


def _from_index(study: Study, read: StudyInputs) -> pd.DataFrame | None:
    """Follow-up without the landmark of the study, for the landmarks of sensitivity analyses."""
    if not (study.latency_days and study.report and study.hazard_ratios):
        return None
    return follow_up_of(study.model_copy(update={"latency_days": 0}), read).people


def _cmr(study: Study, read: StudyInputs, persons: pd.DataFrame, participants: pd.DataFrame) -> pd.DataFrame | None:
    """The CMR of the cohort; some of its people must be ours, and dates there where needed.

    Lists may leave out everybody who has one, as the whole training set: then there is none.
    """
    if read.cmr is None or study.cmr is None:
        return None
    table = cmr_frame(read.cmr)
    refuse_other_people(table, participants, called="cmr", calls="participants")
    dated, apart = bool(table["cmr_date"].notna().any()), study.cmr.max_days_ecg_cmr
    if dated == (apart is None):
        raise UsageError(
            f"cmr.max_days_ecg_cmr is {'null' if apart is None else apart}, but inputs.cmr has "
            f"{'' if dated else 'no '}dates; expected "
            f"{'how far an ECG may be from its CMR, in days' if dated else 'null'}"
        )
    if study.training.exclude_imaged_before is not None and not dated:
        raise UsageError(
            "training.exclude_imaged_before needs the column cmr_date of inputs.cmr: without it "
            "nobody is known to be imaged on or after that date"
        )
    return table[table["participant_id"].isin(persons["participant_id"])].reset_index(drop=True)


def _without_far_body_size(study: Study, predictions: pd.DataFrame, persons: pd.DataFrame) -> pd.DataFrame:
    """Make unknown what rests on height and weight of ECGs that are too far from them.

    Also where the day of height and weight is not known. Follow-up counts the index ECGs.
    """
    if study.max_days_body_size is None:
        return predictions
    dates = pd.Series(pd.to_datetime(persons["body_size_date"]))
    measured = predictions["participant_id"].map(dates.set_axis(persons["participant_id"]))
    apart = (predictions["recorded_at"].dt.normalize() - measured).abs().dt.days
    far = ~(apart <= study.max_days_body_size)
    there = [name for name in _OF_BODY_SIZE if name in predictions]
    return predictions.assign(**{name: predictions[name].mask(far) for name in there})


def _index_ecgs(study: Study, found: FollowUp, predictions: pd.DataFrame, persons: pd.DataFrame) -> pd.DataFrame:
    """A row an index ECG, with what topics group by; `eligible`: passed all before outcomes."""
    people = found.people
    chosen = people[people["ecg_id"].notna() & ~people["excluded"].isin(BEFORE_INDEX)]
    eligible = ~chosen["excluded"].isin(BEFORE_OUTCOMES)
    extra = [name for name in ("history_days", "entry_age_days") if name in chosen]
    rows = (
        chosen.assign(eligible=eligible)
        .groupby("ecg_id", sort=True)
        .agg(
            participant_id=("participant_id", "first"),
            index_date=("index_date", "first"),
            eligible=("eligible", "any"),
            **{name: (name, "first") for name in extra},
        )
        .reset_index()
    )
    table = rows.merge(predictions.drop(columns="participant_id"), on="ecg_id", validate="1:1")
    other = persons.drop(columns=["sex", "body_size_date"], errors="ignore")
    table = table.merge(other, on="participant_id", how="left", validate="m:1", suffixes=("", "_"))
    return _grouped(study, table).sort_values(["participant_id", "index_date", "ecg_id"])


def _grouped(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """Add the names by which topics know the exposure and the groups of people."""
    for name in (study.mass_column, study.index_column, study.lvh_column):
        if name not in table:
            table[name] = np.nan
    lvh = table[study.lvh_column].astype("Float64").astype(float)
    return table.assign(
        exposure=table[study.exposure].astype(float),
        mass_g=table[study.mass_column].astype(float),
        index_g_m2=table[study.index_column].astype(float),
        lvh=lvh,
        lvh_group=lvh.map({1.0: "LVH", 0.0: "no LVH"}).astype(object),
        age_band=banded(pd.to_numeric(table["age_years"]), AGE_BANDS_YEARS),
    )


def _about(study: Study, predictions: pd.DataFrame) -> About:
    names = {one.name: one.words for one in study.outcomes}
    first = study.primary_outcome
    ordered = {first: names[first]} | names
    words, unit = _EXPOSURES.get(study.exposure, (study.exposure, "its unit"))
    models = sorted(str(name) for name in predictions["model_id"].dropna().unique())
    return About(
        name=study.name,
        exposure=study.exposure,
        exposure_name=words,
        exposure_unit=unit,
        outcomes=ordered,
        horizon_years=study.horizon_years,
        model_id=", ".join(models),
        lvh_preset=study.lvh_preset.value,
        k=study.masking.k,
        base=study.masking.base,
        is_demo=any(model.startswith(("demo-", "drawn-")) for model in models),
        several_ecgs=study.index.rule == "all",
        several_models=study.model_strata and len(models) > 1,
        time_scale=study.time_scale,
    )


def _provenance(
    study: Study, footers: dict[str, str], predictions: pd.DataFrame, releases: tuple[str, ...]
) -> dict[str, str]:
    checksums = {}
    for name, path in study.inputs:
        if path is not None and path.is_file():
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            checksums[f"sha256 {name}"] = digest
    ids = hashlib.sha256()
    for name in ("ecg_id", "lvm_pred_g"):
        hashed = pd.util.hash_pandas_object(predictions[name], index=False)
        ids.update(hashed.to_numpy().tobytes())
    versions = {name: version(name) for name in _PACKAGES} | {"python": platform.python_version()}
    known = {RELEASE: ", ".join(releases)} if releases else {}
    return {**footers, **known, **checksums, "sha256 of ids and masses": ids.hexdigest(), **versions}
