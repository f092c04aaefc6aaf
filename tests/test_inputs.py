"""What cannot be a right question ends in one short line of the one family, whoever asks and whatever was given."""

from __future__ import annotations

import datetime
import json
import os
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import pruninfersim as pis
from pruninfersim import errors, hardware
from pruninfersim._util.arrays import checked
from pruninfersim._util.doors import door
from pruninfersim.errors import FileFormatError, InvalidInputError, PruninfersimError
from pruninfersim.pruning.study import read_results, read_study
from pruninfersim.pruning.tables import read_ratios

TINY = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "vocab_size": 100,
}  # fmt: skip
SMALL = {"model": "llama-3.2-1b", "hardware": "l40s", "method": "low-rank", "sparsity": 0.5, "stack": "ideal"}


class Silent:
    """An object that fails whatever it is asked."""

    def __repr__(self) -> str:
        raise RuntimeError

    __str__ = __repr__

    def __float__(self) -> float:
        raise ZeroDivisionError


def complaint(call) -> str:
    with pytest.raises(PruninfersimError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    assert text.isprintable()
    assert 0 < len(text) <= errors.LONGEST
    return text


def dense() -> pis.OpTrace:
    return pis.trace("llama-3.2-1b", pis.Workload.decode(2, 64))


WRONG_KINDS = {
    "estimate of a number": (lambda: pis.estimate(1, hardware="l40s", phase="decode"), "1"),
    "comparison of numbers": (lambda: pis.compare(1, 2, hardware="l40s"), "1"),
    "method that is a number": (lambda: dense().prune(0.5), "methods must be a PruningMethod; got 0.5"),
    "workload that is a number": (lambda: pis.trace("llama-3.2-1b", workload=3), "workload must be a Workload; got 3"),
    "figure of a number": (lambda: pis.plots.plot(3), "int"),
    "bars of a text": (lambda: pis.plots.breakdown_figure("1e9"), "sides"),
    "timings that are a number": (lambda: pis.calibrate("gemm", timings=3), "timings must be a DataFrame; got 3"),
    "frontier of a number": (lambda: pis.pareto.frontier(1_000_000), "families must be a mapping; got 1000000"),
    "frontier of numbers": (lambda: pis.pareto.frontier({"a": 2}), "families must be"),
    "stack of a text": (lambda: pis.stacks.ideal("l40s"), "must be a HardwareProfile; got 'l40s'"),
    "cost model without a GPU": (lambda: pis.CostModel("mine", np.ones(3), {}), "hardware"),
    "causal is an array": (lambda: pis.Workload.prefill(causal=np.ones(2, bool)), "causal must be True or False"),
    "seconds of thirty digits": (
        lambda: pis.calibrate_engine(
            "vllm", seconds=-(10**30), workload=pis.Workload.decode(), model="llama-3.1-8b", hardware="l4"
        ), "seconds must be above 0"
    ),
    "no workload": (
        lambda: pis.compare_hardware(
            model="llama-3.1-8b", workloads=[None], methods="low-rank", hardware="l40s"
        ), "workloads must be made by Workload"
    ),
    "op that is not there": (lambda: dense().select([99]), "places of 16 ops"),
    "times that are none": (
        lambda: pis.estimate(dense(), hardware="l40s", stack="ideal").with_runs(np.full(16, np.nan)), "run needs a time"
    ),
    "nothing": (lambda: pis.gemm_latency(), "missing a required argument"),
    "engine that is a list": (lambda: pis.stacks.engine([1]), "engine"),
    "width of a mixture": (lambda: pis.suggest_width("qwen3-30b-a3b", hardware="l40s", width=768), "no dense MLP"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG_KINDS)
def test_an_argument_of_a_wrong_kind_is_named(what):
    call, said = WRONG_KINDS[what]
    assert said in complaint(call)


@pytest.mark.parametrize("odd", [10**400, -(10**400), Silent(), "x" * 9999, [[1], [2, 3]], object(), 1 + 2j, b"1", {}])
@pytest.mark.parametrize(
    "word", ["model", "hardware", "method", "sparsity", "batch", "context", "phase", "stack", "dtype"]
)
def test_a_strange_object_ends_in_one_line(word, odd):
    complaint(lambda: pis.speedup(**SMALL | {word: odd}))


NO_NUMBERS = [
    1 + 0j, np.array([1 + 0j]), datetime.datetime(2026, 1, 1), datetime.timedelta(1), np.datetime64("2026-01-01"),
    np.array([1, 2], "m8[s]"), np.ma.array([1.0, 2.0], mask=[True, False]), pd.NA, pd.NaT, pd.Series([1.0, None]),
    pd.array([1, None], dtype="Int64"), float("nan"), True, np.bool_(True), np.array([True]), [1, True], "1", ["1"],
    None, Decimal("NaN"), Silent(), [],
]  # fmt: skip


@pytest.mark.parametrize("odd", NO_NUMBERS, ids=lambda odd: type(odd).__name__)
def test_what_is_no_real_number_is_no_count_and_no_sparsity(odd):
    complaint(lambda: pis.Workload.decode(batch=odd))
    complaint(lambda: pis.pruning.LowRank(odd))


@pytest.mark.parametrize(
    "good", [8, 8.0, np.int8(8), np.float16(8), Decimal(8), Fraction(8), np.ma.array([8]), range(8, 9)]
)
def test_numbers_of_every_make_are_taken(good):
    assert checked("x", good, whole=True).ravel().tolist() == [8.0]


def test_a_door_lets_a_fault_of_its_own_through():
    @door
    def broken(x: int) -> int:
        raise KeyError(x)

    with pytest.raises(KeyError):
        broken(3)


# --- sizes without end -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [4097, 10**30, 999999999999999999999999999999])
@pytest.mark.parametrize("kind", ["llama", "mixtral", "gpt_neox"])
def test_more_layers_than_a_model_can_have(kind, layers):
    more = {"num_local_experts": 4, "num_experts_per_tok": 2, "num_key_value_heads": 4, "model_type": kind}
    assert "at most 4096" in complaint(lambda: pis.ModelConfig.from_hf(TINY | more | {"num_hidden_layers": layers}))
    assert "4096" in complaint(lambda: pis.models.get("llama-3.2-1b").clone("x", num_layers=10**9))


def test_a_window_pattern_longer_than_the_model_is_windows_everywhere():
    config = TINY | {"model_type": "gemma3", "sliding_window_pattern": 100_000, "sliding_window": 16}
    assert pis.ModelConfig.from_hf(config).window_layers == (True, True)


def test_more_points_than_memory_are_left_to_sweep():
    batch, context = np.arange(1, 9000)[:, None], np.arange(1, 9000)
    for stack in ("ideal", "vendor"):
        said = complaint(
            lambda stack=stack: pis.speedup(**SMALL | {"stack": stack, "batch": batch, "context": context})
        )
        assert "8.1e+07 points" in said
        assert "sweep" in said
    wide = pis.Workload.decode(np.ones((10**7, 1)), np.ones(10**6))
    assert "1e+13 points" in complaint(lambda: pis.sweep(models="llama-3.2-1b", hardware="l40s", workloads=wide))


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ['{"a":' * 9999 + "1" + "}" * 9999, "[" * 9999, '{"hidden_size": ' + "9" * 9999 + "}"])
def test_deep_and_long_json_is_no_configuration(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    assert "config.json" in complaint(lambda: pis.ModelConfig.from_hf(tmp_path))


@pytest.mark.parametrize("text", ["x = " + "[" * 9999, "x = " + "9" * 9999, "\r", "x = 1\0"])
def test_deep_and_long_toml_is_no_profile(tmp_path, text):
    (tmp_path / "x.toml").write_text(text, newline="")
    complaint(lambda: hardware.load(tmp_path / "x.toml"))
    complaint(lambda: pis.Calibration.from_toml(tmp_path / "x.toml"))


CALIBRATION = hardware.profiles_directory() / "calibrations" / "h100-sxm" / "gemm-bf16.toml"
CHANGES = {
    "negative": ("value = 2.5772e-06", "value = -1.0"),
    "endless": ("value = 2.5772e-06", "value = inf"),
    "text for a number": ("value = 2.5772e-06", 'value = "1e9"'),
    "no number": ("value = 0.92587", "value = nan"),
    "far out of its bounds": ("value = 0.92587", "value = 1e9"),
    "an impossible residual": ("low = -0.077081", "low = 1e300"),
    "an unknown cache": ('cache = "replayed"', 'cache = "warm"'),
    "no rows": ("rows = 4032", "rows = 0"),
    "a setting of another kind": ("quantised = true", "quantised = 3"),
    "a correlation above one": ("m = 0.10088", "m = 2.0"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_calibration_that_no_fit_writes_is_refused(tmp_path, what):
    before, after = CHANGES[what]
    text = CALIBRATION.read_text(encoding="utf-8")
    assert before in text
    (tmp_path / "fit.toml").write_text(text.replace(before, after, 1), encoding="utf-8")
    with pytest.raises(FileFormatError, match=r"fit\.toml"):
        pis.Calibration.from_toml(tmp_path / "fit.toml")


def test_a_quality_loss_that_is_none(tmp_path):
    (tmp_path / "q.csv").write_text("method,family,sparsity,gap_percent\nmine,low-rank,0.5,1e308\n")
    assert "gap_percent" in complaint(lambda: pis.pareto.read_quality(tmp_path / "q.csv"))


def test_lines_that_end_in_carriage_returns_are_lines(tmp_path):
    lines = ["gpu,dtype,m,n,k,latency_us", "h100-sxm,bf16,16,4096,4096,13.9"]
    for end in ("\n", "\r\n", "\r"):
        (tmp_path / "rows.csv").write_bytes(end.join(lines).encode())
        assert pis.read_timings(tmp_path / "rows.csv").latency_us.tolist() == [13.9]


def test_a_table_with_an_endless_cell(tmp_path):
    (tmp_path / "r.csv").write_text("layer,sparsity\n0," + "9" * 200_000 + "\n")
    assert "r.csv" in complaint(lambda: read_ratios(tmp_path / "r.csv"))


@pytest.mark.parametrize("layer", ["nan", "1e999", "-1", "999999999999", "0.5"])
def test_a_layer_that_no_model_has(tmp_path, layer):
    (tmp_path / "r.csv").write_text(f"layer,sparsity\n{layer},0.5\n")
    assert "whole number from 0 to 4095" in complaint(lambda: read_ratios(tmp_path / "r.csv"))


def importances(file: Path) -> object:
    return pis.where_to_prune("llama-3.2-1b", "l40s", "ideal", method="static-width", importance=file)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the platform has no named pipes")
@pytest.mark.parametrize(
    "read",
    [
        pis.ModelConfig.from_hf, hardware.load, pis.Calibration.from_toml, pis.read_timings, pis.pareto.read_quality,
        read_ratios, read_study, read_results, importances,
    ],
)  # fmt: skip
def test_what_is_no_plain_file_is_never_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 2**35)
    for file in ("pipe", "loop", "huge", "n" * 300, "nul\0", "gone"):
        with pytest.raises(FileFormatError):
            read(tmp_path / file)
    with pytest.raises(FileFormatError):
        read(Path("/dev/zero"))


def test_a_name_is_never_a_path_of_a_profile(tmp_path, monkeypatch):
    (tmp_path / "inside").mkdir()
    text = (hardware.profiles_directory() / "l40s.toml").read_text()
    (tmp_path / "outside.toml").write_text(text.replace('"l40s"', '"outside"', 1))
    monkeypatch.setenv(hardware.SEARCH_PATH_VARIABLE, str(tmp_path / "inside"))
    for name in ("../outside", "inside/../../outside", "x" * 5000):
        complaint(lambda name=name: hardware.get(name))


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("one,mlp,1", "layer must hold numbers"),
        ("0,mlp,x", "importance must hold numbers"),
        ("0,mlp,true", "importance must hold numbers"),
        ("0,7,1", "no importance of layer"),
        ("0,mlp,1\n0.0,mlp,2", "two rows"),
    ],
)
def test_importances_are_numbers_of_layers_and_roles(tmp_path, rows, says):
    (tmp_path / "own.csv").write_text(f"layer,role,importance\n{rows}\n")
    assert says in complaint(lambda: importances(tmp_path / "own.csv"))


@pytest.mark.parametrize("stack", [int, dict, 7, None])
def test_a_class_is_no_stack(stack):
    with pytest.raises(InvalidInputError, match="stack must be a name"):
        pis.capacity(model="llama-3.2-1b", hardware="l40s", stack=stack)


@pytest.mark.parametrize("count", [0, -1, True, 2.5, 4097, 10**400])
def test_a_group_of_gpus_is_a_count(count):
    with pytest.raises(InvalidInputError, match="tp must be a positive whole number of GPUs, at most 4096; got"):
        pis.stacks.parallel(pis.stacks.get("ideal", hardware.get("l40s")), tp=count)


# --- messages --------------------------------------------------------------------------------------------------------


def test_a_message_is_one_short_line_that_survives_pickling():
    import pickle

    error = InvalidInputError("first\nsecond \x1b[31m" + "x" * 20_000)
    assert str(error).startswith("first second [31mx")
    assert len(str(error)) <= errors.LONGEST
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_configuration_is_quoted_in_part_only(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(TINY | {"vocab_size": "y" * 50_000}))
    assert len(complaint(lambda: pis.ModelConfig.from_hf(tmp_path))) < 500
