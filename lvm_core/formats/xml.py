"""Safe reading of vendor XML: any usual encoding, no entities, nothing fetched."""

from __future__ import annotations

import codecs
import re
from typing import Final
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml import ElementTree as SafeElementTree
from defusedxml.common import DefusedXmlException

from lvm_core.errors import EcgRejected, RejectReason, described
from lvm_core.formats.channels import finite_number

MAX_ITEMS: Final = 50_000
"""Elements and attributes of one document; the largest real device file seen has 3,433."""

MAX_TAG_BYTES: Final = 1_000_000
"""Longest single tag or comment; those of real device files are below 1 kB."""

_FEED_BYTES: Final = 65_536
_HEAD_BYTES: Final = 65_536
_BOMS: Final = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_DECLARATION: Final = re.compile(r"\s*<\?xml\s[^>]*\?>", re.ASCII)
_DECLARED_ENCODING: Final = re.compile(rb"""\s*<\?xml\s[^>]*?encoding\s*=\s*["']([A-Za-z][\w.\-]*)["']""")
_PROLOG_ITEM: Final = re.compile(r"\s+|<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^\[>]*(?:\[.*?\]\s*)?>", re.DOTALL)
_START_TAG: Final = re.compile(r"<(?:[^\s<>/:]+:)?([A-Za-z_][^\s<>/:]*)(?=[\s/>])")
_DECIMAL_COMMA: Final = re.compile(r"[-+]?(?:0,\d+|\d+,(?!\d{3}$)\d+)", re.ASCII)
# A start or end tag; attributes may hold a stray `&`, never a `<`.
_TAG: Final = re.compile(r"</?([A-Za-z_][\w:.\-]*)(?:\s[^<>]*)?/?>")
_NAME_OF_START_TAG: Final = re.compile(r"<([A-Za-z_][\w:.\-]*)")
_NAME_OF_END_TAG: Final = re.compile(r"</([A-Za-z_][\w:.\-]*)\s*>")
_STRAY_AMPERSAND: Final = re.compile(
    r"&(?!(?:amp|lt|gt|quot|apos|#(?:9|10|13|3[2-9]|[4-9]\d|\d{3,7})"
    r"|#x(?:9|[aAdD]|[2-9a-fA-F][0-9a-fA-F]|[0-9a-fA-F]{3,6}));)"
)
# What XML 1.0 does not allow in a document (section 2.2, production 2).
_FORBIDDEN: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_BLOCKS: Final = (("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>"), ("<!DOCTYPE", ">"))
# Device files hold up to some ten thousand tags in 2 MB. Looking at a tag costs about four
# microseconds, so that what is no device file takes less than a second.
_MOST_MARKS: Final = 100_000
_LONGEST_REPAIRED: Final = 16_000_000
# Python calls these text encodings. No device writes them, and decoding the first two takes time
# that grows with the square of the length.
_NOT_FOR_FILES: Final = frozenset({"punycode", "idna", "unicode-escape", "raw-unicode-escape", "undefined", "utf-7"})
# Codes of expat's errors that mean "the document ends too early": no element found, unclosed
# token, partial character, unclosed CDATA section (expat.h, enum XML_Error).
_ENDS_TOO_EARLY: Final = frozenset({3, 5, 6, 20})


def decode_xml(data: bytes) -> str:
    """Return the text of an XML document, whatever the declaration says about its encoding.

    A byte order mark wins, then the pattern of zero bytes of UTF-16, then the declaration; a
    declaration of UTF-16 over single bytes is taken as UTF-8. Bytes that do not fit are replaced:
    voltages are plain ASCII, only free text can suffer. Zeros after the end, with which some
    programs fill a block, are dropped. An unknown encoding is refused as `unreadable`.
    """
    return _decoded(data).rstrip("\0")


def _decoded(data: bytes) -> str:
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
            f"XML declares an encoding that is not known ({described(declared)}); "
            "expected for example UTF-8 or ISO-8859-1",
        ) from error


def root_name(data: bytes) -> str | None:
    """Return the local name of the root element of an XML document, or None for anything else.

    Looks only at the beginning, up to the first start tag: a truncated document has a root too.
    """
    head = data[:_HEAD_BYTES]
    if b"<" not in head:
        return None
    try:
        text = decode_xml(head)
    except EcgRejected:
        text = head.decode("latin-1")
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
        text = decode_xml(data)
        declaration = _DECLARATION.match(text)
        root = _parse(text[declaration.end() if declaration else 0 :].encode("utf-8", "replace"))
    except DefusedXmlException as error:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            "XML defines entities or refers to external ones, which is never followed; "
            "expected a device export without them",
        ) from error
    except ParseError as error:
        raise _parse_failure(error) from error
    for element in root.iter():
        if "}" in element.tag:
            element.tag = element.tag.rpartition("}")[2]
    return root


