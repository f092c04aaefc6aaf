"""The stack "paper": the research kernels of arXiv 2606.09080 (torch and cuBLAS, FlashAttention, Triton; CUDA graphs).

Constants are data: ``hardware_profiles/stacks/paper.toml`` gives value, unit, meaning and anchor of each. Rates are
shares of data-sheet figures, so that they carry over to other GPUs; times are in seconds. They were set on Llama-3.1-8B
on an RTX PRO 6000; elsewhere they are extrapolated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from pruninfersim import ops as catalogue
from pruninfersim._util.doors import door
from pruninfersim._util.toml import read_toml
from pruninfersim.cost import CostModel, Graph, Priced, Protocol, Spread
from pruninfersim.errors import FileFormatError
from pruninfersim.hardware import HardwareProfile, profiles_directory
from pruninfersim.kernels.base import KernelModel, Roofline
from pruninfersim.kernels.quantise import STEPS
from pruninfersim.stacks.paper.alignment import PaperAlignment
from pruninfersim.stacks.paper.attention import PaperBlockScore, PaperDecodeAttention, PaperPrefillAttention
from pruninfersim.stacks.paper.elementwise import PaperElementwise
from pruninfersim.stacks.paper.gemm import PaperGemm
from pruninfersim.stacks.paper.sparse24 import PaperSparse24
from pruninfersim.stacks.paper.token import PaperMaskSort, PaperTokenGemm
from pruninfersim.trace import OpTrace

SOURCE = "arXiv 2606.09080: Tables 2, 7, 8, Fig. 2, 6 and part of its grid of speedups"
#: Profiles that stand for the card on which the constants were set; on every other GPU they are extrapolated.
MEASURED_ON = ("rtx-pro-6000", "rtx-pro-6000-server")
#: LM head on every prompt token; the same speedup read off two figures (Fig. 5 and 9, and the grid) differs by 1.3 % in
#: the mean, which is 2.7 % at 90 % of a normal distribution; masks are drawn when a graph is captured, and three
#: captures are averaged.
PROTOCOL = Protocol(logits="all", repeatability=0.027, mask_draws=3)
#: Constants of `PaperAlignment`.
ALIGNMENT = ("misaligned_k", "misaligned_n", "quarter_n", "narrow_k", "narrow_k_16", "narrow_k_32")
#: How much wider the bands of the stack are on a GPU whose timings set none of its constants.
CARRIED_OVER = 2.0


@door
def paper(hardware: HardwareProfile) -> CostModel:
    """Return the stack of the research kernels of arXiv 2606.09080 and of its protocol.

    >>> from pruninfersim import hardware
    >>> paper(hardware.get("rtx-pro-6000")).protocol.logits
    'all'
    """
    on_card = hardware.name in MEASURED_ON
    factor, spreads = 1.0 if on_card else CARRIED_OVER, bands()
    priced = {
        key: Priced(
            model,
            "calibrated" if on_card else "extrapolated",
            Spread(*spreads.get(key, spreads["elementwise"])).widened(factor),
            catalogue.get(key).group,
            SOURCE,
        )
        for key, model in kernels(hardware).items()
    }
    return CostModel(
        "paper",
        hardware,
        priced,
        lower=Launches(tuple(launches_from(constants()).items())),
        clock=Graph(launch_gap()),
        protocol=PROTOCOL,
    )


@dataclass(frozen=True)
class Launches:
    """Lowering that says how many kernels each op is.

    Attributes
    ----------
    of : tuple of (str, float)
        Kernel key and its launches, where they are not 1.
    """

    of: tuple[tuple[str, float], ...]

    def __call__(self, trace: OpTrace) -> OpTrace:
        """Return the trace with its launches."""
        known = dict(self.of)
        return trace.with_columns(launches=np.array([known.get(key, 1.0) for key in trace.kernel]))


def launches_from(c: Mapping[str, float]) -> dict[str, float]:
    """Return how many kernels one op is, by kernel key, where it is not one: nothing is fused in eager torch.

    Parameters
    ----------
    c : mapping of str to float
        All names of `constants`.
    """
    return {
        **dict.fromkeys(("gemm", "lm_head", "gemm_2of4", "token_gemm"), c["gemm_launches"]),
        # A residual add and a norm; SiLU and a product; queries and keys, keys and values.
        **dict.fromkeys(("norm", "act", "rope", "qk_norm", "kv_append"), 2.0),
        "transpose": c["sparse24_transposes"],
        # The scoring kernel chooses as well: no launch of its own.
        "block_index": 0.0,
    }


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
    >>> round(kernels(hardware.get("rtx-pro-6000"))["norm"].passes, 2)  # an add and a norm move 5 elements, fused 4
    1.25
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
        alignment=PaperAlignment(**{name: c[name] for name in ALIGNMENT}),
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
    )
    token = PaperTokenGemm(
        dense=gemm,
        efficiency=c["token_efficiency"],
        zero_fill=c["token_zero_fill"],
        copy_efficiency=c["elementwise_efficiency"],
        single_penalty=c["token_single_penalty"],
        batch_efficiency=c["token_batch_efficiency"],
    )
    sort = PaperMaskSort(
        prefill_start=c["sort_prefill_start"],
        token_bytes=c["sort_token_bytes"],
        single=c["sort_single"],
        batched=c["sort_batched"],
    )
    score = PaperBlockScore(
        query_passes=c["block_query_passes"],
        key_passes=c["block_key_passes"],
        copy_efficiency=c["elementwise_efficiency"],
        start=c["elementwise_start"],
    )
    return {
        "gemm": gemm,
        "lm_head": head,
        "gemm_2of4": sparse,
        "token_gemm": token,
        "mask_sort": sort,
        "block_score": score,
        "block_index": Roofline(),
        **_attention(c),
        **_elementwise(c),
    }


def _attention(c: Mapping[str, float]) -> dict[str, KernelModel]:
    first, step = c["attention_prefill_start"], c["attention_decode_start"]
    rate, half, stream = c["attention_efficiency"], c["attention_half_length"], c["attention_stream"]
    return {
        "attention_prefill": PaperPrefillAttention(rate, half, first),
        "token_attention_prefill": PaperPrefillAttention(rate, half + c["token_attention_half_length"], first),
        "block_sparse_prefill": PaperPrefillAttention(
            rate * c["block_efficiency"], half + c["block_half_length"], first
        ),
        "attention_decode": PaperDecodeAttention(stream, step),
        "token_attention_decode": PaperDecodeAttention(stream, step, skips=True),
        "block_sparse_decode": PaperDecodeAttention(stream * c["block_stream"], step),
    }


def _elementwise(c: Mapping[str, float]) -> dict[str, KernelModel]:
    """Return the elementwise kernels: passes over the bytes of the fused op, which the launches of the op share."""

    def passes(count: float) -> PaperElementwise:
        return PaperElementwise(c["elementwise_efficiency"], c["elementwise_l2_gain"], c["elementwise_start"], count)

    once = passes(1.0)
    return {
        # Fused residual add and norm move 4 elements per position; an add (3) and a norm (2) move 5.
        "norm": passes(5.0 / 4.0),
        # Fused SiLU and product move 3 elements; SiLU (2) and product (3) move 5.
        "act": passes(5.0 / 3.0),
        **dict.fromkeys(("rope", "qk_norm", "kv_append", "embedding", "router", "elementwise", "token_copy"), once),
        **dict.fromkeys((step for steps in STEPS.values() for step in steps), once),
        "transpose": passes(c["sparse24_transposes"]),
    }
