from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from lvm_core.synthetic.outcomes import DEATH, DISEASES, SyntheticOutcomes, synthetic_outcomes
from lvm_core.synthetic.people import REGIONS, SyntheticPeople, synthetic_people
from lvm_core.synthetic.records import (
    CODE_LISTS,
    CODE_SYSTEMS,
    CODE_TEXTS,
    DEATH_CODES,
    DISEASE_CODES,
    FOLLOW_UP_ENDS,
    N_SPELLINGS,
    OTHER_CODES,
    PLACEHOLDER_DATES,
    SOURCES,
    SyntheticRecords,
    code_numbers,
    registered_deaths,
    spellings,
    synthetic_moves,
    synthetic_records,
)
from tests.builders import in_code_list


def _texts(chosen: np.ndarray) -> set[tuple[str, str]]:
    return {(CODE_SYSTEMS[i], CODE_TEXTS[i]) for i in np.flatnonzero(chosen)}


def test_spellings__plain_dotted_lower_and_filled() -> None:
    assert spellings("I48.9", "icd10") == ("I489", "I48.9", "i489", "i48.9")
    assert spellings("I48", "icd10") == ("I48", "I48", "i48", "I48X")
    assert spellings("1471", "self-report") == ("1471",) * 4


def test_code_texts__all_spellings_of_a_code_lie_together() -> None:
    assert len(CODE_TEXTS) == len(CODE_SYSTEMS)
    assert set(CODE_SYSTEMS) == {"icd10", "icd9", "opcs4", "self-report"}
    for number in code_numbers("icd10", ("I21.4", "K59.0")):
        first = int(number) * N_SPELLINGS
        assert CODE_TEXTS[first : first + 4] in {spellings("I21.4", "icd10"), spellings("K59.0", "icd10")}
    assert not [text for text in CODE_TEXTS if re.search(r"[,\"\n]", text)]


@pytest.mark.parametrize("name", CODE_LISTS)
def test_in_code_list__has_every_code_of_the_disease_and_of_no_other(name: str) -> None:
    found = _texts(in_code_list(name))
    for (disease, system), codes in DISEASE_CODES.items():
        theirs = {(system, text) for code in codes for text in spellings(code, system)}
        assert theirs <= found if disease == name else not theirs & found


@pytest.mark.parametrize("name", CODE_LISTS)
def test_in_code_list__has_no_code_of_other_diseases(name: str) -> None:
    found = _texts(in_code_list(name))
    others = {
        (system, text) for system, codes in OTHER_CODES.items() for code in codes for text in spellings(code, system)
    }
    others |= {("icd10", text) for code in DEATH_CODES for text in spellings(code, "icd10")}
    assert not others & found


def test_other_codes__look_like_disease_without_their_system() -> None:
    plain = {code.replace(".", "") for code in OTHER_CODES["icd10"]}
    for name in ("af", "ventricular_arrhythmia"):
        prefixes = tuple(prefix for _, prefix in CODE_LISTS[name])
        assert any(code.startswith(prefixes) for code in plain), name


SEED = 31
SYSTEMS = np.array(CODE_SYSTEMS)
TEXTS = np.array(CODE_TEXTS)
HES, DEATHS, SELF = (SOURCES.index(source) for source in ("hes", "death", "self_report"))


@pytest.fixture(scope="module")
def people() -> SyntheticPeople:
    return synthetic_people(20_000, SEED)


@pytest.fixture(scope="module")
def outcomes(people: SyntheticPeople) -> SyntheticOutcomes:
    return synthetic_outcomes(people)


@pytest.fixture(scope="module")
def records(people: SyntheticPeople) -> SyntheticRecords:
    return synthetic_records(people)


def _unknown(records: SyntheticRecords) -> np.ndarray:
    return np.isnat(records.date) | np.isin(records.date, PLACEHOLDER_DATES)


