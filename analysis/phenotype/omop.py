"""Predictions as rows of OMOP: MEASUREMENT of CDM 5.4, and OHDSI's waveform extension.

Columns of the extension: OHDSI Waveform Working Group, Waveform Extension Table Specifications
(2025). Concepts are 0, which means no matching concept, until the custodian maps them: no concept
stands for a mass that a network predicts from an ECG.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from analysis.study.data import EXPOSURES
from lvm_core.errors import UsageError
from lvm_core.signal.ecg import LEADS_12

NO_CONCEPT: Final = 0
UNITS: Final = {name: unit for name, (_, unit) in EXPOSURES.items() if unit}
_SECONDS: Final = 10
_SAMPLING_RATE_HZ: Final = 500  # of the ECGs as they are scored


def omop_tables(ecgs: pd.DataFrame, traits: list[str], algorithm: str, first_id: int) -> dict[str, pd.DataFrame]:
    """Return the rows of index ECGs by table name.

    `ecgs` has a row per ECG: participant_id (the whole number of PERSON), ecg_id, index_date and
    the traits. Keys count from `first_id` in each table. Raise UsageError where an identifier is no
    whole number.
    """
    person = pd.to_numeric(ecgs["participant_id"], errors="coerce")
    if person.isna().any() or (person % 1 != 0).any():
        raise UsageError(
            "participant_id is no whole number for some people, but person_id of OMOP is one; score or analyse with "
            "person_id as participant_id"
        )
    n = len(ecgs)
    keys = np.arange(first_id, first_id + n)
    start = pd.to_datetime(ecgs["index_date"])
    of_ecg = {"waveform_occurrence_id": keys, "person_id": person.astype("int64")}
    occurrence = pd.DataFrame(
        {
            **of_ecg,
            "waveform_occurrence_concept_id": NO_CONCEPT,
            "waveform_occurrence_start_datetime": start,
            "waveform_occurrence_end_datetime": start + pd.Timedelta(seconds=_SECONDS),
            "visit_occurrence_id": pd.array([None] * n, dtype="Int64"),
            "waveform_occurrence_source_value": ecgs["ecg_id"],
            "num_of_files": 1,
        }
    )
    registry = pd.DataFrame(
        {
            "waveform_registry_id": keys,
            **of_ecg,
            "waveform_file_start_datetime": start,
            "waveform_file_end_datetime": start + pd.Timedelta(seconds=_SECONDS),
            "visit_occurrence_id": pd.array([None] * n, dtype="Int64"),
            "file_extension_source_value": ".parquet",
            "waveform_target_file_uri": ecgs["ecg_id"],
        }
    )
    measurement = _measurements(ecgs, traits, person, start, first_id)
    ecg_of_row = dict(zip(ecgs["ecg_id"], keys, strict=True))
    occurrence_of_row = measurement["ecg_id"].map(ecg_of_row)
    feature = pd.DataFrame(
        {
            "waveform_feature_id": measurement["measurement_id"],
            "waveform_occurrence_id": occurrence_of_row,
            "waveform_registry_id": occurrence_of_row,
            # Of all leads, which is_feature_overflow says; the key is that of the first.
            "waveform_channel_metadata_id": first_id + (occurrence_of_row - first_id) * len(LEADS_12),
            "measurement_id": measurement["measurement_id"],
            "algorithm_concept_id": NO_CONCEPT,
            "algorithm_source_value": algorithm,
            "is_feature_overflow": True,
            "value_as_number": measurement["value_as_number"],
            "unit_concept_id": NO_CONCEPT,
            "unit_source_value": measurement["unit_source_value"],
        }
    )
    return {
        "measurement": measurement.drop(columns="ecg_id"),
        "waveform_occurrence": occurrence,
        "waveform_registry": registry,
        "waveform_channel_metadata": _channels(keys, first_id),
        "waveform_feature": feature,
    }


def _measurements(
    ecgs: pd.DataFrame, traits: list[str], person: pd.Series, start: pd.Series, first_id: int
) -> pd.DataFrame:
    unknown = [name for name in traits if name not in UNITS]
    if unknown:
        raise UsageError(f"--traits names {', '.join(unknown)}; expected for OMOP {', '.join(UNITS)}")
    parts = [
        pd.DataFrame(
            {
                "person_id": person.astype("int64"),
                "measurement_concept_id": NO_CONCEPT,
                "measurement_date": start.dt.date,
                "measurement_datetime": start,
                "measurement_type_concept_id": NO_CONCEPT,
                "value_as_number": pd.to_numeric(ecgs[name]),
                "unit_concept_id": NO_CONCEPT,
                "visit_occurrence_id": pd.array([None] * len(ecgs), dtype="Int64"),
                "measurement_source_value": name,
                "measurement_source_concept_id": NO_CONCEPT,
                "unit_source_value": UNITS[name],
                "value_source_value": pd.to_numeric(ecgs[name]).map("{:.4f}".format),
                "ecg_id": ecgs["ecg_id"],
            }
        )[ecgs[name].notna()]
        for name in traits
    ]
    rows = pd.concat(parts, ignore_index=True)
    rows.insert(0, "measurement_id", np.arange(first_id, first_id + len(rows)))
    return rows


def _channels(registry: np.ndarray, first_id: int) -> pd.DataFrame:
    n = len(registry) * len(LEADS_12)
    return pd.DataFrame(
        {
            "waveform_channel_metadata_id": np.arange(first_id, first_id + n),
            "waveform_registry_id": np.repeat(registry, len(LEADS_12)),
            "waveform_channel_source_value": list(LEADS_12) * len(registry),
            "channel_concept_id": NO_CONCEPT,
            "metadata_source_value": "sampling_rate",
            "metadata_concept_id": NO_CONCEPT,
            "value_as_number": _SAMPLING_RATE_HZ,
            "unit_concept_id": NO_CONCEPT,
            "unit_source_value": "Hz",
        }
    )
