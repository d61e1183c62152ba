"""The command `lvm-ai recalibrate`: fit predictions to the CMR of a part of the cohort."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.study.cmr import pair_with_cmr
from analysis.study.inputs import prediction_paths, read_cmr
from lvm_core.command_line import ArgumentParser, add_share_option
from lvm_core.errors import UsageError
from lvm_core.medicine.body import lv_mass_index_g_m2
from lvm_core.medicine.lvh import LvhPreset, lvh_arrays, parse_sex, sex_codes
from lvm_core.medicine.recalibration import CmrSubset, Recalibrated, Recalibration, cross_fitted, fit_recalibration
from lvm_core.tables import schemas

_COLUMNS: Final = ("ecg_id", "participant_id", "recorded_at", "model_id", "lvm_pred_g", "lvh_score", "sex", "bsa_m2")
_CONVENTIONS: Final = ("input_convention", "bsa", "lvh_preset")
_N_QUINTILES: Final = 5
# Okabe M, Ito K, Color Universal Design, 2008. By sex code.
_STYLES: Final = {0: {"color": "#D55E00", "label": "women"}, 1: {"color": "#0072B2", "label": "men"}}


def main(argv: Sequence[str]) -> int:
    """Run `lvm-ai recalibrate`; mistakes are raised."""
    args = _parser().parse_args(argv)
    if not 0 < args.alpha < 1:
        raise UsageError(f"--alpha is {args.alpha}, expected between 0 and 1, for example 0.1")
    for path in filter(None, (args.output, args.figure)):
        if path.exists() and not args.overwrite:
            raise UsageError(f"{path} exists; choose another name, or add --overwrite")
        if not path.parent.is_dir():
            raise UsageError(f"the folder of {path} does not exist; make it first")
    predictions, identity = _read_predictions(args.predictions)
    cmr, notes = read_cmr(args.cmr)
    paired = pair_with_cmr(predictions, cmr, max_days=args.max_days)
    people = _cmr_subset(paired, LvhPreset(identity["lvh_preset"]))
    if not len(people):
        raise UsageError(
            f"nobody of {predictions['participant_id'].nunique()} people with predictions has a "
            f"CMR mass within the days allowed ({len(cmr)} rows of CMR); are identifiers written in the same way?"
        )
    fitted = fit_recalibration(people, alpha=args.alpha, by_sex=args.by_sex)
    provenance = _provenance(people, paired, args.max_days, fitted.warnings)
    recalibration = fitted.named(**identity, provenance=provenance)
    made = cross_fitted(people, alpha=args.alpha, by_sex=args.by_sex)
    partial = args.output.with_name(f".{args.output.name}.{os.getpid()}.tmp")
    partial.write_text(json.dumps(recalibration.to_dict(), indent=1) + "\n", encoding="utf-8")
    partial.replace(args.output)
    if args.figure is not None:
        args.figure.unlink(missing_ok=True)  # a file that is written over keeps its readers
        _write_figure(people, made, recalibration.model_id, args.figure)
    for warning in (*notes, *fitted.warnings):
        sys.stderr.write(f"warning: {warning}\n")
    sys.stdout.write(_text(recalibration, cross_fitted_table(people, made), args.output))
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="lvm-ai recalibrate",
        description="Fit predictions to the CMR of a part of the cohort: a line for the mass, a "
        "curve for the LVH score, intervals by sex. Research software, not for clinical use.",
    )
    parser.add_argument("--predictions", nargs="+", type=Path, required=True, help="run folder of lvm-ai score")
    parser.add_argument("--cmr", type=Path, required=True, help="CSV or Parquet: participant_id, cmr_date, lvm_cmr_g")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--max-days", type=int, default=None, help="largest distance of ECG and CMR, in days")
    line = parser.add_mutually_exclusive_group()
    line.add_argument("--by-sex", action="store_true", help="fit a line for each sex")
    line.add_argument("--overall", action="store_true", help="fit one line for everybody (the default)")
    parser.add_argument(
        "--alpha",
        type=float,
        default=0.1,
        help="share of CMR measurements that intervals may miss (default: %(default)s)",
    )
    parser.add_argument("--figure", type=Path, default=None, help="PNG file to draw")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier file")
    add_share_option(parser)
    return parser


def _read_predictions(paths: Sequence[Path]) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return a row per ECG, and model, checksum and conventions; refuse more than one of them."""
    files = [file for path in paths for file in _files(path)]
    tables, identities = [], set()
    for file in files:
        try:
            metadata = pq.read_metadata(file).metadata or {}
            settings = json.loads(metadata[schemas.FOOTER_KEY])["provenance"]["settings"]
            tables.append(pq.read_table(file, columns=list(_COLUMNS)).to_pandas())
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            raise UsageError(
                f"{file} cannot be read as predictions ({error}); expected a file of lvm-ai score"
            ) from error
        models = {model["model_id"]: model["sha256"] for model in settings["models"]}
        shared = tuple(str(settings[name]) for name in _CONVENTIONS)
        identities |= {(name, models[name], *shared) for name in set(tables[-1]["model_id"])}
    if len(identities) != 1:
        found = "; ".join(", ".join(identity) for identity in sorted(identities)) or "none"
        raise UsageError(
            f"the predictions have {len(identities)} kinds of model, checksum, input convention, "
            f"BSA formula and LVH preset ({found}); expected one: score without --fallback-model"
        )
    identity = dict(zip(("model_id", "model_sha256", *_CONVENTIONS), identities.pop(), strict=True))
    table = pd.concat(tables, ignore_index=True)
    n_again = int(table["ecg_id"].duplicated().sum())
    if n_again:
        raise UsageError(
            f"the predictions hold {n_again} ECGs more than once; expected each once. Is a file "
            "copied, or a run named twice? lvm-ai status names files that are not of a run"
        )
    return table, identity


