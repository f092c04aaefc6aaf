"""Figures, each as two functions: what is shown (a tested NamedTuple) and the plotly figure (returned, not shown)."""

from __future__ import annotations

from pruninfersim.plots.breakdown import breakdown_figure, breakdown_info
from pruninfersim.plots.curves import curve_figure, curve_info
from pruninfersim.plots.frontier import frontier_figure, frontier_info
from pruninfersim.plots.heatmap import heatmap_figure, heatmap_info
from pruninfersim.plots.roofline import roofline_figure, roofline_info
from pruninfersim.plots.waterfall import waterfall_figure, waterfall_info

__all__ = [
    "breakdown_figure",
    "breakdown_info",
    "curve_figure",
    "curve_info",
    "frontier_figure",
    "frontier_info",
    "heatmap_figure",
    "heatmap_info",
    "roofline_figure",
    "roofline_info",
    "waterfall_figure",
    "waterfall_info",
]
