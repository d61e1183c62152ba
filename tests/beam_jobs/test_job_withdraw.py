"""People who must not be in a run: excluded when it is made, or withdrawn from it later."""

import dataclasses
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.beam_jobs.conftest import Finish
from tests.beam_jobs.job_helpers import (
    FULL,
    assert_nowhere,
    assert_reconciles,
    counts,
    everything,
    exclusion_list,
    fake_mass_g,
    flat_in,
    lvm,
    masses,
    people,
    people_table,
    predictions,
    reject_counts,
    rejects,
    result_files,
    score,
    score_argv,
    write_parquet,
    write_participants,
)

pytestmark = pytest.mark.usefixtures("fake")

ACCEPT = ("--max-rejected-share", 0.9)
N_ECGS = 24


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Return 24 ECGs in 3 units; those of rows 4 and 10 have a flat lead."""
    made = flat_in(people(N_ECGS), 4, 10)
    return write_parquet(tmp_path / "in" / "a.parquet", people_table(made))


@pytest.fixture
def run(cohort: Path, tmp_path: Path) -> Path:
    assert score(cohort, tmp_path / "out", *ACCEPT) == 0
    return tmp_path / "out"


def ids_of(*rows: int) -> list[str]:
    made = people(N_ECGS)
    return [made.ecg_id[r] for r in rows] + [made.participant_id[r] for r in rows]


def test_exclude__person_of_a_parquet_input_is_nowhere(cohort: Path, tmp_path: Path) -> None:
    gone = exclusion_list(tmp_path / "gone.txt", *[people(N_ECGS).participant_id[r] for r in (2, 9)])
    output = tmp_path / "out"
    assert score(cohort, output, *ACCEPT, "--exclude-participants", gone) == 0
    assert_nowhere(output, *ids_of(2, 9))
    assert reject_counts(output) == {"excluded": 2, "lead_flat": 2}
    assert_reconciles(output, N_ECGS)
    assert lvm("verify", output) == 0


def test_exclude__others_keep_their_predictions(cohort: Path, tmp_path: Path) -> None:
    gone = exclusion_list(tmp_path / "gone.txt", people(N_ECGS).participant_id[2])
    assert score(cohort, tmp_path / "out", *ACCEPT, "--exclude-participants", gone) == 0
    expected = fake_mass_g(people(N_ECGS))
    for row in (2, 4, 10):
        del expected[people(N_ECGS).ecg_id[row]]
    assert masses(tmp_path / "out") == expected


def test_exclude__rejected_ecg_of_the_person_is_anonymous_too(cohort: Path, tmp_path: Path) -> None:
    gone = exclusion_list(tmp_path / "gone.txt", people(N_ECGS).participant_id[4])
    output = tmp_path / "out"
    assert score(cohort, output, *ACCEPT, "--exclude-participants", gone) == 0
    assert_nowhere(output, *ids_of(4))
    assert reject_counts(output) == {"excluded": 1, "lead_flat": 1}
    row = next(r for r in rejects(output) if r["reason"] == "excluded")
    assert (row["source_uri"], row["row"], row["ecg_id"], row["participant_id"]) == (None,) * 4


def test_exclude__header_of_the_list_may_name_its_column(cohort: Path, tmp_path: Path) -> None:
    made = people(N_ECGS)
    (tmp_path / "gone.csv").write_text(f"eid,date\n{made.participant_id[2]},2020-01-01\n")
    output = tmp_path / "out"
    assert score(cohort, output, *ACCEPT, "--exclude-participants", tmp_path / "gone.csv") == 0
    assert_nowhere(output, *ids_of(2))


def test_exclude__single_ecg_leaves_its_person(tmp_path: Path) -> None:
    made = people(8)
    same_person = dataclasses.replace(made, participant_id=("person-1",) * 8)
    write_parquet(tmp_path / "in" / "a.parquet", people_table(same_person))
    gone = exclusion_list(tmp_path / "gone.txt", made.ecg_id[3])
    output = tmp_path / "out"
    assert score(tmp_path / "in", output, *ACCEPT, "--exclude-participants", gone) == 0
    assert_nowhere(output, made.ecg_id[3])
    assert len(predictions(output)) == 7


def test_withdraw__person_is_nowhere_and_counts_follow(run: Path, tmp_path: Path) -> None:
    before = counts(run)
    gone = exclusion_list(tmp_path / "gone.txt", *[people(N_ECGS).participant_id[r] for r in (2, 9)])
    assert lvm("withdraw", run, "--participants", gone) == 0
    assert_nowhere(run, *ids_of(2, 9))
    after = counts(run)
    assert after["read"] == before["read"] == N_ECGS
    assert after["predicted"] == before["predicted"] - 2
    assert after["rejected"] == {"excluded": 2, "lead_flat": 2}
    assert_reconciles(run, N_ECGS)
    assert lvm("verify", run) == 0


def test_withdraw__person_is_not_in_notes_of_a_killed_run(run: Path, tmp_path: Path) -> None:
    person = people(N_ECGS).participant_id[2]
    note = {"stages_s": {"total": 1.0}, "failures": [f"cannot read raw/{person}.xml"]}
    (run / "reports" / "under-way-1-of-2-ab.json").write_text(json.dumps(note))
    assert lvm("withdraw", run, "--participants", exclusion_list(tmp_path / "gone.txt", person)) == 0
    assert_nowhere(run, *ids_of(2))


def test_withdraw__others_keep_their_rows(run: Path, tmp_path: Path) -> None:
    gone_id = people(N_ECGS).participant_id[2]
    kept = [row for row in predictions(run) if row["participant_id"] != gone_id]
    gone = exclusion_list(tmp_path / "gone.txt", gone_id)
    assert lvm("withdraw", run, "--participants", gone) == 0
    assert predictions(run) == kept


def test_withdraw__units_without_the_person_stay_untouched(run: Path, tmp_path: Path) -> None:
    before = everything(run / "predictions")
    gone = exclusion_list(tmp_path / "gone.txt", people(N_ECGS).participant_id[2])
    assert lvm("withdraw", run, "--participants", gone) == 0
    after = everything(run / "predictions")
    assert [path for path in before if before[path] != after[path]] == [
        path for path in before if "unit-000000" in path
    ]


def test_withdraw__rejected_ecg_of_the_person_becomes_anonymous(run: Path, tmp_path: Path) -> None:
    gone = exclusion_list(tmp_path / "gone.txt", people(N_ECGS).participant_id[4])
    assert lvm("withdraw", run, "--participants", gone) == 0
    assert_nowhere(run, *ids_of(4))
    assert reject_counts(run) == {"excluded": 1, "lead_flat": 1}
    assert_reconciles(run, N_ECGS)
    assert lvm("verify", run) == 0


def test_withdraw__somebody_who_is_not_in_the_run_changes_no_result(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = result_files(run)
    gone = exclusion_list(tmp_path / "gone.txt", "nobody-77")
    # The second time too: the first has kept its digest, but has not found it.
    for _ in range(2):
        assert lvm("withdraw", run, "--participants", gone) == 1
        said = capsys.readouterr().err
        assert "found 0 of 1 listed people; ECGs removed: 0, rejects removed: 0;" in said
        assert "error: nobody of the list is in this run" in said
        assert "nobody-77" not in said
    assert result_files(run) == before
    assert_nowhere(run, "nobody-77")
    assert (run / "_SUCCESS").is_file()


def test_withdraw__says_who_was_found_and_writes_the_rest_to_a_private_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = flat_in(people(N_ECGS), 4)
    twice = list(made.participant_id)
    twice[3] = twice[2]  # a person with two ECGs
    shared = dataclasses.replace(made, participant_id=tuple(twice))
    write_parquet(tmp_path / "in" / "a.parquet", people_table(shared))
    out, rest = tmp_path / "out", tmp_path / "rest.txt"
    assert score(tmp_path / "in", out, *ACCEPT) == 0
    gone = exclusion_list(tmp_path / "gone.txt", twice[2], twice[4], "9999999")
    argv = ("withdraw", out, "--participants", gone)
    capsys.readouterr()
    assert lvm(*argv, "--not-found-list", rest) == 0
    said = capsys.readouterr().err
    assert "found 2 of 3 listed people; ECGs removed: 2, rejects removed: 1;" in said
    assert "listed identifiers that were not found: 1" in said
    assert "9999999" not in said
    assert rest.read_text() == "9999999\n"
    assert rest.stat().st_mode & 0o777 == 0o600
    assert_nowhere(out, "9999999", twice[2], twice[4])
    assert lvm(*argv) == 0
    said = capsys.readouterr().err
    assert "found 0 of 3 listed people;" in said
    assert "listed people who were removed before: 2" in said
    assert "error" not in said


@pytest.mark.parametrize("place", ["out/rest.txt", "out/reports/rest.txt", "there.txt"])
def test_withdraw__not_found_list_in_the_run_or_over_a_file_is_refused(
    place: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there.txt").write_text("mine")
    before = everything(run)
    gone = exclusion_list(tmp_path / "gone.txt", people(N_ECGS).participant_id[2])
    argv = ("withdraw", run, "--participants", gone, "--not-found-list", tmp_path / place)
    assert lvm(*argv) == 2
    assert "--not-found-list" in capsys.readouterr().err
    assert everything(run) == before
    assert (tmp_path / "there.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["predictions", "rejects"])
def test_withdraw__does_not_hide_that_a_file_was_changed(
    name: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sorted((run / name).iterdir())[0]
    table = pq.read_table(path)
    column = {"predictions": "model_id", "rejects": "detail"}[name]
    values = ["other", *table[column].to_pylist()[1:]]
    place = table.schema.get_field_index(column)
    changed = table.set_column(place, table.schema.field(place), [values])
    pq.write_table(changed.replace_schema_metadata(table.schema.metadata), path)
    gone = exclusion_list(tmp_path / "gone.txt", people(N_ECGS).participant_id[2])
    assert lvm("withdraw", run, "--participants", gone) == 1
    assert f"{name}/{path.name} was changed" in capsys.readouterr().err
    assert lvm("verify", run, "--no-sample") == 1


def test_withdraw__twice_is_the_same_as_once(run: Path, tmp_path: Path) -> None:
    gone = exclusion_list(tmp_path / "gone.txt", *[people(N_ECGS).participant_id[r] for r in (2, 4)])
    assert lvm("withdraw", run, "--participants", gone) == 0
    once = {path: content for path, (_, content) in everything(run).items()}
    assert lvm("withdraw", run, "--participants", gone) == 0
    assert {path: content for path, (_, content) in everything(run).items()} == once
    assert lvm("verify", run) == 0


def test_withdraw__one_after_the_other_adds_up(run: Path, tmp_path: Path) -> None:
    for row in (2, 3):
        gone = exclusion_list(tmp_path / "gone.txt", people(N_ECGS).participant_id[row])
        assert lvm("withdraw", run, "--participants", gone) == 0
    assert_nowhere(run, *ids_of(2, 3))
    assert reject_counts(run)["excluded"] == 2
    assert_reconciles(run, N_ECGS)


def test_withdraw__same_score_command_then_says_finished(
    run: Path, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = exclusion_list(tmp_path / "gone.txt", people(N_ECGS).participant_id[2])
    assert lvm("withdraw", run, "--participants", gone) == 0
    before = everything(run)
    capsys.readouterr()
    assert score(cohort, run, *ACCEPT) == 0
    assert "finished already" in capsys.readouterr().err
    assert everything(run) == before


def test_withdraw__unfinished_run_is_refused(
    cohort: Path, tmp_path: Path, finish: Finish, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert finish(score_argv(cohort, output, *ACCEPT), kill_at_fsync=5) == -9
    gone = exclusion_list(tmp_path / "gone.txt", people(N_ECGS).participant_id[2])
    assert lvm("withdraw", output, "--participants", gone) == 2
    assert "--exclude-participants" in capsys.readouterr().err


def test_withdraw__identical_signals_are_no_longer_listed(tmp_path: Path) -> None:
    made = people(8)
    signals = made.counts.copy()
    signals[6] = signals[1]
    write_parquet(tmp_path / "in" / "a.parquet", people_table(dataclasses.replace(made, counts=signals)))
    output = tmp_path / "out"
    assert score(tmp_path / "in", output) == 0
    gone = exclusion_list(tmp_path / "gone.txt", made.participant_id[6])
    assert lvm("withdraw", output, "--participants", gone) == 0
    assert_nowhere(output, made.ecg_id[6], made.participant_id[6])
    assert pq.read_table(output / "duplicates.parquet").num_rows == 0


# The syncs of a withdrawal of a scored and a rejected ECG in two units: 2 of each file: rejects and
# result of both units, duplicates, run report; one more pair for good measure.
WITHDRAW_MOMENTS = range(1, 13)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, finish: Finish) -> Path:
    """Return a folder with an input and a finished run over it, to be copied."""
    folder = tmp_path_factory.mktemp("finished")
    made = flat_in(people(N_ECGS), 4, 10)
    write_parquet(folder / "in" / "a.parquet", people_table(made))
    table = write_participants(folder / "people.csv", made)
    more = (*ACCEPT, "--participants", table)
    assert finish(score_argv(folder / "in", folder / "out", *more)) == 0
    return folder


@pytest.mark.parametrize("moment", WITHDRAW_MOMENTS)
def test_withdraw_killed__again_ends_as_if_it_had_not_been(
    moment: int, finished: Path, tmp_path: Path, finish: Finish
) -> None:
    run = tmp_path / "out"
    shutil.copytree(finished / "out", run)
    # Row 2: scored, unit 0. Row 4: rejected, unit 0. Row 10: rejected, unit 1, where nothing else
    # of the listed people is.
    gone = exclusion_list(tmp_path / "gone.txt", *[people(N_ECGS).participant_id[r] for r in (2, 4, 10)])
    argv = ["withdraw", str(run), "--participants", str(gone)]
    assert finish(argv, kill_at_fsync=moment) == -9
    assert lvm(*argv) == 0
    assert_nowhere(run, *ids_of(2, 4, 10))
    assert reject_counts(run) == {"excluded": 3}
    assert_reconciles(run, N_ECGS)
    assert not list(run.rglob("*.tmp"))
    assert lvm("verify", run) == 0


def test_longer_list__removes_people_from_finished_units_too(run: Path, cohort: Path, tmp_path: Path) -> None:
    gone = exclusion_list(tmp_path / "gone.txt", *[people(N_ECGS).participant_id[r] for r in (2, 4, 23)])
    assert score(cohort, run, *ACCEPT, "--exclude-participants", gone) == 0
    assert_nowhere(run, *ids_of(2, 4, 23))
    assert reject_counts(run) == {"excluded": 3, "lead_flat": 1}
    assert (run / "_SUCCESS").is_file()
    assert_reconciles(run, N_ECGS)
    assert lvm("verify", run) == 0


def test_longer_list__equals_a_run_that_had_it_from_the_start(run: Path, cohort: Path, tmp_path: Path) -> None:
    made = people(N_ECGS)
    gone = exclusion_list(tmp_path / "gone.txt", made.participant_id[2], made.participant_id[3])
    assert score(cohort, run, *ACCEPT, "--exclude-participants", gone) == 0
    direct = tmp_path / "direct"
    assert score(cohort, direct, *ACCEPT, "--exclude-participants", gone) == 0
    assert predictions(run) == predictions(direct)
    assert reject_counts(run) == reject_counts(direct)


@pytest.mark.parametrize("moment", [3, 5, 7])
def test_longer_list__on_a_killed_run_leaves_nobody(moment: int, cohort: Path, tmp_path: Path, finish: Finish) -> None:
    output = tmp_path / "out"
    table = write_participants(tmp_path / "people.csv", people(N_ECGS))
    more = (*ACCEPT, "--participants", table)
    assert finish(score_argv(cohort, output, *more), kill_at_fsync=moment) == -9
    rows = (2, 4, 23)
    gone = exclusion_list(tmp_path / "gone.txt", *[people(N_ECGS).participant_id[r] for r in rows])
    assert score(cohort, output, *more, "--exclude-participants", gone) == 0
    assert_nowhere(output, *ids_of(*rows))
    assert_reconciles(output, N_ECGS)


def test_participants_table__excluded_people_are_left_out_of_the_copy(cohort: Path, tmp_path: Path) -> None:
    table = write_participants(tmp_path / "people.csv", people(N_ECGS))
    gone = exclusion_list(tmp_path / "gone.txt", people(N_ECGS).participant_id[2])
    output = tmp_path / "out"
    more = ("--participants", table, "--exclude-participants", gone)
    assert score(cohort, output, *ACCEPT, *more, model=FULL) == 0
    assert_nowhere(output, *ids_of(2))
    assert pq.read_metadata(output / "participants.parquet").num_rows == N_ECGS - 1


@pytest.fixture
def keyed(tmp_path: Path) -> tuple[Path, Path]:
    """Return ECGs without participant_id, and a table that gives their people by ecg_id."""
    made = flat_in(people(N_ECGS), 4, 10)
    path = tmp_path / "in" / "a.parquet"
    write_parquet(path, people_table(made).drop_columns(["participant_id"]))
    return path, write_participants(tmp_path / "people.csv", made, key="both")


@pytest.mark.parametrize("when", ["at the run", "withdrawn", "longer list"])
def test_person_known_from_the_participant_table_only__is_nowhere(
    when: str, keyed: tuple[Path, Path], tmp_path: Path
) -> None:
    ecgs, table = keyed
    output = tmp_path / "out"
    gone = exclusion_list(tmp_path / "gone.txt", *[people(N_ECGS).participant_id[r] for r in (2, 4, 23)])
    exclude = ("--exclude-participants", gone)
    more = (*ACCEPT, "--participants", table, *(exclude if when == "at the run" else ()))
    assert score(ecgs, output, *more, model=FULL) == 0
    if when == "withdrawn":
        assert lvm("withdraw", output, "--participants", gone) == 0
    elif when == "longer list":
        assert score(ecgs, output, *more, *exclude, model=FULL) == 0
    assert_nowhere(output, *ids_of(2, 4, 23))
    assert reject_counts(output) == {"excluded": 3, "lead_flat": 1}
    assert_reconciles(output, N_ECGS)
    assert lvm("verify", output) == 0


def test_withdraw__short_id_does_not_hit_other_peoples_rows_by_the_file_name(tmp_path: Path) -> None:
    made = flat_in(people(16), 4, 10)
    numbered = dataclasses.replace(made, participant_id=tuple(str(i) for i in range(16)))
    write_parquet(tmp_path / "in" / "part-1.parquet", people_table(numbered))
    output = tmp_path / "out"
    assert score(tmp_path / "in", output, *ACCEPT) == 0
    gone = exclusion_list(tmp_path / "gone.txt", "1")
    assert lvm("withdraw", output, "--participants", gone) == 0
    assert len(predictions(output)) == 13
    assert reject_counts(output) == {"excluded": 1, "lead_flat": 2}
    assert_reconciles(output, 16)


def test_longer_list__short_id_in_a_file_name_leaves_the_rest_of_the_plan_readable(
    tmp_path: Path, finish: Finish
) -> None:
    made = people(24)
    numbered = dataclasses.replace(made, participant_id=tuple(str(i) for i in range(24)))
    write_parquet(tmp_path / "in" / "part-1.parquet", people_table(numbered))
    output = tmp_path / "out"
    gone = exclusion_list(tmp_path / "gone.txt", "1")
    assert finish(score_argv(tmp_path / "in", output, *ACCEPT), kill_at_fsync=6) == -9
    argv = score_argv(tmp_path / "in", output, *ACCEPT, "--exclude-participants", gone)
    assert finish(argv, kill_at_fsync=12) == -9
    assert lvm(*argv) == 0
    assert len(predictions(output)) == 23
    assert_reconciles(output, 24)
