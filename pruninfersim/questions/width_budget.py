"""Which widths to take in all layers: on tile and wave edges, within one budget of parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Never

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim._util.arrays import checked
from pruninfersim._util.defaults import CONTEXT
from pruninfersim._util.doors import door
from pruninfersim._util.words import refuse
from pruninfersim.cost import CostModel
from pruninfersim.errors import InvalidInputError
from pruninfersim.hardware import HardwareProfile
from pruninfersim.models import ModelConfig
from pruninfersim.questions.setup import Setup
from pruninfersim.questions.widths import WIDEST, mlp_at
from pruninfersim.stacks import Stack
from pruninfersim.workload import Logits, Workload

if TYPE_CHECKING:
    import pandas as pd

#: How far the time may be above the least one, so that the solver need not tell apart what no kernel does [1].
GAP = 1e-3


@door
def align_widths(
    model: str | ModelConfig,
    workload: Workload | None = None,
    *,
    hardware: HardwareProfile | str,
    widths: ArrayLike,
    within: float = 0.1,
    slack: float = 0.01,
    step: int = 16,
    phase: str = "prefill",
    batch: float = 1,
    context: float = CONTEXT,
    stack: str | Stack | CostModel = "vendor",
    dtype: str | None = None,
    logits: Logits | None = None,
    **other: Never,
) -> pd.DataFrame:
    """Return the FFN width of each layer that makes all MLPs together fastest, for the parameters of the wanted widths.

    A pruning tool asks for a width per layer; kernels like some widths better than others. Each layer may move to a
    nearby one, all of them together may not grow, and may not shrink by more than `slack`: what one layer loses another
    one gains. An integer programme, solved by scipy's milp to 0.1 % of the time. The problem is that of GAC (aligned
    dimensions of all layers under one parameter budget); there the importance of the layers is kept, here the time is
    made least, which a cost model can do.

    Parameters
    ----------
    model : str or ModelConfig
    workload : Workload, optional
        A single one; default is that of `phase`, `batch`, `context`, `logits`.
    widths : array_like, shape (layer,)
        Wanted FFN widths; one number stands for all layers [features].
    within : float
        A layer may have a width from ``wanted * (1 - within)`` to ``wanted * (1 + within)`` [1].
    slack : float
        Share of the parameters that may go unused [1].
    step : int
        Widths are multiples of this, or the wanted ones [features].

    Returns
    -------
    DataFrame
        One row per layer: layer, wanted, width, parameters, wanted_parameters, seconds, wanted_seconds. Their sums are
        what the budget and the time of all MLPs are about.

    Raises
    ------
    InvalidInputError
        If the workload is a sweep, there is not one width per layer, or the model has no dense FFN.

    >>> table = align_widths("llama-3.2-1b", Workload.prefill(1, 2048), hardware="h100-sxm", widths=5321)
    >>> bool(table.seconds.sum() <= table.wanted_seconds.sum()), bool(table.width.mean() <= 5321)
    (True, True)
    """
    import pandas as pd
    from scipy.optimize import Bounds, LinearConstraint, milp

    refuse(align_widths, other)
    setup = Setup(model, hardware, stack, dtype)
    workload = setup.workload(phase, batch, context, logits) if workload is None else workload
    if workload.shape:
        raise InvalidInputError(f"give a single workload; this one is a sweep of shape {workload.shape}")
    near, spare = (
        float(checked(name, value, minimum=0, below=1)) for name, value in (("within", within), ("slack", slack))
    )
    checked("step", step, minimum=1, below=WIDEST, whole=True)
    layers = setup.model.num_layers
    given = checked("widths", widths, minimum=step, below=WIDEST)
    if given.shape not in ((), (layers,)):
        raise InvalidInputError(f"need one width per layer, shape ({layers},), or one for all; got shape {given.shape}")
    wanted = np.broadcast_to(given, (layers,))
    # Layers that want the same width are counted, not told apart.
    kinds, kind, size = np.unique(wanted, return_inverse=True, return_counts=True)
    choices = [
        np.unique(np.append(np.arange(np.ceil(w * (1 - near) / step), np.floor(w * (1 + near) / step) + 1) * step, w))
        for w in kinds
    ]
    pool = np.concatenate(choices)
    owner = np.repeat(np.arange(len(kinds)), [len(each) for each in choices])
    one = setup.trace(workload).unfold()
    first = (
        next(row for row, name in zip(one.layers, one.name, strict=True) if name == "down")
        if "down" in one.name
        else ()
    )
    seconds, weights = mlp_at(setup, one.select([row == first for row in one.layers]), pool)
    asked = pool == kinds[owner]
    budget = float((weights[asked] * size).sum())
    found = milp(
        seconds / seconds.max(),
        constraints=[
            LinearConstraint((owner == np.arange(len(kinds))[:, None]).astype(float), size, size),
            LinearConstraint(weights / budget, 1.0 - spare, 1.0),
        ],
        integrality=np.ones(len(pool)),
        bounds=Bounds(0.0, size[owner].astype(float)),
        options={"mip_rel_gap": GAP},
    )
    counts = np.rint(found.x).astype(int)
    chosen = np.empty(layers, dtype=np.intp)
    for each in range(len(kinds)):  # of layers that want the same, the first get the wider ones
        mine = np.flatnonzero(owner == each)[::-1]
        chosen[kind.reshape(-1) == each] = np.repeat(mine, counts[mine])
    was = np.flatnonzero(asked)[kind.reshape(-1)]
    return pd.DataFrame(
        {
            "layer": np.arange(layers),
            "wanted": wanted,
            "width": pool[chosen],
            "parameters": weights[chosen],
            "wanted_parameters": weights[was],
            "seconds": seconds[chosen],
            "wanted_seconds": seconds[was],
        }
    )
