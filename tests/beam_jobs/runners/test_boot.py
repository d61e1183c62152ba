"""`lvm-beam-boot`: what it refuses, what it takes from the launcher, what its log holds.

That it becomes a worker is tested by the jobs of `tests/beam_jobs/engines`.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from beam_jobs.runners import boot
from beam_jobs.runners.boot import CannotStart, WithoutMessages, check_interpreter, spare_proxies, take_environment
from tests.beam_jobs.job_helpers import REPOSITORY

ARGUMENTS = ["--id=1-1", "--provision_endpoint=127.0.0.1:1", "--control_endpoint=127.0.0.1:1"]


def start(tmp_path: Path, launcher: Mapping[str, Any] | str) -> subprocess.CompletedProcess[str]:
    """Start the program as a runner would, and wait until it ends."""
    text = launcher if isinstance(launcher, str) else json.dumps(launcher)
    environment = {**os.environ, boot.LAUNCHER: text, boot.LOG_FOLDER: str(tmp_path / "log")}
    command = [sys.executable, "-m", "beam_jobs.runners.boot", *ARGUMENTS]
    return subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def the_log(folder: Path) -> str:
    (path,) = folder.glob("worker-1-1-*.log")
    return path.read_text()


@pytest.mark.parametrize(
    ("launcher", "code", "message"),
    [
        ({"python": "3.99"}, 10, "and the run was started by Python 3.99; expected the same minor version"),
        ("[1]", 2, "LVM_BEAM_LAUNCHER is list, expected a JSON object"),
    ],
    ids=["python", "usage"],
)
def test_worker_that_cannot_start__says_why_on_stderr_in_its_log_and_by_its_exit_code(
    tmp_path: Path, launcher: Mapping[str, Any] | str, code: int, message: str
) -> None:
    done = start(tmp_path, launcher)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert message in the_log(tmp_path / "log")


@pytest.mark.parametrize(
    ("packages", "code", "message"),
    [
        ({"no-such-package": "1.2"}, 11, r"no-such-package is missing in .*expected no-such-package 1.2, as where"),
        ({"no-such-package": None}, 11, r"expected no-such-package in any version.*pip install no-such-package$"),
        (
            {"lvm-ai": "0.0.1"},
            12,
            r"lvm-ai is \S+ in .* and 0.0.1 where the run was started.*pip install lvm-ai==0.0.1",
        ),
        ({"apache-beam": "1.0"}, 12, r"apache-beam is \S+ in .* and 1.0 where"),
    ],
)
def test_check_interpreter__names_the_package(packages: Mapping[str, Any], code: int, message: str) -> None:
    with pytest.raises(CannotStart, match=message) as problem:
        check_interpreter({"packages": packages})
    assert problem.value.code == code


def test_check_interpreter__takes_what_this_launcher_sends() -> None:
    sent = json.loads(boot.worker_environment(("tensorflow",), {})[boot.LAUNCHER])
    assert sent["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert sent["packages"] == {"lvm-ai": version("lvm-ai"), "apache-beam": version("apache-beam"), "tensorflow": None}
    check_interpreter({**sent, "packages": {**sent["packages"], "tensorflow": None}})


def test_worker_environment__holds_what_is_listed_and_nothing_else() -> None:
    given = {"AWS_SECRET_ACCESS_KEY": "s", "NO_PROXY": "x", "HOME": "/h", "OMP_NUM_THREADS": "3", "PYTHONPATH": "/p"}
    sent = json.loads(boot.worker_environment((), given)[boot.LAUNCHER])
    assert sent["environment"] == {"AWS_SECRET_ACCESS_KEY": "s", "NO_PROXY": "x"}


def test_take_environment__prefers_what_the_worker_has() -> None:
    own = {"NO_PROXY": "mine"}
    lines = take_environment({"NO_PROXY": "theirs", "AWS_REGION": "eu", "LD_PRELOAD": "evil.so"}, own)
    assert own == {"NO_PROXY": "mine", "AWS_REGION": "eu"}
    assert lines[0].endswith("taken: AWS_REGION")
    assert lines[1].endswith(": NO_PROXY, LD_PRELOAD")


@pytest.mark.parametrize("mine", ["AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CONTAINER_CREDENTIALS_FULL_URI"])
def test_take_environment__mixes_no_credentials_of_two_accounts(mine: str) -> None:
    own = {mine: "x"}
    take_environment({"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "eu"}, own)
    assert own == {mine: "x", "AWS_REGION": "eu"}


def test_take_environment__takes_a_file_of_credentials_only_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "here.json").write_text("{}")
    for name, expected in [("here.json", True), ("elsewhere.json", False)]:
        own: dict[str, str] = {}
        take_environment({"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / name)}, own)
        assert bool(own) is expected


def test_take_environment__says_no_value() -> None:
    lines = take_environment({"AWS_SECRET_ACCESS_KEY": "hunter2", "AWS_PROFILE": "hunter3"}, {"NO_PROXY": "hunter4"})
    assert "hunter" not in "".join(lines)


def test_spare_proxies__reaches_the_runner_directly() -> None:
    own = {"https_proxy": "http://p:1"}
    spare_proxies(["runner-7:5000", "10.0.0.1:4", ""], own)
    assert own["no_grpc_proxy"] == "10.0.0.1,127.0.0.1,localhost,runner-7"
    without: dict[str, str] = {}
    spare_proxies(["runner-7:5000"], without)
    assert without == {}


def test_silent_runner__is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(boot, "_ANSWER_WITHIN_S", 0.2)
    monkeypatch.setenv(boot.LOG_FOLDER, str(tmp_path))
    assert boot.main(ARGUMENTS) == 13
    message = "the provision service of the runner at 127.0.0.1:1 did not answer"
    assert message in capsys.readouterr().err
    assert message in the_log(tmp_path)


def test_log__is_private_and_its_folder_is_not_one_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with boot.open_log("../1", {}) as first:
        path = Path(first.name if isinstance(first.name, str) else os.readlink(f"/proc/self/fd/{first.fileno()}"))
    assert path.parent == tmp_path / f"lvm-beam-{os.getuid()}"
    assert path.name == f"worker-___1-{os.getpid()}.log"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.parent.chmod(0o755)  # others may look into it: not ours
    boot.open_log("1", {}).close()
    (other,) = (folder for folder in tmp_path.iterdir() if folder != path.parent)
    assert stat.S_IMODE(other.stat().st_mode) == 0o700


def test_log__holds_where_an_error_was_raised_and_not_what_it_says(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom beam_jobs.runners.boot import WithoutMessages\n"
        "sys.stderr = WithoutMessages(sys.stdout)\n"
        "from lvm_core.errors import LvmError\n"
        "try:\n    {}['participant 1234567']\n"
        "except KeyError as error:\n    raise LvmError('/cohort/1234567.xml is broken') from error\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )
    assert "1234567" not in done.stdout
    assert "<string>:6" in done.stdout
    assert "KeyError (the runner has the message)" in done.stdout
    assert "lvm_core.errors.LvmError (the runner has the message)" in done.stdout


def test_log__takes_lines_that_come_in_pieces(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        stream = WithoutMessages(log)
        for piece in ("Value", "Error: 12", "34567\nof 1234567\n"):
            assert stream.write(piece) == len(piece)
    assert (tmp_path / "log").read_text().split(" ", 1)[1] == "ValueError (the runner has the message)\n"
