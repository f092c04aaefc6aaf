"""Values for keywords: sane ones by the name of the keyword, and hostile ones for all of them."""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import pruninfersim as pis


class Silent:
    """An object that fails whatever it is asked."""

    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__

    def __float__(self) -> float:
        raise ZeroDivisionError("no")

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise OSError("no")

    def __len__(self) -> int:
        raise RuntimeError("no")

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


class Endless:
    """An object with a repr of many lines and of 10 kB."""

    def __repr__(self) -> str:
        return "long\n" * 2000


def nested(depth: int) -> list[Any]:
    """Return a list in a list in a list."""
    made: list[Any] = []
    for _ in range(depth):
        made = [made]
    return made


#: Each is made anew, so that no input sees what another one did to it.
HOSTILE: tuple[Callable[[], Any], ...] = (
    lambda: None, lambda: True, lambda: False, lambda: 0, lambda: -1, lambda: 1, lambda: 0.5, lambda: 1.5,
    lambda: -0.0, lambda: float("nan"), lambda: float("inf"), lambda: float("-inf"), lambda: 1e308, lambda: 1e-308,
    lambda: 10**400, lambda: 2**63, lambda: -(10**30), lambda: 1e6, lambda: 10**9, lambda: "", lambda: "x" * 5000,
    lambda: "a\nb\r\n", lambda: "../../etc/passwd", lambda: "l40s\0", lambda: "\U0001f999", lambda: "nan",
    lambda: "1e9", lambda: "<script>alert(1)</script>", lambda: b"bytes", list, lambda: [[]], lambda: [1, [2]], dict,
    set, tuple, object, Silent, Endless, lambda: 1 + 2j, lambda: np.array([1 + 0j, 2]),
    lambda: datetime.datetime(2026, 1, 1), lambda: datetime.timedelta(1), lambda: np.datetime64("2026-01-01"),
    lambda: np.array([1, 2], "m8[s]"), lambda: np.ma.array([1.0, 2.0], mask=[True, False]), lambda: pd.NA,
    lambda: pd.NaT, lambda: pd.Series([1.0, None]), lambda: pd.array([1, None], dtype="Int64"), lambda: np.empty(0),
    lambda: np.array([1, "a"], dtype=object), lambda: Decimal("NaN"), lambda: Decimal(10) ** 400,
    lambda: Fraction(1, 3), lambda: np.float16(0.25), lambda: (lambda *_, **__: 1), lambda: int, lambda: ...,
    pd.DataFrame, lambda: (x for x in "ab"), lambda: range(3), lambda: np.zeros((2, 0)), lambda: np.bool_(True),
    lambda: Path("/nowhere/x.toml"), lambda: Path("/dev/null"), lambda: nested(2000), lambda: np, lambda: ValueError,
    lambda: np.array([True, False]), lambda: [float("nan"), 1], lambda: {"a": float("nan")}, lambda: "l40s",
    lambda: ["l40s", "l40s"], lambda: pis.hardware.get("l40s"), lambda: pis.models.get("llama-3.2-1b"),
    lambda: pis.pruning.LowRank(0.5), lambda: pis.Workload.decode(2, 64), lambda: dense(), lambda: answer(),
    lambda: pis.pruning.PerLayer([0.5, 0.1]), lambda: pis.pruning.PerBlock(attention="x", mlp=object()),
    lambda: pis.pruning.Axis([0.1, 0.2]), lambda: quality(), lambda: np.full(3, 1e300), lambda: [1, 2, 3],
    lambda: np.array(["a", "b"]), lambda: {1: 2}, lambda: "config.json", lambda: "x.toml", lambda: "a" * 300 + ".json",
)  # fmt: skip


@cache
def dense() -> pis.OpTrace:
    """Return a trace."""
    return pis.trace("llama-3.2-1b", pis.Workload.decode(2, 64))


@cache
def answer() -> pis.Speedup:
    """Return a speedup."""
    return pis.speedup(model="llama-3.2-1b", hardware="l40s", method="low-rank", sparsity=0.5, stack="ideal")


@cache
def quality() -> pd.DataFrame:
    """Return a quality table."""
    return pis.pareto.published_quality()


@cache
def curves() -> dict[str, pis.pareto.Curve]:
    """Return curves of quality and speed."""
    return pis.pareto.curves(quality(), lambda _, s: 1 / (1 - s))


@cache
def grid() -> pd.DataFrame:
    """Return a sweep."""
    return pis.sweep(
        model="llama-3.2-1b", hardware=["l40s", "a30"], method="low-rank", sparsity=[0.25, 0.5], stack="ideal"
    )


@cache
def rows() -> pd.DataFrame:
    """Return timings."""
    m, n = (axis.ravel() for axis in np.meshgrid([1, 64, 4096], [1024, 4096, 8192, 14336]))
    slow = 1.3e6 * pis.gemm_latency(m, n, 4096, hardware="h100-sxm")
    return pd.DataFrame({"gpu": "h100-sxm", "dtype": "bf16", "m": m, "n": n, "k": 4096, "latency_us": slow})


@cache
def fitted() -> pis.Calibration:
    """Return a calibration."""
    return pis.calibrate("gemm", rows(), "h100-sxm", cache="cold")


#: Keyword -> values that some call takes.
SANE: dict[str, tuple[Any, ...]] = {
    "model": ("llama-3.2-1b", "llama-3.1-8b", "qwen3-30b-a3b"), "hardware": ("h100-sxm", "l40s"),
    "stack": ("ideal", "vendor", "paper", "vllm"), "method": ("low-rank", "static-width", "dynamic-depth"),
    "methods": (["low-rank", "static-width"], "low-rank"), "sparsity": (0.5, 0.25, [0.25, 0.5]),
    "phase": ("decode", "prefill"), "batch": (1, 8, [1, 8]),
    "context": (64, 4096, 1024), "dtype": (None, "bf16", "fp8"),
    "logits": (None, "last"), "workload": (None,), "workloads": (None,), "tp": (1, 2), "ep": (1,), "tokens": (64, 2048),
    "prefix": (0, 128), "causal": (True,), "prompt": (128,), "new_tokens": (16,), "m": (1, 64), "n": (4096,),
    "k": (4096,), "kernel": ("dense", "2:4"), "cache": ("cold", "replayed"), "quantise": ("fused",), "library": (None,),
    "query_len": (1, 128), "heads": (32,), "kv_heads": (8,), "head_dim": (128,), "kv_dtype": (None,), "window": (None,),
    "axis": ("context", "batch", "sparsity"), "between": (None, (1, 64)), "target": (1.2,), "width": (5000,),
    "within": (0.1,), "step": (16,), "bytes": (2**20,), "gpus": (4,), "hidden": (2048,), "inter": (768,),
    "experts": (64,), "top_k": (4,), "routing": ("uniform",), "gated": (True,), "form": (None,), "kind": ("gemm",),
    "clients": (None, 4), "max_gap": (5.0,), "largest_gap": (None, 10.0), "family": ("low-rank", None),
    "price_per_hour": (None, {"h100-sxm": 2.0}), "seconds": (0.05,), "name": ("low-rank",), "progress": (False,),
    "memory": (None,), "title": ("a title",), "label": ("dense",),
}  # fmt: skip


def any_hostile(chance: random.Random) -> Any:
    """Return a hostile value."""
    return chance.choice(HOSTILE)()
