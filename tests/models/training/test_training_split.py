import hashlib
from collections import Counter

import pytest

from models.training.config import SplitShares
from models.training.data import Part, part_of, split_csv, uniform_of

IDS = [f"P{number:05d}" for number in range(20_000)]


def test_uniform_of__is_the_hash_as_a_fraction() -> None:
    digest = hashlib.sha256(b"salt|P1").hexdigest()
    assert uniform_of("P1", "salt") == pytest.approx(int(digest[:16], 16) / 16**16, abs=2**-52)


def test_part_of__shares_are_those_asked_for() -> None:
    shares = SplitShares(train=0.7, valid=0.2, test=0.1)
    counts = Counter(part_of(key, shares) for key in IDS)
    # Four standard errors of a share of 20,000.
    for part, share in ((Part.TRAIN, 0.7), (Part.VALID, 0.2), (Part.TEST, 0.1)):
        assert counts[part] / len(IDS) == pytest.approx(share, abs=0.013)


def test_part_of__another_salt_is_another_split() -> None:
    a, b = SplitShares(salt="a"), SplitShares(salt="b")
    same = sum(part_of(key, a) is part_of(key, b) for key in IDS) / len(IDS)
    assert same == pytest.approx(0.8**2 + 0.1**2 + 0.1**2, abs=0.02)


def test_part_of__without_test_share_nobody_tests() -> None:
    shares = SplitShares(train=0.5, valid=0.5, test=0)
    assert {part_of(key, shares) for key in IDS} == {Part.TRAIN, Part.VALID}


def test_part_of__a_larger_training_share_only_adds_people() -> None:
    small, large = SplitShares(train=0.5, valid=0.4, test=0.1), SplitShares()
    moved = [k for k in IDS if part_of(k, small) is Part.TRAIN is not part_of(k, large)]
    assert moved == []


def test_split_csv__one_sorted_row_a_person() -> None:
    lines = split_csv(["b", "a", "b"], SplitShares()).splitlines()
    assert lines[0] == "participant_id,part"
    assert [line.split(",")[0] for line in lines[1:]] == ["a", "b"]


def test_split_csv__an_identifier_is_no_formula() -> None:
    assert split_csv(["=1+1"], SplitShares()).splitlines()[1].startswith("'=1+1,")
