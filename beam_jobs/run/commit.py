"""The files of a unit: rejects first, then the result file, which is the commit mark."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from beam_jobs.reading.blocks import Reject
from beam_jobs.reading.parquet_input import read_footer, read_table
from beam_jobs.reading.storage import FileMissing, Storage, join
from beam_jobs.reading.units import Unit, UnitSummary
from lvm_core.errors import EcgRejected, LvmError
from lvm_core.signal.ecg import LEADS_12
from lvm_core.signal.scale import AmplitudeHistogram, SourceAmplitudes
from lvm_core.tables import schemas
from lvm_core.wording import counted

RESULT_FOLDERS: Final = {"score": "predictions", "ingest": "ecg"}
REJECTS_FOLDER: Final = "rejects"
ECG_ROW_GROUP_ROWS: Final = 256


@dataclass(frozen=True)
class UnitFiles:
    """Where the files of one unit are."""

    result: str
    rejects: str


def unit_files(output: str, kind: str, unit_name: str) -> UnitFiles:
    """Return the URIs of a unit's two files in a run folder."""
    name = f"{unit_name}.parquet"
    return UnitFiles(join(output, RESULT_FOLDERS[kind], name), join(output, REJECTS_FOLDER, name))


def reasons_of(rejects: Iterable[Reject]) -> dict[str, int]:
    """Return the rejected ECGs by reason."""
    counter: Counter[str] = Counter()
    for reject in rejects:
        counter[reject.reason] += reject.weight
    return dict(sorted(counter.items()))


def rejects_table(rejects: Sequence[Reject], stage: str) -> pa.Table:
    """Return the rejects table of a unit."""
    rows = [{**asdict(reject), "stage": stage} for reject in rejects]
    return pa.Table.from_pylist(rows, schema=schemas.REJECTS.arrow)


def rejects_of(table: pa.Table) -> list[Reject]:
    """Return the rows of a rejects table."""
    return [Reject(**{k: v for k, v in row.items() if k != "stage"}) for row in table.to_pylist()]


def rows_sha256(table: pa.Table) -> str:
    """Return a digest of a table's values in their order, whatever encodes and cuts them.

    Samples of ECGs are left out: `signal_sha256` stands for them, and reading 120 kB of each ECG
    once more would cost as much as the rest of the commit.
    """
    digest = hashlib.sha256()
    for name in table.column_names:
        if name not in LEADS_12:
            digest.update(f"{name}\0{table.num_rows}\0".encode())
            _add_values(digest, table[name].combine_chunks())
    return digest.hexdigest()


def _add_values(digest: Any, values: pa.Array) -> None:
    """Add to a digest which values are null, then the values; null counts as 0 or empty."""
    digest.update(np.packbits(values.is_valid().to_numpy(zero_copy_only=False)).tobytes())
    kind = values.type
    if pa.types.is_list(kind):
        _add_numbers(digest, pc.list_value_length(values))
        _add_values(digest, values.flatten())
    elif pa.types.is_string(kind):
        _add_numbers(digest, pc.binary_length(values))
        digest.update("".join(values.fill_null("").to_pylist()).encode())
    elif pa.types.is_boolean(kind):
        _add_numbers(digest, values.cast(pa.uint8()))
    elif pa.types.is_timestamp(kind):
        _add_numbers(digest, values.cast(pa.int64()))
    else:
        _add_numbers(digest, values)


def _add_numbers(digest: Any, values: pa.Array) -> None:
    numbers = values.fill_null(0).to_numpy(zero_copy_only=False)
    digest.update(numbers.astype(numbers.dtype.newbyteorder("<")).tobytes())


def footer(unit: Unit, summary: UnitSummary, provenance: Mapping[str, Any], hashes: Mapping[str, str]) -> bytes:
    """Return what the footers of a unit's files say: no time, no host, no absolute path.

    `hashes` are the digests of the rows of the `result` and the `rejects`, by `rows_sha256`.
    """
    content = {
        "unit": unit.number,
        "fingerprint": unit.fingerprint,
        "n_read": summary.n_read,
        "n_done": summary.n_done,
        "rejected": dict(sorted(summary.rejected.items())),
        "amplitudes": summary.amplitudes.to_list(),
        "sources": summary.sources.to_json(),
        "provenance": dict(provenance),
        "rows_sha256": dict(hashes),
    }
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def parquet_bytes(table: pa.Table, content: bytes) -> bytes:
    """Return a table as a Parquet file with page checksums and our footer."""
    sink = io.BytesIO()
    metadata = {**(table.schema.metadata or {}), schemas.FOOTER_KEY: content}
    pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def result_bytes(kind: str, table: pa.Table, content: bytes) -> bytes:
    """Return the result file of a unit of either job."""
    return parquet_bytes(table, content) if kind == "score" else ecg_parquet_bytes(table, content)


def ecg_parquet_bytes(table: pa.Table, content: bytes) -> bytes:
    """Return an ECG table as a Parquet file: delta-packed samples, small row groups."""
    writer = EcgParquetWriter()
    writer.write(table)
    return writer.close(content)


