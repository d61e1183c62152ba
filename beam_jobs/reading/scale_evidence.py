"""What decoded ECGs say about their unit, scale and lead order: evidence, in short tables."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from beam_jobs.reading.blocks import EcgRow, Reject
from lvm_core.signal.lead_orders import DECLARED, OrderEvidence, OrderVerdict, order_verdict
from lvm_core.signal.plausibility import is_about_scale, lead_amplitudes
from lvm_core.signal.quality import QualityFlag
from lvm_core.signal.scale import RecordScale, wrong_scales
from lvm_core.wording import counted

_RATE_HZ: Final = 500
_DURATION_S: Final = 10
_SHOWN_ORDERS: Final = 4
_SHOWN_RECORDS: Final = 5


class _Signal(NamedTuple):
    """One ECG that can be judged, accepted or refused for its voltages."""

    ecg_id: str
    leads_uv: NDArray[np.floating]  # (12, n_samples), all finite
    rate_hz: float
    step_uv: float  # microvolts of one count
    is_derived: bool  # III, aVR, aVL and aVF were computed from I and II


@dataclass(frozen=True)
class ScaleEvidence:
    """Scale and lead order of a sample of ECGs."""

    ecg_ids: tuple[str, ...]  # of the ECGs that could be judged
    records: tuple[RecordScale, ...]  # of each of them
    orders: OrderVerdict

    @property
    def wrong(self) -> list[int]:
        """Places of ECGs whose scale is likely wrong."""
        return wrong_scales(self.records)

    @property
    def likely_factor(self) -> float | None:
        """How many times too large most of the wrong ECGs are; None where none is wrong."""
        factors = Counter(self.records[i].factor for i in self.wrong)
        return factors.most_common(1)[0][0] if factors else None

    @property
    def scale_problems(self) -> list[str]:
        """A sentence for each mistake of scale that records seem to have."""
        return list(self._scale_problems())

    @property
    def order_problems(self) -> list[str]:
        """A sentence for each order that leads seem to stand in, other than the one as declared."""
        return list(_order_problems(self.orders))

    def _scale_problems(self) -> Iterator[str]:
        causes: dict[str, list[str]] = defaultdict(list)
        for i in self.wrong:
            causes[str(self.records[i].cause)].append(self.ecg_ids[i])
        by_number = sorted(causes.items(), key=lambda item: -len(item[1]))
        # One mistake in all, blurred by how ECGs differ.
        if by_number and len(by_number[0][1]) > len(self.records) / 2:
            by_number = by_number[:1]
        for cause, ids in by_number:
            more = f" and {len(ids) - _SHOWN_RECORDS} more" if len(ids) > _SHOWN_RECORDS else ""
            shown = ", ".join(ids[:_SHOWN_RECORDS])
            n_all = counted(len(self.records), "ECG")
            yield f"voltages of {len(ids)} of {n_all} look {cause} Correct the unit or the gain: {shown}{more}"

    def lines(self) -> list[str]:
        """Return the two tables, line by line; nothing where no ECG could be judged."""
        return [*_scale_table(self.records), "", *_order_table(self.orders), ""] if self.records else []


def evidence_of(seen: Iterable[EcgRow | Reject]) -> ScaleEvidence:
    """Judge ECGs that were accepted, and recordings that were refused for their voltages."""
    signals = list(_signals(seen))
    records = [
        RecordScale.of(float(np.median(lead_amplitudes(one.leads_uv[None], int(one.rate_hz)))), one.step_uv)
        for one in signals
    ]
    return ScaleEvidence(tuple(one.ecg_id for one in signals), tuple(records), _verdict(signals))


def orders_of(rows: Sequence[EcgRow]) -> OrderVerdict:
    """Return in which order the leads of ECGs stand."""
    return _verdict(list(_signals(rows)))


def order_hint(orders: OrderVerdict) -> str | None:
    """Return how the limb leads likely stand, and the mend; None where they are as declared."""
    found = orders.found
    if found is DECLARED:
        return None
    n = next(one.n_best for one in orders.limb if one.order is found)
    return f"leads of {n} of {counted(orders.n_judged, 'ECG')} fit {found.name}: {found.mend}"


def _verdict(signals: Sequence[_Signal]) -> OrderVerdict:
    return order_verdict([(one.leads_uv, one.rate_hz, one.is_derived) for one in signals])


def _signals(seen: Iterable[EcgRow | Reject]) -> Iterator[_Signal]:
    for item in seen:
        if isinstance(item, EcgRow):
            leads_uv = item.counts * np.float32(item.uv_per_count)
            is_derived = QualityFlag.LEADS_DERIVED in item.quality_flags
            one = _Signal(item.ecg_id, leads_uv, _RATE_HZ, item.uv_per_count, is_derived)
        elif item.recording is not None and is_about_scale(item.reason):
            ecg = item.recording
            first_uv = ecg.leads_uv[: int(_DURATION_S * ecg.sampling_rate_hz)].T
            one = _Signal(str(item.ecg_id), first_uv, ecg.sampling_rate_hz, ecg.step_uv, ecg.leads_derived)
        else:
            continue
        # A constant lead has no place among the others: such an ECG is rejected as `lead_flat`.
        if np.isfinite(one.leads_uv).all() and (np.ptp(one.leads_uv, axis=1) > 0).all():
            yield one


def _order_problems(orders: OrderVerdict) -> Iterator[str]:
    hint = order_hint(orders)
    if hint is not None:
        yield f"leads stand in another order: {hint}"
    elif orders.fits_none:
        yield (
            f"limb leads of {orders.n_without} of {counted(orders.n_judged, 'ECG')} fit no order that is known here; "
            "are leads scaled one by one, or is the gain of one of them wrong?"
        )
    chest = orders.chest_found
    if chest is not DECLARED:
        n = next(one.n_best for one in orders.chest if one.order is chest)
        yield (
            f"chest leads likely stand in another order: in {n} of {sum(one.n_best for one in orders.chest)} ECGs R "
            f"grows most with {chest.name}. Look at some with lvm-ai plot-ecg; if it is so, {chest.mend}"
        )


def _scale_table(records: Sequence[RecordScale]) -> Iterator[str]:
    causes = Counter(one.cause for one in records)
    yield "scale                           ECGs   median of the leads (uV)"
    for cause, n in [(None, causes.pop(None, 0)), *causes.most_common()]:
        name = "as declared" if cause is None else cause.partition(":")[0]
        amplitudes_uv = [one.median_uv for one in records if one.cause == cause]
        shown = f"{np.median(amplitudes_uv):,.0f}" if amplitudes_uv else "-"
        yield f"{name:<30}{n:>6}   {shown:>24}"


def _order_table(orders: OrderVerdict) -> Iterator[str]:
    declared, *others = orders.limb
    others.sort(key=lambda one: (-one.n_best, one.residual))
    yield f"{'lead order':<67}{'Einthoven (%)':>13}  {'growth of R':>11}  {'ECGs':>4}"
    for one in [declared, *others[: _SHOWN_ORDERS - 1]] if orders.n_judged else []:
        yield _order_line(one)
    for one in orders.chest:
        yield _order_line(one, "chest leads " if one.order is DECLARED else "")


def _order_line(one: OrderEvidence, before: str = "") -> str:
    residual = "-" if np.isnan(one.residual) else f"{100 * one.residual:.1f}"
    return f"{before + one.order.name:<67}{residual:>13}  {one.progression:>11.2f}  {one.n_best:>4}"
