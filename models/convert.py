"""Rewrite a model file as `.keras` with its card inside, and compare the outputs of both."""

from __future__ import annotations

import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from lvm_core.errors import LvmError, UsageError
from lvm_core.medicine.lvh import sex_codes
from lvm_core.synthetic.ecgs import synthetic_ecgs
from models.catalogue.known import ModelSource, find_spec, resolve_model
from models.catalogue.loading import load_model
from models.catalogue.saved_model import (
    ModelCard,
    Storage,
    read_card,
    rounded,
    save_model,
    weights_digest,
    write_atomically,
)
from models.catalogue.spec import ModelSpec, Predictions
from models.engines.predictor import LvmPredictor

_N_ECGS: Final = 32
_SEED: Final = 20210601


@dataclass(frozen=True, slots=True)
class Conversion:
    """The written file, and how the outputs on synthetic ECGs changed.

    Attributes:
        path: the written file.
        spec: of the `.keras` file, unpacked.
        max_difference_g: largest change of a predicted mass, grams; 0 for float32 storage.
        mean_difference_g: mean absolute change, grams.
        max_score_difference: largest change of an LVH score; 0 without that head.
    """

    path: Path
    spec: ModelSpec
    max_difference_g: float
    mean_difference_g: float
    max_score_difference: float

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
