"""Keyed pseudonyms: one key gives one pseudonym, and without the key there is no way back."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, field
from typing import Final

from lvm_core.errors import UsageError

MIN_KEY_BYTES: Final = 32
"""As many as SHA-256 gives; RFC 2104, section 3, discourages shorter keys."""

# 128 of the 256 bits are kept, the half that RFC 2104, section 5, asks for at least. Among a
# billion identifiers two then share a pseudonym with a probability of 1 in 10^21.
_HEX_DIGITS: Final = 32
_PSEUDONYM: Final = re.compile(rf"[epf]0x[0-9a-f]{{{_HEX_DIGITS}}}")


@dataclass(frozen=True)
class Pseudonyms:
    """Pseudonyms under one key: HMAC-SHA-256 of what is named, ECG, person or path, and its name.

    An ECG and a person of one identifier have pseudonyms of their own. A pseudonym is its own
    pseudonym, so that tables that hold some already can be joined.

    Source:
        Krawczyk H et al., RFC 2104, 1997; FIPS 198-1.
    """

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) < MIN_KEY_BYTES:
            raise UsageError(
                f"the pseudonym key has {len(self.key)} bytes, expected at least {MIN_KEY_BYTES}; make one with "
                f"head -c {MIN_KEY_BYTES} /dev/urandom > KEYFILE, and chmod 600 KEYFILE"
            )

    @property
    def key_id(self) -> str:
        """Fingerprint of the key, 16 hex digits: it tells two keys apart and gives none away."""
        return self._digest("key", "")[:16]

    def ecg(self, ecg_id: str) -> str:
        """Return the pseudonym of the key of a recording."""
        return self._named("e", ecg_id)

    def person(self, participant_id: str) -> str:
        """Return the pseudonym of the key of a person."""
        return self._named("p", participant_id)

    def path(self, path: str) -> str:
        """Return the pseudonym of a path below an input: that of its first folder, and its own."""
        folder, slash, _ = path.partition("/")
        return f"{self._named('f', folder)}/{self._named('f', path)}" if slash else self._named("f", path)

    def path_sha256(self, path_sha256: str) -> str:
        """Return the keyed digest that takes the place of the digest of a path."""
        return self._digest("path", path_sha256)

    def content_sha256(self, content_sha256: str) -> str:
        """Return the keyed digest that takes the place of a digest of content."""
        return self._digest("content", content_sha256)

    def _named(self, kind: str, name: str) -> str:
        if _PSEUDONYM.fullmatch(name):
            return name
        return f"{kind}0x{self._digest(kind, name)}"

    def _digest(self, kind: str, name: str) -> str:
        message = f"lvm-ai {kind}\0{name}".encode("utf-8", "surrogateescape")
        return hmac.digest(self.key, message, "sha256").hex()[:_HEX_DIGITS]
