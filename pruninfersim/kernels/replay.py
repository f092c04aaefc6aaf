"""What benchmarks of GEMMs leave in L2 between two runs: how many copies of their operands they cycle."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pruninfersim._util.arrays import FloatArray

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
