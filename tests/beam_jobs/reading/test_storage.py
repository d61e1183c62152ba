"""Retries, reading anywhere in a file, listing and globs, on a local disk."""

from __future__ import annotations

import errno
import io
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import fs

from beam_jobs.reading import storage as storage_module
from beam_jobs.reading.storage import (
    MAX_PAUSE_S,
    FileMissing,
    Storage,
    StorageDenied,
    StorageFault,
    classify,
    join,
    store_scheme,
    with_retries,
)
from lvm_core.errors import LvmError, UsageError

STORAGE = Storage()
PASSING = (
    OSError(errno.EIO, "Input/output error"),
    OSError(errno.ESTALE, "Stale file handle"),
    OSError(errno.ETIMEDOUT, "timed out"),
    ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    ConnectionResetError(),
    OSError("AWS Error SLOW_DOWN during GetObject operation: please reduce your request rate"),
    OSError("google::cloud::Status(UNAVAILABLE: Connection reset by peer)"),
)
DENIED = (
    PermissionError(errno.EACCES, "Permission denied"),
    PermissionError(errno.EPERM, "Operation not permitted"),
    OSError("AWS Error ACCESS_DENIED during PutObject operation: Access Denied"),
    OSError("google::cloud::Status(PERMISSION_DENIED: no storage.objects.get access)"),
    OSError("When reading information for key: HTTP status 403"),
    OSError("AWS Error UNKNOWN (HTTP status 401)"),
)
MISSING = (
    FileNotFoundError(errno.ENOENT, "No such file or directory"),
    OSError("AWS Error NO_SUCH_BUCKET during ListObjectsV2 operation"),
    OSError("google::cloud::Status(NOT_FOUND: object not found)"),
)
OTHER = (OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EISDIR, "Is a directory"))


