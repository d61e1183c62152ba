"""Local paths, s3:// and gs:// through one library: listing, reading, atomic writing, retries.

Passing faults (a reset connection, a slow store, a stale handle) are tried again here, because
Beam's local runner retries nothing. Permission errors and missing files are never retried.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import random
import re
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import numpy as np
from pyarrow import fs

from beam_jobs.reading import local_files
from beam_jobs.reading.local_files import FileKind, Listed, shown_path
from beam_jobs.reading.store_clients import OPTION_KEYS, STORE_SCHEMES, store_client
from lvm_core.errors import LvmError, UsageError

T = TypeVar("T")

MAX_TRIES: Final = 5
MAX_PAUSE_S: Final = 60.0
SETTLE_S: float = 1.0
"""After which a file that was created in a store is read back."""
# Requests to a store: a gap in what is wanted that is not worth a request of its own, what is read
# at once at most and, beside what is asked for, at least, and how many requests run side by side.
_GAP_BYTES: Final = 64 << 10
_PART_BYTES: Final = 8 << 20
_AHEAD_BYTES: Final = 64 << 10
_PARTS_AT_ONCE: Final = 8
# Names in the module errno.
_PASSING: Final = frozenset(
    "EIO EAGAIN EBUSY EINTR ESTALE ETIMEDOUT ENETDOWN ENETUNREACH ENETRESET EHOSTUNREACH EHOSTDOWN ECONNRESET "
    "ECONNREFUSED ECONNABORTED EPIPE EREMOTEIO".split()
)
# S3 answers 400 to an expired token, and Arrow tells no more of a HEAD request.
_DENIED: Final = re.compile(
    r"ACCESS_DENIED|AccessDenied|PERMISSION_DENIED|Forbidden|UNAUTHENTICATED|InvalidAccessKeyId|ExpiredToken"
    r"|SignatureDoesNotMatch|HTTP status 40[013]|[Cc]redential"
)
_REQUEST_TIMEOUT: Final = "RequestTimeout"  # has status 400 too, and passes
_NOT_A_FILE: Final = re.compile(r"is a directory|[Nn]ot a directory|not a regular file")
_MISSING: Final = re.compile(r"NO_SUCH|NoSuch|No such|NOT_FOUND|HTTP status 404|does not exist")


# Faults and retries


class StorageFault(LvmError):
    """A fault of the storage that remained after several tries; the same command resumes."""


class StorageDenied(LvmError):
    """The storage refuses access; trying again does not help."""


class FileMissing(LvmError):
    """A file that should be there is not."""


def classify(error: OSError) -> type[LvmError]:
    """Return the kind of an error of raw reading or writing: passing, denied, missing or other.

    Errors of decoding never come here: only bytes are moved below this module. pyarrow's store
    errors carry no `errno`, so their text is examined; without a match it is a network fault.
    """
    text = str(error) if error.errno is None else ""
    if isinstance(error, PermissionError) or (_DENIED.search(text) and _REQUEST_TIMEOUT not in text):
        return StorageDenied
    if isinstance(error, FileNotFoundError) or _MISSING.search(text):
        return FileMissing
    if error.errno is None:
        return LvmError if _NOT_A_FILE.search(text) else StorageFault
    return StorageFault if errno.errorcode.get(error.errno) in _PASSING else LvmError


def with_retries(operation: Callable[[], T], what: str, *, sleep: Callable[[float], None] = time.sleep) -> T:
    """Run an operation on bytes, and again after passing faults, with a jittered, growing pause.

    `what` is for the message, for example `reading s3://bucket/a.parquet`. After `MAX_TRIES` tries
    a `StorageFault` is raised; other errors of the operating system are raised at once, as
    `classify` names them.
    """
    for attempt in range(1, MAX_TRIES + 1):
        try:
            return operation()
        except OSError as error:
            kind = classify(error)
            if kind is not StorageFault or attempt == MAX_TRIES:
                raise kind(_message(kind, what, error)) from error
            # Jitter spreads the retries of many workers; no result depends on it.
            sleep(min(MAX_PAUSE_S, 2.0 ** (attempt - 1)) * (0.5 + random.random() / 2))
    raise AssertionError("unreachable")


def _message(kind: type[LvmError], what: str, error: OSError) -> str:
    reason = (error.strerror or str(error)).strip().splitlines()[0][:300]
    if kind is StorageFault:
        resume = "Run the same command again to resume: finished work is kept"
        return f"{what} failed {MAX_TRIES} times, last with: {reason}. {resume}"
    if kind is StorageDenied:
        return (
            f"{what}: access denied ({reason}). Check permissions and credentials, which may have expired, and run the "
            "same command again"
        )
    return f"{what}: no such file or folder" if kind is FileMissing else f"{what}: {reason}"


# Storage


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One listed file: its URI, its path relative to the root it was listed under, its bytes.

    `size` is -1 for a link that leads nowhere; two entries with the same `real` are one file; only
    entries of kind `FILE` may be opened.
    """

    uri: str
    relative: str
    size: int
    real: str = ""
    kind: FileKind = FileKind.FILE


