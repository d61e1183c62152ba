"""Reading ECGs out of Parquet: footers, key columns, row groups; canonical or through a layout."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import types

from beam_jobs.reading.blocks import (
    AMPLITUDES,
    MEASURERS,
    QRS_DURATION,
    Chunk,
    EcgRow,
    Reject,
    duplicate_reject,
    reject_of,
    row_of,
)
from beam_jobs.reading.layout import Layout, SignalLayout
from beam_jobs.reading.storage import RetryingFile, Storage
from beam_jobs.reading.units import MAX_ROW_GROUP_ROWS, Piece
from lvm_core.errors import EcgRejected, LvmError, RejectReason, form_of
from lvm_core.formats.registry import FORMATS
from lvm_core.formats.statements import DEVICE, HEADER
from lvm_core.pseudonyms import Pseudonyms
from lvm_core.signal.canonical import FINEST_STEP_UV, interpolate_missing, without_filling
from lvm_core.signal.ecg import (
    DERIVED_FROM_I_AND_II,
    LEADS_12,
    Conduction,
    Ecg,
    Measurements,
    Rhythm,
    RhythmCodes,
    derive_limb_leads,
)
from lvm_core.signal.plausibility import refuse_standardised
from lvm_core.tables import schemas

# Arrow raises OSError for damaged pages; reading itself never does (see storage.RetryingFile).
DAMAGE: Final = (pa.ArrowException, OSError, ValueError)
_READ_ROWS: Final = 64
_STREAM_BUFFER_BYTES: Final = 1 << 20
_MAX_FOOTER_BYTES: Final = 1 << 30
# What is read of a file's end to find its footer: one request to a store is enough for most.
_TAIL_BYTES: Final = 64 << 10
_NULL_LIST: Final = "Expected all lists to be of size"
_UV_PER_UNIT: Final = {"mV": 1e3, "uV": 1.0}
DURATIONS_ROWS: Final = 10
_SOURCE_FORMATS: Final = frozenset({*(one.name for one in FORMATS), "parquet", "array"})

_Span = tuple[int, int]

# Files


@dataclass(frozen=True)
class Footer:
    """The footer of a Parquet file."""

    sha256: str
    metadata: pq.FileMetaData
    raw: bytes
    file_size: int  # of the whole file, bytes

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema."""
        return self.metadata.schema.to_arrow_schema()

    def with_plain_lists(self) -> pq.FileMetaData:
        """Return the metadata without Arrow's own schema, so that lists are read as plain lists.

        Arrow cannot read a fixed-size list column that holds a null list: it fails the whole row
        group. Read as plain lists, only the rows with the null are lost.
        """
        return pq.read_metadata(io.BytesIO(self.raw.replace(b"ARROW:schema", b"ARROW-schema")))

    @property
    def row_group_rows(self) -> list[int]:
        """Rows of each row group."""
        return [self.metadata.row_group(i).num_rows for i in range(self.metadata.num_row_groups)]


def read_footer(storage: Storage, uri: str) -> Footer:
    """Read the footer of a Parquet file; reject one that is `truncated` or `unreadable`."""
    with storage.open(uri) as stream:
        return footer_of(stream)


def footer_of(stream: RetryingFile) -> Footer:
    """Read the footer of an open Parquet file; see `read_footer`."""
    size = stream.size()
    if size < 12:
        raise EcgRejected(RejectReason.TRUNCATED, f"file has {size} bytes, too few for Parquet")
    stream.seek(-min(size, _TAIL_BYTES), io.SEEK_END)
    tail = stream.read()
    n_bytes = int.from_bytes(tail[-8:-4], "little")
    if tail[-4:] != b"PAR1" or n_bytes + 8 > min(size, _MAX_FOOTER_BYTES):
        raise EcgRejected(
            RejectReason.TRUNCATED, "file does not end as a Parquet file does; was it written or copied completely?"
        )
    if n_bytes + 8 > len(tail):
        stream.seek(-8 - n_bytes, io.SEEK_END)
        tail = stream.read()
    footer = tail[-8 - n_bytes :]
    try:
        raw = b"PAR1" + footer
        metadata = pq.read_metadata(io.BytesIO(raw))
        metadata.schema.to_arrow_schema()
    except DAMAGE as error:
        raise EcgRejected(RejectReason.UNREADABLE, f"Parquet footer cannot be decoded ({_cause(error)})") from error
    return Footer(hashlib.sha256(footer).hexdigest(), metadata, raw, size)


