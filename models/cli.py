"""The command `lvm-ai models`: list, fetch, check, show and convert models."""

from __future__ import annotations

import lzma
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from lvm_core.command_line import ArgumentParser
from lvm_core.errors import LvmError, UsageError
from lvm_core.medicine.lvh import sex_codes
from lvm_core.synthetic.ecgs import synthetic_ecgs
from models.catalogue.files import FileState, diagnose_file
from models.catalogue.known import KNOWN_MODELS, ModelSource, default_model_dir, fetch_model, find_spec, resolve_model
from models.catalogue.loading import LoadedModel, load_model
from models.catalogue.saved_model import (
    ModelCard,
    Storage,
    read_card,
    rounded,
    save_model,
    weights_digest,
    write_atomically,
)
from models.catalogue.spec import (
    N_SAMPLES,
    OUTPUT_LVH,
    OUTPUT_MASS,
    InputConvention,
    InputRole,
    ModelConstants,
    ModelOrigin,
    ModelSpec,
    Predictions,
    input_role,
)
from models.engines.predictor import LvmPredictor

# The synthetic ECGs on which a converted model must give the outputs of its source.
_N_ECGS: Final = 32
_SEED: Final = 20210601


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
    check = actions.add_parser(
        "check", parents=[shared], help="find out whether a file is a model, a Git LFS pointer, or damaged"
    )
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
        help="number type of the weights; float16 halves the file and changes outputs slightly (default: float32)",
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


@dataclass(frozen=True, slots=True)
class Conversion:
    """The written file, and how the outputs on synthetic ECGs changed."""

    path: Path
    spec: ModelSpec  # of the `.keras` file, unpacked
    max_difference_g: float  # largest change of a predicted mass; 0 for float32 storage
    mean_difference_g: float  # mean absolute change of a predicted mass
    max_score_difference: float  # largest change of an LVH score; 0 without that head

    def lines(self) -> Iterator[str]:
        """Yield size, checksum and changes of the outputs in words."""
        spec, size = self.spec, self.path.stat().st_size
        yield f"{self.path}: {spec.model_id}, {size} bytes"
        yield f".keras file: {spec.size_bytes} bytes, SHA-256 {spec.sha256}"
        if self.max_difference_g == 0 == self.max_score_difference:
            yield f"outputs on {_N_ECGS} synthetic ECGs are identical, bit for bit"
        else:
            yield (
                f"outputs on {_N_ECGS} synthetic ECGs changed by at most "
                f"{self.max_difference_g:.4f} g (mean {self.mean_difference_g:.4f} g), LVH score "
                f"by at most {self.max_score_difference:.6f}"
            )


def convert_model(
    source: ModelSource, output: Path, storage: Storage | str = Storage.FLOAT32, name: str | None = None
) -> Conversion:
    """Write a model as `.keras`, read it back, and compare the outputs of both.

    Args:
        source: from `resolve_model`.
        output: ends in `.keras`, or in `.keras.xz` for a packed file such as those in
            `models/demo`; must not exist.
        storage: `float16` halves the file and rounds the weights.
        name: id that the file states; None for the stem of `output`.

    Raises:
        UsageError: the output has another ending, exists already, or its stem is the id of another
            model in the catalogue.
        LvmError: the model cannot be loaded; or with float32 storage an output changed, and then
            nothing is written.
    """
    storage = Storage(storage)
    packed = output.suffix == ".xz"
    keras_path = output.with_suffix("") if packed else output
    model_id = name or keras_path.stem
    _check_output(output, keras_path, model_id, name)
    before = _outputs(LvmPredictor(source))
    partial = keras_path.with_name(f".converting-{keras_path.name}")
    try:
        _write(source, partial, storage, model_id)
        model = resolve_model(str(partial))
        after = _outputs(LvmPredictor(model))
        conversion = _compared(output, model.spec, before, after)
        if storage is Storage.FLOAT32 and (conversion.max_difference_g > 0 or conversion.max_score_difference > 0):
            raise LvmError(
                f"the outputs of {source.spec.model_id} changed by up to "
                f"{conversion.max_difference_g:g} g when it was rewritten, expected the same bits; "
                "nothing was written. Please report this"
            )
        content = partial.read_bytes()
        write_atomically(output, lzma.compress(content) if packed else content)
    finally:
        partial.unlink(missing_ok=True)
    return conversion


def _check_output(output: Path, keras_path: Path, model_id: str, name: str | None) -> None:
    if keras_path.suffix != ".keras":
        raise UsageError(f"--output is {output}, expected a name that ends in .keras or .keras.xz")
    if output.exists():
        raise UsageError(f"{output} exists; expected a new name, or remove the file first")
    if name is None and find_spec(model_id) is not None:
        raise UsageError(
            f"{output} would state the id {model_id!r} of another model in the catalogue; "
            "choose another file name, or give an id with --name"
        )


def _write(source: ModelSource, path: Path, storage: Storage, model_id: str) -> None:
    loaded = load_model(source)
    weights = rounded(loaded.keras_model.get_weights(), storage)
    loaded.keras_model.set_weights(weights)
    spec = source.spec
    card = None if source.path is None else read_card(source.path)
    save_model(
        loaded.keras_model,
        ModelCard(
            model_id=model_id,
            title=spec.title,
            description=f"{spec.description}; {storage.value} storage of {spec.file_name}, SHA-256 {spec.sha256}",
            licence=spec.licence,
            warning=spec.warning,
            constants=spec.constants,
            weights_sha256=weights_digest(weights),
            training={} if card is None else card.training,
        ),
        path,
        storage,
    )


def _outputs(predictor: LvmPredictor) -> Predictions:
    ecgs = synthetic_ecgs(_N_ECGS, _SEED)
    return predictor.predict(
        ecgs.counts,
        ecgs.uv_per_count,
        ecgs.age_years.astype(np.float32),
        sex_codes(ecgs.sex),
        (ecgs.weight_kg / (ecgs.height_cm / 100) ** 2).astype(np.float32),
    )


def _compared(path: Path, spec: ModelSpec, before: Predictions, after: Predictions) -> Conversion:
    change_g = np.abs(after.lvm_pred_g.astype(np.float64) - before.lvm_pred_g)
    change = np.nan_to_num(np.abs(after.lvh_score.astype(np.float64) - before.lvh_score))
    return Conversion(path, spec, float(change_g.max()), float(change_g.mean()), float(change.max()))


if __name__ == "__main__":
    import lvm_ai  # its messages and exit codes

    sys.exit(lvm_ai.module_main("models"))
