from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvm_core.signal.scale import (
    MAX_SOURCES,
    AmplitudeHistogram,
    RecordScale,
    SourceAmplitudes,
    qrs_amplitude_uv,
    scale_verdict,
    wrong_scales,
)


def _of(folders: dict[str, list[float]], step_uv: float = 5.0) -> SourceAmplitudes:
    keys = [folder for folder, values in folders.items() for _ in values]
    values = np.array([value for values in folders.values() for value in values])
    return SourceAmplitudes.of(keys, [step_uv] * len(keys), values)


_NAMES = {"a": "siteA", "b": "siteB"}


def _times(line: str) -> float:
    return float(line.split("median amplitude ")[1].split(" times")[0])


def _refused(folders: dict[str, int]) -> SourceAmplitudes:
    keys = [folder for folder, n in folders.items() for _ in range(n)]
    return SourceAmplitudes.of([], [], np.empty(0), keys)


def test_qrs_amplitude_uv__hand_made_signals() -> None:
    # 98 % of the samples at 0, 1 % at 200 counts, 1 % at -40: percentiles 0.5 and 99.5 are those.
    counts = np.zeros((2, 5000), dtype=np.int16)
    counts[:, :50], counts[:, 50:100] = 200, -40
    amplitudes = qrs_amplitude_uv(counts, np.array([5.0, 2.5], dtype=np.float32))
    np.testing.assert_allclose(amplitudes, [1200.0, 600.0], rtol=1e-12, atol=0)


@pytest.mark.parametrize("median_uv", [300.0, 1000.0, 3300.0])
def test_scale_verdict__plausible_inside_the_limits(median_uv: float) -> None:
    verdict = scale_verdict(median_uv)
    assert (verdict.plausible, verdict.times_too_large) == (True, None)


@pytest.mark.parametrize("median_uv", [299.9, 3300.1])
def test_scale_verdict__not_plausible_outside(median_uv: float) -> None:
    assert scale_verdict(median_uv).plausible is False


@pytest.mark.parametrize("true_uv", [720.0, 1000.0, 1350.0])
@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (5.0, "5 times too large: were microvolts read as counts of 5 uV"),
        (200.0, "200 times too large: were counts of 5 uV read as millivolts"),
        (1000.0, "1,000 times too large: were microvolts read as millivolts"),
        (1 / 5, "5 times too small: were counts of 5 uV read as microvolts"),
        (1e-3, "1,000 times too small: were millivolts read as microvolts"),
        (1e-4, "10,000 times too small: was the model's input"),
        (1e-6, "1,000,000 times too small: were volts read as microvolts"),
    ],
)
def test_scale_verdict__finds_the_usual_mistakes(factor: float, words: str, true_uv: float) -> None:
    verdict = scale_verdict(true_uv * factor)
    assert verdict.times_too_large == pytest.approx(factor, rel=1e-12)
    assert f"expected 300 to 3300 uV; it looks {words}" in verdict.message


@pytest.mark.parametrize("median_uv", [0.0, float("inf")])
def test_scale_verdict__no_factor_explains_zero_or_infinity(median_uv: float) -> None:
    verdict = scale_verdict(median_uv)
    assert (verdict.plausible, verdict.times_too_large) == (False, None)
    assert "no unit explains it" in verdict.message


def test_scale_verdict__nothing_measured_is_unknown() -> None:
    verdict = scale_verdict(float("nan"))
    assert (verdict.plausible, verdict.times_too_large) == (None, None)


def test_amplitude_histogram__empty_has_no_median() -> None:
    assert math.isnan(AmplitudeHistogram().median_uv())


def test_amplitude_histogram__is_202_integers_that_json_can_hold() -> None:
    histogram = AmplitudeHistogram().add(np.array([1000.0]))
    counts = histogram.to_list()
    assert (len(counts), sum(counts), {type(count) for count in counts}) == (202, 1, {int})
    assert AmplitudeHistogram.from_list(counts) == histogram


def test_amplitude_histogram__bins_are_a_20th_of_a_decade() -> None:
    edges_uv = [1000.0 * 10**0.001, 1000.0 * 10**0.049, 1000.0 * 10**0.051]
    counts = AmplitudeHistogram().add(np.array(edges_uv)).to_list()
    # 1000 uV is 5 decades above 0.01: 100 bins, and one below the first edge.
    assert {index: count for index, count in enumerate(counts) if count} == {101: 2, 102: 1}


