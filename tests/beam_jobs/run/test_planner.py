"""Planning: order of inputs, what is ignored, duplicates over all of them, people left out."""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path

import pyarrow as pa
import pytest

from beam_jobs.reading import parquet_input
from beam_jobs.reading.inputs import IdRule
from beam_jobs.reading.layout import Layout
from beam_jobs.reading.storage import Storage
from beam_jobs.reading.units import Piece, Unit, cut_units, path_digest
from beam_jobs.run.exclusions import Exclusions, redact_excluded
from beam_jobs.run.plan import Plan
from beam_jobs.run.planner import Inputs, Keys, find_inputs, mark_duplicates, refuse_overlap, root_of
from beam_jobs.run.settings import InputSettings
from lvm_core.errors import LvmError, UsageError
from tests.beam_jobs.helpers import write_ecg_parquet
from tests.beam_jobs.reading.test_archives import make_archive

STORAGE = Storage()


def _find(*uris: Path | str, unit_ecgs: int = 100, rule: IdRule | None = None) -> Inputs:
    return find_inputs(InputSettings(inputs=tuple(map(str, uris)), unit_ecgs=unit_ecgs, id_rule=rule or IdRule()))


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"<x/>")


def _marked(found: Inputs, keys: Keys | None = None, layout: Layout | None = None) -> list[Piece]:
    return mark_duplicates(STORAGE, found.roots, found.pieces, layout, Keys() if keys is None else keys)


# Finding


def test_find_inputs__pieces_are_in_the_order_of_paths_whatever_their_kind(tmp_path: Path) -> None:
    _touch(tmp_path, "c.xml", "a/z.xml", "e.xml")
    write_ecg_parquet(tmp_path / "d.parquet", 2, row_group_rows=1)
    make_archive(tmp_path / "b.zip", {"q.xml": b"<x/>", "p.xml": b"<x/>"})
    found = _find(tmp_path, unit_ecgs=1)
    assert [piece.path for piece in found.pieces] == [
        "a/z.xml",
        "b.zip!p.xml",
        "b.zip!q.xml",
        "c.xml",
        "d.parquet",
        "d.parquet",
        "e.xml",
    ]
    assert (found.n_files, found.ignored) == (5, {})


def test_find_inputs__several_inputs_keep_their_order_and_share_no_file(tmp_path: Path) -> None:
    _touch(tmp_path, "b/1.xml", "a/2.xml", "a/README")
    found = _find(tmp_path / "b", tmp_path / "a", tmp_path / "a" / "*.xml")
    assert [(p.root, p.path, p.ecg_id) for p in found.pieces] == [(0, "1.xml", "1"), (1, "2.xml", "2")]
    assert found.ignored == {"by name": 1}
    assert found.roots == (f"{tmp_path}/b", f"{tmp_path}/a", f"{tmp_path}/a")


