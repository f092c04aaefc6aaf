"""Dense GEMM of a vendor library (cuBLAS): best tile and split-K, whole waves, four limits that overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim._util.arrays import FloatArray, checked
from pruninfersim.errors import MissingValueError
from pruninfersim.hardware import HardwareProfile, traits
from pruninfersim.kernels import alignment
from pruninfersim.kernels.base import Cache, parameter, parameters, two_of_four
from pruninfersim.kernels.candidates import soft_fastest, to_power
from pruninfersim.kernels.evidence import Quantity, Spread, narrow_side, tokens, weight_elements
from pruninfersim.kernels.kind import Kind, Regime, rows_as_ops
from pruninfersim.kernels.replay import COLLECTORS, PROTOCOLS, Footprint
from pruninfersim.trace import OpTrace

if TYPE_CHECKING:
    import pandas as pd


def elements(size: FloatArray) -> FloatArray:
    """Return how many elements take the place of one of 16 bit: 1, 2 or 4; scales that come with them do not count.

    >>> elements(np.array([2.0, 1.03125, 0.5625])).tolist()
    [1.0, 2.0, 4.0]
    """
    return np.asarray(np.exp2(np.round(np.log2(2.0 / size))))


@dataclass(frozen=True)
class Gemm:
    """Time of ``x[m, k] @ W[n, k].T`` under a CUDA graph.

    For every candidate kernel (a CTA tile and a number of split-K parts) four limits overlap, as a p-norm: tensor
    cores in whole waves of tiles, DRAM, the operand feed from L2, and the latency of one CTA's serial k-loop.
    Split-K adds a second kernel and fp32 partial sums, which pass through L2. What L2 gives goes with the SMs and their
    clock, not with the DRAM behind it. Rows that are not aligned cost tensor-core rate, see `alignment`. Each candidate
    is off by a few percent, and the library picks the one that is best: a smooth minimum, in which nothing that gets
    faster makes the GEMM slower. One token may also go through a matrix-vector kernel, which has no tiles and no serial
    k-loop.

    Narrow operands take the same set of parameters: their bytes and their peak differ, a k step is 128 bytes of them,
    and the prologue and epilogue of a tile, which take the same time, are more of their k elements. Without any fp8
    timing that meets timed fp8 GEMMs by 4 to 10 % (validation/accuracy_quantised.py). The activations arrive as narrow
    as they are read; to quantise them is another kernel, see `pruninfersim.kernels.quantise`.

    >>> from pruninfersim.kernels.base import parameters
    >>> len(parameters(Gemm))
    12
    """

    launch: float = parameter(2.5e-6, 5e-7, 1e-5, "s", "launch and drain of the kernel inside a CUDA graph")
    compute_efficiency: float = parameter(0.8, 0.3, 1.2, "1", "fraction of tensor-core peak of a long main loop")
    memory_efficiency: float = parameter(0.85, 0.4, 1.0, "1", "fraction of data-sheet DRAM bandwidth")
    overlap: float = parameter(4.0, 1.2, 12.0, "1", "exponent of the p-norm over the four limits")
    tile_overhead: float = parameter(100.0, 1.0, 1500.0, "1", "prologue and epilogue of a tile, in 16-bit k elements")
    l2_feed: float = parameter(64.0, 2.0, 1000.0, "B", "operand bytes from L2 per clock and SM")
    l2_reach: float = parameter(1.0, 0.2, 1.5, "1", "share of L2 that survives between replays of a benchmark")
    split_cost: float = parameter(1.5e-6, 1e-8, 6e-6, "s", "second kernel and synchronisation of split-K")
    split_bandwidth: float = parameter(25.0, 0.5, 400.0, "B", "bytes of split-K partial sums per clock and SM")
    k_step: float = parameter(1e-7, 1e-9, 1e-6, "s", "latency of a k step of 128 bytes of one CTA")
    power_droop: float = parameter(0.15, 1e-3, 2.0, "1", "slow-down of a sustained kernel by the power limit")
    vector_latency: float = parameter(1e-6, 1e-8, 5e-6, "s", "latency of a matrix-vector kernel beside its DRAM time")
    #: Whole tiles and waves, and rows that are not aligned; False for the same kernel without these losses.
    quantised: bool = True
    #: Whether the library splits k over CTAs and has matrix-vector kernels, as cuBLAS alone does.
    split_k: bool = True
    #: Replay protocol of a benchmark, a key of `PROTOCOLS`, where none is said; "" is the mean over `COLLECTORS`.
    protocol: str = ""

    #: CTA tiles (rows along m, columns along n) that cuBLAS is known to use.
    TILES: ClassVar[tuple[tuple[int, int], ...]] = (
        (16, 64), (16, 128), (32, 64), (32, 128), (64, 64), (64, 128), (128, 64), (128, 128), (64, 256), (256, 64),
        (128, 256), (256, 128),
    )  # fmt: skip
    #: Split-K parts that cuBLAS is known to try.
    SPLITS: ClassVar[tuple[int, ...]] = (1, 2, 3, 4, 6, 8, 16)
    #: 16-bit elements along k of one main-loop step, 128 B.
    K_STEP: ClassVar[int] = 64
    #: Sharpness of the choice among candidates, each off by 1/50; fixed.
    SELECTION: ClassVar[int] = 50
    #: Time constant after which the power limit shows in a benchmark [s]; fixed, of the order of a driver's control
    #: interval.
    POWER_TIME: ClassVar[float] = 1e-3
    #: GEMMs of a low-rank pair. One follows the other, and the power limit meets them together: each counts for both.
    #: Were it to start anew with each half, two thin GEMMs would beat the one that they replace.
    PAIR: ClassVar[float] = 2.0
    #: Exponent of the L2 hit curve (cyclic reads of slightly more than L2 all miss, so it is sharp), and bandwidth of
    #: a hit over DRAM bandwidth; fixed.
    HIT_SHARPNESS: ClassVar[float] = 40.0
    HIT_BANDWIDTH: ClassVar[float] = 2.5
    #: Footprint over L2 beyond which nothing hits anyway; keeps the power finite.
    FULL: ClassVar[float] = 1e3
    #: Time of a candidate that cannot run a shape [s]: finite, so that its weight is zero and not undefined.
    NEVER: ClassVar[float] = 1e30
    #: Shapes priced at a time: temporaries stay in the CPU cache.
    CHUNK: ClassVar[int] = 2048

    def seconds(
        self,
        m: ArrayLike,
        n: ArrayLike,
        k: ArrayLike,
        hardware: HardwareProfile,
        *,
        dtype: str = "bf16",
        a_bytes: float = 2.0,
        b_bytes: float = 2.0,
        out_bytes: float = 2.0,
        cache: Cache = "cold",
        footprint: Footprint | None = None,
    ) -> FloatArray:
        """Return the time of GEMMs of any shapes that broadcast.

        Parameters
        ----------
        m, n, k : array_like
            Tokens, output features, input features; positive, fractions are fine.
        hardware : HardwareProfile
        dtype : str
            Compute dtype, a key of ``hardware.peak``.
        a_bytes, b_bytes, out_bytes : float
            Bytes per element of activations, weights and result [B].
        cache : {"cold", "replayed"}
            Whether the operands stream from HBM, as in a model step, or are partly left in L2 by a benchmark.
        footprint : callable, optional
            Replay protocol of the benchmark; default is the geometric mean over the known ones. Ignored if cold.

        Returns
        -------
        ndarray, shape of m, n and k broadcast [s]

        Raises
        ------
        InvalidInputError
            If a size is not positive.
        MissingValueError
            If the profile lacks the peak, or, for ``"replayed"``, the size of L2.
        """
        arrays = np.broadcast_arrays(*(checked(name, x, minimum=1e-9) for name, x in (("m", m), ("n", n), ("k", k))))
        columns = dict(zip(("m", "n", "k"), arrays, strict=True))
        row = {**columns, "kernel": "gemm", "gemms": 1.0, "dtype": dtype}
        ops = OpTrace.from_rows([{**row, "a_bytes": a_bytes, "b_bytes": b_bytes, "out_bytes": out_bytes}])
        return np.asarray(self.latency(ops, hardware, cache=cache, footprint=footprint)[..., 0])

    def latency(
        self,
        ops: OpTrace,
        hardware: HardwareProfile,
        *,
        cache: Cache = "cold",
        footprint: Footprint | None = None,
    ) -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s].

        Raises
        ------
        MissingValueError
            If the profile lacks a peak, or, for ``"replayed"``, the size of L2.
        """
        if cache == "cold":
            return np.asarray(self._price(ops, hardware, [None])[0])
        known = [PROTOCOLS[name] for name in ((self.protocol,) if self.protocol else COLLECTORS)]
        seconds = self.by_protocol(ops, hardware, cache, [footprint] if footprint else known)
        return seconds[0] if len(seconds) == 1 else np.asarray(np.exp(np.mean(np.log(seconds), axis=0)))

    def without_quantisation(self) -> Gemm:
        """Return the same kernel with fractions of tiles and waves, whatever the alignment of its rows."""
        return replace(self, quantised=False)

    def by_protocol(
        self, ops: OpTrace, hardware: HardwareProfile, cache: Cache, footprints: Sequence[Footprint]
    ) -> FloatArray:
        """Return the time of each op under several replay protocols, shape (protocol, *sweep, op) [s].

        Raises
        ------
        MissingValueError
            If the profile lacks a peak, or, for ``"replayed"``, the size of L2.
        """
        if cache == "cold":
            return np.repeat(self.latency(ops, hardware)[None], len(footprints), axis=0)
        if hardware.l2_size is None:
            raise MissingValueError(f"{hardware.name} has no L2 size, which cache='replayed' needs; use cache='cold'.")
        return self._price(ops, hardware, footprints)

    def _price(self, ops: OpTrace, hardware: HardwareProfile, footprints: Sequence[Footprint | None]) -> FloatArray:
        """Price ops chunk by chunk, shape (footprint, *sweep, op) [s]."""
        pairs = ["rank" in axes for axes in zip(ops.n_axis, ops.k_axis, strict=True)]
        power_time = np.where(pairs, self.POWER_TIME / self.PAIR, self.POWER_TIME)
        sides = zip(ops.dtype, two_of_four(ops).tolist(), strict=True)
        rate = (
            np.array([hardware.peak_flops(dtype, sparse=sparse) for dtype, sparse in sides]) * self.compute_efficiency
        )
        if self.quantised:
            ops = alignment.padded(ops)
            rate = rate * alignment.share(ops, rate, hardware)
        columns = [
            ops.m, ops.n, ops.k, ops.batch, rate / hardware.sm_count, ops.a_bytes, ops.b_bytes,
            ops.a_traffic, ops.b_traffic, ops.out_traffic, power_time,
        ]  # fmt: skip
        shape = np.broadcast_shapes(*(column.shape for column in columns))
        # What is the same for all shapes stays one number.
        flat = [(c if c.size == 1 or c.shape == shape else np.broadcast_to(c, shape)).reshape(-1) for c in columns]
        out = np.empty((len(footprints), int(np.prod(shape))))
        pieces = -(-out.shape[1] // self.CHUNK)
        size = -(-out.shape[1] // max(pieces, 1))
        # Room for the candidates of a chunk, used by one after the other: fresh memory costs more than the arithmetic.
        room = np.empty((3, len(self._splits) * len(self.TILES) + 1, size))
        for start in range(0, out.shape[1], max(size, 1)):
            part = slice(start, start + size)
            chunk = [column if column.size == 1 else column[part] for column in flat]
            self._chunk(chunk, hardware, footprints, room[..., : out[:, part].shape[1]], out[:, part])
        return out.reshape(len(footprints), *shape)

    def _chunk(
        self,
        columns: list[FloatArray],
        hardware: HardwareProfile,
        footprints: Sequence[Footprint | None],
        room: FloatArray,
        result: FloatArray,
    ) -> None:
        """Price a chunk of shapes into `result`, shape (footprint, shape) [s].

        Candidates are the first axes, (split, tile, shape): few numpy calls, whether there is one shape or many. All
        is done in place, and powers as exp(p ln x): most of the time of a sweep goes into arrays of all candidates.
        """
        m, n, k, batch, rate, a_bytes, b_bytes, a, w, out, power_time = columns
        sms, p = hardware.sm_count, self.overlap
        bm, bn = (np.array(side, dtype=np.float64)[:, None] for side in zip(*self.TILES, strict=True))
        splits = np.array(self._splits, dtype=np.float64)[:, None]
        narrow = elements(a_bytes)
        step = self.K_STEP * narrow
        # What depends on the tile only, (tile, shape), and on the split only, (split, shape).
        rows, cols = self._whole(m / bm), self._whole(n / bn)
        cores = sms * hardware.clock
        feed = cores * self.l2_feed
        feed_p = np.asarray(cols * (batch * m * k * a_bytes / feed) + rows * (batch * n * k * b_bytes / feed))
        to_power(feed_p, p)
        part = np.where(splits > 1, step * np.ceil(k / (step * splits)), k)
        loop_p = part * (self.k_step / step)
        to_power(loop_p, p)
        work = (part + self.tile_overhead * narrow) * (2.0 / rate)
        partials = 8.0 / (cores * self.split_bandwidth) * splits * (batch * m * n)
        extra = np.where(splits > 1, self.split_cost + partials, 0.0)

        shape = (len(splits), len(self.TILES), room.shape[-1])
        tensor, scratch = (area[:-1].reshape(shape) for area in room[:2])
        np.multiply(batch * rows * cols, (splits / sms)[:, None], out=tensor)
        self._whole(tensor, out=tensor)
        tensor *= bm * bn
        tensor *= work[:, None]
        # 1 + droop x / (x + T), as (1 + droop) - droop T / (x + T)
        np.add(tensor, power_time, out=scratch)
        np.divide(self.power_droop * power_time, scratch, out=scratch)
        np.subtract(1.0 + self.power_droop, scratch, out=scratch)
        tensor *= scratch
        to_power(tensor, p)
        tensor += feed_p
        single = m <= 1.0
        times = room[2] if self.split_k and single.any() else room[2, :-1]
        each = room[2, :-1].reshape(shape)
        for footprint, seconds in zip(footprints, result, strict=True):
            time = self._dram(a, w, out, hardware, footprint)
            np.add(tensor, (loop_p + time**p)[:, None], out=each)
            to_power(each, 1.0 / p)
            each += extra[:, None]
            if len(times) > shape[0] * shape[1]:
                times[-1] = np.where(single, time + self.vector_latency, self.NEVER)
            seconds[:] = soft_fastest(times, self.SELECTION, shape[0] * shape[1], room[1, : len(times)])
        result += self.launch

    @property
    def _splits(self) -> tuple[int, ...]:
        return self.SPLITS if self.split_k else (1,)

    def _whole(self, count: FloatArray, out: FloatArray | None = None) -> FloatArray:
        """Return tiles or waves as they run: whole ones, or without quantisation fractions, but one at least."""
        return np.ceil(count, out=out) if self.quantised else np.maximum(count, 1.0, out=out)

    def _dram(
        self, a: FloatArray, w: FloatArray, out: FloatArray, hardware: HardwareProfile, footprint: Footprint | None
    ) -> FloatArray:
        """Time of the DRAM traffic, with the part of A and W that a benchmark left in L2 [s]."""
        bandwidth = hardware.memory_bandwidth
        if footprint is None or hardware.l2_size is None:
            return (a + w + out) / (bandwidth * self.memory_efficiency)
        fill = footprint(a, w, hardware.l2_size) / (self.l2_reach * hardware.l2_size)
        hit = 1.0 / (1.0 + np.minimum(fill, self.FULL) ** self.HIT_SHARPNESS)
        miss = ((a + w) * (1.0 - hit) + out) / (bandwidth * self.memory_efficiency)
        return np.asarray(miss + (a + w) * hit / (bandwidth * self.HIT_BANDWIDTH))


# --- how timings of it are read, fitted and judged ------------------------------------------------------------------


def _as_ops(frame: pd.DataFrame) -> OpTrace:
    columns = {axis: frame[axis].to_numpy() for axis in ("m", "n", "k")}
    return rows_as_ops(frame, {**columns, "gemms": 1.0}, kernel="gemm")


def rows_by_backend(kernel: Gemm, frame: pd.DataFrame, hardware: HardwareProfile, cache: Cache) -> FloatArray:
    """Price each row under the replay protocol of its backend, where that is known."""
    protocol = frame["backend"].str.split().str[0].to_numpy() if "backend" in frame else np.full(len(frame), "")
    shapes = frame.groupby(["dtype", "m", "n", "k"], sort=False)
    distinct = _as_ops(frame.loc[shapes.head(1).index])
    of_shape = shapes.ngroup().to_numpy()
    out = np.empty(len(frame))
    known = [name for name in PROTOCOLS if (protocol == name).any()]
    if known:  # the protocols share all but the DRAM time, so they are priced together
        footprints = [PROTOCOLS[name] for name in known]
        for name, seconds in zip(known, kernel.by_protocol(distinct, hardware, cache, footprints), strict=True):
            rows = protocol == name
            out[rows] = seconds[of_shape[rows]]
    rest = ~np.isin(protocol, known)
    if rest.any():
        out[rest] = kernel.latency(distinct, hardware, cache=cache)[of_shape[rest]]
    return out


def _settled(kernel: Gemm, frame: pd.DataFrame) -> Gemm:
    """Return the kernel with the replay protocol of the rows, where they have one and it is known."""
    words = set(frame["backend"].str.split().str[0]) if "backend" in frame else set()
    return replace(kernel, protocol=words.pop() if len(words) == 1 and words <= set(PROTOCOLS) else "")


def _carried(kernel: Gemm, source: HardwareProfile, target: HardwareProfile) -> Gemm:
    """Return the kernel for a card with more or less power per FLOP of 16-bit peak: the sustained clock follows it.

    Dynamic power goes with clock x voltage^2 and voltage with clock, so that a power limit holds the clock to its cube
    root (the law of dynamic voltage and frequency scaling). With it, GPUs that are left out of the fits are met better,
    six of seven (validation/fit_gemm.py). Nothing is known between vendors, whose chips take other energy per FLOP.
    """
    spent, given = traits.power_budget(source), traits.power_budget(target)
    if spent is None or given is None or source.vendor != target.vendor:
        return kernel
    droop = (1.0 + kernel.power_droop) * (spent / given) ** (1.0 / 3.0) - 1.0
    bounds = parameters(kernel)["power_droop"].metadata
    return replace(kernel, power_droop=float(np.clip(droop, bounds["lower"], bounds["upper"])))


def _weights(frame: pd.DataFrame, _: HardwareProfile) -> FloatArray:
    return np.asarray(frame["n"].to_numpy() * frame["k"].to_numpy() * 1e-6)


def _waves(frame: pd.DataFrame, gpu: HardwareProfile) -> FloatArray:
    """Count waves of the tile that large GEMMs run on, 128 x 128."""
    return np.asarray(np.ceil(frame["m"] / 128) * np.ceil(frame["n"] / 128) / gpu.sm_count)


#: By what timings of GEMMs are grouped.
REGIMES = (
    Regime.of_column("m", 1, 16, 128, 1024),
    Regime("n*k [1e6]", _weights, (4.0, 16.0, 64.0)),
    Regime("waves of 128x128 tiles", _waves, (0.5, 1.0, 4.0, 16.0)),
)

KIND = Kind(
    kernel=Gemm,
    shape=("m", "n", "k"),
    group=("n", "k"),
    axes=("m", "n", "k"),
    as_ops=_as_ops,
    scarce=("launch", "compute_efficiency", "memory_efficiency"),
    predict=rows_by_backend,
    one_set=True,
    settled=_settled,
    left_out=Spread(-0.25, 0.42, 0.65),
    quantities=(
        # Rows of up to 32768 tokens and up to 65536 outputs or inputs, LM heads among them, lie inside the band of fits
        # that end at 8192 and 16384; thin ones do not, the less the thinner (aiconfigurator-core 0.12.0, six GPUs).
        Quantity("tokens", tokens, above=0.1, reach=4.0),
        Quantity("weights", weight_elements, above=0.3, reach=16.0),
        Quantity("outputs or inputs", narrow_side, below=0.5),
        # Not a range that fits have: all timed rows are aligned. An assumption, since the rule for other rows meets the
        # sweeps that it is from by 5 % and single timings of another source by 10 to 50 %.
        Quantity("alignment of rows", alignment.row_bytes, "B", below=0.5, hint=alignment.advice),
    ),
    regimes=REGIMES,
    carry=_carried,
)
