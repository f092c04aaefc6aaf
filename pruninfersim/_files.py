"""Writing files so that a reader sees the whole of one, or none of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


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
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
