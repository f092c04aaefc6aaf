"""What ops are and were: fused names, ops that differ in one column, and notes of methods that keep none."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from cases import rows

import pruninfersim as pis
from pruninfersim.pruning import PerLayer
from pruninfersim.trace import FUSED, LABELS, NEUTRAL, Applied, OpTrace, alike, layer_weights, twins

DENSE = pis.trace("llama-3.1-8b", pis.Workload.decode(8, 4096))
#: Columns that say how often an op runs, not how long a run takes.
HOW_OFTEN = {"count"}


def test_fused_projections_are_called_as_engines_call_them():
    """vLLM's qkv_proj and gate_up_proj; first halves of low-rank pairs keep their suffix, second halves stay apart."""
    assert set(DENSE.fuse_projections().name) - set(DENSE.name) == {"qkv", "gate_up"}
    pairs = DENSE.prune(pis.pruning.LowRank(0.5))
    fused = pairs.fuse_projections()
    assert set(fused.name) - set(pairs.name) == {"qkv_a", "gate_up_a"}
    assert {"q_b", "k_b", "v_b", "gate_b", "up_b"} <= set(fused.name)
    for whole, parts in FUSED.items():
        assert float(rows(fused, f"{whole}_a").n[0]) == sum(float(rows(pairs, f"{part}_a").n[0]) for part in parts)


@pytest.mark.parametrize("column", sorted(set(NEUTRAL) - {"n"}))
def test_projections_that_differ_are_not_fused(column):
    """One column of one of three is enough; and at one point of a sweep is enough."""
    value = getattr(DENSE, column)
    changed = np.where(DENSE.mask(names=["v"]), value + 1.0, value)
    assert "qkv" not in DENSE.with_columns(**{column: changed}).fuse_projections().name
    somewhere = np.stack([value, changed])
    assert "qkv" not in DENSE.with_columns(**{column: somewhere}).fuse_projections().name
    assert "gate_up" in DENSE.with_columns(**{column: somewhere}).fuse_projections().name


@pytest.mark.parametrize("column", sorted(NEUTRAL))
def test_an_op_of_another_shape_is_no_twin(column):
    value = getattr(DENSE, column)
    other = DENSE.with_columns(**{column: np.where(DENSE.mask(names=["up"]), value + 1.0, value)})
    same, partner = twins(DENSE, other)
    here = {name for name, is_same in zip(other.name, same.tolist(), strict=True) if not is_same}
    assert here == (set() if column in HOW_OFTEN else {"up"})
    assert partner == tuple(range(len(DENSE)))
    grouped = alike(other)
    gate, up = other.name.index("gate"), other.name.index("up")
    assert (grouped[up] == gate) == (column in HOW_OFTEN)


@pytest.mark.parametrize("label", ["name", "kernel", "dtype", "pattern"])
def test_an_op_of_another_kind_is_no_twin(label):
    index = DENSE.name.index("down")
    changed = tuple("other" if i == index else old for i, old in enumerate(getattr(DENSE, label)))
    same, _ = twins(DENSE, DENSE.with_columns(**{label: changed}))
    assert np.flatnonzero(~same).tolist() == [index]


def test_what_is_kept_of_an_answer_cannot_be_changed():
    other = DENSE.prune(pis.pruning.StaticWidth(0.5))
    same, _ = twins(DENSE, other)
    for kept in (same, alike(other)):
        with pytest.raises(ValueError, match="read-only"):
            kept[0] = 0


def test_a_row_says_only_what_it_is():
    """All that a row leaves out is neutral: one thing, stored in 16 bit, that crosses HBM once."""
    row = OpTrace.from_rows([{}])
    assert {name: float(getattr(row, name)[0]) for name in NEUTRAL} == NEUTRAL
    assert {name: getattr(row, name)[0] for name in LABELS} == LABELS
    assert float(row.flops[0]) == 0.0
    assert float(row.traffic[0]) == 2.0 + 2.0


def test_weights_of_the_layers_are_those_of_the_published_model():
    """Llama 3.1 8B: 6 979 321 856 parameters in the GEMMs of 32 layers of 218 103 808; half of them under 2:4."""
    assert float(layer_weights(DENSE).sum()) == 32 * 218_103_808
    halved = DENSE.prune(pis.pruning.SemiStructured(0.5))
    assert float(layer_weights(halved).sum()) == 16 * 218_103_808
    for name in ("attention", "lm_head", "embedding", "attn_norm"):
        assert float(layer_weights(DENSE)[DENSE.name.index(name)]) == 0.0
    routed = DENSE.prune(pis.pruning.DynamicDepth(0.5))
    assert float(layer_weights(routed).sum()) == 32 * 218_103_808  # routers are not what is pruned, weights stay


