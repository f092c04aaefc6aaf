"""The four speedups, each with its definition.

================  =====================================================  ===========================================
name              definition                                             reads as
================  =====================================================  ===========================================
``flops``         FLOPs(dense) / FLOPs(pruned)                           what papers claim
``ideal``         T_roofline(dense) / T_roofline(pruned)                 both sides perfect; no bound on the next
``estimated``     T_model(dense) / T_model(pruned)                       what this stack delivers
``bound``         T_model(dense) / T_least(pruned)                       no kernel makes this pruned model faster
================  =====================================================  ===========================================

T_roofline takes the rates of the data sheet, op by op. T_least is what no kernel and no fusion beats: elementwise work
crosses HBM for nothing, and peaks are those of the highest clock (`Estimate.least`). ``bound >= estimated`` holds
because no kernel model beats it (`CostModel.predict` enforces it). Whether a kernel is worth writing is another
question: `Speedup.headroom`.
"""

from __future__ import annotations

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.cost.estimate import Estimate
from pruninfersim.trace import FUSED, OpTrace, total


def total_flops(trace: OpTrace) -> FloatArray:
    """Return the expected FLOPs of a forward pass, shape (*sweep).

    >>> from pruninfersim import Workload, trace
    >>> f"{float(total_flops(trace('llama-3.1-8b', Workload.decode(context=1)))):.4g}"
    '1.501e+10'
    """
    return total(trace, lambda ops: ops.flops * ops.count)


def flops_speedup(dense: OpTrace, pruned: OpTrace) -> FloatArray:
    """Return FLOPs(dense) / FLOPs(pruned), shape (*sweep): the speedup that FLOP counting claims."""
    return np.asarray(total_flops(dense) / total_flops(pruned))


def ideal_speedup(dense: Estimate, pruned: Estimate) -> FloatArray:
    """Return T_roofline(dense) / T_roofline(pruned), shape (*sweep). Not a bound on the estimated speedup."""
    return np.asarray(dense.roofline_total / pruned.roofline_total)


def estimated_speedup(dense: Estimate, pruned: Estimate) -> FloatArray:
    """Return T_model(dense) / T_model(pruned), shape (*sweep)."""
    return np.asarray(dense.total / pruned.total)


def bound_speedup(dense: Estimate, pruned: Estimate) -> FloatArray:
    """Return T_model(dense) / T_least(pruned), shape (*sweep): no kernel makes this pruned model faster.

    Infinite for a trace without products: all of its work could be fused away.
    """
    total, least = np.broadcast_arrays(dense.total, pruned.least)
    return np.asarray(np.divide(total, least, out=np.full(total.shape, np.inf), where=least > 0))


def claimed_speedup(pruned: OpTrace) -> FloatArray | None:
    """Return 1 / (1 - s) of the sparsities asked for, multiplied over the methods, shape (*sweep); bounds nothing.

    s is the removed share of the layers' weights, embedding and LM head left out, as in arXiv 2606.09080: one ratio for
    everything claims 1 / (1 - ratio), and half of the attention sub-layers claim what these weigh.

    Returns
    -------
    ndarray or None
        None for a trace that no method has pruned: nobody claims anything.

    >>> from pruninfersim import Workload, pruning, trace
    >>> dense = trace("llama-3.1-8b", Workload.decode())
    >>> halves = pruning.StaticDepth(pruning.PerBlock(attention=0.5))
    >>> round(float(claimed_speedup(dense.prune(halves))), 2), claimed_speedup(dense)
    (1.11, None)
    """
    return np.asarray(1.0 / claimed_share(pruned)) if pruned.applied else None


def claimed_share(pruned: OpTrace, role: str | None = None) -> FloatArray:
    """Return the share of the layers' weights that the methods were asked to leave, or of one role, shape (*sweep).

    1 for a trace that no method has pruned.
    """
    keep: FloatArray = np.asarray(1.0)
    for applied in pruned.applied:
        parts = [part for part in FUSED.get(str(role), (str(role),)) if part in applied.by_role]
        of_role = [applied.by_role[part] for part in parts]
        keep = keep * (1.0 - (sum(of_role) / len(of_role) if of_role else applied.asked))
    return keep
