"""Statements of devices about rhythm and conduction, as codes; the text itself goes nowhere.

`_TABLE` has a line per statement: its text, and the rhythm and conduction that it states, or `-`.
The words are those of the 12SL program of GE, which CardioSoft and MUSE print, and usual variants,
which Philips prints too. `statement_codes` has statements that files give as codes.
What is not in the table says nothing: possible, probable and former findings, other languages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from xml.etree.ElementTree import Element

from lvm_core.formats.statement_codes import STATED_BY_CODE
from lvm_core.signal.ecg import NOTHING_STATED, Conduction, Rhythm, RhythmCodes

_TABLE: Final = """
normal sinus rhythm | sinus | -
sinus rhythm | sinus | -
sinus bradycardia | sinus | -
marked sinus bradycardia | sinus | -
sinus tachycardia | sinus | -
sinus arrhythmia | sinus | -
marked sinus arrhythmia | sinus | -
atrial fibrillation | af_flutter | -
coarse atrial fibrillation | af_flutter | -
atrial flutter | af_flutter | -
atrial flutter/fibrillation | af_flutter | -
atrial fibrillation/flutter | af_flutter | -
atrial fibrillation or flutter | af_flutter | -
electronic ventricular pacemaker | paced | -
electronic atrial pacemaker | paced | -
av sequential or dual chamber electronic pacemaker | paced | -
ventricular-paced rhythm | paced | -
ventricular-paced complexes | paced | -
atrial-paced rhythm | paced | -
atrial-paced complexes | paced | -
atrial-sensed ventricular-paced rhythm | paced | -
av dual-paced rhythm | paced | -
av dual-paced complexes | paced | -
biventricular pacemaker detected | paced | -
biventricular-paced rhythm | paced | -
pacemaker rhythm | paced | -
paced rhythm | paced | -
junctional rhythm | other | -
junctional bradycardia | other | -
accelerated junctional rhythm | other | -
junctional tachycardia | other | -
ectopic atrial rhythm | other | -
ectopic atrial bradycardia | other | -
ectopic atrial tachycardia | other | -
low atrial rhythm | other | -
wandering atrial pacemaker | other | -
atrial tachycardia | other | -
multifocal atrial tachycardia | other | -
supraventricular tachycardia | other | -
narrow qrs tachycardia | other | -
wide qrs tachycardia | other | -
wide qrs rhythm | other | -
ventricular tachycardia | other | -
ventricular fibrillation | other | -
idioventricular rhythm | other | -
accelerated idioventricular rhythm | other | -
complete heart block | other | -
undetermined rhythm | unknown | -
left bundle branch block | - | lbbb
complete left bundle branch block | - | lbbb
right bundle branch block | - | rbbb
complete right bundle branch block | - | rbbb
rbbb and left anterior fascicular block | - | rbbb
rbbb and left posterior fascicular block | - | rbbb
right bundle branch block and left anterior fascicular block | - | rbbb
right bundle branch block and left posterior fascicular block | - | rbbb
incomplete left bundle branch block | - | other
incomplete right bundle branch block | - | other
left anterior fascicular block | - | other
left posterior fascicular block | - | other
bifascicular block | - | other
trifascicular block | - | other
intraventricular conduction delay | - | other
intraventricular conduction block | - | other
non-specific intra-ventricular conduction delay | - | other
non-specific intra-ventricular conduction block | - | other
nonspecific intraventricular conduction delay | - | other
nonspecific intraventricular conduction block | - | other
ventricular pre-excitation | - | other
wolff-parkinson-white | - | other
"""


_STATED: Final = {
    text: (rhythm, conduction)
    for text, rhythm, conduction in (line.split(" | ") for line in _TABLE.strip().splitlines())
}
_NOTHING: Final = "-"
# What surrounds a statement: stars of emphasis, and marks at its end.
_MARKS: Final = " *~.,;:"
# What may follow a statement: `with premature complexes`, and `, rate 51-69` of Philips.
_MORE: Final = re.compile(r" with |, (?:v-)?rate\b")
_SEPARATOR: Final = re.compile(r"[-_=]*")
# Where several are stated: a paced heart may fibrillate beneath, and one that fibrillates has sinus
# beats at most beside it.
_RHYTHMS: Final = (Rhythm.PACED, Rhythm.AF_FLUTTER, Rhythm.OTHER, Rhythm.SINUS)


DEVICE: Final = "device"
"""Source of what a device states."""

HEADER: Final = "header"
"""Source of labels in the header of a file, which are often of people."""


def rhythm_codes(statements: Iterable[str], codes: Iterable[str] = (), *, source: str = DEVICE) -> RhythmCodes:
    """Return rhythm and conduction by statements, one a text, and by coded statements.

    A statement is one of the table, in any case, perhaps with more after it (`_MORE`); a code is
    one of `statement_codes`. Without any of either all is None; where the tables know none of them,
    both are `unknown`. Conduction is `none` where a rhythm or another block of a table is stated,
    but no block. `source` is `DEVICE` or `HEADER`.
    """
    given = [text for text in map(_normal, statements) if not _SEPARATOR.fullmatch(text)]
    coded = list(codes)
    if not given and not coded:
        return NOTHING_STATED
    found = [_STATED[key] for text in given if (key := _key(text)) is not None]
    found += [STATED_BY_CODE[code] for code in coded if code in STATED_BY_CODE]
    rhythms = {rhythm for rhythm, _ in found}
    blocks = {block for _, block in found} - {_NOTHING}
    rhythm = next((one for one in _RHYTHMS if one in rhythms), Rhythm.UNKNOWN)
    return RhythmCodes(rhythm.value, _conduction(blocks, is_known=bool(found)).value, source)


def is_statement(text: str) -> bool:
    """Return whether a text is a statement of the table."""
    return _key(_normal(text)) is not None


def _conduction(blocks: set[str], *, is_known: bool) -> Conduction:
    sides = blocks & {Conduction.LBBB, Conduction.RBBB}
    if len(sides) == 1:
        return Conduction(next(iter(sides)))
    if blocks:
        return Conduction.OTHER
    return Conduction.NONE if is_known else Conduction.UNKNOWN


def _normal(text: str) -> str:
    return " ".join(text.casefold().split()).strip(_MARKS)


def _key(text: str) -> str | None:
    """Return the statement of the table that a text is, or begins with."""
    head = _MORE.split(text, maxsplit=1)[0].strip(_MARKS)
    return next((one for one in (text, head) if one in _STATED), None)


def statements_in(element: Element | None, tag: str) -> list[str]:
    """Return the lines of all elements of a name; free text that must not leave the reader."""
    if element is None:
        return []
    return [line for found in element.iter(tag) for line in (found.text or "").splitlines()]
