"""Committing a unit: the rejects first, the result last, and what their footers say."""

from __future__ import annotations

import io
import json
import socket
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.reading.blocks import Reject
from beam_jobs.reading.storage import Storage, StorageFault
from beam_jobs.reading.units import Piece, Unit, UnitSummary
from beam_jobs.run.commit import (
    EcgParquetWriter,
    UnitFiles,
    commit_unit,
    ecg_parquet_bytes,
    footer,
    parquet_bytes,
    read_commit,
    read_footer_json,
    reasons_of,
    rejects_table,
    rows_sha256,
    unit_files,
)
from lvm_core.errors import LvmError
from lvm_core.signal.ecg import LEADS_12
from lvm_core.signal.scale import AmplitudeHistogram
from lvm_core.tables import schemas
from tests.beam_jobs.helpers import ecg_counts, ecg_table

STORAGE = Storage()
UNIT = Unit(7, "0123456789abcdef" * 4, (Piece(0, "a.xml", "ab", 1, n_ecgs=10),))
TEN_PLANNED = Unit(3, "f" * 64, (Piece(0, "a.parquet", "ab", 1, n_ecgs=10),))
AMPLITUDES_UV = np.array([900.0, 1100.0, 5.0])
SUMMARY = UnitSummary(7, 10, 7, {"lead_flat": 1, "excluded": 2}, AmplitudeHistogram().add(AMPLITUDES_UV))
HASHES = {"result": "a" * 64, "rejects": "b" * 64}
CONTENT = footer(UNIT, SUMMARY, {"settings": {"batch": 64}}, HASHES)
TABLE = pa.table({"x": [1, 2, 3]})
RESULT = parquet_bytes(TABLE, CONTENT)
REJECTS = rejects_table([Reject("lead_flat", "V1", "a.xml", ecg_id="e1")], "score")


@dataclass(frozen=True)
class RecordingStorage(Storage):
    """Notes what is written and deleted, and may fail at one name."""

    log: list[tuple[str, str]] = field(default_factory=list)
    fails_at: str = ""

    def write_atomic(self, uri: str, data: bytes, *, private: bool = False) -> None:
        self.log.append(("write", uri))
        if self.fails_at and self.fails_at in uri:
            raise StorageFault("the store is down")
        super().write_atomic(uri, data, private=private)

    def delete(self, uri: str) -> None:
        self.log.append(("delete", uri))
        super().delete(uri)


def _files(folder: Path) -> UnitFiles:
    return unit_files(str(folder), "score", UNIT.name)


def _commit(
    storage: Storage,
    files: UnitFiles,
    rejects: pa.Table = REJECTS,
    table: pa.Table = TABLE,
    unit: Unit = UNIT,
    summary: UnitSummary = SUMMARY,
) -> None:
    commit_unit(
        storage,
        files,
        unit,
        summary,
        rejects,
        provenance={},
        result_sha256=rows_sha256(table),
        encode=partial(parquet_bytes, table),
    )


@pytest.mark.parametrize(("kind", "name"), [("score", "predictions"), ("ingest", "ecg")])
def test_unit_files__are_named_by_number_and_fingerprint(kind: str, name: str) -> None:
    files = unit_files("s3://b/run", kind, UNIT.name)
    stem = "unit-000007-0123456789abcdef.parquet"
    assert files.result == f"s3://b/run/{name}/{stem}"
    assert files.rejects == f"s3://b/run/rejects/{stem}"


# Order


def test_commit_unit__rejects_come_before_the_result(tmp_path: Path) -> None:
    storage, files = RecordingStorage(), _files(tmp_path)
    _commit(storage, files)
    assert storage.log == [("write", files.rejects), ("write", files.result)]
    assert pq.read_table(files.rejects)["ecg_id"].to_pylist() == ["e1"]


def test_commit_unit__failure_at_the_rejects_commits_nothing(tmp_path: Path) -> None:
    storage, files = RecordingStorage(fails_at="rejects"), _files(tmp_path)
    with pytest.raises(StorageFault):
        _commit(storage, files)
    assert read_commit(STORAGE, files, UNIT) is None


