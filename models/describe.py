"""What is known about models, as rows and lines of text for `lvm-ai models`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.catalog import KNOWN_MODELS
from models.fetching import check_model
from models.file_check import FileState
from models.loading import LoadedModel
from models.spec import (
    OUTPUT_LVH,
    OUTPUT_MASS,
    InputConvention,
    InputRole,
    ModelConstants,
    ModelOrigin,
    ModelSpec,
    input_role,
)


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
