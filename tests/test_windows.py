"""Keys that windows leave, by counting: sets of keys for what is read, and sums over queries for what is multiplied."""

from __future__ import annotations

import numpy as np
import pytest
from cases import rows

import pruninfersim as pis
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
