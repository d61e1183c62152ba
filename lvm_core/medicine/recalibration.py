"""Recalibration of predicted mass and LVH score to a CMR subset, with prediction intervals.

Linear recalibration of the mass, split conformal intervals by sex, logistic recalibration of the
score. The intervals cover a CMR measurement, with its error, and not the true mass; and they cover
it on average over all people of a sex, not among those with large hearts.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from lvm_core.errors import LvmError
from lvm_core.medicine.lvh import Sex

_FORMAT_KEY: Final = "lvm_ai_recalibration"
_FORMAT_VERSION: Final = 1
EVERYBODY: Final = "all"
FEW_PEOPLE: Final = 200
"""People of a sex below which an interval is uncertain enough for a warning."""

_SEXES: Final = (Sex.FEMALE.value, Sex.MALE.value)
_SCORE_MARGIN: Final = 1e-6
_NEWTON_STEPS: Final = 50
_SALT: Final = "recalibration"

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Recalibrated:
    """Recalibrated values of n ECGs; NaN where one cannot be known."""

    lvm_recal_g: Floats  # (n,) float64, grams
    lvm_lo_g: Floats  # (n,) float64, lower end of the interval for a CMR measurement, grams, 0 or more
    lvm_hi_g: Floats  # (n,) float64, upper end, grams
    lvh_probability: Floats  # (n,) float64, of LVH by CMR, 0 to 1


@dataclass(frozen=True, slots=True)
class Recalibration:
    """What was fitted on a CMR subset, for one model and input convention."""

    model_id: str  # of the model whose predictions were recalibrated
    model_sha256: str  # of its file
    input_convention: str  # with which they were made
    by_sex: bool  # the line differs between the sexes
    alpha: float  # the intervals are to miss this share of CMR measurements
    slope: Mapping[str, float]  # grams of CMR per predicted gram, by sex, or under `all`
    intercept_g: Mapping[str, float]  # grams, likewise
    half_width_g: Mapping[str, float]  # half the width of the interval, grams, by sex
    lvh_slope: float | None  # of the logit of the LVH score; None for a model without that score
    lvh_intercept: float | None  # likewise
    bsa: str  # formula of the body surface area by which LVH by CMR was decided
    lvh_preset: str  # limits by which it was decided; `lvh_probability` is of this LVH
    provenance: Mapping[str, Any] = field(default_factory=dict)  # where it comes from, for people

    def to_dict(self) -> dict[str, Any]:
        """Return the content of a recalibration file."""
        return {_FORMAT_KEY: _FORMAT_VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, content: Any, where: str) -> Recalibration:
        """Return the recalibration that `to_dict` described.

        Raises:
            LvmError: another format, a missing or unknown name, or a value that is not as above.
        """
        if not isinstance(content, Mapping) or content.get(_FORMAT_KEY) != _FORMAT_VERSION:
            raise LvmError(
                f"{where} is no recalibration of version {_FORMAT_VERSION}; expected a file of lvm-ai recalibrate"
            )
        values = {name: value for name, value in content.items() if name != _FORMAT_KEY}
        if set(values) != set(cls.__dataclass_fields__):
            differing = ", ".join(sorted(set(values) ^ set(cls.__dataclass_fields__)))
            raise LvmError(f"{where} lacks, or has beyond what is expected: {differing}")
        problem = _problem(values)
        if problem:
            raise LvmError(f"{where}: {problem}")
        return cls(**values)

    def apply(self, lvm_pred_g: Floats, sex_code: NDArray[np.int8], lvh_score: Floats) -> Recalibrated:
        """Return recalibrated values of n ECGs.

        Args:
            lvm_pred_g: (n,) grams.
            sex_code: (n,) 0 female, 1 male, -1 unknown: no interval, and no mass where lines
                differ between the sexes.
            lvh_score: (n,) 0 to 1; NaN where there is none.
        """
        slope, intercept_g = self._line(sex_code)
        half_g = _by_sex(self.half_width_g, sex_code)
        recal_g = intercept_g + slope * lvm_pred_g
        probability = np.full(len(lvm_pred_g), np.nan)
        if self.lvh_slope is not None and self.lvh_intercept is not None:
            probability = expit(self.lvh_intercept + self.lvh_slope * logit(lvh_score))
        return Recalibrated(recal_g, np.maximum(recal_g - half_g, 0.0), recal_g + half_g, probability)

    def _line(self, sex_code: NDArray[np.int8]) -> tuple[Floats, Floats]:
        if self.by_sex:
            return _by_sex(self.slope, sex_code), _by_sex(self.intercept_g, sex_code)
        n = len(sex_code)
        return np.full(n, self.slope[EVERYBODY]), np.full(n, self.intercept_g[EVERYBODY])


def _problem(values: Mapping[str, Any]) -> str:
    """Return what is wrong with the values of a file; empty when nothing is."""
    for name in ("model_id", "model_sha256", "input_convention", "bsa", "lvh_preset"):
        if not isinstance(values[name], str):
            return f"{name} is {values[name]!r}, expected text"
    if not isinstance(values["by_sex"], bool):
        return f"by_sex is {values['by_sex']!r}, expected true or false"
    if not (_is_number(values["alpha"]) and 0 < values["alpha"] < 1):
        return f"alpha is {values['alpha']!r}, expected a number between 0 and 1"
    line_keys = set(_SEXES) if values["by_sex"] else {EVERYBODY}
    for name, keys in (("slope", line_keys), ("intercept_g", line_keys), ("half_width_g", set(_SEXES))):
        given = values[name]
        if not isinstance(given, Mapping) or set(given) != keys:
            return f"{name} is {given!r}, expected numbers for {', '.join(sorted(keys))}"
        if not all(_is_number(value) for value in given.values()):
            return f"{name} is {given!r}, expected finite numbers"
    if min(values["half_width_g"].values()) <= 0:
        return f"half_width_g is {values['half_width_g']!r}, expected grams above 0"
    pair = values["lvh_slope"], values["lvh_intercept"]
    if pair != (None, None) and not all(_is_number(value) for value in pair):
        return f"lvh_slope and lvh_intercept are {pair!r}, expected two finite numbers or two nulls"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _by_sex(values: Mapping[str, float], sex_code: NDArray[np.int8]) -> Floats:
    """Return the value of each person's sex; NaN where it is unknown."""
    listed = np.array([values[sex] for sex in _SEXES] + [np.nan])
    return np.asarray(listed[np.where(sex_code < 0, len(_SEXES), sex_code)])


