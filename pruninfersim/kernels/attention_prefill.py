"""Prefill attention of FlashAttention 2 and 3: tiles on SMs, the longest causal tile, L2 residency, KV write."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.errors import InvalidInputError, MissingValueError, shown
from pruninfersim.hardware import HardwareProfile, traits
from pruninfersim.kernels.base import Cache, KernelModel, parameter, parameters, pnorm
from pruninfersim.kernels.evidence import Quantity, Spread, head_size, keys, sequences
from pruninfersim.kernels.kind import Kind, Regime, rows_as_ops
from pruninfersim.trace import OpTrace

if TYPE_CHECKING:
    import pandas as pd

#: Query rows of one CTA. FlashAttention 2: the paged (split-KV) kernel that vLLM calls.
TILE_ROWS: dict[str, int] = {"fa2": 64, "fa3": 128}
#: Keys of one block of the inner loop, in both.
BLOCK = 128


def algorithm(hardware: HardwareProfile) -> str:
    """Return which FlashAttention a GPU runs: ``"fa3"`` with warp-specialised tensor cores, else ``"fa2"``.

    Compute capability 9 runs FlashAttention 3 in vLLM. No timings of capability 10 (B200) are at hand; its kernels
    have the structure of FlashAttention 3, which is extrapolated to it. All others, sm_120 too, run FlashAttention 2.

    >>> from pruninfersim import hardware
    >>> algorithm(hardware.get("h200-sxm")), algorithm(hardware.get("rtx-5090"))
    ('fa3', 'fa2')
    """
    return "fa3" if hardware.compute_capability.split(".")[0] in ("9", "10") else "fa2"


def check_algorithm(name: str) -> None:
    """Raise InvalidInputError if `name` is no algorithm of the attention models."""
    if name not in TILE_ROWS:
        raise InvalidInputError(f"algorithm must be one of {', '.join(TILE_ROWS)}; got {shown(name)}")


def l2_miss(size: FloatArray, share: float, hardware: HardwareProfile, sharpness: float) -> FloatArray:
    """Return the share of `size` bytes that a replay does not find in L2, 0 to 1.

    Raises
    ------
    MissingValueError
        If the profile has no L2 size.
    """
    if hardware.l2_size is None:
        raise MissingValueError(f"{hardware.name} has no L2 size, which cache='replayed' needs; use cache='cold'.")
    return np.asarray(1.0 / (1.0 + (share * hardware.l2_size / size) ** sharpness))


@dataclass(frozen=True)
class PrefillAttention:
    """Time of one fused attention over a batch of prompts, or of chunks of prompts.

    CTAs of 64 or 128 query rows walk the keys in blocks of 128, in waves of one CTA per SM. A causal tile sees half of
    the keys in the mean, and wastes half a block on its diagonal; the longest tile is exposed at the end. Operands
    stream from DRAM behind that::

        blocks  = keys / 128 x done share + max(1, tile span) / 2     (per tile, at least one, at most all)
        tile    = tile_start + Q and O of the tile at the L2 feed of one SM + blocks x block_time
        longest = tile_start + Q and O likewise + tail x block_time x blocks of the longest tile
        compute = ceil(CTAs / SMs) x tile + longest, slowed by up to power_droop where the power limit shows
        T       = launch + pnorm_3(compute, (Q + K + V + O) / DRAM bandwidth)

    FlashAttention 2 (Dao 2023, arXiv 2307.08691) has 64 query rows per tile here (the paged path of vLLM), from one
    query head; FlashAttention 3 (Shah et al. 2024, arXiv 2407.08608) has 128 and packs the query heads of a KV group
    into rows. A benchmark that replays one layer finds small operands in L2 and writes the KV cache itself, by a
    kernel with one CTA per token: both are part of ``cache="replayed"`` only.

    Raises
    ------
    InvalidInputError
        If the algorithm is not known.

    >>> PrefillAttention(algorithm="fa3").tile_rows
    128
    """

    launch: float = parameter(3.2e-6, 1e-7, 3e-5, "s", "launch and drain of the kernels inside a CUDA graph")
    compute_efficiency: float = parameter(0.66, 0.2, 1.1, "1", "fraction of tensor-core peak inside a KV block")
    memory_efficiency: float = parameter(0.79, 0.3, 1.3, "1", "fraction of data-sheet DRAM bandwidth")
    l2_share: float = parameter(0.85, 0.1, 3.0, "1", "share of L2 that holds Q, K, V and O between replays")
    tile_start: float = parameter(1.25e-6, 1e-8, 1e-5, "s", "prologue and epilogue of one CTA")
    tail: float = parameter(0.5, 0.05, 4.0, "1", "exposed share of the longest tile, which runs last")
    kv_write: float = parameter(4.7e-9, 1e-10, 5e-8, "s", "separate write of a token's keys and values by a benchmark")
    power_droop: float = parameter(0.15, 1e-4, 1.0, "1", "slow-down of a sustained kernel by the power limit")
    l2_feed: float = parameter(3.7, 0.3, 30.0, "1", "bandwidth between L2 and the SMs over DRAM bandwidth")
    algorithm: str = "fa2"
    quantised: bool = True

    #: FlashAttention 3 loads Q by the tensor memory accelerator only if the group divides its 128 rows; element-wise
    #: copies otherwise. Cost of the transfer of Q and O then; fixed, from groups of 5 and 10 on H100.
    ODD_GROUP: ClassVar[float] = 1.5
    #: Sharpness of the overlap with memory, of the KV write's two limits, and of the L2 switch; fixed.
    MEMORY_OVERLAP: ClassVar[float] = 3.0
    WRITE_OVERLAP: ClassVar[float] = 2.0
    SWITCH: ClassVar[float] = 8.0
    #: Time constant after which the power limit shows [s]; fixed, between 5 and 20 ms the fits are alike.
    POWER_TIME: ClassVar[float] = 1e-2

    def __post_init__(self) -> None:
        check_algorithm(self.algorithm)

    @property
    def tile_rows(self) -> int:
        """Query rows of one CTA."""
        return TILE_ROWS[self.algorithm]

    def without_quantisation(self) -> KernelModel:
        """Return the same kernel in fractions of tiles and waves."""
        return replace(self, quantised=False)

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s].

        Raises
        ------
        MissingValueError
            If the profile lacks the peak, or, for ``"replayed"``, the size of L2.
        """
        compute = self.compute(ops, hardware)
        kv, qo = ops.b_traffic, ops.a_traffic + ops.out_traffic
        bandwidth = hardware.memory_bandwidth * self.memory_efficiency
        if cache == "cold":
            return np.asarray(self.launch + pnorm(compute, (qo + kv) / bandwidth, self.MEMORY_OVERLAP))
        # The new keys and values count twice: as they come from the projections, and in the cache.
        miss = l2_miss(qo + 2.0 * kv, self.l2_share, hardware, self.SWITCH)
        moved = 2.0 * kv * (miss / bandwidth + (1.0 - miss) / (hardware.memory_bandwidth * self.l2_feed))
        write = pnorm(moved, self.kv_write * ops.sequences * ops.m, self.WRITE_OVERLAP)
        return np.asarray(self.launch + pnorm(compute, miss * (qo + kv) / bandwidth, self.MEMORY_OVERLAP) + write)

    def compute(self, ops: OpTrace, hardware: HardwareProfile) -> FloatArray:
        """Return the time in which the SMs work through all tiles, without memory, shape (*sweep, op) [s]."""
        packed = self.algorithm == "fa3"
        whole = np.ceil if self.quantised else (lambda x: np.maximum(x, 1.0))
        group = ops.batch / ops.b_batch
        heads, rows = (ops.b_batch, ops.m * group) if packed else (ops.batch, ops.m)
        tiles = whole(rows / self.tile_rows)
        # Length of a tile in key blocks: packing G heads makes it span 128 / G queries.
        span = self.tile_rows / BLOCK / (group if packed else 1.0)
        all_blocks = whole(ops.n / BLOCK)
        # Queries that fill up the last tile see keys as well.
        seen = (ops.n / BLOCK + tiles * span - ops.m / BLOCK) * ops.mac_fraction + np.maximum(span, 1.0) / 2.0
        blocks = np.where(tiles > 1, np.clip(seen, 1.0, all_blocks), all_blocks)
        longest = np.minimum(2.0 * blocks, all_blocks)

        ctas = heads * tiles
        sms = float(hardware.sm_count)
        peak = np.array([hardware.peak_flops(dtype) for dtype in ops.dtype])
        block_time = 4.0 * self.tile_rows * BLOCK * ops.k / (peak * self.compute_efficiency / sms)
        copies = np.where(BLOCK % group == 0, 1.0, self.ODD_GROUP) if packed else 1.0
        # Of a tile as full as the fullest: a few rows in a second one do not make the first one start sooner.
        full = np.minimum(rows, self.tile_rows) / (heads * rows)
        feed = copies * (ops.a_traffic + ops.out_traffic) * full / (hardware.memory_bandwidth * self.l2_feed / sms)
        start = self.tile_start + feed
        seconds = whole(ctas / sms) * (start + block_time * blocks) + start + self.tail * block_time * longest
        return np.asarray(seconds * (1.0 + self.power_droop * seconds / (seconds + self.POWER_TIME)))


