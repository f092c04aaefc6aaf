"""The dense trace against closed forms and published sizes."""

from __future__ import annotations

import numpy as np
import pytest
from cases import rows, total, workload

import pruninfersim as pis
from pruninfersim.errors import UnknownNameError
from pruninfersim.trace import LABELS, NEUTRAL

LAYER_WEIGHTS = 4096 * (4096 + 1024 + 1024 + 4096) + 3 * 4096 * 14336
HEAD_WEIGHTS = 4096 * 128256


def weights_read(trace: pis.OpTrace) -> float:
    return float(total(trace.select(trace.mask(kernels=["gemm", "lm_head"])), "b_traffic"))


# --- sizes that are published -----------------------------------------------------------------------------------------


def test_decode_reads_every_parameter_but_the_embedding_table():
    # 8.03e9 parameters (Llama 3 herd of models, arXiv 2407.21783) x 2 B, less the table of 128256 x 4096, less norms.
    read = weights_read(pis.trace("llama-3.1-8b", workload("decode", 1, 4096)))
    norms = (2 * 32 + 1) * 4096
    assert read == 2 * (8030261248 - HEAD_WEIGHTS - norms)
    assert read == pytest.approx(15.01e9, rel=1e-4)


@pytest.mark.parametrize(
    ("model", "billions"),
    [  # from the model cards: total parameters, and whether the head is the embedding table again
        ("llama-2-7b", 6.74), ("llama-3.1-70b", 70.55), ("qwen3-14b", 14.77), ("mistral-7b-v0.3", 7.25),
        ("gemma-2-9b", 9.24), ("llama-3.2-1b", 1.236), ("qwen2.5-7b", 7.62),
    ],
)  # fmt: skip
def test_weights_of_other_models(model, billions):
    config = pis.models.get(model)
    read = weights_read(pis.trace(config, workload("decode"))) / 2
    table = 0 if config.tie_embeddings else config.vocab_size * config.hidden_size
    assert (read + table) / 1e9 == pytest.approx(billions, rel=3e-3)  # norms and biases are the rest


def test_kv_read_per_step():
    step = rows(pis.trace("llama-3.1-8b", workload("decode", 16, 4096)), "attention")
    assert float(total(step, "b_traffic")) == 2 * 16 * 4096 * 8 * 128 * 2 * 32


def test_prefill_flops():
    tokens = 1024
    full = pis.trace("llama-3.1-8b", workload("prefill", 1, tokens, logits="all", causal=False))
    weights, pairs = 32 * LAYER_WEIGHTS + HEAD_WEIGHTS, 4 * 32 * 32 * 128 * tokens**2
    assert float(total(full, "flops")) == 2 * weights * tokens + pairs
    causal = pis.trace("llama-3.1-8b", workload("prefill", 1, tokens, logits="all"))
    assert float(total(full, "flops") - total(causal, "flops")) == pairs / 2


def test_decode_flops_per_token_are_twice_the_weights():
    step = pis.trace("llama-3.1-8b", workload("decode", 1, 1))
    weights = 32 * LAYER_WEIGHTS + HEAD_WEIGHTS
    assert float(total(step, "flops")) == 2 * weights + 4 * 32 * 32 * 128


def test_elementwise_bytes():
    trace, tokens = pis.trace("llama-3.1-8b", workload("prefill", 2, 512)), 1024
    moved = {  # elements moved per token: residual add with norm 4, SiLU with product 3, the others 2
        "attn_norm": 4 * 4096, "mlp_norm": 4 * 4096, "act": 3 * 14336, "rope": 2 * (4096 + 1024),
        "kv_append": 2 * 2 * 1024,
    }  # fmt: skip
    for name, elements in moved.items():
        assert float(total(rows(trace, name), "traffic")) == 32 * tokens * elements * 2, name
    assert float(total(rows(trace, "final_norm"), "traffic")) == tokens * 4 * 4096 * 2


# --- prompts in chunks, windows ---------------------------------------------------------------------------------------


def test_chunks_of_a_prompt_add_up():
    whole = pis.trace("llama-3.1-8b", workload("prefill", 1, 4096))
    chunks = pis.trace("llama-3.1-8b", pis.Workload.prefill(tokens=1024, prefix=[0, 1024, 2048, 3072]))
    assert total(rows(chunks, "attention"), "flops").sum() == pytest.approx(
        float(total(rows(whole, "attention"), "flops"))
    )


