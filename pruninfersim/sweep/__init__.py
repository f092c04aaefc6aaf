"""Grids and tables of questions, answered together."""

from pruninfersim.sweep.grid import sweep

__all__ = ["sweep"]
