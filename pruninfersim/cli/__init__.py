"""The program ``pruninfersim``: one file per group of commands."""

from __future__ import annotations

import sys

import typer

from pruninfersim.cli import lists, pages, serving, speedups, timings  # noqa: F401  # each adds its commands, in this order
from pruninfersim.cli.program import app
from pruninfersim.errors import PruninfersimError

__all__ = ["main"]


def main() -> None:
    """Run the command line; bad input ends with one line on standard error and exit code 2."""
    try:
        code = app(standalone_mode=False)
    except PruninfersimError as error:
        code = _complain(str(error))
    except typer.TyperException as error:
        code = _complain(error.format_message())
    except typer.Abort:
        code = 130
    sys.exit(code if isinstance(code, int) else 0)


def _complain(message: str) -> int:
    """Print one line on standard error, and return the exit code of bad input."""
    if message:  # empty where the help was shown already
        print("pruninfersim:", " ".join(message.split()), file=sys.stderr)
    return 2
