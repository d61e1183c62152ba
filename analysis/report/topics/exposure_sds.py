"""The table of what one SD is: of everybody, of each sex, of each model of the predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd

from analysis.disclosure.aggregates import Aggregate, count, label, number
from analysis.disclosure.masking import Masked
from analysis.report.words import models_in, number_text
from analysis.study.data import ECG_ONLY, SEXES, StudyData, sd_key
from analysis.study.settings import Study

KEY: Final = "exposure_sd"


BOTH: Final = "both"


_FIXED: Final = "fixed in the study file"


_OF_EVERYBODY: Final = "of everybody with an index ECG"


def ecg_only_sd(data: StudyData) -> dict[str, float]:
    """Return the SD of the ECG-only model's mass by `sd_key`, of both sexes and of each."""
    keys = {sd_key(sex=sex): sd_key(ECG_ONLY, sex=sex) for sex in ("", *SEXES)}
    return {key: data.sd[theirs] for key, theirs in keys.items() if theirs in data.sd}


def exposure_sds(data: StudyData) -> Aggregate:
    """Return the SDs that "per SD" means, with the people behind each, who are never exported."""
    rows: list[dict[str, Any]] = []
    for part in data.by_prediction_model():
        study = part.study
        rows += _rows(part, study.exposure, part.about.exposure_unit, part.sd, _kind(study))
        if ECG_ONLY in part.ecgs:
            rows += _rows(part, ECG_ONLY, "g", ecg_only_sd(part), _OF_EVERYBODY)
    columns = (
        label("model_id", "of the predictions where they are of several"),
        label("exposure", "column of the predictions"),
        label("sex", "whose SD it is: both together, or one"),
        number("sd", "one SD, in the unit", "n_events_fewest"),
        label("unit", "of the exposure"),
        label("kind", "how it was chosen"),
        # Named so, it is never exported: the table of who they are has the people by sex.
        count("n_events_fewest", "people with an index ECG; never exported"),
    )
    table = pd.DataFrame(rows, columns=[column.name for column in columns])
    return Aggregate(KEY, table, columns)


def _kind(study: Study) -> str:
    return _FIXED if isinstance(study.sd, float | int) else _OF_EVERYBODY


def _rows(data: StudyData, exposure: str, unit: str, sd: Mapping[str, float], kind: str) -> list[dict[str, Any]]:
    first = data.ecgs.drop_duplicates("participant_id")
    wanted = [sex for sex in SEXES if sd_key(sex=sex) in sd] if data.study.sd == "by_sex" else [""]
    return [
        {
            "model_id": data.model_id,
            "exposure": exposure,
            "sex": sex or BOTH,
            "sd": sd[sd_key(sex=sex)],
            "unit": unit,
            "kind": kind,
            "n_events_fewest": int((first["sex"] == sex).sum() if sex else len(first)),
        }
        for sex in wanted
    ]


def sd_note(found: Masked, exposure: str) -> str:
    """Return what one SD is, as a sentence."""
    rows = found.rows[found.rows["exposure"] == exposure]
    told = [
        (f"{model}: " if model else "") + " and ".join(_texts(found, rows[rows["model_id"] == model], 1))
        for model in models_in(found)
    ]
    kind = rows["kind"].iloc[0]
    return f"One SD is {'; '.join(told)}, {kind}."


def sd_by_sex_text(found: Masked | None, exposure: str, model_id: str) -> str:
    """Return the SDs of both sexes of an exposure as text, as "female 8.41 g/m2; male 9.3 g/m2".

    A variant of the exposure, as the raw prediction, is in SDs of the main analysis, which stand
    first.
    """
    if found is None or not len(found.rows):
        return ""
    rows = found.rows
    if exposure not in set(rows["exposure"]):
        exposure = rows["exposure"].iloc[0]
    own = rows[(rows["exposure"] == exposure) & rows["model_id"].isin(["", model_id])]
    return "; ".join(_texts(found, own[own["sex"] != BOTH], None))


def _texts(found: Masked, rows: pd.DataFrame, digits: int | None) -> list[str]:
    texts = []
    hides = found.hidden.loc[rows.index, "sd"]
    for row, hidden in zip(rows.to_dict("records"), hides, strict=True):
        shown = (
            f"{row['sd']:.4g}" if digits is None and not hidden else number_text(row["sd"], digits or 0, hidden=hidden)
        )
        if digits is None:
            texts.append(f"{row['sex']} {shown} {row['unit']}")
        else:
            sex = {"female": " in women", "male": " in men"}.get(row["sex"], "")
            texts.append(f"{shown} {row['unit']}{sex}")
    return texts
