"""2:4 sparse GEMM of a vendor library (cuSPARSELt) and its dense twin: what the sparsity gains, as a ratio."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from pruninfersim._util.arrays import FloatArray
from pruninfersim.errors import MissingValueError
from pruninfersim.hardware import HardwareProfile, precision, traits
from pruninfersim.kernels.base import Cache, KernelModel, ceilings, parameter, smooth
from pruninfersim.kernels.candidates import mean_of_fastest, to_power
from pruninfersim.kernels.evidence import Quantity, Spread, tokens, weight_elements
from pruninfersim.kernels.gemm import REGIMES
from pruninfersim.kernels.kind import Kind, rows_as_ops
from pruninfersim.trace import OpTrace

if TYPE_CHECKING:
    import pandas as pd

#: Bytes of 2:4 metadata per dense weight element: a 2-bit index for each of the two kept values of four.
METADATA = 0.125
#: Relative slack below which a size counts as a whole number of tiles.
SLACK = 1e-9


def two_of_four(ops: OpTrace) -> NDArray[np.bool_]:
    """Return which ops have 2:4 weights, shape (op,)."""
    return np.array([pattern == "2:4" for pattern in ops.pattern], dtype=bool)


def dense_twin(ops: OpTrace) -> OpTrace:
    """Return 2:4 ops as the dense GEMMs that they replace: all MACs, all weight bytes.

    >>> row = {"kernel": "gemm_2of4", "pattern": "2:4", "gemms": 1, "mac_fraction": 0.5, "b_bytes": 1.125}
    >>> twin = dense_twin(OpTrace.from_rows([row]))
    >>> twin.kernel, float(twin.b_bytes[0]), float(twin.mac_fraction[0])
    (('gemm',), 2.0, 1.0)
    """
    sparse = two_of_four(ops)
    return ops.with_columns(
        kernel=tuple("gemm" if is_sparse else key for is_sparse, key in zip(sparse, ops.kernel, strict=True)),
        pattern=("",) * len(ops),
        b_bytes=np.where(sparse, 2.0 * (ops.b_bytes - METADATA), ops.b_bytes),
        mac_fraction=np.where(sparse, 2.0 * ops.mac_fraction, ops.mac_fraction),
    )


@dataclass(frozen=True)
class SparseGemm24:
    """Time of a 2:4 GEMM and of its dense twin, as the same benchmark measures both.

    For every candidate (tile, split-K) tensor cores in whole waves, the latency of one CTA's k-loop, and memory
    overlap as p-norms; the result is the mean over candidates with weights ``(t / t_best)**-25``. Both sides share the
    memory system; what they do not share has a ``dense_`` and a ``sparse_`` parameter.

    The 16-bit kernels for sm80 to sm89 and sm12x walk along n first: where the compressed weight exceeds L2, each row
    of m tiles reads it again, unless several rows share a wave. That makes wide layers slower than dense on a GPU with
    a small L2 and little bandwidth.

    An op of pattern 2:4 is priced as such, any other as the dense twin. Times of the two sides
    are to be compared with each other, not with those of another model; see `Vendor24`.

    >>> from pruninfersim.kernels.base import parameters
    >>> len(parameters(SparseGemm24))
    10
    """

    dense_launch: float = parameter(5.0e-6, 1e-6, 2e-5, "s", "launch, start-up and drain of the dense kernel")
    sparse_launch: float = parameter(5.5e-6, 1e-6, 2e-5, "s", "launch, start-up and drain of the sparse kernel")
    dense_efficiency: float = parameter(0.88, 0.3, 3.0, "1", "fraction of dense peak of an endless tile")
    sparse_efficiency: float = parameter(0.88, 0.3, 3.0, "1", "fraction of 2:4 peak of an endless tile")
    dense_edge: float = parameter(7.0, 0.5, 200.0, "1", "operand feed of dense tiles, as elements added to each edge")
    sparse_edge: float = parameter(18.0, 0.5, 200.0, "1", "operand feed of 2:4 tiles, as elements added to each edge")
    dense_step: float = parameter(1.5e-7, 1e-9, 2e-6, "s", "latency of a 64-deep k step of one dense CTA")
    sparse_step: float = parameter(1.7e-7, 1e-9, 2e-6, "s", "latency of a 64-deep k step (of dense k) of one 2:4 CTA")
    memory_efficiency: float = parameter(0.8, 0.4, 1.3, "1", "fraction of data-sheet DRAM bandwidth")
    l2_bandwidth: float = parameter(3.0, 0.8, 40.0, "1", "L2 bandwidth over DRAM bandwidth")
    quantised: bool = True

    #: CTA tiles (along m, along n) and split-K parts that both libraries are known to use.
    TILES: ClassVar[tuple[tuple[int, int], ...]] = (
        (64, 64), (64, 128), (128, 64), (128, 128), (128, 256), (256, 128),
    )  # fmt: skip
    SPLITS: ClassVar[tuple[int, ...]] = (1, 2, 4, 8)
    #: Elements along k of one main-loop step.
    K_STEP: ClassVar[int] = 64
    #: Prologue and epilogue of a dense and of a 2:4 tile, in k elements; the same on all four timed GPUs.
    TILE_OVERHEAD: ClassVar[tuple[float, float]] = (60.0, 220.0)
    #: Second kernel and synchronisation of split-K [s]; 3.1 to 3.9e-6 on the four timed GPUs.
    SPLIT_COST: ClassVar[float] = 3.3e-6
    #: Exponents: overlap of compute and memory, overlap of tensor work and k-loop latency, L2 miss curve, selection.
    OVERLAP: ClassVar[float] = 3.0
    STEP_OVERLAP: ClassVar[float] = 4.0
    MISS_SHARPNESS: ClassVar[float] = 4.0
    SELECTION: ClassVar[int] = 25
    #: Rows of the m tile after which an unswizzled kernel starts over with the weights.
    REREAD_TILE: ClassVar[float] = 128.0
    #: First part of the compute capabilities whose 16-bit 2:4 kernels are of the sm80 kind (``mma.sp``).
    SM80_KIND: ClassVar[tuple[str, ...]] = ("8", "12")
    #: Shapes priced at a time: temporaries stay in the CPU cache.
    CHUNK: ClassVar[int] = 1024

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s].

        Raises
        ------
        MissingValueError
            If the profile lacks a dense or 2:4 peak, or the size of L2 where it matters.
        """
        return self._seconds(ops, hardware, cache)

    def dense_latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of the dense twin of each op, shape (*sweep, op) [s]; errors as `latency`."""
        return self.latency(dense_twin(ops), hardware, cache=cache)

    def ratio(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return time of the dense twin over time of the 2:4 GEMM, shape (*sweep, op) [1]; errors as `latency`.

        In ``"cold"`` both twins stream their operands from HBM.
        """
        return self._seconds(dense_twin(ops), hardware, cache) / self._seconds(ops, hardware, cache)

    def without_quantisation(self) -> SparseGemm24:
        """Return the same kernel with fractions of tiles and waves."""
        return replace(self, quantised=False)

    def _seconds(self, ops: OpTrace, hardware: HardwareProfile, cache: Cache) -> FloatArray:
        """Price all ops, each as its pattern says."""
        sparse = two_of_four(ops)
        out = np.empty(ops.shape)
        for side in (False, True):
            which = np.flatnonzero(sparse == side)
            if which.size:
                out[..., which] = self._side(ops.select(which), hardware, cache, side)
        return out

    def _side(self, ops: OpTrace, hardware: HardwareProfile, cache: Cache, sparse: bool) -> FloatArray:
        """Price ops of one side."""
        peak = np.array([hardware.peak_flops(dtype, sparse=sparse) for dtype in ops.dtype])
        wide = np.broadcast_arrays(
            ops.m, ops.n, ops.k, ops.batch, peak, ops.b_bytes, ops.traffic, ops.b_traffic, np.ones(ops.shape)
        )
        columns = [np.ascontiguousarray(column, dtype=np.float64).ravel() for column in wide[:-1]]
        out = np.empty(columns[0].size)
        for start in range(0, out.size, self.CHUNK):
            part = slice(start, start + self.CHUNK)
            out[part] = self._chunk([column[part] for column in columns], hardware, cache, sparse)
        return out.reshape(wide[-1].shape)

    def _chunk(self, columns: list[FloatArray], hardware: HardwareProfile, cache: Cache, sparse: bool) -> FloatArray:
        """Price a chunk of shapes of one side [s]."""
        m, n, k, batch, peak, b_bytes, traffic, weights = columns
        launch, efficiency, edge, step = (
            (self.sparse_launch, self.sparse_efficiency, self.sparse_edge, self.sparse_step)
            if sparse
            else (self.dense_launch, self.dense_efficiency, self.dense_edge, self.dense_step)
        )
        sms, bandwidth = hardware.sm_count, hardware.memory_bandwidth
        memory = self._memory(m, n, b_bytes, traffic, weights, hardware, cache, sparse)
        # Candidates are the first axes, (split, tile, shape), all in place: few numpy calls, and no fresh memory.
        bm, bn = (np.array(side, dtype=np.float64)[:, None] for side in zip(*self.TILES, strict=True))
        splits = np.array(self.SPLITS, dtype=np.float64)[:, None]
        part = np.where(splits > 1, self.K_STEP * self._whole(k / (self.K_STEP * splits)), k)
        loop = (part * (step / self.K_STEP)) ** self.STEP_OVERLAP
        depth = 2.0 * (part + self.TILE_OVERHEAD[sparse]) * sms / (peak * efficiency)
        partials = 8.0 * splits * batch * m * n / (bandwidth * self.l2_bandwidth)
        extra = np.where(splits > 1, self.SPLIT_COST + partials, 0.0)
        area = (bm + edge) * (bn + edge) - edge * edge
        tiles = batch * self._whole(m / bm) * self._whole(n / bn)
        times = self._whole(tiles * splits[:, None] / sms)
        times *= area * depth[:, None]
        to_power(times, self.STEP_OVERLAP)
        times += loop[:, None]
        to_power(times, self.OVERLAP / self.STEP_OVERLAP)
        times += memory
        to_power(times, 1.0 / self.OVERLAP)
        times += extra[:, None]
        return launch + mean_of_fastest(times.reshape(-1, m.size), self.SELECTION)

    def _memory(
        self,
        m: FloatArray,
        n: FloatArray,
        b_bytes: FloatArray,
        traffic: FloatArray,
        weights: FloatArray,
        hardware: HardwareProfile,
        cache: Cache,
        sparse: bool,
    ) -> FloatArray:
        """Time of DRAM and L2 traffic to the power OVERLAP; an unswizzled kernel adds the repeated reads."""
        bandwidth, l2 = hardware.memory_bandwidth, hardware.l2_size
        slow = bandwidth * self.memory_efficiency
        family = hardware.compute_capability.split(".")[0]
        unswizzled = sparse and family in self.SM80_KIND
        if l2 is None and (cache == "replayed" or unswizzled):
            raise MissingValueError(
                f"{hardware.name} has no L2 size, which the 2:4 kernel model needs; add it to the profile."
            )
        seconds = traffic / slow
        if cache == "replayed" and l2 is not None:
            miss = self._miss(traffic, l2)
            seconds = traffic * (miss / slow + (1.0 - miss) / (bandwidth * self.l2_bandwidth))
        if unswizzled and l2 is not None:
            rows = self._whole(m / self.REREAD_TILE)
            together = np.maximum(1.0, hardware.sm_count / self._whole(n / self.REREAD_TILE))
            passes = np.maximum(0.0, rows / together - 1.0)
            again = weights * passes * self._miss(weights, l2) / slow
            # 8-bit kernels do not show it: b_bytes is that of the compressed weight.
            seconds = seconds + np.where(b_bytes > 1.0, again, 0.0)
        return np.asarray(seconds**self.OVERLAP)

    def _miss(self, size: FloatArray, l2: float) -> FloatArray:
        """Share of `size` bytes that L2 cannot hold from one use to the next."""
        return np.asarray(1.0 / (1.0 + (l2 / size) ** self.MISS_SHARPNESS))

    def _whole(self, count: FloatArray) -> FloatArray:
        """Round up to whole tiles or waves; without quantisation, at least one."""
        return np.ceil(count * (1.0 - SLACK)) if self.quantised else np.maximum(count, 1.0)


