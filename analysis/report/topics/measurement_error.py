"""How much the prediction errs: hazard ratios corrected for it by CMR, and repeat ECGs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import pandas as pd

from analysis.disclosure import meanings
from analysis.disclosure.aggregates import Aggregate, count, label, result, results
from analysis.disclosure.masking import Masked
from analysis.disclosure.meanings import Analysed, repeated, with_ecgs
from analysis.report.document import ReadTable, Section, Topic
from analysis.report.topics.cmr_pairs import imaged_of, on_or_after
from analysis.report.topics.tables import (
    MODEL_ID,
    OUTCOME,
    age_sex_model,
    aggregate,
    needs_of,
    result_table,
    results_about,
    results_of,
)
from analysis.report.words import estimate_texts, row_counts, side_by_side
from analysis.statistics.agreement import repeatability
from analysis.statistics.agreement.measurement_error import CalibratedExposure, calibrate_exposure
from analysis.statistics.columns import TableRefused
from analysis.study.cmr import pair_with_cmr
from analysis.study.data import About, StudyData
from analysis.study.outcomes import cluster_of, complete_rows, followed, time_columns, without_constant_sex
from lvm_core.units import DAYS_PER_YEAR

FEWEST_DRAWS: Final = 100
_ROWS_OF_ALL_DRAWS: Final = 50_000_000


# Regression calibration.


def _calibration_aggregates(data: StudyData) -> list[Aggregate]:
    """Return naive and calibrated hazard ratios per 10 g/m2 of the primary outcome, model 2."""
    study = data.study
    if data.cmr is None or study.cmr is None or study.exposure != study.index_column:
        return []
    if study.bootstrap < FEWEST_DRAWS:
        return []
    rows: list[dict[str, Any]] = []
    people: list[dict[str, Any]] = []
    assumptions: tuple[str, ...] = ()
    for part in data.by_prediction_model():
        found, with_cmr, needed = _calibrated(part)
        rows += results_about(data.study.primary_outcome, "calibrated", part, found)
        people.append(with_cmr)
        assumptions = needed or assumptions
    columns = (
        OUTCOME,
        MODEL_ID,
        count("n_people", "people in the Cox model"),
        count("n_cmr", "of them, people with a CMR near enough to the index ECG"),
        count("n_no_cmr", "people without"),
    )
    notes = pd.DataFrame({"assumption": list(assumptions)})
    return [
        results("calibrated", rows),
        aggregate("calibrated_people", people, columns, partial(meanings.calibrated_people, needed=needs_of(study))),
        Aggregate("calibrated", notes, (label("assumption", "what must hold"),)),
    ]


def _calibrated(data: StudyData) -> tuple[list[dict[str, Any]], dict[str, Any], tuple[str, ...]]:
    """Both hazard ratios, how many people have a CMR, and the assumptions."""
    study, outcome = data.study, data.study.primary_outcome
    table = _with_cmr(data, data.analysed(outcome))
    complete = complete_rows(table, study, ["exposure"], kept=["lvmi_cmr_g_m2"], model=age_sex_model(data))
    complete = complete.reset_index(drop=True)
    model = without_constant_sex(age_sex_model(data), complete)
    known = followed(complete, study) | {
        "exposure": study.exposure,
        "contrast": "per 10",
        "unit": "g/m2",
        "unit_value": 10.0,
        "model": 2,
        "adjustment": model.adjustment,
        "n_dropped_missing": len(table) - len(complete),
    }
    measured = complete.loc[complete["lvmi_cmr_g_m2"].notna(), "participant_id"].nunique()
    people = {
        "outcome": outcome,
        "model_id": data.model_id,
        "n_people": known["n_people"],
        "n_cmr": measured,
        "n_no_cmr": known["n_people"] - measured,
    }
    draws = min(study.bootstrap, max(FEWEST_DRAWS, _ROWS_OF_ALL_DRAWS // max(len(complete), 1)))
    try:
        found = calibrate_exposure(
            complete,
            exposure="exposure",
            reference="lvmi_cmr_g_m2",
            event="event",
            seed=study.seed,
            covariates=list(model.covariates),
            unit=known["unit_value"],
            n_bootstrap=draws,
            person=cluster_of(complete, study),
            **time_columns(study),
        )
    except TableRefused as error:
        empty = known | {"measure": "hazard ratio, calibrated", "warnings": str(error)}
        return [empty], people, ()
    return _ratios(found, known), people, found.assumptions


def _ratios(found: CalibratedExposure, known: dict[str, Any]) -> list[dict[str, Any]]:
    errors = known["se_type"]
    # The naive errors are the Cox model's, the others of the bootstrap.
    se_types = {"naive": errors, "calibrated": f"bootstrap {'by person' if errors == 'model' else errors}"}
    rows = []
    for row in found.estimates.to_dict("records"):
        own = known | {"estimate": row["hr"], "se": row["se"], "lo": row["hr_lo"], "hi": row["hr_hi"]}
        rows.append(own | {"measure": f"hazard ratio, {row['exposure']}", "se_type": se_types[row["exposure"]]})
    return rows


def _with_cmr(data: StudyData, table: pd.DataFrame) -> pd.DataFrame:
    """Add the CMR index where a CMR is near, unless the person may be of the training set."""
    assert data.cmr is not None
    assert data.study.cmr is not None
    ecgs = data.ecgs[["ecg_id", "participant_id", "recorded_at", "lvm_pred_g"]]
    pairs = pair_with_cmr(ecgs, data.cmr, max_days=data.study.cmr.max_days_ecg_cmr)
    date = data.study.training.exclude_imaged_before
    if date is not None:
        pairs = pairs[imaged_of(data, pairs["participant_id"]) == on_or_after(date)]
    measured = pairs.set_index("ecg_id")["lvm_cmr_g"]
    return table.assign(lvmi_cmr_g_m2=table["ecg_id"].map(measured) / table["bsa_m2"])


def _present_calibration(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return the two hazard ratios and the assumptions."""
    found = results_of(masked, "calibrated")
    if found is None:
        return None
    people, rows = masked["calibrated_people"], found.rows
    with_cmr = dict(zip(people.rows["model_id"], people.shown("n_cmr"), strict=True))
    exposures = {
        "hazard ratio, naive": "predicted index, uncorrected",
        "hazard ratio, calibrated": "CMR index expected from it",
    }
    values = {"Hazard ratio per 10 g/m2 (95% CI)": estimate_texts(found), **row_counts(found, about)}
    table = result_table(
        found,
        about,
        "calibrated",
        "Hazard ratio corrected for the error of the prediction",
        {"Exposure": rows["measure"].map(exposures)},
        values | {"People with CMR": rows["model_id"].map(with_cmr)},
        tuple(masked["calibrated"].rows["assumption"]),
    )
    paragraph = (
        "Regression calibration: CMR index regressed on predicted index and the same covariates "
        "where both are known, expected for everybody, and the Cox model fitted to that; both "
        "steps bootstrapped by person (by household where households are known)."
    )
    return Section("calibrated", "Error of the prediction", (paragraph,), (table,))


