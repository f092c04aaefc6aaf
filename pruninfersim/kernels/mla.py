"""Multi-head latent attention: absorbed decode over the shared latent, expanded prefill, and absorbed prefill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim._util.arrays import FloatArray
from pruninfersim.hardware import HardwareProfile, traits
from pruninfersim.kernels.attention_prefill import l2_miss
from pruninfersim.kernels.base import Cache, parameter, pnorm
from pruninfersim.kernels.evidence import Quantity, Spread, keys, sequences
from pruninfersim.kernels.kind import Kind, Regime, rows_as_ops
from pruninfersim.trace import OpTrace

if TYPE_CHECKING:
    import pandas as pd

#: DeepSeek: widths of the latent and its rotary part; of a key and a value of one head when expanded.
LATENT, ROPE, KEY, VALUE = 512.0, 64.0, 192.0, 128.0
#: Mean width of a key and a value, absorbed and expanded: `k` of the op.
ABSORBED, EXPANDED = (2 * LATENT + ROPE) / 2.0, (KEY + VALUE) / 2.0


@dataclass(frozen=True)
class LatentDecode:
    """Time of absorbed MLA decode.

    All heads share one latent per token; a CTA holds 64 heads, or 128, and the blocks of 64 tokens of all sequences are
    spread evenly over the SMs. Cache bytes cross DRAM once, whatever the number of heads; at 128 heads compute and DRAM
    tie.

    >>> from pruninfersim import hardware
    >>> row = {"kernel": "mla_decode", "gemms": 2, "m": 1, "n": [1024, 8192], "k": 544, "batch": 64 * 16,
    ...        "sequences": 64, "b_batch": 64 * 576 / 1088}
    >>> short, long = LatentDecode().latency(OpTrace.from_rows([row]), hardware.get("h100-sxm"))[..., 0]
    >>> bool(3.0 < long / short < 8.0)
    True
    """

    launch: float = parameter(7e-6, 1e-6, 3e-5, "s", "start-up and drain")
    memory_efficiency: float = parameter(0.95, 0.1, 1.2, "1", "DRAM rate over its data-sheet rate")
    l2_share: float = parameter(0.3, 0.02, 2.0, "1", "share of L2 in which a replayed benchmark keeps the cache")
    block: float = parameter(1.5e-6, 1e-7, 6e-6, "s", "64 tokens times the heads of one CTA")
    row: float = parameter(1e-9, 1e-11, 1e-8, "s", "one head of one sequence")
    combine: float = parameter(1.8e-6, 1e-8, 1e-5, "s", "adding up the parts where a sequence is split")
    ramp: float = parameter(1.4e-5, 1e-8, 1e-4, "s", "time that DRAM loses before it is at full rate")
    walk: float = parameter(4.8e-6, 1e-7, 2e-5, "s", "latency of one sequence's walk")
    quantised: bool = True

    #: Heads of a CTA: rows of the tensor core's tile, which are 128 on data-centre Blackwell.
    heads: float = 64.0

    OVERLAP: ClassVar[float] = 4.0
    MISS: ClassVar[float] = 12.0
    TOKENS: ClassVar[float] = 64.0

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]."""
        batch, length = np.maximum(ops.sequences, 1.0), ops.n
        heads = ops.batch / batch * ops.m
        up = np.ceil if self.quantised else lambda x: np.maximum(x, 1.0)
        groups = np.ceil(heads / self.heads)
        parts = np.maximum(np.floor(hardware.sm_count / groups), 1.0)
        blocks = np.asarray(up(length / self.TOKENS))
        turns = np.asarray(up(batch / parts))
        per = np.minimum(np.asarray(up(batch * blocks / parts)), blocks * turns)
        size = ops.b_traffic
        miss = np.ones_like(size)
        if cache == "replayed" and hardware.l2_size is not None:
            miss = l2_miss(np.maximum(size, 1.0), self.l2_share, hardware, self.MISS)
        dram = size * miss / (hardware.memory_bandwidth * self.memory_efficiency)
        ramp = self.ramp * dram / (dram + self.ramp)
        whole, split = (
            pnorm(dram, self.block * walked * ops.k / ABSORBED + self.walk * turns, self.OVERLAP)
            for walked in (blocks * turns, per)
        )
        # A sequence is split where that pays.
        seconds = np.minimum(whole, split + self.combine)
        return np.asarray(self.launch + seconds + ramp + self.row * ops.batch * ops.m)

    def without_quantisation(self) -> LatentDecode:
        """Return the same kernel with fractions of blocks."""
        return replace(self, quantised=False)


