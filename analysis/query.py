"""The command `lvm-ai query`: one SELECT over the tables of a run or a study, through DuckDB."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from analysis.csv_files import write_csv
from lvm_core.command_line import ArgumentParser, add_share_option
from lvm_core.errors import LvmError, UsageError
from lvm_core.tables import schemas

_REPORT: Final = "report.html"  # a folder with a report is an export: it holds no row of a person
_NOTICE: Final = "rows of single people are restricted data: keep what this prints or writes where they are\n"
_UNFINISHED: Final = (
    "note: this run is not finished or was not accepted (no _SUCCESS), so that rows may be missing "
    "or wrong; lvm-ai status says why\n"
)
_EXPECTED: Final = "an output folder, such as that of lvm-ai score"
_PLAN: Final = "plan.json"
_SUCCESS: Final = "_SUCCESS"
_LISTED: Final = "tables"
_LISTED_COLUMNS: Final = pa.schema({"name": pa.string(), "folder": pa.string(), "n_files": pa.int64()})
_READERS: Final = 16
_CLOSED: Final[dict[str, str | int | float | list[str]]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "allow_persistent_secrets": False,
    "python_enable_replacements": False,  # else FROM NAME reads a variable of this module
    "temp_directory": "",  # else rows of people are spilled into the working folder
}
# DuckDB reads the tables through Arrow and opens no file itself. So no path needs to be allowed:
# an allowed one could be written too, by a COPY inside a WITH.
_LOCKED: Final = ("SET enable_external_access = false", "SET lock_configuration = true")


@dataclass(frozen=True)
class _Tables:
    """The tables of a folder."""

    files: dict[str, list[Path]]  # of each table by its name, sorted; none where a run has no such rows
    empty: dict[str, pa.Schema]  # columns of the tables without files
    unreadable: list[str]  # names of tables that this user may not read


def tables_of(folder: Path) -> _Tables:
    """Find the tables of a run or study folder, or of any folder with Parquet in it.

    They are `predictions` for `predictions/*.parquet`, `truth` for `truth.parquet`; without hidden
    folders and files. A run has all its tables, also those without rows.
    Raise UsageError where there is no folder or no table, or a link leads out of the folder.
    """
    if not folder.is_dir():
        raise UsageError(f"--run {folder} is no folder; expected {_EXPECTED}")
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            own = [one for one in sorted(path.glob("*.parquet")) if not one.name.startswith(".")]
            found.update({path.name: own} if own else {})
        elif path.suffix == ".parquet":
            found[path.stem] = [path]
    _refuse_links_out(folder, found)
    empty = {name: own for name, own in _run_schemas(folder).items() if name not in found}
    if not found and not empty:
        raise UsageError(f"--run {folder} has no Parquet tables; expected {_EXPECTED}")
    unreadable = [name for name, own in found.items() if not all(os.access(p, os.R_OK) for p in own)]
    readable = {name: own for name, own in found.items() if name not in unreadable}
    return _Tables({**readable, **{name: [] for name in empty}}, empty, unreadable)


def _refuse_links_out(folder: Path, found: dict[str, list[Path]]) -> None:
    for path in (path for own in found.values() for path in own):
        if not path.resolve().is_relative_to(folder.resolve()):
            raise UsageError(
                f"{path} is a link that leads out of --run {folder}; expected files of the folder "
                "itself. Copy the file into a folder of its own and query that"
            )


def _run_schemas(folder: Path) -> dict[str, pa.Schema]:
    """Return the columns of every table that a run can have; none for other folders."""
    plan = folder / _PLAN
    try:
        content = json.loads(plan.read_bytes()) if plan.is_file() else {}
    except ValueError as error:
        raise UsageError(f"{plan} is damaged: it is no JSON. Restore it from a copy") from error
    both = {"rejects": schemas.REJECTS.arrow, "duplicates": schemas.DUPLICATES.arrow}
    if content.get("kind") == "ingest":
        return {"ecg": schemas.ECGS.arrow, **both}
    if content.get("kind") == "score":
        recalibrated = "recalibration" in content.get("settings", {})
        return {
            "predictions": schemas.predictions_schema(recalibrated=recalibrated),
            "participants": schemas.PARTICIPANTS.arrow,
            **both,
        }
    return {}


def query(folder: Path, sql: str) -> pd.DataFrame:
    """Run SQL over the tables of a folder and return the rows.

    Only the tables of `tables_of` can be read, and nothing can be written: no other file, no
    network, no extension, no setting of DuckDB. `sql` is one SELECT (also FROM, WITH ... SELECT,
    VALUES, DESCRIBE, SHOW or SUMMARIZE) of DuckDB's SQL; `tables` lists the tables.
    Raise UsageError, with DuckDB's reason, where the SQL cannot be run.
    """
    tables = tables_of(folder)
    _refuse_other_statements(sql)
    listed = pa.Table.from_pylist(
        [
            {"name": name, "folder": str(own[0].parent) if own else "", "n_files": len(own)}
            for name, own in tables.files.items()
        ],
        _LISTED_COLUMNS,
    )
    with duckdb.connect(config=dict(_CLOSED)) as connection:
        for name, own in tables.files.items():
            connection.register(name, _dataset(own) if own else tables.empty[name].empty_table())
        connection.register(_LISTED, listed)
        for statement in _LOCKED:
            connection.execute(statement)
        try:
            return connection.execute(sql).df()
        except duckdb.Error as error:
            names = ", ".join([*tables.files, _LISTED])
            hidden = "".join(f". You may not read {name}" for name in tables.unreadable)
            raise UsageError(f"the query cannot be run: {error}. Tables here: {names}{hidden}") from error


def _refuse_other_statements(sql: str) -> None:
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise UsageError(f"the query cannot be run: {error}") from error
    kinds = [statement.type for statement in statements]
    if kinds != [duckdb.StatementType.SELECT]:
        given = " and ".join(kind.name for kind in kinds) or "nothing"
        raise UsageError(
            f"the query is {given}, expected one SELECT (or FROM, WITH ... SELECT, DESCRIBE, SHOW, "
            "SUMMARIZE): a query only reads the tables of the folder. --output writes its rows"
        )


def _dataset(files: Sequence[Path]) -> ds.Dataset:
    """Return files as one table; columns are matched by name, and missing ones are null."""
    with ThreadPoolExecutor(_READERS) as pool:
        found = list(pool.map(_schema_of, files))
    try:
        schema = pa.unify_schemas(found, promote_options="permissive")
    except pa.ArrowException as error:
        raise UsageError(
            f"the files of {files[0].parent} do not fit together: {error}; expected files of one "
            "run. lvm-ai verify names those that are not"
        ) from error
    return ds.dataset([str(path) for path in files], schema=schema, format="parquet")


def _schema_of(path: Path) -> pa.Schema:
    try:
        # All nullable: in a file that lacks a column of another one it is null.
        return pa.schema([own.with_nullable(True) for own in pq.read_schema(path)])
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{path} cannot be read as Parquet ({error}). lvm-ai verify names damaged files") from error


def main(argv: Sequence[str]) -> int:
    """Run `lvm-ai query`; mistakes are raised."""
    args = _parser().parse_args(argv)
    if args.output is not None:
        _refuse_output(args.output, args.run, overwrite=args.overwrite)
    rows = query(args.run, args.sql)
    if not (args.run / _REPORT).is_file():
        sys.stderr.write(_NOTICE)
    if _run_schemas(args.run) and not (args.run / _SUCCESS).is_file():
        sys.stderr.write(_UNFINISHED)
    if args.output is None:
        if rows.empty:
            sys.stdout.write(f"{'  '.join(map(str, rows.columns))}\n(no rows)\n")
            return 0
        sys.stdout.write(rows.head(args.rows).to_string(index=False) + "\n")
        if len(rows) > args.rows:
            sys.stdout.write(f"... {len(rows)} rows; --rows shows more, --output writes all\n")
        return 0
    try:
        _write(rows, args.output)
    except OSError as error:
        with suppress(OSError):
            args.output.unlink()  # a part of the rows would be taken for all of them
        raise LvmError(f"--output {args.output} cannot be written: {error.strerror or error}") from error
    return 0


def _write(rows: pd.DataFrame, output: Path) -> None:
    output.unlink(missing_ok=True)  # a file that is written over keeps its readers
    if output.suffix == ".csv":
        write_csv(rows, output)
    else:
        rows.to_parquet(output, index=False)


def _refuse_output(output: Path, run: Path, *, overwrite: bool) -> None:
    if output.suffix not in (".csv", ".parquet"):
        raise UsageError(f"--output {output} is neither .csv nor .parquet")
    if output.resolve().is_relative_to(run.resolve()):
        raise UsageError(
            f"--output {output} lies in --run {run}, which a query does not change; expected a place beside it"
        )
    if output.exists() and not overwrite:
        raise UsageError(f"{output} exists; choose another name, or add --overwrite")


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="lvm-ai query",
        description="Run SQL (DuckDB) over the Parquet tables of a run: predictions, rejects, ecg "
        "and what else is in its folder; `SELECT * FROM tables` lists them. Only these tables can "
        "be read, and nothing is changed. Research software, not for clinical use.",
    )
    parser.add_argument("sql", help="one SELECT, in quotes")
    parser.add_argument("--run", type=Path, default=Path(), metavar="FOLDER", help="its folder (default: this one)")
    parser.add_argument("--rows", type=int, default=40, help="rows to print at most (default: %(default)s)")
    parser.add_argument(
        "--output",
        type=Path,
        default=None,
        help="CSV or Parquet file to write, outside the folder; in CSV, text that a spreadsheet "
        "would run as a formula gets an apostrophe before it",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier file")
    add_share_option(parser)
    return parser
