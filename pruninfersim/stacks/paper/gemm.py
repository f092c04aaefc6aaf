"""Dense GEMM of the reference paper: tiles and waves above 64 tokens, a stream of weights up to there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim._util.arrays import FloatArray
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache
from pruninfersim.stacks.paper.alignment import PaperAlignment
from pruninfersim.trace import OpTrace

#: Largest number of tokens for which a GEMM is a stream of weights (a decode step) and not a grid of tiles.
STREAM_TOKENS = 64.0


def dense_peaks(ops: OpTrace, hardware: HardwareProfile) -> FloatArray:
    """Return the dense peak of each op's dtype, shape (op,) [FLOP/s]."""
    return np.array([hardware.peak_flops(dtype) for dtype in ops.dtype])


def operands(ops: OpTrace) -> FloatArray:
    """Return the bytes of one whole reading of A and B and one writing of the output, shape (*sweep, op) [B]."""
    a = ops.batch * ops.m * ops.k * ops.a_bytes
    b = ops.b_batch * ops.n * ops.k * ops.b_bytes
    return np.asarray(a + b + ops.batch * ops.m * ops.n * ops.out_bytes)


def smooth_max(*times: FloatArray) -> FloatArray:
    """Return the smooth maximum of positive times that run side by side.

    The sharpness is 3 to 5.5 in fits to kernels alone; with whole waves there is nothing to gain above 8.
    """
    high = np.maximum.reduce(np.broadcast_arrays(*times))
    return np.asarray(high * sum((time / high) ** 8.0 for time in times) ** (1.0 / 8.0))


def bandwidth(
    size: FloatArray, hardware: HardwareProfile, dram: ArrayLike, replayed: float, cache: Cache
) -> FloatArray:
    """Return the bandwidth [B/s] at which a kernel draws its `size` bytes of operands.

    `dram` is its share of the DRAM bandwidth; where it is replayed and finds all of them in L2, `replayed` takes that
    place.
    """
    share = np.asarray(dram, dtype=np.float64)
    if cache == "replayed" and hardware.l2_size:
        share = np.where(size <= hardware.l2_size, replayed, share)
    return share * hardware.memory_bandwidth


