"""Reading a unit: rows of Parquet, and raw records of loose files and archives, in stored form."""

from __future__ import annotations

import posixpath
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from beam_jobs.reading import archives
from beam_jobs.reading.array_input import is_array_file, is_stack, read_array_file, read_stack
from beam_jobs.reading.blocks import (
    Chunk,
    Reject,
    duplicate_reject,
    excluded_reject,
    reject_of,
    row_of,
    with_pseudonyms,
)
from beam_jobs.reading.index import RecordIndex
from beam_jobs.reading.layout import Layout
from beam_jobs.reading.local_files import shown_path
from beam_jobs.reading.parquet_input import ParquetReader
from beam_jobs.reading.storage import FileMissing, Storage, join
from beam_jobs.reading.units import Piece, Unit
from lvm_core.errors import EcgRejected, LvmError, RejectReason
from lvm_core.formats.registry import MAX_RECORD_BYTES, format_of, read_ecg
from lvm_core.pseudonyms import Pseudonyms
from lvm_core.signal.canonical import interpolate_missing
from lvm_core.signal.ecg import Ecg

_READ_AHEAD: Final = 8
_CHUNK_ROWS: Final = 32

Files = dict[str, bytes]


@dataclass(frozen=True)
class UnitReader:
    """Reads units into chunks of decoded ECGs and rejects."""

    storage: Storage  # where inputs are
    roots: tuple[str, ...]  # folders that the pieces' paths start from
    layout: Layout | None = None  # of other people's Parquet or arrays; None for the canonical table
    formats: tuple[str, ...] = ()  # raw formats to accept; empty for all
    id_from_header: bool = False  # take the person from a raw file's header where the path names none
    interpolate_missing_samples: int = 0  # longest gap of missing samples that is filled
    index: RecordIndex | None = None  # what the index of the archive says of its records, if there is one
    pseudonyms: Pseudonyms | None = None  # take the place of all identifiers
    keep_refused: bool = False  # rejects hold the recording where one was decoded, to be looked at

    @contextmanager
    def open(self, unit: Unit) -> Iterator[Iterator[Chunk]]:
        """Give the chunks of a unit; open files are closed afterwards."""
        with closing(self.chunks(unit)) as chunks:
            yield chunks

    def chunks(self, unit: Unit) -> Generator[Chunk, None, None]:
        """Yield the chunks of a unit in order."""
        try:
            for chunk in self._chunks(unit):
                hidden = chunk if self.pseudonyms is None else with_pseudonyms(chunk, self.pseudonyms)
                yield hidden if self.index is None else self.index.completed(hidden)
        except LvmError as error:
            if self.pseudonyms is None:
                raise
            raise type(error)(_without_paths(str(error), unit, self.roots)) from None

    def _chunks(self, unit: Unit) -> Iterator[Chunk]:
        gap, keep = self.interpolate_missing_samples, self.keep_refused
        parquet = ParquetReader(self.storage, self.layout, gap, keep, self.pseudonyms)
        for is_table, group in groupby(unit.pieces, key=lambda piece: piece.is_table):
            if not is_table:
                pieces = list(group)
                if not all(piece.path or piece.excluded or piece.reason for piece in pieces):
                    raise _path_removed(unit)
                yield from self._raw_chunks(pieces)
                continue
            for piece in group:
                if not piece.path:
                    raise _path_removed(unit)
                uri = join(self.roots[piece.root], piece.path)
                yield from read_stack(parquet, piece, uri) if is_stack(piece.path) else parquet.read(piece, uri)

    def _raw_chunks(self, pieces: Sequence[Piece]) -> Iterator[Chunk]:
        """Yield the records of consecutive pieces; an archive is read once for all its records."""
        chunk = Chunk()
        to_read = []
        for piece in pieces:
            reject = _planned_reject(piece)
            if reject is None:
                to_read.append(piece)
            else:
                chunk.rejects.append(reject)
                chunk.n_read += piece.weight
        for (number, archive), group in groupby(to_read, key=lambda piece: (piece.root, piece.archive)):
            root, records = self.roots[number], list(group)
            source = self._loose(records, root) if archive is None else self._packed(records, join(root, archive))
            for piece, files in source:
                self._add(chunk, piece, files)
                if chunk.n_read >= _CHUNK_ROWS:
                    yield chunk
                    chunk = Chunk()
        if chunk.n_read:
            yield chunk

    def _loose(self, pieces: Sequence[Piece], root: str) -> Iterator[tuple[Piece, Files]]:
        """Read the files of records a few ahead, because a store answers slowly."""
        waiting: deque[tuple[Piece, Future[Files]]] = deque()
        with ThreadPoolExecutor(_READ_AHEAD) as pool:
            for piece in pieces:
                waiting.append((piece, pool.submit(self._load, piece, root)))
                if len(waiting) >= _READ_AHEAD:
                    ready, future = waiting.popleft()
                    yield ready, future.result()
            for ready, future in waiting:
                yield ready, future.result()

    def _load(self, piece: Piece, root: str) -> Files:
        main = self._bytes(piece.path, root, MAX_RECORD_BYTES)
        files = {piece.path: main}
        left = MAX_RECORD_BYTES - len(main)
        kind = format_of(main) if piece.parts else None
        if kind is None or kind.part_names is None:
            return files
        wanted = {posixpath.basename(name) for name in kind.part_names(main)}
        # Headers of segments first: they name the signal files.
        for part in sorted(piece.parts, key=lambda path: not path.lower().endswith(kind.suffix)):
            if left >= 0 and posixpath.basename(part) in wanted:
                files[part] = self._bytes(part, root, left)
                left -= len(files[part])
                if part.lower().endswith(kind.suffix):
                    wanted.update(posixpath.basename(name) for name in kind.part_names(files[part]))
        return files

    def _bytes(self, path: str, root: str, limit_bytes: int) -> bytes:
        """Read a file, or one byte more than the limit: it may have grown since it was listed."""
        try:
            return self.storage.read_bytes(join(root, path), limit_bytes=limit_bytes)
        except FileMissing as error:
            raise LvmError(
                f"{shown_path(path)} was there when the run was planned and is gone now; put it "
                "back, or plan again with --overwrite"
            ) from error

    def _packed(self, pieces: Sequence[Piece], uri: str) -> Iterator[tuple[Piece, Files | EcgRejected]]:
        """Read an archive once, from its start; a record is ready when its last file is there."""
        missing: dict[str, set[str]] = {}
        owner: dict[str, Piece] = {}
        for piece in pieces:
            names = [piece.main_file, *piece.parts]
            missing[piece.path] = set(names)
            owner.update(dict.fromkeys(names, piece))
        held: dict[str, dict[str, bytes | EcgRejected]] = {path: {} for path in missing}
        for name, data in archives.read_members(self.storage, uri, owner.keys()):
            piece = owner[name]
            if piece.path not in missing:  # a name that the archive holds twice
                continue
            held[piece.path][name] = data
            missing[piece.path].discard(name)
            if not missing[piece.path]:
                del missing[piece.path]
                yield piece, _complete(held.pop(piece.path))
        for piece in pieces:
            if piece.path in missing:
                detail = f"archive breaks off before {len(missing[piece.path])} of the record's files"
                yield piece, EcgRejected(RejectReason.TRUNCATED, detail)

    def _add(self, chunk: Chunk, piece: Piece, files: Files | EcgRejected) -> None:
        """Decode a record and add its row or its reject to a chunk."""
        chunk.n_read += piece.weight
        assert piece.ecg_id is not None
        person, path = piece.participant_id, piece.shown
        try:
            if isinstance(files, EcgRejected):
                raise files
            if archives.is_single_packed(piece.main_file):
                files = {piece.main_file: archives.unpack_single(piece.main_file, files[piece.main_file])}
            ecg = interpolate_missing(self._decoded(files, piece.main_file), self.interpolate_missing_samples)
            if person is None and self.id_from_header:
                person = ecg.header_participant_id
            chunk.add(row_of(ecg, path, None, piece.ecg_id, person, keep_refused=self.keep_refused))
        except EcgRejected as error:
            chunk.rejects.append(reject_of(error, path, None, piece.ecg_id, person))

    def _decoded(self, files: Files, main: str) -> Ecg:
        if self.layout is not None and self.layout.is_of_arrays and is_array_file(archives.without_packing(main)):
            return read_array_file(files[main], self.layout)
        self._check_format(files[main])
        return read_ecg(files, main)

    def _check_format(self, main: bytes) -> None:
        found = format_of(main) if self.formats else None
        if found is not None and found.name not in self.formats:
            raise EcgRejected(
                RejectReason.NOT_AN_ECG, f"file is {found.name}, but --format asked for {', '.join(self.formats)}"
            )


