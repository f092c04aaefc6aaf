"""Rows that decoder-only transformers share: linear layers, elementwise kernels, attention, the LM head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.hardware import precision
from pruninfersim.hardware.precision import Precision
from pruninfersim.models.architectures.routing import active_share
from pruninfersim.workload import Workload

Row = dict[str, Any]


@dataclass(frozen=True)
class Rows:
    """Makes the rows of a model whose linear layers have one precision, and whose other ops have 16 bit or more.

    Attributes
    ----------
    workload : Workload
        Array fields become sweep axes of the columns.
    linear, plain : Precision
        Of the linear layers; of attention, KV cache, norms and LM head.
    """

    workload: Workload
    linear: Precision
    plain: Precision

    @classmethod
    def of(cls, workload: Workload, dtype: str) -> Rows:
        """Return the maker of rows for a precision of the linear layers, by its name."""
        return cls(workload, precision.get(dtype), precision.activations(dtype))

    @property
    def _plain(self) -> Row:
        return {"dtype": self.plain.dtype, "a_bytes": self.plain.input_bytes, "out_bytes": self.plain.output_bytes}

    def gemm(
        self, name: str, block: str, layers: Sequence[int], n: float, k: float, n_axis: str, k_axis: str, **more: Any
    ) -> Row:
        """Return a linear layer ``x[m, k] @ W[n, k].T`` of some layers, which are folded."""
        return {
            "name": name,
            "kernel": "gemm",
            "block": block,
            "dtype": self.linear.dtype,
            "a_bytes": self.linear.input_bytes,
            "b_bytes": self.linear.weight_bytes,
            "out_bytes": self.linear.output_bytes,
            "layers": tuple(layers),
            "count": len(layers),
            "gemms": 1.0,
            "m": self.workload.tokens,
            "n": n,
            "k": k,
            "n_axis": n_axis,
            "k_axis": k_axis,
            **more,
        }

    def elementwise(
        self,
        name: str,
        kernel: str,
        block: str,
        layers: Sequence[int],
        width: float,
        axis: str,
        *,
        reads: float = 1.0,
        writes: float = 1.0,
    ) -> Row:
        """Return elementwise work of `width` per token; `layers` is empty outside of the layers."""
        return self._plain | {
            "name": name,
            "kernel": kernel,
            "block": block,
            "layers": tuple(layers),
            "count": len(layers) or 1.0,
            "m": self.workload.tokens,
            "n": width,
            "k": width,
            "n_axis": axis,
            "k_axis": axis,
            "a_reads": reads,
            "out_writes": writes,
        }

    def norm(
        self,
        name: str,
        block: str,
        layers: Sequence[int],
        hidden: float,
        *,
        reads: float = 2.0,
        writes: float = 2.0,
    ) -> Row:
        """Return an RMSNorm; by default with the residual add in the same kernel: 4 elements moved per position."""
        return self.elementwise(name, "norm", block, layers, hidden, "hidden", reads=reads, writes=writes)

    def attention(
        self, layers: Sequence[int], heads: float, kv_heads: float, head_dim: float, window: float = np.inf
    ) -> Row:
        """Return causal attention of some layers, in which a token sees at most `window` keys."""
        workload = self.workload
        # A query sees `window` keys, so that a step of q queries touches at most q + window - 1 of them.
        keys = np.minimum(workload.context, workload.query_len + window - 1.0)
        return self._plain | {
            "b_bytes": self.plain.weight_bytes,
            "name": "attention",
            "kernel": f"attention_{workload.phase}",
            "block": "attention",
            "layers": tuple(layers),
            "count": len(layers),
            "gemms": 2.0,
            "m": workload.query_len,
            "n": keys,
            "k": head_dim,
            "batch": workload.batch * heads,
            "b_batch": workload.batch * kv_heads,
            "sequences": workload.batch,
            "mac_fraction": attended_share(workload, keys, window),
            **({"pattern": "window", "grain": window} if np.isfinite(window) else {}),
            "n_axis": "context",
            "k_axis": "head_dim",
        }

    def per_head(self, name: str, layers: Sequence[int], heads: float, n: float, k: float) -> Row:
        """Return one small GEMM per head, each with weights of its own (MLA's absorbed projections)."""
        row = self.gemm(name, "attention", layers, n, k, "latent", "latent", kernel="per_head_gemm")
        return row | {"batch": heads, "b_batch": heads}

    def router(self, layers: Sequence[int], experts: float, hidden: float) -> Row:
        """Return the router of a mixture of experts: a GEMM in 16 bit."""
        row = self.gemm("expert_router", "mlp", layers, experts, hidden, "experts", "hidden", kernel="router")
        return row | self._plain | {"b_bytes": self.plain.weight_bytes}

    def experts(
        self,
        layers: Sequence[int],
        experts: float,
        top_k: float,
        hidden: float,
        inter: float,
        *,
        gated: bool = True,
    ) -> Row:
        """Return the routed experts of some layers as one fused op: all their matrices, top-k and permutation.

        ``n`` is the width of an expert and ``k`` the hidden size; ``batch`` counts experts, ``m`` the tokens of one of
        them on average, ``sequences`` the tokens that are routed; ``b_reads`` is the expected share of the experts that
        any token goes to, whose weights cross HBM.
        """
        tokens, routing = np.asarray(self.workload.tokens, dtype=np.float64), self.workload.routing
        return self.gemm("experts", "mlp", layers, inter, hidden, "ffn", "hidden", kernel="moe") | {
            "gemms": 3.0 if gated else 2.0,
            "m": tokens * top_k / experts,
            "batch": experts,
            "b_batch": experts,
            "sequences": tokens,
            "b_reads": active_share(tokens, top_k, experts, routing),
            "pattern": "" if routing == "uniform" else routing,
        }

    def head(self, vocabulary: float, hidden: float) -> Row:
        """Return the LM head, on the tokens that the workload sends through it."""
        return self._plain | {
            "b_bytes": self.plain.weight_bytes,
            "name": "lm_head",
            "kernel": "lm_head",
            "block": "head",
            "gemms": 1.0,
            "m": self.workload.head_tokens,
            "n": vocabulary,
            "k": hidden,
            "n_axis": "vocab",
            "k_axis": "hidden",
        }


def attended_share(workload: Workload, keys: FloatArray, window: float) -> FloatArray:
    """Return the share of the query x key products that causal attention with a window needs, shape (*sweep).

    Continuous form: a query at position p sees min(p, window) keys, so that a whole causal prompt counts exactly
    half. A decode step sees all of its keys.
    """
    if workload.phase == "decode":
        return np.ones(workload.shape)
    if not workload.causal:
        return np.minimum(1.0, window / np.broadcast_to(keys, workload.shape))
    return causal_share(workload.query_len, workload.context, keys, window)


def causal_share(query: FloatArray, context: FloatArray, keys: FloatArray, window: FloatArray | float) -> FloatArray:
    """Return the share of ``query x keys`` products that the last `query` of `context` positions need, causally [1].

    >>> float(causal_share(np.array(4096.0), np.array(4096.0), np.array(4096.0), np.inf))
    0.5
    """

    def seen_up_to(position: FloatArray) -> FloatArray:
        ramp = np.minimum(position, window)
        flat = np.where(position > window, position - ramp, 0.0)
        return np.asarray(ramp**2 / 2.0 + flat * np.where(flat > 0, ramp, 0.0))

    return np.asarray((seen_up_to(context) - seen_up_to(context - query)) / (query * keys))
