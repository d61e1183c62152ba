"""Tables and lists of people as other programs write them, through a study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pytest

import lvm_ai
from analysis.follow_up import loading
from analysis.follow_up import people as study_people_module
from analysis.statistics.columns import TableRefused
from analysis.study.inputs import follow_up_of, load_study, read_cmr, read_inputs, study_lists, study_people
from lvm_core.errors import UsageError
from lvm_core.tables import ParticipantsLayout, People, judge_people, read_people, read_people_list
from tests.analysis.report.small_study import IDS, predictions, read, settle, write

CASES: Final = Path(__file__).resolve().parents[3] / "shared" / "cases"
EXACT: Final = "masking: {k: 0, base: 1}\n"
BY_AGE: Final = "time_scale: attained_age\n"
GONE: Final = IDS[:6]
Table = list[dict[str, str]]


def people() -> Table:
    """Forty people with body size; men are taller and heavier."""
    rows = []
    for i, person in enumerate(IDS):
        is_man = i % 5 < 2
        rows.append(
            {
                "participant_id": person,
                "sex": "male" if is_man else "female",
                "birth_date": f"{1940 + i % 30}-08-{10 + i % 15}",
                "height_cm": f"{(174 if is_man else 160) + i % 7}.5",
                "weight_kg": f"{(82 if is_man else 66) + i % 9}.25",
                "region": "England",
            }
        )
    return rows


def text(rows: Table, sign: str = ",") -> str:
    """A table as CSV with a delimiter."""
    lines = [sign.join(rows[0]), *(sign.join(row.values()) for row in rows)]
    return "\n".join(lines) + "\n"


def named(rows: Table, **names: str) -> Table:
    """The table with columns renamed."""
    return [{names.get(key, key): value for key, value in row.items()} for row in rows]


def changed(rows: Table, column: str, change: Callable[[str], str]) -> Table:
    """The table with the cells of a column changed."""
    return [row | {column: change(row[column])} for row in rows]


def day_month_year(date: str) -> str:
    """A date as 14/08/1956."""
    return "/".join(reversed(date.split("-")))


PLAIN = people()
COMMAS = changed(
    changed(PLAIN, "height_cm", lambda cell: cell.replace(".", ",")), "weight_kg", lambda cell: cell.replace(".", ",")
)
QUOTED = changed(changed(COMMAS, "height_cm", lambda cell: f'"{cell}"'), "weight_kg", lambda cell: f'"{cell}"')
UKB = {"participant_id": "eid", "sex": "31-0.0", "height_cm": "50-2.0", "weight_kg": "21002-2.0"}
RAP = {
    "participant_id": "participant.eid",
    "sex": "participant.p31",
    "height_cm": "participant.p50_i2",
    "weight_kg": "p21002_i2",
}
METRES = changed(PLAIN, "height_cm", lambda cell: f"{float(cell) / 100:.4f}")
POUNDS = changed(PLAIN, "weight_kg", lambda cell: f"{float(cell) / 0.45359237:.6f}")
BY_CODE = changed(PLAIN, "sex", {"female": "0", "male": "1"}.__getitem__)
DAY_FIRST = changed(PLAIN, "birth_date", day_month_year)

# Each is the same table, with what the study file says of it.
SAME: dict[str, tuple[bytes, str]] = {
    "comma": (text(PLAIN).encode(), ""),
    "semicolon": (text(PLAIN, ";").encode(), ""),
    "tab": (text(PLAIN, "\t").encode(), ""),
    "vertical bar": (text(PLAIN, "|").encode(), ""),
    "semicolon and decimal comma": (text(COMMAS, ";").encode(), ""),
    "decimal comma in quotes": (text(QUOTED).encode(), '{decimal: ","}'),
    "UTF-8 with mark": (text(PLAIN).encode("utf-8-sig"), ""),
    "UTF-16": (text(PLAIN, "\t").encode("utf-16"), ""),
    "Latin-1 in another column": (text([row | {"ward": "Köln"} for row in PLAIN]).encode("latin-1"), ""),
    "upper-case header": (text(named(PLAIN, **{n: n.upper() for n in PLAIN[0]})).encode(), ""),
    "blanks": (text(named(changed(PLAIN, "participant_id", " {} ".format), sex=" sex ")).encode(), ""),
    "decimal points in identifiers": (text(changed(PLAIN, "participant_id", "{}.0".format)).encode(), ""),
    "times behind dates": (text(changed(PLAIN, "birth_date", "{} 00:00:00".format)).encode(), ""),
    "day, month, year": (text(DAY_FIRST).encode(), '{date_format: "%d/%m/%Y"}'),
    "codes of sex": (text(BY_CODE).encode(), "{sex: {0: female, 1: male}}"),
    "words of sex": (
        text(changed(PLAIN, "sex", {"female": "weiblich", "male": "männlich"}.get)).encode(),  # type: ignore[arg-type]
        "{sex: {weiblich: female, männlich: male}}",
    ),
    "metres": (text(METRES).encode(), "{units: {height: m}}"),
    "pounds": (text(POUNDS).encode(), "{units: {weight: lb}}"),
    "eid": (text(named(PLAIN, participant_id="eid")).encode(), "{participant_id: eid}"),
    "names of UK Biobank": (text(named(BY_CODE, **UKB)).encode(), "ukb"),
    "names of the platform": (text(named(BY_CODE, **RAP)).encode(), "ukb-rap"),
    "a layout file": (text(named(PLAIN, sex="Geschlecht")).encode(), "layout.yaml"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path)
    (tmp_path / "layout.yaml").write_text("columns: {sex: Geschlecht, region: region}\n")
    return tmp_path


def put(folder: Path, data: bytes, layout: str = "", more: str = "") -> Path:
    """Write the participants and the study, and return the path of the study file."""
    (folder / "participants.csv").write_bytes(data)
    columns = f"columns: {{persons: {layout}}}\n" if layout else ""
    return settle(folder, columns + more)


def check(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, str], str]:
    """Run `--check`; return the status, the flow by reason, and what stands on stderr."""
    status = lvm_ai.main(["analyse", str(path), "--check"])
    shown = capsys.readouterr()
    flow = shown.out.split("codes that the lists caught")[0].rstrip()
    lines = [line.rsplit(maxsplit=1) for line in flow.splitlines()[3:]]
    return status, {words.strip(): count for words, count in lines}, shown.err


@pytest.mark.parametrize("name", SAME)
def test_participants__are_the_same_people_however_they_are_written(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = pa.table({column: [row[column] for row in PLAIN] for column in PLAIN[0]})
    path = put(folder, SAME[name][0], SAME[name][1], BY_AGE + EXACT)
    status, flow, _ = check(path, capsys)
    assert (status, flow["Analysed"]) == (0, "40")
    found = study_people(load_study(path)).table
    assert found["participant_id"].to_pylist() == IDS
    assert found["sex"].to_pylist() == expected["sex"].to_pylist()
    assert [str(day) for day in found["birth_date"].to_pylist()] == [row["birth_date"] for row in PLAIN]
    for size in ("height_cm", "weight_kg"):
        given = [float(row[size]) for row in PLAIN]
        assert found[size].to_pylist() == pytest.approx(given, rel=1e-5)


def test_participants__of_another_writing_give_the_same_ages(folder: Path) -> None:
    ages = []
    for name in ("comma", "day, month, year", "UTF-16"):
        (folder / "participants.csv").write_bytes(SAME[name][0])
        layout = SAME[name][1]
        columns = f"columns: {{persons: {layout}}}\n" if layout else ""
        ages.append(read(folder, columns + BY_AGE).ecgs["entry_age_days"].tolist())
    assert ages[0] == ages[1] == ages[2]
    assert len(ages[0]) == 40


def test_participants__are_read_once_in_a_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a landmark has people followed up twice."""
    calls = []

    def counted(*arguments: Any, **named_arguments: Any) -> People:
        calls.append(arguments[1])
        return read_people(*arguments, **named_arguments)

    monkeypatch.setattr(study_people_module, "read_people", counted)
    assert read(folder, "latency_days: 30\n").follow_up_from_index is not None
    assert calls == ["participants.csv"]


