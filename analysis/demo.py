"""The second half of `lvm-ai demo`: a study of the simulated people, ending with its report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final

from analysis import analyse
from lvm_core.command_line import ArgumentParser

STUDY_NAME: Final = "study.yaml"
_PRESET: Final = "demo.yaml"
_CODES: Final = "outcomes.csv"


def main(argv: Sequence[str]) -> int:
    """Analyse the cohort that the first half of `lvm-ai demo` has simulated.

    Args:
        argv: of `lvm-ai demo`; only its folder is looked at.

    Returns:
        0; mistakes are raised.
    """
    parser = ArgumentParser(prog="lvm-ai demo", add_help=False)
    parser.add_argument("output", type=Path)
    for option in ("--ecgs", "--people"):  # of the first half, which has checked them
        parser.add_argument(option)
    parser.add_argument("--overwrite", action="store_true")
    folder = parser.parse_args(argv).output
    preset = files("studies")
    study = folder / STUDY_NAME
    study.write_text(preset.joinpath(_PRESET).read_text(encoding="utf-8"), encoding="utf-8")
    codes = preset.joinpath("code_lists", _CODES).read_text(encoding="utf-8")
    (folder / "code_lists").mkdir(exist_ok=True)
    (folder / "code_lists" / _CODES).write_text(codes, encoding="utf-8")
    sys.stderr.write(f"the same again: lvm-ai analyse {study} --output OTHER_FOLDER\n")
    return analyse.main([str(study), "--output", str(folder / "study"), "--overwrite"])
