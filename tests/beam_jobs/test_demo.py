"""Predicted against true mass, by hand."""

from pathlib import Path

import numpy as np

from beam_jobs.demo import Comparison, write_figure


def _comparison(predicted_g: list[float], true_g: list[float]) -> Comparison:
    is_male = np.arange(len(true_g)) % 2 == 0
    return Comparison(np.array(predicted_g), np.array(true_g), is_male)


def test_summary__by_hand() -> None:
    # Differences +10, -2, +4: mean 4.0, mean absolute 5.3; r of (110, 98, 124) and (100, 100, 120).
    made = _comparison([110.0, 98.0, 124.0], [100.0, 100.0, 120.0])
    assert made.summary() == ("r = 0.89, mean difference +4.0 g, mean absolute error 5.3 g, 3 people")


def test_summary__few_people_have_no_correlation() -> None:
    assert _comparison([1.0, 2.0], [1.0, 2.0]).summary().startswith("r = nan")
    assert _comparison([], []).summary() == "nobody was scored"


def test_write_figure__even_of_nobody(tmp_path: Path) -> None:
    write_figure(_comparison([], []), "m", tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
