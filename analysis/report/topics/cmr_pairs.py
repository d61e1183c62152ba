"""Pairs of an ECG and a CMR examination, one a person, with everything they are compared in."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.disclosure import meanings
from analysis.disclosure.aggregates import Aggregate, count, label
from analysis.disclosure.counts import Count
from analysis.study.cmr import pair_with_cmr
from analysis.study.data import StudyData
from analysis.study.people import AGE_BANDS_YEARS, BMI_CLASSES_KG_M2, banded
from lvm_core.medicine.ecg_rules import CORNELL_LIMIT_MEN_UV, CORNELL_LIMIT_WOMEN_UV
from lvm_core.medicine.lvh import Sex, lvh_arrays, lvh_limit_g_m2, sex_codes

RULES: Final = ("rule_avl", "rule_sokolow_lyon", "rule_cornell")
ANY_RULE: Final = "any_ecg_rule"
STRATA: Final = {
    "sex": "Sex",
    "age_band": "Age, years",
    "bmi_class": "Body mass index, kg/m2",
    "ethnicity": "Ethnicity",
    "imaged": "First CMR",
}
IMAGED: Final = "imaged"
"""The classification that is no part of the main results, but stands beside them."""
ANY_DATE: Final = ", imaged at any date"
"""Behind the name of a population that has people imaged before the training set's date too."""
FEWEST_OF_ETHNICITY: Final = 30
"""People of an ethnic group below which it is put together with others of that size."""

WITH_CMR: Final = "people with CMR"
NO_ECG: Final = "no usable ECG"
NOT_IN_TIME: Final = "no ECG close enough in time"
BEFORE: Final = "paired, but first imaged before the date of the training set: shown apart"
UNDATED: Final = "paired, but it is not known whether first imaged before that date"
NO_LABEL: Final = "paired, but body surface area or sex is unknown"
NO_RULES: Final = "paired, with body surface area and sex, but without all three ECG rules"
COMPLETE: Final = "paired, with body surface area, sex and all three ECG rules"
_STEPS: Final = {
    WITH_CMR: "all",
    NO_ECG: "no ECG",
    NOT_IN_TIME: "not in time",
    BEFORE: "before",
    UNDATED: "undated",
    NO_LABEL: "no label",
    NO_RULES: "no rules",
    COMPLETE: "complete",
}

_NUMBERS: Final = ("age_years", "bmi_kg_m2", "height_cm", "bsa_m2", "lvh_score", "r_avl_uv", "s_v3_uv", *RULES)


@dataclass(frozen=True, slots=True)
class Group:
    """People of one classification.

    Attributes:
        strata: of STRATA, or "" for everybody.
        people: pairs of those whose group is known.
    """

    strata: str
    people: pd.DataFrame

    def levels(self, of: pd.DataFrame | None = None) -> list[tuple[str, pd.DataFrame]]:
        """Return the people of each group, from low to high; all of them where there is none.

        Args:
            of: some of the people, instead of all.
        """
        own = self.people if of is None else of
        if not self.strata:
            return [("", own)]
        found = [(str(level), part) for level, part in own.groupby(self.strata)]
        return sorted(found, key=lambda one: level_order(self.strata, one[0]))


def level_order(strata: str, level: str) -> tuple[int, int, str]:
    """Return a key that sorts classifications, and their groups from low to high."""
    bands = [*AGE_BANDS_YEARS, *BMI_CLASSES_KG_M2]
    place = bands.index(level) if level in bands else len(bands)
    return list(STRATA).index(strata) if strata in STRATA else -1, place, level


