"""Fused mixture-of-experts layer: top-k, permutation, two grouped GEMMs in whole tiles, activation, finalisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim._util.arrays import FloatArray
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache, parameter, pnorm
from pruninfersim.kernels.evidence import Quantity, Spread
from pruninfersim.kernels.kind import Kind, Regime, rows_as_ops
from pruninfersim.models.architectures.routing import busiest_rank, busiest_share, skewed_counts
from pruninfersim.trace import OpTrace

if TYPE_CHECKING:
    import pandas as pd

#: Tiles of the grouped GEMM: rows (tokens of one expert) x columns.
TILE_M, TILE_N = (8, 16, 32, 64, 128, 256), (64, 128, 256)
#: Sharpness with which a working set leaves L2; fixed.
MISS = 8.0
#: Midpoints of equal shares of a normal distribution, for the spread of tokens over experts.
NORMAL = np.array([NormalDist().inv_cdf((i + 0.5) / 16) for i in range(16)])


@dataclass(frozen=True)
class FusedMoE:
    """Time of one mixture-of-experts layer without its router's GEMM.

    ``launch + GEMM(gate and up) + GEMM(down) + permutation + bookkeeping``: each grouped GEMM is the smooth maximum of
    whole waves of padded tiles, of DRAM traffic (the weights of experts in use only), and of L2 traffic (each row of
    tiles reads its expert again); the library takes the tile that is fastest. The model of the op is
    `pruninfersim.models.architectures.rows.Rows.experts`.

    >>> from pruninfersim import hardware
    >>> row = {"kernel": "moe", "gemms": 3, "m": [2 / 8, 2.0], "n": 14336, "k": 4096, "batch": 8, "b_batch": 8,
    ...        "sequences": [1, 8], "b_reads": [0.25, 0.9]}
    >>> one, eight = FusedMoE().latency(OpTrace.from_rows([row]), hardware.get("h100-sxm"))[..., 0]
    >>> bool(2.0 < eight / one < 3.6)
    True
    """

    launch: float = parameter(25e-6, 1e-6, 2e-4, "s", "start-up of the seven or so kernels of a layer")
    efficiency: float = parameter(0.8, 0.2, 1.3, "1", "rate of the tensor cores over their peak")
    memory_efficiency: float = parameter(0.9, 0.3, 1.1, "1", "DRAM rate over its data-sheet rate")
    overlap: float = parameter(2.0, 1.05, 10.0, "1", "exponent: how well compute, DRAM and L2 overlap")
    l2_bandwidth: float = parameter(4.0, 1.0, 30.0, "1", "L2 bandwidth over DRAM bandwidth")
    permute_efficiency: float = parameter(
        1.0, 0.1, 4.0, "1", "rate of permutation, activation and finalisation over DRAM bandwidth"
    )
    per_expert: float = parameter(2e-8, 1e-10, 2e-7, "s", "bookkeeping of one local expert")
    l2_share: float = parameter(0.8, 0.05, 2.0, "1", "share of L2 in which a replayed benchmark keeps its experts")
    quantised: bool = True

    #: L2 bandwidth over DRAM bandwidth at which weights arrive that a replayed benchmark finds in L2; fixed.
    HIT: ClassVar[float] = 2.5

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]."""
        shape = np.broadcast_shapes(*(getattr(ops, name).shape for name in ("m", "n", "k", "batch", "sequences")))
        wide = [
            np.broadcast_to(x, shape)
            for x in (ops.m, ops.n, ops.k, ops.b_batch, ops.b_reads, ops.sequences, ops.gemms, ops.b_bytes, ops.a_bytes)
        ]
        each, inter, hidden, experts, share, tokens, gemms, weight, entry = wide
        pairs, used, gated = each * experts, share * experts, gemms - 1.0
        tiles = self._tiles(ops, each, experts, used, tokens, shape)
        peak = np.broadcast_to(np.array([hardware.peak_flops(dtype) for dtype in ops.dtype]), shape)
        bandwidth = hardware.memory_bandwidth
        miss = np.ones(shape)
        if cache == "replayed" and hardware.l2_size is not None:
            stored = used * gemms * inter * hidden * weight
            miss = 1.0 - 1.0 / (1.0 + (stored / (self.l2_share * hardware.l2_size)) ** MISS)
        total = np.full(shape, self.launch) + self.per_expert * experts
        for n, k in ((gated * inter, hidden), (hidden, inter)):
            read = used * n * k * weight * (miss / self.memory_efficiency + (1.0 - miss) / self.HIT)
            dram = (read + (pairs * k * entry + 2.0 * pairs * n) / self.memory_efficiency) / bandwidth
            total = total + self._gemm(tiles, n, k, pairs, dram, weight, entry, peak, hardware)
        moved = 2.0 * (3.0 * pairs * hidden + (gated + 1.0) * pairs * inter + tokens * hidden)
        return np.asarray(total + moved / (bandwidth * self.permute_efficiency))

    def without_quantisation(self) -> FusedMoE:
        """Return the same kernel with fractions of tiles and waves."""
        return replace(self, quantised=False)

    def _gemm(
        self,
        tiles: FloatArray,
        n: FloatArray,
        k: FloatArray,
        pairs: FloatArray,
        dram: FloatArray,
        weight: FloatArray,
        entry: FloatArray,
        peak: FloatArray,
        hardware: HardwareProfile,
    ) -> FloatArray:
        """Return the time of one grouped GEMM; tiles of shape (tile height, *sweep, op) [s]."""
        sms = float(hardware.sm_count)
        options = []
        for rows, count in zip(TILE_M, tiles, strict=True):
            for columns in TILE_N:
                across = np.ceil(n / columns) if self.quantised else n / columns
                ctas = count * across / sms
                waves = np.ceil(ctas) if self.quantised else np.maximum(ctas, 1.0)
                compute = waves * (2.0 * rows * columns) * k * sms / (peak * self.efficiency)
                feed = (across * pairs * k * entry + count * n * k * weight) / (
                    hardware.memory_bandwidth * self.l2_bandwidth
                )
                options.append(pnorm(pnorm(compute, dram, self.overlap), feed, self.overlap))
        return np.asarray(np.min(options, axis=0))

    def _tiles(
        self,
        ops: OpTrace,
        each: FloatArray,
        experts: FloatArray,
        used: FloatArray,
        tokens: FloatArray,
        shape: tuple[int, ...],
    ) -> FloatArray:
        """Return the row tiles of all experts for each tile height, shape (height, *sweep, op)."""
        heights = np.array(TILE_M, dtype=np.float64).reshape(-1, *(1,) * len(shape))
        if not self.quantised:
            return np.asarray(np.maximum(each * experts / heights, used))
        out = np.empty((len(TILE_M), *shape))
        for routing in set(ops.pattern):
            index = [i for i, pattern in enumerate(ops.pattern) if pattern == routing]
            mean, local, seen = (x[..., index] for x in (each, experts, tokens))
            if routing.startswith("power_law"):
                found = [
                    _skewed_tiles(t, m, int(max(e, 1.0)), routing)
                    for t, m, e in zip(seen.ravel(), mean.ravel(), local.ravel(), strict=True)
                ]
                part = np.reshape(np.array(found).T, (len(TILE_M), *mean.shape))
            elif routing == "balanced":
                least = np.floor(mean)
                high = mean - least
                part = local * (np.ceil(least / heights) * (1.0 - high) + np.ceil((least + 1.0) / heights) * high)
            else:  # binomial, by quantiles of a normal distribution
                spread = np.sqrt(mean * np.maximum(1.0 - mean / np.maximum(seen, 1.0), 0.0))
                drawn = np.rint(np.maximum(mean[..., None] + spread[..., None] * NORMAL, 0.0))
                part = local * np.ceil(drawn / heights[..., None]).mean(axis=-1)
            out[..., index] = np.maximum(part, used[..., index])
        return out


