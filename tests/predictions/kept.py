"""The kept predictions as a file, and how far those of today are from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tests.predictions.cases import every

FILE = Path(__file__).with_name("kept.csv.gz")
#: Largest relative difference that is no difference: sums in another order.
CLOSE = 1e-12
#: A fit ends when its parameters change by less than 1e-5 of themselves, not at the last digit.
CLOSE_FIT = 1e-4


def now() -> dict[str, float]:
    """Return the predictions of today by key."""
    return {key: float(value) for key, value in every()}


def read() -> dict[str, float]:
    """Return the kept predictions by key."""
    table = pd.read_csv(FILE, dtype=str, keep_default_na=False)
    return dict(zip(table["key"], map(float, table["value"]), strict=True))


def write(values: dict[str, float]) -> None:
    """Keep these predictions."""
    table = pd.DataFrame({"key": list(values), "value": [repr(value) for value in values.values()]})
    table.to_csv(FILE, index=False, lineterminator="\n", compression={"method": "gzip", "mtime": 0})


def moved(before: dict[str, float], after: dict[str, float]) -> pd.DataFrame:
    """Return what differs: one row per key, with both values and the relative difference; NaN where one is missing."""
    keys = list(dict.fromkeys([*before, *after]))
    old, new = (np.array([side.get(key, np.nan) for key in keys]) for side in (before, after))
    with np.errstate(invalid="ignore", divide="ignore"):  # infinite on both sides is equal
        change = np.where(old == new, 0.0, new - old)
        relative = np.where(change == 0.0, 0.0, change / np.abs(old))
    limit = np.array([CLOSE_FIT if key.startswith(("fit/", "validate/")) else CLOSE for key in keys])
    # A step of a waterfall that cancels is what floating point leaves of it: nothing, beside a pass of a millisecond.
    tiny = np.abs(change) < np.where([key.startswith("explain/") for key in keys], 1e-15, 0.0)
    differs = ~(np.abs(relative) <= limit) & ~tiny
    frame = pd.DataFrame({"before": old, "after": new, "relative": relative}, index=pd.Index(keys, name="key"))
    return frame[differs]


def by_kind(frame: pd.DataFrame) -> pd.DataFrame:
    """Return how many differ, and by how much at most, by the first word and the last word of the key."""
    words = frame.index.str.split("/")
    kinds = [f"{parts[0]} {parts[-1]}" if parts[0] in ("sweep", "ranking", "ratios") else parts[0] for parts in words]
    # What was nothing before moves by more than any share of it.
    grouped = frame.assign(size=frame["relative"].abs()).groupby(kinds)["size"]
    return grouped.agg(count="count", median="median", largest="max")
