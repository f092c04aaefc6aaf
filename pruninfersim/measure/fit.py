"""From a folder of timings to calibrated kernels: ``python -m pruninfersim.measure.fit timings``. Needs no GPU."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pruninfersim.calibration import kinds
from pruninfersim.calibration.checks import FEWEST_ROWS
from pruninfersim.calibration.fit import calibrate
from pruninfersim.calibration.record import Calibration
from pruninfersim.calibration.timings import read_timings
from pruninfersim.errors import InvalidInputError, PruninfersimError


def fit_folder(folder: str | Path) -> list[Calibration]:
    """Fit every kind and precision that a folder has timings of.

    Parameters
    ----------
    folder : str or Path
        Where ``pruninfersim measure`` wrote its files.

    Returns
    -------
    list of Calibration
        Held-out errors are cross-validated by shape. Operands stream from HBM by protocol, so ``cache="cold"``. A kind
        of which too few shapes were timed is left out.

    Raises
    ------
    InvalidInputError
        If there is nothing to fit.
    FileFormatError
        If a line of a file is bad.
    """
    fits = []
    for kind in kinds.KERNELS:
        path = Path(folder) / f"{kind}.csv"
        if not path.is_file():
            continue
        frame = read_timings(path, kind=kind)
        for dtype in dict.fromkeys(frame["dtype"]):
            rows = frame[frame["dtype"] == dtype].reset_index(drop=True)
            # 2:4 is fitted as a ratio to dense: one side alone says nothing.
            lopsided = "sparsity" in rows and rows["sparsity"].nunique() < 2
            if len(rows) >= FEWEST_ROWS and not lopsided:
                source = f"pruninfersim measure, {rows['backend'].iat[0]}"
                fits.append(calibrate(kind, rows, str(rows["gpu"].iat[0]), dtype=dtype, cache="cold", source=source))
    if not fits:
        known = ", ".join(f"{kind}.csv" for kind in kinds.KERNELS)
        raise InvalidInputError(f"{folder}: no file with at least {FEWEST_ROWS} timings to fit; looked for {known}")
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
