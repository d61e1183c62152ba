"""ZIP and TAR archives read in place: what is in them, and the bytes of their members.

Nothing is extracted to disk. A ZIP or a plain TAR is read member by member, anywhere in it; a
compressed TAR only from its start to its end. No member is unpacked beyond the limit on the size of
a recording, whatever its header says.
"""

from __future__ import annotations

import bz2
import copy
import gzip
import io
import lzma
import posixpath
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, Final, cast

from beam_jobs.reading.local_files import FileKind, kind_of_mode
from beam_jobs.reading.storage import Storage
from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.formats.registry import ECG_SUFFIXES, MAX_RECORD_BYTES

MAX_RATIO: Final = 200
_ZIP: Final = ".zip"
_TAR_STREAM: Final = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")
_SINGLE: Final = (".gz", ".bz2", ".xz")
# Archives of other kinds, and files of other compressors, which may be archives.
_FOREIGN_PACKING: Final = re.compile(r"\.(?:zst|zstd|lz4|lz|lzma|lzo|br|z)$")
_UNREAD: Final = re.compile(
    r"\.(?:7z|rar|zipx|cab|ace|arj|lha|lzh|iso|dmg|cpio|sit|sitx|ar|rpm|deb|jar|tz2|taz|tlz|tzst|tz)$"
    r"|\.(?:7z|zip|rar|tar|tgz|gz|bz2|xz)\.(?:\d{3}|part\d+|[a-f][a-z])$|\.(?:z|r)\d\d$"
    rf"|{_FOREIGN_PACKING.pattern}"
)
# A file of an ECG that another compressor packed is one file, not an archive.
_ONE_FILE: Final = (*ECG_SUFFIXES, ".csv", ".json")
_MAX_TAR_HEADER_BYTES: Final = 1_000_000  # of a long name, in a member of its own
_MAX_LINK_BYTES: Final = 4096  # PATH_MAX of Linux
_LZMA_MEMORY_BYTES: Final = 150_000_000  # xz -9 asks for 65 MB
_DAMAGE: Final = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    OSError,
    ValueError,
    OverflowError,
)
_ENCRYPTED_FLAG: Final = 1
_SIZE_AT_END_FLAG: Final = 2


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an archive, not a folder."""

    name: str  # path in the archive; bytes that are not UTF-8 are surrogate escapes
    size: int  # bytes, unpacked
    refused: str | None = None  # why it is a reject, or None
    kind: FileKind = FileKind.FILE  # only a file is read


def is_archive(path: str) -> bool:
    """Tell from its name whether a file is an archive that is read here."""
    return path.lower().endswith((_ZIP, ".tar", *_TAR_STREAM))


def is_streamed(path: str) -> bool:
    """Tell whether an archive can only be read from start to end (a compressed TAR)."""
    return path.lower().endswith(_TAR_STREAM)


def is_unread_archive(path: str) -> bool:
    """Tell from its name whether a file is an archive of a kind that is not read here."""
    if is_archive(path):
        return False
    if is_single_packed(path):
        return is_any_archive(without_packing(path))
    name = path.lower()
    return _UNREAD.search(name) is not None and not _FOREIGN_PACKING.sub("", name).endswith(_ONE_FILE)


def is_any_archive(path: str) -> bool:
    """Tell from its name whether a file is an archive, read here or not."""
    return is_archive(path) or is_unread_archive(path)


def is_single_packed(path: str) -> bool:
    """Tell from its name whether a file is one compressed file, such as `1.xml.gz`."""
    return path.lower().endswith(_SINGLE) and not is_archive(path)


def without_packing(path: str) -> str:
    """Return the name that a compressed file has unpacked: `1.xml` for `1.xml.gz`."""
    return path.rpartition(".")[0] if is_single_packed(path) else path


def unpack_single(path: str, data: bytes) -> bytes:
    """Return the content of one compressed file, such as `1.xml.gz`.

    A damaged one, or one with content larger than the limit, is rejected as `unreadable`.
    """
    try:
        with _decompressed(io.BytesIO(data), path) as stream:
            content = stream.read(MAX_RECORD_BYTES + 1)
    except _DAMAGE as error:
        raise EcgRejected(
            RejectReason.UNREADABLE, f"compressed file cannot be unpacked ({type(error).__name__}); copy it again"
        ) from error
    return _within_limit(content)


def list_members(storage: Storage, uri: str) -> list[Member]:
    """List the members of an archive in its own order, folders left out.

    A damaged archive is rejected as `unreadable`.
    """
    try:
        with storage.open(uri) as stream:
            if uri.lower().endswith(_ZIP):
                return _zip_members(cast(IO[bytes], stream))
            return list(_tar_members(_tar_infos(cast(IO[bytes], stream), uri)))
    except _DAMAGE as error:
        why = str(error) if isinstance(error, _OwnError) else type(error).__name__
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"archive cannot be read ({why}); expected an intact .zip, .tar, .tar.gz, .tar.bz2 or "
            ".tar.xz. Was it copied completely?",
        ) from error


# The name of a member and its bytes, or why it cannot be read.
Content = tuple[str, bytes | EcgRejected]


def read_members(storage: Storage, uri: str, names: Collection[str]) -> Iterator[Content]:
    """Yield the content of the wanted members, in the archive's order; hard links come last.

    Where the archive itself breaks off, the iteration ends: the rest of the members is lost.
    """
    links: dict[str, str] = {}
    yield from _read(storage, uri, set(names), links)
    if links:
        # A hard link has no bytes of its own, and the bytes of its file may be passed already.
        found = dict(_read(storage, uri, set(links.values()), {}))
        for name, target in links.items():
            if target in found:
                yield name, found[target]


def _read(storage: Storage, uri: str, wanted: set[str], links: dict[str, str]) -> Iterator[Content]:
    """Yield the wanted files; add wanted hard links and the names of their files to `links`."""
    with storage.open(uri) as stream:
        try:
            if uri.lower().endswith(_ZIP):
                yield from _read_zip(cast(IO[bytes], stream), wanted)
            else:
                yield from _read_tar(cast(IO[bytes], stream), uri, wanted, links)
        except _DAMAGE:
            return


class _OwnError(tarfile.ReadError):
    """Damage, described by us: the messages of libraries may quote names of files."""


def _refusal(size: int, packed: int | None = None) -> str | None:
    if size > MAX_RECORD_BYTES:
        return f"member has {size} bytes, the limit is {MAX_RECORD_BYTES}"
    if packed is not None and size > MAX_RATIO * max(packed, 1):
        return f"member is compressed {size / max(packed, 1):.0f} fold, the limit is {MAX_RATIO}"
    return None


def _within_limit(data: bytes) -> bytes:
    if len(data) > MAX_RECORD_BYTES:
        raise EcgRejected(
            RejectReason.UNREADABLE, f"content has more than {MAX_RECORD_BYTES} bytes when it is unpacked, the limit"
        )
    return data


def _refusal_of_link(name: str, target: str, files: Collection[str], *, hard: bool) -> str | None:
    """Return why a link is refused, or None when it leads to a file of the archive."""
    path = target if hard else posixpath.join(posixpath.dirname(name), target)
    if posixpath.normpath(path) in files:
        return None
    return "link leads to no file of its archive; links out of an archive are never followed"


# ZIP


def _zip_members(stream: IO[bytes]) -> list[Member]:
    with zipfile.ZipFile(stream) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        files = {posixpath.normpath(i.filename) for i in infos if _zip_kind(i) is FileKind.FILE}
        overlapping = _overlapping(infos)
        return [_zip_member(archive, info, files, info in overlapping) for info in infos]


def _overlapping(infos: Iterable[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """Return members whose bytes begin before the bytes of the previous member end."""
    end, found = 0, []
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            found.append(info)
        end = max(end, info.header_offset + info.compress_size)
    return found


def _zip_kind(info: zipfile.ZipInfo) -> FileKind:
    mode = info.external_attr >> 16
    # Archives made elsewhere than on Unix have no mode, or one without a kind.
    return kind_of_mode(mode) if stat.S_IFMT(mode) else FileKind.FILE


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, files: Collection[str], overlaps: bool) -> Member:
    kind = _zip_kind(info)
    refused = _refusal(info.file_size, info.compress_size)
    if overlaps:
        refused = "member shares its bytes with another member; the archive is damaged or hostile"
    elif kind is FileKind.SYMBOLIC_LINK:
        try:
            data = _unpack_member(archive, info, _MAX_LINK_BYTES)
        except _DAMAGE:
            data = b""
        target = data.decode("utf-8", "surrogateescape")
        refused = _refusal_of_link(info.filename, target, files, hard=False)
    return Member(info.filename, info.file_size, refused, kind)


def _read_zip(stream: IO[bytes], wanted: set[str]) -> Iterator[Content]:
    with zipfile.ZipFile(stream) as archive:
        for info in archive.infolist():
            if info.filename not in wanted:
                continue
            result: bytes | EcgRejected
            try:
                result = _within_limit(_unpack_member(archive, info, MAX_RECORD_BYTES))
            except EcgRejected as error:
                result = error
            except _DAMAGE as error:
                why = "encrypted" if info.flag_bits & _ENCRYPTED_FLAG else type(error).__name__
                detail = f"member cannot be unpacked ({why}); expected an intact archive without a password"
                result = EcgRejected(RejectReason.UNREADABLE, detail)
            yield info.filename, result


def _unpack_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    """Return a member's bytes, at most one more than the limit: its header may lie."""
    if info.compress_type not in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with archive.open(info) as member:
            return member.read(limit + 1)
    # zipfile unpacks these without a limit, so the packed bytes are taken as if they were stored.
    raw = copy.copy(info)
    raw.compress_type, raw.file_size = zipfile.ZIP_STORED, info.compress_size
    del raw.CRC
    with archive.open(raw) as member:
        data = _bounded(_decompressor(info, member), member, limit)
    if len(data) <= limit and zlib.crc32(data) != info.CRC:
        raise zipfile.BadZipFile("wrong checksum")
    return data


