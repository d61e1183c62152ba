"""The WDL workflow, run by miniwdl."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.beam_jobs.engines.workflow_runs import Cohort, environment_with_command, program_or_none, write_cohort
from tests.beam_jobs.job_helpers import REPOSITORY

WORKFLOW = REPOSITORY / "deploy" / "wdl" / "lvm_ai.wdl"
MINIWDL = program_or_none("miniwdl")
IMAGE = os.environ.get("LVM_AI_TEST_IMAGE")

pytestmark = pytest.mark.skipif(
    MINIWDL is None, reason="miniwdl is missing: pip install miniwdl, into an environment of its own, put on the PATH"
)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return an environment with this checkout's command, and the plugin of `wdl_processes.py`."""
    folder = tmp_path_factory.mktemp("wdl")
    plugin = folder / "plugin"
    (plugin / "lvm_wdl_processes-1.dist-info").mkdir(parents=True)
    (plugin / "wdl_processes.py").write_bytes((Path(__file__).parent / "wdl_processes.py").read_bytes())
    (plugin / "lvm_wdl_processes-1.dist-info" / "METADATA").write_text("Name: lvm-wdl-processes\nVersion: 1\n")
    (plugin / "lvm_wdl_processes-1.dist-info" / "entry_points.txt").write_text(
        "[miniwdl.plugin.container_backend]\nprocesses = wdl_processes:ProcessBackend\n"
    )
    return {**environment_with_command(folder), "PYTHONPATH": str(plugin)}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Cohort:
    return write_cohort(tmp_path_factory.mktemp("cohort"), environment)


def _run(folder: Path, inputs: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """Run the workflow, in containers where an image is given, else as processes; return its outputs."""
    settings = folder / "miniwdl.cfg"
    settings.write_text(
        '[scheduler]\ncontainer_backend = podman\n[podman]\nexe = ["podman"]\n'
        if IMAGE
        else "[scheduler]\ncontainer_backend = processes\n"
    )
    file = folder / "inputs.json"
    file.write_text(json.dumps({f"lvm_ai.{name}": value for name, value in inputs.items()}))
    words = ["run", str(WORKFLOW), "-i", str(file), "--cfg", str(settings), "--dir", str(folder / "run"), "--verbose"]
    done = subprocess.run([str(MINIWDL), *words], env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-8000:]
    return dict(json.loads(done.stdout)["outputs"])


def _unpacked(archive: str, folder: Path) -> Path:
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / Path(archive).stem
