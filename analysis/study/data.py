"""All that a study analyses, read once: people, ECGs, follow-up, CMR. It stays restricted."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.follow_up import Exclusion
from analysis.follow_up.loading import nothing_in_common
from analysis.statistics.columns import TableRefused
from analysis.study.inputs import StudyInputs, follow_up_of, read_inputs
from analysis.study.outcomes import CLUSTER, HOUSEHOLD, YES_NO
from analysis.study.people import AGE_BANDS_YEARS, banded, read_persons
from analysis.study.predictions import footers_of, read_predictions
from analysis.study.settings import Study
from lvm_core.errors import UsageError
from lvm_core.units import DAYS_PER_YEAR

RELEASE: Final = "release of the follow-up ends"
"""Key of the release labels in `StudyData.provenance`."""
SEXES: Final = ("female", "male")
ECG_ONLY: Final = "lvm_ecg_only_g"
"""The mass of the model that sees the ECG alone."""
_BY_SEX: Final = ("exposure", ECG_ONLY)
_MEASURES: Final = (*_BY_SEX, "mass_g", "index_g_m2")
_CUTS: Final = (0.25, 0.5, 0.75)

# Exclusions are in the order in which they apply.
_REASONS: Final = tuple(Exclusion)
_NOT_OF_THE_COHORT: Final = _REASONS[: _REASONS.index(Exclusion.NO_USABLE_ECG)]
_WITHOUT_INDEX: Final = _REASONS[: _REASONS.index(Exclusion.UNKNOWN_REGION)]
_BEFORE_OUTCOMES: Final = _REASONS[: _REASONS.index(Exclusion.PREVALENT)]
_OF_BODY_SIZE: Final = ("bsa_m2", "lvmi_pred_g_m2", "lvmi_recal_g_m2", "lvh_pred", "lvh_recal")
_PACKAGES: Final = ("lvm-ai", "duckdb", "pandas", "numpy", "scipy", "matplotlib")
EXPOSURES: Final = {
    "lvm_pred_g": ("predicted LV mass", "g"),
    "lvmi_pred_g_m2": ("predicted LV mass index", "g/m2"),
    "lvm_recal_g": ("recalibrated LV mass", "g"),
    "lvmi_recal_g_m2": ("recalibrated LV mass index", "g/m2"),
    "any_ecg_rule": ("LVH by any ECG rule", ""),
    "rule_avl": ("LVH by R in aVL", ""),
    "rule_sokolow_lyon": ("LVH by Sokolow-Lyon", ""),
    "rule_cornell": ("LVH by Cornell voltage", ""),
    "lvh_cmr": ("LVH by CMR", ""),
}


def sd_key(name: str = "exposure", *, model: str = "", sex: str = "") -> str:
    """Return the key of a standard deviation: of a column, one model, one sex."""
    return ", ".join(part for part in (name, model, sex) if part)


@dataclass(frozen=True, slots=True)
class About:
    """What a report says of a study beside its tables; nothing here is about a person."""

    name: str  # of the study
    exposure: str  # column of the predictions
    exposure_name: str  # in words, such as "predicted LV mass index"
    exposure_unit: str  # such as g/m2; "yes against no" where it is yes or no
    outcomes: Mapping[str, str]  # names in words, by name in the study file; the primary outcome first
    horizon_years: float  # of absolute risks
    model_id: str  # the model that made the predictions
    lvh_preset: str  # limits of LVH
    k: int  # the smallest count of people or events that is shown; 0 when masking is off
    base: int  # counts are rounded to multiples of it; 1 when masking is off
    release: str  # the rule by which numbers may leave, of analysis.disclosure.release
    is_demo: bool  # predictions are of a demonstration model, or drawn
    several_ecgs: bool = False  # people may have several index ECGs
    several_models: bool = False  # predictions are of several models, which are analysed apart
    time_scale: str = "follow_up"  # of the Cox models, "follow_up" or "attained_age"
    is_restricted: bool = False  # the exact report, which must not leave
    rows: str = "same"  # of the models: "same" or "all"


@dataclass(frozen=True, slots=True)
class StudyData:
    """Rows of people; only aggregates of them may leave."""

    study: Study  # the settings
    about: About  # what the report says of the study
    flow: pd.DataFrame  # of `FollowUp`: outcome, reason, n_people, n_rows
    # Of `FollowUp.people`: a row per person (and ECG) and outcome: participant_id, ecg_id,
    # index_date, outcome, excluded (null: analysed), status (0 censored, 1 outcome, 2 death),
    # time_days, exit_date and more.
    follow_up: pd.DataFrame
    # A row per index ECG of the people who pass every exclusion before outcomes: participant_id,
    # ecg_id, index_date, region, the columns of predictions (age_years, sex "female"/"male",
    # bmi_kg_m2, height_cm, weight_kg, bsa_m2, lvm_pred_g, lvmi_pred_g_m2, lvh_pred, lvh_score,
    # rule_* ...), the study's covariates, and what topics group by: exposure, mass_g, index_g_m2
    # (floats), lvh (1, 0 or NaN), lvh_group ("LVH", "no LVH" or NaN), quartile (1 to 4, cut
    # within sex), exposure_group ("yes" or "no" of a yes/no exposure), exposure_in_sd_of_sex,
    # age_band, and household_id (text, never missing) where
    # the study names households. Missing is NaN or NA.
    ecgs: pd.DataFrame
    # A row per usable ECG of everybody in the cohort, with the columns of predictions and
    # recorded_at, and ecg_finding (of `FollowUp.ecg_findings`) where the study leaves people out by
    # the ECG: for repeats and for pairs with CMR.
    predictions: pd.DataFrame
    cmr: pd.DataFrame | None  # of `analysis.study.inputs.read_cmr`, or None
    persons: pd.DataFrame  # participant_id, sex, region, the study's covariates; one row per person
    code_hits: pd.DataFrame  # of `FollowUp`: the code list with n_records and n_people of the cohort
    eligibility: pd.DataFrame  # of `FollowUp`: the people and ECGs after each step to the index ECG
    body_size: pd.DataFrame  # of `FollowUp`: index ECGs with height and weight near, far, of an unknown day
    sd: Mapping[str, float]  # what "per SD" means, in the unit of the exposure, by `sd_key`
    provenance: Mapping[str, str]  # checksums, versions, model, conventions, release of the follow-up ends
    unknown_dates: pd.DataFrame = field(default_factory=pd.DataFrame)  # of `FollowUp`: ECGs and births
    unknown_findings: pd.DataFrame = field(default_factory=pd.DataFrame)  # of `FollowUp`: index ECGs that stay
    codes_caught: pd.DataFrame = field(default_factory=pd.DataFrame)  # of `FollowUp`: what the code list caught
    notes: tuple[str, ...] = ()  # sentences about the inputs that a reader must see; no numbers, no people
    follow_up_from_index: pd.DataFrame | None = None  # with the clock from the index ECG; for landmarks
    model_id: str = ""  # the model of these predictions, where the study has several; else ""
    _made: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def analysed(self, outcome: str, *, from_index: bool = False) -> pd.DataFrame:
        """Return the people who are followed for an outcome, each with the index ECG.

        There is a row per ECG, sorted by participant_id, index_date, ecg_id: the columns of
        `follow_up` and of `ecgs`, years (time_days / 365.25), status_code (whole numbers), event
        (status is 1); and where rows are not independent error_cluster (whole numbers: of the
        person, or of the household). With `from_index` the clock starts at the index ECG, whatever
        the study's landmark. The table is shared: do not change it.
        """
        from_index = from_index and self.follow_up_from_index is not None
        key = f"analysed {outcome} {from_index}"
        made: pd.DataFrame = self._once(key, lambda: self._analysed(outcome, from_index=from_index))
        return made

    def _once(self, key: str, make: Callable[[], Any]) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _analysed(self, outcome: str, *, from_index: bool) -> pd.DataFrame:
        rows = self.follow_up_from_index if from_index else self.follow_up
        assert rows is not None
        own = rows[(rows["outcome"] == outcome) & rows["excluded"].isna()]
        # By place and not by a join: a join of half a million texts takes seconds.
        places = self._once("places", lambda: pd.Index(self.ecgs["ecg_id"])).get_indexer(pd.Index(own["ecg_id"]))
        own, places = own[places >= 0].reset_index(drop=True), places[places >= 0]
        new = [name for name in self.ecgs.columns if name not in own.columns]
        ecgs = self.ecgs[new].take(places).reset_index(drop=True)
        days = own["time_days"].astype(float)
        status = own["status"].astype(int)
        made: dict[str, Any] = {"time_days": days, "years": days / DAYS_PER_YEAR, "status_code": status}
        joined = pd.concat([own.drop(columns="time_days"), ecgs], axis=1)
        return joined.assign(**made, event=status == 1, **self._clusters(own["participant_id"]))

    def _clusters(self, people: pd.Series[Any]) -> dict[str, Any]:
        """Return the rows that belong together: those of a household, or of a person."""
        if HOUSEHOLD in self.persons:
            households = people.map(self.persons.set_index("participant_id")[HOUSEHOLD])
            return {CLUSTER: pd.factorize(households)[0], HOUSEHOLD: households}
        return {CLUSTER: pd.factorize(people)[0]} if self.study.index.rule == "all" else {}

    def keys(self, outcome: str) -> dict[str, Any]:
        """Return the columns that mark the rows of results of an outcome."""
        return {"outcome": outcome, "primary": outcome == self.study.primary_outcome, "model_id": self.model_id}

    def by_prediction_model(self) -> tuple[StudyData, ...]:
        """Return a study for each model of the predictions, with its ECGs, SDs and quartiles."""
        models = sorted(map(str, self.ecgs["model_id"].dropna().unique())) if self.study.model_strata else []
        if len(models) < 2:
            return (self,)
        made: tuple[StudyData, ...] = self._once("models", lambda: tuple(map(self._of_model, models)))
        return made

    def _of_model(self, model: str) -> StudyData:
        keys = {sd_key(name, sex=sex): sd_key(name, model=model, sex=sex) for name in _BY_SEX for sex in ("", *SEXES)}
        return replace(
            self,
            study=self.study.model_copy(update={"model_strata": False}),
            about=replace(self.about, model_id=model),
            ecgs=self.ecgs[self.ecgs["model_id"] == model].reset_index(drop=True),
            predictions=self.predictions[self.predictions["model_id"] == model],
            sd={key: self.sd[theirs] for key, theirs in keys.items() if theirs in self.sd},
            model_id=model,
        )


def read_study_data(study: Study, read: StudyInputs | None = None) -> StudyData:
    """Read and join everything that a study analyses; `read` is of `read_inputs`.

    Raise UsageError where predictions are of several models or conventions, or of others than the
    study states.
    """
    read = read or read_inputs(study)
    found = follow_up_of(study, read)
    footers, silent = footers_of(study)
    people = found.people
    members = people.loc[~people["excluded"].isin(_NOT_OF_THE_COHORT), "participant_id"].unique()
    predictions = read_predictions(study, found.usable_ecgs)
    if read.crosswalk is not None:
        own = read.crosswalk.column(predictions["participant_id"])
        predictions = predictions.assign(participant_id=own)
    if study.exclude_ecg:
        predictions = predictions.assign(ecg_finding=predictions["ecg_id"].map(found.ecg_findings).astype(object))
    persons = read_persons(study, read.people, pd.Index(members))
    cmr = _cmr(study, read, persons, people[people["excluded"] != Exclusion.NOT_IN_COHORT])
    predictions = _without_far_body_size(study, predictions, persons)
    indexed = _index_ecgs(study, people, predictions, persons)
    sd = standard_deviations(study, indexed)
    indexed = with_scale(study, indexed, sd)
    eligible = indexed[indexed["eligible"]].drop(columns="eligible").reset_index(drop=True)
    return StudyData(
        study=study,
        about=_about(study, predictions),
        flow=found.flow,
        follow_up=people,
        follow_up_from_index=_from_index(study, read),
        ecgs=eligible,
        predictions=predictions,
        cmr=cmr,
        persons=persons,
        code_hits=found.code_hits,
        codes_caught=found.codes_caught,
        eligibility=found.eligibility,
        body_size=found.body_size,
        sd=sd,
        provenance=_provenance(study, footers, predictions, found.releases),
        unknown_dates=found.unknown_dates,
        unknown_findings=found.unknown_findings,
        notes=(*found.notes, *silent),
    )


def _from_index(study: Study, read: StudyInputs) -> pd.DataFrame | None:
    """Return follow-up without the study's landmark, for the landmarks of sensitivity analyses."""
    if not (study.latency_days and study.report and study.hazard_ratios):
        return None
    return follow_up_of(study.model_copy(update={"latency_days": 0}), read).people