def logit(score: Floats) -> Floats:
    """Return log(p / (1 - p)), with p kept 1e-6 away from 0 and 1.

    Args:
        score: (n,) 0 to 1, or NaN.
    """
    inside = np.clip(score, _SCORE_MARGIN, 1 - _SCORE_MARGIN)
    return np.asarray(np.log(inside / (1 - inside)))


def linear_recalibration(lvm_pred_g: Floats, lvm_cmr_g: Floats) -> tuple[float, float]:
    """Return slope and intercept in grams of the least-squares line of CMR on predicted mass.

    The regression of CMR on predicted, and neither Deming's nor Passing and Bablok's line: the
    predicted mass is what is known when the line is used.

    Args:
        lvm_pred_g: (n,) grams.
        lvm_cmr_g: (n,) grams.

    Raises:
        LvmError: fewer than three people, predicted masses that are all alike, or a slope that is
            not above 0, as when predictions and CMR were joined wrongly.

    Source:
        R: coef(lm(lvm_cmr_g ~ lvm_pred_g)).
    """
    n = len(lvm_pred_g)
    if n < 3 or np.ptp(lvm_pred_g) == 0:
        raise LvmError(
            f"{n} people with {len(np.unique(lvm_pred_g))} different predicted masses, expected "
            "at least 3 people and different masses to fit a line"
        )
    centred_g = lvm_pred_g - lvm_pred_g.mean()
    slope = float(centred_g @ lvm_cmr_g / (centred_g @ centred_g))
    if not slope > 0:
        raise LvmError(
            f"the slope of CMR on predicted mass is {slope:.3g} over {n} people, expected above 0; "
            "do predictions and CMR belong to the same people?"
        )
    return slope, float(lvm_cmr_g.mean() - slope * lvm_pred_g.mean())


