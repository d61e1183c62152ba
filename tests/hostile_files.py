"""Small files that ask for much memory or time, and what each costs in a process of its own.

python -m tests.hostile_files [CASE...]

prints a line of JSON for each: its name, the outcome, processor seconds and the peak of memory, MB.
"""

from __future__ import annotations

import base64
import io
import json
import os
import resource
import struct
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence

import h5py
import numpy as np

from beam_jobs.reading.array_input import read_array_file
from beam_jobs.reading.layout import Layout
from lvm_core.errors import EcgRejected
from lvm_core.formats.registry import MAX_RECORD_BYTES, read_ecg
from lvm_core.signal.canonical import canonicalise
from lvm_core.signal.ecg import LEADS_12, Ecg
from tests.dicom_builders import dicom_bytes, dicom_data_set, dicom_file, dicom_group
from tests.file_builders import (
    aecg_annotation,
    aecg_document,
    aecg_series,
    edf_file,
    lzw_bytes,
    philips_xml,
    random_counts,
)
from tests.scp_builders import scp_bytes, scp_lead_table, scp_patient, scp_samples, scp_sections, scp_subtracted

Files = Mapping[str, bytes]

_MOST_MEMORY_BYTES = 3_000_000_000  # of a case; protects the machine that runs the tests
_FULL = MAX_RECORD_BYTES - 100_000
_LAYOUT = Layout.model_validate(
    {"signal": {"array": "x", "order": "sample_major", "leads": list(LEADS_12), "unit": "mV", "sampling_rate_hz": 500}}
)


def _small() -> dict[str, np.ndarray]:
    return random_counts(3, n_samples=5000)


def _xml(data: bytes) -> Files:
    return {"a.xml": data}


