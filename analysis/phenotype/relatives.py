"""Relatives by kinship, left out until no two of the people are related."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

import numpy as np
import pandas as pd

from lvm_core.errors import UsageError
from lvm_core.tables.raw import RawTable

THIRD_DEGREE: Final = 2 ** (-9 / 2)
"""Kinship coefficient from which two people count as third-degree relatives or closer: 0.0442.

Manichaikul A et al., Bioinformatics 2010;26:2867-73, table 1 (KING).
"""
_FIRST: Final = ("ID1", "IID1", "#IID1")
_SECOND: Final = ("ID2", "IID2", "#IID2")
_KINSHIP: Final = ("Kinship",)


def related_pairs(table: RawTable, least_kinship: float) -> list[tuple[str, str]]:
    """Return the pairs of a kinship table whose coefficient is `least_kinship` or more.

    Tables of KING, of `plink2 --make-king-table` and of UK Biobank (`ukb_rel`) are read. Raise
    UsageError where a column is absent or a coefficient is no number.
    """
    columns = [table.find_first(names) for names in (_FIRST, _SECOND, _KINSHIP)]
    if any(column is None for column in columns):
        raise UsageError(
            f"{table.described()}; expected ID1 or IID1, ID2 or IID2, and Kinship, as KING and plink2 write them"
        )
    first, second, given = (pd.Series(cells.to_pandas(), dtype=object) for _, cells in filter(None, columns))
    kinship = pd.to_numeric(given, errors="coerce").to_numpy(dtype=float)
    if np.isnan(kinship).any():
        row = int(np.flatnonzero(np.isnan(kinship))[0]) + 1
        raise UsageError(f"{table.name} has a Kinship that is no number in row {row}; expected for example 0.25")
    close = kinship >= least_kinship
    texts = (values[close].astype(str).str.strip() for values in (first, second))
    return list(zip(*texts, strict=True))


def without_relatives(people: Iterable[str], pairs: Iterable[tuple[str, str]]) -> set[str]:
    """Return the people to leave out so that no pair is left.

    Who has the most relatives left goes first; of several with as many, the last in the order of
    their identifiers, so that the choice is always the same.
    """
    own = set(people)
    relatives: dict[str, set[str]] = defaultdict(set)
    for one, other in pairs:
        if one != other and one in own and other in own:
            relatives[one].add(other)
            relatives[other].add(one)
    place = {person: -i for i, person in enumerate(sorted(relatives))}
    waiting = [(-len(others), place[person], person) for person, others in relatives.items()]
    heapq.heapify(waiting)
    removed: set[str] = set()
    while waiting:
        n_before, _, person = heapq.heappop(waiting)
        n_left = len(relatives[person] - removed)
        if person in removed or not n_left:
            continue
        if n_left != -n_before:
            heapq.heappush(waiting, (-n_left, place[person], person))
            continue
        removed.add(person)
    return removed
