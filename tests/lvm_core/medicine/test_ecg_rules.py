import itertools

import numpy as np
import pytest

from lvm_core.medicine.ecg_rules import (
    EcgRules,
    MoreEcgRules,
    any_rule,
    cornell_product_uv_ms,
    cornell_voltage_uv,
    ecg_rules,
    gubner_uv,
    lewis_uv,
    more_ecg_rules,
    peguero_lo_presti_uv,
    sokolow_lyon_product_uv_ms,
    sokolow_lyon_uv,
)
from lvm_core.medicine.lvh import Sex, ThreeValued, sex_codes


def _rules(sex: Sex | None = Sex.MALE, /, **amplitudes_uv: float) -> EcgRules:
    """Return the rules of one ECG whose amplitudes are 0 unless given."""
    names = ("r_avl_uv", "s_v1_uv", "s_v3_uv", "r_v5_uv", "r_v6_uv")
    values = {name: np.array([amplitudes_uv.get(name, 0.0)]) for name in names}
    return ecg_rules(**values, is_male=sex_codes([sex]))


def _answer(rule: ThreeValued) -> bool | None:
    return bool(rule.value[0]) if rule.known[0] else None


@pytest.mark.parametrize(("r_avl_uv", "positive"), [(1100.0, False), (1100.1, True)])
def test_rule_avl__both_sides_of_the_threshold(r_avl_uv: float, positive: bool) -> None:
    assert _answer(_rules(r_avl_uv=r_avl_uv).rule_avl) is positive


@pytest.mark.parametrize(
    ("s_v1_uv", "r_v5_uv", "r_v6_uv", "positive"),
    [
        (1500.0, 2000.0, 0.0, False),
        (1500.0, 2000.1, 0.0, True),
        (1500.0, 0.0, 2000.0, False),
        (1500.0, 0.0, 2000.1, True),
    ],
)
def test_rule_sokolow_lyon__both_sides_of_the_threshold(
    s_v1_uv: float, r_v5_uv: float, r_v6_uv: float, positive: bool
) -> None:
    rules = _rules(s_v1_uv=s_v1_uv, r_v5_uv=r_v5_uv, r_v6_uv=r_v6_uv)
    assert _answer(rules.rule_sokolow_lyon) is positive


@pytest.mark.parametrize(
    ("sex", "s_v3_uv", "positive"),
    [(Sex.FEMALE, 1200.0, False), (Sex.FEMALE, 1200.1, True), (Sex.MALE, 2000.0, False), (Sex.MALE, 2000.1, True)],
)
def test_rule_cornell__both_sides_of_the_threshold(sex: Sex, s_v3_uv: float, positive: bool) -> None:
    assert _answer(_rules(sex, r_avl_uv=800.0, s_v3_uv=s_v3_uv).rule_cornell) is positive


def test_rule_cornell__unknown_sex_is_unknown_even_above_both_limits() -> None:
    assert _answer(_rules(None, r_avl_uv=2000.0, s_v3_uv=2000.0).rule_cornell) is None


@pytest.mark.parametrize(
    ("wave", "rule"),
    [
        ("r_avl_uv", "rule_avl"),
        ("s_v1_uv", "rule_sokolow_lyon"),
        ("r_v5_uv", "rule_sokolow_lyon"),
        ("r_v6_uv", "rule_sokolow_lyon"),
        ("r_avl_uv", "rule_cornell"),
        ("s_v3_uv", "rule_cornell"),
    ],
)
def test_ecg_rules__wave_not_measured_makes_the_rule_unknown(wave: str, rule: str) -> None:
    assert _answer(getattr(_rules(**{wave: float("nan")}), rule)) is None


def test_rule_sokolow_lyon__unknown_although_the_other_lead_exceeds_the_limit() -> None:
    rules = _rules(s_v1_uv=3000.0, r_v5_uv=3000.0, r_v6_uv=float("nan"))
    assert _answer(rules.rule_sokolow_lyon) is None


