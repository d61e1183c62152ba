"""Files of a store: few requests, the same bytes; the store here is a local folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

from beam_jobs.reading import parquet_input, storage
from beam_jobs.reading.parquet_input import chunk_spans, read_table
from beam_jobs.reading.storage import RetryingFile, Storage

URI = "s3://bucket/file"
SIZE = 3000
CONTENT = np.random.default_rng(3).integers(0, 256, SIZE, np.uint8).tobytes()


Reads = list[tuple[int, int]]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a few hundred bytes be a lot."""
    monkeypatch.setattr(storage, "_GAP_BYTES", 20)
    monkeypatch.setattr(storage, "_PART_BYTES", 400)
    monkeypatch.setattr(storage, "_AHEAD_BYTES", 50)


@contextmanager
def a_store(content: bytes) -> Iterator[Reads]:
    """Let s3://bucket/file be a file of this content; yield the reads of it, (position, bytes)."""
    reads: Reads = []
    original = RetryingFile._read_remote

    def noted(self: RetryingFile, position: int, buffer: memoryview) -> None:
        reads.append((position, len(buffer)))
        original(self, position, buffer)

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        (Path(folder) / "bucket").mkdir()
        (Path(folder) / "bucket" / "file").write_bytes(content)
        patch.setattr(storage, "store_client", lambda *_: fs.SubTreeFileSystem(folder, fs.LocalFileSystem()))
        patch.setattr(RetryingFile, "_read_remote", noted)
        yield reads


@pytest.fixture
def reads() -> Iterator[Reads]:
    with a_store(CONTENT) as found:
        yield found


@pytest.fixture
def file(reads: Reads) -> Iterator[RetryingFile]:
    with Storage().open(URI) as opened:
        yield opened


_places = st.integers(0, SIZE)
_spans = st.lists(st.tuples(_places, _places), max_size=5)
_steps = st.lists(st.tuples(_places, st.integers(0, SIZE), _spans), max_size=8)


@given(steps=_steps)
def test_reads__give_the_bytes_of_the_file_whatever_is_kept(steps: list[tuple[int, int, list[Any]]]) -> None:
    with a_store(CONTENT), Storage().open(URI) as file:
        for position, size, spans in steps:
            if spans:
                file.keep([(min(span), max(span)) for span in spans])
            file.seek(position)
            assert file.read(size) == CONTENT[position : position + size]
            assert file.tell() == min(SIZE, position + size)


def test_keep__joins_neighbours_and_cuts_what_is_long(file: RetryingFile, reads: Reads) -> None:
    file.keep([(100, 150), (165, 200), (1000, 2000), (2900, 9999)])
    assert sorted(reads) == [(100, 100), (1000, 400), (1400, 400), (1800, 200), (2900, 100)]
    reads.clear()
    for position, size in ((100, 50), (150, 50), (1300, 600), (2950, 50)):
        file.seek(position)
        assert file.read(size) == CONTENT[position : position + size]
    assert reads == []
    file.keep([])
    file.seek(100)
    file.read(1)
    assert reads == [(100, 50)]


def test_keep__does_not_ask_again_for_what_the_last_read_took(file: RetryingFile, reads: Reads) -> None:
    file.seek(-300, 2)
    file.read()
    file.keep([(2800, 2900), (100, 200)])
    assert reads == [(2700, 300), (100, 100)]


def test_read__of_one_piece_after_another_takes_more_each_time(file: RetryingFile, reads: Reads) -> None:
    while file.read(10):
        pass
    assert reads == [(0, 50), (50, 100), (150, 200), *((start, 400) for start in range(350, 2750, 400)), (2750, 250)]


@pytest.mark.parametrize("columns", [None, ["b"], ["a", "c"]])
def test_chunk_spans__hold_all_that_arrow_reads(
    columns: list[str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the columns of a table kept, nothing but the footer is read beside them."""
    monkeypatch.setattr(parquet_input, "_TAIL_BYTES", 10)
    numbers = np.random.default_rng(1).integers(0, 50, (400, 3))
    table = pa.table({"a": numbers[:, 0], "b": list(numbers), "c": [f"text {n}" for n in numbers[:, 2]]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=100)
    metadata = pq.read_metadata(tmp_path / "a.parquet")
    spans = chunk_spans(metadata, columns, range(4))
    assert len(spans) == 4 * (3 if columns is None else len(columns))
    with a_store((tmp_path / "a.parquet").read_bytes()) as reads:
        assert read_table(Storage(), URI, columns).equals(table if columns is None else table.select(columns))
        end = metadata.serialized_size + 8  # of the file; its last 10 bytes are read twice
        joined = storage._joined(spans, (tmp_path / "a.parquet").stat().st_size - end)
        assert sum(size for _, size in reads) == 10 + end + sum(stop - start for start, stop in joined)
