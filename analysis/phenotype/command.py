"""The command `lvm-ai phenotype`: from a study to the files of genetic programs, or to OMOP."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd

from analysis.csv_files import write_csv
from analysis.output_folder import appearing_whole, refuse_foreign
from analysis.phenotype.genetics import Program, covariates_of, files_for, traits_of, write_table
from analysis.phenotype.omop import UNITS, omop_tables
from analysis.phenotype.people import IID, Choice, chosen_people
from analysis.phenotype.relatives import THIRD_DEGREE
from analysis.study.data import StudyData, read_study_data
from analysis.study.inputs import load_study
from lvm_core.command_line import ArgumentParser, add_share_option
from lvm_core.errors import UsageError
from lvm_core.wording import counted

_OMOP: Final = "omop"
_SAME: Final = "iid"
_COVARIATES: Final = "age_years,age_years_squared,sex,height_cm,weight_kg"
_MARK: Final = "phenotype.json"
_DISCLAIMER: Final = "Research software, not for clinical use."
_DEMO: Final = "The predictions are of a model that was trained on synthetic ECGs, or drawn: they mean nothing."


def main(argv: Sequence[str]) -> int:
    """Run `lvm-ai phenotype`; mistakes are raised."""
    args = _parser().parse_args(argv)
    folder: Path = args.output
    refuse_foreign(folder, _MARK, "lvm-ai phenotype", overwrite=args.overwrite)
    data = read_study_data(load_study(args.study))
    traits = _names(args.traits) or [name for name in UNITS if name in data.ecgs and data.ecgs[name].notna().any()]
    choice = Choice(
        identifiers=args.identifiers,
        keep=args.keep,
        where=dict(map(_condition, args.where)),
        sex=args.sex,
        relatives=args.relatives,
        least_kinship=args.least_kinship,
    )
    found = chosen_people(data, choice)
    about: dict[str, Any] = {
        "study": data.study.name,
        "for": args.program,
        "model_id": data.about.model_id,
        "people": [{"step": what, "n_people": n} for what, n in found.steps],
        "note": f"{_DEMO} {_DISCLAIMER}" if data.about.is_demo else _DISCLAIMER,
        "provenance": dict(data.provenance),
    }
    if args.program == _OMOP:
        algorithm = f"lvm-ai {data.provenance['lvm-ai']}, model {data.about.model_id}"
        tables = omop_tables(found.table, traits, algorithm, args.first_id)
        about["rows"] = {name: len(rows) for name, rows in tables.items()}
        _write(folder, {f"{name}.csv": rows for name, rows in tables.items()}, about)
    else:
        _write_genetics(folder, found.table, traits, args, about)
    sys.stdout.write(_text(folder, about, data))
    return 0


def _write_genetics(folder: Path, table: pd.DataFrame, traits: list[str], args: Any, about: dict[str, Any]) -> None:
    covariates = covariates_of(table, _names(args.covariates), args.more_covariates)
    values = traits_of(table, traits, normal=args.rint)
    fid = None if args.fid == _SAME else args.fid
    made = files_for(Program(args.program), table[IID], values, covariates, fid)
    about |= {"traits": traits, "covariates": list(map(str, covariates)), "command": made.command}
    about["transform"] = "rank-based inverse normal (Blom), among these people" if args.rint else "none"
    _write(folder, made.tables, about)


def _write(folder: Path, tables: Mapping[str, pd.DataFrame], about: Mapping[str, Any]) -> None:
    with appearing_whole(folder) as partial:
        for name, table in tables.items():
            if name.endswith(".csv"):
                write_csv(table, partial / name)
            else:
                write_table(table, partial / name)
        (partial / _MARK).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _condition(text: str) -> tuple[str, tuple[str, ...]]:
    column, equals, values = text.partition("=")
    if not equals or not column.strip() or not _names(values):
        raise UsageError(f"--where is {text!r}, expected COLUMN=VALUE or COLUMN=VALUE,VALUE")
    return column.strip(), tuple(_names(values))


def _text(folder: Path, about: Mapping[str, Any], data: StudyData) -> str:
    lines = [f"{counted(step['n_people'], 'person', form=',')}: {step['step']}" for step in about["people"]]
    lines += [f"written to {folder}: rows of people, which stay where the data are"]
    if "command" in about:
        lines += [f"to go on: {about['command']}"]
    if data.about.is_demo:
        lines.append(_DEMO)
    return "\n".join([*lines, ""])


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="lvm-ai phenotype",
        description="Write the predictions of a study as a phenotype: one index ECG of each person, for genetic "
        f"programs or as rows of OMOP. {_DISCLAIMER}",
    )
    parser.add_argument("study", type=Path, help="YAML file of the study, see docs/methods.md")
    parser.add_argument("--for", dest="program", choices=[*(one.value for one in Program), _OMOP], required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--traits", default="", metavar="NAME[,NAME...]", help="default: the predicted mass and index")
    parser.add_argument(
        "--covariates",
        default=_COVARIATES,
        metavar="NAME[,NAME...]",
        help="columns of the ECGs; NAME_squared is the square about the mean (default: %(default)s)",
    )
    parser.add_argument("--more-covariates", type=Path, metavar="F", help="table by IID, such as principal components")
    parser.add_argument("--rint", action="store_true", help="rank-based inverse normal transform; names end in _rint")
    parser.add_argument("--identifiers", type=Path, metavar="F", help="table of participant_id and IID")
    parser.add_argument(
        "--fid",
        choices=[_SAME, "0"],
        default=_SAME,
        help="FID of the genetic data: the IID again, or 0 where they have none (default: %(default)s)",
    )
    parser.add_argument("--sex", metavar="SEX", help="female or male alone")
    parser.add_argument(
        "--where", action="append", default=[], metavar="COLUMN=VALUE", help="only these, such as ethnicity=white"
    )
    parser.add_argument("--keep", type=Path, metavar="F", help="list of people, such as an ancestry")
    parser.add_argument("--relatives", type=Path, metavar="F", help="table of kinship: relatives are left out")
    parser.add_argument(
        "--least-kinship",
        type=float,
        default=THIRD_DEGREE,
        metavar="X",
        help="from which two people are relatives (default: %(default).4f, third degree)",
    )
    parser.add_argument("--first-id", type=int, default=1, metavar="N", help="of OMOP: first key of each table")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier output")
    add_share_option(parser)
    return parser
