"""Methods beyond the seven families in every place that takes a method, and what they do to memory."""

from __future__ import annotations

import numpy as np
import pytest
from cases import IGNORE_PROVENANCE, rows, total

import pruninfersim as pis
from pruninfersim import pruning
from pruninfersim.cost.memory import kv_memory, weight_memory
from pruninfersim.errors import InvalidInputError, UnknownNameError

pytestmark = IGNORE_PROVENANCE

MODEL = "llama-3.1-8b"
STEP = pis.Workload.decode(8, 4096)
#: A model that a method has something to prune in, where that is not any.
OTHER = {"expert-pruning": "qwen3-30b-a3b"}
OBJECTS = [pruning.NOfM(kept=6, of=8), pruning.LayerChoices(mlp=(7168, "none") * 16)]


def dense(workload=STEP, model=MODEL):
    return pis.trace(model, workload)


@pytest.mark.parametrize("stack", ["vendor", "fused-dynamic", "ideal"])
@pytest.mark.parametrize("name", pruning.MORE)
def test_every_question_by_name(name, stack):
    model = OTHER.get(name, MODEL)
    case = {"model": model, "hardware": "h100-sxm", "stack": stack}
    result = pis.speedup(**case, method=name, sparsity=0.5, phase="decode", batch=8, context=4096)
    assert result.method == name
    assert sum(pis.explain(result).steps.values()) == pytest.approx(result.pruned.latency, rel=1e-12)
    assert result.bound >= result.estimated
    grid = pis.sweep(
        models=model, hardware="h100-sxm", stacks=stack, methods=[name], sparsity=[0.25, 0.5],
        workloads=pis.Workload.decode(np.array([[1], [8]]), np.array([1024, 4096])),
    )  # fmt: skip
    assert len(grid) == 8
    at = grid[(grid["sparsity"] == 0.5) & (grid["batch"] == 8) & (grid["context"] == 4096)]
    assert float(at["estimated_speedup"].iloc[0]) == pytest.approx(float(result.estimated), rel=1e-9)


@pytest.mark.parametrize("method", [*pruning.MORE, *OBJECTS], ids=lambda m: m if isinstance(m, str) else m.name)
def test_a_report_shows_it(method):
    page = pis.report.html_report(
        model=OTHER.get(method, MODEL),
        hardware="h100-sxm",
        stack="ideal",
        methods=[method],
        sparsity=0.5,
        workloads=STEP,
    )
    assert (method if isinstance(method, str) else method.name) in page


def test_all_are_seven_and_every_is_every():
    assert len(pruning.names()) == 7
    assert set(pruning.names(every=True)) == set(pruning.METHODS) | set(pruning.MORE) == set(pruning.EVERY)


def test_memory_goes_where_the_method_says():
    weights, cache = weight_memory(dense()), kv_memory(dense())

    def after(method):
        pruned = dense().prune(method)
        return float(weight_memory(pruned) / weights), float(kv_memory(pruned) / cache)

    assert after(pruning.KVEviction(0.75)) == (1.0, 0.25)
    assert after(pruning.KVEviction(budget=1024)) == (1.0, 0.25)
    assert after(pruning.KVEviction(budget=1024, head_share=0.5)) == (1.0, 0.625)
    for stored in (pruning.KVSelection(0.9), pruning.ActivationSparsity(0.5), pruning.EarlyExit(0.5)):
        assert after(stored) == (1.0, 1.0), stored.name
    assert after(pruning.StaticWidth(0.5, heads="query"))[1] == 1.0
    assert after(pruning.DynamicDepth(0.5, router="none", kv="skipped"))[1] == 0.5
    linear = 6979321856 * 2
    assert float(weights) * (1 - after(pruning.Unstructured(0.5))[0]) == pytest.approx(linear * (0.5 - 1 / 16))
    assert float(weights) * (1 - after(pruning.NOfM(kept=1, of=4))[0]) == pytest.approx(
        linear * (1 - 0.5 * (1.125 + 1 / 64) / 2)
    )


def test_merging_halves_the_work_of_the_published_encoder():
    """ViT-L with 197 tokens, 8 of which merge in a layer: 61.6 and 31.0 billion MACs (arXiv 2210.09461)."""
    sizes = {
        "model_type": "opt", "hidden_size": 1024, "ffn_dim": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
        "vocab_size": 16, "max_position_embeddings": 256,
    }  # fmt: skip
    image = pis.trace(pis.ModelConfig.from_hf(sizes, name="vit-l"), pis.Workload.prefill(tokens=197, causal=False))
    patches = 196 * 16 * 16 * 3 * 1024
    for one, published in ((image, 61.6), (image.prune(pruning.TokenMerging(merged=8)), 31.0)):
        layers = one.select(one.mask(names=["q", "k", "v", "attention", "o", "up", "down"]))
        assert (float(total(layers, "flops")) / 2 + patches) / 1e9 == pytest.approx(published, abs=0.06)


def test_merging_of_a_share_ends_where_it_says():
    pruned = dense(pis.Workload.prefill(2, 1024)).prune(pruning.TokenMerging(0.5, layer=16))
    assert rows(pruned, "down").m[-1] == 2 * 512
    assert rows(pruned, "final_norm").m[0] == 2 * 512
    with pytest.raises(InvalidInputError, match="not both"):
        pruning.TokenMerging(0.5, merged=8)


