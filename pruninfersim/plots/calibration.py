"""How well a calibration fits: measured over predicted, against the predicted time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim._util.doors import door
from pruninfersim.calibration.record import Calibration
from pruninfersim.plots.style import COLOURS, figure, titled

if TYPE_CHECKING:
    import plotly.graph_objects as go

#: Ends of the time axis where no rows are kept [us].
SPAN = (1.0, 1e5)


class CalibrationInfo(NamedTuple):
    """Rows of a calibration, arrays of shape (row,), and its band; no rows where it was read from a file."""

    predicted_us: FloatArray
    fitted: FloatArray
    held_out: FloatArray
    edges_us: FloatArray
    low: FloatArray
    high: FloatArray
    case: str


@door
def calibration_info(calibration: Calibration) -> CalibrationInfo:
    """Return measured over predicted of the rows [1], fitted and held out, and the 90 % band by predicted time.

    >>> from pruninfersim import hardware
    >>> from pruninfersim.calibration.nearest import nearest_calibration
    >>> info = calibration_info(nearest_calibration("gemm", "bf16", hardware.get("l40s"))[0])
    >>> len(info.predicted_us), bool((info.low < info.high).all())
    (0, True)
    """
    rows = calibration.residuals
    empty = np.zeros(0)
    times, fitted, held = (
        (empty, empty, empty)
        if rows is None
        else (rows["predicted_us"].to_numpy(), np.exp(rows["log_residual"]), np.exp(rows["held_out_log_residual"]))
    )
    first, last = (float(times.min()), float(times.max())) if len(times) else SPAN
    inner = [band.up_to * 1e6 for band in calibration.bands[:-1]]
    edges = np.clip([0.0, *inner, np.inf], first, last)
    return CalibrationInfo(
        np.asarray(times, dtype=np.float64),
        np.asarray(fitted, dtype=np.float64),
        np.asarray(held, dtype=np.float64),
        edges,
        np.exp([band.low for band in calibration.bands]),
        np.exp([band.high for band in calibration.bands]),
        f"{calibration.kind} on {calibration.hardware}, {calibration.dtype}; {calibration.n_rows} rows, "
        f"{100 * calibration.held_out_error:.1f} % held-out error",
    )


@door
def calibration_figure(info: CalibrationInfo | Calibration, title: str = "Measured over predicted") -> go.Figure:
    """Return the plot: rows as points where they are known, the 90 % band as an area.

    >>> from pruninfersim import hardware
    >>> from pruninfersim.calibration.nearest import nearest_calibration
    >>> [part.name for part in calibration_figure(nearest_calibration("gemm", "bf16", hardware.get("l40s"))[0]).data]
    ['90 % band']
    """
    if isinstance(info, Calibration):
        info = calibration_info(info)
    fig = figure(titled(title, info.case), "predicted time [us]", "measured / predicted [1]")
    x = np.repeat(info.edges_us, 2)[1:-1]
    fig.add_scatter(
        x=np.concatenate([x, x[::-1]]),
        y=np.concatenate([np.repeat(info.high, 2), np.repeat(info.low, 2)[::-1]]),
        name="90 % band", fill="toself", fillcolor="rgba(140,140,140,0.2)", mode="lines", line={"width": 0},
        hoverinfo="skip",
    )  # fmt: skip
    for name, values, colour, symbol in (
        ("held-out shapes", info.held_out, COLOURS[1], "x"), ("fitted rows", info.fitted, COLOURS[0], "circle"),
    ):  # fmt: skip
        if len(values):
            fig.add_scatter(
                x=info.predicted_us, y=values, name=name, mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 5, "opacity": 0.6},
                hovertemplate="%{x:.3g} us: %{y:.3f}<extra>" + name + "</extra>",
            )  # fmt: skip
    fig.add_hline(y=1.0, line_color="#444444", line_width=1, opacity=1.0)
    fig.update_xaxes(type="log")
    return fig
