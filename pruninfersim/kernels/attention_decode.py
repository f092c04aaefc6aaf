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
    SLACK,
    TILE_ROWS,
    attention_ops,
    by_head,
    check_algorithm,
    l2_miss,
    quantities,
    windowed,
)
from pruninfersim.kernels.attention_prefill_8bit import narrow_variant
from pruninfersim.kernels.base import Cache, KernelModel, parameter, parameters, pnorm
from pruninfersim.kernels.evidence import Spread
from pruninfersim.kernels.kind import Kind
from pruninfersim.trace import OpTrace

if TYPE_CHECKING:
    import pandas as pd

#: Most parts of a split.
MOST: dict[str, float] = {"fa2": 128.0, "fa3": 32.0, "fa3-8bit": 32.0, "trtllm": 64.0, "flashinfer": 64.0}
#: SMs that a split fills per CTA: one wave leaves some idle, FlashAttention 2 has two CTAs per SM.
FILL: dict[str, float] = dict.fromkeys(MOST, 1.1) | {"fa2": 0.5}
#: SMs of the card that a library is tuned on, H100 or B200: in its parts a step takes what it takes, on any card, at
#: least. Fixed; from 128 to 142 timings of FlashAttention 2 on 108, 142 and 188 SMs are met alike.
TUNED = dict.fromkeys(MOST, 132.0) | {"trtllm": 148.0, "flashinfer": 148.0}
#: CTAs per SM from which FlashAttention 2 does not split: 80 % of two.
UNSPLIT = 1.6
#: Which spread the blocks of all sequences evenly over the SMs, rather than in whole parts and waves.
BALANCED = ("trtllm", "flashinfer")
#: How the start of a CTA grows with the head size, as an exponent; 0 elsewhere. From three head sizes on H200.
START_GROWTH = {"fa3-8bit": 0.5}
#: Keys of a block for heads up to 64, up to 128, and wider, where they are not those of prefill.
BLOCKS: dict[str, tuple[float, float, float]] = KEYS | {
    "fa3-8bit": (160, 160, 128),
    "trtllm": (128, 128, 128),
    "flashinfer": (64, 64, 64),
}
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


