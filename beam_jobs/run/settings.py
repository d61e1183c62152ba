"""Settings of the jobs: each is declared once, and everything else follows from the declaration.

A field is made by `option` (a command-line option) or `resolved` (what options lead to: a model's
checksum, a table's content). Both ask whether the field can move a number. From the fields follow
the parser with its help, the settings in plan.json that a resumed run must repeat, the fingerprint
and the footers, and what workers and `lvm-ai verify` compute with: they read their settings from
the plan, so that a field that is not in the fingerprint does not reach them.
"""
# ruff: noqa: RUF009 - option() and resolved() are dataclasses.field()

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Final, Self

from beam_jobs.reading.flagged import SignalFlags, parse_flags, refuse_flags_not_looked_for, refuse_flags_of_scoring
from beam_jobs.reading.index import RecordIndex
from beam_jobs.reading.inputs import ID_PRESETS, IdRule
from beam_jobs.reading.layout import Layout
from beam_jobs.reading.measured import Measure
from beam_jobs.reading.storage import Storage
from beam_jobs.reading.unit_reader import UnitReader
from beam_jobs.reading.units import DEFAULT_UNIT_ECGS
from beam_jobs.run.declared import AUTO, AllDeclared, Declared, declared_fields, option, resolved
from lvm_core.command_line import ArgumentParser, Share, add_share_option
from lvm_core.errors import UsageError
from lvm_core.formats.registry import FORMATS
from lvm_core.medicine.body import Bsa
from lvm_core.medicine.lvh import LvhPreset
from lvm_core.medicine.recalibration import Recalibration
from lvm_core.pseudonyms import Pseudonyms
from lvm_core.tables import INDEX_PRESETS, PRESETS
from models.catalogue.spec import InputConvention
from models.engines.choosing import EngineName, EngineSettings, Precision
from models.machine.runtime import Device

# 0.1 s at 500 Hz: about one QRS complex. A longer line would be an invention.
MOST_INTERPOLATED_SAMPLES: Final = 50
RUNNERS: Final = ("local", "portable", "flink", "spark", "dataflow")
_FORMATS: Final = {one.option: one.name for one in FORMATS}

_FIRST, _KEYS, _SIGNAL, _RUN, _MODEL = "", "keys of raw files", "signal", "run", "model"
_COMPUTING, _PEOPLE, _RUNNER = "computing", "people and rules", "runner"
_DATAFLOW: Final = "runner dataflow"
_GPUS_OF_DATAFLOW: Final = ("l4", "t4", "a100")
_GROUP_TEXTS: Final = {
    _COMPUTING: "Chosen once, when a run is planned, and kept when it is resumed.",
    _RUNNER: "Where the job is done (docs/running.md). Options after -- are passed on to Beam's runner.",
    _DATAFLOW: "Google's service for Beam jobs (docs/running_on_dataflow.md); for --runner dataflow alone.",
}


