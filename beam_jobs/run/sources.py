"""Which folder an ECG comes from, as footers may hold it and as a report shows it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from beam_jobs.reading.blocks import EcgRow, Reject
from beam_jobs.reading.units import Piece, path_digest
from lvm_core.errors import form_of
from lvm_core.signal.plausibility import is_about_scale
from lvm_core.signal.quality import SourceAmplitudes

_IDENTIFIER: Final = re.compile(r"\d{5}")


def source_amplitudes(
    rows: Sequence[EcgRow],
    amplitudes_uv: NDArray[np.float64],
    rejects: Sequence[Reject],
    folder_of: Callable[[str], str],
) -> SourceAmplitudes:
    """Return the amplitudes of rows by source.

    Args:
        rows: decoded ECGs.
        amplitudes_uv: of each, as `blocks.amplitudes_uv` gives them.
        rejects: of the reader; those whose voltages it refused are counted.
        folder_of: digest of the first folder of a path, as `folder_digest_of` gives it.
    """
    return SourceAmplitudes.of(
        [folder_of(row.source_uri) for row in rows],
        [row.uv_per_count for row in rows],
        amplitudes_uv,
        [
            folder_of(reject.source_uri)
            for reject in rejects
            if reject.source_uri is not None and is_about_scale(reject.reason)
        ],
    )


def first_folder(path: str) -> str:
    """Return the first folder of a path below its root; empty for a file at the root."""
    return path.partition("/")[0] if "/" in path else ""


def folder_digest_of(pieces: Iterable[Piece]) -> Callable[[str], str]:
    """Return what gives the digest of the first folder of a record of these pieces by its path."""
    roots = {piece.path: piece.root for piece in pieces if piece.path}
    digests: dict[tuple[int, str], str] = {}

    def digest(path: str) -> str:
        place = roots.get(path, 0), first_folder(path)
        if place not in digests:
            digests[place] = path_digest(*place)
        return digests[place]

    return digest


def _shown(folder: str) -> str:
    if _IDENTIFIER.search(folder):
        return f"a folder named like {form_of(folder)}"
    return folder or "the top folder"


def folder_names(pieces: Iterable[Piece]) -> dict[str, str]:
    """Return the names of the first folders of pieces by their digests.

    With several inputs the number of the input stands before the folder. A folder whose name may be
    an identifier, as one with five digits in a row, is shown by its form.
    """
    places = {(piece.root, first_folder(piece.path)) for piece in pieces if piece.path}
    several = len({root for root, _ in places}) > 1
    shown = {(root, folder): f"{f'input {root + 1}, ' if several else ''}{_shown(folder)}" for root, folder in places}
    return {path_digest(*place): name for place, name in shown.items()}