def test_commit_unit__failure_at_the_result_commits_nothing(tmp_path: Path) -> None:
    storage, files = RecordingStorage(fails_at="predictions"), _files(tmp_path)
    with pytest.raises(StorageFault):
        _commit(storage, files)
    assert read_commit(STORAGE, files, UNIT) is None
    _commit(STORAGE, files)
    assert read_commit(STORAGE, files, UNIT) == SUMMARY


def test_commit_unit__stale_rejects_are_removed_before_the_result(tmp_path: Path) -> None:
    storage, files = RecordingStorage(), _files(tmp_path)
    _commit(STORAGE, files)
    _commit(storage, files, REJECTS.slice(0, 0))
    assert storage.log == [("delete", files.rejects), ("write", files.result)]
    assert not Path(files.rejects).exists()


def test_commit_unit__result_without_rows_is_written_all_the_same(tmp_path: Path) -> None:
    files = _files(tmp_path)
    _commit(STORAGE, files, table=schemas.PREDICTIONS.arrow.empty_table())
    assert pq.read_table(files.result).num_rows == 0
    assert read_commit(STORAGE, files, UNIT) is not None


def test_commit_unit__twice_gives_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for folder in ("one", "two"):
        files = _files(tmp_path / folder)
        _commit(STORAGE, files, table=pa.table({"x": [1, 2, 3]}))
        contents.append([Path(f).read_bytes() for f in (files.result, files.rejects)])
    assert contents[0] == contents[1]


# Footers


def test_footer__says_what_was_read_and_done() -> None:
    content = json.loads(CONTENT)
    assert sorted(content) == [
        "amplitudes",
        "fingerprint",
        "n_done",
        "n_read",
        "provenance",
        "rejected",
        "rows_sha256",
        "sources",
        "unit",
    ]
    assert content["unit"] == 7
    assert content["fingerprint"] == UNIT.fingerprint
    assert (content["n_read"], content["n_done"]) == (10, 7)
    assert content["rejected"] == {"excluded": 2, "lead_flat": 1}
    assert sum(content["amplitudes"]) == len(AMPLITUDES_UV)
    assert content["provenance"] == {"settings": {"batch": 64}}


def test_footer__holds_no_time_host_or_path_and_not_the_seconds_it_took() -> None:
    slow = UnitSummary(7, 10, 7, SUMMARY.rejected, SUMMARY.amplitudes, stage_s={"total": 123.456})
    assert footer(UNIT, slow, {"settings": {"batch": 64}}, HASHES) == CONTENT
    assert socket.gethostname().encode() not in CONTENT
    assert b"/" not in CONTENT


def test_footer__does_not_depend_on_the_order_of_reasons() -> None:
    other = UnitSummary(7, 10, 7, {"excluded": 2, "lead_flat": 1}, SUMMARY.amplitudes)
    assert footer(UNIT, other, {"settings": {"batch": 64}}, HASHES) == CONTENT


def test_read_commit__gives_the_summary_back(tmp_path: Path) -> None:
    files = _files(tmp_path)
    STORAGE.write_atomic(files.result, RESULT)
    STORAGE.write_atomic(files.rejects, b"there")
    assert read_commit(STORAGE, files, UNIT) == SUMMARY


def test_read_commit__lost_rejects_file_means_not_finished(tmp_path: Path) -> None:
    files = _files(tmp_path)
    STORAGE.write_atomic(files.result, RESULT)
    assert SUMMARY.rejected
    assert read_commit(STORAGE, files, UNIT) is None


