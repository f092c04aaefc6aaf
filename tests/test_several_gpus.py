"""Questions about a model that is split over several GPUs: cost, memory, and the same numbers whoever is asked."""

from __future__ import annotations

import json

import numpy as np
import pytest

import pruninfersim as pis
from pruninfersim.cost.memory import weight_memory
from pruninfersim.cost.sharding import shard

LARGE = {"model": "llama-3.1-70b", "hardware": "h100-sxm", "phase": "decode", "batch": 8, "context": 4096}


def test_four_gpus_cost_four_prices():
    frame = pis.compare_hardware(**LARGE | {"hardware": ["h100-sxm", "mi300x"]}, method="static-width", tp=4,
                                 price_per_hour={"h100-sxm": 2.5, "mi300x": 3.0})  # fmt: skip
    prices = frame.hardware.map({"h100-sxm": 2.5, "mi300x": 3.0}).astype(float)
    assert np.allclose(frame.cost_per_million_tokens, 4 * prices / 3600 / frame.tokens_per_second * 1e6)
    assert frame.fits.all()  # 141 GB of weights on four cards of 80 GB
    assert np.allclose(frame.memory_share[0], (float(weight_memory(shard(pis.trace("llama-3.1-70b",
                       pis.Workload.decode(8, 4096)), 4))) + frame.kv_bytes[0]) / 80e9)  # fmt: skip


def test_the_command_line_says_the_same_cost_and_memory(run):
    asked = ["--model", "llama-3.1-70b", "--gpu", "h100-sxm", "--phase", "decode", "--batch", "8", "--context", "4k",
             "--method", "static-width", "--tp", "4", "--format", "json"]  # fmt: skip
    rows = json.loads(run("compare-hardware", *asked, "--price", "h100-sxm=2.5")[1])
    frame = pis.compare_hardware(**LARGE, method="static-width", tp=4, price_per_hour={"h100-sxm": 2.5})
    assert [row["cost of 1M tokens"] for row in rows] == pytest.approx(frame.cost_per_million_tokens.tolist())
    assert all(row["fits"] for row in rows)
    memory = json.loads(run("memory", *asked)[1])
    assert [row["used [%]"] for row in memory] == pytest.approx((100 * frame.memory_share).tolist())
    assert memory[0]["weights [GB]"] == pytest.approx(pis.capacity(model="llama-3.1-70b", hardware="h100-sxm", tp=4)
                                                      .weight_bytes / 1e9)  # fmt: skip


def test_speedup_and_break_even_take_the_words_of_a_setup():
    ask = LARGE | {"method": "static-width"}
    split = pis.speedup(**ask, sparsity=0.5, tp=4)
    setup = pis.Setup("llama-3.1-70b", "h100-sxm", tp=4)
    work = pis.Workload.decode(8, 4096)
    assert split.estimated == setup.speedup("static-width", 0.5, work).estimated
    assert split.estimated < pis.speedup(**ask, sparsity=0.5).estimated  # all-reduces do not shrink with the weights
    assert pis.speedup(model="llama-3.1-70b", hardware="h100-sxm", method="static-width", sparsity=0.5, workload=work,
                       tp=4).estimated == split.estimated  # fmt: skip
    one, four = (
        pis.break_even("batch", method="dynamic-depth", model="llama-3.1-70b", hardware="h100-sxm", phase="decode",
                       context=4096, between=(16, 1024), tp=tp) for tp in (1, 4)
    )  # fmt: skip
    works = [pis.Workload.decode(batch, 4096) for batch in (four[0].value - 1, four[0].value)]
    lead = [setup.compared("dynamic-depth", 0.5, each).estimated for each in works]
    assert lead[0] <= 1.0 <= lead[1]
    assert one[0].value != four[0].value


def test_a_function_without_a_word_for_it_says_how():
    with pytest.raises(pis.errors.InvalidInputError, match=r"sweep has no keyword 'tp': a model on several GPUs is a"):
        pis.sweep(**LARGE, method="static-width", tp=4)
    frame = pis.sweep(**LARGE, method="static-width",
                      stack=lambda gpu: pis.stacks.parallel(pis.stacks.get("vendor", gpu), tp=4))  # fmt: skip
    assert frame.estimated_speedup[0] == pytest.approx(
        pis.speedup(**LARGE, method="static-width", sparsity=0.5, tp=4).estimated
    )


@pytest.mark.parametrize("engine", ["vendor", "vllm", "vllm-0.5", "sglang", "transformers"])
def test_a_stack_on_several_gpus_is_a_setup_on_several_gpus(engine):
    ask = {"model": "llama-3.1-70b", "hardware": "h100-sxm", "dtype": "fp8"}
    split = pis.stacks.parallel(pis.stacks.get(engine, pis.hardware.get("h100-sxm")), tp=4)
    assert pis.capacity(**ask, stack=split).to_dict() == pis.capacity(**ask, stack=engine, tp=4).to_dict()
    served = [pis.request(**ask, **how) for how in ({"stack": split}, {"stack": engine, "tp": 4})]
    assert served[0].to_dict() == served[1].to_dict()
    assert served[0].price(2.0) == served[1].price(2.0)