def _files(path: Path) -> list[Path]:
    files = prediction_paths(path)
    if not files or not files[0].is_file():
        raise UsageError(f"{path} holds no predictions; expected a run folder or Parquet files")
    return files


def _cmr_subset(paired: pd.DataFrame, preset: LvhPreset) -> CmrSubset:
    """Return people with a prediction, a CMR mass and a known sex, in order of participant_id."""
    known = paired[paired["sex"].notna()].sort_values("participant_id", kind="stable")
    sex_code = sex_codes([parse_sex(text) for text in known["sex"]])
    lvm_cmr_g = known["lvm_cmr_g"].to_numpy(np.float64)
    index = np.asarray(lv_mass_index_g_m2(lvm_cmr_g, known["bsa_m2"].to_numpy(np.float64)))
    lvh = lvh_arrays(index, sex_code, preset)
    return CmrSubset(
        known["participant_id"].tolist(),
        known["lvm_pred_g"].to_numpy(np.float64),
        known["lvh_score"].to_numpy(np.float64),
        lvm_cmr_g,
        sex_code,
        lvh.value & lvh.known,
        lvh.known,
    )


def _provenance(
    people: CmrSubset, paired: pd.DataFrame, max_days: int | None, warnings: Sequence[str]
) -> dict[str, Any]:
    dates = paired["cmr_date"].dropna().dt.strftime("%Y-%m-%d")
    return {
        "n_people": len(people),
        "n_women": int((people.sex_code == 0).sum()),
        "n_men": int((people.sex_code == 1).sum()),
        "n_lvh": int(people.lvh_cmr.sum()),
        "max_days": max_days,
        "cmr_dates": [dates.min(), dates.max()] if len(dates) else None,
        "data_sha256": _digest(people),
        "versions": {"numpy": np.__version__, "pandas": pd.__version__, "python": platform.python_version()},
        "warnings": list(warnings),
        "meaning": "intervals cover a CMR measurement, not the true mass",
    }


def _digest(people: CmrSubset) -> str:
    digest = hashlib.sha256("\0".join(people.participant_id).encode())
    for column in (people.lvm_pred_g, people.lvm_cmr_g, people.sex_code):
        digest.update(column.tobytes())
    return digest.hexdigest()


def cross_fitted_table(people: CmrSubset, made: Recalibrated) -> pd.DataFrame:
    """Return errors and coverage; each person is judged by fits that have not seen the person.

    The columns are group, n, mae_before_g, mae_after_g, slope_before, slope_after (of CMR on
    predicted mass) and coverage; a row for everybody, each sex, each fifth of the prediction, and
    LVH by CMR, where intervals are expected to miss more.
    """
    fifth = pd.qcut(people.lvm_pred_g, _N_QUINTILES, labels=False, duplicates="drop")
    groups: list[tuple[str, NDArray[np.bool_]]] = [
        ("all", np.ones(len(people), dtype=bool)),
        ("women", people.sex_code == 0),
        ("men", people.sex_code == 1),
        *((f"fifth {k + 1} of the prediction", fifth == k) for k in range(_N_QUINTILES)),
        ("LVH by CMR", people.lvh_cmr),
    ]
    return pd.DataFrame([_group(name, chosen, people, made) for name, chosen in groups])


