"""Reading ECGs out of arrays, through a layout: HDF5, NumPy (.npy, .npz) and MATLAB files."""

from __future__ import annotations

import hashlib
import io
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import h5py
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from beam_jobs.reading.blocks import Chunk, Reject
from beam_jobs.reading.hdf5_chunks import MOST_UNPACKED_BYTES, Chunks
from beam_jobs.reading.layout import Layout
from beam_jobs.reading.mat_file import MatFile, unpacks_too_much
from beam_jobs.reading.parquet_input import (
    DURATIONS_ROWS,
    ParquetReader,
    column_problems,
    durations_of,
    ecg_of_samples,
    key_text,
)
from beam_jobs.reading.storage import RetryingFile, Storage
from beam_jobs.reading.units import Piece
from lvm_core.errors import EcgRejected, LvmError, RejectReason
from lvm_core.signal.canonical import without_filling
from lvm_core.signal.ecg import Ecg

T = TypeVar("T")

ARRAY_SUFFIXES: Final = (".h5", ".hdf5", ".npy", ".npz", ".mat")
STACK_SUFFIXES: Final = (".h5", ".hdf5")
"""Of files that may hold many ECGs, which are read one after the other."""

_READ_ROWS: Final = 32
# An ECG of 10 s at 2000 Hz with 12 leads has 240,000 samples.
_MAX_SAMPLES: Final = 4_000_000  # of one ECG, all leads
_MAX_ECGS: Final = 10_000_000  # of one file
_WIDEST_VALUE_BYTES: Final = 1000
_MOST_MEMBERS: Final = 1000  # of a .npz file; each takes zipfile 6 microseconds before any is read
_ENTRY_OF_ZIP: Final = b"PK\x01\x02"  # begins the entry of each member in its directory
# What h5py, numpy and zipfile raise for damaged files.
_DAMAGE: Final = (OSError, ValueError, TypeError, KeyError, IndexError, RuntimeError, OverflowError, EOFError)
_DAMAGE_IN_MEMORY: Final = (
    *_DAMAGE,
    zipfile.BadZipFile,
    zlib.error,
    MemoryError,
    AttributeError,
    SyntaxError,  # the header of a .npy file is a line of Python
    tokenize.TokenError,
    struct.error,
)


def is_array_file(path: str) -> bool:
    """Return whether a path has the suffix of an array file."""
    return path.lower().endswith(ARRAY_SUFFIXES)


def is_stack(path: str) -> bool:
    """Return whether a path has the suffix of an array file that may hold many ECGs."""
    return path.lower().endswith(STACK_SUFFIXES)


# Files of one recording


def read_array_file(data: bytes, layout: Layout) -> Ecg:
    """Return the recording of a file, whose kind its content shows; `layout` says what it holds.

    Raises:
        EcgRejected: `not_an_ecg` for another kind of file, `missing_lead` where the array is
            absent or has another shape, `unknown_unit` and `unsupported_rate` where the file states
            no scale or rate above 0, `truncated` where zeros are all there is, else `unreadable`.
    """
    signal = layout.signal
    assert signal.array is not None
    arrays = _arrays_of(data)
    samples = _two_dimensional(arrays.get(signal.array))
    rate_hz = _stated(arrays, signal.sampling_rate_hz, RejectReason.UNSUPPORTED_RATE)
    uv_per_count = _stated(arrays, signal.uv_per_count, RejectReason.UNKNOWN_UNIT)
    grid = samples if signal.order == "sample_major" else samples.T
    n_leads = len(signal.lead_names)
    if grid.shape[1] != n_leads:
        raise EcgRejected(
            RejectReason.MISSING_LEAD,
            f"array is {samples.shape[0]} x {samples.shape[1]}; expected {n_leads} leads in the order "
            f"{signal.order} of the layout",
        )
    leads = dict(zip(signal.lead_names, grid.T, strict=True))
    return without_filling(ecg_of_samples(leads, signal, uv_per_count, rate_hz))


def _two_dimensional(array: NDArray[Any]) -> NDArray[Any]:
    """Return (a, b) numbers; axes of length 1 around them are dropped."""
    if array.dtype.kind not in "iuf":
        raise EcgRejected(RejectReason.UNREADABLE, "array of the layout holds no numbers")
    if array.size > _MAX_SAMPLES:
        raise _too_large(array.size)
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2 or not array.size:
        shape = " x ".join(map(str, array.shape))
        raise EcgRejected(
            RejectReason.MISSING_LEAD,
            f"array is {shape or 'one number'}; expected samples x leads of one recording. Files of many ECGs are "
            "read as HDF5, with ecg_id in the layout",
        )
    return array


