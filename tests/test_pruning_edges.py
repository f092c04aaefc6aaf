"""Methods at their edges: what leaves a block alone, one token that is left, labels for the next method, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from cases import rows

import pruninfersim as pis
from pruninfersim.errors import FileFormatError, PruninfersimError
from pruninfersim.pruning.tables import read_ratios
from pruninfersim.trace.applied import layer_weights

PREFILL = pis.trace("llama-3.1-8b", pis.Workload.prefill(2, 512))
DECODE = pis.trace("llama-3.1-8b", pis.Workload.decode(batch=4, context=2048))
NUMBERS = ("m", "n", "k", "count", "mac_fraction", "a_reads", "b_reads", "out_writes", "kept")


@pytest.mark.parametrize("trace", [PREFILL, DECODE], ids=["prefill", "decode"])
@pytest.mark.parametrize(("block", "other"), [("mlp", "attention"), ("attention", "mlp")])
@pytest.mark.parametrize("kv", ["kept", "skipped"])
def test_tokens_that_skip_a_block_do_all_of_the_other(trace, block, other, kv):
    pruned = trace.prune(pis.pruning.DynamicDepth(0.5, blocks=(block,), kv=kv))
    for name in trace.select(trace.mask(blocks=[other, "embedding", "head"])).name:
        assert rows(pruned, name).kernel == rows(trace, name).kernel
        for column in NUMBERS:
            np.testing.assert_array_equal(getattr(rows(pruned, name), column), getattr(rows(trace, name), column))


def test_norms_see_all_tokens_also_where_keys_are_skipped():
    """Whether a token skips is known after the norm: of the attention block, those that are kept are packed."""
    pruned = PREFILL.prune(pis.pruning.DynamicDepth(0.5, kv="skipped"))
    for name, share in (("attn_norm", 1.0), ("rope", 1.0), ("kv_append", 0.5)):
        assert float(rows(pruned, name).a_traffic[0]) == share * float(rows(PREFILL, name).a_traffic[0])


def test_a_router_reads_the_width_that_a_later_method_leaves():
    pruned = DECODE.prune(pis.pruning.DynamicDepth(0.5), pis.pruning.StaticWidthCross(0.5))
    for block in ("attention", "mlp"):
        assert float(rows(pruned, f"router_{block}_a").k[0]) == 2048.0
        assert float(rows(pruned, f"router_{block}_b").k[0]) == float(rows(pruned, f"router_{block}_a").n[0])


@pytest.mark.parametrize("merged", [100.0, 511.0, 1e6])
def test_one_token_is_left_however_many_merge(merged):
    """After the first layer of 512 tokens 412, then one; logits of every token are those of what is left."""
    trace = pis.trace("llama-3.1-8b", pis.Workload.prefill(2, 512, logits="all"))
    pruned = trace.prune(pis.pruning.TokenMerging(merged=merged))
    left = np.maximum(512.0 - merged * np.arange(33), 1.0)
    ups = rows(pruned, "up")
    assert [layers[0] for layers in ups.layers] == list(range(32))
    np.testing.assert_allclose(ups.m, 2 * left[1:])
    np.testing.assert_allclose(rows(pruned, "q").m, 2 * left[:-1])
    assert float(rows(pruned, "lm_head").m[0]) == 2 * left[-1]
    np.testing.assert_allclose(pruned.applied[0].achieved["mlp"], np.mean(1.0 - left[1:] / 512.0))


def test_merging_leaves_the_head_of_the_last_token_alone():
    assert float(rows(PREFILL.prune(pis.pruning.TokenMerging(merged=8)), "lm_head").m[0]) == 2.0


def test_prefill_selection_adds_the_choice_of_keys_to_each_attention():
    pruned = PREFILL.prune(pis.pruning.PrefillSelection(0.5))
    assert set(pruned.name) > set(PREFILL.name)
    assert DECODE.prune(pis.pruning.PrefillSelection(0.5)).name == DECODE.name


@pytest.mark.parametrize("sparsity", [0.25, 0.5])
def test_a_prompt_alone_skips_its_last_layers(sparsity):
    """A decode step runs all of them; of a prompt its share of 32 layers is gone in both blocks."""
    method = pis.pruning.PrefillDepth(sparsity)
    assert DECODE.prune(method).applied[0].achieved == {"attention": 0.0, "mlp": 0.0}
    assert PREFILL.prune(method).applied[0].achieved == {"attention": sparsity, "mlp": sparsity}


def test_a_prompt_of_a_mixture_reads_the_experts_of_its_last_tokens():
    """In the last layers two tokens are left, and read the experts that a decode step of two sequences reads."""
    work = pis.Workload.prefill(2, 512)
    pruned = pis.trace("mixtral-8x7b", work).prune(pis.pruning.PrefillDepth(0.5))
    step = rows(pis.trace("mixtral-8x7b", pis.Workload.decode(batch=2, context=512)), "experts")
    last = pruned.select([i for i, name in enumerate(pruned.name) if name == "experts" and 31 in pruned.layers[i]])
    assert len(last) == 1
    for column in ("m", "b_reads"):
        assert float(getattr(last, column)[0]) == pytest.approx(float(getattr(step, column)[0]), rel=1e-12)


@pytest.mark.parametrize("format", ["bitmap", "csr", "delta", "dense"])
def test_the_share_of_zeros_weighs_each_layer_by_its_weights(format):
    """Gemma 3 has layers of two kinds, 5 to 1; gate, up and down of all layers are alike, and so is a role's share."""
    trace = pis.trace("gemma-3-27b", pis.Workload.decode())
    ratio = pis.pruning.PerRole(q=0.75, gate=0.5)
    achieved = trace.prune(pis.pruning.Unstructured(ratio, format=format)).applied[0].achieved
    weights = layer_weights(trace)
    for block, role, share in (("attention", "q", 0.75), ("mlp", "gate", 0.5)):
        whole = weights[trace.mask(blocks=[block])].sum()
        part = weights[[own == role for own in trace.name]].sum()
        assert float(achieved[block]) == pytest.approx(share * part / whole, rel=1e-12)


