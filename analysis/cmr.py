"""The CMR table, and its pairing with ECGs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from lvm_core.errors import UsageError

_REQUIRED: Final = ("participant_id", "lvm_cmr_g")
_SHOWN: Final = 5


def read_cmr(
    path: Path,
    *,
    columns: Mapping[str, str] | None = None,
    date_format: str | None = None,
) -> pd.DataFrame:
    """Read a CMR table.

    Args:
        path: CSV or Parquet with participant_id, lvm_cmr_g in grams, and cmr_date (ISO) where
            known.
        columns: the table's own names of these columns, where they differ.
        date_format: strptime format of cmr_date, where it is not ISO.

    Returns:
        participant_id (text), cmr_date (NaT where unknown), lvm_cmr_g (grams, above 0).

    Raises:
        UsageError: it cannot be read, a column is missing, a person is there twice on one date, or
            a value is no mass or no date; with row numbers, counted from 1 without the header.
    """
    try:
        table = (
            pd.read_parquet(path)
            if path.suffix == ".parquet"
            else pd.read_csv(path, dtype=str, keep_default_na=True)
        )
    except (OSError, ValueError) as error:
        raise UsageError(f"--cmr {path} cannot be read: {error}") from error
    table = table.rename(columns={its: name for name, its in (columns or {}).items()})
    missing = [name for name in _REQUIRED if name not in table.columns]
    if missing:
        raise UsageError(
            f"--cmr {path} has no column {', '.join(missing)}; expected participant_id, lvm_cmr_g "
            f"and cmr_date, found {', '.join(map(str, table.columns))}"
        )
    mass_g = pd.to_numeric(table["lvm_cmr_g"], errors="coerce").astype(float)
    _refuse(
        path, ~mass_g.between(0, np.inf, inclusive="neither"), "lvm_cmr_g is no number above 0 g"
    )
    dates = table["cmr_date"] if "cmr_date" in table.columns else pd.Series(pd.NaT, table.index)
    parsed = pd.to_datetime(dates, format=date_format or "ISO8601", errors="coerce")
    wanted = f"date as {date_format}" if date_format else "ISO date (YYYY-MM-DD)"
    _refuse(path, parsed.isna() & dates.notna(), f"cmr_date is no {wanted}")
    _refuse(path, table["participant_id"].isna(), "participant_id is missing")
    made = pd.DataFrame(
        {
            "participant_id": table["participant_id"].astype(str),
            "cmr_date": parsed,
            "lvm_cmr_g": mass_g,
        }
    )
    repeated = made.duplicated(["participant_id", "cmr_date"], keep=False)
    _refuse(path, repeated, "participant_id and cmr_date are there more than once")
    return made


def _refuse(path: Path, wrong: pd.Series, what: str) -> None:
    rows = np.flatnonzero(wrong.to_numpy(dtype=bool)) + 1
    if rows.size:
        shown = ", ".join(map(str, rows[:_SHOWN]))
        raise UsageError(f"--cmr {path}: {what} in {rows.size} rows, the first: {shown}")


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
    if not dated and max_days is not None:
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