@dataclass(frozen=True)
class Storage:
    """Where files are; travels to workers inside the job's config."""

    # (key, value) pairs such as `("s3.endpoint_override", "127.0.0.1:5000")`. Keys are `s3.` or
    # `gs.` followed by endpoint_override, scheme, region or anonymous. Credentials come from the
    # environment, as the stores' own clients read them.
    options: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for key, _ in self.options:
            scheme, _, name = key.partition(".")
            if scheme not in STORE_SCHEMES or name not in OPTION_KEYS:
                raise UsageError(
                    f"--storage-option {key!r} is not known; expected s3. or gs. followed by one "
                    f"of {', '.join(OPTION_KEYS)}, for example s3.endpoint_override=HOST:PORT"
                )

    def resolve(self, uri: str) -> tuple[fs.FileSystem, str]:
        """Return the file system of a URI and the path inside it."""
        scheme = store_scheme(uri)
        if scheme is None:
            path = str(Path(_path(uri)).absolute())
            # Arrow takes bytes where a name is not UTF-8; its stubs do not say so.
            return _local(), path if path.isascii() else cast(str, path.encode("utf-8", "surrogateescape"))
        mine = tuple((k.partition(".")[2], v) for k, v in self.options if k.startswith(scheme))
        path = uri.removeprefix(f"{scheme}://").rstrip("/")
        # In a store an empty segment would name another object, on a disk it changes nothing.
        return store_client(scheme, mine), re.sub(r"/{2,}", "/", path)

    def absolute(self, uri: str) -> str:
        """Return a URI that means the same from every folder: a local path as an absolute one."""
        return uri if store_scheme(uri) is not None else str(Path(_path(uri)).absolute())

    # Looking and listing

    def exists(self, uri: str) -> bool:
        """Tell whether a file or folder is there."""
        return bool(self._info(uri).type != fs.FileType.NotFound)

    def is_file(self, uri: str) -> bool:
        """Tell whether a file, not a folder, is there."""
        return bool(self._info(uri).type == fs.FileType.File)

    def _info(self, uri: str) -> fs.FileInfo:
        filesystem, path = self.resolve(uri)
        return with_retries(lambda: filesystem.get_file_info(path), f"looking for {uri}")

    def list_files(self, uri: str) -> list[FileEntry]:
        """List a file, a folder (recursively) or a glob, sorted by relative path.

        In a glob `*` and `?` stay within one folder and `**` crosses them. Paths are relative to
        the folder, to the part of a glob before its first wildcard, or to a file's own folder.
        `FileMissing` is raised where nothing is there.
        """
        if is_glob(uri):
            base, pattern = split_glob(uri)
            return self._list_folder(base, _glob_regex(pattern))
        info = self._info(uri)
        if info.type == fs.FileType.Directory:
            return self._list_folder(uri)
        if info.type == fs.FileType.File:
            return [FileEntry(uri, _last_part(uri), int(info.size), self._normal(uri))]
        expected = "expected a file, a folder or a glob"
        if info.type == fs.FileType.NotFound:
            raise FileMissing(f"input {shown_path(uri)!r} is not there; {expected}")
        raise UsageError(f"input {shown_path(uri)!r} is a {local_files.kind_of(_local_path(uri)).value}; {expected}")

    def _list_folder(self, uri: str, wanted: re.Pattern[str] | None = None) -> list[FileEntry]:
        """List a folder, or what a pattern matches in it; a file with two paths is read once."""
        base = uri.rstrip("/")
        if store_scheme(uri) is None:
            folder = _local_path(uri)
            found = with_retries(lambda: local_files.walk(folder, for_glob=wanted is not None), f"listing {uri}")
            return _each_once(base, [f for f in found if wanted is None or wanted.fullmatch(f.relative)])
        path, infos = self._store_infos(uri, recursive=True)
        entries = []
        for info in infos:
            relative = info.path[len(path) :].lstrip("/")
            if info.type == fs.FileType.File and (wanted is None or wanted.fullmatch(relative)):
                entries.append(FileEntry(f"{base}/{relative}", relative, int(info.size), f"{base}/{relative}"))
        return sorted(entries, key=lambda entry: entry.relative)

    def _store_infos(self, uri: str, *, recursive: bool) -> tuple[str, list[fs.FileInfo]]:
        filesystem, path = self.resolve(uri)
        selector = fs.FileSelector(path, allow_not_found=not recursive, recursive=recursive)
        return path, with_retries(lambda: filesystem.get_file_info(selector), f"listing {uri}")

    def names(self, uri: str) -> list[str]:
        """Return the names of the files directly in a folder, sorted; empty without a folder."""
        return sorted(self.modified_s(uri))

    def entries(self, uri: str) -> list[str]:
        """Return the names of files and folders directly in a folder; empty without a folder."""
        return sorted(name for name, _, _ in self._children(uri))

    def modified_s(self, uri: str) -> dict[str, float]:
        """Return when the files directly in a folder were last written, seconds, by name."""
        return {name: mtime_s for name, is_file, mtime_s in self._children(uri) if is_file}

    def _children(self, uri: str) -> list[tuple[str, bool, float]]:
        """Return what is directly in a folder: name, whether it is a file, when it was written."""
        if store_scheme(uri) is None:
            return with_retries(lambda: local_files.children(_local_path(uri)), f"listing {uri}")
        _, infos = self._store_infos(uri, recursive=False)
        return [(i.base_name, i.type == fs.FileType.File, (i.mtime_ns or 0) / 1e9) for i in infos]

    def contains(self, folder: str, uri: str) -> bool:
        """Tell whether `uri` is `folder` or lies below it, links resolved."""
        if store_scheme(folder) != store_scheme(uri):
            return False
        outer, inner = (self._normal(u) for u in (folder, uri))
        return inner == outer or inner.startswith(outer.rstrip("/") + "/")

    def _normal(self, uri: str) -> str:
        return os.path.realpath(_local_path(uri)) if store_scheme(uri) is None else self.resolve(uri)[1]

    def open_to_others(self, uri: str) -> str | None:
        """Return a warning about a local folder that others may look into, or None.

        Stores have their own access rules, which are not examined here.
        """
        return local_files.open_to_others(_local_path(uri)) if store_scheme(uri) is None else None

    # Reading

    def read_bytes(self, uri: str, *, expected: str = "a file", limit_bytes: int | None = None) -> bytes:
        """Return the content of a file, at most one byte more than `limit_bytes` where it is given.

        The limit holds however large the file is or becomes while it is read. `expected` is for
        the message where there is a folder, a pipe or another thing that is no file.
        """
        n_bytes = None if limit_bytes is None else limit_bytes + 1
        if store_scheme(uri) is not None:
            with self.open(uri) as file:
                return file.read(n_bytes)
        self._require_file(uri, expected)
        filesystem, path = self.resolve(uri)

        def read() -> bytes:
            with filesystem.open_input_stream(path, compression=None) as stream:
                return bytes(stream.read(n_bytes))

        return with_retries(read, f"reading {shown_path(uri)}")

    def _require_file(self, uri: str, expected: str) -> None:
        """Refuse what is no regular file before it is opened: opening a named pipe waits."""
        if store_scheme(uri) is not None:
            return
        kind = with_retries(lambda: local_files.kind_of(_local_path(uri)), f"opening {shown_path(uri)}")
        if kind not in (FileKind.FILE, FileKind.DEAD_LINK):
            raise UsageError(f"{shown_path(uri)} is a {kind.value}, expected {expected}")

    def open(self, uri: str) -> RetryingFile:
        """Open a file for reading anywhere in it, with retries of each read."""
        return RetryingFile(self, uri)

    # Writing and deleting

    def write_atomic(self, uri: str, data: bytes, *, private: bool = False) -> None:
        """Write a file that is there whole or not at all; `private`: for its owner only (local).

        Local: a temporary file in the same folder, fsync, rename, fsync of the folder. Stores: one
        write of bytes that are complete (an exception inside an open store stream would publish
        a half-written object).
        """
        if store_scheme(uri) is None:
            with_retries(lambda: local_files.write_whole(_local_path(uri), data, private=private), f"writing {uri}")
            return
        filesystem, path = self.resolve(uri)

        def write() -> None:
            with filesystem.open_output_stream(path, compression=None) as stream:
                stream.write(data)

        try:
            with_retries(write, f"writing {uri}")
        except FileMissing:
            # A store may forget an upload that it finished, and be asked again for a lost answer.
            if not (self.exists(uri) and self.read_bytes(uri) == data):
                raise

    def create_exclusive(self, uri: str, parts: Callable[[], Iterable[bytes]], *, private: bool = False) -> bool:
        """Write a file unless it is there, `private` as `write_atomic`; return whether it was made.

        `parts` gives its bytes, piece by piece; it is called again after a passing fault.
        Local: atomic among processes. Stores offer no exclusive creation through this library:
        there two processes may both write, and the later one stays. So the file is read back after
        a moment, and False is returned where it is another process's. One that stalls between its
        look and its write for longer than the moment still replaces the file: whoever reads it
        later must check that it is the one that is meant.
        """
        if store_scheme(uri) is None:
            path = _local_path(uri)
            return with_retries(lambda: local_files.create_whole(path, parts(), private=private), f"writing {uri}")
        if self.exists(uri):
            return False
        data = b"".join(parts())
        self.write_atomic(uri, data)
        time.sleep(SETTLE_S)
        return self.read_bytes(uri) == data

    def delete(self, uri: str) -> None:
        """Delete a file; do nothing without one."""
        filesystem, path = self.resolve(uri)
        with contextlib.suppress(FileMissing):
            with_retries(lambda: filesystem.delete_file(path), f"deleting {uri}")

    def delete_folder(self, uri: str) -> None:
        """Delete a folder and what is in it; do nothing without one."""
        filesystem, path = self.resolve(uri)
        with contextlib.suppress(FileMissing):
            with_retries(lambda: filesystem.delete_dir(path), f"deleting {uri}")

    def sweep_orphans(self, uri: str) -> int:
        """Delete temporary files that killed processes left in a local folder; return how many."""
        return local_files.sweep_orphans(_local_path(uri)) if store_scheme(uri) is None else 0


