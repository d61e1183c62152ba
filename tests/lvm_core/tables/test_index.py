from __future__ import annotations

import datetime as dt
import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lvm_core.errors import UsageError
from lvm_core.formats.statements import rhythm_codes
from lvm_core.tables import INDEX_PRESETS, Index, IndexLayout, index_layout_of_file, read_index
from lvm_core.tables.schemas import INDEX


def _csv(*lines: str, delimiter: str = ",") -> bytes:
    return "".join(f"{line.replace(',', delimiter)}\n" for line in lines).encode()


def _read(data: bytes | list[bytes], name: str = "list.csv", **layout: Any) -> Index:
    tables = [data] if isinstance(data, bytes) else data
    named = [(name if i == 0 else f"more{i}.csv", table) for i, table in enumerate(tables)]
    return read_index(named, IndexLayout.model_validate(layout), rhythm_codes)


def _rows(index: Index) -> list[dict[str, Any]]:
    """Return what the index knows, without what is null and without paths."""
    return [{k: v for k, v in row.items() if v not in (None, False)} for row in index.table.to_pylist()]


def test_read_index__own_names_need_no_layout() -> None:
    index = _read(
        _csv("ecg_id,path,participant_id,recorded_at,age_years,sex", "a,./x/b.xml,p,2020-01-02T03:04:05,61.5,female")
    )
    assert _rows(index) == [
        {
            "ecg_id": "a",
            "participant_id": "p",
            "recorded_at": dt.datetime(2020, 1, 2, 3, 4, 5),
            "age_years": 61.5,
            "sex": "female",
        }
    ]
    assert index.paths is not None
    assert index.paths.to_pylist() == ["x/b.xml"]
    assert index.table.schema.equals(INDEX.arrow)
    assert index.n_rows == 1


def test_read_index__without_paths_records_are_known_by_key() -> None:
    assert _read(_csv("ecg_id,sex", "a,male")).paths is None


def test_read_index__templates_join_cells_and_are_null_where_one_is() -> None:
    lines = ("Ordner,Nr,Tag", "\\a\\b,1.0,03.02.2010", ",2.0,", "c,,04.02.2010")
    index = _read(
        _csv(*lines, delimiter="\t"),
        path="{Ordner}/{Nr}.dcm",
        ecg_id="x{Nr}-{{1}}",
        recorded_at="{Tag}",
        time_format="%d.%m.%Y",
    )
    assert index.paths is not None
    assert index.paths.to_pylist() == ["a/b/1.0.dcm", None, None]
    # Keys are read as identifiers everywhere: 1.0 in every row is 1.
    assert index.table["ecg_id"].to_pylist() == ["x1-{1}", "x2-{1}", None]
    days = [dt.datetime(2010, 2, 3), None, dt.datetime(2010, 2, 4)]
    assert index.table["recorded_at"].to_pylist() == days
    assert any("1001.0 is read as 1001" in note for note in index.notes)


def test_read_index__further_tables_are_added_by_key() -> None:
    first = _csv("ecg_id,path", "a,x", "b,y", "c,z")
    second = _csv("ecg_id,path,onset,end", "c,other,100,190.5", "a,other,170,29999", "d,other,1,2")
    index = _read([first, second], qrs_duration_ms=["onset", "end"])
    assert index.table["qrs_duration_ms"].to_pylist() == [None, None, 90.5]
    assert index.paths is not None
    assert index.paths.to_pylist() == ["x", "y", "z"]
    assert index.notes == ("1 rows of more1.csv are of no record of list.csv",)
    with pytest.raises(UsageError, match=r"more1.csv has 1 rows with a key that came earlier"):
        _read([first, _csv("ecg_id,end", "a,1", "a,2")])
    with pytest.raises(UsageError, match="expected ecg_id among them"):
        _read([first, _csv("id,end", "a,1", "b,2")])


@pytest.mark.parametrize(("text", "ms"), [("19.9", None), ("20", 20), ("500", 500), ("500.1", None), ("", None)])
def test_read_index__qrs_duration_has_limits(text: str, ms: float | None) -> None:
    index = _read(_csv("ecg_id,qrs,x", f"a,{text},1"), qrs_duration_ms="qrs")
    assert index.table["qrs_duration_ms"].to_pylist() == [ms]