@pytest.mark.parametrize("shared", [2, 4, 8])
def test_a_shared_first_factor_is_as_many_runs_as_a_whole_one(shared):
    """Each layer multiplies with both factors; one layer of each group stores the first, the others read it again."""
    pruned = DECODE.prune(pis.pruning.LowRank(0.5, shared=shared))
    for role in ("q", "k", "v", "gate", "up"):
        first = [i for i, own in enumerate(pruned.roles) if own == role and pruned.n_axis[i] == "rank"]
        stored = [i for i in first if pruned.kernel[i] == "gemm"]
        assert float(pruned.count[first].sum()) == pytest.approx(32.0)
        assert float(pruned.count[stored].sum()) == pytest.approx(32.0 / shared)


def test_patterns_in_memory_need_no_sparse_tensor_cores():
    """A V100 has no peak for 2:4, which patterns on windows run on."""
    work = pis.Workload.decode()
    setup = pis.Setup("llama-3.1-8b", "v100-sxm-32gb", "ideal", dtype="fp16")
    assert setup.speedup(pis.pruning.NOfM(kept=2, of=8, backend="memory"), work).estimated > 1.0
    with pytest.raises(PruninfersimError, match="2:4"):
        setup.speedup(pis.pruning.NOfM(kept=2, of=8), work)


def test_what_a_pattern_needs_is_what_its_backend_runs_on():
    """Windows run on sparse tensor cores, as 2:4 itself does; memory runs on any."""
    assert pis.pruning.NOfM(backend="windows").needs == pis.pruning.SemiStructured(0.5).needs != ""
    assert pis.pruning.NOfM(backend="memory").needs == ""


@pytest.mark.parametrize(("kept", "of", "wider"), [(6, 8, 1.5), (5, 8, 1.25), (2, 4, 1.0), (2, 8, 1.0), (1, 16, 1.0)])
def test_activations_are_spread_out_for_dense_patterns_only(kept, of, wider):
    """K' = 2 kept / of x K of denser patterns than 2:4; sparser ones gather from all of K as they load."""
    pruned = PREFILL.prune(pis.pruning.NOfM(kept=kept, of=of))
    for name in ("q", "up", "down"):
        assert float(rows(pruned, name).a_traffic[0]) == pytest.approx(wider * float(rows(PREFILL, name).a_traffic[0]))


@pytest.mark.parametrize(("trace", "phase"), [(PREFILL, "prefill"), (DECODE, "decode")])
@pytest.mark.parametrize("method", [pis.pruning.DynamicWidth(0.5), pis.pruning.DynamicDepth(0.5)])
def test_attention_of_some_queries_stays_that_of_its_phase(trace, phase, method):
    """A prompt reads every key whichever query is kept; a step of one query reads those that it needs."""
    attention = rows(trace.prune(method), "attention")
    assert attention.kernel == (f"token_attention_{phase}",)
    assert (float(attention.b_reads.max()) == 1.0) == (phase == "prefill")


