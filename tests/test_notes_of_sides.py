"""What limits an op, what two sides are told about their evidence, and what a question means where nobody says."""

from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import pytest
from cases import IGNORE_PROVENANCE, rows
from toy import Slow, toy

import pruninfersim as pis
from pruninfersim.cost import Domain, Graph, Priced, Spread
from pruninfersim.cost.estimate import MATERIAL_SHARE
from pruninfersim.kernels.evidence import Limit, Quantity, keys
from pruninfersim.questions.comparison import compare_estimates
from pruninfersim.questions.vocabulary import KEYWORDS

pytestmark = IGNORE_PROVENANCE

DENSE = pis.trace("llama-3.1-8b", pis.Workload.decode(8, 4096))


# --- what limits an op ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("efficiency", "limit"), [(0.99, "memory"), (0.51, "memory"), (0.49, "overhead")])
def test_overhead_is_more_than_half_of_the_time(efficiency, limit):
    slow = toy(efficiency=efficiency, launch_gap=0.0)
    step = replace(slow, kernels=dict.fromkeys(slow.kernels, slow.kernels["norm"])).predict(DENSE)
    assert set(step.bound) == {limit}


def test_a_gap_as_long_as_the_roofline_is_half_of_the_time():
    """The wait counts: just below the roofline of an op it is what limits no op of that size, and just above, it is."""
    op = rows(DENSE, "down")
    perfect = toy(efficiency=1.0, launch_gap=0.0)
    perfect = replace(perfect, kernels={"gemm": Priced(Slow(1.0), "calibrated", Spread(0, 0, 0), "all", "made up")})
    floor = float(perfect.predict(op).run[0])
    for share, limit in ((0.99, "memory"), (1.01, "overhead")):
        assert replace(perfect, clock=Graph(share * floor)).predict(op).bound.tolist() == [limit]


def test_an_op_at_the_ridge_is_one_of_compute():
    """FLOPs / peak and bytes / bandwidth of a GEMM cross where its tokens feed the tensor cores."""
    perfect = pis.stacks.get("ideal", pis.hardware.get("h100-sxm"))
    gpu = perfect.hardware
    limits = []
    for tokens in (64, 256, 299, 400, 4096):
        op = rows(pis.trace("llama-3.1-8b", pis.Workload.prefill(1, tokens)), "down")
        compute = 2 * tokens * 4096 * 14336 / gpu.peak["bf16"]
        memory = 2 * (4096 * 14336 + tokens * (4096 + 14336)) / gpu.memory_bandwidth
        limits.append(str(perfect.predict(op).bound[0]))
        assert limits[-1] == ("compute" if compute >= memory else "memory")
    assert limits[0] == "memory"
    assert limits[-1] == "compute"


# --- what two sides are told ------------------------------------------------------------------------------------------


def priced(**provenance: str):
    """A stack whose kernels rest on the evidence that is said, or on a calibration."""
    stack = toy()
    kinds = {key: provenance.get(key, "calibrated") for key in stack.kernels}
    known = {key: replace(stack.kernels[key], provenance=kind) for key, kind in kinds.items()}
    return replace(stack, kernels=known)


def notes(stack, *methods) -> tuple[str, ...]:
    return compare_estimates(stack.predict(DENSE), stack.predict(DENSE.prune(*methods))).notes


def evidence(estimate: pis.Estimate) -> list[str]:
    """Evidence of at least 5 % of a pass, by its table."""
    shares = estimate.to_frame().groupby("provenance").share.sum()
    return sorted(shares[shares >= MATERIAL_SHARE].index)


def test_each_side_is_told_what_it_rests_on():
    stack = priced(gemm_2of4="extrapolated", attention_decode="extrapolated")
    pruned = stack.predict(DENSE.prune(pis.pruning.SemiStructured(0.5)))
    mixed = priced(gemm_2of4="extrapolated")
    found = notes(mixed, pis.pruning.SemiStructured(0.5))[0]
    sides = [
        " and ".join(evidence(mixed.predict(ops))) for ops in (DENSE, DENSE.prune(pis.pruning.SemiStructured(0.5)))
    ]
    assert sides[0] == "calibrated"
    assert sides[1] == "calibrated and extrapolated"
    assert found.startswith(f"the dense side rests on {sides[0]} kernels and the pruned side on {sides[1]} ones")
    assert evidence(stack.predict(DENSE)) == evidence(pruned)  # both sides have some of each ...
    unequal = notes(stack, pis.pruning.SemiStructured(0.5))[0]
    shares = [side.evidence()["extrapolated"] for side in (stack.predict(DENSE), pruned)]
    assert shares[1] - shares[0] > 0.25  # ... but one far more
    dense, after = (f"{share:.0%} of the {side} side" for share, side in zip(shares, ("dense", "pruned"), strict=True))
    assert unequal.startswith(f"{dense} and {after} rest on extrapolated")


def test_more_calibrated_work_on_one_side_is_no_reason_to_warn():
    """Where a quarter and less is on other ground, nothing is said; equal sides are told nothing at all."""
    assert notes(priced(), pis.pruning.StaticWidth(0.5)) == ()
    assert notes(priced(attention_decode="extrapolated"), pis.pruning.StaticWidth(0.125)) == ()


