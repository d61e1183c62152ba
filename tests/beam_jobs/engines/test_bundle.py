"""The bundle: what it holds, that its bytes are the same each time, its installer, and its use."""

from __future__ import annotations

import csv
import ensurepip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.bundle.make_bundle import (
    SUMS,
    BundleError,
    Target,
    contents,
    copy_sources,
    main,
    make_bundle,
    pin_of,
    read_wheel,
    sums_of,
    this_machine,
    write_archive,
)
from tests.beam_jobs.engines.enclaves import (
    UNKNOWN_USER,
    cut_off,
    open_folder,
    system_python,
    unpack,
    unpacked_bundle,
    why_no_namespace,
)
from tests.beam_jobs.job_helpers import ECG_ONLY, REPOSITORY, exclusion_list, rows_of, write_cohort, write_participants

PYTHON, PLATFORM = this_machine()
HERE = Target(PYTHON, PLATFORM)


# --- which wheels ---------------------------------------------------------------------------------


def test_target__takes_older_platforms_too_and_the_newest_first() -> None:
    tags = Target("3.11", "manylinux_2_17_x86_64").platforms
    assert tags[:3] == ["manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux_2_16_x86_64"]
    assert tags[-3:] == ["manylinux_2_5_x86_64", "manylinux1_x86_64", "linux_x86_64"]
    assert "manylinux_2_18_x86_64" not in tags
    assert Target("3.12", "manylinux_2_28_aarch64").machine == "aarch64"


@pytest.mark.parametrize(
    ("python", "platform", "variant", "said"),
    [
        ("3", "manylinux_2_28_x86_64", "cpu", "Python version is '3', expected such as 3.11"),
        ("3.11", "win_amd64", "cpu", "platform is 'win_amd64', expected such as manylinux_2_28_x86_64"),
        ("3.11", "manylinux_2_28_x86_64", "tpu", "variant is 'tpu', expected cpu or gpu"),
    ],
)
def test_target__says_what_was_expected(python: str, platform: str, variant: str, said: str) -> None:
    with pytest.raises(BundleError, match=said):
        Target(python, platform, variant)


def test_main__mistake_is_one_line_and_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--platform", "linux", "--python-version", "3.11", "--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err.splitlines()[0].startswith("error: the platform is 'linux'")
    assert list(tmp_path.iterdir()) == []


def test_pin_of__has_the_package_alone_and_its_hashes() -> None:
    lines = pin_of("pip", REPOSITORY / "requirements-dev.txt").splitlines()
    assert lines[0].startswith("pip==")
    assert [line.strip().partition("sha256:")[0] for line in lines[1:] if "#" not in line] == ["--hash="] * 2
    with pytest.raises(BundleError, match=r"requirements-cpu.txt has no pin of pip"):
        pin_of("pip", REPOSITORY / "requirements-cpu.txt")


def test_copy_sources__holds_what_git_has_and_nothing_else(tmp_path: Path) -> None:
    stray = REPOSITORY / "models" / "demo" / "stray.keras.tmp"
    stray.write_bytes(b"left by somebody")
    try:
        copy_sources(tmp_path)
    finally:
        stray.unlink()
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert {"setup.py", "lvm_ai.py", "models/demo/demo-synthetic.keras.xz", "studies/code_lists/outcomes.csv"} <= names
    assert not {name for name in names if "stray" in name or name.startswith(("tests", "docs"))}


# --- the archive, with two small wheels -----------------------------------------------------------


