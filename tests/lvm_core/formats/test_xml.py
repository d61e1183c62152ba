from __future__ import annotations

import codecs
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.formats.xml import (
    MAX_ITEMS,
    MAX_TAG_BYTES,
    decode_xml,
    mentions_poor_quality,
    number_of,
    parse_repairable_xml,
    parse_xml,
    root_name,
    text_of,
    whole_number_of,
)
from tests.lvm_core.formats.helpers import assert_rejected

BODY = "<r><name>Säyn\u00e4</name></r>"


@pytest.mark.parametrize(
    "data",
    [
        f'<?xml version="1.0" encoding="ISO-8859-1"?>{BODY}'.encode("latin-1"),
        f'<?xml version="1.0" encoding="ISO8859-1"?>{BODY}'.encode("latin-1"),
        f'<?xml version="1.0" encoding="windows-1252"?>{BODY}'.encode("cp1252"),
        f"<?xml version='1.0' encoding='utf-8'?>{BODY}".encode(),
        BODY.encode(),
        codecs.BOM_UTF8 + BODY.encode(),
        codecs.BOM_UTF8 + f'<?xml version="1.0" encoding="ISO-8859-1"?>{BODY}'.encode(),
        f'<?xml version="1.0" encoding="UTF-16"?>{BODY}'.encode("utf-16"),
        f'<?xml version="1.0" encoding="UTF-8"?>{BODY}'.encode("utf-16"),
        BODY.encode("utf-16"),
        codecs.BOM_UTF16_BE + BODY.encode("utf-16-be"),
        BODY.encode("utf-16-le"),
        BODY.encode("utf-16-be"),
        f'<?xml version="1.0" encoding="UTF-16"?>{BODY}'.encode(),
        f'\n <?xml version="1.0" encoding="UTF-8"?>\n{BODY}'.encode(),
    ],
)
def test_parse_xml__every_encoding_gives_the_same_text(data: bytes) -> None:
    assert text_of(parse_xml(data), "name") == "Säynä"


def test_parse_xml__bytes_that_do_not_fit_spoil_only_their_text() -> None:
    root = parse_xml(b"<r><name>S\xe4yn\xe4</name><v>1,2</v></r>")
    assert text_of(root, "name") == "S\ufffdyn\ufffd"
    assert text_of(root, "v") == "1,2"


@pytest.mark.parametrize("encoding", ["no-such-encoding", "hex", "undefined", "punycode", "idna", "unicode_escape"])
def test_decode_xml__unknown_encoding_is_unreadable(encoding: str) -> None:
    data = f'<?xml version="1.0" encoding="{encoding}"?><r/>'.encode()
    assert_rejected(
        lambda: decode_xml(data),
        RejectReason.UNREADABLE,
        f"XML declares an encoding that is not known \\(a text of {len(encoding)} characters\\)",
    )


def test_parse_xml__doctype_alone_is_accepted() -> None:
    assert parse_xml(b'<!DOCTYPE RestingECG SYSTEM "restecg.dtd"><RestingECG/>').tag == "RestingECG"


@pytest.mark.parametrize(
    "doctype",
    [
        '<!DOCTYPE r [<!ENTITY a "aaaa">]>',
        '<!DOCTYPE r [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>',
        '<!DOCTYPE r [<!ENTITY a SYSTEM "file:///etc/hostname">]>',
        '<!DOCTYPE r [<!ENTITY % a SYSTEM "http://127.0.0.1/x.dtd"> %a;]>',
    ],
)
def test_parse_xml__entities_are_refused(doctype: str) -> None:
    assert_rejected(
        lambda: parse_xml(f"{doctype}<r>&a;</r>".encode()),
        RejectReason.UNREADABLE,
        "XML defines entities or refers to external ones",
    )


def test_parse_xml__undefined_entity_is_unreadable() -> None:
    data = b'<!DOCTYPE r SYSTEM "r.dtd"><r>&secret;</r>'
    assert_rejected(lambda: parse_xml(data), RejectReason.UNREADABLE, "malformed at line 1")


@pytest.mark.parametrize("kept", [4, 8, 20, 60, 75])
def test_parse_xml__cut_document_is_truncated(kept: int) -> None:
    whole = b"<root>\n<a>" + b"1," * 20 + b"</a><b x='1'>z</b><![CDATA[xx]]></root>"
    assert len(whole) > 75
    assert_rejected(lambda: parse_xml(whole[:kept]), RejectReason.TRUNCATED, "XML ends at line . before its")


