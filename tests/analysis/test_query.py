"""`lvm-ai query`: tables of a run, rows out, mistakes named; nothing else is within reach."""

from __future__ import annotations

import csv
import errno
import json
import os
import socket
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lvm_ai
from analysis.query import query, tables_of
from lvm_core.errors import UsageError
from lvm_core.tables import schemas


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "it's a run"
    for name, number in (("predictions", 3), ("predictions", 2), ("rejects", 1)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        table = pd.DataFrame({"ecg_id": [f"{name}-{i}" for i in range(number)], "lvm_pred_g": 100.0})
        table.to_parquet(folder / name / f"{number}.parquet")
    pd.DataFrame({"a": [1]}).to_parquet(folder / "truth.parquet")
    (folder / ".hidden").mkdir()
    (folder / "plan.json").write_text("{}")
    return folder


def test_tables__are_the_folders_and_files_with_parquet(run: Path) -> None:
    assert list(tables_of(run).files) == ["predictions", "rejects", "truth"]


def test_query__joins_all_files_of_a_table(run: Path) -> None:
    got = query(run, "SELECT count(*) AS n, count(DISTINCT ecg_id) AS ids FROM predictions")
    assert got.to_dict("records") == [{"n": 5, "ids": 3}]
    assert query(run, "SELECT name FROM tables ORDER BY 1")["name"].tolist() == list(tables_of(run).files)


def test_command__prints_rows_and_says_that_they_are_restricted(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_query__mistakes_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere is no folder; expected"):
        query(tmp_path / "nowhere", "SELECT 1")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="has no Parquet tables"):
        query(tmp_path / "empty", "SELECT 1")
    with pytest.raises(UsageError, match="Tables here: predictions, rejects, truth, tables"):
        query(run, "SELECT * FROM prediction")
    assert lvm_ai.main(["query", "SELECT 1", "--run", str(run), "--output", "x.xlsx"]) == 2


def test_query__damaged_plan_is_named(run: Path) -> None:
    (run / "plan.json").write_text("{")
    with pytest.raises(UsageError, match=r"plan\.json is damaged"):
        query(run, "SELECT 1")


def test_query__changes_nothing_in_the_folder(run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*.parquet")}
    with pytest.raises(UsageError, match="is DELETE, expected one SELECT"):
        query(run, "DELETE FROM predictions")
    assert {path: path.read_bytes() for path in run.rglob("*.parquet")} == before


def test_command__what_may_leave_is_not_called_restricted(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "report.html").touch()
    assert lvm_ai.main(["query", "SELECT count(*) AS n FROM tables", "--run", str(run)]) == 0
    assert "restricted" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("score", {"predictions": schemas.PREDICTIONS, "participants": schemas.PARTICIPANTS}),
        ("ingest", {"ecg": schemas.ECGS}),
    ],
)
def test_query__every_table_of_a_run_is_there_also_without_rows(
    kind: str, expected: dict[str, schemas.Table], tmp_path: Path
) -> None:
    (tmp_path / "plan.json").write_text(json.dumps({"kind": kind, "settings": {}}))
    expected = expected | {"rejects": schemas.REJECTS, "duplicates": schemas.DUPLICATES}
    assert sorted(query(tmp_path, "FROM tables")["name"]) == sorted(expected)
    for name, table in expected.items():
        rows = query(tmp_path, f"FROM {name}")
        assert (len(rows), list(rows.columns)) == (0, list(table.names))


def test_query__reasons_of_a_run_without_rejects_are_an_empty_table(run: Path) -> None:
    (run / "plan.json").write_text(json.dumps({"kind": "score", "settings": {}}))
    for path in (run / "rejects").iterdir():
        path.unlink()
    rows = query(run, "SELECT reason, count(*) AS n FROM rejects GROUP BY reason")
    assert (len(rows), list(rows.columns)) == (0, ["reason", "n"])


def test_query__recalibrated_run_without_rows_has_the_columns(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps({"kind": "score", "settings": {"recalibration": {}}}))
    assert "lvm_recal_g" in query(tmp_path, "FROM predictions").columns


def test_query__ecgs_are_read_with_their_samples(tmp_path: Path) -> None:
    column = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(10, dtype="i2")), 5)
    (tmp_path / "ecg").mkdir()
    pq.write_table(pa.table({"I": column}), tmp_path / "ecg" / "a.parquet")
    assert query(tmp_path, "SELECT max(I[5]) AS last FROM ecg")["last"].tolist() == [9]


def test_query__file_without_a_column_of_the_others_has_null(run: Path) -> None:
    pd.DataFrame({"ecg_id": ["x"], "more": [1]}).to_parquet(run / "rejects" / "z.parquet")
    rows = query(run, "SELECT lvm_pred_g, more FROM rejects ORDER BY ecg_id")
    assert rows["more"].isna().tolist() == [True, False]
    assert rows["lvm_pred_g"].isna().tolist() == [False, True]


