"""What tests of the jobs share: writing canonical ECG Parquet, reading a run folder's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lvm_core.signal.ecg import LEADS_12
from lvm_core.synthetic.ecgs import synthetic_ecgs

SEED = 7


def ecg_ids(n: int, start: int = 0) -> list[str]:
    """Return the keys that `ecg_table` gives to its rows."""
    return [f"e{index:04d}" for index in range(start, start + n)]


def ecg_counts(n: int, start: int = 0) -> NDArray[np.int16]:
    """Return (n, 12, 5000) int16, the counts of `ecg_table`, 5 uV each."""
    return synthetic_ecgs(n, SEED, start).counts


def lead_array(counts: NDArray[np.int16], *, nullable: bool = False, plain_list: bool = False) -> pa.Array:
    """Return one lead of n ECGs, (n, n_samples), as a column of lists."""
    values = pa.array(np.ascontiguousarray(counts).reshape(-1))
    if plain_list:
        offsets = np.arange(len(counts) + 1, dtype=np.int32) * counts.shape[1]
        return pa.ListArray.from_arrays(pa.array(offsets), values)
    element = pa.field("element", pa.int16(), nullable=nullable)
    return pa.FixedSizeListArray.from_arrays(values, type=pa.list_(element, counts.shape[1]))


def ecg_table(n: int, start: int = 0, *, columns: Mapping[str, Any] | None = None) -> pa.Table:
    """Return `n` synthetic ECGs with the required columns and `participant_id`.

    Args:
        n: rows; the i-th is ECG `start + i` whatever the rest.
        start: index of the first.
        columns: replaced or added; None as a value leaves a column out.
    """
    counts = ecg_counts(n, start)
    values: dict[str, Any] = {"ecg_id": ecg_ids(n, start)}
    values |= {lead: lead_array(counts[:, k]) for k, lead in enumerate(LEADS_12)}
    values["uv_per_count"] = pa.array([5.0] * n, pa.float32())
    values["participant_id"] = [f"p{index:04d}" for index in range(start, start + n)]
    values |= dict(columns or {})
    return pa.table({name: value for name, value in values.items() if value is not None})


def write_ecg_parquet(path: Path, n: int, *, start: int = 0, row_group_rows: int = 64, **columns: Any) -> Path:
    """Write a canonical ECG Parquet file of `n` synthetic ECGs; see `ecg_table`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = ecg_table(n, start, columns=columns)
    pq.write_table(table, path, row_group_size=row_group_rows, write_page_checksum=True)
    return path


def write_ecg_folder(folder: Path, sizes: Sequence[int], *, row_group_rows: int = 64) -> int:
    """Write `part-000.parquet` and so on with these numbers of ECGs; return how many in all."""
    start = 0
    for number, n in enumerate(sizes):
        path = folder / f"part-{number:03d}.parquet"
        write_ecg_parquet(path, n, start=start, row_group_rows=row_group_rows)
        start += n
    return start


def read_rows(run: Path, name: str) -> list[dict[str, Any]]:
    """Return the rows of `predictions`, `rejects` or `ecg` of a run folder, in file order."""
    files = sorted((run / name).glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]
