"""What a stack launches to make activations narrow: nothing, one kernel per distinct input of GEMMs, or two."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from pruninfersim.cost import Priced
from pruninfersim.errors import unknown_name
from pruninfersim.hardware import precision
from pruninfersim.kernels.gemm import Gemm
from pruninfersim.kernels.moe import FusedMoE
from pruninfersim.kernels.quantise import STEPS
from pruninfersim.stacks.copies import FIRST
from pruninfersim.trace import OpTrace

#: Projections that share one input.
SHARED = (*FIRST, "k", "v", "qkv")
#: Attention -> the kernel that reads a cache of 8 bit.
NARROW_CACHE = {f"attention_{phase}": f"attention_{phase}_kv8" for phase in ("prefill", "decode")}
#: Ops that write what the next GEMM reads, and can write it narrow.
WRITERS = ("norm", "act")
#: What a kernel that widens its weights on the way takes more than a GEMM of 16 bit [s], and the share of its
#: tensor-core rate that it reaches: Marlin on H100 beside cuBLAS (github.com/inclusionAI/humming, Apache-2.0: n = k =
#: 8192, m = 1 to 4), and the weight-only plug-in of TensorRT-LLM on A100 beside its bf16 GEMMs.
WIDEN, WIDEN_RATE = 3.0e-6, 0.93
#: Half-width in log units of what taking a 16-bit kernel for a narrow one adds to its error: experts of fp8 in blocks
#: come out 14 to 20 % too fast that way (medians of H100, H200 and B200; aiconfigurator-core 0.12.0).
OTHER_WIDTH = 0.2


def with_quantisation(trace: OpTrace, how: str = "fused") -> OpTrace:
    """Return the trace with the quantisation of the inputs of its narrow GEMMs.

    Parameters
    ----------
    trace : OpTrace
        A trace that has its quantisation is returned as it is.
    how : {"fused", "per-token", "dynamic"}
        Whether the norm or activation before a GEMM writes narrow values (static scales), or one kernel, or two
        (absolute maximum and cast), do it for each distinct input.

    Raises
    ------
    UnknownNameError
        If there is no such way.

    >>> from pruninfersim import Workload
    >>> from pruninfersim.trace import trace
    >>> step = trace("llama-3.1-8b", Workload.decode(), dtype="fp8").fuse_projections()
    >>> more = with_quantisation(step, "per-token")
    >>> [name for name, key in zip(more.name, more.kernel) if key.startswith("quantise")]
    ['quantise_qkv', 'quantise_o', 'quantise_gate_up', 'quantise_down']
    >>> with_quantisation(more, "per-token") is more
    True
    """
    if how not in STEPS:
        raise unknown_name("quantisation of activations", how, STEPS)
    is_narrow = np.broadcast_to((trace.gemms == 1.0) & (trace.a_bytes < 2.0), trace.shape)
    narrow = np.flatnonzero(is_narrow.reshape(-1, len(trace)).all(axis=0)).tolist()
    if not narrow or any(key.startswith("quantise") for key in trace.kernel):
        return trace
    if how == "fused":
        return _written_narrow(trace, narrow)
    inputs: dict[tuple[Any, ...], int] = {}
    for i in narrow:
        role, width = trace.name[i], trace.k[..., i]
        shared = role in SHARED and trace.k_axis[i] != "rank"
        key = (trace.block[i], trace.layers[i], trace.dtype[i], trace.kernel[i], "" if shared else role)
        inputs.setdefault((*key, width.tobytes()), i)
    rows = [_row(trace, i, step) for i in inputs.values() for step in STEPS[how]]
    return trace.concat(OpTrace.from_rows(rows))


def with_narrow_cache(trace: OpTrace) -> OpTrace:
    """Return the trace with attention over a cache of 8 bit by the kernels that read one.

    >>> from pruninfersim import Workload
    >>> from pruninfersim.pruning import Quantized
    >>> from pruninfersim.trace import trace
    >>> step = trace("llama-3.1-8b", Workload.decode(context=4096)).prune(Quantized(kv="fp8", weights="bf16"))
    >>> "attention_decode_kv8" in with_narrow_cache(step).kernel
    True
    """
    dense = [i for i, key in enumerate(trace.kernel) if key in NARROW_CACHE]
    found = [i for i in dense if bool((trace.b_bytes[..., i] < 2.0).all())]
    if not found:
        return trace
    renamed = list(trace.kernel)
    for i in found:
        renamed[i] = NARROW_CACHE[renamed[i]]
    return trace.with_columns(kernel=tuple(renamed))


def _written_narrow(trace: OpTrace, narrow: list[int]) -> OpTrace:
    """Let norms and activations write one operand of GEMMs behind them as narrow as it is read."""
    size = {(trace.block[i], layer): trace.a_bytes[..., i] for i in narrow for layer in trace.layers[i]}
    out = np.array(np.broadcast_to(trace.out_bytes, trace.shape))
    changed = False
    for j, key in enumerate(trace.kernel):
        found = size.get((trace.block[j], trace.layers[j][0])) if trace.layers[j] else None
        if key in WRITERS and found is not None and bool((out[..., j] >= 2.0).all()):
            writes = np.maximum(trace.out_writes[..., j], 1e-9)
            out[..., j] -= (2.0 - found) * np.minimum(writes, 1.0) / writes
            changed = True
    return trace.with_columns(out_bytes=out) if changed else trace


def _row(trace: OpTrace, i: int, step: str) -> dict[str, Any]:
    """Return the row of one kernel in front of GEMM `i`."""
    width = trace.k[..., i]
    last = step != "quantise_absmax"
    return {
        "name": f"{step.replace('_token', '')}_{trace.name[i]}",
        "kernel": step,
        "block": trace.block[i],
        "dtype": trace.dtype[i],
        "layers": trace.layers[i],
        "count": trace.count[..., i],
        "m": trace.batch[..., i] * trace.m[..., i],
        "n": width,
        "k": width,
        "n_axis": trace.k_axis[i],
        "k_axis": trace.k_axis[i],
        "out_bytes": trace.a_bytes[..., i],
        "a_reads": trace.a_reads[..., i],
        "out_writes": trace.a_reads[..., i] if last else 0.0,
        # Two kernels of one step are timed as they follow each other; the GEMM behind them starts later.
        "launches": 1.0 if last else 0.0,
    }


def of_other_width(dense: Priced, dtype: str) -> Priced:
    """Return the kernel of narrow operands beside a 16-bit one, where none of the card was timed: extrapolated.

    Its bytes and its peak follow from the op. A weight-only GEMM starts `WIDEN` later and reaches `WIDEN_RATE` of the
    tensor-core rate; experts are two of them.
    """
    model, wide = dense.model, precision.get(dtype).weight_only
    if isinstance(model, Gemm) and wide:
        rate = model.compute_efficiency * WIDEN_RATE
        model = replace(model, launch=model.launch + WIDEN, compute_efficiency=rate)
    elif isinstance(model, FusedMoE) and wide:
        model = replace(model, launch=model.launch + 2.0 * WIDEN, efficiency=model.efficiency * WIDEN_RATE)
    what = f"{dtype} weights widened on the way" if wide else f"operands of {dtype}"
    spread = dense.spread.with_independent(OTHER_WIDTH)
    return replace(
        dense,
        model=model,
        provenance="extrapolated",
        spread=spread,
        source=f"{what}, from: {dense.source}",
        note=f"no {dtype} kernel of this GPU was timed; the 16-bit one with the bytes and peak of {dtype} speaks "
        "for it, so that the time is extrapolated",
    )


def narrow_names() -> list[str]:
    """Return the formats that have kernels of their own, in the order of `precision.PRECISIONS`.

    >>> narrow_names()
    ['fp8', 'int8', 'fp4', 'nvfp4', 'fp8_block', 'int8_wo', 'int4_wo', 'mxfp4']
    """
    return [name for name, form in precision.PRECISIONS.items() if min(form.weight_bytes, form.input_bytes) < 2.0]
