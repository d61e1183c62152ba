"""The score job as it travels to workers, and what a worker makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from beam_jobs.reading.storage import Storage
from beam_jobs.run.exclusions import Exclusions
from beam_jobs.run.folder import RunFolder
from beam_jobs.run.report import software_versions
from beam_jobs.run.resources import batches_per_thread
from beam_jobs.run.settings import ScoreSettings
from beam_jobs.scoring.unit import ScoreContext
from models.catalogue.known import ModelSource
from models.engines.choosing import IN_FLIGHT
from models.engines.predictor import shared_predictor
from models.machine.runtime import Device

# One unit at a time fed an H100 with 1,860 ECG/s, four fed it with 3,890 of the 4,750 it could do.
_UNITS_TO_FEED_GPU = 4


@dataclass(frozen=True)
class ScoreJob:
    """The score job as it travels to workers."""

    # Settings of the plan. Workers know no others, so that what is not in the fingerprint cannot
    # move a number.
    planned: Mapping[str, Any]
    storage: Storage  # where inputs and the run folder are
    output: str  # the run folder
    roots: tuple[str, ...]  # folders that the paths of inputs start from
    models: tuple[ModelSource, ...]  # the model, then the fallback model if there is one
    threads: int  # batches computed at once in a process
    exclusions: Exclusions  # people who are not scored
    keep_going: bool = True  # finish the other units when the storage fails one
    kind: str = ScoreSettings.kind

    @cached_property
    def settings(self) -> ScoreSettings:
        """The settings of the plan."""
        return ScoreSettings.from_plan(self.planned, output=self.output, storage=self.storage)

    @property
    def units_at_once(self) -> int:
        """Units done at the same time: one keeps CPUs busy, several are needed to feed a GPU."""
        return min(_UNITS_TO_FEED_GPU, self.threads) if self.settings.device is Device.GPU else 1

    def make_worker(self) -> ScoreContext:
        """Load models and the participant table."""
        settings = self.settings
        predictors = [
            shared_predictor(
                model,
                batch_size=settings.batch_size,
                input_convention=settings.input_convention,
                engine=settings.engine_settings,
                cores=self.threads,
            )
            for model in self.models
        ]
        n_callers = IN_FLIGHT if settings.device is Device.GPU else self.threads
        # Without one in the plan, a table in the folder is of a start that was killed.
        has_people = settings.participants_sha256 is not None
        return ScoreContext(
            settings=settings,
            reader=settings.reader(self.roots),
            predictors=predictors,
            executor=_executor(n_callers),
            # One batch more than callers at least, so that none waits for the next to be filled.
            n_in_flight=max(n_callers + 1, batches_per_thread(settings) * n_callers),
            participants=RunFolder(self.storage, self.output).participants() if has_people else None,
            exclusions=self.exclusions,
            provenance={
                "settings": dict(self.planned),
                "engine": predictors[0].engine_description(),
                "versions": software_versions(),
            },
        )


@cache
def _executor(threads: int) -> ThreadPoolExecutor:
    """Return the process's threads for batches; units that run at once share them."""
    return ThreadPoolExecutor(threads, thread_name_prefix="lvm-engine")
