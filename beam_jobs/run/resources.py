"""What a run computes with: the engine, its batches and threads, and the memory they take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import Final

from beam_jobs.reading.units import MAX_ROW_GROUP_ROWS, Piece
from beam_jobs.run.settings import ScoreSettings
from lvm_core.errors import LvmError, UsageError
from models.catalogue.known import ModelSource
from models.catalogue.spec import N_SAMPLES
from models.engines.choosing import (
    EngineName,
    EngineSettings,
    Precision,
    choose_engine,
    fastest_gpu_batch,
    spectral_memory_bytes,
)
from models.engines.predictor import DEFAULT_BATCH_SIZE
from models.machine.host import MemoryLimit, available_cores, available_memory_mb, memory_limits
from models.machine.runtime import Device, require_memory_for_tensorflow


def batches_per_thread(settings: ScoreSettings) -> int:
    """Return the batches under way for each thread: on CPUs, where they are small, another waits.

    It bridges the beginning of the next unit.
    """
    return 2 if settings.device is Device.CPU else 1


def choose_computing(
    settings: ScoreSettings, models: Sequence[ModelSource], planned: ScoreSettings | None, *, elsewhere: bool = False
) -> ScoreSettings:
    """Return the settings with an engine, device, precision and batch.

    The order is: what the user asks for, what the run was planned with (`planned`, the settings of
    a plan that is resumed), what is best here. A difference from the plan is not settled here: the
    comparison of settings refuses it by name. What this machine cannot do is refused, unless
    workers compute `elsewhere`: on GPUs that this machine need not have.
    """
    if elsewhere and Device.GPU in (settings.device, None if planned is None else planned.device):
        return _on_gpus_elsewhere(settings, planned)
    if elsewhere and planned is None and settings.device is None:
        settings = replace(settings, device=Device.CPU)  # a GPU of this machine says nothing about theirs
    if planned is None:
        choice = choose_engine(models, name=settings.engine, device=settings.device, cores=settings.threads)
        engine = _engine_settings(choice.name, settings.precision, choice.device)
        batch, note = settings.batch, choice.note
        if batch is None:
            batch = DEFAULT_BATCH_SIZE if engine.device is Device.CPU else _gpu_batch(models[0], engine)
    else:
        name, device = settings.engine or planned.engine, settings.device or planned.device
        assert name is not None
        assert device is not None
        engine = _engine_settings(name, settings.precision or planned.precision, device)
        if engine == planned.engine_settings:
            choose_engine(models, name=name, device=device, cores=settings.threads)
        batch, note = settings.batch or planned.batch_size, planned.engine_note
    return replace(
        settings, engine=engine.name, device=engine.device, precision=engine.precision, batch=batch, engine_note=note
    )


def _on_gpus_elsewhere(settings: ScoreSettings, planned: ScoreSettings | None) -> ScoreSettings:
    """Return the settings for GPUs of other machines: nothing can be tried out here."""
    old_precision, old_batch = (None, None) if planned is None else (planned.precision, planned.batch)
    engine = _engine_settings(
        settings.engine or EngineName.TENSORFLOW, settings.precision or old_precision, settings.device or Device.GPU
    )
    return replace(
        settings,
        engine=engine.name,
        device=engine.device,
        precision=engine.precision,
        batch=settings.batch or old_batch or _BATCH_ON_GPUS_ELSEWHERE,
    )


def _engine_settings(name: EngineName, precision: Precision | None, device: Device) -> EngineSettings:
    try:
        return EngineSettings(name, precision or Precision.FLOAT32, device)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _gpu_batch(model: ModelSource, settings: EngineSettings) -> int:
    """Try batches in a process of its own, so that this one takes no memory of a GPU."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(fastest_gpu_batch, model, settings).result()


# Measured, resident, in MB: Python with Beam, pyarrow and numpy; ECGs between file and batch (some
# chunks of 64 ECGs, once as Arrow decodes them and once as arrays); TensorFlow, and what it needs
# for each ECG of a batch under way.
_LIBRARIES_MB: Final = 270.0
_READING_MB: Final = 150.0
_TENSORFLOW_MB: Final = 460.0
_TENSORFLOW_PER_ECG_MB: Final = 8.0
_PER_PLANNED_ECG_MB: Final = 0.0005
_ECG_MB: Final = 12 * N_SAMPLES * 2 / 1e6
# Reserved beside that, for limits that count reservations, MB: by Beam's own threads once it runs
# (measured: 130), and by each thread: its stack (8 MB), its arena of the allocator (64 MB) and its
# buffer of the linear algebra (32 MB). Two threads were seen to abort with less.
_BEAM_RESERVES_MB: Final = 150.0
_THREAD_RESERVES_MB: Final = 104.0
# Where no GPU is here to try batches on: the batch that docs/benchmarks_gpu.md was measured with.
_BATCH_ON_GPUS_ELSEWHERE: Final = 256
_LEAST_FREE_SHARE: Final = 0.8  # of the memory that is there, at most that much is planned with