def test_any_rule__truth_table() -> None:
    for answers in itertools.product([True, False, None], repeat=3):
        arrays = [ThreeValued(np.array([answer is True]), np.array([answer is not None])) for answer in answers]
        all_false = False if None not in answers else None
        expected = True if True in answers else all_false
        assert _answer(any_rule(*arrays)) is expected, answers


def test_any_rule__ignores_a_value_that_is_not_known() -> None:
    rule = ThreeValued(np.array([True]), np.array([False]))
    assert _answer(any_rule(rule)) is None


def test_ecg_rules__all_negative_is_false() -> None:
    assert _answer(_rules().any_ecg_rule) is False


def test_ecg_rules__unknown_sex_without_a_positive_rule_is_unknown() -> None:
    assert _answer(_rules(None).any_ecg_rule) is None


def test_ecg_rules__unknown_sex_with_a_positive_rule_is_true() -> None:
    assert _answer(_rules(None, r_avl_uv=1200.0).any_ecg_rule) is True


def test_ecg_rules__arrays_are_elementwise() -> None:
    zeros = np.zeros(3)
    rules = ecg_rules(
        r_avl_uv=np.array([1200.0, 0.0, np.nan]),
        s_v1_uv=zeros,
        s_v3_uv=zeros,
        r_v5_uv=zeros,
        r_v6_uv=zeros,
        is_male=np.array([0, 0, 0], dtype=np.int8),
    )
    assert rules.any_ecg_rule.value.tolist() == [True, False, False]
    assert rules.any_ecg_rule.known.tolist() == [True, True, False]


def test_ecg_rules__refuses_other_codes_of_the_sex() -> None:
    zero = np.zeros(1)
    with pytest.raises(ValueError, match="is_male holds 9"):
        ecg_rules(
            r_avl_uv=zero, s_v1_uv=zero, s_v3_uv=zero, r_v5_uv=zero, r_v6_uv=zero, is_male=np.array([9], dtype=np.int8)
        )


@pytest.mark.parametrize("wave", ["r_avl_uv", "s_v1_uv", "s_v3_uv", "r_v5_uv", "r_v6_uv"])
@pytest.mark.parametrize("bad", [-0.1, float("inf")])
def test_ecg_rules__refuses_what_is_no_magnitude(wave: str, bad: float) -> None:
    with pytest.raises(ValueError, match=f"{wave} is {bad:g} uV, expected a finite magnitude"):
        _rules(**{wave: bad})


def test_sokolow_lyon_uv__numbers() -> None:
    assert sokolow_lyon_uv(1200.0, 1500.0, 1900.0) == 3100.0


def test_cornell_voltage_uv__numbers() -> None:
    assert cornell_voltage_uv(900.0, 1300.0) == 2200.0


# The rules beside the paper's three. All amplitudes are 0 and QRS lasts 100 ms unless given.


def _more(sex: Sex | None = Sex.MALE, /, **measured: float) -> MoreEcgRules:
    leads = "i ii iii avr avl avf v1 v2 v3 v4 v5 v6".split()
    values = {f"{wave}_{lead}_uv": 0.0 for wave in "rs" for lead in leads}
    values |= {"qrs_duration_ms": 100.0, "qrs_voltage_sum_uv": 0.0, **measured}
    return more_ecg_rules({name: np.array([value]) for name, value in values.items()}, sex_codes([sex]))


