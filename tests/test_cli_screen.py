"""What a terminal shows: no name is cut at 80 columns, pipes are not cut at all, and files fail in one line."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import pruninfersim as pis
from pruninfersim._util.table import fitting, listing, printable, table
from pruninfersim.cli.words import shell_words

PROGRAM = [sys.executable, "-m", "pruninfersim"]
#: Command -> names that have to be on its screen whole.
SCREENS = {
    ("speedup",): pis.pruning.names(),
    ("speedup", "--gpu", "rtx-pro-6000-workstation,l40s", "--phase", "both", "--batch", "1,8"): [
        "rtx-pro-6000-workstation", *pis.pruning.names()
    ],
    ("headroom", "--phase", "decode"): pis.pruning.names(),
    ("break-even", "batch"): pis.pruning.names(),
    ("compare-hardware", "--gpu", "rtx-pro-6000-workstation,rtx-pro-6000-server", "--price", "rtx-pro-6000-server=1"): [
        "rtx-pro-6000-workstation", "rtx-pro-6000-server", *pis.pruning.names()
    ],
    ("recommend", "--gpu", "rtx-pro-6000-workstation,l40s", "--target", "speedup=1.3", "--max-loss", "20"): [
        "rtx-pro-6000-workstation", *pis.pruning.names()
    ],
    ("memory", "--model", "llama-3.1-405b,gemma-3-27b", "--gpu", "rtx-pro-6000-workstation"): [
        "llama-3.1-405b", *pis.pruning.names()
    ],
    ("trace", "--method", "dynamic-depth"): ["embedding", "attention", "up", "router_mlp_a", "lm_head"],
    ("explain", "--method", "low-rank"): ["claim", "not pruned", "tiles and waves", "launches"],
    ("hardware",): pis.hardware.names(),
    ("models",): pis.models.names(),
    ("methods",): pis.pruning.names(),
    ("stacks",): pis.stacks.names(),
}  # fmt: skip


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("command", SCREENS, ids=" ".join)
def test_no_name_is_cut_and_no_line_is_too_long(command, width, monkeypatch, capsys):
    from pruninfersim import cli

    monkeypatch.setenv("COLUMNS", str(width))
    stack = ["--stack", "ideal"] if "--" in str(command) else []
    monkeypatch.setattr(sys, "argv", ["pruninfersim", *command, *stack])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert not caught.value.code
    screen = capsys.readouterr().out
    assert "…" not in screen
    assert max(map(len, screen.splitlines())) <= width
    for name in SCREENS[command]:
        assert re.search(rf"(^|\s){re.escape(name)}(\s|,|:|$)", screen, re.M), name


def test_a_narrow_table_has_fewer_columns_and_a_narrower_one_stands_upright():
    rows = [{"method": "static-width-cross", "estimated": 1.5, "high": 2.25}]
    assert fitting(rows, 40, ["high"]) == ["method", "estimated", "high"]
    assert fitting(rows, 30, ["high"]) == ["method", "estimated"]
    assert table(rows, 24).splitlines() == ["method     static-width-cross", "estimated  1.5", "high       2.25"]


def test_numbers_of_a_column_share_their_decimals_and_none_is_minus_zero():
    rows = [{"x": 194.2, "y": -1e-9, "z": 24.0, "n": None}, {"x": 44.24, "y": 1.0, "z": 8.0, "n": float("nan")}]
    cells = [line.split() for line in table(rows, None).splitlines()[2:]]
    assert cells[0][:1] == ["194.2"]
    assert cells[1][:1] == ["44.2"]
    assert [row[2] for row in cells] == ["24", "8"]
    assert "-0" not in table([{"y": -0.001}, {"y": 1.5}], None)


def test_long_texts_are_wrapped_beside_their_names():
    lines = listing([("notes", "a b " * 20)], 40).splitlines()
    assert len(lines) == 3
    assert lines[1].startswith(" " * len("notes  ") + "b")


def test_a_terminal_without_the_characters_gets_others(monkeypatch):
    class Latin:
        encoding = "ascii"

    monkeypatch.setattr(sys, "stdout", Latin())
    assert printable("── µ") == "-- ?"


def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, env=env, **options)  # type: ignore[call-overload]


def test_a_pipe_is_as_wide_as_its_table():
    out = run("hardware").stdout
    for name in pis.hardware.names():
        assert re.search(rf"^{name} ", out, re.M)
    assert "2:4 bf16" in " ".join(out.split())[:400] or "2:4" in out


@pytest.mark.parametrize("arguments", [("--version",), ("-V",)])
def test_version(arguments):
    assert run(*arguments).stdout == f"pruninfersim {pis.__version__}\n"


@pytest.mark.parametrize("arguments", [("-h",), ("--help",), ("speedup", "-h")])
def test_help(arguments):
    done = run(*arguments)
    assert done.returncode == 0
    assert done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash, whose completion is asked for")
def test_completion_for_the_shell_that_asks():
    """Which shell that is, typer sees from the processes: tests may have been started without one."""
    shell = ["bash", "-c", '"$@"; exit $?', "bash", *PROGRAM, "--show-completion"]
    done = subprocess.run(shell, capture_output=True, text=True)
    assert done.returncode == 0
    assert "complete -o default" in done.stdout


def test_completion_knows_the_names():
    env = os.environ | {
        "_PRUNINFERSIM_COMPLETE": "complete_bash", "COMP_WORDS": "pruninfersim speedup --gpu l40", "COMP_CWORD": "3",
    }  # fmt: skip
    code = "import sys; sys.argv = ['pruninfersim']; from pruninfersim.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.stdout.split() == ["l40", "l40s"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("arguments", [("hardware",), ("report", "--stack", "ideal", "--out", "/dev/full")])
def test_a_full_disk_is_one_line(arguments):
    with open("/dev/full", "w") as full:
        env = os.environ | {"COLUMNS": "80"}
        done = subprocess.run([*PROGRAM, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, env=env)
    assert done.returncode in (1, 2)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("note:")]
    assert len(lines) == 1
    assert lines[0].startswith("pruninfersim: cannot write")
    assert Path("/dev/full").is_char_device()  # not replaced by a file


def test_a_reader_that_leaves_is_no_error():
    command = f"{sys.executable} -m pruninfersim hardware --format csv | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.stderr, done.stdout.count("\n")) == ("", 1)


@pytest.mark.parametrize("where", ["while the program is loaded", "in a command"])
def test_ctrl_c_is_one_line_from_the_start(where):
    # Whatever is imported, or read, takes half a minute here; the signal comes as soon as that has begun.
    slow = "typer" if where == "while the program is loaded" else "pruninfersim.hardware"
    # Tests that run in the background of a shell hand on that SIGINT is ignored.
    code = f"""
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == {slow!r}:
            print("begun", flush=True)
            time.sleep(600)
