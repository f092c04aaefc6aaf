"""GEMMs of libraries that do not split k: CUTLASS, DeepGEMM, the kernels of 4-bit formats; weight-only plug-ins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.hardware import HardwareProfile, precision
from pruninfersim.kernels.base import Cache, parameter
from pruninfersim.kernels.evidence import Spread
from pruninfersim.kernels.gemm import KIND, Gemm, rows_by_backend
from pruninfersim.kernels.quantise import BEHIND, Quantise

if TYPE_CHECKING:
    import pandas as pd

#: Launch of the kernel that quantises per token, per block of 128 or per 16 [s]. Timings of layers show its sum with
#: the launch of the GEMM only; this is that of the kernels of vLLM that were timed alone (1.9 to 2.8 us on eight GPUs).
QUANTISE_LAUNCH = 2.2e-6


@dataclass(frozen=True)
class LibraryGemm(Gemm):
    """Time of a narrow GEMM of a library that takes one CTA for all of k, and of the quantisation that comes with it.

    The physics is that of `Gemm` without split-K. What differs between libraries is above all the latency of a k step:
    80 to 150 ns where 128-wide tiles are fed by TMA, 300 to 850 ns elsewhere.
    """

    quantise_bandwidth: float = parameter(0.8, 0.2, 3.0, "1", "share of DRAM rate of the kernel that quantises")
    split_k: bool = False

    @property
    def quantise(self) -> Quantise:
        """The kernel that quantises the activations of this library's GEMMs."""
        share = self.quantise_bandwidth
        return Quantise(launch=QUANTISE_LAUNCH, memory_efficiency=share, l2_bandwidth=share, row_time=1e-9)


def _with_quantisation(kernel: LibraryGemm, frame: pd.DataFrame, hardware: HardwareProfile, cache: Cache) -> FloatArray:
    """Price rows as they were timed: formats with narrow activations behind the kernel that quantises them."""
    seconds = rows_by_backend(kernel, frame, hardware, cache)
    form = [precision.get(dtype) for dtype in frame["dtype"]]
    narrow = np.array([each.input_bytes for each in form])
    size = frame["m"].to_numpy() * frame["k"].to_numpy() * (2.0 + narrow)
    rate = kernel.quantise_bandwidth * hardware.memory_bandwidth
    return np.asarray(seconds + np.where(narrow < 2.0, QUANTISE_LAUNCH + BEHIND + size / rate, 0.0))


def _untold(frame: pd.DataFrame) -> tuple[str, ...]:
    """There are no splits, and weight-only GEMMs have nothing to quantise."""
    wide = all(precision.get(dtype).input_bytes >= 2.0 for dtype in frame["dtype"])
    return ("split_cost", "split_bandwidth", "vector_latency", *(("quantise_bandwidth",) if wide else ()))


LIBRARY = replace(
    KIND,
    kernel=LibraryGemm,
    predict=_with_quantisation,
    seconds_of=_with_quantisation,
    untold=_untold,
    one_set=False,
    family="gemm",
    left_out=Spread(-0.4, 0.5, 0.6),
)
#: By the library of an engine: TensorRT-LLM's own kernels (its fp8 per tensor is cuBLAS), and those of SGLang.
KINDS = {"gemm_trtllm": LIBRARY, "gemm_sglang": LIBRARY}