def _filled(head: str, body: str, tail: str) -> Files:
    return _xml((head + body * ((_FULL - len(head) - len(tail)) // len(body)) + tail).encode())


def _attributes(root: str) -> Files:
    listed = " ".join(f"a{n}=''" for n in range(1_700_000))
    return _xml(f"<{root} {listed}/>".encode())


def _entities(root: str) -> Files:
    levels = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    return _xml(f'<!DOCTYPE a [<!ENTITY e0 "lol">{levels}]><{root}>&e11;</{root}>'.encode())


def _cardiosoft_samples() -> Files:
    """Return leads of nearly as many samples as may be."""
    numbers = ",".join(["1", "2"] * 495_000)
    leads = "".join(
        f'<WaveformData lead="{lead}">{numbers}</WaveformData>'
        for lead in ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
    )
    head = '<SampleRate units="Hz">500</SampleRate><Resolution units="uVperLsb">5</Resolution>'
    return _xml(f"<CardiologyXML><StripData>{head}{leads}</StripData></CardiologyXML>".encode())


def _muse_samples() -> Files:
    raw = base64.b64encode(np.tile(np.array([100, -100], "<i2"), 450_000).tobytes()).decode()
    leads = "".join(
        f"<LeadData><LeadID>{lead}</LeadID><LeadAmplitudeUnitsPerBit>4.88</LeadAmplitudeUnitsPerBit>"
        f"<LeadAmplitudeUnits>MICROVOLTS</LeadAmplitudeUnits><WaveFormData>{raw}</WaveFormData></LeadData>"
        for lead in ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
    )
    head = "<WaveformType>Rhythm</WaveformType><SampleBase>500</SampleBase>"
    return _xml(f"<RestingECG><Waveform>{head}{leads}</Waveform></RestingECG>".encode())


def _muse_untyped() -> Files:
    one = (
        "<Waveform><SampleBase>500</SampleBase><LeadData><WaveFormData>"
        + "A" * 20_000
        + "</WaveFormData></LeadData></Waveform>"
    )
    return _filled("<RestingECG>", one, "</RestingECG>")


def _philips(chunk: bytes, n: int, duration_ms: int, attributes: str = "") -> Files:
    packed = base64.b64encode(chunk * n).decode()
    stated = f'compressmethod="XLI" compressflag="True" durationperchannel="{duration_ms}" {attributes}'
    return _xml(philips_xml(_small(), waveform=packed, attributes=stated))


def _lzw_bomb(n_bytes: int) -> bytes:
    """Return a chunk whose codes unpack to so many zeros: each string is one byte longer."""
    codes, length, total = [0], 1, 1
    while total < n_bytes:
        if len(codes) < 700:
            codes.append(255 + len(codes))
            length += 1
        else:
            codes.append(255 + 699)
        total += length
    body = lzw_bytes([*codes, 1023])
    return len(body).to_bytes(4, "little") + bytes(4) + body


def _dicom_groups() -> Files:
    groups = [dicom_group(random_counts(1, n_samples=10)) for _ in range(1000)]
    return {"a.dcm": dicom_bytes(dicom_data_set(groups))}


def _dicom_samples() -> Files:
    counts = {lead: np.tile(np.array([100, -100], np.int16), 410_000) for lead in LEADS_12}
    return {"a.dcm": dicom_file(counts, with_median=False)}


def _scp(sections: Mapping[int, bytes]) -> Files:
    return {"a.scp": scp_bytes(sections)}


def _scp_tables() -> Files:
    """Return a file of as many and as long codes as there may be, none of which fits."""
    one = struct.pack("<H", 1000) + b"".join(struct.pack("<BBBhI", 32, 32, 1, 1, n) for n in range(1000))
    return _scp({**scp_sections(_small()), 2: struct.pack("<H", 2) + one + one})


def _scp_leads() -> Files:
    parts = [bytes(65_000)] * 255
    table = scp_lead_table([n % 200 + 1 for n in range(255)], 32_000)
    return _scp({1: scp_patient(), 3: table, 6: scp_samples(parts)})


def _scp_samples() -> Files:
    """Return leads of the most samples, zeros of one bit each."""
    n_samples = 99_000
    parts = [bytes(n_samples // 8 + 1)] * 12
    table = scp_lead_table([1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8], n_samples)
    return _scp({1: scp_patient(), 2: struct.pack("<H", 19999), 3: table, 6: scp_samples(parts)})


def _scp_complexes() -> Files:
    """Return a file of as many QRS complexes as can be stated."""
    data = scp_subtracted(
        _small(), random_counts(8, n_samples=300), [400 + 2 * n for n in range(2000)], types=[1] * 2000
    )
    return {"a.scp": data}


def _scp_pointers() -> Files:
    """Return a file whose section 0 is a hundred thousand pointers to nothing."""
    n = 1_900_000
    pointers = struct.pack("<HII", 900, 16, 7) * n
    section = struct.pack("<HHIBB", 0, 0, 16 + len(pointers), 20, 20) + b"SCPECG" + pointers
    return {"a.scp": struct.pack("<HI", 0, 6 + len(section)) + section}


def _scp_measurements() -> Files:
    block = struct.pack("<HH", 1, 0)
    return _scp({**scp_sections(_small()), 10: struct.pack("<HH", 1, 0) + block * 4_500_000})


def _scp_fields() -> Files:
    return _scp({**scp_sections(_small()), 1: struct.pack("<BH", 9, 0) * 6_000_000})


def _edf_header(**fields: tuple[int, int, str]) -> Files:
    data = bytearray(edf_file(random_counts(3, n_samples=5000)))
    for start, stop, text in fields.values():
        data[start:stop] = text.ljust(stop - start).encode()
    return {"a.edf": bytes(data)}


def _edf_signals() -> Files:
    """Return 256 signals of a million records of no samples."""
    head = bytearray(edf_file({lead: np.zeros(1, np.int16) for lead in LEADS_12})[:256])
    head[184:192], head[236:244], head[252:256] = b"65792   ", b"99999999", b"256 "
    head[192:236] = b"EDF+C".ljust(44)
    fields = [
        (16, b"ECG I"),
        (80, b""),
        (8, b"uV"),
        (8, b"-1"),
        (8, b"1"),
        (8, b"-1"),
        (8, b"1"),
        (80, b""),
        (8, b"0"),
        (32, b""),
    ]
    body = b"".join(value.ljust(width) * 256 for width, value in fields)
    return {"a.edf": bytes(head) + body}


def _edf_annotations() -> Files:
    """Return a file that is annotations for the most part."""
    data = edf_file({lead: row for lead, row in random_counts(3, n_samples=5000).items()}, record_s=1)
    n_header = int(data[184:192])
    return {"a.edf": data[:192] + b"EDF+C".ljust(44) + data[236:n_header] + b"\x14+1\x14x\x14\0" * 10}


def _wfdb(header: str, samples: bytes = b"") -> Files:
    return {"a.hea": header.encode(), "a.dat": samples}


def _wfdb_lines() -> Files:
    line = "a.dat 16 200 16 0 0 0 0 x\n"
    n = 990_000 // len(line)
    return _wfdb(f"a {n} 500 5000\n" + line * n, bytes(5000))


def _wfdb_samples() -> Files:
    lines = "".join(f"a.dat 212 200 12 0 0 0 0 {lead}\n" for lead in ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6"))
    n = 1_299_998
    return _wfdb(f"a 8 500 {n}\n{lines}", bytes(n * 8 * 3 // 2))


def _wfdb_segment_loop() -> Files:
    return _wfdb("a/1000 12 500 5000000\n" + "a 5000\n" * 1000)


def _wfdb_gaps() -> Files:
    return _wfdb("a/1000 12 500 1000\n" + "~ 999999999\n" * 1000)


def _npy(header: str, data: bytes = b"", version: int = 1) -> Files:
    text = header.encode("latin-1")
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    return {"a": b"\x93NUMPY" + bytes([version, 0]) + size + text + data}


def _npz(members: Mapping[str, bytes], stated: int | None = None) -> Files:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in members.items():
            packed.writestr(name, data)
    data = sink.getvalue()
    if stated is not None:  # the size that the directory states for each member
        (size,) = {len(one) for one in members.values()}
        data = data.replace(struct.pack("<I", size), struct.pack("<I", stated))
    return {"a": data}


def _npz_members() -> Files:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as packed:
        for n in range(60_000):
            packed.writestr(f"{n}.npy", b"")
    data = sink.getvalue()
    end = data.rindex(b"PK\x05\x06")
    start = struct.unpack_from("<I", data, end + 16)[0]
    directory = data[start:end]
    times = (_FULL - start) // len(directory)
    counts = 0xFFFF
    tail = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, counts, counts, len(directory) * times, start, 0)
    return {"a": data[:start] + directory * times + tail}


def _mat_header() -> bytes:
    return b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"


def _mat_element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def _mat_array(name: bytes, array_class: int, dims: Sequence[int], body: bytes) -> bytes:
    flags = _mat_element(6, struct.pack("<II", array_class, 0))
    shape = _mat_element(5, struct.pack(f"<{len(dims)}i", *dims))
    return _mat_element(14, flags + shape + _mat_element(1, name) + body)


def _mat(elements: bytes, *, compressed: bool = False) -> Files:
    if compressed:
        packed = zlib.compress(elements, 9)
        elements = struct.pack("<II", 15, len(packed)) + packed
    return {"a": _mat_header() + elements}


def _mat_cells() -> Files:
    """Return a cell array of a million empty cells, which compresses well."""
    cell = _mat_array(b"", 6, (0, 0), _mat_element(9, b""))
    n = 60_000_000 // len(cell)
    return _mat(_mat_array(b"x", 1, (1, n), cell * n), compressed=True)


def _mat_deep() -> Files:
    body = _mat_array(b"", 6, (0, 0), _mat_element(9, b""))
    for _ in range(20_000):
        body = _mat_array(b"", 1, (1, 1), body)
    return _mat(_mat_array(b"x", 1, (1, 1), body))


def _mat_struct(dims: Sequence[int], n_fields: int) -> Files:
    names = b"".join(f"f{n}".encode().ljust(8, b"\0") for n in range(n_fields))
    body = _mat_element(5, struct.pack("<i", 8)) + _mat_element(1, names)
    return _mat(_mat_array(b"x", 2, dims, body))


def _mat_variables() -> Files:
    one = _mat_array(b"y", 6, (1, 1), _mat_element(9, bytes(8)))
    return _mat(one * (_FULL // len(one)))


def _mat_many_packed() -> Files:
    """Return a thousand elements, each of which unpacks to 60 kB."""
    one = zlib.compress(_mat_array(b"y", 9, (1, 60_000), _mat_element(2, bytes(60_000))), 9)
    return _mat((struct.pack("<II", 15, len(one)) + one) * 1000)


def _hdf5(make: Callable[[h5py.File], None]) -> Files:
    sink = io.BytesIO()
    with h5py.File(sink, "w") as file:
        make(file)
    return {"a": sink.getvalue()}


def _hdf5_chunk_bomb(n_bytes: int) -> Files:
    """Return a chunk of 120 kB that inflates to far more than that."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(10**6)) for _ in range(n_bytes // 10**6)) + packer.flush()

    def make(file: h5py.File) -> None:
        dataset = file.create_dataset("x", (5000, 12), "i2", chunks=(5000, 12), compression="gzip")
        dataset.id.write_direct_chunk((0, 0), packed)

    return _hdf5(make)


def _hdf5_filters() -> Files:
    """Return a chunk that is packed ten times over."""

    def make(file: h5py.File) -> None:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((5000, 12))
        for _ in range(2):
            plan.set_deflate(9)
        space = h5py.h5s.create_simple((5000, 12))
        dataset = h5py.h5d.create(file.id, b"x", h5py.h5t.STD_I16LE, space, plan)
        packed = zlib.compress(bytes(500_000_000), 9)
        dataset.write_direct_chunk((0, 0), zlib.compress(packed, 9))

    return _hdf5(make)


def _hdf5_groups() -> Files:
    def make(file: h5py.File) -> None:
        group = file
        for _ in range(1500):
            group = group.create_group("g")
        for n in range(3000):
            file.create_group(f"n{n}")

    return _hdf5(make)


def _hdf5_empty_chunks() -> Files:
    def make(file: h5py.File) -> None:
        file.create_dataset("x", (4_000_000 // 12, 12), "f8", chunks=(1, 1), fillvalue=1.0)

    return _hdf5(make)


def _hdf5_wide_type() -> Files:
    def make(file: h5py.File) -> None:
        file.create_dataset("x", (1000, 12), np.dtype(("S", 100_000)), chunks=(1, 1))

    return _hdf5(make)


_ROOTS = {"cardiosoft": "CardiologyXML", "muse": "RestingECG", "philips": "restingecgdata", "aecg": "AnnotatedECG"}
CASES: dict[str, Callable[[], Files]] = {
    **{f"{name}: elements": lambda r=root: _filled(f"<{r}>", "<a/>", f"</{r}>") for name, root in _ROOTS.items()},
    **{f"{name}: attributes": lambda r=root: _attributes(r) for name, root in _ROOTS.items()},
    **{f"{name}: depth": lambda r=root: _filled(f"<{r}>", "<a>", "") for name, root in _ROOTS.items()},
    **{f"{name}: entities": lambda r=root: _entities(r) for name, root in _ROOTS.items()},
    **{f"{name}: stray marks": lambda r=root: _filled(f"<{r}>", "<&", f"</{r}>") for name, root in _ROOTS.items()},
    **{f"{name}: one text": lambda r=root: _filled(f"<{r}><a>", "1,", f"</a></{r}>") for name, root in _ROOTS.items()},
    "cardiosoft: samples": _cardiosoft_samples,
    "muse: samples": _muse_samples,
    "muse: waveforms without a type": _muse_untyped,
    "philips: LZW": lambda: _philips(_lzw_bomb(400_000), 16, 400_000),
    "philips: LZW of more than is stated": lambda: _philips(_lzw_bomb(20_000_000), 12, 11_000),
    "philips: samples": lambda: _philips(bytes(15_000_000), 1, 400_000, 'resolution="5"'),
    "aecg: samples": lambda: _xml(
        aecg_document(
            aecg_series({lead: np.ones(990_000, np.int16) for lead in ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")})
        )
    ),
    "aecg: series": lambda: _xml(aecg_document(*[aecg_series({"I": np.ones(5, np.int16)})] * 2000)),
    "aecg: annotations": lambda: _xml(aecg_document(aecg_series(_small(), inside=aecg_annotation() * 8000))),
    "dicom: groups": _dicom_groups,
    "dicom: samples": _dicom_samples,
    "scp: tables": _scp_tables,
    "scp: leads": _scp_leads,
    "scp: samples": _scp_samples,
    "scp: complexes": _scp_complexes,
    "scp: pointers": _scp_pointers,
    "scp: lead measurements": _scp_measurements,
    "scp: fields": _scp_fields,
    "edf: records": lambda: _edf_header(n=(236, 244, "99999999")),
    "edf: signals without samples": _edf_signals,
    "edf: annotations": _edf_annotations,
    "wfdb: signal lines": _wfdb_lines,
    "wfdb: samples": _wfdb_samples,
    "wfdb: segments of itself": _wfdb_segment_loop,
    "wfdb: gaps": _wfdb_gaps,
    "npy: shape": lambda: _npy("{'descr': '<i2', 'fortran_order': False, 'shape': (4611686018427387904, 12), }\n"),
    "npy: shape of zeros": lambda: _npy("{'descr': '<i2', 'fortran_order': False, 'shape': (0, 10**18), }\n"),
    "npy: dimensions": lambda: _npy(
        "{'descr': '<i2', 'fortran_order': False, 'shape': (" + "1," * 40 + "), }\n", b"12"
    ),
    "npy: brackets": lambda: _npy("(" * 9000),
    "npy: header": lambda: _npy("[" + "1," * 9_000_000, version=2),
    "npy: wide type": lambda: _npy("{'descr': '<U999999999', 'fortran_order': False, 'shape': (5000, 12), }\n"),
    "npz: bomb": lambda: _npz({"x.npy": bytes(600_000_000)}),
    "npz: bomb that states little": lambda: _npz({"x.npy": bytes(600_000_000)}, stated=120_000),
    "npz: members": _npz_members,
    "mat: cells": _mat_cells,
    "mat: depth": _mat_deep,
    "mat: structures": lambda: _mat_struct((1000, 1_000_000), 2),
    "mat: fields": lambda: _mat_struct((1, 1), 2_000_000),
    "mat: shape": lambda: _mat(_mat_array(b"x", 6, (2_000_000_000, 12), _mat_element(9, bytes(8)))),
    "mat: variables": _mat_variables,
    "mat: packed": lambda: _mat(_mat_array(b"x", 9, (1, 10**9), _mat_element(2, bytes(300_000_000))), compressed=True),
    "mat: many packed": _mat_many_packed,
    "mat: packed text": lambda: _mat(
        _mat_array(b"x", 4, (1, 60_000_000), _mat_element(16, bytes(60_000_000))), compressed=True
    ),
    "mat: packed samples": lambda: _mat(
        _mat_array(b"x", 6, (4_900_000, 12), _mat_element(1, bytes(58_800_000))), compressed=True
    ),
    "hdf5: chunk": lambda: _hdf5_chunk_bomb(1_000_000_000),
    "hdf5: filters": _hdf5_filters,
    "hdf5: groups": _hdf5_groups,
    "hdf5: chunks of one value": _hdf5_empty_chunks,
    "hdf5: wide type": _hdf5_wide_type,
}


def _read(name: str, files: Files) -> Ecg:
    kind = name.partition(":")[0]
    main = next(iter(files))
    if kind in ("npy", "npz", "mat", "hdf5"):
        return read_array_file(files[main], _LAYOUT)
    return read_ecg(files, main)


def _outcome(name: str, files: Files) -> str:
    try:
        canonicalise(_read(name, files))
    except EcgRejected as rejected:
        return rejected.reason.value
    except BaseException as error:  # noqa: BLE001 - told to the test
        return f"crash: {type(error).__name__}: {error}"[:200]
    return "read"


def measure(name: str) -> dict[str, object]:
    """Return what reading a case costs, in a process that is forked for it."""
    files = CASES[name]()
    n_bytes = sum(map(len, files.values()))
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY_BYTES, _MOST_MEMORY_BYTES))
        started_s = time.process_time()
        outcome = _outcome(name, files)
        cpu_s = time.process_time() - started_s
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        os.write(send, json.dumps([outcome, cpu_s, peak_mb]).encode())
        os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as stream:
        told = stream.read()
    os.waitpid(child, 0)
    outcome, cpu_s, peak_mb = json.loads(told) if told else ("killed", 0.0, 0.0)
    return {"case": name, "bytes": n_bytes, "outcome": outcome, "cpu_s": round(cpu_s, 2), "peak_mb": round(peak_mb)}


def main(argv: Sequence[str]) -> int:
    """Measure cases; run alone, a case does not count what the case before it built."""
    for name in argv or CASES:
        sys.stdout.write(json.dumps(measure(name)) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
