"""Workers in processes of their own, as on a cluster: what a run says comes from its folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineRunner

from beam_jobs.reading.storage import Storage
from beam_jobs.run.folder import UNDER_WAY_PREFIX, RunFolder
from beam_jobs.run.plan import UnitPlace
from beam_jobs.run.report import Work, WorkerNotes, noted_work
from beam_jobs.run.settings import IngestSettings, RunSettings
from beam_jobs.runners import flow
from beam_jobs.runners.local import LocalRunner
from beam_jobs.runners.pipeline import build, run_pipeline
from beam_jobs.runners.registry import runner_of
from tests.beam_jobs.job_helpers import CLINICAL_LEADS, REPOSITORY, lvm, people, result_files
from tests.beam_jobs.job_servers import Store, dummy_credentials, s3_store
from tests.beam_jobs.runners.test_units_transform import Job
from tests.file_builders import cardiosoft_xml

N_ECGS = 12
pytestmark = pytest.mark.engines  # the portable runner's tests show the same on every change


class TwoWorkers(LocalRunner):
    """Beam's own runner with its workers in two processes."""

    in_launcher = False

    def start(self, settings: RunSettings) -> tuple[PipelineRunner, PipelineOptions]:
        options = PipelineOptions(["--direct_running_mode=multi_processing", "--direct_num_workers=2"])
        return FnApiRunner(), options


TWO_WORKERS = TwoWorkers()


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """Run jobs in two worker processes; return what the workers noted."""
    seen: list[Mapping[str, Any]] = []

    def noted(folder: RunFolder, shard: tuple[int, int]) -> Work:
        seen.extend(folder.reports(UNDER_WAY_PREFIX).values())
        return noted_work(folder, shard)

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr(flow, "runner_of", lambda _: TWO_WORKERS)
    monkeypatch.setattr(flow, "noted_work", noted)
    return seen


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    made = people(N_ECGS)
    (tmp_path / "raw").mkdir()
    for i, ecg_id in enumerate(made.ecg_id):
        leads = dict(zip(CLINICAL_LEADS, made.counts[i], strict=True))
        (tmp_path / "raw" / f"{ecg_id}.xml").write_bytes(cardiosoft_xml(leads))
    return tmp_path / "raw"


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "s3").mkdir()
    with dummy_credentials(), s3_store(tmp_path / "s3") as store:
        yield store


def ingest(raw: object, output: object, *more: str) -> int:
    return lvm("ingest", "--input", raw, "--output", output, "--unit-ecgs", 3, *more)


def check_report(report: Mapping[str, Any], notes: list[Mapping[str, Any]]) -> None:
    assert report["counts"] == {"read": N_ECGS, "ingested": N_ECGS, "rejected": {}}
    assert report["timing_s"]["scoring"] > 0
    assert 0 < report["timing_s"]["startup"]
    assert report["ecg_per_s"] > 0
    assert report["peak_rss_mb"] == round(max(note["peak_rss_mb"] for note in notes), 1)
    here = WorkerNotes(RunFolder(Storage(), ""), (1, 1)).process
    assert here not in {note["process"] for note in notes}


def test_progress__counts_what_other_processes_commit(
    raw: Path,
    tmp_path: Path,
    notes: list[Mapping[str, Any]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert ingest(raw, out) == 0
    assert f"{N_ECGS}/{N_ECGS}" in capsys.readouterr().err
    check_report(json.loads((out / "run_report.json").read_text()), notes)
    assert [path.name for path in (out / "reports").iterdir()] == ["shard-1-of-1.json"]
    monkeypatch.setattr(flow, "runner_of", runner_of)
    assert ingest(raw, tmp_path / "alone") == 0
    assert result_files(out) == result_files(tmp_path / "alone")


def test_progress__counts_what_other_processes_commit_to_a_store(
    raw: Path,
    s3: Store,
    notes: list[Mapping[str, Any]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    inputs = s3.upload(raw, "raw")
    assert ingest(inputs, s3.uri("out"), *s3.options) == 0
    assert f"{N_ECGS}/{N_ECGS}" in capsys.readouterr().err
    check_report(json.loads(s3.files("out")["run_report.json"]), notes)


@pytest.mark.usefixtures("notes")
def test_failure_of_a_unit__is_known_where_the_run_was_started(tmp_path: Path) -> None:
    folder = RunFolder(Storage(), str(tmp_path))
    runner, options = TWO_WORKERS.start(IngestSettings(inputs=("in",), output="out"))
    pipeline = beam.Pipeline(runner=runner, options=options)
    units = [UnitPlace(number, f"f{number}") for number in range(4)]
    build(pipeline, Job(fails_at="begin 1"), units, WorkerNotes(folder, (1, 1)))
    counters = run_pipeline(pipeline)
    assert (counters["done"], counters["units_failed"]) == (30, 1)
    assert noted_work(folder, (1, 1)).failures == ["failed at begin 1"]
