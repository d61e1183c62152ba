"""DNAnexus on this machine, for tests: its own tools and local runner, and a small server.

The tools (`dx-download-all-inputs`, `dx-upload-all-outputs`, `dx-jobutil-new-job` ...) and what
runs entry points come from DNAnexus' package `dxpy`. This file adds the part that only the platform
has: a store of files on loopback, and jobs that are started again as the applet's policy says.

Runs with the interpreter that has dxpy, and needs nothing of this project:
`python dnanexus_platform.py APPLET FOLDER INPUTS.json` runs the applet and writes its outputs to
`FOLDER/outputs.json`. In inputs and outputs a file is `{"path": PATH}`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PROJECT = "project-" + "P" * 24


class FileStore:
    """The files of the platform: a folder of contents, and what is known of each."""

    def __init__(self, folder: Path) -> None:
        """Begin with no files."""
        folder.mkdir()
        self._folder = folder
        self._names: dict[str, str] = {}
        self._states: dict[str, str] = {}
        self._lock = threading.Lock()
        self.address = ""

    def path(self, file_id: str) -> Path:
        """Return where the content of a file is."""
        return self._folder / file_id

    def new(self, name: str) -> str:
        """Make an open file without content."""
        with self._lock:
            file_id = f"file-{len(self._names):024d}"
            self._names[file_id] = name
            self._states[file_id] = "open"
        self.path(file_id).touch()
        return file_id

    def add(self, path: Path) -> str:
        """Copy a file into the store."""
        file_id = self.new(path.name)
        shutil.copyfile(path, self.path(file_id))
        self._states[file_id] = "closed"
        return file_id

    def name(self, file_id: str) -> str:
        """Return the name of a file."""
        return self._names[file_id]

    def answer(self, route: str, request: dict[str, Any]) -> dict[str, Any]:
        """Answer a call of the platform's interface."""
        parts = route.strip("/").split("/")
        if parts == ["file", "new"]:
            return {"id": self.new(request["name"])}
        if parts[0].startswith(("project-", "container-")):
            limits = {"minimumPartSize": 1, "maximumPartSize": 2**32, "maximumNumParts": 1, "maximumFileSize": 2**32}
            return {"id": parts[0], "fileUploadParameters": {**limits, "emptyLastPartAllowed": True}}
        file_id, method = parts
        url = {"url": f"{self.address}/content/{file_id}", "headers": {}, "expires": int(time.time() * 1000) + 3600_000}
        if method == "describe":
            return self._describe(file_id)
        if method in ("upload", "download"):
            return url
        if method == "close":
            self._states[file_id] = "closed"
            return {"id": file_id}
        raise KeyError(route)

    def _describe(self, file_id: str) -> dict[str, Any]:
        content = self.path(file_id).read_bytes()
        part = {"size": len(content), "md5": hashlib.md5(content).hexdigest(), "state": "complete"}
        return {
            "id": file_id,
            "class": "file",
            "project": PROJECT,
            "name": self._names[file_id],
            "folder": "/",
            "state": self._states[file_id],
            "size": len(content),
            "parts": {"1": part},
            "drive": "",
        }


def _handler(store: FileStore) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def _send(self, code: int, data: bytes, kind: str, more: dict[str, str] | None = None) -> None:
            self.send_response(code)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(more or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self) -> None:
            try:
                answer = store.answer(self.path, json.loads(self._body() or b"{}"))
            except (KeyError, ValueError, FileNotFoundError) as error:
                text = json.dumps({"error": {"type": "ResourceNotFound", "message": f"{self.path}: {error}"}})
                self._send(404, text.encode(), "application/json")
                return
            self._send(200, json.dumps(answer).encode(), "application/json")

        def do_PUT(self) -> None:
            store.path(self.path.rsplit("/", 1)[1]).write_bytes(self._body())
            self._send(200, b"", "text/plain")

        def do_GET(self) -> None:
            content = store.path(self.path.rsplit("/", 1)[1]).read_bytes()
            wanted = self.headers.get("Range", "")
            if not wanted:
                self._send(200, content, "application/octet-stream")
                return
            first, last = (int(number) for number in wanted.removeprefix("bytes=").split("-"))
            piece = content[first : last + 1]
            where = {"Content-Range": f"bytes {first}-{first + len(piece) - 1}/{len(content)}"}
            self._send(206, piece, "application/octet-stream", where)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


def _with_links(value: Any, link: Callable[[Path], str]) -> Any:
    if isinstance(value, list):
        return [_with_links(one, link) for one in value]
    return {"$dnanexus_link": link(Path(value["path"]))} if isinstance(value, dict) else value


def _with_paths(value: Any, path: Callable[[str], Path]) -> Any:
    if isinstance(value, list):
        return [_with_paths(one, path) for one in value]
    return {"path": str(path(value["$dnanexus_link"]))} if isinstance(value, dict) else value


def run_applet(applet: Path, folder: Path, inputs: dict[str, Any]) -> dict[str, Any]:
    """Run all jobs of an applet, one after another; return its outputs."""
    store = FileStore(folder / "files")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(store))
    host, port = server.server_address[:2]
    store.address = f"http://{host!s}:{port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    spec = json.loads((applet / "dxapp.json").read_text())
    jobs = folder / "jobs"
    jobs.mkdir()
    (jobs / "job_queue.json").write_text("[]")
    (jobs / "job_outputs.json").write_text("{}")
    os.environ |= {
        "DX_APISERVER_PROTOCOL": "http",
        "DX_APISERVER_HOST": str(host),
        "DX_APISERVER_PORT": str(port),
        "DX_SECURITY_CONTEXT": json.dumps({"auth_token": "test", "auth_token_type": "Bearer"}),
        "DX_PROJECT_CONTEXT_ID": PROJECT,
        "DX_WORKSPACE_ID": "container-" + "W" * 24,
        "DX_FS_ROOT": str(folder),
        "DX_TEST_CODE_PATH": str(applet / spec["runSpec"]["file"]),
        "DX_TEST_JOB_HOMEDIRS": str(jobs),
    }
    from dxpy.utils import local_exec_utils  # reads the environment

    once = local_exec_utils.run_one_entry_point
    most = spec["runSpec"]["executionPolicy"]["restartOn"]["*"]

    def restarting(job_id: str, **options: Any) -> None:
        for attempt in range(most + 1):
            try:
                once(job_id, **options)
                return
            except SystemExit:
                if attempt == most:
                    raise
            # Another machine begins the job again: nothing of the first attempt is there.
            shutil.move(jobs / job_id, jobs / f"{job_id}-attempt-{attempt + 1}")
            (jobs / job_id).mkdir()

    local_exec_utils.run_one_entry_point = restarting
    defaults = {one["name"]: one["default"] for one in spec["inputSpec"] if "default" in one}
    given = {name: _with_links(value, store.add) for name, value in inputs.items()}
    local_exec_utils.queue_entry_point("main", {**defaults, **given})
    local_exec_utils.run_entry_points(spec["runSpec"])
    outputs = json.loads((jobs / "job_outputs.json").read_text())["localjob-0"]

    def named(file_id: str) -> Path:
        (folder / "outputs").mkdir(exist_ok=True)
        return Path(shutil.copyfile(store.path(file_id), folder / "outputs" / store.name(file_id)))

    return {name: _with_paths(value, named) for name, value in outputs.items()}


if __name__ == "__main__":
    result = run_applet(
        Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), json.loads(Path(sys.argv[3]).read_text())
    )
    Path(sys.argv[2], "outputs.json").write_text(json.dumps(result))
