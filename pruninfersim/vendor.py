"""The vendor stack: cuBLAS, cuSPARSELt, FlashAttention and fused elementwise kernels under a CUDA graph.

Kernel models come from the calibration of the GPU itself, or else from the most similar GPUs that were timed
(`pruninfersim.transfer`), and then say "extrapolated" and carry the error that leaving a GPU out has shown. A family
without a library kernel runs as one would compose it from library calls. GEMM and attention were timed inside a CUDA
graph, gap and all; elementwise kernels were timed alone, so that each of their launches adds a gap.
"""

from __future__ import annotations

from pruninfersim.calibration_record import Calibration
from pruninfersim.cost import CostModel, Priced, Provenance
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.attention_prefill import KVAppend
from pruninfersim.kernels.attention_pruned import BlockSparseAttention, GatheredAttention
from pruninfersim.kernels.base import KernelModel
from pruninfersim.kernels.gemm_2of4 import Vendor24
from pruninfersim.kernels.token_gemm import BatchedGemm, MaskSort, VendorTokenGemm
from pruninfersim.transfer import nearest_calibration
from pruninfersim.uncertainty import Spread

#: Precisions of linear layers that have kernels of their own; 16-bit formats share theirs.
NARROW = ("fp8", "int8", "fp4")
#: 90 % band of ln(measured / predicted) on a GPU that was left out of all fits, by kind of kernel, and the part of the
#: error that its shapes share and that cancels in a ratio: the pooled quantiles in docs/accuracy.md, 1.2 times as wide,
#: because they rest on seven GPUs or fewer. That of gemm_2of4 is of the ratio to dense, of which nothing more cancels.
LEFT_OUT = {
    "gemm": Spread(-0.25, 0.42, 0.65),
    "gemm_2of4": Spread(-0.44, 0.39, 0.0),
    "attention_prefill": Spread(-0.31, 0.28, 0.8),
    "attention_decode": Spread(-0.27, 0.27, 0.6),
    "elementwise": Spread(-0.46, 0.49, 0.7),
}
#: How much wider the bands are on accelerators whose libraries nobody timed here: an assumption, nothing measured.
OTHER_VENDOR = 2.0
#: Half-width at 90 % of two measurements of one speedup of a whole model: 2.7 % in arXiv 2606.09080 (its figures
#: against its grid), the only repetition of such measurements at hand.
REPEATABILITY = 0.027
#: Parameters of the prefill kernel that price the separate write of the KV cache.
WRITE = ("kv_write", "memory_efficiency")
#: Gap between two kernels of a CUDA graph [s]: 24.6 us for 20 launches of a decode layer (arXiv 2606.09080, Fig. 6).
GRAPH_GAP = 1.2e-6
#: Half-width in log units of what a composition of library calls adds to the error of its parts.
COMPOSED = 0.15


def vendor(hardware: HardwareProfile) -> CostModel:
    """Return the vendor stack on a GPU.

    All timings are of NVIDIA's libraries. On an accelerator of another vendor the same formulas speak for libraries of
    the same quality on its data sheet: extrapolated, with bands twice as wide.
    """
    gemm, prefill, decode = (
        _fitted(kind, "bf16", hardware) for kind in ("gemm", "attention_prefill", "attention_decode")
    )
    ops = {
        name: _fitted(f"elementwise_{name}", "bf16", hardware)
        for name in ("norm", "qk_norm", "rope", "act", "embedding")
    }
    stream = ops["act"]
    kernels = {
        "gemm": gemm,
        "lm_head": gemm,
        "router": gemm,
        "gemm_2of4": _sparse(gemm, "bf16", hardware),
        "token_gemm": _composed(VendorTokenGemm(gemm.model), gemm, "gather, dense GEMM, scatter"),
        "attention_prefill": prefill,
        "attention_decode": decode,
        "token_attention_prefill": _composed(GatheredAttention(prefill.model, "prefill"), prefill, "gather, attention"),
        "token_attention_decode": _composed(GatheredAttention(decode.model, "decode"), decode, "gather, attention"),
        "block_sparse_prefill": _composed(BlockSparseAttention(prefill.model, "prefill"), prefill, "block-sparse"),
        "block_sparse_decode": _composed(BlockSparseAttention(decode.model, "decode"), decode, "block-sparse"),
        "block_score": _composed(BatchedGemm(), gemm, "batched GEMM"),
        "kv_append": _composed(KVAppend(*(getattr(prefill.model, name) for name in WRITE)), prefill, "KV write"),
        **ops,
        "mask_sort": _composed(MaskSort(), stream, "sort and compaction"),
        **dict.fromkeys(("transpose", "block_index", "elementwise"), stream),
    }
    for dtype in NARROW:
        dense = _fitted("gemm", dtype, hardware)
        kernels[f"gemm/{dtype}"] = dense
        kernels[f"gemm_2of4/{dtype}"] = _sparse(dense, dtype, hardware)
        kernels[f"token_gemm/{dtype}"] = _composed(VendorTokenGemm(dense.model), dense, "gather, dense GEMM, scatter")
    return CostModel("vendor", hardware, kernels, GRAPH_GAP, REPEATABILITY)


def _fitted(kind: str, dtype: str, hardware: HardwareProfile) -> Priced:
    """Return the kernel of a calibration, with the error that belongs to where it comes from."""
    calibration, extrapolated = nearest_calibration(kind, dtype, hardware)
    family = kind.split("_")[0] if kind.startswith("elementwise") else kind
    spread = _left_out(family, calibration, hardware) if extrapolated else calibration.spread
    source = f"{calibration.source}; {calibration.hardware}, {calibration.dtype}, {calibration.date}"
    provenance: Provenance = "extrapolated" if extrapolated else "calibrated"
    return Priced(calibration.kernel, provenance, spread, family, source, float(family == "elementwise"))


def _left_out(family: str, calibration: Calibration, hardware: HardwareProfile) -> Spread:
    """Return the band of a GPU left out, never narrower than that of the calibration itself."""
    wide, own = LEFT_OUT[family], calibration.spread
    band = Spread(min(wide.low, own.low), max(wide.high, own.high), wide.common)
    return band if hardware.vendor == "NVIDIA" else band.widened(OTHER_VENDOR)


def _sparse(dense: Priced, dtype: str, hardware: HardwareProfile) -> Priced:
    """Return the 2:4 kernel beside a dense one: its error is that of the dense time and of the ratio."""
    ratio = _fitted("gemm_2of4", dtype, hardware)
    model = Vendor24(dense.model, ratio.model)  # type: ignore[arg-type]
    provenance: Provenance = "calibrated" if dense.provenance == ratio.provenance == "calibrated" else "extrapolated"
    spread, source = _joined(dense.spread, ratio.spread.half_width), f"{dense.source}; {ratio.source}"
    return Priced(model, provenance, spread, "gemm", source, dense.launches)


def _composed(model: KernelModel, part: Priced, what: str) -> Priced:
    """Return a composition of library calls: no timing of it is at hand, so it is extrapolated."""
    source = f"{what} from: {part.source}"
    launches = float(getattr(model, "copies", 0.0)) + part.launches
    return Priced(model, "extrapolated", _joined(part.spread, COMPOSED), part.group, source, launches)


def _joined(spread: Spread, half_width: float) -> Spread:
    """Add an independent error to a band; the part that is common to the group keeps its size."""
    old = spread.half_width
    new = (old**2 + half_width**2) ** 0.5
    centre = (spread.low + spread.high) / 2.0
    return Spread(centre - new, centre + new, spread.common * (old / new) ** 2 if new else 0.0)
