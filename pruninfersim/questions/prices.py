"""What tokens cost: prices of an hour of a GPU, in a currency of the reader's choice. None are built in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pruninfersim._util.arrays import checked
from pruninfersim.errors import InvalidInputError, shown
from pruninfersim.hardware import HardwareProfile

MILLION = 1e6
HOUR = 3600.0


def hourly_prices(prices: Mapping[str, float] | None, gpus: Iterable[HardwareProfile]) -> dict[str, float]:
    """Return the prices of an hour by GPU, after checking them.

    Raises
    ------
    InvalidInputError
        If they are no mapping, one is not positive, or is of a GPU that is not among those asked for.

    >>> from pruninfersim import hardware
    >>> hourly_prices({"l40s": 1}, [hardware.get("l40s")])
    {'l40s': 1.0}
    """
    if prices is not None and not isinstance(prices, Mapping):
        raise InvalidInputError(f"price_per_hour is a price by GPU, such as {{'h100-sxm': 2.5}}; got {shown(prices)}")
    unknown = sorted(set(prices or {}) - {gpu.name for gpu in gpus})
    if unknown:
        raise InvalidInputError(f"price_per_hour has a price of {unknown[0]}, which is not among the GPUs asked for")
    return {
        name: float(checked(f"price_per_hour of {name}", price, minimum=1e-12))
        for name, price in (prices or {}).items()
    }


def of_a_million(price: Any, tokens_per_second: Any, gpus: Any = 1) -> Any:
    """Return the price of a million tokens if each of the GPUs that make them costs `price` an hour.

    >>> of_a_million(3.6, 1000.0), of_a_million(3.6, 1000.0, gpus=4)
    (1.0, 4.0)
    """
    return price * gpus / (tokens_per_second * HOUR) * MILLION
