"""Local files that are there whole or not at all, and the temporary files behind them."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from lvm_core.errors import UsageError


def walk(folder: Path) -> list[tuple[str, int]]:
    """List the files below a folder: (relative path, bytes), sorted.

    Links are followed, but not into a folder that is being listed already. A link that leads
    nowhere has -1 bytes, so that it is accounted for.

    Raises:
        UsageError: a name is not UTF-8.
    """
    found: list[tuple[str, int]] = []

    def visit(path: Path, prefix: str, above: frozenset[str]) -> None:
        real = os.path.realpath(path)
        if real in above:
            return
        for entry in os.scandir(path):
            relative = f"{prefix}{entry.name}"
            if not _is_utf8(entry.name):
                raise UsageError(f"file name {os.fsencode(relative)!r} is not UTF-8; rename it")
            if entry.is_dir():
                visit(Path(entry.path), f"{relative}/", above | {real})
            else:
                found.append((relative, _size(entry)))

    visit(folder, "", frozenset())
    return sorted(found)


def _is_utf8(name: str) -> bool:
    return not any("\udc80" <= character <= "\udcff" for character in name)


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except FileNotFoundError:
        return -1


def open_to_others(folder: Path) -> str | None:
    """Return what to say of a folder that others may look into; None where they may not."""
    if not folder.is_dir():
        return None
    mode = stat.S_IMODE(folder.stat().st_mode)
    if not mode & 0o077:
        return None
    return (
        f"{folder} was there before and others may look into it (mode {mode:04o}). What is written "
        f"now is for you alone; earlier files stay as they are. chmod -R go-rwx {folder} closes it"
    )


def sweep_orphans(folder: Path, *, older_than_s: float = 3600.0) -> int:
    """Delete temporary files that a killed process left in a folder; return how many.

    A temporary file of a process that still runs on this machine is kept, and so is a young one,
    which may belong to another node on a shared file system.
    """
    now, swept = time.time(), 0
    for path in folder.glob(".*.tmp") if folder.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):
            pid = _local_pid(path)
            old = now - path.stat().st_mtime > older_than_s
            if old if pid is None else not _alive(pid):
                path.unlink()
                swept += 1
    return swept


def _temporary(path: Path) -> Path:
    # The thread too: two of them may write the same bytes to the same name.
    tag = f"{_host_tag()}.{threading.get_ident()}.{os.getpid()}"
    return path.parent / f".{path.name}.{tag}.tmp"


def _host_tag() -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", os.uname().nodename)


def _local_pid(path: Path) -> int | None:
    """Return the process that a temporary file belongs to; None when of another machine."""
    parts = path.name.split(".")
    if len(parts) < 5 or parts[-4] != _host_tag() or not parts[-2].isdigit():
        return None
    return int(parts[-2])


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def _written_temporary(path: Path, data: bytes, *, private: bool = False) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    mode = 0o600 if private else 0o666
    try:
        with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes, *, private: bool) -> None:
    """Write a file that is there whole or not at all; `private`: for its owner only."""
    with _written_temporary(path, data, private=private) as temporary:
        temporary.replace(path)
    _sync_folder(path.parent)


def create_whole(path: Path, data: bytes) -> bool:
    """Write a whole file unless it is there; return whether this call made it."""
    with _written_temporary(path, data) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV):
                raise
            # A file system without hard links: nearly as good, a reader may see it half written.
            if path.exists():
                return False
            temporary.replace(path)
    _sync_folder(path.parent)
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
