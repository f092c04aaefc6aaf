"""`quantized` is a name like any other: alone, with a format, and with pruning before or after it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cases import IGNORE_PROVENANCE

import pruninfersim as pis
from pruninfersim import cli
from pruninfersim.cli.values import methods as option
from pruninfersim.cost.memory import weight_memory
from pruninfersim.errors import InvalidInputError, UnknownNameError
from pruninfersim.pruning import Quantized, SemiStructured, StaticWidth, quantized, spelling

pytestmark = IGNORE_PROVENANCE

MODEL = "llama-3.1-8b"
WORK = pis.Workload.decode(8, 4096)
CASE = {"model": MODEL, "hardware": "h100-sxm", "stack": "ideal"}


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("quantized", Quantized("fp8")),
        ("Quantised: int4", Quantized("int4")),
        ("quantized:int4:group=64:kv=fp8", Quantized("int4", group=64, kv="fp8")),
        ("quantized:int8:activations=bf16", Quantized("int8", activations="bf16")),
        ("quantized:kv=fp8", Quantized(kv="fp8")),
        ("quantized:mxfp4", Quantized("mxfp4")),
        ("quantized:bf16", Quantized()),
    ],
)
def test_names_are_read_and_written(text: str, method: Quantized) -> None:
    assert quantized.read(text) == method
    assert quantized.read(method.name) == method
    assert pis.pruning.resolve(text) == method
    assert option([text]) == [method]


@pytest.mark.parametrize("text", ["quantized:int4", "quantized:int4+static-width", "static-width+quantized:int4"])
def test_every_question_takes_the_name(text: str) -> None:
    ratio = 0.5 if pis.pruning.takes_sparsity(text) else None
    direct = pis.speedup(**CASE, method=text, sparsity=ratio, phase="decode", batch=8, context=4096)
    by_hand = [Quantized("int4"), StaticWidth(0.5)][: 1 if ratio is None else 2]
    dense = pis.trace(MODEL, WORK)
    expected = pis.compare(dense, dense.prune(*by_hand), hardware="h100-sxm", stack="ideal")
    assert direct.estimated == pytest.approx(expected.estimated, rel=1e-12)
    grid = pis.sweep(models=MODEL, hardware="h100-sxm", stacks="ideal", methods=[text], sparsity=[0.5], workloads=WORK)
    assert grid["estimated_speedup"].iloc[0] == pytest.approx(direct.estimated, rel=1e-12)
    ranking = pis.compare_hardware(MODEL, WORK, [text], hardware="h100-sxm", stack="ideal", sparsity=0.5)
    assert ranking["estimated_speedup"].iloc[1] == pytest.approx(direct.estimated, rel=1e-12)
    assert pis.break_even(axis="batch", method=text, sparsity=0.5, **CASE) == []
    assert direct.method in pis.report.html_report(**CASE, methods=[text], sparsity=0.5, workloads=WORK)
    json.dumps(direct.to_dict())
    more = pis.capacity(model=MODEL, hardware="rtx-4090", stack="vllm", method=text, sparsity=ratio, context=8192)
    less = pis.capacity(model=MODEL, hardware="rtx-4090", stack="vllm", context=8192)
    assert more.weight_bytes < 0.4 * less.weight_bytes
    assert more.kv_tokens > less.kv_tokens
    asked = pis.request(**{**CASE, "stack": "vllm"}, method=text, sparsity=ratio, batch=1, prompt=512, new_tokens=64)
    assert asked.tpot < pis.request(**{**CASE, "stack": "vllm"}, batch=1, prompt=512, new_tokens=64).tpot


def test_composed_with_pruning_in_either_order() -> None:
    dense = pis.trace(MODEL, WORK)
    for text in ("quantized+semi-structured", "semi-structured+quantized"):
        both = pis.pruning.resolve(text, 0.5)
        assert sorted(both.name.split(" + ")) == ["quantized:fp8", "semi-structured"]
        assert pis.pruning.largest(both) == 0.5
        pruned = dense.prune(both)
        np.testing.assert_allclose(
            weight_memory(pruned), weight_memory(dense.prune(Quantized("fp8"), SemiStructured()))
        )
    with pytest.raises(InvalidInputError, match=r"2:4 weights in int4_wo.*Sparse-Marlin"):
        dense.prune(pis.pruning.resolve("quantized:int4+semi-structured", 0.5))


@pytest.mark.parametrize(
    ("text", "error", "why"),
    [
        ("quantized:int5", UnknownNameError, "int4"),
        ("quantized:groups=3", UnknownNameError, "group"),
        ("quantized:int4:group=many", InvalidInputError, "positive whole number"),
        ("quantized:int4:activations=fp8", InvalidInputError, "int4 weights go with bf16"),
    ],
)
def test_what_it_cannot_mean(text: str, error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        pis.pruning.resolve(text)


def test_it_has_no_sparsity() -> None:
    with pytest.raises(InvalidInputError, match="quantized:int4 has no sparsity"):
        pis.speedup(**CASE, method="quantized:int4", sparsity=0.5)
    with pytest.raises(InvalidInputError, match="no ratio"):
        spelling.read("quantized:int4@0.5")
    with pytest.raises(InvalidInputError, match="a sparsity for no name"):
        pis.pruning.resolve(["quantized:int4", SemiStructured()], 0.5)


def test_commands_take_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def told(*arguments: str) -> list[dict[str, object]]:
        monkeypatch.setattr("sys.argv", ["pruninfersim", *arguments, "--format", "json"])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code in (0, None)
        return list(json.loads(capsys.readouterr().out))

    case = ["--model", MODEL, "--gpu", "h100-sxm", "--stack", "ideal", "--phase", "decode"]
    rows = told("speedup", *case, "--method", "quantized:int4,quantized+static-width,quantized:kv=fp8")
    assert [row["method"] for row in rows] == ["quantized:int4", "quantized:fp8 + static-width", "quantized:kv=fp8"]
    assert all(float(str(row["estimated"])) > 1.0 for row in rows)
    assert any(row["method"] == "quantized" for row in told("methods"))
