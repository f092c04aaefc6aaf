"""Unstructured sparsity: single weights are zero. SparseGPT, Wanda; kernels Flash-LLM, SpInfer, MACKO."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim._util.doors import doors
from pruninfersim.errors import unknown_name
from pruninfersim.pruning.base import LINEAR, mean_where, record, targets
from pruninfersim.pruning.ratios import Ratio, check_ratio, with_ratio
from pruninfersim.trace import OpTrace

#: Format -> bytes stored per element of the dense weight, of (kept share, bytes of a value).
FORMATS: dict[str, Callable[[FloatArray, FloatArray], FloatArray]] = {
    # One bit per element (SpInfer, EuroSys 2025).
    "bitmap": lambda keep, value: keep * value + 1.0 / 8.0,
    # A position of 16 bits beside every value (tiled CSL of Flash-LLM, arXiv 2309.10285).
    "csr": lambda keep, value: keep * (value + 2.0),
    # A step of 4 bits from the value before, and a value of 0 where a gap is longer than 16: at random places that is
    # 1 / (1 - s^16) values for each (MACKO, github.com/vlejd/macko_spmv).
    "delta": lambda keep, value: keep / (1.0 - (1.0 - keep) ** 16.0) * (value + 0.5),
    # Zeros are stored: what a library without a sparse kernel does.
    "dense": lambda keep, value: value + 0.0 * keep,
}


@doors
@dataclass(frozen=True, eq=False)
class Unstructured:
    """Store weights without their zeros and multiply as dense: all FLOPs, fewer bytes.

    Attributes
    ----------
    sparsity : Ratio
        Share of the weights that are zero [1]; `PerRole` gives each linear layer its own.
    format : {"bitmap", "csr", "delta", "dense"}
        How the rest is stored. In bf16 a bitmap is smaller than dense above 6.25 %, 4-bit steps above 20 %, 16-bit
        positions above 50 %;
        "dense" keeps the zeros and the library's own kernel, and gains nothing.

    >>> from pruninfersim import Workload, trace
    >>> dense = trace("llama-3.1-8b", Workload.decode())
    >>> pruned = dense.prune(Unstructured(0.6))
    >>> up = lambda t: float(t.select(t.mask(names=["up"])).b_traffic[0])
    >>> round(up(pruned) / up(dense), 4), bool((pruned.flops.sum() == dense.flops.sum()).all())
    (0.4625, True)
    """

    name: ClassVar[str] = "unstructured"

    sparsity: Ratio
    format: str = "bitmap"

    def __post_init__(self) -> None:
        check_ratio("sparsity", self.sparsity)
        if self.format not in FORMATS:
            raise unknown_name("format", self.format, FORMATS)

    def apply(self, trace: OpTrace) -> OpTrace:
        """Return the trace with compressed weights."""
        trace, sparsity = with_ratio(trace, self.sparsity, roles=True)
        linear = targets(trace, self.name, LINEAR, ["gemm"])
        pruned = trace
        if self.format != "dense":
            stored = FORMATS[self.format](1.0 - sparsity, trace.b_bytes)
            pruned = trace.with_columns(
                kernel=tuple(np.where(linear, "gemm_unstructured", trace.kernel).tolist()),
                b_bytes=np.where(linear, stored, trace.b_bytes),
            )
        weights = trace.n * trace.k * trace.count
        achieved = {
            block: mean_where(sparsity, linear & trace.mask(blocks=[block]), weights) for block in ("attention", "mlp")
        }
        return record(pruned, self.name, self.sparsity, achieved, of=trace, sparsity=sparsity)
