"""Recordings of synthetic hearts as each device writes them, and where their samples are.

The limb leads follow from each other and the measurements are those of the trace, as in real files,
so that what is checked between them can be tested.
"""

from __future__ import annotations

import datetime as dt
import io
import re
import zipfile
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

import h5py
import numpy as np
import scipy.io
from numpy.typing import NDArray

from beam_jobs.reading.array_input import read_array_file
from beam_jobs.reading.layout import Layout
from lvm_core.formats.registry import read_ecg
from lvm_core.signal.ecg import LEADS_12, Ecg, Measurements, r_column, s_column
from lvm_core.synthetic.device_files import write_cardiosoft, write_muse
from lvm_core.synthetic.ecgs import synthetic_ecgs
from tests.dicom_builders import dicom_file
from tests.file_builders import (
    aecg_xml,
    edf_file,
    philips_filled,
    philips_measured,
    philips_xml,
    random_counts,
    wfdb_packed_212,
    wfdb_record,
    wfdb_segments,
)
from tests.scp_builders import scp_bytes, scp_lead_measurements, scp_sections, scp_subtracted

N_ECGS = 8
"""Different hearts of each format."""

Counts = dict[str, NDArray[np.int16]]
Files = dict[str, bytes]
_WHEN = dt.datetime(2018, 7, 19, 14, 19, 39)


class Heart(NamedTuple):
    """What a device would write."""

    uv: NDArray[np.float64]  # (12, n_samples) microvolts, whole
    measured: Measurements

    def counts(self, uv_per_count: float, leads: tuple[str, ...] = LEADS_12) -> Counts:
        """Return the counts of a device with this step, by lead."""
        rounded = np.rint(self.uv / uv_per_count).astype(np.int16)
        return {lead: rounded[LEADS_12.index(lead)] for lead in leads}

    def again(self, times: int) -> Heart:
        """Return a recording that is as many times as long."""
        return self._replace(uv=np.tile(self.uv, times))

    def faster(self, times: int) -> Heart:
        """Return the recording at so many times 500 Hz."""
        place = np.arange(self.uv.shape[1] * times) / times
        uv = [np.interp(place, np.arange(self.uv.shape[1]), row) for row in self.uv]
        return self._replace(uv=np.rint(uv))


class Recording(NamedTuple):
    """The files of a recording, and the byte strings in them that hold the samples."""

    files: Files
    main: str
    samples: Mapping[str, tuple[bytes, ...]]  # by file, in order
    read: Callable[[Mapping[str, bytes], str], Ecg] = read_ecg
    beats: bytes = b"(?!)"  # pattern of the median beats in the main file, which are no samples either

    def spared(self, name: str) -> list[bytes]:
        """Return the byte strings of samples and of median beats in a file, in order."""
        data = self.files[name]
        beats = [found[1] for found in re.finditer(self.beats, data) if found[1] not in self.samples.get(name, ())]
        return sorted({*self.samples.get(name, ()), *beats}, key=data.index)

    def holds_samples(self, damaged: Mapping[str, bytes]) -> bool:
        """Return whether a damaged copy still has every byte string of samples."""
        return all(
            part in damaged.get(name, b"") for name, parts in self.samples.items() for part in dict.fromkeys(parts)
        )


def _hearts() -> list[Heart]:
    made = synthetic_ecgs(N_ECGS, seed=17)
    hearts = []
    for i in range(N_ECGS):
        values = {name: float(row[i]) for name, row in made.measurements.items()}
        measured = Measurements(**values, measured_by="12SL V21", qrs_measured_by="12SL V21")
        hearts.append(Heart(made.counts[i] * 5.0, measured))
    return hearts


def _between(data: bytes, start: bytes, stop: bytes) -> tuple[bytes, ...]:
    found = re.findall(re.escape(start) + rb"([^<]*)" + re.escape(stop), data)
    return tuple(found)


def _cardiosoft(heart: Heart) -> Recording:
    counts = np.stack(list(heart.counts(5.0).values()))
    data = write_cardiosoft(counts, 5.0, participant_id="1000001", recorded_at=_WHEN, measurements=heart.measured)
    strip = data[data.index(b"<StripData>") :]
    parts = tuple(re.findall(rb'<WaveformData lead="\w+">([^<]*)<', strip))
    return Recording({"a.xml": data}, "a.xml", {"a.xml": parts}, beats=rb'<WaveformData lead="\w+">([^<]*)<')


def _muse(heart: Heart) -> Recording:
    counts = np.stack(list(heart.counts(4.88).values()))
    data = write_muse(counts, 4.88, participant_id="1000001", recorded_at=_WHEN, measurements=heart.measured)
    parts = _between(data[data.index(b"<WaveformType>Rhythm") :], b"<WaveFormData>", b"</WaveFormData>")
    return Recording({"a.xml": data}, "a.xml", {"a.xml": parts}, beats=b"<WaveFormData>([^<]*)<")