@pytest.mark.parametrize("data", [b"<r><a></b></r>", b"<r a=1/>", b"<r/><s/>", b"<r>\x01</r>", b"<x:r/>"])
def test_parse_xml__malformed_document_is_unreadable(data: bytes) -> None:
    assert_rejected(
        lambda: parse_xml(data), RejectReason.UNREADABLE, r"XML is malformed at line 1, column \d+ \(expat error \d+\)"
    )


def test_parse_xml__namespaces_are_dropped() -> None:
    root = parse_xml(b'<q:r xmlns:q="urn:q" xmlns="urn:d"><a><q:b>7</q:b></a></q:r>')
    assert root.tag == "r"
    assert text_of(root, "a/b") == "7"


@pytest.mark.parametrize(
    ("body", "good"),
    [
        ("<a/>" * (MAX_ITEMS - 1), True),
        ("<a/>" * MAX_ITEMS, False),
        ("<a b='1'/>" * (MAX_ITEMS // 2 - 1), True),
        ("<a b='1'/>" * (MAX_ITEMS // 2), False),
        ("<a>" * (MAX_ITEMS + 1), False),  # never closed: the limit comes before the end
    ],
    ids=["elements", "too-many-elements", "attributes", "too-many-attributes", "deep"],
)
def test_parse_xml__number_of_elements_and_attributes_is_limited(body: str, good: bool) -> None:
    data = f"<r>{body}</r>".encode()
    if good:
        assert len(parse_xml(data)) > 0
    else:
        wanted = "more than 50000 elements and attributes"
        assert_rejected(lambda: parse_xml(data), RejectReason.UNREADABLE, wanted)


def test_parse_xml__stops_early_in_a_document_of_millions_of_elements() -> None:
    data = b"<r>" + b"<a/>" * 5_000_000  # 20 MB; parsed whole it takes seconds and over 1 GB
    tracemalloc.start()
    try:
        assert_rejected(lambda: parse_xml(data), RejectReason.UNREADABLE, "more than 50000")
        peak_mb = tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()
    # Two or three copies of the document, and 50,000 elements.
    assert peak_mb < 100


@pytest.mark.parametrize("start", ["<r ", "<r><!-- ", "<r><?pi "], ids=["start-tag", "comment", "instruction"])
def test_parse_xml__one_tag_of_megabytes_is_refused(start: str) -> None:
    data = start.encode() + b"x" * (MAX_TAG_BYTES + 200_000)
    wanted = "XML has a tag or comment of more than 1000000 bytes"
    assert_rejected(lambda: parse_xml(data), RejectReason.UNREADABLE, wanted)


@pytest.mark.parametrize("body", ["{}", "<![CDATA[{}]]>"], ids=["text", "cdata"])
def test_parse_xml__long_texts_are_read_whole(body: str) -> None:
    samples = ",".join(str(i) for i in range(400_000))
    root = parse_xml(f"<r><v>{body.format(samples)}</v></r>".encode())
    assert text_of(root, "v") == samples


def test_parse_xml__no_depth_hurts() -> None:
    depth = 5000
    deep = parse_xml(b"<a>" * depth + b"</a>" * depth)
    assert sum(1 for _ in deep.iter()) == depth


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<?xml version='1.0'?><r/>", "r"),
        ("<!-- <s/> --><?pi x?>\n<!DOCTYPE r SYSTEM 'r.dtd'><n:r a='1'>", "r"),
        ("<!DOCTYPE r [ <!ENTITY a '<s>'> ]> <r>", "r"),
        ("<!-- never closed <r>", None),
        ("plain <r>", None),
        ("<r", None),
        ("", None),
    ],
)
def test_root_name__looks_past_the_prolog(text: str, expected: str | None) -> None:
    assert root_name(text.encode()) == expected


def test_text_and_numbers__absent_blank_and_wrong_are_none() -> None:
    root = parse_xml(b"<r><a> 2.5 </a><b> </b><c>x</c><d>nan</d><e>3.0</e><f>1e999</f></r>")
    assert text_of(root, "a") == "2.5"
    assert [text_of(root, tag) for tag in ("b", "z")] == [None, None]
    assert text_of(None, "a") is None
    assert number_of(root, "a") == 2.5
    assert [number_of(root, tag) for tag in ("b", "c", "d", "f", "z")] == [None] * 5
    assert whole_number_of(root, "e") == 3
    assert [whole_number_of(root, tag) for tag in ("a", "c")] == [None, None]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4,88", 4.88),
        ("0,005", 0.005),
        ("-1,5", -1.5),
        ("1,0000", 1.0),
        ("5,000", None),
        ("1,5,2", None),
        ("1.000,5", None),
        ("4_88", None),
    ],
)
def test_number_of__decimal_comma_where_it_cannot_part_thousands(text: str, value: float | None) -> None:
    assert number_of(parse_xml(f"<r><a>{text}</a></r>".encode()), "a") == value


