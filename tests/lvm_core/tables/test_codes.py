"""Lists of codes: patterns, names of coding systems, lists of others, phecodes."""

from __future__ import annotations

import json

import pytest

from lvm_core.errors import UsageError
from lvm_core.tables import read_code_table, read_published_codes, system_key, with_phecodes

HEADER = "code,system,match,outcome,source,comment\n"


def _row(code: str, system: str = "icd10", match: str = "prefix") -> tuple[str, str]:
    """Return the code and the match of a list of one row."""
    read = read_code_table(f'{HEADER}"{code}",{system},{match},af,s,\n'.encode(), "codes.csv").to_pylist()
    assert len(read) == 1
    return read[0]["code"], read[0]["match"]


@pytest.mark.parametrize("code", ["I48", "i48", "I48*", "I48.*", "I48%", "I48+", "I48.x", "I48.X", "I48.-", "I48X"])
def test_wildcards_at_the_end__are_prefixes(code: str) -> None:
    assert _row(code) == ("I48", "prefix")


@pytest.mark.parametrize(
    ("code", "system", "expected"),
    [
        ("I48-I49", "icd10", "I48-I49"),
        ("I48 - I49.9", "icd10", "I48-I499"),
        ("I21.0–I21.4", "ICD-10-CM", "I210-I214"),
        ("410 to 414", "icd9", "410-414"),
        ("K62.1-K62.4", "OPCS-4", "K621-K624"),
        ("93650-93657", "CPT", "93650-93657"),
    ],
)
@pytest.mark.parametrize("match", ["prefix", "range"])
def test_ranges__keep_both_ends(code: str, system: str, expected: str, match: str) -> None:
    assert _row(code, system, match) == (expected, "range")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("ICD10CM", "icd10"),
        ("ICD-10-CM", "icd10"),
        ("icd_10", "icd10"),
        ("ICD10 codes", "icd10"),
        ("ICD-9-CM", "icd9"),
        ("OPCS-4.9", "opcs4"),
        ("CPT4", "cpt"),
        ("SNOMED  CT codes", "snomed"),
        ("self_report", "selfreport"),
        ("Read codes v2", "read2"),
        ("Phecode", "phecode"),
        ("ICD10PCS", "icd10pcs"),
        ("codes", "codes"),
        ("our own", "ourown"),
    ],
)
def test_system_key__is_one_for_all_names_of_a_system(name: str, key: str) -> None:
    assert system_key(name) == key


