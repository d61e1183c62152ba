from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest

from beam_jobs.reading.blocks import Chunk, EcgRow, Reject
from beam_jobs.reading.index import IndexMatch, RecordIndex, Unread
from beam_jobs.run.exclusions import Exclusions
from beam_jobs.run.index import ecg_ids_in, index_sha256, record_index, with_index
from beam_jobs.run.pseudonyms import under_key
from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.formats.statements import rhythm_codes
from lvm_core.pseudonyms import Pseudonyms
from lvm_core.tables import Index, IndexLayout, ParticipantsLayout, ParticipantTable, read_index, read_people, schemas

NOON = dt.datetime(2020, 6, 15, 12)
KEYED = Pseudonyms(bytes(32))


def _records(*rows: dict[str, Any]) -> RecordIndex:
    empty: dict[str, Any] = dict.fromkeys(schemas.INDEX.names)
    return RecordIndex.of(pa.Table.from_pylist([empty | row for row in rows], schema=schemas.INDEX.arrow))


def _people(text: str) -> ParticipantTable:
    return ParticipantTable.of(read_people(text.encode(), "p.csv", ParticipantsLayout()))


def _index(*rows: tuple[str, str], by_path: bool = True, **layout: Any) -> Index:
    lines = [f"ecg_id,{'path' if by_path else 'other'}", *(",".join(row) for row in rows)]
    data = "".join(f"{line}\n" for line in lines).encode()
    return read_index([("list.csv", data)], IndexLayout.model_validate(layout), rhythm_codes)


@pytest.mark.parametrize(
    ("listed", "there"),
    [
        ("a/b.xml", "a/b.xml"),
        ("a/b", "a/b.xml"),
        ("a/b.xml", "a/b.xml.gz"),
        ("a/b", "a/b.xml.gz"),
        ("a/1.2.840", "a/1.2.840"),
        ("in.zip!a/b.xml", "in.zip!a/b.xml"),
        ("a/b.xml", "in.zip!a/b.xml"),
        ("a/b", "x/in.tar.gz!a/b.xml"),
        ("a/b", "in.zip!top-1.0/a/b.hea"),
    ],
)
def test_rows_of__path_may_be_written_in_several_ways(listed: str, there: str) -> None:
    match = IndexMatch(_index(("e", listed)))
    assert match.rows_of([there], lambda path: path).tolist() == [0]
    assert not list(match.absent())


@pytest.mark.parametrize(
    ("listed", "there"),
    [("a/b.xml", "a/b.hea"), ("b.xml", "a/b.xml"), ("A/b", "a/b.xml"), ("a/b.x", "a/b"), ("top/a/b", "in.zip!a/b.xml")],
)
def test_rows_of__another_path_is_not_found(listed: str, there: str) -> None:
    match = IndexMatch(_index(("e", listed)))
    assert match.rows_of([there], lambda path: path).tolist() == [-1]
    assert [one.problem.reason.value for one in match.absent()] == ["file_missing"]


def test_rows_of__exact_path_wins_and_each_row_is_used_once() -> None:
    match = IndexMatch(_index(("e", "a/b"), ("f", "a/b.xml")))
    assert match.rows_of(["a/b.ecg", "a/b.xml", "a/b.hea"], lambda path: path).tolist() == [0, 1, -1]
    assert match.rows_of(["a/b.xml"], lambda path: path).tolist() == [-1]


def test_rows_of__without_paths_the_key_counts() -> None:
    match = IndexMatch(_index(("e", ""), ("f", ""), by_path=False))
    assert match.rows_of(["x/f.xml", "x/g.xml"], lambda path: path[2:3]).tolist() == [1, -1]
    assert match.rows_of_stack("any.h5", ["e", None, "f"]).tolist() == [0, -1, -1]


def test_absent__says_why_each_row_has_no_record() -> None:
    rows = [("e", "a"), ("e", "b"), ("f", "a"), ("g", ""), ("h", "s.h5"), ("i", "gone"), ("j", "gone")]
    match = IndexMatch(_index(*rows))
    match.rows_of(["a.xml"], lambda path: path)
    match.rows_of_stack("s.h5", ["other"])
    found = {one.row: (one.problem.reason.value, one.problem.message) for one in match.absent()}
    assert set(found) == {1, 2, 3, 4, 5, 6}
    assert [found[row][0] for row in (1, 2)] == ["duplicate_ecg_id"] * 2
    assert {found[row][0] for row in (3, 4, 5, 6)} == {"file_missing"}
    words = {1: "this ecg_id in an earlier row", 2: "under another ecg_id", 3: "without the path", 4: "no ECG of this"}
    assert all(word in found[row][1] for row, word in words.items())