@dataclass(frozen=True, kw_only=True)
class InputSettings(AllDeclared):
    """What is read, and how keys and units follow from it."""

    reads_parquet: ClassVar[bool] = True

    inputs: tuple[str, ...] = option(
        "--input",
        _FIRST,
        "files, folders, .zip and .tar(.gz, .bz2, .xz) archives, quoted globs; local, s3:// or gs://",
        moves=False,  # what they hold is in the units
        default=MISSING,
        convert=lambda groups: tuple(uri for group in groups for uri in group),
        action="append",
        nargs="+",
        required=True,
        metavar="URI",
    )
    storage: Storage = option(
        "--storage-option",
        _FIRST,
        "for stores, for example s3.endpoint_override=HOST:PORT; may be repeated",
        moves=False,
        default=Storage,
        convert=lambda values: storage_of(values),
        action="append",
        metavar="KEY=VALUE",
    )
    id_rule: IdRule = option(
        "--id-pattern",
        _KEYS,
        "regular expression with groups ecg_id and participant_id, or a preset: "
        f"{', '.join(ID_PRESETS)} (default: path without extension, no participant)",
        moves=True,
        default=IdRule,
        plan_name="id_pattern",
        convert=IdRule,
        to_plan=lambda rule: rule.pattern,
    )
    id_from_header: bool = option(
        "--id-from-header",
        _KEYS,
        "take the participant from the file's own header where the path gives none",
        moves=True,
        default=False,
    )
    index: tuple[str, ...] = option(
        "--index",
        _KEYS,
        "table that lists the records, with their keys, people and times, CSV or Parquet; further tables are added "
        "by its key (docs/archives.md)",
        moves="index_sha256",
        default=(),
        convert=tuple,
        nargs="+",
        metavar="F",
    )
    index_layout: str | None = option(
        "--index-layout",
        _KEYS,
        f"what its columns mean: a YAML file, or {', '.join(INDEX_PRESETS)} (default: our own names)",
        moves="index_sha256",
        metavar="F|PRESET",
    )
    index_sha256: str | None = resolved(moves=True, at_default=False)
    pseudonym_key: str | None = option(
        "--pseudonym-key",
        _KEYS,
        "file of 32 random bytes or more: keyed pseudonyms take the place of all identifiers (docs/pseudonyms.md)",
        moves="pseudonym_key_id",
        metavar="F",
    )
    pseudonym_key_id: str | None = resolved(moves=True, at_default=False)
    """Fingerprint of the key."""
    interpolate_missing_samples: int = option(
        "--interpolate-missing",
        _SIGNAL,
        "fill gaps of up to N missing samples by straight lines; such ECGs have the flag "
        "interpolated (default: 0, a missing sample rejects the ECG)",
        moves=True,
        default=0,
        limits=(0, MOST_INTERPOLATED_SAMPLES),
        type=int,
        metavar="N",
    )
    unit_ecgs: int = option(
        "--unit-ecgs",
        _RUN,
        "ECGs of a unit (default: %(default)s)",
        moves=True,
        default=DEFAULT_UNIT_ECGS,
        limits=(1, None),
        type=int,
        metavar="N",
    )
    measure: Measure = option(
        "--measure",
        _SIGNAL,
        "which ECGs without amplitudes of the device the software measures: those of device files, all that "
        "miss them, or none (default: %(default)s)",
        moves=True,
        default=Measure.FILES,
        at_default=False,
    )
    allow_empty: bool = option(
        "--allow-empty", _RUN, "go on although the inputs hold no ECG", moves=False, default=False
    )
    expect_ecgs: int | None = option(
        "--expect-ecgs",
        _RUN,
        "stop unless the inputs hold N ECGs: a folder or a listing of it may be incomplete",
        moves=False,  # which ECGs there are is in the units
        limits=(0, None),
        type=int,
        metavar="N",
    )
    expect_files: str | None = option(
        "--expect-files",
        _RUN,
        "text file with a path a line, as below --input or whole: stop unless all are among the inputs",
        moves=False,
        metavar="F",
    )
    accept_unread_archives: bool = option(
        "--accept-unread-archives",
        _RUN,
        "go on beside archives of kinds that are not read (.7z, .rar, a .zip in a .zip ...): "
        "one reject each, however many ECGs they hold",
        moves=False,  # the rejects are in the units
        default=False,
    )

    def __post_init__(self) -> None:
        for name, declared in declared_fields(self).items():
            value, (least, most) = getattr(self, name), declared.limits
            if value is None:
                continue
            if not (least is None or value >= least) or not (most is None or value <= most):
                expected = f"{least} or more" if most is None else f"{least} to {most}"
                raise UsageError(f"{declared.flag} is {value}, expected {expected}")

    def planned(self) -> dict[str, Any]:
        """Return the settings that can move a number as plan.json and footers hold them."""
        found = {}
        for f in fields(self):
            declared: Declared = f.metadata["declared"]
            value = getattr(self, f.name)
            if declared.moves is True and (declared.at_default or value != f.default):
                found[declared.plan_name or f.name] = declared.json(value)
        return found

    @classmethod
    def from_plan(cls, planned: Mapping[str, Any], **others: Any) -> Self:
        """Return the settings that `planned` gave; the inputs of a plan are in its units.

        A setting that an earlier version did not know is at its default. `others` are fields that
        cannot move a number.
        """
        values: dict[str, Any] = {"inputs": ()}
        for name, declared in declared_fields(cls).items():
            content = planned.get(declared.plan_name or name)
            if declared.moves is True and content is not None:
                values[name] = declared.planned_value(content)
        return cls(**{**values, **others})


