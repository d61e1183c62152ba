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
from lvm_core.leads import canonical_lead
from lvm_core.quality import QualityFlag
from lvm_core.units import uv_per_unit

_MISSING_COUNT: Final = -32768
_WHERE: Final = "the WFDB record"


def read_wfdb(files: Mapping[str, bytes], main: str) -> Ecg:
    """Decode a WFDB record.

    Leads are used as stored, mapped by the description of each signal; III, aVR, aVL and aVF are
    derived from I and II where they are absent. Signals beyond the twelve (vx, vy, vz) are ignored,
    and a signal file that holds none of the twelve need not be there. Comment lines are not read:
    they hold no identifier that could be relied on.

    Args:
        files: the header and the signal files, by name. A signal file is looked up by the name in
            the header, in the folder of `main` and as it is, then without its folder.
        main: the name of the header in `files`.

    Raises:
        EcgRejected: the record cannot be used; the reason and the message say why.
    """
    header = parse_header(files[main])
    signals = _signals_by_lead(header)
    channels: dict[str, Channel] = {}
    for file_name in dict.fromkeys(signal.file_name for signal in signals.values()):
        raw = _signal_file(files, main, file_name, header)
        channels.update(_read_file(header, file_name, raw))
    twelve = assemble(channels, _WHERE)
    checked = _check_checksums(signals, channels)
    flags = {QualityFlag.CHECKSUM_ABSENT: not checked, QualityFlag.DATE_UNREADABLE: header.date_unreadable}
    return Ecg(
        leads_uv=twelve.leads_uv,
        sampling_rate_hz=header.sampling_rate_hz,
        step_uv=twelve.step_uv,
        source_format="wfdb",
        leads_derived=twelve.derived,
        saturated_leads=twelve.saturated,
        odd_gain_leads=twelve.odd_gain,
        recorded_at=header.recorded_at,
        quality_flags=tuple(flag.value for flag, is_set in flags.items() if is_set),
    )


def _signals_by_lead(header: Header) -> dict[str, Signal]:
    signals: dict[str, Signal] = {}
    for signal in header.signals:
        lead = canonical_lead(signal.description)
        if lead in signals:
            raise EcgRejected(RejectReason.UNREADABLE, f"lead {lead} is twice in {_WHERE}; expected each once")
        if lead is not None:
            signals[lead] = signal
    require_leads(signals, _WHERE, n_other=len(header.signals) - len(signals))
    return signals


def _signal_file(files: Mapping[str, bytes], main: str, file_name: str, header: Header) -> bytes:
    beside = posixpath.join(posixpath.dirname(main), posixpath.basename(file_name))
    named = posixpath.normpath(posixpath.join(posixpath.dirname(main), file_name))
    for key in (named, file_name, beside):
        if key in files:
            return files[key]
    raise EcgRejected(
        RejectReason.TRUNCATED,
        f"{_described_file(header, file_name)} is missing; expected it where the header says, or beside the header",
    )


def _described_file(header: Header, file_name: str) -> str:
    """Return how a message names a signal file: by its place, for its name may be a person's."""
    names = list(dict.fromkeys(signal.file_name for signal in header.signals))
    return f"signal file {names.index(file_name) + 1} of {len(names)} of {_WHERE}"


def _read_file(header: Header, file_name: str, raw: bytes) -> dict[str, Channel]:
    """Return the channels of the twelve leads in one signal file, by lead name."""
    signals = [signal for signal in header.signals if signal.file_name == file_name]
    file = _described_file(header, file_name)
    _check_layout(signals, file)
    frames = _frames(header, signals, raw, file)
    channels: dict[str, Channel] = {}
    for column, signal in enumerate(signals):
        lead = canonical_lead(signal.description)
        if lead is not None:
            channels[lead] = _channel(signal, lead, frames[:, column])
    return channels


def _check_layout(signals: list[Signal], file: str) -> None:
    for signal in signals:
        found = f"format {signal.format}x{signal.samples_per_frame}, skew {signal.skew}"
        if (signal.format, signal.samples_per_frame, signal.skew) != (16, 1, 0):
            raise EcgRejected(
                RejectReason.UNREADABLE,
                f"{file} has {found}; only format 16 with one "
                "sample per frame and no skew is read. Convert it with the WFDB tool xform",
            )
    if len({signal.byte_offset for signal in signals}) > 1:
        raise EcgRejected(
            RejectReason.UNREADABLE, f"signals of {file} state different byte offsets; expected the same for all"
        )


def _frames(header: Header, signals: list[Signal], raw: bytes, file: str) -> NDArray[np.int16]:
    """Return the samples of one signal file, (n_samples, n_signals), samples interleaved."""
    body = raw[signals[0].byte_offset :]
    n_bytes_frame = 2 * len(signals)
    n_samples = header.n_samples or len(body) // n_bytes_frame
    expected = n_samples * n_bytes_frame
    if len(body) < expected or (not header.n_samples and len(body) != expected):
        raise EcgRejected(
            RejectReason.TRUNCATED,
            f"{file} holds {len(body)} bytes of samples; "
            f"expected {header.n_samples or 'a whole number of'} samples of {n_bytes_frame} "
            "bytes. Copy the file again",
        )
    return np.frombuffer(body[:expected], dtype="<i2").reshape(n_samples, len(signals))


def _check_checksums(signals: Mapping[str, Signal], channels: Mapping[str, Channel]) -> bool:
    """Compare the 16-bit sums of the samples with the header's; return False when it states none.

    Some writers put 0 in place of every checksum. The header is judged as a whole: one lead alone
    may well have the sum 0, eight or more with the sum 0 do not occur.
    """
    stated = {lead: (signals[lead].checksum or 0) % 2**16 for lead in channels}
    found = {lead: int(channel.counts.sum(dtype=np.int64)) % 2**16 for lead, channel in channels.items()}
    wrong = [lead for lead in channels if stated[lead] != found[lead]]
    if not wrong:
        return True
    if not any(stated.values()):
        return False
    raise EcgRejected(
        RejectReason.UNREADABLE,
        f"checksum of lead {wrong[0]} in {_WHERE} is {stated[wrong[0]]}, "
        f"but the samples give {found[wrong[0]]}; the file was damaged or edited",
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