def test_read_index__statements_become_codes() -> None:
    lines = (
        "ecg_id,s1,s2",
        "a,Atrial fibrillation,Left bundle branch block",
        "b,,",
        "c,Jane Marked,",
        "d,,Sinus rhythm",
    )
    index = _read(_csv(*lines), statements=["s1", "s2"])
    codes = [(row["rhythm"], row["conduction"], row["rhythm_source"]) for row in index.table.to_pylist()]
    assert codes == [
        ("af_flutter", "lbbb", "device"),
        (None, None, None),
        ("unknown", "unknown", "device"),
        ("sinus", "none", "device"),
    ]


def test_read_index__parquet_and_unread_columns() -> None:
    table = pa.table(
        {"ecg_id": [1, 2], "free text": ["x", "y"], "sex": ["f", "m"], "recorded_at": [dt.datetime(2020, 1, 2)] * 2}
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    index = _read(sink.getvalue(), "list.parquet")
    assert [(row["ecg_id"], row["sex"]) for row in _rows(index)] == [("1", "female"), ("2", "male")]
    assert index.table["recorded_at"].to_pylist() == [dt.datetime(2020, 1, 2)] * 2


def test_layout__of_a_user_changes_a_preset_column_by_column() -> None:
    layout = index_layout_of_file(
        b"preset: ptb-xl\npath: '{filename_lr}'\npeople:\n  columns: {age_years: years}\n  missing: [999]\n", "l.yaml"
    )
    data = _csv("ecg_id,patient_id,years,sex,filename_lr,filename_hr", "1,2,300,0,lr/1,hr/1", "3,4,999,1,lr/3,hr/3")
    index = read_index([("p.csv", data)], layout, rhythm_codes)
    assert index.paths is not None
    assert index.paths.to_pylist() == ["lr/1", "lr/3"]
    assert [(r.get("age_years"), r["sex"]) for r in _rows(index)] == [(300, "male"), (None, "female")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path: '{a'", "is no template"),
        ("ecg_id: '{a:>3}'", "expected the name of a column between braces"),
        ("ecg_id: '{}'", "expected the name of a column between braces"),
        ("paths: x", "is no setting"),
        ("preset: mimic", "mimic"),
        ("people: {columns: {a: b}, birth: c}", "is no setting"),
    ],
)
def test_layout__mistake_is_named_with_its_line(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as error:
        index_layout_of_file(text.encode(), "l.yaml")
    assert "line 1" in str(error.value)


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ({"path": "{file}"}, "file"),
        ({"ecg_id": "{key}"}, "key"),
        ({"recorded_at": "{day}"}, "day"),
        ({"qrs_duration_ms": "qrs"}, "qrs"),
        ({"qrs_duration_ms": ["on", "off"]}, "on, off"),
        ({"statements": ["report"]}, "report"),
        ({"people": {"columns": {"sex": ["gender", "geschlecht"]}}}, "gender or geschlecht"),
    ],
)
def test_read_index__column_that_a_layout_names_must_be_there(layout: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=f"columns ecg_id, path, x; expected {said} among them"):
        _read(_csv("ecg_id,path,x", "a,b,c"), **layout)


def test_read_index__date_that_cannot_be_read_is_refused_with_its_row() -> None:
    with pytest.raises(UsageError, match=r"row 2.*expected YYYY-MM-DD HH:MM:SS"):
        _read(_csv("ecg_id,recorded_at", "a,2020-01-02", "b,02.01.2020"))


@pytest.mark.parametrize("name", INDEX_PRESETS)
def test_presets__are_checked_and_whole(name: str) -> None:
    preset = INDEX_PRESETS[name]
    resolved = IndexLayout.model_validate({"preset": name}).resolved()
    assert resolved.model_dump(exclude={"preset"}) == preset.model_dump(exclude={"preset"})
    assert preset.ecg_id is not None
    assert "participant_id" in preset.people.columns
