"""The vendor stack: cuBLAS, cuSPARSELt, FlashAttention and fused elementwise kernels under a CUDA graph.

Kernel models come from the calibration of the GPU itself, or else from the most similar GPUs that were timed
(`pruninfersim.calibration.nearest`), and then say "extrapolated" and carry the error that leaving a GPU out has shown.
A family without a library kernel runs as one would compose it from library calls. q, k, v are one GEMM, and gate, up
another, as serving engines run them (vLLM, SGLang and TensorRT-LLM all merge their weights when they load them).

GEMM and attention were timed inside a CUDA graph, gap and all; elementwise kernels were timed alone, so that each of
their launches adds a gap. Kernels only: no host, no scheduler, no sampling; the engines add them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from pruninfersim._util.doors import door
from pruninfersim._util.lazy import Grouped
from pruninfersim.calibration import kinds
from pruninfersim.calibration.nearest import band, check_own, nearest_calibration, timed
from pruninfersim.calibration.record import Calibration
from pruninfersim.cost import EVERYWHERE, CostModel, Graph, Priced, Protocol
from pruninfersim.errors import unknown_name
from pruninfersim.hardware import HardwareProfile, precision, traits
from pruninfersim.kernels.attention_chunk import ChunkAttention
from pruninfersim.kernels.attention_prefill import KVAppend
from pruninfersim.kernels.attention_pruned import BlockSparseAttention, GatheredAttention
from pruninfersim.kernels.base import KernelModel
from pruninfersim.kernels.compressed import ColumnGemm, ExitAttention, ExitGemm, MaskedGemm
from pruninfersim.kernels.gemm import Gemm
from pruninfersim.kernels.gemm_2of4 import SparseGemm24
from pruninfersim.kernels.library_gemm import LibraryGemm
from pruninfersim.kernels.linear_attention import LinearScan
from pruninfersim.kernels.quantise import STEPS
from pruninfersim.kernels.token_gemm import BatchedGemm, MaskSort, TokenCopy, VendorTokenGemm
from pruninfersim.stacks.copies import with_token_copies
from pruninfersim.stacks.quantisation import narrow_names, of_other_width, with_narrow_cache, with_quantisation
from pruninfersim.stacks.systolic import systolic
from pruninfersim.trace import OpTrace

#: Format -> kind of its GEMM where that is not cuBLAS; "fp4" is nvfp4 by another name.
OTHER_KINDS = dict.fromkeys(("fp8_block", "nvfp4", "int8_wo", "int4_wo", "mxfp4"), "gemm_trtllm")
#: Libraries of an engine -> its kinds: TensorRT-LLM runs what the vendor's stack runs, SGLang kernels of its own.
LIBRARIES = {
    "trtllm": OTHER_KINDS,
    "sglang": OTHER_KINDS | dict.fromkeys(("fp8", "fp8_block", "nvfp4"), "gemm_sglang"),
}
#: Narrow formats whose mixtures of experts were timed.
TIMED_EXPERTS = ("fp8", "fp8_block")
#: Half-width at 90 % of two measurements of one speedup of a whole model: 2.7 % in arXiv 2606.09080 (its figures
#: against its grid), the only repetition of such measurements at hand.
REPEATABILITY = 0.027
#: Parameters of the prefill kernel that price the separate write of the KV cache.
WRITE = ("kv_write", "memory_efficiency")
#: Gap between two kernels of a CUDA graph [s]: 24.6 us for 20 launches of a decode layer (arXiv 2606.09080, Fig. 6).
GRAPH_GAP = 1.2e-6
#: Half-width in log units of what a composition of library calls adds to the error of its parts.
COMPOSED = 0.15


@door
def vendor(
    hardware: HardwareProfile,
    calibrations: Sequence[Calibration] = (),
    *,
    quantise: str = "fused",
    library: str | None = None,
) -> CostModel:
    """Return the vendor stack on a GPU.

    All timings are of NVIDIA's libraries. On an accelerator of another vendor the same formulas speak for libraries of
    the same quality on its data sheet: extrapolated, with bands twice as wide. Systolic parts (TPU, Gaudi) have no
    tiles and waves to count: roofline at stated efficiencies, see `pruninfersim.stacks.systolic`.

    Parameters
    ----------
    hardware : HardwareProfile
    calibrations : sequence of Calibration
        Of this GPU, in place of the shipped ones, wherever such a kernel is part of another: a GEMM in 2:4, in
        token-wise and low-rank GEMMs, in the LM head and in routers. Elementwise kernels that were timed with cold
        operands are taken to have been timed inside of a graph, gap and all, as ``pruninfersim measure`` does.
    quantise : {"fused", "per-token", "dynamic"}
        How the activations of narrow GEMMs get narrow: by the norm or activation before (static scales), by one kernel
        per distinct input, or by two.
    library : {"trtllm", "sglang"}, optional
        Engine whose kernels run narrow GEMMs; default is the vendor's own, which TensorRT-LLM runs too.

    Raises
    ------
    UnknownNameError
        If there is no such way to quantise, or library.
    InvalidInputError
        If a calibration is of another GPU.

    >>> from pruninfersim import hardware
    >>> vendor(hardware.get("h100-sxm")).priced("gemm", "bf16").provenance
    'calibrated'
    """
    check_own(calibrations, hardware)
    if quantise not in STEPS:
        raise unknown_name("quantisation of activations", quantise, STEPS)
    if library is not None and library not in LIBRARIES:
        raise unknown_name("library", library, LIBRARIES)
    fitted = partial(_fitted, hardware=hardware, own=tuple(calibrations))
    gemm, prefill, decode = (fitted(kind, "bf16") for kind in ("gemm", "attention_prefill", "attention_decode"))
    decode8 = partial(fitted, "attention_decode_kv8", "fp8")
    chunk = _chunked(prefill, decode)
    ops = {name: fitted(f"elementwise_{name}", "bf16") for name in ("norm", "qk_norm", "rope", "act", "embedding")}
    if library is not None and isinstance(gemm.model, Gemm) and not gemm.model.protocol:
        gemm = replace(gemm, model=replace(gemm.model, protocol=library))
    stream = ops["act"]
    kernels = {
        "gemm": gemm,
        **dict.fromkeys(("lm_head", "shared_head", "shared_gemm"), gemm),
        **_without_library(gemm),
        "router": gemm,
        "token_gemm": _composed(VendorTokenGemm(gemm.model), gemm, "dense GEMM on packed rows"),
        "exit_attention": _composed(ExitAttention(decode.model), decode, "attention of a smaller batch"),
        "attention_prefill": chunk,
        "per_head_gemm": _beside(BatchedGemm(), gemm, "batched GEMM"),
        "attention_decode": decode,
        "token_attention_prefill": _composed(GatheredAttention(chunk.model, "prefill"), prefill, "packed rows"),
        "token_attention_decode": _composed(GatheredAttention(decode.model, "decode"), decode, "packed rows"),
        "block_sparse_prefill": _composed(BlockSparseAttention(prefill.model, "prefill"), prefill, "block-sparse"),
        "block_sparse_decode": _composed(BlockSparseAttention(decode.model, "decode"), decode, "block-sparse"),
        "linear_attention": _beside(LinearScan(), prefill, "share of the roofline"),
        "block_score": _beside(BatchedGemm(), gemm, "batched GEMM"),
        "kv_append": _beside(KVAppend(*(getattr(prefill.model, name) for name in WRITE)), prefill, "KV write"),
        **ops,
        "mask_sort": _beside(MaskSort(), stream, "sort and compaction"),
        "token_copy": _beside(TokenCopy(), stream, "gather or scatter"),
        **dict.fromkeys(("transpose", "block_index", "elementwise"), stream),
    }
    # Most questions have none of these: their calibrations are read when one is asked.
    alone: dict[str, Callable[[], Priced]] = {
        "gemm_2of4": lambda: _sparse(gemm, fitted("gemm_2of4", "bf16")),
        "attention_prefill_kv8": lambda: _chunked(fitted("attention_prefill_kv8", "fp8"), decode8()),
        "attention_decode_kv8": decode8,
        "moe": partial(fitted, "moe", "bf16"),
        **{f"moe/{dtype}": partial(fitted, "moe", dtype) for dtype in TIMED_EXPERTS},
        "mla_prefill": partial(fitted, "mla_prefill", "bf16"),
        "mla_decode": partial(fitted, "mla_decode", "bf16"),
        "all_reduce": partial(fitted, "all_reduce_trtllm", "bf16"),
        **{step: partial(fitted, step, "fp8") for steps in STEPS.values() for step in steps},
    }
    narrow = partial(_narrow, gemm=gemm, fitted=fitted, hardware=hardware, own=calibrations, library=library)
    later: dict[str, Callable[[], Mapping[str, Priced]]] = {
        **{key: partial(_named, key, make) for key, make in alone.items()},
        **{dtype: partial(narrow, dtype) for dtype in narrow_names()},
    }
    made = CostModel(
        ", own ".join(["vendor", *dict.fromkeys(calibration.kind for calibration in calibrations)]),
        hardware,
        Grouped(kernels, later),
        clock=Graph(GRAPH_GAP),
        lower=LOWERINGS[quantise],
        protocol=Protocol(repeatability=REPEATABILITY),
        calibrated=partial(_with_more, hardware, tuple(calibrations), quantise, library),
    )
    return systolic(made, calibrations) if traits.systolic(hardware) else made


def _named(key: str, make: Callable[[], Priced]) -> dict[str, Priced]:
    return {key: make()}


def _chunked(prefill: Priced, decode: Priced) -> Priced:
    """Return the kernel of prompts that know the decode kernel, which a short chunk is as well off with."""
    return replace(prefill, model=ChunkAttention(prefill.model, decode.model))


def _narrow(
    dtype: str,
    *,
    gemm: Priced,
    fitted: Callable[[str, str], Priced],
    hardware: HardwareProfile,
    own: Sequence[Calibration],
    library: str | None,
) -> dict[str, Priced]:
    """Return the kernels of one narrow format, beside the GEMM of 16 bit."""
    form = "nvfp4" if dtype == "fp4" else dtype
    kind = LIBRARIES[library or "trtllm"].get(form, "gemm")
    if precision.PRECISIONS[form].weight_only and not timed(kind, form, hardware):
        dense = of_other_width(gemm, dtype)
    else:
        dense = fitted(kind, form)
    if isinstance(dense.model, Gemm) and not any(c.kind == kind for c in own):
        # What a benchmark of it leaves in L2 is what the collector of its timings did.
        dense = replace(dense, model=replace(dense.model, protocol=library or "trtllm"))
    kernels = {"gemm": dense, "shared_gemm": dense, **_without_library(dense)}
    if isinstance(dense.model, LibraryGemm):
        kernels["quantise_token"] = _beside(dense.model.quantise, dense, "one kernel per input")
    if dtype not in TIMED_EXPERTS:
        kernels["moe"] = of_other_width(fitted("moe", "bf16"), dtype)
    kernels["gemm_2of4"] = _sparse(dense, fitted("gemm_2of4", precision.rate(dtype)))
    kernels["token_gemm"] = _composed(VendorTokenGemm(dense.model), dense, "dense GEMM on packed rows")
    return {f"{key}/{dtype}": priced for key, priced in kernels.items()}


def _launched(quantise: str, trace: OpTrace) -> OpTrace:
    """Return what the stack launches: fused projections, copies around token-wise sub-layers, and quantisation."""
    return with_narrow_cache(with_quantisation(with_token_copies(trace.fuse_projections()), quantise))


#: One function for each way to quantise: stacks of several GPUs that lower alike share the shapes of a sweep.
LOWERINGS = {quantise: partial(_launched, quantise) for quantise in STEPS}


def _without_library(gemm: Priced) -> dict[str, Priced]:
    """Return GEMMs that no library has: what the best dense kernel makes of them, see `kernels.compressed`."""
    masked = _composed(MaskedGemm(gemm.model), gemm, "dense GEMM, masked")
    return {
        "gemm_unstructured": _composed(gemm.model, gemm, "weights unpacked on the way into a dense GEMM"),
        "column_gemm": _composed(ColumnGemm(gemm.model), gemm, "dense GEMM on the columns that are read"),
        "exit_gemm": _composed(ExitGemm(gemm.model), gemm, "dense GEMM of a smaller batch"),
        **dict.fromkeys(("group_gemm_n", "group_gemm_k", "fine_gemm_n", "fine_gemm_k"), masked),
    }


def _with_more(
    hardware: HardwareProfile,
    known: tuple[Calibration, ...],
    quantise: str,
    library: str | None,
    more: Sequence[Any],
) -> CostModel:
    return vendor(hardware, (*known, *more), quantise=quantise, library=library)


def _fitted(kind: str, dtype: str, *, hardware: HardwareProfile, own: Sequence[Calibration]) -> Priced:
    """Return the kernel of a calibration, with the error that belongs to where it comes from."""
    calibration, extrapolated = nearest_calibration(kind, dtype, hardware, own=own)
    priced = calibration.priced(band(kind, calibration, extrapolated, hardware), extrapolated=extrapolated)
    return replace(priced, model=kinds.get(kind).as_usual(priced.model))


def _sparse(dense: Priced, ratio: Priced) -> Priced:
    """Return the 2:4 kernel beside a dense one: its error is that of the dense time and of the ratio."""
    assert isinstance(ratio.model, SparseGemm24)
    assert isinstance(dense.model, Gemm)
    return replace(
        dense,
        model=ratio.model.beside(dense.model),
        provenance="calibrated" if dense.provenance == ratio.provenance == "calibrated" else "extrapolated",
        spread=dense.spread.with_independent(ratio.spread.half_width),
        source=f"{dense.source}; {ratio.source}",
        domain=ratio.domain,
    )


def _beside(model: KernelModel, part: Priced, what: str) -> Priced:
    """Return a kernel that takes its error from another one, but not the ranges in which that was timed."""
    return replace(_composed(model, part, what), domain=EVERYWHERE)


def _composed(model: KernelModel, part: Priced, what: str) -> Priced:
    """Return a composition of library calls: no timing of it is at hand, so it is extrapolated."""
    return replace(
        part,
        model=model,
        provenance="extrapolated",
        spread=part.spread.with_independent(COMPOSED),
        source=f"{what} from: {part.source}",
    )