REFUSED: dict[str, tuple[Table, str]] = {
    "metres": (METRES, "it looks like metres: set `units: {height: m}` in `columns: persons`"),
    "pounds": (POUNDS, "it looks like pounds: set `units: {weight: lb}` in `columns: persons`"),
    "sexes exchanged": (
        changed(PLAIN, "sex", {"female": "male", "male": "female"}.__getitem__),
        "are the codes of sex the wrong way round?",
    ),
    "height and weight exchanged": (named(PLAIN, height_cm="weight_kg", weight_kg="height_cm"), "swapped"),
    "BMI of others": ([row | {"bmi_kg_m2": "31"} for row in PLAIN], "bmi_kg_m2 differs from"),
    "BMI that is weight": (
        named([{k: v for k, v in row.items() if k != "height_cm"} for row in PLAIN], weight_kg="bmi_kg_m2"),
        "the median of bmi_kg_m2 is",
    ),
    "scientific identifiers": (changed(PLAIN, "participant_id", lambda one: f"{int(one):.6E}"), "scientific notation"),
    "some decimal points": (
        [PLAIN[0] | {"participant_id": "1000001.0"}, *PLAIN[1:]],
        "all of them with or all without",
    ),
    "year of birth": (changed(PLAIN, "birth_date", lambda day: day[:4]), "a year alone"),
    "month of birth": (changed(PLAIN, "birth_date", lambda day: day[:7]), "set `births: month_and_year`"),
    "day first": (DAY_FIRST, "other formats are named in the layout"),
    "codes of sex": (BY_CODE, "the layout says what codes mean"),
    "decimal comma in quotes": (QUOTED, "a decimal comma: set `decimal: ','` in the layout"),
    "eid": (named(PLAIN, participant_id="eid"), "`columns: {persons: ukb}` or"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_participants__that_are_not_understood_are_refused_with_the_way_on(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, message = REFUSED[name]
    status, _, error = check(put(folder, text(rows).encode()), capsys)
    assert status == 2
    assert message in error
    assert "--participants-layout" not in error
    assert not any(person in error for person in IDS)


def test_participants__without_leading_zeros_have_nothing_in_common(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = changed(PLAIN, "participant_id", lambda one: str(int(one) - 1_000_000))
    status, _, error = check(put(folder, text(rows).encode()), capsys)
    assert status in (1, 2)
    assert "no participant_id in common" in error


@pytest.mark.parametrize("name", ["metres", "sexes exchanged", "BMI of others"])
def test_participants__that_look_wrong_are_accepted_where_the_study_says_so(folder: Path, name: str) -> None:
    """The report says so, without medians, which are values of people."""
    rows = REFUSED[name][0]
    path = put(folder, text(rows).encode(), more="accept_people: true\n")
    study = load_study(path)
    notes = [note for note in read_inputs(study).notes if "accept_people" in note]
    problems = judge_people(study_people(study).table).problems
    assert len(notes) == len(problems) > 0
    limits = {"140", "195", "18", "40", "5"}
    for note in notes:
        assert {word for word in note.replace("%", " ").split() if word.isdigit()} <= limits
        assert "." not in note.partition(":")[0]
    assert any(note in read(folder, "accept_people: true\n").notes for note in notes)


@pytest.mark.parametrize("suffix", ["", " 00:00:00"])
def test_births__of_a_placeholder_are_unknown_also_of_month_and_year(folder: Path, suffix: str) -> None:
    rows = [PLAIN[0] | {"birth_date": f"1909-09-09{suffix}"}, *PLAIN[1:]]
    (folder / "participants.csv").write_text(text(rows))
    ages = read(folder, BY_AGE).ecgs.set_index("participant_id")["entry_age_days"]
    assert pd.isna(ages[IDS[0]])
    assert ages.notna().sum() == 39
    rows = changed(rows, "birth_date", lambda day: day[:7])
    (folder / "participants.csv").write_text(text(rows))
    more = BY_AGE + "columns: {persons: {births: month_and_year}}\n"
    data = read(folder, more)
    ages = data.ecgs.set_index("participant_id")["entry_age_days"]
    assert pd.isna(ages[IDS[0]])
    assert ages.notna().sum() == 39
    counted = data.unknown_dates.set_index(["column", "why"])["n_people"]
    assert counted["birth_date", "day_assumed"] == 39
    assert counted["birth_date", "placeholder"] == 1
    assert any("read as the 15th of the month" in note for note in data.notes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("columns: {persons: nowhere.yaml}\n", "nowhere.yaml of the participants cannot be read"),
        ("columns: {persons: {file: layout.yaml, births: day}}\n", "file stands alone: write birt"),
        ("columns: {persons: {sex: {0: woman}}}\n", "columns.persons.sex.0 is 'woman'"),
        ("columns: {persons: {births: month_and_year, sx: {}}}\n", "columns.persons.sx is no set"),
        ("columns: {persons: {columns: {regoin: a}}}\n", "columns of persons has regoin, which is"),
        (
            'columns: {persons: {date_format: "%d/%m/%Y"}}\ndate_formats: {persons: "%d.%m.%Y"}\n',
            "date_formats of persons is %d.%m.%Y, but their layout says %d/%m/%Y",
        ),
        ('date_formats: {persons: "%m/%Y"}\n', "which has no day; births of month and year need"),
        ('date_formats: {persons: "%Y"}\n', "a year alone, from which no age is computed"),
        ('columns: {persons: {date_format: "%Y", births: month_and_year}}\n', "a year alone"),
        ("columns: {persons: {columns: {death_date: died}}}\n", "participants have no column died"),
    ],
)
def test_layout__mistakes_are_refused(folder: Path, settings: str, message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        study_people(load_study(settle(folder, settings)))
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("columns: {regoin: a}\n", "layout.yaml: columns of persons has regoin"),
        ("file: other.yaml\n", "names another, other.yaml"),
        ("births: weekly\n", "line 1: births is 'weekly'"),
    ],
)
def test_layout_file__mistakes_are_refused_with_its_name(folder: Path, content: str, message: str) -> None:
    (folder / "layout.yaml").write_text(content)
    with pytest.raises(UsageError) as refusal:
        load_study(settle(folder, "columns: {persons: layout.yaml}\n"))
    assert message in str(refusal.value)


def test_layout__names_covariates_missing_codes_and_one_format_of_dates(folder: Path) -> None:
    rows = [
        row | {"SBP": "999" if i < 4 else f"{120 + i}", "region": "-1" if i == 7 else "England"}
        for i, row in enumerate(DAY_FIRST)
    ]
    (folder / "participants.csv").write_text(text(rows, ";"))
    more = """\
covariates: [{name: pressure, kind: number}]
columns: {persons: {columns: {pressure: sbp}, missing: [999, -1]}}
date_formats: {persons: "%d/%m/%Y"}
"""
    data = read(folder, more)
    found = data.persons.set_index("participant_id")["pressure"]
    assert found[IDS[:4]].isna().all()
    assert found[IDS[4:]].tolist() == [120.0 + i for i in range(4, 40)]
    assert IDS[7] not in set(data.ecgs["participant_id"])
    assert len(data.ecgs) == 39
    assert data.study.columns.persons.date_format == "%d/%m/%Y"


def test_omop__is_read_from_a_folder(folder: Path) -> None:
    (folder / "omop").mkdir()
    head = "person_id,gender_concept_id,year_of_birth,month_of_birth,day_of_birth,care_site\n"
    rows = "".join(f"{one},8532,1950,8,{10 + i % 15},England\n" for i, one in enumerate(IDS))
    (folder / "omop" / "PERSON.csv").write_text(head + rows)
    (folder / "omop" / "measurement.csv").write_text(
        "person_id,measurement_concept_id,measurement_date,value_as_number,unit_concept_id\n"
        f"{IDS[0]},3036277,2015-01-01,1.7,9546\n"
    )
    more = "columns: {persons: {preset: omop, columns: {region: care_site}}}\n"
    data = read(folder, more + BY_AGE, participants="omop")
    assert len(data.ecgs) == 40
    assert data.ecgs["entry_age_days"].notna().all()
    sizes = study_people(data.study).table["height_cm"].to_pylist()
    assert sizes[:2] == [170.0, None]


LISTS: dict[str, bytes] = {
    "tab and dates": ("eid\tdate\n" + "".join(f"{i}\t2024-05-01\n" for i in GONE)).encode(),
    "semicolon": ("eid;note\n" + "".join(f"{i};x\n" for i in GONE)).encode(),
    "comma": ("participant_id,note\n" + "".join(f"{i},x\n" for i in GONE)).encode(),
    "one per line": "\n".join(GONE).encode(),
    "one per line with a header": ("eid\r\n" + "\r\n".join(GONE)).encode(),
    "decimal points": "\n".join(f"{i}.0" for i in GONE).encode(),
    "blanks": "\n".join(f"  {i} " for i in GONE).encode(),
    "UTF-16": ("participant_id\tnote\n" + "".join(f"{i}\tx\n" for i in GONE)).encode("utf-16"),
    "UTF-8 with mark": ("eid\n" + "\n".join(GONE)).encode("utf-8-sig"),
    "upper-case header": ("PARTICIPANT_ID;NOTE\n" + "".join(f"{i};x\n" for i in GONE)).encode(),
    "Latin-1": ("eid;ward\n" + "".join(f"{i};Köln\n" for i in GONE)).encode("latin-1"),
}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("inputs.withdrawn", "Withdrawn"),
        ("inputs.excluded", "Excluded by list"),
        ("training.exclude_ids", "Excluded by list"),
    ],
)
def test_lists__leave_out_the_same_people_however_they_are_written(
    folder: Path, name: str, setting: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "list.txt").write_bytes(LISTS[name])
    part, _, key = setting.partition(".")
    if part == "inputs":
        path = settle(folder, EXACT, **{key: "list.txt"})
    else:
        path = settle(folder, EXACT + "training: {is_uk_biobank: true, exclude_ids: list.txt}\n")
    status, flow, _ = check(path, capsys)
    assert status == 0
    assert (flow[reason], flow["Analysed"]) == ("6", "34")
    assert study_lists(load_study(path))[setting].people == tuple(GONE)


