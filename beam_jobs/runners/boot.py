"""`lvm-beam-boot`: starts one worker process of a portable runner, wherever that runner starts it.

Flink, Spark and the portable runner start this program on each worker (Beam's PROCESS environment)
and pass the addresses of the runner's services. It checks that this interpreter fits the one that
started the run, asks the runner for the options of the pipeline, and becomes Beam's Python worker.
Engines throw the output of workers away, so it keeps a log file of its own.

Only the standard library is imported here at the top: a missing package is to be named in plain
words, not by a traceback that nobody sees.
"""

from __future__ import annotations

import argparse
import faulthandler
import io
import json
import logging
import os
import platform
import re
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, TextIO

LOG_FOLDER: Final = "LVM_BEAM_LOG_DIR"  # environment variable: the folder of the workers' log files
LAUNCHER: Final = "LVM_BEAM_LAUNCHER"  # environment variable: what the launcher says of itself, as JSON

# Exit codes beside 0, done, and 1, the worker failed.
WRONG_USAGE: Final = 2
WRONG_PYTHON: Final = 10
PACKAGE_MISSING: Final = 11
WRONG_VERSION: Final = 12
RUNNER_SILENT: Final = 13

# Their versions have to be those of the launcher: pickled code, and the bits of results.
_SAME_VERSION: Final = ("lvm-ai", "apache-beam")
# A distribution by any of its names.
_NAMES: Final = {"tensorflow": ("tensorflow", "tensorflow-cpu", "tf-nightly")}

# Credentials are used together or not at all: a key of one account and the session of another fit
# nothing. A worker that has one of them keeps its own.
_CREDENTIALS: Final = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
)
# Credentials that a platform gives to one machine; they do not travel, and a worker keeps its own.
_OF_ONE_MACHINE: Final = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
_PLACES: Final = (
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_CA_BUNDLE",
    "AWS_EC2_METADATA_DISABLED",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CLOUD_PROJECT",
    "STORAGE_EMULATOR_HOST",
    "CLOUD_STORAGE_EMULATOR_ENDPOINT",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    LOG_FOLDER,
)
TRAVELS: Final = (*_CREDENTIALS, *_PLACES)
_NAMES_A_FILE: Final = frozenset(
    "AWS_WEB_IDENTITY_TOKEN_FILE AWS_SHARED_CREDENTIALS_FILE AWS_CONFIG_FILE AWS_CA_BUNDLE "
    "GOOGLE_APPLICATION_CREDENTIALS SSL_CERT_FILE SSL_CERT_DIR".split()
)

_ANSWER_WITHIN_S: Final = 60.0
_LOOK_FOR_PARENT_EVERY_S: Final = 1.0
_LINE_OF_CODE: Final = re.compile(r'^\s*File "(?P<file>[^"]*)", line (?P<line>\d+)')
_ERROR: Final = re.compile(r"^(?P<type>(?:\w+\.)*\w*(?:Error|Exception|Fault|Denied|Missing|Rejected|Interrupt))\b")


# What the launcher sends


def worker_environment(
    needs: Sequence[str] = (), environment: Mapping[str, str] | None = None, *, python: str | None = None
) -> dict[str, str]:
    """Return the environment variables that the launcher gives to workers (the `env` of PROCESS).

    They say which interpreter and packages started the run, and hold the variables of `TRAVELS`
    that are set: addresses and credentials of object stores, proxies, certificates. They are
    secrets like the credentials in them. A worker prefers what its own environment has.

    Args:
        needs: further distributions that workers must have, in any version (`tensorflow`).
        environment: of the launcher; that of this process by default.
        python: minor version such as `3.11`; that of this process by default.
    """
    given = os.environ if environment is None else environment
    content = {
        "python": python or _python(),
        "packages": {name: _version(name) for name in _SAME_VERSION} | dict.fromkeys(needs),
        "environment": {name: given[name] for name in TRAVELS if name in given},
    }
    return {LAUNCHER: json.dumps(content, sort_keys=True)}


def _python() -> str:
    return ".".join(platform.python_version_tuple()[:2])


def _version(distribution: str) -> str | None:
    for name in _NAMES.get(distribution, (distribution,)):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


# What the worker makes of it


