import datetime as dt

import numpy as np
import pytest

from lvm_core.signal.ecg import Measurements
from tests import builders


def test_ecg__duration_is_samples_over_rate() -> None:
    ecg = builders.ecg(leads_uv=builders.leads_uv(3650), sampling_rate_hz=500.0)
    assert (ecg.n_samples, ecg.duration_s) == (3650, 7.3)


def test_ecg__nothing_is_measured_unless_said() -> None:
    assert builders.ecg().measurements == Measurements(None, None, None, None, None, None, None)


@pytest.mark.parametrize("shape", [(12, 5000), (5000, 8), (60000,)])
def test_ecg__refuses_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"leads_uv has shape .*, expected \(n_samples, 12\)"):
        builders.ecg(leads_uv=np.zeros(shape, dtype=np.float32))


def test_ecg__refuses_another_dtype() -> None:
    with pytest.raises(ValueError, match="leads_uv is float64, expected float32"):
        builders.ecg(leads_uv=np.zeros((5000, 12)))


@pytest.mark.parametrize("field", ["sampling_rate_hz", "step_uv"])
@pytest.mark.parametrize("value", [0.0, -5.0, float("nan"), float("inf")])
def test_ecg__refuses_a_rate_or_step_that_is_none(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field} is {value}, expected a finite value above 0"):
        builders.ecg(**{field: value})


def test_ecg__refuses_a_time_zone() -> None:
    with pytest.raises(ValueError, match="recorded_at has a time zone"):
        builders.ecg(recorded_at=dt.datetime(2015, 6, 1, tzinfo=dt.UTC))


def test_ecg__takes_a_local_time() -> None:
    noon = dt.datetime(2015, 6, 1, 12)
    assert builders.ecg(recorded_at=noon).recorded_at == noon
