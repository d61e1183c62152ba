"""What tests on Flink need: jars of a cluster and a job server, and a cluster on loopback."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil

from deploy.flink.loopback_cluster import LoopbackCluster, flink_version
from tests.beam_jobs.engines.workers import workers_below
from tests.beam_jobs.job_helpers import REPOSITORY

JARS = REPOSITORY / ".flink" / "cluster" / "pyflink" / "lib"
JOB_SERVER = REPOSITORY / ".flink" / "build" / "job-server.jar"
START_TIMEOUT_S = 900  # of a cluster, on a machine that does much else


def missing() -> str | None:
    """Return what a cluster lacks here, and how to get it; None where all is there."""
    if shutil.which("java") is None:
        return "no java; install Java 17 (Debian: openjdk-17-jre-headless)"
    if flink_version(JARS) is None or not JOB_SERVER.is_file():
        return "no Flink or no job server for it: make flink-job-server (needs Maven) fetches and builds both"
    return None


class FlinkCluster(LoopbackCluster):
    """Two TaskManagers with two slots each."""

    def __init__(self, folder: Path) -> None:
        super().__init__(JARS, folder)

    def options(self, boot: Path) -> list[str]:
        """Return the options of a job that runs here, with this boot program."""
        options = {"runner": "flink", "flink-master": self.master, "flink-job-server-jar": JOB_SERVER}
        options |= {"worker-command": boot, "start-timeout": START_TIMEOUT_S}
        return [word for name, value in options.items() for word in (f"--{name}", str(value))]

    def alive(self) -> list[psutil.Process]:
        """Return the TaskManagers that run."""
        return [psutil.Process(process.pid) for process in self.task_managers if process.poll() is None]

    def workers(self) -> list[psutil.Process]:
        """Return the Python worker processes of all TaskManagers."""
        return [worker for manager in self.alive() for worker in workers_below(manager)]

    def job_states(self) -> set[str]:
        """Return the states of all jobs, such as RUNNING."""
        return {job["state"] for job in self.get("/jobs/overview")["jobs"]}

    def kill_and_replace(self, manager: psutil.Process) -> None:
        """Kill a TaskManager and start another in its place."""
        manager.kill()
        self.start_task_manager()
