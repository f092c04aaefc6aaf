"""Early exit: tokens that are sure leave before the last layer. CALM, LayerSkip, EE-LLM."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim._util.arrays import FloatArray, checked
from pruninfersim._util.doors import doors
from pruninfersim.errors import unknown_name
from pruninfersim.pruning.base import mean_where, record
from pruninfersim.pruning.dynamic_depth import DynamicDepth, active_share
from pruninfersim.pruning.ratios import PerLayer, check_ratio, check_sweep, layers_with, model_of
from pruninfersim.trace import OpTrace

#: Elementwise work of a token that has left, where its keys and values are filled in.
FILL = ("attn_norm", "rope", "qk_norm", "kv_append")
#: Kernel of dynamic depth -> the kernel on a batch that has been compacted once.
EXIT = {"token_gemm": "exit_gemm", "token_attention_decode": "exit_attention"}


class _Skip(DynamicDepth):
    """Dynamic depth that complains under the name of early exit."""

    name: ClassVar[str] = "early-exit"


@doors
@dataclass(frozen=True, eq=False)
class EarlyExit:
    """Let a share of the tokens of a decode step leave in front of layer `layer`; prompts run in full.

    Behind that layer it is dynamic depth without routers: a weight is read if any token of the batch stays.

    Attributes
    ----------
    sparsity : array_like
        Expected share of the tokens that leave [1].
    layer : int
        First layer that they skip; by default half of the layers are before it.
    kv : {"filled", "skipped"}
        "filled": keys and values of the skipped layers are computed from the last hidden state (CALM, arXiv
        2207.07061), for every token and with all weights of k and v; "skipped": the cache has holes there.
    heads : float
        How often a step asks the model's own LM head whether a token is sure (LayerSkip, arXiv 2404.16710).

    >>> from pruninfersim import Workload, trace
    >>> pruned = trace("llama-3.1-8b", Workload.decode()).prune(EarlyExit(0.5, layer=16))
    >>> ups = pruned.select(pruned.mask(names=["up"]))
    >>> float((ups.b_reads * ups.count).sum())
    24.0
    """

    name: ClassVar[str] = "early-exit"

    sparsity: ArrayLike
    layer: int | None = None
    kv: Literal["filled", "skipped"] = "filled"
    heads: float = 1

    def __post_init__(self) -> None:
        check_ratio("sparsity", self.sparsity)
        if self.layer is not None:
            checked("layer", self.layer, minimum=1, whole=True)
        checked("heads", self.heads, minimum=0, whole=True)
        if self.kv not in ("filled", "skipped"):
            raise unknown_name("kv", self.kv, ["filled", "skipped"])

    def apply(self, trace: OpTrace) -> OpTrace:
        """Return the trace with later layers on the tokens that stay.

        Raises
        ------
        InvalidInputError
            If the model has no such layer.
        """
        layers = model_of(trace).num_layers
        first = layers // 2 if self.layer is None else self.layer
        layers_with(trace, first)
        check_sweep(trace, self.sparsity)
        left = np.asarray(self.sparsity, dtype=np.float64)[..., None]
        if trace.workload is None or trace.workload.phase != "decode":
            same = trace.with_columns(count=trace.count + 0.0 * left)  # at every sparsity
            return record(same, self.name, self.sparsity, dict.fromkeys(("attention", "mlp"), 0.0 * left[..., 0]))
        late = np.arange(layers) >= first
        skip = _Skip(PerLayer(left * late), router="none", kv="kept" if self.kv == "filled" else "skipped")
        pruned = skip.apply(trace)
        rows = self._judges(trace)
        pruned = replace(self._compacted(pruned, left, first), applied=trace.applied).concat(
            *([OpTrace.from_rows(rows)] if rows else [])
        )
        each = trace.unfold()
        behind = np.array([bool(row) and row[0] >= first for row in each.layers])
        gone = {
            block: mean_where(left * behind, each.mask(blocks=[block]) & each.mask(kernels=["norm"]), each.count)
            for block in ("attention", "mlp")
        }
        return record(pruned, self.name, self.sparsity, gone)

    def _compacted(self, trace: OpTrace, left: FloatArray, first: int) -> OpTrace:
        """Return the trace with kernels that need no gather, and elementwise work on the tokens that stay."""
        late = np.array([bool(row) and row[0] >= first for row in trace.layers])
        filled = trace.mask(names=FILL) if self.kv == "filled" else np.zeros(len(trace), dtype=bool)
        small = late & ~filled & (np.asarray(trace.gemms) == 0.0)
        runs = np.where(small, active_share(trace.m, left), 1.0)
        # What the step of dynamic depth has scaled already, and what not.
        scaled = trace.mask(kernels=["act"]) | (trace.mask(kernels=["kv_append"]) & (self.kv == "skipped"))
        stay = np.where(small, np.where(scaled, 1.0, 1.0 - left) / runs, 1.0)
        kernels = [EXIT.get(key, key) if at else key for key, at in zip(trace.kernel, late, strict=True)]
        return trace.with_columns(
            kernel=tuple(kernels),
            count=trace.count * runs,
            a_reads=trace.a_reads * stay,
            out_writes=trace.out_writes * stay,
        )

    def _judges(self, trace: OpTrace) -> list[dict[str, Any]]:
        """Return the LM head again, whose weights are stored once."""
        columns = ("gemms", "m", "n", "k", "a_bytes", "b_bytes", "out_bytes")
        labels = ("block", "dtype", "n_axis", "k_axis")
        return [
            {"name": "exit_head", "kernel": "shared_head", "count": trace.count[..., i] * self.heads}
            | {name: getattr(trace, name)[..., i] for name in columns}
            | {name: getattr(trace, name)[i] for name in labels}
            for i in np.flatnonzero(trace.mask(names=["lm_head"]) & (self.heads > 0))
        ]
