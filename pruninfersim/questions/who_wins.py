"""Who wins where: every pair of methods over batch and context, with the cells that the error bands leave open."""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Never

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim import pruning
from pruninfersim._util.arrays import FloatArray
from pruninfersim._util.doors import door
from pruninfersim._util.lazy import drawn
from pruninfersim._util.words import refuse
from pruninfersim.cost import CostModel
from pruninfersim.errors import InvalidInputError
from pruninfersim.hardware import HardwareProfile
from pruninfersim.models import ModelConfig
from pruninfersim.pruning import Method
from pruninfersim.questions.comparison import compare_estimates
from pruninfersim.questions.setup import Setup
from pruninfersim.questions.table import case_of
from pruninfersim.questions.vocabulary import one_only
from pruninfersim.stacks import Stack
from pruninfersim.workload import Logits

if TYPE_CHECKING:
    import pandas as pd

#: The model without pruning, as a side of a pair.
DENSE = "dense"
#: Batches and contexts where nobody says.
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
CONTEXTS = (512, 1024, 2048, 4096, 8192, 16384, 32768)


@dataclass(frozen=True, eq=False, repr=False)
class WhoWins:
    """Pairs of methods over batch and context.

    Attributes
    ----------
    pairs : tuple of (str, str)
    batch, context : ndarray, shape (batch,) and (context,)
    ratio, low, high : ndarray, shape (pair, batch, context)
        Time of the second side over that of the first, and its 90 % interval: above 1 the first one wins [1].
    case : str
        Model, GPU, software.
    """

    pairs: tuple[tuple[str, str], ...]
    batch: FloatArray
    context: FloatArray
    ratio: FloatArray
    low: FloatArray
    high: FloatArray
    case: str

    @property
    def winner(self) -> np.ndarray:
        """Who wins, shape (pair, batch, context); empty where the interval of the ratio holds 1."""
        names = np.array(self.pairs)[:, :, None, None]
        sure = np.where(self.low > 1.0, names[:, 0], np.where(self.high < 1.0, names[:, 1], ""))
        return np.asarray(sure)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per pair, batch and context."""
        import pandas as pd

        pair, batch, context = (index.reshape(-1) for index in np.indices(self.ratio.shape))
        return pd.DataFrame(
            {
                "first": [self.pairs[i][0] for i in pair],
                "second": [self.pairs[i][1] for i in pair],
                "batch": self.batch[batch],
                "context": self.context[context],
                "ratio": self.ratio.reshape(-1),
                "low": self.low.reshape(-1),
                "high": self.high.reshape(-1),
                "winner": self.winner.reshape(-1),
            }
        )

    def plot(self, **options: Any) -> Any:
        """Return a plotly figure: one map over batch and context for each pair."""
        return drawn(self, None, options)

    def __repr__(self) -> str:
        cells = f"{len(self.batch)} batches and {len(self.context)} contexts"
        return f"<WhoWins of {len(self.pairs)} pairs over {cells}, {self.case}>"

    def __str__(self) -> str:
        lines = [self.case]
        for (first, second), names in zip(self.pairs, self.winner, strict=True):
            share = [float((names == name).mean()) for name in (first, second, "")]
            lines.append(f"{first} wins {share[0]:.0%}, {second} {share[1]:.0%}, open {share[2]:.0%} of the cells")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


@door
def who_wins(
    methods: Iterable[Method],
    *,
    model: str | ModelConfig | None = None,
    hardware: str | HardwareProfile | None = None,
    stack: str | Stack | CostModel = "vendor",
    phase: str = "decode",
    sparsity: float = 0.5,
    batch: ArrayLike = BATCHES,
    context: ArrayLike = CONTEXTS,
    dtype: str | None = None,
    logits: Logits | None = None,
    tp: int = 1,
    ep: int = 1,
    **other: Never,
) -> WhoWins:
    """Return who wins in every pair of methods, over batch and context.

    Parameters
    ----------
    methods : two or more methods
        Names take the sparsity; "dense" is the model without pruning.
    batch, context : array_like, shape (batch,) and (context,)
    model, hardware, stack, phase, sparsity, dtype, logits, tp, ep : as in `pruninfersim.speedup`

    Raises
    ------
    UnknownNameError, InvalidInputError, MissingValueError

    >>> found = who_wins(["static-depth", "dynamic-depth", "dense"], model="llama-3.1-8b", hardware="h100-sxm",
    ...                  stack="ideal", batch=[1, 64], context=[1024, 8192])
    >>> found.pairs[0], found.winner[0].tolist()
    (('static-depth', 'dynamic-depth'), [['static-depth', 'static-depth'], ['static-depth', 'static-depth']])
    """
    refuse(who_wins, other)
    if model is None or hardware is None:
        raise InvalidInputError("who_wins needs a model and a GPU: who_wins([...], model='llama-3.1-8b', hardware=...)")
    one_only("who_wins", model=model, hardware=hardware, stack=stack, dtype=dtype, phase=phase)
    setup = Setup(model, hardware, stack, dtype, tp, ep)
    batches, contexts = (np.atleast_1d(np.asarray(values, dtype=float)) for values in (batch, context))
    if batches.ndim != 1 or contexts.ndim != 1:
        raise InvalidInputError("batch and context are each a list, which are crossed")
    dense = setup.trace(setup.workload(phase, batches[:, None], contexts, logits))
    sides = [None if isinstance(each, str) and each == DENSE else pruning.at(each, sparsity) for each in methods]
    names = [DENSE if side is None else side.name for side in sides]
    if len(names) < 2 or len(set(names)) < len(names):
        raise InvalidInputError(f"who_wins needs two or more different methods; got {', '.join(names) or 'none'}")
    if any(side is not None and np.ndim(getattr(side, "sparsity", 0.0)) for side in sides):
        raise InvalidInputError("who_wins asks for one sparsity; give one number, or a method with a ratio of its own")
    steps = [setup.estimate(dense if side is None else dense.prune(side)) for side in sides]
    pairs = list(itertools.combinations(range(len(names)), 2))
    shape = (len(batches), len(contexts))
    found = [compare_estimates(steps[second], steps[first]) for first, second in pairs]
    ratio, low, high = (
        np.array([np.broadcast_to(np.asarray(value), shape) for value in values])
        for values in ([r.estimated for r in found], [r.interval[0] for r in found], [r.interval[1] for r in found])
    )
    case = case_of(dense, setup.hardware, setup.stack.stack)
    return WhoWins(tuple((names[a], names[b]) for a, b in pairs), batches, contexts, ratio, low, high, case)
