"""The same command again: resumes, does nothing when done, and refuses what does not fit."""

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from tests.beam_jobs.conftest import Finish
from tests.beam_jobs.job_helpers import (
    ECG_ONLY,
    FULL,
    assert_reconciles,
    counts,
    everything,
    fake_mass_g,
    lvm,
    masses,
    people,
    people_table,
    predictions,
    reject_counts,
    report,
    result_files,
    rows_of,
    score,
    score_argv,
    state,
    write_cohort,
    write_parquet,
    write_participants,
)
from tests.file_builders import cardiosoft_xml

pytestmark = pytest.mark.usefixtures("fake")


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    write_cohort(tmp_path / "in", 20, n_files=2)
    return tmp_path / "in"


@pytest.fixture
def run(cohort: Path, tmp_path: Path) -> Path:
    assert score(cohort, tmp_path / "out") == 0
    return tmp_path / "out"


def test_score__predicts_every_ecg_by_the_formula_of_the_model(run: Path) -> None:
    assert masses(run) == fake_mass_g(people(20))
    assert_reconciles(run, 20)


def test_finished_run__same_command_says_so_and_changes_nothing(
    run: Path, cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(run)
    capsys.readouterr()
    assert score(cohort, run) == 0
    assert "finished already" in capsys.readouterr().err
    assert everything(run) == before


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--batch", 8, "batch: was 4, is 8"),
        ("--unit-ecgs", 16, "unit_ecgs: was 8, is 16"),
        ("--bsa", "mosteller", 'bsa: was "dubois", is "mosteller"'),
        ("--lvh-preset", "petersen2017", "lvh_preset: was"),
        ("--input-convention", "microvolts_over_2000", "input_convention: was"),
        ("--fallback-model", ECG_ONLY, "models: was"),
        ("--id-pattern", "(?P<ecg_id>.*)", "id_pattern: was null"),
        ("--id-from-header", None, "id_from_header: was false, is true"),
    ],
)
def test_other_setting__is_refused_by_name(
    option: str, value: object, named: str, run: Path, cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(run)
    assert score(cohort, run, option, *([] if value is None else [value])) == 2
    message = capsys.readouterr().err
    assert named in message
    assert "--overwrite" in message
    assert everything(run) == before


def test_other_model__is_refused_by_name(
    run: Path, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_participants(tmp_path / "people.csv", people(20))
    assert score(cohort, run, "--participants", table, model=FULL) == 2
    assert "models: was" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"), [("--threads", 1), ("--max-rejected-share", 0.5), ("--accept-scale", None), ("--shard", "1/2")]
)
def test_setting_that_moves_no_number__is_accepted(option: str, value: object, run: Path, cohort: Path) -> None:
    assert score(cohort, run, option, *([] if value is None else [value])) == 0


def test_participants__other_content_is_refused(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_participants(tmp_path / "people.csv", people(20))
    output = tmp_path / "out"
    assert score(cohort, output, "--participants", table, model=FULL) == 0
    before = everything(output)
    write_participants(table, people(20), weight_kg_3=99.5)
    assert score(cohort, output, "--participants", table, model=FULL) == 2
    assert "other settings: participants: its content changed. Use" in capsys.readouterr().err
    assert everything(output) == before


def test_participants__same_content_in_another_file_is_accepted(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_participants(tmp_path / "people.csv", people(20))
    output = tmp_path / "out"
    assert score(cohort, output, "--participants", table, model=FULL) == 0
    text = pa_csv.read_csv(table)
    pq.write_table(text.take(np.arange(20)[::-1]), tmp_path / "other.parquet")
    assert score(cohort, output, "--participants", tmp_path / "other.parquet", model=FULL) == 0
    assert "finished already" in capsys.readouterr().err


def test_inputs__moved_folder_and_new_times_are_the_same_inputs(
    run: Path, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.move(cohort, tmp_path / "elsewhere")
    for path in (tmp_path / "elsewhere").iterdir():
        os.utime(path, (1, 1))
    assert score(tmp_path / "elsewhere", run) == 0
    assert "finished already" in capsys.readouterr().err


def test_inputs__changed_one_is_refused_by_name(run: Path, cohort: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(run)
    write_parquet(cohort / "part-1.parquet", people_table(people(10, seed=5)))
    assert score(cohort, run) == 2
    message = capsys.readouterr().err
    assert "1 input has changed: part-1.parquet" in message
    assert "part-0.parquet" not in message
    assert everything(run) == before


def test_inputs__gone_one_is_refused_by_name(run: Path, cohort: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cohort / "part-0.parquet").unlink()
    assert score(cohort, run) == 2
    assert "1 input is gone: part-0.parquet" in capsys.readouterr().err


def test_inputs__raw_file_of_another_size_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = people(2)
    (tmp_path / "raw").mkdir()
    for i in range(2):
        leads = dict(zip(["I", "II", "III", "aVR", "aVL", "aVF"], made.counts[i], strict=False))
        leads |= {f"V{k + 1}": made.counts[i, 6 + k] for k in range(6)}
        (tmp_path / "raw" / f"{i}.xml").write_bytes(cardiosoft_xml(leads))
    assert score(tmp_path / "raw", tmp_path / "out") == 0
    with (tmp_path / "raw" / "1.xml").open("ab") as stream:
        stream.write(b"\n")
    assert score(tmp_path / "raw", tmp_path / "out") == 2
    assert "1 input has changed: 1.xml" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["part-9.parquet", "a-first.parquet"])
def test_inputs__added_file_gets_its_own_units_and_old_files_stay(name: str, run: Path, cohort: Path) -> None:
    old = state([*(run / "predictions").iterdir(), *(run / "rejects").glob("*")])
    added = people(10, seed=5)
    write_parquet(cohort / name, people_table(added))
    assert score(cohort, run) == 0
    assert {path: state([Path(path)])[path] for path in old} == old
    assert masses(run) == fake_mass_g(people(20)) | fake_mass_g(added)
    assert (run / "_SUCCESS").is_file()
    assert_reconciles(run, 30)


def test_inputs__added_ecg_with_a_known_id_is_a_duplicate(run: Path, cohort: Path) -> None:
    # Before the old file in the order of paths, and still the later one: the run came first.
    made = people(10, seed=5)
    names = [people(20).ecg_id[3], *made.ecg_id[1:]]
    table = people_table(dataclasses.replace(made, ecg_id=tuple(names)))
    write_parquet(cohort / "a-first.parquet", table)
    assert score(cohort, run, "--max-rejected-share", 0.5) == 0
    assert reject_counts(run) == {"duplicate_ecg_id": 1}
    assert masses(run)[names[0]] == fake_mass_g(people(20))[names[0]]
    assert_reconciles(run, 30)


def test_added_inputs__of_a_run_that_was_killed_are_done_with_the_rest(
    cohort: Path, tmp_path: Path, finish: Finish
) -> None:
    output = tmp_path / "out"
    assert finish(score_argv(cohort, output), kill_at_fsync=7) == -9
    write_parquet(cohort / "part-9.parquet", people_table(people(10, seed=5)))
    assert score(cohort, output) == 0
    assert len(masses(output)) == 30
    assert_reconciles(output, 30)


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_output__foreign_folder_is_refused_and_left_alone(
    overwrite: tuple[str, ...], cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years of work")
    before = everything(foreign)
    assert score(cohort, foreign, *overwrite) == 2
    assert "is not empty and holds no run" in capsys.readouterr().err
    assert everything(foreign) == before


def test_output__foreign_folder_of_folders_is_refused_and_left_alone(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = tmp_path / "foreign"
    (foreign / "rejects").mkdir(parents=True)
    (foreign / "rejects" / "letters.txt").write_text("years of work")
    before = everything(foreign)
    assert score(cohort, foreign, "--overwrite") == 2
    assert "is not empty" in capsys.readouterr().err
    assert everything(foreign) == before


def test_output__empty_folder_is_taken(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert score(cohort, tmp_path / "out") == 0


def test_overwrite__starts_anew_with_other_settings_and_leaves_nothing_old(run: Path, cohort: Path) -> None:
    old = set(result_files(run))
    assert score(cohort, run, "--unit-ecgs", 5, "--overwrite") == 0
    assert not old & set(result_files(run))
    assert report(run)["settings"]["unit_ecgs"] == 5
    assert_reconciles(run, 20)


def test_overwrite__removes_participants_of_the_earlier_run(cohort: Path, tmp_path: Path) -> None:
    table = write_participants(tmp_path / "people.csv", people(20))
    output = tmp_path / "out"
    assert score(cohort, output, "--participants", table) == 0
    assert (output / "participants.parquet").is_file()
    assert score(cohort, output, "--overwrite") == 0
    assert not (output / "participants.parquet").exists()


def test_participants_of_a_run__are_readable_by_their_owner_only(cohort: Path, tmp_path: Path) -> None:
    table = write_participants(tmp_path / "people.csv", people(20))
    assert score(cohort, tmp_path / "out", "--participants", table) == 0
    assert (tmp_path / "out" / "participants.parquet").stat().st_mode & 0o777 == 0o600


def write_raw(folder: Path, n: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    made = people(n)
    names = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
    for i in range(n):
        leads = dict(zip(names, made.counts[i], strict=True))
        (folder / f"{made.ecg_id[i]}.xml").write_bytes(cardiosoft_xml(leads))


def ingest_argv(inputs: object, output: object, *extra: object) -> list[str]:
    command = ["ingest", "--input", inputs, "--output", output, "--unit-ecgs", 8, *extra]
    return [str(argument) for argument in command]


def test_ingest__finished_run_is_accepted_as_input(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw", 12)
    assert lvm(*ingest_argv(tmp_path / "raw", tmp_path / "ecg")) == 0
    assert_reconciles(tmp_path / "ecg", 12)
    assert score(tmp_path / "ecg", tmp_path / "out") == 0
    assert masses(tmp_path / "out") == fake_mass_g(people(12))


def test_ingest__stores_the_counts_of_the_source(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw", 3)
    assert lvm(*ingest_argv(tmp_path / "raw", tmp_path / "ecg")) == 0
    rows = {row["ecg_id"]: row for row in rows_of(tmp_path / "ecg" / "ecg")}
    made = people(3)
    for i, ecg_id in enumerate(made.ecg_id):
        assert rows[ecg_id]["uv_per_count"] == 5.0
        assert rows[ecg_id]["V2"] == made.counts[i, 7].tolist()
        assert rows[ecg_id]["source_uri"] == f"{ecg_id}.xml"


def test_ingest__unfinished_run_is_refused_as_input(
    tmp_path: Path, finish: Finish, capsys: pytest.CaptureFixture[str]
) -> None:
    write_raw(tmp_path / "raw", 12)
    argv = ingest_argv(tmp_path / "raw", tmp_path / "ecg")
    assert finish(argv, kill_at_fsync=5) == -9
    assert score(tmp_path / "ecg", tmp_path / "out") == 2
    assert "an ingest that is not finished" in capsys.readouterr().err
    assert not (tmp_path / "out" / "plan.json").exists()


@pytest.mark.parametrize("moment", [3, 4, 5])
def test_ingest__killed_run_resumes_with_the_same_bytes(moment: int, tmp_path: Path, finish: Finish) -> None:
    write_raw(tmp_path / "raw", 12)
    assert finish(ingest_argv(tmp_path / "raw", tmp_path / "whole")) == 0
    argv = ingest_argv(tmp_path / "raw", tmp_path / "ecg")
    assert finish(argv, kill_at_fsync=moment) == -9
    assert finish(argv) == 0
    assert result_files(tmp_path / "ecg") == result_files(tmp_path / "whole")


def test_score__run_folder_of_a_scoring_is_refused_as_input(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(run, tmp_path / "again") == 2
    assert "is the run folder of a scoring" in capsys.readouterr().err


def test_score__ingest_into_a_folder_of_a_scoring_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_raw(tmp_path / "raw", 2)
    assert lvm(*ingest_argv(tmp_path / "raw", run)) == 2
    assert "holds a run of score, not of ingest" in capsys.readouterr().err


def test_result_files__do_not_depend_on_where_and_when_they_are_made(run: Path, cohort: Path, tmp_path: Path) -> None:
    shutil.copytree(cohort, tmp_path / "far" / "away")
    assert score(tmp_path / "far" / "away", tmp_path / "other") == 0
    assert result_files(tmp_path / "other") == result_files(run)
    for data in result_files(run).values():
        assert str(tmp_path).encode() not in data


def test_run_report__has_the_promised_keys(run: Path) -> None:
    made = report(run)
    assert made["counts"] == {"read": 20, "predicted": 20, "rejected": {}}
    assert set(made["timing_s"]) == {"startup", "scoring", "scoring_cpu"}
    assert made["ecg_per_s"] > 0
    assert made["peak_rss_mb"] > 0
    assert made["versions"]["pyarrow"]
    assert made["options"]["batch"] == 4
    assert counts(run)["read"] == len(predictions(run))


def test_identical_signals__are_listed_and_both_scored(tmp_path: Path) -> None:
    made = people(10)
    signals = made.counts.copy()
    signals[7] = signals[2]
    table = people_table(dataclasses.replace(made, counts=signals))
    write_parquet(tmp_path / "in" / "a.parquet", table)
    assert score(tmp_path / "in", tmp_path / "out") == 0
    rows = pq.read_table(tmp_path / "out" / "duplicates.parquet").to_pylist()
    assert [row["ecg_id"] for row in rows] == [made.ecg_id[2], made.ecg_id[7]]
    assert rows[0]["signal_sha256"] == rows[1]["signal_sha256"]
    assert len(predictions(tmp_path / "out")) == 10
