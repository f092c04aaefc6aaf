"""What is left to gain: how fast can it get with better kernels, and how good must they be?"""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Unpack

import numpy as np

from pruninfersim._util.arrays import Answer, FloatArray, checked, ends
from pruninfersim._util.doors import door
from pruninfersim.cost import scalar
from pruninfersim.errors import InvalidInputError
from pruninfersim.questions.answers import Side, sides
from pruninfersim.questions.comparison import Speedup
from pruninfersim.questions.vocabulary import Question
from pruninfersim.trace import twins

#: Fields of `Headroom` -> what each supposes, for its table.
HEADROOM = {
    "estimated": "all kernels run as this stack has them",
    "perfect_changed": "the kernels of the changed ops run at their roofline",
    "perfect_all": "every kernel runs at its roofline, at the highest clock, and elementwise work is fused (the bound)",
    "amdahl": "the changed ops take no time but their launches",
}


@dataclass(frozen=True, eq=False, repr=False)
class Headroom(Answer):
    """What is left to gain for a pruned model.

    Attributes
    ----------
    estimated : float or ndarray, shape (*sweep)
        Speedup that the stack delivers [1].
    perfect_changed : float or ndarray
        If the kernels of the changed ops ran at their roofline, and the rest as it does: `Speedup.headroom` [1].
    perfect_all : float or ndarray
        If every kernel ran at its roofline, at the highest clock, and elementwise work were fused: the ``bound`` [1].
    amdahl : float or ndarray
        If the changed ops took no time but their launches: what the untouched part leaves [1].
    """

    estimated: FloatArray | float
    perfect_changed: FloatArray | float
    perfect_all: FloatArray | float
    amdahl: FloatArray | float

    def __repr__(self) -> str:
        parts = [f"{name} {ends(getattr(self, name), '.2f')}" for name in HEADROOM]
        return f"<Headroom: {', '.join(parts)}>"

    def _repr_html_(self) -> str:
        if np.ndim(self.estimated):
            return f"<pre>{html.escape(repr(self))}</pre>"
        cells = "".join(
            f"<tr><th>{name}</th><td>{float(getattr(self, name)):.3f}</td><td>{meaning}</td></tr>"
            for name, meaning in HEADROOM.items()
        )
        return f"<table><caption>Speedup if</caption>{cells}</table>"


@door
def max_speedup(
    dense: Side | Speedup | None = None, pruned: Side | None = None, **question: Unpack[Question]
) -> Headroom:
    """Return what better kernels could still gain, and what the untouched part of the model forbids.

    Parameters
    ----------
    dense, pruned : OpTrace, Estimate or model
        As in `pruninfersim.compare`; or a `Speedup` alone.
    **question
        Keywords of `pruninfersim.speedup`.

    Raises
    ------
    UnknownNameError, MissingValueError, InvalidInputError
        As `pruninfersim.compare`.

    >>> from pruninfersim import Workload, pruning, trace
    >>> dense = trace("llama-3.1-8b", Workload.decode())
    >>> room = max_speedup(dense, dense.prune(pruning.SemiStructured()), hardware="h100-sxm", stack="ideal")
    >>> bool(1.6 < room.perfect_changed < 1.7 < room.amdahl)
    True
    """
    result, rest, _ = _split(sides("max_speedup", dense, pruned, question))
    total = np.asarray(result.dense.latency)
    return Headroom(
        result.estimated,
        result.headroom,
        result.bound,
        scalar(np.divide(total, rest, out=np.full(rest.shape, np.inf), where=rest > 0)),
    )


@door
def required_efficiency(
    target: float | None = None,
    dense: Side | Speedup | None = None,
    pruned: Side | None = None,
    **question: Unpack[Question],
) -> FloatArray | float:
    """Return the share of its roofline that your kernel must reach for a target end-to-end speedup.

    "Your kernel" is every op that pruning changed or added; launch gaps and all other ops stay as the stack has them.

    Parameters
    ----------
    target : float
        Speedup wanted over the dense model [1].
    dense, pruned : OpTrace, Estimate or model
        As in `pruninfersim.compare`; or a `Speedup` alone.
    **question
        Keywords of `pruninfersim.speedup`: `hardware` and `stack` of two traces, or the whole question by names.

    Returns
    -------
    float or ndarray, shape (*sweep) [1]
        Above 1 where no kernel can do it, infinite where the untouched part alone takes too long.

    Raises
    ------
    InvalidInputError
        If the target is missing or not positive, or the question is not one.

    >>> from pruninfersim import Workload, pruning, trace
    >>> dense = trace("llama-3.1-8b", Workload.decode())
    >>> pruned = dense.prune(pruning.SemiStructured())
    >>> 0.7 < required_efficiency(1.4, dense, pruned, hardware="h100-sxm", stack="ideal") < 0.85
    True
    """
    if target is None or not isinstance(target, int | float | np.generic):
        raise InvalidInputError("required_efficiency needs the speedup that you want first, for instance 1.3")
    wanted = float(checked("target", target, minimum=1e-9))
    result, rest, perfect = _split(sides("required_efficiency", dense, pruned, question))
    budget = np.asarray(result.dense.latency) / wanted - rest
    return scalar(np.where(budget > 0, perfect / np.where(budget > 0, budget, 1.0), np.inf))


def _split(result: Speedup) -> tuple[Speedup, FloatArray, FloatArray]:
    """Return the comparison, the time that better kernels cannot touch, and the roofline of the changed ops [s]."""
    after, changed = result.pruned, ~twins(result.dense.trace, result.pruned.trace)[0]
    waits = 0.0 if after.chain is None else after.chain.wait
    rest = (after.trace.count * (after.gap - waits + np.where(changed, 0.0, after.run))).sum(axis=-1)
    if after.chain is not None:  # a host that is behind stays so, whatever the kernels
        rest = np.maximum(rest, after.chain.seconds)
    return result, np.asarray(rest), np.asarray(np.where(changed, after.roofline_seconds, 0.0).sum(axis=-1))
