"""The run folder against what happens to folders: strays, losses, overlaps, late inputs, people."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from beam_jobs.runners.flow import _Run
from tests.beam_jobs.job_helpers import (
    CLINICAL_LEADS,
    assert_nowhere,
    assert_reconciles,
    counts,
    ecg_table,
    exclusion_list,
    flat_in,
    lvm,
    people,
    people_table,
    predictions,
    result_files,
    score,
    score_argv,
    write_cohort,
    write_parquet,
    write_participants,
)
from tests.file_builders import random_counts, wfdb_record

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("fake")


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    write_cohort(tmp_path / "in", 20, n_files=2)
    return tmp_path / "in"


def test_stray_file_among_predictions__is_found_by_verify_and_stops_the_closing(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert score(cohort, out) == 0
    first = next((out / "predictions").iterdir())
    shutil.copy(first, out / "predictions" / "copy.parquet")
    assert lvm("verify", out, "--no-sample") == 1
    assert "predictions/copy.parquet is not of this run" in capsys.readouterr().out
    (out / "_SUCCESS").unlink()
    assert score(cohort, out) == 1
    assert "predictions/copy.parquet is not of this run" in capsys.readouterr().err
    (out / "predictions" / "copy.parquet").unlink()
    assert score(cohort, out) == 0


@pytest.mark.parametrize("place", ["predictions/x.parquet", "predictions/x/y.parquet", "rejects/x"])
def test_stray_file_in_a_finished_run__is_named_by_status_score_and_verify(
    place: str, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert score(cohort, out) == 0
    (out / place).parent.mkdir(parents=True, exist_ok=True)
    (out / place).write_bytes(b"PAR1")
    named = "/".join(place.split("/")[:2])
    capsys.readouterr()
    assert score(cohort, out) == 1
    said = capsys.readouterr().err
    assert f"{named} is not of this run" in said
    assert "finished already" not in said
    assert lvm("status", out) == 0
    said = capsys.readouterr().out
    assert f"problem: {named} is not of this run" in said
    assert "NOT accepted" in said
    assert lvm("status", out, "--json") == 0
    assert named in json.loads(capsys.readouterr().out)["problems"][0]
    assert lvm("verify", out, "--no-sample") == 1
    assert f"problem: {named} is not of this run" in capsys.readouterr().out
    shutil.rmtree(out / named) if (out / named).is_dir() else (out / named).unlink()
    assert score(cohort, out) == 0
    assert "finished already" in capsys.readouterr().err


def test_stray_files__many_are_counted(cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert score(cohort, out) == 0
    for i in range(5):
        (out / "predictions" / f"x{i}").touch()
    assert lvm("status", out) == 0
    named = "predictions/x0, predictions/x1, predictions/x2 and 2 more are not of this run"
    assert named in capsys.readouterr().out
    assert lvm("verify", out) == 1


def test_shard__without_units_says_so(cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert score(cohort, tmp_path / "out", "--shard", "5/5") == 0
    said = capsys.readouterr().err
    assert "shard 5/5 has none of the 4 units; others have 4 units to do" in said
    assert "this shard is done" not in said
    assert score(cohort, tmp_path / "out", "--shard", "1/5") == 0
    assert "this shard is done; others have 3 units to do" in capsys.readouterr().err


def test_lost_rejects_file__is_written_again_by_the_same_command(tmp_path: Path) -> None:
    made = flat_in(people(20), 3)
    write_parquet(tmp_path / "in" / "a.parquet", people_table(made))
    out = tmp_path / "out"
    assert score(tmp_path / "in", out) == 0
    before = result_files(out)
    (lost,) = (out / "rejects").iterdir()
    lost.unlink()
    assert lvm("status", out) == 0
    assert score(tmp_path / "in", out) == 0
    assert result_files(out) == before


@pytest.mark.parametrize("damage", [b"", b"[1]", b'{"kind": "sc\xff', b'{"counts": {'])
@pytest.mark.parametrize("name", ["run_report.json", "reports/shard-1-of-1.json"])
def test_damaged_report__is_named_and_written_anew(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, damage: bytes
) -> None:
    out = tmp_path / "out"
    assert score(cohort, out) == 0
    right = counts(out)
    (out / name).write_bytes(damage)
    capsys.readouterr()
    assert lvm("status", out) == 1
    said = capsys.readouterr().err
    assert f"error: {name} in {out} is damaged: it is no JSON object" in said
    assert "delete it and _SUCCESS and run the same command again" in said
    (out / name).unlink()
    (out / "_SUCCESS").unlink()
    assert score(cohort, out) == 0
    assert lvm("status", out) == 0
    assert counts(out) == right


def test_damaged_list_of_withdrawn_people__is_never_taken_for_empty(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert score(cohort, out) == 0
    person = exclusion_list(tmp_path / "gone.txt", str(predictions(out)[0]["participant_id"]))
    assert lvm("withdraw", out, "--participants", person) == 0
    (out / "withdrawn.json").write_text('{"id_sha256": [')
    assert score(cohort, out) == 1
    said = capsys.readouterr().err
    assert "withdrawn.json in" in said
    assert "Restore it from a copy; it holds the people who withdrew and must stay out" in said


def test_withdrawal_from_a_run_that_was_not_closed__leaves_closing_to_the_same_command(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert score(cohort, out) == 0
    for name in ("_SUCCESS", "run_report.json"):  # as after a kill before the end of closing
        (out / name).unlink()
    person = exclusion_list(tmp_path / "gone.txt", str(predictions(out)[0]["participant_id"]))
    assert lvm("withdraw", out, "--participants", person) == 0
    shown = capsys.readouterr()
    assert "the run is not closed: there is no run_report.json" in shown.out + shown.err
    assert not (out / "_SUCCESS").exists()
    assert not (out / "run_report.json").exists()
    assert score(cohort, out) == 0
    assert counts(out) == {"read": 20, "predicted": 19, "rejected": {"excluded": 1}}
    assert lvm("verify", out) == 0


def test_damaged_plan__is_replaced_by_overwrite(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert score(cohort, out) == 0
    (out / "plan.json").write_text("{")
    assert score(cohort, out) == 1
    assert lvm("ingest", "--input", cohort, "--output", out, "--overwrite") == 2
    assert predictions(out)
    assert score(cohort, out, "--overwrite") == 0
    assert lvm("verify", out) == 0


def test_run_that_another_process_extended__is_not_closed(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    do = _Run._do

    def do_and_extend(self: _Run, *args: object) -> Sequence[str]:
        failures = do(self, *args)  # type: ignore[arg-type]
        plan = self.folder.require_plan()
        late = plan.with_units([*plan.units, plan.units[0]])
        self.folder.storage.write_atomic(self.folder.path("plan.json"), late.to_bytes())
        return failures

    monkeypatch.setattr(_Run, "_do", do_and_extend)
    assert score(cohort, out) == 0
    assert not (out / "_SUCCESS").exists()


@pytest.mark.parametrize("pattern", ["**", "*/*.parquet"])
def test_glob_that_reaches_into_the_output__is_refused(
    tmp_path: Path, pattern: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cohort(tmp_path / "data" / "a", 4)
    assert score(f"{tmp_path}/data/{pattern}", tmp_path / "data" / "out") == 2
    assert "overlap" in capsys.readouterr().err


def test_glob_of_one_folder__may_have_its_output_beside(tmp_path: Path) -> None:
    write_cohort(tmp_path / "data", 4)
    assert score(f"{tmp_path}/data/*.parquet", tmp_path / "data" / "out") == 0
    assert score(f"{tmp_path}/data/*.parquet", tmp_path / "data" / "out") == 0


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_output_around_an_input__is_refused_and_nothing_is_lost(tmp_path: Path, overwrite: tuple[str, ...]) -> None:
    write_cohort(tmp_path / "data" / "ecg", 4)
    assert score(tmp_path / "data" / "ecg", tmp_path / "data", *overwrite) == 2
    assert (tmp_path / "data" / "ecg" / "part-0.parquet").exists()


def test_overwrite_of_one_shard__is_refused(cohort: Path, tmp_path: Path) -> None:
    assert score(cohort, tmp_path / "out", "--shard", "1/2", "--overwrite") == 2


def test_overwrite_of_another_kind_of_run__is_refused(cohort: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for name, data in wfdb_record(random_counts(1), name="a").items():
        (raw / name).write_bytes(data)
    assert lvm("ingest", "--input", raw, "--output", tmp_path / "out") == 0
    assert score(cohort, tmp_path / "out", "--overwrite") == 2
    assert (tmp_path / "out" / "ecg").is_dir()


def test_headers_without_their_signal_files__are_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, data in wfdb_record(random_counts(1), name="a").items():
        (tmp_path / name).write_bytes(data)
    assert lvm("ingest", "--input", f"{tmp_path}/*.hea", "--output", tmp_path / "out") == 2
    assert "1 WFDB headers without their signal files" in capsys.readouterr().err


def test_id_pattern_that_matches_nothing__is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for name, data in wfdb_record(random_counts(1), name="a").items():
        (raw / name).write_bytes(data)
    argv = ["--input", raw, "--output", tmp_path / "out", "--id-pattern", "ukb-20205"]
    assert lvm("ingest", *argv) == 2
    assert "matches none of the 1 paths, for example 'a.hea'" in capsys.readouterr().err


@pytest.mark.parametrize("table", ["ecg_id\ne1\n", "ecg_id,age_years\n", "ecg_id,age\ne1,60\n"])
def test_participants_that_say_nothing__are_refused(cohort: Path, tmp_path: Path, table: str) -> None:
    (tmp_path / "p.csv").write_text(table)
    assert score(cohort, tmp_path / "out", "--participants", tmp_path / "p.csv") == 2


def test_withdrawn_person__does_not_come_back_with_inputs_that_are_added(tmp_path: Path) -> None:
    made = write_cohort(tmp_path / "in", 6)
    table = write_participants(tmp_path / "p.csv", made)
    out = tmp_path / "out"
    assert score(tmp_path / "in", out, "--participants", table) == 0
    person = made.participant_id[2]
    gone = exclusion_list(tmp_path / "gone.txt", person)
    assert lvm("withdraw", out, "--participants", gone) == 0
    names = [f"later-{i}" for i in range(6)]
    later = ecg_table(made.counts, names, participant_id=list(made.participant_id))
    write_parquet(tmp_path / "in" / "later.parquet", later)
    share = ("--max-rejected-share", 0.5)
    assert score(tmp_path / "in", out, "--participants", table, *share) == 0
    assert_nowhere(out, person)
    assert_reconciles(out, 12)
    assert counts(out)["rejected"] == {"excluded": 2}
    assert len(predictions(out)) == 10


def test_person_with_a_file_of_their_own__may_withdraw_and_inputs_be_added(tmp_path: Path) -> None:
    made = people(2)
    table = people_table(made)
    person = made.participant_id[0]
    write_parquet(tmp_path / "in" / f"{person}.parquet", table.slice(0, 1))
    write_parquet(tmp_path / "in" / "other.parquet", table.slice(1, 1))
    out = tmp_path / "out"
    assert score(tmp_path / "in", out) == 0
    gone = exclusion_list(tmp_path / "gone.txt", person)
    assert lvm("withdraw", out, "--participants", gone) == 0
    assert_nowhere(out, person)
    write_cohort(tmp_path / "in", 3, seed=12)
    assert score(tmp_path / "in", out, "--max-rejected-share", 0.5) == 0
    assert_reconciles(out, 5)


def test_list_that_matches_nobody__is_said(cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nobody = exclusion_list(tmp_path / "gone.txt", "nobody-of-this-name")
    assert score(cohort, tmp_path / "out", "--exclude-participants", nobody) == 0
    assert "none of the 1 listed identifiers is in this run" in capsys.readouterr().err


def test_interrupt__ends_with_one_line_and_code_130(cohort: Path, tmp_path: Path) -> None:
    runner = [sys.executable, "-m", "tests.beam_jobs.job_runner", "--sleep-s", "0.5", "--"]
    command = [*runner, *score_argv(cohort, tmp_path / "out")]
    process = subprocess.Popen(  # a background shell hands its children an ignored SIGINT
        command,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not list((tmp_path / "out").glob("predictions/unit-*.parquet")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped. The same command resumes" in text
    assert "Traceback" not in text


def test_reading_parquet__leaves_no_thread_that_aborts_the_end_of_the_process(cohort: Path) -> None:
    code = (
        "import sys; from beam_jobs.reading.storage import Storage; from beam_jobs.reading import parquet_input\n"
        "uri = sys.argv[1]; keys = parquet_input.read_keys(Storage(), uri, ['ecg_id'])\n"
        "parquet_input.read_table(Storage(), uri)"
    )
    command = [sys.executable, "-c", code, str(cohort / "part-0.parquet")]
    codes = [subprocess.run(command, check=False).returncode for _ in range(5)]
    assert codes == [0] * 5


def test_score__ingest_with_too_many_rejects_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, ecg = tmp_path / "raw", tmp_path / "ecg"
    raw.mkdir()
    leads = dict(zip(CLINICAL_LEADS, people(1).counts[0], strict=True))
    gain = 1000 / 5  # counts of one millivolt: these are counts of 5 uV
    for name, data in wfdb_record(leads, name="r0", gain=f"{gain:g}").items():
        (raw / name).write_bytes(data)
    (raw / "broken.xml").write_bytes(b"<nothing>")
    ingest = ("ingest", "--input", raw, "--output", ecg)
    assert lvm(*ingest) == 1
    capsys.readouterr()
    assert score(ecg, tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "was not accepted: 1 of 2 ECGs are rejected (50.0%" in said
    assert "--max-rejected-share 0.05" in said
    assert f"Look at {ecg}/rejects" in said
    assert "run the same lvm-ai ingest command with a larger --max-rejected-share" in said
    assert lvm(*ingest, "--max-rejected-share", 0.5) == 0
    assert score(ecg, tmp_path / "out", "--accept-scale") == 0


def test_query__reasons_of_a_run_without_rejects_are_an_empty_table(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert score(cohort, out) == 0
    assert not (out / "rejects").exists()
    capsys.readouterr()
    sql = "SELECT reason, count(*) AS n FROM rejects GROUP BY reason"
    assert lvm("query", sql, "--run", out) == 0
    assert capsys.readouterr().out == "reason  n\n(no rows)\n"
    for table in ("predictions", "participants", "duplicates"):
        assert lvm("query", f"SELECT count(*) FROM {table}", "--run", out) == 0
