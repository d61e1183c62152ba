"""In which order do leads stand? Hypotheses, and what limb and chest leads say about each.

The limb leads follow from each other (Einthoven, Goldberger), so one ECG shows which of them stand
in each other's place. Chest leads do not: that R grows from V1 to V6 is true of most people, not of
all, so only many ECGs together say that chest leads stand in another order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lvm_core.signal.ecg import DERIVED_FROM_I_AND_II, LEADS_12, MODEL_LEADS, N_LEADS, derive_limb_leads

_N_LIMB: Final = 6
_CHEST_LEADS: Final = LEADS_12[_N_LIMB:]

# A residual above is flagged as `limb_leads_inconsistent`; the reason is in plausibility.py.
_FITS_SHARE: Final = 0.10
_FITS_UV: Final = 12.0

# Covariances need no more than every eighth sample at 500 Hz.
_N_STATISTIC_SAMPLES: Final = 625

# R of a chest lead is seen in each piece of 2 s, as amplitudes in plausibility.py are.
_PIECE_S: Final = 2

# Slope of six values over V1 to V6, by least squares.
_SLOPE: Final = np.array([-5.0, -3.0, -1.0, 1.0, 3.0, 5.0]) / 35

# So few ECGs say nothing about chest leads; so large a share of them must agree. In the order as
# declared, R grows most in nearly all ECGs (docs/plausibility.md).
_FEWEST_FOR_CHEST: Final = 10
_AGREEING_FOR_CHEST: Final = 0.7

# Of ECGs whose limb leads fit another order: below this share a single record is wrong, not the
# order of the data.
_LEAST_SHARE: Final = 0.02


@dataclass(frozen=True, slots=True)
class LeadOrder:
    """A hypothesis: what stands where the twelve leads are expected."""

    name: str  # in words
    # The lead that stands in the place of each of `LEADS_12`; `-aVR` is aVR with the other sign.
    leads: tuple[str, ...]

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(12, 12): the true leads, `LEADS_12` order, as a product with the leads as they stand."""
        found = np.zeros((N_LEADS, N_LEADS))
        for place, lead in enumerate(self.leads):
            found[LEADS_12.index(lead.removeprefix("-")), place] = -1.0 if lead.startswith("-") else 1.0
        return found

    @property
    def mend(self) -> str:
        """How to mend data in this order."""
        inverted = [lead.removeprefix("-") for lead in self.leads if lead.startswith("-")]
        order = ", ".join(lead.removeprefix("-") for lead in self.leads)
        is_moved = tuple(lead.removeprefix("-") for lead in self.leads) != LEADS_12
        steps = [f"name the leads in the order in which they stand: {order}"] if is_moved else []
        steps += [f"turn the sign of {', '.join(inverted)} at the source"] if inverted else []
        return ", and ".join(steps)


def _swapped(one: str, other: str, remark: str = "") -> LeadOrder:
    exchange = {one: other, other: one}
    return LeadOrder(f"{one} and {other} swapped{remark}", tuple(exchange.get(lead, lead) for lead in LEADS_12))


def _inverted(lead: str) -> LeadOrder:
    return LeadOrder(f"{lead} stored with the other sign", tuple(f"-{one}" if one == lead else one for one in LEADS_12))


DECLARED: Final = LeadOrder("as declared", LEADS_12)
_REMARKS: Final = {("aVL", "aVF"): ", the order of MIMIC-IV-ECG"}
_LIMB_LEADS: Final = LEADS_12[:_N_LIMB]
_DEVICE_ORDER: Final = ("I", "II", *_CHEST_LEADS, "III", "aVR", "aVL", "aVF")