def test_find_inputs__does_not_depend_on_where_the_inputs_are(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        _touch(tmp_path / folder, "p/a.xml")
        write_ecg_parquet(tmp_path / folder / "b.parquet", 2)
    pieces = [_find(tmp_path / folder).pieces for folder in ("one", "two")]
    assert pieces[0] == pieces[1]


def test_find_inputs__does_not_depend_on_times(tmp_path: Path) -> None:
    _touch(tmp_path, "a.xml")
    write_ecg_parquet(tmp_path / "b.parquet", 2)
    before = _find(tmp_path).pieces
    for path in tmp_path.iterdir():
        os.utime(path, (1, 1))
    assert _find(tmp_path).pieces == before


def test_find_inputs__nothing_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a file, a folder or a glob"):
        _find(tmp_path / "absent")
    _touch(tmp_path, "README", ".hidden")
    wanted = r"no ECG found in .*: looked at 2 files, ignored 2 \(2 by name\)\. Is the path right"
    with pytest.raises(UsageError, match=wanted):
        _find(tmp_path)


def test_find_inputs__person_of_the_table_where_the_path_does_not_tell(tmp_path: Path) -> None:
    _touch(tmp_path, "a.xml", "b.xml")
    found = find_inputs(InputSettings(inputs=(str(tmp_path),)), person_of={"a": "p1"}.get)
    assert [piece.participant_id for piece in found.pieces] == ["p1", None]


def test_find_inputs__large_row_groups_are_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beam_jobs.run.planner.MAX_ROW_GROUP_ROWS", 3)
    write_ecg_parquet(tmp_path / "small.parquet", 3)
    assert _find(tmp_path).warnings == []
    write_ecg_parquet(tmp_path / "large.parquet", 4)
    (warning,) = _find(tmp_path).warnings
    assert "large.parquet has row groups of up to 4 rows" in warning
    assert "lvm-ai ingest" in warning


def test_find_inputs__large_row_groups_are_read_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beam_jobs.run.planner.MAX_ROW_GROUP_ROWS", 3)
    monkeypatch.setattr("beam_jobs.reading.parquet_input.MAX_ROW_GROUP_ROWS", 3)
    path = write_ecg_parquet(tmp_path / "large.parquet", 4)
    (piece,) = _find(tmp_path).pieces
    reader = parquet_input.ParquetReader(STORAGE, None)
    chunks = list(reader.read(piece, str(path)))
    assert [row.ecg_id for chunk in chunks for row in chunk.rows] == [f"e000{i}" for i in range(4)]


def test_find_inputs__link_that_leads_nowhere_is_a_reject(tmp_path: Path) -> None:
    _touch(tmp_path, "a.xml")
    (tmp_path / "b.xml").symlink_to(tmp_path / "gone.xml")
    good, dead = _find(tmp_path).pieces
    assert good.reason is None
    assert (dead.path, dead.reason) == ("b.xml", "unreadable")


@pytest.mark.parametrize(("n_records", "n_warnings"), [(8, 0), (9, 1)])
def test_find_inputs__large_compressed_tar_is_warned_of(tmp_path: Path, n_records: int, n_warnings: int) -> None:
    make_archive(tmp_path / "x.tar.gz", {f"{i}.xml": b"<x/>" for i in range(n_records)})
    warnings = _find(tmp_path, unit_ecgs=2).warnings
    assert len(warnings) == n_warnings
    assert all("x.tar.gz holds 9 records, and a compressed TAR is one unit" in w for w in warnings)


@pytest.mark.parametrize(
    ("uri", "output", "overlap"),
    [
        ("in", "in", True),
        ("in", "in/out", True),
        ("in/deep", "in", True),
        ("in", "out", False),
        ("in", "in-out", False),
        ("in/*.xml", "in/out", False),
        ("in/**/*.xml", "in/out", True),
        ("in/*.xml", "in", True),
        ("out/a.xml", "out", True),
        ("in/a.xml", "out", False),
    ],
)
def test_refuse_overlap__run_that_would_read_its_own_files(
    tmp_path: Path, uri: str, output: str, overlap: bool
) -> None:
    def check() -> None:
        refuse_overlap(STORAGE, ["s3://elsewhere/x", f"{tmp_path}/{uri}"], f"{tmp_path}/{output}")

    if overlap:
        with pytest.raises(UsageError, match=r"--output .* and --input .* overlap; expected an"):
            check()
    else:
        check()


# Roots


@pytest.mark.parametrize("name", ["in", "in/", "in/a.xml", "in/*.xml"])
def test_root_of__is_the_folder_that_paths_start_from(tmp_path: Path, name: str) -> None:
    _touch(tmp_path, "in/a.xml")
    assert root_of(STORAGE, f"{tmp_path}/{name}") == f"{tmp_path}/in"


def test_root_of__file_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _touch(tmp_path, "a.xml")
    monkeypatch.chdir(tmp_path)
    assert root_of(STORAGE, "a.xml") == "."


UNIT = Unit(0, "ab" * 32, (Piece(0, "a.xml", "ab", 1),))


def _run_folder(folder: Path, kind: str, *, finished: bool) -> Path:
    folder.mkdir()
    (folder / "plan.json").write_bytes(Plan(kind, {}, (UNIT,)).to_bytes())
    write_ecg_parquet(folder / "ecg" / f"{UNIT.name}.parquet", 2)
    write_ecg_parquet(folder / "other.parquet", 2, start=5)
    if finished:
        (folder / "_SUCCESS").write_bytes(b"")
    return folder


def test_find_inputs__run_folder_of_an_ingest_gives_its_ecgs_alone(tmp_path: Path) -> None:
    run = _run_folder(tmp_path / "run", "ingest", finished=True)
    found = _find(run)
    assert found.roots == (f"{run}/ecg",)
    assert [piece.path for piece in found.pieces] == [f"{UNIT.name}.parquet"]


def test_find_inputs__unfinished_ingest_is_refused(tmp_path: Path) -> None:
    run = _run_folder(tmp_path / "run", "ingest", finished=False)
    with pytest.raises(UsageError, match="is an ingest that is not finished; run the same"):
        _find(run)


def test_find_inputs__ingest_with_too_many_rejects_says_so_and_how_to_go_on(tmp_path: Path) -> None:
    run = _run_folder(tmp_path / "run", "ingest", finished=False)
    problem = "4 of 10 ECGs are rejected (40.0%), more than --max-rejected-share 0.05"
    (run / "run_report.json").write_text(json.dumps({"problems": [problem]}))
    with pytest.raises(UsageError, match="was not accepted: 4 of 10 ECGs are rejected") as refused:
        _find(run)
    assert "not finished" not in str(refused.value)


def test_find_inputs__ingest_with_a_foreign_file_among_its_ecgs_is_refused(tmp_path: Path) -> None:
    run = _run_folder(tmp_path / "run", "ingest", finished=True)
    write_ecg_parquet(run / "ecg" / "copy.parquet", 2)
    with pytest.raises(UsageError, match=r"ecg/copy[.]parquet is not of this run"):
        _find(run)


def test_find_inputs__run_folder_of_a_scoring_is_refused(tmp_path: Path) -> None:
    run = _run_folder(tmp_path / "run", "score", finished=True)
    with pytest.raises(UsageError, match="is the run folder of a scoring; expected ECGs"):
        _find(run)


# Duplicates


def test_mark_duplicates__first_one_in_plan_order_stays(tmp_path: Path) -> None:
    write_ecg_parquet(tmp_path / "a.parquet", 4, row_group_rows=2, ecg_id=["x", "y", "x", "z"])
    write_ecg_parquet(tmp_path / "b.parquet", 3, ecg_id=["z", "w", "y"])
    keys = Keys()
    marked = _marked(_find(tmp_path, unit_ecgs=2), keys)
    assert [(p.path, p.first_row, p.duplicate_rows) for p in marked] == [
        ("a.parquet", 0, ()),
        ("a.parquet", 2, (2,)),
        ("b.parquet", 0, (0, 2)),
    ]
    assert keys.seen == {"w", "x", "y", "z"}


def test_mark_duplicates__many_files_keep_their_order(tmp_path: Path) -> None:
    ids = [[f"e{(7 * file + row) % 90}" for row in range(5)] for file in range(40)]
    for file, own in enumerate(ids):
        write_ecg_parquet(tmp_path / f"{file:02d}.parquet", 5, row_group_rows=2, ecg_id=own)
    marked = _marked(_find(tmp_path, unit_ecgs=4))
    found: dict[str, list[int]] = {}
    for piece in marked:
        found.setdefault(piece.path, []).extend(piece.duplicate_rows)
    seen: set[str] = set()
    for file, own in enumerate(ids):
        assert found[f"{file:02d}.parquet"] == [row for row, one in enumerate(own) if one in seen]
        seen.update(own)


def test_mark_duplicates__over_parquet_and_raw_records(tmp_path: Path) -> None:
    _touch(tmp_path, "a.xml", "c.xml", "d/e0001.xml")
    write_ecg_parquet(tmp_path / "b.parquet", 3, ecg_id=["a", "e", "f"])
    make_archive(tmp_path / "e.zip", {"f.xml": b"<x/>", "g.xml": b"<x/>"})
    found = _find(tmp_path, rule=IdRule(r"(?P<ecg_id>[a-z]\w*)\.xml$"))
    marked = {p.path: p.duplicate_rows for p in _marked(found)}
    assert marked == {
        "a.xml": (),
        "b.parquet": (0,),
        "c.xml": (),
        "d/e0001.xml": (),
        "e.zip!f.xml": (0,),
        "e.zip!g.xml": (),
    }


def test_mark_duplicates__null_and_empty_keys_are_not_duplicates(tmp_path: Path) -> None:
    write_ecg_parquet(tmp_path / "a.parquet", 5, ecg_id=[None, "", "x", None, ""])
    (piece,) = _marked(_find(tmp_path))
    assert piece.duplicate_rows == ()


def test_mark_duplicates__numbers_and_texts_are_the_same_key(tmp_path: Path) -> None:
    write_ecg_parquet(tmp_path / "a.parquet", 2, ecg_id=[17, 18])
    write_ecg_parquet(tmp_path / "b.parquet", 2, ecg_id=["18", "19"])
    assert [p.duplicate_rows for p in _marked(_find(tmp_path))] == [(), (0,)]


def test_mark_duplicates__earlier_inputs_count(tmp_path: Path) -> None:
    write_ecg_parquet(tmp_path / "a.parquet", 2, ecg_id=["x", "y"])
    (piece,) = _marked(_find(tmp_path), Keys(seen={"y"}))
    assert piece.duplicate_rows == (1,)


def test_mark_duplicates__inputs_that_cannot_be_read_are_left_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"damaged")
    (tmp_path / "b.zip").write_bytes(b"damaged")
    found = _find(tmp_path)
    assert _marked(found) == found.pieces


