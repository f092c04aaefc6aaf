"""One page about a model on a GPU, and the blocks that pages are made of."""

from pruninfersim._util.lazy import shows
from pruninfersim.report.write import html_report, write_report

__all__ = ["html_report", "write_report"]

__dir__ = shows(__all__)