def _cmr(study: Study, read: StudyInputs, persons: pd.DataFrame, participants: pd.DataFrame) -> pd.DataFrame | None:
    """Return the CMR of the cohort; refuse CMR of other people, and CMR without dates it needs.

    No row may be left, as when lists leave out the whole training set.
    """
    if read.cmr is None or study.cmr is None:
        return None
    theirs, ours = read.cmr["participant_id"], participants["participant_id"]
    if len(theirs) and len(ours) and not theirs.isin(ours).any():
        raise TableRefused(nothing_in_common("tables cmr and participants", "participant_id", theirs.min(), ours.min()))
    dated, apart = bool(read.cmr["cmr_date"].notna().any()), study.cmr.max_days_ecg_cmr
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
    return read.cmr[theirs.isin(persons["participant_id"])].reset_index(drop=True)


def _without_far_body_size(study: Study, predictions: pd.DataFrame, persons: pd.DataFrame) -> pd.DataFrame:
    """Make index and LVH unknown where height and weight are too far from the ECG, or undated."""
    if study.max_days_body_size is None:
        return predictions
    dates = pd.Series(pd.to_datetime(persons["body_size_date"]))
    measured = predictions["participant_id"].map(dates.set_axis(persons["participant_id"]))
    apart = (predictions["recorded_at"].dt.normalize() - measured).abs().dt.days
    far = ~(apart <= study.max_days_body_size)
    there = [name for name in _OF_BODY_SIZE if name in predictions]
    return predictions.assign(**{name: predictions[name].mask(far) for name in there})


