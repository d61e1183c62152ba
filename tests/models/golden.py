"""The TF 2.1.0 golden files, as the predictor takes them."""

from __future__ import annotations

import atexit
import lzma
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvm_core.signal.ecg import LEADS_12
from models.catalogue.known import ModelSource, resolve_model

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "tf21"

# Written out here, not imported, so that a slip in the package's order would show.
TENSOR_LEADS = ["I", "II", "III", "V1", "V2", "V3", "V4", "V5", "V6", "aVF", "aVL", "aVR"]


@dataclass(frozen=True)
class Golden:
    """12 ECGs and TensorFlow 2.1.0's predictions.

    `tensor_counts` is (12, 5000, 12) as TensorFlow 2.1.0 got it, before division by 2000.
    """

    tensor_counts: NDArray[np.int16]
    counts: NDArray[np.int16]
    uv_per_count: NDArray[np.float32]
    age_years: NDArray[np.float32]
    sex: NDArray[np.int8]
    bmi_kg_m2: NDArray[np.float32]
    expected: dict[str, NDArray[np.float32]]

    def demographics(self) -> dict[str, Any]:
        return {"age_years": self.age_years, "sex": self.sex, "bmi_kg_m2": self.bmi_kg_m2}


FULL = "lvm_ai_age_sex_bmi_tf21"
ECG_ONLY = "lvm_ai_ecg_only_tf21"


@cache
def golden_model(name: str) -> Path:
    """Return the unpacked .h5 file of one of the two models, `FULL` or `ECG_ONLY`."""
    folder = Path(tempfile.mkdtemp(prefix="lvm-ai-golden-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / f"{name}.h5"
    path.write_bytes(lzma.decompress((FOLDER / f"{path.name}.xz").read_bytes()))
    return path


def golden_source(name: str) -> ModelSource:
    """Return one of the two models as the catalogue gives it."""
    return resolve_model(str(golden_model(name)))


def load_golden() -> Golden:
    with np.load(FOLDER / "lvm_ai_tf21_golden.npz") as data:
        arrays = {name: data[name] for name in data.files}
    tensor = arrays["counts"]
    by_lead = {lead: tensor[:, :, column] for column, lead in enumerate(TENSOR_LEADS)}
    return Golden(
        tensor_counts=tensor,
        counts=np.stack([by_lead[lead] for lead in LEADS_12], axis=1),
        uv_per_count=np.full(len(tensor), 5.0, dtype=np.float32),
        age_years=arrays["age_years"].astype(np.float32),
        sex=arrays["male"].astype(np.int8),
        bmi_kg_m2=arrays["bmi_kg_m2"].astype(np.float32),
        expected={name: arrays[name] for name in arrays if name.startswith(("full", "ecg"))},
    )
