"""Atomic writing on a local disk: whole or not at all, whatever fails and whoever is at it too."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from beam_jobs.reading.storage import Storage, StorageDenied
from lvm_core.errors import LvmError

STORAGE = Storage()
OLD, NEW = b"old content", b"new content, longer than the old one"

# A process that dies inside a write: it ends where the bytes are in its temporary file.
_DIES = """
import os, sys
from types import SimpleNamespace
from beam_jobs.reading.storage import Storage
node = sys.argv[2]
if node:
    os.uname = lambda: SimpleNamespace(nodename=node)
os.fsync = lambda descriptor: os._exit(9)
Storage().write_atomic(sys.argv[1], b"half")
"""


def _die_while_writing(target: Path, node: str = "") -> Path:
    """Let another process die while it writes `target`; return the temporary file it left."""
    before = set(target.parent.iterdir())
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-c", _DIES, str(target), node]
    assert subprocess.run(command, cwd=root, check=False).returncode == 9
    (left,) = set(target.parent.iterdir()) - before
    return left


def _disk_full(*args: object, **kwargs: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_write_atomic__writes_and_replaces(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "f"
    for content in (OLD, NEW, b""):
        STORAGE.write_atomic(str(target), content)
        assert target.read_bytes() == content
    assert os.listdir(target.parent) == ["f"]


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
@pytest.mark.parametrize("there", [True, False])
def test_write_atomic__failure_leaves_the_old_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, there: bool
) -> None:
    target = tmp_path / "f"
    if there:
        target.write_bytes(OLD)
    monkeypatch.setattr(step, _disk_full)
    with pytest.raises(LvmError, match=r"writing .*f: No space left on device"):
        STORAGE.write_atomic(str(target), NEW)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == ({"f": OLD} if there else {})


def test_write_atomic__final_name_never_shows_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "f"
    target.write_bytes(OLD)
    seen: list[bytes] = []
    sync = os.fsync

    def look(descriptor: int) -> None:
        seen.append(target.read_bytes())
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    STORAGE.write_atomic(str(target), NEW)
    # Once for the bytes, before the rename, and once for the folder, after it.
    assert seen == [OLD, NEW]


def test_write_atomic__temporary_file_is_no_parquet_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: names.extend(os.listdir(tmp_path)))
    STORAGE.write_atomic(f"{tmp_path}/part.parquet", NEW)
    temporary = names[0]
    assert temporary.startswith(".")
    assert not temporary.endswith(".parquet")


def test_write_atomic__private_file_is_the_owners_alone(tmp_path: Path) -> None:
    STORAGE.write_atomic(f"{tmp_path}/f", NEW, private=True)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o600


def test_write_atomic__private_file_was_never_readable_by_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []

    def look(descriptor: int) -> None:
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))

    monkeypatch.setattr(os, "fsync", look)
    STORAGE.write_atomic(f"{tmp_path}/f", NEW, private=True)
    assert modes[0] == 0o600


def test_write_atomic__follows_the_umask_otherwise(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        STORAGE.write_atomic(f"{tmp_path}/f", NEW)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o640


def test_write_atomic__denied_folder_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []

    def denied(descriptor: int) -> None:
        tries.append(descriptor)
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "fsync", denied)
    with pytest.raises(StorageDenied, match="Check permissions"):
        STORAGE.write_atomic(f"{tmp_path}/f", NEW)
    assert len(tries) == 1


# What a dead process leaves


def test_dead_process__leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    left = _die_while_writing(tmp_path / "f.parquet")
    assert not (tmp_path / "f.parquet").exists()
    assert left.name.startswith(".")


def test_sweep_orphans__deletes_what_a_dead_process_left(tmp_path: Path) -> None:
    left = _die_while_writing(tmp_path / "f")
    (tmp_path / ".profile").write_bytes(b"not ours")
    (tmp_path / "result").write_bytes(b"not a temporary file")
    assert STORAGE.sweep_orphans(str(tmp_path)) == 1
    assert not left.exists()
    assert sorted(os.listdir(tmp_path)) == [".profile", "result"]


def test_sweep_orphans__young_file_of_another_node_is_kept(tmp_path: Path) -> None:
    left = _die_while_writing(tmp_path / "f", node="another-node")
    assert STORAGE.sweep_orphans(str(tmp_path)) == 0
    assert left.exists()


def test_sweep_orphans__old_file_of_another_node_is_deleted(tmp_path: Path) -> None:
    left = _die_while_writing(tmp_path / "f", node="another-node")
    os.utime(left, (0, 0))
    assert STORAGE.sweep_orphans(str(tmp_path)) == 1


@pytest.mark.parametrize(("age_s", "n_swept"), [(30, 0), (90, 1)])
def test_sweep_orphans__file_of_another_node_beside_the_finished_file(
    tmp_path: Path, age_s: float, n_swept: int
) -> None:
    left = _die_while_writing(tmp_path / "f.parquet", node="another-node")
    (tmp_path / "f.parquet").write_bytes(NEW)
    os.utime(left, (time.time() - age_s,) * 2)
    assert STORAGE.sweep_orphans(str(tmp_path)) == n_swept
    assert (tmp_path / "f.parquet").read_bytes() == NEW


def test_sweep_orphans__folder_that_is_not_there_is_clean(tmp_path: Path) -> None:
    assert STORAGE.sweep_orphans(f"{tmp_path}/absent") == 0


@pytest.mark.parametrize("age_s", [0, 2 * 3600])
def test_sweep_orphans__file_of_a_living_process_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age_s: float
) -> None:
    writing, go_on = threading.Event(), threading.Event()
    sync = os.fsync

    def slow_disk(descriptor: int) -> None:
        if not go_on.is_set():
            status = os.fstat(descriptor)
            os.utime(descriptor, (status.st_atime - age_s, status.st_mtime - age_s))
            writing.set()
            go_on.wait(10)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", slow_disk)
    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(STORAGE.write_atomic, f"{tmp_path}/f", NEW)
        assert writing.wait(10)
        swept = STORAGE.sweep_orphans(str(tmp_path))
        go_on.set()
        written.result()
    assert swept == 0
    assert (tmp_path / "f").read_bytes() == NEW


# Two at once


def test_create_exclusive__second_one_changes_nothing(tmp_path: Path) -> None:
    assert STORAGE.create_exclusive(f"{tmp_path}/f", lambda: [OLD])
    assert not STORAGE.create_exclusive(f"{tmp_path}/f", lambda: [NEW[:2], NEW[2:]])
    assert (tmp_path / "f").read_bytes() == OLD
    assert os.listdir(tmp_path) == ["f"]


def test_create_exclusive__of_many_processes_one_makes_the_file(tmp_path: Path) -> None:
    code = (
        "import sys; from beam_jobs.reading.storage import Storage\n"
        "sys.stdin.readline()\n"
        "print(Storage().create_exclusive(sys.argv[1], lambda: [sys.argv[2].encode()]))"
    )
    root = Path(__file__).resolve().parents[3]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, f"{tmp_path}/f", name],
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two", "three")
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate()[0].strip() for process in processes]
    assert sorted(answers) == ["False", "False", "True"]
    winner = ("one", "two", "three")[answers.index("True")]
    assert (tmp_path / "f").read_text() == winner


def _two_threads_meet_in_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first fsync of each of two threads wait for the other's."""
    meeting = threading.Barrier(2)
    met = threading.local()
    sync = os.fsync

    def wait(descriptor: int) -> None:
        sync(descriptor)
        if not getattr(met, "done", False):
            met.done = True
            meeting.wait(10)

    monkeypatch.setattr(os, "fsync", wait)


