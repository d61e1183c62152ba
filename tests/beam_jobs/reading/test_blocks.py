"""Reading ahead in a thread, and the rows that travel inside a unit."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from beam_jobs.reading.blocks import AMPLITUDES, Chunk, EcgRow, Reject, counts_of, prefetch, reject_of, row_of
from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.signal.ecg import Measurements
from tests.builders import ecg, leads_uv


def _readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("lvm-reader")]


@pytest.mark.parametrize("depth", [1, 2, 100])
def test_prefetch__gives_everything_in_order(depth: int) -> None:
    assert list(prefetch(iter(range(50)), depth)) == list(range(50))
    assert _readers() == []


def test_prefetch__of_nothing_is_nothing() -> None:
    assert list(prefetch(iter(()), 2)) == []


def test_prefetch__none_and_falsy_items_are_items() -> None:
    assert list(prefetch(iter([None, 0, ""]), 2)) == [None, 0, ""]


def test_prefetch__runs_in_a_thread_of_its_own() -> None:
    def where() -> Iterator[str]:
        yield threading.current_thread().name

    (name,) = prefetch(where(), 1)
    assert name.startswith("lvm-reader")


@pytest.mark.parametrize("kind", [ValueError, EcgRejected, KeyboardInterrupt])
def test_prefetch__error_comes_out_after_what_was_read(kind: type[BaseException]) -> None:
    error = EcgRejected(RejectReason.UNREADABLE, "broken") if kind is EcgRejected else kind("broken")

    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise error

    ahead = prefetch(items(), 5)
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(kind, match="broken") as raised:
        next(ahead)
    assert raised.value is error
    assert _readers() == []


@pytest.mark.parametrize("depth", [1, 3])
def test_prefetch__reads_only_so_far_ahead(depth: int) -> None:
    n_read = 0

    def items() -> Iterator[int]:
        nonlocal n_read
        for i in range(100):
            n_read += 1
            yield i

    ahead = prefetch(items(), depth)
    assert next(ahead) == 0
    time.sleep(0.2)
    # The one taken, those in the queue, and the one that waits for a place in it.
    assert n_read <= depth + 2
    ahead.close()  # type: ignore[attr-defined]


def test_prefetch__early_end_ends_the_thread() -> None:
    for item in prefetch(iter(range(1000)), 1):
        if item == 3:
            break
    deadline = time.monotonic() + 5
    while _readers() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _readers() == []


def test_prefetch__error_of_the_consumer_ends_the_thread() -> None:
    ahead = prefetch(iter(range(1000)), 1)
    next(ahead)
    with pytest.raises(ZeroDivisionError):
        ahead.throw(ZeroDivisionError)  # type: ignore[attr-defined]
    assert _readers() == []


@pytest.mark.parametrize(("n_ecgs", "weight"), [(1, 1), (7, 7), (0, 0), (None, 1)])
def test_reject__weight_of_an_unknown_number_is_one(n_ecgs: int | None, weight: int) -> None:
    assert Reject("unreadable", None, n_ecgs=n_ecgs).weight == weight


def test_reject_of__carries_reason_and_message() -> None:
    error = EcgRejected(RejectReason.TOO_SHORT, "lasts 4 s")
    reject = reject_of(error, "a.xml", 3, "e", "p")
    assert reject == Reject("too_short", "lasts 4 s", "a.xml", 3, "e", "p")


def test_row_of__unmeasured_is_nan_and_absent_wave_is_zero() -> None:
    recording = ecg(measurements=Measurements(r_avl_uv=0.0, s_v3_uv=900.0, measured_by="12SL"))
    row = row_of(recording, "a.xml", None, "e", None)
    found = dict(zip(AMPLITUDES, row.amplitudes, strict=True))
    assert found["r_avl_uv"] == 0.0
    assert found["s_v3_uv"] == 900.0
    assert all(np.isnan(found[name]) for name in AMPLITUDES if name not in ("r_avl_uv", "s_v3_uv"))
    assert row.measured_by == "12SL"


def test_row_of__refused_recording_is_kept_only_where_it_is_asked_for() -> None:
    short = ecg(leads_uv=leads_uv(2500))
    kept = row_of(short, "a.xml", 3, "e", "p", keep_refused=True)
    assert isinstance(kept, Reject)
    assert (kept.reason, kept.source_uri, kept.row, kept.ecg_id, kept.participant_id) == (
        "too_short",
        "a.xml",
        3,
        "e",
        "p",
    )
    assert kept.recording is short
    plain = row_of(short, "a.xml", 3, "e", "p")
    assert plain == kept  # the rejects table knows no difference
    assert isinstance(plain, Reject)
    assert plain.recording is None


def test_chunk__add_sorts_rows_and_rejects() -> None:
    row = row_of(ecg(), "a.xml", None, "e", None)
    refused = row_of(ecg(leads_uv=leads_uv(2500)), "b.xml", None, "f", None)
    chunk = Chunk(n_read=2)
    chunk.add(refused)
    chunk.add(row)
    assert (chunk.rows, chunk.rejects, chunk.results) == ([row], [refused], [row, refused])


def test_ecg_row__rejected_names_the_person_known_from_elsewhere() -> None:
    recording = ecg()
    row = row_of(recording, "a.xml", None, "e", None)
    assert row.rejected("lead_flat", "V1", "p9") == Reject("lead_flat", "V1", "a.xml", None, "e", "p9")


def _rows_of(counts: np.ndarray) -> list[EcgRow]:
    return [EcgRow(f"e{i}", one, 5.0, "a.parquet", i) for i, one in enumerate(counts)]


@pytest.mark.parametrize(
    ("chosen", "is_shared"),
    [
        ([0, 1, 2, 3, 4], True),
        ([1, 2, 3], True),
        ([4], True),
        ([0, 2], False),
        ([3, 2], False),
        ([1, 1], False),
        ([4, 3, 2, 1, 0], False),
    ],
)
def test_counts_of__is_what_stacking_gives(chosen: list[int], is_shared: bool) -> None:
    whole = np.random.default_rng(1).integers(-9, 9, (5, 12, 7)).astype(np.int16)
    rows = [_rows_of(whole)[i] for i in chosen]
    counts = counts_of(rows)
    np.testing.assert_array_equal(counts, whole[chosen])
    assert np.shares_memory(counts, whole) == is_shared


def test_counts_of__rows_of_several_arrays_are_copied() -> None:
    whole = np.random.default_rng(1).integers(-9, 9, (4, 12, 7)).astype(np.int16)
    rows = [*_rows_of(whole)[:2], *_rows_of(whole.copy())[2:]]
    np.testing.assert_array_equal(counts_of(rows), whole)
    transposed = _rows_of(whole.transpose(0, 2, 1).copy().transpose(0, 2, 1))
    np.testing.assert_array_equal(counts_of(transposed), whole)
    np.testing.assert_array_equal(counts_of(_rows_of(whole)[:1]), whole[:1])