def test_lists__of_strangers_stop_a_check_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "list.txt").write_text("S7-0000001\nS7-0000002\nS7-0000003\n")
    path = settle(folder, EXACT, withdrawn="list.txt")
    status, _, error = check(path, capsys)
    assert status == 2
    assert "inputs.withdrawn list.txt has 3 identifiers, and nobody of them is in any" in error
    assert "S7" not in error
    status, flow, error = check(settle(folder, EXACT + "allow_unknown: true\n", withdrawn="list.txt"), capsys)
    assert (status, flow["Analysed"]) == (0, "40")
    assert "nobody of inputs.withdrawn is in any table" in error


def test_lists__of_ecgs_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "list.csv").write_text(f"ecg_id,note\n{IDS[0]}_0,x\n")
    status, _, error = check(settle(folder, withdrawn="list.csv"), capsys)
    assert status == 2
    assert "inputs.withdrawn list.csv has 1 rows that name an ECG (ecg_id) and no person" in error


def encoded(table: pd.DataFrame) -> dict[str, bytes]:
    """A table of records as other programs write it."""
    spaced = table.rename(columns={name: f" {name.upper()} " for name in table.columns})
    return {
        "semicolon": table.to_csv(index=False, sep=";").encode(),
        "Excel's first line": ("sep=;\n" + table.to_csv(index=False, sep=";")).encode(),
        "tab": table.to_csv(index=False, sep="\t").encode(),
        "vertical bar": table.to_csv(index=False, sep="|").encode(),
        "UTF-16": table.to_csv(index=False, sep="\t").encode("utf-16"),
        "Latin-1": table.assign(ward="Köln").to_csv(index=False).encode("latin-1"),
        "upper-case header with blanks": spaced.to_csv(index=False).encode(),
        "decimal points": table.assign(**{n: table[n] + ".0" for n in ("participant_id",) if n in table})
        .to_csv(index=False)
        .encode(),
    }


