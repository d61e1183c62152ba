"""The bar and the lines about what is done."""

from __future__ import annotations

import threading
import time

import pytest

from beam_jobs.reading.storage import StorageFault
from beam_jobs.run import progress
from beam_jobs.run.progress import say, showing


def test_say__writes_a_line_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    say("planning")
    assert capsys.readouterr() == ("", "planning\n")


def _wait_for(text: str, capsys: pytest.CaptureFixture[str]) -> str:
    seen = ""
    deadline = time.monotonic() + 5
    while text not in seen and time.monotonic() < deadline:
        time.sleep(0.02)
        seen += capsys.readouterr().err
    return seen


def test_showing__plain_lines_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0.02)
    done: list[int] = []
    with showing(100, "score", lambda: sum(done), 0.01):
        assert "score: 0 of 100 ECGs, 0.0 ECG/s, time left not known\n" in _wait_for("left", capsys)
        done.append(40)
        assert "score: 40 of 100 ECGs" in _wait_for("40 of 100", capsys)


def test_showing__keeps_the_last_count_while_counting_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0.02)
    is_down: list[bool] = []

    def count() -> int:
        if is_down:
            raise StorageFault("the store is down")
        return 40

    with showing(100, "score", count, 0.01):
        _wait_for("40 of 100", capsys)
        is_down.append(True)
        assert "score: 40 of 100 ECGs" in _wait_for("40 of 100", capsys)


def test_showing__counts_a_slow_folder_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    n_calls = 0

    def count() -> int:
        nonlocal n_calls
        n_calls += 1
        time.sleep(0.05)
        return n_calls

    counts = progress._Counts(count, 0.01)
    assert [counts.now() for _ in range(20)] == [1] * 20
    assert counts.now(last=True) == 2


def test_showing__ends_its_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.active_count()
    with showing(10, "score", lambda: 0):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    with pytest.raises(ZeroDivisionError), showing(10, "score", lambda: 0):
        raise ZeroDivisionError
    assert threading.active_count() == before


def test_showing__bar_on_a_terminal_ends_with_the_last_count(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    done: list[int] = []
    with showing(100, "score", lambda: sum(done), 600.0):
        done.append(100)
    shown = capsys.readouterr().err
    assert "score" in shown
    assert "100/100" in shown
