"""The known models; find the model that an id or a path names, and fetch a published one."""

from __future__ import annotations

import http.client
import lzma
import os
import shutil
import urllib.error
import urllib.parse
import urllib.request
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import IO, Final, cast

from lvm_core.command_line import nearest
from lvm_core.errors import LvmError, UsageError
from models.catalogue.files import (
    UPSTREAM_FOLDER,
    UPSTREAM_REPOSITORY,
    FileReport,
    FileState,
    diagnose_file,
    read_interface,
)
from models.catalogue.saved_model import read_card
from models.catalogue.spec import (
    INPUT_AGE,
    INPUT_BMI,
    INPUT_ECG,
    INPUT_SEX,
    OUTPUT_LVH,
    OUTPUT_MASS,
    PUBLISHED_CONSTANTS,
    ModelOrigin,
    ModelSpec,
)
from models.machine.host import home_dir

_CHUNK_BYTES: Final = 1 << 20
_TIMEOUT_S: Final = 60.0
_MODEL_SUFFIXES: Final = (".h5", ".keras")

_published = partial(
    ModelSpec,
    origin=ModelOrigin.PUBLISHED,
    clinical=True,
    licence=(
        f"published in the GPL-3.0 repository {UPSTREAM_REPOSITORY} without a licence of its own; "
        "not part of this project, do not redistribute"
    ),
    description=(
        f"repository {UPSTREAM_REPOSITORY}, folder {UPSTREAM_FOLDER}, in Git LFS; "
        "Khurshid et al., Circ Cardiovasc Imaging 2021;14:e012281"
    ),
)
_embedded = partial(
    ModelSpec,
    origin=ModelOrigin.EMBEDDED,
    clinical=False,
    licence="Apache-2.0, part of this project",
    description=(
        "the published architecture, trained by this project on about 4,800 synthetic people with the "
        "asymmetric loss, weights stored as float16; docs/demo_model.md"
    ),
    warning="NOT CLINICAL: trained on synthetic ECGs, its predictions mean nothing for real patients",
)
_FILE_WARNING: Final = "model outside the catalogue: its origin and meaning are not known here"

_FULL_INPUTS: Final = (INPUT_ECG, INPUT_AGE, INPUT_SEX, INPUT_BMI)

PUBLISHED_MODELS: Final = (
    _published(
        model_id="lvm-ai-full-asymmetric",
        title="LVM-AI, ECG with age, sex and BMI, asymmetric loss",
        file_name="ecg_rest_raw_age_sex_bmi_lvm_asymmetric_loss.h5",
        sha256="0764989632149590ff47f86e665cec31da592b7b6f2275f3c9ac9f949ccce017",
        size_bytes=14_870_648,
        inputs=_FULL_INPUTS,
        outputs=(OUTPUT_MASS, OUTPUT_LVH),
    ),
    _published(
        model_id="lvm-ai-ecg-asymmetric",
        title="LVM-AI, ECG only, asymmetric loss",
        file_name="ecg_rest_raw_lvm_asymmetric_loss.h5",
        sha256="236619e5a99e6e44bd37f35b88ff86a5d5ea4ca3f98dff437cdb0dd7f636015c",
        size_bytes=12_720_392,
        inputs=(INPUT_ECG,),
        outputs=(OUTPUT_MASS,),
    ),
    _published(
        model_id="lvm-ai-ecg-symmetric",
        title="LVM-AI, ECG only, symmetric loss",
        file_name="ecg_rest_raw_lvm_symmetric_loss.h5",
        sha256="370f9f672bdbd4e61ce1f439b9a58b3150ed7b8cc9a04f49e2923f297c3e1491",
        size_bytes=12_720_392,
        inputs=(INPUT_ECG,),
        outputs=(OUTPUT_MASS,),
    ),
)

EMBEDDED_MODELS: Final = (
    _embedded(
        model_id="demo-synthetic",
        title="demonstration model, ECG with age, sex and BMI, trained on synthetic people",
        file_name="demo-synthetic.keras",
        sha256="2b1c8cbbf123126ccf63b952157c48a1ca2cbe80ee43c4161852a8340dcc9656",
        size_bytes=2_595_839,
        inputs=_FULL_INPUTS,
        outputs=(OUTPUT_MASS, OUTPUT_LVH),
    ),
    _embedded(
        model_id="demo-synthetic-ecg-only",
        title="demonstration model, ECG only, trained on synthetic people",
        file_name="demo-synthetic-ecg-only.keras",
        sha256="a27ea869b2d2ffff6bb2f125c3e02c77c3b90ed81988022694e6b7a753e409d1",
        size_bytes=2_212_188,
        inputs=(INPUT_ECG,),
        outputs=(OUTPUT_MASS,),
    ),
)

