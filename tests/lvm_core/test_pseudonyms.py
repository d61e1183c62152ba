from __future__ import annotations

import hashlib
import hmac
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvm_core.errors import UsageError
from lvm_core.pseudonyms import Pseudonyms

KEY = bytes(range(32))
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


def test_pseudonyms__are_hmac_sha_256_of_kind_and_name() -> None:
    # RFC 2104 by hand: H(key xor opad, H(key xor ipad, message)), blocks of 64 bytes.
    padded = KEY.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in padded) + b"lvm-ai p\x001000001").digest()
    outer = hashlib.sha256(bytes(b ^ 0x5C for b in padded) + inner).hexdigest()
    assert Pseudonyms(KEY).person("1000001") == f"p0x{outer[:32]}"
    assert (
        Pseudonyms(KEY).ecg("1000001")
        == f"e0x{hmac.new(KEY, b'lvm-ai e' + bytes(1) + b'1000001', 'sha256').hexdigest()[:32]}"
    )


@given(NAMES, NAMES)
def test_pseudonyms__of_two_names_kinds_or_keys_differ(one: str, other: str) -> None:
    mine, its = Pseudonyms(KEY), Pseudonyms(bytes(32))
    found = [mine.ecg(one), mine.person(one), mine.path(one.replace("/", "")), its.ecg(one)]
    assert len({text[3:] for text in found}) == 4
    assert (mine.person(one) == mine.person(other)) == (one == other)
    assert all(re.fullmatch(r"[epf]0x[0-9a-f]{32}", text) for text in found)


@given(NAMES)
def test_pseudonyms__are_their_own_pseudonyms(name: str) -> None:
    made = Pseudonyms(KEY)
    assert made.ecg(made.ecg(name)) == made.ecg(name)
    assert made.person(made.person(name)) == made.person(name)


def test_pseudonyms__path_keeps_its_first_folder_apart() -> None:
    made = Pseudonyms(KEY)
    first, second = made.path("a/b/c.xml").split("/")
    assert made.path("a/d.xml").split("/")[0] == first
    assert made.path("a/d.xml").split("/")[1] != second
    assert "/" not in made.path("c.xml")
    assert made.path("a\udcff.xml") != made.path("a.xml")  # a byte that is not UTF-8


def test_pseudonyms__key_has_a_fingerprint_and_is_not_shown() -> None:
    made = Pseudonyms(KEY)
    assert len(made.key_id) == 16
    assert set(made.key_id) <= set(string.hexdigits)
    assert made.key_id != Pseudonyms(bytes(32)).key_id
    assert "\\x01" not in repr(made)
    assert made.path_sha256("a") != Pseudonyms(bytes(32)).path_sha256("a")


def test_pseudonyms__short_key_is_refused() -> None:
    assert Pseudonyms(bytes(32)).key_id
    with pytest.raises(UsageError, match="has 31 bytes, expected at least 32"):
        Pseudonyms(bytes(31))


def test_pseudonyms__digest_of_content_is_the_hmac_of_its_own_domain() -> None:
    key = bytes(range(32))
    made = hmac.new(key, b"lvm-ai content\0abc", hashlib.sha256).hexdigest()[:32]
    assert Pseudonyms(key).content_sha256("abc") == made
