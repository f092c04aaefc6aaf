"""A host from one measured dense step: worth more than any default."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pruninfersim import hardware as hardware_registry
from pruninfersim._util.arrays import checked
from pruninfersim._util.doors import door
from pruninfersim.errors import InvalidInputError, shown
from pruninfersim.hardware import HardwareProfile
from pruninfersim.models import ModelConfig
from pruninfersim.questions.setup import Setup
from pruninfersim.stacks.engines import Engine, Host, engine
from pruninfersim.stacks.engines.hosts import UNKNOWN
from pruninfersim.workload import Workload

#: Band of a host that one step was measured on: one constant explains other sizes of model within 2.4 %, and runs
#: differ by 5 %.
MEASURED = (0.95, 1.06)


@door
def calibrate_engine(
    stack: str | Engine,
    *,
    seconds: float,
    workload: Workload,
    model: str | ModelConfig,
    hardware: str | HardwareProfile,
    dtype: str | None = None,
) -> Engine:
    """Return an engine on the host on which one dense step took `seconds`.

    In a step that no CUDA graph holds, the time over the number of launches is the issue time, if the host is behind
    the GPU; under a graph, what the kernels leave of the step is the engine's own time. Where the step says nothing
    about the host, because the GPU sets its time, this is an error: measure a smaller batch or a shorter prompt.

    Parameters
    ----------
    stack : str or Engine
        For instance "transformers" or "vllm".
    seconds : float
        Measured time of the step [s].
    workload : Workload
        What the step did: a single one, no sweep.
    model, hardware : str or object
        Dense model, and GPU.
    dtype : str, optional
        Precision of the linear layers.

    Returns
    -------
    Engine
        A stack, with a host called "measured".

    Raises
    ------
    InvalidInputError
        If the time is not positive, or the GPU alone explains it.

    >>> here = calibrate_engine("transformers", seconds=19.4e-3, workload=Workload.decode(context=200),
    ...                         model="llama-3.2-1b", hardware="l4")
    >>> round(here.host.issue * 1e6, 1)
    28.0
    """
    if not 0 < float(checked("seconds", seconds)) < np.inf:
        raise InvalidInputError(f"seconds must be above 0; got {shown(seconds)}")
    if workload.shape:
        raise InvalidInputError("calibrate_engine needs one measured step, not a sweep of workloads")
    base = engine(stack) if isinstance(stack, str) else stack
    gpu = hardware_registry.get(hardware)
    # As if the host took no time at all: the work of the GPU, and the number of launches.
    setup = Setup(model, gpu, replace(base, host=replace(UNKNOWN, issue=0.0), scale=1.0), dtype)
    step = setup.estimate(workload)
    own_rows = step.trace.mask(kernels=["host_step", "host_sequence"])
    own = float(np.where(own_rows, step.seconds, 0.0).sum())
    launches, rest = float(step.chain.launches) if step.chain else 0.0, seconds - (float(step.busy) - own)
    if rest <= 0 or (launches and seconds <= float(step.interval[1])):
        raise InvalidInputError(
            f"the GPU alone takes {(float(step.busy) - own) * 1e3:.3g} ms for this step, and {seconds * 1e3:.3g} ms "
            "were measured: it says nothing about the host. Measure a smaller batch, a shorter prompt or a smaller "
            "model"
        )
    low, high = MEASURED
    if launches:
        # Own time comes after the step and grows with the issue time.
        issue = seconds / (launches + own / UNKNOWN.issue)
        return base.on(Host("measured", issue, low, high, f"{seconds * 1e3:.4g} ms for {launches:.0f} launches"))
    if own <= 0:
        raise InvalidInputError(
            f"{base.name} runs this step in a graph and does nothing beside it; nothing to calibrate"
        )
    scale = rest / own
    host = Host("measured", UNKNOWN.issue * scale, UNKNOWN.low, UNKNOWN.high, f"{seconds * 1e3:.4g} ms for one step")
    return replace(base.on(host), scale=scale)
