"""A GEMM on some rows of its input in one Triton kernel: gather, product and scatter fused (masked M).

``out[rows] = x[rows] @ w.T``. Rows are loaded through their index and stored through it, so that nothing is copied.
What a gather, a GEMM and a scatter pay for two extra trips through memory shows against it.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

Tensor = Any
#: Tile along n and k; the tile along rows follows their number.
BLOCK_N, BLOCK_K = 128, 64
#: Row tiles that are walked through together, so that they share weights in L2.
GROUP = 8


# Triton reads the annotations: `tl.tensor` stands for pointers and numbers alike.
def _kernel(
    x_ptr: tl.tensor,
    w_ptr: tl.tensor,
    rows_ptr: tl.tensor,
    out_ptr: tl.tensor,
    kept: tl.tensor,
    n: tl.tensor,
    k: tl.tensor,
    block_m: tl.constexpr,
    block_n: tl.constexpr,
    block_k: tl.constexpr,
    group: tl.constexpr,
) -> None:
    pid = tl.program_id(0)
    tiles_m, tiles_n = tl.cdiv(kept, block_m), tl.cdiv(n, block_n)
    wide = group * tiles_n
    first = pid // wide * group
    size = min(tiles_m - first, group)
    tile_m = first + (pid % wide) % size
    tile_n = (pid % wide) // size
    at_m = tile_m * block_m + tl.arange(0, block_m)
    at_n = tile_n * block_n + tl.arange(0, block_n)
    at_k = tl.arange(0, block_k)
    live_m, live_n = at_m < kept, at_n < n
    rows = tl.load(rows_ptr + at_m, mask=live_m, other=0).to(tl.int64)
    total = tl.zeros((block_m, block_n), dtype=tl.float32)
    for start in range(0, k, block_k):
        live_k = start + at_k < k
        x = tl.load(
            x_ptr + rows[:, None] * k + (start + at_k)[None, :], mask=live_m[:, None] & live_k[None, :], other=0.0
        )
        w = tl.load(
            w_ptr + at_n[None, :].to(tl.int64) * k + (start + at_k)[:, None],
            mask=live_n[None, :] & live_k[:, None],
            other=0.0,
        )
        total = tl.dot(x, w, total)
    mask = live_m[:, None] & live_n[None, :]
    tl.store(out_ptr + rows[:, None] * n + at_n[None, :], total.to(out_ptr.dtype.element_ty), mask=mask)


_compiled = triton.jit(_kernel)


def masked_gemm(x: Tensor, w: Tensor, rows: Tensor, out: Tensor) -> Tensor:
    """Write ``x[rows] @ w.T`` to ``out[rows]`` and return `out`.

    Parameters
    ----------
    x, w, out : tensor, [m, k], [n, k], [m, n]
        Contiguous, on CUDA.
    rows : tensor of int64, [kept]
    """
    n, k = w.shape
    kept = rows.numel()
    block_m = max(16, min(128, 1 << (kept - 1).bit_length()))
    tiles = -(-kept // block_m) * -(-n // BLOCK_N)
    _compiled[(tiles,)](
        x, w, rows, out, kept, n, k, block_m=block_m, block_n=BLOCK_N, block_k=BLOCK_K, group=GROUP,
        num_warps=8 if block_m >= 128 else 4, num_stages=3 if block_m >= 128 else 4,
    )  # fmt: skip
    return out