def test_amplitude_histogram__does_not_count_what_is_not_finite() -> None:
    histogram = AmplitudeHistogram().add(np.array([np.nan, np.inf, 900.0]))
    assert histogram.n == 1


@given(st.lists(st.floats(0.02, 1e7), min_size=1, max_size=99).filter(lambda v: len(v) % 2 == 1))
@settings(deadline=None)
def test_amplitude_histogram__median_is_within_a_bin(values: list[float]) -> None:
    median_uv = AmplitudeHistogram().add(np.array(values)).median_uv()
    assert abs(math.log10(median_uv / np.median(values))) <= 1 / 20 + 1e-9


@given(st.lists(st.floats(0, 1e9), max_size=30), st.lists(st.floats(0, 1e9), max_size=30))
@settings(deadline=None)
def test_amplitude_histogram__merging_is_adding(first: list[float], second: list[float]) -> None:
    empty = AmplitudeHistogram()
    merged = empty.add(np.array(second)).merge(empty.add(np.array(first)))
    assert merged == empty.add(np.array(first + second))


def test_amplitude_histogram__median_below_the_first_edge_is_zero() -> None:
    assert AmplitudeHistogram().add(np.array([0.0, 0.0, 1000.0])).median_uv() == 0.0


def test_amplitude_histogram__median_above_the_last_edge_is_the_edge() -> None:
    assert AmplitudeHistogram().add(np.array([1e9])).median_uv() == pytest.approx(1e8)


@pytest.mark.parametrize("counts", [[], [1] * 201, [0] * 201 + [-1]])
def test_amplitude_histogram__refuses_other_counts(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="an amplitude histogram has 202 counts of 0 or more"):
        AmplitudeHistogram.from_list(counts)


def test_source_amplitudes__a_folder_three_times_the_rest_is_odd() -> None:
    (line,) = _of({"a": [1000.0] * 22, "b": [5100.0] * 4}).odd(_NAMES)
    assert line.startswith("siteB: 4 records, median amplitude ")
    assert line.endswith(" times that of the rest; is their unit or gain right?")
    assert _times(line) == pytest.approx(5.1, rel=0.12)  # a bin of the histograms
    (line,) = _of({"a": [1000.0] * 22, "b": [200.0] * 4}).odd(_NAMES)
    assert _times(line) == pytest.approx(0.2, rel=0.12)


@pytest.mark.parametrize(
    ("n", "times", "is_odd"),
    [
        (2, 5.0, False),
        (3, 3.5, True),
        (3, 2.5, False),
        (29, 2.0, False),
        (30, 2.0, True),
        (30, 1.6, False),
        (30, 0.5, True),
    ],
)
def test_source_amplitudes__many_ecgs_need_a_smaller_factor(n: int, times: float, is_odd: bool) -> None:
    found = _of({"a": [1000.0] * 40, "b": [1000.0 * times] * n}).odd(_NAMES)
    assert bool(found) is is_odd


def test_source_amplitudes__steps_are_shown_without_names_and_folders_are_not() -> None:
    both = _of({"a": [1000.0] * 10}, 5.0).merge(_of({"b": [9000.0] * 3}, 25.0))
    (line,) = both.odd({})
    assert line.startswith("ECGs with 25 uV per count: 3 records, median amplitude ")
    assert _times(line) == pytest.approx(9.0, rel=0.12)


def test_source_amplitudes__one_source_has_no_rest() -> None:
    assert _of({"a": [9000.0] * 40}).odd(_NAMES) == []
    assert SourceAmplitudes().odd(_NAMES) == []


def test_source_amplitudes__parts_add_up_in_any_order_and_through_json() -> None:
    whole = _of({"a": [900.0, 1000.0], "b": [3000.0]})
    parts = [_of({"b": [3000.0]}), _of({"a": [900.0]}), _of({"a": [1000.0]})]
    merged = SourceAmplitudes()
    for part in parts:
        merged = merged.merge(SourceAmplitudes.from_json(json.loads(json.dumps(part.to_json()))))
    assert merged == whole
    # 3000 uV lie in the bin from 10 ** 3.45 to 10 ** 3.5: the 109th of 20 a decade from 0.01 uV,
    # after the one for what is below.
    assert whole.to_json()["folders"]["b"] == [[110, 1]]


