"""Pruned ops as the dense ones that library kernels make of them, and kernels that price a pruned op by those."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from pruninfersim.kernels.base import KernelModel, smooth
from pruninfersim.trace import OpTrace

#: Smallest share, or probability, that anything is computed for; below, an op hardly ever runs.
RARE = 1e-12


@dataclass(frozen=True)
class OnDense:
    """What kernels share that price a pruned op by a dense one: of fewer rows or columns, or a share of its time.

    Attributes
    ----------
    dense : KernelModel
        Prices the dense op.
    """

    dense: KernelModel

    def without_quantisation(self) -> Self:
        """Return the same kernel in fractions of tiles and waves."""
        dense = smooth(self.dense)
        return self if dense is self.dense else replace(self, dense=dense)


def dense_gemm(ops: OpTrace, **columns: Any) -> OpTrace:
    """Return ops as dense GEMMs: all products done, all operands read and written once.

    Parameters
    ----------
    ops : OpTrace
    **columns
        Columns that are others in the dense GEMM, such as ``m`` where rows are packed.

    >>> masked = OpTrace.from_rows([{"kernel": "token_gemm", "m": 8, "mac_fraction": 0.5, "a_reads": 0.5}])
    >>> whole = dense_gemm(masked)
    >>> whole.kernel, float(whole.mac_fraction[0]), float(whole.a_reads[0])
    (('gemm',), 1.0, 1.0)
    """
    return _whole(ops, "gemm", columns)


def dense_attention(ops: OpTrace, phase: str, **columns: Any) -> OpTrace:
    """Return pruned attention as the dense one that it replaces: all of Q, K and V read, all of the result written.

    Parameters
    ----------
    ops : OpTrace
    phase : {"prefill", "decode"}
    **columns
        Columns that are others in dense attention, ``mac_fraction`` among them: what a mask leaves of its products.

    >>> row = {"kernel": "exit_attention", "m": 1, "mac_fraction": 0.5, "a_reads": 0.5}
    >>> dense_attention(OpTrace.from_rows([row]), "decode", batch=np.array([4.0])).kernel
    ('attention_decode',)
    """
    return _whole(ops, f"attention_{phase}", columns)


def _whole(ops: OpTrace, kernel: str, columns: dict[str, Any]) -> OpTrace:
    neutral = dict.fromkeys(("mac_fraction", "a_reads", "b_reads", "out_writes"), np.ones(len(ops)))
    return ops.with_columns(kernel=(kernel,) * len(ops), **(neutral | columns))
