"""Modules that have moved are found by their old names, with a warning."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest

from lvm_core.moved import keep_old_names


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a package with a module `new` that was `old` before."""
    name = "package_with_a_moved_module"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / name / "new.py").write_text('"""The new module."""\nvalue = object()\n_private = 1\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    for module in (name, f"{name}.old", f"{name}.new"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    keep_old_names({f"{name}.old": f"{name}.new"})
    return name


def test_old_name__is_the_same_module_and_warns_where_it_is_imported(package: str) -> None:
    message = rf"{package}\.old has moved to {package}\.new; the next release removes the old name"
    namespace: dict[str, object] = {}
    with pytest.warns(FutureWarning, match=message) as warned:
        exec(compile(f"from {package}.old import value, _private", "a_script.py", "exec"), namespace)
    assert [one.filename for one in warned] == ["a_script.py"]
    new = import_module(f"{package}.new")
    assert (namespace["value"], namespace["_private"]) == (new.value, 1)
    assert sys.modules[f"{package}.old"].__doc__ == "The new module."
    assert sys.modules[f"{package}.old"].__name__ == f"{package}.old"


def test_old_name__warns_once(package: str, recwarn: pytest.WarningsRecorder) -> None:
    with pytest.warns(FutureWarning):
        first = import_module(f"{package}.old")
    assert import_module(f"{package}.old") is first
    assert len(recwarn) == 0


def test_new_name__does_not_warn(package: str) -> None:
    assert import_module(f"{package}.new").__name__ == f"{package}.new"


def test_other_names__are_not_found(package: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=rf"{package}\.other"):
        import_module(f"{package}.other")
