"""Rows that are no multiple of 16 bytes: what is left of the tensor-core rate, or what the library pads them to.

cuBLAS leaves its best kernels where a row of an operand (k elements) or of the result (n elements) is not a multiple of
16 bytes, 8 elements of 16 bit: even sizes run kernels with 4-byte copies and ``mma.m16n8k16`` of the Ampere kind, odd
ones kernels with 2-byte loads and ``mma.m16n8k8``. Newer cards fall back past their own tensor instructions (wgmma), so
that the loss grows with the generation while the rate that is left hardly changes. The worse of n and k decides, not
the product of two losses. DRAM and latencies are untouched. 8- and 4-bit GEMMs of cuBLAS want multiples of 16 bytes in
n and k (cuBLAS documentation: FP8 and IMMA kernels); engines pad to that, and the padded shape is priced.
"""

from __future__ import annotations

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import two_of_four
from pruninfersim.trace import OpTrace

#: Bytes of a row that the best kernels need, and those that asynchronous copies need at least (``cp.async``: 4, 8, 16).
ROW = 16.0
COPY = 4.0
#: 16-bit rate that is left for rows of whole 4 bytes, and of 2 bytes [FLOP per clock and SM], by compute capability.
#: From sweeps of k and n around 4096 on an A100 and an H100 (GAC, arXiv 2604.09595): 0.49 and 0.21 of the aligned rate
#: on the A100, 0.265 and 0.15 on the H100, with the fitted aligned rates of 2190 and 3510.
MEASURED = {"8.0": (1073.0, 460.0), "9.0": (930.0, 526.0)}
#: The same where nobody has timed it, an extrapolation: nearly the same absolute rates on both cards (odd: 450 to 600).
ELSEWHERE = (1040.0, 525.0)


def narrowest(ops: OpTrace) -> FloatArray:
    """Return the bytes of an element of the narrower operand [B]; 2:4 weights stand for dense ones.

    >>> narrowest(OpTrace.from_rows([{"b_bytes": 1.0}, {"pattern": "2:4", "b_bytes": 1.125}])).tolist()
    [1.0, 2.0]
    """
    return np.where(two_of_four(ops), ops.a_bytes, np.minimum(ops.a_bytes, ops.b_bytes))


def row_bytes(ops: OpTrace) -> FloatArray:
    """Return the largest power of two, up to 16, of bytes that divides rows of operands and result [B].

    16 for formats below 16 bit, whose rows are padded, and where n or k is a fraction: the mean of several widths says
    nothing about any of them.

    >>> row_bytes(OpTrace.from_rows([{"n": 4096, "k": k} for k in (4096, 4094, 4095, 4094.5)])).tolist()
    [16.0, 4.0, 2.0, 16.0]
    """
    element = narrowest(ops)
    return np.where(element < 2.0, ROW, _of_row(ops.n, ops.k, element, ops.out_bytes))


def _of_row(n: FloatArray, k: FloatArray, element: FloatArray, out_element: FloatArray) -> FloatArray:
    return np.minimum(_divisor(k * element, k), _divisor(n * out_element, n))


def _divisor(size: FloatArray, count: FloatArray) -> FloatArray:
    """Return the largest power of two up to 16 that divides a size [B]; 16 where the count is a fraction."""
    found = np.full(np.shape(size), 2.0)
    for power in (4.0, 8.0, 16.0):
        found = np.where(size % power == 0, power, found)
    return np.where(count == np.floor(count), found, ROW)


def share(ops: OpTrace, aligned: FloatArray, hardware: HardwareProfile) -> FloatArray:
    """Return the share of the tensor-core rate that rows of these sizes leave, at most 1.

    Formats at half of the 16-bit peak (TF32) are left with half of the rate, and 2:4 weights with twice that of dense
    ones, as their zeros count as work; nobody has timed either.

    Parameters
    ----------
    ops : OpTrace
    aligned : ndarray
        Rate with aligned rows, of the whole GPU [FLOP/s].
    hardware : HardwareProfile
    """
    element = narrowest(ops)
    # Most shapes of a sweep are aligned, and that is quickly seen.
    if (element < 2.0).all() or not ((ops.k * element % ROW).any() or (ops.n * ops.out_bytes % ROW).any()):
        return np.ones(())
    size = _of_row(ops.n, ops.k, element, ops.out_bytes)
    even, odd = MEASURED.get(hardware.compute_capability, ELSEWHERE)
    peak = np.array([hardware.peak_flops(dtype) for dtype in ops.dtype])
    wide = hardware.peak.get("bf16", hardware.peak.get("fp16"))
    vector = hardware.peak.get("fp32")  # vector units load one element at a time anyway
    scale = np.ones(()) if wide is None else peak / wide
    scale = np.where(two_of_four(ops), 2.0, 1.0) * scale
    left = np.where(size >= COPY, even, odd) * scale * (hardware.sm_count * hardware.clock)
    slow = (size < ROW) & (element >= 2.0) & ~((element == 4.0) & (peak == vector))
    return np.asarray(np.where(slow, np.minimum(left / aligned, 1.0), 1.0))


def padded(ops: OpTrace) -> OpTrace:
    """Return the ops with n and k of 8- and 4-bit GEMMs rounded up to rows of 16 bytes, as libraries want them.

    >>> rows = [{"n": 100, "k": 4090, "a_bytes": size, "b_bytes": size} for size in (2, 1, 0.5625)]
    >>> ops = padded(OpTrace.from_rows(rows))
    >>> ops.n.tolist(), ops.k.tolist()
    ([100.0, 112.0, 128.0], [4090.0, 4096.0, 4096.0])
    """
    element = narrowest(ops)
    narrow = element < 2.0
    if not narrow.any():
        return ops
    unit = np.where(narrow, np.where(element < 1.0, 32.0, 16.0), 1.0)
    n, k = (np.where(x == np.floor(x), unit * np.ceil(x / unit), x) for x in (ops.n, ops.k))
    return ops if (n == ops.n).all() and (k == ops.k).all() else ops.with_columns(n=n, k=k)


def advice(ops: OpTrace) -> str:
    """Return the next fast sizes of ops whose rows are not aligned, for a reader.

    >>> advice(OpTrace.from_rows([{"n": 3277, "k": 4096}, {"n": 4096, "k": 3277}]))
    'cuBLAS is fast at multiples of 8: 3280 instead of 3277'
    """
    slow: dict[float, float] = {}
    for sizes, element in ((ops.n, ops.out_bytes), (ops.k, narrowest(ops))):
        count, unit = (x.reshape(-1) for x in np.broadcast_arrays(sizes, ROW / element))
        off = (count % unit != 0) & (count > unit) & (count == np.floor(count)) & (unit <= ROW / 2.0)
        slow |= dict(zip(count[off].tolist(), (unit * np.ceil(count / unit))[off].tolist(), strict=True))
    few = [f"{fast:.0f} instead of {size:.0f}" for size, fast in sorted(slow.items())[:3]]
    return f"cuBLAS is fast at multiples of 8: {', '.join(few)}" if few else ""
