"""Exchanged arm electrodes, and what looks like them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from lvm_core.signal.ecg import INDEPENDENT_LEADS
from lvm_core.signal.electrodes import arm_leads_look_reversed, may_be_reversed
from lvm_core.synthetic.known_waves import irregular_starts, known_ecg, regular_starts

R_UV = np.array([700.0, 900.0, 0, 0, 0, 0, 200.0, 400.0, 700.0, 1100.0, 1500.0, 1300.0])
S_UV = np.array([100.0, 200.0, 0, 0, 0, 0, 1000.0, 1700.0, 900.0, 500.0, 200.0, 30.0])
NONE = np.zeros(12)
LEAD_I, V6 = 0, 7  # of the eight leads


def _ecg(starts: NDArray[np.intp], *, has_p: bool = True) -> NDArray[np.float32]:
    return np.asarray(known_ecg(R_UV, S_UV, starts, has_p=has_p)[INDEPENDENT_LEADS], dtype=np.float32)


def _upside_down(leads_uv: NDArray[np.float32], *leads: int) -> NDArray[np.float32]:
    changed = leads_uv.copy()
    changed[list(leads)] *= -1
    return changed


@pytest.mark.parametrize("rate_per_min", [50, 75, 100])
def test_arms__lead_i_upside_down_is_an_exchange(rate_per_min: float) -> None:
    right = _ecg(regular_starts(rate_per_min))
    assert not arm_leads_look_reversed(right)
    assert arm_leads_look_reversed(_upside_down(right, LEAD_I))


def test_arms__dextrocardia_is_none() -> None:
    assert not arm_leads_look_reversed(_upside_down(_ecg(regular_starts(70)), LEAD_I, V6))


def test_arms__a_right_axis_is_none() -> None:
    starts = regular_starts(70)
    only_p_and_t = known_ecg(NONE, NONE, starts)[INDEPENDENT_LEADS].astype(np.float32)
    leads_uv = _ecg(starts)
    leads_uv[LEAD_I] = 2 * only_p_and_t[LEAD_I] - leads_uv[LEAD_I]  # QRS upside down, P and T upright
    assert not arm_leads_look_reversed(leads_uv)


def test_arms__without_p_the_t_waves_decide() -> None:
    starts = irregular_starts(np.random.default_rng(1))
    leads_uv = _upside_down(_ecg(starts, has_p=False), LEAD_I)
    assert arm_leads_look_reversed(leads_uv)
    t_uv = known_ecg(NONE, NONE, starts, has_p=False)[INDEPENDENT_LEADS].astype(np.float32)
    assert not arm_leads_look_reversed(leads_uv + t_uv)  # flat T in I
    leads_uv[V6] -= 2 * t_uv[V6]
    assert not arm_leads_look_reversed(leads_uv)  # T negative in I and V6, as beside a wide QRS


def test_arms__a_negative_p_is_enough() -> None:
    starts = regular_starts(70)
    t_uv = known_ecg(NONE, NONE, starts, has_p=False)[INDEPENDENT_LEADS].astype(np.float32)
    leads_uv = _upside_down(_ecg(starts), LEAD_I)
    leads_uv[LEAD_I] += 2 * t_uv[LEAD_I]
    assert arm_leads_look_reversed(leads_uv)


def test_arms__fewer_than_three_beats_say_nothing() -> None:
    leads_uv = _upside_down(_ecg(np.array([1000, 3000])), LEAD_I)
    assert not arm_leads_look_reversed(leads_uv)
    assert not arm_leads_look_reversed(np.zeros((8, 5000), dtype=np.float32))


def test_may_be_reversed__only_where_i_is_negative_and_v6_positive() -> None:
    middle = np.zeros(8, dtype=np.float32)
    found = []
    for i, v6 in ((-1, 1), (1, 1), (-1, -1), (0, 1)):
        middle[LEAD_I], middle[V6] = i, v6
        found.append(may_be_reversed(middle))
    assert found == [True, False, False, False]
