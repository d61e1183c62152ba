"""The score job: ECGs in, predictions out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from beam_jobs.reading.layout import Layout, load_layout
from beam_jobs.reading.raw_input import UnitReader
from beam_jobs.reading.storage import Storage
from beam_jobs.reading.units import Unit, UnitSummary
from beam_jobs.run.exclusions import Exclusions
from beam_jobs.run.flow import run_job
from beam_jobs.run.folder import PARTICIPANTS_NAME, RunFolder
from beam_jobs.run.options import ScoreOptions, parse_score
from beam_jobs.run.participants import JoinForecast, forecast_lines, participants_of
from beam_jobs.run.plan import PLAN_NAME, Plan
from beam_jobs.run.planner import Keys, PlanningOptions
from beam_jobs.run.progress import say
from beam_jobs.run.report import software_versions
from beam_jobs.run.resources import Computing, choose_computing, expected_memory_mb, threads_that_fit
from beam_jobs.scale import sample_scale
from beam_jobs.scoring.unit import ScoreContext, begin_unit
from lvm_core.errors import LvmError, UsageError, form_of
from lvm_core.medicine.body import Bsa
from lvm_core.medicine.lvh import LvhPreset
from lvm_core.medicine.recalibration import Recalibration
from lvm_core.tables import ParticipantTable
from models.catalogue.known import ModelSource, resolve_model
from models.engines.choosing import IN_FLIGHT
from models.engines.predictor import shared_predictor
from models.machine.runtime import Device, visible_gpus

RECALIBRATION = "recalibration"
# One unit at a time fed an H100 with 1,860 ECG/s, four fed it with 3,890 of the 4,750 it could do.
_UNITS_TO_FEED_GPU = 4


@dataclass(frozen=True)
class ScoreJob:
    """The score job as it travels to workers.

    Attributes:
        storage: where inputs and the run folder are.
        output: the run folder.
        reader: reads units.
        models: the model, then the fallback model if there is one.
        computing: how batches are computed.
        input_convention: how microvolts become the network's input.
        threads: batches computed at once in a process.
        has_participants: the run folder holds a participant table.
        exclusions: people who are not scored.
        bsa: formula of the body surface area.
        lvh_preset: thresholds of the index.
        recalibration: adds columns to the predictions, or None.
        settings: of the plan, for the footers.
        keep_going: finish the other units when the storage fails one.
    """

    storage: Storage
    output: str
    reader: UnitReader
    models: tuple[ModelSource, ...]
    computing: Computing
    input_convention: str
    threads: int
    has_participants: bool
    exclusions: Exclusions
    bsa: Bsa
    lvh_preset: LvhPreset
    recalibration: Recalibration | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    keep_going: bool = True
    kind: str = "score"

    @property
    def units_at_once(self) -> int:
        """Units done at the same time: one keeps CPUs busy, several are needed to feed a GPU."""
        on_gpu = self.computing.engine.device is Device.GPU
        return min(_UNITS_TO_FEED_GPU, self.threads) if on_gpu else 1

    def make_worker(self) -> ScoreWorker:
        """Load models and the participant table."""
        return ScoreWorker(self.make_context())

    def make_context(self) -> ScoreContext:
        """Return what scoring units in this process needs."""
        predictors = [
            shared_predictor(
                model,
                batch_size=self.computing.batch,
                input_convention=self.input_convention,
                engine=self.computing.engine,
                cores=self.threads,
            )
            for model in self.models
        ]
        n_callers = IN_FLIGHT if self.computing.engine.device is Device.GPU else self.threads
        participants = None
        if self.has_participants:
            uri = RunFolder(self.storage, self.output).path(PARTICIPANTS_NAME)
            participants = ParticipantTable.from_parquet(self.storage.read_bytes(uri))
        return ScoreContext(
            storage=self.storage,
            output=self.output,
            reader=self.reader,
            predictors=predictors,
            executor=_executor(n_callers),
            # One batch more than callers at least, so that none waits for the next to be filled.
            n_in_flight=max(n_callers + 1, self.computing.batches_per_thread * n_callers),
            participants=participants,
            exclusions=self.exclusions,
            bsa=self.bsa,
            lvh_preset=self.lvh_preset,
            provenance={
                "settings": dict(self.settings),
                "engine": predictors[0].engine_description(),
                "versions": software_versions(),
            },
            recalibration=self.recalibration,
        )


@cache
def _executor(threads: int) -> ThreadPoolExecutor:
    """Return the process's threads for batches; units that run at once share them."""
    return ThreadPoolExecutor(threads, thread_name_prefix="lvm-engine")


