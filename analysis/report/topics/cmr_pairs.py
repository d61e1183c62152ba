"""Pairs of an ECG and a CMR examination, one a person; their groups; and results by group."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd

from analysis.disclosure import meanings
from analysis.disclosure.aggregates import Aggregate, count, label
from analysis.disclosure.counts import Count
from analysis.disclosure.masking import HIDDEN, NOT_APPLICABLE, Masked
from analysis.report.topics.tables import aggregate
from analysis.report.words import interval_text, p_text
from analysis.study.cmr import pair_with_cmr
from analysis.study.data import StudyData
from analysis.study.people import AGE_BANDS_YEARS, BMI_CLASSES_KG_M2, banded
from lvm_core.medicine.ecg_rules import CORNELL_LIMIT_MEN_UV, CORNELL_LIMIT_WOMEN_UV
from lvm_core.medicine.lvh import Sex, lvh_arrays, lvh_limit_g_m2, sex_codes

RULES: Final = ("rule_avl", "rule_sokolow_lyon", "rule_cornell")
MORE_RULES: Final = (
    "rule_cornell_product",
    "rule_sokolow_lyon_product",
    "rule_peguero_lo_presti",
    "rule_gubner",
    "rule_lewis",
    "rule_voltage_sum",
)
ANY_RULE: Final = "any_ecg_rule"
STRATA: Final = {
    "sex": "Sex",
    "age_band": "Age, years",
    "bmi_class": "Body mass index, kg/m2",
    "ethnicity": "Ethnicity",
    "imaged": "First CMR",
}
IMAGED: Final = "imaged"
"""The classification that is not part of the main results, but shown beside them."""
ANY_DATE: Final = ", imaged at any date"
"""Added to the name of a population that also has people imaged before the training set's date."""
FEWEST_OF_ETHNICITY: Final = 30
"""Ethnic groups of fewer people are put together."""

# Where people with CMR end.
_STEPS: Final = {
    "all": "people with CMR",
    "no ECG": "no usable ECG",
    "not in time": "no ECG close enough in time",
    "finding": "paired, but the ECG has a finding for which the study leaves people out",
    "before": "paired, but first imaged before the date of the training set: shown apart",
    "undated": "paired, but it is not known whether first imaged before that date",
    "no label": "paired, but body surface area or sex is unknown",
    "no rules": "paired, with body surface area and sex, but without all three ECG rules",
    "complete": "paired, with body surface area, sex and all three ECG rules",
}
BEFORE: Final = _STEPS["before"]
UNDATED: Final = _STEPS["undated"]

_NUMBERS: Final = ("age_years", "bmi_kg_m2", "height_cm", "bsa_m2", "lvh_score", "r_avl_uv", "s_v3_uv")


@dataclass(frozen=True, slots=True)
class Group:
    """The pairs whose group of a classification (of STRATA, or "" for everybody) is known."""

    strata: str
    people: pd.DataFrame

    def levels(self, of: pd.DataFrame | None = None) -> list[tuple[str, pd.DataFrame]]:
        """Return the people of each group from low to high; or some `of` them, if there are any."""
        own = self.people if of is None else of
        if not self.strata:
            return [("", own)] if of is None or len(own) else []
        found = [(str(level), part) for level, part in own.groupby(self.strata)]
        return sorted(found, key=lambda one: level_order(self.strata, one[0]))


def level_order(strata: str, level: str) -> tuple[int, int, str]:
    """Return a key that sorts classifications, and their groups from low to high."""
    bands = [*AGE_BANDS_YEARS, *BMI_CLASSES_KG_M2]
    place = bands.index(level) if level in bands else len(bands)
    return list(STRATA).index(strata) if strata in STRATA else -1, place, level


