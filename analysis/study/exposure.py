"""The scale of the exposure: standard deviations and quartiles, by model of the predictions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd

from analysis.study.settings import Study

SEXES: Final = ("female", "male")
ECG_ONLY: Final = "lvm_ecg_only_g"
"""The mass of the model that sees the ECG alone."""
BY_SEX: Final = ("exposure", ECG_ONLY)
_MEASURES: Final = (*BY_SEX, "mass_g", "index_g_m2")
_CUTS: Final = (0.25, 0.5, 0.75)


def sd_key(name: str = "exposure", *, model: str = "", sex: str = "") -> str:
    """Return the key of a standard deviation: of a column, one model, one sex."""
    return ", ".join(part for part in (name, model, sex) if part)


def standard_deviations(study: Study, indexed: pd.DataFrame) -> dict[str, float]:
    """Return the SD of everybody with an index ECG, before anything about an outcome.

    With n - 1, both sexes together, one row a person; also of each sex, and where predictions are
    of several models, of each model and of each sex by it.

    Args:
        study: how its SD is chosen, and whether models are kept apart.
        indexed: a row an index ECG with the exposure, sex and model_id, and the ECG-only model's
            mass where there is one.

    Returns:
        By `sd_key`.
    """
    known: dict[str, float] = {}
    for model, rows in _by_model(study, indexed):
        first = rows.drop_duplicates("participant_id")
        for name in (one for one in _MEASURES if one in first):
            known[sd_key(name, model=model)] = float(first[name].std(ddof=1))
        if isinstance(study.sd, float | int):
            known[sd_key(model=model)] = float(study.sd)
        for name in (one for one in BY_SEX if one in first):
            for sex, value in first.groupby("sex", observed=True)[name].std(ddof=1).items():
                known[sd_key(name, model=model, sex=str(sex))] = float(value)
    return known


def with_scale(study: Study, indexed: pd.DataFrame, sd: dict[str, float]) -> pd.DataFrame:
    """Add the exposure in SD of the own sex, and quartiles cut within sex.

    Both within the model that made the prediction where the study has several.

    Args:
        study: whether models are kept apart.
        indexed: a row an index ECG.
        sd: of `standard_deviations`.
    """
    in_sd = pd.Series(np.nan, indexed.index)
    quartile = pd.Series(np.nan, indexed.index)
    for model, rows in _by_model(study, indexed, several=False):
        one_sd = {sex: sd.get(sd_key(model=model, sex=sex), np.nan) for sex in SEXES}
        in_sd[rows.index] = rows["exposure"] / rows["sex"].map(one_sd)
        quartile[rows.index] = _quartiles(rows)
    return indexed.assign(exposure_in_sd_of_sex=in_sd, quartile=quartile)


def _quartiles(rows: pd.DataFrame) -> pd.Series[float]:
    first = rows.drop_duplicates("participant_id")
    cuts = first.groupby("sex", observed=True)["exposure"].quantile(np.array(_CUTS)).unstack()
    made = pd.Series(np.nan, rows.index)
    for sex, bounds in cuts.iterrows():
        theirs = (rows["sex"] == sex) & rows["exposure"].notna()
        values = rows.loc[theirs, "exposure"].to_numpy()
        made[theirs] = 1.0 + np.searchsorted(bounds.to_numpy(), values, side="left")
    return made


def _by_model(study: Study, indexed: pd.DataFrame, *, several: bool = True) -> Iterator[tuple[str, pd.DataFrame]]:
    """All rows, and those of each model; with `several` false only one of the two."""
    apart = study.model_strata and indexed["model_id"].nunique() > 1
    if several or not apart:
        yield "", indexed
    if apart:
        for model, rows in indexed.groupby("model_id", sort=True):
            yield str(model), rows
