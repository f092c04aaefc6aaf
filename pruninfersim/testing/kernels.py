"""Does a kernel model keep the contract of one? And the ops that it is tried with."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from pruninfersim import hardware as hardware_registry
from pruninfersim import ops as catalogue
from pruninfersim import pruning
from pruninfersim._util.arrays import FloatArray
from pruninfersim.cost.sharding import shard
from pruninfersim.errors import ConformanceError, unknown_name
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache, KernelModel
from pruninfersim.models import ModelConfig
from pruninfersim.testing.common import CLOSE, reported, require, snapshot
from pruninfersim.trace import LABELS, NEUTRAL, OpTrace, PruningMethod, trace
from pruninfersim.workload import Workload

#: One method of each family at a half: the ops that they make are samples of every kernel key.
HALVED = (
    pruning.StaticDepth(0.5),
    pruning.LowRank(0.5),
    pruning.SemiStructured(0.5),
    pruning.StaticWidthCross(0.5),
    pruning.DynamicDepth(0.5),
    pruning.SparseAttention(0.5),
    pruning.Unstructured(0.5),
    pruning.ActivationSparsity(0.5),
    pruning.DynamicWidth(0.5),
    pruning.DynamicWidth(0.5, group=32),
    pruning.EarlyExit(0.5),
    pruning.LowRank(0.5, shared=2),
)
#: The key of which only traces of several GPUs have ops.
REDUCE = "all_reduce"
#: Awkward but legal sizes (tokens, outputs, inputs): single rows and columns, and an expected number of tokens.
AWKWARD = ((1.0, 1.0, 1.0), (1.0, 1.0, 4096.0), (1.0, 4096.0, 16.0), (3.7, 4096.0, 4096.0), (65536.0, 16.0, 128.0))


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
    own = catalogue.get(key).model
    for phase in ("prefill", "decode"):
        passes = _passes(own or model, phase, () if own else HALVED)
        for ops in (*passes, *((shard(passes[0], 2),) if key == REDUCE else ())):
            chosen: OpTrace = ops.select(ops.mask(kernels=[catalogue.get(key).stand_in or key]))
            if len(chosen):
                return chosen.with_columns(kernel=(key,) * len(chosen))
    raise AssertionError(f"no trace has an op of {key}")


def _passes(model: str | ModelConfig, phase: str, methods: tuple[PruningMethod, ...]) -> tuple[OpTrace, ...]:
    """Return the dense pass of a model over a sweep of (batch, context), and those of methods."""
    dense = trace(model, Workload.of(phase, np.array([1, 16])[:, None], np.array([128, 1000, 8192])))
    return (dense, *(dense.prune(method) for method in methods))


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


# --- parts of check_kernel ------------------------------------------------------------------------------------------


def _check_latency(kernel: KernelModel, ops: OpTrace, gpu: HardwareProfile, label: str) -> None:
    before = snapshot(ops)
    seconds = _seconds(kernel, ops, gpu, label, "cold")
    _seconds(kernel, ops, gpu, label, "replayed")
    again = _seconds(kernel, ops, gpu, label, "cold")
    require(snapshot(ops) == before, f"{label}: latency changed the ops that it was given")
    require(bool(np.array_equal(seconds, again)), f"{label}: latency gave two results for the same ops")
    for index in np.ndindex(*ops.shape):
        alone = OpTrace.from_rows(
            [
                {n: np.broadcast_to(getattr(ops, n), ops.shape)[index] for n in NEUTRAL}
                | {n: getattr(ops, n)[index[-1]] for n in LABELS}
            ]
        )
        single = _seconds(kernel, alone, gpu, label, "cold")[0]
        same = bool(np.isclose(single, seconds[index], rtol=CLOSE, atol=0))
        require(same, f"{label}: an op alone takes {single:g} s, among others {seconds[index]:g} s")


def _seconds(kernel: KernelModel, ops: OpTrace, gpu: HardwareProfile, label: str, cache: Cache) -> FloatArray:
    with reported(f"{label}: latency with cache={cache!r}"):
        raw = kernel.latency(ops, gpu, cache=cache)
        seconds = np.asarray(raw, dtype=np.float64)
    right = seconds.ndim > 0 and seconds.shape[-1] == len(ops)
    if right:
        with reported(f"{label}: result of shape {seconds.shape}"):
            seconds = np.broadcast_to(seconds, ops.shape)
    require(right, f"{label}: result has shape {seconds.shape}; need {ops.shape}, op axis last")
    bad = ~np.isfinite(seconds) | (seconds <= 0)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        m, n, k = (float(np.broadcast_to(getattr(ops, name), ops.shape)[where]) for name in "mnk")
        raise ConformanceError(f"{label}: {seconds[where]:g} s for m={m:g}, n={n:g}, k={k:g}; need a positive time")
    return seconds