LIMB_ORDERS: Final = (
    DECLARED,
    LeadOrder("I, II, V1 to V6, III, aVR, aVL, aVF, the order of SCP and aECG", _DEVICE_ORDER),
    LeadOrder("I, II, III, V1 to V6, aVF, aVL, aVR, the order of the model's input", MODEL_LEADS),
    LeadOrder("V1 to V6 before the limb leads", (*_CHEST_LEADS, *_LIMB_LEADS)),
    LeadOrder(
        "aVL, I, -aVR, II, aVF, III, the order of Cabrera", ("aVL", "I", "-aVR", "II", "aVF", "III", *_CHEST_LEADS)
    ),
    *(_swapped(*pair, _REMARKS.get(pair, "")) for pair in combinations(_LIMB_LEADS, 2)),
    *(_inverted(lead) for lead in _LIMB_LEADS),
)
"""Orders that the limb leads can tell apart; the first is the order as declared."""

CHEST_ORDERS: Final = (
    DECLARED,
    LeadOrder("chest leads reversed, V6 to V1", (*_LIMB_LEADS, *reversed(_CHEST_LEADS))),
    _swapped("V1", "V6"),
)
"""Orders that the growth of R over the chest leads of many ECGs can tell apart."""


def _algebra() -> NDArray[np.float64]:
    """Return (4, 12): III, aVR, aVL and aVF minus what I and II give, by `LEADS_12` order."""
    unit = np.eye(N_LEADS)
    derived = derive_limb_leads(unit[LEADS_12.index("I")], unit[LEADS_12.index("II")])
    return np.stack([unit[LEADS_12.index(lead)] - derived[lead] for lead in DERIVED_FROM_I_AND_II])


_DIFFERENCES: Final = np.stack([_algebra() @ order.matrix for order in LIMB_ORDERS])  # (orders, 4, 12)
_LIMB_PLACES: Final = np.stack([np.abs(order.matrix[:_N_LIMB]) for order in LIMB_ORDERS])  # (orders, 6, 12)


