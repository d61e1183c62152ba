"""The command line of LVM-AI: a table of subcommands, each imported only when it is called.

A command of several modules runs them one after the other with the same arguments (`main`, or the
function named behind a colon): jobs and analysis import nothing of each other.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import NoReturn

COMMANDS = {
    "demo": ("beam_jobs.demo analysis.analyse:demo", "synthetic cohort through everything, to a report"),
    "ingest": ("beam_jobs.ingest", "device files (XML, WFDB) to checked ECG Parquet"),
    "score": ("beam_jobs.score", "ECGs to predictions: LV mass, index, LVH, ECG rules"),
    "finish": ("beam_jobs.finish", "close a run whose shards are all done, or name what is missing"),
    "status": ("beam_jobs.status", "progress, throughput and rejects of a run, from its folder"),
    "verify": ("beam_jobs.verify", "counts reconcile, footers agree, a sample gives the same bits"),
    "withdraw": ("beam_jobs.withdraw", "remove people from a finished run folder"),
    "models": ("models.cli", "list, fetch, check and show models"),
    "simulate": ("beam_jobs.simulate", "a synthetic cohort with its truth"),
    "train": ("models.train", "train a model on ECGs with CMR"),
    "recalibrate": ("analysis.recalibrate", "recalibrate predictions on a CMR subset"),
    "explain": ("beam_jobs.explain", "which part of an ECG moves the predicted mass"),
    "analyse": ("analysis.analyse", "a study file to tables, figures and a report"),
    "meta": ("analysis.meta", "pool the hazard ratios of several cohorts"),
    "phenotype": ("analysis.phenotype.command", "predictions as files for genetic programs, or as rows of OMOP"),
    "release-check": ("analysis.release_check.command", "what an output desk would ask about an export"),
    "query": ("analysis.query", "SQL over the tables of a run"),
    "plot-ecg": ("beam_jobs.plot", "ECGs as the standard 12-lead print; thumbnails of what was refused"),
    "scale-check": ("beam_jobs.scale", "which unit, scale and lead order do these ECGs look like?"),
}
_HELP = ("-h", "--help", "help")
# Model files hold nothing of people, and folders of models are shared.
_HOLDS_NO_PEOPLE = ("models",)

# Importing what the largest command needs, MB of each kind of limit: measured 640 of addresses, 260
# of data. Below, numpy and Arrow abort.
_LEAST_ADDRESS_MB = 700.0
_LEAST_DATA_MB = 300.0
# Where reservations count, libraries reserve what they need and no more: scoring then takes 0.85 GB
# of addresses, not 2.3 GB.
_FRUGAL = {"OPENBLAS_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
# Number of the setting in glibc's malloc.h.
_M_ARENA_MAX = -8
# Exit codes of a program that a signal ended, as a shell sees them.
_INTERRUPTED = 128 + signal.SIGINT
_TERMINATED = 128 + signal.SIGTERM


class _Terminated(KeyboardInterrupt):
    """SIGTERM asked the program to end, as batch systems do before a time limit or preemption."""


def usage() -> str:
    """Return the text of `lvm-ai --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: lvm-ai COMMAND [options]      (lvm-ai COMMAND --help for its options)",
            "",
            "Left ventricular mass from 12-lead ECGs, at biobank scale.",
            "Research software, not for clinical use.",
            "",
            *lines,
            "",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit code: 0 done, 1 failed, 2 wrong usage."""
    if argv is None:
        _restart_as_utf8()
    _show_any_character()
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in _HELP:
        sys.stdout.write(usage())
        return 0 if args else 2
    if args[0] not in COMMANDS:
        sys.stderr.write(_unknown(args[0]))
        return 2
    code = _run(args[0], args[1:])
    if argv is None and code == _TERMINATED:
        _end_at_once()
    return code


def module_main(name: str) -> int:
    """Run a subcommand whose module was started itself, as python -m beam_jobs.score."""
    _restart_as_utf8()
    return main([name, *sys.argv[1:]])


def _restart_as_utf8() -> None:
    """Start the program again in Python's UTF-8 mode where names of files are ASCII.

    Under LC_ALL=C Python may not use UTF-8; then no name with other letters could be
    opened, and Arrow, which always takes UTF-8, would look for other files than Python.
    """
    done = os.environ.get("PYTHONUTF8") == "1"  # -X utf8=0 of the first start still counts
    if sys.getfilesystemencoding() == "ascii" and os.name == "posix" and not done:
        environment = {**os.environ, "PYTHONUTF8": "1"}
        command = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
        os.execve(sys.executable, command, environment)


def _show_any_character() -> None:
    """Write characters that the terminal's encoding lacks by their numbers."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _prepare_for_limits() -> None:
    """Look at limits of memory before anything large is imported.

    Raises:
        LvmError: a limit is too small for the libraries.
    """
    from lvm_core.errors import LvmError
    from models.machine.host import memory_limits

    for limit in memory_limits():
        if not limit.counts_reservations:
            continue
        for name, value in _FRUGAL.items():
            os.environ.setdefault(name, value)
        _share_one_arena()
        least_mb = _LEAST_ADDRESS_MB if limit.counts_addresses else _LEAST_DATA_MB
        if limit.limit_mb < least_mb:
            raise LvmError(f"{least_mb / 1000:.2f} GB are needed at least, and {limit}. Raise the limit")


def _share_one_arena() -> None:
    """Let threads share one arena of glibc's allocator; one each reserves 64 MB of addresses."""
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc alone has it
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


def _unknown(name: str) -> str:
    from lvm_core.command_line import nearest

    return f"{usage()}\nerror: {name!r} is not a command of lvm-ai{nearest(name, COMMANDS)}\n"


def _run(name: str, args: Sequence[str]) -> int:
    import logging

    from lvm_core.errors import LvmError, UsageError

    # Beam says at its import that clients of a service are missing which nothing here uses.
    logging.getLogger().addFilter(lambda record: "apitools not found" not in record.getMessage())
    try:
        _prepare_for_limits()
        with _ending_at_sigterm(), _only_for_its_readers(name, args):
            for entry in COMMANDS[name][0].split():
                module, _, function = entry.partition(":")
                code = int(getattr(import_module(module), function or "main")(args))
                if code:
                    return code
        return 0
    except UsageError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except LvmError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except MemoryError:
        from models.machine.host import memory_limits

        limits = "; ".join(map(str, memory_limits())) or "this machine has no more"
        sys.stderr.write(f"error: memory ran out: {limits}\n")
        return 1
    except _Terminated:
        sys.stderr.write("stopped by SIGTERM. Run the same command again to resume: finished units are kept\n")
        return _TERMINATED
    except KeyboardInterrupt:
        sys.stderr.write("stopped. The same command resumes: finished units are kept\n")
        return _INTERRUPTED


def _end_at_once() -> None:
    """End this process by SIGTERM itself, without waiting for threads that still compute."""
    sys.stdout.flush()
    sys.stderr.flush()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)


@contextmanager
def _ending_at_sigterm() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does, together with the processes that it started."""
    own = os.getpid()

    def end(*_: object) -> NoReturn:
        if os.getpid() != own:  # a forked worker, which has no more to say
            _end_at_once()
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():  # handlers belong to the main thread
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _only_for_its_readers(name: str, args: Sequence[str]) -> Iterator[None]:
    """Let the files that a command makes be read by its user alone, or as `--share` says.

    The umask covers every file of every library and process below, also temporary ones.
    """
    from lvm_core.command_line import share_in, umask_for

    umask = None if name in _HOLDS_NO_PEOPLE else umask_for(share_in(args))
    if umask is None:
        yield
        return
    before = os.umask(umask)
    try:
        yield
    finally:
        os.umask(before)


if __name__ == "__main__":
    sys.exit(main())