@pytest.mark.parametrize(
    ("model", "windowed", "full", "window"),
    [("gemma-2-9b", 21, 21, 4096), ("gemma-3-12b", 40, 8, 1024), ("mistral-7b-v0.1", 32, 0, 4096)],
)
def test_windowed_layers(model, windowed, full, window):
    config, context = pis.models.get(model), 10000
    attention = rows(pis.trace(model, workload("decode", 2, context)), "attention")
    by_keys = dict(zip(attention.n.tolist(), attention.count.tolist(), strict=True))
    assert by_keys == ({float(window): windowed} | ({float(context): full} if full else {}))
    read = 2 * 2 * config.num_kv_heads * config.head_dim * 2 * (windowed * window + full * context)
    assert float(total(attention, "b_traffic")) == read


@pytest.mark.parametrize("model", ["gemma-2-9b", "gemma-3-12b", "mistral-7b-v0.1"])
def test_windowed_prefill_flops(model):
    config, tokens = pis.models.get(model), 9000
    window, local = config.sliding_window, sum(config.window_layers)
    pairs_local = window**2 / 2 + (tokens - window) * window
    pairs = local * pairs_local + (config.num_layers - local) * tokens**2 / 2
    attention = rows(pis.trace(model, workload("prefill", 1, tokens)), "attention")
    assert float(total(attention, "flops")) == pytest.approx(4 * config.num_heads * config.head_dim * pairs, rel=1e-12)


@pytest.mark.parametrize("model", ["gemma-2-9b", "gemma-3-12b", "mistral-7b-v0.1"])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_a_window_wider_than_the_context_changes_nothing(model, phase):
    config = pis.models.get(model)
    plain = config.clone("no-window", sliding_window=None, window_pattern=())
    for context in (1, 100, config.sliding_window):
        ours, theirs = (pis.trace(m, workload(phase, 2, context)) for m in (config, plain))
        assert float(total(ours, "flops")) == pytest.approx(float(total(theirs, "flops")), rel=1e-12)


@pytest.mark.parametrize(
    ("model", "moved"),
    [
        # Residual and sub-layer in, sum and normed values out.
        ("llama-3.1-8b", {"attn_norm": 4, "mlp_norm": 4}),
        # Gemma norms what a sub-layer made; the next norm adds it.
        ("gemma-2-2b", {"attn_norm": 4, "post_attn_norm": 2, "mlp_norm": 4, "post_mlp_norm": 2}),
        # OLMo 2 norms what a sub-layer made and adds it; nobody norms the sum.
        ("olmo-2-7b", {"attn_norm": 3, "mlp_norm": 3}),
    ],
)
def test_elements_moved_by_norms(model, moved):
    ops = pis.trace(model, pis.Workload.prefill(1, 100))
    for name, elements in moved.items():
        row = ops.select(ops.mask(names=[name]))
        assert float(row.traffic[0]) == elements * 2 * 100 * ops.model.hidden_size


def test_norms_and_qk_norms_per_layer():
    assert rows(pis.trace("gemma-2-9b", workload("decode")), "post_attn_norm", "post_mlp_norm").count.tolist() == [
        42,
        42,
    ]
    assert len(rows(pis.trace("llama-3.1-8b", workload("decode")), "qk_norm", "post_attn_norm")) == 0
    qk = rows(pis.trace("qwen3-0.6b", workload("decode", 4)), "qk_norm")
    assert float(total(qk, "traffic")) == 28 * 4 * 2 * (16 + 8) * 128 * 2


# --- the container ----------------------------------------------------------------------------------------------------


def test_shapes_have_the_op_axis_last():
    sweep = pis.trace("llama-3.1-8b", workload("decode", np.array([1, 2, 4])[:, None], [128, 4096]))
    assert sweep.shape == (3, 2, len(sweep))
    for column in ("flops", "traffic", "a_traffic", "b_traffic", "out_traffic", "macs"):
        assert np.broadcast_shapes(getattr(sweep, column).shape, sweep.shape) == sweep.shape
    for column in NEUTRAL:
        assert getattr(sweep, column).shape[-1] == len(sweep)
    for label in LABELS:
        assert len(getattr(sweep, label)) == len(sweep)


