"""What the stages of a unit exchange: chunks of decoded ECGs and rows of the rejects table."""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.pseudonyms import Pseudonyms
from lvm_core.signal.canonical import canonicalise
from lvm_core.signal.ecg import LEADS_12, NOTHING_STATED, Ecg, RhythmCodes
from lvm_core.signal.scale import qrs_amplitude_uv
from lvm_core.tables import schemas

T = TypeVar("T")

_LEAD_II: Final = LEADS_12.index("II")

MEASURERS: Final = ("measured_by", "qrs_measured_by")
AMPLITUDES: Final = tuple(
    column.name for column in (*schemas.MEASUREMENTS, *schemas.MORE_MEASUREMENTS) if column.name not in MEASURERS
)
"""Names of the measurements: R and S of each lead, the duration of QRS and the voltage sum."""
QRS_DURATION: Final = AMPLITUDES.index("qrs_duration_ms")


@dataclass(frozen=True, slots=True)
class Reject:
    """One row of the rejects table, without the stage."""

    reason: str
    detail: str | None
    source_uri: str | None = None
    row: int | None = None
    ecg_id: str | None = None
    participant_id: str | None = None
    n_ecgs: int | None = 1
    # What was decoded before it was refused, only where the reader was asked to keep it.
    recording: Ecg | None = field(default=None, compare=False, repr=False)

    @property
    def weight(self) -> int:
        """Number of ECGs lost; an unknown number counts as 1."""
        return 1 if self.n_ecgs is None else self.n_ecgs


def reject_of(error: EcgRejected, path: str, row: int | None, ecg_id: str, participant_id: str | None) -> Reject:
    """Return the reject row of an `EcgRejected`."""
    return Reject(error.reason.value, error.message, path, row, ecg_id, participant_id)


def duplicate_reject(path: str, row: int | None, ecg_id: str | None, participant_id: str | None) -> Reject:
    """Return the reject row of an ECG whose ecg_id came earlier."""
    detail = "ecg_id occurs earlier in the inputs; the first recording is kept"
    return Reject(RejectReason.DUPLICATE_ECG_ID.value, detail, path, row, ecg_id, participant_id)


def excluded_reject() -> Reject:
    """Return the reject row of an excluded person's ECG, without names of person or file."""
    return Reject(RejectReason.EXCLUDED.value, "person is excluded at the custodian's request")


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
    qrs_measured_by: str | None = None
    rhythm: RhythmCodes = NOTHING_STATED
    quality_flags: tuple[str, ...] = ()
    source_format: str | None = None
    source_sampling_rate_hz: float | None = None

    def rejected(self, reason: str, detail: str, participant_id: str | None) -> Reject:
        """Return the reject row of this ECG; another table may name the person."""
        return Reject(reason, detail, self.source_uri, self.row, self.ecg_id, participant_id)


@dataclass(slots=True)
class Chunk:
    """A part of a unit, as the reader gives it.

    Invariant: `n_read` is the ECGs in `rows` plus the weights of `rejects`.
    """

    rows: list[EcgRow] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    n_read: int = 0

    @property
    def results(self) -> list[EcgRow | Reject]:
        """Rows, then rejects."""
        return [*self.rows, *self.rejects]

    def add(self, result: EcgRow | Reject) -> None:
        """Add what one ECG gave; `n_read` is counted apart."""
        if isinstance(result, EcgRow):
            self.rows.append(result)
        else:
            self.rejects.append(result)


def with_pseudonyms(chunk: Chunk, pseudonyms: Pseudonyms) -> Chunk:
    """Return a chunk with pseudonyms in place of the keys of its ECGs and people."""
    rows = [
        replace(
            row, ecg_id=pseudonyms.ecg(row.ecg_id), participant_id=_pseudonym(pseudonyms.person, row.participant_id)
        )
        for row in chunk.rows
    ]
    rejects = [
        replace(
            one,
            ecg_id=_pseudonym(pseudonyms.ecg, one.ecg_id),
            participant_id=_pseudonym(pseudonyms.person, one.participant_id),
        )
        for one in chunk.rejects
    ]
    return Chunk(rows, rejects, chunk.n_read)


def _pseudonym(make: Callable[[str], str], key: str | None) -> str | None:
    return None if key is None else make(key)


def counts_of(rows: Sequence[EcgRow]) -> NDArray[np.int16]:
    """Return the counts of ECGs, (n, 12, n_samples) int16, which must not be written to.

    Rows of one chunk follow each other in the array that Parquet was decoded into: that part of it
    is returned. Other rows are copied, which costs 1.5 % of the time of scoring.
    """
    whole = rows[0].counts.base
    if isinstance(whole, np.ndarray) and whole.ndim == 3 and whole.flags.c_contiguous:
        start = (_address(rows[0].counts) - _address(whole)) // whole.strides[0]
        part = whole[start : start + len(rows)]
        if len(part) == len(rows) and all(
            row.counts.base is whole and _place(row.counts) == _place(at) for row, at in zip(rows, part, strict=True)
        ):
            return np.asarray(part)
    return np.stack([row.counts for row in rows])


def _place(array: NDArray[np.int16]) -> tuple[int, tuple[int, ...]]:
    return _address(array), array.strides


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
    ecg: Ecg, path: str, row: int | None, ecg_id: str, participant_id: str | None, *, keep_refused: bool = False
) -> EcgRow | Reject:
    """Return the row of a recording that a device file or a layout gave, in canonical form.

    A recording that has no canonical form is a reject, which holds the recording itself where
    `keep_refused` asks for it.
    """
    try:
        canonical = canonicalise(ecg)
    except EcgRejected as error:
        reject = reject_of(error, path, row, ecg_id, participant_id)
        return replace(reject, recording=ecg) if keep_refused else reject
    measured = ecg.measurements
    amplitudes = tuple(np.nan if (value := getattr(measured, name)) is None else value for name in AMPLITUDES)
    return EcgRow(
        ecg_id=ecg_id,
        counts=canonical.counts,
        uv_per_count=canonical.uv_per_count,
        source_uri=path,
        row=row,
        participant_id=participant_id,
        recorded_at=ecg.recorded_at,
        amplitudes=amplitudes,
        measured_by=measured.measured_by,
        qrs_measured_by=measured.qrs_measured_by,
        rhythm=ecg.rhythm,
        quality_flags=canonical.quality_flags,
        source_format=ecg.source_format,
        source_sampling_rate_hz=canonical.source_sampling_rate_hz,
    )


_END: Final = object()


def prefetch(items: Iterable[T], depth: int) -> Iterator[T]:
    """Iterate in a thread of its own, at most `depth` items ahead; its errors are raised here.

    When the consumer stops early the thread ends too.
    """
    iterator = iter(items)
    pool = ThreadPoolExecutor(1, thread_name_prefix="lvm-reader")
    try:
        ahead = deque(pool.submit(next, iterator, _END) for _ in range(depth))
        while (item := ahead.popleft().result()) is not _END:
            ahead.append(pool.submit(next, iterator, _END))
            yield cast(T, item)
    finally:
        pool.shutdown(cancel_futures=True)
