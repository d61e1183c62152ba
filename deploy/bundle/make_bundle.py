"""`make bundle`: one archive that installs LVM-AI on a machine without internet.

The archive holds a wheel of each pinned package and of this project, an installer, the documents,
the study files and code lists, and SHA-256 sums of everything. The same inputs give the same bytes:
names are sorted, and times, owners and modes are fixed.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path
from string import Template
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
HERE: Final = Path(__file__).resolve().parent
SUMS: Final = "SHA256SUMS"
# The first day that a zip archive can express, and a day later in every time zone.
EPOCH_S: Final = 315_619_200
# What the sources of a wheel are; also what the image is built from.
SOURCES: Final = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "lvm_ai.py")
PACKAGES: Final = ("lvm_core", "models", "beam_jobs", "analysis", "studies")
# Installed files beside what wheels hold: byte code, which Python writes when it installs.
_BYTE_CODE_SHARE: Final = 1.35
_OLD_MANYLINUX: Final = {"manylinux1": "2.5", "manylinux2010": "2.12", "manylinux2014": "2.17"}
_TEXTS: Final = ("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md")


class BundleError(Exception):
    """A bundle cannot be made; the message says why and what helps."""


@dataclass(frozen=True)
class Target:
    """The machine that a bundle is for.

    `python` is as `3.11`, `platform` a platform tag of wheels such as `manylinux_2_28_x86_64`, and
    `variant` is `cpu` or `gpu`, the file of pins.
    """

    python: str
    platform: str
    variant: str = "cpu"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"3\.\d+", self.python):
            raise BundleError(f"the Python version is {self.python!r}, expected such as 3.11")
        if not re.fullmatch(r"manylinux_2_\d+_\w+", self.platform):
            raise BundleError(f"the platform is {self.platform!r}, expected such as manylinux_2_28_x86_64")
        if self.variant not in ("cpu", "gpu"):
            raise BundleError(f"the variant is {self.variant!r}, expected cpu or gpu")

    @property
    def tag(self) -> str:
        """Such as `cp311`."""
        return "cp" + self.python.replace(".", "")

    @property
    def glibc_minor(self) -> int:
        """The `28` of `manylinux_2_28_x86_64`."""
        return int(self.platform.split("_")[2])

    @property
    def machine(self) -> str:
        """Such as `x86_64`."""
        return self.platform.split("_", 3)[3]

    @property
    def platforms(self) -> list[str]:
        """Tags of the wheels that the platform can install, the newest first."""
        tags = []
        for minor in range(self.glibc_minor, 4, -1):
            tags.append(f"manylinux_2_{minor}_{self.machine}")
            tags += [f"{old}_{self.machine}" for old, glibc in _OLD_MANYLINUX.items() if glibc == f"2.{minor}"]
        return [*tags, f"linux_{self.machine}"]


def this_machine() -> tuple[str, str]:
    """Return the Python version and the platform tag of this machine."""
    name, version = platform.libc_ver()
    if name != "glibc":
        raise BundleError(f"the C library is {name or 'unknown'}; state PLATFORM, such as manylinux_2_28_x86_64")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return python, f"manylinux_{version.replace('.', '_')}_{platform.machine()}"


# --- wheels ---------------------------------------------------------------------------------------


def gather_wheels(target: Target, wheels: Path) -> None:
    """Fetch a wheel of each pin, and build the project's own, into an empty folder.

    The hashes of the pins are checked while the files are fetched. A package that has no wheel is
    built here from its source.
    """
    wheels.mkdir(parents=True)
    _fetch(target, wheels, ROOT / f"requirements-{target.variant}.txt")
    with tempfile.TemporaryDirectory(prefix="lvm-ai-bundle-") as folder:
        pip_pin = Path(folder) / "pip.txt"
        pip_pin.write_text(pin_of("pip", ROOT / "requirements-dev.txt"), encoding="utf-8")
        _fetch(target, wheels, pip_pin)
        for source in sorted(wheels.iterdir()):
            if source.suffix != ".whl":
                _build_wheel(source, wheels)
                source.unlink()
        own = Path(folder) / "source"
        copy_sources(own)
        _build_wheel(own, wheels)


def pin_of(name: str, pins: Path) -> str:
    """Return the lines of one package, with its hashes, of a file of pins."""
    text = pins.read_text(encoding="utf-8")
    found = re.search(rf"^{re.escape(name)}==(?:.*\\\n)+.*\n", text, re.MULTILINE)
    if found is None:
        raise BundleError(f"{pins.name} has no pin of {name}; run make lock")
    return found.group()


def _fetch(target: Target, wheels: Path, pins: Path) -> None:
    where = [word for tag in target.platforms for word in ("--platform", tag)]
    # Without `--abi`, pip takes wheels of this version's own interface and of the stable one.
    kind = ["--python-version", target.python, "--implementation", "cp"]
    _pip("download", "--no-deps", "--require-hashes", "-r", str(pins), "-d", str(wheels), *where, *kind)


def _build_wheel(source: Path, wheels: Path) -> None:
    """Build a wheel of a source that needs no compiler; its bytes depend on the source alone."""
    with tempfile.TemporaryDirectory(prefix="lvm-ai-bundle-") as folder:
        _pip("wheel", "--no-deps", "--no-build-isolation", "--no-cache-dir", "-w", folder, str(source))
        (built,) = Path(folder).iterdir()
        if not built.name.endswith("-none-any.whl"):
            raise BundleError(
                f"{source.name} has no wheel for this platform, and its source needs a compiler ({built.name} came "
                f"out). Choose another PYTHON_VERSION or PLATFORM"
            )
        _write_plainly(built, wheels / built.name)


def _write_plainly(wheel: Path, to: Path) -> None:
    """Write a wheel anew: sorted names, one time, one mode."""
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as new:
        # The list of files comes last, as the format of wheels asks for.
        for name in sorted(old.namelist(), key=lambda name: (name.endswith("/RECORD"), name)):
            entry = zipfile.ZipInfo(name, time.gmtime(EPOCH_S)[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o100644 << 16
            entry.create_system = 3
            new.writestr(entry, old.read(name))


def _pip(*words: str) -> None:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH_S), "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise BundleError(f"pip {words[0]} failed:\n{done.stderr.strip()}")


# --- files of the project -------------------------------------------------------------------------


def tracked_files(*below: str) -> list[str]:
    """Return the sorted names of the project's own files in some folders or of these names.

    Where there is no git, as in a copy of the sources, every file counts that is no by-product.
    """
    done = subprocess.run(["git", "ls-files", "-z", "--", *below], cwd=ROOT, capture_output=True)
    if done.returncode == 0 and done.stdout:
        names = [name for name in done.stdout.decode().split("\0") if name and (ROOT / name).is_file()]
    else:
        paths = [
            path for name in below for path in ([ROOT / name] if (ROOT / name).is_file() else (ROOT / name).rglob("*"))
        ]
        names = [str(path.relative_to(ROOT)) for path in paths if path.is_file() and "__pycache__" not in path.parts]
    return sorted(names)


def copy_sources(to: Path) -> None:
    """Copy what the project's wheel is built from."""
    for name in tracked_files(*SOURCES, *PACKAGES):
        path = to / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, path)
        path.chmod(0o644)


