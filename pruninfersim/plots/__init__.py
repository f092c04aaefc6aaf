"""Figures: `plot` draws any result; each kind is two functions, what is shown (a NamedTuple) and the plotly figure."""

from __future__ import annotations

from pruninfersim._util.lazy import shows
from pruninfersim.plots.bars import bars_figure, bars_info
from pruninfersim.plots.breakdown import breakdown_figure, breakdown_info
from pruninfersim.plots.calibration import calibration_figure, calibration_info
from pruninfersim.plots.curves import curve_figure, curve_info
from pruninfersim.plots.frontier import frontier_figure, frontier_info
from pruninfersim.plots.heatmap import heatmap_figure, heatmap_info
from pruninfersim.plots.one_step import plot
from pruninfersim.plots.recommendation import recommendation_figure, recommendation_info
from pruninfersim.plots.roofline import roofline_figure, roofline_info
from pruninfersim.plots.sites import sites_figure, sites_info
from pruninfersim.plots.waterfall import waterfall_figure, waterfall_info
from pruninfersim.plots.who_wins import who_wins_figure, who_wins_info

__all__ = [
    "bars_figure",
    "bars_info",
    "breakdown_figure",
    "breakdown_info",
    "calibration_figure",
    "calibration_info",
    "curve_figure",
    "curve_info",
    "frontier_figure",
    "frontier_info",
    "heatmap_figure",
    "heatmap_info",
    "plot",
    "recommendation_figure",
    "recommendation_info",
    "roofline_figure",
    "roofline_info",
    "sites_figure",
    "sites_info",
    "waterfall_figure",
    "waterfall_info",
    "who_wins_figure",
    "who_wins_info",
]

__dir__ = shows(__all__)
