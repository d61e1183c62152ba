"""What tests of pictures share: the texts and lines of an SVG or PDF, read without matplotlib."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

_SVG = "{http://www.w3.org/2000/svg}"
POINTS_PER_MM = 72 / 25.4
PAGE_MM = (297.0, 210.0)


def svg_texts(path: Path) -> list[str]:
    """Return the texts of an SVG; outlines have theirs in comments."""
    return [text.strip() for text in re.findall(r"<!--(.*?)-->", path.read_text(encoding="utf-8"), re.DOTALL)]


def svg_line_mm(path: Path, name: str) -> NDArray[np.float64]:
    """Return the points of a line of an SVG by its id, (n, 2) millimetres from the lower left."""
    (group,) = [g for g in ElementTree.parse(path).getroot().iter(f"{_SVG}g") if g.get("id") == name]
    (drawn,) = group.findall(f"{_SVG}path")
    numbers = re.findall(r"[ML] (-?[\d.]+) (-?[\d.]+)", str(drawn.get("d")))
    points = np.array(numbers, dtype=np.float64) / POINTS_PER_MM
    points[:, 1] = PAGE_MM[1] - points[:, 1]
    return points


def pdf_pages(path: Path) -> list[list[str]]:
    """Return the texts of each page of a PDF, in the order in which they were drawn."""
    data = path.read_bytes()
    pages = []
    for match in re.finditer(rb"stream\r?\n(.*?)\r?\nendstream", data, re.DOTALL):
        try:
            content = zlib.decompress(match[1])
        except zlib.error:
            continue
        if b" Tf" in content:
            pages.append([_shown(block) for block in re.findall(rb"BT\n(.*?)ET", content, re.DOTALL)])
    return pages


def _shown(block: bytes) -> str:
    """Return the text of a text object: its strings, without the distances between letters."""
    parts = re.findall(rb"\(((?:\\.|[^\\)])*)\)", block, re.DOTALL)
    return re.sub(rb"\\(.)", rb"\1", b"".join(parts)).decode("latin-1")


def page_sizes_mm(path: Path) -> list[tuple[float, float]]:
    """Return width and height of each page of a PDF, millimetres."""
    boxes = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", path.read_bytes())
    return [(float(width) / POINTS_PER_MM, float(height) / POINTS_PER_MM) for width, height in boxes]
