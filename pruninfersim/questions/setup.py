"""The noun that every question needs: a model on a GPU, run by a software stack, in a precision."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass

from numpy.typing import ArrayLike

from pruninfersim import hardware as hardware_registry
from pruninfersim import models, pruning, stacks
from pruninfersim.cost import CostModel, Estimate
from pruninfersim.errors import InvalidInputError, ProvenanceWarning
from pruninfersim.hardware import HardwareProfile
from pruninfersim.models import ModelConfig
from pruninfersim.pruning import Method, Ratio
from pruninfersim.questions.checkpoints import both_traces
from pruninfersim.questions.comparison import Speedup, compare_estimates, evidence_notes
from pruninfersim.stacks import Stack
from pruninfersim.trace import OpTrace, trace
from pruninfersim.workload import Logits, Workload


@dataclass(frozen=True, eq=False, repr=False)
class Setup:
    """A model on a GPU, with the software and the precision that it runs in.

    Attributes
    ----------
    model : ModelConfig
        Or a name, or the path of a ``config.json``.
    hardware : HardwareProfile
        Or a name, or the path of a ``.toml`` profile.
    stack : CostModel
        Or a name, or a function from a GPU to a cost model.
    dtype : str
        Precision of the linear layers; default is the model's own.
    tp, ep : int
        GPUs over which the model is split, and groups of them that its experts are spread over; see
        `pruninfersim.trace.shard`. Times and memory are those of one of them.

    Raises
    ------
    UnknownNameError
        If a name is not known.
    InvalidInputError
        If the cost model is of another GPU, or `ep` does not divide `tp`.

    >>> from pruninfersim import Workload
    >>> here = Setup("llama-3.1-8b", "h100-sxm", stack="ideal")
    >>> here
    <Setup llama-3.1-8b on h100-sxm, stack ideal, bf16>
    >>> here.speedup("static-width", 0.5, Workload.decode(batch=16, context=4096)).estimated
    1.9...
    """

    model: ModelConfig
    hardware: HardwareProfile
    stack: CostModel
    dtype: str
    tp: int
    ep: int

    def __init__(
        self,
        model: str | ModelConfig,
        hardware: str | HardwareProfile,
        stack: str | Stack | CostModel = stacks.DEFAULT,
        dtype: str | None = None,
        tp: int = 1,
        ep: int = 1,
    ) -> None:
        config, gpu = models.get(model), hardware_registry.get(hardware)
        object.__setattr__(self, "model", config)
        object.__setattr__(self, "hardware", gpu)
        object.__setattr__(self, "stack", stacks.parallel(stacks.get(stack, gpu), tp, ep))
        object.__setattr__(self, "tp", tp)
        object.__setattr__(self, "ep", ep)
        object.__setattr__(self, "dtype", dtype or config.dtype)

    def workload(
        self, phase: str, batch: ArrayLike = 1, context: ArrayLike = 1024, logits: Logits | None = None
    ) -> Workload:
        """Return a workload by the name of its phase; the LM head runs on the tokens that the stack's protocol says.

        >>> str(Setup("llama-3.1-8b", "l40s", "paper").workload("prefill").logits)
        'all'
        """
        return Workload.of(phase, batch, context, logits or self.stack.protocol.logits)

    def trace(self, workload: Workload) -> OpTrace:
        """Return the dense trace of the model."""
        return trace(self.model, workload, dtype=self.dtype)

    def estimate(self, what: OpTrace | Workload) -> Estimate:
        """Predict the time of a trace, or of the dense model on a workload; errors as `pruninfersim.estimate`."""
        return self.stack.predict(self.trace(what) if isinstance(what, Workload) else what)

    def compare(self, dense: OpTrace, pruned: OpTrace) -> Speedup:
        """Return the speedup of one trace over another; errors and warnings as `pruninfersim.compare`."""
        return _warned(compare_estimates(*self.stack.predict_both(dense, pruned)))

    def speedup(
        self, method: Method, sparsity: Ratio | Workload | None = None, workload: Workload | None = None
    ) -> Speedup:
        """Return the speedup of a pruning method on a workload.

        Parameters
        ----------
        method : str, method object, or a sequence of them
            A sequence is applied in order.
        sparsity : Ratio, optional
            Of the methods that are given by name [1]; a method object comes with its own, and the workload may follow
            it directly.
        workload : Workload
            Array fields are sweep axes.

        Raises
        ------
        UnknownNameError, InvalidInputError, MissingValueError
            For unknown names, values out of range, figures that the profile lacks.

        Warns
        -----
        ProvenanceWarning
            As in `pruninfersim.compare`.
        """
        if isinstance(sparsity, Workload):
            sparsity, workload = None, sparsity
        if workload is None:
            raise InvalidInputError("speedup needs a workload, for instance Workload.decode(batch=16, context=4096)")
        dense = self.trace(workload)
        return _warned(
            compare_estimates(*self.stack.predict_both(dense, dense.prune(pruning.resolve(method, sparsity))))
        )

    def __repr__(self) -> str:
        return f"<Setup {self.model.name} on {self.hardware.name}, stack {self.stack.stack}, {self.dtype}>"


def _warned(result: Speedup) -> Speedup:
    """Say where the caller of the public function stands that the two sides rest on different evidence."""
    for note in evidence_notes(result.dense, result.pruned):
        warnings.warn(note, ProvenanceWarning, stacklevel=_outside_of_package())
    return result


def _outside_of_package() -> int:
    """Return the stacklevel of the first frame that is not this package's."""
    level, frame = 1, sys._getframe(1)
    package = __name__.partition(".")[0]
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] == package:
        frame, level = frame.f_back, level + 1
    return level


