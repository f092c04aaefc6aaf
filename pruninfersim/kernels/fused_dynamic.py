"""Fused kernels of dynamic pruning: what hand-written ones reach that skip tokens, groups of outputs, or of inputs.

Measured speedups over cuBLAS and over fused attention on an RTX 5090, half of the work kept, CUDA graph, layout
preparation included (published with WIDE). Fitted to them: GEMMs of 16 and more tokens, and attention of prompts. Below
16 tokens those speedups are above two, since cuBLAS is slow there; a roofline says what is left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache, KernelModel, compute_time, parameter, pnorm, smooth
from pruninfersim.trace import OpTrace


@dataclass(frozen=True)
class FusedGemm:
    """Time of a GEMM that skips what a token does not need, in one kernel.

    ``setup + pnorm_p(compute of the kept work / efficiency x (1 + fill / m), bytes / bandwidth)``: the preparation of
    the layout, the kept work at the rate of gathered tiles, tiles that few tokens leave part empty, and the bytes that
    some token needs. Of the measured GEMMs with 16 and more tokens, half are within 6 %, and within 8 % if their number
    of tokens was left out of the fit.

    Never less than the kept share of the time of the dense GEMM: no measured kernel does its kept work faster than
    cuBLAS does all of it, and where nothing is skipped nothing is gained.

    Attributes
    ----------
    dense : KernelModel
        Prices the dense GEMM.

    >>> FusedGemm.__dataclass_fields__["fine_inputs"].default < 0.5  # slower than dense at half of the work
    True
    """

    dense: KernelModel
    setup: float = parameter(3.8e-6, 1e-7, 5e-5, "s", "preparation of the layout and launch")
    tokens: float = parameter(0.95, 0.1, 1.1, "1", "rate of kept tokens (GEMM-M at 4096: 0.96)")
    outputs: float = parameter(0.807, 0.1, 1.1, "1", "rate of groups of 128 and more outputs")
    inputs: float = parameter(0.766, 0.1, 1.1, "1", "rate of groups of 128 and more inputs")
    fine_outputs: float = parameter(0.569, 0.1, 1.1, "1", "rate of groups of 32 outputs")
    fine_inputs: float = parameter(0.273, 0.1, 1.1, "1", "rate of groups of 32 inputs")
    fill_outputs: float = parameter(28.7, 0.1, 500, "1", "tokens at which tiles of chosen outputs are half filled")
    fill_inputs: float = parameter(16.6, 0.1, 500, "1", "tokens at which tiles of chosen inputs are half filled")
    overlap: float = parameter(1.85, 1, 8, "1", "sharpness of the roofline")

    #: Share of the DRAM rate; fixed, that of streaming GEMMs on this card.
    MEMORY: ClassVar[float] = 0.95

    @property
    def efficiency(self) -> dict[str, float]:
        """Rate of the kept work by kernel key [1]."""
        return {
            "token_gemm": self.tokens,
            "group_gemm_n": self.outputs,
            "group_gemm_k": self.inputs,
            "fine_gemm_n": self.fine_outputs,
            "fine_gemm_k": self.fine_inputs,
        }

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s].

        Raises
        ------
        MissingValueError
            If the profile lacks the peak of the op's dtype.
        """
        rate = np.array([self.efficiency.get(key, self.tokens) for key in ops.kernel])
        fill = np.array([self.fill_inputs if key.endswith("_k") else self.fill_outputs for key in ops.kernel])
        compute = compute_time(ops, hardware) / rate * (1.0 + fill / np.maximum(ops.m, 1.0))
        memory = ops.traffic / (hardware.memory_bandwidth * self.MEMORY)
        one = np.ones_like(ops.mac_fraction)
        whole = {"mac_fraction": one, "a_reads": one, "b_reads": one, "out_writes": one}
        full = self.dense.latency(ops.with_columns(kernel=("gemm",) * len(ops), **whole), hardware, cache=cache)
        return np.asarray(self.setup + np.maximum(pnorm(compute, memory, self.overlap), full * ops.mac_fraction))

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