# R aVL 11 mm and S V3 13.4 mm are 24.4 mm; times 100 ms 2440 mm ms, the limit. In women 6 mm
# are added: 5.4 mm + 13 mm + 6 mm are the same.
@pytest.mark.parametrize(
    ("sex", "r_avl_uv", "s_v3_uv", "positive"),
    [
        (Sex.MALE, 1100.0, 1340.0, False),
        (Sex.MALE, 1100.0, 1340.1, True),
        (Sex.FEMALE, 540.0, 1300.0, False),
        (Sex.FEMALE, 540.0, 1300.1, True),
        (None, 3000.0, 3000.0, None),
    ],
)
def test_rule_cornell_product__both_sides(
    sex: Sex | None, r_avl_uv: float, s_v3_uv: float, positive: bool | None
) -> None:
    assert _answer(_more(sex, r_avl_uv=r_avl_uv, s_v3_uv=s_v3_uv).rule_cornell_product) is positive


def test_cornell_product_uv_ms__by_hand() -> None:
    """Voltage 2.2 mV, QRS 96 ms: 2112 mm ms in men; with 0.6 mV more, 2688 mm ms in women."""
    cornell_uv, duration_ms = np.full(3, 2200.0), np.array([96.0, 96.0, np.nan])
    made = cornell_product_uv_ms(cornell_uv, duration_ms, sex_codes([Sex.MALE, Sex.FEMALE, Sex.MALE]))
    np.testing.assert_allclose(made, [211_200.0, 268_800.0, np.nan], rtol=1e-12)


# S V1 15 mm and R V5 22.1 mm are 37.1 mm; times 100 ms 3710 mm ms, the limit, the same for all.
@pytest.mark.parametrize("sex", [Sex.MALE, Sex.FEMALE, None])
@pytest.mark.parametrize(("r_v5_uv", "positive"), [(2210.0, False), (2210.1, True)])
def test_rule_sokolow_lyon_product__both_sides(sex: Sex | None, r_v5_uv: float, positive: bool) -> None:
    rules = _more(sex, s_v1_uv=1500.0, r_v5_uv=r_v5_uv)
    assert _answer(rules.rule_sokolow_lyon_product) is positive
    assert sokolow_lyon_product_uv_ms(3710.0, 100.0) == 371_000.0


# Deepest S, in V2, 15 mm, and S V4: 8 mm make 23 mm (women, limit included), 13 mm make 28 (men).
@pytest.mark.parametrize(
    ("sex", "s_v4_uv", "positive"),
    [
        (Sex.FEMALE, 799.9, False),
        (Sex.FEMALE, 800.0, True),
        (Sex.MALE, 1299.9, False),
        (Sex.MALE, 1300.0, True),
        (None, 1400.0, None),
    ],
)
def test_rule_peguero_lo_presti__both_sides(sex: Sex | None, s_v4_uv: float, positive: bool | None) -> None:
    assert _answer(_more(sex, s_v2_uv=1500.0, s_v4_uv=s_v4_uv).rule_peguero_lo_presti) is positive


def test_rule_peguero_lo_presti__deepest_s_in_v4_counts_twice() -> None:
    assert _answer(_more(Sex.MALE, s_v4_uv=1400.0).rule_peguero_lo_presti) is True
    assert peguero_lo_presti_uv(1500.0, 800.0) == 2300.0


def test_rule_peguero_lo_presti__needs_the_s_of_every_lead() -> None:
    assert _answer(_more(Sex.MALE, s_v2_uv=3000.0, s_v4_uv=1300.0, s_avr_uv=np.nan).rule_peguero_lo_presti) is None


@pytest.mark.parametrize(("s_iii_uv", "positive"), [(1300.0, False), (1300.1, True)])
def test_rule_gubner__both_sides(s_iii_uv: float, positive: bool) -> None:
    assert _answer(_more(r_i_uv=1200.0, s_iii_uv=s_iii_uv).rule_gubner) is positive
    assert gubner_uv(1200.0, 1300.0) == 2500.0


# R I 12 mm + S III 10 mm - R III 2 mm - S I 3 mm are 17 mm, the limit.
@pytest.mark.parametrize(("s_iii_uv", "positive"), [(1000.0, False), (1000.1, True)])
def test_rule_lewis__both_sides(s_iii_uv: float, positive: bool) -> None:
    rules = _more(r_i_uv=1200.0, s_iii_uv=s_iii_uv, r_iii_uv=200.0, s_i_uv=300.0)
    assert _answer(rules.rule_lewis) is positive


