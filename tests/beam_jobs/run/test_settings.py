"""Settings: declared once, checked at once, with the name of the option in every message."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from beam_jobs.reading.flagged import SignalFlags
from beam_jobs.reading.inputs import IdRule
from beam_jobs.reading.layout import Layout
from beam_jobs.reading.measured import Measure
from beam_jobs.reading.storage import Storage
from beam_jobs.run import plan
from beam_jobs.run.declared import declared_fields, option, resolved
from beam_jobs.run.plan import Plan
from beam_jobs.run.settings import IngestSettings, RunSettings, ScoreSettings, parse_shard, storage_of
from lvm_core.command_line import Share
from lvm_core.errors import UsageError
from lvm_core.medicine.body import Bsa
from lvm_core.medicine.lvh import LvhPreset
from lvm_core.medicine.recalibration import Recalibration
from lvm_core.signal.ecg import LEADS_12
from models.catalogue.spec import InputConvention
from models.engines.choosing import EngineName, Precision
from models.machine.runtime import Device

SCORE = ["--input", "in", "--model", "m", "--output", "out"]
NAMED: dict[str, Any] = {"inputs": ("in",), "output": "out"}
INGEST = ["--input", "in", "--output", "out"]


def test_parse_score__defaults() -> None:
    options = ScoreSettings.parse(SCORE)
    assert (options.inputs, options.model, options.output) == (("in",), "m", "out")
    assert options.unit_ecgs == 1024
    assert options.shard == (1, 1)
    assert options.max_rejected_share == 0.05
    assert options.runner == "local"
    assert options.threads is None
    assert (options.engine, options.device, options.precision, options.batch) == (None,) * 4
    assert options.input_convention is InputConvention.UKB_COUNTS
    assert (options.bsa, options.lvh_preset) == (Bsa.DUBOIS, LvhPreset.KHURSHID2021)
    assert (options.overwrite, options.dry_run, options.accept_scale) == (False,) * 3
    assert options.id_rule.pattern is None
    assert (options.fallback_model, options.layout, options.participants, options.exclude) == (None, None, None, None)


def test_parse_score__everything_given() -> None:
    options = ScoreSettings.parse(
        [
            *SCORE,
            "--participants",
            "p.csv",
            "--layout",
            "l.yaml",
            "--fallback-model",
            "f",
            "--model-dir",
            "models",
            "--batch",
            "32",
            "--input-convention",
            "microvolts_over_2000",
            "--bsa",
            "mosteller",
            "--lvh-preset",
            "petersen2017",
            "--accept-scale",
            "--shard",
            "3/7",
            "--unit-ecgs",
            "64",
            "--max-rejected-share",
            "0.5",
            "--threads",
            "2",
            "--exclude-participants",
            "w.csv",
            "--id-pattern",
            "ukb-20205",
            "--id-from-header",
            "--dry-run",
            "--storage-option",
            "s3.region=eu-west-1",
        ]
    )
    assert options == ScoreSettings(
        inputs=("in",),
        output="out",
        model="m",
        fallback_model="f",
        model_dir=Path("models"),
        layout="l.yaml",
        participants="p.csv",
        batch=32,
        input_convention=InputConvention.MICROVOLTS_OVER_2000,
        bsa=Bsa.MOSTELLER,
        lvh_preset=LvhPreset.PETERSEN2017,
        accept_scale=True,
        shard=(3, 7),
        unit_ecgs=64,
        max_rejected_share=0.5,
        threads=2,
        exclude="w.csv",
        id_rule=options.id_rule,
        id_from_header=True,
        dry_run=True,
        storage=storage_of(["s3.region=eu-west-1"]),
    )
    assert options.id_rule.pattern == "ukb-20205"


def test_parse__inputs_may_be_repeated_and_listed() -> None:
    options = IngestSettings.parse(["--input", "a", "b", "--input", "c", "--output", "out"])
    assert options.inputs == ("a", "b", "c")


@pytest.mark.parametrize(("given", "kept"), [("out/", "out"), ("s3://b/k//", "s3://b/k"), ("/", "/"), ("out", "out")])
def test_parse__output_loses_its_trailing_slashes(given: str, kept: str) -> None:
    assert IngestSettings.parse(["--input", "a", "--output", given]).output == kept


def test_parse__empty_output_is_refused() -> None:
    # An unset variable in a script; it must not become the root of the file system.
    with pytest.raises(UsageError, match="--output"):
        IngestSettings.parse(["--input", "a", "--output", ""])


@pytest.mark.parametrize(
    ("given", "formats"),
    [
        ([], ()),
        (["auto"], ()),
        (["muse"], ("muse_xml",)),
        (["wfdb", "auto"], ()),
        (["cardiosoft", "wfdb"], ("cardiosoft_xml", "wfdb")),
    ],
)
def test_parse_ingest__formats_by_their_names(given: list[str], formats: tuple[str, ...]) -> None:
    arguments = [word for name in given for word in ("--format", name)]
    assert IngestSettings.parse([*INGEST, *arguments]).formats == formats


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"unit_ecgs": 0}, "--unit-ecgs is 0, expected 1 or more"),
        ({"threads": 0}, "--threads is 0, expected 1 or more"),
        ({"max_rejected_share": -0.01}, "--max-rejected-share is -0.01, expected 0 to 1"),
        ({"max_rejected_share": 1.01}, "--max-rejected-share is 1.01, expected 0 to 1"),
        ({"max_rejected_share": float("nan")}, "--max-rejected-share is nan, expected 0 to 1"),
        ({"shard": (0, 1)}, "--shard is 0/1, expected i/n with 1 <= i <= n"),
        ({"shard": (3, 2)}, "--shard is 3/2, expected i/n with 1 <= i <= n"),
        ({"shard": (1, 0)}, "--shard is 1/0, expected i/n with 1 <= i <= n"),
    ],
)
def test_run_options__value_outside_its_range_is_refused(changes: dict[str, Any], match: str) -> None:
    for kind in (RunSettings, IngestSettings, ScoreSettings):
        with pytest.raises(UsageError, match=re.escape(match)):
            kind(**NAMED, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"unit_ecgs": 1},
        {"threads": 1},
        {"max_rejected_share": 0.0},
        {"max_rejected_share": 1.0},
        {"shard": (1, 1)},
        {"shard": (2, 2)},
    ],
)
def test_run_options__value_at_its_limit_is_accepted(changes: dict[str, Any]) -> None:
    options = RunSettings(**NAMED, **changes)
    assert all(getattr(options, name) == value for name, value in changes.items())


def test_run_options__overwrite_is_for_a_run_in_one_shard() -> None:
    assert RunSettings(**NAMED, overwrite=True, shard=(1, 1)).overwrite
    with pytest.raises(UsageError, match="--overwrite with --shard would remove what other shards"):
        RunSettings(**NAMED, overwrite=True, shard=(1, 2))


def test_score_options__batch_is_one_or_more() -> None:
    assert ScoreSettings(**NAMED, batch=1).batch == 1
    with pytest.raises(UsageError, match="--batch is 0, expected 1 or more"):
        ScoreSettings(**NAMED, batch=0)


@pytest.mark.parametrize(("text", "shard"), [("1/1", (1, 1)), ("3/100", (3, 100))])
def test_parse_shard__two_whole_numbers(text: str, shard: tuple[int, int]) -> None:
    assert parse_shard(text) == shard


@pytest.mark.parametrize("text", ["", "1", "1/", "/2", "a/2", "1.0/2", "-1/2", "1/2/3", "1 of 2"])
def test_parse_shard__anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--shard is .*, expected i/n, for example 3/100"):
        parse_shard(text)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--model", "m"],
        [*SCORE, "--batch", "x"],
        [*SCORE, "--bsa", "haycock"],
        [*SCORE, "--lvh-preset", "echo"],
        [*SCORE, "--input-convention", "microvolts"],
        [*SCORE, "--runner", "DirectRunner"],
        [*SCORE, "--no-such-option"],
        [*SCORE, "--input"],
    ],
)
def test_parse_score__wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        ScoreSettings.parse(arguments)
    assert leaving.value.code == 2
    assert "usage: lvm-ai score" in capsys.readouterr().err


def test_storage_of__later_part_may_hold_an_equals_sign() -> None:
    storage = storage_of(["s3.endpoint_override=host:1?a=b", "gs.anonymous=true"])
    assert storage.options == (("s3.endpoint_override", "host:1?a=b"), ("gs.anonymous", "true"))


def test_storage_of__without_equals_sign_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--storage-option 's3\.region' is not KEY=VALUE"):
        storage_of(["s3.region"])


@pytest.mark.parametrize(
    "parse", [lambda a: ScoreSettings.parse(SCORE + a), lambda a: IngestSettings.parse(INGEST + a)]
)
def test_parse__interpolate_missing_is_off_unless_asked_for(parse: Any) -> None:
    assert parse([]).interpolate_missing_samples == 0
    assert parse(["--interpolate-missing", "50"]).interpolate_missing_samples == 50
    for wrong in ("-1", "51"):
        with pytest.raises(UsageError, match=f"--interpolate-missing is {wrong}, expected 0 to 50"):
            parse(["--interpolate-missing", wrong])


# Declarations: what moves a number is in the plan, and nothing else is

RECALIBRATION = Recalibration(
    model_id="m",
    model_sha256="ab",
    input_convention="ukb_counts",
    by_sex=False,
    alpha=0.1,
    slope={"all": 1.1},
    intercept_g={"all": -3.0},
    half_width_g={"female": 40.0, "male": 50.0},
    lvh_slope=None,
    lvh_intercept=None,
    bsa="dubois",
    lvh_preset="khurshid2021",
)
SIGNAL = {"columns": {lead: lead for lead in LEADS_12}, "unit": "uV", "sampling_rate_hz": 500}
# Another value than the default of every field: a field that is added needs one here.
OTHER: dict[str, Any] = {
    "inputs": ("elsewhere",),
    "storage": Storage((("s3.region", "eu-west-1"),)),
    "id_rule": IdRule("ukb-20205"),
    "id_from_header": True,
    "index": ("records.csv",),
    "index_layout": "ptb-xl",
    "index_sha256": "ab",
    "pseudonym_key": "study.key",
    "pseudonym_key_id": "ab",
    "interpolate_missing_samples": 5,
    "measure": Measure.NEVER,
    "signal_flags": SignalFlags.ALL,
    "reject_flags": ("saturated",),
    "unit_ecgs": 7,
    "allow_empty": True,
    "expect_ecgs": 7,
    "expect_files": "files.txt",
    "accept_unread_archives": True,
    "output": "elsewhere",
    "exclude": "people.csv",
    "shard": (2, 3),
    "threads": 3,
    "processes": 2,
    "runner": "flink",
    "start_timeout_s": 60.0,
    "worker_command": "/opt/lvm/bin/lvm-beam-boot",
    "worker_processes": 4,
    "job_endpoint": "localhost:8099",
    "flink_master": "localhost:8081",
    "flink_job_server_jar": "job-server.jar",
    "spark_master": "spark://localhost:7077",
    "spark_job_server_jar": "job_server.jar",
    "beam_options": ("--parallelism=4",),
    "project": "my-project",
    "region": "us-central1",
    "staging": "gs://bucket/staging",
    "image": "host/project/lvm-ai:1",
    "workers": 3,
    "max_workers": 9,
    "machine_type": "n2-standard-8",
    "no_wait": True,
    "gpu": "l4",
    "cheap": True,
    "disk_gb": 50,
    "service_account": "me@my-project.iam.gserviceaccount.com",
    "subnetwork": "regions/us-central1/subnetworks/mine",
    "public_ips": True,
    "labels": ("team=ecg",),
    "prices": Path("prices.yaml"),
    "max_rejected_share": 0.5,
    "dry_run": True,
    "plan_only": True,
    "reuse_plan": True,
    "overwrite": True,
    "share": Share.GROUP,
    "formats": ("wfdb",),
    "model": "another",
    "fallback_model": "another",
    "model_dir": Path("models"),
    "models": ({"model_id": "another", "sha256": "ab"},),
    "input_convention": InputConvention.MICROVOLTS_OVER_2000,
    "engine": EngineName.TENSORFLOW,
    "engine_note": "the graph differs",
    "device": Device.GPU,
    "precision": Precision.MIXED,
    "batch": 32,
    "participants": "people.csv",
    "participants_layout": "ukb",
    "participants_sha256": "ab",
    "accept_people": True,
    "bsa": Bsa.MOSTELLER,
    "lvh_preset": LvhPreset.PETERSEN2017,
    "recalibration": "recalibration.json",
    "recalibration_content": RECALIBRATION,
    "layout": "layout.yaml",
    "layout_content": Layout.model_validate({"ecg_id": "key", "signal": SIGNAL}),
    "accept_scale": True,
}
EVERY_FIELD = [(kind, name) for kind in (ScoreSettings, IngestSettings) for name in declared_fields(kind)]


def _fingerprint(settings: RunSettings) -> str:
    return Plan(settings.kind, settings.planned(), ()).settings_sha256


@pytest.mark.parametrize(("kind", "name"), EVERY_FIELD)
def test_every_field__is_in_the_fingerprint_if_and_only_if_it_moves_a_number(
    kind: type[RunSettings], name: str
) -> None:
    settings = kind(**NAMED)
    other = replace(settings, **{name: OTHER[name]})
    assert getattr(other, name) != getattr(settings, name)
    moves = declared_fields(kind)[name].moves
    assert (_fingerprint(other) != _fingerprint(settings)) == (moves is True)
    if isinstance(moves, str):
        assert declared_fields(kind)[moves].moves is True


@pytest.mark.parametrize(("kind", "name"), EVERY_FIELD)
def test_every_field__comes_back_from_the_plan_if_it_moves_a_number(kind: type[RunSettings], name: str) -> None:
    other = replace(kind(**NAMED), **{name: OTHER[name]})
    planned = json.loads(json.dumps(other.planned()))
    again = kind.from_plan(planned, **NAMED)
    assert again.planned() == planned
    if declared_fields(kind)[name].moves is True:
        assert getattr(again, name) == OTHER[name]
    else:
        assert replace(again, **NAMED) == kind(**NAMED)


def test_plan__of_earlier_versions_has_the_same_settings_and_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Written out from a run of `RESULTS_VERSION` 3: a new option keeps out of the plan."""
    monkeypatch.setattr(plan, "RESULTS_VERSION", 3)
    scored = {
        "batch": 16,
        "bsa": "dubois",
        "device": "cpu",
        "engine": "spectral",
        "id_from_header": False,
        "id_pattern": None,
        "input_convention": "ukb_counts",
        "interpolate_missing_samples": 0,
        "layout": None,
        "lvh_preset": "khurshid2021",
        "models": [
            {"model_id": "demo-synthetic", "sha256": "2b1c8cbbf123126ccf63b952157c48a1ca2cbe80ee43c4161852a8340dcc9656"}
        ],
        "participants_sha256": "2eb3fece6f59cd1e1f9283ea0a70964597ead964c39e749d135bb5565873c289",
        "precision": "float32",
        "unit_ecgs": 1024,
    }
    ingested = {
        "formats": [],
        "id_from_header": False,
        "id_pattern": None,
        "interpolate_missing_samples": 0,
        "unit_ecgs": 1024,
    }
    score = ScoreSettings.from_plan(scored, **NAMED)
    ingest = IngestSettings.from_plan(ingested, **NAMED)
    assert (score.planned(), ingest.planned()) == (scored, ingested)
    assert _fingerprint(score) == "c4a34abd7260e4a3ff9acefa48158fa1e8d41e3c530d70148f6def4f54038252"
    assert _fingerprint(ingest) == "2c99142f339f2aa94c47821f236a73fcd253b8f1b25efd3352dac57a2cb96598"


