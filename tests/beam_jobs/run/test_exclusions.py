"""Lists of people to leave out: read in any form, matched as whole identifiers, never silently."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_jobs.reading.blocks import Chunk, EcgRow, Reject
from beam_jobs.reading.storage import FileMissing, Storage
from beam_jobs.run.exclusions import MIN_PATH_ID, Exclusions, load_exclusions
from lvm_core.errors import UsageError

STORAGE = Storage()
LISTED = Exclusions(frozenset({"1000001", "site-01/P7"}))


def _load(folder: Path, content: str | bytes, name: str = "list.csv") -> frozenset[str]:
    data = content if isinstance(content, bytes) else content.encode()
    (folder / name).write_bytes(data)
    return load_exclusions(STORAGE, f"{folder}/{name}").ids


# Reading


@pytest.mark.parametrize(
    "text",
    [
        "1000001\n1000002\n",
        "1000001\r\n1000002",
        "participant_id\n1000001\n1000002\n",
        "eid\n1000001\n1000002",
        "f.eid\n1000001\n\n1000002\n\n",
        '"1000001"\n"1000002"\n',
        "\ufeffparticipant_id\n1000001\n1000002\n",
        " 1000001 \n 1000002 \n",
        "participant_id,why\n1000001,withdrawn\n1000002,\n",
        "why\teid\nx\t1000001\ny\t1000002\n",
        "eid;why\n1000001;x\n1000002;y\n",
        "\n1000001\n1000002\n",
        "PARTICIPANT_ID,why\n1000001,x\n1000002,y\n",
    ],
)
def test_load_exclusions__list_or_table(tmp_path: Path, text: str) -> None:
    assert _load(tmp_path, text) == {"1000001", "1000002"}


def test_load_exclusions__leading_zeros_are_kept(tmp_path: Path) -> None:
    assert _load(tmp_path, "007\n") == {"007"}
    assert _load(tmp_path, "eid,x\n007,1\n") == {"007"}


def test_load_exclusions__both_keys_of_a_table_count(tmp_path: Path) -> None:
    assert _load(tmp_path, "ecg_id,participant_id\ne1,\n,p2\n") == {"e1", "p2"}


def test_load_exclusions__empty_list_excludes_nobody(tmp_path: Path) -> None:
    for text in ("", "\n\n", "participant_id\n"):
        assert _load(tmp_path, text) == frozenset()


def test_load_exclusions__parquet(tmp_path: Path) -> None:
    path = tmp_path / "list.parquet"
    pq.write_table(pa.table({"why": ["x", "y"], "eid": [1000001, 1000002]}), path)
    assert load_exclusions(STORAGE, str(path)).ids == {"1000001", "1000002"}


def test_load_exclusions__whole_decimal_numbers_lose_the_point(tmp_path: Path) -> None:
    path = tmp_path / "list.parquet"
    pq.write_table(pa.table({"participant_id": [1000001.0, None]}), path)
    assert load_exclusions(STORAGE, str(path)).ids == {"1000001"}
    assert _load(tmp_path, "1000001.0\n1000002.0\n") == {"1000001", "1000002"}


def test_load_exclusions__some_decimal_numbers_among_others_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="1 identifiers with a decimal point"):
        _load(tmp_path, "1000001.0\n1000002\n")


def test_load_exclusions__table_without_a_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected one of participant_id, eid, .*, ecg_id in its header"):
        _load(tmp_path, "name,why\nx,y\n")


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"PAR1 and no more", "list.parquet"),
        (b"1\x000\x00", "list.txt"),
        (b"participant_id,why\n1,a,b\n", "list.csv"),
        (b"participant_id,why\n1\n", "list.csv"),
    ],
)
def test_load_exclusions__damaged_list_is_refused(tmp_path: Path, content: bytes, name: str) -> None:
    with pytest.raises(UsageError, match=name):
        _load(tmp_path, content, name)


def test_load_exclusions__missing_list_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=r"list\.csv: no such file"):
        load_exclusions(STORAGE, f"{tmp_path}/list.csv")


# Matching


@pytest.mark.parametrize(
    ("ecg_id", "participant_id", "hit"),
    [
        ("e1", "1000001", True),
        ("1000001", None, True),
        ("e1", "10000011", False),
        ("e1", None, False),
        (None, None, False),
        ("1000001_20205_2_0", None, True),
        ("11000001_20205_2_0", None, False),
    ],
)
def test_hits__whole_identifiers(ecg_id: str | None, participant_id: str | None, hit: bool) -> None:
    assert LISTED.hits(ecg_id, participant_id) == hit


def test_hits__nobody_is_excluded_by_an_empty_list() -> None:
    assert not Exclusions().hits("e1", "p1")
    assert not Exclusions().hits_path("a/b")


@pytest.mark.parametrize(
    ("path", "hit"),
    [
        ("1000001.xml", True),
        ("1000001_20205_2_0.xml", True),
        ("a/1000001/b.xml", True),
        ("x.zip!1000001-1.xml", True),
        ("10000012.xml", False),
        ("21000001.xml", False),
        ("a1000001.xml", False),
        ("1000001a.xml", False),
        ("site-01/P7/e.xml", True),
        ("xsite-01/P7/e.xml", False),
        ("site-01/P77/e.xml", False),
        ("site-01/Q7", False),
        ("", False),
        (None, False),
    ],
)
def test_hits_path__identifier_is_a_word_of_its_own(path: str | None, hit: bool) -> None:
    assert LISTED.hits_path(path) == hit


def test_sha256__differs_between_lists_and_names_nobody() -> None:
    one, same = Exclusions(frozenset({"b", "a"})), Exclusions(frozenset({"a", "b"}))
    assert one.sha256 == same.sha256 == hashlib.sha256(b'[["a","b"],[]]').hexdigest()
    assert Exclusions(frozenset({"a"})).sha256 != one.sha256
    assert len(one) == 2


def test_hits_path__short_identifiers_are_not_looked_for_in_paths() -> None:
    short = Exclusions(frozenset({"2", "12345", "123456"}))
    assert not short.hits_path("x_2_12345.xml")
    assert short.hits_path("x_2_123456.xml")
    assert short.hits(None, "2")


def test_scrubbed__replaces_every_text_that_names_one_of_them() -> None:
    content = {"inputs": ["data/1000001.xml", "data"], "n": 1000001, "deep": [{"x": "1000001", "y": None}]}
    assert LISTED.scrubbed(content) == {
        "inputs": ["(withdrawn)", "data"],
        "n": 1000001,
        "deep": [{"x": "(withdrawn)", "y": None}],
    }


# Chunks


def _row(ecg_id: str, participant_id: str | None) -> EcgRow:
    counts = np.zeros((12, 5000), dtype=np.int16)
    return EcgRow(ecg_id, counts, 5.0, "a.parquet", 0, participant_id)


def test_of_chunk__accounts_for_every_ecg_and_names_nobody() -> None:
    whole_file = Reject("unreadable", "row group 0 cannot be decoded", "b.parquet", 0, n_ecgs=40)
    chunk = Chunk(
        [_row("e1", "1000001"), _row("e2", "p2"), _row("1000001", None)],
        [
            Reject("lead_flat", "V1", "a.parquet", 1, "e3", "1000001"),
            Reject("lead_flat", "V1", "a.parquet", 1, "e4", "p4"),
            Reject("truncated", "x", "1000001.xml"),
            Reject("unreadable", "x", "1000001.zip", n_ecgs=None),
            whole_file,
        ],
        n_read=47,
    )
    kept = LISTED.of_chunk(chunk)
    assert [row.ecg_id for row in kept.rows] == ["e2"]
    assert sorted(r.reason for r in kept.rejects) == [*["excluded"] * 5, "lead_flat", "unreadable"]
    assert kept.n_read == 47 == len(kept.rows) + sum(r.weight for r in kept.rejects)
    assert "1000001" not in repr(kept)
    assert whole_file in kept.rejects


def test_of_chunk__rows_of_a_shared_file_stay() -> None:
    shared = Reject("unreadable", "x", "1000001/all.parquet", 0, n_ecgs=40)
    assert LISTED.of_chunk(Chunk([], [shared], 40)).rejects == [shared]


def test_of_chunk__empty_list_changes_nothing() -> None:
    chunk = Chunk([_row("e1", "p1")], [], 1)
    assert Exclusions().of_chunk(chunk) is chunk


@pytest.mark.parametrize(
    ("ecg_id", "participant_id", "paths", "expected"),
    [
        ("e1", "1000001", (), {"1000001"}),
        ("e1", "1000002", (), set()),
        ("a/1000001", None, (), {"1000001"}),
        ("1000001_20205_2_0", None, (), {"1000001"}),
        ("1000001_20205_2_0", "1000002", (), set()),
        ("e1", None, ("raw/1000001.xml",), {"1000001"}),
        ("e1", "1000001", ("site-01/P7/a.xml",), {"1000001", "site-01/P7"}),
        (None, None, (), set()),
    ],
)
def test_matching__names_the_identifiers_by_which_an_ecg_is_hit(
    ecg_id: str | None, participant_id: str | None, paths: tuple[str, ...], expected: set[str]
) -> None:
    assert LISTED.matching(ecg_id, participant_id, paths) == expected
    hit = LISTED.hits(ecg_id, participant_id) or any(LISTED.hits_path(path) for path in paths)
    assert hit is bool(expected)


_SIGNS = st.text(alphabet="aB0-_. /\u00e4", min_size=1, max_size=9)


@settings(deadline=None)
@given(st.lists(_SIGNS, max_size=6), st.text(alphabet="aB0-_. /\u00e4", max_size=30))
def test_hits_path__finds_whole_words_as_a_search_for_each_identifier_would(ids: list[str], path: str) -> None:
    long = [one for one in ids if len(one) >= MIN_PATH_ID]
    expected = {one for one in long if re.search(rf"(?<![A-Za-z0-9]){re.escape(one)}(?![A-Za-z0-9])", path)}
    exclusions = Exclusions(frozenset(ids))
    assert exclusions.hits_path(path) == bool(expected)
    assert exclusions.matching(None, "nobody", [path]) == expected
