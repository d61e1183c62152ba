"""The command line: help, exit codes, and what it must not import."""

import contextlib
import io
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import lvm_ai
from analysis import analyse
from tests.beam_jobs.job_helpers import people, people_table, write_cohort, write_csv, write_parquet

REPOSITORY = Path(__file__).resolve().parents[1]

RUNNER_OPTIONS = [
    *["--runner", "--start-timeout", "--worker-command", "--worker-processes", "--job-endpoint", "--"],
    *["--flink-master", "--flink-job-server-jar", "--spark-master", "--spark-job-server-jar"],
    *["--project", "--region", "--staging", "--image", "--workers", "--max-workers", "--machine-type", "--no-wait"],
    *["--gpu", "--cheap", "--disk-gb", "--service-account", "--subnetwork", "--public-ips", "--label", "--prices"],
]
RUN_OPTIONS = [
    "--input",
    "--output",
    "--storage-option",
    "--id-pattern",
    "--id-from-header",
    "--index",
    "--index-layout",
    "--pseudonym-key",
    "--interpolate-missing",
    "--signal-flags",
    "--reject-flags",
    "--exclude-participants",
    "--unit-ecgs",
    "--shard",
    "--threads",
    *RUNNER_OPTIONS,
    "--max-rejected-share",
    "--allow-empty",
    "--expect-ecgs",
    "--expect-files",
    "--accept-unread-archives",
    "--dry-run",
    "--plan-only",
    "--reuse-plan",
    "--overwrite",
    "--processes",
    "--share",
    "--help",
]
# Written out from the design, not taken from the parsers.
OPTIONS = {
    "score": [
        *RUN_OPTIONS,
        "--layout",
        "--measure",
        "--participants",
        "--participants-layout",
        "--accept-people",
        "--model",
        "--fallback-model",
        "--batch",
        "--engine",
        "--device",
        "--precision",
        "--accept-scale",
        "--input-convention",
        "--bsa",
        "--lvh-preset",
        "--recalibration",
    ],
    "ingest": [*RUN_OPTIONS, "--format", "--layout", "--measure"],
    "finish": ["--max-rejected-share", "--accept-scale", "--share", "--storage-option", "--help"],
    "status": ["--json", "--storage-option", "--help"],
    "verify": ["--input", "--model", "--pseudonym-key", "--no-sample", "--storage-option", "--help"],
    "withdraw": ["--participants", "--not-found-list", "--pseudonym-key", "--storage-option", "--share", "--help"],
    "scale-check": ["--input", "--layout", "--storage-option", "--help"],
    "demo": ["--ecgs", "--people", "--overwrite", "--share", "--help"],
    "models": ["--help"],
    "simulate": [
        "--participants",
        "--seed",
        "--output",
        "--parquet",
        "--formats",
        "--no-ecgs",
        "--drawn-correlation",
        "--other-records",
        "--shape",
        "--threads",
        "--overwrite",
        "--share",
        "--help",
    ],
    "train": ["--config", "--share", "--help"],
    "meta": ["--output", "--step", "--model", "--accept-models", "--overwrite", "--share", "--help"],
    "phenotype": [
        *["--for", "--output", "--traits", "--covariates", "--more-covariates", "--rint", "--identifiers", "--fid"],
        *["--sex", "--where", "--keep", "--relatives", "--least-kinship", "--first-id", "--overwrite", "--share"],
        "--help",
    ],
    "recalibrate": [
        "--predictions",
        "--cmr",
        "--output",
        "--max-days",
        "--by-sex",
        "--overall",
        "--alpha",
        "--figure",
        "--overwrite",
        "--share",
        "--help",
    ],
    "analyse": ["--check", "--output", "--overwrite", "--journal", "--share", "--help"],
    "release-check": ["--k", "--json", "--help"],
    "query": ["--run", "--rows", "--output", "--overwrite", "--share", "--help"],
    "plot-ecg": [
        "--input",
        "--storage-option",
        "--layout",
        "--id-pattern",
        "--output",
        "--ecg-id",
        "--grid",
        "--source",
        "--pseudonym-key",
        "--note",
        "--overwrite",
        "--share",
        "--help",
    ],
    "explain": [
        "--ecg-id",
        "--sample",
        "--seed",
        "--input",
        "--participants",
        "--participants-layout",
        "--accept-people",
        "--model",
        "--model-dir",
        "--output",
        "--method",
        "--steps",
        "--input-convention",
        "--layout",
        "--id-pattern",
        "--storage-option",
        "--share",
        "--help",
    ],
}
CHOICES = {
    "score": [
        "ukb_counts",
        "microvolts_over_2000",
        "dubois",
        "mosteller",
        "khurshid2021",
        "petersen2017",
        "local",
        "ukb-20205",
        "auto",
        "tensorflow",
        "spectral",
        "cpu",
        "gpu",
        "float32",
        "mixed",
    ],
    "ingest": ["auto", "cardiosoft", "muse", "wfdb", "local", "ukb-20205"],
}


