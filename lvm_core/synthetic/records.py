"""Coded events of synthetic people, with the mess of real records; seeded, none of it exists.

A hospital record of each disease on its true day, then readmissions, procedures, self-reports,
causes of death and everything else that people have, spelt in different ways, some twice, some
with placeholder dates or none, some after death; nations whose records end on different days, and
people who move between them. Hospital records begin before anybody is 40, unlike real ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lvm_core.synthetic.outcomes import BLOCK, DEATH, DISEASES, SyntheticOutcomes, of_blocks, synthetic_outcomes
from lvm_core.synthetic.people import REGIONS, SyntheticPeople, synthetic_people
from lvm_core.tables.values import PLACEHOLDER_DATES

ICD10, ICD9, OPCS4, SELF_REPORT = "icd10", "icd9", "opcs4", "self-report"

# What finds every outcome among the records, and nothing else: prefixes without dots, by system.
_PREFIXES: Final = {
    "af": {ICD10: "I48", ICD9: "4273", OPCS4: "K621 K622 K623 K624", SELF_REPORT: "1471 1483"},
    "mi": {ICD10: "I21 I22", ICD9: "410", SELF_REPORT: "1075"},
    "heart_failure": {ICD10: "I50 I110", ICD9: "428", SELF_REPORT: "1076"},
    "ventricular_arrhythmia": {ICD10: "I472 I490", ICD9: "4271 4274", OPCS4: "K59"},
}
CODE_LISTS: Final = {
    name: tuple((system, prefix) for system, texts in prefixes.items() for prefix in texts.split())
    for name, prefixes in _PREFIXES.items()
}
"""Pairs of coding system and prefix, by outcome."""

# The first record of a disease has one of these, by the system of its day.
DISEASE_CODES: Final = {
    ("af", ICD10): ("I48", "I48.0", "I48.1", "I48.2", "I48.3", "I48.4", "I48.9", "I48.9"),
    ("af", ICD9): ("427.3",),
    ("af", SELF_REPORT): ("1471", "1471", "1483"),
    ("mi", ICD10): ("I21.0", "I21.1", "I21.4", "I21.4", "I21.9", "I22.0", "I22.9"),
    ("mi", ICD9): ("410", "410.9"),
    ("mi", SELF_REPORT): ("1075",),
    ("heart_failure", ICD10): ("I50", "I50.0", "I50.1", "I50.9", "I50.9", "I11.0"),
    ("heart_failure", ICD9): ("428", "428.0", "428.1"),
    ("heart_failure", SELF_REPORT): ("1076",),
    ("ventricular_arrhythmia", ICD10): ("I47.2", "I47.2", "I49.0"),
    ("ventricular_arrhythmia", ICD9): ("427.1", "427.4"),
}

# Procedures that follow a disease. Those of infarction are not specific for it and in no list.
_PROCEDURE_CODES: Final = {
    "af": ("K62.1", "K62.2", "K62.3", "K62.4"),
    "mi": ("K40.1", "K49.1", "K75.1"),
    "ventricular_arrhythmia": ("K59.1", "K59.6"),
}

# Other records. K62.1 and K59.0 of ICD-10 (rectal polyp, constipation) read like OPCS-4 codes of
# ablation and defibrillators, I4, I47.1, I49.3 and 427.0 stand beside arrhythmias, coronary
# operations come without infarction: a careless match finds disease here.
OTHER_CODES: Final = {
    ICD10: tuple(
        "I10 I25.1 E11.9 E78.0 J44.9 J18.9 M17.1 N39.0 C50.9 H25.9 R07.4 I4 I47.1 I49.3 I49.9 I51.7 K62.1 K59.0 "
        "Z95.0".split()
    ),
    ICD9: ("401.9", "414.9", "250.0", "496", "427.0", "427.6", "715.9", "562.1"),
    OPCS4: ("K63.4", "K40.1", "K75.1", "K60.1", "W40.1", "C71.2", "H22.9", "J18.3"),
}
DEATH_CODES: Final = ("C34.9", "C18.9", "C25.9", "I25.9", "J44.9", "I64", "G30.9", "J18.0")


def spellings(code: str, system: str) -> tuple[str, str, str, str]:
    """Return a code as files write it: plain, with a dot, and two rarer ways."""
    plain = code.replace(".", "")
    if system == SELF_REPORT:
        return plain, plain, plain, plain
    filled = f"{plain}X" if system == ICD10 and len(plain) == 3 else code.lower()
    return plain, code, plain.lower(), filled


_CODES: Final = sorted(
    {(system, code) for (_, system), codes in DISEASE_CODES.items() for code in codes}
    | {(OPCS4, code) for codes in _PROCEDURE_CODES.values() for code in codes}
    | {(system, code) for system, codes in OTHER_CODES.items() for code in codes}
    | {(ICD10, code) for code in DEATH_CODES}
)
_NUMBER: Final = {key: number for number, key in enumerate(_CODES)}
N_SPELLINGS: Final = 4
# Text and system of each spelling of each code, the spellings of one code beside one another.
CODE_TEXTS: Final = tuple(text for system, code in _CODES for text in spellings(code, system))
CODE_SYSTEMS: Final = tuple(system for system, _ in _CODES for _ in range(N_SPELLINGS))


def code_numbers(system: str, codes: tuple[str, ...]) -> NDArray[np.int64]:
    """Return the numbers of codes; `number * N_SPELLINGS` is the place of the first spelling."""
    return np.array([_NUMBER[system, code] for code in codes], dtype=np.int64)


SOURCES: Final = ("hes", "death", "self_report")
_HES, _DEATH, _SELF = range(len(SOURCES))
# Last day of records, by region (rows, as REGIONS) and by source; self-reports end by themselves.
_ENDS: Final = np.array(
    [["2022-10-31", "2022-11-30"], ["2022-08-31", "2022-11-30"], ["2022-05-31", "2022-11-30"]], dtype="datetime64[D]"
)
FOLLOW_UP_ENDS: Final = {
    (region, SOURCES[source]): _ENDS[row, source] for row, region in enumerate(REGIONS) for source in (_HES, _DEATH)
}
DEFAULT_OTHER_RECORDS: Final = 6.0

_ICD10_FROM: Final = np.datetime64("1996-04-01")
_OPCS4_FROM: Final = np.datetime64("2000-01-01")
_NO_DATE: Final = np.datetime64("NaT", "D")
_MOVES_STREAM, _RECORDS_STREAM = 12, 13
_MOVE_SHARE: Final = 0.015
_PLACEHOLDER_SHARE: Final = 0.004
_UNDATED_SHARE: Final = 0.001
_SELF_REPORT_SHARE: Final = 0.6
_UNDATED_SELF_REPORT_SHARE: Final = 0.4
_PROCEDURE_SHARE: Final = 0.25
_CAUSE_OF_DEATH_SHARE: Final = 0.6
_AFTER_DEATH_SHARE: Final = 0.01
_DUPLICATE_SHARE: Final = 0.08
_SPELLING_SHARES: Final = (0.70, 0.20, 0.05, 0.05)


@dataclass(frozen=True, slots=True)
class Moves:
    """People who move to another nation; every array has one entry a person."""

    date: NDArray[np.datetime64]  # datetime64[D], first day in the new nation; NaT for those who stay
    home: NDArray[np.int64]  # place in `REGIONS` before
    region: NDArray[np.int64]  # place in `REGIONS` afterwards; the same for those who stay


@dataclass(frozen=True, slots=True)
class SyntheticRecords:
    """Coded events, one a row, by person, in no order within a person."""

    index: NDArray[np.int64]  # of the person in the cohort
    date: NDArray[np.datetime64]  # datetime64[D]; NaT where the record has none
    code: NDArray[np.int64]  # place in `CODE_TEXTS` and `CODE_SYSTEMS`.
    source: NDArray[np.int64]  # place in `SOURCES`


@dataclass(frozen=True, slots=True)
class _Rows:
    """Records in the making: `person` is the place in the block, `code` has no spelling yet."""

    person: NDArray[np.int64]
    date: NDArray[np.datetime64]
    code: NDArray[np.int64]
    source: NDArray[np.int64]

    def where(self, chosen: NDArray[Any]) -> _Rows:
        return _Rows(self.person[chosen], self.date[chosen], self.code[chosen], self.source[chosen])


def synthetic_moves(people: SyntheticPeople) -> Moves:
    """Return which people move to another nation within seven years of the index ECG."""
    drawn = of_blocks(people, _MOVES_STREAM, _draw_moves)
    home = np.searchsorted(REGIONS, people.region)
    moves = drawn["moves"]
    date = people.recorded_at.astype("datetime64[D]") + drawn["after_days"]
    date[~moves] = _NO_DATE
    return Moves(date, home, np.where(moves, (home + drawn["step"]) % len(REGIONS), home))


def _draw_moves(rng: Generator) -> dict[str, NDArray[Any]]:
    return {
        "moves": rng.random(BLOCK) < _MOVE_SHARE,
        "after_days": rng.integers(1, 7 * 365, BLOCK),
        "step": rng.integers(1, len(REGIONS), BLOCK),
    }


def registered_deaths(
    people: SyntheticPeople, outcomes: SyntheticOutcomes
) -> tuple[NDArray[np.datetime64], NDArray[np.datetime64]]:
    """Return the dates of death and of loss as the registers know them; NaT for most.

    Deaths after the end of the register of the nation, or of people who were lost, are unknown.
    """
    moves = synthetic_moves(people)
    date = outcomes.date[DEATH]
    known = _recorded(date, np.full(len(people), _DEATH), moves, outcomes.ltfu_date)
    lost = outcomes.ltfu_date.copy()
    lost[~(lost <= _ENDS[:, _DEATH].max())] = _NO_DATE
    return np.where(known, date, _NO_DATE), lost


def synthetic_records(people: SyntheticPeople, other_records: float = DEFAULT_OTHER_RECORDS) -> SyntheticRecords:
    """Return the coded events of people from `synthetic_people`.

    Invariant: the records of a person depend on the seed, the index and `other_records` alone.

    Args:
        people: a slice of a cohort, in order of the index. Their blocks are drawn again: columns
            that somebody changed are not looked at.
        other_records: mean number of records of other diseases for each person, 0 or more, before
            those after the end of records, death or loss (a tenth) are left out and 8 % are
            doubled.
    """
    if other_records < 0:
        raise ValueError(f"other_records is {other_records}; expected 0 or more")
    blocks = np.unique(people.index // BLOCK).tolist() or [0]
    made = [_block(people.seed, number, other_records) for number in blocks]
    index = np.concatenate([block.index for block in made])
    wanted = np.isin(index, people.index)
    date, code, source = (
        np.concatenate([getattr(block, name) for block in made])[wanted] for name in ("date", "code", "source")
    )
    return SyntheticRecords(index[wanted], date, code, source)


def _block(seed: int, number: int, other_records: float) -> SyntheticRecords:
    """Return the records of one block of people; what is drawn, and its order, is fixed."""
    people = synthetic_people(BLOCK, seed, number * BLOCK)
    outcomes = synthetic_outcomes(people)
    moves = synthetic_moves(people)
    rng = np.random.default_rng((seed, number, _RECORDS_STREAM))
    parts = [_of_disease(rng, people, outcomes, moves, name) for name in DISEASES]
    parts += [_of_death(rng, outcomes, moves), _after_death(rng, outcomes, moves)]
    parts.append(_of_other_diseases(rng, people, outcomes, moves, other_records))
    rows = _joined(parts)
    twice = np.flatnonzero(rng.random(len(rows.person)) < _DUPLICATE_SHARE)
    rows = _joined([rows, rows.where(twice)])
    rows = rows.where(np.lexsort((rng.random(len(rows.person)), rows.person)))
    spelling = rng.choice(N_SPELLINGS, len(rows.person), p=_SPELLING_SHARES)
    index = rows.person + number * BLOCK
    return SyntheticRecords(index, rows.date, rows.code * N_SPELLINGS + spelling, rows.source)


def _joined(parts: list[_Rows]) -> _Rows:
    return _Rows(*(np.concatenate([getattr(part, name) for part in parts]) for name in _Rows.__slots__))


def _rows(person: NDArray[np.int64], date: Any, code: Any, source: int) -> _Rows:
    return _Rows(person, date, code, np.full(len(person), source))


def _recorded(
    date: NDArray[np.datetime64], source: NDArray[np.int64], moves: Moves, ltfu_date: NDArray[np.datetime64]
) -> NDArray[np.bool_]:
    """Return whether a source of the nation of that day holds a date; arrays of one length."""
    region = np.where(date >= moves.date, moves.region, moves.home)
    in_time = date <= _ENDS[region, source]
    return np.asarray(in_time & ~(date > ltfu_date))  # a date that is NaT is never later


def _seen(rows: _Rows, outcomes: SyntheticOutcomes, moves: Moves) -> _Rows:
    """Return the rows that the sources of the nations hold."""
    of = rows.person
    theirs = Moves(moves.date[of], moves.home[of], moves.region[of])
    return rows.where(_recorded(rows.date, rows.source, theirs, outcomes.ltfu_date[of]))


def _alive(rows: _Rows, outcomes: SyntheticOutcomes) -> _Rows:
    return rows.where(rows.date <= outcomes.date[DEATH][rows.person])


def _coded(rng: Generator, name: str, system: str, n: int) -> NDArray[np.int64]:
    return np.asarray(rng.choice(code_numbers(system, DISEASE_CODES[name, system]), n))


def _hospital_codes(rng: Generator, name: str, date: NDArray[np.datetime64]) -> NDArray[np.int64]:
    """Return codes of a disease in the system of the day."""
    new, old = _coded(rng, name, ICD10, len(date)), _coded(rng, name, ICD9, len(date))
    return np.where(date >= _ICD10_FROM, new, old)


def _of_disease(rng: Generator, people: SyntheticPeople, outcomes: SyntheticOutcomes, moves: Moves, name: str) -> _Rows:
    """Return the first record of a disease on its true day, and what follows from it."""
    ill = np.flatnonzero(outcomes.happens(name))
    date = outcomes.date[name][ill]
    first = _rows(ill, date, _hospital_codes(rng, name, date), _HES)
    later = _readmissions(rng, name, ill, date)
    if name in _PROCEDURE_CODES:
        later = _joined([later, _procedures(rng, name, ill, date)])
    first, later = _seen(first, outcomes, moves), _seen(_alive(later, outcomes), outcomes, moves)
    parts = [_with_placeholders(rng, first), later]
    if (name, SELF_REPORT) in DISEASE_CODES:
        index_date = people.recorded_at.astype("datetime64[D]")
        parts.append(_self_reports(rng, name, ill, date, index_date[ill]))
    return _joined(parts)


def _with_placeholders(rng: Generator, rows: _Rows) -> _Rows:
    """Return the rows with some dates replaced by placeholders, or removed."""
    date = rows.date.copy()
    chance = rng.random(len(date))
    placeholder = rng.choice(np.array(PLACEHOLDER_DATES, dtype="datetime64[D]"), len(date))
    unknown = chance < _PLACEHOLDER_SHARE
    date[unknown] = placeholder[unknown]
    date[chance > 1.0 - _UNDATED_SHARE] = _NO_DATE
    return _Rows(rows.person, date, rows.code, rows.source)


def _readmissions(rng: Generator, name: str, ill: NDArray[np.int64], date: NDArray[np.datetime64]) -> _Rows:
    again = np.repeat(np.arange(len(ill)), rng.poisson(1.0, len(ill)))
    after_days = np.ceil(rng.standard_exponential(len(again)) * 550.0).astype(np.int64)
    later = date[again] + after_days
    return _rows(ill[again], later, _hospital_codes(rng, name, later), _HES)


def _procedures(rng: Generator, name: str, ill: NDArray[np.int64], date: NDArray[np.datetime64]) -> _Rows:
    after_days = rng.integers(0, 400, len(ill))
    codes = rng.choice(code_numbers(OPCS4, _PROCEDURE_CODES[name]), len(ill))
    treated = (rng.random(len(ill)) < _PROCEDURE_SHARE) & (date + after_days >= _OPCS4_FROM)
    return _rows(ill, date + after_days, codes, _HES).where(treated)


def _self_reports(
    rng: Generator, name: str, ill: NDArray[np.int64], date: NDArray[np.datetime64], index_date: NDArray[np.datetime64]
) -> _Rows:
    """Return what people say at the index visit: some without a date, others a year or so off."""
    reported = (date <= index_date) & (rng.random(len(ill)) < _SELF_REPORT_SHARE)
    about = np.minimum(date + rng.integers(-365, 366, len(ill)), index_date)
    about[rng.random(len(ill)) < _UNDATED_SELF_REPORT_SHARE] = _NO_DATE
    return _rows(ill, about, _coded(rng, name, SELF_REPORT, len(ill)), _SELF).where(reported)


def _of_death(rng: Generator, outcomes: SyntheticOutcomes, moves: Moves) -> _Rows:
    """Return causes of death: one of other diseases, and some of the diseases the person had."""
    date = outcomes.date[DEATH]
    everybody = np.arange(len(date))
    parts = [_rows(everybody, date, rng.choice(code_numbers(ICD10, DEATH_CODES), len(date)), _DEATH)]
    for name in DISEASES:
        named = rng.random(len(date)) < _CAUSE_OF_DEATH_SHARE
        codes = _coded(rng, name, ICD10, len(date))
        parts.append(_rows(everybody, date, codes, _DEATH).where(outcomes.happens(name) & named))
    return _seen(_joined(parts), outcomes, moves)


def _after_death(rng: Generator, outcomes: SyntheticOutcomes, moves: Moves) -> _Rows:
    """Return hospital records dated after death: mistakes, of a disease chosen by chance."""
    death = outcomes.date[DEATH]
    wrong = np.flatnonzero(rng.random(len(death)) < _AFTER_DEATH_SHARE)
    date = death[wrong] + rng.integers(1, 31, len(wrong))
    codes = np.array([_coded(rng, name, ICD10, len(wrong)) for name in DISEASES])
    chosen = codes[rng.integers(0, len(DISEASES), len(wrong)), np.arange(len(wrong))]
    return _seen(_rows(wrong, date, chosen, _HES), outcomes, moves)


def _of_other_diseases(
    rng: Generator, people: SyntheticPeople, outcomes: SyntheticOutcomes, moves: Moves, mean: float
) -> _Rows:
    """Return records of other diseases, from 25 years before the index ECG to 8 after it."""
    person = np.repeat(np.arange(BLOCK), rng.poisson(mean, BLOCK))
    n = len(person)
    index_date = people.recorded_at.astype("datetime64[D]")
    date = index_date[person] + rng.integers(-25 * 365, 8 * 365, n)
    codes = {s: rng.choice(code_numbers(s, others), n) for s, others in OTHER_CODES.items()}
    diagnosis = np.where(date >= _ICD10_FROM, codes[ICD10], codes[ICD9])
    operation = (rng.random(n) < 0.25) & (date >= _OPCS4_FROM)
    rows = _rows(person, date, np.where(operation, codes[OPCS4], diagnosis), _HES)
    return _with_placeholders(rng, _seen(_alive(rows, outcomes), outcomes, moves))
