"""Which layers: what pruning each layer and role of a model saves, for its weights or an importance of one's own."""

from __future__ import annotations

from typing import Any, Never

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim._util.arrays import FloatArray, among, checked, last_first
from pruninfersim._util.defaults import CONTEXT
from pruninfersim._util.doors import door
from pruninfersim._util.words import refuse
from pruninfersim.cost import CostModel, Estimate
from pruninfersim.errors import InvalidInputError, unknown_name
from pruninfersim.hardware import HardwareProfile
from pruninfersim.models import ModelConfig
from pruninfersim.pruning import Axis, LowRank, SemiStructured, StaticWidth
from pruninfersim.questions.importance import Importance, importances
from pruninfersim.questions.setup import Setup
from pruninfersim.questions.sites import BLOCKS, LINEAR, Sites
from pruninfersim.questions.vocabulary import one_only
from pruninfersim.stacks import Stack
from pruninfersim.trace import FUSED, layer_weights
from pruninfersim.workload import Logits, Workload

#: Method -> its class, and the sparsity of a site where nobody says: a sub-layer is gone or not, a weight 2:4 or not.
METHODS: dict[str, tuple[Any, float]] = {
    "static-depth": (None, 1.0),
    "static-width": (StaticWidth, 0.5),
    "low-rank": (LowRank, 0.5),
    "semi-structured": (SemiStructured, 0.5),
}
#: Methods that have one sparsity of a site only.
ONE_LEVEL = ("static-depth", "semi-structured")


@door
def where_to_prune(
    model: str | ModelConfig | None = None,
    hardware: str | HardwareProfile | None = None,
    stack: str | Stack | CostModel = "vendor",
    *,
    method: str = "static-depth",
    sparsity: ArrayLike | None = None,
    importance: Importance | None = None,
    workload: Workload | None = None,
    phase: str = "decode",
    batch: int = 1,
    context: int = CONTEXT,
    logits: Logits | None = None,
    dtype: str | None = None,
    tp: int = 1,
    ep: int = 1,
    **other: Never,
) -> Sites:
    """Return what pruning each layer and role saves, so that a pruning tool can spend its budget where the time is.

    Ops run one after the other, so that what several sites save adds up. A site of depth and width is the attention or
    the MLP of a layer, one of low rank and 2:4 a linear layer.

    Parameters
    ----------
    model, hardware, stack, workload, phase, batch, context, logits, dtype, tp, ep : as in `pruninfersim.speedup`
        A single workload.
    method : {"static-depth", "static-width", "low-rank", "semi-structured"}
    sparsity : float or several, optional
        How much of a site goes [1]: several are alternatives. Default is half of it; of depth all.
    importance : table, optional
        What pruning a site costs: a DataFrame or CSV file with columns layer, role, importance (and sparsity, or else
        the importance is that of the whole site and grows with the sparsity); a mapping from (layer, role), from role
        or from layer; an array of shape (layer,) or (layer, role). Roles are those of the table that comes back,
        in its order: a stack that fuses q, k and v has one `qkv`. Default is the number of weights that are removed.

    Returns
    -------
    Sites
        ``greedy(latency)`` and ``exact(latency)`` choose among them.

    Raises
    ------
    UnknownNameError, InvalidInputError, MissingValueError, FileFormatError

    >>> sites = where_to_prune("llama-3.1-8b", "h100-sxm", "ideal", method="static-depth", context=32768)
    >>> sites.to_frame().role[0]  # at 32k tokens a weight of attention is in the way for longer
    'attention'
    >>> choice = sites.exact(latency=0.75 * sites.dense)
    >>> choice.latency <= 0.75 * sites.dense, choice.parameters <= sites.greedy(0.75 * sites.dense).parameters
    (True, True)
    """
    refuse(where_to_prune, other)
    if model is None or hardware is None:
        raise InvalidInputError("where_to_prune needs a model and a GPU: where_to_prune('llama-3.1-8b', 'h100-sxm')")
    one_only("where_to_prune", model=model, hardware=hardware, stack=stack, dtype=dtype, method=method)
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    kind, usual = METHODS[method]
    levels = np.unique(checked("sparsity", usual if sparsity is None else sparsity, minimum=1e-9, below=1 + 1e-9))
    if method in ONE_LEVEL and levels.tolist() != [usual]:
        raise InvalidInputError(f"a site of {method} is pruned at {usual:g} or not at all; leave sparsity out")
    setup = Setup(model, hardware, stack, dtype, tp, ep)
    work = setup.workload(phase, batch, context, logits) if workload is None else workload
    if work.shape:
        raise InvalidInputError(f"give a single workload; this one is a sweep of shape {work.shape}")
    dense = setup.trace(work).unfold()
    before = setup.estimate(dense)
    if before.chain is not None and np.any(before.chain.seconds > before.busy):
        raise InvalidInputError(
            "the step is host-bound: its time is not a sum over layers, so that no site saves any by itself; take a "
            "larger batch, an engine with a CUDA graph, or stack='vendor' for the kernels alone"
        )
    roles = BLOCKS if method in ("static-depth", "static-width") else _linear(before)
    had = _by_site(before, roles)
    left, fixed = np.zeros((2, 1, *had.shape[1:])), 0.0
    if kind is not None:
        after = setup.estimate(dense.prune(kind(Axis(levels))))
        left = _by_site(after, roles)
        fixed = float(after.busy[0] - left[0, 0].sum() - (before.busy - had[0].sum()))
    seconds, weights = had[:, None] - left
    level, layer, role = np.nonzero(np.broadcast_to(had[1] > 0, seconds.shape))
    names = tuple(roles[i] for i in role)
    removed = weights[level, layer, role]
    cost = (
        removed if importance is None else importances(importance, layer, names, levels[level], setup.model.num_layers)
    )
    saved = seconds[level, layer, role]
    return Sites(method, layer, names, levels[level], saved, removed, cost, float(before.total), fixed, setup, work)


def _linear(step: Estimate) -> tuple[str, ...]:
    """Return the linear layers as the stack launches them: projections that it fuses are one."""
    names = set(step.trace.name)
    parts = {part: name for name, both in FUSED.items() if name in names for part in both}
    return tuple(dict.fromkeys(parts.get(role, role) for role in LINEAR))


def _by_site(step: Estimate, roles: tuple[str, ...]) -> FloatArray:
    """Return seconds and weights of each layer and role, shape (2, *sweep, layer, role)."""
    ops = step.trace
    layers = 0 if ops.model is None else ops.model.num_layers
    seconds = step.seconds if step.chain is None else (step.run + step.gap - step.chain.wait) * ops.count
    labels = ops.block if roles == BLOCKS else ops.roles
    row = np.array([own[0] if own else -1 for own in ops.layers])
    values = np.array([np.broadcast_to(column, ops.shape) for column in (seconds, layer_weights(ops))])
    out = np.zeros((2, *ops.sweep_shape, layers, len(roles)))
    for place, role in enumerate(roles):
        mine = among(labels, [role, *FUSED.get(role, ())]) & (row >= 0)
        np.add.at(last_first(out[..., place]), row[mine], last_first(values[..., mine]))
    return out
