"""The code lists of a study: read from its files, and compared with what its records hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow as pa

from analysis.follow_up import FollowUp
from analysis.study.settings import Study
from lvm_core.errors import UsageError
from lvm_core.tables import read_code_table, read_published_codes, system_key, with_phecodes

SYSTEM_WORDS: Final = {
    "icd10": "ICD-10",
    "icd9": "ICD-9",
    "opcs4": "OPCS-4",
    "selfreport": "self-report",
    "cpt": "CPT",
    "snomed": "SNOMED CT",
    "omop": "OMOP concept",
    "read2": "Read v2",
    "read3": "Read v3",
    "phecode": "phecode",
    "phecodex": "phecodeX",
}
"""Coding systems as people write them."""
_SHOWN: Final = 5


def study_codes(study: Study) -> pd.DataFrame:
    """Return the codes of all lists of a study; columns as `read_code_table` has them.

    Raise UsageError where a list cannot be read, an outcome of the study has no codes, or
    `without_systems` names a system of which there are none.
    """
    inputs = study.inputs
    lists = [] if inputs.code_list is None else [read_code_table(_bytes_of(inputs.code_list), inputs.code_list.name)]
    for one in study.code_lists:
        data = _bytes_of(one.file)
        lists.append(read_published_codes(data, one.file.name, one.outcome, system=one.system, match=one.match))
    codes = pa.concat_tables(lists)
    if inputs.phecode_map is not None:
        codes = with_phecodes(codes, _bytes_of(inputs.phecode_map), inputs.phecode_map.name)
    return _of_study(study, pd.DataFrame(codes.to_pandas()))


def read_code_list(path: Path) -> pd.DataFrame:
    """Read a list of codes; columns as `lvm_core.tables.read_code_table` has them."""
    return pd.DataFrame(read_code_table(_bytes_of(path), path.name).to_pandas())


def _of_study(study: Study, codes: pd.DataFrame) -> pd.DataFrame:
    listed = sorted(set(codes["outcome"]))
    unlisted = [one.name for one in study.all_outcomes if one.name not in listed]
    if unlisted:
        raise UsageError(
            f"the code list {study.inputs.code_list or ''} has no codes of {', '.join(unlisted)}; it has the "
            f"outcomes {', '.join(listed)}"
        )
    absent = {system_key(one) for one in study.without_systems}
    unknown = sorted(absent - set(codes["system"]))
    if unknown:
        raise UsageError(
            f"without_systems names {', '.join(unknown)}, of which the code list has no code; it has "
            f"{', '.join(sorted(set(codes['system'])))}"
        )
    return pd.DataFrame(codes[~codes["system"].isin(absent)].reset_index(drop=True))


def refuse_unfound(study: Study, codes: pd.DataFrame, found: FollowUp) -> tuple[str, ...]:
    """Refuse outcomes and systems that no record has; return sentences where that is allowed."""
    own = codes[codes["outcome"].isin([one.name for one in study.all_outcomes])]
    held = set(found.records["system"].dropna())
    systems = [system for system in dict.fromkeys(own["system"]) if system not in held]
    outcomes = [one.name for one in study.all_outcomes if one.name in found.outcomes_without_records]
    problems = [_of_system(own, system) for system in systems]
    problems += [
        _of_outcome(own, name) for name in outcomes if not set(own[own["outcome"] == name]["system"]) <= {*systems}
    ]
    if not problems:
        return ()
    if study.allow_unknown:
        return tuple(f"{one}, as allow_unknown allows" for one in problems)
    absent = f"`without_systems: [{', '.join(systems)}]`" if systems else ""
    ways = " or ".join(filter(None, (absent, "`allow_unknown: true`")))
    raise UsageError(
        "".join(f"{one}\n" for one in problems)
        + f"The records hold {_held(found.records)}.\nIs a table of records missing, or the system written in another "
        f"way? Where these records really have none, write {ways} in the study file"
    )


def _of_system(codes: pd.DataFrame, system: str) -> str:
    rows = codes[codes["system"] == system]
    outcomes = ", ".join(dict.fromkeys(rows["outcome"]))
    return f"no record has a code of {system}, of which the code list has {_some(rows['code'])} (of {outcomes})"


def _of_outcome(codes: pd.DataFrame, name: str) -> str:
    rows = codes[codes["outcome"] == name]
    named = [f"{system} {code}" for system, code in zip(rows["system"], rows["code"], strict=True)]
    return f"no record has a code of the outcome {name}, which are {_some(named)}"


def _some(texts: Sequence[str] | pd.Series[str]) -> str:
    known = list(texts)
    return f"{', '.join(known[:_SHOWN])}{' ...' if len(known) > _SHOWN else ''}"


def _held(records: pd.DataFrame) -> str:
    """Return the systems of the records, each with its most frequent codes."""
    known = [
        f"{system} (as {', '.join(str(code) for code in codes if code is not None)})"
        for system, codes in zip(records["system"], records["codes"], strict=True)
        if isinstance(system, str)
    ]
    return "; ".join(known) or "no coding system"


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"code list {path} cannot be read: {error}") from error
