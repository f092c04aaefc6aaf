"""N:M patterns beyond 2:4: 1:4, 2:6, 2:8, V:N:M (VENOM), 6:8 on slid 2:4 windows (SlideSparse), or memory only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pruninfersim._util.arrays import FloatArray, checked
from pruninfersim._util.doors import doors
from pruninfersim.errors import InvalidInputError, unknown_name
from pruninfersim.hardware import precision
from pruninfersim.pruning.base import overhead_rows, round_up
from pruninfersim.pruning.ratios import Ratio, check_ratio
from pruninfersim.pruning.semi_structured import HALF, SemiStructured
from pruninfersim.trace import OpTrace

#: How a pattern can be run.
BACKENDS = ("windows", "memory")
#: Bytes of the index of a column that a block of rows has chosen (V:N:M).
COLUMN_INDEX = 1.0


@doors
@dataclass(frozen=True, eq=False)
class NOfM(SemiStructured):
    """Keep `kept` of every `of` weights along K in whole layers.

    Sparse tensor cores know 2:4 only. Backend "windows" runs any pattern there as 2:4 on K' = K · 2 · kept / of: a
    denser pattern on overlapping windows, for which the activations are spread out (6:8 needs K' = 1.5 K and has at
    most 4/3 of the dense rate); a sparser one on the four columns that `rows` rows of a block have chosen together
    (V:N:M), whose activations the kernel gathers as it loads them. Backend "memory" stores the kept weights and their
    positions and multiplies as dense: it needs a kernel that unpacks, and gains where weights are what is waited for.

    Attributes
    ----------
    sparsity : Ratio, optional
        Share of all prunable weights removed, up to 1 - kept / of, which is the default [1].
    kept, of : float
        The pattern.
    backend : {"windows", "memory"}
    transposes : bool
        Whether activations are transposed and padded around the products, as cuSPARSELt code paths do.
    rows : float
        Rows that choose their columns together, of patterns sparser than 2:4.

    >>> from pruninfersim import Workload, trace
    >>> pruned = trace("llama-3.1-8b", Workload.decode()).prune(NOfM(kept=2, of=8))
    >>> up = pruned.select(pruned.mask(names=["up"]))
    >>> float(up.k[0]), float(pruned.applied[0].asked)
    (2048.0, 0.75)
    """

    name: ClassVar[str] = "n-of-m"
    #: None that a class could name: the pattern says it.
    largest: ClassVar[float] = float(np.nextafter(1.0, 0.0))

    sparsity: Ratio | None = None  # type: ignore[assignment]
    kept: float = 2
    of: float = 8
    backend: str = "windows"
    transposes: bool = False
    rows: float = 64

    def __post_init__(self) -> None:
        for name in ("kept", "of", "rows"):
            checked(name, getattr(self, name), minimum=1, whole=True)
        if not self.kept < self.of:
            raise InvalidInputError(f"a pattern keeps fewer than all weights; got {self.kept:g}:{self.of:g}")
        if self.backend not in BACKENDS:
            raise unknown_name("backend", self.backend, BACKENDS)
        top = 1.0 - self.kept / self.of
        object.__setattr__(self, "largest", top)
        if self.backend == "memory":
            object.__setattr__(self, "needs", "")
        if self.sparsity is None:
            object.__setattr__(self, "sparsity", top)
        why = f"{self.kept:g}:{self.of:g} keeps {self.kept:g} of {self.of:g} weights"
        check_ratio("sparsity", top if self.sparsity is None else self.sparsity, largest=top, why=why)

    @property
    def _stretch(self) -> float:
        """K' / K."""
        return 2.0 * self.kept / self.of

    def _sparse(self, trace: OpTrace, linear: np.ndarray, share: FloatArray) -> OpTrace:
        twin = trace.select(linear)
        count, density = twin.count * share[..., linear], self.kept / self.of
        if self.backend == "memory":
            position = np.ceil(np.log2(self.of)) / 8.0
            stored = density * (twin.b_bytes + position)
            return twin.with_columns(kernel=("gemm_unstructured",) * len(twin), count=count, b_bytes=stored)
        wide = round_up(self._stretch * twin.k, 16)
        shared = COLUMN_INDEX * 4.0 / (4.0 * self.rows) if self._stretch < 1.0 else 0.0
        return twin.with_columns(
            kernel=("gemm_2of4",) * len(twin),
            pattern=("2:4",) * len(twin),
            count=count,
            k=wide,
            mac_fraction=twin.mac_fraction * HALF,
            a_reads=twin.a_reads * (twin.k / wide if self._stretch < 1.0 else 1.0),
            b_bytes=precision.sparse_bytes(twin.b_bytes) + shared,
        )

    def _added(self, trace: OpTrace, block: str) -> list[dict[str, Any]]:
        rows = super()._added(trace, block) if self.transposes else []
        if self.backend == "windows" and self._stretch > 1.0:
            spread = {"name": f"spread_{block}", "kernel": "transpose", "k_axis": "hidden"}
            made = overhead_rows(trace, block, wide=("n", "k"), **spread)
            rows += [row | {"n": row["n"] * self._stretch} for row in made]
        return rows
