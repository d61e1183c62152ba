"""No module of a run or of a runner keeps anything for the whole process."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3] / "beam_jobs"
MAKES_MUTABLE = {"dict", "list", "set", "Counter", "defaultdict", "deque", "Lock", "Event", "local"}
PLAIN = {"EcgRejected", "Path", "TypeVar"}  # values that do not change
CHANGES = {"add", "append", "clear", "discard", "extend", "pop", "remove", "setdefault", "update"}
FILES = [path for room in ("run", "runners") for path in sorted((ROOT / room).glob("*.py"))]


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _module_values(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield ast.unparse(targets[0]), node.value


def _is_made_to_change(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        name = ast.unparse(value.func)
        return name.split(".")[-1] in MAKES_MUTABLE or (name[0].isupper() and name.split("(")[0] not in PLAIN)
    return isinstance(value, ast.List | ast.Set | ast.ListComp | ast.SetComp)


def _changed_names(tree: ast.Module) -> Iterator[str]:
    """Yield what is given items or attributes, or is changed by a method."""
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign | ast.Delete):
            targets = list(node.targets)
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        yield from (ast.unparse(t.value) for t in targets if isinstance(t, ast.Subscript | ast.Attribute))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGES:
            yield ast.unparse(node.func.value)


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_run_and_runners__keep_nothing_in_a_module(path: Path) -> None:
    """Workers are in other processes: what one keeps there, the launcher never sees."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kept = dict(_module_values(tree))
    assert not [name for name, value in kept.items() if _is_made_to_change(value)]
    assert not set(_changed_names(tree)) & set(kept)
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Global)]
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id in ("cache", "lru_cache")]
