"""Which width to take: FFN widths that fall on tile and wave edges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Never

import numpy as np

from pruninfersim._util.arrays import FloatArray, among, checked
from pruninfersim._util.defaults import CONTEXT
from pruninfersim._util.doors import door
from pruninfersim._util.words import refuse
from pruninfersim.cost import CostModel
from pruninfersim.errors import InvalidInputError
from pruninfersim.hardware import HardwareProfile
from pruninfersim.models import ModelConfig
from pruninfersim.questions.setup import Setup
from pruninfersim.stacks import Stack
from pruninfersim.trace import OpTrace, layer_weights
from pruninfersim.workload import Logits, Workload

if TYPE_CHECKING:
    import pandas as pd

#: First width of an MLP that no model will ever have [features].
WIDEST = 1e7
#: A width lies on an edge if the next one adds more than this many times its share of channels in time.
EDGE = 2.0


@door
def suggest_width(
    model: str | ModelConfig,
    workload: Workload | None = None,
    *,
    hardware: HardwareProfile | str,
    width: float,
    phase: str = "prefill",
    batch: float = 1,
    context: float = CONTEXT,
    within: float = 0.1,
    step: int = 16,
    stack: str | Stack | CostModel = "vendor",
    dtype: str | None = None,
    logits: Logits | None = None,
    **other: Never,
) -> pd.DataFrame:
    """Return FFN widths near a wanted one that fall on tile and wave edges, with what each buys.

    A width is worth naming if it is the last one before an edge: no larger one is as fast, and the next one costs more
    than twice its share of channels. Where time is smooth in the width (memory-bound decode) there is none, and only
    the wanted width comes back.

    Parameters
    ----------
    model : str or ModelConfig
    workload : Workload, optional
        A single one; default is that of `phase`, `batch`, `context`, `logits`.
    width : float
        Wanted FFN width [features].
    within : float
        Search from ``width * (1 - within)`` to ``width * (1 + within)`` [1].
    step : int
        Widths are multiples of this [features].

    Returns
    -------
    DataFrame
        Columns width, mlp_seconds (gate, up and down of all layers), change (of that time against the wanted
        width), channels (against it), sorted by width.

    Raises
    ------
    InvalidInputError
        If the workload is a sweep or the width is not positive.

    >>> table = suggest_width("llama-3.1-8b", Workload.prefill(1, 2048), hardware="h100-sxm", width=7168,
    ...                       within=0.02, stack="ideal")
    >>> bool(table.width.between(7168 * 0.98, 7168 * 1.02).all())
    True
    """
    import pandas as pd

    refuse(suggest_width, other)
    setup = Setup(model, hardware, stack, dtype)
    workload = setup.workload(phase, batch, context, logits) if workload is None else workload
    if workload.shape:
        raise InvalidInputError(f"give a single workload; this one is a sweep of shape {workload.shape}")
    checked("step", step, minimum=1, below=WIDEST, whole=True)
    checked("within", within, minimum=0, below=1)
    wanted = float(checked("width", width, minimum=step, below=WIDEST))
    first, last = np.ceil(wanted * (1 - within) / step), np.floor(wanted * (1 + within) / step)
    widths = np.unique(np.append(np.arange(max(first, 1), last + 1) * step, wanted))
    seconds = mlp_at(setup, setup.trace(workload), widths)[0]
    later = np.minimum.accumulate(np.append(seconds[1:], np.inf)[::-1])[::-1]
    here = seconds[widths == wanted][0]
    frame = pd.DataFrame(
        {"width": widths, "mlp_seconds": seconds, "change": seconds / here - 1.0, "channels": widths / wanted - 1.0}
    )
    # The step after an edge costs more than its channels; the last width has no step to judge by.
    edge = np.append(seconds[1:] / seconds[:-1] - 1.0 > EDGE * (widths[1:] / widths[:-1] - 1.0), False)
    kept: pd.DataFrame = frame[(edge & (seconds < later)) | (widths == wanted)].reset_index(drop=True)
    return kept


def mlp_at(setup: Setup, ops: OpTrace, widths: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the time [s] and the weights [1] of gate, up and down of a trace at some FFN widths, each (width,).

    Raises
    ------
    InvalidInputError
        If the trace has none of them, as that of a mixture of experts.
    """
    mlp = ops.select(ops.mask(names=["gate", "up", "down"]))
    if not len(mlp):
        raise InvalidInputError("there is no dense MLP in this model, so that it has no width to choose")
    ffn_n, ffn_k = among(mlp.n_axis, ["ffn"]), among(mlp.k_axis, ["ffn"])
    wide = mlp.with_columns(n=np.where(ffn_n, widths[:, None], mlp.n), k=np.where(ffn_k, widths[:, None], mlp.k))
    return setup.estimate(wide).total, layer_weights(wide).sum(axis=-1)
