"""Raw records, loose and in archives: each one a row or a reject, none lost."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from beam_jobs.reading import inputs
from beam_jobs.reading.blocks import EcgRow, Reject
from beam_jobs.reading.inputs import IdRule
from beam_jobs.reading.storage import Storage
from beam_jobs.reading.unit_reader import UnitReader
from beam_jobs.reading.units import Unit
from beam_jobs.run.planner import Inputs, Keys, find_inputs, mark_duplicates
from beam_jobs.run.settings import IngestSettings, InputSettings
from lvm_core.errors import LvmError
from lvm_core.formats import registry
from lvm_core.signal.ecg import LEADS_12, Ecg
from tests.beam_jobs.helpers import ecg_counts
from tests.beam_jobs.reading.test_archives import make_archive
from tests.builders import ecg, leads_uv
from tests.file_builders import cardiosoft_xml, muse_xml, random_counts, wfdb_record
from tests.mutants import archive_seeds, mutant, repacked

STORAGE = Storage()
COUNTS = random_counts()


def _write(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _plan(folder: Path, rule: IdRule | None = None) -> Inputs:
    rule = rule or IdRule()
    return find_inputs(IngestSettings(inputs=(str(folder),), output="out", unit_ecgs=100, id_rule=rule))


def _read(
    found: Inputs, formats: tuple[str, ...] = (), *, id_from_header: bool = False
) -> tuple[dict[str, EcgRow], list[Reject], int]:
    """Return rows by ecg_id, rejects and n_read."""
    rows: dict[str, EcgRow] = {}
    rejects: list[Reject] = []
    n_read = 0
    reader = UnitReader(STORAGE, found.roots, formats=formats, id_from_header=id_from_header)
    for chunk in reader.chunks(Unit(0, "fingerprint", tuple(found.pieces))):
        assert chunk.n_read == len(chunk.rows) + sum(r.weight for r in chunk.rejects)
        assert rows.keys().isdisjoint(row.ecg_id for row in chunk.rows)
        rows |= {row.ecg_id: row for row in chunk.rows}
        rejects += chunk.rejects
        n_read += chunk.n_read
    return rows, rejects, n_read


def _uv(row: EcgRow) -> np.ndarray:
    return row.counts * row.uv_per_count


def _record(name: str, index: int = 0) -> dict[str, bytes]:
    counts = dict(zip(LEADS_12, ecg_counts(1, index)[0], strict=True))
    return wfdb_record(counts, name=name, gain="200.0(0)/mV")


# Reading


def test_unit_reader__formats_side_by_side(tmp_path: Path) -> None:
    eight = random_counts(leads=("I", "II", "V1", "V2", "V3", "V4", "V5", "V6"))
    _write(tmp_path, {"a.xml": cardiosoft_xml(COUNTS), "b.xml": muse_xml(eight), **wfdb_record(COUNTS, name="c")})
    rows, rejects, n_read = _read(_plan(tmp_path))
    assert (n_read, rejects) == (3, [])
    assert {key: row.source_format for key, row in rows.items()} == {
        "a": "cardiosoft_xml",
        "b": "muse_xml",
        "c": "wfdb",
    }
    for row, uv_per_count in ((rows["a"], 5.0), (rows["c"], 1.0)):
        expected = np.stack([COUNTS[lead] for lead in LEADS_12]) * uv_per_count
        np.testing.assert_array_equal(_uv(row), expected)
    assert rows["a"].source_uri == "a.xml"
    assert rows["c"].source_uri == "c.hea"


@pytest.mark.parametrize("packed", [False, True])
def test_unit_reader__format_added_to_the_registry_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    def read(files: Mapping[str, bytes], main: str) -> Ecg:
        return ecg(source_format="new", leads_uv=leads_uv() * len(files))

    def part_names(main: bytes) -> tuple[str, ...]:
        return tuple(main.decode().split()[1:])

    new = registry.Format(
        "new", "new", "NEW", ".new", lambda data: data.startswith(b"NEW"), read, (".sig",), part_names
    )
    monkeypatch.setattr(registry, "FORMATS", (*registry.FORMATS, new))
    monkeypatch.setattr(inputs, "_NEVER_PARTS", (*inputs._NEVER_PARTS, ".new"))  # made of FORMATS at import
    files = {"a.new": b"NEW a.sig other.bin", "a.sig": b"1", "other.bin": b"2", "b.new": b"NEW", "c.sig": b"3"}
    _write(tmp_path, {} if packed else files)
    if packed:
        make_archive(tmp_path / "x.zip", files)
    rows, rejects, n_read = _read(_plan(tmp_path), ("new",))
    assert {key.removeprefix("x.zip!"): row.source_format for key, row in rows.items()} == {"a": "new", "b": "new"}
    one, three = (np.abs(_uv(row)).max() for row in sorted(rows.values(), key=lambda row: row.ecg_id, reverse=True))
    assert three == pytest.approx(3 * one, abs=5)
    assert [r.reason for r in rejects] == ["not_an_ecg"]
    assert n_read == 3


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_unit_reader__records_in_an_archive_are_those_outside(tmp_path: Path, suffix: str) -> None:
    files = {**_record("r1", 1), **{f"p/{k}": v for k, v in _record("r2", 2).items()}}
    files = dict(sorted(files.items(), reverse=True)) | {"x.xml": cardiosoft_xml(COUNTS)}
    _write(tmp_path / "loose", files)
    (tmp_path / "packed").mkdir()
    make_archive(tmp_path / "packed" / f"x{suffix}", files)
    loose, no_rejects, n_loose = _read(_plan(tmp_path / "loose"))
    packed, rejects, n_packed = _read(_plan(tmp_path / "packed"))
    assert (no_rejects, rejects, n_loose, n_packed) == ([], [], 3, 3)
    assert sorted(loose) == ["p/r2", "r1", "x"]
    assert sorted(packed) == [f"x{suffix}!{key}" for key in sorted(loose)]
    for key, row in loose.items():
        np.testing.assert_array_equal(packed[f"x{suffix}!{key}"].counts, row.counts)


def test_unit_reader__many_loose_records_in_order(tmp_path: Path) -> None:
    xml = cardiosoft_xml(COUNTS)
    _write(tmp_path, {f"{i:03d}.xml": xml for i in range(40)})
    rows, rejects, n_read = _read(_plan(tmp_path))
    assert list(rows) == [f"{i:03d}" for i in range(40)]
    assert (rejects, n_read) == ([], 40)


# Rejects


def test_unit_reader__missing_signal_file_is_a_reject(tmp_path: Path) -> None:
    record = _record("r1")
    del record["r1.dat"]
    _write(tmp_path, {**record, **_record("r2")})
    rows, (reject,), n_read = _read(_plan(tmp_path))
    assert (list(rows), n_read) == (["r2"], 2)
    assert (reject.reason, reject.ecg_id, reject.source_uri) == ("truncated", "r1", "r1.hea")
    assert "signal file 1 of 1 of the WFDB record is missing" in (reject.detail or "")


def test_unit_reader__no_detail_quotes_a_name(tmp_path: Path) -> None:
    name = "Quillfeather"
    record = _record(name)
    del record[f"{name}.dat"]
    files = {
        f"{name}.xml": muse_xml(COUNTS, LeadAmplitudeUnits=name),
        f"{name}2.xml": cardiosoft_xml(COUNTS, resolution=f'<Resolution units="{name}">5</Resolution>'),
        f"{name}3.xml": f"<{name}/>".encode(),
        f"{name}4.txt": name.encode(),
        **record,
    }
    _write(tmp_path, files)
    rows, rejects, n_read = _read(_plan(tmp_path))
    assert (rows, n_read) == ({}, 5)
    assert sorted(reject.reason for reject in rejects) == [
        "not_an_ecg",
        "not_an_ecg",
        "truncated",
        "unknown_unit",
        "unknown_unit",
    ]
    assert [reject.detail for reject in rejects if name in (reject.detail or "")] == []


@pytest.mark.parametrize("suffix", ["", ".zip"])
def test_unit_reader__signal_file_in_another_folder(tmp_path: Path, suffix: str) -> None:
    record = _record("r1", 1)
    header = record["r1.hea"].replace(b"r1.dat", b"sub/r1.dat")
    files = {"p/r1.hea": header, "p/sub/r1.dat": record["r1.dat"]}
    if suffix:
        make_archive(tmp_path / f"x{suffix}", files)
    else:
        _write(tmp_path, files)
    rows, rejects, n_read = _read(_plan(tmp_path))
    assert (rejects, n_read) == ([], 1)
    np.testing.assert_array_equal(next(iter(rows.values())).counts, ecg_counts(1, 1)[0])


@pytest.mark.parametrize(
    ("content", "reason", "detail"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "not_an_ecg", "file is a PNG picture"),
        (b"just text\n", "not_an_ecg", "of an unknown format"),
        (b"", "truncated", "0 bytes"),
        (cardiosoft_xml(COUNTS)[:5000], "truncated", ""),
        (cardiosoft_xml({k: v[:2000] for k, v in COUNTS.items()}), "too_short", "lasts 4 s"),
    ],
    ids=["picture", "text", "empty", "truncated", "short"],
)
def test_unit_reader__what_is_no_usable_ecg_is_a_reject(
    tmp_path: Path, content: bytes, reason: str, detail: str
) -> None:
    _write(tmp_path, {"a.xml": content, "b.xml": cardiosoft_xml(COUNTS)})
    rows, (reject,), n_read = _read(_plan(tmp_path))
    assert (list(rows), n_read) == (["b"], 2)
    assert (reject.reason, reject.ecg_id, reject.n_ecgs) == (reason, "a", 1)
    assert detail in (reject.detail or "")


def test_unit_reader__format_filter_names_what_was_found(tmp_path: Path) -> None:
    _write(tmp_path, {"a.xml": cardiosoft_xml(COUNTS), **_record("r"), "n.txt": b"text"})
    rows, rejects, n_read = _read(_plan(tmp_path), ("wfdb", "muse_xml"))
    assert (list(rows), n_read) == (["r"], 3)
    details = {reject.ecg_id: (reject.reason, reject.detail) for reject in rejects}
    assert details["a"] == ("not_an_ecg", "file is cardiosoft_xml, but --format asked for wfdb, muse_xml")
    assert details["n"][0] == "not_an_ecg"


def test_unit_reader__path_that_the_pattern_does_not_match_is_a_reject(tmp_path: Path) -> None:
    xml = cardiosoft_xml(COUNTS)
    _write(tmp_path, {"1000001_20205_2_0.xml": xml, "other.xml": xml})
    rows, (reject,), n_read = _read(_plan(tmp_path, IdRule("ukb-20205")))
    assert [(r.ecg_id, r.participant_id) for r in rows.values()] == [("1000001_20205_2_0", "1000001")]
    assert (reject.reason, reject.source_uri, reject.ecg_id) == ("not_an_ecg", "other.xml", None)
    assert n_read == 2


def test_unit_reader__parquet_is_not_ingested(tmp_path: Path) -> None:
    _write(tmp_path, {"a.parquet": b"PAR1", "b.xml": cardiosoft_xml(COUNTS)})
    rows, (reject,), _ = _read(_plan(tmp_path))
    assert list(rows) == ["b"]
    assert (reject.reason, reject.detail) == ("not_an_ecg", "file is Parquet; lvm-ai score reads it directly")


def test_unit_reader__file_that_is_gone_is_a_stop(tmp_path: Path) -> None:
    _write(tmp_path, {"a.xml": cardiosoft_xml(COUNTS), "b.xml": cardiosoft_xml(COUNTS)})
    found = _plan(tmp_path)
    (tmp_path / "a.xml").unlink()
    with pytest.raises(LvmError, match=r"a\.xml was there when the run was planned and is gone"):
        _read(found)


# People


def test_unit_reader__header_is_asked_for_the_person_only_on_request(tmp_path: Path) -> None:
    _write(tmp_path, {"a.xml": cardiosoft_xml(COUNTS, participant_id="4711")})
    found = _plan(tmp_path)
    assert _read(found)[0]["a"].participant_id is None
    assert _read(found, id_from_header=True)[0]["a"].participant_id == "4711"


def test_unit_reader__person_of_the_path_wins_over_the_header(tmp_path: Path) -> None:
    _write(tmp_path, {"1000001_20205_2_0.xml": cardiosoft_xml(COUNTS, participant_id="4711")})
    rows, _, _ = _read(_plan(tmp_path, IdRule("ukb-20205")), id_from_header=True)
    assert rows["1000001_20205_2_0"].participant_id == "1000001"


def test_unit_reader__excluded_record_is_not_read_and_not_named(tmp_path: Path) -> None:
    _write(tmp_path, {"1000001.xml": cardiosoft_xml(COUNTS), "b.xml": cardiosoft_xml(COUNTS)})
    found = _plan(tmp_path)
    found.pieces = [found.pieces[0].redacted(), found.pieces[1]]
    (tmp_path / "1000001.xml").unlink()
    rows, (reject,), n_read = _read(found)
    assert (list(rows), n_read) == (["b"], 2)
    assert (reject.reason, reject.ecg_id, reject.source_uri) == ("excluded", None, None)
    assert "1000001" not in repr(reject)


# Archives that are damaged


def test_unit_reader__damaged_archive_is_one_reject_of_unknown_size(tmp_path: Path) -> None:
    make_archive(tmp_path / "x.zip", {"a.xml": cardiosoft_xml(COUNTS)})
    data = (tmp_path / "x.zip").read_bytes()
    (tmp_path / "x.zip").write_bytes(data[: len(data) // 2])
    _write(tmp_path, {"b.xml": cardiosoft_xml(COUNTS)})
    rows, (reject,), n_read = _read(_plan(tmp_path))
    assert (list(rows), n_read) == (["b"], 2)
    assert (reject.reason, reject.source_uri, reject.n_ecgs) == ("unreadable", "x.zip", None)


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_unit_reader__archive_that_breaks_off_loses_what_follows_and_says_so(tmp_path: Path, suffix: str) -> None:
    path = make_archive(tmp_path / f"x{suffix}", {"a.xml": cardiosoft_xml(COUNTS), **_record("b"), **_record("c")})
    found = _plan(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 5])
    rows, rejects, n_read = _read(found)
    assert n_read == 3
    assert list(rows) == [f"x{suffix}!a"]
    assert {(r.reason, r.ecg_id) for r in rejects} == {("truncated", f"x{suffix}!b"), ("truncated", f"x{suffix}!c")}
    assert all("archive breaks off before" in (r.detail or "") for r in rejects)


def test_unit_reader__member_name_given_twice_is_no_crash(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for _ in range(2):
            data = cardiosoft_xml(COUNTS)
            info = tarfile.TarInfo("a.xml")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    found = _plan(tmp_path)
    rows, rejects, n_read = _read(found)
    assert n_read == len(found.pieces) == len(rows) + len(rejects)


def test_unit_reader__archive_below_a_folder_with_an_exclamation_mark(tmp_path: Path) -> None:
    (tmp_path / "site!1").mkdir()
    make_archive(tmp_path / "site!1" / "x.zip", {"a.xml": cardiosoft_xml(COUNTS)})
    rows, rejects, _ = _read(_plan(tmp_path))
    assert (list(rows), rejects) == (["site!1/x.zip!a"], [])


def test_unit_reader__duplicates_are_rejects_and_not_read(tmp_path: Path) -> None:
    _write(tmp_path, {"a/1.xml": cardiosoft_xml(COUNTS), "b/1.xml": cardiosoft_xml(COUNTS)})
    found = _plan(tmp_path, IdRule(r"(?P<ecg_id>\d+)\.xml$"))
    found.pieces = mark_duplicates(STORAGE, found.roots, found.pieces, None, Keys())
    (tmp_path / "b" / "1.xml").unlink()
    rows, (reject,), n_read = _read(found)
    assert [row.source_uri for row in rows.values()] == ["a/1.xml"]
    assert (reject.reason, reject.ecg_id, reject.source_uri) == ("duplicate_ecg_id", "1", "b/1.xml")
    assert n_read == 2


def test_unit_reader__file_that_grows_after_planning_is_read_no_further_than_the_limit(tmp_path: Path) -> None:
    _write(tmp_path, {"a.xml": cardiosoft_xml(COUNTS), **_record("b"), **_record("c")})
    found = _plan(tmp_path)
    for name in ("a.xml", "b.dat"):
        with open(tmp_path / name, "ab") as stream:
            stream.truncate(5_000_000_000)  # sparse: no space is taken
    rows, rejects, _ = _read(found)
    assert list(rows) == ["c"]
    assert [(r.source_uri, r.reason) for r in rejects] == [("a.xml", "unreadable"), ("b.hea", "unreadable")]
    assert all("more than 20000000 bytes" in str(reject.detail) for reject in rejects)


def test_unit_reader__compressed_files_inside_archives_and_damaged_ones(tmp_path: Path) -> None:
    packed = gzip.compress(cardiosoft_xml(COUNTS))
    make_archive(tmp_path / "x.zip", {"a.xml.gz": packed, "b.xml.gz": packed[:-9]})
    rows, rejects, n_read = _read(_plan(tmp_path))
    assert n_read == 2
    assert list(rows) == ["x.zip!a"]
    (reject,) = rejects
    assert (reject.source_uri, reject.reason) == ("x.zip!b.xml.gz", "unreadable")


def test_unit_reader__mutants_of_archives_lose_no_record_in_silence(tmp_path: Path) -> None:
    made = archive_seeds()
    n_read = n_rejected = 0
    for seed in range(160):
        name = sorted(made)[seed // 2 % len(made)]
        damaged = repacked(name, made[name], lambda data, seed=seed: mutant(data, seed))
        path = tmp_path / name
        path.write_bytes(damaged)
        found = find_inputs(InputSettings(inputs=(str(path),), accept_unread_archives=True, allow_empty=True))
        rows, rejects, n = _read(found)  # checks that each is read or rejected
        assert n == len(found.pieces), f"seed {seed}"
        n_read, n_rejected = n_read + len(rows), n_rejected + len(rejects)
        path.unlink()
    assert n_rejected > 50
    assert n_read > 10
