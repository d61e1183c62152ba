"""The score job as it travels to workers, and what a worker makes of it from the run folder."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any, Final

from beam_jobs.reading.storage import store_scheme
from beam_jobs.reading.unit_reader import UnitReader
from beam_jobs.run.exclusions import Exclusions
from beam_jobs.run.folder import WORK_FOLDER, RunFolder
from beam_jobs.run.order import WorkOrder
from beam_jobs.run.report import software_versions
from beam_jobs.run.resources import batches_per_thread, threads_that_fit
from beam_jobs.run.settings import ScoreSettings
from beam_jobs.scoring.unit import ScoreContext
from lvm_core.errors import LvmError
from models.catalogue.known import ModelSource, find_spec, resolve_model
from models.catalogue.spec import ModelOrigin
from models.engines.choosing import IN_FLIGHT, EngineName
from models.engines.network import checked_network
from models.engines.predictor import shared_predictor
from models.machine.gpus import claim_gpu
from models.machine.host import available_cores
from models.machine.runtime import Device

# Units that a process does at the same time. One keeps CPUs busy; one fed an H100 with 1,860 ECG/s,
# four fed it with 3,890 of the 4,750 it could do.
UNITS_TO_FEED_GPU: Final = 4
_opening = threading.Lock()


@dataclass(frozen=True)
class ScoreJob:
    """The score job as it travels to workers."""

    order: WorkOrder
    input_mb: float = 0.0  # memory that the largest input takes, MB, by which a worker chooses its threads
    units_at_once: int = 1  # units that a process does at the same time: a GPU needs several
    kind: str = ScoreSettings.kind

    def make_worker(self) -> ScoreContext:
        """Load models and the participant table; threads of one process share them."""
        with _opening:
            return _opened(self.order.launch, self)


# The launch is the key: another start of the command may find another folder at the same address.
@lru_cache(maxsize=1)
def _opened(launch: str, job: ScoreJob) -> ScoreContext:
    order = job.order
    planned = order.settings()
    settings = ScoreSettings.from_plan(planned, output=order.folder.uri, storage=order.folder.storage)
    models = models_in(order.folder, settings)
    if settings.device is Device.GPU and not order.in_launcher:
        claim_gpu()
    threads = order.threads if order.in_launcher else None
    threads = threads or _threads_here(job, settings, models)
    reader = settings.reader(order.roots, order.folder.index(), order.pseudonyms(planned))
    return score_context(settings, planned, reader, models, threads, order.excluded())


def _threads_here(job: ScoreJob, settings: ScoreSettings, models: Sequence[ModelSource]) -> int:
    """Return the threads of a worker elsewhere: its share of the cores, as memory allows."""
    most = job.order.threads
    if most is None and job.order.processes_here > 1:
        most = max(1, available_cores() // job.order.processes_here)
    return threads_that_fit(settings, models, job.input_mb, most)


def score_context(
    settings: ScoreSettings,
    planned: Mapping[str, Any],
    reader: UnitReader,
    models: Sequence[ModelSource],
    threads: int,
    exclusions: Exclusions,
) -> ScoreContext:
    """Return what scores units of a run, with the participant table of its folder.

    `planned` are the settings as plan.json holds them, which footers repeat. `models` are the model
    and then the fallback model, if there is one; `threads` the batches computed at once.
    """
    predictors = [
        shared_predictor(
            model,
            batch_size=settings.batch_size,
            input_convention=settings.input_convention,
            engine=settings.engine_settings,
            cores=threads,
        )
        for model in models
    ]
    n_callers = IN_FLIGHT if settings.device is Device.GPU else threads
    # Without one in the plan, a table in the folder is of a start that was killed.
    has_people = settings.participants_sha256 is not None or settings.index_sha256 is not None
    return ScoreContext(
        settings=settings,
        reader=reader,
        predictors=predictors,
        executor=_executor(n_callers),
        # One batch more than callers at least, so that none waits for the next to be filled.
        n_in_flight=max(n_callers + 1, batches_per_thread(settings) * n_callers),
        participants=RunFolder(settings.storage, settings.output).participants() if has_people else None,
        exclusions=exclusions,
        provenance={
            "settings": dict(planned),
            "engine": predictors[0].engine_description(),
            "versions": software_versions(),
        },
    )


@cache
def _executor(threads: int) -> ThreadPoolExecutor:
    """Return the process's threads for batches; units that run at once share them."""
    return ThreadPoolExecutor(threads, thread_name_prefix="lvm-engine")