def test_the_worst_comes_first():
    """Bias of the ratio, then evidence that both lack, then what either side says of itself, dense first; once each."""
    gpu = pis.hardware.get("l40s").clone("small", memory_size=8e9)
    far = Domain((Limit(Quantity("keys", keys, above=0.1), 1.0, 1024.0),))
    stack = priced(**dict.fromkeys(toy().kernels, "extrapolated"))
    narrow = replace(stack.kernels["attention_decode"], domain=far)
    stack = replace(stack, hardware=gpu, kernels=stack.kernels | {"attention_decode": narrow, "gemm_2of4": replace(
        stack.kernels["gemm_2of4"], provenance="calibrated")})  # fmt: skip
    before, after = stack.predict(DENSE), stack.predict(DENSE.prune(pis.pruning.SemiStructured(0.5)))
    found = compare_estimates(before, after).notes
    assert found[0].startswith("the dense side rests on extrapolated kernels")
    own = [*before.notes, *after.notes]
    assert len(own) > len(set(own)) > 0  # both sides are outside at the same keys
    assert list(found[-len(dict.fromkeys(own)) :]) == list(dict.fromkeys(own))
    assert len(set(found)) == len(found)


def test_evidence_that_both_lack_is_said_once():
    stack = priced(**dict.fromkeys(toy().kernels, "extrapolated"))
    (found,) = notes(stack, pis.pruning.StaticWidth(0.5))
    assert found.startswith("100% of the dense side and 100% of the pruned side rest on extrapolated kernels")
    assert "fitted on other GPUs than h100-sxm" in found


# --- what a question means where nobody says --------------------------------------------------------------------------

CASE = {"model": "llama-3.1-8b", "hardware": "h100-sxm", "method": "static-width", "sparsity": 0.5}
#: As the documentation has it: one prompt of 1024 tokens, its last logits, the model's own precision, library kernels.
SAID = {"phase": "prefill", "batch": 1, "context": 1024, "stack": "vendor", "dtype": "bf16", "logits": "last"}


@pytest.mark.parametrize("left_out", SAID)
def test_what_is_left_out_is_what_the_documentation_says(left_out):
    whole = pis.speedup(**CASE, **SAID)
    some = {name: value for name, value in SAID.items() if name != left_out}
    assert pis.speedup(**CASE, **some).to_dict() == whole.to_dict()
    other = {"phase": "decode", "batch": 2, "context": 512, "stack": "ideal", "dtype": "fp8", "logits": "all"}
    assert pis.speedup(**CASE, **(SAID | {left_out: other[left_out]})).estimated != whole.estimated


def test_nothing_said_at_all():
    assert pis.speedup(**CASE).to_dict() == pis.speedup(**CASE, **SAID).to_dict()
    dense = pis.trace("llama-3.1-8b", phase="prefill")
    said = pis.trace("llama-3.1-8b", phase="prefill", batch=1, context=1024, logits="last")
    assert said.to_frame().equals(dense.to_frame())


def test_keywords_come_in_the_order_of_the_signature():
    """Messages and pages name them in that order; everything is by name, so that nothing else depends on it."""
    parameters = inspect.signature(pis.speedup).parameters
    named = [name for name in parameters if name in KEYWORDS]
    assert tuple(named) == KEYWORDS[: len(named)]
    assert {parameter.kind for parameter in parameters.values()} == {
        inspect.Parameter.KEYWORD_ONLY,
        inspect.Parameter.VAR_KEYWORD,
    }


def test_lists_are_crossed_in_the_order_that_they_are_given_in():
    """The last keyword of the signature changes fastest, and alternatives faster still."""
    found = pis.speedup(
        model=["llama-3.1-8b", "qwen3-8b"], hardware=["l40s", "h100-sxm"], stack=["ideal", "paper"],
        phase=["prefill", "decode"], methods=["static-width", "low-rank"], sparsity=0.5,
    )  # fmt: skip
    got = [(r.model.name, r.hardware.name, r.stack, r.workload.phase, r.method) for r in found]
    sides = (
        ("llama-3.1-8b", "qwen3-8b"), ("l40s", "h100-sxm"), ("ideal", "paper"), ("prefill", "decode"),
        ("static-width", "low-rank"),
    )  # fmt: skip
    places = [tuple(side.index(each) for side, each in zip(sides, row, strict=True)) for row in got]
    assert places == list(np.ndindex(2, 2, 2, 2, 2))


@pytest.mark.parametrize(("first", "second"), [("vendor", "transformers"), ("transformers", "vendor")])
def test_sides_of_which_one_waits_for_a_host(first, second):
    """Two estimates may be of two stacks: the interval holds the ratio of their times, whoever has a host."""
    sides = [pis.stacks.get(stack, pis.hardware.get("h100-sxm")).predict(DENSE) for stack in (first, second)]
    found = compare_estimates(*sides)
    assert found.estimated == pytest.approx(sides[0].latency / sides[1].latency)
    assert found.interval[0] < found.estimated < found.interval[1]
