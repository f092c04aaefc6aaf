"""Fused kernels of dynamic pruning: what hand-written ones reach that skip tokens, groups of outputs, or of inputs.

Measured speedups over cuBLAS and over fused attention on an RTX 5090, half of the work kept, CUDA graph, layout
preparation included (published with WIDE). Fitted to them: all GEMMs, and attention of prompts. The benchmark replays
one matrix: at one token half of it, 59 MB, stays in an L2 of 96 MB, and the dense matrix of 117 MB does not, so that
those speedups are above two. A step streams its weights: there a roofline says what is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim._util.arrays import FloatArray
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.attention_prefill import l2_miss
from pruninfersim.kernels.base import Cache, compute_time, parameter, pnorm
from pruninfersim.kernels.dense import RARE, OnDense, dense_attention, dense_gemm
from pruninfersim.trace import OpTrace

#: Groups of ops that do not say theirs: those of the fine and of the other kernels that were measured.
NARROW, WIDE = 32.0, 128.0


@dataclass(frozen=True)
class FusedGemm(OnDense):
    """Time of a GEMM that skips what a token does not need, in one kernel.

    ``setup + pnorm_p(compute of the kept work / rate x (1 + (half / group)^2), bytes / bandwidth)``: launch and, of
    more tokens than one tile has rows, their layout; the kept work at the rate of gathered tiles, less of it the
    narrower the groups are that a token chooses; and the bytes that some token needs. In a replay the share of the
    weights that stays in L2 arrives faster. docs/accuracy.md has the errors by tokens, and with tokens and shapes left
    out of the fit.

    In a step never less than the kept share of the time of the dense GEMM: no measured kernel does its kept work
    faster than cuBLAS does all of it, and where nothing is skipped nothing is gained.

    >>> from pruninfersim.kernels.base import Roofline
    >>> FusedGemm(Roofline()).rates("group_gemm_k", [32, 128, 512]).round(2).tolist()  # below half: slower than dense
    [0.3, 0.8, 0.9]
    """

    tokens: float = parameter(0.906, 0.1, 1.1, "1", "rate of the kept work, of tokens and of wide groups")
    outputs: float = parameter(21.1, 1, 200, "1", "group of outputs at which the rate is halved")
    inputs: float = parameter(45.9, 1, 300, "1", "group of inputs at which the rate is halved")
    overlap: float = parameter(1.5, 1, 8, "1", "sharpness of the roofline")
    prepare: float = parameter(
        6.9e-6, 1e-7, 1e-4, "s", "layout of the tokens, where they are more than one tile of rows"
    )
    l2_share: float = parameter(1.1, 0.1, 3, "1", "share of L2 in which a replayed benchmark keeps its weights")

    #: Gap between two kernels of a graph [s] (arXiv 2606.09080, Fig. 6), and the share of the DRAM rate that streaming
    #: GEMMs reach on this card; both fixed.
    SETUP: ClassVar[float] = 1.2e-6
    MEMORY: ClassVar[float] = 0.95
    #: Rows of the smallest tile of the tensor cores: so few tokens are computed as they are; fixed.
    TILE: ClassVar[float] = 16.0
    #: Rate of L2 over the data-sheet rate of DRAM at which replayed weights arrive (arXiv 2606.09080, Table 7: up to
    #: 5 TB/s at 2 to 64 tokens on a card of the same family), and sharpness of the share that is found there; fixed.
    L2_RATE: ClassVar[float] = 2.8
    L2_SHARPNESS: ClassVar[float] = 6.0

    def rates(self, key: str, group: ArrayLike) -> FloatArray:
        """Return the rate of the kept work of a kernel key, at groups of so many channels [1]."""
        half = {"n": self.outputs, "k": self.inputs}.get(key[-1], 0.0) if key.startswith(("group", "fine")) else 0.0
        width = np.where(np.asarray(group) > 1.0, group, NARROW if key.startswith("fine") else WIDE)
        return np.asarray(self.tokens / (1.0 + (half / width) ** 2))

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s].

        Raises
        ------
        MissingValueError
            If the profile lacks the peak of the op's dtype.
        """
        rate = np.stack([self.rates(key, ops.grain[..., i]) for i, key in enumerate(ops.kernel)], axis=-1)
        compute = compute_time(ops, hardware) / rate
        memory = ops.traffic / (hardware.memory_bandwidth * self.MEMORY)
        setup = self.SETUP + self.prepare * (ops.m * ops.batch > self.TILE)
        if cache == "replayed":
            return np.asarray(setup + pnorm(compute, memory - self.found(ops.b_traffic, hardware), self.overlap))
        full = self.dense.latency(dense_gemm(ops), hardware, cache=cache)
        return np.asarray(setup + np.maximum(pnorm(compute, memory, self.overlap), full * ops.mac_fraction))

    def found(self, size: FloatArray, hardware: HardwareProfile) -> FloatArray:
        """Return the time that a replay saves, which finds part of `size` bytes in L2 [s].

        Raises
        ------
        MissingValueError
            If the profile has no L2 size.
        """
        hit = 1.0 - l2_miss(np.maximum(size, 1.0), self.l2_share, hardware, self.L2_SHARPNESS)
        return np.asarray(hit * size / hardware.memory_bandwidth * (1.0 / self.MEMORY - 1.0 / self.L2_RATE))


@dataclass(frozen=True)
class FusedPromptAttention(OnDense):
    """Attention of the queries, or heads, that stay: ``T_dense x keep / rate x (1 + tile / T) + setup``.

    With a causal mask, kept queries of one tile see different keys: a tile too many is walked for each. Of the measured
    prompts, with and without a mask, 92 % are within 8 %; of lengths left out of the fit, 67 %.

    >>> FusedPromptAttention.__dataclass_fields__["rate"].default
    0.95
    """

    rate: float = parameter(0.95, 0.3, 1.1, "1", "rate of the kept work over that of the dense kernel")
    tile: float = parameter(282.0, 1.0, 2000.0, "1", "keys walked for nothing, with a causal mask")
    setup: float = parameter(2.1e-5, 1e-7, 1e-4, "s", "index of the kept queries, and launch")

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]."""
        # Q is read for what is kept only.
        keep = np.maximum(ops.a_reads, RARE)
        whole = dense_attention(ops, "prefill", mac_fraction=ops.mac_fraction / keep)
        wasted = np.where(whole.mac_fraction < 0.99, self.tile / np.maximum(ops.n, 1.0), 0.0)
        full = self.dense.latency(whole, hardware, cache=cache)
        return np.asarray(full * np.minimum(keep / self.rate * (1.0 + wasted), 1.0 / self.rate) + self.setup)
