"""The page that lays predictions beside the measurements of arXiv 2606.09080."""

from pruninfersim._util.lazy import shows
from pruninfersim.reproduce.write import full_grid, write_reproduction

__all__ = ["full_grid", "write_reproduction"]

__dir__ = shows(__all__)
