"""The drawn study as others might have it: repeated ECGs, two models, households, one sex."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.study.data import StudyData, standard_deviations, with_scale
from tests.analysis.report.builders import about, study, study_data


def with_study(data: StudyData, **changes: Any) -> StudyData:
    """Return the data with settings changed; the table of ECGs stays."""
    settings = data.study.model_copy(update=changes)
    changed = replace(
        about(settings),
        several_ecgs=settings.index.rule == "all",
        several_models=settings.model_strata,
        time_scale=settings.time_scale,
        model_id=data.about.model_id,
    )
    return replace(data, study=settings, about=changed)


def rescaled(data: StudyData) -> StudyData:
    """Return the data with SD and quartiles as `load` makes them of these ECGs."""
    sd = standard_deviations(data.study, data.ecgs)
    return replace(data, sd=sd, ecgs=with_scale(data.study, data.ecgs, sd))


def repeated_ecgs(n: int = 1200, seed: int = 5) -> StudyData:
    """Return a study of all ECGs: a second one of every third person, somewhat later and larger."""
    data = study_data(n=n, seed=seed)
    settings = study(index={"rule": "all"})
    chosen = data.ecgs["participant_id"].iloc[::3]
    ecgs = data.ecgs[data.ecgs["participant_id"].isin(chosen)]
    rng = np.random.default_rng(seed)
    larger = ecgs["exposure"] + rng.normal(1, 3, len(ecgs))
    ecgs = ecgs.assign(ecg_id=ecgs["ecg_id"] + "-later", exposure=larger)
    rows = data.follow_up[data.follow_up["participant_id"].isin(chosen)]
    days = rows["time_days"] - 30
    rows = rows.assign(ecg_id=rows["ecg_id"] + "-later", time_days=days)[(days > 0).fillna(False)]
    by = ["participant_id", "ecg_id"]
    made = replace(
        data,
        ecgs=pd.concat([data.ecgs, ecgs]).sort_values(by, ignore_index=True),
        follow_up=pd.concat([data.follow_up, rows]).sort_values(by, ignore_index=True),
    )
    return with_study(made, index=settings.index)


def two_models(n: int = 2400, seed: int = 6, **changes: Any) -> StudyData:
    """Return a study with predictions of two models, of which "wide" spreads twice as much."""
    data = study_data(n=n, seed=seed)
    wide = np.arange(len(data.ecgs)) % 2 == 1
    factor = np.where(wide, 2.0, 1.0)
    ecgs = data.ecgs.assign(model_id=np.where(wide, "wide", "narrow"))
    ecgs = ecgs.assign(**{name: ecgs[name] * factor for name in ("exposure", "index_g_m2")})
    made = replace(data, ecgs=ecgs, about=replace(data.about, model_id="narrow, wide"))
    return rescaled(with_study(made, model_strata=True, **changes))


def only(data: StudyData, keep: Any) -> StudyData:
    """Return the data with some of the ECGs."""
    return replace(data, ecgs=data.ecgs[keep].reset_index(drop=True))


def with_households(data: StudyData, size: int = 3) -> StudyData:
    """Return the data with people in households; every tenth person is alone."""
    people = data.persons["participant_id"]
    numbers = pd.Series([f"H{place // size}" for place in range(len(people))])
    alone = numbers.index % 10 == 0
    homes = numbers.mask(alone, "person " + people.reset_index(drop=True))
    return replace(data, persons=data.persons.assign(household_id=homes.to_numpy()))
