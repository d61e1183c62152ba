"""Lead orders that ECGs fit, against copies whose leads were moved by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from lvm_core.signal.ecg import LEADS_12
from lvm_core.signal.lead_orders import (
    CHEST_ORDERS,
    DECLARED,
    LIMB_ORDERS,
    LeadOrder,
    LimbFit,
    OrderVerdict,
    order_verdict,
    r_progression,
    r_shares,
)
from tests.builders import counts_block

N = 12


@pytest.fixture(scope="module")
def ecgs_uv() -> list[NDArray[np.float64]]:
    return list(counts_block(N, seed=5) * 5.0)


def moved(leads_uv: NDArray[np.float64], order: LeadOrder) -> NDArray[np.float64]:
    """Return a copy in which the leads stand as an order says; by names, without its matrix."""
    signed = {lead: leads_uv[k] for k, lead in enumerate(LEADS_12)}
    signed |= {f"-{lead}": -leads_uv[k] for k, lead in enumerate(LEADS_12)}
    return np.stack([signed[lead] for lead in order.leads])


def verdict_of(ecgs: list[NDArray[np.float64]], *, is_derived: bool = False) -> OrderVerdict:
    return order_verdict([(one, 500.0, is_derived) for one in ecgs])


def test_orders__hold_each_lead_once() -> None:
    for order in (*LIMB_ORDERS, *CHEST_ORDERS):
        assert sorted(lead.removeprefix("-") for lead in order.leads) == sorted(LEADS_12)
    names = [order.name for order in LIMB_ORDERS]
    assert len(set(names)) == len(names)
    assert len({order.leads for order in LIMB_ORDERS}) == len(LIMB_ORDERS)


def test_order__of_mimic_is_avl_and_avf_swapped() -> None:
    """MIMIC-IV-ECG stores I, II, III, aVR, aVF, aVL, V1 to V6 (facts of the data set)."""
    (order,) = [one for one in LIMB_ORDERS if "MIMIC" in one.name]
    assert order.leads == ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
    assert order.mend.endswith("I, II, III, aVR, aVF, aVL, V1, V2, V3, V4, V5, V6")


def test_mend__of_a_sign_names_the_lead() -> None:
    (order,) = [one for one in LIMB_ORDERS if one.name.startswith("aVR stored")]
    assert order.mend == "turn the sign of aVR at the source"
    (cabrera,) = [one for one in LIMB_ORDERS if "Cabrera" in one.name]
    assert cabrera.mend.endswith("V6, and turn the sign of aVR at the source")


@pytest.mark.parametrize("order", LIMB_ORDERS, ids=lambda order: order.name)
def test_order_verdict__finds_each_order(order: LeadOrder, ecgs_uv: list[NDArray[np.float64]]) -> None:
    verdict = verdict_of([moved(one, order) for one in ecgs_uv])
    assert verdict.found is order
    assert not verdict.fits_none
    assert verdict.chest_found is DECLARED


@pytest.mark.parametrize("order", CHEST_ORDERS, ids=lambda order: order.name)
def test_order_verdict__finds_moved_chest_leads_in_many_ecgs(
    order: LeadOrder, ecgs_uv: list[NDArray[np.float64]]
) -> None:
    copies = [moved(one, order) for one in ecgs_uv]
    assert verdict_of(copies).chest_found is order
    assert verdict_of(copies).found is DECLARED
    # Single people have R waves that do not grow, so few ECGs say nothing.
    assert verdict_of(copies[:9]).chest_found is DECLARED


def test_order_verdict__chest_leads_are_judged_in_the_order_of_the_limb_leads(
    ecgs_uv: list[NDArray[np.float64]],
) -> None:
    """Files in the order of SCP, with V6 to V1: both mistakes are named."""
    scp, backwards = LIMB_ORDERS[1], CHEST_ORDERS[1]
    verdict = verdict_of([moved(moved(one, backwards), scp) for one in ecgs_uv])
    assert (verdict.found, verdict.chest_found) == (scp, backwards)


def test_order_verdict__single_record_among_many_is_not_the_order_of_the_data(
    ecgs_uv: list[NDArray[np.float64]],
) -> None:
    swapped = LIMB_ORDERS[5]
    many = [*ecgs_uv * 5, moved(ecgs_uv[0], swapped)]
    assert verdict_of(many).found is DECLARED
    assert verdict_of([*ecgs_uv, moved(ecgs_uv[0], swapped)]).found is swapped


def test_order_verdict__derived_leads_show_nothing(ecgs_uv: list[NDArray[np.float64]]) -> None:
    verdict = verdict_of(ecgs_uv, is_derived=True)
    assert (verdict.n_judged, verdict.found, verdict.fits_none) == (0, DECLARED, False)
    assert np.isnan(verdict.limb[0].residual)
    assert verdict.chest[0].n_best >= N - 1


def test_order_verdict__wrong_gain_of_one_limb_lead_fits_no_order(ecgs_uv: list[NDArray[np.float64]]) -> None:
    gains = np.ones((12, 1))
    gains[0] = 3.0
    verdict = verdict_of([one * gains for one in ecgs_uv])
    assert verdict.found is DECLARED
    assert verdict.fits_none
    assert verdict.n_without > N / 2


def test_order_verdict__without_ecgs_is_as_declared() -> None:
    verdict = verdict_of([])
    assert (verdict.found, verdict.chest_found, verdict.fits_none) == (DECLARED, DECLARED, False)
    assert np.isnan(verdict.chest[0].progression)


def test_limb_fit__residual_is_the_share_of_the_largest_limb_lead() -> None:
    """I is a sine of amplitude 1000 uV, II is 0, and aVF is 0 in place of -500 times the sine.

    III = -I, aVR = -I/2, aVL = I. The difference of aVF has half the SD of I, which is the largest.
    """
    sine_uv = 1000 * np.sin(2 * np.pi * np.arange(5000) / 500)
    leads_uv = np.zeros((12, 5000))
    leads_uv[0], leads_uv[2], leads_uv[3], leads_uv[4] = sine_uv, -sine_uv, -sine_uv / 2, sine_uv
    fit = LimbFit.of(leads_uv)
    assert fit.residual[0] == pytest.approx(0.5, rel=1e-6)
    assert fit.difference_uv[0] == pytest.approx(500 / np.sqrt(2), rel=1e-3)


def test_limb_fit__small_differences_are_those_of_devices() -> None:
    """Devices store derived leads up to 20 uV from the algebra, also of a small ECG."""
    leads_uv = np.zeros((12, 5000))
    leads_uv[0] = 40 * np.sin(2 * np.pi * np.arange(5000) / 500)
    leads_uv[2] = -leads_uv[0] + 10 * np.cos(2 * np.pi * np.arange(5000) / 100)
    leads_uv[3], leads_uv[4], leads_uv[5] = -leads_uv[0] / 2, leads_uv[0], -leads_uv[0] / 2
    fit = LimbFit.of(leads_uv)
    assert fit.residual[0] > 0.1
    assert fit.best == 0


def test_r_shares__of_known_waves() -> None:
    """R of 300 uV and S of 100 uV in each second: three quarters are above."""
    leads_uv = np.zeros((12, 2500))
    leads_uv[:, 100::500] = 300.0
    leads_uv[1:, 110::500] = -100.0
    shares = r_shares(leads_uv, 500)
    assert shares[0] == 1.0
    np.testing.assert_allclose(shares[1:], 0.75)
    np.testing.assert_allclose(r_shares(np.zeros((12, 600)), 500), 0.5)


def test_r_progression__is_the_slope_over_the_chest_leads() -> None:
    shares = np.array([0.5] * 6 + [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert r_progression(shares, DECLARED) == pytest.approx(0.1)
    assert r_progression(shares, CHEST_ORDERS[1]) == pytest.approx(-0.1)
