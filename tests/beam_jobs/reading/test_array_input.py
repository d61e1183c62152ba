from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from beam_jobs.reading import array_input
from beam_jobs.reading.array_input import open_stack, read_array_file, read_stack, stack_durations, stack_keys
from beam_jobs.reading.layout import Layout
from beam_jobs.reading.parquet_input import ParquetReader
from beam_jobs.reading.storage import RetryingFile, Storage, StorageFault
from beam_jobs.reading.units import Piece
from lvm_core.errors import EcgRejected, LvmError, RejectReason
from lvm_core.signal.canonical import canonicalise
from lvm_core.signal.ecg import LEADS_12
from tests.lvm_core.formats.helpers import SHARED_ECG, assert_rejected, lead_uv, needs_real_files
from tests.mutants import mutant

CODE_15_LEADS = ["DI", "DII", "DIII", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6"]
N_MUTANTS = 60
N_MUTANTS_SLOW = 2000


def layout_of(array: str = "x", ecg_id: str | None = None, **signal: Any) -> Layout:
    stated = {"array": array, "order": "sample_major", "leads": CODE_15_LEADS, "unit": "mV", "sampling_rate_hz": 500}
    return Layout.model_validate({"ecg_id": ecg_id, "signal": {**stated, **signal}})


def samples_mv(seed: int = 1, n_samples: int = 5000, n_leads: int = 12) -> np.ndarray:
    """Return (n_samples, n_leads) float32: noise on a wave, so that no lead is standardised."""
    rng = np.random.default_rng(seed)
    wave = np.sin(np.arange(n_samples) / 40)[:, None] * np.linspace(0.2, 0.9, n_leads)
    return (wave + 0.1 * rng.standard_normal((n_samples, n_leads))).astype(np.float32)


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _npz(array: np.ndarray, **more: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=array, **more)
    return buffer.getvalue()


def _mat(array: np.ndarray, **more: Any) -> bytes:
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"x": array, **more}, do_compression=True)
    return buffer.getvalue()


def _hdf5(array: np.ndarray, **more: Any) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset("x", data=array, chunks=True, compression="gzip")
        for name, value in more.items():
            file[name] = value
    return buffer.getvalue()


WRITERS: dict[str, Callable[[np.ndarray], bytes]] = {"npy": _npy, "npz": _npz, "mat": _mat, "hdf5": _hdf5}
ONE = samples_mv()


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("order", ["sample_major", "lead_major"])
def test_read_array_file__gives_the_leads_of_the_layout(kind: str, order: str) -> None:
    array = ONE if order == "sample_major" else ONE.T
    ecg = read_array_file(WRITERS[kind](array), layout_of(order=order))
    for column, lead in enumerate(LEADS_12):
        np.testing.assert_allclose(lead_uv(ecg, lead), ONE[:, column] * 1e3, rtol=1e-6, atol=0)
    assert (ecg.sampling_rate_hz, ecg.source_format, ecg.leads_derived) == (500.0, "array", False)


def test_read_array_file__leads_unit_and_rate_are_those_of_the_layout() -> None:
    counts = (samples_mv(n_leads=8) * 1000).astype(np.int16)
    leads = ["V6", "I", "II", "V1", "V2", "V3", "V4", "V5"]
    layout = layout_of(leads=leads, unit="counts", uv_per_count="scale", sampling_rate_hz="fs")
    ecg = read_array_file(_mat(counts, scale=4.88, fs=400), layout)
    np.testing.assert_allclose(lead_uv(ecg, "V6"), counts[:, 0] * 4.88, rtol=1e-6, atol=0)
    assert (ecg.sampling_rate_hz, ecg.step_uv, ecg.leads_derived) == (400.0, 4.88, True)


def test_read_array_file__field_of_a_structure_and_columns_first() -> None:
    data = _mat(np.zeros(1), ECG={"sex": "Male", "data": np.asfortranarray(ONE.T)})
    ecg = read_array_file(data, layout_of("ECG.data", order="lead_major"))
    np.testing.assert_allclose(lead_uv(ecg, "V6"), ONE[:, 11] * 1e3, rtol=1e-6, atol=0)
    np.testing.assert_allclose(
        read_array_file(_npy(np.asfortranarray(ONE)), layout_of()).leads_uv, ecg.leads_uv, rtol=1e-6, atol=0
    )


