"""Jobs on s3:// and gs:// while requests fail: the same bytes, or a clear stop and the rest later.

Real clients and real servers on loopback, with a proxy between them that injects the faults.
"""

import json
import random
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import pytest

from beam_jobs.reading import storage, store_clients
from beam_jobs.reading.storage import Storage, StorageFault
from beam_jobs.run.folder import RunFolder
from beam_jobs.run.plan import Plan
from beam_jobs.run.settings import storage_of
from lvm_core.errors import LvmError
from tests.beam_jobs.fault_proxy import FaultProxy, Rule, proxy_command
from tests.beam_jobs.job_helpers import (
    CLINICAL_LEADS,
    lvm,
    people,
    result_files,
    score,
    write_cohort,
    write_participants,
)
from tests.beam_jobs.job_servers import Store, dummy_credentials, free_port, gs_store, s3_store, server
from tests.file_builders import cardiosoft_xml

N_ECGS = 24
STORES = {"s3": s3_store, "gs": gs_store}


@dataclass(frozen=True)
class Proxied:
    """A store behind a proxy that holds the same ECGs as a local folder that was scored."""

    store: Store
    proxy: FaultProxy
    inputs: str
    local: dict[str, bytes] = field(repr=False)  # the result files of the local run

    @property
    def options(self) -> tuple[str, ...]:
        """The options that lead through the proxy."""
        return self.store.through(self.proxy.port)

    @property
    def storage(self) -> Storage:
        """What reads and writes through the proxy."""
        return storage_of(self.options[1::2])

    def score(self, output: str, *extra: object, inputs: str | None = None) -> int:
        """Score the ECGs through the proxy to a folder of the store."""
        return score(inputs or self.inputs, self.store.uri(output), *self.options, *extra)

    def results(self, output: str) -> dict[str, bytes]:
        """Return the result and reject files of a run folder."""
        files = self.store.files(output)
        return {k: v for k, v in files.items() if k.split("/")[0] in ("predictions", "ecg", "rejects")}

    def assert_whole(self, output: str) -> None:
        """Check that a run folder holds the bytes of the local run, and says that it is done."""
        assert self.results(output) == self.local
        files = self.store.files(output)
        assert "_SUCCESS" in files
        counts = json.loads(files["run_report.json"])["counts"]
        assert counts == {"read": N_ECGS, "predicted": N_ECGS, "rejected": {}}


@contextmanager
def proxied(scheme: str, folder: Path, port: int | None = None) -> Iterator[tuple[Store, FaultProxy]]:
    """Run a store and a proxy before it."""
    (folder / "proxy").mkdir()
    port = port or free_port()
    with dummy_credentials(), STORES[scheme](folder) as store:
        command = proxy_command(scheme, store.port, port)
        with server(command, port, folder / "proxy"):
            yield store, FaultProxy(port)


@pytest.fixture(scope="module", params=list(STORES))
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    folder = tmp_path_factory.mktemp(request.param)
    write_cohort(folder / "in", N_ECGS, n_files=2)
    with proxied(request.param, folder) as (store, proxy):
        yield Proxied(store, proxy, store.upload(folder / "in", "faults/in"), {})


@pytest.fixture
def on_store(
    whole: Proxied, fake: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Proxied]:
    """Give the store behind its proxy; retries of ours do not wait, those of the clients little."""
    defaults = storage.with_retries.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "sleep", lambda _: None)
    monkeypatch.setattr(storage, "SETTLE_S", 0.0)
    monkeypatch.setattr(store_clients, "_GCS_RETRY_LIMIT_S", 1)
    store_clients._client.cache_clear()
    if not whole.local:
        folder = tmp_path_factory.mktemp("local")
        write_cohort(folder / "in", N_ECGS, n_files=2)
        assert score(folder / "in", folder / "out") == 0
        whole.local.update(result_files(folder / "out"))
        shutil.rmtree(folder)
    whole.proxy.set()
    yield whole
    whole.proxy.set()
    store_clients._client.cache_clear()


# Faults that pass

# So rare that five requests of one read do not all fail by chance.
PASSING = {
    "503": Rule("503", share=0.2),
    "refused": Rule("refuse", share=0.2),
    "reset in mid-body": Rule("reset_body", "data", share=0.15),
    "closed in mid-body": Rule("short_closed", "data", share=0.15),
    "short body": Rule("short_stated", "data", share=0.15),
    "slow first byte": Rule("slow", "data", skip=1, times=1, seconds=4),
    "reset while listing": Rule("reset_body", "listing", times=2),
    "reset while writing": Rule("reset_request", "writing", share=0.15),
    "reset after writing": Rule("reset_answer", "writing", share=0.15),
}


@pytest.mark.engines
@pytest.mark.parametrize("name", PASSING)
def test_fault_that_passes__gives_the_same_bytes(name: str, on_store: Proxied, request: pytest.FixtureRequest) -> None:
    output = f"passing/{request.node.callspec.id.replace(' ', '-')}"
    on_store.proxy.set(PASSING[name])
    assert on_store.score(output) == 0
    assert on_store.proxy.n_hit > 0
    on_store.proxy.set()
    on_store.assert_whole(output)