def least_blocks(tiles: FloatArray, blocks: FloatArray, algorithm: str, sms: float) -> FloatArray:
    """Return how many key blocks each CTA has to walk so that all SMs are busy, not rounded, at least one.

    FlashAttention 3: CTAs of one wave on 1 / 1.1 of the SMs, at most 32 parts (its varlen scheduler); the kernels of
    TensorRT-LLM and FlashInfer likewise, up to 64. FlashAttention 2: one wave on two CTAs per SM, at most 128 parts, no
    split from 80 % of such a wave on; what `splits_fa2` aims at, without its search, so that more tiles or blocks never
    mean fewer blocks per CTA.

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
    share = FILL[algorithm] * tiles / sms
    if algorithm == "fa2":
        share = np.where(tiles < UNSPLIT * sms, share, 1.0)
    return np.asarray(np.clip(np.maximum(share, 1.0 / MOST[algorithm]) * blocks, 1.0, blocks))


def unsplit(tiles: FloatArray, blocks: FloatArray, algorithm: str) -> FloatArray:
    """Return the number of SMs just below which `least_blocks` is all blocks; infinite for one block.

    >>> unsplit(np.array([16.0, 16.0]), np.array([2.0, 1.0]), "fa3").round(3).tolist()
    [35.2, inf]
    """
    share = np.divide(blocks, blocks - 1.0, out=np.full(np.shape(blocks), np.inf), where=blocks > 1.0) * FILL[algorithm]
    share = np.maximum(share, 1.0 / UNSPLIT) if algorithm == "fa2" else share
    return np.asarray(tiles * share * (1.0 - 10.0 * SLACK))


def blocks_worth(blocks: FloatArray, walk: FloatArray, read: FloatArray, part: FloatArray) -> FloatArray:
    """Return of how many blocks, not rounded, a part has to be so that any split into larger parts is slower.

    In P parts a tile takes ``pnorm_6(read, walk / P) + part x P``, which falls with P as long as ``walk / P^2 x
    (x / pnorm_6(1, x))^5 > part``, x being ``walk / P / read``: at least up to the P where that holds with ``2^(1/6)
    max(1, x)`` in place of the norm. From q blocks to q - 1, the P in between is ``blocks / sqrt(q (q - 1))``.

    Parameters
    ----------
    blocks, walk, read, part : ndarray
        Of the same shape: blocks of a tile, their walk by one CTA, their read from DRAM, combination of a part [s].

    >>> few, long = np.array([16.0, 77.0, 9.0, 0.2]), np.array([64.0, 100.0, 50.0, 1.0])
    >>> blocks_worth(*np.stack([few, long], axis=1)).round(2).tolist()
    [1.18, 21.45]
    """
    cost, read = 2.0 ** (5.0 / 6.0) * part, np.maximum(read, 1e-3 * walk)
    parts = np.minimum((walk / cost) ** 0.5, (walk**6 / (cost * read**5)) ** (1.0 / 7.0))
    return np.asarray(np.sqrt(0.25 + (blocks / np.maximum(parts, 1.0)) ** 2) - 0.5)


@dataclass(frozen=True)
class DecodeAttention:
    """Time of one attention step with one query, or a few, per sequence over a paged KV cache.

    The query rows of a KV head fill tiles of 64 or 128 rows; the keys of a tile are split among CTAs so that all SMs
    are busy (`least_blocks`). CTAs run in waves of one per SM, each wave a roofline of its own::

        walk = block_latency x blocks of a CTA + keys and values of the wave at the L2 feed
        wave = pnorm_6(bytes of the wave / DRAM bandwidth, walk)
        T    = launch + waves x tile_start + sum of waves + ramp + swap + combine + row x rows

    Partial results are combined by a second kernel; FlashAttention 2 with grouped queries transposes them before and
    after. DRAM traffic starts slowly: `ramp` more in the limit of long reads, and nothing where nothing is read.
    ``cache="replayed"`` finds a small KV cache in L2; in a model step the other layers have evicted it.

    Which heads are split, and how, is a matter of the library, not of the card. ``splits="any"``: all that gain by it,
    into parts that fill the GPU, or into fewer where combining more takes longer than they save (`blocks_worth`), as
    FlashDecoding, FlashInfer and FlashAttention's entry for KV caches do. Its CTAs spread evenly over the waves, which
    is the best that any number of SMs up to those of the card makes of them: more SMs are never slower. Nor is a step
    faster than in the parts of the card that the library is tuned on (`TUNED`): libraries split further than pays.
    ``splits="vllm"``: by the very search of the versions that were timed, in full waves and a last one that is bound by
    its walk if it is short. FlashAttention 2 behind vLLM's variable-length entry (A100, L40S, RTX PRO 6000) splits one
    query of grouped heads only, and one CTA walks all keys of any other head. Fits to those timings use it; stacks
    price with ``"any"``.

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
        exact = self.splits == "vllm" and self.algorithm not in BALANCED
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
        count = tiled(blocks / np.minimum(tiled(least), blocks))
        # Partial results are written and read again, in L2.
        partial = rows * (width + 1.0) * self.PARTIAL_BYTES
        part = np.maximum(self.combine_part, 2.0 * partial / (hardware.memory_bandwidth * self.L2_FEED))
        miss = np.ones_like(size)
        if cache == "replayed":
            moved = size + qo + np.where(count > 1, count * partial, 0.0)
            miss = l2_miss(moved, self.l2_share, hardware, self.SWITCH)
        again = np.ones_like(size)
        if whole.any() and hardware.l2_size is not None:
            # Heads that are not folded and run one after the other read their keys anew, if L2 did not keep them.
            kept = l2_miss(size * sequences / kv_batch, self.l2_share, hardware, self.SWITCH)
            together = np.clip(sms / sequences, 1.0, group)
            again = np.where(whole, 1.0 + (group / together - 1.0) * kept, 1.0)
        dram = again * size * miss / bandwidth
        # CTAs of one KV head that differ in their queries all walk its keys, and share them in L2.
        feed = size * tiles / kv_batch / (hardware.memory_bandwidth * self.L2_FEED)
        head = np.exp(np.interp(np.log2(width), (6.0, 7.0, 8.0), np.log([self.narrow_block, 1.0, self.wide_block])))
        step = self.block_latency * head * width / self.HEAD_DIM * block / BLOCK
        start = self.tile_start * (width / self.HEAD_DIM) ** START_GROWTH.get(self.algorithm, 0.0)
        if exact:
            stream = self._as_timed(tiles * count / sms, start, dram, step * tiled(blocks / count), feed)
            stream = stream + np.minimum(count - 1.0, 1.0) * (self.combine + part * count)
        else:
            tuned_on, turns = TUNED[self.algorithm], max(1.0, 1.0 / FILL[self.algorithm])
            # Heads that walk on their own have a share of the feed each, however many there are.
            step, feed = np.where(whole, step + feed / blocks * tuned_on / tiles, step), np.where(whole, 0.0, feed)
            worth = blocks_worth(blocks, turns * step * blocks, dram, part)
            per_cta = np.minimum(tiled(np.maximum(least, worth)), blocks)
            used = np.minimum(sms, unsplit(tiles, blocks, self.algorithm))
            stream = self._even(tiles / used, start, dram, step * blocks, feed)
            # Two waves of small parts, or one of larger ones.
            for walked in (per_cta, np.maximum(per_cta, np.minimum(tiled(tiles * blocks / sms), blocks))):
                count = blocks / walked
                split = self._even(tiles * count / sms, start, dram, step * walked, feed) + self.combine + part * count
                stream = np.where(count > 1.0, np.minimum(stream, split), stream)
            usual = blocks / np.where(whole, blocks, least_blocks(tiles, blocks, self.algorithm, tuned_on))
            tuned = self._even(tiles * usual / max(sms, tuned_on), start, dram, step * blocks / usual, feed)
            stream = np.maximum(stream, np.where(usual > 1.0, tuned + self.combine + part * usual, 0.0))
        ramp = self.ramp * dram / (dram + self.ramp)
        swap = np.zeros(rows.shape)
        if self.algorithm == "fa2":
            swap = self.swap * np.where(folded & (group > 1), np.where(sequences > 1, 1.0, self.SINGLE_SWAP), 0.0)
        return np.asarray(self.launch + stream + ramp + swap + self.row * rows)

    def _even(
        self, waves: FloatArray, start: FloatArray, dram: FloatArray, walk: FloatArray, feed: FloatArray
    ) -> FloatArray:
        """Return the time of waves of equally many CTAs; `dram` and `feed` are of all, `walk` of one CTA."""
        started = np.ceil(waves * (1.0 - SLACK)) if self.quantised else np.maximum(waves, 1.0)
        return np.asarray(started * start + pnorm(dram, started * walk + feed, self.OVERLAP))

    def _as_timed(
        self, waves: FloatArray, start: FloatArray, dram: FloatArray, walk: FloatArray, feed: FloatArray
    ) -> FloatArray:
        """Return the time of full waves and a last one; `dram` and `feed` are of all, `walk` of one CTA."""
        read, walk = dram / waves, walk + feed / waves
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
