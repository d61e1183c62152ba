"""Reading raw records: loose files and archive members, decoded and brought to the stored form."""

from __future__ import annotations

import posixpath
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from beam_jobs.reading import archives
from beam_jobs.reading.blocks import Chunk, Reject, reject_of, row_of
from beam_jobs.reading.inputs import named_signal_files
from beam_jobs.reading.layout import Layout
from beam_jobs.reading.local_files import shown_path
from beam_jobs.reading.parquet_input import DUPLICATE_DETAIL, ParquetReader
from beam_jobs.reading.storage import FileMissing, Storage, join
from beam_jobs.reading.units import Piece, Unit
from lvm_core.errors import EcgRejected, LvmError, RejectReason
from lvm_core.formats.registry import MAX_RECORD_BYTES, read_ecg, sniff
from lvm_core.signal.canonical import canonicalise, interpolate_missing

_READ_AHEAD: Final = 8
_CHUNK_ROWS: Final = 32

Files = dict[str, bytes]


class RawReader:
    """Reads raw records of one unit into chunks.

    Args:
        storage: where the files are.
        formats: formats to accept; empty for all.
        id_from_header: take the person from the file's own header where the path gives none.
        interpolate_missing_samples: longest gap of missing samples that is filled.
    """

    def __init__(
        self, storage: Storage, formats: Sequence[str], *, id_from_header: bool, interpolate_missing_samples: int = 0
    ) -> None:
        self._storage = storage
        self._formats = tuple(formats)
        self._id_from_header = id_from_header
        self._interpolate_missing_samples = interpolate_missing_samples

    def read(self, pieces: Sequence[Piece], roots: Sequence[str]) -> Iterator[Chunk]:
        """Yield the records of consecutive pieces; pieces of one archive are read in one go."""
        chunk = Chunk()
        for piece in pieces:
            if _is_settled(piece):
                self._add(chunk, piece, {})
        to_read = [piece for piece in pieces if not _is_settled(piece)]
        for key, group in groupby(to_read, key=lambda piece: (piece.root, piece.archive)):
            root, archive = roots[key[0]], key[1]
            items = list(group)
            source = self._loose(items, root) if archive is None else self._packed(items, join(root, archive))
            for piece, files in source:
                self._add(chunk, piece, files)
                if chunk.n_read >= _CHUNK_ROWS:
                    yield chunk
                    chunk = Chunk()
        if chunk.n_read:
            yield chunk

    def _loose(self, pieces: Sequence[Piece], root: str) -> Iterator[tuple[Piece, Files | EcgRejected]]:
        """Read the files of records a few ahead, because a store answers slowly."""
        waiting: list[tuple[Piece, Future[Files]]] = []
        with ThreadPoolExecutor(_READ_AHEAD) as pool:
            for piece in pieces:
                waiting.append((piece, pool.submit(self._load, piece, root)))
                if len(waiting) >= _READ_AHEAD:
                    ready, future = waiting.pop(0)
                    yield ready, future.result()
            for ready, future in waiting:
                yield ready, future.result()

    def _load(self, piece: Piece, root: str) -> Files:
        main = self._read(piece.path, root, MAX_RECORD_BYTES)
        files = {piece.path: main}
        left = MAX_RECORD_BYTES - len(main)
        named = named_signal_files(main) if piece.parts and sniff(main) == "wfdb" else ()
        wanted = {posixpath.basename(name) for name in named}
        for part in piece.parts:
            if left >= 0 and posixpath.basename(part) in wanted:
                files[part] = self._read(part, root, left)
                left -= len(files[part])
        return files

    def _read(self, path: str, root: str, limit_bytes: int) -> bytes:
        """Read a file, or one byte more than the limit: it may have grown since it was listed."""
        try:
            return self._storage.read_bytes(join(root, path), limit_bytes=limit_bytes)
        except FileMissing as error:
            raise LvmError(
                f"{shown_path(path)} was there when the run was planned and is gone now; put it "
                "back, or plan anew with --overwrite"
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
        for name, data in archives.read_members(self._storage, uri, owner.keys()):
            piece = owner[name]
            if piece.path not in missing:  # a name that the archive holds twice
                continue
            held[piece.path][name] = data
            missing[piece.path].discard(name)
            if not missing[piece.path]:
                del missing[piece.path]
                yield piece, _complete(held.pop(piece.path))
        for path, lost in missing.items():
            piece = next(p for p in pieces if p.path == path)
            detail = f"archive breaks off before {len(lost)} of the record's files"
            yield piece, EcgRejected(RejectReason.TRUNCATED, detail)

    def _add(self, chunk: Chunk, piece: Piece, files: Files | EcgRejected) -> None:
        chunk.n_read += 1 if piece.n_ecgs is None else piece.n_ecgs
        settled = _settled_reject(piece)
        if settled is not None:
            chunk.rejects.append(settled)
            return
        assert piece.ecg_id is not None
        person = piece.participant_id
        try:
            if isinstance(files, EcgRejected):
                raise files
            if archives.is_single_packed(piece.main_file):
                packed = files[piece.main_file]
                files = {piece.main_file: archives.unpack_single(piece.main_file, packed)}
            self._check_format(files[piece.main_file])
            ecg = read_ecg(files, piece.main_file)
            ecg = interpolate_missing(ecg, self._interpolate_missing_samples)
            if person is None and self._id_from_header:
                person = ecg.header_participant_id
            row = row_of(
                ecg, canonicalise(ecg), ecg_id=piece.ecg_id, participant_id=person, source_uri=shown_path(piece.path)
            )
            chunk.rows.append(row)
        except EcgRejected as error:
            chunk.rejects.append(reject_of(error, shown_path(piece.path), ecg_id=piece.ecg_id, participant_id=person))

    def _check_format(self, main: bytes) -> None:
        found = sniff(main)
        if self._formats and found is not None and found not in self._formats:
            raise EcgRejected(
                RejectReason.NOT_AN_ECG, f"file is {found}, but --format asked for {', '.join(self._formats)}"
            )


def _complete(held: dict[str, bytes | EcgRejected]) -> Files | EcgRejected:
    """Return a record's files, or the first refusal among them."""
    files: Files = {}
    for name, data in held.items():
        if isinstance(data, EcgRejected):
            return data
        files[name] = data
    return files


def _is_settled(piece: Piece) -> bool:
    return piece.excluded or piece.reason is not None or bool(piece.duplicate_rows)


def _settled_reject(piece: Piece) -> Reject | None:
    """Return the reject of a piece whose fate was decided at planning."""
    path = shown_path(piece.path)
    if piece.excluded:
        return excluded_reject()
    if piece.reason is not None:
        return Reject(piece.reason, piece.detail, path, None, piece.ecg_id, piece.participant_id, piece.n_ecgs)
    if piece.duplicate_rows:
        return Reject(
            RejectReason.DUPLICATE_ECG_ID.value, DUPLICATE_DETAIL, path, None, piece.ecg_id, piece.participant_id
        )
    return None


def excluded_reject() -> Reject:
    """Return the row of an excluded person's ECG: it names neither the person nor the file."""
    return Reject(RejectReason.EXCLUDED.value, "person is excluded at the custodian's request")


@dataclass(frozen=True)
class UnitReader:
    """Reads units into chunks of decoded ECGs and rejects.

    Attributes:
        storage: where inputs are.
        roots: folders that the pieces' paths start from.
        layout: of other people's Parquet; None for the canonical table.
        formats: raw formats to accept; empty for all.
        id_from_header: take the person from a raw file's header.
        interpolate_missing_samples: longest gap of missing samples that is filled.
    """

    storage: Storage
    roots: tuple[str, ...]
    layout: Layout | None = None
    formats: tuple[str, ...] = ()
    id_from_header: bool = False
    interpolate_missing_samples: int = 0

    @contextmanager
    def open(self, unit: Unit) -> Iterator[Iterator[Chunk]]:
        """Give the chunks of a unit; what is open is closed afterwards."""
        with closing(self.chunks(unit)) as chunks:
            yield chunks

    def chunks(self, unit: Unit) -> Generator[Chunk, None, None]:
        """Yield the chunks of a unit in order."""
        parquet = ParquetReader(self.storage, self.layout, self.interpolate_missing_samples)
        for is_parquet, group in groupby(unit.pieces, key=lambda piece: piece.is_parquet):
            if is_parquet:
                for piece in group:
                    if not piece.path:
                        raise LvmError(
                            f"unit {unit.number} cannot be done again: the path of its input was "
                            "removed with a person who withdrew; start anew with --overwrite"
                        )
                    yield from parquet.read(piece, join(self.roots[piece.root], piece.path))
            else:
                raw = RawReader(
                    self.storage,
                    self.formats,
                    id_from_header=self.id_from_header,
                    interpolate_missing_samples=self.interpolate_missing_samples,
                )
                yield from raw.read(list(group), self.roots)