@pytest.mark.parametrize("name", ["events", "deaths", "ends"])
def test_records__are_the_same_however_they_are_written(folder: Path, name: str) -> None:
    whole = read(folder)
    table = pd.read_csv(folder / f"{name}.csv", dtype=str, keep_default_na=False)
    for data in encoded(table).values():
        (folder / f"{name}.csv").write_bytes(data)
        pd.testing.assert_frame_equal(read(folder).follow_up, whole.follow_up)
    assert whole.follow_up["status"].value_counts().to_dict() == {0: 30, 1: 8, 2: 2}


@pytest.mark.parametrize(
    "name",
    [
        "semicolon",
        "tab",
        "vertical bar",
        "UTF-16",
        "Latin-1",
        "upper-case header with blanks",
        "decimal points",
        "Excel's first line",
    ],
)
def test_records__of_a_large_file_are_read_piece_by_piece(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read(folder)
    monkeypatch.setattr(loading, "_LARGE_BYTES", 0)
    table = pd.read_csv(folder / "events.csv", dtype=str, keep_default_na=False)
    (folder / "events.csv").write_bytes(encoded(table)[name])
    pd.testing.assert_frame_equal(read(folder).follow_up, whole.follow_up)


def test_records__of_a_large_file_are_refused_without_the_line_of_a_person(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_LARGE_BYTES", 0)
    rows = "7000001,2018-01-01,I48,icd10,hes\n" * 100_000  # more than DuckDB looks at beforehand
    text = f"participant_id,date,code,system,source\n{rows}7000002,2018-01-01,I48,icd10,hes,x,y\n"
    (folder / "events.csv").write_text(text)
    with pytest.raises(TableRefused, match="CSV Error on Line: 100002") as refusal:
        read(folder)
    assert "7000002" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("participant_id,date,Date,code,system,source\n", "has column date more than once"),
        ("participant_id,date,date,code,system,source\n", "has column date more than once"),
        ("", "events.csv is empty"),
        ("NA,2018-01-01,I48,icd10,hes\n", "no participant_id in 1 rows"),
    ],
)
@pytest.mark.parametrize("large_bytes", [0, 20_000_000])
def test_records__that_are_not_clear_are_refused(
    folder: Path, content: str, message: str, large_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_LARGE_BYTES", large_bytes)
    header = "participant_id,date,code,system,source\n"
    (folder / "events.csv").write_text(header + content if content.startswith("NA") else content)
    with pytest.raises(TableRefused, match=message):
        read(folder)


def test_masses__with_decimal_commas_are_refused_and_not_taken_for_unknown(folder: Path) -> None:
    """Else every ECG would be unusable in silence."""
    scored = predictions()[["ecg_id", "participant_id", "recorded_at", "lvm_pred_g"]]
    scored.to_csv(folder / "p.csv", index=False, sep=";", decimal=",")
    more = "exposure: lvm_pred_g\nreport: false\nhazard_ratios: false\n"
    study = load_study(settle(folder, more, predictions="p.csv"))
    with pytest.raises(TableRefused, match="table ecgs has lvm_pred_g that is no number in 40 row"):
        follow_up_of(study)
    scored.to_csv(folder / "p.csv", index=False, sep=";")
    assert follow_up_of(study).people["excluded"].isna().all()


def test_records__of_parquet_with_a_column_twice_are_refused(folder: Path) -> None:
    table = pd.read_csv(folder / "events.csv", dtype=str)
    table.assign(**{" date": table["date"]}).to_parquet(folder / "events.parquet")
    with pytest.raises(TableRefused, match="table events has column date 2 times; expected it on"):
        read(folder, events="events.parquet")


CMR: dict[str, bytes] = {
    "comma": b"participant_id,cmr_date,lvm_cmr_g\n1001,2015-01-01,90\n1002,2015-02-01,110.5\n",
    "tab": b"participant_id\tcmr_date\tlvm_cmr_g\n1001\t2015-01-01\t90\n1002\t2015-02-01\t110,5\n",
    "blanks": b"participant_id,cmr_date,lvm_cmr_g\n 1001 ,2015-01-01,90\n1002,2015-02-01,110.5\n",
    "points": b"participant_id,cmr_date,lvm_cmr_g\n1001.0,2015-01-01,90\n1002.0,2015-02-01,110.5\n",
}


@pytest.mark.parametrize("name", CMR)
def test_cmr__is_the_same_however_it_is_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "cmr.csv").write_bytes(CMR[name])
    table = read_cmr(tmp_path / "cmr.csv")[0]
    assert table["participant_id"].tolist() == ["1001", "1002"]
    assert table["cmr_date"].dt.strftime("%Y-%m-%d").tolist() == ["2015-01-01", "2015-02-01"]
    assert table["lvm_cmr_g"].tolist() == [90.0, 110.5]


