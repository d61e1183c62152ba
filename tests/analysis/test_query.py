"""`lvm-ai query`: tables of a run as views, rows out, mistakes told."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import lvm_ai
from analysis.query import query, views
from lvm_core.errors import UsageError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "it's a run"
    for name, number in (("predictions", 3), ("predictions", 2), ("rejects", 1)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        table = pd.DataFrame(
            {"ecg_id": [f"{name}-{i}" for i in range(number)], "lvm_pred_g": 100.0}
        )
        table.to_parquet(folder / name / f"{number}.parquet")
    pd.DataFrame({"a": [1]}).to_parquet(folder / "truth.parquet")
    (folder / ".hidden").mkdir()
    (folder / "plan.json").write_text("{}")
    return folder


def test_views__are_the_folders_and_files_with_parquet(run: Path) -> None:
    assert list(views(run)) == ["predictions", "rejects", "truth"]


def test_query__joins_all_files_of_a_table(run: Path) -> None:
    got = query(run, "SELECT count(*) AS n, count(DISTINCT ecg_id) AS ids FROM predictions")
    assert got.to_dict("records") == [{"n": 5, "ids": 3}]
    assert query(run, "SELECT name FROM tables ORDER BY 1")["name"].tolist() == list(views(run))


def test_command__prints_rows_and_says_that_they_are_restricted(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sql = "SELECT ecg_id FROM predictions ORDER BY 1"
    assert lvm_ai.main(["query", sql, "--run", str(run), "--rows", "2"]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert [line.strip() for line in lines[:3]] == ["ecg_id", "predictions-0", "predictions-0"]
    assert lines[3] == "... 5 rows; --rows shows more, --output writes all"
    assert "restricted data" in printed.err


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_command__writes_all_rows(run: Path, tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"out.{kind}"
    arguments = ["query", "FROM predictions", "--run", str(run), "--output", str(file)]
    assert lvm_ai.main(arguments) == 0
    read = pd.read_csv(file) if kind == "csv" else pd.read_parquet(file)
    assert (len(read), list(read.columns)) == (5, ["ecg_id", "lvm_pred_g"])
    assert lvm_ai.main(arguments) == 2
    assert lvm_ai.main([*arguments, "--overwrite"]) == 0


def test_mistakes__are_told(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere is no folder; expected"):
        query(tmp_path / "nowhere", "SELECT 1")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="has no Parquet tables"):
        query(tmp_path / "empty", "SELECT 1")
    with pytest.raises(UsageError, match="Tables here: predictions, rejects, truth, tables"):
        query(run, "SELECT * FROM prediction")
    assert lvm_ai.main(["query", "SELECT 1", "--run", str(run), "--output", "x.xlsx"]) == 2


def test_query__changes_nothing_in_the_folder(run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*.parquet")}
    with pytest.raises(UsageError, match="cannot be run"):
        query(run, "DELETE FROM predictions")
    assert {path: path.read_bytes() for path in run.rglob("*.parquet")} == before


def test_command__what_may_leave_is_not_called_restricted(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "report.html").touch()
    assert lvm_ai.main(["query", "SELECT count(*) AS n FROM tables", "--run", str(run)]) == 0
    assert "restricted" not in capsys.readouterr().err
