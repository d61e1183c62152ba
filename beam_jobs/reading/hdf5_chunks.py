"""Compressed chunks of HDF5 that would unpack to more than they may.

The HDF5 library unpacks a chunk to its end, however large it becomes: 1 MB of a file became 1 GB.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any, Final

import h5py
import numpy as np

from lvm_core.errors import EcgRejected, RejectReason

MOST_UNPACKED_BYTES: Final = 64_000_000
"""Of one chunk."""

_DEFLATE: Final = int(h5py.h5z.FILTER_DEFLATE)
_LZF: Final = int(h5py.h5z.FILTER_LZF)
# How many times larger each makes what it unpacks, at most; 1 for those that change no size.
_MOST_TIMES: Final = {
    _DEFLATE: 1032,  # zlib's technical notes
    _LZF: 88,  # three bytes for a run of 264
    int(h5py.h5z.FILTER_SHUFFLE): 1,
    int(h5py.h5z.FILTER_FLETCHER32): 1,
}
# A chunk that cannot become larger than this is not looked at: HDF5 takes twice as much at most.
_HARMLESS_BYTES: Final = 128_000_000
# That one reading touches: HDF5 takes 650 bytes and 2 microseconds for each, even for none.
_MOST_AT_ONCE: Final = 200_000
_MOST_CHUNKS: Final = 20_000_000  # two for each ECG of the largest file


@dataclass
class Chunks:
    """The chunks of a dataset, of which those that could unpack to too much are looked at first.

    Raises:
        EcgRejected: `unreadable` for a compression that is not known, or more than one.
    """

    dataset: Any
    _suspects: list[Any] = field(default_factory=list)  # not yet looked at; the last rows first

    def __post_init__(self) -> None:
        if self.dataset.chunks is None:
            return
        filters = _filters(self.dataset)
        packers = [code for code in filters if _MOST_TIMES.get(code, 0) != 1]
        if not packers:
            return
        if len(packers) > 1 or packers[0] not in _MOST_TIMES:
            raise _unreadable("compressed more than once, or in a way that is not read; write it with gzip or lzf")
        most_bytes = _HARMLESS_BYTES // _MOST_TIMES[packers[0]]
        sides = zip(self.dataset.shape, self.dataset.chunks, strict=True)
        if int(np.prod([-(-whole // part) for whole, part in sides], dtype=object)) > _MOST_CHUNKS:
            raise _unreadable(f"cut into more than {_MOST_CHUNKS} chunks; write it with larger ones")

        def note(one: Any) -> None:
            if one.size > most_bytes:
                self._suspects.append(one)

        # HDF5 walks over the chunks, too, to find the one at a place: a walk for each, if asked so.
        self.dataset.id.chunk_iter(note)
        self._suspects.sort(key=_from_the_end)  # read from the first row, they are removed at the end of the list

    def check(self, start: int, stop: int) -> None:
        """Refuse too many chunks with rows from `start` to `stop` - 1, or one that is a bomb."""
        if self.dataset.chunks is None:
            return
        rows = self.dataset.chunks[0]
        sides = zip((stop - start, *self.dataset.shape[1:]), self.dataset.chunks, strict=True)
        if int(np.prod([-(-whole // part) for whole, part in sides], dtype=object)) > _MOST_AT_ONCE:
            raise _unreadable(f"cut into chunks that are too small: more than {_MOST_AT_ONCE} at once")
        mine = slice(*(bisect_left(self._suspects, row, key=_from_the_end) for row in (1 - stop, rows - start)))
        for one in self._suspects[mine]:
            self._check(one)
        del self._suspects[mine]

    def _check(self, one: Any) -> None:
        filters = _filters(self.dataset)
        place = next(place for place, code in enumerate(filters) if _MOST_TIMES[code] > 1)
        if one.filter_mask >> place & 1:  # it was left as it is
            return
        if filters[place] == _LZF:
            raise _unreadable(f"in a chunk of {one.size} bytes of lzf; write it with smaller chunks, or with gzip")
        allowed = int(np.prod(self.dataset.chunks, dtype=object)) * self.dataset.dtype.itemsize
        _, packed = self.dataset.id.read_direct_chunk(one.chunk_offset)
        try:
            is_larger = len(zlib.decompressobj().decompress(packed, allowed + 1)) > allowed
        except zlib.error as error:
            raise _unreadable("damaged in a compressed chunk; copy the file again") from error
        if is_larger:
            raise _unreadable(f"in a chunk of {one.size} bytes that unpacks to more than its {allowed} bytes")


def _from_the_end(one: Any) -> int:
    return -int(one.chunk_offset[0])


def _filters(dataset: Any) -> list[int]:
    plan = dataset.id.get_create_plist()
    return [int(plan.get_filter(place)[0]) for place in range(plan.get_nfilters())]


def _unreadable(what: str) -> EcgRejected:
    return EcgRejected(RejectReason.UNREADABLE, f"array of the HDF5 file is {what}")
