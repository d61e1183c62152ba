"""The container image and the Apptainer definition: what they say, and their use (engines)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from deploy.bundle.make_bundle import this_machine
from tests.beam_jobs.engines.enclaves import unpacked_bundle
from tests.beam_jobs.engines.workflow_runs import program_or_none
from tests.beam_jobs.job_helpers import REPOSITORY, write_cohort

HADOLINT = program_or_none("hadolint")
DOCKERFILE = REPOSITORY / "deploy" / "Dockerfile"
DEFINITION = REPOSITORY / "deploy" / "lvm-ai.def"
_SUITE = "bookworm"


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile and their arguments, continued lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def sections() -> dict[str, str]:
    """Return the sections of the Apptainer definition by name; the head is named `head`."""
    found = re.split(r"^%(\w+)\n", "head\n" + DEFINITION.read_text().replace("    ", ""), flags=re.MULTILINE)
    return {"head": found[0], **dict(zip(found[1::2], found[2::2], strict=True))}


def test_dockerfile__runs_lvm_ai_as_a_user_who_is_not_root() -> None:
    said = instructions()
    assert [rest for word, rest in said if word == "ENTRYPOINT"] == ['["lvm-ai"]']
    (user,) = [rest for word, rest in said if word == "USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert said[-3][0] == "USER"  # nothing is made by this user


def test_dockerfile__takes_wheels_from_the_bundle_alone_and_names_no_registry() -> None:
    text = DOCKERFILE.read_text()
    assert "pip install" not in text
    assert next(rest for word, rest in instructions() if word == "ARG") == "BASE_IMAGE=debian:bookworm-slim"
    assert not re.search(r"https?:|[a-z]\.(io|com|org|dev)/", text)
    labels = next(rest for word, rest in instructions() if word == "LABEL")
    assert len(re.findall(r"org\.opencontainers\.image\.\w+=", labels)) == 5


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is missing: make engines")
def test_dockerfile__passes_hadolint() -> None:
    done = subprocess.run([str(HADOLINT), str(DOCKERFILE)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_definition__does_what_the_dockerfile_does() -> None:
    parts = sections()
    assert "From: debian:bookworm-slim\n" in parts["head"]
    runs = " ".join(rest for word, rest in instructions() if word == "RUN")
    for command in (
        'apt-get install -y --no-install-recommends "python$BUNDLE_PYTHON"',
        "sh /bundle/install.sh --target /opt/lvm-ai",
    ):
        assert command in parts["post"]
        assert command in runs
    exported = dict(line.removeprefix("export ").split("=", 1) for line in parts["environment"].split("\n") if line)
    (env,) = [rest for word, rest in instructions() if word == "ENV"]
    theirs = dict(word.split("=", 1) for word in env.split() if not word.startswith("NVIDIA"))
    assert exported == theirs
    for name in ("post", "environment", "runscript", "test"):
        done = subprocess.run(["sh", "-n"], input=parts[name], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


# --- building and running, without a registry and without a network -------------------------------


@cache
def why_no_builder() -> str:
    """Return why no image can be built and run here; empty where it can."""
    for program in ("buildah", "podman", "runc"):
        if shutil.which(program) is None:
            return f"{program} is not here; apt-get install buildah podman runc"
    if not os.environ.get("LVM_AI_BASE_ROOTFS") and shutil.which("mmdebstrap") is None:
        return "no base image: apt-get install mmdebstrap, or name a root file system with LVM_AI_BASE_ROOTFS=FILE.tar"
    return "" if os.getuid() == 0 else "an image is built in a chroot here, which needs root"


needs_builder = pytest.mark.skipif(bool(why_no_builder()), reason=why_no_builder() or "-")
Engine = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A function that runs buildah or podman with a store of its own, emptied at the end."""
    store = tmp_path_factory.mktemp("store")

    def run(program: str, *words: object, ok: bool = True) -> subprocess.CompletedProcess[str]:
        own = ["--storage-driver", "overlay", "--root", str(store / "root"), "--runroot", str(store / "run")]
        done = subprocess.run([program, *own, *map(str, words)], capture_output=True, text=True)
        assert done.returncode == 0 or not ok, done.stderr + done.stdout
        return done

    yield run
    run("podman", "system", "reset", "--force", ok=False)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked bundle of this machine."""
    return unpacked_bundle(tmp_path_factory.mktemp("bundle"))[1]


@pytest.fixture(scope="module")
def base(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a base image with Python, made from Debian's packages."""
    python = f"python{this_machine()[0]}"
    given = os.environ.get("LVM_AI_BASE_ROOTFS")
    rootfs = Path(given) if given else tmp_path_factory.mktemp("base") / "rootfs.tar"
    if not given:
        command = ["mmdebstrap", "--variant=minbase", f"--include=ca-certificates,{python}", _SUITE, str(rootfs)]
        subprocess.run(command, check=True, capture_output=True)
    container = engine("buildah", "from", "scratch").stdout.strip()
    engine("buildah", "add", "--quiet", container, rootfs, "/")
    engine("buildah", "commit", "--quiet", "--rm", container, "lvm-base")
    return "localhost/lvm-base"


