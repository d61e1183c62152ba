"""Phenotype and covariate files of regenie, PLINK 2 and SAIGE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from analysis.phenotype.people import IID, table_of
from analysis.phenotype.transform import inverse_normal
from lvm_core.errors import UsageError

MISSING: Final = "NA"
_FID: Final = "FID"
_SEX_CODES: Final = {"female": 0.0, "male": 1.0}
_SQUARE: Final = "_squared"
_DIGITS: Final = "%.8g"


class Program(StrEnum):
    """What reads the files."""

    REGENIE = "regenie"
    PLINK = "plink"
    SAIGE = "saige"


@dataclass(frozen=True)
class Files:
    """What is written, by file name, and the command that reads it."""

    tables: Mapping[str, pd.DataFrame]
    command: str


def traits_of(table: pd.DataFrame, names: Sequence[str], *, normal: bool) -> pd.DataFrame:
    """Return traits as (n people, n traits) numbers, yes/no as 1 and 0; `normal` gives `NAME_rint`.

    Raise UsageError for an unknown name, for text, and for a trait that has one value.
    """
    made: dict[str, pd.Series] = {}
    for name in names:
        values = _numbers(table, name, "--traits")
        if values.nunique() < 2:
            raise UsageError(
                f"the trait {name} has {values.nunique()} values among these people; expected at least two"
            )
        if normal and not _is_binary(values):
            made[f"{name}_rint"] = pd.Series(inverse_normal(values.to_numpy()), values.index)
        else:
            made[name] = values
    return pd.DataFrame(made)


def covariates_of(table: pd.DataFrame, names: Sequence[str], more: Path | None) -> pd.DataFrame:
    """Return covariates as numbers: sex is 1 for male, `NAME_squared` the square about the mean.

    `more` is a table by IID, for example of principal components: all its columns are taken.
    """
    made: dict[str, pd.Series] = {}
    for name in names:
        if name == "sex":
            made[name] = table["sex"].map(_SEX_CODES).astype(float)
        elif name.endswith(_SQUARE) and name not in table:
            values = _numbers(table, name.removesuffix(_SQUARE), "--covariates")
            made[name] = (values - values.mean()) ** 2
        else:
            made[name] = _numbers(table, name, "--covariates")
    # One of a single sex has nothing to adjust for, and would make the model singular.
    made = {name: values for name, values in made.items() if name != "sex" or values.nunique() > 1}
    found = pd.DataFrame(made, index=table.index)
    return found if more is None else pd.concat([found, _more(table, more)], axis=1)


def _numbers(table: pd.DataFrame, name: str, option: str) -> pd.Series:
    known = [str(one) for one in table if pd.api.types.is_numeric_dtype(table[one])]
    if name not in known:
        raise UsageError(f"{option} names {name!r}; expected numbers or yes/no of the ECGs: {', '.join(known)}")
    return pd.Series(table[name].astype("Float64").to_numpy(dtype=float, na_value=np.nan), table.index)


def _more(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    raw = table_of(path, "--more-covariates")
    key = raw.find_first([IID, f"#{IID}"])
    if key is None:
        raise UsageError(f"{raw.described()}; expected {IID} and columns of numbers, for example PC1 to PC10")
    ids = key[1].to_pandas().astype(str).str.strip()
    if ids.duplicated().any():
        raise UsageError(f"{raw.name} has an {IID} twice; expected one row per person")
    columns = {}
    for name, cells in raw.columns:
        if name.lstrip("#") in (IID, _FID):
            continue
        values = pd.to_numeric(cells.to_pandas().replace({MISSING: None, "": None}), errors="coerce")
        if values.isna().all():
            raise UsageError(f"{raw.name} has a column {name} without numbers; leave it out")
        columns[name] = values
    found = pd.DataFrame(columns).set_axis(pd.Index(ids))
    joined = found.reindex(table[IID]).set_axis(table.index)
    if joined.isna().all(axis=None):
        raise UsageError(f"nobody of the study is in {raw.name}; are identifiers written in the same way?")
    return joined


def _is_binary(values: pd.Series) -> bool:
    return set(values.dropna().unique()) <= {0.0, 1.0}


def files_for(
    program: Program, iid: pd.Series, traits: pd.DataFrame, covariates: pd.DataFrame, fid: str | None = None
) -> Files:
    """Return the tables of a program, with yes/no as the program codes it.

    regenie and SAIGE read 1 and 0, PLINK 2 reads 2 for yes and 1 for no. `fid` is the FID of
    everybody; None where each person's FID is the IID, as in the files of UK Biobank.
    """
    binary = [str(name) for name in traits if _is_binary(traits[name])]
    numbers = [str(name) for name in traits if name not in binary]
    if program is Program.SAIGE:
        own = pd.concat([iid.rename(IID), traits, covariates], axis=1)
        kind = "binary" if not numbers else "quantitative"
        names = ",".join(map(str, covariates))
        command = (
            f"step1_fitNULLGLMM.R --phenoFile=phenotypes.txt --phenoCol={(numbers or binary)[0]} --traitType={kind} "
            f"--sampleIDColinphenoFile={IID} --covarColList={names} --plinkFile=GENOTYPES --outputPrefix=step1"
        )
        return Files({"phenotypes.txt": own}, command)
    first = f"#{_FID}" if program is Program.PLINK else _FID
    keys = pd.DataFrame({first: iid if fid is None else fid, IID: iid})
    shown = traits
    if program is Program.PLINK:
        shown = traits.assign(**{name: traits[name] + 1 for name in binary})
    tables = {
        "phenotypes.txt": pd.concat([keys, shown], axis=1),
        "covariates.txt": pd.concat([keys, covariates], axis=1),
    }
    if program is Program.PLINK:
        command = (
            "plink2 --pfile GENOTYPES --pheno phenotypes.txt --covar covariates.txt --covar-variance-standardize "
            "--glm hide-covar --out gwas"
        )
    else:
        of_kind = "--bt " if not numbers else ""
        chosen = ",".join(numbers or binary)
        command = (
            f"regenie --step 1 --bed GENOTYPES --phenoFile phenotypes.txt --phenoColList {chosen} --covarFile "
            f"covariates.txt {of_kind}--bsize 1000 --out step1"
        )
    return Files(tables, command)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table with tabs between its columns and `NA` where a value is missing."""
    path.write_text(table.to_csv(None, sep="\t", index=False, na_rep=MISSING, float_format=_DIGITS), encoding="utf-8")
