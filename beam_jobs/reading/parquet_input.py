"""Reading ECGs out of Parquet: footers, key columns, row groups; canonical or through a layout."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from beam_jobs.reading.blocks import AMPLITUDES, Chunk, EcgRow, Reject, reject_of, row_of
from beam_jobs.reading.layout import Layout
from beam_jobs.reading.local_files import shown_path
from beam_jobs.reading.storage import RetryingFile, Storage
from beam_jobs.reading.units import MAX_ROW_GROUP_ROWS, Piece
from lvm_core.errors import EcgRejected, LvmError, RejectReason, form_of
from lvm_core.signal.canonical import FINEST_STEP_UV, canonicalise, interpolate_missing
from lvm_core.signal.ecg import DERIVED_FROM_I_AND_II, LEADS_12, Ecg, Measurements, derive_limb_leads
from lvm_core.tables import schemas

READ_ROWS: Final = 64
_STREAM_BUFFER_BYTES: Final = 1 << 20
_MAX_FOOTER_BYTES: Final = 1 << 30
# Arrow raises OSError for damaged pages; reading itself never does (see storage.RetryingFile).
DAMAGE: Final = (pa.ArrowException, OSError, ValueError)
_NULL_LIST: Final = "Expected all lists to be of size"
_UV_PER_UNIT: Final = {"mV": 1e3, "uV": 1.0}


@dataclass(frozen=True)
class Footer:
    """A Parquet file's footer: its digest and what it says."""

    sha256: str
    metadata: pq.FileMetaData
    raw: bytes

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
    """Read the footer of a Parquet file.

    Raises:
        EcgRejected: `truncated` or `unreadable`, the file is no intact Parquet file.
    """
    with storage.open(uri) as stream:
        if stream.size() < 12:
            raise EcgRejected(RejectReason.TRUNCATED, f"file has {stream.size()} bytes, too few for Parquet")
        stream.seek(-8, io.SEEK_END)
        tail = stream.read(8)
        n_bytes = int.from_bytes(tail[:4], "little")
        if tail[4:] != b"PAR1" or n_bytes + 8 > min(stream.size(), _MAX_FOOTER_BYTES):
            raise EcgRejected(
                RejectReason.TRUNCATED, "file does not end as a Parquet file does; was it written or copied completely?"
            )
        stream.seek(-8 - n_bytes, io.SEEK_END)
        footer = stream.read(n_bytes)
    try:
        raw = b"PAR1" + footer + tail
        metadata = pq.read_metadata(io.BytesIO(raw))
        metadata.schema.to_arrow_schema()
    except DAMAGE as error:
        raise EcgRejected(RejectReason.UNREADABLE, f"Parquet footer cannot be decoded ({_cause(error)})") from error
    return Footer(hashlib.sha256(footer + tail).hexdigest(), metadata, raw)


def open_parquet(stream: RetryingFile, metadata: Any = None, buffer_size: int = 0) -> Any:
    """Open a Parquet file over a stream of ours, verifying page checksums.

    Nothing is read ahead: Arrow's own threads would hold the Python stream beyond the end of the
    interpreter, and abort it. For the same reason every read says `use_threads=False`.
    """
    return pq.ParquetFile(
        stream, metadata=metadata, buffer_size=buffer_size, pre_buffer=False, page_checksum_verification=True
    )