def test_read_array_file__one_ecg_in_a_stack_is_one_ecg() -> None:
    assert read_array_file(_npy(ONE[None, None]), layout_of()).n_samples == 5000


@pytest.mark.parametrize(("n_start", "n_end", "n_left"), [(48, 48, 4904), (0, 700, 4300), (9, 9, 5000), (10, 0, 4990)])
def test_read_array_file__zeros_at_both_ends_are_filling(n_start: int, n_end: int, n_left: int) -> None:
    array = ONE.copy()
    array[:n_start], array[5000 - n_end :] = 0, 0
    ecg = read_array_file(_npy(array), layout_of())
    assert ecg.n_samples == n_left
    if n_left < 5000:
        np.testing.assert_allclose(lead_uv(ecg, "I")[0], array[n_start, 0] * 1e3, rtol=1e-6, atol=0)


def test_read_array_file__standardised_leads_are_refused() -> None:
    scaled = (ONE - ONE.mean(axis=0)) / ONE.std(axis=0)
    wanted = "standard deviations of the 12 leads agree within"
    assert_rejected(lambda: read_array_file(_npy(scaled), layout_of()), RejectReason.LEAD_STANDARDISED, wanted)
    filled = np.concatenate([np.zeros((700, 12)), scaled])
    wide = 3 * (filled - filled.mean(axis=0)) / filled.std(axis=0)
    assert_rejected(lambda: read_array_file(_npy(wide), layout_of()), RejectReason.LEAD_STANDARDISED, wanted)
    eight = layout_of(leads=["I", "II", "V1", "V2", "V3", "V4", "V5", "V6"])
    assert_rejected(lambda: read_array_file(_npy(scaled[:, :8]), eight), RejectReason.LEAD_STANDARDISED, "the 8 leads")


@pytest.mark.parametrize(
    ("data", "changes", "reason", "message"),
    [
        (b"", {}, RejectReason.TRUNCATED, "file is empty, 0 bytes"),
        (b"text", {}, RejectReason.NOT_AN_ECG, "none of HDF5, .npy, .npz and MATLAB 5"),
        (b"MATLAB 7.3 MAT-file", {}, RejectReason.NOT_AN_ECG, "MATLAB 7.3, which is not read; save it with -v7"),
        (_npz(ONE), {"array": "y"}, RejectReason.MISSING_LEAD, "file holds no array y"),
        (_mat(ONE), {"array": "y"}, RejectReason.MISSING_LEAD, "file holds no array y"),
        (_mat(ONE), {"array": "x.y"}, RejectReason.MISSING_LEAD, "file holds no array x.y"),
        (_hdf5(ONE), {"array": "x/y"}, RejectReason.MISSING_LEAD, "file holds no array x/y"),
        (_npy(ONE), {"order": "lead_major"}, RejectReason.MISSING_LEAD, "5000 x 12; expected 12 leads in the order"),
        (_npy(ONE[:, :11]), {}, RejectReason.MISSING_LEAD, "array is 5000 x 11; expected 12 leads"),
        (_npy(ONE[:, 0]), {}, RejectReason.MISSING_LEAD, "array is 5000; expected samples x leads of one recording"),
        (_npy(np.float64(3)), {}, RejectReason.MISSING_LEAD, "array is one number"),
        (_npy(np.stack([ONE, ONE])), {}, RejectReason.MISSING_LEAD, "array is 2 x 5000 x 12; .* HDF5, with ecg_id"),
        (_npy(np.array(["a"])), {}, RejectReason.UNREADABLE, "holds no numbers"),
        (_mat(np.array([["abc"]])), {}, RejectReason.UNREADABLE, "holds no numbers"),
        (_npy(ONE)[:-1], {}, RejectReason.UNREADABLE, "array x cannot be decoded"),
        (_npz(ONE)[:-900], {}, RejectReason.UNREADABLE, "array x cannot be decoded"),
        (_npy(ONE), {"sampling_rate_hz": "x"}, RejectReason.UNSUPPORTED_RATE, "array x of the layout holds no number"),
        (
            _mat(ONE, fs=-1),
            {"sampling_rate_hz": "fs"},
            RejectReason.UNSUPPORTED_RATE,
            "array fs of the layout holds no",
        ),
        (
            _mat(ONE, g=0),
            {"unit": "counts", "uv_per_count": "g"},
            RejectReason.UNKNOWN_UNIT,
            "array g of the layout holds no number above 0",
        ),
        (_npy(np.zeros((5000, 12))), {}, RejectReason.LEAD_ALL_ZERO, "all leads are 0 over all 5000 samples"),
    ],
)
def test_read_array_file__is_refused_with_what_was_found(
    data: bytes, changes: dict[str, Any], reason: RejectReason, message: str
) -> None:
    assert_rejected(lambda: read_array_file(data, layout_of(**changes)), reason, message)


