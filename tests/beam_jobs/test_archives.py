"""Archives read in place: every member as it went in, or said to be lost; none silently."""

from __future__ import annotations

import gzip
import io
import shutil
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from beam_jobs import archives
from beam_jobs.archives import is_archive, is_streamed, list_members, read_members
from beam_jobs.storage import Storage
from lvm_core.errors import EcgRejected

STORAGE = Storage()
SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")


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
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
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
        ("a.zip", True, False), ("A.ZIP", True, False), ("a.tar", True, False),
        ("a.tar.gz", True, True), ("a.TGZ", True, True), ("a.gz", False, False),
        ("zip", False, False), ("a.zip.xml", False, False),
    ],
)  # fmt: skip
def test_is_archive__is_told_from_the_name(name: str, archive: bool, streamed: bool) -> None:
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
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 3000)
    path = make_archive(tmp_path / f"x{suffix}", MEMBERS)
    refused = {m.name: m.refused for m in list_members(STORAGE, str(path))}
    assert refused == {
        "b.xml": None,
        "a/x.dat": "member has 70000 bytes, the limit is 3000",
        "a/x.hea": None,
    }
    assert isinstance(_read(path, "a/x.dat").get("a/x.dat"), EcgRejected | None)
    assert _read(path, "b.xml", "a/x.hea") == {k: MEMBERS[k] for k in ("b.xml", "a/x.hea")}


def test_list_members__limit_is_fifty_megabytes() -> None:
    assert archives.MAX_MEMBER_BYTES == 50_000_000


def test_read_members__zip_member_that_lies_about_its_size_is_not_unpacked_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 1000)
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


def test_read_members__encrypted_zip_member_is_a_reject_and_the_others_are_read(
    tmp_path: Path,
) -> None:
    path = make_archive(tmp_path / "x.zip", MEMBERS)
    _encrypt_flag(path, "b.xml")
    found = _read(path, *MEMBERS)
    assert isinstance(found["b.xml"], EcgRejected)
    assert str(found["b.xml"]).startswith("unreadable: member cannot be unpacked")
    assert "encrypted" in str(found["b.xml"])
    assert found["a/x.dat"] == MEMBERS["a/x.dat"]


def test_read_members__damaged_zip_member_is_a_reject_and_the_others_are_read(
    tmp_path: Path,
) -> None:
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
def test_read_members__message_does_not_quote_the_name_of_a_member(
    tmp_path: Path, encrypted: bool
) -> None:
    path = make_archive(tmp_path / "x.zip", {"Quillfeather.xml": _noise(9_000, 1)})
    if encrypted:
        _encrypt_flag(path, "Quillfeather.xml")
    else:
        data = bytearray(path.read_bytes())
        data[5_000] ^= 0xFF
        path.write_bytes(data)
    message = str(_read(path, "Quillfeather.xml")["Quillfeather.xml"])
    assert message.startswith("unreadable: member cannot be unpacked (")
    assert ("it is encrypted" in message) == encrypted
    assert "Quillfeather" not in message


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.9])
def test_list_members__truncated_archive_is_unreadable(
    tmp_path: Path, suffix: str, kept: float
) -> None:
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
def test_read_members__archive_that_breaks_off_gives_what_comes_before(
    tmp_path: Path, suffix: str
) -> None:
    members = {"a.xml": _noise(500, 1), "b.xml": _noise(40_000, 2)}
    path = make_archive(tmp_path / f"x{suffix}", members)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    assert _read(path, *members) == {"a.xml": members["a.xml"]}


def test_list_members__empty_archives_have_no_members(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        path = make_archive(tmp_path / f"x{suffix}", {})
        assert list_members(STORAGE, str(path)) == []


def test_list_members__links_in_a_tar_are_not_files(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        link = tarfile.TarInfo("passwd.xml")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert list_members(STORAGE, str(path)) == []
    assert _read(path, "passwd.xml") == {}


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
def test_list_members__archive_appended_to_another_hides_nothing(
    tmp_path: Path, suffix: str
) -> None:
    parts = [
        make_archive(tmp_path / f"{i}{suffix}", {f"{i}.xml": _noise(900, i)}) for i in range(2)
    ]
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(EcgRejected, match="unreadable"):
        list_members(STORAGE, str(path))
