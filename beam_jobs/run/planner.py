"""Planning: from the inputs to pieces with keys, duplicates found, people excluded."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import groupby, repeat
from typing import Final

import numpy as np
from numpy.typing import NDArray

from beam_jobs.reading import archives
from beam_jobs.reading.array_input import STACK_SUFFIXES, Stack, is_array_file, is_stack, open_stack, stack_keys
from beam_jobs.reading.flagged import has_signal_flags
from beam_jobs.reading.index import NO_KEY, NOT_LISTED, NOT_LISTED_ROWS, IndexMatch, RecordIndex, Unread
from beam_jobs.reading.inputs import ArchiveListing, IdRule, InputListing, RecordFiles, list_input, unmatched_id
from beam_jobs.reading.layout import Layout
from beam_jobs.reading.local_files import FileKind, shown_path
from beam_jobs.reading.parquet_input import (
    Footer,
    column_problems,
    key_text,
    local_time,
    optional_columns,
    read_footer,
    read_keys,
)
from beam_jobs.reading.storage import FileEntry, FileMissing, Storage, is_glob, join, split_glob
from beam_jobs.reading.units import MAX_ROW_GROUP_ROWS, Piece, path_digest
from beam_jobs.run.expected_files import ExpectedFiles
from beam_jobs.run.folder import REPORT_NAME, RunFolder
from beam_jobs.run.participants import JoinForecast
from beam_jobs.run.plan import PLAN_NAME, Plan
from beam_jobs.run.settings import InputSettings
from lvm_core.errors import EcgRejected, LvmError, RejectReason, UsageError, form_of
from lvm_core.formats.registry import format_with_parts, size_problem
from lvm_core.pseudonyms import Pseudonyms
from lvm_core.tables.values import PLACEHOLDER_DATES
from lvm_core.wording import counted

_READERS: Final = 16
_SHOWN: Final = 5
_KeysOfRow = tuple[str | None, str | None]
# Records, and as many keys or more.
_RecordsAndKeys = tuple[Sequence[RecordFiles], Iterable[_KeysOfRow]]
"""ecg_id and participant_id by the index; None without one."""

_UNREAD: Final = EcgRejected(
    RejectReason.UNREADABLE, "archive is of a kind that is not read, and holds an unknown number of ECGs"
)


@dataclass
class Inputs:
    """What planning found."""

    roots: tuple[str, ...]  # folders that pieces' paths start from, one per `--input`
    pieces: list[Piece] = field(default_factory=list)  # in plan order, without keys of Parquet rows
    ignored: Counter[str] = field(default_factory=Counter)  # files and members of archives that are no ECG, by kind
    n_files: int = 0  # files that were found, ignored ones left out
    n_parquet: int = 0  # Parquet files among them
    unread: list[str] = field(default_factory=list)  # archives of kinds that are not read
    warnings: list[str] = field(default_factory=list)  # what the user should know
    absent_columns: dict[str, tuple[str, ...]] = field(default_factory=dict)  # columns that a file, by path, lacks
    unlisted_example: str | None = None  # a record that the index does not list
    n_unflagged: int = 0  # Parquet files that no ingest with quality flags of signals has written


def ignored_text(ignored: Mapping[str, int]) -> str:
    """Return a count by kind as text: `3 (2 by name, 1 named pipe)`."""
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(ignored.items()) if n)
    return f"{sum(ignored.values())}" + (f" ({kinds})" if kinds else "")


def find_inputs(
    settings: InputSettings,
    layout: Layout | None = None,
    person_of: Callable[[str], str | None] | None = None,
    index: IndexMatch | None = None,
) -> Inputs:
    """List all inputs and turn them into pieces; refuse what cannot be meant.

    `layout` is of other people's Parquet or arrays. `person_of` gives the person of an ECG by the
    participant table, where the path does not. Of an archive with an `index` the records that it
    lists are the inputs: those that are absent are pieces too, which say so.
    """
    storage, uris = settings.storage, settings.inputs
    found = Inputs(tuple(root_of(storage, uri) for uri in uris))
    seen, expected = _Seen(), ExpectedFiles.of(storage, settings.expect_files)
    for number, uri in enumerate(uris):
        is_folder = not is_glob(uri) and not storage.is_file(uri)
        entries = _entries(storage, uri)
        expected.note(entries)
        entries = entries if len(uris) == 1 else seen.new(entries)
        listing = list_input(storage, found.roots[number], entries)
        del entries  # there may be millions
        if not is_folder:
            _refuse_headers_alone(uri, listing)
        found.ignored.update(listing.ignored)
        found.n_files += sum(len(record.files) for record in listing.records)
        found.n_files += sum(map(len, (listing.parquet, listing.archives, listing.broken, listing.unread)))
        found.n_parquet += len(listing.parquet)
        found.unread += _unread_archives(listing)
        if index is not None:
            listing = _refuse_parquet_with_index(uri, listing, settings, found)
        cutter = _Cutter(number, found.roots[number], settings, layout, person_of, index)
        found.pieces.extend(cutter.pieces(listing, found))
    if index is not None:
        _add_absent(found, index)
    expected.refuse_missing()
    _refuse_unread_archives(found, settings)
    _refuse_emptiness(found, settings)
    _refuse_other_number(found, settings)
    _refuse_foreign_tables(found, layout)
    _check_absent_columns(found, layout)
    if index is None:
        _refuse_useless_pattern(found, settings.id_rule)
    _warn_of_useless_layout(found, layout)
    return found


def _refuse_parquet_with_index(uri: str, listing: InputListing, settings: InputSettings, found: Inputs) -> InputListing:
    """Refuse Parquet beside an index; return the listing without dead links: absent files."""
    if listing.parquet and settings.reads_parquet:
        raise UsageError(
            f"--index is for device files and HDF5, and --input {uri} holds {len(listing.parquet)} Parquet files, "
            "which have keys of their own; give --input and --index of one kind of data"
        )
    if listing.broken:
        found.ignored[FileKind.DEAD_LINK.value] += len(listing.broken)
        found.n_files -= len(listing.broken)
    return replace(listing, broken=())


def _add_absent(found: Inputs, index: IndexMatch) -> None:
    """Add the records that the index lists and no input holds, each as a reject of its own.

    So are those of an input that cannot be read, in place of a reject of an unknown number.
    """
    absent = list(index.absent())
    n_rows = index.index.n_rows
    named = {one.unread for one in absent}
    for unread in index.unread:
        if unread not in named:
            found.ignored[NOT_LISTED] += 1
            found.n_files -= 0 if unread.is_inside else 1
    n_unread = sum(one.unread is not None for one in absent)
    n_missing = sum(one.unread is None and one.problem.reason is RejectReason.FILE_MISSING for one in absent)
    n_repeated = len(absent) - n_missing - n_unread
    if n_missing == n_rows and n_rows:
        raise UsageError(
            f"none of the {n_rows} records of {index.index.name} is among the inputs: it lists {absent[0].path!r} "
            f"first, and {_first_file(found)}. Give the folder that the paths of the index start from as --input; "
            "--index-layout says what its columns mean (docs/archives.md)"
        )
    if absent:
        found.warnings.append(
            f"{n_missing} of {counted(n_rows, 'record')} of the index not among the inputs"
            + (f", {n_unread} in inputs that cannot be read" if n_unread else "")
            + (f", {counted(n_repeated, 'row')} listed again" if n_repeated else "")
            + "; each is a reject"
        )
    keys = index.keys_of(np.array([one.row for one in absent], dtype=np.int64))
    for one, (ecg_id, person) in zip(absent, keys, strict=True):
        size = 0 if one.unread is None else one.unread.size
        piece = Piece(0, one.path, path_digest(0, f"row {one.row} of the index"), size, is_absent=True)
        reason, detail = one.problem.reason.value, one.problem.message
        found.pieces.append(replace(piece, ecg_id=ecg_id, participant_id=person, reason=reason, detail=detail))


def _first_file(found: Inputs) -> str:
    example = found.unlisted_example
    return "the inputs hold no record" if example is None else f"the inputs hold {example!r}"


@dataclass
class _Seen:
    """What earlier inputs gave."""

    uris: set[str] = field(default_factory=set)
    real: set[str] = field(default_factory=set)

    def new(self, entries: Iterable[FileEntry]) -> list[FileEntry]:
        """Return entries that no earlier input gave; a file that has another path there repeats."""
        found = []
        for entry in entries:
            if entry.uri in self.uris:
                continue
            self.uris.add(entry.uri)
            repeated = entry.kind is FileKind.FILE and entry.real in self.real
            found.append(replace(entry, kind=FileKind.REPEATED) if repeated else entry)
            if entry.kind is FileKind.FILE:
                self.real.add(entry.real)
        return found


def _unread_archives(listing: InputListing) -> list[str]:
    loose = [entry.relative for entry in listing.unread]
    inside = [f"{a.entry.relative}!{member.name}" for a in listing.archives for member in a.unread]
    return [shown_path(path) for path in (*loose, *inside)]


def _refuse_unread_archives(found: Inputs, settings: InputSettings) -> None:
    """Stop at archives that are not read: how many ECGs they hold is not known."""
    if not found.unread or settings.accept_unread_archives:
        return
    names = ", ".join(found.unread[:_SHOWN]) + (", ..." if len(found.unread) > _SHOWN else "")
    raise UsageError(
        f"among the inputs {counted(len(found.unread), 'archive', 'are')} of a kind that is not read, so their ECGs "
        f"would be missing, nobody knows how many: {names}. Unpack them, or pack the files as .zip, .tar, .tar.gz, "
        ".tar.bz2 or .tar.xz without archives inside; --accept-unread-archives goes on without their ECGs"
    )


def _refuse_emptiness(found: Inputs, settings: InputSettings) -> None:
    """Stop where there is no ECG at all: a path is wrong, or a step before failed."""
    if settings.allow_empty or any(piece.n_ecgs != 0 for piece in found.pieces):
        return
    raise UsageError(
        f"no ECG found in {', '.join(map(shown_path, settings.inputs))}: looked at "
        f"{counted(found.n_files + found.ignored.total(), 'file')}, ignored {ignored_text(found.ignored)}"
        + (f", {found.n_parquet} Parquet files have no rows" if found.n_parquet else "")
        + ". Is the path right? lvm-ai score and ingest go on without ECGs with --allow-empty"
    )


def _refuse_other_number(found: Inputs, settings: InputSettings) -> None:
    """Stop where the ECGs are not as many as --expect-ecgs says: a hole that nothing else shows."""
    expected, n_ecgs = settings.expect_ecgs, sum(piece.weight for piece in found.pieces)
    if expected is None or n_ecgs == expected:
        return
    n_unknown = sum(piece.n_ecgs is None for piece in found.pieces)
    unknown = f", {n_unknown} of them files that cannot be read and count as 1" if n_unknown else ""
    cause = "Is a folder, a copy or a listing incomplete?" if n_ecgs < expected else "Are there files too many?"
    raise LvmError(
        f"{counted(n_ecgs, 'ECG')} found in {counted(found.n_files, 'file')}{unknown}, but --expect-ecgs is "
        f"{expected}. Nothing was done. "
        f"{cause} Run the command again, or correct the number"
    )


def _refuse_headers_alone(uri: str, listing: InputListing) -> None:
    """Stop when a glob names main files, such as WFDB headers, without the files that they name."""
    formats = [(record, format_with_parts(record.main)) for record in listing.records]
    titles = [kind.title for _, kind in formats if kind is not None]
    if titles and not any(record.parts for record, kind in formats if kind is not None):
        raise UsageError(
            f"--input {uri} names {len(titles)} {titles[0]} headers without their signal files; give the "
            "folder, or a glob that takes both"
        )


def _warn_of_useless_layout(found: Inputs, layout: Layout | None) -> None:
    if layout is None:
        return
    if layout.is_of_arrays and not any(is_array_file(archives.without_packing(piece.path)) for piece in found.pieces):
        found.warnings.append("--layout is given, but no HDF5, NumPy or MATLAB file is among the inputs")
    if not layout.is_of_arrays and not any(piece.is_table for piece in found.pieces):
        found.warnings.append("--layout is given, but no Parquet is among the inputs")


def _refuse_useless_pattern(found: Inputs, id_rule: IdRule) -> None:
    """Stop when the pattern gives no record an id: that is a mistake, not damage."""
    raw = [piece for piece in found.pieces if not piece.is_table and piece.n_ecgs is not None]
    if id_rule.pattern is not None and raw and all(p.ecg_id is None for p in raw):
        raise UsageError(
            f"--id-pattern {id_rule.pattern!r} matches none of the {len(raw)} paths, for example {raw[0].path!r}; it "
            f"is searched in the path below --input as the regular expression {id_rule.regex}"
        )


def refuse_overlap(storage: Storage, uris: Sequence[str], output: str) -> None:
    """Refuse an output inside an input or the other way round: a run would read its own files."""
    for uri in uris:
        folder = split_glob(uri)[0] if is_glob(uri) else uri
        deep = not is_glob(uri) or any(mark in split_glob(uri)[1] for mark in ("/", "**"))
        if storage.contains(output, folder) or (deep and storage.contains(folder, output)):
            raise UsageError(
                f"--output {output} and --input {uri} overlap; expected an output folder beside "
                "the inputs, so that a run neither reads nor removes its own files"
            )


def root_of(storage: Storage, uri: str) -> str:
    """Return the folder that relative paths of an input start from."""
    if is_glob(uri):
        return split_glob(uri)[0]
    folder = uri.rstrip("/") or "/"
    if storage.is_file(uri):
        return folder.rpartition("/")[0] or ("." if "/" not in folder else "/")
    # The folder of an ingest run: its ECGs are below it, beside reports and rejects.
    return join(folder, "ecg") if _is_ingest_run(storage, folder) else folder


def _is_ingest_run(storage: Storage, folder: str) -> bool:
    if not storage.is_file(join(folder, PLAN_NAME)):
        return False
    plan = Plan.from_bytes(storage.read_bytes(join(folder, PLAN_NAME)))
    if plan.kind != "ingest":
        raise UsageError(f"--input {folder} is the run folder of a scoring; expected ECGs")
    run = RunFolder(storage, folder)
    if not run.is_finished:
        problems = (run.read_json(REPORT_NAME) or {}).get("problems")
        if problems:
            raise UsageError(
                f"--input {folder} is an ingest that read all its files but was not accepted: {'; '.join(problems)}"
            )
        raise UsageError(
            f"--input {folder} is an ingest that is not finished; run the same `lvm-ai ingest` "
            "command again until it is done"
        )
    foreign = run.foreign_problem(plan)
    if foreign is not None:
        raise UsageError(f"--input {folder} is an ingest run: {foreign}")
    return True


def _entries(storage: Storage, uri: str) -> list[FileEntry]:
    try:
        if not is_glob(uri) and not storage.is_file(uri) and _is_ingest_run(storage, uri):
            ecgs = join(uri, "ecg")
            return storage.list_files(ecgs) if storage.exists(ecgs) else []
        return storage.list_files(uri)
    except FileMissing as error:
        raise UsageError(str(error)) from error


@dataclass(frozen=True)
class _Cutter:
    """Cuts one input into pieces."""

    root: int
    root_uri: str
    settings: InputSettings
    layout: Layout | None
    person_of: Callable[[str], str | None] | None
    index: IndexMatch | None = None

    def pieces(self, listing: InputListing, found: Inputs) -> list[Piece]:
        """Return the pieces in the order of their paths; note the rest in `found`."""
        stacks = [one for one in listing.records if self._reads_stacks and is_stack(one.main)]
        loose = [one for one in listing.records if not (self._reads_stacks and is_stack(one.main))]
        held: list[tuple[FileEntry | None, Sequence[RecordFiles]]] = [(None, loose)]
        held += [(archive.entry, archive.records) for archive in listing.archives]
        kept, *packed = self._listed(held, found)
        single = [self._record(one, None, keys) for one, keys in zip(*kept, strict=False)]
        groups: list[tuple[str, list[Piece]]] = []
        self._add_tables(groups, map(self._stack, stacks), [one.main for one in stacks], found)
        for one in stacks if self.index is not None else ():
            self._note_unlisted_rows(one.main, groups, found)
        dead = EcgRejected(RejectReason.UNREADABLE, "link leads to a file that is not there")
        groups += [(entry.relative, [self._broken(entry, dead)]) for entry in listing.broken]
        groups += [(entry.relative, self._unread(entry, _UNREAD, is_archive=True)) for entry in listing.unread]
        for archive, its in zip(listing.archives, packed, strict=True):
            n_records = len(its[0])
            if archives.is_streamed(archive.entry.relative) and n_records > 4 * self.settings.unit_ecgs:
                found.warnings.append(
                    f"{shown_path(archive.entry.relative)} holds {n_records} records, and a compressed "
                    "TAR is one unit: it is not done in parallel and needs memory; a .zip or .tar would be cut"
                )
            groups.append((archive.entry.relative, list(self._archive(archive, its))))
        if listing.parquet and not self.settings.reads_parquet:
            reject = EcgRejected(RejectReason.NOT_AN_ECG, "file is Parquet; lvm-ai score reads it directly")
            groups += [(entry.relative, [self._broken(entry, reject)]) for entry in listing.parquet]
        else:
            with ThreadPoolExecutor(_READERS) as pool:
                spans = pool.map(self._parquet, listing.parquet)
                self._add_tables(groups, spans, [entry.relative for entry in listing.parquet], found)
        if not groups:
            return single  # in order already, and there may be millions
        groups += [(piece.path, [piece]) for piece in single]
        groups.sort(key=lambda group: group[0])
        return [piece for _, pieces in groups for piece in pieces]

    @property
    def _reads_stacks(self) -> bool:
        return self.layout is not None and self.layout.is_of_arrays and self.layout.ecg_id is not None

    def _add_tables(
        self, groups: list[tuple[str, list[Piece]]], tables: Iterable[_Table], paths: Sequence[str], found: Inputs
    ) -> None:
        for path, table in zip(paths, tables, strict=True):
            groups.append((path, table.pieces))
            found.warnings.extend([table.warning] if table.warning else [])
            if table.absent is not None:
                found.absent_columns[path] = table.absent
            found.n_unflagged += table.is_unflagged

    def _listed(
        self, held: Sequence[tuple[FileEntry | None, Sequence[RecordFiles]]], found: Inputs
    ) -> list[_RecordsAndKeys]:
        """Return the records that the index lists, with their keys; all, without, without an index.

        `held` are the loose records and those of each archive. The others are counted as ignored.
        """
        if self.index is None:
            return [(records, repeat((None, None))) for _, records in held]
        paths = [shown_path(_path_of(record, archive)) for archive, records in held for record in records]
        rows = self.index.rows_of(paths, lambda path: self.settings.id_rule.keys(path)[0])
        known = zip((rows >= 0).tolist(), self.index.keys_of(rows), strict=True)
        kept: list[_RecordsAndKeys] = []
        for archive, records in held:
            its = [(record, *next(known)) for record in records]
            listed = [(record, keys) for record, is_listed, keys in its if is_listed]
            kept.append(([record for record, _ in listed], [keys for _, keys in listed]))
            for record in (record for record, is_listed, _ in its if not is_listed):
                found.ignored[NOT_LISTED] += len(record.files)
                found.n_files -= len(record.files) if archive is None else 0
                found.unlisted_example = found.unlisted_example or shown_path(_path_of(record, archive))
        return kept

    def _note_unlisted_rows(self, path: str, groups: Sequence[tuple[str, list[Piece]]], found: Inputs) -> None:
        pieces = next(pieces for name, pieces in groups if name == path)
        found.ignored[NOT_LISTED_ROWS] += sum(len(piece.unlisted_rows) for piece in pieces)
        pieces[:] = [piece for piece in pieces if piece.weight or piece.reason is not None]

    def _record(self, record: RecordFiles, archive: FileEntry | None, keys: _KeysOfRow) -> Piece:
        path = _path_of(record, archive)
        ecg_id, person = self.settings.id_rule.keys(shown_path(path)) if self.index is None else keys
        if ecg_id is not None and person is None and self.person_of is not None:
            person = self.person_of(ecg_id)
        piece = replace(self._piece(path, record.size), parts=record.parts, ecg_id=ecg_id, participant_id=person)
        if ecg_id is None:
            problem = unmatched_id(self.settings.id_rule) if self.index is None else NO_KEY
            return replace(piece, reason=problem.reason.value, detail=problem.message)
        unread = self._array_problem(record)
        if unread is not None:
            return replace(piece, n_ecgs=None, reason=unread.reason.value, detail=unread.message)
        too_large = size_problem(record.size)
        if too_large is not None:
            return replace(piece, reason=RejectReason.UNREADABLE.value, detail=too_large)
        return piece

    def _array_problem(self, record: RecordFiles) -> EcgRejected | None:
        """Return why an array file cannot be read as one recording; None where it can be tried."""
        path = archives.without_packing(record.main)
        if record.parts or not is_array_file(path):
            return None
        if self._reads_stacks:
            what = "inside an archive or packed" if is_stack(path) else "of another kind than HDF5"
            return EcgRejected(
                RejectReason.UNREADABLE,
                f"file of arrays is {what}, and the layout has ecg_id, so that it holds an unknown number of ECGs; "
                "expected loose .h5 or .hdf5 files, or a layout without ecg_id for files of one ECG",
            )
        if self.layout is None and not path.lower().endswith(".mat"):
            return EcgRejected(
                RejectReason.NOT_AN_ECG,
                "file holds arrays (HDF5 or NumPy), which are read with --layout FILE (docs/layouts.md): unit, lead "
                "order and rate are not in them",
            )
        return None

    def _archive(self, archive: ArchiveListing, records: _RecordsAndKeys) -> Iterator[Piece]:
        entry = archive.entry
        if archive.damage is not None:
            yield from self._unread(entry, archive.damage, is_archive=True)
            return
        for member in archive.refused:
            refused = EcgRejected(RejectReason.UNREADABLE, member.refused or "")
            inside = FileEntry(entry.uri, f"{entry.relative}!{member.name}", member.size)
            for piece in self._unread(inside, refused):
                yield replace(piece, n_ecgs=1)
        for member in archive.unread:
            inside = FileEntry(entry.uri, f"{entry.relative}!{member.name}", member.size)
            yield from self._unread(inside, _UNREAD, is_archive=True)
        for record, keys in zip(*records, strict=False):
            yield self._record(record, entry, keys)

    def _piece(self, path: str, size: int) -> Piece:
        return Piece(self.root, path, path_digest(self.root, path), size)

    def _broken(self, entry: FileEntry, problem: EcgRejected) -> Piece:
        piece = self._piece(entry.relative, entry.size)
        return replace(piece, n_ecgs=None, reason=problem.reason.value, detail=problem.message)

    def _unread(self, entry: FileEntry, problem: EcgRejected, *, is_archive: bool = False) -> list[Piece]:
        """Return the piece of an input that cannot be read; none where an index lists its ECGs."""
        if self.index is None:
            return [self._broken(entry, problem)]
        self.index.note_unread(Unread(shown_path(entry.relative), entry.size, problem, is_archive))
        return []

    def _stack(self, record: RecordFiles) -> _Table:
        """Return a file of many arrays, cut into spans of rows."""
        assert self.layout is not None
        storage, piece = self.settings.storage, self._piece(record.main, record.size)
        entry = FileEntry(join(self.root_uri, record.main), record.main, record.size)
        try:
            with open_stack(storage, entry.uri, self.layout) as stack:
                unfit = stack.problem()
                if unfit is not None:
                    return _Table(self._unread(entry, EcgRejected(*unfit)))
                absent = tuple(name for name in optional_columns(self.layout) if name not in stack.names)
                return _Table(list(self._rows(piece, stack)), None, absent)
        except EcgRejected as problem:
            return _Table(self._unread(entry, problem))

    def _rows(self, piece: Piece, stack: Stack) -> Iterator[Piece]:
        n_ecgs, sha256 = stack.n_ecgs, stack.sha256()
        unlisted = self._unlisted_rows(piece, stack)
        for start in range(0, n_ecgs, self.settings.unit_ecgs):
            stop = min(n_ecgs, start + self.settings.unit_ecgs)
            yield replace(
                piece,
                content_sha256=sha256,
                row_group_start=start,
                row_group_stop=stop,
                first_row=start,
                n_ecgs=stop - start,
                unlisted_rows=tuple(unlisted[slice(*np.searchsorted(unlisted, (start, stop)))].tolist()),
            )

    def _unlisted_rows(self, piece: Piece, stack: Stack) -> NDArray[np.int64]:
        """Return the numbers of the ECGs of a file that the index does not list, in order."""
        if self.index is None:
            return np.empty(0, dtype=np.int64)
        assert self.layout is not None
        keys = [key_text(key) for key in stack.keys(self.layout.ecg_id)]
        return np.flatnonzero(self.index.rows_of_stack(piece.shown, keys) < 0)

    def _parquet(self, entry: FileEntry) -> _Table:
        try:
            footer = read_footer(self.settings.storage, entry.uri)
        except EcgRejected as problem:
            return _Table([self._broken(entry, problem)])
        if footer.file_size != entry.size:
            raise LvmError(
                f"{shown_path(entry.relative)} changed while the run was planned: it had {entry.size} bytes when it "
                f"was listed and has {footer.file_size} now. Run the command again when nothing writes to the inputs"
            )
        unfit = column_problems(footer.schema, self.layout)
        if unfit is not None:
            piece = self._broken(entry, EcgRejected(*unfit))
            return _Table([replace(piece, n_ecgs=footer.metadata.num_rows)])
        names = set(footer.schema.names)
        absent = tuple(name for name in optional_columns(self.layout) if name not in names)
        largest = max(footer.row_group_rows, default=0)
        warning = None
        if largest > MAX_ROW_GROUP_ROWS:
            warning = (
                f"{shown_path(entry.relative)} has row groups of up to {largest} rows, read as a stream "
                "and not in parallel; rewrite it with smaller row groups (lvm-ai ingest makes such files)"
            )
        is_unflagged = not has_signal_flags(footer.metadata.metadata)
        return _Table(list(self._spans(entry, footer)), warning, absent, is_unflagged=is_unflagged)

    def _spans(self, entry: FileEntry, footer: Footer) -> Iterator[Piece]:
        rows = footer.row_group_rows
        start = first_row = 0
        while start < len(rows):
            stop, n_rows = start + 1, rows[start]
            while stop < len(rows) and n_rows + rows[stop] <= self.settings.unit_ecgs:
                n_rows, stop = n_rows + rows[stop], stop + 1
            yield replace(
                self._piece(entry.relative, entry.size),
                content_sha256=footer.sha256,
                row_group_start=start,
                row_group_stop=stop,
                first_row=first_row,
                n_ecgs=n_rows,
            )
            start, first_row = stop, first_row + n_rows


def _path_of(record: RecordFiles, archive: FileEntry | None) -> str:
    return record.main if archive is None else f"{archive.relative}!{record.main}"


@dataclass(frozen=True)
class _Table:
    """A file of many ECGs, cut into spans of row groups or rows."""

    pieces: list[Piece]  # its spans; one piece that says why, where it cannot be read
    warning: str | None = None  # about its row groups
    absent: tuple[str, ...] | None = None  # optional columns that it lacks; None where it cannot be read
    is_unflagged: bool = False  # no ingest has looked at its signals for quality flags


def _refuse_foreign_tables(found: Inputs, layout: Layout | None) -> None:
    """Stop when no table at all has the needed columns: that is a mistake, not damage."""
    tables = [p for p in found.pieces if p.path.lower().endswith((".parquet", ".pq", *STACK_SUFFIXES))]
    wrong = [p for p in tables if (p.detail or "").startswith("columns ")]
    others = sum(not p.is_absent for p in tables) - sum(not p.is_absent for p in wrong)
    if wrong and not others:
        what = "the canonical ECG table" if layout is None else "the layout"
        raise UsageError(
            f"{shown_path(wrong[0].path)}: {wrong[0].detail}; expected {what}. Other people's Parquet is read with "
            "--layout FILE (docs/layouts.md); device files become Parquet with lvm-ai ingest"
        )
    by_detail: defaultdict[str, list[Piece]] = defaultdict(list)
    for piece in wrong:
        by_detail[piece.detail or ""].append(piece)
    for detail, pieces in by_detail.items():
        n_ecgs, n_files = sum(piece.n_ecgs or 0 for piece in pieces), len({(p.root, p.path) for p in pieces})
        found.warnings.append(
            f"{_named(pieces[0].path, n_files)}: {detail}. {counted(n_ecgs, 'ECG')} there will be rejected"
        )


def _named(first: str, n_files: int) -> str:
    shown = shown_path(first)
    return shown if n_files == 1 else f"{shown} and {counted(n_files - 1, 'more file')}"


def _check_absent_columns(found: Inputs, layout: Layout | None) -> None:
    """Warn of optional columns that some Parquet files lack.

    A column that the layout names and no file has is refused: its name is wrong.
    """
    n_files = len(found.absent_columns)
    for column in optional_columns(layout):
        lacking = [path for path, absent in found.absent_columns.items() if column in absent]
        if not lacking:
            continue
        if len(lacking) < n_files:
            found.warnings.append(
                f"{_named(lacking[0], len(lacking))}: column {column} is missing, which other "
                "files have; its values are taken as null"
            )
        elif layout is not None:
            raise UsageError(
                f"{_named(lacking[0], n_files)}: column {column}, which the layout names, is "
                "missing; correct the name in the layout, or remove it there"
            )


def check_dates(keys: Keys, layout: Layout | None) -> list[str]:
    """Return warnings about files in which no date of recording can be read.

    Where that is so in each file that has dates, the run is refused.
    """
    if not keys.unreadable_dates:
        return []
    column = (None if layout is None else layout.recorded_at) or "recorded_at"
    first, pattern = next(iter(keys.unreadable_dates.items()))
    found = (
        f"{_named(first, len(keys.unreadable_dates))}: column {column} is written as {pattern}, "
        "and no value in the file can be read; expected YYYY-MM-DDTHH:MM:SS or a timestamp"
    )
    if len(keys.unreadable_dates) == keys.n_dated_files:
        raise UsageError(f"{found}. Write the column again, or leave it out: it is optional")
    return [f"{found}. Its ECGs will be rejected"]


@dataclass
class Keys:
    """Keys of all inputs, as far as planning needs them."""

    seen: set[str] = field(default_factory=set)  # ecg_id of everything so far
    people: set[str] = field(default_factory=set)  # participant_id of everything so far, with a table alone
    dates: dict[str, tuple[dt.datetime, dt.datetime]] = field(default_factory=dict)  # first and last of each person
    forecast: JoinForecast | None = None  # counts how the participant table fits the ECGs; None without a table
    n_dated_files: int = 0  # Parquet files with a date of recording
    # How dates are written, by path of each file of which none can be read.
    unreadable_dates: dict[str, str] = field(default_factory=dict)
    index: RecordIndex | None = None  # of the archive, by the keys that the run uses
    pseudonyms: Pseudonyms | None = None  # take the place of keys that are read

    def own(self, ecg_id: str | None, person: str | None) -> tuple[str | None, str | None]:
        """Return the keys that the run uses for those of a file."""
        if self.pseudonyms is None:
            return ecg_id, person
        return (
            None if ecg_id is None else self.pseudonyms.ecg(ecg_id),
            None if person is None else self.pseudonyms.person(person),
        )

    def known(
        self, ecg_id: str | None, person: str | None, time: dt.datetime | None
    ) -> tuple[str | None, dt.datetime | None]:
        """Return person and time of an ECG by the index, where it has them, else as given."""
        return (person, time) if self.index is None else self.index.known(ecg_id, person, time)

    def add(self, ecg_id: str, person: str | None, time: dt.datetime | None, *, is_device_file: bool) -> None:
        """Add an ECG that is the first of its ecg_id."""
        self.seen.add(ecg_id)
        if self.forecast is not None:
            self.forecast.add(ecg_id, person, time, is_device_file=is_device_file)

    def add_person(self, person: str | None) -> None:
        """Add the person of an ECG, where a participant table is there to be compared with."""
        if person and self.forecast is not None:
            self.people.add(person)

    def note_dates(self, path: str, times: Sequence[object]) -> None:
        """Note whether any date of recording of a file can be read."""
        given = [time for time in times if time is not None]
        if not given:
            return
        self.n_dated_files += 1
        if all(local_time(time)[1] is not None for time in given):
            self.unreadable_dates[path] = form_of(str(given[0]))


def mark_duplicates(
    storage: Storage, roots: Sequence[str], pieces: Sequence[Piece], layout: Layout | None, keys: Keys
) -> list[Piece]:
    """Return the pieces with their duplicates marked: rows with an ecg_id that came earlier.

    Paths start from `roots`; `pieces` are in plan order. `keys` holds what is known of earlier
    inputs, and is added to.
    """
    marked: list[Piece] = []
    columns: dict[tuple[int, str], list[list[object]]] = {}
    columns_in_turn = key_columns_in_turn(storage, roots, pieces, layout)
    for piece in pieces:
        if piece.is_table and not piece.path:
            marked.append(piece)  # finished, and its path removed with a person who withdrew
        elif piece.is_table:
            key = (piece.root, piece.path)
            if key not in columns:
                columns = {key: next(columns_in_turn)}
                keys.note_dates(piece.shown, columns[key][2])
            marked.append(_mark_span(piece, columns[key], keys))
        elif piece.ecg_id is not None and piece.reason is None:
            duplicate = piece.ecg_id in keys.seen
            if not duplicate:
                # Only the forecast asks for the time of an ECG that is not read yet.
                time = None if keys.forecast is None else keys.known(piece.ecg_id, None, None)[1]
                keys.add(piece.ecg_id, piece.participant_id, time, is_device_file=True)
            keys.add_person(piece.participant_id)
            rows = (0,) if duplicate else ()
            marked.append(piece if piece.duplicate_rows == rows else replace(piece, duplicate_rows=rows))
        else:
            marked.append(piece)
    return marked


def key_columns_in_turn(
    storage: Storage, roots: Sequence[str], pieces: Sequence[Piece], layout: Layout | None
) -> Iterator[list[list[object]]]:
    """Yield ecg_id, participant_id and recorded_at of each table with a path, each a whole column.

    Some files are read ahead because a store answers slowly.
    """
    with_path = (piece for piece in pieces if piece.is_table and piece.path)
    files = [next(spans) for _, spans in groupby(with_path, key=lambda piece: (piece.root, piece.path))]
    waiting: deque[Future[list[list[object]]]] = deque()
    with ThreadPoolExecutor(_READERS) as pool:
        for piece in files:
            waiting.append(pool.submit(_key_columns, storage, roots, piece, layout))
            if len(waiting) >= _READERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _key_columns(storage: Storage, roots: Sequence[str], piece: Piece, layout: Layout | None) -> list[list[object]]:
    names: tuple[str | None, ...] = ("ecg_id", "participant_id", "recorded_at")
    if layout is not None:
        names = (layout.ecg_id, layout.participant_id, layout.recorded_at)
    uri = join(roots[piece.root], piece.path)
    if layout is not None and is_stack(piece.path):
        return stack_keys(storage, uri, layout, names)
    return read_keys(storage, uri, names)


def _mark_span(piece: Piece, columns: list[list[object]], keys: Keys) -> Piece:
    duplicates = []
    ids, people, times = columns
    stop = piece.first_row + (piece.n_ecgs or 0)
    unlisted = set(piece.unlisted_rows)
    for row in range(piece.first_row, min(stop, len(ids))):
        if row in unlisted:
            continue
        ecg_id, person = keys.own(key_text(ids[row]), key_text(people[row]))
        person, time = keys.known(ecg_id, person, local_time(times[row])[0])
        if ecg_id is not None and ecg_id in keys.seen:
            duplicates.append(row)
        elif ecg_id is not None:
            keys.add(ecg_id, person, time, is_device_file=False)
        keys.add_person(person)
        if person is not None and time is not None and time.date() not in PLACEHOLDER_DATES:
            first, last = keys.dates.get(person, (time, time))
            keys.dates[person] = min(first, time), max(last, time)
    return replace(piece, duplicate_rows=tuple(duplicates))
