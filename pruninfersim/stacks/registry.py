"""The named stacks, and what a `stack=` argument may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

from pruninfersim._util.doors import door
from pruninfersim.cost import CostModel
from pruninfersim.errors import InvalidInputError
from pruninfersim.hardware import HardwareProfile
from pruninfersim.stacks.engines import ENGINES
from pruninfersim.stacks.fused_dynamic import fused_dynamic
from pruninfersim.stacks.ideal import ideal
from pruninfersim.stacks.names import find
from pruninfersim.stacks.paper.stack import paper
from pruninfersim.stacks.vendor import vendor

#: A stack is a function of the GPU; its facts (what it launches, kernels, clock, protocol) are on the cost model.
Stack = Callable[[HardwareProfile], CostModel]
#: Stack of the command line, and of every function, where none is named.
DEFAULT = "vendor"
#: Name -> stack. One of your own needs no entry here: pass the function itself.
STACKS: dict[str, Stack] = {
    "fused-dynamic": fused_dynamic, "ideal": ideal, "paper": paper, "vendor": vendor, **ENGINES
}  # fmt: skip


@door
def get(
    stack: str | Stack | CostModel, hardware: HardwareProfile, *, registry: Mapping[str, Stack] = STACKS
) -> CostModel:
    """Return the cost model of a stack on a GPU.

    Parameters
    ----------
    stack : str, callable or CostModel
        A name; a function from a GPU to a cost model; or a cost model, which is returned as it is.
    hardware : HardwareProfile
    registry : mapping of str to callable, optional
        The stacks that have names; default is `STACKS`.

    Raises
    ------
    UnknownNameError
        If no stack has this name.
    InvalidInputError
        If the cost model was built for another GPU, or `stack` is none of the three.

    >>> from pruninfersim import hardware
    >>> get("vendor", hardware.get("h100-sxm")).stack
    'vendor'
    """
    if isinstance(stack, CostModel):
        if stack.hardware != hardware.device:
            raise InvalidInputError(
                f"this cost model is for {stack.hardware.name}, not for {hardware.name}; build one for each GPU, or "
                "give the function that builds it"
            )
        return stack
    if isinstance(stack, str):
        return _build(registry[find(stack, registry)], hardware)
    if not callable(stack) or isinstance(stack, type):
        raise InvalidInputError(
            f"stack must be a name ({', '.join(sorted(registry))}), a function from a GPU to a CostModel, or a "
            f"CostModel; got {type(stack).__name__}"
        )
    made = stack(hardware)
    if not isinstance(made, CostModel):
        raise InvalidInputError(f"the stack function must return a CostModel; it returned {type(made).__name__}")
    return made


@door
def names() -> list[str]:
    """Return the names of all stacks, sorted.

    >>> names()
    ['fused-dynamic', 'ideal', 'paper', 'sglang', 'tensorrt-llm', ...]
    """
    return sorted(STACKS)


@lru_cache(maxsize=256)
def _build(stack: Stack, hardware: HardwareProfile) -> CostModel:
    return stack(hardware)
