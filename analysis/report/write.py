"""The two folders of a study: `export/`, which may leave, and `restricted/`, which must not."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.csv_files import write_csv, write_csv_in_parts
from analysis.disclosure.aggregates import NEVER, RESULT_COLUMNS, Aggregate, Column, Kind
from analysis.disclosure.masking import HIDDEN, Masked
from analysis.report.build import Rendered, results_of
from analysis.report.document import ReadTable
from analysis.report.figures.drawing import save
from analysis.report.latex import latex_table
from analysis.report.manuscript_files import write_manuscript
from analysis.report.page import NOT_CLINICAL, has_hidden, hidden_text, mark, render, render_figures, render_table
from analysis.report.topics.hazard_ratios import SDS, sd_by_sex_text
from analysis.report.word import write_word
from analysis.statistics.design import Category
from analysis.study.data import About, StudyData
from analysis.study.outcomes import CLUSTER, SD_OF_SEX, columns_of, models_of, time_columns
from analysis.study.settings import Study

MANIFEST: Final = "MANIFEST"
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_RESULTS: Final = "results_"
_META: Final = "results_for_meta_analysis.csv"
_META_COLUMNS: Final = {
    "cohort": "name of the cohort in the study file",
    "analysis": "topic",
    "outcome": "of the code list",
    "exposure": "column of the predictions",
    "contrast": "step of the exposure, or what is compared",
    "model": "number of the model",
    "adjustment": "covariates of the model",
    "strata": "classification or variant; empty for everybody",
    "level": "of strata",
    "log_hr": "logarithm of the hazard ratio",
    "se": "its standard error",
    "sd_used": "size of one step of the exposure, in the unit; empty where it differs by sex",
    "sd_by_sex": "size of one step in each sex, where it differs by sex",
    "unit": "of the exposure",
    "n_people": "people analysed",
    "n_ecgs": "ECGs analysed",
    "n_events": "people with the event",
    "se_type": "what the error allows for",
    "model_id": "of the predictions",
    "warnings": "what to know before quoting it",
}
_MODEL_ID: Final = "model_id"
_BOOLEANS: Final = frozenset({"primary"})
_FLOATS: Final = frozenset({"unit_value"})
_NOTICE: Final = """\
RESTRICTED, NOT FOR RELEASE: rows of single people and exact counts. Nothing in this folder may leave
the site of the data: neither the report, nor its tables, figures and Word files, which are those of
../export with every number exact. What may leave is in ../export. ../export/check.R reads this folder.
"""


def write_export(
    folder: Path, found: Rendered, *, constants: Mapping[str, str], texts: Mapping[str, str] | None = None
) -> None:
    """Write everything of a study that may leave to a folder, new or empty.

    `constants` are columns that every row of the results gets, as `training_overlap`, `model_id`,
    `versions`, `data_hash`; `cohort` names the study in the table for meta-analyses. `texts` are
    further files by name, such as a script, that hold nothing of people. Raise ValueError where a
    key cannot be the name of a file.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; expected a new folder")
    write_rendered(folder, found)
    _write_results(folder, found.masked, constants, found.report.about)
    for name, text in (texts or {}).items():
        (folder / name).write_text(text, encoding="utf-8")
    _write_manifest(folder)


