"""What a trace says of itself: weights that a method removed, twins, arrays that nobody can write to, ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import pruninfersim as pis
from pruninfersim.errors import InvalidInputError
from pruninfersim.trace import OpTrace
from pruninfersim.trace.applied import layer_weights
from pruninfersim.trace.optrace import NEUTRAL
from pruninfersim.trace.twins import twins

DERIVED = ("flops", "a_traffic", "b_traffic", "out_traffic", "traffic")
STEP = pis.Workload.decode(batch=2, context=1024)


@dataclass(frozen=True)
class Narrower:
    """Keeps a share of the outputs of some projections, and notes nothing."""

    names: tuple[str, ...]
    keep: tuple[float, ...]
    name: str = "narrower"

    def apply(self, trace: OpTrace) -> OpTrace:
        share = np.where(trace.mask(names=self.names), np.array(self.keep)[:, None], 1.0)
        return trace.with_columns(n=trace.n * share)


def test_what_a_method_removed_is_worked_out_at_each_point():
    """Llama 3.1 8B: q and o are 4096 wide, k and v 1024, gate, up and down 14336."""
    keep = np.array((0.75, 0.5, 1.0))
    trace = pis.trace("llama-3.1-8b", STEP).prune(Narrower(("q", "k", "v", "gate", "up"), tuple(keep)))
    (noted,) = trace.applied
    narrowed, other = (4096 + 2 * 1024) * 4096, 4096 * 4096
    wide, down = 2 * 14336 * 4096, 14336 * 4096
    np.testing.assert_allclose(noted.achieved["attention"], (1 - keep) * narrowed / (narrowed + other), rtol=1e-12)
    np.testing.assert_allclose(noted.achieved["mlp"], (1 - keep) * wide / (wide + down), rtol=1e-12, atol=1e-15)
    both = (1 - keep) * (narrowed + wide) / (narrowed + other + wide + down)
    np.testing.assert_allclose(noted.asked, both, rtol=1e-12, atol=1e-15)


def test_what_a_second_method_removed_is_a_share_of_what_was_left():
    """gate and up are a half of what they were at the second point, down is whole: 1/2 of 2/3, then of 1/2, is gone."""
    once = pis.trace("llama-3.1-8b", STEP).prune(Narrower(("gate", "up"), (1.0, 0.5)))
    noted = once.prune(Narrower(("gate", "up"), (0.5, 0.5))).applied[-1]
    np.testing.assert_allclose(noted.achieved["mlp"], (1 / 3, 1 / 4), rtol=1e-12)


def test_the_weights_of_a_mixture_are_those_of_all_its_experts():
    """Mixtral 8x7B has 46.7 billion parameters (arXiv 2401.04088), of which embedding and head are 2 x 32000 x 4096."""
    found = float(layer_weights(pis.trace("mixtral-8x7b", STEP)).sum())
    assert found == pytest.approx(46.7e9 - 2 * 32000 * 4096, rel=2e-3)


@pytest.mark.parametrize(
    "change",
    [
        lambda trace: trace,
        lambda trace: trace.select([0, 3, 2]),
        lambda trace: trace.concat(trace),
        lambda trace: trace.fuse_projections(),
        lambda trace: trace.unfold(),
        lambda trace: trace.at((1,), (2,)),
        lambda trace: trace.prune(pis.pruning.LowRank(0.5)),
    ],
    ids=["itself", "select", "concat", "fused", "unfold", "at", "prune"],
)
@pytest.mark.parametrize("batch", [2, (2, 8)], ids=["one", "sweep"])
def test_nobody_can_write_to_a_trace(change, batch):
    trace = change(pis.trace("llama-3.1-8b", pis.Workload.decode(batch=batch, context=1024)))
    for name in (*NEUTRAL, *DERIVED):
        assert not getattr(trace, name).flags.writeable, name


@pytest.mark.parametrize("batch", [2, (2, 8), [[1], [2], [4], [8], [16]]], ids=["one", "sweep", "parts"])
@pytest.mark.parametrize("stack", ["ideal", "vendor", "vllm"])
def test_nobody_can_write_to_an_estimate(stack, batch):
    context = 1024 if np.ndim(batch) < 2 else np.arange(1, 9) * 512
    work = pis.Workload.decode(batch=batch, context=context)
    estimate = pis.Setup("llama-3.1-8b", "h100-sxm", stack).estimate(work)
    for name in ("run", "gap", "floor", "limit", "widening", "total", "busy"):
        assert not getattr(estimate, name).flags.writeable, name


@pytest.mark.parametrize("wrong", [-1.0, np.nan, np.inf])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 1)])
def test_a_wrong_number_is_refused_wherever_it_stands(wrong, shape):
    """Alone, or the last along a sweep."""
    column = np.ones(shape)
    column[(-1,) * len(shape)] = wrong
    with pytest.raises(InvalidInputError, match="m must be"):
        OpTrace.from_rows([{"name": "x", "m": 4}, {"name": "y", "m": column}])


def test_a_sweep_is_printed_from_its_least_to_its_most():
    lines = str(pis.trace("llama-3.1-8b", pis.Workload.decode(batch=[8, 1, 4], context=1024))).splitlines()
    (row,) = (line for line in lines if line.startswith("q "))
    assert "1 to 8" in row


def test_ops_of_one_name_in_one_layer_are_told_apart_by_their_order():
    rows = [{"name": "copy", "kernel": "elementwise", "n": n, "layers": (0, 1)} for n in (64.0, 128.0)]
    same, partner = twins(OpTrace.from_rows(rows), OpTrace.from_rows(rows))
    assert partner == (0, 1)
    assert same.all()
