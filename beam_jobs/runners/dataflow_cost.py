"""What a run on Dataflow may take and cost, reckoned before it is paid for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from math import ceil
from pathlib import Path
from typing import Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from beam_jobs.runners.dataflow_machines import Gpu, Machine
from lvm_core.errors import UsageError
from lvm_core.wording import counted
from models.engines.choosing import EngineName

PRICES: Final = Path(__file__).with_name("dataflow_prices.yaml")
# A vCPU is one of the two threads of a core: it may do as much as a core, or half.
_SLOWEST: Final = 2.0
_S_PER_HOUR: Final = 3600.0


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _ByGpu(_Strict):
    l4: float = Field(gt=0)
    t4: float = Field(gt=0)
    a100: float = Field(gt=0)

    def of(self, gpu: Gpu) -> float:
        return float(getattr(self, gpu.name))


class _PerHourCheap(_Strict):
    vcpu: float = Field(ge=0)
    memory_gb: float = Field(ge=0)
    disk_gb: float = Field(ge=0)


class _PerHour(_PerHourCheap):
    gpu: _ByGpu


class _Rates(_Strict):
    spectral_per_vcpu: float = Field(gt=0)
    tensorflow_per_vcpu: float = Field(gt=0)
    gpu: _ByGpu


class _ByKind(_Strict):
    cpu: int = Field(ge=0)
    gpu: int = Field(ge=0)


class Prices(_Strict):
    """The table of prices, rates and assumptions; `dataflow_prices.yaml` says what each is."""

    currency: str
    region: str
    written: date
    looked_up: bool
    per_hour: _PerHour
    per_hour_cheap: _PerHourCheap
    rates: _Rates
    start_s: _ByKind


def load_prices(path: Path | None = None) -> Prices:
    """Return the table of a file, or ours.

    Raises:
        UsageError: the file is not there or not such a table; the message names the line at fault.
    """
    path = path or PRICES
    try:
        return Prices.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"--prices {path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"--prices {path} is no YAML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole file"
        raise UsageError(
            f"--prices {path}: {where}: {first['msg']}. Copy {PRICES.name} and change its numbers"
        ) from error


@dataclass(frozen=True)
class Fleet:
    """The workers that a run asks for."""

    n_workers: int
    machine: Machine
    gpu: Gpu | None
    disk_gb: int
    cheap: bool


@dataclass(frozen=True)
class Estimate:
    """Duration and price of a run, at best and at worst."""

    seconds: tuple[float, float]  # from the start of the job, without waiting for machines
    price: tuple[float, float]  # in the currency of the table


def estimate(prices: Prices, fleet: Fleet, engine: EngineName, n_ecgs: int, n_units: int) -> Estimate:
    """Return what a run may take and cost.

    All workers start together, take whole units in equal shares and are paid until the last one
    is done. Not counted: storage, requests, network, waiting for machines, repeated work.

    Args:
        prices: the table.
        fleet: the workers.
        engine: what computes on CPUs; a GPU has a rate of its own.
        n_ecgs: of all units, 0 or more.
        n_units: 0 or more.
    """
    if fleet.gpu is not None:
        rate = prices.rates.gpu.of(fleet.gpu)
    else:
        rates = prices.rates
        per_vcpu = rates.spectral_per_vcpu if engine is EngineName.SPECTRAL else rates.tensorflow_per_vcpu
        rate = fleet.machine.vcpus * per_vcpu
    start_s = prices.start_s.cpu if fleet.gpu is None else prices.start_s.gpu
    n_last = ceil(n_units / fleet.n_workers) * (n_ecgs / n_units) if n_units else 0.0
    seconds = (start_s + n_last / rate, start_s + n_last / rate * _SLOWEST)
    per_hour = prices.per_hour_cheap if fleet.cheap else prices.per_hour
    of_worker = (
        fleet.machine.vcpus * per_hour.vcpu
        + fleet.machine.memory_gb * per_hour.memory_gb
        + fleet.disk_gb * per_hour.disk_gb
        + (prices.per_hour.gpu.of(fleet.gpu) if fleet.gpu is not None else 0.0)
    )
    per_s = fleet.n_workers * of_worker / _S_PER_HOUR
    return Estimate(seconds, (seconds[0] * per_s, seconds[1] * per_s))


def estimate_lines(
    prices: Prices, fleet: Fleet, engine: EngineName, n_ecgs: int, n_units: int, source: str
) -> list[str]:
    """Return the estimate with its assumptions, as lines; `source` names the table."""
    found = estimate(prices, fleet, engine, n_ecgs, n_units)
    least, most = (_duration(seconds) for seconds in found.seconds)
    if fleet.gpu is not None:
        rate = f"{prices.rates.gpu.of(fleet.gpu):g} ECG/s for each {fleet.gpu.title}, which was not measured"
    else:
        per_vcpu = prices.rates.spectral_per_vcpu if engine is EngineName.SPECTRAL else prices.rates.tensorflow_per_vcpu
        rate = f"{per_vcpu:g} ECG/s for each vCPU, measured on a core of docs/benchmarks.md with the ECG-only model"
    start_s = prices.start_s.cpu if fleet.gpu is None else prices.start_s.gpu
    checked = "" if prices.looked_up else ", which nobody looked up: check them before you rely on them"
    lines = [
        f"estimate: {least} to {most} and {found.price[0]:,.2f} to {found.price[1]:,.2f} {prices.currency} for "
        f"{counted(n_ecgs, 'ECG', form=',')}",
        f"  rate: {rate}; the larger figures are for half of it",
        f"  start: {start_s} s until a worker scores, assumed" + ("; FlexRS starts within six hours" * fleet.cheap),
        f"  prices: {source}, list prices of {prices.region} as written down on {prices.written}{checked}",
        "  not counted: storage, requests, network, waiting for machines, repeated work",
    ]
    if n_units < fleet.n_workers:
        lines.append(
            f"note: {counted(fleet.n_workers, 'worker')}, but {counted(n_units, 'unit')}: "
            f"{counted(max(1, n_units), 'worker', 'are')} enough, or make units smaller with --unit-ecgs"
        )
    return lines


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"
