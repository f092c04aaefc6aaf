"""Command lines: every command, with options that it takes and some that it does not."""

from __future__ import annotations

import contextlib
import io
import random
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any
from unittest import mock

import typer

from pruninfersim.cli.program import app
from pruninfersim.cli.run import run
from validation.fuzz.judge import ANSWER, Verdict, judged, of_message

#: Too much work for an input, or a GPU that has to be there.
LEFT_OUT = {"explore", "measure", "reproduce-paper", "report"}
#: Option -> texts that some command takes.
SANE = {
    "--model": ("llama-3.2-1b", "llama-3.1-8b,llama-3.2-1b"), "--gpu": ("l40s", "h100-sxm,l40s"),
    "--method": ("low-rank", "static-width,low-rank", "all"), "--sparsity": ("0.5", "25%", "0.1,0.5"),
    "--phase": ("decode", "prefill", "both"), "--batch": ("1", "1,8"), "--context": ("64", "2k"),
    "--stack": ("ideal", "vendor", "vllm"), "--dtype": ("bf16", "fp8"), "--format": ("table", "json", "csv"),
    "--tp": ("1", "2"), "--ep": ("1",), "--axis": ("context", "batch"), "--target": ("1.2",), "--prompt": ("64",),
    "--new-tokens": ("8",), "--clients": ("2",), "--price": ("l40s=1.0",), "--cache": ("cold",),
}  # fmt: skip
HOSTILE = (
    "", "0", "-1", "nan", "inf", "-inf",
    "1e308", "1e999", "9" * 400, "9" * 5000, "x" * 5000, "a\nb", "../../etc/passwd",
    "/dev/zero", "/", "l40s\x1b[31m", "\U0001f999", ",", ",,", "a+b",
    "+", "50%%", "101%", "8kk", "0x10", "1_000", "True",
    "None", "--", "-h", "<b>", "{}", "[1]", "config.json",
    "x.toml", "/dev/null", "=", "l40s=", "=1", "l40s=nan", "1k,,2k",
    "all", "low-rank+low-rank", "1e6", "1e12", "999999999", "\udcff",
)  # fmt: skip


@cache
def program() -> Any:
    """Return the tree of commands."""
    return typer.main.get_command(app)


def line(chance: random.Random) -> list[str]:
    """Return a command line."""
    name = chance.choice(sorted(set(program().commands) - LEFT_OUT))
    words = [name]
    for parameter in program().commands[name].params:
        options = [option for option in parameter.opts if option.startswith("--")]
        if parameter.name in ("help",) or not options:
            continue
        known = next((SANE[option] for option in options if option in SANE), None)
        if known and chance.random() < 0.6:
            words += [options[0], chance.choice(known)]
    for _ in range(chance.choice((0, 1, 1, 2))):
        options = [option for parameter in program().commands[name].params for option in parameter.opts]
        words += [chance.choice(options)] if chance.random() < 0.9 else []
        words += [chance.choice(HOSTILE)] if chance.random() < 0.9 else []
    return words if chance.random() > 0.01 else words[1:]


def tried(words: list[str]) -> Verdict:
    """Return what comes of a command line."""
    out, err = io.StringIO(), io.StringIO()

    def ask() -> int:
        argv = mock.patch.object(sys, "argv", ["pruninfersim", *words])
        with argv, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            return run()

    verdict = judged(ask)
    if verdict.fault:
        return verdict
    said, notes = out.getvalue(), err.getvalue()
    code = 2 if "pruninfersim: " in notes and not said else 0
    if code == 2:
        lines = [text for text in notes.splitlines() if not text.startswith("note: ")]
        return of_message("\n".join(lines))
    if not said.strip():
        return Verdict("no answer", repr(notes[:80]))
    if any(word in said.replace(",", " ").replace(":", " ").split() for word in ("nan", "NaN", "inf", "Infinity")):
        return Verdict("wrong number", "prints nan or inf")
    return Verdict(ANSWER)


def inputs(chance: random.Random) -> Iterator[tuple[str, str, Callable[[], Verdict]]]:
    """Yield command, command line as text, and its run, without end."""
    while True:
        words = line(chance)
        yield words[0] if words else "", repr(words)[:400], partial(tried, words)