# Faults that stay

STAYING = {
    "503": Rule("503"),
    "refused": Rule("refuse"),
    "short body": Rule("short_stated", "data"),
    "closed in mid-body": Rule("short_closed", "data"),
    "expired": Rule("expired"),
    "expired 403": Rule("expired_403"),
    "writes refused": Rule("reset_request", "writing"),
}
EXPIRED = ("expired", "expired 403")


@pytest.mark.engines
@pytest.mark.parametrize("when", ["planning", "units"])
@pytest.mark.parametrize("name", [name for name in STAYING if name != "short body"])
def test_fault_that_stays__is_a_clear_stop_and_the_same_command_does_the_rest(
    name: str, when: str, on_store: Proxied, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = STAYING[name]
    output = f"staying/{request.node.callspec.id.replace(' ', '-')}"
    if when == "units":  # the first of three units is done then
        kind = rule.kind if rule.kind != "any" else "writing"
        rule = Rule(rule.fault, kind, path="predictions/" if kind == "writing" else "part-1", skip=1)
        if kind == "data":
            rule = Rule(rule.fault, kind, path="part-1", skip=3)
    on_store.proxy.set(rule)
    assert on_store.score(output) == 1
    assert on_store.proxy.n_hit > 0
    message = capsys.readouterr().err
    assert "Traceback" not in message
    assert "un the same command again" in message
    if name in EXPIRED:
        assert "credentials, which may have expired" in message
    on_store.proxy.set()
    assert "_SUCCESS" not in on_store.store.files(output)
    done = on_store.results(output)
    assert {path: on_store.local[path] for path in done} == done
    assert on_store.score(output) == 0
    on_store.assert_whole(output)


# Listings


@pytest.mark.engines
def test_truncated_listing__stops_where_the_number_of_ecgs_is_expected(
    on_store: Proxied, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = Rule("truncated_listing", "listing", path="faults/in")
    on_store.proxy.set(rule)
    expected = ("--expect-ecgs", N_ECGS)
    assert on_store.score("cut/out", *expected) == 1
    message = capsys.readouterr().err
    assert f"{N_ECGS // 2} ECGs found in 1 file, but --expect-ecgs is {N_ECGS}" in message
    assert on_store.results("cut/out") == {}
    on_store.proxy.set()
    assert on_store.score("cut/out", *expected) == 0
    on_store.assert_whole("cut/out")


@pytest.mark.engines
def test_truncated_listing__stops_where_files_are_expected(
    on_store: Proxied, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = tmp_path / "files.txt"
    files.write_text(f"part-0.parquet\n\n{on_store.inputs}/part-1.parquet\n")
    on_store.proxy.set(Rule("truncated_listing", "listing", path="faults/in"))
    assert on_store.score("files/out", "--expect-files", files) == 1
    assert f"of --expect-files {files}, 1 file is not among the inputs" in capsys.readouterr().err
    assert on_store.results("files/out") == {}
    on_store.proxy.set()
    assert on_store.score("files/out", "--expect-files", files, "--dry-run") == 0


@pytest.mark.engines
def test_truncated_listing__people_without_an_ecg_are_told(
    on_store: Proxied, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_participants(tmp_path / "people.csv", people(N_ECGS))
    on_store.proxy.set(Rule("truncated_listing", "listing", path="faults/in"))
    assert on_store.score("people/out", "--participants", table, "--dry-run") == 0
    assert f"warning: 12 of 24 rows of {table} (50.0%) have no ECG among the inputs" in capsys.readouterr().err


@pytest.mark.engines
def test_truncated_listing_of_the_run_folder__leaves_no_hole(on_store: Proxied) -> None:
    """Units that a listing does not show are done again, with the same bytes."""
    on_store.proxy.set(Rule("truncated_listing", "listing", path="predictions", times=2))
    codes = [on_store.score("half/out")]
    on_store.proxy.set()
    codes.append(on_store.score("half/out"))
    assert codes[-1] == 0
    on_store.assert_whole("half/out")


@pytest.mark.engines
def test_truncated_listing__is_a_smaller_study_where_nothing_is_expected(
    on_store: Proxied, capsys: pytest.CaptureFixture[str]
) -> None:
    """Why --expect-ecgs is there: nothing in the files shows the hole."""
    on_store.proxy.set(Rule("truncated_listing", "listing", path="faults/in"))
    assert on_store.score("unnoticed/out", "--dry-run") == 0
    assert f"ECGs: {N_ECGS // 2} " in capsys.readouterr().out


# Files that change


def test_file_that_shrinks_while_it_is_read__is_named(on_store: Proxied) -> None:
    """The client knows the old size, asks for bytes that are gone, and makes up the rest."""
    uri = on_store.store.uri("shrinks/a.bin")
    on_store.storage.write_atomic(uri, bytes(range(256)) * 4000)
    with on_store.storage.open(uri) as file:
        on_store.storage.write_atomic(uri, bytes(range(256)) * 2000)
        file.seek(400_000)
        with pytest.raises(LvmError, match=r"a.bin changed while it was read: it had 1024000 bytes and has 512000 now"):
            file.read(300_000)


@pytest.mark.engines
def test_file_that_changed_between_planning_and_a_unit__is_named(
    on_store: Proxied, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cohort(tmp_path / "in", N_ECGS, n_files=2)
    write_cohort(tmp_path / "other", N_ECGS - 8, n_files=2)
    inputs = on_store.store.upload(tmp_path / "in", "changes/in")
    original = RunFolder.committed

    def committed(folder: RunFolder, plan: Plan) -> object:
        on_store.store.upload(tmp_path / "other", "changes/in")  # planned, and nothing is done yet
        return original(folder, plan)

    monkeypatch.setattr(RunFolder, "committed", committed)
    assert on_store.score("changes/out", inputs=inputs) == 1
    message = capsys.readouterr().err
    assert "part-0.parquet changed since the run was planned: it had" in message
    assert on_store.results("changes/out") == {}


# Raw files


@pytest.mark.engines
def test_short_bodies_of_raw_files__are_no_rejects(on_store: Proxied, tmp_path: Path) -> None:
    made = people(4)
    (tmp_path / "raw").mkdir()
    for i, ecg_id in enumerate(made.ecg_id):
        leads = dict(zip(CLINICAL_LEADS, made.counts[i], strict=True))
        (tmp_path / "raw" / f"{ecg_id}.xml").write_bytes(cardiosoft_xml(leads))
    assert lvm("ingest", "--input", tmp_path / "raw", "--output", tmp_path / "ecg") == 0
    raw = on_store.store.upload(tmp_path / "raw", "raw/in")
    on_store.proxy.set(Rule("short_stated", "data", path="raw/in", times=3))
    assert lvm("ingest", "--input", raw, "--output", on_store.store.uri("raw/ecg"), *on_store.options) == 0
    assert on_store.proxy.n_hit > 0
    assert on_store.results("raw/ecg") == result_files(tmp_path / "ecg")


# Requests


@pytest.mark.engines
def test_requests__are_few_for_each_row_group(on_store: Proxied) -> None:
    """There were 28 a row group when each column chunk was a request of its own."""
    assert on_store.score("few/out") == 0
    reads = [seen for seen in on_store.proxy.seen("data") if "faults/in" in unquote(seen.target)]
    if on_store.store.scheme == "gs":  # its client asks for the whole object at each opening, and stops soon
        reads = [seen for seen in reads if seen.content_range]
    n_row_groups, n_files = 4, 2
    # A unit reads the footer and the row group; planning the footer twice, the keys, and a sample.
    assert len(reads) <= 2 * n_row_groups + 3 * n_files + 2 * n_row_groups


def test_writing__is_one_request_that_no_kill_can_leave_half_done(on_store: Proxied) -> None:
    on_store.storage.write_atomic(on_store.store.uri("one/small"), bytes(9_000_000))
    writes = [(seen.method, "uploads" in seen.target) for seen in on_store.proxy.seen("writing")]
    if on_store.store.scheme == "s3":
        assert writes == [("PUT", False)]
    else:  # a session of several requests, which Google ends itself; the object is made by the last
        assert [method for method, _ in writes][:2] == ["POST", "PUT"]
        assert {method for method, _ in writes[1:]} == {"PUT"}


@pytest.mark.engines
def test_reader__sees_the_old_file_or_the_new_one_and_never_half(on_store: Proxied) -> None:
    """A write of several parts is broken off: whoever reads sees the old file."""
    uri = on_store.store.uri("atomic/large")
    old, new = bytes(100), random.Random(3).randbytes(21_000_000)
    on_store.storage.write_atomic(uri, old)
    on_store.proxy.set(Rule("reset_request", "writing", skip=2))
    with pytest.raises(StorageFault):
        on_store.storage.write_atomic(uri, new)
    on_store.proxy.set()
    assert on_store.storage.read_bytes(uri) == old
    on_store.storage.write_atomic(uri, new)
    assert on_store.storage.read_bytes(uri) == new


# Two planners


def test_created_by_two__one_of_them_is_told(on_store: Proxied, monkeypatch: pytest.MonkeyPatch) -> None:
    uri, looked = on_store.store.uri("two/plan.json"), on_store.storage
    monkeypatch.setattr(Storage, "exists", lambda self, _: False)  # both look before either writes
    monkeypatch.setattr(storage, "SETTLE_S", 0.5)
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda data: looked.create_exclusive(uri, lambda: [data]), (b"mine", b"yours")))
    assert sorted(made) == [False, True]
    assert looked.read_bytes(uri) == (b"mine" if made[0] else b"yours")
