"""Does a stack keep the contract of one?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pruninfersim import hardware as hardware_registry
from pruninfersim import pruning
from pruninfersim import stacks as stack_registry
from pruninfersim.cost import CostModel
from pruninfersim.cost.speedups import total_flops
from pruninfersim.hardware import HardwareProfile
from pruninfersim.models import ModelConfig
from pruninfersim.stacks import Stack
from pruninfersim.testing.common import CLOSE, WORKLOADS, reported, require, snapshot
from pruninfersim.trace import trace
from pruninfersim.workload import Workload


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
    with reported("building the stack"):
        cost_model, again = stack_registry.get(stack, gpu), stack_registry.get(stack, gpu)
    label = f"stack {cost_model.stack!r}"
    require(bool(cost_model.stack), "the stack has no label")
    require(cost_model.hardware == gpu.device, f"{label}: built for {cost_model.hardware.name}, asked for {gpu.name}")
    require(again.stack == cost_model.stack, f"{label}: has another label the second time")
    for workload in workloads:
        dense = trace(model, workload)
        for ops in (dense, dense.prune(pruning.StaticWidth(0.5))):
            with reported(f"{label}: lower"):
                before = snapshot(ops)
                lowered = cost_model.lower(ops)
                twice = cost_model.lower(lowered)
            require(snapshot(ops) == before, f"{label}: lower changed the trace that it was given; return a new one")
            require(snapshot(twice) == snapshot(lowered), f"{label}: lowering a lowered trace changes it")
            same = np.allclose(total_flops(lowered), total_flops(ops), rtol=CLOSE, atol=0)
            require(same, f"{label}: lower changes the FLOPs from {total_flops(ops):g} to {total_flops(lowered):g}")
            kept = lowered.applied == ops.applied and lowered.model is ops.model and lowered.workload is ops.workload
            require(kept, f"{label}: the lowered trace has lost its model, workload or notes on pruning")
            with reported(f"{label}: predict"):
                step = cost_model.predict(ops)
            sound = bool(np.isfinite(step.seconds).all() and (step.seconds > 0).all())
            require(sound, f"{label}: an op has no positive finite time")
            require(bool((step.gap >= 0).all()), f"{label}: the clock gives a negative wait")
            fast = bool((step.run < step.limit * (1.0 - CLOSE)).any())
            require(not fast, f"{label}: an op is faster than its roofline")
            unknown = sorted(set(step.provenance.tolist()) - {"roofline", "calibrated", "extrapolated"})
            require(not unknown, f"{label}: unknown provenance {', '.join(unknown)}")
            held = bool(step.interval[0] <= step.latency <= step.interval[1])
            require(held, f"{label}: its time is outside of its interval")
