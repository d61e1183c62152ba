"""One recording as decoded from a device file, before anything is done to it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lvm_core.leads import LEADS_12

N_LEADS: Final = len(LEADS_12)


@dataclass(frozen=True, slots=True)
class Measurements:
    """Wave amplitudes and QRS duration as the device measured them.

    Amplitudes are magnitudes in microvolts, 0 or more; S is not negative. A wave that is absent
    is 0; a wave that was not measured is None.

    Attributes:
        measured_by: who measured, for example `12SL`; None when nothing was measured.
    """

    r_avl_uv: float | None = None
    s_v1_uv: float | None = None
    s_v3_uv: float | None = None
    r_v5_uv: float | None = None
    r_v6_uv: float | None = None
    qrs_duration_ms: float | None = None
    measured_by: str | None = None


@dataclass(frozen=True, slots=True)
class Ecg:
    """One 12-lead recording, as read.

    Attributes:
        leads_uv: (n_samples, 12) float32, microvolts, columns in `LEADS_12` order; NaN where the
            device marked a sample as missing.
        sampling_rate_hz: samples per second, as the file states it.
        step_uv: microvolts of one count, the smallest over the leads of the source.
        source_format: `cardiosoft_xml`, `muse_xml` or `wfdb`.
        leads_derived: True when III, aVR, aVL and aVF were computed from I and II.
        saturated_leads: leads that stay at a limit of the source's integer type.
        odd_gain_leads: leads whose gain or zero differs from the one that nearly all others share.
        recorded_at: local date and time of the recording, without a zone; None when unknown.
        header_participant_id: the identifier in the file, used only when the user asks for it.
        measurements: what the device measured.
        quality_flags: remarks of the device, as members of `lvm_core.quality.QualityFlag`.

    Raises:
        ValueError: the shape, dtype, rate or step is not what is stated above.
    """

    leads_uv: NDArray[np.float32]
    sampling_rate_hz: float
    step_uv: float
    source_format: str
    leads_derived: bool = False
    saturated_leads: tuple[str, ...] = ()
    odd_gain_leads: tuple[str, ...] = ()
    recorded_at: dt.datetime | None = None
    header_participant_id: str | None = None
    measurements: Measurements = field(default_factory=Measurements)
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
