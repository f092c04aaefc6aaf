"""One more token, output or input must not make a GEMM faster: run ``python validation/grid_gemm.py [POINTS]``.

Random shapes, m, n, k from 1 to 1e6, on every GPU that the stack ``vendor`` can price, for dense, 2:4, token-wise and
low-rank GEMMs; and whole decode and prefill steps with one more sequence or key. A library can always run the larger
problem in place of the smaller one by padding, so that what a model takes off the time is its own doing. Steps of a
whole tile or wave go up, never down; `SLACK` is what a choice among candidates may take off.

Shapes are multiples of 16 in n and k, as rows off a vector load change the kernel, which is a step of its own.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd

import pruninfersim as pis
from pruninfersim import hardware, stacks
from pruninfersim._util.arrays import FloatArray
from pruninfersim.cost import CostModel
from pruninfersim.errors import PruninfersimError
from pruninfersim.hardware import precision
from pruninfersim.trace import OpTrace

#: Largest drop that one more token, output or input may bring [1]; a second wave doubles a time, half a wave at most.
SLACK = 0.03
LARGEST = 1e6
#: Steps of a whole model: label, method, sparsity.
METHODS: tuple[tuple[str, str, float], ...] = (
    ("dense", "", 0.0), ("static-depth", "static-depth", 0.5), ("dynamic-depth", "dynamic-depth", 0.5),
    ("semi-structured", "semi-structured", 0.5), ("low-rank", "low-rank", 0.5),
)  # fmt: skip
#: Edges of tiles, near which most shapes are drawn: there the waves step.
EDGES = (16, 64, 128, 256)


def shapes(rng: np.random.Generator, count: int) -> FloatArray:
    """Return random m, n, k, log-uniform from 1 (n, k: 16) to `LARGEST`, most m at a tile's edge; shape (3, count)."""
    m, n, k = np.exp(rng.uniform(0.0, np.log(LARGEST), (3, count)))
    edge = rng.choice(EDGES, count)
    m = np.where(rng.random(count) < 0.7, np.maximum(1.0, np.round(m / edge)) * edge, np.floor(m))
    return np.array([m, np.ceil(n / 16) * 16, np.ceil(k / 16) * 16])


def ops_of(kind: str, m: FloatArray, n: FloatArray, k: FloatArray) -> OpTrace:
    """Return GEMMs of a kind: ``"gemm"``, ``"gemm_2of4"`` or ``"token_gemm"`` (half of the rows), shape (count, 1)."""
    row = {"kernel": kind, "gemms": 1.0, "m": m, "n": n, "k": k}
    if kind == "gemm_2of4":
        row |= {"pattern": "2:4", "mac_fraction": 0.5, "b_bytes": precision.sparse_bytes(2.0)}
    if kind == "token_gemm":
        row |= {"mac_fraction": 0.5, "a_reads": 0.5, "out_writes": 0.5, "b_reads": 1.0 - 0.5**m}
    return OpTrace.from_rows([row])


def can_run(stack: CostModel, kind: str) -> bool:
    """Say whether a stack prices a kind of GEMM on its GPU (2:4 needs a sparse peak)."""
    try:
        stack.predict(ops_of(kind, np.ones(1), np.full(1, 16.0), np.full(1, 16.0)))
    except PruninfersimError:
        return False
    return True


def gemm_drops(stack: CostModel, count: int, seed: int = 0) -> pd.DataFrame:
    """Return the largest drop that one more token, 16 more outputs or 16 more inputs bring, by kind and axis.

    Returns
    -------
    DataFrame
        kind, axis, drop [1] (0.1: 10 % faster), how many drops exceed `SLACK`, and the shape of the largest.
    """
    start = shapes(np.random.default_rng(seed), count)
    lines = []
    for kind in ("gemm", "gemm_2of4", "token_gemm"):
        if not can_run(stack, kind):
            continue
        before = stack.predict(ops_of(kind, *start)).run[:, 0]
        for axis, name in enumerate("mnk"):
            more = start.copy()
            more[axis] += 1.0 if name == "m" else 16.0
            drop = 1.0 - stack.predict(ops_of(kind, *more)).run[:, 0] / before
            worst = int(drop.argmax())
            line = {"kind": kind, "axis": name, "drop": float(drop[worst]), "over": int((drop > SLACK).sum())}
            lines.append(line | dict(zip("mnk", start[:, worst], strict=True)))
    return pd.DataFrame(lines)