@dataclass(frozen=True)
class ScoreWorker:
    """Does units of the score job in one process."""

    context: ScoreContext

    def begin(self, unit: Unit, meanwhile: Callable[[], None]) -> Callable[[], UnitSummary]:
        """Begin to score a unit, and return what ends it and commits its files."""
        return begin_unit(unit, self.context, meanwhile)


class ScoreKind:
    """What the score job adds to the flow of a run."""

    kind = "score"

    def __init__(self, options: ScoreOptions) -> None:
        self._options = options
        storage = options.storage
        self._models = _resolve_models(options)
        self._layout: Layout | None = load_layout(storage, options.layout) if options.layout else None
        self._participants, self._people_problems = participants_of(
            storage, options.participants, options.participants_layout, accepted=options.accept_people
        )
        self._recalibration = _recalibration_of(options, self._models[0])
        if self._participants is not None and self._models[0].spec.needs_demographics:
            for name in self._participants.unknown_throughout:
                say(f"warning: {options.participants} has no known {name}; is a column misnamed?")
        for model in self._models:
            if model.spec.warning:
                say(f"warning: {model.spec.model_id}: {model.spec.warning}")

    def planning(self) -> PlanningOptions:
        """Return what planning needs to know."""
        table = self._participants
        person_of = (lambda ecg_id: None) if table is None else table.person_of
        return PlanningOptions(
            self._options.unit_ecgs,
            self._options.id_rule,
            self._layout,
            True,
            person_of,
            self._options.allow_empty,
            self._options.accept_unread_archives,
        )

    def settings(self, planned: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return every option that can move a number, resolved; the plan's own where it may be."""
        options = self._options
        computing = choose_computing(options, self._models, planned)
        recalibration = self._recalibration
        return {
            "models": [{"model_id": m.spec.model_id, "sha256": m.spec.sha256} for m in self._models],
            **computing.settings(),
            "input_convention": options.input_convention.value,
            "bsa": options.bsa.value,
            "lvh_preset": options.lvh_preset.value,
            "unit_ecgs": options.unit_ecgs,
            "id_pattern": options.id_rule.pattern,
            "id_from_header": options.id_from_header,
            "interpolate_missing_samples": options.interpolate_missing_samples,
            "layout": None if self._layout is None else self._layout.model_dump(mode="json"),
            "participants_sha256": (None if self._participants is None else self._participants.content_sha256),
            **({} if recalibration is None else {RECALIBRATION: recalibration.to_dict()}),
        }

    def with_their_ecgs(self, exclusions: Exclusions) -> Exclusions:
        """Return the list extended by the ECGs that the participant table gives these people."""
        if self._participants is None:
            return exclusions
        return exclusions.with_ids(self._participants.ecg_ids_of(exclusions.has))

    def forecast(self, exclusions: Exclusions) -> JoinForecast | None:
        """Return what counts how the participant table fits the ECGs; None without a table."""
        if self._participants is None:
            return None
        needs = all(model.spec.needs_demographics for model in self._models)
        in_header = self._options.id_from_header
        return JoinForecast(self._participants, needs, exclusions.hits, in_header)

    def people(self, forecast: JoinForecast | None) -> dict[str, Any]:
        """Say how the participant table fits the ECGs; stop when too many would be rejected.

        Raises:
            LvmError: the expected share of rejects is larger than --max-rejected-share.
        """
        if forecast is None or not forecast.n_ecgs_seen:
            return {}
        options, summary = self._options, forecast.summary()
        for line in forecast_lines(summary):
            say(line)
        share = forecast.expected_share
        if share > options.max_rejected_share:
            examples = "; ".join(f"{name}: {text}" for name, text in forecast.examples.items())
            raise LvmError(
                f"{share:.1%} of the ECGs would be rejected because of {options.participants}, "
                f"at most {options.max_rejected_share:.1%} are allowed ({examples})."
                f"{forecast.hint()} Nothing was scored. Correct the table or its layout "
                "(docs/people_tables.md), or allow more with --max-rejected-share"
            )
        return {**summary, "accepted_problems": list(self._people_problems)}

    def scale(self, plan: Plan, roots: Sequence[str]) -> dict[str, Any]:
        """Look at amplitudes and leads before the first unit; stop when they cannot be right.

        Raises:
            LvmError: the scale or the order of leads looks wrong and --accept-scale was not given.
        """
        sample = sample_scale(self._reader(tuple(roots)), plan.units)
        if sample.problem is not None:
            if not self._options.accept_scale:
                raise LvmError(
                    f"{sample.problem} ({sample.n_ecgs} ECGs looked at; nothing was scored). "
                    "Correct the unit, the rate, the leads or the layout (lvm-ai scale-check "
                    "--input ... looks again), or go on with --accept-scale"
                )
            say(f"warning: {sample.problem} (accepted)")
        for sentence in sample.odd_sources:
            say(f"warning: among {sample.n_ecgs} ECGs looked at, {sentence}")
        median_uv = None if sample.n_ecgs == 0 else round(sample.median_uv, 1)
        return {"n_ecgs": sample.n_ecgs, "median_lead_ii_amplitude_uv": median_uv}

    def check_keys(self, keys: Keys) -> None:
        """Refuse a participant table of which nobody is in the inputs.

        Raises:
            UsageError: no key of the table is among the keys of the inputs.
        """
        table = self._participants
        known_late = self._options.id_from_header or not keys.seen
        if table is None or known_late or table.knows_any(keys.seen, keys.people):
            return
        person = f"of the form {form_of(min(keys.people))}" if keys.people else "not known"
        raise UsageError(
            f"nobody of {self._options.participants} is in the inputs: their ecg_id is of the form "
            f"{form_of(min(keys.seen))}, their participant_id is {person}, and the keys of the "
            f"table are of the form {form_of(next(iter(table.keys), ''))} (A a letter, 9 a digit). "
            "Are identifiers written alike? For device files --id-pattern says where in the path "
            "the participant is"
        )

    def stops_at_wrong_scale(self) -> bool:
        """Tell whether amplitudes that cannot be right make the whole run fail."""
        return not self._options.accept_scale

    def write_side_files(self, folder: RunFolder, keys: Keys | None, exclusions: Exclusions) -> None:
        """Write the participant table that workers join."""
        if self._participants is None:
            return
        table = self._participants.without(exclusions.hits)
        if keys is not None:
            table = table.with_stale_ages(keys.dates)
        folder.storage.write_atomic(folder.path(PARTICIPANTS_NAME), table.to_parquet(), private=True)

    def job(self, plan: Plan, roots: tuple[str, ...], exclusions: Exclusions) -> ScoreJob:
        """Return the job as it travels to workers."""
        options = self._options
        computing = Computing.from_settings(plan.settings)
        threads = self._threads(plan)
        say(f"computing: {computing.line()}; threads: {threads}")
        return ScoreJob(
            storage=options.storage,
            output=options.output,
            reader=self._reader(roots),
            models=self._models,
            computing=computing,
            input_convention=options.input_convention.value,
            threads=threads,
            has_participants=self._participants is not None,
            exclusions=exclusions,
            bsa=options.bsa,
            lvh_preset=options.lvh_preset,
            recalibration=planned_recalibration(plan.settings),
            settings=plan.settings,
        )

    def _threads(self, plan: Plan) -> int:
        computing = Computing.from_settings(plan.settings)
        asked = self._options.threads
        return threads_that_fit(computing, self._models, plan.pieces, asked)

    def _reader(self, roots: tuple[str, ...]) -> UnitReader:
        options = self._options
        return UnitReader(
            options.storage,
            roots,
            self._layout,
            id_from_header=options.id_from_header,
            interpolate_missing_samples=options.interpolate_missing_samples,
        )

    def n_gpus(self, plan: Plan) -> int:
        """Return the GPUs that the run computes on and that are visible here; 0 on CPUs."""
        on_gpu = Computing.from_settings(plan.settings).engine.device is Device.GPU
        return len(visible_gpus()) if on_gpu else 0

    def describe(self, plan: Plan) -> list[str]:
        """Return lines for --dry-run."""
        computing, threads = Computing.from_settings(plan.settings), self._threads(plan)
        memory_mb = expected_memory_mb(computing, self._models, threads, plan.pieces)
        models = ", ".join(m.spec.model_id for m in self._models)
        return [
            f"models: {models}",
            f"computing: {computing.line()}; threads: {threads}",
            f"expected memory: about {memory_mb / 1000:.2f} GB a process",
            f"median lead II amplitude: {plan.scale.get('median_lead_ii_amplitude_uv')} uV",
        ]


def planned_recalibration(settings: Mapping[str, Any]) -> Recalibration | None:
    """Return the recalibration that a plan's settings hold; None without one."""
    content = settings.get(RECALIBRATION)
    return None if content is None else Recalibration.from_dict(content, PLAN_NAME)


def _recalibration_of(options: ScoreOptions, model: ModelSource) -> Recalibration | None:
    """Read the file of --recalibration and refuse one that was fitted for something else."""
    uri = options.recalibration
    if uri is None:
        return None
    try:
        content = json.loads(options.storage.read_bytes(uri))
        recalibration = Recalibration.from_dict(content, uri)
    except (ValueError, LvmError) as error:
        raise UsageError(
            f"--recalibration {uri} cannot be used: {error}; expected a file that lvm-ai recalibrate wrote"
        ) from error
    fitted = {
        "model": (recalibration.model_sha256, model.spec.sha256),
        "input convention": (recalibration.input_convention, options.input_convention.value),
        "body surface area": (recalibration.bsa, options.bsa.value),
        "LVH preset": (recalibration.lvh_preset, options.lvh_preset.value),
    }
    for name, (its, ours) in fitted.items():
        if its != ours:
            raise UsageError(
                f"--recalibration {uri} was fitted for {name} {its}, this run has {ours}; "
                "score a CMR subset with these settings and run lvm-ai recalibrate on it"
            )
    return recalibration


def _resolve_models(options: ScoreOptions) -> tuple[ModelSource, ...]:
    names = [options.model, *([options.fallback_model] if options.fallback_model else [])]
    try:
        sources = tuple(resolve_model(name, options.model_dir) for name in names)
    except LvmError as error:
        raise UsageError(str(error)) from error
    if len(sources) == 2 and sources[1].spec.needs_demographics:
        raise UsageError(
            f"--fallback-model {options.fallback_model} needs age, sex and BMI itself; expected an ECG-only model"
        )
    if sources[0].spec.needs_demographics and not options.participants and len(sources) == 1:
        raise UsageError(
            f"model {sources[0].spec.model_id} needs age, sex and BMI, and no --participants is "
            "given: give a table, add --fallback-model, or choose an ECG-only model "
            "(lvm-ai models list)"
        )
    return sources


def main(argv: Sequence[str]) -> int:
    """Run `lvm-ai score`."""
    options = parse_score(argv)
    return run_job(ScoreKind(options), options, argv)


if __name__ == "__main__":
    import lvm_ai  # its messages and exit codes

    sys.exit(lvm_ai.module_main("score"))