_Decompressor = bz2.BZ2Decompressor | lzma.LZMADecompressor


def _decompressor(info: zipfile.ZipInfo, member: IO[bytes]) -> _Decompressor:
    if info.compress_type == zipfile.ZIP_BZIP2:
        return bz2.BZ2Decompressor()
    # Version (2 bytes), length of the properties (2 bytes, always 5), then as in a .lzma file,
    # whose header also holds the size.
    head = member.read(9)
    if head[2:4] != b"\x05\0":
        raise zipfile.BadZipFile("unknown LZMA properties")
    size = 2**64 - 1 if info.flag_bits & _SIZE_AT_END_FLAG else info.file_size
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_LZMA_MEMORY_BYTES)
    unpacker.decompress(head[4:] + size.to_bytes(8, "little"), 0)
    return unpacker


def _bounded(unpacker: _Decompressor, packed: IO[bytes], limit: int) -> bytes:
    content = bytearray()
    while not unpacker.eof and len(content) <= limit:
        data = packed.read(65536) if unpacker.needs_input else b""
        if unpacker.needs_input and not data:
            raise EOFError("member ends too early")
        content += unpacker.decompress(data, limit + 1 - len(content))
    return bytes(content)


# TAR


_TAR_HEADERS: Final = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


class _BoundedTarInfo(tarfile.TarInfo):
    """Refuses members that would make `tarfile` read any number of bytes into memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _BoundedTarInfo:
        info = super().frombuf(buf, encoding, errors)
        if info.type == tarfile.GNUTYPE_SPARSE:
            raise _OwnError("a sparse member, which is not read")
        if info.type in _TAR_HEADERS and info.size > _MAX_TAR_HEADER_BYTES:
            raise _OwnError(f"a header of {info.size} bytes")
        return info


class _Watched:
    """A stream that is read once, from start to end; it counts bytes and keeps the last ones."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.n_bytes = 0
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        self.last = self._stream.read(size)
        self.n_bytes += len(self.last)
        return self.last

    def seekable(self) -> bool:
        return False