def test_field__without_a_statement_about_numbers_cannot_be_defined() -> None:
    with pytest.raises(TypeError, match="moves"):
        option("--new", "", "an option")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"New\.x does not state whether it can move a number"):

        class New(RunSettings):
            x: int = 0

    with pytest.raises(TypeError, match=r"Bare\.x does not state"):

        class Bare(RunSettings):
            x: int

    with pytest.raises(TypeError, match=r"Lost\.x leads to content, which is no field that moves a number"):

        class Lost(RunSettings):
            x: str = option("--x", "", moves="content", default="")
            content: str = resolved(moves=False, default="")


def test_new_option__that_is_not_given_leaves_earlier_runs_resumable() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Later(ScoreSettings):
        shift: int = option("--shift", "", "moves", moves=True, default=0, at_default=False)

    assert _fingerprint(Later(**NAMED)) == _fingerprint(ScoreSettings(**NAMED))
    assert _fingerprint(Later(**NAMED, shift=1)) != _fingerprint(ScoreSettings(**NAMED))
    assert Later.parse([*SCORE, "--shift", "2"]).shift == "2"


def test_as_given__is_json_of_the_options_alone() -> None:
    settings = ScoreSettings(
        inputs=("in", "more"),
        output="out",
        model="m",
        model_dir=Path("models"),
        shard=(2, 3),
        storage=Storage((("s3.region", "eu-west-1"),)),
        id_rule=IdRule("ukb-20205"),
        exclude="w",
    )
    found = json.loads(json.dumps(settings.as_given()))
    assert found["inputs"] == ["in", "more"]
    assert found["id_rule"] == "ukb-20205"
    assert found["storage"] == {"s3.region": "eu-west-1"}
    assert found["model_dir"] == "models"
    assert found["input_convention"] == "ukb_counts"
    assert found["participants"] is None
    assert found["max_rejected_share"] == 0.05
    assert found["overwrite"] is False
    assert "models" not in found
    assert IngestSettings(**NAMED, formats=("muse_xml",)).as_given()["formats"] == ["muse_xml"]
