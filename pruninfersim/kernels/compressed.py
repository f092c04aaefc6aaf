"""GEMMs on weights of which a part is not loaded: compressed ones, and ones whose columns or groups a token chooses."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache, KernelModel, Quantised
from pruninfersim.trace import OpTrace

#: Smallest share of the columns that anything is computed for.
RARE = 1e-12


@dataclass(frozen=True)
class ColumnGemm:
    """A kernel that loads the needed columns of a weight only: a dense GEMM on K x the share that is read.

    Published kernels of this kind reach what a dense GEMV of that size does: TEAL 1.53x and 1.8x end to end at 40 and
    50 % (arXiv 2408.14690, abstract).

    Attributes
    ----------
    dense : KernelModel
        Prices the dense GEMM.
    """

    dense: KernelModel

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]."""
        share = np.clip(ops.b_reads, RARE, 1.0)
        one = np.ones_like(share)
        kept = ops.with_columns(
            kernel=("gemm",) * len(ops), k=np.maximum(ops.k * share, 1.0), mac_fraction=one, b_reads=one
        )
        return self.dense.latency(kept, hardware, cache=cache)

    def without_quantisation(self) -> ColumnGemm:
        """Return the same kernel in fractions of tiles and waves."""
        return replace(self, dense=self.dense.without_quantisation()) if isinstance(self.dense, Quantised) else self


@dataclass(frozen=True)
class MaskedGemm:
    """What a library does for tokens that choose their own groups: the whole GEMM, and zeros afterwards.

    One library call per group of tokens, or per group of channels, is slower still: 0.05 to 0.48 of the rate of dense
    at M = N = K of 1024 to 4096, half of it kept (published timings of grouped GEMMs on an RTX 5090, CUDA graph).

    Attributes
    ----------
    dense : KernelModel
        Prices the dense GEMM.
    """

    dense: KernelModel

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]."""
        one = np.ones_like(ops.mac_fraction)
        whole = {"mac_fraction": one, "a_reads": one, "b_reads": one, "out_writes": one}
        return self.dense.latency(ops.with_columns(kernel=("gemm",) * len(ops), **whole), hardware, cache=cache)

    def without_quantisation(self) -> MaskedGemm:
        """Return the same kernel in fractions of tiles and waves."""
        return replace(self, dense=self.dense.without_quantisation()) if isinstance(self.dense, Quantised) else self
