"""Kernels that load a part of a weight, or run for a part of a batch: columns, groups of channels, early exit."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache, KernelModel, smooth
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
        return replace(self, dense=smooth(self.dense))


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
        return replace(self, dense=smooth(self.dense))


@dataclass(frozen=True)
class ExitGemm:
    """A GEMM of the tokens that have not left: of m, ``mac_fraction`` m stay in the mean, and it runs if any does.

    Tokens leave for the rest of the pass, so that no layer gathers anything.

    Attributes
    ----------
    dense : KernelModel
        Prices the dense GEMM.
    """

    dense: KernelModel

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the expected time of one run of each op, shape (*sweep, op) [s]."""
        runs = np.clip(ops.b_reads, RARE, 1.0)
        one = np.ones_like(runs)
        full = {"mac_fraction": one, "a_reads": one, "b_reads": one, "out_writes": one}
        rows = np.maximum(ops.m * ops.mac_fraction / runs, 1.0)
        kept = ops.with_columns(kernel=("gemm",) * len(ops), m=rows, **full)
        return np.asarray(runs * self.dense.latency(kept, hardware, cache=cache))

    def without_quantisation(self) -> ExitGemm:
        """Return the same kernel in fractions of tiles and waves."""
        return replace(self, dense=smooth(self.dense))


@dataclass(frozen=True)
class ExitAttention:
    """Decode attention of the sequences that have not left, as `ExitGemm`.

    Attributes
    ----------
    dense : KernelModel
        Prices the dense attention.
    """

    dense: KernelModel

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the expected time of one run of each op, shape (*sweep, op) [s]."""
        keep = np.clip(ops.a_reads, RARE, 1.0)
        runs = -np.expm1(ops.sequences * np.log1p(-np.minimum(keep, 1.0 - RARE)))
        share = np.maximum(keep / runs, 1.0 / ops.sequences)
        one = np.ones_like(share)
        kept = ops.with_columns(
            kernel=("attention_decode",) * len(ops), batch=ops.batch * share, b_batch=ops.b_batch * share,
            sequences=ops.sequences * share, mac_fraction=ops.mac_fraction / keep, a_reads=one, b_reads=one,
            out_writes=one,
        )  # fmt: skip
        return np.asarray(runs * self.dense.latency(kept, hardware, cache=cache))

    def without_quantisation(self) -> ExitAttention:
        """Return the same kernel in fractions of tiles and waves."""
        return replace(self, dense=smooth(self.dense))
