"""How much device memory a trace needs: weights as stored, and the KV cache."""

from __future__ import annotations

import numpy as np

from pruninfersim._arrays import FloatArray
from pruninfersim.trace import OpTrace

#: Products of activations with activations: their B operand is not a stored weight.
UNSTORED = ("block_score",)


def weight_memory(trace: OpTrace) -> FloatArray:
    """Return the bytes of all stored weights, shape (*sweep) [B].

    GEMM weights as stored (2:4 with its metadata), plus the embedding table where it is not tied to the head.

    >>> from pruninfersim import Workload, trace
    >>> float(weight_memory(trace("llama-3.1-8b", Workload.decode()))) / 1e9
    16.059990016
    """
    gemm = (np.asarray(trace.gemms) == 1.0) & ~trace.mask(kernels=UNSTORED)
    weights = np.where(gemm, trace.n * trace.k * trace.b_bytes * trace.count, 0.0).sum(axis=-1)
    model = trace.model
    if model is None or model.tie_embeddings:
        return np.asarray(weights)
    row = trace.mask(names=["embedding"])
    table = (model.vocab_size * np.where(row, trace.k * trace.a_bytes, 0.0)).sum(axis=-1)
    return np.asarray(weights + table)


def kv_memory(trace: OpTrace) -> FloatArray:
    """Return the bytes of the KV cache of the whole batch, shape (*sweep) [B].

    >>> from pruninfersim import Workload, trace
    >>> float(kv_memory(trace("llama-3.1-8b", Workload.decode(batch=16, context=4096)))) / 2**30
    8.0
    """
    size = trace.b_batch * trace.gemms * trace.n * trace.k * trace.b_bytes * trace.count
    return np.asarray(np.where(np.asarray(trace.gemms) == 2.0, size, 0.0).sum(axis=-1))