@dataclass(frozen=True, kw_only=True)
class RunSettings(InputSettings):
    """What both jobs have: where the run is written, and how it is done."""

    kind: ClassVar[str]
    description: ClassVar[str]

    output: str = option(
        "--output",
        _FIRST,
        "run folder, local, s3:// or gs://",
        moves=False,
        default=MISSING,
        convert=lambda text: text.rstrip("/") or text,
        required=True,
    )
    exclude: str | None = option(
        "--exclude-participants",
        _RUN,
        "list of people to exclude",
        moves=False,  # recorded; a longer list removes people from finished units too
        metavar="F",
    )
    shard: tuple[int, int] = option(
        "--shard",
        _RUN,
        "do every N-th unit only",
        moves=False,
        default=(1, 1),
        convert=lambda text: parse_shard(text),
        metavar="I/N",
    )
    threads: int | None = option(
        "--threads", _RUN, "cores to use (default: all that memory allows)", moves=False, limits=(1, None), type=int
    )
    processes: int | None = option(
        "--processes",
        _RUN,
        "processes that share the work here (default: for ingest one a core, for score one, or one for each GPU)",
        moves=False,
        limits=(1, None),
        type=int,
    )
    runner: str = option(
        "--runner",
        _RUNNER,
        "where the job is done (default: %(default)s, this machine)",
        moves=False,
        default=RUNNERS[0],
        choices=RUNNERS,
    )
    start_timeout_s: float = option(
        "--start-timeout",
        _RUNNER,
        "seconds until the first worker of a cluster must have begun (default: %(default)s)",
        moves=False,
        default=900.0,
        limits=(1, None),
        type=float,
        metavar="S",
    )
    worker_command: str | None = option(
        "--worker-command",
        _RUNNER,
        "lvm-beam-boot on the workers, for portable, flink and spark (default: that of this Python)",
        moves=False,
        metavar="PATH",
    )
    worker_processes: int | None = option(
        "--worker-processes",
        _RUNNER,
        "worker processes on each machine, for portable, flink and spark (default: 2 for portable, else 1)",
        moves=False,
        limits=(1, None),
        type=int,
        metavar="N",
    )
    job_endpoint: str | None = option(
        "--job-endpoint",
        _RUNNER,
        "address of a Beam job service that is there, for portable (default: one is started here)",
        moves=False,
        metavar="HOST:PORT",
    )
    flink_master: str | None = option(
        "--flink-master", _RUNNER, "address of a Flink cluster's REST interface", moves=False, metavar="HOST:PORT"
    )
    flink_job_server_jar: str | None = option(
        "--flink-job-server-jar",
        _RUNNER,
        "Beam's job server for the Flink of the cluster (default: Beam's own, fetched once; docs/running_on_flink.md)",
        moves=False,
        metavar="JAR",
    )
    spark_master: str | None = option(
        "--spark-master", _RUNNER, "address of a Spark cluster, spark://HOST:PORT", moves=False, metavar="URL"
    )
    spark_job_server_jar: str | None = option(
        "--spark-job-server-jar",
        _RUNNER,
        "Beam's job server for the Spark of the cluster (docs/running_on_spark.md)",
        moves=False,
        metavar="JAR",
    )
    beam_options: tuple[str, ...] = resolved(moves=False, default=())
    """What stands after `--`: options for Beam's runner, which win over ours."""
    project: str | None = option("--project", _DATAFLOW, "id of the project that is billed", moves=False)
    region: str | None = option("--region", _DATAFLOW, "where workers are: where the inputs are", moves=False)
    staging: str | None = option(
        "--staging", _DATAFLOW, "folder for what is submitted and for temporary files", moves=False, metavar="gs://..."
    )
    image: str | None = option(
        "--image", _DATAFLOW, "image of the workers, built from deploy/dataflow/Dockerfile", moves=False
    )
    workers: int | None = option(
        "--workers", _DATAFLOW, "machines at the start", moves=False, limits=(1, None), type=int, metavar="N"
    )
    max_workers: int | None = option(
        "--max-workers",
        _DATAFLOW,
        "machines at most, as Dataflow sees fit (default: the number of --workers stays)",
        moves=False,
        limits=(1, None),
        type=int,
        metavar="N",
    )
    machine_type: str | None = option(
        "--machine-type", _DATAFLOW, "default: n2-standard-4, or what the GPU comes with", moves=False
    )
    no_wait: bool = option(
        "--no-wait",
        _DATAFLOW,
        "end when the job is submitted; lvm-ai finish closes the run when it has ended",
        moves=False,
        default=False,
    )
    gpu: str | None = option("--gpu", _DATAFLOW, "a GPU for each machine", moves=False, choices=_GPUS_OF_DATAFLOW)
    cheap: bool = option(
        "--cheap", _DATAFLOW, "FlexRS: starts within six hours, costs less", moves=False, default=False
    )
    disk_gb: int | None = option(
        "--disk-gb", _DATAFLOW, "disk of a machine (default: 30, with a GPU 60)", moves=False, type=int, metavar="GB"
    )
    service_account: str | None = option("--service-account", _DATAFLOW, "account that workers run as", moves=False)
    subnetwork: str | None = option(
        "--subnetwork", _DATAFLOW, "regions/REGION/subnetworks/NAME (default: that of the project)", moves=False
    )
    public_ips: bool = option(
        "--public-ips", _DATAFLOW, "give machines public addresses (default: private alone)", moves=False, default=False
    )
    labels: tuple[str, ...] = option(
        "--label",
        _DATAFLOW,
        "label of the job, for bills; may be repeated",
        moves=False,
        default=(),
        convert=tuple,
        action="append",
        metavar="KEY=VALUE",
    )
    prices: Path | None = option(
        "--prices",
        _DATAFLOW,
        "your copy of beam_jobs/runners/dataflow_prices.yaml, for the estimate of --dry-run",
        moves=False,
        type=Path,
        metavar="F",
    )
    signal_flags: SignalFlags = option(
        "--signal-flags",
        _SIGNAL,
        "which ECGs get the quality flags of noise, wander, clipping, flat leads, exchanged arms and spikes: those of "
        "device files, all, or none (default: %(default)s)",
        moves=True,
        default=SignalFlags.FILES,
        at_default=False,
    )
    reject_flags: tuple[str, ...] = option(
        "--reject-flags",
        _SIGNAL,
        "reject ECGs with one of these quality flags, with commas between (default: none is rejected for a flag)",
        moves=True,
        default=(),
        convert=lambda text: parse_flags(text),
        from_plan=tuple,
        at_default=False,
        metavar="FLAG[,FLAG...]",
    )
    max_rejected_share: float = option(
        "--max-rejected-share",
        _RUN,
        "fail when more of the ECGs are rejected, 0 to 1 (default: %(default)s)",
        moves=False,
        default=0.05,
        limits=(0, 1),
        type=float,
        metavar="X",
    )
    dry_run: bool = option("--dry-run", _RUN, "print the plan and stop", moves=False, default=False)
    plan_only: bool = option(
        "--plan-only",
        _RUN,
        "write the plan and stop, so that many shards need not plan each",
        moves=False,
        default=False,
    )
    reuse_plan: bool = option(
        "--reuse-plan",
        _RUN,
        "do units of the plan that is there, without listing the inputs again: inputs that were added are not seen",
        moves=False,
        default=False,
    )
    overwrite: bool = option("--overwrite", _RUN, "remove an earlier run's files", moves=False, default=False)
    share: Share | None = option("--share", _RUN, moves=False, add=add_share_option)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(name.strip() for name in (*self.inputs, self.output)):
            raise UsageError("an --input or --output is empty, expected a path; is a shell variable unset?")
        refuse_flags_not_looked_for(self.reject_flags, self.signal_flags)
        index, count = self.shard
        if not 1 <= index <= count:
            raise UsageError(f"--shard is {index}/{count}, expected i/n with 1 <= i <= n")
        if not self.runs_here and self.processes is not None:
            raise UsageError(
                f"--processes is {self.processes}, and is for --runner {RUNNERS[0]} alone; expected the number of "
                f"worker processes among the options of --runner {self.runner}"
            )
        for flag, is_given in (("--overwrite", self.overwrite), ("--plan-only", self.plan_only)):
            if self.reuse_plan and is_given:
                raise UsageError(f"--reuse-plan goes on with a plan and {flag} makes one; expected one of them")
        if self.overwrite and count > 1:
            raise UsageError(
                "--overwrite with --shard would remove what other shards have done; remove "
                f"{self.output} once, then start the shards without --overwrite"
            )

    @property
    def runs_here(self) -> bool:
        """Workers are threads of this process."""
        return self.runner == RUNNERS[0]

    @classmethod
    def parse(cls, argv: Sequence[str]) -> Self:
        """Parse the arguments of the command; exits with 2 on wrong usage."""
        parser = ArgumentParser(
            prog=f"lvm-ai {cls.kind}",
            description=f"{cls.description} Research software, not for clinical use.",
            epilog="Run the same command again to resume. Exit codes: 0 done, 1 failed or too many "
            "rejects, 2 wrong usage.",
        )
        options = {f.name: f for f in fields(cls) if f.metadata["declared"].flag is not None}
        declared = {name: f.metadata["declared"] for name, f in options.items()}
        groups: dict[str, argparse._ActionsContainer] = {_FIRST: parser}
        for name in sorted(options, key=lambda name: not declared[name].is_required):
            group = declared[name].group
            if group not in groups:
                groups[group] = parser.add_argument_group(group, _GROUP_TEXTS.get(group))
            declared[name].add_to(groups[group], options[name].default)
        own, beam_options = _split(list(argv))
        args = parser.parse_args(own)
        given = {name: getattr(args, one.destination) for name, one in declared.items()}
        values = {name: declared[name].value(one) for name, one in given.items() if one is not None}
        for name, one in declared.items():
            _, _, its_runner = one.group.partition(f"{_RUNNER} ")
            if (
                its_runner
                and its_runner != values["runner"]
                and values.get(name, options[name].default) not in (options[name].default, ())
            ):
                raise UsageError(
                    f"{one.flag} is an option of --runner {its_runner}, and --runner is {values['runner']}"
                )
        return cls(**values, beam_options=tuple(beam_options))

    def as_given(self) -> dict[str, Any]:
        """Return the options of the command as run_report.json holds them."""
        names = [name for name, declared in declared_fields(self).items() if declared.flag is not None]
        return {name: _plain(getattr(self, name)) for name in names}


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    """Split arguments at the first `--`."""
    place = argv.index("--") if "--" in argv else len(argv)
    return argv[:place], argv[place + 1 :]


