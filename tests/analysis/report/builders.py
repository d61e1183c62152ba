"""A small drawn study for tests of topics: two outcomes, a few people left out for each reason.

Hazards of both outcomes rise with the predicted index (log hazard ratio 0.35 per 10 g/m2) and age,
so that estimates have a sign; nothing in it is of a real person.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.follow_up import Exclusion
from analysis.study.data import About, StudyData
from analysis.study.settings import CmrSettings, Inputs, Outcome, Release, Study, StudyCovariate
from lvm_core.medicine.body import body_surface_area_m2

OUTCOMES: Final = {"af": "atrial fibrillation", "heart_failure": "heart failure"}
LVH_LIMIT_G_M2: Final = {"female": 55.0, "male": 72.0}
_ENDS: Final = {"England": "2022-10-31", "Scotland": "2022-08-31", "Wales": "2022-05-31"}
# Shares of everybody whom each reason that comes before outcomes leaves out.
_EARLY: Final = {
    Exclusion.NOT_IN_COHORT: 0.02,
    Exclusion.WITHDRAWN: 0.004,
    Exclusion.EXCLUDED_BY_LIST: 0.01,
    Exclusion.NO_USABLE_ECG: 0.03,
    Exclusion.MISSING_EXPOSURE: 0.02,
    Exclusion.UNKNOWN_REGION: 0.01,
    Exclusion.DEATH_BEFORE_INDEX: 0.004,
    Exclusion.INDEX_AFTER_ADMIN_END: 0.01,
    Exclusion.LOST_BEFORE_INDEX: 0.01,
}
_BEFORE_ECG: Final = list(_EARLY)[:4]
_LATE: Final = {Exclusion.PREVALENT: 0.04, Exclusion.UNKNOWN_EVENT_DATE: 0.01, Exclusion.NO_FOLLOW_UP_TIME: 0.005}
_ANALYSED: Final = "analysed"
_RATES_A_YEAR: Final = {"af": 0.045, "heart_failure": 0.03}
_FILES: Final = ("predictions", "participants", "events", "follow_up_ends", "code_list", "cmr")
_BODY: Final = ("age_years", "sex", "bmi_kg_m2", "height_cm", "weight_kg", "bsa_m2")
_RULES: Final = ("rule_avl", "rule_sokolow_lyon", "rule_cornell", "any_ecg_rule")


def study(**changes: Any) -> Study:
    """Return the settings of the drawn study, with fields changed; its files do not exist."""
    files = {name: Path(f"{name}.csv") for name in _FILES}
    given: dict[str, Any] = {
        "name": "drawn study",
        "inputs": Inputs(**files),
        "outcomes": tuple(
            Outcome(name=name, label=words, incident_sources=("hes", "death")) for name, words in OUTCOMES.items()
        ),
        "primary_outcome": "af",
        "covariates": (
            StudyCovariate(name="sbp_mmhg", kind="number", label="systolic pressure, mmHg", mediator=True),
            StudyCovariate(name="diabetes", kind="yes_no"),
            StudyCovariate(name="smoking", kind="category", reference="never"),
        ),
        "cmr": CmrSettings(max_days_ecg_cmr=90),
        "bootstrap": 20,
        "release": Release(rule="strict"),  # what is harder to keep; tests of others say so
    }
    return Study(**(given | changes))


def about(settings: Study) -> About:
    """Return what the report says of a study."""
    names = {one.name: one.words for one in settings.outcomes}
    first = settings.primary_outcome
    return About(
        name=settings.name,
        exposure=settings.exposure,
        exposure_name="predicted LV mass index",
        exposure_unit="g/m2",
        outcomes={first: names[first]} | names,
        horizon_years=settings.horizon_years,
        model_id="drawn-r0.79",
        lvh_preset=settings.lvh_preset.value,
        k=settings.release.k,
        base=settings.release.base,
        release=settings.release.rule,
        is_demo=True,
    )


def study_data(n: int = 600, seed: int = 1, **changes: Any) -> StudyData:
    """Return a drawn study.

    Args:
        n: people in any table, also those left out.
        seed: of everything drawn.
        **changes: fields of StudyData; with `study`, `about` follows unless it is given too.
    """
    rng = np.random.default_rng(seed)
    settings = changes.get("study", study())
    people = _people(rng, n)
    follow_up = pd.concat([_follow_up(rng, people, name) for name in OUTCOMES], ignore_index=True)
    predictions = _predictions(rng, people)
    persons = _persons(rng, people)
    ecgs, sd = _ecgs(people, follow_up, predictions, persons)
    made = StudyData(
        study=settings,
        about=about(settings),
        flow=flow_of(follow_up),
        follow_up=follow_up,
        ecgs=ecgs,
        predictions=predictions,
        cmr=_cmr(rng, people),
        persons=persons,
        code_hits=_code_hits(follow_up),
        eligibility=_eligibility(people),
        body_size=pd.DataFrame(columns=["body_size", "n_people", "n_ecgs"]),
        sd=sd,
        provenance={
            "input_convention": "ukb_counts",
            "sha256 of ids and masses": "0" * 64,
            "lvm-ai": "0",
            "python": "3",
        },
    )
    return replace(made, **changes)


def flow_of(follow_up: pd.DataFrame) -> pd.DataFrame:
    """Return the flow of a follow-up table: outcome, reason, n_people, n_rows."""
    rows = []
    for outcome, own in follow_up.groupby("outcome", sort=False):
        reasons = own["excluded"].fillna(_ANALYSED)
        parts = {"all": own} | {str(r): own[reasons == r] for r in (*Exclusion, _ANALYSED)}
        rows += [(outcome, reason, part["participant_id"].nunique(), len(part)) for reason, part in parts.items()]
    return pd.DataFrame(rows, columns=["outcome", "reason", "n_people", "n_rows"])


def _people(rng: np.random.Generator, n: int) -> pd.DataFrame:
    """Everybody, with what is true of them; columns that begin with _ are drawn for later use."""
    male = rng.random(n) < 0.48
    age_years = np.floor(rng.uniform(45, 80, n))
    height_cm = rng.normal(np.where(male, 176.0, 163.0), 6.5).round(1)
    bmi = rng.normal(27.0, 3.8, n).clip(17, 45)
    weight_kg = (bmi * (height_cm / 100) ** 2).round(1)
    bsa_m2 = np.array([body_surface_area_m2(h, w) for h, w in zip(height_cm, weight_kg, strict=True)])
    index_g_m2 = rng.normal(np.where(male, 60.0, 46.0), 9.0) + 0.15 * (age_years - 62)
    reason = rng.choice([*_EARLY, _ANALYSED], size=n, p=[*_EARLY.values(), 1 - sum(_EARLY.values())])
    days = rng.integers(0, 5 * 365, n)
    return pd.DataFrame(
        {
            "participant_id": [f"P{number:05d}" for number in range(n)],
            "sex": np.where(male, "male", "female"),
            "age_years": age_years,
            "bmi_kg_m2": weight_kg / (height_cm / 100) ** 2,
            "height_cm": height_cm,
            "weight_kg": weight_kg,
            "bsa_m2": bsa_m2,
            "region": rng.choice(list(_ENDS), size=n, p=[0.8, 0.12, 0.08]),
            "index_date": pd.Timestamp("2014-05-01") + pd.to_timedelta(days, unit="D"),
            "history_days": rng.integers(200, 9000, n),
            "reason": [str(one) for one in reason],
            "_index_g_m2": index_g_m2,
            "_death_days": rng.exponential(365.25 / 0.02 / np.exp(0.06 * (age_years - 62))),
            "_lost_days": np.where(rng.random(n) < 0.05, rng.uniform(1, 2500, n), np.inf),
        }
    )


def _follow_up(rng: np.random.Generator, people: pd.DataFrame, outcome: str) -> pd.DataFrame:
    """Times and ends of one outcome, with its own reasons to be left out."""
    hazard = 0.35 * (people["_index_g_m2"] - 53) / 10 + 0.05 * (people["age_years"] - 62)
    event_days = rng.exponential(365.25 / _RATES_A_YEAR[outcome] / np.exp(hazard))
    admin_days = (pd.to_datetime(people["region"].map(_ENDS)) - people["index_date"]).dt.days
    ends = {
        "outcome": event_days,
        "death": people["_death_days"],
        "lost": people["_lost_days"],
        "administrative_end": admin_days,
    }
    days = np.column_stack([np.ceil(np.asarray(one, dtype=float)) for one in ends.values()])
    first = days.argmin(axis=1)
    time_days = days.min(axis=1).astype(int)
    late = rng.choice([*_LATE, ""], size=len(people), p=[*_LATE.values(), 1 - sum(_LATE.values())])
    reason = people["reason"].where(people["reason"] != _ANALYSED, [str(one) for one in late])
    out = reason.ne("")
    has_ecg = ~people["reason"].isin([str(one) for one in _BEFORE_ECG])
    entry = (people["age_years"] * 365.25 + 180).astype(int)
    made = {
        "participant_id": people["participant_id"],
        "ecg_id": (people["participant_id"] + "_0").where(has_ecg, None),
        "index_date": people["index_date"].where(has_ecg),
        "outcome": outcome,
        "excluded": reason.where(out, None),
        "status": pd.Series(np.array([1, 2, 0, 0])[first]).astype("Int64").mask(out),
        "end_reason": pd.Series(np.array(list(ends), dtype=object)[first]).mask(out),
        "time_days": pd.Series(time_days).astype("Int64").mask(out),
        "exit_date": people["index_date"] + pd.to_timedelta(time_days, unit="D"),
        "placeholder_date": False,
        "event_after_death": False,
        "body_size_far": False,
        "history_days": people["history_days"].astype("Int64").where(has_ecg),
        "entry_age_days": entry.astype("Int64").mask(out),
        "exit_age_days": (entry + time_days).astype("Int64").mask(out),
    }
    return pd.DataFrame(made)


def _predictions(rng: np.random.Generator, people: pd.DataFrame) -> pd.DataFrame:
    """The index ECG of who has one, and a second a while later of a third of them."""
    own = people[~people["reason"].isin([str(one) for one in _BEFORE_ECG])]
    first = _scored(rng, own, own["_index_g_m2"], own["participant_id"] + "_0", own["index_date"])
    again = own[rng.random(len(own)) < 0.33]
    later = again["index_date"] + pd.to_timedelta(rng.integers(200, 1200, len(again)), unit="D")
    drifted = again["_index_g_m2"] + rng.normal(0, 4.0, len(again))
    second = _scored(rng, again, drifted, again["participant_id"] + "_1", later)
    return pd.concat([first, second]).sort_values("ecg_id", ignore_index=True)


def _scored(
    rng: np.random.Generator,
    people: pd.DataFrame,
    index_g_m2: pd.Series[float],
    ecg_id: pd.Series[str],
    day: pd.Series[Any],
) -> pd.DataFrame:
    n, unknown = len(people), (people["reason"] == Exclusion.MISSING_EXPOSURE).to_numpy()
    limit = people["sex"].map(LVH_LIMIT_G_M2)
    excess = ((index_g_m2 - limit) / 10).to_numpy()
    r_avl_uv = rng.normal(600 + 120 * excess, 220).clip(0)
    s_v1_uv, s_v3_uv = rng.normal(900, 300, n).clip(0), rng.normal(900 + 150 * excess, 350).clip(0)
    r_v5_uv = rng.normal(1500 + 150 * excess, 450).clip(0)
    rules = np.column_stack(
        [r_avl_uv > 1100, s_v1_uv + r_v5_uv > 3500, r_avl_uv + s_v3_uv > np.where(people["sex"] == "male", 2800, 2000)]
    )
    rules = np.column_stack([rules, rules.any(axis=1)])
    unmeasured = rng.random(n) < 0.05
    score = 1 / (1 + np.exp(-excess - rng.normal(0, 0.5, n)))
    table = people[["participant_id", *_BODY]].assign(
        ecg_id=ecg_id,
        recorded_at=day + pd.to_timedelta(36_000, unit="s"),
        model_id="drawn-r0.79",
        lvm_pred_g=index_g_m2 * people["bsa_m2"],
        lvh_score=score,
        lvmi_pred_g_m2=index_g_m2.mask(unknown),
        lvh_pred=(index_g_m2 > limit).astype("boolean").mask(unknown),
        r_avl_uv=np.where(unmeasured, np.nan, r_avl_uv),
        s_v1_uv=np.where(unmeasured, np.nan, s_v1_uv),
        s_v3_uv=np.where(unmeasured, np.nan, s_v3_uv),
        r_v5_uv=np.where(unmeasured, np.nan, r_v5_uv),
        r_v6_uv=np.where(unmeasured, np.nan, 0.8 * r_v5_uv),
        qrs_duration_ms=rng.normal(95, 10, n),
        measured_by="drawn",
    )
    for place, name in enumerate(_RULES):
        table[name] = pd.array(rules[:, place], dtype="boolean")
        table[name] = table[name].mask(unmeasured)
    return table


def _persons(rng: np.random.Generator, people: pd.DataFrame) -> pd.DataFrame:
    own = people[~people["reason"].isin([str(one) for one in _BEFORE_ECG[:3]])]
    n = len(own)
    table = own[["participant_id", "sex", "region"]].assign(
        sbp_mmhg=np.where(rng.random(n) < 0.03, np.nan, rng.normal(138, 17, n).round()),
        diabetes=np.where(rng.random(n) < 0.02, np.nan, rng.random(n) < 0.12).astype(float),
        smoking=rng.choice(["current", "former", "never"], size=n, p=[0.12, 0.33, 0.55]),
    )
    table["region"] = table["region"].mask(own["reason"] == Exclusion.UNKNOWN_REGION, None)
    return table.reset_index(drop=True)


def _ecgs(
    people: pd.DataFrame, follow_up: pd.DataFrame, predictions: pd.DataFrame, persons: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Index ECGs with groups; SD over all index ECGs with an exposure, before other exclusions."""
    scored = predictions[predictions["ecg_id"].str.endswith("_0")]
    indexed = scored[scored["lvmi_pred_g_m2"].notna()]
    indexed = indexed.assign(
        exposure=indexed["lvmi_pred_g_m2"], mass_g=indexed["lvm_pred_g"], index_g_m2=indexed["lvmi_pred_g_m2"]
    )
    sd = {name: float(indexed[name].std()) for name in ("exposure", "mass_g", "index_g_m2")}
    by_sex = indexed.groupby("sex")["exposure"].std()
    sd |= {f"exposure, {sex}": float(value) for sex, value in by_sex.items()}
    passed = people.loc[people["reason"] == _ANALYSED, "participant_id"]
    table = indexed[indexed["participant_id"].isin(passed)]
    days = follow_up.drop_duplicates("participant_id")[
        ["participant_id", "index_date", "body_size_far", "history_days", "entry_age_days"]
    ]
    table = table.merge(days, on="participant_id", validate="1:1")
    table = table.merge(persons.drop(columns="sex"), on="participant_id", validate="1:1")
    lvh = table["lvh_pred"].astype(float)
    rank = table.groupby("sex")["exposure"].rank(pct=True)
    bands = np.select(
        [table["age_years"] < 50, table["age_years"] < 60, table["age_years"] < 70],
        ["<50", "50-59", "60-69"],
        default="70+",
    )
    table = table.assign(
        lvh=lvh,
        lvh_group=lvh.map({1.0: "LVH", 0.0: "no LVH"}).astype(object),
        quartile=np.ceil(4 * rank),
        exposure_in_sd_of_sex=table["exposure"] / table["sex"].map(by_sex),
        age_band=bands,
    )
    return table.sort_values(["participant_id", "ecg_id"], ignore_index=True), sd


