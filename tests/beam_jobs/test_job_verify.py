"""`verify` finds planted damage; `status` and `--dry-run` tell without changing anything."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lvm_core.tables import schemas
from tests.beam_jobs.conftest import Finish
from tests.beam_jobs.job_helpers import (
    CLINICAL_LEADS,
    everything,
    lvm,
    people,
    people_table,
    report,
    score,
    score_argv,
    write_cohort,
    write_parquet,
    write_participants,
    write_with_hash,
)
from tests.file_builders import cardiosoft_xml

pytestmark = pytest.mark.usefixtures("fake")

N_ECGS = 24


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a finished run of 3 units; row 4 has null samples, so unit 0 has a rejects file."""
    table = people_table(people(N_ECGS), missing={"V1": {4: [17]}})
    write_parquet(tmp_path / "in" / "a.parquet", table)
    assert score(tmp_path / "in", tmp_path / "out") == 0
    return tmp_path / "out"


def result(run: Path, unit: int) -> Path:
    return next((run / "predictions").glob(f"unit-{unit:06d}-*.parquet"))


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change a table and keep what its footer says."""
    footer = pq.read_metadata(path).metadata[schemas.FOOTER_KEY]
    changed = change(pq.read_table(path))
    pq.write_table(changed.replace_schema_metadata({schemas.FOOTER_KEY: footer}), path)


def with_value(table: pa.Table, column: str, row: int, value: object) -> pa.Table:
    values = table[column].to_pylist()
    values[row] = value
    index = table.schema.get_field_index(column)
    array = pa.array(values, table.schema.field(column).type)
    return table.set_column(index, table.schema.field(column), array)


def test_verify__sound_run_is_ok(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lvm("verify", run) == 0
    out = capsys.readouterr().out
    assert "24 ECGs read = 23 predicted + 1 rejected" in out
    assert "computed again" in out
    assert "problem" not in out


def test_verify__changes_nothing(run: Path) -> None:
    before = everything(run)
    assert lvm("verify", run) == 0
    assert everything(run) == before


def damage_delete_result(run: Path) -> None:
    result(run, 1).unlink()


def damage_truncate_result(run: Path) -> None:
    path = result(run, 1)
    path.write_bytes(path.read_bytes()[:-20])


def damage_delete_rejects(run: Path) -> None:
    next((run / "rejects").iterdir()).unlink()


def damage_report(run: Path) -> None:
    content = report(run)
    content["counts"]["predicted"] += 1
    (run / "run_report.json").write_text(json.dumps(content))


def damage_delete_report(run: Path) -> None:
    (run / "run_report.json").unlink()


def damage_remove_row(run: Path) -> None:
    rewrite(result(run, 1), lambda table: table.slice(1))


def damage_repeat_id(run: Path) -> None:
    rewrite(result(run, 1), lambda t: with_value(t, "ecg_id", 0, people(N_ECGS).ecg_id[0]))


def damage_move_mass(run: Path) -> None:
    mass_g = pq.read_table(result(run, 1))["lvm_pred_g"][2].as_py()
    rewrite(result(run, 1), lambda t: with_value(t, "lvm_pred_g", 2, mass_g + 0.5))


def damage_move_mass_and_hash(run: Path) -> None:
    damage_move_mass(run)
    write_with_hash(result(run, 1), pq.read_table(result(run, 1)))


def damage_flag(run: Path) -> None:
    rewrite(result(run, 2), lambda t: with_value(t, "quality_flags", 7, ["cropped"]))


def damage_reject_detail(run: Path) -> None:
    path = next((run / "rejects").iterdir())
    rewrite(path, lambda table: with_value(table, "detail", 0, "nothing is wrong"))


def damage_order(run: Path) -> None:
    rewrite(result(run, 1), lambda table: table.take([1, 0, *range(2, 8)]))


def damage_mass_nan(run: Path) -> None:
    rewrite(result(run, 1), lambda t: with_value(t, "lvm_pred_g", 2, float("nan")))


def damage_drop_column(run: Path) -> None:
    rewrite(result(run, 1), lambda table: table.drop_columns(["quality_flags"]))


def damage_reject_reason(run: Path) -> None:
    path = next((run / "rejects").iterdir())
    rewrite(path, lambda table: with_value(table, "reason", 0, "lead_flat"))


def damage_swap_units(run: Path) -> None:
    first, second = result(run, 1).read_bytes(), result(run, 2).read_bytes()
    result(run, 1).write_bytes(second)
    result(run, 2).write_bytes(first)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_delete_result, "unit 1: its result file is missing"),
        (damage_truncate_result, "unit 1: its result file is missing, damaged"),
        (damage_delete_rejects, "unit 0: its footer says rejects"),
        (damage_report, "run_report.json states"),
        (damage_delete_report, "run_report.json is missing"),
        (damage_remove_row, "unit 1: its footer says 8 rows, it has 7"),
        (damage_repeat_id, "an ecg_id occurs twice"),
        (damage_move_mass, "unit 1: predictions/unit-000001-"),
        (damage_move_mass_and_hash, "unit 1: computed again"),
        (damage_flag, "its rows are not those that were committed"),
        (damage_reject_detail, "unit 0: rejects/unit-000000-"),
        (damage_order, "its rows are not those that were committed"),
        (damage_mass_nan, "a predicted mass is not finite"),
        (damage_drop_column, "other columns"),
        (damage_reject_reason, "unit 0: its footer says rejects"),
        (damage_swap_units, "of another plan"),
    ],
)
def test_verify__finds_planted_damage(
    damage: Callable[[Path], None], said: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(run)
    assert lvm("verify", run) == 1
    out = capsys.readouterr().out
    assert any(said in line for line in out.splitlines() if line.startswith("problem:")), out


def test_verify__damaged_page_of_a_result_is_found(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = result(run, 1)
    chunk = pq.read_metadata(path).row_group(0).column(0)
    data = bytearray(path.read_bytes())
    data[chunk.data_page_offset + chunk.total_compressed_size // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    assert lvm("verify", run) == 1
    assert "problem: unit 1:" in capsys.readouterr().out


def test_verify__damaged_rejects_file_is_found(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = next((run / "rejects").iterdir())
    path.write_bytes(path.read_bytes()[:-20])
    assert lvm("verify", run) == 1
    assert "problem: unit 0:" in capsys.readouterr().out


def test_verify__other_input_than_the_run_had_is_found(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = people_table(people(N_ECGS, seed=5))
    write_parquet(tmp_path / "elsewhere" / "a.parquet", table)
    assert lvm("verify", run, "--input", tmp_path / "elsewhere") == 1
    assert "a.parquet changed" in capsys.readouterr().err


def test_verify__inputs_that_cannot_be_read_any_more_are_not_called_equal(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "in" / "a.parquet"
    footer = pq.read_metadata(path)
    data = bytearray(path.read_bytes())
    for group in range(footer.num_row_groups):
        chunk = footer.row_group(group).column(footer.schema.names.index("element"))
        data[chunk.data_page_offset + chunk.total_compressed_size // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    lvm("verify", run)
    out = capsys.readouterr().out
    assert "warning: no ECG was computed again: the inputs cannot be read or are others" in out
    assert "computed again, equal" not in out


def test_verify__inputs_may_have_moved(run: Path, tmp_path: Path) -> None:
    (tmp_path / "in").rename(tmp_path / "moved")
    assert lvm("verify", run, "--input", tmp_path / "moved") == 0


def test_verify__without_a_sample_needs_no_inputs(run: Path, tmp_path: Path) -> None:
    (tmp_path / "in" / "a.parquet").unlink()
    assert lvm("verify", run, "--no-sample") == 0


def test_verify__inputs_that_are_gone_are_a_clear_stop(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in" / "a.parquet").unlink()
    assert lvm("verify", run) in (1, 2)
    shown = capsys.readouterr()
    assert "a.parquet" in shown.out + shown.err
    assert "Traceback" not in shown.err


def test_verify__half_done_run_is_not_ok(tmp_path: Path, finish: Finish, capsys: pytest.CaptureFixture[str]) -> None:
    write_cohort(tmp_path / "in", N_ECGS)
    output = tmp_path / "out"
    assert finish(score_argv(tmp_path / "in", output), kill_at_fsync=6) == -9
    assert lvm("verify", output) == 1
    assert "unit 2: its result file is missing" in capsys.readouterr().out


def test_verify__ingest_run_with_another_sample_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = people(3)
    (tmp_path / "raw").mkdir()
    for i in range(3):
        leads = dict(zip(CLINICAL_LEADS, made.counts[i], strict=True))
        (tmp_path / "raw" / f"{i}.xml").write_bytes(cardiosoft_xml(leads))
    argv = ["--input", tmp_path / "raw", "--output", tmp_path / "ecg"]
    assert lvm("ingest", *argv) == 0
    assert lvm("verify", tmp_path / "ecg") == 0
    # Same size, other content: one digit of the strip.
    text = (tmp_path / "raw" / "1.xml").read_bytes()
    at = text.rindex(b",")
    digit = b"7" if text[at - 1 : at] != b"7" else b"8"
    (tmp_path / "raw" / "1.xml").write_bytes(text[: at - 1] + digit + text[at:])
    assert lvm("verify", tmp_path / "ecg") == 1
    assert "computed again" in capsys.readouterr().out


def test_verify__every_mass_of_every_unit_is_covered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cohort(tmp_path / "in", 96)
    run = tmp_path / "out"
    assert score(tmp_path / "in", run) == 0
    path = result(run, 11)  # the sample looks at every second of 12 units
    mass_g = pq.read_table(path)["lvm_pred_g"][7].as_py()
    rewrite(path, lambda t: with_value(t, "lvm_pred_g", 7, mass_g + 20))
    assert lvm("verify", run) == 1
    assert f"problem: unit 11: predictions/{path.name} was changed" in capsys.readouterr().out


def test_verify__the_same_rows_in_another_encoding_are_the_same(run: Path) -> None:
    path = result(run, 1)
    table = pq.read_table(path)
    pq.write_table(table, path, compression="none", use_dictionary=False, row_group_size=3)
    assert lvm("verify", run, "--no-sample") == 0


def test_verify_and_withdraw__footer_without_its_hash_was_changed(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = result(run, 1)
    table = pq.read_table(path)
    content = json.loads(table.schema.metadata[schemas.FOOTER_KEY])
    del content["rows_sha256"]
    footer = {**table.schema.metadata, schemas.FOOTER_KEY: json.dumps(content)}
    pq.write_table(table.replace_schema_metadata(footer), path)
    assert lvm("verify", run, "--no-sample") == 1
    assert "unit 1: the footer of its result file was changed" in capsys.readouterr().out
    (tmp_path / "gone.txt").write_text("nobody\n")
    assert lvm("withdraw", run, "--participants", tmp_path / "gone.txt") == 1
    assert f"predictions/{path.name} was changed" in capsys.readouterr().err


@pytest.fixture
def ingested(tmp_path: Path) -> Path:
    """Return a finished ingest run of three ECGs."""
    made = people(3)
    (tmp_path / "raw").mkdir()
    for i in range(3):
        leads = dict(zip(CLINICAL_LEADS, made.counts[i], strict=True))
        (tmp_path / "raw" / f"{i}.xml").write_bytes(cardiosoft_xml(leads))
    assert lvm("ingest", "--input", tmp_path / "raw", "--output", tmp_path / "ecg") == 0
    return tmp_path / "ecg"


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("V3", [7] * 5000, "the samples of 1 ECG do not give their signal_sha256"),
        ("uv_per_count", 1.0, "its rows are not those that were committed"),
        ("signal_sha256", "0" * 64, "its rows are not those that were committed"),
        ("recorded_at", None, "its rows are not those that were committed"),
    ],
)
def test_verify__a_changed_ecg_is_found_and_its_file_named(
    column: str, value: object, said: str, ingested: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = next((ingested / "ecg").iterdir())
    rewrite(path, lambda table: with_value(table, column, 1, value))
    assert lvm("verify", ingested, "--no-sample") == 1
    out = capsys.readouterr().out
    assert f"ecg/{path.name} was changed: {said}" in out


@pytest.mark.parametrize("command", ["verify", "status", "withdraw"])
def test_commands_on_a_run__need_a_run_folder(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gone.txt").write_text("1\n")
    more = ["--participants", tmp_path / "gone.txt"] if command == "withdraw" else []
    assert lvm(command, tmp_path, *more) == 2
    assert "is no run folder" in capsys.readouterr().err


def test_status__finished_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lvm("status", run) == 0
    out = capsys.readouterr().out
    assert "finished, 3 of 3 units, 24 of 24 ECGs" in out
    assert "1 non_finite" in out


def test_status__half_done_run(tmp_path: Path, finish: Finish, capsys: pytest.CaptureFixture[str]) -> None:
    write_cohort(tmp_path / "in", N_ECGS)
    output = tmp_path / "out"
    # Plan and two units are written: 6 syncs.
    assert finish(score_argv(tmp_path / "in", output), kill_at_fsync=7) == -9
    before = everything(output)
    assert lvm("status", output) == 0
    out = capsys.readouterr().out
    assert "not finished, 2 of 3 units, 16 of 24 ECGs (66.7%)" in out
    assert "ECG/s" in out
    assert "left" in out
    assert lvm("status", output, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["finished"] is False
    assert (content["units_done"], content["units"]) == (2, 3)
    assert (content["n_read"], content["n_ecgs"], content["n_done"]) == (16, 24, 16)
    assert content["ecg_per_s"] > 0
    assert everything(output) == before


def test_status__run_with_too_many_rejects_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = people_table(people(8), missing={"V1": {4: [17]}})
    write_parquet(tmp_path / "in" / "a.parquet", table)
    assert score(tmp_path / "in", tmp_path / "out") == 1
    capsys.readouterr()
    assert lvm("status", tmp_path / "out") == 0
    out = capsys.readouterr().out
    assert "all units done, but NOT accepted" in out
    assert "--max-rejected-share" in out


def test_dry_run__writes_nothing_and_shows_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = write_cohort(tmp_path / "in", N_ECGS, n_files=2)
    (tmp_path / "in" / "README.md").write_text("about these files")
    table = write_participants(tmp_path / "people.csv", made)
    more = ("--participants", table, "--dry-run", "--shard", "1/2")
    assert score(tmp_path / "in", tmp_path / "out", *more) == 0
    assert not (tmp_path / "out").exists()
    out = capsys.readouterr().out
    assert "files: 2; ignored: 1 (1 by name)" in out
    assert "ECGs: 24" in out
    assert "units: 4 of about 8 ECGs" in out
    assert "this shard 1/2: 2 units" in out
    assert "expected memory" in out


def test_dry_run__on_a_run_changes_nothing(run: Path, tmp_path: Path) -> None:
    before = everything(run)
    assert score(tmp_path / "in", run, "--dry-run") == 0
    assert score(tmp_path / "in", run, "--dry-run", "--overwrite", "--batch", 2) == 0
    assert everything(run) == before


def test_dry_run__of_ingest_writes_nothing(tmp_path: Path) -> None:
    leads = dict(zip(CLINICAL_LEADS, people(1).counts[0], strict=True))
    (tmp_path / "a.xml").write_bytes(cardiosoft_xml(leads))
    argv = ["ingest", "--input", tmp_path / "a.xml", "--output", tmp_path / "ecg", "--dry-run"]
    assert lvm(*argv) == 0
    assert not (tmp_path / "ecg").exists()
