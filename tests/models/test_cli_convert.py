import lzma
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lvm_core.errors import LvmError, UsageError
from models.catalogue.known import ModelSource, resolve_model
from models.catalogue.saved_model import read_card
from models.catalogue.spec import Predictions
from models.cli import convert_model, main
from models.engines.predictor import LvmPredictor
from tests.models.golden import FOLDER, Golden, load_golden

pytestmark = [
    pytest.mark.tf,
    pytest.mark.usefixtures("tensorflow_threads"),
    # Keras's own: it writes tensors of TensorFlow with NumPy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
]

FILES = ("lvm_ai_age_sex_bmi_tf21.h5", "lvm_ai_ecg_only_tf21.h5")


@pytest.fixture(scope="module")
def golden() -> Golden:
    return load_golden()


def _unpacked(name: str, folder: Path) -> Path:
    path = folder / name
    path.write_bytes(lzma.decompress((FOLDER / f"{name}.xz").read_bytes()))
    return path


def _predict(model: ModelSource, golden: Golden) -> Predictions:
    predictor = LvmPredictor(model, batch_size=6)
    return predictor.predict(golden.counts, golden.uv_per_count, **golden.demographics())


@pytest.mark.parametrize("name", FILES)
def test_convert__published_file_gives_the_same_bits(
    name: str, tmp_path: Path, golden: Golden, capsys: pytest.CaptureFixture[str]
) -> None:
    path, output = _unpacked(name, tmp_path), tmp_path / "mine.keras"
    assert main(["convert", str(path), "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "mine" in printed
    assert "identical, bit for bit" in printed
    before, after = (_predict(resolve_model(str(p)), golden) for p in (path, output))
    np.testing.assert_array_equal(after.lvm_pred_g, before.lvm_pred_g)
    np.testing.assert_array_equal(after.lvh_score, before.lvh_score)
    card = read_card(output)
    assert card is not None
    assert resolve_model(str(path)).spec.sha256 in card.description


def test_convert__float16_reports_the_changes(tmp_path: Path, golden: Golden) -> None:
    path = _unpacked(FILES[0], tmp_path)
    packed = tmp_path / "half.keras.xz"
    conversion = convert_model(resolve_model(str(path)), packed, "float16")
    # 1,222,851 weights of 2 bytes, and at most 5 MB in the package.
    assert packed.stat().st_size <= 5_000_000
    assert 2 * 1_222_851 <= conversion.spec.size_bytes <= 3_000_000
    unpacked = tmp_path / "half.keras"
    unpacked.write_bytes(lzma.decompress(packed.read_bytes()))
    before, after = (_predict(resolve_model(str(p)), golden) for p in (path, unpacked))
    change_g = np.abs(before.lvm_pred_g - after.lvm_pred_g)
    assert 0 < change_g.max() < 0.2
    assert 0 < conversion.max_difference_g < 0.2
    (line,) = [line for line in conversion.lines() if "changed by" in line]
    stated = re.search(r"at most ([0-9.]+) g", line)
    assert stated is not None
    assert float(stated[1]) == pytest.approx(conversion.max_difference_g, abs=1e-4)


def test_convert__leaves_no_other_file(tmp_path: Path) -> None:
    source = resolve_model(str(_unpacked(FILES[1], tmp_path)))
    convert_model(source, tmp_path / "a.keras", name="my-name")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.keras", FILES[1]]
    assert resolve_model(str(tmp_path / "a.keras")).spec.model_id == "my-name"


def test_convert__changed_outputs_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = resolve_model(str(_unpacked(FILES[1], tmp_path)))
    monkeypatch.setattr("models.cli.rounded", lambda weights, storage: [w * 1.001 for w in weights])
    with pytest.raises(LvmError, match=r"changed by up to .* nothing was written"):
        convert_model(source, tmp_path / "a.keras")
    assert [path.name for path in tmp_path.iterdir()] == [FILES[1]]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("a.h5", "ends in .keras or .keras.xz"),
        ("there.keras", "exists; expected a new name"),
        ("lvm-ai-ecg-symmetric.keras", "id 'lvm-ai-ecg-symmetric' of another model"),
    ],
)
def test_convert__wrong_output(tmp_path: Path, output: str, message: str) -> None:
    (tmp_path / "there.keras").touch()
    source: Any = None  # refused before the model is looked at
    with pytest.raises(UsageError, match=re.escape(message)):
        convert_model(source, tmp_path / output)
