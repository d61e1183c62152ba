"""People who withdrew or are excluded are in nothing that a study publishes but the flow."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis.report.build import topics_of
from tests.analysis.report.small_study import IDS, predictions, read, write

GONE = [IDS[0], IDS[3], IDS[9], IDS[20]]


def _with_more_ecgs() -> pd.DataFrame:
    """A second ECG of everybody, which repeats need; one of who withdrew is at no known date."""
    again = predictions()
    again["ecg_id"] += "_again"
    again["recorded_at"] += pd.Timedelta(days=500)
    again.loc[0, "recorded_at"] = pd.Timestamp("1900-01-01")
    return pd.concat([predictions(), again], ignore_index=True)


def _tables(folder: Path, **lists: str) -> dict[str, pd.DataFrame]:
    data = read(folder, "masking: {k: 0, base: 1}\nbootstrap: 0\n", **lists)
    found = [one for topic in topics_of(data) for one in topic.aggregates(data)]
    return {one.key: one.rows for one in found}


def test_lists__leave_people_out_of_every_table_as_if_they_had_never_been(tmp_path: Path) -> None:
    """Once by lists, once taken out of every file: the same tables but for the flow."""
    write(tmp_path)
    _with_more_ecgs().to_parquet(tmp_path / "predictions.parquet")
    (tmp_path / "gone.txt").write_text("\n".join(GONE[:2]))
    (tmp_path / "out.txt").write_text("\n".join(GONE[2:]))
    listed = _tables(tmp_path, withdrawn="gone.txt", excluded="out.txt")
    for path in tmp_path.glob("*.csv"):
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        if "participant_id" in table:
            table[~table["participant_id"].isin(GONE)].to_csv(path, index=False)
    rest = _with_more_ecgs()
    rest[~rest["participant_id"].isin(GONE)].to_parquet(tmp_path / "predictions.parquet")
    never = _tables(tmp_path)
    assert set(listed) == set(never)
    for key in set(never) - {"flow"}:
        pd.testing.assert_frame_equal(listed[key], never[key])
    assert never["code_hits"]["n_people"].tolist() == [6]