def _muse_without_crc(heart: Heart) -> Recording:
    whole = _muse(heart)
    data = re.sub(rb"<LeadDataCRC32>.*?</LeadDataCRC32>", b"", whole.files["a.xml"])
    return whole._replace(files={"a.xml": data})


def _philips_waves(heart: Heart) -> str:
    waves: dict[str, dict[str, str]] = {}
    for lead in LEADS_12:
        r, s = getattr(heart.measured, r_column(lead)), getattr(heart.measured, s_column(lead))
        waves[lead] = {"qamp": "0", "ramp": f"{r:.0f}", "samp": f"{-s:.0f}", "rpamp": "0", "spamp": "0"}
    return philips_measured(waves)


def _philips(heart: Heart) -> Recording:
    data = philips_xml(philips_filled(heart.counts(5.0)), measured=_philips_waves(heart))
    return _philips_recording(data)


def _philips_uncompressed(heart: Heart) -> Recording:
    data = philips_xml(heart.counts(5.0), version="1.04", compressed=False, measured=_philips_waves(heart))
    return _philips_recording(data)


def _philips_recording(data: bytes) -> Recording:
    (part,) = re.findall(rb"<parsedwaveforms[^>]*>\s*([^<\s]+)", data)
    return Recording({"a.xml": data}, "a.xml", {"a.xml": (part,)}, beats=b"<repbeat [^>]*>([^<]*)<")


def _wfdb(heart: Heart) -> Recording:
    return _wfdb_recording(wfdb_record(heart.counts(5.0), gain="200.0(0)/mV"))


def _wfdb_without_checksum(heart: Heart) -> Recording:
    return _wfdb_recording(wfdb_record(heart.counts(5.0), gain="200.0(0)/mV", initial_value=0, checksum=0))


def _wfdb_212(heart: Heart) -> Recording:
    return _wfdb_recording(wfdb_packed_212(heart.counts(5.0), gain="200.0(0)/mV"))


def _wfdb_1000_hz(heart: Heart) -> Recording:
    counts = heart.faster(2).again(3).counts(0.5)
    line = f"rec1 12 1000 {len(counts['I'])}"
    return _wfdb_recording(wfdb_record(counts, gain="2000.0(0)/mV", record_line=line))


def _wfdb_segments(heart: Heart) -> Recording:
    counts = heart.counts(5.0)
    parts = [{lead: row[span] for lead, row in counts.items()} for span in (slice(0, 3000), slice(3000, None))]
    return _wfdb_recording(wfdb_segments(*parts))


def _wfdb_recording(files: Files) -> Recording:
    return Recording(files, "rec1.hea", {name: (data,) for name, data in files.items() if name.endswith(".dat")})


def _edf(heart: Heart) -> Recording:
    data = edf_file(heart.counts(2.5), record_s=1)
    n_header = int(data[184:192])
    return Recording({"a.edf": data}, "a.edf", {"a.edf": (data[n_header:],)})


def _aecg(heart: Heart) -> Recording:
    data = aecg_xml(heart.counts(2.5))
    rhythm = data[: data.index(b"derivedSeries")]
    samples = {"a.xml": _between(rhythm, b"<digits>", b"</digits>")}
    return Recording({"a.xml": data}, "a.xml", samples, beats=b"<digits>([^<]*)<")


def _dicom(heart: Heart) -> Recording:
    counts = heart.counts(4.88)
    data = dicom_file(counts)
    beat = np.column_stack(list(random_counts(99, n_samples=600).values())).tobytes()
    samples = {"a.dcm": (np.column_stack(list(counts.values())).tobytes(),)}
    return Recording({"a.dcm": data}, "a.dcm", samples, beats=b"(?s)(%s)" % re.escape(beat))


def _scp(heart: Heart) -> Recording:
    counts = heart.counts(2.5)
    peaks = (400, 1400, 2400)
    beats = {lead: np.rint(row[380:620] / 2).astype(np.int16) for lead, row in counts.items()}
    data = scp_subtracted(counts, beats, peaks)
    return Recording({"a.scp": data}, "a.scp", {"a.scp": _scp_parts(data)})


def _scp_parts(data: bytes) -> tuple[bytes, ...]:
    """Return the samples of each lead in sections 5 and 6."""
    parts = []
    for place in range(12):
        at = 22 + 10 * place
        number, length = int.from_bytes(data[at : at + 2], "little"), int.from_bytes(data[at + 2 : at + 6], "little")
        start = int.from_bytes(data[at + 6 : at + 10], "little") - 1 + 16
        if number in (5, 6) and length:
            sizes = np.frombuffer(data[start + 6 : start + 30], "<u2").tolist()
            begin = start + 30
            for size in sizes:
                parts.append(data[begin : begin + size])
                begin += size
    return tuple(parts)


