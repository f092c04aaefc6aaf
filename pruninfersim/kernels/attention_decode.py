"""Decode attention of FlashAttention 2 and 3: the keys split among CTAs, a roofline per wave of CTAs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.errors import InvalidInputError, shown
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.attention_prefill import (
    BLOCK,
    KEYS,
    PRIOR,
    SHARED,
    TILE_ROWS,
    attention_ops,
    by_head,
    check_algorithm,
    l2_miss,
    narrow_variant,
    quantities,
    windowed,
)
from pruninfersim.kernels.base import Cache, KernelModel, parameter, parameters, pnorm
from pruninfersim.kernels.evidence import Spread
from pruninfersim.kernels.kind import Kind
from pruninfersim.trace import OpTrace

if TYPE_CHECKING:
    import pandas as pd

#: Most parts of a split.
MOST: dict[str, float] = {"fa2": 128.0, "fa3": 32.0, "fa3-8bit": 32.0, "trtllm": 64.0, "flashinfer": 64.0}
#: Which spread the blocks of all sequences evenly over the SMs, rather than in whole parts and waves.
BALANCED = ("trtllm", "flashinfer")
#: How the start of a CTA grows with the head size, as an exponent; 0 elsewhere. From three head sizes on H200.
START_GROWTH = {"fa3-8bit": 0.5}
#: Keys of a block for heads up to 64, up to 128, and wider, where they are not those of prefill.
BLOCKS: dict[str, tuple[float, float, float]] = KEYS | {"trtllm": (128, 128, 128), "flashinfer": (64, 64, 64)}
#: Whose way to split the keys, see `DecodeAttention`.
SPLITS = ("any", "vllm")


def splits_fa2(tiles: FloatArray, blocks: FloatArray, sms: int) -> FloatArray:
    """Return into how many parts FlashAttention 2 splits the keys of each tile.

    Its heuristic aims at full waves on two CTAs per SM: no split if the tiles nearly fill the GPU; otherwise the
    fewest parts that reach 85 % of the best wave efficiency, among those that change the blocks per part
    (``num_splits_heuristic`` of the open-source kernel). One more block can change its choice by a factor of two.

    Parameters
    ----------
    tiles : ndarray
        CTAs without a split (batch x KV heads).
    blocks : ndarray
        128-key blocks of the context, of the same shape.
    sms : int

    >>> splits_fa2(np.array([8.0, 500.0]), np.array([64.0, 64.0]), 108).tolist()
    [22.0, 1.0]
    """
    slots = 2.0 * sms
    chosen = np.ones(tiles.shape)
    split = np.flatnonzero((tiles < 0.8 * slots) & (blocks > 1))
    if not split.size:
        return chosen
    # Sweeps repeat few distinct pairs many times; each needs up to 128 candidates.
    pairs, inverse = np.unique(tiles.flat[split] + 1j * blocks.flat[split], return_inverse=True)
    few, deep = pairs.real, pairs.imag
    parts = np.arange(1.0, min(MOST["fa2"], slots, float(deep.max())) + 1.0)[:, None]
    per_part = np.ceil(deep / parts)
    changed = np.concatenate([np.ones((1, deep.size), dtype=bool), per_part[1:] != per_part[:-1]])
    waves = few * parts / slots
    efficiency = np.where(changed & (parts <= deep), waves / np.ceil(waves), 0.0)
    good = efficiency >= 0.85 * efficiency.max(axis=0)
    chosen.flat[split] = (np.argmax(good, axis=0) + 1.0)[inverse]
    return chosen


def least_blocks(tiles: FloatArray, blocks: FloatArray, algorithm: str, sms: int) -> FloatArray:
    """Return how many key blocks each CTA has to walk so that all SMs are busy, not rounded, at least one.

    FlashAttention 3: CTAs of one wave on 1 / 1.1 of the SMs, at most 32 parts (its varlen scheduler); the kernels of
    TensorRT-LLM and FlashInfer likewise, up to 64. FlashAttention 2: one wave on two CTAs per SM, at most 128 parts, no
    split from 80 % of such a wave on; what `splits_fa2` aims at,
    without its search, so that more tiles or blocks never mean fewer blocks per CTA.

    Parameters
    ----------
    tiles : ndarray
        CTAs without a split (batch x KV heads x tiles of query rows).
    blocks : ndarray
        128-key blocks of the context, of the same shape.
    algorithm : {"fa2", "fa3", "trtllm", "flashinfer"}
    sms : int

    >>> least_blocks(np.array([27.0, 500.0]), np.array([64.0, 64.0]), "fa2", 108).tolist()
    [8.0, 64.0]
    """
    share = np.where(tiles < 1.6 * sms, tiles / (2.0 * sms), 1.0) if algorithm == "fa2" else 1.1 * tiles / sms
    return np.asarray(np.clip(np.maximum(share, 1.0 / MOST[algorithm]) * blocks, 1.0, blocks))


@dataclass(frozen=True)
class DecodeAttention:
    """Time of one attention step with one query, or a few, per sequence over a paged KV cache.

    The query rows of a KV head fill tiles of 64 or 128 rows; the keys of a tile are split among CTAs so that all SMs
    are busy (`least_blocks`). CTAs run in waves of one per SM, each wave a roofline of its own: DRAM for a full one,
    the walk of its blocks for a short last one::

        walk = block_latency x blocks of a CTA + its keys and values at the L2 feed of one SM
        wave = pnorm_6(bytes of the wave / DRAM bandwidth, walk)
        T    = launch + waves x tile_start + sum of waves + ramp + swap + combine + row x rows

    Partial results are combined by a second kernel; FlashAttention 2 with grouped queries transposes them before and
    after. DRAM traffic starts slowly: `ramp` more in the limit of long reads, and nothing where nothing is read.
    ``cache="replayed"`` finds a small KV cache in L2; in a model step the other layers have evicted it.

    Which heads are split, and how, is a matter of the library, not of the card. ``splits="any"``: all, in parts that
    fill the GPU, as FlashDecoding, FlashInfer and FlashAttention's entry for KV caches do. CTAs count by the keys that
    they walk, so that a wave is the most by which one more key or sequence makes a step faster. ``splits="vllm"``: by
    the very search and count of the versions that were timed. FlashAttention 2 behind vLLM's variable-length entry
    (A100, L40S, RTX PRO 6000) splits one query of grouped heads only, and one CTA walks all keys of any other head.
    Fits to those timings use it; stacks price with ``"any"``.

    Raises
    ------
    InvalidInputError
        If the algorithm or the way to split is not known.

    >>> DecodeAttention(algorithm="fa3").algorithm
    'fa3'
    """

    launch: float = parameter(6e-6, 1e-7, 3e-5, "s", "launch and drain of the kernels inside a CUDA graph")
    memory_efficiency: float = parameter(0.87, 0.3, 1.1, "1", "fraction of data-sheet DRAM bandwidth")
    l2_share: float = parameter(0.85, 0.1, 3.0, "1", "share of L2 that holds the KV cache between replays")
    tile_start: float = parameter(1.5e-6, 1e-8, 1e-5, "s", "prologue and epilogue of one CTA")
    block_latency: float = parameter(1.7e-6, 1e-7, 2e-5, "s", "latency of 128 keys of head_dim 128 in one CTA")
    swap: float = parameter(5e-6, 1e-8, 2e-5, "s", "transposes of queries and outputs (FlashAttention 2, grouped)")
    combine: float = parameter(1.8e-6, 1e-8, 2e-5, "s", "second kernel that combines the parts")
    combine_part: float = parameter(1.6e-7, 1e-9, 2e-6, "s", "its time per part")
    row: float = parameter(7e-10, 1e-11, 1e-8, "s", "query and output of one head of one sequence")
    ramp: float = parameter(3.5e-6, 1e-8, 3e-5, "s", "start of the DRAM stream: misses of address translation, fill")
    narrow_block: float = parameter(1.0, 0.3, 4.0, "1", "block of 64-wide heads over half of one of 128-wide heads")
    wide_block: float = parameter(1.0, 0.3, 4.0, "1", "block of 256-wide heads over two of 128-wide heads")
    algorithm: str = "fa2"
    splits: str = "any"
    quantised: bool = True

    #: head_dim that block_latency is given for: that of all timings.
    HEAD_DIM: ClassVar[float] = 128.0
    #: L2-to-SM bandwidth over DRAM bandwidth; fixed, between 7 and 15 the fits of four GPUs are alike.
    L2_FEED: ClassVar[float] = 10.0
    #: Share of the transposes that a single sequence needs; fixed, from three GPUs with FlashAttention 2.
    SINGLE_SWAP: ClassVar[float] = 0.2
    #: Sharpness of a wave's roofline, and of the L2 switch: cyclic reads just above L2 all miss; fixed.
    OVERLAP: ClassVar[float] = 6.0
    SWITCH: ClassVar[float] = 24.0
    #: Bytes of one element of a partial result (fp32).
    PARTIAL_BYTES: ClassVar[float] = 4.0
    #: Shapes priced at a time: temporaries stay in the CPU cache.
    CHUNK: ClassVar[int] = 16384

    def __post_init__(self) -> None:
        check_algorithm(self.algorithm)
        if self.splits not in SPLITS:
            raise InvalidInputError(f"splits must be one of {', '.join(SPLITS)}; got {shown(self.splits)}")

    def without_quantisation(self) -> KernelModel:
        """Return the same kernel in fractions of blocks and waves."""
        return replace(self, quantised=False)

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s].

        Raises
        ------
        MissingValueError
            If the profile lacks, for ``"replayed"``, the size of L2.
        """
        columns = np.broadcast_arrays(
            ops.batch,
            ops.b_batch,
            ops.sequences,
            ops.m,
            ops.n,
            ops.k,
            ops.b_traffic,
            ops.a_traffic + ops.out_traffic,
            np.where(windowed(ops), ops.grain, 0.0),
        )
        flat = [np.ascontiguousarray(column, dtype=np.float64).reshape(-1) for column in columns]
        out = np.empty(flat[0].size)
        for start in range(0, out.size, self.CHUNK):
            part = slice(start, start + self.CHUNK)
            out[part] = self._chunk([column[part] for column in flat], hardware, cache)
        return out.reshape(columns[0].shape)

    def _chunk(self, columns: list[FloatArray], hardware: HardwareProfile, cache: Cache) -> FloatArray:
        batch, kv_batch, sequences, queries, keys, width, size, qo, window = columns
        sms, bandwidth = float(hardware.sm_count), hardware.memory_bandwidth * self.memory_efficiency
        rows, group, high = batch * queries, batch / kv_batch, TILE_ROWS[self.algorithm]
        tiled = np.ceil if self.quantised else (lambda x: np.maximum(x, 1.0))
        block = by_head(BLOCKS[self.algorithm], width)
        blocks = tiled(keys / block)
        if self.algorithm.startswith("fa3"):
            # A window begins inside of a block: one more than its keys fill.
            blocks = blocks + np.where((window > 0) & (keys >= window), 1.0, 0.0)
        exact = (
            self.splits == "vllm" and self.algorithm not in BALANCED
        )  # else shares of CTAs and parts, so that no key shortens a step by rounding
        folded = np.ones(rows.shape, dtype=bool)
        whole = np.zeros(rows.shape, dtype=bool)
        if self.algorithm == "fa2":
            whole = window > 0
            folded = ~whole & ((group > 1) & (queries <= 1) if exact else True)
        tiles = np.where(folded, kv_batch * tiled(group * queries / high), batch * tiled(queries / high))
        least = least_blocks(tiles, blocks, self.algorithm, hardware.sm_count)
        if exact and self.algorithm == "fa2":
            least = blocks / np.where(folded, splits_fa2(tiles, np.ceil(blocks), hardware.sm_count), 1.0)
        least = np.where(whole, blocks, least)
        per_cta = np.minimum(tiled(least), blocks)
        per_cta = tiled(blocks / tiled(blocks / per_cta)) if exact else per_cta
        count = tiled(blocks / per_cta) if exact else np.maximum(keys / block / per_cta, 1.0)
        parts = count if exact else blocks / least
        partial = np.where(parts > 1, parts * rows * (width + 1.0) * self.PARTIAL_BYTES, 0.0)
        miss = np.ones_like(size)
        if cache == "replayed":
            miss = l2_miss(size + qo + partial, self.l2_share, hardware, self.SWITCH)

        # CTAs of one KV head that differ in their queries all walk its keys, and share them in L2.
        walked = size / kv_batch / count
        head = np.exp(np.interp(np.log2(width), (6.0, 7.0, 8.0), np.log([self.narrow_block, 1.0, self.wide_block])))
        walk = self.block_latency * head * width / self.HEAD_DIM * block / BLOCK * per_cta
        walk = walk + walked * sms / (hardware.memory_bandwidth * self.L2_FEED)
        again = np.ones_like(size)
        if whole.any() and hardware.l2_size is not None:
            # Heads that are not folded and run one after the other read their keys anew, if L2 did not keep them.
            kept = l2_miss(size * sequences / kv_batch, self.l2_share, hardware, self.SWITCH)
            together = np.clip(sms / sequences, 1.0, group)
            again = np.where(whole, 1.0 + (group / together - 1.0) * kept, 1.0)
        read = again * walked * kv_batch / tiles * sms * miss / bandwidth
        start = self.tile_start * (width / self.HEAD_DIM) ** START_GROWTH.get(self.algorithm, 0.0)
        stream = self._in_waves(tiles * count / sms, start, read, walk)
        dram = again * size * miss / bandwidth
        ramp = self.ramp * dram / (dram + self.ramp)
        # The partial results are written and read again, in L2.
        combined = np.maximum(self.combine_part * parts, 2.0 * partial / (hardware.memory_bandwidth * self.L2_FEED))
        combine = np.minimum(parts - 1.0, 1.0) * (self.combine + combined)
        swap = np.zeros(rows.shape)
        if self.algorithm == "fa2":
            swap = self.swap * np.where(folded & (group > 1), np.where(sequences > 1, 1.0, self.SINGLE_SWAP), 0.0)
        return np.asarray(self.launch + stream + ramp + swap + combine + self.row * rows)

    def _in_waves(self, waves: FloatArray, start: FloatArray, read: FloatArray, walk: FloatArray) -> FloatArray:
        """Return the time of all waves; `read` and `walk` are the DRAM time and the walk of a full one."""
        if not self.quantised:
            started = np.maximum(waves, 1.0)
            return np.asarray(started * (start + pnorm(np.minimum(waves, 1.0) * read, walk, self.OVERLAP)))
        full = np.floor(waves)
        last = np.where(waves > full, pnorm((waves - full) * read, walk, self.OVERLAP), 0.0)
        return np.asarray(np.ceil(waves) * start + full * pnorm(read, walk, self.OVERLAP) + last)


# --- how timings of it are read, fitted and judged ------------------------------------------------------------------


def _as_ops(frame: pd.DataFrame) -> OpTrace:
    return attention_ops(frame, "decode")


KIND = Kind(
    kernel=DecodeAttention,
    group=("heads", "kv_heads", "kv_len"),
    axes=("batch", "heads", "kv_len"),
    as_ops=_as_ops,
    scarce=("launch", "memory_efficiency", "block_latency"),
    prior_sd=dict.fromkeys(parameters(DecodeAttention), PRIOR),
    left_out=Spread(-0.27, 0.27, 0.6),
    quantities=quantities(head=1.5),
    usual={"splits": "any"},
    **SHARED,
)
#: The same over a cache of 8 bit; the dtype of its timings is that of the cache.
KIND_8BIT = replace(KIND, variant=narrow_variant, family="attention_decode")