@dataclasses.dataclass(frozen=True)
class WithoutNotes:
    """A method that does what another one does, and keeps no note of it."""

    inner: object
    sparsity: object = None
    name: str = "silent"

    def apply(self, trace):
        return dataclasses.replace(self.inner.apply(trace), applied=trace.applied)


@pytest.mark.parametrize("sparsity", [0.5, np.array([0.125, 0.25, 0.5])], ids=["one", "sweep"])
@pytest.mark.parametrize("method", [pis.pruning.StaticDepth, pis.pruning.LowRank])
def test_what_a_method_does_not_note_is_worked_out(method, sparsity):
    """Depth and rank say themselves which share of the weights went; so does counting them before and after."""
    noted = DENSE.prune(method(sparsity)).applied[0]
    found = DENSE.prune(WithoutNotes(method(sparsity))).applied[0]
    assert (found.method, list(found.achieved)) == ("silent", ["attention", "mlp"])
    for block in ("attention", "mlp"):
        np.testing.assert_allclose(found.achieved[block], noted.achieved[block], rtol=1e-12)
    whole = 1.0 - layer_weights(DENSE.prune(method(sparsity))).sum(axis=-1) / layer_weights(DENSE).sum()
    np.testing.assert_allclose(found.asked, whole, rtol=1e-12)


def test_width_that_is_worked_out_counts_weights_not_channels():
    """3 of 8 KV groups go for 30 %: of q, k, v and o, 3/8; of 14336 channels 10048 stay, in gate, up and down."""
    found = DENSE.prune(WithoutNotes(pis.pruning.StaticWidth(0.3), 0.3)).applied[0]
    assert float(found.achieved["attention"]) == pytest.approx(3 / 8)
    assert float(found.achieved["mlp"]) == pytest.approx(1 - 10048 / 14336)
    assert float(found.asked) == 0.3  # what it says of itself


@pytest.mark.parametrize("strange", [None, "half", np.array([0.5, np.nan]), PerLayer([0.5] * 32)])
def test_what_a_method_says_of_itself_may_be_of_no_use(strange):
    found = DENSE.prune(WithoutNotes(pis.pruning.StaticDepth(0.5), strange)).applied[0]
    assert float(found.asked) == pytest.approx(0.5)


def test_rows_that_a_method_adds_are_not_weights_that_it_left():
    """SliceGPT's residual projections are weights of the layers, and no reason to say that less was removed."""
    method = pis.pruning.StaticWidthCross(0.25)
    pruned = DENSE.prune(method)
    residual = float(layer_weights(rows(pruned, "residual_mlp")).sum())
    assert residual > 0
    found = DENSE.prune(WithoutNotes(method)).applied[0]
    old, new = (float(layer_weights(rows(side, "gate", "up", "down")).sum()) for side in (DENSE, pruned))
    assert float(found.achieved["mlp"]) == pytest.approx(1 - new / old)


def test_a_block_that_was_never_there_lost_nothing():
    mlp = DENSE.select(DENSE.mask(blocks=["mlp"]))
    found = mlp.prune(WithoutNotes(pis.pruning.LowRank(0.5))).applied[0]
    assert float(found.achieved["attention"]) == 0.0
    assert float(found.achieved["mlp"]) > 0.4


def test_a_point_of_a_sweep_keeps_the_notes_of_that_point():
    ratio = pis.pruning.PerRole(down=np.array([0.125, 0.5]))
    both = DENSE.prune(pis.pruning.LowRank(ratio))
    for i, sparsity in enumerate((0.125, 0.5)):
        note = both.at((i,)).applied[0]
        alone = DENSE.prune(pis.pruning.LowRank(pis.pruning.PerRole(down=sparsity))).applied[0]
        assert isinstance(note, Applied)
        assert {role: value.shape for role, value in note.by_role.items()} == dict.fromkeys(alone.by_role, ())
        assert float(note.by_role["down"]) == sparsity
        assert float(note.asked) == pytest.approx(float(alone.asked))
        assert float(note.achieved["mlp"]) == pytest.approx(float(alone.achieved["mlp"]))
