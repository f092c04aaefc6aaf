"""The command line: three formats that parse, and one line on standard error for every mistake."""

from __future__ import annotations

import csv
import io
import itertools
import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cases import FAMILIES, STACKS

import pruninfersim as pis
from pruninfersim.pruning import aliases

LLAMA = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072,
}  # fmt: skip


def records(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


QUESTION = ["model", "gpu", "stack", "phase", "batch", "context", "dtype", "sparsity", "method"]


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    aliases._say.cache_clear()


def body(text: str) -> list[str]:
    """Return the lines of the table in an answer, without head and rule."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("─")) + 1
    return list(itertools.takewhile(bool, lines[start:]))


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_all_methods_in_one_table(run, phase, stack):
    code, out, err = run("speedup", "--method", "all", "--phase", phase, "--stack", stack, "--gpu", "rtx-pro-6000")
    assert code == 0
    assert all(line.startswith("note: ") for line in err.splitlines())  # what to know goes to standard error
    assert [line.split()[0] for line in body(out)] == list(FAMILIES)
    for word in ("estimated", "bound", "[ms]", "llama-3.1-8b on rtx-pro-6000", phase, stack, "bf16", "sparsity 0.5"):
        assert word in out


def test_csv_has_seven_rows_of_numbers(run):
    code, out, err = run("speedup", "--stack", "ideal", "--format", "csv")
    assert (code, err) == (0, "")
    rows = records(out)
    assert [row["method"] for row in rows] == list(FAMILIES)
    for row in rows:
        assert float(row["low"]) <= float(row["estimated"]) <= float(row["high"]) <= float(row["bound"]) * (1 + 1e-12)


def test_json_says_the_same_as_csv(run):
    case = ("speedup", "--stack", "ideal", "--phase", "decode", "--batch", "8", "--sparsity", "0.25")
    table = records(run(*case, "--format", "csv")[1])
    data = json.loads(run(*case, "--format", "json")[1])
    assert [row["method"] for row in data] == list(FAMILIES)
    for row, same in zip(table, data, strict=True):
        assert list(row) == list(same)
        assert same["estimated"] == float(row["estimated"])
        assert same["sparsity"] == 0.25


COMMANDS = {
    "speedup": (),
    "headroom": ("--target", "1.2,1.5"),
    "trace": ("--method", "static-width"),
    "explain": ("--method", "static-width"),
    "memory": (),
    "compare-hardware": ("--gpu", "h100-sxm"),
    "recommend": ("--target", "speedup=1.2"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_row_carries_its_whole_question(run, command):
    case = (command, *COMMANDS[command], "--stack", "ideal", "--phase", "both", "--batch", "1,4", "--context", "1k")
    rows = records(run(*case, "--format", "csv")[1])
    assert list(rows[0])[: len(QUESTION)] == QUESTION
    assert {(row["phase"], row["batch"]) for row in rows} == {(p, b) for p in ("prefill", "decode") for b in "14"}
    assert {row["context"] for row in rows} == {"1024"}
    for key in set(QUESTION) - {"sparsity"}:
        assert all(row[key] for row in rows), key
    data = json.loads(run(*case, "--format", "json")[1])
    assert [[row.get(key) for key in ("phase", "batch", "method")] for row in data] == [
        [row["phase"], int(row["batch"]), row["method"]] for row in rows
    ]


def test_fp8_and_bf16_do_not_look_alike(run):
    base = ("speedup", "--stack", "ideal", "--method", "static-width")
    titles = {run(*base, *more)[1].splitlines()[0] for more in ((), ("--dtype", "fp8"), ("--sparsity", "0.25"))}
    assert len(titles) == 3


def test_lists_by_commas_and_by_repetition_are_the_same(run):
    base = ("speedup", "--stack", "ideal", "--format", "csv", "--method", "low-rank")
    commas = run(*base, "--gpu", "l40s,4090", "--sparsity", "0.25,50%")
    again = run(*base, "--gpu", "l40s", "--gpu", "NVIDIA GeForce RTX 4090", "--sparsity", "25%", "--sparsity", "0.5")
    assert commas == again
    assert [(row["gpu"], row["sparsity"]) for row in records(commas[1])] == [
        ("l40s", "0.25"), ("l40s", "0.5"), ("rtx-4090", "0.25"), ("rtx-4090", "0.5")
    ]  # fmt: skip


def test_numbers_as_people_write_them(run):
    base = ("speedup", "--stack", "ideal", "--format", "csv", "--method", "low-rank")
    assert run(*base, "--context", "8k")[1] == run(*base, "--context", "8192")[1]


def test_methods_of_papers_are_said_once_on_standard_error(run):
    code, out, err = run("speedup", "--stack", "ideal", "--format", "csv", "--method", "SliceGPT", "--batch", "1,2")
    assert code == 0
    assert [row["method"] for row in records(out)] == ["static-width-cross"] * 2
    assert err == "note: SliceGPT is taken for its family, static-width-cross\n"


def test_compositions(run):
    out = run("speedup", "--stack", "ideal", "--format", "csv", "--method", "static-depth+semi-structured")[1]
    assert [row["method"] for row in records(out)] == ["static-depth + semi-structured"]


def test_config_file_in_place_of_a_model(run, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(LLAMA))
    case = ("speedup", "--stack", "ideal", "--format", "json")
    own, named = (json.loads(run(*case, *which)[1]) for which in (("--config", str(file)), ("--model", "llama-3.1-8b")))
    assert [{**row, "model": ""} for row in own] == [{**row, "model": ""} for row in named]
    assert {row["model"] for row in own} == {tmp_path.name}
    assert run(*case, "--config", str(tmp_path))[0] == 0


def test_trace_lists_every_op(run):
    code, out, err = run(
        "trace", "--stack", "ideal", "--format", "csv", "--method", "dynamic-depth", "--phase", "decode"
    )
    assert (code, err) == (0, "")
    rows = {row["name"]: row for row in records(out)}
    assert {"q", "attention", "lm_head", "router_mlp_a"} <= set(rows)
    assert rows["up"]["kernel"] == "token_gemm"
    assert sum(float(row["share"]) for row in rows.values()) == pytest.approx(1.0)
    assert run("trace", "--stack", "ideal")[0] == 0
    assert json.loads(run("trace", "--stack", "ideal", "--format", "json")[1])


@pytest.mark.parametrize(
    ("command", "key", "name"),
    [("hardware", "name", "h100-sxm"), ("models", "name", "llama-3.1-8b"), ("methods", "method", "low-rank"),
     ("stacks", "stack", "vendor")],
)  # fmt: skip
def test_lists_show_the_names_to_use(run, command, key, name):
    code, out, err = run(command, "--format", "csv")
    assert (code, err) == (0, "")
    assert name in [row[key] for row in records(out)]
    assert name in run(command)[1]
    assert name in [row[key] for row in json.loads(run(command, "--format", "json")[1])]


def test_one_profile_and_one_model(run):
    shown = run("hardware", "NVIDIA L40S")[1]
    assert shown.startswith("name")
    assert "864 GB/s" in shown
    figures = {row["figure"]: row for row in records(run("hardware", "l40s", "--format", "csv")[1])}
    assert float(figures["memory_bandwidth"]["value"]) == 864e9
    assert all(figures[name]["source"] for name in ("sm_count", "peak.bf16", "memory_size"))
    assert "8030261248" in run("models", "meta-llama/Llama-3.1-8B-Instruct")[1]


def test_two_of_four_above_half_is_left_out_with_a_note(run):
    for output in ("table", "csv", "json"):
        code, out, err = run("speedup", "--sparsity", "0.6", "--stack", "ideal", "--format", output)
        assert code == 0
        assert err == "note: semi-structured: left out, semi-structured removes at most 0.5\n"
        assert "semi-structured" not in out


def test_headroom_says_how_good_kernels_must_be(run):
    case = ("--method", "semi-structured", "--phase", "decode", "--target", "1.2,100", "--format", "json")
    low, high = json.loads(run("headroom", *case, "--stack", "ideal")[1])
    assert (low["target"], low["possible"]) == (1.2, "yes")
    assert 0 < low["efficiency [%]"] < 100
    assert (high["possible"], high["efficiency [%]"]) == ("no", None)
    assert low["estimated"] <= low["perfect changed"] <= low["bound"] + 1e-12


def test_break_even_says_who_wins(run):
    case = ("--stack", "ideal", "--format", "json", "--method")
    rows = json.loads(run("break-even", "sparsity", *case, "dynamic-depth,static-width")[1])
    found = {row["method"]: row for row in rows}
    assert 0 < found["dynamic-depth"]["at"][0] < 0.1
    assert found["dynamic-depth"]["wins"].startswith("from 0.0")
    assert "sparsity" not in rows[0]
    (row,) = json.loads(run("break-even", "batch", *case, "static-depth")[1])
    assert (row["wins"], row["at"], "batch" in row) == ("everywhere", [], False)
    (row,) = json.loads(run("break-even", "batch", *case, "static-depth", "--against", "static-depth")[1])
    assert row["wins"] == "nowhere (equal)"


def test_memory_and_the_largest_batch_are_arithmetic(run):
    # llama-3.1-8b: 8.03e9 weights of 2 B; 32 layers x 2 x 8 heads x 128 x 2 B of KV cache for each token.
    case = ("--gpu", "rtx-4090", "--context", "8k", "--batch", "64", "--method", "static-depth", "--format", "json")
    dense, pruned = json.loads(run("memory", *case)[1])
    weights, cache = 16.059990016, 32 * 2 * 8 * 128 * 2 * 8192 / 1e9
    assert dense["weights [GB]"] == pytest.approx(weights)
    assert dense["KV cache [GB]"] == pytest.approx(64 * cache)
    assert (dense["fits"], dense["largest batch"]) == (False, int((24 - weights) // cache))
    assert pruned["KV of a sequence [GB]"] == pytest.approx(cache / 2)


def test_gpus_are_compared_with_prices(run):
    case = ("--gpu", "h100-sxm,l40s", "--method", "static-width", "--stack", "ideal", "--phase", "decode")
    rows = json.loads(run("compare-hardware", *case, "--price", "L40S=1", "--format", "json")[1])
    assert [(row["gpu"], row["method"]) for row in rows] == [
        ("h100-sxm", "dense"), ("h100-sxm", "static-width"), ("l40s", "dense"), ("l40s", "static-width")
    ]  # fmt: skip
    dense = rows[2]
    assert dense["cost of 1M tokens"] == pytest.approx(1e6 / 3600 / dense["tokens/s"])
    assert rows[0]["cost of 1M tokens"] is None
    assert rows[0]["rank"] == 1


def test_a_calibration_is_used_wherever_a_stack_is(run, tmp_path):
    m, n = (axis.ravel() for axis in np.meshgrid([1, 64, 512, 4096, 16384], [1024, 2048, 4096, 8192, 14336]))
    slow = 2e6 * pis.gemm_latency(m, n, 4096, hardware="h100-sxm")
    lines = [f"NVIDIA H100 80GB HBM3,bf16,{a},{b},4096,{t}" for a, b, t in zip(m, n, slow, strict=True)]
    file, own = tmp_path / "slow.csv", tmp_path / "slow.toml"
    file.write_text("\n".join(["gpu,dtype,m,n,k,latency_us", *lines]))
    code, out, err = run("calibrate", "--timings", str(file), "--cache", "cold", "--out", str(own))
    assert (code, err) == (0, "")
    assert "gemm" in out
    assert "h100-sxm" in out
    toml = run("calibrate", "--timings", str(file), "--cache", "cold", "--out", "-")[1]
    assert toml == own.read_text()
    for command in ("speedup", "trace", "explain", "headroom", "memory", "break-even"):
        case = (command, "--method", "low-rank", "--calibration", str(own), "--format", "json")
        assert json.loads(run(*case)[1])[0]["stack"] == "vendor, own gemm", command
    dense = [
        json.loads(run("speedup", "--method", "low-rank", "--format", "json", *more)[1])[0]["dense [ms]"]
        for more in ((), ("--calibration", str(own)))
    ]
    assert dense[1] > 1.5 * dense[0]
    code, out, err = run("speedup", "--calibration", str(own), "--gpu", "l40s")
    assert (code, out) == (2, "")
    assert "is of h100-sxm; ask for it with --gpu h100-sxm" in err
    assert run("speedup", "--calibration", str(own), "--stack", "ideal")[0] == 2


def test_no_command_shows_the_help(run):
    code, out, err = run()
    assert (code, err) == (0, "")
    assert out.startswith("Usage")
    assert "compare-hardware" in out


DOCUMENTED = [
    line.removeprefix("pruninfersim ")
    for line in (Path(__file__).parents[1] / "docs" / "command-line.md").read_text("utf-8").splitlines()
    if line.startswith("pruninfersim ")
]


@pytest.mark.parametrize("line", DOCUMENTED)
def test_commands_of_the_documentation_work(run, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(*shlex.split(line))
    assert code == 0
    assert out


MISTAKES = {
    "unknown model": (["speedup", "--model", "lama-3.1-8b"], "Did you mean 'llama-3.1-8b'?"),
    "unknown gpu": (["speedup", "--gpu", "h100-smx"], "Did you mean 'h100-sxm'?"),
    "unknown method": (["speedup", "--method", "low-rnak"], "Did you mean 'low-rank'?"),
    "ambiguous gpu": (["speedup", "--gpu", "A100"], "a100-pcie-40gb, a100-pcie-80gb, a100-sxm-40gb, a100-sxm-80gb"),
    "paper misspelt": (["speedup", "--method", "SliceGTP"], "Did you mean 'SliceGPT'?"),
    "unknown stack": (["speedup", "--stack", "idael"], "Did you mean 'ideal'?"),
    "unknown phase": (["speedup", "--phase", "decoding"], "unknown phase"),
    "unknown phase of a trace": (["trace", "--phase", "decoding"], "unknown phase"),
    "unknown dtype": (["speedup", "--dtype", "bf61"], "Did you mean 'bf16'?"),
    "unknown format": (["speedup", "--format", "xml"], "xml"),
    "unknown option": (["speedup", "--gpus", "h100-sxm"], "--gpus"),
    "unknown command": (["speed"], "speed"),
    "endless batch": (["speedup", "--batch", "1e400"], "not a whole number"),
    "ratio that is none": (["speedup", "--method", "low-rank@half"], "'half' is not a fraction"),
    "ratio beyond the method": (["speedup", "--method", "semi-structured@0.75"], "0.5"),
    "a ratio per block of one for all": (["speedup", "--method", "static-width-cross@0.2/0.3"], "one ratio"),
    "port beyond all": (["explore", "--port", "70000"], "65535"),
    "sparsity of one": (["speedup", "--sparsity", "1"], "must be in [0, 1); got 1"),
    "negative sparsity": (["speedup", "--sparsity", "-0.5"], "got -0.5"),
    "sparsity nan": (["speedup", "--sparsity", "nan"], "got nan"),
    "sparsity of a word": (["speedup", "--sparsity", "half"], "--sparsity"),
    "sparsity in percent": (["speedup", "--sparsity", "50"], "Did you mean 50%?"),
    "thousands": (["speedup", "--context", "4,096"], "without separators"),
    "no method": (["speedup", "--method", ""], "--method needs a name"),
    "no gpu": (["speedup", "--gpu", ","], "--gpu needs a value"),
    "unknown axis": (["break-even", "heads"], "unknown axis"),
    "target of a word": (["headroom", "--target", "fast"], "'fast' is not a number"),
    "target of nothing": (["recommend"], "--target latency=20ms"),
    "target without a number": (["recommend", "--target", "latency"], "is not KIND=NUMBER"),
    "target in parsecs": (["recommend", "--target", "latency=3pc"], "'3pc' is not a number"),
    "unknown target": (["recommend", "--target", "laency=3"], "it is called latency here"),
    "target of a request": (["recommend", "--target", "ttft=20ms"], "give --new-tokens"),
    "price of nothing": (["compare-hardware", "--price", "l40s"], "is not GPU=PRICE"),
    "calibration of nothing": (["speedup", "--calibration", "no/such.toml"], "no/such.toml"),
    "export of several": (["export", "--batch", "1,2"], "one workload"),
    "export of several models": (["export", "--model", "llama-3.1-8b,qwen3-8b"], "one model on one GPU"),
    "export to a terminal": (["export", "--out", "-"], "not -"),
    "export of a picture": (["export", "--out", "step.png"], "ends in .csv, .parquet or .json"),
    "timeline in a table": (["export", "--what", "timeline", "--out", "step.csv"], "a timeline ends in .json"),
    "report of nothing": (["report", "--out", ""], "the name is empty"),
    "report in a folder": (["report", "--out", "."], "it is a folder"),
    "report nowhere": (["report", "--out", "no/such/page.html"], "there is no folder no/such"),
    "report to a name that no file can have": (["report", "--out", "9" * 500], "File name too long"),
    "budget of 8 what": (["measure", "--plan", "--budget", "8"], "Say which: 8s, 8m or 8h"),
    "2:4 above half": (["speedup", "--method", "semi-structured", "--sparsity", "0.6"], "[0, 0.5]"),
    "no tokens": (["speedup", "--context", "0"], "at least 1; got 0"),
    "negative batch": (["speedup", "--batch", "-4", "--phase", "decode"], "at least 1; got -4"),
    "fraction of a batch": (["speedup", "--batch", "1.5"], "--batch"),
    "missing precision": (["speedup", "--gpu", "a100-sxm-80gb", "--dtype", "fp8"], "no peak for 'fp8'"),
    "no sparse cores": (["speedup", "--gpu", "v100-sxm-32gb", "--dtype", "fp16", "--method", "semi-structured"], "2:4"),
    "calibration as a stack": (["speedup", "--stack", "cal.toml"], "give a calibration with --calibration cal.toml"),
    "no such config": (["speedup", "--config", "no/such/config.json"], "config.json"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_end_with_one_line_and_code_two(run, mistake):
    arguments, expected = MISTAKES[mistake]
    if arguments[0] in ("speedup", "trace", "report", "headroom", "break-even") and "--stack" not in arguments:
        arguments = [*arguments, "--stack", "ideal"]
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert expected in err
    assert err.startswith("pruninfersim: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")


@pytest.mark.parametrize(
    "text", ['{"model_type": "llama", "hidd', "[1]", "", '{"model_type": "opt"}', '{"hidden_size": 1}']
)
def test_broken_config_is_one_line(run, tmp_path, text):
    file = tmp_path / "config.json"
    file.write_text(text)
    code, out, err = run("speedup", "--stack", "ideal", "--config", str(file))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "config.json" in err


def test_the_installed_program_ends_the_same_way():
    """Outside this process: real exit code, nothing on standard output, no traceback."""
    command = [sys.executable, "-c", "from pruninfersim.cli import main; main()", "speedup", "--model", "nope"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("pruninfersim: unknown model 'nope'.")
    assert done.stderr.count("\n") == 1


def test_methods_with_ratios_of_their_own(run):
    """A ratio that is written beside the name is that of --sparsity; of attention and MLP, that of PerBlock."""
    case = ("speedup", "--stack", "ideal", "--phase", "decode", "--format", "json")
    alone = json.loads(run(*case, "--method", "static-width", "--sparsity", "0.3")[1])
    (beside,) = json.loads(run(*case, "--method", "static-width@30%", "--sparsity", "0.5,0.6")[1])
    assert {key: beside[key] for key in ("estimated", "sparsity", "method")} == {
        key: alone[0][key] for key in ("estimated", "sparsity", "method")
    }
    blocks = pis.pruning.StaticWidth(pis.pruning.PerBlock(attention=0.25, mlp=0.5))
    own = pis.speedup(
        model="llama-3.1-8b", hardware="h100-sxm", phase="decode", context=1024, stack="ideal", method=blocks
    )
    (found,) = json.loads(run(*case, "--method", "static-width@0.25/0.5")[1])
    assert found["estimated"] == own.estimated
    assert found["sparsity"] == pytest.approx(1 - 1 / own.claim, rel=1e-12)


@pytest.mark.parametrize("command", ["headroom", "memory", "trace", "explain", "break-even", "request", "capacity"])
def test_every_command_with_a_method_takes_its_ratio(run, command):
    where = () if command in ("request", "capacity") else ("--stack", "ideal")
    code, out, _ = run(command, *where, "--method", "static-depth@0.25+static-width@0.2/0.4", "--format", "json")
    assert code == 0
    assert "static-depth + static-width" in out
