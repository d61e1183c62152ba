"""The command line: help, exit codes, and what it must not import."""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

import lvm_ai
from tests.beam_jobs.job_helpers import people, people_table, write_parquet

REPOSITORY = Path(__file__).resolve().parents[1]

RUN_OPTIONS = [
    "--input", "--output", "--storage-option", "--id-pattern", "--id-from-header",
    "--exclude-participants", "--unit-ecgs", "--shard", "--threads", "--runner",
    "--max-rejected-share", "--dry-run", "--overwrite", "--processes", "--share", "--help",
]  # fmt: skip
# Written out from the design, not taken from the parsers.
OPTIONS = {
    "score": [
        *RUN_OPTIONS, "--layout", "--participants", "--model", "--fallback-model", "--batch",
        "--engine", "--device", "--precision", "--accept-scale", "--input-convention", "--bsa",
        "--lvh-preset", "--recalibration",
    ],
    "ingest": [*RUN_OPTIONS, "--format"],
    "status": ["--json", "--storage-option", "--help"],
    "verify": ["--input", "--model", "--no-sample", "--storage-option", "--help"],
    "withdraw": ["--participants", "--storage-option", "--share", "--help"],
    "scale-check": ["--input", "--layout", "--storage-option", "--help"],
    "demo": ["--ecgs", "--people", "--overwrite", "--share", "--help"],
    "models": ["--help"],
    "simulate": [
        "--participants", "--seed", "--output", "--parquet", "--formats", "--no-ecgs",
        "--drawn-correlation", "--other-records", "--threads", "--overwrite", "--share", "--help",
    ],
    "train": ["--config", "--share", "--help"],
    "recalibrate": [
        "--predictions", "--cmr", "--output", "--max-days", "--by-sex", "--overall", "--alpha",
        "--figure", "--overwrite", "--share", "--help",
    ],
    "analyse": ["--check", "--output", "--overwrite", "--share", "--help"],
    "query": ["--run", "--rows", "--output", "--overwrite", "--share", "--help"],
    "explain": [
        "--ecg-id", "--sample", "--seed", "--input", "--participants", "--model", "--model-dir",
        "--output", "--method", "--steps", "--input-convention", "--layout", "--id-pattern",
        "--storage-option", "--share", "--help",
    ],
}  # fmt: skip
CHOICES = {
    "score": ["ukb_counts", "microvolts_over_2000", "dubois", "mosteller", "khurshid2021",
              "petersen2017", "local", "ukb-20205", "auto", "tensorflow", "spectral", "cpu", "gpu",
              "float32", "mixed"],
    "ingest": ["auto", "cardiosoft", "muse", "wfdb", "local", "ukb-20205"],
}  # fmt: skip


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
def test_help_of_a_command__lists_every_option_and_no_other(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = help_of(command, capsys).replace(",", " ").replace("[", " ").replace("]", " ").split()
    listed = {word.rstrip(".:;)") for word in words if word.startswith("--")}
    # The options of `demo` and `models` belong to other tests; here they must be there.
    expected = set(OPTIONS[command]) | ({"--model-dir"} if command == "score" else set())
    assert expected <= listed
    if command in ("score", "ingest"):
        assert listed <= expected


@pytest.mark.parametrize("command", CHOICES)
def test_help_of_a_command__names_every_choice(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = help_of(command, capsys)
    assert [choice for choice in CHOICES[command] if choice not in text] == []


@pytest.mark.parametrize("command", ["score", "ingest"])
def test_help_of_a_command__tells_exit_codes_and_clinical_use(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = " ".join(help_of(command, capsys).split())
    assert "0 done, 1 failed or too many rejects, 2 wrong usage" in text
    assert "not for clinical use" in text


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "usage: lvm-ai"),
        (["scroe"], "'scroe' is no command"),
        (["score", "--input", "x", "--output", "y", "--model", "demo-synthetic-ecg-only"], "'x'"),
        (
            ["score", "--input", "x", "--output", "y", "--model", "m", "--shard", "4/3"],
            "--shard is 4/3",
        ),
        (
            ["score", "--input", "x", "--output", "y", "--model", "m", "--shard", "0/3"],
            "--shard is 0/3",
        ),
        (
            ["score", "--input", "x", "--output", "y", "--model", "m", "--shard", "one"],
            "--shard is 'one'",
        ),
        (
            ["score", "--input", "x", "--output", "y", "--model", "m", "--batch", "0"],
            "--batch is 0",
        ),
        (
            ["score", "--input", "x", "--output", "y", "--model", "m", "--unit-ecgs", "0"],
            "--unit-ecgs is 0",
        ),
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
    argv: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
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


def test_unknown_model__is_2_and_names_the_known_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["score", "--input", tmp_path, "--output", tmp_path / "out", "--model", "lvm-ia"]
    assert lvm(*argv) == 2
    message = capsys.readouterr().err
    assert "lvm-ia" in message
    assert "demo-synthetic-ecg-only" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["participants", "layout", "exclude-participants"])
def test_file_that_is_not_there__is_a_clear_stop(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60,
        check=True,
    )  # fmt: skip
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


@pytest.mark.parametrize("job", ["score", "ingest"])
def test_job__also_runs_as_a_module(job: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"beam_jobs.{job}", "--help"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert f"usage: lvm-ai {job}" in done.stdout


def test_program__returns_the_exit_code(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lvm_ai", "status", str(tmp_path)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
