import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lvm_core.errors import LvmError
from models.catalogue.known import resolve_model
from models.catalogue.loading import load_model
from models.catalogue.saved_model import CARD_MEMBER, ModelCard, read_card, rounded, save_model, weights_digest
from models.catalogue.spec import PUBLISHED_CONSTANTS, ModelConstants, Standardisation
from models.engines.predictor import LvmPredictor
from models.machine.runtime import import_keras
from tests.models.golden import load_golden
from tests.models.training_builders import small_age_sex_bmi

pytestmark = [
    pytest.mark.tf,
    pytest.mark.usefixtures("tensorflow_threads"),
    # Keras's own: it writes tensors of TensorFlow with NumPy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
]

OWN = ModelConstants(
    Standardisation(50.0, 10.0, "years"), Standardisation(25.0, 4.0, "kg_m2"), Standardisation(100.0, 30.0, "g")
)


def _model() -> Any:
    import_keras().utils.set_random_seed(3)
    return small_age_sex_bmi()


def _card(model: Any, **changes: Any) -> ModelCard:
    fields: dict[str, Any] = {
        "model_id": "mine",
        "title": "a small one",
        "description": "made up",
        "licence": "none",
        "warning": "means nothing",
        "constants": OWN,
        "weights_sha256": weights_digest(model.get_weights()),
        "training": {"seed": 3, "split": {"train": 0.8}},
    }
    return ModelCard(**(fields | changes))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = _model()
    save_model(model, _card(model), tmp_path / "file.keras")
    return tmp_path / "file.keras"


