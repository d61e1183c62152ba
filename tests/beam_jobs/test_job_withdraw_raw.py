"""People who must not be in a run over raw files, where the names of the files hold the person."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.beam_jobs.conftest import Finish
from tests.beam_jobs.job_helpers import (
    CLINICAL_LEADS,
    SMALL,
    assert_nowhere,
    assert_reconciles,
    everything,
    exclusion_list,
    flat_in,
    lvm,
    people,
    predictions,
    reject_counts,
    score,
    score_argv,
)
from tests.file_builders import cardiosoft_xml

pytestmark = pytest.mark.usefixtures("fake")

ACCEPT = ("--max-rejected-share", 0.9)

# Raw files with UK Biobank's names: EID_20205_INSTANCE_ARRAY.xml.
EIDS = [str(1000001 + 7 * i) for i in range(10)]
GONE = [EIDS[2], EIDS[5], EIDS[7]]


def ukb_files() -> dict[str, bytes]:
    """Return 11 files of 10 people.

    EIDS[5] has a flat lead, EIDS[7] a file cut in half, EIDS[2] a second visit.
    """
    made = flat_in(people(11), 5)
    files = {}
    for i, eid in enumerate([*EIDS, EIDS[2]]):
        leads = dict(zip(CLINICAL_LEADS, made.counts[i], strict=True))
        name = f"{eid}_20205_{3 if i == 10 else 2}_0.xml"
        files[name] = cardiosoft_xml(leads, participant_id=eid)
    broken = f"{EIDS[7]}_20205_2_0.xml"
    files[broken] = files[broken][: len(files[broken]) // 2]
    return files


def write_ukb(folder: Path, how: str) -> Path:
    """Write the files loose, or into a .zip or .tar.gz."""
    folder.mkdir(parents=True)
    files = ukb_files()
    if how == "loose":
        for name, data in files.items():
            (folder / name).write_bytes(data)
    elif how == "zip":
        with zipfile.ZipFile(folder / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(folder / "all.tar.gz", "w:gz") as archive:
            for name, data in files.items():
                info = tarfile.TarInfo(f"deep/{name}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return folder


UKB = ("--id-pattern", "ukb-20205", *ACCEPT)


@pytest.mark.parametrize(
    ("how", "when"),
    [
        ("loose", "at the run"),
        ("loose", "withdrawn"),
        ("loose", "longer list"),
        ("zip", "at the run"),
        ("zip", "withdrawn"),
        ("tar.gz", "at the run"),
        ("tar.gz", "longer list"),
    ],
)
def test_ukb_files__person_is_nowhere(how: str, when: str, tmp_path: Path) -> None:
    raw = write_ukb(tmp_path / "raw", how)
    gone = exclusion_list(tmp_path / "gone.txt", *GONE)
    exclude = ("--exclude-participants", gone)
    output = tmp_path / "out"
    assert score(raw, output, *UKB, *(exclude if when == "at the run" else ())) == 0
    if when == "withdrawn":
        assert lvm("withdraw", output, "--participants", gone) == 0
    elif when == "longer list":
        assert score(raw, output, *UKB, *exclude) == 0
    assert_nowhere(output, *GONE)
    assert reject_counts(output) == {"excluded": 4}
    kept = [eid for eid in EIDS if eid not in GONE]
    assert [row["participant_id"] for row in predictions(output)] == kept
    assert [row["ecg_id"] for row in predictions(output)] == [f"{e}_20205_2_0" for e in kept]
    assert_reconciles(output, 11)
    assert lvm("verify", output) == 0


@pytest.mark.parametrize("when", ["at the run", "withdrawn", "longer list"])
def test_ukb_files__person_is_nowhere_in_an_ingest_run(when: str, tmp_path: Path) -> None:
    raw = write_ukb(tmp_path / "raw", "loose")
    gone = exclusion_list(tmp_path / "gone.txt", *GONE)
    exclude = ("--exclude-participants", gone)
    output = tmp_path / "ecg"
    argv = ["ingest", "--input", raw, "--output", output, "--unit-ecgs", 4, *UKB]
    assert lvm(*argv, *(exclude if when == "at the run" else ())) == 0
    if when == "withdrawn":
        assert lvm("withdraw", output, "--participants", gone) == 0
    elif when == "longer list":
        assert lvm(*argv, *exclude) == 0
    assert_nowhere(output, *GONE)
    assert reject_counts(output) == {"excluded": 4}
    assert_reconciles(output, 11)
    assert lvm("verify", output) == 0


@pytest.mark.parametrize("when", ["at the run", "withdrawn", "longer list"])
def test_ukb_files__listed_one_by_one_on_the_command_line(when: str, tmp_path: Path) -> None:
    # As a shell expands --input ukb/*.xml: every file name stands in the options.
    raw = write_ukb(tmp_path / "raw", "loose")
    names = sorted(raw.iterdir())
    gone = exclusion_list(tmp_path / "gone.txt", *GONE)
    exclude = ("--exclude-participants", gone)
    output = tmp_path / "out"
    argv = ["score", "--input", *names, "--output", output, "--model", "demo-synthetic-ecg-only"]
    argv += [*SMALL, *UKB]
    assert lvm(*argv, *(exclude if when == "at the run" else ())) == 0
    if when == "withdrawn":
        assert lvm("withdraw", output, "--participants", gone) == 0
    elif when == "longer list":
        assert lvm(*argv, *exclude) == 0
    assert_nowhere(output, *GONE)
    assert_reconciles(output, 11)


def test_ukb_files__list_given_before_the_first_unit_is_done(tmp_path: Path, finish: Finish) -> None:
    raw = write_ukb(tmp_path / "raw", "loose")
    output = tmp_path / "out"
    # Killed when the plan is there and no unit is.
    assert finish(score_argv(raw, output, *UKB), kill_at_fsync=3) == -9
    assert (output / "plan.json").is_file()
    gone = exclusion_list(tmp_path / "gone.txt", *GONE)
    assert score(raw, output, *UKB, "--exclude-participants", gone) == 0
    assert_nowhere(output, *GONE)
    assert_reconciles(output, 11)


def test_ukb_files__withdrawn_from_score_of_an_ingest(tmp_path: Path) -> None:
    raw = write_ukb(tmp_path / "raw", "zip")
    ecgs, output = tmp_path / "ecg", tmp_path / "out"
    argv = ["ingest", "--input", raw, "--output", ecgs, "--unit-ecgs", 4, *UKB]
    assert lvm(*argv) == 0
    assert score(ecgs, output, *ACCEPT) == 0
    gone = exclusion_list(tmp_path / "gone.txt", *GONE)
    for folder in (ecgs, output):
        assert lvm("withdraw", folder, "--participants", gone) == 0
        assert_nowhere(folder, *GONE)
    assert lvm("verify", ecgs) == 0


def test_ukb_files__same_command_after_a_withdrawal_says_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = write_ukb(tmp_path / "raw", "loose")
    output = tmp_path / "out"
    assert score(raw, output, *UKB) == 0
    gone = exclusion_list(tmp_path / "gone.txt", *GONE)
    assert lvm("withdraw", output, "--participants", gone) == 0
    before = everything(output)
    capsys.readouterr()
    assert score(raw, output, *UKB) == 0
    assert "finished already" in capsys.readouterr().err
    assert everything(output) == before


def test_progress_lines__name_nobody_who_is_excluded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = write_ukb(tmp_path / "raw", "loose")
    gone = exclusion_list(tmp_path / "gone.txt", *GONE)
    capsys.readouterr()
    assert score(raw, tmp_path / "out", *UKB, "--exclude-participants", gone) == 0
    shown = capsys.readouterr()
    assert not [eid for eid in EIDS if eid in shown.out + shown.err]
