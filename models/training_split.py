"""Which people train, choose and test: a hash of the id, so that it never depends on the order."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from lvm_core.csv_text import no_formula
from models.training_config import SplitShares

_HASH_BYTES: Final = 8


class Part(StrEnum):
    """A side of the split."""

    TRAIN = "train"
    VALID = "valid"
    TEST = "test"


def uniform_of(participant_id: str, salt: str) -> float:
    """Return a number from 0 up to, not including, 1 that depends on the id and the salt alone.

    It is the first 8 bytes of the SHA-256 of `salt|participant_id` as a big-endian fraction.
    """
    digest = hashlib.sha256(f"{salt}|{participant_id}".encode()).digest()[:_HASH_BYTES]
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def part_of(participant_id: str, shares: SplitShares) -> Part:
    """Return the side on which a person falls, whoever else is in the data."""
    position = uniform_of(participant_id, shares.salt)
    if position < shares.train:
        return Part.TRAIN
    return Part.VALID if position < shares.train + shares.valid or not shares.test else Part.TEST


def split_csv(participant_ids: Iterable[str], shares: SplitShares) -> str:
    """Return the split as CSV: participant_id and part, one row a person, in order of the id."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("participant_id", "part"))
    writer.writerows((no_formula(key), part_of(key, shares).value) for key in sorted(set(participant_ids)))
    return text.getvalue()
