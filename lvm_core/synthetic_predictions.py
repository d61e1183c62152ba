"""Predicted masses drawn for synthetic people, for studies of many people without any ECG."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lvm_core.synthetic_outcomes import BLOCK, of_blocks
from lvm_core.synthetic_people import SyntheticPeople, synthetic_people

_STREAM: Final = 14
_REFERENCE_PEOPLE: Final = 64 * BLOCK
_REFERENCE_SEED: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class MassGivenBody:
    """The best linear prediction of true mass from age and BMI in each sex, in the population.

    Attributes:
        coefficients_g: (2, 3), by sex code: constant, per year of age, per kg/m2 of BMI.
        residual_sd_g: (2,), by sex code, of the mass around that prediction.
        sd_g: of the mass.
        explained_sd_g: of that prediction.
    """

    coefficients_g: NDArray[np.float64]
    residual_sd_g: NDArray[np.float64]
    sd_g: float
    explained_sd_g: float

    def predict_g(self, people: SyntheticPeople) -> NDArray[np.float64]:
        """Return (n,) the mass expected from sex, age and BMI alone."""
        weights = self.coefficients_g[people.sex_code]
        return np.asarray((weights * _design(people)).sum(axis=1))


@lru_cache(maxsize=1)
def mass_given_body() -> MassGivenBody:
    """Return the prediction from sex, age and BMI, fitted on a reference cohort of its own."""
    people = synthetic_people(_REFERENCE_PEOPLE, _REFERENCE_SEED)
    design = _design(people)
    coefficients_g, residual_sd_g = np.empty((2, 3)), np.empty(2)
    for sex_code in (0, 1):
        theirs = people.sex_code == sex_code
        mass_g = people.lvm_true_g[theirs]
        fitted = np.linalg.lstsq(design[theirs], mass_g, rcond=None)[0]
        # Rounded, so that the last bits of a linear algebra library do not matter.
        coefficients_g[sex_code] = np.round(fitted, 6)
        residual_sd_g[sex_code] = np.round(np.std(mass_g - design[theirs] @ fitted), 6)
    explained_g = (coefficients_g[people.sex_code] * design).sum(axis=1)
    sd_g = float(np.round(people.lvm_true_g.std(), 6))
    return MassGivenBody(coefficients_g, residual_sd_g, sd_g, float(np.round(explained_g.std(), 6)))


def lowest_correlation() -> float:
    """Return the correlation with the true mass that sex, age and BMI alone have."""
    known = mass_given_body()
    return known.explained_sd_g / known.sd_g


def drawn_predictions(people: SyntheticPeople, seed: int, r: float) -> NDArray[np.float64]:
    """Return predicted masses that correlate with the true ones by `r`.

    prediction = E[mass | sex, age, BMI] + k (residual + noise), with k such that it is the best
    linear prediction of the mass from those and a noisy signal: regressing the truth on it gives
    slope 1 in either sex, and its error is of Berkson type, as of a calibrated model. The noise
    is normal, in proportion to the residual of the sex.

    Invariant: depends on the person, `seed` and `r` alone.

    Args:
        people: any of one cohort.
        seed: of the draw, 0 or more; others give other signals of the same people.
        r: correlation with the true mass over the whole cohort, `lowest_correlation()` (about
            0.7, by sex and body size alone) to 1.

    Returns:
        (n,) grams.

    Raises:
        ValueError: `r` is outside its range, or `seed` negative.
    """
    if not lowest_correlation() <= r <= 1.0:
        raise ValueError(
            f"r is {r:g}, expected {lowest_correlation():.3f} to 1: "
            "sex, age and BMI alone already correlate with the mass by that"
        )
    if seed < 0:
        raise ValueError(f"seed is {seed}; expected 0 or more")
    known = mass_given_body()
    share = r**2 * known.sd_g**2 - known.explained_sd_g**2
    share /= known.sd_g**2 - known.explained_sd_g**2
    expected_g = known.predict_g(people)
    residual_g = people.lvm_true_g - expected_g
    normal = of_blocks(people, _STREAM, _draw, seed)["normal"]
    sd_g = known.residual_sd_g[people.sex_code]
    # share * (residual + noise of variance sd^2 (1 - share) / share), without dividing by 0.
    noise_g = np.sqrt(share * (1.0 - share)) * sd_g * normal
    return np.asarray(expected_g + share * residual_g + noise_g)


def _design(people: SyntheticPeople) -> NDArray[np.float64]:
    return np.column_stack([np.ones(len(people)), people.age_years, people.bmi_kg_m2])


def _draw(rng: Generator) -> dict[str, NDArray[Any]]:
    return {"normal": rng.standard_normal(BLOCK)}
