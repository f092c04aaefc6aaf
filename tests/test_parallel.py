"""Tensor and expert parallelism: what a rank holds, what crosses the link, what pruning does to both."""

from __future__ import annotations

import numpy as np
import pytest

import pruninfersim as pis
from pruninfersim.cost.memory import kv_memory, weight_memory
from pruninfersim.cost.sharding import shard
from pruninfersim.errors import InvalidInputError
from pruninfersim.models import ModelConfig
from tests.test_models_read import DEEPSEEK_V3, FALCON, LLAMA, MIXTRAL

DECODE = pis.Workload.decode(batch=8, context=2048)


def reduces(trace):
    return trace.select(trace.mask(kernels=["all_reduce"]))


@pytest.mark.parametrize("tp", [2, 4, 8])
@pytest.mark.parametrize("keys", [LLAMA, MIXTRAL])
def test_the_ranks_hold_the_model_once(keys, tp):
    dense = pis.trace(ModelConfig.from_hf(keys), DECODE)
    rank = shard(dense, tp)
    router = 32 * 4096 * 8 * 2 if "num_local_experts" in keys else 0  # on every rank
    # Megatron-LM, section 3: the embedding is split along the vocabulary like the head, hence its all-reduce.
    assert float(weight_memory(rank)) == pytest.approx((float(weight_memory(dense)) - router) / tp + router)
    assert float(kv_memory(rank)) == pytest.approx(float(kv_memory(dense)) / tp)  # 8 KV heads, up to 8 ranks
    work = [(t.flops * t.count)[~t.mask(kernels=["router"])].sum() for t in (dense, rank)]
    assert work[1] == pytest.approx(work[0] / tp)


def test_kv_heads_are_replicated_beyond_their_number():
    rank = shard(pis.trace(ModelConfig.from_hf(LLAMA), DECODE), 16)
    row = rank.select(rank.mask(names=["attention"]))
    assert float(row.batch[0] / row.sequences[0]) == 2.0
    assert float(row.b_batch[0] / row.sequences[0]) == 1.0
    assert float(rank.n[rank.mask(names=["k"])][0]) == 128.0


def test_the_latent_cache_is_on_every_rank():
    dense = pis.trace(ModelConfig.from_hf(DEEPSEEK_V3), DECODE)
    assert float(kv_memory(shard(dense, 8))) == float(kv_memory(dense))


def test_all_reduces_of_a_layer():
    """Two per layer and one after the embedding, of tokens x hidden x 2 bytes; one where blocks are parallel."""
    ops = reduces(shard(pis.trace(ModelConfig.from_hf(LLAMA), DECODE), 4))
    assert float(ops.count.sum()) == 2 * 32 + 1
    assert (ops.wire == 8 * 4096 * 2).all()
    ops = reduces(shard(pis.trace(ModelConfig.from_hf(MIXTRAL), DECODE), 4))
    assert float(ops.count.sum()) == 2 * 32 + 1
    assert (ops.wire == 8 * 4096 * 2).all()
    assert float(reduces(shard(pis.trace(ModelConfig.from_hf(FALCON), DECODE), 2)).count.sum()) == 32 + 1


def test_pruning_and_parallelism():
    dense = pis.trace(ModelConfig.from_hf(LLAMA), DECODE)
    removed = reduces(shard(dense.prune(pis.pruning.StaticDepth(attention_layers=tuple(range(12)))), 4))
    assert float(removed.count.sum()) == 2 * 32 - 12 + 1
    narrow = shard(dense.prune(pis.pruning.StaticWidth(0.5)), 4)
    assert float(narrow.n[narrow.mask(names=["up"])][0]) == 14336 / 2 / 4
    assert float(reduces(narrow).count.sum()) == 2 * 32 + 1


def test_experts_are_spread_over_their_groups():
    dense = pis.trace(ModelConfig.from_hf(MIXTRAL), DECODE)
    for ep in (1, 2, 8):
        row = shard(dense, 8, ep)
        row = row.select(row.mask(kernels=["moe"]))
        assert float(row.b_batch[0]) == 8 / ep
        assert float(row.n[0]) == 14336 * ep / 8


