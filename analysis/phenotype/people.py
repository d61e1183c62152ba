"""The people of a phenotype: one index ECG each, chosen step by step, each step with its count."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pandas as pd

from analysis.phenotype.relatives import related_pairs, without_relatives
from analysis.study.data import SEXES, StudyData
from lvm_core.errors import UsageError
from lvm_core.tables import read_people_list
from lvm_core.tables.raw import RawTable, decode, read_raw

IID: Final = "IID"
_BLANKS: Final = re.compile(r"[ \t]+")
_SEPARATORS: Final = (",", ";", "\t", "|")


@dataclass
class Chosen:
    """The people who are left, and how many were left after each step."""

    table: pd.DataFrame  # a row per person: participant_id, IID and the columns of `StudyData.ecgs`
    steps: list[tuple[str, int]] = field(default_factory=list)  # what was asked, people left

    def keep(self, what: str, wanted: pd.Series) -> None:
        """Keep the rows where `wanted` is true, and note how many people that leaves."""
        self.table = self.table[wanted.fillna(False).astype(bool)].reset_index(drop=True)
        self.steps.append((what, len(self.table)))
        if self.table.empty:
            raise UsageError(f"nobody is left after the step: {what}. Are identifiers written in the same way?")


@dataclass(frozen=True)
class Choice:
    """Which people of a study are wanted."""

    identifiers: Path | None = None  # table of participant_id and IID, where genetic data have other identifiers
    keep: Path | None = None  # list of people, for example of an ancestry
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # values of columns of the study
    sex: str | None = None  # "female" or "male"
    relatives: Path | None = None  # table of kinship
    least_kinship: float = 0.0  # from which two people are relatives


def table_of(path: Path, called: str) -> RawTable:
    """Read a table whose columns are parted by a delimiter, or by blanks as in genetic programs."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{called} {path} cannot be read: {error}") from error
    name = f"{called} {path.name}"
    first = data[:65_536].partition(b"\n")[0]
    if first.startswith(b"PAR1") or any(separator.encode() in first for separator in _SEPARATORS):
        return read_raw(data, name)
    text, _ = decode(data, name)
    lines = (_BLANKS.sub("\t", line.strip()) for line in text.split("\n"))
    return read_raw("\n".join(lines).encode(), name)


def chosen_people(data: StudyData, choice: Choice) -> Chosen:
    """Return the people of a study who are wanted, each with the first index ECG."""
    ecgs = data.ecgs.sort_values(["participant_id", "index_date", "ecg_id"], kind="stable")
    found = Chosen(ecgs.drop_duplicates("participant_id").reset_index(drop=True))
    found.steps.append(("people with an index ECG after the exclusions of the study", len(found.table)))
    _add_identifiers(found, choice.identifiers)
    if choice.sex is not None:
        if choice.sex not in SEXES:
            raise UsageError(f"--sex is {choice.sex!r}, expected {' or '.join(SEXES)}")
        found.keep(choice.sex, found.table["sex"] == choice.sex)
    for column, values in choice.where.items():
        found.keep(f"{column} is {' or '.join(values)}", _is_one_of(found.table, column, values))
    if choice.keep is not None:
        found.keep(f"in the list {choice.keep.name}", found.table["participant_id"].isin(_listed(choice.keep)))
    if choice.relatives is not None:
        pairs = related_pairs(table_of(choice.relatives, "--relatives"), choice.least_kinship)
        removed = without_relatives(found.table[IID], pairs)
        what = f"no two with a kinship of {choice.least_kinship:.4g} or more"
        found.keep(what, ~found.table[IID].isin(removed))
    return found


def _add_identifiers(found: Chosen, path: Path | None) -> None:
    if path is None:
        found.table = found.table.assign(**{IID: found.table["participant_id"]})
    else:
        columns = table_of(path, "--identifiers").require(["participant_id", IID])
        own = pd.DataFrame({name: cells.to_pandas().astype(str).str.strip() for name, cells in columns.items()})
        for name in own:
            if own[name].duplicated().any():
                raise UsageError(f"--identifiers {path.name} has a {name} twice; expected one row per person")
        found.table = found.table.merge(own, on="participant_id", how="left")
        found.keep(f"with an identifier in {path.name}", found.table[IID].notna())
    blank = found.table[IID].str.contains(r"\s") | (found.table[IID] == "0")
    if blank.any():
        raise UsageError(
            f"identifiers of {int(blank.sum())} people hold a blank or are 0, which genetic programs cannot read; "
            "give others with --identifiers (columns participant_id and IID)"
        )


def _is_one_of(table: pd.DataFrame, column: str, values: Sequence[str]) -> pd.Series:
    if column not in table:
        raise UsageError(
            f"--where names {column}, which the ECGs of the study do not have; expected one of "
            f"{', '.join(map(str, table))}. A column of the participants is there when it is a covariate of the study, "
            "region or ethnicity"
        )
    texts = table[column].map(_text)
    wanted = texts.isin(values)
    if not wanted.any():
        shown = ", ".join(sorted(set(texts.dropna()))[:12])
        raise UsageError(f"nobody has {column} {' or '.join(values)}; it has {shown}")
    return wanted


def _text(value: object) -> str | None:
    """Return a value as people write it: 1 for 1.0."""
    if pd.isna(value):  # type: ignore[call-overload]
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _listed(path: Path) -> frozenset[str]:
    try:
        return frozenset(read_people_list(path.read_bytes(), f"--keep {path.name}").people)
    except OSError as error:
        raise UsageError(f"--keep {path} cannot be read: {error}") from error
