"""The README that `lvm-ai simulate` leaves beside a synthetic cohort."""

from __future__ import annotations

from typing import Final

_HEAD: Final = """\
# SYNTHETIC cohort: none of these people exists

Made by `lvm-ai simulate --seed {seed} --participants {participants}`. The ECGs, the diseases and
the deaths are drawn from formulas that somebody chose. They serve to test software; nothing about
real hearts may be concluded from them.

| file | what it is |
|---|---|
"""

_TABLES: Final = """\
| participants.csv | one row a person: sex, birth date, body size, region and covariates |
| events.csv | coded events, with the mess of real ones: duplicates, ways of spelling, \
old systems, placeholder dates, events after death, codes that only look alike |
| deaths.csv | death and loss to follow-up, of those who have one and as far as registers know |
| follow_up_ends.csv | last day of records, by region and source |
| cmr.csv | LV mass by CMR, truth plus error, of about 60 % of the people |
| truth.parquet | what is true of each person: mass, covariates, exact ages at diseases and death |
| simulation.json | seed, hazards, code lists, counts, versions |
"""

_RAW: Final = """\
| raw/ | files of devices: CardioSoft XML, MUSE XML, WFDB; NAME_20205_INSTANCE_0, instance 3 is a \
second ECG two years later |

```
lvm-ai ingest --input raw --id-pattern '{id_pattern}' --output ingested
lvm-ai score --input ingested/ecg --participants participants.csv --model MODEL --output scored
```
"""

_PARQUET: Final = """\
| ecg/ | ECG Parquet, one row an ECG |

```
lvm-ai score --input ecg --participants participants.csv --model MODEL --output scored
```
"""

_DRAWN: Final = """\
| predictions_drawn.parquet | predictions that no model made: the mass expected from sex, age, BMI \
and a noisy signal, drawn so that they correlate with the truth by {drawn_correlation:g} |
"""


def readme(report: dict[str, object]) -> str:
    """Return the text for a cohort that `simulation.json` describes."""
    last = {"device files": _RAW, "parquet": _PARQUET, "none": _DRAWN}[str(report["ecgs"])]
    return _HEAD.format(**report) + _TABLES + last.format(**report)