def write_rendered(folder: Path, found: Rendered) -> None:
    """Write the report of a study with its tables, figures, Word files and data.

    Raise ValueError where a key cannot be the name of a file.
    """
    report, masked = found.report, found.masked
    tables, figures = report.tables(), report.figures()
    _check_names([*(one.key for one in tables), *(one.key for one in figures), *masked])
    for name in ("tables", "figures", "data"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for table in tables:
        _write_table(folder / "tables", table, report.about)
    if tables:
        write_word(tables, report.about, folder / "tables.docx")
    for figure in figures:
        path = folder / "figures" / figure.key
        save(figure.canvas, path.with_name(f"{figure.key}.svg"), path.with_name(f"{figure.key}.png"))
    (folder / "figures" / "index.html").write_text(render_figures(report), encoding="utf-8")
    if report.manuscript is not None:
        keys = [one.key for one in report.sections]
        notices = [*filter(None, [mark(report.about)]), *report.banners, NOT_CLINICAL]
        write_manuscript(folder / "manuscript", report.manuscript, report.title, notices, report.about, keys)
    (folder / "report.html").write_text(render(report), encoding="utf-8")
    _write_data(folder, masked)


def results_table(masked: Mapping[str, Masked], constants: Mapping[str, str]) -> pd.DataFrame:
    """Return the results of all topics, masked aggregates that begin with `results_`, as one table.

    It has the columns of RESULT_COLUMNS but NEVER; `masked`, which names the columns that masking
    hides in a row; `coarse`, which counts are rounded more than others; and the constants. A row
    that is not of one model of several has the constant `model_id`.
    """
    columns = _exported(RESULT_COLUMNS)
    parts = [one for key, one in masked.items() if key.startswith(_RESULTS) and len(one.rows)]
    made = pd.DataFrame({column.name: _joined(parts, column) for column in columns})
    hidden = [
        " ".join(column.name for column in columns if one.hidden.at[place, column.name])
        for one in parts
        for place in one.rows.index
    ]
    made["masked"] = pd.Series(hidden, index=made.index, dtype=object)
    made["coarse"] = pd.Series([text for one in parts for text in _coarse(one)], index=made.index, dtype=object)
    own = made[_MODEL_ID].where(made[_MODEL_ID] != "", str(constants.get(_MODEL_ID, "")))
    others = {name: str(value) for name, value in constants.items() if name != _MODEL_ID}
    return made.assign(**others, model_id=own)


def _coarse(one: Masked) -> list[str]:
    """The counts and person-years of each row that are rounded more than others."""
    kinds = (Kind.COUNT, Kind.PERSON_YEARS)
    names = [column.name for column in _exported(RESULT_COLUMNS) if column.kind in kinds]
    texts = {name: one.coarse(name) for name in names}
    return [
        " ".join(f"{name}{own[place]}" for name, own in texts.items() if own[place]) for place in range(len(one.rows))
    ]


def meta_analysis_table(results: pd.DataFrame, cohort: str, sds: Masked | None = None) -> pd.DataFrame:
    """Return log hazard ratios and their standard errors, for pooling with other cohorts.

    There is a row per hazard ratio that is not hidden. `sd_used` is the size of one step of the
    exposure, in its unit: cohorts differ in it, so ratios per SD are only comparable after
    rescaling. Where it differs by sex it is missing, and `sd_by_sex` has both as text, from `sds`,
    the masked table of `exposure_sds`.
    """
    known = (results["measure"] == "hazard ratio") & (results["estimate"] > 0)
    rows = results[known].reset_index(drop=True)
    ratios = rows["estimate"].to_numpy(dtype=float)
    by_sex = rows["unit"] == SD_OF_SEX
    texts = [
        sd_by_sex_text(sds, exposure, model) if is_by_sex else ""
        for exposure, model, is_by_sex in zip(rows["exposure"], rows[_MODEL_ID], by_sex, strict=True)
    ]
    made = rows.assign(
        cohort=cohort,
        log_hr=np.log(ratios),
        sd_used=rows["unit_value"].mask(by_sex),
        sd_by_sex=pd.Series(texts, index=rows.index, dtype=object),
    )
    return made[list(_META_COLUMNS)]


def tidy(masked: Masked) -> pd.DataFrame:
    """Return a masked aggregate as text: `HIDDEN` where hidden, empty where not applicable."""
    return pd.DataFrame(
        {
            column.name: [
                HIDDEN if hidden else "" if pd.isna(value) else _text(value, column.kind) + more
                for value, hidden, more in zip(
                    masked.rows[column.name], masked.hidden[column.name], masked.coarse(column.name), strict=True
                )
            ]
            for column in _exported(masked.columns)
        },
        index=masked.rows.index,
    )


def _exported(columns: tuple[Column, ...]) -> list[Column]:
    return [column for column in columns if column.name not in NEVER]


def _text(value: Any, kind: Kind) -> str:
    if kind == Kind.COUNT:
        return str(int(value))
    if kind in (Kind.LABEL, Kind.NOTE) and isinstance(value, str):
        return value
    # repr of a float is the shortest text that reads back as the same number.
    return repr(value.item() if isinstance(value, np.generic) else value)


def _joined(parts: list[Masked], column: Column) -> pd.Series[Any]:
    values = [value for one in parts for value in one.rows[column.name]]
    if column.kind == Kind.COUNT:
        return pd.Series(values, dtype="Int64")
    if column.name in _BOOLEANS:
        return pd.Series([None if value == "" else bool(value) for value in values], dtype=object)
    if column.kind not in (Kind.LABEL, Kind.NOTE) or column.name in _FLOATS:
        return pd.to_numeric(pd.Series(values, dtype=object), errors="coerce").astype(float)
    return pd.Series(["" if pd.isna(value) else str(value) for value in values], dtype=object)


def _check_names(keys: list[str]) -> None:
    bad = sorted({key for key in keys if not _FILE_NAME.fullmatch(key)})
    if bad:
        raise ValueError(
            f"{bad} cannot be names of files; expected letters, digits, '_', '-' and '.', "
            "not '.' at first, at most 100 of them"
        )


def _write_table(folder: Path, table: ReadTable, about: About) -> None:
    # By the mark at the beginning spreadsheets know that it is UTF-8, or dashes come out wrong.
    write_csv(table.cells.astype(str), folder / f"{table.key}.csv", encoding="utf-8-sig")
    (folder / f"{table.key}.html").write_text(render_table(table, about), encoding="utf-8")
    write_word([table], about, folder / f"{table.key}.docx")
    more = hidden_text(about) if has_hidden(table) else ""
    (folder / f"{table.key}.tex").write_text(latex_table(table, more), encoding="utf-8")


def _write_data(folder: Path, masked: Mapping[str, Masked]) -> None:
    meanings = []
    for key, one in masked.items():
        write_csv(tidy(one), folder / "data" / f"{key}.csv")
        meanings += [
            {"file": f"data/{key}.csv", "column": column.name, "kind": column.kind.value, "meaning": column.meaning}
            for column in _exported(one.columns)
        ]
    meanings += [
        {"file": _META, "column": name, "kind": "", "meaning": meaning} for name, meaning in _META_COLUMNS.items()
    ]
    names = ["file", "column", "kind", "meaning"]
    write_csv(pd.DataFrame(meanings, columns=names), folder / "columns.csv")


def _write_results(folder: Path, masked: Mapping[str, Masked], constants: Mapping[str, str], about: About) -> None:
    made = results_table(masked, constants)
    table = pa.Table.from_pandas(made, schema=_schema(constants), preserve_index=False)
    pq.write_table(table.replace_schema_metadata(None), folder / "results.parquet")
    write_csv(made, folder / "results.csv")
    pooled = meta_analysis_table(made, constants.get("cohort", about.name), masked.get(SDS))
    write_csv(pooled, folder / _META)


def _schema(constants: Mapping[str, str]) -> pa.Schema:
    fields = [pa.field(c.name, _type(c), metadata={"meaning": c.meaning}) for c in _exported(RESULT_COLUMNS)]
    texts = {
        "masked": "columns that masking hides in this row, with a space between them",
        "coarse": "what is rounded more than others in this row, and how far it may be off",
    }
    texts |= {name: "the same in every row" for name in constants if name != _MODEL_ID}
    fields += [pa.field(name, pa.string(), metadata={"meaning": meaning}) for name, meaning in texts.items()]
    return pa.schema(fields)


def _type(column: Column) -> pa.DataType:
    if column.kind == Kind.COUNT:
        return pa.int64()
    if column.name in _BOOLEANS:
        return pa.bool_()
    is_text = column.kind in (Kind.LABEL, Kind.NOTE) and column.name not in _FLOATS
    return pa.string() if is_text else pa.float64()


def _write_manifest(folder: Path) -> None:
    """Write checksums as `sha256sum --check` reads them."""
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}" for name in paths]
    (folder / MANIFEST).write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_restricted(folder: Path, data: StudyData, aggregates: Sequence[Aggregate]) -> None:
    """Write `restricted/`: follow-up by person, exact results, and what the models read."""
    known = {"provenance": dict(data.provenance), "sd": dict(data.sd)}
    write_follow_up(folder, data.study, data.follow_up, data.flow, known)
    rows = results_of(aggregates)
    own = rows["model_id"].where(rows["model_id"] != "", data.about.model_id)
    write_csv(rows.assign(model_id=own), folder / "results.csv")
    write_csv(data.codes_caught, folder / "codes_caught.csv")
    if data.study.hazard_ratios:
        ratios = next(one.rows for one in aggregates if one.key == "results_hazard_ratios")
        write_csv(ratios, folder / "hazard_ratios.csv")
        write_csv_in_parts(_analysis_data(data), folder / "analysis_data.csv")
        write_csv(_model_terms(data), folder / "models.csv")


