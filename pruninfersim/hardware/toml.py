"""Reading of hardware profile files: TOML in, plain SI numbers and their sources out.

The layout of a profile is documented in `docs/hardware.md`. Everything that a file can get wrong ends in one
`FileFormatError` that names the file, the key and what is allowed.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NoReturn

from pruninfersim._util.toml import read_toml
from pruninfersim.errors import FileFormatError, shown, unknown_name
from pruninfersim.hardware.precision import DTYPES

_FLOPS = {"FLOP/s": 1.0, "GFLOP/s": 1e9, "TFLOP/s": 1e12, "PFLOP/s": 1e15}
_OPS = {"OP/s": 1.0, "GOP/s": 1e9, "TOP/s": 1e12, "POP/s": 1e15}
_BYTES = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
_BANDWIDTH = {"B/s": 1.0, "MB/s": 1e6, "GB/s": 1e9, "TB/s": 1e12, "MiB/s": 2.0**20, "GiB/s": 2.0**30}
_HERTZ = {"Hz": 1.0, "kHz": 1e3, "MHz": 1e6, "GHz": 1e9}
#: Allowed units of each figure, with the factor to SI.
UNITS: dict[str, dict[str, float]] = {
    "sm_count": {"1": 1.0},
    "dies": {"1": 1.0},
    "boost_clock": _HERTZ,
    "base_clock": _HERTZ,
    "max_clock": _HERTZ,
    "memory_size": _BYTES,
    "memory_bandwidth": _BANDWIDTH,
    "l2_size": _BYTES,
    "interconnect_bandwidth": _BANDWIDTH,
    "tdp": {"W": 1.0, "kW": 1e3},
}
TEXTS = (
    "name", "title", "vendor", "architecture", "compute_capability", "memory_type", "silicon", "tensor_rate",
    "reference", "notes",
)  # fmt: skip
TABLES = ("peak", "peak_2of4")
REQUIRED = (
    "name", "title", "vendor", "architecture", "memory_type", "reference",
    "sm_count", "memory_size", "memory_bandwidth", "peak",
)  # fmt: skip


def peak_units(dtype: str) -> dict[str, float]:
    """Return the allowed units of a peak: integer work may also be given in OP/s."""
    return _FLOPS | _OPS if dtype == "int8" else _FLOPS


def read_profile(file: Path) -> dict[str, Any]:
    """Return the fields of a `HardwareProfile` from a TOML file, in SI units, with a ``sources`` table.

    Raises
    ------
    FileFormatError
        If the file is not TOML, a key is unknown or missing, or a figure lacks value, unit or source or has a unit
        that the field does not allow.
    """
    content = read_toml(file)
    known = (*TEXTS, *UNITS, *TABLES)
    for key in content:
        if key not in known:
            _fail(file, key, str(unknown_name("key", key, known)))
    for key in REQUIRED:
        if key not in content:
            _fail(file, key, f"is missing. Required: {', '.join(REQUIRED)}.")
    fields: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for key, entry in content.items():
        if key in TEXTS:
            if not isinstance(entry, str):
                _fail(file, key, f"must be text; got {shown(entry)}.")
            fields[key] = entry
        elif key in UNITS:
            fields[key], sources[key] = _figure(file, key, entry, UNITS[key])
        else:
            fields[key] = {}
            for dtype, figure in _table(file, key, entry).items():
                if dtype not in DTYPES:
                    _fail(file, f"{key}.{dtype}", str(unknown_name("dtype", dtype, DTYPES)))
                where = f"{key}.{dtype}"
                fields[key][dtype], sources[where] = _figure(file, where, figure, peak_units(dtype))
    if not fields["peak"]:
        _fail(file, "peak", f"is empty. Give at least one of {', '.join(DTYPES)}. Is the file complete?")
    for count in ("sm_count", "dies"):
        if fields.get(count, 1) != int(fields.get(count, 1)):
            _fail(file, count, f"must be a whole number; got {shown(fields[count])}.")
        if count in fields:
            fields[count] = int(fields[count])
    fields["sources"] = sources
    return fields


def _figure(file: Path, key: str, entry: Any, units: dict[str, float]) -> tuple[float, str]:
    """Return a figure in SI units and its source."""
    table = _table(file, key, entry)
    for part in table:
        if part not in ("value", "unit", "source"):
            _fail(file, f"{key}.{part}", str(unknown_name("key", part, ("value", "unit", "source"))))
    for part in ("value", "unit", "source"):
        if part not in table:
            _fail(file, key, f"has no {part}. Write {{ value = ..., unit = {next(iter(units))!r}, source = '...' }}.")
    value, unit, source = table["value"], table["unit"], table["source"]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        _fail(file, f"{key}.value", f"must be a number above 0; got {shown(value)}.")
    if unit not in units:
        _fail(file, f"{key}.unit", f"{shown(unit)} is not allowed here. Allowed: {', '.join(units)}.")
    if not isinstance(source, str) or not source.strip():
        _fail(file, f"{key}.source", "must say where the figure comes from; every figure needs a source.")
    return float(value) * units[unit], source


def _table(file: Path, key: str, entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict):
        _fail(file, key, f"must be a table; got {shown(entry)}. Every figure is written with value, unit and source.")
    return entry


def _fail(file: Path, key: str, message: str) -> NoReturn:
    raise FileFormatError(f"{file}: {key}: {message}")
