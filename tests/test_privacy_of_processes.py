"""What processes of a job show to others: ports, files, names of people; and no pickles."""

from __future__ import annotations

import ast
import csv
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lvm_core.signal.ecg import LEADS_12
from tests.beam_jobs.conftest import Finish, finish, home, spawn
from tests.beam_jobs.job_helpers import FULL, exclusion_list, people, score_argv
from tests.file_builders import cardiosoft_xml
from tests.test_architecture import FILES, ROOT

__all__ = ["finish", "home", "spawn"]

SECRET = "SECRETPERSON1234"
PATTERN = r"(?P<ecg_id>(?P<participant_id>[A-Z0-9]+)_[0-9])[.]xml$"
_LISTENS = "0A"  # state of a TCP socket in /proc/net/tcp
_LOOPBACK = ("0100007F:", "00000000000000000000000001000000:")  # 127.0.0.1 and ::1, as the kernel has them


# --- nothing that a folder holds is unpickled -----------------------------------------------------

_RUNS_CODE = {"pickle", "cPickle", "_pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal", "torch"}
_READS_PICKLES = {"read_pickle", "to_pickle", "unsafe_load", "full_load", "deserialize_pandas"}


def _that_run_code(tree: ast.AST) -> Iterator[str]:
    """Yield what in a module could run code that a file holds."""
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
        yield from (name for name in (module, *names) if _RUNS_CODE & set(name.split(".")))
        if isinstance(node, ast.Attribute) and node.attr in _READS_PICKLES:
            yield node.attr
        if isinstance(node, ast.Name) and node.id in {"eval", "exec"}:
            yield node.id
        if isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant):
            if (node.arg, node.value.value) in {("allow_pickle", True), ("safe_mode", False)}:
                yield f"{node.arg}={node.value.value}"


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "import a.dill",
        "np.load(f, allow_pickle=True)",
        "keras.saving.load_model(f, safe_mode=False)",
        "pd.read_pickle(f)",
        "eval(text)",
        "yaml.unsafe_load(f)",
    ],
)
def test_that_run_code__is_found(code: str) -> None:
    assert list(_that_run_code(ast.parse(code)))


def test_packages__never_unpickle_or_run_what_a_file_holds() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {what}"
        for path in (*FILES, ROOT / "lvm_ai.py")
        for what in _that_run_code(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == set()


# --- what can be seen of processes while they run -------------------------------------------------


@dataclass
class Seen:
    """What a watch saw of a process and those that it started."""

    processes: set[int] = field(default_factory=set)
    listening: set[str] = field(default_factory=set)  # address and port, as the kernel writes them
    temporary: dict[str, int] = field(default_factory=dict)  # mode by name, of what was in TMPDIR
    open_to_others: dict[str, int] = field(default_factory=dict)  # mode by path, of files open for writing


def _tree(pid: int) -> set[int]:
    found = {pid}
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in _read(children).split():
            found |= _tree(int(child))
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):  # the process has ended meanwhile
        return ""


def _look_at_process(pid: int, seen: Seen) -> None:
    seen.processes.add(pid)
    sockets = set()
    for descriptor in _names(f"/proc/{pid}/fd"):
        link = _link(f"/proc/{pid}/fd/{descriptor}")
        if link.startswith("socket:["):
            sockets.add(link[len("socket:[") : -1])
        elif link.startswith("/") and not link.startswith(("/dev/", "/proc/")):
            _look_at_file(pid, descriptor, link, seen)
    for table in ("tcp", "tcp6"):
        for line in _read(Path(f"/proc/{pid}/net/{table}")).splitlines()[1:]:
            cells = line.split()
            if cells[3] == _LISTENS and cells[9] in sockets:
                seen.listening.add(cells[1])


