"""The CMR table: refusals with row numbers; pairs with ECGs worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.study.cmr import pair_with_cmr
from analysis.study.inputs import read_cmr
from lvm_core.errors import UsageError


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,2016-01-01,0\n", r"lvm_cmr_g of 0 g or less in 1 rows \(row 1,"),
        ("a,2016-01-01,inf\n", r"not a number, an empty cell or 'Unknown' \(row 1: 'inf'\)"),
        ("a,2016-01-01,90\n,2016-01-01,90\n", r"no participant_id in 1 rows \(row 2,"),
    ],
)
def test_read_cmr__refuses_with_row_numbers(tmp_path: Path, rows: str, message: str) -> None:
    (tmp_path / "cmr.csv").write_text("participant_id,cmr_date,lvm_cmr_g\n" + rows)
    with pytest.raises(UsageError, match=message):
        read_cmr(tmp_path / "cmr.csv")


def test_read_cmr__parquet_and_csv_say_the_same_and_ids_keep_their_zeros(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("participant_id,lvm_cmr_g,cmr_date\n007,90.5,2016-02-29\n")
    day = pd.Timestamp("2016-02-29")
    table = pa.table({"participant_id": ["007"], "lvm_cmr_g": [90.5], "cmr_date": [day.date()]})
    pq.write_table(table, tmp_path / "c.parquet")
    for name in ("c.csv", "c.parquet"):
        row = read_cmr(tmp_path / name)[0].iloc[0]
        assert (row["participant_id"], row["cmr_date"], row["lvm_cmr_g"]) == ("007", day, 90.5)


def test_read_cmr__one_person_may_have_two_examinations(tmp_path: Path) -> None:
    text = "participant_id,cmr_date,lvm_cmr_g\na,2016-01-01,90\na,2018-01-01,95\n"
    (tmp_path / "c.csv").write_text(text)
    assert len(read_cmr(tmp_path / "c.csv")[0]) == 2


def _ecgs(*rows: tuple[str, str, str | None]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["ecg_id", "participant_id", "recorded_at"])
    times = pd.to_datetime(table["recorded_at"], format="ISO8601")
    return table.assign(recorded_at=times, lvm_pred_g=100.0)


def _cmr(*rows: tuple[str, str | None]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["participant_id", "cmr_date"])
    return table.assign(cmr_date=pd.to_datetime(table["cmr_date"]), lvm_cmr_g=90.0)


def test_pair_with_cmr__the_limit_counts_whole_days_and_is_inclusive() -> None:
    ecgs = _ecgs(("a1", "a", "2016-01-01 23:59"), ("b1", "b", "2018-01-01"))
    cmr = _cmr(("a", "2016-01-31"), ("b", "2016-01-31"))
    # From 1 to 31 January are 30 days, although it is a minute before midnight.
    assert pair_with_cmr(ecgs, cmr, max_days=30)["ecg_id"].tolist() == ["a1"]
    assert pair_with_cmr(ecgs, cmr, max_days=29).empty


@pytest.mark.parametrize("step", [1, -1])
def test_pair_with_cmr__ties_do_not_depend_on_the_order_of_rows(step: int) -> None:
    ecgs = _ecgs(("z", "a", "2016-01-03"), ("y", "a", "2016-01-01"), ("x", "a", "2016-01-01"))
    paired = pair_with_cmr(ecgs.iloc[::step], _cmr(("a", "2016-01-02")), max_days=9)
    assert paired["ecg_id"].tolist() == ["x"]
    around = _cmr(("a", "2016-01-02"), ("a", "2015-12-31")).iloc[::step]
    paired = pair_with_cmr(_ecgs(("x", "a", "2016-01-01")), around, max_days=9)
    assert paired["cmr_date"].dt.day.tolist() == [31]


def test_pair_with_cmr__a_date_that_is_missing_does_not_pair_where_others_have_one() -> None:
    ecgs = _ecgs(("a1", "a", "2016-01-01"), ("b1", "b", None), ("c1", "c", "2016-01-01"))
    cmr = _cmr(("a", None), ("b", "2016-01-01"), ("c", "2016-01-01"))
    assert pair_with_cmr(ecgs, cmr, max_days=30)["ecg_id"].tolist() == ["c1"]


def test_pair_with_cmr__without_dates_takes_the_first_ecg_and_no_max_days() -> None:
    ecgs = _ecgs(("late", "a", "2017-01-01"), ("first", "a", "2016-01-01"))
    assert pair_with_cmr(ecgs, _cmr(("a", None)), max_days=None)["ecg_id"].tolist() == ["first"]
    with pytest.raises(UsageError, match="the CMR table has no cmr_date"):
        pair_with_cmr(ecgs, _cmr(("a", None)), max_days=30)
