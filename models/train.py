"""The command `lvm-ai train`: fit a model to paired ECG and CMR; interrupted runs can continue."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from lvm_core.command_line import ArgumentParser, add_share_option
from lvm_core.errors import LvmError, UsageError
from lvm_core.settings_text import parse_settings
from models.catalogue.saved_model import ModelCard, save_model, weights_digest, write_atomically
from models.catalogue.spec import ModelConstants
from models.machine.runtime import import_keras, import_tensorflow
from models.training.config import Architecture, TrainingConfig, TrainingPrecision, load_config
from models.training.data import LVH_PRESET, Part, TrainingSet, load_training_set, split_csv
from models.training.fit import FitState, Fitter, constants_of, export_model
from models.training.progress import TrainingProgress, say, write_history

_MODEL_FILE: Final = "model.keras"
_REPORT_FILE: Final = "training_report.json"
_CONFIG_FILE: Final = "config.yaml"
_SPLIT_FILE: Final = "split.csv"
_STATE_FILE: Final = "state.npz"
_TITLES: Final = {Architecture.AGE_SEX_BMI: "ECG with age, sex and BMI", Architecture.ECG_ONLY: "ECG only"}
_WARNING: Final = "NOT CLINICAL: trained with lvm-ai train, validated by nobody but its trainer"


def main(argv: Sequence[str]) -> int:
    """Run `lvm-ai train ...` and return the exit code: 0 done, 130 stopped by the user."""
    parser = ArgumentParser(prog="lvm-ai train", description=__doc__)
    parser.add_argument("--config", required=True, type=Path, metavar="F", help="YAML file, see docs/training.md")
    add_share_option(parser)
    options = parser.parse_args(argv)
    try:
        train(load_config(options.config))
    except KeyboardInterrupt:
        say("stopped. The same command continues after the last whole epoch")
        return 130
    return 0


def train(config: TrainingConfig) -> Path:
    """Train, or continue a training, and return the path of the model file.

    The run folder gets config.yaml, split.csv, history.csv, history.svg, training_report.json and
    model.keras. The same configuration continues after the last whole epoch; a finished folder is
    not changed.

    Raises:
        UsageError: the run in the folder began with another configuration or other data.
        LvmError: the data leave nothing to train on.
    """
    folder = config.output
    _claim(folder, config)
    if (folder / _MODEL_FILE).is_file() and (folder / _REPORT_FILE).is_file():
        say(f"{folder / _MODEL_FILE} is finished; nothing to do")
        return folder / _MODEL_FILE
    _use_permitted_instructions(config)
    data = load_training_set(config, folder)
    state = _state(folder, data)  # before anything is written, because it refuses other data
    write_atomically(folder / _SPLIT_FILE, split_csv(data.participant_id.tolist(), config.split).encode())
    constants = constants_of(data, config)
    say(_data_text(data))
    started_s = time.monotonic()
    with TrainingProgress(len(data.rows_of(Part.TRAIN)) * config.epochs) as progress:
        fitter = Fitter(data, config, constants, progress.advance)
        fitter.restore(state)
        progress.start_at(len(data.rows_of(Part.TRAIN)) * state.epoch)
        _fit(fitter, state, config, progress)
    return _finish(fitter, state, config, data, constants, time.monotonic() - started_s)


def _fit(fitter: Fitter, state: FitState, config: TrainingConfig, progress: TrainingProgress) -> None:
    patience = config.epochs if config.patience is None else config.patience
    while state.epoch < config.epochs and state.epoch - state.best_epoch < patience:
        started_s = time.monotonic()
        row = fitter.fit_epoch(state)
        row["seconds"] = round(time.monotonic() - started_s, 1)
        state.save(config.output / _STATE_FILE)
        write_history(state.history, state.best_epoch, config.output)
        progress.epoch_done(row, is_best=state.best_epoch == state.epoch)
    if not state.best_weights:
        raise LvmError(
            f"the validation loss was not finite in {state.epoch} epochs; lower learning_rate "
            f"({config.learning_rate:g}) or set clip_norm, in a new output folder"
        )


def _finish(
    fitter: Fitter,
    state: FitState,
    config: TrainingConfig,
    data: TrainingSet,
    constants: ModelConstants,
    seconds: float,
) -> Path:
    """Evaluate the best epoch on the people held out, and write the model and the report."""
    fitter.model.set_weights(state.best_weights)
    results: dict[str, Any] = {"best_epoch": state.best_epoch, "epochs": state.epoch}
    for part in (Part.VALID, Part.TEST):
        rows = data.rows_of(part)
        if rows.size:
            results |= fitter.evaluate(rows, part.value)
            results[f"{part.value}_mae_g"] = results[f"{part.value}_mae_z"] * constants.lvm_g.sd
    training = {
        # Without paths, which say more about a place than about a model.
        "config": config.model_dump(mode="json", exclude={"ecgs", "participants", "cmr", "output"}),
        "n_ecgs": data.n_by_part(),
        "n_people": len(set(data.participant_id.tolist())),
        "n_lvh": int(data.lvh.sum()),
        "n_lvh_unknown": int((~data.lvh_known).sum()),
        "lvh_preset": LVH_PRESET.value,
        "excluded": data.excluded,
        "results": {k: v if np.isfinite(v) else None for k, v in results.items()},
        "versions": _versions(),
    }
    card = _card(config, state, constants, training)
    path = config.output / _MODEL_FILE
    save_model(export_model(state.best_weights, config), card, path)
    total_s = sum(row["seconds"] for row in state.history)
    report = {
        **training,
        "weights_sha256": card.weights_sha256,
        "training_s": round(total_s, 1),
        "this_call_s": round(seconds, 1),
        "ecg_per_s": round(data.n_by_part()["train"] * state.epoch / max(total_s, 1e-9), 2),
    }
    write_atomically(config.output / _REPORT_FILE, json.dumps(report, indent=1).encode())
    say(_result_text(path.resolve(), results))
    return path


def _card(config: TrainingConfig, state: FitState, constants: ModelConstants, training: dict[str, Any]) -> ModelCard:
    n = training["n_ecgs"]
    words = config.description or "data of the trainer"
    return ModelCard(
        model_id=config.name,
        title=f"{config.name}: {_TITLES[config.architecture]}, {config.loss.value} loss",
        description=f"{words}; {n['train']} ECGs to train, {n['valid']} to choose the epoch",
        licence=config.licence,
        warning=_WARNING,
        constants=constants,
        weights_sha256=weights_digest(state.best_weights),
        training=training,
    )


def _claim(folder: Path, config: TrainingConfig) -> None:
    """Create the run folder, or refuse one in which a run with other settings began."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _CONFIG_FILE
    now = config.model_dump(mode="json", exclude={"output"})
    if not path.is_file():
        write_atomically(path, yaml.safe_dump(now, sort_keys=False).encode())
        return
    begun = parse_settings(path.read_bytes(), TrainingConfig, str(path), output=str(folder))
    before = begun.model_dump(mode="json")
    changed = [name for name in now if before[name] != now[name]]
    if changed:
        texts = ", ".join(f"{name} was {before[name]!r} and is {now[name]!r}" for name in changed)
        raise UsageError(
            f"the run in {folder} began with another configuration: {texts}. Restore it, or choose "
            "another output folder"
        )


