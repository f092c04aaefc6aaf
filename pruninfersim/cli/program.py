"""The program itself, to which each file of commands adds its own."""

from __future__ import annotations

import typer

app = typer.Typer(
    name="pruninfersim",
    help="How much faster can a pruned LLM get on a GPU, how much will real kernels deliver, and why not more?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