# Repeat ECGs.

ICC: Final = "ICC(1,1)"
WITHIN: Final = "within-person SD"
REPEATABILITY: Final = "repeatability coefficient"
EVERY_ECG: Final = "all ECGs"
_GAPS_YEARS: Final = {
    "first and second, under 1 year apart": (0, 1),
    "first and second, 1 to 5 years apart": (1, 5),
    "first and second, 5 years or more apart": (5, 1000),
}


def _repeats_aggregates(data: StudyData) -> list[Aggregate]:
    """Return the repeatability of mass and index over all ECGs, and of pairs by time between."""
    rows: list[dict[str, Any]] = []
    counts: list[Analysed] = []
    table = data.predictions.sort_values(["participant_id", "recorded_at", "ecg_id"])
    for column, unit in ((data.study.mass_column, "g"), (data.study.index_column, "g/m2")):
        if column not in table:
            continue
        known = table.dropna(subset=[column])
        n_ecgs = known.groupby("participant_id")["ecg_id"].transform("size")
        for words, own in ((EVERY_ECG, known[n_ecgs > 1]), *_pairs(known)):
            rows += _repeatability(own, column, unit, words)
            gap = "" if words == EVERY_ECG else words
            counts += [Analysed(repeated(column, gap), end="")] * 3  # a row per measure
    ecgs = data.predictions.groupby("participant_id").size()
    spread = ecgs.clip(upper=3).value_counts().reindex([1, 2, 3], fill_value=0)
    numbers = pd.DataFrame({"n_ecgs": ["1", "2", "3 or more"], "n_people": spread.to_numpy()})
    columns = (label("n_ecgs", "usable ECGs of a person"), count("n_people", "people"))
    people = {"n_people": [with_ecgs("one"), with_ecgs("several", "two"), with_ecgs("several", "more")]}
    related = meanings.several_ecgs(data.study.mass_column)
    return [
        results("repeats", rows, meanings.repeats(counts)),
        Aggregate("repeats", numbers, columns, counts=people, related=related),
    ]


