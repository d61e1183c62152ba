"""The command `lvm-ai models`: list, fetch, check, show and convert models."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from lvm_core.command_line import ArgumentParser
from lvm_core.errors import LvmError, UsageError
from models.catalog import default_model_dir, resolve_model
from models.convert import convert_model
from models.describe import catalogue_lines, catalogue_rows, model_lines
from models.fetching import check_model, fetch_model
from models.loading import load_model
from models.saved_model import Storage


def main(argv: Sequence[str]) -> int:
    """Run `lvm-ai models ...` and return the exit code.

    Args:
        argv: the arguments after `lvm-ai models`.

    Returns:
        0 done; 1 a model could not be fetched, loaded, or is not usable; 2 wrong usage.
    """
    try:
        options = _parser().parse_args(argv)
    except SystemExit as stop:  # argparse has printed its help or its message
        return int(stop.code or 0)
    try:
        return _run(options)
    except UsageError as error:
        _complain(error)
        return 2
    except LvmError as error:
        _complain(error)
        return 1


def _run(options: argparse.Namespace) -> int:
    model_dir: Path = options.model_dir or default_model_dir()
    if options.action == "list":
        _echo(catalogue_lines(catalogue_rows(model_dir)))
    elif options.action == "fetch":
        _echo([f"{fetch_model(options.model, options.source, model_dir)} is verified"])
    elif options.action == "show":
        _echo(model_lines(load_model(resolve_model(options.model, model_dir))))
    elif options.action == "convert":
        source = resolve_model(options.model, model_dir)
        _echo(convert_model(source, options.output, options.storage, options.name).lines())
    else:
        return _check(options.files)
    return 0


def _check(files: Sequence[Path]) -> int:
    reports = [check_model(file) for file in files]
    _echo(f"{report.state.value}: {report.message}" for report in reports)
    return 0 if all(report.usable for report in reports) else 1


def _parser() -> ArgumentParser:
    shared = ArgumentParser(add_help=False)
    shared.add_argument(
        "--model-dir",
        type=Path,
        metavar="DIR",
        help="folder of the fetched models (default: .lvm-ai/models in the home folder)",
    )
    parser = ArgumentParser(prog="lvm-ai models", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("list", parents=[shared], help="the known models, and which are here")
    fetch = actions.add_parser("fetch", parents=[shared], help="copy a published model here and verify its SHA-256")
    fetch.add_argument("model", help="id or file name of a published model")
    fetch.add_argument(
        "--from",
        dest="source",
        required=True,
        metavar="SOURCE",
        help="folder with the file (a clone with Git LFS), the file, or an http(s) address",
    )
    check = actions.add_parser("check", parents=[shared], help="tell a model from a Git LFS pointer or a damaged file")
    check.add_argument("files", nargs="+", type=Path, metavar="FILE")
    show = actions.add_parser("show", parents=[shared], help="inputs, scaling, outputs, layers")
    show.add_argument("model", help="id, or path of an .h5 or .keras file")
    _add_convert(actions.add_parser("convert", parents=[shared], help="rewrite as .keras"))
    return parser


def _add_convert(convert: ArgumentParser) -> None:
    convert.add_argument("model", help="id, or path of an .h5 or .keras file")
    convert.add_argument(
        "--output", required=True, type=Path, metavar="OUT", help="file to write, .keras, or .keras.xz for a packed one"
    )
    convert.add_argument(
        "--storage",
        choices=[storage.value for storage in Storage],
        default=Storage.FLOAT32.value,
        help="of the weights; float16 halves the file, its effect is printed (default: float32)",
    )
    convert.add_argument("--name", metavar="ID", help="id that the file states (default: the stem of OUT)")


def _echo(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")


def _complain(error: LvmError) -> None:
    sys.stderr.write(f"lvm-ai models: {error}\n")


if __name__ == "__main__":
    import lvm_ai  # its messages and exit codes

    sys.exit(lvm_ai.module_main("models"))
