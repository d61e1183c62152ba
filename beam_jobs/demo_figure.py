"""Predicted against true mass of synthetic people: the numbers and the picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

# Okabe M, Ito K, Color Universal Design, 2008: told apart with every kind of colour vision.
_MEN: Final[dict[str, Any]] = {"color": "#0072B2", "marker": "o", "label": "men"}
_WOMEN: Final[dict[str, Any]] = {"color": "#D55E00", "marker": "^", "label": "women"}
_MARGIN_G: Final = 10.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Predicted and true mass of the same n people.

    Attributes:
        lvm_pred_g: (n,) float64, grams.
        lvm_true_g: (n,) float64, grams.
        is_male: (n,) bool.
    """

    lvm_pred_g: NDArray[np.float64]
    lvm_true_g: NDArray[np.float64]
    is_male: NDArray[np.bool_]

    @property
    def r(self) -> float:
        """Pearson's correlation; NaN for fewer than three people."""
        if len(self.lvm_pred_g) < 3:
            return float("nan")
        return float(np.corrcoef(self.lvm_pred_g, self.lvm_true_g)[0, 1])

    def summary(self) -> str:
        """Return the correlation and the errors in words."""
        difference_g = self.lvm_pred_g - self.lvm_true_g
        if not len(difference_g):
            return "nobody was scored"
        return (
            f"r = {self.r:.2f}, mean difference {difference_g.mean():+.1f} g, "
            f"mean absolute error {np.abs(difference_g).mean():.1f} g, {len(difference_g)} people"
        )


def write_figure(comparison: Comparison, model_id: str, path: Path) -> None:
    """Draw predicted against true mass, with the line of equality, to a PNG file."""
    figure = Figure(figsize=(6.0, 6.0), layout="constrained")
    axes = figure.add_subplot()
    both = np.concatenate([comparison.lvm_pred_g, comparison.lvm_true_g, [60.0, 120.0]])
    limits = both.min() - _MARGIN_G, both.max() + _MARGIN_G
    axes.plot(limits, limits, color="0.6", linewidth=1, label="equality")
    for chosen, style in ((comparison.is_male, _MEN), (~comparison.is_male, _WOMEN)):
        axes.scatter(
            comparison.lvm_true_g[chosen], comparison.lvm_pred_g[chosen], s=16, alpha=0.7, linewidths=0, **style
        )
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.set_xlabel("true LV mass of the synthetic person (g)")
    axes.set_ylabel(f"LV mass predicted from the synthetic ECG (g), {model_id}")
    axes.set_title(f"SYNTHETIC, NOT CLINICAL\n{comparison.summary()}", fontsize=10)
    axes.legend(frameon=False, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