class RetryingFile(io.RawIOBase):
    """A file open for reading anywhere, each read tried again after passing faults.

    Errors that come out of it are `StorageFault`, `StorageDenied`, `FileMissing` or, where the file
    changed meanwhile, `LvmError`, never `OSError`; so whatever else a decoder raises on top of it
    is damage in the data. A read gives all bytes that were asked for up to the end of the file:
    fewer are a passing fault.

    Stores answer a request slowly whatever its size, so from them more is read than was asked for:
    see `keep`. What is read ahead is bounded.
    """

    def __init__(self, storage: Storage, uri: str) -> None:
        super().__init__()
        storage._require_file(uri, "a file")
        self._filesystem, self._path = storage.resolve(uri)
        self._uri = uri
        self._is_remote = store_scheme(uri) is not None
        self._position = 0
        self._kept: list[tuple[int, memoryview]] = []  # (start, bytes), asked for by `keep`
        self._ahead: tuple[int, memoryview] = 0, memoryview(b"")  # what the last read took beside its own bytes
        self._native, self._size = with_retries(self._open, f"opening {uri}")

    def _open(self) -> tuple[fs.NativeFile, int]:
        native = self._filesystem.open_input_file(self._path)
        return native, int(_with_os_errors(native.size))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def size(self) -> int:
        """Return the size of the file, bytes."""
        return self._size

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Read up to `size` bytes from the position; all that is left for -1 or None."""
        return bytes(self.read_buffer(-1 if size is None else size))

    def read_buffer(self, size: int = -1) -> bytes | memoryview:
        """Read like `read`, without a copy of what `keep` holds; Arrow calls it by this name."""
        left = max(0, self._size - self._position)
        size = left if size < 0 else min(size, left)
        data = self._bytes(self._position, size) if size else b""
        self._position += len(data)
        return data

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self.read_buffer(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def keep(self, spans: Iterable[tuple[int, int]]) -> None:
        """Read spans of a store's file at once; reads inside them are then answered from memory.

        A span is (start, stop), in bytes. Neighbours with a small gap become one request, a long
        span several, some at the same time. What an earlier call kept is forgotten. Local files are
        read as they are asked for: there a request costs nothing.
        """
        if self._is_remote:
            self._kept = []
            first, data = self._ahead  # perhaps the end of the file, of a small one all of it
            last = first + len(data)
            joined = _joined((span for span in spans if not first <= span[0] <= span[1] <= last), self._size)
            self._kept = list(zip((start for start, _ in joined), self._fetched(joined), strict=True))

    def _bytes(self, position: int, size: int) -> bytes | memoryview:
        if not self._is_remote:
            return with_retries(lambda: self._once(self._read_local, position, size), f"reading {self._uri}")
        for start, data in (*self._kept, self._ahead):
            if start <= position and position + size <= start + len(data):
                return data[position - start : position - start + size]
        # Whoever reads one piece after another, as in an archive, is given longer ones each time.
        start, data = self._ahead
        follows = start < position <= start + len(data)
        wanted = max(size, min(2 * len(data), _PART_BYTES) if follows else _AHEAD_BYTES)
        stop = min(self._size, position + wanted)
        (found,) = self._fetched([(position, stop)])
        self._ahead = position, found if len(found) <= _PART_BYTES else memoryview(b"")
        return found[:size]

    def _fetched(self, spans: Sequence[tuple[int, int]]) -> list[memoryview]:
        """Return the bytes of spans of a store's file, in parts that are tried again alone."""
        # numpy leaves the memory as it is; the requests fill it.
        whole = [memoryview(np.empty(stop - start, np.uint8)) for start, stop in spans]  # type: ignore[arg-type]
        parts = [
            (start + offset, view[offset : offset + _PART_BYTES])
            for (start, _), view in zip(spans, whole, strict=True)
            for offset in range(0, len(view), _PART_BYTES)
        ]

        def fetch(part: tuple[int, memoryview]) -> None:
            with_retries(lambda: self._once(self._read_remote, *part), f"reading {self._uri}")

        if len(parts) == 1:
            fetch(parts[0])
        elif parts:
            with ThreadPoolExecutor(min(_PARTS_AT_ONCE, len(parts))) as pool:
                list(pool.map(fetch, parts))
        return [view.toreadonly() for view in whole]

    def _once(self, read: Callable[..., T], *arguments: Any) -> T:
        """Read once; after a fault open the file anew, because a broken handle stays broken."""
        try:
            return _with_os_errors(read, *arguments)
        except OSError as error:
            with contextlib.suppress(OSError):
                again, size = self._open()
                # GCS says that the version that was opened is not there any more.
                if size != self._size or classify(error) is FileMissing:
                    raise LvmError(
                        f"{shown_path(self._uri)} changed while it was read: it had {self._size} bytes and has "
                        f"{size} now. Put the old file back, or plan again with --overwrite"
                    ) from error
                self._native = again
            raise

    def _read_local(self, position: int, size: int) -> bytes:
        data = bytes(self._native.read_at(size, position))
        _require(len(data), size)
        return data

    def _read_remote(self, position: int, buffer: memoryview) -> None:
        """Fill a buffer with the bytes at a position.

        Arrow's S3 client takes a body that is too short for a whole one, and leaves the rest of the
        buffer as it was. So a random byte is put at its end: where that byte is still there, the
        last byte is read again into another one, and must come out the same.
        """
        mark = random.randbytes(1)
        buffer[-1:] = mark
        with self._native.get_stream(position, len(buffer)) as stream:
            _require(stream.readinto(buffer), len(buffer))
        if buffer[-1:] == mark:
            last = memoryview(bytearray([255 - mark[0]]))
            with self._native.get_stream(position + len(buffer) - 1, 1) as stream:
                _require(stream.readinto(last), 1)
            if last != mark:
                raise OSError(errno.EIO, f"the store sent fewer than the {len(buffer)} bytes that were asked for")

    def close(self) -> None:
        if not self.closed:
            self._native.close()
            self._kept = []
            self._ahead = 0, memoryview(b"")
        super().close()


