"""Prefill depth: later layers only fill their cache from the prompt, and run in full on its last token. POP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim._util.arrays import FloatArray, among, somewhere
from pruninfersim.errors import InvalidInputError
from pruninfersim.pruning.base import TINY, record, targets
from pruninfersim.pruning.early_exit import FILL
from pruninfersim.pruning.layer_rows import experts_of
from pruninfersim.pruning.ratios import check_ratio, check_sweep, model_of
from pruninfersim.trace import OpTrace, trace
from pruninfersim.workload import Workload

#: Linear layers that fill the cache.
CACHED = ("k", "v")
#: Kernels of layers whose cache is a state, or latent.
OTHER = ("linear_attention", "mla_prefill")


@dataclass(frozen=True, eq=False)
class PrefillDepth:
    """Spare the tokens of a prompt, but for the last of each sequence, most of the last layers; decode is dense.

    Keys and values of those layers are computed from the hidden state that enters them, so that every decode step finds
    a whole cache; all else there runs on one token per sequence, whose logits are wanted (POP). Where the logits of all
    tokens are asked for, every token runs in full.

    Attributes
    ----------
    sparsity : array_like
        Share of the layers, the last ones, that the prompt skips, in whole layers rounded down [1].

    >>> from pruninfersim import Workload, trace
    >>> pruned = trace("llama-3.1-8b", Workload.prefill(tokens=1024)).prune(PrefillDepth(0.25))
    >>> sum(float(m) * float(count) for m, count, name in zip(pruned.m, pruned.count, pruned.name) if name == "up")
    24584.0
    """

    name: ClassVar[str] = "prefill-depth"

    sparsity: ArrayLike

    def __post_init__(self) -> None:
        check_ratio("sparsity", self.sparsity)

    def apply(self, trace: OpTrace) -> OpTrace:
        """Return the trace with the last layers of a prompt on its last token.

        Raises
        ------
        InvalidInputError
            If its layers have a state or latent attention.
        """
        layers = model_of(trace).num_layers
        check_sweep(trace, self.sparsity)
        gone = np.floor(np.asarray(self.sparsity, dtype=np.float64) * layers + TINY) / layers
        work = trace.workload
        if work is None or work.phase == "decode" or work.logits == "all":
            same = trace.with_columns(count=trace.count + 0.0 * gone[..., None])  # at every sparsity
            return record(same, self.name, self.sparsity, dict.fromkeys(("attention", "mlp"), 0.0 * gone))
        if trace.mask(kernels=OTHER).any() or "qkv" in trace.name:
            raise InvalidInputError(
                f"{self.name} needs layers with a cache of keys and values, whose projections are not fused yet; this "
                f"trace has {', '.join(sorted({'qkv', *OTHER} & {*trace.kernel, *trace.name}))}"
            )
        again = bool((trace.mask(names=["attention"]) & trace.mask(kernels=["attention_decode"])).any())
        targets(trace, self.name, ["attention"], ["attention_prefill"], keeps_kernel=not again)
        each = trace.unfold()
        layer = np.array([row[0] if row else -1 for row in each.layers])
        late = layer >= layers * (1.0 - gone[..., None]) - TINY
        filled = each.mask(names=FILL) | among(each.roles, CACHED)
        last = (late & ~filled) | (each.mask(names=["final_norm"]) & (gone[..., None] > 0))
        attention = each.mask(names=["attention"])
        fewer = np.where(last & ~attention, 1.0 / work.query_len[..., None], 1.0)
        few = experts_of(each.with_columns(m=each.m * fewer), each.sequences * fewer)
        rows = np.flatnonzero(attention)
        full = few.with_columns(count=few.count * np.where(attention & late, 0.0, 1.0))
        one = _last_tokens(each.select(rows), layer[rows])
        one = one.with_columns(count=one.count * late[..., rows])
        kept = [part.select(somewhere(part.count > 0)) for part in (full, one)]
        pruned = kept[0].concat(kept[1]) if len(kept[1]) else kept[0]
        return record(pruned, self.name, self.sparsity, dict.fromkeys(("attention", "mlp"), gone))


def _last_tokens(attention: OpTrace, layer: np.ndarray) -> OpTrace:
    """Return attention of the last token of each sequence: a decode step at that context."""
    work = attention.workload
    assert work is not None  # the caller has one
    step = trace(model_of(attention), Workload.decode(work.batch, work.context)).unfold()
    keys: dict[int, FloatArray] = {
        step.layers[i][0]: step.n[..., i] for i in np.flatnonzero(step.mask(names=["attention"]))
    }
    seen = np.stack(np.broadcast_arrays(*(keys[x] for x in layer)), axis=-1)
    return attention.with_columns(
        kernel=("attention_decode",) * len(attention),
        m=np.ones_like(attention.m),
        n=np.minimum(attention.n, seen),
        mac_fraction=np.ones_like(attention.mac_fraction),
    )
