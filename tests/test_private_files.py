"""What commands write is for their user alone, whatever the umask, unless `--share` says more."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import lvm_ai
from tests.beam_jobs import job_runner
from tests.beam_jobs.conftest import Finish, finish, home, spawn
from tests.beam_jobs.job_helpers import (
    CLINICAL_LEADS,
    FULL,
    exclusion_list,
    lvm,
    people,
    people_table,
    score,
    score_argv,
    write_cohort,
    write_parquet,
    write_participants,
)
from tests.file_builders import cardiosoft_xml

__all__ = ["finish", "home", "spawn"]

OPEN_UMASK = 0o022


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """Give the user the umask of most machines: everybody reads."""
    before = os.umask(OPEN_UMASK)
    yield
    os.umask(before)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace TensorFlow by the fake predictor."""
    monkeypatch.setattr("beam_jobs.scoring.job.shared_predictor", job_runner.fake_shared_predictor())
    monkeypatch.setattr("beam_jobs.run.resources.choose_engine", job_runner.fake_choice)


def modes(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the modes of folders and of files that occur, with how many have each."""
    found: dict[str, list[int]] = {"folder": [], "file": []}
    for path in [folder, *folder.rglob("*")]:
        kind = "folder" if path.is_dir() else "file"
        found[kind].append(stat.S_IMODE(path.stat().st_mode))
    assert found["file"]
    return {kind: (min(values, default=0), max(values, default=0)) for kind, values in found.items()}


PRIVATE = {"folder": (0o700, 0o700), "file": (0o600, 0o600)}
OF_GROUP = {"folder": (0o750, 0o750), "file": (0o640, 0o640)}
OF_UMASK = {"folder": (0o755, 0o755), "file": (0o644, 0o644)}
SHARES = [((), PRIVATE), (("--share", "group"), OF_GROUP), (("--share", "umask"), OF_UMASK)]


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize(("share", "expected"), SHARES)
def test_score__run_folder_is_as_shared(
    share: tuple[str, ...], expected: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    table = people_table(people(24), missing={"V1": {4: [17]}})
    write_parquet(tmp_path / "in" / "a.parquet", table)
    assert score(tmp_path / "in", tmp_path / "new" / "out", *share) == 0
    assert len(list((tmp_path / "new" / "out").rglob("*.parquet"))) == 5  # rejects, duplicates too
    assert modes(tmp_path / "new") == expected


@pytest.mark.usefixtures("fake")
def test_score__participants_stay_with_their_user_even_where_the_rest_is_shared(tmp_path: Path) -> None:
    made = write_cohort(tmp_path / "in", 8)
    table = write_participants(tmp_path / "people.csv", made)
    more = ("--participants", table, "--share", "group")
    assert score(tmp_path / "in", tmp_path / "out", *more, model=FULL) == 0
    participants = tmp_path / "out" / "participants.parquet"
    assert stat.S_IMODE(participants.stat().st_mode) == 0o600


@pytest.mark.usefixtures("fake")
def test_score__strict_umask_does_not_take_from_the_group(tmp_path: Path) -> None:
    write_cohort(tmp_path / "in", 8)
    os.umask(0o077)
    assert score(tmp_path / "in", tmp_path / "out", "--share", "group") == 0
    assert modes(tmp_path / "out") == OF_GROUP


@pytest.mark.parametrize("moment", [1, 3, 5])
def test_score__temporary_file_of_a_killed_run_is_private(moment: int, tmp_path: Path, finish: Finish) -> None:
    write_cohort(tmp_path / "in", 24)
    assert finish(score_argv(tmp_path / "in", tmp_path / "out"), kill_at_fsync=moment) == -9
    assert list((tmp_path / "out").rglob(".*.tmp"))
    assert modes(tmp_path / "out") == PRIVATE


@pytest.mark.usefixtures("fake")
def test_score__folder_that_was_open_before_is_named_with_the_cure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cohort(tmp_path / "in", 8)
    (tmp_path / "out").mkdir()
    assert score(tmp_path / "in", tmp_path / "out") == 0
    said = capsys.readouterr().err
    assert "mode 0755" in said
    assert f"chmod -R go-rwx {tmp_path / 'out'}" in said
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o755
    below = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in below} == {0o600}


@pytest.mark.usefixtures("fake")
def test_score__closed_folder_is_not_warned_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cohort(tmp_path / "in", 8)
    (tmp_path / "out").mkdir(mode=0o700)
    assert score(tmp_path / "in", tmp_path / "out") == 0
    assert "chmod" not in capsys.readouterr().err


@pytest.mark.usefixtures("fake")
def test_withdraw__what_it_rewrites_stays_private(tmp_path: Path) -> None:
    made = write_cohort(tmp_path / "in", 8)
    assert score(tmp_path / "in", tmp_path / "out") == 0
    gone = exclusion_list(tmp_path / "gone.txt", made.participant_id[2])
    assert lvm("withdraw", tmp_path / "out", "--participants", gone) == 0
    assert modes(tmp_path / "out") == PRIVATE


@pytest.mark.parametrize(("share", "expected"), SHARES)
def test_ingest__run_folder_is_as_shared(
    share: tuple[str, ...], expected: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    leads = dict(zip(CLINICAL_LEADS, people(1).counts[0], strict=True))
    (tmp_path / "a.xml").write_bytes(cardiosoft_xml(leads))
    output = tmp_path / "ecg"
    assert lvm("ingest", "--input", tmp_path / "a.xml", "--output", output, *share) == 0
    assert modes(output) == expected


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("share", "expected"), SHARES[:2])
def test_simulate__folder_is_as_shared(
    share: tuple[str, ...], expected: dict[str, tuple[int, int]], threads: int, tmp_path: Path
) -> None:
    argv = ["--participants", 120, "--seed", 1, "--threads", threads, "--output", tmp_path / "s"]
    assert lvm("simulate", *argv, *share) == 0
    assert modes(tmp_path / "s") == expected


@pytest.mark.parametrize("name", sorted(lvm_ai.COMMANDS))
def test_every_command__works_under_a_private_umask(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def main(argv: list[str]) -> int:
        seen.append(os.umask(OPEN_UMASK))
        os.umask(seen[-1])
        return 0

    monkeypatch.setattr(lvm_ai, "import_module", lambda _: SimpleNamespace(main=main, demo=main))
    for more, expected in (((), 0o077), (("--share", "group"), 0o027), (("--share", "umask"), 0o022)):
        seen.clear()
        assert lvm_ai.main([name, *more]) == 0
        # Folders of models are shared, and hold nothing of people.
        assert set(seen) == {OPEN_UMASK if name == "models" else expected}


def test_umask__is_the_users_own_again_after_a_command(tmp_path: Path) -> None:
    assert lvm("status", tmp_path) == 2
    assert os.umask(OPEN_UMASK) == OPEN_UMASK
