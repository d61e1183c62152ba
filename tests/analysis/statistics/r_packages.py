"""What R has, for tests that compare with it."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache


@cache
def lacking(*packages: str) -> str:
    """Return why tests that need R and packages of it are skipped, "" where they can run."""
    if shutil.which("Rscript") is None:
        return "R is not installed"
    names = ", ".join(f"'{name}'" for name in packages)
    code = f"cat(setdiff(c({names}), rownames(installed.packages())))"
    found = subprocess.run(["Rscript", "-e", code], capture_output=True, text=True, check=True)
    return f"R lacks {', '.join(found.stdout.split())}" if found.stdout.strip() else ""