def _cmr(rng: np.random.Generator, people: pd.DataFrame) -> pd.DataFrame:
    own = people[rng.random(len(people)) < 0.5]
    day = own["index_date"] + pd.to_timedelta(rng.integers(-60, 60, len(own)), unit="D")
    mass = (own["_index_g_m2"] + rng.normal(0, 6.0, len(own))) * own["bsa_m2"]
    table = pd.DataFrame({"participant_id": own["participant_id"], "cmr_date": day, "lvm_cmr_g": mass.round(1)})
    return table.reset_index(drop=True)


def _code_hits(follow_up: pd.DataFrame) -> pd.DataFrame:
    events = follow_up[follow_up["status"] == 1].groupby("outcome")["participant_id"].nunique()
    rows = [
        ("I48", "icd10", "prefix", "af", int(events["af"])),
        ("427.3", "icd9", "prefix", "af", 0),
        ("I50", "icd10", "prefix", "heart_failure", int(events["heart_failure"])),
    ]
    table = pd.DataFrame(rows, columns=["code", "system", "match", "outcome", "n_people"])
    return table.assign(source="hand", comment="", n_records=table["n_people"] * 2)


def _eligibility(people: pd.DataFrame) -> pd.DataFrame:
    cohort = ~people["reason"].isin([str(one) for one in _BEFORE_ECG[:3]])
    with_ecg = cohort & (people["reason"] != Exclusion.NO_USABLE_ECG)
    steps = ("cohort", "usable_ecg", "min_history", "min_encounters", "index_rule")
    counts = [int(cohort.sum()), *[int(with_ecg.sum())] * 4]
    return pd.DataFrame({"step": steps, "n_people": counts, "n_ecgs": counts})