def project_files() -> Iterator[tuple[str, Path]]:
    """Yield the documents, study files and container recipes, with their names in the archive.

    The names are those of the repository, so that links between documents lead somewhere.
    """
    for name in tracked_files(*_TEXTS, "docs", "studies", "deploy/Dockerfile", "deploy/lvm-ai.def"):
        if not name.endswith(".py"):
            yield name, ROOT / name


# --- what the archive says of itself --------------------------------------------------------------


@dataclass(frozen=True)
class Wheel:
    """A wheel and what its metadata say; `glibc_minor` is 0 where it needs no C library."""

    path: Path
    name: str
    version: str
    licence: str
    sha256: str
    installed_bytes: int
    glibc_minor: int


def read_wheel(path: Path) -> Wheel:
    """Read name, version, licence and needs of a wheel."""
    with zipfile.ZipFile(path) as archive:
        member = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        meta = HeaderParser().parsestr(archive.read(member).decode())
        size = sum(entry.file_size for entry in archive.infolist())
    return Wheel(
        path,
        str(meta["Name"]).lower(),
        str(meta["Version"]),
        _licence(meta.get_all),
        sha256_of(path),
        size,
        _glibc(path),
    )


def _licence(values_of: object) -> str:
    """Return the licence as the package states it: an expression, a class, or its own words."""
    assert callable(values_of)
    expression = values_of("License-Expression") or []
    classes = [text.rsplit(" :: ", 1)[-1] for text in values_of("Classifier") or [] if text.startswith("License ::")]
    own = [text.strip().splitlines()[0] for text in values_of("License") or [] if text.strip()]
    return "; ".join(expression or classes or own) or "not stated"


