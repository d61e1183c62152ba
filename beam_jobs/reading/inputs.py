"""What the inputs hold: files, records in files and archives, their keys, what is ignored.

The record is the unit of account: one XML file, one WFDB header with its signal files, one row of
a Parquet file.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Final

from beam_jobs.reading import archives
from beam_jobs.reading.local_files import FileKind
from beam_jobs.reading.storage import FileEntry, Storage, join
from lvm_core.errors import EcgRejected, RejectReason, UsageError
from lvm_core.formats.registry import MAIN_SUFFIXES, MAX_RECORD_BYTES, format_with_parts

IGNORED_PATTERNS: Final = tuple(
    ".* _* README* LICENSE* LICENCE* CHANGELOG* RECORDS* ANNOTATORS* SHA256SUMS* MD5SUMS* MANIFEST* "
    "Thumbs.db desktop.ini *.md *.html *.pdf".split()
)
"""Names of files that are no ECG; case does not matter. They are counted, never read."""

_IGNORED_NAME: Final = re.compile("|".join(fnmatch.translate(pattern.lower()) for pattern in IGNORED_PATTERNS))

BY_NAME: Final = "by name"

ID_PRESETS: Final = {
    # UK Biobank field 20205: EID_20205_INSTANCE_ARRAY.xml, or converted to another format
    "ukb-20205": r"(?:^|/|!)(?P<ecg_id>(?P<participant_id>\d+)_20205_\d+_\d+)\.[^./!]+$"
}
_READERS: Final = 16
_NEVER_PARTS: Final = (*MAIN_SUFFIXES, ".parquet", ".csv", ".json")


@dataclass(frozen=True, slots=True)
class IdRule:
    """How a record's keys follow from its path."""

    # Regular expression with the named groups `ecg_id` and, optionally, `participant_id`,
    # searched in the path below the input root (`archive!member` in archives); a name of
    # `ID_PRESETS`; or None: the path without its extension.
    pattern: str | None = None

    def __post_init__(self) -> None:
        if self.pattern is None:
            return
        try:
            groups = re.compile(self.regex).groupindex
        except re.error as error:
            raise UsageError(
                f"--id-pattern {self.pattern!r} is not a regular expression ({error}); expected "
                f"one with a named group (?P<ecg_id>...), or a preset: {', '.join(ID_PRESETS)}"
            ) from error
        if "ecg_id" not in groups:
            raise UsageError(
                f"--id-pattern {self.pattern!r} has no group (?P<ecg_id>...); found groups "
                f"{sorted(groups)}. Presets: {', '.join(ID_PRESETS)}"
            )

    @property
    def regex(self) -> str:
        """The regular expression; that of the preset for the name of one."""
        assert self.pattern is not None
        return ID_PRESETS.get(self.pattern, self.pattern)

    def keys(self, path: str) -> tuple[str | None, str | None]:
        """Return (ecg_id, participant_id); ecg_id is None when the pattern does not match."""
        if self.pattern is None:
            return path_without_extension(path), None
        match = re.search(self.regex, path) or re.search(self.regex, archives.without_packing(path))
        if match is None:
            return None, None
        return match["ecg_id"], match.groupdict().get("participant_id")


@dataclass(frozen=True, slots=True)
class RecordFiles:
    """The files of one record: the main one first, paths relative to the root or archive."""

    main: str
    parts: tuple[str, ...]
    size: int

    @property
    def files(self) -> tuple[str, ...]:
        """The main file and its parts."""
        return (self.main, *self.parts)


@dataclass(frozen=True, slots=True)
class ArchiveListing:
    """What is in one archive, or why it cannot be read."""

    entry: FileEntry
    records: tuple[RecordFiles, ...] = ()
    refused: tuple[archives.Member, ...] = ()  # members that are rejected without being opened
    unread: tuple[archives.Member, ...] = ()  # archives inside it
    ignored: Mapping[str, int] = field(default_factory=dict)  # members that are no ECG, by kind
    damage: EcgRejected | None = None  # why the archive cannot be read


@dataclass(frozen=True, slots=True)
class InputListing:
    """Everything below one root."""

    parquet: tuple[FileEntry, ...]
    records: tuple[RecordFiles, ...]  # of loose files
    archives: tuple[ArchiveListing, ...]
    # Number of files that were not opened, also in archives, by kind: `BY_NAME` for those of
    # `IGNORED_PATTERNS`, else the value of their `FileKind`.
    ignored: Mapping[str, int]
    broken: tuple[FileEntry, ...] = ()  # links that lead nowhere
    unread: tuple[FileEntry, ...] = ()  # archives of kinds that are not read