def read_table(storage: Storage, uri: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file, or some of its columns, in the order of the file."""
    with storage.open(uri) as stream:
        wanted = None if columns is None else list(columns)
        return open_parquet(stream).read(columns=wanted, use_threads=False)


def read_keys(storage: Storage, uri: str, columns: Sequence[str | None]) -> list[list[Any]]:
    """Return whole columns as lists, one value per row of the file.

    An absent column, or one that cannot be decoded in a row group, gives None there: the unit
    that reads the row group rejects the rows it cannot decode.
    """
    with storage.open(uri) as stream:
        file = open_parquet(stream)
        names = set(file.schema_arrow.names)
        found: list[list[Any]] = [[] for _ in columns]
        for group in range(file.metadata.num_row_groups):
            n_rows = file.metadata.row_group(group).num_rows
            for values, column in zip(found, columns, strict=True):
                values.extend(_key_values(file, group, column if column in names else None, n_rows))
    return found


def _key_values(file: Any, group: int, column: str | None, n_rows: int) -> list[Any]:
    if column is None:
        return [None] * n_rows
    try:
        table = file.read_row_group(group, columns=[column], use_threads=False)
        return list(table[column].to_pylist())
    except DAMAGE:
        return [None] * n_rows


class ParquetReader:
    """Reads spans of Parquet files into chunks.

    Args:
        storage: where the files are.
        layout: how to read them; None for the canonical ECG table.
        interpolate_missing_samples: longest gap of missing samples that is filled, with a layout;
            the canonical table has none.
    """

    def __init__(self, storage: Storage, layout: Layout | None, interpolate_missing_samples: int = 0) -> None:
        self._storage = storage
        self._layout = layout
        self._decode = _canonical_rows if layout is None else _LayoutDecoder(layout, interpolate_missing_samples)

    def read(self, piece: Piece, uri: str) -> Iterator[Chunk]:
        """Yield the rows of a span; damage becomes rejects that stand for the rows it took."""
        footer = read_footer(self._storage, uri)
        if footer.sha256 != piece.content_sha256:
            raise LvmError(f"{shown_path(piece.path)} changed since the run was planned, so it cannot be read for it")
        rows = footer.row_group_rows
        first_row = piece.first_row
        with self._storage.open(uri) as stream:
            for group in range(piece.row_group_start, piece.row_group_stop):
                yield from self._read_group(stream, footer, group, piece, first_row)
                first_row += rows[group]

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
                    batches, plain = self._plain_batches(stream, footer, group), True
                    continue
                lost = n_rows - done
                detail = f"row group {group} cannot be decoded ({_cause(error)})"
                reason = RejectReason.UNREADABLE.value
                reject = Reject(reason, detail, shown_path(piece.path), first_row + done, n_ecgs=lost)
                yield Chunk(rejects=[reject], n_read=lost)
                return
            yield self._chunk(batch, piece, first_row + done)
            done += batch.num_rows

    def _batches(self, stream: Any, footer: Footer, group: int, metadata: pq.FileMetaData) -> Iterator[pa.RecordBatch]:
        large = footer.row_group_rows[group] > MAX_ROW_GROUP_ROWS
        file = open_parquet(stream, metadata, _STREAM_BUFFER_BYTES if large else 0)
        columns = self._columns(footer.schema)
        yield from file.iter_batches(READ_ROWS, [group], columns, use_threads=False)

    def _plain_batches(self, stream: Any, footer: Footer, group: int) -> Iterator[pa.RecordBatch]:
        return self._batches(stream, footer, group, footer.with_plain_lists())

    def _columns(self, schema: pa.Schema) -> list[str]:
        if self._layout is not None:
            wanted = (*self._layout.needed_columns, *self._layout.optional_columns)
            return [name for name in wanted if name in schema.names]
        return [name for name in schemas.ECGS.names if name in schema.names]

    def _chunk(self, batch: pa.RecordBatch, piece: Piece, first_row: int) -> Chunk:
        duplicates = set(piece.duplicate_rows)
        chunk = Chunk(n_read=batch.num_rows)
        decoded = self._decode(batch, shown_path(piece.path), first_row)
        for row, result in enumerate(decoded, start=first_row):
            if row in duplicates:
                chunk.rejects.append(_duplicate(result, shown_path(piece.path), row))
            elif isinstance(result, EcgRow):
                chunk.rows.append(result)
            else:
                chunk.rejects.append(result)
        return chunk


DUPLICATE_DETAIL: Final = "ecg_id occurs earlier in the inputs; the first recording is kept"


def _duplicate(result: EcgRow | Reject, path: str, row: int) -> Reject:
    return Reject(
        RejectReason.DUPLICATE_ECG_ID.value, DUPLICATE_DETAIL, path, row, result.ecg_id, result.participant_id
    )


@dataclass(frozen=True)
class _Keys:
    """Keys and remarks of the rows of a batch."""

    ecg_id: list[str | None]
    participant_id: list[str | None]
    recorded_at: list[dt.datetime | None]
    amplitudes: NDArray[np.float64]
    measured_by: list[str | None]
    problem: list[EcgRejected | None]


def _keys(batch: pa.RecordBatch, name_of: Callable[[str], str | None]) -> _Keys:
    n = batch.num_rows

    def column(name: str) -> list[Any]:
        source = name_of(name)
        return [None] * n if source is None else batch.column(source).to_pylist()

    amplitudes = np.full((n, len(AMPLITUDES)), np.nan)
    for i, name in enumerate(AMPLITUDES):
        source = name_of(name)
        if source is not None:
            values = pc.cast(batch.column(source), pa.float64())
            amplitudes[:, i] = _magnitudes(name, np.asarray(pc.fill_null(values, np.nan)))
    times: list[dt.datetime | None] = []
    problems: list[EcgRejected | None] = []
    for value in column("recorded_at"):
        time, problem = local_time(value)
        times.append(time)
        problems.append(problem)
    return _Keys(
        [key_text(v) for v in column("ecg_id")],
        [key_text(v) for v in column("participant_id")],
        times,
        amplitudes,
        [key_text(v) for v in column("measured_by")],
        problems,
    )


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
    """Read a stored time as local (a zone is dropped, not converted), or say why it is none."""
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


def signal_durations(
    storage: Storage, uri: str, row_group: int, layout: Layout, n_rows: int = 10
) -> list[tuple[int, float]]:
    """Return the number of samples of a lead and the rate, hertz, of some rows of a row group.

    Rows that cannot be read are left out: scoring rejects them.
    """
    signal = layout.signal
    rate = signal.sampling_rate_hz
    columns = [signal.signal_columns[0], *([rate] if isinstance(rate, str) else [])]
    n_leads = 1 if signal.columns is not None else len(signal.lead_names)
    found = []
    try:
        with storage.open(uri) as stream:
            batches = open_parquet(stream).iter_batches(
                n_rows, [row_group], list(dict.fromkeys(columns)), use_threads=False
            )
            batch = next(batches, None)
    except DAMAGE:
        return []
    if batch is None:
        return []
    for i in range(batch.num_rows):
        rate_hz = batch.column(rate)[i].as_py() if isinstance(rate, str) else rate
        try:
            n_samples = len(_flat(batch.column(columns[0]), i, columns[0])) // n_leads
        except EcgRejected:
            continue
        if rate_hz is not None and np.isfinite(rate_hz) and rate_hz > 0:
            found.append((n_samples, float(rate_hz)))
    return found


def _no_id(path: str, row: int) -> Reject:
    return Reject(RejectReason.UNREADABLE.value, "ecg_id is null or empty", path, row)


def _canonical_rows(batch: pa.RecordBatch, path: str, first_row: int) -> Iterator[EcgRow | Reject]:
    names = set(batch.schema.names)
    keys = _keys(batch, lambda name: name if name in names else None)
    flags = batch.column("quality_flags").to_pylist() if "quality_flags" in names else []
    steps = np.asarray(pc.fill_null(pc.cast(batch.column("uv_per_count"), pa.float32()), np.nan), np.float32)
    counts, problems = _lead_counts(batch)
    for i, ecg_id in enumerate(keys.ecg_id):
        if ecg_id is None:
            yield _no_id(path, first_row + i)
        elif (problem := keys.problem[i] or problems[i]) is not None:
            person = keys.participant_id[i]
            yield reject_of(problem, path, row=first_row + i, ecg_id=ecg_id, participant_id=person)
        else:
            yield EcgRow(
                ecg_id,
                counts[i],
                float(steps[i]),
                path,
                first_row + i,
                keys.participant_id[i],
                keys.recorded_at[i],
                tuple(keys.amplitudes[i]),
                keys.measured_by[i],
                tuple(flags[i] or ()) if flags else (),
            )


def _lead_counts(batch: pa.RecordBatch) -> tuple[NDArray[np.int16], list[EcgRejected | None]]:
    """Return (n, 12, 5000) counts and, for each row, why it has none."""
    n = batch.num_rows
    counts = np.empty((n, len(LEADS_12), schemas.N_SAMPLES), dtype=np.int16)
    problems: list[EcgRejected | None] = [None] * n
    for k, lead in enumerate(LEADS_12):
        column = batch.column(lead)
        kind = column.type
        if column.null_count == 0 and pa.types.is_fixed_size_list(kind):
            values = column.flatten()
            if kind.list_size == schemas.N_SAMPLES and values.null_count == 0:
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


class _LayoutDecoder:
    """Turns rows of other people's Parquet into canonical ECGs."""

    def __init__(self, layout: Layout, interpolate_missing_samples: int) -> None:
        self._layout = layout
        self._interpolate_missing_samples = interpolate_missing_samples
        self._names = layout.names

    def __call__(self, batch: pa.RecordBatch, path: str, first_row: int) -> Iterator[EcgRow | Reject]:
        there = set(batch.schema.names)
        keys = _keys(batch, lambda name: n if (n := self._names.get(name)) in there else None)
        for i, ecg_id in enumerate(keys.ecg_id):
            row = first_row + i
            person = keys.participant_id[i]
            if ecg_id is None:
                yield _no_id(path, row)
                continue
            try:
                if (problem := keys.problem[i]) is not None:
                    raise problem
                ecg = self._ecg(batch, i, keys)
                ecg = interpolate_missing(ecg, self._interpolate_missing_samples)
                yield row_of(ecg, canonicalise(ecg), ecg_id=ecg_id, participant_id=person, source_uri=path, row=row)
            except EcgRejected as error:
                yield reject_of(error, path, row=row, ecg_id=ecg_id, participant_id=person)

    def _ecg(self, batch: pa.RecordBatch, i: int, keys: _Keys) -> Ecg:
        signal = self._layout.signal
        uv_per_count = self._row_value(batch, i, signal.uv_per_count, RejectReason.UNKNOWN_UNIT)
        rate_hz = self._row_value(batch, i, signal.sampling_rate_hz, RejectReason.UNSUPPORTED_RATE)
        factor = _UV_PER_UNIT.get(signal.unit, uv_per_count)
        samples = self._samples(batch, i)
        leads_uv: dict[str, NDArray[np.floating]] = {lead: values * factor for lead, values in samples.items()}
        derived = any(lead not in leads_uv for lead in DERIVED_FROM_I_AND_II)
        if derived:
            leads_uv = {**derive_limb_leads(leads_uv["I"], leads_uv["II"]), **leads_uv}
        amplitudes = {
            name: None if np.isnan(value) else float(value)
            for name, value in zip(AMPLITUDES, keys.amplitudes[i], strict=True)
        }
        return Ecg(
            leads_uv=np.stack([leads_uv[lead] for lead in LEADS_12], axis=1).astype(np.float32),
            sampling_rate_hz=rate_hz,
            step_uv=uv_per_count if signal.unit == "counts" else FINEST_STEP_UV,
            source_format="parquet",
            leads_derived=derived,
            recorded_at=keys.recorded_at[i],
            measurements=Measurements(**amplitudes, measured_by=keys.measured_by[i]),
        )

    def _row_value(self, batch: pa.RecordBatch, i: int, value: float | str | None, reason: RejectReason) -> float:
        if value is None:
            return float("nan")
        number = batch.column(value)[i].as_py() if isinstance(value, str) else value
        if number is None or not (np.isfinite(number) and number > 0):
            raise EcgRejected(reason, f"column {value} holds {number}, expected a value above 0")
        return float(number)

    def _samples(self, batch: pa.RecordBatch, i: int) -> dict[str, NDArray[np.float64]]:
        signal = self._layout.signal
        if signal.columns is not None:
            samples = {lead: _flat(batch.column(name), i, name) for lead, name in signal.columns.items()}
            lengths = {lead: len(values) for lead, values in samples.items()}
            if len(set(lengths.values())) > 1:
                raise EcgRejected(RejectReason.TRUNCATED, f"leads have different numbers of samples: {lengths}")
            return samples
        assert signal.column is not None
        flat = _flat(batch.column(signal.column), i, signal.column)
        n_leads = len(signal.lead_names)
        if len(flat) % n_leads:
            raise EcgRejected(
                RejectReason.TRUNCATED,
                f"column {signal.column} has {len(flat)} values, which {n_leads} leads of equal length do not give",
            )
        lead_major = signal.order == "lead_major"
        grid = flat.reshape(n_leads, -1) if lead_major else flat.reshape(-1, n_leads).T
        return dict(zip(signal.lead_names, grid, strict=True))


def _flat(column: pa.Array, i: int, name: str) -> NDArray[np.float64]:
    """Return the numbers of one cell, lists of lists flattened; a null sample is NaN."""
    values = column[i].values if column[i].is_valid else None
    while values is not None and hasattr(values.type, "value_type"):
        values = values.flatten()
    if values is None or len(values) == 0:
        raise EcgRejected(RejectReason.MISSING_LEAD, f"column {name} is null or empty")
    return np.asarray(pc.fill_null(pc.cast(values, pa.float64()), np.nan))


class _EndsEarly(pa.ArrowInvalid):
    """A row group ends before its last row; the text holds numbers only."""


def _cause(error: BaseException) -> str:
    """Return what a message says of an error; the texts of Arrow may quote a value of the file."""
    if isinstance(error, _EndsEarly):
        return str(error)
    is_checksum = "checksum" in str(error).lower()
    return "a page checksum is wrong" if is_checksum else type(error).__name__


def column_problems(schema: pa.Schema, layout: Layout | None) -> tuple[RejectReason, str] | None:
    """Return why a file's columns cannot be read, or None when they can."""
    needed = schemas.ECG_REQUIRED if layout is None else layout.needed_columns
    leads = LEADS_12 if layout is None else layout.signal.signal_columns
    twice = [name for name in (*needed, *optional_columns(layout)) if schema.names.count(name) > 1]
    if twice:
        reason = RejectReason.MISSING_LEAD if set(twice) & set(leads) else RejectReason.UNREADABLE
        return reason, (
            f"columns occur more than once: {', '.join(twice)}; expected each once, rename or remove the others"
        )
    missing = [name for name in needed if name not in schema.names]
    wrong = [
        f"{name} (is {schema.field(name).type}, expected {expected})"
        for name, fits, expected in _expected_types(layout)
        if name in schema.names and not fits(schema.field(name).type)
    ]
    if not missing and not wrong:
        return None
    lead_problem = any(text.split(" ")[0] in leads for text in (*missing, *wrong))
    reason = RejectReason.MISSING_LEAD if lead_problem else RejectReason.UNREADABLE
    parts = [f"columns are missing: {', '.join(missing)}"] if missing else []
    parts += [f"columns of another type: {', '.join(wrong)}"] if wrong else []
    return reason, "; ".join(parts)


def optional_columns(layout: Layout | None) -> tuple[str, ...]:
    """Return the columns whose values are null in a file that lacks them."""
    if layout is not None:
        return layout.optional_columns
    return ("participant_id", "recorded_at", *AMPLITUDES, "measured_by", "quality_flags")


def _expected_types(layout: Layout | None) -> Iterator[tuple[str, Callable[[pa.DataType], bool], str]]:
    """Yield (column, whether a type fits, what fits in words) of every column with a meaning."""
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


def _is_key(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return bool(text or pa.types.is_string_view(kind) or pa.types.is_integer(kind))


def _is_time(kind: pa.DataType) -> bool:
    zone_free = pa.types.is_timestamp(kind) or pa.types.is_date(kind)
    return bool(zone_free or pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _is_number_list(kind: pa.DataType) -> bool:
    while _is_list(kind):
        kind = kind.value_type
        if _is_number(kind):
            return True
    return False


def _is_int16_list(kind: pa.DataType) -> bool:
    return _is_list(kind) and bool(kind.value_type == pa.int16())
