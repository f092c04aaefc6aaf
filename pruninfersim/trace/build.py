"""The dense trace of a model on a workload."""

from __future__ import annotations

from pruninfersim import models
from pruninfersim.models import ModelConfig
from pruninfersim.trace.optrace import OpTrace
from pruninfersim.workload import Workload


def trace(model: ModelConfig | str, workload: Workload, *, dtype: str | None = None) -> OpTrace:
    """Return the dense op trace of one forward pass.

    Parameters
    ----------
    model : ModelConfig or str
        A configuration, or the name of a shipped one.
    workload : Workload
        Array fields are sweep axes.
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

    >>> from pruninfersim.workload import Workload
    >>> dense = trace("llama-3.1-8b", Workload.decode(batch=1, context=4096))
    >>> weights = dense.select(dense.mask(kernels=["gemm", "lm_head"]))
    >>> float((weights.b_traffic * weights.count).sum()) / 1e9
    15.009316864
    """
    config = models.get(model)
    rows = config.rows(workload, dtype or config.dtype)
    return OpTrace.from_rows(rows, model=config, workload=workload)