def test_cmr__without_a_mass_is_left_out_with_a_note(tmp_path: Path) -> None:
    (tmp_path / "cmr.csv").write_text("participant_id,cmr_date,lvm_cmr_g\n1001,1900-01-01,90\n1002,,Unknown\n")
    table, notes = read_cmr(tmp_path / "cmr.csv")
    assert table["cmr_date"].isna().tolist() == [True]
    assert notes == ("--cmr cmr.csv: 1 rows without lvm_cmr_g were left out",)


needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases is not here")
LAYOUTS: dict[str, dict[str, Any]] = {
    "birth_ddmmyyyy.csv": {"date_format": "%d/%m/%Y"},
    "birth_year_month.csv": {"births": "month_and_year"},
    "decimal_comma_quoted.csv": {"decimal": ","},
    "eid_only.csv": {"columns": {"participant_id": "eid"}},
    "height_m.csv": {"units": {"height": "m"}},
    "missing_sex_-1.csv": {"missing": [-1]},
    "rap_names.csv": {"preset": "ukb-rap"},
    "sex_01.csv": {"sex": {0: "female", 1: "male"}},
    "sex_12.csv": {"sex": {2: "female", 1: "male"}},
    "sex_weiblich.csv": {"sex": {"weiblich": "female", "männlich": "male"}},
    "ukb_names.csv": {"preset": "ukb"},
    "weight_lb.csv": {"units": {"weight": "lb"}},
}
REFUSED_CASES = {"birth_year.csv", "sci_ids.csv"}
DOUBTED_CASES = {"bmi_conflict.csv", "bmi_is_weight.csv", "sex_flipped.csv", "swapped_hw.csv"}


