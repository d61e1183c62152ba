"""Every Parquet column of the project: name, type, unit, meaning; described in docs/tables.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from lvm_core.signal.ecg import LEADS_12, r_column, s_column

N_SAMPLES: Final = 5000
SAMPLING_RATE_HZ: Final = 500
FOOTER_KEY: Final = b"lvm_ai"
"""Key of the JSON in the footers of our files: counts, provenance, unit and fingerprint."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str  # public name; the unit of a physical quantity is its ending
    type: pa.DataType  # Arrow type
    meaning: str  # one sentence for the documents
    nullable: bool = True  # False where every row has a value

    def field(self) -> pa.Field:
        """Return the Arrow field."""
        return pa.field(self.name, self.type, nullable=self.nullable)


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its name in the documents and its columns in order."""

    name: str
    columns: tuple[Column, ...]

    @property
    def arrow(self) -> pa.Schema:
        """The Arrow schema."""
        return pa.schema([column.field() for column in self.columns])

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(column.name for column in self.columns)


LEAD_TYPE: Final = pa.list_(pa.field("element", pa.int16(), nullable=False), N_SAMPLES)
_FLAGS: Final = pa.list_(pa.string())
_TIME: Final = pa.timestamp("us")

MEASUREMENTS: Final = (
    Column("r_avl_uv", pa.float32(), "R amplitude in aVL, microvolts, 0 or more"),
    Column("s_v1_uv", pa.float32(), "S amplitude in V1 as a magnitude, microvolts"),
    Column("s_v3_uv", pa.float32(), "S amplitude in V3 as a magnitude, microvolts"),
    Column("r_v5_uv", pa.float32(), "R amplitude in V5, microvolts"),
    Column("r_v6_uv", pa.float32(), "R amplitude in V6, microvolts"),
    Column("qrs_duration_ms", pa.float32(), "QRS duration, milliseconds"),
    Column(
        "measured_by", pa.string(), "who measured the amplitudes: the device's program, for example 12SL, or software"
    ),
)
"""What the paper's rules need, as tables of all versions have it."""

_WAVES: Final = {
    r_column: "R amplitude in {}, microvolts, 0 or more",
    s_column: "S amplitude in {} as a magnitude, microvolts",
}
_FIRST: Final = frozenset(column.name for column in MEASUREMENTS)

MORE_MEASUREMENTS: Final = (
    *(
        Column(name(lead), pa.float32(), meaning.format(lead))
        for name, meaning in _WAVES.items()
        for lead in LEADS_12
        if name(lead) not in _FIRST
    ),
    Column("qrs_voltage_sum_uv", pa.float32(), "sum over the twelve leads of R and the deeper of Q and S, microvolts"),
    Column("qrs_measured_by", pa.string(), "who measured qrs_duration_ms: the device's program, or software"),
)
"""The other leads, and what the other rules need."""

RHYTHM: Final = (
    Column("rhythm", pa.string(), "sinus, af_flutter, paced, other or unknown; null without statements"),
    Column("conduction", pa.string(), "none, lbbb, rbbb, other or unknown; null without statements"),
    Column(
        "rhythm_source",
        pa.string(),
        "device: its statements gave rhythm and conduction; header: labels in the header of a file; null without",
    ),
)

_ECG_ID = Column("ecg_id", pa.string(), "key of the recording, unique over a run", nullable=False)
_PARTICIPANT = Column("participant_id", pa.string(), "key of the person; null when unknown")
_RECORDED_AT = Column("recorded_at", _TIME, "local date and time of the recording, no zone")
_QUALITY = Column("quality_flags", _FLAGS, "remarks, members of QualityFlag; empty when none")
_SHA = Column("signal_sha256", pa.string(), "SHA-256 of the stored counts and their step; equal for identical signals")

ECGS: Final = Table(
    "ECG Parquet",
    (
        _ECG_ID,
        *(Column(lead, LEAD_TYPE, f"lead {lead}, counts, 5000 samples at 500 Hz", nullable=False) for lead in LEADS_12),
        Column("uv_per_count", pa.float32(), "microvolts of one count", nullable=False),
        _PARTICIPANT,
        _RECORDED_AT,
        *MEASUREMENTS,
        Column("source_uri", pa.string(), "file, relative to the input root"),
        Column("source_format", pa.string(), "format of the device file, of the list below"),
        Column("source_sampling_rate_hz", pa.float32(), "sampling rate of the source, hertz"),
        _SHA,
        _QUALITY,
        *MORE_MEASUREMENTS,
        *RHYTHM,
    ),
)

ECG_REQUIRED: Final = ("ecg_id", *LEADS_12, "uv_per_count")

