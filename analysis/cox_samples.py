"""Many fits of one Cox model to samples of its rows: checked once, put in order once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.columns import TableRefused
from analysis.cox_fit import CoxFit
from analysis.cox_rows import CoxRows, checked_rows, fit_rows
from analysis.design import Covariate

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CoxSamples:
    """A Cox model to be fitted again and again, as a bootstrap does.

    Attributes:
        rows: of the whole table, in risk order.
    """

    rows: CoxRows

    @classmethod
    def of(
        cls,
        table: pd.DataFrame,
        *,
        duration: str,
        event: str,
        covariates: Sequence[str | Covariate],
        entry: str | None = None,
        strata: Sequence[str] = (),
    ) -> CoxSamples:
        """Check a table; arguments as in `analysis.cox.fit_cox`.

        Raises:
            TableRefused: a column cannot be used, by its name with counts and example rows.
        """
        rows = checked_rows(
            table,
            duration=duration,
            event=event,
            covariates=covariates,
            entry=entry,
            strata=strata,
            cluster=None,
            weights=None,
            ties="efron",
            robust=False,
            missing="refuse",
        )
        return cls(rows.in_risk_order())

    def repeated(self, drawn: Integers) -> CoxFit:
        """Fit to the table in which each row stands as often as it was drawn.

        Args:
            drawn: (n,) how often each row of the table was drawn.

        Returns:
            What `fit_cox` returns for such a table.

        Raises:
            TableRefused: the model cannot be fitted to these rows.
        """
        times = drawn[self.rows.row_numbers]
        return _fit(self.rows.taken(np.repeat(np.arange(len(times)), times)))

    def weighted(self, drawn: Integers, first: Floats | None = None) -> CoxFit:
        """Fit to the rows that were drawn, weighted by how often.

        Args:
            drawn: (n,) how often each row of the table was drawn.
            first: (n,) values for the first covariate in place of its own, by row of the table.

        Returns:
            What `fit_cox` with these weights returns.

        Raises:
            TableRefused: the model cannot be fitted to these rows.
        """
        times = drawn[self.rows.row_numbers]
        kept = np.flatnonzero(times)
        sample = replace(self.rows.taken(kept), weights=times[kept].astype(np.float64))
        if first is not None:
            sample.x[0] = first[sample.row_numbers]
        return _fit(sample)


def _fit(sample: CoxRows) -> CoxFit:
    """Fit, unless a covariate has one value only or nobody has the event, as `fit_cox` refuses."""
    if not sample.events.any():
        raise TableRefused("the sample has no event, expected some")
    constant = sample.x.min(axis=1) == sample.x.max(axis=1)
    if constant.any():
        name = sample.design.terms[int(np.flatnonzero(constant)[0])]
        raise TableRefused(f"covariate {name!r} is constant in the sample, expected two values")
    return fit_rows(sample)