def estimate(trace: OpTrace, *, hardware: HardwareProfile | str, stack: str | Stack | CostModel = "vendor") -> Estimate:
    """Predict the time of one forward pass, op by op.

    Parameters
    ----------
    trace : OpTrace
    hardware : HardwareProfile or str
    stack : str, callable or CostModel
        "vendor", "paper", "ideal"; a function from a GPU to a cost model; or a cost model.

    Raises
    ------
    UnknownNameError
        If the GPU or the stack is not known, or the stack has no kernel for an op.
    MissingValueError
        If the profile lacks a figure that an op needs.

    >>> from pruninfersim import Workload, trace
    >>> step = estimate(trace("llama-3.1-8b", Workload.decode()), hardware="h100-sxm", stack="ideal")
    >>> round(step.latency * 1e3, 2)
    4.52
    """
    return stacks.get(stack, hardware_registry.get(hardware)).predict(trace)


def compare(
    dense: OpTrace | ModelConfig | str,
    pruned: OpTrace | ModelConfig | str,
    *,
    hardware: HardwareProfile | str,
    stack: str | Stack | CostModel = "vendor",
    workload: Workload | None = None,
    tp: int = 1,
    ep: int = 1,
) -> Speedup:
    """Return the speedup of one trace over another on a GPU, or of a pruned checkpoint over its parent.

    Parameters
    ----------
    dense, pruned : OpTrace, or ModelConfig, name or path of a ``config.json``
        Two traces, or two models.
    hardware : HardwareProfile or str
    stack : str, callable or CostModel
    workload : Workload, optional
        What two models do; traces know it.
    tp, ep : int
        As in `Setup`.

    Raises
    ------
    InvalidInputError
        If two models come without a workload, or the second has more weights than the first.

    Warns
    -----
    ProvenanceWarning
        If ops of more than 5 % of the time rest on evidence that the other side does not have, or 25 % more of the
        time than on the other side.

    >>> from pruninfersim import Workload, pruning, trace
    >>> dense = trace("llama-3.1-8b", Workload.decode())
    >>> compare(dense, dense.prune(pruning.StaticDepth(0.5)), hardware="h100-sxm", stack="ideal").estimated
    1.87...
    """
    if isinstance(dense, OpTrace) and isinstance(pruned, OpTrace):
        both = dense, pruned
    elif isinstance(dense, OpTrace) or isinstance(pruned, OpTrace):
        raise InvalidInputError("compare takes two traces or two models, not one of each")
    else:
        both = both_traces(dense, pruned, workload)
    cost_model = stacks.parallel(stacks.get(stack, hardware_registry.get(hardware)), tp, ep)
    return _warned(compare_estimates(*cost_model.predict_both(*both)))


def speedup(
    *,
    model: str | ModelConfig,
    hardware: str | HardwareProfile,
    method: Method,
    sparsity: Ratio | None = None,
    phase: str = "prefill",
    batch: ArrayLike = 1,
    context: ArrayLike = 1024,
    stack: str | Stack | CostModel = "vendor",
    dtype: str | None = None,
    logits: Logits | None = None,
) -> Speedup:
    """Return the speedup of one pruning method, by names.

    Parameters
    ----------
    model, hardware : str or object
    method : str, method object, or a sequence of them
        A sequence is a composition, applied in order.
    sparsity : Ratio, optional
        Fraction removed [1]; needed where a method is given by name.
    phase : {"prefill", "decode"}
    batch, context : array_like
        Sequences; prompt tokens in prefill, keys attended to in decode. Arrays are sweep axes.
    stack : str, callable or CostModel
        "paper" follows the protocol of arXiv 2606.09080: the LM head runs on all prefill tokens.
    dtype : str, optional
        Precision of the linear layers; default is the model's own.
    logits : {"last", "all"}, optional
        Tokens that pass the LM head in prefill; default is the protocol of the stack.

    Raises
    ------
    UnknownNameError, InvalidInputError, MissingValueError
        For unknown names, values out of range, figures that a profile lacks.

    Warns
    -----
    ProvenanceWarning
        As in `compare`.

    >>> speedup(model="llama-3.1-8b", hardware="h100-sxm", method="static-depth", sparsity=0.5, stack="ideal").flops
    1.99...
    """
    setup = Setup(model, hardware, stack, dtype)
    return setup.speedup(method, sparsity, setup.workload(phase, batch, context, logits))
