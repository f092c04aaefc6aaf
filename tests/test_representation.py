"""One trace, told in two ways, is one trace: folded and unfolded, copied and pickled, fused before or by the stack."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from cases import FAMILIES, IGNORE_PROVENANCE, top_sparsity
from hypothesis import given, settings
from hypothesis import strategies as st

import pruninfersim as pis
from pruninfersim.errors import InvalidInputError, UnknownNameError
from pruninfersim.pruning import PerLayer
from pruninfersim.trace import NEUTRAL, alike

pytestmark = IGNORE_PROVENANCE

MODELS = ("llama-3.1-8b", "gemma-2-2b", "olmo-2-7b", "qwen3-4b")


def same(first: pis.Speedup, second: pis.Speedup) -> None:
    for name in ("estimated", "interval", "bound", "headroom", "ideal", "flops", "claim"):
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), rtol=1e-9, err_msg=name)


@settings(max_examples=60)
@given(
    st.sampled_from(MODELS), st.sampled_from(sorted(set(FAMILIES) - {"static-depth"})),
    st.sampled_from(["rtx-pro-6000", "h100-sxm", "l40s"]),
    st.sampled_from(["vendor", "paper", "ideal"]), st.sampled_from(["prefill", "decode"]), st.integers(1, 64),
    st.integers(1, 8192), st.booleans(),
)  # fmt: skip
def test_equal_ratios_per_layer_are_one_ratio(model, family, gpu, stack, phase, batch, context, half):
    """Errors of one kernel at one shape are one error, however many rows the layers have."""
    # 2:4 is for whole layers: of one layer all or nothing.
    sparsity = 0.5 if half or family == "semi-structured" else 0.25
    setup = pis.Setup(model, gpu, stack)
    work = setup.workload(phase, batch, context)
    dense = setup.trace(work)
    every = PerLayer([sparsity] * dense.model.num_layers)
    folded, unfolded = (dense.prune(pis.pruning.at(family, ratio)) for ratio in (sparsity, every))
    once = setup.compare(dense, folded)
    same(once, setup.compare(dense, unfolded))
    same(once, setup.compare(dense.unfold(), unfolded))
    same(once, setup.compare(dense.unfold(), folded))
    np.testing.assert_allclose(setup.estimate(dense).interval, setup.estimate(dense.unfold()).interval, rtol=1e-9)


def test_unfolded_in_a_sweep():
    setup = pis.Setup("gemma-2-2b", "rtx-pro-6000")
    dense = setup.trace(pis.Workload.prefill(np.array([1, 4])[:, None], [512, 4096, 5000]))
    every = PerLayer([0.5] * dense.model.num_layers)
    same(
        setup.compare(dense, dense.prune(pis.pruning.SemiStructured(0.5))),
        setup.compare(dense, dense.prune(pis.pruning.SemiStructured(every))),
    )


def test_ops_that_run_alike():
    ops = pis.trace("llama-3.1-8b", pis.Workload.decode(8, [1024, 4096]))
    groups: dict[int, set[str]] = {}
    for name, number in zip(ops.name, alike(ops), strict=True):
        groups.setdefault(int(number), set()).add(name)
    assert [sorted(names) for names in groups.values() if len(names) > 1] == [
        ["attn_norm", "final_norm", "mlp_norm"], ["o", "q"], ["k", "v"], ["gate", "up"],
    ]  # fmt: skip
    twice = ops.concat(ops)
    assert (alike(twice)[len(ops) :] == alike(twice)[: len(ops)]).all()


def test_two_layers_that_each_are_one_row_have_their_twins():
    setup = pis.Setup("llama-3.1-8b", "h100-sxm")
    dense = setup.trace(pis.Workload.decode(4, 2048))
    first = PerLayer([0.5] + [0.0] * 31)
    result = setup.compare(dense, dense.prune(pis.pruning.StaticWidth(first)))
    # 31 of 32 layers run just as before: their errors cancel, and what is left of the band is noise of measurement.
    assert np.log(result.interval[1] / result.estimated) < 0.03


COPIES = {"pickle": lambda x: pickle.loads(pickle.dumps(x)), "deepcopy": copy.deepcopy, "copy": copy.copy}


@pytest.mark.parametrize("how", COPIES)
def test_copies_are_as_read_only_as_the_original(how):
    setup = pis.Setup("llama-3.1-8b", "h100-sxm")
    dense = setup.trace(pis.Workload.decode([1, 8], 4096))
    pruned = dense.prune(pis.pruning.StaticWidth(0.5))
    for original in (dense, pruned):
        ops = COPIES[how](original)
        assert [name for name in NEUTRAL if getattr(ops, name).flags.writeable] == []
        assert not any(getattr(ops.workload, name).flags.writeable for name in ("batch", "query_len", "context"))
        assert setup.estimate(ops).latency == pytest.approx(setup.estimate(original).latency)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_vendor_stack_fuses_projections_on_both_sides(family):
    setup = pis.Setup("llama-3.1-8b", "h100-sxm")
    dense = setup.trace(pis.Workload.decode(1, 2048))
    pruned = dense.prune(pis.pruning.get(family, top_sparsity(family) / 2))
    result = setup.compare(dense, pruned)
    assert {"qkv", "gate_up"} < set(result.dense.trace.name)
    same(result, setup.compare(dense.fuse_projections(), pruned.fuse_projections()))


def test_fused_projections_are_what_engines_measure():
    """Three engines, summed from tables of measured kernels: 6.24 to 6.63 ms; unfused, 7.22."""
    step = pis.Setup("llama-3.1-8b", "h100-sxm").estimate(pis.Workload.decode(1, 2048))
    assert 6.24 < step.latency * 1e3 < 6.9
    assert step.interval[0] * 1e3 < 6.63


@pytest.mark.parametrize(
    ("row", "error", "says"),
    [
        ({"k": np.nan}, InvalidInputError, "k must be in .*; got nan"),
        ({"m": np.inf}, InvalidInputError, "m must be in"),
        ({"n": -1}, InvalidInputError, "n must be at least 0; got -1"),
        ({"m": 1e155}, InvalidInputError, "m must be in"),
        ({"kk": 1}, UnknownNameError, "column of a trace 'kk'. Did you mean 'k'"),
    ],
)
def test_rows_are_checked_at_the_door(row, error, says):
    with pytest.raises(error, match=says):
        pis.OpTrace.from_rows([row])


@pytest.mark.parametrize(
    "call",
    [
        lambda: pis.gemm_latency(1e155, 4096, 4096, hardware="h100-sxm"),
        lambda: pis.gemm_latency(4096, 1e308, 4096, hardware="h100-sxm"),
        lambda: pis.Workload.decode(1e155),
        lambda: pis.Workload.prefill(1, 1e308),
        lambda: pis.pruning.active_share(8, np.nan),
        lambda: pis.pruning.active_share(8, 1.5),
        lambda: pis.pruning.low_rank_rank(np.nan, 4096, 0.5),
        lambda: pis.pareto.curves(pis.pareto.published_quality(), lambda family, s: np.inf),
        lambda: pis.pareto.frontier(
            pis.pareto.curves(pis.pareto.published_quality(), lambda family, s: 1.0), largest_gap=np.nan
        ),
        lambda: pis.pareto.best_method({}, 1),
        lambda: pis.models.get("llama-3.1-8b").clone("huge", hidden_size=10**155),
    ],
)
def test_what_no_answer_can_come_of_is_refused(call):
    with pytest.raises(InvalidInputError):
        call()


def test_a_time_that_is_no_number_names_its_op():
    ops = pis.trace("llama-3.1-8b", pis.Workload.decode())
    broken = ops.with_columns(k=np.where(ops.mask(names=["o"]), np.nan, ops.k))
    with pytest.raises(InvalidInputError, match="the time of o is not a finite number"):
        pis.estimate(broken, hardware="h100-sxm", stack="ideal")