# Dates of people


def _when(day: str) -> dt.datetime:
    return dt.datetime.fromisoformat(day)


def test_mark_duplicates__keeps_the_first_and_last_date_of_each_person(tmp_path: Path) -> None:
    days = [_when("2015-01-01"), _when("2014-01-01"), _when("2016-01-01"), None]
    write_ecg_parquet(
        tmp_path / "a.parquet", 4, participant_id=["p", "p", "q", "p"], recorded_at=pa.array(days, pa.timestamp("us"))
    )
    write_ecg_parquet(
        tmp_path / "b.parquet",
        2,
        start=4,
        participant_id=["p", None],
        recorded_at=pa.array([_when("2019-01-01"), _when("2000-01-01")], pa.timestamp("us")),
    )
    keys = Keys()
    _marked(_find(tmp_path), keys)
    assert keys.dates == {
        "p": (_when("2014-01-01"), _when("2019-01-01")),
        "q": (_when("2016-01-01"), _when("2016-01-01")),
    }


@pytest.mark.parametrize(
    "times", [["2014-05-06", "2019-05-06T10:00:00"], [dt.date(2014, 5, 6), dt.date(2019, 5, 6)]], ids=["text", "date"]
)
def test_mark_duplicates__dates_of_a_layout_may_be_text_or_days(tmp_path: Path, times: list[object]) -> None:
    leads = ["I", "II", "V1", "V2", "V3", "V4", "V5", "V6"]
    layout = Layout.model_validate(
        {
            "ecg_id": "ecg_id",
            "participant_id": "participant_id",
            "recorded_at": "when",
            "signal": {
                "columns": {lead: lead for lead in leads},
                "unit": "counts",
                "uv_per_count": 5,
                "sampling_rate_hz": 500,
            },
        }
    )
    write_ecg_parquet(tmp_path / "a.parquet", 2, participant_id=["p", "p"], when=times)
    keys = Keys()
    found = find_inputs(InputSettings(inputs=(str(tmp_path),)), layout)
    _marked(found, keys, layout)
    first, last = keys.dates["p"]
    assert (first.date(), last.date()) == (dt.date(2014, 5, 6), dt.date(2019, 5, 6))


