"""The WDL workflow, run by miniwdl."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.beam_jobs.engines.workflow_runs import (
    FULL_MODEL,
    N_ECGS,
    SETTINGS,
    UNIT_ECGS,
    Cohort,
    assert_closed,
    commits,
    environment_with_command,
    environment_with_recorder,
    killing_once,
    program_or_none,
    recorded,
    run_commands,
    shared_cohort,
)
from tests.beam_jobs.job_helpers import REPOSITORY

WORKFLOW = REPOSITORY / "deploy" / "wdl" / "lvm_ai.wdl"
MINIWDL = program_or_none("miniwdl")
IMAGE = os.environ.get("LVM_AI_TEST_IMAGE")

pytestmark = pytest.mark.skipif(MINIWDL is None, reason="miniwdl is missing: make engines")


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
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return shared_cohort(tmp_path_factory.getbasetemp())


def _words(folder: Path, more: list[str]) -> list[str]:
    """Return the command of a run, in containers where an image is given, else as processes."""
    settings = folder / "miniwdl.cfg"
    settings.write_text(
        '[scheduler]\ncontainer_backend = podman\n[podman]\nexe = ["podman"]\n'
        if IMAGE
        else "[scheduler]\ncontainer_backend = processes\n"
    )
    words = ["run", str(WORKFLOW), "--cfg", str(settings), "--dir", str(folder / "run"), "--verbose"]
    return [str(MINIWDL), *words, *more]


def _run(folder: Path, inputs: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """Run the workflow and return its outputs."""
    file = folder / "inputs.json"
    file.write_text(json.dumps({f"lvm_ai.{name}": value for name, value in inputs.items()}))
    words = _words(folder, ["-i", str(file)])
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-8000:]
    return {name.removeprefix("lvm_ai."): value for name, value in json.loads(done.stdout)["outputs"].items()}


def _run_task(
    folder: Path, task: str, inputs: Mapping[str, Any], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    file = folder / "inputs.json"
    machine = {"image": IMAGE or "none", "cpu": 1, "memory_gb": 1, "disk_gb": 1, "preemptible": 0, "max_retries": 0}
    file.write_text(json.dumps({**inputs, "machine": machine, "options": []}))
    words = _words(folder, ["--task", task, "-i", str(file)])
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)


def _unpacked(archive: str, folder: Path) -> Path:
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / Path(archive).stem


def test_check__finds_nothing(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [str(MINIWDL), "check", "--strict", str(WORKFLOW)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_page__names_every_input_with_its_default() -> None:
    page = (REPOSITORY / "docs" / "running_on_wdl.md").read_text()
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| `")]
    named = {name: row[2].strip() for row in rows for name in re.findall(r"`(\w+)`", row[1])}
    text = WORKFLOW.read_text()
    body = text[text.index("  input {") : text.index("  Machine machine")]
    declared = re.findall(r"^    \S+ (\w+)(?: = (.+))?$", body, re.MULTILINE)
    assert set(named) == {name for name, _ in declared}
    for name, default in declared:
        if default and default != "[]":
            assert default.strip('"') in named[name], name


@pytest.mark.engines
def test_page__its_commands_run(tmp_path: Path, environment: dict[str, str]) -> None:
    _words(tmp_path, [])
    settings = {"MINIWDL_CFG": str(tmp_path / "miniwdl.cfg")}
    path = f"{Path(str(MINIWDL)).parent}:{environment['PATH']}"
    run_commands("running_on_wdl.md", tmp_path, {**environment, **settings, "PATH": path}, "inputs.json")
    (archive,) = (tmp_path / "runs").glob("*_lvm_ai/out/scored/scored.tar")
    assert_closed(_unpacked(str(archive), tmp_path), 63)


def test_shard__refuses_two_files_of_one_name(tmp_path: Path, environment: dict[str, str]) -> None:
    files = [tmp_path / folder / "same.xml" for folder in ("a", "b")]
    for file in files:
        file.parent.mkdir()
        file.touch()
    inputs = {"ecgs": list(map(str, files)), "ecg_addresses": [], "command_name": "ingest", "number": 1, "count": 1}
    done = _run_task(tmp_path, "shard", inputs, environment)
    assert done.returncode != 0
    assert "two of the ecgs are named same.xml; put them into an archive" in done.stderr


def test_gather__refuses_shards_that_were_planned_differently(tmp_path: Path, environment: dict[str, str]) -> None:
    parts = []
    for shard in ("1", "2"):
        (tmp_path / "plan.json").write_text(shard)
        parts.append(str(tmp_path / f"part-{shard}.tar"))
        with tarfile.open(parts[-1], "w") as tar:
            tar.add(tmp_path / "plan.json", "plan.json")
    done = _run_task(tmp_path, "gather", {"parts": parts, "name": "scored"}, environment)
    assert done.returncode != 0
    assert "the shards planned this run differently (plan.json differs)" in done.stderr


@pytest.mark.engines
@pytest.mark.skipif(IMAGE is not None, reason="the recorder is no part of an image")
def test_steps__get_the_words_that_they_need(tmp_path: Path, environment: dict[str, str]) -> None:
    recorder = environment_with_recorder(tmp_path)
    names = ("a.xml", "b.tar", "people.csv", "leave out.txt", "model.keras", "study.yaml", "deaths.csv")
    for name in names:
        (tmp_path / name).touch()
    files = {name: str(tmp_path / name) for name in names}
    inputs = {
        "image": "none",
        "ecgs": [files["a.xml"], files["b.tar"]],
        "ecg_addresses": ["s3://bucket/a folder"],
        "device_files": True,
        "id_pattern": r"(?P<ecg_id>[^/]+)\.xml$",
        "participants": files["people.csv"],
        "participants_layout": "ukb-rap",
        "exclude_participants": files["leave out.txt"],
        "model_file": files["model.keras"],
        "ingest_options": ["--format", "cardiosoft"],
        "score_options": ["--bsa", "mosteller"],
        "finish_options": ["--max-rejected-share", "0.5"],
        "shards": 2,
        "study": files["study.yaml"],
        "study_tables": [files["deaths.csv"]],
    }
    _run(tmp_path, inputs, {**recorder, "PYTHONPATH": environment["PYTHONPATH"]})
    excluded = ["--exclude-participants", "leave out.txt"]
    pattern = ["--id-pattern", r"(?P<ecg_id>[^/]+)\.xml$"]
    people = ["--participants", "people.csv", "--participants-layout", "ukb-rap"]
    shards = [["--output", "part", "--shard", f"{k}/2", "--threads", "2"] for k in (1, 2)]
    ingest = ["ingest", "--input", "files", "s3://bucket/a folder"]
    assert recorded(tmp_path) == sorted(
        [
            *([*ingest, *shard, "--format", "cardiosoft", *excluded, *pattern] for shard in shards),
            ["finish", "ingested", "--max-rejected-share", "0.5"],
            *(
                [
                    *["score", "--input", "unpacked/ingested", *shard, "--bsa", "mosteller"],
                    *["--model", "model.keras", *people, *excluded],
                ]
                for shard in shards
            ),
            ["finish", "scored", "--max-rejected-share", "0.5"],
            ["analyse", "study.yaml", "--output", "study"],
        ]
    )


@pytest.mark.engines
def test_killed_shard__is_tried_again_and_gives_the_same_bits(
    tmp_path: Path, cohort: Cohort, environment: dict[str, str]
) -> None:
    inputs = {
        "image": IMAGE or "none",
        "ecgs": [str(cohort.ecgs)],
        "participants": str(cohort.participants),
        "model": FULL_MODEL,
        "score_options": [*SETTINGS],
        "shards": 2,
        "cpu": 1,
        "preemptible": 0,
        "max_retries": 1,
    }
    with killing_once(tmp_path, "2/2") as killed:
        outputs = _run(tmp_path, inputs, environment)
    assert 0 < killed.n_committed < N_ECGS // UNIT_ECGS // 2
    scored = _unpacked(outputs["scored"], tmp_path)
    assert commits(scored) == commits(cohort.local)
    assert_closed(scored, N_ECGS)
    report = Path(outputs["score_report"])
    assert json.loads(report.read_text()) == json.loads((scored / "run_report.json").read_text())
    assert len(outputs["predictions"]) == N_ECGS // UNIT_ECGS


@pytest.mark.engines
def test_device_files__are_ingested_scored_and_analysed(tmp_path: Path, environment: dict[str, str]) -> None:
    cohort = tmp_path / "cohort"
    simulate = ["lvm-ai", "simulate", "--participants", "300", "--seed", "1", "--formats", "cardiosoft"]
    subprocess.run([*simulate, "--output", str(cohort)], env=environment, check=True, capture_output=True)
    archive = tmp_path / "ecgs.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(cohort / "raw", "raw")
    study = tmp_path / "my study.yaml"
    names = ["participants.csv", "deaths.csv", "events.csv", "follow_up_ends.csv", "outcomes.csv"]
    study.write_text(_STUDY)
    tables = [str(cohort / name) for name in names[:-1]]
    inputs = {
        "image": IMAGE or "none",
        "ecgs": [str(archive)],
        "device_files": True,
        "participants": tables[0],
        "model": FULL_MODEL,
        "ingest_options": ["--unit-ecgs", "64", "--id-from-header"],
        "score_options": ["--unit-ecgs", "64"],
        "shards": 2,
        "cpu": 1,
        "study": str(study),
        "study_tables": [*tables, str(REPOSITORY / "studies" / "code_lists" / "outcomes.csv")],
    }
    outputs = _run(tmp_path, inputs, environment)

    local = tmp_path / "local"
    words = ["--input", str(archive), "--output", str(local / "ecg"), *inputs["ingest_options"]]
    subprocess.run(["lvm-ai", "ingest", *words], env=environment, check=True, capture_output=True)
    words = ["--input", str(local / "ecg"), "--output", str(local / "scored"), *inputs["score_options"]]
    words += ["--participants", tables[0], "--model", FULL_MODEL]
    subprocess.run(["lvm-ai", "score", *words], env=environment, check=True, capture_output=True)
    scored = _unpacked(outputs["scored"], tmp_path)
    assert commits(scored) == commits(local / "scored")
    n_ecgs = json.loads((cohort / "simulation.json").read_text())["counts"]["ecgs"]
    assert_closed(scored, n_ecgs)
    with tarfile.open(outputs["study_export"]) as tar:
        assert "export/report.html" in tar.getnames()


_STUDY = """
name: Synthetic people
cohort: synthetic
inputs:
  predictions: scored/predictions
  participants: participants.csv
  deaths: deaths.csv
  events: events.csv
  follow_up_ends: follow_up_ends.csv
  code_list: outcomes.csv
outcomes:
- name: af
  label: atrial fibrillation
  incident_sources: [hes, death]
primary_outcome: af
bootstrap: 20
"""
