"""`kill -9` at any moment, then the same command: only what is missing, and the same bytes."""

import dataclasses
import random
import time
from pathlib import Path

import pytest

from tests.beam_jobs.conftest import Finish, Spawn, ended
from tests.beam_jobs.job_helpers import (
    CLINICAL_LEADS,
    assert_reconciles,
    people,
    people_table,
    result_files,
    score_argv,
    write_parquet,
)

N_ECGS = 48
N_UNITS = 6
FLAT_ROWS = (9, 34)  # so that units 1 and 4 have a rejects file
ACCEPT = ("--max-rejected-share", "0.5")
KILLED = -9

# The syncs of a run: 2 of each file: plan, 6 results and 2 rejects, shard report, duplicates, run
# report, _SUCCESS. Odd: file written and not renamed; even: renamed.
N_SYNCS = 2 * (1 + N_UNITS + len(FLAT_ROWS) + 1 + 3)
MOMENTS = sorted(random.Random(20210601).sample(range(1, N_SYNCS + 1), 14))
_RANDOM = random.Random(7)
DELAYS_S = [round(_RANDOM.uniform(0.0, 0.5), 3) for _ in range(6)]


def write_input(folder: Path) -> Path:
    made = people(N_ECGS)
    counts = made.counts.copy()
    counts[list(FLAT_ROWS), CLINICAL_LEADS.index("V3")] = 7
    write_parquet(folder / "a.parquet", people_table(dataclasses.replace(made, counts=counts)))
    return folder


@dataclasses.dataclass(frozen=True)
class Whole:
    """An input and the files of an uninterrupted run over it."""

    inputs: Path
    files: dict[str, bytes]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, finish: Finish) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    inputs = write_input(folder / "in")
    assert finish(score_argv(inputs, folder / "out", *ACCEPT)) == 0
    assert_reconciles(folder / "out", N_ECGS)
    files = result_files(folder / "out")
    assert len(files) == N_UNITS + len(FLAT_ROWS)
    return Whole(inputs, files)


def assert_resumes(whole: Whole, output: Path, finish: Finish, *extra: str) -> None:
    """Run the same command again: it writes what is missing and nothing else."""
    done = [name for name in result_files(output) if name.startswith("predictions/")]
    writes = output.parent / "writes.txt"
    writes.unlink(missing_ok=True)
    argv = score_argv(whole.inputs, output, *ACCEPT, *extra)
    assert finish(argv, writes=str(writes)) == 0
    written = writes.read_text().splitlines() if writes.exists() else []
    results = [name for name in written if name.startswith("predictions/")]
    assert sorted(results) == sorted(n for n in whole.files if n.startswith("predictions/") and n not in done)
    assert result_files(output) == whole.files
    assert (output / "_SUCCESS").is_file()
    assert not list(output.rglob("*.tmp"))
    assert_reconciles(output, N_ECGS)


@pytest.mark.parametrize("moment", MOMENTS)
def test_kill_at_a_sync__same_command_does_the_rest_with_the_same_bytes(
    moment: int, whole: Whole, tmp_path: Path, finish: Finish
) -> None:
    output = tmp_path / "out"
    argv = score_argv(whole.inputs, output, *ACCEPT)
    assert finish(argv, kill_at_fsync=moment) == KILLED
    assert_resumes(whole, output, finish)


@pytest.mark.parametrize("delay_s", DELAYS_S)
def test_kill_at_any_time__same_command_does_the_rest_with_the_same_bytes(
    delay_s: float, whole: Whole, tmp_path: Path, spawn: Spawn, finish: Finish
) -> None:
    output = tmp_path / "out"
    process = spawn(score_argv(whole.inputs, output, *ACCEPT), sleep_s=0.1)
    while not (output / "plan.json").exists():
        time.sleep(0.01)
    time.sleep(delay_s)
    process.kill()
    assert ended(process) == KILLED
    assert_resumes(whole, output, finish)


def test_kill_between_a_units_two_files__unit_is_done_again(whole: Whole, tmp_path: Path, finish: Finish) -> None:
    output = tmp_path / "out"
    # Write 1 is the result of unit 0, write 2 the rejects of unit 1, write 3 its result.
    argv = score_argv(whole.inputs, output, *ACCEPT)
    assert finish(argv, kill_at_write=3) == KILLED
    rejects = {path.name for path in (output / "rejects").iterdir()}
    results = {path.name for path in (output / "predictions").iterdir()}
    assert len(rejects) == 1
    assert not rejects & results
    assert_resumes(whole, output, finish)


def test_kill_again_while_resuming__ends_with_the_same_bytes(whole: Whole, tmp_path: Path, finish: Finish) -> None:
    output = tmp_path / "out"
    argv = score_argv(whole.inputs, output, *ACCEPT)
    for moment in (5, 5, 8):
        assert finish(argv, kill_at_fsync=moment) == KILLED
    assert_resumes(whole, output, finish)


