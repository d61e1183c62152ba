"""Places without a network, as in enclaves: namespaces of the kernel with no route anywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from deploy.bundle.make_bundle import Target, make_bundle, this_machine

# A user whom the machine does not know by name, as container platforms choose them.
UNKNOWN_USER = 12345
PATH = "/usr/local/bin:/usr/bin:/bin"


@cache
def why_no_namespace() -> str:
    """Return why no network namespace can be made here; empty where it can."""
    for program in ("unshare", "setpriv", "ip"):
        if shutil.which(program) is None:
            return f"{program} is not here; apt-get install util-linux iproute2"
    if os.getuid() != 0:
        return "a network namespace in which another user runs needs root"
    done = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True)
    return f"the kernel allows no network namespace: {done.stderr.strip()}" if done.returncode else ""


@cache
def system_python() -> str | None:
    """Return a Python of the tests' version that any user can run; None where there is none."""
    version = this_machine()[0]
    for folder in PATH.split(":"):
        program = Path(folder) / f"python{version}"
        if program.is_file():
            return str(program)
    return None


def cut_off(command: Sequence[object], *, loopback: bool, user: int = UNKNOWN_USER, **environment: str) -> list[str]:
    """Return a command line that runs a command without a network, as another user.

    The command gets the environment that is given and `PATH`, and so no `HOME` unless it is given.
    Without `loopback` not even processes of the same machine can be reached.
    """
    words = [str(word) for word in command]
    start = "ip link set lo up && " if loopback else ""
    as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--no-new-privs"]
    own = [f"{name}={value}" for name, value in {"PATH": PATH, **environment}.items()]
    return ["unshare", "--net", "sh", "-c", f'{start}exec "$@"', "sh", *as_user, "env", "-i", *own, *words]


def unpacked_bundle(folder: Path) -> tuple[Path, Path]:
    """Make the bundle for this machine and unpack it; return the archive and the unpacked folder.

    `LVM_AI_BUNDLE` may name an archive that was made before.
    """
    python, platform = this_machine()
    given = os.environ.get("LVM_AI_BUNDLE")
    archive = Path(given) if given else make_bundle(Target(python, platform), folder)
    unpack(archive, folder)
    return archive, folder / archive.stem


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive."""
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")


@contextmanager
def open_folder(name: str) -> Iterator[Path]:
    """Make a folder that every user can enter; pytest's own are for its user alone."""
    with tempfile.TemporaryDirectory(prefix=f"lvm-{name}-") as made:
        Path(made).chmod(0o755)
        yield Path(made)
