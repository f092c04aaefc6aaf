"""What misaligned n or k cost in the reference paper: steps of its Table 4, a Triton GEMM of 8192 x 8192 x 8192.

There k is the stride of what is loaded and n that of a masked store, so that the two lose apart, unlike in cuBLAS.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.trace import OpTrace


@dataclass(frozen=True)
class PaperAlignment:
    """Share of the rate that sizes off a multiple of 16 leave; fractions, means of several widths, lose nothing.

    Values, units, meanings and anchors of the fields: ``hardware_profiles/stacks/paper.toml``.
    """

    misaligned_k: float
    misaligned_n: float
    quarter_n: float
    narrow_k: float
    narrow_k_16: float
    narrow_k_32: float

    def share(self, ops: OpTrace) -> FloatArray:
        """Return the share of the tensor-core rate that is left, shape broadcasts to (*sweep, op) [1]."""
        narrow = np.minimum(ops.a_bytes, ops.b_bytes) < 2.0
        wide_k = np.where(_multiple(ops.k, 16), 1.0, self.misaligned_k)
        wide_n = np.where(_multiple(ops.n, 4), self.quarter_n, self.misaligned_n)
        wide_n = np.where(_multiple(ops.n, 16), 1.0, wide_n)
        narrow_k = np.where(_multiple(ops.k, 16), self.narrow_k_16, self.narrow_k)
        narrow_k = np.where(_multiple(ops.k, 32), self.narrow_k_32, narrow_k)
        narrow_k = np.where(_multiple(ops.k, 64), 1.0, narrow_k)
        return np.where(narrow, narrow_k, wide_k * wide_n)


def _multiple(size: FloatArray, of: float) -> FloatArray:
    return np.asarray((size % of == 0) | (size != np.floor(size)))
