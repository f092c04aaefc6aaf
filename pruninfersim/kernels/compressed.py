"""Kernels that load a part of a weight, or run for a part of a batch: columns, groups of channels, early exit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache
from pruninfersim.kernels.dense import RARE, OnDense, dense_attention, dense_gemm
from pruninfersim.trace import OpTrace


@dataclass(frozen=True)
class ColumnGemm(OnDense):
    """A kernel that loads the needed columns of a weight only: a dense GEMM on K x the share that is read.

    Published kernels of this kind reach what a dense GEMV of that size does: TEAL 1.53x and 1.8x end to end at 40 and
    50 % (arXiv 2408.14690, abstract).
    """

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]."""
        share = np.clip(ops.b_reads, RARE, 1.0)
        # Which of its inputs and results cross memory is what the trace says.
        kept = dense_gemm(ops, k=np.maximum(ops.k * share, 1.0), a_reads=ops.a_reads, out_writes=ops.out_writes)
        return self.dense.latency(kept, hardware, cache=cache)


@dataclass(frozen=True)
class MaskedGemm(OnDense):
    """What a library does for tokens that choose their own groups: the whole GEMM, and zeros afterwards.

    One library call per group of tokens, or per group of channels, is slower still: 0.05 to 0.48 of the rate of dense
    at M = N = K of 1024 to 4096, half of it kept (published timings of grouped GEMMs on an RTX 5090, CUDA graph).
    """

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]."""
        return self.dense.latency(dense_gemm(ops), hardware, cache=cache)


@dataclass(frozen=True)
class ExitGemm(OnDense):
    """A GEMM of the tokens that have not left: of m, ``mac_fraction`` m stay in the mean, and it runs if any does.

    Tokens leave for the rest of the pass, so that no layer gathers anything.
    """

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the expected time of one run of each op, shape (*sweep, op) [s]."""
        runs = np.clip(ops.b_reads, RARE, 1.0)
        kept = dense_gemm(ops, m=np.maximum(ops.m * ops.mac_fraction / runs, 1.0))
        return np.asarray(runs * self.dense.latency(kept, hardware, cache=cache))


@dataclass(frozen=True)
class ExitAttention(OnDense):
    """Decode attention of the sequences that have not left, as `ExitGemm`."""

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the expected time of one run of each op, shape (*sweep, op) [s]."""
        keep = np.clip(ops.a_reads, RARE, 1.0)
        runs = -np.expm1(ops.sequences * np.log1p(-np.minimum(keep, 1.0 - RARE)))
        share = np.maximum(keep / runs, 1.0 / ops.sequences)
        kept = dense_attention(
            ops, "decode", mac_fraction=ops.mac_fraction / keep, batch=ops.batch * share,
            b_batch=ops.b_batch * share, sequences=ops.sequences * share,
        )  # fmt: skip
        return np.asarray(runs * self.dense.latency(kept, hardware, cache=cache))
