import re

import numpy as np
import pytest

from lvm_core.synthetic.records import (
    CODE_LISTS,
    CODE_SYSTEMS,
    CODE_TEXTS,
    DEATH_CODES,
    DISEASE_CODES,
    N_SPELLINGS,
    OTHER_CODES,
    SYSTEMS,
    code_numbers,
    spellings,
)
from tests.builders import in_code_list


def _texts(chosen: np.ndarray) -> set[tuple[str, str]]:
    return {(CODE_SYSTEMS[i], CODE_TEXTS[i]) for i in np.flatnonzero(chosen)}


def test_spellings__plain_dotted_lower_and_filled() -> None:
    assert spellings("I48.9", "icd10") == ("I489", "I48.9", "i489", "i48.9")
    assert spellings("I48", "icd10") == ("I48", "I48", "i48", "I48X")
    assert spellings("1471", "self-report") == ("1471",) * 4


def test_code_texts__all_spellings_of_a_code_lie_together() -> None:
    assert len(CODE_TEXTS) == len(CODE_SYSTEMS)
    assert set(CODE_SYSTEMS) == set(SYSTEMS)
    for number in code_numbers("icd10", ("I21.4", "K59.0")):
        first = int(number) * N_SPELLINGS
        assert CODE_TEXTS[first : first + 4] in {spellings("I21.4", "icd10"), spellings("K59.0", "icd10")}
    assert not [text for text in CODE_TEXTS if re.search(r"[,\"\n]", text)]


@pytest.mark.parametrize("name", CODE_LISTS)
def test_in_code_list__has_every_code_of_the_disease_and_of_no_other(name: str) -> None:
    found = _texts(in_code_list(name))
    for (disease, system), codes in DISEASE_CODES.items():
        theirs = {(system, text) for code in codes for text in spellings(code, system)}
        assert theirs <= found if disease == name else not theirs & found


@pytest.mark.parametrize("name", CODE_LISTS)
def test_in_code_list__has_no_code_of_other_diseases(name: str) -> None:
    found = _texts(in_code_list(name))
    others = {
        (system, text) for system, codes in OTHER_CODES.items() for code in codes for text in spellings(code, system)
    }
    others |= {("icd10", text) for code in DEATH_CODES for text in spellings(code, "icd10")}
    assert not others & found


def test_other_codes__mislead_who_ignores_the_system() -> None:
    plain = {code.replace(".", "") for code in OTHER_CODES["icd10"]}
    for name in ("af", "ventricular_arrhythmia"):
        prefixes = tuple(prefix for _, prefix in CODE_LISTS[name])
        assert any(code.startswith(prefixes) for code in plain), name
