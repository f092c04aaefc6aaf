"""The stack "paper": the research kernels of arXiv 2606.09080 (torch and cuBLAS, FlashAttention, Triton; CUDA graphs).

Constants are data: ``hardware_profiles/stacks/paper.toml`` gives value, unit, meaning and anchor of each. Rates are
shares of data-sheet figures, so that they carry over to other GPUs; times are in seconds. They were set on Llama-3.1-8B
on an RTX PRO 6000; elsewhere they are extrapolated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType

from pruninfersim._profile_toml import read_toml
from pruninfersim.errors import FileFormatError
from pruninfersim.hardware import HardwareProfile, profiles_directory
from pruninfersim.kernels.base import KernelModel
from pruninfersim.kernels.paper.attention import (
    PaperBlockIndex,
    PaperBlockScore,
    PaperDecodeAttention,
    PaperPrefillAttention,
)
from pruninfersim.kernels.paper.elementwise import PaperElementwise
from pruninfersim.kernels.paper.gemm import PaperGemm
from pruninfersim.kernels.paper.sparse24 import PaperSparse24
from pruninfersim.kernels.paper.token import PaperMaskSort, PaperTokenGemm

__all__ = [
    "MASK_DRAWS",
    "MEASURED_ON",
    "SOURCE",
    "PaperBlockIndex",
    "PaperBlockScore",
    "PaperDecodeAttention",
    "PaperElementwise",
    "PaperGemm",
    "PaperMaskSort",
    "PaperPrefillAttention",
    "PaperSparse24",
    "PaperTokenGemm",
    "bands",
    "constants",
    "kernels",
    "kernels_from",
    "launch_gap",
]

SOURCE = "arXiv 2606.09080: Tables 2, 7, 8, Fig. 2, 6 and part of its grid of speedups"
#: Profiles that stand for the card on which the constants were set; on every other GPU they are extrapolated.
MEASURED_ON = ("rtx-pro-6000", "rtx-pro-6000-server")
#: Masks are drawn when a graph is captured, and three captures are averaged (protocol of the paper).
MASK_DRAWS = 3


@lru_cache(maxsize=1)
def _table() -> Mapping[str, Mapping[str, Mapping[str, object]]]:
    file = profiles_directory() / "stacks" / "paper.toml"
    content = read_toml(file)
    for section in ("constants", "bands"):
        for name, entry in content.get(section, {}).items():
            lacking = {"value", "unit", "meaning", "anchor"} - set(entry) if section == "constants" else set()
            if lacking:
                raise FileFormatError(f"{file}: {name} lacks {', '.join(sorted(lacking))}.")
    return content


def constants() -> Mapping[str, float]:
    """Return every constant of the stack by name, in SI units.

    Raises
    ------
    FileFormatError
        If the file of the stack cannot be understood.

    >>> 0.86 < constants()["memory_efficiency"] < 0.96  # between what Fig. 6 and what Fig. 2 say
    True
    """
    return MappingProxyType({n: float(str(entry["value"])) for n, entry in _table()["constants"].items()})


def kernels(hardware: HardwareProfile) -> dict[str, KernelModel]:
    """Return the kernel model of each kernel key.

    The models read what differs between GPUs (peak, bandwidth, SMs, L2, compute capability) when they price.

    >>> from pruninfersim import hardware
    >>> kernels(hardware.get("rtx-pro-6000"))["norm"].launches  # residual add and norm are two kernels
    2.0
    """
    return kernels_from(constants())


def launch_gap() -> float:
    """Return the time that a kernel launch inside a CUDA graph adds [s].

    >>> 1e-6 < launch_gap() < 1.5e-6
    True
    """
    return constants()["launch_gap"]


def bands() -> dict[str, tuple[float, float, float]]:
    """Return low, high (5 and 95 % quantiles of ln(measured / predicted)) and common share of error, by kernel key.

    >>> low, high, common = bands()["gemm"]
    >>> low < 0 < high
    True
    """
    table = _table()["bands"]
    return {
        key: (-float(str(entry["half_width"])), float(str(entry["half_width"])), float(str(entry["common"])))
        for key, entry in table.items()
    }


def kernels_from(c: Mapping[str, float]) -> dict[str, KernelModel]:
    """Return the kernel models that follow from a set of constants (a fit varies them).

    Parameters
    ----------
    c : mapping of str to float
        All names of `constants`.
    """
    gemm = PaperGemm(
        compute_efficiency=c["compute_efficiency"],
        feed=c["feed"],
        tile_overhead=c["tile_overhead"],
        small_tile_efficiency=c["small_tile_efficiency"],
        tile_start=c["tile_start"],
        memory_efficiency=c["memory_efficiency"],
        stream_start=c["stream_start"],
        misaligned=c["misaligned"],
        cta_stream=c["cta_stream"],
        cta_least=c["cta_least"],
        tail_stream=c["tail_stream"],
        replay_bandwidth=c["replay_bandwidth"],
        replay_cta_stream=c["replay_cta_stream"],
        launches=c["gemm_launches"],
    )
    head = replace(gemm, compute_efficiency=c["compute_efficiency"] * c["head_efficiency"], whole_grid=True)
    sparse = PaperSparse24(
        compute_efficiency=c["compute_efficiency"] * c["sparse24_speedup"],
        half_length=c["sparse24_half_length"],
        k_step=c["sparse24_k_step"],
        tile_start=c["tile_start"],
        memory_efficiency=c["memory_efficiency"],
        replay_bandwidth=c["replay_bandwidth"],
        padding=c["sparse24_padding"],
        launches=c["gemm_launches"],
    )
    token = PaperTokenGemm(
        dense=gemm,
        efficiency=c["token_efficiency"],
        zero_fill=c["token_zero_fill"],
        copy_efficiency=c["elementwise_efficiency"],
        single_penalty=c["token_single_penalty"],
        batch_efficiency=c["token_batch_efficiency"],
        launches=c["gemm_launches"],
    )
    sort = PaperMaskSort(
        prefill_start=c["sort_prefill_start"],
        token_bytes=c["sort_token_bytes"],
        single=c["sort_single"],
        batched=c["sort_batched"],
        launches=1.0,
    )
    score = PaperBlockScore(
        query_passes=c["block_query_passes"],
        key_passes=c["block_key_passes"],
        copy_efficiency=c["elementwise_efficiency"],
        start=c["elementwise_start"],
        launches=1.0,
    )
    return {
        "gemm": gemm,
        "lm_head": head,
        "gemm_2of4": sparse,
        "token_gemm": token,
        "mask_sort": sort,
        "block_score": score,
        # The scoring kernel chooses as well: no launch of its own.
        "block_index": PaperBlockIndex(),
        **_attention(c),
        **_elementwise(c),
    }


def _attention(c: Mapping[str, float]) -> dict[str, KernelModel]:
    first, step = c["attention_prefill_start"], c["attention_decode_start"]
    rate, half, stream = c["attention_efficiency"], c["attention_half_length"], c["attention_stream"]
    return {
        "attention_prefill": PaperPrefillAttention(rate, half, first, 1.0),
        "token_attention_prefill": PaperPrefillAttention(rate, half + c["token_attention_half_length"], first, 1.0),
        "block_sparse_prefill": PaperPrefillAttention(
            rate * c["block_efficiency"], half + c["block_half_length"], first, 1.0
        ),
        "attention_decode": PaperDecodeAttention(stream, step, 1.0),
        "token_attention_decode": PaperDecodeAttention(stream, step, 1.0, skips=True),
        "block_sparse_decode": PaperDecodeAttention(stream * c["block_stream"], step, 1.0),
    }


def _elementwise(c: Mapping[str, float]) -> dict[str, KernelModel]:
    """Return the elementwise kernels: passes over the bytes of the fused op, and kernels that share them."""

    def unfused(passes: float, launches: float) -> PaperElementwise:
        return PaperElementwise(
            c["elementwise_efficiency"], c["elementwise_l2_gain"], c["elementwise_start"], passes, launches
        )

    once = unfused(1.0, 1.0)
    return {
        # Fused residual add and norm move 4 elements per position; an add (3) and a norm (2) move 5.
        "norm": unfused(5.0 / 4.0, 2.0),
        # Fused SiLU and product move 3 elements; SiLU (2) and product (3) move 5.
        "act": unfused(5.0 / 3.0, 2.0),
        # Queries and keys, keys and values: one kernel each.
        "rope": unfused(1.0, 2.0),
        "qk_norm": unfused(1.0, 2.0),
        "kv_append": unfused(1.0, 2.0),
        "embedding": once,
        "router": once,
        "elementwise": once,
        "transpose": unfused(c["sparse24_transposes"], c["sparse24_transposes"]),
    }