def test_read_array_file__objects_are_never_executed() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert_rejected(lambda: read_array_file(buffer.getvalue(), layout_of()), RejectReason.UNREADABLE, "no numbers")


def test_read_array_file__what_it_unpacks_to_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_input, "MOST_UNPACKED_BYTES", 100_000)
    for data in (_npz(ONE), _mat(ONE)):
        assert_rejected(lambda d=data: read_array_file(d, layout_of()), RejectReason.UNREADABLE, "unpacks to more than")
    assert_rejected(
        lambda: read_array_file(_hdf5(np.zeros((5000, 1200), np.int8)), layout_of()),
        RejectReason.UNREADABLE,
        "the limit is 4000000",
    )
    monkeypatch.setattr(array_input, "MOST_UNPACKED_BYTES", 1000)
    assert_rejected(lambda: read_array_file(_hdf5(ONE), layout_of()), RejectReason.UNREADABLE, "smaller chunks")


def test_read_array_file__width_of_a_value_in_hdf5_is_limited() -> None:
    texts = np.array([[b"a" * 1001]])
    assert_rejected(lambda: read_array_file(_hdf5(texts), layout_of()), RejectReason.UNREADABLE, "values of 1001 bytes")
    assert_rejected(
        lambda: read_array_file(_hdf5(texts.astype("S1000")), layout_of()), RejectReason.UNREADABLE, "no num"
    )


@pytest.mark.parametrize(("n_members", "is_read"), [(1000, True), (1001, False)])
def test_read_array_file__number_of_arrays_is_limited(n_members: int, is_read: bool) -> None:
    buffer = io.BytesIO(_npz(ONE))
    with zipfile.ZipFile(buffer, "a") as packed:
        for number in range(n_members - 1):
            packed.writestr(f"{number}.npy", b"")
    if is_read:
        assert read_array_file(buffer.getvalue(), layout_of()).n_samples == 5000
    else:
        wanted = "file holds more than 1000 arrays, the limit"
        assert_rejected(lambda: read_array_file(buffer.getvalue(), layout_of()), RejectReason.UNREADABLE, wanted)


def test_read_array_file__sizes_that_headers_state_are_limited() -> None:
    header = _npy(np.zeros((500, 12)))[:128].replace(b"(500, 12)", b"(9**9,2)")
    assert_rejected(lambda: read_array_file(header, layout_of()), RejectReason.UNREADABLE, "cannot be decoded")
    header = _npy(np.zeros((5000, 12)))[:128].replace(b"(5000, 12), }", b"(5000000,12)}")
    assert_rejected(
        lambda: read_array_file(header, layout_of()), RejectReason.UNREADABLE, "has 60000000 samples in all"
    )


def test_read_array_file__data_in_other_files_are_never_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(ONE.tobytes())
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", shape=ONE.shape, dtype="f4", external=[(str(secret), 0, ONE.nbytes)])
        file["y"] = h5py.ExternalLink("other.h5", "x")
        file["z"] = h5py.SoftLink("/x")
    data = path.read_bytes()
    assert_rejected(lambda: read_array_file(data, layout_of()), RejectReason.UNREADABLE, "lies in another file")
    for name in ("y", "z"):
        wanted = f"file holds no array {name}"
        assert_rejected(lambda n=name: read_array_file(data, layout_of(n)), RejectReason.MISSING_LEAD, wanted)


