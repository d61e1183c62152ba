"""The CMR table, and its pairing with ECGs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import duckdb
import pandas as pd

from analysis.columns import TableRefused
from analysis.identifiers import identifier
from analysis.record_reading import dates, is_placeholder, load, refuse_rows
from lvm_core.errors import UsageError

_NAME: Final = "cmr"
_COLUMNS: Final = ("participant_id", "lvm_cmr_g", "cmr_date")


def read_cmr(
    path: Path,
    *,
    columns: Mapping[str, str] | None = None,
    date_format: str | None = None,
    called: str = "--cmr",
) -> pd.DataFrame:
    """Read a CMR table.

    Args:
        path: CSV or Parquet with participant_id, lvm_cmr_g in grams, and cmr_date (ISO) where
            known.
        columns: the table's own names of these columns, where they differ.
        date_format: strptime format of cmr_date, where it is not ISO.
        called: what names the table, for messages.

    Returns:
        participant_id (text, as `identifiers.identifier` reads it), cmr_date (NaT where unknown,
        also where it is a placeholder such as 1900-01-01), lvm_cmr_g (grams, above 0).

    Raises:
        UsageError: it cannot be read, a column is missing, a person is there twice on one date, or
            a value is no mass or no date; with row numbers, counted from 1 without the header.
    """
    try:
        with duckdb.connect() as connection:
            return _read(connection, path, columns or {}, date_format)
    except TableRefused as error:
        raise UsageError(f"{called} {path}: {error}") from error


def _read(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    own: Mapping[str, str],
    date_format: str | None,
) -> pd.DataFrame:
    types = load(connection, _NAME, path, _COLUMNS, ("cmr_date",), own)
    person = identifier(connection, f"raw_{_NAME}", "participant_id", types["participant_id"],
                        called=_NAME)  # fmt: skip
    mass = "try_cast(lvm_cmr_g AS DOUBLE)"
    refuse_rows(
        connection, _NAME, f"NOT coalesce({mass} > 0 AND isfinite({mass}), false)",
        "lvm_cmr_g that is no number above 0 g", "grams", shown="lvm_cmr_g",
    )  # fmt: skip
    day = dates(connection, _NAME, "cmr_date", types["cmr_date"], date_format)
    connection.execute(
        f"CREATE TEMP TABLE cmr AS SELECT row_number, {person} AS participant_id, "
        f"CASE WHEN NOT {is_placeholder(day)} THEN {day} END AS cmr_date, {mass} AS lvm_cmr_g "
        f"FROM raw_{_NAME}"
    )
    twice = (
        "row_number IN (SELECT row_number FROM cmr "
        "QUALIFY count(*) OVER (PARTITION BY participant_id, cmr_date) > 1)"
    )
    refuse_rows(connection, _NAME, twice, "one person on one cmr_date more than once", "once")
    table = connection.execute("SELECT * EXCLUDE (row_number) FROM cmr ORDER BY row_number").df()
    return table.assign(cmr_date=pd.to_datetime(table["cmr_date"]))


def pair_with_cmr(
    predictions: pd.DataFrame, cmr: pd.DataFrame, *, max_days: int | None
) -> pd.DataFrame:
    """Return one ECG and one CMR examination of each person: the two that are closest in time.

    Args:
        predictions: ecg_id, participant_id, recorded_at, and more; rows without participant_id
            or lvm_pred_g pair with nothing.
        cmr: of `read_cmr`.
        max_days: largest distance in whole days, either way.

    Returns:
        The columns of both and days_ecg_cmr; ties go to the earlier ECG, the ecg_id, the earlier
        CMR. A CMR or ECG without a date pairs only where the CMR table has no dates at all.

    Raises:
        UsageError: CMR has dates and `max_days` is None, it has none and `max_days` is given, or
            `max_days` is negative.
    """
    dated = bool(cmr["cmr_date"].notna().any())
    if dated and max_days is None:
        raise UsageError(
            "--max-days is missing: the CMR table has dates, so say how far from the ECG a CMR may "
            "be, for example --max-days 365"
        )
    if len(cmr) and not dated and max_days is not None:
        raise UsageError(
            f"--max-days is {max_days}, but the CMR table has no cmr_date; add that column, "
            "or leave the option out: people are then paired with their first ECG"
        )
    if max_days is not None and max_days < 0:
        raise UsageError(f"--max-days is {max_days}, expected 0 or more")
    usable = predictions[predictions["participant_id"].notna() & predictions["lvm_pred_g"].notna()]
    pairs = usable.merge(cmr, on="participant_id", how="inner")
    recorded = pd.to_datetime(pairs["recorded_at"]).dt.normalize()
    days = (recorded - pairs["cmr_date"]).abs().dt.days
    pairs = pairs.assign(days_ecg_cmr=days)
    if max_days is not None:
        pairs = pairs[pairs["days_ecg_cmr"] <= max_days]
    ordered = pairs.sort_values(
        ["participant_id", "days_ecg_cmr", "recorded_at", "ecg_id", "cmr_date"], kind="stable"
    )
    return ordered.drop_duplicates("participant_id").reset_index(drop=True)