def test_a_step_waits_for_the_most_loaded_group():
    """Counting draws of tokens that choose 8 of 128 experts: tokens and experts of the busiest of 8 groups."""
    rng = np.random.default_rng(0)
    for batch in (4, 16, 64):
        chosen = rng.permuted(np.tile(np.arange(128), (300, batch, 1)), axis=-1)[..., :8].reshape(300, -1)
        counts = np.array([np.bincount(experts, minlength=128).reshape(8, 16) for experts in chosen])
        busiest = np.take_along_axis(counts, counts.sum(axis=-1).argmax(axis=-1)[:, None, None], axis=1)
        whole = pis.trace("qwen3-30b-a3b", pis.Workload.decode(batch=batch))
        row = [ops.select(ops.mask(kernels=["moe"])) for ops in (whole, shard(whole, 8, 8))]
        assert float(row[1].m[0] / row[0].m[0]) == pytest.approx(busiest.sum(axis=-1).mean() / batch, rel=0.04)
        assert float(row[1].b_reads[0]) == pytest.approx((busiest > 0).mean(), rel=0.04)
    even = shard(pis.trace("qwen3-30b-a3b", pis.Workload.decode(batch=64, routing="balanced")), 8, 8)
    assert float(even.m[even.mask(kernels=["moe"])][0]) == float(row[0].m[0]) == 4.0


@pytest.mark.parametrize("routing", ["uniform", "balanced", "power_law_1.01", "power_law_1.2"])
def test_experts_of_a_step_are_those_of_the_kernel_alone(routing):
    shape = {"hidden": 2048, "inter": 768, "experts": 128, "top_k": 8, "hardware": "h100-sxm"}
    for tp, ep in ((1, 1), (4, 1), (8, 8)):
        setup = pis.Setup("qwen3-30b-a3b", "h100-sxm", tp=tp, ep=ep)
        step = setup.estimate(pis.Workload.decode(batch=[1, 16, 256], routing=routing))
        found = step.seconds[..., step.trace.mask(kernels=["moe"])][:, 0] / 48
        alone = pis.moe_latency(tokens=[1, 16, 256], tp=tp // ep, ep=ep, routing=routing, **shape)
        assert found == pytest.approx(alone, rel=1e-9)


def test_speed_and_limits():
    one, four = (pis.Setup("llama-3.1-70b", "h100-sxm", tp=tp).estimate(DECODE) for tp in (1, 4))
    assert 2.5 < float(one.latency) / float(four.latency) < 4.0
    assert any("does not fit" in note for note in one.notes)
    assert not any("does not fit" in note for note in four.notes)
    assert shard(four.trace, 4) is four.trace
    for wrong in ({"tp": 0}, {"tp": 4, "ep": 3}, {"tp": 2.5}, {"ep": 2}):
        with pytest.raises(InvalidInputError, match=r"tp|ep"):
            pis.Setup("llama-3.1-8b", "h100-sxm", **wrong)


def test_sweeps_shard_as_points_do():
    many = shard(pis.trace("llama-3.1-8b", pis.Workload.decode(batch=[1, 8, 64], context=512)), 4)
    one = shard(pis.trace("llama-3.1-8b", pis.Workload.decode(batch=8, context=512)), 4)
    assert np.allclose(np.broadcast_to(many.traffic, many.shape)[1], one.traffic)


def test_two_checkpoints():
    blocks = [{"attention": {"no_op": i < 12}, "ffn": {}} for i in range(32)]
    pruned = ModelConfig.from_hf({**LLAMA, "block_configs": blocks}, name="puzzle")
    result = pis.compare("llama-3.1-8b", pruned, hardware="h100-sxm", workload=DECODE)
    method = pis.pruning.StaticDepth(attention_layers=tuple(range(12)))
    same = pis.Setup("llama-3.1-8b", "h100-sxm").speedup(method, DECODE)
    assert result.estimated == pytest.approx(same.estimated, rel=1e-9)
    assert result.claim == pytest.approx(same.claim, rel=1e-9)
    why = pis.explain(result)
    assert float(why.to_frame()["total_seconds"].iloc[-1]) == pytest.approx(float(result.pruned.latency), rel=1e-6)
    by_words = pis.compare("llama-3.1-8b", pruned, hardware="h100-sxm", phase="prefill", context=512)
    assert by_words.workload.phase == "prefill"
    with pytest.raises(InvalidInputError, match="leave one of the two out"):
        pis.compare("llama-3.1-8b", pruned, hardware="h100-sxm", workload=DECODE, batch=2)
    with pytest.raises(InvalidInputError, match="more weights"):
        pis.compare(pruned, "llama-3.1-8b", hardware="h100-sxm", workload=DECODE)