def chunk_spans(metadata: pq.FileMetaData, columns: Sequence[str] | None, groups: Iterable[int]) -> list[_Span]:
    """Return where the column chunks of row groups are in their file: (start, stop), bytes.

    `columns` are top-level columns; None for all.
    """
    wanted = None if columns is None else set(columns)
    spans = []
    for group in groups:
        row_group = metadata.row_group(group)
        for i in range(row_group.num_columns):
            chunk = row_group.column(i)
            if wanted is None or chunk.path_in_schema.partition(".")[0] in wanted:
                start = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
                spans.append((int(start), int(start) + int(chunk.total_compressed_size)))
    return spans


def open_parquet(stream: RetryingFile, metadata: Any = None, buffer_size: int = 0) -> Any:
    """Open a Parquet file on a stream of ours; page checksums are verified.

    Nothing is read ahead: Arrow's own threads would hold the Python stream beyond the end of the
    interpreter, and abort it. For the same reason every read says `use_threads=False`.
    """
    return pq.ParquetFile(
        stream, metadata=metadata, buffer_size=buffer_size, pre_buffer=False, page_checksum_verification=True
    )


def read_table(storage: Storage, uri: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file, or some of its columns, in the order of the file."""
    with storage.open(uri) as stream:
        file = _open_with_footer(stream)
        stream.keep(chunk_spans(file.metadata, columns, range(file.metadata.num_row_groups)))
        return file.read(None if columns is None else list(columns), use_threads=False)


def _open_with_footer(stream: RetryingFile) -> Any:
    """Open a Parquet file; Arrow's own error is raised where its footer is damaged."""
    try:
        return open_parquet(stream, footer_of(stream).metadata)
    except EcgRejected:
        stream.seek(0)
        return open_parquet(stream)


def read_keys(storage: Storage, uri: str, columns: Sequence[str | None]) -> list[list[Any]]:
    """Return whole columns as lists, one value per row of the file.

    An absent column, or one that cannot be decoded in a row group, gives None there: the unit
    that reads the row group rejects the rows it cannot decode.
    """
    found: list[list[Any]] = [[] for _ in columns]
    with storage.open(uri) as stream:
        file = _open_with_footer(stream)
        names = set(file.schema_arrow.names)
        there = [column for column in columns if column is not None and column in names]
        stream.keep(chunk_spans(file.metadata, there, range(file.metadata.num_row_groups)))
        for group in range(file.metadata.num_row_groups):
            for values, column in zip(found, columns, strict=True):
                values.extend(_key_values(file, group, column if column in names else None))
    return found


def _key_values(file: Any, group: int, column: str | None) -> list[Any]:
    nothing = [None] * file.metadata.row_group(group).num_rows
    if column is None:
        return nothing
    try:
        return list(file.read_row_group(group, columns=[column], use_threads=False)[column].to_pylist())
    except DAMAGE:
        return nothing


def signal_durations(storage: Storage, uri: str, row_group: int, layout: Layout) -> list[tuple[int, float]]:
    """Return the number of samples of a lead and the rate, hertz, of ten rows of a row group.

    Rows that cannot be read are left out: scoring rejects them.
    """
    signal = layout.signal
    first, rate = signal.signal_columns[0], signal.sampling_rate_hz
    columns = list(dict.fromkeys([first, rate] if isinstance(rate, str) else [first]))
    try:
        with storage.open(uri) as stream:
            file = open_parquet(stream)
            batch = next(file.iter_batches(DURATIONS_ROWS, [row_group], columns, use_threads=False), None)
    except DAMAGE:
        return []
    return [] if batch is None else durations_of(batch, layout)


def durations_of(batch: pa.RecordBatch, layout: Layout) -> list[tuple[int, float]]:
    """Return the number of samples of a lead and the rate, hertz, of the rows that can be read."""
    signal = layout.signal
    first, rate = signal.signal_columns[0], signal.sampling_rate_hz
    n_leads = 1 if signal.columns is not None else len(signal.lead_names)
    found = []
    for i in range(batch.num_rows):
        rate_hz = batch.column(rate)[i].as_py() if isinstance(rate, str) else rate
        try:
            n_samples = len(_flat(batch.column(first), i, first)) // n_leads
        except EcgRejected:
            continue
        if rate_hz is not None and np.isfinite(rate_hz) and rate_hz > 0:
            found.append((n_samples, float(rate_hz)))
    return found


class _EndsEarly(pa.ArrowInvalid):
    """A row group ends before its last row; the text holds numbers only."""


def _cause(error: BaseException) -> str:
    """Return the cause that a message states; Arrow's own texts may quote a value of the file."""
    if isinstance(error, _EndsEarly):
        return str(error)
    return "a page checksum is wrong" if "checksum" in str(error).lower() else type(error).__name__


# Rows


@dataclass(frozen=True)
class ParquetReader:
    """Reads spans of Parquet files into chunks."""

    storage: Storage  # where the files are
    layout: Layout | None  # how to read them; None for the canonical ECG table
    interpolate_missing_samples: int = 0  # longest gap that is filled, with a layout: the canonical table has none
    keep_refused: bool = False  # rejects hold the recording where one was decoded, with a layout
    pseudonyms: Pseudonyms | None = None  # of a run whose plan holds keyed digests

    def is_planned(self, piece: Piece, content_sha256: str) -> bool:
        """Return whether content is that for which a span was planned."""
        own = content_sha256 if self.pseudonyms is None else self.pseudonyms.content_sha256(content_sha256)
        return own == piece.content_sha256

    def read(self, piece: Piece, uri: str) -> Iterator[Chunk]:
        """Yield the rows of a span; a damaged part is one reject that counts the rows it held."""
        first_row = piece.first_row
        with self.storage.open(uri) as stream:
            if stream.size() != piece.size:
                raise LvmError(
                    f"{piece.shown} changed since the run was planned: it had {piece.size} bytes and has "
                    f"{stream.size()} now. Put the old file back to resume, or plan again with --overwrite"
                )
            footer = footer_of(stream)
            if not self.is_planned(piece, footer.sha256):
                raise LvmError(f"{piece.shown} changed since the run was planned, so it cannot be read for it")
            for group in range(piece.row_group_start, piece.row_group_stop):
                yield from self._read_group(stream, footer, group, piece, first_row)
                first_row += footer.row_group_rows[group]

    def _read_group(self, stream: Any, footer: Footer, group: int, piece: Piece, first_row: int) -> Iterator[Chunk]:
        n_rows = footer.row_group_rows[group]
        done = 0
        batches = self._batches(stream, footer, group, footer.metadata)
        plain = False
        while done < n_rows:
            try:
                batch = next(batches, None)
                if batch is None:
                    raise _EndsEarly(f"ends after {done} of {n_rows} rows")
            except DAMAGE as error:
                if not plain and _NULL_LIST in str(error) and done == 0:
                    batches, plain = self._batches(stream, footer, group, footer.with_plain_lists()), True
                    continue
                reason, lost = RejectReason.UNREADABLE.value, n_rows - done
                detail = f"row group {group} cannot be decoded ({_cause(error)})"
                reject = Reject(reason, detail, piece.shown, first_row + done, n_ecgs=lost)
                yield Chunk(rejects=[reject], n_read=lost)
                return
            yield self.chunk(batch, piece, first_row + done)
            done += batch.num_rows

    def _batches(self, stream: Any, footer: Footer, group: int, metadata: pq.FileMetaData) -> Iterator[pa.RecordBatch]:
        large = footer.row_group_rows[group] > MAX_ROW_GROUP_ROWS
        columns = self._columns(footer)
        # Arrow holds the packed columns of a row group at once anyway, unless they are a stream.
        stream.keep([] if large else chunk_spans(footer.metadata, columns, [group]))
        file = open_parquet(stream, metadata, _STREAM_BUFFER_BYTES if large else 0)
        yield from file.iter_batches(_READ_ROWS, [group], columns, use_threads=False)

    def _columns(self, footer: Footer) -> list[str]:
        wanted = schemas.ECGS.names
        if self.layout is not None:
            wanted = (*self.layout.needed_columns, *self.layout.optional_columns)
        return [name for name in wanted if name in footer.schema.names]

    def chunk(self, batch: pa.RecordBatch, piece: Piece, first_row: int) -> Chunk:
        """Return the rows of a batch whose first has this number in its file."""
        duplicates, unlisted = set(piece.duplicate_rows), set(piece.unlisted_rows)
        chunk = Chunk()
        path = piece.shown
        for row, result in enumerate(self._decoded(batch, path, first_row), start=first_row):
            if row in unlisted:
                continue
            chunk.n_read += 1
            if row in duplicates:
                chunk.rejects.append(duplicate_reject(path, row, result.ecg_id, result.participant_id))
            else:
                chunk.add(result)
        return chunk

    def _decoded(self, batch: pa.RecordBatch, path: str, first_row: int) -> Iterator[EcgRow | Reject]:
        decode = self._canonical(batch) if self.layout is None else self._through_layout(batch, self.layout)
        names = dict(zip(batch.schema.names, batch.schema.names, strict=True))
        for i, key in enumerate(_keys(batch, names if self.layout is None else self.layout.names)):
            row = first_row + i
            if key.ecg_id is None:
                yield Reject(RejectReason.UNREADABLE.value, "ecg_id is null or empty", path, row)
                continue
            try:
                if key.problem is not None:
                    raise key.problem
                yield decode(i, key, key.ecg_id, path, row)
            except EcgRejected as error:
                yield reject_of(error, path, row, key.ecg_id, key.participant_id)

    def _canonical(self, batch: pa.RecordBatch) -> _DecodeRow:
        names = batch.schema.names
        flags = batch.column("quality_flags").to_pylist() if "quality_flags" in names else [None] * batch.num_rows
        steps = np.asarray(pc.fill_null(pc.cast(batch.column("uv_per_count"), pa.float32()), np.nan), np.float32)
        counts, problems = _lead_counts(batch)
        sources = list(_sources(batch))

        def decode(i: int, key: _Key, ecg_id: str, path: str, row: int) -> EcgRow:
            if (problem := problems[i]) is not None:
                raise problem
            measured = key.amplitudes, key.measured_by, key.qrs_measured_by
            known = key.participant_id, key.recorded_at, *measured, key.rhythm
            return EcgRow(ecg_id, counts[i], float(steps[i]), path, row, *known, tuple(flags[i] or ()), *sources[i])

        return decode

    def _through_layout(self, batch: pa.RecordBatch, layout: Layout) -> _DecodeRow:
        def decode(i: int, key: _Key, ecg_id: str, path: str, row: int) -> EcgRow | Reject:
            ecg = _ecg(batch, i, key, layout.signal)
            if layout.is_of_arrays:
                ecg = without_filling(ecg)
            ecg = interpolate_missing(ecg, self.interpolate_missing_samples)
            return row_of(ecg, path, row, ecg_id, key.participant_id, keep_refused=self.keep_refused)

        return decode


def _sources(batch: pa.RecordBatch) -> Iterator[tuple[str | None, float | None]]:
    """Yield the format and the rate, hertz, of each row's source; None for any other value."""
    names = ("source_format", "source_sampling_rate_hz")
    nothing = [None] * batch.num_rows
    columns = [batch.column(name).to_pylist() if name in batch.schema.names else nothing for name in names]
    for kind, rate_hz in zip(*columns, strict=True):
        is_known = isinstance(kind, str) and kind in _SOURCE_FORMATS
        yield kind if is_known else None, rate_hz if isinstance(rate_hz, int | float) else None


# Only what is of the closed lists is read: such a column of other people may hold free text.
_CODES: Final = {
    "rhythm": {one.value: one.value for one in Rhythm},
    "conduction": {one.value: one.value for one in Conduction},
    "rhythm_source": {one: one for one in (DEVICE, HEADER)},
}


class _Key(NamedTuple):
    """The values of a row except its samples."""

    ecg_id: str | None
    participant_id: str | None
    recorded_at: dt.datetime | None
    amplitudes: tuple[float, ...]
    measured_by: str | None
    qrs_measured_by: str | None
    rhythm: RhythmCodes
    problem: EcgRejected | None


_DecodeRow = Callable[[int, _Key, str, str, int], EcgRow | Reject]


def _keys(batch: pa.RecordBatch, name_of: Mapping[str, str | None]) -> Iterator[_Key]:
    """Yield the values of each row except its samples, from the columns that `name_of` gives."""
    n = batch.num_rows
    there = set(batch.schema.names)

    def column(name: str) -> list[Any]:
        return batch.column(name_of[name]).to_pylist() if name_of.get(name) in there else [None] * n

    amplitudes = np.full((n, len(AMPLITUDES)), np.nan)
    for k, name in enumerate(AMPLITUDES):
        if name_of.get(name) in there:
            values = pc.cast(batch.column(name_of[name]), pa.float64())
            amplitudes[:, k] = _magnitudes(name, np.asarray(pc.fill_null(values, np.nan)))
    texts = [map(key_text, column(name)) for name in ("ecg_id", "participant_id", "measured_by", "qrs_measured_by")]
    codes = zip(*(map(_CODES[name].get, column(name)) for name in RhythmCodes._fields), strict=True)
    times = map(local_time, column("recorded_at"))
    columns = zip(*texts, times, amplitudes.tolist(), codes, strict=True)
    for ecg_id, person, by, qrs_by, (time, problem), values, rhythm in columns:
        # Tables of earlier versions say once who measured all.
        qrs_by = None if np.isnan(values[QRS_DURATION]) else qrs_by or by
        yield _Key(ecg_id, person, time, tuple(values), by, qrs_by, RhythmCodes(*rhythm), problem)


def _magnitudes(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return measurements as the tables hold them: an S given as negative becomes a magnitude.

    A negative R wave or duration, or an infinite value, is no measurement: NaN.
    """
    values = np.abs(values) if name.startswith("s_") else values
    return np.where((values >= 0) & np.isfinite(values), values, np.nan)


def key_text(value: object) -> str | None:
    """Return a key as text; None for null and for blanks."""
    return None if value is None or str(value).strip() == "" else str(value)


def local_time(value: object) -> tuple[dt.datetime | None, EcgRejected | None]:
    """Return a stored time as local (a zone is dropped, not converted), or why it is unreadable."""
    if isinstance(value, str):
        text = value
        try:
            value = dt.datetime.fromisoformat(text)
        except ValueError:
            detail = f"recorded_at is written as {form_of(text)}, expected YYYY-MM-DDTHH:MM:SS or a timestamp"
            return None, EcgRejected(RejectReason.UNREADABLE, detail)
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=None), None
    if isinstance(value, dt.date):
        return dt.datetime.combine(value, dt.time()), None
    return None, None


def _lead_counts(batch: pa.RecordBatch) -> tuple[NDArray[np.int16], list[EcgRejected | None]]:
    """Return (n, 12, 5000) counts and, for each row, why they cannot be used."""
    n = batch.num_rows
    counts = np.empty((n, len(LEADS_12), schemas.N_SAMPLES), dtype=np.int16)
    problems: list[EcgRejected | None] = [None] * n
    for k, lead in enumerate(LEADS_12):
        column = batch.column(lead)
        if column.null_count == 0 and types.is_fixed_size_list(column.type):
            values = column.flatten()
            if column.type.list_size == schemas.N_SAMPLES and values.null_count == 0:
                counts[:, k] = values.to_numpy().reshape(n, schemas.N_SAMPLES)
                continue
        for i in range(n):
            try:
                counts[i, k] = _lead_of_row(column, i, lead)
            except EcgRejected as problem:
                problems[i] = problems[i] or problem
    return counts, problems


def _lead_of_row(column: pa.Array, i: int, lead: str) -> NDArray[np.int16]:
    values = column[i].values
    if values is None:
        raise EcgRejected(RejectReason.MISSING_LEAD, f"lead {lead} is null, expected 5000 samples")
    if len(values) != schemas.N_SAMPLES:
        short = len(values) < schemas.N_SAMPLES
        raise EcgRejected(
            RejectReason.TOO_SHORT if short else RejectReason.UNREADABLE,
            f"lead {lead} has {len(values)} samples, expected {schemas.N_SAMPLES}",
        )
    if values.null_count:
        raise EcgRejected(
            RejectReason.NON_FINITE, f"lead {lead} has {values.null_count} missing samples, expected none"
        )
    return np.asarray(values.to_numpy(), dtype=np.int16)


def _ecg(batch: pa.RecordBatch, i: int, key: _Key, signal: SignalLayout) -> Ecg:
    """Return one row of other people's Parquet as a recording."""
    uv_per_count = _row_value(batch, i, signal.uv_per_count, RejectReason.UNKNOWN_UNIT)
    rate_hz = _row_value(batch, i, signal.sampling_rate_hz, RejectReason.UNSUPPORTED_RATE)
    ecg = ecg_of_samples(_samples(batch, i, signal), signal, uv_per_count, rate_hz)
    amplitudes = {n: None if np.isnan(v) else v for n, v in zip(AMPLITUDES, key.amplitudes, strict=True)}
    measurements = Measurements(**amplitudes, measured_by=key.measured_by, qrs_measured_by=key.qrs_measured_by)
    return replace(ecg, recorded_at=key.recorded_at, measurements=measurements)


def ecg_of_samples(
    samples: Mapping[str, NDArray[np.floating]], signal: SignalLayout, uv_per_count: float, rate_hz: float
) -> Ecg:
    """Return a recording from the samples of its leads, (n_samples,) in the unit of a layout.

    `uv_per_count` is used where that unit is counts. What `leads_uv` lacks of III, aVR, aVL and aVF
    is derived from I and II. Arrays whose leads were standardised are rejected: copies of data sets
    circulate so, and nothing else in them shows it.
    """
    factor = _UV_PER_UNIT.get(signal.unit, uv_per_count)
    if signal.array is not None:
        refuse_standardised(np.stack(list(samples.values())))
    # What is beyond float32, or no number, is refused later as not finite.
    with np.errstate(over="ignore", invalid="ignore"):
        leads_uv: dict[str, NDArray[np.floating]] = {
            lead: values.astype(np.float64) * factor for lead, values in samples.items()
        }
        derived = any(lead not in leads_uv for lead in DERIVED_FROM_I_AND_II)
        if derived:
            leads_uv = {**derive_limb_leads(leads_uv["I"], leads_uv["II"]), **leads_uv}
        columns_uv = np.stack([leads_uv[lead] for lead in LEADS_12], axis=1).astype(np.float32)
    return Ecg(
        leads_uv=columns_uv,
        sampling_rate_hz=rate_hz,
        step_uv=uv_per_count if signal.unit == "counts" else FINEST_STEP_UV,
        source_format="parquet" if signal.array is None else "array",
        leads_derived=derived,
    )


def _row_value(batch: pa.RecordBatch, i: int, value: float | str | None, reason: RejectReason) -> float:
    if value is None:
        return float("nan")
    number = batch.column(value)[i].as_py() if isinstance(value, str) else value
    if number is None or not (np.isfinite(number) and number > 0):
        raise EcgRejected(reason, f"column {value} holds {number}, expected a value above 0")
    return float(number)


def _samples(batch: pa.RecordBatch, i: int, signal: SignalLayout) -> dict[str, NDArray[np.float64]]:
    if signal.columns is not None:
        samples = {lead: _flat(batch.column(name), i, name) for lead, name in signal.columns.items()}
        lengths = {lead: len(values) for lead, values in samples.items()}
        if len(set(lengths.values())) > 1:
            raise EcgRejected(RejectReason.TRUNCATED, f"leads have different numbers of samples: {lengths}")
        return samples
    (name,) = signal.signal_columns
    flat = _flat(batch.column(name), i, name)
    n_leads = len(signal.lead_names)
    if len(flat) % n_leads:
        raise EcgRejected(
            RejectReason.TRUNCATED,
            f"column {name} has {len(flat)} values, which {n_leads} leads of equal length do not give",
        )
    grid = flat.reshape(n_leads, -1) if signal.order == "lead_major" else flat.reshape(-1, n_leads).T
    return dict(zip(signal.lead_names, grid, strict=True))


def _flat(column: pa.Array, i: int, name: str) -> NDArray[np.float64]:
    """Return the numbers of one cell, lists of lists flattened; a null sample is NaN."""
    values = column[i].values if column[i].is_valid else None
    while values is not None and hasattr(values.type, "value_type"):
        values = values.flatten()
    if values is None or len(values) == 0:
        raise EcgRejected(RejectReason.MISSING_LEAD, f"column {name} is null or empty")
    return np.asarray(pc.fill_null(pc.cast(values, pa.float64()), np.nan))


# Columns


def column_problems(schema: pa.Schema, layout: Layout | None) -> tuple[RejectReason, str] | None:
    """Return why a file's columns cannot be read, or None when they can."""
    needed = schemas.ECG_REQUIRED if layout is None else layout.needed_columns
    twice = [name for name in (*needed, *optional_columns(layout)) if schema.names.count(name) > 1]
    missing = [name for name in needed if name not in schema.names]
    wrong = {
        name: f"{name} (is {schema.field(name).type}, expected {expected})"
        for name, fits, expected in _expected_types(layout)
        if name in schema.names and not twice and not fits(schema.field(name).type)
    }
    if twice:
        detail = f"columns occur more than once: {', '.join(twice)}; expected each once, rename or remove the others"
    elif missing or wrong:
        parts = [f"columns are missing: {', '.join(missing)}"] if missing else []
        parts += [f"columns of another type: {', '.join(wrong.values())}"] if wrong else []
        detail = "; ".join(parts)
    else:
        return None
    leads = LEADS_12 if layout is None else layout.signal.signal_columns
    is_about_leads = not set(leads).isdisjoint(twice or (*missing, *wrong))
    return RejectReason.MISSING_LEAD if is_about_leads else RejectReason.UNREADABLE, detail


def optional_columns(layout: Layout | None) -> tuple[str, ...]:
    """Return the columns whose values are null in a file that lacks them."""
    if layout is not None:
        return layout.optional_columns
    return ("participant_id", "recorded_at", *AMPLITUDES, *MEASURERS, *RhythmCodes._fields, "quality_flags")


def _expected_types(layout: Layout | None) -> Iterator[tuple[str, Callable[[pa.DataType], bool], str]]:
    """Yield (column, whether a type fits, which types fit in words) of each column that is read."""
    name_of = {name: name for name in schemas.ECGS.names} if layout is None else layout.names
    for key in ("ecg_id", "participant_id"):
        # A decimal number is no key: 1000003 would be read as 1000003.0, another person.
        yield name_of.get(key) or "", _is_key, "text or whole numbers: cast it"
    yield name_of.get("recorded_at") or "", _is_time, "a timestamp, a date or text"
    for name in AMPLITUDES:
        yield name_of.get(name) or "", _is_number, "numbers"
    if layout is None:
        yield "uv_per_count", _is_number, "numbers"
        for lead in LEADS_12:
            yield lead, _is_int16_list, "a list of int16"
        return
    for by_row in (layout.signal.uv_per_count, layout.signal.sampling_rate_hz):
        if isinstance(by_row, str):
            yield by_row, _is_number, "numbers"
    for name in layout.signal.signal_columns:
        yield name, _is_number_list, "a list of numbers"


def _any_of(*tests: Callable[[pa.DataType], bool]) -> Callable[[pa.DataType], bool]:
    return lambda kind: any(test(kind) for test in tests)


_is_text = _any_of(types.is_string, types.is_large_string)
_is_plain_key = _any_of(_is_text, types.is_string_view, types.is_integer)
_is_time = _any_of(types.is_timestamp, types.is_date, _is_text)
_is_number = _any_of(types.is_integer, types.is_floating)
_is_list = _any_of(types.is_fixed_size_list, types.is_list, types.is_large_list)


def _is_key(kind: pa.DataType) -> bool:
    return _is_plain_key(kind.value_type if types.is_dictionary(kind) else kind)


def _is_number_list(kind: pa.DataType) -> bool:
    return _is_list(kind) and (_is_number(kind.value_type) or _is_number_list(kind.value_type))


def _is_int16_list(kind: pa.DataType) -> bool:
    return _is_list(kind) and bool(kind.value_type == pa.int16())