def _look_at_file(pid: int, descriptor: str, link: str, seen: Seen) -> None:
    flags = [
        line.split()[1] for line in _read(Path(f"/proc/{pid}/fdinfo/{descriptor}")).splitlines() if "flags" in line
    ]
    if not flags or int(flags[0], 8) & os.O_ACCMODE == os.O_RDONLY:
        return
    try:
        mode = stat.S_IMODE(os.stat(f"/proc/{pid}/fd/{descriptor}").st_mode)
    except OSError:
        return
    if mode & 0o077:
        seen.open_to_others[link] = mode


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _look_at_folder(folder: Path, seen: Seen) -> None:
    for name in _names(str(folder)):
        try:
            mode = stat.S_IMODE((folder / name).lstat().st_mode)
        except OSError:
            continue
        seen.temporary[name] = mode | seen.temporary.get(name, 0)
        # What is in a folder that nobody else may enter cannot be reached, whatever its mode.
        if (folder / name).is_dir() and mode & 0o077:
            _look_at_folder(folder / name, seen)


def watched(argv: Sequence[str], folder: Path) -> tuple[subprocess.CompletedProcess[str], Seen]:
    """Run a command with the usual umask and an empty TMPDIR; return what it said and was seen."""
    temporary, seen = folder / "tmp", Seen()
    temporary.mkdir(exist_ok=True)
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(
        [sys.executable, "-m", "lvm_ai", *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        umask=0o022,
    ) as process:

        def look() -> None:
            while process.poll() is None:
                for pid in _tree(process.pid):
                    _look_at_process(pid, seen)
                _look_at_folder(temporary, seen)
                time.sleep(0.02)

        watch = threading.Thread(target=look)
        watch.start()
        out, err = process.communicate()
        watch.join()
    return subprocess.CompletedProcess(argv, process.returncode, out, err), seen


def named_cohort(folder: Path, n: int = 8) -> list[str]:
    """Write device files and a table of people whose names say who they are; return the names."""
    names = [f"{SECRET}{i:02d}" for i in range(n)]
    made = people(n)
    (folder / "in").mkdir()
    for i, name in enumerate(names):
        counts = {lead: made.counts[i, k] for k, lead in enumerate(LEADS_12)}
        (folder / "in" / f"{name}_1.xml").write_bytes(cardiosoft_xml(counts, participant_id=name))
    (folder / "in" / f"{names[1]}_1.xml").write_bytes(b"<CardiologyXML>")  # broken off
    rows = [[name, 60, "female", 170, 70] for name in names if name != names[2]]
    write_people(folder / "people.csv", rows)
    exclusion_list(folder / "out.txt", names[3], f"{SECRET}99")
    return names


def write_people(path: Path, rows: Sequence[Sequence[object]]) -> None:
    """Write a table of people."""
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([["participant_id", "age_years", "sex", "height_cm", "weight_kg"], *rows])


def score_them(folder: Path, out: str = "run", people_file: str = "people.csv") -> list[str]:
    """Return the command that scores the cohort."""
    more = ("--participants", folder / people_file, "--exclude-participants", folder / "out.txt")
    # The table misses a person of eight, and two of eight are rejected: both are let through.
    let = ("--id-pattern", PATTERN, "--max-rejected-share", "0.9", "--accept-people")
    return score_argv(folder / "in", folder / out, *more, *let, model=FULL)


def test_watch__sees_ports_and_files_of_a_child(tmp_path: Path) -> None:
    code = (
        "import os, socket, tempfile, time; s = socket.socket(); s.bind(('0.0.0.0', 0)); s.listen();"
        "f = open(os.path.join(tempfile.gettempdir(), 'open'), 'w'); time.sleep(1)"
    )
    seen = Seen()
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    with subprocess.Popen([sys.executable, "-c", outer], env=environment, umask=0o022) as process:
        while process.poll() is None:
            for pid in _tree(process.pid):
                _look_at_process(pid, seen)
            _look_at_folder(tmp_path, seen)
            time.sleep(0.02)
    assert len(seen.processes) == 2
    assert [address.partition(":")[0] for address in seen.listening] == ["00000000"]
    assert seen.temporary == {"open": 0o644}
    assert seen.open_to_others == {str(tmp_path / "open"): 0o644}


def require_private(seen: Seen, folder: Path) -> None:
    """Assert that nobody else could reach a port, or a file while it was written."""
    assert {address for address in seen.listening if not address.startswith(_LOOPBACK)} == set()
    assert {name: mode for name, mode in seen.temporary.items() if mode & 0o077} == {}
    assert seen.open_to_others == {}
    assert not [name for name in seen.temporary if SECRET in name]
    assert list((folder / "tmp").iterdir()) == []


@pytest.mark.tf
def test_score__listens_nowhere_leaves_nothing_and_names_nobody(tmp_path: Path) -> None:
    names = named_cohort(tmp_path)
    done, seen = watched(score_them(tmp_path), tmp_path)
    assert done.returncode == 0, done.stderr
    require_private(seen, tmp_path)
    assert seen.listening == set()
    assert SECRET not in done.stdout + done.stderr
    said = [path for path in (tmp_path / "run").rglob("*") if path.suffix == ".json" and path.name != "plan.json"]
    assert "run_report.json" in {path.name for path in said}
    assert not [path for path in said if SECRET in path.read_text()]
    assert not [path for path in (tmp_path / "run").rglob("*") if SECRET in path.name]
    # The plan lists the inputs, whoever is in their names; excluded people are not in it.
    plan = (tmp_path / "run" / "plan.json").read_text()
    assert names[0] in plan
    assert names[3] not in plan


@pytest.mark.engines
@pytest.mark.parametrize("command", ["processes", "portable", "demo", "analyse"])
def test_commands__listen_nowhere_and_leave_nothing(command: str, tmp_path: Path) -> None:
    named_cohort(tmp_path)
    demo = ["demo", str(tmp_path / "demo"), "--ecgs", "20", "--people", "1000"]
    argv = {
        "processes": [*score_them(tmp_path), "--processes", "2"],
        "portable": [*score_them(tmp_path), "--runner", "portable"],
        "demo": demo,
        "analyse": ["analyse", str(tmp_path / "demo" / "study.yaml"), "--output", str(tmp_path / "study")],
    }[command]
    if command == "analyse":
        assert subprocess.run([sys.executable, "-m", "lvm_ai", *demo], capture_output=True).returncode == 0
    done, seen = watched(argv, tmp_path)
    assert done.returncode == 0, done.stderr
    require_private(seen, tmp_path)
    assert SECRET not in done.stdout + done.stderr
    assert len(seen.processes) > 1 or command not in ("processes", "portable")


# --- messages -------------------------------------------------------------------------------------


def said_by(finish: Finish, folder: Path, *argv: object) -> tuple[int, str]:
    """Run a command with the fake predictor; return its exit code and what it said."""
    log = folder / "log"
    log.write_text("")
    code = finish([str(word) for word in argv], log=str(log))
    return code, log.read_text()


def test_mistakes__messages_name_nobody(tmp_path: Path, finish: Finish) -> None:
    names = named_cohort(tmp_path)
    good = [[name, 60, "female", 170, 70] for name in names]
    tables = {
        "twice.csv": [*good, good[0]],
        "shifted.csv": [[60, name, "female", 170, 70] for name in names],
        "sex.csv": [[name, 60, name, 170, 70] for name in names],
        "short.csv": [*good, [names[0]]],
    }
    for file, rows in tables.items():
        write_people(tmp_path / file, rows)
        code, said = said_by(finish, tmp_path, *score_them(tmp_path, "other", file))
        assert (file, code) == (file, 2), said
        assert SECRET not in said


def test_whole_life_of_a_run__messages_name_nobody(tmp_path: Path, finish: Finish) -> None:
    names = named_cohort(tmp_path)
    run = tmp_path / "run"
    for argv in (
        score_them(tmp_path),
        score_them(tmp_path),
        ["status", run],
        ["withdraw", run, "--participants", exclusion_list(tmp_path / "gone.txt", names[5], f"{SECRET}98")],
        ["verify", run, "--no-sample"],
    ):
        code, said = said_by(finish, tmp_path, *argv)
        assert (argv[0], code) == (argv[0], 0), said
        assert SECRET not in said
    gone = tmp_path / "in" / f"{names[0]}_1.xml"
    gone.unlink()
    code, said = said_by(finish, tmp_path, *score_them(tmp_path))
    assert code == 2, said
    # The user must find this file: the one message that names it, as docs/safety.md says.
    assert gone.name in said
    assert SECRET not in said.replace(gone.name, "")
