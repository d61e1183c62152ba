"""The image, the template and the page: their parts exist, fit each other and can be parsed."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from fnmatch import fnmatch
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from beam_jobs.run.settings import ScoreSettings
from beam_jobs.runners.dataflow import DataflowRunner
from beam_jobs.runners.dataflow_machines import GPUS
from tests.beam_jobs.engines.workflow_runs import program_or_none

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy" / "dataflow"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
PAGE = (ROOT / "docs" / "running_on_dataflow.md").read_text()
METADATA = json.loads((DEPLOY / "metadata.json").read_text())
COMMANDS = [line for block in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
# The command compares the image's Python with its own.
HERE = f"py{sys.version_info.major}.{sys.version_info.minor}"


def _instructions() -> list[list[str]]:
    """Return the words of each instruction, with continued lines joined."""
    lines = [line for line in DOCKERFILE.splitlines() if not line.strip().startswith("#")]
    return [line.split() for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.strip()]


def _copied() -> list[str]:
    """Return what the Dockerfile copies out of the repository."""
    own = [words for words in _instructions() if words[0] == "COPY" and not words[1].startswith("--from")]
    return [source for words in own for source in words[1:-1]]


def _argument(name: str) -> str:
    found = re.search(rf"^ARG {name}=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert found is not None, name
    return found[1]


def _pins(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([A-Za-z0-9_.-]+)==([^ ;\\]+)", (ROOT / name).read_text(), re.MULTILINE))


# The image


def test_image__copies_what_is_there() -> None:
    assert {"setup.py", "beam_jobs", "requirements-cpu.txt"} <= set(_copied())
    assert [source for source in _copied() if not (ROOT / source).exists()] == []


def test_image__is_built_from_what_the_build_may_see() -> None:
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    seen = [line[1:] for line in lines if line.startswith("!")]
    assert lines[1] == "*"
    assert [s for s in _copied() if not any(fnmatch(s, p) or s.startswith(f"{p}/") for p in seen)] == []
    assert [path for path in seen if not (ROOT / path).exists()] == []


def test_image__has_the_python_and_the_beam_of_the_pins() -> None:
    for name in ("requirements-cpu.txt", "requirements-gpu.txt"):
        assert _pins(name)["apache-beam"] == _argument("BEAM_VERSION")
    made_with = re.search(r"python ([0-9.]+)", (ROOT / "requirements-cpu.txt").read_text(), re.IGNORECASE)
    assert made_with is not None
    assert made_with[1].rstrip(".") == _argument("PYTHON_VERSION")
    assert "tensorflow-cpu" in _pins("requirements-cpu.txt")
    assert any(name.startswith("nvidia-cudnn") for name in _pins("requirements-gpu.txt"))


def test_image__has_every_package_of_the_project() -> None:
    found = re.search(r"^PACKAGES = \((.*)\)$", (ROOT / "setup.py").read_text(), re.MULTILINE)
    assert found is not None
    assert set(re.findall(r'"(\w+)"', found[1])) <= set(_copied())


def test_image__starts_with_beams_entry_point_in_the_environment_of_the_pins() -> None:
    assert ["ENTRYPOINT", '["/opt/apache/beam/boot"]'] in _instructions()
    assert "RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1" in DOCKERFILE
    stages = [words for words in _instructions() if words[0] == "FROM"]
    assert stages[-1] == ["FROM", "worker"]  # without --target
    installs = [" ".join(words) for words in _instructions() if words[:3] == ["RUN", "pip", "install"]]
    assert len(installs) == 3
    assert all("--no-deps" in line for line in installs)
    assert sum("--require-hashes" in line for line in installs) == 2


def test_image__is_clean_for_hadolint() -> None:
    program = program_or_none("hadolint")
    if program is None:
        pytest.skip("hadolint is missing: make engines")
    ended = subprocess.run([program, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")


@pytest.mark.engines
def test_image__holds_a_package_that_can_be_built_from_what_is_copied(tmp_path: Path) -> None:
    for source in _copied():
        if source.startswith("deploy/"):
            continue
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, tmp_path / source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", "out", "."]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=300)
    (wheel,) = (tmp_path / "out").glob("lvm_ai-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in ROOT.glob("beam_jobs/**/*.py"):
        assert str(path.relative_to(ROOT)) in names
    assert "beam_jobs/runners/dataflow_prices.yaml" in names


def test_launchers_pins__add_to_those_of_the_workers_and_contradict_none() -> None:
    added, workers = _pins("deploy/dataflow/requirements-launcher.txt"), _pins("requirements-cpu.txt")
    assert {"google-cloud-storage", "google-cloud-dataflow-client", "google-auth"} <= set(added)
    assert set(added) & set(workers) == set()
    text = (DEPLOY / "requirements-launcher.txt").read_text()
    assert text.count("--hash=sha256:") >= len(added)


# The template


def test_template__has_parameters_that_are_options_and_all_that_are_needed() -> None:
    names = {one["name"]: one for one in METADATA["parameters"]}
    options = {f"--{name.replace('_', '-')}" for name in names}
    settings = ScoreSettings.parse(["--input", "a", "--model", "m", "--output", "b"]).as_given()
    flags = {"input": "inputs"}
    assert all(flags.get(name, name) in settings for name in names), options
    required = {name for name, one in names.items() if not one.get("isOptional", False)}
    assert required == {"input", "output", "model", "image", "workers"}
    for one in names.values():
        assert one["label"]
        assert one["helpText"].endswith((".", "parquet", "csv", "ecg", "scored"))
        assert all(re.compile(regex) for regex in one["regexes"])
    assert set(re.findall(r"\w+", names["gpu"]["regexes"][0])) == set(GPUS)


def _launcher() -> Any:
    spec = spec_from_file_location("launcher", DEPLOY / "launcher.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_template__starts_a_command_that_is_taken() -> None:
    """The arguments are those that Google's launcher gives beside the parameters."""
    image = f"host/p/r/lvm-ai:0.1.0-{HERE}-gpu"
    words = _launcher().command(
        [
            *("--input=gs://bucket/ecg", "--output=gs://bucket/out", "--model=demo-synthetic-ecg-only", "--workers=4"),
            *(f"--image={image}", "--gpu=l4", "--runner=DataflowRunner", "--project=my-project", "--region=us-east1"),
            *("--job_name=mine", "--temp_location=gs://bucket/tmp/", "--staging_location=gs://bucket/stage"),
            "--template_location=gs://bucket/stage/template_launches/1/job_object",
        ]
    )
    assert words[0] == "score"
    settings = ScoreSettings.parse(words[1:])
    DataflowRunner().check(replace(settings, dry_run=True))
    assert (settings.project, settings.region, settings.workers, settings.gpu) == ("my-project", "us-east1", 4, "l4")
    assert settings.staging == "gs://bucket/tmp"
    assert settings.beam_options == (
        "--job_name=mine",
        "--temp_location=gs://bucket/tmp/",
        "--staging_location=gs://bucket/stage",
        "--template_location=gs://bucket/stage/template_launches/1/job_object",
    )


