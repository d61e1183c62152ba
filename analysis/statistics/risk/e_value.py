"""The E-value: how strong confounding that was not measured must be to explain an estimate away."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EValue:
    """An E-value and that of the limit nearer to no effect.

    Attributes:
        estimate: on the scale of risk ratios; at or above 1, or below it, as the ratio given.
        lo: lower limit of the estimate on that scale; None when none was given.
        hi: upper limit.
        e_value: the least risk ratio that a confounder must have with the exposure and with the
            outcome both, beyond the covariates, to move the estimate to 1.
        e_value_limit: the same for the limit nearer to 1; 1 where the interval holds 1; None
            without limits.
        scale: what was given and how it was brought to a risk ratio.
    """

    estimate: float
    lo: float | None
    hi: float | None
    e_value: float
    e_value_limit: float | None
    scale: str


def e_value(
    *,
    hr: float | None = None,
    rr: float | None = None,
    lo: float | None = None,
    hi: float | None = None,
    rare_outcome: bool | None = None,
) -> EValue:
    """Return the E-value of a hazard ratio or a risk ratio.

    A hazard ratio is taken as a risk ratio where the outcome is rare (below 15 % at the end of
    follow-up). Else the risk ratio is about (1 - 0.5^sqrt(hr)) / (1 - 0.5^sqrt(1 / hr)). The
    E-value is for the contrast given: per standard deviation, per 10 g/m2, or between groups.

    Args:
        hr: hazard ratio, above 0; exactly one of `hr` and `rr`.
        rr: risk ratio, above 0.
        lo: lower confidence limit, above 0, with `hi`; None for both without.
        hi: upper confidence limit.
        rare_outcome: whether fewer than 15 % have the outcome at the end of follow-up; required
            with `hr`, not used with `rr`.

    Returns:
        The E-values; 1 for a ratio of 1.

    Raises:
        ValueError: none or both ratios, a ratio that is not finite and above 0, one limit without
            the other, limits not around the ratio, or `rare_outcome` is missing with `hr`.

    Source:
        VanderWeele TJ, Ding P, Ann Intern Med 2017;167:268-274; table 2 for hazard ratios.
        R: `EValue::evalues.HR(est, lo, hi, rare)`, `EValue::evalues.RR(est, lo, hi)`
    """
    if (hr is None) == (rr is None):
        raise ValueError(f"hr is {hr} and rr is {rr}, expected exactly one of them")
    given = hr if hr is not None else rr
    assert given is not None
    _check(given, lo, hi)
    if hr is None:
        scale, common = "risk ratio", False
    elif rare_outcome is None:
        raise ValueError("rare_outcome is None, expected True or False with a hazard ratio")
    else:
        common = not rare_outcome
        scale = "hazard ratio, outcome " + ("common: approximated" if common else "rare: taken as a risk ratio")
    estimate, low, high = (_risk_ratio(value, common) for value in (given, lo, hi))
    assert estimate is not None
    return EValue(estimate, low, high, _of_ratio(estimate), _of_limit(estimate, low, high), scale)


def _check(ratio: float, lo: float | None, hi: float | None) -> None:
    for name, value in (("ratio", ratio), ("lo", lo), ("hi", hi)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} is {value!r}, expected a finite number above 0")
    if (lo is None) != (hi is None):
        raise ValueError(f"lo is {lo} and hi is {hi}, expected both or neither")
    if lo is not None and hi is not None and not lo <= ratio <= hi:
        raise ValueError(f"the ratio is {ratio}, expected between lo={lo} and hi={hi}")


def _risk_ratio(ratio: float | None, common: bool) -> float | None:
    if ratio is None or not common:
        return ratio
    part: float = (1 - 0.5 ** math.sqrt(ratio)) / (1 - 0.5 ** math.sqrt(1 / ratio))
    return part


def _of_ratio(ratio: float) -> float:
    above = max(ratio, 1 / ratio)
    return above + math.sqrt(above * (above - 1))


def _of_limit(estimate: float, lo: float | None, hi: float | None) -> float | None:
    if lo is None or hi is None:
        return None
    if lo <= 1 <= hi:
        return 1.0
    return _of_ratio(lo if estimate > 1 else hi)
