"""The explorer: one page that asks every question of the library, in a browser or in a notebook (extra `app`)."""

from pruninfersim._util.lazy import shows
from pruninfersim.app.program import explore

__all__ = ["explore"]

__dir__ = shows(__all__)
