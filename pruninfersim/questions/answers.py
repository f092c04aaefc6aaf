"""The questions that everybody asks first: `speedup` by names, `compare` of two sides, `estimate` of one."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Never, TypeAlias, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim import hardware as hardware_registry
from pruninfersim import models, pruning, stacks
from pruninfersim._util.defaults import CONTEXT
from pruninfersim._util.doors import door
from pruninfersim._util.words import refuse
from pruninfersim.cost import CostModel, Estimate
from pruninfersim.errors import InvalidInputError
from pruninfersim.hardware import HardwareProfile
from pruninfersim.models import ModelConfig
from pruninfersim.pruning import Method, Ratio
from pruninfersim.questions.checkpoints import both_traces
from pruninfersim.questions.comparison import Speedup, compare_estimates
from pruninfersim.questions.setup import Setup, warned
from pruninfersim.questions.several import Speedups
from pruninfersim.questions.vocabulary import Question, asked, is_list, needs_method, one_only
from pruninfersim.stacks import Stack
from pruninfersim.trace import OpTrace
from pruninfersim.workload import Logits, Workload

#: One side of a comparison: a trace, its estimate, or a model by name, configuration or ``config.json``.
Side: TypeAlias = "OpTrace | Estimate | ModelConfig | str | Path"
#: Keywords that may hold several values in `speedup`: each of them is a result of its own.
LISTS = ("model", "hardware", "stack", "dtype", "phase")


@door
def estimate(trace: Side | None = None, **question: Unpack[Question]) -> Estimate:
    """Predict the time of one forward pass, op by op.

    Parameters
    ----------
    trace : OpTrace or model
        A trace; or a model, which runs the workload of the keywords (`phase`, `batch`, `context`, `logits`).
    hardware : HardwareProfile or str
    stack : str, callable or CostModel
        "vendor", "paper", "ideal"; a function from a GPU to a cost model; or a cost model.
    **question
        As in `speedup`; with a `method` the pass is that of the pruned model.

    Raises
    ------
    UnknownNameError
        If the GPU or the stack is not known, or the stack has no kernel for an op.
    MissingValueError
        If the profile lacks a figure that an op needs.
    InvalidInputError
        If a keyword is not known, or the GPU is missing.

    >>> from pruninfersim import Workload, trace
    >>> step = estimate(trace("llama-3.1-8b", Workload.decode()), hardware="h100-sxm", stack="ideal")
    >>> round(step.latency * 1e3, 2)
    4.52
    >>> estimate("llama-3.1-8b", phase="decode", hardware="h100-sxm", stack="ideal").latency == step.latency
    True
    """
    given = asked("estimate", question)
    if isinstance(trace, Estimate):
        raise InvalidInputError("this is an estimate already: it has the latency, to_frame() and plot()")
    software = _software("estimate", trace, given)
    return software.predict(_pruned(_trace(trace, software, given), given))


@door
def compare(dense: Side | Speedup | None = None, pruned: Side | None = None, **question: Unpack[Question]) -> Speedup:
    """Return the speedup of one side over another on a GPU.

    Parameters
    ----------
    dense, pruned : OpTrace, Estimate or model
        Two traces; two estimates of one GPU, for instance ``result.dense`` and ``result.pruned``; or two models
        (names, configurations, paths of a ``config.json``), which run the workload of the keywords.
    hardware, stack : as in `speedup`
    **question
        Of two models: `phase`, `batch`, `context`, `dtype`, `logits`. Of one side alone: the `method` and `sparsity`
        that make the other one.

    Raises
    ------
    InvalidInputError
        If a side or the GPU is missing, or a keyword is not known.

    Warns
    -----
    ProvenanceWarning
        In a script: if ops of more than 5 % of the time rest on evidence that the other side does not have, or 25 %
        more of the time than on the other side. At a prompt the result shows the same note.

    >>> from pruninfersim import Workload, pruning, trace
    >>> dense = trace("llama-3.1-8b", Workload.decode())
    >>> compare(dense, dense.prune(pruning.StaticDepth(0.5)), hardware="h100-sxm", stack="ideal").estimated
    1.87...
    >>> compare("llama-3.1-8b", "llama-3.2-1b", phase="decode", hardware="h100-sxm", stack="ideal").flops
    5.9...
    """
    return warned(sides("compare", dense, pruned, question))


def sides(
    function: str, dense: Side | Speedup | None, pruned: Side | None, question: Mapping[str, Any] | Question
) -> Speedup:
    """Return the comparison that the arguments of a question stand for, without warning.

    Parameters
    ----------
    function : str
        Who asks, for messages.
    dense, pruned : optional
        A `Speedup` alone; two estimates; two traces or two models and the GPU; or nothing, and `model`, `hardware`,
        `method` among the keywords.
    question : mapping
        Keywords of `speedup`.

    Raises
    ------
    InvalidInputError
        If something is missing or too much.
    """
    given = asked(function, question)
    if isinstance(dense, Speedup):
        if pruned is not None or given:
            raise InvalidInputError(f"a Speedup has both sides and its GPU already: {function}(speedup)")
        return dense
    if isinstance(dense, Estimate) and isinstance(pruned, Estimate):
        if given:
            raise InvalidInputError(f"two estimates have their GPU already: {function}(dense, pruned)")
        if dense.hardware != pruned.hardware:
            raise InvalidInputError(
                f"the sides are of {dense.hardware.name} and of {pruned.hardware.name}; compare_hardware compares GPUs"
            )
        return compare_estimates(dense, pruned)
    if isinstance(dense, Estimate) or isinstance(pruned, Estimate):
        raise InvalidInputError(f"{function} needs two estimates or two traces, not one of each: give estimate.trace")
    software = _software(function, dense, given)
    if _is_model(dense) and _is_model(pruned) and "method" not in given and "sparsity" not in given:
        parent, child = (models.get(side) for side in (dense, pruned))  # type: ignore[arg-type]
        work = _workload(Setup(parent, software.hardware, software), given)
        return compare_estimates(*software.predict_both(*both_traces(parent, child, work, given.get("dtype"))))
    before = _trace(dense, software, given)
    if pruned is None:
        after = _pruned(before, given)
        if after is before:
            raise InvalidInputError(
                f"{function} needs a second side: a pruned trace, another model, or method=... and sparsity=..."
            )
    else:
        if "method" in given or "sparsity" in given:
            raise InvalidInputError(f"{function} has two sides already; leave method and sparsity out")
        after = _trace(pruned, software, given)
    return compare_estimates(*software.predict_both(before, after))


def _software(function: str, side: Any, given: Mapping[str, Any]) -> CostModel:
    """Return the GPU and the stack of a question, after checking that it has one model or trace."""
    if "hardware" not in given:
        raise InvalidInputError(f"{function} needs a GPU, for instance hardware='h100-sxm'")
    if side is None and "model" not in given:
        raise InvalidInputError(
            f"{function} needs a dense trace, a pruned trace and hardware=..., or a Speedup, or model=..., "
            "hardware=... and method=..."
        )
    if side is not None and "model" in given:
        raise InvalidInputError(f"{function} has a model or a trace already; leave model=... out")
    one_only(function, **{name: given[name] for name in LISTS if name in given})
    made = stacks.get(given.get("stack", stacks.DEFAULT), hardware_registry.get(given["hardware"]))
    return stacks.parallel(made, given.get("tp", 1), given.get("ep", 1))


def _is_model(side: Any) -> bool:
    return isinstance(side, ModelConfig | str | Path)


def _workload(setup: Setup, given: Mapping[str, Any]) -> Workload:
    """Return the workload of the keywords."""
    names = [name for name in ("phase", "batch", "context", "logits") if name in given]
    if "workload" in given:
        if names:
            raise InvalidInputError(f"workload says {', '.join(names)} already; leave one of the two out")
        return given["workload"]  # type: ignore[no-any-return]
    return setup.workload(given.get("phase", "prefill"), **{name: given[name] for name in names if name != "phase"})


def _trace(side: Any, software: CostModel, given: Mapping[str, Any]) -> OpTrace:
    """Return a trace as it is, or that of a model on the workload of the keywords."""
    if isinstance(side, OpTrace):
        for name in ("phase", "batch", "context", "logits", "dtype", "workload"):
            if name in given:
                raise InvalidInputError(f"a trace has its workload and precision already; leave {name} out")
        return side
    model = given["model"] if side is None else side
    setup = Setup(model, software.hardware, software, given.get("dtype"))
    return setup.trace(_workload(setup, given))


def _pruned(ops: OpTrace, given: Mapping[str, Any]) -> OpTrace:
    """Return a trace after the method of the keywords, or as it is without one."""
    if "method" not in given:
        needs_method(None, given.get("sparsity"))
        return ops
    return ops.prune(pruning.resolve(given["method"], given.get("sparsity")))


@overload
def speedup(  # type: ignore[overload-overlap]  # a name is a sequence, too: it is taken as a name
    *,
    model: str | ModelConfig,
    hardware: str | HardwareProfile,
    method: Method,
    sparsity: Ratio | None = None,
    phase: str = "prefill",
    batch: ArrayLike = 1,
    context: ArrayLike = CONTEXT,
    stack: str | Stack | CostModel = stacks.DEFAULT,
    dtype: str | None = None,
    logits: Logits | None = None,
    workload: Workload | None = None,
    tp: int = 1,
    ep: int = 1,
) -> Speedup: ...


@overload
def speedup(
    *,
    model: str | ModelConfig | Iterable[str | ModelConfig],
    hardware: str | HardwareProfile | Iterable[str | HardwareProfile],
    method: Method | None = None,
    methods: Iterable[Method] | None = None,
    sparsity: Ratio | None = None,
    phase: str | Iterable[str] = "prefill",
    batch: ArrayLike = 1,
    context: ArrayLike = CONTEXT,
    stack: str | Stack | CostModel | Iterable[str | Stack | CostModel] = stacks.DEFAULT,
    dtype: str | Iterable[str] | None = None,
    logits: Logits | None = None,
    workload: Workload | None = None,
    tp: int = 1,
    ep: int = 1,
) -> Speedups: ...


@door
def speedup(
    *,
    model: Any = None,
    hardware: Any = None,
    method: Any = None,
    methods: Any = None,
    sparsity: Ratio | None = None,
    phase: Any = "prefill",
    batch: ArrayLike = 1,
    context: ArrayLike = CONTEXT,
    stack: Any = stacks.DEFAULT,
    dtype: Any = None,
    logits: Logits | None = None,
    workload: Workload | None = None,
    tp: int = 1,
    ep: int = 1,
    **other: Never,
) -> Speedup | Speedups:
    """Return the speedup of a pruning method, by names; with lists of models, GPUs, stacks or methods one for each.

    Parameters
    ----------
    model, hardware : str or object, or a list of them
    method : str, method class or object, or a sequence of them
        A sequence is a composition, applied in order: one method.
    methods : sequence of methods, optional
        Alternatives, in place of `method`: a result for each.
    sparsity : Ratio, optional
        Fraction removed [1]; needed where a method is given by name or class.
    phase : {"prefill", "decode"}, or a list of them
    batch, context : array_like
        Sequences; prompt tokens in prefill, keys attended to in decode. Arrays are sweep axes, which broadcast;
        `pruninfersim.sweep` crosses them.
    stack : str, callable or CostModel, or a list of them
        "paper" follows the protocol of arXiv 2606.09080: the LM head runs on all prefill tokens.
    dtype : str, or a list of them, optional
        Precision of the linear layers; default is the model's own.
    logits : {"last", "all"}, optional
        Tokens that pass the LM head in prefill; default is the protocol of the stack.
    workload : Workload, optional
        In place of phase, batch, context and logits.
    tp, ep : int
        GPUs over which the model is split, and groups of them that share the experts, as in `Setup`.

    Returns
    -------
    Speedup
        Or `Speedups`, in the order of the lists, if there is one.

    Raises
    ------
    UnknownNameError, InvalidInputError, MissingValueError
        For unknown names and keywords, values out of range, figures that a profile lacks.

    Warns
    -----
    ProvenanceWarning
        As in `compare`.

    >>> speedup(model="llama-3.1-8b", hardware="h100-sxm", method="static-depth", sparsity=0.5, stack="ideal").flops
    1.99...
    >>> both = speedup(model="llama-3.1-8b", hardware=["h100-sxm", "l40s"], methods=["low-rank", "static-width"],
    ...                sparsity=0.5, stack="ideal")
    >>> [(each.hardware.name, each.method) for each in both][:2]
    [('h100-sxm', 'low-rank'), ('h100-sxm', 'static-width')]
    """
    refuse(speedup, other)
    missing = [name for name, value in (("model", model), ("hardware", hardware)) if value is None]
    if missing or (method is None and methods is None):
        raise InvalidInputError(
            f"speedup needs {missing[0] if missing else 'method'}=..., for instance "
            "speedup(model='llama-3.1-8b', hardware='h100-sxm', method='static-width', sparsity=0.5)"
        )
    if method is not None and methods is not None:
        raise InvalidInputError("give method (one, or a composition) or methods (alternatives), not both")
    if workload is not None:
        usual: dict[str, Any] = {"phase": "prefill", "batch": 1, "context": CONTEXT, "logits": None}
        said: dict[str, Any] = {"phase": phase, "batch": batch, "context": context, "logits": logits}
        for word in (word for word in usual if not np.array_equal(said[word], usual[word])):
            raise InvalidInputError(f"workload says {word} already; leave one of the two out")
    given = {"model": model, "hardware": hardware, "stack": stack, "dtype": dtype, "phase": phase}
    several = methods is not None or any(is_list(value) for value in given.values())
    axes = {name: _entries(name, value) for name, value in given.items()}
    alternatives = [method] if methods is None else _entries("methods", methods)
    results = []
    for m, gpu, s, d, p in itertools.product(*axes.values()):
        setup = Setup(m, gpu, s, d, tp, ep)
        work = setup.workload(p, batch, context, logits) if workload is None else workload
        for one in alternatives:
            ratio = sparsity if methods is None or pruning.takes_sparsity(one) else None
            results.append(warned(setup.compared(one, ratio, work)))
    return Speedups(tuple(results)) if several else results[0]


def _entries(name: str, value: Any) -> list[Any]:
    entries = list(value) if is_list(value) else [value]
    if not entries:
        raise InvalidInputError(f"the list {name} is empty; give at least one")
    return entries
