"""From a folder of timings to calibrated kernels: ``python -m pruninfersim.measure.fit timings``. Needs no GPU."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from pruninfersim import hardware, kinds, stacks, timings
from pruninfersim.calibration import calibrate
from pruninfersim.calibration_record import Calibration
from pruninfersim.cost import CostModel, Priced
from pruninfersim.errors import FileFormatError, InvalidInputError, PruninfersimError
from pruninfersim.kernels.gemm_2of4 import Vendor24

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
        text = pd.read_csv(path, comment="#", dtype=str, keep_default_na=False)
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


def cost_model(fits: Sequence[Calibration]) -> CostModel:
    """Return the vendor stack of the GPU with the fitted kernels in place of the shipped ones.

    Kernels that were not fitted stay as shipped; what is composed of a fitted kernel (gathered GEMMs, block-sparse
    attention) keeps the shipped one inside.
    """
    model = replace(stacks.get("vendor", hardware.get(fits[0].hardware)), stack="measured")
    # Dense before 2:4, which is priced as a ratio to dense.
    for fit in sorted(fits, key=lambda f: f.kind == "gemm_2of4"):
        narrow = "" if fit.dtype in ("bf16", "fp16") else f"/{fit.dtype}"
        name = fit.kind.removeprefix("elementwise_")
        for key in {"gemm": ("gemm", "lm_head", "router")}.get(name, (name,)):
            if f"{key}{narrow}" not in model.kernels:
                continue
            old = model.kernels[f"{key}{narrow}"]
            kernel = fit.kernel
            if name == "gemm_2of4":
                kernel = Vendor24(model.kernels[f"gemm{narrow}"].model, kernel)
            # Timed inside a graph, gap and all.
            priced = Priced(kernel, "calibrated", fit.spread, old.group, f"{fit.source}, {fit.date}", 0.0)
            model = model.with_kernel(f"{key}{narrow}", priced)
    return model


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
