"""Keyed pseudonyms of tables of many ECGs, HDF5 and Parquet: exclusions, duplicates, the plan."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.beam_jobs.archive_builders import stack_layout
from tests.beam_jobs.job_helpers import (
    assert_nowhere,
    assert_reconciles,
    exclusion_list,
    lvm,
    people,
    people_table,
    reject_counts,
    rows_of,
    score,
    write_parquet,
)
from tests.beam_jobs.pictures.reading_pages import svg_texts

pytestmark = pytest.mark.timeout(120)

PERSON = "1000015"
IDS = (f"{PERSON}_20205_2_0", "1000026_20205_2_0")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(bytes(range(7, 39)))
    path.chmod(0o600)
    return path


def _stack(path: Path, ids: Sequence[str], first: int = 0) -> Path:
    """Write ECGs of 400 Hz as an HDF5 file with keys and without people."""
    array = np.zeros((len(ids), 4096, 12), dtype=np.float32)
    array[:, 48:4048] = people(6).counts[first : first + len(ids), :, :4000].transpose(0, 2, 1) * 0.005
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        file["tracings"] = array
        file["exam_id"] = [one.encode() for one in ids]
    return path


def _ingest(tmp_path: Path, output: Path, *extra: object) -> int:
    layout = stack_layout(tmp_path / "layout.yaml")
    return lvm("ingest", "--input", tmp_path / "in", "--layout", layout, "--output", output, *extra)


@pytest.mark.parametrize("when", ["before", "after", "after by processes", "withdraw"])
def test_pseudonyms__person_inside_the_id_of_a_row_is_excluded(
    when: str, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    _stack(tmp_path / "in" / "a.h5", IDS)
    listed = exclusion_list(tmp_path / "gone.txt", PERSON)
    argv = ["--pseudonym-key", key, "--max-rejected-share", 1]
    if when != "before":
        assert _ingest(tmp_path, output, *argv) == 0
    if when == "withdraw":
        assert lvm("withdraw", output, "--participants", listed, "--pseudonym-key", key) == 0
        assert "found 1 of 1 listed people; ECGs removed: 1" in capsys.readouterr().err
    else:
        more = ["--reuse-plan"] if when == "after by processes" else []
        assert _ingest(tmp_path, output, *argv, "--exclude-participants", listed, *more) == 0
    assert len(rows_of(output / "ecg")) == 1
    assert reject_counts(output) == {"excluded": 1}
    assert_reconciles(output, 2)


def test_pseudonyms__withdrawal_without_the_inputs_says_what_it_cannot_match(
    key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    _stack(tmp_path / "in" / "a.h5", IDS)
    assert _ingest(tmp_path, output, "--pseudonym-key", key) == 0
    (tmp_path / "in").rename(tmp_path / "away")
    listed = exclusion_list(tmp_path / "gone.txt", PERSON, IDS[1])
    assert lvm("withdraw", output, "--participants", listed, "--pseudonym-key", key) == 0
    said = capsys.readouterr().err
    assert "found 1 of 2 listed people; ECGs removed: 1" in said
    assert "1 listed identifier was not found as a whole id" in said
    assert "--exclude-participants" in said


def test_pseudonyms__person_inside_the_id_of_a_parquet_row_is_excluded(fake: None, key: Path, tmp_path: Path) -> None:
    table = people_table(people(2)).drop_columns(["participant_id"])
    table = table.set_column(table.schema.get_field_index("ecg_id"), "ecg_id", [list(IDS)])
    write_parquet(tmp_path / "in" / "a.parquet", table)
    listed = exclusion_list(tmp_path / "gone.txt", PERSON)
    argv = ["--pseudonym-key", key, "--exclude-participants", listed, "--max-rejected-share", 1]
    assert score(tmp_path / "in", tmp_path / "out", *argv) == 0
    assert reject_counts(tmp_path / "out").get("excluded") == 1


def test_pseudonyms__ids_of_a_closed_run_are_duplicates_in_files_that_are_added(key: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    argv = ["--pseudonym-key", key, "--max-rejected-share", 1]
    _stack(tmp_path / "in" / "a.h5", ["x1", "x2"])
    assert _ingest(tmp_path, output, *argv) == 0
    _stack(tmp_path / "in" / "b.h5", ["x1", "x3"], first=2)
    assert _ingest(tmp_path, output, *argv) == 0
    assert len({row["ecg_id"] for row in rows_of(output / "ecg")}) == len(rows_of(output / "ecg")) == 3
    assert reject_counts(output) == {"duplicate_ecg_id": 1}


def test_pseudonyms__plan_holds_no_digest_of_identifiers_without_the_key(key: Path, tmp_path: Path) -> None:
    path = _stack(tmp_path / "in" / "a.h5", IDS)
    assert _ingest(tmp_path, tmp_path / "plain") == 0
    assert _ingest(tmp_path, tmp_path / "keyed", "--pseudonym-key", key) == 0
    (piece,) = json.loads((tmp_path / "plain" / "plan.json").read_text())["units"][0]["pieces"]
    # Whoever knows the file's shapes can try identifiers, without a key.
    guess = f"{path.stat().st_size} {[('tracings', (2, 4096, 12)), ('exam_id', (2,))]} {list(IDS)}"
    guesses = {hashlib.sha256(guess.encode()).hexdigest(), piece["content_sha256"]}
    for one in guesses:
        assert_nowhere(tmp_path / "keyed", one)
    assert lvm("verify", tmp_path / "keyed", "--pseudonym-key", key) == 0


def test_pseudonyms__file_without_a_readable_date_is_told_by_its_pseudonym(
    fake: None, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = people_table(people(2))
    if "recorded_at" in made.schema.names:
        made = made.drop_columns(["recorded_at"])
    for name, date in (("MarkedPerson.parquet", "soon"), ("other.parquet", "2020-01-02T03:04:05")):
        write_parquet(tmp_path / "in" / name, made.append_column("recorded_at", [[date] * 2]))
    output = tmp_path / "out"
    assert score(tmp_path / "in", output, "--pseudonym-key", key, "--max-rejected-share", 1) == 0
    said = capsys.readouterr().err
    assert "column recorded_at is written as aaaa" in said.lower()
    assert "MarkedPerson" not in said
    assert_nowhere(output, "MarkedPerson")


def test_pseudonyms__grid_of_a_closed_run_draws_its_sources_with_the_key(
    key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    path = _stack(tmp_path / "in" / "MarkedPerson.h5", IDS)
    with h5py.File(path, "a") as file:
        file["tracings"][0] *= 100
    assert _ingest(tmp_path, output, "--pseudonym-key", key, "--max-rejected-share", 1) == 0
    assert sum(reject_counts(output).values()) == 1
    argv = ["plot-ecg", "--input", output, "--grid", 4, "--output"]
    assert lvm(*argv, tmp_path / "x.svg", "--pseudonym-key", key) == 0
    texts = svg_texts(tmp_path / "x.svg")
    assert texts.count("V6") == 1
    assert not any(name in " ".join(texts) for name in ("MarkedPerson", *IDS))
    capsys.readouterr()
    other = tmp_path / "other"
    other.write_bytes(bytes(40))
    other.chmod(0o600)
    for more in ([], ["--pseudonym-key", other]):
        assert lvm(*argv, tmp_path / "y.svg", *more) == 2
        assert "expected its key as --pseudonym-key" in capsys.readouterr().err