def test_lewis_uv__may_be_negative() -> None:
    assert lewis_uv(100.0, 300.0, 900.0, 200.0) == -900.0
    assert _answer(_more(r_iii_uv=900.0, s_i_uv=300.0).rule_lewis) is False


@pytest.mark.parametrize(("sum_uv", "positive"), [(17_500.0, False), (17_500.1, True), (np.nan, None)])
def test_rule_voltage_sum__both_sides(sum_uv: float, positive: bool | None) -> None:
    assert _answer(_more(qrs_voltage_sum_uv=sum_uv).rule_voltage_sum) is positive


@pytest.mark.parametrize(
    ("missing", "rules"),
    [
        ("qrs_duration_ms", {"rule_cornell_product", "rule_sokolow_lyon_product"}),
        ("r_avl_uv", {"rule_cornell_product"}),
        ("s_v4_uv", {"rule_peguero_lo_presti"}),
        ("r_i_uv", {"rule_gubner", "rule_lewis"}),
        ("s_iii_uv", {"rule_gubner", "rule_lewis", "rule_peguero_lo_presti"}),
        ("r_iii_uv", {"rule_lewis"}),
        ("s_i_uv", {"rule_lewis", "rule_peguero_lo_presti"}),
    ],
)
def test_more_ecg_rules__wave_not_measured_makes_the_rule_unknown(missing: str, rules: set[str]) -> None:
    made = _more(**{missing: np.nan})
    assert {name for name in MoreEcgRules.__slots__ if _answer(getattr(made, name)) is None} == rules


@pytest.mark.parametrize(
    ("name", "unit"), [("qrs_duration_ms", "ms"), ("s_v4_uv", "uV"), ("s_i_uv", "uV"), ("qrs_voltage_sum_uv", "uV")]
)
def test_more_ecg_rules__refuses_what_is_no_magnitude(name: str, unit: str) -> None:
    with pytest.raises(ValueError, match=f"is -1 {unit}, expected a finite magnitude"):
        _more(**{name: -1.0})


def test_more_ecg_rules__refuses_a_lack_of_leads() -> None:
    with pytest.raises(ValueError, match="measured has the S of 1 leads, expected 12"):
        more_ecg_rules({"s_v1_uv": np.zeros(1)}, sex_codes([Sex.MALE]))


@pytest.mark.parametrize(
    ("sex", "positive"),
    [
        (Sex.FEMALE, {"rule_cornell_product", "rule_peguero_lo_presti", "rule_voltage_sum"}),
        (Sex.MALE, {"rule_voltage_sum"}),
    ],
)
def test_more_ecg_rules__worked_example_of_the_docs(sex: Sex, positive: set[str]) -> None:
    """docs/measurements.md works each rule by hand for these amplitudes."""
    mm = {"r_avl": 9, "s_v3": 13, "s_v1": 12, "r_v5": 15, "r_v6": 19, "s_v2": 15, "s_v4": 8}
    mm |= {"r_i": 12, "s_i": 3, "r_iii": 2, "s_iii": 10}
    measured = {f"{name}_uv": 100.0 * value for name, value in mm.items()}
    made = _more(sex, **measured, qrs_duration_ms=96.0, qrs_voltage_sum_uv=17_600.0)
    assert {name for name in MoreEcgRules.__slots__ if _answer(getattr(made, name))} == positive
    first = {name: measured[name] for name in ("r_avl_uv", "s_v1_uv", "s_v3_uv", "r_v5_uv", "r_v6_uv")}
    assert _answer(_rules(sex, **first).rule_cornell) is (sex is Sex.FEMALE)
    assert _answer(_rules(sex, **first).rule_sokolow_lyon) is False
