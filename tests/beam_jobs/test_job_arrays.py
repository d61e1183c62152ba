"""HDF5, NumPy and MATLAB files through a layout, from the command line to the tables."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.beam_jobs.job_helpers import assert_reconciles, lvm, masses, reject_counts, rejects, report, rows_of, score
from tests.beam_jobs.reading.test_array_input import CODE_15_LEADS, code_15, samples_mv, write_stack

pytestmark = pytest.mark.timeout(120)


def _layout(folder: Path, **changes: object) -> Path:
    signal = {"order": "sample_major", "leads": CODE_15_LEADS, "unit": "mV", "sampling_rate_hz": 400}
    ecg_id = changes.pop("ecg_id", None)
    content = {**({"ecg_id": ecg_id} if ecg_id else {}), "signal": {**signal, **changes}}
    path = folder / "layout.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def _ingest(tmp_path: Path, layout: Path | None, *extra: object) -> int:
    given = [] if layout is None else ["--layout", layout]
    return lvm("ingest", "--input", tmp_path / "in", "--output", tmp_path / "out", *given, *extra)


def test_ingest__code_15_as_it_is_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    stack = code_15(5)
    write_stack(tmp_path / "in" / "exams_part0.hdf5", stack)
    write_stack(tmp_path / "in" / "exams_part1.hdf5", code_15(2), ids=[1004, 2000])
    layout = _layout(tmp_path, array="tracings", ecg_id="exam_id")
    assert _ingest(tmp_path, layout, "--unit-ecgs", 2, "--max-rejected-share", 0.5) == 0
    assert_reconciles(tmp_path / "out", 7)
    rows = {row["ecg_id"]: row for row in rows_of(tmp_path / "out" / "ecg")}
    assert set(rows) == {"1000", "1002", "1003", "1004"}
    assert reject_counts(tmp_path / "out") == {"too_short": 2, "duplicate_ecg_id": 1}
    one = rows["1003"]
    assert (one["source_format"], one["source_sampling_rate_hz"], one["quality_flags"][0]) == (
        "array",
        400,
        "resampled",
    )
    assert one["source_uri"] == "exams_part0.hdf5"
    assert lvm("verify", tmp_path / "out") == 0
    # The same command goes on with the finished run.
    assert _ingest(tmp_path, layout, "--unit-ecgs", 2, "--max-rejected-share", 0.5) == 0
    assert lvm("scale-check", "--input", tmp_path / "in", "--layout", layout) in (0, 1)
    assert "ECGs looked at: " in capsys.readouterr().out


def test_score__arrays_give_the_masses_of_the_ingested_ecgs(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_stack(tmp_path / "in" / "a.hdf5", code_15(4))
    layout = _layout(tmp_path, array="tracings", ecg_id="exam_id")
    assert _ingest(tmp_path, layout, "--max-rejected-share", 0.5) == 0
    accepted = ["--accept-scale", "--max-rejected-share", 1]
    assert score(tmp_path / "in", tmp_path / "direct", "--layout", layout, *accepted) == 0
    assert score(tmp_path / "out", tmp_path / "two", *accepted) == 0
    assert masses(tmp_path / "direct") == masses(tmp_path / "two")


def test_ingest__each_file_of_numpy_is_one_ecg_also_in_archives(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    np.save(folder / "p1.npy", samples_mv(1, 4000))
    np.save(tmp_path / "q.npy", samples_mv(2, 4000))
    with zipfile.ZipFile(folder / "more.zip", "w") as packed:
        packed.write(tmp_path / "q.npy", "q.npy")
    assert _ingest(tmp_path, _layout(tmp_path, array="x")) == 0
    assert {row["ecg_id"] for row in rows_of(tmp_path / "out" / "ecg")} == {"p1", "more.zip!q"}


def test_ingest__arrays_without_a_layout_are_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_stack(tmp_path / "in" / "a.hdf5", code_15(1))
    assert _ingest(tmp_path, None) == 1
    (found,) = rejects(tmp_path / "out")
    assert found["reason"] == "not_an_ecg"
    assert "read with --layout FILE" in found["detail"]


def test_ingest__stacks_in_archives_and_of_numpy_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_stack(tmp_path / "a.h5", code_15(1))
    write_stack(folder / "b.h5", code_15(1))
    np.save(folder / "c.npy", samples_mv())
    with zipfile.ZipFile(folder / "a.zip", "w") as packed:
        packed.write(tmp_path / "a.h5", "a.h5")
    (folder / "d.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:3000])
    layout = _layout(tmp_path, array="tracings", ecg_id="exam_id")
    assert _ingest(tmp_path, layout, "--max-rejected-share", 0.9) == 0
    details = {row["source_uri"]: row["detail"] for row in rejects(tmp_path / "out")}
    assert "inside an archive" in details["a.zip!a.h5"]
    assert "of another kind than HDF5" in details["c.npy"]
    assert "HDF5 file cannot be decoded" in details["d.h5"]
    assert report(tmp_path / "out")["counts"]["read"] == 4


def test_ingest__wrong_array_stops_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    write_stack(tmp_path / "in" / "a.hdf5", code_15(1))
    assert _ingest(tmp_path, _layout(tmp_path, array="signals", ecg_id="exam_id")) == 2
    assert "columns are missing: signals" in capsys.readouterr().err


def test_ingest__layout_of_parquet_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    assert _ingest(tmp_path, _layout(tmp_path, column="x", ecg_id="id")) == 2
    assert "describes Parquet, which lvm-ai score reads directly" in capsys.readouterr().err


def test_ingest__useless_layout_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.xml").write_bytes(b"<a/>")
    _ingest(tmp_path, _layout(tmp_path, array="x"), "--max-rejected-share", 1)
    assert "no HDF5, NumPy or MATLAB file is among the inputs" in capsys.readouterr().err
