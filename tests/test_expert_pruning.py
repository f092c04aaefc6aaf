"""Fewer experts, or fewer per token: what each saves, in closed form."""

from __future__ import annotations

import pytest

import pruninfersim as pis
from pruninfersim.cost.memory import weight_memory
from pruninfersim.errors import InvalidInputError
from pruninfersim.pruning.experts import ExpertPruning


def read(trace):
    row = trace.select(trace.mask(kernels=["moe"]))
    return float((row.b_traffic * row.count).sum())


def test_dropping_saves_memory_and_at_one_token_nothing_else():
    one, many = (pis.trace("qwen3-30b-a3b", pis.Workload.decode(batch=b)) for b in (1, 4096))
    for dense, share in ((one, 1.0), (many, 0.5)):
        pruned = dense.prune(ExpertPruning(dropped=0.5))
        assert read(pruned) == pytest.approx(share * read(dense))
        experts = 48 * 128 * 3 * 2048 * 768 * 2
        router = 48 * 128 * 2048 * 2
        assert float(weight_memory(dense) - weight_memory(pruned)) == pytest.approx((experts + router) / 2)


def test_skipping_saves_weights_at_one_token_and_work_at_many():
    one, many = (pis.trace("qwen3-30b-a3b", pis.Workload.decode(batch=b)) for b in (1, 4096))
    assert read(one.prune(ExpertPruning(skipped=0.5))) == pytest.approx(0.5 * read(one))
    pruned = many.prune(ExpertPruning(skipped=0.5))
    assert read(pruned) == pytest.approx(read(many))
    work = [t.flops[t.mask(kernels=["moe"])].sum() for t in (many, pruned)]
    assert work[1] == pytest.approx(work[0] / 2)
    assert float(weight_memory(pruned)) == float(weight_memory(many))


def test_sparsities_are_sweep_axes_and_zero_changes_nothing():
    dense = pis.trace("mixtral-8x7b", pis.Workload.decode(batch=8))
    pruned = dense.prune(ExpertPruning(dropped=[0.0, 0.25, 0.5]))
    speed = pis.compare(dense, pruned, hardware="h100-sxm").estimated
    assert speed.shape == (3,)
    assert speed[0] == pytest.approx(1.0)
    assert speed[2] > speed[1] > 1.0


def test_mistakes():
    with pytest.raises(InvalidInputError, match="routed experts"):
        pis.trace("llama-3.1-8b", pis.Workload.decode()).prune(ExpertPruning(dropped=0.5))
    with pytest.raises(InvalidInputError, match="fewer experts than"):
        pis.trace("mixtral-8x7b", pis.Workload.decode()).prune(ExpertPruning(dropped=0.9))
    with pytest.raises(InvalidInputError, match="skipped"):
        ExpertPruning(skipped=1.0)
