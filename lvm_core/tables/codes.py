"""Lists of codes of diseases: names of their systems, patterns, and lists of others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from lvm_core.errors import UsageError
from lvm_core.tables.raw import RawTable, decode, read_raw, refuse_rows

COLUMNS: Final = ("code", "system", "match", "outcome", "source", "comment")
"""Columns of a list of codes."""
_FILLED: Final = ("code", "system", "outcome")
EXACT, PREFIX, RANGE, DESCENDANTS = "exact", "prefix", "range", "descendants"
_MATCHES: Final = (PREFIX, EXACT, RANGE, DESCENDANTS)
_ROWS_NAMED: Final = 5

# What people call the coding systems, without blanks and signs. ICD-10-PCS and volume 3 of ICD-9-CM
# hold procedures: they are systems of their own.
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "icd10": ("icd10cm", "icd10who", "icd10am", "icd10gm", "icd10ca", "icd10uk", "icd10edition5"),
    "icd9": ("icd9cm", "icd9who"),
    "opcs4": ("opcs", "opcs47", "opcs48", "opcs49", "opcs410"),
    "cpt": ("cpt4",),
    "snomed": ("snomedct", "snomedctuk", "sct", "sctid", "snomedctus"),
    "phecode": ("phecode12", "phecodev12"),
    "phecodex": ("phecodexv10",),
    "selfreport": ("selfreported",),
    "read2": ("readv2", "readcodev2", "readcodesv2"),
    "read3": ("readv3", "ctv3", "readcodev3", "readcodesv3"),
    "omop": ("omopconcept", "omopconceptid", "conceptid"),
}
_KEY_OF: Final = {name: key for key, names in _NAMES.items() for name in names}


class _Form(NamedTuple):
    """How the codes of a system look, without dots and in upper case."""

    whole: re.Pattern[str]  # a code
    begins: re.Pattern[str]  # the beginning of a code
    words: str  # both in words


def _form(whole: str, begins: str, words: str) -> _Form:
    return _Form(re.compile(whole, re.ASCII), re.compile(begins, re.ASCII), words)


# ICD-10-CM has letters at the third and later places (C7A, T36.0X1A).
_FORMS: Final = {
    "icd10": _form(
        r"[A-Z]\d[0-9A-Z]{1,5}", r"[A-Z](\d[0-9A-Z]{0,5})?", "a letter, a digit and more, such as I48 or I21.4"
    ),
    "icd9": _form(
        r"(\d{3}|V\d\d|E\d{3})\d{0,2}|\d{3,4}", r"(\d{1,5}|[VE]\d{0,4})", "three to five digits, such as 427.3 or V45"
    ),
    "opcs4": _form(r"[A-Z]\d{2,3}", r"[A-Z]\d{0,3}", "a letter and two or three digits, such as K62.1"),
    "cpt": _form(r"\d{4}[0-9A-Z]|[A-Z]\d{4}", r"[0-9A-Z]\d{0,3}[0-9A-Z]?", "five signs, such as 93653"),
    "snomed": _form(r"\d{6,18}", r"\d{1,18}", "6 to 18 digits, such as 49436004; write the column as text"),
    "omop": _form(r"\d{1,10}", r"\d{1,10}", "a concept_id, such as 313217"),
    "phecode": _form(r"\d{1,5}", r"\d{1,5}", "a number such as 427.2"),
}
_FLAT: Final = frozenset({"snomed", "omop", "cpt", "read2", "read3"})
"""Systems in which a longer code is no kind of the shorter one; lists of them hold whole codes."""

_WILDCARD: Final = re.compile(r"\.?[*%+]|\.[-xX]", re.ASCII)
_BOUNDS: Final = re.compile(r"(?P<low>[A-Za-z0-9.]+)\s*(?:-|\u2013|\bto\b)\s*(?P<high>[A-Za-z0-9.]+)", re.ASCII)
_SEVERAL: Final = re.compile(r"[,;|]|[A-Za-z]?\d{2,}\S*\s+[A-Za-z]?\d{2,}", re.ASCII)
_OTHER_SIGNS: Final = re.compile(r"[*%?\[\](){}^$+\\]")
_FILLED_UP: Final = re.compile(r"[A-Z]\d[0-9A-Z]X", re.ASCII)


def code_key(code: str) -> str:
    """Return a code without dots and blanks, in upper case: I48.0 and i480 are one."""
    return re.sub(r"[.\s]", "", code).upper()


def system_key(system: str) -> str:
    """Return a coding system by its one name here: ICD-10, ICD10CM and icd_10 are icd10."""
    plain = re.sub(r"[\s.\-_/()]", "", system).lower()
    plain = re.sub(r"(?<=.)codes?$", "", plain) if not plain.startswith("phecode") else plain
    return _KEY_OF.get(plain, plain)


def without_filler(code: str, system: str) -> str:
    """Return a key of ICD-10 without the X that fills it up to four signs: I48X is I48."""
    return code[:3] if system == "icd10" and _FILLED_UP.fullmatch(code) else code


def read_code_table(data: bytes, name: str) -> pa.Table:
    """Read a list of codes.

    The columns are code, system (icd10, icd9, opcs4, cpt, snomed, omop, phecode, self-report ...),
    match, outcome, source (where the list comes from) and comment. They are returned as text
    without blanks around, with `code` and `system` as `code_key` and `system_key` make them.

    `match` is "prefix", "exact", or "descendants" for concepts of SNOMED and OMOP with everything
    below them. A code may be a range (I48-I49, both ends with all their subcodes) or end in a
    wildcard (`I48*`, `I48%`, `I48+`, `I48.x`, `I48.-`): then `match` becomes "range" and "prefix".

    Raises:
        UsageError: the file cannot be read, a column is missing, a value is empty where it must
            not be, `code` holds numbers with a decimal point, `match` is another word, or a code
            cannot be one of its system; the first row is 1.
    """
    raw = read_raw(data, name)
    found = raw.require(COLUMNS)
    if pa.types.is_floating(found["code"].type):
        raise UsageError(
            f"{name}: code holds numbers with a decimal point, so that leading zeros and dots of "
            "codes are lost; expected text. Write the column as text"
        )
    texts = {column: _texts(cells) for column, cells in found.items()}
    for column in _FILLED:
        bad = pa.array([not text for text in texts[column]])
        refuse_rows(f"code list {name}", bad, f"no {column}", "a value")
    other = pa.array([text not in _MATCHES for text in texts["match"]])
    refuse_rows(f"code list {name}", other, "another match", " or ".join(_MATCHES))
    return _checked(texts, name)


def _texts(cells: pa.Array) -> list[str]:
    return list(pc.fill_null(pc.utf8_trim_whitespace(pc.cast(cells, pa.string())), "").to_pylist())


def _checked(texts: Mapping[str, list[str]], name: str) -> pa.Table:
    """Return a list whose codes are patterns of their systems; refuse rows whose codes are none."""
    systems = [system_key(system) for system in texts["system"]]
    made, problems = [], []
    for row, (code, system, match) in enumerate(zip(texts["code"], systems, texts["match"], strict=True), start=1):
        try:
            made.append(_pattern(code, system, match))
        except ValueError as error:
            problems.append(f"row {row}: {error}")
    if problems:
        shown = "\n".join(f"  {one}" for one in problems[:_ROWS_NAMED])
        more = f"\n  and {len(problems) - _ROWS_NAMED} more" if len(problems) > _ROWS_NAMED else ""
        raise UsageError(f"code list {name} has codes that find nothing or something else:\n{shown}{more}")
    columns = dict(texts) | {"code": [code for code, _ in made], "match": [match for _, match in made]}
    return pa.table({**{column: pa.array(columns[column], pa.string()) for column in COLUMNS}, "system": systems})


def _pattern(code: str, system: str, match: str) -> tuple[str, str]:
    """Return a code or range without dots, and how it is matched; ValueError says what is wrong."""
    if match == DESCENDANTS and system not in ("snomed", "omop"):
        raise ValueError(
            f"{code} of {system} has the match descendants, expected prefix or exact; only SNOMED and "
            "OMOP concepts have descendants"
        )
    if _SEVERAL.search(code):
        raise ValueError(f"{code!r} is several codes, expected one in each row")
    bounds = _BOUNDS.fullmatch(code) if system not in ("phecodex", "selfreport") else None
    if match == RANGE and bounds is None:
        raise ValueError(f"{code!r} has the match range, expected two codes with a hyphen between, as I48-I49")
    if bounds is not None:
        return _range(code, code_key(bounds["low"]), code_key(bounds["high"]), system), RANGE
    wildcard = next((found for found in _WILDCARD.finditer(code) if found.end() == len(code)), None)
    if wildcard is not None and wildcard.start():
        if match == EXACT:
            raise ValueError(f"{code!r} has a wildcard and the match exact, expected prefix")
        code, match = code[: wildcard.start()], PREFIX
    if _OTHER_SIGNS.search(code) and system in _FORMS:
        raise ValueError(
            f"{code!r} has a wildcard inside, expected it at the end, as I48*; write one row for each code"
        )
    key = without_filler(code_key(code), system)
    _refuse_other_system(code, key, system, is_whole=match != PREFIX)
    return key, match


def _range(code: str, low: str, high: str, system: str) -> str:
    """Return a range of codes as low-high, both ends with their subcodes."""
    shape = [re.sub(r"\d", "9", re.sub(r"[A-Z]", "A", bound))[:3] for bound in (low, high)]
    if shape[0] != shape[1]:
        raise ValueError(f"{code!r} is a range between codes of other forms, expected such as I48-I49 or 410-414")
    if low[: len(high)] > high:
        raise ValueError(f"{code!r} is a range that ends before it begins, expected the smaller code first")
    for bound in (low, high):
        _refuse_other_system(code, bound, system, is_whole=False)
    return f"{low}-{high}"


def _refuse_other_system(code: str, key: str, system: str, *, is_whole: bool) -> None:
    form = _FORMS.get(system)
    if form is None or (form.whole if is_whole else form.begins).fullmatch(key):
        return
    fitting = [other for other in ("icd10", "icd9", "opcs4", "snomed") if _FORMS[other].whole.fullmatch(key)]
    hint = f". Is it {' or '.join(fitting)}?" if fitting else ""
    raise ValueError(f"{code!r} is no code of {system}, expected {form.words}{hint}")


# Lists as others publish them.

_CODES_OF: Final[Mapping[str, str]] = {
    "code": "",
    "icd10code": "icd10",
    "icd10_code": "icd10",
    "icd10": "icd10",
    "icd9code": "icd9",
    "icd9_code": "icd9",
    "opcs4code": "opcs4",
    "opcs4_code": "opcs4",
    "cptcode": "cpt",
    "cpt_code": "cpt",
    "snomedctcode": "snomed",
    "snomedcode": "snomed",
    "snomed_code": "snomed",
    "snomedct_code": "snomed",
    "conceptid": "snomed",
    "readcode": "read2",
    "concept_id": "omop",
    "id": "",
}
"""Names of the column of codes, with the system that they state."""
_SYSTEM_COLUMNS: Final = (
    "coding_system",
    "code_system",
    "codingsystem",
    "system",
    "vocabulary_id",
    "vocabulary",
    "terminology",
)


def read_published_codes(
    data: bytes, name: str, outcome: str, *, system: str | None = None, match: str | None = None
) -> pa.Table:
    """Read a list of codes of one outcome in a shape in which others publish lists.

    OpenCodelists (code, term), the HDR UK Phenotype Library (code, description, coding_system,
    ...), CALIBER (ICD10code, OPCS4code, Readcode ...), and ATLAS' concept sets (JSON). Codes that
    a list leaves out (isExcluded) are refused, because their descendants would stay.

    Args:
        data: content of the file.
        name: of the file, for messages.
        outcome: that the codes belong to.
        system: coding system, where the file does not say it.
        match: "exact" or "prefix"; where None, codes of SNOMED, OMOP, CPT and Read are exact.

    Raises:
        UsageError: it has no column of codes, the coding system or the match is not known, or a
            code cannot be one of its system.
    """
    if name.lower().endswith(".json"):
        return _concept_set(data, name, outcome)
    raw = read_raw(data, name)
    column = raw.find_first(tuple(_CODES_OF))
    if column is None:
        raise UsageError(f"{raw.described()}; expected a column of codes: {', '.join(_CODES_OF)}")
    own, cells = column
    given = _texts(cells)
    rows = [row for row, code in enumerate(given) if code]
    codes = [given[row] for row in rows]
    systems = _systems(raw, rows, system or _CODES_OF[own] or None)
    texts = {
        "code": codes,
        "system": systems,
        "match": [_match(raw.name, system_key(one), match) for one in systems],
        "outcome": [outcome] * len(codes),
        "source": [name] * len(codes),
        "comment": [""] * len(codes),
    }
    return _checked(texts, name)


def _systems(raw: RawTable, rows: list[int], stated: str | None) -> list[str]:
    found = raw.find_first(_SYSTEM_COLUMNS)
    if stated is not None:
        return [stated] * len(rows)
    if found is None:
        raise UsageError(
            f"{raw.described()}; no column states the coding system. Write it beside the file, as in "
            "`{outcome: af, file: af.csv, system: snomed}`"
        )
    texts = _texts(found[1])
    return [texts[row] for row in rows]


def _match(name: str, system: str, stated: str | None) -> str:
    if stated is None and system not in _FLAT:
        raise UsageError(
            f"{name} does not say whether a code of {system} holds its subcodes; write `match: prefix` (I48 finds "
            "I48.1) or `match: exact` beside the file"
        )
    return stated or EXACT


def _concept_set(data: bytes, name: str, outcome: str) -> pa.Table:
    text, _ = decode(data, name)
    try:
        given = json.loads(text)
        items = list(_items(given["expression"] if "expression" in given else given))
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{name} is no concept set; expected the JSON that ATLAS exports, with items that hold a concept"
        ) from error
    if any(is_excluded for _, is_excluded, _ in items):
        raise UsageError(
            f"{name} leaves out concepts (isExcluded); expected a set without: resolve it in ATLAS, and give its "
            "included concepts as CSV"
        )
    n = len(items)
    matches = [DESCENDANTS if has_descendants else EXACT for _, _, has_descendants in items]
    texts = {
        "code": [code for code, _, _ in items],
        "system": ["omop"] * n,
        "match": matches,
        "outcome": [outcome] * n,
        "source": [name] * n,
        "comment": [""] * n,
    }
    return _checked(texts, name)


def _items(expression: Mapping[str, Any]) -> Iterator[tuple[str, bool, bool]]:
    for item in expression["items"]:
        is_excluded, has_descendants = (bool(item.get(flag)) for flag in ("isExcluded", "includeDescendants"))
        yield str(item["concept"]["CONCEPT_ID"]), is_excluded, has_descendants


# Phecodes.

_PHECODES: Final = ("phecode", "phecodex", "phewas_code")
_OF_PHECODES: Final[Mapping[str, str]] = {
    "icd10cm": "icd10",
    "icd10": "icd10",
    "icd9": "icd9",
    "icd9cm": "icd9",
    "icd": "",
    "code": "",
}
_VOCABULARIES: Final = ("vocabulary_id", "flag", "code_type", "icd_version")


def with_phecodes(codes: pa.Table, data: bytes, name: str) -> pa.Table:
    """Return a list in which phecodes are the ICD codes of a map: the phecode's and those below it.

    The map is a table with phecode, ICD, and vocabulary_id (or flag: 9 or 10), or with a column
    ICD9 or ICD10 alone, as the maps of phecodes are published.

    Raises:
        UsageError: the map lacks these columns, or has no code of one of the phecodes.
    """
    raw = read_raw(data, name)
    phecode, icd, kind = (raw.find_first(names) for names in (_PHECODES, tuple(_OF_PHECODES), _VOCABULARIES))
    if phecode is None or icd is None or (kind is None and not _OF_PHECODES[icd[0]]):
        raise UsageError(
            f"{raw.described()}; expected a map of phecodes: phecode, ICD and vocabulary_id, or phecode "
            "and ICD10 or ICD9"
        )
    systems = [_OF_PHECODES[icd[0]]] * raw.n_rows if kind is None else [_icd_of(text) for text in _texts(kind[1])]
    known = list(zip(_texts(phecode[1]), _texts(icd[1]), systems, strict=True))
    rows: list[dict[str, str]] = []
    for row in codes.to_pylist():
        if row["system"] not in ("phecode", "phecodex"):
            rows.append(row)
            continue
        below = [(code, system) for its, code, system in known if code and _is_below(its, row["code"])]
        if not below:
            raise UsageError(f"{name} has no ICD code of phecode {row['code']} of outcome {row['outcome']}")
        comment = f"phecode {row['code']}"
        made = {"match": EXACT, "outcome": row["outcome"], "source": row["source"], "comment": comment}
        pairs = dict.fromkeys((code_key(code), system) for code, system in below)
        rows += [{"code": code, "system": system, **made} for code, system in pairs]
    return pa.Table.from_pylist(rows, schema=pa.schema([(column, pa.string()) for column in COLUMNS]))


def _icd_of(text: str) -> str:
    key = system_key(text)
    return {"9": "icd9", "10": "icd10"}.get(key, key)


def _is_below(phecode: str, wanted: str) -> bool:
    """Return whether a phecode is another, which is written without its dot, or below it."""
    whole, _, decimals = phecode.partition(".")
    digits = f"{whole}{decimals}".upper()
    return digits == wanted or (digits.startswith(wanted) and len(wanted) >= len(whole))
