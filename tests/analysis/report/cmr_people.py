"""People with CMR and an ECG, written by hand, as the data of a study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import pandas as pd

from analysis.disclosure.masking import Masked, MaskingRule, mask
from analysis.report.topics.cmr import aggregates
from analysis.report.topics.cmr_pairs import MORE_RULES
from analysis.study.data import StudyData
from analysis.study.settings import Release
from tests.analysis.report.builders import study, study_data

EXACT: Final = MaskingRule(0, 1)
RULES: Final = ("rule_avl", "rule_sokolow_lyon", "rule_cornell")
_PERSON: Final[Mapping[str, Any]] = {
    "sex": "female",
    "age_years": 60.0,
    "bmi_kg_m2": 27.0,
    "height_cm": 165.0,
    "bsa_m2": 2.0,
    "lvm_pred_g": 90.0,
    "lvh_pred": False,
    "lvh_score": 0.2,
    "r_avl_uv": 500.0,
    "s_v3_uv": 700.0,
    "rule_avl": False,
    "rule_sokolow_lyon": False,
    "rule_cornell": False,
    "ecg_day": "2016-01-01",
    "cmr_day": "2016-01-01",
    "lvm_cmr_g": 100.0,
    "ethnicity": "White",
}
_NOT_OF_ECGS: Final = ("ecg_day", "cmr_day", "lvm_cmr_g", "ethnicity")


def hand_data(people: list[dict[str, Any]], **settings: Any) -> StudyData:
    """Return a study of people by hand.

    Args:
        people: what differs from `_PERSON`; ecg_day or cmr_day None for who has none. The index is
            the mass divided by bsa_m2.
        **settings: of the study; without `masking` nothing is masked.
    """
    whole = [{**_PERSON, "participant_id": f"P{i:04d}", **one} for i, one in enumerate(people)]
    table = pd.DataFrame(whole).astype({"bsa_m2": float, "lvm_pred_g": float})
    predictions = table[table["ecg_day"].notna()]
    predictions = predictions.assign(
        ecg_id=predictions["participant_id"] + "_0",
        model_id="hand",
        recorded_at=pd.to_datetime(predictions["ecg_day"]),
        lvmi_pred_g_m2=predictions["lvm_pred_g"] / predictions["bsa_m2"],
        **{
            name: predictions[name].astype("boolean")
            for name in (*RULES, *MORE_RULES, "lvh_pred")
            if name in predictions
        },
    ).drop(columns=list(_NOT_OF_ECGS))
    cmr = table.loc[table["cmr_day"].notna(), ["participant_id", "cmr_day", "lvm_cmr_g"]]
    cmr = cmr.rename(columns={"cmr_day": "cmr_date"})
    return replace(
        study_data(60, study=study(**({"release": Release(rule="none")} | settings))),
        predictions=predictions.reset_index(drop=True),
        cmr=cmr.assign(cmr_date=pd.to_datetime(cmr["cmr_date"])).reset_index(drop=True),
        persons=table[["participant_id", "sex", "ethnicity"]],
    )


def masked_of(data: StudyData, rule: MaskingRule = EXACT) -> dict[str, Masked]:
    """Return the masked tables of the topic by key; exact unless a rule is given."""
    return {one.key: mask(one, rule) for one in aggregates(data)}
