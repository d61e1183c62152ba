"""The participants of a study: region, covariates by their types, household."""

from __future__ import annotations

from typing import Any, Final

import duckdb
import pandas as pd

from analysis.identifiers import identifier
from analysis.outcome_rows import HOUSEHOLD
from analysis.record_reading import dates, described, quoted, selected
from analysis.study_settings import Study, StudyCovariate
from lvm_core.errors import UsageError
from lvm_core.tables.values import UNKNOWN_TEXTS

_READ: Final = ("participant_id", "region", "sex", "ethnicity")
_BODY_SIZE: Final = "body_size_date"
_SHOWN: Final = 12
# Of a category "none" and "unknown" may be levels; these cannot.
_NO_LEVEL: Final = frozenset({"", "na", "n/a", "nan", "null"})
_YES_NO: Final = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0, "yes": 1.0, "no": 0.0,
                  "1.0": 1.0, "0.0": 0.0}  # fmt: skip


def read_persons(study: Study, members: pd.Index[Any]) -> pd.DataFrame:
    """Return one row a person of the cohort.

    Args:
        study: settings.
        members: participant_id of the cohort.

    Returns:
        participant_id, region, sex and ethnicity where they are there, body_size_date where the
        study looks at it; the covariates as the study types them; household_id where it names a
        column of households, for who has none an own one.

    Raises:
        UsageError: a column is missing, or a covariate is not of its type.
    """
    own = dict(study.columns.get("persons", {}))
    covariates = [one.name for one in study.covariates]
    asked = [*covariates]
    if study.household is not None:
        own[HOUSEHOLD] = study.household
        asked.append(HOUSEHOLD)
    if study.max_days_body_size is not None:
        asked.append(_BODY_SIZE)
    table = _read(study, own, asked)
    table = table[table["participant_id"].isin(members)].reset_index(drop=True)
    for one in study.covariates:
        table[one.name] = typed(table[one.name], one)
    if study.household is not None:
        table[HOUSEHOLD] = _households(table)
    return pd.DataFrame(table)


def _read(study: Study, own: dict[str, str], asked: list[str]) -> pd.DataFrame:
    """The columns that every study has, as far as they are there, and those that are asked for."""
    path = study.inputs.participants
    with duckdb.connect() as connection:
        _, there = described(connection, "persons", path)
        _refuse_missing({name: own.get(name, name) for name in [*asked, *own]}, list(there))
        wanted = [n for n in dict.fromkeys([*_READ, *asked]) if own.get(n, n) in there]
        date_format = study.date_formats.get("persons")
        return selected(
            connection, "persons", path, wanted, own,
            lambda name, kind: _expression(connection, name, kind, date_format),
        )  # fmt: skip


def _expression(
    connection: duckdb.DuckDBPyConnection, name: str, kind: str, date_format: str | None
) -> str:
    if name in ("participant_id", HOUSEHOLD):
        return identifier(connection, "raw_persons", name, kind, called="persons")
    if name in ("region", "ethnicity", "sex"):
        return f"trim({name}::VARCHAR)"
    if name == _BODY_SIZE:
        return dates(connection, "persons", name, kind, date_format)
    return quoted(name)


def _households(table: pd.DataFrame) -> pd.Series[Any]:
    known = table[HOUSEHOLD].notna() & ~table[HOUSEHOLD].str.lower().isin(UNKNOWN_TEXTS)
    return ("household " + table[HOUSEHOLD]).where(known, "person " + table["participant_id"])


def _refuse_missing(called: dict[str, str], there: list[str]) -> None:
    missing = [its for its in called.values() if its not in there]
    if missing:
        raise UsageError(
            f"participants have no column {', '.join(missing)}, which covariates, household or "
            f"columns name; they have {', '.join(there)}"
        )


def typed(values: pd.Series[Any], covariate: StudyCovariate) -> pd.Series[Any]:
    """Return a covariate as numbers, as 1 and 0, or as text; missing where it is unknown.

    Raises:
        UsageError: a value is not of the type, or a category lacks its reference level.
    """
    texts = values.astype("string").str.strip()
    unknown = _NO_LEVEL if covariate.kind == "category" else UNKNOWN_TEXTS
    known = texts.notna() & ~texts.str.lower().isin(unknown).fillna(True)
    if covariate.kind == "category":
        return _category(texts, known, covariate)
    if covariate.kind == "yes_no":
        made, expected = texts.str.lower().map(_YES_NO), "yes or no, true or false, 1 or 0"
    else:
        made, expected = pd.to_numeric(values, errors="coerce"), "numbers"
    made = made.astype(float)
    bad = known & made.isna()
    if bad.any():
        raise UsageError(
            f"covariate {covariate.name} has {int(bad.sum())} values that are no {covariate.kind}, "
            f"as {values[bad].iloc[0]!r}; expected {expected}, empty where unknown"
        )
    return made


def _category(
    texts: pd.Series[Any], known: pd.Series[bool], covariate: StudyCovariate
) -> pd.Series[Any]:
    levels = sorted(texts[known].unique())
    if covariate.reference not in levels:
        raise UsageError(
            f"covariate {covariate.name} has the reference {covariate.reference!r}, expected "
            f"one of its levels: {', '.join(levels[:_SHOWN])}"
            f"{' ...' if len(levels) > _SHOWN else ''}"
        )
    kept = [text if is_known else None for text, is_known in zip(texts, known, strict=True)]
    return pd.Series(kept, texts.index)