def test_read_commit__other_unit_damage_and_absence_are_not_finished(tmp_path: Path) -> None:
    files = _files(tmp_path)
    assert read_commit(STORAGE, files, UNIT) is None
    STORAGE.write_atomic(files.result, RESULT)
    assert read_commit(STORAGE, files, Unit(7, "f" * 64, UNIT.pieces)) is None
    no_json = RESULT.replace(b'"n_read":', b'"n_read"\xff')
    no_count = RESULT.replace(b'"n_read":', b'"m_read":')
    assert RESULT not in (no_json, no_count)
    for damaged in (b"", RESULT[:-20], RESULT[: len(RESULT) // 2], no_json, no_count):
        STORAGE.write_atomic(files.result, damaged)
        assert read_commit(STORAGE, files, UNIT) is None


def test_read_footer_json__of_a_foreign_file_is_none(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), tmp_path / "x.parquet")
    assert read_footer_json(STORAGE, f"{tmp_path}/x.parquet") is None


# Tables


def test_rejects_table__has_the_columns_of_the_schema() -> None:
    table = rejects_table(
        [Reject("lead_flat", "V1", "a.parquet", 3, "e1", "p1"), Reject("unreadable", None, "b.zip", n_ecgs=None)],
        "ingest",
    )
    assert table.schema.equals(schemas.REJECTS.arrow)
    assert table.to_pylist() == [
        {
            "source_uri": "a.parquet",
            "row": 3,
            "ecg_id": "e1",
            "participant_id": "p1",
            "stage": "ingest",
            "reason": "lead_flat",
            "detail": "V1",
            "n_ecgs": 1,
        },
        {
            "source_uri": "b.zip",
            "row": None,
            "ecg_id": None,
            "participant_id": None,
            "stage": "ingest",
            "reason": "unreadable",
            "detail": None,
            "n_ecgs": None,
        },
    ]


def _ecg_table(n: int) -> pa.Table:
    """Return the whole ECG table of `n` rows, three different ones over and over."""
    few = ecg_table(3)
    rows = few.take(pa.array(np.arange(n) % 3))
    columns = [
        rows[field.name] if field.name in rows.column_names else pa.nulls(n, field.type) for field in schemas.ECGS.arrow
    ]
    return pa.table(columns, names=schemas.ECGS.names).cast(schemas.ECGS.arrow)


def test_ecg_parquet_bytes__samples_survive_and_are_delta_packed() -> None:
    file = pq.ParquetFile(io.BytesIO(ecg_parquet_bytes(_ecg_table(3), CONTENT)))
    table = file.read()
    assert table.schema.remove_metadata().equals(schemas.ECGS.arrow)
    for k, lead in enumerate(LEADS_12):
        np.testing.assert_array_equal(np.stack(table[lead].to_numpy(zero_copy_only=False)), ecg_counts(3)[:, k])
    group = file.metadata.row_group(0)
    leads = [group.column(i) for i in range(group.num_columns)]
    leads = [c for c in leads if c.path_in_schema.partition(".")[0] in LEADS_12]
    assert len(leads) == 12
    assert all("DELTA_BINARY_PACKED" in c.encodings for c in leads)
    assert {c.compression for c in leads} == {"ZSTD"}
    assert file.metadata.metadata[schemas.FOOTER_KEY] == CONTENT


def test_ecg_parquet_writer__row_groups_hold_256_ecgs_however_they_come() -> None:
    table = _ecg_table(300)
    files = [ecg_parquet_bytes(table, CONTENT)]
    for step in (32, 257):
        writer = EcgParquetWriter()
        for start in range(0, 300, step):
            writer.write(table.slice(start, step))
        files.append(writer.close(CONTENT))
    metadata = pq.read_metadata(io.BytesIO(files[0]))
    assert [metadata.row_group(i).num_rows for i in range(2)] == [256, 44]
    assert files[1] == files[0]
    assert files[2] == files[0]


def test_ecg_parquet_bytes__of_nothing_is_a_table_without_rows() -> None:
    data = ecg_parquet_bytes(schemas.ECGS.arrow.empty_table(), CONTENT)
    assert pq.read_table(io.BytesIO(data)).num_rows == 0
    assert pq.read_metadata(io.BytesIO(data)).metadata[schemas.FOOTER_KEY] == CONTENT


def test_parquet_bytes__damage_is_noticed_by_checksums() -> None:
    data = bytearray(parquet_bytes(pa.table({"x": np.arange(50_000)}), b"{}"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises((OSError, pa.ArrowException)):
        pq.read_table(io.BytesIO(data), page_checksum_verification=True)


@pytest.mark.parametrize(
    ("n_read", "n_done", "rejected"), [(10, 7, {"lead_flat": 2}), (10, 8, {"lead_flat": 3}), (9, 9, {}), (11, 11, {})]
)
def test_commit_unit__lost_or_invented_ecg_is_an_error(
    n_read: int, n_done: int, rejected: dict[str, Any], tmp_path: Path
) -> None:
    storage = RecordingStorage()
    with pytest.raises(LvmError, match=rf"unit 3: {n_read} ECGs read, but 10 planned.*nothing was committed"):
        _commit(storage, _files(tmp_path), unit=TEN_PLANNED, summary=UnitSummary(3, n_read, n_done, rejected))
    assert not storage.log


def test_reasons_of__counts_ecgs_and_not_rows() -> None:
    rejects = [
        Reject("unreadable", None, n_ecgs=40),
        Reject("unreadable", None, n_ecgs=None),
        Reject("lead_flat", None),
        Reject("lead_flat", None),
    ]
    assert reasons_of(rejects) == {"lead_flat": 2, "unreadable": 41}


# Hashes of rows


def _predictions(**changes: Any) -> pa.Table:
    """Return two rows with a value and a null of every type that our tables have."""
    columns: dict[str, Any] = {
        "text": pa.array(["a", None]),
        "number": pa.array([1.5, None], pa.float32()),
        "whole": pa.array([1, None], pa.int64()),
        "yes": pa.array([True, None]),
        "time": pa.array([0, None], pa.timestamp("us")),
        "flags": pa.array([["x", "y"], None], pa.list_(pa.string())),
    }
    return pa.table(columns | changes)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("text", ["b", None]),
        ("text", ["a", ""]),
        ("text", [None, "a"]),
        ("number", pa.array([np.nextafter(np.float32(1.5), np.float32(2)), None], pa.float32())),
        ("number", pa.array([1.5, 0.0], pa.float32())),
        ("whole", [1, 0]),
        ("yes", [True, False]),
        ("yes", [False, None]),
        ("time", pa.array([1, None], pa.timestamp("us"))),
        ("flags", pa.array([["xy"], None], pa.list_(pa.string()))),
        ("flags", pa.array([["x", "y"], []], pa.list_(pa.string()))),
        ("flags", pa.array([["x"], ["y"]], pa.list_(pa.string()))),
    ],
)
def test_rows_sha256__every_change_of_a_value_changes_it(name: str, values: Any) -> None:
    assert rows_sha256(_predictions(**{name: values})) != rows_sha256(_predictions())


def test_rows_sha256__moves_with_names_order_and_number_of_rows() -> None:
    table = _predictions()
    others = [
        table.rename_columns({"whole": "other"}),
        table.take([1, 0]),
        table.slice(0, 1),
        table.drop_columns(["whole"]),
        pa.concat_tables([table, table]),
    ]
    assert len({rows_sha256(one) for one in [table, *others]}) == 1 + len(others)


def test_rows_sha256__neither_chunks_nor_encoding_move_it(tmp_path: Path) -> None:
    table = pa.concat_tables([_predictions(), _predictions().slice(1), _predictions()])
    expected = rows_sha256(table.combine_chunks())
    assert rows_sha256(table) == expected
    pq.write_table(table, tmp_path / "a.parquet", use_dictionary=False, row_group_size=2)
    assert rows_sha256(pq.read_table(tmp_path / "a.parquet")) == expected
    whole = pa.concat_tables([_predictions(), table]).combine_chunks()
    assert rows_sha256(whole.slice(2)) == expected  # values of other rows lie before the slice


def test_rows_sha256__of_an_ecg_writer_is_that_of_its_rows() -> None:
    table = pa.Table.from_pylist(ecg_table(5).to_pylist(), schema=schemas.ECGS.arrow)
    writer = EcgParquetWriter()
    empty = writer.rows_sha256()
    for start in (0, 2):
        writer.write(table.slice(start, 2 if start == 0 else 3))
    assert writer.rows_sha256() == rows_sha256(table)
    assert empty == rows_sha256(table.slice(0, 0))