def test_a_prompt_that_skips_the_last_layers_leaves_a_whole_cache():
    """Keys and values of all layers are there, and the last token has gone through all of them."""
    whole = dense(pis.Workload.prefill(2, 1024))
    pruned = whole.prune(pruning.PrefillDepth(0.5))
    for name in ("k", "v", "kv_append"):
        sides = [float((rows(t, name).m * rows(t, name).count).sum()) for t in (whole, pruned)]
        assert sides[0] == sides[1], name
    up = rows(pruned, "up")
    assert float((up.m * up.count).sum()) == 16 * 2 * 1024 + 16 * 2
    step = dense(pis.Workload.decode(2, 1024)).prune(pruning.PrefillDepth(0.5))
    assert float(total(step, "flops")) == float(total(dense(pis.Workload.decode(2, 1024)), "flops"))


def test_a_budget_is_no_sparsity():
    contexts = pis.Workload.decode(1, np.array([1024, 2048, 32768]))
    pruned = dense(contexts).prune(pruning.KVEviction(budget=1024))
    assert pruned.applied[0].asked.tolist() == [0.0, 0.5, 1 - 1024 / 32768]
    for both in (pruning.KVEviction, pruning.KVSelection):
        with pytest.raises(InvalidInputError, match="not both"):
            both(0.5, budget=100)


def test_the_union_over_a_batch_kills_activation_sparsity():
    setup = pis.Setup(MODEL, "h100-sxm")
    speeds = setup.speedup(pruning.ActivationSparsity(0.5), pis.Workload.decode(np.array([1, 2, 8]), 512)).estimated
    assert speeds[0] > 1.4
    assert speeds[0] > speeds[1] > speeds[2]
    assert speeds[2] == pytest.approx(1.0, abs=0.01)


def test_zeros_without_a_kernel_gain_nothing():
    for workload in (STEP, pis.Workload.prefill(1, 2048)):
        result = pis.Setup(MODEL, "h100-sxm").speedup(pruning.Unstructured(0.5, "dense"), workload)
        assert float(result.estimated) == 1.0


def test_unstructured_breaks_even_where_its_bytes_do():
    for form, at in (("bitmap", 1 / 16), ("delta", 0.2), ("csr", 0.5)):
        less, more = (total(dense().prune(pruning.Unstructured(at + step, form)), "traffic") for step in (-0.01, 0.01))
        assert more < total(dense(), "traffic") < less


def test_a_stack_without_the_kernel_says_which():
    for method, key in ((pruning.Unstructured(0.5), "gemm_unstructured"), (pruning.DynamicWidth(0.5), "group_gemm")):
        with pytest.raises(UnknownNameError, match=f"has no kernel for .*{key}"):
            pis.Setup(MODEL, "rtx-pro-6000", "paper").speedup(method, STEP)


def test_scoring_can_cost_more_than_it_saves():
    """Up to its budget of keys a step chooses for nothing; at a long context it pays."""
    speeds = pis.Setup(MODEL, "h100-sxm").speedup(
        pruning.KVSelection(budget=1024), pis.Workload.decode(16, np.array([512, 65536]))
    )
    assert speeds.estimated[0] < 1.0 < 1.5 < speeds.estimated[1]


def test_patterns_as_windows_do_the_work_of_the_pattern():
    before = rows(dense(), "up")
    for kept, of in ((1, 4), (2, 8), (6, 8), (3, 4)):
        up = rows(dense().prune(pruning.NOfM(kept=kept, of=of)), "up")
        assert float(up.flops[0] / before.flops[0]) == pytest.approx(kept / of)


def test_tables_are_checked():
    with pytest.raises(InvalidInputError, match="one choice for mlp per layer, 32; got 3"):
        dense().prune(pruning.LayerChoices(mlp=("keep",) * 3))
    with pytest.raises(InvalidInputError, match="above the 14336"):
        dense().prune(pruning.LayerChoices(mlp=(20000,) * 32))
    with pytest.raises(InvalidInputError, match="5 KV heads of the table do not divide the 32 query heads of layer 1"):
        dense().prune(pruning.LayerChoices(attention=("keep", 5) * 16))
    with pytest.raises(InvalidInputError, match="a size above 0"):
        pruning.LayerChoices(attention=("gone",))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: pruning.Unstructured(0.5, "coo"), "bitmap"),
        (lambda: pruning.NOfM(kept=8, of=8), "fewer than all"),
        (lambda: pruning.NOfM(0.8, kept=2, of=8), "2:8 keeps 2 of 8"),
        (lambda: pruning.KVEviction(0.5, score="all"), "accumulated"),
        (lambda: pruning.PrefillSelection(0.5, estimator="magic"), "antidiagonal"),
        (lambda: pruning.DynamicDepth(0.5, blocks=("ffn",)), "mlp"),
        (lambda: pruning.StaticWidth(0.5, heads="kv"), "kv-groups"),
        (lambda: pruning.LowRank(0.5, rank=100), "not both"),
        (lambda: pruning.Vocabulary(0.5, size=100), "not both"),
        (lambda: dense().prune(pruning.EarlyExit(0.5, layer=32)), "layers 0 to 31"),
        (lambda: dense().prune(pruning.TokenPruning(0.5, layer=40)), "layers 0 to 31"),
    ],
)
def test_mistakes_are_told(make, match):
    with pytest.raises((InvalidInputError, UnknownNameError), match=match):
        make()
