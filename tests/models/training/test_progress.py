from pathlib import Path
from xml.etree import ElementTree

from models.training.progress import write_history

ROWS = [
    {"epoch": 1, "train_loss": 40.0, "valid_loss": 30.0, "valid_r": float("nan")},
    {"epoch": 2, "train_loss": 20.0, "valid_loss": 25.5, "valid_r": 0.5},
]


def test_write_history__one_line_an_epoch_and_a_picture(tmp_path: Path) -> None:
    write_history(ROWS, 2, tmp_path)
    assert (tmp_path / "history.csv").read_text().splitlines() == [
        "epoch,train_loss,valid_loss,valid_r",
        "1,40.0,30.0,nan",
        "2,20.0,25.5,0.5",
    ]
    assert ElementTree.parse(tmp_path / "history.svg").getroot().tag.endswith("svg")


def test_write_history__replaces_both_files_and_same_rows_give_same_bytes(tmp_path: Path) -> None:
    def write(n_epochs: int) -> dict[str, bytes]:
        write_history(ROWS[:n_epochs], n_epochs, tmp_path)
        return {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    first, second = write(1), write(2)
    assert sorted(first) == sorted(second) == ["history.csv", "history.svg"]
    assert first != second
    assert write(2) == second
