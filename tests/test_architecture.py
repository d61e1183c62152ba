"""Who may import whom, how long files are, and that nothing heavy is imported early."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("lvm_core", "models", "beam_jobs", "analysis")
MAY_IMPORT = {"lvm_core": set(), "models": {"lvm_core"}, "beam_jobs": {"lvm_core", "models"}, "analysis": {"lvm_core"}}
MUST_NOT_IMPORT = {
    "lvm_core": {"tensorflow", "keras", "apache_beam", "pandas", "requests", "urllib", "socket"},
    "models": {"apache_beam", "pandas"},
    "beam_jobs": {"pandas", "lifelines", "tensorflow", "keras"},
    "analysis": {"tensorflow", "keras", "apache_beam"},
}
# Which other rooms of its package a room may import. All of `lvm_core` may import the modules at
# its top. Those at the top of the other packages are commands, which may import every room.
ROOMS = {
    "lvm_core.signal": {"lvm_core"},
    "lvm_core.medicine": {"lvm_core"},
    "lvm_core.formats": {"lvm_core", "lvm_core.signal"},
    "lvm_core.tables": {"lvm_core", "lvm_core.signal", "lvm_core.medicine"},
    "lvm_core.synthetic": {"lvm_core", "lvm_core.signal", "lvm_core.medicine", "lvm_core.tables"},
    "models.machine": set(),
    "models.catalogue": {"models.machine"},
    "models.engines": {"models.machine", "models.catalogue"},
    "models.training": {"models.machine", "models.catalogue"},
    "models.demo": {"models.machine", "models.catalogue", "models.engines"},
    "beam_jobs.reading": set(),
    "beam_jobs.run": {"beam_jobs.reading"},
    "beam_jobs.pictures": {"beam_jobs.reading", "beam_jobs.run"},
    "beam_jobs.scoring": {"beam_jobs.reading", "beam_jobs.run"},
    "beam_jobs.runners": {"beam_jobs.reading", "beam_jobs.run"},
    "analysis.statistics": set(),
    "analysis.statistics.survival": {"analysis.statistics"},
    "analysis.statistics.accuracy": {"analysis.statistics", "analysis.statistics.survival"},
    "analysis.statistics.agreement": {"analysis.statistics", "analysis.statistics.survival"},
    "analysis.statistics.risk": {"analysis.statistics", "analysis.statistics.survival", "analysis.statistics.accuracy"},
    "analysis.follow_up": {"analysis.statistics"},
    # A study file names a release rule.
    "analysis.study": {"analysis.statistics", "analysis.statistics.survival", "analysis.follow_up"}
    | {"analysis.disclosure"},
    "analysis.disclosure": set(),
    # An independent look: it must not share code with what made an export.
    "analysis.release_check": set(),
    "analysis.phenotype": {"analysis", "analysis.study"},
    # `document` and `words` are below topics and figures; `build` and the writers are above.
    "analysis.report": {"analysis", "analysis.statistics", "analysis.study", "analysis.disclosure"}
    | {"analysis.report.topics", "analysis.report.figures"},
    "analysis.report.figures": {"analysis.report", "analysis.disclosure"},
    "analysis.report.topics": {"analysis.report", "analysis.report.figures", "analysis.disclosure"}
    | {"analysis.study", "analysis.follow_up", "analysis.statistics", "analysis.statistics.survival"}
    | {"analysis.statistics.accuracy", "analysis.statistics.agreement", "analysis.statistics.risk"},
}
FILES = [path for package in OURS for path in sorted((ROOT / package).rglob("*.py"))]
LAZY = {
    # TensorFlow takes seconds to import, which commands that predict nothing must not pay.
    "models": {"tensorflow", "keras", "h5py"}
}


def _imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield (top-level module, inside a function) of every import."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module]
        for name in names:
            yield name.partition(".")[0], id(node) in inside


def _package(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def _modules() -> dict[str, Path]:
    """Return every module of ours by its dotted name; a package is its `__init__.py`."""
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}


@cache
def _arrows() -> set[tuple[str, str]]:
    """Return (importing module, imported module) of all imports among our packages."""
    modules = _modules()
    found = set()
    for name, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module in modules:
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    found.add((name, full if full in modules else node.module))
    return found


def _room(module: str) -> str:
    """Return the folder of a module; a package is in itself."""
    return module if _modules()[module].name == "__init__.py" else module.rpartition(".")[0]


def test_rooms__import_only_what_the_table_allows() -> None:
    """The commands at the top of a package may import every room of it."""
    wrong = set()
    for importer, imported in _arrows():
        room, other = _room(importer), _room(imported)
        if room in OURS or room == other or not room.startswith(imported.partition(".")[0]):
            continue
        if other not in ROOMS[room]:
            wrong.add((importer, imported))
    assert sorted(wrong) == []


def test_rooms__are_all_in_the_table() -> None:
    rooms = {_room(module) for module in _modules()} - set(OURS)
    assert rooms == set(ROOMS)


def test_modules__import_one_another_in_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for importer, imported in _arrows():
        graph.setdefault(importer, set()).add(imported)
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_imports__follow_the_table(path: Path) -> None:
    package = _package(path)
    modules = {module for module, _ in _imports(path)}
    assert modules & (set(OURS) - {package}) <= MAY_IMPORT[package]
    allowed_late = LAZY.get(package, set())
    assert not modules & (MUST_NOT_IMPORT[package] - allowed_late)


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_imports__inside_functions_only_where_import_is_slow(path: Path) -> None:
    late = {module for module, inside in _imports(path) if inside}
    assert late <= LAZY.get(_package(path), set())


def test_pyarrow__in_the_core_only_where_tables_are_described_and_read() -> None:
    users = {p for p in FILES if _package(p) == "lvm_core" and "pyarrow" in dict(_imports(p))}
    core = ROOT / "lvm_core"
    assert all(path == core / "schemas.py" or path.parent == core / "tables" for path in users)


@pytest.mark.parametrize("path", [*FILES, ROOT / "lvm_ai.py"], ids=_name)
def test_files__are_at_most_800_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 800


@pytest.mark.parametrize("path", [*FILES, ROOT / "lvm_ai.py"], ids=_name)
def test_functions__are_at_most_60_lines_beside_their_docstring(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            doc = ast.get_docstring(node, clean=False)
            length = (node.end_lineno or 0) - node.lineno + 1
            length -= len(doc.splitlines()) + 1 if doc else 0
            assert length <= 60 or _is_a_parser(node), f"{node.name} has {length} lines"


def _is_a_parser(node: ast.FunctionDef) -> bool:
    """A list of options is as long as there are options."""
    calls = [n.func.attr for n in ast.walk(node) if isinstance(n, ast.Call) and _has_attr(n)]
    return calls.count("add_argument") > 5


def _has_attr(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Attribute)


def test_every_folder_of_tests__has_an_init() -> None:
    folders = {path.parent for path in (ROOT / "tests").rglob("*.py")}
    assert not [str(folder) for folder in folders if not (folder / "__init__.py").exists()]


def test_models_and_score__import_no_tensorflow() -> None:
    code = (
        "import sys, models.engines.predictor, models.cli, beam_jobs.score, beam_jobs.ingest;"
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
