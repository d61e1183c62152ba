"""The job service of `--runner portable`: Beam's own, in a process of its own, for this user alone.

It is Beam's Python job service with three changes. It knows the PROCESS environment of Flink and
Spark, so that its workers are started by the same boot program. It hands units out to the worker
that is free, and once more where a worker died, while Beam's divides them in advance and waits for
ever for a dead worker. It listens on sockets in a private folder, not on ports of all networks:
what it hears is run.

The classes of Beam that it changes are private to Beam; `tests/beam_jobs/engines/test_portable.py`
runs whole jobs through them.
"""

from __future__ import annotations

import argparse
import itertools
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from pathlib import Path
from typing import Any, Final, cast

import grpc
from apache_beam.metrics import monitoring_infos
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_fn_api_pb2, beam_runner_api_pb2, endpoints_pb2
from apache_beam.runners.portability import local_job_service
from apache_beam.runners.portability.fn_api_runner import fn_runner, worker_handlers
from apache_beam.utils import thread_pool_executor

from lvm_core.errors import LvmError

READY: Final = "ready"  # what this program says when jobs can be sent
JOB_SOCKET: Final = "job"
_N_PARTS: Final = 4096  # pieces that a stage's input is cut into at most, before they are handed out
_DEATHS_PER_WORKER: Final = 3
_LOOK_EVERY_S: Final = 0.2
_DEATH_SHOWS_WITHIN_S: Final = 1.0
_STOP_WITHIN_S: Final = 10.0
# Exit codes of the boot program that another try does not change.
_CANNOT_START: Final = (2, 10, 11, 12)


def socket_of(folder: Path, name: str | int) -> str:
    """Return the address of a socket in a folder, as gRPC has it."""
    return f"unix:{folder / str(name)}"


# Sockets


class _Sockets:
    """Stands for the module `grpc` in Beam's modules: servers listen on sockets of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count(1)

    def server(self, *args: Any, **options: Any) -> _Server:
        return _Server(grpc.server(*args, **options), self._folder, self._numbers)

    def __getattr__(self, name: str) -> Any:
        return getattr(grpc, name)


class _Server:
    """A gRPC server that takes any address for the next socket; its port is the socket's number."""

    def __init__(self, server: Any, folder: Path, numbers: Iterator[int]) -> None:
        self._server = server
        self._folder = folder
        self._numbers = numbers

    def add_insecure_port(self, address: str) -> int:
        number = next(self._numbers)
        self._server.add_insecure_port(socket_of(self._folder, number))
        return number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)


# Workers


