"""Cost at its edges: columns of a long sweep, contexts that a model does not have, ranks that exchange halves."""

from __future__ import annotations

import numpy as np
import pytest
from cases import IGNORE_PROVENANCE

import pruninfersim as pis
from pruninfersim.cost.sharding import shard
from pruninfersim.errors import InvalidInputError

pytestmark = IGNORE_PROVENANCE
GPU = pis.hardware.get("h100-sxm")


@pytest.mark.parametrize("stack", ["ideal", "vendor", "paper", "vllm", "transformers"])
@pytest.mark.parametrize("method", [None, "low-rank", "dynamic-depth"])
def test_columns_of_a_sweep_are_those_of_its_points(stack, method):
    """Times, waits, rooflines, least times: at 35 points, where ops of one shape are priced once, as at each alone."""
    batch, context = np.array([1, 2, 3, 16, 100])[:, None], np.array([1, 128, 129, 1000, 4096, 8192, 50_000])
    setup = pis.Setup("llama-3.1-8b", GPU, stack)

    def step(batch, context) -> pis.Estimate:
        trace = setup.trace(pis.Workload.decode(batch=batch, context=context))
        return setup.estimate(trace if method is None else trace.prune(pis.pruning.get(method, 0.5)))

    swept = step(batch, context)
    for i, j in ((0, 0), (1, 3), (3, 6), (4, 2), (4, 6)):
        one = step(batch[i, 0], context[j])
        for name in ("run", "gap", "floor", "limit", "widening"):
            column = np.broadcast_to(getattr(swept, name), swept.trace.shape)[i, j]
            np.testing.assert_allclose(column, np.broadcast_to(getattr(one, name), one.trace.shape), rtol=1e-12)


@pytest.mark.parametrize("context", [131_073, [1024, 200_000], [[200_000], [1024]]])
def test_one_point_beyond_the_positions_of_a_model_is_said(context):
    longest = int(np.max(context))
    found = pis.Setup("llama-3.1-8b", GPU, "ideal").estimate(pis.Workload.decode(batch=1, context=context))
    assert any(f"a context of {longest} tokens is beyond the 131072 positions" in note for note in found.notes)
    within = pis.Setup("llama-3.1-8b", GPU, "ideal").estimate(pis.Workload.decode(batch=1, context=[1024, 131_072]))
    assert not any("positions" in note for note in within.notes)


@pytest.mark.parametrize("name", ["tp", "ep"])
@pytest.mark.parametrize("value", [0, -2, 1.5, True, "2"])
def test_ranks_are_a_positive_whole_number(name, value):
    with pytest.raises(InvalidInputError, match=f"{name} must be a positive whole number of GPUs"):
        shard(pis.trace("llama-3.1-8b", pis.Workload.decode()), **{"tp": 2, name: value})


def test_a_stack_that_prices_any_kernel_lists_it_last():
    made = pis.stacks.get("ideal", GPU)
    assert made.default is not None
    assert made.table()[-1][:2] == ("any other", type(made.default.model).__name__)


@pytest.mark.parametrize("tp", [2, 4])
def test_ranks_exchange_the_products_of_first_halves(tp):
    """A ring passes sums around twice and parts once: half of an all-reduce as wide as the ranks of one input."""
    pruned = pis.trace("llama-3.1-8b", pis.Workload.decode(batch=8)).prune(pis.pruning.LowRank(0.5))
    width = {name[:-2]: float(n) for name, n in zip(pruned.name, pruned.n, strict=True) if name.endswith("_a")}
    rank = shard(pruned, tp=tp)
    found = [float(n) for name, n in zip(rank.name, rank.n, strict=True) if name == "rank_exchange"]
    inputs = (("q", "k", "v"), ("o",), ("gate", "up"), ("down",))
    assert found == [sum(width[role] for role in roles) / 2.0 for roles in inputs]