@pytest.fixture(scope="module")
def image(engine: Engine, base: str, bundle: Path) -> str:
    """The name of the image, built in the unpacked bundle without a network."""
    words = ("--isolation", "chroot", "--build-arg", f"BASE_IMAGE={base}", "--build-arg", "REVISION=test")
    engine("buildah", "bud", *words, "-t", "lvm-ai", "-f", DOCKERFILE, bundle)
    return "localhost/lvm-ai"


def run_in(engine: Engine, image: str, folder: Path, *command: object, user: int = 12345) -> str:
    """Run a command in the image without network or home, with a root that cannot be written."""
    # Without rights to raise limits, and on machines where both versions of cgroups are mounted.
    allowed = ("--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096", "--cgroups", "no-conmon")
    place = (*allowed, "--network", "none", "--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp")
    who = ("--user", f"{user}:{user}", "--cap-drop", "all", "--security-opt", "no-new-privileges", "--unsetenv", "HOME")
    mounts = ("-v", f"{folder / 'input'}:/input:ro", "-v", f"{folder / 'output'}:/output")
    done = engine("podman", "--runtime", "runc", "run", "--rm", *place, *who, *mounts, image, *command)
    return done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with `input`, which nobody may write to, and `output` of the unknown user."""
    write_cohort(tmp_path / "input" / "ecg", 48, n_files=2)
    (tmp_path / "output").mkdir()
    os.chown(tmp_path / "output", 12345, 12345)
    return tmp_path


@pytest.mark.engines
@needs_builder
def test_image__is_labelled_and_holds_one_copy_of_the_wheels(engine: Engine, image: str) -> None:
    told = json.loads(engine("buildah", "inspect", "--type", "image", image).stdout)["OCIv1"]
    assert told["config"]["Labels"]["org.opencontainers.image.revision"] == "test"
    assert told["config"]["Entrypoint"] == ["lvm-ai"]
    size = int(json.loads(engine("podman", "image", "inspect", image).stdout)[0]["Size"])
    print(f"image {size / 1e6:.0f} MB")  # noqa: T201 - a measurement
    assert size < 3.5e9


@pytest.mark.engines
@needs_builder
def test_image__demo_runs_as_an_unknown_user_on_a_root_that_cannot_be_written(
    engine: Engine, image: str, folder: Path
) -> None:
    said = run_in(engine, image, folder, "demo", "/output/demo", "--ecgs", "40", "--people", "1000")
    assert "38 people" in said
    made = list((folder / "output").rglob("*"))
    assert {path.stat().st_uid for path in made} == {12345}
    assert {path.name for path in (folder / "output").iterdir()} == {"demo"}


@pytest.mark.engines
@needs_builder
def test_image__exchange_of_a_biobank(engine: Engine, image: str, folder: Path) -> None:
    run_in(
        engine,
        image,
        folder,
        "score",
        "--input",
        "/input/ecg",
        "--model",
        "demo-synthetic-ecg-only",
        "--output",
        "/output/s",
    )
    assert json.loads((folder / "output" / "s" / "run_report.json").read_text())["counts"]["predicted"] == 48
    assert "48" in run_in(engine, image, folder, "status", "/output/s")
    run_in(engine, image, folder, "verify", "/output/s")


@pytest.mark.engines
@needs_builder
def test_definition__its_sections_make_a_container_that_runs(
    engine: Engine, base: str, bundle: Path, folder: Path, tmp_path: Path
) -> None:
    parts = sections()
    (tmp_path / "post.sh").write_text(parts["post"])
    (tmp_path / "run.sh").write_text(f"#!/bin/sh\n{parts['environment']}\n{parts['runscript']}\n")
    recipe = tmp_path / "Dockerfile"
    # What Apptainer does with the sections: copy, carry out as root, run with the environment.
    recipe.write_text(
        f"FROM {base}\nCOPY . /bundle\nRUN --mount=type=bind,from=own,target=/own sh /own/post.sh\n"
        'COPY --from=own run.sh /run.sh\nENTRYPOINT ["sh", "/run.sh"]\n'
    )
    words = ("--isolation", "chroot", "--build-context", f"own={tmp_path}", "-t", "from-definition", "-f", recipe)
    engine("buildah", "bud", *words, bundle)
    assert "usage: lvm-ai COMMAND" in run_in(engine, "localhost/from-definition", folder, "--help")