# Models in the run folder


def write_models(folder: RunFolder, models: Sequence[ModelSource], settings: ScoreSettings) -> None:
    """Write into `work/` what workers load: files of models by SHA-256, and checked networks.

    Models that come with the package are not written. A network is a model as plain arrays, which
    was compared with TensorFlow: workers need no TensorFlow then.
    """
    for model in models:
        if model.path is not None:
            _write_once(folder, _model_name(model.spec.sha256, model.path.name), model.read_bytes)
        if settings.engine is EngineName.SPECTRAL:
            _write_once(folder, _network_name(model.spec.sha256), partial(_network_bytes, model))


def _network_bytes(model: ModelSource) -> bytes:
    return checked_network(model).to_bytes(model.spec.sha256)


def _write_once(folder: RunFolder, name: str, make: Callable[[], bytes]) -> None:
    """Write what `make` returns, unless another shard or an earlier start has written it."""
    uri = folder.path(WORK_FOLDER, *name.split("/"))
    if not folder.storage.is_file(uri):
        folder.storage.write_atomic(uri, make())


def _model_name(sha256: str, file_name: str) -> str:
    """Return where a model is in `work/`: some files have their id from their name, so it stays."""
    return f"models/{sha256}/{file_name}"


def _network_name(sha256: str) -> str:
    return f"networks/{sha256}.npz"


def models_in(folder: RunFolder, settings: ScoreSettings) -> tuple[ModelSource, ...]:
    """Return the models of a run from its folder: the model, then the fallback model if any."""
    return tuple(_model_in(folder, model["model_id"], model["sha256"]) for model in settings.models)


def _model_in(folder: RunFolder, model_id: str, sha256: str) -> ModelSource:
    network = _local_copy(folder, _network_name(sha256))
    spec = find_spec(model_id)
    if spec is not None and spec.origin is ModelOrigin.EMBEDDED and spec.sha256 == sha256:
        return ModelSource(spec, None, network)
    names = folder.storage.names(folder.path(WORK_FOLDER, "models", sha256))
    path = _local_copy(folder, _model_name(sha256, names[0])) if names else None
    if path is None:
        raise LvmError(
            f"model {model_id} (SHA-256 {sha256[:16]}...) is not in {folder.path(WORK_FOLDER)}: either the run was "
            "closed meanwhile, or another version of lvm-ai made it. Run the same lvm-ai score command again"
        )
    found = resolve_model(str(path))
    if (found.spec.model_id, found.spec.sha256) != (model_id, sha256):
        raise LvmError(
            f"{path.name} in {folder.path(WORK_FOLDER)} is model {found.spec.model_id} (SHA-256 "
            f"{found.spec.sha256[:16]}...), expected {model_id} ({sha256[:16]}...): the file was changed, or this "
            "worker has another version of lvm-ai"
        )
    return replace(found, network=network)


def _local_copy(folder: RunFolder, name: str) -> Path | None:
    """Return the path of a file in `work/`, None without one; from a store it is copied once."""
    uri = folder.path(WORK_FOLDER, *name.split("/"))
    if not folder.storage.is_file(uri):
        return None
    if store_scheme(uri) is None:
        return Path(uri.removeprefix("file://"))
    path = Path(_copies().name) / name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(folder.storage.read_bytes(uri))
    return path


@cache
def _copies() -> tempfile.TemporaryDirectory[str]:
    """Return this process's folder of files from stores, which only its user can read."""
    return tempfile.TemporaryDirectory(prefix="lvm-ai-")
