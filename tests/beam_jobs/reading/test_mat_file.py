"""MATLAB 5 files against scipy, which wrote them, and damage of which scipy dies."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import scipy.io

from beam_jobs.reading.mat_file import MatFile
from lvm_core.errors import EcgRejected, RejectReason
from tests.lvm_core.formats.helpers import SHARED_ECG, assert_rejected, needs_real_files

_TYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
_DAMAGE = (ValueError, struct.error, zlib.error, EcgRejected)


def _written(compressed: bool = False, **arrays: object) -> bytes:
    sink = io.BytesIO()
    scipy.io.savemat(sink, arrays, do_compression=compressed)
    return sink.getvalue()


def _array(data: bytes, name: str = "x", most_bytes: int = 10**7) -> np.ndarray | None:
    return MatFile(data, most_bytes).array(name)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", _TYPES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (5, 12), (2, 3, 4), (0, 12)])
def test_array__is_what_was_written(shape: tuple[int, ...], kind: str, compressed: bool) -> None:
    array = np.arange(np.prod(shape)).reshape(shape).astype(kind)
    found = _array(_written(compressed, first=np.eye(3), x=array, last="text"))
    assert found is not None
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("compressed", [False, True])
def test_array__field_of_a_structure(compressed: bool) -> None:
    inner = {"sex": "Male", "deep": {"data": np.arange(24.0).reshape(2, 12)}, "empty": np.zeros((0, 0))}
    data = _written(compressed, ECG=inner, other=1.0)
    np.testing.assert_array_equal(_array(data, "ECG.deep.data"), inner["deep"]["data"])  # type: ignore[index]
    for absent in ("ECG.no", "ECG.deep.no", "no", "other.x", "ECG.deep.data.x"):
        assert _array(data, absent) is None


def test_array__of_several_structures_is_none_of_them() -> None:
    many = np.zeros((1, 2), dtype=[("a", object)])
    many["a"] = 1.0
    assert _array(_written(x=many), "x.a") is None


@pytest.mark.parametrize("value", ["text", np.array([[1 + 2j]]), np.array([[1, "a"]], dtype=object), {"a": 1.0}])
def test_array__what_is_no_number_is_refused(value: object) -> None:
    assert_rejected(lambda: _array(_written(x=value)), RejectReason.UNREADABLE, "holds no numbers")


def test_array__of_the_other_byte_order() -> None:
    numbers = struct.pack(">II12h", 3, 24, *range(12))
    body = struct.pack(">IIII", 6, 8, 10, 0) + struct.pack(">IIii", 5, 8, 4, 3) + struct.pack(">HH4s", 1, 1, b"x")
    data = b"MATLAB 5.0".ljust(124) + struct.pack(">H", 0x100) + b"MI"
    data += struct.pack(">II", 14, len(body) + len(numbers)) + body + numbers
    np.testing.assert_array_equal(scipy.io.loadmat(io.BytesIO(data))["x"], _array(data))
    np.testing.assert_array_equal(_array(data), np.arange(12).reshape(3, 4).T)


def test_array__table_of_matlab_is_passed_over() -> None:
    words = struct.pack("<IIII", 6, 8, 17, 0) + struct.pack("<HH4s", 1, 1, b"t") + struct.pack("<HH4s", 1, 4, b"MCOS")
    plain = _written(x=np.arange(3))
    data = plain[:128] + struct.pack("<II", 14, len(words)) + words + plain[128:]
    np.testing.assert_array_equal(_array(data), [[0, 1, 2]])


def test_array__other_variables_are_not_unpacked() -> None:
    data = _written(True, big=np.zeros((1000, 1000)), x=np.arange(3))
    np.testing.assert_array_equal(_array(data, most_bytes=10_000), [[0, 1, 2]])
    assert_rejected(
        lambda: _array(data, "big", most_bytes=10_000), RejectReason.UNREADABLE, "unpacks to more than 10000"
    )


def test_array__number_of_variables_is_limited() -> None:
    one = _written(y=1.0)[128:]
    data = _written(y=1.0)[:128] + one * 1001
    assert_rejected(lambda: _array(data), RejectReason.UNREADABLE, "has more than 1000 arrays, the limit")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (struct.pack("<II", 6, 8), struct.pack("<II", 6, 2**31)),  # larger than the file
        (struct.pack("<iI", 2, 3), struct.pack("<iI", -2, 3)),  # a side below 0
        (struct.pack("<iI", 2, 3), struct.pack("<iI", 2, 4)),  # more numbers than are there
        (struct.pack("<II", 9, 48), struct.pack("<II", 10, 48)),  # numbers of no known type
        (struct.pack("<II", 9, 48), struct.pack("<II", 9, 47)),
        (struct.pack("<II", 5, 8), struct.pack("<HHI", 5, 8, 8)),  # eight bytes in a tag of four
        (struct.pack("<II", 5, 8), struct.pack("<II", 5, 7)),
    ],
)
def test_array__damage_is_an_error(old: bytes, new: bytes) -> None:
    data = _written(x=np.arange(6.0).reshape(2, 3))
    assert data.count(old) == 1
    with pytest.raises(_DAMAGE):
        _array(data.replace(old, new))


def test_array__structure_with_wrong_names_is_an_error() -> None:
    data = _written(x={"abc": 1.0})
    width = struct.pack("<HHi", 5, 4, len("abc") + 1)
    assert data.count(width) == 1
    for wrong in (0, -1, 1):
        with pytest.raises(ValueError, match=r"letters|fewer values"):
            _array(data.replace(width, struct.pack("<HHi", 5, 4, wrong)), "x.z")


def test_array__shape_of_too_many_sides_is_an_error() -> None:
    data = _written(x=np.zeros((1, 2, *(1,) * 29, 2)))
    assert _array(data) is not None
    sides = struct.pack("<II", 5, 128)
    longer = data.replace(sides, struct.pack("<II", 5, 136))
    with pytest.raises(ValueError, match="the shape of an array"):
        _array(longer)


@needs_real_files
@pytest.mark.parametrize(("file", "name"), [("cpsc2018_A1980.mat", "ECG.data"), ("code_15_1238362.mat", "feats")])
def test_array__of_real_files_is_that_of_scipy(file: str, name: str) -> None:
    data = (SHARED_ECG / "mat" / file).read_bytes()
    theirs = scipy.io.loadmat(io.BytesIO(data))
    first, *rest = name.split(".")
    expected = theirs[first]
    for field in rest:
        expected = expected[field].reshape(-1)[0]
    np.testing.assert_array_equal(_array(data, name), expected)
