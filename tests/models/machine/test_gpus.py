from pathlib import Path

import pytest

from models.machine.runtime import may_have_gpu, visible_gpus


@pytest.mark.parametrize("name", ["nvidia0", "nvidia12", "dxg", "kfd"])
def test_may_have_gpu__where_a_driver_has_a_device(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    assert may_have_gpu({}, tmp_path)
    assert may_have_gpu({"CUDA_VISIBLE_DEVICES": "0,1"}, tmp_path)


@pytest.mark.parametrize("value", ["", " ", "-1"])
def test_may_have_gpu__hidden_by_the_environment(value: str, tmp_path: Path) -> None:
    (tmp_path / "nvidia0").touch()
    assert not may_have_gpu({"CUDA_VISIBLE_DEVICES": value}, tmp_path)


def test_may_have_gpu__not_without_a_device(tmp_path: Path) -> None:
    (tmp_path / "nvidia-caps").touch()
    (tmp_path / "nvidiactl").touch()
    assert not may_have_gpu({}, tmp_path)


def test_visible_gpus__tensorflow_is_not_imported_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.machine.runtime.may_have_gpu", lambda: False)
    monkeypatch.setattr("models.machine.runtime.import_tensorflow", lambda: pytest.fail("was imported"))
    assert visible_gpus() == []
