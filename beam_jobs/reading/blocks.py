"""What travels inside a unit: blocks of decoded ECGs and rows of the rejects table."""

from __future__ import annotations

import datetime as dt
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from lvm_core.errors import EcgRejected
from lvm_core.signal.canonical import CanonicalEcg
from lvm_core.signal.ecg import LEADS_12, Ecg
from lvm_core.signal.quality import qrs_amplitude_uv
from lvm_core.tables import schemas

T = TypeVar("T")

_LEAD_II: Final = LEADS_12.index("II")

AMPLITUDES: Final = tuple(c.name for c in schemas.MEASUREMENTS if c.name != "measured_by")


@dataclass(frozen=True, slots=True)
class Reject:
    """One row of the rejects table, without its stage."""

    reason: str
    detail: str | None
    source_uri: str | None = None
    row: int | None = None
    ecg_id: str | None = None
    participant_id: str | None = None
    n_ecgs: int | None = 1

    @property
    def weight(self) -> int:
        """ECGs it stands for, an unknown number taken as 1."""
        return 1 if self.n_ecgs is None else self.n_ecgs


@dataclass(frozen=True, slots=True)
class EcgRow:
    """One decoded ECG with everything the tables hold beside it."""

    ecg_id: str
    counts: NDArray[np.int16]
    uv_per_count: float
    source_uri: str
    row: int | None = None
    participant_id: str | None = None
    recorded_at: dt.datetime | None = None
    amplitudes: tuple[float, ...] = (np.nan,) * len(AMPLITUDES)
    measured_by: str | None = None
    quality_flags: tuple[str, ...] = ()
    source_format: str | None = None
    source_sampling_rate_hz: float | None = None

    def rejected(self, reason: str, detail: str, participant_id: str | None) -> Reject:
        """Return the reject row of this ECG; the person may be known from elsewhere."""
        return Reject(reason, detail, self.source_uri, self.row, self.ecg_id, participant_id)


@dataclass(slots=True)
class Chunk:
    """A part of a unit as it comes out of the reader.

    Invariant: `n_read` is the ECGs in `rows` plus the weights of `rejects`.
    """

    rows: list[EcgRow] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    n_read: int = 0


def counts_of(rows: Sequence[EcgRow]) -> NDArray[np.int16]:
    """Return the counts of ECGs, (n, 12, n_samples) int16, which must not be written to.

    Rows of one chunk lie one behind the other in the array that Parquet was decoded into: that part
    of it is returned. Other rows are copied, which costs 1.5 % of the time of scoring.
    """
    first = rows[0].counts
    whole = first.base
    if isinstance(whole, np.ndarray) and whole.ndim == 3 and whole.flags.c_contiguous:
        start = (_address(first) - _address(whole)) // whole.strides[0]
        part = whole[start : start + len(rows)]
        if len(part) == len(rows) and all(
            row.counts.base is whole
            and row.counts.strides == whole.strides[1:]
            and _address(row.counts) == _address(whole) + at
            for row, at in zip(rows, range(start * whole.strides[0], whole.nbytes, whole.strides[0]), strict=False)
        ):
            return np.asarray(part)
    return np.stack([row.counts for row in rows])


def _address(array: NDArray[np.int16]) -> int:
    return int(array.__array_interface__["data"][0])


def amplitudes_uv(rows: Sequence[EcgRow]) -> NDArray[np.float64]:
    """Return the QRS amplitude of each ECG, (n,) microvolts (`lvm_core.signal.quality`)."""
    if not rows:
        return np.empty(0)
    lead_ii = np.stack([row.counts[_LEAD_II] for row in rows])
    steps = np.array([row.uv_per_count for row in rows], dtype=np.float32)
    return qrs_amplitude_uv(lead_ii, steps)


def row_of(
    ecg: Ecg,
    canonical: CanonicalEcg,
    *,
    ecg_id: str,
    participant_id: str | None,
    source_uri: str,
    row: int | None = None,
) -> EcgRow:
    """Return the row of a recording that a device file or a layout gave."""
    measured = ecg.measurements
    amplitudes = tuple(np.nan if (value := getattr(measured, name)) is None else value for name in AMPLITUDES)
    return EcgRow(
        ecg_id=ecg_id,
        counts=canonical.counts,
        uv_per_count=canonical.uv_per_count,
        source_uri=source_uri,
        row=row,
        participant_id=participant_id,
        recorded_at=ecg.recorded_at,
        amplitudes=amplitudes,
        measured_by=measured.measured_by,
        quality_flags=canonical.quality_flags,
        source_format=ecg.source_format,
        source_sampling_rate_hz=canonical.source_sampling_rate_hz,
    )


def reject_of(
    error: EcgRejected,
    source_uri: str | None,
    *,
    row: int | None = None,
    ecg_id: str | None = None,
    participant_id: str | None = None,
    n_ecgs: int | None = 1,
) -> Reject:
    """Return the reject row of an `EcgRejected`."""
    return Reject(error.reason.value, error.message, source_uri, row, ecg_id, participant_id, n_ecgs)


class _Prefetcher(Iterator[T]):
    """Fills a bounded queue from a thread of its own; see `prefetch`."""

    def __init__(self, items: Iterable[T], depth: int) -> None:
        self._items = items
        self._ready: queue.Queue[tuple[str, T | BaseException | None]] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lvm-reader", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._put(("item", item)):
                    return
            self._put(("end", None))
        except BaseException as error:  # noqa: BLE001 - raised again in the consumer's thread
            self._put(("error", error))

    def _put(self, item: tuple[str, T | BaseException | None]) -> bool:
        while not self._stopped.is_set():
            try:
                self._ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def __next__(self) -> T:
        kind, item = self._ready.get()
        if kind == "end":
            raise StopIteration
        if isinstance(item, BaseException):
            raise item
        return item  # type: ignore[return-value]

    def close(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._thread.join()


def prefetch(items: Iterable[T], depth: int) -> Iterator[T]:
    """Iterate in a thread of its own, at most `depth` items ahead; errors come out here.

    When the consumer stops early the thread ends too.
    """
    with closing(_Prefetcher(items, depth)) as ahead:
        yield from ahead
