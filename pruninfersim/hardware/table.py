"""All hardware profiles as one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruninfersim._util.doors import door
from pruninfersim.hardware.precision import DTYPES
from pruninfersim.hardware.profile import get, names
from pruninfersim.hardware.reach import FIGURES

if TYPE_CHECKING:
    import pandas as pd


@door
def table(path: str | Path | None = None) -> pd.DataFrame:
    """Return all profiles as a table: one row per name, one column per field in SI units, missing figures NaN.

    Peaks are columns ``peak.bf16`` ..., ``peak_2of4.bf16`` ...  [FLOP/s].

    >>> float(table().loc["l40s", "memory_bandwidth"]) / 1e9
    864.0
    """
    import pandas as pd

    rows = []
    for name in names(path):
        profile = get(name, path)
        row: dict[str, Any] = {
            "name": name, "title": profile.title, "vendor": profile.vendor, "architecture": profile.architecture,
            "compute_capability": profile.compute_capability, "memory_type": profile.memory_type,
        }  # fmt: skip
        row |= {key: getattr(profile, key) for key in ("sm_count", *FIGURES)}
        row |= {f"peak.{dtype}": profile.peak.get(dtype) for dtype in DTYPES}
        row |= {f"peak_2of4.{dtype}": profile.peak_2of4.get(dtype) for dtype in DTYPES}
        rows.append({**row, "reference": profile.reference, "notes": profile.notes})
    frame = pd.DataFrame(rows).set_index("name")
    text = {"title", "vendor", "architecture", "compute_capability", "memory_type", "reference", "notes", "sm_count"}
    numbers = [column for column in frame.columns if column not in text]
    return frame.astype(dict.fromkeys(numbers, "float64"))
