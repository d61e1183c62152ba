"""A small cohort on disk, and small graphs with the published inputs and outputs."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from lvm_core.signal.ecg import LEADS_12
from lvm_core.synthetic.ecgs import ecgs_of
from lvm_core.synthetic.people import synthetic_people
from lvm_core.tables import schemas
from models.catalogue.spec import INPUT_AGE, INPUT_BMI, INPUT_ECG, INPUT_SEX, OUTPUT_LVH, OUTPUT_MASS
from models.machine.runtime import import_keras


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def write_ecgs(path: Path, counts: Any, **columns: Any) -> Path:
    """Write an ECG Parquet file in two row groups; columns as in `schemas.ECGS`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for index, lead in enumerate(LEADS_12):
        flat = pa.array(counts[:, index].reshape(-1))
        columns[lead] = pa.FixedSizeListArray.from_arrays(flat, type=schemas.LEAD_TYPE)
    names = [name for name in schemas.ECGS.names if name in columns]
    schema = pa.schema([schemas.ECGS.arrow.field(name) for name in names])
    table = pa.table([pa.array(columns[name], schema.field(name).type) for name in names], schema)
    pq.write_table(table, path, row_group_size=max(1, (len(counts) + 1) // 2))
    return path


def write_cohort(folder: Path, n: int, seed: int = 7) -> Path:
    """Write ecg/*.parquet, participants.csv and cmr.csv of `n` people who all had a CMR."""
    people = synthetic_people(n, seed)
    ecgs = ecgs_of(people)
    half = n // 2
    for number, rows in enumerate((slice(0, half), slice(half, n))):
        write_ecgs(
            folder / "ecg" / f"part-{number}.parquet",
            ecgs.counts[rows],
            ecg_id=list(ecgs.ecg_id[rows]),
            participant_id=list(ecgs.participant_id[rows]),
            uv_per_count=ecgs.uv_per_count[rows],
            recorded_at=ecgs.recorded_at[rows].astype("datetime64[us]"),
        )
    sexes = np.where(people.sex_code == 1, "male", "female")
    write_csv(
        folder / "participants.csv",
        ("participant_id", "sex", "birth_date", "height_cm", "weight_kg"),
        list(zip(people.participant_id, sexes, people.birth_date, people.height_cm, people.weight_kg, strict=True)),
    )
    write_csv(
        folder / "cmr.csv",
        ("participant_id", "cmr_date", "lvm_cmr_g"),
        list(zip(people.participant_id, people.cmr_date, people.lvm_cmr_g, strict=True)),
    )
    return folder


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    """Return a configuration of a short run on a cohort of `write_cohort`."""
    return {
        "ecgs": str(folder / "ecg"),
        "participants": str(folder / "participants.csv"),
        "cmr": str(folder / "cmr.csv"),
        "output": "run",
        "epochs": 3,
        "batch_size": 4,
        "split": {"train": 0.6, "valid": 0.2, "test": 0.2},
        **changes,
    }


def write_config(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def small_ecg_only(hidden_dtype: str = "float32") -> Any:
    keras = import_keras()
    ecg = keras.Input((5000, 12), name=INPUT_ECG)
    return keras.Model([ecg], [_mass(keras, _trunk(keras, ecg, hidden_dtype))], name="small")


def small_age_sex_bmi(hidden_dtype: str = "float32") -> Any:
    keras = import_keras()
    ecg = keras.Input((5000, 12), name=INPUT_ECG)
    others = [keras.Input((width,), name=name) for name, width in ((INPUT_AGE, 1), (INPUT_SEX, 2), (INPUT_BMI, 1))]
    features = keras.layers.Concatenate(name="join")([_trunk(keras, ecg, hidden_dtype), *others])
    lvh = keras.layers.Dense(2, activation="softmax", name=OUTPUT_LVH)(features)
    return keras.Model([ecg, *others], [_mass(keras, features), lvh], name="small")


def _trunk(keras: Any, ecg: Any, dtype: str) -> Any:
    hidden = keras.layers.Conv1D(4, 50, strides=50, activation="relu", dtype=dtype, name="conv")
    return keras.layers.GlobalMaxPooling1D(name="pool")(hidden(ecg))


def _mass(keras: Any, features: Any) -> Any:
    return keras.layers.Dense(1, name=OUTPUT_MASS)(features)
