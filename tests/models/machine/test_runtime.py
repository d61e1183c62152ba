import os
import subprocess
import sys
from pathlib import Path

import pytest

from lvm_core.errors import LvmError
from models.machine.runtime import (
    Threads,
    configure_threads,
    import_keras,
    import_tensorflow,
    may_have_gpu,
    tensorflow_description,
    visible_gpus,
)

pytestmark = [pytest.mark.tf, pytest.mark.usefixtures("tensorflow_threads")]


def test_configure_threads__one_inside_an_operation(tensorflow_threads: Threads) -> None:
    threading = import_tensorflow().config.threading
    assert threading.get_intra_op_parallelism_threads() == tensorflow_threads.intra_op == 1
    assert threading.get_inter_op_parallelism_threads() == tensorflow_threads.inter_op >= 1


def test_configure_threads__may_be_repeated(tensorflow_threads: Threads) -> None:
    assert configure_threads() == tensorflow_threads
    assert configure_threads(tensorflow_threads.inter_op) == tensorflow_threads


def test_configure_threads__other_threads_after_the_start_are_refused(tensorflow_threads: Threads) -> None:
    other = tensorflow_threads.inter_op + 1
    with pytest.raises(LvmError, match=f"already started.*expected intra_op=1 and inter_op={other}"):
        configure_threads(other)


def test_configure_threads__below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="inter_op is 0 threads"):
        configure_threads(0)


def test_import_keras__another_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    keras = import_keras()
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(LvmError, match="Keras computes with 'jax', expected 'tensorflow'"):
        import_keras()


def test_import_keras__settings_of_a_folder_are_neither_read_nor_written(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".keras").mkdir(parents=True)
    (home / ".keras" / "keras.json").write_text('{"floatx": "float16", "backend": "jax"}')
    code = "from models.machine.runtime import import_keras as k; print(k().backend.floatx(), k().backend.backend())"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KERAS_")}
    for own in (home, tmp_path / "none"):
        command = [sys.executable, "-c", code]
        environment["HOME"] = str(own)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == "float32 tensorflow\n"
    assert not (tmp_path / "none" / ".keras").exists()


def test_tensorflow_description__onednn_follows_tensorflows_switch() -> None:
    code = "from models.machine.runtime import tensorflow_description as d; print('oneDNN', d()['onednn'])"
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "oneDNN False\n"
    assert tensorflow_description()["onednn"] in (True, False)


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
