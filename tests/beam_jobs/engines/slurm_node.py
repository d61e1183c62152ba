"""A Slurm cluster of one node on this machine, from Debian's packages, for the tests of array jobs.

Everything of it is in one folder and ends with it: a munge key of its own, a controller and a node
daemon on the loopback device, run by the user of the tests. Nothing of a Slurm that is installed
here is touched.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Program: Debian's package that holds it.
_PROGRAMS: Final = {
    "munged": "munge",
    "mungekey": "munge",
    "slurmctld": "slurm-wlm",
    "slurmd": "slurm-wlm",
    "sbatch": "slurm-wlm",
    "scontrol": "slurm-wlm",
}
_SBIN: Final = ("/usr/sbin", "/usr/local/sbin")
_READY_S: Final = 30.0
_END_S: Final = 10.0
_POLL_S: Final = 0.2
# Jobs in these states will not run again by themselves.
_ENDED: Final = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "PREEMPTED", "DEADLINE"}


def missing() -> str | None:
    """Return what to install for a Slurm node, or None where all of it is there."""
    packages = sorted({package for name, package in _PROGRAMS.items() if _found(name) is None})
    if not packages:
        return None
    return f"Slurm is not installed: apt-get install --no-install-recommends {' '.join(packages)}"


def _found(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *_SBIN]))


def _program(name: str) -> str:
    path = _found(name)
    assert path is not None, missing()
    return path


@dataclass(frozen=True)
class Task:
    """What Slurm knows of a job or of a task of an array."""

    job_id: str  # number of its own, of one task
    name: str  # 7_3 for task 3 of array 7; the job's number for another job
    state: str  # as scontrol shows it
    exit_code: int  # of the script, of its last start
    signal: int  # that ended the script; 0 for none
    restarts: int  # times that it was started again
    submitted: str  # time, as scontrol shows it
    started: str  # time of the last start, as scontrol shows it
    ended: str  # time, as scontrol shows it


@dataclass(frozen=True)
class SlurmNode:
    """A running cluster: how to give it work and to ask for it."""

    folder: Path
    environment: Mapping[str, str]

    def command(self, *words: str, cwd: Path | None = None, **variables: str) -> str:
        """Run one of Slurm's commands and return what it writes."""
        done = subprocess.run(
            words, capture_output=True, text=True, cwd=cwd, env={**self.environment, **variables}, timeout=_READY_S
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def tasks(self, job_id: str) -> list[Task]:
        """Return the tasks of an array that Slurm has made so far, or the one job, by name."""
        text = self.command("scontrol", "--oneliner", "show", "job", job_id)
        found = [_task(line) for line in text.splitlines() if line.startswith("JobId=")]
        return sorted((task for task in found if "[" not in task.name and "-" not in task.name), key=_order)

    def wait_until(self, true: Callable[[], bool], within_s: float) -> None:
        """Wait until something is true; the daemons' logs are in the error where it is not."""
        if not _wait_quietly(true, within_s):
            raise AssertionError(f"not so after {within_s} s\n{self.command('squeue')}\n{self.logs()}")

    def wait_until_ended(self, job_id: str, n_tasks: int, within_s: float) -> list[Task]:
        """Wait until so many tasks of a job have ended, and return them."""

        def ended() -> bool:
            tasks = self.tasks(job_id)
            return len(tasks) == n_tasks and all(task.state in _ENDED for task in tasks)

        self.wait_until(ended, within_s)
        return self.tasks(job_id)

    def pids(self, job_id: str) -> list[int]:
        """Return the processes of a running task: of its script and what that started."""
        listed = subprocess.run(
            ["scontrol", "listpids", job_id], capture_output=True, text=True, env=dict(self.environment)
        ).stdout
        return [int(pid) for pid in re.findall(r"^(\d+)\s", listed, re.MULTILINE)]

    def logs(self) -> str:
        """Return the last lines of the daemons' logs, for the message of a test that failed."""
        names = ("slurmctld.log", "slurmd.log")
        return "\n".join((self.folder / name).read_text()[-2000:] for name in names if (self.folder / name).exists())


def _task(line: str) -> Task:
    fields = dict(re.findall(r"(\w+)=(\S*)", line))
    code, _, signal = fields["ExitCode"].partition(":")
    array, number = fields.get("ArrayJobId"), fields.get("ArrayTaskId")
    return Task(
        job_id=fields["JobId"],
        name=f"{array}_{number}" if array and number else fields["JobId"],
        state=fields["JobState"],
        exit_code=int(code),
        signal=int(signal),
        restarts=int(fields["Restarts"]),
        submitted=fields["SubmitTime"],
        started=fields["StartTime"],
        ended=fields["EndTime"],
    )


def _order(task: Task) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", task.name))


@contextmanager
def slurm_node(folder: Path, *, cpus: int = 2, memory_mb: int = 8000) -> Iterator[SlurmNode]:
    """Run a cluster of one node with so many CPUs in a new folder, until the block ends.

    The CPUs may be more or fewer than the machine has. The path of the folder is to be short:
    sockets are in it, and their paths have at most 107 characters.
    """
    problem = missing()
    if problem:
        raise RuntimeError(problem)
    folder.mkdir(mode=0o700)
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    for name in [name for name in environment if name.startswith(("SLURM_", "SBATCH_")) and name != "SLURM_CONF"]:
        del environment[name]  # of a job that runs the tests
    (folder / "slurm.conf").write_text(_configuration(folder, cpus, memory_mb))
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    key = str(folder / "munge.key")
    subprocess.run([_program("mungekey"), "--create", f"--keyfile={key}"], check=True, capture_output=True)
    with ExitStack() as stack:
        # --force: others cannot reach this socket, which munged would otherwise refuse.
        munged = [_program("munged"), "--foreground", "--force", f"--key-file={key}", f"--socket={folder / 'munge'}"]
        munged += [f"--{name}-file={folder / f'munge.{name}'}" for name in ("pid", "seed", "log")]
        _start(stack, munged, folder / "munged.out", environment)
        _wait_for(lambda: (folder / "munge").exists(), "munged", folder / "munged.out")
        _start(stack, [_program("slurmctld"), "-D"], folder / "slurmctld.log", environment)
        _start(stack, [_program("slurmd"), "-D", "-N", "one"], folder / "slurmd.log", environment)
        node = SlurmNode(folder, environment)
        _wait_for(lambda: _is_idle(environment), "the node", folder / "slurmd.log")
        try:
            yield node
        finally:
            subprocess.run(
                ["scancel", "--full", "--user", getpass.getuser()], env=environment, capture_output=True, timeout=_END_S
            )
            _wait_quietly(lambda: not _queue(environment), _END_S)


def _configuration(folder: Path, cpus: int, memory_mb: int) -> str:
    user, host = getpass.getuser(), socket.gethostname().partition(".")[0]
    return "\n".join(
        [
            "ClusterName=tests",
            f"SlurmctldHost={host}(127.0.0.1)",
            f"SlurmUser={user}",
            f"SlurmdUser={user}",
            # A task that starts again waits for the end of its credential: two minutes by default.
            f"AuthInfo=socket={folder / 'munge'},cred_expire=10",
            "AuthType=auth/munge",
            "CredType=cred/munge",
            f"StateSaveLocation={folder / 'state'}",
            f"SlurmdSpoolDir={folder / 'spool'}",
            f"SlurmctldPidFile={folder / 'slurmctld.pid'}",
            f"SlurmdPidFile={folder / 'slurmd.pid'}",
            f"SlurmctldPort={_free_port()}",
            f"SlurmdPort={_free_port()}",
            "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny",
            # Nothing of control groups, so that the node also runs in a container.
            "ProctrackType=proctrack/linuxproc",
            "TaskPlugin=task/none",
            "JobAcctGatherType=jobacct_gather/none",
            "AccountingStorageType=accounting_storage/none",
            "MpiDefault=none",
            "SwitchType=switch/none",
            "ReturnToService=2",
            "SlurmdParameters=config_overrides",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_CPU_Memory",
            "SchedulerParameters=sched_interval=1,batch_sched_delay=0,requeue_delay=1,bf_interval=1",
            "KillWait=5",
            "MinJobAge=86400",
            f"NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory_mb} State=UNKNOWN",
            "PartitionName=main Nodes=one Default=YES MaxTime=INFINITE State=UP",
            "",
        ]
    )


def _start(stack: ExitStack, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
    """Start a daemon that ends with the stack."""
    stream = stack.enter_context(log.open("ab"))
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=dict(environment), start_new_session=True
    )
    stack.callback(_end, process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _is_idle(environment: Mapping[str, str]) -> bool:
    shown = subprocess.run(
        ["sinfo", "--noheader", "--format=%T"], env=dict(environment), capture_output=True, text=True
    )
    return shown.stdout.split() == ["idle"]


def _queue(environment: Mapping[str, str]) -> list[str]:
    shown = subprocess.run(["squeue", "--noheader"], env=dict(environment), capture_output=True, text=True)
    return shown.stdout.split()


def _wait_for(ready: Callable[[], bool], what: str, log: Path) -> None:
    if not _wait_quietly(ready, _READY_S):
        raise RuntimeError(f"{what} is not ready after {_READY_S} s: {log.read_text()[-2000:]}")


def _wait_quietly(ready: Callable[[], bool], within_s: float) -> bool:
    end_s = time.monotonic() + within_s
    while not ready():
        if time.monotonic() > end_s:
            return False
        time.sleep(_POLL_S)
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
