"""The command line of LVM-AI: a table of subcommands, each imported only when it is called.

A command of several modules runs them one after the other with the same arguments: jobs and
analysis import nothing of each other.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

COMMANDS = {
    "demo": ("beam_jobs.demo analysis.demo", "synthetic cohort through everything, to a report"),
    "ingest": ("beam_jobs.ingest", "device files (XML, WFDB) to checked ECG Parquet"),
    "score": ("beam_jobs.score", "ECGs to predictions: LV mass, index, LVH, ECG rules"),
    "status": ("beam_jobs.status", "progress, throughput and rejects of a run, from its folder"),
    "verify": ("beam_jobs.verify", "counts reconcile, footers agree, a sample gives the same bits"),
    "withdraw": ("beam_jobs.withdraw", "remove people from a finished run folder"),
    "models": ("models.cli", "list, fetch, check and show models"),
    "simulate": ("beam_jobs.simulate", "a synthetic cohort with its truth"),
    "train": ("models.training", "train a model on ECGs with CMR"),
    "recalibrate": ("analysis.recalibrate", "recalibrate predictions on a CMR subset"),
    "explain": ("beam_jobs.explain", "which part of an ECG moves the predicted mass"),
    "analyse": ("analysis.analyse", "a study file to tables, figures and a report"),
    "query": ("analysis.query", "SQL over the tables of a run"),
    "scale-check": ("beam_jobs.scale", "which unit and lead order do these ECGs look like?"),
}
_HELP = ("-h", "--help", "help")
# Model files hold nothing of people, and folders of models are shared.
_HOLDS_NO_PEOPLE = ("models",)


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
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in _HELP:
        sys.stdout.write(usage())
        return 0 if args else 2
    if args[0] not in COMMANDS:
        sys.stderr.write(f"error: {args[0]!r} is no command of lvm-ai\n\n{usage()}")
        return 2
    return _run(args[0], args[1:])


def _run(name: str, args: Sequence[str]) -> int:
    import logging

    from lvm_core.errors import LvmError, UsageError

    # Beam says at its import that clients of a service are missing which nothing here uses.
    logging.getLogger().addFilter(lambda record: "apitools not found" not in record.getMessage())
    try:
        with _only_for_its_readers(name, args):
            for module in COMMANDS[name][0].split():
                code = int(import_module(module).main(args))
                if code:
                    return code
        return 0
    except UsageError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except LvmError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("stopped. The same command resumes: finished units are kept\n")
        return 130


@contextmanager
def _only_for_its_readers(name: str, args: Sequence[str]) -> Iterator[None]:
    """Let the files that a command makes be read by its user alone, or as `--share` says.

    The umask covers every file of every library and process below, also temporary ones.
    """
    from lvm_core.sharing import share_in, umask_for

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