@dataclass(frozen=True, slots=True)
class LimbFit:
    """How far the limb leads of one ECG are from their algebra in each of `LIMB_ORDERS`."""

    # Each (orders,): the largest standard deviation of the four differences, over that of the
    # largest limb lead; and in microvolts.
    residual: NDArray[np.float64]
    difference_uv: NDArray[np.float64]

    @classmethod
    def of(cls, leads_uv: NDArray[np.floating]) -> LimbFit:
        """Compare the leads as they stand, (12, n_samples) microvolts, all finite."""
        stride = max(1, leads_uv.shape[1] // _N_STATISTIC_SAMPLES)
        samples = leads_uv[:, ::stride].astype(np.float64)
        covariance = np.atleast_2d(np.cov(samples, bias=True))
        variance = np.einsum("okl,lm,okm->ok", _DIFFERENCES, covariance, _DIFFERENCES)
        difference_uv = np.sqrt(np.maximum(variance, 0).max(axis=1))
        largest_uv = np.sqrt((_LIMB_PLACES @ np.diag(covariance)).max(axis=1))
        return cls(difference_uv / np.maximum(largest_uv, 1e-6), difference_uv)

    @property
    def best(self) -> int | None:
        """Place of the order that fits in `LIMB_ORDERS`; None where none fits.

        The order as declared is kept where it fits, also where another fits better.
        """
        fits = (self.residual <= _FITS_SHARE) | (self.difference_uv <= _FITS_UV)
        if fits[0]:
            return 0
        place = int(self.residual.argmin())
        return place if fits[place] else None


def r_shares(leads_uv: NDArray[np.floating], rate_hz: float) -> NDArray[np.float64]:
    """Return (12,): the part of each lead above its median, of its amplitude, 0 to 1.

    About the height of R over that of R and S together. Of each piece of 2 s the largest and the
    smallest value count; the median of the pieces is taken. Takes (12, n_samples) microvolts. A
    constant lead gives 0.5.
    """
    length = min(leads_uv.shape[1], int(_PIECE_S * rate_hz))
    n_pieces = leads_uv.shape[1] // length
    pieces = leads_uv[:, : n_pieces * length].reshape(N_LEADS, n_pieces, length)
    middle = np.median(leads_uv, axis=1)
    above = np.median(pieces.max(axis=2), axis=1) - middle
    below = middle - np.median(pieces.min(axis=2), axis=1)
    size = above + below
    return np.where(size > 0, above / np.where(size > 0, size, 1), 0.5)


def r_progression(shares: NDArray[np.float64], order: LeadOrder) -> float:
    """Return how much `r_shares` grows from one chest lead to the next in an order.

    About 0.12 in most ECGs, below 0 where the chest leads stand in reverse. The sign of a lead is
    left as it stands.
    """
    return float(_SLOPE @ (np.abs(order.matrix) @ shares)[_N_LIMB:])


@dataclass(frozen=True, slots=True)
class OrderEvidence:
    """What a number of ECGs say about one order."""

    order: LeadOrder
    residual: float  # median of `LimbFit.residual`; NaN without an ECG whose limb leads can be judged
    progression: float  # median of `r_progression`
    n_best: int  # ECGs that fit this order best


@dataclass(frozen=True, slots=True)
class OrderVerdict:
    """Which order the leads of a number of ECGs stand in."""

    limb: tuple[OrderEvidence, ...]  # of `LIMB_ORDERS`
    chest: tuple[OrderEvidence, ...]  # of `CHEST_ORDERS`, after the order of the limb leads was mended
    n_judged: int  # ECGs whose limb leads were not derived from I and II
    n_without: int  # of these, ECGs that fit no order

    @property
    def found(self) -> LeadOrder:
        """The order of the limb leads, the one as declared where nothing speaks against it."""
        other = max(self.limb[1:], key=lambda one: one.n_best)
        return other.order if other.n_best > _LEAST_SHARE * self.n_judged else DECLARED

    @property
    def chest_found(self) -> LeadOrder:
        """The order of the chest leads, the one as declared where nothing speaks against it."""
        n = sum(one.n_best for one in self.chest)
        best = max(self.chest, key=lambda one: one.n_best)
        is_clear = n >= _FEWEST_FOR_CHEST and best.n_best >= _AGREEING_FOR_CHEST * n
        return best.order if is_clear else DECLARED

    @property
    def fits_none(self) -> bool:
        """True where more ECGs than single records fit none of the orders."""
        return self.n_without > _LEAST_SHARE * self.n_judged


def order_verdict(ecgs: Sequence[tuple[NDArray[np.floating], float, bool]]) -> OrderVerdict:
    """Return what ECGs say about the order of their leads.

    Of each ECG: (12, n_samples) microvolts as they stand, all finite; the rate, hertz; and whether
    III, aVR, aVL and aVF were derived from I and II, which follow from them in any order.
    """
    fits = [LimbFit.of(leads_uv) for leads_uv, _, is_derived in ecgs if not is_derived]
    shares = [r_shares(leads_uv, rate_hz) for leads_uv, rate_hz, _ in ecgs]
    best = [fit.best for fit in fits]
    limb = [_evidence(order, k, fits, shares, best.count(k)) for k, order in enumerate(LIMB_ORDERS)]
    verdict = OrderVerdict(tuple(limb), (), len(fits), best.count(None))
    mended = [_mended(one, verdict.found) for one in shares]
    growth = np.array([[r_progression(one, order) for order in CHEST_ORDERS] for one in mended])
    steepest = growth.reshape(-1, len(CHEST_ORDERS)).argmax(axis=1).tolist()
    place = LIMB_ORDERS.index(verdict.found)
    chest = [_evidence(order, place, fits, mended, steepest.count(k)) for k, order in enumerate(CHEST_ORDERS)]
    return OrderVerdict(tuple(limb), tuple(chest), len(fits), best.count(None))


def _mended(shares: NDArray[np.float64], order: LeadOrder) -> NDArray[np.float64]:
    """Return `r_shares` in `LEADS_12` order of leads that stand in another one."""
    return np.asarray(np.abs(order.matrix) @ shares)


def _evidence(
    order: LeadOrder, place: int, fits: Sequence[LimbFit], shares: Sequence[NDArray[np.float64]], n_best: int
) -> OrderEvidence:
    residuals = [fit.residual[place] for fit in fits]
    growth = [r_progression(one, order) for one in shares]
    nan = float("nan")
    return OrderEvidence(
        order, float(np.median(residuals)) if residuals else nan, float(np.median(growth)) if growth else nan, n_best
    )