def test_rows_of_stack__ecg_of_a_present_file_is_found_after_the_row_of_an_absent_one() -> None:
    match = IndexMatch(_index(("3", "zz.h5"), ("3", "b.h5"), ("3", "b.h5"), ("4", "")))
    assert match.rows_of_stack("b.h5", ["3", "4"]).tolist() == [1, -1]
    assert [(one.row, one.problem.reason.value) for one in match.absent()] == [
        (0, "file_missing"),
        (2, "duplicate_ecg_id"),
        (3, "file_missing"),
    ]
    assert match.records()["ecg_id"].to_pylist() == ["3"]


def test_records__of_a_repeated_key_is_the_row_whose_file_came_first() -> None:
    data = b"ecg_id,path,participant_id\n3,gone,p\n3,b,q\n3,a,r\n4,c,s\n"
    for there, person in ((["a.xml", "b.xml", "c.xml"], "r"), (["b.xml", "c.xml"], "q")):
        match = IndexMatch(read_index([("list.csv", data)], IndexLayout(), rhythm_codes))
        match.rows_of(there, lambda path: path)
        assert match.records()["participant_id"].to_pylist() == [person, "s"]


def test_absent__rows_of_an_unreadable_input_have_its_reason() -> None:
    damaged = EcgRejected(RejectReason.TRUNCATED, "file is cut off")
    rows = [("1", "a.h5"), ("2", "b.h5"), ("3", "b"), ("4", "x.zip!y.xml"), ("5", "y.xml")]
    match = IndexMatch(_index(*rows))
    match.rows_of_stack("a.h5", ["1"])
    match.note_unread(Unread("b.h5", 9, damaged, is_archive=False))
    found = {one.row: (one.path, one.problem.reason.value) for one in match.absent()}
    assert found == {
        1: ("b.h5", "truncated"),
        2: ("b.h5", "truncated"),
        3: ("x.zip!y.xml", "file_missing"),
        4: ("y.xml", "file_missing"),
    }
    match.note_unread(Unread("x.zip", 9, damaged, is_archive=True))
    assert [(one.path, one.problem) for one in match.absent()][2:] == [("x.zip", damaged)] * 2


def test_record_index__looks_ids_up_whatever_they_are() -> None:
    ids = ["b", "a", "é", "Z", "10", "9", "\U0001f600", "~"]
    records = _records(*({"ecg_id": one, "participant_id": f"p{i}"} for i, one in enumerate(ids)))
    assert [records.known(one, None, None)[0] for one in ids] == [f"p{i}" for i in range(len(ids))]
    assert records.known("c", "x", NOON) == ("x", NOON)
    assert records.known(None, None, None) == (None, None)
    assert _records().known("a", None, None) == (None, None)


def test_completed__rows_and_rejects_get_what_they_lack() -> None:
    import numpy as np

    row = EcgRow("a", np.zeros((12, 1), np.int16), 1.0, "a.xml", participant_id="of the file", recorded_at=NOON)
    records = _records({"ecg_id": "a", "participant_id": "p", "qrs_duration_ms": 90.0, "rhythm": "sinus"})
    chunk = Chunk([row], [Reject("r", None, ecg_id="a"), Reject("r", None, ecg_id="b")], 3)
    done = records.completed(chunk)
    assert (done.rows[0].participant_id, done.rows[0].recorded_at, done.rows[0].rhythm.rhythm) == ("p", NOON, "sinus")
    assert [one.participant_id for one in done.rejects] == ["p", None]
    assert done.n_read == 3


def test_with_index__table_wins_value_by_value_and_the_index_fills() -> None:
    records = _records(
        {"ecg_id": "a", "participant_id": "p", "recorded_at": NOON, "age_years": 50.5, "sex": "female"},
        {"ecg_id": "b", "participant_id": "p", "recorded_at": NOON + dt.timedelta(days=900), "age_years": 53.0},
        {"ecg_id": "c", "participant_id": "q", "age_years": 60.0, "height_cm": 170.0},
        {"ecg_id": "d"},
    )
    people = _people(
        "ecg_id,participant_id,age_years,sex,height_cm,birth_date\n,p,,male,180,\n,q,61,,,\nc,,62,female,,\nz,y,40,,,\nd,r,,,,1960-01-01\n"
    )
    table = with_index(people, records)
    joined = table.join(["a", "b", "c", "z", "d"], ["p", "p", "q", None, None], [NOON] * 5)
    assert joined.age_years.tolist() == [50.5, 53.0, 62.0, 40.0, 60.0]
    assert joined.sex_code.tolist() == [1, 1, 0, -1, -1]
    assert joined.height_cm[:3].tolist() == [180.0, 180.0, 170.0]
    assert joined.participant_id == ["p", "p", "q", "y", "r"]
    assert joined.flags == [()] * 5
    # A person without an ECG in the index stays.
    assert table.join(["x"], ["q"], [NOON]).age_years.tolist() == [61.0]