def _plain(value: Any) -> Any:
    if isinstance(value, Storage):
        return dict(value.options)
    if isinstance(value, IdRule):
        return value.pattern
    if isinstance(value, bool | int | float) or value is None:
        return value
    return [str(v) for v in value] if isinstance(value, tuple) else str(value)


@dataclass(frozen=True, kw_only=True)
class ScoreSettings(RunSettings):
    """Settings of `lvm-ai score`."""

    kind: ClassVar[str] = "score"
    description: ClassVar[str] = "Score ECGs: LV mass, its index, LVH and the ECG rules, to Parquet."

    model: str = option(
        "--model", _MODEL, "catalogue id (lvm-ai models list) or a file", moves="models", default="", required=True
    )
    fallback_model: str | None = option(
        "--fallback-model", _MODEL, "ECG-only model for ECGs without age, sex or BMI; else rejected", moves="models"
    )
    model_dir: Path | None = option("--model-dir", _MODEL, "folder of fetched models", moves="models", type=Path)
    models: tuple[Mapping[str, str], ...] = resolved(moves=True, default=(), from_plan=tuple)
    """`model_id` and `sha256` of the model and of the fallback model."""
    input_convention: InputConvention = option(
        "--input-convention",
        _MODEL,
        "how microvolts become the network's input (default: %(default)s)",
        moves=True,
        default=InputConvention.UKB_COUNTS,
    )
    engine: EngineName | None = option(
        "--engine",
        _COMPUTING,
        "auto: tensorflow on a GPU, else spectral, several times faster on CPUs, where it agrees "
        "with the model's own graph",
        moves=True,
        one_of=EngineName,
    )
    engine_note: str = resolved(moves=True, default="", at_default=False)
    """Why it is not the fastest engine; empty where it is, or was asked for."""
    device: Device | None = option(
        "--device",
        _COMPUTING,
        "auto: a GPU if there is one; gpu never falls back to the CPU",
        moves=True,
        one_of=Device,
    )
    precision: Precision | None = option(
        "--precision",
        _COMPUTING,
        "default: float32; mixed, on a GPU, is refused where it moves a mass by over 0.5 g",
        moves=True,
        convert=Precision,
        choices=[one.value for one in Precision],
    )
    batch: int | None = option(
        "--batch",
        _COMPUTING,
        "ECGs computed together (default: 16 on CPUs, tried out on a GPU)",
        moves=True,
        limits=(1, None),
        type=int,
    )
    participants: str | None = option(
        "--participants", _PEOPLE, "CSV or Parquet with age, sex and body size", moves="participants_sha256"
    )
    participants_layout: str | None = option(
        "--participants-layout",
        _PEOPLE,
        f"what its columns mean: a YAML file, or {', '.join(PRESETS)} (docs/people_tables.md; "
        "default: our own names and units)",
        moves="participants_sha256",
        metavar="F|PRESET",
    )
    participants_sha256: str | None = resolved(moves=True)
    accept_people: bool = option(
        "--accept-people",
        _PEOPLE,
        "go on although the participant table looks wrong as a whole",
        moves=False,
        default=False,
    )
    bsa: Bsa = option(
        "--bsa", _PEOPLE, "formula of the body surface area (default: %(default)s)", moves=True, default=Bsa.DUBOIS
    )
    lvh_preset: LvhPreset = option(
        "--lvh-preset",
        _PEOPLE,
        "thresholds of the LV mass index (default: %(default)s)",
        moves=True,
        default=LvhPreset.KHURSHID2021,
    )
    recalibration: str | None = option(
        "--recalibration",
        _PEOPLE,
        "file of lvm-ai recalibrate: adds recalibrated columns",
        moves="recalibration_content",
        metavar="F",
    )
    recalibration_content: Recalibration | None = resolved(
        moves=True,
        plan_name="recalibration",
        to_plan=Recalibration.to_dict,
        from_plan=lambda content: Recalibration.from_dict(content, "plan.json"),
        at_default=False,
    )
    layout: str | None = option(
        "--layout", _FIRST, "YAML file that describes other people's Parquet or arrays", moves="layout_content"
    )
    layout_content: Layout | None = resolved(
        moves=True, plan_name="layout", to_plan=Layout.to_plan, from_plan=Layout.model_validate
    )
    accept_scale: bool = option(
        "--accept-scale", _FIRST, "go on although voltages, leads or the rate look wrong", moves=False, default=False
    )

    @property
    def engine_settings(self) -> EngineSettings:
        """What computes, in which precision and where, once it is chosen."""
        assert self.engine is not None
        assert self.precision is not None
        assert self.device is not None
        return EngineSettings(self.engine, self.precision, self.device)

    @property
    def batch_size(self) -> int:
        """ECGs computed together, once it is chosen."""
        assert self.batch is not None
        return self.batch

    @property
    def computing_line(self) -> str:
        """How the run computes, in words."""
        note = f" ({self.engine_note})" if self.engine_note else ""
        return f"{self.engine} engine on the {self.device}, {self.precision}, batch {self.batch}{note}"

    def reader(
        self, roots: Sequence[str], index: RecordIndex | None = None, pseudonyms: Pseudonyms | None = None
    ) -> UnitReader:
        """Return what reads units; paths start from these roots."""
        layout, n_filled = self.layout_content, self.interpolate_missing_samples
        return UnitReader(self.storage, tuple(roots), layout, (), self.id_from_header, n_filled, index, pseudonyms)