def main_pairs(data: StudyData, pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs of people first imaged on or after the training set's date, if given."""
    date = data.study.training.exclude_imaged_before
    return pairs if date is None else pairs[pairs[IMAGED] == on_or_after(date)]


def groups_of(data: StudyData, pairs: pd.DataFrame) -> list[Group]:
    """Return everybody, each classification of the main pairs, and people by their first CMR."""
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

    That is `before` or `on_or_after` the date; missing for people without CMR, and where a CMR that
    may be the first has no known date. The study has `training.exclude_imaged_before`.
    """
    date = data.study.training.exclude_imaged_before
    if date is None or data.cmr is None:
        return pd.Series(None, people.index, dtype=object)
    days = data.cmr.groupby("participant_id")["cmr_date"]
    first, is_whole = days.min(), days.count() == days.size()
    group = pd.Series(np.where(first < pd.Timestamp(date), before(date), on_or_after(date)), first.index, dtype=object)
    known = (first < pd.Timestamp(date)) | is_whole
    return people.map(group.where(known & first.notna()))


def people_with_all_nine() -> Count:
    """Return what the count of pairs with the label and all nine ECG rules counts."""
    return people_of("", "", labelled=True, with_rules=True).complete("the other ECG rules")


def people_of(strata: str, level: str, *, labelled: bool = False, with_rules: bool = False) -> Count:
    """Return what the count of pairs of a group counts, the same in flow, counts and results.

    With `labelled`, LVH by CMR and by prediction is known; `with_rules`, all three ECG rules, too.
    """
    is_before = level.startswith("before ") if strata == IMAGED else None
    return meanings.paired(strata, level, labelled=labelled, with_rules=with_rules, is_before=is_before)


def cmr_pairs(data: StudyData) -> pd.DataFrame:
    """Return one row per person with CMR and an ECG close enough in time; see `pair_with_cmr`.

    People whose paired ECG has a finding of `exclude_ecg` are left out; no other ECG takes its
    place.
    The columns are participant_id, sex ("female", "male" or missing), age_years, bmi_kg_m2,
    height_cm; mass_g and mass_cmr_g in g, index_g_m2 and index_cmr_g_m2 in g/m2, both with the body
    surface area of the prediction; lvh and lvh_cmr (1, 0 or NaN); RULES and MORE_RULES (1, 0 or
    NaN), and any_ecg_rule, here known only where all three RULES are; relative_index and
    relative_cornell, each divided by the limit of the sex; lvh_score; all_three: whether
    prediction, label and RULES are known; all_nine: MORE_RULES, too; and the columns of STRATA as
    text, missing where unknown.
    """
    study = data.study
    pairs = _nearest(data)
    if study.exclude_ecg:
        pairs = pairs[pairs["ecg_finding"].isna()].reset_index(drop=True)
    sex = pairs["sex"].astype(object).where(pairs["sex"].isin(["female", "male"]))
    made = pd.DataFrame({"participant_id": pairs["participant_id"], "sex": sex})
    for name in (*_NUMBERS, *RULES, *MORE_RULES):
        made[name] = _floats(pairs, name)
    made["mass_g"] = _floats(pairs, study.mass_column)
    made["mass_cmr_g"] = pairs["lvm_cmr_g"].astype(float)
    made["index_g_m2"] = _floats(pairs, study.index_column)
    made["index_cmr_g_m2"] = made["mass_cmr_g"] / made["bsa_m2"]
    made["lvh"] = _floats(pairs, study.lvh_column)
    return _with_lvh(made, data).assign(
        age_band=banded(made["age_years"], AGE_BANDS_YEARS),
        bmi_class=banded(made["bmi_kg_m2"], BMI_CLASSES_KG_M2),
        ethnicity=_ethnicity(made, data),
        imaged=imaged_of(data, made["participant_id"]),
    )


def _nearest(data: StudyData) -> pd.DataFrame:
    """Return the pairs of everybody with CMR and a usable ECG, whatever the ECG shows."""
    assert data.cmr is not None
    assert data.study.cmr is not None
    return pair_with_cmr(data.predictions, data.cmr, max_days=data.study.cmr.max_days_ecg_cmr)


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
    all_three = measured & made["lvh"].notna() & made["lvh_cmr"].notna()
    return made.assign(
        any_ecg_rule=rules.max(axis=1).where(measured),
        all_three=all_three,
        all_nine=all_three & made[list(MORE_RULES)].notna().all(axis=1),
    )


def _ethnicity(made: pd.DataFrame, data: StudyData) -> pd.Series[Any]:
    """Ethnic group of each person; small groups together, or one would hide all the others."""
    if "ethnicity" not in data.persons:
        return pd.Series(None, made.index, dtype=object)
    known = data.persons.drop_duplicates("participant_id").set_index("participant_id")["ethnicity"]
    words = made["participant_id"].map(known).astype("string").str.strip()
    known_words = words.notna() & (words != "").fillna(False)
    groups: pd.Series[Any] = words.astype(object).where(known_words.astype(bool))
    fewest = max(FEWEST_OF_ETHNICITY, data.study.release.k)
    return groups.mask(groups.isin(_too_small(groups.value_counts(), fewest)), "other groups")


def _too_small(sizes: pd.Series[Any], fewest: int) -> list[Any]:
    """Groups below a size, and the next larger ones until they have that size together."""
    ordered = sizes.sort_index().sort_values(kind="stable")
    before = ordered.cumsum() - ordered
    taken = (ordered < fewest) | ((before > 0) & (before < fewest))
    return list(ordered.index[taken])


def flow_aggregate(data: StudyData, pairs: pd.DataFrame) -> Aggregate:
    """Return how many people with CMR are left out, and why; the parts add up to all of them."""
    assert data.cmr is not None
    with_cmr = set(data.cmr["participant_id"]) & set(data.persons["participant_id"])
    with_mass = data.predictions.loc[data.predictions["lvm_pred_g"].notna(), "participant_id"]
    with_ecg = with_cmr & set(with_mass.dropna())
    main, date = main_pairs(data, pairs), data.study.training.exclude_imaged_before
    labelled = main["lvh_cmr"].notna() & main["lvh"].notna()
    n_complete = int(main["all_three"].sum())
    n_pairs = len(_nearest(data)) if data.study.exclude_ecg else len(pairs)
    numbers = {"all": len(with_cmr), "no ECG": len(with_cmr - with_ecg), "not in time": len(with_ecg) - n_pairs}
    if data.study.exclude_ecg:
        numbers["finding"] = n_pairs - len(pairs)
    if date is not None:
        numbers |= {"before": int((pairs[IMAGED] == before(date)).sum()), "undated": int(pairs[IMAGED].isna().sum())}
    n_labelled = int(labelled.sum())
    numbers |= {"no label": len(main) - n_labelled, "no rules": n_labelled - n_complete, "complete": n_complete}
    columns = (label("step", "where people end"), count("n_people", "people"))
    rows = [{"step": _STEPS[step], "n_people": n} for step, n in numbers.items()]
    steps = {words: step for step, words in _STEPS.items()}
    return aggregate("cmr_flow", rows, columns, lambda table: meanings.cmr_flow(table, steps))


# Results by group, read after masking.


class Cell(NamedTuple):
    """A cell of a table: an estimate with its limits, or its P value where `digits` is None."""

    measure: str
    contrast: str
    digits: int | None = None


def estimate_of(
    found: Masked, measure: str, contrast: str = "", strata: str = "", level: str = ""
) -> Mapping[str, Any] | None:
    """Return one row of masked results with `hidden_estimate`, `hidden_p` and `people`, or None."""
    rows = found.rows
    is_own = (rows["measure"] == measure) & (rows["contrast"] == contrast)
    places = rows.index[is_own & (rows["strata"] == strata) & (rows["level"] == level)]
    if not len(places):
        return None
    place = places[0]
    hidden = {f"hidden_{name}": bool(found.hidden.loc[place, name]) for name in ("estimate", "p")}
    values = {str(name): value for name, value in rows.loc[place].items()}
    return values | hidden | {"people": found.shown("n_people").loc[place]}


def cells_of(found: Masked, cells: Iterable[Cell], strata: str = "", level: str = "") -> list[str]:
    """Return the people of a group and its cells as text; dashes where there is no such result."""
    rows = [(cell, estimate_of(found, cell.measure, cell.contrast, strata, level)) for cell in cells]
    people = next((str(row["people"]) for _, row in rows if row is not None), NOT_APPLICABLE)
    return [people, *(_text(cell, row) for cell, row in rows)]


def _text(cell: Cell, row: Mapping[str, Any] | None) -> str:
    if row is None:
        return NOT_APPLICABLE
    if cell.digits is None:
        return HIDDEN if row["hidden_p"] else p_text(row["p"])
    return interval_text(row, cell.digits, hidden=row["hidden_estimate"])


def levels_of(found: Masked, contrast: str, measure: str) -> list[tuple[str, str]]:
    """Return the strata and levels that a measure has, everybody first."""
    rows = found.rows
    own = rows[(rows["measure"] == measure) & (rows["contrast"] == contrast)]
    return sorted(dict.fromkeys(zip(own["strata"], own["level"], strict=True)), key=lambda one: level_order(*one))
