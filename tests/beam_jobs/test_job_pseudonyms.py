"""Keyed pseudonyms in whole jobs: nothing that is written or said names anybody."""

from __future__ import annotations

import hashlib
import hmac
import json
import stat
from pathlib import Path

import pytest

from tests.beam_jobs import archive_builders
from tests.beam_jobs.archive_builders import counts_of, stack_layout, write_table
from tests.beam_jobs.job_helpers import (
    FULL,
    assert_nowhere,
    assert_reconciles,
    exclusion_list,
    lvm,
    predictions,
    reject_counts,
    rejects,
    result_files,
    rows_of,
    score,
)
from tests.file_builders import cardiosoft_xml

pytestmark = pytest.mark.timeout(120)

KEY = bytes(range(7, 39))
PERSON, OTHER = "MarkedPerson77", "MarkedPerson78"


def _named(kind: str, name: str, key: bytes = KEY) -> str:
    """Return a pseudonym as docs/pseudonyms.md states it, by the standard library alone."""
    made = hmac.new(key, b"lvm-ai " + kind.encode() + b"\0" + name.encode(), hashlib.sha256)
    return f"{kind}0x{made.hexdigest()[:32]}"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(KEY)
    path.chmod(0o600)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder in which folders, files and headers name people; two files are damaged."""
    folder = tmp_path / "in"
    for i, person in enumerate((PERSON, PERSON, OTHER, OTHER)):
        path = folder / person / f"{person}_visit{i}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        data = cardiosoft_xml(counts_of(i), participant_id=person)
        path.write_bytes(data if i != 3 else data[:9000])
    (folder / OTHER / f"{OTHER}_note.pdf").write_bytes(b"%PDF")
    (folder / OTHER / f"{OTHER}_visit9.txt").write_bytes(b"MarkedText")
    return folder


PATTERN = r"(?P<ecg_id>(?P<participant_id>[A-Za-z]+\d+)_visit\d)\.xml"


def _ingest(folder: Path, output: Path, key: Path, *extra: object) -> int:
    argv = ["--id-pattern", PATTERN, "--pseudonym-key", key, "--max-rejected-share", 1]
    return lvm("ingest", "--input", folder, "--output", output, *argv, *extra)


def test_pseudonyms__take_the_place_of_all_identifiers(
    folder: Path, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert _ingest(folder, output, key, "--unit-ecgs", 2) == 0
    assert_reconciles(output, 5)
    found = {row["ecg_id"]: row for row in rows_of(output / "ecg")}
    assert set(found) == {
        _named("e", f"{PERSON}_visit0"),
        _named("e", f"{PERSON}_visit1"),
        _named("e", f"{OTHER}_visit2"),
    }
    one = found[_named("e", f"{OTHER}_visit2")]
    assert one["participant_id"] == _named("p", OTHER)
    path = f"{OTHER}/{OTHER}_visit2.xml"
    assert one["source_uri"] == f"{_named('f', OTHER)}/{_named('f', path)}"
    assert reject_counts(output) == {"truncated": 1, "not_an_ecg": 1}
    said = "".join(capsys.readouterr())
    for name in (PERSON, OTHER, "MarkedPerson", "MarkedText", KEY.hex()):
        assert_nowhere(output, name)
        assert name not in said
    assert_nowhere(output, *(hashlib.sha256(json.dumps([0, text]).encode()).hexdigest()[:32] for text in (path, OTHER)))
    assert KEY not in (output / "plan.json").read_bytes()


def test_pseudonyms__of_an_ecg_and_a_person_of_one_name_differ(key: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "Marked.xml").write_bytes(cardiosoft_xml(counts_of(0), participant_id="Marked"))
    argv = ["--input", tmp_path / "in", "--output", tmp_path / "out", "--id-from-header", "--pseudonym-key", key]
    assert lvm("ingest", *argv) == 0
    (row,) = rows_of(tmp_path / "out" / "ecg")
    assert (row["ecg_id"], row["participant_id"]) == (_named("e", "Marked"), _named("p", "Marked"))
    assert row["ecg_id"][3:] != row["participant_id"][3:]


@pytest.mark.parametrize("kind", ["finngen", "code-15"])
def test_pseudonyms__of_an_archive_with_an_index(kind: str, key: Path, tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    if kind == "finngen":
        rows = archive_builders.finngen(folder)
        write_table(folder / "index.tsv", [*rows, {**rows[0], "MEASID": "MEAS77"}], "\t")
        argv = ["--index", folder / "index.tsv", "--index-layout", kind]
        ids = [f"{row['FINNGENID']}_{row['MEASID']}" for row in rows]
        people = {row["FINNGENID"] for row in rows}
    else:
        rows = archive_builders.code_15(folder)
        write_table(folder / "exams.csv", [*rows, {**rows[0], "exam_id": 77077}])
        layout = stack_layout(tmp_path / "layout.yaml")
        argv = ["--index", folder / "exams.csv", "--index-layout", kind, "--layout", layout]
        ids = [str(row["exam_id"]) for row in rows]
        people = {str(row["patient_id"]) for row in rows}
    more = ["--pseudonym-key", key, "--max-rejected-share", 1]
    assert lvm("ingest", "--input", folder, "--output", output, *argv, *more) == 0
    found = rows_of(output / "ecg")
    assert {row["ecg_id"] for row in found} == {_named("e", one) for one in ids}
    assert {row["participant_id"] for row in found} == {_named("p", one) for one in people}
    assert reject_counts(output) == {"file_missing": 1}
    assert_nowhere(output, *people, "MEAS77", "77077", "FG0000", "exams_part")
    assert lvm("verify", output, "--pseudonym-key", key) == 0


def test_pseudonyms__scoring_joins_people_and_the_same_key_again(
    fake: None, folder: Path, key: Path, tmp_path: Path
) -> None:
    sizes = [
        {"participant_id": one, "age_years": 60 + i, "sex": "male", "bmi_kg_m2": 24 + i}
        for i, one in enumerate((PERSON, OTHER))
    ]
    table = write_table(tmp_path / "people.csv", sizes)
    argv = ["--participants", table, "--pseudonym-key", key, "--max-rejected-share", 1]
    assert _ingest(folder, tmp_path / "ecg", key) == 0
    assert score(tmp_path / "ecg", tmp_path / "of_ecg", *argv, model=FULL) == 0
    assert score(folder, tmp_path / "of_files", "--id-pattern", PATTERN, *argv, model=FULL) == 0
    of_ecg, of_files = ({r["ecg_id"]: r for r in predictions(tmp_path / name)} for name in ("of_ecg", "of_files"))
    assert len(of_ecg) == 3
    assert of_ecg == of_files
    assert of_ecg[_named("e", f"{OTHER}_visit2")]["age_years"] == 61
    for name in ("of_ecg", "of_files"):
        assert_nowhere(tmp_path / name, PERSON, OTHER)


@pytest.mark.parametrize("when", ["before", "after", "withdraw", "withdraw by pseudonym"])
def test_pseudonyms__excluded_people_are_found_by_their_identifiers(
    folder: Path, key: Path, tmp_path: Path, when: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    listed = exclusion_list(tmp_path / "gone.txt", PERSON, "nobody")
    if when != "before":
        assert _ingest(folder, output, key) == 0
    if when == "withdraw":
        left = tmp_path / "left.txt"
        argv = ["--participants", listed, "--pseudonym-key", key, "--not-found-list", left]
        assert lvm("withdraw", output, *argv) == 0
        assert "found 1 of 2 listed people; ECGs removed: 2" in capsys.readouterr().err
        assert left.read_text() == "nobody\n"
    elif when == "withdraw by pseudonym":
        listed = exclusion_list(tmp_path / "pseudonyms.txt", _named("p", PERSON))
        assert lvm("withdraw", output, "--participants", listed) == 0
    else:
        assert _ingest(folder, output, key, "--exclude-participants", listed) == 0
    assert {row["participant_id"] for row in rows_of(output / "ecg")} == {_named("p", OTHER)}
    assert reject_counts(output)["excluded"] == 2
    assert_reconciles(output, 5)
    gone = [_named("p", PERSON), *(_named("e", f"{PERSON}_visit{i}") for i in range(2)), _named("f", PERSON)]
    assert_nowhere(output, PERSON, *gone)


def test_pseudonyms__short_name_of_a_file_excludes_as_without_a_key(key: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "a").mkdir(parents=True)
    for i, name in enumerate(("17", "18")):
        (folder / "a" / f"{name}.xml").write_bytes(cardiosoft_xml(counts_of(i)))
    listed = exclusion_list(tmp_path / "gone.txt", "17")
    argv = ["--input", folder, "--exclude-participants", listed, "--max-rejected-share", 1]
    assert lvm("ingest", *argv, "--output", tmp_path / "plain") == 0
    assert lvm("ingest", *argv, "--output", tmp_path / "keyed", "--pseudonym-key", key) == 0
    assert [row["ecg_id"] for row in rows_of(tmp_path / "plain" / "ecg")] == ["a/18"]
    assert [row["ecg_id"] for row in rows_of(tmp_path / "keyed" / "ecg")] == [_named("e", "a/18")]


def test_pseudonyms__same_command_goes_on_and_another_key_is_refused(
    folder: Path, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    for shard in ("1/2", "2/2"):
        assert _ingest(folder, output, key, "--unit-ecgs", 2, "--shard", shard) == 0
    whole = tmp_path / "whole"
    assert _ingest(folder, whole, key, "--unit-ecgs", 2) == 0
    assert result_files(output) == result_files(whole)
    assert _ingest(folder, output, key, "--unit-ecgs", 2) == 0
    assert "finished already" in capsys.readouterr().err
    (folder / PERSON / f"{PERSON}_visit5.xml").write_bytes(cardiosoft_xml(counts_of(5)))
    assert _ingest(folder, output, key, "--unit-ecgs", 2) == 0
    assert_reconciles(output, 6)
    assert_nowhere(output, PERSON)
    other = tmp_path / "other"
    other.write_bytes(bytes(40))
    other.chmod(0o600)
    assert _ingest(folder, output, other, "--unit-ecgs", 2) == 2
    assert "--pseudonym-key: another one is given" in capsys.readouterr().err
    assert (
        lvm("withdraw", output, "--participants", exclusion_list(tmp_path / "l", PERSON), "--pseudonym-key", other) == 2
    )
    assert "another key" in capsys.readouterr().err
    assert lvm("verify", output, "--pseudonym-key", other) == 2
    assert "--pseudonym-key holds another key than that of this run" in capsys.readouterr().err


def test_pseudonyms__plan_under_way_is_private_and_holds_no_key_but_paths(
    folder: Path, key: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    argv = ["--unit-ecgs", 2, "--share", "umask"]
    assert _ingest(folder, output, key, *argv, "--plan-only") == 0
    assert stat.S_IMODE((output / "plan.json").stat().st_mode) == 0o600
    plan = json.loads((output / "plan.json").read_text())
    pieces = [piece for unit in plan["units"] for piece in unit["pieces"]]
    named = {name for piece in pieces for name, value in piece.items() if "Marked" in str(value)}
    assert named == {"path"}
    assert len(plan["settings"]["pseudonym_key_id"]) == 16
    assert _ingest(folder, output, key, *argv) == 0
    assert_nowhere(output, PERSON, OTHER)


def test_pseudonyms__verify_finds_the_inputs_with_the_key_alone(
    folder: Path, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert _ingest(folder, output, key) == 0
    assert lvm("verify", output, "--pseudonym-key", key) == 0
    assert "3 ECGs of 1 unit computed again, equal" in capsys.readouterr().out
    assert lvm("verify", output) == 0
    assert "--pseudonym-key needs the key of this run" in capsys.readouterr().out


def test_pseudonyms__lost_file_of_a_closed_run_is_not_made_again(
    folder: Path, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert _ingest(folder, output, key) == 0
    next((output / "ecg").iterdir()).unlink()
    assert _ingest(folder, output, key) == 1
    said = capsys.readouterr().err
    assert "a run with pseudonyms was closed; start again with --overwrite" in said
    assert "Marked" not in said
    assert _ingest(folder, output, key, "--overwrite") == 0


def test_pseudonyms__fault_of_a_file_is_told_without_its_path(
    folder: Path, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert _ingest(folder, output, key, "--plan-only") == 0
    path = folder / PERSON / f"{PERSON}_visit0.xml"
    path.rename(tmp_path / "away")
    plan = (output / "plan.json").read_bytes()
    assert b"Marked" in plan
    from beam_jobs.reading.storage import Storage
    from beam_jobs.run.folder import RunFolder
    from beam_jobs.run.pseudonyms import load_pseudonyms
    from beam_jobs.run.settings import IngestSettings
    from lvm_core.errors import LvmError

    unit = RunFolder(Storage(), str(output)).require_plan().units[0]
    settings = IngestSettings(inputs=(str(folder),), output=str(output))
    reader = settings.reader([str(folder)], None, load_pseudonyms(Storage(), str(key)))
    with pytest.raises(LvmError, match="was there when the run was planned") as error:
        list(reader.chunks(unit))
    assert "Marked" not in str(error.value)
    assert _named("f", PERSON) in str(error.value)


@pytest.mark.parametrize(
    ("data", "mode", "said"),
    [
        (bytes(31), 0o600, "has 31 bytes"),
        (bytes(32), 0o604, "may be read by everybody"),
        (bytes(1 << 17), 0o600, "over"),
    ],
)
def test_pseudonyms__weak_key_is_refused(
    folder: Path, tmp_path: Path, data: bytes, mode: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "weak"
    path.write_bytes(data)
    path.chmod(mode)
    assert _ingest(folder, tmp_path / "out", path) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_pseudonyms__rejects_keep_reason_and_number(folder: Path, key: Path, tmp_path: Path) -> None:
    assert _ingest(folder, tmp_path / "keyed", key) == 0
    argv = ["--id-pattern", PATTERN, "--max-rejected-share", 1]
    assert lvm("ingest", "--input", folder, "--output", tmp_path / "plain", *argv) == 0
    keyed, plain = rejects(tmp_path / "keyed"), rejects(tmp_path / "plain")
    for row in plain:
        row["source_uri"] = "/".join(
            _named("f", one) for one in (row["source_uri"].partition("/")[0], row["source_uri"])
        )
        row["ecg_id"] = row["ecg_id"] and _named("e", row["ecg_id"])
        row["participant_id"] = row["participant_id"] and _named("p", row["participant_id"])
    assert keyed == plain
