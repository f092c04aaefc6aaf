"""What a calibration is: a fitted kernel with its errors and provenance, and how it is written to TOML."""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pruninfersim._util.arrays import FloatArray, real
from pruninfersim._util.doors import doors
from pruninfersim._util.lazy import drawn
from pruninfersim._util.toml import read_toml, write_toml
from pruninfersim.calibration import kinds
from pruninfersim.calibration.layout import Layout, fitted_kernel
from pruninfersim.cost import Priced
from pruninfersim.errors import FileFormatError
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache, parameters
from pruninfersim.kernels.evidence import Domain, Spread
from pruninfersim.trace import OpTrace

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Residuals:
    """Quantiles of ln(measured / predicted) on rows that were not fitted [1].

    Attributes
    ----------
    low, median, high : float
        5, 50 and 95 % quantiles.
    robust_sd : float
        1.4826 times the median absolute deviation.
    """

    low: float
    median: float
    high: float
    robust_sd: float


@dataclass(frozen=True)
class Band:
    """Residuals of kernels in a range of predicted times.

    Attributes
    ----------
    up_to : float
        The band holds times below this and not below that of the band before [s]; ``inf`` in the last one.
    low, high : float
        5 and 95 % quantiles of ln(measured / predicted) [1].
    """

    up_to: float
    low: float
    high: float


