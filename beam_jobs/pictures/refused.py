"""Which ECGs a data manager should look at: a sample of what was rejected or flagged, and why.

The sample is drawn by a digest of each ECG's place in the inputs, so that the same data give the
same sample, in whatever order they are read. Memory holds the sample, never all ECGs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappush, heappushpop
from itertools import groupby
from typing import Final, Generic, TypeVar

from beam_jobs.pictures.print12 import Drawable
from beam_jobs.pictures.thumbnails import Group
from beam_jobs.reading.blocks import Chunk, EcgRow, Reject
from beam_jobs.reading.parquet_input import read_table
from beam_jobs.reading.unit_reader import UnitReader
from beam_jobs.reading.units import Piece, Unit, digest
from beam_jobs.run.commit import read_rejects
from beam_jobs.run.folder import RunFolder
from beam_jobs.run.plan import Plan
from lvm_core.errors import LvmError, RejectReason
from lvm_core.signal.quality import QualityFlag

T = TypeVar("T")

# Flags of the person, of the file beside its waveform, and of how it was brought to 10 s at 500 Hz:
# nothing of them is seen in a picture, and some data sets have them throughout.
NOT_SEEN: Final = frozenset(
    {
        QualityFlag.XML_REPAIRED,
        QualityFlag.CHECKSUM_ABSENT,
        QualityFlag.UNIT_ASSUMED,
        QualityFlag.DATE_UNREADABLE,
        QualityFlag.LEADS_DERIVED,
        QualityFlag.RESAMPLED,
        QualityFlag.END_REPEATED,
        QualityFlag.CROPPED,
        QualityFlag.AGE_NOT_AT_RECORDING,
        QualityFlag.BIRTH_DAY_ASSUMED,
        QualityFlag.AGE_OUT_OF_RANGE,
        QualityFlag.BMI_OUT_OF_RANGE,
        QualityFlag.HEIGHT_OUT_OF_RANGE,
        QualityFlag.WEIGHT_OUT_OF_RANGE,
        QualityFlag.INDEX_UNKNOWN,
    }
)


_REJECTED: Final = "rejected: "


@dataclass
class Sample(Generic[T]):
    """At most `size` items of each group, drawn by digests of their keys."""

    size: int
    n_all: Counter[str] = field(default_factory=Counter)  # items seen, by group
    _kept: dict[str, list[tuple[str, int, T]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, group: str, key: Sequence[object], item: T, n: int = 1) -> None:
        """Add an item that stands for `n` ECGs."""
        self.n_all[group] += n
        # A heap of the smallest digests, the largest of them first.
        order, kept = _inverted(digest([str(part) for part in key])), self._kept[group]
        if len(kept) < self.size:
            heappush(kept, (order, self.n_all[group], item))
        elif order > kept[0][0]:
            heappushpop(kept, (order, self.n_all[group], item))

    def drawn(self, n: int) -> dict[str, list[T]]:
        """Return `n` items in all, evenly over the groups as far as these have them.

        Rejected ECGs come first.
        """
        names = sorted(self._kept, key=lambda name: (not name.startswith(_REJECTED), name))
        found = {
            name: [item for _, _, item in sorted(self._kept[name], key=lambda one: one[:2], reverse=True)]
            for name in names
        }
        shares = Counter[str]()
        while sum(shares.values()) < min(n, sum(map(len, found.values()))):
            for name, items in found.items():
                if shares[name] < len(items) and sum(shares.values()) < n:
                    shares[name] += 1
        return {name: items[: shares[name]] for name, items in found.items() if shares[name]}


def _inverted(hexadecimal: str) -> str:
    return hexadecimal.translate(str.maketrans("0123456789abcdef", "fedcba9876543210"))


def title_of(reason: str | None, flags: Iterable[str]) -> str | None:
    """Return the group of an ECG: why it is rejected, else the first flag that may be seen."""
    if reason is not None:
        return f"{_REJECTED}{reason}"
    return next((f"flagged: {flag}" for flag in flags if flag not in NOT_SEEN), None)


def groups_of_inputs(reader: UnitReader, units: Iterable[Unit], n: int) -> list[Group]:
    """Return a sample of `n` ECGs that ingest or score would reject or flag."""
    sample: Sample[Drawable] = Sample(n)
    for unit in units:
        with reader.open(unit) as chunks:
            for chunk in chunks:
                for one in chunk.results:
                    ecg = Drawable.of(one, measure=False)
                    title = title_of(ecg.reason, ecg.flags)
                    if title is not None:
                        key = (one.source_uri, one.row, one.ecg_id)
                        sample.add(title, key, ecg, one.weight if isinstance(one, Reject) else 1)
    return [Group(title, sample.n_all[title], tuple(ecgs)) for title, ecgs in sample.drawn(n).items()]


@dataclass(frozen=True, slots=True)
class _Refused:
    """What a run folder says of an ECG that it rejected or flagged."""

    unit: int  # number of its unit
    source_uri: str | None  # None where only the ecg_id is known
    row: int | None
    ecg_id: str | None
    reason: str | None = None
    detail: str | None = None
    flags: tuple[str, ...] = ()


def groups_of_run(folder: RunFolder, plan: Plan, reader: UnitReader, n: int) -> list[Group]:
    """Return a sample of `n` ECGs that a run rejected or flagged, decoded again from their sources.

    People who are excluded or who withdrew are counted by the run alone, and never drawn.
    """
    sample: Sample[_Refused] = Sample(n)
    for unit in plan.units:
        for one, weight in _refused_of_unit(folder, plan, unit):
            title = title_of(one.reason, one.flags)
            if title is not None:
                sample.add(title, (one.source_uri, one.row, one.ecg_id), one, weight)
    drawn = sample.drawn(n)
    wanted = [one for items in drawn.values() for one in items]
    decoded = dict(_decoded(plan, reader, wanted))
    return [
        Group(title, sample.n_all[title], tuple(_as_the_run_says(one, decoded.get(one)) for one in items))
        for title, items in drawn.items()
    ]


def _refused_of_unit(folder: RunFolder, plan: Plan, unit: Unit) -> Iterator[tuple[_Refused, int]]:
    files = folder.files(plan, unit)
    for reject in read_rejects(folder.storage, files.rejects).to_pylist():
        if reject["reason"] != RejectReason.EXCLUDED:
            place = reject["source_uri"], reject["row"], reject["ecg_id"]
            yield _Refused(unit.number, *place, reject["reason"], reject["detail"]), reject["n_ecgs"] or 1
    if not folder.storage.is_file(files.result):
        return
    for row in read_table(folder.storage, files.result, ["ecg_id", "quality_flags"]).to_pylist():
        if row["quality_flags"]:
            yield _Refused(unit.number, None, None, row["ecg_id"], flags=tuple(row["quality_flags"])), 1


def _as_the_run_says(one: _Refused, found: EcgRow | Reject | str | None) -> Drawable:
    """Return what is drawn of an ECG: its trace where it was found, with the words of the run."""
    name = one.ecg_id or "without ecg_id"
    if isinstance(found, EcgRow | Reject):
        ecg = Drawable.of(found, measure=False)
        flags = one.flags or ecg.flags
        return replace(ecg, ecg_id=name, reason=one.reason, detail=one.detail, flags=flags)
    said = f"{one.detail or ', '.join(one.flags)}. " if one.detail or one.flags else ""
    detail = f"{said}{found or 'Its source holds it no more, or was never read'}"
    return Drawable(name, None, flags=one.flags, reason=one.reason, detail=detail)


def _decoded(
    plan: Plan, reader: UnitReader, wanted: Sequence[_Refused]
) -> Iterator[tuple[_Refused, EcgRow | Reject | str]]:
    """Yield what the sources hold of ECGs; a sentence where a source cannot be read now."""
    for number, of_unit in groupby(sorted(wanted, key=lambda one: one.unit), key=lambda one: one.unit):
        by_source: dict[tuple[Piece, ...], list[_Refused]] = defaultdict(list)
        for one in of_unit:
            by_source[tuple(_pieces_of(plan.units[number], one))].append(one)
        for pieces, items in by_source.items():
            unit = replace(plan.units[number], pieces=pieces)
            try:
                with reader.open(unit) as chunks:
                    yield from _among(chunks, items)
            except LvmError:
                for one in items:
                    yield one, "Its source cannot be read now: it is gone, or changed since the run"


def _pieces_of(unit: Unit, one: _Refused) -> Iterator[Piece]:
    """Yield the pieces of a unit that may hold an ECG; people who are excluded are left out."""
    for piece in unit.pieces:
        if piece.excluded or (one.source_uri is not None and piece.shown != one.source_uri):
            continue
        if piece.is_table:
            rows = range(piece.first_row, piece.first_row + (piece.n_ecgs or 0))
            if one.row is None or one.row in rows:
                yield piece
        elif one.ecg_id in (None, piece.ecg_id):
            yield piece


def _among(chunks: Iterable[Chunk], items: Sequence[_Refused]) -> Iterator[tuple[_Refused, EcgRow | Reject]]:
    by_place: Mapping[tuple[str | None, int | None], _Refused] = {
        (one.source_uri, one.row): one for one in items if one.source_uri is not None
    }
    by_id = {one.ecg_id: one for one in items if one.source_uri is None}
    for chunk in chunks:
        for found in chunk.results:
            one = by_place.get((found.source_uri, found.row)) or by_id.get(found.ecg_id)
            if one is not None:
                yield one, found