def _rewrite(path: Path, change: Any) -> None:
    """Change the members of a `.keras` file."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def _change_card(path: Path, **values: Any) -> None:
    def change(members: dict[str, bytes]) -> None:
        content = json.loads(members[CARD_MEMBER]) | values
        members[CARD_MEMBER] = json.dumps(content).encode()

    _rewrite(path, change)


def test_save_model__same_model_same_bytes(saved: Path, tmp_path: Path) -> None:
    model = _model()
    save_model(model, _card(model), tmp_path / "again.keras")
    assert (tmp_path / "again.keras").read_bytes() == saved.read_bytes()


def test_read_card__is_what_was_written(saved: Path) -> None:
    assert read_card(saved) == _card(_model())


def test_card__states_how_the_tensor_is_made(saved: Path) -> None:
    with zipfile.ZipFile(saved) as archive:
        stated = json.loads(archive.read(CARD_MEMBER))["input"]
    assert stated["convention"] == "ukb_counts"
    assert stated["unit_uv"] == 10_000
    assert stated["lead_order"] == "I II III V1 V2 V3 V4 V5 V6 aVF aVL aVR".split()
    assert (stated["n_samples"], stated["sampling_rate_hz"]) == (5000, 500)


def test_read_card__a_plain_keras_file_has_none(tmp_path: Path) -> None:
    _model().save(tmp_path / "plain.keras")
    assert read_card(tmp_path / "plain.keras") is None


def test_saved_model__keras_itself_opens_it(saved: Path) -> None:
    model = import_keras().models.load_model(saved)
    for ours, theirs in zip(_model().get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_resolve_model__spec_is_that_of_the_card(saved: Path) -> None:
    spec = resolve_model(str(saved)).spec
    assert (spec.model_id, spec.title, spec.licence) == ("mine", "a small one", "none")
    assert (spec.warning, spec.constants, spec.clinical) == ("means nothing", OWN, False)


def test_resolve_model__an_id_of_the_catalogue_gets_digits_of_the_checksum(tmp_path: Path) -> None:
    model = _model()
    path = tmp_path / "file.keras"
    save_model(model, _card(model, model_id="lvm-ai-ecg-symmetric"), path)
    spec = resolve_model(str(path)).spec
    assert spec.model_id == f"lvm-ai-ecg-symmetric-{spec.sha256[:8]}"


def test_predictor__uses_the_constants_of_the_model(saved: Path) -> None:
    golden = load_golden()
    predicted = LvmPredictor(resolve_model(str(saved)), batch_size=4).predict(
        golden.counts, golden.uv_per_count, **golden.demographics()
    )
    feeds = [
        golden.tensor_counts.astype(np.float32) / 2000,
        ((golden.age_years - 50) / 10)[:, None],
        np.eye(2, dtype=np.float32)[golden.sex],
        ((golden.bmi_kg_m2 - 25) / 4)[:, None],
    ]
    mass_z, softmax = (np.asarray(tensor) for tensor in _model()(feeds))
    np.testing.assert_allclose(predicted.lvm_pred_g, 30 * mass_z[:, 0] + 100, rtol=1e-5)
    np.testing.assert_allclose(predicted.lvh_score, softmax[:, 1], rtol=1e-5)


def test_load_model__other_weights_than_stated(saved: Path) -> None:
    _change_card(saved, weights_sha256="0" * 64)
    with pytest.raises(LvmError, match=r"weights of file.keras have SHA-256 .* states 0{64}"):
        load_model(resolve_model(str(saved)))


def test_load_model__spec_with_other_constants_than_the_file(saved: Path) -> None:
    source = resolve_model(str(saved))
    _change_card(saved, constants=json.loads(_card(_model()).to_json())["constants"])
    load_model(resolve_model(str(saved)))
    published = type(source)(_with_constants(resolve_model(str(saved)).spec), saved)
    with pytest.raises(LvmError, match="states the constants"):
        load_model(published)


def _with_constants(spec: Any) -> Any:
    values = {name: getattr(spec, name) for name in spec.__dataclass_fields__}
    return type(spec)(**(values | {"constants": PUBLISHED_CONSTANTS}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lvm_ai_model": 2}, r"states version.*expected \(1,"),
        (
            {"input": {"convention": "microvolts_over_2000", "lead_order": [], "n_samples": 5000}},
            "microvolts_over_2000",
        ),
        ({"constants": {}}, "cannot be read"),
    ],
)
def test_read_card__unknown_contents_are_refused(saved: Path, values: dict[str, Any], message: str) -> None:
    _change_card(saved, **values)
    with pytest.raises(LvmError, match=message):
        read_card(saved)


def test_float16__loaded_weights_are_the_rounded_ones(tmp_path: Path) -> None:
    model = _model()
    halves = [weight.astype(np.float16).astype(np.float32) for weight in model.get_weights()]
    model.set_weights(rounded(model.get_weights(), "float16"))
    path = tmp_path / "half.keras"
    save_model(model, _card(model), path, "float16")
    loaded = load_model(resolve_model(str(path))).keras_model
    for expected, actual in zip(halves, loaded.get_weights(), strict=True):
        assert actual.dtype == np.float32
        np.testing.assert_array_equal(actual, expected)
    with zipfile.ZipFile(path) as archive:
        size_bytes = archive.getinfo("model.weights.h5").file_size
    save_model(model, _card(model), tmp_path / "whole.keras")
    with zipfile.ZipFile(tmp_path / "whole.keras") as archive:
        saving = archive.getinfo("model.weights.h5").file_size - size_bytes
    assert saving >= 2 * 4 * 50 * 12  # 2 bytes for each weight of the convolution at least


def test_rounded__weight_beyond_half_precision() -> None:
    with pytest.raises(LvmError, match=r"a weight is 70000, expected at most 65504"):
        rounded([np.array([70000.0], dtype=np.float32)], "float16")


def test_weights_digest__depends_on_values_and_shapes() -> None:
    array = np.arange(6, dtype=np.float32)
    digests = {weights_digest([a]) for a in (array, array.reshape(2, 3), array + 1e-6 * array)}
    assert len(digests) == 3
    assert weights_digest([array]) == weights_digest([array.astype(np.float64)])