@doors
@dataclass(frozen=True, eq=False, repr=False)
class Calibration:
    """A kernel model fitted to timings, usable as a kernel model itself.

    Attributes
    ----------
    kind : str
        Kind of kernel, a key of `pruninfersim.calibration.kinds.KERNELS`.
    kernel : KernelModel
        The fitted model.
    standard_errors : mapping of str to float
        Of the parameters that were fitted, in the parameter's unit; the others were kept at their start.
    fitted_error, held_out_error : float
        Mean absolute error on the fitted rows, and on rows of shapes left out of the fit, as fractions.
    residual : Residuals
        On shapes left out of the fit.
    bands : tuple of Band
        The same in ranges of predicted time.
    ratio_error, pair_correlation : mapping of str to float
        Per axis, for pairs of left-out shapes that differ in that axis only: mean absolute error of the ratio of
        their times, and the correlation of their errors.
    domain : mapping of str to (float, float)
        Range of each quantity of the kind (tokens, weight elements, keys ...) among the rows.
    n_rows : int
    hardware, dtype, source, date : str
    cache : {"cold", "replayed"}
        How the timings were taken.
    residuals : DataFrame, optional
        The rows with predicted time and log residual, in and out of sample; not written to files.
    """

    kind: str
    kernel: Any
    standard_errors: Mapping[str, float]
    fitted_error: float
    held_out_error: float
    residual: Residuals
    bands: tuple[Band, ...]
    ratio_error: Mapping[str, float]
    pair_correlation: Mapping[str, float]
    domain: Mapping[str, tuple[float, float]]
    n_rows: int
    hardware: str
    dtype: str
    source: str
    date: str
    cache: Cache = "replayed"
    residuals: pd.DataFrame | None = field(default=None, repr=False)

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op by the fitted kernel, shape (*sweep, op) [s]."""
        return np.asarray(self.kernel.latency(ops, hardware, cache=cache))

    @property
    def spread(self) -> Spread:
        """90 % band of predictions, and how far errors of two shapes cancel in a ratio."""
        common = list(self.pair_correlation.values())
        return Spread(self.residual.low, self.residual.high, float(np.mean(common)) if common else 0.0)

    def band(self, seconds: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the 5 and 95 % quantiles of ln(measured / predicted) for predicted times, each of their shape."""
        index = np.searchsorted([band.up_to for band in self.bands[:-1]], real("seconds", seconds), side="right")
        sides = [np.array([getattr(band, side) for band in self.bands])[index] for side in ("low", "high")]
        return sides[0], sides[1]

    @property
    def limits(self) -> Domain:
        """Where the error band holds: the ranges of the timings, as far beyond as rows that no fit saw have shown."""
        return kinds.get(self.kind).domain(self.domain)

    def outside(self, ops: OpTrace) -> NDArray[np.bool_]:
        """Return which ops lie outside of where the error band holds, shape (*sweep, op)."""
        return np.broadcast_to(self.limits.widening(ops) > 1.0, ops.shape)

    def priced(self, spread: Spread | None = None, *, extrapolated: bool = False) -> Priced:
        """Return the kernel with what is known about its error, as a cost model takes it.

        Parameters
        ----------
        spread : Spread, optional
            Default is the calibration's own.
        extrapolated : bool
            Whether it is used for another GPU.

        >>> from pruninfersim import hardware
        >>> from pruninfersim.calibration.nearest import nearest_calibration
        >>> nearest_calibration("gemm", "bf16", hardware.get("l40s"))[0].priced().provenance
        'calibrated'
        """
        family = kinds.get(self.kind).family or self.kind
        return Priced(
            self.kernel,
            "extrapolated" if extrapolated else "calibrated",
            spread or self.spread,
            family,
            f"{self.source}; {self.hardware}, {self.dtype}, {self.date}",
            # Elementwise kernels were timed one by one, all others in a graph, gap and all, as cold ones are.
            float(family == "elementwise" and self.cache == "replayed"),
            self.limits,
        )

    def plot(self, **options: Any) -> Any:
        """Return a plotly figure of measured over predicted; the rows are in it unless it was read from a file."""
        return drawn(self, None, options)

    def table(self) -> pd.DataFrame:
        """Return one row per parameter: value, standard error, unit, meaning."""
        import pandas as pd

        rows = [
            {
                "parameter": name,
                "value": getattr(self.kernel, name),
                "standard_error": self.standard_errors.get(name, math.nan),
                "unit": f.metadata["unit"],
                "meaning": f.metadata["meaning"],
            }
            for name, f in parameters(self.kernel).items()
        ]
        return pd.DataFrame(rows, columns=["parameter", "value", "standard_error", "unit", "meaning"])

    def __repr__(self) -> str:
        return (
            f"<Calibration of {self.kind} on {self.hardware}, {self.dtype}: {self.n_rows} rows, error "
            f"{100 * self.fitted_error:.1f} % fitted, {100 * self.held_out_error:.1f} % held out>"
        )

    def __str__(self) -> str:
        table = (
            self.table()
            .drop(columns="meaning")
            .to_string(index=False, na_rep="not fitted", float_format="{:.4g}".format)
        )
        return f"{repr(self)[1:-1]}\n{table}"

    def _repr_html_(self) -> str:
        facts = {
            "rows": f"{self.n_rows}",
            "error, fitted rows": f"{100 * self.fitted_error:.1f} %",
            "error, held-out shapes": f"{100 * self.held_out_error:.1f} %",
            "90 % of measured / predicted": f"{math.exp(self.residual.low):.3f} to {math.exp(self.residual.high):.3f}",
            "timings": f"{self.source} ({self.cache}), fitted {self.date}",
        }
        facts |= {f"ratio error when {axis} shrinks": f"{100 * e:.1f} %" for axis, e in self.ratio_error.items()}
        lines = "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(v)}</td></tr>" for k, v in facts.items())
        title = html.escape(f"{self.kind} on {self.hardware}, {self.dtype}")
        table = self.table().to_html(index=False, na_rep="not fitted", float_format=lambda x: f"{x:.4g}")
        return f"<h4>Calibration: {title}</h4><table>{lines}</table>{table}"

    # --- files --------------------------------------------------------------------------------------------------

    def to_toml(self, path: str | Path) -> Path:
        """Write the calibration, all but its residuals frame, and return the path; the file appears at once or not."""
        head = {
            "kind": self.kind, "kernel": type(self.kernel).__name__, "hardware": self.hardware, "dtype": self.dtype,
            "cache": self.cache, "source": self.source, "date": self.date, "rows": self.n_rows,
            "fitted_error": self.fitted_error, "held_out_error": self.held_out_error,
        }  # fmt: skip
        sections: dict[str, Any] = {
            "settings": _settings(self.kernel),
            "residual": dataclasses.asdict(self.residual),
            "ratio_error": self.ratio_error,
            "pair_correlation": self.pair_correlation,
            # Whole, so that a row at the limit does not fall outside by a rounding.
            "domain": {n: [int(x) if x == int(x) else x for x in limits] for n, limits in self.domain.items()},
            "band": [dataclasses.asdict(band) for band in self.bands],
        }
        for name, f in parameters(self.kernel).items():
            entry: dict[str, Any] = {"value": float(getattr(self.kernel, name)), "unit": f.metadata["unit"]}
            if name in self.standard_errors:
                entry["standard_error"] = self.standard_errors[name]
            sections[f"parameters.{name}"] = {**entry, "meaning": f.metadata["meaning"]}
        return write_toml(Path(path), head, sections)

    @classmethod
    def from_toml(cls, path: str | Path) -> Calibration:
        """Read a calibration that `to_toml` wrote.

        Raises
        ------
        FileFormatError
            If the file cannot be read, or does not fit the kernel model of this version.
        """
        path = Path(path)
        data = read_toml(path)
        try:
            return cls._from_data(data, path)
        except (KeyError, TypeError, ValueError) as error:
            reason = f"no entry {error}" if type(error) is KeyError else str(error)
            if reason.startswith(str(path)):
                raise
            advice = "write it again with Calibration.to_toml"
            raise FileFormatError(f"{path}: not a calibration ({reason}); {advice}") from None

    @classmethod
    def _from_data(cls, data: dict[str, Any], path: Path) -> Calibration:
        kernel = kinds.get(data["kind"]).kernel
        known, given = set(parameters(kernel)), set(data["parameters"])
        quantities = {quantity.name for quantity in kinds.get(data["kind"]).quantities}
        if set(data["domain"]) != quantities:
            raise FileFormatError(
                f"{path}: its domain is stated in {', '.join(data['domain'])}; this version states it in "
                f"{', '.join(sorted(quantities))}. Calibrate again."
            )
        if data["kernel"] != kernel.__name__ or given != known:
            raise FileFormatError(
                f"{path}: fitted for kernel {data['kernel']} with parameters {', '.join(sorted(given))}; this version "
                f"has {kernel.__name__} with {', '.join(sorted(known))}. Calibrate again."
            )
        file = Layout(**data)
        errors = {n: entry.standard_error for n, entry in file.parameters.items() if entry.standard_error is not None}
        return cls(
            kind=file.kind,
            kernel=fitted_kernel(kernel, file),
            standard_errors=errors,
            fitted_error=file.fitted_error,
            held_out_error=file.held_out_error,
            residual=Residuals(**file.residual.model_dump()),
            bands=tuple(Band(**band.model_dump()) for band in file.band),
            ratio_error=file.ratio_error,
            pair_correlation=file.pair_correlation,
            domain={name: (low, high) for name, (low, high) in file.domain.items()},
            n_rows=file.rows,
            hardware=file.hardware,
            dtype=file.dtype,
            source=file.source,
            date=file.date,
            cache=file.cache,
        )


def _settings(kernel: Any) -> dict[str, Any]:
    """Fields of a kernel model that are not fitted."""
    fitted = parameters(kernel)
    return {f.name: getattr(kernel, f.name) for f in dataclasses.fields(kernel) if f.name not in fitted}
