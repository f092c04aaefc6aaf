"""What an engine launches for the ops of a model: launches per op, quantisation, copies of the cache, its own work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pruninfersim.stacks.quantisation import with_narrow_cache
from pruninfersim.trace import OpTrace

#: Names of the rows that an engine adds, and the block that they are in.
STEP, SEQUENCES, GENERATE, ENGINE = "engine step", "engine sequences", "step kernels", "engine"
#: Kernel keys of the linear layers, whose activations an 8-bit format quantises.
LINEAR = ("gemm", "shared_gemm", "gemm_2of4", "token_gemm")


@dataclass(frozen=True)
class Launched:
    """What an engine makes of the ops of a model.

    Attributes
    ----------
    fused : bool
        Whether q, k, v are one GEMM, and gate, up another.
    of : tuple of (str, float)
        Kernel key and the kernels that one op of it is, where that is not one.
    per_step : float
        Small kernels outside of the layers (masks, positions, sampling).
    copies_cache : bool
        Whether each decode step copies the whole KV cache (`torch.cat`).
    quantise : {"", "fused", "input", "separate"}
        Activations of 8-bit layers: in the library's GEMM as timed; in the op before; one kernel per distinct input; or
        that, and one kernel more per GEMM to scale its result.
    admission : float
        Issue times that a run without a server spends on admitting the requests of a prefill step beyond
        `graph_tokens`, while the GPU works; known of 8-bit layers only, and left out of requests (`Serving.lower`).
    graph_tokens : float
        Prompt tokens of a step up to which there is no such time.
    """

    fused: bool = True
    of: tuple[tuple[str, float], ...] = ()
    per_step: float = 0.0
    copies_cache: bool = False
    quantise: Literal["", "fused", "input", "separate"] = ""
    admission: float = 0.0
    graph_tokens: float = np.inf


@dataclass(frozen=True)
class Lowering:
    """Trace -> trace: what an engine launches; a lowered trace it leaves alone."""

    launched: Launched
    step: bool
    sequence: bool

    def __call__(self, trace: OpTrace) -> OpTrace:
        """Return the trace as the engine launches it."""
        if ENGINE in trace.block or (trace.launches != 1.0).any():
            return trace
        how = self.launched
        ops = trace.fuse_projections() if how.fused else trace
        if how.copies_cache:
            ops = _copied_cache(ops)
        known = dict(how.of)
        ops = ops.with_columns(launches=np.array([known.get(key, 1.0) for key in ops.kernel]))
        ops = with_narrow_cache(ops)
        if trace.workload is None:  # kernels, and no step of a model
            return ops
        rows: list[dict[str, Any]] = []
        if how.quantise in ("input", "separate"):
            rows += _quantisation(ops, results=how.quantise == "separate")
            if rows and how.admission and trace.workload.phase == "prefill":
                beyond = trace.workload.tokens > how.graph_tokens
                launches = np.where(beyond, how.admission, 0.0)
                rows.append({"name": "admission", "kernel": "host_admission", "launches": launches})
        if how.per_step:
            rows.append({"name": GENERATE, "kernel": "small_kernels", "launches": how.per_step})
        if self.step:
            rows.append({"name": STEP, "kernel": "host_step", "launches": 0.0})
        if self.sequence:
            rows.append({"name": SEQUENCES, "kernel": "host_sequence", "m": trace.workload.batch, "launches": 0.0})
        extra = [_NOTHING | {"block": ENGINE} | row for row in rows]
        return ops.concat(OpTrace.from_rows(extra)) if extra else ops


#: Rows that move nothing: time on the host, or kernels of a few bytes.
_NOTHING: dict[str, Any] = {"a_reads": 0.0, "out_writes": 0.0}


def _copied_cache(ops: OpTrace) -> OpTrace:
    """Return a decode step that reads and writes its whole cache again when it appends to it."""
    work = ops.workload
    if work is None or work.phase != "decode":
        return ops
    appends = ops.mask(kernels=["kv_append"])
    return ops.with_columns(m=ops.m * np.where(appends, work.context[..., None], 1.0))


def _quantisation(ops: OpTrace, *, results: bool) -> list[dict[str, Any]]:
    """Return the kernels that quantise each distinct input of narrow layers, and that scale each result."""
    rows: list[dict[str, Any]] = []
    seen: set[tuple[Any, ...]] = set()
    for i in np.flatnonzero(ops.mask(kernels=LINEAR)).tolist():
        at: dict[str, Any] = {name: getattr(ops, name)[..., i] for name in ("m", "n", "k", "batch", "count", "a_bytes")}
        if (at["a_bytes"] >= 2.0).all():
            continue
        common = {"layers": ops.layers[i]} | {name: at[name] for name in ("m", "batch", "count")}
        role = ops.roles[i]
        source = "up" if role in ("gate", "gate_up") else "q" if role in ("k", "v", "qkv") else role
        key = (source, ops.layers[i], ops.kernel[i], ops.k_axis[i])
        if key not in seen:
            seen.add(key)
            narrow = {"n": at["k"], "k": at["k"], "out_bytes": at["a_bytes"], "a_reads": 1.0, "out_writes": 1.0}
            rows.append(common | narrow | {"name": f"quantise {ops.name[i]}", "kernel": "elementwise"})
        if results:
            # 8-bit integers give 32-bit sums; fp8 results come as 16 bit.
            wide = 4.0 if ops.dtype[i] == "int8" and ops.pattern[i] == "" else 2.0
            scaled = {"n": at["n"], "k": at["n"], "a_bytes": wide, "a_reads": 1.0, "out_writes": 1.0}
            rows.append(common | scaled | {"name": f"dequantise {ops.name[i]}", "kernel": "elementwise"})
    return rows
