"""Layout files: how other people's Parquet and arrays are read.

Unit, lead order and rate are never guessed.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from beam_jobs.reading.storage import Storage
from lvm_core.errors import UsageError
from lvm_core.settings_text import StrictSettings, parse_settings
from lvm_core.signal.ecg import DERIVED_FROM_I_AND_II, LEADS_12, canonical_lead
from lvm_core.tables import schemas

_NEEDED = tuple(lead for lead in LEADS_12 if lead not in DERIVED_FROM_I_AND_II)


class SignalLayout(StrictSettings):
    """Where the samples are, in which order and unit."""

    column: str | None = None  # list column that holds all leads of an ECG; or
    columns: dict[str, str] | None = None  # a list column for each lead, by lead name; or
    # The array of HDF5, NumPy and MATLAB files: a dataset (`a/b`), a variable, or a field of a
    # structure (`ECG.data`). A .npy file has no names.
    array: str | None = None
    # Of `column` and `array`: `lead_major` (all samples of the first lead, then the next) or
    # `sample_major` (all leads of the first sample, then the next).
    order: Literal["lead_major", "sample_major"] | None = None
    # In the order of `column` or `array`; all twelve, or I, II and V1 to V6.
    leads: tuple[str, ...] | None = None
    unit: Literal["mV", "uV", "counts"]  # `mV`, `uV`, or `counts` with `uv_per_count`
    # Microvolts of one count, or the name of a column or array that holds them.
    uv_per_count: Annotated[float, Field(gt=0, allow_inf_nan=False)] | str | None = None
    # Of every ECG, or the name of a column or array that holds it.
    sampling_rate_hz: Annotated[float, Field(gt=0, allow_inf_nan=False)] | str

    @field_validator("leads")
    @classmethod
    def _known_leads(cls, leads: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if leads is None else _canonical(leads)

    @field_validator("columns")
    @classmethod
    def _known_columns(cls, columns: dict[str, str] | None) -> dict[str, str] | None:
        if columns is None:
            return None
        return dict(zip(_canonical(tuple(columns)), columns.values(), strict=True))

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if sum(place is not None for place in (self.column, self.columns, self.array)) != 1:
            raise ValueError(
                "expected either column (all leads in one), columns (one per lead) or array (of HDF5, NumPy or MATLAB)"
            )
        if self.columns is None and (self.order is None or self.leads is None):
            place = "column" if self.array is None else "array"
            raise ValueError(f"{place} needs order (lead_major or sample_major) and leads")
        if (self.unit == "counts") != (self.uv_per_count is not None):
            raise ValueError("unit counts needs uv_per_count; mV and uV must not have it")
        missing = [lead for lead in _NEEDED if lead not in self.lead_names]
        if missing:
            raise ValueError(f"leads {missing} are missing; expected I, II, V1 to V6 at least")
        return self

    @property
    def lead_names(self) -> tuple[str, ...]:
        """Leads in the order in which they are read."""
        if self.columns is not None:
            return tuple(self.columns)
        assert self.leads is not None
        return self.leads

    @property
    def signal_columns(self) -> tuple[str, ...]:
        """Columns that hold samples."""
        if self.columns is not None:
            return tuple(self.columns.values())
        place = self.column or self.array
        assert place is not None
        return (place,)


class Layout(StrictSettings):
    """A layout file."""

    # Column or array of the recording's key; None for arrays of which each file is one recording,
    # whose key is its path.
    ecg_id: str | None = None
    participant_id: str | None = None  # column of the person's key
    recorded_at: str | None = None  # column of the local date and time
    signal: SignalLayout  # where the samples are
    measurements: dict[str, str] = Field(default_factory=dict)  # column of each device measurement, by our name

    @field_validator("measurements")
    @classmethod
    def _known_measurements(cls, measurements: dict[str, str]) -> dict[str, str]:
        known = {column.name for column in (*schemas.MEASUREMENTS, *schemas.MORE_MEASUREMENTS)}
        unknown = sorted(set(measurements) - known)
        if unknown:
            raise ValueError(f"{unknown} are not known; expected some of {sorted(known)}")
        return measurements

    @model_validator(mode="after")
    def _has_keys(self) -> Self:
        if self.ecg_id is not None:
            return self
        if self.signal.array is None:
            raise ValueError("ecg_id is missing; expected the column of the recording's key")
        if self.participant_id or self.recorded_at or self.measurements:
            raise ValueError(
                "participant_id, recorded_at and measurements need ecg_id: without it each file is one recording, "
                "whose keys follow from its path (--id-pattern)"
            )
        return self

    def to_plan(self) -> dict[str, Any]:
        """Return the layout as plan.json holds it; as earlier versions wrote it for Parquet."""
        found: dict[str, Any] = self.model_dump(mode="json")
        if not self.is_of_arrays:
            del found["signal"]["array"]
        return found

    @property
    def is_of_arrays(self) -> bool:
        """True for HDF5, NumPy and MATLAB files, False for Parquet."""
        return self.signal.array is not None

    @property
    def names(self) -> dict[str, str | None]:
        """Column of each of our names beside the signal."""
        keys = {"ecg_id": self.ecg_id, "participant_id": self.participant_id}
        return {**keys, "recorded_at": self.recorded_at, **self.measurements}

    @property
    def needed_columns(self) -> tuple[str, ...]:
        """Columns that a file must have."""
        by_row = (self.signal.uv_per_count, self.signal.sampling_rate_hz)
        columns = [*([self.ecg_id] if self.ecg_id else []), *(value for value in by_row if isinstance(value, str))]
        return tuple(dict.fromkeys([*columns, *self.signal.signal_columns]))

    @property
    def optional_columns(self) -> tuple[str, ...]:
        """Columns whose values are null in a file that lacks them."""
        named = (self.participant_id, self.recorded_at, *self.measurements.values())
        needed = self.needed_columns
        return tuple(dict.fromkeys(name for name in named if name and name not in needed))


def _canonical(names: tuple[str, ...]) -> tuple[str, ...]:
    leads = []
    for name in names:
        lead = canonical_lead(name)
        if lead is None:
            raise ValueError(f"{name!r} is not one of the twelve leads {', '.join(LEADS_12)}")
        leads.append(lead)
    if len(set(leads)) != len(leads):
        raise ValueError(f"a lead is named twice in {list(names)}")
    return tuple(leads)


def load_layout(storage: Storage, uri: str) -> Layout:
    """Read and check a layout file; a mistake in it is refused with its line."""
    try:
        return parse_settings(storage.read_bytes(uri), Layout, uri)
    except UsageError as error:
        raise UsageError(f"{error}\nLayouts are described in docs/layouts.md") from error
