"""The index of an archive against its files: which are listed, which are not, and what it adds."""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from beam_jobs.reading import archives
from beam_jobs.reading.blocks import QRS_DURATION, Chunk, EcgRow, Reject
from beam_jobs.reading.inputs import path_without_extension
from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.signal.ecg import NOTHING_STATED, RhythmCodes
from lvm_core.tables import Index

NOT_LISTED: Final = "not in the index"
NOT_LISTED_ROWS: Final = "of the ECGs in HDF5 not in the index"
"""Kinds of what is ignored: files, and ECGs in files of many."""

_DEVICE: Final = "device"
_MISSING: Final = EcgRejected(RejectReason.FILE_MISSING, "the index lists the record, and its file is not there")
_NO_PATH: Final = EcgRejected(RejectReason.FILE_MISSING, "the index lists the record without the path of its file")
_NO_ROW: Final = EcgRejected(
    RejectReason.FILE_MISSING, "the index lists the record, and the file that it names holds no ECG of this ecg_id"
)
_TWICE: Final = EcgRejected(
    RejectReason.DUPLICATE_ECG_ID, "the index lists this ecg_id in an earlier row, which was found"
)
_FILE_TWICE: Final = EcgRejected(
    RejectReason.DUPLICATE_ECG_ID, "the index lists the file of this record in an earlier row, under another ecg_id"
)
NO_KEY: Final = EcgRejected(RejectReason.UNREADABLE, "the index lists the file without an ecg_id")


class Unread(NamedTuple):
    """An input that cannot be read, so that nobody knows which ECGs it holds."""

    path: str  # as tables show it
    size: int  # bytes
    problem: EcgRejected
    is_archive: bool  # it may hold files of any path

    @property
    def is_inside(self) -> bool:
        """Whether it is itself in an archive."""
        return _member(self.path) is not None


class Absent(NamedTuple):
    """A row of the index that matches no file."""

    row: int  # of the index, from 0
    path: str  # as the index states it, of `unread` where that is there; empty where neither is
    problem: EcgRejected  # why it is rejected
    unread: Unread | None = None  # the input that would have held it