def _index_ecgs(study: Study, people: pd.DataFrame, predictions: pd.DataFrame, persons: pd.DataFrame) -> pd.DataFrame:
    """Return a row per index ECG with what topics group by; `eligible`: passes up to outcomes."""
    chosen = people[people["ecg_id"].notna() & ~people["excluded"].isin(_WITHOUT_INDEX)]
    eligible = ~chosen["excluded"].isin(_BEFORE_OUTCOMES)
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
    exposure = table[study.exposure].astype("Float64").astype(float)
    return table.assign(
        exposure=exposure,
        exposure_group=exposure.map({1.0: "yes", 0.0: "no"}).astype(object) if study.is_yes_no else None,
        mass_g=table[study.mass_column].astype(float),
        index_g_m2=table[study.index_column].astype(float),
        lvh=lvh,
        lvh_group=lvh.map({1.0: "LVH", 0.0: "no LVH"}).astype(object),
        age_band=banded(pd.to_numeric(table["age_years"]), AGE_BANDS_YEARS),
    )


def standard_deviations(study: Study, indexed: pd.DataFrame) -> dict[str, float]:
    """Return the SD, by `sd_key`, over everybody with an index ECG, before exclusions for outcomes.

    With n - 1, both sexes together, one row per person; also for each sex, and where the study
    keeps several models apart, for each model and each sex in it.
    """
    known: dict[str, float] = {}
    measures = [name for name in _MEASURES if name != "exposure" or not study.is_yes_no]
    for model, rows in _by_model(study, indexed):
        first = rows.drop_duplicates("participant_id")
        for name in (one for one in measures if one in first):
            known[sd_key(name, model=model)] = float(first[name].std(ddof=1))
        if isinstance(study.sd, float | int) and not study.is_yes_no:
            known[sd_key(model=model)] = float(study.sd)
        for name in (one for one in _BY_SEX if one in first and one in measures):
            for sex, value in first.groupby("sex", observed=True)[name].std(ddof=1).items():
                known[sd_key(name, model=model, sex=str(sex))] = float(value)
    return known


