"""Which tests `make quick` runs for a changed file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.quick import matching_tests


@pytest.mark.parametrize(
    ("changed", "tests"),
    [
        ("analysis/study/load.py", "tests/analysis/study/test_load.py"),
        ("analysis/study/data.py", "tests/analysis/study"),
        ("tests/analysis/study/test_load.py", "tests/analysis/study/test_load.py"),
        ("tests/analysis/study/builders.py", None),
        ("beam_jobs/score.py", None),
        ("lvm_ai.py", None),
    ],
)
def test_matching_tests__are_the_file_of_the_module_or_its_folder(
    tmp_path: Path, changed: str, tests: str | None
) -> None:
    folder = tmp_path / "tests" / "analysis" / "study"
    folder.mkdir(parents=True)
    (folder / "test_load.py").touch()
    found = matching_tests(Path(changed), tmp_path)
    assert found == (None if tests is None else Path(tests))
