"""Stacks: named sets of kernel models, that is, which software runs the ops."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from pruninfersim.cost import CostModel, Priced
from pruninfersim.errors import unknown_name
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Roofline
from pruninfersim.workload import Logits

#: Stack of the command line where none is named.
DEFAULT = "vendor"
#: Every kernel key that a trace of this library uses.
KERNEL_KEYS = (
    "gemm", "lm_head", "gemm_2of4", "token_gemm", "router",
    "attention_prefill", "attention_decode", "token_attention_prefill", "token_attention_decode",
    "block_sparse_prefill", "block_sparse_decode", "block_score", "block_index",
    "norm", "qk_norm", "rope", "kv_append", "act", "embedding", "transpose", "mask_sort", "elementwise",
)  # fmt: skip


def ideal(hardware: HardwareProfile) -> CostModel:
    """Return the stack in which every op runs at its roofline."""
    priced = Priced(Roofline(), "roofline", source="Williams et al. 2009, doi:10.1145/1498765.1498785")
    return CostModel("ideal", hardware, dict.fromkeys(KERNEL_KEYS, priced))


def vendor(hardware: HardwareProfile) -> CostModel:
    """Return the stack of NVIDIA's libraries; see `pruninfersim.vendor`, which is imported when first asked for."""
    from pruninfersim.vendor import vendor as build

    return build(hardware)


#: Name -> function that builds the cost model of a stack for a GPU.
STACKS: dict[str, Callable[[HardwareProfile], CostModel]] = {"ideal": ideal, "vendor": vendor}


def get(stack: str | CostModel, hardware: HardwareProfile) -> CostModel:
    """Return the cost model of a stack on a GPU.

    Parameters
    ----------
    stack : str or CostModel
        A name, or a cost model of one's own, which is returned as it is.
    hardware : HardwareProfile

    Raises
    ------
    UnknownNameError
        If no stack has this name.
    """
    if isinstance(stack, CostModel):
        return stack
    if stack not in STACKS:
        raise unknown_name("stack", stack, STACKS)
    return _build(stack, hardware)


def default_logits(stack: str | CostModel) -> Logits:
    """Return which prompt tokens pass the LM head where nobody says: all in the protocol of arXiv 2606.09080.

    >>> default_logits("paper"), default_logits("vendor")
    ('all', 'last')
    """
    name = stack.stack if isinstance(stack, CostModel) else stack
    return "all" if name == "paper" else "last"


@lru_cache(maxsize=256)
def _build(stack: str, hardware: HardwareProfile) -> CostModel:
    return STACKS[stack](hardware)