def path_without_extension(path: str) -> str:
    """Drop the extension of the last component: `a/b.c.hea` is `a/b.c`, `a.xml.gz` is `a`.

    Digits are no extension: DICOM files are often named by a number such as `1.2.840.113.7`.
    """
    path = archives.without_packing(path)
    head, slash, name = path.rpartition("/")
    bang = name.rfind("!") + 1
    stem, _, extension = name[bang:].rpartition(".")
    if not stem or extension.isdigit():
        stem = name[bang:]
    return f"{head}{slash}{name[:bang]}{stem}"


def is_ignored(path: str) -> bool:
    """Tell from its path whether a file is no ECG: by its name, or in a hidden folder."""
    folder, _, name = path.rpartition("/")
    if _IGNORED_NAME.match(name.lower()):
        return True
    if "." not in folder and "__MACOSX" not in path:
        return False
    hidden = any(part.startswith(".") and part not in (".", "..") for part in folder.split("/"))
    return hidden or "__MACOSX" in path.split("/")


def list_input(storage: Storage, root: str, entries: Sequence[FileEntry]) -> InputListing:
    """Sort the files of one root, which their relative paths start from.

    Archives are read, and main files where the names of the files do not show their parts.
    """
    parquet, loose, packed, broken, unread = [], [], [], [], []
    ignored: Counter[str] = Counter()
    for entry in entries:
        if is_ignored(entry.relative):
            ignored[BY_NAME] += 1
        elif entry.kind is FileKind.DEAD_LINK:
            broken.append(entry)
        elif entry.kind is not FileKind.FILE:
            ignored[entry.kind.value] += 1
        elif archives.is_unread_archive(entry.relative):
            unread.append(entry)
        elif entry.relative.lower().endswith((".parquet", ".pq")):
            parquet.append(entry)
        elif archives.is_archive(entry.relative):
            packed.append(_list_archive(storage, entry))
        else:
            loose.append((entry.relative, entry.size))

    def read(paths: Collection[str]) -> dict[str, bytes]:
        with ThreadPoolExecutor(_READERS) as pool:
            return dict(zip(paths, pool.map(lambda path: _read_main(storage, root, path), paths), strict=True))

    records = group_records(loose, read)
    for listing in packed:
        ignored.update(listing.ignored)
    return InputListing(tuple(parquet), tuple(records), tuple(packed), ignored, tuple(broken), tuple(unread))


def _read_main(storage: Storage, root: str, path: str) -> bytes:
    kind = format_with_parts(path)
    limit_bytes = MAX_RECORD_BYTES if kind is None else kind.max_main_bytes
    return storage.read_bytes(join(root, path), limit_bytes=limit_bytes)


def _list_archive(storage: Storage, entry: FileEntry) -> ArchiveListing:
    try:
        members = archives.list_members(storage, entry.uri)
    except EcgRejected as damage:
        return ArchiveListing(entry, damage=damage)
    named = list(_with_own_names(m for m in members if not is_ignored(m.name)))
    refused = tuple(m for m in named if m.refused)
    ignored = Counter(m.kind.value for m in named if m.kind is not FileKind.FILE and not m.refused)
    if len(named) < len(members):
        ignored[BY_NAME] = len(members) - len(named)
    kept = [m for m in named if m.kind is FileKind.FILE and not m.refused]
    unread = tuple(m for m in kept if archives.is_any_archive(m.name))
    files = [(m.name, m.size) for m in kept if not archives.is_any_archive(m.name)]

    def read(names: Collection[str]) -> dict[str, bytes]:
        found = archives.read_members(storage, entry.uri, names)
        return {name: data for name, data in found if isinstance(data, bytes)}

    records = tuple(group_records(files, read))
    return ArchiveListing(entry, records, refused, unread, ignored)


def _with_own_names(members: Iterable[archives.Member]) -> Iterator[archives.Member]:
    """Rename and refuse members with a name that came before, so that each is counted."""
    seen: Counter[str] = Counter()
    for member in members:
        seen[member.name] += 1
        if (n := seen[member.name]) > 1:
            why = "archive holds several members of this name; the first is read"
            kept = member.kind is FileKind.FILE or member.refused
            yield replace(member, name=f"{member.name} ({n})", refused=why if kept else None)
        else:
            yield member


