"""UK Biobank's wide fields and ml4h's disease tables as events, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.follow_up import FollowUpRules, OutcomeRule, build_follow_up
from analysis.follow_up.event_formats import event_records, ml4h_records, wide_ukb_records
from analysis.statistics.columns import TableRefused

WIDE = """\
eid,31-0.0,53-0.0,53-2.0,41270-0.0,41270-0.1,41280-0.0,41280-0.1,41271-0.0,41281-0.0,\
41272-0.0,41282-0.0,40000-0.0,40001-0.0,40002-0.0,40002-0.1,\
20002-0.0,20002-0.1,20008-0.0,20008-0.1,20002-2.0,20008-2.0
1,0,2008-01-10,2016-03-01,I48,I500,2012-05-01,2014-01-02,0389,1995-02-03,\
K571,2015-06-07,2020-01-01,I219,I48,E119,1471,1065,2005.5,-1,,
2,1,2008-07-02,2016-05-01,NA,,,,,,,,,,,,1075,,2008.5,,1471,-3
"""
WIDE_ROWS = [
    ("1", "1995-02-03", "0389", "icd9", "hes", None),
    # 2005.5 is 182 whole days (half of 365) after the first day of 2005.
    ("1", "2005-07-02", "1471", "self-report", "self_report", "2008-01-10"),
    ("1", "2012-05-01", "I48", "icd10", "hes", None),
    ("1", "2014-01-02", "I500", "icd10", "hes", None),
    ("1", "2015-06-07", "K571", "opcs4", "hes", None),
    ("1", "2020-01-01", "E119", "icd10", "death", None),
    ("1", "2020-01-01", "I219", "icd10", "death", None),
    ("1", "2020-01-01", "I48", "icd10", "death", None),
    ("1", None, "1065", "self-report", "self_report", "2008-01-10"),
    # 2008.5 is day 183 of a leap year, 2008-07-02: the day of the visit, not after it.
    ("2", "2008-07-02", "1075", "self-report", "self_report", "2008-07-02"),
    ("2", None, "1471", "self-report", "self_report", "2016-05-01"),
]
ENDS = pd.DataFrame(
    [("E", source, "2022-10-31") for source in ("hes", "death", "ml4h")], columns=["region", "source", "end_date"]
)


def _rows(table: pd.DataFrame) -> list[tuple[str | None, ...]]:
    names = ["participant_id", "date", "code", "system", "source", "reported_date"]
    assert table.columns.tolist() == names
    cells = table.astype(str).replace({"<NA>": None, "NaT": None, "nan": None})
    rows = [tuple(row) for row in cells.itertuples(index=False)]
    return sorted(rows, key=lambda row: tuple(cell or "~" for cell in row))


def _written(folder: Path, text: str, name: str = "wide.csv") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_wide_ukb_records__are_one_row_a_code_with_its_date(tmp_path: Path) -> None:
    assert _rows(wide_ukb_records(_written(tmp_path, WIDE))) == WIDE_ROWS


@pytest.mark.parametrize(
    ("pattern", "person"), [("f.{0}.{1}.{2}", "f.eid"), ("X{0}.{1}.{2}", "eid"), ("p{0}_i{1}_a{2}", "participant_id")]
)
def test_wide_ukb_records__other_forms_of_column_names_are_the_same(tmp_path: Path, pattern: str, person: str) -> None:
    table = pd.read_csv(_written(tmp_path, WIDE), dtype=str)
    table = table.rename(columns={"eid": person})
    table.columns = table.columns.str.replace(
        r"^(\d+)-(\d+)\.(\d+)$", lambda found: pattern.format(*found.groups()), regex=True
    )
    table.to_csv(tmp_path / "other.tsv", sep="\t", index=False)
    table.to_parquet(tmp_path / "other.parquet")
    for name in ("other.tsv", "other.parquet"):
        assert _rows(wide_ukb_records(tmp_path / name)) == WIDE_ROWS


def test_wide_ukb_records__numbers_and_dates_of_parquet_are_read(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"eid": [7], "p53_i0": pd.to_datetime(["2010-01-01"]), "p20002_i0_a0": [1471.0], "p20008_i0_a0": [2000.0]}
    )
    table.to_parquet(tmp_path / "wide.parquet")
    assert _rows(wide_ukb_records(tmp_path / "wide.parquet")) == [
        ("7", "2000-01-01", "1471", "self-report", "self_report", "2010-01-01")
    ]


def test_wide_ukb_records__follow_up_reads_them(tmp_path: Path) -> None:
    persons = pd.DataFrame({"participant_id": ["1", "2"], "region": "E"})
    ecgs = persons.assign(ecg_id=["1", "2"], recorded_at=["2010-01-01"] * 2, lvm_pred_g=90.0)
    codes = pd.DataFrame(
        [("I48", "icd10", "prefix", "af"), ("1471", "self-report", "exact", "af"), ("I50", "icd10", "prefix", "hf")],
        columns=["code", "system", "match", "outcome"],
    )
    outcomes = (OutcomeRule("af", ("hes",), ("self_report",)), OutcomeRule("hf", ("hes", "death")))
    found = build_follow_up(
        predictions=ecgs.drop(columns="region"),
        persons=persons,
        events=event_records(_written(tmp_path, WIDE), "ukb_wide"),
        ends=ENDS,
        code_list=codes,
        rules=FollowUpRules(outcomes),
    )
    people = found.people.set_index(["outcome", "participant_id"])
    # Person 1 reported AF in 2008; person 2 at the visit of 2016, of an unknown year.
    assert people.loc[("af", "1"), "excluded"] == "prevalent"
    assert people.loc[("af", "2"), "excluded"] == "unknown_event_date"
    # 2010-01-01 to 2014-01-02 are 4 years with one leap day, and a day.
    assert people.loc[("hf", "1"), ["time_days", "status"]].tolist() == [1462, 1]
    assert found.code_hits["n_records"].tolist() == [2, 2, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("eid,31-0.0\n1,0\n", "has no field of 41270, .* expected UK Biobank's wide table"),
        ("id,41270-0.0,41280-0.0\n1,I48,2012-05-01\n", "has 0 columns of eid, f.eid, parti"),
        ("eid,f.eid,41270-0.0\n1,1,I48\n", "has 2 columns of eid"),
        ("eid,41270-0.0,41280-0.1\n1,I48,2012-05-01\n", "codes in 41270-0.0 but no column of f"),
        ("eid,40001-1.0,40000-0.0\n1,I48,2012-05-01\n", "40000 with their dates; expected 40000-1"),
        ("eid,20002-2.0,53-0.0\n1,1471,2012-05-01\n", "20002-2.0 but not field 53 of visit 2"),
        ("eid,s_41270_0_0\n1,I48\n", "has a column 's_41270_0_0', expected a form such as"),
        (
            "eid,41270-0.0,f.41270.0.0,41280-0.0\n1,I48,I48,2012-05-01\n",
            "has 41270-0.0 and f.41270.0.0, expected one of them",
        ),
        (
            "eid,p41270,p41280_a0\n1,I48|I500,2012-05-01\n",
            r"more codes in p41270 than columns of dates \(1\) in 1 rows .* all columns of field 41280",
        ),
        (
            "eid,41271-0.0,41281-0.0\n1,4280.0,2012-05-01\n",
            "ICD-9 codes that went through numbers, as 4280.0 in 1 records",
        ),
        (
            "eid,41270-0.0,41280-0.0\n1,I48,01/05/2012\n2,I48,2012-02-30\n",
            r"dates of another format in 2 records \(01/05/2012, 2012-02-30\)",
        ),
        ("eid,53-0.0,20002-0.0\n1,1.5.2008,1471\n", "days of visits of another format"),
        (
            "eid,53-0.0,20002-0.0,20008-0.0\n1,2008-05-01,1471,-2\n2,2008-05-01,1471,x\n",
            r"interpolated years \(20008\) out of range in 2 records \(-2, x\)",
        ),
        ("eid,41270-0.0,41280-0.0\n,I48,2012-05-01\n", "no person in 1 records"),
    ],
)
def test_wide_ukb_records__what_is_not_known_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TableRefused, match=message):
        wide_ukb_records(_written(tmp_path, text))


def test_wide_ukb_records__codes_that_are_numbers_are_refused(tmp_path: Path) -> None:
    table = pd.DataFrame({"eid": [1], "41271-0.0": [389.0], "41281-0.0": ["1995-02-03"]})
    table.to_parquet(tmp_path / "wide.parquet")
    with pytest.raises(TableRefused, match=r"DOUBLE in 41271-0.0, which loses leading zeros"):
        wide_ukb_records(tmp_path / "wide.parquet")


ML4H = """\
sample_id\thas_disease\tincident_disease\tprevalent_disease\tdate_censor\tenroll_date
1\t1\t\t1\t2005-06-01\t2008-01-10
2\t1\t1\t0\t2014-01-02\t2008-07-02
3\t0\t0\t0\t2021-03-31\t2009-01-01
4\tNA\tNA\tNA\t2004-01-01\t2009-01-01
5\t1\t1\t0\t\t2009-01-01
"""


def test_ml4h_records__are_the_dates_of_those_with_the_disease(tmp_path: Path) -> None:
    path = _written(tmp_path, ML4H, "Atrial_fibrillation.tsv")
    disease = ("Atrial_fibrillation", "ml4h", "ml4h", None)
    rows = [("1", "2005-06-01", *disease), ("2", "2014-01-02", *disease), ("4", None, *disease), ("5", None, *disease)]
    assert _rows(ml4h_records(path)) == rows
    # A folder holds a table a disease; a table with a column `disease` holds several.
    long = path.read_text().splitlines()
    named = [long[0] + "\tdisease", *(line + "\tstroke" for line in long[1:])]
    text = "\n".join(named).replace("date_censor", "censor_date")
    _written(tmp_path, text, "many.tsv")
    codes = ml4h_records(tmp_path)["code"].value_counts().to_dict()
    assert codes == {"Atrial_fibrillation": 4, "stroke": 4}


def test_ml4h_records__flags_of_enrolment_are_decided_again_at_the_index(tmp_path: Path) -> None:
    ids = [str(number) for number in range(1, 6)]
    persons = pd.DataFrame({"participant_id": ids, "region": "E"})
    ecgs = persons.assign(ecg_id=ids, recorded_at="2015-01-01", lvm_pred_g=90.0)
    codes = pd.DataFrame([("AF", "ml4h", "exact", "af")], columns=["code", "system", "match", "outcome"])
    people = build_follow_up(
        predictions=ecgs.drop(columns="region"),
        persons=persons,
        events=event_records(_written(tmp_path, ML4H, "af.tsv"), "ml4h"),
        ends=ENDS,
        code_list=codes,
        rules=FollowUpRules((OutcomeRule("af", ("ml4h",)),)),
    ).people
    # Person 2 is incident for ml4h, after enrolment, but had the disease before the ECG.
    assert people["excluded"].tolist() == ["prevalent", "prevalent", None, "unknown_event_date", "unknown_event_date"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sample_id\thas_disease\n1\t1\n", "expected sample_id, has_disease and one of censor"),
        ("id\thas_disease\tcensor_date\n1\t1\t2010-01-01\n", "has the columns id, has_disease, "),
        (
            "sample_id\thas_disease\tcensor_date\n1\tmaybe\t2010-01-01\n",
            r"has_disease of another value in 1 records \(maybe\); expected 1, 0 or NA",
        ),
        (
            "sample_id\thas_disease\tcensor_date\n1\t1\t01.02.2010\n",
            r"dates of another format in 1 records \(01.02.2010\)",
        ),
        ("sample_id\thas_disease\tcensor_date\n\t1\t2010-01-01\n", "no sample_id in 1 records"),
        ("sample_id\tdisease\thas_disease\tcensor_date\n1\t\t1\t2010-01-01\n", "no disease in 1"),
        (
            "sample_id\thas_disease\tcensor_date\tmet_exclusion\n1\t0\t2010-01-01\t1\n",
            "criterion of exclusion .* in 1 records; expected a table of a disease without",
        ),
    ],
)
def test_ml4h_records__what_is_not_known_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TableRefused, match=message):
        ml4h_records(_written(tmp_path, text, "af.tsv"))


def test_ml4h_records__a_folder_without_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableRefused, match="expected tables of ml4h"):
        ml4h_records(tmp_path)


@pytest.mark.parametrize("read", [wide_ukb_records, ml4h_records])
def test_records__a_file_that_is_not_there_is_refused(read: Any, tmp_path: Path) -> None:
    with pytest.raises(TableRefused, match="cannot be read"):
        read(tmp_path / "nowhere.csv")


def test_event_records__of_one_row_a_record_are_the_file_itself(tmp_path: Path) -> None:
    assert event_records(tmp_path / "events.csv", "records") == tmp_path / "events.csv"
