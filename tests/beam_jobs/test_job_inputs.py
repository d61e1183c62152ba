"""Whatever lies among the inputs of a job is read, rejected or counted with its kind."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from beam_jobs.reading import archives
from beam_jobs.reading.local_files import FileKind
from lvm_core.formats.registry import MAX_RECORD_BYTES
from lvm_core.formats.wfdb import MAX_HEADER_BYTES
from lvm_core.formats.xml import MAX_ITEMS, MAX_TAG_BYTES
from tests.beam_jobs.helpers import ecg_table
from tests.beam_jobs.job_helpers import counts, lvm, rejects, report, rows_of, score, write_cohort, write_parquet
from tests.beam_jobs.reading.test_archives import make_archive
from tests.file_builders import cardiosoft_xml, random_counts, wfdb_segments

CASES = Path(__file__).parents[3] / "shared" / "cases"
NO_UTF8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

pytestmark = pytest.mark.timeout(120)


def _xml(seed: int) -> bytes:
    return cardiosoft_xml(random_counts(seed))


def _write(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def _ingest(tmp_path: Path, *extra: str) -> int:
    return lvm("ingest", "--input", tmp_path / "in", "--output", tmp_path / "out", *extra)


def _ids(output: Path) -> set[str]:
    return {row["ecg_id"] for row in rows_of(output / "ecg")}


def test_ingest__pipes_and_second_paths_are_counted_with_their_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _write(tmp_path / "in", {"a.xml": _xml(1), "p/b.xml": _xml(2), "README": b""})
    os.mkfifo(folder / "c.parquet")
    (folder / "d.xml").symlink_to(folder / "a.xml")
    (folder / "q").symlink_to(folder / "p")
    (folder / "p" / "up").symlink_to(folder)
    assert _ingest(tmp_path) == 0
    assert _ids(tmp_path / "out") == {"a", "p/b"}
    found = report(tmp_path / "out")
    assert found["ignored_files"] == 5
    assert found["ignored_by_kind"] == {"by name": 1, "named pipe": 1, "link to what is read anyway": 3}
    said = capsys.readouterr().err
    assert "ignored: 5 (1 by name, 3 link to what is read anyway, 1 named pipe)" in said


def test_ingest__file_that_two_inputs_lead_to_is_read_once(tmp_path: Path) -> None:
    folder = _write(tmp_path / "in", {"a.xml": _xml(1)})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b.xml").symlink_to(folder / "a.xml")
    assert _ingest(tmp_path, "--input", str(tmp_path / "other")) == 0
    assert _ids(tmp_path / "out") == {"a"}
    assert report(tmp_path / "out")["ignored_by_kind"] == {"link to what is read anyway": 1}


def test_ingest__compressed_tars_and_single_files_are_read(tmp_path: Path) -> None:
    made = {f"{suffix}-{i}": _xml(i) for i, suffix in enumerate(("bz2", "xz"))}
    folder = _write(tmp_path / "in", {"x.xml.gz": gzip.compress(_xml(7)), "y.xml": _xml(8)})
    for suffix in ("bz2", "xz"):
        members = {f"{name}.xml": data for name, data in made.items() if suffix in name}
        make_archive(folder / f"a.tar.{suffix}", members)
    assert _ingest(tmp_path) == 0
    assert _ids(tmp_path / "out") == {"a.tar.bz2!bz2-0", "a.tar.xz!xz-1", "x", "y"}


def test_ingest__archives_that_differ_in_their_suffix_do_not_clash(tmp_path: Path) -> None:
    folder = _write(tmp_path / "in", {})
    folder.mkdir()
    for i, suffix in enumerate(("zip", "tar", "tgz", "tar.bz2")):
        make_archive(folder / f"a.{suffix}", {"1.xml": _xml(i)})
    assert _ingest(tmp_path) == 0
    assert _ids(tmp_path / "out") == {"a.zip!1", "a.tar!1", "a.tgz!1", "a.tar.bz2!1"}


def test_ingest__archives_that_are_not_read_stop_planning_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _write(tmp_path / "in", {"a.xml": _xml(1), "b.7z": b"7z\xbc\xaf\x27\x1c", "c.rar": b"R"})
    inner = make_archive(tmp_path / "inner.zip", {"q.xml": _xml(2)}).read_bytes()
    with zipfile.ZipFile(folder / "d.zip", "w") as outer:
        outer.writestr("inner.zip", inner)
        outer.writestr("e.xml", _xml(3))
    assert _ingest(tmp_path) == 2
    said = capsys.readouterr().err
    assert "among the inputs 3 archives are of a kind that is not read" in said
    assert "b.7z, c.rar, d.zip!inner.zip" in said
    assert not (tmp_path / "out" / "ecg").exists()
    accepted = ("--accept-unread-archives", "--max-rejected-share", "1")
    assert _ingest(tmp_path, *accepted) == 0
    assert _ids(tmp_path / "out") == {"a", "d.zip!e"}
    assert {(r["source_uri"], r["reason"], r["n_ecgs"]) for r in rejects(tmp_path / "out")} == {
        (name, "unreadable", None) for name in ("b.7z", "c.rar", "d.zip!inner.zip")
    }
    assert report(tmp_path / "out")["inputs_of_unknown_size"] == 3
    assert "3 inputs with an unknown number of ECGs cannot be read" in capsys.readouterr().err


def test_ingest__folder_without_any_ecg_says_what_was_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _write(tmp_path / "in", {"README": b"", "p/.hidden": b""})
    os.mkfifo(folder / "a.xml")
    assert _ingest(tmp_path) == 2
    said = capsys.readouterr().err
    assert "looked at 3 files, ignored 3 (2 by name, 1 named pipe)" in said
    assert "--allow-empty" in said
    assert _ingest(tmp_path, "--allow-empty") == 0
    assert counts(tmp_path / "out")["read"] == 0
    assert score(tmp_path / "out", tmp_path / "scored") == 2
    assert "looked at 0 files" in capsys.readouterr().err


def test_score__parquet_without_rows_is_refused_unless_allowed(
    tmp_path: Path, fake: None, capsys: pytest.CaptureFixture[str]
) -> None:
    write_parquet(tmp_path / "in" / "a.parquet", ecg_table(2).slice(0, 0))
    assert score(tmp_path / "in", tmp_path / "out") == 2
    assert "1 Parquet files have no rows" in capsys.readouterr().err
    assert score(tmp_path / "in", tmp_path / "out", "--allow-empty") == 0
    assert counts(tmp_path / "out")["read"] == 0
    assert (tmp_path / "out" / "_SUCCESS").exists()


@pytest.mark.parametrize("option", ["--participants", "--layout", "--exclude-participants", "--expect-files"])
def test_score__option_that_leads_to_no_file_is_refused_at_once(
    tmp_path: Path, fake: None, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    write_cohort(tmp_path / "in", 2)
    os.mkfifo(tmp_path / "pipe")
    assert score(tmp_path / "in", tmp_path / "out", option, tmp_path / "pipe") == 2
    assert f"{tmp_path}/pipe is a named pipe, expected a" in capsys.readouterr().err
    assert score(tmp_path / "in", tmp_path / "out", option, tmp_path) == 2
    assert f"{tmp_path} is a folder, expected a" in capsys.readouterr().err


def test_score__input_and_participants_swapped(tmp_path: Path, fake: None, capsys: pytest.CaptureFixture[str]) -> None:
    write_cohort(tmp_path / "in", 2)
    (tmp_path / "people.csv").write_text("participant_id,age_years\n1,50\n")
    swapped = ("--participants", tmp_path / "in")
    assert score(tmp_path / "people.csv", tmp_path / "out", *swapped) == 2
    assert "is a folder, expected a table (CSV or Parquet)" in capsys.readouterr().err


def test_score__model_that_is_a_pipe_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cohort(tmp_path / "in", 2)
    os.mkfifo(tmp_path / "model.h5")
    assert score(tmp_path / "in", tmp_path / "out", model=str(tmp_path / "model.h5")) != 0
    assert "model.h5 is not a file" in capsys.readouterr().err


def test_ingest__name_that_is_not_utf8_costs_nothing(tmp_path: Path) -> None:
    folder = os.fsencode(_write(tmp_path / "in", {"plain.xml": _xml(1)}))
    with open(folder + b"/M\xfcller.xml", "wb") as stream:
        stream.write(_xml(2))
    with open(folder + b"/G\xf6tz.xml", "wb") as stream:
        stream.write(b"no ECG")
    assert _ingest(tmp_path, "--max-rejected-share", "1") == 0
    assert _ids(tmp_path / "out") == {"plain", r"M\xfcller"}
    assert [row["source_uri"] for row in rejects(tmp_path / "out")] == [r"G\xf6tz.xml"]
    assert lvm("verify", tmp_path / "out") == 0


def test_ingest__paths_in_unicode_without_a_utf8_locale(tmp_path: Path) -> None:
    _write(tmp_path / "Köln", {"Müller.xml": _xml(1), "ä/ö.xml": _xml(2)})
    argv = ["ingest", "--input", str(tmp_path / "Köln"), "--output", str(tmp_path / "ü")]
    command = [sys.executable, "-m", "lvm_ai", *argv]
    plain = subprocess.run(command, env={**os.environ, **NO_UTF8}, check=False, capture_output=True)
    assert plain.returncode == 0, plain.stderr
    assert _ids(tmp_path / "ü") == {"Müller", "ä/ö"}
    # The plan is the same in a locale with UTF-8.
    assert lvm(*argv) == 0


@pytest.mark.parametrize(
    ("case", "n_read", "ids"),
    [
        ("archives/tar_hardlink.tar", 2, {"in/1000001_20205_3_0", "in/1000001_20205_2_0"}),
        ("formats/mixed_tar/links.tar", 3, {"real", "hard", "/".join(["d"] * 60) + "/long"}),
        ("formats/tar_latin1_name/latin1.tar", 2, {r"M\xfcller", "plain"}),
    ],
)
def test_ingest__archives_that_were_read_in_part(tmp_path: Path, case: str, n_read: int, ids: set[str]) -> None:
    if not (CASES / case).exists():
        pytest.skip(f"{CASES} is not there")
    (tmp_path / "in").mkdir()
    shutil.copy(CASES / case, tmp_path / "in" / "a.tar")
    assert _ingest(tmp_path) == 0
    assert counts(tmp_path / "out")["read"] == n_read
    assert {i.removeprefix("a.tar!") for i in _ids(tmp_path / "out")} == ids


def test_ingest__file_over_the_limit_is_rejected_without_being_read(tmp_path: Path) -> None:
    folder = _write(tmp_path / "in", {"a.xml": _xml(1)})
    with open(folder / "b.xml", "wb") as stream:
        stream.truncate(10_000_000_000)  # a sparse file: 10 GB that take no space
    assert _ingest(tmp_path, "--max-rejected-share", "1") == 0
    assert _ids(tmp_path / "out") == {"a"}
    (reject,) = rejects(tmp_path / "out")
    assert reject["reason"] == "unreadable"
    assert reject["detail"].startswith("recording has more than 20000000 bytes, the limit")


def test_limits_page__states_the_limits_of_the_code() -> None:
    page = (Path(__file__).parents[2] / "docs" / "limits.md").read_text(encoding="utf-8")
    for limit in (MAX_RECORD_BYTES, MAX_ITEMS, MAX_TAG_BYTES, MAX_HEADER_BYTES):
        assert f"| {limit:,}" in page
    assert f"| {archives.MAX_RATIO} fold" in page
    kinds = (FileKind.REPEATED, FileKind.SYMBOLIC_LINK, FileKind.PIPE)
    assert all(kind.value in page for kind in kinds)
    read = page[page.index("## What is read") : page.index("## What is refused")]
    suffixes = re.findall(r"`(\.t[a-z0-9.]+)`", read)
    assert len(suffixes) == 8
    assert all(archives.is_archive(f"a{suffix}") for suffix in suffixes)


def test_ingest__record_of_segments_is_one_ecg_loose_and_in_archives(tmp_path: Path) -> None:
    parts = (random_counts(1, n_samples=3000), random_counts(2, n_samples=2000))
    folder = _write(tmp_path / "in", {f"p/{name}": data for name, data in wfdb_segments(*parts).items()})
    with zipfile.ZipFile(folder / "a.zip", "w") as packed:
        for name, data in wfdb_segments(*reversed(parts)).items():
            packed.writestr(name, data)
    assert _ingest(tmp_path) == 0
    assert _ids(tmp_path / "out") == {"p/rec1", "a.zip!rec1"}
