import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lvm_core.errors import LvmError, UsageError
from lvm_core.synthetic.ecgs import synthetic_ecgs
from models.training.config import SplitShares, TrainingConfig, load_config
from models.training.data import (
    Part,
    TrainingSet,
    load_training_set,
    part_of,
    read_cmr,
    read_participants,
    split_csv,
    uniform_of,
)
from tests.models.training_builders import settings, write_cohort, write_config, write_csv, write_ecgs

ANY_SPLIT = {"train": 0.5, "valid": 0.5, "test": 0}
PEOPLE = ("participant_id", "sex", "birth_date", "age_years", "height_cm", "weight_kg", "bmi_kg_m2")


def _config(folder: Path, **changes: Any) -> TrainingConfig:
    changes = {"architecture": "age_sex_bmi", **changes}
    return load_config(write_config(folder / "c.yaml", settings(folder, **changes)))


def _load(folder: Path, **changes: Any) -> TrainingSet:
    return load_training_set(_config(folder, **changes), folder)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("cohort"), 24)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Eight people whose tables the tests change, ECGs of 2020-06-01 and no test share."""
    counts = synthetic_ecgs(8, 3).counts
    write_ecgs(
        tmp_path / "ecg" / "a.parquet",
        counts,
        ecg_id=[f"e{i}" for i in range(8)],
        participant_id=[f"p{i}" for i in range(8)],
        uv_per_count=np.full(8, 5, np.float32),
        recorded_at=np.full(8, np.datetime64("2020-06-01T10:00:00", "us")),
    )
    rows = [[f"p{i}", "male", "1960-06-01", "", 180, 80, ""] for i in range(8)]
    write_csv(tmp_path / "participants.csv", PEOPLE, rows)
    masses = [[f"p{i}", "2020-06-01", 100] for i in range(8)]
    write_csv(tmp_path / "cmr.csv", ("participant_id", "cmr_date", "lvm_cmr_g"), masses)
    return tmp_path


def _change(path: Path, row: int, **values: Any) -> None:
    lines = [line.split(",") for line in path.read_text().splitlines()]
    for name, value in values.items():
        lines[row + 1][lines[0].index(name)] = str(value)
    path.write_text("\n".join(",".join(line) for line in lines) + "\n")


def test_load__signals_and_masses_belong_together(cohort: Path) -> None:
    data = _load(cohort)
    truth = synthetic_ecgs(24, 7)
    assert len(data) == 24
    np.testing.assert_array_equal(data.ecg_id, truth.ecg_id)
    np.testing.assert_array_equal(data.counts, truth.counts)
    np.testing.assert_array_equal(data.age_years, truth.age_years)
    bmi = truth.weight_kg / (truth.height_cm / 100) ** 2
    np.testing.assert_allclose(data.bmi_kg_m2, bmi, rtol=1e-6)  # joined as float32
    lines = (cohort / "cmr.csv").read_text().splitlines()[1:]
    masses = {line.split(",")[0]: float(line.split(",")[2]) for line in lines}
    assert data.lvm_cmr_g.tolist() == [masses[key] for key in data.participant_id]
    shares = _config(cohort).split
    assert data.part.tolist() == [part_of(key, shares).value for key in data.participant_id]


def test_load__memory_map_holds_the_same(cohort: Path, tmp_path: Path) -> None:
    mapped = load_training_set(_config(cohort, signals="file"), tmp_path)
    assert isinstance(mapped.counts, np.memmap)
    assert mapped.counts.filename == tmp_path / "signals.npy"
    np.testing.assert_array_equal(mapped.counts, _load(cohort).counts)


def test_load__lvh_is_the_cmr_index_above_the_limit(small: Path) -> None:
    # 180 cm and 80 kg: 1.9964 m2 by DuBois, so that 72 and 55 g/m2 are 143.7 and 109.8 g.
    people, cmr = small / "participants.csv", small / "cmr.csv"
    for row, (sex, mass_g) in enumerate([("male", 143.5), ("male", 144), ("female", 109.5), ("female", 110)]):
        _change(people, row, sex=sex)
        _change(cmr, row, lvm_cmr_g=mass_g)
    _change(people, 4, height_cm="", bmi_kg_m2=25)
    data = _load(small, split=ANY_SPLIT)
    assert data.lvh[:5].tolist() == [False, True, False, True, False]
    assert data.lvh_known[:6].tolist() == [True, True, True, True, False, True]


def test_load__age_is_in_completed_years_at_the_ecg(small: Path) -> None:
    people = small / "participants.csv"
    _change(people, 0, birth_date="1960-06-02")
    _change(people, 1, birth_date="", age_years=44.5)
    _change(people, 2, age_years=44.5)
    assert _load(small, split=ANY_SPLIT).age_years[:3].tolist() == [59.0, 44.5, 60.0]


def test_load__people_who_cannot_be_used_are_counted(small: Path) -> None:
    people = small / "participants.csv"
    _change(people, 0, sex="unknown")
    _change(people, 1, birth_date="")
    _change(people, 2, birth_date="1960-06-01", weight_kg="")
    _change(people, 3, bmi_kg_m2=8)
    _change(small / "cmr.csv", 4, lvm_cmr_g="")
    data = _load(small, split=ANY_SPLIT)
    assert data.participant_id.tolist() == ["p5", "p6", "p7"]
    reasons = ("age_missing", "bmi_missing", "bmi_out_of_range", "no_cmr", "sex_unknown")
    assert data.excluded == dict.fromkeys(reasons, 1)
    assert len(_load(small, split=ANY_SPLIT, architecture="ecg_only")) == 7


def test_load__what_scoring_rejects_is_left_out(small: Path) -> None:
    counts = synthetic_ecgs(8, 3).counts
    counts[2, [0, 1]] = counts[2, [1, 0]]
    _write_again(small, counts)
    data = _load(small, split=ANY_SPLIT)
    assert data.excluded["limb_leads_inconsistent"] == 1
    assert "p2" not in data.participant_id.tolist()


def test_load__flat_lead_is_left_out(small: Path) -> None:
    counts = synthetic_ecgs(8, 3).counts
    counts[2, 5] = 7
    _write_again(small, counts)
    data = _load(small, split=ANY_SPLIT)
    assert data.excluded["lead_flat"] == 1
    assert "p2" not in data.participant_id.tolist()
    np.testing.assert_array_equal(data.counts, np.delete(counts, 2, axis=0))


def _write_again(folder: Path, counts: Any, **changes: Any) -> None:
    columns = {
        "ecg_id": [f"e{i}" for i in range(8)],
        "participant_id": [f"p{i}" for i in range(8)],
        "uv_per_count": np.full(8, 5, np.float32),
        "recorded_at": np.full(8, np.datetime64("2020-06-01T10:00:00", "us")),
    }
    write_ecgs(folder / "ecg" / "a.parquet", counts, **(columns | changes))


def test_load__takes_the_nearest_cmr_within_max_days(small: Path) -> None:
    rows = [["p0", "2019-05-31", 90], ["p0", "2020-06-11", 110], ["p1", "2021-06-01", 120]]
    rows += [["p2", "", 130], ["p3", "2020-05-31", 140], ["p4", "2020-06-02", 150]]
    write_csv(small / "cmr.csv", ("participant_id", "cmr_date", "lvm_cmr_g"), rows)
    near = _load(small, split=ANY_SPLIT, max_days=30)
    assert dict(zip(near.participant_id.tolist(), near.lvm_cmr_g.tolist(), strict=True)) == {
        "p0": 110,
        "p3": 140,
        "p4": 150,
    }
    assert near.excluded["cmr_too_far"] == 2
    everyone = _load(small, split=ANY_SPLIT)
    assert everyone.lvm_cmr_g.tolist() == [110, 120, 130, 140, 150]


def test_load__keeps_the_ecg_nearest_to_the_cmr(small: Path) -> None:
    days = np.array(["2020-05-01", "2020-06-02", "2020-07-01"] + ["2020-06-01"] * 5)
    _write_again(
        small,
        synthetic_ecgs(8, 3).counts,
        participant_id=["p0", "p0", "p0", "p3", "p4", "p5", "p6", None],
        recorded_at=days.astype("datetime64[us]"),
    )
    one = _load(small, split=ANY_SPLIT)
    assert one.ecg_id.tolist() == ["e1", "e3", "e4", "e5", "e6"]
    assert one.excluded["another_ecg_of_the_person"] == 2
    assert one.excluded["participant_unknown"] == 1
    several = _load(small, split=ANY_SPLIT, one_ecg_per_person=False)
    assert len(several) == 7
    assert len(set(several.part[several.participant_id == "p0"].tolist())) == 1


def test_load__an_empty_side_of_the_split_is_an_error(small: Path) -> None:
    write_csv(small / "cmr.csv", ("participant_id", "lvm_cmr_g"), [["nobody", 100]])
    with pytest.raises(LvmError, match=r"0 ECGs with a CMR mass leave none for train, valid.*8"):
        _load(small, split=ANY_SPLIT)


def test_load__parquet_without_participants_is_refused(small: Path) -> None:
    pq.write_table(pa.table({"ecg_id": ["a"]}), small / "ecg" / "b.parquet")
    with pytest.raises(UsageError, match=r"b.parquet has no column participant_id.*--id-pattern"):
        _load(small)


def test_load__folder_without_parquet(small: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no \.parquet file"):
        _load(small, ecgs=str(small / "nothing"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"birth_date": "1960-13-01"}, "birth_date has 1 values that are not a date.*row 3: '1960-13-01'"),
        ({"height_cm": "tall"}, "height_cm has 1 values that are not a number.*row 3: 'tall'"),
        ({"participant_id": "p0"}, "rows 1 and 3 have the same participant_id"),
    ],
)
def test_read_people__mistakes(small: Path, values: dict[str, str], message: str) -> None:
    _change(small / "participants.csv", 2, **values)
    with pytest.raises(UsageError, match=message):
        read_participants(small / "participants.csv")


def test_read_people__identifiers_keep_their_zeros(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "p.csv", ("participant_id", "sex"), [["007", "F"]])
    people = read_participants(path).join(["e", "f"], ["007", "7"], [None, None])
    assert people.sex_code.tolist() == [0, -1]


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (("participant_id", "mass"), ("p", 100), "expected lvm_cmr_g among them"),
        (("participant_id", "lvm_cmr_g"), ("p", -1), "lvm_cmr_g of 0 g or less in 1 rows .row 1"),
    ],
)
def test_read_cmr__mistakes(tmp_path: Path, header: Any, row: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_cmr(write_csv(tmp_path / "cmr.csv", header, [row]))


def test_read_cmr__parquet_and_csv_give_the_same(small: Path) -> None:
    dates = pa.array(["2020-06-01"] * 8).cast(pa.date32())
    ids = [f"p{i}" for i in range(8)]
    table = pa.table({"participant_id": ids, "cmr_date": dates, "lvm_cmr_g": [100.0] * 8})
    pq.write_table(table, small / "cmr.parquet")
    assert read_cmr(small / "cmr.parquet") == read_cmr(small / "cmr.csv")


IDS = [f"P{number:05d}" for number in range(20_000)]


def test_uniform_of__is_the_hash_as_a_fraction() -> None:
    digest = hashlib.sha256(b"salt|P1").hexdigest()
    assert uniform_of("P1", "salt") == pytest.approx(int(digest[:16], 16) / 16**16, abs=2**-52)


def test_part_of__shares_are_as_configured() -> None:
    shares = SplitShares(train=0.7, valid=0.2, test=0.1)
    counts = Counter(part_of(key, shares) for key in IDS)
    # Four standard errors of a share of 20,000.
    for part, share in ((Part.TRAIN, 0.7), (Part.VALID, 0.2), (Part.TEST, 0.1)):
        assert counts[part] / len(IDS) == pytest.approx(share, abs=0.013)


def test_part_of__another_salt_is_another_split() -> None:
    a, b = SplitShares(salt="a"), SplitShares(salt="b")
    same = sum(part_of(key, a) is part_of(key, b) for key in IDS) / len(IDS)
    assert same == pytest.approx(0.8**2 + 0.1**2 + 0.1**2, abs=0.02)


def test_part_of__without_test_share_nobody_tests() -> None:
    shares = SplitShares(train=0.5, valid=0.5, test=0)
    assert {part_of(key, shares) for key in IDS} == {Part.TRAIN, Part.VALID}


def test_part_of__a_larger_training_share_only_adds_people() -> None:
    small, large = SplitShares(train=0.5, valid=0.4, test=0.1), SplitShares()
    moved = [k for k in IDS if part_of(k, small) is Part.TRAIN is not part_of(k, large)]
    assert moved == []


def test_split_csv__one_sorted_row_a_person() -> None:
    lines = split_csv(["b", "a", "b"], SplitShares()).splitlines()
    assert lines[0] == "participant_id,part"
    assert [line.split(",")[0] for line in lines[1:]] == ["a", "b"]


def test_split_csv__an_identifier_is_no_formula() -> None:
    assert split_csv(["=1+1"], SplitShares()).splitlines()[1].startswith("'=1+1,")
