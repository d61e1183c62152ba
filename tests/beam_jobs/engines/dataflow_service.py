"""A small Dataflow on loopback: takes jobs as the service does, and runs what was staged.

It holds the parts of Google's REST interface that Beam calls. A job runs in a process of its own
(`dataflow_worker`), from the description and the staged graph alone.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.fs

_JOBS = re.compile(
    r"/v1b3/projects/(?P<project>[^/]+)/locations/(?P<region>[^/]+)/jobs(?:/(?P<id>[^/]+)(?P<rest>/.*)?)?"
)
MOST_S = 1200
_CANCELLED, _CANCELLED_NUMBER = "JOB_STATE_CANCELLED", 5
_RUNNING, _DONE, _FAILED = "JOB_STATE_RUNNING", "JOB_STATE_DONE", "JOB_STATE_FAILED"


@dataclass
class Service:
    """What the service knows; tests look into it and say how it behaves."""

    folder: Path
    filesystem: pyarrow.fs.FileSystem  # of the store
    boot: str | None = None  # entry point of the image; without it, what that starts
    ends: str | None = None  # state of every job from its start; None runs it
    refuses: tuple[int, str] | None = None  # HTTP status and Google's word for it, instead of a job
    jobs: list[dict[str, Any]] = field(default_factory=list)
    counters: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    endpoint: str = ""

    @property
    def options(self) -> list[str]:
        """Options of Beam that lead to this service."""
        return [f"--dataflow_endpoint={self.endpoint}", "--no_auth"]

    def create(self, job: dict[str, Any]) -> dict[str, Any]:
        """Take a job; like the service, answer with the active one where the name is taken."""
        for active in self.jobs:
            if active["name"] == job["name"] and active["currentState"] == _RUNNING:
                return active
        job = {**job, "id": f"2026-11-29_00_00_00-{len(self.jobs) + 1}", "currentState": self.ends or _RUNNING}
        self.jobs.append(job)
        if self.ends is None:
            threading.Thread(target=self._run, args=(job,), daemon=True).start()
        return job

    def staged(self, job: dict[str, Any], name: str = "pipeline.pb") -> bytes:
        """Return a file that was staged for a job."""
        url = job["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"]
        path = url.removeprefix("gs://").rpartition("/")[0]
        with self.filesystem.open_input_stream(f"{path}/{name}") as stream:
            return bytes(stream.read())

    def _run(self, job: dict[str, Any]) -> None:
        own = Path(tempfile.mkdtemp(prefix=job["id"], dir=self.folder))
        (own / "job.json").write_text(json.dumps(job))
        (own / "pipeline.pb").write_bytes(self.staged(job))
        words = [str(own / name) for name in ("job.json", "pipeline.pb", "result.json")]
        command = [sys.executable, "-m", "tests.beam_jobs.engines.dataflow_worker", *words]
        command += [self.boot] if self.boot else []
        log = own / "worker.log"
        with log.open("wb") as stream:
            # `timeout` ends the workers with it, whatever happens to this process.
            words = ["timeout", "--kill-after=5", str(MOST_S), *command]
            code = subprocess.run(words, stdout=stream, stderr=stream, check=False).returncode
        if code == 0:
            self.counters[job["id"]] = json.loads((own / "result.json").read_text())
        else:
            self.messages[job["id"]] = log.read_text()[-3000:]
        job["currentState"] = _FAILED if code else _DONE

    def metrics(self, job_id: str) -> list[dict[str, Any]]:
        """Return the counters of a job as the service does: each as committed and as tentative."""
        return [
            {
                "name": {
                    "origin": "user",
                    "name": counter["name"],
                    "context": {"namespace": counter["namespace"], "step": counter["step"], **tentative},
                },
                "scalar": counter["value"],
            }
            for counter in self.counters.get(job_id, [])
            for tentative in ({}, {"tentative": "true"})
        ]


class _Handler(BaseHTTPRequestHandler):
    service: Service

    def do_POST(self) -> None:
        found = _JOBS.fullmatch(self.path.partition("?")[0])
        if found is None or found["id"] is not None:
            return self._answer({"error": {"code": 404, "message": self.path, "status": "NOT_FOUND"}}, 404)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.service.refuses is not None:
            code, status = self.service.refuses
            return self._answer({"error": {"code": code, "message": "no, says the service", "status": status}}, code)
        self._answer(self.service.create({**body, "projectId": found["project"], "location": found["region"]}))

    def do_PUT(self) -> None:
        """Cancel a job: nothing else is asked for."""
        job = self._job()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if job is None or body.get("requestedState") not in (_CANCELLED, _CANCELLED_NUMBER):
            return self._answer({"error": {"code": 404, "message": self.path, "status": "NOT_FOUND"}}, 404)
        job["currentState"] = _CANCELLED
        self._answer(job)

    def _job(self) -> dict[str, Any] | None:
        found = _JOBS.fullmatch(self.path.partition("?")[0])
        return next((j for j in self.service.jobs if found is not None and j["id"] == found["id"]), None)

    def do_GET(self) -> None:
        found = _JOBS.fullmatch(self.path.partition("?")[0])
        job = self._job()
        if found is None or job is None:
            return self._answer({"error": {"code": 404, "message": self.path, "status": "NOT_FOUND"}}, 404)
        if found["rest"] == "/metrics":
            self._answer({"metrics": self.service.metrics(job["id"])})
        elif found["rest"] == "/messages":
            text = self.service.messages.get(job["id"])
            message = {
                "id": "1",
                "time": "2026-11-29T00:00:00Z",
                "messageText": text,
                "messageImportance": "JOB_MESSAGE_ERROR",
            }
            self._answer({"jobMessages": [message] if text else []})
        else:
            self._answer(job)

    def _answer(self, content: dict[str, Any], code: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@contextmanager
def dataflow_service(folder: Path, filesystem: pyarrow.fs.FileSystem) -> Iterator[Service]:
    """Run the service until the block ends."""
    service = Service(folder, filesystem)
    handler = type("Handler", (_Handler,), {"service": service})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    # Beam speaks plain HTTP only to a host of this name.
    service.endpoint = f"http://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