def small_wheel(path: Path) -> Path:
    """Write a wheel named lvm-ai whose program prints its arguments."""
    info = "lvm_ai-9.9.dist-info/{}"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("lvm_ai.py", "import sys\ndef main(): print('ran', *sys.argv[1:])\n")
        wheel.writestr(
            info.format("METADATA"), "Metadata-Version: 2.1\nName: lvm-ai\nVersion: 9.9\nLicense: Apache-2.0\n"
        )
        wheel.writestr(info.format("WHEEL"), "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(info.format("entry_points.txt"), "[console_scripts]\nlvm-ai = lvm_ai:main\n")
        wheel.writestr(info.format("RECORD"), "")
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of pip and the small wheel, unpacked."""
    folder = tmp_path_factory.mktemp("small")
    pip = next((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))
    wheels = [read_wheel(small_wheel(folder / "lvm_ai-9.9-py3-none-any.whl")), read_wheel(pip)]
    write_archive(folder / "bundle.tar", "bundle", contents(HERE, "9.9", wheels))
    unpack(folder / "bundle.tar", folder)
    return folder / "bundle"


def test_contents__are_what_a_data_manager_needs(small: Path) -> None:
    names = {str(path.relative_to(small)) for path in small.rglob("*") if path.is_file()}
    assert {"README.txt", "install.sh", "LICENSE", "docs/running.md", "studies/code_lists/outcomes.csv"} <= names
    with (small / "PACKAGES.csv").open(newline="") as stream:
        rows = {row["package"]: row for row in csv.DictReader(stream)}
    assert (rows["lvm-ai"]["version"], rows["lvm-ai"]["licence"]) == ("9.9", "Apache-2.0")
    assert rows["pip"]["licence"].startswith("MIT")  # by its expression or its class, as the version has it
    page = (small / "README.txt").read_text()
    assert "LVM-AI 9.9 for machines without internet" in page
    assert len(page.splitlines()) <= 60
    assert max(map(len, page.splitlines())) <= 80


def test_sums__cover_every_file_but_themselves(small: Path) -> None:
    named = dict(reversed(line.split("  ")) for line in (small / SUMS).read_text().splitlines())
    files = {str(path.relative_to(small)): path for path in small.rglob("*") if path.is_file()}
    assert set(named) == set(files) - {SUMS}
    assert all(hashlib.sha256(files[name].read_bytes()).hexdigest() == digest for name, digest in named.items())


def test_write_archive__bytes_depend_on_names_and_contents_alone(tmp_path: Path) -> None:
    archives = []
    for i, (mode, when) in enumerate([(0o600, 1e9), (0o755, 1.7e9)]):
        file = tmp_path / f"held-{i}"
        file.write_bytes(b"wheel")
        file.chmod(mode)
        os.utime(file, (when, when))
        held = {"wheels/b.whl": file, "a.sh": b"#!/bin/sh"}
        write_archive(tmp_path / f"{i}.tar", "x", dict(sorted(held.items(), reverse=bool(i))))
        archives.append((tmp_path / f"{i}.tar").read_bytes())
    assert archives[0] == archives[1]
    with tarfile.open(tmp_path / "0.tar") as packed:
        assert [(entry.name, entry.mode, entry.uid) for entry in packed] == [
            ("x/a.sh", 0o755, 0),
            ("x/wheels/b.whl", 0o644, 0),
        ]


# --- the installer, with two small wheels ---------------------------------------------------------


def install(bundle: Path, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the installer with an environment of its own: no home folder unless it is given."""
    command = ["sh", bundle / "install.sh", *words]
    given = {"PATH": f"{Path(sys.executable).parent}:{os.defpath}", **environment}
    return subprocess.run(list(map(str, command)), env=given, capture_output=True, text=True, cwd=bundle.parent)


def test_install__makes_an_environment_that_works_and_writes_nowhere_else(small: Path, tmp_path: Path) -> None:
    target = tmp_path / "below" / "env"
    before = sorted(small.parent.rglob("*"))
    # An index that is nowhere: pip must not look at it, whatever the user's settings are.
    done = install(
        small, "--target", target, "--python", sys.executable, PIP_INDEX_URL="http://127.0.0.1:9/", PIP_NO_DEPS="no"
    )
    assert done.returncode == 0, done.stderr
    assert f"installed: {target}/bin/lvm-ai" in done.stdout
    assert sorted(small.parent.rglob("*")) == before
    assert [path.name for path in tmp_path.iterdir()] == ["below"]
    ran = subprocess.run([target / "bin" / "lvm-ai", "score"], capture_output=True, text=True, env={})
    assert ran.stdout == "ran score\n"
    again = install(small, "--target", target, "--python", sys.executable)
    assert (again.returncode, again.stdout) == (1, "")
    assert f"{target} is there already" in again.stderr


def test_install__changed_wheel_is_named_and_nothing_is_left(small: Path, tmp_path: Path) -> None:
    changed = tmp_path / "bundle"
    shutil.copytree(small, changed)
    (wheel,) = (changed / "wheels").glob("lvm_ai*")
    wheel.write_bytes(wheel.read_bytes() + b"x")
    (changed / "docs" / "limits.md").unlink()
    done = install(changed, "--target", tmp_path / "env", "--python", sys.executable)
    assert done.returncode == 1
    assert f"wheels/{wheel.name}: FAILED" in done.stderr
    assert "docs/limits.md: FAILED open or read" in done.stderr
    assert "Copy the archive again" in done.stderr
    assert not (tmp_path / "env").exists()


def test_install__wheel_that_sums_were_made_for_anew_is_refused_by_its_pin(small: Path, tmp_path: Path) -> None:
    changed = tmp_path / "bundle"
    shutil.copytree(small, changed)
    (wheel,) = (changed / "wheels").glob("lvm_ai*")
    wheel.write_bytes(wheel.read_bytes() + b"x")
    files = {
        str(path.relative_to(changed)): path for path in changed.rglob("*") if path.is_file() and path.name != SUMS
    }
    (changed / SUMS).write_text(sums_of(dict(files)))
    done = install(changed, "--target", tmp_path / "env", "--python", sys.executable)
    assert done.returncode == 1
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert f"{tmp_path / 'env'} was removed" in done.stderr
    assert not (tmp_path / "env").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("BUNDLE_PYTHON=3.99", f"is Python {PYTHON}, and this bundle is for 3.99"),
        ("BUNDLE_MACHINE=s390x", "and this bundle is for s390x"),
        ("BUNDLE_GLIBC=2.99", "these wheels need glibc 2.99 or newer"),
        ("BUNDLE_DISK_MB=900000000", "MB free, and 900000000 MB are needed"),
    ],
)
def test_install__machine_that_does_not_fit_is_told_apart(small: Path, tmp_path: Path, line: str, said: str) -> None:
    other = tmp_path / "bundle"
    shutil.copytree(small, other)
    with (other / "bundle.env").open("a") as stream:
        stream.write(f"{line}\n")
    done = install(other, "--target", tmp_path / "env", "--python", sys.executable)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert not (tmp_path / "env").exists()


