"""Study files and code lists that come with the project."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml

from analysis.code_lists import code_key, read_code_list
from analysis.study import load_study
from lvm_core.synthetic_codes import CODE_LISTS, CODE_SYSTEMS, CODE_TEXTS, in_code_list

STUDIES = Path(__file__).parents[2] / "studies"
CODES = STUDIES / "code_lists" / "outcomes.csv"


@pytest.mark.parametrize("name", sorted(path.name for path in STUDIES.glob("*.yaml")))
def test_preset__is_valid_beside_its_inputs(name: str, tmp_path: Path) -> None:
    text = (STUDIES / name).read_text(encoding="utf-8")
    for path in yaml.safe_load(text)["inputs"].values():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / name).write_text(text)
    study = load_study(tmp_path / name)
    outcomes = set(read_code_list(CODES)["outcome"])
    assert {one.name for one in study.all_outcomes} <= outcomes


def test_code_list__each_row_has_a_source_and_is_needed() -> None:
    table = read_code_list(CODES)
    assert (table["source"] != "").all()
    assert table["comment"].str.contains("not the paper's").all()
    assert not table.duplicated(["code", "system", "outcome"]).any()
    for _, own in table.groupby(["outcome", "system"]):
        prefixes = own.loc[own["match"] == "prefix", "code"]
        for code in own["code"]:
            assert [p for p in prefixes if code.startswith(p) and code != p] == []


@pytest.mark.parametrize("outcome", list(CODE_LISTS))
def test_code_list__finds_a_synthetic_outcome_and_nothing_that_looks_alike(outcome: str) -> None:
    table = read_code_list(CODES)
    own = table[table["outcome"] == outcome]
    texts = code_key(pd.Series(CODE_TEXTS))
    systems = pd.Series(CODE_SYSTEMS).str.replace("-", "")
    found = [
        any(
            system == row.system
            and (text == row.code if row.match == "exact" else text.startswith(row.code))
            for row in own.itertuples()
        )
        for text, system in zip(texts, systems, strict=True)
    ]
    assert found == in_code_list(outcome).tolist()