def step_drops(
    stack: CostModel, count: int, seed: int = 0, model: str = "llama-3.1-8b", *, attention: bool = True
) -> pd.DataFrame:
    """Return the largest drop that one more sequence or key brings to a whole step, by method and phase.

    Parameters
    ----------
    stack : CostModel
    count, seed : int
        Random batches and contexts.
    model : str
    attention : bool
        Whether attention is part of the step; its splits of the keys have waves of their own.

    Returns
    -------
    DataFrame
        method, phase, axis (batch or context), drop [1], how many exceed `SLACK`, and where the largest is.
    """
    rng = np.random.default_rng(seed)
    batch = np.floor(np.exp(rng.uniform(0.0, np.log(512.0), count)))
    context = np.floor(np.exp(rng.uniform(np.log(16.0), np.log(65536.0), count)))
    lines = []
    for label, method, sparsity in METHODS:
        for phase in ("decode", "prefill"):
            before = _step(stack, model, method, sparsity, phase, batch, context, attention)
            if before is None:
                continue
            for axis, (one, two) in {"batch": (batch + 1, context), "context": (batch, context + 1)}.items():
                after = _step(stack, model, method, sparsity, phase, one, two, attention)
                assert after is not None
                drop = 1.0 - after / before
                worst = int(drop.argmax())
                line = {"method": label, "phase": phase, "axis": axis, "drop": float(drop[worst])}
                line |= {"over": int((drop > SLACK).sum()), "batch": batch[worst], "context": context[worst]}
                lines.append(line)
    return pd.DataFrame(lines)


def low_rank_at_zero(stack: CostModel, model: str = "llama-3.1-8b") -> float:
    """Return the largest speedup of low rank at sparsity 0: as many weights and products in twice the kernels.

    Two thin GEMMs do what one did, and write and read what lies between; over a layer that is never faster.
    """
    tokens = np.array([1, 16, 128, 256, 512, 1000, 1024, 2048, 4096, 8192, 16384, 32768])
    worst = 0.0
    for work in (pis.Workload.prefill(1, tokens), pis.Workload.decode(np.array([1, 3, 8, 32, 64, 256]), 4096)):
        dense = pis.trace(model, work)
        gain = stack.predict(dense).latency / stack.predict(dense.prune(pis.pruning.LowRank(0.0))).latency
        worst = max(worst, float(np.max(gain)))
    return worst


def _step(
    stack: CostModel,
    model: str,
    method: str,
    sparsity: float,
    phase: str,
    batch: FloatArray,
    context: FloatArray,
    attention: bool,
) -> FloatArray | None:
    """Return the times of steps, or nothing where the GPU lacks what a method needs."""
    make = pis.Workload.prefill if phase == "prefill" else pis.Workload.decode
    dense = pis.trace(model, make(batch, context))
    try:
        step = stack.predict(dense.prune(pis.pruning.get(method, sparsity)) if method else dense)
    except PruninfersimError:
        return None
    chosen = np.array([attention or "attention" not in key for key in step.trace.kernel])
    return np.asarray(step.seconds[..., chosen].sum(axis=-1))


def gpus() -> Iterator[str]:
    """Return the GPUs that the stack can price."""
    for name in hardware.names():
        try:
            stack = stacks.get("vendor", hardware.get(name))
        except PruninfersimError:
            continue
        if can_run(stack, "gemm"):
            yield name


def main() -> int:
    """Print the largest drops by GPU; fail if any exceeds the slack."""
    points = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    frames = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in gpus():
            stack = stacks.get("vendor", hardware.get(name))
            both = pd.concat([gemm_drops(stack, points), step_drops(stack, points // 10)], ignore_index=True)
            frames.append(both.assign(gpu=name))
            print(name, "largest drop", f"{both['drop'].max():.3f}", "over", int(both["over"].sum()), flush=True)
            print(name, "low rank at sparsity 0, at most", f"{low_rank_at_zero(stack):.3f}", flush=True)
    frame = pd.concat(frames, ignore_index=True)
    print(frame.sort_values("drop", ascending=False).head(40).to_string())
    print(frame.groupby(["kind", "axis"])["over"].sum(), frame.groupby(["method", "phase", "axis"])["over"].sum())
    return int(frame["over"].sum() > 0)


if __name__ == "__main__":
    sys.exit(main())
