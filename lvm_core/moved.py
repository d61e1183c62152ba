"""Old names of modules, which keep working for one release with a warning."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _MovedModules(MetaPathFinder, Loader):
    """Finds a module under its old name, warns, and gives the module of the new name."""

    def __init__(self, new_names: Mapping[str, str]) -> None:
        self.new_names = new_names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for a module that has moved; None for every other module."""
        return ModuleSpec(fullname, self) if fullname in self.new_names else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Import the module of the new name and copy its names into one of the old name."""
        new_name = self.new_names[spec.name]
        warnings.warn(
            f"{spec.name} has moved to {new_name}; the old name goes with the next release", FutureWarning, stacklevel=2
        )
        old = ModuleType(spec.name, import_module(new_name).__doc__)
        old.__dict__.update({name: value for name, value in vars(import_module(new_name)).items() if name[:2] != "__"})
        return old

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the module of the new name has run already."""


def keep_old_names(new_names: Mapping[str, str]) -> None:
    """Let modules be imported by their old names, with a FutureWarning.

    Args:
        new_names: new name of each module by its old name, as
            `{"analysis.cox": "analysis.statistics.survival"}`.
    """
    sys.meta_path.append(_MovedModules(new_names))
