"""Pairs of ECGs and CMR examinations."""

from __future__ import annotations

import pandas as pd

from lvm_core.errors import UsageError


def pair_with_cmr(predictions: pd.DataFrame, cmr: pd.DataFrame, *, max_days: int | None) -> pd.DataFrame:
    """Pair each person's ECG and CMR examination that are closest in time.

    Return a row per person: the columns of both tables and days_ecg_cmr. Of equally close pairs the
    earlier ECG is taken, then the smaller ecg_id, then the earlier CMR. ECGs without participant_id
    or lvm_pred_g pair with nothing. A CMR or ECG without a date pairs only where the CMR table has
    no dates at all. `max_days` are the most whole days between the two, before or after. Raise
    UsageError where it is negative, or missing although CMR has dates, or given although CMR has
    none.
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
    pairs = pairs.assign(days_ecg_cmr=(recorded - pairs["cmr_date"]).abs().dt.days)
    if max_days is not None:
        pairs = pairs[pairs["days_ecg_cmr"] <= max_days]
    ordered = pairs.sort_values(["participant_id", "days_ecg_cmr", "recorded_at", "ecg_id", "cmr_date"], kind="stable")
    return ordered.drop_duplicates("participant_id").reset_index(drop=True)