def test_query__a_damaged_file_is_named(run: Path) -> None:
    (run / "predictions" / "z.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UsageError, match=r"z[.]parquet cannot be read as Parquet.*lvm-ai verify"):
        query(run, "SELECT 1")


def test_query__files_that_disagree_about_a_column_are_named(run: Path) -> None:
    pd.DataFrame({"ecg_id": [pd.Timestamp("2020-01-01")]}).to_parquet(run / "rejects" / "z.parquet")
    with pytest.raises(UsageError, match="rejects do not fit together"):
        query(run, "SELECT 1")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 AS n;",
        "FROM predictions",
        "WITH a AS (SELECT 1) FROM a",
        "DESCRIBE predictions",
        "SHOW TABLES",
        "SUMMARIZE predictions",
        "VALUES (1)",
        "-- a remark\nSELECT 1",
        "SELECT * FROM query('SELECT count(*) FROM truth')",
    ],
)
def test_query__what_only_reads_is_run(sql: str, run: Path) -> None:
    assert len(query(run, sql))


@pytest.mark.parametrize(
    "sql",
    [
        "COPY predictions TO '{out}'",
        "COPY (SELECT 1) TO '{run}/predictions/x.parquet'",
        "ATTACH '{out}' AS x",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "PRAGMA version",
        "CALL pragma_version()",
        "SELECT 1; SELECT 2",
        "SELECT 1; COPY truth TO '{out}'",
        "CREATE TABLE x AS SELECT 1",
        "DROP VIEW predictions",
        "INSERT INTO truth VALUES (2)",
        "UPDATE truth SET a = 2",
        "EXPORT DATABASE '{out}'",
        "EXPLAIN ANALYZE SELECT 1",
        "PREPARE p AS SELECT 1",
        "CREATE SECRET s (TYPE s3)",
        "CHECKPOINT",
        "BEGIN",
        "USE memory",
        "",
        "-- nothing",
    ],
)
def test_query__other_statements_are_refused(sql: str, run: Path, tmp_path: Path) -> None:
    before = state(tmp_path)
    with pytest.raises(UsageError, match="expected one SELECT"):
        query(run, sql.format(run="run", out=tmp_path / "out"))
    assert state(tmp_path) == before


SECRET = "of-somebody-else"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('{other}/secret.txt')",
        "SELECT * FROM read_blob('{other}/secret.txt')",
        "SELECT * FROM read_csv('{other}/secret.txt')",
        "SELECT * FROM sniff_csv('{other}/secret.txt')",
        "SELECT * FROM '{other}/secret.parquet'",
        "SELECT * FROM read_parquet('{other}/*.parquet')",
        "SELECT * FROM parquet_metadata('{other}/secret.parquet')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM read_json('/proc/self/environ')",
        "SELECT * FROM glob('{run}/*')",
        "SELECT * FROM read_parquet('{run}/../other/secret.parquet')",
        "SELECT * FROM read_text('{run}/link')",
        "SELECT * FROM read_text('{run}/plan.json')",
        "SELECT * FROM read_text('../other/secret.txt')",
        "SELECT * FROM 'secret.parquet'",
        "SELECT * FROM query('SELECT * FROM read_text(''{other}/secret.txt'')')",
        "WITH a AS (COPY (SELECT 1 AS n) TO '{other}/new.csv') SELECT * FROM a",
        "WITH a AS (COPY (SELECT 1 AS n) TO '{run}/truth.parquet' (USE_TMP_FILE false)) FROM a",
        "WITH a AS (INSERT INTO truth VALUES (2) RETURNING *) FROM a",
        "SELECT * FROM enable_logging(storage = 'file', storage_path = '{other}/log')",
        "SELECT * FROM enable_profiling(save_location = '{other}/profile.json')",
        "SELECT getenv('HOME')",
        "SELECT * FROM SECRET",
        "SELECT * FROM os",
        "SELECT * FROM listed",
        "SELECT * FROM sqlite_scan('{other}/secret.txt', 't')",
        "SELECT * FROM 'https://localhost:9/a.parquet'",
        "SELECT * FROM read_csv('s3://bucket/a.csv')",
        "SELECT * FROM read_text('http://127.0.0.1:9/')",
    ],
)
def test_query__reaches_nothing_but_the_tables(
    sql: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "secret.txt").write_text(SECRET)
    pd.DataFrame({"s": [SECRET]}).to_parquet(other / "secret.parquet")
    (run / "link").symlink_to(other / "secret.txt")
    monkeypatch.chdir(other)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a connection"))
    before = state(tmp_path)
    quoted = {"run": str(run).replace("'", "''"), "other": str(other)}
    with pytest.raises(UsageError, match="the query cannot be run") as refused:
        query(run, sql.format(**quoted))
    assert SECRET not in str(refused.value)
    assert state(tmp_path) == before