def with_scale(study: Study, indexed: pd.DataFrame, sd: dict[str, float]) -> pd.DataFrame:
    """Add the exposure in SDs and its quartiles, within sex and, if kept apart, model."""
    in_sd = pd.Series(np.nan, indexed.index)
    quartile = pd.Series(np.nan, indexed.index)
    for model, rows in _by_model(study, indexed, several=False):
        one_sd = {sex: sd.get(sd_key(model=model, sex=sex), np.nan) for sex in SEXES}
        in_sd[rows.index] = rows["exposure"] / rows["sex"].map(one_sd)
        if not study.is_yes_no:
            quartile[rows.index] = _quartiles(rows)
    return indexed.assign(exposure_in_sd_of_sex=in_sd, quartile=quartile)


def _quartiles(rows: pd.DataFrame) -> pd.Series[float]:
    first = rows.drop_duplicates("participant_id")
    cuts = first.groupby("sex", observed=True)["exposure"].quantile(np.array(_CUTS)).unstack()
    made = pd.Series(np.nan, rows.index)
    for sex, bounds in cuts.iterrows():
        theirs = (rows["sex"] == sex) & rows["exposure"].notna()
        values = rows.loc[theirs, "exposure"].to_numpy()
        made[theirs] = 1.0 + np.searchsorted(bounds.to_numpy(), values, side="left")
    return made


