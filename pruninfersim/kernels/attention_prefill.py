"""Prefill attention of FlashAttention 2 and 3: tiles on SMs, the longest causal tile, L2 residency, KV write."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pruninfersim._util.arrays import FloatArray
from pruninfersim.errors import InvalidInputError, MissingValueError, shown
from pruninfersim.hardware import HardwareProfile, traits
from pruninfersim.kernels.base import Cache, KernelModel, parameter, parameters, pnorm
from pruninfersim.kernels.evidence import Quantity, Spread, head_size, keys, sequences
from pruninfersim.kernels.kind import Kind, Regime, rows_as_ops
from pruninfersim.models.architectures.rows import causal_share
from pruninfersim.trace import OpTrace

if TYPE_CHECKING:
    import pandas as pd

#: Query rows of one CTA at head_dim 128. FlashAttention 2: the paged (split-KV) kernel that vLLM calls.
TILE_ROWS: dict[str, int] = {"fa2": 64, "fa3": 128, "fa3-8bit": 128, "trtllm": 128, "flashinfer": 128}
#: Query rows, and keys of one block of the inner loop, for heads up to 64, up to 128, and wider.
ROWS: dict[str, tuple[float, float, float]] = {name: (rows,) * 3 for name, rows in TILE_ROWS.items()}
ROWS["fa3"] = ROWS["fa3-8bit"] = (192, 128, 128)
ROWS["trtllm"] = ROWS["flashinfer"] = (128, 128, 64)
KEYS: dict[str, tuple[float, float, float]] = {
    "fa2": (256, 128, 64),
    "fa3": (128, 128, 80),
    "fa3-8bit": (160, 160, 64),
    "trtllm": (128, 128, 64),
    "flashinfer": (64, 64, 64),
}
#: Which pack the query heads of a KV group into the rows of a tile.
PACKED = ("fa3", "fa3-8bit", "flashinfer")
#: Which split the keys of a tile among CTAs where tiles are few, in prompts too.
SPLIT = ("flashinfer",)
#: Head sizes up to which each entry holds.
HEADS = (64.0, 128.0)
#: Keys of 128 heads that latencies of blocks are given for.
BLOCK = 128
#: Relative slack below which a size counts as a whole number of waves.
SLACK = 1e-9
#: CTA of the write of keys and values: threads, each for one element and more.
WRITERS = 512.0


def algorithm(hardware: HardwareProfile) -> str:
    """Return which kernels a GPU runs: ``"fa3"`` with warp-specialised tensor cores, ``"trtllm"``, else ``"fa2"``.

    Compute capability 9 runs FlashAttention 3 in vLLM, 10 the kernels of TensorRT-LLM (through FlashInfer). All others,
    sm_120 too, run FlashAttention 2.

    >>> from pruninfersim import hardware
    >>> [algorithm(hardware.get(name)) for name in ("h200-sxm", "b200-sxm", "rtx-5090")]
    ['fa3', 'trtllm', 'fa2']
    """
    return {"9": "fa3", "10": "trtllm"}.get(hardware.compute_capability.split(".")[0], "fa2")


def by_head(entries: tuple[float, float, float], head_dim: FloatArray) -> FloatArray:
    """Return the entry of each head size: up to 64, up to 128, wider.

    >>> by_head((256, 128, 64), np.array([64.0, 96.0, 256.0])).tolist()
    [256.0, 128.0, 64.0]
    """
    return np.asarray(entries, dtype=np.float64)[np.searchsorted(HEADS, head_dim, side="left")]


def threads(ops: OpTrace) -> FloatArray:
    """Return a token's keys (or values) over the threads that write them, shape (*sweep, op) [1]."""
    return np.asarray(ops.b_batch / ops.sequences * ops.k / WRITERS)