def test_source_amplitudes__over_fifty_folders_are_no_sources() -> None:
    fifty = _of({f"p{i}": [1000.0] for i in range(MAX_SOURCES)})
    assert fifty.folders is not None
    more = fifty.merge(_of({"q": [1000.0]}))
    assert (more.folders, more.steps is None) == (None, False)
    assert _of({f"p{i}": [1000.0] for i in range(MAX_SOURCES + 1)}).folders is None
    again = SourceAmplitudes.from_json(more.merge(fifty).to_json())
    assert (again.folders, again.odd(_NAMES)) == (None, [])


def test_source_amplitudes__a_folder_whose_voltages_were_refused_is_odd() -> None:
    most = _of({"a": [1000.0] * 22, "b": [1000.0]}).merge(_refused({"b": 3}))
    again = SourceAmplitudes.from_json(json.loads(json.dumps(most.to_json())))
    assert again.odd(_NAMES) == ["siteB: the voltages of 3 of 4 records were refused; is their unit or gain right?"]


@pytest.mark.parametrize(
    "refused",
    [{"b": 2}, {"a": 20, "b": 4}, {"a": 3}],  # few; everywhere; less than half of the folder
)
def test_source_amplitudes__few_refused_or_all_are_no_matter_of_a_folder(refused: dict[str, int]) -> None:
    assert _of({"a": [1000.0] * 10}).merge(_refused(refused)).odd(_NAMES) == []


def test_source_amplitudes__refused_ecgs_of_over_fifty_folders_are_no_sources() -> None:
    many = {f"p{i}": 3 for i in range(MAX_SOURCES)}
    assert _refused(many).refused == many
    for more in (_refused({**many, "q": 3}), _refused(many).merge(_refused({"q": 3}))):
        assert (more.folders, more.refused) == (None, {})


@pytest.mark.parametrize(
    ("median_uv", "step_uv", "factor"),
    [
        (5078.0, 5.0, 5.0),  # HR00599 of PTB-XL: its header states 200/mV, the others 1000/mV
        (126.0, 1000 / 4880, 1 / 4.88),  # E00018 of Georgia: its header states 4880/mV
        (1100.0 * 1000, 5000.0, 1000.0),  # uV read as mV
        (1.1, 0.005, 1 / 1000),  # mV read as uV
        (1100.0 / 5, 1.0, 1 / 5.0),  # counts of 5 uV read as uV
        (1100.0 / 4.88, 1.0, 1 / 4.88),
        (0.0, 1.0, 1e-6),
    ],
)
def test_record_scale__names_the_factor(median_uv: float, step_uv: float, factor: float) -> None:
    found = RecordScale.of(median_uv, step_uv)
    # Where the step of a device is 1, factors of 5 and 4.88 fit alike.
    assert found.factor == pytest.approx(factor, rel=0.03)
    assert found.is_wrong


def test_record_scale__step_tells_5_from_4_88() -> None:
    five, muse = RecordScale.of(126.0, 1 / 5), RecordScale.of(126.0, 1 / 4.88)
    assert str(five.cause).startswith("5 times too small")
    assert str(muse.cause).startswith("4.88 times too small")


@pytest.mark.parametrize(
    ("median_uv", "is_doubtful", "is_wrong"),
    # 1095 uV times or over 1.38 to the power of 3.3 and 4.3: 3169.6, 378.3; 4374.1, 274.1.
    [
        (1095.0, False, False),
        (3168.0, False, False),
        (3171.0, True, False),
        (4372.0, True, False),
        (4376.0, True, True),
        (379.0, False, False),
        (377.0, True, False),
        (275.0, True, False),
        (273.0, True, True),
    ],
)
def test_record_scale__limits(median_uv: float, is_doubtful: bool, is_wrong: bool) -> None:
    found = RecordScale.of(median_uv, 1.0)
    assert (found.cause is not None, found.is_wrong) == (is_doubtful, is_wrong)
    assert (found.factor == 1.0) is not is_doubtful


def test_wrong_scales__doubtful_records_count_where_chance_does_not_give_so_many() -> None:
    """By chance one ECG in a thousand is doubtful: one of 10 in 1 % of samples, of 200 in 18 %."""
    common, doubtful, wrong = (RecordScale.of(median_uv, 1.0) for median_uv in (1095.0, 3300.0, 5000.0))
    assert wrong_scales([common] * 9 + [doubtful]) == [9]
    assert wrong_scales([common] * 199 + [doubtful]) == []
    assert wrong_scales([common] * 197 + [doubtful] * 3) == [197, 198, 199]
    assert wrong_scales([common] * 198 + [doubtful, wrong]) == [199]
    assert wrong_scales([common] * 3) == []
    assert wrong_scales([]) == []