# Excluded people


def _record(path: str, **keys: str) -> Piece:
    return Piece(0, path, path_digest(0, path), 1, ecg_id=keys.get("ecg_id"), participant_id=keys.get("participant_id"))


def test_redact_excluded__records_by_key_and_by_path() -> None:
    pieces = [
        _record("a.xml", ecg_id="1000001"),
        _record("b.xml", ecg_id="b", participant_id="1000001"),
        _record("1000001_20205_2_0.xml"),
        _record("11000001_20205_2_0.xml", ecg_id="x"),
    ]
    redacted = redact_excluded(Unit(0, "f", tuple(pieces)), Exclusions(frozenset({"1000001"}))).pieces
    assert [piece.excluded for piece in redacted] == [True, True, True, False]
    assert all("1000001" not in repr(piece) for piece in redacted[:3])
    units = [
        next(cut_units(p, unit_ecgs=9, first_number=0, settings_sha256="s")).fingerprint for p in (pieces, redacted)
    ]
    assert units[0] == units[1]


def test_redact_excluded__parquet_files_keep_their_path_until_they_are_read() -> None:
    span = Piece(0, "1000001.parquet", "ab", 1, row_group_stop=1, n_ecgs=9)
    exclusions = Exclusions(frozenset({"1000001"}))
    unit = Unit(0, "f", (span,))
    assert redact_excluded(unit, exclusions) == unit
    (finished,) = redact_excluded(unit, exclusions, finished=True).pieces
    assert "1000001" not in repr(finished)


