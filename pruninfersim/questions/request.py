"""A request as its user sees it: time to the first token, time per token, total, tokens per second."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Never, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pruninfersim import pruning
from pruninfersim._util.arrays import FloatArray, checked
from pruninfersim._util.defaults import CONTEXT, NEW_TOKENS
from pruninfersim._util.doors import door
from pruninfersim._util.words import refuse
from pruninfersim.cost import CostModel, Estimate, scalar
from pruninfersim.errors import InvalidInputError, shown
from pruninfersim.hardware import HardwareProfile
from pruninfersim.models import ModelConfig
from pruninfersim.pruning import Axis, Method, Ratio
from pruninfersim.questions.prices import of_a_million
from pruninfersim.questions.setup import Setup
from pruninfersim.questions.table import plain
from pruninfersim.questions.vocabulary import needs_method
from pruninfersim.stacks import Stack
from pruninfersim.trace import OpTrace
from pruninfersim.workload import RequestWorkload, Workload

if TYPE_CHECKING:
    import pandas as pd

#: Keywords of `request`.
KEYWORDS = (
    "model", "hardware", "stack", "batch", "prompt", "new_tokens", "method", "sparsity", "prefill_method",
    "decode_method", "dtype", "clients", "tp",
)  # fmt: skip
#: Contexts that stand for all of a request if max(host, GPU) bends on the way.
CONTEXTS = 32
#: One number, or one for each point of a sweep.
Numbers: TypeAlias = "FloatArray | float"


@dataclass(frozen=True, eq=False, repr=False)
class Request:
    """Times of one request, or of a batch of equal ones that start together.

    Of a sparsity that is an array, the times have its shape, (*sweep).

    Attributes
    ----------
    ttft : float or ndarray
        Time to the first token: front end and prefill, with nobody before it in the queue [s].
    tpot : float or ndarray
        Time per output token after the first [s]; with clients it holds the prefills of the others.
    total : float or ndarray
        From the request to its last token [s].
    tokens_per_second : float or ndarray
        Output of all sequences [1/s].
    interval : tuple of two
        90 % prediction interval of `total` [s]; ttft_interval and tpot_interval are those of the parts.
    batch, new_tokens : float
    tp : int
        GPUs that the model is split over; energy and price are those of all.
    prefill, step : Estimate
        The prompt, and the decode step at the middle of the contexts; what the intervals cover is in their notes.
    """

    ttft: Numbers
    tpot: Numbers
    total: Numbers
    tokens_per_second: Numbers
    interval: tuple[Numbers, Numbers]
    ttft_interval: tuple[Numbers, Numbers]
    tpot_interval: tuple[Numbers, Numbers]
    batch: float
    new_tokens: float
    prefill: Estimate = field(repr=False)
    step: Estimate = field(repr=False)
    tp: int = 1

    @property
    def fits(self) -> NDArray[np.bool_] | bool:
        """Whether weights and KV cache of the batch fit into the memory of the GPU at the middle of the request."""
        return self.step.fits

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know before quoting the times."""
        covers = (
            "the interval covers kernels and the engine's own time"
            if self.step.chain is not None
            else "the interval covers kernels only: this stack has no host, no scheduler and no front end"
        )
        return tuple(dict.fromkeys([covers, *self.prefill.notes, *self.step.notes]))

    @property
    def joules_per_token(self) -> Numbers | None:
        """Energy of an output token if every GPU drew its TDP all the time: an upper bound [J]; None without it."""
        tdp = self.step.hardware.tdp
        return None if tdp is None else self.tp * tdp / self.tokens_per_second

    def price(self, per_hour: float) -> Numbers:
        """Return the price of a million output tokens if each GPU costs `per_hour`, in the same currency."""
        hourly = float(checked("the price of an hour", per_hour))
        if not hourly > 0:
            raise InvalidInputError(f"the price of an hour must be above 0; got {shown(per_hour)}")
        return of_a_million(hourly, self.tokens_per_second, self.tp)  # type: ignore[no-any-return]

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain floats, or lists of them, ready for JSON."""
        return plain(  # type: ignore[no-any-return]
            {
                "stack": self.step.stack,
                "hardware": self.step.hardware.name,
                "ttft": self.ttft,
                "tpot": self.tpot,
                "total": self.total,
                "tokens_per_second": self.tokens_per_second,
                "interval": list(self.interval),
                "ttft_interval": list(self.ttft_interval),
                "tpot_interval": list(self.tpot_interval),
                "joules_per_token_at_tdp": self.joules_per_token,
                "fits": self.fits,
                "notes": list(self.notes),
            }
        )

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each point: the numbers of `to_dict`, the ends of the total as ``low`` and ``high``."""
        import pandas as pd

        numbers = {name: getattr(self, name) for name in ("ttft", "tpot", "total", "tokens_per_second", "fits")}
        numbers |= {"joules_per_token_at_tdp": self.joules_per_token, "low": self.interval[0], "high": self.interval[1]}
        flat = {name: np.broadcast_to(value, np.shape(self.total)).reshape(-1) for name, value in numbers.items()}
        return pd.DataFrame({"stack": self.step.stack, "hardware": self.step.hardware.name, **flat})

    def __repr__(self) -> str:
        if np.ndim(self.total):
            totals = np.asarray(self.total)
            where = f"{self.step.stack} on {self.step.hardware.name}"
            return f"<Request {where}: sweep {totals.shape}, total {totals.min():.4g} to {totals.max():.4g} s>"
        low, high = self.interval
        return (
            f"<Request {self.step.stack} on {self.step.hardware.name}: TTFT {self.ttft * 1e3:.4g} ms, TPOT "
            f"{self.tpot * 1e3:.4g} ms, total {self.total:.4g} s [{low:.4g}, {high:.4g}], "
            f"{self.tokens_per_second:.4g} tokens/s>"
        )


