"""Times the steps of a plan on the GPU of this process, with nvidia-smi read in the background."""

from __future__ import annotations

import warnings
from types import TracebackType
from typing import Any, Self

import torch

from pruninfersim.measure import device, timing
from pruninfersim.measure.benches import Maker
from pruninfersim.measure.benches_layer import BUILDERS_OF_ALL
from pruninfersim.measure.monitor import Monitor
from pruninfersim.measure.planning import Step
from pruninfersim.measure.protocol import Protocol
from pruninfersim.measure.runner import ContextLostError

#: Shapes that one function may be compiled for; torch expects a few.
COMPILED_SHAPES = 10_000


class Executor:
    """Context in which steps can be timed."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.monitor = Monitor(device.smi_identifier(torch))
        self.l2_size = torch.cuda.get_device_properties(0).L2_cache_size

    def __enter__(self) -> Self:
        for name in ("recompile_limit", "cache_size_limit"):  # its name depends on the version of torch
            if hasattr(torch._dynamo.config, name):
                setattr(torch._dynamo.config, name, COMPILED_SHAPES)
        torch.manual_seed(0)
        self.monitor.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.monitor.__exit__(kind, error, trace)

    def execute(self, step: Step) -> dict[str, Any]:
        """Build the bench of a step and time it.

        Raises
        ------
        ContextLostError
            If CUDA is unusable afterwards; any other error concerns the step alone.
        """
        case = step.case
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # prototypes and deprecations of torch; they would break the bar
                copies = self.protocol.copies(case.traffic, self.l2_size)
                return timing.take(BUILDERS_OF_ALL[case.kind](case, Maker(copies)), self.protocol, self.monitor)
        except Exception as error:
            if timing.context_is_lost():
                raise ContextLostError(f"{type(error).__name__} in {case}: CUDA is unusable") from error
            raise
        finally:
            timing.release()