def parse_repairable_xml(data: bytes, waveform_tags: frozenset[str]) -> tuple[Element, bool]:
    """Parse an XML document, with its free text repaired where that alone is malformed.

    Devices write statements such as `ST & T abnormality`, `QTc < 440 ms` and control characters as
    they are. Outside the waveform elements a stray `&` or `<` is escaped and a forbidden character
    becomes a blank; a waveform element is passed on as it stands, so that no sample can change.

    Returns the root, and True when the text was repaired; what cannot be repaired is rejected as
    `parse_xml` rejects it. `waveform_tags` names the elements that hold the signal, without a
    namespace.
    """
    try:
        return parse_xml(data), False
    except EcgRejected as rejected:
        if not isinstance(rejected.__cause__, ParseError):
            raise
        repaired = _repaired(decode_xml(data), waveform_tags)
        if repaired is None:
            raise
        try:
            return parse_xml(codecs.BOM_UTF8 + repaired.encode("utf-8", "replace")), True
        except EcgRejected:
            raise rejected from None


def _repaired(text: str, waveform_tags: frozenset[str]) -> str | None:
    """Return the text with what is malformed outside the waveform repaired; None if it cannot be.

    The text is read once from its start, and each kind of end is looked for until it is missing
    once: the time is proportional to the length.
    """
    n_marks = text.count("<") + text.count("&")
    if n_marks > _MOST_MARKS or len(text) > _LONGEST_REPAIRED:
        return None
    names = set(_NAME_OF_START_TAG.findall(text)) & set(_NAME_OF_END_TAG.findall(text))
    parts: list[str] = []
    position = 0
    while (mark := text.find("<", position)) >= 0:
        parts.append(_escaped(text[position:mark]))
        end = _end_of_block(text, mark, waveform_tags)
        if end is None:
            return None
        tag = _TAG.match(text, mark)
        if end > mark:
            position = end
            block = text[mark:end]
            is_element = block[1] not in "!?"
            parts.append(block if is_element else _FORBIDDEN.sub(" ", block))
        elif tag is not None and (tag[1] in names or tag[0].endswith("/>")):
            position = tag.end()
            parts.append(_escaped(tag[0]))
        else:
            position = mark + 1
            parts.append("&lt;")
    return "".join([*parts, _escaped(text[position:])])


def _end_of_block(text: str, mark: int, waveform_tags: frozenset[str]) -> int | None:
    """Return where a block ends in which nothing is escaped; None when it does not end.

    Blocks are waveform elements, comments, CDATA sections, instructions and the DOCTYPE. Where none
    begins at `mark`, `mark` is returned.
    """
    for start, end in _BLOCKS:
        if text.startswith(start, mark):
            found = text.find(end, mark)
            return None if found < 0 else found + len(end)
    tag = _TAG.match(text, mark)
    if tag is None or tag[0].startswith("</") or tag[0].endswith("/>"):
        return mark
    if tag[1].rpartition(":")[2] not in waveform_tags:
        return mark
    closed = re.compile(rf"</{re.escape(tag[1])}\s*>").search(text, mark)
    return None if closed is None else closed.end()


def _escaped(text: str) -> str:
    return _FORBIDDEN.sub(" ", _STRAY_AMPERSAND.sub("&amp;", text))


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
            RejectReason.TRUNCATED, f"XML ends at line {line} before its root element does; copy the file again"
        )
    return EcgRejected(
        RejectReason.UNREADABLE,
        f"XML is malformed at line {line}, column {error.position[1]} (expat error {error.code})",
    )


def text_of(element: Element | None, path: str) -> str | None:
    """Return the stripped text at `path` below `element`; None when absent or blank."""
    found = None if element is None else element.find(path)
    return None if found is None else (found.text or "").strip() or None


def number_of(element: Element | None, path: str) -> float | None:
    """Return the number at `path` below `element`; None when absent, blank or not finite."""
    return number_in(text_of(element, path) or "")


def number_in(text: str) -> float | None:
    """Return the number that a text is; None when it is none, or not finite.

    A decimal comma is read (`4,88`), except where it could part thousands (`5,000`).
    """
    return _number(text.strip())


def _number(text: str) -> float | None:
    return finite_number(text.replace(",", ".") if _DECIMAL_COMMA.fullmatch(text) else text)


def attribute_of(element: Element, path: str, name: str) -> str | None:
    """Return the stripped attribute `name` of the element at `path`; None when absent or blank."""
    found = element.find(path)
    return None if found is None else found.get(name, "").strip() or None


def attribute_number_of(element: Element, path: str, name: str) -> float | None:
    """Return the number in an attribute as `number_of` reads it; None when there is none."""
    return _number(attribute_of(element, path, name) or "")


def whole_number_of(element: Element | None, path: str) -> int | None:
    """Return the whole number at `path` below `element`; None when there is none."""
    value = number_of(element, path)
    return int(value) if value is not None and value == int(value) else None


def mentions_poor_quality(element: Element, tags: frozenset[str]) -> bool:
    """Return True when a text in an element named in `tags` says 'poor data quality'."""
    return any(
        "poor data quality" in " ".join((found.text or "").lower().split())
        for found in element.iter()
        if found.tag in tags
    )
