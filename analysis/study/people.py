"""The people of a study: their groups, and the columns of the participants that it reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from analysis.follow_up.people import codes, column, days, parsed, present_column
from analysis.study.outcomes import HOUSEHOLD
from analysis.study.settings import Study, StudyCovariate
from lvm_core.errors import UsageError
from lvm_core.tables import People
from lvm_core.tables.values import Meaning, identifiers, number_meaning

Bands = Mapping[str, tuple[float, float]]

AGE_BANDS_YEARS: Final[Bands] = {"<50": (0, 50), "50-59": (50, 60), "60-69": (60, 70), "70+": (70, np.inf)}
# World Health Organization: 25 overweight, 30 obesity; underweight is too rare for a class.
BMI_CLASSES_KG_M2: Final[Bands] = {"<25": (0, 25), "25-29.9": (25, 30), "30+": (30, np.inf)}


def banded(values: pd.Series[Any], bands: Bands) -> pd.Series[Any]:
    """Return the name of each number's band, or None; a band does not include its upper bound."""
    named = pd.Series(None, values.index, dtype=object)
    for name, (low, high) in bands.items():
        named[((values >= low) & (values < high)).fillna(False).astype(bool)] = name
    return named


_TEXTS: Final = ("region", "ethnicity")
_BODY_SIZE: Final = "body_size_date"
_SHOWN: Final = 12
# Of a category "none" and "unknown" may be levels; these cannot.
_NO_LEVEL: Final = frozenset({"", "na", "n/a", "nan", "null"})
_YES_NO: Final = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0, "yes": 1.0, "no": 0.0, "1.0": 1.0, "0.0": 0.0}


def read_persons(study: Study, people: People, members: pd.Index[Any]) -> pd.DataFrame:
    """Return one row per person of the cohort, whose identifiers are `members`.

    The columns are participant_id; region, ethnicity and sex where the table has them;
    body_size_date where the study limits its distance; the covariates by their kinds; household_id
    where the study names a column of households: a person without one is a household alone.
    Raise UsageError where a covariate is not of its kind, or a category lacks its reference level.
    """
    made: dict[str, Any] = {"participant_id": people.table["participant_id"].to_pandas()}
    for name in _TEXTS:
        if column(people, name) is not None:
            made[name] = codes(people, name).to_pandas()
    if column(people, "sex") is not None:
        made["sex"] = people.table["sex"].to_pandas()
    if study.max_days_body_size is not None:
        made[_BODY_SIZE] = pd.to_datetime(days(people, _BODY_SIZE).to_pandas())
    for one in study.person_columns:
        made[one.name] = _typed(people, one)
    table = pd.DataFrame(made)
    if study.household is not None:
        table[HOUSEHOLD] = _households(people, study.household, table["participant_id"])
    kept = table[table["participant_id"].isin(members)]
    return pd.DataFrame(kept.reset_index(drop=True))


def _households(people: People, own: str, person: pd.Series[str]) -> pd.Series[Any]:
    cells = people.raw.find(own)
    assert cells is not None, "study_people looks for it"
    homes = identifiers(cells, column_name=own, table=people.raw.name)[0].to_pandas()
    return pd.Series(("household " + homes).where(homes.notna(), "person " + person))


def _typed(people: People, covariate: StudyCovariate) -> pd.Series[Any]:
    """Return a covariate as numbers, as 1 and 0, or as text; missing where it is unknown."""
    layout = people.layout
    if covariate.kind == "category":
        _, cells = present_column(people, covariate.name)
        return _category(cells, covariate, layout.missing_codes)
    decimal_comma = people.raw.decimal_comma if layout.decimal is None else layout.decimal == ","
    number = number_meaning(decimal_comma=decimal_comma)
    meaning = number if covariate.kind == "number" else Meaning(_yes_no, "yes or no", pa.float64())
    return pd.Series(parsed(people, covariate.name, meaning).to_pandas(), dtype=float)


def _yes_no(text: str) -> float:
    if text.lower() not in _YES_NO:
        raise ValueError("expected yes or no, true or false, 1 or 0")
    return _YES_NO[text.lower()]


def _category(cells: pa.Array, covariate: StudyCovariate, missing: frozenset[str]) -> pd.Series[Any]:
    texts = cells.to_pandas().astype("string").str.strip()
    known = texts.notna() & ~texts.str.lower().isin(_NO_LEVEL).fillna(True) & ~texts.isin(missing).fillna(True)
    levels = sorted(texts[known].unique())
    if covariate.reference not in levels:
        raise UsageError(
            f"covariate {covariate.name} has the reference {covariate.reference!r}, expected "
            f"one of its levels: {', '.join(levels[:_SHOWN])}"
            f"{' ...' if len(levels) > _SHOWN else ''}"
        )
    kept = [text if is_known else None for text, is_known in zip(texts, known, strict=True)]
    return pd.Series(kept, texts.index)