def _too_large(n_samples: int) -> EcgRejected:
    return EcgRejected(
        RejectReason.UNREADABLE,
        f"an ECG of the array has {n_samples} samples in all leads, the limit is {_MAX_SAMPLES}; "
        "expected a resting ECG of 10 s",
    )


def _stated(arrays: _Arrays, value: float | str | None, reason: RejectReason) -> float:
    if value is None or not isinstance(value, str):
        return float("nan") if value is None else float(value)
    found = arrays.get(value)
    number = float(found.reshape(-1)[0]) if found.size == 1 and found.dtype.kind in "iuf" else float("nan")
    if not (np.isfinite(number) and number > 0):
        raise EcgRejected(reason, f"array {value} of the layout holds no number above 0; expected one number")
    return number


@dataclass(frozen=True)
class _Arrays:
    """The arrays of a file by name."""

    find: Callable[[str], Any]

    def get(self, name: str) -> NDArray[Any]:
        """Return an array; reject a file that lacks it or is damaged."""
        try:
            found = self.find(name)
        except EcgRejected:
            raise
        except _DAMAGE_IN_MEMORY as error:
            raise EcgRejected(
                RejectReason.UNREADABLE, f"array {name} cannot be decoded ({type(error).__name__}); copy the file again"
            ) from error
        if not isinstance(found, np.ndarray):
            raise EcgRejected(RejectReason.MISSING_LEAD, f"file holds no array {name}; correct the name in the layout")
        return found


def _arrays_of(data: bytes) -> _Arrays:
    """Return the arrays of a file by its first bytes."""
    if data[:6] == b"\x93NUMPY":
        return _Arrays(lambda name: _npy(io.BytesIO(data)))
    if data[:4] == b"PK\x03\x04":
        return _Arrays(lambda name: _npz(data, name))
    if data[:4] == b"\x89HDF":
        return _Arrays(lambda name: _one_of_hdf5(data, name))
    if data[:10] == b"MATLAB 5.0":
        return _Arrays(MatFile(data, MOST_UNPACKED_BYTES).array)
    if not data:
        raise EcgRejected(RejectReason.TRUNCATED, "file is empty, 0 bytes; copy it again")
    if data[:10] == b"MATLAB 7.3":
        raise EcgRejected(RejectReason.NOT_AN_ECG, "file is MATLAB 7.3, which is not read; save it with -v7")
    raise EcgRejected(RejectReason.NOT_AN_ECG, "file is none of HDF5, .npy, .npz and MATLAB 5, which the layout is for")