def lvm(*argv: object) -> int:
    return lvm_ai.main([str(argument) for argument in argv])


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    try:
        code = lvm(command, "--help")
    except SystemExit as ended:
        code = int(ended.code or 0)
    assert code == 0
    return capsys.readouterr().out


def test_help__lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert lvm("--help") == 0
    out = capsys.readouterr().out
    assert set(OPTIONS) == set(lvm_ai.COMMANDS)
    for command in OPTIONS:
        assert f"\n  {command} " in out
    assert "not for clinical use" in out


@pytest.mark.parametrize("command", OPTIONS)
def test_help_of_a_command__lists_every_option_and_no_other(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = help_of(command, capsys).replace(",", " ").replace("[", " ").replace("]", " ").split()
    listed = {word.rstrip(".:;)") for word in words if word.startswith("--")}
    # The options of `demo` and `models` belong to other tests; here they must be there.
    expected = set(OPTIONS[command]) | ({"--model-dir"} if command == "score" else set())
    assert expected <= listed
    if command in ("score", "ingest"):
        assert listed <= expected


@pytest.mark.parametrize("command", CHOICES)
def test_help_of_a_command__names_every_choice(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(command, capsys)
    assert [choice for choice in CHOICES[command] if choice not in text] == []


@pytest.mark.parametrize("command", ["score", "ingest"])
def test_help_of_a_command__tells_exit_codes_and_clinical_use(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(help_of(command, capsys).split())
    assert "0 done, 1 failed or too many rejects, 2 wrong usage" in text
    assert "not for clinical use" in text


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "usage: lvm-ai"),
        (["scroe"], "'scroe' is not a command of lvm-ai (did you mean score?)"),
        (["analyze"], "(did you mean analyse?)"),
        (["xyzzy"], "'xyzzy' is not a command of lvm-ai\n"),
        (["score", "--input", "x", "--output", "y", "--model", "demo-synthetic-ecg-only"], "'x'"),
        (["score", "--input", "x", "--output", "y", "--model", "m", "--shard", "4/3"], "--shard is 4/3"),
        (["score", "--input", "x", "--output", "y", "--model", "m", "--shard", "0/3"], "--shard is 0/3"),
        (["score", "--input", "x", "--output", "y", "--model", "m", "--shard", "one"], "--shard is 'one'"),
        (["score", "--input", "x", "--output", "y", "--model", "m", "--batch", "0"], "--batch is 0"),
        (["score", "--input", "x", "--output", "y", "--model", "m", "--unit-ecgs", "0"], "--unit-ecgs is 0"),
        (
            ["score", "--input", "x", "--output", "y", "--model", "m", "--max-rejected-share", "5"],
            "--max-rejected-share is 5.0",
        ),
        (["ingest", "--input", "ftp://h/x", "--output", "y"], "ftp://"),
        (["ingest", "--input", "x", "--output", "y", "--storage-option", "a"], "KEY=VALUE"),
        (["ingest", "--input", "x", "--output", "y", "--storage-option", "a=b"], "is not known"),
        (["ingest", "--input", "x", "--output", "y", "--id-pattern", "("], "regular expression"),
        (["status", "y"], "is no run folder"),
    ],
)
def test_wrong_usage__is_2_with_a_message_and_no_traceback(
    argv: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert lvm(*argv) == 2
    shown = capsys.readouterr()
    assert said in shown.out + shown.err
    assert "Traceback" not in shown.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "argv",
    [
        ["score"],
        ["score", "--input", "x", "--output", "y"],
        ["score", "--input", "x", "--output", "y", "--model", "m", "--bsa", "gehan"],
        ["score", "--input", "x", "--output", "y", "--model", "m", "--nonsense"],
        ["ingest", "--input", "x", "--output", "y", "--runner", "dask"],
        ["ingest", "--input", "x", "--output", "y", "--format", "scp2"],
        ["withdraw", "y"],
    ],
)
def test_wrong_options__are_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        lvm(*argv)
    assert ended.value.code == 2
    assert "usage: lvm-ai" in capsys.readouterr().err


