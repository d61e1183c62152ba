"""Archives read in place: every member as it went in, or said to be lost; none silently."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import stat
import struct
import subprocess
import tarfile
import tracemalloc
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beam_jobs.reading import archives
from beam_jobs.reading.archives import is_archive, is_streamed, list_members, read_members
from beam_jobs.reading.local_files import shown_path
from beam_jobs.reading.storage import Storage
from lvm_core.errors import EcgRejected

STORAGE = Storage()
SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".txz")


def _noise(n: int, seed: int) -> bytes:
    return np.random.default_rng(seed).bytes(n)


MEMBERS = {"b.xml": _noise(3000, 1), "a/x.dat": _noise(70_000, 2), "a/x.hea": b"x 12 500 5000\n"}


def make_archive(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write an archive of the kind that the name says, with a folder entry in front."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.mkdir("folder")
            for name, data in members.items():
                archive.writestr(name, data)
        return path
    method = {".gz": "gz", ".tgz": "gz", ".bz2": "bz2", ".xz": "xz", ".txz": "xz"}
    with tarfile.open(path, f"w:{method.get(path.suffix, '')}") as archive:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def _read(path: Path, *names: str) -> dict[str, bytes | EcgRejected]:
    return dict(read_members(STORAGE, str(path), names))


@pytest.mark.parametrize(
    ("name", "archive", "streamed"),
    [
        ("a.zip", True, False),
        ("A.ZIP", True, False),
        ("a.tar", True, False),
        ("a.tar.gz", True, True),
        ("a.TGZ", True, True),
        ("a.gz", False, False),
        ("a.tar.bz2", True, True),
        ("a.tbz2", True, True),
        ("a.tar.xz", True, True),
        ("a.TXZ", True, True),
        ("zip", False, False),
        ("a.zip.xml", False, False),
    ],
)
def test_is_archive__depends_on_the_name(name: str, archive: bool, streamed: bool) -> None:
    assert (is_archive(name), is_streamed(name)) == (archive, streamed)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_list_members__names_and_sizes_in_the_archives_order(tmp_path: Path, suffix: str) -> None:
    path = make_archive(tmp_path / f"x{suffix}", MEMBERS)
    members = list_members(STORAGE, str(path))
    assert [(m.name, m.size) for m in members] == [(n, len(d)) for n, d in MEMBERS.items()]
    assert [m.refused for m in members] == [None] * len(MEMBERS)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_read_members__equal_bytes_in_the_archives_order(tmp_path: Path, suffix: str) -> None:
    path = make_archive(tmp_path / f"x{suffix}", MEMBERS)
    assert list(read_members(STORAGE, str(path), list(MEMBERS)[::-1])) == list(MEMBERS.items())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_read_members__only_what_is_wanted(tmp_path: Path, suffix: str) -> None:
    path = make_archive(tmp_path / f"x{suffix}", MEMBERS)
    assert _read(path, "a/x.hea", "not there") == {"a/x.hea": MEMBERS["a/x.hea"]}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_list_members__too_large_member_is_refused(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_RECORD_BYTES", 3000)
    path = make_archive(tmp_path / f"x{suffix}", MEMBERS)
    refused = {m.name: m.refused for m in list_members(STORAGE, str(path))}
    assert refused == {"b.xml": None, "a/x.dat": "member has 70000 bytes, the limit is 3000", "a/x.hea": None}
    assert isinstance(_read(path, "a/x.dat").get("a/x.dat"), EcgRejected | None)
    assert _read(path, "b.xml", "a/x.hea") == {k: MEMBERS[k] for k in ("b.xml", "a/x.hea")}


def test_read_members__zip_member_that_lies_about_its_size_is_not_unpacked_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_RECORD_BYTES", 1000)
    path = make_archive(tmp_path / "x.zip", {"a.xml": _noise(1001, 3), "b.xml": _noise(1000, 4)})
    found = _read(path, "a.xml", "b.xml")
    assert isinstance(found["a.xml"], EcgRejected)
    assert found["b.xml"] == _noise(1000, 4)


@pytest.mark.parametrize(("n_bytes", "refused"), [(100_000, False), (10_000_000, True)])
def test_list_members__zip_bomb_is_refused(tmp_path: Path, n_bytes: int, refused: bool) -> None:
    content = bytes(n_bytes) if refused else _noise(n_bytes, 5)
    (member,) = list_members(STORAGE, str(make_archive(tmp_path / "x.zip", {"a.xml": content})))
    assert (member.refused is not None and "fold, the limit is 200" in member.refused) == refused


def test_list_members__compressed_tar_bomb_is_refused(tmp_path: Path) -> None:
    members = {f"{i}.xml": bytes(40_000_000) for i in range(2)}
    path = make_archive(tmp_path / "x.tar.gz", members)
    with pytest.raises(EcgRejected, match=r"unreadable: .*unpacks to over 200 times its size"):
        list_members(STORAGE, str(path))


def test_list_members__ordinary_compressible_tar_is_read(tmp_path: Path) -> None:
    members = {f"{i}.csv": b"0,0,0,1\n" * 20_000 for i in range(10)}
    path = make_archive(tmp_path / "x.tar.gz", members)
    assert len(list_members(STORAGE, str(path))) == 10


def _encrypt_flag(path: Path, name: str) -> None:
    """Set the flag `encrypted` of a ZIP member, in both of its headers."""
    data = bytearray(path.read_bytes())
    for signature, flag_at, name_at in ((b"PK\x03\x04", 6, 30), (b"PK\x01\x02", 8, 46)):
        start = data.find(signature)
        while start >= 0:
            if data[start + name_at :].startswith(name.encode()):
                (flags,) = struct.unpack_from("<H", data, start + flag_at)
                struct.pack_into("<H", data, start + flag_at, flags | 1)
            start = data.find(signature, start + 4)
    path.write_bytes(data)


def test_read_members__encrypted_zip_member_is_a_reject_and_the_others_are_read(tmp_path: Path) -> None:
    path = make_archive(tmp_path / "x.zip", MEMBERS)
    _encrypt_flag(path, "b.xml")
    found = _read(path, *MEMBERS)
    assert isinstance(found["b.xml"], EcgRejected)
    assert str(found["b.xml"]).startswith("unreadable: member cannot be unpacked")
    assert "encrypted" in str(found["b.xml"])
    assert found["a/x.dat"] == MEMBERS["a/x.dat"]


def test_read_members__damaged_zip_member_is_a_reject_and_the_others_are_read(tmp_path: Path) -> None:
    path = make_archive(tmp_path / "x.zip", MEMBERS)
    data = bytearray(path.read_bytes())
    middle = data.find(b"x.dat") + 30_000
    data[middle] ^= 0xFF
    path.write_bytes(data)
    found = _read(path, *MEMBERS)
    assert isinstance(found["a/x.dat"], EcgRejected)
    assert found["b.xml"] == MEMBERS["b.xml"]
    assert found["a/x.hea"] == MEMBERS["a/x.hea"]


@pytest.mark.parametrize("encrypted", [True, False])
def test_read_members__message_does_not_quote_the_name_of_a_member(tmp_path: Path, encrypted: bool) -> None:
    path = make_archive(tmp_path / "x.zip", {"Quillfeather.xml": _noise(9_000, 1)})
    if encrypted:
        _encrypt_flag(path, "Quillfeather.xml")
    else:
        data = bytearray(path.read_bytes())
        data[5_000] ^= 0xFF
        path.write_bytes(data)
    message = str(_read(path, "Quillfeather.xml")["Quillfeather.xml"])
    assert message.startswith("unreadable: member cannot be unpacked (")
    assert ("(encrypted)" in message) == encrypted
    assert "Quillfeather" not in message


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.9])
def test_list_members__truncated_archive_is_unreadable(tmp_path: Path, suffix: str, kept: float) -> None:
    path = make_archive(tmp_path / f"x{suffix}", MEMBERS)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(EcgRejected, match=r"unreadable: archive cannot be read .*copied complete"):
        list_members(STORAGE, str(path))


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_list_members__no_truncation_hides_a_member(tmp_path: Path, suffix: str) -> None:
    members = {f"{i}.xml": _noise(700, i) for i in range(4)}
    path = make_archive(tmp_path / f"x{suffix}", members)
    data = path.read_bytes()
    silent = []
    for length in range(0, len(data), 64):
        path.write_bytes(data[:length])
        try:
            found = list_members(STORAGE, str(path))
        except EcgRejected:
            continue
        if len(found) < len(members):
            silent.append((length, len(found)))
    assert silent == []


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_list_members__damaged_header_hides_no_members(tmp_path: Path, suffix: str) -> None:
    members = {f"{i}.xml": _noise(700, i) for i in range(4)}
    plain = bytearray(make_archive(tmp_path / "plain.tar", members).read_bytes())
    plain[plain.find(b"1.xml")] ^= 0xFF
    path = tmp_path / f"x{suffix}"
    if suffix == ".tar":
        path.write_bytes(plain)
    else:
        path.write_bytes(gzip.compress(bytes(plain)))
    with pytest.raises(EcgRejected, match="unreadable"):
        list_members(STORAGE, str(path))


def test_list_members__compressed_tar_with_a_wrong_checksum_is_unreadable(tmp_path: Path) -> None:
    path = make_archive(tmp_path / "x.tar.gz", MEMBERS)
    data = bytearray(path.read_bytes())
    data[-8] ^= 0xFF  # CRC-32 of the content
    path.write_bytes(data)
    with pytest.raises(EcgRejected, match="unreadable"):
        list_members(STORAGE, str(path))


def test_list_members__other_content_is_unreadable(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        (tmp_path / f"x{suffix}").write_bytes(b"this is a text file, whatever its name says\n" * 50)
        with pytest.raises(EcgRejected, match=r"expected an intact \.zip, \.tar, \.tar\.gz"):
            list_members(STORAGE, f"{tmp_path}/x{suffix}")


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_read_members__archive_that_breaks_off_gives_what_comes_before(tmp_path: Path, suffix: str) -> None:
    members = {"a.xml": _noise(500, 1), "b.xml": _noise(40_000, 2)}
    path = make_archive(tmp_path / f"x{suffix}", members)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    assert _read(path, *members) == {"a.xml": members["a.xml"]}


def test_list_members__empty_archives_have_no_members(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        path = make_archive(tmp_path / f"x{suffix}", {})
        assert list_members(STORAGE, str(path)) == []


def _tar_of(path: Path, *members: tuple[str, bytes, str]) -> Path:
    """Write a TAR of (name, type, target or content); links and devices have no content."""
    with tarfile.open(path, f"w:{path.suffix[1:].removeprefix('tar')}") as archive:
        for name, kind, text in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind == tarfile.REGTYPE:
                info.size = len(text)
            else:
                info.linkname = text
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.bz2", ".tar.xz"])
def test_members__every_kind_of_a_tar_is_read_refused_or_has_its_kind(tmp_path: Path, suffix: str) -> None:
    path = _tar_of(
        tmp_path / f"x{suffix}",
        ("in/a.xml", tarfile.REGTYPE, "content of a"),
        ("in/hard.xml", tarfile.LNKTYPE, "in/a.xml"),
        ("in/sym.xml", tarfile.SYMTYPE, "a.xml"),
        ("passwd.xml", tarfile.SYMTYPE, "/etc/passwd"),
        ("up.xml", tarfile.SYMTYPE, "../in/a.xml"),
        ("gone.xml", tarfile.LNKTYPE, "nowhere.xml"),
        ("pipe.xml", tarfile.FIFOTYPE, ""),
        ("disk.xml", tarfile.BLKTYPE, ""),
    )
    members = {m.name: (m.kind.value, m.refused is None) for m in list_members(STORAGE, str(path))}
    assert members == {
        "in/a.xml": ("file", True),
        "in/hard.xml": ("file", True),
        "in/sym.xml": ("symbolic link", True),
        "passwd.xml": ("symbolic link", False),
        "up.xml": ("symbolic link", False),
        "gone.xml": ("file", False),
        "pipe.xml": ("named pipe", True),
        "disk.xml": ("device", True),
    }
    # A hard link is a second name of its file, as in a folder; nothing else is opened.
    assert _read(path, *members) == {"in/a.xml": b"content of a", "in/hard.xml": b"content of a"}
    assert _read(path, "in/hard.xml") == {"in/hard.xml": b"content of a"}


def test_read_members__hard_links_in_a_circle_end(tmp_path: Path) -> None:
    path = _tar_of(
        tmp_path / "x.tar",
        ("b", tarfile.REGTYPE, "b"),
        ("a", tarfile.LNKTYPE, "b"),
        ("b", tarfile.LNKTYPE, "a"),
        ("c", tarfile.LNKTYPE, "c"),
    )
    assert _read(path, "a", "b", "c") == {"a": b"b", "b": b"b"}


def test_list_members__unknown_kind_of_tar_member_is_refused(tmp_path: Path) -> None:
    (member,) = list_members(STORAGE, str(_tar_of(tmp_path / "x.tar", ("a.xml", b"Z", ""))))
    assert member.refused == "member is of an unknown kind; expected a file"


def test_list_members__tar_header_of_megabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("a.xml")
        info.pax_headers = {"comment": "x" * 2_000_000}
        archive.addfile(info)
    with pytest.raises(EcgRejected, match=r"archive cannot be read \(a header of 2\d+ bytes\)"):
        list_members(STORAGE, str(path))


def test_list_members__sparse_member_is_not_read(tmp_path: Path) -> None:
    path = _tar_of(tmp_path / "x.tar", ("a.xml", tarfile.GNUTYPE_SPARSE, ""))
    with pytest.raises(EcgRejected, match=r"archive cannot be read \(a sparse member"):
        list_members(STORAGE, str(path))


def test_list_members__messages_name_no_member(tmp_path: Path) -> None:
    path = make_archive(tmp_path / "x.zip", {"Smith_John.xml": _noise(500, 1)})
    data = path.read_bytes()
    path.write_bytes(data.replace(b"Smith_John", b"Smith_Jane", 1))
    (damaged,) = _read(path, "Smith_John.xml").values()
    assert isinstance(damaged, EcgRejected)
    assert "Smith" not in str(damaged)


def test_members__names_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        for name in ("Müller.xml", "plain.xml"):
            info = tarfile.TarInfo(name)
            info.size = 3
            archive.addfile(info, io.BytesIO(b"abc"))
    names = [member.name for member in list_members(STORAGE, str(path))]
    assert [shown_path(name) for name in names] == [r"M\xfcller.xml", "plain.xml"]
    assert _read(path, *names) == dict.fromkeys(names, b"abc")


def _zip_with_mode(path: Path, *members: tuple[str, int, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, kind, text in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = (kind | 0o644) << 16
            archive.writestr(info, text)
    return path


def test_list_members__links_and_pipes_of_a_zip_have_their_kind(tmp_path: Path) -> None:
    path = _zip_with_mode(
        tmp_path / "x.zip",
        ("p/a.xml", stat.S_IFREG, "<x/>"),
        ("p/b.xml", stat.S_IFLNK, "../p/a.xml"),
        ("c.xml", stat.S_IFLNK, "/etc/passwd"),
        ("d.xml", stat.S_IFIFO, ""),
    )
    members = {m.name: (m.kind.value, m.refused is None) for m in list_members(STORAGE, str(path))}
    assert members == {
        "p/a.xml": ("file", True),
        "p/b.xml": ("symbolic link", True),
        "c.xml": ("symbolic link", False),
        "d.xml": ("named pipe", True),
    }


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_read_members__zip_of_any_method(tmp_path: Path, method: int) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in MEMBERS.items():
            archive.writestr(name, data)
    assert _read(path, *MEMBERS) == MEMBERS
    if method != zipfile.ZIP_STORED:
        data = bytearray(path.read_bytes())
        data[data.find(b"x.dat") + 20_000] ^= 0xFF
        path.write_bytes(data)
        assert isinstance(_read(path, *MEMBERS)["a/x.dat"], EcgRejected)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_read_members__zip_that_lies_about_its_size_costs_little(tmp_path: Path, method: int) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.xml", bytes(100_000_000))
    data = path.read_bytes()
    honest = struct.pack("<I", 100_000_000)
    assert honest in data
    path.write_bytes(data.replace(honest, struct.pack("<I", 1000)))
    (member,) = list_members(STORAGE, str(path))
    assert member.size == 1000
    tracemalloc.start()
    try:
        found = _read(path, "a.xml")["a.xml"]
        peak_mb = tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()
    # Unpacking ends at the stated size (deflate: the checksum is wrong) or at 20 MB.
    assert isinstance(found, EcgRejected)
    assert peak_mb < 90


def test_list_members__zip_members_that_share_bytes_are_refused(tmp_path: Path) -> None:
    path = make_archive(tmp_path / "x.zip", {"a.xml": _noise(900, 1), "b.xml": _noise(900, 2)})
    data = bytearray(path.read_bytes())
    second = data.rfind(b"PK\x01\x02")
    data[second + 42 : second + 46] = struct.pack("<I", 100)  # where its bytes begin
    path.write_bytes(data)
    refused = [member.refused for member in list_members(STORAGE, str(path))]
    assert refused[0] is None
    assert "shares its bytes with another member" in str(refused[1])


@pytest.mark.parametrize(
    ("name", "unread"),
    [
        ("a.7z", True),
        ("A.RAR", True),
        ("a.tar.zst", True),
        ("a.tar.Z", True),
        ("a.zst", True),
        ("a.7z.001", True),
        ("a.zip.001", True),
        ("a.z01", True),
        ("a.r00", True),
        ("a.cab", True),
        ("a.zip.gz", True),
        ("a.tar.gz.aa", True),
        ("a.tzst", True),
        ("a.1.xml.zst", False),
        ("a.xml", False),
        ("a.tar.gz", False),
        ("a.zip", False),
        ("a.tar.bz2", False),
        ("a.xml.gz", False),
        ("a.dat", False),
        ("7z", False),
        ("1.2.840.dcm", False),
        ("rec.d01", False),
    ],
)
def test_is_unread_archive__depends_on_the_name(name: str, unread: bool) -> None:
    assert archives.is_unread_archive(name) is unread


@pytest.mark.parametrize("module", [gzip, bz2, lzma])
def test_unpack_single__one_compressed_file(module: Any) -> None:
    suffix = {"gzip": "gz", "bz2": "bz2", "lzma": "xz"}[module.__name__]
    packed = module.compress(b"<x/>" * 100)
    assert archives.is_single_packed(f"a.xml.{suffix}")
    assert not archives.is_single_packed(f"a.tar.{suffix}")
    assert archives.unpack_single(f"a.xml.{suffix}", packed) == b"<x/>" * 100
    with pytest.raises(EcgRejected, match="compressed file cannot be unpacked"):
        archives.unpack_single(f"a.xml.{suffix}", packed[:-9])
    with pytest.raises(EcgRejected, match="more than 20000000 bytes when it is unpacked"):
        archives.unpack_single(f"a.xml.{suffix}", module.compress(bytes(20_000_001)))


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_list_members__archive_of_the_tar_program(tmp_path: Path, suffix: str) -> None:
    program = shutil.which("tar")
    if program is None:
        pytest.skip("there is no tar program on this machine")
    folder = tmp_path / "in"
    names = ["a.xml", f"{'long' * 30}/{'name' * 30}.xml", "p/q.hea"]
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(_noise(700 * number, number))
    path = tmp_path / f"x{suffix}"
    flags = "-czf" if suffix == ".tar.gz" else "-cf"
    subprocess.run([program, flags, str(path), "-C", str(folder), *names], check=True)
    assert [m.name for m in list_members(STORAGE, str(path))] == names
    assert _read(path, *names) == {n: _noise(700 * i, i) for i, n in enumerate(names)}


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_list_members__archive_appended_to_another_hides_nothing(tmp_path: Path, suffix: str) -> None:
    parts = [make_archive(tmp_path / f"{i}{suffix}", {f"{i}.xml": _noise(900, i)}) for i in range(2)]
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(EcgRejected, match="unreadable"):
        list_members(STORAGE, str(path))
