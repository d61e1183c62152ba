"""UK Biobank's fields of first occurrences: which code each is of, and who reported it first."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import pyarrow.compute as pc

from lvm_core.errors import UsageError
from lvm_core.tables.raw import read_raw

# Data Showcase, first occurrences: from field 130000 each category of ICD-10 with three signs has a
# field of its date, followed by that of its source. This is the chapter of the circulation, which
# begins at field 131270; public analyses name I10 131286, I25 131306, I48 131350, I50 131354.
_FIRST_FIELD: Final = 131270
_CIRCULATION: Final = (
    "I00 I01 I02 I05 I06 I07 I08 I09 I10 I11 I12 I13 I15 I20 I21 I22 I23 I24 I25 I26 I27 I28 I30 I31 I32 I33 I34 I35 "
    "I36 I37 I38 I39 I40 I41 I42 I43 I44 I45 I46 I47 I48 I49 I50 I51 I52 I60 I61 I62 I63 I64 I65 I66 I67 I68 I69 I70 "
    "I71 I72 I73 I74 I77 I78 I79 I80 I81 I82 I83 I84 I85 I86 I87 I88 I89 I95 I97 I98 I99"
).split()
FIRST_OCCURRENCES: Final[Mapping[int, str]] = MappingProxyType(
    {_FIRST_FIELD + 2 * place: code for place, code in enumerate(_CIRCULATION)}
)
"""Code of ICD-10 by the field of its date; the field after it holds the source."""

# Data coding 2171: the source that reported first, alone (0) or before others (1).
REPORTERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(("20", "21", "death"), "death"),
        **dict.fromkeys(("30", "31", "primary"), "primary_care"),
        **dict.fromkeys(("40", "41", "hospital"), "hes"),
        **dict.fromkeys(("50", "51", "self-report"), "self_report"),
    }
)
"""Our sources by the code of the source of a first occurrence, or by the first of its words."""

_NAME: Final = re.compile(r"(?:participant\.)?p(\d+)")
_TITLE: Final = re.compile(r"Date ([A-Z]\d\d) first reported")


def occurrences_of_dictionary(data: bytes, name: str) -> dict[int, str]:
    """Return the codes of fields of first occurrences from the platform's data dictionary.

    It has the columns name (p131350) and title (Date I48 first reported (...)). Raise UsageError
    where it has not, or says something else of a field that is known here.
    """
    columns = read_raw(data, name).require(["name", "title"])
    found: dict[int, str] = {}
    for field, title in zip(*(pc.fill_null(one, "").to_pylist() for one in columns.values()), strict=True):
        of_name, of_title = _NAME.fullmatch(field.strip()), _TITLE.match(title.strip())
        if of_name and of_title:
            found[int(of_name[1])] = of_title[1]
    other = [field for field, code in found.items() if FIRST_OCCURRENCES.get(field, code) != code]
    if other:
        raise UsageError(
            f"{name} says that field {other[0]} is {found[other[0]]}, expected {FIRST_OCCURRENCES[other[0]]}"
        )
    return {**FIRST_OCCURRENCES, **found}