class IndexMatch:
    """Which rows of an index were found among the inputs; each is found once.

    Invariant: a row is either found, by a record or an ECG of HDF5, or among `absent()`.
    """

    def __init__(self, index: Index) -> None:
        self.index = index
        self.found = np.zeros(index.n_rows, dtype=np.bool_)
        self._ids = _array(index.table["ecg_id"])
        self._people = _array(index.table["participant_id"])
        self._paths = None if index.paths is None else self._cased(_array(index.paths))
        self._stacks: set[str] = set()
        self._turns = np.full(index.n_rows, -1, dtype=np.int64)  # of the rows that were found, in turn
        self.unread: list[Unread] = []

    def keys_of(self, rows: NDArray[np.int64]) -> Iterator[tuple[str | None, str | None]]:
        """Yield ecg_id and participant_id of rows, (n,) int64; None for both of a row -1."""
        places = pa.array(rows, mask=rows < 0)
        return zip(self._ids.take(places).to_pylist(), self._people.take(places).to_pylist(), strict=True)

    def rows_of(self, paths: Sequence[str], ecg_id_of: Callable[[str], str | None]) -> NDArray[np.int64]:
        """Return the row of each record, (n,) int64, -1 where the index does not list it.

        `paths` are as tables show them. `ecg_id_of` gives the key of a path where the index has no
        paths.
        """
        if self._paths is None:
            return self._used(_places(pa.array([ecg_id_of(path) for path in paths], pa.string()), self._ids))
        rows = np.full(len(paths), -1, dtype=np.int64)
        for form in _FORMS:
            left = np.flatnonzero(rows < 0)
            if not len(left):
                break
            tried = pa.array([form(paths[i]) for i in left.tolist()], pa.string())
            rows[left] = _places(self._cased(tried), self._paths)
        return self._used(rows)

    def rows_of_stack(self, path: str, ecg_ids: Sequence[str | None]) -> NDArray[np.int64]:
        """Return the row of each ECG of a file of many, (n,) int64, -1 where it is not listed."""
        ids = pa.array(ecg_ids, pa.string())
        if self._paths is None:
            return self._used(_places(ids, self._ids))
        forms = self._forms(path)
        self._stacks.update(forms.to_pylist())
        its = np.flatnonzero(self._is_among(forms))
        places = _places(ids, self._ids.take(pa.array(its)))
        return self._used(np.where(places >= 0, its[places], -1) if len(its) else places)

    def note_unread(self, one: Unread) -> None:
        """Note an input that cannot be read; its rows are absent for the same reason."""
        self.unread.append(one)

    def absent(self) -> Iterator[Absent]:
        """Yield the rows that were not found, in order."""
        rows = np.flatnonzero(~self.found)
        first_id = self._first_found(self._ids)
        first_path = first_id if self._paths is None else self._first_found(self._paths)
        unread = self._unread_of_rows()
        stated = self.index.paths
        for row in rows.tolist():
            path = None if stated is None else stated[row].as_py()
            if row in unread:
                yield Absent(row, unread[row].path, unread[row].problem, unread[row])
                continue
            if 0 <= first_id[row] < row:
                problem = _TWICE
            elif self._paths is not None and path is None:
                problem = _NO_PATH
            elif self._paths is not None and self._paths[row].as_py() in self._stacks:
                problem = _NO_ROW
            elif self._paths is not None and 0 <= first_path[row] < row:
                problem = _FILE_TWICE
            else:
                archive = next((one for one in self.unread if one.is_archive or self._paths is None), None)
                if archive is not None:  # the only place left where the record may be
                    yield Absent(row, archive.path, archive.problem, archive)
                    continue
                problem = _MISSING
            yield Absent(row, path or "", problem)

    def records(self) -> pa.Table:
        """Return the rows that were found as `RecordIndex` needs them, each ecg_id once.

        Of several rows it is the one that was found first: its ECG is the one that is kept.
        """
        rows = np.flatnonzero(self.found)
        rows = rows[np.argsort(self._turns[rows], kind="stable")]
        ids = self._ids.take(pa.array(rows))
        rows = np.sort(rows[_places(ids, ids) == np.arange(len(rows))])
        return self.index.table.take(pa.array(rows))

    def _first_found(self, values: pa.Array) -> NDArray[np.int64]:
        """Return for each row the first row of the same value that was found, -1 for none."""
        found = np.flatnonzero(self.found)
        places = _places(values, values.take(pa.array(found)))
        return np.where(places >= 0, found[places], -1) if len(found) else places

    def _unread_of_rows(self) -> dict[int, Unread]:
        """Return the unreadable input of each row that names it, alone or before a file inside."""
        found: dict[int, Unread] = {}
        for one in self.unread if self._paths is not None else ():
            its = self._is_among(self._forms(one.path))
            if one.is_archive:
                inside = self._cased(pa.array([f"{one.path}!"]))[0].as_py()
                its |= np.asarray(pc.fill_null(pc.starts_with(self._paths, inside), False))
            found |= dict.fromkeys(np.flatnonzero(its & ~self.found).tolist(), one)
        return found

    def _forms(self, path: str) -> pa.Array:
        forms = self._cased(pa.array([form(path) for form in _FORMS], pa.string()))
        return forms.drop_null()

    def _is_among(self, forms: pa.Array) -> NDArray[np.bool_]:
        """Return which rows state one of these paths."""
        return np.asarray(pc.fill_null(pc.is_in(self._paths, value_set=forms), False)).copy()

    def _cased(self, paths: pa.Array) -> pa.Array:
        return pc.utf8_lower(paths) if self.index.any_case else paths

    def _used(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Mark rows as found; one that is found already, or twice here, is -1 for the later."""
        first = np.zeros(len(rows), dtype=np.bool_)
        first[np.unique(rows, return_index=True)[1]] = True
        rows = np.where((rows >= 0) & first & ~self.found[rows], rows, -1) if len(self.found) else rows
        now = rows[rows >= 0]
        self._turns[now] = np.arange(len(now)) + np.count_nonzero(self.found)
        self.found[now] = True
        return rows


def _array(column: Any) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _places(values: pa.Array, among: pa.Array) -> NDArray[np.int64]:
    """Return where each value comes first in an array; -1 for null and where it is not there."""
    places = pc.index_in(values, value_set=among, skip_nulls=True)
    return np.asarray(pc.fill_null(places, -1)).astype(np.int64)


def _member(path: str) -> str | None:
    """Return the path of a record inside its archive; None for a loose file."""
    ends = [i for i, sign in enumerate(path) if sign == "!" and archives.is_archive(path[:i])]
    return path[ends[0] + 1 :] if ends else None


def _without_top(path: str) -> str | None:
    """Return the path inside an archive without its first folder, which often repeats its name."""
    member = _member(path)
    return None if member is None else member.partition("/")[2] or None


def _without_suffix(form: Callable[[str], str | None]) -> Callable[[str], str | None]:
    def shorter(path: str) -> str | None:
        found = form(path)
        return None if found is None else path_without_extension(found)

    return shorter


def _without_packing(path: str) -> str:
    return archives.without_packing(path)


# How the path of a record may stand in an index, the most exact first.
_FORMS: Final[tuple[Callable[[str], str | None], ...]] = (
    _without_packing,
    path_without_extension,
    _member,
    _without_suffix(_member),
    _without_top,
    _without_suffix(_without_top),
)


@dataclass(frozen=True)
class RecordIndex:
    """What an index says of the records of a run.

    `table` has the columns of `schemas.INDEX`, rows in the order of `ecg_id`, each once.
    """

    table: pa.Table

    @classmethod
    def of(cls, table: pa.Table) -> RecordIndex:
        """Return the index of a table whose `ecg_id` are there and differ."""
        return cls(table.sort_by("ecg_id").combine_chunks())

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def completed(self, chunk: Chunk) -> Chunk:
        """Return a chunk with what the index knows of its ECGs: person, time, QRS and rhythm.

        Person and time are those of the index, where it has them. A QRS duration and a rhythm are
        taken where the file has none.
        """
        rows = [self._row(row) for row in chunk.rows]
        return Chunk(rows, [self._reject(reject) for reject in chunk.rejects], chunk.n_read)

    def without(self, is_excluded: Callable[[str | None, str | None], bool]) -> RecordIndex:
        """Return the index without the records of excluded people."""
        ids, people = (self.table[name].to_pylist() for name in ("ecg_id", "participant_id"))
        kept = [not is_excluded(e, p) for e, p in zip(ids, people, strict=True)]
        return RecordIndex(self.table.filter(pa.array(kept, pa.bool_())).combine_chunks())

    def ecg_ids_of(self, is_excluded: Callable[[str | None], bool]) -> frozenset[str]:
        """Return the records of excluded people."""
        ids, people = (self.table[name].to_pylist() for name in ("ecg_id", "participant_id"))
        return frozenset(e for e, p in zip(ids, people, strict=True) if is_excluded(p))

    def known(
        self, ecg_id: str | None, person: str | None, time: dt.datetime | None
    ) -> tuple[str | None, dt.datetime | None]:
        """Return person and time of an ECG where the index has them, else those given."""
        place = self._place(ecg_id)
        if place is None:
            return person, time
        return self._value("participant_id", place) or person, self._value("recorded_at", place) or time

    def _place(self, ecg_id: str | None) -> int | None:
        """Return the row of a record; ids are in the order of bytes, which is that of text."""
        if ecg_id is None:
            return None
        column = self._columns["ecg_id"]
        place = bisect_left(range(len(column)), ecg_id, key=lambda i: column[i].as_py())
        return place if place < len(column) and column[place].as_py() == ecg_id else None

    def _value(self, name: str, place: int) -> Any:
        return self._columns[name][place].as_py()

    @cached_property
    def _columns(self) -> dict[str, pa.Array]:
        """The columns in one part each: to look into several parts takes ten times as long."""
        return {name: _array(self.table[name]) for name in self.table.column_names}

    def _row(self, row: EcgRow) -> EcgRow:
        place = self._place(row.ecg_id)
        if place is None:
            return row
        person, time = self.known(row.ecg_id, row.participant_id, row.recorded_at)
        changes: dict[str, Any] = {"participant_id": person, "recorded_at": time}
        qrs_ms = self._value("qrs_duration_ms", place)
        if qrs_ms is not None and np.isnan(row.amplitudes[QRS_DURATION]):
            amplitudes = list(row.amplitudes)
            amplitudes[QRS_DURATION] = qrs_ms
            changes |= {"amplitudes": tuple(amplitudes), "qrs_measured_by": _DEVICE}
        if row.rhythm == NOTHING_STATED:
            changes["rhythm"] = RhythmCodes(*(self._value(name, place) for name in RhythmCodes._fields))
        return replace(row, **changes)

    def _reject(self, reject: Reject) -> Reject:
        place = None if reject.participant_id is not None else self._place(reject.ecg_id)
        return reject if place is None else replace(reject, participant_id=self._value("participant_id", place))
