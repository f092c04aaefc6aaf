"""Parts of layers: parameters tensor by tensor, elements that small kernels move, labels that methods follow."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from cases import rows

import pruninfersim as pis
from pruninfersim.models import ModelConfig
from pruninfersim.models.architectures.attention import Attention
from pruninfersim.models.architectures.layered import Layer
from pruninfersim.models.architectures.linear_attention import DeltaNet, Mamba2
from pruninfersim.models.architectures.mla import MLA
from pruninfersim.models.architectures.mlp import MLP
from pruninfersim.models.architectures.moe import MoE

FILES = json.loads((Path(__file__).resolve().parents[1] / "validation" / "model_files.json").read_text("utf-8"))
STEP = pis.Workload.decode(batch=2, context=1024)
#: Part, hidden size, tensors that are matrices of a GEMM, other tensors, routers and gates: as in the checkpoints.
PARTS = {
    "gpt-oss attention": (
        Attention(heads=64, kv_heads=8, head_dim=64, qkv_bias=True, o_bias=True, sinks=True), 2880,
        [(4096, 2880), (512, 2880), (512, 2880), (2880, 4096)], [(4096,), (512,), (512,), (2880,), (64,)], [],
    ),
    "qwen3 attention": (
        Attention(heads=32, kv_heads=8, head_dim=128, qk_norm="head"), 4096,
        [(4096, 4096), (1024, 4096), (1024, 4096), (4096, 4096)], [(128,), (128,)], [],
    ),
    "olmo-2 attention": (
        Attention(heads=40, kv_heads=8, head_dim=128, qk_norm="full"), 5120,
        [(5120, 5120), (1024, 5120), (1024, 5120), (5120, 5120)], [(5120,), (1024,)], [],
    ),
    "deepseek-v3.2 attention": (
        MLA(heads=128, q_rank=1536, latent=512, rope=64, nope=128, value=128, index_heads=64, index_dim=128,
            index_top=2048), 7168,
        [(1536, 7168), (24576, 1536), (576, 7168), (32768, 512), (7168, 16384), (8192, 1536), (128, 7168), (64, 7168)],
        [(1536,), (512,), (128,), (128,)], [],
    ),
    "deepseek-v2-lite attention": (
        MLA(heads=16, q_rank=0, latent=512, rope=64, nope=128, value=128), 2048,
        [(3072, 2048), (576, 2048), (4096, 512), (2048, 2048)], [(512,)], [],
    ),
    "qwen3-next mixer": (
        DeltaNet(key_heads=16, key_dim=128, value_heads=32, value_dim=128, conv=4), 2048,
        [(12288, 2048), (64, 2048), (2048, 4096)], [(8192, 4), (32,), (32,), (128,)], [],
    ),
    "nemotron-h mixer": (
        Mamba2(heads=128, head_dim=64, state=128, groups=8, conv=4), 4096,
        [(18560, 4096), (4096, 8192)], [(10240, 4), (10240,), (128,), (128,), (128,), (8192,)], [],
    ),
    "deepseek-v3 experts": (
        MoE(experts=256, top_k=8, inter=2048, shared_inter=2048, router_bias=True), 7168,
        [(256, 2048, 7168)] * 3 + [(2048, 7168)] * 3, [], [(256, 7168), (256,)],
    ),
    "nemotron-3 experts between two projections": (
        MoE(experts=512, top_k=22, inter=2688, gated=False, shared_inter=5376, latent=1024), 4096,
        [(512, 2688, 1024)] * 2 + [(5376, 4096)] * 2 + [(1024, 4096)] * 2, [], [(512, 4096)],
    ),
    "opt mlp": (MLP(inter=16384, gated=False, bias=True), 4096, [(16384, 4096)] * 2, [(16384,), (4096,)], []),
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_parameters_of_a_part_are_its_tensors(name):
    part, hidden, matrices, others, routers = PARTS[name]
    sizes = [sum(math.prod(shape) for shape in shapes) for shapes in (matrices, others, routers)]
    assert part.weights(hidden) == sizes[0]
    assert part.parameters(hidden) == sum(sizes)


def test_a_layer_is_its_parts_and_its_norms():
    (mixer, hidden, *first), (ffn, _, *second) = PARTS["deepseek-v3.2 attention"], PARTS["deepseek-v3 experts"]
    layer = Layer(mixer=mixer, ffn=ffn)
    matrices, others, routers = ([*a, *b] for a, b in zip(first, second, strict=True))
    assert layer.weights(hidden) == sum(map(math.prod, matrices))
    assert layer.parameters(hidden) == sum(map(math.prod, [*matrices, *others, *routers])) + 2 * hidden


@pytest.mark.parametrize(
    ("name", "moved"),
    [
        # x and the sum of before in; normed and the sum out.
        ("llama-3.1-8b", {"attn_norm": 4, "mlp_norm": 4, "final_norm": 4}),
        # The sum goes on as it is, and is not written beside.
        ("olmo-2-7b", {"attn_norm": 3, "mlp_norm": 3}),
        # Two more that read and write once.
        ("gemma-2-9b", {"attn_norm": 4, "post_attn_norm": 2, "mlp_norm": 4, "post_mlp_norm": 2}),
    ],
)
def test_elements_that_a_norm_moves(name, moved):
    trace = pis.trace(name, STEP)
    for norm, elements in moved.items():
        assert float(rows(trace, norm).traffic[0]) == elements * 2 * pis.models.get(name).hidden_size * 2.0


@pytest.mark.parametrize("name", pis.models.names())
def test_every_named_model_is_a_trace_of_known_blocks(name):
    """Attention is what computes or places heads; the MLP is what comes after its norm."""
    trace = pis.trace(name, STEP)
    blocks = dict(zip(trace.name, trace.block, strict=True))
    assert set(blocks.values()) == {"embedding", "attention", "mlp", "head"}
    assert {blocks[op] for op in ("rope", "qk_norm", "kv_append", "attn_norm") if op in blocks} == {"attention"}
    assert {blocks[op] for op in ("act", "mlp_norm", "router", "up", "down", "experts") if op in blocks} == {"mlp"}


@pytest.mark.parametrize("name", [name for name in FILES if "config" in FILES[name]])
@pytest.mark.parametrize("work", [STEP, pis.Workload.prefill(1, 256)], ids=["decode", "prefill"])
def test_layers_of_published_files_are_of_known_blocks(name, work):
    """All that stands for a layer is in a sub-layer, and nothing else is."""
    trace = pis.trace(ModelConfig.from_hf(FILES[name]["config"]), work)
    for op, block, layers in zip(trace.name, trace.block, trace.layers, strict=True):
        assert block in (("attention", "mlp") if layers else ("embedding", "head")), op
    blocks = dict(zip(trace.name, trace.block, strict=True))
    assert {blocks[op] for op in ("rope", "qk_norm", "scan", "conv") if op in blocks} <= {"attention"}
    assert {blocks[op] for op in ("act", "experts", "router") if op in blocks} <= {"mlp"}


@pytest.mark.parametrize("tokens", [1, 2, 64])
def test_one_token_goes_to_as_many_experts_as_it_has(tokens):
    """Under any routing one token reads top_k of the experts, and more tokens read no fewer and not all twice."""
    for routing in ("uniform", "balanced", "power_law_1.2"):
        work = pis.Workload.decode(batch=tokens, context=512, routing=routing)
        share = float(rows(pis.trace("mixtral-8x7b", work), "experts").b_reads[0])
        assert 2 / 8 <= share <= min(1.0, tokens * 2 / 8) + 1e-12
        if tokens == 1:
            assert share == pytest.approx(2 / 8, rel=1e-12)