@door
def request(
    *,
    model: str | ModelConfig,
    hardware: str | HardwareProfile,
    stack: str | Stack | CostModel = "vendor",
    batch: int = 1,
    prompt: int = CONTEXT,
    new_tokens: int = NEW_TOKENS,
    method: Method | None = None,
    sparsity: Ratio | None = None,
    prefill_method: Method | None = None,
    decode_method: Method | None = None,
    dtype: str | None = None,
    clients: int | None = None,
    tp: int = 1,
    **other: Never,
) -> Request:
    """Return the times of a request: one prefill, and a decode step for every further token.

    The context grows from step to step; one step at its middle stands for all, which is within 1 % of the exact sum.
    Where a host issues the kernels one by one, and is overtaken by the GPU on the way, several contexts do.

    Parameters
    ----------
    model, hardware : str or object
    stack : str, callable or CostModel
        An engine, such as "vllm" or ``pis.stacks.engine("vllm", host="fast")``; "vendor" is kernels only.
    batch : int
        Equal requests that start together.
    prompt, new_tokens : int
        Tokens per request.
    method : str, method object, or a sequence of them, optional
        Pruning of both phases; without one the model is dense.
    sparsity : Ratio, optional
        Of methods given by name [1]; an array is a sweep.
    prefill_method, decode_method : optional
        Pruning of one phase only, in place of `method`.
    dtype : str, optional
        Precision of the linear layers.
    clients : int, optional
        Closed loop: so many clients each send the next request when the last one is done, so that a token also waits
        for the prefills of the others. Takes the place of `batch`. TTFT stays that of a request alone: under load it
        is a queue, which nothing here predicts.
    tp : int
        GPUs over which the model is split (tensor parallelism).

    Raises
    ------
    UnknownNameError, InvalidInputError, MissingValueError
        For unknown names, values out of range, figures that a profile lacks.

    >>> asked = request(model="llama-3.1-8b", hardware="h100-sxm", stack="ideal", prompt=2048, new_tokens=256)
    >>> asked.to_frame().shape[0]
    1
    >>> 1.1 < asked.total < 1.3, asked.interval[0] <= asked.total <= asked.interval[1]
    (True, True)
    """
    refuse(request, other)
    needs_method(method or prefill_method or decode_method, sparsity)
    if clients is not None and batch != 1:
        raise InvalidInputError(f"give either batch ({batch}) or clients ({clients}), not both")
    setup = Setup(model, hardware, stack, dtype)
    served = setup.stack
    if served.serving.lower is not None:
        served = replace(served, lower=served.serving.lower)
    setup = Setup(setup.model, setup.hardware, served, dtype, tp)
    together = batch if clients is None else clients
    work = Workload.request(together, prompt, new_tokens)
    alone = work.prefill if clients is None else Workload.prefill(batch=1, tokens=prompt)
    prefill = setup.estimate(_pruned(setup.trace(alone), prefill_method or method, sparsity))
    step = setup.estimate(_pruned(setup.trace(work.middle), decode_method or method, sparsity))
    every = _mean_step(setup, step, work, decode_method or method, sparsity)
    serving, steps = setup.stack.serving, float(work.steps)
    front = serving.front + serving.front_token * prompt
    others = 0.0 if clients is None else (clients - 1.0) / new_tokens

    def times(first: Numbers, each: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """TTFT, TPOT and total of a prefill and a step [s]."""
        tpot = each + others * first
        return front + first, tpot, front + first + steps * tpot

    ttft, tpot, total = times(prefill.latency, every[0])
    ends = [times(prefill.interval[side], every[1 + side]) for side in (0, 1)]
    return Request(
        ttft=ttft,
        tpot=tpot,
        total=total,
        tokens_per_second=clients / tpot if clients is not None else together * new_tokens / total,
        interval=(ends[0][2], ends[1][2]),
        ttft_interval=(ends[0][0], ends[1][0]),
        tpot_interval=(ends[0][1], ends[1][1]),
        batch=float(together),
        new_tokens=float(new_tokens),
        prefill=prefill,
        step=step,
        tp=setup.stack.gpus,
    )


def _mean_step(
    setup: Setup, step: Estimate, work: RequestWorkload, method: Method | None, sparsity: Ratio | None
) -> tuple[Numbers, Numbers, Numbers]:
    """Return the mean time of a step over the contexts of a request, and its interval [s]."""
    one = step.latency, *step.interval
    if step.chain is None or not np.any(step.chain.launches):  # linear in the context, almost everywhere
        return one
    points = int(min(float(work.steps), CONTEXTS))
    if points < 2:
        return one
    first = float(work.prefill.context)
    contexts = np.round(first + 0.5 + (np.arange(points) + 0.5) * float(work.steps) / points)
    steps = Workload.decode(batch=work.middle.batch, context=contexts)
    if np.ndim(step.total):  # contexts are the last axis, behind those of the sparsity
        sparsity = Axis(np.asarray(sparsity, dtype=np.float64)[..., None])
    many = setup.estimate(_pruned(setup.trace(steps), method, sparsity))
    mean, low, high = (scalar(np.mean(side, axis=-1)) for side in (many.total, *many.interval))
    return mean, low, high


def _pruned(trace: OpTrace, method: Method | None, sparsity: Ratio | None) -> OpTrace:
    return trace if method is None else trace.prune(pruning.resolve(method, sparsity))


def exact_steps(
    setup: Setup, work: RequestWorkload, method: Method | None = None, sparsity: Ratio | None = None
) -> float:
    """Return the time of all decode steps of a request, context by context [s]: the slow oracle of `request`."""
    first = float(work.prefill.context)
    contexts = first + 1.0 + np.arange(int(work.steps))
    steps = Workload.decode(batch=float(work.middle.batch), context=contexts)
    return float(np.sum(setup.estimate(_pruned(setup.trace(steps), method, sparsity)).total))
