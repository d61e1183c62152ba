"""Covariates: names, levels, references; what cannot be one."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.statistics.columns import TableRefused, used_columns
from analysis.statistics.design import Category, as_covariates, resolve_design

SMOKING = pd.DataFrame({"smoking": ["never", "current", "former", "never"], "age": [50, 60, 70, 80]})


def test_category__one_term_for_each_level_but_the_reference() -> None:
    columns = used_columns(SMOKING, ["smoking", "age"])
    design, matrix = resolve_design(as_covariates(["age", Category("smoking", reference="never")]), columns)
    assert design.terms == ("age", "smoking=current", "smoking=former")
    assert design.groups == (("age", (0,)), ("smoking", (1, 2)))
    assert matrix.tolist() == [[50, 0, 0], [60, 1, 0], [70, 0, 1], [80, 0, 0]]


def test_category__levels_of_the_fit_hold_for_other_tables() -> None:
    columns = used_columns(SMOKING, ["smoking"])
    design, _ = resolve_design([Category("smoking", reference="never")], columns)
    assert design.matrix(used_columns(SMOKING.head(1), ["smoking"])).tolist() == [[0, 0]]
    strange = used_columns(pd.DataFrame({"smoking": ["pipe"]}), ["smoking"])
    with pytest.raises(TableRefused, match=r"column 'smoking' has 1 values that are no level \(row 0: pipe\); "):
        design.matrix(strange)


def test_category__order_of_levels_is_the_stated_one_or_that_of_the_categories() -> None:
    ordered = SMOKING.assign(smoking=pd.Categorical(SMOKING["smoking"], ["never", "former", "current", "pipe"]))
    columns = used_columns(ordered, ["smoking"])
    design, _ = resolve_design([Category("smoking", reference="never")], columns)
    assert design.terms == ("smoking=former", "smoking=current")
    stated = Category("smoking", reference="former", levels=("never", "former", "current"))
    design, _ = resolve_design([stated], used_columns(SMOKING, ["smoking"]))
    assert design.terms == ("smoking=never", "smoking=current")


def test_category__of_numbers_and_of_yes_no() -> None:
    table = pd.DataFrame({"centre": [3, 1, 1], "male": [True, False, True]})
    columns = used_columns(table, ["centre", "male"])
    design, matrix = resolve_design([Category("centre", reference=1), Category("male", reference=False)], columns)
    assert design.terms == ("centre=3", "male=True")
    assert matrix.tolist() == [[1, 1], [0, 0], [0, 1]]


@pytest.mark.parametrize(
    ("category", "message"),
    [
        (Category("smoking", reference="Never"), "has no row with 'Never', expected the reference"),
        (
            Category("smoking", reference="never", levels=("never", "current")),
            r"has 1 values that are no level \(row 2: former\); expected 'never', 'current'",
        ),
        (
            Category("smoking", reference="never", levels=("never", "current", "former", "pipe")),
            "has no row with 'pipe'",
        ),
    ],
)
def test_category__refuses(category: Category, message: str) -> None:
    with pytest.raises(TableRefused, match=message):
        resolve_design([category], used_columns(SMOKING, ["smoking"]))


def test_category__one_level_is_constant() -> None:
    with pytest.raises(TableRefused, match="column 'smoking' is constant at 'never' over 1 rows"):
        resolve_design([Category("smoking", reference="never")], used_columns(SMOKING.head(1), ["smoking"]))


def test_text_without_a_reference__is_refused_with_the_remedy() -> None:
    columns = used_columns(SMOKING, ["smoking"])
    with pytest.raises(TableRefused, match=r"pass Category\('smoking', reference=...\)"):
        resolve_design(as_covariates(["smoking"]), columns)


def test_as_covariates__refuses() -> None:
    with pytest.raises(TypeError, match="covariates is the text 'age', expected a list"):
        as_covariates("age")
    with pytest.raises(TypeError, match="3 is no covariate"):
        as_covariates([3])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="covariates is empty"):
        as_covariates([])
    with pytest.raises(ValueError, match="covariates name age twice"):
        as_covariates(["age", Category("age", reference=1)])