@lru_cache(maxsize=100_000)
def _skewed_tiles(tokens: float, mean: float, experts: int, routing: str) -> tuple[float, ...]:
    counts = skewed_counts(tokens, mean, experts, routing)
    return tuple(float(np.ceil(counts / height).sum()) for height in TILE_M)


# --- how timings of it are read, fitted and judged ------------------------------------------------------------------


#: Sizes of a layer, and columns of a timings file that have another name.
SIZES = ("tokens", "hidden", "inter", "experts", "top_k", "tp", "ep")
_COLUMN = {"top_k": "topk"}


def moe_columns(sizes: Mapping[str, FloatArray], *, gated: ArrayLike, routing: str) -> dict[str, Any]:
    """Return the columns of the op that the most loaded of the ranks runs.

    Parameters
    ----------
    sizes : mapping
        tokens, hidden, inter, experts, top_k, tp, ep; they broadcast. The width of an expert is split over `tp` ranks,
        the experts over `ep`.
    gated : array_like
        1 with a gate, 0 without.
    routing : str
        One for all.
    """
    tokens, hidden, inter, experts, top_k, tp, ep = (sizes[name] for name in SIZES)
    local = experts / ep
    mean = busiest_rank(tokens, top_k, experts, ep, routing) * tokens * top_k / experts
    return {
        "m": mean,
        "n": inter / tp,
        "k": hidden,
        "batch": local,
        "b_batch": local,
        "sequences": tokens,
        "gemms": 2.0 + np.asarray(gated),
        "b_reads": busiest_share(tokens, top_k, experts, ep, routing),
    }


