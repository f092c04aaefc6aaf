"""2:4 sparse GEMM of a vendor library (cuSPARSELt): the dense GEMM on compressed weights and sparse tensor cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.errors import MissingValueError
from pruninfersim.hardware import HardwareProfile, precision, traits
from pruninfersim.kernels.base import Cache, parameter, parameters, two_of_four
from pruninfersim.kernels.evidence import Quantity, Spread, tokens, weight_elements
from pruninfersim.kernels.gemm import REGIMES, Gemm
from pruninfersim.kernels.kind import Kind, rows_as_ops
from pruninfersim.kernels.replay import Footprint
from pruninfersim.trace import OpTrace

if TYPE_CHECKING:
    import pandas as pd


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
        b_bytes=np.where(sparse, 2.0 * (ops.b_bytes - precision.METADATA), ops.b_bytes),
        mac_fraction=np.where(sparse, 2.0 * ops.mac_fraction, ops.mac_fraction),
    )


@dataclass(frozen=True)
class SparseGemm24(Gemm):
    """Time of a 2:4 GEMM, and of the dense GEMM beside it.

    The library's 2:4 kernels are its dense ones on compressed weights: the same tiles, waves, split-K, k-loop and
    overlap (`Gemm`), at the 2:4 peak, with 9/16 of the bytes of 16-bit weights. How far they fall short of that are
    five ratios, 2:4 over dense, which carry over to any fit of the dense GEMM (`beside`): two data sets differ by 3 to
    9 % on the same GPU, so that a 2:4 time from one over a dense time from the other would be a biased speedup. Every
    term falls with every figure of the card, and so does the time.

    The 16-bit kernels for sm80 to sm89 and sm12x walk along n first: where the compressed weight exceeds L2, each row
    of m tiles reads it again, unless several rows share a wave. That makes wide layers slower than dense on a GPU with
    a small L2 and little bandwidth.

    The kernels of that kind split k only where algorithms and splits are searched, as for the timings. By default no
    CTA does: the loop over k, each step of which waits for the one before, takes its time however many tokens there are
    (arXiv 2606.09080, Table 7: 22 us for k of 4096, 71 us for 14336, at 1 to 64 tokens; its A800 does not gain in
    decode), and frameworks run the default. There is no matrix-vector kernel.

    An op of pattern 2:4 is priced as such, any other as the dense GEMM.

    Attributes
    ----------
    searched : bool
        Whether algorithms and splits were searched for every shape.

    >>> from pruninfersim.kernels.base import parameters
    >>> [name for name in parameters(SparseGemm24) if name.startswith("sparse")]
    ['sparse_launch', 'sparse_rate', 'sparse_step', 'sparse_overhead']
    """

    sparse_launch: float = parameter(1e-6, 1e-7, 1e-5, "s", "launch and drain beyond those of the dense kernel")
    sparse_rate: float = parameter(0.9, 0.2, 3.0, "1", "fraction of the 2:4 peak over that of the dense peak")
    sparse_step: float = parameter(1.0, 0.2, 5.0, "1", "latency of a k step of one CTA, 2:4 over dense")
    sparse_overhead: float = parameter(1.5, 0.2, 20.0, "1", "prologue and epilogue of a tile, 2:4 over dense")
    searched: bool = False

    #: Rows of the m tile after which an unswizzled kernel starts over with the weights.
    REREAD_TILE: ClassVar[float] = 128.0
    #: Exponent of the share of the weights that L2 cannot hold from one row of tiles to the next.
    MISS_SHARPNESS: ClassVar[float] = 4.0
    #: First part of the compute capabilities whose 16-bit 2:4 kernels are of the sm80 kind (``mma.sp``).
    SM80_KIND: ClassVar[tuple[str, ...]] = ("8", "12")

    def beside(self, dense: Gemm) -> SparseGemm24:
        """Return the kernel whose dense side is another fit of the dense GEMM; the ratios are those of this one.

        >>> SparseGemm24(sparse_rate=0.8).beside(Gemm(launch=3e-6)).launch
        3e-06
        """
        return replace(self, **{each.name: getattr(dense, each.name) for each in fields(Gemm)})

    def dense_latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of the dense twin of each op, shape (*sweep, op) [s]; errors as `latency`."""
        return self.latency(dense_twin(ops), hardware, cache=cache)

    def ratio(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return time of the dense twin over time of the 2:4 GEMM, shape (*sweep, op) [1]; errors as `latency`.

        In ``"cold"`` both twins stream their operands from HBM.
        """
        return self.dense_latency(ops, hardware, cache=cache) / self.latency(ops, hardware, cache=cache)

    def _price(self, ops: OpTrace, hardware: HardwareProfile, footprints: Sequence[Footprint | None]) -> FloatArray:
        """Price all ops, each as its pattern says, shape (footprint, *sweep, op) [s]."""
        sparse = two_of_four(ops)
        if not sparse.any():
            return super()._price(ops, hardware, footprints)
        out = np.empty((len(footprints), *ops.shape))
        out[..., ~sparse] = super()._price(ops.select(~sparse), hardware, footprints)
        again = self._read_again(ops.select(sparse), hardware)
        out[..., sparse] = Gemm._price(self._compressed(hardware), again, hardware, footprints)
        return out

    def _compressed(self, hardware: HardwareProfile) -> SparseGemm24:
        """Return the kernel whose dense side has the parameters of the 2:4 one."""
        return replace(
            self,
            launch=self.launch + self.sparse_launch,
            compute_efficiency=self.compute_efficiency * self.sparse_rate,
            k_step=self.k_step * self.sparse_step,
            tile_overhead=self.tile_overhead * self.sparse_overhead,
            split_cost=self.split_cost if self.searched or not self._of_sm80(hardware) else self.NEVER,
            vector_latency=self.NEVER,
        )

    def _of_sm80(self, hardware: HardwareProfile) -> bool:
        return hardware.compute_capability.split(".")[0] in self.SM80_KIND

    def _read_again(self, ops: OpTrace, hardware: HardwareProfile) -> OpTrace:
        """Return 2:4 ops with the repeated reads of an unswizzled kernel."""
        if not self._of_sm80(hardware):
            return ops
        if hardware.l2_size is None:
            raise MissingValueError(
                f"{hardware.name} has no L2 size, which the 2:4 kernel model needs; add it to the profile."
            )
        rows, columns = self._whole(ops.m / self.REREAD_TILE), self._whole(ops.n / self.REREAD_TILE)
        passes = np.maximum(rows / np.maximum(hardware.sm_count / columns, 1.0) - 1.0, 0.0)
        miss = 1.0 / (1.0 + (hardware.l2_size / (ops.n * ops.k * ops.b_bytes)) ** self.MISS_SHARPNESS)
        # 8-bit kernels do not show it: b_bytes is that of the compressed weight.
        return ops.with_columns(b_reads=ops.b_reads * (1.0 + np.where(ops.b_bytes > 1.0, passes * miss, 0.0)))


# --- how timings of it are read, fitted and judged ------------------------------------------------------------------

#: What a row of 2:4 timings may call its sparse side.
SPARSE_NAMES = ("2:4", "2_4")
#: Ten weight shapes per GPU hold a memory or latency limit of the 2:4 model barely, and rows of one shape share their
#: error: every fit of it needs a prior. What is not here stays at the start, the dense GEMM of the card.
PRIOR = {
    "launch": 0.4,
    "compute_efficiency": 0.03,
    "memory_efficiency": 0.05,
    "overlap": 0.3,
    "tile_overhead": 0.3,
    "l2_feed": 0.3,
    "split_cost": 0.2,
    "k_step": 0.2,
    "sparse_launch": 0.4,
    "sparse_rate": 0.08,
    "sparse_step": 0.2,
    "sparse_overhead": 0.2,
}
#: What the backend of timings says if the best of all algorithms and splits was kept.
SEARCH = "search"


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


def _settled(kernel: SparseGemm24, frame: pd.DataFrame) -> SparseGemm24:
    """Return the kernel as the rows were timed: with a search over algorithms or without, one set of operands."""
    searched = "backend" in frame and bool(frame["backend"].str.contains(SEARCH).all())
    return replace(kernel, searched=searched, protocol="cuBLASLt" if searched else kernel.protocol)


def _untold(_: pd.DataFrame) -> tuple[str, ...]:
    return tuple(name for name in parameters(SparseGemm24) if name not in PRIOR)


KIND = Kind(
    kernel=SparseGemm24,
    shape=("m", "n", "k"),
    labels=("sparsity",),
    group=("n", "k"),
    axes=("m", "n", "k"),
    as_ops=_as_ops,
    scarce=("launch", "compute_efficiency", "sparse_launch", "sparse_rate"),
    settled=_settled,
    untold=_untold,
    usual={"searched": False},
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
