"""Very many device files, of which few are on the disk."""

from __future__ import annotations

import os
from pathlib import Path

from tests.file_builders import cardiosoft_xml, random_counts


def linked_files(folder: Path, n: int) -> Path:
    """Return a folder with n device files, a thousand of which are one file on the disk."""
    target, content = folder / f"files-{n}", cardiosoft_xml(random_counts())
    if not target.exists():
        for k in range(n):
            path = target / f"{k // 1000:03d}" / f"{k:06d}.xml"
            first = path.with_name(f"{k // 1000 * 1000:06d}.xml")
            path.parent.mkdir(parents=True, exist_ok=True)
            if path == first:
                path.write_bytes(content)
            else:
                os.link(first, path)  # not all to one: file systems have a limit
    return target
