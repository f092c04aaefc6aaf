"""Prefill attention over a cache of 8 bit: narrow queries, and a write of keys and values that converts them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.attention_prefill import KIND, PRIOR, PrefillAttention, algorithm, threads
from pruninfersim.kernels.base import parameter, parameters
from pruninfersim.trace import OpTrace

#: Which multiply in 8 bit behind a kernel that makes the queries narrow as well. FlashInfer widens keys and values
#: instead; timings of B200 show no such kernel: with it, DRAM would have to run at 1.3 of its data-sheet rate.
CASTING = ("fa3-8bit",)


def narrow_algorithm(hardware: HardwareProfile) -> str:
    """Return which kernels read an 8-bit cache: FlashAttention 2 does not, FlashInfer takes its place.

    >>> from pruninfersim import hardware
    >>> narrow_algorithm(hardware.get("h100-sxm")), narrow_algorithm(hardware.get("l40s"))
    ('fa3-8bit', 'flashinfer')
    """
    return {"fa3": "fa3-8bit", "fa2": "flashinfer"}.get(algorithm(hardware), "trtllm")


@dataclass(frozen=True)
class NarrowPrefillAttention(PrefillAttention):
    """Time of one fused attention over a batch of prompts whose keys and values are stored in 8 bit.

    As `PrefillAttention`, and::

        queries = (16 bit + 8 bit) / bandwidth, by a kernel of its own before attention, which then reads 8 bit
        write   = kv_write x min(t, 1) + convert x t     (per token; t: its keys over 512 threads)

    A copy in 16 bit moves several elements at a time; a conversion takes them one by one, so that wide tokens take
    longer than their bytes do.

    >>> NarrowPrefillAttention(algorithm="fa3-8bit").tile_rows
    128
    """

    convert: float = parameter(1e-9, 1e-11, 2e-8, "s", "conversion of 512 of a token's keys and values to 8 bit")

    def read(self, ops: OpTrace) -> tuple[OpTrace, FloatArray | float]:
        """Return the ops as the kernel reads them, and the bytes that others move to make them so."""
        if self.algorithm not in CASTING:
            return ops, 0.0
        narrow = np.minimum(ops.a_bytes, ops.b_bytes)
        seen = ops.with_columns(a_bytes=narrow)
        return seen, np.where(narrow < ops.a_bytes, ops.a_traffic + seen.a_traffic, 0.0)

    def write(self, ops: OpTrace) -> FloatArray:
        """Return the time in which one token's keys and values are written, if bytes do not take longer [s]."""
        return super().write(ops) + np.where(ops.b_bytes < ops.a_bytes, self.convert * threads(ops), 0.0)


# --- how timings of it are read, fitted and judged ------------------------------------------------------------------


def narrow_variant(hardware: HardwareProfile) -> dict[str, Any]:
    """Return what follows from the GPU where the cache is in 8 bit."""
    return {"algorithm": narrow_algorithm(hardware)}


#: The dtype of its timings is that of the cache.
KIND_8BIT = replace(
    KIND,
    kernel=NarrowPrefillAttention,
    prior_sd=dict.fromkeys(parameters(NarrowPrefillAttention), PRIOR),
    variant=narrow_variant,
    family="attention_prefill",
)
