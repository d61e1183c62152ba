"""Numbers in messages, with the noun and the verb that go with them."""

from __future__ import annotations

from typing import Final

_PLURALS: Final = {"person": "people", "process": "processes"}
_OF_ONE: Final = {"are": "is", "were": "was", "have": "has", "do": "does", "share": "shares"}


def counted(number: int, noun: str, verb: str = "", *, form: str = "") -> str:
    """Return a number with its noun: `1 ECG`, `2 ECGs`, `1 person`, `3 people`.

    `verb` follows, given as it is for several: `1 unit is`, `2 units are`. `form` is the format of
    the number, such as `,` for thousands.
    """
    words = noun if number == 1 else _PLURALS.get(noun, f"{noun}s")
    follows = f" {_OF_ONE.get(verb, f'{verb}s') if number == 1 else verb}" if verb else ""
    return f"{number:{form}} {words}{follows}"