@pytest.mark.parametrize("prefix", [0, 1536])
def test_merging_halves_what_is_new_and_not_what_is_cached(prefix):
    trace = pis.trace("llama-3.1-8b", pis.Workload.prefill(1, 512, prefix=prefix))
    ups = rows(trace.prune(pis.pruning.TokenMerging(0.5)), "up")
    assert float(ups.m[-1]) == 256.0


def test_zeros_weigh_as_often_as_a_layer_runs():
    """q three times as often: 3/4 of its zeros count three times."""
    often = DECODE.with_columns(count=DECODE.count * np.where(DECODE.mask(names=["q"]), 3.0, 1.0))
    achieved = often.prune(pis.pruning.Unstructured(pis.pruning.PerRole(q=0.75))).applied[0].achieved
    assert float(achieved["attention"]) == pytest.approx(0.75 * 3 * 4096 / (3 * 4096 + 4096 + 2 * 1024), rel=1e-12)


@pytest.mark.parametrize("column", ["ratio", "sparsity", "pruning_ratio"])
def test_names_of_the_one_ratio_of_a_layer(tmp_path, column):
    (tmp_path / "ratios.csv").write_text(f"layer,{column}\n0,0.25\n1,0.5\n")
    assert np.asarray(read_ratios(tmp_path / "ratios.csv").values).tolist() == [0.25, 0.5]


REFUSED = {
    "index_heads": (lambda: pis.pruning.KVSelection(0.5, index_heads=-1), "index_heads must be .*; got -1"),
    "vocabulary": (lambda: pis.pruning.Vocabulary(size=1000.5), "size must be a whole number.*; got 1000.5"),
    "layers": (lambda: pis.pruning.StaticDepth(layers=(1, 2.5)), "layers must be a whole number.*; got 2.5"),
    "unit": (lambda: pis.pruning.StaticDepth(0.5, unit="block"), "unknown unit .block.. Known: layer, sublayer"),
    "kv of an exit": (
        lambda: pis.pruning.EarlyExit(0.5, kv="filed"),
        "unknown kv .filed.. Did you mean .filled.",
    ),
    "tokens": (lambda: pis.pruning.TokenPruning(1.0), "sparsity must be .*; got 1"),
    "merged tokens": (lambda: pis.pruning.TokenMerging(1.0), "sparsity must be .*; got 1"),
    "pattern": (lambda: pis.pruning.NOfM(0.8), "sparsity must be .*2:8 keeps 2 of 8 weights"),
    "heads of a layer": (
        lambda: DECODE.prune(pis.pruning.LayerChoices(("keep",) * 31 + (16,), ("keep",) * 32)),
        "KV heads of the table is above the 8 of the model",
    ),
    "kept columns": (lambda: pis.pruning.low_rank_rank(64, 64, 0.5, columns=-1), "columns must be .*; got -1"),
    "fused": (lambda: PREFILL.fuse_projections().prune(pis.pruning.PrefillDepth(0.5)), "not fused yet; this trace has"),
    "state": (
        lambda: pis.trace("deepseek-v2-lite", pis.Workload.prefill(1, 512)).prune(pis.pruning.PrefillDepth(0.5)),
        "needs layers with a cache of keys and values",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_names_the_option_and_what_is_allowed(case):
    ask, says = REFUSED[case]
    with pytest.raises(PruninfersimError, match=f"(?is){says}"):
        ask()


@pytest.mark.parametrize("ratio", ["1.0", "1.5", "-0.1", "1" + "0" * 400])
def test_a_table_holds_fractions_that_go(tmp_path, ratio):
    (tmp_path / "ratios.csv").write_text(f"layer,sparsity\n0,{ratio}\n")
    with pytest.raises(FileFormatError, match=r"a ratio is a fraction removed in \[0, 1\)"):
        read_ratios(tmp_path / "ratios.csv")


def test_a_number_too_long_for_a_float_is_no_number(tmp_path):
    (tmp_path / "ratios.json").write_text('{"0": 1' + 400 * "0" + "}")
    with pytest.raises(FileFormatError):
        read_ratios(tmp_path / "ratios.json")
