"""Predicted masses and amplitudes drawn for synthetic people, for studies without any ECG."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lvm_core.synthetic_outcomes import BLOCK, of_blocks
from lvm_core.synthetic_people import SyntheticPeople, synthetic_people

_STREAM, _AMPLITUDE_STREAM = 14, 16
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


# Chosen, not measured: the median of each amplitude of women and of men, microvolts; how far their
# logarithms spread; and how much of that goes with the true index within the sex. So the ECG rules
# are positive in a few per cent, and tell little of LV mass, as in people.
_AMPLITUDES_UV: Final = {
    "r_avl_uv": (420.0, 500.0),
    "s_v1_uv": (850.0, 950.0),
    "s_v3_uv": (600.0, 1000.0),
    "r_v5_uv": (1150.0, 1350.0),
    "r_v6_uv": (950.0, 1100.0),
}
_AMPLITUDE_LOG_SD: Final = 0.42
_AMPLITUDE_LOADING: Final = 0.15


def drawn_amplitudes_uv(people: SyntheticPeople, seed: int) -> dict[str, NDArray[np.float64]]:
    """Return wave amplitudes drawn for people without ECGs, so that ECG rules can be tried.

    Invariant: depends on the person and `seed` alone.

    Args:
        people: any of one cohort.
        seed: of the draw, 0 or more.

    Returns:
        r_avl_uv, s_v1_uv, s_v3_uv, r_v5_uv, r_v6_uv: (n,) microvolts, magnitudes; their logarithms
        are normal and correlate with the true index within the sex by about 0.2.
    """
    normal = of_blocks(people, _AMPLITUDE_STREAM, _draw_amplitudes, seed)["normal"]
    middle_g_m2 = np.where(people.sex_code == 1, 53.0, 42.0)
    spread_g_m2 = np.where(people.sex_code == 1, 9.0, 7.0)
    large = (people.lvmi_true_g_m2 - middle_g_m2) / spread_g_m2
    own = np.sqrt(1.0 - _AMPLITUDE_LOADING**2)
    return {
        name: np.asarray(
            np.array(medians_uv)[people.sex_code]
            * np.exp(_AMPLITUDE_LOG_SD * (_AMPLITUDE_LOADING * large + own * normal[:, column]))
        )
        for column, (name, medians_uv) in enumerate(_AMPLITUDES_UV.items())
    }


def _draw_amplitudes(rng: Generator) -> dict[str, NDArray[Any]]:
    return {"normal": rng.standard_normal((BLOCK, len(_AMPLITUDES_UV)))}
