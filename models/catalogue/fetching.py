"""Get a published model file from a folder, a file or a web address, and verify it."""

from __future__ import annotations

import http.client
import os
import shutil
import urllib.error
import urllib.parse
import urllib.request
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Final, cast

from lvm_core.errors import LvmError, UsageError
from models.catalogue.files import FileState, diagnose_file
from models.catalogue.known import KNOWN_MODELS, PUBLISHED_MODELS, find_spec
from models.catalogue.spec import ModelOrigin, ModelSpec

_CHUNK_BYTES: Final = 1 << 20
_TIMEOUT_S: Final = 60.0
_MODEL_SUFFIXES: Final = (".h5", ".keras")


def fetch_model(model_id: str, source: str, target_dir: Path) -> Path:
    """Copy a published model into a folder, verified, atomically.

    Nothing is read from `source` when the verified file is already there.

    Args:
        model_id: id or file name of a published model.
        source: a folder that holds the file, the file, or an http(s) address of either.
        target_dir: folder for the fetched models, made when missing.

    Returns:
        Path of the verified file in `target_dir`.

    Raises:
        UsageError: the model is not a published one, or the source is another kind of address.
        LvmError: the source cannot be read, or is not that model: a Git LFS pointer, a truncated
            file or another checksum.
    """
    spec = _published_spec(model_id)
    target = target_dir / spec.file_name
    if target.is_file() and diagnose_file(target, KNOWN_MODELS, expected=spec).usable:
        return target
    target_dir.mkdir(parents=True, exist_ok=True)
    part = target_dir / f".{spec.file_name}.{os.getpid()}.tmp"
    try:
        shown_as = _copy(spec, source, part)
        report = diagnose_file(part, KNOWN_MODELS, expected=spec, shown_as=shown_as)
        if report.state is not FileState.KNOWN:
            raise LvmError(report.message)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    return target


def _published_spec(model_id: str) -> ModelSpec:
    spec = find_spec(model_id)
    if spec is None or spec.origin is not ModelOrigin.PUBLISHED:
        kind = "comes with the package and needs no fetching" if spec else "is not known"
        ids = ", ".join(published.model_id for published in PUBLISHED_MODELS)
        raise UsageError(f"model {model_id!r} {kind}; expected one of {ids}")
    return spec


def _copy(spec: ModelSpec, source: str, part: Path) -> str:
    """Copy the file that `source` means to `part`; return its name for messages."""
    if source.startswith(("http://", "https://")):
        location = _file_url(spec, source)
        stream = _open_url(location)
    else:
        location = str(_source_file(spec, source))
        stream = Path(location).open("rb")
    try:
        with stream as reader, part.open("wb") as writer:
            shutil.copyfileobj(reader, writer, _CHUNK_BYTES)
            writer.flush()
            os.fsync(writer.fileno())
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise LvmError(f"reading {location} broke off: {error!r}; run the command again") from error
    return location


def _source_file(spec: ModelSpec, source: str) -> Path:
    if "://" in source:
        raise UsageError(
            f"source {source!r} cannot be read; expected a folder, a file, or an http(s) address. "
            "Copy the file to this machine and give its folder"
        )
    path = Path(source)
    file = path / spec.file_name if path.is_dir() else path
    if not file.is_file():
        raise LvmError(f"source {file} does not exist; expected the file {spec.file_name}, or the folder that holds it")
    return file


def _file_url(spec: ModelSpec, source: str) -> str:
    """Return the address of the file; `source` may be that of its folder."""
    parts = urllib.parse.urlsplit(source)
    if parts.path.endswith(_MODEL_SUFFIXES):
        return source
    folder = parts.path.rstrip("/")
    return urllib.parse.urlunsplit(parts._replace(path=f"{folder}/{spec.file_name}"))


def _open_url(url: str) -> AbstractContextManager[IO[bytes]]:
    try:
        response = urllib.request.urlopen(url, timeout=_TIMEOUT_S)
    except (urllib.error.URLError, TimeoutError) as error:
        raise LvmError(
            f"{url} cannot be read: {error}. Without a network, copy the file to this machine and "
            "give its folder as the source"
        ) from error
    return cast(AbstractContextManager[IO[bytes]], response)