def test_a_sweep_equals_its_points():
    batches, contexts = [1, 5, 64], [128, 5000]
    sweep = pis.trace("gemma-3-12b", workload("prefill", np.array(batches)[:, None], contexts))
    for i, batch in enumerate(batches):
        for j, context in enumerate(contexts):
            point = pis.trace("gemma-3-12b", workload("prefill", batch, context))
            assert point.sweep_shape == ()
            for column in ("flops", "traffic"):
                np.testing.assert_array_equal(
                    np.broadcast_to(getattr(sweep, column), sweep.shape)[i, j], getattr(point, column)
                )


@pytest.mark.parametrize("column", list(NEUTRAL))
def test_columns_are_read_only(column):
    trace = pis.trace("llama-3.1-8b", workload("decode", [1, 2]))
    for ops in (trace, trace.unfold(), trace.select([0, 1]), trace.concat(trace), trace.with_columns(m=3)):
        with pytest.raises(ValueError, match="read-only"):
            getattr(ops, column)[...] = 1.0
    with pytest.raises(AttributeError):
        setattr(trace, column, np.ones(3))


def test_with_columns_leaves_the_original_alone():
    trace = pis.trace("llama-3.1-8b", workload("decode"))
    mine = np.array(trace.m)
    changed = trace.with_columns(m=mine * 2)
    mine[:] = -1
    assert np.all(changed.m == 2 * trace.m)


@pytest.mark.parametrize("model", ["llama-3.1-8b", "gemma-2-9b", "gemma-3-12b"])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_unfold_keeps_totals(model, phase):
    folded = pis.trace(model, workload(phase, [1, 8], 6000))
    unfolded = folded.unfold()
    for column in ("flops", "traffic", "launches"):
        np.testing.assert_allclose(total(unfolded, column), total(folded, column), rtol=1e-12)
    assert all(len(layers) <= 1 for layers in unfolded.layers)
    inside = [layers[0] for layers, name in zip(unfolded.layers, unfolded.name, strict=True) if name == "attention"]
    assert sorted(inside) == list(range(pis.models.get(model).num_layers))
    again = unfolded.unfold()
    assert again.name == unfolded.name
    np.testing.assert_array_equal(again.count, unfolded.count)


def test_mask_and_select():
    trace = pis.trace("llama-3.1-8b", workload("decode"))
    assert rows(trace, "up", "down").name == ("up", "down")
    assert trace.select(trace.mask(kernels=["lm_head"])).block == ("head",)
    assert trace.mask(names=["up"], blocks=["attention"]).sum() == 0
    assert trace.select([3, 1]).name == (trace.name[3], trace.name[1])


def test_concat_broadcasts_sweeps():
    one, many = pis.trace("llama-3.1-8b", workload("decode")), pis.trace("llama-3.1-8b", workload("decode", [1, 2, 3]))
    both = one.concat(many)
    assert both.shape == (3, 2 * len(one))
    np.testing.assert_allclose(total(both, "flops"), total(one, "flops") + total(many, "flops"))


def test_fused_projections_do_the_same_work_with_fewer_launches():
    trace = pis.trace("llama-3.1-8b", workload("prefill", 1, [64, 1000]))
    fused = trace.fuse_projections()
    np.testing.assert_allclose(total(fused, "flops"), total(trace, "flops"), rtol=1e-12)
    np.testing.assert_allclose(total(fused, "b_traffic"), total(trace, "b_traffic"), rtol=1e-12)
    assert np.all(total(trace, "launches") - total(fused, "launches") == 32 * 3)
    saved = total(trace, "a_traffic") - total(fused, "a_traffic")  # three times less of [m, 4096], x read once
    np.testing.assert_allclose(saved, 32 * 3 * np.array([64, 1000]) * 4096 * 2)
    pruned = trace.prune(pis.pruning.DynamicDepth(0.5)).fuse_projections()
    assert "qkv" not in pruned.name  # k and v run on all tokens, q does not


def test_unknown_model_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match=r"Did you mean 'llama-3.1-8b'"):
        pis.trace("llama-31-8b", workload("decode"))


def test_repr():
    assert (
        repr(pis.trace("llama-3.1-8b", workload("decode", [1, 2]))) == "<OpTrace of llama-3.1-8b: 16 ops, sweep (2,)>"
    )