def write_follow_up(
    folder: Path, study: Study, people: pd.DataFrame, flow: pd.DataFrame, known: Mapping[str, object] | None = None
) -> None:
    """Write follow-up by person, its flow, and the settings with what else study.json says."""
    folder.mkdir(parents=True)
    (folder / "README.txt").write_text(_NOTICE, encoding="utf-8")
    people.to_parquet(folder / "follow_up.parquet", index=False)
    write_csv(flow, folder / "flow.csv")
    settings = {"study": study.model_dump(mode="json"), **(known or {})}
    (folder / "study.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def check_script() -> str:
    """Return check.R."""
    return files("analysis").joinpath("check.R").read_text(encoding="utf-8")


def _analysis_data(data: StudyData) -> Iterator[pd.DataFrame]:
    """Yield what the Cox models read: analysed rows by outcome, people and clusters as numbers."""
    covariates = [name for model in models_of(data.study) for name in columns_of(model.covariates)]
    names = ["outcome", "time_days", "status", "exposure"]
    names += ["exposure_in_sd_of_sex", "lvh", "quartile", "model_id", *covariates]
    wanted = list(dict.fromkeys([*names, *time_columns(data.study).values(), CLUSTER]))
    people = pd.Index(data.follow_up["participant_id"].unique())
    for outcome in data.study.outcomes:
        own = data.analysed(outcome.name)
        table = own[[name for name in wanted if name in own]]
        yield table.assign(person=people.get_indexer(pd.Index(own["participant_id"])))


def _model_terms(data: StudyData) -> pd.DataFrame:
    rows = [
        {
            "model": model.number,
            "term": one if isinstance(one, str) else one.column,
            "kind": "category" if isinstance(one, Category) else "number",
            "reference": one.reference if isinstance(one, Category) else "",
        }
        for model in models_of(data.study)
        for one in model.covariates
    ]
    return pd.DataFrame(rows, columns=["model", "term", "kind", "reference"])
