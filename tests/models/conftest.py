"""Fixtures of the tests of `models`."""

from __future__ import annotations

import pytest

from models.machine.runtime import Threads, configure_threads, import_tensorflow


@pytest.fixture(scope="session")
def tensorflow_threads() -> Threads:
    """Start TensorFlow with the threads that the predictor wants, before any test starts it."""
    threads = configure_threads()
    import_tensorflow().constant(0)
    return threads
