"""Activation sparsity: columns of a weight whose input is small are not read. TEAL, WINA (inputs); CATS (gated)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pruninfersim._util.doors import doors
from pruninfersim.errors import unknown_name
from pruninfersim.pruning.base import LINEAR, mean_where, record, targets
from pruninfersim.pruning.dynamic_depth import active_share
from pruninfersim.pruning.ratios import Ratio, check_ratio, with_ratio
from pruninfersim.trace import OpTrace

#: Mode -> linear layers whose columns (K), and whose rows (N), depend on the token.
MODES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {"inputs": (LINEAR, ()), "gated": (("down",), ("up",))}


@doors
@dataclass(frozen=True, eq=False)
class ActivationSparsity:
    """Read and multiply only the columns that some token of the pass needs.

    Tokens choose for themselves, so that of m tokens together 1 - s^m of the columns are needed: half at one token,
    99.6 % at eight. Prompts gain nothing.

    Attributes
    ----------
    sparsity : Ratio
        Share of the activations of each token below the threshold [1]; `PerRole` gives each linear layer its own.
    mode : {"inputs", "gated"}
        "inputs": the input of every linear layer (TEAL, arXiv 2408.14690; WINA). "gated": gate is computed in full, its
        small outputs spare rows of up and columns of down (CATS, arXiv 2404.08763).

    >>> from pruninfersim import Workload, trace
    >>> pruned = trace("llama-3.1-8b", Workload.decode(batch=[1, 8])).prune(ActivationSparsity(0.5))
    >>> pruned.select(pruned.mask(names=["up"])).b_reads[:, 0].tolist()
    [0.5, 0.99609375]
    """

    name: ClassVar[str] = "activation-sparsity"

    sparsity: Ratio
    mode: str = "inputs"

    def __post_init__(self) -> None:
        check_ratio("sparsity", self.sparsity)
        if self.mode not in MODES:
            raise unknown_name("mode", self.mode, MODES)

    def apply(self, trace: OpTrace) -> OpTrace:
        """Return the trace with GEMMs that read the columns, or rows, that are needed."""
        trace, sparsity = with_ratio(trace, self.sparsity, roles=True)
        columns, rows = (targets(trace, self.name, roles, ["gemm"]) for roles in MODES[self.mode])
        touched = columns | rows
        needed = np.where(touched, active_share(trace.m, sparsity), 1.0)
        pruned = trace.with_columns(
            kernel=tuple(np.where(touched, "column_gemm", trace.kernel).tolist()),
            mac_fraction=trace.mac_fraction * needed,
            b_reads=trace.b_reads * needed,
            out_writes=np.where(rows, trace.out_writes * needed, trace.out_writes),
        )
        weights = trace.n * trace.k * trace.count
        achieved = {
            block: mean_where(np.where(touched, sparsity, 0.0), touched & trace.mask(blocks=[block]), weights)
            for block in ("attention", "mlp")
        }
        return record(pruned, self.name, self.sparsity, achieved, of=trace, sparsity=sparsity)
