"""Figures as SVG inside a page: names of their own, no style sheet, nothing fetched."""

from __future__ import annotations

import re
from typing import Final
from xml.etree import ElementTree

from matplotlib.figure import Figure

from analysis.report.figures import svg_bytes

_SVG: Final = "{http://www.w3.org/2000/svg}"
_XLINK_HREF: Final = "{http://www.w3.org/1999/xlink}href"
_URL: Final = re.compile(r"url\(#([^)]+)\)")
_DROPPED: Final = frozenset({f"{_SVG}metadata", f"{_SVG}style"})
_PX_PER_INCH: Final = 96


def inline_svg(canvas: Figure, prefix: str, alt: str) -> str:
    """Return a figure as an `<svg>` element for a page.

    Args:
        canvas: the figure.
        prefix: put before every id, so that several figures do not share one.
        alt: what there is to see; the accessible name.

    Returns:
        The element; comments and metadata (which repeat its texts) are left out.
    """
    # The file is matplotlib's own, made two lines above: no foreign XML is read here.
    root = ElementTree.fromstring(svg_bytes(canvas))
    for parent in root.iter():
        for child in [child for child in parent if child.tag in _DROPPED]:
            parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        element.attrib = {
            "href" if name == _XLINK_HREF else name: _renamed(name, value, prefix)
            for name, value in element.attrib.items()
        }
    width, height = (round(_PX_PER_INCH * inches) for inches in canvas.get_size_inches())
    # A style sheet inside an SVG holds for the whole page; matplotlib's two rules are given here.
    root.attrib |= {
        "width": str(width),
        "height": str(height),
        "role": "img",
        "aria-label": alt,
        "style": "stroke-linejoin: round; stroke-linecap: butt",
    }
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _renamed(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return f"{prefix}-{value}"
    if name in ("href", _XLINK_HREF) and value.startswith("#"):
        return f"#{prefix}-{value[1:]}"
    return _URL.sub(rf"url(#{prefix}-\1)", value)
