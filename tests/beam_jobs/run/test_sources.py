"""A site whose gain is wrong stands out from the rest: by first folder and by step."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from beam_jobs.reading.units import Piece, path_digest
from beam_jobs.run.report import first_folder, folder_digest_of, folder_names
from tests.beam_jobs.job_helpers import lvm, people, report, result_files, score
from tests.file_builders import wfdb_record

pytestmark = pytest.mark.usefixtures("fake")


def write_sites(folder: Path, n: int = 16) -> None:
    """Write records of siteA with the right gain and, as every fourth, of siteB 5 times too large.

    The counts are 5 uV each, which is a gain of 200 a millivolt.
    """
    made = people(n)
    for i, counts in enumerate(made.counts):
        site, gain = ("siteB", "40.0(0)/mV") if i % 4 == 0 else ("siteA", "200.0(0)/mV")
        (folder / site).mkdir(parents=True, exist_ok=True)
        names = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
        by_lead = dict(zip(names, counts, strict=True))
        for name, data in wfdb_record(by_lead, name=f"r{i:02d}", gain=gain).items():
            (folder / site / name).write_bytes(data)


def test_odd_sources__are_named_by_ingest_score_and_scale_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sites(tmp_path / "in")
    for command in ("ingest", "score"):
        output = tmp_path / command
        extra = ["--max-rejected-share", "1"]
        if command == "ingest":
            argv = ["--input", tmp_path / "in", "--output", output, "--format", "wfdb"]
            assert lvm("ingest", *argv, "--unit-ecgs", 5, *extra) == 0
        else:
            assert score(tmp_path / "in", output, *extra) == 0
        odd = report(output)["scale"]["odd_sources"]
        by_folder = [line for line in odd if line.startswith("siteB: ")]
        by_step = [line for line in odd if line.startswith("ECGs with 25 uV per count: ")]
        assert len(odd) == len(by_folder) + len(by_step) == 2
        for line in odd:
            n, times = line.split(": ")[1].split(" records, median amplitude ")
            assert 3 <= int(n) <= 4
            assert 3 <= float(times.split(" times")[0]) <= 7
        assert f"warning: {by_folder[0]}" in capsys.readouterr().err
        content = b"".join(result_files(output).values())
        assert b"siteB" not in content.replace(b"siteB/r", b"")  # only as the path of a record
    assert lvm("scale-check", "--input", tmp_path / "in") == 1
    assert "\nsource: siteB: " in capsys.readouterr().out


def test_odd_sources__sites_of_one_scale_are_not_named(tmp_path: Path) -> None:
    made = people(16)
    for i, counts in enumerate(made.counts):
        folder = tmp_path / "in" / f"site{i % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        names = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
        by_lead = dict(zip(names, counts, strict=True))
        for name, data in wfdb_record(by_lead, name=f"r{i:02d}", gain="200.0(0)/mV").items():
            (folder / name).write_bytes(data)
    assert score(tmp_path / "in", tmp_path / "out") == 0
    assert report(tmp_path / "out")["scale"]["odd_sources"] == []
    assert lvm("scale-check", "--input", tmp_path / "in") == 0


def test_odd_sources__survive_the_resumption_of_a_run(tmp_path: Path) -> None:
    write_sites(tmp_path / "in")
    output = tmp_path / "out"
    assert score(tmp_path / "in", output, "--max-rejected-share", "1") == 0
    before = report(output)["scale"]["odd_sources"]
    (output / "_SUCCESS").unlink()
    next((output / "predictions").glob("*.parquet")).unlink()
    assert score(tmp_path / "in", output, "--max-rejected-share", "1") == 0
    assert report(output)["scale"]["odd_sources"] == before != []


def _pieces(*paths: str, root: int = 0) -> list[Piece]:
    return [Piece(root, path, path_digest(root, path), 1) for path in paths]


@pytest.mark.parametrize(
    ("path", "folder"), [("a.xml", ""), ("site/a.xml", "site"), ("site/ward/a.xml", "site"), ("x.zip!s/a", "x.zip!s")]
)
def test_first_folder__is_the_first_below_the_root(path: str, folder: str) -> None:
    assert first_folder(path) == folder


def test_folder_names__are_found_by_the_digests_of_records() -> None:
    pieces = [*_pieces("s/a.xml", "b.xml"), *_pieces("t/c.xml", root=1), *_pieces("")]
    digest, names = folder_digest_of(pieces), folder_names(pieces)
    shown = [names[digest(path)] for path in ("s/a.xml", "b.xml", "t/c.xml")]
    assert shown == ["input 1, s", "input 1, the top folder", "input 2, t"]
    assert set(folder_names(_pieces("s/a.xml")).values()) == {"s"}
    assert "s" not in json.dumps(digest("s/a.xml")).split('"')
    assert not np.isin("s", list(names)).any()
