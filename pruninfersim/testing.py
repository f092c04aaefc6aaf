"""Conformance suites for pruning methods and kernel models, built-in and of other packages alike.

>>> from pruninfersim import pruning, testing
>>> from pruninfersim.kernels.base import Roofline
>>> testing.check_pruning(pruning.StaticWidth(0.5))
>>> testing.check_kernel(Roofline(), keys=["gemm", "norm"])
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from pruninfersim import hardware as hardware_registry
from pruninfersim import models, pruning, stacks
from pruninfersim import ops as catalogue
from pruninfersim._util.arrays import FloatArray
from pruninfersim.cost import CostModel
from pruninfersim.cost.speedups import total_flops
from pruninfersim.errors import ConformanceError, InvalidInputError, unknown_name
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache, KernelModel
from pruninfersim.models import ModelConfig
from pruninfersim.stacks import Stack
from pruninfersim.trace import LABELS, NEUTRAL, Applied, OpTrace, PruningMethod, trace
from pruninfersim.workload import Workload

#: Small workloads of both phases, compute-bound and memory-bound.
WORKLOADS = (
    Workload.prefill(batch=1, tokens=512),
    Workload.prefill(batch=2, tokens=2048),
    Workload.decode(batch=1, context=1024),
    Workload.decode(batch=8, context=4096),
)
#: One method of each family at a half: the ops that they make are samples of every kernel key.
HALVED = (
    pruning.StaticDepth(0.5),
    pruning.LowRank(0.5),
    pruning.SemiStructured(0.5),
    pruning.StaticWidthCross(0.5),
    pruning.DynamicDepth(0.5),
    pruning.SparseAttention(0.5),
)
#: Columns that must be positive, not just non-negative.
SIZES = ("m", "n", "k", "batch", "b_batch", "sequences", "a_bytes", "b_bytes", "out_bytes")
#: Relative difference that floating-point sums in another order may show.
CLOSE = 1e-9
#: How far below zero an achieved sparsity may be: rounding up to an alignment may store a little more than dense.
ROUNDING = 0.05
#: Awkward but legal sizes (tokens, outputs, inputs): single rows and columns, and an expected number of tokens.
AWKWARD = ((1.0, 1.0, 1.0), (1.0, 1.0, 4096.0), (1.0, 4096.0, 16.0), (3.7, 4096.0, 4096.0), (65536.0, 16.0, 128.0))


def check_pruning(
    method: PruningMethod,
    *,
    model: str | ModelConfig = "llama-3.1-8b",
    workloads: Sequence[Workload] = WORKLOADS,
    kernels: Collection[str] = tuple(catalogue.CATALOGUE),
) -> None:
    """Check that a pruning method keeps the contract of a method; return nothing if it does.

    `apply` must be pure, return finite non-negative read-only columns with the op axis last, name kernels that exist,
    not raise the FLOPs of an op that the dense trace has too (work that it adds goes in rows of its own), give the same
    for one sweep as for its points, and the same for layers folded together as for layers apart. If it notes what it
    removed (`Applied`), the note must make sense; if it does not, `OpTrace.prune` works one out.

    Parameters
    ----------
    method : PruningMethod
        Its own numeric fields may be arrays.
    model : str or ModelConfig
    workloads : sequence of Workload
        Single workloads, without sweep axes.
    kernels : collection of str
        Kernel keys that a row may name; the default is every key of the catalogue, `pruninfersim.ops`.

    Raises
    ------
    ConformanceError
        If the contract is broken; the message says how.
    InvalidInputError
        If a workload has sweep axes.

    >>> from pruninfersim import pruning
    >>> check_pruning(pruning.StaticWidth(0.5))
    """
    config = models.get(model)
    label = str(getattr(method, "name", ""))
    _require(bool(label), f"{type(method).__name__} has no name")
    by_kind: dict[tuple[Any, ...], list[tuple[Workload, OpTrace]]] = {}
    for workload in workloads:
        if workload.shape:
            raise InvalidInputError(f"give workloads without sweep axes; got one of shape {workload.shape}")
        dense = trace(config, workload)
        pruned = _apply(method, dense, label)
        _check_structure(dense, pruned, label, kernels)
        _check_work(dense, pruned, label)
        _check_record(dense, pruned, label)
        unfolded = _apply(method, dense.unfold(), label)
        for what, before, after in zip(("FLOPs", "bytes"), _totals(pruned), _totals(unfolded), strict=True):
            same = np.allclose(before, after, rtol=CLOSE, atol=0)
            _require(same, f"{label}: {what} differ if layers are folded ({before}) or apart ({after})")
        kind = (workload.phase, workload.logits, workload.causal)
        by_kind.setdefault(kind, []).append((workload, pruned))
    for points in by_kind.values():
        _check_sweep(method, config, points, label)
    _check_axis(method, trace(config, workloads[0]), label)


def check_kernel(
    kernel: KernelModel,
    *,
    hardware: str | HardwareProfile = "h100-sxm",
    keys: Collection[str] = ("gemm",),
    model: str | ModelConfig = "llama-3.1-8b",
) -> None:
    """Check that a kernel model keeps the contract of one; return nothing if it does.

    `latency` must be pure, return finite positive seconds of the shape of the ops, cold and replayed, for awkward
    shapes too, and must price ops one by one as it prices them together. Nobody asks it to stay above the roofline:
    `CostModel.predict` sees to that.

    Parameters
    ----------
    kernel : KernelModel
    hardware : str or HardwareProfile
    keys : collection of str
        Kernel keys of the ops that it is made for.
    model : str or ModelConfig
        Where the ops are taken from: its dense trace, and the traces of all built-in pruning methods.

    Raises
    ------
    ConformanceError
        If the contract is broken; the message says how.
    UnknownNameError
        If there is no such key.

    >>> from pruninfersim import hardware, stacks
    >>> gpu = hardware.get("l40s")
    >>> check_kernel(stacks.get("vendor", gpu).priced("gemm", "bf16").model, hardware=gpu)
    """
    gpu = hardware_registry.get(hardware)
    label = type(kernel).__name__
    for key in keys:
        for ops in (sample_ops(key, model), awkward_ops(key, model)):
            _check_latency(kernel, ops, gpu, f"{label} on {key} ops")


def check_stack(
    stack: str | Stack | CostModel,
    *,
    hardware: str | HardwareProfile = "h100-sxm",
    model: str | ModelConfig = "llama-3.1-8b",
    workloads: Sequence[Workload] = WORKLOADS,
) -> None:
    """Check that a stack keeps the contract of one; return nothing if it does.

    It must build a cost model for the GPU it is asked for, and the same one twice; lower a trace without changing the
    FLOPs or what was noted about its pruning, and a lowered trace not at all; price dense traces of both phases with
    finite times that are at least their roofline, and whose ops add up to the step; and name its label, its evidence
    and its protocol.

    Parameters
    ----------
    stack : str, callable or CostModel
    hardware : str or HardwareProfile
    model : str or ModelConfig
    workloads : sequence of Workload
        Single workloads, without sweep axes.

    Raises
    ------
    ConformanceError
        If the contract is broken; the message says how.

    >>> check_stack("vendor", hardware="l40s")
    """
    gpu = hardware_registry.get(hardware)
    with _reported("building the stack"):
        cost_model, again = stacks.get(stack, gpu), stacks.get(stack, gpu)
    label = f"stack {cost_model.stack!r}"
    _require(bool(cost_model.stack), "the stack has no label")
    _require(cost_model.hardware == gpu, f"{label}: built for {cost_model.hardware.name}, asked for {gpu.name}")
    _require(again.stack == cost_model.stack, f"{label}: has another label the second time")
    for workload in workloads:
        dense = trace(model, workload)
        for ops in (dense, dense.prune(pruning.StaticWidth(0.5))):
            with _reported(f"{label}: lower"):
                before = _snapshot(ops)
                lowered = cost_model.lower(ops)
                twice = cost_model.lower(lowered)
            _require(_snapshot(ops) == before, f"{label}: lower changed the trace that it was given; return a new one")
            _require(_snapshot(twice) == _snapshot(lowered), f"{label}: lowering a lowered trace changes it")
            same = np.allclose(total_flops(lowered), total_flops(ops), rtol=CLOSE, atol=0)
            _require(same, f"{label}: lower changes the FLOPs from {total_flops(ops):g} to {total_flops(lowered):g}")
            kept = lowered.applied == ops.applied and lowered.model is ops.model and lowered.workload is ops.workload
            _require(kept, f"{label}: the lowered trace has lost its model, workload or notes on pruning")
            with _reported(f"{label}: predict"):
                step = cost_model.predict(ops)
            sound = bool(np.isfinite(step.seconds).all() and (step.seconds > 0).all())
            _require(sound, f"{label}: an op has no positive finite time")
            _require(bool((step.gap >= 0).all()), f"{label}: the clock gives a negative wait")
            fast = bool((step.run < step.floor * (1.0 - CLOSE)).any())
            _require(not fast, f"{label}: an op is faster than its roofline")
            unknown = sorted(set(step.provenance.tolist()) - {"roofline", "calibrated", "extrapolated"})
            _require(not unknown, f"{label}: unknown provenance {', '.join(unknown)}")
            held = bool(step.interval[0] <= step.latency <= step.interval[1])
            _require(held, f"{label}: its time is outside of its interval")


def sample_ops(key: str, model: str | ModelConfig = "llama-3.1-8b") -> OpTrace:
    """Return ops of a kernel key as traces of a model have them, over a sweep of (batch, context).

    Raises
    ------
    UnknownNameError
        If there is no such key.

    >>> sample_ops("lm_head").shape
    (2, 3, 1)
    """
    if key not in catalogue.CATALOGUE:
        raise unknown_name("kernel key", key, catalogue.CATALOGUE)
    batch, context = np.array([1, 16])[:, None], np.array([128, 1000, 8192])
    found: list[OpTrace] = []
    for workload in (Workload.prefill(batch, context), Workload.decode(batch, context)):
        dense = trace(model, workload)
        for ops in (dense, *(dense.prune(method) for method in HALVED)):
            chosen = ops.select(ops.mask(kernels=[catalogue.get(key).stand_in or key]))
            if len(chosen):
                found.append(chosen.with_columns(kernel=(key,) * len(chosen)))
        if found:
            break
    return found[0]


def awkward_ops(key: str, model: str | ModelConfig = "llama-3.1-8b") -> OpTrace:
    """Return ops of a kernel key with extreme but legal sizes, shape (op,).

    >>> awkward_ops("gemm").m.tolist()
    [1.0, 1.0, 1.0, 3.7, 65536.0]
    """
    first = sample_ops(key, model)
    one = OpTrace.from_rows(
        [{n: getattr(first, n)[..., 0].flat[0] for n in NEUTRAL} | {n: getattr(first, n)[0] for n in LABELS}]
    )
    many = one.select(np.zeros(len(AWKWARD), dtype=int))
    m, n, k = (np.array(column) for column in zip(*AWKWARD, strict=True))
    return many.with_columns(m=m, n=n, k=np.where(many.gemms > 1, one.k[0], k))


# --- parts of check_pruning -----------------------------------------------------------------------------------------


def _apply(method: PruningMethod, dense: OpTrace, label: str) -> OpTrace:
    before = _snapshot(dense)
    with _reported(f"{label}: apply"):
        pruned, again = method.apply(dense), method.apply(dense)
    _require(_snapshot(dense) == before, f"{label}: apply changed the trace that it was given; return a new one")
    _require(isinstance(pruned, OpTrace), f"{label}: apply returned {type(pruned).__name__}, not an OpTrace")
    _require(_snapshot(pruned) == _snapshot(again), f"{label}: apply gave two results for the same trace")
    return pruned


def _snapshot(ops: OpTrace) -> tuple[Any, ...]:
    """Return everything in a trace as plain values that compare by content."""
    if not isinstance(ops, OpTrace):
        return (ops,)
    arrays = [np.asarray(getattr(ops, name)) for name in NEUTRAL]
    columns = [(array.shape, array.tobytes()) for array in arrays]
    return (*columns, *(getattr(ops, name) for name in LABELS), id(ops.model), id(ops.workload), len(ops.applied))


def _check_structure(dense: OpTrace, pruned: OpTrace, label: str, kernels: Collection[str]) -> None:
    size = len(pruned.name)
    for name in NEUTRAL:
        column = getattr(pruned, name)
        float_array = isinstance(column, np.ndarray) and column.dtype == np.float64
        _require(float_array, f"{label}: column {name} is not a float64 array; use OpTrace.with_columns")
        fits = column.ndim > 0 and column.shape[-1] == size
        _require(fits, f"{label}: column {name} has shape {column.shape}; its last axis must be the {size} ops")
        _require(not column.flags.writeable, f"{label}: column {name} can be changed; use OpTrace.with_columns")
        _require(bool(np.isfinite(column).all()), f"{label}: column {name} is not finite")
        low = "positive" if name in SIZES else "non-negative"
        right = bool((column > 0).all() if name in SIZES else (column >= 0).all())
        _require(right, f"{label}: column {name} must be {low}; its smallest value is {column.min():g}")
    for name in LABELS:
        values = getattr(pruned, name)
        right = isinstance(values, tuple) and len(values) == size
        _require(right, f"{label}: label {name} must be a tuple with one entry for each of the {size} ops")
    strangers = sorted(set(pruned.kernel) - set(kernels))
    _require(not strangers, f"{label}: no stack has a kernel for {', '.join(strangers)}. Known: {', '.join(kernels)}")
    unmarked = [
        f"{n} ({key})"
        for n, key, pattern in zip(pruned.name, pruned.kernel, pruned.pattern, strict=True)
        if key in catalogue.CATALOGUE and catalogue.get(key).pattern != pattern
    ]
    _require(not unmarked, f"{label}: the label pattern does not fit the kernel key of {', '.join(unmarked)}")
    wrong = [
        f"{n} of {part}" for n, part in zip(pruned.name, pruned.block, strict=True) if part not in set(dense.block)
    ]
    _require(not wrong, f"{label}: unknown block: {', '.join(wrong)}; use one of {', '.join(sorted(set(dense.block)))}")
    same = pruned.model is dense.model and pruned.workload is dense.workload
    _require(same, f"{label}: the pruned trace has lost its model or workload; use with_columns, select and concat")
    with _reported(f"{label}: sweep axes of the pruned trace"):
        _ = pruned.shape


def _check_work(dense: OpTrace, pruned: OpTrace, label: str) -> None:
    for name in dict.fromkeys(dense.name):
        before, after = (total_flops(side.select(side.mask(names=[name]))) for side in (dense, pruned))
        more = bool(np.any(after > before * (1.0 + CLOSE)))
        _require(not more, f"{label}: {name} has more FLOPs than in the dense trace; give added work its own row")


def _check_record(dense: OpTrace, pruned: OpTrace, label: str) -> None:
    if len(pruned.applied) == len(dense.applied):  # `OpTrace.prune` works it out
        return
    last = pruned.applied[-1]
    _require(isinstance(last, Applied), f"{label}: applied holds {type(last).__name__}, not Applied")
    _require(last.method == label, f"{label}: applied names the method {last.method!r}")
    _require(bool(last.achieved), f"{label}: applied does not say which sparsity was achieved")
    for what, values in {"asked": last.asked, **last.achieved}.items():
        array = np.asarray(values, dtype=np.float64)
        low = 0.0 if what == "asked" else -ROUNDING
        right = bool(np.all((array >= low) & (array < 1.0)))
        _require(right, f"{label}: sparsity {what} must be in [0, 1); got {array.min():g} to {array.max():g}")
        with _reported(f"{label}: sparsity {what} of shape {array.shape}"):
            np.broadcast_shapes(array.shape, pruned.sweep_shape)


def _check_sweep(
    method: PruningMethod, config: ModelConfig, points: Sequence[tuple[Workload, OpTrace]], label: str
) -> None:
    """Compare one trace with sweep axes with its points."""
    own = points[0][1].sweep_shape
    axes = (len(points), *(1,) * len(own))
    first = points[0][0]
    batch, query, context = (
        np.array([float(getattr(workload, name)) for workload, _ in points]).reshape(axes)
        for name in ("batch", "query_len", "context")
    )
    if first.phase == "prefill":
        sweep = Workload.prefill(batch, query, prefix=context - query, logits=first.logits, causal=first.causal)
    else:
        sweep = Workload.decode(batch, context)
    together = _apply(method, trace(config, sweep), label)
    shape = (len(points), *own)
    with _reported(f"{label}: sweep of shape {shape}"):
        for index, (_, alone) in enumerate(points):
            _require(together.name == alone.name, f"{label}: a sweep has other ops than its points")
            for name in NEUTRAL:
                wide = np.broadcast_to(getattr(together, name), (*shape, len(together)))[index]
                same = np.allclose(wide, getattr(alone, name), rtol=CLOSE, atol=0)
                _require(same, f"{label}: column {name} of a sweep differs from that of its points")


def _check_axis(method: PruningMethod, dense: OpTrace, label: str) -> None:
    """A method with one sparsity takes an axis of them, which is how sweeps and break-even ask it."""
    made: Any = method
    ratio = getattr(method, "sparsity", None)
    known = dataclasses.is_dataclass(method) and "sparsity" in {field.name for field in dataclasses.fields(method)}
    if not known or not isinstance(ratio, float | int):
        return
    with _reported(f"{label}: a sparsity of shape (2,)"):
        several = _apply(dataclasses.replace(made, sparsity=pruning.Axis([ratio, ratio])), dense, label)
        wide = _totals(several), _totals(_apply(method, dense, label))
    for what, axis, alone in zip(("FLOPs", "bytes"), *wide, strict=True):
        same = np.allclose(axis, alone, rtol=CLOSE, atol=0)
        _require(same, f"{label}: {what} of two equal sparsities ({axis}) are not those of one ({alone})")


def _totals(ops: OpTrace) -> tuple[FloatArray, FloatArray]:
    return total_flops(ops), np.asarray((ops.traffic * ops.count).sum(axis=-1))


# --- parts of check_kernel ------------------------------------------------------------------------------------------


def _check_latency(kernel: KernelModel, ops: OpTrace, gpu: HardwareProfile, label: str) -> None:
    before = _snapshot(ops)
    seconds = _seconds(kernel, ops, gpu, label, "cold")
    _seconds(kernel, ops, gpu, label, "replayed")
    again = _seconds(kernel, ops, gpu, label, "cold")
    _require(_snapshot(ops) == before, f"{label}: latency changed the ops that it was given")
    _require(bool(np.array_equal(seconds, again)), f"{label}: latency gave two results for the same ops")
    for index in np.ndindex(*ops.shape):
        alone = OpTrace.from_rows(
            [
                {n: np.broadcast_to(getattr(ops, n), ops.shape)[index] for n in NEUTRAL}
                | {n: getattr(ops, n)[index[-1]] for n in LABELS}
            ]
        )
        single = _seconds(kernel, alone, gpu, label, "cold")[0]
        same = bool(np.isclose(single, seconds[index], rtol=CLOSE, atol=0))
        _require(same, f"{label}: an op alone takes {single:g} s, among others {seconds[index]:g} s")


def _seconds(kernel: KernelModel, ops: OpTrace, gpu: HardwareProfile, label: str, cache: Cache) -> FloatArray:
    with _reported(f"{label}: latency with cache={cache!r}"):
        raw = kernel.latency(ops, gpu, cache=cache)
        seconds = np.asarray(raw, dtype=np.float64)
    right = seconds.ndim > 0 and seconds.shape[-1] == len(ops)
    if right:
        with _reported(f"{label}: result of shape {seconds.shape}"):
            seconds = np.broadcast_to(seconds, ops.shape)
    _require(right, f"{label}: result has shape {seconds.shape}; need {ops.shape}, op axis last")
    bad = ~np.isfinite(seconds) | (seconds <= 0)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        m, n, k = (float(np.broadcast_to(getattr(ops, name), ops.shape)[where]) for name in "mnk")
        raise ConformanceError(f"{label}: {seconds[where]:g} s for m={m:g}, n={n:g}, k={k:g}; need a positive time")
    return seconds


# --- both -----------------------------------------------------------------------------------------------------------


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConformanceError(message)


@contextmanager
def _reported(what: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into a ConformanceError that says where."""
    try:
        yield
    except ConformanceError:
        raise
    except Exception as error:
        raise ConformanceError(f"{what} raised {type(error).__name__}: {error}") from error
