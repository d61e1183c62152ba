"""The Nextflow workflow."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

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
    recorded,
    run_commands,
    shared_cohort,
)
from tests.beam_jobs.job_helpers import REPOSITORY

FOLDER = REPOSITORY / "deploy" / "nextflow"
JARS = Path(os.environ.get("NEXTFLOW_JARS", REPOSITORY / "build" / "nextflow"))
NEXTFLOW = shutil.which("nextflow") or (str(FOLDER / "nextflow.sh") if any(JARS.glob("nextflow-[0-9]*.jar")) else None)

needs_nextflow = pytest.mark.skipif(
    NEXTFLOW is None or shutil.which("java") is None, reason="Nextflow or Java is missing: make engines (needs Maven)"
)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return an environment with this checkout's command and a `nextflow` that stays offline."""
    folder = tmp_path_factory.mktemp("nextflow")
    made = environment_with_command(folder)
    (folder / "bin" / "nextflow").symlink_to(str(NEXTFLOW))
    more = {
        "NXF_OFFLINE": "true",
        "NXF_HOME": str(folder / "home"),
        "NEXTFLOW_JARS": str(JARS),
        "NXF_ANSI_LOG": "false",
    }
    return {**made, **more}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return shared_cohort(tmp_path_factory.getbasetemp())


def _run(folder: Path, environment: Mapping[str, str], **parameters: object) -> subprocess.CompletedProcess[str]:
    """Run the workflow in a folder."""
    (folder / "params.json").write_text(json.dumps(parameters))
    words = ["nextflow", "run", str(FOLDER / "main.nf"), "-profile", "local", "-params-file", "params.json"]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=1800)


def test_page__names_every_parameter() -> None:
    page = (REPOSITORY / "docs" / "running_on_nextflow.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    config = (FOLDER / "nextflow.config").read_text()
    body = config[config.index("\nparams {") : config.index("\nprocess {")]
    declared = set(re.findall(r"^    (\w+) = ", body, re.MULTILINE))
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == declared
    used = {name for file in FOLDER.glob("*.nf") for name in re.findall(r"params\.(\w+)", file.read_text())}
    used |= set(re.findall(r"params\.(\w+)", config))
    assert used == declared


@needs_nextflow
@pytest.mark.engines
def test_run__without_ecgs_says_so(tmp_path: Path, environment: dict[str, str]) -> None:
    done = _run(tmp_path, environment)
    assert done.returncode != 0
    assert "Nothing to score: give --ecgs" in done.stdout + done.stderr


@needs_nextflow
@pytest.mark.engines
def test_page__its_commands_run(tmp_path: Path, environment: dict[str, str]) -> None:
    run_commands("running_on_nextflow.md", tmp_path, environment, "params.json")
    assert_closed(tmp_path / "results" / "scored", 63)


@needs_nextflow
@pytest.mark.engines
def test_steps__get_the_words_that_they_need(tmp_path: Path, environment: dict[str, str]) -> None:
    environment_with_recorder(tmp_path)
    names = ("a.xml", "b.xml", "people.csv", "excluded.txt", "model.keras", "study.yaml", "deaths.csv")
    for name in names:
        (tmp_path / name).touch()
    done = _run(
        tmp_path,
        {**environment, "PATH": f"{tmp_path / 'bin'}:{environment['PATH']}"},
        ecgs=f"{tmp_path}/*.xml",
        device_files=True,
        id_pattern=r"(?P<ecg_id>[^/']+)\.xml$",
        participants="people.csv",
        participants_layout="ukb-rap",
        exclude_participants="excluded.txt",
        model_file="model.keras",
        ingest_options="--format cardiosoft",
        score_options="--bsa mosteller",
        finish_options="--max-rejected-share 0.5",
        shards=2,
        study="study.yaml",
        study_tables=["deaths.csv"],
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    excluded = ["--exclude-participants", "excluded/excluded.txt"]
    pattern = ["--id-pattern", r"(?P<ecg_id>[^/']+)\.xml$"]
    people = ["--participants", "people/people.csv"]
    shards = [["--input", "files", "--output", f"part-{k}", "--shard", f"{k}/2", "--threads", "2"] for k in (1, 2)]
    score = ["--participants-layout", "ukb-rap", "--model", "model/model.keras", *people, *excluded]
    assert recorded(tmp_path) == sorted(
        [
            *(["ingest", *shard, *pattern, *excluded, "--format", "cardiosoft"] for shard in shards),
            ["finish", "ingested", "--max-rejected-share", "0.5"],
            *(["score", *shard, *score, "--bsa", "mosteller"] for shard in shards),
            ["finish", "scored", "--max-rejected-share", "0.5"],
            ["analyse", "study.yaml", "--output", "study"],
        ]
    )


@needs_nextflow
@pytest.mark.engines
def test_killed_shard__is_tried_again_and_gives_the_same_bits(
    tmp_path: Path, cohort: Cohort, environment: dict[str, str]
) -> None:
    with killing_once(tmp_path, "2/2") as killed:
        done = _run(
            tmp_path,
            environment,
            ecgs=str(cohort.ecgs),
            participants=str(cohort.participants),
            model=FULL_MODEL,
            score_options=" ".join(SETTINGS),
            shards=2,
            cpus=1,
            max_retries=1,
        )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert 0 < killed.n_committed < N_ECGS // UNIT_ECGS // 2
    scored = tmp_path / "results" / "scored"
    assert commits(scored) == commits(cohort.local)
    assert_closed(scored, N_ECGS)
