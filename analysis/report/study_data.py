"""Everything a study analyses, read once: people, ECGs, follow-up, CMR. It stays restricted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from analysis.report.document import About
from analysis.study_settings import Study


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
        cmr: of `analysis.cmr.read_cmr`, or None.
        persons: participant_id, sex, region, the study's covariates; one row a person.
        code_hits: code, system, match, outcome, source, comment of the code list, n_records and
            n_people of the cohort that it found.
        eligibility: how people come to be without a usable ECG, of `FollowUp`.
        body_size: index ECGs with height and weight near, far or of an unknown day, of `FollowUp`.
        sd: standard deviation of each exposure that "per SD" means, in its unit.
        provenance: checksums, versions, model, conventions, release of the follow-up ends; text.
        unknown_dates: ECGs and births at an unknown day, of `FollowUp`.
        notes: sentences about the inputs that a reader must see; no numbers, no people.
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

    def analysed(self, outcome: str) -> pd.DataFrame:
        """Return who is followed for an outcome: follow-up joined with their index ECG.

        Returns:
            A row an ECG: the columns of `follow_up` and of `ecgs`, and years = time_days / 365.25,
            status_code as whole numbers, event = status is 1; sorted by participant_id, index_date,
            ecg_id.
        """
        own = self.follow_up
        own = own[(own["outcome"] == outcome) & own["excluded"].isna()]
        new = [name for name in self.ecgs.columns if name not in own.columns]
        joined = own.merge(self.ecgs[["ecg_id", *new]], on="ecg_id", validate="one_to_one")
        days = joined["time_days"].astype(float)
        status = joined["status"].astype(int)
        return joined.assign(
            time_days=days, years=days / 365.25, status_code=status, event=status == 1
        )