def _with_os_errors(read: Callable[..., T], *arguments: Any) -> T:
    """Read; a file that Arrow's GCS client closed by itself, after a fault, is a passing fault."""
    try:
        return read(*arguments)
    except ValueError as error:
        raise OSError(errno.EIO, f"the connection was given up ({error})") from error


def _require(n_bytes: int, wanted: int) -> None:
    """Raise a passing fault where fewer bytes came than were asked for."""
    if n_bytes != wanted:
        raise OSError(errno.EIO, f"{n_bytes} of {wanted} bytes came")


def _joined(spans: Iterable[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """Return the spans of a file in order, those with a small gap between them as one."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted((max(0, start), min(stop, size)) for start, stop in spans):
        if joined and start - joined[-1][1] <= _GAP_BYTES:
            joined[-1] = joined[-1][0], max(stop, joined[-1][1])
        elif stop > start:
            joined.append((start, stop))
    return joined


def _each_once(base: str, found: Sequence[Listed]) -> list[FileEntry]:
    """Return the entries in order; of a file with several paths only one is of kind `FILE`.

    A path without links is preferred, then the first in order.
    """
    best: dict[str, Listed] = {}
    for listed in found if any(one.linked for one in found) else ():
        known = best.setdefault(listed.real, listed)
        if (listed.linked, listed.relative) < (known.linked, known.relative):
            best[listed.real] = listed
    entries = []
    for listed in found:
        repeated = listed.kind is FileKind.FILE and best.get(listed.real, listed) is not listed
        kind = FileKind.REPEATED if repeated else listed.kind
        uri = f"{base}/{listed.relative}"
        # One text where both are equal: there may be millions.
        real = uri if uri == listed.real else listed.real
        entries.append(FileEntry(uri, listed.relative, listed.size, real, kind))
    return entries


@cache
def _local() -> fs.LocalFileSystem:
    return fs.LocalFileSystem()


# URIs and globs


def store_scheme(uri: str) -> str | None:
    """Return `s3` or `gs` for a store's URI, None for a local path; refuse other schemes."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", uri)
    if match is None or match[1] == "file":
        return None
    if match[1] not in STORE_SCHEMES:
        raise UsageError(f"{uri!r}: storage {match[1]}:// is not known; expected a local path, s3:// or gs://")
    return match[1]


def _path(uri: str) -> str:
    return uri.removeprefix("file://")


def _local_path(uri: str) -> Path:
    """Return a local URI's path for Python's own functions, whatever the locale's encoding."""
    return Path(os.fsdecode(_path(uri).encode("utf-8", "surrogateescape")))


def _last_part(uri: str) -> str:
    name = _path(uri).rstrip("/").rpartition("/")[2]
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def join(folder: str, *names: str) -> str:
    """Join a folder's URI and names below it."""
    return "/".join([folder.rstrip("/"), *names])


def is_glob(uri: str) -> bool:
    """Tell whether a URI holds a wildcard; an existing local file of that name is no glob."""
    if store_scheme(uri) is None and _local_path(uri).exists():
        return False
    return any(character in uri for character in "*?[")


def split_glob(uri: str) -> tuple[str, str]:
    """Split a glob into the folder before its first wildcard and the pattern below it."""
    first = min(i for i in (uri.find(c) for c in "*?[") if i >= 0)
    cut = uri.rfind("/", 0, first) + 1
    base = uri[:cut].rstrip("/") if cut > 1 else uri[:cut]
    return base or ".", uri[cut:]


_GLOB_TOKEN: Final = re.compile(r"\*\*/|\*\*|\*|\?|\[(?P<not>!?)(?P<set>[^\]/]+)\]|.", re.DOTALL)
_GLOB_REGEX: Final = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def _glob_regex(pattern: str) -> re.Pattern[str]:
    """Translate a glob: `*` and `?` within one folder, `**` across folders, `[...]` a set."""

    def translated(token: re.Match[str]) -> str:
        if token["set"]:
            return f"[{'^/' if token['not'] else ''}{token['set']}]"
        return _GLOB_REGEX.get(token[0]) or re.escape(token[0])

    return re.compile(_GLOB_TOKEN.sub(translated, pattern))
