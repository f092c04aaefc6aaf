"""Decode attention of FlashAttention 2 and 3: the kernel's own split of the KV cache, a roofline per wave of CTAs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from pruninfersim._arrays import FloatArray
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache, KernelModel, parameter, pnorm, roofline
from pruninfersim.trace import OpTrace


def splits_fa2(tiles: FloatArray, blocks: FloatArray, sms: int) -> FloatArray:
    """Return into how many parts FlashAttention 2 splits the keys of each tile.

    Its heuristic aims at full waves on two CTAs per SM: no split if the tiles nearly fill the GPU; otherwise the
    fewest parts that reach 85 % of the best wave efficiency, among those that change the blocks per part
    (``num_splits_heuristic`` of the open-source kernel).

    Parameters
    ----------
    tiles : ndarray
        CTAs without a split (batch x KV heads).
    blocks : ndarray
        128-key blocks of the context.
    sms : int

    >>> splits_fa2(np.array([8.0, 500.0]), np.array([64.0, 64.0]), 108).tolist()
    [22.0, 1.0]
    """
    slots = 2.0 * sms
    most = np.minimum(np.minimum(128.0, slots), blocks)
    best = np.zeros(np.broadcast(tiles, blocks).shape)
    efficiencies = []
    last = int(most.max()) if most.size else 1
    for parts in range(1, last + 1):
        eligible = (parts <= most) & ((parts == 1) | (np.ceil(blocks / parts) != np.ceil(blocks / max(1, parts - 1))))
        waves = tiles * parts / slots
        efficiency = np.where(eligible, waves / np.ceil(waves), 0.0)
        efficiencies.append(efficiency)
        best = np.maximum(best, efficiency)
    chosen = np.ones_like(best)
    open_ = np.ones(best.shape, dtype=bool)
    for parts, efficiency in enumerate(efficiencies, start=1):
        hit = open_ & (efficiency >= 0.85 * best) & (efficiency > 0)
        chosen = np.where(hit, float(parts), chosen)
        open_ &= ~hit
    return np.where(tiles >= 0.8 * slots, 1.0, chosen)


def splits_fa3(tiles: FloatArray, blocks: FloatArray, sms: int) -> FloatArray:
    """Return into how many parts FlashAttention 3 splits: as many as keep every SM busy, at most 32.

    >>> splits_fa3(np.array([8.0, 500.0]), np.array([64.0, 64.0]), 132).tolist()
    [13.0, 1.0]
    """
    per_cta = np.ceil(1.1 * tiles * blocks / sms)
    return np.asarray(np.clip(np.ceil(blocks / per_cta), 1.0, 32.0))


@dataclass(frozen=True)
class DecodeAttention:
    """Time of one attention step with one query per sequence over a paged KV cache.

    The keys of a sequence and KV head are split among CTAs by the kernel's own rule; CTAs run in waves of one per SM,
    and each wave is a roofline of its own: DRAM for a full one, latency of its blocks for a short last one. Partial
    results are combined by a second kernel; FlashAttention 2 with grouped queries transposes them before and after.
    ``cache="replayed"`` finds a small KV cache in L2; in a model step the other layers have evicted it.

    >>> DecodeAttention(algorithm="fa3").algorithm
    'fa3'
    """

    launch: float = parameter(6e-6, 1e-7, 3e-5, "s", "launch and drain of the kernels inside a CUDA graph")
    memory_efficiency: float = parameter(0.88, 0.3, 1.1, "1", "fraction of data-sheet DRAM bandwidth")
    l2_share: float = parameter(0.75, 0.1, 3.0, "1", "share of L2 that holds the KV cache between replays")
    tile_start: float = parameter(1.5e-6, 1e-8, 1e-5, "s", "prologue and epilogue of one CTA")
    block_latency: float = parameter(2.2e-6, 1e-7, 2e-5, "s", "latency of one 128-key block in one CTA")
    swap: float = parameter(4.5e-6, 1e-8, 2e-5, "s", "transposes of queries and outputs (FlashAttention 2, grouped)")
    combine: float = parameter(3e-6, 1e-8, 2e-5, "s", "second kernel that combines the parts")
    combine_part: float = parameter(2e-7, 1e-9, 2e-6, "s", "its time per part")
    row: float = parameter(7e-10, 1e-11, 1e-8, "s", "query and output of one head of one sequence")
    algorithm: str = "fa2"
    quantised: bool = True

    BLOCK: ClassVar[int] = 128
    #: Sharpness of a wave's roofline, and of the L2 switch: cyclic reads just above L2 all miss; fixed.
    OVERLAP: ClassVar[float] = 6.0
    SWITCH: ClassVar[float] = 12.0
    #: Shapes priced at a time: the split rule holds up to 128 candidates of each.
    CHUNK: ClassVar[int] = 16384

    def without_quantisation(self) -> KernelModel:
        """Return the same kernel in fractions of waves."""
        return replace(self, quantised=False)

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]; cold times are at least the roofline."""
        columns = np.broadcast_arrays(ops.batch, ops.b_batch, ops.sequences, ops.n, ops.b_traffic)
        flat = [np.ascontiguousarray(column, dtype=np.float64).reshape(-1) for column in columns]
        out = np.empty(flat[0].size)
        for start in range(0, out.size, self.CHUNK):
            part = slice(start, start + self.CHUNK)
            out[part] = self._chunk([column[part] for column in flat], hardware, cache)
        seconds = out.reshape(columns[0].shape)
        return np.maximum(seconds, roofline(ops, hardware)) if cache == "cold" else seconds

    def _chunk(self, columns: list[FloatArray], hardware: HardwareProfile, cache: Cache) -> FloatArray:
        rows, tiles, sequences, keys, size = columns
        sms, bandwidth = float(hardware.sm_count), hardware.memory_bandwidth * self.memory_efficiency
        blocks = np.ceil(keys / self.BLOCK)
        grouped = rows > tiles
        if self.algorithm == "fa3":
            parts, swapped = splits_fa3(tiles, blocks, hardware.sm_count), np.zeros(rows.shape, dtype=bool)
        else:
            # Without grouped queries the paged path of FlashAttention 2 does not split.
            parts = np.where(grouped, splits_fa2(tiles, blocks, hardware.sm_count), 1.0)
            swapped = grouped & (sequences > 1)
        per_cta = np.ceil(blocks / parts)
        ctas = tiles * np.ceil(blocks / per_cta)
        miss = np.ones_like(size)
        if cache == "replayed":
            miss = 1.0 / (1.0 + (self.l2_share * (hardware.l2_size or np.nan) / size) ** self.SWITCH)
        read = size / ctas * miss / bandwidth
        walk = self.block_latency * per_cta
        if self.quantised:
            full = np.floor(ctas / sms)
            rest = ctas - full * sms
            waves = np.ceil(ctas / sms)
            stream = full * pnorm(sms * read, walk, self.OVERLAP)
            stream = stream + np.where(rest > 0, pnorm(rest * read, walk, self.OVERLAP), 0.0)
        else:
            waves = np.maximum(ctas / sms, 1.0)
            stream = waves * pnorm(np.minimum(ctas, sms) * read, walk, self.OVERLAP)
        combined = np.where(parts > 1, self.combine + self.combine_part * parts, 0.0)
        swap = np.where(swapped, self.swap, 0.0)
        return np.asarray(self.launch + waves * self.tile_start + stream + swap + combined + self.row * rows)
