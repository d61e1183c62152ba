"""Options of the jobs: parsed once into frozen values that check themselves."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from beam_jobs.reading.inputs import ID_PRESETS, IdRule
from beam_jobs.reading.storage import Storage
from lvm_core.command_line import ArgumentParser, Share, add_share_option
from lvm_core.errors import UsageError
from lvm_core.medicine.body import Bsa
from lvm_core.medicine.lvh import LvhPreset
from lvm_core.tables import PRESETS
from models.catalogue.spec import InputConvention
from models.engines.choosing import EngineName, Precision
from models.machine.runtime import Device

DEFAULT_UNIT_ECGS: Final = 1024
DEFAULT_MAX_REJECTED_SHARE: Final = 0.05
# 0.1 s at 500 Hz: about one QRS complex. A longer line would be an invention.
MOST_INTERPOLATED_SAMPLES: Final = 50
RUNNERS: Final = ("local",)
AUTO: Final = "auto"
FORMATS: Final = {"cardiosoft": "cardiosoft_xml", "muse": "muse_xml", "wfdb": "wfdb"}


@dataclass(frozen=True)
class RunOptions:
    """Options that both jobs have.

    Attributes:
        inputs: files, folders or globs, local or in stores.
        output: the run folder.
        storage: how to reach stores.
        id_rule: how keys follow from paths.
        id_from_header: take the person from a raw file's header.
        interpolate_missing_samples: longest gap of missing samples that is filled, 0 to 50.
        unit_ecgs: ECGs of a unit, 1 or more.
        shard: (i, n), 1 <= i <= n: every n-th unit is done here.
        exclude: URI of a list of people to exclude, or None.
        max_rejected_share: largest rejected / read of a run that counts as done, 0 to 1.
        allow_empty: inputs without any ECG are no mistake.
        accept_unread_archives: go on beside archives of kinds that are not read.
        runner: one of `RUNNERS`.
        threads: batches computed at once; None for one a core, fewer where memory is short.
        processes: that share the work on this machine; None for one, or one for each GPU.
        overwrite: remove what an earlier run left.
        dry_run: print the plan and stop.
        share: who else may read what is written; None for nobody.

    Raises:
        UsageError: a value is outside its range.
    """

    inputs: tuple[str, ...]
    output: str
    storage: Storage = field(default_factory=Storage)
    id_rule: IdRule = field(default_factory=IdRule)
    id_from_header: bool = False
    interpolate_missing_samples: int = 0
    unit_ecgs: int = DEFAULT_UNIT_ECGS
    shard: tuple[int, int] = (1, 1)
    exclude: str | None = None
    max_rejected_share: float = DEFAULT_MAX_REJECTED_SHARE
    allow_empty: bool = False
    accept_unread_archives: bool = False
    runner: str = "local"
    threads: int | None = None
    processes: int | None = None
    overwrite: bool = False
    dry_run: bool = False
    share: Share | None = None

    def __post_init__(self) -> None:
        empty = [name for name in (*self.inputs, self.output) if not name.strip()]
        _check(not empty, "an --input or --output", "empty", "a path; is a shell variable unset?")
        n_missing = self.interpolate_missing_samples
        _check(
            0 <= n_missing <= MOST_INTERPOLATED_SAMPLES,
            "--interpolate-missing",
            n_missing,
            f"0 to {MOST_INTERPOLATED_SAMPLES} samples",
        )
        _check(self.unit_ecgs >= 1, "--unit-ecgs", self.unit_ecgs, "1 or more")
        _check(self.threads is None or self.threads >= 1, "--threads", self.threads, "1 or more")
        _check(self.processes is None or self.processes >= 1, "--processes", self.processes, "1 or more")
        share = self.max_rejected_share
        _check(0 <= share <= 1, "--max-rejected-share", share, "0 to 1, for example 0.05")
        index, count = self.shard
        _check(1 <= index <= count, "--shard", f"{index}/{count}", "i/n with 1 <= i <= n")
        if self.overwrite and count > 1:
            raise UsageError(
                "--overwrite with --shard would remove what other shards have done; remove "
                f"{self.output} once, then start the shards without --overwrite"
            )


@dataclass(frozen=True)
class ScoreOptions(RunOptions):
    """Options of `lvm-ai score`.

    Attributes:
        model: catalogue id or path.
        fallback_model: ECG-only model for rows that `model` cannot score, or None.
        model_dir: folder of fetched models, or None for the default.
        layout: URI of a layout file, or None for the canonical table.
        participants: URI of the participant table, or None.
        participants_layout: what its columns mean: a preset or the URI of a file; None for ours.
        accept_people: go on although the participant table looks wrong as a whole.
        engine: what computes; None for the one that was planned, or the fastest here.
        precision: of the arithmetic; None for the planned one, or float32.
        device: where it is computed; None for the planned one, or a GPU if there is one.
        batch: ECGs computed together, 1 or more; None for the planned one, or a choice.
        input_convention: how microvolts become the network's input.
        bsa: formula of the body surface area.
        lvh_preset: thresholds of the LV mass index.
        accept_scale: go on although the scale, the leads or the rate of a layout look wrong.
        recalibration: URI of a file of `lvm-ai recalibrate`, or None.
    """

    model: str = ""
    fallback_model: str | None = None
    model_dir: Path | None = None
    layout: str | None = None
    participants: str | None = None
    participants_layout: str | None = None
    accept_people: bool = False
    engine: EngineName | None = None
    precision: Precision | None = None
    device: Device | None = None
    batch: int | None = None
    input_convention: InputConvention = InputConvention.UKB_COUNTS
    bsa: Bsa = Bsa.DUBOIS
    lvh_preset: LvhPreset = LvhPreset.KHURSHID2021
    accept_scale: bool = False
    recalibration: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.batch is None or self.batch >= 1, "--batch", self.batch, "1 or more")


@dataclass(frozen=True)
class IngestOptions(RunOptions):
    """Options of `lvm-ai ingest`.

    Attributes:
        formats: formats to accept; empty for all.
    """

    formats: tuple[str, ...] = ()


def _check(good: bool, name: str, value: Any, expected: str) -> None:
    if not good:
        raise UsageError(f"{name} is {value}, expected {expected}")


def parse_score(argv: Sequence[str]) -> ScoreOptions:
    """Parse the arguments of `lvm-ai score`; exits with 2 on wrong usage."""
    parser = _parser("score", "Score ECGs: LV mass, its index, LVH and the ECG rules, to Parquet.")
    _common(parser)
    model = parser.add_argument_group("model")
    model.add_argument("--model", required=True, help="catalogue id (lvm-ai models list) or a file")
    model.add_argument("--fallback-model", help="ECG-only model for ECGs without age, sex or BMI; else rejected")
    model.add_argument("--model-dir", type=Path, help="folder of fetched models")
    _computing(parser)
    model.add_argument(
        "--input-convention",
        choices=[c.value for c in InputConvention],
        default=InputConvention.UKB_COUNTS.value,
        help="how microvolts become the network's input (default: %(default)s)",
    )
    people = parser.add_argument_group("people and rules")
    add_participants_options(people)
    people.add_argument(
        "--bsa",
        choices=[b.value for b in Bsa],
        default=Bsa.DUBOIS.value,
        help="formula of the body surface area (default: %(default)s)",
    )
    people.add_argument(
        "--lvh-preset",
        choices=[p.value for p in LvhPreset],
        default=LvhPreset.KHURSHID2021.value,
        help="thresholds of the LV mass index (default: %(default)s)",
    )
    people.add_argument("--recalibration", metavar="F", help="file of lvm-ai recalibrate: adds recalibrated columns")
    parser.add_argument("--layout", help="YAML file that describes other people's Parquet")
    parser.add_argument(
        "--accept-scale", action="store_true", help="go on although voltages, leads or the rate look wrong"
    )
    args = parser.parse_args(argv)
    return ScoreOptions(
        **_common_values(args),
        model=args.model,
        fallback_model=args.fallback_model,
        model_dir=args.model_dir,
        layout=args.layout,
        participants=args.participants,
        participants_layout=args.participants_layout,
        accept_people=args.accept_people,
        engine=None if args.engine == AUTO else EngineName(args.engine),
        precision=None if args.precision is None else Precision(args.precision),
        device=None if args.device == AUTO else Device(args.device),
        batch=args.batch,
        input_convention=InputConvention(args.input_convention),
        bsa=Bsa(args.bsa),
        lvh_preset=LvhPreset(args.lvh_preset),
        accept_scale=args.accept_scale,
        recalibration=args.recalibration,
    )


def _computing(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("computing", "Chosen once, when a run is planned, and kept when it is resumed.")
    group.add_argument(
        "--engine",
        choices=[AUTO, *EngineName],
        default=AUTO,
        help="auto: tensorflow on a GPU, else spectral, several times faster on CPUs, where it "
        "agrees with the model's own graph",
    )
    group.add_argument(
        "--device",
        choices=[AUTO, *Device],
        default=AUTO,
        help="auto: a GPU if there is one; gpu never falls back to the CPU",
    )
    group.add_argument(
        "--precision",
        choices=list(Precision),
        default=None,
        help="default: float32; mixed, on a GPU, is refused where it moves a mass by over 0.5 g",
    )
    group.add_argument(
        "--batch", type=int, default=None, help="ECGs computed together (default: 16 on CPUs, tried out on a GPU)"
    )


def parse_ingest(argv: Sequence[str]) -> IngestOptions:
    """Parse the arguments of `lvm-ai ingest`; exits with 2 on wrong usage."""
    parser = _parser("ingest", "Turn ECG files of devices into checked ECG Parquet at 500 Hz.")
    _common(parser)
    parser.add_argument(
        "--format",
        action="append",
        choices=["auto", *FORMATS],
        default=None,
        help="accept only this format, by its content; may be repeated (default: auto, all)",
    )
    args = parser.parse_args(argv)
    chosen = [] if args.format is None or "auto" in args.format else args.format
    return IngestOptions(**_common_values(args), formats=tuple(FORMATS[name] for name in chosen))


def _parser(name: str, description: str) -> ArgumentParser:
    return ArgumentParser(
        prog=f"lvm-ai {name}",
        description=f"{description} Research software, not for clinical use.",
        epilog="Run the same command again to resume. Exit codes: 0 done, 1 failed or too many rejects, 2 wrong usage.",
    )


def add_storage_option(parser: ArgumentParser) -> None:
    """Add the option that says how stores are reached."""
    parser.add_argument(
        "--storage-option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="for stores, for example s3.endpoint_override=HOST:PORT; may be repeated",
    )


def add_participants_options(group: argparse._ActionsContainer) -> None:
    """Add the options that say where the participant table is and what it means."""
    group.add_argument("--participants", help="CSV or Parquet with age, sex and body size")
    group.add_argument(
        "--participants-layout",
        metavar="F|PRESET",
        help="what its columns mean: a YAML file, or "
        f"{', '.join(PRESETS)} (docs/people_tables.md; default: our own names and units)",
    )
    group.add_argument(
        "--accept-people", action="store_true", help="go on although the participant table looks wrong as a whole"
    )


def storage_of(values: Sequence[str]) -> Storage:
    """Return the storage that `--storage-option` values describe."""
    pairs = []
    for value in values:
        key, equals, text = value.partition("=")
        if not equals:
            raise UsageError(f"--storage-option {value!r} is not KEY=VALUE")
        pairs.append((key, text))
    return Storage(tuple(pairs))


def _common(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--input",
        action="append",
        nargs="+",
        required=True,
        metavar="URI",
        help="files, folders, .zip and .tar(.gz, .bz2, .xz) archives, quoted globs; local, s3:// or gs://",
    )
    parser.add_argument("--output", required=True, help="run folder, local, s3:// or gs://")
    add_storage_option(parser)
    keys = parser.add_argument_group("keys of raw files")
    keys.add_argument(
        "--id-pattern",
        help="regular expression with groups ecg_id and participant_id, or a preset: "
        f"{', '.join(ID_PRESETS)} (default: path without extension, no participant)",
    )
    keys.add_argument(
        "--id-from-header",
        action="store_true",
        help="take the participant from the file's own header where the path gives none",
    )
    signal = parser.add_argument_group("signal")
    signal.add_argument(
        "--interpolate-missing",
        type=int,
        default=0,
        metavar="N",
        help="fill gaps of up to N missing samples by straight lines; such ECGs have the flag "
        "interpolated (default: 0, a missing sample rejects the ECG)",
    )
    run = parser.add_argument_group("run")
    run.add_argument("--exclude-participants", metavar="F", help="list of people to exclude")
    run.add_argument("--unit-ecgs", type=int, default=DEFAULT_UNIT_ECGS, help="ECGs of a unit")
    run.add_argument("--shard", default="1/1", metavar="I/N", help="do every N-th unit only")
    run.add_argument("--threads", type=int, default=None, help="cores to use (default: all that memory allows)")
    run.add_argument(
        "--processes",
        type=int,
        default=None,
        help="processes that share the work here (default: one, or one for each GPU)",
    )
    run.add_argument("--runner", choices=RUNNERS, default="local", help="default: %(default)s")
    run.add_argument(
        "--max-rejected-share",
        type=float,
        default=DEFAULT_MAX_REJECTED_SHARE,
        metavar="X",
        help="fail when more of the ECGs are rejected (default: %(default)s)",
    )
    run.add_argument("--allow-empty", action="store_true", help="go on although the inputs hold no ECG")
    run.add_argument(
        "--accept-unread-archives",
        action="store_true",
        help="go on beside archives of kinds that are not read (.7z, .rar, a .zip in a .zip ...): "
        "one reject each, however many ECGs they hold",
    )
    run.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    run.add_argument("--overwrite", action="store_true", help="remove an earlier run's files")
    add_share_option(run)


def _common_values(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "inputs": tuple(uri for group in args.input for uri in group),
        "output": args.output.rstrip("/") or args.output,
        "storage": storage_of(args.storage_option),
        "id_rule": IdRule(args.id_pattern),
        "id_from_header": args.id_from_header,
        "interpolate_missing_samples": args.interpolate_missing,
        "unit_ecgs": args.unit_ecgs,
        "shard": parse_shard(args.shard),
        "exclude": args.exclude_participants,
        "max_rejected_share": args.max_rejected_share,
        "allow_empty": args.allow_empty,
        "accept_unread_archives": args.accept_unread_archives,
        "runner": args.runner,
        "threads": args.threads,
        "processes": args.processes,
        "overwrite": args.overwrite,
        "dry_run": args.dry_run,
        "share": args.share,
    }


def parse_shard(text: str) -> tuple[int, int]:
    """Parse `i/n`.

    Raises:
        UsageError: it is not two whole numbers.
    """
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal()):
        raise UsageError(f"--shard is {text!r}, expected i/n, for example 3/100")
    return int(index), int(count)
