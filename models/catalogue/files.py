"""Diagnose a model file: a model, a Git LFS pointer, or damaged; read its inputs and outputs."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from lvm_core.errors import LvmError
from models.catalogue.spec import ModelSpec

# Folder of the three files in the repository broadinstitute/ml4h.
UPSTREAM_REPOSITORY: Final = "broadinstitute/ml4h"
UPSTREAM_FOLDER: Final = "model_zoo/left_ventricular_mass_from_ecg_student_and_mri_teacher"

_LFS_POINTER_START: Final = b"version https://git-lfs"
_HDF5_START: Final = b"\x89HDF\r\n\x1a\n"
_ZIP_START: Final = b"PK\x03\x04"
_HEAD_BYTES: Final = 1024


class FileState(StrEnum):
    """The finding about one file; the first two can be used as models."""

    KNOWN = "known"
    OTHER = "other"
    MISSING = "missing"
    LFS_POINTER = "lfs_pointer"
    TRUNCATED = "truncated"
    WRONG_CHECKSUM = "wrong_checksum"
    NOT_A_MODEL = "not_a_model"


@dataclass(frozen=True, slots=True)
class FileReport:
    """The finding about one file, and what to do; size and checksum are None when it is missing."""

    state: FileState
    message: str  # what is wrong, what was expected, how to fix it; or that all is well
    size_bytes: int | None = None
    sha256: str | None = None
    spec: ModelSpec | None = None  # the model that the file is, or should have been

    @property
    def usable(self) -> bool:
        """True when the file can be loaded as a model."""
        return self.state in (FileState.KNOWN, FileState.OTHER)


def diagnose_file(
    path: Path, known: Sequence[ModelSpec], *, expected: ModelSpec | None = None, shown_as: str | None = None
) -> FileReport:
    """Return what the file is.

    Args:
        path: the file.
        known: the models that are recognised by SHA-256, and by file name when damaged.
        expected: the model that the file must be; None takes the one of its file name, if any.
        shown_as: how messages name the file; None for its path.
    """
    name = shown_as or str(path)
    if not path.is_file():
        return FileReport(FileState.MISSING, f"{name} is not a file; expected an .h5 or .keras")
    size_bytes = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
        stream.seek(0)
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    if expected is None:
        expected = next((spec for spec in known if spec.file_name == path.name), None)
    state, text, spec = _judge(head, size_bytes, sha256, known, expected)
    return FileReport(state, f"{name} {text}", size_bytes, sha256, spec)


_Finding = tuple[FileState, str, ModelSpec | None]
"""The state of a file, the message without the file's name, and the model that it is about."""


def _judge(
    head: bytes, size_bytes: int, sha256: str, known: Sequence[ModelSpec], expected: ModelSpec | None
) -> _Finding:
    same = next((spec for spec in known if spec.sha256 == sha256), None)
    if same is not None and expected in (None, same):
        return FileState.KNOWN, f"is {same.model_id}: size and SHA-256 are correct", same
    if head.startswith(_LFS_POINTER_START):
        return _judge_pointer(head, size_bytes, known, expected)
    if expected is not None:
        return _judge_damaged(size_bytes, sha256, expected, same)
    if not head.startswith((_HDF5_START, _ZIP_START)):
        return FileState.NOT_A_MODEL, _not_a_model_text(head, size_bytes), None
    return FileState.OTHER, f"is a model outside the catalogue, SHA-256 {sha256}", None


def _judge_pointer(head: bytes, size_bytes: int, known: Sequence[ModelSpec], expected: ModelSpec | None) -> _Finding:
    match = re.search(rb"oid sha256:([0-9a-f]{64})", head)
    oid = match.group(1).decode() if match else ""
    spec = next((spec for spec in known if spec.sha256 == oid), expected)
    command = f'git lfs pull --include="{UPSTREAM_FOLDER}/{spec.file_name}"' if spec else "git lfs pull"
    text = (
        f"is a Git LFS pointer ({size_bytes} bytes of text), not the model: the repository was "
        f"cloned without Git LFS. In the clone of {UPSTREAM_REPOSITORY} run "
        f"`git lfs install` and then `{command}`"
    )
    return FileState.LFS_POINTER, text, spec


def _judge_damaged(size_bytes: int, sha256: str, expected: ModelSpec, same: ModelSpec | None) -> _Finding:
    if size_bytes < expected.size_bytes:
        text = (
            f"is truncated: {size_bytes} bytes, expected {expected.size_bytes} for "
            f"{expected.model_id}. Copy or download it again"
        )
        return FileState.TRUNCATED, text, expected
    found = f"it is {same.model_id}" if same else f"its SHA-256 is {sha256}"
    text = (
        f"({size_bytes} bytes) is not {expected.model_id}: {found}, expected SHA-256 "
        f"{expected.sha256} and {expected.size_bytes} bytes. Fetch it again, or rename the file "
        "if it is a model of your own"
    )
    return FileState.WRONG_CHECKSUM, text, expected


def _not_a_model_text(head: bytes, size_bytes: int) -> str:
    kind = "looks like a web page" if head.lstrip().startswith(b"<") else "is not a model file"
    return (
        f"{kind} ({size_bytes} bytes); expected Keras HDF5 (.h5) or a .keras archive. "
        "Fetch the file itself, not the page that shows it"
    )


def read_interface(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the input and of the output layers of an .h5 or .keras file, in order.

    Raises:
        LvmError: the file is damaged, or holds no functional Keras model.
    """
    text = _keras_config(path) if zipfile.is_zipfile(path) else _hdf5_config(path)
    try:
        config = json.loads(text)["config"]
        return tuple(_layer_names(config["input_layers"])), tuple(_layer_names(config["output_layers"]))
    except (ValueError, KeyError, TypeError) as error:
        raise LvmError(
            f"{path} holds no functional Keras model ({error!r}); expected a model with named "
            "input and output layers, saved whole and not as weights only"
        ) from error


def _hdf5_config(path: Path) -> str:
    import h5py  # here: it takes a quarter of a second that only files of the user need

    try:
        with h5py.File(path, "r") as file:
            text = file.attrs.get("model_config")
    except OSError as error:
        raise LvmError(f"{path} cannot be read as HDF5 ({error}); copy or fetch the file again") from error
    if text is None:
        raise LvmError(
            f"{path} holds no model configuration; expected a whole model, saved with model.save(), not weights only"
        )
    return text.decode() if isinstance(text, bytes) else str(text)


def _keras_config(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read("config.json").decode()
    except (KeyError, zipfile.BadZipFile) as error:
        raise LvmError(f"{path} is not a .keras archive ({error}); expected a file of model.save()") from error


def _layer_names(node: object) -> list[str]:
    """Return the layer names of Keras's nested `[name, node index, tensor index]` lists."""
    if isinstance(node, dict):
        return [name for child in node.values() for name in _layer_names(child)]
    if not isinstance(node, list):
        raise TypeError(f"layer reference {node!r}")
    if node and isinstance(node[0], str):
        return [node[0]]
    return [name for child in node for name in _layer_names(child)]
