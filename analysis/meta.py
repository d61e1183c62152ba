"""The command `lvm-ai meta`: hazard ratios of several cohorts, pooled.

It reads what studies export, `results_for_meta_analysis.csv`, and nothing of people.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.csv_files import write_csv
from analysis.output_folder import appearing_whole, refuse_foreign
from analysis.report.figures.drawing import Drawn, save
from analysis.report.figures.forest import forest
from analysis.report.words import count_text
from analysis.statistics.limits import Z95
from analysis.statistics.pooling import pool
from lvm_core.command_line import ArgumentParser, add_share_option
from lvm_core.errors import UsageError
from lvm_core.wording import counted

_FILE: Final = "results_for_meta_analysis.csv"
_POOLED: Final = "pooled.csv"
_PER_SD: Final = "per SD"
_KEYS: Final = ("analysis", "outcome", "exposure", "contrast", "model", "strata", "level")
_NUMBERS: Final = ("log_hr", "se", "sd_used", "n_people", "n_events")
_TEXTS: Final = ("cohort", *_KEYS, "adjustment", "unit", "model_id")
_MAIN: Final = "hazard_ratios"
_RATIOS: Final = ("estimate", "low", "high", "prediction_low", "prediction_high", "fixed")


@dataclass(frozen=True)
class _Pooling:
    rows: pd.DataFrame  # of the cohorts, as they were pooled
    pooled: pd.DataFrame  # a row per contrast that two cohorts or more have
    notes: list[str]


def main(argv: Sequence[str]) -> int:
    """Run `lvm-ai meta`; mistakes are raised."""
    args = _parser().parse_args(argv)
    folder: Path = args.output
    refuse_foreign(folder, _POOLED, "lvm-ai meta", overwrite=args.overwrite)
    rows = _cohorts(args.results, several_models=args.accept_models)
    found = pool_cohorts(rows, step=args.step)
    drawn = _forest(found, args.model)
    _write(folder, found, drawn)
    for note in found.notes:
        sys.stderr.write(f"warning: {note}\n")
    sys.stdout.write(_text(found, folder))
    return 0


def pool_cohorts(rows: pd.DataFrame, *, step: float | None = None) -> _Pooling:
    """Pool each contrast that two cohorts or more have; `rows` are of `results_for_meta_analysis`.

    Hazard ratios per SD are brought to one step first, since each cohort has its own SD: `step`, in
    the unit of the exposure, or else the SD of the first cohort. The logarithm of a hazard ratio,
    and its error, grow with the step.
    """
    rows, notes = _to_one_step(rows, step)
    groups, alone = [], 0
    for key, own in rows.groupby(list(_KEYS), sort=False, dropna=False):
        if len(own) < 2:
            alone += 1
            continue
        pooled = asdict(pool(own["log_hr"].to_numpy(), own["se"].to_numpy()))
        ratios = {name: float(np.exp(pooled.pop(name))) for name in _RATIOS}
        adjustments = sorted(set(own["adjustment"]))
        groups.append(
            {
                **dict(zip(_KEYS, key, strict=True)),
                "cohorts": ", ".join(own["cohort"]),
                **{f"hr_{name}": value for name, value in ratios.items()},
                "log_hr_se": pooled.pop("se"),
                "log_hr_fixed_se": pooled.pop("fixed_se"),
                **pooled,
                "n_people": own["n_people"].sum(min_count=len(own)),
                "n_events": own["n_events"].sum(min_count=len(own)),
                "adjustment": "; ".join(adjustments),
                "warnings": "cohorts adjust for different covariates" if len(adjustments) > 1 else "",
            }
        )
    if not groups:
        raise UsageError("no contrast is in two cohorts; do outcomes, exposure and models have the same names?")
    if alone:
        notes.append(f"{counted(alone, 'contrast', 'are')} in one cohort alone and not pooled")
    return _Pooling(rows, pd.DataFrame(groups), notes)


def _cohorts(paths: Sequence[Path], *, several_models: bool) -> pd.DataFrame:
    tables = [_read(path) for path in paths]
    names = [table["cohort"].iloc[0] for table in tables]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if len(tables) < 2 or repeated:
        what = f"the cohort {', '.join(repeated)} is there twice" if repeated else "there is one cohort"
        raise UsageError(
            f"{what}; expected the results of two or more cohorts with names of their own (`cohort` in the study "
            "file). People who are in two cohorts would count twice"
        )
    rows = pd.concat(tables, ignore_index=True)
    models = sorted(set(rows["model_id"]) - {""})
    if len(models) > 1 and not several_models:
        raise UsageError(
            f"predictions of the cohorts are of different models ({', '.join(models)}); expected one. "
            "--accept-models goes on"
        )
    return rows


def _read(path: Path) -> pd.DataFrame:
    files = [path / _FILE, path / "export" / _FILE] if path.is_dir() else [path]
    file = next((one for one in files if one.is_file()), None)
    if file is None:
        raise UsageError(f"{path} holds no {_FILE}; expected that file, or the output of lvm-ai analyse")
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read as CSV: {error}") from error
    absent = [name for name in (*_TEXTS, *_NUMBERS) if name not in table]
    if absent or table.empty:
        raise UsageError(
            f"{file} has {len(table)} rows and lacks {', '.join(absent) or 'none of the columns'}; expected {_FILE} of "
            "lvm-ai analyse"
        )
    if table["cohort"].nunique() > 1:
        raise UsageError(f"{file} holds several cohorts; expected one in each file")
    for name in _NUMBERS:
        table[name] = pd.to_numeric(table[name].replace("", None), errors="coerce")
    known = np.isfinite(table["log_hr"]) & (table["se"] > 0)
    kept = pd.DataFrame(table[known].reset_index(drop=True))
    twice = kept.duplicated(list(_KEYS))
    if twice.any():
        first = kept[twice].iloc[0]
        raise UsageError(
            f"{file} has the contrast {first['outcome']}, {first['contrast']}, model {first['model']} twice"
        )
    return kept


def _to_one_step(rows: pd.DataFrame, step: float | None) -> tuple[pd.DataFrame, list[str]]:
    """Bring hazard ratios per SD to one step of each exposure; leave out those of an unknown SD."""
    is_per_sd = rows["contrast"] == _PER_SD
    unknown = is_per_sd & rows["sd_used"].isna()
    notes = []
    if unknown.any():
        cohorts = ", ".join(sorted(set(rows.loc[unknown, "cohort"])))
        notes.append(
            f"{counted(int(unknown.sum()), 'hazard ratio')} per SD of {cohorts} left out: the SD differs by sex, so "
            "that there is no one step; the ratios per 10 are pooled"
        )
    rows = rows[~unknown].reset_index(drop=True)
    is_per_sd = rows["contrast"] == _PER_SD
    steps = rows[is_per_sd].groupby("exposure", sort=False)["sd_used"].first()
    wanted = rows["exposure"].map(steps if step is None else dict.fromkeys(steps.index, step))
    factor = (wanted / rows["sd_used"]).where(is_per_sd, 1.0)
    texts = [
        f"per {one:.4g} {unit}" if of_sd else text
        for one, unit, of_sd, text in zip(wanted, rows["unit"], is_per_sd, rows["contrast"], strict=True)
    ]
    made = rows.assign(log_hr=rows["log_hr"] * factor, se=rows["se"] * factor, contrast=texts)
    sds = rows[is_per_sd].groupby("exposure", sort=False)["sd_used"].agg(["min", "max"])
    for exposure, own in sds.iterrows():
        asked = float(steps.loc[str(exposure)]) if step is None else step
        notes.append(
            f"hazard ratios per SD of {exposure} are pooled per {asked:.4g}: SDs of the cohorts are from "
            f"{own['min']:.4g} to {own['max']:.4g}"
        )
    return made, notes


def _forest(found: _Pooling, model: str) -> Drawn:
    """Draw the cohorts and their mean for each outcome and contrast of the main analysis."""
    is_main = (found.pooled["analysis"] == _MAIN) & (found.pooled["model"] == model) & (found.pooled["strata"] == "")
    lines: list[dict[str, Any]] = []
    for row in found.pooled[is_main].to_dict("records"):
        own = found.rows
        for name in _KEYS:
            own = own[own[name] == row[name]]
        group = f"{row['outcome']}, {row['contrast']}"
        text = f"I² {100 * row['i2']:.0f} %, P {row['p_heterogeneity']:.2g}"
        lines += [
            {
                "group": group,
                "label": one["cohort"],
                "estimate": np.exp(one["log_hr"]),
                "lo": np.exp(one["log_hr"] - Z95 * one["se"]),
                "hi": np.exp(one["log_hr"] + Z95 * one["se"]),
                "n_text": count_text(one["n_events"]),
                "p_interaction_text": text,
            }
            for one in own.to_dict("records")
        ]
        mean = {"estimate": row["hr_estimate"], "lo": row["hr_low"], "hi": row["hr_high"]}
        total = {"label": "all, random effects", "n_text": count_text(row["n_events"]), "p_interaction_text": text}
        lines.append({"group": group, **total, **mean})
    if not lines:
        models = ", ".join(sorted(set(found.pooled["model"])))
        raise UsageError(f"no hazard ratio of model {model} is in two cohorts; those pooled are of models {models}")
    return forest(pd.DataFrame(lines), measure_name="Hazard ratio (95% interval)")


def _write(folder: Path, found: _Pooling, drawn: Drawn) -> None:
    with appearing_whole(folder) as partial:
        write_csv(found.pooled, partial / _POOLED)
        write_csv(found.rows, partial / "cohorts.csv")
        save(drawn.canvas, partial / "forest.svg", partial / "forest.png")
        (partial / "forest.txt").write_text(f"{drawn.alt}\n", encoding="utf-8")


def _text(found: _Pooling, folder: Path) -> str:
    names = list(dict.fromkeys(found.rows["cohort"]))
    return (
        f"{counted(len(found.pooled), 'contrast')} of {counted(len(names), 'cohort')} pooled ({', '.join(names)}): "
        "random effects by REML, Hartung and Knapp's intervals\n"
        f"pooled   {folder / _POOLED}\nfigure   {folder / 'forest.svg'}\n"
        "Research software, not for clinical use.\n"
    )


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="lvm-ai meta",
        description="Pool the hazard ratios that studies of several cohorts have exported. Research software, not for "
        "clinical use.",
    )
    parser.add_argument("results", nargs="+", type=Path, help=f"{_FILE} of each cohort, or outputs of lvm-ai analyse")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--step",
        type=float,
        metavar="X",
        help="step of the exposure, in its unit, that hazard ratios per SD are brought to (default: the first SD)",
    )
    parser.add_argument("--model", default="2", help="model of the forest plot (default: %(default)s)")
    parser.add_argument("--accept-models", action="store_true", help="pool predictions of different models")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier output")
    add_share_option(parser)
    return parser
