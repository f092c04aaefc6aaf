"""Fused kernels of dynamic pruning: what hand-written ones reach that skip tokens, groups of outputs, or of inputs.

Measured speedups over cuBLAS and over fused attention on an RTX 5090, half of the work kept, CUDA graph, layout
preparation included (published with WIDE). Fitted to them: GEMMs of 16 and more tokens, and attention of prompts. Below
16 tokens those speedups are above two, since cuBLAS is slow there; a roofline says what is left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim._util.arrays import FloatArray
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache, KernelModel, compute_time, parameter, pnorm, smooth
from pruninfersim.trace import OpTrace

#: Groups of ops that do not say theirs: those of the fine and of the other kernels that were measured.
NARROW, WIDE = 32.0, 128.0


@dataclass(frozen=True)
class FusedGemm:
    """Time of a GEMM that skips what a token does not need, in one kernel.

    ``setup + pnorm_p(compute of the kept work / rate x (1 + (half / group)^2), bytes / bandwidth)``: launch, the kept
    work at the rate of gathered tiles, less of it the narrower the groups are that a token chooses, and the bytes that
    some token needs. Of the measured GEMMs with 16 and more tokens, half are within 4.1 % and 87 % within 12 %; if
    their number of tokens was left out of the fit, half are within 5.3 % and 85 % within 12 %; if their shape was, half
    are within 11 %: kernels on 4096 inputs and outputs lose more between 64 and 256 tokens than this says.

    Never less than the kept share of the time of the dense GEMM: no measured kernel does its kept work faster than
    cuBLAS does all of it, and where nothing is skipped nothing is gained.

    Attributes
    ----------
    dense : KernelModel
        Prices the dense GEMM.

    >>> from pruninfersim.kernels.base import Roofline
    >>> FusedGemm(Roofline()).rates("group_gemm_k", [32, 128, 512]).round(2).tolist()  # below half: slower than dense
    [0.3, 0.81, 0.91]
    """

    dense: KernelModel
    tokens: float = parameter(0.92, 0.1, 1.1, "1", "rate of the kept work, of tokens and of wide groups")
    outputs: float = parameter(21.2, 1, 200, "1", "group of outputs at which the rate is halved")
    inputs: float = parameter(46.5, 1, 300, "1", "group of inputs at which the rate is halved")
    overlap: float = parameter(1.212, 1, 8, "1", "sharpness of the roofline")

    #: Gap between two kernels of a graph [s] (arXiv 2606.09080, Fig. 6), and the share of the DRAM rate that streaming
    #: GEMMs reach on this card; both fixed.
    SETUP: ClassVar[float] = 1.2e-6
    MEMORY: ClassVar[float] = 0.95

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
        one = np.ones_like(ops.mac_fraction)
        whole = {"mac_fraction": one, "a_reads": one, "b_reads": one, "out_writes": one}
        full = self.dense.latency(ops.with_columns(kernel=("gemm",) * len(ops), **whole), hardware, cache=cache)
        return np.asarray(self.SETUP + np.maximum(pnorm(compute, memory, self.overlap), full * ops.mac_fraction))

    def without_quantisation(self) -> KernelModel:
        """Return the same kernel in fractions of tiles and waves."""
        return replace(self, dense=smooth(self.dense))


@dataclass(frozen=True)
class FusedPromptAttention:
    """Attention of the queries, or heads, that stay: ``T_dense x keep / rate x (1 + tile / T) + setup``.

    With a causal mask, kept queries of one tile see different keys: a tile too many is walked for each. Of the measured
    prompts 92 % are within 8 %; of lengths left out of the fit, 67 %.

    Attributes
    ----------
    dense : KernelModel
        Prices the dense attention.

    >>> FusedPromptAttention.__dataclass_fields__["rate"].default
    0.95
    """

    dense: KernelModel
    rate: float = parameter(0.95, 0.3, 1.1, "1", "rate of the kept work over that of the dense kernel")
    tile: float = parameter(282.0, 1.0, 2000.0, "1", "keys walked for nothing, with a causal mask")
    setup: float = parameter(2.1e-5, 1e-7, 1e-4, "s", "index of the kept queries, and launch")

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]."""
        # Q is read for what is kept only.
        keep = np.maximum(ops.a_reads, 1e-12)
        one = np.ones_like(keep)
        whole = ops.with_columns(
            kernel=("attention_prefill",) * len(ops), mac_fraction=ops.mac_fraction / keep, a_reads=one, b_reads=one,
            out_writes=one,
        )  # fmt: skip
        wasted = np.where(whole.mac_fraction < 0.99, self.tile / np.maximum(ops.n, 1.0), 0.0)
        full = self.dense.latency(whole, hardware, cache=cache)
        return np.asarray(full * np.minimum(keep / self.rate * (1.0 + wasted), 1.0 / self.rate) + self.setup)

    def without_quantisation(self) -> KernelModel:
        """Return the same kernel in fractions of tiles and waves."""
        return replace(self, dense=smooth(self.dense))
