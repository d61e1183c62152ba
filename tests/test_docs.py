"""The documents say what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lvm_core.signal.quality import QualityFlag
from tests.generated_docs import DOCS, PAGES

ROOT = DOCS.parent
TEXTS = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
MARK = "<!-- demo output -->\n```\n"


@pytest.mark.parametrize("name", PAGES)
def test_generated_pages__are_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), "run `make docs`"


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links__lead_to_files(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_make_targets__exist(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)`|^make ([a-z-]+)$", path.read_text(), re.MULTILINE))
    assert {first or second for first, second in named} <= targets


def test_options_in_documents__are_options_of_a_command() -> None:
    known = set(re.findall(r"--[a-z][a-z-]+", (DOCS / "commands.md").read_text()))
    foreign = {"--require-hashes", "--no-index", "--find-links", "--no-deps", "--no-build-isolation"}
    for path in TEXTS:
        text = path.read_text(encoding="utf-8")
        if path.name.startswith("running_"):  # full of other programs and their options
            commands = re.findall(r"lvm-ai [a-z-]+(?:[^`\n\\]|\\\n)*", text)
            text = "\n".join(command.partition(" -- ")[0] for command in commands)  # behind it: for Beam
        used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
        assert used <= known | foreign, path.name


def test_pages__describe_every_flag_once() -> None:
    pages = {
        "people_tables.md": {"birth_day_assumed"},
        "layouts.md": {"resampled", "end_repeated", "cropped"},  # any source
        "running.md": {"age_not_at_recording"},
        "plausibility.md": {
            "amplitude_unusual",
            "lead_out_of_proportion",
            "limb_leads_inconsistent",
            "baseline_offset",
            "gain_differs",
            "measurements_disagree",
            "sampling_rate_unusual",
            "mass_implausible",
            "index_unknown",
        },
        "quality_flags.md": {
            "arm_leads_reversed",
            "lead_near_flat",
            "baseline_wander",
            "mains_noise",
            "high_frequency_noise",
            "pacing_spikes",
        },
    }
    ranges = {flag.value for flag in QualityFlag if flag.endswith("_out_of_range")}
    pages["people_tables.md"] |= ranges
    elsewhere = set().union(*pages.values())
    pages["formats.md"] = {flag.value for flag in QualityFlag} - elsewhere
    for name, flags in pages.items():
        text = (DOCS / name).read_text(encoding="utf-8")
        assert [flag for flag in sorted(flags) if f"`{flag}`" not in text] == [], name


def test_decisions__are_at_most_40_lines() -> None:
    for path in (DOCS / "decisions").glob("*.md"):
        assert len(path.read_text().splitlines()) <= 40, path.name


def test_ci__runs_the_test_command_of_the_readme_and_nothing_else() -> None:
    lines = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line]
    commands = [line for line in lines if not line.startswith(("#", "set ", "cd "))]
    assert commands == ["make check"]
    assert "\nmake check\n" in (ROOT / "README.md").read_text()


def test_pins__have_hashes_and_name_no_index() -> None:
    for path in ROOT.glob("requirements-*.txt"):
        text = path.read_text()
        pins = re.findall(r"^[A-Za-z0-9._-]+(?:\[.*\])?==.*$", text, re.MULTILINE)
        assert pins, path.name
        assert all(pin.rstrip().endswith("\\") for pin in pins), path.name
        assert not re.search(r"^\s*-{1,2}(index|extra-index|find-links|i |f )", text, re.MULTILINE)
        assert "://" not in text


def _pins(name: str) -> dict[str, str]:
    pins = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE)
    return dict(pins)


def test_pins__of_users_hold_no_tool_of_developers() -> None:
    developers = {"pytest", "pytest-xdist", "ruff", "mypy", "moto", "boto3", "docker", "hypothesis"}
    assert developers <= set(_pins("requirements-dev.txt"))
    for name in ("requirements-cpu.txt", "requirements-gpu.txt"):
        assert not developers & set(_pins(name)), name
        assert {"numpy", "pyarrow", "apache-beam", "setuptools"} <= set(_pins(name))
    assert not set(_pins("requirements-dev.txt")) & set(_pins("requirements-cpu.txt"))


def test_readme__states_the_number_of_packages() -> None:
    users, more = len(_pins("requirements-cpu.txt")), len(_pins("requirements-dev.txt"))
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"{users} packages, 2.3 GB" in readme
    assert f"{more} more packages, 0.5 GB" in readme


@pytest.mark.tf
@pytest.mark.slow
def test_readme__shows_the_real_output_of_the_demo(tmp_path: Path) -> None:
    shown = (ROOT / "README.md").read_text(encoding="utf-8").partition(MARK)[2].partition("```")[0]
    command = [sys.executable, "-m", "lvm_ai", "demo", "demo-output"]
    done = subprocess.run(command, cwd=tmp_path, env=_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert _words(done.stdout) == _words(shown)


def _words(text: str) -> list[str | float]:
    """Return words, and numbers to 0.1 apart: processors differ in the last bits."""
    return [pytest.approx(float(word), abs=0.11) if re.fullmatch(r"-?\d+\.\d", word) else word for word in text.split()]


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}
