"""From a folder of timings to calibrated kernels: ``python -m pruninfersim.measure.fit timings``. Needs no GPU."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pruninfersim._util.files import TABLE, read_text
from pruninfersim.calibration import kinds, timings
from pruninfersim.calibration.fit import calibrate
from pruninfersim.calibration.record import Calibration
from pruninfersim.errors import FileFormatError, InvalidInputError, PruninfersimError

#: Fewest rows that are fitted.
LEAST_ROWS = 5


def read(path: Path, kind: str) -> pd.DataFrame:
    """Return the timings in a file that ``pruninfersim measure`` wrote; its comment lines are passed over.

    Raises
    ------
    FileFormatError
        If a line is bad.
    """
    try:
        written = io.StringIO(read_text(path, TABLE), newline=None)
        text = pd.read_csv(written, comment="#", dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise FileFormatError(f"{path}: not a readable CSV file ({str(error).strip()})") from None
    return timings.parse(text, kind=kind, where=path.name)


def fit_folder(folder: str | Path) -> list[Calibration]:
    """Fit every kind and precision that a folder has timings of.

    Parameters
    ----------
    folder : str or Path
        Where ``pruninfersim measure`` wrote its files.

    Returns
    -------
    list of Calibration
        Held-out errors are cross-validated by shape. Operands stream from HBM by protocol, so ``cache="cold"``.

    Raises
    ------
    InvalidInputError
        If there is nothing to fit.
    """
    fits = []
    for kind in kinds.KERNELS:
        path = Path(folder) / f"{kind}.csv"
        if not path.is_file():
            continue
        frame = read(path, kind)
        for dtype in dict.fromkeys(frame["dtype"]):
            rows = frame[frame["dtype"] == dtype].reset_index(drop=True)
            # 2:4 is fitted as a ratio to dense: one side alone says nothing.
            lopsided = "sparsity" in rows and rows["sparsity"].nunique() < 2
            if len(rows) >= LEAST_ROWS and not lopsided:
                source = f"pruninfersim measure, {rows['backend'].iat[0]}"
                fits.append(calibrate(kind, rows, str(rows["gpu"].iat[0]), dtype=dtype, cache="cold", source=source))
    if not fits:
        known = ", ".join(f"{kind}.csv" for kind in kinds.KERNELS)
        raise InvalidInputError(f"{folder}: no file with at least {LEAST_ROWS} timings to fit; looked for {known}")
    return fits


def main(arguments: Sequence[str]) -> int:
    """Fit a folder, print one line per kernel, and write the calibrations beside the timings."""
    if len(arguments) != 1:
        print("usage: python -m pruninfersim.measure.fit FOLDER", file=sys.stderr)
        return 2
    try:
        fits = fit_folder(arguments[0])
        for fit in fits:
            path = fit.to_toml(Path(arguments[0]) / "calibrations" / fit.hardware / f"{fit.kind}-{fit.dtype}.toml")
            print(f"{fit!r} -> {path}")
    except PruninfersimError as error:
        print(f"pruninfersim: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