def test_install__wrong_options_are_2_and_help_says_what_it_needs(small: Path) -> None:
    assert install(small, "--to", "x").returncode == 2
    assert install(small, "--target").returncode == 2
    missing = install(small, "--python", "python3.99")
    assert (missing.returncode, "python3.99 was not found" in missing.stderr) == (1, True)
    told = install(small, "--help")
    assert told.returncode == 0
    assert f"It needs Python {PYTHON}" in told.stdout


# --- the whole bundle -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundle() -> Iterator[tuple[Path, Path]]:
    """The bundle of this machine: the archive, and the folder that it unpacks to."""
    with open_folder("bundle") as folder:
        yield unpacked_bundle(folder)


@pytest.fixture(scope="module")
def installed(bundle: tuple[Path, Path]) -> Iterator[Path]:
    """A folder of an unknown user, with the bundle installed in `env` without any network."""
    if why_no_namespace() or system_python() is None:
        pytest.skip(why_no_namespace() or f"no python{PYTHON} that any user can run; apt-get install python{PYTHON}")
    with open_folder("enclave") as folder:
        os.chown(folder, UNKNOWN_USER, UNKNOWN_USER)
        command = ["sh", bundle[1] / "install.sh", "--target", folder / "env", "--python", system_python()]
        start = time.monotonic()
        done = subprocess.run(cut_off(command, loopback=False), capture_output=True, text=True, cwd=folder)
        assert done.returncode == 0, done.stderr
        print(f"archive {bundle[0].stat().st_size / 1e6:.0f} MB, installed in {time.monotonic() - start:.0f} s")  # noqa: T201 - a measurement
        print(done.stdout)  # noqa: T201
        yield folder