def _pairs(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The first two ECGs of each person, by the time between them."""
    rank = table.groupby("participant_id").cumcount()
    first_two = table[rank < 2]
    both = first_two[first_two.groupby("participant_id")["ecg_id"].transform("size") == 2]
    dates = pd.to_datetime(both["recorded_at"]).dt.normalize()
    of_person = dates.groupby(both["participant_id"])
    years = (of_person.transform("max") - of_person.transform("min")).dt.days / DAYS_PER_YEAR
    return [(words, both[(years >= low) & (years < high)]) for words, (low, high) in _GAPS_YEARS.items()]


def _repeatability(table: pd.DataFrame, column: str, unit: str, words: str) -> list[dict[str, Any]]:
    """A row per measure, with or without an estimate; pairs have no number of ECGs."""
    known: dict[str, Any] = {
        "exposure": column,
        "contrast": words,
        "n_people": table["participant_id"].nunique(),
        "n_ecgs": len(table) if words == EVERY_ECG else None,
    }
    units = {ICC: "", WITHIN: unit, REPEATABILITY: unit}
    try:
        found = repeatability(table, value=column, person="participant_id")
    except TableRefused as error:
        return [result("repeats", one, **known, unit=own, warnings=str(error)) for one, own in units.items()]
    values = {
        ICC: (found.icc, found.icc_lo, found.icc_hi),
        WITHIN: (found.within_sd, found.within_sd_lo, found.within_sd_hi),
        REPEATABILITY: (found.repeatability, None, None),
    }
    return [
        result("repeats", one, **known, estimate=value, lo=lo, hi=hi, unit=units[one])
        for one, (value, lo, hi) in values.items()
    ]


def _present_repeats(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return one table, or one sentence where nobody has two ECGs."""
    found, numbers = masked.get("results_repeats"), masked.get("repeats")
    if found is None or numbers is None:
        return None
    people = pd.DataFrame({"Usable ECGs": numbers.rows["n_ecgs"], "People": numbers.shown("n_people")})
    items = [ReadTable("repeats_people", "Usable ECGs of a person", people)]
    if not found.rows["estimate"].notna().any():
        few = "Too few people have two usable ECGs to tell how well they repeat."
        return Section("repeats", "Repeat ECGs", (few,), tuple(items))
    rows = found.rows.assign(
        text=estimate_texts(found),
        People=found.shown("n_people"),
        ECGs=found.shown("n_ecgs").where(found.rows["contrast"] == EVERY_ECG, "two each"),
        Quantity=found.rows["exposure"],
        Pairs=found.rows["contrast"],
    )
    cells = side_by_side(rows, by=["Quantity", "Pairs", "People", "ECGs"], over="measure", values=["text"])
    notes = (
        "One-way random effects (Shrout and Fleiss 1979); SD and coefficient in the unit of the "
        "quantity. 95% of the differences of two ECGs of a person lie within the coefficient "
        "(Bland and Altman 1996). Over years hearts change too.",
    )
    items.append(ReadTable("repeats", "Repeatability of the prediction", cells, 2, notes))
    return Section("repeats", "Repeat ECGs", items=tuple(items))


CALIBRATED: Final = Topic("calibrated", _calibration_aggregates, _present_calibration)
REPEATS: Final = Topic("repeats", _repeats_aggregates, _present_repeats)