@needs_real_files
def test_read_array_file__real_files_of_cohorts() -> None:
    cpsc = (SHARED_ECG / "mat" / "cpsc2018_A1980.mat").read_bytes()
    ecg = read_array_file(cpsc, layout_of("ECG.data", order="lead_major"))
    theirs = scipy.io.loadmat(io.BytesIO(cpsc))["ECG"][0, 0]["data"]
    np.testing.assert_allclose(ecg.leads_uv, theirs.T * 1e3, rtol=1e-6, atol=1e-4)
    assert canonicalise(ecg).quality_flags == ()
    code = (SHARED_ECG / "mat" / "code_15_1238362.mat").read_bytes()
    ecg = read_array_file(code, layout_of("feats", order="lead_major", sampling_rate_hz="org_sample_rate"))
    assert_rejected(lambda: canonicalise(ecg), RejectReason.TOO_SHORT, "lasts 7.335 s .2934 samples at 400 Hz")


def _read_or_reject(kind: str, numbers: range) -> None:
    data = WRITERS[kind](ONE)
    for seed in numbers:
        try:
            ecg = canonicalise(read_array_file(mutant(data, seed), layout_of()))
        except EcgRejected:
            continue
        assert ecg.counts.shape == (12, 5000), f"seed {seed}"


@pytest.mark.parametrize("kind", WRITERS)
def test_read_array_file__mutant_is_read_or_rejected(kind: str) -> None:
    _read_or_reject(kind, range(N_MUTANTS))


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRITERS)
def test_read_array_file__thousands_of_mutants_are_read_or_rejected(kind: str) -> None:
    _read_or_reject(kind, range(N_MUTANTS, N_MUTANTS + N_MUTANTS_SLOW))


# Files of many ECGs

STACK = layout_of("tracings", ecg_id="exam_id", sampling_rate_hz=400)