@pytest.mark.engines
def test_bundle__same_inputs_give_the_same_bytes(bundle: tuple[Path, Path], tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        again = make_bundle(HERE, tmp_path)
    finally:
        os.umask(before)
    assert again.name == bundle[0].name
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(bundle[0].read_bytes()).digest()


def commands_of(part: str) -> str:
    """Return the commands of a part of the page, as a shell reads them."""
    page = (REPOSITORY / "docs" / "running_in_enclaves.md").read_text(encoding="utf-8")
    return page.partition(f"## {part}")[2].partition("\n## ")[0].partition("```sh\n")[2].partition("```")[0]


def test_page__its_parts_have_commands() -> None:
    assert "install.sh --target" in commands_of("2. Inside: check and install")
    assert "lvm-ai score --input input" in commands_of("3. Inside: run")


@pytest.mark.engines
def test_page__exchange_works_as_written(bundle: tuple[Path, Path]) -> None:
    if why_no_namespace() or system_python() is None:
        pytest.skip(why_no_namespace() or f"no python{PYTHON} that any user can run")
    with open_folder("exchange") as folder:
        made = write_cohort(folder / "input", 40, n_files=2)
        write_participants(folder / "participants.csv", made)
        exclusion_list(folder / "withdrawn.txt", made.participant_id[3])
        (folder / bundle[0].name).symlink_to(bundle[0])
        os.chown(folder, UNKNOWN_USER, UNKNOWN_USER)
        script = commands_of("2. Inside: check and install") + commands_of("3. Inside: run")
        inside = cut_off(["sh", "-euxc", script], loopback=False)
        done = subprocess.run(inside, capture_output=True, text=True, cwd=folder)
        assert done.returncode == 0, done.stderr
        report = json.loads((folder / "output" / "scored" / "run_report.json").read_text())
        assert report["counts"]["predicted"] == 39


@pytest.mark.engines
def test_bundle__nothing_can_be_reached_where_it_runs(installed: Path) -> None:
    code = "import socket; s = socket.socket(); s.settimeout(5); s.connect(({!r}, 53))"
    for address, loopback, said in (("192.0.2.1", True, "unreachable"), ("127.0.0.1", False, "unreachable")):
        command = [installed / "env/bin/python", "-c", code.format(address)]
        done = subprocess.run(cut_off(command, loopback=loopback), capture_output=True, text=True)
        assert said in done.stderr


@pytest.mark.engines
@pytest.mark.parametrize("loopback", [False, True])
def test_bundle__demo_runs_without_any_network_or_home(installed: Path, loopback: bool) -> None:
    demo = [installed / "env/bin/lvm-ai", "demo", f"demo-{loopback}", "--ecgs", "40", "--people", "1000"]
    done = subprocess.run(cut_off(demo, loopback=loopback), capture_output=True, text=True, cwd=installed)
    assert done.returncode == 0, done.stderr
    assert "38 people" in done.stdout
    assert (installed / f"demo-{loopback}" / "study" / "export" / "report.html").stat().st_size > 100_000
    assert {path.name for path in installed.iterdir()} <= {"env", "demo-True", "demo-False", "score"}


@pytest.mark.engines
def test_bundle__scores_as_the_sources_do_with_a_home_that_cannot_be_written(installed: Path) -> None:
    folder = installed / "score"
    folder.mkdir(mode=0o755)
    write_cohort(folder / "in", 64, n_files=2)
    (folder / "home").mkdir(mode=0o555)
    (folder / "out").mkdir()
    os.chown(folder / "out", UNKNOWN_USER, UNKNOWN_USER)
    words = [
        "score",
        "--input",
        folder / "in",
        "--model",
        ECG_ONLY,
        "--unit-ecgs",
        "16",
        "--batch",
        "8",
        "--threads",
        "2",
    ]
    ours = subprocess.run(
        [sys.executable, "-m", "lvm_ai", *map(str, words), "--output", folder / "ours"], cwd=REPOSITORY
    )
    assert ours.returncode == 0
    lvm_ai = installed / "env/bin/lvm-ai"
    home = {"HOME": str(folder / "home")}
    for loopback, more in ((False, ()), (True, ("--processes", "2"))):
        out = folder / "out" / str(loopback)
        done = subprocess.run(
            cut_off([lvm_ai, *words, *more, "--output", out], loopback=loopback, **home), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        checked = subprocess.run(cut_off([lvm_ai, "verify", out], loopback=False), capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
        # Rows, not bytes: the file names the version of Python, 3.11.2 in Debian.
        assert rows_of(out / "predictions") == rows_of(folder / "ours" / "predictions")
    assert list((folder / "home").iterdir()) == []
