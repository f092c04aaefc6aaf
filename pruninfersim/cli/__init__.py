"""The program ``pruninfersim``: one file per group of commands."""

from __future__ import annotations

import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; bad input ends with one line on standard error and exit code 2.

    Nothing else is imported before this is running, so that Ctrl-C is one line from the start.
    """
    try:
        from pruninfersim.cli.run import run

        code = run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("pruninfersim: stopped", file=sys.stderr)
        code = 130
    except BrokenPipeError:  # the reader of a pipe has seen enough, as `head` does
        _forget_output()
        code = 141
    except OSError as error:  # of standard output: files of one's own are checked before the work
        _forget_output()
        print(f"pruninfersim: cannot write standard output: {error.strerror}", file=sys.stderr)
        code = 1
    sys.exit(code)


def _forget_output() -> None:
    """Leave nothing in the buffer of standard output that Python would try to write once more at its end."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):  # captured, by a test for instance
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
