import contextlib
import functools
import hashlib
import http.server
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lvm_core.errors import LvmError, UsageError
from models.catalogue import known
from models.catalogue.known import PUBLISHED_MODELS, fetch_model
from models.catalogue.spec import ModelSpec

CONTENT = b"\x89HDF\r\n\x1a\n" + b"weights" * 100
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'1' * 64}\nsize 708\n".encode()


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


class _BreakingHandler(_QuietHandler):
    """Promises the whole file, sends half of it, and hangs up."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2])


class _ResettingHandler(_QuietHandler):
    """Sends a broken chunk length, which a client can only refuse."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"no length\r\n")
        self.close_connection = True


@pytest.fixture
def spec(monkeypatch: pytest.MonkeyPatch) -> ModelSpec:
    """A small file in the place of the first published model."""
    small = replace(PUBLISHED_MODELS[0], sha256=hashlib.sha256(CONTENT).hexdigest(), size_bytes=len(CONTENT))
    monkeypatch.setattr(known, "KNOWN_MODELS", (small, *known.EMBEDDED_MODELS))
    return small


@pytest.fixture
def source(tmp_path: Path, spec: ModelSpec) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / spec.file_name).write_bytes(CONTENT)
    return folder


@contextlib.contextmanager
def _serving(handler: Callable[..., http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}"
        finally:
            running.shutdown()
            thread.join()


@pytest.fixture
def server(source: Path) -> Iterator[str]:
    with _serving(functools.partial(_QuietHandler, directory=str(source))) as address:
        yield address


def test_fetch_model__from_a_folder(source: Path, spec: ModelSpec, tmp_path: Path) -> None:
    target = fetch_model(spec.model_id, str(source), tmp_path / "new" / "models")
    assert target == tmp_path / "new" / "models" / spec.file_name
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == [spec.file_name]


def test_fetch_model__from_a_file_of_another_name(source: Path, spec: ModelSpec, tmp_path: Path) -> None:
    renamed = (source / spec.file_name).rename(source / "renamed.h5")
    assert fetch_model(spec.file_name, str(renamed), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("ending", ["", "/", "/ecg_rest_raw_age_sex_bmi_lvm_asymmetric_loss.h5"])
def test_fetch_model__from_an_address(server: str, ending: str, spec: ModelSpec, tmp_path: Path) -> None:
    assert fetch_model(spec.model_id, server + ending, tmp_path).read_bytes() == CONTENT


def test_fetch_model__address_that_does_not_exist(server: str, spec: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(LvmError, match="cannot be read: HTTP Error 404"):
        fetch_model(spec.model_id, f"{server}/absent", tmp_path)


def test_fetch_model__half_a_download_is_refused(spec: ModelSpec, tmp_path: Path) -> None:
    with _serving(_BreakingHandler) as address, pytest.raises(LvmError, match=r"truncated|broke off"):
        fetch_model(spec.model_id, address, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_fetch_model__broken_transfer_says_to_run_again(spec: ModelSpec, tmp_path: Path) -> None:
    with _serving(_ResettingHandler) as address, pytest.raises(LvmError, match=r"broke off.*run the command again"):
        fetch_model(spec.model_id, address, tmp_path)


def test_fetch_model__verified_file_is_not_fetched_again(source: Path, spec: ModelSpec, tmp_path: Path) -> None:
    target = fetch_model(spec.model_id, str(source), tmp_path / "models")
    assert fetch_model(spec.model_id, "/does/not/exist", tmp_path / "models") == target


def test_fetch_model__damaged_target_is_replaced(source: Path, spec: ModelSpec, tmp_path: Path) -> None:
    (tmp_path / spec.file_name).write_bytes(CONTENT[:-1])
    assert fetch_model(spec.model_id, str(source), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (POINTER, "Git LFS pointer.*git lfs pull --include="),
        (CONTENT[:-1], f"truncated: {len(CONTENT) - 1} bytes, expected {len(CONTENT)}"),
        (CONTENT[:-1] + b"?", "expected SHA-256 [0-9a-f]{64}"),
    ],
    ids=["pointer", "truncated", "checksum"],
)
def test_fetch_model__bad_source_is_named_and_leaves_nothing(
    content: bytes, message: str, source: Path, spec: ModelSpec, tmp_path: Path
) -> None:
    file = source / spec.file_name
    file.write_bytes(content)
    with pytest.raises(LvmError, match=message) as caught:
        fetch_model(spec.model_id, str(source), tmp_path / "models")
    assert str(caught.value).startswith(str(file))
    assert list((tmp_path / "models").iterdir()) == []


def test_fetch_model__missing_source(spec: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(LvmError, match="does not exist"):
        fetch_model(spec.model_id, str(tmp_path / "absent"), tmp_path / "models")


def test_fetch_model__address_of_another_kind(spec: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'s3://bucket/x' cannot be read; expected a folder, a file"):
        fetch_model(spec.model_id, "s3://bucket/x", tmp_path)


@pytest.mark.parametrize(
    ("model_id", "message"), [("absent", "is not known"), ("demo-synthetic", "comes with the package")]
)
def test_fetch_model__only_published_models(model_id: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        fetch_model(model_id, str(tmp_path), tmp_path)
