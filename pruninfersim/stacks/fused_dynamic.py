"""The stack "fused-dynamic": the vendor stack with fused kernels for pruning by token, by head and by group.

It says what a kernel worth writing would bring: between stack "vendor", which has library calls only, and "ideal".
"""

from __future__ import annotations

from dataclasses import replace

from pruninfersim._util.doors import door
from pruninfersim.cost import CostModel, Priced, Provenance, Spread
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Roofline
from pruninfersim.kernels.compressed import ExitAttention
from pruninfersim.kernels.fused_dynamic import FusedGemm, FusedPromptAttention
from pruninfersim.stacks.vendor import COMPOSED, vendor

#: The card that was timed, and half-widths at 90 % in log units: of measured lengths left out, and on other cards.
TIMED, LEFT_OUT, ELSEWHERE = "rtx-5090", 0.2, 0.35
#: GEMMs that have such a kernel.
GEMMS = ("token_gemm", "group_gemm_n", "group_gemm_k", "fine_gemm_n", "fine_gemm_k")
SOURCE = "kernels of dynamic pruning measured on an RTX 5090 at 50 % (published with WIDE)"


@door
def fused_dynamic(hardware: HardwareProfile) -> CostModel:
    """Return the vendor stack with fused kernels for dynamic pruning.

    Preparing the layout of the tokens is part of these kernels' times: the index of kept tokens is a small kernel here.

    >>> from pruninfersim import hardware
    >>> fused_dynamic(hardware.get("rtx-5090")).priced("group_gemm_n", "bf16").provenance
    'calibrated'
    """
    base = vendor(hardware)
    own = hardware.name == TIMED
    width = LEFT_OUT if own else ELSEWHERE
    evidence: Provenance = "calibrated" if own else "extrapolated"
    # Timed in a CUDA graph, gap and all.
    timed = Priced(Roofline(), evidence, Spread(-width, width), source=SOURCE, launches=0.0)
    fused = {
        key.replace("gemm", name, 1): replace(timed, model=FusedGemm(priced.model))
        for key, priced in base.kernels.items()
        for name in GEMMS
        if key.partition("/")[0] == "gemm"
    }
    prefill = replace(timed, model=FusedPromptAttention(base.kernels["attention_prefill"].model))
    decode = base.kernels["attention_decode"]
    kernels = {
        **base.kernels,
        **fused,
        "token_attention_prefill": prefill,
        "token_attention_decode": replace(
            decode,
            model=ExitAttention(decode.model),
            provenance="extrapolated",
            spread=decode.spread.with_independent(COMPOSED),
        ),
        "mask_sort": base.kernels["act"],
    }
    return replace(base, stack="fused-dynamic", kernels=kernels, calibrated=None)