@pytest.mark.parametrize(
    ("code", "system", "match", "message"),
    [
        ("427.3", "icd10", "prefix", "row 1: '427.3' is no code of icd10, expected a letter.*Is it icd9"),
        ("I48", "icd9", "exact", "'I48' is no code of icd9.*Is it icd10 or opcs4"),
        ("I48.0", "opcs4x", "range", "has the match range, expected two codes"),
        ("I48*", "icd10", "exact", "has a wildcard and the match exact, expected prefix"),
        ("I4*8", "icd10", "prefix", "has a wildcard inside, expected it at the end"),
        ("I4[78]", "icd10", "prefix", "has a wildcard inside"),
        ("I48, I49", "icd10", "prefix", "is several codes, expected one in each row"),
        ("I48 I49", "icd10", "prefix", "is several codes"),
        ("I20-25", "icd10", "prefix", "range between codes of other forms, expected such as I48-I49"),
        ("I49-I48", "icd10", "prefix", "ends before it begins"),
        ("I48-I49", "icd9", "prefix", "is no code of icd9"),
        ("4.9436E07", "snomed", "exact", "is no code of snomed.*write the column as text"),
        ("4.9436E+07", "snomed", "exact", "has a wildcard inside"),
        ("I4", "icd10", "exact", "is no code of icd10"),
        ("I48", "icd10", "descendants", "only SNOMED and OMOP concepts have descendants"),
    ],
)
def test_codes_that_find_nothing_or_something_else__are_refused(
    code: str, system: str, match: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        _row(code, system, match)


def test_refusal__names_five_rows_and_counts_the_others() -> None:
    rows = "".join(f"427.{i},icd10,prefix,af,s,\n" for i in range(7))
    with pytest.raises(UsageError, match=r"(?s)row 1: .*row 5: .*and 2 more") as refusal:
        read_code_table((HEADER + rows).encode(), "codes.csv")
    assert "row 6" not in str(refusal.value)


def test_concepts__may_take_their_descendants() -> None:
    assert _row("49436004", "SNOMED CT", "descendants") == ("49436004", "descendants")
    assert _row("313217", "OMOP concept_id", "descendants") == ("313217", "descendants")


# Shapes in which others publish lists.


def _published(text: str, name: str = "af.csv", **stated: str) -> list[tuple[str, str, str]]:
    read = read_published_codes(text.encode(), name, "af", **stated).to_pylist()
    assert {row["outcome"] for row in read} == {"af"}
    assert {row["source"] for row in read} == {name}
    return [(row["code"], row["system"], row["match"]) for row in read]


def test_opencodelists__has_no_system_of_its_own() -> None:
    text = "code,term\n49436004,Atrial fibrillation\n5370000,Atrial flutter\n,\n"
    found = _published(text, system="snomed")
    assert found == [("49436004", "snomed", "exact"), ("5370000", "snomed", "exact")]
    with pytest.raises(UsageError, match="no column states the coding system"):
        _published(text)


def test_hdr_uk__states_the_system_of_each_code() -> None:
    text = (
        "code,description,code_attributes,coding_system,concept_id,concept_name,phenotype_id\n"
        "I48,AF,,ICD10 codes,C1,AF,PH1\nK62.1,Ablation,,OPCS4 codes,C2,AF,PH1\n"
    )
    assert _published(text, match="prefix") == [("I48", "icd10", "prefix"), ("K621", "opcs4", "prefix")]
    with pytest.raises(UsageError, match=r"does not say whether a code of icd10 holds its subcodes; write `match: pre"):
        _published(text)


def test_caliber__states_the_system_in_the_name_of_the_column() -> None:
    assert _published("ICD10code,ICD10codeDescr,Disease\nI48,AF,AF\n", match="prefix") == [("I48", "icd10", "prefix")]
    with pytest.raises(UsageError, match="expected a column of codes: code"):
        _published("term,meaning\nx,y\n", system="icd10")


def test_concept_set_of_atlas__takes_descendants_where_it_says_so() -> None:
    def concept(number: int, **flags: bool) -> dict[str, object]:
        return {"concept": {"CONCEPT_ID": number, "CONCEPT_NAME": "x"}, **flags}

    items = [concept(313217, includeDescendants=True), concept(314665, isExcluded=False)]
    expected = [("313217", "omop", "descendants"), ("314665", "omop", "exact")]
    assert _published(json.dumps({"items": items}), "af.json") == expected
    assert _published(json.dumps({"name": "AF", "expression": {"items": items}}), "af.json") == expected
    with pytest.raises(UsageError, match="leaves out concepts"):
        _published(json.dumps({"items": [concept(1, isExcluded=True)]}), "af.json")
    with pytest.raises(UsageError, match="is no concept set"):
        _published("[1, 2]", "af.json")


# Phecodes. The rows are made up in the form of the published maps.

UNROLLED = (
    "phecode,ICD,vocabulary_id\n427.2,I48.0,ICD10CM\n427.21,427.31,ICD9CM\n427.3,I46,ICD10CM\n428.1,I50.1,ICD10CM\n"
)


def _mapped(code: str, table: str) -> set[tuple[str, str, str]]:
    codes = read_code_table(f"{HEADER}{code},phecode,prefix,af,PheWAS,\nI49,icd10,exact,va,s,\n".encode(), "codes.csv")
    rows = with_phecodes(codes, table.encode(), "map.csv").to_pylist()
    assert {row["code"] for row in rows if row["outcome"] == "va"} == {"I49"}
    return {(row["code"], row["system"], row["match"]) for row in rows if row["outcome"] == "af"}


def test_with_phecodes__finds_the_codes_of_a_phecode_and_those_below() -> None:
    af = {("I480", "icd10", "exact"), ("42731", "icd9", "exact")}
    assert _mapped("427.2", UNROLLED) == af
    assert _mapped("427", UNROLLED) == af | {("I46", "icd10", "exact")}
    assert _mapped("427.21", UNROLLED) == {("42731", "icd9", "exact")}


def test_with_phecodes__reads_maps_of_one_system_and_flags_of_versions() -> None:
    assert _mapped("427.2", "ICD10,PHECODE\nI48.1,427.2\n") == {("I481", "icd10", "exact")}
    assert _mapped("427.2", "ICD,flag,phecode\n427.3,9,427.2\nI48,10,427.2\n") == {
        ("4273", "icd9", "exact"),
        ("I48", "icd10", "exact"),
    }


def test_with_phecodes__refuses_a_map_without_the_phecode_or_its_columns() -> None:
    with pytest.raises(UsageError, match="no ICD code of phecode 42 of outcome af"):
        _mapped("42", UNROLLED)
    for table in ("phecode,term\n427.2,AF\n", "phecode,ICD\n427.2,I48\n"):
        with pytest.raises(UsageError, match="expected a map of phecodes"):
            _mapped("427.2", table)
