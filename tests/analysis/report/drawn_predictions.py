"""Drawn predictions that were changed, made to agree with themselves again."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lvm_core.medicine.body import Bsa, body_surface_area_m2
from lvm_core.medicine.lvh import LvhPreset, Sex, lvh_limit_g_m2


def derived(
    predictions: pd.DataFrame, formula: Bsa = Bsa.DUBOIS, preset: LvhPreset = LvhPreset.KHURSHID2021
) -> pd.DataFrame:
    """Return predictions with bsa_m2, lvmi_pred_g_m2 and lvh_pred as their mass makes them.

    Args:
        predictions: lvm_pred_g, height_cm, weight_kg and sex; an index or LVH that is missing
            stays so.
        formula: of the body surface area.
        preset: limits of LVH; only those of khurshid2021 are above and not at the limit.
    """
    size = [predictions[name].to_numpy(dtype=float) for name in ("height_cm", "weight_kg")]
    area = body_surface_area_m2(*size, formula)
    index = predictions["lvm_pred_g"].to_numpy(dtype=float) / area
    limit = predictions["sex"].map({sex.value: lvh_limit_g_m2(sex, preset) for sex in Sex})
    lvh = pd.Series(index > limit.to_numpy(dtype=float), predictions.index).astype("boolean")
    return predictions.assign(
        bsa_m2=area,
        lvmi_pred_g_m2=np.where(predictions["lvmi_pred_g_m2"].isna(), np.nan, index),
        lvh_pred=lvh.mask(predictions["lvh_pred"].isna()),
    )
