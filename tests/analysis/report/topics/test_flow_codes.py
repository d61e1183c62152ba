"""The code lists of a report: hits by code, codes never seen, and where the lists come from."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from analysis.disclosure.masking import MaskingRule, mask
from analysis.report.document import ReadTable, Section
from analysis.report.topics.flow import CODES
from analysis.study.data import StudyData
from tests.analysis.report.builders import about, study, study_data

# code, system, match, outcome, source, n_records, n_people: seen, seen by few, never seen.
_HITS = (
    ("I48", "icd10", "prefix", "af", "list A", 123, 57),
    ("4273", "icd9", "prefix", "af", "list A", 0, 0),
    ("1471", "selfreport", "exact", "af", "list B", 7, 4),
    ("I50", "icd10", "prefix", "heart_failure", "list A", 88, 31),
    ("H25", "icd10", "prefix", "negative_control", "list C", 40, 9),
)


def _data() -> StudyData:
    names = ["code", "system", "match", "outcome", "source", "n_records", "n_people"]
    hits = pd.DataFrame(_HITS, columns=names).assign(comment="by hand")
    return replace(study_data(200), code_hits=hits)


def _section(rule: MaskingRule) -> Section:
    made = CODES.aggregates(_data())
    section = CODES.present({one.key: mask(one, rule) for one in made}, about(study()))
    assert section is not None
    return section


def _cells(section: Section, key: str) -> pd.DataFrame:
    found = [one for one in section.items if isinstance(one, ReadTable) and one.key == key]
    assert len(found) == 1
    return found[0].cells


def test_aggregates__hold_each_code_with_its_exact_counts() -> None:
    (made,) = CODES.aggregates(_data())
    assert made.key == "code_hits"
    assert made.rows["code"].tolist() == [row[0] for row in _HITS]
    assert made.rows["n_records"].tolist() == [123, 0, 7, 88, 40]
    assert made.rows["n_people"].tolist() == [57, 0, 4, 31, 9]


def test_hits__are_masked_and_rounded() -> None:
    cells = _cells(_section(MaskingRule(k=10, base=5)), "code_hits")
    assert cells["Records"].tolist() == ["125", "0", "*", "90", "40"]
    assert cells["People"].tolist() == ["55", "0", "*", "30", "*"]


def test_hits__are_exact_without_masking() -> None:
    cells = _cells(_section(MaskingRule(k=0, base=1)), "code_hits")
    assert cells["Records"].tolist() == ["123", "0", "7", "88", "40"]
    assert cells["People"].tolist() == ["57", "0", "4", "31", "9"]


def test_prefixes__are_marked_and_exact_codes_are_not() -> None:
    cells = _cells(_section(MaskingRule()), "code_hits")
    assert cells["Code"].tolist() == ["I48…", "4273…", "1471", "I50…", "H25…"]


def test_systems__are_named_as_people_write_them() -> None:
    cells = _cells(_section(MaskingRule()), "code_hits")
    assert cells["System"].tolist() == ["ICD-10", "ICD-9", "self-report", "ICD-10", "ICD-10"]


def test_outcomes__are_in_words_also_the_negative_control() -> None:
    cells = _cells(_section(MaskingRule()), "code_hits")
    assert list(dict.fromkeys(cells["Outcome"])) == ["atrial fibrillation", "heart failure", "negative control"]


def test_never_seen__names_codes_of_no_record_and_no_masked_ones() -> None:
    cells = _cells(_section(MaskingRule(k=10, base=5)), "codes_never_seen")
    assert cells.to_numpy().tolist() == [["atrial fibrillation", "4273 (ICD-9)"]]


def test_never_seen__is_left_out_where_every_code_has_records() -> None:
    data = _data()
    seen = data.code_hits.assign(n_records=50, n_people=50)
    (made,) = CODES.aggregates(replace(data, code_hits=seen))
    section = CODES.present({made.key: mask(made, MaskingRule())}, data.about)
    assert section is not None
    assert [one.key for one in section.items] == ["code_hits", "code_sources"]


def test_sources__stand_once_for_each_outcome() -> None:
    cells = _cells(_section(MaskingRule()), "code_sources")
    assert cells.to_numpy().tolist() == [
        ["atrial fibrillation", "list A"],
        ["atrial fibrillation", "list B"],
        ["heart failure", "list A"],
        ["negative control", "list C"],
    ]


def test_section__says_that_the_lists_are_not_the_papers() -> None:
    section = _section(MaskingRule())
    assert (section.key, section.title) == ("code_lists", "Code lists")
    assert "not known here" in section.paragraphs[0]


def test_present__without_its_table_is_none() -> None:
    assert CODES.present({}, about(study())) is None
