from pathlib import Path
from xml.etree import ElementTree

from models.training.fit import history_csv, history_svg, write_history

ROWS = [
    {"epoch": 1, "train_loss": 40.0, "valid_loss": 30.0, "valid_r": float("nan")},
    {"epoch": 2, "train_loss": 20.0, "valid_loss": 25.5, "valid_r": 0.5},
]


def test_history_csv__one_line_an_epoch() -> None:
    assert history_csv(ROWS).splitlines() == [
        "epoch,train_loss,valid_loss,valid_r",
        "1,40.0,30.0,nan",
        "2,20.0,25.5,0.5",
    ]


def test_history_svg__same_rows_same_bytes() -> None:
    first = history_svg(ROWS, 2)
    assert history_svg(ROWS, 2) == first
    assert history_svg(ROWS[:1], 1) != first
    assert ElementTree.fromstring(first).tag.endswith("svg")


def test_write_history__replaces_both_files(tmp_path: Path) -> None:
    write_history(ROWS[:1], 1, tmp_path)
    write_history(ROWS, 2, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.csv", "history.svg"]
    assert (tmp_path / "history.csv").read_text() == history_csv(ROWS)