def main_pairs(data: StudyData, pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs that the results are of: without people who may be of the training set.

    Where the study gives a date of imaging, they are people whose first CMR is on or after it.

    Args:
        data: of the study.
        pairs: of `cmr_pairs`.
    """
    date = data.study.training.exclude_imaged_before
    return pairs if date is None else pairs[pairs[IMAGED] == on_or_after(date)]


def groups_of(data: StudyData, pairs: pd.DataFrame) -> list[Group]:
    """Return everybody, each classification of the main pairs, and people by their first CMR.

    Args:
        data: of the study.
        pairs: of `cmr_pairs`.
    """
    main = main_pairs(data, pairs)
    made = [Group("", main)]
    for name in STRATA:
        own = pairs if name == IMAGED else main
        known = own[own[name].notna()]
        if len(known):
            made.append(Group(name, known))
    return made


def on_or_after(date: dt.date) -> str:
    """Return the group of people whose first CMR is on or after a date."""
    return f"on or after {date}"


def before(date: dt.date) -> str:
    """Return the group of people whose first CMR is before a date."""
    return f"before {date}"


def imaged_of(data: StudyData, people: pd.Series[Any]) -> pd.Series[Any]:
    """Return for each person whether the first CMR is before the date of the training set.

    Args:
        data: of a study with `training.exclude_imaged_before`.
        people: participant_id.

    Returns:
        `before` or `on_or_after` the date; missing for who has no CMR, and where one that may be
        the first is of unknown date.
    """
    date = data.study.training.exclude_imaged_before
    if date is None or data.cmr is None:
        return pd.Series(None, people.index, dtype=object)
    days = data.cmr.groupby("participant_id")["cmr_date"]
    first, is_whole = days.min(), days.count() == days.size()
    group = pd.Series(np.where(first < pd.Timestamp(date), before(date), on_or_after(date)), first.index, dtype=object)
    known = (first < pd.Timestamp(date)) | is_whole
    return people.map(group.where(known & first.notna()))


def people_of(strata: str, level: str, *, labelled: bool = False, with_rules: bool = False) -> Count:
    """Return the count of pairs of a group, the same in the flow, in counts and in results.

    Args:
        strata: of STRATA, or "".
        level: of it.
        labelled: whether LVH by CMR and by prediction is known of them.
        with_rules: whether all three ECG rules are, too.
    """
    is_before = level.startswith("before ") if strata == IMAGED else None
    return meanings.paired(strata, level, labelled=labelled, with_rules=with_rules, is_before=is_before)


def cmr_pairs(data: StudyData) -> pd.DataFrame:
    """Return one row a person with CMR and an ECG close enough in time.

    Args:
        data: of a study with CMR.

    Returns:
        participant_id, sex ("female", "male" or missing), age_years, bmi_kg_m2, height_cm; mass_g
        and mass_cmr_g in g, index_g_m2 and index_cmr_g_m2 in g/m2, both with the body surface area
        of the prediction; lvh and lvh_cmr (1, 0 or NaN); RULES (1, 0 or NaN), and any_ecg_rule,
        here known only where all three are;
        relative_index and relative_cornell, each divided by the limit of the sex; lvh_score;
        all_three: whether prediction, label and all three rules are known; and the columns of
        STRATA as text, missing where unknown.

    Raises:
        UsageError: see `pair_with_cmr`.
    """
    if data.cmr is None or data.study.cmr is None:
        raise ValueError("the study has no CMR")
    study = data.study
    pairs = pair_with_cmr(data.predictions, data.cmr, max_days=data.study.cmr.max_days_ecg_cmr)
    sex = pairs["sex"].astype(object).where(pairs["sex"].isin(["female", "male"]))
    made = pd.DataFrame({"participant_id": pairs["participant_id"], "sex": sex})
    for name in _NUMBERS:
        made[name] = _floats(pairs, name)
    made["mass_g"] = _floats(pairs, study.mass_column)
    made["mass_cmr_g"] = pairs["lvm_cmr_g"].astype(float)
    made["index_g_m2"] = _floats(pairs, study.index_column)
    made["index_cmr_g_m2"] = made["mass_cmr_g"] / made["bsa_m2"]
    made["lvh"] = _floats(pairs, study.lvh_column)
    return _with_strata(_with_lvh(made, data), data)


def _floats(table: pd.DataFrame, name: str) -> pd.Series[Any]:
    """A column as floats, NaN where missing, all NaN where the table has none."""
    if name not in table:
        return pd.Series(np.nan, table.index)
    return table[name].astype("Float64").astype("float64").replace([np.inf, -np.inf], np.nan)


def _with_lvh(made: pd.DataFrame, data: StudyData) -> pd.DataFrame:
    preset = data.study.lvh_preset
    codes = sex_codes([None if pd.isna(one) else Sex(one) for one in made["sex"]])
    found = lvh_arrays(made["index_cmr_g_m2"].to_numpy(dtype=float), codes, preset)
    lvh_cmr = np.where(found.known, found.value.astype(float), np.nan)
    limit = made["sex"].map({sex.value: lvh_limit_g_m2(sex, preset) for sex in Sex}).astype(float)
    cornell = made["sex"].map({"female": CORNELL_LIMIT_WOMEN_UV, "male": CORNELL_LIMIT_MEN_UV})
    made = made.assign(
        lvh_cmr=lvh_cmr,
        relative_index=made["index_g_m2"] / limit,
        relative_cornell=(made["r_avl_uv"] + made["s_v3_uv"]) / cornell.astype(float),
    )
    rules = made[list(RULES)]
    measured = rules.notna().all(axis=1)
    return made.assign(
        any_ecg_rule=rules.max(axis=1).where(measured),
        all_three=measured & made["lvh"].notna() & made["lvh_cmr"].notna(),
    )


def _with_strata(made: pd.DataFrame, data: StudyData) -> pd.DataFrame:
    return made.assign(
        age_band=banded(made["age_years"], AGE_BANDS_YEARS),
        bmi_class=banded(made["bmi_kg_m2"], BMI_CLASSES_KG_M2),
        ethnicity=_ethnicity(made, data),
        imaged=imaged_of(data, made["participant_id"]),
    )


def _ethnicity(made: pd.DataFrame, data: StudyData) -> pd.Series[Any]:
    """Ethnic group of each person; small groups together, or one would hide all the others."""
    if "ethnicity" not in data.persons:
        return pd.Series(None, made.index, dtype=object)
    known = data.persons.drop_duplicates("participant_id").set_index("participant_id")["ethnicity"]
    words = made["participant_id"].map(known).astype("string").str.strip()
    known_words = words.notna() & (words != "").fillna(False)
    groups: pd.Series[Any] = words.astype(object).where(known_words.astype(bool))
    fewest = max(FEWEST_OF_ETHNICITY, data.study.masking.k)
    return groups.mask(groups.isin(_too_small(groups.value_counts(), fewest)), "other groups")


def _too_small(sizes: pd.Series[Any], fewest: int) -> list[Any]:
    """Groups below a size, and the next larger ones until they have that size together."""
    ordered = sizes.sort_index().sort_values(kind="stable")
    before = ordered.cumsum() - ordered
    taken = (ordered < fewest) | ((before > 0) & (before < fewest))
    return list(ordered.index[taken])


def flow_aggregate(data: StudyData, pairs: pd.DataFrame) -> Aggregate:
    """Return how many people with CMR are left out, and why; the parts add up to all of them."""
    if data.cmr is None:
        raise ValueError("the study has no CMR")
    with_cmr = set(data.cmr["participant_id"]) & set(data.persons["participant_id"])
    with_mass = data.predictions.loc[data.predictions["lvm_pred_g"].notna(), "participant_id"]
    with_ecg = with_cmr & set(with_mass.dropna())
    main, date = main_pairs(data, pairs), data.study.training.exclude_imaged_before
    labelled = main["lvh_cmr"].notna() & main["lvh"].notna()
    n_complete = int(main["all_three"].sum())
    apart = (
        {}
        if date is None
        else {BEFORE: int((pairs[IMAGED] == before(date)).sum()), UNDATED: int(pairs[IMAGED].isna().sum())}
    )
    rows = {
        WITH_CMR: len(with_cmr),
        NO_ECG: len(with_cmr) - len(with_ecg),
        NOT_IN_TIME: len(with_ecg) - len(pairs),
        **apart,
        NO_LABEL: int((~labelled).sum()),
        NO_RULES: int(labelled.sum()) - n_complete,
        COMPLETE: n_complete,
    }
    columns = (label("step", "where people end"), count("n_people", "people"))
    table = pd.DataFrame({"step": list(rows), "n_people": list(rows.values())})
    counts = meanings.cmr_flow(table, _STEPS)
    return Aggregate("cmr_flow", table, columns, counts=counts)
