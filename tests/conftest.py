"""Settings of all tests."""

from __future__ import annotations

import pytest
from hypothesis import settings

# A minute long: begun last, it would leave the other processes without work.
_FIRST = "test_readme__shows_the_real_output_of_the_demo"

# Tests run on shared machines: an example that takes long says nothing about the code.
settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest test; the others keep their order."""
    items.sort(key=lambda item: item.name != _FIRST)
