"""Any stack on several GPUs: it launches what one rank runs, and the all-reduces between the sub-layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from pruninfersim._util.doors import door
from pruninfersim.cost import CostModel
from pruninfersim.cost.model import Lowering
from pruninfersim.cost.sharding import shard
from pruninfersim.trace import OpTrace


@door
def parallel(cost_model: CostModel, tp: int = 1, ep: int = 1) -> CostModel:
    """Return a cost model whose traces are split over `tp` GPUs, experts over `ep` groups of them.

    Raises
    ------
    InvalidInputError
        If `ep` does not divide `tp`.

    >>> from pruninfersim import hardware, stacks
    >>> split = parallel(stacks.get("vendor", hardware.get("h100-sxm")), tp=4)
    >>> split.stack, split.gpus
    ('vendor, tp 4', 4)
    """
    shard(OpTrace.from_rows([{}]), tp, ep)  # says what is wrong with the numbers
    if isinstance(cost_model, CostModel) and tp == ep == 1:
        return cost_model
    label = f", tp {tp}" + (f", ep {ep}" if ep > 1 else "")
    return replace(
        cost_model,
        stack=cost_model.stack + label,
        gpus=cost_model.gpus * tp,
        lower=partial(_lowered, cost_model.lower, tp, ep),
        calibrated=cost_model.calibrated and partial(_calibrated, cost_model, tp, ep),
    )


def _lowered(lower: Lowering, tp: int, ep: int, trace: OpTrace) -> OpTrace:
    return lower(shard(trace, tp, ep))


def _calibrated(cost_model: CostModel, tp: int, ep: int, calibrations: Sequence[Any]) -> CostModel:
    return parallel(cost_model.with_calibrations(*calibrations), tp, ep)
