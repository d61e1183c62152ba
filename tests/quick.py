"""Name the tests of what changed since the last commit, for `make quick`.

The tests of `analysis/study/load.py` are `tests/analysis/study/test_load.py`, or else those of the
whole folder. A changed test file is run itself.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("lvm_core", "models", "beam_jobs", "analysis")


def changed_files() -> list[Path]:
    """Return the Python files that differ from the last commit, relative to the repository."""
    commands = (
        ["git", "diff", "--name-only", "--diff-filter=d", "HEAD", "--", "*.py"],
        ["git", "ls-files", "--others", "--exclude-standard", "--", "*.py"],
    )
    lines = [subprocess.run(c, cwd=ROOT, check=True, capture_output=True, text=True).stdout for c in commands]
    return sorted(Path(line) for line in "".join(lines).splitlines())


def matching_tests(changed: Path, root: Path) -> Path | None:
    """Return the test file or folder of a changed file; None if it has none."""
    if changed.parts[0] == "tests":
        return changed if changed.name.startswith("test_") else None
    if changed.parts[0] not in PACKAGES:
        return None
    folder = Path("tests", *changed.parts[:-1])
    for found in (folder / f"test_{changed.name}", folder):
        if (root / found).exists() and len(found.parts) > 2:
            return found
    return None


def main() -> int:
    """Print the changed files (`files`) or their tests (`tests`), one per line."""
    files = changed_files()
    tests = {found for file in files if (found := matching_tests(file, ROOT))}
    shown = files if sys.argv[1:] == ["files"] else sorted(tests)
    sys.stdout.writelines(f"{one}\n" for one in shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