def case_files(folder: str) -> list[str]:
    """Names of the given files of a kind; one that is not there where none are given."""
    found = sorted(path.name for path in (CASES / folder).glob("*.csv"))
    return found or ["none"]


@needs_cases
@pytest.mark.parametrize("with_layout", [False, True])
@pytest.mark.parametrize("name", case_files("people_tables"))
def test_given_tables__are_to_a_study_what_they_are_to_the_reader(folder: Path, name: str, with_layout: bool) -> None:
    data = (CASES / "people_tables" / name).read_bytes()
    settings = LAYOUTS.get(name, {}) if with_layout else {}
    path = put(folder, data, str(settings) if settings else "")
    if name in REFUSED_CASES or (name in LAYOUTS and not with_layout and "lb" not in name and name != "height_m.csv"):
        with pytest.raises(UsageError):
            read_people(data, name, ParticipantsLayout(**settings))
        with pytest.raises(UsageError):
            study_people(load_study(path))
        return
    expected = read_people(data, name, ParticipantsLayout(**settings)).table
    assert study_people(load_study(path)).table.equals(expected)
    is_doubted = name in DOUBTED_CASES or name in ("height_m.csv", "weight_lb.csv")
    if is_doubted and not (settings and with_layout):
        with pytest.raises(UsageError, match="the participants as a whole look wrong"):
            read_inputs(load_study(path))
    else:
        read_inputs(load_study(path))


