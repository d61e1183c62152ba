import datetime as dt

import numpy as np
import pytest

from lvm_core.medicine.body import body_surface_area_m2
from lvm_core.signal.quality import AGE_RANGE_YEARS, BMI_RANGE_KG_M2
from lvm_core.synthetic.people import SyntheticPeople, completed_years, synthetic_people


@pytest.fixture(scope="module")
def cohort() -> SyntheticPeople:
    return synthetic_people(20_000, seed=5)


def _healthy(cohort: SyntheticPeople) -> np.ndarray:
    ill = cohort.hypertrophic | cohort.antihypertensives | cohort.diabetes
    return ~ill & (cohort.bmi_kg_m2 < 30) & (cohort.sbp_mmhg < 140)


# Petersen et al. 2017: the ranges that the generator is meant to have.
@pytest.mark.parametrize(("sex_code", "mean_g_m2", "sd_g_m2"), [(0, 42.0, 7.0), (1, 53.0, 9.0)])
def test_synthetic_people__healthy_hearts_have_the_reference_range(
    cohort: SyntheticPeople, sex_code: int, mean_g_m2: float, sd_g_m2: float
) -> None:
    index = cohort.lvmi_true_g_m2[_healthy(cohort) & (cohort.sex_code == sex_code)]
    assert index.mean() == pytest.approx(mean_g_m2, abs=0.5)
    assert index.std() == pytest.approx(sd_g_m2, abs=0.5)


def test_synthetic_people__there_is_a_hypertrophic_tail(cohort: SyntheticPeople) -> None:
    limit_g_m2 = np.where(cohort.sex_code == 1, 72.0, 55.0)
    enlarged = cohort.lvmi_true_g_m2 > limit_g_m2
    assert 0.05 < enlarged.mean() < 0.15
    assert enlarged[cohort.hypertrophic].mean() > 5 * enlarged[~cohort.hypertrophic].mean()


def test_synthetic_people__mass_rises_with_pressure_and_with_fat(cohort: SyntheticPeople) -> None:
    men = cohort.sex_code == 1
    for cause in (cohort.sbp_mmhg, cohort.bmi_kg_m2):
        assert np.corrcoef(cause[men], cohort.lvm_true_g[men])[0, 1] > 0.15


def test_synthetic_people__cmr_is_the_truth_with_an_error(cohort: SyntheticPeople) -> None:
    error_g = cohort.lvm_cmr_g - cohort.lvm_true_g
    assert abs(error_g.mean()) < 0.2
    assert error_g.std() == pytest.approx(4.5, abs=0.2)
    days = (cohort.cmr_date - cohort.recorded_at.astype("datetime64[D]")).astype(int)
    assert np.abs(days).max() <= 90
    assert cohort.has_cmr.mean() == pytest.approx(0.6, abs=0.02)


def test_synthetic_people__columns_agree_with_one_another(cohort: SyntheticPeople) -> None:
    np.testing.assert_allclose(cohort.lvmi_true_g_m2 * cohort.bsa_m2, cohort.lvm_true_g, rtol=1e-12)
    bsa_m2 = body_surface_area_m2(cohort.height_cm, cohort.weight_kg)
    np.testing.assert_array_equal(cohort.bsa_m2, bsa_m2)
    assert not AGE_RANGE_YEARS.is_outside(cohort.age_years).any()
    assert not BMI_RANGE_KG_M2.is_outside(cohort.bmi_kg_m2).any()
    assert set(cohort.region.tolist()) == {"England", "Scotland", "Wales"}
    assert len(set(cohort.participant_id)) == len(cohort) == 20_000


@pytest.mark.parametrize(("start", "n"), [(0, 3), (1020, 10), (2048, 1), (5, 0)])
def test_synthetic_people__any_slice_is_the_same_as_in_the_whole(cohort: SyntheticPeople, start: int, n: int) -> None:
    part, whole = synthetic_people(n, 5, start), cohort.rows(start, start + n)
    assert part.participant_id == whole.participant_id
    for name in ("index", "birth_date", "lvm_true_g", "region", "cmr_date", "ectopic_share"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name))


def test_synthetic_people__refuses_negative_arguments() -> None:
    with pytest.raises(ValueError, match="are 1, -1, 0; expected 0 or more"):
        synthetic_people(1, -1)


@pytest.mark.parametrize(
    ("born", "day", "years"),
    [
        ("1960-06-15", "2020-06-14", 59),
        ("1960-06-15", "2020-06-15", 60),
        ("1960-02-29", "2021-02-28", 60),
        ("1960-02-29", "2021-03-01", 61),
        ("1960-12-31", "2020-01-01", 59),
    ],
)
def test_completed_years__birthdays_count(born: str, day: str, years: int) -> None:
    actual = completed_years(np.array([born], dtype="datetime64[D]"), np.array([day], dtype="datetime64[D]"))
    assert actual.tolist() == [years]


def test_synthetic_people__age_is_that_of_the_dates(cohort: SyntheticPeople) -> None:
    for row in range(300):
        born: dt.date = cohort.birth_date[row].item()
        day: dt.date = cohort.recorded_at[row].item().date()
        had_birthday = (day.month, day.day) >= (born.month, born.day)
        assert cohort.age_years[row] == day.year - born.year - (not had_birthday)