# What should be there


def test_find_inputs__other_number_of_ecgs_than_expected_is_refused(tmp_path: Path) -> None:
    write_ecg_parquet(tmp_path / "a.parquet", 5, row_group_rows=2)
    _touch(tmp_path, "b.xml")
    (tmp_path / "c.parquet").write_bytes(b"damaged, of an unknown number of ECGs")

    def find(n_ecgs: int) -> Inputs:
        return find_inputs(InputSettings(inputs=(str(tmp_path),), expect_ecgs=n_ecgs))

    assert sum(piece.weight for piece in find(7).pieces) == 7
    unknown = "in 3 files, 1 of them files that cannot be read and count as 1, but"
    with pytest.raises(LvmError, match=f"7 ECGs found {unknown} --expect-ecgs is 8.*incomplete"):
        find(8)
    with pytest.raises(LvmError, match=f"7 ECGs found {unknown} --expect-ecgs is 6.*too many"):
        find(6)


def test_find_inputs__files_that_are_expected_must_be_there(tmp_path: Path) -> None:
    _touch(tmp_path / "in", "a/x.xml", "b.xml", "README.md")
    expected = tmp_path / "files.txt"

    def find(*paths: object) -> Inputs:
        expected.write_text("".join(f"{path}\r\n" for path in paths))
        return find_inputs(InputSettings(inputs=(str(tmp_path / "in"),), expect_files=str(expected)))

    assert len(find("./a/x.xml", "", tmp_path / "in" / "b.xml", "README.md").pieces) == 2
    with pytest.raises(LvmError, match=r"of --expect-files .*, 2 files are not among the inputs: c.xml, a/y.xml\. Not"):
        find("c.xml", "b.xml", "a/y.xml")
    with pytest.raises(UsageError, match=r"--expect-files .* cannot be read: .*no such file"):
        find_inputs(InputSettings(inputs=(str(tmp_path / "in"),), expect_files=str(tmp_path / "nothing.txt")))


def test_find_inputs__file_that_grows_after_it_was_listed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_ecg_parquet(tmp_path / "a.parquet", 5)
    listed = Storage().list_files(str(tmp_path))
    n_bytes = path.stat().st_size
    write_ecg_parquet(path, 6)
    monkeypatch.setattr(Storage, "list_files", lambda *_: listed)
    with pytest.raises(LvmError, match=f"a.parquet changed while the run was planned: it had {n_bytes} bytes when"):
        _find(tmp_path)
