"""The torch layer and the trace say the same: equal to the dense layer at a trivial mask, equal FLOPs, op by op."""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from cases import FAMILIES

import pruninfersim as pis

torch = pytest.importorskip("torch", reason="the torch layer needs torch (extra measure)")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from pruninfersim.measure import attention, families  # noqa: E402
from pruninfersim.measure.layer import Dense, Pair, Sizes  # noqa: E402

BLOCK = 16
LAYERS = 4
MODEL = pis.models.get("llama-3.1-8b").clone(
    "tiny", hidden_size=64, intermediate_size=176, num_layers=LAYERS, num_heads=8, num_kv_heads=4, head_dim=16,
    vocab_size=100,
)  # fmt: skip
PHASES = {"prefill": {"batch": 2, "query": 64, "context": 64}, "decode": {"batch": 8, "query": 1, "context": 128}}
#: torch's double precision: rounding cannot hide a difference.
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def base(phase, causal=True, block=BLOCK):
    return families.Base(**PHASES[phase], causal=causal, block=block)


def workload(phase, causal=True):
    size = PHASES[phase]
    if phase == "decode":
        return pis.Workload.decode(batch=size["batch"], context=size["context"])
    return pis.Workload.prefill(batch=size["batch"], tokens=size["query"], causal=causal)


def stack(method, sparsity, phase, causal=True, block=BLOCK):
    made = families.stack(MODEL, method, sparsity, base(phase, causal, block), layers=LAYERS, dtype=torch.float64)
    assert all(layer.attend.__class__ is attention.Blockwise for layer in made.layers)
    return made


def counted(made):
    """FLOPs of a stack by name of the trace row, as torch counts what it executes."""
    flops = defaultdict(float)

    @contextmanager
    def scope(name):
        with FlopCounterMode(display=False) as counter:
            yield
        flops[name] += counter.get_total_flops()

    with FlopCounterMode(display=False) as everything:
        made(scope)
    assert sum(flops.values()) == everything.get_total_flops(), "a product runs outside of every row of the trace"
    return dict(flops)