class _Worker(worker_handlers.GrpcWorkerHandler):
    """A worker process that the boot program starts; its death is noticed at once."""

    folder = Path()  # of the sockets; set when this program starts

    def __init__(self, payload: Any, state: Any, provision_info: Any, grpc_server: Any) -> None:
        super().__init__(state, provision_info, grpc_server)
        self._payload = payload
        self._stopping = threading.Event()
        self._died = threading.Event()
        self.death: str | None = None  # how the process ended, when it did by itself
        self.exit_code = 0

    def port_from_worker(self, port: int) -> str:
        return socket_of(self.folder, port)

    def start_worker(self) -> None:
        control, logs = self.control_address, self.logging_api_service_descriptor().url
        command = [
            self._payload.command,
            f"--id={self.worker_id}",
            f"--provision_endpoint={control}",
            f"--control_endpoint={control}",
            f"--artifact_endpoint={control}",
            f"--logging_endpoint={logs}",
        ]
        environment = {**os.environ, **self._payload.env}
        # Nothing of this process but its error output: the boot program keeps a log of its own.
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        """Fail what the process was asked for when it ends before it is told to."""
        assert self._process.stderr is not None
        lines = self._process.stderr.read().splitlines()  # until the process has ended
        code = self._process.wait()
        if self._stopping.is_set():
            return
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        why = [line for line in lines if line.startswith("error: ")]
        self.exit_code = code
        self.death = ": ".join([f"a worker process {how}", *why[-1:]])
        self._died.set()
        while not self._stopping.wait(_LOOK_EVERY_S):
            for future in list(self.control_conn._futures_by_id.values()):
                future.set(beam_fn_api_pb2.InstructionResponse(error=self.death))

    def has_died(self) -> bool:
        """Return whether the process has ended by itself; its connections end a moment earlier."""
        return self._died.wait(_DEATH_SHOWS_WITHIN_S)

    def abandon(self) -> None:
        """End the process at once."""
        self._stopping.set()
        self._process.kill()
        self._process.wait()
        self.death = "a worker process was abandoned"

    def close(self) -> None:
        if self.death is None:
            super().close()
        else:  # nobody is there to whom the connections could be closed
            self.stop_worker()

    def stop_worker(self) -> None:
        self._stopping.set()
        try:
            self._process.wait(_STOP_WITHIN_S if self.death is None else 0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


# Handing out


class _Stage:
    """A stage as one part of it sees it: one worker, and output that counts when the part ends."""

    def __init__(self, stage: Any, worker: Any) -> None:
        self._stage = stage
        self.worker_handlers = [worker]
        self._output: list[tuple[tuple[Any, ...], bytes]] = []

    def get_buffer(self, *key: Any) -> _Output:
        return _Output(key, self._output)

    def keep_output(self) -> None:
        """Add the output to that of the stage."""
        for key, data in self._output:
            self._stage.get_buffer(*key).append(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stage, name)


class _Output:
    cleared = False

    def __init__(self, key: tuple[Any, ...], output: list[tuple[tuple[Any, ...], bytes]]) -> None:
        self._key = key
        self._all = output

    def append(self, data: bytes) -> None:
        self._all.append((self._key, data))


class _Parts(fn_runner.BundleManager):
    """Does a stage in parts, each by the worker that is free, and again where a worker died."""

    def process_bundle(
        self, inputs: Any, expected_outputs: Any, fired_timers: Any, expected_output_timers: Any, dry_run: bool = False
    ) -> Any:
        stage: Any = self.bundle_context_manager
        workers: queue.Queue[Any] = queue.Queue()
        for worker in stage.worker_handlers:
            workers.put(worker)
        deaths_left = itertools.count(_DEATHS_PER_WORKER * stage.num_workers, -1)

        def do(part: tuple[Any, Any]) -> Any:
            while True:
                worker = workers.get()
                view: Any = _Stage(stage, worker)
                bundle = fn_runner.BundleManager(view, self._progress_frequency, self._cache_token_generator)
                try:
                    done = bundle.process_bundle(part[0], expected_outputs, part[1], expected_output_timers, dry_run)
                except (RuntimeError, grpc.RpcError):
                    if not worker.has_died():
                        raise
                    if worker.exit_code in _CANNOT_START or not next(deaths_left):
                        raise LvmError(f"{worker.death}. Run the same command again to resume") from None
                    worker = _replaced(stage, worker)
                else:
                    with fn_runner.BundleManager._lock:
                        view.keep_output()
                    return done
                finally:
                    workers.put(worker)

        parts = hand_out({name: data.partition(_N_PARTS) for name, data in inputs.items()}, stage.num_workers)
        timers = itertools.chain([fired_timers], itertools.repeat({}))
        threads = thread_pool_executor.shared_unbounded_instance()
        futures = [threads.submit(do, part) for part in zip(parts, timers, strict=False)]
        ended, _ = wait(futures, return_when=FIRST_EXCEPTION)
        problems = [problem for future in ended if (problem := future.exception()) is not None]
        if problems:
            for worker in stage.worker_handlers:  # what they are at is of no use any more
                cast(_Worker, worker).abandon()
            raise problems[0]
        done = [future.result() for future in futures]
        return _merged([result for result, _ in done]), [split for _, splits in done for split in splits]


def hand_out(inputs: Mapping[str, Sequence[list[bytes]]], n_workers: int) -> list[dict[str, list[bytes]]]:
    """Return the parts of a stage's input, in the order in which workers take them, 1 or more.

    Large parts come first and small ones last, so that workers end together: each is half of a
    worker's equal share of what is left.
    """
    left = {name: [piece for piece in pieces if any(piece)] for name, pieces in inputs.items()}
    parts: list[dict[str, list[bytes]]] = []
    while not parts or any(left.values()):
        part = {}
        for name, pieces in left.items():
            n = max(1, len(pieces) // (2 * n_workers))
            part[name] = [data for piece in pieces[:n] for data in piece]
            left[name] = pieces[n:]
        parts.append(part)
    return parts


def _replaced(stage: Any, dead: _Worker) -> Any:
    """Return a new worker in place of one that died."""
    manager = stage.execution_context.worker_handler_manager
    environment = stage.stage.environment
    new = worker_handlers.WorkerHandler.create(
        manager._environments[environment],
        manager.state_servicer,
        manager._job_provision_info.for_environment(manager._environments[environment]),
        manager._grpc_server,
    )
    for known in (manager._cached_handlers[environment], stage.worker_handlers):
        known[known.index(dead)] = new
    manager._workers_by_id[new.worker_id] = new
    dead.close()
    new.start_worker()
    return new


def _merged(results: Sequence[Any]) -> Any:
    """Return one answer of a stage from those of its parts, their counters added up."""
    counters = [result.process_bundle.monitoring_infos for result in results]
    together = beam_fn_api_pb2.ProcessBundleResponse(
        monitoring_infos=monitoring_infos.consolidate(itertools.chain(*counters))
    )
    return beam_fn_api_pb2.InstructionResponse(process_bundle=together)


class _Runner(fn_runner.FnApiRunner):
    def __init__(self, n_workers: int, provision_info: Any) -> None:
        super().__init__(provision_info=provision_info)
        self._num_workers = n_workers

    def _get_bundle_manager(self, bundle_context_manager: Any) -> Any:
        if bundle_context_manager.stage.is_stateful():
            return super()._get_bundle_manager(bundle_context_manager)
        tokens = self.get_cache_token_generator(static=False)
        return _Parts(bundle_context_manager, self._progress_frequency, cache_token_generator=tokens)


class _Job(local_job_service.BeamJob):
    n_workers = 1  # set when this program starts

    def _invoke_runner(self) -> Any:
        self.set_state(local_job_service.beam_job_api_pb2.JobState.RUNNING)
        runner = _Runner(self.n_workers, self._provision_info)
        return runner.run_via_runner_api(self._pipeline_proto, self.pipeline_options())


class _Service(local_job_service.LocalJobServicer):
    def start_on(self, folder: Path) -> None:
        number = self.start_grpc_server()
        self._artifact_staging_endpoint = endpoints_pb2.ApiServiceDescriptor(url=socket_of(folder, number))
        (folder / JOB_SOCKET).symlink_to(folder / str(number))


# The program


def main(argv: Sequence[str] | None = None) -> int:
    """Serve jobs until the standard input ends, as it does when the launcher is gone."""
    parser = argparse.ArgumentParser(description="Beam's job service for lvm-ai --runner portable, which starts it.")
    parser.add_argument("folder", type=Path, help="private folder of the sockets")
    parser.add_argument("--workers", type=int, required=True, help="worker processes")
    given = parser.parse_args(argv)
    os.umask(0o077)
    for module in (worker_handlers, local_job_service):
        module.__dict__["grpc"] = _Sockets(given.folder)
    _Worker.folder = given.folder
    _Job.n_workers = given.workers
    kind, payload = common_urns.environments.PROCESS.urn, beam_runner_api_pb2.ProcessPayload
    worker_handlers.WorkerHandler.register_environment(kind, payload)(_Worker)
    service = _Service(str(given.folder / "staged"), _Job)
    service.start_on(given.folder)
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
    sys.stdin.read()
    # Workers end by themselves when their parent is gone.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
