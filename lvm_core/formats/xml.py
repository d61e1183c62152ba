"""Safe reading of vendor XML: any usual encoding, no entities, nothing fetched."""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterator
from typing import Final
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml import ElementTree as SafeElementTree
from defusedxml.common import DefusedXmlException

from lvm_core.errors import EcgRejected, RejectReason

MAX_ITEMS: Final = 50_000
"""Elements and attributes of one document; the largest real device file seen has 3,433."""

MAX_TAG_BYTES: Final = 1_000_000
"""Longest single tag or comment; those of real device files are below 1 kB."""

_FEED_BYTES: Final = 65_536
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DECLARATION: Final = re.compile(r"\s*<\?xml\s[^>]*\?>", re.ASCII)
_DECLARED_ENCODING: Final = re.compile(
    rb"""\s*<\?xml\s[^>]*?encoding\s*=\s*["']([A-Za-z][\w.\-]*)["']"""
)
_PROLOG_ITEM: Final = re.compile(
    r"\s+|<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^\[>]*(?:\[.*?\]\s*)?>", re.DOTALL
)
_START_TAG: Final = re.compile(r"<(?:[^\s<>/:]+:)?([A-Za-z_][^\s<>/:]*)(?=[\s/>])")
# Python calls these text encodings. No device writes them, and decoding the first two takes time
# that grows with the square of the length.
_NOT_FOR_FILES: Final = frozenset(
    {"punycode", "idna", "unicode-escape", "raw-unicode-escape", "undefined", "utf-7"}
)
# Codes of expat's errors that mean "the document ends too early": no element found, unclosed
# token, partial character, unclosed CDATA section (expat.h, enum XML_Error).
_ENDS_TOO_EARLY: Final = frozenset({3, 5, 6, 20})


def decode_xml(data: bytes) -> str:
    """Return the text of an XML document, whatever the declaration says about its encoding.

    A byte order mark wins, then the pattern of zero bytes of UTF-16, then the declaration; a
    declaration of UTF-16 over single bytes is taken as UTF-8. Bytes that do not fit are replaced:
    voltages are plain ASCII, only free text can suffer.

    Raises:
        EcgRejected: `unreadable`, the declared encoding is not known.
    """
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            return data[len(bom) :].decode(encoding, "replace")
    if data[1:2] == b"\0":
        return data.decode("utf-16-le", "replace")
    if data[:1] == b"\0":
        return data.decode("utf-16-be", "replace")
    match = _DECLARED_ENCODING.match(data)
    declared = match[1].decode("ascii") if match else "utf-8"
    try:
        name = codecs.lookup(declared).name
        if name.replace("_", "-") in _NOT_FOR_FILES:
            raise LookupError(declared)
        if name.startswith(("utf-16", "utf-32")):
            declared = "utf-8"
        return data.decode(declared, "replace")
    except (LookupError, UnicodeError) as error:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"XML declares the encoding {declared!r}, which is not known; "
            "expected for example UTF-8 or ISO-8859-1",
        ) from error


def root_name(text: str) -> str | None:
    """Return the local name of the root element of an XML text, or None when it has none.

    Looks at the text up to the first start tag only, so that it works on a truncated document.
    """
    position = 0
    while match := _PROLOG_ITEM.match(text, position):
        position = match.end()
    start = _START_TAG.match(text, position)
    return start[1] if start else None


def parse_xml(data: bytes) -> Element:
    """Parse an XML document and return its root; tags are left without their namespace.

    A DOCTYPE is accepted and not followed. Nothing outside `data` is ever read.

    Raises:
        EcgRejected: `truncated` when the document ends before its root element does;
            `unreadable` when it is malformed, defines entities or refers to external ones, or
            holds more than `MAX_ITEMS` elements and attributes: parsing stops there.
    """
    try:
        root = _parse(_without_declaration(data))
    except DefusedXmlException as error:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            "XML defines entities or refers to external ones, which is never followed; "
            "expected a device export without them",
        ) from error
    except ParseError as error:
        raise _parse_failure(error) from error
    for element in walk(root):
        element.tag = element.tag.rpartition("}")[2]
    return root


def _without_declaration(data: bytes) -> bytes:
    text = decode_xml(data)
    declaration = _DECLARATION.match(text)
    return (text[declaration.end() :] if declaration else text).encode("utf-8", "replace")


def _parse(document: bytes) -> Element:
    """Parse piece by piece, so that a document of far too many elements ends early."""
    parser = SafeElementTree.DefusedXMLParser(target=_CountingBuilder(), forbid_dtd=False)
    view = memoryview(document)
    for start in range(0, len(view), _FEED_BYTES):
        parser.feed(view[start : start + _FEED_BYTES])
        # The position stays at the start of a tag until the tag ends.
        if start + _FEED_BYTES - parser.parser.CurrentByteIndex > MAX_TAG_BYTES:
            raise EcgRejected(
                RejectReason.UNREADABLE,
                f"XML has a tag or comment of more than {MAX_TAG_BYTES} bytes; "
                "expected a device export, whose tags are short",
            )
    root: Element = parser.close()
    return root


class _CountingBuilder(TreeBuilder):
    """Builds the tree and stops when it becomes far larger than any device file."""

    def __init__(self) -> None:
        super().__init__()
        self._n_items = 0

    def start(self, tag: str, attrs: dict[str, str]) -> Element:
        self._n_items += 1 + len(attrs)
        if self._n_items > MAX_ITEMS:
            raise EcgRejected(
                RejectReason.UNREADABLE,
                f"XML holds more than {MAX_ITEMS} elements and attributes; expected a device "
                "export, which holds at most a few thousand",
            )
        return super().start(tag, attrs)


def _parse_failure(error: ParseError) -> EcgRejected:
    line = error.position[0]
    if error.code in _ENDS_TOO_EARLY:
        return EcgRejected(
            RejectReason.TRUNCATED,
            f"XML ends at line {line} before its root element does; copy the file again",
        )
    return EcgRejected(
        RejectReason.UNREADABLE,
        f"XML is malformed at line {line}, column {error.position[1]} (expat error {error.code})",
    )


def walk(root: Element) -> Iterator[Element]:
    """Yield `root` and everything below it, without recursion, so that no depth can hurt."""
    stack = [root]
    while stack:
        element = stack.pop()
        yield element
        stack.extend(reversed(list(element)))


def text_of(element: Element | None, path: str) -> str | None:
    """Return the stripped text at `path` below `element`; None when absent or blank."""
    found = None if element is None else element.find(path)
    return None if found is None else (found.text or "").strip() or None


def number_of(element: Element | None, path: str) -> float | None:
    """Return the number at `path` below `element`; None when absent, blank or not finite."""
    text = text_of(element, path)
    try:
        value = float(text) if text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def whole_number_of(element: Element | None, path: str) -> int | None:
    """Return the whole number at `path` below `element`; None when there is none."""
    value = number_of(element, path)
    return int(value) if value is not None and value == int(value) else None


def mentions_poor_quality(element: Element, tags: frozenset[str]) -> bool:
    """Return True when a text in an element named in `tags` says 'poor data quality'."""
    return any(
        "poor data quality" in " ".join((found.text or "").lower().split())
        for found in walk(element)
        if found.tag in tags
    )
