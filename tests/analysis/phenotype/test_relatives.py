from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.phenotype.relatives import THIRD_DEGREE, related_pairs, without_relatives
from lvm_core.errors import UsageError
from lvm_core.tables.raw import read_raw

PEOPLE = [str(i) for i in range(12)]


def test_third_degree__is_the_limit_of_king() -> None:
    assert round(THIRD_DEGREE, 4) == 0.0442  # table 1 of Manichaikul et al.


def test_without_relatives__of_a_parent_with_three_children_the_parent_goes() -> None:
    pairs = [("parent", child) for child in ("a", "b", "c")]
    assert without_relatives(["parent", "a", "b", "c", "d"], pairs) == {"parent"}


def test_without_relatives__of_two_siblings_the_last_goes_and_absent_people_do_not_count() -> None:
    pairs = [("a", "b"), ("b", "absent"), ("a", "a")]
    assert without_relatives(["b", "a", "c"], pairs) == {"b"}
    assert without_relatives(["a", "c"], pairs) == set()


def test_without_relatives__of_a_chain_of_five_two_go() -> None:
    chain = ["1", "2", "3", "4", "5"]
    assert without_relatives(chain, pairwise(chain)) == {"4", "2"}


@given(st.lists(st.tuples(st.sampled_from(PEOPLE), st.sampled_from(PEOPLE)), max_size=30))
def test_without_relatives__leaves_no_pair_and_removes_nobody_without_a_relative(pairs: list[tuple[str, str]]) -> None:
    removed = without_relatives(PEOPLE, pairs)
    left = set(PEOPLE) - removed
    assert not [pair for pair in pairs if pair[0] != pair[1] and set(pair) <= left]
    assert removed <= {person for one, other in pairs if one != other for person in (one, other)}
    assert removed == without_relatives(reversed(PEOPLE), [(other, one) for one, other in reversed(pairs)])


@pytest.mark.parametrize(
    "text",
    [
        "FID1\tID1\tFID2\tID2\tN_SNP\tKinship\n1\t1\t2\t2\t9\t0.25\n3\t3\t4\t4\t9\t0.04\n",  # KING
        "#FID1\tIID1\tFID2\tIID2\tNSNP\tHETHET\tIBS0\tKINSHIP\n1\t1\t2\t2\t9\t0\t0\t0.25\n3\t3\t4\t4\t9\t0\t0\t0.04\n",
        "#IID1\tIID2\tNSNP\tHETHET\tIBS0\tKINSHIP\n1\t2\t9\t0\t0\t0.25\n3\t4\t9\t0\t0\t0.04\n",  # plink2
        "ID1,ID2,HetHet,IBS0,Kinship\n1,2,0,0,0.25\n3,4,0,0,0.04\n",  # UK Biobank
    ],
)
def test_related_pairs__tables_of_the_programs(text: str) -> None:
    table = read_raw(text.encode(), "kinship")
    assert related_pairs(table, THIRD_DEGREE) == [("1", "2")]
    assert related_pairs(table, 0.04) == [("1", "2"), ("3", "4")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ID1,ID2\n1,2\n", "expected ID1 or IID1, ID2 or IID2, and Kinship"),
        ("ID1,ID2,Kinship\n1,2,0.3\n3,4,close\n", "a Kinship that is no number in row 2"),
    ],
)
def test_related_pairs__refuses(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        related_pairs(read_raw(text.encode(), "kinship"), THIRD_DEGREE)
