"""Jobs on stores whose server, or who themselves, are killed at a random moment: the same bits.

The S3 server keeps its data in memory, and a log of all requests in a file: started again, it does
them again. The GCS server keeps its data on the disk. A proxy before them counts the requests, so
that the moment does not depend on how fast the machine is.
"""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pyarrow import fs

from tests.beam_jobs.fault_proxy import FaultProxy, Rule, proxy_command
from tests.beam_jobs.job_helpers import REPOSITORY, result_files, score_argv, write_cohort
from tests.beam_jobs.job_servers import BUCKET, GS_SERVER, Store, dummy_credentials, flags, free_port, server

pytestmark = pytest.mark.engines

# Moto, of the other tests, holds its data in memory, and a kill would lose it.
S3_SERVER = REPOSITORY / "build" / "bin" / "versitygw"
N_ECGS = 48
N_RUNS = 10
END_S = 600
RUNNER = [sys.executable, "-m", "tests.beam_jobs.job_runner", "--sleep-s", "0.05", "--"]


@dataclass
class Killable:
    """A server that can be killed and started again with its data, behind a proxy."""

    scheme: str
    folder: Path
    port: int = field(default_factory=free_port)
    _stack: ExitStack = field(default_factory=ExitStack)
    _process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start the server with the data that it had."""
        (self.folder / "data").mkdir(exist_ok=True)
        address = f"127.0.0.1:{self.port}"
        keys = [f"--access={os.environ['AWS_ACCESS_KEY_ID']}", f"--secret={os.environ['AWS_SECRET_ACCESS_KEY']}"]
        programs = {
            "s3": [str(S3_SERVER), f"--port={address}", *keys, "--quiet", "posix", str(self.folder / "data")],
            "gs": [*GS_SERVER, "start", "--port", str(self.port), "-H", "127.0.0.1"],
        }
        self._process = self._stack.enter_context(server(programs[self.scheme], self.port, self.folder))

    def kill(self) -> None:
        """Kill the server at once."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._stack.close()

    def stop(self) -> None:
        """End the server."""
        self._stack.close()

    def filesystem(self) -> fs.FileSystem:
        """Return a client that goes past the proxy."""
        endpoint = f"127.0.0.1:{self.port}"
        if self.scheme == "s3":
            return fs.S3FileSystem(
                endpoint_override=endpoint, scheme="http", region="us-east-1", allow_bucket_creation=True
            )
        return fs.GcsFileSystem(anonymous=True, endpoint_override=endpoint, scheme="http", project_id="test")


@dataclass(frozen=True)
class Place:
    """Where the runs are done."""

    killable: Killable
    store: Store
    proxy: FaultProxy
    inputs: str
    local: dict[str, bytes]
    n_requests: int  # of an undisturbed run

    def results(self, output: str) -> dict[str, bytes]:
        """Return the result and reject files of a run folder."""
        files = self.store.files(output)
        return {k: v for k, v in files.items() if k.split("/")[0] in ("predictions", "rejects")}


@contextmanager
def _place(scheme: str, folder: Path) -> Iterator[Place]:
    (folder / "server").mkdir()
    (folder / "proxy").mkdir()
    write_cohort(folder / "in", N_ECGS, n_files=2)
    command = [*RUNNER, *score_argv(folder / "in", folder / "out")]
    subprocess.run(command, cwd=REPOSITORY, timeout=END_S, check=True, capture_output=True)
    with dummy_credentials(), pytest.MonkeyPatch.context() as environment:
        environment.delenv("AWS_SESSION_TOKEN")
        killable = Killable(scheme, folder / "server")
        killable.start()
        proxy_port = free_port()
        with server(proxy_command(scheme, killable.port, proxy_port), proxy_port, folder / "proxy"):
            filesystem = killable.filesystem()
            filesystem.create_dir(BUCKET)
            options = [f"{scheme}.endpoint_override=127.0.0.1:{killable.port}", f"{scheme}.scheme=http"]
            options += ["s3.region=us-east-1"] if scheme == "s3" else ["gs.anonymous=true"]
            store = Store(scheme, killable.port, flags(options), filesystem)
            proxy = FaultProxy(proxy_port)
            inputs = store.upload(folder / "in", "kills/in")
            argv = score_argv(inputs, store.uri("kills/undisturbed"), *store.through(proxy.port))
            subprocess.run([*RUNNER, *argv], cwd=REPOSITORY, timeout=END_S, check=True, capture_output=True)
            yield Place(killable, store, proxy, inputs, result_files(folder / "out"), len(proxy.seen()))
        killable.stop()


