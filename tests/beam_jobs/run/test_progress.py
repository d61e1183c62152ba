"""The counter of this process and the lines about it."""

from __future__ import annotations

import threading
import time

import pytest

from beam_jobs.run import progress
from beam_jobs.run.progress import PROGRESS, Counter, say, showing


def test_counter__counts_from_many_threads() -> None:
    counter = Counter()

    def count() -> None:
        for _ in range(2000):
            counter.advance(1)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.n == 16_000


def test_counter__remembers_the_first_unit_and_all_failures() -> None:
    counter = Counter()
    assert counter.first_s is None
    before = time.monotonic()
    counter.begin_unit()
    first_s = counter.first_s
    assert first_s is not None
    assert before <= first_s <= time.monotonic()
    counter.begin_unit()
    assert counter.first_s == first_s
    counter.fail("one")
    counter.fail("two")
    assert counter.failures == ["one", "two"]


def test_counter__reset_forgets() -> None:
    counter = Counter()
    counter.begin_unit()
    counter.advance(3)
    counter.fail("x")
    counter.reset()
    assert (counter.n, counter.first_s, counter.failures) == (0, None, [])


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
    with showing(100, "score"):
        assert "score: 0 of 100 ECGs, 0.0 ECG/s, time left not known\n" in _wait_for("left", capsys)
        PROGRESS.advance(40)
        assert "score: 40 of 100 ECGs" in _wait_for("40 of 100", capsys)


def test_showing__starts_from_zero_and_ends_its_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    PROGRESS.advance(7)
    before = threading.active_count()
    with showing(10, "score"):
        assert PROGRESS.n == 0
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_showing__ends_its_thread_when_the_run_fails() -> None:
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), showing(10, "score"):
        raise ZeroDivisionError
    assert threading.active_count() == before


def test_showing__bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with showing(100, "score"):
        PROGRESS.advance(100)
    shown = capsys.readouterr().err
    assert "score" in shown
    assert "100/100" in shown
