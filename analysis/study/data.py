"""Everything a study analyses, read once: people, ECGs, follow-up, CMR. It stays restricted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from analysis.study.exposure import BY_SEX, SEXES, sd_key
from analysis.study.outcomes import CLUSTER, HOUSEHOLD
from analysis.study.settings import Study
from lvm_core.units import DAYS_PER_YEAR


@dataclass(frozen=True, slots=True)
class About:
    """What is known of a study beside its tables; nothing of it is of a person.

    Attributes:
        name: of the study.
        exposure: column of the predictions.
        exposure_name: in words, as "predicted LV mass index".
        exposure_unit: as g/m2.
        outcomes: names in words, by name in the study file; in its order, primary first.
        horizon_years: of absolute risks.
        model_id: that made the predictions.
        lvh_preset: limits of LVH.
        k: fewest people or events that are shown; 0 when masking is off.
        base: counts are rounded to it; 1 when masking is off.
        is_demo: predictions are of a demonstration model or drawn.
        choices: every setting of the study, in words, for the Methods paragraph.
        several_ecgs: people may have several index ECGs.
        several_models: predictions are of several models, kept apart.
        time_scale: of the Cox models, "follow_up" or "attained_age".
    """

    name: str
    exposure: str
    exposure_name: str
    exposure_unit: str
    outcomes: Mapping[str, str]
    horizon_years: float
    model_id: str
    lvh_preset: str
    k: int
    base: int
    is_demo: bool
    choices: Mapping[str, str] = field(default_factory=dict)
    several_ecgs: bool = False
    several_models: bool = False
    time_scale: str = "follow_up"


@dataclass(frozen=True, slots=True)
class StudyData:
    """Rows of people; only aggregates of them may leave.

    Attributes:
        study: checked settings.
        about: what the report says of the study.
        flow: of `FollowUp`: outcome, reason, n_people, n_rows.
        follow_up: of `FollowUp.people`: a row a person (and ECG) and outcome: participant_id,
            ecg_id, index_date, outcome, excluded (null: analysed), status (0 censored, 1 outcome, 2
            death), time_days, exit_date ...
        ecgs: a row an index ECG of who passed every exclusion that comes before outcomes:
            participant_id, ecg_id, index_date, region, the columns of predictions (age_years, sex
            "female"/"male", bmi_kg_m2, height_cm, weight_kg, bsa_m2, lvm_pred_g, lvmi_pred_g_m2,
            lvh_pred, lvh_score, rule_* ...), the study's covariates, and by names of their own what
            topics use: exposure, mass_g, index_g_m2 (floats), lvh (1, 0 or NaN), lvh_group ("LVH",
            "no LVH" or NaN), quartile (1 to 4, cut within sex), exposure_in_sd_of_sex, age_band,
            and household_id (text, never missing) where the study names households. Missing is NaN
            or NA.
        predictions: a row a usable ECG of everybody in the cohort, with the columns of predictions
            and recorded_at: for repeats and for pairs with CMR.
        cmr: of `analysis.study.cmr.read_cmr`, or None.
        persons: participant_id, sex, region, the study's covariates; one row a person.
        code_hits: code, system, match, outcome, source, comment of the code list, n_records and
            n_people of the cohort that it found.
        eligibility: how people come to be without a usable ECG, of `FollowUp`.
        body_size: index ECGs with height and weight near, far or of an unknown day, of `FollowUp`.
        sd: standard deviation of each exposure that "per SD" means, in its unit, by `sd_key`.
        provenance: checksums, versions, model, conventions, release of the follow-up ends; text.
        unknown_dates: ECGs and births at an unknown day, of `FollowUp`.
        notes: sentences about the inputs that a reader must see; no numbers, no people.
        follow_up_from_index: `follow_up` with the clock starting at the index ECG, where the study
            has a landmark.
        model_id: of the predictions where these are one model's of several, else "".
    """

    study: Study
    about: About
    flow: pd.DataFrame
    follow_up: pd.DataFrame
    ecgs: pd.DataFrame
    predictions: pd.DataFrame
    cmr: pd.DataFrame | None
    persons: pd.DataFrame
    code_hits: pd.DataFrame
    eligibility: pd.DataFrame
    body_size: pd.DataFrame
    sd: Mapping[str, float]
    provenance: Mapping[str, str]
    unknown_dates: pd.DataFrame = field(default_factory=pd.DataFrame)
    notes: tuple[str, ...] = ()
    follow_up_from_index: pd.DataFrame | None = None
    model_id: str = ""
    _made: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def analysed(self, outcome: str, *, from_index: bool = False) -> pd.DataFrame:
        """Return who is followed for an outcome: follow-up joined with their index ECG.

        Args:
            outcome: of the code list.
            from_index: with the clock starting at the index ECG, whatever the study's landmark.

        Returns:
            A row an ECG, not to be changed: the columns of `follow_up` and of `ecgs`, and years =
            time_days / 365.25, status_code as whole numbers, event = status is 1; where rows are
            not independent, error_cluster (whole numbers: the person, or the household, in which
            people are nested); sorted by participant_id, index_date, ecg_id.
        """
        from_index = from_index and self.follow_up_from_index is not None
        key = f"analysed {outcome} {from_index}"
        if key not in self._made:
            self._made[key] = self._analysed(outcome, from_index=from_index)
        made: pd.DataFrame = self._made[key]
        return made

    def _analysed(self, outcome: str, *, from_index: bool) -> pd.DataFrame:
        rows = self.follow_up_from_index if from_index else self.follow_up
        assert rows is not None
        own = rows[(rows["outcome"] == outcome) & rows["excluded"].isna()]
        # By place and not by a join: a join of half a million texts takes seconds.
        places = self._ecg_places().get_indexer(pd.Index(own["ecg_id"]))
        own, places = own[places >= 0].reset_index(drop=True), places[places >= 0]
        new = [name for name in self.ecgs.columns if name not in own.columns]
        ecgs = self.ecgs[new].take(places).reset_index(drop=True)
        days = own["time_days"].astype(float)
        status = own["status"].astype(int)
        made: dict[str, Any] = {"time_days": days, "years": days / DAYS_PER_YEAR, "status_code": status}
        joined = pd.concat([own.drop(columns="time_days"), ecgs], axis=1)
        return joined.assign(**made, event=status == 1, **self._clusters(own["participant_id"]))

    def _ecg_places(self) -> pd.Index[Any]:
        if "places" not in self._made:
            self._made["places"] = pd.Index(self.ecgs["ecg_id"])
        made: pd.Index[Any] = self._made["places"]
        return made

    def _clusters(self, people: pd.Series[Any]) -> dict[str, Any]:
        """Whose rows belong together: of a household, or of a person."""
        if HOUSEHOLD in self.persons:
            own = self.persons.set_index("participant_id")[HOUSEHOLD]
            households = people.map(own)
            return {CLUSTER: pd.factorize(households)[0], HOUSEHOLD: households}
        return {CLUSTER: pd.factorize(people)[0]} if self.study.index.rule == "all" else {}

    def keys(self, outcome: str) -> dict[str, Any]:
        """Return what tells the rows of results of an outcome from those of others."""
        return {"outcome": outcome, "primary": outcome == self.study.primary_outcome, "model_id": self.model_id}

    def by_prediction_model(self) -> tuple[StudyData, ...]:
        """Return the study of each model of the predictions by itself, or this one if one only.

        Each has the ECGs of its model, its own SD, and quartiles cut among them; its rows of
        results say which model they are of.
        """
        if not self.study.model_strata:
            return (self,)
        models = sorted(map(str, self.ecgs["model_id"].dropna().unique()))
        if len(models) < 2:
            return (self,)
        if "models" not in self._made:
            self._made["models"] = tuple(self._of_model(model) for model in models)
        made: tuple[StudyData, ...] = self._made["models"]
        return made

    def _of_model(self, model: str) -> StudyData:
        keys = {sd_key(name, sex=sex): sd_key(name, model=model, sex=sex) for name in BY_SEX for sex in ("", *SEXES)}
        sd = {key: self.sd[theirs] for key, theirs in keys.items() if theirs in self.sd}
        return replace(
            self,
            study=self.study.model_copy(update={"model_strata": False}),
            about=replace(self.about, model_id=model),
            ecgs=self.ecgs[self.ecgs["model_id"] == model].reset_index(drop=True),
            predictions=self.predictions[self.predictions["model_id"] == model],
            sd=sd,
            model_id=model,
        )
