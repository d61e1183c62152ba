"""Restricted cubic splines: a smooth effect of a number, straight beyond the outer knots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.statistics.columns import Columns, TableRefused, used_columns
from analysis.statistics.limits import Z95
from analysis.statistics.survival.cox_fit import ChiSquareTest, CoxFit

Floats = NDArray[np.float64]

# Harrell FE, Regression Modeling Strategies, 2nd ed., Springer 2015, table 2.3: outer quantiles.
_OUTER: Final = {3: 0.10, 4: 0.05, 5: 0.05, 6: 0.05, 7: 0.025}
# With fewer values the outer knots are the fifth smallest and the fifth largest (ibid., 2.4.6).
_FEW: Final = 100
_FIFTH: Final = 4


@dataclass(frozen=True, slots=True)
class RestrictedCubicSpline:
    """A covariate that enters a fit as a restricted cubic spline.

    Its terms are named `column`, `column'`, `column''` ...: the straight part and one for each knot
    but two, divided by the square of the distance of the outer knots.

    Attributes:
        column: column of the table.
        knots: 3 or more, ascending, in the unit of the column.

    Source:
        Stone CJ, Koo CY, Proc Stat Comp Sect ASA 1985:45; Harrell 2015, section 2.4.5.
        R: `Hmisc::rcspline.eval(x, knots, inclx = TRUE, norm = 2)`, `rms::rcs(x, knots)`.
    """

    column: str
    knots: tuple[float, ...]

    def __post_init__(self) -> None:
        knots = np.asarray(self.knots, dtype=float)
        if len(knots) < 3 or not np.isfinite(knots).all() or (np.diff(knots) <= 0).any():
            raise ValueError(f"knots are {self.knots}, expected 3 or more ascending numbers")

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of its terms; the first is the straight part."""
        return tuple(self.column + "'" * place for place in range(len(self.knots) - 1))

    def resolved(self, columns: Columns) -> RestrictedCubicSpline:
        """Refuse a constant column; the knots are fixed already."""
        columns.varying_numbers(self.column)
        return self

    def expanded(self, columns: Columns) -> tuple[tuple[str, ...], Floats]:
        """Return its terms and their (n, knots - 1) values."""
        return self.terms, self.basis(columns.numbers(self.column))

    def basis(self, values: Floats) -> Floats:
        """Return the terms at given values.

        Args:
            values: (n,) in the unit of the column.

        Returns:
            (n, knots - 1).
        """
        knots = np.asarray(self.knots)
        last, before = knots[-1], knots[-2]

        def cube(knot: float) -> Floats:
            return np.clip(values - knot, 0, None) ** 3

        bends = [
            cube(knot) - cube(before) * (last - knot) / (last - before) + cube(last) * (before - knot) / (last - before)
            for knot in knots[:-2]
        ]
        return np.column_stack([values, *(bend / (last - knots[0]) ** 2 for bend in bends)])


def restricted_cubic_spline(
    table: pd.DataFrame, *, column: str, n_knots: int = 4, knots: Sequence[float] | None = None
) -> RestrictedCubicSpline:
    """Choose the knots of a restricted cubic spline, to be kept with the result.

    Args:
        table: the people of the fit.
        column: column of numbers, complete.
        n_knots: 3 to 7, at Harrell's quantiles: the outer at 10 and 90 % (3 knots), 5 and 95 % (4
            to 6) or 2.5 and 97.5 % (7), the others evenly between; below 100 rows the outer are
            the fifth smallest and largest value.
        knots: your own knots instead, in the unit of the column.

    Returns:
        The spline, a covariate for `fit_cox`.

    Raises:
        TableRefused: the column cannot be used, or has too few distinct values for the knots.
        ValueError: another number of knots, or knots that do not ascend.

    Source:
        Harrell 2015, section 2.4.6. R: `Hmisc::rcspline.eval(x, nk = n_knots, knots.only = TRUE,
        fractied = 0)`, that is without its replacement of knots among many equal extreme values.
    """
    values = used_columns(table, [column]).varying_numbers(column)
    if knots is not None:
        return RestrictedCubicSpline(column, tuple(float(knot) for knot in knots))
    if n_knots not in _OUTER:
        raise ValueError(f"n_knots is {n_knots}, expected 3 to 7")
    outer = _OUTER[n_knots]
    chosen = np.quantile(values, np.linspace(outer, 1 - outer, n_knots))
    if _FIFTH < len(values) < _FEW:
        ordered = np.sort(values)
        chosen[[0, -1]] = ordered[_FIFTH], ordered[-1 - _FIFTH]
    if (np.diff(chosen) <= 0).any():
        raise TableRefused(
            f"column {column!r} has knots at {', '.join(f'{knot:g}' for knot in chosen)} with "
            f"n_knots={n_knots}, expected them to differ; take fewer, or pass knots=..."
        )
    return RestrictedCubicSpline(column, tuple(chosen.tolist()))


def nonlinearity_test(fit: CoxFit, *, spline: RestrictedCubicSpline) -> ChiSquareTest:
    """Test whether the effect of a spline is a straight line.

    Args:
        fit: a fit with the spline among its covariates.
        spline: the spline.

    Returns:
        The Wald test that all terms but the straight one are 0, with the errors of the fit.

    Raises:
        ValueError: the spline is not in the fit.

    Source:
        Harrell 2015, section 2.4.7. R: the row "Nonlinear" of `rms::anova(fit)`.
    """
    _check_in(fit, spline)
    return fit.wald_test(spline.terms[1:])


def spline_contrast(
    fit: CoxFit, *, spline: RestrictedCubicSpline, values: Sequence[float], reference: float
) -> pd.DataFrame:
    """Compare values of a spline with a stated reference, the other covariates being the same.

    Args:
        fit: a fit with the spline among its covariates.
        spline: the spline.
        values: values in the unit of the column.
        reference: the value with a hazard ratio of 1.

    Returns:
        value, reference, log_hr, se, hr, hr_lo, hr_hi (95 %, pointwise).

    Raises:
        ValueError: the spline is not in the fit, or a value is not finite.

    Source:
        Harrell 2015, section 2.4.5. R: `rms::contrast(fit, list(x = values), list(x =
        reference))`.
    """
    _check_in(fit, spline)
    at = np.asarray(values, dtype=float)
    if not (np.isfinite(at).all() and np.isfinite(reference)):
        raise ValueError(f"values are {values} and the reference {reference}, expected finite ones")
    terms = list(spline.terms)
    difference = spline.basis(at) - spline.basis(np.array([float(reference)]))
    coef = fit.estimates.set_index("term").loc[terms, "coef"].to_numpy()
    covariance = fit.covariance.loc[terms, terms].to_numpy()
    log_hr = difference @ coef
    se = np.sqrt(np.einsum("ij,jk,ik->i", difference, covariance, difference))
    return pd.DataFrame(
        {
            "value": at,
            "reference": float(reference),
            "log_hr": log_hr,
            "se": se,
            "hr": np.exp(log_hr),
            "hr_lo": np.exp(log_hr - Z95 * se),
            "hr_hi": np.exp(log_hr + Z95 * se),
        }
    )


def _check_in(fit: CoxFit, spline: RestrictedCubicSpline) -> None:
    if spline not in fit.design.covariates:
        names = ", ".join(fit.design.columns)
        raise ValueError(
            f"the spline of {spline.column!r} with knots {spline.knots} is not in the fit, which "
            f"has {names}; pass the one that the fit was made with"
        )