sys.meta_path.insert(0, Slow())
sys.argv = ["pruninfersim", "hardware"]
from pruninfersim.cli import main
main()
"""
    started = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    assert started.stdout.readline() == "begun\n"
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=600)
    assert (started.returncode, err) == (130, "pruninfersim: stopped\n")


def test_a_page_on_standard_output():
    done = run("report", "--stack", "ideal", "--method", "SparseGPT", "--phase", "decode", "--out", "-")
    assert done.returncode == 0
    assert done.stdout.lstrip().startswith("<!")
    assert not Path("-").exists()


def test_help_loads_nothing_heavy_and_a_speedup_no_pandas():
    code = "import sys; sys.argv = ['pruninfersim', *sys.argv[1:]]\nfrom pruninfersim.cli import main\ntry: main()\n"
    code += "except SystemExit: print('|', *sorted(name for name in sys.modules if '.' not in name))"

    def loaded(*arguments: str) -> set[str]:
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        return set(done.stdout.rpartition("|")[2].split())

    assert loaded("--help") & {"numpy", "pydantic", "pandas", "scipy", "plotly", "rich"} == set()
    assert loaded("speedup") & {"pandas", "scipy", "plotly", "rich"} == set()


def test_messages_have_no_words_of_python():
    assert shell_words("ratio may be biased; the list of ops shows which").endswith(
        "`pruninfersim trace` shows which ops"
    )
    assert shell_words("needs a sparsity, for instance sparsity=0.5") == "needs a sparsity, for instance --sparsity 0.5"
    assert shell_words("say which to fit, dtype=...") == "say which to fit, --dtype"


@pytest.mark.parametrize(
    "command",
    ["speedup", "headroom", "break-even batch", "compare-hardware", "memory", "trace", "explain --method low-rank",
     "report --out -", "request", "capacity"],
)  # fmt: skip
def test_every_stack_may_have_a_host_and_kernels_alone_have_none(command, monkeypatch, capsys):
    from pruninfersim import cli

    asked = ["pruninfersim", *command.split(), "--stack", "ideal", "--host", "slow"]
    monkeypatch.setattr(sys, "argv", asked)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    out, err = capsys.readouterr()
    assert (caught.value.code, out) == (2, "")
    assert "stack ideal has no host" in err
    assert "transformers" in err


def test_hosts_are_an_axis_and_a_slow_one_hides_a_narrower_mlp(monkeypatch, capsys):
    from pruninfersim import cli

    where = ["--model", "llama-3.2-1b", "--gpu", "l4", "--stack", "transformers", "--host", "slow,fast"]
    asked = ["--method", "static-width", "--phase", "decode", "--format", "csv"]
    monkeypatch.setattr(sys, "argv", ["pruninfersim", "speedup", *where, *asked])
    with pytest.raises(SystemExit):
        cli.main()
    slow, fast = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert slow["stack"] == "transformers on slow host"
    assert float(slow["estimated"]) == pytest.approx(1.0, abs=0.01)
    assert float(fast["estimated"]) > 1.3


def test_a_report_with_plotly_beside_it(monkeypatch, capsys, tmp_path):
    from pruninfersim import cli

    asked = ["report", "--plotlyjs", "directory", "--stack", "ideal", "--method", "low-rank", "--phase", "decode"]
    monkeypatch.setattr(sys, "argv", ["pruninfersim", *asked, "--out", str(tmp_path / "r.html")])
    with pytest.raises(SystemExit):
        cli.main()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plotly.min.js", "r.html"]
    assert 'src="plotly.min.js"' in (tmp_path / "r.html").read_text(encoding="utf-8").replace("'", '"')


def test_one_end_of_an_interval_takes_the_other_along():
    rows = [{"method": "low-rank", "estimated": 1.5, "low": 1.25, "high": 2.25}]
    assert fitting(rows, 40, ["low", "high"]) == ["method", "estimated", "low", "high"]
    assert fitting(rows, 30, ["low", "high"]) == ["method", "estimated"]


ASKED = {
    ("capacity", "--context", "8k"): "What fits at 8192 tokens per sequence",
    ("request", "--prompt", "2k", "--new-tokens", "64"): "Request of 2048 + 64 tokens",
    ("request", "--model", "llama-3.1-70b", "--tp", "4"): ", tp 4",
    ("recommend", "--target", "latency=5ms", "--max-loss", "12"): "latency at most 5 ms, quality loss at most 12 %: ",
}


@pytest.mark.parametrize("command", ASKED, ids=" ".join)
def test_the_title_says_the_whole_question(command, monkeypatch, capsys):
    from pruninfersim import cli

    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(sys, "argv", ["pruninfersim", *command])
    with pytest.raises(SystemExit):
        cli.main()
    screen = capsys.readouterr().out
    assert ASKED[command] in screen.partition("\n\n")[0]
    assert "e+0" not in screen  # tokens are counted, not measured


def test_a_percentage_is_suggested_where_it_can_be_one(monkeypatch, capsys):
    from pruninfersim import cli

    for given, said in {"50": "got 50. Did you mean 50%?\n", "150%": "got 1.5\n", "250": "got 250\n"}.items():
        monkeypatch.setattr(sys, "argv", ["pruninfersim", "speedup", "--sparsity", given])
        with pytest.raises(SystemExit):
            cli.main()
        assert capsys.readouterr().err.endswith(said)
