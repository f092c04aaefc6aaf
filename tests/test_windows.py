"""Keys that windows leave, by counting: sets of keys for what is read, and sums over queries for what is multiplied."""

from __future__ import annotations

import numpy as np
import pytest
from cases import rows

import pruninfersim as pis
from pruninfersim.models.architectures.attention import Attention
from pruninfersim.models.architectures.layered import Layer
from pruninfersim.models.architectures.mlp import MLP
from pruninfersim.models.architectures.rows import Rows, causal_share


def attention(work: pis.Workload, window: float) -> dict:
    return Rows.of(work, "bf16").attention(range(4), 8, 2, 64, window)


@pytest.mark.parametrize("window", [1, 2, 3, 5, 8, 9, 13, np.inf])
@pytest.mark.parametrize("prefix", [0, 1, 4, 7])
@pytest.mark.parametrize("tokens", [1, 2, 5, 8])
def test_keys_that_a_prompt_reads(tokens, prefix, window):
    seen = {
        key
        for query in range(prefix + 1, prefix + tokens + 1)
        for key in range(1, query + 1)
        if query - key < window
    }  # fmt: skip
    row = attention(pis.Workload.prefill(1, tokens, prefix=prefix), window)
    assert float(row["n"]) == len(seen)


@pytest.mark.parametrize("context", [1, 3, 4, 5, 100])
def test_keys_that_a_decode_step_reads(context):
    """Before its window is full, when it is just full, and one key later."""
    row = attention(pis.Workload.decode(3, context), 4)
    assert float(row["n"]) == min(context, 4)
    assert (float(row["b_batch"]), float(row["batch"]), float(row["mac_fraction"])) == (6.0, 24.0, 1.0)


@pytest.mark.parametrize("window", [100.0, 256.0, 511.0, 512.0, 513.0, 768.0, np.inf])
@pytest.mark.parametrize("prefix", [0, 256, 512])
def test_products_of_a_prompt_are_an_integral(prefix, window):
    """Of a continuum of queries, as a causal prompt counts exactly half: the integral of min(position, window)."""
    tokens, steps = 512, 200_000
    position = prefix + (np.arange(steps) + 0.5) * tokens / steps
    keys = min(prefix + tokens, tokens + window - 1)
    expected = np.minimum(position, window).sum() * tokens / steps / (tokens * keys)
    found = causal_share(np.array(512.0), np.array(512.0 + prefix), np.array(float(keys)), window)
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_products_without_causality():
    """Each query sees its window, of the keys that all of them read together."""
    row = attention(pis.Workload.prefill(1, 8, causal=False), 4)
    assert float(row["mac_fraction"]) == pytest.approx(4 / 8)
    whole = attention(pis.Workload.prefill(1, 8, causal=False), np.inf)
    assert float(whole["mac_fraction"]) == 1.0


def test_layers_with_and_without_a_window_are_rows_of_their_own():
    """Gemma 2: every other layer looks 4096 tokens back, so that 4096 keys are the last at which both are alike."""
    model = pis.models.get("gemma-2-9b")
    for context, equal in ((4096, True), (4097, False)):
        both = rows(pis.trace(model, pis.Workload.decode(1, context)), "attention")
        assert both.count.tolist() == [21.0, 21.0]
        assert set(both.layers[0]) | set(both.layers[1]) == set(range(42))
        assert bool(both.n[0] == both.n[1]) == equal


@pytest.mark.parametrize("name", ["gemma-2-2b", "gemma-3-4b", "llama-3.1-8b", "qwen3-4b"])
@pytest.mark.parametrize("work", [pis.Workload.decode(8, 6000), pis.Workload.prefill(2, 5000)], ids=["decode", "pre"])
def test_a_model_told_layer_by_layer_is_the_same_model(name, work):
    """Two makers of rows, one for plain sizes and one for layers that may differ, name and count the same work."""
    model = pis.models.get(name)
    layers = tuple(
        Layer(
            mixer=Attention(
                heads=model.num_heads, kv_heads=model.num_kv_heads, head_dim=model.head_dim, qk_norm=model.qk_norm,
                window=model.sliding_window if local and model.sliding_window else None,
            ),
            ffn=MLP(inter=model.intermediate_size),
            norms=model.norms_per_layer,
        )
        for local in model.window_layers
    )  # fmt: skip
    told = model.clone("told", layers=layers)
    assert told.parameters == model.parameters

    def work_of(ops: pis.OpTrace) -> dict[str, tuple[float, float, float]]:
        parts = {role: rows(ops, role) for role in ops.name}
        return {
            role: tuple(float((each * part.count).sum()) for each in (part.flops, part.traffic, part.launches))
            for role, part in parts.items()
        }

    assert work_of(pis.trace(told, work)) == work_of(pis.trace(model, work))
