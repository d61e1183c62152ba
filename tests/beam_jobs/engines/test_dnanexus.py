"""The DNAnexus applet: its description, and its script run by DNAnexus' own tools."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from datetime import datetime
from pathlib import Path

import pytest

from lvm_core.synthetic.device_files import write_cardiosoft
from tests.beam_jobs.engines.workflow_runs import (
    FULL_MODEL,
    N_ECGS,
    SETTINGS,
    UNIT_ECGS,
    Cohort,
    assert_closed,
    commits,
    environment_with_command,
    killing_once,
    program_or_none,
    shared_cohort,
)
from tests.beam_jobs.job_helpers import REPOSITORY, people

APPLET = REPOSITORY / "deploy" / "dnanexus"
SPEC = json.loads((APPLET / "dxapp.json").read_text())
PLATFORM = Path(__file__).parent / "dnanexus_platform.py"
TOOL = program_or_none("dx-jobutil-new-job")

needs_dxpy = pytest.mark.skipif(TOOL is None, reason="dxpy is missing: make engines")

# Stand in for the container engine and the file system of the platform's machines.
_DOCKER = """#!/bin/sh
set -e
case "$1" in
  load) test -s "$4"; echo "Loaded image: lvm-ai:test" ;;
  run) while [ "$1" != --entrypoint ]; do shift; done; program=$2; shift 3; exec "$program" "$@" ;;
  *) exit 64 ;;
esac
"""
_DXFUSE = """#!/bin/sh
set -e
test "$1" = -readOnly
grep -q "\\"proj_id\\": \\"$DX_PROJECT_CONTEXT_ID\\"" "$3"
ln -s "$LVM_TEST_PROJECT" "$2/project"
"""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return shared_cohort(tmp_path_factory.getbasetemp())


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return an environment with this checkout's command, DNAnexus' tools and the stand-ins."""
    made = environment_with_command(tmp_path)
    for name, text in {"docker": _DOCKER, "dxfuse": _DXFUSE}.items():
        program = tmp_path / "bin" / name
        program.write_text(text)
        program.chmod(0o755)
    first, _, rest = made["PATH"].partition(":")
    project = tmp_path / "project"
    project.mkdir()
    return {**made, "PATH": f"{first}:{Path(str(TOOL)).parent}:{rest}", "LVM_TEST_PROJECT": str(project)}


def _run(folder: Path, environment: dict[str, str], **inputs: object) -> subprocess.CompletedProcess[str]:
    """Run the applet; its outputs are in outputs.json then."""
    image = folder / "image.tar"
    image.write_bytes(b"stands for an image")
    file = folder / "inputs.json"
    file.write_text(json.dumps({"image": {"path": str(image)}, **inputs}))
    python = Path(str(TOOL)).parent / "python"
    words = [str(python), str(PLATFORM), str(APPLET), str(folder), str(file)]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=1800)


def _unpacked(archive: str, folder: Path) -> Path:
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / Path(archive).stem


def test_description__fits_the_script_and_the_page() -> None:
    script = (APPLET / SPEC["runSpec"]["file"]).read_text()
    page = (REPOSITORY / "docs" / "running_on_dnanexus.md").read_text()
    names = {one["name"] for one in SPEC["inputSpec"]}
    rows = [line.split("|")[1] for line in page[page.index("## Inputs") :].splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == names
    assert {name for name in names if not re.search(rf"\b{name}\b", script)} == set()
    outputs = {one["name"] for one in SPEC["outputSpec"]}
    main = script[script.index("main() {") : script.index("\n}\n")]
    assert set(re.findall(r"dx-jobutil-add-output (\w+)", main)) == outputs
    assert set(re.findall(r"-i(\w+)=", page)) <= names


@needs_dxpy
def test_description__passes_the_checks_of_dx_build(tmp_path: Path) -> None:
    check = (
        "import sys, logging; from dxpy.scripts import dx_build_app as b; from dxpy import app_builder as a; "
        "b._verify_app_source_dir(sys.argv[1], 'applet'); a._validate_applet_spec(a._get_applet_spec(sys.argv[1]))"
    )
    python = Path(str(TOOL)).parent / "python"
    done = subprocess.run([str(python), "-c", check, str(APPLET)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    warned = {line for line in done.stderr.splitlines() if "containing directory" not in line}
    assert warned == set()


@needs_dxpy
@pytest.mark.engines
def test_killed_shard__is_started_again_and_gives_the_same_bits(
    tmp_path: Path, cohort: Cohort, environment: dict[str, str]
) -> None:
    with killing_once(tmp_path, "2/2") as killed:
        done = _run(
            tmp_path,
            environment,
            ecgs=[{"path": str(cohort.ecgs)}],
            device_files=False,
            participants={"path": str(cohort.participants)},
            model=FULL_MODEL,
            score_options=list(SETTINGS),
            shards=2,
        )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert 0 < killed.n_committed < N_ECGS // UNIT_ECGS // 2
    outputs = json.loads((tmp_path / "outputs.json").read_text())
    scored = _unpacked(outputs["scored"]["path"], tmp_path)
    assert commits(scored) == commits(cohort.local)
    assert_closed(scored, N_ECGS)
    assert len(outputs["predictions"]) == N_ECGS // UNIT_ECGS


@needs_dxpy
@pytest.mark.engines
def test_folder_of_uk_biobank__is_read_in_place(tmp_path: Path, environment: dict[str, str]) -> None:
    made = people(6)
    folder = tmp_path / "project" / "Bulk" / "Electrocardiogram" / "Resting"
    for k in range(6):
        name = f"{1000000 + 700000 * k}_20205_2_0.xml"
        (folder / name[:2]).mkdir(parents=True, exist_ok=True)
        content = write_cardiosoft(
            made.counts[k],
            float(made.uv_per_count[k]),
            participant_id=name[:7],
            recorded_at=datetime(2016, 5, 4, 12, 30, k),
        )
        (folder / name[:2] / name).write_bytes(content)
    done = _run(
        tmp_path,
        environment,
        ecg_folder="/Bulk/Electrocardiogram/Resting",
        id_pattern="ukb-20205",
        ingest_options=["--unit-ecgs", "3"],
        shards=2,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    outputs = json.loads((tmp_path / "outputs.json").read_text())
    scored = _unpacked(outputs["scored"]["path"], tmp_path)
    assert_closed(scored, 6)
    local = tmp_path / "local"
    words = ["--input", str(folder), "--id-pattern", "ukb-20205", "--unit-ecgs", "3", "--output", str(local)]
    subprocess.run(["lvm-ai", "ingest", *words], env=environment, check=True, capture_output=True)
    ingested = _unpacked(outputs["ingested"]["path"], tmp_path)
    assert commits(ingested) == commits(local)