def group_records(
    files: Iterable[tuple[str, int]], read: Callable[[Collection[str]], dict[str, bytes]]
) -> list[RecordFiles]:
    """Group (path, bytes) of files into records, sorted by path.

    A WFDB header takes the signal files of its stem, or those that it names; the header of a record
    that is cut into segments takes these with their files; an XML file is alone. `read` returns the
    content of main files, by path. It is called at most once: for main files without a part and,
    where some files have no main file of the same stem, but may be named in one, for the main files
    of their folders.
    """
    sizes = dict(files)
    folders: dict[str, list[str]] = defaultdict(list)
    for path in sizes:
        folders[posixpath.dirname(path)].append(path)
    owner: dict[str, str] = {}
    orphans: set[str] = set()
    may_name_one: list[str] = []
    lonely: list[str] = []
    for paths in folders.values():
        mains = _mains_with_parts(paths)
        owned, alone = _owners_by_stem(paths, mains)
        owner.update(owned)
        orphans.update(alone)
        complete = set(owned.values())
        lonely += [main for main in mains.values() if main not in complete]
        may_name_one += [main for main in mains.values() if alone or main not in complete]
    to_read = sorted(may_name_one if orphans else lonely)
    if to_read:
        contents = read(to_read)
        owner.update(_owners_by_content(to_read, orphans, contents))
        owner = _with_segments(owner, lonely, sizes, contents)
    parts: dict[str, list[str]] = defaultdict(list)
    for path, main in sorted(owner.items()):
        parts[main].append(path)
    return [
        RecordFiles(path, tuple(parts[path]), sum(sizes[file] for file in (path, *parts[path])))
        for path in sorted(sizes)
        if path not in owner
    ]


def _mains_with_parts(paths: Iterable[str]) -> dict[str, str]:
    """Return the files that may have parts, such as WFDB headers, by their stem."""
    formats = ((path, format_with_parts(path)) for path in paths)
    return {path[: -len(kind.suffix)]: path for path, kind in formats if kind is not None}


def _owners_by_stem(paths: Iterable[str], mains: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Map the parts in one folder to the main file of the same stem; also return other files."""
    owner, alone = {}, []
    for path in paths:
        if archives.without_packing(path).lower().endswith(_NEVER_PARTS):
            continue
        main = mains.get(path_without_extension(path))
        if main is None:
            alone.append(path)
        else:
            owner[path] = main
    return owner, alone


def _owners_by_content(mains: Sequence[str], orphans: Collection[str], contents: Mapping[str, bytes]) -> dict[str, str]:
    """Map files without a main file of their stem to the first main file that names them."""
    owner: dict[str, str] = {}
    for main in reversed(mains):
        for stated, beside in _named_in(main, contents):
            owner[stated if stated in orphans else beside] = main
    return {path: main for path, main in owner.items() if path in orphans}


def _named_in(main: str, contents: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    """Yield where each file that a main file names is: where it says, and beside the main file."""
    kind, folder = format_with_parts(main), posixpath.dirname(main)
    assert kind is not None
    assert kind.part_names is not None
    for name in kind.part_names(contents.get(main, b"")):
        yield posixpath.normpath(posixpath.join(folder, name)), posixpath.join(folder, posixpath.basename(name))


def _with_segments(
    owner: Mapping[str, str], lonely: Iterable[str], there: Collection[str], contents: Mapping[str, bytes]
) -> dict[str, str]:
    """Give main files, and what they own, to the first main file without a part that names them."""
    segments: dict[str, str] = {}
    wholes = {main: [beside for _, beside in _named_in(main, contents)] for main in sorted(lonely)}
    wholes = {main: names for main, names in wholes.items() if any(format_with_parts(name) for name in names)}
    for main in reversed(wholes):
        # A record that names others is never a segment: two that name each other stay two records.
        segments.update((name, main) for name in wholes[main] if name in there and name not in wholes)
    return {**{path: segments.get(main, main) for path, main in owner.items()}, **segments}


def unmatched_id(rule: IdRule) -> EcgRejected:
    """Return the reject of a record whose path the id pattern does not match."""
    return EcgRejected(
        RejectReason.NOT_AN_ECG, f"path does not match --id-pattern {rule.pattern!r}, so it has no ecg_id"
    )