def _scp_without_checksum(heart: Heart) -> Recording:
    sections = scp_sections(heart.counts(2.5), coding="plain", order=0)
    data = scp_bytes(sections, with_crc=False)
    return Recording({"a.scp": data}, "a.scp", {"a.scp": _scp_parts(data)})


def _scp_measured(heart: Heart) -> Recording:
    sections = scp_sections(heart.counts(2.5), coding="default", order=2)
    waves = {
        lead: {
            "Q": 0,
            "R": int(getattr(heart.measured, r_column(lead))),
            "S": -int(getattr(heart.measured, s_column(lead))),
            "R1": 0,
            "S1": 0,
        }
        for lead in LEADS_12
    }
    data = scp_bytes({**sections, 10: scp_lead_measurements(waves)}, with_crc=False)
    return Recording({"a.scp": data}, "a.scp", {"a.scp": _scp_parts(data)})


# Arrays

LAYOUT = Layout.model_validate(
    {
        "ecg_id": None,
        "signal": {
            "array": "x",
            "order": "sample_major",
            "leads": list(LEADS_12),
            "unit": "counts",
            "uv_per_count": "scale",
            "sampling_rate_hz": "rate",
        },
    }
)
_FIXED = Layout.model_validate(
    {
        "ecg_id": None,
        "signal": {
            "array": "x",
            "order": "sample_major",
            "leads": list(LEADS_12),
            "unit": "uV",
            "sampling_rate_hz": 500,
        },
    }
)


def _array(data: bytes, parts: tuple[bytes, ...], layout: Layout) -> Recording:
    return Recording({"a": data}, "a", {"a": parts}, lambda files, main: read_array_file(files[main], layout))


def _grid(heart: Heart, step_uv: float) -> NDArray[np.int16]:
    return np.ascontiguousarray(np.column_stack(list(heart.counts(step_uv).values())))


def _npy(heart: Heart) -> Recording:
    sink, grid = io.BytesIO(), _grid(heart, 1.0)
    np.save(sink, grid)
    return _array(sink.getvalue(), (grid.tobytes(),), _FIXED)


def _npz(heart: Heart) -> Recording:
    sink, grid = io.BytesIO(), _grid(heart, 5.0)
    np.savez_compressed(sink, x=grid, scale=np.array(5.0), rate=np.array(500))
    data = sink.getvalue()
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        info = packed.getinfo("x.npy")
    start = info.header_offset + 30 + len("x.npy")
    extra = int.from_bytes(data[info.header_offset + 28 : info.header_offset + 30], "little")
    body = data[start + extra : start + extra + info.compress_size]
    return _array(data, (body,), LAYOUT)


def _mat(heart: Heart) -> Recording:
    sink, grid = io.BytesIO(), _grid(heart, 5.0)
    scipy.io.savemat(sink, {"x": grid, "scale": 5.0, "rate": 500.0})
    return _array(sink.getvalue(), (np.asfortranarray(grid).tobytes("F"),), LAYOUT)


def _hdf5(heart: Heart) -> Recording:
    sink, grid = io.BytesIO(), _grid(heart, 5.0)
    with h5py.File(sink, "w") as file:
        file.create_dataset("x", data=grid, chunks=(5000, 12), compression="gzip")
        file["scale"], file["rate"] = 5.0, 500.0
    data = sink.getvalue()
    with h5py.File(io.BytesIO(data), "r") as file:
        chunk = file["x"].id.get_chunk_info(0)
    return _array(data, (data[chunk.byte_offset : chunk.byte_offset + chunk.size],), LAYOUT)


WRITERS: dict[str, Callable[[Heart], Recording]] = {
    "cardiosoft": _cardiosoft,
    "muse": _muse,
    "muse_without_crc": _muse_without_crc,
    "philips": _philips,
    "philips_uncompressed": _philips_uncompressed,
    "wfdb": _wfdb,
    "wfdb_without_checksum": _wfdb_without_checksum,
    "wfdb_212": _wfdb_212,
    "wfdb_segments": _wfdb_segments,
    "wfdb_1000_hz": _wfdb_1000_hz,
    "edf": _edf,
    "aecg": _aecg,
    "dicom": _dicom,
    "scp": _scp,
    "scp_measured": _scp_measured,
    "scp_without_checksum": _scp_without_checksum,
    "npy": _npy,
    "npz": _npz,
    "mat": _mat,
    "hdf5": _hdf5,
}


@lru_cache(maxsize=1)
def _all_hearts() -> list[Heart]:
    return _hearts()


@lru_cache(maxsize=N_ECGS)
def recording(name: str, number: int) -> Recording:
    """Return the recording of a heart, 0 to `N_ECGS` - 1, in a format of `WRITERS`."""
    return WRITERS[name](_all_hearts()[number])