COMMANDS = [*([name] for name in lvm_ai.COMMANDS), ["models", "show"], ["models", "convert"]]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_misspelt_option__is_named_with_the_nearest_before_anything_is_required(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    option = {
        "verify": "--input",
        "status": "--json",
        "withdraw": "--participants",
        "scale-check": "--input",
        "release-check": "--json",
        "train": "--config",
        "demo": "--overwrite",
        "finish": "--max-rejected-share",
        "models": "--help",
    }.get(command[0], "--output")
    if command == ["models", "show"]:
        option = "--model-dir"
    elif command == ["models", "convert"]:
        option = "--output"
    wrong = f"{option[:-2]}{option[-1]}{option[-2]}"
    with contextlib.suppress(SystemExit):
        assert lvm(*command, wrong, "x") == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert f"{wrong} is not an option of lvm-ai" in line
    assert f"(did you mean {option}?)" in line


def test_short_form_of_an_option__is_refused_with_the_whole_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        lvm("score", "--exclude=withdrawn.csv")
    assert "--exclude is not an option of lvm-ai score (did you mean --exclude-p" in (capsys.readouterr().err)


def test_unknown_model__is_2_and_names_the_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["score", "--input", tmp_path, "--output", tmp_path / "out", "--model", "lvm-ia"]
    assert lvm(*argv) == 2
    message = capsys.readouterr().err
    assert "lvm-ia" in message
    assert "demo-synthetic-ecg-only" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["participants", "layout", "exclude-participants"])
