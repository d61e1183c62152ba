"""The folder that may leave: what is in it, and what is not."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from analysis.disclosure.aggregates import Aggregate, count, label, number, result, results
from analysis.disclosure.masking import Masked, MaskingRule, mask, mask_all
from analysis.report.build import Rendered
from analysis.report.document import ReadTable, Section
from analysis.report.page import Report
from analysis.report.topics.hazard_ratios import exposure_sds, sd_by_sex_text, sd_note
from analysis.report.write import meta_analysis_table, results_table, tidy, write_export
from tests.analysis.report.builders import study_data
from tests.analysis.report.sample_report import ABOUT, sample_report
from tests.analysis.report.variations import with_study

CONSTANTS = {"cohort": "invented", "training_overlap": "unknown", "model_id": "demo-synthetic"}
RULE = MaskingRule(k=10, base=5)


def _ratios() -> Masked:
    known = {"outcome": "af", "primary": True, "exposure": "lvmi_pred_g_m2", "model": "2"}
    rows = [
        result(
            "hazard_ratios",
            "hazard ratio",
            **known,
            contrast="per SD",
            unit_value=8.75,
            n_people=1003,
            n_events=102,
            n_events_fewest=102,
            estimate=2.0,
            se=0.25,
            p=0.001,
        ),
        result(
            "hazard_ratios",
            "hazard ratio",
            **known,
            contrast="LVH",
            unit_value=1.0,
            n_people=1003,
            n_events=102,
            n_events_fewest=7,
            estimate=3.0,
            se=0.5,
            p=0.01,
        ),
        result("hazard_ratios", "chi-square", **known, contrast="trend", n_people=1003, n_events=102, estimate=9.0),
    ]
    return mask(results("hazard_ratios", rows), RULE)


def _counts() -> Masked:
    columns = (
        label("group", "of people"),
        count("n_people", "people"),
        number("mean_g", "mean mass", "n_people"),
        count("n_events_fewest", "never shown"),
    )
    rows = pd.DataFrame({"group": ["=a", "b", "c"], "n_people": [23, 4, 0], "mean_g": [91.25, 80.0, None]}).assign(
        n_events_fewest=12
    )
    return mask(Aggregate("counts", rows, columns), RULE)


@pytest.fixture
def masked() -> dict[str, Masked]:
    return {"counts": _counts(), "results_hazard_ratios": _ratios()}


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "export"
    made = {"counts": _counts(), "results_hazard_ratios": _ratios()}
    write_export(folder, Rendered(made, sample_report()), constants=CONSTANTS)
    return folder


def test_write_export__each_table_and_figure_has_its_files(export: Path) -> None:
    report = sample_report()
    tables = {f"{one.key}.{end}" for one in report.tables() for end in ("csv", "html", "docx", "tex")}
    figures = {f"{one.key}.{end}" for one in report.figures() for end in ("svg", "png")}
    figures.add("index.html")
    assert {path.name for path in (export / "tables").iterdir()} == tables
    assert {path.name for path in (export / "figures").iterdir()} == figures
    assert {path.name for path in export.iterdir()} == {
        "report.html",
        "tables",
        "tables.docx",
        "figures",
        "data",
        "columns.csv",
        "results.csv",
        "results.parquet",
        "results_for_meta_analysis.csv",
        "MANIFEST",
    }


def test_write_export__manifest_has_the_checksum_of_every_file(export: Path) -> None:
    lines = (export / "MANIFEST").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    files = {
        path.relative_to(export).as_posix(): path
        for path in export.rglob("*")
        if path.is_file() and path.name != "MANIFEST"
    }
    assert listed == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}


def test_write_export__same_bytes_twice(export: Path, tmp_path: Path, masked: dict[str, Masked]) -> None:
    write_export(tmp_path / "again", Rendered(masked, sample_report()), constants=CONSTANTS)
    assert (tmp_path / "again" / "MANIFEST").read_text() == (export / "MANIFEST").read_text()


def test_write_export__a_table_reads_back_as_it_was(export: Path) -> None:
    table = sample_report().tables()[2]
    read = pd.read_csv(export / "tables" / f"{table.key}.csv", dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(read, table.cells)


def test_write_export__the_fewest_events_are_in_no_file(export: Path) -> None:
    for path in export.rglob("*"):
        if path.suffix in (".csv", ".html", ".svg"):
            assert "n_events_fewest" not in path.read_text(encoding="utf-8"), path.name
    assert "n_events_fewest" not in pq.read_schema(export / "results.parquet").names


def test_write_export__columns_are_described(export: Path) -> None:
    columns = pd.read_csv(export / "columns.csv")
    own = columns[columns["file"] == "data/counts.csv"]
    assert list(own["column"]) == ["group", "n_people", "mean_g"]
    assert list(own["meaning"]) == ["of people", "people", "mean mass"]


def test_tidy__hidden_is_a_star_and_not_applicable_is_empty() -> None:
    made = tidy(_counts())
    assert list(made["n_people"]) == ["25", "*", "0"]
    assert list(made["mean_g"]) == ["91.2", "*", ""]  # of 25 people: three digits


def test_write_export__a_label_is_no_formula(export: Path) -> None:
    assert list(pd.read_csv(export / "data" / "counts.csv")["group"]) == ["'=a", "b", "c"]


@pytest.mark.parametrize("text", ["-0.5 (-1.0 to 0.1)", "+3", "- 2 years", "60-69", "< 0.001"])
def test_tables__numbers_stay_as_they_are(text: str, tmp_path: Path) -> None:
    table = ReadTable("t", "T", pd.DataFrame({"a": ["x"], "b": [text]}))
    report = Report("R", ABOUT, (Section("s", "S", items=(table,)),), ())
    write_export(tmp_path / "e", Rendered({}, report), constants=CONSTANTS)
    read = pd.read_csv(tmp_path / "e" / "tables" / "t.csv", dtype=str)
    written = str(read["b"].iloc[0])
    assert written == (f"'{text}" if text.startswith("- ") else text)


def test_results_table__says_which_columns_are_hidden(masked: dict[str, Masked]) -> None:
    made = results_table(masked, CONSTANTS)
    # Also what there is not: a blank would show that there were too few people to estimate it.
    assert list(made["masked"]) == ["", "estimate se lo hi p p_ph q warnings", ""]
    assert list(made["n_people"]) == [1005, 1005, 1005]
    assert list(made["training_overlap"]) == ["unknown"] * 3
    assert list(made["primary"]) == [True, True, True]


def test_results_parquet__is_typed_and_described(export: Path) -> None:
    schema = pq.read_schema(export / "results.parquet")
    types = {name: str(schema.field(name).type) for name in schema.names}
    assert types["n_events"] == "int64"
    assert types["estimate"] == types["unit_value"] == types["person_years"] == "double"
    assert types["primary"] == "bool"
    assert types["outcome"] == types["masked"] == types["model_id"] == "string"
    assert schema.field("se").metadata[b"meaning"].startswith(b"standard error")
    assert all(schema.field(name).metadata[b"meaning"] for name in schema.names)


def test_results_csv__holds_what_the_parquet_file_holds(export: Path) -> None:
    parquet = pd.read_parquet(export / "results.parquet")
    read = pd.read_csv(export / "results.csv")
    assert list(read.columns) == list(parquet.columns)
    assert read["estimate"].tolist()[0] == 2.0
    assert math.isnan(read["estimate"].tolist()[1])
    assert read["n_events"].tolist() == parquet["n_events"].tolist() == [100, 100, 100]


def test_meta_analysis_table__has_logarithms_of_ratios_that_are_shown(masked: dict[str, Masked]) -> None:
    made = meta_analysis_table(results_table(masked, CONSTANTS), "invented")
    assert len(made) == 1
    row = made.iloc[0]
    assert row["log_hr"] == pytest.approx(0.6931471805599453)
    assert (row["se"], row["sd_used"], row["cohort"]) == (0.25, 8.75, "invented")
    assert (row["outcome"], row["contrast"], row["model"]) == ("af", "per SD", "2")


def test_write_export__without_results_or_tables_is_still_whole(tmp_path: Path) -> None:
    write_export(tmp_path / "e", Rendered({}, Report("R", ABOUT, (), ())), constants=CONSTANTS)
    assert pd.read_parquet(tmp_path / "e" / "results.parquet").empty
    assert not (tmp_path / "e" / "tables.docx").exists()


@pytest.mark.parametrize("key", ["../evil", "a/b", "", ".hidden", "a b", "x" * 101])
def test_write_export__a_key_that_is_no_file_name_is_refused(key: str, tmp_path: Path) -> None:
    table = ReadTable(key, "T", pd.DataFrame({"a": ["1"]}))
    report = Report("R", ABOUT, (Section("s", "S", items=(table,)),), ())
    with pytest.raises(ValueError, match="cannot be names of files"):
        write_export(tmp_path / "e", Rendered({}, report), constants=CONSTANTS)
    assert not (tmp_path / "e").exists()


def test_write_export__a_folder_with_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("a\n")
    with pytest.raises(ValueError, match="is not empty"):
        write_export(tmp_path, Rendered({}, sample_report()), constants=CONSTANTS)


def _by_sex() -> dict[str, Masked]:
    row = result(
        "hazard_ratios",
        "hazard ratio",
        outcome="af",
        exposure="lvmi_pred_g_m2",
        contrast="per SD of the own sex",
        unit="SD of the sex",
        unit_value=1.0,
        model=2,
        n_people=1000,
        n_ecgs=1000,
        n_events=100,
        estimate=2.0,
        se=0.25,
    )
    ten = row | {"contrast": "per 10", "unit": "g/m2", "unit_value": 10.0}
    sds = pd.DataFrame(
        {
            "model_id": "",
            "exposure": "lvmi_pred_g_m2",
            "sex": ["female", "male"],
            "sd": [8.41234, 9.5],
            "unit": "g/m2",
            "kind": "of everybody with an index ECG",
            "n_events_fewest": [500, 500],
        }
    )
    columns = exposure_sds(study_data(n=300)).columns
    made = [results("hazard_ratios", [row, ten]), Aggregate("exposure_sd", sds, columns)]
    return mask_all(made, MaskingRule(10, 5))


def test_meta_analysis_table__has_both_sds_where_they_differ_by_sex(tmp_path: Path) -> None:
    write_export(tmp_path / "e", Rendered(_by_sex(), Report("R", ABOUT, (), ())), constants=CONSTANTS)
    made = pd.read_csv(tmp_path / "e" / "results_for_meta_analysis.csv")
    assert made["sd_by_sex"].fillna("").tolist() == ["female 8.412 g/m2; male 9.5 g/m2", ""]
    assert made["sd_used"].fillna(0).tolist() == [0, 10]
    assert made["model_id"].tolist() == [CONSTANTS["model_id"]] * 2
    columns = pd.read_csv(tmp_path / "e" / "columns.csv")
    own = columns[columns["file"] == "results_for_meta_analysis.csv"]
    assert own["column"].tolist() == list(made.columns)
    assert own["meaning"].str.len().gt(3).all()
    sds = pd.read_csv(tmp_path / "e" / "data" / "exposure_sd.csv")
    assert "n_events_fewest" not in sds


def test_sd_by_sex_text__of_a_variant_is_that_of_the_main_analysis() -> None:
    found = _by_sex()["exposure_sd"]
    main = sd_by_sex_text(found, "lvmi_pred_g_m2", "one")
    assert main
    assert sd_by_sex_text(found, "lvmi_recal_g_m2", "one") == main


def test_sd_note__names_both_sexes_or_a_fixed_value() -> None:
    found = _by_sex()["exposure_sd"]
    assert sd_note(found, "lvmi_pred_g_m2") == (
        "One SD is 8.4 g/m2 in women and 9.5 g/m2 in men, of everybody with an index ECG."
    )
    data = with_study(study_data(n=300), sd=7.5)
    fixed = mask_all([exposure_sds(replace(data, sd={"exposure": 7.5}))], MaskingRule(0, 1))
    note = sd_note(fixed["exposure_sd"], "lvmi_pred_g_m2")
    assert note == "One SD is 7.5 g/m2, fixed in the study file."
