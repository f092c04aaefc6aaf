"""Fewer experts, or fewer per token: what each saves, in closed form."""

from __future__ import annotations

import pytest
from cases import IGNORE_PROVENANCE

import pruninfersim as pis
from pruninfersim.cost.memory import weight_memory
from pruninfersim.errors import InvalidInputError
from pruninfersim.pruning import ExpertPruning

pytestmark = IGNORE_PROVENANCE


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


def test_it_has_a_name_where_there_are_experts():
    asked = {"hardware": "h100-sxm", "method": "expert-pruning", "sparsity": 0.5, "phase": "decode", "batch": 64}
    assert pis.speedup(model="qwen3-30b-a3b", **asked).estimated > 1.2
    with pytest.raises(InvalidInputError, match=r"such as qwen3-30b-a3b .* llama-3\.1-8b has none"):
        pis.speedup(model="llama-3.1-8b", **asked)
    for model, reason in (("llama-3.1-8b", "llama-3.1-8b has none of"), ("mixtral-8x7b", "")):
        assert pis.pruning.unfit(ExpertPruning, model=pis.models.get(model)).endswith(reason)
        assert bool(pis.pruning.unfit(ExpertPruning, model=pis.models.get(model))) == bool(reason)


@pytest.mark.parametrize(("dropped", "billions"), [(0.0, 480), (0.25, 363), (0.5, 246)])
def test_the_published_sizes_of_what_is_left(dropped, billions):
    """REAP (arXiv 2510.13999) published Qwen3-Coder-480B-A35B with fewer experts as 363B and 246B."""
    sizes = {
        "model_type": "qwen3_moe", "hidden_size": 6144, "intermediate_size": 8192, "moe_intermediate_size": 2560,
        "num_hidden_layers": 62, "num_attention_heads": 96, "num_key_value_heads": 8, "head_dim": 128,
        "num_experts": 160, "num_experts_per_tok": 8, "norm_topk_prob": True, "vocab_size": 151936,
        "max_position_embeddings": 262144, "tie_word_embeddings": False,
    }  # fmt: skip
    model = pis.ModelConfig.from_hf(sizes, name="qwen3-coder-480b-a35b")
    left = pis.trace(model, pis.Workload.decode()).prune(ExpertPruning(dropped))
    assert float(weight_memory(left)) / 2e9 == pytest.approx(billions, abs=0.5)


def test_mistakes():
    with pytest.raises(InvalidInputError, match="routed experts"):
        pis.trace("llama-3.1-8b", pis.Workload.decode()).prune(ExpertPruning(dropped=0.5))
    with pytest.raises(InvalidInputError, match="fewer experts than"):
        pis.trace("mixtral-8x7b", pis.Workload.decode()).prune(ExpertPruning(dropped=0.9))
    with pytest.raises(InvalidInputError, match="skipped"):
        ExpertPruning(skipped=1.0)


def test_a_small_batch_says_which_routing_its_time_assumes():
    """8 of 128 experts and 16 tokens: 1 - (1 - 1/16)^16 at random, all of them if each takes one pair of the 128."""
    setup = pis.Setup("qwen3-30b-a3b", "h100-sxm")
    for routing, share, ends in (
        ("uniform", 100 * (1 - (15 / 16) ** 16), ("power_law_1.2", "100 % (balanced)")),
        ("balanced", 100, ("power_law_1.2", "64 % (uniform)")),
    ):
        work = pis.Workload.decode(batch=[1, 16, 4096], routing=routing)
        note = next(note for note in setup.speedup("static-depth", 0.25, work).notes if note.startswith("routed"))
        assert note.startswith(f"routed experts: 16 tokens read {share:.0f} % of them under {routing} routing")
        assert all(end in note for end in ends)
    for batch in (1, 4096):  # one token reads its own experts under any routing, and thousands read all
        assert not any("routing" in note for note in setup.estimate(pis.Workload.decode(batch=batch)).notes)