def windowed(ops: OpTrace) -> NDArray[np.bool_]:
    """Return which ops have a sliding window, shape (op,)."""
    return np.array([pattern == "window" for pattern in ops.pattern], dtype=bool)


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

    CTAs of 64 to 192 query rows walk the keys in blocks of 64 to 256, in waves of one CTA per SM. A causal tile sees
    half of the keys in the mean, and wastes half a block on its diagonal; the longest tile is exposed at the end. With
    a sliding window each tile walks the blocks from the first key of its first query to the last of its last, all of
    them about as many. Operands stream from DRAM behind that::

        blocks  = keys / block x done share + max(1, tile span) / 2     (per tile, at least one, at most all)
        tile    = tile_start + Q and O of the tile at the L2 feed of one SM + blocks x block_time
        longest = tile_start + Q and O likewise + tail x block_time x blocks of the longest tile
        compute = ceil(CTAs / SMs) x tile + longest, slowed by up to power_droop where the power limit shows
        T       = launch + pnorm_3(compute, (Q + K + V + O) / DRAM bandwidth)

    FlashAttention 2 (Dao 2023, arXiv 2307.08691) has 64 query rows per tile here (the paged path of vLLM), from one
    query head; FlashAttention 3 (Shah et al. 2024, arXiv 2407.08608) has 128, or 192 of narrow heads, and packs the
    query heads of a KV group into rows; the kernels of TensorRT-LLM for Blackwell have 128 of one head. Softmax keeps
    its rate whatever the head size, so that narrow heads run at a lower share of the tensor cores' peak. FlashInfer
    splits the keys of tiles that leave SMs idle, where that saves more than the launch of a second kernel. A benchmark
    that replays one layer finds small operands in L2 and writes the KV cache itself, by a kernel with one CTA of up to
    512 threads per token: both are part of ``cache="replayed"`` only.

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
    l2_feed: float = parameter(30.0, 2.0, 1000.0, "B", "bytes between L2 and the SMs per clock and SM")
    narrow_heads: float = parameter(0.75, 0.3, 2.0, "1", "rate with heads of 64 over that with heads of 128")
    wide_heads: float = parameter(1.1, 0.3, 2.0, "1", "rate with heads of 256 over that with heads of 128")
    algorithm: str = "fa2"
    quantised: bool = True

    #: FlashAttention 3 loads Q by the tensor memory accelerator only if the group divides its 128 rows; element-wise
    #: copies otherwise. Cost of the transfer of Q and O then; fixed, from groups of 5 and 10 on H100.
    ODD_GROUP: ClassVar[float] = 1.5
    #: Sharpness of the overlap with memory, of the KV write's two limits, and of the L2 switch; fixed.
    MEMORY_OVERLAP: ClassVar[float] = 3.0
    WRITE_OVERLAP: ClassVar[float] = 2.0
    SWITCH: ClassVar[float] = 8.0
    #: How the transfer of Q and O grows with the head size beyond 128, as an exponent; fixed, from three head sizes on
    #: five GPUs.
    FEED_GROWTH: ClassVar[float] = 0.5
    #: Tiles whose blocks are counted where there is a window; of more, evenly spaced ones. Prime, so that the samples
    #: of a prompt of 2^n tokens do not all lie alike in their blocks.
    SAMPLED: ClassVar[int] = 17
    #: Time constant after which the power limit shows [s]; fixed, between 5 and 20 ms the fits are alike.
    POWER_TIME: ClassVar[float] = 1e-2

    def __post_init__(self) -> None:
        check_algorithm(self.algorithm)

    def rate(self, head_dim: FloatArray) -> FloatArray:
        """Return the share of the tensor cores' peak inside a block by head size, between 64 and 256 in log steps [1].

        >>> PrefillAttention(compute_efficiency=0.6, narrow_heads=0.5).rate(np.array([64.0, 128.0])).tolist()
        [0.3, 0.6]
        """
        known = np.log([self.narrow_heads, 1.0, self.wide_heads])
        return np.asarray(self.compute_efficiency * np.exp(np.interp(np.log2(head_dim), (6.0, 7.0, 8.0), known)))

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
        seen, before = self.read(ops)
        compute = self.compute(seen, hardware)
        kv, qo = seen.b_traffic, seen.a_traffic + seen.out_traffic
        bandwidth = hardware.memory_bandwidth * self.memory_efficiency
        if cache == "cold":
            return np.asarray(
                self.launch + pnorm(compute, (qo + kv) / bandwidth, self.MEMORY_OVERLAP) + before / bandwidth
            )
        # The new keys and values count twice: as they come from the projections, and in the cache.
        new = kv * (1.0 + ops.a_bytes / ops.b_bytes)
        miss = l2_miss(qo + before + new, self.l2_share, hardware, self.SWITCH)
        per_byte = miss / bandwidth + (1.0 - miss) / (hardware.sm_count * hardware.clock * self.l2_feed)
        write = pnorm(new * per_byte, self.write(ops) * ops.sequences * ops.m, self.WRITE_OVERLAP)
        attention = pnorm(compute, miss * (qo + kv) / bandwidth, self.MEMORY_OVERLAP)
        return np.asarray(self.launch + attention + write + before * per_byte)

    def read(self, ops: OpTrace) -> tuple[OpTrace, FloatArray | float]:
        """Return the ops as the kernel reads them, and the bytes that others move to make them so."""
        return ops, 0.0

    def write(self, ops: OpTrace) -> FloatArray:
        """Return the time in which one token's keys and values are written, if bytes do not take longer [s]."""
        return self.kv_write * np.minimum(threads(ops), 1.0)

    def compute(self, ops: OpTrace, hardware: HardwareProfile) -> FloatArray:
        """Return the time in which the SMs work through all tiles, without memory, shape (*sweep, op) [s]."""
        packed = self.algorithm in PACKED
        whole = np.ceil if self.quantised else (lambda x: np.maximum(x, 1.0))
        group = ops.batch / ops.b_batch
        heads, rows = (ops.b_batch, ops.m * group) if packed else (ops.batch, ops.m)
        high, block = by_head(ROWS[self.algorithm], ops.k), by_head(KEYS[self.algorithm], ops.k)
        tiles = whole(rows / high)
        # Length of a tile in key blocks: packing G heads makes it span 128 / G queries.
        span = high / block / (group if packed else 1.0)
        all_blocks = whole(ops.n / block)
        # Queries that fill up the last tile see keys as well.
        seen = (ops.n / block + tiles * span - ops.m / block) * ops.mac_fraction + np.maximum(span, 1.0) / 2.0
        blocks = np.where(tiles > 1, np.clip(seen, 1.0, all_blocks), all_blocks)
        longest = np.minimum(2.0 * blocks, all_blocks)
        if windowed(ops).any():
            mean, most = self._in_window(ops, tiles, span * block, block)
            causal = 1.0 - ops.m / (2.0 * ops.n)
            cut = windowed(ops) & (ops.mac_fraction < causal * (1.0 - 1e-9))
            # Tiles that all run at once end with the longest: what it exceeds the mean by, half of it in causal tiles.
            last = np.where(heads * tiles <= hardware.sm_count, np.minimum(2.0 * (most - mean), most), most)
            blocks, longest = np.where(cut, mean, blocks), np.where(cut, last, longest)

        ctas = heads * tiles
        sms = float(hardware.sm_count)
        peak = np.array([hardware.peak_flops(dtype) for dtype in ops.dtype])
        block_time = 4.0 * high * block * ops.k / (peak * self.rate(ops.k) / sms)
        copies = np.where(BLOCK % group == 0, 1.0, self.ODD_GROUP) if packed else 1.0
        # Of a tile as full as the fullest: a few rows in a second one do not make the first one start sooner.
        full = np.minimum(rows, high) / (heads * rows)
        feed = copies * (ops.a_traffic + ops.out_traffic) * full / (hardware.clock * self.l2_feed)
        feed = feed * (ops.k / BLOCK) ** (self.FEED_GROWTH - 1.0)
        start = self.tile_start + feed
        seconds = whole(ctas / sms) * (start + block_time * blocks) + start + self.tail * block_time * longest
        if self.algorithm in SPLIT:
            # CTAs that leave SMs idle have their keys split, where that saves more than the second kernel costs.
            parts = np.clip(np.floor(sms / ctas) if self.quantised else sms / ctas, 1.0, np.maximum(blocks, longest))
            walk, end = (np.minimum(x, np.maximum(x / parts, 1.0)) for x in (blocks, longest))
            split = 2.0 * start + block_time * (walk + self.tail * end) + self.launch
            seconds = np.where(parts > 1.0, np.minimum(seconds, split), seconds)
        return np.asarray(seconds * (1.0 + self.power_droop * seconds / (seconds + self.POWER_TIME)))

    def _in_window(
        self, ops: OpTrace, tiles: FloatArray, span: FloatArray, block: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return the mean and the most key blocks of a tile that spans `span` queries, each shape (*sweep, op) [1]."""
        # The window that leaves so many products: a query sees the keys before it, at most so many.
        before, pairs = ops.n - ops.m, ops.mac_fraction * ops.m * ops.n
        ramp = ops.n - np.sqrt(np.maximum(ops.n**2 - 2.0 * pairs - before**2, 0.0))
        window = np.where(pairs <= before * ops.m, pairs / ops.m, ramp)[..., None]
        down, up = (np.floor, np.ceil) if self.quantised else (np.asarray, np.asarray)
        tile = down((np.arange(self.SAMPLED) + 0.5) / self.SAMPLED * tiles[..., None])
        first = before[..., None] + np.minimum(tile * span[..., None], ops.m[..., None] - 1.0)
        last = np.minimum(first + np.maximum(span[..., None], 1.0), ops.n[..., None])
        start = down(np.maximum(first - window + 1.0, 0.0) / block[..., None])
        visited = np.maximum(up(last / block[..., None]) - start, 1.0)
        return visited.mean(axis=-1), visited.max(axis=-1)


# --- how timings of it are read, fitted and judged ------------------------------------------------------------------

#: Shape columns of attention timings: queries and keys per sequence.
SHAPE = ("batch", "heads", "kv_heads", "head_dim", "q_len", "kv_len")
#: Prior of attention fits, around the kernels' defaults (about the geometric means of four GPUs): hundreds of rows
#: outweigh it, but parameters that only large batches tell stay sensible where these are left out.
PRIOR = 0.3
#: Rate of attention of capability 10.3 (B300) over that of 10.0 (B200): its exponentials are twice as fast, and softmax
#: is what B200 waits for. From aiconfigurator-core 0.12.0, B300 and GB300 beside B200.
ULTRA = 1.2
#: Fraction of its peak that a half-rate card reaches in attention at most: FlashAttention 2 runs at 165 TFLOP/s on an
#: RTX 4090, whose peak is 165 (22k tokens, figure of github.com/thu-ml/SpargeAttn, digitised).
HALF_RATE_EFFICIENCY = 0.95


def attention_ops(frame: pd.DataFrame, phase: str) -> OpTrace:
    """Return the ops that rows of attention timings measured; dtype fp8 is that of the cache."""
    of = {name: frame[name].to_numpy(dtype=np.float64) for name in SHAPE}
    query, context = of["q_len"], np.maximum(of["kv_len"], of["q_len"])
    window = np.full(len(frame), np.inf)
    if "window" in frame:
        window = np.where(frame["window"] > 0, frame["window"], np.inf)
    keys_seen = np.minimum(of["kv_len"], query + window - 1.0)
    share = np.ones(len(frame))
    if phase == "prefill":
        share = causal_share(query, context, np.minimum(context, query + window - 1.0), window)
    narrow = frame["dtype"].to_numpy() == "fp8"
    columns = {
        "gemms": 2.0,
        "m": query,
        "n": keys_seen,
        "k": of["head_dim"],
        "batch": of["batch"] * of["heads"],
        "b_batch": of["batch"] * of["kv_heads"],
        "sequences": of["batch"],
        "mac_fraction": share,
        "grain": np.where(np.isfinite(window), window, 1.0),
        "a_bytes": 2.0,
        "b_bytes": np.where(narrow, 1.0, 2.0),
        "out_bytes": 2.0,
    }
    ops = rows_as_ops(frame, columns, kernel=f"attention_{phase}")
    return ops.with_columns(
        dtype=tuple("bf16" if is_narrow else own for is_narrow, own in zip(narrow, ops.dtype, strict=True)),
        pattern=tuple("window" if np.isfinite(seen) else "" for seen in window),
    )


def _as_ops(frame: pd.DataFrame) -> OpTrace:
    return attention_ops(frame, "prefill")


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
    capabilities = (source.compute_capability, target.compute_capability)
    if capabilities == ("10.0", "10.3"):
        return replace(kernel, compute_efficiency=ULTRA * kernel.compute_efficiency)
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
    "optional": ("window",),
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
