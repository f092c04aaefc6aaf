"""What the scripts here share: errors of kernels on timings, shipped calibrations, and how a fit is called."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pruninfersim import hardware
from pruninfersim.calibration import kinds, nearest
from pruninfersim.calibration.fit import summary
from pruninfersim.calibration.least_squares import mape
from pruninfersim.calibration.record import Calibration

CALIBRATIONS = hardware.profiles_directory() / "calibrations"
#: Where the sources of the tables are named.
SOURCES = "see docs/errors-and-data.md for the source"


def log_residual(
    kind: str, kernel: Any, rows: pd.DataFrame, gpu: str, cache: str = "replayed", *, protocol: bool = False
) -> np.ndarray:
    """Return ln(measured / predicted) of a kernel on rows, shape (row,).

    Nothing is known of a row but its op; with `protocol` also how its backend replays its operands.
    """
    rows, spec = rows.reset_index(drop=True), kinds.get(kind)
    price = spec.fit_seconds if protocol else spec.seconds
    return np.log(rows["latency_us"].to_numpy() * 1e-6 / price(kernel, rows, hardware.get(gpu), cache))


def shipped(kind: str, dtype: str, gpu: str) -> Calibration | None:
    """Return the shipped calibration, if there is one."""
    file = CALIBRATIONS / gpu / f"{kind}-{dtype}.toml"
    return Calibration.from_toml(file) if file.exists() else None


def ship(record: Calibration) -> Path:
    """Write a calibration to where shipped ones are read from, and return its path."""
    return record.to_toml(CALIBRATIONS / record.hardware / f"{record.kind}-{record.dtype}.toml")


def report_left_out(kind: str, dtype: str, errors: Mapping[str, np.ndarray], write: bool) -> None:
    """Print, and with `write` note, what calibrations carried over to each GPU in turn have missed.

    Parameters
    ----------
    kind, dtype : str
    errors : mapping of str to ndarray
        GPU -> ln(measured / predicted) of its rows, by the calibrations of the others.
    write : bool
    """
    for gpu, values in errors.items():
        print(f"  {gpu:22s} {100 * mape(values):6.1f} %   median {100 * np.median(values):+6.1f} %")
    everything = np.concatenate(list(errors.values()))
    found = summary(everything)
    band = f"{found.low:+.3f} to {found.high:+.3f}"
    print(f"  all: {100 * mape(everything):.1f} %, 90 % of ln(measured / predicted) {band}")
    if write:
        nearest.write_carried_over_error(f"{kind}-{dtype}", found, mape(everything))


def command_line(doc: str, *, kinds_of: Iterable[str] = ()) -> argparse.ArgumentParser:
    """Return the command line of a fit: the folder of the tables, and whether the calibrations are written.

    Parameters
    ----------
    doc : str
        Text of the script; its first line is shown.
    kinds_of : iterable of str
        What `--kind` chooses from, where one GPU or kind can be fitted alone.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--write", action="store_true", help=f"write {CALIBRATIONS.name}/<gpu>/*.toml")
    if kinds_of:
        parser.add_argument("--gpu", help="one GPU only")
        parser.add_argument("--kind", choices=tuple(kinds_of), help="one kind only")
    return parser


def lacking(*files: Path) -> bool:
    """Print which files are not there, and return whether any is not."""
    missing = [file for file in files if not file.exists()]
    if missing:
        print(f"skipped: {', '.join(file.name for file in missing)} not in {missing[0].parent}; {SOURCES}")
    return bool(missing)
