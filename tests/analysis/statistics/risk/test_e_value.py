from typing import Any

import pytest

from analysis.statistics.risk import e_value
from tests.analysis.statistics.references import close, expected


@pytest.mark.parametrize(
    ("rr", "lo", "hi", "of_estimate", "of_limit"),
    [
        # VanderWeele and Ding 2017, infant feeding: 3.9 + sqrt(3.9 x 2.9), 1.8 + sqrt(1.8 x 0.8).
        (3.9, 1.8, 8.7, 7.263034, 3.0),
        # Vignette of the R package EValue: smoking and lung cancer.
        (10.73, 8.02, 14.36, 20.94777, 15.52336),
        # VanderWeele and Ding 2017, leukaemia: 1.25 + sqrt(1.25 x 0.25), and 1 / 0.91 likewise.
        (0.80, 0.71, 0.91, 1.809017, 1.428571),
    ],
)
def test_e_value__published_examples(rr: float, lo: float, hi: float, of_estimate: float, of_limit: float) -> None:
    found = e_value(rr=rr, lo=lo, hi=hi)
    close([found.e_value], [of_estimate], rtol=5e-7)
    close([found.e_value_limit or 0], [of_limit], rtol=5e-7)


def test_e_value__hazard_ratios_are_equal_to_the_formulas_in_r() -> None:
    of_r = expected("risk")["e_value"]
    for place, hr in enumerate(of_r["hr"]):
        close(e_value(hr=hr, rare_outcome=True).e_value, of_r["rare"][place], rtol=1e-13)
        common = e_value(hr=hr, rare_outcome=False)
        close(common.estimate, of_r["common_rr"][place], rtol=1e-13)
        close(common.e_value, of_r["common"][place], rtol=1e-13)


def test_e_value__inverse_ratio_has_the_same() -> None:
    for arguments in ({"rare_outcome": True}, {"rare_outcome": False}):
        one, other = (e_value(hr=hr, **arguments).e_value for hr in (1.7, 1 / 1.7))
        close(one, other, rtol=1e-12)


@pytest.mark.parametrize(("lo", "hi"), [(0.9, 1.7), (1.0, 1.7), (1.0, 1.0)])
def test_e_value__interval_with_one_needs_no_confounding(lo: float, hi: float) -> None:
    assert e_value(rr=max(1.0, (lo + hi) / 2), lo=lo, hi=hi).e_value_limit == 1


def test_e_value__of_one_is_one_and_without_limits_has_no_e_value_of_a_limit() -> None:
    found = e_value(rr=1)
    assert found.e_value == 1
    assert found.e_value_limit is None
    assert "risk ratio" in found.scale


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "hr is None and rr is None"),
        ({"hr": 2.0, "rr": 2.0}, "hr is 2.0 and rr is 2.0"),
        ({"hr": 2.0}, "rare_outcome is None"),
        ({"rr": 0.0}, "ratio is 0.0"),
        ({"rr": float("nan")}, "ratio is nan"),
        ({"rr": 2.0, "lo": 1.2}, "lo is 1.2 and hi is None"),
        ({"rr": 2.0, "lo": 2.2, "hi": 3.0}, "the ratio is 2.0, expected between"),
        ({"rr": 2.0, "lo": -1.0, "hi": 3.0}, "lo is -1.0"),
    ],
)
def test_e_value__wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        e_value(**arguments)
