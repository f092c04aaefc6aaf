"""Reading plain files, never without end; writing files so that a reader sees the whole of one, or none of it."""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from pruninfersim.errors import InvalidInputError

#: Largest file of settings, and largest table, that is read [B]: a thousand times what they take.
SETTINGS, TABLE = 2**24, 2**28


def read_bytes(path: str | Path, largest: int = SETTINGS) -> bytes:
    """Return the content of a plain file; of one whose name ends in .gz, what was compressed.

    Never waits, as for the writer of a pipe, and never reads without end, as from a device.

    Raises
    ------
    OSError
        If the file cannot be read, is no plain file, or is larger than `largest` [B].

    >>> _ = Path("note.txt").write_text("whole")
    >>> read_bytes("note.txt")
    b'whole'
    """
    if "\0" in str(path):
        raise OSError(errno.EINVAL, "its name holds a null character")
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is a device or a pipe, not a plain file")
        if str(path).endswith(".gz"):
            with gzip.open(file) as packed:
                content = packed.read(largest + 1)
        else:
            content = file.read(largest + 1)
    if len(content) > largest:
        raise OSError(errno.EFBIG, f"it is larger than {largest / 2**20:g} MiB")
    return content


def read_text(path: str | Path, largest: int = SETTINGS) -> str:
    """Return the text of a plain file, without the mark that some editors put first; errors as `read_bytes`.

    Raises
    ------
    UnicodeDecodeError
        If it is not UTF-8.
    """
    return read_bytes(path, largest).decode("utf-8-sig")


def atomically(path: Path, write: Callable[[Path], object], *, replace: bool = True) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place in one step.

    With `replace` False a file that is there already stays, and FileExistsError says so. Nothing is left behind if
    `write` fails. Readers of Parquet directories skip names that begin with a dot.

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
    temporary = _beside(path)
    try:
        write(temporary)
        if replace:
            os.replace(temporary, path)
        else:
            try:
                os.link(temporary, path)  # which, unlike a renaming, fails where there is one
            except FileExistsError:
                raise
            except OSError:  # of a file system without links
                os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_text(path: Path, text: str, *, make_folder: bool = False) -> Path:
    """Write a file in one step and return its path.

    Raises
    ------
    InvalidInputError
        If it cannot be written: the directory does not exist (and is not to be made), the disk is full, and so on.

    >>> write_text(Path("page.html"), "whole").read_text()
    'whole'
    """
    with _one_line(path):
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        atomically(path, lambda temporary: temporary.write_bytes(text.encode("utf-8", "replace")))
    return path


def check_place(path: Path) -> None:
    """Say at once what `write_text` would say, before a page is worked out that takes seconds.

    Raises
    ------
    InvalidInputError
        If the directory does not exist or takes no file.

    >>> check_place(Path("page.html"))
    """
    with _one_line(path):
        if path.is_file() or not path.exists():
            temporary = _beside(path)
            temporary.touch()
            temporary.unlink()


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name[:200]}.{secrets.token_hex(6)}.tmp")


@contextlib.contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Raise InvalidInputError where a file cannot be written."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidInputError(
            f"cannot write {path}: {reason}. Choose another file, in a directory that exists"
        ) from None
