"""ZIP and TAR archives read in place: what is in them, and the bytes of their members.

Nothing is extracted to disk. A ZIP or a plain TAR is read member by member, anywhere in it; a
compressed TAR only from its start to its end.
"""

from __future__ import annotations

import gzip
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, Final, cast

from beam_jobs.storage import Storage
from lvm_core.errors import EcgRejected, RejectReason

MAX_MEMBER_BYTES: Final = 50_000_000
MAX_RATIO: Final = 200
_ZIP: Final = (".zip",)
_TAR: Final = (".tar",)
_TAR_STREAM: Final = (".tar.gz", ".tgz")
_DAMAGE: Final = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError,
    RuntimeError, OSError, ValueError, OverflowError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Member:
    """One file in an archive; `refused` says why it is not read, or is None."""

    name: str
    size: int
    refused: str | None = None


def is_archive(path: str) -> bool:
    """Tell from its name whether a file is an archive that is read here."""
    return path.lower().endswith((*_ZIP, *_TAR, *_TAR_STREAM))


def is_streamed(path: str) -> bool:
    """Tell whether an archive can only be read from start to end (a compressed TAR)."""
    return path.lower().endswith(_TAR_STREAM)


def list_members(storage: Storage, uri: str) -> list[Member]:
    """List the files of an archive in its own order.

    Raises:
        EcgRejected: `unreadable`, the archive is damaged or encrypted throughout.
    """
    try:
        with storage.open(uri) as stream:
            file = cast(IO[bytes], stream)
            if uri.lower().endswith(_ZIP):
                return _zip_members(file)
            return [_tar_member(info) for info in _tar_infos(file, uri)]
    except _DAMAGE as error:
        raise _damaged(error) from error


def read_members(
    storage: Storage, uri: str, names: Collection[str]
) -> Iterator[tuple[str, bytes | EcgRejected]]:
    """Yield (name, bytes) of the wanted members, in the archive's order.

    A member that is damaged comes as its `EcgRejected` in place of bytes. When the archive itself
    breaks off, the iteration ends: members not yielded are lost with it.
    """
    wanted = set(names)
    with storage.open(uri) as stream:
        try:
            if uri.lower().endswith(_ZIP):
                yield from _read_zip(cast(IO[bytes], stream), wanted)
            else:
                yield from _read_tar(cast(IO[bytes], stream), uri, wanted)
        except _DAMAGE:
            return


def _damaged(error: Exception) -> EcgRejected:
    return EcgRejected(
        RejectReason.UNREADABLE,
        f"archive cannot be read ({_cause(error)}); expected an intact "
        ".zip, .tar, .tar.gz or .tgz. Was it copied completely?",
    )


class _ArchiveDamage(tarfile.ReadError):
    """Damage that was found here; its text holds no name of a member."""


def _cause(error: Exception) -> str:
    """Return what a message says of an error; texts of libraries may quote a member's name."""
    if isinstance(error, _ArchiveDamage):
        return str(error)
    return "it is encrypted" if "encrypted" in str(error) else type(error).__name__


def _refusal(size: int, packed: int | None) -> str | None:
    if size > MAX_MEMBER_BYTES:
        return f"member has {size} bytes, the limit is {MAX_MEMBER_BYTES}"
    if packed is not None and size > MAX_RATIO * max(packed, 1):
        return f"member is compressed {size / max(packed, 1):.0f} fold, the limit is {MAX_RATIO}"
    return None


def _zip_members(stream: IO[bytes]) -> list[Member]:
    with zipfile.ZipFile(stream) as archive:
        return [
            Member(info.filename, info.file_size, _refusal(info.file_size, info.compress_size))
            for info in archive.infolist()
            if not info.is_dir()
        ]


def _read_zip(stream: IO[bytes], wanted: set[str]) -> Iterator[tuple[str, bytes | EcgRejected]]:
    with zipfile.ZipFile(stream) as archive:
        for info in archive.infolist():
            if info.filename not in wanted:
                continue
            try:
                # The header may lie about the size: never more than the limit is unpacked.
                with archive.open(info) as member:
                    data = member.read(MAX_MEMBER_BYTES + 1)
            except _DAMAGE as error:
                detail = f"member cannot be unpacked ({_cause(error)})"
                yield info.filename, EcgRejected(RejectReason.UNREADABLE, detail)
                continue
            yield info.filename, _checked(data)


def _checked(data: bytes) -> bytes | EcgRejected:
    refused = _refusal(len(data), None)
    return EcgRejected(RejectReason.UNREADABLE, refused) if refused else data


def _tar_infos(stream: IO[bytes], uri: str) -> Iterator[tarfile.TarInfo]:
    guard = _RatioGuard(stream)
    streamed = is_streamed(uri)
    with _open_tar(guard if streamed else stream, uri) as archive:
        for info in archive:
            if streamed:
                guard.check(info)
            if info.isfile():
                yield info


@contextmanager
def _open_tar(stream: Any, uri: str) -> Iterator[tarfile.TarFile]:
    """Open a TAR; leaving it normally checks that it ended with its end mark.

    `tarfile` takes an archive that breaks off, or goes on with a damaged header, for a complete
    one.
    """
    if is_streamed(uri):
        with gzip.GzipFile(fileobj=stream) as unpacked:
            blocks = _LastBlock(cast(IO[bytes], unpacked))
            stream_of_blocks = cast(IO[bytes], blocks)
            with tarfile.open(fileobj=stream_of_blocks, mode="r|", bufsize=512) as archive:
                yield archive
            _require_end_mark(blocks.last, unpacked)
        return
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        yield archive
        stream.seek(archive.offset)
        _require_end_mark(stream.read(tarfile.BLOCKSIZE), stream)


def _require_end_mark(block: bytes, rest: Any) -> None:
    """Refuse an archive that does not end in a block of zeros, or goes on after it."""
    if block != bytes(tarfile.BLOCKSIZE):
        raise _ArchiveDamage("archive has no end mark where it ends; broken off or damaged")
    while data := rest.read(1 << 20):  # to the end: a compressed one has its checksum there
        if any(data):
            raise _ArchiveDamage("data after the end mark")


class _LastBlock:
    """Passes reads on and keeps what the last one gave."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        """Read bytes."""
        self.last = self._stream.read(size)
        return self.last


def _tar_member(info: tarfile.TarInfo) -> Member:
    return Member(info.name, info.size, _refusal(info.size, None))


def _read_tar(
    stream: IO[bytes], uri: str, wanted: set[str]
) -> Iterator[tuple[str, bytes | EcgRejected]]:
    with _open_tar(stream, uri) as archive:
        for info in archive:
            if not info.isfile() or info.name not in wanted or _refusal(info.size, None):
                continue
            member = archive.extractfile(info)
            data = member.read() if member is not None else b""
            if len(data) != info.size:
                raise _ArchiveDamage("unexpected end of data")
            yield info.name, data


class _RatioGuard:
    """Counts the compressed bytes a TAR reader took, and stops one that unpacks far too much."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._packed = 0

    def read(self, size: int = -1) -> bytes:
        """Read compressed bytes."""
        data = self._stream.read(size)
        self._packed += len(data)
        return data

    def check(self, info: tarfile.TarInfo) -> None:
        """Refuse a member whose header promises far more than was packed so far."""
        # 64 kB: what the decompressor may have read ahead or behind for a small archive.
        unpacked = info.offset_data + info.size
        if unpacked > MAX_RATIO * (self._packed + 65536):
            raise _ArchiveDamage(f"archive unpacks to over {MAX_RATIO} times its size; refused")