@dataclass(frozen=True, kw_only=True)
class IngestSettings(RunSettings):
    """Settings of `lvm-ai ingest`."""

    kind: ClassVar[str] = "ingest"
    description: ClassVar[str] = "Turn ECG files of devices into checked ECG Parquet at 500 Hz."
    reads_parquet: ClassVar[bool] = False

    formats: tuple[str, ...] = option(
        "--format",
        _FIRST,
        "accept only this format, by its content; may be repeated (default: auto, all)",
        moves=True,
        default=(),
        convert=lambda names: () if AUTO in names else tuple(_FORMATS[name] for name in names),
        from_plan=tuple,
        action="append",
        choices=[AUTO, *_FORMATS],
    )
    layout: str | None = option(
        "--layout", _FIRST, "YAML file that describes HDF5, NumPy or MATLAB arrays", moves="layout_content"
    )
    layout_content: Layout | None = resolved(
        moves=True, plan_name="layout", to_plan=Layout.to_plan, from_plan=Layout.model_validate, at_default=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_flags_of_scoring(self.reject_flags)

    def reader(
        self, roots: Sequence[str], index: RecordIndex | None = None, pseudonyms: Pseudonyms | None = None
    ) -> UnitReader:
        """Return what reads units; paths start from these roots."""
        layout, n_filled = self.layout_content, self.interpolate_missing_samples
        own = self.formats, self.id_from_header, n_filled
        return UnitReader(self.storage, tuple(roots), layout, *own, index, pseudonyms)


def add_options(parser: argparse._ActionsContainer, settings: type[InputSettings], *names: str) -> None:
    """Add the options of some fields of settings to the parser of another command."""
    for f in fields(settings):
        if f.name in names:
            f.metadata["declared"].add_to(parser, f.default)


def add_storage_option(parser: argparse._ActionsContainer) -> None:
    """Add the option that says how stores are reached."""
    add_options(parser, InputSettings, "storage")


def add_participants_options(group: argparse._ActionsContainer) -> None:
    """Add the options that say where the participant table is and what it means."""
    add_options(group, ScoreSettings, "participants", "participants_layout", "accept_people")


def storage_of(values: Sequence[str] | None) -> Storage:
    """Return the storage that `--storage-option` values describe."""
    pairs = []
    for value in values or ():
        key, equals, text = value.partition("=")
        if not equals:
            raise UsageError(f"--storage-option {value!r} is not KEY=VALUE")
        pairs.append((key, text))
    return Storage(tuple(pairs))


def parse_shard(text: str) -> tuple[int, int]:
    """Parse `i/n`, two whole numbers."""
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal()):
        raise UsageError(f"--shard is {text!r}, expected i/n, for example 3/100")
    return int(index), int(count)
