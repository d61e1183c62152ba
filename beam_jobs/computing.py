"""How a run computes, chosen once, at planning: engine, precision, device and batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Final, Self

from beam_jobs.options import ScoreOptions
from lvm_core.errors import UsageError
from models.catalog import ModelSource
from models.devices import Device
from models.engines import EngineName, EngineSettings, Precision, choose_engine
from models.gpu_batch import fastest_gpu_batch
from models.predictor import DEFAULT_BATCH_SIZE

_NOTE: Final = "engine_note"


@dataclass(frozen=True)
class Computing:
    """How a run computes; part of what fixes its bits.

    Attributes:
        engine: what computes, in which precision and where.
        batch: ECGs computed together.
        note: why it is not the fastest engine, in words; empty where it is, or was asked for.
    """

    engine: EngineSettings
    batch: int
    note: str = ""

    @property
    def batches_per_thread(self) -> int:
        """Batches under way for each thread: on CPUs, where they are small, another waits.

        It bridges the beginning of the next unit.
        """
        return 2 if self.engine.device is Device.CPU else 1

    def settings(self) -> dict[str, Any]:
        """Return it as settings of a plan."""
        return {
            "engine": self.engine.name.value,
            "precision": self.engine.precision.value,
            "device": self.engine.device.value,
            "batch": self.batch,
            **({_NOTE: self.note} if self.note else {}),
        }

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Return what a plan's settings say."""
        return cls(
            EngineSettings(
                EngineName(settings["engine"]), Precision(settings["precision"]), Device(settings["device"])
            ),
            int(settings["batch"]),
            str(settings.get(_NOTE, "")),
        )

    def line(self) -> str:
        """Return it in words."""
        engine = self.engine
        return (
            f"{engine.name.value} engine on the {engine.device.value}, {engine.precision.value}, "
            f"batch {self.batch}" + (f" ({self.note})" if self.note else "")
        )


def choose_computing(
    options: ScoreOptions, models: Sequence[ModelSource], planned: Mapping[str, Any] | None
) -> Computing:
    """Choose how to compute: what is asked for, then what the run was planned with, then the best.

    Args:
        options: of the command; None in them leaves the choice.
        models: of the run.
        planned: settings of the plan that is gone on with, or None.

    Raises:
        UsageError: options that do not go together.
        LvmError: what is asked for, or planned, cannot be had here.
    """
    if planned is not None:
        return _as_planned(options, models, Computing.from_settings(planned))
    choice = choose_engine(models, name=options.engine, device=options.device, cores=options.threads)
    settings = _engine_settings(choice.name, options.precision, choice.device)
    batch = options.batch or _batch(models, settings)
    return Computing(settings, batch, choice.note)


def _as_planned(options: ScoreOptions, models: Sequence[ModelSource], planned: Computing) -> Computing:
    """Return what was planned, with what this command asks for instead, and see that it works here.

    A difference is not settled here: whoever compares settings refuses it by name.
    """
    name = options.engine or planned.engine.name
    device = options.device or planned.engine.device
    precision = options.precision or planned.engine.precision
    settings = _engine_settings(name, precision, device)
    if settings == planned.engine:
        choose_engine(models, name=name, device=device, cores=options.threads)
    return Computing(settings, options.batch or planned.batch, planned.note)


def _engine_settings(name: EngineName, precision: Precision | None, device: Device) -> EngineSettings:
    try:
        return EngineSettings(name, precision or Precision.FLOAT32, device)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _batch(models: Sequence[ModelSource], settings: EngineSettings) -> int:
    if settings.device is Device.CPU:
        return DEFAULT_BATCH_SIZE
    return _gpu_batch(models[0], settings)


def _gpu_batch(model: ModelSource, settings: EngineSettings) -> int:
    """Try batches in a process of its own, so that this one takes no memory of a GPU."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(fastest_gpu_batch, model, settings).result()