def test_file_that_is_not_there__is_a_clear_stop(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_parquet(tmp_path / "in" / "a.parquet", people_table(people(4)))
    argv = ["score", "--input", tmp_path / "in", "--output", tmp_path / "out", "--model"]
    argv += ["demo-synthetic-ecg-only", f"--{name}", tmp_path / "nothing.csv"]
    assert lvm(*argv) in (1, 2)
    shown = capsys.readouterr()
    assert "nothing.csv: no such file" in shown.err
    assert not (tmp_path / "out").exists()


def test_parquet_of_something_else__is_2_and_names_the_layout_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = people_table(people(4)).drop_columns(["V3"])
    write_parquet(tmp_path / "in" / "a.parquet", table)
    argv = ["score", "--input", tmp_path / "in", "--output", tmp_path / "out"]
    assert lvm(*argv, "--model", "demo-synthetic-ecg-only") == 2
    message = capsys.readouterr().err
    assert "V3" in message
    assert "--layout" in message


def _python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


HEAVY = ("tensorflow", "keras", "apache_beam", "pyarrow", "numpy", "pandas", "scipy")


def test_help__imports_nothing_heavy() -> None:
    code = (
        "import json, sys, lvm_ai; lvm_ai.main(['--help']); "
        f"print(json.dumps([n for n in {HEAVY!r} if n in sys.modules]))"
    )
    assert json.loads(_python(code).splitlines()[-1]) == []


@pytest.mark.parametrize("command", ["score", "models"])
def test_help_of_a_command__does_not_import_tensorflow(command: str) -> None:
    code = (
        "import sys, lvm_ai\n"
        f"try: lvm_ai.main(['{command}', '--help'])\n"
        "except SystemExit: pass\n"
        "print('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert _python(code).splitlines()[-1] == "False"


def test_help__takes_under_300_ms() -> None:
    program = Path(sys.executable).parent / "lvm-ai"
    if not program.exists():
        pytest.skip(f"lvm-ai is not installed beside {sys.executable}")
    seconds = []
    for _ in range(5):
        started_s = time.perf_counter()
        subprocess.run([program, "--help"], capture_output=True, timeout=60, check=True)
        seconds.append(time.perf_counter() - started_s)
    assert statistics.median(seconds) < 0.3


@pytest.mark.parametrize("job", ["score", "ingest", "status", "verify", "withdraw", "scale"])
def test_job__also_runs_as_a_module(job: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"beam_jobs.{job}", "--help"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert f"usage: lvm-ai {job}" in done.stdout


def test_program__returns_the_exit_code(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lvm_ai", "status", str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


LAYOUT = """\
ecg_id: e
signal:
  column: s
  order: lead_major
  leads: [I, II, V1, V2, V3, V4, V5, V6]
"""
WRONG_YAML = {
    "nested": ("signal: " + "[" * 20_000, "line 1: more than 20 levels"),
    "twice": ("name: a\nname: b\n", "line 2: name is there already, in line 1"),
    "infinite": (LAYOUT + "  sampling_rate_hz: .inf\n", "line 6: .inf is not a finite number"),
    "laughs": ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "line 1: anchors"),
    "large": ("# x\n" * 100_000, "has 400,000 bytes, expected"),
}
TAKES_YAML = {
    "score": ["--input", "x", "--output", "y", "--model", "demo-synthetic-ecg-only", "--layout"],
    "scale-check": ["--input", "x", "--layout"],
    "plot-ecg": ["--input", "x", "--output", "y.pdf", "--layout"],
    "explain": ["--input", "x", "--output", "y", "--model", "demo-synthetic-ecg-only", "--sample", "1", "--layout"],
    "train": ["--config"],
    "analyse": ["--check"],
}


@pytest.mark.parametrize("command", TAKES_YAML)
@pytest.mark.parametrize("name", WRONG_YAML)
def test_settings_file__that_cannot_be_meant_is_2_with_its_line(
    name: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, said = WRONG_YAML[name]
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    assert lvm(command, *TAKES_YAML[command], path) == 2
    assert said in capsys.readouterr().err


def test_demo__finds_its_folder_behind_its_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Sequence[str]] = []
    monkeypatch.setattr("analysis.analyse.main", lambda argv: given.append(argv) or 0)
    assert analyse.demo(["--ecgs", "9", "--people", "2000", "--overwrite", str(tmp_path)]) == 0
    assert given == [[f"{tmp_path}/study.yaml", "--output", f"{tmp_path}/study", "--overwrite"]]


def _under(limits: str, *argv: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a shell that sets limits first."""
    command = shlex.join([sys.executable, "-m", *map(str, argv)])
    return subprocess.run(
        ["bash", "-c", f"{limits}; exec {command}"],
        cwd=REPOSITORY,
        capture_output=True,
        timeout=120,
        check=False,
        encoding="utf-8",
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("limits", "command", "said"),
    [
        ("ulimit -v 300000", "score", "0.70 GB are needed at least, and the limit of the address"),
        ("ulimit -v 300000", "analyse", "space (ulimit -v 300000) is 0.31 GB, of which"),
        ("ulimit -d 200000", "status", "0.30 GB are needed at least, and the limit of the data"),
    ],
)
def test_limit_of_memory__is_seen_before_libraries_abort(limits: str, command: str, said: str) -> None:
    done = _under(limits, "lvm_ai", command, "x")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert said in line


@pytest.mark.tf
def test_limit_of_memory__is_seen_before_tensorflow_starts(tmp_path: Path) -> None:
    write_parquet(tmp_path / "in" / "a.parquet", people_table(people(4)))
    argv = ["score", "--input", tmp_path / "in", "--output", tmp_path / "out", "--model"]
    done = _under("ulimit -v 1500000", "lvm_ai", *argv, "demo-synthetic-ecg-only", HOME=str(tmp_path))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        "error: TensorFlow needs 1.7 GB more, and the limit of the address space"
    )


@pytest.fixture(scope="module")
def scoring_without_tensorflow(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return a score command whose model was compared with TensorFlow's before, and its HOME."""
    folder = tmp_path_factory.mktemp("limits")
    made = write_cohort(folder / "in", 64)
    table = write_csv(
        folder / "p.csv",
        [{"participant_id": p, "age_years": 60, "sex": "male", "bmi_kg_m2": 25} for p in made.participant_id],
    )
    argv = [
        "score",
        "--input",
        str(folder / "in"),
        "--participants",
        str(table),
        "--model",
        "demo-synthetic",
        "--engine",
        "spectral",
    ]
    first = [*argv, "--output", str(folder / "first")]
    assert _under("true", "lvm_ai", *first, HOME=str(folder)).returncode == 0
    return [str(folder), *argv]


@pytest.mark.tf
@pytest.mark.parametrize("limit_kb", [1_250_000, 1_400_000, 1_450_000, 1_550_000, 1_700_000])
def test_limit_of_memory__scoring_ends_well_or_is_refused(
    tmp_path: Path, scoring_without_tensorflow: list[str], limit_kb: int
) -> None:
    home, *argv = scoring_without_tensorflow
    output = ["--output", str(tmp_path / "out")]
    done = _under(f"ulimit -v {limit_kb}", "lvm_ai", *argv, *output, HOME=home)
    if done.returncode == 0:
        assert "64 ECGs read = 64 predicted + 0 rejected" in done.stderr
    else:
        assert done.returncode == 1
        last = done.stderr.splitlines()[-1]
        assert re.match(r"error: 1\.\d\d GB are needed for 1 thread, and the limit", last)


def test_limit_of_memory__commands_that_fit_run_under_it(tmp_path: Path) -> None:
    done = _under("ulimit -v 800000", "lvm_ai", "status", tmp_path / "none")
    assert done.returncode == 2
    assert "is no run folder" in done.stderr


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("module", ["lvm_ai status", "beam_jobs.status", "lvm_ai models show"])
def test_ascii_locale__names_with_other_letters_are_shown(module: str, tmp_path: Path) -> None:
    done = _under("true", *module.split(), tmp_path / "gr\u00f6\u00dfe", **ASCII)
    assert done.returncode in (1, 2)
    assert "gr\u00f6\u00dfe" in done.stderr
    assert "Traceback" not in done.stderr


def test_ascii_locale__files_with_other_letters_are_read_and_written(tmp_path: Path) -> None:
    output = tmp_path / "gr\u00f6\u00dfe"
    done = _under(
        "true",
        "lvm_ai",
        "simulate",
        "--participants",
        2,
        "--seed",
        1,
        "--parquet",
        "--output",
        output,
        "--threads",
        1,
        **ASCII,
    )
    assert done.returncode == 0, done.stderr
    assert (output / "participants.csv").is_file()
    done = _under("true", "lvm_ai", "scale-check", "--input", output / "ecg", **ASCII)
    assert done.returncode == 0, done.stderr


def test_output__character_that_the_terminal_lacks_is_written_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", terminal)
    assert lvm_ai.main(["--help"]) == 0
    terminal.write("gr\u00f6\u00dfe \udcfc")
    terminal.flush()
    assert terminal.buffer.getvalue().endswith(rb"gr\xf6\xdfe \udcfc")  # type: ignore[attr-defined]