@pytest.mark.parametrize("name", DISEASES)
def test_synthetic_records__first_record_is_the_true_date(
    people: SyntheticPeople, outcomes: SyntheticOutcomes, records: SyntheticRecords, name: str
) -> None:
    of_disease = in_code_list(name)[records.code] & (records.source != SELF)
    of_disease &= ~(records.date > outcomes.date[DEATH][records.index])
    unknown = np.zeros(len(people), dtype=bool)
    unknown[records.index[of_disease & _unknown(records)]] = True
    first = np.full(len(people), np.datetime64("2100-01-01"))
    np.minimum.at(first, records.index[of_disease], records.date[of_disease])
    ends = np.array([FOLLOW_UP_ENDS[region, "hes"] for region in people.region])
    stays = np.isnat(synthetic_moves(people).date) & np.isnat(outcomes.ltfu_date)
    due = outcomes.happens(name) & (outcomes.date[name] <= ends) & stays
    assert due.sum() > 100
    np.testing.assert_array_equal(first[due & ~unknown], outcomes.date[name][due & ~unknown])
    assert 0 < unknown[due].mean() < 0.02
    # Nobody else has a record of it, save those whose hospital record came too late.
    has_record = np.isin(np.arange(len(people)), records.index[of_disease])
    assert not (has_record & ~outcomes.happens(name)).any()


def test_synthetic_records__every_kind_of_mess_is_there(
    people: SyntheticPeople, outcomes: SyntheticOutcomes, records: SyntheticRecords
) -> None:
    text, system = TEXTS[records.code], SYSTEMS[records.code]
    # by hand: the three placeholders of the facts sheet that are quickest to type
    for placeholder in ("1900-01-01", "1902-02-02", "2037-07-07"):
        assert (records.date == np.datetime64(placeholder)).any()
    share_unknown = _unknown(records)[records.source == HES].mean()
    assert 0.003 < share_unknown < 0.01
    assert np.isnat(records.date).any()
    assert {"I489", "I48.9", "i489", "i48.9", "I48X"} <= set(text[in_code_list("af")[records.code]])
    whole = zip(records.index, records.date.astype(str), text, system, records.source, strict=True)
    assert max(Counter(whole).values()) >= 2
    late = ~_unknown(records) & (records.date > outcomes.date[DEATH][records.index])
    assert 1 <= late.sum() < 0.01 * len(people)
    assert {"K621", "K59.1", "K491"} <= set(text[system == "opcs4"])


def test_synthetic_records__systems_follow_the_day(records: SyntheticRecords) -> None:
    system, known = SYSTEMS[records.code], ~_unknown(records)
    assert (records.date[known & (system == "icd9")] < np.datetime64("1996-04-01")).all()
    assert (records.date[known & (system == "icd10")] >= np.datetime64("1996-04-01")).all()
    assert (system == "icd9").mean() > 0.02


def test_synthetic_records__no_record_before_forty_or_birth(people: SyntheticPeople, records: SyntheticRecords) -> None:
    known = ~_unknown(records)
    assert (records.date[known] > people.birth_date[records.index[known]]).all()


def test_synthetic_records__end_with_the_nation_of_the_day_and_with_the_loss(
    people: SyntheticPeople, outcomes: SyntheticOutcomes, records: SyntheticRecords
) -> None:
    moves = synthetic_moves(people)
    known = ~_unknown(records) & (records.source != SELF)
    index, date = records.index[known], records.date[known]
    region = np.where(date >= moves.date[index], moves.region[index], moves.home[index])
    for number, name in enumerate(REGIONS):
        for source in (HES, DEATHS):
            theirs = date[(region == number) & (records.source[known] == source)]
            end = FOLLOW_UP_ENDS[name, SOURCES[source]]
            assert (theirs <= end).all()
            assert theirs.max() > end - np.timedelta64(300, "D")
    assert not (date > outcomes.ltfu_date[index]).any()


