"""The claims about lifelines behind decision 12 still hold for the pinned version."""

from __future__ import annotations

from pathlib import Path

import lifelines
import pytest

from tests.benchmarks.lifelines_differences import absent, right_claims, wrong_claims

DECISION = Path(__file__).parents[3] / "docs" / "decisions" / "0012-own-statistics.md"


# It warns of its own jitter and of deprecations; nothing of ours runs in these tests.
pytestmark = pytest.mark.filterwarnings("ignore")


def test_lifelines__is_right_where_we_take_it_as_a_second_opinion() -> None:
    for claim in right_claims():
        assert claim.off < 1e-4, claim


def test_lifelines__is_still_not_right_where_we_have_our_own() -> None:
    for claim in wrong_claims():
        # Two runs differ by chance: by how much is chance too.
        least = 0.0 if "run again" in claim.name else 1e-4
        assert claim.off > least, claim
    assert all(absent().values())


def test_decision__names_every_claim_and_the_version() -> None:
    text = DECISION.read_text(encoding="utf-8")
    names = [claim.name for claim in [*right_claims(), *wrong_claims()]] + list(absent())
    assert [name for name in names if name not in text] == []
    assert f"lifelines {lifelines.__version__}" in text
