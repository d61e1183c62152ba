"""A `.keras` file with a card inside, `lvm_ai_model.json`: all that a user of the model must know.

Keras ignores the extra member, so the file also opens with `keras.models.load_model`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lvm_core.errors import LvmError
from lvm_core.signal.ecg import MODEL_LEADS
from models.catalogue.spec import N_SAMPLES, SAMPLING_RATE_HZ, InputConvention, ModelConstants, Standardisation

CARD_MEMBER: Final = "lvm_ai_model.json"
_CARD_VERSION: Final = 1
_WEIGHTS_MEMBER: Final = "model.weights.h5"
_METADATA_MEMBER: Final = "metadata.json"
_FIRST_ZIP_DATE: Final = (1980, 1, 1, 0, 0, 0)


class Storage(StrEnum):
    """How weights are stored; the model computes in float32 either way."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a saved model says about itself; the first five fields are as in `ModelSpec`."""

    model_id: str
    title: str
    description: str
    licence: str
    warning: str
    constants: ModelConstants
    weights_sha256: str  # `weights_digest` of the float32 weights
    # Data, loss, seed, versions and results of the training; empty when not known.
    training: dict[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> str:
        """Return the card as JSON, with how the input tensor is made."""
        content = {
            "lvm_ai_model": _CARD_VERSION,
            **dataclasses.asdict(self),
            "input": {
                "convention": InputConvention.UKB_COUNTS.value,
                "unit_uv": InputConvention.UKB_COUNTS.input_unit_uv,
                "lead_order": list(MODEL_LEADS),
                "sampling_rate_hz": SAMPLING_RATE_HZ,
                "n_samples": N_SAMPLES,
            },
        }
        return json.dumps(content, indent=1, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, where: str) -> ModelCard:
        """Return the card that `to_json` wrote; `where` names the file in messages.

        Raises:
            LvmError: another version, input convention or lead order, or a value is missing.
        """
        try:
            content = json.loads(text)
            _check_fixed(content, where)
            values = {field.name: content[field.name] for field in dataclasses.fields(cls)}
            return cls(**values | {"constants": _constants(values["constants"])})
        except (ValueError, KeyError, TypeError) as error:
            raise LvmError(
                f"{where}: {CARD_MEMBER} cannot be read ({error!r}); expected a file of "
                "`lvm-ai train` or `lvm-ai models convert`"
            ) from error


def read_card(path: Path) -> ModelCard | None:
    """Return the card of a model file; None for a file without one, such as an .h5.

    Raises:
        LvmError: the card is damaged, or of a version that is not known here.
    """
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        if CARD_MEMBER not in archive.namelist():
            return None
        return ModelCard.from_json(archive.read(CARD_MEMBER).decode(), str(path))


def weights_digest(weights: Iterable[NDArray[Any]]) -> str:
    """Return the SHA-256 of weights as little-endian float32, each after its shape."""
    digest = hashlib.sha256()
    for array in weights:
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array, dtype="<f4").tobytes())
    return digest.hexdigest()


def rounded(weights: Iterable[NDArray[Any]], storage: Storage | str) -> list[NDArray[np.float32]]:
    """Return the float32 weights that come back after storing: rounded to half for float16.

    Raises:
        LvmError: a weight is too large for half precision (65504).
    """
    kind = np.dtype(Storage(storage).value)
    arrays = [np.asarray(array, dtype=np.float32) for array in weights]
    if kind == np.float16:
        largest = max((float(np.abs(array).max()) for array in arrays if array.size), default=0.0)
        if not largest <= float(np.finfo(np.float16).max):
            raise LvmError(
                f"a weight is {largest:g}, expected at most 65504 for float16 storage; store this model as float32"
            )
    return [array.astype(kind).astype(np.float32) for array in arrays]


def save_model(keras_model: Any, card: ModelCard, path: Path, storage: Storage | str = Storage.FLOAT32) -> None:
    """Write a float32 functional model and its card as one `.keras` file, atomically.

    The same model gives the same bytes. An existing file is replaced. For float16 storage the
    weights must come from `rounded`, so that the loaded weights have the digest of the card.
    """
    with tempfile.TemporaryDirectory(prefix="lvm-ai-") as folder:
        plain = Path(folder) / "model.keras"
        keras_model.save(plain)
        content = _archive(plain, card, Storage(storage))
    write_atomically(path, content)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file under another name and rename it, so that it is whole or not there."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with partial.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)


def _archive(plain: Path, card: ModelCard, storage: Storage) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(sink, "w") as target:
        members = {name: source.read(name) for name in source.namelist()}
        metadata = json.loads(members[_METADATA_MEMBER])
        metadata.pop("date_saved", None)  # no clock in a result
        members[_METADATA_MEMBER] = json.dumps(metadata, sort_keys=True).encode()
        if storage is Storage.FLOAT16:
            members[_WEIGHTS_MEMBER] = _half(members[_WEIGHTS_MEMBER])
        members[CARD_MEMBER] = card.to_json().encode()
        for name in sorted(members):
            target.writestr(zipfile.ZipInfo(name, _FIRST_ZIP_DATE), members[name])
    return sink.getvalue()


def _half(weights_h5: bytes) -> bytes:
    """Return a Keras weights file with its float32 data sets as float16; Keras widens them."""
    import h5py

    sink = io.BytesIO()
    with h5py.File(io.BytesIO(weights_h5), "r") as source, h5py.File(sink, "w") as target:
        target.attrs.update(source.attrs)

        def copy(name: str, node: Any) -> None:
            if isinstance(node, h5py.Dataset):
                half = node.dtype == np.float32
                copied = target.create_dataset(name, data=node[()].astype(np.float16) if half else node[()])
            else:
                copied = target.require_group(name)
            copied.attrs.update(node.attrs)

        source.visititems(copy)
    return sink.getvalue()


def _constants(content: dict[str, Any]) -> ModelConstants:
    bmi = content["bmi_kg_m2"]
    return ModelConstants(
        age_years=Standardisation(**content["age_years"]),
        bmi_kg_m2=None if bmi is None else Standardisation(**bmi),
        lvm_g=Standardisation(**content["lvm_g"]),
    )


def _check_fixed(content: dict[str, Any], where: str) -> None:
    stated = content["input"]
    found = content["lvm_ai_model"], stated["convention"], stated["lead_order"], stated["n_samples"]
    expected = (_CARD_VERSION, InputConvention.UKB_COUNTS.value, list(MODEL_LEADS), N_SAMPLES)
    if found != expected:
        raise LvmError(
            f"{where}: {CARD_MEMBER} states version, input convention, lead order and samples "
            f"{found}, expected {expected}; use the version of lvm-ai that wrote it"
        )
