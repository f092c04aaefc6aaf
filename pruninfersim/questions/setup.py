"""The noun that every question needs: a model on a GPU, run by a software stack, in a precision."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Never

from numpy.typing import ArrayLike

from pruninfersim import hardware as hardware_registry
from pruninfersim import models, pruning, stacks
from pruninfersim._util.callers import interactive, outside_of_package
from pruninfersim._util.defaults import CONTEXT
from pruninfersim._util.doors import doors
from pruninfersim._util.words import refuse
from pruninfersim.cost import CostModel, Estimate
from pruninfersim.errors import InvalidInputError, ProvenanceWarning
from pruninfersim.hardware import HardwareProfile, precision
from pruninfersim.models import ModelConfig
from pruninfersim.pruning import Method, Ratio
from pruninfersim.questions.comparison import Speedup, compare_estimates, evidence_notes
from pruninfersim.questions.vocabulary import asked, one_only
from pruninfersim.stacks import Stack
from pruninfersim.trace import OpTrace, trace
from pruninfersim.workload import Logits, Workload


@doors
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
        hardware: str | HardwareProfile | None = None,
        stack: str | Stack | CostModel = stacks.DEFAULT,
        dtype: str | None = None,
        tp: int = 1,
        ep: int = 1,
        **other: Never,
    ) -> None:
        refuse(Setup, other)
        one_only("a setup", model=model, hardware=hardware, stack=stack, dtype=dtype)
        if hardware is None:
            raise InvalidInputError("a setup needs a GPU: Setup(model, 'h100-sxm')")
        config, gpu = models.get(model), hardware_registry.get(hardware)
        object.__setattr__(self, "model", config)
        object.__setattr__(self, "hardware", gpu)
        object.__setattr__(self, "stack", stacks.parallel(stacks.get(stack, gpu), tp, ep))
        object.__setattr__(self, "tp", tp)
        object.__setattr__(self, "ep", ep)
        object.__setattr__(self, "dtype", config.dtype if dtype is None else precision.get(dtype).dtype)

    def workload(
        self, phase: str, batch: ArrayLike = 1, context: ArrayLike = CONTEXT, logits: Logits | None = None
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
        return warned(compare_estimates(*self.stack.predict_both(dense, pruned)))

    def speedup(
        self,
        method: Method,
        sparsity: Ratio | Workload | None = None,
        workload: Workload | None = None,
        **question: Any,
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
        **question
            In place of the workload: `phase`, `batch`, `context`, `logits`.

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
        given = asked("Setup.speedup", question, ["phase", "batch", "context", "logits"])
        if given and workload is None:
            workload = self.workload(**{"phase": "prefill"} | given)
        elif given:
            raise InvalidInputError(f"the workload says it already; leave {next(iter(given))} out")
        if workload is None:
            raise InvalidInputError("speedup needs a workload, for instance Workload.decode(batch=16, context=4096)")
        return warned(self.compared(method, sparsity, workload))

    def compared(self, method: Method, sparsity: Ratio | None, workload: Workload) -> Speedup:
        """Return the speedup of a pruning method on a workload, without warning: the notes say what to know."""
        dense = self.trace(workload)
        return compare_estimates(*self.stack.predict_both(dense, dense.prune(pruning.resolve(method, sparsity))))

    def __repr__(self) -> str:
        return f"<Setup {self.model.name} on {self.hardware.name}, stack {self.stack.stack}, {self.dtype}>"


def warned(result: Speedup) -> Speedup:
    """Say where the caller of the public function stands that the two sides rest on different evidence.

    Not in a notebook or an interactive session: there the result shows its notes itself.
    """
    if interactive():
        return result
    for note in evidence_notes(result.dense, result.pruned):
        warnings.warn(note, ProvenanceWarning, stacklevel=outside_of_package())
    return result
