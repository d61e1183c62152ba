"""An S3 and a GCS server on loopback: real servers, in processes of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow.fs
import pytest

BUCKET = "cohort"
GS_SERVER = (sys.executable, str(Path(__file__).with_name("gs_emulator.py")))
START_S = 60


@dataclass(frozen=True)
class Store:
    """A store that answers."""

    scheme: str  # `s3` or `gs`
    port: int  # of the server
    options: tuple[str, ...]  # of the command line, that lead to it
    filesystem: pyarrow.fs.FileSystem  # pyarrow's, for the tests' own reading and writing

    def through(self, port: int) -> tuple[str, ...]:
        """Return the options that lead to the store through a proxy on another port."""
        return tuple(option.replace(f"127.0.0.1:{self.port}", f"127.0.0.1:{port}") for option in self.options)

    def uri(self, path: str) -> str:
        """Return the URI of a path in the bucket."""
        return f"{self.scheme}://{BUCKET}/{path}"

    def upload(self, folder: Path, to: str) -> str:
        """Copy the files of a local folder into the bucket; return the URI."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                name = f"{BUCKET}/{to}/{path.relative_to(folder)}"
                with self.filesystem.open_output_stream(name) as stream:
                    stream.write(path.read_bytes())
        return self.uri(to)

    def files(self, folder: str) -> dict[str, bytes]:
        """Return the bytes of all files below a folder by their path in it."""
        base = f"{BUCKET}/{folder}"
        infos = self.filesystem.get_file_info(pyarrow.fs.FileSelector(base, recursive=True, allow_not_found=True))
        found = {}
        for info in sorted(infos, key=lambda i: str(i.path)):
            if info.type == pyarrow.fs.FileType.File:
                with self.filesystem.open_input_stream(info.path) as stream:
                    found[info.path[len(base) + 1 :]] = bytes(stream.read())
        return found


def free_port() -> int:
    """Return a port of the loopback interface that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def server(command: Sequence[str], port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends, or until it is killed; wait until its port answers.

    Its environment is ours without what would send a client elsewhere.
    """
    log = folder / "server.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, cwd=folder)
    try:
        _wait(process, port, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    stop_s = time.monotonic() + START_S
    while time.monotonic() < stop_s:
        if process.poll() is not None:
            break
        with socket.socket() as client:
            client.settimeout(1)
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail(f"server did not start within {START_S} s: {log.read_text()[-2000:]}")


def binary(name: str) -> str:
    """Return the path of a program of this environment; skip the test where it is not installed."""
    path = Path(sys.executable).parent / name
    if not path.exists():
        pytest.skip(f"{name} is not installed beside {sys.executable}")
    return str(path)


@contextmanager
def s3_store(folder: Path) -> Iterator[Store]:
    """Run moto's S3 server; dummy credentials must be in the environment."""
    port = free_port()
    command = [binary("moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    with server(command, port, folder):
        endpoint = f"127.0.0.1:{port}"
        filesystem = pyarrow.fs.S3FileSystem(
            endpoint_override=endpoint, scheme="http", region="us-east-1", allow_bucket_creation=True
        )
        filesystem.create_dir(BUCKET)
        options = (f"s3.endpoint_override={endpoint}", "s3.scheme=http", "s3.region=us-east-1")
        yield Store("s3", port, flags(options), filesystem)


@contextmanager
def gs_store(folder: Path) -> Iterator[Store]:
    """Run the GCS emulator, in memory."""
    port = free_port()
    command = [
        *GS_SERVER,
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--in-memory",
        "--default-bucket",
        BUCKET,
    ]
    with server(command, port, folder):
        endpoint = f"127.0.0.1:{port}"
        filesystem = pyarrow.fs.GcsFileSystem(anonymous=True, endpoint_override=endpoint, scheme="http")
        options = (f"gs.endpoint_override={endpoint}", "gs.scheme=http", "gs.anonymous=true")
        yield Store("gs", port, flags(options), filesystem)


def flags(options: Sequence[str]) -> tuple[str, ...]:
    """Return the storage options of a command line."""
    return tuple(part for option in options for part in ("--storage-option", option))


@contextmanager
def dummy_credentials() -> Iterator[None]:
    """Set credentials that mean nothing, and keep every client from looking for real ones."""
    values = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_SESSION_TOKEN": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    with pytest.MonkeyPatch.context() as environment:
        for name, value in values.items():
            environment.setenv(name, value)
        yield
