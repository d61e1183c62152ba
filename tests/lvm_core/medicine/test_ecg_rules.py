import itertools

import numpy as np
import pytest

from lvm_core.medicine.ecg_rules import EcgRules, any_rule, cornell_voltage_uv, ecg_rules, sokolow_lyon_uv
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
