"""The picture of a recalibration: CMR against predicted mass, before and after."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from lvm_core.recalibration import CmrSubset, Recalibrated

# Okabe M, Ito K, Color Universal Design, 2008.
_COLOURS = {0: "#D55E00", 1: "#0072B2"}
_NAMES = {0: "women", 1: "men"}


def write_figure(people: CmrSubset, made: Recalibrated, model_id: str, path: Path) -> None:
    """Draw CMR against raw and against cross-fitted recalibrated mass; one dot is one person.

    Args:
        people: with CMR.
        made: of `cross_fitted`.
        model_id: for the label.
        path: PNG file.
    """
    figure = Figure(figsize=(10.0, 5.0), layout="constrained")
    before, after = figure.subplots(1, 2, sharey=True)
    values = np.concatenate([people.lvm_pred_g, made.lvm_recal_g, people.lvm_cmr_g])
    limits = float(values.min()) - 5, float(values.max()) + 5
    for code, name in _NAMES.items():
        theirs = people.sex_code == code
        style = {"s": 10, "alpha": 0.5, "linewidths": 0, "color": _COLOURS[code], "label": name}
        cmr_g = people.lvm_cmr_g[theirs]
        before.scatter(people.lvm_pred_g[theirs], cmr_g, **style)
        after.scatter(made.lvm_recal_g[theirs], cmr_g, **style)
        order = np.argsort(made.lvm_recal_g[theirs])
        for edge in (made.lvm_lo_g, made.lvm_hi_g):
            x, y = made.lvm_recal_g[theirs][order], edge[theirs][order]
            after.plot(x, y, color=_COLOURS[code], linewidth=0.8)
    for axes in (before, after):
        axes.plot(limits, limits, color="0.5", linewidth=1)
        axes.set(xlim=limits, ylim=limits, aspect="equal")
        axes.spines[["top", "right"]].set_visible(False)
    before.set(xlabel=f"predicted LV mass (g), {model_id}", ylabel="LV mass by CMR (g)")
    before.set_title("as predicted")
    after.set(xlabel="recalibrated LV mass (g)", title="recalibrated, cross-fitted, with intervals")
    before.legend(frameon=False, loc="upper left")
    figure.savefig(path, dpi=120)
