"""Missing samples: rejected unless short gaps are to be filled, and then flagged and counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.beam_jobs.job_helpers import (
    CLINICAL_LEADS,
    assert_reconciles,
    lvm,
    people,
    predictions,
    reject_counts,
    report,
    rows_of,
    score,
)
from tests.file_builders import wfdb_record

MISSING = -32768


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Three WFDB records: a whole one, one with a missing sample, one with a gap of three."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for i, n_missing in enumerate((0, 1, 3)):
        leads = {lead: values.copy() for lead, values in zip(CLINICAL_LEADS, people(3).counts[i], strict=True)}
        leads["V2"][1000 : 1000 + n_missing] = MISSING
        record = wfdb_record(leads, name=f"r{i}", gain="200.0(0)/mV")
        for name, data in record.items():
            (folder / name).write_bytes(data)
    return folder


def _ingest(raw: Path, output: Path, *extra: object) -> int:
    return lvm("ingest", "--input", raw, "--output", output, "--max-rejected-share", 1, *extra)


def test_ingest__missing_samples_reject_by_default(raw: Path, tmp_path: Path) -> None:
    assert _ingest(raw, tmp_path / "out") == 0
    assert reject_counts(tmp_path / "out") == {"non_finite": 2}


def test_ingest__short_gaps_are_filled_flagged_and_counted(raw: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert _ingest(raw, output, "--interpolate-missing", 2) == 0
    assert_reconciles(output, 3)
    assert reject_counts(output) == {"non_finite": 1}
    assert report(output)["quality_flags"] == {"interpolated": 1}
    rows = {row["ecg_id"]: row for row in rows_of(output / "ecg")}
    assert {key: row["quality_flags"] for key, row in rows.items()} == {"r0": [], "r1": ["interpolated"]}
    expected = people(3).counts[1].copy()
    before, after = expected[7, 999], expected[7, 1001]
    stored = np.array([rows["r1"][lead] for lead in CLINICAL_LEADS])
    assert abs(stored[7, 1000] - (int(before) + int(after)) / 2) <= 0.5
    expected[7, 1000] = stored[7, 1000]
    np.testing.assert_array_equal(stored, expected)


def test_ingest__another_gap_is_another_run(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _ingest(raw, tmp_path / "out", "--interpolate-missing", 2) == 0
    assert lvm("verify", tmp_path / "out") == 0
    assert _ingest(raw, tmp_path / "out", "--interpolate-missing", 3) == 2
    assert "interpolate_missing_samples: was 2, is 3" in capsys.readouterr().err


def test_score__raw_files_with_short_gaps(raw: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    argv = ["--interpolate-missing", 3, "--max-rejected-share", 1]
    assert score(raw, output, *argv) == 0
    flags = {row["ecg_id"]: row["quality_flags"] for row in predictions(output)}
    assert {key: "interpolated" in found for key, found in flags.items()} == {"r0": False, "r1": True, "r2": True}
    assert report(output)["quality_flags"]["interpolated"] == 2
