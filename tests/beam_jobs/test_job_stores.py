"""Inputs and outputs on s3:// and gs://, against real servers on loopback."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_jobs.reading import storage
from tests.beam_jobs.job_helpers import (
    CLINICAL_LEADS,
    ECG_ONLY,
    FULL,
    REPOSITORY,
    lvm,
    people,
    result_files,
    score,
    score_argv,
    write_cohort,
    write_participants,
)
from tests.beam_jobs.job_servers import BUCKET, Store, dummy_credentials, gs_store, s3_store
from tests.file_builders import cardiosoft_xml

N_ECGS = 16


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with dummy_credentials(), s3_store(tmp_path_factory.mktemp("s3")) as store:
        yield store


@pytest.fixture(scope="session")
def gs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with dummy_credentials(), gs_store(tmp_path_factory.mktemp("gs")) as store:
        yield store


@pytest.fixture(autouse=True)
def _no_settling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for another process that plans: there is none."""
    monkeypatch.setattr(storage, "SETTLE_S", 0.0)


@pytest.fixture(params=["s3", "gs"])
def store(request: pytest.FixtureRequest) -> Store:
    found: Store = request.getfixturevalue(request.param)
    return found


def results(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return the result and reject files of a run folder on a store."""
    return {k: v for k, v in files.items() if k.split("/")[0] in ("predictions", "ecg", "rejects")}


@pytest.mark.usefixtures("fake")
def test_score_on_a_store__gives_the_bytes_of_a_local_run(store: Store, tmp_path: Path) -> None:
    made = write_cohort(tmp_path / "in", N_ECGS, n_files=2)
    table = write_participants(tmp_path / "people" / "people.csv", made)
    local = tmp_path / "out"
    assert score(tmp_path / "in", local, "--participants", table, model=FULL) == 0
    inputs = store.upload(tmp_path / "in", "bits/in")
    people_uri = store.upload(table.parent, "bits/people") + "/people.csv"
    more = ("--participants", people_uri, *store.options)
    assert score(inputs, store.uri("bits/out"), *more, model=FULL) == 0
    files = store.files("bits/out")
    assert results(files) == result_files(local)
    assert "_SUCCESS" in files
    stated = json.loads(files["run_report.json"])["counts"]
    assert stated == {"read": N_ECGS, "predicted": N_ECGS, "rejected": {}}


@pytest.mark.usefixtures("fake")
def test_score_on_a_store__finished_run_does_nothing_and_is_verified(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cohort(tmp_path / "in", N_ECGS)
    inputs, output = store.upload(tmp_path / "in", "done/in"), store.uri("done/out")
    assert score(inputs, output, *store.options) == 0
    before = store.files("done/out")
    assert score(inputs, output, *store.options) == 0
    assert "finished already" in capsys.readouterr().err
    assert store.files("done/out") == before
    assert lvm("verify", output, *store.options) == 0
    assert lvm("status", output, *store.options) == 0
    assert "finished, 2 of 2 units" in capsys.readouterr().out


@pytest.mark.usefixtures("fake")
def test_score_on_a_store__from_there_to_a_local_folder(store: Store, tmp_path: Path) -> None:
    write_cohort(tmp_path / "in", N_ECGS)
    assert score(tmp_path / "in", tmp_path / "local") == 0
    inputs = store.upload(tmp_path / "in", "half/in")
    assert score(f"{inputs}/*.parquet", tmp_path / "out", *store.options) == 0
    assert result_files(tmp_path / "out") == result_files(tmp_path / "local")


@pytest.mark.usefixtures("fake")
def test_score_on_a_store__shards_give_the_bytes_of_one_run(store: Store, tmp_path: Path) -> None:
    write_cohort(tmp_path / "in", N_ECGS)
    assert score(tmp_path / "in", tmp_path / "local") == 0
    inputs = store.upload(tmp_path / "in", "shards/in")
    for shard in ("2/2", "1/2"):
        more = ("--shard", shard, *store.options)
        assert score(inputs, store.uri("shards/out"), *more) == 0
    files = store.files("shards/out")
    assert results(files) == result_files(tmp_path / "local")
    assert "_SUCCESS" in files


@pytest.mark.usefixtures("fake")
def test_ingest_on_a_store__gives_the_bytes_of_a_local_run(store: Store, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    made = people(6)
    for i, ecg_id in enumerate(made.ecg_id):
        leads = dict(zip(CLINICAL_LEADS, made.counts[i], strict=True))
        (tmp_path / "raw" / f"{ecg_id}.xml").write_bytes(cardiosoft_xml(leads))
    raw = store.upload(tmp_path / "raw", "ingest/raw")
    argv = ["--unit-ecgs", 4]
    assert lvm("ingest", "--input", tmp_path / "raw", "--output", tmp_path / "ecg", *argv) == 0
    output = store.uri("ingest/ecg")
    assert lvm("ingest", "--input", raw, "--output", output, *argv, *store.options) == 0
    assert results(store.files("ingest/ecg")) == result_files(tmp_path / "ecg")
    assert score(output, tmp_path / "out", *store.options) == 0


@pytest.mark.usefixtures("fake")
def test_withdraw_on_a_store__person_is_nowhere(store: Store, tmp_path: Path) -> None:
    made = write_cohort(tmp_path / "in", N_ECGS)
    inputs, output = store.upload(tmp_path / "in", "gone/in"), store.uri("gone/out")
    assert score(inputs, output, *store.options) == 0
    (tmp_path / "gone.txt").write_text(made.participant_id[3])
    argv = ["withdraw", output, "--participants", tmp_path / "gone.txt", *store.options]
    assert lvm(*argv) == 0
    for name, data in store.files("gone/out").items():
        assert made.participant_id[3].encode() not in data, name
        assert made.ecg_id[3].encode() not in data, name
    assert lvm("verify", output, *store.options) == 0


@pytest.mark.usefixtures("fake")
def test_overwrite_on_a_store__leaves_nothing_old(store: Store, tmp_path: Path) -> None:
    write_cohort(tmp_path / "in", N_ECGS)
    inputs, output = store.upload(tmp_path / "in", "anew/in"), store.uri("anew/out")
    assert score(inputs, output, *store.options) == 0
    old = set(results(store.files("anew/out")))
    assert score(inputs, output, *store.options, "--unit-ecgs", 5, "--overwrite") == 0
    assert not old & set(results(store.files("anew/out")))


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("missing", ["nothing-here", "nothing-here/*.parquet"])
def test_input_on_a_store__that_is_not_there_is_wrong_usage(
    missing: str, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(store.uri(missing), tmp_path / "out", *store.options) == 2
    assert missing.split("/")[0] in capsys.readouterr().err


@pytest.mark.usefixtures("fake")
def test_kill_on_s3__same_command_does_the_rest_with_the_same_bytes(s3: Store, tmp_path: Path) -> None:
    write_cohort(tmp_path / "in", N_ECGS)
    assert score(tmp_path / "in", tmp_path / "local") == 0
    inputs, output = s3.upload(tmp_path / "in", "kill/in"), s3.uri("kill/out")
    argv = score_argv(inputs, output, *s3.options)
    # Writes: plan, unit 0, and killed instead of unit 1. Its own process: S3 does not like forks.
    runner = [sys.executable, "-m", "tests.beam_jobs.job_runner", "--kill-at-write", "3", "--"]
    killed = subprocess.run([*runner, *argv], cwd=REPOSITORY, timeout=120, check=False)
    assert killed.returncode == -9
    done = results(s3.files("kill/out"))
    assert len(done) == 1
    assert lvm(*argv) == 0
    assert results(s3.files("kill/out")) == result_files(tmp_path / "local")
    assert "_SUCCESS" in s3.files("kill/out")


@pytest.mark.tf
@pytest.mark.slow
def test_real_model_on_stores__gives_the_bits_of_a_local_run(s3: Store, gs: Store, tmp_path: Path) -> None:
    write_cohort(tmp_path / "in", N_ECGS)
    command = [sys.executable, "-m", "lvm_ai"]

    def run(inputs: object, output: object, *options: str) -> None:
        argv = score_argv(inputs, output, *options, model=ECG_ONLY)
        subprocess.run([*command, *argv], cwd=REPOSITORY, timeout=300, check=True)

    run(tmp_path / "in", tmp_path / "out")
    for store in (s3, gs):
        inputs = store.upload(tmp_path / "in", "real/in")
        run(inputs, store.uri("real/out"), *store.options)
        assert results(store.files("real/out")) == result_files(tmp_path / "out")
    assert BUCKET in s3.uri("real")
