"""Chunks of HDF5 that unpack to more than they may are refused before HDF5 unpacks them."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
import pytest

from beam_jobs.reading import hdf5_chunks
from beam_jobs.reading.hdf5_chunks import Chunks
from lvm_core.errors import RejectReason
from tests.lvm_core.formats.helpers import assert_rejected

SHAPE, CHUNKS = (8, 5000, 12), (2, 5000, 12)
NOMINAL_BYTES = int(np.prod(CHUNKS)) * 2


def _file(chunks: Sequence[bytes] = (), mask: int = 0, data: np.ndarray | None = None, **options: Any) -> h5py.File:
    """Return a dataset `x` with these packed chunks, or with data that HDF5 packs."""
    file = h5py.File(io.BytesIO(), "w")
    dataset = file.create_dataset("x", SHAPE, "i2", chunks=CHUNKS, data=data, **options)
    for number, packed in enumerate(chunks):
        dataset.id.write_direct_chunk((2 * number, 0, 0), packed, mask)
    return file


def _bomb(n_bytes: int) -> bytes:
    return zlib.compress(bytes(n_bytes), 9)


@pytest.fixture
def suspicious(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at every chunk."""
    monkeypatch.setattr(hdf5_chunks, "_HARMLESS_BYTES", 0)


def test_chunks__that_unpack_to_too_much_are_refused_where_they_are_read(suspicious: None) -> None:
    good = _bomb(NOMINAL_BYTES)
    chunks = Chunks(_file([good, good, _bomb(NOMINAL_BYTES + 1), good], compression="gzip")["x"])
    chunks.check(0, 4)
    chunks.check(6, 8)
    for start, stop in ((4, 5), (5, 6), (0, 8), (3, 5)):
        assert_rejected(lambda s=(start, stop): chunks.check(*s), RejectReason.UNREADABLE, "more than its 240000 bytes")


def test_chunks__large_ones_are_looked_at_and_small_ones_cannot_become_large() -> None:
    harmless = hdf5_chunks._HARMLESS_BYTES // 1032
    small, large = _bomb(50_000_000), _bomb(150_000_000)
    assert len(small) < harmless < len(large)
    Chunks(_file([small], compression="gzip")["x"]).check(0, 2)
    chunks = Chunks(_file([large], compression="gzip")["x"])
    assert_rejected(lambda: chunks.check(0, 2), RejectReason.UNREADABLE, "unpacks to more than its")


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}, {"compression": "gzip", "shuffle": True}])
@pytest.mark.parametrize("fletcher32", [False, True])
def test_chunks__that_hdf5_wrote_are_good(suspicious: None, options: dict[str, Any], fletcher32: bool) -> None:
    noise = np.random.default_rng(1).integers(-9, 9, SHAPE).astype(np.int16)
    Chunks(_file(data=noise, fletcher32=fletcher32, **options)["x"]).check(0, 8)


def test_chunks__dataset_in_one_piece_and_one_that_was_left_unpacked_are_good(suspicious: None) -> None:
    with h5py.File(io.BytesIO(), "w") as file:
        file["x"] = np.zeros(SHAPE, np.int16)
        Chunks(file["x"]).check(0, 8)
    Chunks(_file([bytes(NOMINAL_BYTES)], mask=1, compression="gzip")["x"]).check(0, 8)


def test_chunks__lzf_is_read_in_small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(1).integers(-9, 9, SHAPE).astype(np.int16)
    file = _file(data=noise, compression="lzf")
    Chunks(file["x"]).check(0, 8)
    monkeypatch.setattr(hdf5_chunks, "_HARMLESS_BYTES", 0)
    assert_rejected(lambda: Chunks(file["x"]).check(0, 8), RejectReason.UNREADABLE, "bytes of lzf; write it with")


def test_chunks__damaged_one_is_refused(suspicious: None) -> None:
    chunks = Chunks(_file([b"no zlib"], compression="gzip")["x"])
    assert_rejected(lambda: chunks.check(0, 2), RejectReason.UNREADABLE, "is damaged in a compressed chunk")


def test_chunks__packed_twice_or_in_another_way_are_refused() -> None:
    with h5py.File(io.BytesIO(), "w") as file:
        for name, codes in {"twice": [1, 1], "scaled": [6]}.items():
            plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plan.set_chunk(CHUNKS)
            for code in codes:
                if code == 1:
                    plan.set_deflate(9)
                else:
                    plan.set_scaleoffset(h5py.h5z.SO_INT, 0)
            space = h5py.h5s.create_simple(SHAPE)
            h5py.h5d.create(file.id, name.encode(), h5py.h5t.STD_I16LE, space, plan)
            assert_rejected(
                lambda n=name: Chunks(file[n]), RejectReason.UNREADABLE, "compressed more than once, or in a way"
            )


def test_chunks__number_that_one_reading_touches_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = Chunks(_file()["x"])
    monkeypatch.setattr(hdf5_chunks, "_MOST_AT_ONCE", 2)
    chunks.check(2, 6)
    assert_rejected(lambda: chunks.check(2, 7), RejectReason.UNREADABLE, "too small: more than 2 at once")


def test_chunks__number_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    file = _file(compression="gzip")
    monkeypatch.setattr(hdf5_chunks, "_MOST_CHUNKS", 4)
    Chunks(file["x"]).check(0, 8)
    monkeypatch.setattr(hdf5_chunks, "_MOST_CHUNKS", 3)
    assert_rejected(lambda: Chunks(file["x"]), RejectReason.UNREADABLE, "cut into more than 3 chunks")


class _Noted:
    """A harmless chunk of a dataset of its own; it counts how often its place is asked for."""

    size, filter_mask = 1, 1
    n_asked = 0

    def __init__(self, row: int) -> None:
        self._row = row

    @property
    def chunk_offset(self) -> tuple[int, int, int]:
        type(self).n_asked += 1
        return self._row, 0, 0


def test_chunks__those_of_other_rows_are_not_looked_at(suspicious: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class _Id:
        get_create_plist = _file(compression="gzip")["x"].id.get_create_plist

        def chunk_iter(self, note: Any) -> None:
            for row in range(0, 2000, 2):
                note(_Noted(row))

    class _Dataset:
        shape, chunks, dtype, id = (2000, *SHAPE[1:]), CHUNKS, np.dtype(np.int16), _Id()

    checked: list[int] = []
    chunks = Chunks(_Dataset())
    monkeypatch.setattr(Chunks, "_check", lambda _, one: checked.append(one._row))
    _Noted.n_asked = 0
    for start in range(0, 2000, 32):
        chunks.check(start, min(2000, start + 32))
    assert checked == [row for start in range(0, 2000, 32) for row in reversed(range(start, min(2000, start + 32), 2))]
    # 63 readings of 1,000 chunks: two searches each by halves, not 63,000 looks.
    assert _Noted.n_asked < 63 * 2 * 12
