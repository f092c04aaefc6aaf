"""The command line: three formats that parse, and one line on standard error for every mistake."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import pytest
from cases import FAMILIES, STACKS

from pruninfersim import cli

LLAMA = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072,
}  # fmt: skip


@pytest.fixture
def run(monkeypatch, capsys):
    """Call the program inside this process: (exit code, standard output, standard error)."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pruninfersim", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        return caught.value.code or 0, out, err

    return call


def records(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_all_methods_in_one_table(run, phase, stack):
    code, out, err = run("speedup", "--method", "all", "--phase", phase, "--stack", stack, "--gpu", "rtx-pro-6000")
    assert (code, err) == (0, "")
    lines = [line for line in out.splitlines() if line.startswith("│")]
    assert [line.split("│")[1].strip() for line in lines] == list(FAMILIES)
    for word in ("estimated", "bound", "dense [ms]", "llama-3.1-8b on rtx-pro-6000", phase, stack):
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
    assert list(data) == list(FAMILIES)
    for row in table:
        assert data[row["method"]]["estimated"] == pytest.approx(float(row["estimated"]))


def test_one_method(run):
    code, out, _ = run("speedup", "--method", "low-rank", "--stack", "ideal", "--format", "json")
    assert code == 0
    assert list(json.loads(out)) == ["low-rank"]


def test_config_file_in_place_of_a_model(run, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(LLAMA))
    case = ("speedup", "--stack", "ideal", "--format", "csv")
    assert run(*case, "--config", str(file))[1] == run(*case, "--model", "llama-3.1-8b")[1]
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


@pytest.mark.parametrize(("command", "name"), [("hardware", "h100-sxm"), ("models", "llama-3.1-8b")])
def test_lists_show_the_names_to_use(run, command, name):
    code, out, err = run(command, "--format", "csv")
    assert (code, err) == (0, "")
    assert name in [row["name"] for row in records(out)]
    assert name in run(command)[1]
    assert name in [row["name"] for row in json.loads(run(command, "--format", "json")[1])]


def test_two_of_four_above_half_is_left_out_with_a_note(run):
    code, out, err = run("speedup", "--sparsity", "0.6", "--stack", "ideal")
    assert (code, err) == (0, "")
    assert "semi-structured: left out" in out


def test_no_command_shows_the_help(run):
    _, out, err = run()
    assert "Usage" in out + err
    assert "Traceback" not in out + err


MISTAKES = {
    "unknown model": (["speedup", "--model", "lama-3.1-8b"], "Did you mean 'llama-3.1-8b'?"),
    "unknown gpu": (["speedup", "--gpu", "h100-smx"], "Did you mean 'h100-sxm'?"),
    "unknown method": (["speedup", "--method", "low-rnak"], "Did you mean 'low-rank'?"),
    "unknown stack": (["speedup", "--stack", "idael"], "Did you mean 'ideal'?"),
    "unknown phase": (["speedup", "--phase", "decoding"], "unknown phase"),
    "unknown phase of a trace": (["trace", "--phase", "decoding"], "unknown phase"),
    "unknown dtype": (["speedup", "--dtype", "bf61"], "Did you mean 'bf16'?"),
    "unknown format": (["speedup", "--format", "xml"], "xml"),
    "unknown option": (["speedup", "--gpus", "h100-sxm"], "--gpus"),
    "unknown command": (["speed"], "speed"),
    "sparsity of one": (["speedup", "--sparsity", "1"], "must be in [0, 1); got 1"),
    "negative sparsity": (["speedup", "--sparsity", "-0.5"], "got -0.5"),
    "sparsity nan": (["speedup", "--sparsity", "nan"], "got nan"),
    "sparsity of a word": (["speedup", "--sparsity", "half"], "--sparsity"),
    "2:4 above half": (["speedup", "--method", "semi-structured", "--sparsity", "0.6"], "[0, 0.5]"),
    "no tokens": (["speedup", "--context", "0"], "at least 1; got 0"),
    "negative batch": (["speedup", "--batch", "-4", "--phase", "decode"], "at least 1; got -4"),
    "fraction of a batch": (["speedup", "--batch", "1.5"], "--batch"),
    "missing precision": (["speedup", "--gpu", "a100-sxm-80gb", "--dtype", "fp8"], "no peak for 'fp8'"),
    "no sparse cores": (["speedup", "--gpu", "v100-sxm-32gb", "--dtype", "fp16", "--method", "semi-structured"], "2:4"),
    "no such config": (["speedup", "--config", "no/such/config.json"], "config.json"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_end_with_one_line_and_code_two(run, mistake):
    arguments, expected = MISTAKES[mistake]
    if arguments[0] in ("speedup", "trace") and "--stack" not in arguments:
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
