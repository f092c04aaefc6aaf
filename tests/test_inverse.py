"""Inverse questions against closed forms, round trips and brute force."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

import numpy as np
import pytest
from cases import FAMILIES, IGNORE_PROVENANCE, MAIN_GPUS, STACKS, native, workload
from toy import SPREAD, TILE, Slow, Staircase, toy

import pruninfersim as pis
from pruninfersim.cost import Priced
from pruninfersim.errors import InvalidInputError, UnknownNameError
from pruninfersim.questions.break_even import RANGES, break_even
from pruninfersim.questions.comparison import twins
from pruninfersim.questions.headroom import max_speedup, required_efficiency
from pruninfersim.questions.widths import suggest_width

pytestmark = IGNORE_PROVENANCE
QUESTION = {"model": "llama-3.1-8b", "hardware": "h100-sxm", "phase": "decode", "stack": "ideal"}


def speedup_of(method: str, sparsity, **changes) -> float:
    return pis.speedup(**(QUESTION | {"method": method, "sparsity": sparsity} | changes)).estimated


@dataclass(frozen=True)
class PerToken:
    """A kernel of a fixed time and a time per token [s]."""

    fixed: float
    per_token: float

    def latency(self, ops, hardware, *, cache="cold"):
        return self.fixed + self.per_token * np.broadcast_to(ops.m, ops.shape)


def by_scanning(lead, fine) -> list[float]:
    """Sign changes of `lead` on a grid much finer than the one inside."""
    signs = np.sign(lead(fine))
    return [float(fine[i + 1]) for i in np.flatnonzero(signs[:-1] * signs[1:] < 0)]


# --- break even -------------------------------------------------------------------------------------------------


def test_break_even_against_a_closed_form():
    """Roofline decode at batch 1: a low-rank pair stores (1-s) of the weight but adds the read and write of [m, r].

    Rank rounding aside, the pair wins as soon as s exceeds the share of those extra bytes; found by scanning ranks.
    """
    model = pis.models.get("llama-3.1-8b")
    shapes = {
        "q": (4096, 4096), "k": (1024, 4096), "v": (1024, 4096), "o": (4096, 4096),
        "gate": (14336, 4096), "up": (14336, 4096), "down": (4096, 14336),
    }  # fmt: skip

    def lead(s: np.ndarray) -> np.ndarray:
        dense = sum(n * k + n + k for n, k in shapes.values())
        pruned = 0.0
        for n, k in shapes.values():
            rank = np.minimum(np.ceil((1 - s) * n * k / (n + k) / 16 - 1e-9) * 16, min(n, k))
            pruned = pruned + rank * (n + k) + n + k + 2 * rank
        return dense - pruned

    assert model.num_layers == 32
    expected = by_scanning(lead, np.linspace(0, 0.1, 200_001))
    found = break_even(axis="sparsity", method="low-rank", between=(0.0, 0.1), **QUESTION)
    assert len(found) == len(expected) == 1
    assert found[0].wins_above
    assert found[0].value == pytest.approx(expected[0], abs=2e-4)


def test_break_even_in_batch_against_a_closed_form():
    """Dense GEMMs of 1.005 ms at any batch against 2:4 ones of 10 us per sequence: 2:4 wins up to 100 sequences."""
    stack = toy(launch_gap=0.0).with_kernel("gemm", Priced(PerToken(1.005e-3, 0.0), "calibrated"))
    stack = stack.with_kernel("gemm_2of4", Priced(PerToken(0.0, 1e-5), "calibrated"))
    found = break_even(axis="batch", method="semi-structured", sparsity=0.5, **(QUESTION | {"stack": stack}))
    assert [(crossing.value, crossing.wins_above) for crossing in found] == [(101.0, False)]


@pytest.mark.parametrize("family", ["dynamic-depth", "low-rank", "static-width-cross"])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_sides_of_a_crossing_in_sparsity(family, phase):
    for crossing in break_even(axis="sparsity", method=family, **(QUESTION | {"phase": phase})):
        below, above = (speedup_of(family, max(crossing.value + step, 0.0), phase=phase) for step in (-3e-4, 3e-4))
        assert (below < 1 < above) if crossing.wins_above else (above < 1 < below)


def test_crossing_in_context_is_the_first_whole_number_on_the_far_side():
    question = {"method": "static-width-cross", "against": "static-width", "sparsity": 0.5}
    rivals = {"method": "sparse-attention", "against": "low-rank", "sparsity": 0.5}
    tested = 0
    for ask in (question, rivals):
        for crossing in break_even(axis="context", **ask, **(QUESTION | {"batch": 16})):
            for context, wins in ((crossing.value, crossing.wins_above), (crossing.value - 1, not crossing.wins_above)):
                first, second = (speedup_of(ask[k], 0.5, batch=16, context=int(context)) for k in ("method", "against"))
                assert (first > second) == wins
            tested += 1
    assert tested, "no crossing was found; the test tests nothing"


def test_no_crossing_is_an_empty_list():
    assert break_even(axis="batch", method="static-depth", **QUESTION) == []


def test_crossings_come_in_order_and_alternate():
    found = break_even(axis="batch", method="dynamic-depth", sparsity=0.5, **QUESTION)
    assert [c.value for c in found] == sorted(c.value for c in found)
    assert all(a.wins_above != b.wins_above for a, b in itertools.pairwise(found))


@pytest.mark.parametrize("stack", STACKS)
def test_break_even_answers_on_every_stack(stack):
    for axis in RANGES:
        for crossing in break_even(
            axis=axis, method="dynamic-depth", **(QUESTION | {"stack": stack, "hardware": "rtx-pro-6000"})
        ):
            assert RANGES[axis][0] <= crossing.value <= RANGES[axis][1]


def test_break_even_names_wrong_input():
    with pytest.raises(UnknownNameError, match="sparsity"):
        break_even(axis="sparsty", method="low-rank", **QUESTION)
    with pytest.raises(UnknownNameError, match="low-rank"):
        break_even(axis="sparsity", method="low-rnak", **QUESTION)


# --- required efficiency and what is left -----------------------------------------------------------------------


@pytest.mark.parametrize("gpu", MAIN_GPUS)
@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "static-depth"])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_required_efficiency_round_trip(family, phase, gpu):
    """Price the changed ops at the efficiency that was asked for, and the target comes out."""
    dense = pis.trace("llama-3.1-8b", workload(phase, 4, 4096), dtype=native(gpu))
    pruned = dense.prune(pis.pruning.get(family, 0.5))
    target = 1.02
    stack = toy(gpu)
    need = required_efficiency(target, dense, pruned, hardware=gpu, stack=stack)
    before, after = (pis.estimate(side, hardware=gpu, stack=stack) for side in (dense, pruned))
    changed = ~twins(dense, pruned)[0]
    run = np.where(changed, after.floor / need, after.run)
    mine = ((run + after.gap) * pruned.count).sum()
    assert before.latency / mine == pytest.approx(target, rel=1e-12)


def test_required_efficiency_round_trip_through_a_kernel():
    """The same with a kernel model in the cost model: all that 2:4 changes is GEMMs and transposes."""
    gpu = pis.hardware.get("h100-sxm")
    dense = pis.trace("llama-3.1-8b", workload("decode", 1, 1024))
    pruned = dense.prune(pis.pruning.SemiStructured())
    need = required_efficiency(1.4, dense, pruned, hardware=gpu, stack="ideal")
    mine = Priced(Slow(need), "calibrated")
    stack = pis.stacks.get("ideal", gpu).with_kernel("gemm_2of4", mine).with_kernel("transpose", mine)
    assert pis.compare(dense, pruned, hardware=gpu, stack=stack).estimated == pytest.approx(1.4, rel=1e-12)


def test_static_depth_needs_no_kernel():
    """Layers go whole: nothing is changed, so that a target is reached with any kernel or with none."""
    dense = pis.trace("llama-3.1-8b", workload("decode"))
    pruned = dense.prune(pis.pruning.StaticDepth(0.5))
    need = [required_efficiency(x, dense, pruned, hardware="h100-sxm", stack="ideal") for x in (1.5, 3.0)]
    assert need == [0.0, np.inf]


def test_required_efficiency_above_one_and_infinite():
    dense = pis.trace("llama-3.1-8b", workload("decode", 16, 8192))
    pruned = dense.prune(pis.pruning.LowRank(0.5))
    room = max_speedup(dense, pruned, hardware="h100-sxm", stack="ideal")
    between = (room.perfect_changed + room.amdahl) / 2
    assert 1 < required_efficiency(between, dense, pruned, hardware="h100-sxm", stack="ideal") < np.inf
    assert required_efficiency(room.amdahl * 1.01, dense, pruned, hardware="h100-sxm", stack="ideal") == np.inf
    exact = required_efficiency(room.perfect_changed, dense, pruned, hardware="h100-sxm", stack="ideal")
    assert exact == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("stack", [*STACKS, "toy"])
@pytest.mark.parametrize("family", FAMILIES)
def test_headroom_is_ordered(family, stack):
    """estimated <= perfect changed kernels <= what Amdahl leaves, and perfect changed <= all perfect = bound."""
    dense = pis.trace("llama-3.1-8b", workload("prefill", np.array([1, 8])[:, None], np.array([16, 512, 4096])))
    pruned = dense.prune(pis.pruning.get(family, 0.5))
    model = toy() if stack == "toy" else stack
    room = max_speedup(dense, pruned, hardware="h100-sxm", stack=model)
    result = pis.compare(dense, pruned, hardware="h100-sxm", stack=model)
    slack = 1 + 1e-9
    assert np.shape(room.estimated) == np.shape(room.amdahl) == (2, 3)
    assert (room.estimated <= room.perfect_changed * slack).all()
    assert (room.perfect_changed <= np.asarray(room.perfect_all) * slack).all()
    assert (room.perfect_changed <= room.amdahl * slack).all()
    np.testing.assert_allclose(room.perfect_all, result.bound, rtol=1e-12)


def test_headroom_shows_its_numbers_in_a_notebook():
    dense = pis.trace("llama-3.1-8b", workload("decode", 1, 1024))
    pruned = dense.prune(pis.pruning.LowRank(0.5))
    room = max_speedup(dense, pruned, hardware="h100-sxm", stack="ideal")
    shown = dict(re.findall(r"<th>(\w+)</th><td>([\d.]+)</td>", room._repr_html_()))
    assert shown == {name: f"{getattr(room, name):.3f}" for name in vars(room)}
    sweep = pis.trace("llama-3.1-8b", workload("decode", np.array([1, 16])))
    assert "Headroom" in max_speedup(sweep, sweep, hardware="h100-sxm", stack="ideal")._repr_html_()


def test_inverse_questions_take_arrays():
    dense = pis.trace("llama-3.1-8b", workload("decode", np.array([1, 16, 64])))
    pruned = dense.prune(pis.pruning.LowRank(0.5))
    wide = required_efficiency(1.2, dense, pruned, hardware="h100-sxm", stack="ideal")
    for i, batch in enumerate((1, 16, 64)):
        one = pis.trace("llama-3.1-8b", workload("decode", batch))
        single = required_efficiency(1.2, one, one.prune(pis.pruning.LowRank(0.5)), hardware="h100-sxm", stack="ideal")
        assert isinstance(single, float)
        assert wide[i] == pytest.approx(single, rel=1e-12)


def test_a_target_that_is_not_positive_is_an_error():
    dense = pis.trace("llama-3.1-8b", workload("decode"))
    with pytest.raises(InvalidInputError, match="target"):
        required_efficiency(0.0, dense, dense.prune(pis.pruning.LowRank(0.5)), hardware="h100-sxm", stack="ideal")


# --- widths -----------------------------------------------------------------------------------------------------


def staircase(gpu: str = "h100-sxm"):
    return pis.stacks.get("ideal", pis.hardware.get(gpu)).with_kernel(
        "gemm", Priced(Staircase(), "calibrated", SPREAD, "gemm")
    )


def test_suggestions_equal_brute_force():
    model, tokens, wanted = pis.models.get("llama-3.1-8b"), 2048, 7200.0
    gpu = pis.hardware.get("h100-sxm")
    wave = 2 * TILE * TILE * gpu.sm_count / gpu.peak_flops("bf16")

    def seconds(width: float) -> float:
        up = np.ceil(tokens / TILE * np.ceil(width / TILE) / gpu.sm_count) * model.hidden_size
        down = np.ceil(tokens / TILE * np.ceil(model.hidden_size / TILE) / gpu.sm_count) * width
        return (2 * up + down) * wave * model.num_layers

    candidates = [w for w in np.arange(16, 20000, 16.0) if 0.9 * wanted <= w <= 1.1 * wanted]
    times = {w: seconds(w) for w in candidates}
    following = dict(itertools.pairwise(candidates))
    best = [
        w
        for w in candidates[:-1]
        if all(times[w] < times[x] for x in candidates if x > w)
        and times[following[w]] / times[w] - 1 > 2 * (following[w] / w - 1)
    ]
    # 16 * 57 tiles of gate and up fit in 7 waves of 132 SMs, 16 * 58 do not.
    assert best == [57 * 128]
    table = suggest_width(
        model, pis.Workload.prefill(1, tokens), hardware="h100-sxm", width=wanted, within=0.1, stack=staircase()
    )
    assert table.width.tolist() == sorted({*best, wanted})
    np.testing.assert_allclose(table.mlp_seconds, [times[w] for w in table.width], rtol=1e-12)
    here = table[table.width == wanted].iloc[0]
    assert here.change == here.channels == 0.0
    np.testing.assert_allclose(table.change, table.mlp_seconds / seconds(wanted) - 1, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(table.channels, table.width / wanted - 1, rtol=1e-12, atol=1e-15)


def test_a_smooth_kernel_has_no_edges():
    table = suggest_width("llama-3.1-8b", pis.Workload.decode(), hardware="h100-sxm", width=7168, stack="ideal")
    assert table.width.tolist() == [7168.0]


def test_suggestions_stay_in_range_and_keep_a_width_off_the_grid():
    table = suggest_width(
        "llama-3.1-8b", pis.Workload.decode(), hardware="h100-sxm", width=7001, within=0.03, stack="ideal"
    )
    assert table.width.between(7001 * 0.97, 7001 * 1.03).all()
    assert (table.width == 7001).sum() == 1


def test_suggest_width_names_wrong_input():
    sweep = pis.Workload.decode([1, 2])
    with pytest.raises(InvalidInputError, match="single"):
        suggest_width("llama-3.1-8b", sweep, hardware="h100-sxm", width=7168, stack="ideal")
    with pytest.raises(InvalidInputError, match="width"):
        suggest_width("llama-3.1-8b", pis.Workload.decode(), hardware="h100-sxm", width=-1, stack="ideal")
