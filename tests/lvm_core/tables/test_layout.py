from __future__ import annotations

import pytest

from lvm_core.errors import UsageError
from lvm_core.tables import ParticipantsLayout, layout_of_file, preset_layout


def test_layout__file_with_codes_units_and_dates() -> None:
    text = (
        "columns: {participant_id: [id, who], height_cm: tall}\nsex: {0: female, 1: male}\n"
        "units: {height: m, weight: lb}\ndate_format: '%d/%m/%Y'\nmissing: [-1, '999']\n"
    )
    layout = layout_of_file(text.encode(), "layout.yaml")
    assert layout.columns == {"participant_id": ("id", "who"), "height_cm": ("tall",)}
    assert layout.sex == {"0": "female", "1": "male"}
    assert layout.missing_codes == {"-1", "999"}
    assert layout.resolved() is layout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("columns: {heigth_cm: tall}", "columns has heigth_cm, which is not read"),
        ("heights: m", "heights is no setting|heights"),
        ("date_format: '%d/%m/%y'", "no year in four digits"),
        ("columns: {birth_year: y}", "birth_year and birth_month are needed together"),
        ("columns: {birth_year: y, birth_month: m}", "need `births: month_and_year`"),
        ("columns: 3", "columns"),
        ("sex: 3", "sex"),
        ("missing: 3", "missing"),
        ("units: {height: mm}", "height"),
        ("preset: ukbb", "preset"),
    ],
)
def test_layout__mistakes(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        layout_of_file(text.encode(), "layout.yaml")


def test_preset__own_columns_replace_those_of_the_preset() -> None:
    given = ParticipantsLayout.model_validate(
        {"preset": "ukb", "columns": {"height_cm": "12144-2.0"}, "missing": ["-9"]}
    )
    full = given.resolved()
    assert full.columns["height_cm"] == ("12144-2.0",)
    assert full.columns["participant_id"] == ("eid", "f.eid")
    assert full.missing == ("-9",)
    assert full.sex == {"0": "female", "1": "male"}
    assert preset_layout("of-somebody-else") is None
    assert preset_layout("ukb-rap") == ParticipantsLayout(preset="ukb-rap")
