"""The command `lvm-ai query`: SQL over the tables of a run or a study, through DuckDB."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import duckdb
import pandas as pd

from lvm_core.command_line import ArgumentParser
from lvm_core.errors import UsageError

_REPORT: Final = "report.html"  # the folder that may leave a study holds no row of a person
_NOTICE: Final = (
    "rows of single people are restricted data: keep what this prints or writes where they are\n"
)


def views(folder: Path) -> dict[str, str]:
    """Find the Parquet tables of a run or study folder.

    Args:
        folder: of `lvm-ai score`, `ingest`, `simulate`, or any folder with Parquet in it.

    Returns:
        For each table its name and the pattern of its files: `predictions` for
        `predictions/*.parquet`, `truth` for `truth.parquet`; hidden folders are left out.

    Raises:
        UsageError: the folder does not exist, or has no Parquet.
    """
    if not folder.is_dir():
        raise UsageError(f"--run {folder} is no folder; expected the output of lvm-ai score or so")
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() and any(path.glob("*.parquet")):
            found[path.name] = str(path / "*.parquet")
        elif path.suffix == ".parquet":
            found[path.stem] = str(path)
    if not found:
        raise UsageError(
            f"--run {folder} has no Parquet tables; expected the output of lvm-ai score or so"
        )
    return found


def query(folder: Path, sql: str) -> pd.DataFrame:
    """Run SQL over the tables of a folder.

    Args:
        folder: as for `views`.
        sql: one statement of DuckDB's SQL; the tables are views named as by `views`, and
            `tables` lists them. Other files can be read by their path, as in `FROM 'codes.csv'`.

    Returns:
        The rows.

    Raises:
        UsageError: the folder has no tables, or the SQL cannot be run; with DuckDB's reason.
    """
    found = views(folder)
    with duckdb.connect() as connection:
        for name, pattern in found.items():
            files = pattern.replace("'", "''")
            view = name.replace('"', '""')
            connection.execute(
                f"CREATE VIEW \"{view}\" AS SELECT * FROM read_parquet('{files}', "
                "union_by_name = true)"
            )
        listed = pd.DataFrame({"name": list(found), "files": list(found.values())})
        connection.register("tables", listed)
        try:
            return connection.execute(sql).df()
        except duckdb.Error as error:
            names = ", ".join([*found, "tables"])
            raise UsageError(f"the query cannot be run: {error}. Tables here: {names}") from error


def main(argv: Sequence[str]) -> int:
    """Run `lvm-ai query`.

    Args:
        argv: arguments after the name of the command.

    Returns:
        0; wrong usage is raised as UsageError.
    """
    args = _parser().parse_args(argv)
    if args.output is not None and args.output.suffix not in (".csv", ".parquet"):
        raise UsageError(f"--output {args.output} is neither .csv nor .parquet")
    if args.output is not None and args.output.exists() and not args.overwrite:
        raise UsageError(f"{args.output} exists; choose another name, or add --overwrite")
    rows = query(args.run, args.sql)
    if not (args.run / _REPORT).is_file():
        sys.stderr.write(_NOTICE)
    if args.output is None:
        sys.stdout.write(rows.head(args.rows).to_string(index=False) + "\n")
        if len(rows) > args.rows:
            sys.stdout.write(f"... {len(rows)} rows; --rows shows more, --output writes all\n")
    elif args.output.suffix == ".csv":
        rows.to_csv(args.output, index=False)
    else:
        rows.to_parquet(args.output, index=False)
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="lvm-ai query",
        description="Run SQL (DuckDB) over the Parquet tables of a run: predictions, rejects, ecg "
        "and what else is in its folder; `SELECT * FROM tables` lists them. Nothing in the folder "
        "is changed. Research software, not for clinical use.",
    )
    parser.add_argument("sql", help="one statement, in quotes")
    parser.add_argument(
        "--run", type=Path, default=Path(), metavar="FOLDER", help="its folder (default: this one)"
    )
    parser.add_argument(
        "--rows", type=int, default=40, help="rows to print at most (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, default=None, help="CSV or Parquet file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier file")
    return parser
