"""What is left in L2 from one kernel to the next: of a benchmark's own operands, or of what the kernel before wrote."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.hardware import HardwareProfile

#: Bytes that pass through L2 between two uses of the same weights: (A bytes, W bytes, L2 bytes) -> bytes.
Footprint = Callable[[FloatArray, FloatArray, float], FloatArray]


def six_copies(a: FloatArray, w: FloatArray, l2: float) -> FloatArray:
    """Footprint of a benchmark that cycles six copies of activations and weights (SGLang collector) [B]."""
    return 6.0 * (a + w)


def enough_copies(a: FloatArray, w: FloatArray, l2: float) -> FloatArray:
    """Footprint of a benchmark that cycles just enough weight copies, at most five, to fill L2 (TRT-LLM) [B]."""
    return np.clip(np.ceil(l2 / w), 1.0, 5.0) * w + a


def one_copy(a: FloatArray, w: FloatArray, l2: float) -> FloatArray:
    """Footprint of a benchmark that runs one set of operands again and again (bcacdwk/vllmbench) [B]."""
    return a + w


#: Replay protocols of benchmarks, by the first word of the backend.
PROTOCOLS: dict[str, Footprint] = {"trtllm": enough_copies, "sglang": six_copies, "cuBLASLt": one_copy}
#: Those of the collectors of ai-dynamo/aiconfigurator, over which the mean is taken where none is known.
COLLECTORS = ("trtllm", "sglang")


def crossing(size: FloatArray, share: float, hardware: HardwareProfile, sharpness: float) -> FloatArray:
    """Return the share of `size` bytes that L2 does not hold and DRAM moves [1]; 1 where its size is not known.

    Parameters
    ----------
    size : ndarray
        [B]
    share : float
        Share of L2 up to which it holds what the kernel before has written [1].
    hardware : HardwareProfile
    sharpness : float
        Exponent with which a working set leaves L2 [1].

    >>> from pruninfersim import hardware
    >>> crossing(np.array([1e6, 50e6, 1e10]), 1.0, hardware.get("h100-sxm"), 4.0).round(2).tolist()
    [0.0, 0.5, 1.0]
    """
    if hardware.l2_size is None:
        return np.ones_like(size)
    return np.asarray(1.0 / (1.0 + (share * hardware.l2_size / np.maximum(size, 1.0)) ** sharpness))
