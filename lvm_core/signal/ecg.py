"""One recording as decoded from a device file, before anything is done to it."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

LEADS_12: Final = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""The clinical order, used everywhere outside the predictor."""
N_LEADS: Final = len(LEADS_12)

# Lead order of the published models' input tensor (broadinstitute/ml4h, tensor map
# ecg_rest_raw of the LV mass model; facts sheet section 2).
MODEL_LEADS: Final = ("I", "II", "III", "V1", "V2", "V3", "V4", "V5", "V6", "aVF", "aVL", "aVR")

DERIVED_FROM_I_AND_II: Final = ("III", "aVR", "aVL", "aVF")

INDEPENDENT_LEADS: Final = np.array([i for i, lead in enumerate(LEADS_12) if lead not in DERIVED_FROM_I_AND_II])
"""Places of I, II and V1 to V6, from which the others follow."""

# "Derivation" 1 to 3, as devices in Romance languages write the limb leads.
_DERIVATIONS: Final = {"DI": "I", "DII": "II", "DIII": "III", "D1": "I", "D2": "II", "D3": "III"}
_BY_UPPER: Final = {**{lead.upper(): lead for lead in LEADS_12}, **_DERIVATIONS}
# Words before the name and a unit in brackets after it. A minus sign is no separator: `-aVR` is
# the inverted lead.
_SPELLING: Final = re.compile(
    r"(?:(?:MDC_ECG_LEAD|ECG|EKG|LEAD)[ _:.]*){0,2}(?P<lead>[A-Z0-9]+)"
    r"(?:\s*(?:\([MUN\u039c]?V\)|\[[MUN\u039c]?V\]))?"
)
_LONGEST_NAME: Final = 40


def canonical_lead(name: str) -> str | None:
    """Return the canonical spelling of a lead name, or None for a lead outside the twelve.

    Case and surrounding blanks do not matter, nor do the words `Lead`, `ECG` and `MDC_ECG_LEAD_`
    before the name or a voltage in brackets after it: `avr`, `ECG lead aVR`, `MDC_ECG_LEAD_aVR`
    and `aVR (mV)` are all `aVR`; `DI`, `DII` and `DIII` are `I`, `II` and `III`. `vx` is None,
    and so is a changed lead, such as `-aVR` or `I filtered`.
    """
    if len(name) > _LONGEST_NAME:
        return None
    spelling = _SPELLING.fullmatch(name.strip().upper())
    return None if spelling is None else _BY_UPPER.get(spelling["lead"])


def order_indices(source: Sequence[str], target: Sequence[str]) -> NDArray[np.intp]:
    """Return `index` such that `array_in_source_order[index]` is in the order of `target`.

    A ValueError says when `source` names a lead twice, or lacks one of `target`.
    """
    if len(set(source)) != len(source):
        raise ValueError(f"lead order {list(source)} names a lead twice; expected each once")
    missing = [lead for lead in target if lead not in source]
    if missing:
        raise ValueError(f"leads {missing} are missing from {list(source)}")
    return np.array([source.index(lead) for lead in target], dtype=np.intp)


def derive_limb_leads(i: NDArray[np.floating], ii: NDArray[np.floating]) -> dict[str, NDArray[np.floating]]:
    """Return III, aVR, aVL and aVF from leads I and II.

    Args:
        i: lead I, any shape, microvolts or counts.
        ii: lead II, same shape and unit.

    Returns:
        The four leads by name, same shape and unit; half counts can occur.

    Source:
        Einthoven's law and Goldberger's definitions: III = II - I, aVR = -(I + II) / 2,
        aVL = I - II / 2, aVF = II - I / 2.
    """
    return {"III": ii - i, "aVR": -(i + ii) / 2, "aVL": i - ii / 2, "aVF": ii - i / 2}


SOFTWARE: Final = "software"
"""What `measured_by` says where the project itself measured."""


def r_column(lead: str) -> str:
    """Return the name of the R amplitude of a lead, in `Measurements` and in the tables."""
    return f"r_{lead.lower()}_uv"


def s_column(lead: str) -> str:
    """Return the name of the S amplitude of a lead."""
    return f"s_{lead.lower()}_uv"


