"""Names, birth dates and free text of files reach nothing that a job writes or says.

Every format has a file with marked fakes in its personal fields (`marked_files`), good and damaged
in several ways. `ingest` and `score` read them, and all that they leave is searched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from lvm_core.formats.registry import FORMATS
from tests.beam_jobs import marked_files
from tests.beam_jobs.job_helpers import CLINICAL_LEADS, lvm, rejects, rows_of, score
from tests.beam_jobs.marked_files import (
    ARCHIVES,
    ARRAYS,
    BIRTHS,
    DEVICE_FILES,
    FAILURES,
    IDENTIFIER,
    TECHNICAL,
    TEXTS,
    WITHOUT,
)

MAKERS = {**DEVICE_FILES, **ARRAYS, **ARCHIVES}
KINDS = [*(one.name for one in FORMATS), *ARRAYS, *ARCHIVES]
# The key of an ECG is the name of its folder: the two of `duplicate` have one key.
PATTERN = r"^(?P<ecg_id>[a-z]+)/"
LAYOUT = {
    "signal": {"array": "x", "order": "sample_major", "leads": CLINICAL_LEADS, "unit": "mV", "sampling_rate_hz": 500}
}


PERSONAL = (*(text for text in TEXTS if text != TECHNICAL), IDENTIFIER)
# Why each failure rejects its ECG; a date that cannot be read is flagged.
REASONS = {
    "truncated": {"truncated", "unreadable"},
    "gain": {"unknown_unit", "unreadable"},
    "lead": {"missing_lead"},
    "checksum": {"unreadable"},
    "amplitude": {"amplitude_implausible"},
    "duplicate": {"duplicate_ecg_id"},
}


def failures_of(kind: str) -> list[str]:
    return [failure for failure in FAILURES if failure not in WITHOUT.get(kind, ())]


def fill(folder: Path, kind: str) -> list[str]:
    """Write a file of each failure into a folder of its own, and two of one key; return options."""
    for failure in failures_of(kind):
        for name, data in MAKERS[kind](failure).items():
            (folder / failure).mkdir(parents=True, exist_ok=True)
            (folder / failure / name).write_bytes(data)
    for place in ("one", "two"):
        (folder / "duplicate" / place).mkdir(parents=True)
        for name, data in MAKERS[kind]("good").items():
            (folder / "duplicate" / place / name).write_bytes(data)
    options = ["--id-pattern", PATTERN, "--max-rejected-share", "1", "--accept-unread-archives"]
    if kind in ARRAYS:
        layout = folder.parent / "layout.yaml"
        layout.write_text(yaml.safe_dump(LAYOUT))
        options += ["--layout", str(layout)]
    return options


def contents(output: Path) -> Iterator[tuple[str, bytes]]:
    """Yield what a run left: raw files, and Parquet and JSON as text."""
    for path in sorted(output.rglob("*")):
        if not path.is_file():
            continue
        yield str(path), path.read_bytes()
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            texts = table.drop_columns([name for name in CLINICAL_LEADS if name in table.column_names])
            yield f"rows of {path}", repr((texts.to_pylist(), table.schema.metadata)).encode()
        if path.suffix == ".json":
            yield f"text of {path}", repr(json.loads(path.read_bytes())).encode()


def leaks(output: Path, said: str, *, with_identifier: bool) -> list[str]:
    """Return where a marker is, in UTF-8 or UTF-16, in any case."""
    markers = (*TEXTS, *BIRTHS, *((IDENTIFIER,) if with_identifier else ()))
    coded = {
        marker: {marker.lower().encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be")} for marker in markers
    }
    found = []
    for place, data in (("what was said", said.encode()), *contents(output)):
        lowered = data.lower()
        found += [f"{marker} in {place}" for marker, forms in coded.items() if any(form in lowered for form in forms)]
    return found


def test_markers__every_format_has_its_files() -> None:
    assert list(DEVICE_FILES) == [one.name for one in FORMATS]
    assert set(WITHOUT) <= set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_markers__stand_in_the_files(kind: str) -> None:
    births = (b"\x73\x07\x0b\x17", *(one.encode() for one in BIRTHS))  # SCP-ECG has 1907, 11, 23 in binary
    for failure in failures_of(kind):
        data = marked_files.as_written(kind, MAKERS[kind](failure))
        # MATLAB stores texts in two bytes a character.
        found = [one for one in PERSONAL if one.encode() in data or one.encode("utf-16-le") in data]
        if failure == "truncated":  # what is left of the file still names the person
            assert found
        else:
            assert found == list(PERSONAL), failure
            assert any(birth in data for birth in births), failure


def test_leaks__are_found(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("xQUORVEXx".encode("utf-16-le"))
    (tmp_path / "b.json").write_text(json.dumps({"text": "Z\u0077ibbelgasse"}))
    assert len(leaks(tmp_path, "born 19071123", with_identifier=True)) == 4
    assert leaks(tmp_path / "a", IDENTIFIER, with_identifier=True) == [f"{IDENTIFIER} in what was said"]
    assert leaks(tmp_path / "a", IDENTIFIER, with_identifier=False) == []


@pytest.mark.parametrize("kind", KINDS)
def test_ingest__nothing_of_a_person_is_written_or_said(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = fill(tmp_path / "in", kind)
    assert lvm("ingest", "--input", tmp_path / "in", "--output", tmp_path / "out", *options) == 0
    flags = {row["ecg_id"]: row["quality_flags"] for row in rows_of(tmp_path / "out" / "ecg")}
    assert set(flags) - {"date"} == {"good", "duplicate"}
    assert "date_unreadable" in flags.get("date", ["date_unreadable"])
    refused = rejects(tmp_path / "out")
    assert len(refused) == len(set(failures_of(kind)) - {"good", "date"}) + 1
    # Of an archive that cannot be opened it is not known which ECG is in it.
    assert all(row["reason"] in REASONS[row["ecg_id"] or "truncated"] for row in refused)
    assert leaks(tmp_path / "out", "".join(capfd.readouterr()), with_identifier=True) == []


@pytest.mark.parametrize("kind", KINDS)
def test_ingest__of_a_person_only_the_identifier_that_is_asked_for_is_written(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = fill(tmp_path / "in", kind)
    argv = ["--input", tmp_path / "in", "--output", tmp_path / "out", *options, "--id-from-header"]
    assert lvm("ingest", *argv) == 0
    persons = {row["participant_id"] for row in rows_of(tmp_path / "out" / "ecg")}
    assert persons == ({None} if kind in ("wfdb", *ARRAYS) else {IDENTIFIER})
    said = "".join(capfd.readouterr())
    assert IDENTIFIER not in said
    assert leaks(tmp_path / "out", said, with_identifier=False) == []


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("kind", KINDS)
def test_score__nothing_of_a_person_is_written_or_said(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = fill(tmp_path / "in", kind)
    assert score(tmp_path / "in", tmp_path / "out", *options) == 0
    done = {row["ecg_id"] for row in rows_of(tmp_path / "out" / "predictions")}
    refused = {row["ecg_id"] for row in rejects(tmp_path / "out")}
    assert "good" in done
    assert {"duplicate"} <= refused
    assert leaks(tmp_path / "out", "".join(capfd.readouterr()), with_identifier=True) == []
