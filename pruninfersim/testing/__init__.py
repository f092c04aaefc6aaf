"""Conformance suites for pruning methods, kernel models and stacks, built-in and of other packages alike.

>>> from pruninfersim import pruning, testing
>>> from pruninfersim.kernels.base import Roofline
>>> testing.check_pruning(pruning.StaticWidth(0.5))
>>> testing.check_kernel(Roofline(), keys=["gemm", "norm"])
>>> testing.check_stack("vendor", hardware="l40s")
"""

from pruninfersim._util.lazy import shows
from pruninfersim.testing.common import WORKLOADS
from pruninfersim.testing.kernels import awkward_ops, check_kernel, sample_ops
from pruninfersim.testing.methods import check_pruning
from pruninfersim.testing.stacks import check_stack

__all__ = ["WORKLOADS", "awkward_ops", "check_kernel", "check_pruning", "check_stack", "sample_ops"]

__dir__ = shows(__all__)
