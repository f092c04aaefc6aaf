"""Options of methods at the edge of what they may be: the smallest that works, the first that is refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from cases import rows

import pruninfersim as pis
from pruninfersim.errors import FileFormatError, InvalidInputError
from pruninfersim.pruning import PerBlock, PerLayer, PerRole
from pruninfersim.pruning.tables import read_ratios

SIZES = {
    "block_size", "alignment", "router_width", "group", "router_rank", "window", "page", "summaries", "index_dim",
    "block", "stride",
}  # fmt: skip
DENSE = pis.trace("llama-3.1-8b", pis.Workload.prefill(1, 512))


def options() -> list[tuple[type, str]]:
    """Every option of a method that is a size: a whole number of at least 1."""
    methods = [each for name in pis.pruning.__all__ if hasattr(each := getattr(pis.pruning, name), "apply")]
    fields = {method: getattr(method, "__dataclass_fields__", {}) for method in methods}
    sparse = {method: known for method, known in fields.items() if "sparsity" in known}
    return [(method, option) for method, known in sparse.items() for option in sorted(SIZES & set(known))]


@pytest.mark.parametrize(("method", "option"), options())
@pytest.mark.parametrize("value", [0, -16, 1.5, np.nan, np.inf, "wide"])
def test_a_size_is_a_whole_number(method, option, value):
    with pytest.raises(InvalidInputError, match=rf"{option} must be a (whole )?number"):
        method(0.5, **{option: value})


@pytest.mark.parametrize(("method", "option"), options())
def test_one_is_a_size(method, option):
    assert getattr(method(0.5, **{option: 1}), option) == 1


def test_widths_are_multiples_of_the_alignment():
    """The smallest multiple that keeps at least 1 - s of 14336 channels, and never more than there are."""
    for alignment in (1, 16, 128, 1000, 20000):
        pruned = DENSE.prune(pis.pruning.StaticWidth(0.3, alignment=alignment))
        multiple = alignment * -(-0.7 * 14336 // alignment)
        assert float(rows(pruned, "up").n[0]) == min(multiple, 14336)


def test_blocks_of_keys_have_the_block_size():
    """Scores of pooled blocks: one for each block of queries and of keys, the last one begun counts."""
    for size in (1, 16, 100, 512, 513):
        pruned = DENSE.prune(pis.pruning.SparseAttention(0.5, block_size=size))
        assert float(rows(pruned, "attention").grain[0]) == size
        assert float(rows(pruned, "block_score").n[0]) == -(-512 // size)


@pytest.mark.parametrize("bad", [-0.1, 1.0, 1.5, np.nan, "half", [0.5, 1.0]])
@pytest.mark.parametrize("block", ["attention", "mlp"])
@pytest.mark.parametrize("inner", [lambda x: x, lambda x: PerLayer(np.broadcast_to(x, 32) if np.ndim(x) == 0 else x)])
def test_a_ratio_of_a_block_is_checked_and_named(block, bad, inner):
    label = f"sparsity of {block}{' per layer' if isinstance(inner(0.5), PerLayer) else ''} must be"
    for method in (pis.pruning.StaticWidth, pis.pruning.LowRank, pis.pruning.DynamicDepth):
        with pytest.raises(InvalidInputError, match=label):
            method(PerBlock(**{block: inner(bad)}))


@pytest.mark.parametrize("role", ["q", "k", "v", "o", "gate", "up", "down"])
def test_a_ratio_of_a_role_is_checked_and_named(role):
    with pytest.raises(InvalidInputError, match=rf"sparsity of {role} must be in \[0, 1\); got 1"):
        pis.pruning.LowRank(PerRole(**{role: 1.0}))


def test_each_block_gets_its_own_ratio():
    """1/4 of 8 KV groups and 1/2 of 14336 channels, whichever stands first; and 2:4 of one block only."""
    for ratio in (PerBlock(attention=0.25, mlp=0.5), PerBlock(mlp=0.5, attention=0.25), PerBlock(0.25, 0.5)):
        pruned = DENSE.prune(pis.pruning.StaticWidth(ratio))
        assert [float(rows(pruned, name).n[0]) for name in ("q", "k", "up")] == [3072.0, 768.0, 7168.0]
    for block, names in (("mlp", ("gate", "up", "down")), ("attention", ("q", "k", "v", "o"))):
        pruned = DENSE.prune(pis.pruning.SemiStructured(PerBlock(**{block: 0.5})))
        assert tuple(n for n, p in zip(pruned.name, pruned.pattern, strict=True) if p == "2:4") == names


def test_points_of_a_sweep_may_have_other_kv_groups():
    """A second method meets 8, 6 and 4 groups in one sweep, and takes a quarter of each, as it does one by one."""
    first = np.array([0.0, 0.25, 0.5])
    for heads in ("kv-groups", "query"):
        second = pis.pruning.StaticWidth(0.25, heads=heads)
        together = DENSE.prune(pis.pruning.StaticWidth(first), second)
        for i, sparsity in enumerate(first):
            alone = DENSE.prune(pis.pruning.StaticWidth(float(sparsity)), second)
            for name in ("q", "k", "v", "o", "attention", "rope", "kv_append"):
                for column in ("n", "k", "batch", "b_batch"):
                    got, want = (getattr(rows(side, name), column) for side in (together, alone))
                    assert float(np.broadcast_to(got, (3, 1))[i, 0]) == pytest.approx(float(want[..., 0].flat[0]))
    left = rows(DENSE.prune(pis.pruning.StaticWidth(first), pis.pruning.StaticWidth(0.25)), "attention").b_batch
    assert left[..., 0].tolist() == [6.0, 4.0, 3.0]  # of 8, 6 and 4: whole groups, rounded to more pruning


@pytest.mark.parametrize(
    ("method", "says"),
    [
        (pis.pruning.LowRank(PerRole(q=0.5)), "^gate_up and qkv are fused already: prune by role first"),
        (pis.pruning.DynamicDepth(0.5), "^k and v stay dense while q skips tokens: prune first"),
    ],
)
def test_fused_projections_cannot_be_told_apart_any_more(method, says):
    with pytest.raises(InvalidInputError, match=says):
        DENSE.fuse_projections().prune(method)


@pytest.mark.parametrize(("left", "name"), [("gate_up", "qkv"), ("qkv", "gate_up")])
def test_what_is_fused_is_named_alone(left, name):
    fused = DENSE.fuse_projections()
    part = fused.select([i for i, own in enumerate(fused.name) if own != left])
    with pytest.raises(InvalidInputError, match=rf"^{name} are fused already"):
        part.prune(pis.pruning.LowRank(PerRole(down=0.5)))


def test_a_sparsity_is_said_once():
    for method in (pis.pruning.StaticWidth(0.5), [pis.pruning.StaticWidth(0.5), pis.pruning.LowRank(0.25)]):
        with pytest.raises(InvalidInputError, match="sparsity"):
            pis.pruning.resolve(method, 0.5)


@pytest.mark.parametrize(("of", "which"), [("module", "model.layers.0.mlp.up_proj"), ("layer", "0")])
def test_two_ratios_in_one_row_are_refused(tmp_path, of, which):
    """One may be what is kept, and the other what goes."""
    (tmp_path / "ratios.csv").write_text(f"{of},ratio,sparsity\n{which},0.5,0.25\n")
    with pytest.raises(FileFormatError, match="has ratio and sparsity: leave all but one out"):
        read_ratios(tmp_path / "ratios.csv")


def test_width_of_ops_without_attention():
    """A trace of MLPs alone has no heads to count: its channels are pruned as those of the whole model are."""
    whole = DENSE.prune(pis.pruning.StaticWidth(0.3))
    alone = DENSE.select(DENSE.mask(blocks=["mlp"])).prune(pis.pruning.StaticWidth(0.3))
    for name in ("gate", "up", "act", "down"):
        for column in ("n", "k"):
            assert float(getattr(rows(alone, name), column)[0]) == float(getattr(rows(whole, name), column)[0])


def test_a_rank_and_a_sparsity_say_the_same_twice():
    assert pis.pruning.LowRank(rank=64).rank == 64
    with pytest.raises(InvalidInputError, match="a sparsity or a rank of the factors, not both"):
        pis.pruning.LowRank(0.5, rank=64)


def test_memory_of_a_trace_takes_no_second_workload():
    with pytest.raises(InvalidInputError, match="leave batch out"):
        pis.memory(DENSE, batch=4)
