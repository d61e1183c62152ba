"""The command `lvm-ai models`: list, fetch, check, show and convert models."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lvm_core.command_line import ArgumentParser
from models.catalogue.fetching import fetch_model
from models.catalogue.files import FileState, diagnose_file
from models.catalogue.known import KNOWN_MODELS, default_model_dir, resolve_model
from models.catalogue.loading import LoadedModel, load_model
from models.catalogue.saved_model import Storage
from models.catalogue.spec import (
    N_SAMPLES,
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


def main(argv: Sequence[str]) -> int:
    """Run `lvm-ai models ...` and return the exit code: 0 done, 1 a checked file is not usable.

    Args:
        argv: the arguments after `lvm-ai models`.

    Raises:
        LvmError: a model cannot be fetched, loaded or converted.
        UsageError: a model or a file name is not what the command takes.
    """
    options = _parser().parse_args(argv)
    model_dir: Path = options.model_dir or default_model_dir()
    match options.action:
        case "list":
            _print(_catalogue_lines(model_dir))
        case "fetch":
            _print([f"{fetch_model(options.model, options.source, model_dir)} is verified"])
        case "show":
            _print(_model_lines(load_model(resolve_model(options.model, model_dir))))
        case "convert":
            source = resolve_model(options.model, model_dir)
            _print(convert_model(source, options.output, options.storage, options.name).lines())
        case "check":
            reports = [diagnose_file(file, KNOWN_MODELS) for file in options.files]
            _print(f"{report.state.value}: {report.message}" for report in reports)
            return 0 if all(report.usable for report in reports) else 1
    return 0


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
    check = actions.add_parser("check", parents=[shared], help="is a file a model, a Git LFS pointer, or damaged?")
    check.add_argument("files", nargs="+", type=Path, metavar="FILE")
    show = actions.add_parser("show", parents=[shared], help="inputs, scaling, outputs, layers")
    convert = actions.add_parser("convert", parents=[shared], help="rewrite as .keras")
    for action in (show, convert):
        action.add_argument("model", help="id, or path of an .h5 or .keras file")
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
    return parser


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")


def _catalogue_lines(model_dir: Path) -> list[str]:
    """Return a table of the known models, then licence notes and warnings."""
    cells = [("MODEL", "STATE", "INPUTS", "BYTES", "TITLE")]
    for spec in KNOWN_MODELS:
        roles = "+".join(input_role(name).value for name in spec.inputs)
        cells.append((spec.model_id, _state(spec, model_dir), roles, str(spec.size_bytes), spec.title))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]
    notes = dict.fromkeys(f"{spec.origin.value}: {spec.licence}" for spec in KNOWN_MODELS)
    warnings = [f"{spec.model_id}: {spec.warning}" for spec in KNOWN_MODELS if spec.warning]
    return [*lines, "", *notes, *warnings]


def _state(spec: ModelSpec, model_dir: Path) -> str:
    if spec.origin is ModelOrigin.EMBEDDED:
        return "embedded"
    state = diagnose_file(model_dir / spec.file_name, KNOWN_MODELS).state
    names = {FileState.MISSING: "not fetched", FileState.KNOWN: "fetched"}
    return names.get(state, f"damaged ({state.value})")


def _model_lines(loaded: LoadedModel) -> list[str]:
    """Return identity, inputs with their scaling, outputs, parameters and layers of a model."""
    spec, keras_model = loaded.spec, loaded.keras_model
    return [
        f"{spec.model_id}: {spec.title}",
        *([f"WARNING     {spec.warning}"] if spec.warning else []),
        f"file        {spec.file_name}, {spec.size_bytes} bytes, SHA-256 {spec.sha256}",
        f"source      {spec.description}",
        f"licence     {spec.licence}",
        f"parameters  {keras_model.count_params():,}",
        *(f"input       {name}: {_input_text(name, spec.constants)}" for name in loaded.input_order),
        *(f"output      {name}: {_output_text(name, spec.constants)}" for name in loaded.outputs),
        "layers",
        *map(_layer_text, keras_model.layers),
    ]


def _input_text(name: str, constants: ModelConstants) -> str:
    role = input_role(name)
    if role is InputRole.ECG:
        scalings = "; ".join(f"{one.value}: microvolts / {one.input_unit_uv:g}" for one in InputConvention)
        return f"{N_SAMPLES} samples x 12 leads at 500 Hz, {scalings}"
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


def _layer_text(layer: Any) -> str:
    shape = str(tuple(layer.output.shape[1:]))
    return f"  {type(layer).__name__:<14} {layer.name:<56} {shape:<12} {layer.count_params():>9,}"


if __name__ == "__main__":
    import lvm_ai  # its messages and exit codes

    sys.exit(lvm_ai.module_main("models"))
