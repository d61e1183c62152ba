import numpy as np
import pytest

from lvm_core.medicine.lvh import LvhPreset, Sex, lvh_arrays, lvh_limit_g_m2, parse_sex, sex_codes


def _lvh(index_g_m2: float, sex: Sex | None, preset: LvhPreset = LvhPreset.KHURSHID2021) -> bool | None:
    """Return whether one index means hypertrophy; None where that is unknown."""
    lvh, known = lvh_arrays(np.array([index_g_m2]), sex_codes([sex]), preset)
    return bool(lvh[0]) if known[0] else None


@pytest.mark.parametrize("text", ["female", "FEMALE", "Female", "F", "f", " female "])
def test_parse_sex__female(text: str) -> None:
    assert parse_sex(text) is Sex.FEMALE


@pytest.mark.parametrize("text", ["male", "MALE", "Male", "M", "m", "male\n"])
def test_parse_sex__male(text: str) -> None:
    assert parse_sex(text) is Sex.MALE


@pytest.mark.parametrize("text", [None, "", "Unknown", "NaN", "0", "1", "2", "1.0", "X", "w"])
def test_parse_sex__anything_else_is_unknown(text: str | None) -> None:
    assert parse_sex(text) is None


def test_sex_codes__one_zero_minus_one() -> None:
    codes = sex_codes([Sex.MALE, Sex.FEMALE, None])
    assert codes.dtype == np.int8
    assert codes.tolist() == [1, 0, -1]


@pytest.mark.parametrize(
    ("preset", "sex", "index_g_m2", "lvh"),
    [
        (LvhPreset.KHURSHID2021, Sex.MALE, 72.0, False),
        (LvhPreset.KHURSHID2021, Sex.MALE, 72.001, True),
        (LvhPreset.KHURSHID2021, Sex.FEMALE, 55.0, False),
        (LvhPreset.KHURSHID2021, Sex.FEMALE, 55.001, True),
        (LvhPreset.PETERSEN2017, Sex.MALE, 69.999, False),
        (LvhPreset.PETERSEN2017, Sex.MALE, 70.0, True),
        (LvhPreset.PETERSEN2017, Sex.FEMALE, 54.999, False),
        (LvhPreset.PETERSEN2017, Sex.FEMALE, 55.0, True),
    ],
)
def test_lvh_arrays__both_sides_of_each_threshold(preset: LvhPreset, sex: Sex, index_g_m2: float, lvh: bool) -> None:
    assert _lvh(index_g_m2, sex, preset) is lvh


def test_lvh_arrays__khurshid2021_is_the_default() -> None:
    (lvh,), _ = lvh_arrays(np.array([71.0]), np.array([1], dtype=np.int8))
    assert not lvh


@pytest.mark.parametrize("index_g_m2", [40.0, 60.0, 200.0])
def test_lvh_arrays__unknown_sex_is_unknown(index_g_m2: float) -> None:
    assert _lvh(index_g_m2, None) is None


@pytest.mark.parametrize("index_g_m2", [float("nan"), float("inf")])
def test_lvh_arrays__unknown_index_is_unknown(index_g_m2: float) -> None:
    assert _lvh(index_g_m2, Sex.MALE) is None


def test_lvh_arrays__value_is_false_where_unknown() -> None:
    lvh, known = lvh_arrays(np.array([80.0, 80.0, np.nan, 60.0]), np.array([1, -1, 1, 0], dtype=np.int8))
    assert lvh.tolist() == [True, False, False, True]
    assert known.tolist() == [True, False, False, True]


@pytest.mark.parametrize("code", [2, -2])
def test_lvh_arrays__refuses_other_codes(code: int) -> None:
    with pytest.raises(ValueError, match=f"is_male holds {code}, expected 1 .male., 0 .female."):
        lvh_arrays(np.array([60.0]), np.array([code], dtype=np.int8))


def test_lvh_arrays__refuses_an_unknown_preset() -> None:
    with pytest.raises(ValueError, match="'echo' is not a valid LvhPreset"):
        lvh_arrays(np.array([60.0]), np.array([1], dtype=np.int8), "echo")  # type: ignore[arg-type]


@pytest.mark.parametrize("preset", list(LvhPreset))
@pytest.mark.parametrize("sex", list(Sex))
def test_lvh_limit_g_m2__is_where_hypertrophy_begins(preset: LvhPreset, sex: Sex) -> None:
    limit_g_m2 = lvh_limit_g_m2(sex, preset)
    assert _lvh(limit_g_m2 + 1e-9, sex, preset) is True
    assert _lvh(limit_g_m2 - 1e-9, sex, preset) is False