KEPT = frozenset({"W"})


def _repaired(body: str) -> dict[str, str]:
    root, repaired = parse_repairable_xml(body.encode(), KEPT)
    assert repaired
    return {element.tag: element.text or "" for element in root.iter()}


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("ST & T", "ST & T"),
        ("a &amp; b & c &#228; &#x41;", "a & b & c \u00e4 A"),
        ("QTc < 440", "QTc < 440"),
        ("a <b> c", "a <b> c"),
        ("a </b> c", "a </b> c"),
        ("<", "<"),
        ("a\x1fb\x00\ufffe", "a b  "),
        ("&#31;&nbsp;", "&#31;&nbsp;"),
        ("<![CDATA[ & \x01]]>&", " &  &"),
        ("<!-- & \x01 <W> -->&", "&"),
        ("<?p & ?>&", "&"),
    ],
)
def test_parse_repairable_xml__text_outside_the_waveform(text: str, read: str) -> None:
    found = _repaired(f"<r a='x & y'><s>{text}</s><W>1,2</W><e/></r>")
    assert found == {"r": "", "s": read, "W": "1,2", "e": ""}


def test_parse_repairable_xml__attributes_and_namespaces() -> None:
    body = '<?xml version="1.0" encoding="ISO-8859-1"?><q:r xmlns:q="u" a="x & y"><q:W>1</q:W></q:r>'
    root, repaired = parse_repairable_xml(body.encode(), KEPT)
    assert repaired
    assert (root.get("a"), text_of(root, "W")) == ("x & y", "1")


def test_parse_repairable_xml__intact_document_is_not_touched() -> None:
    root, repaired = parse_repairable_xml(b"<r>&lt;<W>1</W></r>", KEPT)
    assert (root.text, repaired) == ("<", False)


@pytest.mark.parametrize(
    "body",
    [
        "<r>&<W>1 & 2</W></r>",
        "<r>&<W>1\x012</W></r>",
        "<r>&<W>1 < 2</W></r>",
        "<r>&<W>1",
        "<r>& <!-- <W>1</W></r>",
        "<r>& <![CDATA[ <W>1</W></r>",
        "<r>&<a></r></a>",
        '<!DOCTYPE r [<!ENTITY a "b"><!ENTITY c "d">]><r>&</r>',
        "<r>" + "&" * 100_001 + "</r>",
        "<r>&" + "<a/>" * 100_001 + "</r>",
        "<r>&" + "a" * 16_000_001 + "</r>",
    ],
    ids=lambda body: body[:30],
)
def test_parse_repairable_xml__what_cannot_be_repaired_is_rejected_as_found(body: str) -> None:
    with pytest.raises(EcgRejected) as first:
        parse_xml(body.encode())
    with pytest.raises(EcgRejected) as second:
        parse_repairable_xml(body.encode(), KEPT)
    assert (second.value.reason, second.value.message) == (first.value.reason, first.value.message)


def test_parse_repairable_xml__entities_are_refused_at_once() -> None:
    body = b'<!DOCTYPE r [<!ENTITY a "aaaa">]><r>&a;</r>'
    assert_rejected(lambda: parse_repairable_xml(body, KEPT), RejectReason.UNREADABLE, "XML defines entities")


@given(st.text(st.sampled_from("<>&;/W!-[]?ab \x01\"'="), max_size=30))
def test_parse_repairable_xml__waveform_is_never_changed(text: str) -> None:
    """Whatever stands beside it, the signal comes out as it is in the file, or not at all."""
    body = f"<r><s>{text}</s><W>1,2,3</W></r>"
    try:
        root, _ = parse_repairable_xml(body.encode(), KEPT)
    except EcgRejected:
        return
    assert "1,2,3" in [element.text for element in root.iter() if element.tag == "W"]


def test_mentions_poor_quality__only_in_the_named_elements() -> None:
    root = parse_xml(b"<r><D>x</D><D>*** POOR  data\nquality, check</D><E/></r>")
    assert mentions_poor_quality(root, frozenset({"D"}))
    assert not mentions_poor_quality(root, frozenset({"E"}))
