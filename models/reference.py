"""A few ECGs and what the Keras graph says about them: what other engines are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lvm_core.synthetic import synthetic_ecgs
from models.engine import Features, TensorFlowEngine
from models.loading import LoadedModel
from models.runtime import Threads
from models.spec import InputConvention, InputRole

_N_ECGS: Final = 4
_SEED: Final = 71

# Standardised demographics: values that people have.
_AGE: Final = (-1.5, -0.2, 0.6, 1.9)
_BMI: Final = (-1.1, 0.0, 0.8, 2.4)
_SEX: Final = (0, 1, 0, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A few ECGs and what the Keras graph says about them.

    Attributes:
        counts: (n, 12, 5000) int16, leads in `LEADS_12` order.
        counts_per_unit: (n,) float32.
        features: standardised demographics that the model takes.
        lvm_z: (n,) float32, z of LV mass.
        lvh_score: (n,) float32, or None without that head.
        made_by: versions of what computed the last two.
    """

    counts: NDArray[np.int16]
    counts_per_unit: NDArray[np.float32]
    features: Features
    lvm_z: NDArray[np.float32]
    lvh_score: NDArray[np.float32] | None
    made_by: Mapping[str, Any]

    def batch(self, size: int) -> tuple[NDArray[np.intp], tuple[NDArray[np.int16], NDArray[np.float32], Features]]:
        """Return the rows that fill a batch by turns, and the arguments of an engine."""
        rows = np.arange(size) % len(self.counts)
        features = {role: values[rows] for role, values in self.features.items()}
        return rows, (self.counts[rows], self.counts_per_unit[rows], features)


def keras_reference(loaded: LoadedModel, threads: Threads) -> Reference:
    """Let a model's own graph, in float32, say what it says about the ECGs.

    Args:
        loaded: the model.
        threads: what `configure_threads` returned before it was loaded.
    """
    ecgs = synthetic_ecgs(_N_ECGS, _SEED)
    counts_per_unit = np.float32(InputConvention.UKB_COUNTS.input_unit_uv) / ecgs.uv_per_count
    everybody = {
        InputRole.AGE: np.array(_AGE, dtype=np.float32)[:, None],
        InputRole.SEX: np.eye(2, dtype=np.float32)[list(_SEX)],
        InputRole.BMI: np.array(_BMI, dtype=np.float32)[:, None],
    }
    features = {role: values for role, values in everybody.items() if role in loaded.inputs}
    graph = TensorFlowEngine(loaded, _N_ECGS, threads)
    lvm_z, lvh_score = graph.compute(ecgs.counts, counts_per_unit, features)
    return Reference(ecgs.counts, counts_per_unit, features, lvm_z, lvh_score, graph.description())
