"""The program itself, to which each file of commands adds its own."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    name="pruninfersim",
    help="How much faster can a pruned LLM get on a GPU, how much will real kernels deliver, and why not more?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help, which needs no import of rich
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if wanted:
        from pruninfersim import __version__

        typer.echo(f"pruninfersim {__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """How much faster can a pruned LLM get on a GPU, how much will real kernels deliver, and why not more?

    Names of GPUs, models and methods are read as nvidia-smi, Hugging Face and papers write them. Where an option says
    "list", give several values with commas, or the option several times. Notes go to standard error.
    """
