"""A storage that fails: passing faults are tried again, others leave a run that resumes."""

import errno
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.fs
import pytest

from beam_jobs.reading import storage
from tests.beam_jobs.job_helpers import assert_reconciles, people, people_table, result_files, score, write_parquet

pytestmark = pytest.mark.usefixtures("fake")

N_ECGS = 24


class _FlakyFile:
    """An open file whose reads fail `n_faults` times each before they work."""

    def __init__(self, file: Any, faults: "Flaky") -> None:
        self._file = file
        self._faults = faults

    def read_at(self, n_bytes: int, offset: int) -> bytes:
        self._faults.hit(("read", n_bytes, offset))
        return bytes(self._file.read_at(n_bytes, offset))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class Flaky:
    """A local file system whose every operation on `match` fails `n_faults` times, then works."""

    def __init__(self, n_faults: int, match: str = "", error: int = errno.EIO) -> None:
        self._local = pyarrow.fs.LocalFileSystem()
        self._n_faults = n_faults
        self._match = match
        self._error = error
        self._seen: Counter[Any] = Counter()
        self.n_raised = 0

    def hit(self, key: Any) -> None:
        self._seen[key] += 1
        if self._seen[key] <= self._n_faults:
            self.n_raised += 1
            raise OSError(self._error, "the storage is tired")

    def open_input_file(self, path: str) -> Any:
        if self._match not in path:
            return self._local.open_input_file(path)
        self.hit(("open", path))
        return _FlakyFile(self._local.open_input_file(path), self)

    def open_input_stream(self, path: str, **options: Any) -> Any:
        if self._match in path:
            self.hit(("stream", path))
        return self._local.open_input_stream(path, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._local, name)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let no retry wait; return the seconds that each would have waited."""
    waited: list[float] = []
    defaults = storage.with_retries.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "sleep", waited.append)
    return waited


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    return write_parquet(tmp_path / "in" / "a.parquet", people_table(people(N_ECGS)))


@pytest.fixture
def whole(cohort: Path, tmp_path: Path) -> dict[str, bytes]:
    """Return the files of a run without faults."""
    assert score(cohort, tmp_path / "whole") == 0
    return result_files(tmp_path / "whole")


def failing_writes(monkeypatch: pytest.MonkeyPatch, match: str, n_faults: int, error: OSError) -> list[str]:
    """Let renames to paths with `match` fail `n_faults` times; return the paths tried."""
    original = os.replace
    tried: list[str] = []

    def replace(source: Any, target: Any, **options: Any) -> None:
        if match in str(target):
            tried.append(str(target))
            if len(tried) <= n_faults:
                raise error
        original(source, target, **options)

    monkeypatch.setattr(os, "replace", replace)
    return tried


@pytest.mark.parametrize("n_faults", [1, 4])
def test_reads__that_fail_up_to_four_times_are_tried_again(
    n_faults: int,
    cohort: Path,
    whole: dict[str, bytes],
    pauses: list[float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flaky = Flaky(n_faults)
    monkeypatch.setattr(storage, "_local", lambda: flaky)
    assert score(cohort, tmp_path / "out") == 0
    assert result_files(tmp_path / "out") == whole
    assert len(pauses) == flaky.n_raised >= 3 * n_faults
    assert 0 < min(pauses)
    assert max(pauses) <= 60


def test_reads__that_fail_five_times_stop_planning_with_a_clear_message(
    cohort: Path,
    pauses: list[float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flaky = Flaky(5, match="a.parquet")
    monkeypatch.setattr(storage, "_local", lambda: flaky)
    assert score(cohort, tmp_path / "out") == 1
    message = capsys.readouterr().err
    assert "a.parquet failed 5 times" in message
    assert "the storage is tired" in message
    assert "same command again" in message
    assert "Traceback" not in message
    assert len(pauses) == 4


@pytest.mark.parametrize("n_faults", [1, 4])
def test_write_of_a_unit__that_fails_up_to_four_times_is_tried_again(
    n_faults: int,
    cohort: Path,
    whole: dict[str, bytes],
    pauses: list[float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = OSError(errno.ESTALE, "stale handle")
    tried = failing_writes(monkeypatch, "/predictions/unit-000001", n_faults, error)
    assert score(cohort, tmp_path / "out") == 0
    assert len(tried) == n_faults + 1
    assert len(pauses) == n_faults
    assert result_files(tmp_path / "out") == whole


@pytest.mark.usefixtures("pauses")
def test_write_of_a_unit__that_fails_five_times_leaves_the_others_and_resumes(
    cohort: Path,
    whole: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "out"
    error = OSError(errno.EIO, "the storage is tired")
    with monkeypatch.context() as patched:
        tried = failing_writes(patched, "/predictions/unit-000001", 5, error)
        assert score(cohort, output) == 1
    assert len(tried) == 5
    message = capsys.readouterr().err
    assert "failed 5 times" in message
    assert "1 of 3 units are not finished" in message
    assert "same command again to resume" in message
    assert "Traceback" not in message
    assert [name for name in whole if name not in result_files(output)] == [
        name for name in whole if "unit-000001" in name
    ]
    assert not (output / "_SUCCESS").exists()
    assert score(cohort, output) == 0
    assert result_files(output) == whole
    assert_reconciles(output, N_ECGS)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_write__to_a_full_disk_is_a_clear_stop_that_resumes(
    error: int,
    cohort: Path,
    whole: dict[str, bytes],
    pauses: list[float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    full = OSError(error, "no more room")
    with monkeypatch.context() as patched:
        failing_writes(patched, "/predictions/unit-000001", 99, full)
        assert score(cohort, tmp_path / "out") == 1
    message = capsys.readouterr().err
    assert "no more room" in message
    assert "Traceback" not in message
    assert pauses == []
    assert score(cohort, tmp_path / "out") == 0
    assert result_files(tmp_path / "out") == whole


def test_write__that_is_not_allowed_is_a_clear_stop_and_not_tried_again(
    cohort: Path,
    pauses: list[float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    denied = PermissionError(errno.EACCES, "Permission denied")
    tried = failing_writes(monkeypatch, "/predictions/unit-000001", 99, denied)
    assert score(cohort, tmp_path / "out") == 1
    message = capsys.readouterr().err
    assert "access denied" in message
    assert "Traceback" not in message
    assert len(tried) == 1
    assert pauses == []


def test_read__that_is_not_allowed_is_a_clear_stop_and_not_a_reject(
    cohort: Path,
    pauses: list[float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flaky = Flaky(99, match="a.parquet", error=errno.EACCES)
    monkeypatch.setattr(storage, "_local", lambda: flaky)
    assert score(cohort, tmp_path / "out") == 1
    assert "access denied" in capsys.readouterr().err
    assert pauses == []
    assert result_files(tmp_path / "out") == {}


def test_truncated_file__is_a_reject_and_not_tried_again(cohort: Path, pauses: list[float], tmp_path: Path) -> None:
    torn = cohort.parent / "torn.parquet"
    torn.write_bytes(cohort.read_bytes()[:5000])
    assert score(cohort.parent, tmp_path / "out", "--max-rejected-share", 0.5) == 0
    assert pauses == []


def test_input__that_vanishes_while_the_job_runs_is_a_clear_stop(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The last thing before the first unit: the plan is written.
    original = storage.Storage.create_exclusive

    def create_then_lose(self: storage.Storage, uri: str, parts: Any, **more: Any) -> bool:
        cohort.unlink(missing_ok=True)
        return original(self, uri, parts, **more)

    monkeypatch.setattr(storage.Storage, "create_exclusive", create_then_lose)
    assert score(cohort.parent, tmp_path / "out") == 1
    message = capsys.readouterr().err
    assert "a.parquet" in message
    assert "Traceback" not in message