class EcgParquetWriter:
    """Makes an ECG Parquet file in memory, of tables as they come; holds one row group unpacked."""

    def __init__(self) -> None:
        self._sink = io.BytesIO()
        self._waiting: list[pa.Table] = []
        self._n_waiting = 0
        self._described: list[pa.Table] = []
        schema = schemas.ECGS.arrow
        others = [name for name in schema.names if name not in LEADS_12]
        self._writer = pq.ParquetWriter(
            self._sink,
            schema,
            compression="zstd",
            use_dictionary=others,
            column_encoding={f"{lead}.list.element": "DELTA_BINARY_PACKED" for lead in LEADS_12},
            write_statistics=others,
            write_page_checksum=True,
        )

    def write(self, table: pa.Table) -> None:
        """Add rows of the ECG table."""
        self._waiting.append(table)
        self._described.append(table.drop_columns(list(LEADS_12)))
        self._n_waiting += table.num_rows
        if self._n_waiting >= ECG_ROW_GROUP_ROWS:
            self._flush(self._n_waiting // ECG_ROW_GROUP_ROWS * ECG_ROW_GROUP_ROWS)

    def _flush(self, n_rows: int) -> None:
        table = pa.concat_tables(self._waiting)
        self._writer.write_table(table.slice(0, n_rows), row_group_size=ECG_ROW_GROUP_ROWS)
        self._waiting = [table.slice(n_rows)]
        self._n_waiting -= n_rows

    def rows_sha256(self) -> str:
        """Return the digest of all rows added."""
        empty = schemas.ECGS.arrow.empty_table().drop_columns(list(LEADS_12))
        return rows_sha256(pa.concat_tables([empty, *self._described]))

    def close(self, content: bytes) -> bytes:
        """Return the file, with `content` as our footer."""
        if self._n_waiting:
            self._flush(self._n_waiting)
        self._writer.add_key_value_metadata({schemas.FOOTER_KEY: content})
        self._writer.close()
        return self._sink.getvalue()


def commit_unit(
    storage: Storage,
    files: UnitFiles,
    unit: Unit,
    summary: UnitSummary,
    rejects: pa.Table,
    *,
    provenance: Mapping[str, Any],
    result_sha256: str,
    encode: Callable[[bytes], bytes],
) -> None:
    """Write a unit's files: the rejects first, none if empty, then the result, always.

    A rejects file that an earlier try left and that this one has no rows for is removed, so that
    it cannot outlive its unit. `provenance` goes into the footers, and so does `result_sha256`, the
    digest of the rows of the result by `rows_sha256`. `encode` gives the result file with a footer.
    Where the summary lost or invented an ECG, an `LvmError` is raised and nothing is written.
    """
    if not unit.n_ecgs == summary.n_read == summary.n_done + summary.n_rejected:
        raise LvmError(
            f"unit {summary.number}: {counted(summary.n_read, 'ECG')} read, but {unit.n_ecgs} planned, "
            f"{summary.n_done} done and {summary.n_rejected} rejected; nothing was committed. Please report this"
        )
    content = footer(unit, summary, provenance, {"result": result_sha256, "rejects": rows_sha256(rejects)})
    result = encode(content)
    if rejects.num_rows:
        storage.write_atomic(files.rejects, parquet_bytes(rejects, content))
    else:
        storage.delete(files.rejects)
    storage.write_atomic(files.result, result)


def read_footer_json(storage: Storage, uri: str) -> dict[str, Any] | None:
    """Return our footer of a file; None where the file is not there, damaged or not ours."""
    try:
        metadata = read_footer(storage, uri).metadata.metadata or {}
    except (EcgRejected, FileMissing):
        return None
    try:
        return dict(json.loads(metadata[schemas.FOOTER_KEY]))
    except (KeyError, TypeError, ValueError):
        return None


def read_rejects(storage: Storage, uri: str) -> pa.Table:
    """Return the rejects of a unit; no rows where it has no file of them."""
    if not storage.is_file(uri):
        return schemas.REJECTS.arrow.empty_table()
    return read_table(storage, uri)


def read_commit(storage: Storage, files: UnitFiles, unit: Unit) -> UnitSummary | None:
    """Return the summary of a unit from its committed file; None when it is not finished."""
    content = read_footer_json(storage, files.result)
    if content is None or content.get("fingerprint") != unit.fingerprint:
        return None
    try:
        summary = UnitSummary(
            unit.number,
            content["n_read"],
            content["n_done"],
            content["rejected"],
            AmplitudeHistogram.from_list(content["amplitudes"]),
            sources=SourceAmplitudes.from_json(content["sources"]),
        )
    except (KeyError, TypeError, ValueError):
        return None  # the footer is damaged
    if summary.rejected and not storage.is_file(files.rejects):
        return None  # its rejects were lost: done again, the unit writes them again
    return summary


def lead_columns(counts: NDArray[np.int16]) -> dict[str, pa.Array]:
    """Return the lead columns of an ECG table, by name, from (n, 12, 5000) counts."""
    flat = {lead: np.ascontiguousarray(counts[:, k]).reshape(-1) for k, lead in enumerate(LEADS_12)}
    return {n: pa.FixedSizeListArray.from_arrays(pa.array(one), type=schemas.LEAD_TYPE) for n, one in flat.items()}


def table_of(schema: pa.Schema, columns: Mapping[str, Any]) -> pa.Table:
    """Return a table of a schema; columns are Arrow arrays or lists, in any order."""
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, schema.field(name).type)
        for name, column in ((name, columns[name]) for name in schema.names)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