def _as_ops(frame: pd.DataFrame) -> OpTrace:
    columns = {
        name: np.empty(len(frame)) for name in ("m", "n", "k", "batch", "b_batch", "sequences", "gemms", "b_reads")
    }
    routings = frame["routing"].to_numpy()
    gated = frame["gated"].astype(str).str.lower().isin(["true", "1"]).to_numpy(dtype=np.float64)
    for routing in sorted(set(routings)):
        rows = routings == routing
        given = {name: frame[_COLUMN.get(name, name)].to_numpy(dtype=np.float64)[rows] for name in SIZES}
        for name, values in moe_columns(given, gated=gated[rows], routing=str(routing)).items():
            columns[name][rows] = values
    ops = rows_as_ops(frame, dict(columns), kernel="moe", name="experts")
    return ops.with_columns(pattern=tuple("" if r == "uniform" else str(r) for r in routings))


def _tokens(ops: OpTrace) -> FloatArray:
    return ops.sequences


def _width(ops: OpTrace) -> FloatArray:
    return ops.n


def _kind(family: str, left_out: Spread) -> Kind:
    return Kind(
        kernel=FusedMoE,
        shape=("tokens", "hidden", "inter", "experts", "topk", "tp", "ep"),
        labels=("routing", "gated"),
        group=("hidden", "inter", "experts", "topk", "tp", "ep"),
        axes=("tokens", "inter", "experts", "topk"),
        as_ops=_as_ops,
        scarce=("launch", "efficiency", "memory_efficiency"),
        left_out=left_out,
        quantities=(
            Quantity("tokens", _tokens, above=0.5, reach=2.0),
            Quantity("expert width", _width, below=0.2, above=0.2),
        ),
        regimes=(Regime.of_column("tokens", 8, 64, 512, 4096),),
        family=family,
    )


#: CUTLASS experts of TensorRT-LLM; Triton's of SGLang, whose tiles come from tuning files that exist for some shapes.
KIND = _kind("moe", Spread(-0.25, 0.25, 0.5))
TRITON = _kind("moe", Spread(-0.45, 0.45, 0.5))
