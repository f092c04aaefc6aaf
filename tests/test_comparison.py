"""`compare` and `speedup`: shapes, intervals, warnings, and names in."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from cases import FAMILIES, IGNORE_PROVENANCE, STACKS, workload

import pruninfersim as pis
from pruninfersim.cost import Protocol, Spread
from pruninfersim.errors import InvalidInputError, ProvenanceWarning, UnknownNameError
from pruninfersim.kernels.base import Roofline
from pruninfersim.ops import CATALOGUE

H100 = pis.hardware.get("h100-sxm")


def dense(phase="decode", batch=8, context=4096):
    return pis.trace("llama-3.1-8b", workload(phase, batch, context))


def stack_of(**provenances) -> pis.CostModel:
    """A roofline stack in which some kernels claim other evidence, with a band."""
    kernels = {key: pis.Priced(Roofline(), kind, Spread(-0.1, 0.1, 0.5), "gemm") for key, kind in provenances.items()}
    return pis.CostModel("toy", H100, kernels, pis.stacks.get("ideal", H100).default)


CALIBRATED = dict.fromkeys(("gemm", "lm_head"), "calibrated")


# --- shapes -----------------------------------------------------------------------------------------------------------


@IGNORE_PROVENANCE
@pytest.mark.parametrize("stack", STACKS)
def test_scalars_in_floats_out(stack):
    result = pis.speedup(model="llama-3.1-8b", hardware="h100-sxm", method="low-rank", sparsity=0.5, stack=stack)
    for value in (result.flops, result.ideal, result.estimated, result.bound, result.claim, *result.interval):
        assert type(value) is float


@IGNORE_PROVENANCE
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("family", FAMILIES)
def test_arrays_in_arrays_of_the_broadcast_shape_out(family, stack):
    batch, context, sparsity = (
        np.array([1, 4])[:, None, None],
        np.array([64, 1000, 8000])[:, None],
        [0.0, 0.2, 0.4, 0.5],
    )
    options = {"model": "llama-3.1-8b", "hardware": "h100-sxm", "method": family, "phase": "decode", "stack": stack}
    many = pis.speedup(**options, sparsity=sparsity, batch=batch, context=context)
    for value in (many.ideal, many.estimated, many.bound, *many.interval):
        assert value.shape == (2, 3, 4)
    one = pis.speedup(**options, sparsity=0.4, batch=4, context=64)
    assert many.estimated[1, 0, 2] == pytest.approx(one.estimated, rel=1e-12)
    assert many.bound[1, 0, 2] == pytest.approx(one.bound, rel=1e-12)
    assert many.interval[0][1, 0, 2] == pytest.approx(one.interval[0], rel=1e-9)
    np.testing.assert_allclose(np.broadcast_to(many.flops, (2, 3, 4))[1, 0, 2], one.flops, rtol=1e-12)


def test_inputs_are_not_changed():
    sparsity, batch = np.array([0.1, 0.5]), np.array([1, 8])
    before, after = dense(batch=batch), None
    after = before.prune(pis.pruning.StaticWidth(sparsity))
    names = (before.name, after.name)
    pis.compare(before, after, hardware=H100, stack="ideal")
    assert (sparsity.tolist(), batch.tolist()) == ([0.1, 0.5], [1, 8])
    assert (before.name, after.name) == names


# --- intervals --------------------------------------------------------------------------------------------------------


def test_a_definition_has_no_interval():
    result = pis.compare(dense(), dense().prune(pis.pruning.StaticDepth(0.5)), hardware=H100, stack="ideal")
    assert result.interval == (result.estimated, result.estimated)


def test_errors_on_both_sides_cancel():
    stack, before = stack_of(**dict.fromkeys(CATALOGUE, "calibrated")), dense()
    same = pis.compare(before, before, hardware=H100, stack=stack)
    # The bound clips the upper side, the ideal kernels being at their roofline.
    assert same.interval[0] == pytest.approx(1.0, abs=1e-6)
    half_depth = pis.compare(before, before.prune(pis.pruning.StaticDepth(0.5)), hardware=H100, stack=stack)
    low_rank = pis.compare(before, before.prune(pis.pruning.LowRank(0.5)), hardware=H100, stack=stack)
    width = {name: np.log(r.estimated / r.interval[0]) for name, r in [("depth", half_depth), ("rank", low_rank)]}
    assert 0 < width["depth"] < width["rank"] < 0.1  # the same shapes run, other shapes run, one side alone


def test_the_upper_end_never_passes_the_bound():
    stack = stack_of(**dict.fromkeys(CATALOGUE, "calibrated"))
    result = pis.compare(dense(), dense().prune(pis.pruning.LowRank(0.5)), hardware=H100, stack=stack)
    assert result.interval[1] == result.bound


# --- evidence ---------------------------------------------------------------------------------------------------------


def test_sides_that_rest_on_other_evidence_are_told_apart():
    before = dense()
    pruned = before.prune(pis.pruning.SemiStructured(0.5))
    with pytest.warns(
        ProvenanceWarning, match=r"dense side rests on calibrated.*pruned side on calibrated and roofline"
    ):
        result = pis.compare(before, pruned, hardware=H100, stack=stack_of(**CALIBRATED, attention_decode="calibrated"))
    assert len(result.notes) == 1
    assert result.to_dict()["notes"] == list(result.notes)


def test_the_same_evidence_on_both_sides_says_nothing():
    before = dense()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = pis.compare(
            before, before.prune(pis.pruning.StaticWidth(0.5)), hardware=H100, stack=stack_of(**CALIBRATED)
        )
    assert result.notes == ()


def test_evidence_behind_a_sliver_of_the_time_does_not_matter():
    before = dense()
    stack = stack_of(**dict.fromkeys(CATALOGUE, "calibrated") | {"transpose": "roofline"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pis.compare(before, before.prune(pis.pruning.SemiStructured(0.0)), hardware=H100, stack=stack)


def test_warning_points_at_the_caller():
    before = dense()
    pruned = before.prune(pis.pruning.SemiStructured(0.5))
    with pytest.warns(ProvenanceWarning) as caught:
        pis.compare(before, pruned, hardware=H100, stack=stack_of(**CALIBRATED, attention_decode="calibrated"))
    assert caught[0].filename == __file__


# --- speedup by names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("family", FAMILIES)
def test_names_and_objects_say_the_same(family, phase):
    by_name = pis.speedup(
        model="llama-3.1-8b", hardware="h100-sxm", method=family, sparsity=0.4, phase=phase, batch=2, context=512,
        stack="ideal",
    )  # fmt: skip
    before = dense(phase, 2, 512)
    by_object = pis.compare(before, before.prune(pis.pruning.get(family, 0.4)), hardware=H100, stack="ideal")
    assert by_name.estimated == by_object.estimated
    assert by_name.achieved.keys() == {family}


def test_logits_follow_the_protocol_of_the_stack():
    options = {"model": "llama-3.1-8b", "hardware": H100, "method": "static-depth", "sparsity": 0.5, "context": 2048}
    ideal = pis.speedup(**options, stack="ideal")
    every = pis.speedup(**options, stack="ideal", logits="all")
    paper = replace(pis.stacks.get("ideal", H100), protocol=Protocol(logits="all"))
    assert ideal.dense.trace.workload.logits == "last"
    assert every.dense.trace.workload.logits == "all"
    assert pis.speedup(**options, stack=paper).dense.latency == every.dense.latency
    assert pis.speedup(**options, stack=paper, logits="last").dense.latency == ideal.dense.latency


def test_a_method_object_brings_its_own_sparsity():
    options = {"model": "llama-3.1-8b", "hardware": H100, "stack": "ideal"}
    assert pis.speedup(**options, method=pis.pruning.StaticDepth(0.5)).claim == 2.0
    with pytest.raises(InvalidInputError, match="inside the method object"):
        pis.speedup(**options, method=pis.pruning.StaticDepth(0.5), sparsity=0.5)
    with pytest.raises(InvalidInputError, match="needs a sparsity"):
        pis.speedup(**options, method="static-depth")


@pytest.mark.parametrize(
    ("field", "wrong", "right"),
    [
        ("model", "llama-3.1-8", "llama-3.1-8b"),
        ("hardware", "h100-smx", "h100-sxm"),
        ("method", "static-widht", "static-width"),
        ("stack", "idel", "ideal"),
        ("phase", "prefil", "prefill"),
        ("dtype", "bf15", "bf16"),
    ],
)
def test_unknown_names_suggest_the_nearest(field, wrong, right):
    options = {
        "model": "llama-3.1-8b",
        "hardware": "h100-sxm",
        "method": "static-depth",
        "sparsity": 0.5,
        "stack": "ideal",
    }
    with pytest.raises(UnknownNameError, match=f"Did you mean '{right}'"):
        pis.speedup(**options | {field: wrong})


def test_plain_numbers_for_json():
    result = pis.speedup(model="llama-3.1-8b", hardware="h100-sxm", method="static-width", sparsity=0.3, stack="ideal")
    data = json.loads(json.dumps(result.to_dict()))
    assert data["achieved"]["static-width"]["attention"] == 0.375
    assert data["sparsity"] == {"static-width": 0.3}
    assert data["estimated"] == result.estimated


def test_repr_and_html():
    one = pis.speedup(model="llama-3.1-8b", hardware="h100-sxm", method="static-depth", sparsity=0.5, stack="ideal")
    assert repr(one).startswith(
        "<Speedup of static-depth 0.5, llama-3.1-8b on h100-sxm, prefill, batch 1, context 1024"
    )
    assert "estimated 1.9" in repr(one)
    page = one._repr_html_()
    assert page.startswith("<table>")
    assert "static-depth 0.5, llama-3.1-8b on h100-sxm" in page
    many = pis.speedup(model="llama-3.1-8b", hardware=H100, method="low-rank", sparsity=[0.1, 0.5], stack="ideal")
    assert "sweep (2,)" in repr(many)
    assert "low-rank 0.1 to 0.5" in many._repr_html_()


@pytest.mark.parametrize("family", pis.pruning.METHODS)
@pytest.mark.parametrize("batch", [3, [3], [[1], [3], [40]]])
def test_two_traces_priced_in_one_go_are_priced_as_each_alone(family, batch):
    model = pis.stacks.get("vendor", pis.hardware.get("h100-sxm"))
    dense = pis.trace("llama-3.1-8b", pis.Workload.decode(batch, 900))
    pruned = dense.prune(pis.pruning.get(family, 0.5))
    for step, alone in zip(
        model.predict_both(dense, pruned), (model.predict(dense), model.predict(pruned)), strict=True
    ):
        assert step.trace.name == alone.trace.name
        for name in ("run", "gap", "floor"):
            np.testing.assert_allclose(
                *(np.broadcast_to(getattr(side, name), alone.trace.shape) for side in (step, alone)), rtol=1e-13
            )
