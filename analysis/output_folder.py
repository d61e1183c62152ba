"""The folder that a command writes: it replaces only its own, and appears whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lvm_core.errors import UsageError


def refuse_foreign(folder: Path, mark: str | Path, what: str, *, overwrite: bool) -> None:
    """Refuse a folder that exists, unless it is to be replaced and `mark` in it shows whose it is.

    `what` says in messages what a folder with the mark is the output of.
    """
    if folder.exists() and not overwrite:
        raise UsageError(f"{folder} exists; choose another folder, or add --overwrite")
    if folder.exists() and not (folder / mark).exists():
        raise UsageError(f"{folder} is not the output of {what}; --overwrite leaves it alone")


@contextmanager
def appearing_whole(folder: Path) -> Iterator[Path]:
    """Give a new folder beside `folder` to write to, which takes its place if all goes well."""
    partial = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if folder.exists():
            shutil.rmtree(folder)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
