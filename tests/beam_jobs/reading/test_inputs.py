"""Sorting inputs: WFDB records with their signal files, ignored names, archives, keys."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Collection
from pathlib import Path

import pytest

from beam_jobs.reading import inputs
from beam_jobs.reading.inputs import (
    IdRule,
    InputListing,
    RecordFiles,
    group_records,
    is_ignored,
    list_input,
    path_without_extension,
    unmatched_id,
)
from beam_jobs.reading.storage import Storage
from lvm_core.errors import RejectReason, UsageError
from tests.beam_jobs.reading.test_archives import make_archive

STORAGE = Storage()


def _header(*signal_files: str, name: str = "rec") -> bytes:
    lines = [f"{name} {len(signal_files)} 500 5000"]
    lines += [f"{file} 16 1000/mV 16 0 0 0 0 I" for file in signal_files]
    return "\n".join(lines).encode()


def _group(files: dict[str, bytes]) -> list[RecordFiles]:
    sizes = [(path, len(data)) for path, data in files.items()]
    return group_records(sizes, lambda paths: {path: files[path] for path in paths})


def _listed(folder: Path) -> InputListing:
    return list_input(STORAGE, str(folder), STORAGE.list_files(str(folder)))


def _write(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


# WFDB records


def test_group_records__header_takes_the_signal_file_of_its_stem() -> None:
    files = {"a.hea": _header("a.dat"), "a.dat": b"12345", "b.xml": b"<x/>"}
    size = len(files["a.hea"]) + 5
    assert _group(files) == [RecordFiles("a.hea", ("a.dat",), size), RecordFiles("b.xml", (), 4)]


def test_group_records__headers_are_not_read_where_stems_tell() -> None:
    def read(paths: Collection[str]) -> dict[str, bytes]:
        raise AssertionError(f"{paths} were read")

    (record,) = group_records([("a.hea", 1), ("a.dat", 2)], read)
    assert record.files == ("a.hea", "a.dat")


def test_group_records__headers_are_read_in_one_go() -> None:
    files = {"a.hea": _header("x.dat"), "b.hea": _header("y.dat"), "notes.txt": b"", "c/d.hea": b""}
    asked: list[list[str]] = []

    def read(paths: Collection[str]) -> dict[str, bytes]:
        asked.append(list(paths))
        return {path: files[path] for path in paths}

    group_records([(path, len(data)) for path, data in files.items()], read)
    assert asked == [["a.hea", "b.hea", "c/d.hea"]]


SEGMENTED = b"m/3 12 500 15000\nm_1 5000\n~ 5000\nm_2 5000\n"


def test_group_records__header_of_segments_takes_them_with_their_files() -> None:
    files = {f"p/m_{i}.{kind}": _header(f"m_{i}.dat") for i in (1, 2) for kind in ("hea", "dat")}
    files |= {"p/m.hea": SEGMENTED, "p/other.hea": _header("other.dat"), "p/other.dat": b"1", "q/m_1.hea": b"x"}
    assert [r.files for r in _group(files)] == [
        ("p/m.hea", "p/m_1.dat", "p/m_1.hea", "p/m_2.dat", "p/m_2.hea"),
        ("p/other.hea", "p/other.dat"),
        ("q/m_1.hea",),
    ]


def test_group_records__headers_that_name_each_other_are_records_of_their_own() -> None:
    files = {"a.hea": b"a/1 12 500 10\nb 10\n", "b.hea": b"b/1 12 500 10\na 10\n"}
    assert [r.files for r in _group(files)] == [("a.hea",), ("b.hea",)]


def test_group_records__signal_files_named_otherwise_are_found_in_the_header() -> None:
    files = {"f/a.hea": _header("x.dat", "y.dat"), "f/x.dat": b"1", "f/y.dat": b"2"}
    assert [r.files for r in _group(files)] == [("f/a.hea", "f/x.dat", "f/y.dat")]


@pytest.mark.parametrize("name", ["sub/x.dat", "./sub/x.dat", "../p/sub/x.dat"])
def test_group_records__signal_file_in_another_folder(name: str) -> None:
    files = {"p/a.hea": _header(name), "p/sub/x.dat": b"12345", "q/x.dat": b"1"}
    assert [(r.main, r.parts) for r in _group(files)] == [("p/a.hea", ("p/sub/x.dat",)), ("q/x.dat", ())]


def test_group_records__folder_of_the_header_when_the_named_one_is_not_there() -> None:
    files = {"p/a.hea": _header("sub/x.dat"), "p/x.dat": b"12345"}
    assert [(r.main, r.parts) for r in _group(files)] == [("p/a.hea", ("p/x.dat",))]


def test_group_records__header_cannot_name_a_file_outside_the_inputs() -> None:
    files = {"a.hea": _header("../../etc/x.dat", "/etc/y.dat"), "q/x.dat": b"1"}
    assert [(r.main, r.parts) for r in _group(files)] == [("a.hea", ()), ("q/x.dat", ())]


def test_group_records__same_names_in_two_folders_are_two_records() -> None:
    files = {
        "p/rec.hea": _header("s.dat"),
        "p/s.dat": b"1",
        "q/rec.hea": _header("s.dat"),
        "q/s.dat": b"2",
        "s.dat": b"3",
    }
    assert [r.files for r in _group(files)] == [("p/rec.hea", "p/s.dat"), ("q/rec.hea", "q/s.dat"), ("s.dat",)]


def test_group_records__record_names_with_dots() -> None:
    files = {
        "1.2.840.hea": _header("1.2.840.dat"),
        "1.2.840.dat": b"1",
        "1.2.841.hea": _header("1.2.841.dat"),
        "1.2.841.dat": b"2",
    }
    assert [r.files for r in _group(files)] == [("1.2.840.hea", "1.2.840.dat"), ("1.2.841.hea", "1.2.841.dat")]


def test_group_records__header_in_capitals() -> None:
    files = {"A.HEA": _header("A.DAT"), "A.DAT": b"1"}
    assert [r.files for r in _group(files)] == [("A.HEA", "A.DAT")]


def test_group_records__device_file_of_the_same_stem_is_a_record_of_its_own() -> None:
    files = {"a.hea": _header("a.dat"), "a.dat": b"1", "a.xml": b"<x/>"}
    assert [r.main for r in _group(files)] == ["a.hea", "a.xml"]


def test_group_records__damaged_header_claims_nothing() -> None:
    files = {"a.hea": b"\0\0", "other.dat": b"1"}
    assert [r.files for r in _group(files)] == [("a.hea",), ("other.dat",)]


def test_group_records__stray_signal_file_is_accounted_for() -> None:
    assert [r.main for r in _group({"stray.dat": b"1"})] == ["stray.dat"]


def test_group_records__records_are_sorted_whatever_the_order_given() -> None:
    files = {name: b"" for name in ("c.xml", "a.xml", "b/a.xml")}
    assert [r.main for r in _group(files)] == ["a.xml", "b/a.xml", "c.xml"]


# Names that are no ECG


@pytest.mark.parametrize(
    "path",
    [
        "README",
        "readme.txt",
        "a/README.md",
        "RECORDS",
        "records-500hz",
        "LICENSE.txt",
        ".DS_Store",
        "SHA256SUMS.txt",
        "_SUCCESS",
        "a/.hidden/b.xml",
        "__MACOSX/a.xml",
        "a/__MACOSX/._b.xml",
        "Thumbs.db",
        "THUMBS.DB",
        "index.html",
        "paper.pdf",
        "a/CHANGELOG",
    ],
)
def test_is_ignored__names_that_are_no_ecg(path: str) -> None:
    assert is_ignored(path)


@pytest.mark.parametrize(
    "path", ["a.xml", "1_20205_2_0.xml", "a/b.hea", "./a.xml", "xREADME.xml", "a.md.xml", "notes.txt"]
)
def test_is_ignored__what_may_be_an_ecg_is_not(path: str) -> None:
    assert not is_ignored(path)


def test_list_input__sorts_files_and_counts_the_ignored(tmp_path: Path) -> None:
    _write(tmp_path, {"a.xml": b"<x/>", "b.parquet": b"x", "c.PQ": b"x", "README": b"x", "d/.DS_Store": b"x"})
    make_archive(tmp_path / "e.zip", {"x.xml": b"<x/>", "README.txt": b"x", "p/y.hea": b"y 0"})
    listing = _listed(tmp_path)
    assert [r.main for r in listing.records] == ["a.xml"]
    assert [e.relative for e in listing.parquet] == ["b.parquet", "c.PQ"]
    assert [a.entry.relative for a in listing.archives] == ["e.zip"]
    assert [r.main for r in listing.archives[0].records] == ["p/y.hea", "x.xml"]
    assert listing.ignored == {"by name": 3}


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_list_input__wfdb_records_in_archives_at_the_root_and_in_folders(tmp_path: Path, suffix: str) -> None:
    files = {
        "rec.hea": _header("sig.dat"),
        "sig.dat": b"1",
        "p/rec.hea": _header("sig.dat"),
        "p/sig.dat": b"2",
        "p/q.1.hea": _header("q.1.dat"),
        "p/q.1.dat": b"3",
    }
    make_archive(tmp_path / f"x{suffix}", files)
    (archive,) = _listed(tmp_path).archives
    assert [record.files for record in archive.records] == [
        ("p/q.1.hea", "p/q.1.dat"),
        ("p/rec.hea", "p/sig.dat"),
        ("rec.hea", "sig.dat"),
    ]


def test_list_input__members_of_an_archive_made_of_a_folder_with_a_dot(tmp_path: Path) -> None:
    make_archive(tmp_path / "x.tar", {"./rec.hea": _header("sig.dat"), "./sig.dat": b"1"})
    (archive,) = _listed(tmp_path).archives
    assert [record.files for record in archive.records] == [("./rec.hea", "./sig.dat")]


def test_list_input__damaged_archive_is_kept_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04 and then nothing")
    (archive,) = _listed(tmp_path).archives
    assert archive.damage is not None
    assert archive.damage.reason == RejectReason.UNREADABLE
    assert archive.records == ()


def test_list_input__refused_members_are_kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs.archives, "MAX_RECORD_BYTES", 10)
    make_archive(tmp_path / "x.zip", {"big.xml": b"0123456789x", "ok.xml": b"0123456789"})
    (archive,) = _listed(tmp_path).archives
    assert [m.name for m in archive.refused] == ["big.xml"]
    assert [r.main for r in archive.records] == ["ok.xml"]


def test_list_input__link_that_leads_nowhere_is_kept_apart(tmp_path: Path) -> None:
    _write(tmp_path, {"a.xml": b"<x/>"})
    (tmp_path / "b.xml").symlink_to(tmp_path / "gone.xml")
    listing = _listed(tmp_path)
    assert [r.main for r in listing.records] == ["a.xml"]
    assert [entry.relative for entry in listing.broken] == ["b.xml"]


def test_list_input__member_name_given_twice_is_accounted_for(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as packed:
        for data in (b"<x/>", b"<x/>", b"<longer/>"):
            info = tarfile.TarInfo("a.xml")
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    (archive,) = _listed(tmp_path).archives
    assert [r.main for r in archive.records] == ["a.xml"]
    assert len(archive.refused) == 2
    assert {m.refused for m in archive.refused} == {"archive holds several members of this name; the first is read"}


# Keys


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        ("a.xml", "a"),
        ("p/q/a.xml", "p/q/a"),
        ("p.d/a", "p.d/a"),
        ("1.2.hea", "1.2"),
        ("x.zip!a.xml", "x.zip!a"),
        ("p/x.tgz!q/a.b.hea", "p/x.tgz!q/a.b"),
        ("x.zip!a", "x.zip!a"),
        ("d/1.2.840.113.7", "d/1.2.840.113.7"),
        ("1.2.840.113.7.dcm", "1.2.840.113.7"),
        ("x.zip!1.2.840.113.7", "x.zip!1.2.840.113.7"),
    ],
)
def test_path_without_extension__drops_the_last_one_only(path: str, stem: str) -> None:
    assert path_without_extension(path) == stem


def test_id_rule__default_is_the_path_and_names_no_person() -> None:
    assert IdRule().keys("p1/visit.2/a.xml") == ("p1/visit.2/a", None)
    assert IdRule().keys("x.zip!p/a.xml") == ("x.zip!p/a", None)


def test_id_rule__pattern_with_and_without_person() -> None:
    rule = IdRule(r"(?P<participant_id>P\d+)/(?P<ecg_id>\w+)\.xml$")
    assert rule.keys("site/P12/e7.xml") == ("e7", "P12")
    assert IdRule(r"(?P<ecg_id>e\d+)").keys("site/P12/e7.xml") == ("e7", None)


def test_id_rule__optional_person_that_is_absent_is_none() -> None:
    rule = IdRule(r"^(?:(?P<participant_id>P\d+)_)?(?P<ecg_id>e\d+)")
    assert rule.keys("e7.xml") == ("e7", None)
    assert rule.keys("P1_e7.xml") == ("e7", "P1")


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("1000001_20205_2_0.xml", ("1000001_20205_2_0", "1000001")),
        ("bulk/10/1000001_20205_3_1.xml", ("1000001_20205_3_1", "1000001")),
        ("bulk.zip!1000001_20205_2_0.xml", ("1000001_20205_2_0", "1000001")),
        ("1000001_20205_2_0.xml.bak", (None, None)),
        ("1000001_6025_0_0.xml", (None, None)),
        ("x1000001_20205_2_0.xml", (None, None)),
    ],
)
def test_id_rule__preset_of_the_uk_biobank_field(path: str, keys: tuple[str | None, str | None]) -> None:
    assert IdRule("ukb-20205").keys(path) == keys


def test_id_rule__pattern_without_the_group_is_refused() -> None:
    with pytest.raises(UsageError, match=r"has no group \(\?P<ecg_id>\.\.\.\); found groups \['x'\]"):
        IdRule(r"(?P<x>\d+)")


def test_id_rule__no_regular_expression_is_refused() -> None:
    with pytest.raises(UsageError, match=r"is not a regular expression .*preset: ukb-20205"):
        IdRule("(?P<ecg_id>")


def test_unmatched_id__names_the_pattern_and_not_the_path() -> None:
    problem = unmatched_id(IdRule("ukb-20205"))
    assert problem.reason == RejectReason.NOT_AN_ECG
    assert "--id-pattern 'ukb-20205'" in problem.message
    assert "1000001" not in problem.message