def write_stack(path: Path, array: np.ndarray, ids: Any = None, **more: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("tracings", data=array, chunks=(1, *array.shape[1:]), compression="gzip")
        file["exam_id"] = np.arange(1000, 1000 + len(array)) if ids is None else ids
        for name, value in more.items():
            file[name] = value
    return path


def code_15(n_ecgs: int = 3) -> np.ndarray:
    """Return (n_ecgs, 4096, 12) as CODE-15 has them: 10 s, the second 7 s, at 400 Hz."""
    stack = np.stack([samples_mv(seed, 4096) for seed in range(n_ecgs)])
    for row in range(n_ecgs):
        n_filled = 648 if row == 1 else 48
        stack[row, :n_filled], stack[row, -n_filled:] = 0, 0
    return stack


def _piece(path: Path, layout: Layout = STACK) -> Piece:
    with open_stack(Storage(), str(path), layout) as stack:
        n_ecgs, sha256 = stack.n_ecgs, stack.sha256()
    return Piece(0, path.name, "", path.stat().st_size, sha256, row_group_stop=n_ecgs, n_ecgs=n_ecgs, duplicate_rows=())


def test_read_stack__rows_are_ecgs_without_their_filling(tmp_path: Path) -> None:
    stack = code_15()
    path = write_stack(tmp_path / "a.hdf5", stack)
    (chunk,) = read_stack(ParquetReader(Storage(), STACK), _piece(path), str(path))
    assert [(row.ecg_id, row.row, row.source_format) for row in chunk.rows] == [
        ("1000", 0, "array"),
        ("1002", 2, "array"),
    ]
    (short,) = chunk.rejects
    assert (short.reason, short.ecg_id, short.row) == ("too_short", "1001", 1)
    assert "lasts 7 s (2800 samples at 400 Hz)" in (short.detail or "")
    # At 400 Hz every fourth sample is one of the five at 500 Hz.
    lead_v6_uv = chunk.rows[0].counts[11, ::5] * chunk.rows[0].uv_per_count
    assert np.corrcoef(lead_v6_uv[5:-5], stack[0, 48:4048:4, 11][5:-5])[0, 1] > 0.99


def test_read_stack__damaged_ecg_is_one_reject(tmp_path: Path) -> None:
    path = write_stack(tmp_path / "a.hdf5", code_15(4))
    piece = _piece(path)
    with h5py.File(path) as file:
        place = file["tracings"].id.get_chunk_info(2)
    data = bytearray(path.read_bytes())
    data[place.byte_offset + 5 : place.byte_offset + 5000] = bytes(4995)
    path.write_bytes(data)
    chunks = list(read_stack(ParquetReader(Storage(), STACK), piece, str(path)))
    assert [row.ecg_id for chunk in chunks for row in chunk.rows] == ["1000", "1003"]
    found = [(reject.reason, reject.ecg_id) for chunk in chunks for reject in chunk.rejects]
    assert found == [("too_short", "1001"), ("unreadable", "1002")]
    assert sum(chunk.n_read for chunk in chunks) == 4


def test_read_stack__file_that_changed_is_not_read(tmp_path: Path) -> None:
    path = write_stack(tmp_path / "a.hdf5", code_15(2))
    piece = _piece(path)
    write_stack(path, code_15(2), ids=[7, 8])
    with pytest.raises(LvmError, match=r"a\.hdf5 changed since the run was planned"):
        list(read_stack(ParquetReader(Storage(), STACK), piece, str(path)))


@pytest.mark.parametrize(
    ("ids", "layout", "reason", "message"),
    [
        ([1.0, 2.0], STACK, RejectReason.UNREADABLE, "columns of another type: exam_id"),
        (
            [1, 2, 3],
            STACK,
            RejectReason.UNREADABLE,
            "columns of another shape: exam_id, expected one value for each of 2",
        ),
        ([1, 2], layout_of("x", ecg_id="exam_id"), RejectReason.MISSING_LEAD, "columns are missing: x"),
        ([1, 2], layout_of("tracings", ecg_id="id"), RejectReason.UNREADABLE, "columns are missing: id"),
        (
            [1, 2],
            layout_of("tracings", ecg_id="exam_id", order="lead_major"),
            RejectReason.MISSING_LEAD,
            "columns of another shape: tracings is 2 x 4096 x 12, expected ECGs x 12 leads x samples",
        ),
    ],
)
def test_stack__problem_names_what_does_not_fit(
    tmp_path: Path, ids: list[float], layout: Layout, reason: RejectReason, message: str
) -> None:
    path = write_stack(tmp_path / "a.h5", code_15(2), ids=ids)
    with open_stack(Storage(), str(path), layout) as stack:
        problem = stack.problem()
    assert problem is not None
    assert problem[0] is reason
    assert message in problem[1]


def test_stack__keys_are_text_or_whole_numbers(tmp_path: Path) -> None:
    path = write_stack(tmp_path / "a.h5", code_15(2), ids=["a", "b"])
    assert stack_keys(Storage(), str(path), STACK, ("exam_id", None, "absent")) == [["a", "b"], [None] * 2, [None] * 2]


def test_stack_durations__with_filling(tmp_path: Path) -> None:
    path = write_stack(tmp_path / "a.h5", code_15(2))
    assert stack_durations(Storage(), str(path), 0, STACK) == [(4096, 400.0)] * 2
    path.write_bytes(b"damaged")
    assert stack_durations(Storage(), str(path), 0, STACK) == []


def test_open_stack__fault_of_the_storage_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_stack(tmp_path / "a.h5", code_15(1))

    def fail(self: RetryingFile, buffer: Any) -> int:
        raise StorageFault("reading failed 5 times")

    monkeypatch.setattr(RetryingFile, "readinto", fail)
    with pytest.raises(StorageFault, match="failed 5 times"), open_stack(Storage(), str(path), STACK):
        pass


@pytest.mark.parametrize("seed", range(0, N_MUTANTS))
def test_open_stack__mutant_is_read_or_rejected(tmp_path: Path, seed: int) -> None:
    path = write_stack(tmp_path / "a.h5", code_15(1))
    path.write_bytes(mutant(path.read_bytes(), seed))
    try:
        with open_stack(Storage(), str(path), STACK) as stack:
            if stack.problem() is None:
                stack.sha256()
                stack.batch(0, stack.n_ecgs)
    except EcgRejected:
        pass


def test_zip_of_numpy__member_of_another_name_is_not_read() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("../x.npy", _npy(ONE))
    wanted = "file holds no array x"
    assert_rejected(lambda: read_array_file(buffer.getvalue(), layout_of()), RejectReason.MISSING_LEAD, wanted)