def _tar_infos(stream: IO[bytes], uri: str) -> Iterator[tarfile.TarInfo]:
    streamed = is_streamed(uri)
    packed = _Watched(stream)
    with _open_tar(packed if streamed else stream, uri) as archive:
        for info in archive:
            # 64 kB: what the decompressor may have read ahead or behind for a small archive.
            if streamed and info.offset_data + info.size > MAX_RATIO * (packed.n_bytes + 65536):
                raise _OwnError(f"it unpacks to over {MAX_RATIO} times its size; refused")
            if not info.isdir():
                yield info


def _decompressed(stream: Any, path: str) -> bz2.BZ2File | lzma.LZMAFile | gzip.GzipFile:
    """Open a compressed file that unpacks as it is read, never more than is asked for."""
    name = path.lower()
    if name.endswith((".bz2", ".tbz2", ".tbz")):
        return bz2.BZ2File(stream)
    return lzma.LZMAFile(stream) if name.endswith((".xz", ".txz")) else gzip.GzipFile(fileobj=stream)


@contextmanager
def _open_tar(stream: Any, uri: str) -> Iterator[tarfile.TarFile]:
    """Open a TAR; leaving it normally checks that it ended with its end mark.

    `tarfile` accepts an archive that breaks off, or continues with a damaged header, as complete.
    Names are UTF-8 in any locale; other bytes are surrogate escapes.
    """
    names: dict[str, Any] = {"tarinfo": _BoundedTarInfo, "encoding": "utf-8", "errors": "surrogateescape"}
    if is_streamed(uri):
        with _decompressed(stream, uri) as unpacked:
            blocks: Any = _Watched(unpacked)
            with tarfile.open(fileobj=blocks, mode="r|", bufsize=tarfile.BLOCKSIZE, **names) as archive:
                yield archive
            _require_end_mark(blocks.last, unpacked)
        return
    with tarfile.open(fileobj=stream, mode="r:", **names) as archive:
        yield archive
        stream.seek(archive.offset)
        _require_end_mark(stream.read(tarfile.BLOCKSIZE), stream)


