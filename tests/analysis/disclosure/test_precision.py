"""Numbers give no more of n than its rounded value: the same for all n that round to it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from analysis.disclosure.aggregates import Column, Kind, Precision
from analysis.disclosure.masking import (
    Known,
    is_publishable,
    rounded_number,
    rounded_p,
    rounded_result,
    to_digits,
    to_step,
)

BASE = 5
NAMES = ("n_people", "n_events", "n_events_fewest")
Z = 1.959964


def known(n: float) -> Known:
    return Known(n, float(np.floor(n / BASE + 0.5) * BASE), BASE)


def rounded_row(row: dict[str, float], how: str = "", *, chi: bool = False, **counts: int) -> Any:
    full = dict.fromkeys(("estimate", "se", "lo", "hi", "p", "p_ph", "q"), math.nan) | row
    return rounded_result(full, how, {name: known(counts.get(name, math.nan)) for name in NAMES}, is_chi_square=chi)


def row(estimate: float, se: float, *, scale: str = "") -> dict[str, float]:
    to = {"": float, "log": math.log}[scale]
    back = {"": float, "log": math.exp}[scale]
    middle = to(estimate)
    p = float(2 * stats.norm.sf(abs(middle) / se))
    return {"estimate": estimate, "se": se, "lo": back(middle - Z * se), "hi": back(middle + Z * se), "p": p}


def same(rows: list[dict[str, float]]) -> bool:
    return len({str(one) for one in rows}) == 1


@pytest.mark.parametrize("n", [1200, 45, 20])
def test_mean__the_same_for_all_n_that_are_rounded_to_one(n: int) -> None:
    sd = 11.37
    rows = [rounded_row(row(-2.345, sd / math.sqrt(m)), "mean", n_people=m) for m in range(n - 2, n + 3)]
    assert same(rows)
    assert (sd / rows[0]["se"]) ** 2 == pytest.approx(n, rel=0.12)


@pytest.mark.parametrize("n", [1200, 45, 20])
def test_correlation__the_same_for_all_n_that_are_rounded_to_one(n: int) -> None:
    def of(m: int) -> dict[str, float]:
        half = Z / math.sqrt(m - 3)
        z = math.atanh(0.612) * math.sqrt(m - 3)
        return {
            "estimate": 0.612,
            "lo": math.tanh(math.atanh(0.612) - half),
            "hi": math.tanh(math.atanh(0.612) + half),
            "p": float(2 * stats.norm.sf(z)),
        }

    rows = [rounded_row(of(m), n_people=m) for m in range(n - 2, n + 3)]
    assert same(rows)


@pytest.mark.parametrize("n", [1200, 45, 20])
def test_sd__the_same_for_all_n_that_are_rounded_to_one(n: int) -> None:
    def of(m: int) -> dict[str, float]:
        q = stats.chi2.ppf([0.975, 0.025], m - 1)
        lo, hi = 11.37 * np.sqrt((m - 1) / q)
        return {"estimate": 11.37, "lo": float(lo), "hi": float(hi)}

    rows = [rounded_row(of(m), n_people=m) for m in range(n - 2, n + 3)]
    assert len({str(one) for one in rows}) <= 2


@pytest.mark.parametrize(("events", "digits"), [(15, 3), (60, 3), (1000, 4)])
def test_hazard_ratio__is_what_the_model_gave(events: int, digits: int) -> None:
    """A publication has them; their errors hang on the covariates, and not on events alone."""
    exact = row(1.28345, 1.2345 / math.sqrt(events), scale="log")
    made = rounded_row(exact, n_people=5000, n_events=events, n_events_fewest=events)
    for name in ("estimate", "se", "lo", "hi"):
        assert made[name] == float(f"{exact[name]:.{digits}g}")
    assert made["p"] == float(f"{exact['p']:.2g}")


@pytest.mark.parametrize("fewest", [17, 138])
def test_arms__have_the_interval_of_the_model(fewest: int) -> None:
    exact = row(2.1234, math.sqrt(1 / fewest + 1 / 900), scale="log")
    made = rounded_row(exact, n_people=9700, n_events=900 + fewest, n_events_fewest=fewest)
    assert [made[name] for name in ("estimate", "se", "lo", "hi")] == [
        float(f"{exact[name]:.3g}") for name in ("estimate", "se", "lo", "hi")
    ]
    assert made["p"] == float(f"{exact['p']:.2g}")


@pytest.mark.parametrize("n", [120, 2000])
def test_share__in_steps_of_the_rounded_people(n: int) -> None:
    """A first step of ten events: ten over n."""
    column = Column("incidence", Kind.NUMBER, "", ("n_people",), Precision.SHARE)
    made = [rounded_number(10 / m, column, known(m), math.nan) for m in range(n - 2, n + 3)]
    assert len(set(made)) == 1
    share = rounded_row({"estimate": 10 / n, "se": 0.01, "lo": 0.001, "hi": 0.2}, "share", n_people=n)
    assert share["estimate"] == pytest.approx(made[0])
    assert share["lo"] * n / BASE == pytest.approx(round(share["lo"] * n / BASE))


def test_means__do_not_give_the_shares_of_two_groups() -> None:
    """(all - no) / (yes - no) is the share of those who are yes; it is blurred by a few people."""
    column = Column("mean", Kind.NUMBER, "", ("n",), Precision.MEAN)
    rng = np.random.default_rng(1)
    for _ in range(20):
        yes, no = rng.normal(65, 8, 101), rng.normal(50, 8, 1899)
        every = np.concatenate([yes, no])
        shown = [rounded_number(v.mean(), column, known(len(v)), v.std(ddof=1)) for v in (every, yes, no)]
        steps = [BASE * v.std(ddof=1) / len(v) for v in (every, yes, no)]
        fuzz = 2000 * steps[0] / (shown[1] - shown[2])
        assert fuzz > BASE / 2  # the mean of all alone leaves that many people open
        assert abs(shown[0] - every.mean()) < 4 * steps[0]
        assert abs(shown[1] - yes.mean()) < yes.std() / math.sqrt(101)


def test_chi_square__of_people_grows_with_n() -> None:
    rows = [rounded_row({"estimate": 9.0 * n / 60, "p": 0.0027}, n_people=n, chi=True) for n in range(58, 63)]
    assert len({one["estimate"] for one in rows}) == 1


def test_p__has_two_digits_and_a_floor() -> None:
    assert rounded_p(2.152e-122) == 0.0009
    assert rounded_p(0.001) == rounded_p(0.00104) == 0.001
    assert rounded_p(0.03456) == 0.035
    assert math.isnan(rounded_p(math.nan))
    made = rounded_row({"p": 1e-9, "q": 0.02123, "p_ph": 0.43219}, n_people=50)
    assert (made["p"], made["q"], made["p_ph"]) == (0.0009, 0.021, 0.43)
    made = rounded_row({"p": 1.234e-9, "q": 2.468e-9}, n_people=5000, n_events=700)
    assert (made["p"], made["q"]) == (1.2e-9, 2.5e-9)  # q is never below P


def test_large__estimates_stay_what_they_are() -> None:
    made = rounded_row(row(1.2834, 0.0123, scale="log"), n_people=500_000, n_events=6600)
    assert made["estimate"] == 1.283
    assert made["se"] == pytest.approx(0.0123, rel=1e-3)
    assert made["lo"] == pytest.approx(1.2834 * math.exp(-Z * 0.0123), rel=1e-3)


def test_quantile__has_k_people_on_either_side() -> None:
    column = Column("p5", Kind.NUMBER, "", ("n",), Precision.MEAN, 0.05)
    assert not is_publishable(column, known(195), 10)
    assert is_publishable(column, known(200), 10)
    assert not is_publishable(Column("p95", Kind.NUMBER, "", ("n",), Precision.MEAN, 0.95), known(150), 10)
    assert not is_publishable(column, Known(500, math.nan, 0), 10)


def test_limits__of_nothing_are_nothing() -> None:
    made = rounded_row({"estimate": 1.5}, n_people=100)
    assert made["estimate"] == 1.5
    assert math.isnan(made["lo"])
    assert rounded_row({"estimate": 2.0, "lo": 2.0, "hi": 2.0}, n_people=100)["hi"] == 2.0


def test_rounding() -> None:
    assert to_step(0.0123, 0.005) == 0.01
    assert to_step(math.inf, 1.0) == math.inf
    assert to_digits(123_456.0, 3) == 123_000.0
    assert to_step(54.3, 0.5) == 54.5