@needs_cases
@pytest.mark.parametrize("name", ["withdrawn_with_dates.tsv", "list_semicolon.csv", "list.tsv", "list_decimals.txt"])
def test_given_lists__are_to_a_study_what_they_are_to_the_reader(folder: Path, name: str) -> None:
    data = (CASES / "people_lists" / name).read_bytes()
    (folder / name).write_bytes(data)
    path = settle(folder, withdrawn=name)
    expected = read_people_list(data, name).people
    assert study_lists(load_study(path))["inputs.withdrawn"].people == expected
    assert len(expected) == {"withdrawn_with_dates.tsv": 400, "list_decimals.txt": 2}.get(name, 1)


@needs_cases
@pytest.mark.parametrize("name", ["births.csv", "blanks.csv", "people.tsv", "decimals.csv"])
def test_given_people__are_to_a_study_what_they_are_to_the_reader(folder: Path, name: str) -> None:
    data = (CASES / "people_lists" / name).read_bytes()
    (folder / name).write_bytes(data)
    found = study_people(load_study(settle(folder, participants=name))).table
    assert found.equals(read_people(data, name).table)
    ids = ["1", "2"] if name == "births.csv" else ["1001", "1002"]
    assert found["participant_id"].to_pylist() == ids


@needs_cases
@pytest.mark.parametrize("name", ["cmr.tsv", "cmr_blanks.csv", "cmr_decimals.csv"])
def test_given_cmr__is_the_same(name: str) -> None:
    table = read_cmr(CASES / "people_lists" / name)[0]
    assert table["participant_id"].tolist() == ["1001", "1002"]
    assert table["lvm_cmr_g"].tolist() == [90.0, 110.0]