@dataclass(frozen=True)
class KVAppend:
    """Write of new keys and values to the cache: one CTA per token, or the bytes of wide ones.

    Attributes
    ----------
    per_token : float
        `PrefillAttention.kv_write` of a calibration [s].
    memory_efficiency : float
        Fraction of data-sheet DRAM bandwidth of the copy [1].

    >>> KVAppend(4e-9).per_token
    4e-09
    """

    per_token: float = 4.7e-9
    memory_efficiency: float = 0.79

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]."""
        moved = ops.traffic / (hardware.memory_bandwidth * self.memory_efficiency)
        return pnorm(moved, self.per_token * ops.m, PrefillAttention.WRITE_OVERLAP)


# --- how timings of it are read, fitted and judged ------------------------------------------------------------------

#: Shape columns of attention timings: queries and keys per sequence.
SHAPE = ("batch", "heads", "kv_heads", "head_dim", "q_len", "kv_len")
#: Prior of attention fits, around the kernels' defaults (about the geometric means of four GPUs): hundreds of rows
#: outweigh it, but parameters that only large batches tell stay sensible where these are left out.
PRIOR = 0.3
#: Fraction of its peak that a half-rate card reaches in attention at most: FlashAttention 2 runs at 165 TFLOP/s on an
#: RTX 4090, whose peak is 165 (22k tokens, figure of github.com/thu-ml/SpargeAttn, digitised).
HALF_RATE_EFFICIENCY = 0.95


def attention_ops(frame: pd.DataFrame, phase: str, causal_share: float) -> OpTrace:
    """Return the ops that rows of attention timings measured."""
    of = {name: frame[name].to_numpy(dtype=np.float64) for name in SHAPE}
    columns = {
        "gemms": 2.0,
        "m": of["q_len"],
        "n": of["kv_len"],
        "k": of["head_dim"],
        "batch": of["batch"] * of["heads"],
        "b_batch": of["batch"] * of["kv_heads"],
        "sequences": of["batch"],
        "mac_fraction": causal_share,
    }
    return rows_as_ops(frame, columns, kernel=f"attention_{phase}")


def _as_ops(frame: pd.DataFrame) -> OpTrace:
    return attention_ops(frame, "prefill", 0.5)


def _group_size(frame: pd.DataFrame, _: HardwareProfile) -> FloatArray:
    return np.asarray(frame["heads"].to_numpy() / frame["kv_heads"].to_numpy())


def _algorithm_and_memory(hardware: HardwareProfile) -> str:
    """FlashAttention version, and stacked memory or not: launch and L2 parameters follow the class of the card."""
    return f"{algorithm(hardware)} {traits.memory_class(hardware)}"


def _variant(hardware: HardwareProfile) -> dict[str, Any]:
    return {"algorithm": algorithm(hardware)}


def _carried(kernel: PrefillAttention, source: HardwareProfile, target: HardwareProfile) -> PrefillAttention:
    """Between tensor rates: half as fast, they no longer wait for softmax and loads, nor meet the power limit."""
    if traits.tensor_rate(source) == "full" and traits.tensor_rate(target) == "half":
        efficiency = min(2.0 * kernel.compute_efficiency, HALF_RATE_EFFICIENCY)
        least = parameters(kernel)["power_droop"].metadata["lower"]
        return replace(kernel, compute_efficiency=efficiency, power_droop=least)
    return kernel


def quantities(head: float) -> tuple[Quantity, ...]:
    """Return what the domain of an attention kernel is stated in; `head` is how fast its band widens with head size.

    Fits that end at 1024 or 4096 keys miss those of up to 131072 by 1.2 to 1.5 times their band, 0.2 a doubling; rows
    of head size 64 and 256 are missed by 4.2 and 3.2 times the band in prefill, 2.8 and 1.8 in decode.
    """
    return (
        Quantity("keys", keys, below=0.2, above=0.2),
        Quantity("sequences", sequences, above=0.2),
        Quantity("head size", head_size, below=head, above=head),
    )


#: What both attention kinds share: the algorithm follows from the GPU, parameters carry over within it, and rows are
#: grouped alike.
SHARED: dict[str, Any] = {
    "shape": SHAPE,
    "variant": _variant,
    "similarity": (traits.capability, _algorithm_and_memory, traits.memory_class),
    "regimes": (
        Regime.of_column("kv_len", 128, 1024, 4096),
        Regime.of_column("batch", 1, 8, 32),
        Regime("heads per KV head", _group_size, (1.0, 4.0)),
    ),
}

KIND = Kind(
    kernel=PrefillAttention,
    group=("heads", "kv_heads", "q_len"),
    axes=("batch", "heads", "q_len"),
    as_ops=_as_ops,
    scarce=("launch", "compute_efficiency", "memory_efficiency"),
    prior_sd=dict.fromkeys(parameters(PrefillAttention), PRIOR),
    carry=_carried,
    left_out=Spread(-0.31, 0.28, 0.8),
    quantities=quantities(head=3.0),
    **SHARED,
)
