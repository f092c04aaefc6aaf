"""Which GPU for this model, and does pruning change the answer? Speedups, rates, memory, ranks, costs side by side."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Never

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from pruninfersim import hardware as hardware_registry
from pruninfersim import pruning
from pruninfersim._util.callers import outside_of_package
from pruninfersim._util.defaults import CONTEXT
from pruninfersim._util.doors import door
from pruninfersim._util.words import refuse
from pruninfersim.cost import CostModel, Estimate
from pruninfersim.cost.estimate import MATERIAL_SHARE
from pruninfersim.cost.memory import kv_memory, weight_memory
from pruninfersim.errors import InvalidInputError, LeftOutWarning, MissingValueError, shown
from pruninfersim.hardware import HardwareProfile
from pruninfersim.models import ModelConfig
from pruninfersim.pruning import Method
from pruninfersim.questions.comparison import compare_estimates
from pruninfersim.questions.prices import hourly_prices, of_a_million
from pruninfersim.questions.setup import Setup
from pruninfersim.questions.vocabulary import is_list, one_only
from pruninfersim.stacks import Stack
from pruninfersim.trace import OpTrace, PruningMethod
from pruninfersim.workload import Logits, Workload

#: Name of the row without pruning.
DENSE = "dense"
#: What identifies a workload in the frame.
WORKLOAD = ["phase", "batch", "context"]


@door
def compare_hardware(
    model: str | ModelConfig | None = None,
    workloads: Workload | Iterable[Workload] | None = None,
    methods: str | PruningMethod | Iterable[Method] | None = None,
    *,
    hardware: str | HardwareProfile | Iterable[str | HardwareProfile] | None = None,
    method: Method | None = None,
    sparsity: float = 0.5,
    phase: str | Iterable[str] = "prefill",
    batch: ArrayLike = 1,
    context: ArrayLike = CONTEXT,
    stack: str | Stack | CostModel = "vendor",
    dtype: str | None = None,
    logits: Logits | None = None,
    tp: int = 1,
    ep: int = 1,
    price_per_hour: Mapping[str, float] | None = None,
    **other: Never,
) -> pd.DataFrame:
    """Compare GPUs for a model, dense and pruned.

    Parameters
    ----------
    model : str or ModelConfig
    workloads : Workload or several, optional
        Single workloads, no sweeps; default are those of `phase`, `batch`, `context`, each one or several.
    methods : str, method object, or several
        Default is every named method that can do the sparsity. An entry that is itself a sequence is a composition. A
        dense row comes first in any case.
    method : str, method object, or a sequence of them
        In place of `methods`: one method, a sequence being a composition, as in `pruninfersim.speedup`.
    hardware : str, HardwareProfile, or several
    sparsity : float
        Of the methods that are given by name [1].
    stack : str, callable or CostModel
        A cost model of one's own describes one GPU, so that only that GPU can be asked for; a function from a GPU to a
        cost model describes all.
    dtype : str, optional
        Precision of the linear layers; default is the model's own.
    tp, ep : int
        GPUs over which the model is split, and groups of them that share the experts, as in `Setup`: times, bytes and
        rates are those of a pass on `tp` of each GPU.
    price_per_hour : mapping of str to float, optional
        Price of an hour of each GPU, by its name, in a currency of your choice. No prices are built in.

    Returns
    -------
    DataFrame
        One row per workload, GPU and method, in the order given, "dense" first. Columns:

        phase, batch, context, hardware, method, sparsity
            The question; sparsity is what was asked for, 0 for dense [1].
        estimated_speedup, estimated_low, estimated_high, bound_speedup
            Over the dense model on the same GPU, as in `pruninfersim.compare`; 1 for dense itself, but for the bound,
            which says how far its kernels are from their roofline [1].
        seconds
            Time of the pass [s].
        tokens_per_second
            New tokens of the whole batch over that time: prompt tokens in prefill, one per sequence in decode.
        ridge_flop_per_byte
            Peak over bandwidth: ops of less intensity are memory-bound at best [FLOP/B].
        limited_by, limited_share
            "compute", "memory" or "overhead": what limits the ops that take most of the time, and their share [1].
            Overhead means that the roofline is less than half of the time of an op: launches, or an inefficient kernel.
        weight_bytes, kv_bytes, memory_share, fits
            Weights as stored and KV cache of the batch on one GPU [B]; both over its memory [1]; whether that is at
            most 1. Activations and the runtime of the driver and the engine are not counted.
        rank_hardware
            1 is the GPU of most tokens per second, among those of the same workload and method that fit.
        rank_method
            1 is the method of most tokens per second, among those of the same workload and GPU that fit; dense counts.
        hardware_flips
            Whether the rank of the GPU differs from its rank for the dense model: pruning changes the choice of GPU.
        method_flips
            Whether the rank of the method differs from its rank on the first GPU: the GPU changes the choice of method.
        provenance
            Kinds of evidence that carry 5 % or more of the time.
        price_per_hour, cost_per_million_tokens
            Only if prices are given: price * GPUs that share the pass / (tokens per second * 3600) * 1e6, fully busy.
        rank_cost
            Only if prices are given: 1 is the cheapest GPU of the same workload and method.
        note
            Why numbers are missing (no figure in the profile, no kernel model for this vendor).

    Raises
    ------
    UnknownNameError
        If a name is not known.
    InvalidInputError
        If an axis is empty, a workload is a sweep, a price is not positive or is of a GPU that was not asked for, or a
        keyword is not known.

    Warns
    -----
    LeftOutWarning
        If a method that nobody named cannot do the sparsity.

    >>> from pruninfersim import Workload
    >>> frame = compare_hardware("llama-3.1-8b", Workload.decode(16, 4096), "static-width", stack="ideal",
    ...                          hardware=["h100-sxm", "l40s"], price_per_hour={"h100-sxm": 3.0, "l40s": 1.0})
    >>> frame.query("method == 'dense'").cost_per_million_tokens.round(2).tolist()
    [0.37, 0.48]
    >>> frame.query("hardware == 'l40s'").limited_by.tolist()
    ['memory', 'memory']
    """
    refuse(compare_hardware, other)
    if model is None or hardware is None:
        raise InvalidInputError("compare_hardware needs a model and hardware=[...], a list of GPUs")
    one_only("compare_hardware", model=model, stack=stack, dtype=dtype)
    gpus = [hardware_registry.get(gpu) for gpu in _several(hardware, (str, HardwareProfile), "hardware")]
    _check([], gpus, stack)
    setups = [Setup(model, gpu, stack, dtype, tp, ep) for gpu in gpus]
    work = _workloads(setups[0], phase, batch, context, logits) if workloads is None else workloads
    given = _several(work, Workload, "workloads")
    if method is not None:
        if methods is not None:
            raise InvalidInputError("give method (one, or a composition) or methods (alternatives), not both")
        methods = [method]
    several = _able(sparsity) if methods is None else _several(methods, str, "methods")
    chosen = [pruning.at(method, sparsity) for method in several]
    labels = _labels(chosen)
    prices = hourly_prices(price_per_hour, gpus)
    _check(given, gpus, stack)
    rows: list[dict[str, Any]] = []
    for workload in given:
        dense = setups[0].trace(workload)
        variants = {DENSE: dense} | {label: dense.prune(method) for label, method in zip(labels, chosen, strict=True)}
        rows += [row for setup in setups for row in _rows(variants, setup)]
    frame = _ranked(pd.DataFrame(rows))
    if prices:
        hourly = frame["hardware"].map(prices).astype(float)
        shared = frame["hardware"].map({setup.hardware.name: setup.stack.gpus for setup in setups})
        frame.insert(frame.columns.get_loc("note"), "price_per_hour", hourly)  # type: ignore[arg-type]
        cost = of_a_million(hourly, frame["tokens_per_second"], shared)
        frame.insert(frame.columns.get_loc("note"), "cost_per_million_tokens", cost)  # type: ignore[arg-type]
        ranks = _ranks(frame, [*WORKLOAD, "method"], cost)
        frame.insert(frame.columns.get_loc("note"), "rank_cost", ranks)  # type: ignore[arg-type]
    return frame


def _workloads(setup: Setup, phase: Any, batch: ArrayLike, context: ArrayLike, logits: Logits | None) -> list[Workload]:
    """Return the single workloads of every phase, batch and context."""
    axes = [np.atleast_1d(np.asarray(values)).reshape(-1).tolist() for values in (phase, batch, context)]
    return [setup.workload(p, b, c, logits) for p, b, c in itertools.product(*axes)]


def _able(sparsity: float) -> list[str]:
    """Return the named methods that can do a sparsity, and warn of the others."""
    reasons = {name: pruning.unfit(method, sparsity) for name, method in pruning.METHODS.items()}
    for why in filter(None, reasons.values()):
        warnings.warn(f"left out: {why}", LeftOutWarning, stacklevel=outside_of_package())
    return [name for name, why in reasons.items() if not why]


def ranking_flips(frame: pd.DataFrame, axis: str = "hardware") -> pd.DataFrame:
    """Return every pair of GPUs (or of methods) whose order is not the same everywhere.

    Parameters
    ----------
    frame : DataFrame
        As `compare_hardware` returns it.
    axis : {"hardware", "method"}
        What is ranked, by tokens per second.

    Returns
    -------
    DataFrame
        Columns first, second, and the cases (text: phase, batch, context, and method or GPU) in which the first is
        ahead and in which the second is. Rows that do not fit in memory, or have no number, are left out.

    Raises
    ------
    InvalidInputError
        If the axis is neither.

    >>> from pruninfersim import Workload
    >>> frame = compare_hardware("llama-3.1-8b", [Workload.prefill(1, 4096), Workload.decode()], "static-width",
    ...                          hardware=["l40s", "a100-pcie-40gb"], stack="ideal")
    >>> ranking_flips(frame).first_ahead.tolist()
    [['prefill, batch 1, context 4096, dense', 'prefill, batch 1, context 4096, static-width']]
    """
    if axis not in ("hardware", "method"):
        raise InvalidInputError(f"axis must be 'hardware' or 'method'; got {shown(axis)}")
    other = "method" if axis == "hardware" else "hardware"
    usable = frame[frame["fits"] & frame["tokens_per_second"].notna()]
    table = usable.set_index([*WORKLOAD, other, axis])["tokens_per_second"].unstack(axis)
    table = table[[name for name in dict.fromkeys(frame[axis]) if name in table.columns]]
    cases = np.array(
        [f"{phase}, batch {batch:g}, context {context:g}, {x}" for phase, batch, context, x in table.index]
    )
    rows = []
    for first, second in itertools.combinations(table.columns, 2):
        lead = (table[first] - table[second]).to_numpy()
        ahead, behind = cases[lead > 0].tolist(), cases[lead < 0].tolist()
        if ahead and behind:
            rows.append({"first": first, "second": second, "first_ahead": ahead, "second_ahead": behind})
    return pd.DataFrame(rows, columns=["first", "second", "first_ahead", "second_ahead"])


def _rows(variants: Mapping[str, OpTrace], setup: Setup) -> list[dict[str, Any]]:
    """Return the rows of one workload on one GPU, dense first; with blanks and a note where there are no numbers."""
    rows = []
    before: Estimate | None = None
    for label, ops in variants.items():
        row = _question(label, ops, setup)
        try:
            after = setup.estimate(ops)
            before = before or after
            rows.append(row | _answers(before, after) | {"note": ""})
        except MissingValueError as error:
            rows.append(row | {"note": str(error)})
            if before is None:  # without a dense side there is nothing to compare with
                rows += [_question(name, t, setup) | {"note": str(error)} for name, t in list(variants.items())[1:]]
                break
    return rows


def _question(label: str, ops: OpTrace, setup: Setup) -> dict[str, Any]:
    """Return what is asked, what needs no timing, and blanks for the rest."""
    workload = ops.workload
    if workload is None:  # pragma: no cover - traces of models always carry their workload
        raise InvalidInputError("the trace has no workload; build it with pis.trace(model, workload)")
    gpu, mine = setup.hardware, setup.stack.lower(ops)  # of several GPUs, what one of them holds
    weights, cache = float(weight_memory(mine)), float(kv_memory(mine))
    asked = 1.0 - float(np.prod([1.0 - np.asarray(applied.asked) for applied in ops.applied]))
    blank = dict.fromkeys(
        ("estimated_speedup", "estimated_low", "estimated_high", "bound_speedup", "seconds", "tokens_per_second",
         "ridge_flop_per_byte"), np.nan,
    )  # fmt: skip
    return {
        "phase": workload.phase,
        "batch": int(workload.batch),
        "context": int(workload.context),
        "hardware": gpu.name,
        "method": label,
        "sparsity": asked,
        **blank,
        "limited_by": "",
        "limited_share": np.nan,
        "weight_bytes": weights,
        "kv_bytes": cache,
        "memory_share": (weights + cache) / gpu.memory_size,
        "fits": weights + cache <= gpu.memory_size,
        "provenance": "",
    }


def _answers(before: Estimate, after: Estimate) -> dict[str, Any]:
    result = compare_estimates(before, after)
    low, high = result.interval if after is not before else (1.0, 1.0)  # a pass against itself leaves no doubt
    seconds = float(after.latency)
    limits = {kind: float(after.seconds[after.bound == kind].sum()) for kind in ("compute", "memory", "overhead")}
    most = max(limits, key=lambda kind: limits[kind])
    ops, workload = after.trace, after.trace.workload
    main = ops.dtype[int(np.argmax(ops.flops * ops.count))]
    return {
        "estimated_speedup": float(result.estimated),
        "estimated_low": float(low),
        "estimated_high": float(high),
        "bound_speedup": float(result.bound),
        "seconds": seconds,
        "tokens_per_second": float(workload.tokens) / seconds if workload is not None else np.nan,
        "ridge_flop_per_byte": after.hardware.ridge_point(main),
        "limited_by": most,
        "limited_share": limits[most] / seconds if seconds > 0 else np.nan,
        "provenance": " + ".join(evidence(after)),
    }


def evidence(step: Estimate) -> list[str]:
    """Return the kinds of evidence that carry 5 % or more of the time of a single pass, most first.

    >>> from pruninfersim import Workload, estimate, trace
    >>> evidence(estimate(trace("llama-3.1-8b", Workload.decode()), hardware="h100-sxm", stack="ideal"))
    ['roofline']
    """
    shares = sorted(step.evidence().items(), key=lambda item: -item[1])
    return [kind for kind, share in shares if share >= MATERIAL_SHARE]


def _ranked(frame: pd.DataFrame) -> pd.DataFrame:
    """Insert ranks and flips before the provenance."""
    rate = frame["tokens_per_second"].where(frame["fits"])
    by_gpu = _ranks(frame, [*WORKLOAD, "method"], -rate)
    by_method = _ranks(frame, [*WORKLOAD, "hardware"], -rate)
    # The dense row comes first for each GPU, and the first GPU first for each workload.
    dense = by_gpu.groupby([frame[name] for name in [*WORKLOAD, "hardware"]], sort=False).transform("first")
    first = by_method.groupby([frame[name] for name in [*WORKLOAD, "method"]], sort=False).transform("first")
    columns = {
        "rank_hardware": by_gpu,
        "rank_method": by_method,
        "hardware_flips": (by_gpu != dense).fillna(False).astype(bool),
        "method_flips": (by_method != first).fillna(False).astype(bool),
    }
    for name, values in columns.items():
        frame.insert(frame.columns.get_loc("provenance"), name, values)  # type: ignore[arg-type]
    return frame


def _ranks(frame: pd.DataFrame, keys: list[str], values: pd.Series[float]) -> pd.Series[Any]:
    """Rank values, least first, inside the groups of keys; missing where the value is, or where it does not fit."""
    return (
        values.where(frame["fits"]).groupby([frame[key] for key in keys], sort=False).rank(method="min").astype("Int64")
    )


def _several(values: Any, kind: Any, name: str) -> list[Any]:
    one = isinstance(values, kind) or (name == "methods" and hasattr(values, "apply") and not is_list(values))
    several = [values] if one else list(values)
    if not several:
        raise InvalidInputError(f"the axis {name} is empty; give at least one")
    return several


def _labels(methods: list[PruningMethod]) -> list[str]:
    """Return a name for each method; a second method of one name gets a number."""
    seen: dict[str, int] = {}
    labels = []
    for method in methods:
        seen[method.name] = seen.get(method.name, 0) + 1
        labels.append(method.name if seen[method.name] == 1 else f"{method.name} ({seen[method.name]})")
    return labels


def _check(workloads: list[Workload], gpus: list[HardwareProfile], stack: object) -> None:
    for workload in workloads:
        if not isinstance(workload, Workload):
            raise InvalidInputError(f"workloads must be made by Workload.prefill or decode; got {shown(workload)}")
        if workload.shape:
            raise InvalidInputError(f"give single workloads; one is a sweep of shape {workload.shape}")
    if isinstance(stack, CostModel) and any(gpu != stack.hardware for gpu in gpus):
        raise InvalidInputError(
            f"this cost model describes {stack.hardware.name} only; name a stack to compare several GPUs, "
            f"or ask for hardware={stack.hardware.name!r}"
        )
    names = [gpu.name for gpu in gpus]
    if len(set(names)) < len(names):
        raise InvalidInputError(f"a GPU is named twice: {', '.join(names)}; give a clone another name")