PREDICTIONS: Final = Table(
    "Predictions",
    (
        _ECG_ID,
        _PARTICIPANT,
        _RECORDED_AT,
        Column("model_id", pa.string(), "model that scored this row", nullable=False),
        Column("lvm_pred_g", pa.float32(), "LV mass predicted from the ECG, grams", nullable=False),
        Column("lvh_score", pa.float32(), "output of the LVH head, 0 to 1; not a probability"),
        Column("age_years", pa.float32(), "age at the recording, years"),
        Column("sex", pa.string(), "female or male; null when unknown"),
        Column("bmi_kg_m2", pa.float32(), "body mass index, kg/m2"),
        Column("height_cm", pa.float32(), "height, cm"),
        Column("weight_kg", pa.float32(), "weight, kg"),
        Column("bsa_m2", pa.float32(), "body surface area by the formula of the footer, m2"),
        Column("lvmi_pred_g_m2", pa.float32(), "lvm_pred_g / bsa_m2, g/m2"),
        Column("lvh_pred", pa.bool_(), "index beyond the limit for the sex; null when unknown"),
        _QUALITY,
        *MEASUREMENTS,
        Column("rule_avl", pa.bool_(), "R(aVL) > 1100 uV; null when not measured"),
        Column("rule_sokolow_lyon", pa.bool_(), "S(V1) + max(R(V5), R(V6)) > 3500 uV"),
        Column("rule_cornell", pa.bool_(), "R(aVL) + S(V3) > 2000 uV women, > 2800 uV men"),
        Column(
            "any_ecg_rule",
            pa.bool_(),
            "true if one measured rule is positive, false if all three are measured and negative",
        ),
        _SHA,
        *MORE_MEASUREMENTS,
        Column("rule_cornell_product", pa.bool_(), "(Cornell voltage, + 600 uV women) x QRS duration > 244,000 uV ms"),
        Column("rule_sokolow_lyon_product", pa.bool_(), "Sokolow-Lyon voltage x QRS duration > 371,000 uV ms"),
        Column("rule_peguero_lo_presti", pa.bool_(), "deepest S of any lead + S(V4) >= 2300 uV women, >= 2800 uV men"),
        Column("rule_gubner", pa.bool_(), "R(I) + S(III) > 2500 uV"),
        Column("rule_lewis", pa.bool_(), "R(I) + S(III) - R(III) - S(I) > 1700 uV"),
        Column("rule_voltage_sum", pa.bool_(), "qrs_voltage_sum_uv > 17,500 uV"),
        *RHYTHM,
    ),
)

RECALIBRATED: Final = Table(
    "Predictions, added by --recalibration",
    (
        Column("lvm_recal_g", pa.float32(), "predicted LV mass recalibrated to CMR, grams"),
        Column("lvmi_recal_g_m2", pa.float32(), "lvm_recal_g / bsa_m2, g/m2"),
        Column("lvh_recal", pa.bool_(), "recalibrated index beyond the limit for the sex"),
        Column("lvm_lo_g", pa.float32(), "lower end of the interval for a CMR measurement, grams"),
        Column("lvm_hi_g", pa.float32(), "upper end of that interval, grams"),
        Column("lvh_probability", pa.float32(), "recalibrated lvh_score: probability of LVH by CMR"),
    ),
)

REJECTS: Final = Table(
    "Rejects",
    (
        Column("source_uri", pa.string(), "file, relative to the input root; archive!member"),
        Column("row", pa.int64(), "row in a Parquet file, from 0; null for other files"),
        Column("ecg_id", pa.string(), "key of the recording where it is known"),
        _PARTICIPANT,
        Column("stage", pa.string(), "ingest or score", nullable=False),
        Column("reason", pa.string(), "member of RejectReason", nullable=False),
        Column("detail", pa.string(), "what is wrong with its value, and what was expected"),
        Column("n_ecgs", pa.int64(), "ECGs this row stands for; null, taken as 1, when unknown"),
    ),
)

PARTICIPANTS: Final = Table(
    "Participants",
    (
        Column("ecg_id", pa.string(), "key of the recording; wins over participant_id"),
        _PARTICIPANT,
        Column("birth_date", pa.date32(), "with recorded_at gives the age in completed years"),
        Column("age_years", pa.float32(), "age at the recording, years; used without birth_date"),
        Column("sex", pa.string(), "female or male"),
        Column("bmi_kg_m2", pa.float32(), "body mass index, kg/m2; else from height and weight"),
        Column("height_cm", pa.float32(), "height, cm"),
        Column("weight_kg", pa.float32(), "weight, kg"),
        Column("birth_day_assumed", pa.bool_(), "birth_date is the 15th of a month because its day is not known"),
        Column("age_not_at_recording", pa.bool_(), "set by the planner: one age for ECGs that lie over a year apart"),
    ),
)

_OF_PEOPLE = tuple(column for column in PARTICIPANTS.columns[2:] if column.name != "age_not_at_recording")

INDEX: Final = Table(
    "Index of an archive",
    (
        Column("ecg_id", pa.string(), "key of the recording"),
        _PARTICIPANT,
        _RECORDED_AT,
        *_OF_PEOPLE,
        Column("qrs_duration_ms", pa.float32(), "QRS duration by the device, milliseconds"),
        *RHYTHM,
    ),
)

DUPLICATES: Final = Table(
    "Identical signals",
    (
        Column("signal_sha256", pa.string(), "hash that the recordings share", nullable=False),
        Column("ecg_id", pa.string(), "key of the recording", nullable=False),
        _PARTICIPANT,
        _RECORDED_AT,
    ),
)


def predictions_schema(*, recalibrated: bool) -> pa.Schema:
    """Return the Arrow schema of predictions, with the columns of --recalibration or without."""
    extra = RECALIBRATED.columns if recalibrated else ()
    return pa.schema([column.field() for column in (*PREDICTIONS.columns, *extra)])


TABLES: Final = (ECGS, PREDICTIONS, RECALIBRATED, REJECTS, PARTICIPANTS, INDEX, DUPLICATES)