@dataclass(frozen=True)
class PaperGemm:
    """Time of a cuBLAS GEMM as torch calls it under a CUDA graph, without its launch gap.

    Above 64 tokens: the best of a few tiles, each the smooth maximum of tensor cores in whole waves, the feed of
    operands from L2, and DRAM. There is no split-K: times at 128 to 1024 tokens are those of the waves of whole-K tiles
    (arXiv 2606.09080, Table 7: up takes 57.7 us at 128 tokens and 112.6 us at 256, one wave of 128 x 128 and of
    128 x 256).
    Up to 64 tokens: the stream of the operands at a share of the DRAM rate, plus a start-up time. Two rules hold for
    compute capability 12.0 only, see `_few_tokens` and `_last_wave`.
    Replayed, operands that fit in L2 come from there; Table 7 is such a benchmark.

    Values, units, meanings and anchors of the fields: ``hardware_profiles/stacks/paper.toml``.
    """

    compute_efficiency: float
    feed: float
    tile_overhead: float
    small_tile_efficiency: float
    tile_start: float
    memory_efficiency: float
    stream_start: float
    misaligned: float
    cta_stream: float
    cta_least: float
    tail_stream: float
    replay_bandwidth: float
    replay_cta_stream: float
    alignment: PaperAlignment
    #: Rate of the LM head: one large grid, no tiles and no small-m rules.
    whole_grid: bool = False
    quantised: bool = True

    #: Rows and columns of a tile, and the most tokens that it is taken for: the smallest where half of a larger one
    #: would be rows that nobody asked for. At 1024 tokens outputs of 512 to 1024 features run as if there were none
    #: (grid: low-rank and static width).
    TILES: ClassVar[tuple[tuple[float, float, float], ...]] = (
        (128.0, 256.0, np.inf),
        (256.0, 128.0, np.inf),
        (128.0, 128.0, np.inf),
        (128.0, 64.0, np.inf),
        (64.0, 128.0, np.inf),
        (64.0, 64.0, 128.0),
    )
    #: Width of a CTA of the small-m kernels, which walk all of k.
    CTA_WIDTH: ClassVar[float] = 64.0
    #: Tokens up to which the small-m kernels never split k.
    FEW_TOKENS: ClassVar[float] = 16.0
    #: The cost of a last partial wave fades in between these k: absent at 2048 and below, half at 3072 (Table 2,
    #: NK cross at 25 %), whole at 4096.
    TAIL_K: ClassVar[tuple[float, float]] = (2048.0, 4096.0)

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]."""
        size = operands(ops)
        rate = self._bandwidth(ops, size, hardware, cache)
        few = size / rate + self.stream_start + self._rules(ops, hardware, size, rate, cache)
        return np.where(ops.m > STREAM_TOKENS, self.tiled(ops, hardware, cache), few)

    def without_quantisation(self) -> PaperGemm:
        """Return the same kernel with fractions of waves, whatever the alignment of n and k."""
        return replace(self, quantised=False)

    def tiled(self, ops: OpTrace, hardware: HardwareProfile, cache: Cache = "cold") -> FloatArray:
        """Return the time of the best tile, shape (*sweep, op) [s]."""
        peak = dense_peaks(ops, hardware)
        share = self.share(ops)
        size = operands(ops)
        dram = size / bandwidth(size, hardware, self.memory_efficiency, self.replay_bandwidth, cache)
        if self.whole_grid:
            compute = 2.0 * ops.batch * ops.m * ops.n * ops.k / (self.compute_efficiency * share * peak)
            return np.asarray(np.maximum(compute, dram) + self.tile_start)
        best: FloatArray = np.full(ops.shape, np.inf)
        for rows, columns, most_tokens in self.TILES:
            down, across = np.ceil(ops.m / rows), np.ceil(ops.n / columns)
            waves = ops.batch * down * across / hardware.sm_count
            waves = np.maximum(1.0, np.ceil(waves)) if self.quantised else np.maximum(1.0, waves)
            rate = self.compute_efficiency * self.small_tile_efficiency ** ((rows < 128.0) + (columns < 128.0))
            tile = 2.0 * rows * columns * (ops.k + self.tile_overhead)
            tensor = waves * tile * hardware.sm_count / (rate * share * peak)
            reread = ops.batch * ops.k * (across * ops.m * ops.a_bytes + down * ops.n * ops.b_bytes)
            seconds = smooth_max(tensor, reread / (self.feed * peak), dram)
            best = np.minimum(best, np.where(ops.m <= most_tokens, seconds, np.inf))
        return best + self.tile_start

    def share(self, ops: OpTrace) -> FloatArray:
        """Return the share of the tensor-core rate that the alignment of n and k leaves [1]."""
        return self.alignment.share(ops) if self.quantised else np.ones(())

    def stream(self, ops: OpTrace, hardware: HardwareProfile, cache: Cache = "cold") -> FloatArray:
        """Return the time of the operands at the DRAM rate, plus the start-up, shape (*sweep, op) [s]."""
        size = operands(ops)
        return np.asarray(size / self._bandwidth(ops, size, hardware, cache) + self.stream_start)

    def _bandwidth(self, ops: OpTrace, size: FloatArray, hardware: HardwareProfile, cache: Cache) -> FloatArray:
        aligned = (ops.n % 64 == 0) & (ops.k % 64 == 0)
        share = self.memory_efficiency * np.where(aligned, 1.0, self.misaligned)
        return bandwidth(size, hardware, share, self.replay_bandwidth, cache)

    def _rules(
        self, ops: OpTrace, hardware: HardwareProfile, size: FloatArray, rate: FloatArray, cache: Cache
    ) -> FloatArray:
        """Return what the small-m kernels of compute capability 12.0 add to the stream, shape (*sweep, op) [s]."""
        if hardware.compute_capability != "12.0" or self.whole_grid:
            return np.zeros(ops.shape)
        ctas = np.ceil(ops.n / self.CTA_WIDTH)
        weights = self.CTA_WIDTH * ops.k * ops.b_bytes
        if cache == "cold":
            few = self._few_tokens(ops, hardware, ctas, weights / self.cta_stream, size / rate)
            return few + self._last_wave(ops, hardware, ctas, weights, rate)
        return self._few_tokens(ops, hardware, ctas, weights / self.replay_cta_stream, size / rate)

    def _few_tokens(
        self, ops: OpTrace, hardware: HardwareProfile, ctas: FloatArray, least: FloatArray, stream: FloatArray
    ) -> FloatArray:
        """A CTA takes `least` for its columns, however long the whole `stream` is: 2 to 16 tokens, no split of k.

        At 8 tokens `down` of Llama-3.1-8B (k 14336) takes twice the time of `up` (Table 7); gone at 32 tokens.
        """
        missing = np.maximum(0.0, least - stream)
        hit = (ops.m >= 2) & (ops.m <= self.FEW_TOKENS) & (ctas >= hardware.sm_count / self.cta_least)
        return np.where(hit, missing, 0.0)

    def _last_wave(
        self, ops: OpTrace, hardware: HardwareProfile, ctas: FloatArray, weights: FloatArray, rate: FloatArray
    ) -> FloatArray:
        """The few CTAs of a last partial wave cannot fill DRAM: 17 to 64 tokens, more CTAs than SMs.

        Table 2: static width at 25 % reaches 1.39 at batch 32 (168 CTAs, one wave) where dense has 224.
        """
        rest = ctas % hardware.sm_count
        alone = weights / self.tail_stream
        slower = np.maximum(0.0, alone - rest * weights / rate)
        fade = np.clip((ops.k - self.TAIL_K[0]) / (self.TAIL_K[1] - self.TAIL_K[0]), 0.0, 1.0)
        hit = (ops.m > self.FEW_TOKENS) & (ops.m <= STREAM_TOKENS) & (ctas > hardware.sm_count) & (rest > 0)
        return np.where(hit, fade * slower, 0.0)