def _state(folder: Path, data: TrainingSet) -> FitState:
    digest = _data_digest(data)
    path = folder / _STATE_FILE
    if not path.is_file():
        return FitState(data_sha256=digest)
    state = FitState.load(path)
    if state.data_sha256 != digest:
        raise UsageError(
            f"the run in {folder} began with other data ({len(data)} ECGs now); restore them, or "
            "choose another output folder"
        )
    say(f"continuing after epoch {state.epoch}")
    return state


def _data_digest(data: TrainingSet) -> str:
    digest = hashlib.sha256()
    names = ("ecg_id", "participant_id", "uv_per_count", "age_years", "sex_code", "bmi_kg_m2")
    for name in (*names, "lvm_cmr_g", "lvh", "lvh_known"):
        column = getattr(data, name)
        text = column.dtype.kind == "U"
        digest.update("\0".join(column.tolist()).encode() if text else column.tobytes())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "tensorflow": str(import_tensorflow().__version__),
        "keras": str(import_keras().__version__),
        "numpy": np.__version__,
    }


def _use_permitted_instructions(config: TrainingConfig) -> None:
    """Keep oneDNN from AMX in bfloat16: some virtual machines announce it but do not permit it."""
    if config.precision is TrainingPrecision.MIXED_BFLOAT16:
        os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")


def _data_text(data: TrainingSet) -> str:
    parts = ", ".join(f"{n} {name}" for name, n in data.n_by_part().items())
    left = ", ".join(f"{n} {reason}" for reason, n in data.excluded.items()) or "none"
    return f"{len(data)} ECGs with CMR ({parts}), {int(data.lvh.sum())} with LVH; left out: {left}"


def _result_text(path: Path, results: dict[str, Any]) -> str:
    name = "test" if "test_r" in results else "valid"
    return (
        f"{path}: best epoch {results['best_epoch']} of {results['epochs']}, {name} "
        f"r = {results[f'{name}_r']:.3f}, mean absolute error {results[f'{name}_mae_g']:.1f} g"
    )


if __name__ == "__main__":
    import lvm_ai  # its messages and exit codes

    sys.exit(lvm_ai.module_main("train"))
