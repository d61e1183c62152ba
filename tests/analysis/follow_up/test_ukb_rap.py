"""Fields and tables of UK Biobank's platform, by extracts of a few people written by hand."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from analysis.follow_up.event_formats import event_records, wide_ukb_records
from analysis.follow_up.extracts import Extract
from analysis.follow_up.first_occurrences import FIRST_OCCURRENCES, occurrences_of_dictionary
from analysis.follow_up.people import codes, days, people_of
from analysis.follow_up.ukb_rap import ukb_rap_tables
from analysis.statistics.columns import TableRefused
from lvm_core.errors import UsageError
from lvm_core.tables import ParticipantsLayout

Row = tuple[str, str | None, str, str, str]


def _rows(events: pd.DataFrame) -> set[Row]:
    return {
        (row.participant_id, None if pd.isna(row.date) else str(row.date)[:10], row.code, row.system, row.source)
        for row in events.itertuples()
    }


def _wide(folder: Path, text: str, person: str | None = None) -> set[Row]:
    (folder / "wide.csv").write_text(text)
    return _rows(wide_ukb_records(folder / "wide.csv", person))


CELLS = (
    '"[""I48"",""I500""]"',
    "\"['I48', 'I500']\"",
    "I48|I500",
    '"I48 Atrial fibrillation, and flutter|I500 Failure"',
    '"[""I48 Atrial fibrillation, and flutter"", ""I500""]"',
)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("prefix", ["participant.", ""])
def test_one_cell__codes_have_the_dates_of_their_place(tmp_path: Path, cell: str, prefix: str) -> None:
    names = ",".join(f"{prefix}{name}" for name in ("eid", "p41270", "p41280_a0", "p41280_a1", "p41280_a2"))
    found = _wide(tmp_path, f"{names}\n1,{cell},2012-05-01,2015-01-02,\n2,,,,\n3,J18,2010-01-01,,\n")
    assert found == {
        ("1", "2012-05-01", "I48", "icd10", "hes"),
        ("1", "2015-01-02", "I500", "icd10", "hes"),
        ("3", "2010-01-01", "J18", "icd10", "hes"),
    }


def test_one_cell__lists_of_parquet(tmp_path: Path) -> None:
    table = pd.DataFrame({"eid": ["1", "2"], "p41270": [["I48", "J18"], None]})
    table.assign(p41280_a0=["2012-05-01", None], p41280_a1=["2013-05-01", None]).to_parquet(tmp_path / "wide.parquet")
    assert _rows(wide_ukb_records(tmp_path / "wide.parquet")) == {
        ("1", "2012-05-01", "I48", "icd10", "hes"),
        ("1", "2013-05-01", "J18", "icd10", "hes"),
    }


def test_one_cell__causes_of_death_have_one_date(tmp_path: Path) -> None:
    text = 'eid,p40000_i0,p40001_i0,p40002_i0\n1,2020-01-01,I219,"[""I48"",""I10""]"\n2,,,\n'
    expected = {("1", "2020-01-01", code, "icd10", "death") for code in ("I219", "I48", "I10")}
    assert _wide(tmp_path, text) == expected


def test_one_cell__self_reports_with_years_and_without(tmp_path: Path) -> None:
    text = 'eid,p53_i2,p20002_i2,p20008_i2\n1,2016-03-01,1471|1076,"[2003.5, -1]"\n'
    assert _wide(tmp_path, text) == {
        ("1", "2003-07-02", "1471", "self-report", "self_report"),
        ("1", None, "1076", "self-report", "self_report"),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("eid,p41270,p41280_a0\n1,I48|I500,2012-05-01\n", r"more codes in p41270 than columns of dates \(1\)"),
        ('eid,p41270,p41280_a0\n1,"I48,I50",2012-05-01\n', "several codes with a comma between them"),
        ("eid,p41270\n1,I48\n", "no column of field 41280 with their dates; expected p41280_a0"),
        ("eid,p53_i2,p20002_i2\n1,2016-03-01,atrial fibrillation\n", "self-reported illness in words.*raw codes"),
        ("eid,p131350\n1,2016-03-01\n", "has p131350 but no field 131351 with the source"),
        ("eid,p131350,p131351\n1,2016-03-01,99\n", "first occurrences of another or no source"),
        ("eid,p131350,p131351\n1,2016-03-01,\n", "first occurrences of another or no source"),
        ("eid,p131350,p131351\n1,1.3.2016,40\n", "dates of another format"),
    ],
)
def test_wide__what_is_not_known_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TableRefused, match=message):
        _wide(tmp_path, text)


@pytest.mark.parametrize(
    ("reporter", "source"),
    [
        ("20", "death"),
        ("21.0", "death"),
        ("31", "primary_care"),
        ("40", "hes"),
        ("51", "self_report"),
        ("Hospital admissions data only", "hes"),
        ("Primary care and other source(s)", "primary_care"),
        ("Self-report only", "self_report"),
        ("Death register and other source(s)", "death"),
    ],
)
def test_first_occurrences__are_of_the_source_that_reported_first(tmp_path: Path, reporter: str, source: str) -> None:
    text = f"participant.eid,participant.p131350,participant.p131351,p132000\n1,2016-03-01,{reporter},x\n2,,,\n"
    assert _wide(tmp_path, text) == {("1", "2016-03-01", "I48", "icd10", source)}


def test_first_occurrences__are_the_fields_that_public_analyses_name() -> None:
    known = {131286: "I10", 131298: "I21", 131306: "I25", 131350: "I48", 131354: "I50", 131366: "I63", 131382: "I71"}
    assert {field: FIRST_OCCURRENCES[field] for field in known} == known


def test_occurrences_of_dictionary__adds_fields_and_refuses_others_than_known() -> None:
    text = "entity,name,title\nparticipant,p131166,Date H25 first reported (senile cataract)\nparticipant,p31,Sex\n"
    assert occurrences_of_dictionary(text.encode(), "d.csv")[131166] == "H25"
    with pytest.raises(UsageError, match="says that field 131350 is I49, expected I48"):
        occurrences_of_dictionary(b"name,title\np131350,Date I49 first reported (x)\n", "d.csv")


def test_columns__may_name_the_person_of_wide_tables(tmp_path: Path) -> None:
    (tmp_path / "wide.csv").write_text("ID,p41270,p41280_a0\n1,I48,2012-05-01\n")
    found = event_records(tmp_path / "wide.csv", "ukb_wide", {"participant_id": "ID"})
    assert isinstance(found, pd.DataFrame)
    assert found["participant_id"].tolist() == ["1"]
    with pytest.raises(TableRefused, match="columns of events names code, but events_format ukb_wide"):
        event_records(tmp_path / "wide.csv", "ukb_wide", {"code": "ID"})


# The long tables.

LONG = {
    "participant": "eid,p31\n1,0\n2,1\n",
    "hesin": "eid,ins_index,epistart,admidate\n1,0,01/02/2012,31/01/2012\n1,1,,15/03/2013\n2,0,,\n",
    "hesin_diag": "eid,ins_index,arr_index,level,diag_icd9,diag_icd10\n1,0,0,1,,I480\n1,1,0,1,4280,\n2,0,0,1,,I50\n",
    "hesin_oper": "eid,ins_index,arr_index,opdate,oper4\n1,0,0,05/02/2012,K621\n1,1,0,,K622\n",
    "death": "eid,ins_index,date_of_death\n2,0,03/04/2020\n2,1,03/04/2020\n",
    "death_cause": "eid,ins_index,arr_index,level,cause_icd10\n2,0,0,1,I219\n2,1,1,2,I48\n",
}


def _extract(folder: Path, **changed: str | None) -> Extract:
    for name, text in {**LONG, **changed}.items():
        if text is not None:
            (folder / f"{name}.csv").write_text(text)
    return Extract(folder)


def test_long_tables__are_dated_by_episode_operation_and_death(tmp_path: Path) -> None:
    found = ukb_rap_tables(_extract(tmp_path))
    assert _rows(found.events) == {
        ("1", "2012-02-01", "I480", "icd10", "hes"),
        ("1", "2013-03-15", "4280", "icd9", "hes"),  # no start of the episode: its admission
        ("2", None, "I50", "icd10", "hes"),
        ("1", "2012-02-05", "K621", "opcs4", "hes"),
        ("1", "2013-03-15", "K622", "opcs4", "hes"),
        ("2", "2020-04-03", "I219", "icd10", "death"),
        ("2", "2020-04-03", "I48", "icd10", "death"),
    }
    assert found.deaths is not None
    assert _dates(found.deaths, "death_date") == [("2", "2020-04-03")]
    assert found.cmr is None


def _dates(table: pd.DataFrame, column: str) -> list[tuple[str, str]]:
    return [(row["participant_id"], str(row[column])[:10]) for _, row in table.iterrows()]


def test_long_tables__deaths_of_participants_win(tmp_path: Path) -> None:
    assert ukb_rap_tables(_extract(tmp_path, participant="eid,p40000_i0\n1,\n2,2020-04-03\n")).deaths is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"hesin": None}, "has hesin_diag but no table hesin"),
        (
            {"hesin": LONG["hesin"].replace("1,1,,", "1,1,2012-02-01,")},
            "epistart.* of another form in 1 rows .2012-02-01",
        ),
        ({"hesin": LONG["hesin"].replace("epistart", "x").replace("admidate", "y")}, "no column epistart or admidate"),
        ({"death": None}, "has death_cause but no table death"),
        ({"participant": None}, "has no table participant or participants; it has death"),
        (dict.fromkeys(list(LONG)[1:]), "holds no records: expected fields such as p41270"),
    ],
)
def test_long_tables__what_is_missing_or_mixed_is_refused(
    tmp_path: Path, changed: dict[str, str | None], message: str
) -> None:
    with pytest.raises(TableRefused, match=message):
        ukb_rap_tables(_extract(tmp_path, **changed))


def test_cmr__is_of_the_day_of_its_visit(tmp_path: Path) -> None:
    text = "eid,p53_i2,p24105_i2,p53_i3,p24105_i3\n1,2016-01-02,90.5,2018-01-02,\n2,,,2019-05-06,101\n"
    found = ukb_rap_tables(_extract(tmp_path, participant=text)).cmr
    assert found is not None
    assert sorted(_dates(found, "cmr_date")) == [("1", "2016-01-02"), ("2", "2019-05-06")]
    assert found["lvm_cmr_g"].tolist() == [90.5, 101.0]


def test_participants__nation_of_the_first_visit_death_and_loss(tmp_path: Path) -> None:
    names = "participant.eid,participant.p31,participant.p54_i0,participant.p54_i2,p40000_i0,p191"
    text = f"{names}\n1,0,11022,11025,2020-01-01,\n2,1,Edinburgh,11025,,2018-02-03\n3,1,11021,11025,,\n4,1,,11025,,\n"
    (tmp_path / "participant.csv").write_text(text)
    people = people_of(tmp_path / "participant.csv", ParticipantsLayout(preset="ukb-rap"))
    assert codes(people, "region").to_pylist() == ["Wales", "Scotland", "England", None]
    assert [str(day) for day in days(people, "death_date").to_pylist()[:1]] == ["2020-01-01"]
    assert [str(day) for day in days(people, "ltfu_date").to_pylist()[1:2]] == ["2018-02-03"]