def expected_memory_mb(settings: ScoreSettings, models: Sequence[ModelSource], threads: int, input_mb: float) -> float:
    """Return the memory that a process will take at most, MB; within a quarter on a CPU.

    `threads` are the batches computed at once, `input_mb` is what `input_memory_mb` gives.
    """
    fixed_mb, per_thread_mb = _fixed_mb(settings, models), _per_thread_mb(settings, models)
    return _LIBRARIES_MB + _READING_MB + fixed_mb + threads * per_thread_mb + input_mb


def threads_that_fit(
    settings: ScoreSettings, models: Sequence[ModelSource], input_mb: float, asked: int | None = None
) -> int:
    """Return the threads for this machine: one per core, fewer where memory is short; 1 or more.

    A limit of this process that does not hold one thread, or those `asked` for, is an `LvmError`.
    """
    without_mb = expected_memory_mb(settings, models, 0, input_mb)
    coming_mb, each_mb = without_mb - _LIBRARIES_MB, _per_thread_mb(settings, models)
    if settings.engine is EngineName.TENSORFLOW:
        require_memory_for_tensorflow()
        coming_mb -= _TENSORFLOW_MB  # it is there already, or has just been looked at
    least = asked or 1
    threads = asked or _as_many_as_fit(without_mb, each_mb)
    for limit in memory_limits():
        first_mb, next_mb = coming_mb, each_mb
        if limit.counts_reservations:
            first_mb, next_mb = coming_mb + _BEAM_RESERVES_MB, each_mb + _THREAD_RESERVES_MB
        n_fit = int((limit.left_mb - first_mb) / next_mb)
        if n_fit < least:
            what = f"{least} thread{'s' if least > 1 else ''}"
            way = f"Take --threads {n_fit}, or raise the limit" if n_fit >= 1 else "Raise the limit"
            raise _too_small(limit, limit.used_mb + first_mb + next_mb * least, what, way)
        threads = min(threads, n_fit)
    return threads


def require_memory(needed_mb: float) -> None:
    """Refuse work that needs more memory, MB of the whole process, than its limits hold."""
    for limit in memory_limits():
        more_mb = needed_mb - _LIBRARIES_MB
        more_mb += _BEAM_RESERVES_MB if limit.counts_reservations else 0.0
        if limit.left_mb < more_mb:
            way = "Raise the limit, or make units smaller (--unit-ecgs)"
            raise _too_small(limit, limit.used_mb + more_mb, "the largest unit", way)


def _too_small(limit: MemoryLimit, needed_mb: float, what: str, way: str) -> LvmError:
    return LvmError(f"{needed_mb / 1000:.2f} GB are needed for {what}, and {limit}. {way}")


def processes_in_free_memory(each_mb: float) -> int:
    """Return how many processes of `each_mb` find room in memory: one a core at most, 1 or more."""
    return _as_many_as_fit(0.0, each_mb)


def _as_many_as_fit(without_mb: float, each_mb: float) -> int:
    """Return one a core, fewer where memory beside `without_mb` is short; 1 or more."""
    cores, free_mb = available_cores(), available_memory_mb()
    if free_mb is None:
        return cores
    return max(1, min(cores, int((_LEAST_FREE_SHARE * free_mb - without_mb) / each_mb)))


def _fixed_mb(settings: ScoreSettings, models: Sequence[ModelSource]) -> float:
    if settings.engine is EngineName.TENSORFLOW:
        return _TENSORFLOW_MB
    return sum(spectral_memory_bytes(model, settings.batch_size)[0] for model in models) / 1e6


def _per_thread_mb(settings: ScoreSettings, models: Sequence[ModelSource]) -> float:
    waiting_mb = batches_per_thread(settings) * settings.batch_size * _ECG_MB
    if settings.engine is EngineName.TENSORFLOW:
        return waiting_mb + settings.batch_size * _TENSORFLOW_PER_ECG_MB
    spectral = sum(spectral_memory_bytes(model, settings.batch_size)[1] for model in models)
    return waiting_mb + spectral / 1e6


def input_memory_mb(pieces: Iterable[Piece]) -> float:
    """Return the memory that pieces of a plan take, MB: keys, and the largest packed row group."""
    n_ecgs, largest_mb = 0, 0.0
    for piece in pieces:
        n = piece.n_ecgs or 1
        n_ecgs += n
        n_groups = piece.row_group_stop - piece.row_group_start
        if piece.is_table and n / n_groups <= MAX_ROW_GROUP_ROWS:
            # The file may hold other spans: its size is an upper bound for a group of this one.
            largest_mb = max(largest_mb, min(piece.size / 1e6 / n_groups, n / n_groups * _ECG_MB))
    return largest_mb + n_ecgs * _PER_PLANNED_ECG_MB
