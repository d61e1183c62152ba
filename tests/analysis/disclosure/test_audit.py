"""What is taken away until no small count can be found."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from analysis.disclosure.audit import Audit, Cell, Promise, rounded
from analysis.disclosure.counts import Count, Relation

K = 10


def counts(names: str) -> list[Count]:
    return [Count(name) for name in names.split()]


def _named(values: Mapping[str, float]) -> dict[Count, float]:
    return {Count(name): value for name, value in values.items()}


def audit(
    values: Mapping[str, float], sums: list[str], base: int = 1, unseen: Mapping[str, float] | None = None
) -> dict[str, Cell]:
    """Cells after the audit; "a b c" is a = b + c."""
    cells = {Count(name): Cell(v, 0.0 if 0 < v < K else base) for name, v in values.items()}
    relations = [Relation(((total, 1.0), *((part, -1.0) for part in parts))) for total, *parts in map(counts, sums)]
    made = Audit(cells, relations, Promise(K, base), _named(unseen or {}))
    made.run()
    assert made.unsafe == []
    for one in cells:
        if not cells[one].base and 0 < cells[one].value < K:
            low, high = (made._program.extreme(made._program.place[one], sign)[0] for sign in (1, -1))
            assert low <= 1 + 1e-6
            assert high >= K - 1 - 1e-6
    return {count.unit: cell for count, cell in cells.items()}


def test_audit__a_lone_small_part_cannot_be_found_by_subtraction() -> None:
    cells = audit({"all": 163, "a": 100, "b": 60, "c": 3}, ["all a b c"])
    assert cells["c"].base == 0
    assert max(cell.base for cell in cells.values()) > 1 or 0 in {cells["a"].base, cells["b"].base}


def test_audit__large_counts_are_rounded_more_and_not_hidden() -> None:
    cells = audit({"all": 500_003, "known": 500_000, "missing": 3}, ["all known missing"])
    assert cells["missing"].base == 0
    assert cells["all"].base > 0
    assert cells["known"].base > 0


def test_audit__takes_nothing_where_rounding_is_enough() -> None:
    cells = audit({"all": 106, "a": 101, "b": 5}, ["all a b"], base=5)
    assert [cells[name].base for name in ("all", "a", "b")] == [5, 5, 0]


@pytest.mark.parametrize(("total", "part"), [(107, 100), (113, 104), (122, 113)])
def test_audit__takes_what_rounding_leaves(total: int, part: int) -> None:
    """Shown as 105 and 100, the difference can be 1 to 9; as 115 and 105 it cannot be 1."""
    audit({"all": total, "a": part, "b": total - part}, ["all a b"], base=5)


def test_audit__a_count_that_two_tables_share_is_taken_from_both() -> None:
    values = {"all": 154, "a": 100, "b": 50, "c": 4, "d": 60, "e": 10}
    audit(values, ["all a b c", "d b e"])


def test_audit__a_chain_of_sums() -> None:
    values = {"x": 300, "a": 200, "b": 100, "c": 95, "d": 5, "e": 60, "f": 35, "g": 30, "h": 5}
    audit(values, ["x a b", "b c d", "c e f", "f g h"])


def test_audit__parts_of_nobody_are_hidden_within_a_small_count() -> None:
    cells = audit({"all": 6, "a": 6, "b": 0, "c": 50}, ["all a b"])
    assert cells["b"].base == 0
    assert cells["c"].base == 1


def test_audit__parts_of_nobody_are_shown_where_a_shown_zero_implies_them() -> None:
    """Nobody died: so nobody did by the second year, when few died of all."""
    cells = audit({"all": 6, "a": 0, "b": 6, "none": 0, "c": 0}, ["all a b", "none a c"])
    assert [cells[name].base for name in ("a", "none", "c")] == [1, 1, 1]
    assert cells["b"].base == 0


def test_audit__what_is_shown_nowhere_has_several_values() -> None:
    cells = audit({"all": 1974, "later": 1973}, ["all later gone"], unseen={"gone": 1})
    assert cells["all"].base > 1 or cells["later"].base > 1


def test_audit__leaves_out_what_is_not_true() -> None:
    cells = {one: Cell(v, 1.0) for one, v in zip(counts("all a b"), (50, 20, 20), strict=True)}
    wrong = Relation(tuple(zip(cells, (1.0, -1.0, -1.0), strict=True)))
    assert Audit(cells, [wrong], Promise(K, 1), {}).left_out == [wrong]


def test_audit__says_what_it_cannot_protect() -> None:
    """Nothing is left that could be taken away: the reader knows the sum by other ways."""
    cells = {one: Cell(v, 0.0) for one, v in zip(counts("a"), (4,), strict=True)}
    known = Relation(((Count("a"), 1.0),), 3.0, 5.0)
    made = Audit(cells, [known], Promise(K, 1), {})
    made.run()
    assert made.unsafe == [Count("a")]


@pytest.mark.parametrize("base", [1, 5])
@pytest.mark.parametrize("seed", range(5))
def test_audit__tables_drawn_at_random(seed: int, base: int) -> None:
    """Two-way tables with margins, many cells small."""
    rng = np.random.default_rng(seed)
    inner = rng.choice([0, 1, 3, 8, 15, 40, 200], (4, 3))
    values = {f"r{i}c{j}": float(inner[i, j]) for i in range(4) for j in range(3)}
    values |= {f"r{i}": float(inner[i].sum()) for i in range(4)}
    values |= {f"c{j}": float(inner[:, j].sum()) for j in range(3)} | {"all": float(inner.sum())}
    sums = [f"r{i} {' '.join(f'r{i}c{j}' for j in range(3))}" for i in range(4)]
    sums += [f"c{j} {' '.join(f'r{i}c{j}' for i in range(4))}" for j in range(3)]
    sums += ["all r0 r1 r2 r3", "all c0 c1 c2"]
    audit(values, sums, base)


@pytest.mark.parametrize(
    ("value", "base", "shown"), [(12, 5, 10), (13, 5, 15), (1, 5, 5), (390, 20, 400), (389, 20, 380)]
)
def test_rounded(value: float, base: float, shown: float) -> None:
    assert rounded(value, base) == shown
