"""Local files: what is in a folder, and files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final


class FileKind(StrEnum):
    """What can lie below an input; all but `FILE` are counted and never opened."""

    FILE = "file"
    DEAD_LINK = "link that leads nowhere"
    REPEATED = "link to what is read anyway"
    SYMBOLIC_LINK = "symbolic link"
    PIPE = "named pipe"
    SOCKET = "socket"
    DEVICE = "device"
    FOLDER = "folder"


_KIND_OF_MODE: Final = {
    stat.S_IFREG: FileKind.FILE,
    stat.S_IFDIR: FileKind.FOLDER,
    stat.S_IFLNK: FileKind.SYMBOLIC_LINK,
    stat.S_IFIFO: FileKind.PIPE,
    stat.S_IFSOCK: FileKind.SOCKET,
}
_GLOB_VISITS: Final = 16


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry below a folder, not a folder itself."""

    relative: str  # path below the folder; bytes that are not UTF-8 are surrogate escapes
    size: int  # bytes; -1 for a link that leads nowhere
    kind: FileKind  # where the entry is a link, of its target
    real: str  # path without links; two paths of one file have the same
    linked: bool  # a link is on the way to it


def shown_path(path: str) -> str:
    r"""Return a path as tables and messages show it: a byte that is not UTF-8 is `\xfc`."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def kind_of_mode(mode: int) -> FileKind:
    """Return the kind that a file's mode states."""
    return _KIND_OF_MODE.get(stat.S_IFMT(mode), FileKind.DEVICE)


def kind_of(path: Path) -> FileKind:
    """Return the kind of what is at a path, links followed; `DEAD_LINK` where nothing is there."""
    return _look(path)[0]


def children(folder: Path) -> list[tuple[str, bool, float]]:
    """Return what is directly in a folder: name, whether it is a file, when it was written (s).

    Empty without a folder; a file that is deleted meanwhile is left out.
    """
    found = []
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(folder):
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat()
                found.append((_name(entry), stat.S_ISREG(status.st_mode), status.st_mtime_ns / 1e9))
    return found


def walk(folder: Path, *, for_glob: bool = False) -> list[Listed]:
    """List what is below a folder, sorted by relative path.

    Each real folder is listed once, by its path without links where it has one below `folder`; a
    further link to it is one entry of kind `REPEATED`. So links in a circle end. `for_glob` lists a
    folder under each name that a link gives it, up to 16: a pattern may fit only one of them.
    """
    found: list[Listed] = []
    visits: Counter[str] = Counter()
    waiting = deque([(str(folder), "", False)])
    while waiting:
        links: list[tuple[str, str, bool]] = []
        stack = [waiting.popleft()]
        while stack:
            path, prefix, linked = stack.pop()
            real = os.path.realpath(path)
            if visits[real] >= (_GLOB_VISITS if for_glob else 1):
                found.append(Listed(prefix.rstrip("/"), 0, FileKind.REPEATED, real, linked))
                continue
            visits[real] += 1
            for entry in os.scandir(path):
                relative = f"{prefix}{_name(entry)}"
                if entry.is_dir(follow_symlinks=False):
                    stack.append((entry.path, f"{relative}/", linked))
                    continue
                is_link = entry.is_symlink()
                kind, size = _look(entry)
                if kind is FileKind.FOLDER:
                    links.append((entry.path, f"{relative}/", True))
                    continue
                own = os.path.realpath(entry.path) if is_link else f"{real}/{entry.name}"
                found.append(Listed(relative, size, kind, own, linked or is_link))
        waiting.extend(sorted(links, key=lambda link: link[1]))
    return sorted(found, key=lambda listed: listed.relative)


def _name(entry: os.DirEntry[str]) -> str:
    return os.fsencode(entry.name).decode("utf-8", "surrogateescape")


def _look(path: Path | os.DirEntry[str]) -> tuple[FileKind, int]:
    try:
        status = path.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            return FileKind.DEAD_LINK, -1
        raise
    return kind_of_mode(status.st_mode), status.st_size


def open_to_others(folder: Path) -> str | None:
    """Return a warning about a folder that others may look into; None where they may not."""
    mode = stat.S_IMODE(folder.stat().st_mode) if folder.is_dir() else 0
    if not mode & 0o077:
        return None
    return (
        f"{folder} was there before and others may look into it (mode {mode:04o}). What is written "
        f"now is for you alone; earlier files stay as they are. chmod -R go-rwx {folder} closes it"
    )


# After this time a temporary file of another machine is taken as left by a killed process: soon,
# where the file that it was to become is there.
_OLD_S: Final = 3600.0
_OLD_BESIDE_ITS_FILE_S: Final = 60.0


def sweep_orphans(folder: Path) -> int:
    """Delete temporary files that a killed process left in a folder; return how many.

    A temporary file of a process that still runs on this machine is kept, and so is a young one,
    which may belong to another node on a shared file system.
    """
    now, swept = time.time(), 0
    for path in folder.glob(".*.tmp") if folder.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):
            pid = _local_pid(path)
            has_file = path.with_name(path.name[1:].rsplit(".", 4)[0]).exists()
            old = now - path.stat().st_mtime > (_OLD_BESIDE_ITS_FILE_S if has_file else _OLD_S)
            if old if pid is None else not _is_running(pid):
                path.unlink()
                swept += 1
    return swept


def _local_pid(path: Path) -> int | None:
    """Return the process that a temporary file belongs to; None for one of another machine."""
    parts = path.name.split(".")
    is_ours = len(parts) >= 5 and parts[-4] == _host_tag() and parts[-2].isdigit()
    return int(parts[-2]) if is_ours else None


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # a process of another user
    return True


def _host_tag() -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", os.uname().nodename)


@contextlib.contextmanager
def _written_temporary(path: Path, parts: Iterable[bytes], *, private: bool = False) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    # The thread is named too: two of them may write the same bytes to the same name.
    temporary = path.parent / f".{path.name}.{_host_tag()}.{threading.get_ident()}.{os.getpid()}.tmp"
    mode = 0o600 if private else 0o666
    try:
        with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as stream:
            stream.writelines(parts)
            stream.flush()
            os.fsync(stream.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes, *, private: bool) -> None:
    """Write a file that is there whole or not at all; `private`: for its owner only."""
    with _written_temporary(path, [data], private=private) as temporary:
        temporary.replace(path)
    _sync_folder(path.parent)


def create_whole(path: Path, parts: Iterable[bytes], *, private: bool = False) -> bool:
    """Write a whole file, of parts, unless it is there; return whether this call made it."""
    with _written_temporary(path, parts, private=private) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV):
                raise
            # A file system without hard links: two processes may still both write the file.
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