def _group(name: str, chosen: NDArray[np.bool_], people: CmrSubset, made: Recalibrated) -> dict[str, Any]:
    cmr_g, before_g = people.lvm_cmr_g[chosen], people.lvm_pred_g[chosen]
    after_g = made.lvm_recal_g[chosen]
    inside = (made.lvm_lo_g[chosen] <= cmr_g) & (cmr_g <= made.lvm_hi_g[chosen])
    return {
        "group": name,
        "n": int(chosen.sum()),
        "mae_before_g": _mean(np.abs(before_g - cmr_g)),
        "mae_after_g": _mean(np.abs(after_g - cmr_g)),
        "slope_before": _slope(before_g, cmr_g),
        "slope_after": _slope(after_g, cmr_g),
        "coverage": _mean(inside.astype(np.float64)),
    }


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else float("nan")


def _slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    if x.size < 3 or np.ptp(x) == 0:
        return float("nan")
    return float(np.cov(x, y)[0, 1] / np.var(x, ddof=1))


def _write_figure(people: CmrSubset, made: Recalibrated, model_id: str, path: Path) -> None:
    """Draw CMR against raw and against cross-fitted recalibrated mass; one dot is one person."""
    figure = Figure(figsize=(10.0, 5.0), layout="constrained")
    before, after = figure.subplots(1, 2, sharey=True)
    values = np.concatenate([people.lvm_pred_g, made.lvm_recal_g, people.lvm_cmr_g])
    limits = float(values.min()) - 5, float(values.max()) + 5
    for code, style in _STYLES.items():
        theirs = people.sex_code == code
        cmr_g = people.lvm_cmr_g[theirs]
        for axes, mass_g in ((before, people.lvm_pred_g), (after, made.lvm_recal_g)):
            axes.scatter(mass_g[theirs], cmr_g, s=10, alpha=0.5, linewidths=0, **style)
        order = np.argsort(made.lvm_recal_g[theirs])
        for edge in (made.lvm_lo_g, made.lvm_hi_g):
            x, y = made.lvm_recal_g[theirs][order], edge[theirs][order]
            after.plot(x, y, color=style["color"], linewidth=0.8)
    for axes in (before, after):
        axes.plot(limits, limits, color="0.5", linewidth=1)
        axes.set(xlim=limits, ylim=limits, aspect="equal")
        axes.spines[["top", "right"]].set_visible(False)
    before.set(xlabel=f"predicted LV mass (g), {model_id}", ylabel="LV mass by CMR (g)")
    before.set_title("as predicted")
    after.set(xlabel="recalibrated LV mass (g)", title="recalibrated, cross-fitted, with intervals")
    before.legend(frameon=False, loc="upper left")
    figure.savefig(path, dpi=120)


def _text(recalibration: Recalibration, table: pd.DataFrame, output: Path) -> str:
    by_group = (
        f"{recalibration.intercept_g[name]:.2f} g + {slope:.3f} x predicted mass ({name})"
        for name, slope in recalibration.slope.items()
    )
    lines = [f"CMR mass = {'; '.join(by_group)}"]
    if recalibration.lvh_slope is not None:
        lines.append(
            f"logit P(LVH by CMR) = {recalibration.lvh_intercept:.3f} + {recalibration.lvh_slope:.3f} logit(lvh_score)"
        )
    widths = ", ".join(f"{sex} +-{g:.1f} g" for sex, g in recalibration.half_width_g.items())
    lines += [
        f"{1 - recalibration.alpha:.0%} intervals for a CMR measurement, not the true mass: {widths}",
        "",
        "Cross-fitted: each person by fits that have not seen the person",
        table.to_string(index=False, float_format=lambda value: f"{value:.2f}"),
        "Coverage holds over all people of a sex. Among LVH by CMR it is expected to be poor:",
        "those hearts were picked for being large, often larger than their prediction.",
        "",
        f"{output}  (use: lvm-ai score ... --recalibration {output}). Describes single people: "
        "keep it where the data are",
        "",
    ]
    return "\n".join(lines)
