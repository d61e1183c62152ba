"""Canonical ECG Parquet: what is accepted, what becomes of damage; no row is lost."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.reading.blocks import EcgRow, Reject
from beam_jobs.reading.parquet_input import ParquetReader, _keys, column_problems, read_footer, read_keys, read_table
from beam_jobs.reading.storage import Storage, join
from beam_jobs.run.planner import Inputs, find_inputs
from beam_jobs.run.settings import InputSettings
from lvm_core.errors import EcgRejected, LvmError, RejectReason, UsageError
from lvm_core.signal.ecg import LEADS_12
from lvm_core.tables import schemas
from tests.beam_jobs.helpers import ecg_counts, ecg_ids, ecg_table, lead_array, write_ecg_folder, write_ecg_parquet

STORAGE = Storage()


def _plan(folder: Path, unit_ecgs: int = 10_000) -> Inputs:
    return find_inputs(InputSettings(inputs=(str(folder),), unit_ecgs=unit_ecgs))


def _read(folder: Path, found: Inputs | None = None) -> tuple[list[EcgRow], list[Reject], int]:
    """Return the rows, the rejects and n_read of all Parquet spans below a folder."""
    found = found or _plan(folder)
    reader = ParquetReader(STORAGE, None)
    rows: list[EcgRow] = []
    rejects: list[Reject] = []
    n_read = 0
    for piece in found.pieces:
        if piece.is_table:
            for chunk in reader.read(piece, join(found.roots[piece.root], piece.path)):
                assert chunk.n_read == len(chunk.rows) + sum(r.weight for r in chunk.rejects)
                rows += chunk.rows
                rejects += chunk.rejects
                n_read += chunk.n_read
    return rows, rejects, n_read


def _counts_of(rows: list[EcgRow]) -> dict[str, bytes]:
    return {row.ecg_id: row.counts.tobytes() for row in rows}


def _expected(n: int, start: int = 0) -> dict[str, bytes]:
    return {key: ecg.tobytes() for key, ecg in zip(ecg_ids(n, start), ecg_counts(n, start), strict=True)}


# What is accepted


def test_parquet_reader__gives_what_was_written_in_order(tmp_path: Path) -> None:
    n = write_ecg_folder(tmp_path, [5, 3], row_group_rows=2)
    rows, rejects, n_read = _read(tmp_path)
    assert (n_read, rejects) == (n, [])
    assert [row.ecg_id for row in rows] == ecg_ids(8)
    assert [row.participant_id for row in rows] == [f"p{i:04d}" for i in range(8)]
    assert [row.row for row in rows] == [0, 1, 2, 3, 4, 0, 1, 2]
    assert [row.source_uri for row in rows] == ["part-000.parquet"] * 5 + ["part-001.parquet"] * 3
    assert {row.uv_per_count for row in rows} == {5.0}
    assert _counts_of(rows) == _expected(8)


def test_parquet_reader__spans_cover_each_row_once(tmp_path: Path) -> None:
    write_ecg_folder(tmp_path, [9, 4], row_group_rows=2)
    found = _plan(tmp_path, unit_ecgs=4)
    spans = [(p.path, p.row_group_start, p.row_group_stop, p.first_row) for p in found.pieces]
    first, second = "part-000.parquet", "part-001.parquet"
    assert spans == [(first, 0, 2, 0), (first, 2, 4, 4), (first, 4, 5, 8), (second, 0, 2, 0)]
    assert _counts_of(_read(tmp_path, found)[0]) == _expected(13)


@pytest.mark.parametrize(("nullable", "plain_list"), [(False, False), (True, False), (True, True)])
def test_parquet_reader__lists_of_all_three_kinds(tmp_path: Path, nullable: bool, plain_list: bool) -> None:
    counts = ecg_counts(3)
    leads = {
        lead: lead_array(counts[:, k], nullable=nullable, plain_list=plain_list) for k, lead in enumerate(LEADS_12)
    }
    write_ecg_parquet(tmp_path / "x.parquet", 3, **leads)
    rows, rejects, _ = _read(tmp_path)
    assert rejects == []
    assert _counts_of(rows) == _expected(3)


def test_parquet_reader__large_lists(tmp_path: Path) -> None:
    counts = ecg_counts(2)
    kind = pa.large_list(pa.int16())
    leads = {lead: pa.array(list(counts[:, k]), kind) for k, lead in enumerate(LEADS_12)}
    write_ecg_parquet(tmp_path / "x.parquet", 2, **leads)
    assert _counts_of(_read(tmp_path)[0]) == _expected(2)


def test_parquet_reader__row_groups_of_many_batches(tmp_path: Path) -> None:
    leads = {lead: lead_array(np.repeat(ecg_counts(1)[:, k], 150, axis=0)) for k, lead in enumerate(LEADS_12)}
    columns: dict[str, Any] = {
        "ecg_id": ecg_ids(150),
        "uv_per_count": pa.array([5.0] * 150, pa.float32()),
        "participant_id": None,
    }
    write_ecg_parquet(tmp_path / "x.parquet", 0, row_group_rows=150, **leads, **columns)
    rows, _, n_read = _read(tmp_path)
    assert n_read == 150
    assert [(row.ecg_id, row.row) for row in rows] == list(zip(ecg_ids(150), range(150), strict=True))


def test_parquet_reader__optional_columns(tmp_path: Path) -> None:
    write_ecg_parquet(
        tmp_path / "x.parquet",
        2,
        recorded_at=pa.array([dt.datetime(2020, 1, 2, 3, 4, 5), None], pa.timestamp("us")),
        r_avl_uv=pa.array([1200.0, None], pa.float32()),
        s_v1_uv=pa.array([-800, 700], pa.int32()),
        measured_by=["12SL", None],
        quality_flags=[["saturated"], None],
    )
    rows, _, _ = _read(tmp_path)
    assert [row.recorded_at for row in rows] == [dt.datetime(2020, 1, 2, 3, 4, 5), None]
    assert [row.quality_flags for row in rows] == [("saturated",), ()]
    assert [row.measured_by for row in rows] == ["12SL", None]
    np.testing.assert_array_equal([row.amplitudes[:2] for row in rows], [[1200.0, 800.0], [np.nan, 700.0]])


def test_parquet_reader__who_measured_the_duration() -> None:
    """Tables of earlier versions have no such column: `measured_by` is of all that they hold."""
    columns = {"qrs_duration_ms": pa.array([96.0, 90.0, None]), "measured_by": ["12SL", "software", "12SL"]}
    keys = list(_keys(pa.RecordBatch.from_pydict(columns), {name: name for name in columns}))
    assert [key.qrs_measured_by for key in keys] == ["12SL", "software", None]
    columns["qrs_measured_by"] = [None, "12SL", "12SL"]
    keys = list(_keys(pa.RecordBatch.from_pydict(columns), {name: name for name in columns}))
    assert [key.qrs_measured_by for key in keys] == ["12SL", "12SL", None]


def test_parquet_reader__reads_codes_of_the_closed_lists_only() -> None:
    columns = {
        "rhythm": ["paced", "DOE^JANE", "sinus"],
        "conduction": ["rbbb", "see report", "none"],
        "rhythm_source": ["device", "Dr. Smith", "header"],
    }
    keys = list(_keys(pa.RecordBatch.from_pydict(columns), {name: name for name in columns}))
    assert [tuple(key.rhythm) for key in keys] == [
        ("paced", "rbbb", "device"),
        (None, None, None),
        ("sinus", "none", "header"),
    ]


def test_parquet_reader__source_is_read_where_it_is_a_known_format_and_a_number(tmp_path: Path) -> None:
    kinds = ["wfdb", "Quillfeather", None, "parquet"]
    write_ecg_parquet(tmp_path / "a.parquet", 4, source_format=kinds, source_sampling_rate_hz=[250.0, None, 500.0, 1e3])
    write_ecg_parquet(tmp_path / "b.parquet", 1, start=4, source_format=[["wfdb"]], source_sampling_rate_hz=["fast"])
    rows, _, _ = _read(tmp_path)
    found = [(row.source_format, row.source_sampling_rate_hz) for row in rows]
    assert found == [("wfdb", 250.0), (None, None), (None, 500.0), ("parquet", 1000.0), (None, None)]


def test_parquet_reader__columns_in_any_order(tmp_path: Path) -> None:
    table = ecg_table(2)
    pq.write_table(table.select(table.column_names[::-1]), tmp_path / "x.parquet")
    assert _counts_of(_read(tmp_path)[0]) == _expected(2)


def test_parquet_reader__null_scale_is_no_scale(tmp_path: Path) -> None:
    write_ecg_parquet(tmp_path / "x.parquet", 2, uv_per_count=pa.array([5.0, None], pa.float32()))
    rows, rejects, _ = _read(tmp_path)
    assert rejects == []
    assert [np.isnan(row.uv_per_count) for row in rows] == [False, True]


# Rows that cannot be used


def _cells(lead: str, row: int, value: Any) -> dict[str, Any]:
    """Return the column of one lead of four ECGs, one cell replaced."""
    cells = list(ecg_counts(4)[:, LEADS_12.index(lead)])
    cells[row] = value
    return {lead: pa.array(cells, pa.list_(pa.int16()))}


@pytest.mark.parametrize(
    ("value", "reason", "detail"),
    [
        (None, "missing_lead", "lead V3 is null, expected 5000 samples"),
        ([1] * 4999, "too_short", "lead V3 has 4999 samples, expected 5000"),
        ([1] * 5001, "unreadable", "lead V3 has 5001 samples, expected 5000"),
        ([], "too_short", "lead V3 has 0 samples, expected 5000"),
        ([1] * 4998 + [None, None], "non_finite", "lead V3 has 2 missing samples, expected none"),
    ],
)
def test_parquet_reader__damaged_lead_is_a_reject_and_its_neighbours_are_read(
    tmp_path: Path, value: Any, reason: str, detail: str
) -> None:
    write_ecg_parquet(tmp_path / "x.parquet", 4, **_cells("V3", 2, value))
    rows, (reject,), n_read = _read(tmp_path)
    assert (reject.reason, reject.detail) == (reason, detail)
    assert (reject.row, reject.ecg_id, reject.participant_id) == (2, "e0002", "p0002")
    assert (reject.n_ecgs, n_read) == (1, 4)
    expected = _expected(4)
    del expected["e0002"]
    assert _counts_of(rows) == expected


@pytest.mark.parametrize(("whole_lead", "reason"), [(True, "missing_lead"), (False, "non_finite")])
def test_parquet_reader__null_in_a_fixed_size_list_is_a_reject_of_its_row_alone(
    tmp_path: Path, whole_lead: bool, reason: str
) -> None:
    samples = ecg_counts(1)[0, 0].tolist()
    damaged = None if whole_lead else [None, *samples[1:]]
    column = pa.array([samples, damaged, samples], pa.list_(pa.int16(), 5000))
    write_ecg_parquet(tmp_path / "x.parquet", 3, I=column)
    rows, rejects, n_read = _read(tmp_path)
    assert [(r.row, r.reason, r.n_ecgs) for r in rejects] == [(1, reason, 1)]
    assert [row.ecg_id for row in rows] == ["e0000", "e0002"]
    assert n_read == 3


def test_parquet_reader__null_or_empty_id_is_a_reject_with_its_row(tmp_path: Path) -> None:
    write_ecg_parquet(tmp_path / "x.parquet", 4, ecg_id=["a", None, " ", "d"])
    rows, rejects, _ = _read(tmp_path)
    assert [row.ecg_id for row in rows] == ["a", "d"]
    assert [(r.row, r.reason, r.detail, r.ecg_id) for r in rejects] == [
        (1, "unreadable", "ecg_id is null or empty", None),
        (2, "unreadable", "ecg_id is null or empty", None),
    ]


def test_parquet_reader__text_that_is_no_date_is_not_quoted(tmp_path: Path) -> None:
    write_ecg_parquet(tmp_path / "x.parquet", 2, recorded_at=["2020-01-02", "Quillfeather"])
    rows, (reject,), _ = _read(tmp_path)
    assert [row.recorded_at for row in rows] == [dt.datetime(2020, 1, 2)]
    assert reject.detail == ("recorded_at is written as AAAAAAAAAAAA, expected YYYY-MM-DDTHH:MM:SS or a timestamp")


def test_parquet_reader__whole_number_ids_are_text(tmp_path: Path) -> None:
    write_ecg_parquet(tmp_path / "x.parquet", 2, ecg_id=[17, 18], participant_id=[1, None])
    rows, _, _ = _read(tmp_path)
    assert [(row.ecg_id, row.participant_id) for row in rows] == [("17", "1"), ("18", None)]


# Files that cannot be used


def test_find_inputs__missing_columns_stop_the_run(tmp_path: Path) -> None:
    write_ecg_parquet(tmp_path / "x.parquet", 1, V6=None, uv_per_count=None)
    with pytest.raises(UsageError, match=r"x\.parquet: columns are missing: V6, uv_per_count; exp"):
        _plan(tmp_path)


def test_find_inputs__one_foreign_file_among_ours_is_a_reject_of_its_rows(tmp_path: Path) -> None:
    write_ecg_parquet(tmp_path / "a.parquet", 2)
    pq.write_table(pa.table({"x": range(7)}), tmp_path / "b.parquet")
    ours, foreign = _plan(tmp_path).pieces
    assert ours.is_table
    assert (foreign.reason, foreign.n_ecgs) == ("missing_lead", 7)


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("II", pa.list_(pa.float32(), 3)),
        ("V1", pa.list_(pa.int32())),
        ("aVR", pa.int16()),
        ("aVL", pa.list_(pa.list_(pa.int16()))),
    ],
)
def test_column_problems__names_a_lead_of_a_wrong_type(column: str, kind: pa.DataType) -> None:
    schema = schemas.ECGS.arrow
    wrong = schema.set(schema.get_field_index(column), pa.field(column, kind))
    assert column_problems(schema, None) is None
    problem = column_problems(wrong, None)
    assert problem is not None
    assert problem[0] == RejectReason.MISSING_LEAD
    assert f"{column} (is {kind}, expected a list of int16)" in problem[1]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("ecg_id", [1000001.0, 1000002.0]),
        ("participant_id", [1.0, None]),
        ("uv_per_count", ["5 uV", "5 uV"]),
        ("r_avl_uv", ["high", "low"]),
        ("recorded_at", [20200101, 20200102]),
    ],
)
def test_find_inputs__column_of_a_wrong_type_stops_the_run(tmp_path: Path, name: str, values: Any) -> None:
    write_ecg_parquet(tmp_path / "x.parquet", 2, **{name: values})
    with pytest.raises(UsageError, match=rf"x\.parquet: .*{name} \(is .*, expected "):
        _plan(tmp_path)


def test_find_inputs__damaged_files_are_rejects_of_unknown_size(tmp_path: Path) -> None:
    whole = write_ecg_parquet(tmp_path / "a.parquet", 2).read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "c.parquet").write_bytes(b"")
    (tmp_path / "d.parquet").write_bytes(b"PAR1" + bytes(50) + b"\xff\xff\xff\x7fPAR1")
    (tmp_path / "e.parquet").write_bytes(b"PAR1" + bytes(50) + b"\x10\0\0\0PAR1")
    pieces = {piece.path: piece for piece in _plan(tmp_path).pieces}
    assert {path: piece.reason for path, piece in pieces.items()} == {
        "a.parquet": None,
        "b.parquet": "truncated",
        "c.parquet": "truncated",
        "d.parquet": "truncated",
        "e.parquet": "unreadable",
    }
    assert {p.n_ecgs for p in pieces.values() if p.reason} == {None}
    assert "0 bytes, too few for Parquet" in (pieces["c.parquet"].detail or "")


def test_find_inputs__file_without_rows_is_no_ecg_and_no_error(tmp_path: Path) -> None:
    write_ecg_parquet(tmp_path / "a.parquet", 2)
    pq.write_table(schemas.ECGS.arrow.empty_table(), tmp_path / "b.parquet")
    assert _read(tmp_path)[2] == 2


def test_read_footer__digest_changes_with_the_content(tmp_path: Path) -> None:
    one = read_footer(STORAGE, str(write_ecg_parquet(tmp_path / "a.parquet", 2)))
    same = read_footer(STORAGE, str(write_ecg_parquet(tmp_path / "b.parquet", 2)))
    other = read_footer(STORAGE, str(write_ecg_parquet(tmp_path / "c.parquet", 2, start=5)))
    assert one.sha256 == same.sha256 != other.sha256
    assert one.row_group_rows == [2]


def test_read_footer__no_parquet_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("a long text that does not end as Parquet does")
    with pytest.raises(EcgRejected, match="truncated: file does not end as a Parquet file does"):
        read_footer(STORAGE, f"{tmp_path}/x.parquet")


def _flip_data_page(path: Path, column: str, row_group: int) -> None:
    """Flip bytes at the end of a column chunk, in its last data page."""
    metadata = pq.read_metadata(path).row_group(row_group)
    chunks = [metadata.column(i) for i in range(metadata.num_columns)]
    (chunk,) = [c for c in chunks if c.path_in_schema.partition(".")[0] == column]
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    end = start + chunk.total_compressed_size
    data = bytearray(path.read_bytes())
    data[end - 4 : end] = bytes(b ^ 0xFF for b in data[end - 4 : end])
    path.write_bytes(data)


def test_parquet_reader__corrupt_row_group_is_one_reject_and_the_others_are_read(tmp_path: Path) -> None:
    path = write_ecg_parquet(tmp_path / "x.parquet", 10, row_group_rows=4)
    _flip_data_page(path, "V2", 1)
    rows, (reject,), n_read = _read(tmp_path)
    assert (reject.reason, reject.row, reject.n_ecgs) == ("unreadable", 4, 4)
    assert (reject.ecg_id, reject.source_uri) == (None, "x.parquet")
    assert reject.detail == "row group 1 cannot be decoded (a page checksum is wrong)"
    assert n_read == 10
    assert _counts_of(rows) == {**_expected(4), **_expected(2, 8)}


def test_parquet_reader__corrupt_key_column_loses_its_row_group_alone(tmp_path: Path) -> None:
    path = write_ecg_parquet(tmp_path / "x.parquet", 6, row_group_rows=3)
    _flip_data_page(path, "ecg_id", 0)
    rows, rejects, n_read = _read(tmp_path)
    assert [(r.row, r.n_ecgs) for r in rejects] == [(0, 3)]
    assert n_read == 6
    assert _counts_of(rows) == _expected(3, 3)


def test_parquet_reader__file_that_changed_since_planning_is_a_stop(tmp_path: Path) -> None:
    path = write_ecg_parquet(tmp_path / "x.parquet", 2)
    found = _plan(tmp_path)
    write_ecg_parquet(path, 2, start=9)
    with pytest.raises(LvmError, match=r"x\.parquet changed since the run was planned"):
        _read(tmp_path, found)


def test_parquet_reader__duplicate_rows_are_rejects_with_their_keys(tmp_path: Path) -> None:
    write_ecg_parquet(tmp_path / "x.parquet", 4, row_group_rows=2)
    found = _plan(tmp_path)
    found.pieces = [replace(piece, duplicate_rows=(1, 3)) for piece in found.pieces]
    rows, rejects, n_read = _read(tmp_path, found)
    assert [row.ecg_id for row in rows] == ["e0000", "e0002"]
    assert [(r.row, r.reason, r.ecg_id, r.participant_id) for r in rejects] == [
        (1, "duplicate_ecg_id", "e0001", "p0001"),
        (3, "duplicate_ecg_id", "e0003", "p0003"),
    ]
    assert n_read == 4


# Whole columns and tables


def test_read_keys__absent_and_unasked_columns_are_none(tmp_path: Path) -> None:
    path = str(write_ecg_parquet(tmp_path / "x.parquet", 3, row_group_rows=2))
    nothing = [None] * 3
    found = read_keys(STORAGE, path, ("ecg_id", None, "recorded_at"))
    assert found == [ecg_ids(3), nothing, nothing]


def test_read_keys__damaged_row_group_is_none_and_the_others_are_read(tmp_path: Path) -> None:
    path = write_ecg_parquet(tmp_path / "x.parquet", 5, row_group_rows=2)
    _flip_data_page(path, "ecg_id", 1)
    (found,) = read_keys(STORAGE, str(path), ("ecg_id",))
    assert found == ["e0000", "e0001", None, None, "e0004"]


def test_read_table__is_the_table(tmp_path: Path) -> None:
    path = write_ecg_parquet(tmp_path / "x.parquet", 3, row_group_rows=2)
    assert read_table(STORAGE, str(path)).equals(pq.read_table(path))
    assert read_table(STORAGE, str(path), ["uv_per_count"]).column_names == ["uv_per_count"]


def test_parquet_reader__row_group_that_ends_early_is_accounted_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ecg_parquet(tmp_path / "x.parquet", 4)
    whole = ParquetReader._batches

    def cut(*args: Any) -> Any:
        return (batch.slice(0, 3) for batch in whole(*args))

    monkeypatch.setattr(ParquetReader, "_batches", cut)
    rows, (reject,), n_read = _read(tmp_path)
    assert (len(rows), n_read) == (3, 4)
    assert (reject.reason, reject.n_ecgs, reject.row) == ("unreadable", 1, 3)
    assert "ends after 3 of 4 rows" in (reject.detail or "")
