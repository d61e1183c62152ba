"""The command `lvm-ai analyse`: from a study file to follow-up and hazard ratios."""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Final

import pandas as pd

from analysis.followup import FollowUp
from analysis.outcome_models import Contrast, analysed_sd, hazard_ratios
from analysis.study import Study, exposures_of, follow_up_of, load_study
from lvm_core.errors import UsageError

_FEWEST: Final = 10
_BASE: Final = 5
_PACKAGES: Final = ("lvm-ai", "duckdb", "pandas", "numpy")


def masked(count: int) -> str:
    """Return a count as it may be looked at: "<10" below 10, else rounded to 5.

    Rounding all counts keeps a hidden one from being found as what is missing from a total.
    """
    if 0 < count < _FEWEST:
        return f"<{_FEWEST}"
    return str(_BASE * round(count / _BASE))


def preview(found: FollowUp) -> pd.DataFrame:
    """Return the flow with masked counts of people: a row a reason, a column an outcome."""
    table = found.flow.pivot(index="reason", columns="outcome", values="n_people")
    order = list(found.flow["reason"].drop_duplicates())
    return table.loc[order, list(found.flow["outcome"].drop_duplicates())].map(masked)


def main(argv: Sequence[str]) -> int:
    """Run `lvm-ai analyse`.

    Args:
        argv: arguments after the name of the command.

    Returns:
        0; mistakes are raised.
    """
    args = _parser().parse_args(argv)
    if (args.output is None) == (not args.check):
        raise UsageError("expected either --check or --output FOLDER")
    if args.output is not None and args.output.exists() and not args.overwrite:
        raise UsageError(f"{args.output} exists; choose another folder, or add --overwrite")
    study = load_study(args.study)
    found = follow_up_of(study)
    sys.stdout.write(
        f"{study.name}: people by reason, masked (below {_FEWEST} hidden, others rounded to "
        f"{_BASE})\n\n{preview(found).to_string(index_names=False)}\n"
    )
    if args.output is not None:
        _write(args.output, study, found)
        sys.stdout.write(
            f"\n{args.output}/restricted: follow-up by person, flow, settings"
            f"{', hazard ratios (check.R refits them)' if study.hazard_ratios else ''}\n"
        )
    return 0


def _hazard_ratios(study: Study, people: pd.DataFrame) -> pd.DataFrame:
    """Hazard ratios per SD, per 10 of the unit, and with LVH."""
    sd = analysed_sd(people, study.exposure)
    contrasts = (
        Contrast(study.exposure, "per SD", "SD", sd),
        Contrast(study.exposure, "per 10", "of the exposure", 10.0),
        Contrast("lvh_pred", "LVH", "yes against no", 1.0),
    )
    return hazard_ratios(
        people, contrasts, primary_outcome=study.primary_outcome,
        repeated=study.index.rule == "all",
    )  # fmt: skip


def _analysis_data(people: pd.DataFrame, exposure: str) -> pd.DataFrame:
    """What Cox models read, for check.R: analysed rows, people as numbers."""
    own = people[people["excluded"].isna()]
    names = ["outcome", "time_days", "status", exposure, "lvh_pred"]
    names += ["age_years", "sex", "height_cm", "weight_kg"]
    data = own[list(dict.fromkeys(names))].astype({exposure: float})
    data["lvh_pred"] = data["lvh_pred"].astype("boolean").astype("Int64")
    return data.assign(person=pd.factorize(own["participant_id"])[0])


def _write_models(partial: Path, study: Study, found: FollowUp) -> None:
    people = found.people.merge(
        exposures_of(study), on="ecg_id", how="left", validate="many_to_one"
    )
    restricted = partial / "restricted"
    _hazard_ratios(study, people).to_csv(restricted / "hazard_ratios.csv", index=False)
    _analysis_data(people, study.exposure).to_csv(restricted / "analysis_data.csv", index=False)
    script = files("analysis").joinpath("check.R").read_text(encoding="utf-8")
    (partial / "check.R").write_text(script, encoding="utf-8")


def _write(folder: Path, study: Study, found: FollowUp) -> None:
    """Write everything beside the folder first, so that it appears whole or not at all."""
    partial = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _write_restricted(partial, study, found)
        if folder.exists():
            if not (folder / "restricted" / "study.json").exists():
                raise UsageError(
                    f"{folder} is not the output of a study; --overwrite leaves it alone"
                )
            shutil.rmtree(folder)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_restricted(partial: Path, study: Study, found: FollowUp) -> None:
    restricted = partial / "restricted"
    restricted.mkdir(parents=True)
    found.people.to_parquet(restricted / "follow_up.parquet", index=False)
    found.flow.to_csv(restricted / "flow.csv", index=False)
    if study.hazard_ratios:
        _write_models(partial, study, found)
    settings = {
        "study": study.model_dump(mode="json"),
        "versions": {name: version(name) for name in _PACKAGES}
        | {"python": platform.python_version()},
    }
    (restricted / "study.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lvm-ai analyse",
        description="Check a study file, build its follow-up (index ECG, exclusions, time and "
        "status for each outcome) and fit its Cox models. Figures, masked tables and the report "
        "are to come: what it writes is not masked, keep it where the data are. Research software, "
        "not for clinical use.",
    )
    parser.add_argument("study", type=Path, help="YAML file, see docs/follow_up.md")
    parser.add_argument("--check", action="store_true", help="show masked counts and write nothing")
    parser.add_argument("--output", type=Path, default=None, help="folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier output")
    return parser