def _npy(stream: Any) -> NDArray[Any]:
    """Return the array of a .npy file; nothing in it is executed."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, in_columns, dtype = read(stream)
    n_samples = int(np.prod([int(n) for n in shape], dtype=object))
    if dtype.hasobject or dtype.kind not in "iuf":
        raise EcgRejected(RejectReason.UNREADABLE, "array of the layout holds no numbers")
    if not 0 <= n_samples <= _MAX_SAMPLES:
        raise _too_large(n_samples)
    raw = stream.read(n_samples * dtype.itemsize)
    flat = np.frombuffer(raw, dtype=dtype, count=n_samples)
    return flat.reshape(shape, order="F" if in_columns else "C")


def _npz(data: bytes, name: str) -> NDArray[Any] | None:
    if data.count(_ENTRY_OF_ZIP) > _MOST_MEMBERS:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"file holds more than {_MOST_MEMBERS} arrays, the limit; expected those of one resting ECG",
        )
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        member = f"{name}.npy"
        if member not in packed.namelist():
            return None
        if packed.getinfo(member).file_size > MOST_UNPACKED_BYTES:
            raise unpacks_too_much(MOST_UNPACKED_BYTES)
        with packed.open(member) as stream:
            return _npy(stream)


# HDF5


def _one_of_hdf5(data: bytes, name: str) -> NDArray[Any] | None:
    with h5py.File(io.BytesIO(data), "r") as file:
        dataset = _dataset(file, name)
        if dataset is None:
            return None
        if int(np.prod(dataset.shape, dtype=object)) > _MAX_SAMPLES:
            raise _too_large(int(np.prod(dataset.shape, dtype=object)))
        Chunks(dataset).check(0, dataset.shape[0] if dataset.shape else 1)
        return np.asarray(dataset[()])


def _dataset(file: Any, name: str) -> Any:
    """Return a dataset of numbers or texts that lies in the file itself, or None when absent.

    Links to other files and data outside are never followed.
    """
    place: Any = file
    for part in name.split("/"):
        if not isinstance(place, h5py.Group) or not isinstance(place.get(part, getlink=True), h5py.HardLink):
            return None
        place = place[part]
    if not isinstance(place, h5py.Dataset) or place.shape is None:
        return None
    if place.external or place.is_virtual:
        raise EcgRejected(RejectReason.UNREADABLE, f"array {name} lies in another file, which is never followed")
    if place.dtype.itemsize > _WIDEST_VALUE_BYTES:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"array {name} has values of {place.dtype.itemsize} bytes, the limit is {_WIDEST_VALUE_BYTES}; "
            "expected numbers or names",
        )
    chunk = place.chunks or ()
    if int(np.prod(chunk, dtype=object)) * place.dtype.itemsize > MOST_UNPACKED_BYTES:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"array {name} is cut into parts of more than {MOST_UNPACKED_BYTES} bytes; write it with smaller chunks",
        )
    return place


class _Watched(io.RawIOBase):
    """A stream whose own faults are kept: HDF5 turns them into faults of the file."""

    def __init__(self, stream: RetryingFile) -> None:
        super().__init__()
        self._stream = stream
        self.fault: LvmError | None = None

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        try:
            return self._stream.readinto(buffer)
        except LvmError as error:
            self.fault = error
            raise

    def fault_or_damage(self, error: BaseException) -> LvmError:
        """Return what an error of HDF5 stands for: a fault of the storage, or damage."""
        detail = f"HDF5 file cannot be decoded ({type(error).__name__}); copy it again"
        return self.fault or EcgRejected(RejectReason.UNREADABLE, detail)


@dataclass(frozen=True)
class Stack:
    """An open HDF5 file of many ECGs; what is damaged in it is `unreadable`."""

    file: Any
    layout: Layout
    size: int  # of the file, bytes
    stream: _Watched
    chunks: dict[str, Chunks] = field(default_factory=dict)  # by dataset, of those read so far

    def problem(self) -> tuple[RejectReason, str] | None:
        """Return why the file cannot be read through the layout, or None."""
        return self._read(self._problem)

    @property
    def names(self) -> list[str]:
        """Datasets of the layout that the file has."""
        wanted = (*self.layout.needed_columns, *self.layout.optional_columns)
        return self._read(lambda: [name for name in wanted if _dataset(self.file, name) is not None])

    @property
    def n_ecgs(self) -> int:
        """Number of ECGs."""
        return int(self._read(lambda: _dataset(self.file, self._array).shape[0]))

    def keys(self, name: str | None) -> list[Any]:
        """Return a column as a list, one value per ECG; None for each where it is absent."""
        if name is None or name not in self.names:
            return [None] * self.n_ecgs
        return self._read(lambda: _plain(self._rows(name, 0, self.n_ecgs)))

    def sha256(self) -> str:
        """Return the digest of keys and shapes, by which the file is known again."""
        shapes = self._read(lambda: [(name, _dataset(self.file, name).shape) for name in self.names])
        text = f"{self.size} {shapes} {self.keys(self.layout.ecg_id)}"
        return hashlib.sha256(text.encode()).hexdigest()

    def batch(self, start: int, stop: int) -> pa.RecordBatch:
        """Return ECGs as a table, samples of each flattened."""
        return self._read(lambda: self._batch(start, stop))

    @property
    def _array(self) -> str:
        assert self.layout.signal.array is not None
        return self.layout.signal.array

    def _read(self, what: Callable[[], T]) -> T:
        try:
            return what()
        except _DAMAGE as error:
            raise self.stream.fault_or_damage(error) from error

    def _problem(self) -> tuple[RejectReason, str] | None:
        found = {name: _dataset(self.file, name) for name in self.names}
        fields = [(name, _arrow_type(one.dtype, is_list=name == self._array)) for name, one in found.items()]
        unfit = column_problems(pa.schema(fields), self.layout)
        if unfit is not None:
            return unfit
        shape, n_leads = found[self._array].shape, len(self.layout.signal.lead_names)
        lead_axis = 2 if self.layout.signal.order == "sample_major" else 1
        if len(shape) != 3 or shape[lead_axis] != n_leads or not 0 < shape[1] * shape[2] <= _MAX_SAMPLES:
            listed = " x ".join(map(str, shape))
            wanted = f"samples x {n_leads} leads" if lead_axis == 2 else f"{n_leads} leads x samples"
            return (
                RejectReason.MISSING_LEAD,
                f"columns of another shape: {self._array} is {listed}, expected ECGs x {wanted}",
            )
        other = [name for name, one in found.items() if name != self._array and one.shape != shape[:1]]
        if other or shape[0] > _MAX_ECGS:
            listed = ", ".join(other) or self._array
            return (
                RejectReason.UNREADABLE,
                f"columns of another shape: {listed}, expected one value for each of {shape[0]} ECGs, "
                f"at most {_MAX_ECGS}",
            )
        return None

    def _rows(self, name: str, start: int, stop: int) -> NDArray[Any]:
        dataset = _dataset(self.file, name)
        if name not in self.chunks:
            self.chunks[name] = Chunks(dataset)
        self.chunks[name].check(start, stop)
        return np.asarray(dataset[start:stop])

    def _batch(self, start: int, stop: int) -> pa.RecordBatch:
        columns: dict[str, pa.Array] = {}
        for name in self.names:
            values = self._rows(name, start, stop)
            if name == self._array:
                flat = pa.array(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("=")).reshape(-1))
                columns[name] = pa.FixedSizeListArray.from_arrays(flat, len(flat) // (stop - start))
            else:
                columns[name] = pa.array(_plain(values))
        return pa.RecordBatch.from_pydict(columns)


def _arrow_type(dtype: np.dtype[Any], *, is_list: bool) -> pa.DataType:
    if dtype.kind in "iuf":
        number = pa.from_numpy_dtype(dtype.newbyteorder("="))
        return pa.list_(number) if is_list else number
    return pa.string() if dtype.kind in "SO" else pa.binary()


def _plain(values: NDArray[Any]) -> list[Any]:
    """Return values as Python's own; bytes as text."""
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in values.tolist()]