class CannotStart(Exception):
    """This worker cannot start; its message says why and what to do."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message


def check_interpreter(launcher: Mapping[str, Any]) -> None:
    """Refuse an interpreter that does not fit that of the launcher.

    Raises:
        CannotStart: another minor version of Python; a package that is missing or another one.
    """
    wanted = launcher.get("python", _python())
    if wanted != _python():
        raise CannotStart(
            WRONG_PYTHON,
            f"this worker runs Python {_python()} ({sys.executable}) and the run was started by Python {wanted}; "
            "expected the same minor version. Install lvm-ai for that Python on every worker, and name its "
            "lvm-beam-boot as the command of workers",
        )
    for name, expected in launcher.get("packages", dict.fromkeys(_SAME_VERSION)).items():
        found = _version(name)
        if found is None:
            raise CannotStart(
                PACKAGE_MISSING,
                f"the package {name} is missing in {sys.executable}; expected {name} {expected or 'in any version'}, "
                f"as where the run was started. Install it there: pip install {name}{_pin(expected)}",
            )
        if expected is not None and found != expected:
            raise CannotStart(
                WRONG_VERSION,
                f"{name} is {found} in {sys.executable} and {expected} where the run was started; expected the same "
                f"version. Install it there: pip install {name}{_pin(expected)}",
            )


def _pin(expected: str | None) -> str:
    return "" if expected is None else f"=={expected}"


def take_environment(sent: Mapping[str, str], own: dict[str, str] | os._Environ[str]) -> list[str]:
    """Set variables of the launcher that this worker does not have; return lines for the log.

    Credentials are taken together or not at all. A variable that names a file is taken where that
    file is here. Values are in no line.
    """
    mine = [name for name in (*_CREDENTIALS, *_OF_ONE_MACHINE) if name in own]
    taken, left = [], []
    for name, value in sent.items():
        is_here = name not in _NAMES_A_FILE or os.path.exists(value)
        if name not in TRAVELS or name in own or not is_here or (mine and name in _CREDENTIALS):
            left.append(name)
        else:
            own[name] = value
            taken.append(name)
    lines = [f"environment of the launcher, taken: {', '.join(taken) or 'nothing'}"]
    if left:
        lines.append(f"not taken, because this worker has its own or lacks the file: {', '.join(left)}")
    return lines


def spare_proxies(endpoints: Sequence[str], own: dict[str, str] | os._Environ[str]) -> None:
    """Reach the services of the runner directly where a proxy is set for the outside."""
    names = ("http_proxy", "https_proxy", "grpc_proxy")
    if any(name in own for name in names) and "no_grpc_proxy" not in own:
        hosts = {endpoint.rpartition(":")[0].strip("[]") for endpoint in endpoints if endpoint}
        own["no_grpc_proxy"] = ",".join(sorted(hosts | {"localhost", "127.0.0.1"}))


# The log


def open_log(worker_id: str, environment: Mapping[str, str]) -> TextIO:
    """Open the log file of this worker, readable for its owner alone.

    The folder is that of `LVM_BEAM_LOG_DIR`, otherwise `lvm-beam-UID` in the temporary folder, or
    a new one where somebody else has taken that name.
    """
    named = environment.get(LOG_FOLDER)
    folder = Path(named) if named else Path(tempfile.gettempdir()) / f"lvm-beam-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=named is not None, exist_ok=True)
    if not named and not _is_private(folder):
        folder = Path(tempfile.mkdtemp(prefix="lvm-beam-"))
    name = re.sub(r"[^A-Za-z0-9_-]", "_", worker_id)[:40]
    path = folder / f"worker-{name}-{os.getpid()}.log"
    # Line by line, so that a worker that is killed leaves what it said.
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600), "w", buffering=1)


def _is_private(folder: Path) -> bool:
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077


class WithoutMessages(io.TextIOBase):
    """A stream that keeps where an error was raised and its type, and drops what it says.

    Messages of errors can name files and people; the runner gets them, the log must not.
    """

    def __init__(self, log: TextIO) -> None:
        super().__init__()
        self._log = log
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            where, error = _LINE_OF_CODE.match(line), _ERROR.match(line)
            if where is not None:
                self._log.write(f"  {where['file']}:{where['line']}\n")
            elif error is not None:
                self._log.write(f"{_now()} {error['type']} (the runner has the message)\n")
        return len(text)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


# The program


def main(argv: Sequence[str] | None = None) -> int:
    """Run a worker until the runner ends it; return an exit code.

    0: the runner ended the worker; 1: the worker failed; 2: wrong usage; 10: another Python than
    the launcher's; 11: a package is missing; 12: a package has another version; 13: the runner's
    provision service did not answer.
    """
    given = _parse(argv)
    with open_log(given.id, os.environ) as log:
        log.write(f"{_now()} worker {given.id}, process {os.getpid()} on {platform.node()}, {sys.executable}\n")
        try:
            launcher = _launcher(os.environ)
            for line in take_environment(launcher.get("environment", {}), os.environ):
                log.write(f"{line}\n")
            check_interpreter(launcher)
            spare_proxies([given.control_endpoint, given.provision_endpoint], os.environ)
            os.environ.update(_told_by_runner(given))
            log.write(f"Python {_python()}, {', '.join(f'{name} {_version(name)}' for name in _SAME_VERSION)}\n")
        except CannotStart as problem:
            message = f"error: lvm-beam-boot: {problem.message}\n"
            log.write(message)
            sys.stderr.write(message)
            return problem.code
        _end_with_parent(os.getppid(), log)
        code = _work(log)
        log.write(f"{_now()} the worker ends with exit code {code}\n")
    # Threads of units may still be at work; without a runner nobody wants what they make.
    os._exit(code)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="lvm-beam-boot",
        description="Start one worker of lvm-ai for a portable runner of Apache Beam (Flink, Spark, portable). "
        "The runner calls this program itself.",
    )
    parser.add_argument("--id", required=True, help="name of this worker, by the runner")
    parser.add_argument("--provision_endpoint", required=True, help="HOST:PORT of the provision service")
    parser.add_argument("--control_endpoint", default="", help="HOST:PORT; otherwise as the provision service says")
    parser.add_argument("--logging_endpoint", default="", help="HOST:PORT; otherwise as the provision service says")
    parser.add_argument("--artifact_endpoint", default="", help="HOST:PORT; not used, code is installed on workers")
    # Runners pass more than one worker needs, such as --semi_persist_dir.
    known, _ = parser.parse_known_args(argv)
    return known


def _launcher(environment: Mapping[str, str]) -> Mapping[str, Any]:
    """Return what the launcher says of itself; empty where it says nothing."""
    text = environment.get(LAUNCHER, "{}")
    try:
        content = json.loads(text)
    except ValueError as error:
        raise CannotStart(WRONG_USAGE, f"{LAUNCHER} is no JSON ({error}); the launcher of lvm-ai sets it") from error
    if not isinstance(content, dict):
        raise CannotStart(WRONG_USAGE, f"{LAUNCHER} is {type(content).__name__}, expected a JSON object")
    return content


def _told_by_runner(given: argparse.Namespace) -> dict[str, str]:
    """Ask the provision service; return the environment of Beam's worker.

    Raises:
        CannotStart: the service does not answer.
    """
    grpc = import_module("grpc")
    api = import_module("apache_beam.portability.api")
    json_format = import_module("google.protobuf.json_format")
    with grpc.insecure_channel(given.provision_endpoint) as channel:
        try:
            answer = api.beam_provision_api_pb2_grpc.ProvisionServiceStub(channel).GetProvisionInfo(
                api.beam_provision_api_pb2.GetProvisionInfoRequest(),
                metadata=(("worker_id", given.id),),
                timeout=_ANSWER_WITHIN_S,
                wait_for_ready=True,
            )
        except grpc.RpcError as error:
            raise CannotStart(
                RUNNER_SILENT,
                f"the provision service of the runner at {given.provision_endpoint} did not answer "
                f"({error.code().name}); expected an answer within {_ANSWER_WITHIN_S:g} s. Can this worker reach that "
                "address, and does the runner still run?",
            ) from error
    info = answer.info
    told = {
        "WORKER_ID": given.id,
        "PIPELINE_OPTIONS": json_format.MessageToJson(info.pipeline_options),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
        "CONTROL_API_SERVICE_DESCRIPTOR": _descriptor(info.control_endpoint, given.control_endpoint),
        "LOGGING_API_SERVICE_DESCRIPTOR": _descriptor(info.logging_endpoint, given.logging_endpoint),
    }
    if info.status_endpoint.url:
        told["STATUS_API_SERVICE_DESCRIPTOR"] = _descriptor(info.status_endpoint, "")
    return told


def _descriptor(by_service: Any, by_argument: str) -> str:
    text_format = import_module("google.protobuf.text_format")
    endpoints = import_module("apache_beam.portability.api").endpoints_pb2
    if by_service.url:
        return str(text_format.MessageToString(by_service))
    return str(text_format.MessageToString(endpoints.ApiServiceDescriptor(url=by_argument)))


def _end_with_parent(parent: int, log: TextIO) -> None:
    """End this process when the one that started it is gone: a killed runner stops no worker."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_FOR_PARENT_EVERY_S)
        log.write(f"{_now()} the process that started this worker is gone; the worker ends\n")
        os._exit(1)

    threading.Thread(target=watch, name="lvm-parent", daemon=True).start()


def _work(log: TextIO) -> int:
    """Become Beam's worker; return 0 when the runner ended it, 1 when it failed."""
    faulthandler.enable(log)
    # What libraries in C write, such as why they abort, goes to the log as well.
    for number in (1, 2):
        os.dup2(log.fileno(), number)
    sys.stdout = sys.stderr = WithoutMessages(log)
    for handler in logging.getLogger().handlers:  # a library may have set one up for the old stream
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(sys.stderr)
    worker = import_module("apache_beam.runners.worker.sdk_worker_main")
    log.write(f"{_now()} started\n")
    try:
        worker.main([])
    except Exception as error:  # noqa: BLE001 - whatever it was ends this process, and is named
        log.write(f"{_now()} {type(error).__module__}.{type(error).__name__}: Beam's worker ended with this error\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
