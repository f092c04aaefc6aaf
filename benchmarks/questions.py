"""What is asked: grids, unrelated rows, and single calls."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd

import pruninfersim as pis

MODELS = ("llama-3.1-8b", "llama-2-7b", "qwen3-14b", "llama-3.2-3b", "mistral-7b-v0.3")
GPUS = ("h100-sxm", "a100-sxm-80gb", "h200-sxm", "b200-sxm", "l40s", "rtx-pro-6000-server")
METHODS = tuple(pis.pruning.METHODS)
SPARSITY = np.linspace(0.0, 0.5, 16)
PREFILL_BATCHES = (1, 2, 3, 4, 6, 8, 12, 16)
DECODE_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)


def workloads(points: float) -> list[pis.Workload]:
    """Return about `points` workloads: batches x lengths, half of them prefill and half decode."""
    lengths = max(1, round(points / (len(PREFILL_BATCHES) + len(DECODE_BATCHES))))
    tokens = np.unique(np.round(np.geomspace(128, 32768, lengths)))
    return [
        pis.Workload.prefill(batch=np.array(PREFILL_BATCHES)[:, None], tokens=tokens),
        pis.Workload.decode(batch=np.array(DECODE_BATCHES)[:, None], context=tokens),
    ]


def grid(points: int) -> dict[str, Any]:
    """Return the arguments of a sweep of about `points` configurations; a larger one has more lengths."""
    per_workload = len(MODELS) * len(GPUS) * len(METHODS) * len(SPARSITY)
    return {"models": MODELS, "hardware": GPUS, "workloads": workloads(points / per_workload), "sparsity": SPARSITY}


def random_rows(points: int) -> pd.DataFrame:
    """Return unrelated configurations, hardly two of which share a shape."""
    draw = np.random.default_rng(7)
    return pd.DataFrame(
        {
            "model": draw.choice(MODELS, points),
            "hardware": draw.choice(GPUS, points),
            "method": draw.choice(METHODS, points),
            "sparsity": draw.uniform(0.0, 0.5, points),
            "phase": draw.choice(["prefill", "decode"], points),
            "batch": draw.integers(1, 257, points),
            "context": draw.integers(16, 8193, points),
        }
    )


def scalar_loop(rows: pd.DataFrame) -> None:
    """Answer each row with a comparison of its own, as a script without arrays would."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pis.errors.ProvenanceWarning)
        for row in rows.itertuples():
            dense = pis.trace(row.model, pis.Workload.of(row.phase, row.batch, row.context))
            pis.compare(dense, dense.prune(pis.pruning.get(row.method, row.sparsity)), hardware=row.hardware)


def one_call() -> None:
    """Ask one question."""
    pis.speedup(model="llama-3.1-8b", hardware="h100-sxm", method="static-width", sparsity=0.5, phase="decode")
