"""Which codes of the code list the records hold: hits per code, and codes never seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pandas as pd

from analysis.report import meanings
from analysis.report.aggregates import Aggregate, count, label
from analysis.report.document import About, ReadTable, Section
from analysis.report.masking import Masked
from analysis.report.study_data import StudyData

_LABELS: Final = {
    "outcome": "that the code belongs to",
    "system": "coding system",
    "code": "without dots",
    "match": "prefix or exact",
    "source": "of the list",
    "comment": "of the list",
}

_SYSTEMS: Final = {
    "icd10": "ICD-10",
    "icd9": "ICD-9",
    "opcs4": "OPCS-4",
    "selfreport": "self-report",
    "cpt": "CPT",
    "phecode": "phecode",
}


def aggregates(data: StudyData) -> list[Aggregate]:
    """Return the code list with the records and people of the cohort that each code found."""
    columns = (
        *(label(name, text) for name, text in _LABELS.items()),
        count("n_records", "distinct records of people of the cohort, from any source"),
        count("n_people", "people of the cohort with such a record, at any time"),
    )
    names = [column.name for column in columns]
    table = data.code_hits[names].reset_index(drop=True)
    return [Aggregate("code_hits", table, columns, counts=meanings.code_hits(table))]


def present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return hits by code, codes never seen, and where the lists come from."""
    hits = masked.get("code_hits")
    if hits is None:
        return None
    rows = hits.rows
    outcome = rows["outcome"].map(lambda name: about.outcomes.get(name, name.replace("_", " ")))
    system = rows["system"].map(lambda name: _SYSTEMS.get(name, name))
    cells = pd.DataFrame(
        {
            "Outcome": outcome,
            "System": system,
            "Code": rows["code"].where(rows["match"] == "exact", rows["code"] + "…"),
            "Records": hits.shown("n_records"),
            "People": hits.shown("n_people"),
        }
    )
    notes = (
        "… stands for any code that begins so. A person can have several codes; records count at "
        "any time, before and after the index ECG.",
    )
    tables = [ReadTable("code_hits", "Records and people by code", cells, 3, notes)]
    # A hidden count is not 0: somebody has the code.
    never = (rows["n_records"] == 0) & ~hits.hidden["n_records"]
    if never.any():
        named = rows["code"] + " (" + system + ")"
        unseen = named[never].groupby(outcome[never], sort=False).agg(", ".join)
        cells = pd.DataFrame({"Outcome": unseen.index, "Codes": unseen.to_numpy()})
        tables.append(ReadTable("codes_never_seen", "Codes never seen in these records", cells))
    sources = pd.DataFrame({"Outcome": outcome, "Source": rows["source"]}).drop_duplicates()
    tables.append(ReadTable("code_sources", "Where the code list comes from", sources.reset_index(drop=True)))
    paragraph = (
        "The code lists that Khurshid et al. 2021 used are not known here. A code that is never "
        "seen may be rare, retired, or written otherwise in these records."
    )
    return Section("code_lists", "Code lists", (paragraph,), tuple(tables))
