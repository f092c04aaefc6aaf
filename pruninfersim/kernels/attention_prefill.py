"""Prefill attention of FlashAttention 2 and 3: tiles on SMs, the longest causal tile, L2 residency, KV write."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from pruninfersim._arrays import FloatArray
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache, KernelModel, parameter, pnorm, roofline
from pruninfersim.trace import OpTrace


@dataclass(frozen=True)
class PrefillAttention:
    """Time of one fused causal attention over a batch of prompts.

    CTAs of `rows` queries walk the keys in blocks of 128; `cta` of them run in waves of one per SM, the longest causal
    tile runs last, and memory overlaps with both::

        blocks per sequence and head = causal share x tiles x keys / 128, and half a block of diagonal waste per tile
        average = tile_start + blocks x block_time / cta          longest = tile_start + tail x block_time x keys / 128
        compute = pnorm_1.5(ceil(cta / SMs) x average, longest)
        T = launch + pnorm_2(compute, miss (Q + K + V + O) / bandwidth) + miss (K + V) / bandwidth

    FlashAttention 2 (Dao 2023, arXiv 2307.08691) has 64 query rows per tile here (the paged path of vLLM) and one KV
    head per query head; FlashAttention 3 (Shah et al. 2024, arXiv 2407.08608) has 128 and packs the query heads of a
    KV group into rows. A benchmark that replays one layer finds small operands in L2 and writes the KV cache itself,
    one CTA per token: both are part of ``cache="replayed"`` only.

    >>> PrefillAttention().tile_rows
    64
    """

    launch: float = parameter(5e-6, 1e-7, 3e-5, "s", "launch and drain of the kernels inside a CUDA graph")
    compute_efficiency: float = parameter(0.62, 0.2, 1.1, "1", "fraction of tensor-core peak inside a KV block")
    memory_efficiency: float = parameter(0.95, 0.3, 1.3, "1", "fraction of data-sheet DRAM bandwidth")
    l2_share: float = parameter(0.8, 0.1, 3.0, "1", "share of L2 that holds Q, K, V and O between replays")
    tile_start: float = parameter(1.5e-6, 1e-8, 1e-5, "s", "prologue and epilogue of one CTA")
    tail: float = parameter(1.0, 0.05, 4.0, "1", "slow-down of the longest causal tile, which runs last")
    kv_write: float = parameter(4e-9, 1e-10, 5e-8, "s", "separate write of a token's keys and values by a benchmark")
    power_droop: float = parameter(0.02, 1e-4, 1.0, "1", "slow-down of a sustained kernel by the power limit")
    algorithm: str = "fa2"
    quantised: bool = True

    #: Keys of one block; query rows of one CTA by algorithm.
    BLOCK: ClassVar[int] = 128
    ROWS: ClassVar[dict[str, int]] = {"fa2": 64, "fa3": 128}
    #: Sharpness of the two overlaps and of the L2 switch, and time constant of the power limit [s]; fixed.
    WAVE_OVERLAP: ClassVar[float] = 1.5
    MEMORY_OVERLAP: ClassVar[float] = 2.0
    SWITCH: ClassVar[float] = 8.0
    POWER_TIME: ClassVar[float] = 2e-3

    @property
    def tile_rows(self) -> int:
        """Query rows of one CTA."""
        return self.ROWS[self.algorithm]

    def without_quantisation(self) -> KernelModel:
        """Return the same kernel in fractions of tiles and waves."""
        return replace(self, quantised=False)

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]; cold times are at least the roofline."""
        packed = self.algorithm == "fa3"
        whole = np.ceil if self.quantised else (lambda x: np.maximum(x, 1.0))
        group = ops.batch / ops.b_batch
        heads, rows = (ops.b_batch, ops.m * group) if packed else (ops.batch, ops.m)
        tiles = whole(rows / self.tile_rows)
        # Rows of a tile per key block, in queries: packing G heads makes a tile span rows / G queries.
        span = self.tile_rows / self.BLOCK / (group if packed else 1.0)
        waste = tiles * np.maximum(span, 1.0) / 2.0 * np.minimum(1.0, 2.0 * (1.0 - ops.mac_fraction))
        keys = ops.n / self.BLOCK
        blocks = np.where(tiles > 1, tiles * keys * ops.mac_fraction + waste, whole(keys))
        cta = heads * tiles

        sms = hardware.sm_count
        peak = np.array([hardware.peak_flops(dtype) for dtype in ops.dtype])
        block_time = 4.0 * self.tile_rows * self.BLOCK * ops.k / (peak * self.compute_efficiency / sms)
        average = self.tile_start + block_time * heads * blocks / cta
        longest = self.tile_start + self.tail * block_time * whole(keys)
        compute = pnorm(whole(cta / sms) * average, longest, self.WAVE_OVERLAP)
        compute = compute * (1.0 + self.power_droop * compute / (compute + self.POWER_TIME))

        kv, qo = ops.b_traffic, ops.a_traffic + ops.out_traffic
        bandwidth = hardware.memory_bandwidth * self.memory_efficiency
        miss = self._miss(qo + 2.0 * kv, hardware) if cache == "replayed" else 1.0
        seconds = (
            self.launch + pnorm(compute, miss * (qo + kv) / bandwidth, self.MEMORY_OVERLAP) + miss * kv / bandwidth
        )
        if cache == "replayed":
            return np.asarray(seconds + self.kv_write * ops.sequences * ops.m)
        return np.maximum(seconds, roofline(ops, hardware))

    def _miss(self, size: FloatArray, hardware: HardwareProfile) -> FloatArray:
        """Share of the operands that a replay does not find in L2."""
        room = self.l2_share * (hardware.l2_size or np.nan)
        return 1.0 / (1.0 + (room / size) ** self.SWITCH)


@dataclass(frozen=True)
class KVAppend:
    """Write of new keys and values to the cache: one CTA per token, so per token and not per byte.

    >>> KVAppend(4e-9).per_token
    4e-09
    """

    per_token: float = 4e-9

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]."""
        return np.maximum(self.per_token * ops.m, roofline(ops, hardware))
