"""A container backend of miniwdl that runs tasks as processes of this machine, without a container.

For tests only, where no container engine or no image is at hand. The name of the image is ignored
and the program of the PATH runs. Each task has a mount namespace of its own, in which its inputs
are at the paths that miniwdl gives them in containers, read-only.
"""

from __future__ import annotations

import logging
import shlex
from contextlib import ExitStack
from typing import Any

from WDL.runtime import config
from WDL.runtime.backend.cli_subprocess import SubprocessBase


class ProcessBackend(SubprocessBase):
    """Runs the command of a task with `unshare`."""

    @classmethod
    def global_init(cls, cfg: config.Loader, logger: logging.Logger) -> None:
        """Nothing has to be started."""

    @property
    def cli_name(self) -> str:
        """Name of the program, for the names of logs."""
        return "unshare"

    def _pull_invocation(self, logger: logging.Logger, cleanup: ExitStack) -> tuple[str, list[str]]:
        return "", []

    def _run_invocation(self, logger: logging.Logger, cleanup: ExitStack, image: str) -> list[str]:
        root = shlex.quote(self.container_dir)
        lines: list[Any] = ["set -e", "mount -t tmpfs tmpfs /mnt", f"mkdir -p {root}/work"]
        for inside, outside, writable in self.prepare_mounts():
            place = shlex.quote(inside)
            lines.append(f"[ -e {place} ] || touch {place}")
            lines.append(f"mount --bind {shlex.quote(outside)} {place}")
            if not writable:
                lines.append(f"mount -o remount,bind,ro {place}")
        lines += [f"cd {root}/work", 'exec "$@"']
        return ["unshare", "--mount", "--map-root-user", "/bin/sh", "-c", "\n".join(lines), "task"]
