"""Grids and tables of questions, answered together."""

from pruninfersim._util.lazy import shows
from pruninfersim.sweep.grid import sweep

__all__ = ["sweep"]

__dir__ = shows(__all__)
