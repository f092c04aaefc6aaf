"""The kinds of kernels that can be calibrated: one line each; what is known about a kind stands below its kernel."""

from __future__ import annotations

from pruninfersim.errors import unknown_name
from pruninfersim.kernels import (
    all_reduce,
    attention_decode,
    attention_prefill,
    attention_prefill_8bit,
    elementwise,
    gemm,
    gemm_2of4,
    library_gemm,
    mla,
    moe,
    quantise,
)
from pruninfersim.kernels.kind import Kind

KERNELS: dict[str, Kind] = {
    "gemm": gemm.KIND,
    "attention_prefill": attention_prefill.KIND,
    "attention_decode": attention_decode.KIND,
    "attention_prefill_kv8": attention_prefill_8bit.KIND_8BIT,
    "attention_decode_kv8": attention_decode.KIND_8BIT,
    "gemm_2of4": gemm_2of4.KIND,
    "moe": moe.KIND,
    "moe_triton": moe.TRITON,
    **mla.KINDS,
    **all_reduce.KINDS,
    **library_gemm.KINDS,
    **elementwise.KINDS,
    **quantise.KINDS,
}


def get(kind: str) -> Kind:
    """Return what calibration knows about `kind`.

    Raises
    ------
    UnknownNameError
        If there is no such kind.

    >>> get("gemm").shape
    ('m', 'n', 'k')
    """
    if kind not in KERNELS:
        raise unknown_name("kernel kind", kind, KERNELS)
    return KERNELS[kind]