def traced(method, sparsity, phase, causal=True, **options):
    """FLOPs of the layers of the pruned trace by name."""
    trace = pis.trace(MODEL, workload(phase, causal))
    trace = trace if method == "dense" else trace.prune(pis.pruning.get(method, sparsity, **options))
    trace = trace.select(trace.mask(blocks=["attention", "mlp"]))
    flops = defaultdict(float)
    for name, value, gemms in zip(trace.name, trace.flops * trace.count, trace.gemms, strict=True):
        if gemms:
            flops[name] += float(value)
    return {name: value for name, value in flops.items() if value}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("sparsity", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("method", FAMILIES)
def test_flops_are_those_of_the_trace(method, sparsity, phase):
    # Full attention: a causal triangle cannot be executed as exactly half of a square, see the test below.
    assert counted(stack(method, sparsity, phase, causal=False)) == traced(method, sparsity, phase, causal=False)


@pytest.mark.parametrize("phase", PHASES)
def test_flops_of_the_dense_layer_are_those_of_the_trace(phase):
    assert counted(stack("dense", 0.0, phase, causal=False)) == traced("dense", 0.0, phase, causal=False)


@pytest.mark.parametrize("method", FAMILIES)
def test_flops_of_every_product_but_attention_are_those_of_the_causal_trace(method):
    attended = ("attention", "block_score")
    ours, theirs = counted(stack(method, 0.5, "prefill")), traced(method, 0.5, "prefill")
    assert {k: v for k, v in ours.items() if k not in attended} == {
        k: v for k, v in theirs.items() if k not in attended
    }


@pytest.mark.parametrize("block", [1, 4, 16])
@pytest.mark.parametrize("method", ["dense", "static-depth", "static-width", "low-rank"])
def test_causal_attention_executes_half_and_the_blocks_on_the_diagonal(method, block):
    # T^2/2 in the trace; T(T + block)/2 executed: what is above half is the diagonal and shrinks with the block.
    tokens = PHASES["prefill"]["query"]
    ours = counted(stack(method, 0.5, "prefill", block=block))["attention"]
    theirs = traced(method, 0.5, "prefill")["attention"]
    assert ours == theirs * (1 + block / tokens)


def test_causal_attention_of_kept_tokens_executes_the_share_of_the_trace():
    ours = counted(stack("dynamic-depth", 0.5, "prefill", block=1))["attention"]
    theirs = traced("dynamic-depth", 0.5, "prefill")["attention"]
    # The kept ones stand at 2, 4, ... 64 of 64 tokens and see as many keys: 33 on average where the trace says 32.
    assert ours == theirs * 33 / 32


def test_causal_block_sparse_attention_executes_the_share_of_the_trace():
    tokens, block = PHASES["prefill"]["query"], 4
    ours = counted(stack("sparse-attention", 0.5, "prefill", block=block))
    theirs = traced("sparse-attention", 0.5, "prefill", block_size=block)
    blocks = tokens // block
    kept = sum(max(1, round(0.5 * (i + 1))) for i in range(blocks))
    assert ours["attention"] == theirs["attention"] * kept / (0.5 * blocks**2 / 2)
    # Pooled scores are computed for the whole square here; a causal kernel needs half of it, which the trace counts.
    assert ours["block_score"] == 2 * theirs["block_score"]


def run(made):
    x, delta = made()
    return x + delta


def full_rank(made):
    """The stack with every weight as its full singular value decomposition."""
    layers = [
        replace(
            layer, linear={name: families.svd_pair(w.weight, min(w.weight.shape)) for name, w in layer.linear.items()}
        )
        for layer in made.layers
    ]
    assert all(isinstance(linear, Pair) for layer in layers for linear in layer.linear.values())
    return replace(made, layers=tuple(layers))


def conform(made):
    """The dense stack with weights that have two zeros in each four values."""
    layers = [
        replace(layer, linear={name: Dense(families.two_of_four(w.weight)) for name, w in layer.linear.items()})
        for layer in made.layers
    ]
    return replace(made, layers=tuple(layers))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("method", FAMILIES)
def test_equals_the_dense_stack_where_nothing_is_pruned(method, phase, causal):
    dense = stack("dense", 0.0, phase, causal)
    if method == "low-rank":
        ours, wanted = full_rank(stack("dense", 0.0, phase, causal)), run(dense)
    elif method == "semi-structured":
        ours, wanted = stack(method, 0.5, phase, causal), run(conform(dense))
    else:
        ours, wanted = stack(method, 0.0, phase, causal), run(dense)
    torch.testing.assert_close(run(ours), wanted, **EXACT)


@pytest.mark.parametrize("phase", PHASES)
def test_rotated_residual_stream_is_the_dense_one_in_another_basis(phase):
    sizes = Sizes.of(MODEL)
    dense = stack("dense", 0.0, phase)
    weights = {name: linear.weight for name, linear in dense.layers[0].linear.items()}
    torch.manual_seed(0)
    bases = [torch.linalg.qr(torch.randn(sizes.hidden, sizes.hidden, dtype=torch.float64))[0] for _ in range(3)]
    rotated = families.sliced(weights, sizes, 0.0, base(phase), tuple(bases))
    wanted = dense.layers[0](dense.x, dense.delta, stack("dense", 0.0, phase).caches[0])
    ours = rotated(dense.x @ bases[0], dense.delta @ bases[0], stack("dense", 0.0, phase).caches[0])
    torch.testing.assert_close(sum(ours), sum(wanted) @ bases[2], **EXACT)


@pytest.mark.parametrize("phase", PHASES)
def test_skipped_tokens_keep_their_residual_stream_and_kept_ones_that_of_the_dense_layer(phase):
    dense, some = (stack(method, s, phase) for method, s in (("dense", 0.0), ("dynamic-depth", 0.5)))
    rows = some.layers[0].tokens.rows
    ours, wanted = (made.layers[0](made.x, made.delta, made.caches[0]) for made in (some, dense))
    total, all_of_it = (sum(out).flatten(0, 1) for out in (ours, wanted))
    assert len(rows) == len(total) // 2
    torch.testing.assert_close(total[rows], all_of_it[rows], **EXACT)
    skipped = np.setdiff1d(np.arange(len(total)), rows.numpy())
    torch.testing.assert_close(total[skipped], (some.x + some.delta).flatten(0, 1)[skipped], **EXACT)


@pytest.mark.parametrize("phase", PHASES)
def test_blockwise_attention_is_that_of_torch(phase):
    made = stack("dense", 0.0, phase)
    fast = replace(made, layers=tuple(replace(layer, attend=attention.Flash()) for layer in made.layers))
    wanted = run(stack("dense", 0.0, phase))
    torch.testing.assert_close(run(fast), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("causal", [True, False])
def test_flex_chooses_the_blocks_of_the_reference(causal):
    positions = torch.arange(64)
    flex = attention.Flex(positions, 64, causal=causal, block=16, keep=0.5)
    reference = attention.Blockwise(causal, 16, 0.5)
    for i, (partial, full) in enumerate(zip(*flex.chosen(), strict=True)):
        keys = reference.visible(list(range(16 * i, 16 * i + 16)), 64, "cpu")
        assert sorted({*partial, *full}) == sorted(set((keys // 16).tolist()))
        assert partial == ([i] if causal else [])


@pytest.mark.parametrize("method", ["static-width", "static-depth", "static-width-cross", "semi-structured"])
def test_half_of_a_layer_is_another_function(method):
    wanted, ours = run(stack("dense", 0.0, "prefill")), run(stack(method, 0.5, "prefill"))
    wide = wanted[..., : ours.shape[-1]]
    assert not torch.allclose(ours, wide, rtol=1e-2, atol=1e-2)
    assert bool(torch.isfinite(ours).all())


def test_unknown_family_names_the_nearest():
    with pytest.raises(pis.errors.UnknownNameError, match="Did you mean 'low-rank'"):
        families.stack(MODEL, "low-rnak", 0.5, base("decode"), layers=1)
