"""The golden ECGs through the command line, Parquet in and Parquet out, against TF 2.1.0."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.machine.runtime import Threads, configure_threads, import_tensorflow
from tests.beam_jobs.job_helpers import ecg_table, lvm, predictions, write_csv, write_parquet
from tests.models.golden import ECG_ONLY, FOLDER, FULL, golden_model, load_golden

pytestmark = pytest.mark.tf

IDS = [f"golden-{i:02d}" for i in range(12)]


@pytest.fixture(scope="module")
def tensorflow() -> Threads:
    threads = configure_threads()
    import_tensorflow().constant(0)
    return threads


def write_golden(folder: Path) -> tuple[Path, Path]:
    """Write the golden ECGs and their people, in another order than the file has them."""
    golden = load_golden()
    order = np.random.default_rng(4).permutation(12)
    table = ecg_table(golden.counts[order], [IDS[i] for i in order])
    rows = [
        {
            "ecg_id": IDS[i],
            "age_years": float(golden.age_years[i]),
            "sex": "male" if golden.sex[i] else "female",
            "bmi_kg_m2": float(golden.bmi_kg_m2[i]),
        }
        for i in range(12)
    ]
    ecgs = write_parquet(folder / "golden.parquet", table, row_group_size=5)
    return ecgs, write_csv(folder / "people.csv", rows)


def score_golden(folder: Path, model: str, threads: Threads, engine: str) -> dict[str, dict[str, float]]:
    ecgs, people = write_golden(folder)
    argv = ["--input", ecgs, "--participants", people, "--model", golden_model(model), "--output", folder / "out"]
    more = ["--unit-ecgs", 5, "--batch", 4, "--threads", threads.inter_op, "--accept-scale"]
    assert lvm("score", *argv, *more, "--engine", engine) == 0
    return {row["ecg_id"]: row for row in predictions(folder / "out")}


def expected(name: str) -> NDArray[np.float64]:
    """Return an array of TF 2.1.0's predictions, as the golden file has it."""
    with np.load(FOLDER / "lvm_ai_tf21_golden.npz") as data:
        return np.asarray(data[name], dtype=np.float64)


@pytest.mark.parametrize("engine", ["tensorflow", "spectral"])
@pytest.mark.parametrize(("model", "prefix"), [(FULL, "full"), (ECG_ONLY, "ecg_only")])
def test_golden__command_line_gives_the_masses_of_tf_2_1(
    model: str, prefix: str, engine: str, tmp_path: Path, tensorflow: Threads
) -> None:
    rows = score_golden(tmp_path, model, tensorflow, engine)
    assert sorted(rows) == IDS
    grams = [rows[ecg_id]["lvm_pred_g"] for ecg_id in IDS]
    np.testing.assert_allclose(grams, expected(f"{prefix}_lvm_g"), rtol=0, atol=1e-3)
    # Mass in grams by the facts sheet, section 3, from the network's own output.
    z_g = 24.80 * expected(f"{prefix}_lvm_z") + 89.70
    np.testing.assert_allclose(grams, z_g, rtol=0, atol=1e-3)


@pytest.mark.parametrize("engine", ["tensorflow", "spectral"])
def test_golden__command_line_gives_the_lvh_scores_of_tf_2_1(engine: str, tmp_path: Path, tensorflow: Threads) -> None:
    rows = score_golden(tmp_path, FULL, tensorflow, engine)
    scores = [rows[ecg_id]["lvh_score"] for ecg_id in IDS]
    np.testing.assert_allclose(scores, expected("full_p_lvh"), rtol=0, atol=1e-5)
