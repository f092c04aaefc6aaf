"""One run of the program: all commands, and how what goes wrong is told."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import typer

from pruninfersim.cli import (  # noqa: F401  # each adds its commands
    explore,
    export,
    gpus,
    lists,
    ops,
    pages,
    recommend,
    serving,
    speedups,
    timings,
)
from pruninfersim.cli.program import app
from pruninfersim.cli.words import shell_words
from pruninfersim.errors import LONGEST, NameWarning, ProvenanceWarning, PruninfersimError, one_line

#: Exit code of a program that was stopped by Ctrl-C.
STOPPED = 130


def run() -> int:
    """Run the command that the arguments name, and return the exit code."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", NameWarning)
        warnings.simplefilter("ignore", ProvenanceWarning)  # the notes of each result say the same
        warnings.showwarning = _note  # type: ignore[assignment]
        try:
            code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
            if code == STOPPED:  # which is what typer makes of Ctrl-C
                raise KeyboardInterrupt
        except PruninfersimError as error:
            return _complain(str(error))
        except typer.TyperException as error:
            return _complain(error.format_message())
        except typer.Abort:
            raise KeyboardInterrupt from None
    return code if isinstance(code, int) else 0


def _note(message: Any, *_: Any) -> None:
    """Show a warning as the notes of results are shown."""
    print("note:", shell_words(str(message)), file=sys.stderr)


def _complain(message: str) -> int:
    """Print one line on standard error, and return the exit code of bad input."""
    if message:  # empty where the help was shown already
        print("pruninfersim:", shell_words(one_line(message, LONGEST)), file=sys.stderr)
    return 2
