"""Which ECGs get flags of their signal, and which are left out for their flags."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from beam_jobs.reading.blocks import EcgRow
from beam_jobs.reading.flagged import (
    Flagged,
    SignalFlags,
    flag_reject,
    parse_flags,
    refuse_flags_not_looked_for,
    refuse_flags_of_scoring,
    with_signal_flags,
)
from lvm_core.errors import UsageError
from lvm_core.signal.quality import FLAGS_OF_SCORING, QualityFlag
from lvm_core.synthetic.ecgs import synthetic_ecgs

CLEAN_UV = synthetic_ecgs(1, 11).counts[0] * 5.0
MAINS_UV = np.zeros((12, 5000))
MAINS_UV[8] = 200 * np.sin(2 * np.pi * 50 * np.arange(5000) / 500)


def _row(leads_uv: NDArray[np.float64]) -> EcgRow:
    return EcgRow("e", np.rint(leads_uv / 2.5).astype(np.int16), 2.5, "e.dat")


CLEAN, NOISY = _row(CLEAN_UV), _row(CLEAN_UV + MAINS_UV)


def test_parse_flags__in_the_order_of_the_closed_list_each_once() -> None:
    assert parse_flags("mains_noise, Saturated,mains_noise") == ("saturated", "mains_noise")
    assert parse_flags(",".join(flag.value for flag in QualityFlag)) == tuple(flag.value for flag in QualityFlag)


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("main_noise", "did you mean mains_noise"),
        ("saturated,pacing", "did you mean pacing_spikes"),
        ("saturated,", "expected"),
    ],
)
def test_parse_flags__an_unknown_name_is_refused_with_the_nearest(text: str, nearest: str) -> None:
    with pytest.raises(UsageError, match=f"--reject-flags names .*{nearest}"):
        parse_flags(text)


def test_parse_flags__nothing_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^--reject-flags is empty; expected names with commas between"):
        parse_flags(" ")


def test_refuse_flags_not_looked_for__only_where_nobody_looks() -> None:
    refuse_flags_not_looked_for(["mains_noise"], SignalFlags.FILES)
    refuse_flags_not_looked_for(["amplitude_unusual", "saturated"], SignalFlags.NEVER)
    with pytest.raises(UsageError, match="names mains_noise, and --signal-flags never gives no ECG these flags"):
        refuse_flags_not_looked_for(["saturated", "mains_noise"], SignalFlags.NEVER)


def test_refuse_flags_of_scoring__which_ingest_cannot_know() -> None:
    refuse_flags_of_scoring(["saturated", "amplitude_unusual", "cropped"])
    with pytest.raises(UsageError, match="names mass_implausible, which only lvm-ai score knows"):
        refuse_flags_of_scoring(["saturated", "mass_implausible"])
    assert {f.value for f in QualityFlag if "AGE" in f.name or "BIRTH" in f.name} <= FLAGS_OF_SCORING


@pytest.mark.parametrize(
    ("row", "which", "is_flagged"),
    [
        (NOISY, SignalFlags.FILES, True),
        (NOISY, SignalFlags.ALL, True),
        (NOISY, SignalFlags.NEVER, False),
        (replace(NOISY, row=3), SignalFlags.FILES, False),
        (replace(NOISY, row=3), SignalFlags.ALL, True),
        (CLEAN, SignalFlags.ALL, False),
        (replace(NOISY, uv_per_count=float("nan")), SignalFlags.ALL, False),
        (replace(NOISY, uv_per_count=0.0), SignalFlags.ALL, False),
    ],
)
def test_with_signal_flags__of_device_files_unless_asked(row: EcgRow, which: SignalFlags, is_flagged: bool) -> None:
    (found,) = with_signal_flags([row], which)
    assert found.quality_flags == (("mains_noise",) if is_flagged else ())
    assert found.counts is row.counts


def test_with_signal_flags__what_the_row_had_stays_first_and_once() -> None:
    row = replace(NOISY, quality_flags=("resampled", "mains_noise"))
    assert with_signal_flags([row], SignalFlags.ALL)[0].quality_flags == ("resampled", "mains_noise")


def test_flag_reject__names_the_flags_that_were_asked_for() -> None:
    assert flag_reject(CLEAN, ("cropped",), ("saturated",), "p") is None
    found = flag_reject(CLEAN, ("cropped", "saturated", "mains_noise"), ("saturated", "mains_noise"), "p")
    assert found is not None
    assert (found.reason, found.ecg_id, found.participant_id) == ("quality_flag", "e", "p")
    assert found.detail == "quality flags saturated, mains_noise, which --reject-flags names"


def test_flagged__every_row_of_ingest_is_looked_at() -> None:
    stacked = replace(NOISY, row=5)  # of an HDF5 file
    found = Flagged.of([CLEAN, stacked], SignalFlags.FILES, ())
    assert [row.quality_flags for row in found.rows] == [(), ("mains_noise",)]
    assert found.rejects == []
    assert Flagged.of([], SignalFlags.FILES, ("mains_noise",)) == Flagged([], [])


def test_flagged__rejects_flags_of_signal_and_voltages_and_nothing_else() -> None:
    large = replace(_row(4 * CLEAN_UV), ecg_id="large")
    named = replace(CLEAN, ecg_id="named", quality_flags=("cropped",))
    rows = [replace(CLEAN, ecg_id="clean"), replace(NOISY, ecg_id="noisy"), large, named]

    def rejected(which: SignalFlags, *unwanted: str) -> list[str | None]:
        found = Flagged.of(rows, which, unwanted)
        assert len(found.rows) + len(found.rejects) == len(rows)
        return [reject.ecg_id for reject in found.rejects]

    assert rejected(SignalFlags.FILES, "mains_noise") == ["noisy"]
    assert rejected(SignalFlags.NEVER, "mains_noise") == []  # not looked for
    assert rejected(SignalFlags.FILES, "amplitude_unusual") == ["large"]
    assert rejected(SignalFlags.FILES, "mains_noise", "cropped") == ["noisy", "named"]
    assert rejected(SignalFlags.FILES, "saturated") == []
