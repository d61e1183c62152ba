"""Old names of modules, which keep working for one release with a warning."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


def keep_old_names(new_names: Mapping[str, str]) -> None:
    """Let modules be imported by their old names, with a FutureWarning.

    A module under an old name has the names of the new module, not those that it had itself.
    `new_names` is as `{"analysis.cox": "analysis.statistics.survival"}`.
    """
    sys.meta_path.append(_MovedModules(new_names))


class _MovedModules(MetaPathFinder, Loader):
    """Python asks it for the modules that it does not find itself."""

    def __init__(self, new_names: Mapping[str, str]) -> None:
        self._new_names = new_names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for a module that has moved; None for every other module."""
        return ModuleSpec(fullname, self) if fullname in self._new_names else None

    def exec_module(self, module: ModuleType) -> None:
        """Warn the code that imports the module, and copy the names of the new one into it."""
        new_name = self._new_names[module.__name__]
        message = f"{module.__name__} has moved to {new_name}; the next release removes the old name"
        warnings.warn(message, FutureWarning, stacklevel=2)
        new = import_module(new_name)
        module.__doc__ = new.__doc__
        vars(module).update({name: value for name, value in vars(new).items() if not name.startswith("__")})
