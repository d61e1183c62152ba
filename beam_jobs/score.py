"""The score job: ECGs in, predictions out."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from beam_jobs.reading.index import RecordIndex
from beam_jobs.reading.layout import load_layout
from beam_jobs.run.exclusions import Exclusions
from beam_jobs.run.folder import RunFolder
from beam_jobs.run.index import knows_people, with_index
from beam_jobs.run.order import WorkOrder
from beam_jobs.run.participants import JoinForecast, forecast_lines, judged, participants_of
from beam_jobs.run.plan import Plan
from beam_jobs.run.planner import Keys
from beam_jobs.run.progress import say
from beam_jobs.run.resources import choose_computing, expected_memory_mb, input_memory_mb, threads_that_fit
from beam_jobs.run.settings import ScoreSettings
from beam_jobs.runners.flow import Job, run_job
from beam_jobs.scale import sample_scale
from beam_jobs.scoring.job import UNITS_TO_FEED_GPU, ScoreJob, write_models
from lvm_core.errors import LvmError, UsageError, form_of
from lvm_core.medicine.recalibration import Recalibration
from lvm_core.wording import counted
from models.catalogue.known import ModelSource, resolve_model
from models.machine.runtime import Device, visible_gpus


class _Score(Job):
    """What the score job adds to the flow of a run."""

    settings: ScoreSettings

    def __init__(self, given: ScoreSettings) -> None:
        self._models = _resolve_models(given)
        layout = load_layout(given.storage, given.layout) if given.layout else None
        keys = self.read_keys(given)
        table, self._people_problems = participants_of(
            given.storage, given.participants, given.participants_layout, accepted=given.accept_people
        )
        if table is not None and self.pseudonyms is not None:
            table = table.with_keys(self.pseudonyms.ecg, self.pseudonyms.person)
        self._given = self._participants = table  # of the option, and with what the index adds
        self.settings = replace(
            given,
            **keys,
            models=tuple({"model_id": m.spec.model_id, "sha256": m.spec.sha256} for m in self._models),
            layout_content=layout,
            participants_sha256=None if self._participants is None else self._participants.content_sha256,
            recalibration_content=_recalibration_of(given, self._models[0]),
        )
        self.layout = layout
        self.stops_at_wrong_scale = not given.accept_scale
        if self.index is None:
            self._warn_of_unknown()
        for model in self._models:
            if model.spec.warning:
                say(f"warning: {model.spec.model_id}: {model.spec.warning}")

    def _warn_of_unknown(self) -> None:
        if self._participants is not None and self._models[0].spec.needs_demographics:
            for name in self._participants.unknown_throughout:
                table = self.settings.participants or "the index"
                say(f"warning: {table} has no known {name}; is a column misnamed?")

    def use_records(self, records: RecordIndex | None) -> None:
        """Add what the index says of people to the participant table, which wins."""
        super().use_records(records)
        if records is None or (self._given is None and not knows_people(records)):
            return
        self._participants = with_index(self._given, records)
        if self._given is None:
            self._people_problems = judged(
                self._participants, self.settings.index[0], accepted=self.settings.accept_people
            )
        self._warn_of_unknown()

    def resolve(self, planned: Mapping[str, Any] | None) -> ScoreSettings:
        """Return the settings with what computes; as planned where the command leaves a choice."""
        old = None if planned is None else self._of_plan(planned)
        return choose_computing(self.settings, self._models, old, elsewhere=not self.settings.runs_here)

    def _of_plan(self, planned: Mapping[str, Any]) -> ScoreSettings:
        return ScoreSettings.from_plan(planned, output=self.settings.output, storage=self.settings.storage)

    def person_of(self, ecg_id: str) -> str | None:
        """Return the person of an ECG by the participant table."""
        if self._given is None:
            return None
        return self._given.person_of(ecg_id if self.pseudonyms is None else self.pseudonyms.ecg(ecg_id))

    def with_their_ecgs(self, exclusions: Exclusions) -> Exclusions:
        """Return the list extended by the ECGs that the tables of the command give these people."""
        exclusions = super().with_their_ecgs(exclusions)
        return exclusions if self._given is None else exclusions.with_ids(self._given.ecg_ids_of(exclusions.has))

    def forecast(self, exclusions: Exclusions) -> JoinForecast | None:
        """Return what counts how the participant table fits the ECGs; None without a table."""
        if self._participants is None:
            return None
        needs = all(model.spec.needs_demographics for model in self._models)
        in_header = self.settings.id_from_header
        return JoinForecast(self._participants, needs, exclusions.hits, in_header)

    def people(self, forecast: JoinForecast | None) -> dict[str, Any]:
        """Say how the participant table fits the ECGs; stop when too many would be rejected."""
        if forecast is None or not forecast.n_ecgs_seen:
            return {}
        options, summary = self.settings, forecast.summary()
        for line in forecast_lines(summary):
            say(line)
        share = forecast.expected_share
        if share > options.max_rejected_share:
            examples = "; ".join(f"{name}: {text}" for name, text in forecast.examples.items())
            raise LvmError(
                f"{share:.1%} of the ECGs would be rejected because of {options.participants or 'the index'}, at most "
                f"{options.max_rejected_share:.1%} are allowed ({examples}).{forecast.hint()} Nothing was scored. "
                "Correct the table or its layout (docs/people_tables.md), or allow more with --max-rejected-share"
            )
        return {**summary, "accepted_problems": list(self._people_problems)}

    def scale(self, plan: Plan, roots: Sequence[str]) -> dict[str, Any]:
        """Look at amplitudes and leads before the first unit; stop where they cannot be right."""
        sample = sample_scale(self.settings.reader(roots, self.records, self.pseudonyms), plan.units)
        if sample.problem is not None:
            if not self.settings.accept_scale:
                raise LvmError(
                    f"{sample.problem} ({counted(sample.n_ecgs, 'ECG')} looked at; nothing was scored). "
                    "Correct the unit, the rate, the leads or the layout (lvm-ai scale-check "
                    "--input ... looks again), or go on with --accept-scale"
                )
            say(f"warning: {sample.problem} (accepted)")
        for sentence in sample.odd_sources:
            say(f"warning: among {counted(sample.n_ecgs, 'ECG')} looked at, {sentence}")
        median_uv = None if sample.n_ecgs == 0 else round(sample.median_uv, 1)
        return {"n_ecgs": sample.n_ecgs, "median_lead_ii_amplitude_uv": median_uv}

    def check_keys(self, keys: Keys) -> None:
        """Refuse a participant table without any key that is among the keys of the inputs."""
        table = self._given
        known_late = self.settings.id_from_header or not keys.seen
        if table is None or known_late:
            return
        if table.knows_any(keys.seen, keys.people):
            if n_without := table.n_without_ecg(keys.seen, keys.people):
                say(
                    f"warning: {n_without:,} of {len(table):,} rows of {self.settings.participants} "
                    f"({n_without / len(table):.1%}) have no ECG among the inputs. If all should have one, a folder or "
                    "a listing is incomplete; --expect-ecgs N stops there"
                )
            return
        person = f"of the form {form_of(min(keys.people))}" if keys.people else "not known"
        raise UsageError(
            f"nobody of {self.settings.participants} is in the inputs: their ecg_id is of the form "
            f"{form_of(min(keys.seen))}, their participant_id is {person}, and the keys of the table are of the form "
            f"{form_of(next(iter(table.keys), ''))} (A a letter, 9 a digit). Are identifiers written alike? For device "
            "files --id-pattern says where in the path the participant is"
        )

    def write_side_files(self, folder: RunFolder, keys: Keys | None, exclusions: Exclusions) -> None:
        """Write the participant table that workers join."""
        super().write_side_files(folder, keys, exclusions)
        if self._participants is None:
            return
        table = self._participants
        if keys is not None and self._given is not None and self.records is not None:
            # The age of a person stands in the rows of their records, too, if an index lists these.
            table = with_index(self._given.with_stale_ages(keys.dates), self.records)
        table = table.without(exclusions.hits)
        if keys is not None:
            table = table.with_stale_ages(keys.dates)
        folder.write_participants(table)

    def write_work_files(self, folder: RunFolder, plan: Plan) -> None:
        """Write the models, and their checked networks."""
        write_models(folder, self._models, self._of_plan(plan.settings))

    def unit_job(self, plan: Plan, order: WorkOrder) -> ScoreJob:
        """Return the job as it travels to workers."""
        if order.in_launcher:
            order = replace(order, threads=self._threads(plan))
        shown = order.threads or "what each worker's cores and memory allow"
        say(f"computing: {self._of_plan(plan.settings).computing_line}; threads: {shown}")
        n_units = UNITS_TO_FEED_GPU if self._of_plan(plan.settings).device is Device.GPU else 1
        return ScoreJob(order, input_memory_mb(plan.pieces), min(n_units, order.threads or n_units))

    def _threads(self, plan: Plan) -> int:
        computing, input_mb = self._of_plan(plan.settings), input_memory_mb(plan.pieces)
        return threads_that_fit(computing, self._models, input_mb, self.settings.threads)

    def n_gpus(self, plan: Plan) -> int:
        """Return the GPUs that the run computes on and that are visible here; 0 on CPUs."""
        return len(visible_gpus()) if self._of_plan(plan.settings).device is Device.GPU else 0

    def describe(self, plan: Plan) -> list[str]:
        """Return lines for --dry-run."""
        computing, threads = self._of_plan(plan.settings), self._threads(plan)
        memory_mb = expected_memory_mb(computing, self._models, threads, input_memory_mb(plan.pieces))
        models = ", ".join(m.spec.model_id for m in self._models)
        return [
            f"models: {models}",
            f"computing: {computing.computing_line}; threads: {threads}",
            f"expected memory: about {memory_mb / 1000:.2f} GB a process",
            f"median lead II amplitude: {plan.scale.get('median_lead_ii_amplitude_uv')} uV",
        ]


def _recalibration_of(options: ScoreSettings, model: ModelSource) -> Recalibration | None:
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


def _resolve_models(options: ScoreSettings) -> tuple[ModelSource, ...]:
    names = [options.model, *([options.fallback_model] if options.fallback_model else [])]
    try:
        sources = tuple(resolve_model(name, options.model_dir) for name in names)
    except LvmError as error:
        raise UsageError(str(error)) from error
    if len(sources) == 2 and sources[1].spec.needs_demographics:
        raise UsageError(
            f"--fallback-model {options.fallback_model} needs age, sex and BMI itself; expected an ECG-only model"
        )
    has_people = options.participants or options.index
    if sources[0].spec.needs_demographics and not has_people and len(sources) == 1:
        raise UsageError(
            f"model {sources[0].spec.model_id} needs age, sex and BMI, and no --participants is given: give a table, "
            "add --fallback-model, or choose an ECG-only model (lvm-ai models list)"
        )
    return sources


def main(argv: Sequence[str]) -> int:
    """Run `lvm-ai score`."""
    return run_job(_Score(ScoreSettings.parse(argv)), argv)


if __name__ == "__main__":
    import lvm_ai  # its messages and exit codes

    sys.exit(lvm_ai.module_main("score"))