# The page


def test_page__says_plainly_that_it_was_not_run_on_the_service() -> None:
    assert "**We have not run this on Google's service.**" in PAGE
    assert "Not tested: Google's service itself" in PAGE


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("lvm-ai score")])
def test_page__has_commands_that_are_taken(line: str) -> None:
    words = shlex.split(line.replace("py3.11", HERE))
    settings = ScoreSettings.parse(words[2:])
    DataflowRunner().check(replace(settings, dry_run=True))


def test_page__builds_what_the_dockerfile_can_build() -> None:
    builds = [shlex.split(line) for line in COMMANDS if line.startswith("docker build")]
    assert len(builds) == 3
    for words in builds:
        assert (ROOT / words[words.index("-f") + 1]).is_file()
        argument = words[words.index("--build-arg") + 1].partition("=")[0]
        assert re.search(rf"^ARG {argument}\b", DOCKERFILE, re.MULTILINE), argument
        if "--target" in words:
            assert re.search(rf"^FROM \S+ AS {words[words.index('--target') + 1]}$", DOCKERFILE, re.MULTILINE)


def test_page__starts_the_template_with_parameters_that_it_has() -> None:
    (line,) = [line for line in COMMANDS if line.startswith("gcloud dataflow flex-template run")]
    words = shlex.split(line)
    given = dict(pair.split("=", 1) for pair in words[words.index("--parameters") + 1].split(","))
    parameters = {one["name"]: one for one in METADATA["parameters"]}
    for name, value in given.items():
        assert all(re.fullmatch(regex, value) for regex in parameters[name]["regexes"]), name
    assert {name for name, one in parameters.items() if not one.get("isOptional")} <= set(given)
    (build,) = [line for line in COMMANDS if line.startswith("gcloud dataflow flex-template build")]
    assert (ROOT / shlex.split(build)[shlex.split(build).index("--metadata-file") + 1]).is_file()


def test_page__prints_only_messages_that_there_are() -> None:
    """The first column of the table of failures is text of messages, or short words of our own."""
    source = "".join(path.read_text() for folder in ("beam_jobs", "models") for path in (ROOT / folder).rglob("*.py"))
    joined = re.sub(r'"\s*\n\s*f?"', "", source)
    rows = [line.split("|")[1].strip() for line in PAGE.splitlines() if line.startswith("| ")][1:]
    quoted = [row for row in rows if row not in ("errors while unpickling", "memory")]
    assert len(quoted) >= 6
    for row in quoted:
        text = {
            "no worker began within 900 s": "no worker began within",
            "units not finished": "'unit', 'are')} not finished",
        }
        assert text.get(row, row) in joined, row
