"""Files of DICOM, HL7 aECG and SCP-ECG through a whole job, good ones and damaged ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.beam_jobs.job_helpers import assert_reconciles, lvm, people, reject_counts, rejects, rows_of
from tests.dicom_builders import dicom_file
from tests.file_builders import aecg_xml
from tests.mutants import mutant
from tests.scp_builders import SCP_ORDER, scp_file

CLINICAL = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
PRIVATE = ("Somebody", "19500102", "1950-01-02", "1000001")  # what the builders say of a patient
N_DAMAGED = 20


def _files(i: int) -> dict[str, bytes]:
    """Return one recording in three formats: SCP-ECG and aECG in 5 uV, DICOM in 0.005 mV."""
    counts = dict(zip(CLINICAL, people(3).counts[i], strict=True))
    counts = {lead: counts[lead] for lead in SCP_ORDER}
    return {
        f"1.2.840.113.{i}": dicom_file(counts, sensitivity="0.005", unit="mV"),
        f"aecg{i}.xml": aecg_xml(counts, scale="5"),
        f"scp{i}.scp": scp_file(counts, nv=5000),
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(3):
        for name, data in _files(i).items():
            (folder / name).write_bytes(data)
    return folder


def test_ingest__one_recording_in_three_formats_gives_the_same_counts(folder: Path, tmp_path: Path) -> None:
    assert lvm("ingest", "--input", folder, "--output", tmp_path / "out") == 0
    rows = {row["ecg_id"]: row for row in rows_of(tmp_path / "out" / "ecg")}
    assert len(rows) == 9
    for i in range(3):
        for ecg_id, source_format in ((f"1.2.840.113.{i}", "dicom"), (f"aecg{i}", "hl7_aecg"), (f"scp{i}", "scp_ecg")):
            row = rows[ecg_id]
            assert (row["source_format"], row["uv_per_count"]) == (source_format, 5.0)
            np.testing.assert_array_equal([row[lead] for lead in CLINICAL], people(3).counts[i])
            assert row["qrs_duration_ms"] == 92
            assert row["participant_id"] is None
    assert_reconciles(tmp_path / "out", 9)


@pytest.mark.parametrize("option", ["dicom", "aecg", "scp"])
def test_ingest__format_option_takes_its_own_files_only(folder: Path, tmp_path: Path, option: str) -> None:
    argv = ["--input", folder, "--output", tmp_path / "out", "--format", option, "--max-rejected-share", 0.9]
    assert lvm("ingest", *argv) == 0
    assert len({row["ecg_id"] for row in rows_of(tmp_path / "out" / "ecg")}) == 3
    assert sum(reject_counts(tmp_path / "out").values()) == 6


def test_ingest__nothing_that_is_written_or_said_names_a_patient(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, data in _files(0).items():
        for seed in range(N_DAMAGED):
            (folder / f"bad{seed}_{name}").write_bytes(mutant(data, 2 * seed + 1))
    output = tmp_path / "out"
    assert lvm("ingest", "--input", folder, "--output", output, "--max-rejected-share", 1) == 0
    said = "".join(capfd.readouterr())
    assert len(rejects(output)) > N_DAMAGED
    rows = [{**row, **dict.fromkeys(CLINICAL)} for row in rows_of(output / "ecg")]
    texts = [said, repr(rows), repr(rejects(output))]
    texts += [path.read_bytes().decode("latin-1") for path in output.rglob("*") if path.is_file()]
    for private in PRIVATE:
        assert [text for text in texts if private in text] == []
