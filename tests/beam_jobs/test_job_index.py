"""Archives with an index, from the command line to the tables."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.beam_jobs import archive_builders
from tests.beam_jobs.archive_builders import counts_of, stack_layout, write_table
from tests.beam_jobs.job_helpers import (
    CLINICAL_LEADS,
    FULL,
    assert_nowhere,
    assert_reconciles,
    exclusion_list,
    lvm,
    people,
    predictions,
    reject_counts,
    rejects,
    report,
    result_files,
    rows_of,
    score,
)

pytestmark = pytest.mark.timeout(120)

Argv = list[Any]


def _ingest(folder: Path, output: Path, index: str, preset: object, *extra: object) -> int:
    given = ["--index", folder / index, "--index-layout", preset]
    return lvm("ingest", "--input", folder, "--output", output, *given, "--max-rejected-share", 1, *extra)


def _ecgs(output: Path) -> dict[str, dict[str, Any]]:
    return {row["ecg_id"]: row for row in rows_of(output / "ecg")}


def test_mimic_iv_ecg__keys_times_measurements_and_rhythm_are_those_of_its_tables(tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    archive_builders.mimic_iv_ecg(folder)
    more = folder / "machine_measurements.csv"
    argv = ["--index", folder / "record_list.csv", more, "--index-layout", "mimic-iv-ecg"]
    assert lvm("ingest", "--input", folder, "--output", output, *argv) == 0
    assert_reconciles(output, 3)
    found = _ecgs(output)
    assert {key: row["participant_id"] for key, row in found.items()} == {
        "40689238": "10000032",
        "40689239": "10000032",
        "40689240": "10000033",
    }
    first, second = found["40689238"], found["40689239"]
    assert first["recorded_at"] == dt.datetime(2180, 7, 20, 8, 44)
    assert (first["qrs_duration_ms"], first["qrs_measured_by"]) == (88, "device")
    assert (first["rhythm"], first["conduction"], first["rhythm_source"]) == ("af_flutter", "lbbb", "device")
    # An end of 29,999 ms is none: the software measured it.
    assert (second["qrs_measured_by"], second["rhythm"]) == ("software", None)
    np.testing.assert_array_equal([first[lead] for lead in CLINICAL_LEADS], people(6).counts[0])
    assert report(output)["ignored_by_kind"] == {"not in the index": 2}


def test_ptb_xl__age_sex_and_size_of_the_index_are_enough_for_the_full_model(fake: None, tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    rows = archive_builders.ptb_xl(folder)
    argv = ["--index", folder / "ptbxl_database.csv", "--index-layout", "ptb-xl", "--max-rejected-share", 1]
    assert score(folder, output, *argv, model=FULL) == 0
    (one,) = predictions(output)
    made = people(6)
    assert (one["ecg_id"], one["participant_id"]) == ("1", "15709")
    assert (one["age_years"], one["sex"]) == (made.age_years[0], made.sex[0].value)
    assert one["height_cm"] == pytest.approx(rows[0]["height"], abs=1e-4)
    assert one["recorded_at"] == dt.datetime(1984, 11, 1, 9, 17, 34)
    # Without a height no BMI; an age of 300 stands for above 89.
    assert {row["ecg_id"]: row["reason"] for row in rejects(output)} == {"2": "bmi_missing", "3": "age_missing"}
    # Both files of each record of 100 Hz, and the table itself.
    assert report(output)["ignored_by_kind"] == {"not in the index": 7}
    assert_nowhere(output, "sinusrhythmus")


def test_code_15__ecgs_of_hdf5_are_listed_by_file_and_key(tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    rows = archive_builders.code_15(folder)
    # 1001 is not listed, 1011 is listed in the wrong file, 2000 is nowhere.
    listed = [row for row in rows if row["exam_id"] != 1001]
    listed[2] = {**listed[2], "trace_file": "exams_part0.hdf5"}
    listed.append({**rows[0], "exam_id": 2000, "trace_file": "exams_part1.hdf5"})
    write_table(folder / "exams.csv", listed)
    layout = stack_layout(tmp_path / "code15.yaml")
    assert _ingest(folder, output, "exams.csv", "code-15", "--layout", layout, "--unit-ecgs", 1) == 0
    assert_reconciles(output, 4)
    assert {key: row["participant_id"] for key, row in _ecgs(output).items()} == {"1000": "501000", "1010": "501010"}
    assert {row["ecg_id"]: (row["reason"], row["source_uri"]) for row in rejects(output)} == {
        "1011": ("file_missing", "exams_part0.hdf5"),
        "2000": ("file_missing", "exams_part1.hdf5"),
    }
    ignored = report(output)["ignored_by_kind"]
    assert ignored == {"not in the index": 1, "of the ECGs in HDF5 not in the index": 2}
    assert lvm("verify", output) == 0


def test_finngen__names_of_any_case_and_ages_at_each_recording(fake: None, tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    rows = archive_builders.finngen(folder)
    sizes = [{"participant_id": f"FG0000000{i}", "sex": "female", "bmi_kg_m2": 25 + i} for i in range(2)]
    table = write_table(tmp_path / "people.csv", sizes)
    argv = ["--index", folder / "index.tsv", "--index-layout", "finngen", "--participants", table]
    assert score(folder, output, *argv, model=FULL) == 0
    found = {row["ecg_id"]: row for row in predictions(output)}
    assert set(found) == {f"{row['FINNGENID']}_{row['MEASID']}" for row in rows}
    assert {key: round(row["age_years"], 2) for key, row in found.items()} == {
        "FG00000000_MEAS0": 55.37,
        "FG00000000_MEAS1": 57.37,
        "FG00000001_MEAS2": 59.37,
        "FG00000001_MEAS3": 61.37,
    }
    last = found["FG00000001_MEAS3"]
    assert (last["participant_id"], last["sex"], last["bmi_kg_m2"]) == ("FG00000001", "female", 26)
    assert last["recorded_at"] == dt.datetime(2016, 2, 3, 12, 31, 3)
    assert "age_not_at_recording" not in last["quality_flags"]


def test_echonext__records_are_known_by_their_key_alone(tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    archive_builders.echonext(folder)
    layout = stack_layout(tmp_path / "echonext.yaml", rate_hz=250)
    assert _ingest(folder, output, "echonext_metadata_100k.csv", "echonext", "--layout", layout) == 0
    found = _ecgs(output)
    assert {key: row["participant_id"] for key, row in found.items()} == {"ecg0": "p0", "ecg1": "p1", "ecg2": "p2"}
    assert [row["qrs_duration_ms"] for row in found.values()] == [96, 96, 96]
    people_of = {row["ecg_id"]: row for row in pq.read_table(output / "index.parquet").to_pylist()}
    assert (people_of["ecg1"]["age_years"], people_of["ecg1"]["sex"]) == (51, "male")


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_index__own_layout_of_a_user_in_any_kind_of_table(tmp_path: Path, suffix: str) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    archive_builders.finngen(folder, 2)
    plain = write_table(
        tmp_path / "list.csv",
        [{"Datei": "./FG00000000/FG00000000_MEAS0.ecg", "Nr": "007", "Tag": "03.02.2010 12:31", "w": "1"}],
    )
    index = tmp_path / f"list{suffix}"
    if suffix == ".csv.gz":
        index.write_bytes(gzip.compress(plain.read_bytes()))
    elif suffix == ".parquet":
        import pyarrow.csv

        text = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(("Datei", "Nr", "Tag", "w"), "string"))
        pq.write_table(pyarrow.csv.read_csv(plain, convert_options=text), index)
    layout = tmp_path / "layout.yaml"
    layout.write_text(
        "path: '{Datei}'\necg_id: 'x-{Nr}'\nrecorded_at: '{Tag}'\ntime_format: '%d.%m.%Y %H:%M'\n"
        "people:\n  columns: {participant_id: Nr, sex: w}\n  sex: {1: female}\n"
    )
    assert lvm("ingest", "--input", folder, "--output", output, "--index", index, "--index-layout", layout) == 0
    (row,) = rows_of(output / "ecg")
    assert (row["ecg_id"], row["participant_id"]) == ("x-007", "007")
    assert row["recorded_at"] == dt.datetime(2010, 2, 3, 12, 31)
    assert pq.read_table(output / "index.parquet")["sex"].to_pylist() == ["female"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_index__finds_records_in_archives_below_their_first_folder(tmp_path: Path, kind: str) -> None:
    import tarfile

    folder, output = tmp_path / "data", tmp_path / "out"
    archive_builders.ptb_xl(folder, 2)
    packed = tmp_path / "in" / f"ptb-xl-1.0.3.{kind}"
    packed.parent.mkdir()
    if kind == "zip":
        with zipfile.ZipFile(packed, "w") as archive:
            for path in sorted(folder.rglob("*.*")):
                archive.write(path, f"ptb-xl-1.0.3/{path.relative_to(folder)}")
    else:
        with tarfile.open(packed, "w") as tar:
            tar.add(folder, "ptb-xl-1.0.3")
    argv = ["--index", folder / "ptbxl_database.csv", "--index-layout", "ptb-xl"]
    assert lvm("ingest", "--input", packed, "--output", output, *argv) == 0
    assert {key: row["participant_id"] for key, row in _ecgs(output).items()} == {"1": "15709", "2": "15710"}
    assert_reconciles(output, 2)


def test_index__each_row_ends_once_and_each_file_is_used_or_ignored(tmp_path: Path) -> None:
    """Listed = read + rejected; present = used + not in the index."""
    folder, output = tmp_path / "in", tmp_path / "out"
    rng = np.random.default_rng(3)
    folder.mkdir()
    n_files, listed = 12, []
    from tests.file_builders import cardiosoft_xml

    for i in range(n_files):
        (folder / f"f{i}.xml").write_bytes(cardiosoft_xml(counts_of(i % 6)) if i % 5 else b"damaged")
    for _ in range(30):  # absent files, files listed twice, keys listed twice, rows without either
        path, key = (str(rng.choice([f"{kind}{k}" for k in range(16)] + [""])) for kind in ("f", "k"))
        listed.append({"path": path, "ecg_id": key})
    index = write_table(tmp_path / "list.csv", listed)
    argv = ["--index", index, "--max-rejected-share", 1]
    assert lvm("ingest", "--input", folder, "--output", output, *argv) == 0
    assert_reconciles(output, len(listed))
    used = {row["source_uri"] for row in (*rows_of(output / "ecg"), *rejects(output))} & {
        path.name for path in folder.iterdir()
    }
    assert len(used) + report(output)["ignored_by_kind"].get("not in the index", 0) == n_files
    # By hand: a file is used where a row lists it; a record is done where its row is the first of
    # its file and of its key among those whose file is there and sound.
    there = {f"f{i}" for i in range(n_files)}
    seen: set[str] = set()
    used_by_hand, done_by_hand, keys = set(), set(), set()
    for row in listed:
        if row["path"] in there and row["path"] not in seen:
            seen.add(row["path"])
            used_by_hand.add(f"{row['path']}.xml")
    assert used == used_by_hand
    first = {row["path"]: row["ecg_id"] for row in reversed(listed)}
    for path in sorted(used_by_hand):
        key = first[path.removesuffix(".xml")]
        if key and key not in keys:
            keys.add(key)
            if int(path[1:-4]) % 5:
                done_by_hand.add(key)
    assert set(_ecgs(output)) == done_by_hand


def test_index__resumed_in_shards_gives_the_same_bytes_and_another_index_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    archive_builders.mimic_iv_ecg(folder, 6)
    for suffix in ("hea", "dat"):
        (folder / f"files/p1000/p10000032/s40689239/40689239.{suffix}").unlink()
    argv = ("record_list.csv", "mimic-iv-ecg", "--unit-ecgs", 2)
    assert _ingest(folder, tmp_path / "whole", *argv) == 0
    for shard in ("2/3", "1/3", "3/3"):
        assert _ingest(folder, tmp_path / "cut", *argv, "--shard", shard) == 0
    assert result_files(tmp_path / "cut") == result_files(tmp_path / "whole")
    assert reject_counts(tmp_path / "cut") == {"file_missing": 1}
    assert _ingest(folder, tmp_path / "whole", *argv) == 0
    assert "finished already" in capsys.readouterr().err
    rows = (folder / "record_list.csv").read_text().replace("08:44", "09:44")
    (folder / "record_list.csv").write_text(rows)
    assert _ingest(folder, tmp_path / "whole", *argv) == 2
    assert "index: its content changed" in capsys.readouterr().err


@pytest.mark.parametrize("when", ["before", "after", "withdraw"])
@pytest.mark.parametrize("kind", ["finngen", "code-15"])
def test_index__excluded_person_is_nowhere(tmp_path: Path, kind: str, when: str) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    if kind == "finngen":
        archive_builders.finngen(folder)
        argv: Argv = ["index.tsv", kind]
        person, n = "FG00000001", 2
    else:
        archive_builders.code_15(folder)
        argv = ["exams.csv", kind, "--layout", stack_layout(tmp_path / "layout.yaml")]
        person, n = "501010", 1
    listed = exclusion_list(tmp_path / "gone.txt", person)
    excluded = [] if when == "withdraw" else ["--exclude-participants", listed]
    if when != "before":
        assert _ingest(folder, output, *argv) == 0
    if when == "withdraw":
        assert lvm("withdraw", output, "--participants", listed) == 0
    else:
        assert _ingest(folder, output, *argv, *excluded) == 0
    assert_nowhere(output, person)
    assert reject_counts(output) == {"excluded": n}
    assert_reconciles(output, 4)


def test_index__participants_of_the_command_win_over_it(fake: None, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    archive_builders.ptb_xl(folder)
    given = [
        {"participant_id": "15709", "age_years": 44, "sex": "", "height_cm": "", "weight_kg": ""},
        {"participant_id": "15711", "age_years": 45, "sex": "female", "height_cm": 171, "weight_kg": 70},
    ]
    table = write_table(tmp_path / "people.csv", given)
    argv = ["--index", folder / "ptbxl_database.csv", "--index-layout", "ptb-xl", "--participants", table]
    assert score(folder, tmp_path / "out", *argv, "--max-rejected-share", 1, model=FULL) == 0
    found = {row["ecg_id"]: row for row in predictions(tmp_path / "out")}
    assert set(found) == {"1", "3"}
    assert (found["1"]["age_years"], found["1"]["sex"]) == (44, people(6).sex[0].value)
    assert (found["3"]["age_years"], found["3"]["sex"], found["3"]["height_cm"]) == (45, "female", 171)


def test_index__one_age_of_a_person_beside_recordings_years_apart_is_flagged(fake: None, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    archive_builders.finngen(folder)
    rows = [{"participant_id": f"FG0000000{i}", "age_years": 50, "sex": "male", "bmi_kg_m2": 25} for i in range(2)]
    table = write_table(tmp_path / "people.csv", rows)
    argv = ["--index", folder / "index.tsv", "--index-layout", "finngen", "--participants", table]
    assert score(folder, tmp_path / "out", *argv, model=FULL) == 0
    flags = [row["quality_flags"] for row in predictions(tmp_path / "out")]
    assert len(flags) == 4
    assert all("age_not_at_recording" in one for one in flags)
    # Months apart it is the age at both.
    near = [{**row, "APPROX_EVENT_DAY": "2013-02-03"} for row in archive_builders.finngen(folder)]
    write_table(folder / "index.tsv", near, "\t")
    assert score(folder, tmp_path / "near", *argv, model=FULL) == 0
    assert not any("age_not_at_recording" in row["quality_flags"] for row in predictions(tmp_path / "near"))


def test_index__of_an_ingest_is_read_as_participants_by_score(fake: None, tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "ecg"
    archive_builders.ptb_xl(folder, 1)
    assert _ingest(folder, output, "ptbxl_database.csv", "ptb-xl") == 0
    assert stat.S_IMODE((output / "index.parquet").stat().st_mode) == 0o600
    people_of = output / "index.parquet"
    assert score(output, tmp_path / "out", "--participants", people_of, model=FULL) == 0
    argv = ["--index", folder / "ptbxl_database.csv", "--index-layout", "ptb-xl"]
    assert score(folder, tmp_path / "direct", *argv, model=FULL) == 0
    (one,), (other,) = predictions(tmp_path / "out"), predictions(tmp_path / "direct")
    assert one == other


def test_index__time_of_the_index_wins_and_that_of_the_file_fills_it(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    rows = archive_builders.finngen(folder, 2)
    rows[1] |= {"TIME": ""}
    write_table(folder / "index.tsv", rows, "\t")
    assert _ingest(folder, tmp_path / "out", "index.tsv", "finngen") == 0
    times = {key: row["recorded_at"] for key, row in _ecgs(tmp_path / "out").items()}
    assert times["FG00000000_MEAS0"] == dt.datetime(2010, 2, 3, 12, 31)
    assert times["FG00000000_MEAS1"] == dt.datetime(2018, 7, 19, 14, 19, 39)  # of the file builder


@pytest.mark.parametrize(
    ("change", "argv", "said"),
    [
        (None, ["--index-layout", "mimic"], "neither a file nor a preset"),
        (None, ["--index-layout", "ptb-xl"], "expected ecg_id, filename_hr among them"),
        (None, ["--index-layout", "finngen", "--id-pattern", "ukb-20205"], "leave out one of the two"),
        (lambda text: text.partition("\n")[0] + "\n", ["--index-layout", "finngen"], "lists no record"),
        (lambda text: text.replace("FG", "XX"), ["--index-layout", "finngen"], "none of the 4 records"),
        (lambda text: text.replace("2010-", "May-"), ["--index-layout", "finngen"], "row 1"),
    ],
)
def test_index__mistake_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[str], str] | None, argv: list[str], said: str
) -> None:
    folder = tmp_path / "in"
    archive_builders.finngen(folder)
    index = tmp_path / "list.tsv"
    text = (folder / "index.tsv").read_text()
    index.write_text(text if change is None else change(text))
    assert lvm("ingest", "--input", folder, "--output", tmp_path / "out", "--index", index, *argv) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_index__beside_parquet_is_refused(fake: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, output = tmp_path / "in", tmp_path / "ecg"
    archive_builders.finngen(folder)
    assert _ingest(folder, output, "index.tsv", "finngen") == 0
    argv = ["--index", folder / "index.tsv", "--index-layout", "finngen"]
    assert score(output, tmp_path / "out", *argv) == 2
    assert "Parquet files, which have keys of their own" in capsys.readouterr().err


def test_index__plan_says_how_many_records_are_absent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "in"
    rows = archive_builders.finngen(folder)
    write_table(folder / "index.tsv", [*rows, {**rows[0], "MEASID": "gone"}, rows[1]], "\t")
    assert _ingest(folder, tmp_path / "out", "index.tsv", "finngen", "--dry-run") == 0
    captured = capsys.readouterr()
    assert "1 of 6 records of the index not among the inputs, 1 row listed again" in captured.err
    assert "files: 4; ignored: 1 (1 not in the index)" in captured.out
    assert "ECGs: 6 (duplicate ids: 0; unreadable inputs: 2)" in captured.out


def test_index__plan_holds_no_row_of_the_index_beside_keys(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    archive_builders.mimic_iv_ecg(folder)
    assert _ingest(folder, tmp_path / "out", "record_list.csv", "mimic-iv-ecg") == 0
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    pieces = [piece for unit in plan["units"] for piece in unit["pieces"]]
    assert {key for piece in pieces for key in piece} == {
        *("root", "path", "path_sha256", "size", "parts", "ecg_id", "participant_id")
    }
    assert set(plan["settings"]["index_sha256"]) <= set("0123456789abcdef")


def _hdf5_index(tmp_path: Path) -> tuple[Path, list[Any]]:
    """Write two HDF5 files of two ECGs each and their index; return the folder and the options."""
    archive_builders.code_15(tmp_path / "in")
    return tmp_path / "in", ["exams.csv", "code-15", "--layout", stack_layout(tmp_path / "layout.yaml")]


def test_index__ecg_of_a_present_file_is_kept_after_a_row_of_an_absent_one(tmp_path: Path) -> None:
    folder, argv = _hdf5_index(tmp_path)
    rows = archive_builders.code_15(folder)
    gone = {**rows[0], "trace_file": "zz.hdf5", "patient_id": 7}
    write_table(folder / "exams.csv", [gone, *rows])
    assert _ingest(folder, tmp_path / "out", *argv) == 0
    assert_reconciles(tmp_path / "out", 5)
    assert _ecgs(tmp_path / "out")["1000"]["participant_id"] == "501000"
    assert [(row["source_uri"], row["reason"]) for row in rejects(tmp_path / "out")] == [("zz.hdf5", "file_missing")]


@pytest.mark.parametrize("n_damaged", [1, 2])
def test_index__each_row_of_a_damaged_hdf5_file_has_its_reason(tmp_path: Path, n_damaged: int) -> None:
    folder, argv = _hdf5_index(tmp_path)
    names = [f"exams_part{i}.hdf5" for i in range(n_damaged)]
    for name in names:
        (folder / name).write_bytes((folder / name).read_bytes()[:3000])
    assert _ingest(folder, tmp_path / "out", *argv, *(["--allow-empty"] if n_damaged == 2 else [])) == 0
    assert_reconciles(tmp_path / "out", 4)
    found = rejects(tmp_path / "out")
    assert [row["source_uri"] for row in found] == [name for name in names for _ in range(2)]
    assert {row["reason"] for row in found} == {"unreadable"}
    assert {row["ecg_id"] for row in found} == {"1000", "1001", "1010", "1011"} - set(
        () if n_damaged == 2 else ("1010", "1011")
    )


def test_index__damaged_file_that_no_row_lists_is_ignored(tmp_path: Path) -> None:
    folder, argv = _hdf5_index(tmp_path)
    (folder / "other.hdf5").write_bytes(b"no HDF5")
    assert _ingest(folder, tmp_path / "out", *argv) == 0
    assert_reconciles(tmp_path / "out", 4)
    assert report(tmp_path / "out")["ignored_by_kind"]["not in the index"] == 2


def test_index__each_row_of_a_damaged_archive_has_its_reason(tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    archive_builders.ptb_xl(tmp_path / "data", 2)
    folder.mkdir()
    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        for path in sorted((tmp_path / "data").rglob("*.*")):
            archive.write(path, path.relative_to(tmp_path / "data"))
    (folder / "all.zip").write_bytes((folder / "all.zip").read_bytes()[:5000])
    argv = ["--index", tmp_path / "data" / "ptbxl_database.csv", "--index-layout", "ptb-xl", "--max-rejected-share", 1]
    assert lvm("ingest", "--input", folder, "--output", output, *argv, "--allow-empty") == 0
    assert_reconciles(output, 2)
    assert [(row["ecg_id"], row["source_uri"]) for row in rejects(output)] == [("1", "all.zip"), ("2", "all.zip")]
    assert "file_missing" not in reject_counts(output)


def test_index__file_that_arrives_after_planning_is_named_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, argv = _hdf5_index(tmp_path)
    away = (folder / "exams_part1.hdf5").rename(tmp_path / "away.hdf5")
    assert _ingest(folder, tmp_path / "out", *argv) == 0
    assert reject_counts(tmp_path / "out") == {"file_missing": 2}
    away.rename(folder / "exams_part1.hdf5")
    capsys.readouterr()
    assert _ingest(folder, tmp_path / "out", *argv) == 2
    said = capsys.readouterr().err
    assert "2 records have arrived that the index lists" in said
    assert "--overwrite" in said
    assert "gone" not in said
    assert "Put them back" not in said
    assert _ingest(folder, tmp_path / "out", *argv, "--overwrite") == 0
    assert_reconciles(tmp_path / "out", 4)
    assert len(_ecgs(tmp_path / "out")) == 4


def test_index__without_times_leaves_the_dates_of_ecgs_to_tell_an_old_age(fake: None, tmp_path: Path) -> None:
    from tests.beam_jobs.reading.test_array_input import CODE_15_LEADS, write_stack

    folder = tmp_path / "in"
    folder.mkdir()
    array = np.stack([people(6).counts[i].T * 0.005 for i in range(3)]).astype(np.float32)
    times = [b"2010-01-01T10:00:00", b"2020-01-01T10:00:00", b"2020-01-01T10:00:00"]
    write_stack(folder / "a.h5", array, ids=[b"a", b"b", b"c"], when=times)
    layout = tmp_path / "layout.yaml"
    signal = {"array": "tracings", "order": "sample_major", "leads": CODE_15_LEADS, "unit": "mV"}
    content = {"ecg_id": "exam_id", "recorded_at": "when", "signal": {**signal, "sampling_rate_hz": 500}}
    layout.write_text(json.dumps(content))
    listed = [{"path": "a.h5", "ecg_id": key, "participant_id": p} for key, p in (("a", "p"), ("b", "p"), ("c", "q"))]
    index = write_table(tmp_path / "list.csv", listed)
    size = {"age_years": 50, "sex": "male", "bmi_kg_m2": 25}
    table = write_table(tmp_path / "people.csv", [{"participant_id": p, **size} for p in "pq"])
    argv = ["--index", index, "--participants", table, "--layout", layout]
    assert score(folder, tmp_path / "out", *argv, model=FULL) == 0
    flags = {row["ecg_id"]: "age_not_at_recording" in row["quality_flags"] for row in predictions(tmp_path / "out")}
    assert flags == {"a": True, "b": True, "c": False}