class Failing:
    """An operation that raises the given errors, one per call, and then answers."""

    def __init__(self, *errors: OSError) -> None:
        self.errors = list(errors)
        self.n_calls = 0

    def __call__(self) -> str:
        self.n_calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let storage retry without waiting; what it would have waited is in the list."""
    pauses: list[float] = []
    quick = partial(with_retries, sleep=pauses.append)
    monkeypatch.setattr(storage_module, "with_retries", quick)
    return pauses


# Retries


@pytest.mark.parametrize(
    ("errors", "kind"), [(PASSING, StorageFault), (DENIED, StorageDenied), (MISSING, FileMissing), (OTHER, LvmError)]
)
def test_classify__separates_passing_from_final_errors(errors: tuple[OSError, ...], kind: type[LvmError]) -> None:
    assert [classify(error) for error in errors] == [kind] * len(errors)


def test_classify__folder_where_a_file_should_be_is_final() -> None:
    # Arrow gives no errno: without it the text was taken for a fault of a network.
    with pytest.raises(OSError, match="is a directory") as caught:
        fs.LocalFileSystem().open_input_stream("/")
    assert classify(caught.value) is LvmError


@pytest.mark.parametrize("error", PASSING, ids=str)
def test_with_retries__passing_error_is_tried_again(error: OSError) -> None:
    operation = Failing(error, error)
    assert with_retries(operation, "reading x", sleep=lambda s: None) == "answer"
    assert operation.n_calls == 3


@pytest.mark.parametrize("error", [*DENIED, *MISSING, *OTHER], ids=str)
def test_with_retries__final_error_is_not_tried_again(error: OSError) -> None:
    operation = Failing(error)
    pauses: list[float] = []
    with pytest.raises(LvmError, match=r"^reading x: "):
        with_retries(operation, "reading x", sleep=pauses.append)
    assert (operation.n_calls, pauses) == (1, [])


def test_with_retries__gives_up_after_five_tries_and_says_how_to_resume() -> None:
    operation = Failing(*[OSError(errno.EIO, "Input/output error")] * 9)
    pauses: list[float] = []
    with pytest.raises(
        StorageFault, match=r"reading x failed 5 times, last with: Input/output error\. Run the same command"
    ):
        with_retries(operation, "reading x", sleep=pauses.append)
    assert operation.n_calls == 5
    assert len(pauses) == 4


def test_with_retries__fourth_failure_is_forgiven() -> None:
    operation = Failing(*[OSError(errno.EIO, "Input/output error")] * 4)
    assert with_retries(operation, "reading x", sleep=lambda s: None) == "answer"
    assert operation.n_calls == 5


def test_with_retries__pauses_grow_with_jitter_of_at_most_half() -> None:
    seen: list[list[float]] = []
    for _ in range(50):
        pauses: list[float] = []
        with_retries(Failing(*[ConnectionResetError()] * 4), "x", sleep=pauses.append)
        seen.append(pauses)
    for nominal_s, column in zip((1.0, 2.0, 4.0, 8.0), zip(*seen, strict=True), strict=True):
        assert all(nominal_s / 2 <= pause_s <= nominal_s for pause_s in column)
        assert len(set(column)) > 1


def test_with_retries__pauses_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_module, "MAX_TRIES", 20)
    pauses: list[float] = []
    with_retries(Failing(*[ConnectionResetError()] * 19), "x", sleep=pauses.append)
    assert max(pauses) <= MAX_PAUSE_S == 60.0
    assert pauses[-1] >= 30.0


def test_with_retries__denied_says_what_to_check() -> None:
    with pytest.raises(StorageDenied, match=r"access denied .*Check permissions and credentials"):
        with_retries(Failing(PermissionError(errno.EACCES, "Permission denied")), "writing y")


def test_with_retries__error_that_is_not_of_the_storage_passes() -> None:
    def broken() -> None:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        with_retries(broken, "reading x")


# Where things are


@pytest.mark.parametrize(
    ("uri", "scheme"), [("a/b", None), ("/a/b", None), ("file:///a", None), ("s3://b/k", "s3"), ("gs://b/k", "gs")]
)
def test_store_scheme__distinguishes_stores_from_paths(uri: str, scheme: str | None) -> None:
    assert store_scheme(uri) == scheme


def test_store_scheme__other_scheme_is_refused() -> None:
    with pytest.raises(UsageError, match=r"storage abfss:// is not known; expected a local path"):
        store_scheme("abfss://container/x")


@pytest.mark.parametrize("key", ["endpoint_override", "az.scheme", "s3.secret_key", "s3."])
def test_storage__unknown_option_is_refused(key: str) -> None:
    with pytest.raises(UsageError, match=f"--storage-option {re.escape(repr(key))} is not known"):
        Storage(((key, "x"),))


def test_storage__file_scheme_and_plain_path_are_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert STORAGE.read_bytes(f"file://{tmp_path}/a") == STORAGE.read_bytes(f"{tmp_path}/a")


def test_join__ignores_trailing_slashes() -> None:
    assert join("s3://b/k/", "x", "y") == "s3://b/k/x/y"


def test_storage__missing_file_is_named(tmp_path: Path) -> None:
    for operation in (STORAGE.read_bytes, STORAGE.open):
        with pytest.raises(FileMissing, match=r"nothing-here.*: no such file"):
            operation(f"{tmp_path}/nothing-here")


def test_storage__distinguishes_files_from_folders(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert (STORAGE.exists(str(tmp_path)), STORAGE.is_file(str(tmp_path))) == (True, False)
    assert (STORAGE.exists(f"{tmp_path}/f"), STORAGE.is_file(f"{tmp_path}/f")) == (True, True)
    assert not STORAGE.exists(f"{tmp_path}/g")


def test_storage__compressed_name_is_not_decompressed(tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(b"not gzip at all")
    assert STORAGE.read_bytes(f"{tmp_path}/x.gz") == b"not gzip at all"


def test_delete__nothing_there_is_no_error(tmp_path: Path) -> None:
    STORAGE.delete(f"{tmp_path}/nothing")
    STORAGE.delete_folder(f"{tmp_path}/nothing")


def test_delete__removes_file_and_folder(tmp_path: Path) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "e" / "f").write_bytes(b"")
    (tmp_path / "g").write_bytes(b"")
    STORAGE.delete(f"{tmp_path}/g")
    STORAGE.delete_folder(f"{tmp_path}/d")
    assert list(tmp_path.iterdir()) == []


def test_names__are_files_directly_in_the_folder(tmp_path: Path) -> None:
    for name in ("b", "a", ".c"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "deep").write_bytes(b"")
    assert STORAGE.names(str(tmp_path)) == [".c", "a", "b"]
    assert STORAGE.names(f"{tmp_path}/absent") == []
    assert set(STORAGE.modified_s(str(tmp_path))) == {".c", "a", "b"}
    assert STORAGE.modified_s(str(tmp_path))["a"] == pytest.approx((tmp_path / "a").stat().st_mtime, abs=1e-3)


# Reading anywhere in a file


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=300),
    steps=st.lists(
        st.tuples(st.sampled_from(["read", "readinto", "set", "cur", "end"]), st.integers(-40, 330)), max_size=25
    ),
)
def test_retrying_file__reads_as_a_plain_file(tmp_path: Path, data: bytes, steps: list[tuple[str, int]]) -> None:
    path = tmp_path / "data"
    path.write_bytes(data)
    plain = io.BytesIO(data)
    with STORAGE.open(str(path)) as ours:
        assert ours.size() == len(data)
        assert ours.readable()
        assert ours.seekable()
        for what, n in steps:
            if what == "read":
                assert ours.read(n) == plain.read(n)
            elif what == "readinto":
                mine, theirs = bytearray(max(0, n)), bytearray(max(0, n))
                assert ours.readinto(mine) == plain.readinto(theirs)
                assert mine == theirs
            else:
                target = {"set": 0, "cur": plain.tell(), "end": len(data)}[what] + n
                whence = {"set": io.SEEK_SET, "cur": io.SEEK_CUR, "end": io.SEEK_END}[what]
                assert ours.seek(n, whence) == plain.seek(max(0, target))
            assert ours.tell() == plain.tell()
        assert ours.read() == plain.read()


class _FlakyHandle:
    """A native file whose handle breaks at its first read, and stays broken."""

    def __init__(self, native: Any) -> None:
        self._native = native

    def size(self) -> int:
        return int(self._native.size())

    def read_at(self, size: int, position: int) -> bytes:
        raise OSError(errno.ESTALE, "Stale file handle")

    def close(self) -> None:
        self._native.close()


class _FlakySystem:
    """A file system of which the first `n_broken` handles are broken."""

    def __init__(self, n_broken: int) -> None:
        self.n_opened = 0
        self._n_broken = n_broken

    def open_input_file(self, path: str) -> Any:
        self.n_opened += 1
        native = storage_module.fs.LocalFileSystem().open_input_file(path)
        return _FlakyHandle(native) if self.n_opened <= self._n_broken else native


class _FlakyStorage(Storage):
    system: _FlakySystem

    def resolve(self, uri: str) -> Any:
        return self.system, uri


def _flaky(n_broken: int) -> _FlakyStorage:
    storage = _FlakyStorage()
    object.__setattr__(storage, "system", _FlakySystem(n_broken))
    return storage


def test_retrying_file__broken_handle_is_replaced(tmp_path: Path, no_pauses: list[float]) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    storage = _flaky(1)
    with storage.open(f"{tmp_path}/f") as stream:
        stream.seek(3)
        assert stream.read(4) == b"3456"
        assert stream.read() == b"789"
    assert storage.system.n_opened == 2
    assert len(no_pauses) == 1


def test_retrying_file__storage_that_stays_broken_is_a_fault(tmp_path: Path, no_pauses: list[float]) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    with _flaky(99).open(f"{tmp_path}/f") as stream, pytest.raises(StorageFault, match=r"reading .* failed 5 times"):
        stream.read(1)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "locked"
    folder.mkdir()
    (folder / "f").write_bytes(b"x")
    (folder / "f").chmod(0o000)
    yield folder / "f"
    (folder / "f").chmod(0o600)


def test_read_bytes__file_without_permission_is_denied_at_once(read_only: Path, no_pauses: list[float]) -> None:
    try:
        read_only.read_bytes()
    except PermissionError:
        with pytest.raises(StorageDenied, match=r"reading .*access denied"):
            STORAGE.read_bytes(str(read_only))
        assert no_pauses == []
    else:
        pytest.skip("this user may read every file")


OPERATIONS: tuple[Callable[[str], object], ...] = (STORAGE.read_bytes, STORAGE.list_files)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_storage__retries_what_it_reads(
    tmp_path: Path, no_pauses: list[float], monkeypatch: pytest.MonkeyPatch, operation: Callable[[str], object]
) -> None:
    (tmp_path / "f").write_bytes(b"x")
    failing = Failing(*[OSError(errno.EIO, "Input/output error")] * 2)
    real = Storage.resolve

    class System:
        def __init__(self, system: Any) -> None:
            self._system = system

        def __getattr__(self, name: str) -> Any:
            failing()
            return getattr(self._system, name)

    def resolve(self: Storage, uri: str) -> Any:
        system, path = real(self, uri)
        return System(system), path

    monkeypatch.setattr(Storage, "resolve", resolve)
    operation(f"{tmp_path}/f")
    assert len(no_pauses) == 2


def test_read_bytes__no_more_than_the_limit_and_one_byte_is_read(tmp_path: Path) -> None:
    (tmp_path / "grown").write_bytes(b"123456789")
    assert Storage().read_bytes(f"{tmp_path}/grown", limit_bytes=4) == b"12345"
    assert Storage().read_bytes(f"{tmp_path}/grown", limit_bytes=9) == b"123456789"
