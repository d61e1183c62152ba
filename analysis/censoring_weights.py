"""Inverse probability of censoring weights at a horizon, and what their estimation adds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.risk_outcome import Outcome
from analysis.risk_sets import censoring_curve, count_risk_sets, step_values

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CensoringWeights:
    """Weights of people whose state at the horizon is known, and the curve behind them.

    Attributes:
        weights: (n,) 1 / G(T-) for an event by the horizon, 1 / G(horizon) for those followed
            beyond it, 0 for those censored by then.
        times: (J,) times of censoring by the horizon.
        at_risk: (J,) people at risk at each, those with an event at the time among them.
        censored: (J,) censored at each.
        before: (n,) how many of the times come before each person's exit.
        until: (n,) how many come before it or with it.
        own: (n,) place in `times` of the own censoring by the horizon, -1 without one.
    """

    weights: Floats
    times: Floats
    at_risk: Floats
    censored: Floats
    before: NDArray[np.int64]
    until: NDArray[np.int64]
    own: NDArray[np.int64]

    def with_estimation(self, parts: Floats) -> Floats:
        """Return the influence of each person on a sum of parts, estimated weights included.

        A part is in proportion to its person's weight. With Y at risk and c censored at a time u,
        and Q(u) the sum of the parts of those who exit after u, a person adds Q / Y at the own
        censoring and takes c Q / Y^2 at each censoring time while at risk. This is the martingale
        of the curve of censoring as riskRegression counts it: people with an event at u are among
        Y, though not in the curve itself, where the event comes first. The exact derivative has
        the others alone for Y; that moves errors by some 1e-4 of themselves with monthly ties, by
        more for the null model where half have the event, and hardly without ties.

        Args:
            parts: (k, n) with 0 for people of weight 0.

        Returns:
            (k, n) parts with what each person adds and takes through the weights.
        """
        size = len(self.times)
        found = np.empty_like(parts)
        for row, part in enumerate(parts):
            after = np.bincount(self.before, part, size + 1)
            later = np.cumsum(after[::-1])[::-1][1:]
            taken = np.cumsum(np.concatenate([[0.0], self.censored * later / self.at_risk**2]))
            added = np.append(later / self.at_risk, 0.0)[self.own]
            found[row] = part + added - taken[self.until]
        return found


def censoring_weights(outcome: Outcome) -> CensoringWeights:
    """Return the weights of an outcome.

    G is the Kaplan-Meier curve of the time to censoring. At a tie the event comes first, so that
    people with an event at a time are no longer at risk of being censored at it.

    Args:
        outcome: follow-up and horizon.

    Returns:
        The weights; people followed beyond the horizon and people with an event never have G = 0.

    Source:
        Graf E et al., Stat Med 1999;18:2529-2545; Gerds TA, Schumacher M, Biom J 2006;48:1029.
        R: `prodlim(Hist(duration, event) ~ 1, reverse = TRUE)`,
        `predictSurvIndividual(fit, lag = 1)`.
    """
    exits = outcome.exits
    risk = count_risk_sets(exits, outcome.statuses, n_causes=2)
    used = (risk.n_censored > 0) & (risk.times <= outcome.at)
    times, censored = risk.times[used], risk.n_censored[used]
    at_risk = risk.n_at_risk[used]
    known = outcome.cases | outcome.others | outcome.beyond
    uncensored = censoring_curve(risk).uncensored[used]
    read = step_values(times, uncensored, exits, start=1.0, left=True)
    gone = ~known
    own = np.full(len(exits), -1, dtype=np.int64)
    own[gone] = np.searchsorted(times, exits[gone])
    return CensoringWeights(
        weights=np.where(known, 1 / read, 0.0),
        times=times,
        at_risk=at_risk,
        censored=censored,
        before=np.searchsorted(times, exits, side="left"),
        until=np.searchsorted(times, exits, side="right"),
        own=own,
    )
