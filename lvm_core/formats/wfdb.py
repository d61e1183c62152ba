"""WFDB records: a text header and signal files in format 16."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lvm_core.ecg import Ecg
from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.formats.channels import INT16_LIMITS, Channel, assemble, require_leads
from lvm_core.formats.wfdb_header import Header, Signal, parse_header
from lvm_core.leads import LEADS_12, canonical_lead
from lvm_core.units import uv_per_unit

_MISSING_COUNT: Final = -32768
_WHERE: Final = "the WFDB record"


def read_wfdb(files: Mapping[str, bytes], main: str) -> Ecg:
    """Decode a WFDB record.

    All twelve leads are used as stored, mapped by the description of each signal; signals beyond
    the twelve (vx, vy, vz) are ignored, and a signal file that holds none of the twelve need not
    be there. Comment lines are not read: they hold no identifier that could be relied on.

    Args:
        files: the header and the signal files, by name. A signal file is looked up by the name in
            the header, as it is and in the folder of `main`.
        main: the name of the header in `files`.

    Raises:
        EcgRejected: the record cannot be used; the reason and the message say why.
    """
    header = parse_header(files[main])
    signals = _signals_by_lead(header)
    channels: dict[str, Channel] = {}
    for file_name in dict.fromkeys(signal.file_name for signal in signals.values()):
        raw = _signal_file(files, main, file_name)
        channels.update(_read_file(header, file_name, raw))
    twelve = assemble(channels, _WHERE)
    return Ecg(
        leads_uv=twelve.leads_uv,
        sampling_rate_hz=header.sampling_rate_hz,
        step_uv=twelve.step_uv,
        source_format="wfdb",
        saturated_leads=twelve.saturated,
        odd_gain_leads=twelve.odd_gain,
        recorded_at=header.recorded_at,
    )


def _signals_by_lead(header: Header) -> dict[str, Signal]:
    signals: dict[str, Signal] = {}
    for signal in header.signals:
        lead = canonical_lead(signal.description)
        if lead in signals:
            raise EcgRejected(
                RejectReason.UNREADABLE, f"lead {lead} is twice in {_WHERE}; expected each once"
            )
        if lead is not None:
            signals[lead] = signal
    require_leads(signals, LEADS_12, _WHERE)
    return signals


def _signal_file(files: Mapping[str, bytes], main: str, file_name: str) -> bytes:
    for key in (posixpath.join(posixpath.dirname(main), file_name), file_name):
        if key in files:
            return files[key]
    raise EcgRejected(
        RejectReason.TRUNCATED,
        f"signal file {file_name!r} of {_WHERE} is missing; expected it beside the header",
    )


def _read_file(header: Header, file_name: str, raw: bytes) -> dict[str, Channel]:
    """Return the channels of the twelve leads in one signal file, by lead name."""
    signals = [signal for signal in header.signals if signal.file_name == file_name]
    _check_layout(signals, file_name)
    frames = _frames(header, signals, raw)
    channels: dict[str, Channel] = {}
    for column, signal in enumerate(signals):
        lead = canonical_lead(signal.description)
        if lead is not None:
            counts = frames[:, column]
            _check_checksum(signal, lead, counts)
            channels[lead] = _channel(signal, lead, counts)
    return channels


def _check_layout(signals: list[Signal], file_name: str) -> None:
    for signal in signals:
        found = f"format {signal.format}x{signal.samples_per_frame}, skew {signal.skew}"
        if (signal.format, signal.samples_per_frame, signal.skew) != (16, 1, 0):
            raise EcgRejected(
                RejectReason.UNREADABLE,
                f"signal file {file_name!r} of {_WHERE} has {found}; only format 16 with one "
                "sample per frame and no skew is read. Convert it with the WFDB tool xform",
            )
    if len({signal.byte_offset for signal in signals}) > 1:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"signals of {file_name!r} state different byte offsets; expected the same for all",
        )


def _frames(header: Header, signals: list[Signal], raw: bytes) -> NDArray[np.int16]:
    """Return the samples of one signal file, (n_samples, n_signals), samples interleaved."""
    body = raw[signals[0].byte_offset :]
    n_bytes_frame = 2 * len(signals)
    n_samples = header.n_samples or len(body) // n_bytes_frame
    expected = n_samples * n_bytes_frame
    if len(body) < expected or (not header.n_samples and len(body) != expected):
        raise EcgRejected(
            RejectReason.TRUNCATED,
            f"signal file {signals[0].file_name!r} of {_WHERE} holds {len(body)} bytes of samples;"
            f" expected {header.n_samples or 'a whole number of'} samples of {n_bytes_frame} "
            "bytes. Copy the file again",
        )
    return np.frombuffer(body[:expected], dtype="<i2").reshape(n_samples, len(signals))


def _check_checksum(signal: Signal, lead: str, counts: NDArray[np.int16]) -> None:
    """Compare the 16-bit sum of the samples with the header's, if it states one.

    A header in which both the first sample and the checksum are 0, while the first sample is not,
    was written with placeholders: nothing is compared then.
    """
    if signal.checksum is None or counts.size == 0:
        return
    if signal.checksum == 0 and signal.initial_value == 0 and counts[0] != 0:
        return
    found = int(counts.sum(dtype=np.int64))
    if (found - signal.checksum) % 2**16:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"checksum of lead {lead} in {_WHERE} is {signal.checksum % 2**16}, "
            f"but the samples give {found % 2**16}; the file was damaged or edited",
        )


def _channel(signal: Signal, lead: str, counts: NDArray[np.int16]) -> Channel:
    if signal.gain <= 0:
        raise EcgRejected(
            RejectReason.UNKNOWN_UNIT,
            f"gain of lead {lead} in {_WHERE} is {signal.gain:g}: not calibrated; "
            "expected counts per unit above 0, for example 1000/mV",
        )
    return Channel(
        counts=counts,
        uv_per_count=uv_per_unit(signal.unit) / signal.gain,
        zero_count=signal.baseline,
        missing_count=_MISSING_COUNT,
        limits=_limits(signal, counts),
    )


def _limits(signal: Signal, counts: NDArray[np.int16]) -> tuple[int, int]:
    """Return the limits of the ADC; those of int16 when the samples contradict the header."""
    lowest, highest = INT16_LIMITS[0] + 1, INT16_LIMITS[1]
    if not 0 < signal.adc_bits < 16:
        return lowest, highest
    half = 2 ** (signal.adc_bits - 1)
    low, high = max(lowest, signal.adc_zero - half), min(highest, signal.adc_zero + half - 1)
    valid = counts[counts != _MISSING_COUNT]
    if np.any(valid < low) or np.any(valid > high):
        return lowest, highest
    return low, high