@dataclass(frozen=True)
class Vendor24:
    """2:4 GEMM beside a dense GEMM from other timings: ``T_dense / ratio``, the ratio without waves.

    Two data sets differ by 3 to 9 % on the same GPU, so a 2:4 time from one over a dense time from the other would be
    a biased speedup. The ratio of the twins is free of that; it divides the dense time that the stack uses anyway.

    Both kernels run on the same SMs, and that dense time has its waves already. The ratio is taken between sides with
    fractions of tiles and waves: a second set of waves, a few tokens apart from the first, would make a GEMM of one
    more token up to 13 % faster. What that costs, on weight shapes left out (SlideSparse, ten pairs of GPU and
    precision): the mean error of the ratio is 9.7 % instead of 9.5 %; on GPUs left out it is 17.4 % instead of 17.5 %.

    Attributes
    ----------
    dense : KernelModel
        Prices the dense GEMM.
    sparse : SparseGemm24
        Gives the ratio; of a calibration, its ``kernel``.
    """

    dense: KernelModel
    sparse: SparseGemm24

    #: Outputs and inputs below which the ratio is that of these: the widest tile, to which both kernels pad, and the
    #: smallest k that was timed.
    LEAST: ClassVar[tuple[float, float]] = (256.0, 64.0)

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s].

        Raises
        ------
        MissingValueError
            If the profile lacks a peak, or the size of L2 where it matters.
        """
        dense = self.dense.latency(dense_twin(ops), hardware, cache=cache)
        whole = ops.with_columns(n=np.maximum(ops.n, self.LEAST[0]), k=np.maximum(ops.k, self.LEAST[1]))
        seconds = np.asarray(dense / self.sparse.without_quantisation().ratio(whole, hardware, cache=cache))
        # Activations that outweigh a narrow weight are as many as ever.
        return np.maximum(seconds, ceilings(ops, hardware)[1]) if cache == "cold" else seconds

    def without_quantisation(self) -> Vendor24:
        """Return the same kernel with fractions of tiles and waves."""
        return replace(self, dense=smooth(self.dense), sparse=self.sparse.without_quantisation())


# --- how timings of it are read, fitted and judged ------------------------------------------------------------------

#: What a row of 2:4 timings may call its sparse side.
SPARSE_NAMES = ("2:4", "2_4")
#: Ten weight shapes per GPU hold a memory or latency limit of the 2:4 model barely, and rows of one shape share their
#: error: every fit of it needs a prior.
PRIOR = {
    "dense_launch": 0.125,
    "sparse_launch": 0.125,
    "dense_efficiency": 0.06,
    "sparse_efficiency": 0.06,
    "dense_edge": 0.3,
    "sparse_edge": 0.3,
    "dense_step": 0.2,
    "sparse_step": 0.2,
    "memory_efficiency": 0.05,
    "l2_bandwidth": 0.2,
}


def _as_ops(frame: pd.DataFrame) -> OpTrace:
    """Dense and 2:4 rows, each as its side."""
    sparse = frame["sparsity"].isin(SPARSE_NAMES).to_numpy()
    shape = {axis: frame[axis].to_numpy() for axis in ("m", "n", "k")}
    weight = np.array([precision.get(dtype).weight_bytes for dtype in frame["dtype"]])
    out = np.array([precision.get(dtype).output_bytes for dtype in frame["dtype"]])
    wide = frame["backend"].str.contains("INT32").to_numpy() if "backend" in frame else False  # integer accumulators
    columns = {
        **shape,
        "gemms": 1.0,
        "out_bytes": np.where(wide, 4.0, out),
        "mac_fraction": np.where(sparse, 0.5, 1.0),
        "b_bytes": np.where(sparse, precision.sparse_bytes(weight), weight),
    }
    ops = rows_as_ops(frame, columns, kernel="gemm")
    return ops.with_columns(
        kernel=tuple("gemm_2of4" if is_sparse else "gemm" for is_sparse in sparse),
        pattern=tuple("2:4" if is_sparse else "" for is_sparse in sparse),
    )


def _twin_ratios(frame: pd.DataFrame, rows: FloatArray) -> FloatArray:
    """Log residual of dense / 2:4 for every shape that has both; the median over repeats of a side."""
    keys = [name for name in ("dtype", "m", "n", "k") if name in frame]
    sparse = frame["sparsity"].isin(SPARSE_NAMES).to_numpy()
    sides = [
        frame[keys].assign(residual=rows)[sparse == side].groupby(keys)["residual"].median() for side in (False, True)
    ]
    return np.asarray((sides[0] - sides[1]).dropna().to_numpy(), dtype=np.float64)


KIND = Kind(
    kernel=SparseGemm24,
    shape=("m", "n", "k"),
    labels=("sparsity",),
    group=("n", "k"),
    axes=("m", "n", "k"),
    as_ops=_as_ops,
    scarce=("sparse_launch", "sparse_efficiency", "dense_launch", "dense_efficiency"),
    extra=_twin_ratios,
    prior_sd=PRIOR,
    similarity=(traits.capability_and_rate, traits.tensor_rate),
    # The band is of the ratio to dense, of which nothing more cancels.
    left_out=Spread(-0.44, 0.39, 0.0),
    # Fits without the rows of 256 tokens and fewer miss these by 1.5 to 2 times their band; many tokens cost nothing.
    quantities=(
        Quantity("tokens", tokens, below=0.3, above=0.1),
        Quantity("weights", weight_elements, below=0.5, above=0.3),
    ),
    regimes=REGIMES,
)
