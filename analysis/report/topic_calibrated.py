"""The hazard ratio corrected for the error of the prediction, from a CMR subset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd

from analysis.cmr import pair_with_cmr
from analysis.columns import TableRefused
from analysis.measurement_error import calibrate_exposure
from analysis.outcome_models import columns_of, followed, models_of
from analysis.report.aggregates import Aggregate, label, result, results
from analysis.report.document import About, ReadTable, Section
from analysis.report.masking import Masked
from analysis.report.study_data import StudyData
from analysis.report.words import estimate_texts

_FEWEST_DRAWS: Final = 100
_ROWS_OF_ALL_DRAWS: Final = 50_000_000


def aggregates(data: StudyData) -> list[Aggregate]:
    """Return naive and calibrated hazard ratios per 10 g/m2 of the primary outcome, model 2."""
    study = data.study
    if data.cmr is None or study.cmr is None or study.exposure != study.index_column:
        return []
    if study.bootstrap < _FEWEST_DRAWS:
        return []
    outcome, model = study.primary_outcome, models_of(study)[1]
    table = _with_cmr(data, data.analysed(outcome))
    complete = table.dropna(subset=["exposure", *columns_of(model.covariates)])
    complete = complete.reset_index(drop=True)
    known = followed(complete, study) | {
        "outcome": outcome, "primary": True, "exposure": study.exposure, "contrast": "per 10",
        "unit": "g/m2", "unit_value": 10.0, "model": 2, "adjustment": model.adjustment,
        "se_type": "bootstrap by person", "n_dropped_missing": len(table) - len(complete),
    }  # fmt: skip
    draws = min(study.bootstrap, max(_FEWEST_DRAWS, _ROWS_OF_ALL_DRAWS // max(len(complete), 1)))
    attained = study.time_scale == "attained_age"
    try:
        found = calibrate_exposure(
            complete, exposure="exposure", reference="lvmi_cmr_g_m2",
            duration="exit_age_days" if attained else "time_days", event="event", seed=study.seed,
            covariates=list(model.covariates), unit=10.0, n_bootstrap=draws,
            entry="entry_age_days" if attained else None,
            person="participant_id" if study.index.rule == "all" else None,
        )  # fmt: skip
    except TableRefused as error:
        return [results("calibrated", [result("calibrated", "hazard ratio, calibrated", **known,
                                              warnings=str(error))])]  # fmt: skip
    rows = [
        result("calibrated", f"hazard ratio, {row['exposure']}", **known, estimate=row["hr"],
               se=row["se"], lo=row["hr_lo"], hi=row["hr_hi"], p=row.get("p"))
        for row in found.estimates.to_dict("records")
    ]  # fmt: skip
    told = pd.DataFrame({"assumption": list(found.assumptions)})
    notes = Aggregate("calibrated", told, (label("assumption", "what must hold"),))
    return [results("calibrated", rows), notes]


def _with_cmr(data: StudyData, table: pd.DataFrame) -> pd.DataFrame:
    """Add the CMR index of the people whose index ECG has a CMR near enough."""
    assert data.cmr is not None
    assert data.study.cmr is not None
    ecgs = data.ecgs[["ecg_id", "participant_id", "recorded_at", "lvm_pred_g"]]
    pairs = pair_with_cmr(ecgs, data.cmr, max_days=data.study.cmr.max_days_ecg_cmr)
    measured = pairs.set_index("ecg_id")["lvm_cmr_g"]
    return table.assign(lvmi_cmr_g_m2=table["ecg_id"].map(measured) / table["bsa_m2"])


def present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return the two hazard ratios and the assumptions."""
    found = masked.get("results_calibrated")
    if found is None or not len(found.rows):
        return None
    rows = found.rows
    cells: dict[str, Any] = {
        "Outcome": rows["outcome"].map(about.outcomes),
        "Exposure": rows["measure"].map(
            {
                "hazard ratio, naive": "predicted index, as it is",
                "hazard ratio, calibrated": "CMR index expected from it",
            }
        ),
        "Hazard ratio per 10 g/m2 (95 % interval)": estimate_texts(found),
        "People": found.shown("n_people"),
        "Events": found.shown("n_events"),
    }
    notes = masked["calibrated"].rows["assumption"].tolist() if "calibrated" in masked else []
    table = ReadTable("calibrated", "Hazard ratio corrected for the error of the prediction",
                      pd.DataFrame(cells).reset_index(drop=True), 2, tuple(notes))  # fmt: skip
    paragraph = (
        "Regression calibration: CMR index regressed on predicted index and the same covariates "
        "where both are known, expected for everybody, and the Cox model fitted to that; both "
        "steps bootstrapped by person."
    )
    return Section("calibrated", "Error of the prediction", (paragraph,), (table,))