def _by_model(study: Study, indexed: pd.DataFrame, *, several: bool = True) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield all rows, and those of each model; with `several` false only one of the two."""
    apart = study.model_strata and indexed["model_id"].nunique() > 1
    if several or not apart:
        yield "", indexed
    if apart:
        for model, rows in indexed.groupby("model_id", sort=True):
            yield str(model), rows


def _about(study: Study, predictions: pd.DataFrame) -> About:
    names = {one.name: one.words for one in study.outcomes}
    first = study.primary_outcome
    ordered = {first: names[first]} | names
    words, unit = EXPOSURES.get(study.exposure, (study.exposure.replace("_", " "), "its unit"))
    if study.is_yes_no:
        unit = YES_NO
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
        k=study.release.k,
        base=study.release.base,
        release=study.release.rule,
        is_demo=any(model.startswith(("demo-", "drawn-")) for model in models),
        several_ecgs=study.index.rule == "all",
        several_models=study.model_strata and len(models) > 1,
        time_scale=study.time_scale,
        rows=study.rows,
    )


def _provenance(
    study: Study, footers: dict[str, str], predictions: pd.DataFrame, releases: tuple[str, ...]
) -> dict[str, str]:
    checksums = {}
    for name, path in study.inputs:
        if path is not None and path.is_file():
            with path.open("rb") as stream:
                checksums[f"sha256 {name}"] = hashlib.file_digest(stream, "sha256").hexdigest()
    ids = hashlib.sha256()
    for name in ("ecg_id", "lvm_pred_g"):
        hashed = pd.util.hash_pandas_object(predictions[name], index=False)
        ids.update(hashed.to_numpy().tobytes())
    versions = {name: version(name) for name in _PACKAGES} | {"python": platform.python_version()}
    known = {RELEASE: ", ".join(releases)} if releases else {}
    return {**footers, **known, **checksums, "sha256 of ids and masses": ids.hexdigest(), **versions}
