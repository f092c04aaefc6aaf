"""Stacks: named sets of kernel models, that is, which software runs the ops."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from pruninfersim.cost import CostModel, Priced
from pruninfersim.errors import InvalidInputError, unknown_name
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import NO_GEMM, Roofline
from pruninfersim.uncertainty import Spread
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


def paper(hardware: HardwareProfile) -> CostModel:
    """Return the stack of the research kernels of arXiv 2606.09080, which are imported when first asked for."""
    from pruninfersim.kernels import paper as research

    on_card = hardware.name in research.MEASURED_ON
    factor = 1.0 if on_card else CARRIED_OVER
    bands = research.bands()
    priced = {
        key: Priced(
            model,
            "calibrated" if on_card else "extrapolated",
            Spread(*bands.get(key, bands["elementwise"])).widened(factor),
            "attention" if "attention" in key or "block_sparse" in key else "elementwise" if key in NO_GEMM else "gemm",
            research.SOURCE,
            getattr(model, "launches", 1.0),
        )
        for key, model in research.kernels(hardware).items()
    }
    return CostModel("paper", hardware, priced, research.launch_gap(), REPEATABILITY, research.MASK_DRAWS)


#: The same speedup read off two figures of arXiv 2606.09080 (Fig. 5 and 9, and its grid) differs by 1.3 % in the mean,
#: which is 2.7 % at 90 % of a normal distribution.
REPEATABILITY = 0.027
#: How much wider the bands of the paper stack are on a GPU whose timings set none of its constants.
CARRIED_OVER = 2.0
#: Name -> function that builds the cost model of a stack for a GPU.
STACKS: dict[str, Callable[[HardwareProfile], CostModel]] = {"ideal": ideal, "paper": paper, "vendor": vendor}


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
    InvalidInputError
        If the cost model was built for another GPU.

    >>> from pruninfersim import hardware
    >>> get("vendor", hardware.get("h100-sxm")).stack
    'vendor'
    """
    if isinstance(stack, CostModel):
        if stack.hardware != hardware:
            raise InvalidInputError(
                f"this cost model is for {stack.hardware.name}, not for {hardware.name}; build one for each GPU"
            )
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