def test_create_exclusive__of_two_threads_one_makes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _two_threads_meet_in_fsync(monkeypatch)
    with ThreadPoolExecutor(2) as pool:
        made = [pool.submit(STORAGE.create_exclusive, f"{tmp_path}/f", lambda data=data: [data]) for data in (OLD, NEW)]
    answers = [future.result() for future in made]
    assert sorted(answers) == [False, True]
    assert (tmp_path / "f").read_bytes() == (OLD if answers[0] else NEW)


def test_write_atomic__two_threads_write_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _two_threads_meet_in_fsync(monkeypatch)
    with ThreadPoolExecutor(2) as pool:
        written = [pool.submit(STORAGE.write_atomic, f"{tmp_path}/f", NEW) for _ in range(2)]
    for future in written:
        future.result()
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"f": NEW}


def test_create_exclusive__file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(source: object, target: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "link", no_links)
    assert STORAGE.create_exclusive(f"{tmp_path}/f", lambda: [OLD])
    assert not STORAGE.create_exclusive(f"{tmp_path}/f", lambda: [NEW[:2], NEW[2:]])
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"f": OLD}


def test_create_exclusive__failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", _disk_full)
    with pytest.raises(LvmError, match="No space left on device"):
        STORAGE.create_exclusive(f"{tmp_path}/f", lambda: [OLD])
    assert list(tmp_path.iterdir()) == []
