from pathlib import Path
from typing import Any

import pytest

from lvm_core.errors import UsageError
from models.training.config import Architecture, load_config
from models.training.losses import MassLoss
from tests.models.training_builders import settings, write_config


def _load(tmp_path: Path, **changes: Any) -> Any:
    return load_config(write_config(tmp_path / "c.yaml", settings(tmp_path, **changes)))


def test_load_config__paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = _load(tmp_path, ecgs="data/ecg", output="/elsewhere/run")
    assert config.ecgs == tmp_path / "data" / "ecg"
    assert config.output == Path("/elsewhere/run")
    assert config.architecture is Architecture.AGE_SEX_BMI
    assert config.loss is MassLoss.ASYMMETRIC
    assert config.lvh_class_weights == (1, 25)
    assert not config.augmentation.active


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": 3}, r"epoch is no setting; expected some of ecgs, .*epochs"),
        ({"epochs": 0}, r"epochs is 0: Input should be greater than or equal to 1"),
        ({"loss": "symetric"}, r"loss is 'symetric': Input should be 'symmetric'"),
        ({"split": {"train": 0.9, "valid": 0.2, "test": 0.2}}, r"split.*add up to 1"),
        ({"split": {"train": 1, "valid": 0, "test": 0}}, r"train and valid above 0"),
        ({"augmentation": {"amplitude": 1.1}}, r"augmentation.amplitude is no setting"),
        ({"precision": "float16"}, r"precision is 'float16'"),
    ],
)
def test_load_config__mistakes_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _load(tmp_path, **changes)


def test_load_config__all_mistakes_at_once(tmp_path: Path) -> None:
    content = settings(tmp_path, seed=-1)
    del content["cmr"]
    with pytest.raises(UsageError, match=r"(?s)cmr is missing.*seed is -1"):
        load_config(write_config(tmp_path / "c.yaml", content))


@pytest.mark.parametrize("text", ["just words", "a: [", ""])
def test_load_config__not_settings(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=str(path)):
        load_config(path)


def test_load_config__no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.yaml cannot be read"):
        load_config(tmp_path / "absent.yaml")


def test_load_config__spectral_convolutions_are_float32(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="spectral, which is for float32 only"):
        _load(tmp_path, convolution="spectral", precision="mixed_bfloat16")
    assert _load(tmp_path, precision="mixed_bfloat16").convolution.value == "auto"