KNOWN_MODELS: Final = PUBLISHED_MODELS + EMBEDDED_MODELS


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model and its file."""

    spec: ModelSpec
    path: Path | None  # None for an embedded model
    network: Path | None = None  # file of its checked network, where one is known (`checked_network`)

    def read_bytes(self) -> bytes:
        """Return the model file, uncompressed."""
        if self.path is not None:
            return self.path.read_bytes()
        packed = resources.files("models").joinpath("demo", f"{self.spec.file_name}.xz")
        return lzma.decompress(packed.read_bytes())


def default_model_dir() -> Path:
    """Return the folder of the fetched models, unless the user gives another one."""
    return home_dir() / ".lvm-ai" / "models"


def find_spec(name: str) -> ModelSpec | None:
    """Return the known model with that id or file name; None when there is none."""
    return next((spec for spec in KNOWN_MODELS if name in (spec.model_id, spec.file_name)), None)


def resolve_model(id_or_path: str, model_dir: Path | None = None) -> ModelSource:
    """Return the model that an id, a published file name or a path names.

    An id or file name of the catalogue wins over a file of that name in the current folder;
    write `./NAME` for the latter. A file whose SHA-256 is in the catalogue is that model; any
    other model file gets its stem as id, or the id that it states itself when it was written by
    `lvm-ai train` or `lvm-ai models convert`.

    Args:
        id_or_path: for example `lvm-ai-ecg-asymmetric`, `demo-synthetic` or `/data/mine.keras`.
        model_dir: folder of the fetched models; None for `default_model_dir()`.

    Raises:
        LvmError: unknown, not fetched, damaged, or not a model; the message says what to do.
    """
    spec = find_spec(id_or_path)
    if spec is None:
        return _resolve_path(Path(id_or_path))
    if spec.origin is ModelOrigin.EMBEDDED:
        return ModelSource(spec, None)
    return _resolve_published(spec, model_dir or default_model_dir())


def _resolve_published(spec: ModelSpec, model_dir: Path) -> ModelSource:
    path = model_dir / spec.file_name
    if not path.is_file():
        raise LvmError(
            f"model {spec.model_id} is not fetched: {path} does not exist. Run "
            f"`lvm-ai models fetch {spec.model_id} --from SOURCE --model-dir {model_dir}`, or name "
            "the folder that holds the file with --model-dir"
        )
    _require_usable(diagnose_file(path, KNOWN_MODELS, expected=spec))
    return ModelSource(spec, path)


def _resolve_path(path: Path) -> ModelSource:
    if not path.exists():
        known = [spec.model_id for spec in KNOWN_MODELS]
        raise LvmError(
            f"model {str(path)!r} is neither a known id nor a file"
            f"{nearest(str(path), known)}; expected one of {', '.join(known)}, or the path of an "
            ".h5 or .keras file"
        )
    report = _require_usable(diagnose_file(path, KNOWN_MODELS))
    return ModelSource(report.spec or _file_spec(path, report), path)


def _require_usable(report: FileReport) -> FileReport:
    if not report.usable:
        raise LvmError(report.message)
    return report


def _file_spec(path: Path, report: FileReport) -> ModelSpec:
    """Return the spec of a file outside the catalogue, by its own card where it has one.

    The id is the card's; where the catalogue has another model of that id, digits of the checksum
    distinguish the two.
    """
    card, sha256 = read_card(path), str(report.sha256)
    model_id = card.model_id if card else path.stem
    taken = find_spec(model_id) is not None
    if taken and not card:
        raise LvmError(f"{path} would get the id {model_id!r} of another model in the catalogue; rename the file")
    inputs, outputs = read_interface(path)
    return ModelSpec(
        model_id=f"{model_id}-{sha256[:8]}" if taken else model_id,
        title=card.title if card else f"model file {path.name}",
        file_name=path.name,
        sha256=sha256,
        size_bytes=report.size_bytes or 0,
        inputs=inputs,
        outputs=outputs,
        origin=ModelOrigin.FILE,
        clinical=False,
        licence=card.licence if card else "not known here",
        description=card.description if card else "a file of the user's",
        warning=(card.warning if card else "") or _FILE_WARNING,
        constants=card.constants if card else PUBLISHED_CONSTANTS,
    )


def fetch_model(model_id: str, source: str, target_dir: Path) -> Path:
    """Copy a published model into `target_dir`, atomically, verify it, and return its path.

    Nothing is read from `source` when the verified file is already there.

    Args:
        model_id: id or file name of a published model.
        source: a folder that holds the file, the file, or an http(s) address of either.
        target_dir: folder of the fetched models, made when missing.

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
    """Copy the file that `source` names to `part`; return its location for messages."""
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
    """Return the address of the file; `source` may be the address of its folder."""
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
