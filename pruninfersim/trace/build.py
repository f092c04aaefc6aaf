"""The dense trace of a model on a workload."""

from __future__ import annotations

import math

from numpy.typing import ArrayLike

from pruninfersim import models
from pruninfersim._util.defaults import CONTEXT
from pruninfersim._util.doors import door
from pruninfersim.errors import InvalidInputError
from pruninfersim.models import ModelConfig
from pruninfersim.trace.optrace import OpTrace
from pruninfersim.workload import Logits, Workload

#: Most points of a workload that are priced at once: a column of their times takes a gigabyte.
MOST_POINTS = 10**7


@door
def trace(
    model: ModelConfig | str,
    workload: Workload | None = None,
    *,
    dtype: str | None = None,
    phase: str | None = None,
    batch: ArrayLike | None = None,
    context: ArrayLike | None = None,
    logits: Logits | None = None,
) -> OpTrace:
    """Return the dense op trace of one forward pass.

    Parameters
    ----------
    model : ModelConfig or str
        A configuration, or the name of a shipped one.
    workload : Workload
        Array fields are sweep axes.
    phase, batch, context, logits : optional
        In place of the workload, as `Workload.of` takes them: batch 1, context 1024, logits "last" by default.
    dtype : str, optional
        Precision of the linear layers (see `pruninfersim.hardware.precision`); default is the model's own.

    Returns
    -------
    OpTrace
        Columns broadcast to ``(*workload.shape, op)``.

    Raises
    ------
    UnknownNameError
        If the model or dtype is not known.
    InvalidInputError
        If there is neither a workload nor a phase, or both.

    >>> from pruninfersim.workload import Workload
    >>> dense = trace("llama-3.1-8b", Workload.decode(batch=1, context=4096))
    >>> weights = dense.select(dense.mask(kernels=["gemm", "lm_head"]))
    >>> float((weights.b_traffic * weights.count).sum()) / 1e9
    15.009316864
    """
    words = {"phase": phase, "batch": batch, "context": context, "logits": logits}
    said = [word for word, value in words.items() if value is not None]
    if workload is not None and said:
        raise InvalidInputError(f"the workload says {said[0]} already; leave one of the two out")
    if workload is None:
        if phase is None:
            raise InvalidInputError("trace needs a workload, for instance Workload.decode(batch=16), or phase='decode'")
        workload = Workload.of(
            phase, 1 if batch is None else batch, CONTEXT if context is None else context, logits or "last"
        )
    points = math.prod(workload.shape) if isinstance(workload, Workload) else 0
    if points > MOST_POINTS:
        raise InvalidInputError(f"{points:.3g} points at once are too many; pruninfersim.sweep takes them in pieces")
    config = models.get(model)
    rows = config.rows(workload, config.dtype if dtype is None else dtype)
    return OpTrace.from_rows(rows, model=config, workload=workload)
