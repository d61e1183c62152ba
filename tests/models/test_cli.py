import subprocess
import sys
from pathlib import Path

import pytest

import lvm_ai
from models.catalogue.known import resolve_model


def main(arguments: list[str]) -> int:
    return lvm_ai.main(["models", *arguments])


POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:0764989632149590ff47f86e665cec31da592b7b6f2275f3c9ac9f949ccce017\n"
    b"size 14870648\n"
)


def test_list__shows_every_model_its_state_and_the_warnings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ecg_rest_raw_age_sex_bmi_lvm_asymmetric_loss.h5").write_bytes(POINTER)
    assert main(["list", "--model-dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    states = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert "damaged (lfs_pointer)" in states["lvm-ai-full-asymmetric"]
    assert "not fetched" in states["lvm-ai-ecg-asymmetric"]
    assert "embedded" in states["demo-synthetic"]
    assert "NOT CLINICAL" in out
    assert "do not redistribute" in out


def test_check__pointer_fails_and_model_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pointer, model = tmp_path / "pointer.h5", tmp_path / "model.h5"
    pointer.write_bytes(POINTER)
    model.write_bytes(resolve_model("demo-synthetic").read_bytes())
    assert main(["check", str(model)]) == 0
    assert capsys.readouterr().out.startswith("known:")
    assert main(["check", str(model), str(pointer)]) == 1
    assert "lfs_pointer:" in capsys.readouterr().out


def test_fetch__failure_is_one_line_without_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fetch", "lvm-ai-ecg-symmetric", "--from", str(tmp_path)]
    assert main([*arguments, "--model-dir", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: source ")
    assert err.count("\n") == 1


def test_fetch__only_published_models_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "demo-synthetic", "--from", "x"]) == 2
    assert "comes with the package" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code"), [([], 2), (["absent"], 2), (["fetch", "demo-synthetic"], 2), (["--help"], 0)]
)
def test_main__usage(arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == code
    printed = capsys.readouterr()
    assert "fetch" in (printed.err or printed.out)


@pytest.mark.tf
@pytest.mark.usefixtures("tensorflow_threads")
def test_show__prints_scaling_and_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "demo-synthetic"]) == 0
    out = capsys.readouterr().out
    assert "NOT CLINICAL" in out
    assert "1,222,851" in out
    assert "(value - 63.35798891483556) / 7.554638350423902, years" in out
    assert "(value - 27.3397) / 4.77216, kg_m2" in out
    assert "grams = 24.80 * z + 89.70" in out
    assert "ukb_counts: microvolts / 10000" in out


def test_modules__import_neither_tensorflow_nor_h5py() -> None:
    code = (
        "import sys, models.cli, models.train, models.explain, models.engines.predictor\n"
        "models.cli.main(['list', '--model-dir', '.'])\n"
        "sys.exit(bool({'tensorflow', 'keras', 'h5py'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
