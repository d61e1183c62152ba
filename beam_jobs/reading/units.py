"""Work units: what one worker does at a time, what it reports, and how inputs are cut into them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import groupby
from json.encoder import encode_basestring_ascii
from typing import Any, Final, Self

from beam_jobs.reading import archives
from beam_jobs.reading.local_files import shown_path
from lvm_core.signal.scale import AmplitudeHistogram, SourceAmplitudes

RESULTS_VERSION: Final = 5
"""Raised only when a result changes for the same input and options; see CHANGELOG, Results."""

DEFAULT_UNIT_ECGS: Final = 1024
MAX_ROW_GROUP_ROWS: Final = 4096


@dataclass(frozen=True, slots=True)
class Piece:
    """A span of a Parquet or HDF5 file, one raw record, or an input that cannot be read at all."""

    root: int  # index of the `--input` it belongs to
    path: str  # path relative to the root; `archive!member` in archives; empty after a withdrawal
    path_sha256: str  # identifies the path, also after it was removed
    size: int  # bytes of the file (Parquet), of the record's files (raw), of the archive (damaged)
    content_sha256: str = ""  # SHA-256 of the Parquet footer, of keys and shapes of HDF5; keyed with pseudonyms
    parts: tuple[str, ...] = ()  # further files, such as WFDB signal files; like `path`, without `archive!`
    row_group_start: int = 0  # first row group of the span; in HDF5 each row is a group
    row_group_stop: int = 0  # row group after the last one
    first_row: int = 0  # number in its file of the span's first row
    n_ecgs: int | None = 1  # rows of the span; 1 for a record; None when unknown
    ecg_id: str | None = None  # key of a raw record; None for Parquet
    participant_id: str | None = None  # person of a raw record, if its path names one
    duplicate_rows: tuple[int, ...] = ()  # rows, from 0, with an ecg_id that came earlier; (0,) for a record
    unlisted_rows: tuple[int, ...] = ()  # rows, from 0, that the index does not list; they are not read
    alias: str = ""  # what tables and messages show in place of the path; empty without pseudonyms
    is_absent: bool = False  # True for a row of an index that no input was found for, or one that cannot be read
    excluded: bool = False  # True for a raw record of an excluded person, which is not read
    reason: str | None = None  # reject reason of an input that cannot be read; None otherwise
    detail: str | None = None  # message that goes with `reason`

    @property
    def is_table(self) -> bool:
        """True for a span of a table: of row groups of Parquet, or of rows of an HDF5 file."""
        return self.row_group_stop > self.row_group_start

    @property
    def weight(self) -> int:
        """Number of ECGs that are read; an unknown number counts as 1."""
        return 1 if self.n_ecgs is None else self.n_ecgs - len(self.unlisted_rows)

    @property
    def shown(self) -> str:
        """The path as tables and messages show it."""
        return self.alias or shown_path(self.path)

    @property
    def archive(self) -> str | None:
        """Path of the archive that holds the record; None for a loose file."""
        return None if self._archive_end is None else self.path[: self._archive_end]

    @property
    def main_file(self) -> str:
        """Path of the record's main file, inside its archive where it is in one."""
        return self.path if self._archive_end is None else self.path[self._archive_end + 1 :]

    @property
    def _archive_end(self) -> int | None:
        """Place of the `!` that ends the archive's path; names of folders may hold a `!` too."""
        places = [] if self.is_table else [i for i, character in enumerate(self.path) if character == "!"]
        return next((i for i in places if archives.is_archive(self.path[:i])), None)

    def identity(self) -> list[Any]:
        """Return what enters the fingerprint: never a time, an absolute path or a person."""
        span = self.content_sha256, self.row_group_start, self.row_group_stop
        return [self.root, self.path_sha256, self.size, *span, list(self.duplicate_rows), self.reason]

    def redacted(self) -> Self:
        """Return the piece without anything that names a person."""
        nothing = {"path": "", "parts": (), "ecg_id": None, "participant_id": None, "detail": None, "alias": ""}
        return replace(self, **nothing, excluded=True)  # type: ignore[arg-type]  # of all fields

    def to_json(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, default in _DEFAULTS
            if (value := getattr(self, name)) != default
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        values = dict(data)
        for name in ("parts", "duplicate_rows", "unlisted_rows"):
            values[name] = tuple(values.get(name, ()))
        return cls(**values)


_DEFAULTS: Final = tuple((f.name, f.default) for f in fields(Piece))


@dataclass(frozen=True, slots=True)
class Unit:
    """What is read, checked, predicted and written together, and is done or not done."""

    number: int  # place in the plan, from 0
    fingerprint: str  # hex digest of settings and pieces; part of the names of its files
    pieces: tuple[Piece, ...]  # what it reads, in order

    @property
    def name(self) -> str:
        """Stem of the unit's file names."""
        return f"unit-{self.number:06d}-{self.fingerprint[:16]}"

    @property
    def n_ecgs(self) -> int:
        """ECGs in the unit; a piece of an unknown number counts as 1."""
        return sum(piece.weight for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class UnitSummary:
    """How the ECGs of a unit ended.

    Invariant: `n_read == n_done + n_rejected`.
    """

    number: int  # the unit's number
    n_read: int = 0  # ECGs that the reader gave, predicted or rejected
    n_done: int = 0  # predictions (score) or ECGs (ingest) written
    rejected: Mapping[str, int] = field(default_factory=dict)  # ECGs by reject reason
    amplitudes: AmplitudeHistogram = field(default_factory=AmplitudeHistogram)  # QRS in lead II of what was read
    failed: str | None = None  # message of a fault that left the unit undone (local runner only)
    stage_s: Mapping[str, float] = field(default_factory=dict)  # seconds waited for reader, engine and writer
    sources: SourceAmplitudes = field(default_factory=SourceAmplitudes)  # the same amplitudes by folder and step

    @property
    def n_rejected(self) -> int:
        """ECGs rejected, over all reasons."""
        return sum(self.rejected.values())


def merge_summaries(summaries: Iterable[UnitSummary]) -> UnitSummary:
    """Add summaries up; `number` of the result means nothing."""
    n_read = n_done = 0
    rejected: Counter[str] = Counter()
    amplitudes = AmplitudeHistogram()
    stage_s: Counter[str] = Counter()
    sources = SourceAmplitudes()
    for summary in summaries:
        n_read += summary.n_read
        n_done += summary.n_done
        rejected.update(summary.rejected)
        amplitudes = amplitudes.merge(summary.amplitudes)
        stage_s.update(summary.stage_s)
        sources = sources.merge(summary.sources)
    return UnitSummary(-1, n_read, n_done, dict(sorted(rejected.items())), amplitudes, None, dict(stage_s), sources)


def digest(value: Any) -> str:
    """Return the SHA-256, in hex, of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def path_digest(root: int, path: str) -> str:
    """Return the digest that replaces a path once the path itself must be forgotten.

    It is `digest([root, path])`, in a quarter of the time: there may be millions of paths.
    """
    return hashlib.sha256(f"[{root},{encode_basestring_ascii(path)}]".encode()).hexdigest()[:32]


def cut_units(pieces: Iterable[Piece], *, unit_ecgs: int, first_number: int, settings_sha256: str) -> Iterator[Unit]:
    """Bundle pieces, in plan order, into units of about `unit_ecgs` ECGs, 1 or more.

    A piece is never divided here; one larger than `unit_ecgs` is a unit of its own. Pieces of one
    compressed TAR stay together, whatever their number: it can only be read from its start.
    `settings_sha256` is the digest of every option that can move a number.
    """
    bundle: list[Piece] = []
    n_ecgs, number = 0, first_number
    for group in _inseparable(pieces):
        size = sum(piece.weight for piece in group)
        if bundle and n_ecgs + size > unit_ecgs:
            yield _unit(number, bundle, settings_sha256)
            bundle, n_ecgs, number = [], 0, number + 1
        bundle.extend(group)
        n_ecgs += size
    if bundle:
        yield _unit(number, bundle, settings_sha256)


def _unit(number: int, pieces: Sequence[Piece], settings_sha256: str) -> Unit:
    identity = [RESULTS_VERSION, settings_sha256, [piece.identity() for piece in pieces]]
    return Unit(number, digest(identity), tuple(pieces))


def _inseparable(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Group consecutive pieces of one compressed TAR; every other piece is a group of its own."""
    for archive, group in groupby(pieces, key=lambda piece: piece.archive):
        if archive is not None and archives.is_streamed(archive):
            yield list(group)
        else:
            yield from ([piece] for piece in group)