def test_synthetic_records__self_reports_are_of_prevalent_disease_alone(
    people: SyntheticPeople, outcomes: SyntheticOutcomes, records: SyntheticRecords
) -> None:
    index_date = people.recorded_at.astype("datetime64[D]")
    reported = records.source == SELF
    assert 0.3 < np.isnat(records.date[reported]).mean() < 0.5
    assert not (records.date[reported] > index_date[records.index[reported]]).any()
    assert (reported == (SYSTEMS[records.code] == "self-report")).all()
    for name in ("af", "mi", "heart_failure"):
        ill = np.unique(records.index[reported & in_code_list(name)[records.code]])
        prevalent = outcomes.date[name] <= index_date
        assert prevalent[ill].all()
        assert len(ill) / prevalent.sum() == pytest.approx(0.6, abs=0.07)


def test_synthetic_records__causes_of_death_are_on_the_day_of_death(
    people: SyntheticPeople, outcomes: SyntheticOutcomes, records: SyntheticRecords
) -> None:
    of_register = records.source == DEATHS
    index = records.index[of_register]
    np.testing.assert_array_equal(records.date[of_register], outcomes.date[DEATH][index])
    death_date, _ = registered_deaths(people, outcomes)
    assert set(np.flatnonzero(~np.isnat(death_date))) == set(index)


def test_registered_deaths__end_with_the_register_and_with_the_loss(
    people: SyntheticPeople, outcomes: SyntheticOutcomes
) -> None:
    death_date, ltfu_date = registered_deaths(people, outcomes)
    # All nations' registers of deaths end on one day.
    due = (outcomes.date[DEATH] <= np.datetime64("2022-11-30")) & np.isnat(outcomes.ltfu_date)
    np.testing.assert_array_equal(~np.isnat(death_date), due)
    np.testing.assert_array_equal(death_date[due], outcomes.date[DEATH][due])
    known = ~np.isnat(ltfu_date)
    assert known.any()
    assert (ltfu_date[known] <= np.datetime64("2022-11-30")).all()
    assert not (known & ~np.isnat(death_date)).any()


def test_synthetic_moves__some_people_change_nation_after_the_index(people: SyntheticPeople) -> None:
    moves = synthetic_moves(people)
    gone = ~np.isnat(moves.date)
    assert gone.mean() == pytest.approx(0.015, abs=0.004)
    np.testing.assert_array_equal(np.array(REGIONS)[moves.home], people.region)
    np.testing.assert_array_equal(moves.region != moves.home, gone)
    assert (moves.date[gone] > people.recorded_at[gone].astype("datetime64[D]")).all()


@pytest.mark.parametrize(("start", "n"), [(0, 3), (1020, 10), (2048, 1), (5, 0)])
def test_synthetic_records__any_slice_is_the_same_as_in_the_whole(
    records: SyntheticRecords, start: int, n: int
) -> None:
    part = synthetic_records(synthetic_people(n, SEED, start))
    inside = (records.index >= start) & (records.index < start + n)
    for name in ("index", "date", "code", "source"):
        np.testing.assert_array_equal(getattr(part, name), getattr(records, name)[inside])


def test_synthetic_records__other_records_are_as_many_as_asked_for() -> None:
    some = synthetic_people(3000, SEED)
    none, many = (len(synthetic_records(some, mean).index) for mean in (0.0, 20.0))
    # 20 a person, 8 % of them twice, spread evenly over 33 years of which the last are not there.
    ends = np.array([FOLLOW_UP_ENDS[region, "hes"] for region in some.region])
    there_years = 25 + (ends - some.recorded_at.astype("datetime64[D]")).astype(int) / 365
    expected = 20 * 1.08 * np.minimum(there_years / 33, 1.0).mean()
    assert (many - none) / 3000 == pytest.approx(expected, rel=0.03)
    with pytest.raises(ValueError, match="other_records is -1; expected 0 or more"):
        synthetic_records(some, -1)
