"""The data of the benchmark, made once: simulated ECGs in Parquet, and copies cut otherwise."""

from __future__ import annotations

import contextlib
import math
import subprocess
import sys
from itertools import product
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lvm_core.signal.ecg import LEADS_12
from models.catalogue.known import resolve_model
from models.engines.network import checked_network
from tests.benchmarks.onnx_export import export_onnx

SEED = 20261126
SPOILED = "spoiled"
N_SPOILED = 64
_FILE_ROWS = 1024


def simulated(folder: Path, people: int) -> Path:
    """Return a folder of Parquet of at least as many ECGs as people, made by `lvm-ai simulate`."""
    cohort = folder / f"cohort-{people}"
    if not (cohort / "truth.parquet").exists():
        command = [sys.executable, "-m", "lvm_ai", "simulate", "--parquet", "--overwrite"]
        options = ["--participants", str(people), "--seed", str(SEED), "--output", str(cohort)]
        subprocess.run([*command, *options], check=True)
    return cohort / "ecg"


def first_rows(source: Path, target: Path, n: int, *, row_group: int = 256, copies: int = 1) -> Path:
    """Write the first n ECGs of a folder, in files of 1024 as ingest makes, and return the folder.

    Args:
        source: folder of Parquet.
        target: folder to make; kept when it is there.
        n: ECGs.
        row_group: rows of a row group.
        copies: of the source, one after the other, with ids of their own.
    """
    if target.exists():
        return target
    partial = target.with_name(target.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    done = 0
    rest: pa.Table | None = None
    for copy, path in product(range(copies), sorted(source.glob("*.parquet"))):
        table = pq.read_table(path)
        if copy:
            ids = [f"{one}-{copy}" for one in table["ecg_id"].to_pylist()]
            table = table.set_column(0, table.schema.field("ecg_id"), pa.array(ids))
        rest = table if rest is None else pa.concat_tables([rest, table])
        while done < n and rest.num_rows >= min(_FILE_ROWS, n - done):
            part = rest.slice(0, min(_FILE_ROWS, n - done))
            _write(part, partial / f"part-{done:07d}.parquet", row_group)
            rest, done = rest.slice(part.num_rows), done + part.num_rows
        if done == n:
            partial.rename(target)
            return target
    raise SystemExit(f"{source} holds {done} ECGs, expected {n}")


def _write(table: pa.Table, path: Path, row_group: int) -> None:
    """Write ECGs as `lvm-ai ingest` does, but for the row groups."""
    others = [name for name in table.column_names if name not in LEADS_12]
    pq.write_table(
        table,
        path,
        row_group_size=row_group,
        compression="zstd",
        use_dictionary=others,
        column_encoding={f"{lead}.list.element": "DELTA_BINARY_PACKED" for lead in LEADS_12},
        write_page_checksum=True,
    )


def spoiled(source: Path, target: Path, *, missing_lead: bool) -> Path:
    """Write 64 ECGs of which `SPOILED` has no lead V3, or is flat in all leads."""
    if target.exists():
        return target
    table = pq.read_table(next(iter(sorted(source.glob("*.parquet"))))).slice(0, N_SPOILED)
    columns = {name: table[name].to_pylist() for name in table.column_names}
    columns["ecg_id"][20] = SPOILED
    for lead in ("V3",) if missing_lead else LEADS_12:
        columns[lead][20] = None if missing_lead else [0] * 5000
    # Plain lists: Arrow cannot read a fixed-size list that is null, and nobody would get far.
    plain = pa.list_(pa.int16())
    fields = [pa.field(field.name, plain if field.name in LEADS_12 else field.type) for field in table.schema]
    target.mkdir(parents=True)
    made = pa.table(columns, schema=pa.schema(fields))
    pq.write_table(made, target / "part.parquet", row_group_size=N_SPOILED)
    return target


def model_files(folder: Path, model: str) -> Path:
    """Return the model as .keras, with the same network as .onnx beside it."""
    path = folder / "model.keras"
    source = resolve_model(model)
    path.write_bytes(source.read_bytes())
    export_onnx(checked_network(source).network, path.with_suffix(".onnx"))
    return path


def ids_of(folder: Path) -> list[str]:
    """Return the ids in all result files of a folder, in no order; a file that is none counts."""
    found: list[str] = []
    for path in _results(folder):
        try:
            found += pq.read_table(path, columns=["ecg_id"])["ecg_id"].to_pylist()
        except (pa.ArrowException, OSError):
            found.append(f"unreadable: {path.name}")
    return found


def masses_of(folder: Path) -> dict[str, float]:
    """Return the finite masses in the result files of a folder that can be read."""
    found: dict[str, float] = {}
    for path in _results(folder):
        with contextlib.suppress(pa.ArrowException, OSError):
            table = pq.read_table(path, columns=["ecg_id", "lvm_pred_g"])
            rows = zip(table["ecg_id"].to_pylist(), table["lvm_pred_g"].to_pylist(), strict=True)
            found.update((i, g) for i, g in rows if g is not None and math.isfinite(g))
    return found


def _results(folder: Path) -> list[Path]:
    found = sorted(folder.rglob("*.parquet")) if folder.exists() else []
    return [path for path in found if not path.name.startswith(".")]