def conformal_half_width_g(residual_g: Floats, alpha: float) -> float:
    """Return half the width of the split conformal interval.

    A new measurement of an exchangeable person lies within it with a probability of at least
    1 - alpha, and at most 1 - alpha + 1 / (n + 1), over the draws of the n people.

    Args:
        residual_g: (n,) CMR minus recalibrated mass of people whom the line was not fitted to.
        alpha: share to be missed, between 0 and 1.

    Returns:
        The ceil((n + 1)(1 - alpha))-th smallest absolute residual, grams.

    Raises:
        LvmError: fewer people than ceil(1 / alpha) - 1: no interval of finite width exists.
        ValueError: `alpha` is not between 0 and 1.

    Source:
        Lei J et al., J Am Stat Assoc 2018;113:1094-1111, algorithm 2.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha:g}, expected a share between 0 and 1, such as 0.1")
    n = len(residual_g)
    exact = Fraction(str(alpha))  # 0.1 is not quite 1/10 in binary, and a rank is a whole number
    needed = math.ceil(1 / exact) - 1
    if n < needed:
        raise LvmError(
            f"{n} people to set the width of an interval with alpha {alpha:g}, expected at least "
            f"{needed}; give more people with CMR or a larger alpha"
        )
    rank = math.ceil((n + 1) * (1 - exact))
    return float(np.sort(np.abs(residual_g))[rank - 1])


def logistic_recalibration(lvh_score: Floats, is_lvh: NDArray[np.bool_]) -> tuple[float, float]:
    """Return slope and intercept of the logit of LVH on the logit of the score.

    Args:
        lvh_score: (n,) 0 to 1.
        is_lvh: (n,) LVH by CMR.

    Raises:
        LvmError: nobody or everybody has LVH, the score is the same for all, or it separates the
            two without a mistake.

    Source:
        Cox DR, Biometrika 1958;45:562-565; maximum likelihood by Newton's method. R:
        coef(glm(is_lvh ~ qlogis(lvh_score), family = binomial)).
    """
    x = logit(lvh_score)
    with_lvh, without = x[is_lvh], x[~is_lvh]
    if not (with_lvh.size and without.size):
        raise LvmError(
            f"{with_lvh.size} of {x.size} people have LVH by CMR, expected some with and some "
            "without to recalibrate the score"
        )
    if np.ptp(x) == 0:
        raise LvmError(
            f"the LVH score is the same for all {x.size} people, expected different scores to recalibrate it"
        )
    # In one dimension a finite estimate exists exactly where the two overlap.
    if not (with_lvh.min() < without.max() and without.min() < with_lvh.max()):
        raise LvmError(
            "the LVH score separates people with and without LVH by CMR without a mistake: no "
            f"logistic recalibration exists for these {x.size} people; give more"
        )
    return _newton(x, is_lvh.astype(np.float64))


def _newton(x: Floats, y: Floats) -> tuple[float, float]:
    """Return slope and intercept of the largest likelihood; steps that lower it are halved."""
    design = np.column_stack([np.ones(x.size), x])
    beta = np.array([np.log(y.mean() / (1 - y.mean())), 0.0])
    for _ in range(_NEWTON_STEPS):
        p = expit(design @ beta)
        information = design.T @ (design * (p * (1 - p))[:, None])
        step = np.linalg.solve(information, design.T @ (y - p))
        while _log_likelihood(design @ (beta + step), y) < _log_likelihood(design @ beta, y) - 1e-9:
            step = step / 2
        beta = beta + step
        if np.abs(step).max() < 1e-12:
            break
    return float(beta[1]), float(beta[0])


def _log_likelihood(linear: Floats, y: Floats) -> float:
    return float(y @ linear - np.logaddexp(0.0, linear).sum())


@dataclass(frozen=True, slots=True)
class CmrSubset:
    """People with a prediction and a CMR mass, one row each."""

    participant_id: Sequence[str]  # of each person
    lvm_pred_g: Floats  # (n,) float64, grams
    lvh_score: Floats  # (n,) float64, NaN where the model has none
    lvm_cmr_g: Floats  # (n,) float64, grams
    sex_code: NDArray[np.int8]  # (n,) int8, 0 female, 1 male
    lvh_cmr: NDArray[np.bool_]  # (n,) bool, LVH by CMR
    lvh_known: NDArray[np.bool_]  # (n,) bool, False where body size is not known

    def __len__(self) -> int:
        return len(self.lvm_pred_g)

    def take(self, chosen: NDArray[np.bool_]) -> CmrSubset:
        """Return the people of a mask."""
        ids = [name for name, is_in in zip(self.participant_id, chosen, strict=True) if is_in]
        names = ("lvm_pred_g", "lvh_score", "lvm_cmr_g", "sex_code", "lvh_cmr", "lvh_known")
        return CmrSubset(ids, *(getattr(self, name)[chosen] for name in names))


@dataclass(frozen=True, slots=True)
class Fitted:
    """The numbers of a recalibration, before they get a name and a provenance."""

    by_sex: bool  # as in `Recalibration`
    alpha: float  # likewise
    slope: dict[str, float]  # likewise
    intercept_g: dict[str, float]  # likewise
    half_width_g: dict[str, float]  # likewise
    lvh_slope: float | None  # likewise
    lvh_intercept: float | None  # likewise
    warnings: tuple[str, ...]  # for people

    def named(self, **identity: Any) -> Recalibration:
        """Return the recalibration of a model; `identity`: the other fields of `Recalibration`."""
        numbers = {name: getattr(self, name) for name in Fitted.__slots__ if name != "warnings"}
        return Recalibration(**numbers, **identity)


def person_share(participant_id: str, salt: str = _SALT) -> float:
    """Return a number from 0 up to 1 that depends on the person and the salt alone."""
    digest = hashlib.sha256(f"{salt}|{participant_id}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def fit_recalibration(people: CmrSubset, *, alpha: float, by_sex: bool) -> Fitted:
    """Fit line and score on one half of the people, and the intervals on the other.

    Which half a person is in depends on the id alone. Two halves, because residuals of the people
    whom the line was fitted to are too small. Where the score cannot be recalibrated, mass and
    intervals still are, and a warning says why.

    Args:
        people: with CMR.
        alpha: share of CMR measurements that intervals are to miss, between 0 and 1.
        by_sex: fit a line for each sex.

    Raises:
        LvmError: too few people, or no line to fit; the message names the sex.
    """
    first = np.array([person_share(name) < 0.5 for name in people.participant_id], dtype=bool)
    fitting, rest = people.take(first), people.take(~first)
    slope, intercept_g = _lines(fitting, by_sex=by_sex)
    widths, warnings = _half_widths_g(rest, slope, intercept_g, alpha)
    lvh_slope, lvh_intercept = None, None
    if np.isfinite(people.lvh_score).any():  # else the model has no such score
        usable = fitting.take(fitting.lvh_known & np.isfinite(fitting.lvh_score))
        try:
            lvh_slope, lvh_intercept = logistic_recalibration(usable.lvh_score, usable.lvh_cmr)
        except LvmError as error:
            warnings.append(f"no lvh_probability: {error}")
        if lvh_slope is not None and lvh_slope <= 0:
            warnings.append(
                f"the slope of LVH on the logit of lvh_score is {lvh_slope:.3g}, expected above 0: "
                "lvh_probability falls as the score rises"
            )
    return Fitted(by_sex, alpha, slope, intercept_g, widths, lvh_slope, lvh_intercept, tuple(warnings))


def _lines(people: CmrSubset, *, by_sex: bool) -> tuple[dict[str, float], dict[str, float]]:
    slope, intercept_g = {}, {}
    groups = enumerate(_SEXES) if by_sex else [(-1, EVERYBODY)]
    for code, name in groups:
        theirs = people.take(people.sex_code == code) if by_sex else people
        try:
            slope[name], intercept_g[name] = linear_recalibration(theirs.lvm_pred_g, theirs.lvm_cmr_g)
        except LvmError as error:
            raise LvmError(f"line for {name}: {error}") from error
    return slope, intercept_g


def _half_widths_g(
    people: CmrSubset, slope: dict[str, float], intercept_g: dict[str, float], alpha: float
) -> tuple[dict[str, float], list[str]]:
    widths, warnings = {}, []
    for code, name in enumerate(_SEXES):
        theirs = people.take(people.sex_code == code)
        key = name if name in slope else EVERYBODY
        residual_g = theirs.lvm_cmr_g - (intercept_g[key] + slope[key] * theirs.lvm_pred_g)
        try:
            widths[name] = conformal_half_width_g(residual_g, alpha)
        except LvmError as error:
            raise LvmError(f"interval for {name}: {error}") from error
        if len(theirs) < FEW_PEOPLE:
            warnings.append(
                f"the interval for {name} rests on {len(theirs)} people; with fewer than "
                f"{FEW_PEOPLE} its coverage may be several percent off"
            )
    return widths, warnings


def cross_fitted(people: CmrSubset, *, alpha: float, by_sex: bool, n_folds: int = 5) -> Recalibrated:
    """Return recalibrated values of each person by fits that have not seen the person.

    Args:
        people: with CMR.
        alpha: share to be missed.
        by_sex: fit a line for each sex.
        n_folds: people are dealt to folds by a hash of the id.

    Raises:
        LvmError: too few people outside a fold.
    """
    fold = np.array([person_share(p, "fold") * n_folds for p in people.participant_id]).astype(int)
    values = {name: np.full(len(people), np.nan) for name in Recalibrated.__slots__}
    for number in range(n_folds):
        inside = fold == number
        fitted = fit_recalibration(people.take(~inside), alpha=alpha, by_sex=by_sex)
        here = people.take(inside)
        nameless = fitted.named(model_id="", model_sha256="", input_convention="", bsa="", lvh_preset="")
        made = nameless.apply(here.lvm_pred_g, here.sex_code, here.lvh_score)
        for name, whole in values.items():
            whole[inside] = getattr(made, name)
    return Recalibrated(**values)