@dataclass(frozen=True, slots=True)
class Measurements:
    """Wave amplitudes and QRS duration, as the device or the software measured them.

    Amplitudes are magnitudes in microvolts, 0 or more; S is not negative. A wave that is absent
    is 0; a wave that was not measured is None.
    """

    r_avl_uv: float | None = None
    s_v1_uv: float | None = None
    s_v3_uv: float | None = None
    r_v5_uv: float | None = None
    r_v6_uv: float | None = None
    qrs_duration_ms: float | None = None
    # Who measured the amplitudes: the device's program, for example `12SL`, or `software`; None
    # when nothing was measured.
    measured_by: str | None = None
    r_i_uv: float | None = None
    r_ii_uv: float | None = None
    r_iii_uv: float | None = None
    r_avr_uv: float | None = None
    r_avf_uv: float | None = None
    r_v1_uv: float | None = None
    r_v2_uv: float | None = None
    r_v3_uv: float | None = None
    r_v4_uv: float | None = None
    s_i_uv: float | None = None
    s_ii_uv: float | None = None
    s_iii_uv: float | None = None
    s_avr_uv: float | None = None
    s_avl_uv: float | None = None
    s_avf_uv: float | None = None
    s_v2_uv: float | None = None
    s_v4_uv: float | None = None
    s_v5_uv: float | None = None
    s_v6_uv: float | None = None
    qrs_voltage_sum_uv: float | None = None  # over the twelve leads, of R and the deeper of Q and S
    qrs_measured_by: str | None = None  # who measured the QRS duration

    @property
    def has_amplitudes(self) -> bool:
        """True when an amplitude was measured."""
        return any(getattr(self, name) is not None for name in AMPLITUDE_COLUMNS)


# The five of the paper's rules first, as tables of earlier versions have them.
_FIRST_AMPLITUDES: Final = ("r_avl_uv", "s_v1_uv", "s_v3_uv", "r_v5_uv", "r_v6_uv")
_ALL_AMPLITUDES: Final = (*map(r_column, LEADS_12), *map(s_column, LEADS_12))
AMPLITUDE_COLUMNS: Final = (*_FIRST_AMPLITUDES, *(n for n in _ALL_AMPLITUDES if n not in _FIRST_AMPLITUDES))
"""Names of the R and S amplitudes of all leads, in `Measurements` and in the tables."""


class Rhythm(StrEnum):
    """The rhythm of an ECG."""

    SINUS = "sinus"
    AF_FLUTTER = "af_flutter"
    PACED = "paced"
    OTHER = "other"
    UNKNOWN = "unknown"  # there are statements, and none of them says


class Conduction(StrEnum):
    """The conduction in the ventricles."""

    NONE = "none"  # no block is stated
    LBBB = "lbbb"
    RBBB = "rbbb"
    OTHER = "other"
    UNKNOWN = "unknown"


class RhythmCodes(NamedTuple):
    """Rhythm and conduction, named as the columns of the tables; None where nothing is stated."""

    rhythm: str | None = None  # a member of `Rhythm`
    conduction: str | None = None  # a member of `Conduction`
    rhythm_source: str | None = None  # `device`: its statements; `header`: labels in a file's header


NOTHING_STATED: Final = RhythmCodes()


@dataclass(frozen=True, slots=True)
class Ecg:
    """One 12-lead recording, as read.

    Raises:
        ValueError: the shape, dtype, rate or step is not what is stated below.
    """

    # (n_samples, 12) float32, microvolts, columns in `LEADS_12` order; NaN where the device
    # marked a sample as missing.
    leads_uv: NDArray[np.float32]
    sampling_rate_hz: float  # samples per second, as the file states it
    step_uv: float  # microvolts of one count, the smallest over the leads of the source
    source_format: str  # name of its format in `lvm_core.formats.registry`; `parquet` or `array`
    leads_derived: bool = False  # True when III, aVR, aVL and aVF were computed from I and II
    saturated_leads: tuple[str, ...] = ()  # leads that stay at a limit of the source's integer type
    # Leads whose gain or zero differs from the one that nearly all others share.
    odd_gain_leads: tuple[str, ...] = ()
    # Local date and time of the recording, without a zone; None when unknown.
    recorded_at: dt.datetime | None = None
    header_participant_id: str | None = None  # the identifier in the file, used only when the user asks for it
    measurements: Measurements = field(default_factory=Measurements)  # what the device measured
    rhythm: RhythmCodes = NOTHING_STATED  # what the device stated
    # Remarks of the device, as members of `lvm_core.signal.quality.QualityFlag`.
    quality_flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.leads_uv.ndim != 2 or self.leads_uv.shape[1] != N_LEADS:
            raise ValueError(f"leads_uv has shape {self.leads_uv.shape}, expected (n_samples, 12)")
        if self.leads_uv.dtype != np.float32:
            raise ValueError(f"leads_uv is {self.leads_uv.dtype}, expected float32 microvolts")
        for name in ("sampling_rate_hz", "step_uv"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value}, expected a finite value above 0")
        if self.recorded_at is not None and self.recorded_at.tzinfo is not None:
            raise ValueError("recorded_at has a time zone; expected the local time without one")

    @property
    def n_samples(self) -> int:
        """Number of samples of each lead."""
        return int(self.leads_uv.shape[0])

    @property
    def duration_s(self) -> float:
        """Length of the recording, seconds."""
        return self.n_samples / self.sampling_rate_hz