def test_with_index__age_of_a_person_is_marked_where_records_lie_apart() -> None:
    def flags(days: int) -> list[tuple[str, ...]]:
        times = (NOON, NOON + dt.timedelta(days=days))
        rows = [{"ecg_id": f"e{i}", "participant_id": "p", "recorded_at": time} for i, time in enumerate(times)]
        table = with_index(_people("participant_id,age_years\np,50\n"), _records(*rows))
        return list(table.join(["e0", "e1"], ["p", "p"], list(times)).flags)

    assert flags(365) == [(), ()]
    assert flags(366) == [("age_not_at_recording",)] * 2


def test_with_index__age_of_a_person_marked_by_the_dates_of_files_is_marked_in_each_record() -> None:
    rows = [{"ecg_id": f"e{i}", "participant_id": p} for i, p in enumerate(("p", "p", "q"))]
    rows[1]["age_years"] = 60.0
    given = _people("ecg_id,participant_id,age_years\n,p,50\n,q,50\ne3,p,55\n")
    apart = given.with_stale_ages({"p": (NOON, NOON + dt.timedelta(days=3650))})
    joined = with_index(apart, _records(*rows)).join(["e0", "e1", "e2", "e3"], ["p", "p", "q", "p"], [None] * 4)
    assert joined.age_years.tolist() == [50, 50, 50, 55]
    assert joined.flags == [("age_not_at_recording",)] * 2 + [()] * 2


def test_with_index__given_age_is_not_replaced_by_a_birth_of_the_index() -> None:
    records = _records(
        {"ecg_id": "a", "participant_id": "p", "birth_date": dt.date(1950, 1, 1), "birth_day_assumed": True}
    )
    given = with_index(_people("participant_id,age_years\np,44\n"), records).join(["a"], ["p"], [NOON])
    assert given.age_years.tolist() == [44.0]
    alone = with_index(None, records).join(["a"], ["p"], [NOON])
    assert (alone.age_years.tolist(), alone.flags) == ([70.0], [("birth_day_assumed",)])


def test_index_sha256__differs_with_any_value_and_path() -> None:
    digests = {
        index_sha256(index)
        for index in (
            _index(("a", "x")),
            _index(("a", "y")),
            _index(("b", "x")),
            _index(("a", "x"), ("b", "y")),
            _index(("b", "y"), ("a", "x")),
            _index(("a", "x"), by_path=False),
        )
    }
    assert len(digests) == 6
    assert index_sha256(_index(("a", "x"))) in digests
    assert index_sha256(None) is None


def test_record_index__under_a_key_holds_pseudonyms_alone() -> None:
    match = IndexMatch(_index(("marked1", "x"), ("marked2", "y"), ("marked1", "z")))
    match.rows_of(["x", "y", "z"], lambda path: path)
    records = record_index(match.records(), KEYED)
    assert set(records.table["ecg_id"].to_pylist()) == {KEYED.ecg("marked1"), KEYED.ecg("marked2")}
    assert "marked" not in str(records.table.to_pylist())


def test_ecg_ids_in__are_those_of_excluded_people() -> None:
    data = b"ecg_id,participant_id\na,p\nb,q\nc,\nd,p\n"
    index = read_index([("l.csv", data)], IndexLayout(), rhythm_codes)
    gone = Exclusions(frozenset({"p", "c"}))
    assert ecg_ids_in(index, gone, None) == {"a", "d"}
    assert ecg_ids_in(index, under_key(gone, KEYED), KEYED) == {KEYED.ecg("a"), KEYED.ecg("d")}
    assert ecg_ids_in(index, Exclusions(), None) == frozenset()


def test_under_key__list_finds_both_and_gives_only_pseudonyms_away() -> None:
    listed = under_key(Exclusions(frozenset({"P-0001"})), KEYED)
    for name in ("P-0001", KEYED.person("P-0001"), KEYED.ecg("P-0001")):
        assert listed.has(name)
    assert not listed.has(KEYED.person("P-0002"))
    assert len(listed) == 1
    assert listed.hits_path("x/P-0001/y.xml")
    # The digest of a short list, which reports have, could be tried out.
    assert listed.sha256 != Exclusions(frozenset({"P-0001"})).sha256
    sent = Exclusions.from_json(listed.to_json())
    assert sent.has(KEYED.person("P-0001"))
    assert not sent.has("P-0001")
    assert not sent.hits_path("x/P-0001/y.xml")
    assert under_key(listed, None) is listed
