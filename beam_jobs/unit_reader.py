"""Reading a unit, whatever its pieces are."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import groupby

from beam_jobs.blocks import Chunk
from beam_jobs.layout import Layout
from beam_jobs.parquet_input import ParquetReader
from beam_jobs.raw_input import RawReader
from beam_jobs.storage import Storage, join
from beam_jobs.units import Unit
from lvm_core.errors import LvmError


@dataclass(frozen=True)
class UnitReader:
    """Reads units into chunks of decoded ECGs and rejects.

    Attributes:
        storage: where inputs are.
        roots: folders that the pieces' paths start from.
        layout: of other people's Parquet; None for the canonical table.
        formats: raw formats to accept; empty for all.
        id_from_header: take the person from a raw file's header.
        interpolate_missing_samples: longest gap of missing samples that is filled.
    """

    storage: Storage
    roots: tuple[str, ...]
    layout: Layout | None = None
    formats: tuple[str, ...] = ()
    id_from_header: bool = False
    interpolate_missing_samples: int = 0

    @contextmanager
    def open(self, unit: Unit) -> Iterator[Iterator[Chunk]]:
        """Give the chunks of a unit; what is open is closed afterwards."""
        with closing(self.chunks(unit)) as chunks:
            yield chunks

    def chunks(self, unit: Unit) -> Generator[Chunk, None, None]:
        """Yield the chunks of a unit in order."""
        parquet = ParquetReader(self.storage, self.layout, self.interpolate_missing_samples)
        for is_parquet, group in groupby(unit.pieces, key=lambda piece: piece.is_parquet):
            if is_parquet:
                for piece in group:
                    if not piece.path:
                        raise LvmError(
                            f"unit {unit.number} cannot be done again: the path of its input was "
                            "removed with a person who withdrew; start anew with --overwrite"
                        )
                    yield from parquet.read(piece, join(self.roots[piece.root], piece.path))
            else:
                raw = RawReader(
                    self.storage,
                    self.formats,
                    id_from_header=self.id_from_header,
                    interpolate_missing_samples=self.interpolate_missing_samples,
                )
                yield from raw.read(list(group), self.roots)
