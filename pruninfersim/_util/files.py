"""Writing files so that a reader sees the whole of one, or none of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from pruninfersim.errors import InvalidInputError


def atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place in one step.

    Nothing is left behind if `write` fails. Readers of Parquet directories skip names that begin with a dot.

    Raises
    ------
    OSError
        If the directory cannot be written to.

    >>> atomically(Path("note.txt"), lambda temporary: temporary.write_text("whole"))
    >>> Path("note.txt").read_text()
    'whole'
    """
    if path.exists() and not path.is_file():  # a device or a pipe is written to, never replaced
        write(path)
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """Write a file in one step and return its path.

    Raises
    ------
    InvalidInputError
        If the directory does not exist or cannot be written to.

    >>> write_text(Path("page.html"), "whole").read_text()
    'whole'
    """
    try:
        atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise InvalidInputError(
            f"cannot write {path}: {error.strerror}. Choose another file, in a directory that exists"
        ) from None
    return path