@dataclass(frozen=True)
class LatentPrefill:
    """Time of MLA prefill: causal attention of all heads in tiles, each with keys and values of its own.

    The absorbed form packs all heads of a query as rows of the one latent head, with 3.4 times the work.

    >>> from pruninfersim import hardware
    >>> row = {"kernel": "mla_prefill", "gemms": 2, "m": [1024, 4096], "n": [1024, 4096], "k": 160, "batch": 16,
    ...        "sequences": 1, "b_batch": 16, "mac_fraction": 0.5}
    >>> short, long = LatentPrefill().latency(OpTrace.from_rows([row]), hardware.get("h100-sxm"))[..., 0]
    >>> bool(5.0 < long / short < 16.0)
    True
    """

    launch: float = parameter(7e-6, 5e-7, 4e-5, "s", "start-up and drain, and the write of the cache")
    efficiency: float = parameter(
        0.65, 0.1, 2.0, "1", "rate of the tensor cores over their 16-bit peak; above 1 where they run in 8 bit"
    )
    memory_efficiency: float = parameter(0.8, 0.1, 2.0, "1", "DRAM rate over its data-sheet rate")
    tile_start: float = parameter(2e-6, 1e-8, 2e-5, "s", "prologue and epilogue of a CTA")
    write: float = parameter(5e-9, 1e-11, 5e-8, "s", "write of one token to the cache")
    overlap: float = parameter(4.0, 1.2, 10.0, "1", "exponent: how well compute and DRAM overlap")
    tail: float = parameter(0.6, 0.05, 1.0, "1", "share of the longest tile that is left over at the end")
    l2_share: float = parameter(0.5, 0.02, 2.0, "1", "share of L2 in which a replayed benchmark keeps its operands")
    quantised: bool = True

    #: Queries of a CTA: 128 where there is shared memory for them, else 64.
    rows: float = 128.0

    MISS: ClassVar[float] = 12.0
    #: Rate at which operands arrive from L2, over that from DRAM; fixed.
    HIT: ClassVar[float] = 5.0
    DEPTH: ClassVar[float] = 128.0
    TILE_ABSORBED: ClassVar[tuple[float, float]] = (64.0, 64.0)

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]."""
        absorbed = ops.k > (ABSORBED + EXPANDED) / 2.0
        height = np.where(absorbed, self.TILE_ABSORBED[0], self.rows)
        depth = np.where(absorbed, self.TILE_ABSORBED[1], self.DEPTH)
        batch = np.maximum(ops.sequences, 1.0)
        heads = ops.batch / batch
        rows = np.where(absorbed, ops.m * heads, ops.m)
        across = batch * np.where(absorbed, 1.0, heads)
        tiles = np.ceil(rows / height) if self.quantised else np.maximum(rows / height, 1.0)
        # Keys of the mean and of the last tile, rounded up to blocks: half a block more on average.
        last = np.ceil(ops.n / depth) * depth if self.quantised else ops.n
        mean = np.minimum(ops.n * ops.mac_fraction + np.where(self.quantised, depth / 2.0, 0.0), last)
        sms = float(hardware.sm_count)
        peak = np.array([hardware.peak_flops(dtype) for dtype in ops.dtype]) * self.efficiency / sms
        each = 4.0 * height * ops.k / peak
        ctas = across * tiles
        # Many CTAs even out; few end with the longest of them.
        even = ctas / sms * (each * mean + self.tile_start)
        longest = each * last + self.tile_start
        compute = np.maximum(even + self.tail * longest * np.minimum(1.0, 1.0 - 1.0 / (1.0 + ctas / sms)), longest)
        moved = ops.traffic
        miss = np.ones_like(moved)
        if cache == "replayed" and hardware.l2_size is not None:
            miss = l2_miss(np.maximum(moved, 1.0), self.l2_share, hardware, self.MISS)
        rate = miss / self.memory_efficiency + (1.0 - miss) / (self.memory_efficiency * self.HIT)
        dram = moved * rate / hardware.memory_bandwidth
        return np.asarray(self.launch + pnorm(compute, dram, self.overlap) + self.write * batch * ops.m)

    def without_quantisation(self) -> LatentPrefill:
        """Return the same kernel with fractions of tiles."""
        return replace(self, quantised=False)


# --- how timings of it are read, fitted and judged ------------------------------------------------------------------


def mla_columns(sizes: Mapping[str, FloatArray], cache_bytes: ArrayLike, *, form: str, phase: str) -> dict[str, Any]:
    """Return the columns of DeepSeek's MLA, as `pruninfersim.models.architectures.mla` makes them.

    Parameters
    ----------
    sizes : mapping
        batch, query_len, context, heads; they broadcast.
    cache_bytes : array_like
        Of an element of the cache [B].
    form, phase : str
    """
    batch, query_len, context, heads = (sizes[name] for name in ("batch", "query_len", "context", "heads"))
    width = ABSORBED if form == "absorbed" else EXPANDED
    stored = (LATENT + ROPE) / (2.0 * width)
    share = np.ones(np.broadcast_shapes(query_len.shape, context.shape))
    if phase == "prefill":
        share = 1.0 - query_len / (2.0 * np.maximum(context, query_len))
    return {
        "m": query_len,
        "n": context,
        "k": np.asarray(width),
        "batch": batch * heads,
        "b_batch": batch * stored,
        "b_reads": np.asarray(1.0) if form == "absorbed" else heads / stored,
        "b_bytes": cache_bytes,
        "sequences": batch,
        "gemms": np.asarray(2.0),
        "mac_fraction": share,
    }


def _as_ops(frame: pd.DataFrame) -> OpTrace:
    names = {"batch": "batch", "query_len": "q_len", "context": "kv_len", "heads": "heads"}
    given = {name: frame[column].to_numpy(dtype=np.float64) for name, column in names.items()}
    phase, form = str(frame["phase"].iloc[0]), str(frame["form"].iloc[0])
    width = np.where(frame["kv_dtype"].to_numpy() == "fp8", 1.0, 2.0)
    columns = mla_columns(given, width, form=form, phase=phase)
    ops = rows_as_ops(frame, {**columns, "a_bytes": 2.0, "out_bytes": 2.0}, kernel=f"mla_{phase}")
    return ops.with_columns(dtype=("bf16",) * len(frame))


def _decode_variant(hardware: HardwareProfile) -> dict[str, Any]:
    return {"heads": 128.0 if traits.generation(hardware) == "Blackwell 10" else 64.0}


def _prefill_variant(hardware: HardwareProfile) -> dict[str, Any]:
    return {"rows": 128.0 if traits.memory_class(hardware) == "HBM" else 64.0}


def _kind(kernel: type[LatentDecode] | type[LatentPrefill], family: str, spread: Spread) -> Kind:
    return Kind(
        kernel=kernel,
        shape=("heads", "batch", "q_len", "kv_len"),
        labels=("phase", "form", "kv_dtype"),
        group=("heads", "kv_len"),
        axes=("batch", "heads", "kv_len"),
        as_ops=_as_ops,
        scarce=("launch", "memory_efficiency"),
        left_out=spread,
        quantities=(Quantity("keys", keys, above=0.2), Quantity("sequences", sequences, above=0.2)),
        regimes=(Regime.of_column("kv_len", 512, 8192),),
        family=family,
        variant=_decode_variant if kernel is LatentDecode else _prefill_variant,
    )


DECODE = _kind(LatentDecode, "mla_decode", Spread(-0.3, 0.3, 0.6))
PREFILL = _kind(LatentPrefill, "mla_prefill", Spread(-0.25, 0.25, 0.6))
#: Kinds of the calibrations. SGLang's prefill on Hopper stays absorbed.
KINDS = {
    "mla_decode": DECODE,
    "mla_decode_sglang": DECODE,
    "mla_prefill": PREFILL,
    "mla_prefill_sglang": PREFILL,
    "mla_prefill_absorbed": PREFILL,
}