def _path_removed(unit: Unit) -> LvmError:
    return LvmError(
        f"unit {unit.number} cannot be done again: the path of its input was removed, with a person who withdrew or "
        "because a run with pseudonyms was closed; start again with --overwrite"
    )


def _without_paths(message: str, unit: Unit, roots: Sequence[str]) -> str:
    """Return a message in which no path of the unit stands: it may identify a person."""
    for piece in unit.pieces:
        for path in filter(None, (piece.path, piece.archive, *piece.parts)):
            for text in (join(roots[piece.root], path), path):
                message = message.replace(text, piece.shown).replace(shown_path(text), piece.shown)
    return message


def _complete(held: dict[str, bytes | EcgRejected]) -> Files | EcgRejected:
    """Return a record's files, or the first refusal among them."""
    files: Files = {}
    for name, data in held.items():
        if isinstance(data, EcgRejected):
            return data
        files[name] = data
    return files


def _planned_reject(piece: Piece) -> Reject | None:
    """Return the reject of a record that planning decided on; None where it is to be read."""
    path = piece.shown or None
    if piece.excluded:
        return excluded_reject()
    if piece.reason is not None:
        return Reject(piece.reason, piece.detail, path, None, piece.ecg_id, piece.participant_id, piece.n_ecgs)
    if piece.duplicate_rows:
        return duplicate_reject(piece.shown, None, piece.ecg_id, piece.participant_id)
    return None
