"""R's figures, and the data they are of."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

GOLDEN = Path(__file__).parents[2] / "golden"
DATA = GOLDEN / "survival" / "data"


@cache
def expected(topic: str) -> dict[str, Any]:
    """Figures of tests/golden/<topic>/expected.json."""
    read: dict[str, Any] = json.loads((GOLDEN / topic / "expected.json").read_text())
    return read


def lung() -> pd.DataFrame:
    table = pd.read_csv(DATA / "lung.csv").dropna(subset=["ph.ecog", "inst"])
    return table.assign(event=table["status"] == 2).reset_index(drop=True)


def veteran() -> pd.DataFrame:
    return pd.read_csv(DATA / "veteran.csv")


def rossi() -> pd.DataFrame:
    table = pd.read_csv(DATA / "rossi.csv")
    number = np.arange(1, len(table) + 1)
    return table.assign(w=1 + (number % 3) / 2, home=number % 60)


def heart() -> pd.DataFrame:
    return pd.read_csv(DATA / "heart.csv")


def bladder2() -> pd.DataFrame:
    table = pd.read_csv(DATA / "bladder2.csv")
    return table[table["start"] < table["stop"]].reset_index(drop=True)


def mgus2(*, complete: bool = False) -> pd.DataFrame:
    """Progression (1), death before it (2) or neither (0), in months."""
    table = pd.read_csv(DATA / "mgus2.csv")
    progressed = table["pstat"] == 1
    table["etime"] = np.where(progressed, table["ptime"], table["futime"])
    table["ev"] = np.where(progressed, 1, 2 * table["death"])
    table["male"] = table["sex"] == "M"
    if complete:
        table = table.dropna(subset=["age", "male", "mspike", "hgb"])
    return table.reset_index(drop=True)


def ties() -> pd.DataFrame:
    return pd.read_csv(GOLDEN / "cox" / "ties.csv")


def close(actual: ArrayLike, wanted: ArrayLike, *, rtol: float, atol: float = 0.0) -> None:
    """Compare with R's figures, which have 15 digits."""
    np.testing.assert_allclose(np.asarray(actual, dtype=float), np.asarray(wanted, dtype=float), rtol=rtol, atol=atol)
