"""Nothing is lost: damage of every kind in one folder, each with its reason and its number."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from lvm_core.synthetic.ecgs import SyntheticEcgs
from tests.beam_jobs.job_helpers import (
    CLINICAL_LEADS,
    FULL,
    assert_reconciles,
    ecg_table,
    everything,
    lvm,
    masses,
    people,
    people_table,
    predictions,
    reject_counts,
    rejects,
    result_files,
    score,
    write_parquet,
    write_participants,
)

pytestmark = pytest.mark.usefixtures("fake")

LEAD_V3 = CLINICAL_LEADS.index("V3")


def flip_data_page(path: Path, row_group: int, column: str) -> None:
    """Change bytes in the middle of a column's data page in one row group."""
    group = pq.read_metadata(path).row_group(row_group)
    chunks = [group.column(i) for i in range(group.num_columns)]
    chunk = next(c for c in chunks if c.path_in_schema.split(".")[0] == column)
    data = bytearray(path.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    middle = (chunk.data_page_offset + start + chunk.total_compressed_size) // 2
    for i in range(middle, middle + 16):
        data[i] ^= 0xFF
    path.write_bytes(bytes(data))


def write_damaged(folder: Path) -> SyntheticEcgs:
    """Write one folder with every kind of damage; the people of `people(60)`, in order.

    rows  0-15  good.parquet     fine (16 predicted)
    rows 16-20  columns.parquet  no column V3 (5 missing_lead)
    rows 21-23  nulls.parquet    row 1 has null samples in V5 (1 non_finite, 2 predicted)
    rows 24-27  twice.parquet    two ids of good.parquet, then an id twice (3 duplicates, 1 pred.)
    rows 28-51  torn.parquet     3 row groups of 8, the second damaged (8 unreadable, 16 predicted)
    rows 52-57  signal.parquet   flat V3, all 0, standardised, step NaN, step 0, fine
    row  58     cut.parquet      cut in half (1 truncated, its number of ECGs is not known)
    row  59     null_id.parquet  ecg_id is null (1 unreadable)
    and empty.parquet (1 truncated), empty.xml (1), notes.txt (1), README.md (ignored), 0 rows.
    """
    made = people(60)
    table = people_table(made)
    write_parquet(folder / "good.parquet", table.slice(0, 16))
    write_parquet(folder / "columns.parquet", table.slice(16, 5).drop_columns(["V3"]))
    nulls = people_table(made, missing={"V5": {22: [0, 4999]}})
    write_parquet(folder / "nulls.parquet", nulls.slice(21, 3))
    ids = list(made.ecg_id)
    ids[24], ids[25], ids[27] = ids[3], ids[15], ids[26]
    twice = people_table(dataclasses.replace(made, ecg_id=tuple(ids)))
    write_parquet(folder / "twice.parquet", twice.slice(24, 4))
    torn = folder / "torn.parquet"
    pq.write_table(table.slice(28, 24), torn, row_group_size=8, write_page_checksum=True)
    flip_data_page(torn, 1, "V5")
    write_parquet(folder / "signal.parquet", _bad_signals(made).slice(52, 6))
    write_parquet(folder / "cut.parquet", table.slice(58, 1))
    whole = (folder / "cut.parquet").read_bytes()
    (folder / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    no_id = ecg_table(made.counts[59:], [""], participant_id=[made.participant_id[59]])
    write_parquet(folder / "null_id.parquet", no_id)
    write_parquet(folder / "no_rows.parquet", table.slice(0, 0))
    for name in ("empty.parquet", "empty.xml"):
        (folder / name).touch()
    (folder / "notes.txt").write_text("not an ECG")
    (folder / "README.md").write_text("about these files")
    return made


def _bad_signals(made: SyntheticEcgs) -> "pq.Table":
    counts = made.counts.copy()
    counts[52, LEAD_V3] = -3
    counts[53] = 0
    scale = 200 / counts[54].std(axis=1, keepdims=True)
    counts[54] = np.rint(counts[54] * scale)
    steps = [5.0] * 60
    steps[55], steps[56] = float("nan"), 0.0
    return people_table(dataclasses.replace(made, counts=counts), uv_per_count=steps)


EXPECTED = {
    "missing_lead": 5,
    "non_finite": 1 + 2,
    "duplicate_ecg_id": 3,
    "unreadable": 8 + 1,
    "lead_flat": 1,
    "lead_all_zero": 1,
    "lead_standardised": 1,
    "truncated": 1 + 1 + 1,
    "not_an_ecg": 1,
}
N_PREDICTED = 16 + 2 + 1 + 16 + 1


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damaged")
    write_damaged(folder)
    return folder


def test_counts__every_damage_has_its_reason_and_its_number(damaged: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert score(damaged, output, "--max-rejected-share", 0.6) == 0
    assert reject_counts(output) == EXPECTED
    assert len(predictions(output)) == N_PREDICTED
    assert_reconciles(output, N_PREDICTED + sum(EXPECTED.values()))
    assert lvm("verify", output) == 0


def test_counts__rejects_name_file_row_and_number(damaged: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert score(damaged, output, "--max-rejected-share", 0.6) == 0
    made = people(60)
    found = {(r["source_uri"], r["row"]): r for r in rejects(output)}
    assert found["columns.parquet", None]["n_ecgs"] == 5
    assert "V3" in found["columns.parquet", None]["detail"]
    assert found["torn.parquet", 8]["n_ecgs"] == 8
    assert found["cut.parquet", None]["n_ecgs"] is None
    assert found["empty.parquet", None]["reason"] == "truncated"
    assert found["empty.xml", None]["reason"] == "truncated"
    assert found["notes.txt", None]["reason"] == "not_an_ecg"
    assert found["nulls.parquet", 1]["reason"] == "non_finite"
    assert found["nulls.parquet", 1]["ecg_id"] == made.ecg_id[22]
    assert found["signal.parquet", 0]["reason"] == "lead_flat"
    assert found["signal.parquet", 2]["reason"] == "lead_standardised"
    assert found["signal.parquet", 0]["participant_id"] == made.participant_id[52]
    assert found["twice.parquet", 0]["ecg_id"] == made.ecg_id[3]
    assert found["twice.parquet", 3]["reason"] == "duplicate_ecg_id"
    assert all(r["stage"] == "score" for r in found.values())


def test_counts__too_many_rejects_fail_and_a_larger_share_then_closes(
    damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert score(damaged, output) == 1
    message = capsys.readouterr().err
    n_rejected = sum(EXPECTED.values())
    assert f"{n_rejected} of {n_rejected + N_PREDICTED} ECGs are rejected" in message
    assert "--max-rejected-share" in message
    assert not (output / "_SUCCESS").exists()
    before = {path: content for path, (_, content) in everything(output / "predictions").items()}
    times = {path: time for path, (time, _) in everything(output / "predictions").items()}
    assert score(damaged, output, "--max-rejected-share", 0.6) == 0
    after = everything(output / "predictions")
    assert {path: content for path, (_, content) in after.items()} == before
    assert {path: time for path, (time, _) in after.items()} == times
    assert (output / "_SUCCESS").is_file()


@pytest.mark.parametrize(("share", "code"), [(0.0999, 1), (0.1, 0)])
def test_counts__share_is_rejected_over_read(share: float, code: int, tmp_path: Path) -> None:
    made = people(10)
    counts = made.counts.copy()
    counts[4, 0] = 0
    table = people_table(dataclasses.replace(made, counts=counts))
    write_parquet(tmp_path / "in" / "a.parquet", table)
    assert score(tmp_path / "in", tmp_path / "out", "--max-rejected-share", share) == code


def test_counts__no_ecg_that_can_be_scored_still_reconciles(tmp_path: Path) -> None:
    made = people(10)
    table = people_table(dataclasses.replace(made, counts=np.zeros_like(made.counts)))
    write_parquet(tmp_path / "in" / "a.parquet", table)
    assert score(tmp_path / "in", tmp_path / "out", "--max-rejected-share", 1) == 0
    assert reject_counts(tmp_path / "out") == {"lead_all_zero": 10}
    assert len(list((tmp_path / "out" / "predictions").iterdir())) == 2
    assert_reconciles(tmp_path / "out", 10)


def test_counts__demographics_that_a_model_cannot_take_have_their_reasons(tmp_path: Path) -> None:
    made = people(16)
    write_parquet(tmp_path / "in" / "a.parquet", people_table(made))
    table = write_participants(
        tmp_path / "people.csv",
        dataclasses.replace(made, ecg_id=made.ecg_id[:14], participant_id=made.participant_id[:14]),
        sex_0="Unknown",
        age_years_1="NaN",
        age_years_2=17,
        age_years_3=18,
        age_years_4=110,
        age_years_5=111,
        bmi_kg_m2_6=400,
        bmi_kg_m2_7=80,
        bmi_kg_m2_8=80.1,
        height_cm_9="",
        height_cm_10=17.4,
    )
    output = tmp_path / "out"
    more = ("--participants", table, "--max-rejected-share", 0.9)
    assert score(tmp_path / "in", output, *more, model=FULL) == 0
    reasons = {row["ecg_id"]: row["reason"] for row in rejects(output)}
    assert reasons == {
        made.ecg_id[0]: "sex_unknown",
        made.ecg_id[1]: "age_missing",
        made.ecg_id[2]: "age_out_of_range",
        made.ecg_id[5]: "age_out_of_range",
        made.ecg_id[6]: "bmi_out_of_range",
        made.ecg_id[8]: "bmi_out_of_range",
        made.ecg_id[9]: "bmi_missing",
        made.ecg_id[10]: "bmi_missing",
        made.ecg_id[14]: "participant_missing",
        made.ecg_id[15]: "participant_missing",
    }
    assert_reconciles(output, 16)


def test_counts__prediction_follows_the_row_of_its_own_person(tmp_path: Path) -> None:
    made = people(16)
    write_parquet(tmp_path / "in" / "a.parquet", people_table(made))
    table = write_participants(tmp_path / "people.csv", made, bmi_kg_m2_3=31.5)
    output = tmp_path / "out"
    assert score(tmp_path / "in", output, "--participants", table, model=FULL) == 0
    rows = {row["ecg_id"]: row for row in predictions(output)}
    totals = np.abs(made.counts.astype(np.int64)).sum(axis=(1, 2))
    for i, ecg_id in enumerate(made.ecg_id):
        row = rows[ecg_id]
        height_cm, weight_kg = np.float32(made.height_cm[i]), np.float32(made.weight_kg[i])
        bmi = 31.5 if i == 3 else float(weight_kg) / (float(height_cm) / 100) ** 2
        is_male = made.sex[i].value == "male"
        # The formula of tests/fakes.py, with the person's age, sex and BMI.
        grams = 60 + totals[i] % 1000 / 10 + 5000 % 7
        grams += made.age_years[i] / 10 + 20 * is_male + bmi / 10
        bsa_m2 = 0.007184 * float(height_cm) ** 0.725 * float(weight_kg) ** 0.425
        assert row["lvm_pred_g"] == pytest.approx(grams, abs=1e-4)
        assert row["bmi_kg_m2"] == pytest.approx(bmi, rel=1e-6)
        assert row["bsa_m2"] == pytest.approx(bsa_m2, rel=1e-6)
        assert row["lvmi_pred_g_m2"] == pytest.approx(grams / bsa_m2, rel=1e-5)
        assert row["lvh_pred"] == (grams / bsa_m2 > (72 if is_male else 55))
        assert row["sex"] == made.sex[i].value
        assert row["participant_id"] == made.participant_id[i]


def break_page_header(path: Path, row_group: int, column: str) -> None:
    """Overwrite the header of a column's first page in one row group."""
    group = pq.read_metadata(path).row_group(row_group)
    chunks = [group.column(i) for i in range(group.num_columns)]
    chunk = next(c for c in chunks if c.path_in_schema.split(".")[0] == column)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 8] = b"\xff" * 8
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("break_file", [flip_data_page, break_page_header])
@pytest.mark.parametrize("column", ["I", "V6", "ecg_id", "uv_per_count", "participant_id"])
def test_corrupt_row_group__is_lost_alone(
    column: str, break_file: Callable[[Path, int, str], None], tmp_path: Path
) -> None:
    made = people(24)
    path = tmp_path / "in" / "a.parquet"
    path.parent.mkdir()
    pq.write_table(people_table(made), path, row_group_size=8, write_page_checksum=True)
    break_file(path, 1, column)
    output = tmp_path / "out"
    assert score(path, output, "--max-rejected-share", 0.5) == 0
    assert [(r["reason"], r["row"], r["n_ecgs"]) for r in rejects(output)] == [("unreadable", 8, 8)]
    assert sorted(masses(output)) == sorted([*made.ecg_id[:8], *made.ecg_id[16:]])
    assert_reconciles(output, 24)


def test_corrupt_keys__duplicates_in_sound_row_groups_are_still_found(tmp_path: Path) -> None:
    made = people(24)
    folder = tmp_path / "in"
    write_parquet(folder / "a.parquet", people_table(made).slice(0, 8))
    # The first row group repeats the ids of a.parquet; the ids of the second are damaged.
    pq.write_table(people_table(made).slice(0, 16), folder / "b.parquet", row_group_size=8, write_page_checksum=True)
    break_page_header(folder / "b.parquet", 1, "ecg_id")
    output = tmp_path / "out"
    assert score(folder, output, "--max-rejected-share", 0.9) == 0
    assert reject_counts(output) == {"duplicate_ecg_id": 8, "unreadable": 8}
    assert sorted(masses(output)) == sorted(made.ecg_id[:8])


def test_duplicates__first_in_the_order_of_paths_stays_whatever_the_shard(tmp_path: Path) -> None:
    made, other = people(10), people(10, seed=5)
    write_parquet(tmp_path / "in" / "a.parquet", people_table(made))
    same_ids = dataclasses.replace(other, ecg_id=made.ecg_id)
    write_parquet(tmp_path / "in" / "b.parquet", people_table(same_ids))
    output = tmp_path / "out"
    for shard in ("2/2", "1/2"):
        more = ("--shard", shard, "--max-rejected-share", 0.5)
        assert score(tmp_path / "in", output, *more) == 0
    assert {row["participant_id"] for row in predictions(output)} == set(made.participant_id)
    assert reject_counts(output) == {"duplicate_ecg_id": 10}


def test_inputs__given_twice_are_read_once(tmp_path: Path) -> None:
    write_parquet(tmp_path / "in" / "a.parquet", people_table(people(10)))
    output = tmp_path / "out"
    again = ("--input", tmp_path / "in" / "a.parquet", "--input", f"{tmp_path}/in/*.parquet")
    assert score(tmp_path / "in", output, *again) == 0
    assert_reconciles(output, 10)


def test_large_row_groups__are_read_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = people(20)
    write_parquet(tmp_path / "in" / "a.parquet", people_table(made), row_group_size=8)
    assert score(tmp_path / "in", tmp_path / "small") == 0
    for module in ("beam_jobs.run.planner", "beam_jobs.reading.parquet_input"):
        monkeypatch.setattr(f"{module}.MAX_ROW_GROUP_ROWS", 7)
    capsys.readouterr()
    assert score(tmp_path / "in", tmp_path / "large") == 0
    assert "lvm-ai ingest" in capsys.readouterr().err
    assert result_files(tmp_path / "large") == result_files(tmp_path / "small")