def _glibc(path: Path) -> int:
    """Return the least glibc 2.x that a wheel's name asks for: the smallest of its tags."""
    tags = path.name.removesuffix(".whl").rsplit("-", 1)[-1]
    for old, glibc in _OLD_MANYLINUX.items():
        tags = tags.replace(old, "manylinux_" + glibc.replace(".", "_"))
    return min((int(minor) for minor in re.findall(r"manylinux_2_(\d+)", tags)), default=0)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def pins_of(wheels: Sequence[Wheel]) -> str:
    """Return a file of pins that names each wheel of the bundle and its hash."""
    return "".join(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n" for wheel in wheels)


def list_of_packages(wheels: Sequence[Wheel]) -> str:
    """Return a table of the packages for those who decide what may come in."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["package", "version", "licence", "file", "bytes", "sha256"])
    for wheel in wheels:
        size = wheel.path.stat().st_size
        table.writerow([wheel.name, wheel.version, wheel.licence, wheel.path.name, size, wheel.sha256])
    return text.getvalue()


# --- the archive ----------------------------------------------------------------------------------


def make_bundle(target: Target, output: Path) -> Path:
    """Make the archive in a folder and return its path.

    The wheels are fetched into a folder of their own each time, so that an earlier bundle cannot
    leave something in this one; pip keeps what it fetched in its cache.
    """
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bundle-", dir=output) as folder:
        gather_wheels(target, Path(folder) / "wheels")
        wheels = [read_wheel(path) for path in sorted((Path(folder) / "wheels").iterdir())]
        own = next(wheel for wheel in wheels if wheel.name == "lvm-ai")
        variant = "" if target.variant == "cpu" else f"-{target.variant}"
        name = f"lvm-ai-{own.version}{variant}-{target.tag}-{target.platform}"
        archive = output / f"{name}.tar"
        unfinished = Path(folder) / archive.name
        write_archive(unfinished, name, contents(target, own.version, wheels))
        unfinished.replace(archive)
    return archive


def contents(target: Target, version: str, wheels: Sequence[Wheel]) -> dict[str, bytes | Path]:
    """Return the files of the archive by name, the sums of all others among them."""
    glibc = max(wheel.glibc_minor for wheel in wheels)
    disk_mb = sum(wheel.installed_bytes for wheel in wheels) * _BYTE_CODE_SHARE / 1e6
    values = {
        "version": version,
        "variant": target.variant,
        "python": target.python,
        "machine": target.machine,
        "glibc": f"2.{glibc}",
        "disk_mb": str(round(disk_mb / 100) * 100),
        "packages": str(len(wheels)),
    }
    files: dict[str, bytes | Path] = dict(project_files())
    files |= {f"wheels/{wheel.path.name}": wheel.path for wheel in wheels}
    files["README.txt"] = Template((HERE / "README.txt").read_text(encoding="utf-8")).substitute(values).encode()
    files["install.sh"] = HERE / "install.sh"
    files["bundle.env"] = "".join(f"BUNDLE_{key.upper()}={value}\n" for key, value in values.items()).encode()
    files["requirements.txt"] = pins_of(wheels).encode()
    files["PACKAGES.csv"] = list_of_packages(wheels).encode()
    files[SUMS] = sums_of(files).encode()
    return files


def sums_of(files: dict[str, bytes | Path]) -> str:
    """Return the sums of files as `sha256sum --check` reads them, sorted by name."""
    lines = []
    for name in sorted(files):
        held = files[name]
        digest = hashlib.sha256(held).hexdigest() if isinstance(held, bytes) else sha256_of(held)
        lines.append(f"{digest}  {name}\n")
    return "".join(lines)


def write_archive(path: Path, folder: str, files: dict[str, bytes | Path]) -> None:
    """Write a tar archive whose bytes depend on names and contents alone.

    It is not compressed: wheels are, and compressing them again would take a minute and save 1 %.
    """
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name in sorted(files):
            held = files[name]
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.mtime = EPOCH_S
            entry.mode = 0o755 if name.endswith(".sh") else 0o644
            entry.size = len(held) if isinstance(held, bytes) else held.stat().st_size
            with io.BytesIO(held) if isinstance(held, bytes) else held.open("rb") as stream:
                archive.addfile(entry, stream)


def main(argv: Sequence[str] | None = None) -> int:
    """Make a bundle and say what it is; return 0, or 1 where it cannot be made."""
    parser = argparse.ArgumentParser(prog="make bundle", description=__doc__)
    parser.add_argument("--python-version", default="", help="of the machine it is for (default: this one's)")
    parser.add_argument("--platform", default="", help="such as manylinux_2_28_x86_64 (default: this machine's)")
    parser.add_argument("--variant", choices=("cpu", "gpu"), default="cpu", help="the pins (default: %(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="folder for the archive")
    args = parser.parse_args(argv)
    start = time.monotonic()
    try:
        own_python, own_platform = ("", "") if args.python_version and args.platform else this_machine()
        target = Target(args.python_version or own_python, args.platform or own_platform, args.variant)
        archive = make_bundle(target, args.output)
    except BundleError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    size_mb = archive.stat().st_size / 1e6
    sys.stdout.write(f"{archive}: {size_mb:.0f} MB in {time.monotonic() - start:.0f} s\n")
    sys.stdout.write(f"sha256 {sha256_of(archive)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