@pytest.fixture(scope="module", params=["s3", "gs"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    if request.param == "s3" and not S3_SERVER.is_file():
        pytest.skip("no S3 server that keeps its data on a disk: make engines (needs Go)")
    with _place(request.param, tmp_path_factory.mktemp(request.param)) as found:
        yield found


@pytest.mark.parametrize("seed", range(N_RUNS))
def test_kill_at_a_random_moment__ends_in_the_same_bits(seed: int, place: Place) -> None:
    chance = random.Random(seed)
    victim = chance.choice(["server", "job"])
    moment = chance.randrange(place.n_requests)
    output = f"kills/{seed}"
    argv = score_argv(place.inputs, place.store.uri(output), *place.store.through(place.proxy.port))
    place.proxy.set()
    job = subprocess.Popen([*RUNNER, *argv], cwd=REPOSITORY, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    while job.poll() is None and len(place.proxy.seen()) < moment:
        time.sleep(0.05)
    if victim == "job":
        job.kill()
    else:
        place.killable.kill()
        time.sleep(chance.uniform(0, 3))
        place.killable.start()
    texts = [job.communicate(timeout=END_S)[1].decode()]
    codes = [job.returncode]
    while codes[-1] != 0 and len(codes) < 4:
        again = subprocess.run([*RUNNER, *argv], cwd=REPOSITORY, timeout=END_S, check=False, capture_output=True)
        codes.append(again.returncode)
        texts.append(again.stderr.decode())
    sys.stdout.write(f"{place.store.scheme} {victim} at request {moment} of {place.n_requests}: exit codes {codes}\n")
    assert codes[-1] == 0, texts[-1][-2000:]
    assert not [text for text in texts if "Traceback" in text]
    assert place.results(output) == place.local
    assert "_SUCCESS" in place.store.files(output)


@pytest.mark.parametrize("differ", [False, True])
def test_two_planners_at_once__never_mix_their_plans(*, differ: bool, place: Place) -> None:
    """Each is kept waiting for the answer that there is no plan, so that both write one."""
    output = place.store.uri(f"kills/two-{differ}")
    place.proxy.set(Rule("slow", path="plan.json", seconds=5, times=6))
    names = ("part-0.parquet", "part-1.parquet")
    inputs = [f"{place.inputs}/{name}" for name in names] if differ else [place.inputs, place.inputs]
    commands = [[*RUNNER, *score_argv(one, output, *place.store.through(place.proxy.port))] for one in inputs]
    jobs = [subprocess.Popen(c, cwd=REPOSITORY, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) for c in commands]
    texts = [job.communicate(timeout=END_S)[1].decode() for job in jobs]
    codes = [job.returncode for job in jobs]
    sys.stdout.write(f"{place.store.scheme} two planners, differ {differ}: exit codes {codes}\n")
    place.proxy.set()
    assert not [text for text in texts if "Traceback" in text]
    if differ:
        assert codes != [0, 0], texts
    else:
        again = subprocess.run(commands[0], cwd=REPOSITORY, timeout=END_S, check=False, capture_output=True)
        assert again.returncode == 0, again.stderr.decode()
        assert place.results(f"kills/two-{differ}") == place.local
    if "_SUCCESS" in place.store.files(f"kills/two-{differ}"):
        verify = [*RUNNER, "verify", output, *place.store.options]
        assert subprocess.run(verify, cwd=REPOSITORY, timeout=END_S, check=False).returncode == 0
