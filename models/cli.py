"""The command `lvm-ai models`: list, fetch, check, show and convert models."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lvm_core.command_line import ArgumentParser
from lvm_core.errors import LvmError, UsageError
from models.catalogue.fetching import check_model, fetch_model
from models.catalogue.files import FileState
from models.catalogue.known import KNOWN_MODELS, default_model_dir, resolve_model
from models.catalogue.loading import LoadedModel, load_model
from models.catalogue.saved_model import Storage
from models.catalogue.spec import (
    OUTPUT_LVH,
    OUTPUT_MASS,
    InputConvention,
    InputRole,
    ModelConstants,
    ModelOrigin,
    ModelSpec,
    input_role,
)
from models.convert import convert_model


@dataclass(frozen=True, slots=True)
class CatalogueRow:
    """One model of the catalogue and whether it can be used here.

    Attributes:
        spec: the model.
        state: `embedded`, `fetched`, `not fetched`, or `damaged (...)`.
    """

    spec: ModelSpec
    state: str


def catalogue_rows(model_dir: Path) -> list[CatalogueRow]:
    """Return the known models and their state in the folder of the fetched models."""
    return [CatalogueRow(spec, _state(spec, model_dir)) for spec in KNOWN_MODELS]


def catalogue_lines(rows: Sequence[CatalogueRow]) -> list[str]:
    """Return a table: id, state, inputs, file size, title; then licence notes and warnings."""
    cells = [("MODEL", "STATE", "INPUTS", "BYTES", "TITLE")]
    for row in rows:
        roles = "+".join(input_role(name).value for name in row.spec.inputs)
        cells.append((row.spec.model_id, row.state, roles, str(row.spec.size_bytes), row.spec.title))
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[4]]) for line in cells
    ]
    notes = dict.fromkeys(f"{row.spec.origin.value}: {row.spec.licence}" for row in rows)
    warnings = dict.fromkeys(f"{row.spec.model_id}: {row.spec.warning}" for row in rows if row.spec.warning)
    return [*lines, "", *notes, *warnings]


def model_lines(loaded: LoadedModel) -> list[str]:
    """Return identity, inputs with their scaling, outputs, parameters and layers of a model."""
    spec = loaded.spec
    lines = [
        f"{spec.model_id}: {spec.title}",
        f"file        {spec.file_name}, {spec.size_bytes} bytes, SHA-256 {spec.sha256}",
        f"source      {spec.description}",
        f"licence     {spec.licence}",
        f"parameters  {loaded.keras_model.count_params():,}",
    ]
    if spec.warning:
        lines.insert(1, f"WARNING     {spec.warning}")
    constants = spec.constants
    lines += [f"input       {name}: {_input_text(name, constants)}" for name in loaded.input_order]
    lines += [f"output      {name}: {_output_text(name, constants)}" for name in loaded.outputs]
    return [*lines, "layers", *_layer_lines(loaded.keras_model)]


def _state(spec: ModelSpec, model_dir: Path) -> str:
    if spec.origin is ModelOrigin.EMBEDDED:
        return "embedded"
    state = check_model(model_dir / spec.file_name).state
    if state is FileState.MISSING:
        return "not fetched"
    return "fetched" if state is FileState.KNOWN else f"damaged ({state.value})"


def _input_text(name: str, constants: ModelConstants) -> str:
    role = input_role(name)
    if role is InputRole.ECG:
        choices = "; ".join(
            f"{convention.value}: microvolts / {convention.input_unit_uv:g}" for convention in InputConvention
        )
        return f"5000 samples x 12 leads at 500 Hz, {choices}"
    if role is InputRole.SEX:
        return "one-hot [female, male]"
    scale = constants.age_years if role is InputRole.AGE else constants.bmi_of(name)
    return f"(value - {scale.mean!r}) / {scale.sd!r}, {scale.unit}"


def _output_text(name: str, constants: ModelConstants) -> str:
    if name == OUTPUT_MASS:
        return f"grams = {constants.lvm_g.sd:.2f} * z + {constants.lvm_g.mean:.2f}"
    if name == OUTPUT_LVH:
        return "softmax, second value is the LVH score; not a calibrated probability"
    return "not used"


def _layer_lines(keras_model: Any) -> list[str]:
    return [
        f"  {type(layer).__name__:<14} {layer.name:<56} "
        f"{tuple(layer.output.shape[1:])!s:<12} {layer.count_params():>9,}"
        for layer in keras_model.layers
    ]


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
