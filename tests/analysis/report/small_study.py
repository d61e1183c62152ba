"""A study of 40 people in files, written in a moment; tests change a table and read it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.study.data import StudyData, read_study_data
from analysis.study.inputs import load_study
from tests.analysis.report.drawn_predictions import derived

N_PEOPLE: Final = 40
IDS: Final = [str(1_000_001 + i) for i in range(N_PEOPLE)]
STUDY: Final = """\
name: small
inputs:
  predictions: predictions.parquet
  participants: participants.csv
  deaths: deaths.csv
  events: events.csv
  follow_up_ends: ends.csv
  cmr: cmr.csv
  code_list: codes.csv
outcomes:
- {name: af, incident_sources: [hes]}
primary_outcome: af
cmr: {max_days_ecg_cmr: 30}
"""
CODES: Final = "code,system,match,outcome,source,comment\nI48,icd10,prefix,af,hand,\n"


def predictions() -> pd.DataFrame:
    """One ECG per person on a day of 2016; two of five people are men."""
    rng = np.random.default_rng(3)
    sex = np.where(np.arange(N_PEOPLE) % 5 < 2, "male", "female")
    days = pd.Timestamp("2016-01-01 10:00") + pd.to_timedelta(np.arange(N_PEOPLE), unit="D")
    table = pd.DataFrame(
        {
            "ecg_id": [f"{one}_0" for one in IDS],
            "participant_id": IDS,
            "recorded_at": days,
            "model_id": "hand",
            "lvm_pred_g": rng.normal(np.where(sex == "male", 130, 95), 15),
            "lvh_score": 0.3,
            "age_years": rng.integers(45, 75, N_PEOPLE).astype(float),
            "sex": sex,
            "bmi_kg_m2": 25.0,
            "height_cm": 170.0,
            "weight_kg": rng.normal(75, 12, N_PEOPLE),
            "lvmi_pred_g_m2": 0.0,
            "lvh_pred": False,
        }
    )
    return derived(table)


def persons() -> pd.DataFrame:
    """All of England, born between 1950 and 1989."""
    born = [f"{1950 + i}-06-01" for i in range(N_PEOPLE)]
    return pd.DataFrame({"participant_id": IDS, "region": "England", "birth_date": born})


def cmr() -> pd.DataFrame:
    """Everybody has CMR on the day of the ECG."""
    scored = predictions()
    dates = scored["recorded_at"].dt.strftime("%Y-%m-%d")
    masses = (scored["lvm_pred_g"] + 3).round(1)
    return pd.DataFrame({"participant_id": IDS, "cmr_date": dates, "lvm_cmr_g": masses})


def write(folder: Path) -> None:
    """Write the study and its tables."""
    predictions().to_parquet(folder / "predictions.parquet")
    persons().to_csv(folder / "participants.csv", index=False)
    cmr().to_csv(folder / "cmr.csv", index=False)
    events = pd.DataFrame(
        {"participant_id": IDS[:8], "date": "2018-01-01", "code": "I48", "system": "icd10", "source": "hes"}
    )
    events.to_csv(folder / "events.csv", index=False)
    deaths = pd.DataFrame({"participant_id": IDS[8:10], "death_date": "2019-01-01", "ltfu_date": ""})
    deaths.to_csv(folder / "deaths.csv", index=False)
    (folder / "ends.csv").write_text("region,source,end_date\nEngland,hes,2022-10-31\n")
    (folder / "codes.csv").write_text(CODES)
    (folder / "study.yaml").write_text(STUDY)


def change(folder: Path, name: str, **columns: Any) -> None:
    """Change columns of a CSV."""
    table = pd.read_csv(folder / name, dtype=str, keep_default_na=False)
    table.assign(**columns).to_csv(folder / name, index=False)


def settle(folder: Path, more: str = "", base: str = STUDY, **replaced: str) -> Path:
    """Write the study file again and return its path.

    Args:
        folder: of the study.
        more: YAML behind it.
        base: YAML.
        **replaced: inputs by name.
    """
    text = base + more
    for name, path in replaced.items():
        there = next((one for one in text.splitlines() if one.startswith(f"  {name}: ")), None)
        line = f"  {name}: {path}"
        text = text.replace(there, line) if there else text.replace("inputs:", f"inputs:\n{line}")
    (folder / "study.yaml").write_text(text)
    return folder / "study.yaml"


def read(folder: Path, more: str = "", base: str = STUDY, **replaced: str) -> StudyData:
    """Read the study; arguments as `settle` has them."""
    return read_study_data(load_study(settle(folder, more, base, **replaced)))