@pytest.mark.parametrize("place", ["predictions/z.parquet", "z.parquet"])
def test_query__a_table_that_is_a_link_out_of_the_folder_is_refused(place: str, run: Path, tmp_path: Path) -> None:
    pd.DataFrame({"s": [SECRET]}).to_parquet(tmp_path / "elsewhere.parquet")
    (run / place).symlink_to(tmp_path / "elsewhere.parquet")
    with pytest.raises(UsageError, match="is a link that leads out of"):
        query(run, "SELECT 1")


def test_query__a_folder_that_is_a_link_out_of_the_run_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    pd.DataFrame({"s": [SECRET]}).to_parquet(tmp_path / "elsewhere" / "a.parquet")
    (run / "more").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="is a link that leads out of"):
        query(run, "SELECT 1")


def test_query__run_folder_may_itself_be_a_link(run: Path, tmp_path: Path) -> None:
    (tmp_path / "short").symlink_to(run)
    assert len(query(tmp_path / "short", "FROM truth")) == 1


def test_query__settings_stay_locked_from_within_a_select(run: Path) -> None:
    settings = query(run, "SELECT name, value FROM duckdb_settings()").set_index("name")["value"]
    assert settings["enable_external_access"] == "false"
    assert settings["lock_configuration"] == "true"
    assert settings["autoload_known_extensions"] == "false"
    assert settings["autoinstall_known_extensions"] == "false"
    assert settings["temp_directory"] == ""
    assert settings["allowed_paths"] == settings["allowed_directories"] == "[]"


def test_query__a_table_that_the_user_may_not_read_leaves_the_others(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "truth.parquet").chmod(0)
    # For root, who may read every file.
    monkeypatch.setattr(os, "access", lambda path, _: path.name != "truth.parquet")
    assert len(query(run, "FROM predictions")) == 5
    with pytest.raises(UsageError, match="You may not read truth"):
        query(run, "FROM truth")


def test_command__output_in_the_run_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = run / "predictions" / "new.parquet"
    argv = ["query", "FROM truth", "--run", str(run), "--output", str(target)]
    assert lvm_ai.main(argv) == 2
    assert "which a query does not change" in capsys.readouterr().err
    assert not target.exists()


def test_command__output_is_private_and_text_is_escaped(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    file.touch(mode=0o644)
    sql = "SELECT '=cmd|x' AS a, -1.5 AS b, '+1' AS \"@c\""
    argv = ["query", sql, "--run", str(run), "--output", str(file), "--overwrite"]
    assert lvm_ai.main(argv) == 0
    assert list(csv.reader(file.read_text().splitlines())) == [["a", "b", "'@c"], ["'=cmd|x", "-1.5", "+1"]]
    assert file.stat().st_mode & 0o777 == 0o600
    assert lvm_ai.main([*argv[:-2], str(tmp_path / "o.parquet"), "--share", "umask"]) == 0
    assert pq.read_table(tmp_path / "o.parquet")["a"].to_pylist() == ["=cmd|x"]


@pytest.mark.parametrize("name", ["o.csv", "o.parquet"])
def test_command__output_that_cannot_be_written_is_named_and_no_part_stays(
    run: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fill_the_disk(_rows: pd.DataFrame, output: Path, **_options: object) -> None:
        output.write_text("a\n")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("analysis.query.write_csv", fill_the_disk)
    monkeypatch.setattr(pd.DataFrame, "to_parquet", fill_the_disk)
    file = tmp_path / name
    assert lvm_ai.main(["query", "FROM truth", "--run", str(run), "--output", str(file)]) == 1
    said = capsys.readouterr().err
    assert f"error: --output {file} cannot be written: No space left on device\n" in said
    assert not file.exists()


def test_command__output_into_a_folder_that_is_not_there_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "none" / "o.csv"
    assert lvm_ai.main(["query", "FROM truth", "--run", str(run), "--output", str(file)]) == 1
    assert f"error: --output {file} cannot be written" in capsys.readouterr().err


def test_command__rows_of_an_unfinished_run_have_a_note(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "plan.json").write_text('{"kind": "score"}')
    argv = ["query", "FROM predictions", "--run", str(run)]
    assert lvm_ai.main(argv) == 0
    assert "note: this run is not finished or was not accepted" in capsys.readouterr().err
    (run / "_SUCCESS").touch()
    assert lvm_ai.main(argv) == 0
    assert "not finished" not in capsys.readouterr().err


def test_query__a_damaged_plan_is_named(run: Path) -> None:
    (run / "plan.json").write_bytes(b'{"kind": "\xff')
    with pytest.raises(UsageError, match=r"plan\.json is damaged: it is no JSON"):
        query(run, "FROM predictions")


def state(folder: Path) -> dict[Path, bytes]:
    """Return the content of all files below a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