@contextmanager
def open_stack(storage: Storage, uri: str, layout: Layout) -> Iterator[Stack]:
    """Open an HDF5 file of many ECGs; `unreadable` rejects a damaged one."""
    with storage.open(uri) as stream:
        watched = _Watched(stream)
        try:
            file = h5py.File(watched, "r")
        except _DAMAGE as error:
            raise watched.fault_or_damage(error) from error
        with file:
            yield Stack(file, layout, stream.size(), watched)


def read_stack(rows: ParquetReader, piece: Piece, uri: str) -> Iterator[Chunk]:
    """Yield the ECGs of a span; each ECG in a damaged part is a reject of its own."""
    assert rows.layout is not None
    stop = piece.first_row + (piece.n_ecgs or 0)
    with open_stack(rows.storage, uri, rows.layout) as stack:
        if stack.problem() is not None or not rows.is_planned(piece, stack.sha256()):
            raise LvmError(f"{piece.shown} changed since the run was planned, so it cannot be read for it")
        for start in range(piece.first_row, stop, _READ_ROWS):
            try:
                yield rows.chunk(stack.batch(start, min(stop, start + _READ_ROWS)), piece, start)
            except EcgRejected:
                for row in range(start, min(stop, start + _READ_ROWS)):
                    yield _one_row(rows, stack, piece, row)


def _one_row(rows: ParquetReader, stack: Stack, piece: Piece, row: int) -> Chunk:
    try:
        return rows.chunk(stack.batch(row, row + 1), piece, row)
    except EcgRejected as damage:
        if row in piece.unlisted_rows:
            return Chunk()
        ecg_id = key_text(stack.keys(stack.layout.ecg_id)[row])
        reject = Reject(damage.reason.value, damage.message, piece.shown, row, ecg_id)
        return Chunk(rejects=[reject], n_read=1)


def stack_keys(storage: Storage, uri: str, layout: Layout, names: Sequence[str | None]) -> list[list[Any]]:
    """Return whole columns as lists, one value per ECG."""
    with open_stack(storage, uri, layout) as stack:
        return [stack.keys(name) for name in names]


def stack_durations(storage: Storage, uri: str, first_row: int, layout: Layout) -> list[tuple[int, float]]:
    """Return the number of samples of a lead and the rate, hertz, of ten ECGs.

    Filling counts as samples. What cannot be read is left out: scoring rejects it.
    """
    try:
        with open_stack(storage, uri, layout) as stack:
            return durations_of(stack.batch(first_row, min(stack.n_ecgs, first_row + DURATIONS_ROWS)), layout)
    except EcgRejected:
        return []
