"""Spikes of a pacemaker, and what resembles them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from lvm_core.signal.disturbances import bends
from lvm_core.signal.ecg import INDEPENDENT_LEADS
from lvm_core.signal.pacing import n_pacing_spikes
from lvm_core.synthetic.known_waves import known_ecg, regular_starts

STARTS = np.arange(150, 5000, 400)
R_UV, S_UV = np.linspace(200, 2500, 12), np.linspace(1500, 100, 12)
DIRECTION = np.array([0.5, -0.2, 1.0, 0.8, 0.1, -0.4, -0.9, 0.3])


def _ecg(starts: NDArray[np.intp] = STARTS) -> NDArray[np.float64]:
    return np.asarray(known_ecg(R_UV, S_UV, starts)[INDEPENDENT_LEADS])


def _n_spikes(leads_uv: NDArray[np.float64], step_uv: float = 2.5) -> int:
    bent = bends(np.rint(leads_uv / step_uv).astype(np.float32))
    return n_pacing_spikes(bent, bent * bent, step_uv)


def _with_spikes(
    places: NDArray[np.intp],
    size_uv: float,
    shape: tuple[float, ...] = (1.0,),
    direction: NDArray[np.float64] = DIRECTION,
) -> NDArray[np.float64]:
    """Add spikes whose root of the sum of squares over the leads is `size_uv`."""
    leads_uv = _ecg()
    for place in places:
        for i, share in enumerate(shape):
            leads_uv[:, place + i] += share * size_uv * direction / np.linalg.norm(direction)
    return leads_uv


@pytest.mark.parametrize("rate_per_min", [40, 75, 150])
def test_n_pacing_spikes__qrs_of_any_size_are_none(rate_per_min: float) -> None:
    for factor in (0.5, 1, 4):
        assert _n_spikes(factor * _ecg(regular_starts(rate_per_min))) == 0


@pytest.mark.parametrize("shape", [(1.0,), (0.6, 1.0, 0.3), (1.0, 0.9)], ids=["1 sample", "filtered", "2 samples"])
def test_n_pacing_spikes__one_of_each_beat(shape: tuple[float, ...]) -> None:
    assert _n_spikes(_with_spikes(STARTS - 12, 700, shape)) == len(STARTS)


def test_n_pacing_spikes__200_uv_over_all_leads_are_needed() -> None:
    between = STARTS[:-1] + 250
    assert _n_spikes(_with_spikes(between, 190)) == 0
    assert _n_spikes(_with_spikes(between, 210)) == len(between)


def test_n_pacing_spikes__atrium_and_ventricle_of_a_beat_are_one() -> None:
    places = np.sort(np.r_[STARTS - 100, STARTS - 12])
    assert _n_spikes(_with_spikes(places, 700)) == len(STARTS)


def test_n_pacing_spikes__of_other_directions_are_not_counted_together() -> None:
    leads_uv = _with_spikes(STARTS[:1] + 250, 700)
    for i, place in enumerate(STARTS[1:6] + 250):
        leads_uv[i, place] += 600  # a glitch in one lead, another each time
    assert _n_spikes(leads_uv) == 1


def test_n_pacing_spikes__noise_is_none() -> None:
    noise_uv = np.random.default_rng(1).normal(0, 60, (8, 5000))
    assert _n_spikes(_ecg() + noise_uv) < 3


def test_n_pacing_spikes__a_step_of_the_baseline_is_at_most_one() -> None:
    leads_uv = _ecg()
    leads_uv[:, 3000:] += 2000
    assert _n_spikes(leads_uv) <= 1
