"""What counts count: two that say the same are one, and conditions do not repeat one another."""

from __future__ import annotations

from analysis.disclosure.counts import ECGS, Count

LEFT = Count(path=(("left out", "left"),))
AF = LEFT.at(("af", "analysed"))


def test_count__is_the_same_in_whatever_order_it_is_said() -> None:
    one = AF.level("sex", "female").complete("age").at(("status", "outcome"))
    other = AF.at(("status", "outcome")).complete("age").level("sex", "female")
    assert one == other
    assert hash(one) == hash(other)
    assert one != AF
    assert one.of(ECGS) != one


def test_level__implies_that_it_is_known() -> None:
    assert AF.complete("sex", "age").level("sex", "male") == AF.level("sex", "male").complete("age")
    assert AF.level("sex", "male").complete("sex") == AF.level("sex", "male")


def test_level__missing_is_not_a_level() -> None:
    assert LEFT.level("ethnicity", "missing") == LEFT.lacking("ethnicity")


def test_times__are_those_of_an_outcome() -> None:
    assert AF.by(2).ended == ("af", 2, 2)
    assert AF.by(2.0, 0.25).ended == ("af", 1.75, 2.25)
    assert AF.after(2).followed == ("af", 2, 2)
    assert LEFT.at(("mi", "analysed")).by(2) != AF.by(2)


def test_str__has_all_conditions() -> None:
    text = str(AF.at(("status", "outcome")).level("sex", "female").complete("age").by(2))
    assert text == "people: left; analysed; outcome; sex female; age known; by 2"
    assert str(AF.part("year", 2014).lacking("age", "sex").after(1)) == (
        "people: left; analysed; year 2014; without age or sex; after 1"
    )