def test_kill__other_number_of_threads_resumes_with_the_same_bytes(
    whole: Whole, tmp_path: Path, finish: Finish
) -> None:
    output = tmp_path / "out"
    argv = score_argv(whole.inputs, output, *ACCEPT, "--threads", 1)
    assert finish(argv, kill_at_fsync=9) == KILLED
    assert_resumes(whole, output, finish, "--threads", "4")


@pytest.mark.parametrize(("order", "threads"), [((1, 2, 3), 1), ((3, 1, 2), 2), ((2, 3, 1), 4), ((3, 2, 1), 2)])
def test_shards__any_order_and_threads_give_the_bytes_of_one_run(
    order: tuple[int, ...], threads: int, whole: Whole, tmp_path: Path, finish: Finish
) -> None:
    output = tmp_path / "out"
    for n_done, shard in enumerate(order, start=1):
        more = (*ACCEPT, "--shard", f"{shard}/3", "--threads", threads)
        assert finish(score_argv(whole.inputs, output, *more)) == 0
        assert (output / "_SUCCESS").exists() == (n_done == 3)
        assert (output / "reports" / f"shard-{shard}-of-3.json").is_file()
        results = [n for n in result_files(output) if n.startswith("predictions/")]
        assert len(results) == n_done * N_UNITS // 3
    assert result_files(output) == whole.files
    assert_reconciles(output, N_ECGS)


def test_shards_at_once__plan_once_and_give_the_bytes_of_one_run(whole: Whole, tmp_path: Path, spawn: Spawn) -> None:
    output = tmp_path / "out"
    running = [spawn(score_argv(whole.inputs, output, *ACCEPT, "--shard", f"{i}/3"), sleep_s=0.02) for i in (1, 2, 3)]
    assert [ended(process) for process in running] == [0, 0, 0]
    assert result_files(output) == whole.files
    assert (output / "_SUCCESS").is_file()
    assert_reconciles(output, N_ECGS)


def test_shards_at_once__one_is_killed_and_the_others_go_on(
    whole: Whole, tmp_path: Path, spawn: Spawn, finish: Finish
) -> None:
    output = tmp_path / "out"
    argv = [score_argv(whole.inputs, output, *ACCEPT, "--shard", f"{i}/2") for i in (1, 2)]
    first, second = spawn(argv[0], kill_at_write=2), spawn(argv[1], sleep_s=0.02)
    assert ended(first) == KILLED
    assert ended(second) == 0
    assert not (output / "_SUCCESS").exists()
    assert finish(argv[0]) == 0
    assert (output / "_SUCCESS").is_file()
    assert result_files(output) == whole.files


def test_same_command_twice_at_once__does_no_harm(whole: Whole, tmp_path: Path, spawn: Spawn) -> None:
    output = tmp_path / "out"
    argv = score_argv(whole.inputs, output, *ACCEPT)
    running = [spawn(argv, sleep_s=0.02) for _ in range(2)]
    assert [ended(process) for process in running] == [0, 0]
    assert result_files(output) == whole.files
    assert_reconciles(output, N_ECGS)


def test_shards__more_than_units_end_with_nothing_to_do(whole: Whole, tmp_path: Path, finish: Finish) -> None:
    output = tmp_path / "out"
    assert finish(score_argv(whole.inputs, output, *ACCEPT, "--shard", "9/9")) == 0
    assert (output / "plan.json").is_file()
    assert result_files(output) == {}


def test_shards__killed_run_is_finished_by_another_split(whole: Whole, tmp_path: Path, finish: Finish) -> None:
    output = tmp_path / "out"
    assert finish(score_argv(whole.inputs, output, *ACCEPT), kill_at_fsync=7) == KILLED
    for shard in ("2/2", "1/2"):
        assert finish(score_argv(whole.inputs, output, *ACCEPT, "--shard", shard)) == 0
    assert result_files(output) == whole.files


def test_shards__one_with_another_setting_is_refused(whole: Whole, tmp_path: Path, finish: Finish) -> None:
    output = tmp_path / "out"
    assert finish(score_argv(whole.inputs, output, *ACCEPT, "--shard", "1/2")) == 0
    log = tmp_path / "log.txt"
    argv = score_argv(whole.inputs, output, *ACCEPT, "--shard", "2/2", "--batch", 2)
    assert finish(argv, log=str(log)) == 2
    assert "batch: was 4, is 2" in log.read_text()


def test_threads__bytes_do_not_depend_on_them(whole: Whole, tmp_path: Path, finish: Finish) -> None:
    output = tmp_path / "out"
    assert finish(score_argv(whole.inputs, output, *ACCEPT, "--threads", 4)) == 0
    assert result_files(output) == whole.files