def _require_end_mark(block: bytes, rest: Any) -> None:
    """Refuse an archive that does not end in a block of zeros, or continues after it."""
    if block != bytes(tarfile.BLOCKSIZE):
        raise _OwnError("it has no end mark where it ends; broken off or damaged")
    while data := rest.read(1 << 20):  # to the end: a compressed one has its checksum there
        if any(data):
            raise _OwnError("data after the end mark")


def _tar_members(infos: Iterable[tarfile.TarInfo]) -> Iterator[Member]:
    kept = list(infos)
    files = {posixpath.normpath(info.name) for info in kept if info.isfile()}
    sizes = {info.name: info.size for info in kept if info.isfile()}
    for info in kept:
        if info.isfile():
            yield Member(info.name, info.size, _refusal(info.size))
        elif info.islnk():
            # A hard link is a second name of a file: both are read, as in a folder.
            size = sizes.get(info.linkname, 0)
            refused = _refusal_of_link(info.name, info.linkname, sizes, hard=True)
            yield Member(info.name, size, refused or _refusal(size))
        elif info.issym():
            refused = _refusal_of_link(info.name, info.linkname, files, hard=False)
            yield Member(info.name, 0, refused, FileKind.SYMBOLIC_LINK)
        elif info.isfifo() or info.isdev():
            yield Member(info.name, 0, None, FileKind.PIPE if info.isfifo() else FileKind.DEVICE)
        else:
            yield Member(info.name, info.size, "member is of an unknown kind; expected a file")


def _read_tar(stream: IO[bytes], uri: str, wanted: set[str], links: dict[str, str]) -> Iterator[Content]:
    with _open_tar(stream, uri) as archive:
        for info in archive:
            if info.name not in wanted:
                continue
            if info.islnk() and info.linkname != info.name:
                links.setdefault(info.name, info.linkname)
            if not info.isfile() or _refusal(info.size):
                continue
            member = archive.extractfile(info)
            data = member.read() if member is not None else b""
            if len(data) != info.size:
                raise _OwnError("unexpected end of data")
            yield info.name, data
