"""Which columns a Parquet file of ECGs must have, and of which types."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa

from beam_jobs.blocks import AMPLITUDES
from beam_jobs.layout import Layout
from lvm_core import schemas
from lvm_core.errors import RejectReason
from lvm_core.leads import LEADS_12


def column_problems(schema: pa.Schema, layout: Layout | None) -> tuple[RejectReason, str] | None:
    """Return why a file's columns cannot be read, or None when they can."""
    needed = schemas.ECG_REQUIRED if layout is None else layout.needed_columns
    leads = LEADS_12 if layout is None else layout.signal.signal_columns
    twice = [name for name in (*needed, *optional_columns(layout)) if schema.names.count(name) > 1]
    if twice:
        reason = RejectReason.MISSING_LEAD if set(twice) & set(leads) else RejectReason.UNREADABLE
        return reason, (
            f"columns occur more than once: {', '.join(twice)}; expected each once, rename or remove the others"
        )
    missing = [name for name in needed if name not in schema.names]
    wrong = [
        f"{name} (is {schema.field(name).type}, expected {expected})"
        for name, fits, expected in _expected_types(layout)
        if name in schema.names and not fits(schema.field(name).type)
    ]
    if not missing and not wrong:
        return None
    lead_problem = any(text.split(" ")[0] in leads for text in (*missing, *wrong))
    reason = RejectReason.MISSING_LEAD if lead_problem else RejectReason.UNREADABLE
    parts = [f"columns are missing: {', '.join(missing)}"] if missing else []
    parts += [f"columns of another type: {', '.join(wrong)}"] if wrong else []
    return reason, "; ".join(parts)


def optional_columns(layout: Layout | None) -> tuple[str, ...]:
    """Return the columns whose values are null in a file that lacks them."""
    if layout is not None:
        return layout.optional_columns
    return ("participant_id", "recorded_at", *AMPLITUDES, "measured_by", "quality_flags")


def _expected_types(layout: Layout | None) -> Iterator[tuple[str, Callable[[pa.DataType], bool], str]]:
    """Yield (column, whether a type fits, what fits in words) of every column with a meaning."""
    name_of = {name: name for name in schemas.ECGS.names} if layout is None else layout.names
    for key in ("ecg_id", "participant_id"):
        # A decimal number is no key: 1000003 would be read as 1000003.0, another person.
        yield name_of.get(key) or "", _is_key, "text or whole numbers: cast it"
    yield name_of.get("recorded_at") or "", _is_time, "a timestamp, a date or text"
    for name in AMPLITUDES:
        yield name_of.get(name) or "", _is_number, "numbers"
    if layout is None:
        yield "uv_per_count", _is_number, "numbers"
        for lead in LEADS_12:
            yield lead, _is_int16_list, "a list of int16"
        return
    for by_row in (layout.signal.uv_per_count, layout.signal.sampling_rate_hz):
        if isinstance(by_row, str):
            yield by_row, _is_number, "numbers"
    for name in layout.signal.signal_columns:
        yield name, _is_number_list, "a list of numbers"


def _is_key(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return bool(text or pa.types.is_string_view(kind) or pa.types.is_integer(kind))


def _is_time(kind: pa.DataType) -> bool:
    zone_free = pa.types.is_timestamp(kind) or pa.types.is_date(kind)
    return bool(zone_free or pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _is_number_list(kind: pa.DataType) -> bool:
    while _is_list(kind):
        kind = kind.value_type
        if _is_number(kind):
            return True
    return False


def _is_int16_list(kind: pa.DataType) -> bool:
    return _is_list(kind) and bool(kind.value_type == pa.int16())
